//! The API budgets of design section 12: scenarios, what each may cost, and what it did cost on the wire.

use std::path::{Path, PathBuf};
use std::time::Duration;

use comfy_table::{Table, presets::ASCII_MARKDOWN};
use runner_scaler_adapters::SystemClock;
use runner_scaler_core::time::Clock as _;

use crate::estate::{Estate, RUNNER_PARAMETER_PATH, State, Timers};
use crate::pass::{Function, Pace};
use crate::process::{Failure, Stage};
use crate::server::{Api, Counts, GitHub};

/// Runners in one deployment.
const SIZES: [usize; 3] = [10, 1_000, 5_000];

/// Where every runner is acted upon or looked at alone: five thousand take minutes in a debug build.
const SIZES_OF_ACTS: [usize; 2] = [10, 1_000];

/// Jobs in one batch of scale-up.
const BATCHES: [usize; 3] = [1, 10, 100];

/// Passes after which a removal must be over. A quarter of the living instances may go on each of two grounds a pass, so
/// the busy half alone is left after a dozen.
const PASSES_MAX: usize = 20;

/// Jobs that wait in some estates.
const QUEUED: usize = 20;

/// The demand-reconciler searches every five minutes.
const SEARCHES_AN_HOUR: usize = 12;

/// What is re-read of GitHub while a pass acts (failed deliveries, repositories, runs; the jobs that wait come besides),
/// once in so many milliseconds: a slow machine pays it more often, so it is counted apart.
const RENEWED: (usize, usize) = (3, 15_000);

/// Calls of `DynamoDB` that every pass makes whatever the number of its runners: its cursor, the index of open jobs, the
/// breakers, the log of deliveries.
const LEDGER_BASE: usize = 10;

/// Calls of `DynamoDB` that one job of a batch may cost, and those that the batch makes however many they are; two of these
/// are about whether GitHub refuses registrations.
const LEDGER_OF_BATCH: (usize, usize) = (7, 22);

/// Bytes of log that a runner may cost where nothing changes, and those that every pass writes: its report and metrics.
const LOG_BYTES: (usize, usize) = (100, 2_500);

/// How much is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// What takes a minute or two in a debug build.
    Short,
    /// Every size everywhere, and GitHub's limit of a minute enforced, with two passes at once: that takes minutes.
    Full,
}

/// What was counted.
#[derive(Debug)]
pub struct Outcome {
    /// A line a scenario.
    pub table: Table,
    /// What is not as it should be; nothing where all budgets are kept.
    pub broken: Vec<String>,
}

/// Plays the scenarios with that binary, which is this crate's; `hear` is told of each at once.
///
/// # Errors
/// A pass could not be run at all.
pub async fn play(binary: &Path, extent: Extent, mut hear: impl FnMut(&str)) -> Result<Outcome, Failure> {
    let mut rows: Vec<Row> = Vec::new();
    let mut add = |row: Row| {
        hear(&format!("{}, {} runners: {}", row.scenario, row.size, row.counts));
        rows.push(row);
    };
    for jobs in BATCHES {
        add(a_batch(binary, jobs).await?);
        add(a_batch_again(binary, jobs).await?);
    }
    for size in SIZES {
        add(all_busy(binary, size).await?);
        add(all_busy_and_silent(binary, size).await?);
        add(half_idle_drain(binary, size).await?);
        add(drain_while_jobs_wait(binary, size).await?);
        add(an_hour_of_silence(binary, size).await?);
    }
    let sizes = match extent {
        Extent::Short => SIZES_OF_ACTS.as_slice(),
        Extent::Full => SIZES.as_slice(),
    };
    for size in sizes.iter().copied() {
        add(half_idle_control_plane(binary, size).await?);
        add(orphans(binary, size, 0).await?);
    }
    add(orphans(binary, 10, QUEUED).await?);
    add(a_search(binary, 1).await?);
    add(a_search(binary, SEARCHES_AN_HOUR).await?);
    if extent == Extent::Full {
        add(two_at_once_under_githubs_limit(binary).await?);
    }
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(["scenario", "runners", "GitHub calls", "EC2 calls", "DynamoDB calls", "budget", "met"]);
    table.add_rows(rows.iter().map(Row::cells));
    let broken = rows.iter().filter(|row| !row.is_met());
    let broken = broken.map(|row| format!("{}, {}: {}", row.scenario, row.size, row.counts)).collect();
    Ok(Outcome { table, broken })
}

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

/// How many of a batch's jobs are launched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Launches {
    ForAll,
    None,
}

/// A stage and what was counted on it so far.
struct Counted {
    stage: Stage,
    counts: Counts,
    wall_ms: usize,
    log_bytes: usize,
    mistakes: Vec<String>,
}

impl Counted {
    async fn new(binary: &Path, states: &[(State, usize)], timers: Timers, queued: usize) -> Result<Self, Failure> {
        Self::over(binary, Estate::new(states, timers, SystemClock.now()).with_queued(queued, SystemClock.now())).await
    }

    async fn of_batch(binary: &Path, jobs: usize) -> Result<Self, Failure> {
        let now = SystemClock.now();
        Self::over(binary, Estate::new(&[], Timers::Default, now).with_sent(jobs, now)).await
    }

    async fn over(binary: &Path, estate: Estate) -> Result<Self, Failure> {
        let stage = Stage::start(PathBuf::from(binary), estate, Duration::ZERO).await?;
        Ok(Self { stage, counts: Counts::default(), wall_ms: 0, log_bytes: 0, mistakes: Vec::new() })
    }

    /// One pass that waits for nobody's pace: what is counted is its calls.
    async fn pass(&mut self, function: Function) -> Result<(), Failure> {
        self.passes(function, 1).await
    }

    /// So many passes in one process, which remembers what it was shown.
    async fn passes(&mut self, function: Function, count: usize) -> Result<(), Failure> {
        let pass = self.stage.passes(function, Pace::Unlimited, count).await?;
        if pass.counts.of(Api::Unknown) > 0 {
            self.mistakes.push(format!("calls that the server does not speak: {}", pass.counts));
        }
        self.mistakes.extend(pass.measured.error);
        self.wall_ms += usize::try_from(pass.measured.wall_ms).unwrap_or(usize::MAX);
        self.log_bytes += pass.log_bytes;
        self.counts.extend(&pass.counts);
        Ok(())
    }

    /// Records and vital signs are read a hundred at a time, and written a hundred at a time where so many change.
    fn ledger(&self, size: usize, changed: usize) -> (&'static str, usize, usize) {
        let most = 2 * size.div_ceil(100) + changed.div_ceil(100) + LEDGER_BASE;
        ("DynamoDB", self.counts.of(Api::DynamoDb), most)
    }

    fn log(&self, size: usize) -> (&'static str, usize, usize) {
        ("log bytes", self.log_bytes, LOG_BYTES.0 * size + LOG_BYTES.1)
    }

    /// What is read again while a pass is long.
    fn renewed(&self, calls: usize) -> usize {
        calls * (self.wall_ms / RENEWED.1)
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

    /// What one batch may cost, after which there is exactly one instance with all it needs for each job.
    fn budget_of_batch(&mut self, jobs: usize, launches: Launches) -> Vec<(&'static str, usize, usize)> {
        let there = {
            let services = self.stage.server.services();
            let is_config = |name: &&String| name.starts_with(RUNNER_PARAMETER_PATH);
            let configurations = services.ssm.values.keys().filter(is_config).count();
            [services.ec2.instances.len(), services.github.runners.len(), configurations]
        };
        self.check(there == [jobs; 3], format!("{there:?} instances, registrations, configurations"));
        let (fleets, equipped) = match launches {
            Launches::ForAll => (1, jobs),
            Launches::None => (0, 0),
        };
        vec![
            // A word on each job, a configuration for each runner, a token.
            ("GitHub", self.github(), jobs + equipped + 1),
            ("CreateFleet", self.operation(Api::Ec2, "CreateFleet"), fleets),
            ("other EC2", self.counts.of(Api::Ec2) - self.operation(Api::Ec2, "CreateFleet"), 1),
            ("PutParameter", self.operation(Api::Ssm, "PutParameter"), equipped),
            ("DynamoDB", self.counts.of(Api::DynamoDb), LEDGER_OF_BATCH.0 * jobs + LEDGER_OF_BATCH.1),
        ]
    }

    fn row(self, scenario: &'static str, size: usize, budget: Vec<(&'static str, usize, usize)>) -> Row {
        Row { scenario, size, counts: self.counts, budget, mistakes: self.mistakes }
    }
}

/// A batch of jobs that nobody serves yet.
async fn a_batch(binary: &Path, jobs: usize) -> Result<Row, Failure> {
    let mut counted = Counted::of_batch(binary, jobs).await?;
    counted.pass(Function::ScaleUp).await?;
    let budget = counted.budget_of_batch(jobs, Launches::ForAll);
    Ok(counted.row("scale-up, a batch of jobs", jobs, budget))
}

/// The queue delivers at least once: what was launched the first time serves the jobs.
async fn a_batch_again(binary: &Path, jobs: usize) -> Result<Row, Failure> {
    let mut counted = Counted::of_batch(binary, jobs).await?;
    counted.pass(Function::ScaleUp).await?;
    counted.counts = Counts::default();
    counted.pass(Function::ScaleUp).await?;
    let budget = counted.budget_of_batch(jobs, Launches::None);
    Ok(counted.row("scale-up, the same batch again", jobs, budget))
}

/// Nothing is to be done, and nobody needs GitHub for it.
async fn all_busy(binary: &Path, size: usize) -> Result<Row, Failure> {
    let mut counted = Counted::new(binary, &[(State::Busy, size)], Timers::Default, 0).await?;
    counted.pass(Function::ScaleDown).await?;
    counted.check((counted.ended(), counted.registered()) == (0, size), "a busy runner was touched");
    let describes = counted.operation(Api::Ec2, "DescribeInstances");
    let budget = vec![
        ("GitHub", counted.github(), 0),
        ("Describe", describes, size.div_ceil(1_000)),
        counted.ledger(size, 0),
        counted.log(size),
    ];
    Ok(counted.row("scale-down, all busy and alive", size, budget))
}

/// The ledger knows every job, so GitHub need not be asked; the budget leaves room for one list.
async fn all_busy_and_silent(binary: &Path, size: usize) -> Result<Row, Failure> {
    let mut counted = Counted::new(binary, &[(State::BusySilent, size)], Timers::Default, 0).await?;
    counted.pass(Function::ScaleDown).await?;
    counted.check((counted.ended(), counted.registered()) == (0, size), "a busy runner was touched");
    let describes = counted.operation(Api::Ec2, "DescribeInstances");
    let budget = vec![
        ("GitHub", counted.github(), size.div_ceil(100) + 5),
        ("Describe", describes, size.div_ceil(1_000)),
        counted.ledger(size, 0),
        counted.log(size),
    ];
    Ok(counted.row("scale-down, all busy and silent", size, budget))
}

/// Idle instances that live are asked to stop, many in one call.
async fn half_idle_drain(binary: &Path, size: usize) -> Result<Row, Failure> {
    let idle = size / 2;
    let states = [(State::Busy, size - idle), (State::Idle, idle)];
    let mut counted = Counted::new(binary, &states, Timers::Default, 0).await?;
    counted.pass(Function::ScaleDown).await?;
    counted.check(counted.drained() == idle, format!("{} of {idle} were asked to drain", counted.drained()));
    counted.check((counted.ended(), counted.registered()) == (0, size), "a runner was touched");
    let tags = counted.operation(Api::Ec2, "CreateTags");
    let budget =
        vec![("GitHub", counted.github(), 0), ("CreateTags", tags, idle.div_ceil(1_000)), counted.ledger(size, idle)];
    Ok(counted.row("scale-down, half idle: drain", size, budget))
}

/// Jobs that were queued a moment ago may be given to any idle runner of their labels: none is drained.
async fn drain_while_jobs_wait(binary: &Path, size: usize) -> Result<Row, Failure> {
    let idle = size / 2;
    let states = [(State::Busy, size - idle), (State::Idle, idle)];
    let mut counted = Counted::new(binary, &states, Timers::Default, QUEUED).await?;
    counted.pass(Function::ScaleDown).await?;
    counted.check(counted.drained() == 0, format!("{} were asked to drain", counted.drained()));
    counted.check((counted.ended(), counted.registered()) == (0, size), "a runner was touched");
    let tags = counted.operation(Api::Ec2, "CreateTags");
    let budget =
        vec![("GitHub", counted.github(), 0), ("CreateTags", tags, 0), counted.ledger(size, 0), counted.log(size)];
    Ok(counted.row("scale-down, half idle, 20 jobs queued", size, budget))
}

/// From the first reading of GitHub to the last termination, over as many passes as the caps ask for.
async fn half_idle_control_plane(binary: &Path, size: usize) -> Result<Row, Failure> {
    let idle = size / 2;
    let states = [(State::BusySilent, size - idle), (State::IdleSilent, idle)];
    let mut counted = Counted::new(binary, &states, Timers::None, 0).await?;
    let mut passes = 0;
    while counted.ended() < idle && passes < PASSES_MAX {
        counted.pass(Function::ScaleDown).await?;
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
        ("token and delivery log", counted.github() - lists - each, 2 * passes + counted.renewed(1)),
        ("Terminate", counted.operation(Api::Ec2, "TerminateInstances"), idle),
    ];
    Ok(counted.row("scale-down, half idle: control plane", size, budget))
}

/// Sweeps until no orphan is left: each decides about all from lists, and ends a quarter of the fleet. As many others
/// live, for a list that misses most is not believed. The word on each that is ended, uncached and right before, belongs
/// to the act.
async fn orphans(binary: &Path, size: usize, queued: usize) -> Result<Row, Failure> {
    let states = [(State::Idle, size), (State::Orphan, size)];
    let mut counted = Counted::new(binary, &states, Timers::Default, queued).await?;
    let mut sweeps = 0;
    while counted.ended() < size && sweeps < PASSES_MAX {
        counted.pass(Function::OrphanSweeper).await?;
        sweeps += 1;
    }
    let ended = counted.ended();
    counted.check(ended == size, format!("{ended} of {size} ended in {sweeps} sweeps: some are abandoned"));
    counted.check(counted.registered() == size, "a living runner was deregistered");
    let each = counted.operation(Api::GitHub, "GET runner");
    let waiting = counted.operation(Api::GitHub, "GET job");
    // Fifteen for a thousand, whose list has ten pages.
    let a_sweep = size.div_ceil(100) + 5;
    let budget = vec![
        ("GitHub for the decisions", counted.github() - each - waiting, a_sweep * sweeps + counted.renewed(RENEWED.0)),
        ("GitHub for the jobs that wait", waiting, queued * sweeps + counted.renewed(queued)),
        ("GitHub for the acts", each, size),
        ("Terminate", counted.operation(Api::Ec2, "TerminateInstances"), size),
    ];
    let scenario =
        if queued == 0 { "orphan-sweeper, half orphans" } else { "orphan-sweeper, the same, 20 jobs queued" };
    Ok(counted.row(scenario, 2 * size, budget))
}

/// What an hour of busy runners with dead supervisors costs: scale-down every minute, orphan-sweeper every five.
async fn an_hour_of_silence(binary: &Path, size: usize) -> Result<Row, Failure> {
    let mut counted = Counted::new(binary, &[(State::BusySilent, size)], Timers::Default, 0).await?;
    counted.pass(Function::ScaleDown).await?;
    let scale_down = counted.github();
    counted.pass(Function::OrphanSweeper).await?;
    let sweeper = counted.github() - scale_down;
    counted.check((counted.ended(), counted.registered()) == (0, size), "a busy runner was touched");
    let an_hour = 60 * scale_down + 12 * sweeper;
    // 150 for a thousand; with five thousand each of the twelve lists has fifty pages.
    let most = 150.max(12 * (size.div_ceil(100) + 2));
    Ok(counted.row("an hour of both, all busy and silent", size, vec![("GitHub an hour", an_hour, most)]))
}

/// Nobody was told of two jobs in 200 repositories. The first search of a process is paid in full, the next ones of a
/// quiet hour are free but for what changed.
async fn a_search(binary: &Path, searches: usize) -> Result<Row, Failure> {
    const REPOSITORIES: usize = 200;
    let mut counted = Counted::new(binary, &[], Timers::Searching, 0).await?;
    {
        let mut services = counted.stage.server.services();
        let other = |number: usize| {
            let queued = (number % 100 == 7).then_some(number as u64);
            (format!("{}{number:03}", GitHub::OTHERS), queued)
        };
        services.github.others = (1..REPOSITORIES).map(other).collect();
    }
    counted.passes(Function::DemandReconciler, searches).await?;
    let sent = counted.stage.server.services().sqs.messages.len();
    // scale-up takes none of them here, so each search finds both again.
    counted.check(sent == 2 * searches, format!("{sent} jobs were sent in {searches} searches"));
    let lists = ["GET runs", "GET jobs of a run", "GET repositories"];
    let charged: usize = lists.iter().map(|list| counted.operation(Api::GitHub, list)).sum();
    let free: usize = lists.iter().map(|list| counted.operation(Api::GitHub, &format!("304 {list}"))).sum();
    let rest = counted.github() - charged - free;
    let budget = vec![
        ("charged", charged, 2 * REPOSITORIES + 2 + 2),
        ("free (304)", free, (searches - 1) * (2 * REPOSITORIES + 2 + 2)),
        // The App's own: its installations, its deliveries, a token.
        ("of the App", rest, 2 * searches + 1),
    ];
    let scenario =
        if searches == 1 { "demand-reconciler, a first search" } else { "demand-reconciler, 12 searches: an hour" };
    Ok(counted.row(scenario, REPOSITORIES, budget))
}

/// Two processes deregister at once at a GitHub that allows 900 points a minute: together they keep to it.
async fn two_at_once_under_githubs_limit(binary: &Path) -> Result<Row, Failure> {
    let size = 600;
    let states = [(State::BusySilent, size / 2), (State::IdleConfirmed, size / 2)];
    let counted = Counted::new(binary, &states, Timers::None, 0).await?;
    counted.stage.server.services().github.allow_a_minute(GitHub::POINTS_A_MINUTE);
    let pass = || counted.stage.pass(Function::ScaleDown, Pace::Published);
    let (one, other) = tokio::join!(pass(), pass());
    let (one, other) = (one?, other?);
    let mut counted = counted;
    // What one of them counts depends on which came first: together they made these calls.
    counted.counts.extend(&one.counts);
    counted.counts.extend(&other.counts);
    let refused = counted.stage.server.services().github.refused();
    let deleted = counted.operation(Api::GitHub, "DELETE runner");
    counted.check(deleted >= size / 4, format!("{deleted} deregistered"));
    Ok(counted.row("two scale-downs at once, 900 points a minute", size, vec![("refusals", refused, 0)]))
}
