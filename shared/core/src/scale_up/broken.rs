//! What mutants do with a batch that we do not do.

use std::sync::Arc;

use super::equip::Equipped;
use super::{Batch, JobMessage, LaunchPorts, Outcome};
use crate::config::Mutant;
use crate::error::{Class, PortError};
use crate::evidence::{
    AssignedJob, DeliveryEvidence, DemandEvidence, Evidence, Heard, JobsEvidence, Ownership, PositiveControl,
    RecordEvidence, RegistrationEvidence, VitalEvidence, Witness,
};
use crate::ids::{Access, InstanceId, LaunchToken, RunnerName};
use crate::ledger::{self, InstanceRecord, JobRecord, LaunchRecord, Stored};
use crate::ports::{Instance, InstanceState, LaunchRequest, Runner};
use crate::removal::Deregisterable;
use crate::time::Timestamp;

/// m22: nothing is done for a batch in which one message is no job.
pub(super) fn failed_whole(mutant: Mutant, parsed: &[(String, Option<JobMessage>)]) -> Option<Vec<(String, Outcome)>> {
    let poisoned = mutant.fails_batches_whole() && parsed.iter().any(|(_, job)| job.is_none());
    let failed = |(id, _): &(String, _)| (id.clone(), Outcome::Failed("another message of its batch".to_owned()));
    poisoned.then(|| parsed.iter().map(failed).collect())
}

/// m14 and m20: which messages come back.
pub(super) fn answered(mutant: Mutant, outcomes: Vec<(String, Outcome)>) -> Vec<(String, Outcome)> {
    let has_failed = |(_, outcome): &(String, Outcome)| matches!(outcome, Outcome::Failed(_));
    let failed_count = outcomes.iter().filter(|answer| has_failed(answer)).count();
    let acknowledged = |outcome| match outcome {
        Outcome::Failed(_) => Outcome::Launched,
        Outcome::Launched | Outcome::AlreadyServed | Outcome::NotQueued | Outcome::Waiting => outcome,
    };
    if mutant.acknowledges_before_launching() {
        outcomes.into_iter().map(|(id, outcome)| (id, acknowledged(outcome))).collect()
    } else if mutant.counts_failures_from_all() {
        let counted = |(place, (id, outcome)): (usize, (String, Outcome))| {
            let failed = Outcome::Failed("counted".to_owned());
            (id, if place < failed_count { failed } else { acknowledged(outcome) })
        };
        outcomes.into_iter().enumerate().map(counted).collect()
    } else {
        outcomes
    }
}

/// m16: a token that a repetition does not have.
pub(super) fn with_token(mutant: Mutant, request: LaunchRequest, now: Timestamp) -> LaunchRequest {
    if !mutant.draws_client_tokens() {
        return request;
    }
    let text = format!("{}{}", now.0, request.token);
    LaunchRequest { token: LaunchToken::new(text.chars().take(64).collect::<String>()), ..request }
}

/// m21: the jobs of a launch that EC2 refuses are forgotten with it.
pub(super) async fn drop_refused_jobs<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    launch: &LaunchRecord,
    class: Class,
) -> Result<(), PortError> {
    if class == Class::NoCapacity || !batch.policy.mutant.drops_jobs_that_ec2_refuses() {
        return Ok(());
    }
    let now = batch.ports.now();
    for job_id in &launch.job_ids {
        ledger::update::<JobRecord>(batch.ports, &job_id.to_string(), |stored| match stored {
            Stored::Present(mut job) => job.record.note_completed(now, None).then_some(job),
            Stored::Absent | Stored::Foreign => None,
        })
        .await?;
    }
    Ok(())
}

/// m18: deletes the registration whose name is taken, whoever uses it; `None` where there is none. No warrant is to be had but from `decide`, so it
/// is told a lie: that the instance stands still.
pub(super) async fn delete_taken<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    access: &Access,
    id: &InstanceId,
    name: &RunnerName,
) -> Result<Option<Equipped>, PortError> {
    if !batch.policy.mutant.deletes_taken_names() {
        return Ok(None);
    }
    let (ports, now) = (batch.ports, batch.ports.now());
    let Some(runner) = ports.runner_named(access, name).await? else { return Ok(None) };
    let Stored::Present(mut record) = ledger::load::<InstanceRecord>(ports, id.as_str()).await? else {
        return Ok(None);
    };
    record.record.stopped_since = Some(Timestamp(0));
    let evidence = Evidence {
        instance: Instance { id: id.clone(), state: InstanceState::Stopped, launched_at: now, tags: Arc::default() },
        ownership: Ownership::Ours,
        record: RecordEvidence::Present(Box::new(record)),
        vital_sign: VitalEvidence::Never,
        demand: DemandEvidence::Unwanted,
        registration: RegistrationEvidence::Present(Runner { busy: false, ..runner }),
        heard: Heard { from: Witness::Runner, at: now },
        control: PositiveControl::Held,
        deliveries: DeliveryEvidence::Settled,
        jobs: JobsEvidence::NoneOnRunner,
        rechecked_at: now,
        assigned_job: AssignedJob::NotAsked,
    };
    let Some(deregisterable) = Deregisterable::establish(&evidence, batch.policy, now) else { return Ok(None) };
    let (warrant, _) = deregisterable.commit(ports, now).await?;
    ports.deregister(warrant).await?;
    ledger::update::<InstanceRecord>(ports, id.as_str(), |stored| match stored {
        Stored::Present(mut record) => {
            record.record.stopped_since = None;
            record.record.deregister_intent = None;
            record.record.jit_intent_at = None;
            record.record.runner_id = None;
            Some(record)
        }
        Stored::Absent | Stored::Foreign => None,
    })
    .await?;
    Ok(Some(Equipped::Retry("its name is free now".to_owned())))
}
