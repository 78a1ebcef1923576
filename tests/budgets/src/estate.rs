//! One deployment with runners in known states: what EC2, GitHub, the ledger and the vital signs hold of them.

use std::collections::BTreeMap;
use std::time::Duration;

use runner_scaler_core::ids::{
    Access, FleetName, InstallationId, InstanceId, JobId, LaunchToken, Repository, RunId, RunnerId, RunnerName, Scope,
};
use runner_scaler_core::ledger::{InstanceRecord, JobPhase, JobRecord, JobStarted, Spell};
use runner_scaler_core::scale_up::JobMessage;
use runner_scaler_core::time::Timestamp;
use serde_json::{Value, json};

use crate::server::{DynamoDb, Ec2, GitHub, Instance, Job, ParameterStore, Runner, Services, Table};

/// `ENVIRONMENT`
pub const DEPLOYMENT: &str = "prod";
/// `CONFIG_PARAMETER`
pub const CONFIG_PARAMETER: &str = "/rs/config";
/// `GITHUB_APP_PATH`
pub const GITHUB_APP_PATH: &str = "/rs/app";
/// `KILL_SWITCH_PARAMETER`
pub const KILL_SWITCH_PARAMETER: &str = "/rs/removal";
/// `RUNNER_PARAMETER_PATH`
pub const RUNNER_PARAMETER_PATH: &str = "/rs/jit";
/// `LEDGER_TABLE`
pub const LEDGER_TABLE: &str = "ledger";
/// `VITAL_SIGNS_TABLE`
pub const VITAL_SIGNS_TABLE: &str = "vital-signs";

/// A key that the adapters' tests use; nothing of it is worth stealing.
const PRIVATE_KEY: &str = include_str!("../../../shared/adapters/tests/fixtures/test-key-pkcs1.pem");

const FLEET: &str = "linux";
const TEMPLATE: &str = "lt-1";
const HOUR: Duration = Duration::from_hours(1);

/// What a runner does and what can be known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A job runs, as the ledger knows, and the instance gives signs of life.
    Busy,
    /// A job runs, as the ledger knows, and the instance is silent.
    BusySilent,
    /// Nothing runs, and the instance gives signs of life: it is to be drained.
    Idle,
    /// Nothing runs, and the instance is silent and did not answer a drain; GitHub was not asked yet.
    IdleSilent,
    /// As [`Self::IdleSilent`], and GitHub said long ago that it is idle.
    IdleConfirmed,
    /// Nothing runs, the instance is silent, and its registration has been absent for long.
    Orphan,
}

impl State {
    /// Whether a job runs.
    #[must_use]
    pub fn is_busy(self) -> bool {
        match self {
            Self::Busy | Self::BusySilent => true,
            Self::Idle | Self::IdleSilent | Self::IdleConfirmed | Self::Orphan => false,
        }
    }

    fn beats(self) -> bool {
        match self {
            Self::Busy | Self::Idle => true,
            Self::BusySilent | Self::IdleSilent | Self::IdleConfirmed | Self::Orphan => false,
        }
    }

    fn is_registered(self) -> bool {
        match self {
            Self::Busy | Self::BusySilent | Self::Idle | Self::IdleSilent | Self::IdleConfirmed => true,
            Self::Orphan => false,
        }
    }
}

/// How long the fleet's timers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timers {
    /// The design's defaults.
    Default,
    /// No time at all, so that each pass is a step further without anybody waiting.
    None,
    /// Every pass of the demand-reconciler searches, and every repository is served.
    Searching,
}

/// A deployment, ready to be served and stored.
#[derive(Debug)]
pub struct Estate {
    /// What lies behind the port, but for the ledger.
    pub services: Services,
    /// The ledger's records, which the adapters themselves write ([`crate::pass::store`]).
    pub records: Vec<InstanceRecord>,
    /// Its records of jobs that wait.
    pub jobs: Vec<JobRecord>,
    /// What the queue hands to scale-up.
    pub messages: Vec<JobMessage>,
}

/// Ids of jobs that wait begin here; those that run have their runner's.
const WAITING_FROM: u64 = 1_000_000;

impl Estate {
    /// Runners in these states at `now`, so many of each.
    #[must_use]
    pub fn new(states: &[(State, usize)], timers: Timers, now: Timestamp) -> Self {
        let mut vital_signs = Table::new(&["instance_id"]);
        let (mut github, mut ec2) = (GitHub::default(), Ec2::default());
        let mut records = Vec::new();
        let all = states.iter().flat_map(|(state, count)| std::iter::repeat_n(*state, *count));
        for (number, state) in (1_u64..).zip(all) {
            let record = record(number, state, now);
            ec2.instances.insert(record.instance_id.to_string(), instance(&record));
            if state.is_registered() {
                let name = record.runner_name.to_string();
                github.runners.insert(number, Runner { name, online: true, busy: state.is_busy() });
            }
            if state.is_busy() {
                // A hundred jobs a run: GitHub lists that many on one page.
                github.jobs.insert(number, Job { run_id: number.div_ceil(100), runner_id: Some(number) });
            }
            // A silent one spoke when it was launched: where none ever did, silence counts as unread.
            let beat_at = if state.beats() { now } else { record.launched_at };
            vital_signs.seed(json!({
                "instance_id": { "S": record.instance_id.as_str() },
                "beat_at": { "N": beat_at.0.to_string() },
                "worker": { "S": if state.beats() && state.is_busy() { "running" } else { "none" } },
            }));
            records.push(record);
        }
        let tables = [(LEDGER_TABLE, Table::new(&["pk", "sk"])), (VITAL_SIGNS_TABLE, vital_signs)];
        let dynamodb = DynamoDb::new(tables.map(|(name, table)| (name.to_owned(), table)));
        let ssm = ParameterStore { values: parameters(timers), ..ParameterStore::default() };
        Self { services: Services::new(github, ec2, dynamodb, ssm), records, jobs: Vec::new(), messages: Vec::new() }
    }

    /// So many jobs besides that were queued a minute ago, and that any runner of the fleet may be given.
    #[must_use]
    pub fn with_queued(mut self, count: usize, now: Timestamp) -> Self {
        for number in (WAITING_FROM..).take(count) {
            self.services.github.jobs.insert(number, Job { run_id: number, runner_id: None });
            self.jobs.push(waiting_job(number, now));
        }
        self
    }

    /// So many jobs that were queued a moment ago, of which nobody but the queue knows yet.
    #[must_use]
    pub fn with_sent(mut self, count: usize, now: Timestamp) -> Self {
        for number in (WAITING_FROM..).take(count) {
            self.services.github.jobs.insert(number, Job { run_id: number, runner_id: None });
            self.messages.push(message(number, now));
        }
        self
    }
}

fn access() -> Access {
    Access {
        scope: Scope::Organization { owner: GitHub::OWNER.to_owned() },
        installation_id: Some(InstallationId(GitHub::INSTALLATION_ID)),
    }
}

fn repository() -> Repository {
    Repository::try_from(GitHub::REPOSITORY.to_owned()).expect("a full name")
}

fn message(number: u64, now: Timestamp) -> JobMessage {
    JobMessage {
        job_id: JobId(number),
        run_id: RunId(number),
        run_attempt: 1,
        repository: repository(),
        organization: Some(GitHub::OWNER.to_owned()),
        installation_id: Some(InstallationId(GitHub::INSTALLATION_ID)),
        labels: labels(),
        queued_at: now,
        look_at: None,
        ids: runner_scaler_core::ids::RepositoryIds::default(),
    }
}

fn labels() -> Vec<String> {
    vec!["self-hosted".to_owned(), "linux".to_owned()]
}

fn waiting_job(number: u64, now: Timestamp) -> JobRecord {
    let queued_at = now.minus(Duration::from_mins(1));
    JobRecord {
        job_id: JobId(number),
        access: access(),
        repository: repository(),
        run_id: RunId(number),
        run_attempt: 1,
        labels: labels(),
        fleet: Some(FleetName::new(FLEET)),
        phase: JobPhase::Queued,
        next_look: now.plus(HOUR),
        launch_count: 0,
        launches: Vec::new(),
        queued_at,
        runner_id: None,
        recorded_at: Some(queued_at),
        given_up_at: None,
        ids: runner_scaler_core::ids::RepositoryIds::default(),
    }
}

fn record(number: u64, state: State, now: Timestamp) -> InstanceRecord {
    let launched_at = now.minus(5 * HOUR);
    let instance_id = InstanceId::new(format!("i-{number:017x}"));
    let name = RunnerName::new(format!("runner-{instance_id}"));
    let token = LaunchToken::new(format!("{number:064x}"));
    let mut record = InstanceRecord::launched(instance_id, access(), FleetName::new(FLEET), token, name, launched_at);
    record.jit_intent_at = Some(launched_at);
    record.handed_over_at = Some(launched_at);
    record.note_runner_id(RunnerId(number));
    match state {
        State::Busy | State::BusySilent => {
            record.note_started(JobStarted {
                job_id: JobId(number),
                repository: repository(),
                at: launched_at.plus(HOUR),
                runner_id: Some(RunnerId(number)),
            });
        }
        State::Idle => {}
        State::IdleSilent => record.drain_requested_at = Some(now.minus(HOUR)),
        State::IdleConfirmed => {
            record.drain_requested_at = Some(now.minus(HOUR));
            record.idle_since = Some(now.minus(HOUR));
            record.idle_seen_at = Some(now);
        }
        State::Orphan => {
            record.absent = Some(Spell { since: now.minus(2 * HOUR), last: now, sweeps: Spell::SWEEPS });
        }
    }
    record
}

fn instance(record: &InstanceRecord) -> Instance {
    let tags = [
        ("ghr:environment", DEPLOYMENT.to_owned()),
        ("ghr:fleet", record.fleet.to_string()),
        ("ghr:owner", record.access.scope.to_string()),
        ("ghr:launch", record.launch_token.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("aws:ec2launchtemplate:id", TEMPLATE.to_owned()),
        ("Name", record.runner_name.to_string()),
    ];
    Instance {
        launched_at: record.launched_at.to_string(),
        ending: false,
        tags: tags.map(|(key, value)| (key.to_owned(), value)).into(),
    }
}

fn parameters(timers: Timers) -> BTreeMap<String, String> {
    [
        (CONFIG_PARAMETER.to_owned(), document(timers).to_string()),
        (KILL_SWITCH_PARAMETER.to_owned(), "enabled".to_owned()),
        (format!("{GITHUB_APP_PATH}/app-id"), "123".to_owned()),
        (format!("{GITHUB_APP_PATH}/private-key"), PRIVATE_KEY.to_owned()),
    ]
    .into()
}

fn document(timers: Timers) -> Value {
    let mut document = json!({
        "repositories": [GitHub::REPOSITORY],
        "fleets": [{
            "name": FLEET,
            "labels": labels(),
            "runner_count_max": 10_000,
            "market": "spot",
            "launch_template": { "id": TEMPLATE, "version": "1" },
            "instance_types": ["m7i.large"],
            "subnet_ids": ["subnet-1"],
        }],
    });
    match timers {
        Timers::Default => {}
        Timers::Searching => {
            document["test_timers"] = true.into();
            document["search_interval_seconds"] = 0.into();
            document["repositories"] = json!(["*"]);
        }
        Timers::None => {
            document["test_timers"] = true.into();
            for name in ["idle_window_seconds", "quarantine_seconds", "drain_answer_seconds"] {
                document["fleets"][0][name] = 0.into();
            }
        }
    }
    document
}
