//! Rows 18 to 23: a living instance on which nothing speaks for a job. It boots, is wanted, is asked to drain, or its
//! runner goes.

use super::{Conclusion, Judge, keep, look, note};
use crate::evidence::{DemandEvidence, RegistrationEvidence};
use crate::ledger::{Known, Spell};
use crate::ports::Runner;
use crate::removal::{DeregistrationGround, Ground};
use crate::time::Timestamp;
use crate::verdict::{Note, Reason, Source};

/// A living instance without any job evidence that we have not deregistered.
pub(super) struct Undrained<'a> {
    pub(super) judge: &'a Judge<'a>,
    pub(super) silent: bool,
}

impl Undrained<'_> {
    pub(super) fn conclude(&self) -> Conclusion {
        // A configuration may come late, and the runner's time to connect begins with it.
        let record = self.judge.record;
        let equipped_at = record.handed_over_at.or(record.jit_intent_at).unwrap_or(self.judge.launched_at);
        let booted = self.judge.passed(self.judge.launched_at.max(equipped_at), self.judge.timers.boot_grace);
        match record.runner_id {
            None if !booted => keep(Reason::Booting),
            None if !self.silent => keep(Reason::SupervisorAlive),
            None => self.without_runner_id(),
            Some(_) => self.with_runner_id(booted),
        }
    }

    /// Rows 22 and 23, asked by name.
    fn without_runner_id(&self) -> Conclusion {
        match (&self.judge.evidence.registration, self.judge.record.jit_intent()) {
            (RegistrationEvidence::NotAsked, _) => look(Source::Registrations, Reason::ConfigurationUnaccounted),
            (RegistrationEvidence::Unread, _) => keep(Reason::RegistrationUnread),
            (RegistrationEvidence::Denied, _) => keep(Reason::RegistrationDenied),
            (RegistrationEvidence::Present(runner), _) => note(Note::RunnerId(runner.id), Reason::RunnerFound),
            (RegistrationEvidence::Absent, Known::Unread) => keep(Reason::ConfigurationUnaccounted),
            (RegistrationEvidence::Absent, Known::Is(_)) => self.judge.registration_absent(self.silent),
            // The intent is written before the call, so without it no configuration and no job can exist.
            (RegistrationEvidence::Absent, Known::Absent) => self
                .judge
                .settled(Reason::NeverConnected)
                .unwrap_or_else(|| self.judge.end(Ground::NeverConnected, Reason::NeverConnected)),
        }
    }

    fn with_runner_id(&self, booted: bool) -> Conclusion {
        let record = self.judge.record;
        match &self.judge.evidence.registration {
            RegistrationEvidence::NotAsked => self.before_asking(booted),
            RegistrationEvidence::Unread if self.judge.policy.mutant.takes_an_error_for_dead() => {
                self.judge.end(Ground::RegistrationGone, Reason::RegistrationGone)
            }
            RegistrationEvidence::Unread => keep(Reason::RegistrationUnread),
            RegistrationEvidence::Denied => keep(Reason::RegistrationDenied),
            RegistrationEvidence::Absent if record.deregister_intent.is_some() && !self.judge.rebuilt() => {
                let reason = Reason::DeregistrationInDoubt;
                self.judge.asked_by_itself(reason).unwrap_or(note(Note::Deregistered, reason))
            }
            RegistrationEvidence::Absent if !booted => keep(Reason::Booting),
            RegistrationEvidence::Absent => self.judge.registration_absent(self.silent),
            RegistrationEvidence::Present(runner) if runner.busy => note(Note::Busy, Reason::BusyNow),
            // A DELETE was begun and did not happen: what is found later is not its doing.
            RegistrationEvidence::Present(_) if record.deregister_intent.is_some() => {
                note(Note::RegistrationBack, Reason::RegistrationBack)
            }
            RegistrationEvidence::Present(runner)
                if record.absent.is_some() || (runner.online && record.offline.is_some()) =>
            {
                note(Note::RowsBroken, Reason::RunnerFound)
            }
            RegistrationEvidence::Present(_) if self.judge.rebuilt() => keep(Reason::RebuiltRecord),
            RegistrationEvidence::Present(runner) if !runner.online => self.offline(runner, booted),
            RegistrationEvidence::Present(runner) => self.idle(runner),
        }
    }

    /// Ledger, EC2 and the instance alone decide whether it is drained or GitHub is asked.
    fn before_asking(&self, booted: bool) -> Conclusion {
        let record = self.judge.record;
        let ghost = self.silent && !self.judge.rebuilt();
        if record.deregister_intent.is_some() {
            return look(Source::Registrations, Reason::DeregistrationInDoubt);
        }
        match self.wanted() {
            Some(reason) if record.drain_requested_at.is_some() || record.idle_since.is_some() => {
                note(Note::Wanted, reason)
            }
            // Whether its registration is gone or it never connected: such a runner serves nobody.
            Some(reason) if ghost && booted => look(Source::Registrations, reason),
            Some(reason) => keep(reason),
            None if ghost && (self.drain_is_unanswered() || (booted && record.idle_since.is_none())) => {
                look(Source::Registrations, Reason::Surplus)
            }
            None => self.judge.drain(),
        }
    }

    /// Whether a job may be about to come for it, or the fleet's idle schedule keeps it.
    fn wanted(&self) -> Option<Reason> {
        let young = |age| !self.judge.passed(self.judge.launched_at, age);
        let timers = self.judge.timers;
        match self.judge.evidence.demand {
            DemandEvidence::Unread | DemandEvidence::Waiting => Some(Reason::Wanted),
            // The instance that was launched for such a job may be this one, still booting.
            DemandEvidence::WaitingLong => {
                young(timers.minimum_running.max(timers.boot_grace)).then_some(Reason::Wanted)
            }
            DemandEvidence::Quiet => young(timers.minimum_running).then_some(Reason::Wanted),
            DemandEvidence::Pool => Some(Reason::Pool),
            DemandEvidence::Unwanted => None,
        }
    }

    fn drain_is_unanswered(&self) -> bool {
        let record = self.judge.record;
        record.drain_requested_at.is_some_and(|requested| self.judge.passed(requested, self.judge.timers.drain_answer))
    }

    /// Row 18, else row 19.
    fn offline(&self, runner: &Runner, booted: bool) -> Conclusion {
        let never_connected = runner.version == Some(None) && runner.ephemeral == Some(true);
        match self.judge.record.offline {
            _ if !booted => self.not_idle(Reason::Booting),
            _ if !self.silent => self.not_idle(Reason::SupervisorAlive),
            _ if never_connected && self.judge.policy.mutant.waits_for_runners_for_ever() => keep(Reason::Booting),
            _ if never_connected => self.judge.settled(Reason::NeverConnected).unwrap_or_else(|| {
                self.judge.deregister(runner, DeregistrationGround::NeverConnected, Reason::NeverConnected)
            }),
            Some(spell) if self.judge.is_long(spell) => {
                self.judge.settled(Reason::OfflineConfirmed).unwrap_or_else(|| {
                    self.judge.deregister(runner, DeregistrationGround::Offline, Reason::OfflineConfirmed)
                })
            }
            Some(_) | None => note(Note::Offline, Reason::Offline),
        }
    }

    /// Rows 20 and 21.
    fn idle(&self, runner: &Runner) -> Conclusion {
        let record = self.judge.record;
        if let Some(reason) = self.wanted() {
            return match (record.drain_requested_at, record.idle_since) {
                (None, None) => keep(reason),
                (_, _) => note(Note::Wanted, reason),
            };
        }
        let row = if self.judge.policy.mutant.believes_one_idle_reading() {
            Some((Timestamp(0), self.judge.evidence.heard.at))
        } else {
            record.idle_since.zip(record.idle_seen_at)
        };
        let Some((idle_since, idle_seen_at)) = row else {
            return note(Note::Idle, Reason::IdleTooShort);
        };
        if self.judge.passed(idle_seen_at, Spell::GAP) {
            return note(Note::Idle, Reason::IdleTooShort);
        }
        if record.drain_requested_at.is_none() {
            return self.judge.drain();
        }
        if !self.drain_is_unanswered() {
            return keep(Reason::DrainUnanswered);
        }
        if !self.silent {
            return keep(Reason::SupervisorAlive);
        }
        if !self.judge.passed(idle_since, self.judge.timers.idle_window) {
            // Renewed before it is too old, where the window is longer than the gap.
            let to_renew = self.judge.passed(idle_seen_at, Spell::GAP / 3);
            return if to_renew { note(Note::Idle, Reason::IdleTooShort) } else { keep(Reason::IdleTooShort) };
        }
        self.judge
            .settled(Reason::IdleConfirmed)
            .unwrap_or_else(|| self.judge.deregister(runner, DeregistrationGround::Idle, Reason::IdleConfirmed))
    }

    /// Anything but an idle reading breaks the row of them.
    fn not_idle(&self, reason: Reason) -> Conclusion {
        match self.judge.record.idle_since {
            Some(_) => note(Note::RowsBroken, reason),
            None => keep(reason),
        }
    }
}
