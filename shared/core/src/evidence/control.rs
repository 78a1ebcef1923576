//! Positive control: may an absence at GitHub be believed in this pass?

use std::collections::BTreeSet;
use std::time::Duration;

use crate::ids::{RunnerId, Scope};
use crate::ledger::AbsenceBreaker;
use crate::time::Timestamp;

/// Outcome for one scope and pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PositiveControl {
    /// Not asked yet in this pass.
    NotAsked,
    /// The list was cut or failed.
    Unanswered,
    /// The list was denied: 401, 403, or a 404, which may be a lost permission.
    Denied,
    /// The list was answered whole and misses more of our runners than can be true.
    MassAbsence,
    /// The same, and lists have agreed on it for so long that it must be true: a few absences a pass may count.
    Cautious,
    /// The list was answered to its last page and is plausible.
    Held,
}

/// How many of a scope's runners may be missing from its list before absences stop counting, at least. Higher, and a
/// bad listing ends more runners; lower, and a few spot interruptions at once halt the sweep (design section 5).
const MISSING_ALLOWED: usize = 5;

/// Lists that must agree on a mass absence before it is believed, and over what time (design section 5). Fewer or
/// shorter, and one outage at GitHub empties a fleet; more or longer, and an owner who removed all runners by hand pays
/// for their instances.
const AGREEING_LISTS: u32 = 3;
/// See [`AGREEING_LISTS`].
const AGREEING_TIME: Duration = Duration::from_mins(30);

impl PositiveControl {
    /// Judges a whole list of a scope that was read at `now`. `expected` are the registrations of living instances that
    /// ought to be on it, `listed` those that are; `breaker` is what earlier lists left. Returns the outcome and the
    /// breaker to be remembered, if that changed.
    ///
    /// What ought to be there is taken from EC2 and the ledger, not from the last list: a runner whose instance lives
    /// and has had no job must be registered.
    #[must_use]
    pub fn judge(
        scope: &Scope,
        listed: &BTreeSet<RunnerId>,
        expected: &BTreeSet<RunnerId>,
        breaker: Option<&AbsenceBreaker>,
        now: Timestamp,
    ) -> (Self, Option<AbsenceBreaker>) {
        let missing: BTreeSet<RunnerId> = expected.difference(listed).copied().collect();
        // Of those that were missing and whose instances live on, none has come back and some are left. That they are
        // fewer than half by now is our own doing, or that of instances that ended themselves.
        let agrees = |open: &&AbsenceBreaker| {
            let mut left = open.missing.intersection(expected).peekable();
            open.agreeing_count > 0 && left.peek().is_some() && left.all(|id| missing.contains(id))
        };
        // Those that are missing besides must be few enough to be believed by themselves: this is no second storm.
        let allowed = MISSING_ALLOWED.max(expected.len() / 2);
        let no_other = |open: &&AbsenceBreaker| missing.difference(&open.missing).count() <= allowed;
        let (since, count, first_missing) = match breaker.filter(agrees).filter(no_other) {
            Some(open) => (open.agreeing_since, open.agreeing_count + 1, open.missing.clone()),
            None if missing.len() > allowed => (now, 1, missing),
            None => {
                let closed = breaker.filter(|open| open.agreeing_count > 0).map(|open| AbsenceBreaker {
                    missing: BTreeSet::new(),
                    agreeing_count: 0,
                    agreed_at: now,
                    ..open.clone()
                });
                return (Self::Held, closed);
            }
        };
        let believed = count >= AGREEING_LISTS && now.since(since) >= AGREEING_TIME;
        let open = AbsenceBreaker {
            scope: scope.clone(),
            missing: first_missing,
            agreeing_since: since,
            agreeing_count: count,
            agreed_at: now,
        };
        (if believed { Self::Cautious } else { Self::MassAbsence }, Some(open))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    fn ids(range: std::ops::Range<u64>) -> BTreeSet<RunnerId> {
        range.map(RunnerId).collect()
    }

    fn scope() -> Scope {
        Scope::Organization { owner: "octo".into() }
    }

    #[test]
    fn a_list_counts_only_when_it_is_plausible() {
        for (listed, of, control) in [
            (0, 0, PositiveControl::Held),
            (0, 5, PositiveControl::Held),
            (0, 6, PositiveControl::MassAbsence),
            (10, 20, PositiveControl::Held),
            (9, 20, PositiveControl::MassAbsence),
        ] {
            let (judged, _) = PositiveControl::judge(&scope(), &ids(0..listed), &ids(0..of), None, Timestamp(0));
            assert_eq!(judged, control, "{listed} of {of}");
        }
    }

    /// Lists at these minutes, each of so many of 20 expected runners; the outcomes.
    fn lists(readings: &[(i64, u64)]) -> Vec<PositiveControl> {
        let mut breaker = None;
        readings
            .iter()
            .map(|(minute, listed)| {
                let now = Timestamp(minute * MINUTE);
                let (control, changed) =
                    PositiveControl::judge(&scope(), &ids(0..*listed), &ids(0..20), breaker.as_ref(), now);
                breaker = changed.or(breaker.take());
                control
            })
            .collect()
    }

    #[test]
    fn the_breaker_closes_after_three_agreeing_lists_over_half_an_hour_and_opens_anew_when_they_disagree() {
        use PositiveControl::{Cautious, Held, MassAbsence};
        for (case, readings, outcomes) in [
            ("three lists in ten minutes", vec![(0, 0), (5, 0), (10, 0)], vec![MassAbsence; 3]),
            ("two lists in half an hour", vec![(0, 0), (30, 0)], vec![MassAbsence; 2]),
            ("three in half an hour", vec![(0, 0), (15, 0), (30, 0)], vec![MassAbsence, MassAbsence, Cautious]),
            (
                "it stays believed",
                vec![(0, 0), (15, 0), (30, 0), (31, 0)],
                vec![MassAbsence, MassAbsence, Cautious, Cautious],
            ),
            ("some came back meanwhile", vec![(0, 0), (15, 5), (30, 5)], vec![MassAbsence; 3]),
            ("all came back", vec![(0, 0), (15, 20), (16, 20)], vec![MassAbsence, Held, Held]),
            (
                "gone again after that",
                vec![(0, 0), (10, 0), (15, 20), (40, 0)],
                vec![MassAbsence, MassAbsence, Held, MassAbsence],
            ),
        ] {
            assert_eq!(lists(&readings), outcomes, "{case}");
        }
    }

    #[test]
    fn instances_that_end_meanwhile_do_not_make_lists_disagree() {
        let (_, breaker) = PositiveControl::judge(&scope(), &ids(0..0), &ids(0..20), None, Timestamp(0));
        let at = Timestamp(15 * MINUTE);
        let (_, breaker) = PositiveControl::judge(&scope(), &ids(0..0), &ids(5..20), breaker.as_ref(), at);
        assert_eq!(breaker.as_ref().map(|open| open.agreeing_count), Some(2));
        let at = Timestamp(30 * MINUTE);
        let (control, _) = PositiveControl::judge(&scope(), &ids(0..0), &ids(10..30), breaker.as_ref(), at);
        assert_eq!(control, PositiveControl::Cautious);
    }
}
