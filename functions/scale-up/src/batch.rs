//! SQS's event to messages, outcomes to SQS's answer.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent};
use futures_util::FutureExt;
use lambda_runtime::Error;
use runner_scaler_core::scale_up::{Outcome, QueueMessage};
use tracing::error;

/// The batch's messages.
///
/// # Errors
/// A record without id: it could not be named among the failures, so the whole batch has to come back.
pub(crate) fn messages(event: SqsEvent) -> Result<Vec<QueueMessage>, Error> {
    let message = |record: aws_lambda_events::sqs::SqsMessage| match record.message_id {
        Some(message_id) => Ok(QueueMessage { message_id, body: record.body.unwrap_or_default() }),
        None => Err(Error::from("a record of the batch has no message id")),
    };
    event.records.into_iter().map(message).collect()
}

/// Handles the messages of these ids and answers for each of them: one without an outcome comes back, and all do after a
/// panic, for an empty list acknowledges all.
///
/// # Errors
/// Those of the work: they fail the invocation, where an alarm sees them, and every message comes back.
pub(crate) async fn answer(
    ids: Vec<String>,
    work: impl Future<Output = Result<Vec<(String, Outcome)>, Error>>,
) -> Result<SqsBatchResponse, Error> {
    // What the work has borrowed is the adapters', whose locks are asynchronous and do not poison.
    let outcomes = match AssertUnwindSafe(work).catch_unwind().await {
        Ok(outcomes) => outcomes?,
        Err(panic) => {
            let why = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref().map(String::as_str));
            error!(message_count = ids.len(), "a panic, all messages come back: {}", why.unwrap_or("no text"));
            Vec::new()
        }
    };
    Ok(response(ids, outcomes))
}

/// `batchItemFailures`: exactly the messages that are not done with.
fn response(ids: Vec<String>, outcomes: Vec<(String, Outcome)>) -> SqsBatchResponse {
    let outcomes: BTreeMap<String, Outcome> = outcomes.into_iter().collect();
    let mut response = SqsBatchResponse::default();
    for id in ids {
        match outcomes.get(&id) {
            Some(Outcome::Launched | Outcome::AlreadyServed | Outcome::NotQueued | Outcome::Waiting) => {}
            Some(Outcome::Failed(_)) | None => {
                let mut failure = BatchItemFailure::default();
                failure.item_identifier = id;
                response.batch_item_failures.push(failure);
            }
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn named(outcomes: &[(&str, Outcome)]) -> Vec<(String, Outcome)> {
        outcomes.iter().map(|(id, outcome)| ((*id).to_owned(), outcome.clone())).collect()
    }

    async fn serialised(
        names: &[&str],
        work: impl Future<Output = Result<Vec<(String, Outcome)>, Error>>,
    ) -> Result<String, String> {
        let answer = answer(ids(names), work).await.map_err(|error| error.to_string())?;
        Ok(serde_json::to_string(&answer).expect("plain data"))
    }

    #[tokio::test]
    async fn every_outcome_of_a_batch_is_answered_as_sqs_reads_it() {
        let failed = || Outcome::Failed("why".into());
        for (case, outcomes, failures) in [
            ("launched", vec![("a", Outcome::Launched)], r#"[{"itemIdentifier":"b"}]"#),
            ("served", vec![("a", Outcome::AlreadyServed), ("b", Outcome::Launched)], "[]"),
            ("not queued", vec![("b", Outcome::NotQueued), ("a", Outcome::Waiting)], "[]"),
            ("waiting", vec![("a", Outcome::Waiting), ("b", failed())], r#"[{"itemIdentifier":"b"}]"#),
            ("failed", vec![("b", Outcome::Waiting), ("a", failed())], r#"[{"itemIdentifier":"a"}]"#),
            (
                "all failed",
                vec![("b", failed()), ("a", failed())],
                r#"[{"itemIdentifier":"a"},{"itemIdentifier":"b"}]"#,
            ),
            ("no outcomes", vec![], r#"[{"itemIdentifier":"a"},{"itemIdentifier":"b"}]"#),
            (
                "of messages that are not ours",
                vec![("c", Outcome::Launched)],
                r#"[{"itemIdentifier":"a"},{"itemIdentifier":"b"}]"#,
            ),
        ] {
            let answer = serialised(&["a", "b"], async { Ok(named(&outcomes)) }).await;
            assert_eq!(answer.expect(case), format!(r#"{{"batchItemFailures":{failures}}}"#), "{case}");
        }
    }

    #[tokio::test]
    async fn a_panic_brings_every_message_back_and_an_error_fails_the_invocation() {
        let all = r#"{"batchItemFailures":[{"itemIdentifier":"a"},{"itemIdentifier":"b"}]}"#;
        let at_once = serialised(&["a", "b"], async { panic!("a bug") }).await;
        assert_eq!(at_once.as_deref(), Ok(all));
        let later = serialised(&["a", "b"], async {
            tokio::task::yield_now().await;
            let nothing: Option<Vec<(String, Outcome)>> = std::hint::black_box(None);
            Ok(nothing.expect("a bug after the first await"))
        });
        assert_eq!(later.await.as_deref(), Ok(all));
        let failed = serialised(&["a"], async { Err(Error::from("no policy")) }).await;
        assert_eq!(failed, Err("no policy".to_owned()), "never an empty list");
    }

    #[test]
    fn every_record_becomes_a_message_or_the_whole_batch_fails() {
        let event = |json: &str| serde_json::from_str::<SqsEvent>(json).expect("an event of SQS");
        let got = messages(event(r#"{"Records": [{"messageId": "a", "body": "{}"}, {"messageId": "b"}]}"#));
        let ids: Vec<(String, String)> =
            got.expect("both have ids").into_iter().map(|message| (message.message_id, message.body)).collect();
        assert_eq!(ids, [("a".to_owned(), "{}".to_owned()), ("b".to_owned(), String::new())]);
        assert!(messages(event(r#"{"Records": [{"messageId": "a"}, {"body": "{}"}]}"#)).is_err());
    }
}
