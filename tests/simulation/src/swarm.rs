//! Which faults a seed has and how strong they are: every rate of the simulation is in this file, but that of what is lost
//! half is in GitHub's log (`shared/world`), and where two things are as likely as each other that is said there.
//!
//! A third of the seeds has one or two faults only, so that one does not hide another; a tenth has none of its own and
//! is attacked by the adversary alone. Nothing here is lowered to make a seed pass.

use runner_scaler_world::instance::SupervisorSettings;
use runner_scaler_world::{Millis, Settings, Tape};

/// A second in milliseconds.
pub const SECOND: Millis = 1_000;
/// A minute in milliseconds.
pub const MINUTE: Millis = 60 * SECOND;
/// An hour in milliseconds.
pub const HOUR: Millis = 60 * MINUTE;

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault {
            $($(#[$doc])* $name,)*
        }

        impl Fault {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

faults! {
    /// `busy` is shown late, for minutes false in mid-job, or never.
    BusyLies,
    /// A runner that died stays busy and undeletable.
    BusyStuck,
    /// Runners that lists and reads leave out.
    Hidden,
    /// Everything of an owner is 404, 403, 502, throttled or nearly empty for a while.
    Storms,
    /// GitHub's calls fail, or their answers get lost.
    GitHubCalls,
    /// EC2's calls fail, or their answers get lost.
    Ec2Calls,
    /// The ledger's, the queue's and the parameter store's calls fail, or their answers get lost.
    AwsCalls,
    /// Deliveries are lost.
    WebhooksLost,
    /// Deliveries come several times, late, out of order, and of old jobs.
    WebhooksDisordered,
    /// Strangers post deliveries.
    Forgeries,
    /// Invocations die at any await.
    Kills,
    /// Calls take minutes, so that time limits are met.
    Slow,
    /// Timers fire twice.
    Timers,
    /// Messages come twice.
    Queue,
    /// Instances become visible late.
    Visibility,
    /// No capacity, or less than asked for.
    Capacity,
    /// Spot instances are taken back.
    Spot,
    /// Instances take long to boot and to end, or do not power off.
    Sluggish,
    /// Boots that never register, listeners that hang after they acknowledged.
    Defects,
    /// The index of the ledger lags.
    Index,
    /// Vital signs are not written at times, drain requests not read.
    Signs,
    /// Instances' clocks are wrong.
    Clocks,
    /// Supervisors that are dead or die.
    NoSupervisor,
    /// The kill switch is thrown or cannot be read for a while.
    KillSwitch,
    /// Instances of others that look like ours.
    LookAlikes,
    /// Jobs are cancelled by their users while they wait.
    Cancellations,
    /// A fleet keeps idle runners in a part of each hour.
    Pools,
    /// A hostile job writes vital signs, its own instance's and others'.
    HostileSigns,
    /// GitHub's hourly limit is met.
    RateLimit,
    /// EC2 refuses launches for good for a while: a template is gone, a permission lost.
    Ec2Refusals,
    /// Invocations are throttled: the reserved concurrency is used up.
    Throttling,
    /// Warm processes hold secrets and a configuration that were replaced.
    Caches,
    /// The deployment observes or retires for a while.
    Modes,
    /// GitHub is in trouble with everybody, or with the calls that the App makes in its own name.
    Outages,
    /// An owner suspends the App for a while, or removes it and installs it again.
    Suspensions,
    /// Deliveries that were asked for again come without a signature.
    Unsigned,
    /// Owners whom nobody serves have the App too, and their jobs name our runners.
    Strangers,
    /// EC2's limit of the account is met, ended instances counted for a while, and pools fail for other reasons than
    /// capacity.
    Limits,
    /// Another version of the launch template is named.
    Templates,
    /// GitHub refuses changes that come too fast.
    Haste,
    /// SQS has no order.
    Disorder,
    /// People stop instances, start them again, and protect them from being ended.
    ByHand,
    /// Jobs ask for labels that would do harm where they are taken for more than text.
    HostileLabels,
    /// Another version of the functions is deployed, one function after another, or rolled back.
    Versions,
    /// Jobs wait for an approval before they are queued.
    Approvals,
    /// A function does not run for hours: it was deployed broken, or its concurrency is taken away.
    Down,
}

/// What may happen to a call of one service. Probabilities a call.
#[derive(Clone, Copy, Debug, Default)]
pub struct CallFaults {
    /// It fails, and did nothing.
    pub refused: f64,
    /// It is throttled, and did nothing.
    pub throttled: f64,
    /// It did its work, and the answer is lost.
    pub lost: f64,
    /// It did nothing, and nobody can tell: the request is lost.
    pub vanished: f64,
}

/// Everything that a seed decides beforehand.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its faults, for people.
    pub faults: Vec<Fault>,
    /// The world's times and faults.
    pub world: Settings,
    /// The supervisors' times.
    pub supervisor: SupervisorSettings,
    /// GitHub's calls.
    pub github: CallFaults,
    /// EC2's calls.
    pub ec2: CallFaults,
    /// Calls of DynamoDB, SQS and SSM.
    pub aws: CallFaults,
    /// Probability that an invocation dies at one of its calls.
    pub kill: f64,
    /// Calls into which a death falls, counted from the invocation's first.
    pub kill_within: u64,
    /// Probability that it dies at the first call of a kind drawn for it, however rarely that is made.
    pub kill_aimed: f64,
    /// Probability a call that it dies at one of the rarest.
    pub kill_rarest: f64,
    /// Probability that a call hangs until its client gives up.
    pub hang: f64,
    /// For so long, once an hour, every call takes many times as long.
    pub slow_for: Millis,
    /// Probability that a timer fires twice.
    pub timer_doubled: f64,
    /// Probability a minute that a message gets into the queue that is no job message.
    pub poison: f64,
    /// Probability that EC2 does not know an instance that it is asked to end.
    pub not_found: f64,
    /// Probability that a message is delivered twice.
    pub message_doubled: f64,
    /// Largest lag of the ledger's index.
    pub index_lag: Millis,
    /// Probability that a vital sign is not written.
    pub beat_lost: f64,
    /// Probability that a look at the drain request fails.
    pub look_lost: f64,
    /// Probability that none of an instance's looks succeeds.
    pub deaf: f64,
    /// How wrong an instance's clock may be, in either direction.
    pub clock_skew: Millis,
    /// Probability that an instance's supervisor is dead from the start.
    pub supervisor_dead: f64,
    /// Probability that it dies in the instance's first hour.
    pub supervisor_dies: f64,
    /// Probability that an instance is cut off from AWS for a while, supervisor and all.
    pub cut_off: f64,
    /// Probability that a boot never registers.
    pub never_registers: f64,
    /// Probability that a listener hangs after it acknowledged a job.
    pub ghost: f64,
    /// Mean time between two troubles of GitHub with one owner; 0 is never.
    pub trouble_every: Millis,
    /// How long such a trouble lasts.
    pub trouble_for: (Millis, Millis),
    /// Probability that such a trouble begins at a DELETE.
    pub trouble_at_delete: f64,
    /// Probability that a runner is hidden from then on at its DELETE.
    pub hidden_at_delete: f64,
    /// Idle runners that the first fleet keeps in a part of each hour.
    pub pool: u32,
    /// Probability a minute that a running job writes vital signs.
    pub hostile_sign: f64,
    /// Requests an hour that GitHub allows for an owner; 0 is as many as anybody makes.
    pub rate_limit: u32,
    /// Probability a minute that EC2 begins to refuse launches for good.
    pub ec2_refuses: f64,
    /// Probability that an invocation is throttled.
    pub throttled: f64,
    /// Probability that a process is warm and knows nothing of what changed in the last minutes.
    pub stale_cache: f64,
    /// Probability a minute that the deployment begins to observe or to retire.
    pub mode: f64,
    /// Probability that the adversary strikes at a call that is a race.
    pub adversary: f64,
    /// Probability that it strikes at a read of one runner.
    pub adversary_reads: f64,
    /// Probability that no delivery tells of the job that it strikes with before that is over.
    pub untold: f64,
    /// Probability that an instance that was cut off is heard of again within minutes of the DELETE of its runner.
    pub back_at_delete: f64,
    /// Probability a minute that a stranger posts a delivery.
    pub forgery: f64,
    /// Probability a minute that a waiting job is cancelled by its user.
    pub cancellation: f64,
    /// Probability a minute that all that wait are: what was launched for them has nothing to do.
    pub cancellation_of_all: f64,
    /// Probability a minute that the kill switch is thrown.
    pub kill_switch: f64,
    /// Instances of others at the start.
    pub look_alikes: u64,
    /// Probability that GitHub signs with the second secret.
    pub second_secret: f64,
    /// Organisations and users that the App is installed for.
    pub owners: u64,
    /// Probability that an owner is a user, whose runners are registered with repositories.
    pub user: f64,
    /// Fleets.
    pub fleets: u64,
    /// Instances that a fleet may have.
    pub cap: u32,
    /// Probability that a job is a long one.
    pub long_jobs: f64,
    /// Jobs a day, most likely; each hour has its own share, and some have none.
    pub jobs_a_day: u64,
    /// Probability that in the quiet hours one owner's GitHub stays broken.
    pub one_stays_broken: f64,
    /// Probability that in the quiet hours no call that ends one of the instances, or its runner, succeeds.
    pub one_resists: f64,
    /// Probability a minute that GitHub begins to be in trouble with everybody.
    pub outage: f64,
    /// Probability a minute that calls which the App makes in its own name begin to fail.
    pub app_trouble: f64,
    /// Probability a minute that an owner suspends the App, or removes it and installs it again.
    pub suspension: f64,
    /// Probability a minute that GitHub tells of a job of an owner whom nobody serves.
    pub stranger: f64,
    /// Probability a minute that the configuration names another version of a launch template.
    pub template_change: f64,
    /// Probability that GitHub refuses a change that comes within a second of the one before.
    pub haste: f64,
    /// Probability that a message is received before those that were sent before it.
    pub disorder: f64,
    /// Whether instances are on-demand: only these can be stopped and protected.
    pub on_demand: bool,
    /// Probability a minute that somebody stops an instance.
    pub stopped: f64,
    /// Probability that it is started again.
    pub started: f64,
    /// Probability a minute that somebody removes the registration of an instance.
    pub removed: f64,
    /// Probability a minute that every process of an instance dies.
    pub dead: f64,
    /// Probability that an instance cannot delete the configuration that it has used.
    pub config_kept: f64,
    /// Probability a minute that somebody protects an instance from being ended.
    pub protected: f64,
    /// Probability that a job asks for a label that means harm.
    pub hostile_label: f64,
    /// Attempts on a page of GitHub's log of deliveries.
    pub log_page: usize,
    /// Probability a minute that one of the functions does not run for hours.
    pub down: f64,
    /// Probability that a job waits for an approval.
    pub approval: f64,
    /// Probability a minute that another version of the functions begins to be deployed.
    pub deployment: f64,
    /// Probability that it is rolled back.
    pub rolled_back: f64,
    /// A sign that a worker is there is written so much later than it is, at most.
    pub sign_lag: Millis,
}

/// Probability that a job with which the adversary strikes is known to the busy flag: a DELETE is refused then.
pub const STRIKE_KNOWN: f64 = 0.25;
/// Probability that more jobs come in a minute in which one comes.
pub const BURST: f64 = 0.03;
/// Probability that no fleet takes a job.
pub const UNSERVED: f64 = 0.004;
/// Probability that a fault is part of a seed that has many.
const FAULT: f64 = 0.45;
/// Probability that a seed with many has such as keep things from happening more than they make them go wrong: all at
/// once they would leave nothing to go wrong.
const OBSTRUCTED: f64 = 0.5;
/// Probability that each of those is part of such a seed.
const OBSTACLE: f64 = 0.35;
/// Probability that a seed has no fault of its own.
const NONE: f64 = 0.1;
/// Probability that a seed has one or two.
const FEW: f64 = 0.33;
/// The supervisors' absence is drawn in more seeds than other faults would be: at least one in ten.
const NO_SUPERVISOR: f64 = 0.2;

impl Plan {
    /// Draws a seed's plan.
    pub fn draw(tape: &mut Tape) -> Self {
        let mut faults = Vec::new();
        // An ended tape draws no fault: the benign choice of each of these is none.
        if tape.chance(1.0 - NONE) {
            if tape.chance(FEW / (1.0 - NONE)) {
                for _ in 0..=tape.draw(1) {
                    let place = tape.draw(Fault::ALL.len() as u64 - 1);
                    faults.extend(usize::try_from(place).ok().and_then(|place| Fault::ALL.get(place)));
                }
            } else {
                let of_many = |fault: &Fault| *fault != Fault::NoSupervisor;
                let (older, obstacles): (Vec<Fault>, Vec<Fault>) =
                    Fault::ALL.iter().copied().filter(of_many).partition(|fault| *fault < Fault::Outages);
                faults.extend(older.into_iter().filter(|_| tape.chance(FAULT)));
                if tape.chance(OBSTRUCTED) {
                    faults.extend(obstacles.into_iter().filter(|_| tape.chance(OBSTACLE)));
                }
            }
            if tape.chance(NO_SUPERVISOR) {
                faults.push(Fault::NoSupervisor);
            }
        }
        faults.sort_unstable();
        faults.dedup();
        let mut plan = Self::kind(tape);
        for fault in &faults {
            plan.add(*fault, tape);
        }
        // Somebody else's instances count too.
        let others = u32::try_from(plan.look_alikes).unwrap_or(0);
        plan.world.ec2.instance_limit = plan.world.ec2.instance_limit.map(|limit| limit + others);
        plan.faults = faults;
        plan
    }

    /// A plan without faults but the adversary's.
    fn kind(tape: &mut Tape) -> Self {
        let mut world = Settings::default();
        world.github.compact_payloads = true;
        world.github.busy_lag_ms = (0, 60 * SECOND);
        // Field: from under 50 s to 32 min (actions/runner#4617).
        world.github.listener_notices_ms = (20 * SECOND, tape.between(50 * SECOND, 32 * MINUTE));
        world.ec2.boot_ms = (20 * SECOND, 90 * SECOND);
        // EC2 says "under an hour"; every listing carries them.
        world.ec2.terminated_lingers_ms = tape.between(6 * MINUTE, 20 * MINUTE);
        Self {
            faults: Vec::new(),
            world,
            supervisor: SupervisorSettings {
                // The looks are driven by the request, at the times of such a period (`hosts`).
                drain_look_every_ms: i64::MAX / 4,
                ..SupervisorSettings::default()
            },
            github: CallFaults::default(),
            ec2: CallFaults::default(),
            aws: CallFaults::default(),
            kill: 0.0,
            kill_within: 40,
            kill_aimed: 0.0,
            kill_rarest: 0.0,
            hang: 0.0,
            slow_for: 0,
            timer_doubled: 0.0,
            message_doubled: 0.0,
            poison: 0.0,
            not_found: 0.0,
            index_lag: 0,
            beat_lost: 0.0,
            look_lost: 0.0,
            deaf: 0.0,
            clock_skew: 0,
            supervisor_dead: 0.0,
            supervisor_dies: 0.0,
            cut_off: 0.0,
            never_registers: 0.0,
            ghost: 0.0,
            trouble_every: 0,
            trouble_for: (MINUTE, 90 * MINUTE),
            trouble_at_delete: 0.0,
            hidden_at_delete: 0.0,
            pool: 0,
            hostile_sign: 0.0,
            rate_limit: 0,
            ec2_refuses: 0.0,
            throttled: 0.0,
            stale_cache: 0.0,
            mode: 0.0,
            adversary: 0.3,
            adversary_reads: 0.02,
            untold: 0.0,
            back_at_delete: 0.0,
            forgery: 0.0,
            cancellation: 0.0,
            cancellation_of_all: 0.0,
            kill_switch: 0.0,
            look_alikes: 0,
            second_secret: 0.2,
            owners: 1 + tape.draw(2),
            user: 0.25,
            fleets: 1 + tape.draw(1),
            cap: 12 + u32::try_from(tape.draw(18)).unwrap_or(0),
            long_jobs: 0.1,
            jobs_a_day: 200 + tape.draw(400),
            one_stays_broken: 0.3,
            one_resists: 0.2,
            outage: 0.0,
            app_trouble: 0.0,
            suspension: 0.0,
            stranger: 0.0,
            template_change: 0.0,
            haste: 0.0,
            disorder: 0.0,
            on_demand: false,
            stopped: 0.0,
            started: 0.0,
            removed: 0.0,
            dead: 0.0,
            config_kept: 0.0,
            protected: 0.0,
            hostile_label: 0.0,
            log_page: 100,
            down: 0.0,
            approval: 0.0,
            deployment: 0.0,
            rolled_back: 0.0,
            sign_lag: 0,
        }
    }

    #[expect(clippy::too_many_lines, reason = "one flat match: an arm for each fault")]
    fn add(&mut self, fault: Fault, tape: &mut Tape) {
        let github = &mut self.world.github;
        let ec2 = &mut self.world.ec2;
        match fault {
            Fault::BusyLies => {
                github.busy_lag_ms = (0, 90 * SECOND);
                github.lying_busy_flag = drawn(tape, 0.01, 0.2);
                github.stale_busy_flag = drawn(tape, 0.02, 0.3);
            }
            Fault::BusyStuck => github.stuck_busy_flag = drawn(tape, 0.2, 1.0),
            Fault::Hidden => {
                github.list_omission = drawn(tape, 0.005, 0.1);
                github.hidden_runner = drawn(tape, 0.01, 0.15);
                github.runner_shown_ms = (0, 90 * SECOND);
                github.offline_runner = drawn(tape, 0.01, 0.15);
                self.hidden_at_delete = drawn(tape, 0.02, 0.3);
            }
            Fault::Storms => {
                self.trouble_every = tape.between(HOUR, 12 * HOUR);
                self.trouble_at_delete = drawn(tape, 0.02, 0.3);
            }
            Fault::GitHubCalls => self.github = CallFaults::draw(tape, 0.05),
            Fault::Ec2Calls => self.ec2 = CallFaults::draw(tape, 0.08),
            Fault::AwsCalls => self.aws = CallFaults::draw(tape, 0.02),
            Fault::WebhooksLost => {
                github.lose_webhooks = drawn(tape, 0.02, 0.5);
                // An hour has a dozen of these: as many pages as of a busier deployment's.
                self.log_page = 3 + usize::try_from(tape.draw(97)).unwrap_or(0);
            }
            Fault::WebhooksDisordered => {
                github.duplicate_webhooks = drawn(tape, 0.02, 0.3);
                github.webhook_copies_max = 3;
                github.late_webhooks = drawn(tape, 0.02, 0.3);
                github.resend_completed = drawn(tape, 0.005, 0.05);
            }
            Fault::Forgeries => self.forgery = 0.02,
            Fault::Kills => {
                self.kill = drawn(tape, 0.02, 0.3);
                self.kill_within = 8 + tape.draw(30);
                self.kill_aimed = drawn(tape, 0.1, 0.7);
                self.kill_rarest = drawn(tape, 0.1, 0.8);
            }
            Fault::Slow => {
                self.hang = drawn(tape, 0.0005, 0.01);
                self.slow_for = tape.between(0, 30 * MINUTE);
            }
            Fault::Timers => self.timer_doubled = drawn(tape, 0.02, 0.3),
            Fault::Queue => {
                self.message_doubled = drawn(tape, 0.02, 0.3);
                self.poison = drawn(tape, 0.0, 0.05);
            }
            Fault::Visibility => {
                ec2.visibility_lag_ms = (0, tape.between(10 * SECOND, 5 * MINUTE));
                self.not_found = drawn(tape, 0.02, 0.3);
            }
            Fault::Capacity => {
                ec2.no_capacity_rate = drawn(tape, 0.05, 0.5);
                let types = [("m7i.large", tape.draw(12)), ("m7a.large", tape.draw(12))];
                ec2.capacity = types.map(|(name, n)| (name.to_owned(), 6 + u32::try_from(n).unwrap_or(0))).into();
            }
            Fault::Spot => ec2.spot_interruption = drawn(tape, 0.01, 0.2),
            Fault::Sluggish => {
                ec2.boot_ms = (20 * SECOND, tape.between(100 * SECOND, 8 * MINUTE));
                ec2.shutdown_ms = (5 * SECOND, tape.between(MINUTE, 15 * MINUTE));
                ec2.power_off_fails = drawn(tape, 0.005, 0.05);
            }
            Fault::Defects => {
                self.never_registers = drawn(tape, 0.01, 0.1);
                self.ghost = drawn(tape, 0.005, 0.05);
                github.refuse_acquisition = drawn(tape, 0.005, 0.05);
            }
            Fault::Index => self.index_lag = tape.between(SECOND, MINUTE),
            Fault::Signs => {
                self.beat_lost = drawn(tape, 0.02, 0.2);
                self.look_lost = drawn(tape, 0.05, 0.5);
                self.deaf = drawn(tape, 0.0, 0.3);
                self.sign_lag = tape.between(0, 5 * SECOND);
            }
            Fault::Clocks => self.clock_skew = tape.between(SECOND, 10 * MINUTE),
            Fault::NoSupervisor => {
                self.supervisor_dead = drawn(tape, 0.05, 1.0);
                self.supervisor_dies = drawn(tape, 0.0, 0.3);
                self.cut_off = drawn(tape, 0.0, 0.5);
                // Only of these is a runner deleted that may have a job.
                self.trouble_at_delete = drawn(tape, 0.0, 0.3).max(self.trouble_at_delete);
                self.back_at_delete = drawn(tape, 0.0, 0.8);
                self.untold = drawn(tape, 0.0, 0.8);
                // Nobody but the control plane ends these: there have to be many that are idle, and long jobs.
                self.pool = 3 + u32::try_from(tape.draw(5)).unwrap_or(0);
                self.cancellation_of_all = drawn(tape, 0.005, 0.03);
                self.long_jobs = drawn(tape, 0.1, 0.6);
                // What GitHub has shown it takes back in mid-job.
                github.stale_busy_flag = drawn(tape, 0.0, 0.7).max(github.stale_busy_flag);
                // Their jobs are known by their deliveries or not at all.
                self.kill_rarest = drawn(tape, 0.0, 0.8).max(self.kill_rarest);
                github.lose_webhooks = drawn(tape, 0.0, 0.5).max(github.lose_webhooks);
            }
            Fault::KillSwitch => self.kill_switch = 0.002,
            Fault::LookAlikes => self.look_alikes = 1 + tape.draw(5),
            Fault::Cancellations => {
                self.cancellation = drawn(tape, 0.005, 0.05);
                self.cancellation_of_all = drawn(tape, 0.0, 0.02);
            }
            Fault::Pools => self.pool = 1 + u32::try_from(tape.draw(5)).unwrap_or(0),
            Fault::HostileSigns => self.hostile_sign = drawn(tape, 0.02, 0.3),
            Fault::RateLimit => self.rate_limit = 300 + u32::try_from(tape.draw(1_200)).unwrap_or(0),
            Fault::Ec2Refusals => self.ec2_refuses = drawn(tape, 0.001, 0.005),
            Fault::Throttling => self.throttled = drawn(tape, 0.01, 0.2),
            Fault::Caches => self.stale_cache = drawn(tape, 0.1, 0.9),
            Fault::Modes => self.mode = 0.002,
            Fault::Outages => {
                self.outage = drawn(tape, 0.0005, 0.003);
                self.app_trouble = drawn(tape, 0.001, 0.004);
            }
            Fault::Unsigned => {
                github.unsigned_redelivery = drawn(tape, 0.1, 1.0);
                // Only what failed is asked for again.
                github.lose_webhooks = drawn(tape, 0.02, 0.3).max(github.lose_webhooks);
            }
            Fault::Limits => {
                ec2.instance_limit = Some(6 + u32::try_from(tape.draw(20)).unwrap_or(0));
                ec2.limit_lag_ms = tape.between(0, 6 * MINUTE);
                ec2.override_error_rate = drawn(tape, 0.02, 0.4);
            }
            Fault::Templates => {
                self.template_change = drawn(tape, 0.002, 0.02);
                // Old and new are named at once, and what was asked under the old is asked again.
                self.stale_cache = drawn(tape, 0.1, 0.9).max(self.stale_cache);
                self.ec2.lost = drawn(tape, 0.02, 0.2).max(self.ec2.lost);
            }
            Fault::Haste => self.haste = drawn(tape, 0.1, 1.0),
            Fault::Disorder => self.disorder = drawn(tape, 0.1, 1.0),
            Fault::ByHand => {
                self.on_demand = true;
                self.stopped = drawn(tape, 0.005, 0.05);
                self.started = drawn(tape, 0.0, 1.0);
                self.protected = drawn(tape, 0.005, 0.05);
                self.removed = drawn(tape, 0.0, 0.02);
                self.dead = drawn(tape, 0.0, 0.02);
                // Started again, it finds the one that it used.
                self.config_kept = drawn(tape, 0.0, 1.0);
            }
            Fault::HostileLabels => self.hostile_label = drawn(tape, 0.02, 0.2),
            Fault::Down => self.down = drawn(tape, 0.001, 0.01),
            Fault::Approvals => self.approval = drawn(tape, 0.02, 0.4),
            Fault::Versions => {
                self.deployment = drawn(tape, 0.002, 0.01);
                self.rolled_back = drawn(tape, 0.0, 0.5);
            }
            Fault::Strangers => self.stranger = drawn(tape, 0.01, 0.05),
            Fault::Suspensions => {
                self.suspension = drawn(tape, 0.0005, 0.004);
                // Some of what was sent before failed.
                github.lose_webhooks = drawn(tape, 0.02, 0.3).max(github.lose_webhooks);
            }
        }
    }

    /// Whether every instance has a supervisor that lives.
    #[must_use]
    pub fn supervised(&self) -> bool {
        self.supervisor_dead == 0.0 && self.supervisor_dies == 0.0 && self.cut_off == 0.0
    }

    /// The faults end: what is left are times and what cannot be undone.
    pub fn quieten(&mut self) {
        let calm = CallFaults::default();
        (self.github, self.ec2, self.aws) = (calm, calm, calm);
        (self.kill, self.hang, self.timer_doubled, self.message_doubled) = (0.0, 0.0, 0.0, 0.0);
        (self.poison, self.not_found, self.slow_for) = (0.0, 0.0, 0);
        (self.beat_lost, self.look_lost, self.deaf, self.clock_skew) = (0.0, 0.0, 0.0, 0);
        self.cut_off = 0.0;
        (self.supervisor_dead, self.supervisor_dies, self.never_registers, self.ghost) = (0.0, 0.0, 0.0, 0.0);
        (self.trouble_every, self.index_lag) = (0, 0);
        (self.trouble_at_delete, self.hidden_at_delete, self.back_at_delete) = (0.0, 0.0, 0.0);
        (self.kill_aimed, self.kill_rarest) = (0.0, 0.0);
        (self.hostile_sign, self.rate_limit, self.ec2_refuses, self.throttled) = (0.0, 0, 0.0, 0.0);
        (self.stale_cache, self.mode, self.cancellation_of_all) = (0.0, 0.0, 0.0);
        (self.adversary, self.adversary_reads) = (0.0, 0.0);
        (self.outage, self.app_trouble, self.suspension) = (0.0, 0.0, 0.0);
        self.stranger = 0.0;
        self.sign_lag = 0;
        (self.stopped, self.protected, self.config_kept) = (0.0, 0.0, 0.0);
        (self.removed, self.dead) = (0.0, 0.0);
        self.hostile_label = 0.0;
        (self.deployment, self.approval, self.down) = (0.0, 0.0, 0.0);
        self.disorder = 0.0;
        self.template_change = 0.0;
        self.haste = 0.0;
        (self.forgery, self.cancellation, self.kill_switch) = (0.0, 0.0, 0.0);
        let github = &mut self.world.github;
        (github.lying_busy_flag, github.stale_busy_flag, github.stuck_busy_flag) = (0.0, 0.0, 0.0);
        (github.list_omission, github.hidden_runner, github.offline_runner) = (0.0, 0.0, 0.0);
        (github.lose_webhooks, github.duplicate_webhooks, github.late_webhooks) = (0.0, 0.0, 0.0);
        (github.resend_completed, github.refuse_acquisition, github.unsigned_redelivery) = (0.0, 0.0, 0.0);
        let ec2 = &mut self.world.ec2;
        (ec2.no_capacity_rate, ec2.spot_interruption, ec2.power_off_fails) = (0.0, 0.0, 0.0);
        ec2.capacity.clear();
        (ec2.instance_limit, ec2.override_error_rate) = (None, 0.0);
        (ec2.boot_ms, ec2.shutdown_ms, ec2.visibility_lag_ms) =
            ((20 * SECOND, 90 * SECOND), (5 * SECOND, 60 * SECOND), (0, 5 * SECOND));
    }
}

impl CallFaults {
    fn draw(tape: &mut Tape, most: f64) -> Self {
        Self {
            refused: drawn(tape, 0.001, most),
            throttled: drawn(tape, 0.001, most),
            lost: drawn(tape, 0.001, most),
            vanished: drawn(tape, 0.001, most),
        }
    }
}

/// A rate between two, in a hundred steps; the lower one on an ended tape.
fn drawn(tape: &mut Tape, lo: f64, hi: f64) -> f64 {
    const STEPS: u32 = 100;
    let step = u32::try_from(tape.draw(u64::from(STEPS))).unwrap_or(0);
    lo + (hi - lo) * f64::from(step) / f64::from(STEPS)
}
