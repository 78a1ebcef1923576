//! GitHub's jobs and deliveries, and the queue that carries job messages.

use std::time::Duration;

use crate::error::PortError;
use crate::ids::{DeliveryGuid, InstallationId, JobId, Repository, RunnerId};
use crate::scale_up::JobMessage;
use crate::time::Timestamp;

/// `status` of a job. `waiting`, `requested` and `pending` jobs have no runner yet either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// `queued`
    Queued,
    /// `waiting`, `requested` or `pending`: not to be served yet; a `queued` event will follow.
    NotYetQueued,
    /// `in_progress`
    InProgress,
    /// `completed`
    Completed,
    /// A status that we do not know.
    Unrecognised,
}

/// A job as the jobs API shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobReading {
    /// Its id.
    pub id: JobId,
    /// Its status.
    pub state: JobState,
    /// The runner it was assigned to, once it was; 0 and null are both "none".
    pub runner_id: Option<RunnerId>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
}

/// GitHub's jobs API.
pub trait Jobs {
    /// One job. 404 is an error of class `Absent`: it may be a lost permission.
    async fn job(
        &self,
        repository: &Repository,
        installation_id: Option<InstallationId>,
        id: JobId,
    ) -> Result<JobReading, PortError>;
}

/// One attempt to deliver an event to our webhook, from GitHub's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Id of this attempt.
    pub id: u64,
    /// Id of the event, the same for every attempt.
    pub guid: DeliveryGuid,
    /// When it was sent.
    pub delivered_at: Timestamp,
    /// Answered with 2xx.
    pub succeeded: bool,
    /// `X-GitHub-Event`
    pub event: String,
    /// The payload's `action`.
    pub action: Option<String>,
}

/// GitHub's log of the App's deliveries; kept for 3 days (facts/github.md 3.1).
pub trait DeliveryLog {
    /// All attempts since `since`, newest first, to the last page that may hold one.
    async fn deliveries_since(&self, since: Timestamp) -> Result<Vec<Delivery>, PortError>;

    /// The payload of one attempt, the JSON text of the event. It came from GitHub over its own authenticated API, so
    /// it needs no signature.
    async fn delivery_payload(&self, id: u64) -> Result<String, PortError>;
}

/// The queue of queued jobs.
pub trait Queue {
    /// Sends one message, visible after `delay` (at most 15 min).
    async fn send(&self, message: &JobMessage, delay: Duration) -> Result<(), PortError>;
}
