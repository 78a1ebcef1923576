//! The ports. Every call begins, takes its time, has its effect and is answered; at each of these moments the process
//! may die, the call may fail and the adversary may strike.

mod cloud;
mod github;
mod table;

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use runner_scaler_core::error::{Class, PortError};
use runner_scaler_core::time::{Clock, Timestamp};
use runner_scaler_world::Millis;

use crate::agenda::Event;
use crate::coverage::Counter;
use crate::lambda::{Function, TaskId};
use crate::sim::Sim;
use crate::swarm::{CallFaults, HOUR, SECOND};

macro_rules! ops {
    ($($name:ident = $text:literal of $service:ident $kind:ident,)*) => {
        /// A call of a port.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "each is named like the method of the port")]
        pub enum Op {
            $($name,)*
        }

        impl Op {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// In the other side's words.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            fn service(self) -> Service {
                match self { $(Self::$name => Service::$service,)* }
            }

            fn kind(self) -> Kind {
                match self { $(Self::$name => Kind::$kind,)* }
            }
        }
    };
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Service {
    GitHub,
    Ec2,
    Aws,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Change,
}

ops! {
    Instances = "DescribeInstances by environment" of Ec2 Read,
    InstancesOfLaunch = "DescribeInstances by launch" of Ec2 Read,
    CreateFleet = "CreateFleet" of Ec2 Change,
    RequestDrain = "CreateTags" of Ec2 Change,
    Terminate = "TerminateInstances" of Ec2 Change,
    Runners = "list runners" of GitHub Read,
    Runner = "get runner" of GitHub Read,
    RunnerNamed = "find runner" of GitHub Read,
    GenerateJit = "generate-jitconfig" of GitHub Change,
    Deregister = "delete runner" of GitHub Change,
    Job = "get job" of GitHub Read,
    JobsInProgress = "list jobs in progress" of GitHub Read,
    JobsOfOpenRuns = "list jobs of open runs" of GitHub Read,
    Repositories = "list repositories of an access" of GitHub Read,
    Installations = "list installations" of GitHub Read,
    RepositoriesOf = "list repositories" of GitHub Read,
    OpenRuns = "list open runs" of GitHub Read,
    JobsOfRun = "list jobs of a run" of GitHub Read,
    FailedDeliveries = "list failed deliveries" of GitHub Read,
    InstallationOwner = "get installation" of GitHub Read,
    DeliveryPayload = "get delivery" of GitHub Read,
    Redeliver = "redeliver" of GitHub Change,
    Send = "SendMessage" of Aws Change,
    LedgerRead = "ledger read" of Aws Read,
    LedgerWrite = "ledger write" of Aws Change,
    LedgerOpen = "ledger query" of Aws Read,
    PutJit = "PutParameter" of Aws Change,
    DeleteJit = "DeleteParameter" of Aws Change,
    JitConfigs = "DescribeParameters" of Aws Read,
    KillSwitch = "GetParameter" of Aws Read,
    VitalSigns = "vital signs read" of Aws Read,
}

impl Op {
    /// Whether it changes something, so that its answer's loss leaves doubt.
    #[must_use]
    pub fn changes(self) -> bool {
        self.kind() == Kind::Change
    }

    /// Those that a day makes a handful of: the victims of every seed whose invocations die.
    pub const RAREST: [Self; 5] = [
        Self::JobsOfOpenRuns,
        Self::InstallationOwner,
        Self::Repositories,
        Self::JobsInProgress,
        Self::InstancesOfLaunch,
    ];

    /// The adversary's windows around it, where the call is a race.
    #[expect(clippy::wildcard_enum_match_arm, reason = "only four of all calls are races")]
    fn windows(self) -> Option<[Counter; 3]> {
        match self {
            Self::RequestDrain => {
                Some([Counter::DrainStruckBefore, Counter::DrainStruckBetween, Counter::DrainStruckAfter])
            }
            Self::Deregister => {
                Some([Counter::DeleteStruckBefore, Counter::DeleteStruckBetween, Counter::DeleteStruckAfter])
            }
            Self::Terminate => {
                Some([Counter::TerminateStruckBefore, Counter::TerminateStruckBetween, Counter::TerminateStruckAfter])
            }
            Self::Runner => Some([Counter::ReadStruck; 3]),
            _ => None,
        }
    }
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    Refused,
    Throttled,
    Lost,
    Vanishes,
    Hangs,
    DiesBefore,
    DiesAfter,
}

/// The ports of one invocation.
pub struct Port {
    sim: Rc<RefCell<Sim>>,
    task: TaskId,
    function: Function,
    /// Its version.
    version: u32,
}

/// How many times as long a slow call takes.
const SLOWER: Millis = 25;
/// A client gives up on a call that does not answer.
const PATIENCE: Millis = 25 * SECOND;

impl Port {
    /// The ports of this invocation.
    #[must_use]
    pub fn new(sim: Rc<RefCell<Sim>>, task: TaskId, function: Function) -> Self {
        let version = sim.borrow_mut().version_of(function);
        Self { sim, task, function, version }
    }

    /// Makes one call; everything that a port does goes through here. `about` is the runner that the adversary would
    /// strike at.
    async fn call<T>(
        &self,
        op: Op,
        about: Option<String>,
        effect: impl FnOnce(&mut Sim) -> Result<T, PortError>,
    ) -> Result<T, PortError> {
        let (fate, takes, window) = self.sim.borrow_mut().begin_call(self.task, op, about.as_deref());
        if fate == Fate::DiesBefore {
            std::future::pending::<()>().await;
        }
        Sleep::new(self, takes).await;
        let result = {
            let sim = &mut *self.sim.borrow_mut();
            match fate {
                Fate::Refused => Err(PortError::new(op.name(), Class::Transient, "refused by the plan")),
                Fate::Throttled => {
                    Err(PortError::new(op.name(), Class::Throttled { retry_after: None }, "throttled by the plan"))
                }
                Fate::Vanishes => {
                    sim.vanishes(self.task, op);
                    Err(PortError::new(op.name(), Class::OutcomeUnknown, "request lost by the plan"))
                }
                Fate::Answered | Fate::Lost | Fate::Hangs | Fate::DiesBefore | Fate::DiesAfter => {
                    sim.at_effect(op, window, about.as_deref());
                    let result = effect(sim);
                    sim.after_effect(self.task, op, fate, window, about.as_deref());
                    match fate {
                        Fate::Lost | Fate::Hangs if op.changes() => {
                            Err(PortError::new(op.name(), Class::OutcomeUnknown, "answer lost by the plan"))
                        }
                        Fate::Hangs => Err(PortError::new(op.name(), Class::Transient, "no answer")),
                        Fate::Lost
                        | Fate::Answered
                        | Fate::Refused
                        | Fate::Throttled
                        | Fate::Vanishes
                        | Fate::DiesBefore
                        | Fate::DiesAfter => result,
                    }
                }
            }
        };
        if fate == Fate::DiesAfter {
            std::future::pending::<()>().await;
        }
        if op.windows().is_some() && op.changes() {
            // The answer's way: others act meanwhile.
            Sleep::new(self, 40).await;
        }
        self.sim.borrow_mut().end_call(self.task, &result);
        result
    }
}

/// Which window the adversary chose: before the effect, between, after.
type Window = Option<usize>;

impl Sim {
    fn begin_call(&mut self, task: TaskId, op: Op, about: Option<&str>) -> (Fate, Millis, Window) {
        let faults = match op.service() {
            Service::GitHub => self.plan.github,
            Service::Ec2 => self.plan.ec2,
            Service::Aws => self.plan.aws,
        };
        let (draw, hang) = (self.world.tape.draw(PARTS - 1), self.plan.hang);
        let mut fate = drawn_fate(draw, faults, hang, op);
        self.tally.calls += 1;
        if let Some(invocation) = self.invocations.get_mut(task.place).and_then(Option::as_mut) {
            invocation.calls += 1;
            if fate == Fate::Hangs {
                invocation.hung_at = Some(self.now);
            }
            if let Some((_, after)) = invocation.dies_at.filter(|(call, _)| *call == invocation.calls) {
                fate = if after { Fate::DiesAfter } else { Fate::DiesBefore };
            }
            invocation.destroys = matches!(op, Op::Terminate | Op::Deregister | Op::RequestDrain);
        }
        if self.is_aimed_at(task, op) {
            fate = if self.world.tape.draw(1) == 1 { Fate::DiesAfter } else { Fate::DiesBefore };
        }
        self.coverage.called(op);
        if fate == Fate::DiesBefore {
            self.die(op, false);
        }
        if let (Op::Deregister, Some(runner)) = (op, about) {
            self.strike_delete(runner);
        }
        let mut window = None;
        if let (Some(windows), Some(runner)) = (op.windows(), about) {
            let rate = if op.changes() { self.plan.adversary } else { self.plan.adversary_reads };
            if self.world.tape.chance(rate) {
                let chosen = usize::try_from(self.world.tape.draw(2)).unwrap_or(0);
                window = Some(chosen);
                if chosen == 0 && (self.strike(runner) || op == Op::Terminate) {
                    self.coverage.hit(windows[0]);
                }
            }
        }
        let takes = match fate {
            Fate::Hangs => PATIENCE,
            Fate::Answered
            | Fate::Refused
            | Fate::Throttled
            | Fate::Lost
            | Fate::Vanishes
            | Fate::DiesBefore
            | Fate::DiesAfter => {
                // From the same draw: its lower digits.
                let spread = i64::try_from(draw % 97).unwrap_or(0);
                let takes = match op.service() {
                    Service::GitHub => 40 + 2 * spread,
                    Service::Ec2 => 60 + 3 * spread,
                    Service::Aws => 3 + spread / 8,
                };
                // The first part of each hour, in seeds in which calls are slow.
                if self.now % HOUR < self.plan.slow_for { takes * SLOWER } else { takes }
            }
        };
        (fate, takes, window)
    }

    /// Whether an invocation dies at this call of all: at the first of a kind that was drawn for it, or at one of the
    /// rarest.
    fn is_aimed_at(&mut self, task: TaskId, op: Op) -> bool {
        if self.plan.kill_rarest > 0.0 && Op::RAREST.contains(&op) {
            return self.world.tape.chance(self.plan.kill_rarest);
        }
        self.invocations.get(task.place).and_then(Option::as_ref).is_some_and(|invocation| invocation.aim == Some(op))
    }

    /// A job that is assigned in the moment of a DELETE, and of which nobody knows yet: after it nothing new can be
    /// (facts/github.md 3), but what was before may be under way.
    fn at_effect(&mut self, op: Op, window: Window, about: Option<&str>) {
        if let (Op::Deregister, Some(1), Some(runner)) = (op, window, about)
            && self.strike(runner)
        {
            self.coverage.hit(Counter::DeleteStruckBetween);
        }
    }

    fn after_effect(&mut self, task: TaskId, op: Op, fate: Fate, window: Window, about: Option<&str>) {
        let place = task.place as u64;
        self.timeline.mark(self.now, (op as u64) << 32 | place << 8 | fate as u64);
        if self.timeline.is_kept() {
            let function = self.invocations.get(task.place).and_then(Option::as_ref).map_or("?", |i| i.function.name());
            let name = op.name();
            let about = about.unwrap_or_default();
            self.timeline.note(self.now, || format!("  {function}: {name} {about} {fate:?}"));
        }
        // Before an instance is ended its registration is gone: the adversary strikes and finds nobody.
        if let (Some(1), Some(windows), Some(runner)) = (window, op.windows(), about)
            && op != Op::Deregister
            && (self.strike(runner) || op == Op::Terminate)
        {
            self.coverage.hit(windows[1]);
        }
        if let (Some(2), Some(windows), Some(runner)) = (window, op.windows(), about) {
            let at = self.now + self.world.tape.between(40, 20 * SECOND);
            let counts = if op == Op::Terminate {
                self.coverage.hit(windows[2]);
                None
            } else {
                Some(windows[2])
            };
            self.agenda.note(at, Event::Strike { runner: runner.to_owned(), counts });
        }
        match fate {
            Fate::Lost | Fate::Hangs if op.changes() => self.coverage.lost(op),
            Fate::DiesAfter => self.die(op, true),
            Fate::Answered
            | Fate::Refused
            | Fate::Throttled
            | Fate::Lost
            | Fate::Vanishes
            | Fate::Hangs
            | Fate::DiesBefore => {}
        }
    }

    /// What would end the one instance that nothing ends, by its id or its runner's name.
    fn resisted(&mut self, named: &str, op: Op) -> Result<(), PortError> {
        if self.checker.resists.as_ref().is_none_or(|id| !named.ends_with(id.as_str())) {
            return Ok(());
        }
        self.coverage.hit(Counter::Resists);
        Err(PortError::new(op.name(), Class::Rejected, "refused for ever"))
    }

    /// A request that never arrives: it changes nothing, and whoever made it cannot know.
    fn vanishes(&mut self, task: TaskId, op: Op) {
        self.coverage.vanished(op);
        let place = task.place as u64;
        self.timeline.mark(self.now, (op as u64) << 32 | place << 8 | Fate::Vanishes as u64);
        self.timeline.note(self.now, || format!("  {} is lost on its way", op.name()));
    }

    fn end_call<T>(&mut self, task: TaskId, result: &Result<T, PortError>) {
        if let Some(invocation) = self.invocations.get_mut(task.place).and_then(Option::as_mut) {
            invocation.destroys = false;
        }
        if let Err(error) = result {
            self.timeline.note(self.now, || format!("  -> {error}"));
        }
    }

    fn die(&mut self, op: Op, after: bool) {
        self.coverage.died(op, after);
        self.tally.kills += 1;
        self.dying = true;
    }
}

/// Resolution of a call's fate.
const PARTS: u64 = 1_000_000;

/// One draw for all of a call: the benign end of it is an answer.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a probability"
)]
fn drawn_fate(draw: u64, faults: CallFaults, hang: f64, op: Op) -> Fate {
    let mut edge = PARTS;
    let mut within = |probability: f64| {
        edge = edge.saturating_sub((probability * PARTS as f64) as u64);
        draw >= edge
    };
    if within(hang) {
        Fate::Hangs
    } else if within(faults.refused) {
        Fate::Refused
    } else if within(faults.throttled) {
        Fate::Throttled
    } else if within(faults.lost) && op.changes() {
        Fate::Lost
    } else if within(faults.vanished) && op.changes() {
        Fate::Vanishes
    } else {
        Fate::Answered
    }
}

/// Waits in virtual time.
struct Sleep<'a> {
    port: &'a Port,
    lasts: Millis,
    due: Option<Millis>,
}

impl<'a> Sleep<'a> {
    fn new(port: &'a Port, lasts: Millis) -> Self {
        Self { port, lasts, due: None }
    }
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let port = self.port;
        let mut sim = port.sim.borrow_mut();
        match self.due {
            Some(due) if due <= sim.now => Poll::Ready(()),
            Some(_) => Poll::Pending,
            None if self.lasts <= 0 => Poll::Ready(()),
            None => {
                let due = sim.now + self.lasts;
                self.due = Some(due);
                sim.agenda.note(due, Event::Wake(port.task, context.waker().clone()));
                Poll::Pending
            }
        }
    }
}

impl Clock for Port {
    fn now(&self) -> Timestamp {
        Timestamp(self.sim.borrow().now)
    }

    async fn sleep(&self, duration: Duration) {
        Sleep::new(self, i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)).await;
    }
}
