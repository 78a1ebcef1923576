//! The orphan-sweeper's pass: what lost its other half (design section 5, layer 4).
//!
//! Instances that EC2 lists walk the same road as in scale-down, with the other grounds. Beside them there are records
//! whose instance no listing shows any more, and registrations and JIT configurations without an instance.
//!
//! - `plan`: what a listing proves of a record, and which registrations and configurations are strays. Pure.
//! - `strays`: looks for those, every quarter of an hour.

mod plan;
mod strays;

use tracing::info;

use crate::config::Policy;
use crate::error::{Class, Classify};
use crate::ids::InstanceId;
use crate::ledger::{self, InstanceRecord, Stored};
use crate::ports::OpenPartition;
use crate::removal::{Duties, FailedPass, Pass, RemovalPorts, Report};
use crate::time::{Deadline, Timestamp};

use plan::{Vanished, apart, vanished};

/// Open records that one query of the index may show. More were never seen together: GitHub takes 10,000 runners in a
/// group (facts/github.md 2.4).
const RECORDS_MAX: usize = 20_000;

/// Runs the orphan-sweeper's pass.
///
/// # Guarantees
/// As [`crate::removal::run_pass`].
///
/// # Errors
/// As [`crate::removal::run_pass`].
pub async fn run_pass<P: RemovalPorts>(ports: &P, policy: &Policy, deadline: Deadline) -> Result<Report, FailedPass> {
    let mut pass = Pass::new(ports, policy, deadline, Duties::OrphanSweeper).await;
    pass.tell_of_what_is_out_of_reach();
    over_unlisted_records(ports, policy, &mut pass).await;
    strays::settle(ports, policy, &mut pass).await;
    // Last, for it is what a deadline may cut: it goes on where it stopped.
    pass.over_listed_instances().await;
    pass.finish().await
}

/// Open records whose instance the listing did not show: gone, or not shown yet.
async fn over_unlisted_records<P: RemovalPorts>(ports: &P, policy: &Policy, pass: &mut Pass<'_, P>) {
    // Without a complete listing nothing is missing.
    let Some(listed) = pass.listed() else { return };
    let shown = match ports.open(&OpenPartition::Instances, Timestamp(i64::MAX), RECORDS_MAX).await {
        Ok(shown) => shown,
        Err(error) => {
            pass.report.error(error);
            return;
        }
    };
    let open_count = shown.len();
    let mut unlisted: Vec<String> = shown
        .into_iter()
        .map(|item| item.key.id)
        .filter(|id| !listed.contains_key(&InstanceId::new(id.as_str())))
        .collect();
    unlisted.sort_unstable();
    let after = pass.cursor_mut().unlisted_after.take();
    let first = after.map_or(0, |after| unlisted.partition_point(|id| id.as_str() <= after.as_str()));
    unlisted.rotate_left(first);
    let records = match ledger::load_all::<InstanceRecord>(ports, unlisted).await {
        Ok(records) => records,
        Err(error) => {
            pass.report.error(error);
            return;
        }
    };
    let missing = |(_, stored): &&(String, Stored<InstanceRecord>)| matches!(stored, Stored::Present(record) if record.record.gone_at.is_none());
    let apart = apart(records.iter().filter(missing).count(), open_count);
    let begun_at = pass.begun_at();
    let mut last = None;
    for (id, stored) in records {
        if !pass.allows_half(begun_at) {
            pass.cursor_mut().unlisted_after = last;
            return;
        }
        last = Some(InstanceId::new(id));
        let Stored::Present(mut record) = stored else { continue };
        record.record = record.record.seen_from(policy.epoch(begun_at));
        match vanished(&record.record, pass.begun_at(), apart) {
            Vanished::Leave => {}
            Vanished::Gone => pass.over_vanished(record).await,
            Vanished::Note(change) => {
                change.apply(&mut record.record);
                let id = record.record.instance_id.clone();
                match ledger::store(ports, record).await {
                    Ok(_) => info!(instance_id = %id, "{id}: {change:?}"),
                    Err(error) if error.class() == Class::Conflict => {}
                    Err(error) => pass.report.error(error),
                }
            }
        }
    }
}
