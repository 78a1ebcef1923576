//! Jobs that may be on any runner: which of them a runner could have been given, and what the jobs API says of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::RemovalPorts;
use super::report::Report;
use crate::config::{Mode, Policy};
use crate::evidence::{DemandEvidence, JobsEvidence};
use crate::ids::{FleetName, JobId, Repository, Scope};
use crate::ledger::{self, InstanceRecord, JobRecord, Stored};
use crate::ports::{JobReading, JobState, OpenPartition};
use crate::time::Timestamp;

/// Jobs asked of the jobs API for one re-check. More, and one re-check eats the pass; beyond it the instance is kept,
/// for where so many jobs wait, no runner is surplus.
const JOBS_ASKED_MAX: usize = 20;
/// Jobs read from the index of one fleet; a fleet with more is not judged.
const JOBS_READ_MAX: usize = 500;

/// GitHub cancels a job that was queued for 24 h, at the latest after 48 (facts/world.md G14).
const QUEUE_LIMIT: Duration = Duration::from_hours(48);

/// The open jobs of all fleets; `None` where a fleet's could not be read whole.
pub(super) struct OpenJobs(BTreeMap<FleetName, Option<Vec<JobRecord>>>);

impl OpenJobs {
    /// Reads them of these fleets, and those of none.
    pub(super) async fn read<P: RemovalPorts>(ports: &P, fleets: BTreeSet<FleetName>, report: &mut Report) -> Self {
        let mut jobs = BTreeMap::new();
        for fleet in fleets.into_iter().chain([JobRecord::no_fleet()]) {
            let partition = OpenPartition::Jobs(fleet.clone());
            let read = match ledger::open::<JobRecord>(ports, &partition, Timestamp(i64::MAX), JOBS_READ_MAX).await {
                Ok(open) => open.complete.then(|| open.records.into_iter().map(|job| job.record).collect()),
                Err(error) => {
                    report.error(error);
                    None
                }
            };
            jobs.insert(fleet, read);
        }
        Self(jobs)
    }

    /// The fleets that were read.
    pub(super) fn fleets(&self) -> BTreeSet<FleetName> {
        self.0.keys().filter(|fleet| **fleet != JobRecord::no_fleet()).cloned().collect()
    }

    /// Repository of a job.
    pub(super) fn repository_of(&self, id: JobId) -> Option<Repository> {
        self.0.values().flatten().flatten().find(|job| job.job_id == id).map(|job| job.repository.clone())
    }

    /// Jobs of any fleet that the scope of this runner covers: GitHub binds jobs to labels, not to fleets, and a label
    /// may have been given to the runner by hand. `None` where some fleet's jobs are not known.
    fn within_reach(&self, record: &InstanceRecord) -> Option<Vec<&JobRecord>> {
        let mut jobs = Vec::new();
        for read in self.0.values() {
            jobs.extend(read.as_ref()?.iter().filter(|job| covers(&record.access.scope, job)));
        }
        Some(jobs)
    }

    /// Whether jobs wait that this instance's runner serves by its fleet's labels.
    pub(super) fn demand_for(&self, record: &InstanceRecord, policy: &Policy, now: Timestamp) -> DemandEvidence {
        let fleet = match (policy.mode, policy.fleet(&record.fleet)) {
            (Mode::Retire, _) | (_, None) => return DemandEvidence::Unwanted,
            (Mode::Enforce | Mode::Observe, Some(fleet)) => fleet,
        };
        let Some(jobs) = self.within_reach(record) else { return DemandEvidence::Unread };
        let served = |label: &String| fleet.labels.iter().any(|own| own.eq_ignore_ascii_case(label));
        let waiting: Vec<&JobRecord> =
            jobs.into_iter().filter(|job| job.is_waiting() && job.labels.iter().all(served)).collect();
        let quiet_since = now.minus(fleet.timers.queue_quiet);
        if waiting.iter().any(|job| job.queued_at >= quiet_since) {
            DemandEvidence::Waiting
        } else if waiting.is_empty() {
            DemandEvidence::Quiet
        } else {
            DemandEvidence::WaitingLong
        }
    }

    /// Asks the jobs API of every open job that this runner could have been given, and remembers where each is, so that
    /// it is not asked again.
    pub(super) async fn ask<P: RemovalPorts>(
        &self,
        ports: &P,
        record: &InstanceRecord,
        report: &mut Report,
    ) -> JobsEvidence {
        let Some(runner_id) = record.runner_id else { return JobsEvidence::NoneOnRunner };
        let Some(jobs) = self.within_reach(record) else { return JobsEvidence::Unread };
        if jobs.len() > JOBS_ASKED_MAX {
            return JobsEvidence::Unread;
        }
        let cancelled = ports.now().minus(QUEUE_LIMIT);
        for job in jobs {
            // Its repository may be gone, and its job with it; a 404 must not keep everybody's instances.
            if job.is_waiting() && job.queued_at < cancelled {
                continue;
            }
            let reading = match ports.job(&job.repository, job.access.installation_id, job.job_id).await {
                Ok(reading) => reading,
                Err(error) => {
                    report.error(error);
                    return JobsEvidence::Unread;
                }
            };
            if reading.runner_id == Some(runner_id) {
                return JobsEvidence::OnRunner(job.job_id);
            }
            if reading.state == JobState::Unrecognised {
                return JobsEvidence::Unread;
            }
            remember(ports, &reading, report).await;
        }
        JobsEvidence::NoneOnRunner
    }
}

/// Whether a runner of that scope can be given the job.
fn covers(scope: &Scope, job: &JobRecord) -> bool {
    match scope {
        Scope::Organization { owner } => {
            job.access.scope.agrees_with(scope) || job.repository.owner().eq_ignore_ascii_case(owner)
        }
        Scope::Repository { owner, name } => {
            job.repository.owner().eq_ignore_ascii_case(owner) && job.repository.name().eq_ignore_ascii_case(name)
        }
    }
}

/// Writes what the jobs API said into the job's record.
async fn remember<P: RemovalPorts>(ports: &P, reading: &JobReading, report: &mut Report) {
    let now = ports.now();
    let id = reading.id.to_string();
    let written = ledger::update::<JobRecord>(ports, &id, |stored| match stored {
        Stored::Present(mut job) => {
            let news = match reading.state {
                // Not its runner: only the runner's own instance may take the job out of everybody's sight.
                JobState::InProgress => job.record.note_started(now, None),
                JobState::Completed => job.record.note_completed(now, None),
                JobState::Queued | JobState::NotYetQueued | JobState::Unrecognised => false,
            };
            news.then_some(job)
        }
        Stored::Absent | Stored::Foreign => None,
    });
    if let Err(error) = written.await {
        report.error(error);
    }
}
