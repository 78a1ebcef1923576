//! A launch that no job asked for: it fills a fleet's pool. The same road as a job's launch, with the fleet's
//! [`PoolCursor`] in the place of the jobs' records: launch, reservation and cursor are written in one transaction before
//! EC2 is called, and whoever finds the cursor's lease expired repeats the call under the same token.

use std::time::Duration;

use sha2::{Digest, Sha256};
use tracing::{info, warn};

use super::aftermath::{self, Tally};
use super::fulfil::{Attempt, equip_all, instances_of};
use super::offerings;
use super::plan::{self, Choice, JOBS_PER_LAUNCH_MAX};
use super::reserve::{Held, hold};
use super::{Batch, LaunchPorts};
use crate::config::{Fleet, Overrides, Policy};
use crate::error::{Class, Classify, PortError};
use crate::ids::{Access, LaunchToken};
use crate::ledger::{self, FleetRecord, LaunchRecord, PoolCursor, PoolLaunching, Reservation, Stored, Versioned};
use crate::ports::Instance;
use crate::time::{Deadline, Timestamp};

/// A launch that cannot be carried to its end for so long is given up: its instances end themselves, and the pool is
/// filled anew. Shorter, and an outage of GitHub leaves instances behind again and again; longer, and a pool stays empty
/// on account of one launch.
const GIVEN_UP: Duration = Duration::from_hours(1);

/// How often a lost transaction is tried again: scale-up writes the fleet's record too.
const CONFLICTS_MAX: u32 = 3;

/// How many instances a pool lacks and where they register.
pub(crate) struct Lacking<'a> {
    /// The fleet.
    pub(crate) fleet: &'a Fleet,
    /// Where its runners register.
    pub(crate) access: Access,
    /// How many; at least one.
    pub(crate) count: usize,
}

/// What became of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// So many instances are ready, or about to be.
    Launched(usize),
    /// Another pass is at it, the last launch came to too little a moment ago or is not seen yet, or there is no room.
    NotNow,
    /// It has to be gone on with.
    Unfinished(String),
}

/// Launches what a pool lacks.
///
/// # Guarantees
/// Of passes that saw the same cursor one launches, at most [`JOBS_PER_LAUNCH_MAX`]. Killed anywhere, the launch is gone
/// on with by [`resume`].
///
/// # Assumptions
/// `cursor` was read before `listing` was begun, and that before the reservations that `lacking` counts; its
/// `launching` is empty.
pub(crate) async fn launch<P: LaunchPorts>(
    ports: &P,
    policy: &Policy,
    deadline: Deadline,
    cursor: &Versioned<PoolCursor>,
    lacking: &Lacking<'_>,
    listing: &[Instance],
) -> Result<Filled, PortError> {
    let batch = Batch::new(ports, policy, deadline);
    if ports.now() < cursor.record.next_look {
        return Ok(Filled::NotNow);
    }
    let Some(launch) = reserve(&batch, cursor, lacking, listing).await? else { return Ok(Filled::NotNow) };
    carry_out(&batch, lacking.fleet, &launch, Attempt::First, listing).await
}

/// Goes on with a launch that was left behind, by compare-and-swap on its lease.
pub(crate) async fn resume<P: LaunchPorts>(
    ports: &P,
    policy: &Policy,
    deadline: Deadline,
    fleet: &Fleet,
    mut cursor: Versioned<PoolCursor>,
    listing: &[Instance],
) -> Result<Filled, PortError> {
    let batch = Batch::new(ports, policy, deadline);
    let now = ports.now();
    let Some(launching) = cursor.record.launching.clone().filter(|launching| launching.lease_until <= now) else {
        return Ok(Filled::NotNow);
    };
    let launch = match ledger::load::<LaunchRecord>(ports, launching.token.as_str()).await? {
        Stored::Present(launch) if now.since(launch.record.at) < GIVEN_UP => Some(launch.record),
        // Given up; or a table restored in part: the two are written in one transaction.
        Stored::Present(_) | Stored::Absent => None,
        Stored::Foreign => {
            let call = format!("resume pool launch {}", launching.token);
            return Err(PortError::new(call, Class::Transient, "its record is of another schema"));
        }
    };
    let lease_until = now.plus(fleet.timers.launch_lease);
    cursor.record.launching = launch.as_ref().map(|_| PoolLaunching { lease_until, ..launching });
    match ledger::store(ports, cursor).await {
        Ok(_) => {}
        Err(error) if error.class() == Class::Conflict => return Ok(Filled::NotNow),
        Err(error) => return Err(error),
    }
    let Some(launch) = launch else { return Ok(Filled::NotNow) };
    let mut called_at = launch.at;
    if launch.instance_ids.is_none() {
        match hold(&batch, fleet, &launch, listing).await? {
            Held::Room { called_at: last } => called_at = last,
            Held::NoRoom => return conclude(&batch, fleet, &launch, &Tally::default()).await,
        }
    }
    carry_out(&batch, fleet, &launch, Attempt::Repetition { settled: 0, called_at }, listing).await
}

/// Writes launch, reservation and cursor; `None` when another pass was faster or the fleet is full.
async fn reserve<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    cursor: &Versioned<PoolCursor>,
    lacking: &Lacking<'_>,
    listing: &[Instance],
) -> Result<Option<LaunchRecord>, PortError> {
    let fleet = lacking.fleet;
    let choice = offerings::choose(batch.ports, fleet, &Overrides::default(), batch.ports.now()).await;
    for repetition in 0..CONFLICTS_MAX {
        let now = batch.ports.now();
        let mut record = match ledger::load::<FleetRecord>(batch.ports, fleet.name.as_str()).await? {
            Stored::Present(record) => record,
            Stored::Absent => Versioned::new(FleetRecord { fleet: fleet.name.clone(), reservations: Vec::new() }),
            Stored::Foreign => {
                let call = format!("read fleet {}", fleet.name);
                return Err(PortError::new(call, Class::Transient, "the record is of another schema"));
            }
        };
        record.record.reservations.retain(|reservation| !plan::lapsed(reservation, now));
        let room = plan::room(fleet, listing, &record.record.reservations, now);
        // What is lacking beyond that is the next pass's to launch.
        let count = lacking.count.min(JOBS_PER_LAUNCH_MAX).min(room);
        if count == 0 {
            return Ok(None);
        }
        let launch = pool_launch(batch.policy, lacking, choice.clone(), &cursor.record, count, now);
        record.record.reservations.push(Reservation {
            token: launch.token.clone(),
            count: launch.count,
            at: now,
            answered_at: None,
        });
        let mut taken = cursor.clone();
        taken.record.launch_count += 1;
        let lease_until = now.plus(fleet.timers.launch_lease);
        taken.record.launching = Some(PoolLaunching { token: launch.token.clone(), lease_until });
        let writes = [Versioned::new(launch.clone()).write(), record.write(), taken.write()];
        match batch.ports.write(&writes).await {
            Ok(()) => return Ok(Some(launch)),
            // By a launch for jobs, or by another pass: then it conflicts again.
            Err(error) if error.class() == Class::Conflict => batch.back_off(repetition).await,
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The launch record of a pool. Its token holds the time, so that it is new even where the ledger was lost; whoever
/// repeats the launch reads it from the record.
fn pool_launch(
    policy: &Policy,
    lacking: &Lacking<'_>,
    choice: Choice,
    cursor: &PoolCursor,
    count: usize,
    now: Timestamp,
) -> LaunchRecord {
    let asked = (&Overrides::default(), choice);
    let mut launch = plan::launch(policy, lacking.fleet, &lacking.access, asked, &[], now);
    let mut hash = Sha256::new();
    hash.update(format!("{}\npool\n{}\n{}\n{}\n", policy.deployment, cursor.fleet, cursor.launch_count, now.0));
    let text = hash.finalize().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    launch.tags.insert("ghr:launch".to_owned(), text.clone());
    launch.token = LaunchToken::new(text);
    launch.count = u32::try_from(count).unwrap_or(u32::MAX);
    launch
}

async fn carry_out<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    fleet: &Fleet,
    launch: &LaunchRecord,
    attempt: Attempt,
    listing: &[Instance],
) -> Result<Filled, PortError> {
    let tally = match instances_of(batch, fleet, launch, attempt, listing).await {
        Ok(named) => equip_all(batch, fleet, launch, &named).await,
        Err(error) => {
            warn!(launch_token = %launch.token, error = %error, class = ?error.class, "pool launch stands still: {error}");
            Tally { retry: vec![error.to_string()], ..Tally::default() }
        }
    };
    conclude(batch, fleet, launch, &tally).await
}

/// Writes what became of it, unless another pass went on with it.
async fn conclude<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    fleet: &Fleet,
    launch: &LaunchRecord,
    tally: &Tally,
) -> Result<Filled, PortError> {
    let now = batch.ports.now();
    // One that a job took already was of use.
    let filled = tally.ready + tally.spent;
    let whole = filled >= launch.count as usize;
    ledger::update::<PoolCursor>(batch.ports, &PoolCursor::id_of(&fleet.name), |stored| {
        let Stored::Present(mut cursor) = stored else { return None };
        let launching = cursor.record.launching.as_mut().filter(|launching| launching.token == launch.token)?;
        if tally.retry.is_empty() && tally.in_doubt == 0 {
            cursor.record.launching = None;
            // What spoilt a part of it may spoil the next, and each instance costs.
            let wait = if whole { Duration::ZERO } else { aftermath::again_later(2, fleet.timers.boot_grace) };
            cursor.record.next_look = now.plus(wait);
        } else {
            launching.lease_until = now;
        }
        Some(cursor)
    })
    .await?;
    if let Some(reason) = tally.retry.first() {
        return Ok(Filled::Unfinished(format!("pool of fleet {}: {reason}", fleet.name)));
    }
    if tally.in_doubt > 0 {
        return Ok(Filled::NotNow);
    }
    info!(launch_token = %launch.token, fleet = %fleet.name, instance_count = filled, "filled the pool of {} by {filled}", fleet.name);
    Ok(Filled::Launched(filled))
}
