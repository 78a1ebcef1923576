//! Policy and secrets on the wire.

use std::sync::atomic::{AtomicUsize, Ordering};

use runner_scaler_core::error::{Class, Classify};
use runner_scaler_core::time::Timestamp;
use serde_json::json;

use super::*;
use crate::wire::{Reply, Wire};

const DOCUMENT: &str = r#"{"fleets": [{"name": "linux", "labels": ["self-hosted"], "runner_count_max": 5,
    "market": "spot", "launch_template": {"id": "lt-1", "version": "2"}, "instance_types": ["m7i.large"],
    "subnet_ids": ["subnet-1"]}]}"#;

fn value(text: &str) -> Reply {
    Reply::new(200, json!({ "Parameter": { "Value": text } }))
}

/// As if the document had been read an hour ago.
async fn age(adapters: &Adapters) {
    let mut cache = adapters.policy_cache().lock().await;
    *cache = cache.take().map(|cached| Cached::new(cached.value, Timestamp(1)));
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
        assert!(wire.adapters().policy().await.is_err(), "{case}");
    }
}

#[tokio::test]
async fn webhook_secrets_are_read_once_in_five_minutes_and_not_printed() {
    let wire = Wire::start(|seen| {
        assert_eq!(
            (&seen.json()["Name"], &seen.json()["WithDecryption"]),
            (&json!("/app/webhook-secret"), &json!(true))
        );
        Some(value("first\nsecond"))
    })
    .await;
    let adapters = wire.adapters();
    for _ in 0..2 {
        let secrets = adapters.webhook_secrets().await.expect("two secrets");
        assert_eq!(secrets.expose(), "first\nsecond");
    }
    assert_eq!(wire.seen().len(), 1);
    assert!(!format!("{adapters:?}").contains("second"));

    let denied = Wire::start(|_| Some(Reply::json_error(400, "AccessDeniedException"))).await;
    let refused = denied.adapters().webhook_secrets().await.expect_err("denied");
    assert_eq!(refused.class(), Class::Misconfigured);
}
