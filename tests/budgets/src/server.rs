//! GitHub, EC2, `DynamoDB`, SSM and SQS on one loopback port, from memory: as much of each as the passes, scale-up and the
//! webhook call.
//!
//! It keeps what it is told, evaluates conditions, cuts pages where the real services cut them and refuses what they
//! refuse, for a count of calls says nothing where the calls have no effect. What it does not speak it answers with 501
//! and counts as [`Api::Unknown`], so that a new call is noticed and not taken for free.

mod condition;
mod counts;
mod dynamodb;
mod ec2;
mod github;
mod reply;
mod sqs;
mod ssm;

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::response::Response;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use counts::{Api, Counts};
pub use dynamodb::{DynamoDb, Table};
pub use ec2::{Ec2, Instance};
pub use github::{GitHub, Job, Runner};
pub use sqs::Sqs;
pub use ssm::{ParameterStore, Throttle};

use reply::Reply;

/// The largest body that is read: `DynamoDB` takes 16 MB.
const BODY_BYTES_MAX: usize = 16 << 20;

/// Everything behind the port.
#[derive(Debug)]
pub struct Services {
    /// GitHub.
    pub github: GitHub,
    /// EC2.
    pub ec2: Ec2,
    /// `DynamoDB`.
    pub dynamodb: DynamoDb,
    /// SSM's parameter store.
    pub ssm: ParameterStore,
    /// SQS.
    pub sqs: Sqs,
    /// How long GitHub takes for an answer.
    pub github_delay: Duration,
    counts: Counts,
}

impl Services {
    /// Services that answer at once and were not called yet.
    #[must_use]
    pub fn new(github: GitHub, ec2: Ec2, dynamodb: DynamoDb, ssm: ParameterStore) -> Self {
        let (sqs, counts) = (Sqs::default(), Counts::default());
        Self { github, ec2, dynamodb, ssm, sqs, github_delay: Duration::ZERO, counts }
    }

    /// Answers one request and says after what time.
    fn answer(&mut self, parts: &Parts, body: &Bytes) -> (Reply, Duration) {
        let target = parts.headers.get("x-amz-target").and_then(|target| target.to_str().ok());
        let (api, operation, reply) = match target.map(|target| target.split_once('.').unwrap_or((target, ""))) {
            Some(("DynamoDB_20120810", operation)) => {
                (Api::DynamoDb, operation.to_owned(), self.dynamodb.answer(operation, body))
            }
            Some(("AmazonSSM", operation)) => (Api::Ssm, operation.to_owned(), self.ssm.answer(operation, body)),
            Some(("AmazonSQS", operation)) => (Api::Sqs, operation.to_owned(), self.sqs.answer(operation, body)),
            Some((service, operation)) => (Api::Unknown, format!("{service}.{operation}"), None),
            None if parts.uri.path() == "/" => {
                let (operation, reply) = self.ec2.answer(body);
                (Api::Ec2, operation, reply)
            }
            None => {
                let (operation, reply) = self.github.answer(parts, body);
                (Api::GitHub, operation, reply)
            }
        };
        let Some(reply) = reply else {
            self.counts.add(Api::Unknown, operation);
            return (Reply::unspoken(), Duration::ZERO);
        };
        self.counts.add(api, operation);
        let delay = match api {
            Api::GitHub => self.github_delay,
            Api::Ec2 | Api::DynamoDb | Api::Ssm | Api::Sqs | Api::Unknown => Duration::ZERO,
        };
        (reply, delay)
    }
}

/// A running server; it ends when this is dropped.
#[derive(Debug)]
pub struct CountingServer {
    url: String,
    services: Arc<Mutex<Services>>,
    task: JoinHandle<()>,
}

impl CountingServer {
    /// Serves on a free port of the loopback address.
    ///
    /// # Errors
    /// There is no port to listen on.
    pub async fn start(services: Services) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let services = Arc::new(Mutex::new(services));
        let app = Router::new().fallback(serve).with_state(Arc::clone(&services));
        let task = tokio::spawn(async move {
            // It serves until it is aborted.
            let _stopped = axum::serve(listener, app).await;
        });
        Ok(Self { url, services, task })
    }

    /// `http://address:port`, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What is behind the port, alone with it. Not to be held across an await.
    pub fn services(&self) -> MutexGuard<'_, Services> {
        enter(&self.services)
    }

    /// The calls since the last time, which begin anew from here.
    #[must_use]
    pub fn take_counts(&self) -> Counts {
        std::mem::take(&mut self.services().counts)
    }
}

impl Drop for CountingServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn enter(services: &Mutex<Services>) -> MutexGuard<'_, Services> {
    services.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(State(services): State<Arc<Mutex<Services>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, BODY_BYTES_MAX).await else { return Reply::too_large().into_response() };
    let (reply, delay) = enter(&services).answer(&parts, &body);
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    reply.into_response()
}
