//! What the process of its own does: one pass or batch over the real adapters, or storing records for one.
//!
//! It reads its environment as a function does, and says on the last line of its standard output what it measured; the
//! lines before are the pass's own logs.

use std::io::{BufRead as _, Write as _};

use runner_scaler_adapters::{Adapters, SystemClock, process_env, telemetry};
use runner_scaler_core::config::Environment;
use runner_scaler_core::ledger::{InstanceRecord, Versioned};
use runner_scaler_core::ports::{Ledger as _, Write};
use runner_scaler_core::scale_up::{self, Outcome, QueueMessage};
use runner_scaler_core::time::{Clock as _, Deadline, Timestamp};
use runner_scaler_core::{orphan, removal};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::process::Failure;

/// The longest that Lambda lets a function run: what is measured is the work, not where it is cut.
const TIME_MAX: std::time::Duration = std::time::Duration::from_mins(15);

/// Items of one transaction, the most that `DynamoDB` takes.
const TRANSACTION_MAX: usize = 100;

/// Whose pass it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Function {
    /// scale-down
    ScaleDown,
    /// orphan-sweeper
    OrphanSweeper,
    /// scale-up, for the job messages on the standard input, one in JSON a line.
    ScaleUp,
}

impl Function {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ScaleDown => "scale-down",
            Self::OrphanSweeper => "orphan-sweeper",
            Self::ScaleUp => "scale-up",
        }
    }
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

/// Runs one pass of that function and writes what was measured.
///
/// # Errors
/// The environment or the configuration document is wrong. A pass that failed is measured and no error.
pub async fn run(function: Function) -> Result<(), Failure> {
    telemetry::init(function.name());
    let messages = match function {
        Function::ScaleDown | Function::OrphanSweeper => Vec::new(),
        Function::ScaleUp => messages()?,
    };
    let environment = Environment::from_vars(process_env).map_err(Failure::inside("environment"))?;
    let adapters = Adapters::connect(environment, function.name()).await;
    let begun_at = SystemClock.now();
    let deadline = Deadline::of(begun_at, begun_at.plus(TIME_MAX));
    let policy = adapters.policy().await.map_err(Failure::inside("configuration"))?;
    let outcome = match function {
        Function::ScaleDown => removal::run_pass(&adapters, &policy, deadline).await,
        Function::OrphanSweeper => orphan::run_pass(&adapters, &policy, deadline).await,
        Function::ScaleUp => {
            adapters.learn_account(FUNCTION_ARN);
            let outcomes = scale_up::handle_batch(&adapters, &policy, messages, deadline).await;
            return write(begun_at, outcomes_of(&outcomes), None);
        }
    };
    let (report, error) = match &outcome {
        Ok(report) => (serde_json::to_value(report).map_err(Failure::inside("report"))?, None),
        Err(failed) => (Value::Null, Some(failed.to_string())),
    };
    telemetry::emit(&policy.deployment, function.name(), &removal::metrics_of(&outcome));
    write(begun_at, report, error)
}

/// Tells what was measured, on the last line.
fn write(begun_at: Timestamp, report: Value, error: Option<String>) -> Result<(), Failure> {
    let wall_ms = u64::try_from(SystemClock.now().since(begun_at).as_millis()).unwrap_or(u64::MAX);
    let measured = Measured { wall_ms, peak_kib: peak_kib()?, report, error };
    let line = serde_json::to_string(&measured).map_err(Failure::inside("measurement"))?;
    writeln!(std::io::stdout(), "{line}").map_err(Failure::inside("standard output"))
}

/// The function's ARN as Lambda tells it: each JIT configuration is tagged with its instance's.
const FUNCTION_ARN: &str = "arn:aws:lambda:eu-west-1:123456789012:function:scale-up";

fn messages() -> Result<Vec<QueueMessage>, Failure> {
    let lines = std::io::stdin().lock().lines().zip(1..);
    let message = |(line, number): (std::io::Result<String>, u32)| {
        Ok(QueueMessage { message_id: format!("m{number}"), body: line.map_err(Failure::inside("standard input"))? })
    };
    lines.map(message).collect()
}

/// How many messages ended how.
fn outcomes_of(outcomes: &[(String, Outcome)]) -> Value {
    let (mut launched, mut waiting, mut other, mut failures) = (0, 0, 0, Vec::new());
    for (_, outcome) in outcomes {
        match outcome {
            Outcome::Launched => launched += 1,
            Outcome::Waiting => waiting += 1,
            Outcome::AlreadyServed | Outcome::NotQueued => other += 1,
            Outcome::Failed(why) => failures.push(why),
        }
    }
    let failed_count = failures.len();
    json!({ "launched_count": launched, "waiting_count": waiting, "other_count": other, "failed_count": failed_count,
        "failures": failures })
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
        let record: InstanceRecord = serde_json::from_str(&line).map_err(Failure::inside("record"))?;
        writes.push(Versioned::new(record).write());
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
