//! The world: GitHub and EC2 under one virtual clock, the adversary's traps, and the ground truth.
//!
//! It decides in which order things happen and what one part's event means for the other (an instance that ends takes
//! its listener and its job with it). It knows no HTTP and no wall clock: front ends call [`World::advance_to`] first,
//! then one operation, and carry out what [`World::take_host_effects`] hands them.

use crate::call::{Api, Call};
use crate::ec2::{Ec2, Ec2Event, Origin, State, Tags};
use crate::github::{Cx, GitHub};
use crate::misfortune::Misfortune;
use crate::trap::{Interference, Phase, Trap, TrapAction, Traps};
use crate::truth::{Ending, Fact, Truth};
use crate::{Millis, Settings, Tape};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the host must do to processes; may be repeated, so the host ignores what is already so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostEffect {
    /// EC2 booted an instance: start its process.
    BootInstance {
        /// The instance.
        instance_id: String,
        /// What is wrong with it.
        flaw: Flaw,
    },
    /// An instance ended, or nothing works on it any more: kill its process, if it still runs.
    KillInstance {
        /// The instance.
        instance_id: String,
    },
    /// The adversary kills the process of a function in the middle of its call.
    KillCaller {
        /// The function.
        caller: String,
    },
}

/// What is wrong with an instance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flaw {
    /// Nothing.
    #[default]
    None,
    /// The supervisor is dead: no vital sign, no drain, no idle maximum, no power off after the job.
    SupervisorDead,
    /// The boot never gets as far as registering, and the instance does not end itself.
    NeverRegisters,
    /// The listener loses its assignment and polls for ever (actions/runner#4617).
    Ghost,
}

/// Gives the next instance of a fleet a flaw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlawPlan {
    /// The fleet (tag `ghr:fleet`); any when absent.
    #[serde(default)]
    pub fleet: Option<String>,
    /// How many instances of the fleet boot without it first.
    #[serde(default)]
    pub skip: u32,
    /// The flaw.
    pub flaw: Flaw,
}

/// One line for people about something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorldEvent {
    /// When, in virtual time.
    pub at: Millis,
    /// What, with ids.
    pub text: String,
    /// The fact itself.
    pub fact: Fact,
}

/// The tag that names an instance's fleet (design section 9).
const FLEET_TAG: &str = "ghr:fleet";

/// GitHub, EC2, their clock and the truth about them.
#[derive(Debug)]
pub struct World {
    now: Millis,
    /// The only source of chance.
    pub tape: Tape,
    /// GitHub.
    pub github: GitHub,
    /// EC2.
    pub ec2: Ec2,
    /// What really happened.
    pub truth: Truth,
    /// The adversary.
    pub traps: Traps,
    flaws: Vec<FlawPlan>,
    flawed: BTreeMap<String, Flaw>,
    host_effects: Vec<HostEffect>,
    reported: usize,
    /// When GitHub does something next, where that is known.
    github_next: Option<Millis>,
    /// Whether it is: every operation of GitHub's may change it.
    github_known: bool,
}

impl World {
    /// A world without jobs, runners and instances at the time `start`.
    #[must_use]
    pub fn new(settings: Settings, tape: Tape, start: Millis) -> Self {
        Self {
            now: start,
            tape,
            github: GitHub::new(settings.github),
            ec2: Ec2::new(settings.ec2),
            truth: Truth::default(),
            traps: Traps::default(),
            flaws: Vec::new(),
            flawed: BTreeMap::new(),
            host_effects: Vec::new(),
            reported: 0,
            github_next: None,
            github_known: false,
        }
    }

    /// The virtual time.
    #[must_use]
    pub fn now(&self) -> Millis {
        self.now
    }

    /// When something happens next by itself, if anything will.
    #[must_use]
    pub fn next_event_at(&self) -> Option<Millis> {
        let github = if self.github_known { self.github_next } else { self.github.next_event_at() };
        [github, self.ec2.next_event_at()].into_iter().flatten().min()
    }

    /// Lets time pass until `now`; what is due happens at its own time and in order. Time never goes back: an earlier
    /// `now` is ignored.
    pub fn advance_to(&mut self, now: Millis) {
        self.look_ahead();
        while let Some(due) = self.next_event_at().filter(|due| *due <= now) {
            self.now = self.now.max(due);
            self.step();
            self.look_ahead();
            // An event that stays due after its own step waits for somebody else (a poll, an answer).
            if self.next_event_at().is_some_and(|next| next <= due) {
                break;
            }
        }
        self.now = self.now.max(now);
        self.step();
        self.look_ahead();
    }

    fn look_ahead(&mut self) {
        if !self.github_known {
            self.github_next = self.github.next_event_at();
            self.github_known = true;
        }
    }

    /// GitHub with what its operations need.
    pub fn github(&mut self) -> (&mut GitHub, Cx<'_>) {
        self.github_known = false;
        self.github.tell_time(self.now);
        (&mut self.github, Cx { now: self.now, tape: &mut self.tape, truth: &mut self.truth })
    }

    /// The same, for an operation after which nothing happens sooner by itself than before it: a renewed lock.
    pub fn github_to_put_off(&mut self) -> (&mut GitHub, Cx<'_>) {
        self.github.tell_time(self.now);
        (&mut self.github, Cx { now: self.now, tape: &mut self.tape, truth: &mut self.truth })
    }

    /// Sets a trap.
    pub fn set_trap(&mut self, trap: Trap) {
        self.traps.set(trap);
    }

    /// Plans a flaw for a later instance.
    pub fn plan_flaw(&mut self, plan: FlawPlan) {
        self.flaws.push(plan);
    }

    /// Launches an instance of somebody else in the same account: touching it breaks a promise.
    pub fn launch_foreign(&mut self, tags: Tags) -> String {
        self.ec2.launch_foreign(tags, self.now)
    }

    /// A call arrived: it is counted and may spring traps. To be asked before the call has its effect.
    pub fn begin_call(&mut self, call: &Call) -> Interference {
        self.truth.count_call(&call.caller, call.api, &call.operation);
        let touches = call.api == Api::Ec2
            && ["TerminateInstances", "CreateTags", "DeleteTags"].contains(&call.operation.as_str());
        for id in call.instance_ids.iter().filter(|_| touches) {
            if self.ec2.instance(id).is_some_and(|i| i.origin == Origin::Foreign) {
                self.truth.record(
                    self.now,
                    Fact::ForeignTouched { instance_id: id.clone(), operation: call.operation.clone() },
                );
            }
        }
        self.spring(call, Phase::BeforeEffect)
    }

    /// A call had its effect and its answer is about to leave.
    pub fn end_call(&mut self, call: &Call) -> Interference {
        // The effect's own events (a termination that began) come before whatever the adversary does next.
        self.step();
        self.spring(call, Phase::AfterEffect)
    }

    /// The instance powers itself off.
    pub fn power_off(&mut self, instance_id: &str) {
        self.ec2.power_off(instance_id, self.now, &mut self.tape);
        self.step();
    }

    /// What the host must do now.
    pub fn take_host_effects(&mut self) -> Vec<HostEffect> {
        std::mem::take(&mut self.host_effects)
    }

    /// What happened since the last time this was asked.
    pub fn take_events(&mut self) -> Vec<WorldEvent> {
        let facts = self.truth.facts();
        let events = facts
            .iter()
            .skip(self.reported)
            .map(|(at, fact)| WorldEvent { at: *at, text: fact.describe(), fact: fact.clone() })
            .collect();
        self.reported = facts.len();
        events
    }

    /// Something befalls an instance from outside; false when it cannot.
    pub fn befall(&mut self, instance_id: &str, misfortune: Misfortune) -> bool {
        let now = self.now;
        let fact = Fact::Befell { instance_id: instance_id.to_owned(), misfortune };
        let befell = match misfortune {
            Misfortune::Stopped => self.ec2.stop(instance_id),
            Misfortune::Started => self.ec2.start(instance_id, now, &mut self.tape),
            Misfortune::ListenerDead => self.ec2.instance(instance_id).is_some_and(|i| i.state == State::Running),
            Misfortune::TakenBack => self.ec2.take_back(instance_id, now, &mut self.tape),
            Misfortune::Protected => self.ec2.protect(instance_id, true),
            Misfortune::Unprotected => self.ec2.protect(instance_id, false),
            Misfortune::Unlisted => self.github.unlist(instance_id),
            Misfortune::RegistrationRemoved => {
                let (github, mut cx) = self.github();
                github.remove_by_hand(&mut cx, instance_id)
            }
        };
        if befell {
            // Before a job's end that follows from it: whoever reads the facts must know whose doing that was.
            self.truth.record(now, fact);
        }
        if befell && matches!(misfortune, Misfortune::Stopped | Misfortune::ListenerDead) {
            self.host_effects.push(HostEffect::KillInstance { instance_id: instance_id.to_owned() });
            let (github, mut cx) = self.github();
            github.instance_died(&mut cx, instance_id);
        }
        self.step();
        befell
    }

    fn step(&mut self) {
        for (at, event) in self.ec2.advance_to(self.now, &mut self.tape) {
            self.on_ec2_event(at, event);
        }
        // Whatever the operations were, nothing happens by itself before its time.
        self.look_ahead();
        if self.github_next.is_some_and(|due| due <= self.now) {
            let (github, mut cx) = self.github();
            github.advance(&mut cx);
        }
    }

    fn on_ec2_event(&mut self, at: Millis, event: Ec2Event) {
        match event {
            Ec2Event::Launched { instance_id, tags } => {
                let fleet = tags.get(FLEET_TAG).cloned();
                let flaw = self.draw_flaw(fleet.as_deref());
                self.flawed.insert(instance_id.clone(), flaw);
                self.truth.record(at, Fact::InstanceLaunched { instance_id, fleet });
            }
            Ec2Event::Booted { instance_id } => {
                let flaw = self.flawed.get(&instance_id).copied().unwrap_or_default();
                self.truth.record(at, Fact::InstanceBooted { instance_id: instance_id.clone() });
                self.host_effects.push(HostEffect::BootInstance { instance_id, flaw });
            }
            Ec2Event::ShuttingDown { instance_id, ending } => self.end_instance(at, &instance_id, ending),
            Ec2Event::Terminated { instance_id } => {
                self.host_effects.push(HostEffect::KillInstance { instance_id: instance_id.clone() });
                self.truth.record(at, Fact::InstanceTerminated { instance_id });
            }
        }
    }

    /// The operating system goes down: the listener is gone, and a job with it.
    fn end_instance(&mut self, at: Millis, instance_id: &str, ending: Ending) {
        let active_job = self.github.active_job_of_instance(instance_id);
        if ending != Ending::PowerOff {
            self.host_effects.push(HostEffect::KillInstance { instance_id: instance_id.to_owned() });
        }
        self.truth.record(at, Fact::InstanceEnding { instance_id: instance_id.to_owned(), ending, active_job });
        let (github, mut cx) = self.github();
        github.instance_died(&mut cx, instance_id);
    }

    fn draw_flaw(&mut self, fleet: Option<&str>) -> Flaw {
        let applies = |plan: &FlawPlan| plan.fleet.is_none() || plan.fleet.as_deref() == fleet;
        let Some(position) = self.flaws.iter().position(applies) else {
            return Flaw::None;
        };
        match self.flaws.get_mut(position) {
            Some(plan) if plan.skip > 0 => {
                plan.skip -= 1;
                Flaw::None
            }
            Some(_) => self.flaws.remove(position).flaw,
            None => Flaw::None,
        }
    }

    fn spring(&mut self, call: &Call, phase: Phase) -> Interference {
        let mut interference = Interference::Proceed;
        for action in self.traps.spring(call, phase) {
            self.truth.record(
                self.now,
                Fact::TrapSprung {
                    operation: call.operation.clone(),
                    caller: call.caller.clone(),
                    action: format!("{action:?}"),
                },
            );
            match action {
                TrapAction::AssignJob { job_id, github_knows } => self.assign(call, job_id, github_knows),
                TrapAction::LoseReply => interference = Interference::LoseReply,
                TrapAction::Fail { status } => interference = Interference::Fail { status },
                TrapAction::KillCaller => {
                    self.host_effects.push(HostEffect::KillCaller { caller: call.caller.clone() });
                    interference = Interference::LoseReply;
                }
            }
        }
        interference
    }

    fn assign(&mut self, call: &Call, job_id: u64, github_knows: bool) {
        let runner = call.runner_name.clone().or_else(|| {
            let id = call.instance_ids.first()?;
            self.github.runner_name_of_instance(id)
        });
        let (github, mut cx) = self.github();
        if let Some(name) = runner {
            let flag = if github_knows { crate::github::BusyFlag::Known } else { crate::github::BusyFlag::Unknown };
            github.assign_held_job(&mut cx, job_id, &name, flag);
        }
    }
}

#[cfg(test)]
mod tests;
