//! webhook: takes one delivery of GitHub's from the function URL; verified, it goes to the queue or into the ledger.
//!
//! All decisions are in `runner_scaler_core::webhook`; this binary only turns Lambda's event into a request.

mod event;

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use runner_scaler_adapters::{Adapters, SystemClock, process_env, telemetry};
use runner_scaler_core::config::Environment;
use runner_scaler_core::time::Clock;
use runner_scaler_core::webhook::{HttpAnswer, WebhookSecrets, handle};
use tracing::error;

use event::{UrlAnswer, UrlEvent};

/// This function's name: in its logs, and in the user agent of its calls.
const FUNCTION: &str = "webhook";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::init(FUNCTION);
    let environment = Environment::from_vars(process_env)?;
    let adapters = &Adapters::connect(environment, FUNCTION).await;
    run(service_fn(move |delivery: LambdaEvent<UrlEvent>| answer(adapters, delivery.payload))).await
}

/// Answers one delivery; without secrets or policy with 503, never with "accepted".
async fn answer(adapters: &Adapters, delivery: UrlEvent) -> Result<UrlAnswer, Error> {
    let answer = match prepare(adapters).await {
        Ok((secrets, policy)) => handle(adapters, &policy, &secrets, delivery.into(), SystemClock.now()).await,
        Err(error) => {
            error!(error = %error, "cannot take deliveries: {error}");
            HttpAnswer { status: 503 }
        }
    };
    Ok(answer.into())
}

async fn prepare(
    adapters: &Adapters,
) -> Result<(WebhookSecrets, std::sync::Arc<runner_scaler_core::config::Policy>), Error> {
    let secrets = WebhookSecrets::parse(adapters.webhook_secrets().await?.expose())?;
    Ok((secrets, adapters.policy().await?))
}
