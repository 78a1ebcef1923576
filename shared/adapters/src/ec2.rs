//! EC2: [`ComputeRead`] and [`Compute`]. The only module that calls `TerminateInstances`.

use std::sync::Arc;

use aws_config::retry::RetryConfig;
use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::Builder;
use aws_sdk_ec2::types::{
    CreateFleetError, CreateFleetInstance, DefaultTargetCapacityType, Filter, FleetLaunchTemplateConfigRequest,
    FleetLaunchTemplateOverridesRequest, FleetLaunchTemplateSpecificationRequest, FleetOnDemandAllocationStrategy,
    FleetType, Instance as Ec2Instance, OnDemandOptionsRequest, Reservation, ResourceType, SpotAllocationStrategy,
    SpotOptionsRequest, Tag, TagSpecification, TargetCapacitySpecificationRequest,
};
use futures_util::FutureExt;
use runner_scaler_core::config::Market;
use runner_scaler_core::error::{Class, PortError};
use runner_scaler_core::ids::{Deployment, InstanceId, LaunchToken};
use runner_scaler_core::ports::{
    Compute, ComputeRead, Instance, InstanceState, LaunchAnswer, LaunchFault, LaunchRequest, Offering, TAGGED_MAX,
    Termination,
};
use runner_scaler_core::removal::TerminationProof;
use runner_scaler_core::time::{Clock, Timestamp};
use tracing::warn;

use crate::Adapters;
use crate::aws::{Effect, backoff, class_of, code_of, misshapen, port_error};
use crate::clock::SystemClock;
use crate::http::CALL_TIMEOUT;

/// Instances a page, the most that `DescribeInstances` takes: fewer calls against EC2's request limit.
const PAGE_SIZE: i32 = 1_000;

/// Code of a termination that `disableApiTermination` forbids (EC2 API reference, error codes, read 2026-11-20).
const PROTECTED: &str = "OperationNotPermitted";

/// Calls refused in one request to drain before it is given up. One odd instance among 1,000 costs ten; more means that
/// it is the request which EC2 does not take.
const REFUSED_MAX: usize = 40;

impl ComputeRead for Adapters {
    async fn instances(&self, deployment: &Deployment) -> Result<Vec<Instance>, PortError> {
        describe(self.ec2(), "tag:ghr:environment", deployment.as_str()).boxed().await
    }

    async fn instances_of_launch(&self, token: &LaunchToken) -> Result<Vec<Instance>, PortError> {
        describe(self.ec2(), "tag:ghr:launch", token.as_str()).boxed().await
    }
}

impl Compute for Adapters {
    async fn create_fleet(&self, request: &LaunchRequest) -> Result<LaunchAnswer, PortError> {
        create_fleet(self.ec2(), request).boxed().await
    }

    async fn request_drain(&self, instance_ids: &[InstanceId], at: Timestamp) -> Result<Vec<InstanceId>, PortError> {
        let mut batches: Vec<&[InstanceId]> = instance_ids.chunks(TAGGED_MAX).rev().collect();
        let mut tagged = Vec::with_capacity(instance_ids.len());
        let mut refused = 0;
        while let Some(batch) = batches.pop() {
            match tag_drain(self.ec2(), batch, at).boxed().await {
                Ok(()) => tagged.extend_from_slice(batch),
                // One instance that EC2 no longer knows, or that has as many tags as EC2 allows, refuses the whole call;
                // the others shall still hear of it.
                Err(error)
                    if matches!(error.class, Class::Absent | Class::Rejected)
                        && batch.len() > 1
                        && refused < REFUSED_MAX =>
                {
                    refused += 1;
                    let (first, second) = batch.split_at(batch.len() / 2);
                    batches.extend([second, first]);
                }
                Err(error) if matches!(error.class, Class::Absent | Class::Rejected) && batch.len() == 1 => {
                    warn!(error = %error, "an instance cannot be asked to drain: {error}");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(tagged)
    }

    async fn terminate(&self, proof: TerminationProof) -> Result<Termination, PortError> {
        let id = proof.instance_id();
        match self.ec2().terminate_instances().instance_ids(id.as_str()).send().boxed().await {
            Ok(_) => Ok(Termination::Accepted),
            Err(error) if code_of(&error) == Some(PROTECTED) => Ok(Termination::Protected),
            Err(error) => Err(port_error(format!("TerminateInstances {id}"), Effect::Change, &error)),
        }
    }
}

/// All pages, or an error: a listing in part would show living instances as gone.
async fn describe(client: &Client, filter: &str, value: &str) -> Result<Vec<Instance>, PortError> {
    let call = || format!("DescribeInstances {filter}={value}");
    let mut pages = client
        .describe_instances()
        .filters(Filter::builder().name(filter).values(value).build())
        .max_results(PAGE_SIZE)
        .into_paginator()
        .send();
    let mut instances = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| port_error(call(), Effect::Read, &error))?;
        for instance in page.reservations().iter().flat_map(Reservation::instances) {
            let instance =
                instance_of(instance).ok_or_else(|| misshapen(call(), Effect::Read, "instance id or launch time"))?;
            instances.push(instance);
        }
    }
    Ok(instances)
}

fn instance_of(instance: &Ec2Instance) -> Option<Instance> {
    let tags = instance
        .tags()
        .iter()
        .filter_map(|tag| Some((tag.key()?.to_owned(), tag.value().unwrap_or_default().to_owned())));
    Some(Instance {
        id: InstanceId::new(instance.instance_id()?),
        state: state_of(instance.state().and_then(|state| state.name()).map_or("", |name| name.as_str())),
        launched_at: Timestamp(instance.launch_time()?.to_millis().ok()?),
        tags: Arc::new(tags.collect()),
    })
}

fn state_of(name: &str) -> InstanceState {
    match name {
        "pending" => InstanceState::Pending,
        "running" => InstanceState::Running,
        "shutting-down" => InstanceState::ShuttingDown,
        "terminated" => InstanceState::Terminated,
        "stopping" => InstanceState::Stopping,
        "stopped" => InstanceState::Stopped,
        _ => InstanceState::Unrecognised,
    }
}

/// Attempts at one launch.
const LAUNCH_ATTEMPTS_MAX: u32 = 3;

/// Asks again where EC2 did not answer or throttles. A refusal of a later attempt says nothing of an earlier one that was
/// not heard: a limit may be met by the very instances that it made. So the SDK, which tells the last alone, repeats none.
async fn create_fleet(client: &Client, request: &LaunchRequest) -> Result<LaunchAnswer, PortError> {
    let begun_at = SystemClock.now();
    let (mut attempt, mut unheard) = (1, false);
    loop {
        let error = match try_create_fleet(client, request).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        unheard |= error.class == Class::OutcomeUnknown;
        let may_pass = matches!(error.class, Class::OutcomeUnknown | Class::Transient | Class::Throttled { .. });
        let in_time = SystemClock.now().since(begun_at) < CALL_TIMEOUT / 2;
        if !may_pass || !in_time || attempt == LAUNCH_ATTEMPTS_MAX {
            let class = if unheard { Class::OutcomeUnknown } else { error.class };
            return Err(PortError { class, ..error });
        }
        SystemClock.sleep(backoff(attempt)).await;
        attempt += 1;
    }
}

/// Byte-stable: the same request makes the same call, so that a repetition under its token is recognised.
async fn try_create_fleet(client: &Client, request: &LaunchRequest) -> Result<LaunchAnswer, PortError> {
    let call = format!("CreateFleet {}", request.token);
    let capacity = TargetCapacitySpecificationRequest::builder()
        .total_target_capacity(i32::try_from(request.count).unwrap_or(i32::MAX))
        .default_target_capacity_type(match request.market {
            Market::Spot => DefaultTargetCapacityType::Spot,
            Market::OnDemand => DefaultTargetCapacityType::OnDemand,
        })
        .build();
    let fleet = client
        .create_fleet()
        .client_token(request.token.as_str())
        .r#type(FleetType::Instant)
        .launch_template_configs(template_config(request))
        .target_capacity_specification(capacity)
        .tag_specifications(instance_tags(request));
    let fleet = match request.market {
        Market::Spot => fleet.spot_options(
            SpotOptionsRequest::builder().allocation_strategy(SpotAllocationStrategy::PriceCapacityOptimized).build(),
        ),
        Market::OnDemand => fleet.on_demand_options(
            OnDemandOptionsRequest::builder().allocation_strategy(FleetOnDemandAllocationStrategy::LowestPrice).build(),
        ),
    };
    let once = Builder::new().retry_config(RetryConfig::disabled());
    let sent = fleet.customize().config_override(once).send().await;
    let answer = sent.map_err(|error| port_error(call, Effect::Change, &error))?;
    Ok(LaunchAnswer {
        instance_ids: answer
            .instances()
            .iter()
            .flat_map(CreateFleetInstance::instance_ids)
            .map(|id| InstanceId::new(id.as_str()))
            .collect(),
        errors: answer.errors().iter().map(fault_of).collect(),
    })
}

/// An error of an answer that is none itself: its code has the same class as in a refusal.
fn fault_of(error: &CreateFleetError) -> LaunchFault {
    let code = error.error_code().unwrap_or("no code");
    let overrides = error.launch_template_and_overrides().and_then(|both| both.overrides());
    let offering = overrides.and_then(|overrides| {
        let (instance_type, subnet_id) = (overrides.instance_type()?, overrides.subnet_id()?);
        Some(Offering { instance_type: instance_type.as_str().to_owned(), subnet_id: subnet_id.to_owned() })
    });
    LaunchFault { code: code.to_owned(), class: class_of(code, Some(REFUSED), Effect::Change), offering }
}

/// HTTP status of a refusal, which an error inside of a good answer stands for.
const REFUSED: u16 = 400;

fn template_config(request: &LaunchRequest) -> FleetLaunchTemplateConfigRequest {
    let template = FleetLaunchTemplateSpecificationRequest::builder()
        .launch_template_id(&request.template.id)
        .version(&request.template.version)
        .build();
    let overrides = request.offerings.iter().map(|Offering { instance_type, subnet_id }| {
        FleetLaunchTemplateOverridesRequest::builder()
            .instance_type(instance_type.as_str().into())
            .subnet_id(subnet_id)
            .build()
    });
    FleetLaunchTemplateConfigRequest::builder()
        .launch_template_specification(template)
        .set_overrides(Some(overrides.collect()))
        .build()
}

fn instance_tags(request: &LaunchRequest) -> TagSpecification {
    let tags = request.tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build());
    TagSpecification::builder().resource_type(ResourceType::Instance).set_tags(Some(tags.collect())).build()
}

async fn tag_drain(client: &Client, ids: &[InstanceId], at: Timestamp) -> Result<(), PortError> {
    client
        .create_tags()
        .set_resources(Some(ids.iter().map(ToString::to_string).collect()))
        .tags(Tag::builder().key("ghr:drain").value(at.to_string()).build())
        .send()
        .await
        .map(|_| ())
        .map_err(|error| {
            let first = ids.first().map_or("", InstanceId::as_str);
            port_error(format!("CreateTags ghr:drain {first} and {} more", ids.len() - 1), Effect::Change, &error)
        })
}

#[cfg(test)]
mod tests;
