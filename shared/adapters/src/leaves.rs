//! A proof and a warrant for the tests, made the only way there is: by evidence that establishes their ground.

use std::sync::Arc;
use std::time::Duration;

use runner_scaler_core::config::{Environment, Policy, parse_policy};
use runner_scaler_core::error::PortError;
use runner_scaler_core::evidence::{
    AssignedJob, DeliveryEvidence, DemandEvidence, Evidence, Heard, JobsEvidence, Ownership, PositiveControl,
    RecordEvidence, RegistrationEvidence, VitalEvidence, Witness,
};
use runner_scaler_core::ids::{Access, FleetName, InstanceId, LaunchToken, RunnerId, RunnerName};
use runner_scaler_core::ledger::{InstanceRecord, Versioned};
use runner_scaler_core::ports::{Instance, InstanceState, Item, Key, Ledger, OpenPartition, Runner, Write};
use runner_scaler_core::removal::{Deregisterable, DeregistrationWarrant, Terminable, TerminationProof};
use runner_scaler_core::time::Timestamp;

/// Far beyond the hard age of an instance launched at the epoch.
const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// A ledger that takes every write.
struct Willing;

impl Ledger for Willing {
    async fn read(&self, _: &[Key]) -> Result<Vec<Item>, PortError> {
        Ok(Vec::new())
    }

    async fn write(&self, _: &[Write]) -> Result<(), PortError> {
        Ok(())
    }

    async fn open(&self, _: &OpenPartition, _: Timestamp, _: usize) -> Result<Vec<Item>, PortError> {
        Ok(Vec::new())
    }
}

/// Of an instance past its hard age.
pub(crate) async fn termination_proof(id: &str, access: Access) -> TerminationProof {
    let evidence = evidence(id, access, InstanceState::Running, None);
    let terminable = Terminable::establish(&evidence, &policy(), NOW).expect("past the hard age");
    terminable.commit(&Willing, NOW).await.expect("stored")
}

/// Of a registration whose instance is gone.
pub(crate) async fn warrant(runner_id: RunnerId, access: Access) -> DeregistrationWarrant {
    let evidence = evidence("i-1", access, InstanceState::Terminated, Some(runner_id));
    let deregisterable = Deregisterable::establish(&evidence, &policy(), NOW).expect("its instance is gone");
    deregisterable.commit(&Willing, NOW).await.expect("stored").0
}

fn policy() -> Policy {
    let environment = Environment::from_vars(|name| {
        let optional = ["GITHUB_API_URL", "GITHUB_POINTS_PER_MINUTE", "RUNNER_SCALER_MUTANT"].contains(&name);
        (!optional).then(|| "prod".to_owned())
    });
    let document = r#"{"fleets": [{"name": "linux", "labels": ["linux"], "runner_count_max": 5, "market": "spot",
        "launch_template": {"id": "lt-1", "version": "2"}, "instance_types": ["m7i.large"], "subnet_ids": ["s"]}]}"#;
    parse_policy(document, &environment.expect("complete")).expect("valid")
}

fn evidence(id: &str, access: Access, state: InstanceState, runner_id: Option<RunnerId>) -> Evidence {
    let (id, name) = (InstanceId::new(id), RunnerName::new(format!("runner-{id}")));
    let mut record = InstanceRecord::launched(
        id.clone(),
        access,
        FleetName::new("linux"),
        LaunchToken::new("token-1"),
        name.clone(),
        Timestamp(0),
    );
    let runner = |id| Runner { id, name, online: false, busy: false, version: None, ephemeral: Some(true) };
    if let Some(runner_id) = runner_id {
        record.note_runner_id(runner_id);
        // Not long ago: after two days what is left is not ours to remove.
        record.gone_at = Some(NOW.minus(Duration::from_mins(1)));
    }
    Evidence {
        instance: Instance { id, state, launched_at: Timestamp(0), tags: Arc::default() },
        ownership: Ownership::Ours,
        record: RecordEvidence::Present(Box::new(Versioned::new(record))),
        vital_sign: VitalEvidence::Never,
        demand: DemandEvidence::Quiet,
        registration: runner_id.map_or(RegistrationEvidence::NotAsked, |id| RegistrationEvidence::Present(runner(id))),
        heard: Heard { from: Witness::Runner, at: NOW },
        control: PositiveControl::Held,
        deliveries: DeliveryEvidence::Settled,
        jobs: JobsEvidence::NoneOnRunner,
        rechecked_at: NOW,
        assigned_job: AssignedJob::NotAsked,
    }
}
