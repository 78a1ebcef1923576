//! A batch of messages, one outcome each. Behaviour belongs in `plan` and `aftermath`; this orders the steps and keeps
//! one message's fault from another's.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream;
use futures_util::{FutureExt, StreamExt};
use tracing::{info, warn};

use crate::config::{Mode, Policy};
use crate::error::PortError;
use crate::ids::{Access, FleetName, InstanceId, JobId, LaunchToken};
use crate::ledger::{self, InstanceRecord, JobRecord, LaunchLeave, LaunchRecord, Stored, Versioned};
use crate::ports::{Instance, Ledger};
use crate::time::{Deadline, Timestamp};

use super::admit::{Admission, confirm, ids_of, leave_to, postpone, record};
use super::aftermath;
#[cfg(feature = "mutants")]
use super::broken;
use super::fulfil::{Attempt, fulfil, resume};
use super::offerings;
use super::plan::{JOBS_PER_LAUNCH_MAX, NO_ROOM_LOOK, Next};
use super::registration;
use super::reserve::{Reserved, reserve};
use super::room::{self, own_instances};
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
    let mut all: Vec<&JobMessage> = parsed.iter().filter_map(|(_, job)| job.as_ref()).collect();
    all.sort_by_key(|job| job.look_at);
    let wanted: BTreeMap<JobId, &JobMessage> = all.into_iter().map(|job| (job.job_id, job)).collect();
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
    let listing = own_instances(batch.ports, batch.policy).map(|listed| listed.map(Arc::from)).shared();
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
    let left = left_to_later(batch, &messages, &stored);
    let mut outcomes = serve_stored(batch, messages, stored, listing).await;
    for (job_id, outcome) in &mut outcomes {
        if matches!(outcome, Outcome::Failed(_)) && left.contains(job_id) {
            info!(job_id = %job_id, "a later message is about job {job_id}: {outcome:?}");
            *outcome = Outcome::Waiting;
        }
    }
    outcomes
}

/// The jobs that wait on record and of whose messages a later one was sent, or is going to be: demand looks at them again
/// later than it left them to these. Kept as well, the messages of a job that cannot be served for hours would add up,
/// each of them asking GitHub in the middle of its outage.
fn left_to_later<P>(
    batch: &Batch<'_, P>,
    messages: &[&JobMessage],
    stored: &[(String, Stored<JobRecord>)],
) -> BTreeSet<JobId> {
    let is_left = |message: &JobMessage, stored: &Stored<JobRecord>| {
        let Stored::Present(Versioned { record, .. }) = stored else { return false };
        // Whom the configuration does not know, a person has to hear of.
        let is_served = batch.policy.still_serves(&message.repository, ids_of(message, stored));
        let known = is_served && select(batch.policy, &message.labels).is_ok();
        let first_look = record.recorded_at.map(|at| at.plus(boot_grace(batch, record)));
        // Demand sends again what waits for a fleet, and nothing else of what the index shows.
        let is_sent_again = record.is_waiting() && record.given_up_at.is_none() && record.fleet.is_some();
        known && is_sent_again && message.look_at.or(first_look).is_some_and(|look_at| record.next_look > look_at)
    };
    let both = messages.iter().zip(stored);
    both.filter(|(message, (_, stored))| is_left(message, stored)).map(|(message, _)| message.job_id).collect()
}

async fn serve_stored<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    messages: Vec<&JobMessage>,
    stored: Vec<(String, Stored<JobRecord>)>,
    listing: impl Future<Output = Listed>,
) -> Vec<(JobId, Outcome)> {
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
            outcomes.push(wait(batch.ports, job, until).await);
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
        let Some(fleet) = fleet.filter(|_| next.needs_room()) else {
            within.push((next, job));
            continue;
        };
        let room = match rooms.entry(fleet.name.clone()) {
            Entry::Occupied(room) => room.into_mut(),
            Entry::Vacant(room) => match room::room(batch.ports, fleet, listing).await {
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
            None => beyond.push(job),
        }
    }
    outcomes.extend(all_wait(batch, beyond, NO_ROOM_LOOK).await);
    within
}

/// Jobs that nothing is launched for now are looked at again after that.
async fn all_wait<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    jobs: Vec<Versioned<JobRecord>>,
    wait_for: Duration,
) -> Vec<(JobId, Outcome)> {
    let until = batch.ports.now().plus(wait_for);
    stream::iter(jobs).map(|job| wait(batch.ports, job, until)).buffer_unordered(CALLS_AT_ONCE).collect().await
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
    let served = served(batch, &admitted, listing).await;
    let mut left_alone = Vec::new();
    for (next, job) in admitted {
        match (next, &served) {
            (Next::Resume(token), _) => {
                resumes.entry(token).or_default().push(job.record.job_id);
                continue;
            }
            (Next::CheckServed(_) | Next::LaunchAgain, Err(error)) => {
                outcomes.push(failed(&job.record, error));
                continue;
            }
            (Next::CheckServed(_) | Next::LaunchAgain, Ok(served)) => {
                if let Some(served) = served.get(&job.record.job_id) {
                    left_alone.push((job, served));
                    continue;
                }
            }
            (Next::Launch | Next::NotQueued | Next::InFlight, _) => {}
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
    let left: Vec<(JobId, Outcome)> = stream::iter(left_alone)
        .map(async |(job, Served { by, until })| {
            let job_id = job.record.job_id;
            match leave_to(batch.ports, job, by.clone(), *until).await {
                Ok(()) => (job_id, Outcome::AlreadyServed),
                Err(error) => (job_id, Outcome::Failed(error.to_string())),
            }
        })
        .buffer_unordered(CALLS_AT_ONCE)
        .collect()
        .await;
    outcomes.extend(left);
    let resumes = resumes.into_iter().map(|(token, jobs)| Work::Resume(token, jobs));
    resumes.chain(launches.into_iter().map(Work::Launch)).collect()
}

/// A launch that was answered, as far as jobs may count on it.
struct Answered {
    launch: LaunchRecord,
    /// How many of its instances are free.
    free: usize,
    /// Until when the last of them counts as serving a job.
    until: Timestamp,
}

/// What serves a job.
struct Served {
    /// The launch whose instance it is.
    by: LaunchToken,
    /// Until when that is believed.
    until: Timestamp,
}

/// The jobs that an instance of one of their launches still serves, for all of an owner's in three reads. A job that was
/// given an instance is served while any of that launch is free, for nobody knows which of them is going to take it; one
/// whose launches left it without, by an instance that no other job of such a launch needs.
///
/// Another invocation may leave the same instance to another job: one of the two then waits until demand sees that its
/// launch has nothing left.
///
/// The jobs are read after the instances. The other way round, a job that starts on one of them in between would both
/// need an instance and have taken one, and one too many would be launched.
async fn served<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    admitted: &[Admitted],
    listing: &[Instance],
) -> Result<BTreeMap<JobId, Served>, PortError> {
    let given = |next: &Next| match next {
        Next::CheckServed(token) => Some(Some(token.clone())),
        Next::LaunchAgain => Some(None),
        Next::Launch | Next::NotQueued | Next::InFlight | Next::Resume(_) => None,
    };
    let asked: Vec<(Option<LaunchToken>, &JobRecord)> =
        admitted.iter().filter_map(|(next, job)| Some((given(next)?, &job.record))).collect();
    let tokens = asked.iter().flat_map(|(given, job)| given.iter().chain(&job.launches)).collect();
    let launches = answered(batch, tokens, listing).await?;
    let (mut served, mut bereft) = (BTreeMap::new(), BTreeMap::new());
    for (given, job) in asked {
        match given.and_then(|token| launches.get(&token)) {
            Some(Answered { launch, until, .. }) => {
                served.insert(job.job_id, Served { by: launch.token.clone(), until: *until });
            }
            None => drop(bereft.insert(job.job_id, job)),
        }
    }
    // Runners of a fleet that takes the job no more do not take it either.
    let may_take = |job: &JobRecord, answered: &Answered| {
        job.launches.contains(&answered.launch.token) && job.fleet.as_ref() == Some(&answered.launch.fleet)
    };
    let wanted = |answered: &&Answered| bereft.values().any(|job| may_take(job, answered));
    let wanted: Vec<&Answered> = launches.values().filter(wanted).collect();
    let jobs = jobs_of(batch.ports, &wanted).await?;
    // Whoever has an instance of one launch needs none of another.
    let mut provided = BTreeSet::new();
    for answered in wanted {
        let Answered { launch, free, until } = answered;
        let others = jobs.iter().filter(|job| !provided.contains(&job.job_id));
        let shared_out = aftermath::shared_out(launch, *free, others, |job_id| bereft.contains_key(&job_id));
        provided.extend(shared_out.iter().copied());
        for job_id in shared_out {
            if bereft.get(&job_id).is_some_and(|job| may_take(job, answered)) {
                served.entry(job_id).or_insert_with(|| Served { by: launch.token.clone(), until: *until });
            }
        }
    }
    Ok(served)
}

/// Those of the launches that have a free instance.
async fn answered<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    tokens: BTreeSet<&LaunchToken>,
    listing: &[Instance],
) -> Result<BTreeMap<LaunchToken, Answered>, PortError> {
    if tokens.is_empty() {
        return Ok(BTreeMap::new());
    }
    let stored = ledger::load_all::<LaunchRecord>(batch.ports, tokens.into_iter().map(ToString::to_string)).await?;
    let launches: Vec<LaunchRecord> = stored
        .into_iter()
        .filter_map(|(_, stored)| match stored {
            Stored::Present(launch) => Some(launch.record),
            Stored::Absent | Stored::Foreign => None,
        })
        .collect();
    let ids = launches.iter().flat_map(|launch| launch.instance_ids.iter().flatten());
    let ids: BTreeSet<String> = ids.map(ToString::to_string).collect();
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let now = batch.ports.now();
    let mut free_until: BTreeMap<InstanceId, Timestamp> = BTreeMap::new();
    for (_, stored) in ledger::load_all::<InstanceRecord>(batch.ports, ids).await? {
        let Stored::Present(Versioned { record, .. }) = stored else { continue };
        let shown = listing.iter().find(|instance| instance.id == record.instance_id).map(|instance| instance.state);
        let shown = (shown, batch.begun_at);
        if let Some(until) = aftermath::serves_until(&record, shown, batch.policy.timers(&record.fleet), now) {
            free_until.insert(record.instance_id, until);
        }
    }
    let with_free = launches.into_iter().filter_map(|launch| {
        let own: Vec<Timestamp> =
            launch.instance_ids.iter().flatten().filter_map(|id| free_until.get(id).copied()).collect();
        let (free, until) = (own.len(), own.into_iter().max()?);
        Some((launch.token.clone(), Answered { launch, free, until }))
    });
    Ok(with_free.collect())
}

/// What the ledger says of all jobs of these launches.
async fn jobs_of(ledger: &impl Ledger, launches: &[&Answered]) -> Result<Vec<JobRecord>, PortError> {
    let ids: BTreeSet<JobId> = launches.iter().flat_map(|answered| answered.launch.job_ids.iter().copied()).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let stored = ledger::load_all::<JobRecord>(ledger, ids.iter().map(ToString::to_string)).await?;
    let known = stored.into_iter().filter_map(|(_, stored)| match stored {
        Stored::Present(job) => Some(job.record),
        Stored::Absent | Stored::Foreign => None,
    });
    Ok(known.collect())
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

/// Launches for as many jobs as there is room, one `CreateFleet` call for up to [`JOBS_PER_LAUNCH_MAX`]. Where GitHub
/// refused their registration, for none, or for the oldest alone to see whether it still does: the instance comes before
/// the registration, and each that is refused is paid for and takes others' room.
async fn launch<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    Group { selected: Selected { fleet, overrides }, access, mut jobs }: Group<'_>,
    listing: &[Instance],
) -> Vec<(JobId, Outcome)> {
    let mut outcomes = Vec::new();
    let leave = registration::leave(batch.ports, &fleet.name, &access.scope, batch.ports.now()).await;
    match leave {
        LaunchLeave::AsNeeded => {}
        LaunchLeave::OneToTry => {
            jobs.sort_by_key(|job| (job.record.queued_at, job.record.job_id));
            let others = jobs.split_off(1.min(jobs.len()));
            outcomes.extend(all_wait(batch, others, NO_ROOM_LOOK).await);
        }
        LaunchLeave::NotBefore(until) => return all_wait(batch, jobs, until.since(batch.ports.now())).await,
    }
    let choice = offerings::choose(batch.ports, fleet, &overrides, batch.ports.now()).await;
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
            if leave == LaunchLeave::OneToTry {
                registration::note_try(batch.ports, &fleet.name, &access.scope, batch.ports.now()).await;
            }
            let ids: Vec<JobId> = taken.iter().map(|job| job.record.job_id).collect();
            outcomes.extend(fulfil(batch, fleet, &launch.record, &ids, Attempt::First, listing).await);
        }
        jobs = left;
        if count < JOBS_PER_LAUNCH_MAX {
            outcomes.extend(all_wait(batch, std::mem::take(&mut jobs), NO_ROOM_LOOK).await);
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

async fn wait(ledger: &impl Ledger, job: Versioned<JobRecord>, until: Timestamp) -> (JobId, Outcome) {
    let job_id = job.record.job_id;
    match postpone(ledger, job, until).await {
        Ok(()) => (job_id, Outcome::Waiting),
        Err(error) => (job_id, Outcome::Failed(error.to_string())),
    }
}

fn boot_grace<P>(batch: &Batch<'_, P>, job: &JobRecord) -> std::time::Duration {
    job.fleet.as_ref().map_or(&batch.policy.orphan_timers, |fleet| batch.policy.timers(fleet)).boot_grace
}
