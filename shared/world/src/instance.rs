//! The simulated instance: a supervisor and its listener as one pure state machine.
//!
//! When it stays and when it powers off is decided by the supervisor's own function ([`decide`]); here is what
//! actions/runner does on its own (facts/github.md 1): it polls while its job runs, cancels its job when its
//! registration is gone, and takes no second job. It knows no clock and no network: inputs carry the answers, effects
//! ask the questions, [`Machine::next_wake_at`] says when time alone will change something.

mod message;
mod settings;

use crate::Millis;
use crate::world::Flaw;
use runner_supervisor_decision::{Decision, DrainTag, Facts, Grip, Listener, Registration, Verdict, Work, decide};

pub use message::{Answer, Effect, Input, JitConfig, Job, PollAnswer, SessionAnswer, VitalSign};
pub use runner_supervisor_decision::{Occupation as Worker, Reason};
pub use settings::SupervisorSettings;

/// One instance's supervisor, listener and worker.
#[derive(Debug, Clone)]
pub struct Machine {
    settings: SupervisorSettings,
    flaw: Flaw,
    supervision: Supervision,
    phase: Phase,
    booted_at: Millis,
    drain: DrainTag,
    job_started_at: Option<Millis>,
    /// When time alone may change the last decision.
    decided_again_at: Option<Millis>,
    /// When the request of the present phase is made again, after it failed.
    retry_at: Option<Millis>,
    delete_retry_at: Option<Millis>,
    next_beat_at: Option<Millis>,
    next_look_at: Option<Millis>,
}

/// Where the supervisor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Supervision {
    /// It is a part of this machine.
    Within,
    /// Another process, or none.
    Elsewhere,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// Not up yet, or stuck for ever.
    Down,
    /// Waits for its JIT configuration.
    Fetching,
    /// Has it and opens its session.
    Connecting { jit_config: JitConfig, since: Millis },
    /// The listener polls. `unanswered_at`: when a message was acknowledged that brought no worker.
    Listening { runner_id: u64, idle_since: Millis, unanswered_at: Option<Millis> },
    /// The listener acquires a job; it does not poll meanwhile.
    Acquiring { runner_id: u64, job: Job, since: Millis },
    /// A worker runs and the listener polls on.
    Running { runner_id: u64, job: Job, ends_at: Millis, renew_at: Millis },
    /// The worker reports its end.
    Reporting { runner_id: u64, job: Job },
    /// No listener and no worker is left; whether anybody ends the instance depends on its supervisor.
    Ended,
    /// The power is off.
    Off,
}

impl Machine {
    /// An instance that is not up yet.
    #[must_use]
    pub fn new(settings: SupervisorSettings, flaw: Flaw) -> Self {
        Self {
            settings,
            flaw,
            supervision: match flaw {
                Flaw::None | Flaw::Ghost => Supervision::Within,
                Flaw::SupervisorDead | Flaw::NeverRegisters => Supervision::Elsewhere,
            },
            phase: Phase::Down,
            booted_at: 0,
            drain: DrainTag::default(),
            job_started_at: None,
            decided_again_at: None,
            retry_at: None,
            delete_retry_at: None,
            next_beat_at: None,
            next_look_at: None,
        }
    }

    /// The listener of such an instance alone: whether anybody supervises it is not its business.
    #[must_use]
    pub fn listener(settings: SupervisorSettings, flaw: Flaw) -> Self {
        Self { supervision: Supervision::Elsewhere, ..Self::new(settings, flaw) }
    }

    /// The supervisor dies and nobody starts it again: from now on nobody beats, answers a drain or ends the instance.
    pub fn lose_supervisor(&mut self) {
        self.supervision = Supervision::Elsewhere;
        (self.decided_again_at, self.next_beat_at, self.next_look_at) = (None, None, None);
    }

    /// Takes an input at `now` and says what to do, in order. Answers that come after the listener was stopped are
    /// ignored, as its process is gone.
    pub fn handle(&mut self, now: Millis, input: Input) -> Vec<Effect> {
        let worker_before = self.worker();
        let mut effects = match input {
            Input::Booted => self.boot(now),
            Input::Tick => Vec::new(),
            Input::Parameter(answer) => self.on_parameter(now, answer),
            Input::ParameterDeleted(answer) => self.on_parameter_deleted(now, &answer),
            Input::Session(answer) => self.on_session(now, answer),
            Input::Polled(answer) => self.on_polled(now, answer),
            Input::Acquired(answer) => self.on_acquired(now, &answer),
            Input::Renewed(answer) => self.on_renewed(&answer),
            Input::Completed(answer) => self.on_completed(now, &answer),
            Input::DrainTag(value) => self.on_drain_tag(now, value.as_deref()),
        };
        effects.extend(self.pass_time(now));
        if self.worker() != worker_before && self.supervises() {
            // The veto first: a removal that is being decided elsewhere must find it before the job goes on.
            effects.insert(0, self.beat(now));
        }
        effects
    }

    /// When time alone changes something next; `None` when only an input can.
    #[must_use]
    pub fn next_wake_at(&self) -> Option<Millis> {
        let of_phase = match &self.phase {
            Phase::Running { ends_at, renew_at, .. } => Some(*ends_at.min(renew_at)),
            Phase::Down
            | Phase::Fetching
            | Phase::Connecting { .. }
            | Phase::Listening { .. }
            | Phase::Acquiring { .. }
            | Phase::Reporting { .. }
            | Phase::Ended
            | Phase::Off => None,
        };
        [of_phase, self.decided_again_at, self.retry_at, self.delete_retry_at, self.next_beat_at, self.next_look_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether the instance has powered itself off.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.phase == Phase::Off
    }

    /// Whether the listener has returned and no worker is left.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// Whether a job occupies the instance.
    #[must_use]
    pub fn worker(&self) -> Worker {
        match &self.phase {
            Phase::Acquiring { .. } => Worker::Acquiring,
            Phase::Running { .. } | Phase::Reporting { .. } => Worker::Running,
            Phase::Down
            | Phase::Fetching
            | Phase::Connecting { .. }
            | Phase::Listening { .. }
            | Phase::Ended
            | Phase::Off => Worker::None,
        }
    }

    fn boot(&mut self, now: Millis) -> Vec<Effect> {
        self.booted_at = now;
        if self.flaw == Flaw::NeverRegisters || self.phase != Phase::Down {
            return Vec::new();
        }
        self.phase = Phase::Fetching;
        if self.supervises() {
            self.next_beat_at = Some(now);
            self.next_look_at = Some(now);
        }
        vec![Effect::FetchParameter]
    }

    fn on_parameter(&mut self, now: Millis, answer: Answer<JitConfig>) -> Vec<Effect> {
        if self.phase != Phase::Fetching {
            return Vec::new();
        }
        match answer {
            Answer::Found(jit_config) => {
                self.phase = Phase::Connecting { jit_config: jit_config.clone(), since: now };
                // Deleted before the listener starts: from now on nobody can read it.
                vec![Effect::DeleteParameter, Effect::OpenSession { jit_config }]
            }
            Answer::Absent | Answer::Failed => self.retry_later(now),
        }
    }

    fn on_parameter_deleted(&mut self, now: Millis, answer: &Answer<()>) -> Vec<Effect> {
        self.delete_retry_at = match answer {
            Answer::Failed => Some(now + self.settings.retry_ms),
            Answer::Found(()) | Answer::Absent => None,
        };
        Vec::new()
    }

    fn on_session(&mut self, now: Millis, answer: SessionAnswer) -> Vec<Effect> {
        if !matches!(self.phase, Phase::Connecting { .. }) {
            return Vec::new();
        }
        match answer {
            SessionAnswer::Opened { runner_id } => self.listen(now, runner_id, None),
            SessionAnswer::NotFound => self.listener_ended(),
            // The real listener retries a conflict for 4 min and then gives up; here the longest idle time ends it.
            SessionAnswer::Conflict | SessionAnswer::Failed => self.retry_later(now),
        }
    }

    fn listen(&mut self, now: Millis, runner_id: u64, unanswered_at: Option<Millis>) -> Vec<Effect> {
        self.phase = Phase::Listening { runner_id, idle_since: now, unanswered_at };
        vec![Effect::Poll { runner_id }]
    }

    fn on_polled(&mut self, now: Millis, answer: PollAnswer) -> Vec<Effect> {
        match (&mut self.phase, answer) {
            (Phase::Listening { runner_id, unanswered_at, .. }, PollAnswer::Job(_)) if self.flaw == Flaw::Ghost => {
                unanswered_at.get_or_insert(now);
                vec![Effect::Poll { runner_id: *runner_id }]
            }
            (Phase::Listening { runner_id, .. }, PollAnswer::Job(job)) => {
                let (runner_id, job_id) = (*runner_id, job.job_id);
                self.phase = Phase::Acquiring { runner_id, job, since: now };
                vec![Effect::Acquire { runner_id, job_id }]
            }
            // An ephemeral listener ignores a second message (facts/github.md 1.5).
            (
                Phase::Listening { runner_id, .. } | Phase::Running { runner_id, .. },
                PollAnswer::Nothing | PollAnswer::Job(_),
            ) => vec![Effect::Poll { runner_id: *runner_id }],
            (Phase::Listening { .. } | Phase::Running { .. }, PollAnswer::Failed) => self.retry_later(now),
            (Phase::Listening { .. }, PollAnswer::RunnerNotFound) => self.listener_ended(),
            // The loop's end awaits the dispatcher's shutdown, which cancels the job (facts/github.md 1.2).
            (Phase::Running { job, .. }, PollAnswer::RunnerNotFound) => {
                let job_id = job.job_id;
                self.with_cancelled(job_id)
            }
            (
                Phase::Down
                | Phase::Fetching
                | Phase::Connecting { .. }
                | Phase::Acquiring { .. }
                | Phase::Reporting { .. }
                | Phase::Ended
                | Phase::Off,
                _,
            ) => Vec::new(),
        }
    }

    fn on_acquired(&mut self, now: Millis, answer: &Answer<()>) -> Vec<Effect> {
        let Phase::Acquiring { runner_id, job, .. } = &self.phase else { return Vec::new() };
        let (runner_id, job) = (*runner_id, job.clone());
        match answer {
            Answer::Found(()) => {
                let (ends_at, renew_at) = (now + job.duration_ms, now + self.settings.renew_every_ms);
                self.phase = Phase::Running { runner_id, job, ends_at, renew_at };
                self.job_started_at = Some(now);
                vec![Effect::Poll { runner_id }]
            }
            // The real listener polls for ever after this (actions/runner#4617); the watchdog ends it.
            Answer::Absent => self.listen(now, runner_id, Some(now)),
            Answer::Failed => self.retry_later(now),
        }
    }

    fn on_renewed(&mut self, answer: &Answer<()>) -> Vec<Effect> {
        let Phase::Running { job, .. } = &self.phase else { return Vec::new() };
        match answer {
            // The next renewal comes in its own time.
            Answer::Found(()) | Answer::Failed => Vec::new(),
            // GitHub gave the job up: the worker is cancelled (facts/github.md 1.4).
            Answer::Absent => {
                let job_id = job.job_id;
                self.with_cancelled(job_id)
            }
        }
    }

    fn on_completed(&mut self, now: Millis, answer: &Answer<()>) -> Vec<Effect> {
        if !matches!(self.phase, Phase::Reporting { .. }) {
            return Vec::new();
        }
        match answer {
            Answer::Failed => self.retry_later(now),
            Answer::Found(()) | Answer::Absent => self.listener_ended(),
        }
    }

    /// The answer to a request is a beat; what it is comes out of the decision that follows every input.
    fn on_drain_tag(&mut self, now: Millis, value: Option<&str>) -> Vec<Effect> {
        let before = self.drain.seen_at();
        if self.supervises() {
            self.drain.look(value, now);
        }
        if self.drain.seen_at() == before || self.is_off() { Vec::new() } else { vec![self.beat(now)] }
    }

    /// What is due by time alone.
    fn pass_time(&mut self, now: Millis) -> Vec<Effect> {
        if let Some(off) = self.supervise(now) {
            return off;
        }
        let mut effects = Vec::new();
        if take_due(&mut self.delete_retry_at, now) {
            effects.push(Effect::DeleteParameter);
        }
        if take_due(&mut self.retry_at, now) {
            effects.extend(self.request_again());
        }
        effects.extend(self.work(now));
        if take_due(&mut self.next_look_at, now) {
            self.next_look_at = Some(now + self.settings.drain_look_every_ms);
            effects.push(Effect::ReadDrainTag);
        }
        if take_due(&mut self.next_beat_at, now) {
            effects.push(self.beat(now));
        }
        effects
    }

    /// The worker's own progress.
    fn work(&mut self, now: Millis) -> Vec<Effect> {
        let renew_every_ms = self.settings.renew_every_ms;
        let Phase::Running { runner_id, job, ends_at, renew_at } = &mut self.phase else { return Vec::new() };
        let (runner_id, job_id) = (*runner_id, job.job_id);
        if *ends_at <= now {
            let job = job.clone();
            let conclusion = job.conclusion.clone();
            // The listener's poll goes unanswered from here on, and so does its retry.
            self.retry_at = None;
            self.phase = Phase::Reporting { runner_id, job };
            return vec![Effect::Complete { runner_id, job_id, conclusion }];
        }
        if *renew_at <= now {
            *renew_at = now + renew_every_ms;
            return vec![Effect::Renew { runner_id, job_id }];
        }
        Vec::new()
    }

    /// The phase's request once more.
    fn request_again(&self) -> Option<Effect> {
        match &self.phase {
            Phase::Fetching => Some(Effect::FetchParameter),
            Phase::Connecting { jit_config, .. } => Some(Effect::OpenSession { jit_config: jit_config.clone() }),
            Phase::Listening { runner_id, .. } | Phase::Running { runner_id, .. } => {
                Some(Effect::Poll { runner_id: *runner_id })
            }
            Phase::Acquiring { runner_id, job, .. } => {
                Some(Effect::Acquire { runner_id: *runner_id, job_id: job.job_id })
            }
            Phase::Reporting { runner_id, job } => {
                Some(Effect::Complete { runner_id: *runner_id, job_id: job.job_id, conclusion: job.conclusion.clone() })
            }
            Phase::Down | Phase::Ended | Phase::Off => None,
        }
    }

    fn retry_later(&mut self, now: Millis) -> Vec<Effect> {
        self.retry_at = Some(now + self.settings.retry_ms);
        Vec::new()
    }

    /// What the supervisor decides at `now`; what it does when it powers off.
    ///
    /// Nothing happens between two looks of the same step, so that its stop is as atomic as that of the real one.
    fn supervise(&mut self, now: Millis) -> Option<Vec<Effect>> {
        if !self.supervises() {
            return None;
        }
        let facts = self.facts(now)?;
        let mut decision = decide(&facts, &self.settings.limits());
        if let Verdict::Freeze(_) = decision.verdict {
            decision = decide(&Facts { grip: Grip::Frozen, ..facts }, &self.settings.limits());
        }
        let Decision { verdict, look_at } = decision;
        self.decided_again_at = look_at;
        match verdict {
            Verdict::Keep(veto) => {
                if veto.answers_drain() {
                    self.drain.answer();
                }
                None
            }
            Verdict::Freeze(reason) | Verdict::Kill(reason) => {
                let mut effects = vec![self.beat(now), Effect::StopListener];
                effects.extend(self.power_off(reason));
                Some(effects)
            }
            Verdict::PowerOff(reason) => {
                // Before the listener's start there is none to stop, only a last word to say.
                let mut effects = match self.phase {
                    Phase::Ended => Vec::new(),
                    Phase::Down
                    | Phase::Fetching
                    | Phase::Connecting { .. }
                    | Phase::Listening { .. }
                    | Phase::Acquiring { .. }
                    | Phase::Running { .. }
                    | Phase::Reporting { .. }
                    | Phase::Off => vec![self.beat(now), Effect::StopListener],
                };
                effects.extend(self.power_off(reason));
                Some(effects)
            }
        }
    }

    /// What a look of the supervisor shows; `None` while there is no supervisor.
    fn facts(&self, now: Millis) -> Option<Facts> {
        let running = |idle_since, work| (Listener::Runs { idle_since }, work);
        let (listener, work) = match &self.phase {
            Phase::Down | Phase::Off => return None,
            Phase::Fetching => (Listener::NeverStarted, Work::None),
            // It writes while it starts.
            Phase::Connecting { since, .. } => running(*since, Work::Restless { since: *since }),
            Phase::Listening { idle_since, unanswered_at: None, .. } => running(*idle_since, Work::None),
            Phase::Listening { idle_since, unanswered_at: Some(at), .. } => {
                running(*idle_since, Work::Acknowledged { at: *at })
            }
            // Its request may have taken effect: from then on the job is its own.
            Phase::Acquiring { since, .. } => running(*since, Work::Acquired { at: *since }),
            Phase::Running { .. } | Phase::Reporting { .. } => running(now, Work::Worker),
            Phase::Ended => (Listener::Ended, Work::None),
        };
        Some(Facts {
            now,
            booted_at: self.booted_at,
            listener,
            work,
            // A listener that learns it ends at once, here.
            registration: Registration::Standing,
            drain: self.drain.open(),
            grip: Grip::Loose,
            job_started_at: self.job_started_at,
        })
    }

    fn with_cancelled(&mut self, job_id: u64) -> Vec<Effect> {
        let mut effects = vec![Effect::CancelJob { job_id }];
        effects.extend(self.listener_ended());
        effects
    }

    /// The listener has returned and no worker is left.
    fn listener_ended(&mut self) -> Vec<Effect> {
        self.retry_at = None;
        self.phase = Phase::Ended;
        Vec::new()
    }

    fn power_off(&mut self, reason: Reason) -> Vec<Effect> {
        self.phase = Phase::Off;
        (self.retry_at, self.delete_retry_at, self.decided_again_at) = (None, None, None);
        (self.next_beat_at, self.next_look_at) = (None, None);
        vec![Effect::PowerOff(reason)]
    }

    fn beat(&mut self, now: Millis) -> Effect {
        // The beat of a change is a beat: the next one is due a whole period later, and none follows the power off.
        self.next_beat_at = (!self.is_off()).then(|| now + self.settings.beat_every_ms);
        Effect::WriteVitalSign(VitalSign { beat_at: now, worker: self.worker(), drain_seen_at: self.drain.seen_at() })
    }

    fn supervises(&self) -> bool {
        self.supervision == Supervision::Within
    }
}

/// Whether a time has come; it is taken then.
fn take_due(at: &mut Option<Millis>, now: Millis) -> bool {
    at.take_if(|at| *at <= now).is_some()
}

#[cfg(test)]
mod tests;
