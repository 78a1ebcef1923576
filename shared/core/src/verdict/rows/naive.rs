//! The three protocols that others use, to be measured beside ours: GitHub's flag is asked, once, twice, or once more
//! after the DELETE, and believed. Neither ledger nor instance has a say in it.
//!
//! Everything that is not a registered runner shown online is judged by our own rows.

use std::time::Duration;

use super::{Conclusion, Judge, keep, look, note};
use crate::evidence::{DemandEvidence, RegistrationEvidence, Witness};
use crate::removal::{DeregistrationGround, Ground};
use crate::verdict::{Note, Reason, Source};

/// How long a runner must be shown idle (github-aws-runners/terraform-aws-github-runner, pull request 5397, read
/// 2026-11-20).
const CONFIRMED_AFTER: Duration = Duration::from_mins(10);

/// What such a protocol does with a living instance; `None` where it leaves it to our rows.
pub(super) fn living(judge: &Judge<'_>) -> Option<Conclusion> {
    let record = judge.record;
    if !judge.policy.mutant.is_naive() || record.runner_id.is_none() || record.job_completed.is_some() {
        return None;
    }
    match record.deregister_intent {
        Some(intent) if record.deregistered_at.is_some() => {
            (intent.ground == DeregistrationGround::Idle).then(|| deregistered(judge))
        }
        Some(_) | None => registered(judge),
    }
}

fn deregistered(judge: &Judge<'_>) -> Conclusion {
    let reason = Reason::IdleAfterDeregistration;
    if judge.policy.mutant.asks_github_again_after_delete() {
        match (&judge.evidence.registration, judge.evidence.heard.from) {
            (RegistrationEvidence::NotAsked, _) | (_, Witness::List) => return look(Source::Runner, reason),
            (RegistrationEvidence::Unread | RegistrationEvidence::Denied, Witness::Runner) => {
                return keep(Reason::RegistrationUnread);
            }
            (RegistrationEvidence::Present(runner), Witness::Runner) if runner.busy => return keep(Reason::BusyNow),
            (RegistrationEvidence::Present(_) | RegistrationEvidence::Absent, Witness::Runner) => {}
        }
    }
    judge.end(Ground::IdleAfterDeregistration, reason)
}

fn registered(judge: &Judge<'_>) -> Option<Conclusion> {
    let record = judge.record;
    if judge.evidence.demand == DemandEvidence::Pool {
        return Some(keep(Reason::Pool));
    }
    if !judge.passed(judge.launched_at, judge.timers.minimum_running) {
        return Some(keep(Reason::Wanted));
    }
    match &judge.evidence.registration {
        RegistrationEvidence::NotAsked => Some(look(Source::Registrations, Reason::Surplus)),
        RegistrationEvidence::Unread | RegistrationEvidence::Denied => Some(keep(Reason::RegistrationUnread)),
        RegistrationEvidence::Absent => None,
        RegistrationEvidence::Present(runner) if runner.busy && record.idle_since.is_some() => {
            Some(note(Note::RowsBroken, Reason::BusyNow))
        }
        RegistrationEvidence::Present(runner) if runner.busy => Some(keep(Reason::BusyNow)),
        RegistrationEvidence::Present(runner) if !runner.online => None,
        RegistrationEvidence::Present(runner) => Some(idle(judge, runner)),
    }
}

fn idle(judge: &Judge<'_>, runner: &crate::ports::Runner) -> Conclusion {
    if judge.evidence.heard.from == Witness::List {
        return look(Source::Runner, Reason::IdleConfirmed);
    }
    match judge.record.idle_since {
        _ if !judge.policy.mutant.asks_twice_before_delete() => {}
        None => return note(Note::Idle, Reason::IdleTooShort),
        Some(since) if !judge.passed(since, CONFIRMED_AFTER) => return keep(Reason::IdleTooShort),
        Some(_) => {}
    }
    judge.deregister(runner, DeregistrationGround::Idle, Reason::IdleConfirmed)
}
