//! What goes into and comes out of the instance's state machine.

use super::{Reason, Worker};
use crate::Millis;
use serde::Deserialize;
use std::fmt;

/// A JIT configuration: a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct JitConfig(String);

impl JitConfig {
    /// Takes the encoded configuration.
    #[must_use]
    pub fn new(encoded: impl Into<String>) -> Self {
        Self(encoded.into())
    }

    /// The encoded configuration, for the listener alone.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for JitConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// A job as its message describes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Job {
    /// Its id.
    pub job_id: u64,
    /// How long its worker will work, in milliseconds.
    pub duration_ms: Millis,
    /// How it will end by itself.
    pub conclusion: String,
}

/// What the machine learns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The operating system is up.
    Booted,
    /// Time passed.
    Tick,
    /// Answer to [`Effect::FetchParameter`].
    Parameter(Answer<JitConfig>),
    /// Answer to [`Effect::DeleteParameter`]; a parameter that is already gone counts as deleted.
    ParameterDeleted(Answer<()>),
    /// Answer to [`Effect::OpenSession`]: the runner's id.
    Session(SessionAnswer),
    /// Answer to [`Effect::Poll`].
    Polled(PollAnswer),
    /// Answer to [`Effect::Acquire`]; absent means that the job is somebody else's or gone.
    Acquired(Answer<()>),
    /// Answer to [`Effect::Renew`]; absent means that the job does not run here any more.
    Renewed(Answer<()>),
    /// Answer to [`Effect::Complete`]; absent means that the job does not run here any more.
    Completed(Answer<()>),
    /// Answer to [`Effect::ReadDrainTag`]; `None` for no tag and for a look that failed.
    DrainTag(Option<String>),
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<T> {
    /// It is so.
    Found(T),
    /// The other side says no.
    Absent,
    /// No answer, or none to be understood: asked again later.
    Failed,
}

/// The answer to a listener that opens its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionAnswer {
    /// It is the runner with this id.
    Opened {
        /// The runner.
        runner_id: u64,
    },
    /// The registration is gone.
    NotFound,
    /// The configuration has a session already.
    Conflict,
    /// No answer.
    Failed,
}

/// The answer to a poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PollAnswer {
    /// A job to acquire.
    Job(Job),
    /// Nothing came in this poll's time.
    Nothing,
    /// The registration is gone.
    RunnerNotFound,
    /// No answer.
    Failed,
}

/// What the machine wants done; requests are answered by an [`Input`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Read the JIT configuration.
    FetchParameter,
    /// Delete it.
    DeleteParameter,
    /// Open the listener's session.
    OpenSession {
        /// The configuration.
        jit_config: JitConfig,
    },
    /// Poll for messages (a long poll).
    Poll {
        /// The runner.
        runner_id: u64,
    },
    /// Acquire a job.
    Acquire {
        /// The runner.
        runner_id: u64,
        /// The job.
        job_id: u64,
    },
    /// Renew the running job's lock.
    Renew {
        /// The runner.
        runner_id: u64,
        /// The job.
        job_id: u64,
    },
    /// Report the job's end.
    Complete {
        /// The runner.
        runner_id: u64,
        /// The job.
        job_id: u64,
        /// How it ended.
        conclusion: String,
    },
    /// Read the instance's own drain tag.
    ReadDrainTag,
    /// Write the vital sign; a failed write changes nothing.
    WriteVitalSign(VitalSign),
    /// The listener cancelled its worker; nothing is left to report, GitHub knows.
    CancelJob {
        /// The job.
        job_id: u64,
    },
    /// The listener is killed: its open poll is dropped.
    StopListener,
    /// End the instance.
    PowerOff(Reason),
}

/// What the instance says of itself: it can only veto a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VitalSign {
    /// When it was written.
    pub beat_at: Millis,
    /// What runs.
    pub worker: Worker,
    /// When the last drain request was seen.
    pub drain_seen_at: Option<Millis>,
}
