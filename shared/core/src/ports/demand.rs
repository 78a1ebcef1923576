//! GitHub's jobs and deliveries, and the queue that carries job messages.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::PortError;
use crate::ids::{Access, DeliveryGuid, InstallationId, JobId, Repository, RunId, RunnerId, RunnerName};
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
    /// That runner's name; "" and null are both "none". Whether ids are unique across an organisation and its repositories
    /// is not documented (facts/github.md 5.5), so that an id alone says less than both:
    /// [`crate::evidence::NamedRunner`].
    pub runner_name: Option<RunnerName>,
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

/// What kind of account the App is installed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountKind {
    /// An organisation: it has runners of its own.
    Organization,
    /// A user, who has none: runners are registered with the user's repositories.
    User,
}

/// The App, installed for one account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installation {
    /// Its id.
    pub id: InstallationId,
    /// Login of the account.
    pub owner: String,
    /// Id of the account, by which an allow-list may name it; `None` where a version before this field wrote it.
    #[serde(default)]
    pub owner_id: Option<u64>,
    /// What the account is.
    pub kind: AccountKind,
}

/// A repository that an installation reaches, with the ids by which allow-lists may name it and its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Its full name.
    pub repository: Repository,
    /// Its id.
    pub id: Option<u64>,
    /// Its owner's id.
    pub owner_id: Option<u64>,
}

/// A job of a run that is not over, as the jobs API lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenJob {
    /// Its id.
    pub id: JobId,
    /// Its run.
    pub run_id: RunId,
    /// Attempt of the run.
    pub run_attempt: u32,
    /// Its status.
    pub state: JobState,
    /// What it asks of a runner.
    pub labels: Vec<String>,
    /// When GitHub made it, where GitHub says so.
    pub created_at: Option<Timestamp>,
    /// The runner it was assigned to, once it was.
    pub runner_id: Option<RunnerId>,
    /// That runner's name.
    pub runner_name: Option<RunnerName>,
}

/// What was read, and how many requests GitHub counted for it against the owner's hourly budget: one that is answered
/// 304, because nothing has changed since this process last asked, is free (documentation, "Best practices for using the
/// REST API", read 2026-11-26).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Priced<T> {
    /// What was read.
    pub value: T,
    /// Requests that counted.
    pub charged: u32,
}

/// GitHub's last word on what an owner's installation may still ask in this hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiBudget {
    /// Requests an hour.
    pub limit: u32,
    /// Requests left.
    pub remaining: u32,
    /// When the hour ends.
    pub resets_at: Timestamp,
}

/// Looking for jobs without having been told of them. Each page is asked for conditionally, so that a repository in
/// which nothing happens costs nothing.
pub trait JobSearch {
    /// Every installation of the App that is not suspended, to the last page.
    async fn installations(&self) -> Result<Vec<Installation>, PortError>;

    /// Every repository that the installation reaches and that can run workflows, to the last page.
    async fn repositories_of(&self, installation: &Installation) -> Result<Priced<Vec<Reached>>, PortError>;

    /// The runs of a repository that are `queued` or `in_progress`; of more than 1,000 in one state the newest.
    async fn open_runs(
        &self,
        repository: &Repository,
        installation_id: InstallationId,
    ) -> Result<Priced<Vec<RunId>>, PortError>;

    /// The jobs of a run's last attempt, to the last page. 404 is an error of class `Absent`: the run may have been deleted.
    async fn jobs_of_run(
        &self,
        repository: &Repository,
        installation_id: InstallationId,
        run_id: RunId,
    ) -> Result<Priced<Vec<OpenJob>>, PortError>;

    /// What GitHub last told this process of that owner's budget; `None` when it was not asked anything yet.
    async fn budget(&self, owner: &str) -> Option<ApiBudget>;
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

/// Asking GitHub to deliver once more what our webhook did not take.
pub trait Redelivery {
    /// Asks for one more attempt of what that attempt delivered; GitHub makes it some time later, under the same guid.
    /// Class `Rejected` or `Absent` when it is not going to.
    async fn redeliver(&self, id: u64) -> Result<(), PortError>;
}

/// The queue of queued jobs.
pub trait Queue {
    /// Sends one message, visible after `delay` (at most 15 min).
    async fn send(&self, message: &JobMessage, delay: Duration) -> Result<(), PortError>;
}
