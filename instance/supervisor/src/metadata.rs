//! Instance metadata (`IMDSv2`): who we are, what our tags say, and the role's credentials.

use crate::clock::Clock;
use crate::http::{HttpError, plain_agent, text};
use crate::secret::Secret;
use aws_credential_types::Credentials;
use runner_supervisor_decision::Millis;
use serde_json::Value;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use ureq::Agent;
use ureq::http::StatusCode;

/// The longest life of a session token, in seconds, and when it is replaced.
const TOKEN_SECONDS: &str = "21600";
const TOKEN_USED_MS: Millis = 3 * 3_600 * 1_000;

/// Credentials are read again after this time: metadata renews them well before they expire (EC2 user guide, "Retrieve
/// security credentials from instance metadata", read 2026-11-26: new ones at least 5 min before).
const CREDENTIALS_USED_MS: Millis = 240_000;

/// The tag by which the control plane asks the instance to end itself.
const DRAIN_TAG: &str = "meta-data/tags/instance/ghr:drain";

/// Who we are. None of it changes while the instance lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The instance's id.
    pub(crate) instance_id: String,
    /// Its region.
    pub(crate) region: String,
    /// The domain of its partition's services.
    pub(crate) domain: String,
}

/// The client of instance metadata.
pub(crate) struct Metadata {
    endpoint: String,
    agent: Agent,
    clock: Arc<dyn Clock>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    token: Option<(Secret, Millis)>,
    identity: Option<Identity>,
    credentials: Option<(Credentials, Millis)>,
}

impl Metadata {
    /// A client; nothing is asked yet.
    #[must_use]
    pub(crate) fn new(endpoint: String, clock: Arc<dyn Clock>) -> Self {
        Self { endpoint, agent: plain_agent(), clock, known: Mutex::default() }
    }

    /// Who we are.
    ///
    /// # Errors
    /// When metadata does not say.
    pub(crate) fn identity(&self) -> Result<Identity, HttpError> {
        if let Some(identity) = &self.known().identity {
            return Ok(identity.clone());
        }
        let instance_id = self.required("meta-data/instance-id")?;
        let region = self.required("meta-data/placement/region")?;
        let domain = self.get("meta-data/services/domain")?.unwrap_or_else(|| "amazonaws.com".to_owned());
        let identity = Identity { instance_id, region, domain };
        self.known().identity = Some(identity.clone());
        Ok(identity)
    }

    /// The value of our drain tag; `None` when there is none.
    ///
    /// # Errors
    /// When metadata does not answer: that says nothing of the tag.
    pub(crate) fn drain_tag(&self) -> Result<Option<String>, HttpError> {
        self.get(DRAIN_TAG)
    }

    /// The role's credentials.
    ///
    /// # Errors
    /// When there are none.
    pub(crate) fn credentials(&self) -> Result<Credentials, HttpError> {
        let now = self.clock.since_boot();
        if let Some((credentials, read_at)) = &self.known().credentials
            && now < read_at + CREDENTIALS_USED_MS
        {
            return Ok(credentials.clone());
        }
        let path = "meta-data/iam/security-credentials/";
        let roles = self.required(path)?;
        let role = roles.lines().next().unwrap_or_default();
        let found = self.required(&format!("{path}{role}"))?;
        let shape = || HttpError::Shape { what: format!("instance metadata {path}<role>") };
        let found: Value = serde_json::from_str(&found).map_err(|_| shape())?;
        let field = |name: &str| found.get(name).and_then(Value::as_str).ok_or_else(shape);
        let credentials = Credentials::new(
            field("AccessKeyId")?,
            field("SecretAccessKey")?,
            Some(field("Token")?.to_owned()),
            None,
            "instance metadata",
        );
        self.known().credentials = Some((credentials.clone(), now));
        Ok(credentials)
    }

    /// What AWS refused is not used again.
    pub(crate) fn forget_credentials(&self) {
        self.known().credentials = None;
    }

    fn required(&self, item: &str) -> Result<String, HttpError> {
        let refused = |status| HttpError::Refused { what: format!("instance metadata {item}"), status, code: None };
        self.get(item)?.ok_or_else(|| refused(StatusCode::NOT_FOUND))
    }

    /// An item; `None` when the instance does not have it.
    fn get(&self, item: &str) -> Result<Option<String>, HttpError> {
        let what = format!("instance metadata {item}");
        let token = self.token()?;
        let request = self.agent.get(format!("{}/latest/{item}", self.endpoint));
        let answer = request.header("x-aws-ec2-metadata-token", token.expose()).call();
        let mut response = answer.map_err(|source| HttpError::NoAnswer { what: what.clone(), source })?;
        match response.status() {
            StatusCode::OK => text(&what, &mut response).map(Some),
            StatusCode::NOT_FOUND => Ok(None),
            status => {
                if status == StatusCode::UNAUTHORIZED {
                    self.known().token = None;
                }
                Err(HttpError::Refused { what, status, code: None })
            }
        }
    }

    fn token(&self) -> Result<Secret, HttpError> {
        let now = self.clock.since_boot();
        if let Some((token, issued_at)) = &self.known().token
            && now < issued_at + TOKEN_USED_MS
        {
            return Ok(token.clone());
        }
        let what = "instance metadata api/token".to_owned();
        let request = self.agent.put(format!("{}/latest/api/token", self.endpoint));
        let answer = request.header("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_SECONDS).send_empty();
        let mut response = answer.map_err(|source| HttpError::NoAnswer { what: what.clone(), source })?;
        if response.status() != StatusCode::OK {
            return Err(HttpError::Refused { what, status: response.status(), code: None });
        }
        let token = Secret::new(text(&what, &mut response)?);
        self.known().token = Some((token.clone(), now));
        Ok(token)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Every change is one assignment: what a thread that panicked left behind is whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
