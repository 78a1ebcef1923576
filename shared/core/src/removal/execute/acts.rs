//! What a pass does to one instance and its record, each act after the compare-and-swap that permits it. Behaviour
//! belongs in [`crate::verdict`].

use tracing::{error, info, warn};

#[cfg(feature = "mutants")]
use super::broken;
use super::{HELD_PAST_HARD_AGE, Pass};
use crate::error::{Class, Classify, PortError};
use crate::evidence::{Evidence, RecordEvidence, RegistrationEvidence};
use crate::ids::{Access, FleetName, InstanceId, JobId, LaunchToken, RunnerName, Scope};
use crate::ledger::{
    self, DeregistrationOutcome, Elsewhere, InstanceRecord, JobRecord, Origin, OrphanEvent, RemovalIntent, Spell,
    Stored, Versioned,
};
use crate::ports::{Deregistration, Termination};
use crate::removal::{Deregisterable, DeregistrationGround, Ground, RemovalPorts, Terminable, batch};
use crate::time::Timestamp;
use crate::verdict::{Note, Reason, Verdict, decide};

/// Stands for what an instance's tags do not tell; no login at GitHub has this name.
const UNKNOWN: &str = "-";
impl<P: RemovalPorts> Pass<'_, P> {
    /// Writes evidence or an outcome into the record whatever else was written there meanwhile: it must not be lost.
    pub(super) async fn remember(
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

    pub(super) async fn note(&mut self, evidence: Evidence, note: Note, now: Timestamp) -> Result<(), PortError> {
        let id = evidence.instance.id.clone();
        let busy = matches!(&evidence.registration, RegistrationEvidence::Present(runner) if runner.busy);
        // Not when it is written down: a job that ended in between was this very one.
        let read_at = evidence.heard.at.min(now);
        let RecordEvidence::Present(record) = evidence.record else { return Ok(()) };
        let mut record = *record;
        let fields = &mut record.record;
        match note {
            Note::Busy => return self.remember(&id, |record| record.note_busy(read_at)).await,
            Note::Idle => fields.note_idle(now),
            Note::Wanted => {
                fields.idle_since = None;
                fields.idle_seen_at = None;
                fields.drain_requested_at = None;
            }
            Note::RunnerId(runner_id) => {
                fields.note_runner_id(runner_id);
                fields.absent = None;
                if busy {
                    fields.note_busy(read_at);
                }
            }
            Note::Deregistered => {
                self.report.taken_up_count += 1;
                fields.deregistered_at = Some(now);
                fields.deregistration = Some(DeregistrationOutcome::Unconfirmed);
            }
            Note::RegistrationBack => {
                fields.deregister_intent = None;
                fields.deregistered_at = None;
                fields.deregistration = None;
                fields.break_rows();
            }
            Note::Absent => {
                let absent = Spell::extended(fields.absent, now);
                fields.break_rows();
                fields.absent = Some(absent);
            }
            Note::Offline => {
                let offline = Spell::extended(fields.offline, now);
                fields.break_rows();
                fields.offline = Some(offline);
            }
            Note::RowsBroken => fields.break_rows(),
            Note::JobCompleted => {
                let Some(job_id) = fields.job_in_question() else { return Ok(()) };
                warn!(instance_id = %id, job_id = %job_id, "the jobs API says that job {job_id} of {id} has ended");
                fields.complete(job_id, now);
            }
            Note::JobElsewhere => {
                let Some(job_id) = fields.job_in_question() else { return Ok(()) };
                fields.elsewhere = Some(Elsewhere { job_id, since: now });
            }
            Note::JobHere => fields.elsewhere = None,
            Note::JobDropped => {
                warn!(instance_id = %id, "the job of {id} is on another runner: its association is dropped");
                // First, so that it is asked about in every re-check again: it may come back to this very runner.
                if let Some(job_id) = fields.job_in_question() {
                    self.forget_runner_of(job_id).await?;
                }
                fields.drop_job();
                self.report.associations_dropped_count += 1;
            }
            Note::Sought => fields.sought_at = Some(now),
            Note::Stopped => fields.stopped_since = Some(now),
            Note::Running => fields.stopped_since = None,
            Note::Gone => fields.gone_at = Some(now),
            Note::Seen => {
                fields.missing_since = None;
                fields.missing_counted_at = None;
                fields.gone_at = None;
                fields.cleaned_at = None;
            }
        }
        self.notes.push(record);
        if self.notes.len() >= batch::WRITTEN_MAX {
            self.write_notes().await;
        }
        Ok(())
    }

    pub(super) async fn forget_runner_of(&self, job_id: JobId) -> Result<(), PortError> {
        ledger::update::<JobRecord>(self.ports, &job_id.to_string(), |stored| match stored {
            Stored::Present(mut job) => job.record.runner_id.take().is_some().then_some(job),
            Stored::Absent | Stored::Foreign => None,
        })
        .await
        .map(|_| ())
    }

    /// Makes a record of what EC2 shows. What is missing on it counts as unread for ever.
    pub(super) async fn rebuild(&mut self, evidence: &Evidence, now: Timestamp) -> Result<(), PortError> {
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

    /// Takes away the JIT configuration and closes the record.
    pub(super) async fn clean_up(
        &mut self,
        evidence: Evidence,
        verdict: Verdict,
        now: Timestamp,
    ) -> Result<(), PortError> {
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

    pub(super) async fn deregister(
        &mut self,
        evidence: &Evidence,
        verdict: Verdict,
        ground: DeregistrationGround,
        now: Timestamp,
    ) -> Result<(), PortError> {
        // Gone by an absence, not by EC2's word, is capped too.
        let missed = ground == DeregistrationGround::InstanceGone
            && evidence.known_record().is_some_and(|record| record.missing_since.is_some());
        if (verdict.reason.is_capped() || missed) && !self.within_caps(evidence) || !self.permitted(verdict) {
            return Ok(());
        }
        let Some(deregisterable) = Deregisterable::establish(evidence, self.policy, now) else { return Ok(()) };
        let (warrant, record) = deregisterable.commit(self.ports, now).await?;
        let (id, intent) = (record.record.instance_id, record.record.deregister_intent);
        let asked_at = self.ports.now();
        let answer = self.ports.deregister(warrant).await;
        #[cfg(feature = "mutants")]
        let answer = broken::heard_of_delete(self.policy.mutant, answer);
        match answer {
            Ok(Deregistration::Deleted) => {
                self.report.deregistered(evidence, ground);
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
                self.remember(&id, |record| {
                    record.deregister_intent = None;
                    record.note_busy(asked_at)
                })
                .await
            }
            // Not a success, and not our doing: nothing that is found later may be laid to this DELETE.
            Ok(Deregistration::Absent) => self.remember(&id, |record| take_back(record, intent, Reading::Broken)).await,
            Err(error) => {
                match error.class() {
                    Class::OutcomeUnknown => {}
                    // Not made: what was read of the runner holds as before.
                    Class::Throttled { .. } => {
                        self.remember(&id, |record| take_back(record, intent, Reading::Holds)).await?;
                    }
                    Class::Transient
                    | Class::NoCapacity
                    | Class::Rejected
                    | Class::Conflict
                    | Class::Absent
                    | Class::Denied
                    | Class::Misconfigured => {
                        self.remember(&id, |record| take_back(record, intent, Reading::Broken)).await?;
                    }
                }
                Err(error)
            }
        }
    }

    pub(super) async fn terminate(
        &mut self,
        evidence: &Evidence,
        verdict: Verdict,
        ground: Ground,
        now: Timestamp,
    ) -> Result<(), PortError> {
        if verdict.reason.is_capped() && !self.within_caps(evidence) {
            return Ok(());
        }
        if !self.permitted(verdict) {
            if ground == Ground::HardAge {
                self.held_past_hard_age(evidence, now);
            }
            return Ok(());
        }
        if ground == Ground::HardAge {
            error!(instance_id = %evidence.instance.id, "{} is older than any job can be", evidence.instance.id);
        }
        let Some(terminable) = Terminable::establish(evidence, self.policy, now) else { return Ok(()) };
        let half_done = |record: &InstanceRecord| record.terminate_intent.is_some();
        self.report.taken_up_count += u32::from(evidence.known_record().is_some_and(half_done));
        let proof = terminable.commit(self.ports, now).await?;
        let id = evidence.instance.id.clone();
        let answer = self.ports.terminate(proof).await;
        #[cfg(feature = "mutants")]
        if self.swallows(&id, &answer).await? {
            return Ok(());
        }
        match answer? {
            Termination::Accepted => {
                self.report.terminated(evidence, ground);
                Ok(())
            }
            Termination::Protected => {
                warn!(instance_id = %id, "EC2 refuses to end {id}: it is protected from termination");
                self.report.protected_count += 1;
                let at = self.ports.now();
                self.remember(&id, |record| {
                    record.terminate_intent = None;
                    record.protected_at = Some(at);
                    true
                })
                .await
            }
        }
    }

    /// The kill switch stops even the hard age, and that must not go unnoticed for long.
    pub(super) fn held_past_hard_age(&mut self, evidence: &Evidence, now: Timestamp) {
        let due_before = decide(evidence, self.policy, now.minus(HELD_PAST_HARD_AGE));
        if due_before.reason == Reason::HardAge {
            let id = &evidence.instance.id;
            self.report.error(format!(
                "{id} has been past its hard age for more than 15 min, and the kill switch or mode forbids ending it"
            ));
        }
    }
}

/// What a DELETE that was not made says of what was read before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// Nothing.
    Holds,
    /// It is out of date.
    Broken,
}

/// Takes back our own intent, not that of another pass, and none that was answered. Returns whether the record changed.
fn take_back(record: &mut InstanceRecord, own: Option<Intent>, reading: Reading) -> bool {
    let answered = own.is_none_or(|own| record.deregistered_at.is_some_and(|at| at >= own.at));
    if record.deregister_intent != own || answered {
        return false;
    }
    record.deregister_intent = None;
    if reading == Reading::Broken {
        record.break_rows();
    }
    true
}

type Intent = RemovalIntent<DeregistrationGround>;
