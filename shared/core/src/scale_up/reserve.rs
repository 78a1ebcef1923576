//! Jobs, launch and room in one transaction, before EC2 is called: whoever finds any of it finds all of it.

use tracing::warn;

use crate::config::{Fleet, Overrides};
use crate::error::{Class, Classify, PortError};
use crate::ids::{Access, LaunchToken};
use crate::ledger::{self, FleetRecord, JobRecord, LaunchRecord, Reservation, Stored, Versioned};
use crate::ports::{Instance, Ledger, Write};
use crate::time::Timestamp;

use super::plan::{self, Choice, JOBS_PER_LAUNCH_MAX, JOBS_WITH_LAUNCH_MAX, Next};
use super::{Batch, FleetSeen, LaunchPorts};

/// How often a lost transaction is tried again: one fleet's record is shared by all invocations. More, and a batch
/// waits out its deadline here; fewer, and a burst sends messages round the queue for nothing.
const CONFLICTS_MAX: u32 = 8;

/// What a reservation came to.
pub(super) struct Reserved {
    /// The launch and its jobs, stored; `None` where there was no room or no job left.
    pub(super) launch: Option<(Versioned<LaunchRecord>, Vec<Versioned<JobRecord>>)>,
    /// Jobs that found no room, or no place in the transaction.
    pub(super) left: Vec<Versioned<JobRecord>>,
    /// Jobs that somebody else changed in the meantime, as they are now.
    pub(super) changed: Vec<JobRecord>,
}

/// Reserves as many instances as there are jobs and room, oldest jobs first.
pub(super) async fn reserve<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    fleet: &Fleet,
    access: &Access,
    (overrides, choice): (&Overrides, &Choice),
    mut jobs: Vec<Versioned<JobRecord>>,
    listing: &[Instance],
) -> Result<Reserved, PortError> {
    let _turn = batch.turn(&fleet.name).await;
    let mut changed = Vec::new();
    jobs.sort_by_key(|job| (job.record.queued_at, job.record.job_id));
    for repetition in 0..CONFLICTS_MAX {
        let now = batch.ports.now();
        let mut fleet_record = load_fleet(batch.ports, fleet).await?;
        fleet_record.record.reservations.retain(|reservation| !plan::lapsed(reservation, now));
        let room = plan::room(fleet, listing, &fleet_record.record.reservations, now);
        let mut chosen = jobs.clone();
        let left = chosen.split_off(room.min(JOBS_PER_LAUNCH_MAX).min(chosen.len()));
        if chosen.is_empty() {
            return Ok(Reserved { launch: None, left, changed });
        }
        let before: Vec<&JobRecord> = chosen.iter().map(|job| &job.record).collect();
        let launch = plan::launch(batch.policy, fleet, access, (overrides, choice.clone()), &before, now);
        let launch = Versioned::new(launch);
        let token = launch.record.token.clone();
        let for_ever = batch.policy.mutant.claims_for_ever();
        let lease_until = if for_ever { Timestamp(i64::MAX) } else { now.plus(fleet.timers.launch_lease) };
        for job in &mut chosen {
            job.record.note_launch(token.clone(), lease_until);
        }
        fleet_record.record.reservations.push(Reservation {
            token: token.clone(),
            count: launch.record.count,
            at: now,
            answered_at: None,
        });
        let writes = vec![launch.write(), fleet_record.write()];
        let stored = store_launch(batch.ports, (&token, writes), &chosen, &jobs).await;
        match stored {
            Err(_) if batch.policy.mutant.runs_ahead_of_failed_writes() => {
                return Ok(Reserved { launch: Some((launch, chosen)), left, changed });
            }
            Ok(()) => {
                let chosen = chosen.into_iter().map(Versioned::written).collect();
                return Ok(Reserved { launch: Some((launch.written(), chosen)), left, changed });
            }
            Err(error) if error.class() == Class::Conflict => {}
            Err(error) => return Err(error),
        }
        batch.back_off(repetition).await;
        // The launch's record without its jobs' is what a restored table looks like: its token is spent.
        let spent = match ledger::load::<LaunchRecord>(batch.ports, token.as_str()).await? {
            Stored::Absent => 0,
            Stored::Present(_) | Stored::Foreign => 1,
        };
        jobs = reload(batch, jobs, &mut changed, spent).await?;
    }
    Err(PortError::new(format!("reserve in fleet {}", fleet.name), Class::Conflict, "the records kept changing"))
}

/// Stores the launch with all its jobs. Those that find no place in its transaction are written before: a job of a
/// launch that is not there is given back by whoever meets it (`fulfil::resume`); one that was written after could be
/// launched for twice. Where the launch is refused they are given back at once.
async fn store_launch(
    ledger: &impl Ledger,
    (token, mut writes): (&LaunchToken, Vec<Write>),
    chosen: &[Versioned<JobRecord>],
    before: &[Versioned<JobRecord>],
) -> Result<(), PortError> {
    let (with, ahead) = chosen.split_at(chosen.len().min(JOBS_WITH_LAUNCH_MAX));
    if !ahead.is_empty() {
        ledger.write(&ahead.iter().map(Versioned::write).collect::<Vec<_>>()).await?;
    }
    writes.extend(with.iter().map(Versioned::write));
    let Err(refused) = ledger.write(&writes).await else { return Ok(()) };
    if refused.class() == Class::Conflict && !ahead.is_empty() {
        // A repetition is refused by the success that it repeats.
        match ledger::load::<LaunchRecord>(ledger, token.as_str()).await? {
            Stored::Absent => {}
            Stored::Present(_) | Stored::Foreign => return Err(refused),
        }
        let given_back = ahead.iter().zip(before.iter().skip(with.len())).map(|(job, before)| {
            let mut job = job.clone().written();
            job.record = before.record.clone();
            job.write()
        });
        // Where it fails, their lease ends before anybody takes them up.
        if let Err(error) = ledger.write(&given_back.collect::<Vec<_>>()).await {
            warn!(error = %error, "jobs of a launch that was not stored wait for the end of their lease: {error}");
        }
    }
    Err(refused)
}

/// Whether a launch that is gone on with has its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// Reserved.
    Room {
        /// When its call was made last, at the latest.
        called_at: Timestamp,
    },
    /// Its reservation had lapsed and the fleet is full.
    NoRoom,
}

/// Makes sure that a launch whose call was never answered has its reservation before the call is repeated, and for as
/// long after it as what it launches may not be shown.
pub(super) async fn hold<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    fleet: &Fleet,
    launch: &LaunchRecord,
    listing: &[Instance],
) -> Result<Held, PortError> {
    let now = batch.ports.now();
    let mut held = None;
    let _turn = batch.turn(&fleet.name).await;
    change_fleet(batch.ports, fleet, |record| {
        record.reservations.retain(|reservation| !plan::lapsed(reservation, now));
        let own = |reservation: &Reservation| reservation.token == launch.token;
        let wanted = Reservation { token: launch.token.clone(), count: launch.count, at: now, answered_at: None };
        let room_before = plan::room(fleet, listing, &record.reservations, now);
        held = Some(Held::Room { called_at: launch.at });
        if let Some(reservation) = record.reservations.iter_mut().find(|reservation| own(reservation)) {
            held = Some(Held::Room { called_at: reservation.at.max(launch.at) });
            reservation.at = now;
            return Change::Write;
        }
        record.reservations.push(wanted);
        let room_after = plan::room(fleet, listing, &record.reservations, now);
        let shown = listing.iter().filter(|i| i.tags.get("ghr:launch").is_some_and(|t| t == launch.token.as_str()));
        if room_before - room_after + shown.count() < launch.count as usize {
            held = Some(Held::NoRoom);
            return Change::Keep;
        }
        Change::Write
    })
    .await?;
    held.ok_or_else(|| foreign(fleet))
}

/// Notes that a repetition was refused or not made, and so had no effect: what the call before it may have made is as old
/// as it was.
pub(super) async fn note_refusal(
    ledger: &impl Ledger,
    fleet: &Fleet,
    launch: &LaunchRecord,
    called_at: Timestamp,
) -> Result<(), PortError> {
    change_fleet(ledger, fleet, |record| {
        let own = record.reservations.iter_mut().find(|reservation| reservation.token == launch.token);
        match own.filter(|reservation| reservation.answered_at.is_none()) {
            Some(reservation) => {
                reservation.at = called_at;
                Change::Write
            }
            None => Change::Keep,
        }
    })
    .await
}

/// Makes sure that the fleet has a record, by which its jobs are found if it leaves the configuration. Looked for once a
/// batch, however many of its jobs ask.
pub(super) async fn ensure_fleet<P: LaunchPorts>(batch: &Batch<'_, P>, fleet: &Fleet) -> Result<(), PortError> {
    let mut turn = batch.turn(&fleet.name).await;
    if turn.as_deref() == Some(&FleetSeen::Recorded) {
        return Ok(());
    }
    let made = ledger::update::<FleetRecord>(batch.ports, fleet.name.as_str(), |stored| match stored {
        Stored::Absent => Some(Versioned::new(empty(fleet))),
        Stored::Present(_) | Stored::Foreign => None,
    });
    made.await?;
    if let Some(seen) = turn.as_deref_mut() {
        *seen = FleetSeen::Recorded;
    }
    Ok(())
}

/// Notes that EC2 answered: the reservation lapses from now on, and holds no more than what came.
pub(super) async fn note_answer(
    ledger: &impl Ledger,
    fleet: &Fleet,
    launch: &LaunchRecord,
    count: usize,
    now: Timestamp,
) -> Result<(), PortError> {
    change_fleet(ledger, fleet, |record| {
        record.reservations.retain(|reservation| reservation.token != launch.token && !plan::lapsed(reservation, now));
        record.reservations.push(Reservation {
            token: launch.token.clone(),
            count: u32::try_from(count).unwrap_or(launch.count),
            at: launch.at,
            answered_at: Some(now),
        });
        Change::Write
    })
    .await
}

enum Change {
    Write,
    Keep,
}

async fn change_fleet(
    ledger: &impl Ledger,
    fleet: &Fleet,
    mut change: impl FnMut(&mut FleetRecord) -> Change,
) -> Result<(), PortError> {
    let written = ledger::update::<FleetRecord>(ledger, fleet.name.as_str(), |stored| {
        let mut record = match stored {
            Stored::Present(record) => record,
            Stored::Absent => Versioned::new(empty(fleet)),
            Stored::Foreign => return None,
        };
        match change(&mut record.record) {
            Change::Write => Some(record),
            Change::Keep => None,
        }
    });
    written.await.map(drop)
}

pub(super) async fn load_fleet(ledger: &impl Ledger, fleet: &Fleet) -> Result<Versioned<FleetRecord>, PortError> {
    match ledger::load::<FleetRecord>(ledger, fleet.name.as_str()).await? {
        Stored::Present(record) => Ok(record),
        Stored::Absent => Ok(Versioned::new(empty(fleet))),
        Stored::Foreign => Err(foreign(fleet)),
    }
}

fn foreign(fleet: &Fleet) -> PortError {
    PortError::new(format!("read fleet {}", fleet.name), Class::Transient, "the record is of another schema")
}

fn empty(fleet: &Fleet) -> FleetRecord {
    FleetRecord { fleet: fleet.name.clone(), reservations: Vec::new() }
}

/// Reads the jobs again; those that are not as they were admitted are somebody else's now.
async fn reload<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    jobs: Vec<Versioned<JobRecord>>,
    changed: &mut Vec<JobRecord>,
    spent: u32,
) -> Result<Vec<Versioned<JobRecord>>, PortError> {
    let now = batch.ports.now();
    let ids = jobs.iter().map(|job| job.record.job_id.to_string());
    let stored = ledger::load_all::<JobRecord>(batch.ports, ids).await?;
    let mut still = Vec::with_capacity(jobs.len());
    for (before, (_, stored)) in jobs.into_iter().zip(stored) {
        match stored {
            Stored::Present(mut job) if may_launch(&before.record, &job.record, now) => {
                job.record.access = before.record.access;
                job.record.fleet = before.record.fleet;
                job.record.launch_count = before.record.launch_count.max(job.record.launch_count) + spent;
                still.push(job);
            }
            Stored::Present(job) => changed.push(job.record),
            Stored::Absent | Stored::Foreign => changed.push(before.record),
        }
    }
    Ok(still)
}

fn may_launch(before: &JobRecord, record: &JobRecord, now: Timestamp) -> bool {
    match plan::next(record, now) {
        Next::Launch | Next::LaunchAgain => true,
        Next::CheckServed(_) => before.phase == record.phase,
        Next::NotQueued | Next::InFlight | Next::Resume(_) => false,
    }
}
