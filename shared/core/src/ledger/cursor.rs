//! How far repeated tasks have come, so that what was cut short is gone on with.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Record;
use crate::ids::{Access, DeliveryGuid, FleetName, InstallationId, InstanceId, LaunchToken, Repository};
use crate::ports::{Installation, Kind, LogPlace, OpenPartition};
use crate::time::Timestamp;

/// Where the last pass of a function was cut short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassCursor {
    /// The function.
    pub function: String,
    /// The last instance that a pass came to before its deadline or one of its caps; the next begins after it. `None`
    /// after a whole pass.
    pub after: Option<InstanceId>,
    /// The same among those past their hard age, which come first and get half of the time.
    #[serde(default)]
    pub oldest_after: Option<InstanceId>,
    /// When JIT configurations without an instance were last looked for.
    pub strays_at: Option<Timestamp>,
    /// The last record without a listed instance that a pass cut short came to.
    #[serde(default)]
    pub unlisted_after: Option<InstanceId>,
    /// When the last pass that came to its end and met no error ended.
    pub whole_at: Option<Timestamp>,
    /// Where runners of ours were registered, and when that was last seen: a registration may outlive the last instance
    /// of its scope.
    #[serde(default)]
    pub scopes: Vec<SeenScope>,
}

/// A scope under which runners of ours were registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenScope {
    /// The scope, and the installation that reaches it.
    pub access: Access,
    /// When an instance was last registered there.
    pub seen_at: Timestamp,
    /// When registrations without an instance were last looked for there.
    pub swept_at: Option<Timestamp>,
}

/// How long a scope is looked at after its last instance: GitHub removes an ephemeral registration that was not
/// connected for a day (facts/github.md 2.1).
const SCOPE_KEPT: Duration = Duration::from_hours(48);

/// Scopes remembered, the last seen ones. More, and repositories by the thousand that register by themselves would cost
/// a list each every quarter of an hour.
const SCOPES_MAX: usize = 100;

impl PassCursor {
    /// A function that never ran.
    #[must_use]
    pub fn new(function: impl Into<String>) -> Self {
        Self {
            function: function.into(),
            after: None,
            oldest_after: None,
            strays_at: None,
            unlisted_after: None,
            whole_at: None,
            scopes: Vec::new(),
        }
    }

    /// Remembers where runners are registered now, and forgets where none was for long.
    pub fn note_accesses(&mut self, seen: impl IntoIterator<Item = Access>, now: Timestamp) {
        for access in seen {
            match self.scopes.iter_mut().find(|known| known.access == access) {
                Some(known) => known.seen_at = now,
                None => self.scopes.push(SeenScope { access, seen_at: now, swept_at: None }),
            }
        }
        self.scopes.retain(|scope| now.since(scope.seen_at) < SCOPE_KEPT);
        if self.scopes.len() > SCOPES_MAX {
            self.scopes.sort_by_key(|scope| std::cmp::Reverse(scope.seen_at));
            self.scopes.truncate(SCOPES_MAX);
        }
    }
}

impl Record for PassCursor {
    const KIND: Kind = Kind::Cursor;
    const SCHEMA: u32 = 1;

    fn id(&self) -> String {
        self.function.clone()
    }

    fn open(&self) -> Option<(OpenPartition, Timestamp)> {
        None
    }

    /// Never: it is one small item a function.
    fn expires_at(&self) -> Option<Timestamp> {
        None
    }
}

/// A failed delivery whose payload is not in the ledger yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnsettledDelivery {
    /// The attempt whose payload is to be read.
    pub id: u64,
    /// When it was sent.
    pub delivered_at: Timestamp,
    /// Since when its payload cannot be read.
    pub unread_since: Option<Timestamp>,
    /// The instances that its payload names, once it was read and not applied; `None` while it was not read, so that it
    /// may concern any.
    pub concerns: Option<BTreeSet<InstanceId>>,
    /// The installation whose event it is; `None` where GitHub's log did not say, so that it may be anybody's.
    #[serde(default)]
    pub installation_id: Option<InstallationId>,
}

/// A reading of the log that has not come to its end yet: from the newest delivery down, for that is how GitHub shows
/// them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogReading {
    /// When it was begun: what was sent later, the next one reads.
    pub begun_at: Timestamp,
    /// Down to where it goes.
    pub since: Timestamp,
    /// Where it goes on; `None` before its first page.
    pub next: Option<LogPlace>,
}

/// How far GitHub's log of failed deliveries was read and applied to the ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryCursor {
    /// Every failed delivery that was sent before is applied or listed below; `None` before the first reading.
    pub read_until: Option<Timestamp>,
    /// Applied ones that the next reading shows again, by when they were sent.
    pub applied: BTreeMap<DeliveryGuid, Timestamp>,
    /// Those that are not.
    pub unsettled: BTreeMap<DeliveryGuid, UnsettledDelivery>,
    /// Instances of ours that a payload names which can never be applied, and when the last such was sent.
    pub refused: BTreeMap<InstanceId, Timestamp>,
    /// Since when the log cannot be read.
    pub unreadable_since: Option<Timestamp>,
    /// Since when no payload can be read, though some are to be.
    pub payloads_unread_since: Option<Timestamp>,
    /// The reading that a pass before did not bring to its end.
    #[serde(default)]
    pub reading: Option<LogReading>,
    /// Whose the installations are that unread deliveries are of: logins as GitHub writes them.
    #[serde(default)]
    pub owners: BTreeMap<InstallationId, String>,
}

impl DeliveryCursor {
    /// The one record's id.
    pub const ID: &'static str = "deliveries";

    /// Whether all that GitHub's log holds is in the ledger, or known to be about certain instances.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let read = self.read_until.is_some() && self.unreadable_since.is_none() && self.reading.is_none();
        read && self.unsettled.values().all(|delivery| delivery.concerns.is_some())
    }
}

impl Record for DeliveryCursor {
    const KIND: Kind = Kind::Cursor;
    const SCHEMA: u32 = 1;

    fn id(&self) -> String {
        Self::ID.to_owned()
    }

    fn open(&self) -> Option<(OpenPartition, Timestamp)> {
        None
    }

    /// Never: it is one item.
    fn expires_at(&self) -> Option<Timestamp> {
        None
    }
}

/// How far the search for queued jobs has come, owner by owner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchCursor {
    /// When the App's installations were last listed.
    pub listed_at: Option<Timestamp>,
    /// The pass that searches now holds the search until then; nobody else begins.
    pub lease_until: Option<Timestamp>,
    /// By login in lower case.
    pub owners: BTreeMap<String, SearchedOwner>,
}

/// The search of one owner's repositories. One goes over all of them, in as many passes as it needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchedOwner {
    /// The App's installation there.
    pub installation: Installation,
    /// When the last search began; `None` before the first.
    pub begun_at: Option<Timestamp>,
    /// The last repository that a search cut short came to; it goes on after it.
    pub after: Option<Repository>,
    /// When a pass last came to this owner.
    pub seen_at: Option<Timestamp>,
    /// When the last search ended that came to every repository and met no error.
    pub whole_at: Option<Timestamp>,
    /// When GitHub first named this owner; `None` where a version before this field wrote the record.
    #[serde(default)]
    pub known_since: Option<Timestamp>,
    /// Whether the search under way met an error.
    pub failed: bool,
    /// Repositories that are served, and the only one where there is one.
    pub served: Served,
    /// Begin of the hour in which requests are counted.
    pub counted_since: Timestamp,
    /// Requests that GitHub charged the owner's budget with in that hour.
    pub charged: u32,
}

/// How many repositories of an owner are served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Served {
    /// None, or nobody has looked yet.
    #[default]
    None,
    /// This one.
    One(Repository),
    /// More.
    Several,
}

impl SearchCursor {
    /// The one record's id.
    pub const ID: &'static str = "job-search";
}

impl Record for SearchCursor {
    const KIND: Kind = Kind::Cursor;
    const SCHEMA: u32 = 1;

    fn id(&self) -> String {
        Self::ID.to_owned()
    }

    fn open(&self) -> Option<(OpenPartition, Timestamp)> {
        None
    }

    /// Never: it is one item.
    fn expires_at(&self) -> Option<Timestamp> {
        None
    }
}

/// Which failed deliveries GitHub was asked to make once more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedeliveryCursor {
    /// Every failed delivery that was sent before was seen; `None` before the first reading.
    pub read_until: Option<Timestamp>,
    /// Those that were asked for, or are about to be, and when an attempt of each was last seen or asked for.
    pub asked: BTreeMap<DeliveryGuid, Timestamp>,
}

impl RedeliveryCursor {
    /// The one record's id.
    pub const ID: &'static str = "redeliveries";
}

impl Record for RedeliveryCursor {
    const KIND: Kind = Kind::Cursor;
    const SCHEMA: u32 = 1;

    fn id(&self) -> String {
        Self::ID.to_owned()
    }

    fn open(&self) -> Option<(OpenPartition, Timestamp)> {
        None
    }

    /// Never: it is one item.
    fn expires_at(&self) -> Option<Timestamp> {
        None
    }
}

/// The launch that fills a fleet's pool, while there is one: a launch without jobs, which no job's record points to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolCursor {
    /// The fleet.
    pub fleet: FleetName,
    /// Launches so far; part of the next one's token.
    pub launch_count: u32,
    /// The launch that is to be gone on with, and until when the pass that does holds it.
    pub launching: Option<PoolLaunching>,
    /// Nothing is launched before: the last launch came to less than was asked for.
    pub next_look: Timestamp,
}

/// A pool's launch that is not over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolLaunching {
    /// The launch.
    pub token: LaunchToken,
    /// Until then nobody else takes it up.
    pub lease_until: Timestamp,
}

impl PoolCursor {
    /// A fleet whose pool was never filled.
    #[must_use]
    pub fn new(fleet: FleetName) -> Self {
        Self { fleet, launch_count: 0, launching: None, next_look: Timestamp(0) }
    }

    /// Id of the record of that fleet.
    #[must_use]
    pub fn id_of(fleet: &FleetName) -> String {
        format!("pool#{fleet}")
    }
}

impl Record for PoolCursor {
    const KIND: Kind = Kind::Cursor;
    const SCHEMA: u32 = 1;

    fn id(&self) -> String {
        Self::id_of(&self.fleet)
    }

    fn open(&self) -> Option<(OpenPartition, Timestamp)> {
        None
    }

    /// Never: it is one small item a fleet.
    fn expires_at(&self) -> Option<Timestamp> {
        None
    }
}
