//! EC2, SQS and SSM.

use std::sync::Arc;
use std::time::Duration;

use super::{Fake, State};
use crate::error::{Class, PortError};
use crate::ids::{Deployment, InstanceId, LaunchToken};
use crate::ports::{
    Compute, ComputeRead, Instance, InstanceState, JitConfig, KillSwitch, LaunchAnswer, LaunchFault, LaunchRequest,
    Offering, Parameters, Queue, TAGGED_MAX, Tags, Termination,
};
use crate::removal::TerminationProof;
use crate::scale_up::JobMessage;
use crate::time::Timestamp;

impl Fake {
    /// Instances that are not ended.
    pub(crate) fn living(&self) -> Vec<InstanceId> {
        let ended = |state| matches!(state, InstanceState::ShuttingDown | InstanceState::Terminated);
        self.state().instances.values().filter(|i| !ended(i.state)).map(|i| i.id.clone()).collect()
    }

    /// An instance ended, and so long ago that EC2 shows it no more; it still answers with its id.
    pub(crate) fn forget(&self, id: &InstanceId) {
        self.state_mut().instances.remove(id).expect("an instance");
    }

    /// An instance changes its state.
    pub(crate) fn set_instance_state(&self, id: &InstanceId, now: InstanceState) {
        self.state_mut().instances.get_mut(id).expect("an instance").state = now;
    }
}

impl ComputeRead for Fake {
    async fn instances(&self, deployment: &Deployment) -> Result<Vec<Instance>, PortError> {
        self.call("ComputeRead::instances", |state| Ok(tagged(state, "ghr:environment", deployment.as_str()))).await
    }

    async fn instances_of_launch(&self, token: &LaunchToken) -> Result<Vec<Instance>, PortError> {
        self.call("ComputeRead::instances_of_launch", |state| Ok(tagged(state, "ghr:launch", token.as_str()))).await
    }
}

impl Fake {
    /// Somebody changes an instance's tags.
    pub(crate) fn retag(&self, id: &InstanceId, change: impl FnOnce(&mut Tags)) {
        let mut state = self.state_mut();
        change(Arc::make_mut(&mut state.instances.get_mut(id).expect("an instance").tags));
    }
}

fn tagged(state: &State, key: &str, value: &str) -> Vec<Instance> {
    let has_tag = |instance: &&Instance| instance.tags.get(key).is_some_and(|own| own == value);
    let shown = |instance: &&Instance| !state.unshown.contains(&instance.id);
    state.instances.values().filter(has_tag).filter(shown).cloned().collect()
}

impl Compute for Fake {
    async fn create_fleet(&self, request: &LaunchRequest) -> Result<LaunchAnswer, PortError> {
        self.call("Compute::create_fleet", |state| {
            state.fleet_calls.push(request.token.clone());
            if let Some((first, instance_ids)) = state.launches.get(&request.token) {
                if first != request {
                    state.mismatches += 1;
                    return Err(PortError::new("CreateFleet", Class::Rejected, "IdempotentParameterMismatch"));
                }
                return Ok(LaunchAnswer { instance_ids: instance_ids.clone(), errors: Vec::new() });
            }
            let is_dry = |offering: &&Offering| state.dry.contains(&(request.market, (*offering).clone()));
            let all_dry = request.offerings.iter().all(|offering| is_dry(&offering));
            let mut lacking: Vec<Offering> = request.offerings.iter().filter(is_dry).cloned().collect();
            let count = if all_dry { 0 } else { request.count.min(state.capacity.unwrap_or(u32::MAX)) };
            state.capacity = state.capacity.map(|left| left - count);
            let instance_ids: Vec<InstanceId> = (0..count).map(|_| launch(state, request)).collect();
            state.launches.insert(request.token.clone(), (request.clone(), instance_ids.clone()));
            if count < request.count {
                lacking.clone_from(&request.offerings);
            }
            Ok(LaunchAnswer { instance_ids, errors: lacking.into_iter().map(no_capacity).collect() })
        })
        .await
    }

    async fn request_drain(&self, instance_ids: &[InstanceId], at: Timestamp) -> Result<Vec<InstanceId>, PortError> {
        self.call("Compute::request_drain", |state| {
            assert!(instance_ids.len() <= TAGGED_MAX, "CreateTags takes 1,000 resources");
            let mut tagged = Vec::new();
            for id in instance_ids {
                if let Some(instance) = state.instances.get_mut(id) {
                    Arc::make_mut(&mut instance.tags).insert("ghr:drain".to_owned(), at.to_string());
                    tagged.push(id.clone());
                }
            }
            Ok(tagged)
        })
        .await
    }

    async fn terminate(&self, proof: TerminationProof) -> Result<Termination, PortError> {
        self.call("Compute::terminate", |state| {
            let id = proof.instance_id();
            if state.refused.contains(id) {
                return Err(PortError::new("TerminateInstances", Class::Denied, "UnauthorizedOperation"));
            }
            if state.protected.contains(id) {
                return Ok(Termination::Protected);
            }
            let absent =
                || PortError::new(format!("TerminateInstances {id}"), Class::Absent, "InvalidInstanceID.NotFound");
            let instance = state.instances.get_mut(id).ok_or_else(absent)?;
            if instance.state != InstanceState::Terminated {
                instance.state = InstanceState::ShuttingDown;
            }
            state.terminated.push((id.clone(), proof.ground()));
            Ok(Termination::Accepted)
        })
        .await
    }
}

fn no_capacity(offering: Offering) -> LaunchFault {
    let code = "InsufficientInstanceCapacity".to_owned();
    LaunchFault { code, class: Class::NoCapacity, offering: Some(offering) }
}

fn launch(state: &mut State, request: &LaunchRequest) -> InstanceId {
    // Never one that was shown before, though a test may have EC2 forget what ended.
    state.instances_made = state.instances_made.max(state.instances.len()) + 1;
    let id = InstanceId::new(format!("i-{:017x}", state.instances_made));
    let mut tags = request.tags.clone();
    tags.insert("aws:ec2launchtemplate:id".to_owned(), request.template.id.clone());
    let instance = Instance {
        id: id.clone(),
        state: InstanceState::Pending,
        launched_at: Timestamp(state.now_ms),
        tags: tags.into(),
    };
    state.instances.insert(id.clone(), instance);
    id
}

impl Queue for Fake {
    async fn send(&self, message: &JobMessage, _delay: Duration) -> Result<(), PortError> {
        self.call("Queue::send", |state| {
            state.queue.push(message.clone());
            Ok(())
        })
        .await
    }
}

impl Parameters for Fake {
    async fn put_jit_config(&self, instance_id: &InstanceId, config: &JitConfig) -> Result<(), PortError> {
        self.call("Parameters::put_jit_config", |state| {
            let now = Timestamp(state.now_ms);
            state.parameters_put.entry(instance_id.clone()).or_insert(now);
            state.parameters.entry(instance_id.clone()).or_insert_with(|| config.clone());
            Ok(())
        })
        .await
    }

    async fn delete_jit_config(&self, instance_id: &InstanceId) -> Result<(), PortError> {
        self.call("Parameters::delete_jit_config", |state| {
            state.parameters.remove(instance_id);
            Ok(())
        })
        .await
    }

    async fn jit_configs(&self) -> Result<Vec<(InstanceId, Timestamp)>, PortError> {
        self.call("Parameters::jit_configs", |state| {
            let put = |id: &InstanceId| state.parameters_put.get(id).copied().unwrap_or(Timestamp(0));
            Ok(state.parameters.keys().map(|id| (id.clone(), put(id))).collect())
        })
        .await
    }

    async fn kill_switch(&self) -> Result<KillSwitch, PortError> {
        self.call("Parameters::kill_switch", |state| {
            state.kill_switch.ok_or_else(|| PortError::new("kill switch", Class::Absent, "no such parameter"))
        })
        .await
    }
}
