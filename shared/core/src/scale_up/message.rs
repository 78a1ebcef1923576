//! What travels through the queue: the few facts of a signed `queued` event that a launch needs.

use serde::{Deserialize, Serialize};

use crate::ids::{InstallationId, JobId, Repository, RepositoryIds, RunId};
use crate::time::Timestamp;

/// One queued job. No secret and no text of a workflow's author but its labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobMessage {
    /// The job.
    pub job_id: JobId,
    /// Its run.
    pub run_id: RunId,
    /// Attempt of the run.
    pub run_attempt: u32,
    /// Its repository.
    pub repository: Repository,
    /// Its id and its owner's, where they are known; none on a message of a version before these were kept.
    #[serde(default)]
    pub ids: RepositoryIds,
    /// Login of the owner, where the owner is an organisation: its runners can serve the job.
    pub organization: Option<String>,
    /// The installation that the payload named; an organisation's webhook names none.
    pub installation_id: Option<InstallationId>,
    /// What the job asks of a runner.
    pub labels: Vec<String>,
    /// When GitHub queued it.
    pub queued_at: Timestamp,
    /// Until when the demand-reconciler, which sent it again, leaves the job to it; `None` on the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub look_at: Option<Timestamp>,
}
