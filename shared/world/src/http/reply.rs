//! Answers as every front end writes them, and the answer that never arrives.

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use serde_json::Value;
use std::time::Duration;

/// A JSON answer.
pub(super) fn json(status: StatusCode, body: &Value) -> Response {
    with_body(status, "application/json; charset=utf-8", Body::from(body.to_string()))
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// An answer of this content type.
pub(super) fn with_body(status: StatusCode, content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// How long a lost answer keeps its caller waiting: a caller that is to be killed must not go on before it is.
const HELD: Duration = Duration::from_millis(500);

/// Marks a lost answer until it is held.
#[derive(Clone, Copy)]
struct Lost;

/// No answer: the body fails before the head was flushed, so the server closes the connection in silence.
pub(super) fn lost() -> Response {
    let failure: std::io::Error = std::io::ErrorKind::ConnectionReset.into();
    let body = futures_util::stream::iter([Err::<Bytes, _>(failure)]);
    let mut response = Response::new(Body::from_stream(body));
    response.extensions_mut().insert(Lost);
    response
}

/// Holds lost answers before the connection closes, with the world unlocked.
pub(super) async fn hold_lost(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    if response.extensions().get::<Lost>().is_some() {
        tokio::time::sleep(HELD).await;
    }
    response
}
