//! One request to GitHub: headers, time limit, and an answer with its status.

use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::BodyExt;
use octocrab::{AuthState, OctoBody, Octocrab, OctocrabBuilder};
use runner_scaler_core::config::Environment;
use runner_scaler_core::error::{Class, PortError};
use runner_scaler_core::ids::{InstallationId, Scope};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::token::Authority;
use super::{pages, status};
use crate::aws::{Effect, chain};
use crate::http::{CALL_TIMEOUT, Http};
use crate::secret::Secret;

/// GitHub's REST API version that all of this was written against.
const API_VERSION: &str = "2022-11-28";

/// GitHub's API for one App.
#[derive(Debug)]
pub(crate) struct GitHub {
    base_url: String,
    user_agent: String,
    http: Http,
    octocrab: OnceLock<Octocrab>,
    /// For one call, from the first byte sent to the last one read.
    pub(crate) call_timeout: Duration,
    pub(super) authority: Authority,
}

/// A request, but for who sends it.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    /// Path and query below the base URL, or a whole URL of the same origin.
    pub(super) target: String,
    pub(super) body: Option<Value>,
}

/// GitHub's answer, whatever its status.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    body: Bytes,
}

impl Call {
    pub(super) fn get(target: impl Into<String>) -> Self {
        Self { method: Method::GET, target: target.into(), body: None }
    }

    pub(super) fn delete(target: impl Into<String>) -> Self {
        Self { method: Method::DELETE, target: target.into(), body: None }
    }

    pub(super) fn post(target: impl Into<String>, body: Value) -> Self {
        Self { method: Method::POST, target: target.into(), body: Some(body) }
    }

    pub(super) fn effect(&self) -> Effect {
        if self.method == Method::GET { Effect::Read } else { Effect::Change }
    }

    /// The call in a sentence, for errors.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

impl Answer {
    /// The body of an answer with that status.
    pub(super) fn json<T: DeserializeOwned>(&self, call: &Call) -> Result<T, PortError> {
        serde_json::from_slice(&self.body).map_err(|error| {
            // serde_json's text may quote a value of the answer, so only where and what kind is told.
            let detail = format!(
                "unreadable answer: {:?} error at line {} column {}",
                error.classify(),
                error.line(),
                error.column()
            );
            PortError::new(call.name(), call.effect().unanswered(), detail)
        })
    }

    /// The body where the status is the one expected; else the error that the status stands for.
    pub(super) fn expect<T: DeserializeOwned>(&self, call: &Call, expected: StatusCode) -> Result<T, PortError> {
        if self.status == expected { self.json(call) } else { Err(self.error(call)) }
    }

    /// The error that this answer's status stands for.
    pub(super) fn error(&self, call: &Call) -> PortError {
        status::port_error(call, self.status, &self.headers, &self.body)
    }
}

impl GitHub {
    /// A client; nothing is read or sent before the first call.
    pub(crate) fn new(environment: &Environment, function: &str, http: Http, ssm: aws_sdk_ssm::Client) -> Self {
        Self {
            base_url: environment.github_api_url.clone(),
            user_agent: format!("runner-scaler/{} ({function})", env!("CARGO_PKG_VERSION")),
            http,
            octocrab: OnceLock::new(),
            call_timeout: CALL_TIMEOUT,
            authority: Authority::new(environment.github_app_path.clone(), ssm),
        }
    }

    /// Sends a call with the App's own token. A 401 drops the key and tries once more: it may have been replaced.
    pub(super) async fn as_app(&self, call: &Call) -> Result<Answer, PortError> {
        let answer = self.send(call, &self.authority.app_token().await?).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        self.authority.forget_app().await;
        self.send(call, &self.authority.app_token().await?).await
    }

    /// Sends a call with a token of the installation that reaches the scope. A 401 drops the token and tries once
    /// more: nothing was done, whatever the method.
    pub(super) async fn as_installation(
        &self,
        scope: &Scope,
        hint: Option<InstallationId>,
        call: &Call,
    ) -> Result<Answer, PortError> {
        let (installation, token) = self.installation_token(scope, hint).await?;
        let answer = self.send(call, &token).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        self.authority.forget_token(installation, &token).await;
        let (_, token) = self.installation_token(scope, hint).await?;
        self.send(call, &token).await
    }

    /// Sends one request and reads the whole answer within the time for one call. Follows one redirect of a GET: GitHub
    /// answers 301 for a renamed repository.
    pub(super) async fn send(&self, call: &Call, token: &Secret) -> Result<Answer, PortError> {
        let exchange = async {
            let answer = self.exchange(call, token).await?;
            let moved = call.method == Method::GET && answer.status.is_redirection();
            match answer.headers.get(LOCATION).and_then(|location| location.to_str().ok()) {
                Some(location) if moved => self.exchange(&Call::get(location), token).await,
                Some(_) | None => Ok(answer),
            }
        };
        tokio::time::timeout(self.call_timeout, exchange).await.unwrap_or_else(|_| {
            let detail = format!("no answer within {} ms", self.call_timeout.as_millis());
            Err(PortError::new(call.name(), call.effect().unanswered(), detail))
        })
    }

    async fn exchange(&self, call: &Call, token: &Secret) -> Result<Answer, PortError> {
        let unanswered = |detail: String| PortError::new(call.name(), call.effect().unanswered(), detail);
        let request = self.request(call, token)?;
        let response = self.octocrab().execute(request).await.map_err(|error| unanswered(chain(&error)))?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| unanswered(chain(&error)))?.to_bytes();
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }

    fn request(&self, call: &Call, token: &Secret) -> Result<Request<OctoBody>, PortError> {
        let unsendable = |detail: String| PortError::new(call.name(), Class::Rejected, detail);
        let uri = self.uri(&call.target).ok_or_else(|| unsendable("not an address of GITHUB_API_URL".to_owned()))?;
        let mut authorization = HeaderValue::try_from(format!("Bearer {}", token.expose()))
            .map_err(|_| unsendable("the token is not a header's text".to_owned()))?;
        authorization.set_sensitive(true);
        let request = Request::builder()
            .method(call.method.clone())
            .uri(uri)
            .header(AUTHORIZATION, authorization)
            .header(ACCEPT, "application/vnd.github+json")
            .header("X-GitHub-Api-Version", API_VERSION)
            .header(USER_AGENT, &self.user_agent);
        let request = match &call.body {
            Some(body) => request.header(CONTENT_TYPE, "application/json").body(OctoBody::from(body.to_string())),
            None => request.body(OctoBody::empty()),
        };
        request.map_err(|error| unsendable(error.to_string()))
    }

    /// The whole address; `None` when it leads away from GitHub, where our token must not go.
    fn uri(&self, target: &str) -> Option<Uri> {
        if target.starts_with('/') {
            return format!("{}{target}", self.base_url).parse().ok();
        }
        let uri: Uri = target.parse().ok()?;
        pages::same_origin(&uri, &self.base_url.parse().ok()?).then_some(uri)
    }

    fn octocrab(&self) -> &Octocrab {
        self.octocrab.get_or_init(|| {
            let Ok(octocrab) =
                OctocrabBuilder::new_empty().with_service(self.http.clone()).with_auth(AuthState::None).build();
            octocrab
        })
    }
}
