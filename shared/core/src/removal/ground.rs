//! The grounds on which an instance may be ended or a registration deleted. There are no others.

use serde::{Deserialize, Serialize};

/// Why an instance may be ended (design section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ground {
    /// Deregistered by us while idle, and no job has surfaced through the quarantine (rows 14 and 20).
    IdleAfterDeregistration,
    /// Its only job ended long enough ago (row 12).
    JobCompleted,
    /// No job can ever have been delivered to it (rows 18 and 23).
    NeverConnected,
    /// Its registration went without us and stayed away for long enough (row 16).
    RegistrationGone,
    /// Stopped, so that nothing executes on it (row 25).
    Stopped,
    /// Older than GitHub lets any job be (row 2).
    HardAge,
}

/// Why a registration may be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeregistrationGround {
    /// Idle, confirmed over the window, and surplus (row 20).
    Idle,
    /// Its only job ended long enough ago (row 12).
    JobCompleted,
    /// Never connected (row 18).
    NeverConnected,
    /// Offline for long enough (row 19).
    Offline,
    /// Its instance is stopped (row 25).
    Stopped,
    /// Its instance is gone for certain (row 4).
    InstanceGone,
}
