//! What we remember of one `workflow_job`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Record, closed_until};
use crate::ids::{Access, FleetName, JobId, LaunchToken, Repository, RepositoryIds, RunId, RunnerId};
use crate::ports::{Kind, OpenPartition};
use crate::time::Timestamp;

/// GitHub fails a self-hosted job after 5 days (docs.github.com, actions/reference/limits, read 2026-11-20).
const JOB_LIMIT: Duration = Duration::from_hours(5 * 24);

/// GitHub cancels a job that nobody took after 24 h, at the latest after 48 h (facts/world.md G14); a day more for what we
/// learn late. Shorter, and a job that GitHub still has is dropped; longer, and dead records are looked at in vain.
const WAIT_LIMIT: Duration = Duration::from_hours(72);

/// A list of GitHub's may be so much older than an event. Shorter, and a job that has just started is asked about once
/// more; longer, and a job that lost its runner waits.
const STALE: Duration = Duration::from_mins(3);

/// Launches that a job remembers, those that came to no instance left out. More, and records grow for nothing: an
/// instance that serves nobody counts for the time of a boot, and each that is lost puts the next launch off longer; fewer,
/// and a job is launched for although an earlier launch has an instance left for it.
const LAUNCHES_MAX: usize = 8;

/// Where a job stands. It never moves backwards but to `Queued`: from a launch that failed, and from a start
/// that GitHub took back.
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
    /// The repository's id and its owner's, where they are known; none where a version before this field wrote the record.
    #[serde(default)]
    pub ids: RepositoryIds,
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
    /// The latest of them, whatever came of them, newest last: an instance of any may be left for this job when another
    /// job of that launch ran elsewhere.
    #[serde(default)]
    pub launches: Vec<LaunchToken>,
    /// When GitHub queued it.
    pub queued_at: Timestamp,
    /// The runner it started on, where an event or the jobs API named one.
    #[serde(default)]
    pub runner_id: Option<RunnerId>,
    /// When the record was made, or opened again; `None` on a record whose age is not known: it counts from the next look.
    #[serde(default)]
    pub recorded_at: Option<Timestamp>,
    /// When it was given up, having waited longer than GitHub lets a job wait. Its phase stays as it was.
    #[serde(default)]
    pub given_up_at: Option<Timestamp>,
}

impl JobRecord {
    /// Stands for the fleet of a job of which only a later event is known; no configuration can name it.
    #[must_use]
    pub fn no_fleet() -> FleetName {
        FleetName::new("")
    }

    /// Whether it still waits for a runner, given up or not.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        match self.phase {
            JobPhase::Queued | JobPhase::Launching { .. } | JobPhase::Launched { .. } => true,
            JobPhase::Started { .. } | JobPhase::Completed { .. } => false,
        }
    }

    /// Whether it may be on any runner: it waits and was not given up, or it started and nobody said where.
    #[must_use]
    pub fn may_be_anywhere(&self) -> bool {
        match self.phase {
            JobPhase::Queued | JobPhase::Launching { .. } | JobPhase::Launched { .. } => self.given_up_at.is_none(),
            JobPhase::Started { .. } => self.runner_id.is_none(),
            JobPhase::Completed { .. } => false,
        }
    }

    /// Takes in that it is launched for.
    pub fn note_launch(&mut self, token: LaunchToken, lease_until: Timestamp) {
        self.launch_count += 1;
        self.launches.push(token.clone());
        let forgotten = self.launches.len().saturating_sub(LAUNCHES_MAX);
        self.launches.drain(..forgotten);
        self.phase = JobPhase::Launching { token, lease_until };
        self.next_look = lease_until;
    }

    /// Takes in that it started, on that runner where it was named; returns whether that is news.
    pub fn note_started(&mut self, now: Timestamp, runner_id: Option<RunnerId>) -> bool {
        let starts = self.is_waiting();
        let located = (starts || self.may_be_anywhere()) && runner_id.is_some();
        if starts {
            self.given_up_at = None;
            self.phase = JobPhase::Started { at: now };
            self.next_look = now.plus(JOB_LIMIT);
        }
        if located {
            self.runner_id = runner_id;
        }
        starts || located
    }

    /// Takes in that it is not queued yet: its time to be taken begins no earlier than now. Returns whether that is news.
    pub fn note_not_yet_queued(&mut self, now: Timestamp) -> bool {
        let waits = self.is_waiting();
        if waits {
            self.recorded_at = Some(now);
        }
        waits
    }

    /// Whether it waits, was not given up, and waits for no longer than GitHub lets a job wait.
    #[must_use]
    pub fn waits_in_time(&self, now: Timestamp) -> bool {
        let in_time = self.recorded_at.is_none_or(|at| now.since(at) < WAIT_LIMIT);
        self.is_waiting() && self.given_up_at.is_none() && in_time
    }

    /// Gives it up if it waits longer than GitHub lets a job wait; returns whether that is news. From then on nobody looks
    /// at it unless GitHub speaks of it again.
    pub fn give_up(&mut self, now: Timestamp) -> bool {
        self.recorded_at.get_or_insert(now);
        let news = self.is_waiting() && self.given_up_at.is_none() && !self.waits_in_time(now);
        if news {
            self.given_up_at = Some(now);
        }
        news
    }

    /// Opens it again because GitHub speaks of it; returns whether it had been given up.
    pub fn reopen(&mut self, now: Timestamp) -> bool {
        let news = self.given_up_at.take().is_some();
        if news {
            self.recorded_at = Some(now);
        }
        news
    }

    /// Takes in that GitHub lists it as queued in a reading begun at `read_at`, long after it was said to have started: it
    /// was assigned to a runner that did not pick it up, and waits again. Returns whether that is news.
    ///
    /// It says nothing of the instance that was said to run it: that keeps its evidence.
    pub fn note_queued_again(&mut self, read_at: Timestamp) -> bool {
        let news = matches!(self.phase, JobPhase::Started { at } if read_at.since(at) >= STALE);
        if news {
            self.phase = JobPhase::Queued;
            self.runner_id = None;
            self.next_look = read_at;
        }
        news
    }

    /// Takes in that it completed; returns whether that is news.
    pub fn note_completed(&mut self, now: Timestamp, conclusion: Option<String>) -> bool {
        let news = !matches!(self.phase, JobPhase::Completed { .. });
        if news {
            self.given_up_at = None;
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
            JobPhase::Queued | JobPhase::Launching { .. } | JobPhase::Launched { .. } => {
                // Without a fleet it is sent to nobody and given up by nobody, however long it waits.
                let forsaken = self.fleet.is_none().then(|| self.next_look.plus(WAIT_LIMIT));
                self.given_up_at.or(forsaken).map(closed_until)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Scope;

    const NOW: Timestamp = Timestamp(5_000);

    fn given_up() -> JobRecord {
        JobRecord {
            job_id: JobId(1),
            access: Access { scope: Scope::Organization { owner: "octo".into() }, installation_id: None },
            repository: Repository::try_from("octo/hello".to_owned()).expect("a name"),
            run_id: RunId(1),
            run_attempt: 1,
            labels: vec!["linux".into()],
            fleet: Some(FleetName::new("linux")),
            phase: JobPhase::Queued,
            next_look: NOW,
            launch_count: 0,
            launches: Vec::new(),
            queued_at: NOW,
            runner_id: None,
            recorded_at: Some(NOW.minus(WAIT_LIMIT)),
            given_up_at: Some(NOW),
            ids: RepositoryIds::default(),
        }
    }

    #[test]
    fn a_job_that_was_given_up_and_starts_is_known_by_its_runner_or_looked_for_everywhere() {
        for (case, runner_id, open) in [("a runner is named", Some(RunnerId(7)), false), ("none is", None, true)] {
            let mut job = given_up();
            assert!(job.note_started(NOW, runner_id), "{case}");
            assert_eq!((job.runner_id, job.open().is_some()), (runner_id, open), "{case}");
            assert_eq!(job.expires_at(), Some(closed_until(NOW.plus(JOB_LIMIT))), "{case}");
        }
        let mut job = given_up();
        assert!(job.note_completed(NOW.plus(JOB_LIMIT), None));
        assert_eq!((job.given_up_at, job.expires_at()), (None, Some(closed_until(NOW.plus(JOB_LIMIT)))));
    }

    #[test]
    fn a_job_that_waits_without_a_fleet_is_forgotten_when_github_has_cancelled_it() {
        let later = NOW.plus(JOB_LIMIT);
        let mut job = JobRecord { fleet: None, recorded_at: Some(NOW), given_up_at: None, ..given_up() };
        assert_eq!(job.expires_at(), Some(closed_until(NOW.plus(WAIT_LIMIT))), "nobody looks at it but for a re-check");
        assert!(job.note_started(NOW, Some(RunnerId(7))));
        assert!(job.note_queued_again(later), "its runner did not pick it up");
        assert_eq!(job.expires_at(), Some(closed_until(later.plus(WAIT_LIMIT))), "it waits anew");
        job.fleet = Some(FleetName::new("linux"));
        assert_eq!(job.expires_at(), None, "of a fleet: looked at until it is given up");
    }

    #[test]
    fn a_record_written_before_ages_were_kept_is_read_and_not_given_up_at_once() {
        let mut body = serde_json::to_value(given_up()).expect("plain data");
        let fields = body.as_object_mut().expect("an object");
        fields.remove("recorded_at");
        fields.remove("given_up_at");
        let mut job: JobRecord = serde_json::from_value(body).expect("still read");
        assert!(!job.give_up(NOW));
        assert!(!job.give_up(NOW.plus(WAIT_LIMIT).minus(Duration::from_millis(1))));
        assert!(job.give_up(NOW.plus(WAIT_LIMIT)));
    }
}
