//! Reasons to leave an owner alone for a while, remembered across invocations so that all functions agree.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Record;
use crate::ids::{RunnerId, Scope};
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
