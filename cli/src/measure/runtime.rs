//! Hands one event to one fresh process, over the world's Runtime API, and times its answer.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use runner_scaler_world::http::lambda::LambdaHost;
use serde_json::Value;
use tokio::process::Command;

use crate::failure::Failure;
use crate::functions::Function;
use crate::local::emulator::{ACCOUNT, REGION};
use crate::local::processes::ProcessGroup;
use crate::system;

/// How long one invocation may take before the measurement gives up.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// What one fresh process did.
#[derive(Debug)]
pub(crate) struct Sample {
    /// From before the process was started until it asked for an event: what Lambda bills as the init phase.
    pub(crate) start_to_ready: Duration,
    /// From before the process was started until its answer had arrived.
    pub(crate) start_to_answer: Duration,
    /// The most memory it ever held, in KiB (`VmHWM`).
    pub(crate) peak_kib: u64,
    /// Its answer; an error when the function reported one.
    pub(crate) answer: Result<Value, String>,
}

/// A process to measure.
#[derive(Debug)]
pub(crate) struct Subject<'a> {
    /// The function.
    pub(crate) function: Function,
    /// Its binary.
    pub(crate) binary: &'a Path,
    /// Its environment, but for what Lambda sets.
    pub(crate) variables: &'a BTreeMap<String, String>,
    /// `AWS_ENDPOINT_URL`.
    pub(crate) endpoint: &'a str,
    /// Where its output goes.
    pub(crate) log: &'a Path,
}

/// Starts the process, hands it the event and ends it after its answer.
pub(crate) async fn invoke_fresh(subject: &Subject<'_>, event: &Value) -> Result<Sample, Failure> {
    let function_arn = format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:measured");
    let host = LambdaHost::start(function_arn).await.map_err(Failure::io("cannot listen on loopback"))?;
    let mut command = command(subject, host.runtime_api());
    let started = system::now();
    let mut process = ProcessGroup::spawn(&mut command, subject.log)?;
    let late = || Failure::Late {
        what: format!("{} did not answer", subject.function.name()),
        seconds: ANSWER_MAX.as_secs(),
        log: subject.log.display().to_string(),
    };
    let answered = async {
        host.asked().await;
        (system::now().duration_since(started), host.invoke(event).await)
    };
    let (start_to_ready, answer) = tokio::select! {
        answered = tokio::time::timeout(ANSWER_MAX, answered) => answered.map_err(|_| late())?,
        () = process.wait() => return Err(Failure::Program {
            program: subject.function.name().to_owned(),
            output: format!("it ended without an answer; see {}", subject.log.display()),
        }),
    };
    let start_to_answer = system::now().duration_since(started);
    Ok(Sample { start_to_ready, start_to_answer, peak_kib: peak_kib(process.id())?, answer })
}

fn command(subject: &Subject<'_>, runtime_api: &str) -> Command {
    let mut command = Command::new(subject.binary);
    command
        .env_clear()
        .envs(subject.variables)
        .env("AWS_ENDPOINT_URL", subject.endpoint)
        .env("AWS_ACCESS_KEY_ID", ACCOUNT)
        .env("AWS_SECRET_ACCESS_KEY", "local")
        .env("AWS_REGION", REGION)
        .env("AWS_DEFAULT_REGION", REGION)
        .env("AWS_LAMBDA_RUNTIME_API", runtime_api)
        .env("AWS_LAMBDA_FUNCTION_NAME", subject.function.name())
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
        .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
        .env("AWS_LAMBDA_LOG_GROUP_NAME", "measure")
        .env("AWS_LAMBDA_LOG_STREAM_NAME", "measure")
        .env("_HANDLER", "bootstrap");
    command
}

fn peak_kib(process: u32) -> Result<u64, Failure> {
    let path = format!("/proc/{process}/status");
    let status = std::fs::read_to_string(&path).map_err(Failure::io(format!("cannot read {path}")))?;
    high_water_kib(&status).ok_or(Failure::Shape { what: path })
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
        let status = "Name:\twebhook\nVmPeak:\t   99999 kB\nVmHWM:\t    7520 kB\nVmRSS:\t 7000 kB\n";
        assert_eq!(high_water_kib(status), Some(7520));
        assert_eq!(high_water_kib("Name:\twebhook\n"), None);
    }
}
