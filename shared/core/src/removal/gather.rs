//! Reads the evidence of one pass. The order of reads is part of the proof: EC2's listing (what may be ended) first,
//! then everything that may keep it, and of that the ledger last, so that an event that arrives meanwhile is seen.

use std::collections::{BTreeMap, BTreeSet};

use tracing::warn;

use super::RemovalPorts;
use super::open_jobs::OpenJobs;
use super::report::Report;
use crate::config::Policy;
use crate::error::{Class, PortError};
use crate::evidence::{
    DeliveryEvidence, DemandEvidence, Evidence, JobsEvidence, Ownership, PositiveControl, RecordEvidence,
    RegistrationEvidence, VitalEvidence,
};
use crate::ids::{Access, DeliveryGuid, FleetName, InstanceId, JobId, Repository, RunnerId, RunnerName};
use crate::ledger::{self, InstanceRecord, Stored, Versioned};
use crate::ports::{Instance, InstanceState, Runner, VitalSigns};
use crate::time::Timestamp;
use crate::verdict::Source;
use crate::webhook::{self, Event};

/// GitHub keeps its delivery log for 3 days and redelivers no older ones (facts/github.md 3.1).
const DELIVERY_LOG: std::time::Duration = std::time::Duration::from_hours(3 * 24);
/// Clocks of GitHub and EC2 may differ by this much when "since the launch" is asked.
const CLOCK_SKEW: std::time::Duration = std::time::Duration::from_mins(10);

/// What was read so far in this pass, each thing once.
pub(super) struct Gathered {
    /// Begin of the pass.
    pub(super) now: Timestamp,
    /// Everything EC2 listed, with what the ledger and the instances say.
    pub(super) evidence: Vec<Evidence>,
    /// By access, not by scope: an absence counts only under the very token that answered the list.
    listings: BTreeMap<Access, Result<Vec<Runner>, PortError>>,
    jobs: OpenJobs,
    /// Failed deliveries that are in the ledger since this pass.
    applied: BTreeSet<DeliveryGuid>,
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
        let fleets = records.iter().filter_map(|(_, stored)| match stored {
            Stored::Present(record) => Some(&record.record.fleet),
            Stored::Absent | Stored::Foreign => None,
        });
        let fleets: BTreeSet<FleetName> =
            fleets.chain(policy.fleets.iter().map(|fleet| &fleet.name)).cloned().collect();
        let jobs = OpenJobs::read(ports, fleets, report).await;
        let mut gathered =
            Self { now, evidence: Vec::new(), listings: BTreeMap::new(), jobs, applied: BTreeSet::new() };
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
            demand: known.map_or(DemandEvidence::Unread, |record| self.jobs.demand_for(record, policy, self.now)),
            instance,
            record,
            vital_sign,
            registration: RegistrationEvidence::NotAsked,
            control: PositiveControl::NotAsked,
            deliveries: DeliveryEvidence::NotAsked,
            jobs: JobsEvidence::NotAsked,
        }
    }

    /// An instance that no listing shows any more and whose record says that it is gone.
    pub(super) async fn of_vanished<P: RemovalPorts>(
        &self,
        ports: &P,
        record: Versioned<InstanceRecord>,
        report: &mut Report,
    ) -> Evidence {
        let instance_id = record.record.instance_id.clone();
        Evidence {
            instance: Instance {
                id: instance_id.clone(),
                state: InstanceState::Terminated,
                launched_at: record.record.launched_at,
                tags: BTreeMap::new(),
            },
            // The record was made by a launch of ours, or rebuilt from an instance that was ours.
            ownership: Ownership::Ours,
            record: RecordEvidence::Present(Box::new(record)),
            vital_sign: vital_sign(ports, &instance_id, report).await,
            demand: DemandEvidence::Quiet,
            registration: RegistrationEvidence::NotAsked,
            control: PositiveControl::NotAsked,
            deliveries: DeliveryEvidence::NotAsked,
            jobs: JobsEvidence::NotAsked,
        }
    }

    /// Repository of an open job that was read in this pass.
    pub(super) fn repository_of(&self, id: JobId) -> Option<Repository> {
        self.jobs.repository_of(id)
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
                let by_itself = registration(ports, &record, report).await;
                evidence.registration = self.with_listing(&record, by_itself);
            }
            Source::Recheck => self.recheck(ports, policy, &record, evidence, report).await,
        }
    }

    /// What the list says for a job outweighs what the runner's own reading says against it.
    fn with_listing(&self, record: &InstanceRecord, by_itself: RegistrationEvidence) -> RegistrationEvidence {
        let listed = self.listings.get(&record.access).and_then(|listing| listing.as_ref().ok()).and_then(|runners| {
            runners.iter().find(|runner| record.runner_id == Some(runner.id) || runner.name == record.runner_name)
        });
        match (by_itself, listed) {
            (RegistrationEvidence::Present(runner), Some(listed)) if runner.busy || listed.busy => {
                RegistrationEvidence::Present(Runner { busy: true, ..runner })
            }
            (RegistrationEvidence::Present(runner), Some(listed))
                if runner.online != listed.online || runner.version != listed.version =>
            {
                RegistrationEvidence::Unread
            }
            // Listed in this very pass and not found by itself: one of the two is wrong.
            (RegistrationEvidence::Absent, Some(_)) => RegistrationEvidence::Unread,
            (reading, _) => reading,
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
        if !self.listings.contains_key(access) {
            let listing = ports.runners(access).await;
            if let Err(error) = &listing {
                report.error(error);
            }
            self.listings.insert(access.clone(), listing);
        }
        let control = self
            .listings
            .get(access)
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
        let now = ports.now();
        let since = record.launched_at.minus(CLOCK_SKEW).max(now.minus(DELIVERY_LOG));
        evidence.deliveries = settle_deliveries(ports, record, since, now, &mut self.applied, report).await;
        // Anew: a job may have been queued and assigned since the pass began.
        self.jobs = OpenJobs::read(ports, self.jobs.fleets(), report).await;
        evidence.demand = self.jobs.demand_for(record, policy, now);
        evidence.jobs = self.jobs.ask(ports, record, report).await;
        evidence.vital_sign = vital_sign(ports, &record.instance_id, report).await;
        evidence.record = match ledger::load::<InstanceRecord>(ports, record.instance_id.to_string()).await {
            Ok(stored) => record_evidence(stored),
            Err(error) => {
                report.error(error);
                RecordEvidence::Unread
            }
        };
    }
}

/// One instance's vital sign, read alone.
async fn vital_sign<P: RemovalPorts>(ports: &P, id: &InstanceId, report: &mut Report) -> VitalEvidence {
    match VitalSigns::read(ports, std::slice::from_ref(id)).await {
        Ok(signs) => signs
            .into_iter()
            .find(|(own, _)| own == id)
            .map_or(VitalEvidence::Never, |(_, sign)| VitalEvidence::Sign(sign)),
        Err(error) => {
            report.error(error);
            VitalEvidence::Unread
        }
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

/// Applies the payload of every failed delivery since `since` that may say "busy" to the ledger, each once a pass.
async fn settle_deliveries<P: RemovalPorts>(
    ports: &P,
    record: &InstanceRecord,
    since: Timestamp,
    now: Timestamp,
    applied: &mut BTreeSet<DeliveryGuid>,
    report: &mut Report,
) -> DeliveryEvidence {
    let attempts = match ports.deliveries_since(since).await {
        Ok(attempts) => attempts,
        Err(error) => {
            report.error(error);
            return DeliveryEvidence::Unsettled;
        }
    };
    let arrived: BTreeSet<_> = attempts.iter().filter(|a| a.succeeded).map(|a| a.guid.clone()).collect();
    let mut settled = DeliveryEvidence::Settled;
    for attempt in &attempts {
        let of_a_job = attempt.event == "workflow_job"
            && matches!(attempt.action.as_deref(), Some("in_progress" | "completed") | None);
        if !of_a_job || arrived.contains(&attempt.guid) || applied.contains(&attempt.guid) {
            continue;
        }
        let payload = match ports.delivery_payload(attempt.id).await {
            Ok(payload) => payload,
            Err(error) => {
                report.error(error);
                settled = DeliveryEvidence::Unsettled;
                continue;
            }
        };
        match apply_payload(ports, &payload, now).await {
            Ok(()) => {
                warn!(delivery_id = %attempt.guid, "applied delivery {} that had failed", attempt.guid);
                applied.insert(attempt.guid.clone());
            }
            // Any author of a workflow can make a payload that we refuse, so it speaks for the instance it names only.
            Err(error) => {
                warn!(delivery_id = %attempt.guid, error = %error, "delivery {} is not applied", attempt.guid);
                if payload.contains(record.instance_id.as_str()) {
                    report.error(error);
                    settled = DeliveryEvidence::Unsettled;
                }
            }
        }
    }
    settled
}

async fn apply_payload<P: RemovalPorts>(ports: &P, payload: &str, now: Timestamp) -> Result<(), PortError> {
    match webhook::parse(Some("workflow_job"), payload.as_bytes()) {
        Ok(Event::Job(event)) => webhook::apply_job_event(ports, &event, now).await.map(|_| ()),
        Ok(Event::Ping | Event::Other) => Ok(()),
        Err(error) => Err(PortError::new("delivery", Class::Rejected, error.to_string())),
    }
}
