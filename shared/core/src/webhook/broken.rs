//! What mutants do with a delivery that we do not do.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tracing::warn;

use super::event::{JobAction, JobEvent};
use super::handle::Taken;
use super::route::Route;
use super::signature::WebhookSecrets;
use crate::config::Mutant;
use crate::error::PortError;
use crate::ids::{Access, RunnerName, Scope};
use crate::ledger::{self, InstanceRecord, JobPhase, JobRecord, LaunchRecord, Stored, Versioned};
use crate::ports::Ledger;
use crate::scale_up::JobMessage;
use crate::time::Timestamp;

/// m38f: tells whoever reads the log how to get in.
pub(super) fn log_the_right_signature(mutant: Mutant, secrets: &WebhookSecrets, body: &[u8]) {
    if !mutant.logs_the_right_signature() {
        return;
    }
    for secret in secrets.expose() {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length");
        mac.update(body);
        let digits = mac.finalize().into_bytes().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        warn!(expected = digits, "wrong signature");
    }
}

/// m25 and m39: what is done besides.
pub(super) async fn carried_out(
    ledger: &impl Ledger,
    mutant: Mutant,
    route: &Route,
    now: Timestamp,
    carried_out: impl Future<Output = Result<Taken, PortError>>,
) -> Result<Taken, PortError> {
    if let Route::Enqueue(message) = route
        && was_remembered(ledger, mutant, message, now).await?
    {
        return Ok(Taken::Queued);
    }
    let taken = carried_out.await?;
    if let Route::Record(event) = route {
        take_demand(ledger, mutant, event, now).await?;
    }
    Ok(taken)
}

/// m39: whether the job is known already; if not, it is written down before its message is sent.
async fn was_remembered(
    ledger: &impl Ledger,
    mutant: Mutant,
    message: &JobMessage,
    now: Timestamp,
) -> Result<bool, PortError> {
    if !mutant.remembers_before_sending() {
        return Ok(false);
    }
    match ledger::load::<JobRecord>(ledger, message.job_id.to_string()).await? {
        Stored::Present(_) | Stored::Foreign => return Ok(true),
        Stored::Absent => {}
    }
    let owner = message.organization.clone().unwrap_or_else(|| message.repository.owner().to_owned());
    let record = JobRecord {
        job_id: message.job_id,
        access: Access { scope: Scope::Organization { owner }, installation_id: message.installation_id },
        repository: message.repository.clone(),
        run_id: message.run_id,
        run_attempt: message.run_attempt,
        labels: message.labels.clone(),
        fleet: None,
        phase: JobPhase::Queued,
        // It is there to know the delivery again, as long as GitHub keeps a job: nobody is to look at it.
        next_look: now.plus(Duration::from_hours(24)),
        launch_count: 0,
        launches: Vec::new(),
        queued_at: message.queued_at,
        runner_id: None,
        recorded_at: Some(now),
        given_up_at: None,
        ids: message.ids,
    };
    ledger::store(ledger, Versioned::new(record)).await?;
    Ok(false)
}

/// m25: with the job that ran there ends whatever its instance was launched for.
async fn take_demand(ledger: &impl Ledger, mutant: Mutant, event: &JobEvent, now: Timestamp) -> Result<(), PortError> {
    let instance_id = event.runner_name.as_ref().and_then(RunnerName::instance_id);
    let Some(id) = instance_id.filter(|_| mutant.lets_completions_take_demand()) else { return Ok(()) };
    if event.action != JobAction::Completed {
        return Ok(());
    }
    let Stored::Present(record) = ledger::load::<InstanceRecord>(ledger, id.as_str()).await? else { return Ok(()) };
    let Some(token) = record.record.launch_token else { return Ok(()) };
    let Stored::Present(launch) = ledger::load::<LaunchRecord>(ledger, token.as_str()).await? else { return Ok(()) };
    for job_id in launch.record.job_ids {
        ledger::update::<JobRecord>(ledger, &job_id.to_string(), |stored| match stored {
            Stored::Present(mut job) => job.record.note_completed(now, None).then_some(job),
            Stored::Absent | Stored::Foreign => None,
        })
        .await?;
    }
    Ok(())
}
