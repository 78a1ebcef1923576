//! webhook: takes one delivery of GitHub's from the function URL; verified, it goes to the queue or into the ledger.
//!
//! All decisions are in `runner_scaler_core::webhook`; this binary only turns Lambda's event into a request.

mod event;

use std::sync::Arc;

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use runner_scaler_adapters::{Adapters, SystemClock, process_env, telemetry};
use runner_scaler_core::config::{Environment, Policy};
use runner_scaler_core::time::Clock;
use runner_scaler_core::webhook::{HttpAnswer, HttpRequest, WebhookSecrets, handle, refuse_at_sight};
use tracing::error;

use event::{UrlAnswer, UrlEvent};

/// This function's name: in its logs, and in the user agent of its calls.
const FUNCTION: &str = "webhook";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::init(FUNCTION);
    let environment = Environment::from_vars(process_env)?;
    let adapters = &Adapters::connect(environment, FUNCTION).await;
    run(service_fn(async |delivery: LambdaEvent<UrlEvent>| {
        // On the heap: nested in this one, the SDK's futures are too deep a type for the compiler.
        let answer = answer(delivery.payload.into(), |request| Box::pin(take(adapters, request)));
        Ok::<_, Error>(UrlAnswer::from(answer.await))
    }))
    .await
}

/// Answers one request; it is taken, which reads the secrets, only where neither its method nor its size refuses it.
async fn answer(request: HttpRequest, take: impl AsyncFnOnce(HttpRequest) -> HttpAnswer) -> HttpAnswer {
    match refuse_at_sight(&request) {
        Some(refused) => refused,
        None => take(request).await,
    }
}

/// Takes one delivery; without secrets or policy the answer is 503, never "accepted".
async fn take(adapters: &Adapters, request: HttpRequest) -> HttpAnswer {
    match prepare(adapters).await {
        Ok((secrets, policy)) => handle(adapters, &policy, &secrets, request, SystemClock.now()).await,
        Err(error) => {
            error!(error = %error, "cannot take deliveries: {error}");
            HttpAnswer { status: 503 }
        }
    }
}

async fn prepare(adapters: &Adapters) -> Result<(WebhookSecrets, Arc<Policy>), Error> {
    Ok((adapters.webhook_secrets().await?, adapters.policy().await?))
}

#[cfg(test)]
mod tests {
    use runner_scaler_core::webhook::{BODY_BYTES_MAX, Body};

    use super::*;

    #[tokio::test]
    async fn what_method_or_size_refuses_is_answered_before_anything_is_read() {
        let largest = "x".repeat(BODY_BYTES_MAX);
        let too_large = format!("{largest}x");
        let text = |text: &str| Body::Text(text.to_owned());
        for (case, method, body, expected) in [
            ("no POST", "GET", text(""), 405),
            ("no POST and too large", "PUT", text(&too_large), 405),
            ("too large", "POST", text(&too_large), 413),
            ("too large in base64", "POST", Body::Base64("A".repeat(BODY_BYTES_MAX * 3 / 2)), 413),
            ("as large as may be", "POST", text(&largest), 503),
            ("an unsigned delivery", "POST", text("{}"), 503),
        ] {
            let mut taken = 0;
            let request = HttpRequest { method: method.to_owned(), headers: Vec::new(), body };
            let answered = answer(request, async |_| {
                taken += 1;
                HttpAnswer { status: 503 }
            });
            assert_eq!(answered.await.status, expected, "{case}");
            assert_eq!(taken, i32::from(expected == 503), "{case}");
        }
    }
}
