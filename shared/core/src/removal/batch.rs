//! Many records of one pass written at once: 1,000 single writes would take longer than all the rest of a pass.

use super::RemovalPorts;
use crate::error::{Class, Classify, PortError};
use crate::ids::InstanceId;
use crate::ledger::{self, InstanceRecord, Versioned};
use crate::ports::Write;

/// Records in one transaction, the most that DynamoDB takes.
pub(super) const WRITTEN_MAX: usize = 100;

/// Stores them all, each on condition that it is as it was read; returns what failed, by an instance that it was about.
/// Where one of a transaction changed meanwhile, each is stored by itself.
pub(super) async fn store<P: RemovalPorts>(
    ports: &P,
    records: Vec<Versioned<InstanceRecord>>,
) -> Vec<(InstanceId, PortError)> {
    let id = |record: &Versioned<InstanceRecord>| record.record.instance_id.clone();
    let mut failures = Vec::new();
    for together in records.chunks(WRITTEN_MAX) {
        let writes: Vec<Write> = together.iter().map(Versioned::write).collect();
        match ports.write(&writes).await {
            Ok(()) => {}
            Err(error) if error.class() == Class::Conflict && together.len() > 1 => {
                for record in together {
                    if let Err(error) = ledger::store(ports, record.clone()).await {
                        failures.push((id(record), error));
                    }
                }
            }
            Err(error) => failures.extend(together.first().map(|first| (id(first), error))),
        }
    }
    failures
}
