//! A counting reverse proxy between the functions and the emulator.
//!
//! It forwards everything untouched and notes who called what, so that "calls to AWS per function" is what was on the
//! wire and not what the functions say of themselves.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::failure::{Failure, chain};
use crate::local::kills::Kills;
use crate::local::processes::kill_caller;

/// The largest request that is forwarded, in bytes; the largest message of the system is 1 MiB.
const BODY_MAX: usize = 8 * 1024 * 1024;

/// One kind of call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CallKind {
    /// Who called: the application name that the function gave to the SDK.
    pub(crate) caller: String,
    /// The service, as the credential scope spells it.
    pub(crate) service: String,
    /// The operation.
    pub(crate) operation: String,
}

/// The proxy; it stops when dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    counts: Counts,
    kills: Kills,
    server: JoinHandle<()>,
}

type Counts = Arc<Mutex<BTreeMap<CallKind, u64>>>;

#[derive(Debug, Clone)]
struct Upstream {
    http: reqwest::Client,
    base_url: Arc<str>,
    /// The proxy's own address.
    address: SocketAddr,
    counts: Counts,
    kills: Kills,
}

impl Proxy {
    /// Starts the proxy on a free port of loopback, in front of `base_url`.
    pub(crate) async fn start(http: reqwest::Client, base_url: &str) -> Result<Self, Failure> {
        let failure = || Failure::io("cannot listen on loopback");
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failure())?;
        let address = listener.local_addr().map_err(failure())?;
        let counts = Counts::default();
        let kills = Kills::default();
        let upstream =
            Upstream { http, base_url: base_url.into(), address, counts: Arc::clone(&counts), kills: kills.clone() };
        let router = Router::new().fallback(forward).with_state(upstream);
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let server = tokio::spawn(async move {
            // It serves until it is aborted; an error of a single connection does not end it.
            let _stopped = axum::serve(listener, service).await;
        });
        Ok(Self { address, counts, kills, server })
    }

    /// The proxy's own address.
    pub(crate) fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Callers to be killed at a call of theirs, and those that were.
    pub(crate) fn kills(&self) -> &Kills {
        &self.kills
    }

    /// The calls seen so far.
    pub(crate) fn counts(&self) -> BTreeMap<CallKind, u64> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn forward(
    State(upstream): State<Upstream>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let kind = call_kind(&parts.headers);
    let kill = upstream.kills.strike(&kind.caller, &kind.operation);
    *upstream.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(kind).or_default() += 1;
    let Ok(body) = to_bytes(body, BODY_MAX).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut headers = parts.headers;
    // These belong to one connection; the host stays, for it is part of what was signed.
    headers.remove(header::CONNECTION);
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::CONTENT_LENGTH);
    let answer = upstream
        .http
        .request(parts.method, format!("{}{path}", upstream.base_url))
        .headers(headers)
        .body(body)
        .send()
        .await;
    if let Some(kill) = kill {
        // The call has had its effect. Only its caller dies: another invocation may be at work beside it.
        let killed = kill_caller(kill.function.name(), &format!("http://{}", upstream.address), peer.port());
        upstream.kills.note(kill, killed);
        return StatusCode::BAD_GATEWAY.into_response();
    }
    match answer {
        Ok(answer) => relay(answer).await,
        Err(failure) => (StatusCode::BAD_GATEWAY, chain(&failure)).into_response(),
    }
}

async fn relay(answer: reqwest::Response) -> Response {
    let status = answer.status();
    let mut headers = answer.headers().clone();
    headers.remove(header::CONNECTION);
    headers.remove(header::TRANSFER_ENCODING);
    match answer.bytes().await {
        Ok(body) => (status, headers, Body::from(body)).into_response(),
        Err(failure) => (StatusCode::BAD_GATEWAY, chain(&failure)).into_response(),
    }
}

/// Who calls what: `app/<name>` in the user agent, the scope in the authorization, the operation in the target.
fn call_kind(headers: &HeaderMap) -> CallKind {
    let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let caller = ["user-agent", "x-amz-user-agent"]
        .into_iter()
        .flat_map(|name| value(name).split(' '))
        .find_map(|word| word.strip_prefix("app/"))
        .unwrap_or("unnamed");
    let service = value("authorization").split('/').nth(3).unwrap_or("unsigned");
    let operation = value("x-amz-target").rsplit('.').next().unwrap_or_default();
    CallKind { caller: caller.to_owned(), service: service.to_owned(), operation: operation.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_call_is_named_by_its_headers() {
        let kind = call_kind(&headers(&[
            ("user-agent", "aws-sdk-rust/1.5 ua/2.1 os/linux lang/rust app/scale-down"),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=000000000000/20261121/us-east-1/dynamodb/aws4_request, SignedHeaders=host",
            ),
            ("x-amz-target", "DynamoDB_20120810.UpdateItem"),
        ]));
        assert_eq!(
            (kind.caller.as_str(), kind.service.as_str(), kind.operation.as_str()),
            ("scale-down", "dynamodb", "UpdateItem")
        );
        let bare = call_kind(&HeaderMap::new());
        assert_eq!((bare.caller.as_str(), bare.service.as_str()), ("unnamed", "unsigned"));
    }

    #[tokio::test]
    async fn everything_is_forwarded_untouched_and_counted() {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = upstream.local_addr().unwrap();
        let echo = Router::new().fallback(async |request: Request| {
            let (parts, body) = request.into_parts();
            let body = to_bytes(body, BODY_MAX).await.unwrap();
            let target = parts.headers.get("x-amz-target").unwrap().clone();
            (StatusCode::CREATED, [("x-echo", target)], format!("{} {}", parts.uri, body.len()))
        });
        tokio::spawn(async move { axum::serve(upstream, echo).await });
        let http = reqwest::Client::new();
        let proxy = Proxy::start(http.clone(), &format!("http://{address}")).await.unwrap();
        for _ in 0..2 {
            let answer = http
                .post(format!("{}/a/b?c=d%20e", proxy.base_url()))
                .header("x-amz-target", "AmazonSSM.GetParameter")
                .body("12345")
                .send()
                .await
                .unwrap();
            assert_eq!(answer.status(), 201);
            assert_eq!(answer.headers().get("x-echo").unwrap(), "AmazonSSM.GetParameter");
            assert_eq!(answer.text().await.unwrap(), "/a/b?c=d%20e 5");
        }
        let counts: Vec<_> = proxy.counts().into_values().collect();
        assert_eq!(counts, [2]);
    }
}
