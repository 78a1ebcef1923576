//! What we remember of one `workflow_job`.

use serde::{Deserialize, Serialize};

use super::{Record, closed_until};
use crate::ids::{Access, FleetName, JobId, LaunchToken, Repository, RunId};
use crate::ports::{Kind, OpenPartition};
use crate::time::Timestamp;

/// Where a job stands. It never moves backwards but from a launch that failed to `Queued`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobPhase {
    /// Waits for a launch.
    Queued,
    /// A launch for it is in flight.
    Launching {
        /// The launch.
        token: LaunchToken,
        /// Until then nobody else takes the launch up.
        lease_until: Timestamp,
    },
    /// Its launch got an instance. The job may run on any runner that has its labels.
    Launched {
        /// The launch.
        token: LaunchToken,
    },
    /// It runs.
    Started {
        /// When we learned of it.
        at: Timestamp,
    },
    /// It ended.
    Completed {
        /// When we learned of it.
        at: Timestamp,
        /// GitHub's word for how; an open set.
        conclusion: Option<String>,
    },
}

/// What we remember of one job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Its id.
    pub job_id: JobId,
    /// Scope in which a runner for it registers.
    pub access: Access,
    /// Its repository.
    pub repository: Repository,
    /// Its run.
    pub run_id: RunId,
    /// Attempt of the run.
    pub run_attempt: u32,
    /// What it asks of a runner.
    pub labels: Vec<String>,
    /// The fleet that serves it; `None` where only a later event is known and no fleet was chosen.
    pub fleet: Option<FleetName>,
    /// Where it stands.
    pub phase: JobPhase,
    /// When somebody has to look at it again.
    pub next_look: Timestamp,
    /// Launches so far; part of the next launch's token.
    pub launch_count: u32,
    /// When GitHub queued it.
    pub queued_at: Timestamp,
}

impl JobRecord {
    /// Whether it still waits for a runner.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        match self.phase {
            JobPhase::Queued | JobPhase::Launching { .. } | JobPhase::Launched { .. } => true,
            JobPhase::Started { .. } | JobPhase::Completed { .. } => false,
        }
    }

    /// Takes in that it started; returns whether that is news.
    pub fn note_started(&mut self, now: Timestamp) -> bool {
        let news = self.is_waiting();
        if news {
            self.phase = JobPhase::Started { at: now };
        }
        news
    }

    /// Takes in that it completed; returns whether that is news.
    pub fn note_completed(&mut self, now: Timestamp, conclusion: Option<String>) -> bool {
        let news = !matches!(self.phase, JobPhase::Completed { .. });
        if news {
            self.phase = JobPhase::Completed { at: now, conclusion };
        }
        news
    }
}

impl Record for JobRecord {
    const KIND: Kind = Kind::Job;
    const SCHEMA: u32 = 1;

    fn id(&self) -> String {
        self.job_id.to_string()
    }

    fn open(&self) -> Option<(OpenPartition, Timestamp)> {
        match (&self.fleet, self.is_waiting()) {
            (Some(fleet), true) => Some((OpenPartition::Jobs(fleet.clone()), self.next_look)),
            (_, _) => None,
        }
    }

    fn expires_at(&self) -> Option<Timestamp> {
        match self.phase {
            JobPhase::Completed { at, .. } => Some(closed_until(at)),
            JobPhase::Queued | JobPhase::Launching { .. } | JobPhase::Launched { .. } | JobPhase::Started { .. } => {
                None
            }
        }
    }
}
