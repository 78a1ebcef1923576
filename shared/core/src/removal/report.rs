//! What one pass saw and did, for the log, for the invocation's answer and for metrics.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{DeregistrationGround, Ground};
use crate::evidence::Evidence;
use crate::ids::{FleetName, InstanceId};
use crate::metrics::{Metric, Unit};
use crate::verdict::Reason;

/// Failures and instances that a report tells one by one; of more only the number, for one outage makes thousands of the
/// same.
const TOLD_MAX: usize = 50;

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
    /// TerminateInstances calls that EC2 refused because the instance is protected.
    pub protected_count: u32,
    /// Removals that an earlier pass had begun and not ended.
    pub taken_up_count: u32,
    /// Jobs that turned out to be on another runner than the one they were said to be on.
    pub associations_dropped_count: u32,
    /// Records made of what EC2 showed.
    pub rebuilt_count: u32,
    /// Instances found gone, and what they left taken away.
    pub cleaned_count: u32,
    /// JIT configurations of no living instance that were taken away.
    pub parameters_removed_count: u32,
    /// Registrations that are offline, bear a name as our fleets give it, and of which neither EC2's listing nor the ledger
    /// knows anything: left to GitHub, which removes them within a day. One of another deployment with the same prefix is
    /// among them while it boots, or when its instance is gone.
    pub unowned_registration_count: u32,
    /// Instances with our tag that are not ours to touch: the ledger has no record of them, and no fleet names their launch
    /// template.
    pub unowned_instance_count: u32,
    /// Which those are, of many the first.
    pub unowned_instances: Vec<InstanceId>,
    /// Acts put off because a cap of the pass was reached.
    pub overflow_count: u32,
    /// Acts that the kill switch or `mode` forbade.
    pub forbidden_count: u32,
    /// The deadline came before every instance was looked at.
    pub cut_by_deadline: bool,
    /// Seconds since the last pass before this one that came to its end without an error.
    pub seconds_since_whole: Option<u64>,
    /// Failures, each with the ids it was about. A pass with any fails visibly at its end.
    pub errors: Vec<String>,
    /// How many there were.
    pub error_count: u32,
    #[serde(skip)]
    counts: BTreeMap<(&'static str, FleetName, String), u64>,
}

impl Report {
    pub(crate) fn keep(&mut self, evidence: &Evidence, reason: Reason) {
        *self.kept.entry(reason).or_default() += 1;
        self.count("InstancesKept", fleet_of(evidence), word(&reason));
    }

    pub(crate) fn terminated(&mut self, evidence: &Evidence, ground: Ground) {
        *self.terminated.entry(ground).or_default() += 1;
        self.count("InstancesTerminated", fleet_of(evidence), word(&ground));
    }

    pub(crate) fn deregistered(&mut self, evidence: &Evidence, ground: DeregistrationGround) {
        *self.deregistered.entry(ground).or_default() += 1;
        self.count("RunnersDeregistered", fleet_of(evidence), word(&ground));
    }

    pub(crate) fn drained(&mut self, fleet: &FleetName) {
        self.drained_count += 1;
        self.count("DrainsRequested", fleet.clone(), "surplus".to_owned());
    }

    pub(crate) fn unowned(&mut self, id: &InstanceId) {
        self.unowned_instance_count += 1;
        if self.unowned_instances.len() < TOLD_MAX {
            self.unowned_instances.push(id.clone());
        }
    }

    fn count(&mut self, name: &'static str, fleet: FleetName, reason: String) {
        *self.counts.entry((name, fleet, reason)).or_default() += 1;
    }

    pub(crate) fn error(&mut self, error: impl std::fmt::Display) {
        self.error_count += 1;
        if self.errors.len() < TOLD_MAX {
            self.errors.push(error.to_string());
        }
    }

    /// The report as metrics: what was kept and done by fleet and reason, and the pass as a whole.
    #[must_use]
    pub fn metrics(&self) -> Vec<Metric> {
        let by_fleet = self.counts.iter().map(|((name, fleet, reason), count)| Metric {
            name,
            unit: Unit::Count,
            value: *count,
            dimensions: vec![("fleet", fleet.to_string()), ("reason", reason.clone())],
        });
        let whole = |name, unit, value| Metric { name, unit, value, dimensions: Vec::new() };
        let count = |name, value: u32| whole(name, Unit::Count, u64::from(value));
        by_fleet
            .chain([
                count("PassErrors", self.error_count),
                count("PassesCutByDeadline", u32::from(self.cut_by_deadline)),
                count("RefusedBusy", self.refused_busy_count),
                count("RefusedProtected", self.protected_count),
                count("RemovalsTakenUp", self.taken_up_count),
                count("AssociationsDropped", self.associations_dropped_count),
                count("RecordsRebuilt", self.rebuilt_count),
                count("RecordsClosed", self.cleaned_count),
                count("ParametersRemoved", self.parameters_removed_count),
                count("RegistrationsUnowned", self.unowned_registration_count),
                count("InstancesUnowned", self.unowned_instance_count),
                count("ActsOverCap", self.overflow_count),
                count("ActsForbidden", self.forbidden_count),
            ])
            .chain(self.seconds_since_whole.map(|seconds| whole("SinceWholePass", Unit::Seconds, seconds)))
            .collect()
    }

    /// The report, or an error that carries it whole: a pass that swallowed its failures would look healthy.
    pub fn into_result(self) -> Result<Self, FailedPass> {
        if self.errors.is_empty() { Ok(self) } else { Err(FailedPass(Box::new(self))) }
    }
}

fn fleet_of(evidence: &Evidence) -> FleetName {
    evidence.known_record().map_or_else(|| FleetName::new("-"), |record| record.fleet.clone())
}

/// A reason or ground as it is written in the report's JSON.
fn word(of: &impl Serialize) -> String {
    match serde_json::to_value(of) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(_) | Err(_) => "-".to_owned(),
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
