//! DynamoDB, SQS and SSM.

use std::time::Duration;

use runner_scaler_core::error::{Class, PortError};
use runner_scaler_core::ids::InstanceId;
use runner_scaler_core::ports::{
    Item, JitConfig, Key, KillSwitch, Ledger, OpenPartition, Parameters, Queue, VitalSign, VitalSigns, Write,
};
use runner_scaler_core::scale_up::JobMessage;
use runner_scaler_core::time::Timestamp;
use runner_scaler_core::webhook::{SecretsSource, WebhookSecrets};

use super::{Op, Port};
use crate::coverage::Counter;
use crate::sim::Sim;
use crate::versions::written_by;

impl Ledger for Port {
    async fn read(&self, keys: &[Key]) -> Result<Vec<Item>, PortError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        self.call(Op::LedgerRead, None, |sim| {
            let stored: Vec<Item> = keys.iter().filter_map(|key| sim.aws.ledger.item(key).cloned()).collect();
            Ok(stored.into_iter().map(|item| sim.read_as(self.version, item)).collect())
        })
        .await
    }

    async fn write(&self, writes: &[Write]) -> Result<(), PortError> {
        let task = self.task;
        self.call(Op::LedgerWrite, None, |sim| {
            sim.check_writes(writes);
            sim.check_versions(self.version, writes);
            sim.check_untrusted_writes(task, writes);
            let lag = if sim.plan.index_lag == 0 { 0 } else { sim.world.tape.between(0, sim.plan.index_lag) };
            let now = sim.now;
            let written = sim.aws.ledger.write(&written_by(self.version, writes), now, lag);
            match &written {
                Ok(()) => sim.note_writes(writes),
                Err(_) => sim.coverage.hit(Counter::Conflict),
            }
            written
        })
        .await
    }

    async fn open(&self, partition: &OpenPartition, until: Timestamp, limit: usize) -> Result<Vec<Item>, PortError> {
        self.call(Op::LedgerOpen, None, |sim| {
            let now = sim.now;
            Ok(sim.aws.ledger.open(partition, until, limit, now))
        })
        .await
    }
}

impl VitalSigns for Port {
    async fn read(&self, instance_ids: &[InstanceId]) -> Result<Vec<(InstanceId, VitalSign)>, PortError> {
        // As the adapter does.
        if instance_ids.is_empty() {
            return Ok(Vec::new());
        }
        self.call(Op::VitalSigns, None, |sim| {
            let sign = |id: &InstanceId| Some((id.clone(), *sim.aws.vital_signs.get(id)?));
            Ok(instance_ids.iter().filter_map(sign).collect())
        })
        .await
    }
}

impl Queue for Port {
    async fn send(&self, message: &JobMessage, delay: Duration) -> Result<(), PortError> {
        let task = self.task;
        self.call(Op::Send, None, |sim| {
            sim.check_untrusted_send(task);
            sim.send_message(message, i64::try_from(delay.as_millis()).unwrap_or(0));
            Ok(())
        })
        .await
    }
}

impl Parameters for Port {
    async fn put_jit_config(&self, instance_id: &InstanceId, config: &JitConfig) -> Result<(), PortError> {
        self.call(Op::PutJit, None, |sim| {
            let now = sim.now;
            sim.aws.parameters.entry(instance_id.clone()).or_insert_with(|| (now, config.clone()));
            sim.checker.handed_over(instance_id.as_str(), now);
            Ok(())
        })
        .await
    }

    async fn delete_jit_config(&self, instance_id: &InstanceId) -> Result<(), PortError> {
        self.call(Op::DeleteJit, None, |sim| {
            sim.aws.parameters.remove(instance_id);
            Ok(())
        })
        .await
    }

    async fn jit_configs(&self) -> Result<Vec<(InstanceId, Timestamp)>, PortError> {
        self.call(Op::JitConfigs, None, |sim| {
            Ok(sim.aws.parameters.iter().map(|(id, (at, _))| (id.clone(), Timestamp(*at))).collect())
        })
        .await
    }

    async fn kill_switch(&self) -> Result<KillSwitch, PortError> {
        let task = self.task;
        let answer = self
            .call(Op::KillSwitch, None, |sim| match sim.aws.kill_switch {
                None => Ok(KillSwitch::RemovalEnabled),
                Some((_, true)) => Ok(KillSwitch::RemovalDisabled),
                Some((_, false)) => Err(PortError::new("GetParameter", Class::Absent, "ParameterNotFound")),
            })
            .await;
        if let Some(invocation) = self.sim.borrow_mut().invocations.get_mut(task.place).and_then(Option::as_mut) {
            invocation.permitted = matches!(answer, Ok(KillSwitch::RemovalEnabled));
        }
        answer
    }
}

impl SecretsSource for Port {
    async fn reread(&self) -> Option<WebhookSecrets> {
        Sim::stored_secrets()
    }
}
