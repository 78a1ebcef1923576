//! Drain (design section 5, layer 2): one CreateTags call for up to 1,000 instances, and the records that remember the
//! request. Asks; the instance decides.

use tracing::info;

use super::{RemovalPorts, batch};
use crate::error::PortError;
use crate::ids::{FleetName, InstanceId};
use crate::ledger::{InstanceRecord, Versioned};
use crate::ports::TAGGED_MAX;

/// What came of the requests.
pub(super) struct Drained {
    /// The fleets of the instances that were tagged, one for each.
    pub(super) fleets: Vec<FleetName>,
    /// What failed, by an instance that it was about.
    pub(super) failures: Vec<(InstanceId, PortError)>,
}

/// Asks them all. The tag goes first: a request that is remembered and was never made would let the control plane take
/// over too early. Only the first request is remembered; it is renewed by every pass in which the instance is surplus.
pub(super) async fn request<P: RemovalPorts>(ports: &P, drains: Vec<Versioned<InstanceRecord>>) -> Drained {
    let mut drained = Drained { fleets: Vec::new(), failures: Vec::new() };
    for batch in drains.chunks(TAGGED_MAX) {
        let now = ports.now();
        let ids: Vec<InstanceId> = batch.iter().map(|record| record.record.instance_id.clone()).collect();
        let tagged: std::collections::BTreeSet<InstanceId> = match ports.request_drain(&ids, now).await {
            Ok(tagged) => tagged.into_iter().collect(),
            Err(error) => {
                drained.failures.extend(ids.into_iter().next().map(|id| (id, error)));
                continue;
            }
        };
        let tagged_ones = batch.iter().filter(|record| tagged.contains(&record.record.instance_id));
        drained.fleets.extend(tagged_ones.map(|record| record.record.fleet.clone()));
        let asked = |record: &&Versioned<InstanceRecord>| {
            record.record.drain_requested_at.is_none() && tagged.contains(&record.record.instance_id)
        };
        let mut first: Vec<Versioned<InstanceRecord>> = batch.iter().filter(asked).cloned().collect();
        for record in &mut first {
            info!(instance_id = %record.record.instance_id, "asked {} to drain", record.record.instance_id);
            record.record.drain_requested_at = Some(now);
        }
        drained.failures.extend(batch::store(ports, first).await);
    }
    drained
}
