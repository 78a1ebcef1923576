//! A batch of messages, one outcome each. Behaviour belongs in `plan`; this orders the steps and keeps one message's
//! fault from another's.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use futures_util::stream;
use tracing::{info, warn};

use crate::config::{Fleet, Mode, Policy};
use crate::error::PortError;
use crate::ids::{Access, FleetName, JobId, LaunchToken};
use crate::ledger::{self, InstanceRecord, JobRecord, LaunchRecord, Stored, Versioned};
use crate::ports::{Instance, Ledger};
use crate::time::{Deadline, Timestamp};

use super::admit::{Admission, admit, postpone};
use super::fulfil::{Attempt, fulfil, resume};
use super::plan::{self, JOBS_PER_LAUNCH_MAX, NO_ROOM_LOOK, Next};
use super::reserve::{Reserved, reserve};
use super::{Batch, GITHUB_CALLS_AT_ONCE, JobMessage, LaunchPorts, Outcome, QueueMessage, no_fleet, out_of_time};

/// Launches in flight at once, so that one owner's slow GitHub does not hold up another's jobs.
const LAUNCHES_AT_ONCE: usize = 4;

/// Handles a batch.
///
/// # Guarantees
/// Every message gets exactly one outcome, in the order given. Killed at any await and run again, with any other batch
/// running at the same time: one launch token stands for one set of instances, a job ends launched, waiting or
/// acknowledged as not needed. The record of an instance whose launch nobody goes on with is the orphan-sweeper's to
/// rebuild.
///
/// # Assumptions
/// Messages come from our webhook alone (queue policy); a message whose outcome is `Failed` is delivered again.
pub async fn handle_batch<P: LaunchPorts>(
    ports: &P,
    policy: &Policy,
    messages: Vec<QueueMessage>,
    deadline: Deadline,
) -> Vec<(String, Outcome)> {
    let batch = Batch { ports, policy, deadline };
    let parsed: Vec<(String, Option<JobMessage>)> =
        messages.into_iter().map(|message| (message.message_id, serde_json::from_str(&message.body).ok())).collect();
    // The queue delivers at least once, and demand sends again: one job, one treatment, however many messages.
    let wanted: BTreeMap<JobId, &JobMessage> =
        parsed.iter().filter_map(|(_, job)| job.as_ref()).map(|job| (job.job_id, job)).collect();
    let outcomes: BTreeMap<JobId, Outcome> = serve(&batch, wanted.into_values().collect()).await.into_iter().collect();
    parsed.into_iter().map(|(message_id, job)| (message_id, outcome_of(job.as_ref(), &outcomes))).collect()
}

fn outcome_of(job: Option<&JobMessage>, outcomes: &BTreeMap<JobId, Outcome>) -> Outcome {
    let Some(job) = job else {
        warn!("a message that is no job goes to the dead-letter queue");
        return Outcome::Failed("not a job message".to_owned());
    };
    // Without an outcome it must come back: silence would acknowledge it.
    let outcome = outcomes.get(&job.job_id).cloned().unwrap_or_else(|| Outcome::Failed("no outcome".to_owned()));
    info!(job_id = %job.job_id, repository = %job.repository, outcome = ?outcome, "job {}: {outcome:?}", job.job_id);
    outcome
}

async fn serve<P: LaunchPorts>(batch: &Batch<'_, P>, messages: Vec<&JobMessage>) -> Vec<(JobId, Outcome)> {
    let admissions: Vec<(JobId, Admission)> = stream::iter(messages)
        .map(|message| admit(batch, message))
        .buffer_unordered(GITHUB_CALLS_AT_ONCE)
        .collect()
        .await;
    let (mut outcomes, mut admitted) = (Vec::new(), Vec::new());
    for (job_id, admission) in admissions {
        match admission {
            Admission::Done(outcome) => outcomes.push((job_id, outcome)),
            Admission::Go(next, job) => admitted.push((next, *job)),
        }
    }
    if admitted.is_empty() {
        return outcomes;
    }
    if batch.policy.mode == Mode::Retire {
        for (_, job) in admitted {
            let until = batch.ports.now().plus(boot_grace(batch, &job.record));
            outcomes.push(wait(batch.ports, &job.record, until).await);
        }
        return outcomes;
    }
    // Before any reservation is read: what is launched from here on is counted by its reservation.
    let listing = match batch.ports.instances(&batch.policy.deployment).await {
        Ok(listing) => listing,
        Err(error) => {
            outcomes.extend(admitted.iter().map(|(_, job)| failed(&job.record, &error)));
            return outcomes;
        }
    };
    let work = sort(batch, admitted, &listing, &mut outcomes).await;
    let done: Vec<Vec<(JobId, Outcome)>> = stream::iter(work)
        .map(|work| carry_out(batch, work, &listing))
        .buffer_unordered(LAUNCHES_AT_ONCE)
        .collect()
        .await;
    outcomes.extend(done.into_iter().flatten());
    outcomes
}

/// One thing to do, on its own.
enum Work {
    Resume(LaunchToken, Vec<JobId>),
    Launch(Group),
}

/// Jobs of one fleet whose runners register in one scope.
struct Group {
    fleet: FleetName,
    access: Access,
    jobs: Vec<Versioned<JobRecord>>,
}

impl Group {
    fn takes(&self, fleet: &FleetName, job: &JobRecord) -> bool {
        self.fleet == *fleet
            && self.access.scope.agrees_with(&job.access.scope)
            && self.access.installation_id == job.access.installation_id
    }
}

/// Splits the jobs into launches to go on with and, by fleet and scope, launches to make; jobs that are served already
/// get their outcome.
async fn sort<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    admitted: Vec<(Next, Versioned<JobRecord>)>,
    listing: &[Instance],
    outcomes: &mut Vec<(JobId, Outcome)>,
) -> Vec<Work> {
    let mut resumes: BTreeMap<LaunchToken, Vec<JobId>> = BTreeMap::new();
    let mut launches: Vec<Group> = Vec::new();
    for (next, job) in admitted {
        match next {
            Next::Resume(token) => {
                resumes.entry(token).or_default().push(job.record.job_id);
                continue;
            }
            Next::CheckServed(token) => match check_served(batch, &job.record, &token, listing).await {
                Ok(None) => {}
                Ok(Some(outcome)) => {
                    outcomes.push((job.record.job_id, outcome));
                    continue;
                }
                Err(error) => {
                    outcomes.push(failed(&job.record, &error));
                    continue;
                }
            },
            Next::Launch | Next::NotQueued | Next::InFlight => {}
        }
        let Some(fleet) = job.record.fleet.clone() else {
            outcomes.push((job.record.job_id, no_fleet()));
            continue;
        };
        match launches.iter_mut().find(|group| group.takes(&fleet, &job.record)) {
            Some(group) => group.jobs.push(job),
            None => launches.push(Group { fleet, access: job.record.access.clone(), jobs: vec![job] }),
        }
    }
    let resumes = resumes.into_iter().map(|(token, jobs)| Work::Resume(token, jobs));
    resumes.chain(launches.into_iter().map(Work::Launch)).collect()
}

/// Whether a job's completed launch still serves it.
async fn check_served<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    job: &JobRecord,
    token: &LaunchToken,
    listing: &[Instance],
) -> Result<Option<Outcome>, PortError> {
    let ids = match ledger::load::<LaunchRecord>(batch.ports, token.as_str()).await? {
        Stored::Present(launch) => launch.record.instance_ids.unwrap_or_default(),
        Stored::Absent | Stored::Foreign => Vec::new(),
    };
    let records = ledger::load_all::<InstanceRecord>(batch.ports, ids.iter().map(ToString::to_string)).await?;
    let now = batch.ports.now();
    let until = records.iter().filter_map(|(_, stored)| match stored {
        Stored::Present(record) => {
            let shown = listing.iter().find(|i| i.id == record.record.instance_id).map(|i| i.state);
            plan::serves_until(&record.record, shown, batch.policy.timers(&record.record.fleet), now)
        }
        Stored::Absent | Stored::Foreign => None,
    });
    let Some(until) = until.max() else { return Ok(None) };
    postpone(batch.ports, job.job_id, job.fleet.as_ref(), until).await?;
    Ok(Some(Outcome::AlreadyServed))
}

async fn carry_out<P: LaunchPorts>(batch: &Batch<'_, P>, work: Work, listing: &[Instance]) -> Vec<(JobId, Outcome)> {
    match work {
        Work::Resume(_, jobs) if !batch.has_time() => jobs.into_iter().map(|id| (id, out_of_time())).collect(),
        Work::Resume(token, jobs) => match resume(batch, &token, &jobs, listing).await {
            Ok(outcomes) => outcomes,
            Err(error) => jobs.into_iter().map(|id| (id, Outcome::Failed(error.to_string()))).collect(),
        },
        Work::Launch(Group { fleet, access, jobs }) => match batch.policy.fleet(&fleet) {
            Some(fleet) => launch(batch, fleet, &access, jobs, listing).await,
            None => jobs.into_iter().map(|job| (job.record.job_id, no_fleet())).collect(),
        },
    }
}

/// Launches for as many jobs as there is room, one `CreateFleet` call for up to [`JOBS_PER_LAUNCH_MAX`].
async fn launch<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    fleet: &Fleet,
    access: &Access,
    mut jobs: Vec<Versioned<JobRecord>>,
    listing: &[Instance],
) -> Vec<(JobId, Outcome)> {
    let mut outcomes = Vec::new();
    while !jobs.is_empty() {
        if !batch.has_time() {
            outcomes.extend(jobs.iter().map(|job| (job.record.job_id, out_of_time())));
            break;
        }
        let Reserved { launch, left, changed } = match reserve(batch, fleet, access, jobs.clone(), listing).await {
            Ok(reserved) => reserved,
            Err(error) => {
                outcomes.extend(jobs.iter().map(|job| failed(&job.record, &error)));
                break;
            }
        };
        outcomes.extend(changed.iter().map(|job| (job.job_id, outcome_of_changed(job))));
        let count = launch.as_ref().map_or(0, |(_, taken)| taken.len());
        if let Some((launch, taken)) = launch {
            let ids: Vec<JobId> = taken.iter().map(|job| job.record.job_id).collect();
            outcomes.extend(fulfil(batch, fleet, &launch.record, &ids, Attempt::First, listing).await);
        }
        jobs = left;
        if count < JOBS_PER_LAUNCH_MAX {
            let until = batch.ports.now().plus(NO_ROOM_LOOK);
            for job in std::mem::take(&mut jobs) {
                outcomes.push(wait(batch.ports, &job.record, until).await);
            }
        }
    }
    outcomes
}

fn outcome_of_changed(job: &JobRecord) -> Outcome {
    if job.is_waiting() { Outcome::Failed("another invocation holds it".to_owned()) } else { Outcome::NotQueued }
}

fn failed(job: &JobRecord, error: &PortError) -> (JobId, Outcome) {
    (job.job_id, Outcome::Failed(error.to_string()))
}

async fn wait(ledger: &impl Ledger, job: &JobRecord, until: Timestamp) -> (JobId, Outcome) {
    match postpone(ledger, job.job_id, job.fleet.as_ref(), until).await {
        Ok(()) => (job.job_id, Outcome::Waiting),
        Err(error) => failed(job, &error),
    }
}

fn boot_grace<P>(batch: &Batch<'_, P>, job: &JobRecord) -> std::time::Duration {
    job.fleet.as_ref().map_or(&batch.policy.orphan_timers, |fleet| batch.policy.timers(fleet)).boot_grace
}
