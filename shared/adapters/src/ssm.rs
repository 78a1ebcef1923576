//! SSM's parameter store: [`Parameters`], and the one way to read a parameter.

mod spacing;

use aws_config::retry::RetryConfig;
use aws_sdk_ssm::Client;
use aws_sdk_ssm::types::{ParameterMetadata, ParameterStringFilter, ParameterTier, ParameterType, Tag};
use futures_util::FutureExt;
use runner_scaler_core::error::{Class, Classify, PortError};
use runner_scaler_core::ids::InstanceId;
use runner_scaler_core::ports::{JitConfig, KillSwitch, Parameters};
use runner_scaler_core::time::{Clock, Timestamp};

use crate::Adapters;
use crate::aws::{Effect, code_of, misshapen, port_error, unbuilt};
use crate::clock::SystemClock;
use crate::secret::Secret;

pub(crate) use spacing::Spacing;

/// Longest value of a standard parameter, in bytes; the advanced tier takes 8,192 (SSM quotas, read 2026-11-20).
const STANDARD_BYTES_MAX: usize = 4_096;

/// Parameters a page, the most that `DescribeParameters` takes (API reference, read 2026-11-20).
const PAGE_SIZE: i32 = 50;

/// The value of the kill switch under which removal may go on. Anything else forbids it.
const REMOVAL_ENABLED: &str = "enabled";

impl Parameters for Adapters {
    async fn put_jit_config(&self, instance_id: &InstanceId, config: &JitConfig) -> Result<(), PortError> {
        let name = self.jit_parameter(instance_id);
        let tier =
            if config.expose().len() > STANDARD_BYTES_MAX { ParameterTier::Advanced } else { ParameterTier::Standard };
        let put = self
            .ssm()
            .put_parameter()
            .name(&name)
            .r#type(ParameterType::SecureString)
            .value(config.expose())
            .tier(tier)
            .overwrite(false)
            .set_tags(Some(self.jit_tags(instance_id)));
        SystemClock.sleep(self.puts().turn(SystemClock.now())).await;
        // Repeated by the caller alone: what the SDK repeats nobody spaces.
        let once = aws_sdk_ssm::config::Builder::new().retry_config(RetryConfig::disabled());
        let result = match put.customize().config_override(once).send().boxed().await {
            Ok(_) => Ok(()),
            Err(error) if code_of(&error) == Some("ParameterAlreadyExists") => Ok(()),
            Err(error) => Err(port_error(format!("PutParameter {name}"), Effect::Change, &error)),
        };
        match result.as_ref().map_err(Classify::class) {
            Ok(()) => self.puts().admitted(),
            Err(Class::Throttled { .. }) => self.puts().refused(),
            Err(
                Class::Transient
                | Class::NoCapacity
                | Class::OutcomeUnknown
                | Class::Rejected
                | Class::Conflict
                | Class::Absent
                | Class::Denied
                | Class::Misconfigured,
            ) => {}
        }
        result
    }

    async fn delete_jit_config(&self, instance_id: &InstanceId) -> Result<(), PortError> {
        let name = self.jit_parameter(instance_id);
        match self.ssm().delete_parameter().name(&name).send().boxed().await {
            Ok(_) => Ok(()),
            Err(error) if code_of(&error) == Some("ParameterNotFound") => Ok(()),
            Err(error) => Err(port_error(format!("DeleteParameter {name}"), Effect::Change, &error)),
        }
    }

    /// `DescribeParameters` knows no values, so that no secret can come along; its role needs no key.
    async fn jit_configs(&self) -> Result<Vec<(InstanceId, Timestamp)>, PortError> {
        let path = &self.environment().runner_parameter_path;
        let call = || format!("DescribeParameters {path}");
        let below = ParameterStringFilter::builder()
            .key("Path")
            .option("OneLevel")
            .values(path)
            .build()
            .map_err(|error| unbuilt(call(), &error))?;
        let mut pages =
            self.ssm().describe_parameters().parameter_filters(below).max_results(PAGE_SIZE).into_paginator().send();
        let mut configs = Vec::new();
        while let Some(page) = pages.next().boxed().await {
            let page = page.map_err(|error| port_error(call(), Effect::Read, &error))?;
            for parameter in page.parameters() {
                let Some(id) = self.instance_of_parameter(parameter.name()) else { continue };
                let since = modified_at(parameter)
                    .ok_or_else(|| misshapen(call(), Effect::Read, "time of a parameter's last change"))?;
                configs.push((id, since));
            }
        }
        Ok(configs)
    }

    async fn kill_switch(&self) -> Result<KillSwitch, PortError> {
        let value = read_parameter(self.ssm(), &self.environment().kill_switch_parameter).await?;
        Ok(if value.expose().trim() == REMOVAL_ENABLED {
            KillSwitch::RemovalEnabled
        } else {
            KillSwitch::RemovalDisabled
        })
    }
}

impl Adapters {
    fn jit_parameter(&self, instance_id: &InstanceId) -> String {
        format!("{}/{instance_id}", self.environment().runner_parameter_path)
    }

    /// The instance whose parameter has that name. What lies elsewhere, deeper, or under another name than an instance's
    /// is nobody's: ministack 1.5.33 answers the filter `OneLevel` as if it were `Recursive`.
    fn instance_of_parameter(&self, name: Option<&str>) -> Option<InstanceId> {
        let leaf = name?.strip_prefix(self.environment().runner_parameter_path.as_str())?.strip_prefix('/')?;
        (leaf.starts_with("i-") && !leaf.contains('/')).then(|| InstanceId::new(leaf))
    }

    /// The role of the instances may read a parameter whose `ghr:instance` is its own ARN, `${ec2:SourceInstanceARN}`.
    /// Without [`Adapters::learn_account`] the ARN is not known, the tag is left out, and such a policy refuses.
    fn jit_tags(&self, instance_id: &InstanceId) -> Vec<Tag> {
        let tag = |key: &str, value: String| Tag::builder().key(key).value(value).build().ok();
        let arn = self.instance_arn(instance_id).and_then(|arn| tag("ghr:instance", arn));
        [
            tag("ghr:environment", self.environment().deployment.to_string()),
            tag("ghr:instance-id", instance_id.to_string()),
            arn,
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

fn modified_at(parameter: &ParameterMetadata) -> Option<Timestamp> {
    parameter.last_modified_date()?.to_millis().ok().map(Timestamp)
}

/// One parameter's value, decrypted where it is a `SecureString`.
pub(crate) async fn read_parameter(client: &Client, name: &str) -> Result<Secret, PortError> {
    let call = format!("GetParameter {name}");
    let answer = client
        .get_parameter()
        .name(name)
        .with_decryption(true)
        .send()
        .boxed()
        .await
        .map_err(|error| port_error(&call, Effect::Read, &error))?;
    answer
        .parameter
        .and_then(|parameter| parameter.value)
        .map(Secret::new)
        .ok_or_else(|| misshapen(call, Effect::Read, "value"))
}

#[cfg(test)]
mod tests;
