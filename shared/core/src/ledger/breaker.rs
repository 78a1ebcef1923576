//! Reasons to leave an owner alone for a while, remembered across invocations so that all functions agree.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Record;
use crate::ids::{FleetName, RunnerId, Scope};
use crate::ports::{Kind, OpenPartition};
use crate::time::Timestamp;

/// GitHub asked for patience: until then nobody calls it for that owner (checklists.md, "GitHub client").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackPressure {
    /// Whose calls wait: an owner's login, or [`Self::APP`] for those that the App makes in its own name.
    pub owner: String,
    /// Until when.
    pub until: Timestamp,
}

impl BackPressure {
    /// Stands for the App's own calls; no login at GitHub holds a space.
    pub const APP: &'static str = "the app";

    /// Id of the record of that owner; logins ignore case.
    #[must_use]
    pub fn id_of(owner: &str) -> String {
        format!("github#{}", owner.to_ascii_lowercase())
    }
}

impl Record for BackPressure {
    const KIND: Kind = Kind::Breaker;
    const SCHEMA: u32 = 1;

    fn id(&self) -> String {
        Self::id_of(&self.owner)
    }

    fn open(&self) -> Option<(OpenPartition, Timestamp)> {
        None
    }

    /// Once it is over it says nothing; a day is kept for people who ask what happened.
    fn expires_at(&self) -> Option<Timestamp> {
        Some(self.until.plus(Duration::from_hours(24)))
    }
}

/// How much of GitHub's budget of a minute the functions have taken together for one owner (design section 6): whoever
/// wants to change something takes points here first, some at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// Whose budget; as in [`BackPressure::owner`].
    pub owner: String,
    /// When nothing is taken any more, if nobody takes more: points come back one after the other.
    pub full_at: Timestamp,
    /// Until when points come back half as fast, because GitHub refused a call although we kept the pace.
    pub slow_until: Option<Timestamp>,
}

impl Pace {
    /// Id of the record of that owner; logins ignore case.
    #[must_use]
    pub fn id_of(owner: &str) -> String {
        format!("pace#{}", owner.to_ascii_lowercase())
    }
}

impl Record for Pace {
    const KIND: Kind = Kind::Breaker;
    const SCHEMA: u32 = 1;

    fn id(&self) -> String {
        Self::id_of(&self.owner)
    }

    fn open(&self) -> Option<(OpenPartition, Timestamp)> {
        None
    }

    /// Once all points are back it says nothing.
    fn expires_at(&self) -> Option<Timestamp> {
        Some(self.full_at.max(self.slow_until.unwrap_or(self.full_at)).plus(Duration::from_hours(24)))
    }
}

/// A scope's list missed more of our runners than can be true: absences there prove nothing until the breaker closes
/// (design section 5, "Positive control").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbsenceBreaker {
    /// The scope.
    pub scope: Scope,
    /// The runners that the first of the agreeing lists missed.
    pub missing: BTreeSet<RunnerId>,
    /// When that list was read.
    pub agreeing_since: Timestamp,
    /// Lists that agreed, that one included.
    pub agreeing_count: u32,
    /// When the last of them was read.
    pub agreed_at: Timestamp,
}

impl AbsenceBreaker {
    /// Id of the record of that scope.
    #[must_use]
    pub fn id_of(scope: &Scope) -> String {
        format!("absence#{}", scope.to_string().to_ascii_lowercase())
    }
}

impl Record for AbsenceBreaker {
    const KIND: Kind = Kind::Breaker;
    const SCHEMA: u32 = 1;

    fn id(&self) -> String {
        Self::id_of(&self.scope)
    }

    fn open(&self) -> Option<(OpenPartition, Timestamp)> {
        None
    }

    /// Renewed by every list that still agrees; what nobody renewed for a day is out of date.
    fn expires_at(&self) -> Option<Timestamp> {
        Some(self.agreed_at.plus(Duration::from_hours(24)))
    }
}

/// GitHub refused to register a fleet's runners in a scope, in words that asking again does not change: nothing is
/// launched for it there for a while, and then for one job alone. Of the fleet as well as of the scope, because its
/// runner group and its labels are a part of what is refused: the owner's other fleets go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrationBreaker {
    /// The scope.
    pub scope: Scope,
    /// The fleet.
    pub fleet: FleetName,
    /// Refusals in a row, those of one burst counted once; 0 once a runner could be registered again.
    pub refused_count: u32,
    /// When the last of them was counted.
    pub refused_at: Timestamp,
    /// Until when nothing is launched.
    pub until: Timestamp,
}

/// What may be launched where registrations may be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaunchLeave {
    /// All that is needed.
    AsNeeded,
    /// One instance, to see whether GitHub still refuses.
    OneToTry,
    /// Nothing before.
    NotBefore(Timestamp),
}

/// After the first refusal, and how long one attempt is waited for: refusals within it are of one burst. Longer, and a
/// moment's 404 of GitHub's holds up an owner's jobs; shorter, and the launches of one burst count as many.
const REFUSED_FIRST: Duration = Duration::from_secs(30);

/// After many refusals. Longer, and an owner whose fault was mended, or GitHub's own, waits although nothing is wrong any
/// more: a job must start within 15 min of that, and its boot and a pass that finds it are still to come; shorter, and
/// what is refused for days costs an instance all the more often.
const REFUSED_MOST: Duration = Duration::from_mins(4);

impl RegistrationBreaker {
    /// One that never opened.
    #[must_use]
    pub fn new(fleet: FleetName, scope: Scope) -> Self {
        Self { scope, fleet, refused_count: 0, refused_at: Timestamp(0), until: Timestamp(0) }
    }

    /// Id of the record of that fleet and scope.
    #[must_use]
    pub fn id_of(fleet: &FleetName, scope: &Scope) -> String {
        format!("registration#{}#{fleet}", scope.to_string().to_ascii_lowercase())
    }

    /// What may be launched now.
    #[must_use]
    pub fn leave(&self, now: Timestamp) -> LaunchLeave {
        match self.refused_count {
            0 => LaunchLeave::AsNeeded,
            1.. if now < self.until => LaunchLeave::NotBefore(self.until),
            1.. => LaunchLeave::OneToTry,
        }
    }

    /// Takes in a refusal: each in a row doubles the distance to the next attempt. Returns whether that is news.
    pub fn note_refused(&mut self, now: Timestamp) -> bool {
        let news = self.refused_count == 0 || now.since(self.refused_at) >= REFUSED_FIRST;
        if news {
            self.refused_count = self.refused_count.saturating_add(1);
            self.refused_at = now;
            let doubled = REFUSED_FIRST * (1 << (self.refused_count - 1).min(8));
            self.until = now.plus(doubled.min(REFUSED_MOST));
        }
        news
    }

    /// Takes in that one instance is launched to try: until it was answered nobody else tries.
    pub fn note_try(&mut self, now: Timestamp) {
        self.until = now.plus(REFUSED_FIRST);
    }

    /// Takes in that a runner was registered; returns whether that is news.
    pub fn note_registered(&mut self) -> bool {
        std::mem::take(&mut self.refused_count) > 0
    }
}

impl Record for RegistrationBreaker {
    const KIND: Kind = Kind::Breaker;
    const SCHEMA: u32 = 1;

    fn id(&self) -> String {
        Self::id_of(&self.fleet, &self.scope)
    }

    fn open(&self) -> Option<(OpenPartition, Timestamp)> {
        None
    }

    /// Renewed by every refusal; what nobody asked for in a day is out of date.
    fn expires_at(&self) -> Option<Timestamp> {
        Some(self.until.plus(Duration::from_hours(24)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_176_000_000);

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn refusals_in_a_row_open_it_for_longer_and_longer_and_a_registration_closes_it() {
        let mut breaker = RegistrationBreaker::new(FleetName::new("linux"), Scope::Organization { owner: "o".into() });
        assert_eq!(breaker.leave(NOW), LaunchLeave::AsNeeded);
        let mut now = NOW;
        for open in [30, 60, 120, 240, 240, 240] {
            assert!(breaker.note_refused(now));
            assert!(!breaker.note_refused(now.plus(seconds(29))), "the refusals of one burst are one");
            let until = now.plus(seconds(open));
            assert_eq!(breaker.leave(until.minus(seconds(1))), LaunchLeave::NotBefore(until));
            assert_eq!(breaker.leave(until), LaunchLeave::OneToTry);
            breaker.note_try(until);
            assert_eq!(breaker.leave(until), LaunchLeave::NotBefore(until.plus(seconds(30))), "another tries");
            assert_eq!(breaker.leave(until.plus(seconds(30))), LaunchLeave::OneToTry, "and was never heard of");
            now = until;
        }
        assert!(breaker.note_registered());
        assert!(!breaker.note_registered());
        assert_eq!(breaker.leave(now), LaunchLeave::AsNeeded);
        assert!(breaker.note_refused(now), "it begins anew");
        assert_eq!(breaker.leave(now), LaunchLeave::NotBefore(now.plus(seconds(30))));
    }
}
