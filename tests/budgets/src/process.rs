//! A server over an estate, and the processes that talk to it.

use std::fmt::Display;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use runner_scaler_core::ledger::InstanceRecord;
use runner_scaler_core::scale_up::JobMessage;
use serde::Serialize;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::estate::{
    CONFIG_PARAMETER, DEPLOYMENT, Estate, GITHUB_APP_PATH, KILL_SWITCH_PARAMETER, LEDGER_TABLE, RUNNER_PARAMETER_PATH,
    VITAL_SIGNS_TABLE,
};
use crate::pass::{Function, Measured};
use crate::server::{CountingServer, Counts};

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Something on this machine failed.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// Something inside the process of a pass failed.
    #[error("{what}: {why}")]
    Inside {
        /// What.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// The process ended without a measurement.
    #[error("{what} ended without a measurement: {output}")]
    Process {
        /// What it was to do.
        what: String,
        /// Its words on the standard error.
        output: String,
    },
}

impl Failure {
    /// For `map_err`, inside the process of a pass.
    pub(crate) fn inside<E: Display>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Inside { what, why: error.to_string() }
    }

    fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// One pass, measured from both sides.
#[derive(Debug)]
pub struct Pass {
    /// From the inside.
    pub measured: Measured,
    /// Its calls.
    pub counts: Counts,
    /// How many bytes it logged.
    pub log_bytes: usize,
}

/// A served estate.
#[derive(Debug)]
pub struct Stage {
    /// The server.
    pub server: CountingServer,
    binary: PathBuf,
    /// `GITHUB_POINTS_PER_MINUTE`, where the pace is not GitHub's own limit.
    pub points_per_minute: Option<u32>,
}

impl Stage {
    /// Serves the estate, with that time for a call of GitHub, and has its records stored; `binary` is this crate's.
    ///
    /// # Errors
    /// There is no port, or the records cannot be stored.
    pub async fn start(binary: PathBuf, estate: Estate, github_delay: Duration) -> Result<Self, Failure> {
        let Estate { mut services, records } = estate;
        services.github_delay = github_delay;
        let server = CountingServer::start(services).await.map_err(Failure::io("cannot listen on loopback"))?;
        let stage = Self { server, binary, points_per_minute: None };
        stage.store(&records).await?;
        // Storing is not the pass's doing.
        let _stored = stage.server.take_counts();
        Ok(stage)
    }

    /// One pass of that function in a fresh process.
    ///
    /// # Errors
    /// The process did not get as far as a pass.
    pub async fn pass(&self, function: Function) -> Result<Pass, Failure> {
        self.measured(function, Vec::new()).await
    }

    /// One batch of scale-up in a fresh process.
    ///
    /// # Errors
    /// As [`Self::pass`].
    pub async fn batch(&self, messages: &[JobMessage]) -> Result<Pass, Failure> {
        self.measured(Function::ScaleUp, lines(messages)?).await
    }

    async fn measured(&self, function: Function, input: Vec<u8>) -> Result<Pass, Failure> {
        let output = self.run(&["pass", function.name()], input).await?;
        let counts = self.server.take_counts();
        let text = output.trim_end();
        let (logs, last) = text.rsplit_once('\n').unwrap_or(("", text));
        let measured = serde_json::from_str(last).map_err(|error| Failure::Process {
            what: function.name().to_owned(),
            output: format!("{error}: {last}"),
        })?;
        Ok(Pass { measured, counts, log_bytes: logs.len() })
    }

    async fn store(&self, records: &[InstanceRecord]) -> Result<(), Failure> {
        self.run(&["store"], lines(records)?).await.map(|_| ())
    }

    /// The standard output of this crate's binary, run with nothing in its environment but what the estate has.
    async fn run(&self, arguments: &[&str], input: Vec<u8>) -> Result<String, Failure> {
        let what = format!("{} {}", self.binary.display(), arguments.join(" "));
        let url = self.server.url();
        let pace = self.points_per_minute.map(|points| ("GITHUB_POINTS_PER_MINUTE", points.to_string()));
        let mut child = Command::new(&self.binary)
            .args(arguments)
            .env_clear()
            .envs([
                ("ENVIRONMENT", DEPLOYMENT),
                ("CONFIG_PARAMETER", CONFIG_PARAMETER),
                ("GITHUB_APP_PATH", GITHUB_APP_PATH),
                ("LEDGER_TABLE", LEDGER_TABLE),
                ("VITAL_SIGNS_TABLE", VITAL_SIGNS_TABLE),
                ("SCALE_UP_QUEUE_URL", url),
                ("RUNNER_PARAMETER_PATH", RUNNER_PARAMETER_PATH),
                ("KILL_SWITCH_PARAMETER", KILL_SWITCH_PARAMETER),
                ("GITHUB_API_URL", url),
                ("AWS_ENDPOINT_URL", url),
                ("AWS_REGION", "eu-west-1"),
                ("AWS_ACCESS_KEY_ID", "counted"),
                ("AWS_SECRET_ACCESS_KEY", "counted"),
            ])
            .envs(pace)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(Failure::io(format!("cannot start {what}")))?;
        let stdin = child.stdin.take();
        let feed = async {
            if let Some(mut stdin) = stdin {
                // One that has ended already says so by its status.
                let _unread = stdin.write_all(&input).await;
            }
        };
        let (output, ()) = tokio::join!(child.wait_with_output(), feed);
        let output = output.map_err(Failure::io(format!("cannot read from {what}")))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(Failure::Process { what, output: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
    }
}

/// One in JSON a line.
fn lines<T: Serialize>(all: &[T]) -> Result<Vec<u8>, Failure> {
    let mut lines = Vec::new();
    for one in all {
        serde_json::to_writer(&mut lines, one).map_err(Failure::inside("a line of the input"))?;
        lines.push(b'\n');
    }
    Ok(lines)
}
