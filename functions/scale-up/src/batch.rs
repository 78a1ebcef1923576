//! SQS's event to messages, outcomes to SQS's answer.

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent};
use lambda_runtime::Error;
use runner_scaler_core::scale_up::{Outcome, QueueMessage};

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

/// `batchItemFailures`: exactly the messages that failed.
pub(crate) fn response(outcomes: Vec<(String, Outcome)>) -> SqsBatchResponse {
    let mut response = SqsBatchResponse::default();
    for (message_id, outcome) in outcomes {
        match outcome {
            Outcome::Failed(_) => {
                let mut failure = BatchItemFailure::default();
                failure.item_identifier = message_id;
                response.batch_item_failures.push(failure);
            }
            Outcome::Launched | Outcome::AlreadyServed | Outcome::NotQueued | Outcome::Waiting => {}
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failed_messages_come_back_and_under_their_own_ids() {
        let outcomes = [
            Outcome::Launched,
            Outcome::AlreadyServed,
            Outcome::NotQueued,
            Outcome::Waiting,
            Outcome::Failed("why".into()),
            Outcome::Failed("too".into()),
        ];
        let named = outcomes.into_iter().zip(1..).map(|(outcome, number)| (format!("m{number}"), outcome)).collect();
        let text = serde_json::to_string(&response(named)).expect("plain data");
        assert_eq!(text, r#"{"batchItemFailures":[{"itemIdentifier":"m5"},{"itemIdentifier":"m6"}]}"#);
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
