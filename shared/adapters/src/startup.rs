//! What an invocation needs before it begins: the policy, and for the webhook its secrets.
//!
//! Both live in SSM and are kept in the process for a short while, so that a burst of invocations is not a burst of
//! reads against SSM's 40 a second.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use runner_scaler_core::config::{ConfigError, Policy, parse_policy};
use runner_scaler_core::error::PortError;
use runner_scaler_core::time::Clock;
use runner_scaler_core::webhook::{SecretsError, SecretsSource, WebhookSecrets};
use tracing::error;

use crate::Adapters;
use crate::aws::chain;
use crate::cache::{Ages, Kept, Next};
use crate::clock::SystemClock;
use crate::ssm::read_parameter;

/// While a source fails it is read again after this time. Longer, and deliveries are refused although all is mended;
/// shorter, and requests that nobody signed become calls of SSM, whose 40 a second launches need.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// A policy older than a minute keeps a person waiting who stops something. The last good one holds for ever: it cannot
/// do more harm than it did while it was read, and without one nothing is drained.
const POLICY_AGES: Ages = Ages { fresh: Duration::from_mins(1), retry_after: RETRY_AFTER, kept: None };

/// A secret that was taken back stays accepted for `fresh` (two overlap in a rotation anyway), and for `kept` while SSM
/// fails: longer, and a leaked one outlives its revocation; shorter, and an outage of SSM loses deliveries.
const SECRETS_AGES: Ages =
    Ages { fresh: Duration::from_mins(5), retry_after: RETRY_AFTER, kept: Some(Duration::from_hours(1)) };

/// For a signature that no kept secret made, secrets are read again when they are older than this: with one secret
/// replaced by another and no overlap, deliveries fail for so long. Longer, and more of them fail; shorter, and signatures
/// that anyone can make up become calls of SSM, now one a minute and process at most.
const REREAD_AFTER: Duration = Duration::from_mins(1);

/// Why there is no policy.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The parameter could not be read.
    #[error("the configuration document could not be read")]
    Unread(#[source] PortError),
    /// The document is wrong.
    #[error("the configuration document is refused")]
    Refused(#[source] ConfigError),
    /// One of the two, a moment ago.
    #[error("the configuration document failed a moment ago and is not read again yet")]
    Waiting,
}

/// Why there are no webhook secrets.
#[derive(Debug, thiserror::Error)]
pub enum WebhookSecretsError {
    /// The parameter could not be read.
    #[error("the webhook secrets could not be read")]
    Unread(#[source] PortError),
    /// The text holds none that can be used.
    #[error("the webhook secrets are refused")]
    Refused(#[source] SecretsError),
    /// One of the two, a moment ago.
    #[error("the webhook secrets failed a moment ago and are not read again yet")]
    Waiting,
}

impl Adapters {
    /// The policy, at most 60 s old.
    ///
    /// # Guarantees
    /// A document that cannot be read or is wrong never takes the place of a good one: the process keeps the last good
    /// one and logs an alarm. It is then read again every 5 s, not at every call.
    ///
    /// # Errors
    /// There is no good one yet.
    pub async fn policy(&self) -> Result<Arc<Policy>, PolicyError> {
        let mut cache = self.policy_cache().lock().await;
        let begun_at = SystemClock.now();
        match cache.next(begun_at, POLICY_AGES) {
            Next::Use(policy) => return Ok(policy),
            Next::Wait => return Err(PolicyError::Waiting),
            Next::Read => {}
        }
        match self.read_policy().await {
            Ok(policy) => {
                let policy = Arc::new(policy);
                cache.succeeded(Arc::clone(&policy), begun_at);
                Ok(policy)
            }
            // Failed at its end: a call that hangs must not have used up its own pause.
            Err(refused) => keep(&mut cache, POLICY_AGES, refused),
        }
    }

    /// The secrets in `<GITHUB_APP_PATH>/webhook-secret`, at most 5 min old.
    ///
    /// # Guarantees
    /// While they cannot be read or are wrong, the last good ones are kept for at most an hour, with an alarm. SSM is
    /// then read every 5 s, not at every request: anyone may send those.
    ///
    /// # Errors
    /// There are none that may be used.
    pub async fn webhook_secrets(&self) -> Result<WebhookSecrets, WebhookSecretsError> {
        self.secrets_within(SECRETS_AGES).await.map(|(secrets, _)| secrets)
    }

    /// The secrets, and whether they were read just now.
    async fn secrets_within(&self, ages: Ages) -> Result<(WebhookSecrets, Source), WebhookSecretsError> {
        let mut cache = self.secrets_cache().lock().await;
        let begun_at = SystemClock.now();
        match cache.next(begun_at, ages) {
            Next::Use(secrets) => return Ok((secrets, Source::Cache)),
            Next::Wait => return Err(WebhookSecretsError::Waiting),
            Next::Read => {}
        }
        match self.read_secrets().await {
            Ok(secrets) => {
                cache.succeeded(secrets.clone(), begun_at);
                Ok((secrets, Source::Parameter))
            }
            Err(refused) => keep(&mut cache, ages, refused).map(|secrets| (secrets, Source::Cache)),
        }
    }

    async fn read_secrets(&self) -> Result<WebhookSecrets, WebhookSecretsError> {
        let name = format!("{}/webhook-secret", self.environment().github_app_path);
        let text = read_parameter(self.ssm(), &name).await.map_err(WebhookSecretsError::Unread)?;
        WebhookSecrets::parse(text.expose()).map_err(WebhookSecretsError::Refused)
    }

    async fn read_policy(&self) -> Result<Policy, PolicyError> {
        let document =
            read_parameter(self.ssm(), &self.environment().config_parameter).await.map_err(PolicyError::Unread)?;
        parse_policy(document.expose(), self.environment()).map_err(PolicyError::Refused)
    }
}

impl SecretsSource for Adapters {
    async fn reread(&self) -> Option<WebhookSecrets> {
        match self.secrets_within(Ages { fresh: REREAD_AFTER, ..SECRETS_AGES }).await {
            Ok((secrets, Source::Parameter)) => Some(secrets),
            Ok((_, Source::Cache)) | Err(_) => None,
        }
    }
}

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Cache,
    Parameter,
}

/// The last good value in place of the error, with an alarm.
fn keep<T: Clone, E: Error + 'static>(cache: &mut Kept<T>, ages: Ages, refused: E) -> Result<T, E> {
    if let Some(last_good) = cache.failed(SystemClock.now(), ages) {
        error!(error = chain(&refused), "{refused}; the last good is kept");
        return Ok(last_good);
    }
    error!(error = chain(&refused), "{refused}, and there is nothing good to keep");
    Err(refused)
}

#[cfg(test)]
mod tests;
