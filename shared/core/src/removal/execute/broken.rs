//! What mutants do after an act that we do not do.

use super::{Pass, RemovalPorts};
use crate::config::Mutant;
use crate::error::{Class, Classify, PortError};
use crate::evidence::{Evidence, Heard, RecordEvidence, RegistrationEvidence, Witness};
use crate::ids::InstanceId;
use crate::ledger::{self, InstanceRecord, Stored};
use crate::ports::{Deregistration, Termination};
use crate::time::Timestamp;
use crate::verdict::{Action, decide};

/// m11 and m12: what is made of GitHub's answer to a DELETE.
pub(super) fn heard_of_delete(
    mutant: Mutant,
    answer: Result<Deregistration, PortError>,
) -> Result<Deregistration, PortError> {
    match answer {
        Err(error) if error.class() == Class::Denied && mutant.takes_403_for_deregistered() => {
            Ok(Deregistration::Deleted)
        }
        _ if mutant.ignores_failed_deletes() => Ok(Deregistration::Deleted),
        answer => answer,
    }
}

impl<P: RemovalPorts> Pass<'_, P> {
    /// m13 and m33: whether EC2's `NotFound` is taken for the end of the matter.
    pub(super) async fn swallows(
        &self,
        id: &InstanceId,
        answer: &Result<Termination, PortError>,
    ) -> Result<bool, PortError> {
        let (mutant, now) = (self.policy.mutant, self.ports.now());
        let not_found = answer.as_ref().is_err_and(|error| error.class() == Class::Absent);
        if !not_found || !(mutant.takes_not_found_for_gone() || mutant.swallows_not_found()) {
            return Ok(false);
        }
        self.remember(id, |record| {
            if mutant.takes_not_found_for_gone() {
                record.gone_at = Some(now);
                record.cleaned_at = Some(now);
            } else if let Some(intent) = &mut record.terminate_intent {
                // Pending for ever: nobody takes it up again.
                intent.at = Timestamp(i64::MAX);
            }
            true
        })
        .await?;
        Ok(true)
    }

    /// The naive protocols: what was deregistered is ended in the same breath.
    pub(super) async fn end_at_once(&mut self, mut evidence: Evidence) -> Result<(), PortError> {
        if !self.policy.mutant.is_naive() {
            return Ok(());
        }
        let id = evidence.instance.id.to_string();
        let Stored::Present(record) = ledger::load::<InstanceRecord>(self.ports, id).await? else { return Ok(()) };
        evidence.record = RecordEvidence::Present(Box::new(record));
        evidence.registration = RegistrationEvidence::NotAsked;
        evidence.heard = Heard { from: Witness::List, at: self.ports.now() };
        // One more reading at the most.
        for _ in 0..2 {
            let now = self.ports.now();
            let verdict = decide(&evidence, self.policy, now);
            match (verdict.action, &mut self.gathered) {
                (Action::Look(source), Some(gathered)) => {
                    let (ports, deadline) = (self.ports, self.deadline);
                    gathered.look(ports, self.policy, deadline, source, &mut evidence, &mut self.report).await;
                }
                (Action::Terminate(ground), _) => return self.terminate(&evidence, verdict, ground, now).await,
                (_, _) => return Ok(()),
            }
        }
        Ok(())
    }
}
