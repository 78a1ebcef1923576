//! A server in this process that plays AWS and GitHub for the tests, and adapters that talk to it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, Region, SdkConfig};
use aws_sdk_ec2::config::{Credentials, SharedCredentialsProvider};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use http::{HeaderMap, Method};
use runner_scaler_core::config::Environment;
use serde_json::{Value, json};

use crate::Adapters;
use crate::http::Http;

/// What a test asserts about one request.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Seen {
    /// AWS's operation: of the JSON services by header, of EC2 by form field.
    pub(crate) fn operation(&self) -> &str {
        let by_header = self.headers.get("x-amz-target").and_then(|target| target.to_str().ok());
        let by_header = by_header.and_then(|target| target.rsplit('.').next());
        let by_form = || self.body.strip_prefix("Action=").and_then(|rest| rest.split('&').next());
        by_header.or_else(by_form).unwrap_or_default()
    }

    /// The body of a JSON call.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
    delay: Duration,
}

impl Reply {
    #[expect(clippy::needless_pass_by_value, reason = "tests write text and JSON in place")]
    pub(crate) fn new(status: u16, body: impl ToString) -> Self {
        Self { status, headers: Vec::new(), body: body.to_string(), delay: Duration::ZERO }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// An answer that comes after every time limit of the tests.
    pub(crate) fn late(mut self) -> Self {
        self.delay = Duration::from_secs(5);
        self
    }

    /// An error of EC2.
    pub(crate) fn ec2_error(status: u16, code: &str) -> Self {
        Self::new(
            status,
            format!(
                "<Response><Errors><Error><Code>{code}</Code><Message>text</Message></Error></Errors><RequestID>r</RequestID></Response>"
            ),
        )
    }

    /// An error of SSM, SQS or `DynamoDB`.
    pub(crate) fn json_error(status: u16, code: &str) -> Self {
        Self::new(status, json!({ "__type": format!("com.amazonaws#{code}"), "message": "text" }))
    }
}

/// The server. What the script does not answer, it answers itself where it is the App's key, a token or the ledger, else
/// with 418.
pub(crate) struct Wire {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Wire {
    pub(crate) async fn start(script: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, script) = (Arc::clone(&seen), Arc::new(script));
        let app = Router::new().fallback(move |request: Request| {
            let (log, script) = (Arc::clone(&log), Arc::clone(&script));
            async move {
                let request = seen_of(request).await;
                let reply = script(&request).unwrap_or_else(|| usual(&request));
                log.lock().expect("no panic").push(request);
                tokio::time::sleep(reply.delay).await;
                let mut response = Response::builder().status(reply.status);
                for (name, value) in reply.headers {
                    response = response.header(name, value);
                }
                response.body(Body::from(reply.body)).expect("a response")
            }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, seen }
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic").clone()
    }

    /// The requests to GitHub, but for those that get a token.
    pub(crate) fn calls(&self) -> Vec<String> {
        let github = |seen: &&Seen| seen.target != "/" && !seen.target.ends_with("/access_tokens");
        self.seen().iter().filter(github).map(|seen| format!("{} {}", seen.method, seen.target)).collect()
    }

    /// Adapters whose every service is this server, with time limits of 300 ms and no repetition inside the SDK.
    pub(crate) fn adapters(&self) -> Adapters {
        self.adapters_with(&self.url)
    }

    /// The same, but EC2 and GitHub are another server.
    pub(crate) fn adapters_with(&self, other: &str) -> Adapters {
        let http = Http::default();
        let timeouts = TimeoutConfig::builder().operation_timeout(Duration::from_millis(300)).build();
        let credentials = Credentials::new("key", "secret-key", None, None, "test");
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .endpoint_url(&self.url)
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .http_client(http.for_sdk())
            .app_name(AppName::new("scale-down").expect("a name"))
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .sleep_impl(aws_sdk_ec2::config::SharedAsyncSleep::new(Sleeper))
            .build();
        let environment = Environment::from_vars(|name| {
            Some(match name {
                "CONFIG_PARAMETER" | "LEDGER_TABLE" | "VITAL_SIGNS_TABLE" | "KILL_SWITCH_PARAMETER" => {
                    name.to_lowercase()
                }
                "ENVIRONMENT" => "prod".to_owned(),
                "GITHUB_API_URL" => other.to_owned(),
                "AWS_ENDPOINT_URL" => self.url.clone(),
                "GITHUB_APP_PATH" => "/app".to_owned(),
                "RUNNER_PARAMETER_PATH" => "/jit".to_owned(),
                "VITAL_SIGNS_KEY_PREFIX" => "AROAEXAMPLE:".to_owned(),
                "SCALE_UP_QUEUE_URL" => format!("{}/queue", self.url),
                _ => return None,
            })
        });
        let mut adapters = Adapters::over(environment.expect("complete"), "scale-down", http, &config);
        let ec2 = adapters.ec2.config().to_builder().endpoint_url(other).build();
        adapters.ec2 = aws_sdk_ec2::Client::from_conf(ec2);
        adapters.github.call_timeout = Duration::from_millis(300);
        adapters
    }
}

/// Tokio's timer, as the SDK wants it.
#[derive(Debug)]
struct Sleeper;

impl aws_sdk_ec2::config::AsyncSleep for Sleeper {
    fn sleep(&self, duration: Duration) -> aws_sdk_ec2::config::Sleep {
        aws_sdk_ec2::config::Sleep::new(tokio::time::sleep(duration))
    }
}

async fn seen_of(request: Request) -> Seen {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.expect("a body");
    Seen {
        method: parts.method,
        target: parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers: parts.headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    }
}

fn usual(request: &Seen) -> Reply {
    if request.operation() == "GetParameter" {
        let value = match request.json()["Name"].as_str() {
            Some("/app/app-id") => "123",
            Some("/app/private-key") => include_str!("../tests/fixtures/test-key-pkcs1.pem"),
            _ => return Reply::json_error(400, "ParameterNotFound"),
        };
        return Reply::new(200, json!({ "Parameter": { "Value": value } }));
    }
    // An empty ledger that takes every write, for the calls to GitHub that ask it for back-pressure.
    match request.operation() {
        "BatchGetItem" => return Reply::new(200, json!({ "Responses": {}, "UnprocessedKeys": {} })),
        "PutItem" => return Reply::new(200, "{}"),
        _ => {}
    }
    if request.target.ends_with("/access_tokens") {
        let token = json!({ "token": format!("ghs_of{}", request.target), "expires_at": "2999-01-01T00:00:00Z" });
        return Reply::new(201, token);
    }
    Reply::new(418, "not in the script")
}
