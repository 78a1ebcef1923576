//! The orphan-sweeper's pass: what lost its other half (design section 5, layer 4).
//!
//! Instances that EC2 lists walk the same road as in scale-down, with the other grounds. Beside them there are records
//! whose instance no listing shows any more, and jobs that wait longer than they should.

mod plan;

use tracing::info;

use crate::config::Policy;
use crate::demand;
use crate::error::{Class, Classify};
use crate::ledger::{self, InstanceRecord};
use crate::ports::OpenPartition;
use crate::removal::{Duties, FailedPass, Pass, RemovalPorts, Report};
use crate::time::{Deadline, Timestamp};

use plan::{Vanished, apart, vanished};

/// Records looked at in one pass besides the listed instances: more, and a pass may not end in time.
const RECORDS_MAX: usize = 2_000;

/// Runs the orphan-sweeper's pass.
///
/// # Guarantees
/// As [`crate::removal::run_pass`].
///
/// # Errors
/// As [`crate::removal::run_pass`].
pub async fn run_pass<P: RemovalPorts>(ports: &P, policy: &Policy, deadline: Deadline) -> Result<Report, FailedPass> {
    // First: a slow removal must not keep jobs waiting.
    let sent = demand::send_due_jobs(ports, policy, deadline).await;
    let mut pass = Pass::new(ports, policy, deadline, Duties::OrphanSweeper).await;
    pass.over_listed_instances().await;
    over_unlisted_records(ports, &mut pass).await;
    pass.report.jobs_resent_count = sent.sent_count;
    pass.report.errors.extend(sent.failures);
    pass.finish()
}

/// Records of living instances that the listing did not show: gone, or not shown yet.
async fn over_unlisted_records<P: RemovalPorts>(ports: &P, pass: &mut Pass<'_, P>) {
    // Without a complete listing nothing is missing.
    let Some(listed) = pass.listed() else { return };
    let partition = OpenPartition::Instances;
    let records = match ledger::open::<InstanceRecord>(ports, &partition, Timestamp(i64::MAX), RECORDS_MAX).await {
        Ok(open) => open.records,
        Err(error) => {
            pass.report.errors.push(error.to_string());
            return;
        }
    };
    let living = records.iter().filter(|record| record.record.gone_at.is_none());
    let missing = living.clone().filter(|record| !listed.contains(&record.record.instance_id)).count();
    let apart = apart(missing, living.count());
    for mut record in records {
        if !pass.allows_more() {
            return;
        }
        let is_listed = listed.contains(&record.record.instance_id);
        match vanished(&record.record, is_listed, pass.begun_at(), apart) {
            Vanished::Leave => {}
            Vanished::Gone => pass.over_vanished(record).await,
            Vanished::Note(change) => {
                change.apply(&mut record.record);
                let id = record.record.instance_id.clone();
                match ledger::store(ports, record).await {
                    Ok(_) => info!(instance_id = %id, "{id}: {change:?}"),
                    Err(error) if error.class() == Class::Conflict => {}
                    Err(error) => pass.report.errors.push(error.to_string()),
                }
            }
        }
    }
}
