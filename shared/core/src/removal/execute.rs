//! One pass: read, decide, act within bounds, report. Carries verdicts out and nothing more; behaviour belongs in
//! [`crate::verdict`].
//!
//! A pass may be killed after any call and overlap with another: each act is preceded by a compare-and-swap on the very
//! record that was judged, and what is left half done is judged anew by the next pass.

use std::collections::BTreeMap;

use tracing::{error, info, warn};

use super::gather::Gathered;
use super::report::{FailedPass, Report};
use super::{Deregisterable, DeregistrationGround, Ground, RemovalPorts, Terminable};
use crate::config::{Mode, Policy};
use crate::error::{Class, Classify, PortError};
use crate::evidence::{Evidence, JobsEvidence, RecordEvidence, RegistrationEvidence};
use crate::ids::{Access, FleetName, InstanceId, LaunchToken, RunnerName, Scope};
use crate::ledger::{self, DeregistrationOutcome, InstanceRecord, JobStarted, Origin, OrphanEvent, Stored, Versioned};
use crate::ports::{Deregistration, InstanceState, KillSwitch};
use crate::time::{Deadline, Timestamp};
use crate::verdict::{Action, Note, Reason, Verdict, decide};

/// Which verdicts a pass carries out. Both functions read and judge the same; each act has one owner, so that the two
/// never do the same thing at the same time and IAM can tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duties {
    /// Drains, and removes what is idle and does not answer.
    ScaleDown,
    /// Everything else.
    OrphanSweeper,
}

impl Duties {
    fn include(self, action: Action) -> bool {
        let scale_down = match action {
            Action::Drain
            | Action::Deregister(_, DeregistrationGround::Idle)
            | Action::Terminate(Ground::IdleAfterDeregistration) => true,
            Action::Rebuild
            | Action::CleanUp
            | Action::Deregister(
                _,
                DeregistrationGround::JobCompleted
                | DeregistrationGround::NeverConnected
                | DeregistrationGround::InstanceGone,
            )
            | Action::Terminate(Ground::JobCompleted | Ground::NeverConnected | Ground::HardAge) => false,
            Action::Keep | Action::Look(_) | Action::Note(_) => return true,
        };
        scale_down == (self == Self::ScaleDown)
    }
}

/// Per pass and fleet at most this many acts that rest on an absence or a flag, or a quarter of the fleet's living
/// instances where that is more (design section 5). Higher, and one lying answer ends more runners at once; lower, and
/// a fleet whose supervisors are all dead takes hours to shrink.
const ACTS_PER_FLEET: usize = 5;

/// How often a verdict may ask for more evidence of one instance: each source once, and once more after the re-check.
const LOOKS_MAX: usize = 4;

/// Runs scale-down's pass: see [`Duties::ScaleDown`].
///
/// # Guarantees
/// No instance is ended and no runner deregistered but through a proof or warrant, whose ground and intent are stored.
///
/// # Errors
/// EC2's listing or the ledger could not be read, or some item failed; the error carries the report of what was done.
pub async fn run_pass<P: RemovalPorts>(ports: &P, policy: &Policy, deadline: Deadline) -> Result<Report, FailedPass> {
    let mut pass = Pass::new(ports, policy, deadline, Duties::ScaleDown).await;
    pass.over_listed_instances().await;
    pass.finish()
}

/// One pass in progress.
pub(crate) struct Pass<'a, P> {
    pub(super) ports: &'a P,
    policy: &'a Policy,
    deadline: Deadline,
    duties: Duties,
    /// Whether anything but the ledger may be changed.
    may_act: bool,
    gathered: Option<Gathered>,
    acts: BTreeMap<FleetName, usize>,
    drains: Vec<Versioned<InstanceRecord>>,
    pub(crate) report: Report,
}

impl<'a, P: RemovalPorts> Pass<'a, P> {
    /// Reads the kill switch, EC2, the ledger and the vital signs.
    pub(crate) async fn new(ports: &'a P, policy: &'a Policy, deadline: Deadline, duties: Duties) -> Self {
        let mut report = Report::default();
        let may_act = match (ports.kill_switch().await, policy.mode) {
            (Ok(KillSwitch::RemovalEnabled), Mode::Enforce | Mode::Retire) => true,
            (Ok(KillSwitch::RemovalEnabled), Mode::Observe) => false,
            (Ok(KillSwitch::RemovalDisabled), _) => {
                warn!("the kill switch is thrown: nothing is removed");
                false
            }
            (Err(error), _) => {
                report.error(error);
                false
            }
        };
        let gathered = match Gathered::begin(ports, policy, ports.now(), &mut report).await {
            Ok(gathered) => Some(gathered),
            Err(error) => {
                report.error(error);
                None
            }
        };
        let acts = BTreeMap::new();
        Self { ports, policy, deadline, duties, may_act, gathered, acts, drains: Vec::new(), report }
    }

    /// Judges every instance that EC2 listed. A pass that is cut short begins elsewhere next time, so that none is
    /// starved.
    pub(crate) async fn over_listed_instances(&mut self) {
        let Some(gathered) = &self.gathered else { return };
        let mut items = gathered.evidence.clone();
        let first = first_of(items.len(), gathered.now);
        items.rotate_left(first);
        for item in items {
            if !self.deadline.allows_more(self.ports.now()) {
                self.report.cut_by_deadline = true;
                break;
            }
            self.settle(item).await;
        }
        self.request_drains().await;
    }

    /// Judges one instance that is gone and no longer listed.
    pub(crate) async fn over_vanished(&mut self, record: Versioned<InstanceRecord>) {
        let Some(gathered) = &self.gathered else { return };
        let evidence = gathered.of_vanished(self.ports, record, &mut self.report).await;
        self.settle(evidence).await;
    }

    /// Ids that EC2 listed in this pass; `None` when the listing failed.
    pub(crate) fn listed(&self) -> Option<Vec<InstanceId>> {
        self.gathered.as_ref().map(|gathered| gathered.evidence.iter().map(|e| e.instance.id.clone()).collect())
    }

    /// Begin of the pass.
    pub(crate) fn begun_at(&self) -> Timestamp {
        self.gathered.as_ref().map_or_else(|| self.ports.now(), |gathered| gathered.now)
    }

    /// Whether the deadline allows another item.
    pub(crate) fn allows_more(&mut self) -> bool {
        let allowed = self.deadline.allows_more(self.ports.now());
        self.report.cut_by_deadline |= !allowed;
        allowed
    }

    /// Logs the report and fails visibly if anything did.
    pub(crate) fn finish(self) -> Result<Report, FailedPass> {
        let report = self.report;
        info!(report = %serde_json::to_string(&report).unwrap_or_default(), "pass over {} instances", report.instance_count);
        for text in &report.errors {
            error!(error = %text, "{text}");
        }
        report.into_result()
    }

    async fn settle(&mut self, mut evidence: Evidence) {
        for _ in 0..LOOKS_MAX {
            let now = self.ports.now();
            let verdict = decide(&evidence, self.policy, now);
            match verdict.action {
                Action::Look(_) if !self.deadline.allows_more(now) => {
                    self.report.cut_by_deadline = true;
                    return;
                }
                Action::Look(source) => {
                    let Some(gathered) = &mut self.gathered else { return };
                    gathered.look(self.ports, self.policy, source, &mut evidence, &mut self.report).await;
                }
                Action::Keep
                | Action::Note(_)
                | Action::Rebuild
                | Action::Drain
                | Action::Deregister(_, _)
                | Action::Terminate(_)
                | Action::CleanUp => {
                    let id = evidence.instance.id.clone();
                    if let Err(error) = self.act(evidence, verdict, now).await {
                        self.failed(&id, &error);
                    }
                    return;
                }
            }
        }
        self.report.keep(Reason::NotRead);
    }

    /// One item's failure is its own. A lost compare-and-swap is no failure: something new is known, and the next pass
    /// judges it.
    fn failed(&mut self, id: &InstanceId, error: &PortError) {
        if error.class() == Class::Conflict {
            info!(instance_id = %id, "{id} changed while it was judged");
        } else {
            self.report.error(format!("{id}: {error}"));
        }
    }

    async fn act(&mut self, evidence: Evidence, verdict: Verdict, now: Timestamp) -> Result<(), PortError> {
        if !self.duties.include(verdict.action) {
            self.report.keep(verdict.reason);
            return Ok(());
        }
        match verdict.action {
            Action::Keep | Action::Look(_) => {
                self.report.keep(verdict.reason);
                self.remember_surfaced_job(evidence, now).await
            }
            Action::Note(note) => {
                self.report.keep(verdict.reason);
                self.note(evidence, note, now).await
            }
            Action::Rebuild => self.rebuild(&evidence, now).await,
            Action::Drain => {
                if let (true, RecordEvidence::Present(record)) = (self.permitted(verdict), evidence.record) {
                    self.drains.push(*record);
                }
                Ok(())
            }
            Action::CleanUp => self.clean_up(evidence, verdict, now).await,
            Action::Deregister(_, ground) => self.deregister(&evidence, verdict, ground, now).await,
            Action::Terminate(ground) => self.terminate(&evidence, verdict, ground, now).await,
        }
    }

    fn permitted(&mut self, verdict: Verdict) -> bool {
        if !self.may_act {
            info!(verdict = ?verdict.action, reason = ?verdict.reason, "not done: kill switch or mode");
            self.report.forbidden_count += 1;
        }
        self.may_act
    }

    /// Whether the fleet's cap leaves room for one more act on a ground that rests on an absence or a flag.
    fn within_cap(&mut self, evidence: &Evidence) -> bool {
        let Some(fleet) = evidence.known_record().map(|record| record.fleet.clone()) else { return false };
        let living = self.gathered.as_ref().map_or(0, |gathered| {
            gathered
                .evidence
                .iter()
                .filter(|e| e.known_record().is_some_and(|record| record.fleet == fleet))
                .filter(|e| matches!(e.instance.state, InstanceState::Pending | InstanceState::Running))
                .count()
        });
        let acts = self.acts.entry(fleet).or_default();
        if *acts >= ACTS_PER_FLEET.max(living / 4) {
            self.report.overflow_count += 1;
            return false;
        }
        *acts += 1;
        true
    }

    /// A job that the jobs API showed on this runner, and no event told us of, is remembered for good.
    async fn remember_surfaced_job(&mut self, evidence: Evidence, now: Timestamp) -> Result<(), PortError> {
        let JobsEvidence::OnRunner(job_id) = evidence.jobs else { return Ok(()) };
        let (Some(record), Some(repository)) =
            (evidence.known_record(), self.gathered.as_ref().and_then(|gathered| gathered.repository_of(job_id)))
        else {
            return Ok(());
        };
        let started = JobStarted { job_id, repository, at: now, runner_id: record.runner_id };
        self.remember(&record.instance_id, |record| record.note_started(started.clone())).await
    }

    /// Writes evidence or an outcome into the record whatever else was written there meanwhile: it must not be lost.
    async fn remember(
        &self,
        id: &InstanceId,
        mut change: impl FnMut(&mut InstanceRecord) -> bool,
    ) -> Result<(), PortError> {
        ledger::update::<InstanceRecord>(self.ports, id.as_str(), |stored| match stored {
            Stored::Present(mut record) => change(&mut record.record).then_some(record),
            Stored::Absent | Stored::Foreign => None,
        })
        .await
        .map(|_| ())
    }

    async fn note(&mut self, evidence: Evidence, note: Note, now: Timestamp) -> Result<(), PortError> {
        let id = evidence.instance.id.clone();
        let busy = matches!(&evidence.registration, RegistrationEvidence::Present(runner) if runner.busy);
        let RecordEvidence::Present(record) = evidence.record else { return Ok(()) };
        let mut record = *record;
        let fields = &mut record.record;
        match note {
            Note::Busy => return self.remember(&id, |record| note_busy(record, now)).await,
            Note::Idle => fields.idle_since = Some(now),
            Note::NotIdle => fields.idle_since = None,
            Note::Wanted => {
                fields.idle_since = None;
                fields.drain_requested_at = None;
            }
            Note::RunnerId(runner_id) => {
                fields.note_runner_id(runner_id);
                if busy {
                    note_busy(fields, now);
                }
            }
            Note::Deregistered => {
                fields.deregistered_at = Some(now);
                fields.deregistration = Some(DeregistrationOutcome::Unconfirmed);
            }
            Note::RegistrationBack => {
                fields.deregister_intent = None;
                fields.deregistered_at = None;
                fields.deregistration = None;
                fields.idle_since = None;
            }
            Note::Gone => fields.gone_at = Some(now),
            Note::Seen => {
                fields.missing_since = None;
                fields.gone_at = None;
                fields.cleaned_at = None;
            }
        }
        ledger::store(self.ports, record).await.map(|_| ())
    }

    /// Makes a record of what EC2 shows. What is missing on it counts as unread for ever.
    async fn rebuild(&mut self, evidence: &Evidence, now: Timestamp) -> Result<(), PortError> {
        let tag = |key: &str| evidence.instance.tags.get(key).map(String::as_str);
        let fleet = FleetName::new(tag("ghr:fleet").unwrap_or(UNKNOWN));
        let scope = tag("ghr:owner").and_then(Scope::parse).unwrap_or(Scope::Organization { owner: UNKNOWN.into() });
        let prefix = self.policy.fleet(&fleet).map_or("runner-", |fleet| fleet.runner_name_prefix.as_str());
        let runner_name = RunnerName::new(format!("{prefix}{}", evidence.instance.id));
        let record = InstanceRecord {
            origin: Origin::Rebuilt { at: now },
            launch_token: None,
            ..InstanceRecord::launched(
                evidence.instance.id.clone(),
                Access { scope: scope.clone(), installation_id: None },
                fleet,
                LaunchToken::new(UNKNOWN),
                runner_name.clone(),
                evidence.instance.launched_at,
            )
        };
        warn!(instance_id = %record.instance_id, "rebuilt the record of {}", record.instance_id);
        ledger::store(self.ports, Versioned::new(record)).await?;
        self.report.rebuilt_count += 1;
        // An event may have waited for the record: read after the store, so that of this and the webhook whoever comes
        // second sees the other.
        match ledger::load::<OrphanEvent>(self.ports, OrphanEvent::id_of(&scope, &runner_name)).await? {
            Stored::Present(orphan) => self.remember(&evidence.instance.id, |record| orphan.record.apply(record)).await,
            Stored::Absent | Stored::Foreign => Ok(()),
        }
    }

    /// One CreateTags call for all; the record remembers the first request only. The tag goes first: a request that is
    /// remembered and was never made would let the control plane take over too early.
    async fn request_drains(&mut self) {
        let drains = std::mem::take(&mut self.drains);
        if drains.is_empty() {
            return;
        }
        let now = self.ports.now();
        let ids: Vec<InstanceId> = drains.iter().map(|record| record.record.instance_id.clone()).collect();
        if let Err(error) = self.ports.request_drain(&ids, now).await {
            self.report.error(error);
            return;
        }
        self.report.drained_count = ids.len();
        for mut record in drains {
            let id = record.record.instance_id.clone();
            if record.record.drain_requested_at.is_some() {
                continue;
            }
            info!(instance_id = %id, "asked {id} to drain");
            record.record.drain_requested_at = Some(now);
            if let Err(error) = ledger::store(self.ports, record).await {
                self.failed(&id, &error);
            }
        }
    }

    /// Takes away the JIT configuration and closes the record.
    async fn clean_up(&mut self, evidence: Evidence, verdict: Verdict, now: Timestamp) -> Result<(), PortError> {
        if !self.permitted(verdict) {
            return Ok(());
        }
        let RecordEvidence::Present(record) = evidence.record else { return Ok(()) };
        let mut record = *record;
        self.ports.delete_jit_config(&record.record.instance_id).await?;
        record.record.cleaned_at = Some(now);
        info!(instance_id = %record.record.instance_id, "{} is gone and cleaned up", record.record.instance_id);
        ledger::store(self.ports, record).await?;
        self.report.cleaned_count += 1;
        Ok(())
    }

    async fn deregister(
        &mut self,
        evidence: &Evidence,
        verdict: Verdict,
        ground: DeregistrationGround,
        now: Timestamp,
    ) -> Result<(), PortError> {
        let capped = match ground {
            DeregistrationGround::Idle | DeregistrationGround::NeverConnected => !self.within_cap(evidence),
            // Gone by an absence, not by EC2's word.
            DeregistrationGround::InstanceGone
                if evidence.known_record().is_some_and(|record| record.missing_since.is_some()) =>
            {
                !self.within_cap(evidence)
            }
            DeregistrationGround::JobCompleted | DeregistrationGround::InstanceGone => false,
        };
        if capped || !self.permitted(verdict) {
            return Ok(());
        }
        let Some(deregisterable) = Deregisterable::establish(evidence, self.policy, now) else { return Ok(()) };
        let (warrant, record) = deregisterable.commit(self.ports, now).await?;
        let (id, intent) = (record.record.instance_id, record.record.deregister_intent);
        match self.ports.deregister(warrant).await {
            Ok(Deregistration::Deleted) => {
                *self.report.deregistered.entry(ground).or_default() += 1;
                let at = self.ports.now();
                self.remember(&id, |record| {
                    record.deregister_intent = intent;
                    record.deregistered_at = Some(at);
                    record.deregistration = Some(DeregistrationOutcome::Confirmed);
                    true
                })
                .await
            }
            Ok(Deregistration::Busy) => {
                warn!(instance_id = %id, "GitHub refused to deregister the runner of {id}: a job runs");
                self.report.refused_busy_count += 1;
                let at = self.ports.now();
                self.remember(&id, |record| {
                    record.deregister_intent = None;
                    note_busy(record, at);
                    true
                })
                .await
            }
            // Not a success, and not our doing: nothing that is found later may be laid to this DELETE.
            Ok(Deregistration::Absent) => self.remember(&id, take_back_intent).await,
            Err(error) => {
                if error.class() != Class::OutcomeUnknown {
                    self.remember(&id, take_back_intent).await?;
                }
                Err(error)
            }
        }
    }

    async fn terminate(
        &mut self,
        evidence: &Evidence,
        verdict: Verdict,
        ground: Ground,
        now: Timestamp,
    ) -> Result<(), PortError> {
        let capped = match ground {
            Ground::IdleAfterDeregistration | Ground::NeverConnected => !self.within_cap(evidence),
            Ground::JobCompleted | Ground::HardAge => false,
        };
        if capped || !self.permitted(verdict) {
            return Ok(());
        }
        if ground == Ground::HardAge {
            error!(instance_id = %evidence.instance.id, "{} is older than any job can be", evidence.instance.id);
        }
        let Some(terminable) = Terminable::establish(evidence, self.policy, now) else { return Ok(()) };
        let proof = terminable.commit(self.ports, now).await?;
        self.ports.terminate(proof).await?;
        *self.report.terminated.entry(ground).or_default() += 1;
        Ok(())
    }
}

/// Stands for what an instance's tags do not tell; no login at GitHub has this name.
const UNKNOWN: &str = "-";

/// Where a pass begins: spread over the items by the time, so that passes that are cut short do not all cut the same.
fn first_of(count: usize, now: Timestamp) -> usize {
    let seconds = u64::try_from(now.0 / 1_000).unwrap_or(0);
    // A large odd factor, for schedules fire at even intervals.
    let spread = seconds.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
    usize::try_from(spread).unwrap_or(0) % count.max(1)
}

/// Busy is remembered for good and breaks the row of idle readings. Returns whether that is news.
fn note_busy(record: &mut InstanceRecord, now: Timestamp) -> bool {
    record.busy_seen_at = Some(now);
    record.idle_since = None;
    true
}

fn take_back_intent(record: &mut InstanceRecord) -> bool {
    record.deregister_intent = None;
    record.idle_since = None;
    true
}
