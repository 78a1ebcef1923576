//! Sends webhook deliveries, signed as GitHub signs them, and reports the answers.

use super::server::{AppState, wall_now};
use crate::github::{Forgery, OutgoingDelivery};
use ring::hmac;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often due deliveries are looked for.
const LOOK: Duration = Duration::from_millis(20);

/// Who receives deliveries, and the secret they are signed with.
pub(super) struct Receiver {
    url: Mutex<Option<String>>,
    secret: String,
    client: reqwest::Client,
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Receiver({:?}, secret <redacted>)", self.url)
    }
}

impl Receiver {
    pub(super) fn new(url: Option<String>, secret: String) -> Self {
        Self { url: Mutex::new(url), secret, client: reqwest::Client::new() }
    }

    pub(super) fn set_url(&self, url: &str) {
        *self.url.lock().unwrap_or_else(PoisonError::into_inner) = Some(url.to_owned());
    }

    fn url(&self) -> Option<String> {
        self.url.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// `X-Hub-Signature-256` of a body under a secret (docs: validating webhook deliveries, which has a test vector).
#[must_use]
pub fn signature(secret: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, body);
    let hex: Vec<String> = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={}", hex.concat())
}

/// Sends what is due, each delivery on its own: a slow receiver delays no other.
pub(super) async fn run(state: AppState, receiver: Arc<Receiver>) {
    let mut looks = tokio::time::interval(LOOK);
    loop {
        looks.tick().await;
        let Some(url) = receiver.url() else { continue };
        let (due, timeout_ms) = {
            let mut world = state.enter();
            let now = world.now();
            (world.github.take_due_deliveries(now), world.github.settings().delivery_timeout_ms)
        };
        let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
        for delivery in due {
            let (state, receiver, url) = (state.clone(), Arc::clone(&receiver), url.clone());
            tokio::spawn(async move {
                let begun = wall_now();
                let delivery_id = delivery.delivery_id;
                let status = send(&receiver, &url, delivery, timeout).await;
                let mut world = state.enter();
                let took_ms = world.now() - begun;
                let (github, mut cx) = world.github();
                github.delivery_answered(&mut cx, delivery_id, status, took_ms);
            });
        }
    }
}

/// The status of the answer; none when there was none in time.
async fn send(receiver: &Receiver, url: &str, delivery: OutgoingDelivery, timeout: Duration) -> Option<u16> {
    let signed_with = match delivery.forgery {
        Forgery::None => Some(receiver.secret.as_str()),
        Forgery::BadSignature => Some("somebody else's secret"),
        Forgery::NoSignature => None,
    };
    let mut request = receiver
        .client
        .post(url)
        .timeout(timeout)
        .header("content-type", "application/json")
        .header("user-agent", "GitHub-Hookshot/0000000")
        .header("x-github-event", delivery.event)
        .header("x-github-delivery", &delivery.guid)
        .header("x-github-hook-id", "1")
        .header("x-github-hook-installation-target-type", "integration")
        .header("x-github-hook-installation-target-id", "1");
    if let Some(secret) = signed_with {
        request = request.header("x-hub-signature-256", signature(secret, &delivery.payload));
    }
    let answer = request.body(delivery.payload).send().await.ok()?;
    Some(answer.status().as_u16())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_githubs_own_example() {
        assert_eq!(
            signature("It's a Secret to Everybody", b"Hello, World!"),
            "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
        );
    }
}
