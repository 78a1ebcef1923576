//! For the scenario and for people with curl: look at the world, add jobs, set traps, end an instance.

use super::reply;
use super::server::AppState;
use crate::github::{Job, JobSpec};
use crate::misfortune::Misfortune;
use crate::trap::Trap;
use crate::truth::summary;
use crate::world::FlawPlan;
use axum::extract::{Json, Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

pub(super) fn routes() -> axum::Router<AppState> {
    axum::Router::new()
        .route("/control/state", get(show_state))
        .route("/control/facts", get(show_facts))
        .route("/control/jobs", post(queue_job))
        .route("/control/jobs/from-payload", post(queue_payload))
        .route("/control/jobs/{job_id}/cancel", post(cancel_job))
        .route("/control/instances/{instance_id}/power-off", post(power_off))
        .route("/control/instances/{instance_id}/misfortune", post(befall))
        .route("/control/traps", post(set_trap))
        .route("/control/flaws", post(plan_flaw))
}

async fn show_state(State(state): State<AppState>) -> Response {
    let world = state.enter();
    let jobs: Vec<Value> = world.github.jobs().map(show_job).collect();
    let runners: Vec<Value> = world
        .github
        .registrations()
        .map(|r| {
            let mut shown = world.github.view_runner(r, world.now());
            shown["scope"] = json!(r.scope.to_string());
            shown["active_job"] = json!(world.github.active_job_of_runner(r.id));
            shown
        })
        .collect();
    let instances: Vec<Value> = world.ec2.instances().map(|i| json!(i)).collect();
    let body = json!({
        "now_ms": world.now(),
        "jobs": jobs,
        "runners": runners,
        "instances": instances,
        "deliveries_pending": world.github.pending_deliveries().count(),
        "traps_waiting": world.traps.waiting(),
        "summary": summary(&world.truth),
    });
    reply::json(StatusCode::OK, &body)
}

fn show_job(job: &Job) -> Value {
    json!({
        "id": job.id,
        "run_id": job.run_id,
        "labels": job.labels,
        "status": job.state.status(),
        "state": format!("{:?}", job.state),
        "runner": job.runner.as_ref().map(|(_, name, _)| name),
    })
}

async fn show_facts(State(state): State<AppState>) -> Response {
    let world = state.enter();
    let facts: Vec<Value> = world
        .truth
        .facts()
        .iter()
        .map(|(at, fact)| json!({ "at_ms": at, "text": fact.describe(), "fact": fact }))
        .collect();
    reply::json(StatusCode::OK, &Value::from(facts))
}

async fn queue_job(State(state): State<AppState>, Json(spec): Json<JobSpec>) -> Response {
    let mut world = state.enter();
    let (github, mut cx) = world.github();
    match github.add_job(&mut cx, spec) {
        Ok(job_id) => reply::json(StatusCode::CREATED, &json!({ "job_id": job_id })),
        Err(error) => refused(&error),
    }
}

#[derive(Debug, Deserialize)]
struct Duration {
    duration_ms: i64,
}

async fn queue_payload(State(state): State<AppState>, Query(runs): Query<Duration>, body: Bytes) -> Response {
    let mut world = state.enter();
    let (github, mut cx) = world.github();
    match github.add_job_from_payload(&mut cx, &body, runs.duration_ms) {
        Ok(job_id) => reply::json(StatusCode::CREATED, &json!({ "job_id": job_id })),
        Err(error) => refused(&error),
    }
}

async fn cancel_job(State(state): State<AppState>, Path(job_id): Path<u64>) -> Response {
    let mut world = state.enter();
    let (github, mut cx) = world.github();
    if github.cancel_queued_job(&mut cx, job_id) {
        reply::json(StatusCode::OK, &json!({}))
    } else {
        refused(&"not a queued job")
    }
}

async fn power_off(State(state): State<AppState>, Path(instance_id): Path<String>) -> Response {
    state.enter().power_off(&instance_id);
    reply::json(StatusCode::OK, &json!({}))
}

/// The body is the misfortune's name as a JSON string, `"stopped"` for example.
async fn befall(
    State(state): State<AppState>,
    Path(instance_id): Path<String>,
    Json(misfortune): Json<Misfortune>,
) -> Response {
    if state.enter().befall(&instance_id, misfortune) {
        reply::json(StatusCode::OK, &json!({}))
    } else {
        refused(&"this cannot befall that instance")
    }
}

async fn set_trap(State(state): State<AppState>, Json(trap): Json<Trap>) -> Response {
    state.enter().set_trap(trap);
    reply::json(StatusCode::CREATED, &json!({}))
}

async fn plan_flaw(State(state): State<AppState>, Json(plan): Json<FlawPlan>) -> Response {
    state.enter().plan_flaw(plan);
    reply::json(StatusCode::CREATED, &json!({}))
}

fn refused(why: &impl std::fmt::Display) -> Response {
    reply::json(StatusCode::UNPROCESSABLE_ENTITY, &json!({ "message": why.to_string() }))
}
