//! Reads the evidence of one pass. The order of reads is part of the proof: EC2's listing (what may be ended) first,
//! then everything that may keep it, and of that the ledger last, so that an event that arrives meanwhile is seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tracing::warn;

use super::RemovalPorts;
use super::batch;
use super::deliveries::{Deliveries, Word};
use super::open_jobs::{Freshness, InProgress, OpenJobs, reaches, remember};
use super::pool;
use super::report::Report;
use crate::config::{Mutant, Policy};
use crate::error::{Class, Classify, PortError};
use crate::evidence::{
    AssignedJob, DeliveryEvidence, DemandEvidence, Evidence, Heard, JobsEvidence, NamedRunner, Ownership,
    PositiveControl, RecordEvidence, RegistrationEvidence, VitalEvidence, Witness, unheard_of,
};
use crate::ids::{Access, FleetName, InstanceId, JobId, Repository, RunnerId, RunnerName};
use crate::ledger::{
    self, AbsenceBreaker, DeregistrationOutcome, InstanceRecord, JobRecord, JobStarted, Stored, Versioned,
};
use crate::ports::{Instance, InstanceState, JobReading, JobState, Runner, VitalSigns, Worker};
use crate::time::{Deadline, Timestamp};
use crate::verdict::Source;

/// Jobs that started and whose fate is asked in one pass, one call each. More, and a webhook outage eats the hourly
/// budget; fewer, and instances whose `completed` was lost wait for passes to come.
const FATES_ASKED_MAX: usize = 100;

/// What was read so far in this pass, each thing once.
pub(super) struct Gathered {
    /// Begin of the pass.
    pub(super) now: Timestamp,
    /// Everything EC2 listed, with what the ledger and the instances say.
    pub(super) evidence: Vec<Evidence>,
    /// Living instances by fleet.
    living: BTreeMap<FleetName, usize>,
    /// By access, not by scope: an absence counts only under the very token that answered the list.
    scopes: BTreeMap<Access, ScopeList>,
    jobs: OpenJobs,
    deliveries: Deliveries,
    fates_asked: usize,
    mutant: Mutant,
}

/// The runners of one scope as GitHub listed them in this pass.
struct ScopeList {
    control: PositiveControl,
    read_at: Timestamp,
    by_id: BTreeMap<RunnerId, Runner>,
    ids: BTreeMap<RunnerName, RunnerId>,
}

impl ScopeList {
    fn find(&self, record: &InstanceRecord) -> Option<&Runner> {
        let by_name = || self.ids.get(&record.runner_name);
        self.by_id.get(record.runner_id.as_ref().or_else(by_name)?).or_else(|| self.by_id.get(by_name()?))
    }
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
        if let Some(ahead) = policy.ledger_epoch.filter(|_| policy.epoch(now).is_none()) {
            report.error(format!("ledger_epoch: {ahead} lies ahead and is ignored; write the time of the restore"));
        }
        let instances = ports.instances(&policy.deployment).await?;
        report.instance_count = instances.len();
        let signed: Vec<InstanceId> =
            instances.iter().filter(|i| i.state != InstanceState::Terminated).map(|i| i.id.clone()).collect();
        let mut signs = match VitalSigns::read(ports, &signed).await {
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
        let mut gathered = Self {
            now,
            evidence: Vec::new(),
            living: BTreeMap::new(),
            scopes: BTreeMap::new(),
            jobs,
            deliveries: Deliveries::default(),
            fates_asked: 0,
            mutant: policy.mutant,
        };
        for (instance, (_, stored)) in instances.into_iter().zip(records) {
            let vital_sign = match &mut signs {
                None => VitalEvidence::Unread,
                Some(signs) => signs.remove(&instance.id).map_or(VitalEvidence::Never, VitalEvidence::Sign),
            };
            let evidence = gathered.evidence_of(instance, record_evidence(stored, policy, now), vital_sign, policy);
            if let (InstanceState::Pending | InstanceState::Running, Some(record)) =
                (evidence.instance.state, evidence.known_record())
            {
                *gathered.living.entry(record.fleet.clone()).or_default() += 1;
            }
            gathered.evidence.push(evidence);
        }
        gathered.report_silence(policy, report);
        gathered.fill_pools(policy);
        Ok(gathered)
    }

    /// Where none of many instances has ever spoken, somebody has to look.
    fn report_silence(&self, policy: &Policy, report: &mut Report) {
        let Some(count) = unheard_of(&self.evidence, policy, self.now) else { return };
        report.error(format!(
            "not one of {count} instances that should have given a vital sign by now ever did: VITAL_SIGNS_TABLE or \
             VITAL_SIGNS_KEY_PREFIX is probably wrong (was the instances' role made anew?), or their supervisors died"
        ));
    }

    fn evidence_of(
        &self,
        instance: Instance,
        record: RecordEvidence,
        vital_sign: VitalEvidence,
        policy: &Policy,
    ) -> Evidence {
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
            heard: Heard { from: Witness::List, at: self.now },
            control: PositiveControl::NotAsked,
            deliveries: DeliveryEvidence::NotAsked,
            jobs: JobsEvidence::NotAsked,
            rechecked_at: self.now,
            assigned_job: AssignedJob::NotAsked,
        }
    }

    /// Marks the idle instances that the fleets' idle schedules keep.
    fn fill_pools(&mut self, policy: &Policy) {
        for fleet in policy.fleets.iter().filter(|fleet| fleet.idle_count(self.now) > 0) {
            // What is registered elsewhere is no part of this pool: kept in its place, it would be launched for again.
            let owner = fleet.idle_owner.as_ref();
            let idle = self.evidence.iter().filter(|evidence| is_idle(evidence, &fleet.name)).filter_map(|evidence| {
                let record = evidence.known_record()?;
                if !owner.is_none_or(|owner| owner.agrees_with(&record.access.scope)) {
                    return None;
                }
                let beating = matches!(evidence.vital_sign, VitalEvidence::Sign(sign)
                    if sign.worker == Worker::None && self.now.since(sign.beat_at) < fleet.timers.vital_sign_silence);
                Some(pool::Idle {
                    instance_id: &record.instance_id,
                    launched_at: record.launched_at,
                    drain_requested: record.drain_requested_at.is_some(),
                    beating,
                })
            });
            let idle: Vec<pool::Idle<'_>> = idle.collect();
            let kept: BTreeSet<InstanceId> = pool::kept(fleet, &idle, self.now).into_iter().cloned().collect();
            for evidence in self.evidence.iter_mut().filter(|evidence| kept.contains(&evidence.instance.id)) {
                evidence.demand = DemandEvidence::Pool;
            }
        }
    }

    /// An instance that no listing shows any more and whose record says that it is gone.
    pub(super) async fn of_vanished<P: RemovalPorts>(
        &self,
        ports: &P,
        policy: &Policy,
        record: Versioned<InstanceRecord>,
        report: &mut Report,
    ) -> Evidence {
        let instance = Instance {
            id: record.record.instance_id.clone(),
            state: InstanceState::Terminated,
            launched_at: record.record.launched_at,
            tags: Arc::default(),
        };
        let sign = vital_sign(ports, &instance.id, report).await;
        let evidence =
            self.evidence_of(instance, record_evidence(Stored::Present(record), policy, self.now), sign, policy);
        // The record was made by a launch of ours, or rebuilt from an instance that was ours.
        Evidence { ownership: Ownership::Ours, ..evidence }
    }

    /// Living instances of a fleet, by their records.
    pub(super) fn living_count(&self, fleet: &FleetName) -> usize {
        self.living.get(fleet).copied().unwrap_or(0)
    }

    /// Every access under which an instance of this pass is registered.
    pub(super) fn accesses(&self) -> BTreeSet<Access> {
        self.evidence.iter().filter_map(Evidence::known_record).map(|record| record.access.clone()).collect()
    }

    /// The runners that GitHub lists under that access, where the list counts.
    pub(super) async fn listed_runners<P: RemovalPorts>(
        &mut self,
        ports: &P,
        access: &Access,
        report: &mut Report,
    ) -> Vec<Runner> {
        let list = self.scope(ports, access, report).await;
        match list.control {
            PositiveControl::Held | PositiveControl::Cautious => list.by_id.values().cloned().collect(),
            PositiveControl::NotAsked
            | PositiveControl::Unanswered
            | PositiveControl::Denied
            | PositiveControl::MassAbsence => Vec::new(),
        }
    }

    /// Reads what the verdict asked for into the evidence.
    pub(super) async fn look<P: RemovalPorts>(
        &mut self,
        ports: &P,
        policy: &Policy,
        deadline: Deadline,
        source: Source,
        evidence: &mut Evidence,
        report: &mut Report,
    ) {
        let Some(record) = evidence.known_record().cloned() else { return };
        match source {
            Source::Registrations => {
                let list = self.scope(ports, &record.access, report).await;
                evidence.control = list.control;
                evidence.heard = Heard { from: Witness::List, at: list.read_at };
                evidence.registration = match list.control {
                    PositiveControl::NotAsked | PositiveControl::Unanswered => RegistrationEvidence::Unread,
                    PositiveControl::Denied => RegistrationEvidence::Denied,
                    PositiveControl::MassAbsence | PositiveControl::Cautious | PositiveControl::Held => {
                        list.find(&record).cloned().map_or(RegistrationEvidence::Absent, RegistrationEvidence::Present)
                    }
                };
            }
            Source::Runner => {
                evidence.heard = Heard { from: Witness::Runner, at: ports.now() };
                let by_itself = registration(ports, &record, report).await;
                let list = self.scopes.get(&record.access).filter(|_| !self.mutant.is_naive());
                let listed = list.and_then(|list| list.find(&record));
                evidence.registration = with_listing(by_itself, listed);
            }
            Source::Job if self.fates_asked >= FATES_ASKED_MAX => {
                report.overflow_count += 1;
                evidence.assigned_job = AssignedJob::Unread;
                // Nor are the failed deliveries gone through for it: it has its turn in a later pass.
                evidence.deliveries = DeliveryEvidence::Unsettled;
            }
            Source::Job => evidence.assigned_job = self.assigned_job(ports, &record, report).await,
            Source::Recheck => self.recheck(ports, policy, deadline, &record, evidence, report).await,
        }
    }

    /// The list of a scope, once a pass, held against the runners of living instances.
    async fn scope<P: RemovalPorts>(&mut self, ports: &P, access: &Access, report: &mut Report) -> &ScopeList {
        let list = if let Some(list) = self.scopes.remove(access) {
            list
        } else {
            let list = self.read_scope(ports, access, report).await;
            self.remember_busy(ports, access, &list, report).await;
            list
        };
        self.scopes.entry(access.clone()).or_insert(list)
    }

    async fn read_scope<P: RemovalPorts>(&self, ports: &P, access: &Access, report: &mut Report) -> ScopeList {
        let read_at = ports.now();
        let unanswered = |control| ScopeList { control, read_at, by_id: BTreeMap::new(), ids: BTreeMap::new() };
        let runners = match ports.runners(access).await {
            Ok(runners) => runners,
            Err(_) if self.mutant.takes_a_failed_list_for_empty() => Vec::new(),
            Err(error) => {
                let control =
                    if is_denial(error.class()) { PositiveControl::Denied } else { PositiveControl::Unanswered };
                report.error(error);
                return unanswered(control);
            }
        };
        let expected = self
            .evidence
            .iter()
            .filter(|evidence| evidence.instance.state == InstanceState::Running)
            .filter_map(Evidence::known_record)
            // A login may be spelt in several ways, and GitHub's list is one.
            .filter(|record| record.access.scope.agrees_with(&access.scope) && record.deregister_intent.is_none())
            // A runner whose job is over is registered no more; one whose job runs is.
            .filter(|record| record.job_completed.is_none() && record.completion_claim.is_none())
            .filter_map(|record| record.runner_id)
            .collect();
        let listed = runners.iter().map(|runner| runner.id).collect();
        let control = match self.control(ports, access, &listed, &expected, report).await {
            Ok(control) => control,
            Err(error) => {
                report.error(error);
                return unanswered(PositiveControl::Unanswered);
            }
        };
        ScopeList {
            control,
            read_at,
            ids: runners.iter().map(|runner| (runner.name.clone(), runner.id)).collect(),
            by_id: runners.into_iter().map(|runner| (runner.id, runner)).collect(),
        }
    }

    /// What a list says for a job is remembered of every living instance in it, not of the one alone that it was read
    /// for: by the time that another is asked about its flag may be false in mid-job (facts/world.md G1). Where a job is
    /// known nothing is written: once for each job at most.
    async fn remember_busy<P: RemovalPorts>(&self, ports: &P, access: &Access, list: &ScopeList, report: &mut Report) {
        if self.mutant.is_naive() {
            return;
        }
        let lives = |evidence: &&Evidence| {
            let executes = matches!(evidence.instance.state, InstanceState::Pending | InstanceState::Running);
            executes && evidence.ownership == Ownership::Ours
        };
        let is_news = |record: &InstanceRecord| {
            let own = |runner: &Runner| runner.busy && runner.name == record.runner_name;
            record.lacks_job() && record.access.scope.agrees_with(&access.scope) && list.find(record).is_some_and(own)
        };
        let known = self.evidence.iter().filter(lives).filter_map(Evidence::known_record);
        let ids: Vec<String> =
            known.filter(|record| is_news(record)).map(|record| record.instance_id.to_string()).collect();
        // As it is now: since the pass began the job may have become known, and its end.
        let note = |stored: Stored<InstanceRecord>| match stored {
            Stored::Present(mut record) => {
                (is_news(&record.record) && record.record.note_busy_if_news(list.read_at)).then_some(record)
            }
            Stored::Absent | Stored::Foreign => None,
        };
        let records = match ledger::load_all::<InstanceRecord>(ports, ids).await {
            Ok(records) => records.into_iter().filter_map(|(_, stored)| note(stored)).collect(),
            Err(error) => return report.error(error),
        };
        for (id, error) in batch::store(ports, records).await {
            let stored = if error.class() == Class::Conflict {
                ledger::update::<InstanceRecord>(ports, id.as_str(), note).await.map(drop)
            } else {
                Err(error)
            };
            if let Err(error) = stored {
                report.error(error);
            }
        }
    }

    /// Judges a list together with what earlier ones left, and leaves its own word for the next.
    async fn control<P: RemovalPorts>(
        &self,
        ports: &P,
        access: &Access,
        listed: &BTreeSet<RunnerId>,
        expected: &BTreeSet<RunnerId>,
        report: &mut Report,
    ) -> Result<PositiveControl, PortError> {
        let scope = &access.scope;
        let stored = ledger::load::<AbsenceBreaker>(ports, AbsenceBreaker::id_of(scope)).await?;
        let (breaker, known) = match stored {
            Stored::Present(breaker) => (Some(breaker.record.clone()), Some(breaker)),
            Stored::Absent => (None, None),
            // Another version remembers something about this scope: caution is on its side.
            Stored::Foreign => return Ok(PositiveControl::MassAbsence),
        };
        let (control, changed) = PositiveControl::judge(scope, listed, expected, breaker.as_ref(), ports.now());
        if let Some(changed) = changed {
            let record = match known {
                Some(mut known) => {
                    known.record = changed;
                    known
                }
                None => Versioned::new(changed),
            };
            match ledger::store(ports, record).await {
                Ok(_) => {}
                Err(error) if error.class() == Class::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        match control {
            PositiveControl::MassAbsence => report
                .error(format!("{scope}: GitHub's list misses most of the runners; no absence counts there for now")),
            PositiveControl::Cautious => {
                warn!(owner = %scope, "{scope}: GitHub's lists have missed most of the runners for long; believed");
            }
            PositiveControl::NotAsked
            | PositiveControl::Unanswered
            | PositiveControl::Denied
            | PositiveControl::Held => {}
        }
        Ok(control)
    }

    /// Rows 7 to 11: how the job stands that started on this instance, or is said to have ended on it.
    async fn assigned_job<P: RemovalPorts>(
        &mut self,
        ports: &P,
        record: &InstanceRecord,
        report: &mut Report,
    ) -> AssignedJob {
        let (Some(id), Some(runner_id)) = (record.job_in_question(), record.runner_id) else {
            return AssignedJob::Unread;
        };
        let Some(repository) = repository_of(ports, record, id, report).await else { return AssignedJob::Unread };
        self.fates_asked += 1;
        match ports.job(&repository, record.access.installation_id, id).await {
            Ok(reading) => {
                let fate = fate(&reading, NamedRunner::of(&reading, runner_id, &record.runner_name));
                // Ids and names are one runner's within a scope only: a start that was bound under another name of the
                // scope (webhook/apply.rs) can keep, and its end there says nothing of what runs here.
                let ended_elsewhere = fate == AssignedJob::Completed && !reaches(&record.access.scope, &repository);
                if ended_elsewhere { AssignedJob::Unread } else { fate }
            }
            Err(error) => {
                let denied = is_denial(error.class());
                report.error(error);
                if denied { AssignedJob::Denied } else { AssignedJob::Unread }
            }
        }
    }

    /// The re-check, against everything that can say "busy": failed deliveries applied to the ledger, the jobs API,
    /// then vital sign and record once more, the record last. Where neither the log nor an event can tell, jobs in
    /// progress are looked through besides.
    async fn recheck<P: RemovalPorts>(
        &mut self,
        ports: &P,
        policy: &Policy,
        deadline: Deadline,
        record: &InstanceRecord,
        evidence: &mut Evidence,
        report: &mut Report,
    ) {
        let now = ports.now();
        evidence.rechecked_at = now;
        let quarantine = policy.timers(&record.fleet).quarantine;
        let not_before = record.deregistered_at.map_or(Timestamp(0), |at| at.plus(quarantine));
        let fresh = Freshness { not_before, now, deadline };
        let word = self.deliveries.about(ports, record, fresh, report).await;
        // Anew: a job may have been queued and assigned since the pass began.
        self.jobs.refresh(ports, report).await;
        if evidence.demand != DemandEvidence::Pool {
            evidence.demand = self.jobs.demand_for(record, policy, now);
        }
        let asked = self.jobs.ask(ports, record, fresh, report).await;
        evidence.jobs = asked.unwrap_or(JobsEvidence::NoneOnRunner);
        let unconfirmed =
            record.deregistered_at.is_some() && record.deregistration != Some(DeregistrationOutcome::Confirmed);
        let unseen = record.absent.is_some() || record.busy_seen_at.is_some() || unconfirmed;
        let scanned = match (evidence.jobs, word) {
            (JobsEvidence::NoneOnRunner, Word::Unreadable) => {
                Some(self.jobs.in_progress_on(ports, policy, record, fresh, report).await)
            }
            (JobsEvidence::NoneOnRunner, Word::Settled) if unseen || asked.is_none() => {
                Some(self.jobs.in_progress_on(ports, policy, record, fresh, report).await)
            }
            (
                JobsEvidence::NotAsked | JobsEvidence::Unread | JobsEvidence::OnRunner(_) | JobsEvidence::NoneOnRunner,
                _,
            ) => None,
        };
        match scanned {
            Some(InProgress::Says(jobs)) => evidence.jobs = jobs,
            Some(InProgress::Unread) => evidence.jobs = JobsEvidence::Unread,
            Some(InProgress::NoWitness) if asked.is_none() => evidence.jobs = JobsEvidence::Unread,
            Some(InProgress::NoWitness) | None => {}
        }
        evidence.deliveries = match (word, scanned) {
            (Word::Settled, _) | (Word::Unreadable, Some(InProgress::Says(_))) => DeliveryEvidence::Settled,
            (Word::Unsettled | Word::Unreadable, _) => DeliveryEvidence::Unsettled,
        };
        self.remember_news(ports, report).await;
        evidence.vital_sign = vital_sign(ports, &record.instance_id, report).await;
        evidence.record = match ledger::load::<InstanceRecord>(ports, record.instance_id.to_string()).await {
            Ok(stored) => record_evidence(stored, policy, ports.now()),
            Err(error) => {
                report.error(error);
                RecordEvidence::Unread
            }
        };
        // What was said of one job is not said of the next.
        if evidence.known_record().and_then(InstanceRecord::job_in_question) != record.job_in_question() {
            evidence.assigned_job = AssignedJob::NotAsked;
        }
    }

    /// Writes what the jobs API said into the ledger: first that a job is on a runner of ours, which is sticky, and
    /// only after that succeeded that it is over, after which nobody asks for it any more.
    async fn remember_news<P: RemovalPorts>(&mut self, ports: &P, report: &mut Report) {
        for (repository, reading) in self.jobs.take_news() {
            let bound = match reading.runner_id {
                Some(runner_id) => self.bind(ports, &repository, &reading, runner_id).await,
                None => Ok(()),
            };
            match bound {
                Ok(()) => remember(ports, &reading, report).await,
                Err(error) => report.error(error),
            }
        }
    }

    /// A start on that runner id, unless the name says otherwise. A missing name is enough: what is bound can only veto,
    /// and its end needs both ([`fate`]).
    async fn bind<P: RemovalPorts>(
        &self,
        ports: &P,
        repository: &Repository,
        reading: &JobReading,
        runner_id: RunnerId,
    ) -> Result<(), PortError> {
        let on_it = |record: &&InstanceRecord| {
            let named = record.runner_id.map(|own| NamedRunner::of(reading, own, &record.runner_name));
            named.is_some_and(NamedRunner::may_have_started_here) && reaches(&record.access.scope, repository)
        };
        for record in self.evidence.iter().filter_map(Evidence::known_record).filter(on_it) {
            let started = JobStarted {
                job_id: reading.id,
                repository: repository.clone(),
                at: ports.now(),
                runner_id: Some(runner_id),
            };
            ledger::update::<InstanceRecord>(ports, record.instance_id.as_str(), |stored| match stored {
                Stored::Present(mut record) => record.record.note_started(started.clone()).then_some(record),
                Stored::Absent | Stored::Foreign => None,
            })
            .await?;
        }
        Ok(())
    }
}

/// Whether the fleet's idle schedule may count on it.
fn is_idle(evidence: &Evidence, fleet: &FleetName) -> bool {
    let living = matches!(evidence.instance.state, InstanceState::Pending | InstanceState::Running);
    let free = |record: &InstanceRecord| {
        record.fleet == *fleet
            && !record.has_job_evidence()
            && record.job_completed.is_none()
            && record.deregister_intent.is_none()
            && record.terminate_intent.is_none()
            && record.absent.is_none()
            && record.offline.is_none()
    };
    living
        && evidence.ownership == Ownership::Ours
        && evidence.demand == DemandEvidence::Quiet
        && evidence.known_record().is_some_and(free)
}

/// What a reading says of the job that started on our runner, as which it names that runner. That the job is over or
/// elsewhere ends evidence and needs id and name; a job that ended on no named runner is bound to none, so it says
/// nothing (null ids match nothing, design section 4).
fn fate(reading: &JobReading, named: NamedRunner) -> AssignedJob {
    match (reading.state, named) {
        (JobState::Unrecognised, _)
        | (_, NamedRunner::Contradictory | NamedRunner::AnotherIdAlone)
        | (JobState::Completed, NamedRunner::Nobody | NamedRunner::OurIdAlone) => AssignedJob::Unread,
        (JobState::Completed, NamedRunner::Ours) => AssignedJob::Completed,
        // Whatever its state is called: it is this very runner that GitHub names, or none that it runs on.
        (
            JobState::InProgress | JobState::Queued | JobState::NotYetQueued,
            NamedRunner::Ours | NamedRunner::OurIdAlone,
        )
        | (JobState::InProgress, NamedRunner::Nobody) => AssignedJob::Here,
        (JobState::Queued | JobState::NotYetQueued, NamedRunner::Nobody) | (_, NamedRunner::Another) => {
            AssignedJob::Elsewhere
        }
    }
}

/// The repository of a job: from its start, or from its own record.
async fn repository_of<P: RemovalPorts>(
    ports: &P,
    record: &InstanceRecord,
    id: JobId,
    report: &mut Report,
) -> Option<Repository> {
    if let Some(started) = record.job_started.as_ref().filter(|started| started.job_id == id) {
        return Some(started.repository.clone());
    }
    match ledger::load::<JobRecord>(ports, id.to_string()).await {
        Ok(Stored::Present(job)) => Some(job.record.repository),
        Ok(Stored::Absent | Stored::Foreign) => None,
        Err(error) => {
            report.error(error);
            None
        }
    }
}

/// What the list says for a job outweighs what the runner's own reading says against it.
fn with_listing(by_itself: RegistrationEvidence, listed: Option<&Runner>) -> RegistrationEvidence {
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

/// One instance's vital sign, read alone.
async fn vital_sign<P: RemovalPorts>(ports: &P, id: &InstanceId, report: &mut Report) -> VitalEvidence {
    match VitalSigns::read(ports, std::slice::from_ref(id)).await {
        Ok(signs) => {
            let own = signs.into_iter().find(|(own, _)| own == id);
            own.map_or(VitalEvidence::Never, |(_, sign)| VitalEvidence::Sign(sign))
        }
        Err(error) => {
            report.error(error);
            VitalEvidence::Unread
        }
    }
}

fn record_evidence(stored: Stored<InstanceRecord>, policy: &Policy, now: Timestamp) -> RecordEvidence {
    match stored {
        Stored::Absent => RecordEvidence::Absent,
        Stored::Foreign => RecordEvidence::Foreign,
        Stored::Present(mut record) => {
            record.record = record.record.seen_from(policy.epoch(now));
            RecordEvidence::Present(Box::new(record))
        }
    }
}

/// Whether GitHub refused to tell. A 404 where something must be is a refusal too: a lost permission looks like it
/// (facts/github.md 2.2).
fn is_denial(class: Class) -> bool {
    match class {
        Class::Denied | Class::Absent => true,
        Class::Transient
        | Class::Throttled { .. }
        | Class::NoCapacity
        | Class::OutcomeUnknown
        | Class::Rejected
        | Class::Conflict
        | Class::Misconfigured => false,
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
            let denied = is_denial(error.class());
            report.error(error);
            if denied { RegistrationEvidence::Denied } else { RegistrationEvidence::Unread }
        }
    }
}
