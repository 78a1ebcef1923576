//! A server over an estate, and the processes that talk to it.

use std::fmt::Display;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use runner_scaler_core::scale_up::JobMessage;
use serde::Serialize;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::estate::{
    CONFIG_PARAMETER, DEPLOYMENT, Estate, GITHUB_APP_PATH, KILL_SWITCH_PARAMETER, LEDGER_TABLE, RUNNER_PARAMETER_PATH,
    VITAL_SIGNS_TABLE,
};
use crate::pass::{Function, Line, Measured, Pace};
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
    /// A scenario made more calls than it may, or did not do what it should.
    #[error("budgets that are not kept: {}", .0.join("; "))]
    OverBudget(Vec<String>),
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

/// The environment of a process whose AWS and GitHub are the server at this address.
#[must_use]
pub fn variables(url: &str) -> [(&'static str, &str); 13] {
    [
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
    ]
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
    /// What the queue hands to every process.
    messages: Vec<JobMessage>,
}

impl Stage {
    /// Serves the estate, with that time for a call of GitHub, and has its records stored; `binary` is this crate's.
    ///
    /// # Errors
    /// There is no port, or the records cannot be stored.
    pub async fn start(binary: PathBuf, estate: Estate, github_delay: Duration) -> Result<Self, Failure> {
        let Estate { mut services, records, jobs, messages } = estate;
        services.github_delay = github_delay;
        let server = CountingServer::start(services).await.map_err(Failure::io("cannot listen on loopback"))?;
        let stage = Self { server, binary, messages };
        let records = records.into_iter().map(|record| Line::Instance(Box::new(record)));
        stage.store(records.chain(jobs.into_iter().map(|job| Line::Job(Box::new(job))))).await?;
        // Storing is not the pass's doing.
        let _stored = stage.server.take_counts();
        Ok(stage)
    }

    /// One pass of that function in a fresh process.
    ///
    /// # Errors
    /// The process did not get as far as a pass.
    pub async fn pass(&self, function: Function, pace: Pace) -> Result<Pass, Failure> {
        self.passes(function, pace, 1).await
    }

    /// So many passes in one fresh process; measured is the last, counted are all.
    ///
    /// # Errors
    /// The process did not get as far as a pass.
    pub async fn passes(&self, function: Function, pace: Pace, count: usize) -> Result<Pass, Failure> {
        let pace = match pace {
            Pace::Published => "published",
            Pace::Unlimited => "unlimited",
        };
        let count = count.to_string();
        let input = lines(&self.messages)?;
        let output = self.run(&["pass", function.name(), pace, "--passes", &count], input).await?;
        let counts = self.server.take_counts();
        let text = output.trim_end();
        let (logs, last) = text.rsplit_once('\n').unwrap_or(("", text));
        let measured = serde_json::from_str(last).map_err(|error| Failure::Process {
            what: function.name().to_owned(),
            output: format!("{error}: {last}"),
        })?;
        Ok(Pass { measured, counts, log_bytes: logs.len() })
    }

    async fn store(&self, records: impl Iterator<Item = Line>) -> Result<(), Failure> {
        self.run(&["store"], lines(records)?).await.map(|_| ())
    }

    /// The standard output of this crate's binary, run with nothing in its environment but what the estate has.
    async fn run(&self, arguments: &[&str], input: Vec<u8>) -> Result<String, Failure> {
        let what = format!("{} {}", self.binary.display(), arguments.join(" "));
        let url = self.server.url();
        let mut child = Command::new(&self.binary)
            .args(arguments)
            .env_clear()
            .envs(variables(url))
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

/// Each in JSON on a line of its own.
fn lines(all: impl IntoIterator<Item = impl Serialize>) -> Result<Vec<u8>, Failure> {
    let mut lines = Vec::new();
    for one in all {
        serde_json::to_writer(&mut lines, &one).map_err(Failure::inside("input"))?;
        lines.push(b'\n');
    }
    Ok(lines)
}
