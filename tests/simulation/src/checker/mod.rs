//! What must hold, judged from what really happened.
//!
//! What must be written before or after a step (S3, S8, S10, the intents of L3, the leases of L8), which jobs a launch is
//! for, and whether an instance's record was rebuilt (L2), is looked up in the ledger, and an instance's last sign (L2) in
//! its table; whether an act was right and what became of it is judged by the world's facts. A violation bears the name of
//! its invariant. On an instance without a supervisor a job may be lost to a DELETE that nothing could have known better:
//! such a loss is counted, and is a violation where it is not the documented one.

mod ends;
mod launches;
mod losses;
mod steps;
mod truth;

use std::collections::{BTreeMap, BTreeSet};

use runner_scaler_world::truth::{Ending, Fact};
use runner_scaler_world::world::Flaw;
use runner_scaler_world::{Millis, World};
use rustc_hash::{FxHashMap, FxHashSet};

use self::truth::{Act, takes};
pub use self::truth::{InstanceTruth, JobTruth};

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

/// What is known of the truth, and what was wrong.
#[derive(Default)]
pub struct Checker {
    /// Caps by fleet.
    pub caps: BTreeMap<String, usize>,
    /// Idle runners that a fleet keeps.
    pub pool: usize,
    /// The owner whose GitHub stays broken in the quiet hours.
    pub broken: Option<String>,
    /// The instance that no call ends, nor the registration of its runner, in the quiet hours.
    pub resists: Option<String>,
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
    /// Since when there are no faults.
    pub quiet_since: Option<Millis>,
    /// When a fleet last had no room.
    full_at: BTreeMap<String, Millis>,
    /// When a search for jobs was last cut short.
    pub(crate) search_cut_at: Millis,
    /// Until when nobody looks at jobs that wait, whatever their fleet.
    held_until: Millis,
    /// Runners that we deregistered, and when.
    deregistered: BTreeMap<String, Millis>,
    /// Our latest DELETE of a runner.
    deletes: BTreeMap<String, Act>,
    /// Our latest call that ends an instance.
    terminations: FxHashMap<String, Act>,
    /// When a pass that came to its end, and wrote what it had read, was last shown a runner busy.
    busy_shown_at: FxHashMap<u64, Millis>,
    /// Registrations that are none of ours.
    pub(crate) runners_of_others: BTreeSet<u64>,
    /// Runners that GitHub ever showed busy, to whomever of ours.
    pub(crate) ever_busy: FxHashSet<u64>,
    /// Instances whose last sign says that there is a worker, and when it was written.
    workers: BTreeMap<String, Millis>,
    /// Jobs whose worker came to its end and could not tell GitHub.
    pub(crate) unreported: BTreeSet<u64>,
    /// What the invocations that run have launched.
    in_hand: BTreeMap<TaskId, Vec<String>>,
    /// Instances whose configuration was handed over, and when.
    handed_over: BTreeMap<String, Millis>,
    /// Instances whose record was rebuilt.
    rebuilt: BTreeSet<String>,
    /// Instances that only their hard age is going to end.
    left_to_hard_age: BTreeSet<String>,
    /// Registrations and parameters that were complained about.
    pub(crate) reported: BTreeSet<String>,
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
        self.held_until = self.held_until.max(at);
    }

    /// When the last job that ran on an instance was over, where it is.
    fn last_job_over_at(&self, instance: &InstanceTruth) -> Option<Millis> {
        self.jobs.get(&instance.last_job?)?.over_at
    }

    /// Whether a job runs on an instance.
    pub(crate) fn runs_a_job(&self, id: &str) -> bool {
        self.instances.get(id).is_some_and(|instance| instance.job.is_some())
    }

    /// An instance booted.
    pub fn booted(&mut self, id: &str, supervised: bool, flaw: Flaw, at: Millis) {
        if let Some(instance) = self.instances.get_mut(id) {
            instance.flaw = flaw;
            instance.unheard_until = match (supervised, instance.unheard_until) {
                (false, _) => Millis::MAX,
                (true, 0) => 0,
                // It was stopped, and begins to speak anew.
                (true, _) => at,
            };
        }
    }

    /// Nobody hears an instance's supervisor until then; [`Millis::MAX`] where it is dead.
    pub fn unheard_until(&mut self, id: &str, until: Millis) {
        if let Some(instance) = self.instances.get_mut(id) {
            instance.unheard_until = instance.unheard_until.max(until);
        }
    }

    /// The sign of an instance was written: by its supervisor, or by somebody in its name.
    pub fn signed(&mut self, id: &str, has_worker: bool, at: Millis) {
        if has_worker {
            self.workers.entry(id.to_owned()).or_insert(at);
        } else {
            self.workers.remove(id);
        }
    }

    /// The record of an instance was made of what EC2 shows.
    pub fn rebuilt(&mut self, id: &str) {
        self.rebuilt.insert(id.to_owned());
    }

    /// An instance's configuration lies in the parameter store.
    pub fn handed_over(&mut self, id: &str, at: Millis) {
        self.handed_over.entry(id.to_owned()).or_insert(at);
    }

    /// Whether the configuration of the runner of that name was handed over.
    #[must_use]
    pub fn was_handed_over(&self, runner: &str) -> bool {
        instance_of(runner).is_some_and(|id| self.handed_over.contains_key(id))
    }

    /// Takes in what happened.
    #[expect(clippy::too_many_lines, reason = "one flat match: an arm for each fact")]
    pub fn take_in(&mut self, at: Millis, fact: &Fact, world: &World, coverage: &mut Coverage, tally: &mut Tally) {
        match fact {
            Fact::JobQueued { job_id, .. } => {
                let labels = world.github.job(*job_id).map(|job| job.labels.as_slice()).unwrap_or_default();
                let fleet = self.caps.keys().find(|fleet| takes(fleet, labels)).cloned();
                tally.jobs += 1;
                self.jobs.insert(
                    *job_id,
                    JobTruth {
                        queued_at: at,
                        waits_since: Some(at),
                        fleet,
                        silent: false,
                        assigned_at: None,
                        start_known: None,
                        heard_of: false,
                        start_lost: false,
                        over_at: None,
                        reported: false,
                    },
                );
                self.waiting.insert(*job_id);
                self.launch_wanted(*job_id);
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
                    self.launch_wanted(*job_id);
                }
            }
            Fact::JobStarted { job_id, runner, .. } => {
                if let Some(job) = self.jobs.get_mut(job_id) {
                    if let Some(since) = job.waits_since.take()
                        && job.fleet.is_some()
                    {
                        tally.starts.push(at - since);
                    }
                    if job.silent && self.launches.are_for(*job_id) {
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
                let fleet = self.jobs.get(job_id).and_then(|job| job.fleet.as_deref());
                let had_room =
                    fleet.is_some_and(|fleet| !self.has_no_room(fleet) && at - self.had_no_room_at(fleet) > LEFT_FULL);
                let installation = world.github.job(*job_id).map(|job| job.installation_id);
                let owner = installation.and_then(|id| world.github.installation(id)).map(|own| &own.owner);
                let is_broken = owner.is_some_and(|owner| self.broken.as_ref() == Some(owner));
                let waited = why.contains("too long") && had_room;
                if (waited || self.had_a_sound_runner(*job_id, world)) && !is_broken {
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
            Fact::RunnerRegistered { runner, runner_id } => {
                if let Some(instance) = instance_of(runner).and_then(|id| self.instances.get_mut(id)) {
                    instance.runner_id = Some(*runner_id);
                }
            }
            Fact::RunnerConnected { instance_id: Some(id), .. } => {
                if let Some(instance) = self.instances.get_mut(id) {
                    instance.idle_since = at;
                    instance.connected_at.get_or_insert(at);
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
                let own = instance_of(runner).and_then(|id| self.instances.get(id));
                // Whose instance has ended has no listener that could cancel what it was given and never took.
                if let Some(own) = own.filter(|own| own.ended_at.is_none()) {
                    let (heard, connected) = (own.is_heard(at), own.runner_id.is_some());
                    if !heard && connected {
                        coverage.hit(Counter::DeletedListening);
                    }
                    if heard && active_job.is_some() {
                        self.violated("S2", at, format!("{runner} was deregistered while job {active_job:?} ran"));
                    }
                    if let Some(job_id) = active_job {
                        self.deregistered_with(*job_id, runner, at, world);
                    }
                }
                if active_job.is_some() {
                    coverage.hit(Counter::DeletedWithJob);
                }
            }
            Fact::ForeignTouched { instance_id, operation } => {
                self.violated("S6", at, format!("{operation} of {instance_id}, which is somebody else's"));
            }
            Fact::DeliveryAnswered { action, job_id: Some(job_id), status, .. } => {
                if matches!(status, Some(200..=299))
                    && let Some(job) = self.jobs.get_mut(job_id)
                {
                    if action == "waiting" {
                        coverage.hit(Counter::WaitsNoMore);
                    }
                    job.heard_of |= matches!(action.as_str(), "in_progress" | "completed");
                    if action == "in_progress" {
                        job.start_known.get_or_insert(at);
                    }
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

    /// Whether a job was given, since there are no faults, to an instance with which nothing is wrong.
    fn had_a_sound_runner(&self, job_id: u64, world: &World) -> bool {
        let given_at = self.jobs.get(&job_id).and_then(|job| job.assigned_at);
        let is_quiet = self.quiet_since.zip(given_at).is_some_and(|(quiet_since, at)| at >= quiet_since);
        let runner = world.github.job(job_id).and_then(|job| job.runner.as_ref());
        let instance = runner.and_then(|(_, name, _)| self.instances.get(instance_of(name)?));
        is_quiet
            && instance.is_some_and(|own| {
                own.ended_at.is_none() && own.flaw == Flaw::None && given_at.is_some_and(|at| own.is_heard(at))
            })
    }

    /// Whether a fleet takes a job.
    fn is_ours(&self, job_id: u64) -> bool {
        self.jobs.get(&job_id).is_some_and(|job| job.fleet.is_some())
    }

    /// A job waits: for a launch, where a fleet takes it.
    fn launch_wanted(&mut self, job_id: u64) {
        if self.is_ours(job_id) {
            self.launches.job_waits();
        }
    }

    fn stops_waiting(&mut self, job_id: u64, at: Millis) {
        if self.waiting.remove(&job_id) && self.is_ours(job_id) {
            self.launches.job_stops_waiting(at);
        }
    }

    fn job_over(&mut self, job_id: u64, at: Millis) {
        self.stops_waiting(job_id, at);
        if let Some(job) = self.jobs.get_mut(&job_id) {
            job.waits_since = None;
            job.over_at = Some(at);
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
        instance.ending = Some(ending.clone());
        *self.launches.alive.entry(instance.fleet.clone()).or_default() -= 1;
        if instance.job.is_none() && active_job.is_none() {
            tally.ends.push(at - instance.idle_since);
        }
        match ending {
            Ending::Spot => coverage.hit(Counter::Spot),
            Ending::PowerOff => {}
            Ending::Api { caller } => {
                if let Some(job) = active_job {
                    let (heard, what) =
                        (instance.is_heard(at), format!("{caller} terminated {id} while job {job} ran"));
                    if heard {
                        self.violated("S1", at, what);
                    }
                }
            }
        }
    }
}

/// The instance in a runner's name.
fn instance_of(runner: &str) -> Option<&str> {
    runner.rfind("i-").and_then(|start| runner.get(start..))
}

/// So long we wait for what GitHub may still say of a runner that we deregistered (design section 5).
const QUARANTINE: Millis = 300 * SECOND;
