//! Whether a message's job still needs a runner, by our record first and GitHub's word second. Launches nothing.

use crate::config::Fleet;
use crate::error::{Class, Classify, PortError};
use crate::ids::{Access, JobId, LaunchToken, RepositoryIds};
use crate::ledger::{self, JobPhase, JobRecord, Stored, Versioned};
use crate::ports::Ledger;
use crate::time::Timestamp;

use super::plan::{self, Demand, Next};
use super::reserve::ensure_fleet;
use super::{Batch, JobMessage, LaunchPorts, Outcome, no_fleet, out_of_time, select};

/// What to do for one message.
pub(super) enum Admission {
    /// Nothing more.
    Done(Outcome),
    /// As far as its record says, this: go on.
    Go(Next, Box<Versioned<JobRecord>>),
}

/// How often a job's first write is tried again when an event came in between.
const CONFLICTS_MAX: usize = 3;

/// Decides for one message by the job's record, as it was `stored` a moment ago. It is written before GitHub is asked: from
/// then on the job is found again even if the message is lost.
pub(super) async fn record<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    message: &JobMessage,
    stored: Stored<JobRecord>,
) -> (JobId, Admission) {
    (message.job_id, settled(try_record(batch, message, stored).await))
}

/// Asks GitHub whether the job is still queued.
pub(super) async fn confirm<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    next: Next,
    job: Versioned<JobRecord>,
) -> (JobId, Admission) {
    (job.record.job_id, settled(try_confirm(batch, next, job).await))
}

fn settled(admission: Result<Admission, PortError>) -> Admission {
    admission.unwrap_or_else(|error| Admission::Done(Outcome::Failed(error.to_string())))
}

/// Sets when a job that waits is looked at again, and under which fleet; its phase stays.
pub(super) async fn postpone(
    ledger: &impl Ledger,
    job: Versioned<JobRecord>,
    until: Timestamp,
) -> Result<(), PortError> {
    let phase = job.record.phase.clone();
    wait_in(ledger, job, phase, until).await
}

/// Leaves a job to the instances of a launch that was answered, until then.
pub(super) async fn leave_to(
    ledger: &impl Ledger,
    job: Versioned<JobRecord>,
    token: LaunchToken,
    until: Timestamp,
) -> Result<(), PortError> {
    wait_in(ledger, job, JobPhase::Launched { token }, until).await
}

/// Where somebody changed the job's phase meanwhile, it is theirs: they set when it is looked at again.
async fn wait_in(
    ledger: &impl Ledger,
    job: Versioned<JobRecord>,
    phase: JobPhase,
    until: Timestamp,
) -> Result<(), PortError> {
    let JobRecord { job_id, phase: seen, fleet, .. } = job.record.clone();
    let change = |stored: Stored<JobRecord>| match stored {
        Stored::Present(mut job) if job.record.phase == seen => {
            let record = &mut job.record;
            record.phase = phase.clone();
            record.next_look = until;
            record.fleet = fleet.clone().or_else(|| record.fleet.take());
            Some(job)
        }
        Stored::Present(_) | Stored::Absent | Stored::Foreign => None,
    };
    ledger::update_known(ledger, &job_id.to_string(), Stored::Present(job), change).await.map(drop)
}

async fn try_record<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    message: &JobMessage,
    stored: Stored<JobRecord>,
) -> Result<Admission, PortError> {
    if !batch.policy.still_serves(&message.repository, ids_of(message, &stored)) {
        return Ok(Admission::Done(no_fleet(&format!("{} is not served", message.repository))));
    }
    let now = batch.ports.now();
    let fleet = match select(batch.policy, &message.labels) {
        Ok(selected) => selected.fleet,
        Err(miss) => {
            let outcome = no_fleet(&miss.to_string());
            miss.record(message, now).note(batch.ports).await?;
            return Ok(Admission::Done(outcome));
        }
    };
    if !batch.has_time() {
        return Ok(Admission::Done(out_of_time()));
    }
    let job = find_or_create(batch, fleet, message, stored, now).await?;
    let mut next = plan::next(&job.record, now);
    let held = matches!(next, Next::InFlight | Next::CheckServed(_) | Next::LaunchAgain);
    if held && batch.policy.mutant.knows_deliveries_by_id_only() {
        next = Next::Launch;
    }
    Ok(match next {
        Next::NotQueued => Admission::Done(Outcome::NotQueued),
        Next::InFlight => Admission::Done(Outcome::Failed("a launch for it is in flight".to_owned())),
        Next::Resume(_) | Next::CheckServed(_) | Next::LaunchAgain | Next::Launch => Admission::Go(next, Box::new(job)),
    })
}

/// What the message says of its repository's ids, and for what it lacks what the record does.
pub(super) fn ids_of(message: &JobMessage, stored: &Stored<JobRecord>) -> RepositoryIds {
    match stored {
        Stored::Present(job) => message.ids.or(job.record.ids),
        Stored::Absent | Stored::Foreign => message.ids,
    }
}

async fn try_confirm<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    next: Next,
    mut job: Versioned<JobRecord>,
) -> Result<Admission, PortError> {
    let JobRecord { job_id, repository, access, .. } = &job.record;
    let (id, job_id) = (job_id.to_string(), *job_id);
    let reading = batch.ports.job(repository, access.installation_id, job_id).await;
    let now = batch.ports.now();
    let demand = match &reading {
        Err(_) if batch.policy.mutant.takes_an_error_for_not_queued() => Demand::Over,
        _ => plan::demand(&reading?),
    };
    // Given up: only GitHub's word opens it again, for a message sent before may still be on its way.
    if job.record.reopen(now) {
        job = ledger::store(batch.ports, job).await?;
    }
    let outcome = match demand {
        Demand::Queued => return Ok(Admission::Go(next, Box::new(job))),
        Demand::NotYet => {
            let fleet = job.record.fleet.as_ref();
            let until =
                now.plus(fleet.map_or(&batch.policy.orphan_timers, |fleet| batch.policy.timers(fleet)).boot_grace);
            postpone(batch.ports, job, until).await?;
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
    mut stored: Stored<JobRecord>,
    now: Timestamp,
) -> Result<Versioned<JobRecord>, PortError> {
    let access = plan::access_of(fleet, message);
    let call = format!("record job {}", message.job_id);
    for _ in 0..CONFLICTS_MAX {
        match stored {
            Stored::Present(mut job) => {
                if job.record.fleet.as_ref() != Some(&fleet.name) {
                    ensure_fleet(batch, fleet).await?;
                }
                refresh(&mut job.record, fleet, access);
                job.record.ids = message.ids.or(job.record.ids);
                return Ok(job);
            }
            Stored::Foreign => return Err(PortError::new(call, Class::Transient, "the record is of another schema")),
            Stored::Absent => {
                ensure_fleet(batch, fleet).await?;
                match ledger::store(batch.ports, Versioned::new(new_record(fleet, message, access.clone(), now))).await
                {
                    Ok(job) => return Ok(job),
                    Err(error) if error.class() == Class::Conflict => {}
                    Err(error) => return Err(error),
                }
            }
        }
        stored = ledger::load(batch.ports, message.job_id.to_string()).await?;
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
        launches: Vec::new(),
        queued_at: message.queued_at,
        runner_id: None,
        recorded_at: Some(now),
        given_up_at: None,
        ids: message.ids,
    }
}
