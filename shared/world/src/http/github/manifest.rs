//! The page for new Apps, as a person uses it who confirms at once, and the exchange of its code.

use super::exchange::basic_error;
use crate::http::reply;
use crate::http::server::AppState;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

#[derive(Deserialize)]
pub(super) struct Asked {
    state: Option<String>,
}

pub(super) async fn new_app_of_organization(
    State(state): State<AppState>,
    Path(organization): Path<String>,
    Query(asked): Query<Asked>,
    form: Bytes,
) -> Response {
    confirm(&state, Some(&organization), asked, &form)
}

pub(super) async fn new_app_of_user(
    State(state): State<AppState>,
    Query(asked): Query<Asked>,
    form: Bytes,
) -> Response {
    confirm(&state, None, asked, &form)
}

fn confirm(state: &AppState, owner: Option<&str>, asked: Asked, form: &[u8]) -> Response {
    let manifest = form_urlencoded::parse(form).find(|(name, _)| name == "manifest");
    let manifest = manifest.and_then(|(_, text)| serde_json::from_str(&text).ok()).unwrap_or_default();
    let mut world = state.enter();
    let now = world.now();
    match world.github.make_app(owner, &manifest, now) {
        Ok(url) => {
            let state: String = form_urlencoded::byte_serialize(asked.state.unwrap_or_default().as_bytes()).collect();
            (StatusCode::FOUND, [(header::LOCATION, format!("{url}&state={state}"))]).into_response()
        }
        Err(why) => (StatusCode::UNPROCESSABLE_ENTITY, why).into_response(),
    }
}

/// Anybody who has the code may exchange it: it is the credential.
pub(super) async fn conversions(
    State(state): State<AppState>,
    Path(code): Path<String>,
    headers: HeaderMap,
) -> Response {
    if !headers.contains_key(header::USER_AGENT) {
        return reply::json(StatusCode::FORBIDDEN, &basic_error(403, "Request forbidden by administrative rules."));
    }
    let mut world = state.enter();
    let now = world.now();
    match world.github.exchange_code(&code, now) {
        Some(app) => reply::json(StatusCode::CREATED, &app),
        None => reply::json(StatusCode::NOT_FOUND, &basic_error(404, "Not Found")),
    }
}
