//! What a runner's listener talks to. Not GitHub's real broker protocol, but its answers in its order.

use super::reply;
use super::server::AppState;
use crate::github::{AcquireAnswer, PollAnswer, SessionAnswer};
use axum::extract::{Json, Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;

/// How long a poll waits for a message (the real one: 50 s), and how often it looks.
const POLL: Duration = Duration::from_millis(1_500);
const LOOK: Duration = Duration::from_millis(25);

pub(super) fn routes() -> axum::Router<AppState> {
    axum::Router::new()
        .route("/broker/sessions", post(open_session))
        .route("/broker/messages", get(messages))
        .route("/broker/jobs/{job_id}/acquire", post(acquire))
        .route("/broker/jobs/{job_id}/renew", post(renew))
        .route("/broker/jobs/{job_id}/complete", post(complete))
}

/// The body of a session request. No `Debug`: the configuration is a secret.
#[derive(Deserialize)]
struct SessionRequest {
    jit_config: String,
    #[serde(default)]
    instance_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ByRunner {
    runner_id: u64,
    #[serde(default)]
    conclusion: Option<String>,
}

async fn open_session(State(state): State<AppState>, Json(body): Json<SessionRequest>) -> Response {
    let mut world = state.enter();
    let (github, mut cx) = world.github();
    match github.open_session(&mut cx, &body.jit_config, body.instance_id.as_deref()) {
        SessionAnswer::Opened { runner_id, runner_name } => {
            reply::json(StatusCode::OK, &json!({ "runner_id": runner_id, "runner_name": runner_name }))
        }
        SessionAnswer::NotFound => said(StatusCode::NOT_FOUND, "RunnerNotFound"),
        SessionAnswer::Conflict => said(StatusCode::CONFLICT, "RunnerSessionConflict"),
    }
}

async fn messages(State(state): State<AppState>, Query(by): Query<ByRunner>) -> Response {
    let looks = POLL.as_millis() / LOOK.as_millis();
    for _ in 0..looks {
        let answer = {
            let mut world = state.enter();
            let (github, mut cx) = world.github();
            github.poll(&mut cx, by.runner_id)
        };
        match answer {
            PollAnswer::Job(message) => return reply::json(StatusCode::OK, &json!(message)),
            PollAnswer::RunnerNotFound => return said(StatusCode::NOT_FOUND, "RunnerNotFound"),
            PollAnswer::Nothing => tokio::time::sleep(LOOK).await,
        }
    }
    reply::empty(StatusCode::NO_CONTENT)
}

async fn acquire(State(state): State<AppState>, Path(job_id): Path<u64>, Json(by): Json<ByRunner>) -> Response {
    let mut world = state.enter();
    let (github, mut cx) = world.github();
    match github.acquire(&mut cx, job_id, by.runner_id) {
        AcquireAnswer::Acquired => reply::json(StatusCode::OK, &json!({})),
        AcquireAnswer::Refused => said(StatusCode::CONFLICT, "JobNotAcquired"),
    }
}

async fn renew(State(state): State<AppState>, Path(job_id): Path<u64>, Json(by): Json<ByRunner>) -> Response {
    let mut world = state.enter();
    let (github, mut cx) = world.github();
    known(github.renew(&mut cx, job_id, by.runner_id))
}

async fn complete(State(state): State<AppState>, Path(job_id): Path<u64>, Json(by): Json<ByRunner>) -> Response {
    let mut world = state.enter();
    let (github, mut cx) = world.github();
    let conclusion = by.conclusion.as_deref().unwrap_or("success");
    known(github.complete(&mut cx, job_id, by.runner_id, conclusion))
}

fn known(runs_there: bool) -> Response {
    if runs_there { reply::json(StatusCode::OK, &json!({})) } else { said(StatusCode::NOT_FOUND, "JobNotFound") }
}

fn said(status: StatusCode, what: &str) -> Response {
    reply::json(status, &json!({ "message": what }))
}
