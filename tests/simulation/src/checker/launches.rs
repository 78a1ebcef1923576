//! S4: nothing is launched twice, too often, or over a cap.

use std::collections::{BTreeMap, VecDeque};

use runner_scaler_core::ids::InstanceId;
use runner_scaler_core::ledger::LaunchRecord;
use runner_scaler_core::ports::{Key, Kind, LaunchRequest};
use runner_scaler_world::github::OwnerKind;
use runner_scaler_world::world::Flaw;
use runner_scaler_world::{Millis, World};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{Checker, InstanceTruth};
use crate::lambda::{Function, TaskId};
use crate::sim::Sim;
use crate::swarm::{HOUR, MINUTE};

/// The storm guard's window.
const WINDOW: Millis = 10 * MINUTE;
/// Launches that it allows besides two for each job.
const SLACK: usize = 5;
/// So long a launch counts as in flight: the launch lease.
const IN_FLIGHT: Millis = 5 * MINUTE;

/// What was launched, and what wanted it.
#[derive(Default)]
pub(super) struct Launches {
    /// Jobs by launch.
    jobs_of: FxHashMap<String, Vec<u64>>,
    /// Launches by job.
    of_job: FxHashMap<u64, Vec<String>>,
    /// Instances by launch.
    instances_of: FxHashMap<String, Vec<String>>,
    /// When a launch was decided.
    decided_at: FxHashMap<String, Millis>,
    /// Client tokens that EC2 knows.
    tokens: FxHashSet<String>,
    /// Living instances by fleet.
    pub(super) alive: BTreeMap<String, usize>,
    /// The same with those that have not ended yet: they take a place too.
    pub(super) occupied: BTreeMap<String, usize>,
    /// Instances launched in the window.
    recent: VecDeque<Millis>,
    /// Jobs that wait.
    waiting: usize,
    /// When jobs stopped to wait, in the window.
    served: VecDeque<Millis>,
}

impl Launches {
    pub(super) fn job_waits(&mut self) {
        self.waiting += 1;
    }

    pub(super) fn job_stops_waiting(&mut self, at: Millis) {
        self.waiting = self.waiting.saturating_sub(1);
        self.served.push_back(at);
    }

    /// Whether anything was launched for a job.
    pub(super) fn are_for(&self, job_id: u64) -> bool {
        self.of_job.contains_key(&job_id)
    }

    fn wanted(&mut self, now: Millis) -> usize {
        while self.served.front().is_some_and(|at| *at < now - WINDOW) {
            self.served.pop_front();
        }
        self.waiting + self.served.len()
    }

    fn launched(&mut self, now: Millis) -> usize {
        self.recent.push_back(now);
        while self.recent.front().is_some_and(|at| *at < now - WINDOW) {
            self.recent.pop_front();
        }
        self.recent.len()
    }
}

impl Checker {
    /// Whether EC2 knows a client token.
    #[must_use]
    pub fn knows_token(&self, token: &str) -> bool {
        self.launches.tokens.contains(token)
    }

    /// EC2 launched an instance.
    pub(super) fn instance_launched(&mut self, id: &str, fleet: Option<&str>, at: Millis, world: &World) {
        let tag = |key: &str| world.ec2.instance(id).and_then(|i| i.tags.get(key)).cloned().unwrap_or_default();
        let fleet = fleet.unwrap_or_default().to_owned();
        let launch = tag("ghr:launch");
        let alive = self.launches.alive.entry(fleet.clone()).or_default();
        *alive += 1;
        let alive = *alive;
        *self.launches.occupied.entry(fleet.clone()).or_default() += 1;
        self.note_full(&fleet, at);
        if let Some(cap) = self.caps.get(&fleet).copied().filter(|cap| alive > *cap) {
            self.violated("S4", at, format!("fleet {fleet} has {alive} living instances, {cap} at most"));
        }
        let (launched, wanted) = (self.launches.launched(at), self.launches.wanted(at));
        // Runners wait in every other hour, and not after the schedule was taken away; a pass that began before such a
        // change, or a process that did, fills the pool as it was. A launch that was left in flight is repeated however
        // late, for EC2 may have made its instances: it counts by when it was decided.
        let decided_at = self.launches.decided_at.get(&launch).copied().unwrap_or(at);
        let is_kept_in = |then: Millis| (then / HOUR) % 2 == 0;
        let taken_away = self.pool_ended_at.is_some_and(|ended_at| decided_at - ended_at > WINDOW);
        let kept = is_kept_in(at) || is_kept_in(at - WINDOW) || is_kept_in(decided_at);
        let pool = if !taken_away && kept { self.pool } else { 0 };
        if launched > 2 * (wanted + pool) + SLACK {
            self.violated("S4", at, format!("{launched} launches in 10 min while {wanted} jobs wanted a runner"));
        }
        self.alive.insert(id.to_owned());
        self.instances.insert(
            id.to_owned(),
            InstanceTruth {
                fleet,
                owner: tag("ghr:owner"),
                launch,
                launched_at: at,
                runner_id: None,
                used: false,
                last_job: None,
                job: None,
                idle_since: at,
                ended_at: None,
                unheard_until: 0,
                connected_at: None,
                ending: None,
                flaw: Flaw::None,
                reported: false,
            },
        );
    }
}

impl Sim {
    /// EC2 is about to launch: the jobs of that launch must not have another one that is in flight.
    pub(crate) fn before_launch(&mut self, task: TaskId, request: &LaunchRequest, replayed: bool) {
        let launch = request.tags.get("ghr:launch").cloned().unwrap_or_default();
        let key = Key { kind: Kind::Launch, id: launch.clone() };
        if self.aws.ledger.item(&key).is_none() {
            let what = format!("launch {launch} asks EC2 for instances, and the ledger knows nothing of it");
            self.checker.violated("S10", self.now, what);
        }
        let record = self.aws.ledger.item(&key).and_then(|item| item.body.parse::<LaunchRecord>().ok());
        // What is learned after it was decided, on what its batch had read, comes too late: whoever goes on with it makes
        // the very same call, and the next epoch's for the same jobs.
        let at = record.as_ref().map_or(self.now, |launch| launch.at.0).min(self.began_at(task));
        let decided_at = *self.checker.launches.decided_at.entry(launch.clone()).or_insert(at);
        let jobs: Vec<u64> = record.map(|launch| launch.job_ids.iter().map(|id| id.0).collect()).unwrap_or_default();
        let now = self.now;
        if !replayed {
            self.check_wanted(task, request, &launch, &jobs);
            let may_retire = self.may_retire();
            let drain = |id: &str| self.world.ec2.instance(id).is_some_and(|own| own.tags.contains_key("ghr:drain"));
            let leaves = |id: &str| may_retire && drain(id);
            for job in &jobs {
                if let Some(instance) = self.checker.in_flight(*job, &launch, now, decided_at, leaves) {
                    let what = format!("launch {launch} for job {job} while {instance} is in flight for it");
                    self.checker.violated("S4", now, what);
                }
            }
        }
        let launches = &mut self.checker.launches;
        for job in &jobs {
            let of_job = launches.of_job.entry(*job).or_default();
            if !of_job.contains(&launch) {
                of_job.push(launch.clone());
            }
        }
        launches.jobs_of.insert(launch, jobs);
        launches.tokens.insert(request.token.as_str().to_owned());
    }

    /// S4 and S11: a launch is for jobs that its fleet takes, of the owner whose runners its instances become, or for the
    /// idle runners that a schedule keeps.
    fn check_wanted(&mut self, task: TaskId, request: &LaunchRequest, launch: &str, jobs: &[u64]) {
        let tag = |key: &str| request.tags.get(key).map(String::as_str).unwrap_or_default();
        let (fleet, owner) = (tag("ghr:fleet").to_owned(), tag("ghr:owner").to_owned());
        for id in jobs {
            let takes = self.checker.jobs.get(id).is_some_and(|job| job.fleet.as_deref() == Some(fleet.as_str()));
            let scope = self.scope_of_job(*id);
            if !takes || scope.as_deref() != Some(owner.as_str()) {
                let what = format!("launch {launch} of fleet {fleet} for {owner}, and job {id} of {scope:?}");
                self.checker.violated("S11", self.now, what);
            }
        }
        let function = self.invocations.get(task.place).and_then(Option::as_ref).map(|own| own.function);
        let for_the_pool = self.checker.pool > 0 && function == Some(Function::DemandReconciler);
        if jobs.is_empty() && !for_the_pool {
            self.checker.violated("S4", self.now, format!("launch {launch} of fleet {fleet} is for nobody"));
        }
    }

    /// Where a runner for a job registers: with its organisation, or with its repository where a user owns that.
    fn scope_of_job(&self, id: u64) -> Option<String> {
        let job = self.world.github.job(id)?;
        let installation = self.world.github.installation(job.installation_id)?;
        match installation.kind {
            OwnerKind::Organization => Some(installation.owner.clone()),
            OwnerKind::User => installation
                .repositories
                .iter()
                .find(|own| own.id == job.repository_id)
                .map(|own| own.full_name.clone()),
        }
    }

    /// EC2 launched these for an invocation.
    pub(crate) fn launched(&mut self, task: TaskId, request: &LaunchRequest, ids: &[InstanceId]) {
        let launch = request.tags.get("ghr:launch").cloned().unwrap_or_default();
        let ids = || ids.iter().map(|id| id.as_str().to_owned());
        self.checker.launches.instances_of.entry(launch).or_default().extend(ids());
        self.checker.in_hand.entry(task).or_default().extend(ids());
    }
}

impl Checker {
    /// An invocation has ended, whatever it had in hand.
    pub fn invocation_ended(&mut self, task: TaskId) {
        self.in_hand.remove(&task);
    }

    /// An instance of another launch of this job that is on its way to take it.
    fn in_flight(
        &self,
        job: u64,
        but: &str,
        now: Millis,
        decided_at: Millis,
        leaves: impl Fn(&str) -> bool,
    ) -> Option<&str> {
        // A launch of several jobs serves as many as it has instances: others may have taken them.
        let launches = self.launches.of_job.get(&job)?.iter().filter(|launch| launch.as_str() != but);
        let instances = launches.filter_map(|launch| {
            let jobs = self.launches.jobs_of.get(launch)?;
            let ids = self.launches.instances_of.get(launch)?;
            // One that runs elsewhere counts until we were told so: until then this launch has to be kept for it. Who
            // is told while the call is on its way is told too late.
            let told =
                |job: &u64| self.jobs.get(job).is_some_and(|job| job.start_known.is_some_and(|at| at < decided_at));
            let waiting = jobs.iter().filter(|job| self.waiting.contains(job) || !told(job)).count();
            let free: Vec<&String> =
                ids.iter().filter(|id| self.is_on_its_way(id, now, decided_at) && !leaves(id)).collect();
            (free.len() >= waiting).then(|| free.first().map(|id| id.as_str())).flatten()
        });
        instances.into_iter().next_back()
    }

    /// Whether another job ran on an instance that was launched for this one.
    pub(super) fn runner_was_taken(&self, job: u64) -> bool {
        let launches = self.launches.of_job.get(&job).into_iter().flatten();
        let mut instances = launches.filter_map(|launch| self.launches.instances_of.get(launch)).flatten();
        instances.any(|id| self.instances.get(id).is_some_and(|own| own.last_job.is_some_and(|last| last != job)))
    }

    /// Notes when a fleet has no room: jobs that wait then wait for room.
    pub(super) fn note_full(&mut self, fleet: &str, at: Millis) {
        if self.has_no_room(fleet) {
            self.full_at.insert(fleet.to_owned(), at);
        }
    }

    /// When jobs of a fleet last could not be launched for.
    pub(super) fn had_no_room_at(&self, fleet: &str) -> Millis {
        self.full_at.get(fleet).copied().unwrap_or(0).max(self.held_until)
    }

    /// Whether a fleet is at its cap: its jobs wait for room.
    pub(super) fn has_no_room(&self, fleet: &str) -> bool {
        let occupied = self.launches.occupied.get(fleet).copied().unwrap_or(0);
        self.caps.get(fleet).is_some_and(|cap| occupied >= *cap)
    }

    fn is_on_its_way(&self, id: &str, now: Millis, decided_at: Millis) -> bool {
        self.instances.get(id).is_some_and(|instance| {
            // One that was registered and whose configuration was not handed over gets none any more, and one that the
            // invocation that launched it did not register is nobody's: their launches failed.
            // One that got it after this was decided, of a launch that was left behind, could not be counted on.
            let equipped = self.handed_over.get(id).is_some_and(|at| *at <= decided_at);
            let in_hand = instance.runner_id.is_none() && self.in_hand.values().flatten().any(|own| own == id);
            instance.ended_at.is_none()
                && (equipped || in_hand)
                && !instance.used
                && instance.flaw == Flaw::None
                && now - instance.launched_at < IN_FLIGHT
        })
    }
}
