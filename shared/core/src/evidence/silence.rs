//! Whether so many instances have never given a vital sign that somebody has to look. It changes no verdict.

use std::time::Duration;

use super::{Evidence, VitalEvidence};
use crate::config::Policy;
use crate::ledger::Origin;
use crate::ports::InstanceState;
use crate::time::Timestamp;

/// So many instances that have never spoken, and none that has, are taken for a mistake in where their signs are looked
/// for. More, and a small deployment whose key is wrong loses every veto unnoticed; fewer, and some supervisors that
/// died raise a false alarm.
const UNHEARD_MAX: usize = 5;

/// After `boot_grace` an instance has so long to give its first sign, which it renews every minute. Longer, and a
/// wrong key is told that much later; shorter, and slow boots raise an alarm.
const FIRST_SIGN: Duration = Duration::from_mins(10);

/// How many instances should have spoken by now, where they are many and not one ever did: then the table or the key is
/// wrong (the instances' role was made anew, say), and each of them may be giving signs that nobody reads.
#[must_use]
pub fn unheard_of(evidence: &[Evidence], policy: &Policy, now: Timestamp) -> Option<usize> {
    // Younger ones do not vouch for these: the key may be right for a new role and wrong for the old one.
    let due: Vec<&Evidence> = evidence.iter().filter(|evidence| should_have_spoken(evidence, policy, now)).collect();
    let unheard = due.iter().all(|evidence| evidence.vital_sign == VitalEvidence::Never);
    (unheard && due.len() >= UNHEARD_MAX).then_some(due.len())
}

fn should_have_spoken(evidence: &Evidence, policy: &Policy, now: Timestamp) -> bool {
    let Some(record) = evidence.known_record().filter(|record| record.origin == Origin::Launch) else { return false };
    let launched_at = record.launched_at.max(evidence.instance.launched_at);
    // A supervisor starts the listener, so where a runner was seen there is one. Where none ever was, the image may be
    // broken: such machines are silent in truth, and must go.
    let runner_was_seen = record.has_job_evidence() || record.job_completed.is_some() || record.idle_since.is_some();
    evidence.instance.state == InstanceState::Running
        && runner_was_seen
        && now.since(launched_at) >= policy.timers(&record.fleet).boot_grace + FIRST_SIGN
}
