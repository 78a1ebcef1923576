//! What was read of one instance, by whom, and what each reading may prove.
//!
//! "Not read", "read and absent" and "read and negative" are different variants everywhere. This module judges single
//! readings; what to do about all of them together is [`crate::verdict`]'s.

mod control;
mod named_runner;
mod ownership;
mod silence;

use crate::ids::JobId;
use crate::ledger::{InstanceRecord, Versioned};
use crate::ports::{Instance, Runner, VitalSign};
use crate::time::Timestamp;

pub use control::PositiveControl;
pub use named_runner::NamedRunner;
pub use ownership::{BYPASS_TAG, ENVIRONMENT_TAG, Ownership, TEMPLATE_TAG};
pub use silence::unheard_of;

/// Everything that one pass knows of one instance.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// EC2's word.
    pub instance: Instance,
    /// Whether it is ours to act upon.
    pub ownership: Ownership,
    /// Our memory, read consistently in this pass.
    pub record: RecordEvidence,
    /// The instance's own word.
    pub vital_sign: VitalEvidence,
    /// Whether jobs wait that this instance's runner could take.
    pub demand: DemandEvidence,
    /// GitHub's word on its runner.
    pub registration: RegistrationEvidence,
    /// Who said so, and when.
    pub heard: Heard,
    /// Whether GitHub's word on absences counts in this pass.
    pub control: PositiveControl,
    /// Whether every event about it has reached the ledger.
    pub deliveries: DeliveryEvidence,
    /// The jobs API's word on the jobs that it could have been given.
    pub jobs: JobsEvidence,
    /// When deliveries and jobs were asked, where they were.
    pub rechecked_at: Timestamp,
    /// The jobs API's word on the job that started on it.
    pub assigned_job: AssignedJob,
}

/// The instance's record.
#[derive(Clone, Debug)]
pub enum RecordEvidence {
    /// The ledger could not be read.
    Unread,
    /// Read, and there is none.
    Absent,
    /// A record of a schema that this code does not know.
    Foreign,
    /// The record.
    Present(Box<Versioned<InstanceRecord>>),
}

/// The instance's vital sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VitalEvidence {
    /// The table could not be read.
    Unread,
    /// Read, and the instance never wrote one.
    Never,
    /// Its last one.
    Sign(VitalSign),
}

/// Whether jobs wait that the fleet's labels serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DemandEvidence {
    /// The ledger could not be asked.
    Unread,
    /// A matching job that was queued a short while ago waits.
    Waiting,
    /// Matching jobs wait, all of them for long: a runner that took none by now takes none.
    WaitingLong,
    /// None waits.
    Quiet,
    /// None waits, and the fleet's idle schedule keeps this instance.
    Pool,
    /// Nobody may want it: its fleet is gone from the configuration, or the deployment is being retired.
    Unwanted,
}

/// Who told of a runner, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Who.
    pub from: Witness,
    /// When the question was put: what happened after it is not in the answer.
    pub at: Timestamp,
}

/// How GitHub was asked about a runner. A list suffices to keep an instance or to remember a reading; before anything
/// destructive the runner is read by itself (facts/github.md 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Witness {
    /// By the scope's list, read once in this pass.
    List,
    /// By id, or by exact name while no id is known; the list was asked as well, and whatever of the two says "busy"
    /// counts.
    Runner,
}

/// GitHub's word on the runner: by id where the record has one, by exact name where not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistrationEvidence {
    /// Not asked yet in this pass.
    NotAsked,
    /// Asked and not answered: error, throttled, or two answers that contradict each other.
    Unread,
    /// 401 or 403, or the scope's list answered 404: a permission or the installation is gone, and a person has to act.
    Denied,
    /// 404 by id, or a 200 without that name. Proves nothing without a positive control.
    Absent,
    /// The registration.
    Present(Runner),
}

/// Whether every failed delivery that may concern the instance was applied to the ledger in this pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryEvidence {
    /// Not asked yet in this pass.
    NotAsked,
    /// GitHub's log could not be read, or a payload could not be applied.
    Unsettled,
    /// Settled.
    Settled,
}

/// The jobs API's word on the jobs that may have been assigned to this runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobsEvidence {
    /// Not asked yet in this pass.
    NotAsked,
    /// At least one job could not be read.
    Unread,
    /// None of the waiting jobs is on this runner.
    NoneOnRunner,
    /// This one is.
    OnRunner(JobId),
}

/// The jobs API's word on the job that started on this instance, or is said to have ended on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssignedJob {
    /// Not asked yet in this pass.
    NotAsked,
    /// Error, or an answer that binds it to no runner.
    Unread,
    /// 401, 403 or 404: the repository may be gone, or a permission.
    Denied,
    /// In progress on this runner, or on none that is named.
    Here,
    /// Waits for a runner again, or is bound to another one.
    Elsewhere,
    /// Ended on this very runner.
    Completed,
}

impl Evidence {
    /// The record, where there is one that we understand.
    #[must_use]
    pub fn known_record(&self) -> Option<&InstanceRecord> {
        match &self.record {
            RecordEvidence::Present(record) => Some(&record.record),
            RecordEvidence::Unread | RecordEvidence::Absent | RecordEvidence::Foreign => None,
        }
    }
}
