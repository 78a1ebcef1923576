//! The event and the answer of a function URL and of an API Gateway HTTP API: both speak payload format 2.0
//! (docs.aws.amazon.com/lambda, urls-invocation; docs.aws.amazon.com/apigateway, http-api-develop-integrations-lambda;
//! read 2026-11-20).

use std::collections::BTreeMap;

use runner_scaler_core::webhook::{Body, HttpRequest};
use serde::{Deserialize, Serialize};

/// A request. Headers that came twice are joined by a comma; `cookies` and the path say nothing that we ask.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UrlEvent {
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
    request_context: RequestContext,
}

#[derive(Deserialize)]
struct RequestContext {
    /// Payload format 1.0 has none.
    http: Option<Http>,
}

#[derive(Deserialize)]
struct Http {
    method: String,
}

/// The event is of payload format 1.0, as a REST API sends it and an HTTP API where it is set so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the event is not of payload format 2.0; put a function URL in front, or an HTTP API with payload_format_version 2.0"
)]
pub(crate) struct OtherFormat;

/// An answer; its body is always empty.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UrlAnswer {
    status_code: u16,
    body: &'static str,
}

impl UrlAnswer {
    /// An answer with that status.
    pub(crate) fn of(status_code: u16) -> Self {
        Self { status_code, body: "" }
    }
}

impl TryFrom<UrlEvent> for HttpRequest {
    type Error = OtherFormat;

    fn try_from(event: UrlEvent) -> Result<Self, OtherFormat> {
        let Http { method } = event.request_context.http.ok_or(OtherFormat)?;
        let text = event.body.unwrap_or_default();
        Ok(Self {
            method,
            headers: event.headers.into_iter().collect(),
            body: if event.is_base64_encoded { Body::Base64(text) } else { Body::Text(text) },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(event: &str) -> Result<HttpRequest, OtherFormat> {
        serde_json::from_str::<UrlEvent>(event).expect("an event of a proxy integration").try_into()
    }

    #[test]
    fn an_event_of_payload_format_2_becomes_a_request() {
        // The shape of AWS's own examples; of a function URL the route key is `$default` and the stage has no path.
        for (case, event) in [
            (
                "a function URL",
                r#"{"version": "2.0", "routeKey": "$default", "rawPath": "/", "rawQueryString": "",
                    "headers": {"x-github-event": "ping"}, "body": "{}", "isBase64Encoded": false,
                    "requestContext": {"accountId": "anonymous", "domainName": "x.lambda-url.eu-west-1.on.aws",
                                       "http": {"method": "POST", "path": "/"}, "stage": "$default"}}"#,
            ),
            (
                "an HTTP API with stage, route and cookies",
                r#"{"version": "2.0", "routeKey": "POST /webhook", "rawPath": "/prod/webhook", "rawQueryString": "a=b",
                    "cookies": ["a=b", "c=d"], "headers": {"x-github-event": "ping"}, "body": "{}",
                    "queryStringParameters": {"a": "b"}, "isBase64Encoded": false, "stageVariables": {"a": "b"},
                    "requestContext": {"apiId": "x", "http": {"method": "POST", "path": "/prod/webhook"}, "stage": "prod"}}"#,
            ),
        ] {
            let plain = request(event).expect(case);
            assert_eq!((plain.method.as_str(), plain.body), ("POST", Body::Text("{}".into())), "{case}");
            assert_eq!(plain.headers, [("x-github-event".to_owned(), "ping".to_owned())], "{case}");
        }
        let coded = request(
            r#"{"headers": {}, "body": "e30=", "isBase64Encoded": true, "requestContext": {"http": {"method": "POST"}}}"#,
        );
        assert_eq!(coded.map(|request| request.body), Ok(Body::Base64("e30=".into())));
        let empty = request(r#"{"requestContext": {"http": {"method": "GET"}}}"#).expect("no header and no body");
        assert_eq!((empty.method.as_str(), empty.body), ("GET", Body::Text(String::new())));
    }

    #[test]
    fn an_event_of_payload_format_1_is_refused_with_the_remedy() {
        let refused = request(
            r#"{"version": "1.0", "resource": "/", "path": "/", "httpMethod": "POST", "headers": {"X-GitHub-Event": "ping"},
                "multiValueHeaders": {"X-GitHub-Event": ["ping"]}, "body": "{}", "isBase64Encoded": false,
                "requestContext": {"httpMethod": "POST", "resourcePath": "/"}}"#,
        )
        .expect_err("format 1.0");
        assert!(refused.to_string().contains("payload_format_version 2.0"));
    }

    #[test]
    fn an_answer_has_a_status_and_no_body() {
        let text = serde_json::to_string(&UrlAnswer::of(401)).expect("plain data");
        assert_eq!(text, r#"{"statusCode":401,"body":""}"#);
    }
}
