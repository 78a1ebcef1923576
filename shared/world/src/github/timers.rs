//! What GitHub does by itself as time passes.

use super::{Cx, GitHub, Job, JobState, Runner};
use crate::Millis;
use crate::truth::Fact;

impl GitHub {
    /// When something is due by itself.
    #[must_use]
    pub fn next_event_at(&self) -> Option<Millis> {
        let offline_after_ms = self.settings.offline_after_ms;
        // Whoever is offline now is online only after an event from outside.
        let mut free = Vec::new();
        let mut soonest = Millis::MAX;
        for runner in self.registrations() {
            soonest = soonest.min(self.reaped_at(runner).unwrap_or(Millis::MAX));
            if runner.is_free() && runner.is_shown_online(self.clock, offline_after_ms) {
                free.push(runner);
            }
        }
        for job in self.open_jobs() {
            let due = match job.state {
                JobState::Queued { since, pick_at } => self
                    .matches_at(job, pick_at, &free)
                    .unwrap_or(Millis::MAX)
                    .min(since + self.settings.queue_limit_ms),
                JobState::Assigned { missed_at, .. } => missed_at,
                JobState::Running { renewed_at, .. } => renewed_at + self.settings.lost_job_ms,
                JobState::Held | JobState::Waiting | JobState::Completed { .. } => continue,
            };
            soonest = soonest.min(due);
        }
        (soonest < Millis::MAX).then_some(soonest)
    }

    /// Does what is due at `cx.now`.
    pub fn advance(&mut self, cx: &mut Cx<'_>) {
        self.miss_messages(cx);
        self.give_up_silent_jobs(cx);
        self.cancel_stale_jobs(cx);
        self.reap(cx);
        self.match_jobs(cx);
    }

    /// The moment at which a job and one of these runners become a match, none of them in the past: a listener that
    /// was there then and is not any more takes nothing. A job without any free runner waits
    /// for a session or a poll, which are events from outside.
    fn matches_at(&self, job: &Job, pick_at: Millis, free: &[&Runner]) -> Option<Millis> {
        free.iter()
            .filter(|r| self.could_serve(r, job))
            .map(|r| (r, r.ready_at.max(pick_at).max(self.clock)))
            .filter(|(r, at)| r.is_shown_online(*at, self.settings.offline_after_ms))
            .map(|(_, at)| at)
            .min()
    }

    /// A message that was not acquired in time is a miss: it is delivered again, then the job is cancelled
    /// (actions/runner#4728). A listener that cannot get it any more loses the job to the queue.
    fn miss_messages(&mut self, cx: &mut Cx<'_>) {
        let missed: Vec<(u64, u64)> = self
            .open_jobs()
            .filter_map(|job| match job.state {
                JobState::Assigned { runner_id, missed_at, .. } if missed_at <= cx.now => Some((job.id, runner_id)),
                JobState::Assigned { .. }
                | JobState::Held
                | JobState::Waiting
                | JobState::Queued { .. }
                | JobState::Running { .. }
                | JobState::Completed { .. } => None,
            })
            .collect();
        for (job_id, runner_id) in missed {
            self.miss(cx, job_id, runner_id);
        }
    }

    fn miss(&mut self, cx: &mut Cx<'_>, job_id: u64, runner_id: u64) {
        let (misses_max, redelivery_ms, offline_after_ms) =
            (self.settings.message_misses_max, self.settings.redelivery_ms, self.settings.offline_after_ms);
        let listens = self
            .runners
            .get(&runner_id)
            .is_some_and(|r| r.is_registered() && r.is_shown_online(cx.now, offline_after_ms));
        let runner = self.runners.get(&runner_id).map(|r| r.name.clone()).unwrap_or_default();
        let Some(job) = self.jobs.get_mut(&job_id) else {
            return;
        };
        if matches!(job.state, JobState::Assigned { hung: true, .. }) {
            let why = "acknowledged, and not acquired in 10 min".to_owned();
            cx.truth.record(cx.now, Fact::JobDropped { job_id, why });
            self.finish(cx, job_id, "failure");
            return;
        }
        job.misses += 1;
        if job.misses >= misses_max {
            cx.truth
                .record(cx.now, Fact::JobDropped { job_id, why: format!("not acquired after {misses_max} attempts") });
            self.finish(cx, job_id, "cancelled");
        } else if listens {
            job.state =
                JobState::Assigned { runner_id, handed_at: None, missed_at: cx.now + redelivery_ms, hung: false };
        } else {
            cx.truth.record(cx.now, Fact::JobRequeued { job_id, runner });
            self.requeue(cx, job_id);
            self.consume(cx, runner_id, "its assignment was not acquired");
        }
    }

    /// A job whose lock was not renewed fails.
    fn give_up_silent_jobs(&mut self, cx: &mut Cx<'_>) {
        let lost_job_ms = self.settings.lost_job_ms;
        let silent: Vec<(u64, bool)> = self
            .open_jobs()
            .filter_map(|job| match job.state {
                JobState::Running { renewed_at, alive, .. } if renewed_at + lost_job_ms <= cx.now => {
                    Some((job.id, alive))
                }
                JobState::Running { .. }
                | JobState::Held
                | JobState::Waiting
                | JobState::Queued { .. }
                | JobState::Assigned { .. }
                | JobState::Completed { .. } => None,
            })
            .collect();
        for (job_id, alive) in silent {
            if alive {
                let why = "the runner lost communication with the server".to_owned();
                cx.truth.record(cx.now, Fact::JobDropped { job_id, why });
            }
            self.finish(cx, job_id, "failure");
        }
    }

    /// A job that nobody took within the queue limit is cancelled.
    fn cancel_stale_jobs(&mut self, cx: &mut Cx<'_>) {
        let limit = self.settings.queue_limit_ms;
        let stale: Vec<u64> = self
            .open_jobs()
            .filter(|job| matches!(job.state, JobState::Queued { since, .. } if since + limit <= cx.now))
            .map(|job| job.id)
            .collect();
        for job_id in stale {
            let why = "queued for too long".to_owned();
            cx.truth.record(cx.now, Fact::JobDropped { job_id, why });
            self.finish(cx, job_id, "cancelled");
        }
    }

    /// Ephemeral registrations that were not connected for a day are removed by GitHub, unless it holds them busy
    /// (docs; actions/runner#700).
    fn reap(&mut self, cx: &mut Cx<'_>) {
        let due: Vec<u64> =
            self.registrations().filter(|r| self.reaped_at(r).is_some_and(|at| at <= cx.now)).map(|r| r.id).collect();
        for id in due {
            if let Some(runner) = self.runners.get_mut(&id) {
                runner.stuck = false;
            }
            self.consume(cx, id, "not connected for a day");
        }
    }

    fn reaped_at(&self, runner: &super::Runner) -> Option<Millis> {
        if runner.job_id.is_some() || runner.session.as_ref().is_some_and(|s| s.alive) {
            return None;
        }
        let last = runner.session.as_ref().map_or(runner.registered_at, |s| s.polled_at);
        Some(last + self.settings.ephemeral_reaper_ms)
    }
}
