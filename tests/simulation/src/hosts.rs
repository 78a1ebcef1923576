//! Instances: the world's machine of supervisor and listener, given its inputs and carried out.
//!
//! Requests whose duration is a race (configuration, session, acquisition, a message on its way) take their time; the
//! others are answered at once. A poll is open until something comes or 50 s are over.

use std::collections::VecDeque;

use runner_scaler_core::ids::InstanceId;
use runner_scaler_core::ports::{VitalSign, Worker};
use runner_scaler_core::time::Timestamp;
use runner_scaler_world::github::{AcquireAnswer, PollAnswer as Polled, SessionAnswer as Session};
use runner_scaler_world::instance::{
    Answer, Effect, Input, JitConfig, Job, Machine, PollAnswer, SessionAnswer, Worker as Occupation,
};
use runner_scaler_world::world::Flaw;
use runner_scaler_world::{HostEffect, Millis};
use rustc_hash::FxHashMap;

use crate::agenda::Event;
use crate::coverage::Counter;
use crate::sim::Sim;
use crate::swarm::{HOUR, MINUTE, SECOND};

/// How long a poll stays open (facts/github.md 1.1).
const POLL: Millis = 50 * SECOND;
/// A pass takes four minutes at most, and a sign comes every minute and with each change.
const SIGNS_KEPT: usize = 10;
/// Signs of a clock that is as far behind look like silence: ten minutes of it, with a sign each minute.
const BEHIND: Millis = 8 * MINUTE;
/// Between two looks at the drain request.
const LOOK_EVERY: Millis = 10 * SECOND;

/// What an instance was about to do.
#[derive(Debug)]
pub enum Errand {
    /// Time passed.
    Tick,
    /// An answer arrives.
    Arrives(Input),
    /// The open poll is over, or something is there for it.
    Poll,
    /// The configuration is looked for.
    Fetch,
    /// The session is asked for.
    Open(JitConfig),
    /// The acquisition reaches GitHub.
    Acquire {
        /// By the runner.
        runner_id: u64,
        /// The job.
        job_id: u64,
    },
    /// The supervisor looks at the drain request.
    Look,
    /// A sign is written that was made a moment ago.
    Write(VitalSign),
    /// The supervisor dies.
    LoseSupervisor,
    /// The instance is cut off from AWS for a while.
    CutOff,
}

/// One instance's process.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each with its own moment")]
pub struct Host {
    /// Its id.
    pub id: String,
    machine: Machine,
    /// Grows when its process ends.
    life: u32,
    booted_at: Millis,
    skew: Millis,
    tick_at: Option<Millis>,
    /// The runner whose poll is open, and when it is over.
    poll: Option<(u64, Millis)>,
    look_noted: bool,
    /// Its last signs that were written: when, and the time that each bears.
    spoke: VecDeque<(Millis, Millis)>,
    /// Until then nothing that it writes at AWS arrives, and it reads nothing there.
    cut_off_until: Millis,
    /// Whether it reaches GitHub as little in that time.
    isolated: bool,
    /// Whether it never learns of a drain request.
    deaf: bool,
    /// Whether it cannot delete the configuration that it has used.
    keeps_config: bool,
    /// Whether a supervisor lives on it.
    pub supervised: bool,
    /// Whether its listener hangs after it acknowledged a message.
    hangs: bool,
    alive: bool,
}

impl Host {
    /// Whether it powered itself off, which may have failed.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.machine.is_off()
    }
}

/// All instances' processes.
#[derive(Default)]
pub struct Hosts {
    hosts: Vec<Host>,
    by_id: FxHashMap<String, usize>,
}

impl Hosts {
    /// The host of an instance.
    #[must_use]
    pub fn of(&self, instance_id: &str) -> Option<&Host> {
        self.by_id.get(instance_id).and_then(|place| self.hosts.get(*place))
    }

    /// The time on the last sign that the supervisor of an instance wrote before then, if both live.
    #[must_use]
    pub fn spoke_before(&self, instance_id: &str, then: Millis) -> Option<Millis> {
        let host = self.of(instance_id).filter(|host| host.alive && host.supervised && !host.is_off())?;
        host.spoke.iter().find(|(written_at, _)| *written_at < then).map(|(_, beat_at)| *beat_at)
    }

    /// The host of a runner, whose name ends with its instance's id.
    fn place_of_runner(&self, runner: &str) -> Option<usize> {
        let id = runner.rfind("i-").and_then(|start| runner.get(start..))?;
        self.by_id.get(id).copied()
    }
}

impl Sim {
    /// What the world wants done to processes.
    pub(crate) fn carry_out(&mut self, effects: Vec<HostEffect>) {
        for effect in effects {
            match effect {
                HostEffect::BootInstance { instance_id, flaw } => self.boot(instance_id, flaw),
                HostEffect::KillInstance { instance_id } => {
                    if let Some(host) = self.hosts.by_id.get(&instance_id).and_then(|p| self.hosts.hosts.get_mut(*p)) {
                        host.alive = false;
                        host.life += 1;
                        host.poll = None;
                    }
                }
                HostEffect::KillCaller { .. } => {}
            }
        }
    }

    fn boot(&mut self, id: String, flaw: Flaw) {
        if let Some(place) = self.hosts.by_id.get(&id).copied() {
            self.boot_again(place);
            return;
        }
        let (tape, plan) = (&mut self.world.tape, &self.plan);
        let flaw = match flaw {
            Flaw::None if tape.chance(plan.never_registers) => Flaw::NeverRegisters,
            Flaw::None if tape.chance(plan.supervisor_dead) => Flaw::SupervisorDead,
            Flaw::None if tape.chance(plan.ghost) => Flaw::Ghost,
            Flaw::None | Flaw::SupervisorDead | Flaw::NeverRegisters | Flaw::Ghost => flaw,
        };
        let place = self.hosts.hosts.len();
        if tape.chance(plan.supervisor_dies) {
            let at = self.now + tape.between(0, HOUR);
            self.agenda.note(at, Event::Host { host: place, life: 0, errand: Errand::LoseSupervisor });
        }
        if tape.chance(plan.cut_off) {
            let at = self.now + tape.between(0, HOUR);
            self.agenda.note(at, Event::Host { host: place, life: 0, errand: Errand::CutOff });
        }
        let skew = if plan.clock_skew == 0 { 0 } else { tape.between(0, 2 * plan.clock_skew) - plan.clock_skew };
        let deaf = tape.chance(plan.deaf);
        let keeps_config = tape.chance(plan.config_kept);
        let host = Host {
            id: id.clone(),
            machine: Machine::new(plan.supervisor.clone(), flaw),
            life: 0,
            booted_at: self.now,
            skew,
            tick_at: None,
            poll: None,
            look_noted: false,
            spoke: VecDeque::new(),
            cut_off_until: 0,
            isolated: false,
            deaf,
            keeps_config,
            supervised: matches!(flaw, Flaw::None | Flaw::Ghost),
            hangs: flaw == Flaw::Ghost,
            alive: true,
        };
        if flaw == Flaw::Ghost {
            self.coverage.hit(Counter::Ghost);
        }
        if skew <= -BEHIND {
            self.coverage.hit(Counter::ClockBehind);
        }
        // From outside one whose clock is so far behind is silent.
        self.checker.booted(&id, host.supervised && skew > -BEHIND, flaw, self.now);
        self.hosts.hosts.push(host);
        self.hosts.by_id.insert(id, place);
        self.feed(place, Input::Booted);
    }

    /// Somebody stopped it and started it again: everything on it begins anew.
    fn boot_again(&mut self, place: usize) {
        let Some(host) = self.hosts.hosts.get_mut(place).filter(|host| !host.alive) else { return };
        host.machine = Machine::new(self.plan.supervisor.clone(), Flaw::None);
        host.life += 1;
        (host.alive, host.supervised, host.look_noted, host.hangs) = (true, true, false, false);
        (host.booted_at, host.tick_at, host.poll) = (self.now, None, None);
        let id = host.id.clone();
        // A clock that is so far behind is still, and so is a connection.
        let (speaks, cut_off_until) = (host.skew > -BEHIND, host.cut_off_until);
        self.checker.booted(&id, speaks, Flaw::None, self.now);
        if self.now < cut_off_until {
            self.checker.unheard_until(&id, cut_off_until);
        }
        self.feed(place, Input::Booted);
    }

    /// A runner was given a job: its open poll has an answer.
    pub(crate) fn message_waits(&mut self, runner: &str) {
        let Some(place) = self.hosts.place_of_runner(runner) else { return };
        let Some(host) = self.hosts.hosts.get(place).filter(|host| host.poll.is_some()) else { return };
        let life = host.life;
        let at = self.now + self.world.tape.between(20, 400);
        self.agenda.note(at, Event::Host { host: place, life, errand: Errand::Poll });
    }

    /// An instance was asked to drain: it finds that at its next look.
    pub(crate) fn drain_waits(&mut self, instance_id: &str) {
        let Some(place) = self.hosts.by_id.get(instance_id).copied() else { return };
        self.note_look(place);
    }

    /// An instance that was cut off may be heard of again soon: after its runner was deleted and before it is ended.
    pub(crate) fn comes_back_at_delete(&mut self, runner: &str) {
        let now = self.now;
        let Some(place) = self.hosts.place_of_runner(runner) else { return };
        let Some(host) = self.hosts.hosts.get_mut(place).filter(|host| now < host.cut_off_until) else { return };
        if self.world.tape.chance(self.plan.back_at_delete) {
            host.cut_off_until = now + self.world.tape.between(SECOND, 4 * MINUTE);
        }
    }

    fn note_look(&mut self, place: usize) {
        let now = self.now;
        let Some(host) = self.hosts.hosts.get_mut(place).filter(|host| host.alive && !host.look_noted) else { return };
        host.look_noted = true;
        let at = now + LOOK_EVERY - (now - host.booted_at).rem_euclid(LOOK_EVERY);
        self.agenda.note(at, Event::Host { host: place, life: host.life, errand: Errand::Look });
    }

    /// Something that an instance was about to do.
    pub(crate) fn run_errand(&mut self, place: usize, life: u32, errand: Errand) {
        let now = self.now;
        let (cut_off, isolated) = (self.is_cut_off(place), self.is_isolated(place));
        let Some(host) = self.hosts.hosts.get_mut(place).filter(|host| host.alive && host.life == life) else { return };
        match errand {
            Errand::Tick => {
                if host.tick_at != Some(now) {
                    return;
                }
                host.tick_at = None;
                self.feed(place, Input::Tick);
            }
            Errand::Arrives(input) => self.feed(place, input),
            Errand::LoseSupervisor => {
                host.supervised = false;
                host.machine.lose_supervisor();
                let id = host.id.clone();
                self.checker.unheard_until(&id, Millis::MAX);
            }
            Errand::CutOff => {
                let until = now + self.world.tape.between(15 * MINUTE, HOUR);
                host.cut_off_until = until;
                // Some come back with a voice and without ears: they are asked to drain, and never learn of it.
                host.deaf |= self.world.tape.draw(1) == 1;
                // Most still listen and take jobs, which nobody at AWS hears of.
                host.isolated = self.world.tape.draw(3) == 3;
                let id = host.id.clone();
                self.timeline.note(now, || format!("{id} is cut off from AWS"));
                self.coverage.hit(Counter::CutOff);
                // From outside it has no supervisor.
                self.checker.unheard_until(&id, until);
            }
            Errand::Look => {
                host.look_noted = false;
                let value = self.world.ec2.instance(&host.id).and_then(|i| i.tags.get("ghr:drain").cloned());
                let refuses = host.supervised && host.machine.worker() != Occupation::None;
                // What is deaf is so until the faults end.
                let deaf = (host.deaf && !self.quiet) || now < host.cut_off_until;
                if self.world.tape.chance(self.plan.look_lost) || deaf {
                    self.note_look(place);
                } else {
                    if value.is_some() && refuses {
                        self.coverage.hit(Counter::DrainRefused);
                    }
                    self.feed(place, Input::DrainTag(value));
                }
            }
            Errand::Write(sign) => self.write_sign(place, sign),
            Errand::Fetch if cut_off => {
                self.coverage.hit(Counter::CutOffFetch);
                self.feed(place, Input::Parameter(Answer::Failed));
            }
            Errand::Open(_) if isolated => self.feed(place, Input::Session(SessionAnswer::Failed)),
            Errand::Acquire { .. } if isolated => self.feed(place, Input::Acquired(Answer::Failed)),
            Errand::Fetch => {
                let found = self.aws.parameters.get(&InstanceId::new(host.id.as_str()));
                let answer = match found {
                    Some((_, config)) => Answer::Found(JitConfig::new(config.expose())),
                    None => Answer::Absent,
                };
                self.feed(place, Input::Parameter(answer));
            }
            Errand::Open(config) => {
                let id = host.id.clone();
                let answer = self.touch(|world| {
                    let (github, mut cx) = world.github();
                    github.open_session(&mut cx, config.expose(), Some(&id))
                });
                let answer = match answer {
                    Session::Opened { runner_id, .. } => SessionAnswer::Opened { runner_id },
                    Session::NotFound => SessionAnswer::NotFound,
                    Session::Conflict => {
                        self.coverage.hit(Counter::UsedConfig);
                        SessionAnswer::Conflict
                    }
                };
                self.feed(place, Input::Session(answer));
            }
            Errand::Acquire { runner_id, job_id } => {
                let answer = self.touch(|world| {
                    let (github, mut cx) = world.github();
                    github.acquire(&mut cx, job_id, runner_id)
                });
                let answer = match answer {
                    AcquireAnswer::Acquired => Answer::Found(()),
                    AcquireAnswer::Refused => Answer::Absent,
                };
                self.feed(place, Input::Acquired(answer));
            }
            Errand::Poll => {
                let Some((runner_id, over_at)) = host.poll else { return };
                self.poll(place, runner_id, over_at);
            }
        }
    }

    /// Asks GitHub for a message; without one the poll stays open.
    fn poll(&mut self, place: usize, runner_id: u64, over_at: Millis) {
        if self.is_isolated(place) {
            self.coverage.hit(Counter::Isolated);
            let Some(host) = self.hosts.hosts.get_mut(place) else { return };
            let over_at = self.now + POLL;
            host.poll = Some((runner_id, over_at));
            self.agenda.note(over_at, Event::Host { host: place, life: host.life, errand: Errand::Poll });
            return;
        }
        let answer = self.touch(|world| {
            let (github, mut cx) = world.github();
            github.poll(&mut cx, runner_id)
        });
        let now = self.now;
        let Some(host) = self.hosts.hosts.get_mut(place) else { return };
        let life = host.life;
        match answer {
            Polled::Nothing => {
                let begins = over_at <= now;
                let over_at = if begins { now + POLL } else { over_at };
                host.poll = Some((runner_id, over_at));
                if begins {
                    self.agenda.note(over_at, Event::Host { host: place, life, errand: Errand::Poll });
                }
            }
            Polled::RunnerNotFound => {
                host.poll = None;
                self.feed(place, Input::Polled(PollAnswer::RunnerNotFound));
            }
            Polled::Job(message) => {
                host.poll = None;
                let hangs = host.hangs;
                let job =
                    Job { job_id: message.job_id, duration_ms: message.duration_ms, conclusion: message.conclusion };
                // On its way: a listener that is stopped now never reads it.
                let at = now + self.world.tape.between(20, 1_500);
                let job_id = job.job_id;
                let errand = Errand::Arrives(Input::Polled(PollAnswer::Job(job)));
                self.agenda.note(at, Event::Host { host: place, life, errand });
                if hangs && self.world.tape.draw(1) == 1 {
                    self.coverage.hit(Counter::Hung);
                    self.touch(|world| {
                        let (github, mut cx) = world.github();
                        github.hang(&mut cx, job_id);
                    });
                }
            }
        }
    }

    /// Whether an instance is cut off from AWS now.
    fn is_cut_off(&self, place: usize) -> bool {
        !self.quiet && self.hosts.hosts.get(place).is_some_and(|host| self.now < host.cut_off_until)
    }

    /// Whether it is from GitHub too.
    fn is_isolated(&self, place: usize) -> bool {
        self.is_cut_off(place) && self.hosts.hosts.get(place).is_some_and(|host| host.isolated)
    }

    /// A sign reaches the table; one that was made before the last that did is not written any more.
    fn write_sign(&mut self, place: usize, sign: VitalSign) {
        let now = self.now;
        let Some(host) = self.hosts.hosts.get_mut(place) else { return };
        if host.spoke.front().is_some_and(|(_, beat_at)| *beat_at > sign.beat_at.0) {
            return;
        }
        host.spoke.truncate(SIGNS_KEPT - 1);
        host.spoke.push_front((now, sign.beat_at.0));
        self.checker.signed(&host.id, sign.worker != Worker::None, now);
        self.aws.vital_signs.insert(InstanceId::new(host.id.as_str()), sign);
    }

    /// Gives the machine an input and carries out what comes of it.
    fn feed(&mut self, place: usize, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let Some(host) = self.hosts.hosts.get_mut(place).filter(|host| host.alive) else { return };
            let effects = host.machine.handle(self.now + host.skew, input);
            for effect in effects {
                inputs.extend(self.carry_out_effect(place, effect));
            }
        }
        let Some(host) = self.hosts.hosts.get_mut(place).filter(|host| host.alive) else { return };
        let Some(wake_at) = host.machine.next_wake_at().map(|at| (at - host.skew).max(self.now + 1)) else { return };
        if host.tick_at.is_none_or(|at| wake_at < at) {
            host.tick_at = Some(wake_at);
            self.agenda.note(wake_at, Event::Host { host: place, life: host.life, errand: Errand::Tick });
        }
    }

    fn carry_out_effect(&mut self, place: usize, effect: Effect) -> Option<Input> {
        let (cut_off, isolated) = (self.is_cut_off(place), self.is_isolated(place));
        let host = self.hosts.hosts.get_mut(place)?;
        let (now, life) = (self.now, host.life);
        let mut later = |after: Millis, errand: Errand| {
            self.agenda.note(now + after, Event::Host { host: place, life, errand });
            None
        };
        match effect {
            Effect::FetchParameter => later(150, Errand::Fetch),
            Effect::OpenSession { jit_config } => later(700, Errand::Open(jit_config)),
            Effect::Acquire { runner_id, job_id } => {
                let after = self.world.tape.between(50, 3 * SECOND);
                later(after, Errand::Acquire { runner_id, job_id })
            }
            Effect::DeleteParameter if cut_off || (host.keeps_config && !self.quiet) => {
                Some(Input::ParameterDeleted(Answer::Failed))
            }
            Effect::DeleteParameter => {
                self.aws.parameters.remove(&InstanceId::new(host.id.as_str()));
                Some(Input::ParameterDeleted(Answer::Found(())))
            }
            Effect::Poll { runner_id } => {
                if host.poll.is_none() {
                    self.poll(place, runner_id, now);
                }
                None
            }
            Effect::Renew { .. } if isolated => Some(Input::Renewed(Answer::Failed)),
            Effect::Complete { job_id, .. } if isolated => {
                self.checker.unreported.insert(job_id);
                Some(Input::Completed(Answer::Failed))
            }
            Effect::Renew { runner_id, job_id } => {
                let renewed = self.touch(|world| {
                    let (github, mut cx) = world.github_to_put_off();
                    github.renew(&mut cx, job_id, runner_id)
                });
                Some(Input::Renewed(if renewed { Answer::Found(()) } else { Answer::Absent }))
            }
            Effect::Complete { runner_id, job_id, conclusion } => {
                let completed = self.touch(|world| {
                    let (github, mut cx) = world.github();
                    github.complete(&mut cx, job_id, runner_id, &conclusion)
                });
                Some(Input::Completed(if completed { Answer::Found(()) } else { Answer::Absent }))
            }
            Effect::ReadDrainTag => {
                let value = self.world.ec2.instance(&host.id).and_then(|i| i.tags.get("ghr:drain").cloned());
                // No tag changes nothing.
                value.map(|value| Input::DrainTag(Some(value)))
            }
            Effect::WriteVitalSign(sign) => {
                if self.world.tape.chance(self.plan.beat_lost) || now < host.cut_off_until {
                    return None;
                }
                let worker = match sign.worker {
                    Occupation::None => Worker::None,
                    Occupation::Acquiring => Worker::Acquiring,
                    Occupation::Running => Worker::Running,
                };
                let sign = VitalSign { beat_at: Timestamp(sign.beat_at), worker };
                if worker != Worker::None && self.plan.sign_lag > 0 {
                    let after = self.world.tape.between(0, self.plan.sign_lag);
                    self.coverage.hit(Counter::LateSign);
                    self.agenda.note(now + after, Event::Host { host: place, life, errand: Errand::Write(sign) });
                } else {
                    self.write_sign(place, sign);
                }
                None
            }
            Effect::CancelJob { .. } => None,
            Effect::StopListener => {
                host.poll = None;
                host.life += 1;
                host.tick_at = None;
                None
            }
            Effect::PowerOff(reason) => {
                let id = host.id.clone();
                self.timeline.note(now, || format!("{id} powers itself off: {reason:?}"));
                if reason == runner_scaler_world::instance::Reason::Drained {
                    self.coverage.hit(Counter::DrainedIdle);
                }
                self.touch(|world| world.power_off(&id));
                None
            }
        }
    }
}
