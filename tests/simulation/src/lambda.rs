//! Invocations: which function, until when, and whether they die before their end.

use std::pin::Pin;

use runner_scaler_core::scale_up::Outcome;
use runner_scaler_world::Millis;

use crate::coverage::Counter;
use crate::ports::Op;
use crate::sim::Sim;
use crate::swarm::{MINUTE, SECOND};

/// Where an invocation's future lies, and which of those that lay there it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskId {
    /// Its place.
    pub place: usize,
    /// Its number among those that had that place.
    pub life: u32,
}

/// The functions of the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Function {
    /// Takes deliveries.
    Webhook,
    /// Launches.
    ScaleUp,
    /// Drains and removes what is idle.
    ScaleDown,
    /// Settles what lost each other.
    OrphanSweeper,
    /// Finds jobs that nobody serves.
    DemandReconciler,
}

impl Function {
    /// All of them, with what counts the times in which they do not run.
    pub(crate) const ALL: [(Self, Counter); 5] = [
        (Self::Webhook, Counter::WebhookDown),
        (Self::ScaleUp, Counter::ScaleUpDown),
        (Self::ScaleDown, Counter::ScaleDownDown),
        (Self::OrphanSweeper, Counter::OrphanSweeperDown),
        (Self::DemandReconciler, Counter::DemandReconcilerDown),
    ];

    /// Those with a schedule.
    pub const SCHEDULED: [Self; 3] = [Self::ScaleDown, Self::OrphanSweeper, Self::DemandReconciler];

    /// As the world knows it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::ScaleUp => "scale-up",
            Self::ScaleDown => "scale-down",
            Self::OrphanSweeper => "orphan-sweeper",
            Self::DemandReconciler => "demand-reconciler",
        }
    }

    /// Its time limit (`infra/main.tf`).
    #[must_use]
    pub fn time_limit(self) -> Millis {
        match self {
            Self::Webhook => 10 * SECOND,
            Self::ScaleUp | Self::ScaleDown | Self::DemandReconciler => MINUTE,
            Self::OrphanSweeper => 4 * MINUTE,
        }
    }

    /// Its schedule (`infra/main.tf`).
    #[must_use]
    pub fn period(self) -> Millis {
        match self {
            Self::OrphanSweeper => 5 * MINUTE,
            Self::Webhook | Self::ScaleUp | Self::ScaleDown | Self::DemandReconciler => MINUTE,
        }
    }
}

/// What an invocation is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// A pass.
    Pass,
    /// Messages of the queue, by their number.
    Batch(Vec<u64>),
    /// One of GitHub's deliveries.
    Delivery(u64),
}

/// How it ended.
#[derive(Debug)]
pub enum Done {
    /// A pass, whether it failed and whether it was cut by its deadline.
    Pass {
        /// What it reports.
        errors: Vec<String>,
        /// Whether its deadline cut it.
        cut: bool,
    },
    /// A batch: the outcome by message id.
    Batch(Vec<(String, Outcome)>),
    /// A delivery: the status.
    Answer(u16),
}

/// An invocation that runs.
#[derive(Debug)]
pub struct Invocation {
    /// Its function.
    pub function: Function,
    /// What it is about.
    pub work: Work,
    /// When it began.
    pub began_at: Millis,
    /// Calls so far.
    pub calls: u64,
    /// The call at which it dies, and whether after its effect.
    pub dies_at: Option<(u64, bool)>,
    /// The call whose first is its last.
    pub aim: Option<Op>,
    /// Jobs that GitHub told it are not queued (any more, or yet).
    pub not_queued: Vec<u64>,
    /// Runners that GitHub showed it busy, and when.
    pub busy: Vec<(u64, Millis)>,
    /// Runners of which GitHub told it that there is none.
    pub absent: Vec<u64>,
    /// Jobs that GitHub showed it in progress on a runner that it named.
    pub in_progress: Vec<u64>,
    /// Whether it is in the middle of a call that ends an instance or a registration.
    pub destroys: bool,
    /// When a call of it last hung.
    pub hung_at: Option<Millis>,
    /// Whether its mode forbids it to end anything.
    pub forbidden: bool,
    /// Whether the kill switch said that it may.
    pub permitted: bool,
}

/// An invocation to be begun.
#[derive(Debug)]
pub struct Start {
    /// Its function.
    pub function: Function,
    /// What it is about.
    pub work: Work,
}

/// So often in a row a pass may run into its time limit.
const CUT_SHORT_MAX: u32 = 3;

/// A future of an invocation.
pub type Task = Pin<Box<dyn Future<Output = Done>>>;

impl Sim {
    /// An invocation begins: whether it will die is decided now.
    pub(crate) fn begin_invocation(&mut self, id: TaskId, start: Start, forbidden: bool) {
        let Start { function, work } = start;
        let dies_at = self
            .world
            .tape
            .chance(self.plan.kill)
            .then(|| (1 + self.world.tape.draw(self.plan.kill_within - 1), self.world.tape.draw(1) == 1));
        let aim = if self.world.tape.chance(self.plan.kill_aimed) {
            let place = usize::try_from(self.world.tape.draw(Op::ALL.len() as u64 - 1)).unwrap_or(0);
            Op::ALL.get(place).copied()
        } else {
            None
        };
        let invocation = Invocation {
            function,
            work,
            began_at: self.now,
            calls: 0,
            dies_at,
            aim,
            not_queued: Vec::new(),
            busy: Vec::new(),
            absent: Vec::new(),
            in_progress: Vec::new(),
            destroys: false,
            hung_at: None,
            forbidden,
            permitted: false,
        };
        if self.invocations.len() <= id.place {
            self.invocations.resize_with(id.place + 1, || None);
        }
        self.tally.invocations += 1;
        if self.timeline.is_kept() {
            let jobs = match &invocation.work {
                Work::Batch(numbers) => {
                    let of = |number: &u64| self.aws.queue.messages.get(number).map(|message| message.job_id);
                    numbers.iter().filter_map(of).collect()
                }
                Work::Pass | Work::Delivery(_) => Vec::new(),
            };
            let name = function.name();
            self.timeline.note(self.now, || format!("{name} begins: {:?} jobs {jobs:?}", invocation.work));
        }
        self.agenda.note(self.now + function.time_limit(), crate::agenda::Event::TimeLimit(id));
        if let Some(place) = self.invocations.get_mut(id.place) {
            *place = Some(invocation);
        }
    }

    /// An invocation ended by itself (`done`), or died.
    pub(crate) fn end_invocation(&mut self, id: TaskId, done: Option<Done>) {
        let Some(invocation) = self.invocations.get_mut(id.place).and_then(Option::take) else { return };
        let name = invocation.function.name();
        self.checker.invocation_ended(id);
        self.timeline.note(self.now, || format!("{name} ends: {done:?}"));
        match (invocation.work, done) {
            (Work::Pass, Some(Done::Pass { errors, cut })) => {
                if errors.is_empty() && !cut {
                    self.checker.busy_shown(&invocation.busy);
                }
                for error in &errors {
                    self.check_text("an error of a pass", error);
                }
                self.tally.passes += 1;
                self.cut_short[invocation.function as usize] = 0;
                self.tally.failed_passes += u64::from(!errors.is_empty());
                if cut {
                    self.coverage.hit(Counter::DeadlineStop);
                    self.cut[invocation.function as usize] = true;
                    if invocation.function == Function::DemandReconciler {
                        self.checker.search_cut_at = self.now;
                    }
                } else if std::mem::take(&mut self.cut[invocation.function as usize]) {
                    self.coverage.hit(Counter::DeadlineResume);
                }
            }
            (Work::Batch(messages), done) => {
                let outcomes = match done {
                    Some(Done::Batch(outcomes)) => outcomes,
                    Some(Done::Pass { .. } | Done::Answer(_)) | None => Vec::new(),
                };
                let untried = invocation.calls == 0;
                self.settle_batch(&messages, &outcomes, &invocation.not_queued, untried);
            }
            (Work::Delivery(delivery), done) => {
                // A process that dies is a bad gateway to GitHub; one that takes too long is nothing.
                let took = self.now - invocation.began_at;
                let status = match done {
                    Some(Done::Answer(status)) => Some(status),
                    Some(Done::Pass { .. } | Done::Batch(_)) | None if took < Function::Webhook.time_limit() => {
                        Some(502)
                    }
                    Some(Done::Pass { .. } | Done::Batch(_)) | None => None,
                };
                self.check_untrusted_answer(delivery, status);
                self.check_taken(delivery, status);
                self.touch(|world| {
                    let (github, mut cx) = world.github();
                    github.delivery_answered(&mut cx, delivery, status, took);
                });
            }
            (Work::Pass, Some(Done::Batch(_) | Done::Answer(_)) | None) => {}
        }
    }

    /// L7: a pass that stops before its time limit can go on in the next; one that runs into it three times in a row,
    /// without a call that hung, begins anew for ever.
    pub(crate) fn check_time_limit(&mut self, id: TaskId) {
        let Some(invocation) = self.invocations.get(id.place).and_then(Option::as_ref) else { return };
        let (function, calls) = (invocation.function, invocation.calls);
        let hung = invocation.hung_at.is_some_and(|at| self.now - at <= function.time_limit());
        if hung || invocation.work != Work::Pass {
            return;
        }
        let times = &mut self.cut_short[function as usize];
        *times += 1;
        if *times == CUT_SHORT_MAX {
            let what =
                format!("{} ran into its time limit {CUT_SHORT_MAX} times, now after {calls} calls", function.name());
            self.checker.violated("L7", self.now, what);
        }
    }

    /// Messages that some invocation has in hand.
    pub(crate) fn in_hand(&self) -> std::collections::BTreeSet<u64> {
        let numbers = |invocation: &'_ Invocation| match &invocation.work {
            Work::Batch(numbers) => numbers.clone(),
            Work::Pass | Work::Delivery(_) => Vec::new(),
        };
        let held = self.mischief.held.iter().copied();
        self.invocations.iter().flatten().flat_map(numbers).chain(held).collect()
    }

    /// Invocations of a function that run.
    pub(crate) fn running(&self, function: Function) -> usize {
        self.invocations.iter().flatten().filter(|invocation| invocation.function == function).count()
    }
}
