//! The API budgets of design section 12, counted on the wire: real adapters, real passes, a server that counts.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use budgets::bench::UNPACED;
use budgets::estate::{Estate, RUNNER_PARAMETER_PATH, State, Timers, queued};
use budgets::pass::Function;
use budgets::process::Stage;
use budgets::server::{Api, Counts};
use comfy_table::{Table, presets::ASCII_MARKDOWN};
use runner_scaler_adapters::SystemClock;
use runner_scaler_core::time::Clock as _;

/// Runners in one deployment.
const SIZES: [usize; 3] = [10, 1_000, 5_000];

/// Where every runner is acted upon alone. With more than a hundred changes in one process the adapters wait for GitHub's
/// pace, and the test with them.
const SIZES_OF_CHANGES: [usize; 2] = [10, 200];

/// Where every instance is looked at alone: more say nothing new and take long in a debug build.
const SIZES_OF_ORPHANS: [usize; 2] = [10, 1_000];

/// Jobs in one batch of scale-up.
const SIZES_OF_BATCHES: [usize; 3] = [1, 10, 100];

/// Passes after which a removal must be over. A quarter of the living instances may go on each of two grounds a pass, so
/// the busy half alone is left after a dozen.
const PASSES_MAX: usize = 20;

/// What is re-read of GitHub while a pass acts (failed deliveries, repositories, runs), once in so many milliseconds: a
/// slow machine pays it more often, so it is counted apart.
const RENEWED: (usize, usize) = (3, 15_000);

/// One scenario's calls against its budget.
struct Row {
    scenario: &'static str,
    size: usize,
    counts: Counts,
    /// What is counted, how many there were and how many there may be.
    budget: Vec<(&'static str, usize, usize)>,
    /// What went wrong besides.
    mistakes: Vec<String>,
}

impl Row {
    fn is_met(&self) -> bool {
        self.mistakes.is_empty() && self.budget.iter().all(|(_, count, most)| count <= most)
    }

    fn cells(&self) -> [String; 7] {
        let budget = self.budget.iter().map(|(what, count, most)| format!("{what} {count} of {most}"));
        let api = |api| self.counts.of(api).to_string();
        [
            self.scenario.to_owned(),
            self.size.to_string(),
            api(Api::GitHub),
            api(Api::Ec2),
            api(Api::DynamoDb),
            budget.collect::<Vec<_>>().join("; "),
            if self.is_met() { "yes".to_owned() } else { format!("NO {}", self.mistakes.join("; ")) },
        ]
    }
}

/// A stage and what was counted on it so far.
struct Counted {
    stage: Stage,
    counts: Counts,
    wall_ms: usize,
    mistakes: Vec<String>,
}

impl Counted {
    async fn new(states: &[(State, usize)], timers: Timers) -> Self {
        let binary = PathBuf::from(env!("CARGO_BIN_EXE_budgets"));
        let estate = Estate::new(states, timers, SystemClock.now());
        let stage = Stage::start(binary, estate, Duration::ZERO).await.expect("a stage");
        Self { stage, counts: Counts::default(), wall_ms: 0, mistakes: Vec::new() }
    }

    async fn pass(&mut self, function: Function) {
        let pass = self.stage.pass(function).await.expect("a pass");
        if pass.counts.of(Api::Unknown) > 0 {
            self.mistakes.push(format!("calls that the server does not speak: {}", pass.counts));
        }
        self.mistakes.extend(pass.measured.error);
        self.wall_ms += usize::try_from(pass.measured.wall_ms).unwrap_or(usize::MAX);
        self.counts.extend(&pass.counts);
    }

    fn check(&mut self, holds: bool, what: impl Into<String>) {
        if !holds {
            self.mistakes.push(what.into());
        }
    }

    fn github(&self) -> usize {
        self.counts.of(Api::GitHub)
    }

    fn operation(&self, api: Api, operation: &str) -> usize {
        self.counts.of_operation(api, operation)
    }

    fn ended(&self) -> usize {
        self.stage.server.services().ec2.instances.values().filter(|instance| instance.ending).count()
    }

    fn drained(&self) -> usize {
        let services = self.stage.server.services();
        services.ec2.instances.values().filter(|instance| instance.tags.contains_key("ghr:drain")).count()
    }

    fn registered(&self) -> usize {
        self.stage.server.services().github.runners.len()
    }

    fn row(self, scenario: &'static str, size: usize, budget: Vec<(&'static str, usize, usize)>) -> Row {
        Row { scenario, size, counts: self.counts, budget, mistakes: self.mistakes }
    }
}

/// Nothing is to be done, and nobody needs GitHub for it.
async fn all_busy(size: usize) -> Row {
    let mut counted = Counted::new(&[(State::Busy, size)], Timers::Default).await;
    counted.pass(Function::ScaleDown).await;
    counted.check((counted.ended(), counted.registered()) == (0, size), "a busy runner was touched");
    let describes = counted.operation(Api::Ec2, "DescribeInstances");
    let budget = vec![("GitHub", counted.github(), 0), ("Describe", describes, size.div_ceil(1_000))];
    counted.row("scale-down, all busy and alive", size, budget)
}

/// The ledger knows every job, so GitHub need not be asked; the budget leaves room for one list.
async fn all_busy_and_silent(size: usize) -> Row {
    let mut counted = Counted::new(&[(State::BusySilent, size)], Timers::Default).await;
    counted.pass(Function::ScaleDown).await;
    counted.check((counted.ended(), counted.registered()) == (0, size), "a busy runner was touched");
    let describes = counted.operation(Api::Ec2, "DescribeInstances");
    let github = ("GitHub", counted.github(), size.div_ceil(100) + 5);
    counted.row("scale-down, all busy and silent", size, vec![github, ("Describe", describes, size.div_ceil(1_000))])
}

/// Idle instances that live are asked to stop, many in one call.
async fn half_idle_drain(size: usize) -> Row {
    let idle = size / 2;
    let mut counted = Counted::new(&[(State::Busy, size - idle), (State::Idle, idle)], Timers::Default).await;
    counted.pass(Function::ScaleDown).await;
    counted.check(counted.drained() == idle, format!("{} of {idle} were asked to drain", counted.drained()));
    counted.check((counted.ended(), counted.registered()) == (0, size), "a runner was touched");
    let tags = counted.operation(Api::Ec2, "CreateTags");
    let budget = vec![("GitHub", counted.github(), 0), ("CreateTags", tags, idle.div_ceil(1_000))];
    counted.row("scale-down, half idle: drain", size, budget)
}

/// From the first reading of GitHub to the last termination, over as many passes as the caps ask for.
async fn half_idle_control_plane(size: usize) -> Row {
    let idle = size / 2;
    let mut counted = Counted::new(&[(State::BusySilent, size - idle), (State::IdleSilent, idle)], Timers::None).await;
    let mut passes = 0;
    while counted.ended() < idle && passes < PASSES_MAX {
        counted.pass(Function::ScaleDown).await;
        passes += 1;
    }
    counted.check(counted.ended() == idle, format!("{} of {idle} ended in {passes} passes", counted.ended()));
    counted.check(counted.registered() == size - idle, format!("{} registrations are left", counted.registered()));
    let lists = counted.operation(Api::GitHub, "GET runners");
    let each = counted.operation(Api::GitHub, "GET runner") + counted.operation(Api::GitHub, "DELETE runner");
    let budget = vec![
        ("lists", lists, size.div_ceil(100) * passes),
        ("GitHub a runner", each, 3 * idle),
        // Every pass is a new process here, with a token of its own; Lambda's keep theirs for an hour.
        ("token and delivery log", counted.github() - lists - each, 2 * passes),
        ("Terminate", counted.operation(Api::Ec2, "TerminateInstances"), idle),
    ];
    counted.row("scale-down, half idle: control plane", size, budget)
}

/// One pass decides about all orphans from lists. As many others live, for a list that misses most is not believed.
/// The word on each that is ended, uncached and right before, belongs to the act: a quarter of the fleet a pass.
async fn orphans(size: usize) -> Row {
    let mut counted = Counted::new(&[(State::Idle, size), (State::Orphan, size)], Timers::Default).await;
    counted.pass(Function::OrphanSweeper).await;
    let most = (2 * size / 4).max(5);
    let ended = counted.ended();
    counted.check(ended == most.min(size), format!("{ended} ended"));
    counted.check(counted.registered() == size, "a living runner was deregistered");
    let each = counted.operation(Api::GitHub, "GET runner");
    let budget = vec![
        ("GitHub for the decision", counted.github() - each, 15 + RENEWED.0 * (counted.wall_ms / RENEWED.1)),
        ("GitHub for the acts", each, most),
        ("Terminate", counted.operation(Api::Ec2, "TerminateInstances"), most),
    ];
    counted.row("orphan-sweeper, half orphans", 2 * size, budget)
}

/// What an hour of busy runners with dead supervisors costs: scale-down every minute, orphan-sweeper every five.
async fn an_hour_of_silence(size: usize) -> Row {
    let mut counted = Counted::new(&[(State::BusySilent, size)], Timers::Default).await;
    counted.pass(Function::ScaleDown).await;
    let scale_down = counted.github();
    counted.pass(Function::OrphanSweeper).await;
    let sweeper = counted.github() - scale_down;
    counted.check((counted.ended(), counted.registered()) == (0, size), "a busy runner was touched");
    let an_hour = 60 * scale_down + 12 * sweeper;
    counted.row("an hour of both, all busy and silent", size, vec![("GitHub an hour", an_hour, 150)])
}

/// A batch of queued jobs of one fleet: each is asked for and registered once, all are launched by one call.
async fn launch_batch(size: usize) -> Row {
    let count = u64::try_from(size).expect("small");
    let (estate, messages) = queued(count, SystemClock.now());
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_budgets"));
    let mut stage = Stage::start(binary, estate, Duration::ZERO).await.expect("a stage");
    stage.points_per_minute = Some(UNPACED);
    let batch = stage.batch(&messages).await.expect("a batch");
    let mut counted = Counted { stage, counts: batch.counts, wall_ms: 0, mistakes: Vec::new() };
    let report = batch.measured.report;
    counted.check(report["launched_count"].as_u64() == Some(count), report.to_string());
    counted.check(counted.counts.of(Api::Unknown) == 0, "calls that the server does not speak");
    counted.check(counted.registered() == size, "not as many runners as jobs");
    let parameters = {
        let services = counted.stage.server.services();
        services.ssm.values.keys().filter(|name| name.starts_with(RUNNER_PARAMETER_PATH)).count()
    };
    counted.check(parameters == size, "not as many configurations as jobs");
    let (fleets, puts) = (counted.operation(Api::Ec2, "CreateFleet"), counted.operation(Api::Ssm, "PutParameter"));
    let describes = counted.operation(Api::Ec2, "DescribeInstances");
    let budget = vec![
        ("GitHub", counted.github(), 2 * size + 1),
        ("CreateFleet", fleets, 1),
        ("Describe", describes, 1),
        ("PutParameter", puts, size),
        // A job is read, made, launched for and concluded, an instance made, asked for, registered and handed over, each a
        // read and a write; the fleet, the launch and where EC2 had nothing besides.
        ("DynamoDB", counted.counts.of(Api::DynamoDb), 14 * size + 24),
    ];
    counted.row("scale-up, one batch of one fleet", size, budget)
}

#[tokio::test]
async fn the_budgets_are_kept_on_the_wire() {
    let mut rows = Vec::new();
    for size in SIZES_OF_BATCHES {
        rows.push(launch_batch(size).await);
    }
    for size in SIZES {
        rows.push(all_busy(size).await);
        rows.push(all_busy_and_silent(size).await);
        rows.push(half_idle_drain(size).await);
    }
    for size in SIZES_OF_CHANGES {
        rows.push(half_idle_control_plane(size).await);
    }
    for size in SIZES_OF_ORPHANS {
        rows.push(orphans(size).await);
        rows.push(an_hour_of_silence(size).await);
    }
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(["scenario", "runners", "GitHub calls", "EC2 calls", "DynamoDB calls", "budget", "met"]);
    table.add_rows(rows.iter().map(Row::cells));
    writeln!(std::io::stdout(), "\n{table}").expect("a standard output");
    for row in rows.iter().filter(|row| !row.is_met()) {
        writeln!(std::io::stdout(), "{}, {}: {}", row.scenario, row.size, row.counts).expect("a standard output");
    }
    assert!(rows.iter().all(Row::is_met), "a budget is not kept: see the table");
}
