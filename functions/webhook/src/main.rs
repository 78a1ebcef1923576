//! webhook: takes one delivery of GitHub's from a function URL or an HTTP API; verified, it goes to the queue or into the
//! ledger.
//!
//! All decisions are in `runner_scaler_core::webhook`; this binary only turns Lambda's event into a request.

mod event;

use std::sync::Arc;

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use runner_scaler_adapters::{Adapters, SystemClock, process_env, telemetry};
use runner_scaler_core::config::{Environment, Policy};
use runner_scaler_core::time::Clock;
use runner_scaler_core::webhook::{Handled, HttpRequest, Taken, WebhookSecrets, handle, refuse_at_sight};
use tracing::error;

use event::{UrlAnswer, UrlEvent};

/// This function's name: in its logs, and in the user agent of its calls.
const FUNCTION: &str = "webhook";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::init(FUNCTION);
    let environment = Environment::from_vars(process_env)?;
    let deployment = &environment.deployment.clone();
    let adapters = &Adapters::connect(environment, FUNCTION).await;
    run(service_fn(async |delivery: LambdaEvent<UrlEvent>| {
        // On the heap: nested in this one, the SDK's futures are too deep a type for the compiler.
        let handled = answer(delivery.payload, |request| Box::pin(take(adapters, request))).await;
        telemetry::emit(deployment, FUNCTION, &handled.metrics());
        Ok::<_, Error>(UrlAnswer::of(handled.taken.status()))
    }))
    .await
}

/// Answers one request; it is taken, which reads the secrets, only where neither its method nor its size nor its content
/// type refuses it.
async fn answer(event: UrlEvent, take: impl AsyncFnOnce(HttpRequest) -> Handled) -> Handled {
    let request = match HttpRequest::try_from(event) {
        Ok(request) => request,
        Err(refused) => {
            error!(error = %refused, "cannot take deliveries: {refused}");
            return Taken::Misconfigured.into();
        }
    };
    match refuse_at_sight(&request) {
        Some(refused) => refused.into(),
        None => take(request).await,
    }
}

/// Takes one delivery; without secrets or policy the answer is 503, never "accepted".
async fn take(adapters: &Adapters, request: HttpRequest) -> Handled {
    match prepare(adapters).await {
        Ok((secrets, policy)) => handle(adapters, &policy, &secrets, request, SystemClock.now()).await,
        Err(error) => {
            error!(error = %error, "cannot take deliveries: {error}");
            Taken::Misconfigured.into()
        }
    }
}

async fn prepare(adapters: &Adapters) -> Result<(WebhookSecrets, Arc<Policy>), Error> {
    Ok((adapters.webhook_secrets().await?, adapters.policy().await?))
}

#[cfg(test)]
mod tests {
    use runner_scaler_core::webhook::BODY_BYTES_MAX;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn what_method_size_or_content_type_refuses_is_answered_before_anything_is_read() {
        let largest = "x".repeat(BODY_BYTES_MAX);
        let too_large = format!("{largest}x");
        let base64 = "A".repeat(BODY_BYTES_MAX * 3 / 2);
        let (json, form) = ("application/json", "application/x-www-form-urlencoded");
        for (case, method, content_type, coded, body, expected) in [
            ("no POST", "GET", json, false, "", 405),
            ("no POST and too large", "PUT", json, false, &too_large, 405),
            ("too large", "POST", json, false, &too_large, 413),
            ("too large in base64", "POST", json, true, &base64, 413),
            ("a form", "POST", form, false, "payload=%7B%7D", 415),
            ("as large as may be", "POST", json, false, &largest, 503),
            ("an unsigned delivery", "POST", json, false, "{}", 503),
        ] {
            let mut taken = 0;
            let event = json!({
                "headers": { "content-type": content_type },
                "body": body,
                "isBase64Encoded": coded,
                "requestContext": { "http": { "method": method } },
            });
            let event = serde_json::from_value(event).expect("an event");
            let answered = answer(event, async |_| {
                taken += 1;
                Taken::Misconfigured.into()
            });
            assert_eq!(answered.await.taken.status(), expected, "{case}");
            assert_eq!(taken, i32::from(expected == 503), "{case}");
        }
    }
}
