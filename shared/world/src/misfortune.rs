//! What befalls an instance from outside: people with a console, EC2, GitHub's own mistakes.
//!
//! None of it is the system's doing, and all of it leaves something behind that the system has to end, or keep.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What befalls an instance ([`crate::World::befall`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Misfortune {
    /// Somebody stops it (on-demand only): its processes are gone, it is not.
    Stopped,
    /// Somebody starts it again after it was stopped: it boots anew.
    Started,
    /// EC2 takes it back (spot only): its registration stays.
    TakenBack,
    /// Every process on it dies and it runs on: its runner goes offline.
    ListenerDead,
    /// GitHub finds its runner neither in lists nor by id, while it listens and works (actions/runner#936).
    Unlisted,
    /// Somebody removes its runner's registration at GitHub.
    RegistrationRemoved,
    /// Somebody switches `disableApiTermination` on (on-demand only).
    Protected,
    /// Somebody switches `disableApiTermination` off.
    Unprotected,
}

impl Misfortune {
    /// Whether a job that runs on the instance ends with it.
    #[must_use]
    pub fn ends_jobs(self) -> bool {
        match self {
            Self::Stopped | Self::TakenBack | Self::ListenerDead => true,
            Self::Started | Self::Unlisted | Self::RegistrationRemoved | Self::Protected | Self::Unprotected => false,
        }
    }
}

impl fmt::Display for Misfortune {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stopped => "is stopped by hand",
            Self::Started => "is started by hand",
            Self::TakenBack => "is taken back by EC2",
            Self::ListenerDead => "runs on, and every process on it is dead",
            Self::Unlisted => "listens and works, and GitHub does not find its runner",
            Self::RegistrationRemoved => "runs on, and its runner is removed at GitHub by hand",
            Self::Protected => "is protected from termination",
            Self::Unprotected => "is no longer protected from termination",
        })
    }
}
