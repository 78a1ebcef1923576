//! What the process of its own does: one pass over the real adapters, or one batch of scale-up, or storing records for
//! one.
//!
//! It reads its environment as a function does, and says on the last line of its standard output what it measured; the
//! lines before are the pass's own logs.

use std::collections::BTreeMap;
use std::io::{BufRead as _, Write as _};

use runner_scaler_adapters::{Adapters, SystemClock, process_env, telemetry};
use runner_scaler_core::config::Environment;
use runner_scaler_core::ledger::{InstanceRecord, JobRecord, Versioned};
use runner_scaler_core::ports::{Ledger as _, Write};
use runner_scaler_core::scale_up::{Outcome, QueueMessage, handle_batch};
use runner_scaler_core::time::{Clock as _, Deadline};
use runner_scaler_core::{demand, orphan, removal};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::process::Failure;

/// The longest that Lambda lets a function run: what is measured is the work, not where it is cut.
const TIME_MAX: std::time::Duration = std::time::Duration::from_mins(15);

/// As an invocation says it: the configurations' tags name the account.
const FUNCTION_ARN: &str = "arn:aws:lambda:eu-west-1:123456789012:function:scale-up";

/// Items of one transaction, the most that `DynamoDB` takes.
const TRANSACTION_MAX: usize = 100;

/// Whose pass it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Function {
    /// scale-down
    ScaleDown,
    /// orphan-sweeper
    OrphanSweeper,
    /// demand-reconciler
    DemandReconciler,
    /// scale-up, whose pass is one batch: the jobs on the standard input, one in JSON a line.
    ScaleUp,
}

impl Function {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ScaleDown => "scale-down",
            Self::OrphanSweeper => "orphan-sweeper",
            Self::DemandReconciler => "demand-reconciler",
            Self::ScaleUp => "scale-up",
        }
    }
}

/// How fast GitHub may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Pace {
    /// As GitHub publishes it.
    Published,
    /// As fast as it answers: where calls are counted and not timed.
    Unlimited,
}

/// Points a minute that no process comes near.
const UNLIMITED: u32 = 100_000_000;

/// What is stored before a pass, one a line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Line {
    Instance(Box<InstanceRecord>),
    Job(Box<JobRecord>),
}

/// What one pass was like from the inside.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// From before the policy was read to the end of the pass, in milliseconds.
    pub wall_ms: u64,
    /// The most memory that the process ever held, in KiB (`VmHWM`).
    pub peak_kib: u64,
    /// The pass's report; null where it failed.
    pub report: Value,
    /// Why it failed, where it did.
    pub error: Option<String>,
}

/// Runs so many passes of that function, at least one, and writes what was measured of the last: a warm process remembers
/// what it was shown.
///
/// # Errors
/// The environment or the configuration document is wrong. A pass that failed is measured and no error.
pub async fn run(function: Function, pace: Pace, passes: usize) -> Result<(), Failure> {
    let mut measured = None;
    telemetry::init(function.name());
    let environment = Environment::from_vars(process_env).map_err(Failure::inside("environment"))?;
    let adapters = Adapters::connect(environment, function.name()).await;
    let adapters = match pace {
        Pace::Published => adapters,
        Pace::Unlimited => adapters.at_pace(UNLIMITED),
    };
    let messages = match function {
        Function::ScaleUp => {
            adapters.learn_account(FUNCTION_ARN);
            messages()?
        }
        Function::ScaleDown | Function::OrphanSweeper | Function::DemandReconciler => Vec::new(),
    };
    for _ in 0..passes.max(1) {
        measured = Some(one(function, &adapters, messages.clone()).await?);
    }
    let line = serde_json::to_string(&measured).map_err(Failure::inside("measurement"))?;
    writeln!(std::io::stdout(), "{line}").map_err(Failure::inside("standard output"))
}

async fn one(function: Function, adapters: &Adapters, messages: Vec<QueueMessage>) -> Result<Measured, Failure> {
    let begun_at = SystemClock.now();
    let deadline = Deadline::of(begun_at, begun_at.plus(TIME_MAX));
    let policy = adapters.policy().await.map_err(Failure::inside("configuration"))?;
    let of_removal = |outcome| (Some(removal::metrics_of(&outcome)), told(outcome));
    let (metrics, told) = match function {
        Function::ScaleDown => of_removal(removal::run_pass(adapters, &policy, deadline).await),
        Function::OrphanSweeper => of_removal(orphan::run_pass(adapters, &policy, deadline).await),
        Function::DemandReconciler => {
            let outcome = demand::run_pass(adapters, &policy, deadline).await;
            (Some(demand::metrics_of(&outcome)), told(outcome))
        }
        // It has no metrics of its own: the queue's say how it does.
        Function::ScaleUp => {
            let outcomes = handle_batch(adapters, &policy, messages, deadline).await;
            (None, Ok(told_of_batch(outcomes)))
        }
    };
    let wall_ms = u64::try_from(SystemClock.now().since(begun_at).as_millis()).unwrap_or(u64::MAX);
    if let Some(metrics) = metrics {
        telemetry::emit(&policy.deployment, function.name(), &metrics);
    }
    let (report, error) = told?;
    Ok(Measured { wall_ms, peak_kib: peak_kib()?, report, error })
}

/// The lines of the standard input as the queue hands them over.
fn messages() -> Result<Vec<QueueMessage>, Failure> {
    let message = |(number, line): (usize, std::io::Result<String>)| {
        let body = line.map_err(Failure::inside("standard input"))?;
        Ok(QueueMessage { message_id: format!("m-{number}"), body })
    };
    std::io::stdin().lock().lines().enumerate().map(message).collect()
}

/// How many messages had each outcome, and the first reason why one comes back.
fn told_of_batch(outcomes: Vec<(String, Outcome)>) -> (Value, Option<String>) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut error = None;
    for (message_id, outcome) in outcomes {
        let count = match outcome {
            Outcome::Launched => "launched_count",
            Outcome::AlreadyServed => "already_served_count",
            Outcome::NotQueued => "not_queued_count",
            Outcome::Waiting => "waiting_count",
            Outcome::Failed(why) => {
                error.get_or_insert(format!("{message_id} comes back: {why}"));
                "failed_count"
            }
        };
        *counts.entry(count).or_default() += 1;
    }
    (serde_json::json!(counts), error)
}

/// A pass's report, or why it failed.
fn told<E: std::error::Error>(outcome: Result<impl Serialize, E>) -> Result<(Value, Option<String>), Failure> {
    Ok(match outcome {
        Ok(report) => (serde_json::to_value(report).map_err(Failure::inside("report"))?, None),
        Err(failed) => (Value::Null, Some(failed.to_string())),
    })
}

/// Stores the records on the standard input, one in JSON a line, as the adapters store them: what a pass then reads is
/// what scale-up and the webhook would have left.
///
/// # Errors
/// The input is no records, or the ledger refused them.
pub async fn store() -> Result<(), Failure> {
    let environment = Environment::from_vars(process_env).map_err(Failure::inside("environment"))?;
    let adapters = Adapters::connect(environment, "scale-up").await;
    let mut writes: Vec<Write> = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(Failure::inside("standard input"))?;
        writes.push(match serde_json::from_str(&line).map_err(Failure::inside("record"))? {
            Line::Instance(record) => Versioned::new(*record).write(),
            Line::Job(record) => Versioned::new(*record).write(),
        });
    }
    for chunk in writes.chunks(TRANSACTION_MAX) {
        adapters.write(chunk).await.map_err(Failure::inside("ledger"))?;
    }
    Ok(())
}

fn peak_kib() -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(Failure::inside("/proc/self/status"))?;
    high_water_kib(&status).ok_or_else(|| Failure::inside("/proc/self/status")("no VmHWM"))
}

fn high_water_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_water_mark_is_read_from_the_kernels_words() {
        assert_eq!(high_water_kib("VmPeak:\t   99999 kB\nVmHWM:\t    7520 kB\nVmRSS:\t 7000 kB\n"), Some(7_520));
        assert_eq!(high_water_kib("Name:\tbudgets\n"), None);
    }
}
