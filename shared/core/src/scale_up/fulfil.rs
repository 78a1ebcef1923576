//! A reserved launch to its end: the call, the instances' records, their configurations, the jobs' outcomes. The same
//! road for a launch just reserved and for one that a crashed process left behind.

use futures_util::StreamExt;
use futures_util::stream;
use tracing::{error, info, warn};

use crate::config::{Fleet, Timers};
use crate::error::{Class, Classify, PortError};
use crate::evidence::TEMPLATE_TAG;
use crate::ids::{InstanceId, JobId, LaunchToken};
use crate::ledger::{self, InstanceRecord, JobPhase, JobRecord, LaunchRecord, OrphanEvent, Stored, Versioned};
use crate::ports::{Instance, LaunchAnswer};
use crate::time::Timestamp;

use super::aftermath::{self, SHOWN_WITHIN, Settlement, Sight, Tally};
#[cfg(feature = "mutants")]
use super::broken;
use super::equip::{Equipped, equip};
use super::offerings;
use super::plan;
use super::registration::{self, Heard};
use super::reserve::{Held, ensure_fleet, hold, note_answer, note_refusal};
use super::{Batch, CALLS_AT_ONCE, LaunchPorts, Outcome, select_fleet};

/// How often a launch's call may have been made before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// Never.
    First,
    /// Possibly before.
    Repetition {
        /// So many of its instances belong to jobs that have them already.
        settled: usize,
        /// The last time, at the latest.
        called_at: Timestamp,
    },
}

/// Carries out a launch whose record, reservation and jobs are stored, with the lease held.
pub(super) async fn fulfil<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    fleet: &Fleet,
    launch: &LaunchRecord,
    jobs: &[JobId],
    attempt: Attempt,
    listing: &[Instance],
) -> Vec<(JobId, Outcome)> {
    let tally = match instances_of(batch, fleet, launch, attempt, listing).await {
        Ok(named) => equip_all(batch, fleet, launch, &named).await,
        Err(error) => {
            warn!(launch_token = %launch.token, error = %error, class = ?error.class, "launch stands still: {error}");
            Tally { retry: vec![error.to_string(); jobs.len()], ..Tally::default() }
        }
    };
    let settled = match attempt {
        Attempt::First => 0,
        Attempt::Repetition { settled, .. } => settled,
    };
    conclude_all(batch, &fleet.timers, &launch.token, jobs, aftermath::settle(jobs.len(), settled, tally)).await
}

/// Goes on with a launch that was left behind: takes the lease of all its jobs in one transaction, so that only one
/// process does. `asked` are those of its jobs that a message was about.
pub(super) async fn resume<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    token: &LaunchToken,
    asked: &[JobId],
    listing: &[Instance],
) -> Result<Vec<(JobId, Outcome)>, PortError> {
    let call = || format!("resume launch {token}");
    let mut launch = match ledger::load::<LaunchRecord>(batch.ports, token.as_str()).await? {
        Stored::Present(launch) => launch.record,
        // Jobs and launch are written in one transaction, so only a table restored in part looks like this: the
        // jobs are launched for anew, and whatever this launch had made is the orphan-sweeper's.
        Stored::Absent => return Ok(requeue(batch, &batch.policy.orphan_timers, token, asked).await),
        Stored::Foreign => return Err(PortError::new(call(), Class::Transient, "its record is of another schema")),
    };
    let now = batch.ports.now();
    let lease_until = now.plus(batch.policy.timers(&launch.fleet).launch_lease);
    let (mut mine, mut settled) = (Vec::new(), 0);
    let ids = launch.job_ids.iter().map(ToString::to_string);
    for (_, stored) in ledger::load_all::<JobRecord>(batch.ports, ids).await? {
        let Stored::Present(mut job) = stored else { continue };
        match &mut job.record.phase {
            JobPhase::Launching { token: own, lease_until: lease } if own == token => {
                if now < *lease {
                    return Err(PortError::new(call(), Class::Conflict, "another invocation holds it"));
                }
                *lease = lease_until;
                job.record.next_look = lease_until;
                mine.push(job);
            }
            JobPhase::Launched { token: own } if own == token => settled += 1,
            JobPhase::Queued
            | JobPhase::Launching { .. }
            | JobPhase::Launched { .. }
            | JobPhase::Started { .. }
            | JobPhase::Completed { .. } => {}
        }
    }
    for job in &mine {
        if let Some(fleet) = select_fleet(batch.policy, &job.record.labels) {
            ensure_fleet(batch, fleet).await?;
        }
    }
    mine.sort_by_key(|job| (job.record.queued_at, job.record.job_id));
    let writes: Vec<_> = mine.iter().map(Versioned::write).collect();
    if writes.is_empty() {
        return Ok(Vec::new());
    }
    batch.ports.write(&writes).await?;
    info!(launch_token = %token, job_count = mine.len(), "going on with a launch that was left behind");
    let jobs: Vec<JobId> = mine.iter().map(|job| job.record.job_id).collect();
    let Some(fleet) = batch.policy.fleet(&launch.fleet) else {
        // The fleet left the configuration: whatever was launched is surplus, and the jobs are another fleet's.
        return Ok(requeue(batch, &batch.policy.orphan_timers, token, &jobs).await);
    };
    let mut called_at = launch.at;
    if launch.instance_ids.is_none() {
        let held = hold(batch, fleet, &launch, listing).await?;
        if let Held::Room { called_at: last } = held {
            called_at = last;
        }
        // Repeated, it asks for as many as at first, or EC2 takes it for another request: too many where some of its jobs
        // run elsewhere by now, and never where the fleet has room for a part.
        let still_fits = held != Held::NoRoom && jobs.len() + settled >= launch.count as usize;
        if !still_fits {
            let Some(answered) = close(batch, fleet, &launch, called_at).await? else {
                let waits = vec![Settlement::LookAgain; jobs.len()];
                return Ok(conclude_all(batch, &fleet.timers, token, &jobs, waits).await);
            };
            launch = answered;
        }
    }
    Ok(fulfil(batch, fleet, &launch, &jobs, Attempt::Repetition { settled, called_at }, listing).await)
}

/// Takes what is shown of a launch for the answer to its call, where nobody heard one. The launch as it was answered;
/// `None` while not all of what the last call may have made is shown, and need not be yet.
async fn close<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    fleet: &Fleet,
    launch: &LaunchRecord,
    called_at: Timestamp,
) -> Result<Option<LaunchRecord>, PortError> {
    // Shown whole, there is nothing to wait for: its instances wait for their configurations until they end themselves.
    let shown = shown_of(batch, launch).await?;
    if shown.len() < launch.count as usize && batch.ports.now().since(called_at) < SHOWN_WITHIN {
        // Nothing was asked: the last call stays as old as it is, or nobody would ever have waited long enough.
        let _turn = batch.turn(&fleet.name).await;
        note_refusal(batch.ports, fleet, launch, called_at).await?;
        return Ok(None);
    }
    info!(launch_token = %launch.token, fleet = %launch.fleet, instance_count = shown.len(), "nobody asks for the launch any more: it made {}", shown.len());
    note(batch, fleet, launch, launch, shown).await.map(Some)
}

/// The instances of a launch that EC2 shows.
async fn shown_of<P: LaunchPorts>(batch: &Batch<'_, P>, launch: &LaunchRecord) -> Result<Vec<InstanceId>, PortError> {
    let mut shown = batch.ports.instances_of_launch(&launch.token).await?;
    // A tag alone, which anyone may write, makes no instance ours.
    shown.retain(|instance| instance.tags.get(TEMPLATE_TAG) == Some(&launch.template.id));
    Ok(shown.into_iter().map(|instance| instance.id).collect())
}

async fn requeue<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    timers: &Timers,
    token: &LaunchToken,
    jobs: &[JobId],
) -> Vec<(JobId, Outcome)> {
    let again = vec![Settlement::AgainSoon; jobs.len()];
    conclude_all(batch, timers, token, jobs, again).await
}

/// An instance that EC2's answer names.
pub(super) struct Named {
    id: InstanceId,
    sight: Sight,
    /// When EC2 launched it, or at the latest.
    launched_at: Timestamp,
}

/// The launch's instances: as answered before, or by the call, which may be a repetition. Those that are there, as far
/// as can be seen, have a record.
pub(super) async fn instances_of<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    fleet: &Fleet,
    launch: &LaunchRecord,
    attempt: Attempt,
    listing: &[Instance],
) -> Result<Vec<Named>, PortError> {
    let named = if launch.instance_ids.is_some() {
        look(batch, launch, listing).await?
    } else {
        look(batch, &call(batch, fleet, launch, attempt).await?, listing).await?
    };
    record_instances(batch, fleet, launch, &named).await?;
    Ok(named)
}

/// Looks for the instances of an answered launch. Where the batch's listing leaves a doubt, another is begun: the first
/// may be older than the answer, and an instance is given up only by a look of its own.
async fn look<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    launch: &LaunchRecord,
    listing: &[Instance],
) -> Result<Vec<Named>, PortError> {
    let sighted = |seen: &[&Instance], listed_at: Timestamp| -> Vec<Named> {
        let ids = launch.instance_ids.iter().flatten();
        let named = ids.map(|id| {
            let shown = seen.iter().find(|instance| instance.id == *id);
            Named {
                id: id.clone(),
                sight: aftermath::sight(launch, shown.map(|instance| instance.state), listed_at),
                launched_at: shown.map_or(launch.answered_at.unwrap_or(listed_at), |instance| instance.launched_at),
            }
        });
        named.collect()
    };
    let named = sighted(&listing.iter().collect::<Vec<_>>(), batch.ports.now());
    if named.iter().all(|named| matches!(named.sight, Sight::Shown(_) | Sight::Young)) {
        return Ok(named);
    }
    let listed_at = batch.ports.now();
    let shown = batch.ports.instances_of_launch(&launch.token).await?;
    let named = sighted(&shown.iter().chain(listing).collect::<Vec<_>>(), listed_at);
    for Named { id, .. } in named.iter().filter(|named| named.sight == Sight::Gone) {
        info!(instance_id = %id, launch_token = %launch.token, "{id} ended before its launch was gone on with");
    }
    Ok(named)
}

/// Makes the launch's call, and that of its next epoch where EC2 has nothing for the first; notes the answer. The launch
/// as it was answered.
async fn call<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    fleet: &Fleet,
    launch: &LaunchRecord,
    mut attempt: Attempt,
) -> Result<LaunchRecord, PortError> {
    let mut current = launch.clone();
    let ids = loop {
        match ask(batch, fleet, &current, attempt).await? {
            Answer::Instances(ids) => break ids,
            Answer::NoCapacity => {}
        }
        if current.fallback.is_none() {
            break Vec::new();
        }
        current = begin_next_epoch(batch, &current).await?;
        attempt = Attempt::First;
    };
    note(batch, fleet, launch, &current, ids).await
}

/// Notes the answer to the call that `current` stands for; its reservation was made for `launch`.
async fn note<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    fleet: &Fleet,
    launch: &LaunchRecord,
    current: &LaunchRecord,
    ids: Vec<InstanceId>,
) -> Result<LaunchRecord, PortError> {
    let now = batch.ports.now();
    let noted = ledger::update::<LaunchRecord>(batch.ports, current.token.as_str(), |stored| match stored {
        // An answer belongs to the epoch that was asked.
        Stored::Present(mut record) if record.record.epoch == current.epoch => {
            record.record.instance_ids = Some(ids.clone());
            record.record.answered_at = Some(now);
            Some(record)
        }
        Stored::Present(_) | Stored::Absent | Stored::Foreign => None,
    });
    let Some(answered) = noted.await? else {
        let call = format!("note the answer to launch {}", current.token);
        return Err(PortError::new(call, Class::Conflict, "another invocation went on with it"));
    };
    let _turn = batch.turn(&fleet.name).await;
    note_answer(batch.ports, fleet, launch, ids.len(), now).await?;
    Ok(answered.record)
}

/// A complete answer to a launch's call.
enum Answer {
    /// These, possibly none, and there is nothing more to try.
    Instances(Vec<InstanceId>),
    /// None, because there is nothing to be had.
    NoCapacity,
}

async fn ask<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    fleet: &Fleet,
    launch: &LaunchRecord,
    attempt: Attempt,
) -> Result<Answer, PortError> {
    let (token, epoch) = (&launch.token, launch.epoch);
    let request = plan::request(launch);
    #[cfg(feature = "mutants")]
    let request = broken::with_token(batch.policy.mutant, request, batch.ports.now());
    match batch.ports.create_fleet(&request).await {
        Ok(LaunchAnswer { instance_ids, errors }) => {
            let (count, asked) = (instance_ids.len(), launch.count);
            let why = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            info!(launch_token = %token, fleet = %launch.fleet, epoch, market = launch.market.as_str(), instance_count = count, errors = why, "launched {count} of {asked}: {why}");
            offerings::remember(batch.ports, launch, &errors, batch.ports.now()).await;
            let none = instance_ids.is_empty() && plan::is_out_of_capacity(&errors);
            Ok(if none { Answer::NoCapacity } else { Answer::Instances(instance_ids) })
        }
        Err(failure) => match failure.class() {
            // It may have taken effect, or may pass later: the same token again.
            Class::Transient | Class::Throttled { .. } | Class::OutcomeUnknown => Err(failure),
            // A refusal launches nothing, unless it refuses only this repetition of a call that did: a limit may be
            // reached by the very instances that the first one made.
            class @ (Class::NoCapacity
            | Class::Rejected
            | Class::Conflict
            | Class::Absent
            | Class::Denied
            | Class::Misconfigured) => {
                let dry = class == Class::NoCapacity;
                if dry {
                    warn!(launch_token = %token, fleet = %launch.fleet, epoch, error = %failure, "no capacity: {failure}");
                } else {
                    error!(launch_token = %token, fleet = %launch.fleet, epoch, error = %failure, "launch refused: {failure}");
                }
                #[cfg(feature = "mutants")]
                broken::drop_refused_jobs(batch, launch, class).await?;
                let shown = shown_of(batch, launch).await?;
                if let Attempt::Repetition { called_at, .. } = attempt
                    && shown.is_empty()
                    && batch.ports.now().since(called_at) < SHOWN_WITHIN
                {
                    let _turn = batch.turn(&fleet.name).await;
                    note_refusal(batch.ports, fleet, launch, called_at).await?;
                    let call = format!("repeat launch {token}");
                    return Err(PortError::new(call, Class::OutcomeUnknown, "refused, and a listing may lag"));
                }
                if dry && shown.is_empty() {
                    return Ok(Answer::NoCapacity);
                }
                Ok(Answer::Instances(shown))
            }
        },
    }
}

/// Stores that the launch stands for another request from now on. Only after a complete answer without an instance, and
/// before that request is made: whoever goes on with the launch never makes the first one again.
async fn begin_next_epoch<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    launch: &LaunchRecord,
) -> Result<LaunchRecord, PortError> {
    let (token, now) = (&launch.token, batch.ports.now());
    let written = ledger::update::<LaunchRecord>(batch.ports, token.as_str(), |stored| match stored {
        Stored::Present(mut record) if record.record.epoch == launch.epoch => {
            record.record = record.record.next_epoch(now)?;
            Some(record)
        }
        Stored::Present(_) | Stored::Absent | Stored::Foreign => None,
    });
    let Some(next) = written.await? else {
        let call = format!("begin the next epoch of launch {token}");
        return Err(PortError::new(call, Class::Conflict, "another invocation went on with it"));
    };
    let market = next.record.market.as_str();
    info!(launch_token = %token, fleet = %launch.fleet, epoch = next.record.epoch, market, "falls back to {market}");
    Ok(next.record)
}

/// How often records are written again that somebody else made in between.
const CONFLICTS_MAX: usize = 3;

/// Writes the records that are missing, then hands each the events that came before it: the webhook writes the event
/// first and reads the record after.
async fn record_instances<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    fleet: &Fleet,
    launch: &LaunchRecord,
    answer: &[Named],
) -> Result<(), PortError> {
    let there: Vec<&Named> = answer.iter().filter(|one| matches!(one.sight, Sight::Shown(_) | Sight::Young)).collect();
    if there.is_empty() {
        return Ok(());
    }
    let mut names = Vec::new();
    for attempt in 1.. {
        let ids = there.iter().map(|one| one.id.to_string());
        let stored = ledger::load_all::<InstanceRecord>(batch.ports, ids).await?;
        let mut writes = Vec::new();
        names.clear();
        for (Named { id, launched_at, .. }, (_, stored)) in there.iter().zip(stored) {
            match stored {
                Stored::Present(record) => names.push((id, record.record.runner_name)),
                Stored::Absent => {
                    let record = new_record(fleet, launch, id, *launched_at);
                    names.push((id, record.runner_name.clone()));
                    writes.push(Versioned::new(record).write());
                }
                Stored::Foreign => {}
            }
        }
        if writes.is_empty() {
            break;
        }
        match batch.ports.write(&writes).await {
            Ok(()) => break,
            Err(error) if error.class() == Class::Conflict && attempt < CONFLICTS_MAX => {}
            Err(error) => return Err(error),
        }
    }
    let orphans = names.iter().map(|(_, name)| OrphanEvent::id_of(&launch.access.scope, name));
    let orphans = ledger::load_all::<OrphanEvent>(batch.ports, orphans).await?;
    for ((id, _), (_, orphan)) in names.into_iter().zip(orphans) {
        let Stored::Present(orphan) = orphan else { continue };
        ledger::update::<InstanceRecord>(batch.ports, id.as_str(), |stored| match stored {
            Stored::Present(mut record) => orphan.record.apply(&mut record.record).then_some(record),
            Stored::Absent | Stored::Foreign => None,
        })
        .await?;
    }
    Ok(())
}

fn new_record(fleet: &Fleet, launch: &LaunchRecord, id: &InstanceId, launched_at: Timestamp) -> InstanceRecord {
    let (access, token) = (launch.access.clone(), launch.token.clone());
    let name = fleet.runner_name(id);
    InstanceRecord {
        idle_maximum_seconds: Some(fleet.timers.idle_maximum.as_secs()),
        ..InstanceRecord::launched(id.clone(), access, launch.fleet.clone(), token, name, launched_at)
    }
}

pub(super) async fn equip_all<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    fleet: &Fleet,
    launch: &LaunchRecord,
    named: &[Named],
) -> Tally {
    let equipped: Vec<Equipped> = stream::iter(named)
        .map(|Named { id, sight, .. }| equip(batch, fleet, launch, id, *sight))
        .buffer_unordered(CALLS_AT_ONCE)
        .collect()
        .await;
    let (mut tally, mut heard) = (Tally::default(), Heard::Nothing);
    for one in equipped {
        match one {
            Equipped::Ready => tally.ready += 1,
            Equipped::Registered => {
                tally.ready += 1;
                heard = Heard::Registered;
            }
            Equipped::Retry(reason) => tally.retry.push(reason),
            Equipped::Refused(refusal) => {
                tally.retry.push(refusal.to_string());
                if !matches!(heard, Heard::Registered) {
                    heard = Heard::Refused(refusal);
                }
            }
            Equipped::InDoubt => tally.in_doubt += 1,
            Equipped::Lost => tally.lost += 1,
            Equipped::Spent => tally.spent += 1,
        }
    }
    registration::remember(batch.ports, fleet, launch, heard, batch.ports.now()).await;
    tally
}

async fn conclude_all<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    timers: &Timers,
    token: &LaunchToken,
    jobs: &[JobId],
    settlements: Vec<Settlement>,
) -> Vec<(JobId, Outcome)> {
    let stored = match ledger::load_all::<JobRecord>(batch.ports, jobs.iter().map(ToString::to_string)).await {
        Ok(stored) => stored,
        Err(error) => return jobs.iter().map(|job_id| (*job_id, Outcome::Failed(error.to_string()))).collect(),
    };
    stream::iter(jobs.iter().zip(stored).zip(settlements))
        .map(async |((job_id, (_, stored)), settlement)| {
            (*job_id, conclude(batch, timers, token, (*job_id, stored), settlement).await)
        })
        .buffer_unordered(CALLS_AT_ONCE)
        .collect()
        .await
}

/// Writes what became of one job, and the fleet that is its own by now, unless an event was faster.
async fn conclude<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    timers: &Timers,
    token: &LaunchToken,
    (job_id, stored): (JobId, Stored<JobRecord>),
    settlement: Settlement,
) -> Outcome {
    let (now, boot_grace) = (batch.ports.now(), timers.boot_grace);
    let mut over = false;
    // Read by all at once: no job that this launch had lost by then comes back to it.
    let written = ledger::update_known::<JobRecord>(batch.ports, &job_id.to_string(), stored, |stored| {
        let Stored::Present(mut job) = stored else { return None };
        over = !job.record.is_waiting();
        if let Some(fleet) = select_fleet(batch.policy, &job.record.labels) {
            job.record.fleet = Some(fleet.name.clone());
        }
        let held = matches!(&job.record.phase, JobPhase::Launching { token: own, .. } if own == token);
        let (phase, wait) = match &settlement {
            Settlement::Launched => (JobPhase::Launched { token: token.clone() }, boot_grace + timers.pick_up),
            // The lease is given back: the message may go on at once when it returns, and if it does not, demand does.
            Settlement::Retry(_) => {
                (JobPhase::Launching { token: token.clone(), lease_until: now }, timers.launch_lease)
            }
            Settlement::LookAgain => {
                (JobPhase::Launching { token: token.clone(), lease_until: now }, plan::NO_ROOM_LOOK)
            }
            Settlement::AgainLater => (JobPhase::Queued, aftermath::again_later(job.record.launch_count, boot_grace)),
            Settlement::AgainSoon => (JobPhase::Queued, plan::NO_ROOM_LOOK),
            Settlement::NothingLaunched => {
                job.record.launches.retain(|launch| launch != token);
                (JobPhase::Queued, plan::NO_ROOM_LOOK)
            }
        };
        job.record.phase = phase;
        job.record.next_look = now.plus(wait);
        held.then_some(job)
    })
    .await;
    match (written, settlement) {
        (Err(error), _) => Outcome::Failed(error.to_string()),
        (Ok(None), _) if over => Outcome::NotQueued,
        (Ok(None), _) => Outcome::Failed("another invocation went on with its launch".to_owned()),
        (Ok(Some(_)), Settlement::Launched) => Outcome::Launched,
        (Ok(Some(_)), Settlement::Retry(reason)) => Outcome::Failed(reason),
        (
            Ok(Some(_)),
            Settlement::LookAgain | Settlement::AgainLater | Settlement::AgainSoon | Settlement::NothingLaunched,
        ) => Outcome::Waiting,
    }
}
