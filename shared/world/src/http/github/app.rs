//! What the App itself may ask: installations, tokens, and its webhook's deliveries.

use super::exchange::{Access, Exchange, Rest};
use super::page::{self, Parameters};
use crate::github::{Installation, TokenError, permissions, rfc3339};
use crate::http::server::AppState;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use serde_json::{Value, json};

pub(super) async fn installations(
    State(state): State<AppState>,
    uri: Uri,
    headers: HeaderMap,
    Query(parameters): Query<Parameters>,
) -> Response {
    Exchange::new(&state, &headers, "ListInstallations").run(&Access::App, |world, _| {
        let all: Vec<&Installation> = world.github.installations().collect();
        let page = page::cut(all, &uri, &headers, &parameters);
        let shown: Vec<Value> = page.items.into_iter().map(|i| world.github.view_installation(i)).collect();
        Rest::ok(Value::from(shown)).linked(page.link)
    })
}

pub(super) async fn access_token(State(state): State<AppState>, Path(id): Path<u64>, headers: HeaderMap) -> Response {
    Exchange::new(&state, &headers, "CreateAccessToken").run(&Access::App, |world, _| {
        let (github, mut cx) = world.github();
        match github.issue_token(&mut cx, id) {
            Ok((text, token)) => Rest::with(
                201,
                json!({
                    "token": text,
                    "expires_at": rfc3339(token.expires_at),
                    "permissions": permissions(),
                    "repository_selection": "selected",
                }),
            ),
            Err(error @ TokenError::Unknown) => Rest::error(404, &error.to_string()),
            Err(error @ TokenError::Suspended) => Rest::error(403, &error.to_string()),
        }
    })
}

pub(super) async fn installation_of_owner(
    State(state): State<AppState>,
    Path(owner): Path<String>,
    headers: HeaderMap,
) -> Response {
    Exchange::new(&state, &headers, "GetInstallation").run(&Access::App, |world, _| {
        world
            .github
            .installation_of_owner(&owner)
            .map_or_else(Rest::not_found, |i| Rest::ok(world.github.view_installation(i)))
    })
}

pub(super) async fn installation_of_repository(
    State(state): State<AppState>,
    Path((owner, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    Exchange::new(&state, &headers, "GetInstallation").run(&Access::App, |world, _| {
        world
            .github
            .repository(&owner, &name)
            .map_or_else(Rest::not_found, |(i, _)| Rest::ok(world.github.view_installation(i)))
    })
}

/// What the calling installation reaches.
pub(super) async fn repositories_of_installation(
    State(state): State<AppState>,
    uri: Uri,
    headers: HeaderMap,
    Query(parameters): Query<Parameters>,
) -> Response {
    Exchange::new(&state, &headers, "ListRepositories").run(&Access::AnyToken, |world, installation_id| {
        let shown = world.github.view_repositories(installation_id);
        let page = page::cut(shown, &uri, &headers, &parameters);
        Rest::ok(json!({
            "total_count": page.total_count,
            "repository_selection": "selected",
            "repositories": page.items,
        }))
        .linked(page.link)
    })
}

/// Pages by cursor: the id of the last delivery seen.
pub(super) async fn deliveries(
    State(state): State<AppState>,
    uri: Uri,
    headers: HeaderMap,
    Query(parameters): Query<Parameters>,
) -> Response {
    Exchange::new(&state, &headers, "ListDeliveries").run(&Access::App, |world, _| {
        let before = parameters.get("cursor").and_then(|cursor| cursor.strip_prefix("v1_")?.parse::<u64>().ok());
        let wanted = parameters.get("status").map(String::as_str);
        let mut log = world.github.delivery_log();
        log.retain(|delivery| {
            before.is_none_or(|id| delivery.id < id)
                && match wanted {
                    Some("success") => delivery.succeeded(),
                    Some("failure") => !delivery.succeeded(),
                    _all => true,
                }
        });
        let size = page::per_page(&parameters);
        let more = log.len() > size;
        log.truncate(size);
        let link = log.last().filter(|_| more).map(|last| {
            let cursor = format!("v1_{}", last.id);
            page::link(&uri, &headers, &parameters, "cursor", &cursor, "next")
        });
        let shown: Vec<Value> = log.into_iter().map(|d| world.github.view_delivery(d)).collect();
        Rest::ok(Value::from(shown)).linked(link)
    })
}

pub(super) async fn delivery(State(state): State<AppState>, Path(id): Path<u64>, headers: HeaderMap) -> Response {
    Exchange::new(&state, &headers, "GetDelivery").run(&Access::App, |world, _| {
        world.github.logged(id).map_or_else(Rest::not_found, |d| Rest::ok(world.github.view_delivery_whole(d)))
    })
}

pub(super) async fn redeliver(State(state): State<AppState>, Path(id): Path<u64>, headers: HeaderMap) -> Response {
    Exchange::new(&state, &headers, "Redeliver").run(&Access::App, |world, _| {
        let (github, mut cx) = world.github();
        if github.redeliver(&mut cx, id) { Rest::with(202, json!({})) } else { Rest::not_found() }
    })
}
