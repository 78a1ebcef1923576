//! One stateful double of everything behind the ports, for tests of this crate: calls are counted, and any of them can
//! be killed or failed, before or after its effect.
//!
//! It is honest where handlers lean on it (client tokens, names already taken, compare-and-swap) and knows no time but
//! the test's. The unkind world with lags and lies is `runner-scaler-world`.

mod cloud;
mod github;
mod ledger;
mod policy;
mod time;

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::collections::{BTreeMap, BTreeSet};
use std::task::Poll;
use std::time::Duration;

use crate::config::Market;
use crate::error::{Class, PortError};
use crate::ids::{InstallationId, InstanceId, JobId, LaunchToken, Repository, RunId, RunnerName};
use crate::ports::{
    AccountKind, ApiBudget, Delivery, Installation, Instance, Item, JitConfig, JitRequest, JobReading, Key, KillSwitch,
    LaunchRequest, Offering, Runner, VitalSign,
};
use crate::removal::Ground;
use crate::scale_up::JobMessage;
use crate::time::{Clock, Timestamp};
use crate::webhook::{SecretsSource, WebhookSecrets};

pub(crate) use policy::{fleet, mutant, policy};
pub(crate) use time::{Process, run};

/// What happens to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process ends before the call is made.
    KillBefore,
    /// The process ends after the call took effect and before its answer is seen.
    KillAfter,
    /// The call fails without effect.
    FailBefore,
    /// The call takes effect and its answer is lost.
    FailAfter,
    /// The call is made twice, as a client does that got no answer to the first; the second answer is seen.
    Repeat,
}

impl Fault {
    pub(crate) const ALL: [Self; 5] =
        [Self::KillBefore, Self::KillAfter, Self::FailBefore, Self::FailAfter, Self::Repeat];
}

/// All that exists outside the process.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) items: BTreeMap<Key, Item>,
    pub(crate) instances: BTreeMap<InstanceId, Instance>,
    pub(crate) instances_made: usize,
    /// Instances that exist and that no listing shows yet.
    pub(crate) unshown: BTreeSet<InstanceId>,
    pub(crate) launches: BTreeMap<LaunchToken, (LaunchRequest, Vec<InstanceId>)>,
    /// `CreateFleet` calls, repetitions included.
    pub(crate) fleet_calls: Vec<LaunchToken>,
    /// Requests that came with the client token of another one.
    pub(crate) mismatches: usize,
    /// Instances that EC2 still has; `None` is no limit.
    pub(crate) capacity: Option<u32>,
    /// Of these it has none.
    pub(crate) dry: BTreeSet<(Market, Offering)>,
    pub(crate) terminated: Vec<(InstanceId, Ground)>,
    /// By scope in lower case, as GitHub's logins ignore case.
    pub(crate) runners: Vec<(String, Runner)>,
    pub(crate) runners_made: u64,
    /// Requests for a configuration, repetitions included.
    pub(crate) jit_requests: Vec<JitRequest>,
    pub(crate) jobs: BTreeMap<JobId, JobReading>,
    pub(crate) deliveries: Vec<(Delivery, String)>,
    pub(crate) queue: Vec<JobMessage>,
    pub(crate) parameters: BTreeMap<InstanceId, JitConfig>,
    /// When a parameter was put; one that a test put in by hand was there from the beginning.
    pub(crate) parameters_put: BTreeMap<InstanceId, Timestamp>,
    /// Instances with `disableApiTermination`.
    pub(crate) protected: BTreeSet<InstanceId>,
    /// Instances that EC2 denies to end.
    pub(crate) refused: BTreeSet<InstanceId>,
    /// Repositories that the installation reaches; those of the jobs besides.
    pub(crate) repositories: BTreeSet<Repository>,
    /// Repository of a job where it is not `octo/hello`.
    pub(crate) repository_of_job: BTreeMap<JobId, Repository>,
    /// Status of a job's run where it is not `in_progress`.
    pub(crate) run_of_job: BTreeMap<JobId, &'static str>,
    /// Deliveries that the log shows and whose payload GitHub does not have any more.
    pub(crate) payloads_gone: BTreeSet<u64>,
    /// Whose the App's installations are.
    pub(crate) installations: BTreeMap<InstallationId, String>,
    /// What lists say of jobs besides; a job without is in no list.
    pub(crate) details: BTreeMap<JobId, JobDetails>,
    /// Where the App is installed, as its own list says.
    pub(crate) installed: Vec<Installation>,
    /// Repositories of which GitHub shows no runs, and how it says so.
    pub(crate) unreadable: BTreeMap<Repository, Class>,
    /// What an installation may still ask, where GitHub says.
    pub(crate) budget: Option<ApiBudget>,
    /// What the process was last shown, by request: the same again is free.
    pub(crate) shown: BTreeMap<String, String>,
    /// Attempts of deliveries that GitHub was asked to repeat.
    pub(crate) redelivered: Vec<u64>,
    pub(crate) kill_switch: Option<KillSwitch>,
    pub(crate) vital_signs: BTreeMap<InstanceId, VitalSign>,
    /// What reading the webhook's secrets again gives.
    pub(crate) newer_secrets: Option<WebhookSecrets>,
    now_ms: i64,
}

/// What a list says of a job.
#[derive(Clone, Debug)]
pub(crate) struct JobDetails {
    pub(crate) repository: Repository,
    pub(crate) run_id: RunId,
    pub(crate) labels: Vec<String>,
    pub(crate) created_at: Timestamp,
    pub(crate) runner_name: Option<RunnerName>,
}

/// The App, installed for an organisation, whose id is that of the fake's repositories' owner.
pub(crate) fn installation(owner: &str, id: u64) -> Installation {
    Installation {
        id: InstallationId(id),
        owner: owner.to_owned(),
        owner_id: Some(12),
        kind: AccountKind::Organization,
    }
}

type Meanwhile = Box<dyn FnOnce(&Fake)>;

/// The double.
pub(crate) struct Fake {
    state: RefCell<State>,
    log: RefCell<Vec<&'static str>>,
    fault: Cell<Option<(usize, Fault)>>,
    /// Whether the armed fault met its call.
    met: Cell<bool>,
    killed: Cell<bool>,
    always: RefCell<BTreeMap<&'static str, Class>>,
    hanging_calls: RefCell<BTreeSet<&'static str>>,
    /// The n-th call fails so.
    fails_at: Cell<Option<(usize, Class)>>,
    once: RefCell<BTreeMap<&'static str, Class>>,
    /// Calls that never answer, where their text holds this.
    hanging: RefCell<Option<(&'static str, String)>>,
    /// How many more calls may be made; `None` is any number. See [`Process`].
    calls_allowed: Cell<Option<usize>>,
    meanwhile: RefCell<BTreeMap<usize, Meanwhile>>,
}

impl Fake {
    /// An empty world at 2026-11-20T12:00:00Z, removal enabled.
    pub(crate) fn new() -> Self {
        let now_ms = 1_795_176_000_000;
        let state = State {
            now_ms,
            kill_switch: Some(KillSwitch::RemovalEnabled),
            installed: vec![installation("octo", 7)],
            ..State::default()
        };
        Self {
            state: RefCell::new(state),
            log: RefCell::default(),
            fault: Cell::default(),
            met: Cell::default(),
            killed: Cell::default(),
            always: RefCell::default(),
            hanging_calls: RefCell::default(),
            fails_at: Cell::default(),
            once: RefCell::default(),
            hanging: RefCell::default(),
            calls_allowed: Cell::default(),
            meanwhile: RefCell::default(),
        }
    }

    /// A world in which that fault meets the n-th call (from 1).
    pub(crate) fn with_fault(number: usize, fault: Fault) -> Self {
        let fake = Self::new();
        fake.fault.set(Some((number, fault)));
        fake
    }

    pub(crate) fn state(&self) -> Ref<'_, State> {
        self.state.borrow()
    }

    pub(crate) fn state_mut(&self) -> RefMut<'_, State> {
        self.state.borrow_mut()
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, duration: Duration) {
        let mut state = self.state.borrow_mut();
        state.now_ms = Timestamp(state.now_ms).plus(duration).0;
    }

    /// Calls so far.
    pub(crate) fn calls(&self) -> usize {
        self.log.borrow().len()
    }

    /// Calls of that name so far, for example `Registry::generate_jit_config`.
    pub(crate) fn calls_of(&self, name: &str) -> usize {
        self.log.borrow().iter().filter(|call| **call == name).count()
    }

    /// Number (from 1) of the last call of that name.
    pub(crate) fn position_of(&self, name: &str) -> usize {
        1 + self.log.borrow().iter().rposition(|call| *call == name).expect("it was called")
    }

    /// The next call of that name fails without effect.
    pub(crate) fn fail_once(&self, name: &'static str, class: Class) {
        self.once.borrow_mut().insert(name, class);
    }

    /// Every call of that name fails without effect, until healed.
    pub(crate) fn always_fail(&self, name: &'static str, class: Class) {
        self.always.borrow_mut().insert(name, class);
    }

    /// Every call of that name takes longer than anybody waits, until healed.
    pub(crate) fn always_hang(&self, name: &'static str) {
        self.hanging_calls.borrow_mut().insert(name);
    }

    /// Number of the first call of that name, from 1.
    pub(crate) fn number_of_first(&self, name: &str) -> usize {
        1 + self.log.borrow().iter().position(|call| *call == name).expect("it was made")
    }

    /// The n-th call (from 1) fails without effect.
    pub(crate) fn fail_at(&self, call: usize, class: Class) {
        self.fails_at.set(Some((call, class)));
    }

    /// Every call of that name that is about that never answers, until healed.
    pub(crate) fn hang(&self, name: &'static str, about: impl Into<String>) {
        *self.hanging.borrow_mut() = Some((name, about.into()));
    }

    /// Something happens right after the n-th call (from 1) took effect.
    pub(crate) fn meanwhile(&self, call: usize, act: impl FnOnce(&Self) + 'static) {
        self.meanwhile.borrow_mut().insert(call, Box::new(act));
    }

    /// A new process in a world without faults.
    pub(crate) fn heal(&self) {
        self.killed.set(false);
        self.fault.set(None);
        self.always.borrow_mut().clear();
        self.hanging_calls.borrow_mut().clear();
        self.state_mut().shown.clear();
        self.hanging.borrow_mut().take();
    }

    /// Makes one call; everything that a port does goes through here.
    async fn call<T>(
        &self,
        name: &'static str,
        effect: impl Fn(&mut State) -> Result<T, PortError>,
    ) -> Result<T, PortError> {
        self.call_about(name, "", effect).await
    }

    /// One that can be told from others of its name.
    async fn call_about<T>(
        &self,
        name: &'static str,
        about: &str,
        effect: impl Fn(&mut State) -> Result<T, PortError>,
    ) -> Result<T, PortError> {
        self.turn().await;
        let hangs = self.hanging.borrow().as_ref().is_some_and(|(own, text)| *own == name && about.contains(text));
        if self.killed.get() || hangs {
            std::future::pending::<()>().await;
        }
        self.log.borrow_mut().push(name);
        let number = self.calls();
        let fault = self.fault.get().filter(|(at, _)| *at == number).map(|(_, fault)| fault);
        self.met.set(self.met.get() || fault.is_some());
        match fault {
            Some(Fault::KillBefore) => self.kill().await,
            Some(Fault::FailBefore) => return Err(PortError::new(name, Class::Transient, "failed by the test")),
            Some(Fault::KillAfter | Fault::FailAfter | Fault::Repeat) | None => {}
        }
        if self.hanging_calls.borrow().contains(name) {
            std::future::pending::<()>().await;
        }
        if let Some(class) = self.once.borrow_mut().remove(name) {
            return Err(PortError::new(name, class, "failed once by the test"));
        }
        if let Some(class) = self.always.borrow().get(name) {
            return Err(PortError::new(name, *class, "failed by the test"));
        }
        if let Some((_, class)) = self.fails_at.get().filter(|(at, _)| *at == number) {
            return Err(PortError::new(name, class, "failed by the test"));
        }
        let mut result = effect(&mut self.state.borrow_mut());
        if fault == Some(Fault::Repeat) {
            result = effect(&mut self.state.borrow_mut());
        }
        let act = self.meanwhile.borrow_mut().remove(&number);
        if let Some(act) = act {
            act(self);
        }
        match fault {
            Some(Fault::KillAfter) => self.kill().await,
            Some(Fault::FailAfter) => {
                return Err(PortError::new(name, Class::OutcomeUnknown, "answer lost by the test"));
            }
            Some(Fault::KillBefore | Fault::FailBefore | Fault::Repeat) | None => {}
        }
        result
    }

    /// Waits until another call is allowed.
    async fn turn(&self) {
        std::future::poll_fn(|context| match self.calls_allowed.get() {
            Some(0) => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            allowed => {
                self.calls_allowed.set(allowed.map(|count| count - 1));
                Poll::Ready(())
            }
        })
        .await;
    }

    async fn kill(&self) {
        self.killed.set(true);
        std::future::pending::<()>().await;
    }
}

impl Clock for Fake {
    fn now(&self) -> Timestamp {
        Timestamp(self.state.borrow().now_ms)
    }

    async fn sleep(&self, duration: Duration) {
        if self.killed.get() {
            std::future::pending::<()>().await;
        }
        time::sleep(self, duration).await;
    }
}

impl SecretsSource for Fake {
    async fn reread(&self) -> Option<WebhookSecrets> {
        self.call("SecretsSource::reread", |state| Ok(state.newer_secrets.clone())).await.ok().flatten()
    }
}

/// Plays a scenario once for every call that it makes and every fault that can meet that call, each in a new world.
/// Returns how many times that was.
///
/// The scenario runs the handler under test, heals the world, runs it to its end and checks what must hold. New calls
/// of a handler are covered without a new test.
pub(crate) fn at_every_call(mut scenario: impl FnMut(&Fake, (usize, Fault))) -> usize {
    let mut played = 0;
    for number in 1..10_000 {
        for fault in Fault::ALL {
            let fake = Fake::with_fault(number, fault);
            scenario(&fake, (number, fault));
            if !fake.met.get() {
                return played;
            }
            played += 1;
        }
    }
    panic!("a scenario of 10,000 calls does not end");
}
