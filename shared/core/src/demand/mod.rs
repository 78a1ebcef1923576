//! Jobs that wait longer than they should are sent to the queue again (design section 7). Whether a job still needs a
//! runner is not asked here: scale-up asks GitHub.

use std::time::Duration;

use serde::Serialize;
use tracing::{info, warn};

use crate::config::{Fleet, Policy};
use crate::error::PortError;
use crate::ids::{JobId, Scope};
use crate::ledger::{self, JobRecord, Stored, Versioned};
use crate::ports::{Ledger, OpenPartition, Queue};
use crate::scale_up::JobMessage;
use crate::time::{Clock, Deadline, Timestamp};

/// Jobs sent for one fleet in one pass. More, and a fleet that is full for long fills the queue with jobs that wait
/// again; fewer, and a burst that met a full fleet drains over many passes.
const SENT_PER_FLEET_MAX: usize = 50;

/// When a job is looked at again that could not be sent.
const SEND_AGAIN: Duration = Duration::from_secs(30);

/// What one pass did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SendReport {
    /// Jobs sent again.
    pub sent_count: u32,
    /// What failed, in words; the jobs are due again soon.
    pub failures: Vec<String>,
    /// Fleets that the pass had no time for.
    pub fleets_left_count: u32,
}

/// Sends the jobs that are due, oldest look first.
///
/// # Guarantees
/// A job's next look moves ahead before it is sent, so that passes that overlap do not both send it; killed in between,
/// it is due again after the boot grace. One fleet's or job's failure does not stop the others.
pub async fn send_due_jobs(ports: &(impl Ledger + Queue + Clock), policy: &Policy, deadline: Deadline) -> SendReport {
    let mut report = SendReport::default();
    for fleet in &policy.fleets {
        if !deadline.allows_more(ports.now()) {
            report.fleets_left_count += 1;
            continue;
        }
        if let Err(error) = send_for_fleet(ports, fleet, deadline, &mut report).await {
            warn!(fleet = %fleet.name, error = %error, class = ?error.class, "could not list due jobs of {}: {error}", fleet.name);
            report.failures.push(error.to_string());
        }
    }
    report
}

async fn send_for_fleet(
    ports: &(impl Ledger + Queue + Clock),
    fleet: &Fleet,
    deadline: Deadline,
    report: &mut SendReport,
) -> Result<(), PortError> {
    let partition = OpenPartition::Jobs(fleet.name.clone());
    let due = ledger::open::<JobRecord>(ports, &partition, ports.now(), SENT_PER_FLEET_MAX).await?;
    for job in due.records {
        if !deadline.allows_more(ports.now()) {
            break;
        }
        let job_id = job.record.job_id;
        match send(ports, fleet, job_id).await {
            Ok(Sent::Yes) => report.sent_count += 1,
            Ok(Sent::NotDue) => {}
            Err(error) => {
                warn!(job_id = %job_id, error = %error, class = ?error.class, "could not send job {job_id} again: {error}");
                report.failures.push(error.to_string());
            }
        }
    }
    Ok(())
}

enum Sent {
    Yes,
    NotDue,
}

async fn send(ports: &(impl Ledger + Queue + Clock), fleet: &Fleet, job_id: JobId) -> Result<Sent, PortError> {
    let now = ports.now();
    let id = job_id.to_string();
    let pushed = ledger::update::<JobRecord>(ports, &id, |stored| match stored {
        // It started and its look has come: GitHub's limit for a job has passed, so it is over, whatever was lost.
        Stored::Present(mut job) if !job.record.is_waiting() && job.record.next_look <= now => {
            job.record.note_completed(now, None).then_some(job)
        }
        Stored::Present(mut job) if is_due(&job.record, fleet, now) => {
            job.record.next_look = now.plus(fleet.timers.boot_grace);
            Some(job)
        }
        Stored::Present(_) | Stored::Absent | Stored::Foreign => None,
    });
    let Some(job) = pushed.await?.filter(|job| job.record.is_waiting()) else { return Ok(Sent::NotDue) };
    if let Err(error) = ports.send(&message(&job.record), Duration::ZERO).await {
        back(ports, job, now.plus(SEND_AGAIN)).await;
        return Err(error);
    }
    info!(job_id = %job_id, fleet = %fleet.name, "sent job {job_id} again");
    Ok(Sent::Yes)
}

fn is_due(job: &JobRecord, fleet: &Fleet, now: Timestamp) -> bool {
    job.is_waiting() && job.fleet.as_ref() == Some(&fleet.name) && job.next_look <= now
}

/// Best effort: where it fails, the job is due again after the boot grace.
async fn back(ledger: &impl Ledger, mut job: Versioned<JobRecord>, next_look: Timestamp) {
    job.record.next_look = next_look;
    if let Err(error) = ledger::store(ledger, job).await {
        warn!(error = %error, "a job that was not sent is due again only after the boot grace: {error}");
    }
}

fn message(job: &JobRecord) -> JobMessage {
    JobMessage {
        job_id: job.job_id,
        run_id: job.run_id,
        run_attempt: job.run_attempt,
        repository: job.repository.clone(),
        organization: match &job.access.scope {
            Scope::Organization { owner } => Some(owner.clone()),
            Scope::Repository { .. } => None,
        },
        installation_id: job.access.installation_id,
        labels: job.labels.clone(),
        queued_at: job.queued_at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Class;
    use crate::fake::{Fake, at_every_call, fleet, policy, run};
    use crate::ids::{Access, FleetName, LaunchToken, Repository, RunId};
    use crate::ledger::JobPhase;

    fn job(fake: &Fake, id: u64, due_in_seconds: i64) -> JobRecord {
        let now = fake.now();
        JobRecord {
            job_id: JobId(id),
            access: Access { scope: Scope::Organization { owner: "octo".into() }, installation_id: None },
            repository: Repository::try_from("octo/hello".to_owned()).expect("a name"),
            run_id: RunId(1),
            run_attempt: 1,
            labels: vec!["self-hosted".into(), "linux".into()],
            fleet: Some(FleetName::new("linux")),
            phase: JobPhase::Queued,
            next_look: Timestamp(now.0 + due_in_seconds * 1_000),
            launch_count: 0,
            queued_at: now,
            runner_id: None,
        }
    }

    fn pass(fake: &Fake, policy: &Policy) -> Option<SendReport> {
        let deadline = Deadline::of(fake.now(), fake.now().plus(Duration::from_mins(1)));
        run(send_due_jobs(fake, policy, deadline))
    }

    fn sent(fake: &Fake) -> Vec<u64> {
        fake.state().queue.iter().map(|message| message.job_id.0).collect()
    }

    #[test]
    fn due_jobs_that_wait_are_sent_oldest_look_first_and_once() {
        let fake = Fake::new();
        let token = LaunchToken::new("t");
        let now = fake.now();
        let of = |id, due, change: fn(&mut JobRecord, LaunchToken, Timestamp)| {
            let mut record = job(&fake, id, due);
            change(&mut record, token.clone(), now);
            record
        };
        for record in [
            of(1, -10, |_, _, _| {}),
            of(2, -20, |job, token, _| job.phase = JobPhase::Launched { token }),
            of(3, -30, |job, token, now| job.phase = JobPhase::Launching { token, lease_until: now }),
            of(4, 1, |_, _, _| {}),
            of(5, -40, |job, _, at| job.phase = JobPhase::Started { at }),
            of(6, -40, |job, _, at| job.phase = JobPhase::Completed { at, conclusion: None }),
            of(7, -40, |job, _, _| job.fleet = Some(FleetName::new("elsewhere"))),
        ] {
            fake.put(&record);
        }
        let report = pass(&fake, &policy()).expect("not killed");
        assert_eq!(report, SendReport { sent_count: 3, ..SendReport::default() });
        assert_eq!(sent(&fake), [3, 2, 1]);
        pass(&fake, &policy());
        assert_eq!(sent(&fake).len(), 3, "their next look lies ahead");
        fake.pass(Duration::from_secs(901));
        pass(&fake, &policy());
        assert_eq!(sent(&fake).len(), 7, "again after the boot grace, and the fourth for the first time");
    }

    #[test]
    fn a_pass_is_bounded_by_count_and_by_time() {
        let fake = Fake::new();
        (0..60).for_each(|id| fake.put(&job(&fake, id, -1)));
        assert_eq!(pass(&fake, &policy()).expect("not killed").sent_count as usize, SENT_PER_FLEET_MAX);
        let mut two = policy();
        two.fleets = vec![fleet("linux"), fleet("gpu")];
        let near = Deadline::of(fake.now().minus(Duration::from_mins(1)), fake.now().plus(Duration::from_secs(1)));
        let report = run(send_due_jobs(&fake, &two, near)).expect("not killed");
        assert_eq!((report.sent_count, report.fleets_left_count), (0, 2));
    }

    #[test]
    fn a_job_that_could_not_be_sent_is_due_again_soon_and_stops_no_other() {
        let fake = Fake::new();
        fake.put(&job(&fake, 1, -1));
        fake.put(&job(&fake, 2, -1));
        fake.always_fail("Queue::send", Class::Transient);
        assert_eq!(pass(&fake, &policy()).expect("not killed").failures.len(), 2);
        fake.heal();
        fake.pass(Duration::from_secs(31));
        assert_eq!(pass(&fake, &policy()).expect("not killed").sent_count, 2);
    }

    #[test]
    fn a_pass_killed_anywhere_loses_no_job() {
        let played = at_every_call(|fake, at| {
            fake.put(&job(fake, 1, -1));
            pass(fake, &policy());
            fake.heal();
            fake.pass(Duration::from_secs(901));
            pass(fake, &policy());
            assert!(sent(fake).contains(&1), "{at:?}");
            let record = fake.get::<JobRecord>("1").expect("stored");
            assert!(record.is_waiting() && record.next_look > fake.now(), "{at:?}");
        });
        assert!(played >= 16, "{played}");
    }
}
