//! Proof of gone for an instance that EC2's listing does not show (design section 4). Pure.

use std::time::Duration;

use crate::ledger::InstanceRecord;
use crate::time::Timestamp;

/// EC2 may hide a fresh instance for minutes (facts/world.md E1); after an hour an absence counts.
const YOUNG: Duration = Duration::from_hours(1);
/// Two listings that agree must lie this far apart.
const APART: Duration = Duration::from_mins(5);

/// What to do about an open record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vanished {
    /// Listed, or too young for its absence to mean anything.
    Leave,
    /// Write this down.
    Note(Sighting),
    /// Its instance is proved gone; what it left has to be taken away.
    Gone,
}

/// What a complete listing says of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sighting {
    /// Not shown, for the first time in a row.
    Missing(Timestamp),
    /// Shown again.
    Seen,
    /// Not shown by two complete listings far enough apart.
    ProvedGone(Timestamp),
}

impl Sighting {
    /// Writes it into the record.
    pub(super) fn apply(self, record: &mut InstanceRecord) {
        match self {
            Self::Missing(at) => record.missing_since = Some(at),
            Self::Seen => record.missing_since = None,
            Self::ProvedGone(at) => record.gone_at = Some(at),
        }
    }
}

/// Two listings that miss most of our instances must lie this far apart: it is far more likely that the listing is at
/// fault, and a breaker that never closed again would keep the records for ever.
const APART_IN_MASS: Duration = Duration::from_mins(30);

/// How far apart two listings must lie that prove instances gone, of which this one misses `missing` of `of`.
pub(super) fn apart(missing: usize, of: usize) -> Duration {
    if missing > (of / 2).max(5) { APART_IN_MASS } else { APART }
}

/// Judges one open record against a complete, error-free listing that was begun at `begun_at`.
pub(super) fn vanished(record: &InstanceRecord, is_listed: bool, begun_at: Timestamp, apart: Duration) -> Vanished {
    match (is_listed, record.gone_at, record.missing_since) {
        (true, None, Some(_)) => Vanished::Note(Sighting::Seen),
        (false, Some(_), _) => Vanished::Gone,
        (false, None, None) if begun_at.since(record.launched_at) >= YOUNG => {
            Vanished::Note(Sighting::Missing(begun_at))
        }
        (false, None, Some(since)) if begun_at.since(since) >= apart => Vanished::Note(Sighting::ProvedGone(begun_at)),
        (true, _, _) | (false, None, _) => Vanished::Leave,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Access, FleetName, InstanceId, LaunchToken, RunnerName, Scope};

    const HOUR: i64 = 3_600_000;
    const MINUTE: i64 = 60_000;

    fn record(missing_since: Option<i64>, gone_at: Option<i64>) -> InstanceRecord {
        let mut record = InstanceRecord::launched(
            InstanceId::new("i-1"),
            Access { scope: Scope::Organization { owner: "octo".into() }, installation_id: None },
            FleetName::new("linux"),
            LaunchToken::new("t"),
            RunnerName::new("runner-i-1"),
            Timestamp(0),
        );
        record.missing_since = missing_since.map(Timestamp);
        record.gone_at = gone_at.map(Timestamp);
        record
    }

    #[test]
    fn gone_is_proved_by_two_listings_and_never_while_the_instance_is_young() {
        let now = Timestamp(HOUR + 10 * MINUTE);
        let missing = Vanished::Note(Sighting::Missing(now));
        let proved = Vanished::Note(Sighting::ProvedGone(now));
        for (case, record, listed, at, expected) in [
            ("listed", record(None, None), true, now, Vanished::Leave),
            ("young and not shown", record(None, None), false, Timestamp(HOUR - 1), Vanished::Leave),
            ("missing for the first time", record(None, None), false, now, missing),
            ("missing for four minutes", record(Some(HOUR + 6 * MINUTE), None), false, now, Vanished::Leave),
            ("missing for five minutes", record(Some(HOUR + 5 * MINUTE), None), false, now, proved),
            ("shown again", record(Some(HOUR), None), true, now, Vanished::Note(Sighting::Seen)),
            ("gone and not listed", record(None, Some(HOUR)), false, now, Vanished::Gone),
            ("gone and still lingering", record(None, Some(HOUR)), true, now, Vanished::Leave),
        ] {
            assert_eq!(vanished(&record, listed, at, apart(1, 10)), expected, "{case}");
        }
    }

    #[test]
    fn a_listing_that_misses_most_proves_less() {
        assert_eq!((apart(5, 5), apart(6, 6), apart(6, 12)), (APART, APART_IN_MASS, APART));
        let record = record(Some(HOUR), None);
        let now = Timestamp(HOUR + 29 * MINUTE);
        assert_eq!(vanished(&record, false, now, apart(40, 40)), Vanished::Leave);
        let now = Timestamp(HOUR + 30 * MINUTE);
        assert_eq!(vanished(&record, false, now, apart(40, 40)), Vanished::Note(Sighting::ProvedGone(now)));
    }
}
