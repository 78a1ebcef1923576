//! The broker: what a listener talks to. Sessions, polls, acquisition, renewal, completion.

use super::runner::{Registration, Session};
use super::{Cx, GitHub, JobState};
use crate::Millis;
use crate::truth::Fact;
use serde::Serialize;

/// The version that a connected listener reports.
const RUNNER_VERSION: &str = "2.336.0";

/// The answer to a listener that opens its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionAnswer {
    /// It is the runner with this id and name.
    Opened {
        /// The runner's id.
        runner_id: u64,
        /// The runner's name.
        runner_name: String,
    },
    /// The registration does not exist (any more).
    NotFound,
    /// The configuration was used before (actions-runner-controller#4588).
    Conflict,
}

/// The answer to a poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PollAnswer {
    /// A job for this runner: to be acquired.
    Job(JobMessage),
    /// Nothing.
    Nothing,
    /// The registration is gone: the listener ends and cancels its job.
    RunnerNotFound,
}

/// A job message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobMessage {
    /// The job.
    pub job_id: u64,
    /// Its name.
    pub name: String,
    /// Its repository.
    pub repository: String,
    /// How long the job will run, in milliseconds.
    pub duration_ms: Millis,
    /// How it will end by itself.
    pub conclusion: String,
}

/// The answer to an acquisition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcquireAnswer {
    /// The job runs on this runner now.
    Acquired,
    /// Somebody else's, cancelled or missed too often.
    Refused,
}

impl GitHub {
    /// A listener opens its session with its JIT configuration. A configuration opens one session, ever.
    pub fn open_session(&mut self, cx: &mut Cx<'_>, jit_config: &str, instance_id: Option<&str>) -> SessionAnswer {
        let (lo, hi) = self.settings.pickup_ms;
        // A registration that is gone answers the same as one that never was, so the living suffice.
        let id = self.registrations().find(|r| r.jit_config == jit_config).map(|r| r.id);
        let Some(runner) = id.and_then(|id| self.runners.get_mut(&id)) else {
            return SessionAnswer::NotFound;
        };
        if !runner.is_registered() {
            return SessionAnswer::NotFound;
        }
        if runner.session.is_some() {
            return SessionAnswer::Conflict;
        }
        if cx.tape.chance(self.settings.hidden_runner) {
            let (from, until) = (self.settings.hidden_after_ms, self.settings.hidden_ms);
            let from = cx.now + cx.tape.between(from.0, from.1);
            runner.hidden = Some((from, from + cx.tape.between(until.0, until.1)));
        }
        if cx.tape.chance(self.settings.offline_runner) {
            let (from, until) = (self.settings.hidden_after_ms, self.settings.hidden_ms);
            let from = cx.now + cx.tape.between(from.0, from.1);
            runner.offline_shown = Some((from, from + cx.tape.between(until.0, until.1)));
        }
        runner.version = Some(RUNNER_VERSION.to_owned());
        runner.ready_at = cx.now + cx.tape.between(lo, hi);
        runner.session = Some(Session { instance_id: instance_id.map(str::to_owned), polled_at: cx.now, alive: true });
        let instance_id = runner.instance_id().map(str::to_owned);
        cx.truth.record(cx.now, Fact::RunnerConnected { runner: runner.name.clone(), instance_id });
        SessionAnswer::Opened { runner_id: runner.id, runner_name: runner.name.clone() }
    }

    /// A listener polls. A message that waits is handed out once; it is handed out again only after a miss.
    pub fn poll(&mut self, cx: &mut Cx<'_>, runner_id: u64) -> PollAnswer {
        let now = cx.now;
        let Some(runner) = self.runners.get_mut(&runner_id) else {
            return PollAnswer::RunnerNotFound;
        };
        match runner.registration {
            Registration::Gone { noticed_at } if noticed_at <= now => {
                self.listener_learns(cx, runner_id);
                return PollAnswer::RunnerNotFound;
            }
            Registration::Gone { .. } | Registration::Registered => {}
        }
        if let Some(session) = &mut runner.session {
            session.polled_at = now;
        }
        let Some(job_id) = runner.job_id else {
            return PollAnswer::Nothing;
        };
        self.hand_out(cx, job_id)
    }

    fn hand_out(&mut self, cx: &mut Cx<'_>, job_id: u64) -> PollAnswer {
        let missed_at = cx.now + self.settings.redelivery_ms;
        let Some(job) = self.jobs.get_mut(&job_id) else {
            return PollAnswer::Nothing;
        };
        let JobState::Assigned { runner_id, handed_at: None, .. } = job.state else {
            return PollAnswer::Nothing;
        };
        job.state = JobState::Assigned { runner_id, handed_at: Some(cx.now), missed_at, hung: false };
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        PollAnswer::Job(JobMessage {
            job_id,
            name: text(&job.template["workflow_job"]["name"]),
            repository: text(&job.template["repository"]["full_name"]),
            duration_ms: job.duration_ms,
            conclusion: job.conclusion.clone(),
        })
    }

    /// A listener acknowledges its message and hangs before it acquires the job: GitHub waits for it, and gives the job up
    /// (facts/world.md G7).
    pub fn hang(&mut self, cx: &mut Cx<'_>, job_id: u64) {
        let gives_up_at = cx.now + self.settings.hung_job_ms;
        if let Some(JobState::Assigned { missed_at, hung, .. }) = self.jobs.get_mut(&job_id).map(|job| &mut job.state) {
            (*missed_at, *hung) = (gives_up_at, true);
        }
    }

    /// A listener acquires the job of its message. Works on a registration that is already gone: the message was
    /// under way before (the job has a token of its own: actions/runner, `JobRunner.cs`).
    pub fn acquire(&mut self, cx: &mut Cx<'_>, job_id: u64, by_runner: u64) -> AcquireAnswer {
        let Some(job) = self.jobs.get_mut(&job_id) else {
            return AcquireAnswer::Refused;
        };
        match job.state {
            JobState::Assigned { runner_id, handed_at: Some(_), .. } if runner_id == by_runner => {}
            JobState::Assigned { .. }
            | JobState::Held
            | JobState::Waiting
            | JobState::Queued { .. }
            | JobState::Running { .. }
            | JobState::Completed { .. } => return AcquireAnswer::Refused,
        }
        if cx.tape.chance(self.settings.refuse_acquisition) {
            let runner = job.runner.as_ref().map(|(_, name, _)| name.clone()).unwrap_or_default();
            cx.truth.record(cx.now, Fact::JobRequeued { job_id, runner });
            self.requeue(cx, job_id);
            self.consume(cx, by_runner, "its assignment was taken back");
            return AcquireAnswer::Refused;
        }
        job.state = JobState::Running { runner_id: by_runner, renewed_at: cx.now, alive: true };
        job.started_at = Some(cx.now);
        if cx.tape.chance(self.settings.stale_busy_flag)
            && let Some(runner) = self.runners.get_mut(&by_runner)
        {
            let (lo, hi) = self.settings.stale_busy_ms;
            let from = cx.now + cx.tape.between(0, hi);
            runner.idle_shown = Some((from, from + cx.tape.between(lo, hi)));
        }
        if let Some(runner) = self.runners.get(&by_runner) {
            let instance_id = runner.instance_id().map(str::to_owned);
            cx.truth.record(cx.now, Fact::JobStarted { job_id, runner: runner.name.clone(), instance_id });
        }
        self.announce(cx, job_id, "in_progress");
        AcquireAnswer::Acquired
    }

    /// A listener renews its job's lock; false when the job does not run on that runner.
    pub fn renew(&mut self, cx: &mut Cx<'_>, job_id: u64, by_runner: u64) -> bool {
        if let Some(JobState::Running { runner_id, renewed_at, alive: true }) =
            self.jobs.get_mut(&job_id).map(|job| &mut job.state)
            && *runner_id == by_runner
        {
            *renewed_at = cx.now;
            return true;
        }
        false
    }

    /// A worker reports its job's end; false when the job does not run on that runner. The job's own token suffices:
    /// it works without a registration.
    pub fn complete(&mut self, cx: &mut Cx<'_>, job_id: u64, by_runner: u64, conclusion: &str) -> bool {
        let runs_there = matches!(
            self.jobs.get(&job_id).map(|job| &job.state),
            Some(JobState::Running { runner_id, alive: true, .. }) if *runner_id == by_runner
        );
        if runs_there {
            cx.truth.record(cx.now, Fact::JobCompleted { job_id, conclusion: conclusion.to_owned() });
            self.finish(cx, job_id, conclusion);
        }
        runs_there
    }

    /// The listener learns that its registration is gone: it cancels its running job (actions/runner, `JobDispatcher.ShutdownAsync`).
    fn listener_learns(&mut self, cx: &mut Cx<'_>, runner_id: u64) {
        let Some(runner) = self.runners.get_mut(&runner_id) else {
            return;
        };
        let name = runner.name.clone();
        if let Some(session) = &mut runner.session {
            session.alive = false;
        }
        let job_id = runner.job_id.take();
        self.bury(runner_id);
        let Some(job_id) = job_id else {
            return;
        };
        let state = self.jobs.get(&job_id).map(|job| &job.state);
        if matches!(state, Some(JobState::Running { alive: true, .. })) {
            cx.truth.record(cx.now, Fact::JobCancelledByLostRegistration { job_id, runner: name });
            self.finish(cx, job_id, "cancelled");
        } else if matches!(state, Some(JobState::Assigned { .. })) {
            cx.truth.record(cx.now, Fact::JobRequeued { job_id, runner: name });
            self.requeue(cx, job_id);
        }
    }

    /// An instance is gone and its listener with it. The truth knows at once that its job is dead; GitHub learns of
    /// it when the lock runs out.
    pub fn instance_died(&mut self, cx: &mut Cx<'_>, instance_id: &str) {
        let mut dead_jobs = Vec::new();
        let ids: Vec<u64> = self.living.iter().copied().collect();
        for id in ids {
            let Some(runner) = self.runners.get_mut(&id).filter(|r| r.instance_id() == Some(instance_id)) else {
                continue;
            };
            if let Some(session) = &mut runner.session {
                session.alive = false;
            }
            dead_jobs.extend(runner.job_id);
            if runner.job_id.is_some() && cx.tape.chance(self.settings.stuck_busy_flag) {
                runner.stuck = true;
            }
            self.bury(id);
        }
        for job_id in dead_jobs {
            if let Some(JobState::Running { alive, .. }) = self.jobs.get_mut(&job_id).map(|job| &mut job.state)
                && std::mem::replace(alive, false)
            {
                cx.truth.record(cx.now, Fact::JobKilled { job_id, instance_id: instance_id.to_owned() });
            }
        }
    }
}
