//! EC2: which instances exist, and the three calls that change that.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::{LaunchTemplate, Market};
use crate::error::{Class, PortError};
use crate::ids::{Deployment, InstanceId, LaunchToken};
use crate::removal::TerminationProof;
use crate::time::Timestamp;

/// An instance's tags, EC2's own `aws:` ones included.
pub type Tags = BTreeMap<String, String>;

/// EC2's instance states (EC2 API reference, `InstanceState`, read 2026-11-20).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InstanceState {
    /// Booting.
    Pending,
    /// Running.
    Running,
    /// On its way out.
    ShuttingDown,
    /// Gone; stays visible for less than an hour.
    Terminated,
    /// On its way to `stopped`.
    Stopping,
    /// Not running; costs its volumes.
    Stopped,
    /// A state that we do not know: never acted upon.
    Unrecognised,
}

/// One instance as EC2 shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// Its state.
    pub state: InstanceState,
    /// When EC2 launched it.
    pub launched_at: Timestamp,
    /// All its tags. Shared: a listing is handed on and looked through far more often than a tag changes.
    pub tags: Arc<Tags>,
}

/// An instance type in a subnet, and so in one zone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Offering {
    /// For example `m7i.large`.
    pub instance_type: String,
    /// `subnet-…`
    pub subnet_id: String,
}

/// One CreateFleet call, `instant`. Byte-stable: nothing in it differs between two attempts under one token, or EC2
/// answers `IdempotentParameterMismatch` (facts/world.md E2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchRequest {
    /// Client token.
    pub token: LaunchToken,
    /// How many instances.
    pub count: u32,
    /// Spot or on-demand.
    pub market: Market,
    /// The template, version pinned.
    pub template: LaunchTemplate,
    /// What may be launched, each an override.
    pub offerings: Vec<Offering>,
    /// Tags of the instances, `ghr:launch` among them.
    pub tags: Tags,
}

/// What CreateFleet answered: possibly fewer instances than asked for, with the reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchAnswer {
    /// The instances; the same ones when the call was a repetition, even if they are gone by now.
    pub instance_ids: Vec<InstanceId>,
    /// Why EC2 did not launch the others.
    pub errors: Vec<LaunchFault>,
}

/// One of EC2's errors inside an answer to CreateFleet. It describes an override, not an instance (facts/world.md E3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchFault {
    /// EC2's code.
    pub code: String,
    /// Its class.
    pub class: Class,
    /// The override, where EC2 names it whole.
    pub offering: Option<Offering>,
}

impl std::fmt::Display for LaunchFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.offering {
            Some(Offering { instance_type, subnet_id }) => write!(f, "{} ({instance_type} in {subnet_id})", self.code),
            None => f.write_str(&self.code),
        }
    }
}

/// EC2's answer to a call to end an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Termination {
    /// EC2 took the call; not that the instance is gone: the next pass describes it.
    Accepted,
    /// `OperationNotPermitted`: somebody switched `disableApiTermination` on. A veto (row 26), never an error to repeat.
    Protected,
}

/// Instances that one `CreateTags` call takes (EC2 API reference, read 2026-11-20).
pub const TAGGED_MAX: usize = 1_000;

/// Reading EC2.
pub trait ComputeRead {
    /// Every instance bearing this deployment's `ghr:environment` tag, in any state, all pages. An error in any page is
    /// an error of the whole: a listing in part is not a listing.
    async fn instances(&self, deployment: &Deployment) -> Result<Vec<Instance>, PortError>;

    /// Every instance bearing the `ghr:launch` tag of that token.
    async fn instances_of_launch(&self, token: &LaunchToken) -> Result<Vec<Instance>, PortError>;
}

/// Changing EC2.
pub trait Compute: ComputeRead {
    /// Launches under a client token. Safe to repeat with the same request.
    async fn create_fleet(&self, request: &LaunchRequest) -> Result<LaunchAnswer, PortError>;

    /// Tags at most [`TAGGED_MAX`] instances `ghr:drain` = RFC 3339 of `at`. Asks; the instance decides. Returns those
    /// that were tagged: one that EC2 does not know refuses the call for all, so it is left out and the rest asked again.
    async fn request_drain(&self, instance_ids: &[InstanceId], at: Timestamp) -> Result<Vec<InstanceId>, PortError>;

    /// Ends the one instance that the proof names, and spends the proof even where the call fails.
    /// `InvalidInstanceID.NotFound` is an error of class `Absent`: not a success (row 26).
    async fn terminate(&self, proof: TerminationProof) -> Result<Termination, PortError>;
}
