//! One request and its answer: checks, traps, counting and headers, the same for every endpoint.

use super::auth;
use crate::World;
use crate::call::{Api, Call, caller_of};
use crate::github::{Repository, Scope};
use crate::http::reply;
use crate::http::server::AppState;
use crate::trap::Interference;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};
use std::hash::{DefaultHasher, Hash, Hasher};

/// API versions that github.com knows; another answers 400 (docs: API versions).
const API_VERSIONS: [&str; 2] = ["2022-11-28", "2026-03-10"];
const DOCS: &str = "https://docs.github.com/rest";

/// Who may call an endpoint.
#[derive(Debug, Clone)]
pub(super) enum Access {
    /// The App itself, by its JWT.
    App,
    /// Any installation's token.
    AnyToken,
    /// The token of the installation that governs these runners; anybody else sees 404.
    Runners(Scope),
    /// The token of the installation that reaches this repository; anybody else sees 404.
    Repository(String, String),
}

/// An answer before its headers.
#[derive(Debug)]
pub(super) struct Rest {
    status: u16,
    body: Option<Value>,
    link: Option<String>,
    tag: Option<String>,
}

impl Rest {
    pub(super) fn ok(body: Value) -> Self {
        Self::with(200, body)
    }

    pub(super) fn with(status: u16, body: Value) -> Self {
        Self { status, body: Some(body), link: None, tag: None }
    }

    pub(super) fn empty(status: u16) -> Self {
        Self { status, body: None, link: None, tag: None }
    }

    pub(super) fn error(status: u16, message: &str) -> Self {
        Self::with(status, basic_error(status, message))
    }

    pub(super) fn not_found() -> Self {
        Self::error(404, "Not Found")
    }

    pub(super) fn linked(mut self, link: Option<String>) -> Self {
        self.link = link;
        self
    }

    /// With the tag of its body; 304 and no body for who knows it already (docs: conditional requests). Tags differ from
    /// token to token, as GitHub's do (eclipse-csi/otterdog issue 201).
    fn tagged(self, headers: &HeaderMap) -> Self {
        let Some(body) = self.body.as_ref().filter(|_| self.status == 200) else { return self };
        let mut hasher = DefaultHasher::new();
        (body.to_string(), &self.link, text(headers, &header::AUTHORIZATION)).hash(&mut hasher);
        let tag = format!("W/\"{:016x}\"", hasher.finish());
        let known = text(headers, &header::IF_NONE_MATCH) == Some(tag.as_str());
        let (status, body) = if known { (304, None) } else { (200, self.body) };
        Self { status, body, tag: Some(tag), link: self.link }
    }
}

/// GitHub's `basic-error`.
pub(super) fn basic_error(status: u16, message: &str) -> Value {
    json!({ "message": message, "documentation_url": DOCS, "status": status.to_string() })
}

/// One request.
pub(super) struct Exchange<'a> {
    state: &'a AppState,
    headers: &'a HeaderMap,
    call: Call,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(state: &'a AppState, headers: &'a HeaderMap, operation: &str) -> Self {
        let caller = text(headers, &header::USER_AGENT).map_or_else(String::new, caller_of);
        Self { state, headers, call: Call::new(Api::GitHub, operation, &caller) }
    }

    /// The calling function.
    pub(super) fn caller(&self) -> String {
        self.call.caller.clone()
    }

    /// The same request, naming a runner that may not exist yet.
    pub(super) fn naming_runner(mut self, name: &str) -> Self {
        self.call = self.call.about_runner(name);
        self
    }

    /// The same request, about this runner.
    pub(super) fn about_runner(mut self, scope: &Scope, runner_id: u64) -> Self {
        let world = self.state.enter();
        let name = world.github.runner(scope, runner_id).map(|r| r.name.clone());
        drop(world);
        if let Some(name) = name {
            self.call = self.call.about_runner(&name);
        }
        self
    }

    /// Checks, lets the adversary act, has the effect, and answers. `effect` gets the calling installation's id, 0 for
    /// the App itself.
    pub(super) fn run(self, access: &Access, effect: impl FnOnce(&mut World, u64) -> Rest) -> Response {
        let mut world = self.state.enter();
        let installation_id = match self.admit(&mut world, access) {
            Ok(id) => id,
            Err((id, refusal)) => return respond(&world, id, refusal),
        };
        match world.begin_call(&self.call) {
            Interference::Proceed => {}
            Interference::Fail { status } => {
                return respond(&world, installation_id, Rest::error(status, "Server Error"));
            }
            Interference::LoseReply => return reply::lost(),
        }
        let error_rate = world.github.settings().github_error_rate;
        if world.tape.chance(error_rate) {
            return respond(&world, installation_id, Rest::error(502, "Server Error"));
        }
        let answer = effect(&mut world, installation_id).tagged(self.headers);
        if answer.status == 304 {
            world.github.refund_rate(installation_id, u32::from(self.is_charged()));
        }
        match world.end_call(&self.call) {
            Interference::Proceed => respond(&world, installation_id, answer),
            Interference::Fail { status } => respond(&world, installation_id, Rest::error(status, "Server Error")),
            Interference::LoseReply => reply::lost(),
        }
    }

    /// Asking for the rate limit costs nothing (docs: rate limits).
    fn is_charged(&self) -> bool {
        self.call.operation != "GetRateLimit"
    }

    /// The calling installation's id, 0 for the App itself; or the refusal, and whose limit its headers show.
    fn admit(&self, world: &mut World, access: &Access) -> Result<u64, (u64, Rest)> {
        let refuse = |status, message| Err((0, Rest::error(status, message)));
        if text(self.headers, &header::USER_AGENT).is_none_or(str::is_empty) {
            return refuse(
                403,
                "Request forbidden by administrative rules. Please make sure your request has a User-Agent header.",
            );
        }
        let version = text(self.headers, &HeaderName::from_static("x-github-api-version"));
        if version.is_some_and(|v| !API_VERSIONS.contains(&v)) {
            return refuse(400, "API version is not supported");
        }
        let credential = text(self.headers, &header::AUTHORIZATION).and_then(auth::credential);
        if let Access::App = access {
            let key = self.state.app_public_key_der.as_deref();
            return auth::check_app_jwt(credential.unwrap_or_default(), world.now(), key)
                .map(|()| 0)
                .or_else(|why| refuse(401, why));
        }
        let installation = credential.and_then(|token| world.github.installation_of_token(token, world.now()));
        let Some(installation_id) = installation else {
            return refuse(401, "Bad credentials");
        };
        if world.github.installation(installation_id).is_some_and(|i| i.suspended) {
            return refuse(403, "This installation has been suspended");
        }
        world.github.spend_rate(installation_id, world.now(), u32::from(self.is_charged()));
        if world.github.rate_is_spent(installation_id) {
            return Err((installation_id, Rest::error(403, "API rate limit exceeded for installation.")));
        }
        if reaches(world, installation_id, access) {
            Ok(installation_id)
        } else {
            Err((installation_id, Rest::not_found()))
        }
    }
}

fn respond(world: &World, installation_id: u64, answer: Rest) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = match answer.body {
        Some(body) => reply::json(status, &body),
        None => reply::empty(status),
    };
    let mut set = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    };
    if let Some(limit) = world.github.rate_limit_of(installation_id) {
        set("x-ratelimit-limit", limit.limit.to_string());
        set("x-ratelimit-remaining", limit.remaining.to_string());
        set("x-ratelimit-used", (limit.limit - limit.remaining).to_string());
        set("x-ratelimit-reset", (limit.resets_at / 1_000).to_string());
        set("x-ratelimit-resource", "core".to_owned());
    }
    if let Some(link) = answer.link {
        set("link", link);
    }
    if let Some(tag) = answer.tag {
        set("etag", tag);
    }
    response
}

fn reaches(world: &World, installation_id: u64, access: &Access) -> bool {
    let Some(installation) = world.github.installation(installation_id) else {
        return false;
    };
    match access {
        Access::App | Access::AnyToken => true,
        Access::Runners(scope) => world.github.governs(installation, scope),
        Access::Repository(owner, name) => {
            installation.repositories.iter().any(|repository: &Repository| repository.answers_to(owner, name))
        }
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}
