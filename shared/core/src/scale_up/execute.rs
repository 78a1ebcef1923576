//! A batch of messages, one outcome each. Behaviour belongs in `plan`; this orders the steps and keeps one message's
//! fault from another's.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use futures_util::future::join_all;
use futures_util::stream;
use futures_util::{FutureExt, StreamExt};
use tracing::{info, warn};

use crate::config::{Mode, Policy};
use crate::error::PortError;
use crate::ids::{Access, FleetName, JobId, LaunchToken};
use crate::ledger::{self, InstanceRecord, JobRecord, LaunchRecord, Stored, Versioned};
use crate::ports::{Instance, Ledger};
use crate::time::{Deadline, Timestamp};

use super::admit::{Admission, confirm, postpone, record};
#[cfg(feature = "mutants")]
use super::broken;
use super::fulfil::{Attempt, fulfil, resume};
use super::offerings;
use super::plan::{self, JOBS_PER_LAUNCH_MAX, NO_ROOM_LOOK, Next};
use super::reserve::{self, Reserved, reserve};
use super::{
    Batch, CALLS_AT_ONCE, JobMessage, LaunchPorts, Outcome, QueueMessage, Selected, no_fleet, out_of_time, select,
    too_slow,
};

/// Launches of one owner in flight at once, so that one launch that stands still does not hold up the others.
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
    let batch = Batch::new(ports, policy, deadline);
    let parsed: Vec<(String, Option<JobMessage>)> =
        messages.into_iter().map(|message| (message.message_id, serde_json::from_str(&message.body).ok())).collect();
    #[cfg(feature = "mutants")]
    if let Some(outcomes) = broken::failed_whole(policy.mutant, &parsed) {
        return outcomes;
    }
    // The queue delivers at least once, and demand sends again: one job, one treatment, however many messages.
    let wanted: BTreeMap<JobId, &JobMessage> =
        parsed.iter().filter_map(|(_, job)| job.as_ref()).map(|job| (job.job_id, job)).collect();
    let outcomes: BTreeMap<JobId, Outcome> = serve(&batch, wanted.into_values()).await.into_iter().collect();
    let answers = parsed.into_iter().map(|(message_id, job)| (message_id, outcome_of(job.as_ref(), &outcomes)));
    #[cfg(feature = "mutants")]
    let answers = broken::answered(policy.mutant, answers.collect()).into_iter();
    answers.collect()
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

/// Each owner's messages on their own, all side by side: where one owner's GitHub hangs, the others' jobs neither wait
/// for it nor share its fate. A batch has few messages, so it has few owners.
async fn serve<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    messages: impl Iterator<Item = &JobMessage>,
) -> Vec<(JobId, Outcome)> {
    let mut owners: BTreeMap<String, Vec<&JobMessage>> = BTreeMap::new();
    for message in messages {
        owners.entry(message.repository.owner().to_ascii_lowercase()).or_default().push(message);
    }
    // Asked for by the first that needs it. It is begun before any reservation is read: what is launched from there on
    // is counted by its reservation.
    let listing = batch.ports.instances(&batch.policy.deployment).map(|listed| listed.map(Arc::from)).shared();
    let served = owners.into_values().map(|messages| serve_owner(batch, messages, listing.clone()));
    join_all(served).await.into_iter().flatten().collect()
}

/// The instances of the deployment, read once a batch.
type Listed = Result<Arc<[Instance]>, PortError>;

/// One owner's messages, cut before the deadline: what is under way then goes on under the same token when its message
/// returns.
async fn serve_owner<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    messages: Vec<&JobMessage>,
    listing: impl Future<Output = Listed>,
) -> Vec<(JobId, Outcome)> {
    let ids: Vec<JobId> = messages.iter().map(|message| message.job_id).collect();
    let limit = batch.deadline.last_call(batch.ports.now());
    let served = batch.within(limit, try_serve_owner(batch, messages, listing)).await;
    served.unwrap_or_else(|| ids.into_iter().map(|id| (id, out_of_time())).collect())
}

/// Parts of the time that is left, of which asking about one owner's jobs may take one. More, and a GitHub that is merely
/// slow answers for nothing; fewer, and one call that hangs leaves no time to launch for the others.
const ADMISSION_PARTS: u32 = 4;

async fn try_serve_owner<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    messages: Vec<&JobMessage>,
    listing: impl Future<Output = Listed>,
) -> Vec<(JobId, Outcome)> {
    if !batch.has_time() {
        return messages.into_iter().map(|message| (message.job_id, out_of_time())).collect();
    }
    let ids = messages.iter().map(|message| message.job_id.to_string());
    let stored = match ledger::load_all::<JobRecord>(batch.ports, ids).await {
        Ok(stored) => stored,
        Err(error) => {
            let failed = |message: &JobMessage| (message.job_id, Outcome::Failed(error.to_string()));
            return messages.into_iter().map(failed).collect();
        }
    };
    let recorded: Vec<(JobId, Admission)> = stream::iter(messages.into_iter().zip(stored))
        .map(|(message, (_, stored))| record(batch, message, stored))
        .buffer_unordered(CALLS_AT_ONCE)
        .collect()
        .await;
    let (mut outcomes, recorded) = parted(recorded);
    if recorded.is_empty() {
        return outcomes;
    }
    if batch.policy.mode == Mode::Retire {
        for (_, job) in recorded {
            let until = batch.ports.now().plus(boot_grace(batch, &job.record));
            outcomes.push(wait(batch.ports, &job.record, until).await);
        }
        return outcomes;
    }
    let listing = match listing.await {
        Ok(listing) => listing,
        Err(error) => {
            outcomes.extend(recorded.iter().map(|(_, job)| failed(&job.record, &error)));
            return outcomes;
        }
    };
    let recorded = within_room(batch, recorded, &listing, &mut outcomes).await;
    // From here on: what the ledger and EC2 took is not GitHub's.
    let begun_at = batch.ports.now();
    let share = batch.deadline.share(begun_at, ADMISSION_PARTS);
    let confirmed: Vec<(JobId, Admission)> = stream::iter(recorded)
        .map(async |(next, job)| {
            let job_id = job.record.job_id;
            let left = share.saturating_sub(batch.ports.now().since(begun_at));
            let confirmed = batch.within(left, confirm(batch, next, job)).await;
            confirmed.unwrap_or_else(|| (job_id, Admission::Done(too_slow())))
        })
        .buffer_unordered(CALLS_AT_ONCE)
        .collect()
        .await;
    let (done, admitted) = parted(confirmed);
    outcomes.extend(done);
    let work = sort(batch, admitted, &listing, &mut outcomes).await;
    let done: Vec<Vec<(JobId, Outcome)>> = stream::iter(work)
        .map(|work| carry_out(batch, work, &listing))
        .buffer_unordered(LAUNCHES_AT_ONCE)
        .collect()
        .await;
    outcomes.extend(done.into_iter().flatten());
    outcomes
}

type Admitted = (Next, Versioned<JobRecord>);

/// Who is done with, and who goes on.
fn parted(admissions: Vec<(JobId, Admission)>) -> (Vec<(JobId, Outcome)>, Vec<Admitted>) {
    let (mut outcomes, mut admitted) = (Vec::new(), Vec::new());
    for (job_id, admission) in admissions {
        match admission {
            Admission::Done(outcome) => outcomes.push((job_id, outcome)),
            Admission::Go(next, job) => admitted.push((next, *job)),
        }
    }
    (outcomes, admitted)
}

/// The jobs that their fleets have room for now, oldest first; the others wait, and GitHub is not asked about them: a
/// fleet that is full for hours must not eat the budget of its jobs. What is found here is a hint; whether there is room
/// is decided where it is reserved.
async fn within_room<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    mut recorded: Vec<Admitted>,
    listing: &[Instance],
    outcomes: &mut Vec<(JobId, Outcome)>,
) -> Vec<Admitted> {
    recorded.sort_by_key(|(_, job)| (job.record.queued_at, job.record.job_id));
    let mut rooms: BTreeMap<FleetName, usize> = BTreeMap::new();
    let (mut within, mut beyond) = (Vec::new(), Vec::new());
    for (next, job) in recorded {
        let fleet = job.record.fleet.as_ref().and_then(|name| batch.policy.fleet(name));
        let Some(fleet) = fleet.filter(|_| needs_room(&next)) else {
            within.push((next, job));
            continue;
        };
        let room = match rooms.entry(fleet.name.clone()) {
            Entry::Occupied(room) => room.into_mut(),
            Entry::Vacant(room) => match reserve::room(batch, fleet, listing).await {
                Ok(count) => room.insert(count),
                Err(error) => {
                    outcomes.push(failed(&job.record, &error));
                    continue;
                }
            },
        };
        match room.checked_sub(1) {
            Some(left) => {
                *room = left;
                within.push((next, job));
            }
            None => beyond.push(job.record),
        }
    }
    outcomes.extend(all_wait(batch, &beyond).await);
    within
}

/// Jobs that find no room now are looked at again soon.
async fn all_wait<P: LaunchPorts>(batch: &Batch<'_, P>, jobs: &[JobRecord]) -> Vec<(JobId, Outcome)> {
    let until = batch.ports.now().plus(NO_ROOM_LOOK);
    stream::iter(jobs).map(|job| wait(batch.ports, job, until)).buffer_unordered(CALLS_AT_ONCE).collect().await
}

/// Whether a job can only be served by another instance. What was launched for it already has its room.
fn needs_room(next: &Next) -> bool {
    match next {
        Next::Launch => true,
        Next::Resume(_) | Next::CheckServed(_) | Next::NotQueued | Next::InFlight => false,
    }
}

/// One thing to do, on its own.
enum Work<'p> {
    Resume(LaunchToken, Vec<JobId>),
    Launch(Group<'p>),
}

/// Jobs of one fleet that ask for the same beyond it, and whose runners register in one scope.
struct Group<'p> {
    selected: Selected<'p>,
    access: Access,
    jobs: Vec<Versioned<JobRecord>>,
}

impl Group<'_> {
    fn takes(&self, selected: &Selected<'_>, job: &JobRecord) -> bool {
        self.selected.fleet.name == selected.fleet.name
            && self.selected.overrides == selected.overrides
            && self.access.scope.agrees_with(&job.access.scope)
            && self.access.installation_id == job.access.installation_id
    }
}

/// Splits the jobs into launches to go on with and, by fleet and scope, launches to make; jobs that are served already
/// get their outcome.
async fn sort<'p, P: LaunchPorts>(
    batch: &Batch<'p, P>,
    admitted: Vec<Admitted>,
    listing: &[Instance],
    outcomes: &mut Vec<(JobId, Outcome)>,
) -> Vec<Work<'p>> {
    let mut resumes: BTreeMap<LaunchToken, Vec<JobId>> = BTreeMap::new();
    let mut launches: Vec<Group<'p>> = Vec::new();
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
        // By the labels on record, which the launch is made for.
        let selected = match select(batch.policy, &job.record.labels) {
            Ok(selected) => selected,
            Err(miss) => {
                outcomes.push((job.record.job_id, no_fleet(&miss.to_string())));
                continue;
            }
        };
        match launches.iter_mut().find(|group| group.takes(&selected, &job.record)) {
            Some(group) => group.jobs.push(job),
            None => launches.push(Group { selected, access: job.record.access.clone(), jobs: vec![job] }),
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

async fn carry_out<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    work: Work<'_>,
    listing: &[Instance],
) -> Vec<(JobId, Outcome)> {
    match work {
        Work::Resume(_, jobs) if !batch.has_time() => jobs.into_iter().map(|id| (id, out_of_time())).collect(),
        Work::Resume(token, jobs) => match resume(batch, &token, &jobs, listing).await {
            Ok(outcomes) => outcomes,
            Err(error) => jobs.into_iter().map(|id| (id, Outcome::Failed(error.to_string()))).collect(),
        },
        Work::Launch(group) => launch(batch, group, listing).await,
    }
}

/// Launches for as many jobs as there is room, one `CreateFleet` call for up to [`JOBS_PER_LAUNCH_MAX`].
async fn launch<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    Group { selected: Selected { fleet, overrides }, access, mut jobs }: Group<'_>,
    listing: &[Instance],
) -> Vec<(JobId, Outcome)> {
    let choice = offerings::choose(batch.ports, fleet, &overrides, batch.ports.now()).await;
    let mut outcomes = Vec::new();
    while !jobs.is_empty() {
        if !batch.has_time() {
            outcomes.extend(jobs.iter().map(|job| (job.record.job_id, out_of_time())));
            break;
        }
        let wanted = (&overrides, &choice);
        let reserved = reserve(batch, fleet, &access, wanted, jobs.clone(), listing).await;
        let Reserved { launch, left, changed } = match reserved {
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
            let beyond: Vec<JobRecord> = std::mem::take(&mut jobs).into_iter().map(|job| job.record).collect();
            outcomes.extend(all_wait(batch, &beyond).await);
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
