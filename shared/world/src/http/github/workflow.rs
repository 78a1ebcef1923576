//! Jobs and runs.

use super::exchange::{Access, Exchange, Rest};
use super::page::{self, Parameters};
use crate::http::server::AppState;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use serde_json::{Value, json};

pub(super) async fn job(
    State(state): State<AppState>,
    Path((owner, name, id)): Path<(String, String, u64)>,
    headers: HeaderMap,
) -> Response {
    let access = Access::Repository(owner.clone(), name.clone());
    Exchange::new(&state, &headers, "GetJob").run(&access, |world, _| {
        world.truth.job_looked_up(id);
        let repository_id = repository_id(world, &owner, &name);
        let job = world.github.jobs_of(repository_id, None).find(|job| job.id == id);
        job.map_or_else(Rest::not_found, |job| Rest::ok(world.github.view_job(job)))
    })
}

pub(super) async fn runs(
    State(state): State<AppState>,
    Path((owner, name)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
    Query(parameters): Query<Parameters>,
) -> Response {
    let access = Access::Repository(owner.clone(), name.clone());
    Exchange::new(&state, &headers, "ListRuns").run(&access, |world, _| {
        let repository_id = repository_id(world, &owner, &name);
        let status = parameters.get("status").map(String::as_str);
        let runs = world.github.view_runs(repository_id, status);
        let page = page::cut(runs, &uri, &headers, &parameters);
        Rest::ok(json!({ "total_count": page.total_count, "workflow_runs": page.items })).linked(page.link)
    })
}

pub(super) async fn jobs_of_run(
    State(state): State<AppState>,
    Path((owner, name, run_id)): Path<(String, String, u64)>,
    uri: Uri,
    headers: HeaderMap,
    Query(parameters): Query<Parameters>,
) -> Response {
    let access = Access::Repository(owner.clone(), name.clone());
    Exchange::new(&state, &headers, "ListJobsOfRun").run(&access, |world, _| {
        let repository_id = repository_id(world, &owner, &name);
        let jobs: Vec<Value> =
            world.github.jobs_of(repository_id, Some(run_id)).map(|job| world.github.view_job(job)).collect();
        if jobs.is_empty() {
            return Rest::not_found();
        }
        let page = page::cut(jobs, &uri, &headers, &parameters);
        Rest::ok(json!({ "total_count": page.total_count, "jobs": page.items })).linked(page.link)
    })
}

fn repository_id(world: &crate::World, owner: &str, name: &str) -> u64 {
    // Access was checked by the same lookup, so the repository exists.
    world.github.repository(owner, name).map_or(0, |(_, repository)| repository.id)
}
