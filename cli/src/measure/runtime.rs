//! A minimal Lambda Runtime API: hands one event to one fresh process and times its answer.
//!
//! The protocol is AWS's "Using the Lambda runtime API" (docs.aws.amazon.com/lambda, read 2026-11-20), as far as one
//! invocation needs it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use runner_scaler_world::http::server::wall_now;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::oneshot;

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
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(Failure::io("cannot listen on loopback"))?;
    let address = listener.local_addr().map_err(Failure::io("cannot listen on loopback"))?;
    let (answered, answer) = oneshot::channel();
    let invocation =
        Arc::new(Invocation { event: Mutex::new(Some(event.to_string())), answered: Mutex::new(Some(answered)) });
    let server = tokio::spawn(async move {
        let _stopped = axum::serve(listener, router(invocation)).await;
    });
    let mut command = command(subject, &address.to_string());
    let started = system::now();
    let mut process = ProcessGroup::spawn(&mut command, subject.log)?;
    let late = || Failure::Late {
        what: format!("{} did not answer", subject.function.name()),
        seconds: ANSWER_MAX.as_secs(),
        log: subject.log.display().to_string(),
    };
    let answer = tokio::select! {
        answer = tokio::time::timeout(ANSWER_MAX, answer) => answer.map_err(|_| late())?.map_err(|_| late())?,
        () = process.wait() => return Err(Failure::Program {
            program: subject.function.name().to_owned(),
            output: format!("it ended without an answer; see {}", subject.log.display()),
        }),
    };
    let peak_kib = peak_kib(process.id())?;
    server.abort();
    Ok(Sample { start_to_answer: answer.at.duration_since(started), peak_kib, answer: answer.result })
}

struct Answer {
    at: Instant,
    result: Result<Value, String>,
}

struct Invocation {
    event: Mutex<Option<String>>,
    answered: Mutex<Option<oneshot::Sender<Answer>>>,
}

impl Invocation {
    fn answer(&self, result: Result<Value, String>) {
        let at = system::now();
        let sender = self.answered.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            // Nobody waits any more only when the measurement was given up.
            let _given_up = sender.send(Answer { at, result });
        }
    }
}

fn router(invocation: Arc<Invocation>) -> Router {
    Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next))
        .route("/2018-06-01/runtime/invocation/{id}/{kind}", post(finish))
        .route("/2018-06-01/runtime/init/error", post(init_error))
        .with_state(invocation)
}

async fn next(State(invocation): State<Arc<Invocation>>) -> Response {
    let event = invocation.event.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(event) = event else {
        // There is no second event: the process waits here, as between invocations, until it is ended.
        return std::future::pending().await;
    };
    let deadline_ms = wall_now() + 60_000;
    let function = format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:measured");
    let headers = [
        ("lambda-runtime-aws-request-id", "00000000-0000-4000-8000-000000000001".to_owned()),
        ("lambda-runtime-deadline-ms", deadline_ms.to_string()),
        ("lambda-runtime-invoked-function-arn", function),
        ("content-type", "application/json".to_owned()),
    ];
    (headers, event).into_response()
}

async fn finish(
    State(invocation): State<Arc<Invocation>>,
    UrlPath((_id, kind)): UrlPath<(String, String)>,
    body: String,
) -> StatusCode {
    if kind == "response" {
        let value = serde_json::from_str(&body).unwrap_or(Value::String(body));
        invocation.answer(Ok(value));
    } else {
        invocation.answer(Err(body));
    }
    StatusCode::ACCEPTED
}

async fn init_error(State(invocation): State<Arc<Invocation>>, body: String) -> StatusCode {
    invocation.answer(Err(body));
    StatusCode::ACCEPTED
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
