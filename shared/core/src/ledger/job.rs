//! What we remember of one `workflow_job`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Record, closed_until};
use crate::ids::{Access, FleetName, JobId, LaunchToken, Repository, RunId, RunnerId};
use crate::ports::{Kind, OpenPartition};
use crate::time::Timestamp;

/// GitHub fails a self-hosted job after 5 days (docs.github.com, actions/reference/limits, read 2026-11-20).
const JOB_LIMIT: Duration = Duration::from_hours(5 * 24);

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
    /// The runner it started on, where an event or the jobs API named one.
    #[serde(default)]
    pub runner_id: Option<RunnerId>,
}

impl JobRecord {
    /// Stands for the fleet of a job of which only a later event is known; no configuration can name it.
    #[must_use]
    pub fn no_fleet() -> FleetName {
        FleetName::new("")
    }

    /// Whether it still waits for a runner.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        match self.phase {
            JobPhase::Queued | JobPhase::Launching { .. } | JobPhase::Launched { .. } => true,
            JobPhase::Started { .. } | JobPhase::Completed { .. } => false,
        }
    }

    /// Whether it may be on any runner: it waits, or it started and nobody said where.
    #[must_use]
    pub fn may_be_anywhere(&self) -> bool {
        match self.phase {
            JobPhase::Queued | JobPhase::Launching { .. } | JobPhase::Launched { .. } => true,
            JobPhase::Started { .. } => self.runner_id.is_none(),
            JobPhase::Completed { .. } => false,
        }
    }

    /// Takes in that it started, on that runner where it was named; returns whether that is news.
    pub fn note_started(&mut self, now: Timestamp, runner_id: Option<RunnerId>) -> bool {
        let (starts, located) = (self.is_waiting(), self.may_be_anywhere() && runner_id.is_some());
        if starts {
            self.phase = JobPhase::Started { at: now };
            self.next_look = now.plus(JOB_LIMIT);
        }
        if located {
            self.runner_id = runner_id;
        }
        starts || located
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
        let fleet = self.fleet.clone().unwrap_or_else(Self::no_fleet);
        self.may_be_anywhere().then_some((OpenPartition::Jobs(fleet), self.next_look))
    }

    fn expires_at(&self) -> Option<Timestamp> {
        match self.phase {
            JobPhase::Completed { at, .. } => Some(closed_until(at)),
            // Its completion may be lost; GitHub has ended it by then.
            JobPhase::Started { at } => Some(closed_until(at.plus(JOB_LIMIT))),
            JobPhase::Queued | JobPhase::Launching { .. } | JobPhase::Launched { .. } => None,
        }
    }
}
