//! SQS on the wire.

use runner_scaler_core::error::{Class, Classify};
use runner_scaler_core::ids::{InstallationId, JobId, Repository, RepositoryIds, RunId};
use runner_scaler_core::time::Timestamp;
use serde_json::json;

use super::*;
use crate::wire::{Reply, Wire};

fn message() -> JobMessage {
    JobMessage {
        job_id: JobId(21),
        run_id: RunId(20),
        run_attempt: 1,
        repository: Repository::try_from("octo/hello".to_owned()).expect("a full name"),
        organization: Some("octo".into()),
        installation_id: Some(InstallationId(3)),
        labels: vec!["linux".into()],
        queued_at: Timestamp(1),
        look_at: None,
        ids: RepositoryIds { owner: Some(12), repository: None },
    }
}

#[tokio::test]
async fn a_message_travels_whole_and_is_delayed_by_15_min_at_most() {
    let wire = Wire::start(|_| Some(Reply::new(200, json!({ "MessageId": "m" })))).await;
    let adapters = wire.adapters();
    adapters.send(&message(), Duration::from_secs(30)).await.expect("sent");
    adapters.send(&message(), Duration::from_hours(1)).await.expect("sent");
    let seen = wire.seen();
    let [soon, late] = [&seen[0], &seen[1]].map(super::super::wire::Seen::json);
    assert_eq!(soon["QueueUrl"], json!(format!("{}/queue", wire.url)));
    let body: JobMessage = serde_json::from_str(soon["MessageBody"].as_str().expect("text")).expect("a message");
    assert_eq!(body, message());
    assert_eq!((&soon["DelaySeconds"], &late["DelaySeconds"]), (&json!(30), &json!(900)));
}

#[tokio::test]
async fn a_message_that_fails_says_whether_it_may_have_been_sent() {
    for (case, reply, expected) in [
        ("no such queue", Reply::json_error(400, "QueueDoesNotExist"), Class::Misconfigured),
        ("denied", Reply::json_error(403, "AccessDeniedException"), Class::Misconfigured),
        ("throttled", Reply::json_error(400, "RequestThrottled"), Class::Throttled { retry_after: None }),
        ("server fault", Reply::json_error(500, "InternalError"), Class::OutcomeUnknown),
        ("late", Reply::new(200, "{}").late(), Class::OutcomeUnknown),
    ] {
        let wire = Wire::start(move |_| Some(reply.clone())).await;
        let refused = wire.adapters().send(&message(), Duration::ZERO).await.expect_err(case);
        assert_eq!(refused.class(), expected, "{case}: {refused}");
    }
}
