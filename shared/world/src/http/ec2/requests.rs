//! From parameters to typed requests.

use super::params::Params;
use crate::ec2::{DescribeRequest, Ec2Error, Filter, FleetRequest, LaunchTemplate, Market, Pool, Tags, TemplateConfig};
use std::collections::BTreeMap;

/// A call of the operations that the double knows.
#[derive(Debug)]
pub(super) enum Request {
    CreateFleet(FleetRequest),
    DescribeInstances(DescribeRequest),
    CreateTags { ids: Vec<String>, tags: Tags },
    TerminateInstances { ids: Vec<String> },
}

/// Parameters of `CreateFleet` that EC2 knows and that change nothing here; they still count for the client token.
const FLEET_OPTIONS: [&str; 4] =
    ["SpotOptions.", "OnDemandOptions.", "ExcessCapacityTerminationPolicy", "ReplaceUnhealthyInstances"];

/// Fields of an override that EC2 knows and that change nothing here.
const OVERRIDE_OPTIONS: [&str; 2] = ["MaxPrice", "Priority"];

impl Request {
    /// Reads the whole call; nothing may be left over.
    pub(super) fn read(action: &str, mut params: Params) -> Result<Self, Ec2Error> {
        let request = match action {
            "CreateFleet" => Self::CreateFleet(fleet(&mut params)?),
            "DescribeInstances" => Self::DescribeInstances(describe(&mut params)?),
            "CreateTags" => Self::CreateTags { ids: params.texts("ResourceId"), tags: params.tags()? },
            "TerminateInstances" => Self::TerminateInstances { ids: params.texts("InstanceId") },
            unknown => {
                let message = format!("The action {unknown} is not valid for this web service.");
                return Err(Ec2Error::refused("InvalidAction", message));
            }
        };
        params.finish()?;
        Ok(request)
    }
}

fn describe(params: &mut Params) -> Result<DescribeRequest, Ec2Error> {
    let mut filters = Vec::new();
    for mut filter in params.list("Filter") {
        filters.push(Filter { name: filter.required("Name")?, values: filter.texts("Value") });
        filter.finish()?;
    }
    Ok(DescribeRequest {
        instance_ids: params.texts("InstanceId"),
        filters,
        max_results: params.number("MaxResults")?,
        next_token: params.take("NextToken"),
    })
}

fn fleet(params: &mut Params) -> Result<FleetRequest, Ec2Error> {
    let mut other = BTreeMap::new();
    let mut configs = Vec::new();
    for config in params.list("LaunchTemplateConfigs") {
        let place = configs.len() + 1;
        configs.push(template_config(config, place, &mut other)?);
    }
    let (total_target_capacity, market) = target(params)?;
    let min_target_capacity = match market {
        Market::Spot => params.number("SpotOptions.MinTargetCapacity")?,
        Market::OnDemand => params.number("OnDemandOptions.MinTargetCapacity")?,
    };
    let instance_tags = tag_specifications(params, &mut other)?;
    other.extend(params.take_prefixed(&FLEET_OPTIONS));
    Ok(FleetRequest {
        client_token: params.take("ClientToken"),
        // EC2's default is `maintain`, which would relaunch for ever.
        kind: params.take("Type").unwrap_or_else(|| "maintain".to_owned()),
        configs,
        total_target_capacity,
        market,
        min_target_capacity,
        instance_tags,
        other,
    })
}

fn template_config(
    mut config: Params,
    place: usize,
    other: &mut BTreeMap<String, String>,
) -> Result<TemplateConfig, Ec2Error> {
    let template = LaunchTemplate {
        id: config.take("LaunchTemplateSpecification.LaunchTemplateId"),
        name: config.take("LaunchTemplateSpecification.LaunchTemplateName"),
        version: config.take("LaunchTemplateSpecification.Version"),
    };
    let mut overrides = Vec::new();
    for mut pool in config.list("Overrides") {
        let prefix = format!("{place}.{}", overrides.len() + 1);
        let options = pool.take_prefixed(&OVERRIDE_OPTIONS);
        other.extend(options.into_iter().map(|(name, value)| (format!("{prefix}.{name}"), value)));
        overrides.push(Pool { instance_type: pool.take("InstanceType"), subnet_id: pool.take("SubnetId") });
        pool.finish()?;
    }
    config.finish()?;
    Ok(TemplateConfig { template, overrides })
}

/// Capacity and market. A fleet with both markets at once is not simulated and refused.
fn target(params: &mut Params) -> Result<(u32, Market), Ec2Error> {
    const SPECIFICATION: &str = "TargetCapacitySpecification";
    let total: u32 = params
        .number(&format!("{SPECIFICATION}.TotalTargetCapacity"))?
        .ok_or_else(|| Ec2Error::refused("MissingParameter", "The request must contain TotalTargetCapacity"))?;
    let default = params.take(&format!("{SPECIFICATION}.DefaultTargetCapacityType"));
    let spot: Option<u32> = params.number(&format!("{SPECIFICATION}.SpotTargetCapacity"))?;
    let on_demand: Option<u32> = params.number(&format!("{SPECIFICATION}.OnDemandTargetCapacity"))?;
    let market = match (default.as_deref(), spot.unwrap_or(0), on_demand.unwrap_or(0)) {
        (_, spot, 0) if spot == total && total > 0 => Market::Spot,
        (_, 0, on_demand) if on_demand == total && total > 0 => Market::OnDemand,
        (Some("spot"), 0, 0) => Market::Spot,
        // On-demand is EC2's own default (API reference, `TargetCapacitySpecificationRequest`).
        (Some("on-demand") | None, 0, 0) => Market::OnDemand,
        _ => return Err(Ec2Error::refused("UnsupportedOperation", "Only fleets of one market are simulated")),
    };
    Ok((total, market))
}

/// The tags of the instances; those of the fleet itself only count for the client token.
fn tag_specifications(params: &mut Params, other: &mut BTreeMap<String, String>) -> Result<Tags, Ec2Error> {
    let mut instance_tags = Tags::new();
    for mut specification in params.list("TagSpecification") {
        let resource = specification.required("ResourceType")?;
        let tags = specification.tags()?;
        specification.finish()?;
        match resource.as_str() {
            "instance" => instance_tags.extend(tags),
            "fleet" => other.extend(tags.into_iter().map(|(key, value)| (format!("fleet tag {key}"), value))),
            unknown => {
                let message = format!("'{unknown}' is not a valid taggable resource type for this operation.");
                return Err(Ec2Error::refused("InvalidParameterValue", message));
            }
        }
    }
    Ok(instance_tags)
}
