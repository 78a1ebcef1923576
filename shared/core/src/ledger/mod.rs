//! Our memory of events and intents (design section 4): typed records over the [`Ledger`] port.
//!
//! The ledger is never believed over EC2, GitHub or the instance, and the system recovers when it is empty: a record
//! rebuilt from EC2 carries [`Origin::Rebuilt`], and a field missing on it is *unread*, never *absent*.

#[cfg(test)]
mod binding_tests;
mod breaker;
mod cursor;
mod instance;
mod job;
mod launch;
mod miss;
mod offering;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Class, Classify, PortError};
use crate::ids::FleetName;
use crate::ports::{Body, Expect, Item, Key, Kind, Ledger, OpenPartition, Write};
use crate::time::Timestamp;

pub use breaker::{AbsenceBreaker, BackPressure, LaunchLeave, Pace, RegistrationBreaker};
pub use cursor::{
    DeliveryCursor, LogReading, PassCursor, PoolCursor, PoolLaunching, RedeliveryCursor, SearchCursor, SearchedOwner,
    SeenScope, Served, UnsettledDelivery,
};
pub use instance::{
    CompletionClaim, DeregistrationOutcome, Elsewhere, InstanceRecord, JobCompleted, JobStarted, Known, Origin,
    OrphanEvent, RemovalIntent, Spell,
};
pub use job::{JobPhase, JobRecord};
pub use launch::{Fallback, FleetRecord, LaunchRecord, Reservation};
pub use miss::MissRecord;
pub use offering::{AVOIDED_FOR, OfferingRecord};

/// A kind of record.
pub trait Record: Clone + Send + Sync + Serialize + DeserializeOwned + 'static {
    /// Its kind.
    const KIND: Kind;
    /// Schema that this code writes and the only one it reads.
    const SCHEMA: u32;

    /// Its id within its kind.
    fn id(&self) -> String;

    /// Its place in the sparse index, while somebody has to look at it.
    fn open(&self) -> Option<(OpenPartition, Timestamp)>;

    /// When DynamoDB may forget it: a week after it was closed, or after nobody can need it any more although nobody
    /// closed it. Never, where somebody is sure to look at it again.
    fn expires_at(&self) -> Option<Timestamp>;

    /// Key of the record with that id.
    fn key(id: impl Into<String>) -> Key {
        Key { kind: Self::KIND, id: id.into() }
    }
}

/// A record with the version it was read at; the only thing that can be written back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned<R> {
    /// The record, to be changed and written.
    pub record: R,
    expect: Seen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Absent,
    Version(u64),
}

/// What the ledger holds under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored<R> {
    /// No such record.
    Absent,
    /// The record.
    Present(Versioned<R>),
    /// A record of another schema version or shape, written by a newer or older function: left alone.
    Foreign,
}

impl<R: Record> Versioned<R> {
    /// A record that must not exist yet.
    #[must_use]
    pub fn new(record: R) -> Self {
        Self { record, expect: Seen::Absent }
    }

    /// Reads an item; `Err` when its schema or shape is not ours.
    fn from_item(item: Item) -> Result<Self, Key> {
        if item.schema != R::SCHEMA {
            return Err(item.key);
        }
        match item.body.parse() {
            Ok(record) => Ok(Self { record, expect: Seen::Version(item.version) }),
            Err(_) => Err(item.key),
        }
    }

    /// The conditional write that stores this record as it is now.
    ///
    /// # Panics
    /// Never: records are plain structs with text keys.
    #[must_use]
    pub fn write(&self) -> Write {
        let (version, expect) = match self.expect {
            Seen::Absent => (1, Expect::Absent),
            Seen::Version(version) => (version + 1, Expect::Version(version)),
        };
        Write {
            item: Item {
                key: R::key(self.record.id()),
                version,
                schema: R::SCHEMA,
                body: Body::new(serde_json::to_string(&self.record).expect("records are plain structs with text keys")),
                open: self.record.open(),
                expires_at: self.record.expires_at(),
            },
            expect,
        }
    }

    /// The record as it lies in the ledger after [`Self::write`] succeeded.
    #[must_use]
    pub fn written(mut self) -> Self {
        self.expect = match self.expect {
            Seen::Absent => Seen::Version(1),
            Seen::Version(version) => Seen::Version(version + 1),
        };
        self
    }
}

/// Reads one record, consistently.
pub async fn load<R: Record>(ledger: &impl Ledger, id: impl Into<String>) -> Result<Stored<R>, PortError> {
    let key = R::key(id);
    let item = ledger.read(std::slice::from_ref(&key)).await?.into_iter().find(|item| item.key == key);
    Ok(match item.map(Versioned::from_item) {
        None => Stored::Absent,
        Some(Ok(record)) => Stored::Present(record),
        Some(Err(_)) => Stored::Foreign,
    })
}

/// Reads records by id, consistently: pairs of id and what is stored, in the order asked for.
pub async fn load_all<R: Record>(
    ledger: &impl Ledger,
    ids: impl IntoIterator<Item = String>,
) -> Result<Vec<(String, Stored<R>)>, PortError> {
    let keys: Vec<Key> = ids.into_iter().map(R::key).collect();
    let mut items: std::collections::BTreeMap<Key, Item> =
        ledger.read(&keys).await?.into_iter().map(|item| (item.key.clone(), item)).collect();
    Ok(keys
        .into_iter()
        .map(|key| {
            let stored = match items.remove(&key).map(Versioned::from_item) {
                None => Stored::Absent,
                Some(Ok(record)) => Stored::Present(record),
                Some(Err(_)) => Stored::Foreign,
            };
            (key.id, stored)
        })
        .collect())
}

/// Writes one record. `record` is advanced only after the write succeeded, so that memory never runs ahead of the
/// ledger (incident Semaphore 3964).
pub async fn store<R: Record>(ledger: &impl Ledger, record: Versioned<R>) -> Result<Versioned<R>, PortError> {
    ledger.write(&[record.write()]).await?;
    Ok(record.written())
}

/// How often a lost compare-and-swap is tried again inside one invocation. More, and two writers may fight for a whole
/// invocation; fewer, and a burst of events for one job fails deliveries that GitHub never sends again by itself.
const CONFLICTS_MAX: usize = 5;

/// Reads, changes and writes one record until no other writer came in between.
///
/// `change` gets what is stored and answers with the record to write, or `None` to leave things as they are. It may be
/// called several times and must decide from its argument alone.
pub async fn update<R: Record>(
    ledger: &impl Ledger,
    id: &str,
    mut change: impl FnMut(Stored<R>) -> Option<Versioned<R>>,
) -> Result<Option<Versioned<R>>, PortError> {
    let mut conflict = None;
    for _ in 0..CONFLICTS_MAX {
        let Some(changed) = change(load::<R>(ledger, id).await?) else { return Ok(None) };
        match store(ledger, changed).await {
            Ok(record) => return Ok(Some(record)),
            Err(error) if error.class() == Class::Conflict => conflict = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(conflict.unwrap_or_else(|| PortError::new(format!("update {id}"), Class::Conflict, "kept changing")))
}

/// As [`update`], from what was read or written a moment ago. Where somebody wrote since, the write is refused and the
/// record read anew; where `change` leaves things as they are, nobody notices, so that must be right for what was read.
pub async fn update_known<R: Record>(
    ledger: &impl Ledger,
    id: &str,
    stored: Stored<R>,
    mut change: impl FnMut(Stored<R>) -> Option<Versioned<R>>,
) -> Result<Option<Versioned<R>>, PortError> {
    let Some(changed) = change(stored) else { return Ok(None) };
    match store(ledger, changed).await {
        Ok(record) => Ok(Some(record)),
        Err(error) if error.class() == Class::Conflict => update(ledger, id, change).await,
        Err(error) => Err(error),
    }
}

/// Records that an index query showed, read anew.
#[derive(Clone, Debug)]
pub struct Open<R> {
    /// Those that are still open.
    pub records: Vec<Versioned<R>>,
    /// Whether there may be more beyond the limit.
    pub cut: bool,
    /// Whether some were left out because of their schema.
    pub foreign: bool,
}

/// Reads the records that an index query showed, anew and consistently: the index lags behind the table.
pub async fn open<R: Record>(
    ledger: &impl Ledger,
    partition: &OpenPartition,
    until: Timestamp,
    limit: usize,
) -> Result<Open<R>, PortError> {
    let shown = ledger.open(partition, until, limit).await?;
    let mut open = Open { records: Vec::new(), cut: shown.len() >= limit, foreign: false };
    for (_, stored) in load_all::<R>(ledger, shown.into_iter().map(|item| item.key.id)).await? {
        match stored {
            Stored::Present(record) if record.record.open().is_some() => open.records.push(record),
            Stored::Present(_) | Stored::Absent => {}
            Stored::Foreign => open.foreign = true,
        }
    }
    Ok(open)
}

/// Fleets read from the index. More than this were never configured; each costs one query a pass.
const FLEETS_READ_MAX: usize = 500;

/// Every fleet that ever had a job, configured or not. The index's keys name them, whatever the records' schema.
pub(crate) async fn fleet_names(ledger: &impl Ledger) -> Result<Vec<FleetName>, PortError> {
    let shown = ledger.open(&OpenPartition::Fleets, Timestamp(0), FLEETS_READ_MAX).await?;
    if shown.len() >= FLEETS_READ_MAX {
        let detail = format!("{FLEETS_READ_MAX} fleets or more; delete the records of fleets that are no more");
        return Err(PortError::new("list fleets", Class::Misconfigured, detail));
    }
    Ok(shown.into_iter().map(|item| FleetName::new(item.key.id)).collect())
}

/// TTL of a closed record: 7 days after it was closed (design section 4).
pub(crate) fn closed_until(closed_at: Timestamp) -> Timestamp {
    closed_at.plus(std::time::Duration::from_hours(7 * 24))
}
