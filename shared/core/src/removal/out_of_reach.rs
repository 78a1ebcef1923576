//! Instances that bear our tag and that no pass may touch: whatever cannot end without a person, a person has to hear of.
//! Nothing here acts.

use super::report::Report;
use crate::config::{HARD_AGE, Policy};
use crate::evidence::{Evidence, Ownership, RecordEvidence};
use crate::ports::InstanceState;
use crate::time::Timestamp;

/// Why nobody but a person can end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OutOfReach {
    /// Its record is of a schema or shape that this code does not know, and it is older than any job can be.
    ForeignRecord,
}

/// Tells of all of them as errors: there is a job's worth of evidence in such a record that only another version of this
/// code can weigh.
pub(super) fn tell(evidence: &[Evidence], policy: &Policy, now: Timestamp, report: &mut Report) {
    for evidence in evidence {
        let id = &evidence.instance.id;
        match judge(evidence, policy, now) {
            Some(OutOfReach::ForeignRecord) => report.error(format!(
                "{id} is older than any job can be, and its record is of a schema or shape that this version does not \
                 know, so it is kept for ever: roll forward to the version that wrote it, or end {id} by hand"
            )),
            None => {}
        }
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
        (Ownership::Bypassed, _)
        | (
            Ownership::Ours | Ownership::Foreign,
            RecordEvidence::Unread | RecordEvidence::Absent | RecordEvidence::Present(_),
        ) => None,
    }
}
