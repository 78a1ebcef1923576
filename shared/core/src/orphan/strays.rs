//! Registrations and JIT configurations without an instance: what is left where the record was closed, or never made.

use std::collections::BTreeSet;
use std::time::Duration;

use tracing::{info, warn};

use super::plan::{is_stray_configuration, is_stray_registration, may_be_left_of_ours};
use crate::config::Policy;
use crate::error::{Class, Classify, PortError};
use crate::ids::{InstanceId, Scope};
use crate::ledger::{self, InstanceRecord, Stored};
use crate::ports::{InstanceState, Runner};
use crate::removal::{Pass, RemovalPorts};
use crate::time::Timestamp;

/// How often they are looked for: a whole list of the runners each time. Longer, and a secret or a registration stays
/// for longer (the bound is an hour, simulation.md L3 and L4); shorter, and the lists eat the hourly budget.
const INTERVAL: Duration = Duration::from_mins(15);

/// Looks for strays where it is time to, the longest neglected scope first.
pub(super) async fn settle<P: RemovalPorts>(ports: &P, policy: &Policy, pass: &mut Pass<'_, P>) {
    let now = pass.begun_at();
    let interval = INTERVAL.min(policy.orphan_timers.boot_grace);
    let due = |at: Option<Timestamp>| at.is_none_or(|at| now.since(at) >= interval);
    let Some(listed) = pass.listed() else { return };
    let lives = |id: &InstanceId| {
        listed.get(id).is_some_and(|state| match state {
            InstanceState::Terminated => false,
            InstanceState::Pending
            | InstanceState::Running
            | InstanceState::ShuttingDown
            | InstanceState::Stopping
            | InstanceState::Stopped
            | InstanceState::Unrecognised => true,
        })
    };
    if due(pass.cursor_mut().strays_at) {
        pass.cursor_mut().strays_at = Some(now);
        if let Err(error) = configurations(ports, policy, pass, &lives).await {
            pass.report.error(error);
        }
    }
    if policy.mutant.leaves_stray_registrations() {
        return;
    }
    let mut scopes = pass.cursor_mut().scopes.clone();
    scopes.sort_by_key(|scope| scope.swept_at);
    for scope in scopes.into_iter().filter(|scope| due(scope.swept_at)) {
        if !pass.allows_half(now) {
            break;
        }
        let runners = pass.listed_runners(&scope.access).await;
        let strays: Vec<Runner> =
            runners.into_iter().filter(|runner| runner.name.instance_id().is_some_and(|id| !lives(&id))).collect();
        if let Err(error) = registrations(ports, policy, pass, &scope.access.scope, strays).await {
            pass.report.error(error);
        }
        for known in pass.cursor_mut().scopes.iter_mut().filter(|known| known.access == scope.access) {
            known.swept_at = Some(now);
        }
    }
}

/// Secrets that nobody will fetch any more.
async fn configurations<P: RemovalPorts>(
    ports: &P,
    policy: &Policy,
    pass: &mut Pass<'_, P>,
    lives: &impl Fn(&InstanceId) -> bool,
) -> Result<(), PortError> {
    let now = pass.begun_at();
    let grace = policy.fleets.iter().map(|fleet| fleet.timers.boot_grace).max();
    let grace = grace.unwrap_or(policy.orphan_timers.boot_grace);
    for (id, stored_at) in ports.jit_configs().await? {
        if !is_stray_configuration(lives(&id), now.since(stored_at), grace) || !pass.allows_more() {
            continue;
        }
        if !pass.permits("deletion of a JIT configuration") {
            continue;
        }
        match ports.delete_jit_config(&id).await {
            Ok(()) => {
                info!(instance_id = %id, "took away the JIT configuration of {id}, which does not live");
                pass.report.parameters_removed_count += 1;
            }
            Err(error) => pass.report.error(error),
        }
    }
    Ok(())
}

/// Registrations whose instance does not live. Only what the ledger knows as ours is opened again, to be taken away as
/// any record of a gone instance is; anyone may name a runner as we do (P5).
async fn registrations<P: RemovalPorts>(
    ports: &P,
    policy: &Policy,
    pass: &mut Pass<'_, P>,
    scope: &Scope,
    strays: Vec<Runner>,
) -> Result<(), PortError> {
    let ids: BTreeSet<String> =
        strays.iter().filter_map(|runner| runner.name.instance_id()).map(|id| id.to_string()).collect();
    let records = ledger::load_all::<InstanceRecord>(ports, ids).await?;
    for runner in strays {
        let Some(id) = runner.name.instance_id() else { continue };
        let known = records.iter().find(|(own, _)| own == id.as_str()).map(|(_, stored)| stored);
        let Some(Stored::Present(record)) = known else {
            if may_be_left_of_ours(policy, &runner) {
                pass.report.unowned_registration_count += 1;
            }
            continue;
        };
        let mut record = record.clone();
        if policy.mutant.lists_instances_before_registrations() {
            record.record.gone_at.get_or_insert(pass.begun_at());
            record.record.missing_since = None;
        } else if !is_stray_registration(&record.record, scope, &runner) {
            continue;
        }
        record.record.cleaned_at = None;
        warn!(instance_id = %id, runner_id = %runner.id, "{id} is gone and its registration is not; taking it up again");
        match ledger::store(ports, record).await {
            Ok(record) => pass.over_vanished(record).await,
            Err(error) if error.class() == Class::Conflict => {}
            Err(error) => pass.report.error(error),
        }
    }
    Ok(())
}
