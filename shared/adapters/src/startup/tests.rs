//! Policy and secrets on the wire.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use runner_scaler_core::error::{Class, Classify};
use serde_json::json;

use super::*;
use crate::wire::{Reply, Wire};

const DOCUMENT: &str = r#"{"fleets": [{"name": "linux", "labels": ["self-hosted"], "runner_count_max": 5,
    "market": "spot", "launch_template": {"id": "lt-1", "version": "2"}, "instance_types": ["m7i.large"],
    "subnet_ids": ["subnet-1"]}]}"#;

const SECRET: &str = "a secret of a good length";

fn value(text: &str) -> Reply {
    Reply::new(200, json!({ "Parameter": { "Value": text } }))
}

/// As if the document had been read an hour ago.
async fn age(adapters: &Adapters) {
    adapters.policy_cache().lock().await.age_by(Duration::from_hours(1));
}

#[tokio::test]
async fn a_document_is_read_once_a_minute_and_a_broken_one_never_replaces_a_good_one() {
    let reads = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&reads);
    let wire = Wire::start(move |seen| {
        assert_eq!(seen.json()["Name"], "config_parameter");
        Some(match count.fetch_add(1, Ordering::SeqCst) {
            0 => value(DOCUMENT),
            1 => value("{ broken"),
            2 => Reply::json_error(500, "InternalServerError"),
            _ => value(&DOCUMENT.replace("linux", "renamed")),
        })
    })
    .await;
    let adapters = wire.adapters();
    let name = async || adapters.policy().await.map(|policy| policy.fleets[0].name.to_string()).expect("a policy");
    assert_eq!(name().await, "linux");
    assert_eq!(name().await, "linux");
    assert_eq!(reads.load(Ordering::SeqCst), 1, "the second came from the cache");
    for (case, expected) in [("broken", "linux"), ("unreadable", "linux"), ("a new one", "renamed")] {
        age(&adapters).await;
        assert_eq!(name().await, expected, "{case}");
    }
    assert_eq!(reads.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn without_a_good_document_there_is_no_policy() {
    for (case, reply) in [
        ("missing", Reply::json_error(400, "ParameterNotFound")),
        ("broken", value("{")),
        ("a mistake", value(&DOCUMENT.replace("\"market\"", "\"ephemeral\": false, \"market\""))),
    ] {
        let wire = Wire::start(move |_| Some(reply.clone())).await;
        let adapters = wire.adapters();
        assert!(!matches!(adapters.policy().await, Ok(_) | Err(PolicyError::Waiting)), "{case}");
        assert!(matches!(adapters.policy().await, Err(PolicyError::Waiting)), "{case}");
        assert_eq!(wire.seen().len(), 1, "{case}: not read again at once");
        age(&adapters).await;
        assert!(!matches!(adapters.policy().await, Ok(_) | Err(PolicyError::Waiting)), "{case}: read again");
    }
}

#[tokio::test]
async fn webhook_secrets_are_read_once_in_five_minutes_and_not_printed() {
    let wire = Wire::start(|seen| {
        assert_eq!(
            (&seen.json()["Name"], &seen.json()["WithDecryption"]),
            (&json!("/app/webhook-secret"), &json!(true))
        );
        Some(value("a first secret of a good length\na second secret of a good length"))
    })
    .await;
    let adapters = wire.adapters();
    for _ in 0..2 {
        adapters.webhook_secrets().await.expect("two secrets");
    }
    assert_eq!(wire.seen().len(), 1);
    assert!(!format!("{adapters:?}").contains("good length"));

    let denied = Wire::start(|_| Some(Reply::json_error(400, "AccessDeniedException"))).await;
    let refused = denied.adapters().webhook_secrets().await.expect_err("denied");
    assert!(
        matches!(&refused, WebhookSecretsError::Unread(error) if error.class() == Class::Misconfigured),
        "{refused:?}"
    );
}

#[tokio::test]
async fn the_last_good_secrets_are_kept_for_an_hour_while_their_source_fails() {
    for (case, failure) in [
        ("a fault of SSM", Reply::json_error(500, "InternalServerError")),
        ("throttled", Reply::json_error(400, "ThrottlingException")),
        ("late", value("").late()),
        ("deleted", Reply::json_error(400, "ParameterNotFound")),
        ("emptied", value("\n")),
        ("too short", value("short")),
    ] {
        let reads = AtomicUsize::new(0);
        let wire = Wire::start(move |_| {
            Some(match reads.fetch_add(1, Ordering::SeqCst) {
                0 => value(SECRET),
                _ => failure.clone(),
            })
        })
        .await;
        let adapters = wire.adapters();
        let pass = async |minutes| {
            adapters.secrets_cache().lock().await.age_by(Duration::from_mins(minutes));
            let usable = adapters.webhook_secrets().await.is_ok_and(|secrets| is_the_secret(&secrets));
            (usable, wire.seen().len())
        };
        assert_eq!(pass(0).await, (true, 1), "{case}: read");
        assert_eq!(pass(4).await, (true, 1), "{case}: fresh");
        assert_eq!(pass(2).await, (true, 2), "{case}: kept");
        for _ in 0..50 {
            assert_eq!(pass(0).await, (true, 2), "{case}: kept, and not read again at once");
        }
        assert_eq!(pass(53).await, (true, 3), "{case}: kept still");
        assert_eq!(pass(1).await, (false, 4), "{case}: an hour has passed");
        for _ in 0..50 {
            assert_eq!(pass(0).await, (false, 4), "{case}: no flood of reads");
        }
    }
}

#[tokio::test]
async fn without_good_secrets_requests_are_no_flood_of_reads_and_a_mended_source_counts() {
    let reads = AtomicUsize::new(0);
    let wire = Wire::start(move |_| {
        Some(match reads.fetch_add(1, Ordering::SeqCst) {
            0 => Reply::json_error(400, "ThrottlingException"),
            _ => value(SECRET),
        })
    })
    .await;
    let adapters = wire.adapters();
    adapters.webhook_secrets().await.expect_err("throttled");
    for _ in 0..50 {
        let refused = adapters.webhook_secrets().await.expect_err("not read again yet");
        assert!(matches!(refused, WebhookSecretsError::Waiting), "{refused:?}");
    }
    assert_eq!(wire.seen().len(), 1);
    adapters.secrets_cache().lock().await.age_by(RETRY_AFTER);
    adapters.webhook_secrets().await.expect("mended");
    assert_eq!(wire.seen().len(), 2);
}

#[tokio::test]
async fn for_unknown_signatures_the_secrets_are_read_again_once_a_minute_and_not_more() {
    let reads = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&reads);
    let wire = Wire::start(move |_| {
        Some(match count.fetch_add(1, Ordering::SeqCst) {
            0 => value("an older secret of a good length"),
            1 => value(SECRET),
            _ => Reply::json_error(400, "ThrottlingException"),
        })
    })
    .await;
    let adapters = wire.adapters();
    let age = async |seconds| adapters.secrets_cache().lock().await.age_by(Duration::from_secs(seconds));
    let reread = async || adapters.reread().await.map(|secrets| is_the_secret(&secrets));
    assert!(!is_the_secret(&adapters.webhook_secrets().await.expect("the older one")));
    for _ in 0..50 {
        assert_eq!(reread().await, None, "read a moment ago");
    }
    age(59).await;
    assert_eq!((reread().await, reads.load(Ordering::SeqCst)), (None, 1), "for a minute");
    age(1).await;
    assert_eq!((reread().await, reads.load(Ordering::SeqCst)), (Some(true), 2), "the newer one");
    assert!(is_the_secret(&adapters.webhook_secrets().await.expect("kept")), "and it is kept");
    age(61).await;
    for _ in 0..50 {
        assert_eq!((reread().await, reads.load(Ordering::SeqCst)), (None, 3), "the source fails: no flood of reads");
    }
    assert!(is_the_secret(&adapters.webhook_secrets().await.expect("kept")), "the last good one is kept");
}

/// A delivery that `SECRET` signed is accepted.
fn is_the_secret(secrets: &WebhookSecrets) -> bool {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
    let mut signature = "sha256=".to_owned();
    for byte in ring::hmac::sign(&key, b"body").as_ref() {
        write!(signature, "{byte:02x}").expect("a string");
    }
    secrets.verify([signature.as_str()].into_iter(), b"body").is_ok()
}
