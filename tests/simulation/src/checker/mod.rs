//! What must hold, judged from what really happened.
//!
//! Only S3, S8, S10 and S11 look at what went through the ports; everything else reads the world's facts. A violation
//! bears the name of its invariant. On an instance without a supervisor a job may be lost to a DELETE that nothing
//! could have known better: such a loss is counted, and is a violation where it is not the documented one.

mod ends;
mod launches;
mod steps;

use std::collections::{BTreeMap, BTreeSet};

use runner_scaler_world::github::Trouble;
use runner_scaler_world::truth::{Ending, Fact};
use runner_scaler_world::world::Flaw;
use runner_scaler_world::{Millis, World};
use rustc_hash::FxHashMap;

use crate::coverage::{Counter, Coverage};
use crate::lambda::TaskId;
use crate::report::Tally;
use crate::swarm::{HOUR, SECOND};

/// So long a job may be the one of those that wait for whom the room that there was did not last.
const LEFT_FULL: Millis = HOUR;

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// `S1` to `S11`, `L1` to `L9`.
    pub invariant: &'static str,
    /// When it was seen.
    pub at: Millis,
    /// What is wrong, with ids.
    pub what: String,
}

/// A job as it truly is.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each with its own moment")]
pub struct JobTruth {
    /// When it was queued.
    pub queued_at: Millis,
    /// Since when it waits for a runner; none once it runs or is over.
    pub waits_since: Option<Millis>,
    /// Whether some fleet takes it.
    pub served: bool,
    /// Whether its `queued` delivery was lost.
    pub silent: bool,
    /// When it was given to a runner.
    pub assigned_at: Option<Millis>,
    /// Whether its `in_progress` delivery was taken by us.
    pub start_known: Option<Millis>,
    /// Whether that delivery was lost.
    pub start_lost: bool,
    /// Whether it was complained about.
    reported: bool,
}

/// An instance as it truly is.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each with its own moment")]
pub struct InstanceTruth {
    /// Its fleet.
    pub fleet: String,
    /// Where its runner registers.
    pub owner: String,
    /// The launch that it came from.
    pub launch: String,
    /// When.
    pub launched_at: Millis,
    /// Whether a runner was registered for it.
    pub registered: bool,
    /// Whether it ever was given a job.
    pub used: bool,
    /// The last job that ran on it.
    pub last_job: Option<u64>,
    /// The job that runs.
    pub job: Option<u64>,
    /// Since when it does nothing.
    pub idle_since: Millis,
    /// When it began to end.
    pub ended_at: Option<Millis>,
    /// Whether a supervisor lives on it; not known before it boots.
    pub supervised: bool,
    /// What is wrong with it.
    pub flaw: Flaw,
    reported: bool,
}

/// What is known of the truth, and what was wrong.
#[derive(Default)]
pub struct Checker {
    /// Whether the job that is queued next is one that a fleet takes.
    pub coming: Option<bool>,
    /// Caps by fleet.
    pub caps: BTreeMap<String, usize>,
    /// Idle runners that a fleet keeps.
    pub pool: usize,
    /// The owner whose GitHub stays broken in the quiet hours.
    pub broken: Option<String>,
    /// When no fleet keeps any more.
    pub pool_ended_at: Option<Millis>,
    /// Instances whose vital sign somebody else wrote, and when last.
    pub forged_signs: BTreeMap<String, Millis>,
    /// Jobs.
    pub jobs: BTreeMap<u64, JobTruth>,
    /// Jobs that wait.
    waiting: BTreeSet<u64>,
    /// Instances.
    pub instances: FxHashMap<String, InstanceTruth>,
    /// Instances that are alive.
    alive: BTreeSet<String>,
    /// By owner, how many nobody ended but we once the faults were over.
    lines: BTreeMap<String, usize>,
    launches: launches::Launches,
    /// Instances of others that a fleet counts as its own: they bear its tags.
    pub look_alikes: usize,
    /// When a fleet last had no room.
    full_at: Millis,
    /// Runners that we deregistered, and when.
    deregistered: BTreeMap<String, Millis>,
    /// When our latest DELETE of a runner was begun.
    deletes: BTreeMap<String, Millis>,
    /// When our latest call that ends an instance was begun.
    terminations: FxHashMap<String, Millis>,
    /// What the invocations that run have launched.
    in_hand: BTreeMap<TaskId, Vec<String>>,
    /// Instances whose configuration was handed over.
    handed_over: BTreeSet<String>,
    /// Instances whose record was rebuilt.
    rebuilt: BTreeSet<String>,
    /// Registrations and parameters that were complained about.
    reported: BTreeSet<String>,
    /// What was wrong.
    pub violations: Vec<Violation>,
}

impl Checker {
    /// Something is wrong.
    pub fn violated(&mut self, invariant: &'static str, at: Millis, what: String) {
        self.violations.push(Violation { invariant, at, what });
    }

    /// Instances that live.
    pub fn living(&self) -> impl Iterator<Item = &str> {
        self.alive.iter().map(String::as_str)
    }

    /// Those of them on which a job runs.
    pub fn living_with_job(&self) -> impl Iterator<Item = &str> {
        self.living().filter(|id| self.instances.get(*id).is_some_and(|instance| instance.job.is_some()))
    }

    /// Jobs that wait then are looked at again later.
    pub fn held_until(&mut self, at: Millis) {
        self.full_at = self.full_at.max(at);
    }

    /// Whether a job runs on an instance.
    pub(crate) fn runs_a_job(&self, id: &str) -> bool {
        self.instances.get(id).is_some_and(|instance| instance.job.is_some())
    }

    /// An instance booted.
    pub fn booted(&mut self, id: &str, supervised: bool, flaw: Flaw) {
        if let Some(instance) = self.instances.get_mut(id) {
            instance.supervised = supervised;
            instance.flaw = flaw;
        }
    }

    /// An instance's supervisor died.
    pub fn lost_supervisor(&mut self, id: &str) {
        if let Some(instance) = self.instances.get_mut(id) {
            instance.supervised = false;
        }
    }

    /// The record of an instance was made of what EC2 shows.
    pub fn rebuilt(&mut self, id: &str) {
        self.rebuilt.insert(id.to_owned());
    }

    /// An instance's configuration lies in the parameter store.
    pub fn handed_over(&mut self, id: &str) {
        self.handed_over.insert(id.to_owned());
    }

    /// Whether the configuration of the runner of that name was handed over.
    #[must_use]
    pub fn was_handed_over(&self, runner: &str) -> bool {
        instance_of(runner).is_some_and(|id| self.handed_over.contains(id))
    }

    /// Takes in what happened.
    #[expect(clippy::too_many_lines, reason = "one flat match: an arm for each fact")]
    pub fn take_in(&mut self, at: Millis, fact: &Fact, world: &World, coverage: &mut Coverage, tally: &mut Tally) {
        match fact {
            Fact::JobQueued { job_id, .. } => {
                let served = self.coming.take().unwrap_or(true);
                tally.jobs += 1;
                self.jobs.insert(
                    *job_id,
                    JobTruth {
                        queued_at: at,
                        waits_since: Some(at),
                        served,
                        silent: false,
                        assigned_at: None,
                        start_known: None,
                        start_lost: false,
                        reported: false,
                    },
                );
                self.waiting.insert(*job_id);
                self.launches.job_waits();
            }
            Fact::JobAssigned { job_id, runner } => {
                if let Some(job) = self.jobs.get_mut(job_id) {
                    job.assigned_at = Some(at);
                }
                if let Some(instance) = instance_of(runner).and_then(|id| self.instances.get_mut(id)) {
                    instance.used = true;
                }
            }
            Fact::JobRequeued { job_id, .. } => {
                coverage.hit(Counter::Requeued);
                if let Some(job) = self.jobs.get_mut(job_id) {
                    job.waits_since = Some(at);
                }
                if self.waiting.insert(*job_id) {
                    self.launches.job_waits();
                }
            }
            Fact::JobStarted { job_id, runner, .. } => {
                if let Some(job) = self.jobs.get_mut(job_id) {
                    if let Some(since) = job.waits_since.take()
                        && job.served
                    {
                        tally.starts.push(at - since);
                    }
                    if job.silent {
                        coverage.hit(Counter::Rescue);
                    }
                }
                self.stops_waiting(*job_id, at);
                if let Some(instance) = instance_of(runner).and_then(|id| self.instances.get_mut(id)) {
                    instance.job = Some(*job_id);
                    instance.last_job = Some(*job_id);
                }
            }
            Fact::JobCompleted { job_id, .. } => {
                tally.completed += 1;
                self.job_over(*job_id, at);
            }
            Fact::JobCancelled { job_id } => self.job_over(*job_id, at),
            Fact::JobDropped { job_id, why } => {
                tally.dropped += 1;
                // Without a supervisor a job can keep its instance to the hard age, and a fleet of such has no room.
                let had_room = !self.is_full() && at - self.full_at > LEFT_FULL;
                let installation = world.github.job(*job_id).map(|job| job.installation_id);
                let owner = installation.and_then(|id| world.github.installation(id)).map(|own| &own.owner);
                let is_broken = owner.is_some_and(|owner| self.broken.as_ref() == Some(owner));
                if why.contains("too long")
                    && had_room
                    && !is_broken
                    && self.jobs.get(job_id).is_some_and(|job| job.served)
                {
                    self.violated("L1", at, format!("job {job_id} was given up by GitHub: {why}"));
                }
                self.job_over(*job_id, at);
            }
            Fact::JobKilled { job_id, instance_id } => {
                tally.lost += 1;
                self.job_over(*job_id, at);
                self.killed_with(*job_id, instance_id, at, world, tally);
            }
            Fact::JobCancelledByLostRegistration { job_id, runner } => {
                tally.lost += 1;
                coverage.hit(Counter::ListenerCancelled);
                self.job_over(*job_id, at);
                if let Some(deregistered_at) = self.deregistered.get(runner).copied() {
                    self.killed_by_delete(*job_id, runner, deregistered_at, at, tally);
                }
            }
            Fact::InstanceLaunched { instance_id, fleet } => {
                tally.launches += 1;
                self.instance_launched(instance_id, fleet.as_deref(), at, world);
            }
            Fact::RunnerRegistered { runner, .. } => {
                if let Some(instance) = instance_of(runner).and_then(|id| self.instances.get_mut(id)) {
                    instance.registered = true;
                }
            }
            Fact::RunnerConnected { instance_id: Some(id), .. } => {
                if let Some(instance) = self.instances.get_mut(id) {
                    instance.idle_since = at;
                }
            }
            Fact::InstanceEnding { instance_id, ending, active_job } => {
                self.instance_ends(instance_id, ending, *active_job, at, coverage, tally);
                if let (Ending::Api { .. }, Some(job)) = (ending, active_job) {
                    self.ended_in_acquisition(*job, instance_id, at, world);
                }
            }
            Fact::RunnerDeregistered { runner, active_job, .. } => {
                self.deregistered.insert(runner.clone(), at);
                let listens = instance_of(runner).and_then(|id| self.instances.get(id));
                if listens.is_some_and(|i| i.ended_at.is_none() && i.registered && !i.supervised) {
                    coverage.hit(Counter::DeletedListening);
                }
                if active_job.is_some() {
                    coverage.hit(Counter::DeletedWithJob);
                    // Whose instance has ended has no listener that could cancel what it was given and never took.
                    if listens.is_some_and(|instance| instance.supervised && instance.ended_at.is_none()) {
                        self.violated("S2", at, format!("{runner} was deregistered while job {active_job:?} ran"));
                    }
                }
            }
            Fact::ForeignTouched { instance_id, operation } => {
                self.violated("S6", at, format!("{operation} of {instance_id}, which is somebody else's"));
            }
            Fact::DeliveryAnswered { action, job_id: Some(job_id), status, .. } => {
                if matches!(status, Some(200..=299))
                    && action == "in_progress"
                    && let Some(job) = self.jobs.get_mut(job_id)
                {
                    job.start_known.get_or_insert(at);
                }
            }
            Fact::DeliveryLost { action, job_id: Some(job_id) } => {
                if let Some(job) = self.jobs.get_mut(job_id) {
                    job.silent |= action == "queued";
                    job.start_lost |= action == "in_progress";
                }
            }
            Fact::ForgeryAnswered { status, job_id } => {
                if !matches!(status, Some(400..=499 | 502 | 503) | None) {
                    self.violated("S5", at, format!("a forged delivery of job {job_id:?} was answered {status:?}"));
                }
            }
            Fact::InstanceTerminated { instance_id } => {
                if let Some(fleet) = self.instances.get(instance_id).map(|instance| instance.fleet.clone()) {
                    self.note_full(&fleet, at);
                    *self.launches.occupied.entry(fleet).or_default() -= 1;
                }
            }
            Fact::InstanceBooted { .. }
            | Fact::Befell { .. }
            | Fact::TerminationRefused { .. }
            | Fact::RunnerConnected { instance_id: None, .. }
            | Fact::DeregistrationRefused { .. }
            | Fact::RunnerRemoved { .. }
            | Fact::DeliveryAnswered { job_id: None, .. }
            | Fact::DeliveryLost { job_id: None, .. }
            | Fact::TrapSprung { .. } => {}
        }
    }

    fn stops_waiting(&mut self, job_id: u64, at: Millis) {
        if self.waiting.remove(&job_id) {
            self.launches.job_stops_waiting(at);
        }
    }

    fn job_over(&mut self, job_id: u64, at: Millis) {
        self.stops_waiting(job_id, at);
        if let Some(job) = self.jobs.get_mut(&job_id) {
            job.waits_since = None;
        }
        // A job runs on a living instance, of which there are few.
        for id in &self.alive {
            if let Some(instance) = self.instances.get_mut(id).filter(|instance| instance.job == Some(job_id)) {
                instance.job = None;
                instance.idle_since = at;
            }
        }
    }

    fn instance_ends(
        &mut self,
        id: &str,
        ending: &Ending,
        active_job: Option<u64>,
        at: Millis,
        coverage: &mut Coverage,
        tally: &mut Tally,
    ) {
        self.alive.remove(id);
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.ended_at = Some(at);
        *self.launches.alive.entry(instance.fleet.clone()).or_default() -= 1;
        if instance.job.is_none() && active_job.is_none() {
            tally.ends.push(at - instance.idle_since);
        }
        match ending {
            Ending::Spot => coverage.hit(Counter::Spot),
            Ending::PowerOff => {}
            Ending::Api { caller } => {
                if let Some(job) = active_job {
                    let (supervised, what) =
                        (instance.supervised, format!("{caller} terminated {id} while job {job} ran"));
                    if supervised {
                        self.violated("S1", at, what);
                    }
                }
            }
        }
    }

    /// Without a supervisor: a job that was assigned before our DELETE may be lost; and one that was in that very moment
    /// to a runner that GitHub had not shown for half an hour is given to another, for nobody acquired it.
    fn ended_in_acquisition(&mut self, job_id: u64, id: &str, at: Millis, world: &World) {
        if self.instances.get(id).is_none_or(|instance| instance.supervised) {
            return;
        }
        let Some(job) = self.jobs.get(&job_id) else { return };
        let deleted_at =
            self.deregistered.iter().find(|(runner, _)| instance_of(runner) == Some(id)).map(|(_, at)| *at);
        let documented = job.assigned_at.zip(deleted_at).is_some_and(|(assigned, deleted)| assigned <= deleted);
        if !documented && !is_of_that_moment(job, id, at, world) {
            let what = format!("{id} was terminated while job {job_id} ran, which no DELETE came after");
            self.violated("S1", at, what);
        }
    }

    /// A job died with its instance: by us, by EC2, or by itself.
    fn killed_with(&mut self, job_id: u64, id: &str, at: Millis, world: &World, tally: &mut Tally) {
        let by_us = world.truth.facts().iter().rev().take(40).any(|(_, fact)| {
            matches!(fact, Fact::InstanceEnding { instance_id, ending: Ending::Api { .. }, .. } if instance_id == id)
        });
        if by_us {
            tally.killed += 1;
            let Some(job) = self.jobs.get(&job_id) else { return };
            // What is learned while the call is on its way comes too late for it.
            let begun_at = self.terminations.get(id).copied().unwrap_or(at);
            if job.start_known.is_some_and(|known| known < begun_at) {
                self.violated("S1", at, format!("job {job_id} was ended with {id} although its start was known"));
            } else if !job.start_lost && !is_told_late(job, job_id, at, world) && !is_of_that_moment(job, id, at, world)
            {
                let what = format!("job {job_id} was ended with {id}, and no delivery of its start was lost");
                self.violated("S1", at, what);
            }
        }
    }

    /// A call of ours that ends an instance is begun.
    pub(crate) fn termination_begins(&mut self, id: &str, at: Millis) {
        self.terminations.insert(id.to_owned(), at);
    }

    /// A DELETE of ours is begun.
    pub(crate) fn delete_begins(&mut self, runner: &str, at: Millis) {
        self.deletes.insert(runner.to_owned(), at);
    }

    /// A job was cancelled by its listener because we had deleted its registration.
    fn killed_by_delete(&mut self, job_id: u64, runner: &str, deleted_at: Millis, at: Millis, tally: &mut Tally) {
        tally.killed += 1;
        let Some(job) = self.jobs.get(&job_id) else { return };
        let supervised =
            instance_of(runner).and_then(|id| self.instances.get(id)).is_some_and(|instance| instance.supervised);
        // What is learned while the call is on its way comes too late for it.
        let begun_at = self.deletes.get(runner).copied().unwrap_or(deleted_at);
        let known_before = job.start_known.is_some_and(|known| known < begun_at);
        let assigned_before = job.assigned_at.is_some_and(|assigned| assigned <= deleted_at);
        let what = format!("job {job_id} was cancelled: {runner} had been deregistered");
        if supervised {
            self.violated("S2", at, what);
        } else if known_before || !assigned_before {
            self.violated("S2", at, format!("{what}, and that is not the documented loss"));
        }
    }
}

/// The instance in a runner's name.
fn instance_of(runner: &str) -> Option<&str> {
    runner.rfind("i-").and_then(|start| runner.get(start..))
}

/// Whether GitHub shows the runner of an instance.
fn is_shown(id: &str, at: Millis, world: &World) -> bool {
    let runner = world.github.registrations().find(|runner| instance_of(&runner.name) == Some(id));
    runner.is_some_and(|runner| {
        world.github.trouble_of(runner.scope.owner(), at).is_none_or(|(trouble, _)| trouble == Trouble::RunnersReadOnly)
            && world.github.runner(&runner.scope, runner.id).is_some()
    })
}

/// So long we wait for what GitHub may still say of a runner that we deregistered (design section 5).
const QUARANTINE: Millis = 300 * SECOND;

/// Whether the delivery of a job's start takes longer than anybody waits for it: until it comes it is as good as lost, and
/// GitHub's log shows no failure (README, "What it does not promise").
fn is_told_late(job: &JobTruth, job_id: u64, at: Millis, world: &World) -> bool {
    let long_ago = job.assigned_at.is_some_and(|assigned_at| at - assigned_at >= QUARANTINE);
    let on_its_way = || {
        let mut pending = world.github.pending_deliveries();
        pending.any(|delivery| delivery.job_id == Some(job_id) && delivery.action == "in_progress")
    };
    long_ago && (job.start_known.is_some() || on_its_way())
}

/// The longest that a call takes to have its effect.
const CALL: Millis = 25 * SECOND;

/// Whether a job was given to a runner that GitHub hides, and that we did not deregister, while the call that ends its
/// instance was on its way: what is told of the start comes too late (README, "What it does not promise").
fn is_of_that_moment(job: &JobTruth, id: &str, at: Millis, world: &World) -> bool {
    let registered = world.github.registrations().any(|runner| instance_of(&runner.name) == Some(id));
    job.assigned_at.is_some_and(|assigned_at| at - assigned_at < CALL) && registered && !is_shown(id, at, world)
}
