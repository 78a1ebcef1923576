//! Rows 6 to 12, 15 and 17: a living instance on which a job started, or may have. Where its end is not known and the
//! jobs API does not tell, it is kept until the hard age.

use std::time::Duration;

use super::{Conclusion, Judge, keep, look, note};
use crate::evidence::{AssignedJob, DeliveryEvidence, JobsEvidence, RegistrationEvidence};
use crate::ledger::Elsewhere;
use crate::removal::{DeregistrationGround, Ground};
use crate::verdict::{Note, Reason, Source};

/// How often the job of a busy runner is sought whose supervisor is silent: each time costs a call for every run in
/// progress. More often, and one such instance uses up its owner's hourly budget; less often, and it is found later, and
/// meanwhile kept.
const SOUGHT_LOOK: Duration = Duration::from_hours(1);

impl Judge<'_> {
    /// Rows 7 and 12: self-termination failed after the only job that an ephemeral runner can have.
    pub(super) fn completed_and_running(&self) -> Conclusion {
        match &self.evidence.registration {
            RegistrationEvidence::NotAsked => look(Source::Registrations, Reason::JobCompleted),
            RegistrationEvidence::Unread => keep(Reason::RegistrationUnread),
            RegistrationEvidence::Denied => keep(Reason::RegistrationDenied),
            RegistrationEvidence::Present(runner) if runner.busy && runner.online => note(Note::Busy, Reason::BusyNow),
            // GitHub holds the runner of a lost machine busy for hours; the jobs API must say so in this very pass.
            RegistrationEvidence::Present(runner) if runner.busy => match self.evidence.assigned_job {
                AssignedJob::NotAsked => look(Source::Job, Reason::BusyNow),
                AssignedJob::Unread => keep(Reason::JobUnread),
                AssignedJob::Denied => keep(Reason::JobDenied),
                AssignedJob::Here | AssignedJob::Elsewhere => keep(Reason::BusyNow),
                AssignedJob::Completed => self
                    .delivered(Reason::JobCompleted)
                    .unwrap_or_else(|| self.end(Ground::JobCompleted, Reason::JobCompleted)),
            },
            RegistrationEvidence::Present(runner) => self
                .delivered(Reason::JobCompleted)
                .unwrap_or_else(|| self.deregister(runner, DeregistrationGround::JobCompleted, Reason::JobCompleted)),
            RegistrationEvidence::Absent if self.record.runner_id.is_some() => self
                .delivered(Reason::JobCompleted)
                .unwrap_or_else(|| self.end(Ground::JobCompleted, Reason::JobCompleted)),
            // A record without a runner id cannot have a completed job.
            RegistrationEvidence::Absent => keep(Reason::ConfigurationUnaccounted),
        }
    }

    /// Rows 8 to 11, 15 and 17: a job started, or may have, and is not known to have ended. The supervisor ends the
    /// instance when it does; only a silent one is asked about.
    pub(super) fn with_a_job(&self, silent: bool) -> Conclusion {
        let reason = match (self.record.deregistered_at, &self.record.job_started) {
            (Some(_), _) => Reason::JobSurfaced,
            (None, Some(_)) => Reason::JobRunning,
            (None, None) => Reason::BusySeen,
        };
        match &self.evidence.registration {
            _ if !silent => keep(reason),
            RegistrationEvidence::NotAsked => look(Source::Registrations, reason),
            RegistrationEvidence::Unread | RegistrationEvidence::Denied => keep(reason),
            // Remembered once, and once more where it contradicts what the jobs API says of its job.
            RegistrationEvidence::Present(runner) if runner.busy && runner.online => {
                let contradicted = self.record.elsewhere.map(|elsewhere| elsewhere.since);
                match self.record.busy_seen_at {
                    Some(seen) if contradicted.is_none_or(|since| seen > since) => keep(Reason::BusyNow),
                    Some(_) | None => note(Note::Busy, Reason::BusyNow),
                }
            }
            RegistrationEvidence::Present(runner) if self.record.runner_id.is_none() => {
                note(Note::RunnerId(runner.id), Reason::RunnerFound)
            }
            RegistrationEvidence::Present(_) | RegistrationEvidence::Absent => match self.record.job_in_question() {
                Some(_) => self.by_the_jobs_api(reason),
                None => self.job_unknown(),
            },
        }
    }

    /// Rows 6 to 11.
    fn by_the_jobs_api(&self, reason: Reason) -> Conclusion {
        let same = |elsewhere: &Elsewhere| Some(elsewhere.job_id) == self.record.job_in_question();
        match (self.evidence.assigned_job, self.record.elsewhere.filter(same)) {
            (AssignedJob::NotAsked, _) => look(Source::Job, reason),
            // Its end may lie among the failed deliveries.
            (AssignedJob::Unread, _) => self.unless_delivered(Reason::JobUnread),
            (AssignedJob::Denied, _) => self.unless_delivered(Reason::JobDenied),
            (AssignedJob::Here, Some(_)) => note(Note::JobHere, reason),
            (AssignedJob::Here, None) => keep(reason),
            (AssignedJob::Completed, _) => note(Note::JobCompleted, Reason::CompletedRecently),
            (AssignedJob::Elsewhere, None) => note(Note::JobElsewhere, Reason::JobElsewhere),
            (AssignedJob::Elsewhere, Some(first)) if self.passed(first.since, self.timers.idle_window) => {
                note(Note::JobDropped, Reason::JobElsewhere)
            }
            (AssignedJob::Elsewhere, Some(_)) => keep(Reason::JobElsewhere),
        }
    }

    /// Kept for that reason, once the failed deliveries were gone through in vain.
    fn unless_delivered(&self, reason: Reason) -> Conclusion {
        match self.evidence.deliveries {
            DeliveryEvidence::NotAsked => look(Source::Recheck, reason),
            DeliveryEvidence::Unsettled | DeliveryEvidence::Settled => keep(reason),
        }
    }

    /// Row 17: looked for among the failed deliveries, the jobs that wait and those in progress; else kept to the end.
    pub(super) fn job_unknown(&self) -> Conclusion {
        let lately = self.record.sought_at.is_some_and(|at| !self.passed(at, SOUGHT_LOOK));
        match self.evidence.jobs {
            JobsEvidence::NotAsked | JobsEvidence::Unread | JobsEvidence::NoneOnRunner if lately => {
                keep(Reason::BusySeen)
            }
            JobsEvidence::NotAsked => look(Source::Recheck, Reason::BusySeen),
            JobsEvidence::Unread | JobsEvidence::NoneOnRunner => note(Note::Sought, Reason::BusySeen),
            JobsEvidence::OnRunner(_) => keep(Reason::JobSurfaced),
        }
    }
}
