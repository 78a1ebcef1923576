//! SSM's parameter store: [`Parameters`], and the one way to read a parameter.

use aws_sdk_ssm::Client;
use aws_sdk_ssm::types::{ParameterTier, ParameterType, Tag};
use runner_scaler_core::error::PortError;
use runner_scaler_core::ids::InstanceId;
use runner_scaler_core::ports::{JitConfig, KillSwitch, Parameters};

use crate::Adapters;
use crate::aws::{Effect, code_of, misshapen, port_error};
use crate::secret::Secret;

/// Longest value of a standard parameter, in bytes; the advanced tier takes 8,192 (SSM quotas, read 2026-11-20).
const STANDARD_BYTES_MAX: usize = 4_096;

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
        match put.send().await {
            Ok(_) => Ok(()),
            Err(error) if code_of(&error) == Some("ParameterAlreadyExists") => Ok(()),
            Err(error) => Err(port_error(format!("PutParameter {name}"), Effect::Change, &error)),
        }
    }

    async fn delete_jit_config(&self, instance_id: &InstanceId) -> Result<(), PortError> {
        let name = self.jit_parameter(instance_id);
        match self.ssm().delete_parameter().name(&name).send().await {
            Ok(_) => Ok(()),
            Err(error) if code_of(&error) == Some("ParameterNotFound") => Ok(()),
            Err(error) => Err(port_error(format!("DeleteParameter {name}"), Effect::Change, &error)),
        }
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

/// One parameter's value, decrypted where it is a `SecureString`.
pub(crate) async fn read_parameter(client: &Client, name: &str) -> Result<Secret, PortError> {
    let call = format!("GetParameter {name}");
    let answer = client
        .get_parameter()
        .name(name)
        .with_decryption(true)
        .send()
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
