//! Jobs that may be on any runner: which of them a runner could have been given, and what the jobs API says of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::RemovalPorts;
use super::report::Report;
use crate::config::{HARD_AGE, Mode, Policy};
use crate::error::PortError;
use crate::evidence::{DemandEvidence, JobsEvidence, NamedRunner};
use crate::ids::{Access, FleetName, JobId, Repository, Scope};
use crate::ledger::{self, DeliveryCursor, InstanceRecord, JobPhase, JobRecord, Stored};
use crate::ports::{JobReading, JobState, OpenPartition};
use crate::time::{Deadline, Timestamp};

/// Jobs asked of the jobs API for re-checks that lie close together: what one learns serves the others. More, and one
/// re-check eats the pass; beyond it the jobs in progress are looked through instead, and where that cannot be done the
/// instance is kept.
const JOBS_ASKED_MAX: usize = 60;
/// Jobs read from the index of one fleet; a fleet with more is not judged.
const JOBS_READ_MAX: usize = 10_000;

/// GitHub cancels a job that was queued for 24 h, at the latest after 48 (facts/world.md G14).
const QUEUE_LIMIT: Duration = Duration::from_hours(48);

/// Repositories scanned for jobs in progress, each at least one call and one more a run. More, and one scan eats the
/// hourly budget; an owner with more has no such witness.
const REPOSITORIES_SCANNED_MAX: usize = 30;

/// The open jobs of all fleets, and what GitHub said of jobs in this pass.
pub(super) struct OpenJobs {
    fleets: BTreeMap<FleetName, JobsOfFleet>,
    readings: BTreeMap<JobId, (Timestamp, JobReading)>,
    in_progress: BTreeMap<Access, Scanned>,
    /// Readings that are not in the ledger yet.
    news: Vec<(Repository, JobReading)>,
}

/// The open jobs of one fleet.
#[derive(Default)]
struct JobsOfFleet {
    jobs: Vec<JobRecord>,
    whole: Whole,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Whole {
    /// All were read.
    #[default]
    Yes,
    /// Some are of another schema, so that only another version of this code knows what they are, or there are more
    /// than were read. Those speak for the fleet that they wait for.
    InPart,
    /// They could not be read: anything may be among them.
    No,
}

/// One scan, and when it was made.
struct Scanned {
    begun_at: Timestamp,
    ended_at: Timestamp,
    scan: Scan,
}

/// The jobs in progress of the repositories of a scope.
enum Scan {
    Read(Vec<(Repository, JobReading)>),
    Unread,
    /// Too many repositories, or none: such an owner has no such witness.
    Impossible,
}

/// What the jobs in progress say about a runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InProgress {
    /// They were read whole.
    Says(JobsEvidence),
    /// They could not be read.
    Unread,
    /// There is no reading them.
    NoWitness,
}

/// Which readings still count: those made at that time or later, and not long ago.
#[derive(Clone, Copy, Debug)]
pub(super) struct Freshness {
    /// Begin of what must be seen, for example the end of a quarantine.
    pub(super) not_before: Timestamp,
    pub(super) now: Timestamp,
    /// Nothing long is begun after it.
    pub(super) deadline: Deadline,
}

/// How long a reading of GitHub or of the ledger's index serves for several instances. Longer, and a job may have been
/// queued, assigned and started since; shorter, and every instance costs a round of calls of its own.
const FRESH: Duration = Duration::from_secs(15);

/// How long a scan serves, from its begin. Longer, and a job that started in a repository scanned early is missed;
/// shorter, and a scan of 30 repositories is made anew for each instance.
const FRESH_SCAN: Duration = Duration::from_mins(2);

impl Freshness {
    pub(super) fn holds(self, read_at: Timestamp) -> bool {
        read_at >= self.not_before && self.now.since(read_at) <= FRESH
    }

    /// A scan takes as long as its repositories take to answer; counted from its begin alone, a slow one would serve
    /// nobody but the instance that it was made for.
    fn holds_scan(self, scanned: &Scanned) -> bool {
        let Scanned { begun_at, ended_at, scan: _ } = *scanned;
        begun_at >= self.not_before && self.now.since(ended_at) <= FRESH && self.now.since(begun_at) <= FRESH_SCAN
    }
}

impl OpenJobs {
    /// Reads them of these fleets, of those that ever had a job, and those of none: a job of a fleet that left the
    /// configuration may have been taken by a runner of another.
    pub(super) async fn read<P: RemovalPorts>(ports: &P, mut fleets: BTreeSet<FleetName>, report: &mut Report) -> Self {
        let mut jobs = BTreeMap::new();
        let mut all_known = true;
        match ledger::fleet_names(ports).await {
            Ok(names) => fleets.extend(names),
            Err(error) => {
                report.error(error);
                all_known = false;
            }
        }
        for fleet in fleets.into_iter().chain([JobRecord::no_fleet()]) {
            let partition = OpenPartition::Jobs(fleet.clone());
            let read = match ledger::open::<JobRecord>(ports, &partition, Timestamp(i64::MAX), JOBS_READ_MAX).await {
                Ok(open) => JobsOfFleet {
                    whole: if open.cut || open.foreign { Whole::InPart } else { Whole::Yes },
                    jobs: open.records.into_iter().map(|job| job.record).collect(),
                },
                Err(error) => {
                    report.error(error);
                    JobsOfFleet { jobs: Vec::new(), whole: Whole::No }
                }
            };
            jobs.insert(fleet, read);
        }
        if !all_known {
            jobs.insert(JobRecord::no_fleet(), JobsOfFleet { jobs: Vec::new(), whole: Whole::No });
        }
        Self { fleets: jobs, readings: BTreeMap::new(), in_progress: BTreeMap::new(), news: Vec::new() }
    }

    /// Reads the ledger's jobs again: one may have been queued and assigned since. What GitHub said stays.
    pub(super) async fn refresh<P: RemovalPorts>(&mut self, ports: &P, report: &mut Report) {
        let fleets = self.fleets.keys().filter(|fleet| **fleet != JobRecord::no_fleet()).cloned().collect();
        self.fleets = Self::read(ports, fleets, report).await.fleets;
    }

    /// Takes out the readings that are not in the ledger yet.
    pub(super) fn take_news(&mut self) -> Vec<(Repository, JobReading)> {
        std::mem::take(&mut self.news)
    }

    /// Jobs of any fleet that the scope of this runner covers: GitHub binds jobs to labels, not to fleets, and a label
    /// may have been given to the runner by hand. `None` where some fleet's jobs are not known.
    fn within_reach(&self, record: &InstanceRecord) -> Option<Vec<&JobRecord>> {
        let mut jobs = Vec::new();
        for (fleet, read) in &self.fleets {
            match read.whole {
                Whole::No => return None,
                Whole::InPart if *fleet == record.fleet => return None,
                Whole::InPart | Whole::Yes => {}
            }
            jobs.extend(read.jobs.iter().filter(|job| covers(&record.access.scope, job)));
        }
        Some(jobs)
    }

    /// Whether jobs wait that this instance's runner may serve by its labels.
    pub(super) fn demand_for(&self, record: &InstanceRecord, policy: &Policy, now: Timestamp) -> DemandEvidence {
        let fleet = match (policy.mode, policy.fleet(&record.fleet)) {
            (Mode::Retire, _) | (_, None) => return DemandEvidence::Unwanted,
            (Mode::Enforce | Mode::Observe, Some(fleet)) => fleet,
        };
        let Some(jobs) = self.within_reach(record) else { return DemandEvidence::Unread };
        let served = |label: &String| fleet.may_have(label);
        let waiting: Vec<&JobRecord> =
            jobs.into_iter().filter(|job| job.waits_in_time(now) && job.labels.iter().all(served)).collect();
        let quiet_since = now.minus(fleet.timers.queue_quiet);
        if waiting.iter().any(|job| job.queued_at >= quiet_since) {
            DemandEvidence::Waiting
        } else if waiting.is_empty() {
            DemandEvidence::Quiet
        } else {
            DemandEvidence::WaitingLong
        }
    }

    /// Asks the jobs API of every open job that this runner could have been given; `None` where they are too many to be
    /// asked one by one, or some cannot be.
    pub(super) async fn ask<P: RemovalPorts>(
        &mut self,
        ports: &P,
        record: &InstanceRecord,
        fresh: Freshness,
        report: &mut Report,
    ) -> Option<JobsEvidence> {
        let Some(runner_id) = record.runner_id else { return Some(JobsEvidence::NoneOnRunner) };
        let Some(jobs) = self.within_reach(record) else { return Some(JobsEvidence::Unread) };
        // Its repository may be gone, and its job with it; a 404 must not keep everybody's instances.
        let jobs: Vec<JobRecord> = jobs.into_iter().filter(|job| may_run(job, fresh.now)).cloned().collect();
        if jobs.len() > JOBS_ASKED_MAX {
            return None;
        }
        for job in jobs {
            let known = self.readings.get(&job.job_id).filter(|(at, _)| fresh.holds(*at));
            let reading = match known {
                Some((_, reading)) => reading.clone(),
                None => match self.read_job(ports, &job, report).await {
                    Some(reading) => reading,
                    None => return Some(JobsEvidence::Unread),
                },
            };
            let named = NamedRunner::of(&reading, runner_id, &record.runner_name);
            if named.may_have_started_here() {
                return Some(JobsEvidence::OnRunner(job.job_id));
            }
            if reading.state == JobState::Unrecognised || is_doubtful(&reading, named) {
                return Some(JobsEvidence::Unread);
            }
        }
        // Those that are not known cannot be asked about; the jobs in progress can.
        let in_part = |read: &JobsOfFleet| read.whole == Whole::InPart;
        (!self.fleets.values().any(in_part)).then_some(JobsEvidence::NoneOnRunner)
    }

    async fn read_job<P: RemovalPorts>(
        &mut self,
        ports: &P,
        job: &JobRecord,
        report: &mut Report,
    ) -> Option<JobReading> {
        let at = ports.now();
        let reading = match ports.job(&job.repository, job.access.installation_id, job.job_id).await {
            Ok(reading) => reading,
            Err(error) => {
                report.error(error);
                return None;
            }
        };
        self.news.push((job.repository.clone(), reading.clone()));
        self.readings.insert(job.job_id, (at, reading.clone()));
        Some(reading)
    }

    /// Looks for this runner among the jobs in progress of every repository that its scope reaches.
    pub(super) async fn in_progress_on<P: RemovalPorts>(
        &mut self,
        ports: &P,
        policy: &Policy,
        record: &InstanceRecord,
        fresh: Freshness,
        report: &mut Report,
    ) -> InProgress {
        let Some(runner_id) = record.runner_id else { return InProgress::NoWitness };
        let access = &record.access;
        if self.in_progress.get(access).is_none_or(|scanned| !fresh.holds_scan(scanned)) {
            let begun_at = ports.now();
            let scan = scan(ports, policy, fresh.deadline, access).await.unwrap_or_else(|error| {
                report.error(error);
                Scan::Unread
            });
            self.in_progress.insert(access.clone(), Scanned { begun_at, ended_at: ports.now(), scan });
        }
        match self.in_progress.get(access).map(|scanned| &scanned.scan) {
            Some(Scan::Read(jobs)) => {
                let named = |job: &JobReading| NamedRunner::of(job, runner_id, &record.runner_name);
                let found = jobs.iter().find(|(_, job)| named(job).may_have_started_here());
                self.news.extend(found.cloned());
                InProgress::Says(match found {
                    Some((_, job)) => JobsEvidence::OnRunner(job.id),
                    None if jobs.iter().any(|(_, job)| is_doubtful(job, named(job))) => JobsEvidence::Unread,
                    None => JobsEvidence::NoneOnRunner,
                })
            }
            Some(Scan::Unread) | None => InProgress::Unread,
            Some(Scan::Impossible) => InProgress::NoWitness,
        }
    }
}

async fn scan<P: RemovalPorts>(
    ports: &P,
    policy: &Policy,
    deadline: Deadline,
    access: &Access,
) -> Result<Scan, PortError> {
    let mut repositories: Vec<Repository> = match &access.scope {
        Scope::Repository { owner, name } => Repository::try_from(format!("{owner}/{name}")).into_iter().collect(),
        Scope::Organization { owner } => ports
            .repositories(access)
            .await?
            .into_iter()
            .filter(|repository| repository.owner().eq_ignore_ascii_case(owner))
            .collect(),
    };
    // A job of a repository that is not served may have been given to the runner as well; where all are too many, the
    // served ones are the likely ones.
    if repositories.len() > REPOSITORIES_SCANNED_MAX {
        repositories.retain(|repository| policy.serves(repository));
    }
    if repositories.is_empty() || repositories.len() > REPOSITORIES_SCANNED_MAX {
        return Ok(Scan::Impossible);
    }
    // Where an event may be lost in GitHub's log nobody else tells of its job, and a run that waits may have it. Else a
    // job that runs is in the ledger by its event, and the lists of runs that wait, five a repository, say nothing new.
    let settled = match ledger::load::<DeliveryCursor>(ports, DeliveryCursor::ID).await? {
        Stored::Present(cursor) => cursor.record.is_settled(),
        Stored::Absent | Stored::Foreign => false,
    };
    let mut jobs = Vec::new();
    for repository in repositories {
        if !deadline.allows_more(ports.now()) {
            return Ok(Scan::Unread);
        }
        let read = if settled {
            ports.jobs_in_progress(&repository, access.installation_id).await?
        } else {
            ports.jobs_of_open_runs(&repository, access.installation_id).await?
        };
        jobs.extend(read.into_iter().map(|job| (repository.clone(), job)));
    }
    Ok(Scan::Read(jobs))
}

/// Whether it may be on our runner although GitHub does not say so: id and name contradict each other, or it runs and
/// none is named (`runner_id` is null until a job is assigned, and now and then for longer, facts/github.md 3.2). Until
/// GitHub names one or the job ends it may be any runner's.
fn is_doubtful(reading: &JobReading, named: NamedRunner) -> bool {
    match named {
        NamedRunner::Contradictory => true,
        NamedRunner::Nobody => reading.state == JobState::InProgress,
        NamedRunner::Ours | NamedRunner::OurIdAlone | NamedRunner::Another | NamedRunner::AnotherIdAlone => false,
    }
}

/// Whether GitHub may still have the job: it cancels what waits for long and fails what runs for long.
fn may_run(job: &JobRecord, now: Timestamp) -> bool {
    match job.phase {
        JobPhase::Queued | JobPhase::Launching { .. } | JobPhase::Launched { .. } => {
            // A job is made long before it is queued where somebody must approve it.
            now.since(job.queued_at.max(job.recorded_at.unwrap_or(job.queued_at))) < QUEUE_LIMIT
        }
        JobPhase::Started { at } => now.since(at) < HARD_AGE,
        JobPhase::Completed { .. } => false,
    }
}

/// Whether a runner of that scope can be given the job.
fn covers(scope: &Scope, job: &JobRecord) -> bool {
    job.access.scope.agrees_with(scope) || reaches(scope, &job.repository)
}

/// Whether a runner of that scope can be given jobs of the repository.
pub(super) fn reaches(scope: &Scope, repository: &Repository) -> bool {
    match scope {
        Scope::Organization { owner } => repository.owner().eq_ignore_ascii_case(owner),
        Scope::Repository { owner, name } => {
            repository.owner().eq_ignore_ascii_case(owner) && repository.name().eq_ignore_ascii_case(name)
        }
    }
}

/// Writes what the jobs API said into the job's record.
pub(super) async fn remember<P: RemovalPorts>(ports: &P, reading: &JobReading, report: &mut Report) {
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
