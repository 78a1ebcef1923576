//! What people, strangers and AWS do besides: hostile vital signs, changes of the configuration, limits that are met.
//!
//! A rate is never here: all of them are in [`crate::swarm`].

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, Hash};
use std::rc::Rc;
use std::time::Duration;

use runner_scaler_core::config::{Fleet, Mode, Policy};
use runner_scaler_core::error::{Class, PortError};
use runner_scaler_core::ids::InstanceId;
use runner_scaler_core::ports::{ApiBudget, VitalSign, Worker};
use runner_scaler_core::time::Timestamp;
use runner_scaler_world::Millis;
use runner_scaler_world::github::{JobState, Trouble};
use rustc_hash::{FxHashMap, FxHasher};

use crate::agenda::Event;
use crate::coverage::Counter;
use crate::lambda::{Function, Start, Work};
use crate::ports::Op;
use crate::sim::Sim;
use crate::swarm::{HOUR, MINUTE, SECOND};

/// A warm process knows nothing of a change for this long at most.
const WARM: Millis = 5 * MINUTE;
/// The fleets' boot grace.
const BOOT_GRACE: Millis = 15 * MINUTE;
/// `EventBridge` tries a throttled invocation again within this.
const TRIED_AGAIN: (Millis, Millis) = (MINUTE, 3 * MINUTE);
/// The event source mapping tries a throttled batch again within this: less than its messages are hidden for.
const BATCH_TRIED_WITHIN: Millis = 4 * MINUTE;
/// How long a function does not run: until somebody sees it and mends it.
const DOWN: (Millis, Millis) = (20 * MINUTE, 6 * HOUR);
/// Calls about an owner resume this long after a limit was lifted: each is searched every 5 min, passes take 4.
const RESUMES_WITHIN: Millis = 20 * MINUTE;

/// Stands for the owner of calls that the App makes in its own name.
pub(crate) const THE_APP: &str = "the App";
/// Changes that GitHub takes in a minute (facts/world.md G19).
const CHANGES_A_MINUTE: usize = 80;

/// What is going on besides.
#[derive(Default)]
pub struct Mischief {
    /// The configuration before the last change, and when that was.
    before: Option<(Millis, Rc<Policy>)>,
    /// Until when the deployment observes or retires.
    mode_until: Option<Millis>,
    /// Until when EC2 refuses launches, and how.
    refuses: Option<(Millis, Class)>,
    /// What the environment of an hour was last answered, by question: the same again is a 304, which costs nothing.
    answered: FxHashMap<u64, (Millis, u64)>,
    /// Requests of the hour by owner: the hour, and how many.
    spent: BTreeMap<String, (Millis, u32)>,
    /// Owners whose calls were refused by a limit, and until when: nobody asked since.
    limited: BTreeMap<String, Millis>,
    /// When changes were asked for, by owner, in the last minute; and until when GitHub answers none of the owner's calls.
    changes: BTreeMap<String, (VecDeque<Millis>, Millis)>,
    /// Since when and until when nobody can ask about an owner's runners.
    silent: BTreeMap<String, (Millis, Millis)>,
    /// Since when and until when functions last did not run.
    down: BTreeMap<Function, (Millis, Millis)>,
    /// Messages that the event source mapping holds, and tries to bring to a function.
    pub(crate) held: Vec<u64>,
    /// Whether the batch that begins now was held.
    lets_in: bool,
}

impl Sim {
    /// A minute of it.
    pub(crate) fn make_mischief(&mut self) {
        if self.world.tape.chance(self.plan.cancellation_of_all) {
            self.cancel_all_that_wait();
        }
        self.begin_outages();
        self.break_a_function();
        self.meddle();
        self.deploy();
        if self.world.tape.chance(self.plan.hostile_sign) {
            self.write_hostile_sign();
        }
        if self.mischief.refuses.is_some_and(|(until, _)| until <= self.now) {
            self.mischief.refuses = None;
        }
        if self.mischief.refuses.is_none() && self.world.tape.chance(self.plan.ec2_refuses) {
            let class = if self.world.tape.draw(1) == 1 { Class::Misconfigured } else { Class::Rejected };
            let until = self.now + self.world.tape.between(2 * MINUTE, HOUR);
            self.mischief.refuses = Some((until, class));
            self.timeline.note(self.now, || format!("EC2 refuses launches until {until}: {class:?}"));
        }
        if self.world.tape.chance(self.plan.template_change) {
            let fleet = usize::try_from(self.world.tape.draw(self.policy.fleets.len() as u64 - 1)).unwrap_or(0);
            let also = self.world.tape.draw(3);
            self.configure(|policy| policy.fleets.get_mut(fleet).into_iter().for_each(|fleet| change(fleet, also)));
        }
        match self.mischief.mode_until {
            Some(until) if until <= self.now => {
                self.mischief.mode_until = None;
                self.configure(|policy| policy.mode = Mode::Enforce);
            }
            None if self.world.tape.chance(self.plan.mode) => {
                let mode = if self.world.tape.draw(1) == 1 { Mode::Retire } else { Mode::Observe };
                self.coverage.hit(if mode == Mode::Retire { Counter::Retires } else { Counter::Observes });
                self.mischief.mode_until = Some(self.now + self.world.tape.between(10 * MINUTE, 2 * HOUR));
                self.configure(|policy| policy.mode = mode);
            }
            Some(_) | None => {}
        }
    }

    /// It ends, with what a person would set right: the schedule of idle runners too, so that all of them are surplus.
    pub(crate) fn end_mischief(&mut self) {
        self.mischief.refuses = None;
        self.mischief.mode_until = None;
        self.mischief.down.values_mut().for_each(|(_, until)| *until = self.now.min(*until));
        self.configure(|policy| {
            policy.mode = Mode::Enforce;
            policy.fleets.iter_mut().for_each(|fleet| fleet.idle.clear());
        });
        self.checker.pool_ended_at = Some(self.now);
    }

    fn configure(&mut self, change: impl FnOnce(&mut Policy)) {
        let mut policy = (*self.policy).clone();
        change(&mut policy);
        let mode = policy.mode;
        self.timeline.note(self.now, || format!("the configuration is changed: {mode:?}"));
        let before = std::mem::replace(&mut self.policy, Rc::new(policy));
        if before.mode == Mode::Retire {
            // Jobs of a deployment that retires are looked at again after the time of a boot.
            self.checker.held_until(self.now + BOOT_GRACE);
        }
        self.mischief.before = Some((self.now, before));
    }

    /// The configuration that an invocation has: a warm process holds an older one for a while.
    pub(crate) fn policy_of_process(&mut self) -> Rc<Policy> {
        if let Some((at, before)) = &self.mischief.before
            && self.now - at < WARM
            && self.world.tape.chance(self.plan.stale_cache)
        {
            self.coverage.hit(Counter::StaleConfiguration);
            return Rc::clone(before);
        }
        Rc::clone(&self.policy)
    }

    /// Whether some process may believe that all is to be retired: what waits for a job is asked to drain then, and
    /// whoever knows nothing of that launches for the job again.
    pub(crate) fn may_retire(&self) -> bool {
        let before = self.mischief.before.as_ref().filter(|(at, _)| self.now - at < WARM + MINUTE);
        self.policy.mode == Mode::Retire || before.is_some_and(|(_, policy)| policy.mode == Mode::Retire)
    }

    /// A run is cancelled: every job of it that waits.
    fn cancel_all_that_wait(&mut self) {
        let waits = |job: &&runner_scaler_world::github::Job| matches!(job.state, JobState::Queued { .. });
        let waiting: Vec<u64> = self.world.github.open_jobs().filter(waits).map(|job| job.id).collect();
        for id in waiting {
            self.touch(|world| {
                let (github, mut cx) = world.github();
                github.cancel_queued_job(&mut cx, id);
            });
        }
    }

    /// A job that runs writes what it likes into the table of vital signs (S9). IAM lets it write its own instance's
    /// item only; here it may write any.
    fn write_hostile_sign(&mut self) {
        let running: Vec<String> = self.checker.living_with_job().map(str::to_owned).collect();
        let living: Vec<String> = self.checker.living().map(str::to_owned).collect();
        let tape = &mut self.world.tape;
        let Some(last) = (running.len() as u64).checked_sub(1) else { return };
        let own = usize::try_from(tape.draw(last)).unwrap_or(0);
        let other = usize::try_from(tape.draw(living.len() as u64 - 1)).unwrap_or(0);
        let id = if tape.draw(2) == 0 { running[own].clone() } else { living[other].clone() };
        let now = self.now;
        let ahead = tape.between(MINUTE, 30 * 24 * HOUR);
        let sign = match tape.draw(4) {
            0 => VitalSign { beat_at: Timestamp(0), worker: Worker::None },
            1 => VitalSign { beat_at: Timestamp(now - HOUR), worker: Worker::None },
            2 => VitalSign { beat_at: Timestamp(now + ahead), worker: Worker::None },
            3 => VitalSign { beat_at: Timestamp(now + ahead), worker: Worker::Running },
            _ => VitalSign { beat_at: Timestamp(now), worker: Worker::Unrecognised },
        };
        self.coverage.hit(Counter::HostileSign);
        self.timeline.note(now, || format!("a job writes the vital sign of {id}: {sign:?}"));
        self.checker.forged_signs.insert(id.clone(), self.now);
        self.checker.signed(&id, sign.worker != Worker::None, now);
        self.aws.vital_signs.insert(InstanceId::new(id), sign);
    }

    /// One of the functions does not run any more, whoever calls it.
    fn break_a_function(&mut self) {
        if !self.world.tape.chance(self.plan.down) {
            return;
        }
        let place = usize::try_from(self.world.tape.draw(Function::ALL.len() as u64 - 1)).unwrap_or(0);
        let until = (self.now + self.world.tape.between(DOWN.0, DOWN.1)).min(self.quiet_at);
        let (function, counter) = Function::ALL[place];
        self.coverage.hit(counter);
        self.timeline.note(self.now, || format!("{} does not run until {until}", function.name()));
        let (since, down_until) = self.mischief.down.entry(function).or_insert((self.now, until));
        if *down_until < self.now {
            *since = self.now;
        }
        *down_until = until.max(*down_until);
    }

    /// Whether a function did not run in some of the time in between.
    pub(crate) fn was_down(&self, function: Function, from: Millis, to: Millis) -> bool {
        self.mischief.down.get(&function).is_some_and(|(since, until)| *since < to && from < *until)
    }

    /// Whether an invocation never begins since its function does not run: AWS gives a pass up after two more tries, a
    /// message is hidden until its visibility ends, GitHub gets a bad gateway.
    pub(crate) fn is_down(&mut self, function: Function, work: &Work) -> bool {
        if self.mischief.down.get(&function).is_none_or(|(_, until)| *until <= self.now) {
            return false;
        }
        match work {
            Work::Pass => {}
            Work::Batch(_) => self.mischief.lets_in = false,
            Work::Delivery(delivery) => self.turn_away(*delivery, 502),
        }
        true
    }

    fn turn_away(&mut self, delivery: u64, status: u16) {
        self.workload.outgoing.remove(&delivery);
        self.touch(|world| {
            let (github, mut cx) = world.github();
            github.delivery_answered(&mut cx, delivery, Some(status), SECOND);
        });
    }

    /// Whether an invocation finds the reserved concurrency used up; what it was about then comes back as AWS and
    /// GitHub bring it back.
    pub(crate) fn is_throttled(&mut self, function: Function, work: &Work) -> bool {
        // A batch that was held is tried within the time that its messages are hidden for, and not held again.
        if std::mem::take(&mut self.mischief.lets_in) || !self.world.tape.chance(self.plan.throttled) {
            return false;
        }
        self.coverage.hit(Counter::Throttled);
        self.timeline.note(self.now, || format!("{} is throttled", function.name()));
        match work {
            Work::Pass => {
                let at = self.now + self.world.tape.between(TRIED_AGAIN.0, TRIED_AGAIN.1);
                self.agenda.note(at, Event::InvokeAgain(function));
            }
            // Received and hidden: tried again, or given up until its visibility ends (facts/world.md A3).
            Work::Batch(numbers) => {
                if self.world.tape.draw(1) == 1 {
                    let at = self.now + self.world.tape.between(SECOND, BATCH_TRIED_WITHIN);
                    self.mischief.held.extend(numbers);
                    self.agenda.note(at, Event::InvokeBatch(numbers.clone()));
                }
            }
            Work::Delivery(delivery) => self.turn_away(*delivery, 503),
        }
        true
    }

    /// A throttled batch gets its invocation.
    pub(crate) fn try_batch_again(&mut self, numbers: Vec<u64>) {
        self.mischief.held.retain(|held| !numbers.contains(held));
        self.mischief.lets_in = true;
        self.starts.push(Start { function: Function::ScaleUp, work: Work::Batch(numbers) });
    }

    /// How EC2 refuses a launch for good, if it does.
    pub(crate) fn launch_refused(&mut self) -> Result<(), PortError> {
        match self.mischief.refuses {
            Some((_, class)) => {
                self.coverage.hit(Counter::LaunchRefused);
                Err(PortError::new("CreateFleet", class, "refused for good"))
            }
            None => Ok(()),
        }
    }

    /// One request about an owner: whether the hour has one left.
    pub(crate) fn charge(&mut self, owner: &str) -> Result<(), PortError> {
        self.mischief.limited.remove_if_over(owner, self.now);
        let limit = self.plan.rate_limit;
        if limit == 0 {
            return Ok(());
        }
        let hour = self.now / HOUR;
        let spent = self.mischief.spent.entry(owner.to_owned()).or_insert((hour, 0));
        if spent.0 != hour {
            *spent = (hour, 0);
        }
        if spent.1 < limit {
            spent.1 += 1;
            return Ok(());
        }
        self.coverage.hit(Counter::RateLimited);
        Err(self.limited(owner, (hour + 1) * HOUR))
    }

    /// GitHub's secondary limit: changes that come within a second of each other, or more than 80 of them in a minute
    /// (facts/world.md G19). Until the time that it names is over the adapter sends nothing about that owner.
    pub(crate) fn hurried(&mut self, owner: &str, op: Op) -> Result<(), PortError> {
        if self.plan.haste == 0.0 {
            return Ok(());
        }
        let now = self.now;
        let (times, until) = self.mischief.changes.entry(owner.to_owned()).or_default();
        if now < *until {
            let until = *until;
            return Err(self.limited(owner, until));
        }
        if !op.changes() {
            return Ok(());
        }
        while times.front().is_some_and(|at| now - at > MINUTE) {
            times.pop_front();
        }
        let hurries = times.back().is_some_and(|at| now - at < SECOND);
        times.push_back(now);
        let too_many = times.len() > CHANGES_A_MINUTE;
        let refused = too_many || (hurries && self.world.tape.chance(self.plan.haste));
        if !refused {
            return Ok(());
        }
        let until = now + self.world.tape.between(MINUTE, 5 * MINUTE);
        self.mischief.changes.entry(owner.to_owned()).or_default().1 = until;
        self.coverage.hit(Counter::Haste);
        self.timeline.note(now, || format!("GitHub asks for patience about {owner} until {until}"));
        let said = self.world.tape.draw(1) == 0;
        let error = self.limited(owner, until);
        // At times it does not say for how long.
        Err(if said { error } else { PortError { class: Class::Throttled { retry_after: None }, ..error } })
    }

    /// What a conditional request costs of the owner's hour: nothing where the answer is the one that was cached
    /// (facts/github.md 2.4). A function's environment, and its cache, lives for about an hour.
    pub(crate) fn charged(&mut self, question: impl Hash, answer: impl Hash, cost: u32) -> u32 {
        let hash = BuildHasherDefault::<FxHasher>::default();
        let now = (self.now / HOUR, hash.hash_one(answer));
        let before = self.mischief.answered.insert(hash.hash_one(question), now);
        if before == Some(now) { 0 } else { cost }
    }

    /// A refusal that says when to come back.
    pub(crate) fn limited(&mut self, owner: &str, until: Millis) -> PortError {
        // Nobody has to go on with the App's own calls at once.
        if owner != THE_APP {
            self.mischief.limited.insert(owner.to_owned(), until);
        }
        let left = u64::try_from(until - self.now).unwrap_or(0).min(HOUR.unsigned_abs());
        PortError::new("GitHub", Class::Throttled { retry_after: Some(Duration::from_millis(left)) }, "rate limit")
    }

    /// What GitHub says is left of the hour.
    pub(crate) fn budget_of(&self, owner: &str) -> Option<ApiBudget> {
        let limit = self.plan.rate_limit;
        let hour = self.now / HOUR;
        let spent = self.mischief.spent.get(owner).filter(|(of, _)| *of == hour).map_or(0, |(_, spent)| *spent);
        (limit > 0).then(|| ApiBudget {
            limit,
            remaining: limit.saturating_sub(spent),
            resets_at: Timestamp((hour + 1) * HOUR),
        })
    }

    /// GitHub is in trouble with an owner from now until then.
    pub(crate) fn begin_trouble(&mut self, login: &str, trouble: Trouble, until: Millis) {
        // What is wrong with everybody is not lifted by what is wrong with one.
        if self.outages.has_everybody(self.now) || self.outages.has_suspended(login) {
            return;
        }
        // Of the runners that there are something is told.
        if matches!(trouble, Trouble::Sparse | Trouble::RunnersReadOnly) {
            if let Some((_, silent_until)) = self.mischief.silent.get_mut(login) {
                *silent_until = self.now.min(*silent_until);
            }
        } else {
            self.mischief.silent.insert(login.to_owned(), (self.now, until));
        }
        self.world.github.begin_trouble(login, trouble, until);
    }

    /// Whether nobody could ask about an owner's runners since then.
    pub(crate) fn is_silent_since(&self, owner: &str, then: Millis) -> bool {
        let login = owner.split('/').next().unwrap_or_default();
        self.mischief.silent.get(login).is_some_and(|(since, until)| *since < then && *until > self.now)
    }

    /// Until when GitHub was last in trouble with an owner, so that nobody was told of its runners; 0 where it never was.
    pub(crate) fn silent_until(&self, owner: &str) -> Millis {
        let login = owner.split('/').next().unwrap_or_default();
        self.mischief.silent.get(login).map_or(0, |(_, until)| *until)
    }

    /// L9: what waited for a limit goes on when it is over.
    pub(crate) fn check_back_pressure(&mut self) {
        let (now, enforces) = (self.now, self.policy.mode == Mode::Enforce);
        let changed = self.mischief.before.as_ref().is_some_and(|(at, _)| now - at < RESUMES_WITHIN);
        // Nobody searches beside a version whose cursor it does not know.
        let understood = now - self.versions.whole_at() >= RESUMES_WITHIN;
        if !enforces || changed || !understood {
            return;
        }
        // While nobody can be asked about, whose limit is over waits for that; and while nobody runs who would ask:
        // without scale-up only searches do, which may take a fifth of the owner's hour.
        let asking = [Function::DemandReconciler, Function::ScaleUp];
        let ends = asking.iter().filter_map(|function| self.mischief.down.get(function)).map(|(_, until)| *until);
        let down_until = ends.max().unwrap_or(0);
        let late = |(owner, until): (&String, &Millis)| {
            (now - self.outages.over_at(owner).max(*until).max(down_until) > RESUMES_WITHIN).then(|| owner.clone())
        };
        let late: Vec<String> = self.mischief.limited.iter().filter_map(late).collect();
        for owner in late {
            let until = self.mischief.limited.remove(&owner).unwrap_or(now);
            let what =
                format!("nobody asked anything about {owner} for {} s after its limit ended", (now - until) / SECOND);
            self.checker.violated("L9", now, what);
        }
    }

    /// GitHub is in trouble with the owner of a runner from the very call on that would delete it, or hides the runner.
    pub(crate) fn strike_delete(&mut self, runner: &str) {
        if self.world.tape.chance(self.plan.trouble_at_delete) {
            let found = self.world.github.registrations().find(|r| r.name == runner);
            let Some(login) = found.map(|r| r.scope.owner().to_owned()) else { return };
            let kinds = [
                Trouble::NotFound,
                Trouble::Denied,
                Trouble::Unavailable,
                Trouble::RunnersNotFound,
                Trouble::RunnersDenied,
                Trouble::RunnersReadOnly,
            ];
            let trouble = kinds[usize::try_from(self.world.tape.draw(kinds.len() as u64 - 1)).unwrap_or(0)];
            let (lo, hi) = self.plan.trouble_for;
            let until = (self.now + self.world.tape.between(lo, hi)).min(self.quiet_at);
            self.timeline.note(self.now, || format!("trouble with {login} until {until}: {trouble:?}"));
            self.begin_trouble(&login, trouble, until);
            // What was refused is not done: the runner takes jobs as before.
            // Late enough, no search tells of it before whoever believes that it was done looks again.
            let (lo, hi) = if self.world.tape.draw(1) == 1 { (3 * MINUTE, 330 * SECOND) } else { (SECOND, 4 * MINUTE) };
            let at = self.now + self.world.tape.between(lo, hi);
            self.agenda.note(at, Event::Strike { runner: runner.to_owned(), counts: None });
        }
        self.comes_back_at_delete(runner);
        if self.world.tape.chance(self.plan.hidden_at_delete) {
            let until = (self.now + self.world.tape.between(20 * MINUTE, 90 * MINUTE)).min(self.quiet_at);
            self.timeline.note(self.now, || format!("{runner} is hidden"));
            self.world.github.hide_runner(runner, self.now, until);
        }
    }
}

/// A fleet is configured anew: another version of its template, and whatever else a request to EC2 or a runner's name is
/// made of.
fn change(fleet: &mut Fleet, also: u64) {
    let version = fleet.launch_template.version.parse::<u64>().unwrap_or(0) + 1;
    fleet.launch_template.version = version.to_string();
    match also {
        1 => fleet.instance_types.reverse(),
        2 => fleet.subnet_ids.reverse(),
        3 => fleet.runner_name_prefix = format!("v{version}-"),
        _ => {}
    }
}

/// What is over is forgotten at the next request.
trait RemoveIfOver {
    fn remove_if_over(&mut self, owner: &str, now: Millis);
}

impl RemoveIfOver for BTreeMap<String, Millis> {
    fn remove_if_over(&mut self, owner: &str, now: Millis) {
        if !self.is_empty() && self.get(owner).is_some_and(|until| *until <= now) {
            self.remove(owner);
        }
    }
}
