//! What we remember of launches: one record per attempt, and each fleet's reservations.

use serde::{Deserialize, Serialize};

use super::{Record, closed_until};
use crate::config::{LaunchTemplate, Market};
use crate::ids::{Access, FleetName, InstanceId, JobId, LaunchToken};
use crate::ports::{Kind, OpenPartition, Tags};
use crate::time::Timestamp;

/// One launch attempt, written **before** CreateFleet. Holds all that the call needs, so that whoever repeats it sends
/// the very same request although the configuration may have changed since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchRecord {
    /// Client token of this attempt.
    pub token: LaunchToken,
    /// Attempt number: a new one needs a new token.
    pub epoch: u32,
    /// Its fleet.
    pub fleet: FleetName,
    /// Where its runners register.
    pub access: Access,
    /// Jobs it was made for.
    pub job_ids: Vec<JobId>,
    /// Instances asked for.
    pub count: u32,
    /// Spot or on-demand.
    pub market: Market,
    /// Launch template.
    pub template: LaunchTemplate,
    /// Overrides.
    pub instance_types: Vec<String>,
    /// Overrides.
    pub subnet_ids: Vec<String>,
    /// Tags of the instances.
    pub tags: Tags,
    /// When it was decided.
    pub at: Timestamp,
    /// EC2's answer, once there is one; possibly fewer instances than asked for, possibly none.
    pub instance_ids: Option<Vec<InstanceId>>,
    /// When the answer came.
    pub answered_at: Option<Timestamp>,
}

impl Record for LaunchRecord {
    const KIND: Kind = Kind::Launch;
    const SCHEMA: u32 = 1;

    fn id(&self) -> String {
        self.token.to_string()
    }

    fn open(&self) -> Option<(OpenPartition, Timestamp)> {
        None
    }

    /// Its jobs' records point to it; it is forgotten some days after them. EC2 keeps a client token for at least 24 h
    /// after the instance's end (facts/world.md E2).
    fn expires_at(&self) -> Option<Timestamp> {
        self.answered_at.map(closed_until)
    }
}

/// Instances that were asked for and that a listing may not show yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// The launch.
    pub token: LaunchToken,
    /// Instances asked for; after the answer, instances that came.
    pub count: u32,
    /// When it was made.
    pub at: Timestamp,
    /// When EC2 answered; it lapses 10 min later.
    pub answered_at: Option<Timestamp>,
}

/// A fleet's reservations; its compare-and-swap is what holds the cap under concurrent invocations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetRecord {
    /// The fleet.
    pub fleet: FleetName,
    /// Launches in flight.
    pub reservations: Vec<Reservation>,
}

impl Record for FleetRecord {
    const KIND: Kind = Kind::Fleet;
    const SCHEMA: u32 = 1;

    fn id(&self) -> String {
        self.fleet.to_string()
    }

    fn open(&self) -> Option<(OpenPartition, Timestamp)> {
        None
    }

    fn expires_at(&self) -> Option<Timestamp> {
        None
    }
}
