//! `decide`: the one pure function from evidence to verdict, for scale-down, orphan-sweeper, `plan` and the checker.
//!
//! Rows are those of the decision table in ARCHITECTURE.md. Built whole here: drain, 2, 4, 12, 14, 15, 18, 20, 23;
//! every other row keeps. Signs of life come first: whatever else was read, they keep the instance.

use std::time::Duration;

use crate::config::{HARD_AGE, Policy, Timers};
use crate::evidence::{
    DeliveryEvidence, DemandEvidence, Evidence, JobsEvidence, Ownership, PositiveControl, RecordEvidence,
    RegistrationEvidence, VitalEvidence,
};
use crate::ids::RunnerId;
use crate::ledger::{DeregistrationOutcome, InstanceRecord, Known, Origin};
use crate::ports::{InstanceState, Runner, Worker};
use crate::removal::{DeregistrationGround, Ground};
use crate::time::Timestamp;

/// What to do with one instance now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The act.
    pub action: Action,
    /// Who vetoed, or what the act rests on.
    pub reason: Reason,
}

/// An act. Everything but `Terminate` and `Deregister` can be repeated or undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Leave it alone.
    Keep,
    /// Read more of it in this pass and decide again.
    Look(Source),
    /// Write into its record what was just read of it.
    Note(Note),
    /// Make a record of what EC2 shows.
    Rebuild,
    /// Ask the instance to stop if it is idle.
    Drain,
    /// Delete its registration.
    Deregister(RunnerId, DeregistrationGround),
    /// End it.
    Terminate(Ground),
    /// It is gone for certain: take away what it left.
    CleanUp,
}

/// What has to be read before anything can be concluded. Ordered as they are read: what may be deleted first, the
/// reasons to keep it after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// GitHub's word on the runner, and the positive control of its scope.
    Registration,
    /// Failed deliveries, then the jobs API, then record and vital sign once more.
    Recheck,
}

/// A reading worth remembering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// Busy at GitHub: sticky.
    Busy,
    /// Idle at GitHub, for the first time in a row.
    Idle,
    /// Not certainly idle: the row of idle readings is broken.
    NotIdle,
    /// A job may be about to come for it: what was done towards removal begins anew.
    Wanted,
    /// The runner's id, found by its name.
    RunnerId(RunnerId),
    /// A DELETE of ours whose answer was lost seems to have taken effect.
    Deregistered,
    /// A registration that we took for deleted is back.
    RegistrationBack,
    /// EC2 shows the instance as terminated: proof of gone.
    Gone,
    /// EC2 shows an instance that its listings had missed.
    Seen,
}

/// Why. Each variant names its row of the decision table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Row 0: not ours.
    NotOurs,
    /// Row 0: an operator took it out of our hands.
    Bypassed,
    /// Row 1: the ledger could not be read.
    LedgerUnread,
    /// Row 24: a record of another schema.
    ForeignRecord,
    /// Row 24: no record.
    NoRecord,
    /// The registration under our runner's id bears another name: not ours to judge by.
    ForeignRegistration,
    /// Row 24: rebuilt, so that nobody knows what happened before; it may be drained and nothing else.
    RebuiltRecord,
    /// Row 2: older than any job can be.
    HardAge,
    /// Row 4: on its way out, or gone and cleaned up.
    Ending,
    /// Row 4: gone, and left something.
    Gone,
    /// Missed by a listing before and shown now.
    SeenAgain,
    /// Taken for gone because listings missed it, while its runner or the instance gives signs of life.
    NotGone,
    /// GitHub says that the runner is not ephemeral: not made by us, and its evidence is not monotone.
    Reusable,
    /// Row 25 and unknown states: not built yet, kept.
    NotRunning,
    /// Row 1: the vital sign could not be read.
    VitalSignUnread,
    /// The instance says that a worker runs or a job is being acquired.
    WorkerAlive,
    /// The instance says that it lives and decides for itself.
    SupervisorAlive,
    /// Row 8: a job started and is not known to have ended.
    JobRunning,
    /// Row 17: busy was seen, and no job is known.
    BusySeen,
    /// Row 5 or 6: GitHub says busy.
    BusyNow,
    /// Row 13: its job ended a short while ago.
    CompletedRecently,
    /// Row 12.
    JobCompleted,
    /// Row 14 not yet: deregistered by us, quarantine not over.
    Quarantine,
    /// Row 14.
    IdleAfterDeregistration,
    /// Row 15: a job surfaced after our DELETE.
    JobSurfaced,
    /// GitHub shows a registration that we took for deleted.
    RegistrationBack,
    /// Row 22: its runner's id was found by name.
    RunnerFound,
    /// Row 22: a configuration may exist, and no registration is found.
    ConfigurationUnaccounted,
    /// Row 23 or 18.
    NeverConnected,
    /// Younger than `boot_grace` and nothing known of it.
    Booting,
    /// Row 1: GitHub did not answer.
    RegistrationUnread,
    /// Row 16: no registration, and it was not us.
    RegistrationAbsent,
    /// A DELETE of ours was begun and its answer is not known.
    DeregistrationInDoubt,
    /// Row 1: no positive control in this scope and pass.
    NoPositiveControl,
    /// Row 1: a failed delivery may still hold evidence.
    DeliveriesUnsettled,
    /// Row 1: the jobs API did not answer.
    JobsUnread,
    /// Row 19: offline, and it has connected before.
    Offline,
    /// Row 21: idle, and not for long enough.
    IdleTooShort,
    /// A job waits that it may take, or nobody knows whether one does.
    Wanted,
    /// Idle as far as we know, and nobody wants it.
    Surplus,
    /// Asked to drain a short while ago.
    DrainUnanswered,
    /// Row 20.
    IdleConfirmed,
    /// Must be read before more can be said.
    NotRead,
}

impl Verdict {
    fn keep(reason: Reason) -> Self {
        Self { action: Action::Keep, reason }
    }

    fn act(action: Action, reason: Reason) -> Self {
        Self { action, reason }
    }

    fn note(note: Note, reason: Reason) -> Self {
        Self { action: Action::Note(note), reason }
    }

    fn look(source: Source) -> Self {
        Self { action: Action::Look(source), reason: Reason::NotRead }
    }
}

/// Decides what to do with one instance now; every combination of evidence has an answer.
///
/// # Guarantees
/// `Terminate` and `Deregister` are never concluded from something unread, and never against a sign of life, but for
/// [`Reason::HardAge`], which asks nobody.
#[must_use]
pub fn decide(evidence: &Evidence, policy: &Policy, now: Timestamp) -> Verdict {
    match evidence.ownership {
        Ownership::Foreign => return Verdict::keep(Reason::NotOurs),
        Ownership::Bypassed => return Verdict::keep(Reason::Bypassed),
        Ownership::Ours => {}
    }
    let record = match &evidence.record {
        RecordEvidence::Unread => return Verdict::keep(Reason::LedgerUnread),
        RecordEvidence::Foreign => return Verdict::keep(Reason::ForeignRecord),
        RecordEvidence::Absent => return without_record(evidence, policy, now),
        RecordEvidence::Present(record) => &record.record,
    };
    if let RegistrationEvidence::Present(runner) = &evidence.registration
        && runner.name != record.runner_name
    {
        return Verdict::keep(Reason::ForeignRegistration);
    }
    let timers = policy.timers(&record.fleet);
    match evidence.instance.state {
        InstanceState::Terminated if record.gone_at.is_some() && record.cleaned_at.is_some() => {
            Verdict::keep(Reason::Ending)
        }
        InstanceState::Terminated => gone(evidence, record, timers, now),
        InstanceState::ShuttingDown => Verdict::keep(Reason::Ending),
        InstanceState::Pending
        | InstanceState::Running
        | InstanceState::Stopping
        | InstanceState::Stopped
        | InstanceState::Unrecognised
            if past_hard_age(evidence, record, timers, now) =>
        {
            Verdict::act(Action::Terminate(Ground::HardAge), Reason::HardAge)
        }
        InstanceState::Stopping | InstanceState::Stopped | InstanceState::Unrecognised => {
            Verdict::keep(Reason::NotRunning)
        }
        InstanceState::Pending | InstanceState::Running => living(evidence, record, policy, now),
    }
}

/// Row 24. What is gone already leaves nothing that a rebuilt record would help to remove, and the record of a young
/// instance may be about to be written by the launch that made it.
fn without_record(evidence: &Evidence, policy: &Policy, now: Timestamp) -> Verdict {
    let age = now.since(evidence.instance.launched_at);
    match evidence.instance.state {
        InstanceState::Terminated | InstanceState::ShuttingDown => Verdict::keep(Reason::Ending),
        InstanceState::Pending
        | InstanceState::Running
        | InstanceState::Stopping
        | InstanceState::Stopped
        | InstanceState::Unrecognised
            if age < policy.orphan_timers.boot_grace =>
        {
            Verdict::keep(Reason::Booting)
        }
        InstanceState::Pending
        | InstanceState::Running
        | InstanceState::Stopping
        | InstanceState::Stopped
        | InstanceState::Unrecognised => Verdict::act(Action::Rebuild, Reason::NoRecord),
    }
}

/// GitHub removes an ephemeral registration that was not connected for more than a day (docs.github.com,
/// actions/reference/runners/self-hosted-runners, read 2026-11-20); after two, what is left is not ours to remove.
const REAPED: Duration = Duration::from_hours(48);

/// Row 4. Where EC2 shows the instance as terminated, its registration serves nobody; GitHub's 422 keeps it for later.
/// Where listings merely miss it (the proof of design section 4), that is an absence, and any sign of life outweighs it.
fn gone(evidence: &Evidence, record: &InstanceRecord, timers: &Timers, now: Timestamp) -> Verdict {
    let Some(gone_at) = record.gone_at else { return Verdict::note(Note::Gone, Reason::Gone) };
    let handing_over = record.jit_intent_at.is_some() && record.handed_over_at.is_none();
    if handing_over && now.since(gone_at) < timers.boot_grace {
        // An answer to generate-jitconfig may be on its way, and would leave a registration and a parameter behind.
        return Verdict::keep(Reason::Ending);
    }
    if now.since(gone_at) >= REAPED {
        return Verdict::act(Action::CleanUp, Reason::Gone);
    }
    if record.missing_since.is_some()
        && let Some(verdict) = missed_and_alive(evidence, record)
    {
        return verdict;
    }
    match (&evidence.registration, evidence.control) {
        (RegistrationEvidence::NotAsked, _) => Verdict::look(Source::Registration),
        (RegistrationEvidence::Present(runner), _) => {
            Verdict::act(Action::Deregister(runner.id, DeregistrationGround::InstanceGone), Reason::Gone)
        }
        (RegistrationEvidence::Absent, PositiveControl::Held) => Verdict::act(Action::CleanUp, Reason::Gone),
        (RegistrationEvidence::Absent, _) => Verdict::keep(Reason::NoPositiveControl),
        (RegistrationEvidence::Unread, _) => Verdict::keep(Reason::RegistrationUnread),
    }
}

/// Signs of life of an instance that no listing shows; a tag that was taken away hides a running instance as well.
fn missed_and_alive(evidence: &Evidence, record: &InstanceRecord) -> Option<Verdict> {
    let heard_of = match evidence.vital_sign {
        VitalEvidence::Unread => return Some(Verdict::keep(Reason::VitalSignUnread)),
        VitalEvidence::Never => false,
        VitalEvidence::Sign(sign) => {
            sign.worker != Worker::None || record.missing_since.is_some_and(|since| sign.beat_at >= since)
        }
    };
    let unfinished = record.has_job_evidence() && record.job_completed.is_none();
    match &evidence.registration {
        RegistrationEvidence::Present(runner) if runner.busy || runner.online || heard_of || unfinished => {
            Some(Verdict::keep(Reason::NotGone))
        }
        RegistrationEvidence::Present(_) => settled(evidence),
        RegistrationEvidence::NotAsked | RegistrationEvidence::Unread | RegistrationEvidence::Absent => None,
    }
}

/// Row 2. On a rebuilt record a job may have started unseen at any time before it was made.
fn past_hard_age(evidence: &Evidence, record: &InstanceRecord, timers: &Timers, now: Timestamp) -> bool {
    let launched_at = record.launched_at.max(evidence.instance.launched_at);
    let idle_ended = launched_at.plus(timers.idle_maximum);
    let job_started = record.job_started.as_ref().map_or(launched_at, |started| started.at);
    let rebuilt = match record.origin {
        Origin::Launch => launched_at,
        Origin::Rebuilt { at } => at,
    };
    // A job that we only saw traces of began no later than they.
    let busy_seen = record.busy_seen_at.unwrap_or(launched_at);
    let claimed = record.completion_claim.as_ref().map_or(launched_at, |claim| claim.completed.at);
    idle_ended.max(job_started).max(rebuilt).max(busy_seen).max(claimed).plus(HARD_AGE) < now
}

fn living(evidence: &Evidence, record: &InstanceRecord, policy: &Policy, now: Timestamp) -> Verdict {
    let timers = policy.timers(&record.fleet);
    if record.missing_since.is_some() || record.gone_at.is_some() {
        return Verdict::note(Note::Seen, Reason::SeenAgain);
    }
    if policy.mutant.leaves_out_recheck() && record.deregistered_at.is_some() {
        return Verdict::act(Action::Terminate(Ground::IdleAfterDeregistration), Reason::IdleAfterDeregistration);
    }
    let age = now.since(record.launched_at.max(evidence.instance.launched_at));
    // A worker that was alive when it was last heard of vetoes for good: a job may outlive its supervisor.
    let silent = match evidence.vital_sign {
        VitalEvidence::Unread => return Verdict::keep(Reason::VitalSignUnread),
        VitalEvidence::Sign(sign) => match sign.worker {
            Worker::Acquiring | Worker::Running | Worker::Unrecognised => return Verdict::keep(Reason::WorkerAlive),
            Worker::None => now.since(sign.beat_at) >= timers.vital_sign_silence,
        },
        VitalEvidence::Never => age >= timers.vital_sign_silence,
    };
    if let JobsEvidence::OnRunner(_) = evidence.jobs {
        return Verdict::keep(Reason::JobSurfaced);
    }
    if let RegistrationEvidence::Present(runner) = &evidence.registration
        && runner.ephemeral == Some(false)
    {
        return Verdict::keep(Reason::Reusable);
    }
    match (&record.job_completed, record.has_job_evidence()) {
        (Some(completed), _) if record.busy_seen_at.is_some_and(|busy| busy > completed.at) => {
            Verdict::keep(Reason::BusySeen)
        }
        (Some(completed), _) if now.since(completed.at) < timers.completed_grace => {
            Verdict::keep(Reason::CompletedRecently)
        }
        (Some(_), _) if !silent => Verdict::keep(Reason::SupervisorAlive),
        (Some(_), _) => completed_and_running(evidence, record),
        (None, true) if record.deregistered_at.is_some() => Verdict::keep(Reason::JobSurfaced),
        (None, true) if record.job_started.is_some() => Verdict::keep(Reason::JobRunning),
        (None, true) => Verdict::keep(Reason::BusySeen),
        (None, false) => match record.deregistered_at {
            Some(at) if silent => deregistered(evidence, record, timers, at, now),
            Some(_) => Verdict::keep(Reason::SupervisorAlive),
            None => Undrained { evidence, record, timers, now, age, silent }.decide(),
        },
    }
}

/// Row 12: self-termination failed after the only job that an ephemeral runner can have.
fn completed_and_running(evidence: &Evidence, record: &InstanceRecord) -> Verdict {
    match &evidence.registration {
        RegistrationEvidence::NotAsked => Verdict::look(Source::Registration),
        RegistrationEvidence::Unread => Verdict::keep(Reason::RegistrationUnread),
        RegistrationEvidence::Present(runner) if runner.busy => Verdict::keep(Reason::BusyNow),
        RegistrationEvidence::Present(runner) => delivered(evidence).unwrap_or(Verdict::act(
            Action::Deregister(runner.id, DeregistrationGround::JobCompleted),
            Reason::JobCompleted,
        )),
        // A record without a runner id cannot have a completed job; should it, its absence by name is the same proof.
        RegistrationEvidence::Absent if record.runner_id.is_some() => {
            delivered(evidence).unwrap_or(Verdict::act(Action::Terminate(Ground::JobCompleted), Reason::JobCompleted))
        }
        RegistrationEvidence::Absent => Verdict::keep(Reason::ConfigurationUnaccounted),
    }
}

/// Rows 14 and 15: deregistered by us; nothing new can be assigned, and what was assigned before surfaces meanwhile.
fn deregistered(
    evidence: &Evidence,
    record: &InstanceRecord,
    timers: &Timers,
    at: Timestamp,
    now: Timestamp,
) -> Verdict {
    let quarantine = match record.deregistration {
        Some(DeregistrationOutcome::Confirmed) => timers.quarantine,
        Some(DeregistrationOutcome::Unconfirmed) | None => timers.quarantine.max(timers.gone_grace),
    };
    if now.since(at) < quarantine {
        return Verdict::keep(Reason::Quarantine);
    }
    let (ground, reason) = match record.deregister_intent.map(|intent| intent.ground) {
        Some(DeregistrationGround::NeverConnected) => (Ground::NeverConnected, Reason::NeverConnected),
        Some(DeregistrationGround::Idle) => (Ground::IdleAfterDeregistration, Reason::IdleAfterDeregistration),
        // A completion that was taken back, an instance that was not gone, no ground at all: nobody found it idle.
        Some(DeregistrationGround::JobCompleted | DeregistrationGround::InstanceGone) | None => {
            return Verdict::keep(Reason::DeregistrationInDoubt);
        }
    };
    match &evidence.registration {
        RegistrationEvidence::NotAsked => Verdict::look(Source::Registration),
        RegistrationEvidence::Unread => Verdict::keep(Reason::RegistrationUnread),
        RegistrationEvidence::Present(runner) if runner.busy => Verdict::note(Note::Busy, Reason::BusyNow),
        RegistrationEvidence::Present(_) => Verdict::note(Note::RegistrationBack, Reason::RegistrationBack),
        RegistrationEvidence::Absent => settled(evidence).unwrap_or(Verdict::act(Action::Terminate(ground), reason)),
    }
}

/// Preconditions P1 and P2 of every destructive act: `None` when both hold.
fn delivered(evidence: &Evidence) -> Option<Verdict> {
    match (evidence.control, evidence.deliveries) {
        (PositiveControl::NotAsked, _) => Some(Verdict::look(Source::Registration)),
        (PositiveControl::Unanswered | PositiveControl::MassAbsence, _) => {
            Some(Verdict::keep(Reason::NoPositiveControl))
        }
        (PositiveControl::Held, DeliveryEvidence::NotAsked) => Some(Verdict::look(Source::Recheck)),
        (PositiveControl::Held, DeliveryEvidence::Unsettled) => Some(Verdict::keep(Reason::DeliveriesUnsettled)),
        (PositiveControl::Held, DeliveryEvidence::Settled) => None,
    }
}

/// Both preconditions and the jobs API's word: `None` when nothing speaks for a job. (Whose only job is known to be
/// over cannot be given another.)
fn settled(evidence: &Evidence) -> Option<Verdict> {
    delivered(evidence).or(match evidence.jobs {
        JobsEvidence::NotAsked => Some(Verdict::look(Source::Recheck)),
        JobsEvidence::Unread => Some(Verdict::keep(Reason::JobsUnread)),
        JobsEvidence::OnRunner(_) => Some(Verdict::keep(Reason::JobSurfaced)),
        JobsEvidence::NoneOnRunner => None,
    })
}

/// A living instance without any job evidence that we have not deregistered.
struct Undrained<'a> {
    evidence: &'a Evidence,
    record: &'a InstanceRecord,
    timers: &'a Timers,
    now: Timestamp,
    age: Duration,
    silent: bool,
}

impl Undrained<'_> {
    fn decide(&self) -> Verdict {
        let booted = self.age >= self.timers.boot_grace;
        match self.record.runner_id {
            None if !booted => Verdict::keep(Reason::Booting),
            None if !self.silent => Verdict::keep(Reason::SupervisorAlive),
            None => self.without_runner_id(),
            Some(_) => self.with_runner_id(booted),
        }
    }

    /// Rows 22 and 23, asked by name.
    fn without_runner_id(&self) -> Verdict {
        match (&self.evidence.registration, self.record.jit_intent()) {
            (RegistrationEvidence::NotAsked, _) => Verdict::look(Source::Registration),
            (RegistrationEvidence::Unread, _) => Verdict::keep(Reason::RegistrationUnread),
            (RegistrationEvidence::Present(runner), _) => Verdict::note(Note::RunnerId(runner.id), Reason::RunnerFound),
            (RegistrationEvidence::Absent, Known::Is(_) | Known::Unread) => {
                Verdict::keep(Reason::ConfigurationUnaccounted)
            }
            // The intent is written before the call, so without it no configuration and no job can exist.
            (RegistrationEvidence::Absent, Known::Absent) => settled(self.evidence)
                .unwrap_or(Verdict::act(Action::Terminate(Ground::NeverConnected), Reason::NeverConnected)),
        }
    }

    fn with_runner_id(&self, booted: bool) -> Verdict {
        match &self.evidence.registration {
            RegistrationEvidence::NotAsked => self.before_asking(booted),
            RegistrationEvidence::Unread => Verdict::keep(Reason::RegistrationUnread),
            RegistrationEvidence::Absent if self.record.deregister_intent.is_some() => match self.evidence.control {
                PositiveControl::Held => Verdict::note(Note::Deregistered, Reason::DeregistrationInDoubt),
                PositiveControl::NotAsked => Verdict::look(Source::Registration),
                PositiveControl::Unanswered | PositiveControl::MassAbsence => Verdict::keep(Reason::NoPositiveControl),
            },
            RegistrationEvidence::Absent => self.not_idle(Reason::RegistrationAbsent),
            RegistrationEvidence::Present(runner) if runner.busy => Verdict::note(Note::Busy, Reason::BusyNow),
            // A DELETE was begun and did not happen: what is found later is not its doing.
            RegistrationEvidence::Present(_) if self.record.deregister_intent.is_some() => {
                Verdict::note(Note::RegistrationBack, Reason::RegistrationBack)
            }
            RegistrationEvidence::Present(_) if self.rebuilt() => Verdict::keep(Reason::RebuiltRecord),
            RegistrationEvidence::Present(runner) if !runner.online => self.offline(runner, booted),
            RegistrationEvidence::Present(runner) => self.idle(runner),
        }
    }

    /// Ledger, EC2 and the instance alone decide whether it is drained or GitHub is asked.
    fn before_asking(&self, booted: bool) -> Verdict {
        let wanted = self.is_wanted();
        let unanswered = self.drain_is_unanswered();
        match (wanted, self.silent && !self.rebuilt()) {
            (_, _) if self.record.deregister_intent.is_some() => Verdict::look(Source::Registration),
            // Whether a runner that never connected is wanted or not: it serves nobody.
            (_, true) if booted && (unanswered || self.record.idle_since.is_none()) => {
                Verdict::look(Source::Registration)
            }
            (true, _) => self.wanted(),
            (false, true) if unanswered => Verdict::look(Source::Registration),
            (false, _) => Verdict::act(Action::Drain, Reason::Surplus),
        }
    }

    /// A drain and an idle reading from before are of no use once it is wanted: both begin anew when it is not.
    fn wanted(&self) -> Verdict {
        match (self.record.drain_requested_at, self.record.idle_since) {
            (None, None) => Verdict::keep(Reason::Wanted),
            (_, _) => Verdict::note(Note::Wanted, Reason::Wanted),
        }
    }

    /// Whether a job may be about to come for it.
    fn is_wanted(&self) -> bool {
        match self.evidence.demand {
            DemandEvidence::Unread | DemandEvidence::Waiting => true,
            // The instance that was launched for such a job may be this one, still booting.
            DemandEvidence::WaitingLong => self.age < self.timers.minimum_running.max(self.timers.boot_grace),
            DemandEvidence::Quiet => self.age < self.timers.minimum_running,
            DemandEvidence::Unwanted => false,
        }
    }

    fn rebuilt(&self) -> bool {
        match self.record.origin {
            Origin::Launch => false,
            Origin::Rebuilt { .. } => true,
        }
    }

    fn drain_is_unanswered(&self) -> bool {
        self.record.drain_requested_at.is_some_and(|requested| self.now.since(requested) >= self.timers.drain_answer)
    }

    /// Row 18, else row 19.
    fn offline(&self, runner: &Runner, booted: bool) -> Verdict {
        let never_connected = runner.version == Some(None) && runner.ephemeral == Some(true);
        if never_connected && booted && self.silent {
            return settled(self.evidence).unwrap_or(Verdict::act(
                Action::Deregister(runner.id, DeregistrationGround::NeverConnected),
                Reason::NeverConnected,
            ));
        }
        self.not_idle(Reason::Offline)
    }

    /// Rows 20 and 21.
    fn idle(&self, runner: &Runner) -> Verdict {
        let Some(idle_since) = self.record.idle_since else {
            return Verdict::note(Note::Idle, Reason::IdleTooShort);
        };
        if self.is_wanted() {
            return self.wanted();
        }
        if self.record.drain_requested_at.is_none() {
            return Verdict::act(Action::Drain, Reason::Surplus);
        }
        if !self.drain_is_unanswered() {
            return Verdict::keep(Reason::DrainUnanswered);
        }
        if !self.silent {
            return Verdict::keep(Reason::SupervisorAlive);
        }
        if self.now.since(idle_since) < self.timers.idle_window {
            return Verdict::keep(Reason::IdleTooShort);
        }
        settled(self.evidence)
            .unwrap_or(Verdict::act(Action::Deregister(runner.id, DeregistrationGround::Idle), Reason::IdleConfirmed))
    }

    /// Anything but an idle reading breaks the row of them.
    fn not_idle(&self, reason: Reason) -> Verdict {
        match self.record.idle_since {
            Some(_) => Verdict::note(Note::NotIdle, reason),
            None => Verdict::keep(reason),
        }
    }
}
