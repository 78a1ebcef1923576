//! The function URL's event and answer (payload format 2.0; docs.aws.amazon.com/lambda, urls-invocation, read
//! 2026-11-20).

use std::collections::BTreeMap;

use runner_scaler_core::webhook::{Body, HttpAnswer, HttpRequest};
use serde::{Deserialize, Serialize};

/// A request. Headers that came twice are joined by a comma.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UrlEvent {
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
    request_context: RequestContext,
}

#[derive(Deserialize)]
struct RequestContext {
    http: Http,
}

#[derive(Deserialize)]
struct Http {
    method: String,
}

/// An answer; its body is always empty.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UrlAnswer {
    status_code: u16,
    body: &'static str,
}

impl From<UrlEvent> for HttpRequest {
    fn from(event: UrlEvent) -> Self {
        let text = event.body.unwrap_or_default();
        Self {
            method: event.request_context.http.method,
            headers: event.headers.into_iter().collect(),
            body: if event.is_base64_encoded { Body::Base64(text) } else { Body::Text(text) },
        }
    }
}

impl From<HttpAnswer> for UrlAnswer {
    fn from(answer: HttpAnswer) -> Self {
        Self { status_code: answer.status, body: "" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(event: &str) -> HttpRequest {
        serde_json::from_str::<UrlEvent>(event).expect("an event of the function URL").into()
    }

    #[test]
    fn an_event_of_the_function_url_becomes_a_request() {
        let plain = request(
            r#"{"version": "2.0", "rawPath": "/", "headers": {"x-github-event": "ping"}, "body": "{}",
                "isBase64Encoded": false, "requestContext": {"http": {"method": "POST", "path": "/"}}}"#,
        );
        assert_eq!((plain.method.as_str(), plain.body), ("POST", Body::Text("{}".into())));
        assert_eq!(plain.headers, [("x-github-event".to_owned(), "ping".to_owned())]);
        let coded = request(
            r#"{"headers": {}, "body": "e30=", "isBase64Encoded": true, "requestContext": {"http": {"method": "POST"}}}"#,
        );
        assert_eq!(coded.body, Body::Base64("e30=".into()));
        let empty = request(r#"{"requestContext": {"http": {"method": "GET"}}}"#);
        assert_eq!((empty.method.as_str(), empty.body), ("GET", Body::Text(String::new())));
    }

    #[test]
    fn an_answer_has_a_status_and_no_body() {
        let text = serde_json::to_string(&UrlAnswer::from(HttpAnswer { status: 401 })).expect("plain data");
        assert_eq!(text, r#"{"statusCode":401,"body":""}"#);
    }
}
