//! What the listener says and writes, in the words of actions/runner 2.336.

use super::ProcessError;
use crate::instance::{Answer, Input, PollAnswer, SessionAnswer, Worker};
use chrono::{SecondsFormat, Utc};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use super::super::server::wall_now;

/// Standard output, and one diagnostic log.
pub(super) struct Words {
    diagnostics: File,
}

impl Words {
    pub(super) fn begin(runner_folder: &Path) -> Result<Self, ProcessError> {
        let folder = runner_folder.join("_diag");
        let file = || {
            std::fs::create_dir_all(&folder)?;
            File::options().create(true).append(true).open(folder.join(format!("Runner_{}.log", wall_now())))
        };
        file().map(|diagnostics| Self { diagnostics }).map_err(|source| ProcessError::DiagnosticLog { folder, source })
    }

    /// What an answer makes it say before it acts on it.
    pub(super) fn before(&mut self, input: &Input) {
        match input {
            Input::Session(SessionAnswer::Opened { .. }) => say("Listening for Jobs"),
            Input::Session(SessionAnswer::NotFound) => {
                say("Failed to create a session. The runner registration has been deleted from the server.");
            }
            Input::Polled(PollAnswer::Job(job)) => {
                self.trace("BrokerMessageListener", &format!("Acknowledging runner request '{}'.", job.job_id));
            }
            Input::Polled(PollAnswer::RunnerNotFound) => {
                self.trace("BrokerMessageListener", "RunnerNotFoundException: the runner was not found");
            }
            Input::Acquired(Answer::Found(())) => self.trace("JobDispatcher", "Job request 0 for plan received."),
            Input::Acquired(Answer::Absent) => self.trace("Runner", "Skipping message Job. It is somebody else's."),
            Input::Booted
            | Input::Tick
            | Input::Parameter(_)
            | Input::ParameterDeleted(_)
            | Input::Session(SessionAnswer::Conflict | SessionAnswer::Failed)
            | Input::Polled(PollAnswer::Nothing | PollAnswer::Failed)
            | Input::Acquired(Answer::Failed)
            | Input::Renewed(_)
            | Input::Completed(_)
            | Input::DrainTag(_) => {}
        }
    }

    /// What it says of its worker.
    pub(super) fn changed(&mut self, before: Worker, after: Worker) {
        match (before, after) {
            (Worker::None | Worker::Acquiring, Worker::Running) => {
                self.trace("JobDispatcher", "Send job request message to worker for job.");
                say("Running job: job");
            }
            (Worker::Running, Worker::None | Worker::Acquiring) => {
                self.trace("JobDispatcher", "finish job request for job with result: done");
                say("Job job completed with result: done");
            }
            (Worker::None | Worker::Acquiring, Worker::None | Worker::Acquiring)
            | (Worker::Running, Worker::Running) => {}
        }
    }

    fn trace(&mut self, source: &str, text: &str) {
        // A disk that is full takes the words with it.
        let _unwritten = writeln!(self.diagnostics, "[{} INFO {source}] {text}", time());
    }
}

fn say(text: &str) {
    let _unread = writeln!(std::io::stdout().lock(), "{}: {text}", time());
}

/// `2026-11-26 12:00:00Z`, as .NET's format `u` writes it.
fn time() -> String {
    let now = chrono::DateTime::<Utc>::from_timestamp_millis(wall_now()).unwrap_or_default();
    now.to_rfc3339_opts(SecondsFormat::Secs, true).replace('T', " ")
}
