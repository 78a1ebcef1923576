//! Jobs: their states, how they come in, and their assignment to runners.

use super::{BusyFlag, Cx, GitHub, Runner, Scope, payload};
use crate::Millis;
use crate::truth::Fact;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

/// A job as a scenario asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// `owner/name` of a repository of an installation.
    pub repository: String,
    /// What the workflow calls it.
    pub name: String,
    /// `runs-on`.
    pub labels: Vec<String>,
    /// How long it runs, in milliseconds.
    pub duration_ms: Millis,
    /// How it ends by itself.
    #[serde(default = "success")]
    pub conclusion: String,
}

fn success() -> String {
    "success".to_owned()
}

/// Why a payload is not a job.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// Not JSON.
    #[error("not JSON")]
    Json(#[from] serde_json::Error),
    /// A field is missing or of another type.
    #[error("no usable {0}")]
    Field(&'static str),
    /// A job with this id exists.
    #[error("job {0} exists")]
    Exists(u64),
    /// No installation reaches the repository.
    #[error("the App is not installed for {0}")]
    NotInstalled(String),
}

/// A job and everything GitHub says of it.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its id.
    pub id: u64,
    /// Its run.
    pub run_id: u64,
    /// The attempt of the run.
    pub run_attempt: u64,
    /// `runs-on`.
    pub labels: Vec<String>,
    /// How long it runs, in milliseconds.
    pub duration_ms: Millis,
    /// Where it is.
    pub state: JobState,
    /// When it was created.
    pub created_at: Millis,
    /// The runner it was last given to: id, name, group.
    pub runner: Option<(u64, String, u64)>,
    /// When a runner started it.
    pub started_at: Option<Millis>,
    /// The installation that reaches its repository.
    pub installation_id: u64,
    /// Its repository.
    pub repository_id: u64,
    pub(super) conclusion: String,
    /// The payload that all of its deliveries are made from.
    pub(super) template: Value,
    /// The very bytes of its `queued` delivery, when it came from a real payload.
    pub(super) queued_bytes: Option<Bytes>,
    pub(super) misses: u32,
}

/// Where a job is. The truth; what GitHub shows is coarser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobState {
    /// Known to the scenario only: a trap queues and assigns it in one moment.
    Held,
    /// Waits for an approval: no runner is looked for (facts/world.md G16).
    Waiting,
    /// Wants a runner from `since`; none is looked for before `pick_at`.
    Queued {
        /// When it was queued.
        since: Millis,
        /// When GitHub looks for a runner.
        pick_at: Millis,
    },
    /// Given to a runner, whose listener has not acquired it.
    Assigned {
        /// The runner.
        runner_id: u64,
        /// When the message was handed to a poll; before that it waits in the broker.
        handed_at: Option<Millis>,
        /// When the broker counts a miss, or gives up a listener that hangs.
        missed_at: Millis,
        /// Whether its listener acknowledged the message and hangs: nobody will acquire it (facts/world.md G7).
        hung: bool,
    },
    /// Acquired: it runs.
    Running {
        /// The runner.
        runner_id: u64,
        /// The last renewal of its lock.
        renewed_at: Millis,
        /// False once the truth is that nothing runs it any more; GitHub learns of that by the lock's end.
        alive: bool,
    },
    /// Over.
    Completed {
        /// When.
        at: Millis,
        /// GitHub's word for how.
        conclusion: String,
    },
}

impl JobState {
    /// Whether it runs or its acquisition is in progress: ending its instance or registration would kill it.
    #[must_use]
    pub fn is_active(&self) -> bool {
        match self {
            Self::Running { alive, .. } => *alive,
            Self::Assigned { handed_at, hung, .. } => handed_at.is_some() && !hung,
            Self::Held | Self::Waiting | Self::Queued { .. } | Self::Completed { .. } => false,
        }
    }

    /// GitHub's word: `waiting`, `queued`, `in_progress` or `completed`.
    #[must_use]
    pub fn status(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Held | Self::Queued { .. } | Self::Assigned { .. } => "queued",
            Self::Running { .. } => "in_progress",
            Self::Completed { .. } => "completed",
        }
    }
}

impl GitHub {
    /// Queues a job; a run of its own is made for it.
    pub fn add_job(&mut self, cx: &mut Cx<'_>, spec: JobSpec) -> Result<u64, PayloadError> {
        let id = self.add_held_job(cx, spec)?;
        self.queue(cx, id);
        Ok(id)
    }

    /// Adds a job that waits for an approval, of which GitHub tells.
    pub fn add_waiting_job(&mut self, cx: &mut Cx<'_>, spec: JobSpec) -> Result<u64, PayloadError> {
        let id = self.add_held_job(cx, spec)?;
        if let Some(job) = self.jobs.get_mut(&id) {
            job.state = JobState::Waiting;
        }
        self.announce(cx, id, "waiting");
        Ok(id)
    }

    /// Queues a job that is held or waits for an approval.
    pub fn release_job(&mut self, cx: &mut Cx<'_>, id: u64) {
        self.queue(cx, id);
    }

    /// Adds a job that nobody sees before a trap assigns it, or it is released.
    pub fn add_held_job(&mut self, cx: &mut Cx<'_>, spec: JobSpec) -> Result<u64, PayloadError> {
        let (owner, name) = spec.repository.split_once('/').ok_or(PayloadError::Field("repository"))?;
        let (id, run_id) = (self.fresh_id(), self.fresh_id());
        let (installation, repository) =
            self.repository(owner, name).ok_or_else(|| PayloadError::NotInstalled(spec.repository.clone()))?;
        let template = if self.settings.compact_payloads {
            payload::compact(installation, repository, id, run_id, &spec, cx.now)
        } else {
            payload::template(installation, repository, id, run_id, &spec, cx.now)
        };
        let job = Job {
            id,
            run_id,
            run_attempt: 1,
            labels: spec.labels,
            duration_ms: spec.duration_ms,
            state: JobState::Held,
            created_at: cx.now,
            runner: None,
            started_at: None,
            installation_id: installation.id,
            repository_id: repository.id,
            conclusion: spec.conclusion,
            template,
            queued_bytes: None,
            misses: 0,
        };
        self.jobs.insert(id, job);
        self.open.insert(id);
        Ok(id)
    }

    /// Queues the job of a real `queued` payload: its delivery carries these very bytes. Installs the App for the
    /// payload's owner and repository where it is not.
    pub fn add_job_from_payload(
        &mut self,
        cx: &mut Cx<'_>,
        bytes: &[u8],
        duration_ms: Millis,
    ) -> Result<u64, PayloadError> {
        let template: Value = serde_json::from_slice(bytes)?;
        let read = payload::read(&template)?;
        if self.jobs.contains_key(&read.job_id) {
            return Err(PayloadError::Exists(read.job_id));
        }
        self.adopt_installation(&template, &read);
        let job = Job {
            id: read.job_id,
            run_id: read.run_id,
            run_attempt: read.run_attempt,
            labels: read.labels,
            duration_ms,
            state: JobState::Held,
            created_at: cx.now,
            runner: None,
            started_at: None,
            installation_id: read.installation_id,
            repository_id: read.repository_id,
            conclusion: success(),
            template,
            queued_bytes: Some(Bytes::copy_from_slice(bytes)),
            misses: 0,
        };
        let id = job.id;
        self.jobs.insert(id, job);
        self.open.insert(id);
        self.queue(cx, id);
        Ok(id)
    }

    /// All jobs.
    pub fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values()
    }

    /// Jobs that are not completed.
    pub fn open_jobs(&self) -> impl Iterator<Item = &Job> {
        self.open.iter().filter_map(|id| self.jobs.get(id))
    }

    /// The job of a run that holds one: its id was drawn right before the run's.
    #[must_use]
    pub fn job_of_run(&self, run_id: u64) -> Option<&Job> {
        self.jobs.range(..run_id).next_back().map(|(_, job)| job).filter(|job| job.run_id == run_id)
    }

    /// One job.
    #[must_use]
    pub fn job(&self, id: u64) -> Option<&Job> {
        self.jobs.get(&id)
    }

    /// A user cancels a job that no runner has, or refuses to approve it; nothing happens to any other.
    pub fn cancel_queued_job(&mut self, cx: &mut Cx<'_>, id: u64) -> bool {
        let Some(job) = self.jobs.get_mut(&id) else {
            return false;
        };
        if !matches!(job.state, JobState::Waiting | JobState::Queued { .. }) {
            return false;
        }
        cx.truth.record(cx.now, Fact::JobCancelled { job_id: id });
        self.finish(cx, id, "cancelled");
        true
    }

    /// Queues a held job and assigns it to a registered runner in the same moment, whatever its labels. Nothing
    /// happens when the job is not held, or the runner is unknown, never connected (no job is given to such a one: row
    /// 18 of the decision table, facts/github.md 5.1) or has a job.
    pub fn assign_held_job(&mut self, cx: &mut Cx<'_>, job_id: u64, runner_name: &str, flag: BusyFlag) {
        let is_free = |r: &&Runner| r.name == runner_name && r.session.is_some() && r.job_id.is_none();
        let free = self.registrations().find(is_free).map(|r| r.id);
        let held = self.jobs.get(&job_id).is_some_and(|job| job.state == JobState::Held);
        if let (Some(runner_id), true) = (free, held) {
            self.queue(cx, job_id);
            self.assign(cx, job_id, runner_id, flag);
        }
    }

    /// Matches queued jobs, oldest first, with eligible idle runners.
    pub(super) fn match_jobs(&mut self, cx: &mut Cx<'_>) {
        let mut waiting: Vec<(Millis, u64)> = self
            .open_jobs()
            .filter_map(|job| match job.state {
                JobState::Queued { since, pick_at } if pick_at <= cx.now => Some((since, job.id)),
                JobState::Queued { .. }
                | JobState::Held
                | JobState::Waiting
                | JobState::Assigned { .. }
                | JobState::Running { .. }
                | JobState::Completed { .. } => None,
            })
            .collect();
        waiting.sort_unstable();
        for (_, job_id) in waiting {
            let eligible = self.jobs.get(&job_id).map(|job| self.eligible_runners(job, cx.now)).unwrap_or_default();
            // Which of them GitHub takes is not said anywhere; the oldest where nothing is left to chance.
            let last = (eligible.len() as u64).saturating_sub(1);
            let place = if last > 0 { usize::try_from(cx.tape.draw(last)).unwrap_or(0) } else { 0 };
            if let Some(runner_id) = eligible.get(place) {
                self.assign(cx, job_id, *runner_id, BusyFlag::BySettings);
            }
        }
    }

    /// Registered, shown-online runners without a job whose labels and scope serve the job. A runner whose instance died
    /// is still shown online for a while and can be given a job (actions/runner#3669).
    fn eligible_runners(&self, job: &Job, now: Millis) -> Vec<u64> {
        self.registrations()
            .filter(|r| r.ready_at <= now && r.is_shown_online(now, self.settings.offline_after_ms))
            .filter(|r| self.could_serve(r, job))
            .map(|r| r.id)
            .collect()
    }

    /// Whether a runner has no job, and its labels and its scope serve this one.
    pub(super) fn could_serve(&self, runner: &Runner, job: &Job) -> bool {
        let Some(installation) = self.installations.get(&job.installation_id) else {
            return false;
        };
        let covers = || match &runner.scope {
            Scope::Organization(_) => self.governs(installation, &runner.scope),
            Scope::Repository { owner, name } => {
                installation.repositories.iter().any(|r| r.id == job.repository_id && r.answers_to(owner, name))
            }
        };
        runner.job_id.is_none() && runner.serves(&job.labels) && covers()
    }

    fn assign(&mut self, cx: &mut Cx<'_>, job_id: u64, runner_id: u64, flag: BusyFlag) {
        let busy_shown_from = self.busy_shown_from(cx, flag);
        let missed_at = cx.now + self.settings.redelivery_ms;
        let (Some(job), Some(runner)) = (self.jobs.get_mut(&job_id), self.runners.get_mut(&runner_id)) else {
            return;
        };
        runner.job_id = Some(job_id);
        runner.busy_shown_from = busy_shown_from;
        job.state = JobState::Assigned { runner_id, handed_at: None, missed_at, hung: false };
        job.runner = Some((runner_id, runner.name.clone(), runner.group_id));
        cx.truth.record(cx.now, Fact::JobAssigned { job_id, runner: runner.name.clone() });
    }

    fn queue(&mut self, cx: &mut Cx<'_>, id: u64) {
        self.requeue(cx, id);
        if let Some(job) = self.jobs.get(&id) {
            let name = job.template["workflow_job"]["name"].as_str().unwrap_or_default().to_owned();
            cx.truth.record(cx.now, Fact::JobQueued { job_id: id, name });
            self.announce(cx, id, "queued");
        }
    }

    pub(super) fn requeue(&mut self, cx: &mut Cx<'_>, id: u64) {
        let (lo, hi) = self.settings.pickup_ms;
        let pick_at = cx.now + cx.tape.between(lo, hi);
        if let Some(job) = self.jobs.get_mut(&id) {
            job.state = JobState::Queued { since: cx.now, pick_at };
            job.runner = None;
        }
    }

    /// The job is over: its runner is free of it, an ephemeral registration is consumed, `completed` goes out.
    pub(super) fn finish(&mut self, cx: &mut Cx<'_>, id: u64, conclusion: &str) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        self.open.remove(&id);
        job.state = JobState::Completed { at: cx.now, conclusion: conclusion.to_owned() };
        if let Some((runner_id, ..)) = job.runner {
            self.consume(cx, runner_id, "its one job is over");
        }
        self.announce(cx, id, "completed");
    }

    /// An ephemeral registration serves one assignment.
    pub(super) fn consume(&mut self, cx: &mut Cx<'_>, runner_id: u64, why: &str) {
        let Some(runner) = self.runners.get_mut(&runner_id) else {
            return;
        };
        runner.job_id = None;
        if runner.stuck {
            return;
        }
        if runner.is_registered() {
            cx.truth.record(cx.now, Fact::RunnerRemoved { runner: runner.name.clone(), why: why.to_owned() });
            self.unregister(cx, runner_id);
        }
    }
}
