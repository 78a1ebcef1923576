//! The world server: one port for GitHub, the broker, EC2, instance metadata and control; one task that lets time pass.
//!
//! EC2's SDK posts to `/`, which GitHub does not serve, so they share the port. Processes are the host's business: what
//! is to be started or killed goes out as [`HostEffect`]s, what happened as [`WorldEvent`]s.

use super::deliver::{self, Receiver};
use super::{broker, control, github, imds, reply};
use crate::http::ec2::Ec2HttpAnswer;
use crate::{HostEffect, Millis, World, WorldEvent};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::Response;
use axum::routing::{any, post};
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;

/// How often the world is woken. A higher value delays boots and assignments visibly, a lower one burns a core.
const TICK: Duration = Duration::from_millis(20);
/// Events kept for a slow reader before it misses some.
const EVENTS_BUFFERED: usize = 4_096;

/// Where the server listens and whom it delivers to.
#[derive(Clone)]
pub struct ServerSettings {
    /// The address; port 0 for any free one.
    pub listen: SocketAddr,
    /// Where deliveries go; until it is set they wait ([`WorldServer::deliver_to`]).
    pub webhook_url: Option<String>,
    /// The secret that deliveries are signed with.
    pub webhook_secret: String,
    /// The App's public key, PKCS#1 `RSAPublicKey` in DER (`openssl rsa -in key.pem -RSAPublicKey_out -outform DER`).
    /// Without it the signature of App tokens is not verified, only their shape and their times.
    pub app_public_key_der: Option<Vec<u8>>,
}

impl std::fmt::Debug for ServerSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerSettings")
            .field("listen", &self.listen)
            .field("webhook_url", &self.webhook_url)
            .field("webhook_secret", &"<redacted>")
            .finish_non_exhaustive()
    }
}

/// What every handler shares.
#[derive(Clone)]
pub struct AppState {
    world: Arc<Mutex<World>>,
    pub(super) app_public_key_der: Option<Arc<[u8]>>,
}

impl AppState {
    /// The world, alone with it, at the present wall time.
    pub fn enter(&self) -> MutexGuard<'_, World> {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.advance_to(wall_now());
        world
    }
}

/// A running server; it ends when this is dropped.
#[derive(Debug)]
pub struct WorldServer {
    base_url: String,
    world: Arc<Mutex<World>>,
    effects: Option<mpsc::UnboundedReceiver<HostEffect>>,
    events: broadcast::Sender<WorldEvent>,
    receiver: Arc<Receiver>,
    tasks: Vec<JoinHandle<()>>,
}

impl WorldServer {
    /// Starts serving. The world should have been made with [`wall_now`] as its start.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn start(world: World, settings: ServerSettings) -> std::io::Result<Self> {
        let listener = TcpListener::bind(settings.listen).await?;
        let base_url = format!("http://{}", listener.local_addr()?);
        let world = Arc::new(Mutex::new(world));
        let state =
            AppState { world: Arc::clone(&world), app_public_key_der: settings.app_public_key_der.map(Arc::from) };
        let (effects_out, effects) = mpsc::unbounded_channel();
        let (events, _) = broadcast::channel(EVENTS_BUFFERED);
        let receiver = Arc::new(Receiver::new(settings.webhook_url, settings.webhook_secret));
        let tasks = vec![
            tokio::spawn(serve(listener, router(state.clone()))),
            tokio::spawn(tick(state.clone(), effects_out, events.clone())),
            tokio::spawn(deliver::run(state, Arc::clone(&receiver))),
        ];
        Ok(Self { base_url, world, effects: Some(effects), events, receiver, tasks })
    }

    /// `http://address:port`, without a slash at its end.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// The world, alone with it, at the present wall time. Not to be held across an await.
    pub fn world(&self) -> MutexGuard<'_, World> {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.advance_to(wall_now());
        world
    }

    /// The world for tasks of the host's own.
    #[must_use]
    pub fn shared_world(&self) -> Arc<Mutex<World>> {
        Arc::clone(&self.world)
    }

    /// What the host must do; can be taken once.
    pub fn take_effects(&mut self) -> Option<mpsc::UnboundedReceiver<HostEffect>> {
        self.effects.take()
    }

    /// What happens from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<WorldEvent> {
        self.events.subscribe()
    }

    /// Sends deliveries to this URL from now on, those that wait included.
    pub fn deliver_to(&self, webhook_url: &str) {
        self.receiver.set_url(webhook_url);
    }
}

impl Drop for WorldServer {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Wall time in milliseconds since the Unix epoch: the only clock of this crate.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "a front end feeds the world wall time; this is its one clock")]
pub fn wall_now() -> Millis {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since_epoch.as_millis()).unwrap_or(Millis::MAX)
}

/// All routes over one state.
pub(super) fn router(state: AppState) -> Router {
    Router::new()
        .route("/", post(serve_ec2))
        .route("/imds/{instance_id}/{*path}", any(serve_imds))
        .merge(github::routes())
        .merge(broker::routes())
        .merge(control::routes())
        .fallback(github::unknown_path)
        .layer(axum::middleware::from_fn(reply::hold_lost))
        .with_state(state)
}

async fn serve(listener: TcpListener, router: Router) {
    // Serving ends with the task; accept errors are retried inside.
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the world server ended: {error}");
    }
}

async fn tick(state: AppState, effects: mpsc::UnboundedSender<HostEffect>, events: broadcast::Sender<WorldEvent>) {
    let mut ticks = tokio::time::interval(TICK);
    loop {
        ticks.tick().await;
        let (done, happened) = {
            let mut world = state.enter();
            (world.take_host_effects(), world.take_events())
        };
        // Nobody may listen, during the server's end for example: then nothing is left to be done.
        for effect in done {
            let _unheard = effects.send(effect);
        }
        for event in happened {
            let _unheard = events.send(event);
        }
    }
}

async fn serve_ec2(State(state): State<AppState>, headers: HeaderMap, body: Bytes) -> Response {
    let user_agent = [header::USER_AGENT.as_str(), "x-amz-user-agent"]
        .iter()
        .filter_map(|name| headers.get(*name)?.to_str().ok())
        .collect::<Vec<_>>()
        .join(" ");
    let caller = crate::call::caller_of(&user_agent);
    match super::ec2::handle(&mut state.enter(), &caller, &body) {
        Ec2HttpAnswer::Reply { status, body } => reply::with_body(
            StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            "text/xml;charset=UTF-8",
            Body::from(body),
        ),
        Ec2HttpAnswer::NoReply => reply::lost(),
    }
}

async fn serve_imds(
    State(state): State<AppState>,
    Path((instance_id, path)): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let (status, text) = imds::handle(&state.enter(), &instance_id, &method, &path, &headers);
    reply::with_body(status, "text/plain", Body::from(text))
}
