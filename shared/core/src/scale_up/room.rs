//! What a fleet has room for, as EC2 and the ledger show it now. Reserves nothing: whether there is room is decided where
//! it is reserved.

use std::collections::BTreeSet;

use super::plan;
use super::reserve::load_fleet;
use crate::config::{Fleet, Policy};
use crate::error::PortError;
use crate::ledger::{self, InstanceRecord, Stored};
use crate::ports::{ComputeRead, Instance, Ledger};
use crate::time::Clock;

/// Those of the deployment's instances that are not known to be somebody else's: made by a template of ours, or on record.
/// One that a former template made and that is not on record yet is counted by its reservation.
pub(crate) async fn own_instances(
    ports: &(impl ComputeRead + Ledger),
    policy: &Policy,
) -> Result<Vec<Instance>, PortError> {
    let mut listing = ports.instances(&policy.deployment).await?;
    let in_doubt = listing.iter().filter(|instance| !plan::is_from_template(instance, policy));
    // EC2's pages may show one twice.
    let in_doubt: BTreeSet<String> = in_doubt.map(|instance| instance.id.to_string()).collect();
    if in_doubt.is_empty() {
        return Ok(listing);
    }
    let stored = ledger::load_all::<InstanceRecord>(ports, in_doubt).await?;
    let unknown: BTreeSet<String> =
        stored.into_iter().filter(|(_, stored)| matches!(stored, Stored::Absent)).map(|(id, _)| id).collect();
    listing.retain(|instance| !unknown.contains(instance.id.as_str()));
    Ok(listing)
}

/// How many instances the fleet may still launch. The listing ([`own_instances`]) was begun before: what was launched in
/// between is counted by its reservation.
pub(crate) async fn room(
    ports: &(impl Ledger + Clock),
    fleet: &Fleet,
    listing: &[Instance],
) -> Result<usize, PortError> {
    let record = load_fleet(ports, fleet).await?;
    Ok(plan::room(fleet, listing, &record.record.reservations, ports.now()))
}
