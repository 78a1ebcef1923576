//! One simulated instance: its record, its states and when they change.

use crate::Millis;
use crate::truth::Ending;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Tags by key.
pub type Tags = BTreeMap<String, String>;

/// EC2's instance states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Booting.
    Pending,
    /// Running.
    Running,
    /// On its way out.
    ShuttingDown,
    /// Gone, and still described for a while.
    Terminated,
    /// Its processes are gone; its volumes stay and cost.
    Stopped,
}

impl State {
    /// EC2's name of the state.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::ShuttingDown => "shutting-down",
            Self::Terminated => "terminated",
            Self::Stopped => "stopped",
        }
    }

    /// EC2's code of the state (API reference, `InstanceState`).
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Pending => 0,
            Self::Running => 16,
            Self::ShuttingDown => 32,
            Self::Terminated => 48,
            Self::Stopped => 80,
        }
    }

    /// Whether the instance still exists and costs.
    #[must_use]
    pub fn is_alive(self) -> bool {
        match self {
            Self::Pending | Self::Running | Self::Stopped => true,
            Self::ShuttingDown | Self::Terminated => false,
        }
    }
}

/// How the instance is paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Market {
    /// May be taken back.
    Spot,
    /// Ours until we end it.
    OnDemand,
}

impl Market {
    /// EC2's word in `CreateFleet`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Spot => "spot",
            Self::OnDemand => "on-demand",
        }
    }
}

/// Whose instance it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Launched by a `CreateFleet` call of the system under test.
    Fleet,
    /// Somebody else's, in the same account: nobody may touch it.
    Foreign,
}

/// Why an instance left its state, as `stateReason` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StateReason {
    /// EC2's code, for example `Client.UserInitiatedShutdown`.
    pub code: &'static str,
    /// EC2's words.
    pub message: &'static str,
}

impl StateReason {
    /// EC2's reason where a user ended or stopped the instance through the API.
    pub(super) const USER: Self =
        Self { code: "Client.UserInitiatedShutdown", message: "Client.UserInitiatedShutdown: User initiated shutdown" };

    /// EC2's reason for an ending (API reference, `StateReason`, read 2026-11-20).
    #[must_use]
    pub fn of(ending: &Ending) -> Self {
        match ending {
            Ending::Api { .. } => Self::USER,
            Ending::PowerOff => Self {
                code: "Client.InstanceInitiatedShutdown",
                message: "Client.InstanceInitiatedShutdown: Instance initiated shutdown",
            },
            Ending::Spot => Self {
                code: "Server.SpotInstanceTermination",
                message: "Server.SpotInstanceTermination: Spot instance termination",
            },
        }
    }
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Instance {
    /// Its id.
    pub id: String,
    /// Its place in the order of launches; listings are in this order.
    #[serde(skip)]
    pub sequence: u64,
    /// The launch it came with; instances of one fleet share it.
    pub reservation_id: String,
    /// Whose it is.
    pub origin: Origin,
    /// Its state.
    pub state: State,
    /// When it was launched.
    pub launched_at: Millis,
    /// From when on other calls know it.
    pub visible_at: Millis,
    /// `m7i.large` and the like.
    pub instance_type: String,
    /// Its subnet.
    pub subnet_id: String,
    /// Its zone.
    pub availability_zone: String,
    /// Spot or on-demand.
    pub market: Market,
    /// The token EC2 Fleet itself used. Whether it is ever the caller's own is not documented, so here it is not.
    pub client_token: String,
    /// Its tags, EC2's own `aws:` ones included.
    #[serde(serialize_with = "shared")]
    pub tags: Arc<Tags>,
    /// `disableApiTermination`: calls to end it are refused.
    pub protected: bool,
    /// Why it ended.
    pub state_reason: Option<StateReason>,
    /// What happens to it by itself next.
    #[serde(skip)]
    pub(super) next: Option<(Millis, Step)>,
    /// When EC2 takes it back.
    #[serde(skip)]
    pub(super) interruption_at: Option<Millis>,
}

fn shared<S: Serializer>(tags: &Arc<Tags>, serializer: S) -> Result<S::Ok, S::Error> {
    tags.as_ref().serialize(serializer)
}

/// A change that happens by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// `pending` becomes `running`.
    Boot,
    /// `shutting-down` becomes `terminated`.
    Terminate,
    /// `terminated` is forgotten.
    Forget,
}

impl Instance {
    /// Whether other calls than its launch know it.
    #[must_use]
    pub fn is_visible(&self, now: Millis) -> bool {
        self.visible_at <= now
    }

    /// When something happens to it next by itself.
    pub(super) fn due_at(&self) -> Option<Millis> {
        let step = self.next.map(|(at, _)| at);
        match (step, self.interruption_at) {
            (Some(step), Some(interruption)) => Some(step.min(interruption)),
            (step, interruption) => step.or(interruption),
        }
    }
}
