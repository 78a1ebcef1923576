//! The benchmark: one scale-down pass over many runners of which half are busy, and one batch of scale-up.

mod scale_up;

use std::path::Path;
use std::time::Duration;

use comfy_table::{Table, presets::ASCII_MARKDOWN};
use runner_scaler_adapters::SystemClock;
use runner_scaler_core::time::Clock as _;

use crate::estate::{Estate, State, Timers};
use crate::pass::{Function, Pace};
use crate::process::{Failure, Pass, Stage};
use crate::server::Api;

/// Whose work is measured, a table each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Work {
    /// One pass.
    ScaleDown,
    /// One batch.
    ScaleUp,
}

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
    /// Whose work.
    #[arg(long = "work", value_enum, default_values = ["scale-down", "scale-up"])]
    works: Vec<Work>,
    /// What becomes of the idle half; at GitHub's pace, `control-plane` takes minutes with 1,000 runners.
    #[arg(long = "road", value_enum, default_values = ["drain", "first-reading", "control-plane"])]
    roads: Vec<Road>,
    /// Runners, half of them busy.
    #[arg(long = "runners", value_name = "N", default_values_t = [1_000, 5_000])]
    sizes: Vec<usize>,
    /// Jobs in a batch of scale-up.
    #[arg(long = "jobs", value_name = "N", default_values_t = [1, 10, 100])]
    batches: Vec<usize>,
    /// What GitHub and SSM admit of scale-up; `published` takes minutes with 100 jobs.
    #[arg(long = "limits", value_enum, default_values = ["none", "published"])]
    limits: Vec<scale_up::Limits>,
    /// Milliseconds that each call of GitHub takes.
    #[arg(long = "github-ms", value_name = "MS", default_values_t = [0, 50])]
    delays_ms: Vec<u64>,
}

/// Measures the selection and returns a table each; `hear` is told of each measurement at once, for some take minutes.
///
/// # Errors
/// A pass could not be run at all; one that failed has its error in the table.
pub async fn run(binary: &Path, selection: &Selection, mut hear: impl FnMut(&str)) -> Result<Vec<Table>, Failure> {
    let mut tables = Vec::new();
    for work in &selection.works {
        tables.push(match work {
            Work::ScaleDown => scale_down(binary, selection, &mut hear).await?,
            Work::ScaleUp => scale_up::run(binary, selection, &mut hear).await?,
        });
    }
    Ok(tables)
}

async fn scale_down(binary: &Path, selection: &Selection, hear: &mut impl FnMut(&str)) -> Result<Table, Failure> {
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
                let pass = stage.pass(Function::ScaleDown, Pace::Published).await?;
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

fn mebibytes(kib: u64) -> String {
    format!("{}.{}", kib / 1_024, kib % 1_024 * 10 / 1_024)
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
