//! The simulated EC2: fleets, states, tags, client tokens, capacity, eventual consistency.
//!
//! It decides what EC2 would answer and when an instance changes by itself; it knows nothing of runners and jobs. What
//! happened is handed to the world as [`Ec2Event`]s: by [`Ec2::advance_to`], which also hands out what calls caused.

mod change;
mod describe;
mod error;
mod fleet;
mod instance;
mod settings;

use crate::truth::Ending;
use crate::{Millis, Tape};
use std::collections::BTreeMap;
use std::sync::Arc;

pub use change::StateChange;
pub use describe::{DescribeRequest, Filter, InstancePage};
pub use error::Ec2Error;
pub use fleet::{FleetAnswer, FleetError, FleetGroup, FleetRequest, LaunchTemplate, Pool, TemplateConfig};
pub use instance::{Instance, Market, Origin, State, StateReason, Tags};
pub use settings::Ec2Settings;

use fleet::RememberedFleet;
use instance::Step;

/// What EC2 did, for the world to act upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ec2Event {
    /// A new instance is pending.
    Launched {
        /// Its id.
        instance_id: String,
        /// Its tags at launch.
        tags: Arc<Tags>,
    },
    /// The instance runs: its process may start.
    Booted {
        /// Its id.
        instance_id: String,
    },
    /// The instance began to shut down.
    ShuttingDown {
        /// Its id.
        instance_id: String,
        /// Who ended it.
        ending: Ending,
    },
    /// The instance is terminated.
    Terminated {
        /// Its id.
        instance_id: String,
    },
}

/// The simulated EC2 of one account and region.
#[derive(Debug, Clone)]
pub struct Ec2 {
    settings: Ec2Settings,
    instances: BTreeMap<String, Instance>,
    fleets: BTreeMap<String, RememberedFleet>,
    launched: u64,
    fleets_created: u64,
    outbox: Vec<(Millis, Ec2Event)>,
    /// What is due first by itself; found anew after every change.
    soonest: Option<(Millis, String)>,
}

impl Ec2 {
    /// An EC2 without instances.
    #[must_use]
    pub fn new(settings: Ec2Settings) -> Self {
        Self {
            settings,
            instances: BTreeMap::new(),
            fleets: BTreeMap::new(),
            launched: 0,
            fleets_created: 0,
            outbox: Vec::new(),
            soonest: None,
        }
    }

    /// Its settings.
    #[must_use]
    pub fn settings(&self) -> &Ec2Settings {
        &self.settings
    }

    /// Changes its faults in the middle of a run, for example to end the unkind phase.
    pub fn set_settings(&mut self, settings: Ec2Settings) {
        self.settings = settings;
    }

    /// Processes what is due until `now`; the events in time order, those that calls caused since the last time
    /// included.
    pub fn advance_to(&mut self, now: Millis, tape: &mut Tape) -> Vec<(Millis, Ec2Event)> {
        while let Some((at, id)) = self.soonest.take_if(|(at, _)| *at <= now) {
            self.step(&id, at, tape);
            self.look_ahead();
        }
        let mut events = std::mem::take(&mut self.outbox);
        // Stable: what happened at the same moment stays in the order in which it happened.
        events.sort_by_key(|(at, _)| *at);
        events
    }

    /// When something happens next by itself; a time in the past while events wait to be taken.
    #[must_use]
    pub fn next_event_at(&self) -> Option<Millis> {
        let waiting = self.outbox.iter().map(|(at, _)| *at);
        waiting.chain(self.soonest.as_ref().map(|(at, _)| *at)).min()
    }

    /// Ids of the fleets' instances that are pending, running or stopped, in launch order. Foreign instances are not
    /// among them: nobody waits for their end.
    #[must_use]
    pub fn alive(&self) -> Vec<String> {
        let mut living: Vec<_> = self
            .instances
            .values()
            .filter(|instance| instance.origin == Origin::Fleet && instance.state.is_alive())
            .collect();
        living.sort_by_key(|instance| instance.sequence);
        living.into_iter().map(|instance| instance.id.clone()).collect()
    }

    /// One instance, as it truly is, whatever EC2 would show; `None` for an id that never was or is forgotten.
    #[must_use]
    pub fn instance(&self, id: &str) -> Option<&Instance> {
        self.instances.get(id)
    }

    /// Every instance that is not forgotten, by id, as it truly is.
    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.instances.values()
    }

    /// The instance powers itself off; nothing happens unless it runs. The event comes with the next
    /// [`Ec2::advance_to`].
    pub fn power_off(&mut self, instance_id: &str, now: Millis, tape: &mut Tape) {
        if self.instance(instance_id).is_some_and(|instance| instance.state == State::Running)
            && !tape.chance(self.settings.power_off_fails)
        {
            self.begin_shutdown(instance_id, Ending::PowerOff, now, tape);
        }
    }

    /// Somebody stopped the instance (console, host maintenance): its processes are gone, it is not. Nothing happens
    /// unless it runs, nor to a spot instance of a one-time request, as a fleet's are ("You can't stop the Spot Instance",
    /// quoted in cattle-ops/terraform-aws-gitlab-runner, discussion 1049, read 2026-11-21). The caller ends the processes; there is no event, as no fleet's instance stops by itself.
    pub fn stop(&mut self, instance_id: &str) -> bool {
        let found = self.instances.get_mut(instance_id);
        let running = found.filter(|i| i.state == State::Running && i.market == Market::OnDemand);
        let Some(instance) = running else { return false };
        instance.state = State::Stopped;
        instance.interruption_at = None;
        instance.state_reason = Some(StateReason::USER);
        self.look_ahead();
        true
    }

    /// Somebody starts a stopped instance: it boots anew, and EC2 shows this as the time of its launch (API reference,
    /// `Instance`, `launchTime`: "the time that the instance was last launched"). Nothing happens to one that is not
    /// stopped.
    pub fn start(&mut self, instance_id: &str, now: Millis, tape: &mut Tape) -> bool {
        let (lo, hi) = self.settings.boot_ms;
        let Some(instance) = self.instances.get_mut(instance_id).filter(|i| i.state == State::Stopped) else {
            return false;
        };
        instance.state = State::Pending;
        instance.launched_at = now;
        instance.state_reason = None;
        instance.next = Some((now + tape.between(lo, hi), Step::Boot));
        self.look_ahead();
        true
    }

    /// Somebody switches `disableApiTermination`. Nothing happens to a spot instance, which cannot have it ("not supported
    /// for spot instances", cloud-custodian#2083).
    pub fn protect(&mut self, instance_id: &str, protected: bool) -> bool {
        let found = self.instances.get_mut(instance_id);
        let Some(instance) = found.filter(|i| i.market == Market::OnDemand && i.state.is_alive()) else {
            return false;
        };
        instance.protected = protected;
        true
    }

    /// EC2 takes a spot instance back now. Nothing happens to an on-demand instance.
    pub fn take_back(&mut self, instance_id: &str, now: Millis, tape: &mut Tape) -> bool {
        let spot = self.instance(instance_id).is_some_and(|i| i.market == Market::Spot && i.state.is_alive());
        if spot {
            self.begin_shutdown(instance_id, Ending::Spot, now, tape);
        }
        spot
    }

    /// Throttling, drawn once a call before anything else.
    pub fn admit(&mut self, tape: &mut Tape) -> Result<(), Ec2Error> {
        if tape.chance(self.settings.throttle_rate) {
            return Err(Ec2Error::throttled());
        }
        Ok(())
    }

    fn look_ahead(&mut self) {
        self.soonest = self
            .instances
            .values()
            .filter_map(|instance| Some((instance.due_at()?, instance.sequence, &instance.id)))
            .min()
            .map(|(at, _, id)| (at, id.clone()));
    }

    fn step(&mut self, id: &str, at: Millis, tape: &mut Tape) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        if instance.interruption_at.is_some_and(|due| due <= at) {
            instance.interruption_at = None;
            self.begin_shutdown(id, Ending::Spot, at, tape);
            return;
        }
        let Some((_, step)) = instance.next.take() else { return };
        match step {
            Step::Boot => {
                instance.state = State::Running;
                self.outbox.push((at, Ec2Event::Booted { instance_id: id.to_owned() }));
            }
            Step::Terminate => {
                instance.state = State::Terminated;
                instance.next = Some((at + self.settings.terminated_lingers_ms, Step::Forget));
                self.outbox.push((at, Ec2Event::Terminated { instance_id: id.to_owned() }));
            }
            Step::Forget => {
                self.instances.remove(id);
            }
        }
    }

    /// From any living state to `shutting-down`; a repetition changes nothing.
    fn begin_shutdown(&mut self, id: &str, ending: Ending, now: Millis, tape: &mut Tape) {
        let (lo, hi) = self.settings.shutdown_ms;
        let Some(instance) = self.instances.get_mut(id).filter(|instance| instance.state.is_alive()) else { return };
        instance.state = State::ShuttingDown;
        instance.state_reason = Some(StateReason::of(&ending));
        instance.interruption_at = None;
        instance.next = Some((now + tape.between(lo, hi), Step::Terminate));
        self.outbox.push((now, Ec2Event::ShuttingDown { instance_id: id.to_owned(), ending }));
        self.look_ahead();
    }
}

#[cfg(test)]
mod tests;
