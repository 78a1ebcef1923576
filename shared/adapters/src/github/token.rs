//! Who we are to GitHub: the App's key, and installation tokens. All of it stays in this process's memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use runner_scaler_core::error::{Class, PortError};
use runner_scaler_core::ids::{InstallationId, Scope};
use runner_scaler_core::time::{Clock, Timestamp};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;

use super::client::{Call, GitHub};
use super::jwt::AppKey;
use super::pages::{encoded, owner_of, scope_path};
use crate::clock::SystemClock;
use crate::secret::Secret;
use crate::ssm::read_parameter;

/// A token lives for one hour; it is replaced this long before its end, so that none ends during a call.
const RENEWED_BEFORE: Duration = Duration::from_mins(5);

/// The App's key, its installations and their tokens.
#[derive(Debug)]
pub(crate) struct Authority {
    app_path: String,
    ssm: aws_sdk_ssm::Client,
    /// Held while the key is read, once in a process: whoever waits needs that same key, and nobody waits who holds a
    /// token.
    app: Mutex<Shared<AppKey>>,
    /// Held for the look-up only, never across a call.
    tokens: Mutex<BTreeMap<InstallationId, Slot>>,
    /// By owner in lower case; only what was looked up, for ids in payloads go stale (facts of GitHub, G21).
    installations: Mutex<BTreeMap<String, InstallationId>>,
}

/// One installation's token. Held while it is made, so that a burst of calls makes one; one of its own for each
/// installation, so that an owner whose GitHub hangs holds up nobody else.
type Slot = Arc<Mutex<Shared<InstallationToken>>>;

/// How long a failure is everybody's who waits for the same. Longer, and a fault that is over is told on; shorter, and
/// those who waited for one that hangs each wait as long again, one after the other.
const FAILURE_KEPT: Duration = Duration::from_secs(3);

/// What several callers need and one of them makes while the others wait: made for all, or failed for all.
#[derive(Debug)]
struct Shared<T> {
    made: Option<T>,
    failed: Option<(Timestamp, PortError)>,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self { made: None, failed: None }
    }
}

impl<T> Shared<T> {
    /// What it failed with a moment ago.
    fn failure(&self, now: Timestamp) -> Result<(), PortError> {
        let recent = |(at, _): &&(Timestamp, PortError)| *at <= now && now.since(*at) < FAILURE_KEPT;
        self.failed.as_ref().filter(recent).map_or(Ok(()), |(_, error)| Err(error.clone()))
    }

    /// Remembers how it went.
    fn outcome(&mut self, made: Result<T, PortError>) -> Result<&T, PortError> {
        match made {
            Ok(made) => {
                self.failed = None;
                Ok(self.made.insert(made))
            }
            Err(error) => {
                self.failed = Some((SystemClock.now(), error.clone()));
                Err(error)
            }
        }
    }
}

#[derive(Debug)]
struct InstallationToken {
    token: Secret,
    expires_at: Timestamp,
}

#[derive(Deserialize)]
struct TokenBody {
    token: String,
    expires_at: String,
}

#[derive(Deserialize)]
struct InstallationBody {
    id: InstallationId,
}

impl Authority {
    /// Reads `app-id` and `private-key` below that path at the first call that needs them.
    pub(super) fn new(app_path: String, ssm: aws_sdk_ssm::Client) -> Self {
        Self {
            app_path,
            ssm,
            app: Mutex::default(),
            tokens: Mutex::new(BTreeMap::new()),
            installations: Mutex::new(BTreeMap::new()),
        }
    }

    /// A fresh token of the App itself, made for that time.
    pub(super) async fn app_token(&self, now: Timestamp) -> Result<Secret, PortError> {
        let mut app = self.app.lock().await;
        if app.made.is_none() {
            app.failure(SystemClock.now())?;
            let read = self.read_key().await;
            app.outcome(read)?;
        }
        let key = app.made.as_ref().expect("read above where there was none");
        key.token(now).map_err(|error| self.unusable(&error))
    }

    /// Drops the App's key: GitHub refused it, it may have been replaced in SSM.
    pub(super) async fn forget_app(&self) {
        self.app.lock().await.made = None;
    }

    /// Drops a token that GitHub refused, unless another call has replaced it already.
    pub(super) async fn forget_token(&self, installation: InstallationId, refused: &Secret) {
        let slot = self.slot(installation).await;
        slot.lock().await.made.take_if(|known| &known.token == refused);
    }

    async fn slot(&self, installation: InstallationId) -> Slot {
        Arc::clone(self.tokens.lock().await.entry(installation).or_default())
    }

    async fn read_key(&self) -> Result<AppKey, PortError> {
        let app_id = read_parameter(&self.ssm, &format!("{}/app-id", self.app_path)).await?;
        let pem = read_parameter(&self.ssm, &format!("{}/private-key", self.app_path)).await?;
        AppKey::parse(app_id.expose(), pem.expose()).map_err(|error| self.unusable(&error))
    }

    fn unusable(&self, error: &super::jwt::KeyError) -> PortError {
        PortError::new(format!("use of {}/private-key", self.app_path), Class::Misconfigured, error.to_string())
    }
}

impl GitHub {
    /// A token that reaches the scope, and the installation it is of. An id that GitHub does not know (any more) is
    /// looked up by owner, once.
    pub(super) async fn installation_token(
        &self,
        scope: &Scope,
        hint: Option<InstallationId>,
    ) -> Result<(InstallationId, Secret), PortError> {
        let owner = owner_of(scope).to_ascii_lowercase();
        let looked_up = self.authority.installations.lock().await.get(&owner).copied();
        if let Some(id) = looked_up.or(hint) {
            match self.token_of(id).await {
                Err(error) if error.class == Class::Absent => {}
                token => return token.map(|token| (id, token)),
            }
        }
        let id = self.look_up(scope).await.map_err(not_of_the_thing_asked_for)?;
        self.authority.installations.lock().await.insert(owner, id);
        let token = self.token_of(id).await.map_err(not_of_the_thing_asked_for)?;
        Ok((id, token))
    }

    async fn look_up(&self, scope: &Scope) -> Result<InstallationId, PortError> {
        let call = Call::get(format!("{}/installation", scope_path(scope)));
        let answer = self.as_app(&call).await?;
        let found = match (scope, answer.status) {
            // A login that is no organisation's is a user's.
            (Scope::Organization { owner }, StatusCode::NOT_FOUND) => {
                let call = Call::get(format!("/users/{}/installation", encoded(owner)));
                self.as_app(&call).await?.expect::<InstallationBody>(&call, StatusCode::OK)?
            }
            (Scope::Organization { .. } | Scope::Repository { .. }, _) => answer.expect(&call, StatusCode::OK)?,
        };
        Ok(found.id)
    }

    async fn token_of(&self, installation: InstallationId) -> Result<Secret, PortError> {
        let slot = self.authority.slot(installation).await;
        let mut slot = slot.lock().await;
        let now = SystemClock.now();
        if let Some(known) = &slot.made
            && now.plus(RENEWED_BEFORE) < known.expires_at
        {
            return Ok(known.token.clone());
        }
        slot.failure(now)?;
        let made = self.make_token(installation, now).await;
        slot.outcome(made).map(|made| made.token.clone())
    }

    async fn make_token(&self, installation: InstallationId, now: Timestamp) -> Result<InstallationToken, PortError> {
        let call = Call::post(format!("/app/installations/{installation}/access_tokens"), json!({}));
        let made = self.as_app(&call).await.and_then(|answer| answer.expect(&call, StatusCode::CREATED));
        let TokenBody { token, expires_at } = made.map_err(|error| match error.class {
            // A token too many changes nothing, so the call that needed it was never sent and can be sent again.
            Class::OutcomeUnknown => PortError { class: Class::Transient, ..error },
            Class::Transient
            | Class::Throttled { .. }
            | Class::NoCapacity
            | Class::Rejected
            | Class::Conflict
            | Class::Absent
            | Class::Denied
            | Class::Misconfigured => error,
        })?;
        // An end that we cannot read: the token serves this one call.
        let expires_at = Timestamp::parse(&expires_at).unwrap_or(now);
        Ok(InstallationToken { token: Secret::new(token), expires_at })
    }
}

/// A 404 of an installation says that the App is not installed (any more), and nothing of the runner or job that was
/// asked for.
fn not_of_the_thing_asked_for(error: PortError) -> PortError {
    if error.class == Class::Absent { PortError { class: Class::Denied, ..error } } else { error }
}
