//! Instances that bear our tag and that no pass may touch: whatever cannot end without a person, a person has to hear of.
//! Nothing here acts.

use tracing::warn;

use super::report::Report;
use crate::config::{HARD_AGE, Policy};
use crate::evidence::{ENVIRONMENT_TAG, Evidence, Ownership, RecordEvidence};
use crate::ids::InstanceId;
use crate::ports::InstanceState;
use crate::time::Timestamp;

/// Why nobody but a person can end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OutOfReach {
    /// Its record is of a schema or shape that this code does not know, and it is older than any job can be.
    ForeignRecord,
    /// Nothing but a tag, which anyone may write, says that it is ours.
    Unowned,
}

/// Tells of all of them: of a record that we cannot read as an error, for there is a job's worth of evidence in it that
/// only another version of this code can weigh; of what is not ours as a warning, for it may be a person's.
pub(super) fn tell(evidence: &[Evidence], policy: &Policy, now: Timestamp, report: &mut Report) {
    for evidence in evidence {
        let id = &evidence.instance.id;
        match judge(evidence, policy, now) {
            Some(OutOfReach::ForeignRecord) => report.error(format!(
                "{id} is older than any job can be, and its record is of a schema or shape that this version does not \
                 know, so it is kept for ever: roll forward to the version that wrote it, or end {id} by hand"
            )),
            Some(OutOfReach::Unowned) => report.unowned(id),
            None => {}
        }
    }
    if report.unowned_instance_count > 0 {
        let ids: Vec<&str> = report.unowned_instances.iter().map(InstanceId::as_str).collect();
        warn!(
            instance_count = report.unowned_instance_count,
            "{} instances bear the tag of this deployment and are never touched, for the ledger knows none of them and no \
             fleet names their launch template; name it in the configuration document again, or end them by hand: {}",
            report.unowned_instance_count,
            ids.join(" ")
        );
    }
}

fn judge(evidence: &Evidence, policy: &Policy, now: Timestamp) -> Option<OutOfReach> {
    match evidence.instance.state {
        InstanceState::ShuttingDown | InstanceState::Terminated => return None,
        InstanceState::Pending
        | InstanceState::Running
        | InstanceState::Stopping
        | InstanceState::Stopped
        | InstanceState::Unrecognised => {}
    }
    let age = now.since(evidence.instance.launched_at);
    match (evidence.ownership, &evidence.record) {
        // Whether its template is ours or not: the ledger has a record of it.
        (Ownership::Ours | Ownership::Foreign, RecordEvidence::Foreign) => {
            // Of a record that we could read the hard age counts from its last job, which may have started this late.
            let fleets = policy.fleets.iter().map(|fleet| fleet.timers.idle_maximum);
            let idle_maximum = fleets.chain([policy.orphan_timers.idle_maximum]).max().unwrap_or_default();
            (age >= HARD_AGE + idle_maximum).then_some(OutOfReach::ForeignRecord)
        }
        (Ownership::Foreign, RecordEvidence::Absent) => {
            let tag = evidence.instance.tags.get(ENVIRONMENT_TAG).map(String::as_str);
            let tagged = tag == Some(policy.deployment.as_str());
            // The record of a younger one may be about to be written by the launch that made it.
            (tagged && age >= policy.orphan_timers.boot_grace).then_some(OutOfReach::Unowned)
        }
        (Ownership::Bypassed, _)
        | (Ownership::Ours, RecordEvidence::Absent)
        | (Ownership::Ours | Ownership::Foreign, RecordEvidence::Unread | RecordEvidence::Present(_)) => None,
    }
}
