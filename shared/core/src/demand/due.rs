//! Jobs on record that are due for a look are sent to the queue again (design section 6). Whether a job still needs a
//! runner is not asked here: scale-up asks GitHub.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tracing::{info, warn};

use super::SENDS_AT_ONCE;
use crate::config::Policy;
use crate::error::PortError;
use crate::ids::{FleetName, JobId, Scope};
use crate::ledger::{self, JobRecord, Stored, Versioned};
use crate::ports::{Ledger, OpenPartition, Queue};
use crate::scale_up::{JobMessage, select_fleet};
use crate::time::{Clock, Deadline, Timestamp};

/// Jobs sent for one fleet in one pass. More, and a fleet that is full for long fills the queue with jobs that wait
/// again; fewer, and a burst that met a full fleet drains over many passes.
const SENT_PER_FLEET_MAX: usize = 50;

/// When a job is looked at again that could not be sent.
const SEND_AGAIN: Duration = Duration::from_secs(30);

/// What one pass did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SendReport {
    /// Jobs sent again.
    pub(crate) sent: BTreeSet<JobId>,
    /// What failed, in words; the jobs are due again soon.
    pub(crate) failures: Vec<String>,
    /// There was no time for some of them: they are due in the next pass.
    pub(crate) is_cut: bool,
}

/// Sends the jobs that are due, oldest look first: of the configured fleets, then of those that left the configuration.
/// A job that has waited longer than GitHub lets a job wait is given up; one that no fleet takes by now waits on.
///
/// # Guarantees
/// A job's next look moves ahead before it is sent, so that passes that overlap do not both send it; killed in between,
/// it is due again after the boot grace. One fleet's or job's failure does not stop the others.
pub(crate) async fn send_due_jobs(
    ports: &(impl Ledger + Queue + Clock),
    policy: &Policy,
    deadline: Deadline,
) -> SendReport {
    let mut report = SendReport::default();
    let mut fleets: Vec<FleetName> = policy.fleets.iter().map(|fleet| fleet.name.clone()).collect();
    match former_fleets(ports, policy).await {
        Ok(former) => fleets.extend(former),
        Err(error) => {
            warn!(error = %error, class = ?error.class, "could not list fleets that left the configuration: {error}");
            report.failures.push(error.to_string());
        }
    }
    for fleet in &fleets {
        if !deadline.allows_more(ports.now()) {
            report.is_cut = true;
            break;
        }
        if let Err(error) = send_for_fleet(ports, policy, fleet, deadline, &mut report).await {
            warn!(fleet = %fleet, error = %error, class = ?error.class, "could not list due jobs of {fleet}: {error}");
            report.failures.push(error.to_string());
        }
    }
    report
}

/// The fleets that have a record and are not configured.
async fn former_fleets(ledger: &impl Ledger, policy: &Policy) -> Result<Vec<FleetName>, PortError> {
    let known = ledger::fleet_names(ledger).await?;
    Ok(known.into_iter().filter(|name| policy.fleet(name).is_none()).collect())
}

async fn send_for_fleet(
    ports: &(impl Ledger + Queue + Clock),
    policy: &Policy,
    fleet: &FleetName,
    deadline: Deadline,
    report: &mut SendReport,
) -> Result<(), PortError> {
    let partition = OpenPartition::Jobs(fleet.clone());
    let due = ledger::open::<JobRecord>(ports, &partition, ports.now(), SENT_PER_FLEET_MAX).await?;
    let sends = due.records.into_iter().map(|job| async move {
        let job_id = job.record.job_id;
        if !deadline.allows_more(ports.now()) {
            return (job_id, Ok(Sent::NoTime));
        }
        (job_id, send(ports, policy, fleet, job_id).await)
    });
    let sent: Vec<_> = stream::iter(sends).buffered(SENDS_AT_ONCE).collect().await;
    for (job_id, sent) in sent {
        match sent {
            Ok(Sent::Yes) => {
                report.sent.insert(job_id);
            }
            Ok(Sent::NotDue) => {}
            Ok(Sent::NoTime) => report.is_cut = true,
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
    NoTime,
}

async fn send(
    ports: &(impl Ledger + Queue + Clock),
    policy: &Policy,
    fleet: &FleetName,
    job_id: JobId,
) -> Result<Sent, PortError> {
    let now = ports.now();
    let mut look = Look::NotDue;
    let id = job_id.to_string();
    let changed = ledger::update::<JobRecord>(ports, &id, |stored| match stored {
        Stored::Present(mut job) => {
            look = look_at(&mut job.record, policy, fleet, now);
            (look != Look::NotDue).then_some(job)
        }
        Stored::Absent | Stored::Foreign => {
            look = Look::NotDue;
            None
        }
    })
    .await?;
    let job = match (changed, look) {
        (Some(job), Look::Send) => job,
        (_, Look::Closed) => {
            info!(job_id = %job_id, fleet = %fleet, "job {job_id} is looked at no more: GitHub's time for it is over");
            return Ok(Sent::NotDue);
        }
        (_, Look::NoFleet) => {
            warn!(job_id = %job_id, fleet = %fleet, "job {job_id} of {fleet} waits, and no fleet takes it");
            return Ok(Sent::NotDue);
        }
        (_, Look::NotDue | Look::Send) => return Ok(Sent::NotDue),
    };
    if let Err(error) = ports.send(&message(&job.record), Duration::ZERO).await {
        back(ports, job, now.plus(SEND_AGAIN)).await;
        return Err(error);
    }
    info!(job_id = %job_id, fleet = %fleet, "sent job {job_id} again");
    Ok(Sent::Yes)
}

/// What a look at one job came to; its record is changed accordingly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// Somebody looked meanwhile.
    NotDue,
    /// GitHub's time for it is over.
    Closed,
    /// No fleet takes it: sent, it would only fail.
    NoFleet,
    /// To be sent.
    Send,
}

fn look_at(job: &mut JobRecord, policy: &Policy, fleet: &FleetName, now: Timestamp) -> Look {
    if job.next_look > now || job.given_up_at.is_some() {
        return Look::NotDue;
    }
    if !job.is_waiting() {
        // It started and its look has come: GitHub's limit for a job has passed, so it is over, whatever was lost.
        return if job.note_completed(now, None) { Look::Closed } else { Look::NotDue };
    }
    if job.fleet.as_ref() != Some(fleet) {
        return Look::NotDue;
    }
    if job.give_up(now) {
        return Look::Closed;
    }
    job.next_look = now.plus(policy.timers(fleet).boot_grace);
    let taken = policy.serves(&job.repository) && select_fleet(policy, &job.labels).is_some();
    if taken { Look::Send } else { Look::NoFleet }
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
        look_at: Some(job.next_look),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Class;
    use crate::fake::{Fake, at_every_call, fleet, policy, run};
    use crate::ids::{Access, FleetName, LaunchToken, Repository, RunId};
    use crate::ledger::{FleetRecord, JobPhase, Record};

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
            launches: Vec::new(),
            queued_at: now,
            runner_id: None,
            recorded_at: Some(now),
            given_up_at: None,
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
        let ids = [1, 2, 3].map(JobId);
        assert_eq!(report, SendReport { sent: ids.into(), ..SendReport::default() });
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
        assert_eq!(pass(&fake, &policy()).expect("not killed").sent.len(), SENT_PER_FLEET_MAX);
        let mut two = policy();
        two.fleets = vec![fleet("linux"), fleet("gpu")];
        let near = Deadline::of(fake.now().minus(Duration::from_mins(1)), fake.now().plus(Duration::from_secs(1)));
        let report = run(send_due_jobs(&fake, &two, near)).expect("not killed");
        assert_eq!((report.sent.len(), report.is_cut), (0, true));
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
        assert_eq!(pass(&fake, &policy()).expect("not killed").sent.len(), 2);
    }

    #[test]
    fn jobs_of_a_fleet_that_left_the_configuration_are_sent_once_another_takes_them() {
        let fake = Fake::new();
        let of_gone = |id| JobRecord { fleet: Some(FleetName::new("gone")), ..job(&fake, id, -1) };
        fake.put(&FleetRecord { fleet: FleetName::new("gone"), reservations: Vec::new() });
        fake.put(&of_gone(1));
        fake.put(&JobRecord { labels: vec!["gpu".into()], ..of_gone(2) });
        pass(&fake, &policy());
        assert_eq!(sent(&fake), [1], "the other is taken by no fleet");
        assert!(fake.get::<JobRecord>("2").expect("stored").next_look > fake.now(), "and waits on");
        let mut gpu = policy();
        gpu.fleets[0].labels = vec!["gpu".into()];
        fake.pass(Duration::from_secs(901));
        pass(&fake, &gpu);
        assert_eq!(sent(&fake), [1, 2]);
    }

    #[test]
    fn a_job_is_given_up_three_days_after_it_was_recorded_and_never_before() {
        let hours = Duration::from_hours;
        let token = || LaunchToken::new("t");
        for (case, recorded_hours_ago, phase, given_up) in [
            ("fresh", Some(0), JobPhase::Queued, false),
            ("just within its time", Some(71), JobPhase::Queued, false),
            ("past its time", Some(72), JobPhase::Queued, true),
            ("past its time, launched", Some(72), JobPhase::Launched { token: token() }, true),
            ("of an age that is not known", None, JobPhase::Queued, false),
        ] {
            let fake = Fake::new();
            let recorded_at = recorded_hours_ago.map(|ago| fake.now().minus(hours(ago)));
            fake.put(&JobRecord { recorded_at, phase: phase.clone(), ..job(&fake, 1, -1) });
            pass(&fake, &policy());
            let record = fake.get::<JobRecord>("1").expect("stored");
            assert_eq!((record.given_up_at.is_some(), sent(&fake).is_empty()), (given_up, given_up), "{case}");
            assert_eq!((record.may_be_anywhere(), record.open().is_none()), (!given_up, given_up), "{case}");
            assert_eq!(record.expires_at(), given_up.then(|| fake.now().plus(hours(7 * 24))), "{case}");
            assert_eq!(record.phase, phase, "{case}");
            fake.pass(hours(72));
            pass(&fake, &policy());
            assert!(fake.get::<JobRecord>("1").expect("stored").given_up_at.is_some(), "{case}, three days later");
        }
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
