//! What one pass saw and did, for the log and for the invocation's answer.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{DeregistrationGround, Ground};
use crate::verdict::Reason;

/// Counts of one pass.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Instances that EC2 listed.
    pub instance_count: usize,
    /// Instances kept, by reason.
    pub kept: BTreeMap<Reason, u32>,
    /// Drain requests sent or renewed.
    pub drained_count: usize,
    /// DELETEs answered 204, by ground.
    pub deregistered: BTreeMap<DeregistrationGround, u32>,
    /// DELETEs that GitHub refused because a job runs.
    pub refused_busy_count: u32,
    /// TerminateInstances calls that EC2 took, by ground.
    pub terminated: BTreeMap<Ground, u32>,
    /// Records made of what EC2 showed.
    pub rebuilt_count: u32,
    /// Instances found gone, and what they left taken away.
    pub cleaned_count: u32,
    /// Acts put off because the pass's cap was reached.
    pub overflow_count: u32,
    /// Acts that the kill switch or `mode` forbade.
    pub forbidden_count: u32,
    /// Jobs sent to the queue again.
    pub jobs_resent_count: u32,
    /// The deadline came before every instance was looked at.
    pub cut_by_deadline: bool,
    /// Failures, each with the ids it was about. A pass with any fails visibly at its end.
    pub errors: Vec<String>,
}

impl Report {
    pub(crate) fn keep(&mut self, reason: Reason) {
        *self.kept.entry(reason).or_default() += 1;
    }

    pub(crate) fn error(&mut self, error: impl std::fmt::Display) {
        self.errors.push(error.to_string());
    }

    /// The report, or an error that carries it whole: a pass that swallowed its failures would look healthy.
    pub fn into_result(self) -> Result<Self, FailedPass> {
        if self.errors.is_empty() { Ok(self) } else { Err(FailedPass(Box::new(self))) }
    }
}

/// A pass that did what it could and met errors.
#[derive(Debug, thiserror::Error)]
#[error("{} error{} in this pass, the first: {}", .0.errors.len(), if .0.errors.len() == 1 { "" } else { "s" },
    .0.errors.first().map_or("", String::as_str))]
pub struct FailedPass(pub Box<Report>);
