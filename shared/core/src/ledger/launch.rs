//! What we remember of launches: one record per attempt, and each fleet's reservations.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Record, closed_until};
use crate::config::{LaunchTemplate, Market};
use crate::ids::{Access, FleetName, InstanceId, JobId, LaunchToken};
use crate::ports::{Kind, Offering, OpenPartition, Tags};
use crate::time::Timestamp;

/// A launch that was never answered counts as over this long after it was decided: its jobs' leases were taken up many
/// times by then. Shorter, and a launch could be forgotten while somebody may yet repeat it.
const UNANSWERED_OVER: Duration = Duration::from_hours(24);

/// One launch attempt, written **before** CreateFleet. Holds all that the call needs, so that whoever repeats it sends
/// the very same request although the configuration may have changed since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchRecord {
    /// Its id, and the value of the tag `ghr:launch` of whatever it launches, in any epoch.
    pub token: LaunchToken,
    /// Number of the request that it stands for by now: each has a client token of its own.
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
    /// What may be launched.
    pub offerings: Vec<Offering>,
    /// What the next epoch asks for, where EC2 has nothing for this one.
    pub fallback: Option<Fallback>,
    /// Labels that its runners register with: the fleet's, and those of the overrides that the jobs ask for.
    pub labels: Vec<String>,
    /// Tags of the instances.
    pub tags: Tags,
    /// When this epoch was decided.
    pub at: Timestamp,
    /// EC2's answer, once there is one; possibly fewer instances than asked for, possibly none.
    pub instance_ids: Option<Vec<InstanceId>>,
    /// When the answer came.
    pub answered_at: Option<Timestamp>,
}

/// Another request for the same jobs, decided with the first: whoever goes on with the launch makes the very same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fallback {
    /// Its market.
    pub market: Market,
    /// What may be launched there.
    pub offerings: Vec<Offering>,
}

impl LaunchRecord {
    /// The launch as its next epoch: another request under another client token, for the same jobs. `None` where there
    /// is none, or this one has instances.
    #[must_use]
    pub fn next_epoch(&self, now: Timestamp) -> Option<Self> {
        match (&self.instance_ids, &self.fallback) {
            (None, Some(Fallback { market, offerings })) => Some(Self {
                epoch: self.epoch + 1,
                market: *market,
                offerings: offerings.clone(),
                fallback: None,
                at: now,
                ..self.clone()
            }),
            (Some(_), _) | (None, None) => None,
        }
    }
}

impl Record for LaunchRecord {
    const KIND: Kind = Kind::Launch;
    const SCHEMA: u32 = 2;

    fn id(&self) -> String {
        self.token.to_string()
    }

    fn open(&self) -> Option<(OpenPartition, Timestamp)> {
        None
    }

    /// Its jobs' records point to it; it is forgotten some days after it was answered, or could have been. EC2 keeps a client token for at least 24 h
    /// after the instance's end (facts/world.md E2).
    fn expires_at(&self) -> Option<Timestamp> {
        Some(closed_until(self.answered_at.unwrap_or_else(|| self.at.plus(UNANSWERED_OVER))))
    }
}

/// Instances that were asked for and that a listing may not show yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// The launch.
    pub token: LaunchToken,
    /// Instances asked for; after the answer, instances that came.
    pub count: u32,
    /// When it was made, or held again before its call was repeated.
    pub at: Timestamp,
    /// When EC2 answered; it lapses 10 min later, or after `at` while there is no answer.
    pub answered_at: Option<Timestamp>,
}

/// A fleet's reservations; its compare-and-swap is what holds the cap under concurrent invocations. It exists before
/// any job waits for the fleet.
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

    /// Always: it is how the jobs of a fleet are found that left the configuration.
    fn open(&self) -> Option<(OpenPartition, Timestamp)> {
        Some((OpenPartition::Fleets, Timestamp(0)))
    }

    fn expires_at(&self) -> Option<Timestamp> {
        None
    }
}
