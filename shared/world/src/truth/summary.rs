//! Figures for the table at the end of a run.

use super::{Ending, Fact, Truth};
use crate::Millis;
use crate::call::Api;
use serde::{Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet};

/// What a run came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Jobs queued.
    pub jobs_queued: usize,
    /// Jobs that ended by themselves.
    pub jobs_completed: usize,
    /// Jobs cancelled by their users before a runner had them.
    pub jobs_cancelled: usize,
    /// Jobs lost: killed, cancelled by a lost registration, given up by GitHub.
    pub jobs_lost: usize,
    /// Queue to start, in milliseconds, half of the jobs.
    pub queue_to_start_p50_ms: Option<Millis>,
    /// Queue to start, in milliseconds, 99 of 100 jobs.
    pub queue_to_start_p99_ms: Option<Millis>,
    /// Instances launched.
    pub instances_launched: usize,
    /// Instances ended, by what ended them.
    #[serde(serialize_with = "by_words")]
    pub instances_ended: BTreeMap<Ending, usize>,
    /// Registrations deleted by calls.
    pub runners_deregistered: usize,
    /// DELETEs refused because a job ran.
    pub deregistrations_refused: usize,
    /// Genuine deliveries answered 2xx.
    pub deliveries_accepted: usize,
    /// Genuine deliveries answered otherwise, or not at all.
    pub deliveries_failed: usize,
    /// Deliveries that never left GitHub.
    pub deliveries_lost: usize,
    /// Forged deliveries refused with 4xx.
    pub forgeries_refused: usize,
    /// Calls by (function, service).
    pub calls: Vec<Calls>,
}

/// An ending is no string, and nothing else can be a key in JSON.
fn by_words<S: Serializer>(ended: &BTreeMap<Ending, usize>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(ended.iter().map(|(ending, count)| (ending.to_string(), count)))
}

/// How often a function called a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Calls {
    /// The function.
    pub caller: String,
    /// The service.
    pub api: Api,
    /// Calls.
    pub count: u64,
}

/// Sums up the truth.
#[must_use]
pub fn summary(truth: &Truth) -> Summary {
    let mut sum = Summary::default();
    let mut completed = BTreeSet::new();
    let mut lost = BTreeSet::new();
    for (_, fact) in truth.facts() {
        count(&mut sum, &mut completed, &mut lost, fact);
    }
    sum.jobs_completed = completed.len();
    sum.jobs_lost = lost.len();
    let mut waits = queue_to_start_ms(truth);
    waits.sort_unstable();
    sum.queue_to_start_p50_ms = percentile(&waits, 50);
    sum.queue_to_start_p99_ms = percentile(&waits, 99);
    sum.calls = calls(truth);
    sum
}

fn count(sum: &mut Summary, completed: &mut BTreeSet<u64>, lost: &mut BTreeSet<u64>, fact: &Fact) {
    match fact {
        Fact::JobQueued { .. } => sum.jobs_queued += 1,
        Fact::JobCompleted { job_id, .. } => {
            completed.insert(*job_id);
        }
        Fact::JobCancelled { .. } => sum.jobs_cancelled += 1,
        Fact::JobKilled { job_id, .. }
        | Fact::JobCancelledByLostRegistration { job_id, .. }
        | Fact::JobDropped { job_id, .. } => {
            lost.insert(*job_id);
        }
        Fact::InstanceLaunched { .. } => sum.instances_launched += 1,
        Fact::InstanceEnding { ending, .. } => *sum.instances_ended.entry(ending.clone()).or_default() += 1,
        Fact::RunnerDeregistered { .. } => sum.runners_deregistered += 1,
        Fact::DeregistrationRefused { .. } => sum.deregistrations_refused += 1,
        Fact::DeliveryAnswered { status: Some(200..=299), .. } => sum.deliveries_accepted += 1,
        Fact::DeliveryAnswered { .. } => sum.deliveries_failed += 1,
        Fact::DeliveryLost { .. } => sum.deliveries_lost += 1,
        Fact::ForgeryAnswered { status: Some(400..=499), .. } => sum.forgeries_refused += 1,
        Fact::ForgeryAnswered { .. }
        | Fact::JobAssigned { .. }
        | Fact::JobRequeued { .. }
        | Fact::JobStarted { .. }
        | Fact::InstanceBooted { .. }
        | Fact::Befell { .. }
        | Fact::TerminationRefused { .. }
        | Fact::InstanceTerminated { .. }
        | Fact::ForeignTouched { .. }
        | Fact::RunnerRegistered { .. }
        | Fact::RunnerConnected { .. }
        | Fact::RunnerRemoved { .. }
        | Fact::TrapSprung { .. } => {}
    }
}

/// From a job's queueing to its start, one figure a started job.
fn queue_to_start_ms(truth: &Truth) -> Vec<Millis> {
    let mut queued = BTreeMap::new();
    let mut waits = Vec::new();
    for (at, fact) in truth.facts() {
        if let Fact::JobQueued { job_id, .. } = fact {
            queued.insert(*job_id, *at);
        }
        if let Fact::JobStarted { job_id, .. } = fact
            && let Some(since) = queued.remove(job_id)
        {
            waits.push(at - since);
        }
    }
    waits
}

/// The nearest-rank percentile of sorted figures.
fn percentile(sorted: &[Millis], percent: usize) -> Option<Millis> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

fn calls(truth: &Truth) -> Vec<Calls> {
    let mut sums: BTreeMap<(&str, Api), u64> = BTreeMap::new();
    for ((caller, api, _), count) in truth.calls() {
        *sums.entry((caller, *api)).or_default() += count;
    }
    sums.into_iter().map(|((caller, api), count)| Calls { caller: caller.to_owned(), api, count }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        assert_eq!(percentile(&[], 50), None);
        assert_eq!(percentile(&[7], 99), Some(7));
        assert_eq!(percentile(&[1, 2, 3, 4], 50), Some(2));
        assert_eq!(percentile(&(1..=200).collect::<Vec<_>>(), 99), Some(198));
    }

    #[test]
    fn every_ending_can_be_shown_as_json() {
        let mut truth = Truth::default();
        let endings = [Ending::PowerOff, Ending::Spot, Ending::Api { caller: "scale-down".into() }];
        for (number, ending) in endings.into_iter().enumerate() {
            let instance_id = format!("i-{number}");
            truth.record(10, Fact::InstanceEnding { instance_id, ending, active_job: None });
        }
        let shown = serde_json::to_value(summary(&truth)).unwrap();
        let ended = &shown["instances_ended"];
        assert_eq!((&ended["terminated by scale-down"], ended.as_object().unwrap().len()), (&1.into(), 3));
    }

    #[test]
    fn a_job_counts_once_however_it_was_lost() {
        let mut truth = Truth::default();
        let name = || "build".to_owned();
        truth.record(10, Fact::JobQueued { job_id: 1, name: name() });
        truth.record(30, Fact::JobStarted { job_id: 1, runner: name(), instance_id: None });
        truth.record(40, Fact::JobKilled { job_id: 1, instance_id: name() });
        truth.record(50, Fact::JobDropped { job_id: 1, why: name() });
        let sum = summary(&truth);
        assert_eq!((sum.jobs_queued, sum.jobs_lost, sum.jobs_completed), (1, 1, 0));
        assert_eq!(sum.queue_to_start_p50_ms, Some(20));
    }
}
