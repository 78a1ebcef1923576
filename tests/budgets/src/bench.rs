//! The benchmarks: one scale-down pass over many runners of which half are busy; one batch of scale-up.

use std::path::Path;
use std::time::Duration;

use comfy_table::{Table, presets::ASCII_MARKDOWN};
use runner_scaler_adapters::SystemClock;
use runner_scaler_core::time::Clock as _;

use crate::estate::{Estate, State, Timers, queued};
use crate::pass::Function;
use crate::process::{Failure, Pass, Stage};
use crate::server::Api;

/// What the idle half of the runners is like, and so what the pass does with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Road {
    /// Alive: asked to drain, in few calls, none of them GitHub's.
    Drain,
    /// Silent, GitHub not asked yet: read from one list, and noted.
    FirstReading,
    /// Silent and idle for long: deregistered, as many as the cap allows, at the pace that GitHub allows.
    ControlPlane,
}

impl Road {
    fn name(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::FirstReading => "first reading",
            Self::ControlPlane => "control plane",
        }
    }

    /// The busy half and the idle one.
    fn states(self) -> (State, State) {
        match self {
            Self::Drain => (State::Busy, State::Idle),
            Self::FirstReading => (State::BusySilent, State::IdleSilent),
            Self::ControlPlane => (State::BusySilent, State::IdleConfirmed),
        }
    }
}

/// What is measured: every combination of these.
#[derive(Clone, Debug, clap::Args)]
pub struct Selection {
    /// What becomes of the idle half; at GitHub's pace, `control-plane` takes minutes with 1,000 runners.
    #[arg(long = "road", value_enum, default_values = ["drain", "first-reading", "control-plane"])]
    roads: Vec<Road>,
    /// Runners, half of them busy.
    #[arg(long = "runners", value_name = "N", default_values_t = [1_000, 5_000])]
    sizes: Vec<usize>,
    /// Milliseconds that each call of GitHub takes.
    #[arg(long = "github-ms", value_name = "MS", default_values_t = [0, 50])]
    delays_ms: Vec<u64>,
}

/// What is measured of scale-up: every combination of these.
#[derive(Clone, Debug, clap::Args)]
pub struct LaunchSelection {
    /// Queued jobs in one batch.
    #[arg(long = "jobs", value_name = "N", default_values_t = [1, 10, 100])]
    sizes: Vec<u64>,
    /// Milliseconds that each call of GitHub takes.
    #[arg(long = "github-ms", value_name = "MS", default_values_t = [0, 50])]
    delays_ms: Vec<u64>,
    /// With the limits of the real services: 900 points a minute at GitHub, three puts a second at SSM. A hundred jobs
    /// then take half a minute.
    #[arg(long)]
    limits: bool,
    /// Repetitions of each; the fastest counts, for a busy machine only ever slows one down.
    #[arg(long = "times", value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    times: u32,
}

/// So many points a minute that nobody waits: a pace is not what is measured.
pub const UNPACED: u32 = 1_000_000;

/// SSM's default throughput for `PutParameter` (facts of its quotas, read 2026-11-20).
const PUTS_A_SECOND: u32 = 3;

/// Measures batches of scale-up and returns the table; `hear` is told of each measurement at once.
///
/// # Errors
/// A batch could not be run at all; one whose messages failed says so in the table.
pub async fn run_scale_up(
    binary: &Path,
    selection: &LaunchSelection,
    mut hear: impl FnMut(&str),
) -> Result<Table, Failure> {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header([
        "jobs",
        "ms a GitHub call",
        "limits",
        "wall, ms",
        "goal, ms",
        "GitHub calls (most)",
        "CreateFleet",
        "PutParameter",
        "DynamoDB calls",
        "peak memory, MiB",
        "outcome",
    ]);
    for size in &selection.sizes {
        for delay_ms in &selection.delays_ms {
            let mut best: Option<Pass> = None;
            for _ in 0..selection.times {
                let batch = scale_up(binary, *size, *delay_ms, selection.limits).await?;
                hear(&format!("{size} jobs, {delay_ms} ms a call: {} ms; {}", batch.measured.wall_ms, batch.counts));
                if best.as_ref().is_none_or(|best| batch.measured.wall_ms < best.measured.wall_ms) {
                    best = Some(batch);
                }
            }
            if let Some(batch) = best {
                table.add_row(launch_row(*size, *delay_ms, selection.limits, &batch));
            }
        }
    }
    Ok(table)
}

async fn scale_up(binary: &Path, size: u64, delay_ms: u64, limits: bool) -> Result<Pass, Failure> {
    let (mut estate, messages) = queued(size, SystemClock.now());
    estate.services.ssm.puts_a_second = limits.then_some(PUTS_A_SECOND);
    let mut stage = Stage::start(binary.to_owned(), estate, Duration::from_millis(delay_ms)).await?;
    stage.points_per_minute = (!limits).then_some(UNPACED);
    stage.batch(&messages).await
}

fn launch_row(size: u64, delay_ms: u64, limits: bool, batch: &Pass) -> [String; 11] {
    let Pass { measured, counts, .. } = batch;
    [
        size.to_string(),
        delay_ms.to_string(),
        if limits { "GitHub's and SSM's" } else { "none" }.to_owned(),
        measured.wall_ms.to_string(),
        goal_ms(size, limits).to_string(),
        format!("{} ({})", counts.of(Api::GitHub), 2 * size + 1),
        counts.of_operation(Api::Ec2, "CreateFleet").to_string(),
        counts.of_operation(Api::Ssm, "PutParameter").to_string(),
        counts.of(Api::DynamoDb).to_string(),
        mebibytes(measured.peak_kib),
        measured.error.clone().unwrap_or_else(|| outcome(batch)),
    ]
}

/// The goal of design section 12: 0.2, 0.4 and 2.5 s for 1, 10 and 100 jobs, in between and beyond in proportion; with
/// limits 1.15 times what the slowest of them asks for, SSM's puts, where that is longer.
fn goal_ms(jobs: u64, limits: bool) -> u64 {
    let without = match jobs {
        ..=1 => 200,
        2..=10 => 200 + (jobs - 1) * 200 / 9,
        _ => 400 + (jobs - 10) * 2_100 / 90,
    };
    let puts = u64::from(PUTS_A_SECOND);
    if limits { without.max(jobs.saturating_sub(puts) * 1_150 / puts) } else { without }
}

fn mebibytes(kib: u64) -> String {
    format!("{}.{}", kib / 1_024, kib % 1_024 * 10 / 1_024)
}

/// Measures the selection and returns the table; `hear` is told of each measurement at once, for some take minutes.
///
/// # Errors
/// A pass could not be run at all; one that failed has its error in the table.
pub async fn run(binary: &Path, selection: &Selection, mut hear: impl FnMut(&str)) -> Result<Table, Failure> {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header([
        "road",
        "runners",
        "ms a GitHub call",
        "wall, ms",
        "GitHub calls",
        "AWS calls",
        "peak memory, MiB",
        "log, bytes a runner",
        "outcome",
    ]);
    for road in &selection.roads {
        for size in &selection.sizes {
            for delay_ms in &selection.delays_ms {
                let (busy, idle) = road.states();
                let states = [(busy, size - size / 2), (idle, size / 2)];
                let estate = Estate::new(&states, Timers::Default, SystemClock.now());
                let stage = Stage::start(binary.to_owned(), estate, Duration::from_millis(*delay_ms)).await?;
                let pass = stage.pass(Function::ScaleDown).await?;
                let (name, wall_ms) = (road.name(), pass.measured.wall_ms);
                hear(&format!("{name}, {size} runners, {delay_ms} ms a call: {wall_ms} ms; {}", pass.counts));
                table.add_row(row(name, *size, *delay_ms, &pass));
            }
        }
    }
    Ok(table)
}

fn row(road: &str, size: usize, delay_ms: u64, pass: &Pass) -> [String; 9] {
    let Pass { measured, counts, log_bytes } = pass;
    [
        road.to_owned(),
        size.to_string(),
        delay_ms.to_string(),
        measured.wall_ms.to_string(),
        counts.of(Api::GitHub).to_string(),
        counts.aws().to_string(),
        mebibytes(measured.peak_kib),
        (log_bytes / size.max(1)).to_string(),
        measured.error.clone().unwrap_or_else(|| outcome(pass)),
    ]
}

/// What the pass did, from its report: each count that is not zero.
fn outcome(pass: &Pass) -> String {
    let counts = pass.measured.report.as_object().into_iter().flatten();
    let done: Vec<String> = counts
        .filter(|(name, count)| name.ends_with("_count") && count.as_u64().is_some_and(|count| count > 0))
        .map(|(name, count)| format!("{} {count}", name.trim_end_matches("_count")))
        .collect();
    done.join(", ")
}
