//! The state of one run: the world, what lies at AWS, the instances, and what is noted about all of it.

use std::rc::Rc;

use runner_scaler_core::config::Policy;
use runner_scaler_core::webhook::WebhookSecrets;
use runner_scaler_world::github::{BusyFlag, Fate, JitRequest, JobSpec, OwnerKind, Scope, Trouble};
use runner_scaler_world::truth::Fact;
use runner_scaler_world::{Millis, Tape, World};

use crate::agenda::{Agenda, Event};
use crate::aws::Aws;
use crate::by_hand::ByHand;
use crate::checker::Checker;
use crate::coverage::{Counter, Coverage};
use crate::hosts::Hosts;
use crate::lambda::{Function, Invocation, Start, Work};
use crate::mischief::Mischief;
use crate::outages::Outages;
use crate::report::Tally;
use crate::swarm::{HOUR, MINUTE, Plan, SECOND, STRIKE_KNOWN};
use crate::timeline::Timeline;
use crate::versions::Versions;
use crate::workload::Workload;

/// The first moment of a run.
pub const START: Millis = 1_795_176_000_000;

/// An owner that the App is installed for.
#[derive(Debug, Clone)]
pub struct Owner {
    /// Its login.
    pub login: String,
    /// Whether it is an organisation.
    pub kind: OwnerKind,
    /// Its repositories, `owner/name`.
    pub repositories: Vec<String>,
}

/// The state of one run.
pub struct Sim {
    /// The time.
    pub now: Millis,
    /// When the faults end.
    pub quiet_at: Millis,
    /// When the run ends.
    pub ends_at: Millis,
    /// Whether they have.
    pub quiet: bool,
    /// GitHub, EC2 and the tape.
    pub world: World,
    /// What the seed decided.
    pub plan: Plan,
    /// The product's configuration.
    pub policy: Rc<Policy>,
    /// Who is served.
    pub owners: Vec<Owner>,
    /// What happens next.
    pub agenda: Agenda,
    /// What lies at AWS.
    pub aws: Aws,
    /// Instances.
    pub hosts: Hosts,
    /// Invocations that run, by their place.
    pub invocations: Vec<Option<Invocation>>,
    /// Invocations to be begun.
    pub starts: Vec<Start>,
    /// The invocation that dies at the call it just made.
    pub dying: bool,
    /// Functions whose last pass was cut.
    pub cut: [bool; 5],
    /// How often in a row a function's pass ran into its time limit.
    pub cut_short: [u32; 5],
    /// Jobs.
    pub workload: Workload,
    /// What else goes on.
    pub mischief: Mischief,
    /// GitHub in trouble as a whole.
    pub outages: Outages,
    /// What people do to instances.
    pub by_hand: ByHand,
    /// The functions' versions.
    pub versions: Versions,
    /// What must hold.
    pub checker: Checker,
    /// What must have happened.
    pub coverage: Coverage,
    /// Numbers.
    pub tally: Tally,
    /// What people read.
    pub timeline: Timeline,
    /// Facts of the world that were seen.
    seen: usize,
    world_noted: Millis,
    deliveries_noted: Millis,
}

/// The webhook's secrets: the first is in use until it is replaced.
const SECRETS: [&str; 2] = ["the first secret of the simulation", "the second secret of the simulation"];

impl Sim {
    /// A run before its first moment.
    pub fn new(mut tape: Tape, hours: (i64, i64), policy_of: impl FnOnce(&Plan) -> Policy, timeline: Timeline) -> Self {
        let plan = Plan::draw(&mut tape);
        let policy = policy_of(&plan);
        let mut world = World::new(plan.world.clone(), tape, START);
        let owners: Vec<Owner> = (0..plan.owners).map(|number| owner(&mut world, &plan, number)).collect();
        let quiet_at = START + hours.0 * HOUR;
        let mut sim = Self {
            now: START,
            quiet_at,
            ends_at: quiet_at + hours.1 * HOUR,
            quiet: false,
            world,
            policy: Rc::new(policy),
            owners,
            agenda: Agenda::default(),
            aws: Aws::default(),
            hosts: Hosts::default(),
            invocations: Vec::new(),
            starts: Vec::new(),
            dying: false,
            cut: [false; 5],
            cut_short: [0; 5],
            workload: Workload::default(),
            mischief: Mischief::default(),
            outages: Outages::default(),
            by_hand: ByHand::default(),
            versions: Versions::default(),
            checker: Checker::default(),
            coverage: Coverage::default(),
            tally: Tally::default(),
            timeline,
            seen: 0,
            world_noted: Millis::MAX,
            deliveries_noted: Millis::MAX,
            plan,
        };
        sim.checker.caps =
            sim.policy.fleets.iter().map(|f| (f.name.to_string(), f.runner_count_max as usize)).collect();
        sim.checker.pool = sim.plan.pool as usize;
        sim.look_alikes();
        for function in Function::SCHEDULED {
            let at = START + sim.world.tape.between(0, function.period());
            sim.agenda.note(at, Event::Schedule(function));
        }
        sim.agenda.note(START, Event::Minute);
        sim.agenda.note(START + 5 * MINUTE, Event::Inspection);
        sim.agenda.note(START + 3 * HOUR, Event::Redrive);
        sim.agenda.note(quiet_at, Event::Quiet);
        if sim.plan.trouble_every > 0 {
            let at = START + sim.world.tape.between(0, sim.plan.trouble_every);
            sim.agenda.note(at, Event::Trouble);
        }
        sim
    }

    /// Instances of others: no tag of ours, tags of another deployment, and our tags without our template or record.
    fn look_alikes(&mut self) {
        for number in 0..self.plan.look_alikes {
            let tag = |key: &str, value: &str| (key.to_owned(), value.to_owned());
            let tags = match number % 3 {
                0 => vec![tag("Name", "somebody else's")],
                1 => vec![tag("ghr:environment", "other"), tag("ghr:fleet", "a"), tag("ghr:owner", "org0")],
                _ => vec![
                    tag("ghr:environment", self.policy.deployment.as_str()),
                    tag("ghr:fleet", "a"),
                    tag("ghr:owner", "org0"),
                    tag("aws:ec2launchtemplate:id", "lt-of-others"),
                ],
            };
            self.world.launch_foreign(tags.into_iter().collect());
        }
        if self.plan.look_alikes > 0 {
            self.runners_of_others();
        }
    }

    /// Runners of others where ours register: a machine of somebody's, and two that bear names like ours, one of which
    /// listened for a while.
    fn runners_of_others(&mut self) {
        let scopes: Vec<Scope> = self.owners.iter().filter_map(Owner::scope).collect();
        for (number, scope) in scopes.into_iter().enumerate() {
            let names =
                ["build-box".to_owned(), format!("runner-i-0feedc0de{number}"), format!("runner-i-0fee1dead{number}")];
            for (place, name) in names.into_iter().enumerate() {
                let labels = vec!["self-hosted".to_owned(), "of-others".to_owned()];
                let wanted = JitRequest { name, runner_group_id: 1, labels, work_folder: None };
                let scope = scope.clone();
                let made = self.touch(|world| {
                    let (github, mut cx) = world.github();
                    let (runner, config) = github.generate_jitconfig(&mut cx, scope, wanted).ok()?;
                    if place == 2 {
                        github.open_session(&mut cx, &config, None);
                    }
                    Some(runner.id)
                });
                self.checker.runners_of_others.extend(made);
            }
        }
    }

    /// Does something to the world at this time, and takes in what came of it.
    pub(crate) fn touch<T>(&mut self, act: impl FnOnce(&mut World) -> T) -> T {
        if self.world.now() < self.now {
            self.world.advance_to(self.now);
        }
        let value = act(&mut self.world);
        self.world.advance_to(self.now);
        self.absorb();
        value
    }

    fn absorb(&mut self) {
        let mut given = Vec::new();
        let facts = self.world.truth.facts();
        for (at, fact) in facts.iter().skip(self.seen) {
            if let Fact::JobAssigned { runner, .. } = fact {
                given.push(runner.clone());
            }
            self.timeline.note(*at, || fact.describe());
            self.timeline.mark(*at, fact_number(fact));
            self.checker.take_in(*at, fact, &self.world, &mut self.coverage, &mut self.tally);
        }
        self.seen = facts.len();
        let effects = self.world.take_host_effects();
        if !effects.is_empty() {
            self.carry_out(effects);
        }
        for runner in given {
            self.message_waits(&runner);
        }
        if let Some(at) = self.world.next_event_at() {
            // What stays due waits for somebody else; it is looked at again a second later.
            let at = if at <= self.now { self.now + SECOND } else { at };
            if at < self.world_noted {
                self.world_noted = at;
                self.agenda.note(at, Event::World);
            }
        }
        if let Some(at) = self.world.github.next_delivery_at()
            && at < self.deliveries_noted
        {
            self.deliveries_noted = at;
            self.agenda.note(at.max(self.now), Event::Deliveries);
        }
    }

    /// An event that needs no process.
    pub(crate) fn happen(&mut self, event: Event) {
        match event {
            // One that was noted before an earlier one has nothing left to do.
            Event::World if self.now < self.world_noted => {}
            Event::World => {
                self.world_noted = Millis::MAX;
                self.touch(|_| ());
            }
            Event::Deliveries if self.now < self.deliveries_noted => {}
            Event::Deliveries => self.deliver(),
            Event::Schedule(function) => {
                self.agenda.note(self.now + function.period(), Event::Schedule(function));
                if self.running(function) > 0 {
                    self.coverage.hit(Counter::Overlap);
                }
                self.starts.push(Start { function, work: Work::Pass });
                if self.world.tape.chance(self.plan.timer_doubled) {
                    let at = self.now + self.world.tape.between(0, 5 * SECOND);
                    self.agenda.note(at, Event::InvokeAgain(function));
                }
            }
            Event::InvokeAgain(function) => {
                if self.invocations.iter().flatten().any(|i| i.function == function && i.destroys) {
                    self.coverage.hit(Counter::OverlapInDestruction);
                }
                self.starts.push(Start { function, work: Work::Pass });
            }
            Event::Queue => self.receive_messages(),
            Event::InvokeBatch(numbers) => self.try_batch_again(numbers),
            Event::Host { host, life, errand } => self.run_errand(host, life, errand),
            Event::Minute => self.play_minute(),
            Event::Strike { runner, counts } => {
                if let (true, Some(counter)) = (self.strike(&runner), counts) {
                    self.coverage.hit(counter);
                }
            }
            Event::Trouble => self.make_trouble(),
            Event::Inspection => self.inspect(),
            Event::Redrive => {
                self.redrive();
                if !self.quiet {
                    self.agenda.note(self.now + 3 * HOUR, Event::Redrive);
                }
            }
            Event::Quiet => self.quieten(),
            Event::Wake(..) | Event::TimeLimit(_) => {}
        }
    }

    fn deliver(&mut self) {
        self.deliveries_noted = Millis::MAX;
        let due = self.touch(|world| {
            let now = world.now();
            world.github.take_due_deliveries(now)
        });
        for delivery in due {
            self.workload.outgoing.insert(delivery.delivery_id, delivery.clone());
            self.starts.push(Start { function: Function::Webhook, work: Work::Delivery(delivery.delivery_id) });
        }
    }

    /// The secret that GitHub signs with, and those that a warm process holds.
    pub(crate) fn secrets(&mut self) -> (&'static str, String) {
        let second = self.now > START + 12 * HOUR || self.world.tape.chance(self.plan.second_secret);
        self.coverage.hit(if second { Counter::SecondSecret } else { Counter::FirstSecret });
        // A warm process read them before the second was put beside the first.
        if self.world.tape.chance(self.plan.stale_cache) {
            self.coverage.hit(Counter::StaleSecrets);
            return (SECRETS[usize::from(second)], SECRETS[0].to_owned());
        }
        (SECRETS[usize::from(second)], SECRETS.join("\n"))
    }

    /// What the webhook's secrets are in the parameter store.
    #[must_use]
    pub fn stored_secrets() -> Option<WebhookSecrets> {
        WebhookSecrets::parse(&SECRETS.join("\n")).ok()
    }

    /// GitHub is in trouble with one owner for a while.
    fn make_trouble(&mut self) {
        if self.quiet || self.plan.trouble_every == 0 {
            return;
        }
        let tape = &mut self.world.tape;
        let owner = usize::try_from(tape.draw(self.owners.len() as u64 - 1)).unwrap_or(0);
        let kind = [
            Trouble::NotFound,
            Trouble::Denied,
            Trouble::Unavailable,
            Trouble::Limited,
            Trouble::Sparse,
            Trouble::RunnersNotFound,
            Trouble::RunnersDenied,
            Trouble::RunnersReadOnly,
        ];
        let trouble = kind[usize::try_from(tape.draw(kind.len() as u64 - 1)).unwrap_or(0)];
        let (lo, hi) = self.plan.trouble_for;
        let until = self.now + tape.between(lo, hi);
        let next = self.now + tape.between(MINUTE, 2 * self.plan.trouble_every);
        self.agenda.note(next, Event::Trouble);
        let login = self.owners[owner].login.clone();
        self.timeline.note(self.now, || format!("trouble with {login} until {until}: {trouble:?}"));
        self.coverage.hit(Counter::Trouble);
        self.begin_trouble(&login, trouble, until.min(self.quiet_at));
    }

    /// The faults end; one owner's GitHub may stay broken for ever.
    fn quieten(&mut self) {
        self.quiet = true;
        self.checker.quiet_since = Some(self.now);
        self.timeline.note(self.now, || "the faults end".to_owned());
        let mut broken = None;
        if self.owners.len() > 1 && self.world.tape.chance(self.plan.one_stays_broken) {
            let owner = usize::try_from(self.world.tape.draw(self.owners.len() as u64 - 1)).unwrap_or(0);
            let kinds = [Trouble::Unavailable, Trouble::Denied, Trouble::NotFound, Trouble::RunnersReadOnly];
            let trouble = kinds[usize::try_from(self.world.tape.draw(kinds.len() as u64 - 1)).unwrap_or(0)];
            self.coverage.hit(Counter::OneStaysBroken);
            let login = self.owners[owner].login.clone();
            self.timeline.note(self.now, || format!("{login} stays broken: {trouble:?}"));
            self.checker.broken = Some(login);
            broken = Some(trouble);
        }
        if self.world.tape.chance(self.plan.one_resists) {
            self.checker.resists = self.some_instance();
            self.timeline.note(self.now, || format!("nothing ends {:?} any more", self.checker.resists));
        }
        self.plan.quieten();
        self.end_suspensions(Millis::MAX);
        if let Some((trouble, login)) = broken.zip(self.checker.broken.clone()) {
            self.begin_trouble(&login, trouble, self.ends_at + HOUR);
        }
        self.end_mischief();
        self.end_deployments();
        *self.world.github.settings_mut() = self.plan.world.github.clone();
        self.world.ec2.set_settings(self.plan.world.ec2.clone());
        self.aws.kill_switch = None;
        self.agenda.note(self.now + 5 * MINUTE, Event::Redrive);
    }

    /// Strikes: a job is queued and given to that runner in the same moment.
    pub(crate) fn strike(&mut self, runner: &str) -> bool {
        let found = self.world.github.registrations().find(|r| r.name == runner);
        let Some(owner) = found.filter(|r| r.version.is_some()).map(|r| r.scope.clone()) else { return false };
        let labels = found.map(|r| r.labels.clone()).unwrap_or_default();
        let Some(repository) = self.repository_of(&owner) else { return false };
        let free = self.world.github.registrations().any(|r| r.name == runner && r.is_free());
        if !free {
            return false;
        }
        // A flag that knows is refused by 422; one that does not is the attack.
        let flag = if self.world.tape.chance(STRIKE_KNOWN) { BusyFlag::Known } else { BusyFlag::BySettings };
        let duration_ms = self.world.tape.between(MINUTE, 20 * MINUTE);
        // Of some nobody is told before they are over, and of half of these GitHub's log says so.
        let untold = self.world.tape.chance(self.plan.untold);
        let fate = if self.world.tape.draw(1) == 1 { Fate::Failed } else { Fate::Vanished };
        let spec =
            JobSpec { repository, name: "strike".to_owned(), labels, duration_ms, conclusion: "success".to_owned() };
        let runner = runner.to_owned();
        self.touch(|world| {
            let (github, mut cx) = world.github();
            if let Ok(job) = github.add_held_job(&mut cx, spec) {
                for action in ["queued", "in_progress"].iter().filter(|_| untold) {
                    github.plan_delivery(job, action, fate);
                }
                github.assign_held_job(&mut cx, job, &runner, flag);
            }
        });
        true
    }
}

impl Owner {
    /// Where its runners register: of a user's repositories the first.
    fn scope(&self) -> Option<Scope> {
        match self.kind {
            OwnerKind::Organization => Some(Scope::Organization(self.login.clone())),
            OwnerKind::User => {
                let (owner, name) = self.repositories.first()?.split_once('/')?;
                Some(Scope::Repository { owner: owner.to_owned(), name: name.to_owned() })
            }
        }
    }
}

/// An owner with its repositories, installed.
fn owner(world: &mut World, plan: &Plan, number: u64) -> Owner {
    // The first is an organisation, as in most deployments.
    let kind = if number > 0 && world.tape.chance(plan.user) { OwnerKind::User } else { OwnerKind::Organization };
    let login = match kind {
        OwnerKind::Organization => format!("org{number}"),
        OwnerKind::User => format!("user{number}"),
    };
    let count = 1 + world.tape.draw(2);
    let names: Vec<String> = (0..count).map(|n| format!("repo{n}")).collect();
    let refs: Vec<&str> = names.iter().map(String::as_str).collect();
    world.github.install(&login, kind, &refs);
    Owner { repositories: names.iter().map(|name| format!("{login}/{name}")).collect(), login, kind }
}

/// A number for the trace: what happened to whom.
fn fact_number(fact: &Fact) -> u64 {
    match fact {
        Fact::JobQueued { job_id, .. } => job_id * 16 + 1,
        Fact::JobAssigned { job_id, .. } => job_id * 16 + 2,
        Fact::JobRequeued { job_id, .. } => job_id * 16 + 3,
        Fact::JobStarted { job_id, .. } => job_id * 16 + 4,
        Fact::JobCompleted { job_id, .. } => job_id * 16 + 5,
        Fact::JobCancelled { job_id } => job_id * 16 + 6,
        Fact::JobKilled { job_id, .. } => job_id * 16 + 7,
        Fact::JobCancelledByLostRegistration { job_id, .. } => job_id * 16 + 8,
        Fact::JobDropped { job_id, .. } => job_id * 16 + 9,
        Fact::RunnerRegistered { runner_id, .. } => runner_id * 16 + 10,
        Fact::DeliveryAnswered { delivery_id, .. } => delivery_id * 16 + 11,
        Fact::InstanceLaunched { .. } => 12,
        Fact::InstanceBooted { .. } => 13,
        Fact::InstanceEnding { .. } => 14,
        Fact::InstanceTerminated { .. } => 15,
        Fact::RunnerConnected { .. } => 17,
        Fact::RunnerDeregistered { .. } => 18,
        Fact::DeregistrationRefused { .. } => 19,
        Fact::RunnerRemoved { .. } => 20,
        Fact::Befell { .. } => 21,
        Fact::TerminationRefused { .. } => 22,
        Fact::ForeignTouched { .. } => 23,
        Fact::DeliveryLost { .. } => 24,
        Fact::ForgeryAnswered { .. } => 25,
        Fact::TrapSprung { .. } => 26,
    }
}
