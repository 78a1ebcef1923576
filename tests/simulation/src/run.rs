//! The loop of one run: events in order, invocations polled when their calls are over.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use runner_scaler_core::config::{Environment, Mode, Mutant, Policy, parse_policy};
use runner_scaler_core::ids::Deployment;
use runner_scaler_core::scale_up::{QueueMessage, handle_batch};
use runner_scaler_core::time::{Deadline, Timestamp};
use runner_scaler_core::webhook::{WebhookSecrets, handle};
use runner_scaler_core::{demand, orphan, removal};
use runner_scaler_world::Tape;
use serde_json::{Value, json};

use crate::agenda::Event;
use crate::checker::Violation;
use crate::coverage::{Counter, Coverage};
use crate::lambda::{Done, Function, Start, Task, TaskId, Work};
use crate::log::Log;
use crate::ports::Port;
use crate::report::Tally;
use crate::sim::Sim;
use crate::swarm::{Fault, Plan};
use crate::timeline::Timeline;

/// How a run is played.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Hours with faults.
    pub hours: i64,
    /// Hours without.
    pub quiet_hours: i64,
    /// The rule that is broken.
    pub mutant: Mutant,
    /// Whether a timeline is kept.
    pub timeline: bool,
    /// Whether what the handlers log is read without one.
    pub logs: bool,
    /// When the run ends early.
    pub stop: Stop,
}

/// When a run ends before its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stop {
    /// Never.
    #[default]
    Never,
    /// Where one of these invariants is violated.
    AtViolationOf(&'static [&'static str]),
    /// Where this one is.
    AtViolation(&'static str),
}

impl Stop {
    fn is_reached(self, violations: &[Violation]) -> bool {
        match self {
            Self::Never => false,
            Self::AtViolation(invariant) => violations.iter().any(|found| found.invariant == invariant),
            Self::AtViolationOf(invariants) => violations.iter().any(|found| invariants.contains(&found.invariant)),
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { hours: 24, quiet_hours: 4, mutant: Mutant::None, timeline: false, logs: false, stop: Stop::Never }
    }
}

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    /// Virtual time.
    pub virtual_hours: u64,
    /// Whether every instance has a supervisor.
    pub supervised: bool,
    /// Its faults.
    pub faults: Vec<Fault>,
    /// What was wrong.
    pub violations: Vec<Violation>,
    /// Numbers.
    pub tally: Tally,
    /// What happened.
    pub coverage: Coverage,
    /// Stands for the whole run: two runs of the same tape have the same.
    pub hash: u64,
    /// What people read.
    pub timeline: Timeline,
    /// The choices that were made.
    pub choices: Vec<u64>,
}

/// Plays one run.
///
/// # Panics
/// Never: the run's invocations, which share its state, are dropped before the state is taken.
#[must_use]
pub fn play(tape: Tape, options: &Options) -> Outcome {
    let timeline = if options.timeline { Timeline::kept() } else { Timeline::default() };
    let hours = (options.hours, options.quiet_hours);
    let mutant = options.mutant;
    let mut supervised = true;
    let sim = Sim::new(tape, hours, |plan| policy_of(plan, mutant), timeline);
    supervised &= sim.plan.supervised();
    let sim = Rc::new(RefCell::new(sim));
    let log = (options.timeline || options.logs).then(Log::default);
    let mut run = Run::new(Rc::clone(&sim), log.clone());
    match log {
        Some(log) => tracing::subscriber::with_default(log, || run.go(options.stop)),
        None => run.go(options.stop),
    }
    drop(run);
    let sim = Rc::into_inner(sim).expect("the invocations are dropped with the run").into_inner();
    let virtual_hours = u64::try_from(options.hours + options.quiet_hours).unwrap_or(0);
    Outcome {
        virtual_hours,
        supervised,
        faults: sim.plan.faults,
        violations: sim.checker.violations,
        tally: sim.tally,
        coverage: sim.coverage,
        hash: sim.timeline.hash(),
        timeline: sim.timeline,
        choices: sim.world.tape.into_choices(),
    }
}

/// The product's configuration, as its own document.
fn policy_of(plan: &Plan, mutant: Mutant) -> Policy {
    let fleets: Vec<Value> = ["a", "b"]
        .into_iter()
        .take(usize::try_from(plan.fleets).unwrap_or(1))
        .map(|name| {
            // The first fleet's runners wait for jobs in every other hour.
            let idle = if name == "a" && plan.pool > 0 {
                json!([{ "cron": "* */2 * * *", "count": plan.pool }])
            } else {
                json!([])
            };
            let mut fleet = json!({
                "name": name,
                "idle": idle,
                "idle_owner": "org0",
                "labels": ["self-hosted", name],
                "runner_count_max": plan.cap,
                "market": "spot",
                "fallback": "on-demand",
                "launch_template": { "id": format!("lt-{name}"), "version": "1" },
                "instance_types": ["m7i.large", "m7a.large"],
                "subnet_ids": ["subnet-1", "subnet-2"],
            });
            if plan.on_demand {
                fleet["market"] = json!("on-demand");
                fleet["fallback"] = Value::Null;
            }
            fleet
        })
        .collect();
    let environment = Environment {
        deployment: Deployment::new("sim"),
        config_parameter: "/sim/config".to_owned(),
        github_app_path: "/sim/app".to_owned(),
        ledger_table: "ledger".to_owned(),
        vital_signs_table: "vital-signs".to_owned(),
        vital_signs_key_prefix: String::new(),
        scale_up_queue_url: "https://queue".to_owned(),
        runner_parameter_path: "/sim/jit".to_owned(),
        kill_switch_parameter: "/sim/kill-switch".to_owned(),
        github_api_url: "https://api.github.com".to_owned(),
        loopback: false,
        mutant,
    };
    parse_policy(&json!({ "owners": ["org*", "user*"], "fleets": fleets }).to_string(), &environment)
        .expect("a valid document")
}

/// Set when something within a future wakes its task: it is polled again.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Slot {
    life: u32,
    task: Option<Task>,
}

struct Run {
    sim: Rc<RefCell<Sim>>,
    slots: Vec<Slot>,
    free: Vec<usize>,
    woken: Arc<Woken>,
    waker: Waker,
    /// What the handlers log, where somebody reads it.
    log: Option<Log>,
}

impl Run {
    fn new(sim: Rc<RefCell<Sim>>, log: Option<Log>) -> Self {
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&woken));
        Self { sim, slots: Vec::new(), free: Vec::new(), woken, waker, log }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "all other events need no invocation")]
    fn go(&mut self, stop: Stop) {
        loop {
            let event = {
                let sim = &mut *self.sim.borrow_mut();
                if stop.is_reached(&sim.checker.violations) {
                    return;
                }
                let Some((at, event)) = sim.agenda.take(sim.ends_at) else { return };
                sim.now = sim.now.max(at);
                event
            };
            match event {
                Event::Wake(id, waker) => {
                    if self.lives(id) {
                        waker.wake();
                        self.poll(id);
                    }
                }
                Event::TimeLimit(id) => {
                    if self.lives(id) {
                        {
                            let sim = &mut *self.sim.borrow_mut();
                            sim.coverage.hit(Counter::TimeLimit);
                            sim.check_time_limit(id);
                        }
                        self.end(id, None);
                    }
                }
                other => self.sim.borrow_mut().happen(other),
            }
            self.begin_all();
        }
    }

    fn lives(&self, id: TaskId) -> bool {
        self.slots.get(id.place).is_some_and(|slot| slot.life == id.life && slot.task.is_some())
    }

    fn begin_all(&mut self) {
        loop {
            let starts = std::mem::take(&mut self.sim.borrow_mut().starts);
            if starts.is_empty() {
                return;
            }
            for start in starts {
                let begins = {
                    let sim = &mut *self.sim.borrow_mut();
                    !sim.is_down(start.function, &start.work) && !sim.is_throttled(start.function, &start.work)
                };
                if begins {
                    self.begin(start);
                }
            }
        }
    }

    fn begin(&mut self, start: Start) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { life: 0, task: None });
            self.slots.len() - 1
        });
        let Some(slot) = self.slots.get_mut(place) else { return };
        slot.life += 1;
        let id = TaskId { place, life: slot.life };
        let port = Port::new(Rc::clone(&self.sim), id, start.function);
        let sim = &mut *self.sim.borrow_mut();
        let policy = sim.policy_of_process();
        let observes = policy.mode == Mode::Observe;
        slot.task = Some(work_of(sim, &start, port, policy));
        sim.begin_invocation(id, start, observes);
        sim.agenda.note(sim.now, Event::Wake(id, self.waker.clone()));
    }

    /// Lets an invocation go on until it waits.
    fn poll(&mut self, id: TaskId) {
        let Some(mut task) = self.slots.get_mut(id.place).and_then(|slot| slot.task.take()) else { return };
        loop {
            self.woken.0.store(false, Ordering::Relaxed);
            let polled = task.as_mut().poll(&mut Context::from_waker(&self.waker));
            self.read_log();
            match polled {
                Poll::Ready(done) => {
                    drop(task);
                    self.end(id, Some(done));
                    return;
                }
                Poll::Pending if std::mem::take(&mut self.sim.borrow_mut().dying) => {
                    drop(task);
                    self.end(id, None);
                    return;
                }
                Poll::Pending if self.woken.0.load(Ordering::Relaxed) => {}
                Poll::Pending => {
                    if let Some(slot) = self.slots.get_mut(id.place) {
                        slot.task = Some(task);
                    }
                    return;
                }
            }
        }
    }

    /// What was logged is part of the timeline, and holds no secret (S7).
    fn read_log(&self) {
        let Some(log) = &self.log else { return };
        let sim = &mut *self.sim.borrow_mut();
        for line in log.take() {
            sim.coverage.hit(Counter::LineRead);
            sim.check_line(&line);
            sim.timeline.note(sim.now, || format!("    {}", line.message));
        }
    }

    fn end(&mut self, id: TaskId, done: Option<Done>) {
        if let Some(slot) = self.slots.get_mut(id.place) {
            slot.task = None;
            slot.life += 1;
            self.free.push(id.place);
        }
        self.sim.borrow_mut().end_invocation(id, done);
    }
}

/// What an invocation does: the handlers of the product, as its binaries call them.
fn work_of(sim: &mut Sim, start: &Start, port: Port, policy: Rc<Policy>) -> Task {
    let now = Timestamp(sim.now);
    let deadline = Deadline::of(now, Timestamp(sim.now + start.function.time_limit()));
    match (&start.work, start.function) {
        (Work::Pass, Function::ScaleDown) => {
            Box::pin(async move { removal_done(removal::run_pass(&port, &policy, deadline).await) })
        }
        (Work::Pass, Function::OrphanSweeper) => {
            Box::pin(async move { removal_done(orphan::run_pass(&port, &policy, deadline).await) })
        }
        (Work::Pass, Function::DemandReconciler | Function::Webhook | Function::ScaleUp) => Box::pin(async move {
            match demand::run_pass(&port, &policy, deadline).await {
                Ok(report) => Done::Pass { errors: Vec::new(), cut: report.cut_by_deadline },
                Err(failed) => Done::Pass { cut: failed.0.cut_by_deadline, errors: failed.0.errors },
            }
        }),
        (Work::Batch(numbers), _) => {
            let messages: Vec<QueueMessage> = sim
                .messages_of(numbers)
                .into_iter()
                .map(|(message_id, body)| QueueMessage { message_id, body })
                .collect();
            Box::pin(async move { Done::Batch(handle_batch(&port, &policy, messages, deadline).await) })
        }
        (Work::Delivery(id), _) => {
            let request = sim.request_of(*id);
            Box::pin(async move {
                let Some((request, stored)) = request else { return Done::Answer(502) };
                match WebhookSecrets::parse(&stored) {
                    Ok(secrets) => Done::Answer(handle(&port, &policy, &secrets, request, now).await.taken.status()),
                    Err(_) => Done::Answer(503),
                }
            })
        }
    }
}

fn removal_done(outcome: Result<removal::Report, removal::FailedPass>) -> Done {
    match outcome {
        Ok(report) => Done::Pass { errors: Vec::new(), cut: report.cut_by_deadline },
        Err(failed) => Done::Pass { cut: failed.0.cut_by_deadline, errors: failed.0.errors },
    }
}
