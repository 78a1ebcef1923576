//! Lambda as one function's process sees it: the Runtime API, and in front of it a function URL or an HTTP API.
//!
//! The protocols are AWS's (docs.aws.amazon.com/lambda, "Using the Lambda runtime API" and "Invoking function URLs";
//! docs.aws.amazon.com/apigateway, "Working with AWS Lambda proxy integrations for HTTP APIs"; read 2026-11-20), as far
//! as one process of a function needs them. Starting that process is the caller's: only it may be given an environment.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::reply;
use super::server::wall_now;
use crate::Millis;

/// Lambda's own limit for a request.
const REQUEST_BYTES_MAX: usize = 6 << 20;

/// The time that each event leaves the function.
const TIME_LEFT_MS: Millis = 60_000;

/// What the function made of an event: its answer, or its own words on why there is none.
pub type Outcome = Result<Value, String>;

/// The Runtime API of one process, on loopback; it ends when this is dropped.
#[derive(Debug)]
pub struct LambdaHost {
    address: String,
    events: Arc<Events>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// What stands in front of the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// A function URL.
    FunctionUrl,
    /// An HTTP API with payload format 2.0, a stage of its own and a route.
    HttpApi,
}

/// Whether a front hands text over as text. Both do so by content type; what does not look like text comes in base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As text.
    Text,
    /// In base64, `isBase64Encoded: true`.
    Base64,
}

#[derive(Debug)]
struct Events {
    function_arn: String,
    asked: Notify,
    waiting: Mutex<Vec<(String, oneshot::Sender<Outcome>)>>,
    arrived: Notify,
    in_hand: Mutex<Option<oneshot::Sender<Outcome>>>,
}

impl LambdaHost {
    /// Listens on a free port for the process of that function.
    ///
    /// # Errors
    /// There is no port to listen on.
    pub async fn start(function_arn: String) -> std::io::Result<Self> {
        let events = Arc::new(Events {
            function_arn,
            asked: Notify::new(),
            waiting: Mutex::default(),
            arrived: Notify::new(),
            in_hand: Mutex::default(),
        });
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/{kind}", post(finish))
            .route("/2018-06-01/runtime/init/error", post(init_error))
            .with_state(Arc::clone(&events));
        let (address, task) = listen(router).await?;
        Ok(Self { address, events, tasks: Mutex::new(vec![task]) })
    }

    /// `AWS_LAMBDA_RUNTIME_API`
    #[must_use]
    pub fn runtime_api(&self) -> &str {
        &self.address
    }

    /// Waits until the process asks for an event: its start is over, and what follows is the event's.
    pub async fn asked(&self) {
        self.events.asked.notified().await;
    }

    /// Hands an event to the process and waits for its answer, however long that takes.
    ///
    /// # Errors
    /// The function reported an error, or its process could not start.
    pub async fn invoke(&self, event: &Value) -> Outcome {
        self.events.invoke(event).await
    }

    /// Puts a front before the function; its address without a slash at its end.
    ///
    /// # Errors
    /// There is no port to listen on.
    pub async fn front(&self, front: Front, encoding: Encoding) -> std::io::Result<String> {
        let events = Arc::clone(&self.events);
        let router = Router::new().fallback(move |request: Request| {
            let events = Arc::clone(&events);
            async move {
                let (parts, body) = request.into_parts();
                match to_bytes(body, REQUEST_BYTES_MAX).await {
                    Ok(body) => answer(events.invoke(&event(front, encoding, &parts, &body)).await),
                    Err(_) => reply::empty(StatusCode::PAYLOAD_TOO_LARGE),
                }
            }
        });
        let (address, task) = listen(router).await?;
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(task);
        Ok(format!("http://{address}"))
    }
}

impl Drop for LambdaHost {
    fn drop(&mut self) {
        for task in self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
    }
}

impl Events {
    async fn invoke(&self, event: &Value) -> Outcome {
        let (answered, answer) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((event.to_string(), answered));
        self.arrived.notify_one();
        answer.await.unwrap_or_else(|_| Err("the function took the event and asked for another".to_owned()))
    }

    fn take(&self) -> Option<String> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.is_empty() {
            return None;
        }
        let (event, answered) = waiting.remove(0);
        *self.in_hand.lock().unwrap_or_else(PoisonError::into_inner) = Some(answered);
        Some(event)
    }

    fn answered(&self, outcome: Outcome) {
        if let Some(answered) = self.in_hand.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Nobody waits any more only when the caller gave up.
            let _given_up = answered.send(outcome);
        }
    }
}

async fn listen(router: Router) -> std::io::Result<(String, JoinHandle<()>)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?.to_string();
    let task = tokio::spawn(async move {
        // It serves until it is aborted.
        let _stopped = axum::serve(listener, router).await;
    });
    Ok((address, task))
}

/// Where there is no event the process waits here, as between invocations.
async fn next(State(events): State<Arc<Events>>) -> Response {
    events.asked.notify_one();
    loop {
        if let Some(event) = events.take() {
            let headers = [
                ("lambda-runtime-aws-request-id", "00000000-0000-4000-8000-000000000001".to_owned()),
                ("lambda-runtime-deadline-ms", (wall_now() + TIME_LEFT_MS).to_string()),
                ("lambda-runtime-invoked-function-arn", events.function_arn.clone()),
                ("content-type", "application/json".to_owned()),
            ];
            return (headers, event).into_response();
        }
        events.arrived.notified().await;
    }
}

async fn finish(
    State(events): State<Arc<Events>>,
    Path((_id, kind)): Path<(String, String)>,
    body: String,
) -> StatusCode {
    if kind == "response" {
        events.answered(Ok(serde_json::from_str(&body).unwrap_or(Value::String(body))));
    } else {
        events.answered(Err(body));
    }
    StatusCode::ACCEPTED
}

/// A process that cannot start has taken no event: the first that waits learns of it.
async fn init_error(State(events): State<Arc<Events>>, body: String) -> StatusCode {
    let _event = events.take();
    events.answered(Err(body));
    StatusCode::ACCEPTED
}

/// A request as the front hands it over, payload format 2.0: a header that came twice is joined by commas, cookies go
/// apart.
fn event(front: Front, encoding: Encoding, parts: &Parts, body: &Bytes) -> Value {
    let mut headers: BTreeMap<&str, String> = BTreeMap::new();
    let mut cookies = Vec::new();
    for (name, value) in &parts.headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        if name == header::COOKIE {
            cookies.extend(value.split("; ").map(str::to_owned));
        } else {
            headers.entry(name.as_str()).and_modify(|all| *all = format!("{all},{value}")).or_insert(value);
        }
    }
    let (body, coded) = match (encoding, std::str::from_utf8(body)) {
        (Encoding::Text, Ok(text)) => (text.to_owned(), false),
        (Encoding::Text | Encoding::Base64, _) => (STANDARD.encode(body), true),
    };
    let (stage, route) = match front {
        Front::FunctionUrl => ("$default", "$default".to_owned()),
        Front::HttpApi => ("prod", format!("{} {}", parts.method, parts.uri.path())),
    };
    // A stage that is not the default one is part of the path.
    let path = match front {
        Front::FunctionUrl => parts.uri.path().to_owned(),
        Front::HttpApi => format!("/{stage}{}", parts.uri.path()),
    };
    let mut event = json!({
        "version": "2.0",
        "routeKey": route,
        "rawPath": path,
        "rawQueryString": parts.uri.query().unwrap_or_default(),
        "headers": headers,
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "local",
            "domainName": "127.0.0.1",
            "http": {
                "method": parts.method.as_str(),
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "127.0.0.1",
                "userAgent": "",
            },
            "requestId": "00000000-0000-4000-8000-000000000001",
            "routeKey": route,
            "stage": stage,
            "timeEpoch": wall_now(),
        },
        "isBase64Encoded": coded,
    });
    if !cookies.is_empty() {
        event["cookies"] = cookies.into();
    }
    if !body.is_empty() {
        event["body"] = body.into();
    }
    event
}

/// The answer as the front writes it; 502 where the function failed, as Lambda does.
fn answer(outcome: Outcome) -> Response {
    let status = outcome.ok().and_then(|answer| {
        let status = u16::try_from(answer["statusCode"].as_u64()?).ok()?;
        Some((StatusCode::from_u16(status).ok()?, answer["body"].as_str().unwrap_or_default().to_owned()))
    });
    match status {
        Some((status, body)) => (status, body).into_response(),
        None => reply::empty(StatusCode::BAD_GATEWAY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Parts {
        let request = Request::builder()
            .method("POST")
            .uri("/webhook?a=b")
            .header("X-Twice", "one")
            .header("X-Twice", "two")
            .header("cookie", "a=b; c=d")
            .body(())
            .expect("a request");
        request.into_parts().0
    }

    #[test]
    fn each_front_hands_a_request_over_in_payload_format_2() {
        let url = event(Front::FunctionUrl, Encoding::Text, &parts(), &Bytes::from_static(b"{}"));
        assert_eq!((&url["headers"]["x-twice"], &url["cookies"]), (&json!("one,two"), &json!(["a=b", "c=d"])));
        assert_eq!(
            (&url["rawPath"], &url["body"], &url["isBase64Encoded"]),
            (&json!("/webhook"), &json!("{}"), &json!(false))
        );
        let api = event(Front::HttpApi, Encoding::Base64, &parts(), &Bytes::from_static(b"{}"));
        assert_eq!((&api["rawPath"], &api["routeKey"]), (&json!("/prod/webhook"), &json!("POST /webhook")));
        assert_eq!((&api["body"], &api["isBase64Encoded"]), (&json!("e30="), &json!(true)));
        let bytes = event(Front::FunctionUrl, Encoding::Text, &parts(), &Bytes::from_static(&[0xff]));
        assert_eq!(bytes["isBase64Encoded"], json!(true), "what is no text cannot travel as text");
    }

    #[tokio::test]
    async fn an_event_goes_to_the_process_and_its_answer_back_to_the_caller() {
        let host =
            LambdaHost::start("arn:aws:lambda:eu-west-1:000000000000:function:f".to_owned()).await.expect("a port");
        let url = host.front(Front::FunctionUrl, Encoding::Text).await.expect("a port");
        let api = format!("http://{}/2018-06-01/runtime", host.runtime_api());
        let client = reqwest::Client::new();
        let process = async {
            for (kind, body) in [("response", r#"{"statusCode": 202, "body": ""}"#), ("error", "{}")] {
                let next = client.get(format!("{api}/invocation/next")).send().await.expect("an event");
                let id = next.headers()["lambda-runtime-aws-request-id"].to_str().expect("text").to_owned();
                let event: Value = next.json().await.expect("JSON");
                assert_eq!(event["body"], "hello");
                client.post(format!("{api}/invocation/{id}/{kind}")).body(body).send().await.expect("taken");
            }
        };
        let caller = async {
            let mut seen = Vec::new();
            for _ in 0..2 {
                seen.push(client.post(&url).body("hello").send().await.expect("an answer").status().as_u16());
            }
            seen
        };
        let ((), seen) = tokio::join!(process, caller);
        assert_eq!(seen, [202, 502]);
    }
}
