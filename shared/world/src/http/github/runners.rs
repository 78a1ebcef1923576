//! The runner endpoints, of organisations and of repositories.

use super::exchange::{Access, Exchange, Rest};
use super::page::{self, Parameters};
use crate::github::{DeleteAnswer, JitError, JitRequest, Runner, Scope};
use crate::http::server::AppState;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use bytes::Bytes;
use serde_json::{Value, json};

pub(super) async fn list_of_organization(
    State(state): State<AppState>,
    Path(org): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    Query(parameters): Query<Parameters>,
) -> Response {
    list(&state, &Scope::Organization(org), &uri, &headers, &parameters)
}

pub(super) async fn list_of_repository(
    State(state): State<AppState>,
    Path((owner, name)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
    Query(parameters): Query<Parameters>,
) -> Response {
    list(&state, &Scope::Repository { owner, name }, &uri, &headers, &parameters)
}

pub(super) async fn get_of_organization(
    State(state): State<AppState>,
    Path((org, id)): Path<(String, u64)>,
    headers: HeaderMap,
) -> Response {
    get(&state, &Scope::Organization(org), id, &headers)
}

pub(super) async fn get_of_repository(
    State(state): State<AppState>,
    Path((owner, name, id)): Path<(String, String, u64)>,
    headers: HeaderMap,
) -> Response {
    get(&state, &Scope::Repository { owner, name }, id, &headers)
}

pub(super) async fn delete_of_organization(
    State(state): State<AppState>,
    Path((org, id)): Path<(String, u64)>,
    headers: HeaderMap,
) -> Response {
    delete(&state, &Scope::Organization(org), id, &headers)
}

pub(super) async fn delete_of_repository(
    State(state): State<AppState>,
    Path((owner, name, id)): Path<(String, String, u64)>,
    headers: HeaderMap,
) -> Response {
    delete(&state, &Scope::Repository { owner, name }, id, &headers)
}

pub(super) async fn jit_of_organization(
    State(state): State<AppState>,
    Path(org): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    generate_jitconfig(&state, Scope::Organization(org), &headers, &body)
}

pub(super) async fn jit_of_repository(
    State(state): State<AppState>,
    Path((owner, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    generate_jitconfig(&state, Scope::Repository { owner, name }, &headers, &body)
}

fn list(state: &AppState, scope: &Scope, uri: &Uri, headers: &HeaderMap, parameters: &Parameters) -> Response {
    Exchange::new(state, headers, "ListRunners").run(&Access::Runners(scope.clone()), |world, _| {
        let (github, mut cx) = world.github();
        let name = parameters.get("name").map(String::as_str);
        let runners: Vec<Runner> = github.list_runners(&mut cx, scope, name);
        let page = page::cut(runners, uri, headers, parameters);
        let now = cx.now;
        let shown: Vec<Value> = page.items.iter().map(|r| github.view_runner(r, now)).collect();
        Rest::ok(json!({ "total_count": page.total_count, "runners": shown })).linked(page.link)
    })
}

fn get(state: &AppState, scope: &Scope, id: u64, headers: &HeaderMap) -> Response {
    Exchange::new(state, headers, "GetRunner").about_runner(scope, id).run(
        &Access::Runners(scope.clone()),
        |world, _| {
            world
                .github
                .runner(scope, id)
                .map_or_else(Rest::not_found, |r| Rest::ok(world.github.view_runner(r, world.now())))
        },
    )
}

fn delete(state: &AppState, scope: &Scope, id: u64, headers: &HeaderMap) -> Response {
    let exchange = Exchange::new(state, headers, "DeleteRunner").about_runner(scope, id);
    let caller = exchange.caller();
    exchange.run(&Access::Runners(scope.clone()), |world, _| {
        let (github, mut cx) = world.github();
        match github.delete_runner(&mut cx, scope, id, &caller) {
            DeleteAnswer::Deleted => Rest::empty(204),
            DeleteAnswer::Busy { message } => Rest::error(422, &message),
            DeleteAnswer::NotFound => Rest::not_found(),
        }
    })
}

fn generate_jitconfig(state: &AppState, scope: Scope, headers: &HeaderMap, body: &[u8]) -> Response {
    let request: Result<JitRequest, _> = serde_json::from_slice(body);
    let mut exchange = Exchange::new(state, headers, "GenerateJitConfig");
    if let Ok(request) = &request {
        exchange = exchange.naming_runner(&request.name);
    }
    exchange.run(&Access::Runners(scope.clone()), |world, _| {
        let Ok(request) = request else {
            return Rest::error(422, "Invalid request.");
        };
        let (github, mut cx) = world.github();
        match github.generate_jitconfig(&mut cx, scope, request) {
            Ok((runner, jit_config)) => {
                let shown = github.view_runner(&runner, cx.now);
                Rest::with(201, json!({ "runner": shown, "encoded_jit_config": jit_config }))
            }
            Err(error @ JitError::NameTaken(_)) => Rest::error(409, &error.to_string()),
            Err(error @ JitError::Invalid(_)) => Rest::error(422, &error.to_string()),
        }
    })
}
