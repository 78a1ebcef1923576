//! What a complete listing proves (design section 4): of a record whose instance it does not show, of a registration
//! and of a JIT configuration. Pure.

use std::time::Duration;

use crate::config::Policy;
use crate::ids::Scope;
use crate::ledger::InstanceRecord;
use crate::ports::Runner;
use crate::time::Timestamp;

/// EC2 may hide a fresh instance for minutes (facts/world.md E1); after an hour an absence counts.
const YOUNG: Duration = Duration::from_hours(1);
/// Two listings that agree must lie this far apart, and the first of them as far after any sighting.
const APART: Duration = Duration::from_mins(5);

/// What to do about an open record whose instance the listing does not show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vanished {
    /// Its absence does not mean anything yet.
    Leave,
    /// Write this down.
    Note(Absence),
    /// Its instance is proved gone; what it left has to be taken away.
    Gone,
}

/// What a complete listing says of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absence {
    /// Not shown, for the first time in a row: it may have been seen a moment ago.
    Missing(Timestamp),
    /// Not shown, and certainly not seen for 5 min: the first listing that counts.
    Counted(Timestamp),
    /// Not shown by two listings that count, far enough apart.
    ProvedGone(Timestamp),
}

impl Absence {
    /// Writes it into the record.
    pub(super) fn apply(self, record: &mut InstanceRecord) {
        match self {
            Self::Missing(at) => record.missing_since = Some(at),
            Self::Counted(at) => record.missing_counted_at = Some(at),
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

/// Judges one open record against a complete, error-free listing that was begun at `begun_at` and does not show its
/// instance.
pub(super) fn vanished(record: &InstanceRecord, begun_at: Timestamp, apart: Duration) -> Vanished {
    match (record.gone_at, record.missing_since, record.missing_counted_at) {
        (Some(_), _, _) => Vanished::Gone,
        (None, None, _) if begun_at.since(record.launched_at) >= YOUNG => Vanished::Note(Absence::Missing(begun_at)),
        (None, Some(since), None) if begun_at.since(since) >= APART => Vanished::Note(Absence::Counted(begun_at)),
        (None, Some(_), Some(counted)) if begun_at.since(counted) >= apart => {
            Vanished::Note(Absence::ProvedGone(begun_at))
        }
        (None, _, _) => Vanished::Leave,
    }
}

/// Whether a JIT configuration serves nobody: its instance does not live, and it has lain there for longer than an
/// instance takes to show up in a listing and to boot.
pub(super) fn is_stray_configuration(lives: bool, age: Duration, boot_grace: Duration) -> bool {
    !lives && age >= boot_grace
}

/// Whether a registration is one that we made for that record's instance and thought to be gone with it.
pub(super) fn is_stray_registration(record: &InstanceRecord, scope: &Scope, runner: &Runner) -> bool {
    let closed = record.gone_at.is_some() && record.cleaned_at.is_some();
    closed && record.access.scope.agrees_with(scope) && record.runner_name == runner.name
}

/// Whether a registration that no record speaks of can be left of an instance of ours. Another deployment's runners have
/// instances that we do not see: those that live are online, and those of another prefix are not ours at all.
pub(super) fn may_be_left_of_ours(policy: &Policy, runner: &Runner) -> bool {
    let Some(id) = runner.name.instance_id() else { return false };
    let prefix = runner.name.as_str().strip_suffix(id.as_str());
    !runner.online && policy.fleets.iter().any(|fleet| prefix == Some(fleet.runner_name_prefix.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Access, FleetName, InstanceId, LaunchToken, RunnerId, RunnerName};

    const HOUR: i64 = 3_600_000;
    const MINUTE: i64 = 60_000;

    fn scope() -> Scope {
        Scope::Organization { owner: "octo".into() }
    }

    fn record(missing_since: Option<i64>, counted_at: Option<i64>, gone_at: Option<i64>) -> InstanceRecord {
        let mut record = InstanceRecord::launched(
            InstanceId::new("i-1"),
            Access { scope: scope(), installation_id: None },
            FleetName::new("linux"),
            LaunchToken::new("t"),
            RunnerName::new("runner-i-1"),
            Timestamp(0),
        );
        record.missing_since = missing_since.map(Timestamp);
        record.missing_counted_at = counted_at.map(Timestamp);
        record.gone_at = gone_at.map(Timestamp);
        record
    }

    #[test]
    fn gone_is_proved_by_two_listings_long_after_any_sighting_and_never_while_the_instance_is_young() {
        let now = Timestamp(HOUR + 10 * MINUTE);
        let at = |minutes: i64| Some(HOUR + minutes * MINUTE);
        for (case, record, begun_at, expected) in [
            ("young", record(None, None, None), Timestamp(HOUR - 1), Vanished::Leave),
            ("missing for the first time", record(None, None, None), now, Vanished::Note(Absence::Missing(now))),
            ("seen four minutes ago perhaps", record(at(6), None, None), now, Vanished::Leave),
            ("not seen for five", record(at(5), None, None), now, Vanished::Note(Absence::Counted(now))),
            ("counted four minutes ago", record(at(1), at(6), None), now, Vanished::Leave),
            ("counted five ago", record(at(0), at(5), None), now, Vanished::Note(Absence::ProvedGone(now))),
            ("gone", record(at(0), at(5), at(10)), now, Vanished::Gone),
        ] {
            assert_eq!(vanished(&record, begun_at, apart(1, 10)), expected, "{case}");
        }
    }

    #[test]
    fn a_listing_that_misses_most_proves_less() {
        assert_eq!((apart(5, 5), apart(6, 6), apart(6, 12)), (APART, APART_IN_MASS, APART));
        let record = record(Some(0), Some(HOUR), None);
        let now = Timestamp(HOUR + 29 * MINUTE);
        assert_eq!(vanished(&record, now, apart(40, 40)), Vanished::Leave);
        let now = Timestamp(HOUR + 30 * MINUTE);
        assert_eq!(vanished(&record, now, apart(40, 40)), Vanished::Note(Absence::ProvedGone(now)));
    }

    #[test]
    fn only_a_closed_record_of_the_same_scope_and_name_makes_a_registration_ours_to_remove() {
        let mut closed = record(None, None, Some(HOUR));
        closed.cleaned_at = Some(Timestamp(HOUR));
        let runner = |name: &str| Runner {
            id: RunnerId(7),
            name: RunnerName::new(name),
            online: false,
            busy: false,
            version: Some(None),
            ephemeral: Some(true),
        };
        let elsewhere = Scope::Organization { owner: "other".into() };
        for (case, record, scope, name, stray) in [
            ("ours and closed", &closed, scope(), "runner-i-1", true),
            ("still open", &record(None, None, Some(HOUR)), scope(), "runner-i-1", false),
            ("another scope", &closed, elsewhere, "runner-i-1", false),
            ("another prefix", &closed, scope(), "theirs-i-1", false),
        ] {
            assert_eq!(is_stray_registration(record, &scope, &runner(name)), stray, "{case}");
        }
    }

    #[test]
    fn a_configuration_is_a_stray_only_without_a_living_instance_and_after_the_boot_grace() {
        let grace = Duration::from_mins(15);
        for (lives, age, stray) in [(true, 60, false), (false, 14, false), (false, 15, true)] {
            assert_eq!(is_stray_configuration(lives, Duration::from_mins(age), grace), stray, "{lives} {age}");
        }
    }
}
