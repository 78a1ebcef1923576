//! SQS: one queue that only takes.

use axum::body::Bytes;
use serde_json::{Value, json};

use super::reply::{Refusal, Reply};

/// A queue.
#[derive(Debug, Default)]
pub struct Sqs {
    /// Bodies of its messages, in the order in which they were sent.
    pub messages: Vec<String>,
    /// Refuses every message, as where the function may not send.
    pub denies: bool,
}

impl Sqs {
    /// `None`: an operation that is not spoken here.
    pub(super) fn answer(&mut self, operation: &str, body: &Bytes) -> Option<Reply> {
        if operation != "SendMessage" {
            return None;
        }
        let request: Value = serde_json::from_slice(body).unwrap_or_default();
        Some(Reply::of_json_service(self.send(&request).map_err(|refusal| (refusal, json!({})))))
    }

    fn send(&mut self, request: &Value) -> Result<Value, Refusal> {
        if self.denies {
            return Err(Refusal::new("AccessDeniedException", "not authorized to perform: sqs:sendmessage"));
        }
        match (request["QueueUrl"].as_str(), request["MessageBody"].as_str()) {
            (Some(_), Some(body)) if !body.is_empty() => {
                self.messages.push(body.to_owned());
                Ok(json!({ "MessageId": format!("m-{}", self.messages.len()) }))
            }
            (_, _) => Err(Refusal::new("MissingParameter", "QueueUrl and MessageBody are needed")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_kept_in_its_order() {
        let mut sqs = Sqs::default();
        let mut send = |request: Value| {
            let reply = sqs.answer("SendMessage", &Bytes::from(request.to_string())).expect("spoken");
            reply.parts().0
        };
        for body in ["a", "b"] {
            assert_eq!(send(json!({ "QueueUrl": "u", "MessageBody": body })), 200);
        }
        assert_eq!(send(json!({ "QueueUrl": "u", "MessageBody": "" })), 400);
        assert_eq!(sqs.messages, ["a", "b"]);
        assert!(sqs.answer("ReceiveMessage", &Bytes::new()).is_none());
    }
}
