//! The rows of the decision table, one arm each. First match wins.
//!
//! Here is their order, and what precedes every destructive act; in `jobs`, `undrained` and `lifeless` are the rows of
//! instances with a job, without one, and on which nothing executes.

mod jobs;
mod lifeless;
#[cfg(feature = "mutants")]
mod naive;
mod undrained;

use std::time::Duration;

use super::reason::{Reason, Veto, Vetoes};
use super::watch::Watch;
use super::{Action, Note, Source};
use crate::config::{HARD_AGE, Policy, Timers};
use crate::evidence::{
    AssignedJob, DeliveryEvidence, Evidence, JobsEvidence, Ownership, PositiveControl, RecordEvidence,
    RegistrationEvidence, VitalEvidence, Witness,
};
use crate::ledger::{DeregistrationOutcome, InstanceRecord, Origin, Spell};
use crate::ports::{InstanceState, Runner, Worker};
use crate::removal::{DeregistrationGround, Ground};
use crate::time::Timestamp;

use undrained::Undrained;

/// GitHub removes an ephemeral registration that was not connected for more than a day (docs.github.com,
/// actions/reference/runners/self-hosted-runners, read 2026-11-20); after two, what is left is not ours to remove.
pub const REAPED: Duration = Duration::from_hours(48);

/// Row 26. How often an instance is tried again that EC2 refuses to end: protection is a person's will and lasts. More
/// often, and every pass makes a call in vain; less often, and an instance outlives its protection by longer.
const PROTECTED_LOOK: Duration = Duration::from_hours(1);

/// How far the clocks of two functions may differ: those of Lambda are kept by AWS, so an hour is far beyond it.
const CLOCKS_DIFFER: Duration = Duration::from_hours(1);

/// A reading older than this supports nothing destructive and is made again. Longer, and a job that was assigned
/// meanwhile is not in it; shorter, and a re-check of many jobs is out of date when it ends.
const STALE: Duration = Duration::from_mins(5);

type Conclusion = (Action, Reason);

fn keep(reason: Reason) -> Conclusion {
    (Action::Keep, reason)
}

fn note(note: Note, reason: Reason) -> Conclusion {
    (Action::Note(note), reason)
}

/// More must be read; meanwhile it is kept for that reason.
fn look(source: Source, reason: Reason) -> Conclusion {
    (Action::Look(source), reason)
}

/// Whatever in the evidence speaks for a job, in no order: what the rows weigh, an account for people.
pub(super) fn signs_of_life(evidence: &Evidence, policy: &Policy, now: Timestamp) -> Vetoes {
    let Some(record) = evidence.known_record() else { return Vetoes::NONE };
    let watch = Watch::at(now, policy.mutant);
    let judge = Judge::new(evidence, record, policy, &watch);
    let busy = matches!(&evidence.registration, RegistrationEvidence::Present(runner) if runner.busy);
    let on_runner = match (evidence.jobs, evidence.assigned_job) {
        (JobsEvidence::OnRunner(_), _) | (_, AssignedJob::Here) => true,
        (
            JobsEvidence::NotAsked | JobsEvidence::Unread | JobsEvidence::NoneOnRunner,
            AssignedJob::NotAsked
            | AssignedJob::Unread
            | AssignedJob::Denied
            | AssignedJob::Elsewhere
            | AssignedJob::Completed,
        ) => false,
    };
    [
        (record.has_job_evidence() && record.job_completed.is_none(), Veto::Ledger),
        (judge.silent().is_none_or(|silent| !silent), Veto::VitalSign),
        (busy, Veto::Registration),
        (on_runner, Veto::Jobs),
    ]
    .into_iter()
    .filter(|(speaks, _)| *speaks)
    .fold(Vetoes::NONE, |vetoes, (_, veto)| vetoes.with(veto))
}

/// Rows 0, 1 (the ledger), 2, 4, 24 and 25; then those of a living instance.
pub(super) fn conclude(evidence: &Evidence, policy: &Policy, watch: &Watch) -> Conclusion {
    let missed = |record: &InstanceRecord| record.missing_since.is_some() || record.gone_at.is_some();
    match evidence.ownership {
        Ownership::Foreign => return keep(Reason::NotOurs),
        // It is listed, so it is not gone, whoever may touch it and whatever its state.
        Ownership::Bypassed | Ownership::Ours
            if evidence.instance.state != InstanceState::Terminated && evidence.known_record().is_some_and(missed) =>
        {
            return note(Note::Seen, Reason::SeenAgain);
        }
        Ownership::Bypassed => return keep(Reason::Bypassed),
        Ownership::Ours => {}
    }
    let record = match &evidence.record {
        RecordEvidence::Unread => return keep(Reason::LedgerUnread),
        RecordEvidence::Foreign => return keep(Reason::ForeignRecord),
        RecordEvidence::Absent => return without_record(evidence, policy, watch),
        RecordEvidence::Present(record) => &record.record,
    };
    if let RegistrationEvidence::Present(runner) = &evidence.registration
        && runner.name != record.runner_name
    {
        return keep(Reason::ForeignRegistration);
    }
    let judge = Judge::new(evidence, record, policy, watch);
    match evidence.instance.state {
        InstanceState::Terminated if record.gone_at.is_some() && record.cleaned_at.is_some() => keep(Reason::Ending),
        InstanceState::Terminated => judge.gone(),
        InstanceState::ShuttingDown => keep(Reason::Ending),
        InstanceState::Pending
        | InstanceState::Running
        | InstanceState::Stopping
        | InstanceState::Stopped
        | InstanceState::Unrecognised
            if judge.past_hard_age() =>
        {
            judge.end(Ground::HardAge, Reason::HardAge)
        }
        // It was started and is being stopped once more.
        InstanceState::Stopping if record.stopped_since.is_some() => note(Note::Running, Reason::NotRunning),
        InstanceState::Stopping | InstanceState::Unrecognised => keep(Reason::NotRunning),
        InstanceState::Stopped => judge.stopped(),
        InstanceState::Pending | InstanceState::Running => judge.living(),
    }
}

/// Row 24. What is gone already leaves nothing that a rebuilt record would help to remove, and the record of a young
/// instance may be about to be written by the launch that made it.
fn without_record(evidence: &Evidence, policy: &Policy, watch: &Watch) -> Conclusion {
    let booted = watch.passed(evidence.instance.launched_at, policy.orphan_timers.boot_grace);
    match evidence.instance.state {
        InstanceState::Terminated | InstanceState::ShuttingDown => keep(Reason::Ending),
        InstanceState::Pending
        | InstanceState::Running
        | InstanceState::Stopping
        | InstanceState::Stopped
        | InstanceState::Unrecognised => {
            if booted {
                (Action::Rebuild, Reason::NoRecord)
            } else {
                keep(Reason::Booting)
            }
        }
    }
}

struct Judge<'a> {
    evidence: &'a Evidence,
    record: &'a InstanceRecord,
    policy: &'a Policy,
    timers: &'a Timers,
    watch: &'a Watch,
    /// By our record or by EC2's word, whichever is later.
    launched_at: Timestamp,
}

impl<'a> Judge<'a> {
    fn new(evidence: &'a Evidence, record: &'a InstanceRecord, policy: &'a Policy, watch: &'a Watch) -> Self {
        let launched_at = record.launched_at.max(evidence.instance.launched_at);
        Self { evidence, record, policy, timers: policy.timers(&record.fleet), watch, launched_at }
    }

    fn passed(&self, since: Timestamp, duration: Duration) -> bool {
        self.watch.passed(since, duration)
    }

    fn rebuilt(&self) -> bool {
        match self.record.origin {
            Origin::Launch => false,
            Origin::Rebuilt { .. } => true,
        }
    }

    /// The instance's own word.
    fn vital_sign(&self) -> VitalEvidence {
        let mutant = self.policy.mutant;
        let absent = matches!(self.evidence.registration, RegistrationEvidence::Absent);
        let deaf = match self.record.deregistered_at {
            None if !absent => mutant.ignores_the_instance_before_delete(),
            None | Some(_) => mutant.ignores_the_instance_before_terminate(),
        };
        if deaf { VitalEvidence::Never } else { self.evidence.vital_sign }
    }

    /// Whether the instance has said nothing for long enough, and nothing of a worker when it last spoke: a job may
    /// outlive its supervisor, so a worker that was alive then vetoes until the hard age. `None`: not read.
    fn silent(&self) -> Option<bool> {
        let silence = self.timers.vital_sign_silence;
        match self.vital_sign() {
            VitalEvidence::Unread => None,
            VitalEvidence::Sign(sign) => Some(match sign.worker {
                Worker::Acquiring | Worker::Running | Worker::Unrecognised => false,
                Worker::None => self.passed(sign.beat_at, silence),
            }),
            VitalEvidence::Never => Some(self.passed(self.launched_at, silence)),
        }
    }

    // The two destructive acts.

    /// Whether another pass stored this intent a short while ago and may be about to act on it, or be acting.
    fn in_hand(&self, intent_at: Option<Timestamp>) -> bool {
        let for_ever = self.policy.mutant.takes_begun_for_finished();
        intent_at.is_some_and(|at| for_ever || !self.passed(at, self.timers.removal_lease))
    }

    fn end(&self, ground: Ground, reason: Reason) -> Conclusion {
        if self.in_hand(self.record.terminate_intent.map(|intent| intent.at)) {
            return keep(Reason::InHand);
        }
        if self.protected() {
            return keep(Reason::Protected);
        }
        (Action::Terminate(ground), reason)
    }

    /// The instance decides; nobody else can see what runs there.
    fn drain(&self) -> Conclusion {
        if self.policy.mutant.ends_instead_of_draining() {
            return self.end(Ground::IdleAfterDeregistration, Reason::Surplus);
        }
        (Action::Drain, Reason::Surplus)
    }

    fn protected(&self) -> bool {
        self.record.protected_at.is_some_and(|at| !self.passed(at, PROTECTED_LOOK))
    }

    fn deregister(&self, runner: &Runner, ground: DeregistrationGround, reason: Reason) -> Conclusion {
        // Answered or not: a second DELETE would rest on what was read before the first.
        if self.in_hand(self.record.deregister_intent.map(|intent| intent.at)) {
            return keep(Reason::InHand);
        }
        (Action::Deregister(runner.id, ground), reason)
    }

    /// A DELETE that is not known to be answered.
    fn deregistration_in_hand(&self) -> bool {
        let open = |at: &Timestamp| self.record.deregistered_at.is_none_or(|done| done < *at);
        self.in_hand(self.record.deregister_intent.map(|intent| intent.at).filter(open))
    }

    // The preconditions of every destructive act (facts/github.md 5.0): `None` when they hold.

    /// P1, and the runner read by itself: a list may omit it, and a page of it may be a minute old. `reason` is that of
    /// the act that all of this is for.
    fn asked_by_itself(&self, reason: Reason) -> Option<Conclusion> {
        match (self.evidence.control, self.evidence.heard.from) {
            (PositiveControl::NotAsked, _) => Some(look(Source::Registrations, reason)),
            (PositiveControl::Unanswered | PositiveControl::Denied | PositiveControl::MassAbsence, _) => {
                Some(keep(Reason::NoPositiveControl))
            }
            (PositiveControl::Held | PositiveControl::Cautious, Witness::List) => Some(look(Source::Runner, reason)),
            (PositiveControl::Held | PositiveControl::Cautious, Witness::Runner) => {
                self.passed(self.evidence.heard.at, STALE).then(|| look(Source::Runner, reason))
            }
        }
    }

    /// Whether what was last said of deliveries and jobs is too old to act upon.
    fn recheck_is_stale(&self) -> bool {
        self.passed(self.evidence.rechecked_at, STALE)
    }

    /// P1 and P2.
    fn delivered(&self, reason: Reason) -> Option<Conclusion> {
        self.asked_by_itself(reason).or(match self.evidence.deliveries {
            DeliveryEvidence::NotAsked => Some(look(Source::Recheck, reason)),
            DeliveryEvidence::Unsettled => Some(keep(Reason::DeliveriesUnsettled)),
            DeliveryEvidence::Settled => self.recheck_is_stale().then(|| look(Source::Recheck, reason)),
        })
    }

    /// P1, P2 and the jobs API's word: nothing speaks for a job. (Whose only job is known to be over cannot be given
    /// another.)
    fn settled(&self, reason: Reason) -> Option<Conclusion> {
        self.delivered(reason).or(match self.evidence.jobs {
            JobsEvidence::NotAsked => Some(look(Source::Recheck, reason)),
            JobsEvidence::Unread => Some(keep(Reason::JobsUnread)),
            JobsEvidence::OnRunner(_) => Some(keep(Reason::JobSurfaced)),
            JobsEvidence::NoneOnRunner => None,
        })
    }

    /// Row 2. On a rebuilt record a job may have started unseen at any time before it was made, and a job that we only
    /// saw traces of began no later than they.
    fn past_hard_age(&self) -> bool {
        let record = self.record;
        let at_launch = record.idle_maximum_seconds.map(Duration::from_secs).unwrap_or_default();
        let traces = [
            Some(self.launched_at.plus(self.timers.idle_maximum.max(at_launch))),
            record.job_started.as_ref().map(|started| started.at),
            record.started_besides.iter().map(|started| started.at).max(),
            // Of a job that is known, its own start counts.
            record.busy_seen_at.filter(|busy| {
                record.job_started.is_none()
                    || record.elsewhere.is_some_and(|elsewhere| *busy > elsewhere.since)
                    || record.job_completed.as_ref().is_some_and(|done| *busy > done.at)
            }),
            record.completion_claim.as_ref().map(|claim| claim.completed.at),
            match record.origin {
                Origin::Launch => None,
                // One that lies ahead by more than clocks differ is a mistake that would keep the instance for ever.
                Origin::Rebuilt { at } => Some(at).filter(|at| self.passed(at.minus(CLOCKS_DIFFER), Duration::ZERO)),
            },
        ];
        let latest = traces.into_iter().flatten().max().unwrap_or(self.launched_at);
        self.passed(latest, HARD_AGE)
    }

    fn living(&self) -> Conclusion {
        let record = self.record;
        if record.stopped_since.is_some() {
            return note(Note::Running, Reason::SeenAgain);
        }
        if self.policy.mutant.leaves_out_recheck() && record.deregistered_at.is_some() {
            return (Action::Terminate(Ground::IdleAfterDeregistration), Reason::IdleAfterDeregistration);
        }
        #[cfg(feature = "mutants")]
        if let Some(conclusion) = naive::living(self) {
            return conclusion;
        }
        let rows = record.absent.is_some() || record.offline.is_some() || record.idle_since.is_some();
        let silent = match (self.silent(), self.vital_sign()) {
            (None, _) => return keep(Reason::VitalSignUnread),
            // What was read before its sign of life is no part of what is read after it.
            (Some(false), VitalEvidence::Sign(sign)) if rows => {
                let worker = sign.worker != Worker::None;
                return note(Note::RowsBroken, if worker { Reason::WorkerAlive } else { Reason::SupervisorAlive });
            }
            (Some(_), VitalEvidence::Sign(sign)) if sign.worker != Worker::None => return keep(Reason::WorkerAlive),
            (Some(silent), _) => silent,
        };
        if let JobsEvidence::OnRunner(_) = self.evidence.jobs {
            return keep(Reason::JobSurfaced);
        }
        if let RegistrationEvidence::Present(runner) = &self.evidence.registration
            && runner.ephemeral == Some(false)
        {
            return keep(Reason::Reusable);
        }
        if self.in_hand(record.terminate_intent.map(|intent| intent.at)) || self.deregistration_in_hand() {
            return keep(Reason::InHand);
        }
        if self.protected() {
            return keep(Reason::Protected);
        }
        if let RegistrationEvidence::Present(runner) = &self.evidence.registration
            && self.policy.mutant.takes_offline_and_busy_for_dead()
            && runner.busy
            && !runner.online
        {
            return self.end(Ground::RegistrationGone, Reason::RegistrationGone);
        }
        match (&record.job_completed, record.has_job_evidence()) {
            (Some(completed), _) if record.busy_seen_at.is_some_and(|busy| busy > completed.at) => {
                if silent {
                    self.job_unknown()
                } else {
                    keep(Reason::BusySeen)
                }
            }
            (Some(completed), _) if !self.passed(completed.at, self.timers.completed_grace) => {
                keep(Reason::CompletedRecently)
            }
            (Some(_), _) if !silent => keep(Reason::SupervisorAlive),
            (Some(_), _) => self.completed_and_running(),
            (None, true) => self.with_a_job(silent),
            (None, false) => match record.deregistered_at {
                Some(at) if silent => self.deregistered(at),
                Some(_) => keep(Reason::SupervisorAlive),
                None => Undrained { judge: self, silent }.conclude(),
            },
        }
    }

    /// Row 14: deregistered by us; nothing new can be assigned, and what was assigned before surfaces meanwhile. Where
    /// GitHub did not confirm it, or nobody had found the runner idle (it was stopped or gone and is back, or its
    /// completion was taken back), its absence is judged as one that is not our doing.
    fn deregistered(&self, at: Timestamp) -> Conclusion {
        // Restored from before: what surfaced since then is lost with the ledger's last hours.
        if let Origin::Rebuilt { at: rebuilt_at } = self.record.origin
            && at < rebuilt_at
        {
            return keep(Reason::RebuiltRecord);
        }
        let confirmed = self.record.deregistration == Some(DeregistrationOutcome::Confirmed);
        let found_idle = match self.record.deregister_intent.map(|intent| intent.ground) {
            Some(DeregistrationGround::NeverConnected) => Some((Ground::NeverConnected, Reason::NeverConnected)),
            Some(DeregistrationGround::Idle | DeregistrationGround::Offline) => {
                Some((Ground::IdleAfterDeregistration, Reason::IdleAfterDeregistration))
            }
            Some(
                DeregistrationGround::JobCompleted | DeregistrationGround::InstanceGone | DeregistrationGround::Stopped,
            )
            | None => None,
        };
        let found_idle = found_idle.filter(|_| confirmed);
        let mutant = self.policy.mutant;
        let seen_by_404 = mutant.takes_404_after_delete_for_idle();
        if found_idle.is_some() && !seen_by_404 && !self.passed(at, self.timers.quarantine) {
            return keep(Reason::Quarantine);
        }
        let reason = found_idle.map_or(Reason::RegistrationGone, |(_, reason)| reason);
        match (&self.evidence.registration, found_idle) {
            (RegistrationEvidence::NotAsked, _) => look(Source::Registrations, reason),
            (RegistrationEvidence::Unread, _) => keep(Reason::RegistrationUnread),
            (RegistrationEvidence::Denied, Some((ground, reason))) if mutant.takes_403_for_deregistered() => {
                self.settled(reason).unwrap_or_else(|| self.end(ground, reason))
            }
            (RegistrationEvidence::Denied, _) => keep(Reason::RegistrationDenied),
            (RegistrationEvidence::Present(runner), _) if runner.busy => note(Note::Busy, Reason::BusyNow),
            (RegistrationEvidence::Present(_), Some((ground, reason))) if mutant.ignores_failed_deletes() => {
                self.settled(reason).unwrap_or_else(|| self.end(ground, reason))
            }
            // A list may lag behind our DELETE.
            (RegistrationEvidence::Present(_), _) => {
                self.asked_by_itself(reason).unwrap_or(note(Note::RegistrationBack, Reason::RegistrationBack))
            }
            (RegistrationEvidence::Absent, None) => self.registration_absent(true),
            (RegistrationEvidence::Absent, Some((ground, reason))) if seen_by_404 => self.end(ground, reason),
            (RegistrationEvidence::Absent, Some((ground, reason))) => {
                self.settled(reason).unwrap_or_else(|| self.end(ground, reason))
            }
        }
    }

    /// Whether an unbroken row of readings is long enough to be believed.
    fn is_long(&self, spell: Spell) -> bool {
        spell.sweeps >= Spell::SWEEPS
            && self.passed(spell.since, self.timers.gone_grace)
            && !self.passed(spell.last, Spell::GAP)
    }

    /// Row 16: its registration is not found, and it was not us. One reading proves nothing (404 storms, lists that
    /// omit); an instance that speaks decides for itself.
    fn registration_absent(&self, silent: bool) -> Conclusion {
        match self.evidence.control {
            PositiveControl::NotAsked => return look(Source::Registrations, Reason::RegistrationAbsent),
            PositiveControl::Unanswered | PositiveControl::Denied | PositiveControl::MassAbsence => {
                return keep(Reason::NoPositiveControl);
            }
            PositiveControl::Held | PositiveControl::Cautious => {}
        }
        let (gone, mutant) = (Reason::RegistrationGone, self.policy.mutant);
        match self.record.absent {
            _ if self.rebuilt() => keep(Reason::RebuiltRecord),
            _ if !silent => keep(Reason::SupervisorAlive),
            _ if mutant.takes_unlisted_for_dead() => self.end(Ground::RegistrationGone, gone),
            _ if mutant.takes_404_for_dead() => {
                self.asked_by_itself(gone).unwrap_or_else(|| self.end(Ground::RegistrationGone, gone))
            }
            Some(spell) if self.is_long(spell) => {
                self.settled(gone).unwrap_or_else(|| self.end(Ground::RegistrationGone, gone))
            }
            Some(_) | None => note(Note::Absent, Reason::RegistrationAbsent),
        }
    }
}
