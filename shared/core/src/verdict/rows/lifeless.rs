//! Rows 4 and 25: instances on which nothing executes, because they are gone or stopped; and those that listings merely
//! miss, on which something may.

use std::time::Duration;

use super::{Conclusion, Judge, REAPED, keep, look, note};
use crate::evidence::{PositiveControl, RegistrationEvidence, VitalEvidence};
use crate::ports::Worker;
use crate::removal::{DeregistrationGround, Ground};
use crate::verdict::{Action, Note, Reason, Source};

/// How often GitHub is asked again to delete the registration of a machine that is gone, after it refused (422).
const BUSY_LOOK: Duration = Duration::from_hours(1);

impl Judge<'_> {
    /// Row 4. Where EC2 shows the instance as terminated, its registration serves nobody; GitHub's 422 keeps it for
    /// later. Where listings merely miss it (the proof of design section 4), that is an absence, and any sign of life
    /// outweighs it.
    pub(super) fn gone(&self) -> Conclusion {
        let record = self.record;
        let Some(gone_at) = record.gone_at else { return note(Note::Gone, Reason::Gone) };
        let handing_over = record.jit_intent_at.is_some() && record.handed_over_at.is_none();
        if handing_over && !self.passed(gone_at, self.timers.boot_grace) {
            // An answer to generate-jitconfig may be on its way, and would leave a registration and a parameter behind.
            return keep(Reason::Ending);
        }
        // GitHub holds the runner of a machine lost in mid-job busy for hours; each DELETE in between is a call in vain.
        if record.busy_seen_at.is_some_and(|busy| busy >= gone_at && !self.passed(busy, BUSY_LOOK)) {
            return keep(Reason::BusyNow);
        }
        if self.passed(gone_at, REAPED) {
            return (Action::CleanUp, Reason::Gone);
        }
        if record.missing_since.is_some()
            && let Some(conclusion) = self.missed_and_alive()
        {
            return conclusion;
        }
        match (&self.evidence.registration, self.evidence.control) {
            (RegistrationEvidence::NotAsked, _) => look(Source::Registrations, Reason::Gone),
            (RegistrationEvidence::Unread, _) => keep(Reason::RegistrationUnread),
            (RegistrationEvidence::Denied, _) => keep(Reason::RegistrationDenied),
            (RegistrationEvidence::Present(runner), _) => self
                .asked_by_itself(Reason::Gone)
                .unwrap_or_else(|| self.deregister(runner, DeregistrationGround::InstanceGone, Reason::Gone)),
            (RegistrationEvidence::Absent, PositiveControl::Held | PositiveControl::Cautious) => {
                (Action::CleanUp, Reason::Gone)
            }
            (
                RegistrationEvidence::Absent,
                PositiveControl::NotAsked
                | PositiveControl::Unanswered
                | PositiveControl::Denied
                | PositiveControl::MassAbsence,
            ) => keep(Reason::NoPositiveControl),
        }
    }

    /// Signs of life of an instance that no listing shows; a tag that was taken away hides a running instance as well.
    fn missed_and_alive(&self) -> Option<Conclusion> {
        let record = self.record;
        let heard_of = match self.evidence.vital_sign {
            VitalEvidence::Unread => return Some(keep(Reason::VitalSignUnread)),
            VitalEvidence::Never => false,
            VitalEvidence::Sign(sign) => {
                sign.worker != Worker::None || record.missing_since.is_some_and(|since| sign.beat_at >= since)
            }
        };
        let unfinished = record.has_job_evidence() && record.job_completed.is_none();
        match &self.evidence.registration {
            // First its id: a name is unique within a scope only, and what is said of another id is a neighbour's.
            RegistrationEvidence::Present(runner) if record.runner_id.is_none() => {
                Some(note(Note::RunnerId(runner.id), Reason::RunnerFound))
            }
            RegistrationEvidence::Present(runner) if runner.busy || runner.online || heard_of || unfinished => {
                Some(keep(Reason::NotGone))
            }
            RegistrationEvidence::Present(_) => self.settled(Reason::Gone),
            RegistrationEvidence::NotAsked
            | RegistrationEvidence::Unread
            | RegistrationEvidence::Denied
            | RegistrationEvidence::Absent => None,
        }
    }

    /// Row 25: nothing executes on a stopped instance. It must have been stopped for longer than GitHub holds a job
    /// that renews its lease no more (10 min, facts/github.md 1.4): a hibernated one may be woken with its job alive.
    pub(super) fn stopped(&self) -> Conclusion {
        let Some(since) = self.record.stopped_since else { return note(Note::Stopped, Reason::Stopped) };
        if !self.passed(since, self.timers.completed_grace) {
            return keep(Reason::Stopped);
        }
        if self.protected() {
            return keep(Reason::Protected);
        }
        match &self.evidence.registration {
            RegistrationEvidence::NotAsked => look(Source::Registrations, Reason::Stopped),
            RegistrationEvidence::Unread => keep(Reason::RegistrationUnread),
            RegistrationEvidence::Denied => keep(Reason::RegistrationDenied),
            RegistrationEvidence::Present(runner) if !runner.busy => self
                .asked_by_itself(Reason::Stopped)
                .unwrap_or_else(|| self.deregister(runner, DeregistrationGround::Stopped, Reason::Stopped)),
            // GitHub would refuse (422): it holds the runner of a machine lost in mid-job busy for hours.
            RegistrationEvidence::Present(_) | RegistrationEvidence::Absent => {
                self.asked_by_itself(Reason::Stopped).unwrap_or_else(|| self.end(Ground::Stopped, Reason::Stopped))
            }
        }
    }
}
