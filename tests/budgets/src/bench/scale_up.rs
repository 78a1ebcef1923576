//! One batch of jobs that nobody serves yet, to instances with their configurations.

use std::path::Path;
use std::time::Duration;

use comfy_table::{Table, presets::ASCII_MARKDOWN};
use runner_scaler_adapters::SystemClock;
use runner_scaler_core::time::Clock as _;

use super::{Selection, mebibytes, outcome};
use crate::estate::{Estate, Timers};
use crate::pass::{Function, Pace};
use crate::process::{Failure, Pass, Stage};
use crate::server::{Api, GitHub, Throttle};

/// The longest that a batch of so many jobs may take where nothing limits it, in milliseconds (design section 12).
const GOALS_MS: [(usize, u64); 3] = [(1, 200), (10, 400), (100, 2_500)];

/// What one job costs of GitHub's points: a word on it, and a configuration for its runner.
const POINTS_A_JOB: u64 = 1 + 5;

/// What GitHub and SSM admit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Limits {
    /// Anything.
    None,
    /// 900 points a minute, and 3 puts a second.
    Published,
}

impl Limits {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Published => "published",
        }
    }

    fn pace(self) -> Pace {
        match self {
            Self::None => Pace::Unlimited,
            Self::Published => Pace::Published,
        }
    }

    fn impose(self, stage: &Stage) {
        match self {
            Self::None => {}
            Self::Published => {
                let mut services = stage.server.services();
                services.github.allow_a_minute(GitHub::POINTS_A_MINUTE);
                services.ssm.throttle = Some(Throttle::a_second(Throttle::PUTS_A_SECOND));
            }
        }
    }

    /// How long a batch may take, in milliseconds: 1.15 times what the slowest limit asks for where it admits nothing
    /// ahead, and never less than without limits. Nothing is said of a batch larger than a launch.
    fn goal_ms(self, jobs: usize) -> Option<u64> {
        let unlimited = GOALS_MS.iter().find(|(most, _)| jobs <= *most).map(|(_, goal)| *goal)?;
        let jobs = u64::try_from(jobs).ok()?;
        let github = jobs * POINTS_A_JOB * 60_000 / u64::from(GitHub::POINTS_A_MINUTE);
        let ssm = jobs * 1_000 / u64::from(Throttle::PUTS_A_SECOND);
        Some(match self {
            Self::None => unlimited,
            Self::Published => unlimited.max(github.max(ssm) * 115 / 100),
        })
    }
}

/// Measures the selection's batches, each in a fresh process over a fresh ledger.
pub(super) async fn run(binary: &Path, selection: &Selection, hear: &mut impl FnMut(&str)) -> Result<Table, Failure> {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header([
        "jobs",
        "limits",
        "ms a GitHub call",
        "wall, ms",
        "goal, ms",
        "GitHub calls",
        "CreateFleet",
        "PutParameter",
        "of them refused",
        "DynamoDB calls",
        "peak memory, MiB",
        "outcome",
    ]);
    for limits in &selection.limits {
        for jobs in &selection.batches {
            for delay_ms in &selection.delays_ms {
                let now = SystemClock.now();
                let estate = Estate::new(&[], Timers::Default, now).with_sent(*jobs, now);
                let stage = Stage::start(binary.to_owned(), estate, Duration::from_millis(*delay_ms)).await?;
                limits.impose(&stage);
                let pass = stage.pass(Function::ScaleUp, limits.pace()).await?;
                let (name, wall_ms) = (limits.name(), pass.measured.wall_ms);
                hear(&format!("{jobs} jobs, limits {name}, {delay_ms} ms a call: {wall_ms} ms; {}", pass.counts));
                let refused = stage.server.services().ssm.throttle.as_ref().map_or(0, Throttle::refused);
                table.add_row(row(*jobs, *limits, *delay_ms, &pass, refused));
            }
        }
    }
    Ok(table)
}

fn row(jobs: usize, limits: Limits, delay_ms: u64, pass: &Pass, refused: usize) -> [String; 12] {
    let Pass { measured, counts, .. } = pass;
    [
        jobs.to_string(),
        limits.name().to_owned(),
        delay_ms.to_string(),
        measured.wall_ms.to_string(),
        limits.goal_ms(jobs).map_or_else(|| "none".to_owned(), |goal| goal.to_string()),
        format!("{} of {}", counts.of(Api::GitHub), 2 * jobs + 1),
        counts.of_operation(Api::Ec2, "CreateFleet").to_string(),
        counts.of_operation(Api::Ssm, "PutParameter").to_string(),
        refused.to_string(),
        counts.of(Api::DynamoDb).to_string(),
        mebibytes(measured.peak_kib),
        measured.error.clone().unwrap_or_else(|| outcome(pass)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_goal_is_that_of_the_slowest_limit_and_never_below_the_one_without() {
        for (limits, jobs, expected) in [
            (Limits::None, 1, Some(200)),
            (Limits::None, 10, Some(400)),
            (Limits::None, 11, Some(2_500)),
            (Limits::None, 101, None),
            (Limits::Published, 1, Some(460)),
            (Limits::Published, 10, Some(4_600)),
            (Limits::Published, 100, Some(46_000)),
        ] {
            assert_eq!(limits.goal_ms(jobs), expected, "{jobs} jobs, limits {}", limits.name());
        }
    }
}
