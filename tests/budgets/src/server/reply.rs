//! Answers, and the shapes in which each API refuses.

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

/// One answer.
#[derive(Debug)]
pub(super) struct Reply {
    status: StatusCode,
    content_type: &'static str,
    link: Option<String>,
    retry_after: Option<u64>,
    tag: Option<String>,
    body: String,
}

/// What AWS refuses a call with.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl Reply {
    /// A call that the server has no words for.
    pub(super) fn unspoken() -> Self {
        Self::json(StatusCode::NOT_IMPLEMENTED, &json!({ "message": "the counting server does not speak this" }))
    }

    pub(super) fn too_large() -> Self {
        Self::json(StatusCode::PAYLOAD_TOO_LARGE, &json!({ "message": "too large" }))
    }

    pub(super) fn json(status: StatusCode, body: &Value) -> Self {
        Self {
            status,
            content_type: "application/json",
            link: None,
            retry_after: None,
            tag: None,
            body: body.to_string(),
        }
    }

    pub(super) fn empty(status: StatusCode) -> Self {
        Self { status, content_type: "application/json", link: None, retry_after: None, tag: None, body: String::new() }
    }

    pub(super) fn linked(self, link: Option<String>) -> Self {
        Self { link, ..self }
    }

    /// For how many seconds it asks to be left alone.
    pub(super) fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// A 200 with the tag of its body, which differs from token to token as GitHub's does; 304 for who knows it.
    pub(super) fn tagged(self, headers: &HeaderMap) -> Self {
        if self.status != StatusCode::OK {
            return self;
        }
        let value = |name| headers.get(name).map(HeaderValue::as_bytes);
        let mut hasher = DefaultHasher::new();
        (&self.body, &self.link, value(header::AUTHORIZATION)).hash(&mut hasher);
        let tag = format!("W/\"{:016x}\"", hasher.finish());
        if value(header::IF_NONE_MATCH) == Some(tag.as_bytes()) {
            return Self { tag: Some(tag), ..Self::empty(StatusCode::NOT_MODIFIED) };
        }
        Self { tag: Some(tag), ..self }
    }

    pub(super) fn is_not_modified(&self) -> bool {
        self.status == StatusCode::NOT_MODIFIED
    }

    /// An answer of `DynamoDB` or SSM.
    pub(super) fn of_json_service(outcome: Result<Value, (Refusal, Value)>) -> Self {
        let (status, body) = match outcome {
            Ok(body) => (StatusCode::OK, body),
            Err((refusal, mut body)) => {
                if let Some(body) = body.as_object_mut() {
                    body.insert("__type".to_owned(), format!("com.amazonaws#{}", refusal.code).into());
                    body.insert("message".to_owned(), refusal.message.into());
                }
                (StatusCode::BAD_REQUEST, body)
            }
        };
        Self { content_type: "application/x-amz-json-1.0", ..Self::json(status, &body) }
    }

    /// An answer of EC2: the inside of the operation's element, or what it refuses with.
    pub(super) fn of_ec2(operation: &str, outcome: Result<String, Refusal>) -> Self {
        let (status, body) = match outcome {
            Ok(inside) => (
                StatusCode::OK,
                format!(
                    "<{operation}Response xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>r</requestId>\
                     {inside}</{operation}Response>"
                ),
            ),
            Err(Refusal { code, message }) => (
                StatusCode::BAD_REQUEST,
                format!(
                    "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>\
                     <RequestID>r</RequestID></Response>"
                ),
            ),
        };
        Self { status, content_type: "text/xml;charset=UTF-8", link: None, retry_after: None, tag: None, body }
    }

    #[cfg(test)]
    pub(super) fn parts(&self) -> (u16, Option<&str>, &str) {
        (self.status.as_u16(), self.link.as_deref(), &self.body)
    }

    #[cfg(test)]
    pub(super) fn waits(&self) -> Option<u64> {
        self.retry_after
    }

    pub(super) fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        if let Some(link) = self.link.and_then(|link| HeaderValue::try_from(link).ok()) {
            response.headers_mut().insert(header::LINK, link);
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(tag) = self.tag.and_then(|tag| HeaderValue::try_from(tag).ok()) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    }
}
