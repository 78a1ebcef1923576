//! GitHub's jobs and deliveries, and the queue that carries job messages.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::PortError;
use crate::ids::{Access, DeliveryGuid, InstallationId, JobId, Repository, RunnerId};
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

    /// Every job of the repository's runs that are `in_progress`, to the last page; an error in any page is an error of
    /// the whole. GitHub has no such list for an organisation (facts/github.md 2.3).
    async fn jobs_in_progress(
        &self,
        repository: &Repository,
        installation_id: Option<InstallationId>,
    ) -> Result<Vec<JobReading>, PortError>;

    /// The same of every run that is not `completed`: one that is `queued`, `waiting`, `pending` or `requested` may have
    /// a job in progress beside those that wait (facts/github.md 2.3). Costs several lists where the other costs one.
    async fn jobs_of_open_runs(
        &self,
        repository: &Repository,
        installation_id: Option<InstallationId>,
    ) -> Result<Vec<JobReading>, PortError>;

    /// Every repository that the installation of this access reaches (`GET /installation/repositories`), to the last
    /// page.
    async fn repositories(&self, access: &Access) -> Result<Vec<Repository>, PortError>;
}

/// One failed attempt to deliver an event to our webhook, from GitHub's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Id of this attempt.
    pub id: u64,
    /// Id of the event, the same for every attempt.
    pub guid: DeliveryGuid,
    /// When it was sent.
    pub delivered_at: Timestamp,
    /// `X-GitHub-Event`
    pub event: String,
    /// The payload's `action`.
    pub action: Option<String>,
    /// The installation whose event it is, where the log says so; of the payload only this can be known unread.
    pub installation_id: Option<InstallationId>,
}

/// A place in the log, in GitHub's words: where the next page begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogPlace(String);

impl LogPlace {
    /// Wraps what GitHub calls it.
    #[must_use]
    pub fn new(place: impl Into<String>) -> Self {
        Self(place.into())
    }

    /// What GitHub calls it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One page of the log, at most 100 attempts, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedDeliveries {
    /// Those of its attempts that failed and are not too old.
    pub deliveries: Vec<Delivery>,
    /// Where the next, older page begins; `None` once no older one can hold any that was asked for.
    pub next: Option<LogPlace>,
}

/// GitHub's log of the App's deliveries.
pub trait DeliveryLog {
    /// How long GitHub keeps the log and redelivers what is in it.
    fn log_kept(&self) -> Duration;

    /// Attempts since `since` that our webhook did not answer with 2xx (`?status=failure`): the page that begins there,
    /// or the newest. One page a call, for the log may have thousands. That a later attempt of the same event succeeded
    /// is not said. A place that GitHub does not know any more is an error of class `Absent` or `Rejected`.
    async fn failed_deliveries_since(
        &self,
        since: Timestamp,
        from: Option<&LogPlace>,
    ) -> Result<FailedDeliveries, PortError>;

    /// Login of the account that an installation belongs to, and for good: an account that installs the App again gets
    /// another id. `None` where GitHub does not know it (any more), or it is no organisation's and no user's.
    async fn installation_owner(&self, id: InstallationId) -> Result<Option<String>, PortError>;

    /// The payload of one attempt, the JSON text of the event. It came from GitHub over its own authenticated API, so
    /// it needs no signature.
    async fn delivery_payload(&self, id: u64) -> Result<String, PortError>;
}

/// The queue of queued jobs.
pub trait Queue {
    /// Sends one message, visible after `delay` (at most 15 min).
    async fn send(&self, message: &JobMessage, delay: Duration) -> Result<(), PortError>;
}
