//! EC2.

use runner_scaler_core::config::Market;
use runner_scaler_core::error::{Class, PortError};
use runner_scaler_core::ids::{Deployment, InstanceId, LaunchToken};
use runner_scaler_core::ports::{
    Compute, ComputeRead, Instance, InstanceState, LaunchAnswer, LaunchFault, LaunchRequest, Offering, Tags,
    Termination,
};
use runner_scaler_core::removal::TerminationProof;
use runner_scaler_core::time::Timestamp;
use runner_scaler_world::ec2::{
    Ec2Error, FleetRequest, LaunchTemplate, Market as WorldMarket, Pool, State, TemplateConfig,
};

use super::{Op, Port};
use crate::coverage::Counter;
use crate::lambda::TaskId;
use crate::sim::Sim;

/// A refusal of EC2, by its code, as the adapters map it.
fn refused(call: &str, error: &Ec2Error) -> PortError {
    let class = match error.code {
        "RequestLimitExceeded" => Class::Throttled { retry_after: None },
        "InvalidInstanceID.NotFound" => Class::Absent,
        _ => Class::Rejected,
    };
    PortError::new(call, class, error.code)
}

fn shown(sim: &Sim, key: &str, value: &str) -> Vec<Instance> {
    let now = sim.now;
    let tagged = |instance: &&runner_scaler_world::ec2::Instance| {
        instance.is_visible(now) && instance.tags.get(key).is_some_and(|own| own == value)
    };
    sim.world.ec2.instances().filter(tagged).map(instance_of).collect()
}

fn instance_of(instance: &runner_scaler_world::ec2::Instance) -> Instance {
    Instance {
        id: InstanceId::new(instance.id.as_str()),
        state: match instance.state {
            State::Pending => InstanceState::Pending,
            State::Running => InstanceState::Running,
            State::ShuttingDown => InstanceState::ShuttingDown,
            State::Terminated => InstanceState::Terminated,
            State::Stopped => InstanceState::Stopped,
        },
        launched_at: Timestamp(instance.launched_at),
        tags: instance.tags.clone(),
    }
}

impl ComputeRead for Port {
    async fn instances(&self, deployment: &Deployment) -> Result<Vec<Instance>, PortError> {
        self.call(Op::Instances, None, |sim| Ok(shown(sim, "ghr:environment", deployment.as_str()))).await
    }

    async fn instances_of_launch(&self, token: &LaunchToken) -> Result<Vec<Instance>, PortError> {
        self.call(Op::InstancesOfLaunch, None, |sim| Ok(shown(sim, "ghr:launch", token.as_str()))).await
    }
}

impl Compute for Port {
    async fn create_fleet(&self, request: &LaunchRequest) -> Result<LaunchAnswer, PortError> {
        let task = self.task;
        self.call(Op::CreateFleet, None, |sim| sim.create_fleet(task, request)).await
    }

    async fn request_drain(&self, instance_ids: &[InstanceId], at: Timestamp) -> Result<Vec<InstanceId>, PortError> {
        let about = {
            let sim = self.sim.borrow();
            instance_ids.first().and_then(|id| sim.world.github.runner_name_of_instance(id.as_str()))
        };
        let task = self.task;
        self.call(Op::RequestDrain, about, |sim| {
            sim.check_leave(task, "CreateTags");
            let tags = Tags::from([("ghr:drain".to_owned(), at.to_string())]);
            let mut tagged = Vec::with_capacity(instance_ids.len());
            // As the adapter does that halves a refused call: those that EC2 does not know are left out.
            for id in instance_ids {
                let one = [id.as_str().to_owned()];
                let now = sim.now;
                sim.check_foreign(id.as_str(), "CreateTags");
                match sim.touch(|world| world.ec2.create_tags(&one, &tags, now)) {
                    Ok(()) => {
                        tagged.push(id.clone());
                        sim.drain_waits(id.as_str());
                    }
                    Err(error) if error.code == "InvalidInstanceID.NotFound" => {}
                    Err(error) => return Err(refused("CreateTags", &error)),
                }
            }
            Ok(tagged)
        })
        .await
    }

    async fn terminate(&self, proof: TerminationProof) -> Result<Termination, PortError> {
        let id = proof.instance_id().as_str().to_owned();
        let about = self.sim.borrow().world.github.runner_name_of_instance(&id);
        let function = self.function.name();
        self.sim.borrow_mut().check_termination(self.task, &id, proof.ground());
        self.call(Op::Terminate, about, |sim| {
            sim.check_foreign(&id, "TerminateInstances");
            sim.resisted(&id, Op::Terminate)?;
            let now = sim.now;
            let stopped = sim.world.ec2.instance(&id).is_some_and(|instance| instance.state == State::Stopped);
            // A read of EC2's that lags behind its own listing (facts/world.md E1).
            let unknown = sim.world.tape.chance(sim.plan.not_found);
            let ended = sim.touch(|world| {
                if unknown {
                    return Err(Ec2Error::instances_not_found(std::slice::from_ref(&id)));
                }
                world.ec2.terminate_instances(std::slice::from_ref(&id), function, now, &mut world.tape)
            });
            match ended {
                Ok(_) => {
                    sim.coverage.hit(Counter::Terminated);
                    if stopped {
                        sim.coverage.hit(Counter::StoppedEnded);
                    }
                    sim.tally.terminations += 1;
                    Ok(Termination::Accepted)
                }
                Err(error) if error.code == Ec2Error::PROTECTED => {
                    sim.coverage.hit(Counter::Protected);
                    Ok(Termination::Protected)
                }
                Err(error) => {
                    if sim.world.ec2.instance(&id).is_some_and(|i| i.state.is_alive()) {
                        sim.coverage.hit(Counter::TerminateNotFoundAlive);
                    }
                    Err(refused("TerminateInstances", &error))
                }
            }
        })
        .await
    }
}

impl Sim {
    /// The class of an error inside of an answer, as the adapters' table has it.
    fn class_of_override(&mut self, code: &str) -> Class {
        match code {
            "InsufficientInstanceCapacity" => return Class::NoCapacity,
            "MaxSpotInstanceCountExceeded" | "VcpuLimitExceeded" => {
                let alive = self.world.ec2.instances().filter(|instance| instance.state.is_alive()).count();
                let limit = self.world.ec2.settings().instance_limit.unwrap_or(0);
                if alive < usize::try_from(limit).unwrap_or(0) {
                    self.coverage.hit(Counter::EndedCount);
                }
                // Whoever waits then waits for room, as where a fleet is full.
                self.checker.held_until(self.now);
                return Class::NoCapacity;
            }
            _ => self.coverage.hit(Counter::OverrideError),
        }
        match code {
            "UnfulfillableCapacity"
            | "InsufficientFreeAddressesInSubnet"
            | "Unsupported"
            | "SpotMaxPriceTooLow"
            | "InsufficientVolumeCapacity" => Class::NoCapacity,
            "InvalidLaunchTemplateId.VersionNotFound" | "InvalidSubnetID.NotFound" | "UnauthorizedOperation" => {
                Class::Misconfigured
            }
            "RequestLimitExceeded" => Class::Throttled { retry_after: None },
            "InternalError" => Class::OutcomeUnknown,
            _ => Class::Rejected,
        }
    }

    fn create_fleet(&mut self, task: TaskId, request: &LaunchRequest) -> Result<LaunchAnswer, PortError> {
        self.launch_refused()?;
        for value in request.tags.values() {
            self.check_text("a tag", value);
        }
        self.check_labels_in("CreateFleet", request);
        let fleet = FleetRequest {
            client_token: Some(request.token.as_str().to_owned()),
            kind: "instant".to_owned(),
            configs: vec![TemplateConfig {
                template: LaunchTemplate {
                    id: Some(request.template.id.clone()),
                    name: None,
                    version: Some(request.template.version.clone()),
                },
                overrides: request
                    .offerings
                    .iter()
                    .map(|offering| Pool {
                        instance_type: Some(offering.instance_type.clone()),
                        subnet_id: Some(offering.subnet_id.clone()),
                    })
                    .collect(),
            }],
            total_target_capacity: request.count,
            market: match request.market {
                Market::Spot => WorldMarket::Spot,
                Market::OnDemand => WorldMarket::OnDemand,
            },
            min_target_capacity: None,
            instance_tags: request.tags.clone(),
            other: std::collections::BTreeMap::new(),
        };
        let now = self.now;
        let replayed = self.checker.knows_token(request.token.as_str());
        self.before_launch(task, request, replayed);
        let answer = self.touch(|world| world.ec2.create_fleet(&fleet, now, &mut world.tape)).map_err(|error| {
            // Whoever repeats a launch makes the very same call, whatever was configured meanwhile.
            if error.code == "IdempotentParameterMismatch" {
                let what = format!("launch {} is repeated with other parameters", request.token);
                self.checker.violated("S4", now, what);
            }
            refused("CreateFleet", &error)
        })?;
        let fleet_now = self.policy.fleets.iter().find(|fleet| fleet.launch_template.id == request.template.id);
        if replayed && fleet_now.is_some_and(|fleet| fleet.launch_template.version != request.template.version) {
            self.coverage.hit(Counter::ReplayedAfterChange);
        }
        let instance_ids: Vec<InstanceId> =
            answer.groups.iter().flat_map(|group| &group.instance_ids).map(|id| InstanceId::new(id.as_str())).collect();
        if replayed {
            self.coverage.hit(Counter::TokenReplayed);
            let dead = |id: &InstanceId| self.world.ec2.instance(id.as_str()).is_none_or(|i| !i.state.is_alive());
            if !instance_ids.is_empty() && instance_ids.iter().all(dead) {
                self.coverage.hit(Counter::DeadTokenReplayed);
            }
        } else {
            let count = u32::try_from(instance_ids.len()).unwrap_or(u32::MAX);
            if count == 0 {
                self.coverage.hit(Counter::NoCapacity);
            } else if count < request.count {
                self.coverage.hit(Counter::PartialFleet);
            }
            self.launched(task, request, &instance_ids);
        }
        let errors = answer
            .errors
            .into_iter()
            .map(|error| LaunchFault {
                class: self.class_of_override(&error.code),
                code: error.code,
                offering: error
                    .pool
                    .instance_type
                    .zip(error.pool.subnet_id)
                    .map(|(instance_type, subnet_id)| Offering { instance_type, subnet_id }),
            })
            .collect();
        Ok(LaunchAnswer { instance_ids, errors })
    }
}
