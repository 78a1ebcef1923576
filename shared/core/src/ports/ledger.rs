//! DynamoDB, one table: items with a version, written only by compare-and-swap.

use std::any::Any;
use std::sync::{Arc, OnceLock};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::PortError;
use crate::ids::FleetName;
use crate::time::Timestamp;

/// Kind of a record; the table's partition key is `<kind>#<id>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// One EC2 instance.
    Instance,
    /// One launch attempt.
    Launch,
    /// One `workflow_job`.
    Job,
    /// Reservations of one fleet.
    Fleet,
    /// An event that found no instance record yet.
    OrphanEvent,
    /// How far a repeated task has come.
    Cursor,
    /// A reason to leave somebody alone for a while.
    Breaker,
    /// An instance type in a subnet that EC2 had none of.
    Offering,
    /// A job that no fleet takes.
    Miss,
}

impl Kind {
    /// As written in the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Instance => "instance",
            Self::Launch => "launch",
            Self::Job => "job",
            Self::Fleet => "fleet",
            Self::OrphanEvent => "orphan-event",
            Self::Cursor => "cursor",
            Self::Breaker => "breaker",
            Self::Offering => "offering",
            Self::Miss => "miss",
        }
    }
}

/// Primary key of a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its kind.
    pub kind: Kind,
    /// Its id within the kind.
    pub id: String,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}#{}", self.kind.as_str(), self.id)
    }
}

/// A partition of the sparse index `open`: records that somebody still has to look at, by time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OpenPartition {
    /// Instance records that are not closed, by launch time.
    Instances,
    /// Jobs of a fleet that are neither started nor ended, by their next look.
    Jobs(FleetName),
    /// Fleets that ever had a job, at time 0: a fleet that left the configuration may still have jobs that wait.
    Fleets,
}

impl std::fmt::Display for OpenPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Instances => f.write_str("instance"),
            Self::Jobs(fleet) => write!(f, "job#{fleet}"),
            Self::Fleets => f.write_str("fleet"),
        }
    }
}

/// A record's fields, as the JSON text that lies in the table. Shared, and read once: whoever holds the same body again
/// (a table in memory hands it to every reader) neither copies nor reads the text again.
#[derive(Clone, Debug)]
pub struct Body(Arc<Fields>);

#[derive(Debug)]
struct Fields {
    text: String,
    read: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl Body {
    /// That text, whatever it says.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Arc::new(Fields { text: text.into(), read: OnceLock::new() }))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// What the text says, where it is JSON of that shape.
    pub fn parse<T>(&self) -> Result<T, serde_json::Error>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        if let Some(read) = self.0.read.get().and_then(|read| read.downcast_ref::<T>()) {
            return Ok(read.clone());
        }
        let read: T = serde_json::from_str(&self.0.text)?;
        // Who came first stays; another reader may want another type of it.
        let _kept = self.0.read.set(Box::new(read.clone()));
        Ok(read)
    }
}

impl PartialEq for Body {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl From<Value> for Body {
    fn from(fields: Value) -> Self {
        Self::new(fields.to_string())
    }
}

/// A record as it lies in the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Its key.
    pub key: Key,
    /// Grows by one with every write.
    pub version: u64,
    /// Schema of the body; a reader leaves schemas alone that it does not know.
    pub schema: u32,
    /// The record.
    pub body: Body,
    /// Place in the sparse index, while there is one.
    pub open: Option<(OpenPartition, Timestamp)>,
    /// DynamoDB's TTL, on closed records only. It may live up to 48 h longer; a reader treats it as present until it
    /// is deleted.
    pub expires_at: Option<Timestamp>,
}

/// What must hold for a write to take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// No item has this key.
    Absent,
    /// The item has this version.
    Version(u64),
}

/// One conditional write; `item.version` is the new version.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// The item as it shall be.
    pub item: Item,
    /// Condition on what is there now.
    pub expect: Expect,
}

/// The ledger.
pub trait Ledger {
    /// Reads items by key, consistently, in any number; those that do not exist are left out. An error is an error of
    /// the whole.
    async fn read(&self, keys: &[Key]) -> Result<Vec<Item>, PortError>;

    /// Writes all or nothing; at most 100 items. Class `Conflict` when a condition does not hold,
    /// `OutcomeUnknown` when it may have taken effect.
    async fn write(&self, writes: &[Write]) -> Result<(), PortError>;

    /// Items of a partition of the sparse index whose time is not after `until`, earliest first, at most `limit`.
    /// The index lags behind the table: what it leaves out may exist, what it shows must be read again before a write.
    async fn open(&self, partition: &OpenPartition, until: Timestamp, limit: usize) -> Result<Vec<Item>, PortError>;
}
