//! The simulated GitHub: Apps, registrations, jobs, the broker that hands jobs to listeners, and webhook deliveries.
//!
//! It is as unkind as GitHub (design section 10): `busy` is a view that lags and lies, DELETE believes that view,
//! a deleted runner is 404 while its listener polls on, deliveries get lost. The truth is recorded apart, in
//! [`crate::truth`]. Facts carry their sources where they are modelled.

mod account;
mod broker;
mod delivery;
mod jit;
mod job;
mod manifest;
mod payload;
mod runner;
mod timers;
mod view;

pub use account::{Installation, OwnerKind, RateLimit, Repository, Token, TokenError, Trouble};
pub use broker::{AcquireAnswer, JobMessage, PollAnswer, SessionAnswer};
pub use delivery::{Delivery, Fate, Forgery, OutgoingDelivery, Progress};
pub use jit::{JitError, JitRequest};
pub use job::{Job, JobSpec, JobState, PayloadError};
pub use runner::{DeleteAnswer, Runner, Scope};

pub(crate) use payload::rfc3339;
#[cfg(feature = "http")]
pub(crate) use view::permissions;

use crate::settings::GitHubSettings;
use crate::truth::Truth;
use crate::{Millis, Tape};
use std::collections::{BTreeMap, BTreeSet};

/// What every operation needs from the world around GitHub.
#[derive(Debug)]
pub struct Cx<'a> {
    /// The virtual time.
    pub now: Millis,
    /// The only source of chance.
    pub tape: &'a mut Tape,
    /// Where the truth is recorded.
    pub truth: &'a mut Truth,
}

/// Whether GitHub's own view knows of an assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BusyFlag {
    /// At once.
    Known,
    /// Not as long as this job lasts.
    Unknown,
    /// As the settings say: after a lag, or never when the flag lies.
    BySettings,
}

/// GitHub's whole state.
#[derive(Debug)]
pub struct GitHub {
    settings: GitHubSettings,
    installations: BTreeMap<u64, Installation>,
    tokens: BTreeMap<String, Token>,
    runners: BTreeMap<u64, Runner>,
    /// Runners that are registered or whose listener lives: what is looked through. The others are kept to be asked
    /// about, and a run of days has thousands.
    living: BTreeSet<u64>,
    jobs: BTreeMap<u64, Job>,
    /// Jobs that are not completed, for the same reason.
    open: BTreeSet<u64>,
    deliveries: BTreeMap<u64, Delivery>,
    /// Deliveries that are to be sent, by their time.
    due: BTreeSet<(Millis, u64)>,
    /// The virtual time, for views that nobody tells it.
    clock: Millis,
    /// What is decided about deliveries that are still to be made, by job and action.
    fates: BTreeMap<(u64, String), Fate>,
    /// Apps made from a manifest, by the code that was not exchanged yet.
    new_apps: BTreeMap<String, manifest::NewApp>,
    next_id: u64,
}

impl GitHub {
    /// A GitHub on which the App is installed nowhere.
    #[must_use]
    pub fn new(settings: GitHubSettings) -> Self {
        Self {
            settings,
            installations: BTreeMap::new(),
            tokens: BTreeMap::new(),
            runners: BTreeMap::new(),
            living: BTreeSet::new(),
            jobs: BTreeMap::new(),
            open: BTreeSet::new(),
            deliveries: BTreeMap::new(),
            due: BTreeSet::new(),
            clock: 0,
            fates: BTreeMap::new(),
            new_apps: BTreeMap::new(),
            // Far from the ids in real payloads, and above 32 bits as some of GitHub's are.
            next_id: 70_000_000_000,
        }
    }

    /// GitHub's times and faults.
    #[must_use]
    pub fn settings(&self) -> &GitHubSettings {
        &self.settings
    }

    /// GitHub's times and faults, to change them in mid-run.
    pub fn settings_mut(&mut self) -> &mut GitHubSettings {
        &mut self.settings
    }

    /// The virtual time, for views that nobody tells it.
    pub(crate) fn tell_time(&mut self, now: Millis) {
        self.clock = self.clock.max(now);
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

#[cfg(test)]
mod tests;
