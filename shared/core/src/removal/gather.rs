//! Reads the evidence of one pass. The order of reads is part of the proof: EC2's listing (what may be ended) first,
//! then everything that may keep it, and of that the ledger last, so that an event that arrives meanwhile is seen.

use std::collections::{BTreeMap, BTreeSet};

use tracing::warn;

use super::execute::RemovalPorts;
use super::report::Report;
use crate::config::{Fleet, Mode, Policy};
use crate::error::{Class, PortError};
use crate::evidence::{
    DeliveryEvidence, DemandEvidence, Evidence, JobsEvidence, Ownership, PositiveControl, RecordEvidence,
    RegistrationEvidence, VitalEvidence,
};
use crate::ids::{Access, FleetName, InstanceId, JobId, Repository, RunnerId, RunnerName, Scope};
use crate::ledger::{self, InstanceRecord, JobRecord, Stored, Versioned};
use crate::ports::{Instance, InstanceState, JobReading, JobState, OpenPartition, Runner, VitalSigns};
use crate::time::Timestamp;
use crate::verdict::Source;
use crate::webhook::{self, Event};

/// GitHub keeps its delivery log for 3 days and redelivers no older ones (facts/github.md 3.1).
const DELIVERY_LOG: std::time::Duration = std::time::Duration::from_secs(3 * 24 * 3_600);
/// Clocks of GitHub and EC2 may differ by this much when "since the launch" is asked.
const CLOCK_SKEW: std::time::Duration = std::time::Duration::from_secs(600);
/// Waiting jobs asked of the jobs API for one re-check. More, and one re-check eats the pass; beyond it the instance
/// is kept, for so many jobs wait that its runner is not surplus.
const JOBS_ASKED_MAX: usize = 20;
/// Waiting jobs read from the index of one fleet.
const WAITING_JOBS_MAX: usize = 500;

/// What was read so far in this pass, each thing once.
pub(super) struct Gathered {
    /// Begin of the pass.
    pub(super) now: Timestamp,
    /// Everything EC2 listed, with what the ledger and the instances say.
    pub(super) evidence: Vec<Evidence>,
    listings: BTreeMap<Scope, Result<Vec<Runner>, PortError>>,
    waiting: BTreeMap<FleetName, Result<Vec<JobRecord>, PortError>>,
    job_readings: BTreeMap<JobId, Result<JobReading, ()>>,
    settled_since: Option<Timestamp>,
    deliveries_failed: bool,
}

impl Gathered {
    /// EC2, ledger, vital signs and demand of all instances.
    ///
    /// # Errors
    /// EC2 or the ledger could not be read: nothing can be concluded about anything.
    pub(super) async fn begin<P: RemovalPorts>(
        ports: &P,
        policy: &Policy,
        now: Timestamp,
        report: &mut Report,
    ) -> Result<Self, PortError> {
        let instances = ports.instances(&policy.deployment).await?;
        report.instance_count = instances.len();
        let mut gathered = Self {
            now,
            evidence: Vec::new(),
            listings: BTreeMap::new(),
            waiting: BTreeMap::new(),
            job_readings: BTreeMap::new(),
            settled_since: None,
            deliveries_failed: false,
        };
        gathered.read_waiting(ports, policy, report).await;
        let living: Vec<InstanceId> =
            instances.iter().filter(|i| i.state != InstanceState::Terminated).map(|i| i.id.clone()).collect();
        let mut signs = match VitalSigns::read(ports, &living).await {
            Ok(signs) => Some(signs.into_iter().collect::<BTreeMap<_, _>>()),
            Err(error) => {
                report.error(error);
                None
            }
        };
        let records = ledger::load_all::<InstanceRecord>(ports, instances.iter().map(|i| i.id.to_string())).await?;
        for (instance, (_, stored)) in instances.into_iter().zip(records) {
            let vital_sign = match &mut signs {
                None => VitalEvidence::Unread,
                Some(signs) => signs.remove(&instance.id).map_or(VitalEvidence::Never, VitalEvidence::Sign),
            };
            let evidence = gathered.evidence_of(instance, stored, vital_sign, policy);
            gathered.evidence.push(evidence);
        }
        Ok(gathered)
    }

    fn evidence_of(
        &self,
        instance: Instance,
        stored: Stored<InstanceRecord>,
        vital_sign: VitalEvidence,
        policy: &Policy,
    ) -> Evidence {
        let record = record_evidence(stored);
        let known = match &record {
            RecordEvidence::Present(record) => Some(&record.record),
            RecordEvidence::Unread | RecordEvidence::Absent | RecordEvidence::Foreign => None,
        };
        Evidence {
            ownership: Ownership::of(&instance, known, policy),
            demand: known.map_or(DemandEvidence::Unread, |record| self.demand_for(&record.fleet, policy)),
            instance,
            record,
            vital_sign,
            registration: RegistrationEvidence::NotAsked,
            control: PositiveControl::NotAsked,
            deliveries: DeliveryEvidence::NotAsked,
            jobs: JobsEvidence::NotAsked,
        }
    }

    /// An instance that no listing shows any more and whose record says that it is gone: only what it left is of
    /// interest.
    pub(super) fn of_vanished(&self, record: Versioned<InstanceRecord>) -> Evidence {
        Evidence {
            instance: Instance {
                id: record.record.instance_id.clone(),
                state: InstanceState::Terminated,
                launched_at: record.record.launched_at,
                tags: BTreeMap::new(),
            },
            // The record was made by a launch of ours, or rebuilt from an instance that was ours.
            ownership: Ownership::Ours,
            record: RecordEvidence::Present(Box::new(record)),
            vital_sign: VitalEvidence::Never,
            demand: DemandEvidence::Quiet,
            registration: RegistrationEvidence::NotAsked,
            control: PositiveControl::NotAsked,
            deliveries: DeliveryEvidence::NotAsked,
            jobs: JobsEvidence::NotAsked,
        }
    }

    async fn read_waiting<P: RemovalPorts>(&mut self, ports: &P, policy: &Policy, report: &mut Report) {
        for fleet in &policy.fleets {
            let partition = OpenPartition::Jobs(fleet.name.clone());
            let read = ledger::open::<JobRecord>(ports, &partition, Timestamp(i64::MAX), WAITING_JOBS_MAX).await;
            if let Err(error) = &read {
                report.error(error);
            }
            let jobs = read.map(|jobs| jobs.into_iter().map(|job| job.record).filter(JobRecord::is_waiting).collect());
            self.waiting.insert(fleet.name.clone(), jobs);
        }
    }

    /// Jobs of any fleet that the labels of this one serve: GitHub binds jobs to labels, not to fleets.
    fn waiting_for(&self, fleet: &Fleet) -> Result<Vec<&JobRecord>, ()> {
        let mut jobs = Vec::new();
        for read in self.waiting.values() {
            let read = read.as_ref().map_err(|_| ())?;
            if read.len() >= WAITING_JOBS_MAX {
                return Err(());
            }
            let served = |label: &String| fleet.labels.iter().any(|own| own.eq_ignore_ascii_case(label));
            jobs.extend(read.iter().filter(|job| job.labels.iter().all(served)));
        }
        Ok(jobs)
    }

    fn demand_for(&self, name: &FleetName, policy: &Policy) -> DemandEvidence {
        let fleet = match (policy.mode, policy.fleet(name)) {
            (Mode::Retire, _) | (_, None) => return DemandEvidence::Unwanted,
            (Mode::Enforce | Mode::Observe, Some(fleet)) => fleet,
        };
        let quiet_since = self.now.minus(fleet.timers.queue_quiet);
        match self.waiting_for(fleet) {
            Err(()) => DemandEvidence::Unread,
            Ok(jobs) if jobs.iter().any(|job| job.queued_at >= quiet_since) => DemandEvidence::Waiting,
            Ok(_) => DemandEvidence::Quiet,
        }
    }

    /// Repository of a waiting job that was read in this pass.
    pub(super) fn repository_of(&self, id: JobId) -> Option<Repository> {
        self.waiting.values().flatten().flatten().find(|job| job.job_id == id).map(|job| job.repository.clone())
    }

    /// Reads what the verdict asked for into the evidence.
    pub(super) async fn look<P: RemovalPorts>(
        &mut self,
        ports: &P,
        policy: &Policy,
        source: Source,
        evidence: &mut Evidence,
        report: &mut Report,
    ) {
        let Some(record) = evidence.known_record().cloned() else { return };
        match source {
            Source::Registration => {
                evidence.control = self.control(ports, &record.access, report).await;
                evidence.registration = registration(ports, &record, report).await;
            }
            Source::Recheck => self.recheck(ports, policy, &record, evidence, report).await,
        }
    }

    /// The positive control of a scope: its list, once a pass, held against the runners of living instances.
    async fn control<P: RemovalPorts>(&mut self, ports: &P, access: &Access, report: &mut Report) -> PositiveControl {
        let expected: Vec<(RunnerId, RunnerName)> = self
            .evidence
            .iter()
            .filter(|evidence| evidence.instance.state == InstanceState::Running)
            .filter_map(Evidence::known_record)
            .filter(|record| record.access.scope == access.scope && record.deregister_intent.is_none())
            .filter(|record| record.job_started.is_none() && record.completion_claim.is_none())
            .filter_map(|record| Some((record.runner_id?, record.runner_name.clone())))
            .collect();
        if !self.listings.contains_key(&access.scope) {
            let listing = ports.runners(access).await;
            if let Err(error) = &listing {
                report.error(error);
            }
            self.listings.insert(access.scope.clone(), listing);
        }
        let control = self
            .listings
            .get(&access.scope)
            .map_or(PositiveControl::Unanswered, |listing| PositiveControl::judge(listing, &expected));
        if control == PositiveControl::MassAbsence {
            report
                .error(format!("{}: GitHub's list misses most of the runners; nothing is removed there", access.scope));
        }
        control
    }

    /// The re-check, against everything that can say "busy": failed deliveries applied to the ledger, the jobs API,
    /// then vital sign and record once more, the record last.
    async fn recheck<P: RemovalPorts>(
        &mut self,
        ports: &P,
        policy: &Policy,
        record: &InstanceRecord,
        evidence: &mut Evidence,
        report: &mut Report,
    ) {
        let since = record.launched_at.minus(CLOCK_SKEW).max(self.now.minus(DELIVERY_LOG));
        evidence.deliveries = self.settle_deliveries(ports, since, report).await;
        evidence.jobs = self.ask_jobs(ports, policy, record, report).await;
        evidence.vital_sign = match VitalSigns::read(ports, std::slice::from_ref(&record.instance_id)).await {
            Ok(signs) => signs
                .into_iter()
                .find(|(id, _)| *id == record.instance_id)
                .map_or(VitalEvidence::Never, |(_, sign)| VitalEvidence::Sign(sign)),
            Err(error) => {
                report.error(error);
                VitalEvidence::Unread
            }
        };
        evidence.record = match ledger::load::<InstanceRecord>(ports, record.instance_id.to_string()).await {
            Ok(stored) => record_evidence(stored),
            Err(error) => {
                report.error(error);
                RecordEvidence::Unread
            }
        };
    }

    /// Applies the payload of every failed `in_progress` or `completed` delivery since `since` to the ledger.
    async fn settle_deliveries<P: RemovalPorts>(
        &mut self,
        ports: &P,
        since: Timestamp,
        report: &mut Report,
    ) -> DeliveryEvidence {
        if self.deliveries_failed {
            return DeliveryEvidence::Unsettled;
        }
        if self.settled_since.is_some_and(|settled| settled <= since) {
            return DeliveryEvidence::Settled;
        }
        match apply_failed_deliveries(ports, since, self.now).await {
            Ok(()) => {
                self.settled_since = Some(since);
                DeliveryEvidence::Settled
            }
            Err(error) => {
                self.deliveries_failed = true;
                report.error(error);
                DeliveryEvidence::Unsettled
            }
        }
    }

    /// Asks the jobs API of every waiting job that this runner could have been given.
    async fn ask_jobs<P: RemovalPorts>(
        &mut self,
        ports: &P,
        policy: &Policy,
        record: &InstanceRecord,
        report: &mut Report,
    ) -> JobsEvidence {
        let Some(runner_id) = record.runner_id else { return JobsEvidence::NoneOnRunner };
        let waiting = match policy.fleet(&record.fleet).map(|fleet| self.waiting_for(fleet)) {
            None => self.waiting.values().flatten().flatten().collect(),
            Some(Ok(jobs)) => jobs,
            Some(Err(())) => return JobsEvidence::Unread,
        };
        if waiting.len() > JOBS_ASKED_MAX {
            return JobsEvidence::Unread;
        }
        let waiting: Vec<JobRecord> = waiting.into_iter().cloned().collect();
        for job in waiting {
            if !self.job_readings.contains_key(&job.job_id) {
                let reading = ports.job(&job.repository, job.access.installation_id, job.job_id).await;
                self.job_readings.insert(job.job_id, reading.map_err(|error| report.error(error)));
            }
            match self.job_readings.get(&job.job_id) {
                Some(Ok(reading)) if reading.runner_id == Some(runner_id) => return JobsEvidence::OnRunner(job.job_id),
                Some(Ok(reading)) if reading.state == JobState::Unrecognised => return JobsEvidence::Unread,
                Some(Ok(_)) => {}
                Some(Err(())) | None => return JobsEvidence::Unread,
            }
        }
        JobsEvidence::NoneOnRunner
    }
}

fn record_evidence(stored: Stored<InstanceRecord>) -> RecordEvidence {
    match stored {
        Stored::Absent => RecordEvidence::Absent,
        Stored::Foreign => RecordEvidence::Foreign,
        Stored::Present(record) => RecordEvidence::Present(Box::new(record)),
    }
}

/// GitHub's word on one runner, never from a list: by id, or by exact name while no id is known.
async fn registration<P: RemovalPorts>(
    ports: &P,
    record: &InstanceRecord,
    report: &mut Report,
) -> RegistrationEvidence {
    let read = match record.runner_id {
        Some(id) => ports.runner(&record.access, id).await,
        None => ports.runner_named(&record.access, &record.runner_name).await,
    };
    match read {
        Ok(Some(runner)) => RegistrationEvidence::Present(runner),
        Ok(None) => RegistrationEvidence::Absent,
        Err(error) => {
            report.error(error);
            RegistrationEvidence::Unread
        }
    }
}

async fn apply_failed_deliveries<P: RemovalPorts>(
    ports: &P,
    since: Timestamp,
    now: Timestamp,
) -> Result<(), PortError> {
    let attempts = ports.deliveries_since(since).await?;
    let arrived: BTreeSet<_> = attempts.iter().filter(|a| a.succeeded).map(|a| a.guid.clone()).collect();
    let mut applied = BTreeSet::new();
    for attempt in &attempts {
        let evidence = attempt.event == "workflow_job"
            && matches!(attempt.action.as_deref(), Some("in_progress" | "completed") | None);
        if !evidence || arrived.contains(&attempt.guid) || !applied.insert(attempt.guid.clone()) {
            continue;
        }
        let payload = ports.delivery_payload(attempt.id).await?;
        warn!(delivery_id = %attempt.guid, "applying delivery {} that failed", attempt.guid);
        match webhook::parse(Some("workflow_job"), payload.as_bytes()) {
            Ok(Event::Job(event)) => {
                webhook::apply_job_event(ports, &event, now).await?;
            }
            Ok(Event::Ping | Event::Other) => {}
            // It may be the one that says "busy".
            Err(error) => {
                let call = format!("delivery {}", attempt.guid);
                return Err(PortError::new(call, Class::Rejected, error.to_string()));
            }
        }
    }
    Ok(())
}
