//! One instance gets its configuration, once. What it still needs is decided by `aftermath::need`.
//!
//! The order is the protection: the intent is stored before GitHub is asked, the runner's id before the configuration
//! is put, and nothing here ever deletes a registration: its configuration may be in use.

use tracing::{info, warn};

use crate::config::Fleet;
use crate::error::{Class, Classify, PortError};
use crate::ids::{InstanceId, RunnerId, RunnerName};
use crate::ledger::{self, InstanceRecord, LaunchRecord, Stored, Versioned};
use crate::ports::{JitConfig, JitRequest, Registered};
use crate::time::Timestamp;

use super::aftermath::{self, Need, Sight};
#[cfg(feature = "mutants")]
use super::broken;
use super::{Batch, LaunchPorts};
use super::{plan, registration};

/// How far an instance came.
#[derive(Clone, Debug)]
pub(super) enum Equipped {
    /// It can take a job, or possibly so.
    Ready,
    /// The same, and its runner was registered just now.
    Registered,
    /// To be gone on with.
    Retry(String),
    /// The same, and GitHub refused its registration for good.
    Refused(PortError),
    /// To be gone on with once it is seen, or its runner had the time to connect.
    InDoubt,
    /// It will never take a job; it ends itself, or the orphan-sweeper ends it.
    Lost,
    /// A job started on it: whose launch it was made for does not matter any more.
    Spent,
}

/// How often the configuration is put again. SSM admits about 3 writes a second by default (facts/github.md section 4):
/// fewer, and a burst wastes instances; more, and one refusal that stays holds the batch.
const PUTS_MAX: u32 = 10;

/// Takes one instance as far as it can be taken now. One that is not there gets nothing: its registration would be
/// nobody's, and its job wait for it.
pub(super) async fn equip<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    fleet: &Fleet,
    launch: &LaunchRecord,
    id: &InstanceId,
    sight: Sight,
) -> Equipped {
    match sight {
        Sight::Shown(state) if plan::has_ended(state) => return Equipped::Lost,
        Sight::Gone => return Equipped::Lost,
        Sight::InDoubt => return Equipped::InDoubt,
        Sight::Shown(_) | Sight::Young => {}
    }
    if !batch.has_time() {
        return Equipped::Retry("the deadline is near".to_owned());
    }
    match try_equip(batch, fleet, launch, id).await {
        Ok(equipped) => equipped,
        Err(Trouble { error, is_refusal }) => {
            warn!(instance_id = %id, error = %error, class = ?error.class, "could not equip {id}: {error}");
            if is_refusal { Equipped::Refused(error) } else { Equipped::Retry(error.to_string()) }
        }
    }
}

/// Why an instance could not be equipped now.
struct Trouble {
    error: PortError,
    /// GitHub refused the registration for good.
    is_refusal: bool,
}

impl Trouble {
    /// GitHub's answer where the registration was asked for.
    fn of_registration(error: PortError) -> Self {
        Self { is_refusal: registration::is_refused(&error), error }
    }
}

impl From<PortError> for Trouble {
    fn from(error: PortError) -> Self {
        Self { error, is_refusal: false }
    }
}

async fn try_equip<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    fleet: &Fleet,
    launch: &LaunchRecord,
    id: &InstanceId,
) -> Result<Equipped, Trouble> {
    let Some(found) = intend(batch, id, Need::Configuration).await? else { return Ok(Equipped::Lost) };
    let Found { need, name, registered, mut intended } = found;
    #[cfg(feature = "mutants")]
    if matches!(need, Need::Unsure | Need::LookUp)
        && let Some(equipped) = broken::delete_taken(batch, &launch.access, id, &name).await?
    {
        return Ok(equipped);
    }
    match need {
        Need::Nothing => return Ok(Equipped::Ready),
        Need::Spent => return Ok(Equipped::Spent),
        Need::Unsure => return Ok(settle_unsure(batch, fleet, launch, id, registered).await?),
        Need::Beyond => return Ok(Equipped::Lost),
        Need::Configuration => {}
        Need::LookUp => {
            if look_up(batch, launch, id, &name).await? {
                return Ok(Equipped::Lost);
            }
            intended = intend(batch, id, Need::LookUp).await?.and_then(|again| again.intended);
        }
    }
    let Some(intended) = intended else { return Ok(Equipped::Lost) };
    let request = JitRequest {
        name: name.clone(),
        labels: launch.labels.clone(),
        runner_group_id: plan::runner_group(fleet, &launch.access.scope),
    };
    match batch.ports.generate_jit_config(&launch.access, &request).await.map_err(Trouble::of_registration)? {
        Registered::Created { runner_id, config } => {
            let noted = if batch.policy.mutant.hands_over_unrecorded() {
                intended
            } else {
                change(batch, id, Stored::Present(intended), |record| record.note_runner_id(runner_id)).await?
            };
            Ok(hand_over(batch, id, noted, runner_id, &config).await?)
        }
        #[cfg(feature = "mutants")]
        Registered::NameTaken if batch.policy.mutant.deletes_taken_names() => {
            Ok(broken::delete_taken(batch, &launch.access, id, &name).await?.unwrap_or(Equipped::Lost))
        }
        // The answer to an earlier success was lost, and its configuration with it (facts/world.md G10).
        Registered::NameTaken => {
            look_up(batch, launch, id, &name).await?;
            Ok(Equipped::Lost)
        }
    }
}

/// What the record says of an instance.
struct Found {
    need: Need,
    name: RunnerName,
    /// When a configuration was first asked for, and the runner that was registered for it.
    registered: Option<(Timestamp, RunnerId)>,
    /// The record with the intent, where it was stored just now.
    intended: Option<Versioned<InstanceRecord>>,
}

/// A runner is registered, and whether its configuration reached the instance nobody wrote down. One that never
/// connected (`version` is null: positive evidence, facts/github.md 2.1) in the time of a lease has none; any other may
/// have, or have had a job.
async fn settle_unsure<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    fleet: &Fleet,
    launch: &LaunchRecord,
    id: &InstanceId,
    registered: Option<(Timestamp, RunnerId)>,
) -> Result<Equipped, PortError> {
    let Some((asked_at, runner_id)) = registered else { return Ok(Equipped::Ready) };
    let read_at = batch.ports.now();
    let Some(runner) = batch.ports.runner(&launch.access, runner_id).await? else { return Ok(Equipped::Ready) };
    if runner.busy {
        // Whoever asks next may meet a flag that is false in mid-job.
        let stored = ledger::load(batch.ports, id.as_str()).await?;
        change(batch, id, stored, |record| {
            record.note_busy_if_news(read_at);
        })
        .await?;
    }
    if runner.online || runner.busy || runner.version != Some(None) {
        return Ok(Equipped::Ready);
    }
    // Time alone tells: a whole lease more would be added to what the launch has waited.
    if batch.ports.now().since(asked_at) < fleet.timers.launch_lease {
        return Ok(Equipped::InDoubt);
    }
    warn!(runner_id = %runner_id, "runner {runner_id} never connected: its configuration was not handed over");
    let stored = ledger::load(batch.ports, id.as_str()).await?;
    change(batch, id, stored, |record| record.note_lost(batch.ports.now())).await?;
    Ok(Equipped::Lost)
}

/// Stores the intent to ask for a configuration if that is what the instance needs, on condition that nobody began to
/// remove it, and says what it needed and what its runner is called: the webhook knows it by the name on record, whatever
/// the fleet's prefix is by now. `None` where there is no record of ours.
async fn intend<P: LaunchPorts>(batch: &Batch<'_, P>, id: &InstanceId, when: Need) -> Result<Option<Found>, PortError> {
    let now = batch.ports.now();
    let mut found = None;
    let intended = ledger::update::<InstanceRecord>(batch.ports, id.as_str(), |stored| match stored {
        Stored::Present(mut record) => {
            let need = aftermath::need(&record.record);
            let registered = record.record.jit_intent_at.zip(record.record.runner_id);
            let name = record.record.runner_name.clone();
            record.record.jit_intent_at = Some(record.record.jit_intent_at.unwrap_or(now));
            let wanted = (need == when).then_some(record);
            let (unstored, stored) =
                if batch.policy.mutant.hands_over_unrecorded() { (wanted, None) } else { (None, wanted) };
            found = Some(Found { need, name, registered, intended: unstored });
            stored
        }
        Stored::Absent | Stored::Foreign => {
            found = None;
            None
        }
    })
    .await?;
    Ok(found.map(|found| Found { intended: intended.or(found.intended), ..found }))
}

/// Looks for a registration under the instance's name; returns whether there is one. Its configuration is lost, so it
/// is left to the orphan-sweeper, with its id on record.
async fn look_up<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    launch: &LaunchRecord,
    id: &InstanceId,
    name: &RunnerName,
) -> Result<bool, Trouble> {
    let read_at = batch.ports.now();
    let named = batch.ports.runner_named(&launch.access, name).await;
    let Some(runner) = named.map_err(Trouble::of_registration)? else {
        return Ok(false);
    };
    warn!(instance_id = %id, runner_id = %runner.id, "runner {} of {id} is registered, its configuration lost", runner.id);
    let (stored, now) = (ledger::load(batch.ports, id.as_str()).await?, batch.ports.now());
    let note = |record: &mut InstanceRecord| {
        record.note_runner_id(runner.id);
        record.note_lost(now);
        if runner.busy {
            record.note_busy_if_news(read_at);
        }
    };
    change(batch, id, stored, note).await?;
    Ok(true)
}

async fn hand_over<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    id: &InstanceId,
    noted: Versioned<InstanceRecord>,
    runner_id: RunnerId,
    config: &JitConfig,
) -> Result<Equipped, PortError> {
    let put = put(batch, id, config).await;
    let (now, noted) = (batch.ports.now(), Stored::Present(noted));
    match put {
        Put::Done => {}
        Put::InDoubt => return Ok(Equipped::Registered),
        Put::Refused => {
            change(batch, id, noted, |record| record.note_lost(now)).await?;
            return Ok(Equipped::Lost);
        }
    }
    change(batch, id, noted, |record| record.handed_over_at = Some(record.handed_over_at.unwrap_or(now))).await?;
    info!(instance_id = %id, runner_id = %runner_id, "runner {runner_id} handed over to {id}");
    Ok(Equipped::Registered)
}

/// What became of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Put {
    /// The instance can fetch it.
    Done,
    /// It may be there: not every attempt was refused.
    InDoubt,
    /// SSM refused every attempt.
    Refused,
}

async fn put<P: LaunchPorts>(batch: &Batch<'_, P>, id: &InstanceId, config: &JitConfig) -> Put {
    let (mut repetition, mut given_up) = (0, Put::Refused);
    loop {
        let Err(error) = batch.ports.put_jit_config(id, config).await else { return Put::Done };
        let may_pass = match error.class() {
            Class::OutcomeUnknown => {
                given_up = Put::InDoubt;
                true
            }
            Class::Transient | Class::Throttled { .. } => true,
            Class::NoCapacity
            | Class::Rejected
            | Class::Conflict
            | Class::Absent
            | Class::Denied
            | Class::Misconfigured => false,
        };
        if !may_pass || repetition == PUTS_MAX || !batch.has_time() {
            warn!(instance_id = %id, error = %error, class = ?error.class, "could not hand over to {id}: {error}");
            return given_up;
        }
        batch.back_off(repetition).await;
        repetition += 1;
    }
}

async fn change<P: LaunchPorts>(
    batch: &Batch<'_, P>,
    id: &InstanceId,
    stored: Stored<InstanceRecord>,
    mut change: impl FnMut(&mut InstanceRecord),
) -> Result<Versioned<InstanceRecord>, PortError> {
    let written = ledger::update_known::<InstanceRecord>(batch.ports, id.as_str(), stored, |stored| match stored {
        Stored::Present(mut record @ Versioned { .. }) => {
            change(&mut record.record);
            Some(record)
        }
        Stored::Absent | Stored::Foreign => None,
    });
    match written.await? {
        Some(written) => Ok(written),
        None => Err(PortError::new(format!("record {id}"), Class::Transient, "the record is not there")),
    }
}
