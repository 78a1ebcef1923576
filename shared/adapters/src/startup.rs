//! What an invocation needs before it begins: the policy, and for the webhook its secrets.
//!
//! Both live in SSM and are kept in the process for a short while, so that a burst of invocations is not a burst of
//! reads against SSM's 40 a second.

use std::sync::Arc;
use std::time::Duration;

use runner_scaler_core::config::{ConfigError, Policy, parse_policy};
use runner_scaler_core::error::PortError;
use runner_scaler_core::time::Clock;
use tracing::error;

use crate::Adapters;
use crate::aws::chain;
use crate::cache::Cached;
use crate::clock::SystemClock;
use crate::secret::Secret;
use crate::ssm::read_parameter;

/// How long a document is used before it is read again. Longer, and a person who stops something waits; shorter, and
/// every invocation pays a call.
const POLICY_AGE_MAX: Duration = Duration::from_mins(1);

/// How long a webhook secret that was taken back stays accepted (facts of rotation: two secrets overlap anyway).
const SECRETS_AGE_MAX: Duration = Duration::from_mins(5);

/// Why there is no policy.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The parameter could not be read.
    #[error("the configuration document could not be read")]
    Unread(#[source] PortError),
    /// The document is wrong.
    #[error("the configuration document is refused")]
    Refused(#[source] ConfigError),
}

impl Adapters {
    /// The policy, at most 60 s old.
    ///
    /// # Guarantees
    /// A document that cannot be read or is wrong never takes the place of a good one: the process keeps the last good
    /// one and logs an alarm, once a minute.
    ///
    /// # Errors
    /// There is no good one yet.
    pub async fn policy(&self) -> Result<Arc<Policy>, PolicyError> {
        let mut cache = self.policy_cache().lock().await;
        let now = SystemClock.now();
        if let Some(cached) = cache.as_ref().filter(|cached| cached.is_fresh(now, POLICY_AGE_MAX)) {
            return Ok(Arc::clone(&cached.value));
        }
        let policy = match (self.read_policy().await, cache.take()) {
            (Ok(policy), _) => Arc::new(policy),
            (Err(refused), Some(last_good)) => {
                error!(error = chain(&refused), "{refused}; the last good one is kept");
                last_good.value
            }
            (Err(refused), None) => {
                error!(error = chain(&refused), "{refused}, and there is none to keep");
                return Err(refused);
            }
        };
        *cache = Some(Cached::new(Arc::clone(&policy), now));
        Ok(policy)
    }

    /// Text of `<GITHUB_APP_PATH>/webhook-secret`, one secret a line, at most 5 min old.
    pub async fn webhook_secrets(&self) -> Result<Secret, PortError> {
        let mut cache = self.secrets_cache().lock().await;
        let now = SystemClock.now();
        if let Some(cached) = cache.as_ref().filter(|cached| cached.is_fresh(now, SECRETS_AGE_MAX)) {
            return Ok(cached.value.clone());
        }
        let name = format!("{}/webhook-secret", self.environment().github_app_path);
        let secrets = read_parameter(self.ssm(), &name).await?;
        *cache = Some(Cached::new(secrets.clone(), now));
        Ok(secrets)
    }

    async fn read_policy(&self) -> Result<Policy, PolicyError> {
        let document =
            read_parameter(self.ssm(), &self.environment().config_parameter).await.map_err(PolicyError::Unread)?;
        parse_policy(document.expose(), self.environment()).map_err(PolicyError::Refused)
    }
}

#[cfg(test)]
mod tests;
