//! What became of a launch: what is to be seen of its instances, what each of them still needs, which jobs they serve,
//! and what is settled for each job. Pure: no port, no clock. Never decides whether anything is ended.

use std::collections::BTreeSet;
use std::time::Duration;

use super::plan::{NO_ROOM_LOOK, has_ended};
use crate::config::Timers;
use crate::ids::JobId;
use crate::ledger::{InstanceRecord, JobPhase, JobRecord, LaunchRecord, Origin};
use crate::ports::InstanceState;
use crate::time::Timestamp;

/// A listing shows what a launch made at the latest this long after the call that made it (design section 6). Shorter,
/// and a launch that a listing does not show yet is made twice; longer, and its jobs wait in vain.
pub const SHOWN_WITHIN: Duration = Duration::from_mins(5);

/// What is to be seen of an instance that EC2's answer to a launch names. The answer alone proves nothing: to a
/// repetition EC2 names the same instances, even those that ended long ago (facts/world.md E2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It is shown in this state.
    Shown(InstanceState),
    /// It is not shown and was made a moment ago: a listing lags.
    Young,
    /// It is not shown, and was made a moment ago or ended long ago: nobody can tell yet.
    InDoubt,
    /// It is not shown although it would be: it ended long ago.
    Gone,
}

/// Decides by its state in a listing begun at `listed_at`; `None` is not shown. It was made when EC2 was first asked or
/// at the latest when EC2 answered: where that is one moment it is as old as the answer, else it may be as old as the
/// launch.
#[must_use]
pub fn sight(launch: &LaunchRecord, shown: Option<InstanceState>, listed_at: Timestamp) -> Sight {
    let answered_at = launch.answered_at.unwrap_or(launch.at);
    match shown {
        Some(state) => Sight::Shown(state),
        None if listed_at.since(answered_at) >= SHOWN_WITHIN => Sight::Gone,
        None if answered_at.since(launch.at) < SHOWN_WITHIN => Sight::Young,
        None => Sight::InDoubt,
    }
}

/// What an instance still needs before its runner can take a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: it has its configuration.
    Nothing,
    /// A registration exists, and whether the configuration reached the instance is not known. It must be neither
    /// deleted nor made again; GitHub says whether the runner ever connected.
    Unsure,
    /// An intent was stored and no answer: a registration may exist under its name.
    LookUp,
    /// A configuration; none was ever asked for.
    Configuration,
    /// It has, or had, a job: it serves no other.
    Spent,
    /// It is being removed, or gone, or its configuration is lost: it gets nothing.
    Beyond,
}

/// Decides by the instance's record.
#[must_use]
pub fn need(record: &InstanceRecord) -> Need {
    let removal = record.terminate_intent.is_some()
        || record.deregister_intent.is_some()
        || record.deregistered_at.is_some()
        || record.gone_at.is_some();
    match (record.jit_intent_at, record.origin) {
        _ if removal => Need::Beyond,
        _ if record.has_job_evidence() => Need::Spent,
        _ if record.handed_over_at.is_some() => Need::Nothing,
        _ if record.lost_at.is_some() => Need::Beyond,
        _ if record.runner_id.is_some() => Need::Unsure,
        (Some(_), Origin::Launch | Origin::Rebuilt { .. }) | (None, Origin::Rebuilt { .. }) => Need::LookUp,
        (None, Origin::Launch) => Need::Configuration,
    }
}

/// Until when a completed launch counts as serving its jobs through this instance; `None` when it does not (any more).
///
/// An instance that the listing, begun at `listed_at`, does not show is taken to be there while it is young: a listing
/// lags. One whose hand-over is not on record counts for the time of a lease: whoever launched it goes on with it, or it
/// connects, or it is lost.
#[must_use]
pub fn serves_until(
    record: &InstanceRecord,
    (shown, listed_at): (Option<InstanceState>, Timestamp),
    timers: &Timers,
    now: Timestamp,
) -> Option<Timestamp> {
    let until = match record.handed_over_at {
        Some(_) => record.launched_at.plus(timers.boot_grace).plus(timers.pick_up),
        None => record.jit_intent_at.unwrap_or(record.launched_at).plus(timers.launch_lease),
    };
    let free = !record.has_job_evidence() && need(record) != Need::Beyond;
    let there = match shown {
        Some(state) => !has_ended(state),
        None => listed_at.since(record.launched_at) < SHOWN_WITHIN,
    };
    (free && there && now < until).then_some(until)
}

/// Which jobs of a completed launch its free instances serve, so many of them as there are: those first that were given
/// one, then those whose share of the launch is still gone on with, then those that were left without; each by age. A job
/// that started on a runner that nobody named may sit on one of these. Those that run elsewhere or are over need none, and
/// those that have another launch neither, unless `bereft` says that nothing is left of that.
#[must_use]
pub fn shared_out<'a>(
    launch: &LaunchRecord,
    free: usize,
    jobs: impl IntoIterator<Item = &'a JobRecord>,
    bereft: impl Fn(JobId) -> bool,
) -> BTreeSet<JobId> {
    let token = &launch.token;
    let turn = |job: &JobRecord| match &job.phase {
        JobPhase::Launched { token: own } if own == token => Some(0),
        JobPhase::Launching { token: own, .. } if own == token => Some(1),
        JobPhase::Queued => Some(2),
        JobPhase::Launched { .. } => bereft(job.job_id).then_some(2),
        JobPhase::Started { .. } => job.runner_id.is_none().then_some(0),
        JobPhase::Launching { .. } | JobPhase::Completed { .. } => None,
    };
    let of_launch = jobs.into_iter().filter(|job| launch.job_ids.contains(&job.job_id));
    let mut waiting: Vec<(u8, Timestamp, JobId)> =
        of_launch.filter_map(|job| Some((turn(job)?, job.queued_at, job.job_id))).collect();
    waiting.sort_unstable();
    waiting.into_iter().take(free).map(|(_, _, job_id)| job_id).collect()
}

/// How many instances of a launch came how far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Ready to take a job, or possibly so.
    pub ready: usize,
    /// To be tried again, with the reasons.
    pub retry: Vec<String>,
    /// Whether they are there is not known yet.
    pub in_doubt: usize,
    /// Launched, and no use to any job.
    pub lost: usize,
    /// Taken: each has, or had, a job that started on it.
    pub spent: usize,
}

/// What becomes of one job of a launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// An instance is there for it.
    Launched,
    /// Its launch has to be gone on with.
    Retry(String),
    /// Its launch has to be gone on with once it is seen whether its instance is there: time alone tells.
    LookAgain,
    /// Its instance was launched in vain. Another is launched later, not at once: what spoilt this one may spoil the
    /// next, and each costs.
    AgainLater,
    /// EC2 had no instance for it.
    AgainSoon,
    /// EC2 had no instance for any job of the launch: nothing of it can ever be left to one.
    NothingLaunched,
}

/// Shares a launch's instances out among its jobs, in their order. `taken` of the ready instances belong to jobs that
/// were settled before.
#[must_use]
pub fn settle(jobs: usize, taken: usize, tally: Tally) -> Vec<Settlement> {
    let came = tally.ready + tally.retry.len() + tally.in_doubt + tally.lost + tally.spent;
    let came_to_nothing = taken == 0 && came == 0;
    let ready = std::iter::repeat_n(Settlement::Launched, tally.ready.saturating_sub(taken));
    let retry = tally.retry.into_iter().map(Settlement::Retry);
    let in_doubt = std::iter::repeat_n(Settlement::LookAgain, tally.in_doubt);
    let lost = std::iter::repeat_n(Settlement::AgainLater, tally.lost);
    let none = if came_to_nothing { Settlement::NothingLaunched } else { Settlement::AgainSoon };
    let none = std::iter::repeat(none);
    ready.chain(retry).chain(in_doubt).chain(lost).chain(none).take(jobs).collect()
}

/// When a job whose instance was launched in vain is launched for again: soon after the first, for a process may have
/// ended between GitHub's answer and the hand-over; then a third of the boot grace, then half of it. This bounds launches
/// for a cause that does not go away, such as an SSM that refuses; longer, and a job that has seen several such causes
/// waits for longer than a boot and two passes when there is none any more.
#[must_use]
pub fn again_later(launch_count: u32, boot_grace: Duration) -> Duration {
    match launch_count {
        0 | 1 => NO_ROOM_LOOK.min(boot_grace),
        2 => boot_grace / 3,
        3.. => boot_grace / 2,
    }
}

#[cfg(test)]
mod tests;
