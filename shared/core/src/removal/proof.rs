//! Leave to do the two things that can end a job: terminate an instance, deregister a runner.
//!
//! Each leave is made in three steps that no caller can skip: the check that establishes the ground
//! ([`Terminable::establish`]) gets the whole evidence and asks [`decide`]; the intent is stored by compare-and-swap
//! on the very record that was judged ([`Terminable::commit`]), so that any event that came in between refuses it;
//! and the port takes the leave by value, so that it serves once.

use tracing::warn;

use super::{DeregistrationGround, Ground};
use crate::config::Policy;
use crate::error::PortError;
use crate::evidence::{Evidence, RecordEvidence};
use crate::ids::{Access, InstanceId, RunnerId};
use crate::ledger::{self, InstanceRecord, RemovalIntent, Versioned};
use crate::ports::Ledger;
use crate::time::Timestamp;
use crate::verdict::{Action, decide};

/// An established ground to end one instance; not yet stored.
#[derive(Debug)]
#[must_use = "a ground that is not committed ends nothing"]
pub struct Terminable {
    record: Versioned<InstanceRecord>,
    ground: Ground,
}

impl Terminable {
    /// The only constructor.
    ///
    /// # Guarantees
    /// `Some` only when [`decide`] concludes from this evidence that the instance may be ended now.
    ///
    /// # Assumptions
    /// The evidence was read in this pass, the ledger last.
    #[must_use]
    pub fn establish(evidence: &Evidence, policy: &Policy, now: Timestamp) -> Option<Self> {
        match (decide(evidence, policy, now).action, &evidence.record) {
            (Action::Terminate(ground), RecordEvidence::Present(record)) => {
                Some(Self { record: record.as_ref().clone(), ground })
            }
            (_, _) => None,
        }
    }

    /// Stores the intent, on condition that the record is the one that was judged.
    ///
    /// # Errors
    /// Class `Conflict` when an event came in between: the next pass judges anew.
    pub async fn commit(self, ledger: &impl Ledger, now: Timestamp) -> Result<TerminationProof, PortError> {
        let mut record = self.record;
        record.record.terminate_intent = Some(RemovalIntent { at: now, ground: self.ground });
        let record = ledger::store(ledger, record).await?;
        let proof = TerminationProof { instance_id: record.record.instance_id, ground: self.ground };
        warn!(
            instance_id = %proof.instance_id, ground = ?proof.ground,
            "ending {}: {:?}", proof.instance_id, proof.ground
        );
        Ok(proof)
    }
}

/// Leave to end one instance, whose ground is established and stored.
#[derive(Debug)] // and nothing more: `Clone`, `Default` or `Deserialize` would be ways to forge it
#[must_use = "a proof that is dropped leaves the instance running"]
pub struct TerminationProof {
    instance_id: InstanceId,
    ground: Ground,
}

impl TerminationProof {
    /// The instance that may be ended.
    #[must_use]
    pub fn instance_id(&self) -> &InstanceId {
        &self.instance_id
    }

    /// Why.
    #[must_use]
    pub fn ground(&self) -> Ground {
        self.ground
    }
}

/// An established ground to delete one registration; not yet stored.
#[derive(Debug)]
#[must_use = "a ground that is not committed deletes nothing"]
pub struct Deregisterable {
    record: Versioned<InstanceRecord>,
    runner_id: RunnerId,
    ground: DeregistrationGround,
}

impl Deregisterable {
    /// The only constructor; see [`Terminable::establish`].
    #[must_use]
    pub fn establish(evidence: &Evidence, policy: &Policy, now: Timestamp) -> Option<Self> {
        match (decide(evidence, policy, now).action, &evidence.record) {
            (Action::Deregister(runner_id, ground), RecordEvidence::Present(record)) => {
                Some(Self { record: record.as_ref().clone(), runner_id, ground })
            }
            (_, _) => None,
        }
    }

    /// Stores the intent, on condition that the record is the one that was judged; returns the record as stored, for
    /// the outcome to be written to.
    ///
    /// # Errors
    /// Class `Conflict` when an event came in between.
    pub async fn commit(
        self,
        ledger: &impl Ledger,
        now: Timestamp,
    ) -> Result<(DeregistrationWarrant, Versioned<InstanceRecord>), PortError> {
        let mut record = self.record;
        record.record.deregister_intent = Some(RemovalIntent { at: now, ground: self.ground });
        let record = ledger::store(ledger, record).await?;
        let warrant = DeregistrationWarrant {
            access: record.record.access.clone(),
            runner_id: self.runner_id,
            ground: self.ground,
        };
        warn!(
            instance_id = %record.record.instance_id, runner_id = %warrant.runner_id, ground = ?warrant.ground,
            "deregistering runner {} of {}: {:?}", warrant.runner_id, record.record.instance_id, warrant.ground
        );
        Ok((warrant, record))
    }
}

/// Leave to delete one registration, whose ground is established and stored.
#[derive(Debug)]
#[must_use = "a warrant that is dropped leaves the registration"]
pub struct DeregistrationWarrant {
    access: Access,
    runner_id: RunnerId,
    ground: DeregistrationGround,
}

impl DeregistrationWarrant {
    /// Where the runner is registered.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The registration that may be deleted.
    #[must_use]
    pub fn runner_id(&self) -> RunnerId {
        self.runner_id
    }

    /// Why.
    #[must_use]
    pub fn ground(&self) -> DeregistrationGround {
        self.ground
    }
}
