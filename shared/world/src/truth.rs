//! Ground truth: what really happened, independent of what any API showed.
//!
//! The world's parts record facts here; [`promises()`] and [`summary()`] judge them and know nothing of the system's own
//! ledger or logs.

pub mod promises;
pub mod summary;

use crate::Millis;
use crate::call::Api;
use crate::misfortune::Misfortune;
use serde::Serialize;
use std::collections::BTreeMap;

pub use promises::{Outside, Promise, promises};
pub use summary::{Summary, summary};

/// Why an instance began to end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// A `TerminateInstances` call of this function.
    Api {
        /// The calling function.
        caller: String,
    },
    /// The instance powered itself off.
    PowerOff,
    /// A spot interruption.
    Spot,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the ids are named like what they identify; each variant says the rest")]
pub enum Fact {
    /// A job was queued (and wants a runner).
    JobQueued { job_id: u64, name: String },
    /// GitHub gave a job to a runner; its message waits in the broker.
    JobAssigned { job_id: u64, runner: String },
    /// An assignment came to nothing and the job is queued again.
    JobRequeued { job_id: u64, runner: String },
    /// A listener acquired a job: it runs.
    JobStarted { job_id: u64, runner: String, instance_id: Option<String> },
    /// A job ended by itself.
    JobCompleted { job_id: u64, conclusion: String },
    /// A user cancelled a job that no runner had yet.
    JobCancelled { job_id: u64 },
    /// A running job was lost with its instance.
    JobKilled { job_id: u64, instance_id: String },
    /// A listener learnt that its registration was gone and cancelled its running job.
    JobCancelledByLostRegistration { job_id: u64, runner: String },
    /// GitHub gave up a job: never acquired, queued for too long, or silent.
    JobDropped { job_id: u64, why: String },
    /// EC2 launched an instance.
    InstanceLaunched { instance_id: String, fleet: Option<String> },
    /// An instance runs.
    InstanceBooted { instance_id: String },
    /// An instance began to end; `active_job` ran or was being acquired on it.
    InstanceEnding { instance_id: String, ending: Ending, active_job: Option<u64> },
    /// Something befell an instance from outside; it is not the system's doing.
    Befell { instance_id: String, misfortune: Misfortune },
    /// A call would have ended an instance that somebody protects.
    TerminationRefused { instance_id: String, caller: String },
    /// An instance is terminated.
    InstanceTerminated { instance_id: String },
    /// A call would have changed, or did change, an instance of somebody else.
    ForeignTouched { instance_id: String, operation: String },
    /// generate-jitconfig created a registration.
    RunnerRegistered { runner: String, runner_id: u64 },
    /// A listener opened its session.
    RunnerConnected { runner: String, instance_id: Option<String> },
    /// A DELETE took effect; `active_job` ran or was being acquired on that runner.
    RunnerDeregistered { runner: String, caller: String, active_job: Option<u64> },
    /// A DELETE was refused because GitHub knew of a job.
    DeregistrationRefused { runner: String, caller: String },
    /// GitHub itself removed a registration.
    RunnerRemoved { runner: String, why: String },
    /// A delivery was answered; no status means no answer in time.
    DeliveryAnswered { delivery_id: u64, action: String, job_id: Option<u64>, status: Option<u16> },
    /// A delivery never left GitHub.
    DeliveryLost { action: String, job_id: Option<u64> },
    /// A delivery that must be refused (bad or missing signature) was answered.
    ForgeryAnswered { status: Option<u16>, job_id: Option<u64> },
    /// A trap sprang.
    TrapSprung { operation: String, caller: String, action: String },
}

/// The log of facts and the counts of calls.
#[derive(Debug, Clone, Default)]
pub struct Truth {
    facts: Vec<(Millis, Fact)>,
    calls: BTreeMap<(String, Api, String), u64>,
    forged_jobs: Vec<u64>,
    forged_jobs_looked_up: Vec<u64>,
}

impl Truth {
    /// Records a fact.
    pub fn record(&mut self, at: Millis, fact: Fact) {
        self.facts.push((at, fact));
    }

    /// All facts, oldest first.
    #[must_use]
    pub fn facts(&self) -> &[(Millis, Fact)] {
        &self.facts
    }

    /// Counts one call.
    pub fn count_call(&mut self, caller: &str, api: Api, operation: &str) {
        *self.calls.entry((caller.to_owned(), api, operation.to_owned())).or_default() += 1;
    }

    /// Calls by (function, service, operation).
    #[must_use]
    pub fn calls(&self) -> &BTreeMap<(String, Api, String), u64> {
        &self.calls
    }

    /// Remembers the job id of a forged delivery: nobody may ever act on it.
    pub fn expect_nothing_of_job(&mut self, job_id: u64) {
        self.forged_jobs.push(job_id);
    }

    /// Notes a job that the system asked GitHub about.
    pub fn job_looked_up(&mut self, job_id: u64) {
        if self.forged_jobs.contains(&job_id) {
            self.forged_jobs_looked_up.push(job_id);
        }
    }

    /// Jobs of forged deliveries that the system acted on.
    #[must_use]
    pub fn forged_jobs_looked_up(&self) -> &[u64] {
        &self.forged_jobs_looked_up
    }
}

impl Fact {
    /// One line for people.
    #[must_use]
    pub fn describe(&self) -> String {
        let job = |id: &Option<u64>| id.map_or_else(|| "no job".to_owned(), |id| format!("job {id}"));
        let code = |status: &Option<u16>| status.map_or_else(|| "no answer".to_owned(), |s| s.to_string());
        let at = |id: &Option<String>| id.clone().unwrap_or_else(|| "an unknown instance".to_owned());
        match self {
            Self::JobQueued { job_id, name } => format!("job {job_id} queued: {name}"),
            Self::JobAssigned { job_id, runner } => format!("job {job_id} assigned to {runner}"),
            Self::JobRequeued { job_id, runner } => format!("job {job_id} queued again: {runner} did not take it"),
            Self::JobStarted { job_id, runner, instance_id } => {
                format!("job {job_id} started on {runner} ({})", at(instance_id))
            }
            Self::JobCompleted { job_id, conclusion } => format!("job {job_id} completed: {conclusion}"),
            Self::JobCancelled { job_id } => format!("job {job_id} cancelled by its user"),
            Self::JobKilled { job_id, instance_id } => format!("job {job_id} KILLED with {instance_id}"),
            Self::JobCancelledByLostRegistration { job_id, runner } => {
                format!("job {job_id} CANCELLED: {runner} lost its registration")
            }
            Self::JobDropped { job_id, why } => format!("job {job_id} LOST: {why}"),
            Self::InstanceLaunched { instance_id, fleet } => {
                format!("{instance_id} launched for {}", fleet.as_deref().unwrap_or("no fleet"))
            }
            Self::InstanceBooted { instance_id } => format!("{instance_id} running"),
            Self::InstanceEnding { instance_id, ending, active_job } => {
                format!("{instance_id} {ending}, with {}", job(active_job))
            }
            Self::Befell { instance_id, misfortune } => format!("{instance_id} {misfortune}"),
            Self::TerminationRefused { instance_id, caller } => {
                format!("{instance_id} kept: TerminateInstances by {caller} refused, it is protected")
            }
            Self::InstanceTerminated { instance_id } => format!("{instance_id} terminated"),
            Self::ForeignTouched { instance_id, operation } => {
                format!("{operation} TOUCHED {instance_id} of somebody else")
            }
            Self::RunnerRegistered { runner, runner_id } => format!("{runner} registered as {runner_id}"),
            Self::RunnerConnected { runner, instance_id } => format!("{runner} connected from {}", at(instance_id)),
            Self::RunnerDeregistered { runner, caller, active_job } => {
                format!("{runner} deregistered by {caller}, with {}", job(active_job))
            }
            Self::DeregistrationRefused { runner, caller } => {
                format!("{runner} kept: DELETE by {caller} refused, a job runs")
            }
            Self::RunnerRemoved { runner, why } => format!("{runner} removed by GitHub: {why}"),
            Self::DeliveryAnswered { delivery_id, action, job_id, status } => {
                format!("delivery {delivery_id} ({action}, {}) answered {}", job(job_id), code(status))
            }
            Self::DeliveryLost { action, job_id } => format!("delivery ({action}, {}) lost", job(job_id)),
            Self::ForgeryAnswered { status, job_id } => {
                format!("forged delivery ({}) answered {}", job(job_id), code(status))
            }
            Self::TrapSprung { operation, caller, action } => {
                format!("adversary: {action} during {operation} of {caller}")
            }
        }
    }
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Api { caller } => write!(f, "terminated by {caller}"),
            Self::PowerOff => f.write_str("powers itself off"),
            Self::Spot => f.write_str("taken back by EC2 (spot)"),
        }
    }
}
