//! One request to GitHub: headers, time limit, and an answer with its status.

use std::sync::OnceLock;
use std::time::Duration;

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, LOCATION, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::BodyExt;
use octocrab::{AuthState, OctoBody, Octocrab, OctocrabBuilder};
use runner_scaler_core::config::Environment;
use runner_scaler_core::error::{Class, PortError};
use runner_scaler_core::ids::{InstallationId, Scope};
use runner_scaler_core::ledger::BackPressure;
use runner_scaler_core::time::{Clock, Timestamp};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tracing::warn;

use super::pace::Pace;
use super::pages::{Pages, address, owner_of};
use super::pressure::Pressure;
use super::status;
use super::token::Authority;
use crate::aws::{Effect, chain};
use crate::clock::SystemClock;
use crate::dynamodb::LedgerTable;
use crate::http::{CALL_TIMEOUT, Http};
use crate::secret::Secret;

/// GitHub's REST API version that all of this was written against.
const API_VERSION: &str = "2022-11-28";

/// How far GitHub's clock may be from ours before it explains a refused token. Closer, and the delay of an answer looks
/// like a wrong clock; farther, and tokens that are backdated by 60 s are refused unexplained.
const SKEW_MAX: Duration = Duration::from_secs(30);

/// GitHub's API for one App.
#[derive(Debug)]
pub(crate) struct GitHub {
    /// Without a slash at its end.
    pub(crate) base_url: String,
    user_agent: String,
    http: Http,
    octocrab: OnceLock<Octocrab>,
    /// For one call, from the first byte sent to the last one read.
    pub(crate) call_timeout: Duration,
    pub(super) authority: Authority,
    pub(crate) pressure: Pressure,
}

/// A list of GitHub's that says how many entries it has, in one page of several.
pub(super) trait Page: DeserializeOwned {
    type Entry;

    /// `total_count`, and the entries of this page.
    fn into_parts(self) -> (usize, Vec<Self::Entry>);
}

/// A whole list.
#[derive(Debug)]
pub(super) struct Listing<T> {
    pub(super) entries: Vec<T>,
    /// GitHub counted less on a later page than on an earlier one: entries moved up meanwhile, and one of them may have
    /// moved from a page that was still to be read to one that had been.
    pub(super) shrank: bool,
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

    /// GitHub's time when it answered.
    fn time(&self) -> Option<Timestamp> {
        let date = self.headers.get(DATE)?.to_str().ok()?;
        DateTime::from_str(date, Format::HttpDate).ok()?.to_millis().ok().map(Timestamp)
    }

    /// The error that this answer's status stands for.
    pub(super) fn error(&self, call: &Call) -> PortError {
        status::port_error(call, self.status, &self.headers, &self.body)
    }
}

impl GitHub {
    /// A client; nothing is read or sent before the first call.
    pub(crate) fn new(
        environment: &Environment,
        function: &str,
        http: Http,
        ssm: aws_sdk_ssm::Client,
        ledger: LedgerTable,
    ) -> Self {
        Self {
            base_url: environment.github_api_url.clone(),
            user_agent: format!("runner-scaler/{} ({function})", env!("CARGO_PKG_VERSION")),
            http,
            octocrab: OnceLock::new(),
            call_timeout: CALL_TIMEOUT,
            authority: Authority::new(environment.github_app_path.clone(), ssm),
            pressure: Pressure::new(ledger, Pace::of(environment.github_points_per_minute)),
        }
    }

    /// Sends a call with the App's own token. A 401 is tried once more: with GitHub's time where the clocks disagree,
    /// else with the key read anew, for it may have been replaced.
    ///
    /// # Errors
    /// Whatever stands for no answer, and class `Throttled`: GitHub asks for patience, or did so a moment ago and
    /// nothing was sent. Any other answer is returned.
    pub(super) async fn as_app(&self, call: &Call) -> Result<Answer, PortError> {
        let token = self.authority.app_token(SystemClock.now()).await?;
        let answer = self.courteous(BackPressure::APP, call, &token).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let now = SystemClock.now();
        let Some(theirs) = answer.time().filter(|theirs| theirs.since(now).max(now.since(*theirs)) > SKEW_MAX) else {
            self.authority.forget_app().await;
            let token = self.authority.app_token(now).await?;
            return self.courteous(BackPressure::APP, call, &token).await;
        };
        let skew_ms = theirs.0 - now.0;
        warn!(skew_ms, "GitHub refused the App's token and its clock is {skew_ms} ms ahead; its time is used once");
        let token = self.authority.app_token(theirs).await?;
        let answer = self.courteous(BackPressure::APP, call, &token).await?;
        if answer.status == StatusCode::UNAUTHORIZED {
            // It was not the clock alone.
            self.authority.forget_app().await;
        }
        Ok(answer)
    }

    /// Sends a call with a token of the installation that reaches the scope. A 401 drops the token and tries once
    /// more: nothing was done, whatever the method.
    ///
    /// # Errors
    /// As [`Self::as_app`].
    pub(super) fn as_installation<'a>(
        &'a self,
        scope: &'a Scope,
        hint: Option<InstallationId>,
        call: &'a Call,
    ) -> BoxFuture<'a, Result<Answer, PortError>> {
        async move {
            let owner = owner_of(scope);
            // Before the token: an owner that waits is not even asked for one.
            self.pressure.admit(owner, call).await?;
            let (installation, token) = self.installation_token(scope, hint).await?;
            let answer = self.courteous(owner, call, &token).await?;
            if answer.status != StatusCode::UNAUTHORIZED {
                return Ok(answer);
            }
            self.authority.forget_token(installation, &token).await;
            let (_, token) = self.installation_token(scope, hint).await?;
            self.courteous(owner, call, &token).await
        }
        .boxed()
    }

    /// Every page of a list, or an error. One that is shorter than GitHub's own count has lost something on the way,
    /// and what is missing from it would look as if it were gone.
    pub(super) async fn list<P: Page>(
        &self,
        scope: &Scope,
        hint: Option<InstallationId>,
        first: &str,
    ) -> Result<Listing<P::Entry>, PortError> {
        let mut pages = Pages::from(first.to_owned());
        let mut listing = Listing { entries: Vec::new(), shrank: false };
        let mut total_count = 0;
        while let Some(call) = pages.next() {
            let answer = self.as_installation(scope, hint, &call).await?;
            let (total, entries) = answer.expect::<P>(&call, StatusCode::OK)?.into_parts();
            listing.entries.extend(entries);
            listing.shrank |= total < total_count;
            total_count = total;
            pages.answered(&call, &answer)?;
        }
        if listing.entries.len() < total_count {
            let detail = format!("listed {} of {total_count}", listing.entries.len());
            return Err(PortError::new(format!("GET {first}"), Class::Transient, detail));
        }
        Ok(listing)
    }

    /// Sends one request when its owner's turn has come, and notes what the answer says of the owner's budget.
    fn courteous<'a>(
        &'a self,
        owner: &'a str,
        call: &'a Call,
        token: &'a Secret,
    ) -> BoxFuture<'a, Result<Answer, PortError>> {
        async move {
            self.pressure.admit(owner, call).await?;
            self.pressure.pace(owner, call).await?;
            let answer = self.send(call, token).await?;
            let error = (!answer.status.is_success()).then(|| answer.error(call));
            let wait = self.pressure.note(owner, error.as_ref().map(|error| error.class)).await;
            match (error, wait) {
                (Some(error), Some(wait)) => {
                    Err(PortError { class: Class::Throttled { retry_after: Some(wait) }, ..error })
                }
                (_, _) => Ok(answer),
            }
        }
        .boxed()
    }

    /// Sends one request and reads the whole answer within the time for one call. Follows one redirect of a GET, within
    /// GitHub: it answers 301 for a renamed repository. One that leads elsewhere is the answer.
    async fn send(&self, call: &Call, token: &Secret) -> Result<Answer, PortError> {
        let exchange = async {
            let answer = self.exchange(call, token).await?;
            match self.moved(call, &answer) {
                Some(there) => self.exchange(&there, token).await,
                None => Ok(answer),
            }
        };
        tokio::time::timeout(self.call_timeout, exchange).await.unwrap_or_else(|_| {
            let detail = format!("no answer within {} ms", self.call_timeout.as_millis());
            Err(PortError::new(call.name(), call.effect().unanswered(), detail))
        })
    }

    /// Where a read goes on that was redirected within GitHub.
    fn moved(&self, call: &Call, answer: &Answer) -> Option<Call> {
        if call.method != Method::GET || !answer.status.is_redirection() {
            return None;
        }
        let location = answer.headers.get(LOCATION)?.to_str().ok()?;
        if location.starts_with("//") {
            // Another host.
            return None;
        }
        let target = if location.starts_with('/') {
            // A path of the host, which for GitHub Enterprise Server is not a path below the base URL.
            let base: Uri = self.base_url.parse().ok()?;
            format!("{}://{}{location}", base.scheme_str()?, base.authority()?)
        } else {
            location.to_owned()
        };
        address(&self.base_url, &target).map(|_| Call::get(target))
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
        let uri = address(&self.base_url, &call.target)
            .ok_or_else(|| unsendable("not an address of GITHUB_API_URL".to_owned()))?;
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

    fn octocrab(&self) -> &Octocrab {
        self.octocrab.get_or_init(|| {
            let Ok(octocrab) =
                OctocrabBuilder::new_empty().with_service(self.http.clone()).with_auth(AuthState::None).build();
            octocrab
        })
    }
}
