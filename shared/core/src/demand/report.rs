//! What one pass did, for the log, for the invocation's answer and for metrics.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::ids::FleetName;
use crate::metrics::{Metric, Unit};

/// Failures that a report tells in words; of more only the number.
const ERRORS_TOLD_MAX: usize = 50;

/// Counts of one pass.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Jobs on record that were due and sent to the queue again.
    pub resent_count: usize,
    /// Failed deliveries that GitHub was asked to make once more.
    pub redelivered_count: usize,
    /// Repositories that were searched.
    pub searched_count: usize,
    /// Repositories whose runs GitHub did not show: no permission, Actions switched off, or gone since.
    pub unreadable_count: usize,
    /// Requests of the search that GitHub charged an owner's budget with.
    pub charged_count: u32,
    /// Queued jobs that were found and that a fleet takes.
    pub found_count: usize,
    /// Those of them that nobody served and that were sent to the queue.
    pub sent_count: usize,
    /// Jobs in progress that nobody had told us of.
    pub started_count: usize,
    /// The longest that a job has waited for which nothing is launched, in seconds, where a search found one: nobody told of
    /// it, or its fleet has no room or EC2 no capacity.
    pub oldest_unserved_seconds: Option<u64>,
    /// Since the oldest search that came to every repository of its owner, in seconds; of an owner that was never searched
    /// whole, since GitHub first named it.
    pub oldest_search_seconds: Option<u64>,
    /// Instances launched to fill pools, by fleet.
    pub pooled: BTreeMap<FleetName, usize>,
    /// The deadline came before everything was done; the next pass goes on.
    pub cut_by_deadline: bool,
    /// Failures, each with what it was about. A pass with any fails visibly at its end.
    pub errors: Vec<String>,
    /// How many there were.
    pub error_count: u32,
}

impl Report {
    pub(super) fn error(&mut self, error: impl std::fmt::Display) {
        self.error_count += 1;
        if self.errors.len() < ERRORS_TOLD_MAX {
            self.errors.push(error.to_string());
        }
    }

    /// The report as metrics.
    #[must_use]
    pub fn metrics(&self) -> Vec<Metric> {
        let whole = |name, unit, value| Metric { name, unit, value, dimensions: Vec::new() };
        let count = |name, value: usize| whole(name, Unit::Count, u64::try_from(value).unwrap_or(u64::MAX));
        let seconds = |name, value: Option<u64>| value.map(|value| whole(name, Unit::Seconds, value));
        let pooled = self.pooled.iter().map(|(fleet, launched)| Metric {
            dimensions: vec![("fleet", fleet.to_string())],
            ..count("PoolInstancesLaunched", *launched)
        });
        [
            whole("PassErrors", Unit::Count, u64::from(self.error_count)),
            whole("PassesCutByDeadline", Unit::Count, u64::from(self.cut_by_deadline)),
            count("JobsResent", self.resent_count),
            count("JobsSent", self.sent_count),
            count("JobStartsFound", self.started_count),
            count("DeliveriesRepeated", self.redelivered_count),
            count("RepositoriesSearched", self.searched_count),
            count("RepositoriesUnreadable", self.unreadable_count),
            whole("SearchRequestsCharged", Unit::Count, u64::from(self.charged_count)),
        ]
        .into_iter()
        .chain(seconds("OldestUnservedJob", self.oldest_unserved_seconds))
        .chain(seconds("OldestSearch", self.oldest_search_seconds))
        .chain(pooled)
        .collect()
    }

    /// The report, or an error that carries it whole: a pass that swallowed its failures would look healthy.
    pub(super) fn into_result(self) -> Result<Self, FailedPass> {
        if self.errors.is_empty() { Ok(self) } else { Err(FailedPass(Box::new(self))) }
    }
}

/// The metrics of a pass, whether it met errors or not.
#[must_use]
pub fn metrics_of(outcome: &Result<Report, FailedPass>) -> Vec<Metric> {
    match outcome {
        Ok(report) => report.metrics(),
        Err(FailedPass(report)) => report.metrics(),
    }
}

/// A pass that did what it could and met errors.
#[derive(Debug, thiserror::Error)]
#[error("{} error{} in this pass, the first: {}", .0.error_count, if .0.error_count == 1 { "" } else { "s" },
    .0.errors.first().map_or("", String::as_str))]
pub struct FailedPass(pub Box<Report>);
