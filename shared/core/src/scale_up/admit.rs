//! Whether a message's job still needs a runner, by our record first and GitHub's word second. Launches nothing.

use crate::config::Fleet;
use crate::error::{Class, Classify, PortError};
use crate::ids::{Access, FleetName, JobId};
use crate::ledger::{self, JobPhase, JobRecord, Stored, Versioned};
use crate::ports::Ledger;
use crate::time::Timestamp;

use super::plan::{self, Demand, Next};
use super::reserve::ensure_fleet;
use super::{Batch, JobMessage, LaunchPorts, Outcome, no_fleet, out_of_time};

/// What to do for one message.
pub(super) enum Admission {
    /// Nothing more.
    Done(Outcome),
    /// GitHub says that it is queued: go on.
    Go(Next, Box<Versioned<JobRecord>>),
}

/// How often a job's first write is tried again when an event came in between.
const CONFLICTS_MAX: usize = 3;

/// Decides for one message. The job's record is written before GitHub is asked: from then on the job is found again
/// even if the message is lost.
pub(super) async fn admit<P: LaunchPorts>(batch: &Batch<'_, P>, message: &JobMessage) -> (JobId, Admission) {
    let admission = match try_admit(batch, message).await {
        Ok(admission) => admission,
        Err(error) => Admission::Done(Outcome::Failed(error.to_string())),
    };
    (message.job_id, admission)
}

/// Sets when a job that still waits is looked at again, and under which fleet; its phase stays.
pub(super) async fn postpone(
    ledger: &impl Ledger,
    job_id: JobId,
    fleet: Option<&FleetName>,
    until: Timestamp,
) -> Result<(), PortError> {
    let change = |stored| match stored {
        Stored::Present(mut job @ Versioned { .. }) => {
            let record: &mut JobRecord = &mut job.record;
            record.next_look = until;
            record.fleet = fleet.cloned().or_else(|| record.fleet.take());
            record.is_waiting().then_some(job)
        }
        Stored::Absent | Stored::Foreign => None,
    };
    ledger::update(ledger, &job_id.to_string(), change).await.map(drop)
}

async fn try_admit<P: LaunchPorts>(batch: &Batch<'_, P>, message: &JobMessage) -> Result<Admission, PortError> {
    let fleet = plan::select_fleet(batch.policy, &message.labels).filter(|_| batch.policy.serves(&message.repository));
    let Some(fleet) = fleet else { return Ok(Admission::Done(no_fleet())) };
    if !batch.has_time() {
        return Ok(Admission::Done(out_of_time()));
    }
    let now = batch.ports.now();
    let mut job = find_or_create(batch, fleet, message, now).await?;
    let next = plan::next(&job.record, now);
    match next {
        Next::NotQueued => return Ok(Admission::Done(Outcome::NotQueued)),
        Next::InFlight => return Ok(Admission::Done(Outcome::Failed("a launch for it is in flight".to_owned()))),
        Next::Resume(_) | Next::CheckServed(_) | Next::Launch => {}
    }
    let reading = batch.ports.job(&message.repository, message.installation_id, message.job_id).await?;
    // Given up: only GitHub's word opens it again, for a message sent before may still be on its way.
    if job.record.reopen(now) {
        job = ledger::store(batch.ports, job).await?;
    }
    let id = message.job_id.to_string();
    let outcome = match plan::demand(&reading) {
        Demand::Queued => return Ok(Admission::Go(next, Box::new(job))),
        Demand::NotYet => {
            postpone(batch.ports, message.job_id, Some(&fleet.name), now.plus(fleet.timers.boot_grace)).await?;
            // GitHub's time for a job that waits in the queue has not begun.
            note(batch.ports, &id, |job| job.note_not_yet_queued(now)).await?;
            Outcome::Waiting
        }
        Demand::Started => {
            // Not its runner: only the runner's own instance may take the job out of the re-check's sight.
            note(batch.ports, &id, |job| job.note_started(now, None)).await?;
            Outcome::NotQueued
        }
        Demand::Over => {
            note(batch.ports, &id, |job| job.note_completed(now, None)).await?;
            Outcome::NotQueued
        }
        Demand::Unclear => Outcome::Failed("GitHub gives it a status that is not known".to_owned()),
    };
    Ok(Admission::Done(outcome))
}

async fn note(ledger: &impl Ledger, id: &str, mut news: impl FnMut(&mut JobRecord) -> bool) -> Result<(), PortError> {
    let change = |stored| match stored {
        Stored::Present(mut job @ Versioned { .. }) => news(&mut job.record).then_some(job),
        Stored::Absent | Stored::Foreign => None,
    };
    ledger::update(ledger, id, change).await.map(drop)
}

async fn find_or_create<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    fleet: &Fleet,
    message: &JobMessage,
    now: Timestamp,
) -> Result<Versioned<JobRecord>, PortError> {
    let access = plan::access_of(fleet, message);
    let call = format!("record job {}", message.job_id);
    for _ in 0..CONFLICTS_MAX {
        match ledger::load::<JobRecord>(batch.ports, message.job_id.to_string()).await? {
            Stored::Present(mut job) => {
                if job.record.fleet.as_ref() != Some(&fleet.name) {
                    ensure_fleet(batch.ports, fleet).await?;
                }
                refresh(&mut job.record, fleet, access);
                return Ok(job);
            }
            Stored::Foreign => return Err(PortError::new(call, Class::Transient, "the record is of another schema")),
            Stored::Absent => {
                ensure_fleet(batch.ports, fleet).await?;
                match ledger::store(batch.ports, Versioned::new(new_record(fleet, message, access.clone(), now))).await
                {
                    Ok(job) => return Ok(job),
                    Err(error) if error.class() == Class::Conflict => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Err(PortError::new(call, Class::Conflict, "the record kept changing"))
}

/// A job that has yet to be launched for goes to the fleet that the configuration names now. Written with whatever is
/// written next.
fn refresh(job: &mut JobRecord, fleet: &Fleet, access: Access) {
    match job.phase {
        JobPhase::Queued | JobPhase::Launched { .. } => {
            let installation_id = access.installation_id.or(job.access.installation_id);
            job.access = Access { installation_id, ..access };
            job.fleet = Some(fleet.name.clone());
        }
        JobPhase::Launching { .. } | JobPhase::Started { .. } | JobPhase::Completed { .. } => {}
    }
}

fn new_record(fleet: &Fleet, message: &JobMessage, access: Access, now: Timestamp) -> JobRecord {
    JobRecord {
        job_id: message.job_id,
        access,
        repository: message.repository.clone(),
        run_id: message.run_id,
        run_attempt: message.run_attempt,
        labels: message.labels.clone(),
        fleet: Some(fleet.name.clone()),
        phase: JobPhase::Queued,
        next_look: now.plus(fleet.timers.boot_grace),
        launch_count: 0,
        queued_at: message.queued_at,
        runner_id: None,
        recorded_at: Some(now),
        given_up_at: None,
    }
}
