//! GitHub's REST API, as far as the functions call it, on GitHub's own paths.
//!
//! Each request is checked as GitHub checks it (User-Agent, credentials, rate limit), may meet the adversary, and is
//! answered from the world.

mod app;
mod auth;
mod exchange;
mod manifest;
mod page;
mod runners;
mod workflow;

use super::reply;
use super::server::AppState;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use exchange::{Access, Exchange, Rest};
use serde_json::json;

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/settings/apps/new", post(manifest::new_app_of_user))
        .route("/organizations/{org}/settings/apps/new", post(manifest::new_app_of_organization))
        .route("/app-manifests/{code}/conversions", post(manifest::conversions))
        // Where an Enterprise Server has its API.
        .route("/api/v3/app-manifests/{code}/conversions", post(manifest::conversions))
        .route("/app/installations", get(app::installations))
        .route("/app/installations/{id}/access_tokens", post(app::access_token))
        .route("/orgs/{owner}/installation", get(app::installation_of_owner))
        .route("/users/{owner}/installation", get(app::installation_of_owner))
        .route("/repos/{owner}/{repo}/installation", get(app::installation_of_repository))
        .route("/app/hook/deliveries", get(app::deliveries))
        .route("/app/hook/deliveries/{id}", get(app::delivery))
        .route("/app/hook/deliveries/{id}/attempts", post(app::redeliver))
        .route("/installation/repositories", get(app::repositories_of_installation))
        .route("/rate_limit", get(rate_limit))
        .route("/orgs/{org}/actions/runners", get(runners::list_of_organization))
        .route("/orgs/{org}/actions/runners/generate-jitconfig", post(runners::jit_of_organization))
        .route(
            "/orgs/{org}/actions/runners/{id}",
            get(runners::get_of_organization).delete(runners::delete_of_organization),
        )
        .route("/repos/{owner}/{repo}/actions/runners", get(runners::list_of_repository))
        .route("/repos/{owner}/{repo}/actions/runners/generate-jitconfig", post(runners::jit_of_repository))
        .route(
            "/repos/{owner}/{repo}/actions/runners/{id}",
            get(runners::get_of_repository).delete(runners::delete_of_repository),
        )
        .route("/repos/{owner}/{repo}/actions/jobs/{id}", get(workflow::job))
        .route("/repos/{owner}/{repo}/actions/runs", get(workflow::runs))
        .route("/repos/{owner}/{repo}/actions/runs/{id}/jobs", get(workflow::jobs_of_run))
}

/// What GitHub answers on a path that it does not have.
pub(super) async fn unknown_path() -> Response {
    reply::json(StatusCode::NOT_FOUND, &exchange::basic_error(404, "Not Found"))
}

/// The rate limit of the calling installation.
async fn rate_limit(State(state): State<AppState>, headers: HeaderMap) -> Response {
    Exchange::new(&state, &headers, "GetRateLimit").run(&Access::AnyToken, |world, installation_id| {
        let Some(limit) = world.github.rate_limit_of(installation_id) else {
            return Rest::not_found();
        };
        let rate = json!({
            "limit": limit.limit,
            "used": limit.limit - limit.remaining,
            "remaining": limit.remaining,
            "reset": limit.resets_at / 1_000,
        });
        Rest::ok(json!({ "resources": { "core": rate, "search": rate }, "rate": rate }))
    })
}
