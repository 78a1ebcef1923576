//! Carries one delivery out, in the order of facts/security.md 6.1: method, size and content type, signature, parse,
//! route, effect. What follows from a delivery is decided in `route`, what an event changes in `apply`.
//!
//! Answers carry no body: a stranger learns nothing from them. The path is not asked: the signature alone says that a
//! request is GitHub's, and an API Gateway may stand in front with a stage of its own in the path.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tracing::{Instrument as _, info, info_span, warn};

use super::apply::apply_job_event;
use super::event::{Event, EventError, parse};
use super::route::{Ignored, Route, route};
use super::signature::{ActiveSecret, SecretsSource, SignatureError, WebhookSecrets};
use crate::config::{Mutant, Policy};
use crate::error::{Class, PortError};
use crate::ledger::MissRecord;
use crate::metrics::{Metric, Unit};
use crate::ports::{Ledger, Queue};
use crate::time::Timestamp;

/// Larger bodies are refused before anything else is done with them: a `workflow_job` body has tens of KiB, and
/// reading without bound before the signature is what CVE-2026-42294 was about.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// A request as the function URL or the HTTP API hands it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRequest {
    /// Its method.
    pub method: String,
    /// Its headers in any case, a name as often as it came.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Body,
}

/// A body as the event carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// `isBase64Encoded: false`: the bytes are the text's.
    Text(String),
    /// `isBase64Encoded: true`
    Base64(String),
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Its message is in the queue.
    Queued,
    /// What it says is in the ledger.
    Recorded,
    /// Nothing follows from it.
    Ignored(Ignored),
    /// Not a POST.
    NotPost,
    /// Larger than [`BODY_BYTES_MAX`].
    TooLarge,
    /// Its content type is another than JSON.
    NotJson,
    /// Flagged as base64, and none.
    NotBase64,
    /// Not signed with one of our secrets.
    Unsigned(SignatureError),
    /// Signed, and not understood.
    Unreadable(EventError),
    /// Its effect is not durable.
    Failed(Class),
    /// There are no usable secrets or no policy: no delivery can be taken.
    Misconfigured,
}

impl Taken {
    /// HTTP status of the answer, which never has a body.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Queued | Self::Recorded => 202,
            Self::Ignored(_) => 200,
            Self::NotBase64 | Self::Unreadable(_) => 400,
            Self::Unsigned(_) => 401,
            Self::NotPost => 405,
            Self::TooLarge => 413,
            Self::NotJson => 415,
            Self::Failed(_) | Self::Misconfigured => 503,
        }
    }

    /// As metrics call it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Recorded => "recorded",
            Self::Ignored(_) => "ignored",
            Self::NotPost => "not_post",
            Self::TooLarge => "too_large",
            Self::NotJson => "not_json",
            Self::NotBase64 => "not_base64",
            Self::Unsigned(_) => "unsigned",
            Self::Unreadable(_) => "unreadable",
            Self::Failed(_) => "failed",
            Self::Misconfigured => "misconfigured",
        }
    }
}

/// One request, handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handled {
    /// What became of it.
    pub taken: Taken,
    /// The secret that signed it, where one did.
    pub secret: Option<ActiveSecret>,
}

impl From<Taken> for Handled {
    fn from(taken: Taken) -> Self {
        Self { taken, secret: None }
    }
}

impl Handled {
    /// Numbers of this request: what became of it, and which secret signed it.
    #[must_use]
    pub fn metrics(self) -> Vec<Metric> {
        let one = |name, dimension, value: &str| Metric {
            name,
            unit: Unit::Count,
            value: 1,
            dimensions: vec![(dimension, value.to_owned())],
        };
        let secret = self.secret.map(|secret| one("DeliveriesVerified", "secret", secret.as_str()));
        [one("Requests", "verdict", self.taken.as_str())].into_iter().chain(secret).collect()
    }
}

/// Takes one delivery.
///
/// # Guarantees
/// 202 only after the effect is durable: GitHub never sends a delivery again by itself. Nothing is parsed, written or
/// sent for a body that is not signed with one of the secrets.
///
/// The statuses: 202 done, 200 nothing to do, 400 signed but not understood, 401 not signed by us, 405 no POST,
/// 413 too large, 415 not JSON, 503 not durable (GitHub records the failure, and the deliveries API brings the event
/// back).
pub async fn handle(
    ports: &(impl Ledger + Queue + SecretsSource),
    policy: &Policy,
    secrets: &WebhookSecrets,
    request: HttpRequest,
    now: Timestamp,
) -> Handled {
    if let Some(refused) = refuse_at_sight(&request) {
        return refused.into();
    }
    let (delivery, kind) = (delivery_id(&request.headers), kind(&request.headers));
    let span = info_span!("delivery", delivery_id = delivery, event = kind.map_or("unknown", plain_kind));
    async {
        let (body, secret) = match verified(ports, secrets, &request, policy.mutant).await {
            Ok(verified) => verified,
            Err(refused) => return refused.into(),
        };
        Handled { taken: take(ports, policy, kind, &body, now).await, secret: Some(secret) }
    }
    .instrument(span)
    .await
}

/// What a request's method, size or content type alone refuses. Asked before the secrets are read as well, so that what
/// any stranger can send costs no call.
#[must_use]
pub fn refuse_at_sight(request: &HttpRequest) -> Option<Taken> {
    if request.method != "POST" {
        return Some(Taken::NotPost);
    }
    let delivery_id = delivery_id(&request.headers);
    // Base64 is four thirds of what it holds; judged before it is decoded.
    let (length, limit) = match &request.body {
        Body::Text(text) => (text.len(), BODY_BYTES_MAX),
        Body::Base64(text) => (text.len(), BODY_BYTES_MAX.div_ceil(3) * 4),
    };
    if length > limit {
        warn!(delivery_id, body_bytes = length, verdict = "too_large", "refused a body of {length} bytes");
        return Some(Taken::TooLarge);
    }
    match content_type(&request.headers) {
        ContentType::Json => None,
        ContentType::Form => {
            warn!(
                delivery_id,
                verdict = "not_json",
                "refused delivery {delivery_id}: the webhook at GitHub sends forms; set its content type to \
                 application/json"
            );
            Some(Taken::NotJson)
        }
        ContentType::Other => {
            warn!(delivery_id, verdict = "not_json", "refused a request whose content type is not application/json");
            Some(Taken::NotJson)
        }
    }
}

/// The raw bytes, and the secret that signed them. Secrets that were replaced since they were read are asked for once.
async fn verified(
    source: &impl SecretsSource,
    secrets: &WebhookSecrets,
    request: &HttpRequest,
    mutant: Mutant,
) -> Result<(Vec<u8>, ActiveSecret), Taken> {
    let body = bytes(&request.body)?;
    if mutant.parses_before_verifying() {
        parse(kind(&request.headers), &body).map_err(Taken::Unreadable)?;
    }
    let signatures = || values(&request.headers, "x-hub-signature-256");
    let check = |secrets: &WebhookSecrets| secrets.verify_as(signatures(), &body, mutant);
    let mut checked = check(secrets);
    if checked == Err(SignatureError::Wrong)
        && let Some(newer) = source.reread().await
    {
        checked = check(&newer);
    }
    match checked {
        Ok(secret) => Ok((body, secret)),
        Err(reason) => {
            let body_bytes = body.len();
            #[cfg(feature = "mutants")]
            super::broken::log_the_right_signature(mutant, secrets, &body);
            warn!(reason = ?reason, body_bytes, verdict = "unsigned", "refused a delivery: {reason}");
            Err(Taken::Unsigned(reason))
        }
    }
}

/// A verified body to its effect. Says what became of it in one line.
async fn take(
    ports: &(impl Ledger + Queue),
    policy: &Policy,
    kind: Option<&str>,
    body: &[u8],
    now: Timestamp,
) -> Taken {
    let event = match parse(kind, body) {
        Ok(event) => event,
        Err(error) => {
            warn!(error = %error, verdict = "unreadable", "could not read a delivery: {error}");
            return Taken::Unreadable(error);
        }
    };
    let repository = match &event {
        Event::Job(event) => Some(event.repository.to_string()),
        Event::Ping | Event::Other => None,
    };
    let (repository, of) = (repository.as_deref(), repository.as_deref().unwrap_or("no repository"));
    let route = route(event, policy, now);
    let carried_out = carry_out(ports, &route, now);
    #[cfg(feature = "mutants")]
    let carried_out = super::broken::carried_out(ports, policy.mutant, &route, now, carried_out);
    match carried_out.await {
        Ok(Taken::Ignored(reason)) => {
            info!(repository, reason = ?reason, verdict = "ignored", "ignored a delivery of {of}: {reason:?}");
            Taken::Ignored(reason)
        }
        Ok(taken) => {
            let verdict = taken.as_str();
            info!(repository, verdict, "{verdict} a delivery of {of}");
            taken
        }
        Err(error) => {
            warn!(repository, error = %error, class = ?error.class, verdict = "failed", "a delivery of {of} failed: {error}");
            Taken::Failed(error.class)
        }
    }
}

async fn carry_out(ports: &(impl Ledger + Queue), route: &Route, now: Timestamp) -> Result<Taken, PortError> {
    match route {
        Route::Enqueue(message) => {
            ports.send(message, std::time::Duration::ZERO).await?;
            Ok(Taken::Queued)
        }
        Route::Record(event) => {
            apply_job_event(ports, event, now).await?;
            Ok(Taken::Recorded)
        }
        Route::Miss(record) => {
            let (job_id, miss) = (record.job_id, &record.miss);
            info!(job_id = %job_id, repository = %record.repository, "no fleet takes job {job_id}: {miss}");
            MissRecord::clone(record).note(ports).await?;
            Ok(Taken::Recorded)
        }
        Route::Ignore(reason) => Ok(Taken::Ignored(*reason)),
    }
}

fn bytes(body: &Body) -> Result<Vec<u8>, Taken> {
    let bytes = match body {
        Body::Text(text) => text.as_bytes().to_vec(),
        Body::Base64(text) => STANDARD.decode(text).map_err(|_| Taken::NotBase64)?,
    };
    if bytes.len() > BODY_BYTES_MAX { Err(Taken::TooLarge) } else { Ok(bytes) }
}

/// What GitHub's webhook settings may say, and whatever else comes.
enum ContentType {
    Json,
    Form,
    Other,
}

fn content_type(headers: &[(String, String)]) -> ContentType {
    let mut values = values(headers, "content-type");
    let (Some(only), None) = (values.next(), values.next()) else { return ContentType::Other };
    let media_type = only.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        ContentType::Json
    } else if media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        ContentType::Form
    } else {
        ContentType::Other
    }
}

fn values<'a>(headers: &'a [(String, String)], name: &'a str) -> impl Iterator<Item = &'a str> {
    headers.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

fn kind(headers: &[(String, String)]) -> Option<&str> {
    values(headers, "x-github-event").next()
}

/// For logs only: the header is not signed, so nothing but an event's name is repeated.
fn plain_kind(kind: &str) -> &str {
    let plain = kind.len() <= 64 && kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if plain { kind } else { "unknown" }
}

/// For logs only: the header is not signed, so nothing but a plain guid is repeated.
fn delivery_id(headers: &[(String, String)]) -> &str {
    let plain = |id: &&str| id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    values(headers, "x-github-delivery").find(plain).unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::super::event::tests::{IN_PROGRESS, OTHERS, QUEUED, WAITING};
    use super::super::signature::tests::sign;
    use super::*;
    use crate::error::Class;
    use crate::fake::{Fake, at_every_call, fleet, policy, run};
    use crate::ids::{Access, FleetName, InstanceId, JobId, LaunchToken, Repository, RunnerId, RunnerName, Scope};
    use crate::ledger::{InstanceRecord, JobStarted};

    const SECRET: &str = "a secret of a good length";
    const NEWER: &str = "a newer one of that length";

    fn request(kind: &str, body: &[u8]) -> HttpRequest {
        HttpRequest {
            method: "POST".into(),
            headers: vec![
                ("x-github-event".into(), kind.into()),
                ("X-Hub-Signature-256".into(), sign(SECRET, body)),
                ("X-GitHub-Delivery".into(), "72d3162e-cc78-11e3-81ab-4c9367dc0958".into()),
                ("Content-Type".into(), "application/json".into()),
            ],
            body: Body::Text(String::from_utf8(body.to_vec()).expect("UTF-8")),
        }
    }

    fn hosted() -> Policy {
        let mut policy = policy();
        policy.fleets = vec![fleet("linux")];
        policy.fleets[0].labels = vec!["ubuntu-latest".into()];
        policy
    }

    fn handled(fake: &Fake, request: HttpRequest) -> Handled {
        let secrets = WebhookSecrets::parse(SECRET).expect("long enough");
        run(handle(fake, &hosted(), &secrets, request, Timestamp(9))).expect("not killed")
    }

    fn status(fake: &Fake, request: HttpRequest) -> u16 {
        handled(fake, request).taken.status()
    }

    fn changed(mut request: HttpRequest, change: impl FnOnce(&mut HttpRequest)) -> HttpRequest {
        change(&mut request);
        request
    }

    #[test]
    fn each_request_gets_its_status_and_only_the_good_ones_an_effect() {
        let job = || request("workflow_job", QUEUED);
        let big = "x".repeat(BODY_BYTES_MAX + 1);
        let base64 = STANDARD.encode(QUEUED);
        let mut cases = vec![
            ("a queued job", job(), 202, 1),
            ("the same in base64", changed(job(), |r| r.body = Body::Base64(base64.clone())), 202, 1),
            ("base64 that is not flagged", changed(job(), |r| r.body = Body::Text(base64.clone())), 401, 0),
            ("flagged, and not base64", changed(job(), |r| r.body = Body::Base64("%".into())), 400, 0),
            ("no POST", changed(job(), |r| r.method = "GET".into()), 405, 0),
            ("one byte more", changed(job(), |r| r.body = Body::Text(format!("{} ", text(QUEUED)))), 401, 0),
            ("no signature", changed(job(), |r| drop(r.headers.remove(1))), 401, 0),
            ("the signature twice", changed(job(), |r| r.headers.push(r.headers[1].clone())), 401, 0),
            ("another secret", changed(job(), |r| r.headers[1].1 = sign("another long secret", QUEUED)), 401, 0),
            ("1 MiB and a byte", request("workflow_job", big.as_bytes()), 413, 0),
            ("the same in base64", changed(job(), |r| r.body = Body::Base64(STANDARD.encode(&big))), 413, 0),
            (
                "a charset besides",
                changed(job(), |r| r.headers[3].1 = "Application/JSON; charset=utf-8".into()),
                202,
                1,
            ),
            (
                "a form, as GitHub sends where it is set so",
                changed(job(), |r| r.headers[3].1 = "application/x-www-form-urlencoded".into()),
                415,
                0,
            ),
            ("no content type", changed(job(), |r| drop(r.headers.remove(3))), 415, 0),
            ("two content types", changed(job(), |r| r.headers.push(r.headers[3].clone())), 415, 0),
            ("two joined by a comma", changed(job(), |r| r.headers[3].1 += ",application/json"), 415, 0),
            ("no event header", changed(job(), |r| drop(r.headers.remove(0))), 400, 0),
            ("a job under another header", request("push", QUEUED), 400, 0),
            ("signed rubbish", request("workflow_job", b"{}"), 400, 0),
            ("an empty body, signed", request("workflow_job", b""), 400, 0),
            ("a waiting job", request("workflow_job", WAITING), 200, 0),
            ("a job in progress", request("workflow_job", IN_PROGRESS), 202, 0),
        ];
        cases.extend(OTHERS.map(|(kind, body)| (kind, request(kind, body), 200, 0)));
        for (case, request, expected, queued) in cases {
            let fake = Fake::new();
            assert_eq!(status(&fake, request), expected, "{case}");
            assert_eq!(fake.state().queue.len(), queued, "{case}");
            assert_eq!(fake.items().is_empty(), case != "a job in progress", "{case}");
        }
    }

    #[test]
    fn a_secret_replaced_since_it_was_read_is_asked_for_once_and_only_for_a_signature_it_may_have_made() {
        let newer = || Some(WebhookSecrets::parse(NEWER).expect("long enough"));
        let signed = |secret| changed(request("workflow_job", QUEUED), |r| r.headers[1].1 = sign(secret, QUEUED));
        let wrong = Taken::Unsigned(SignatureError::Wrong);
        for (case, held, sent, expected, asked) in [
            ("the kept secret", newer(), signed(SECRET), Taken::Queued, 0),
            ("the newer one", newer(), signed(NEWER), Taken::Queued, 1),
            ("neither", newer(), signed("anybody's secret of length"), wrong, 1),
            ("the newer one, and it may not be read", None, signed(NEWER), wrong, 1),
            (
                "no signature",
                newer(),
                changed(signed(NEWER), |r| drop(r.headers.remove(1))),
                Taken::Unsigned(SignatureError::Missing),
                0,
            ),
            (
                "rubbish",
                newer(),
                changed(signed(NEWER), |r| r.headers[1].1 = "sha256=0".into()),
                Taken::Unsigned(SignatureError::Malformed),
                0,
            ),
        ] {
            let fake = Fake::new();
            fake.state_mut().newer_secrets = held;
            assert_eq!(handled(&fake, sent).taken, expected, "{case}");
            assert_eq!(fake.calls_of("SecretsSource::reread"), asked, "{case}");
        }
    }

    #[test]
    fn the_metrics_say_what_became_of_a_request_and_which_secret_signed_it() {
        let secrets = WebhookSecrets::parse(&format!("{NEWER}\n{SECRET}")).expect("a rotation");
        let sent = request("workflow_job", QUEUED);
        let handled = run(handle(&Fake::new(), &hosted(), &secrets, sent, Timestamp(9))).expect("not killed");
        let numbers = |handled: Handled| -> Vec<String> {
            let metrics = handled.metrics().into_iter();
            metrics.map(|m| format!("{} {} {}", m.name, m.dimensions[0].0, m.dimensions[0].1)).collect()
        };
        assert_eq!(numbers(handled), ["Requests verdict queued", "DeliveriesVerified secret second"]);
        assert_eq!(numbers(Taken::NotPost.into()), ["Requests verdict not_post"]);
    }

    fn text(body: &[u8]) -> String {
        String::from_utf8(body.to_vec()).expect("UTF-8")
    }

    #[test]
    fn one_changed_byte_anywhere_is_refused() {
        let good = request("workflow_job", QUEUED);
        for position in (0..QUEUED.len()).step_by(97) {
            let mut body = QUEUED.to_vec();
            body[position] ^= 1;
            let fake = Fake::new();
            let forged = changed(good.clone(), |r| r.body = Body::Base64(STANDARD.encode(&body)));
            assert_eq!(status(&fake, forged), 401, "byte {position}");
            assert_eq!(fake.calls(), fake.calls_of("SecretsSource::reread"), "byte {position}");
        }
    }

    #[test]
    fn a_job_that_no_fleet_takes_is_kept_with_the_nearest_and_what_it_lacks() {
        let fake = Fake::new();
        let mut policy = hosted();
        policy.fleets[0].labels = vec!["ubuntu-latest".into(), "x64".into()];
        let secrets = WebhookSecrets::parse(SECRET).expect("long enough");
        for _ in 0..2 {
            let answer = run(handle(&fake, &policy, &secrets, request("workflow_job", QUEUED), Timestamp(9)));
            assert_eq!(answer.expect("not killed").taken.status(), 202);
        }
        let record = fake.all::<MissRecord>().pop().expect("kept");
        assert_eq!(
            record.miss.to_string(),
            r#"nearest is fleet linux; it matches exactly, and the job does not name ["x64"]"#
        );
        assert_eq!((fake.state().queue.len(), fake.items().len()), (0, 1));
    }

    #[test]
    fn nothing_is_accepted_that_is_not_durable() {
        for (call, kind, body) in [
            ("Queue::send", "workflow_job", QUEUED),
            ("Ledger::read", "workflow_job", IN_PROGRESS),
            ("Ledger::write", "workflow_job", IN_PROGRESS),
        ] {
            for class in [Class::Transient, Class::OutcomeUnknown, Class::Conflict, Class::Misconfigured] {
                let fake = Fake::new();
                fake.always_fail(call, class);
                assert_eq!(status(&fake, request(kind, body)), 503, "{call} {class:?}");
            }
        }
    }

    /// An event about job 1 on runner 7, whose instance has a record.
    fn on_our_runner(action: &str) -> Vec<u8> {
        let payload = serde_json::json!({
            "action": action,
            "workflow_job": {
                "id": 1, "run_id": 2, "labels": ["ubuntu-latest"], "runner_id": 7, "runner_name": "runner-i-1",
            },
            "repository": {"full_name": "octo/hello", "owner": {"login": "octo", "type": "Organization"}},
        });
        serde_json::to_vec(&payload).expect("JSON")
    }

    fn put_instance_record(fake: &Fake, has_started: bool) {
        let mut record = InstanceRecord::launched(
            InstanceId::new("i-1"),
            Access { scope: Scope::Organization { owner: "octo".into() }, installation_id: None },
            FleetName::new("linux"),
            LaunchToken::new("token"),
            RunnerName::new("runner-i-1"),
            Timestamp(1),
        );
        record.note_runner_id(RunnerId(7));
        if has_started {
            let repository = Repository::try_from("octo/hello".to_owned()).expect("a full name");
            let runner_id = Some(RunnerId(7));
            record.note_started(JobStarted { job_id: JobId(1), repository, at: Timestamp(2), runner_id });
        }
        fake.put(&record);
    }

    /// An event, the world that it comes to, whether its effect is durable, and how many plays there are at least.
    type Event = (&'static str, Vec<u8>, fn(&Fake), fn(&Fake) -> bool, usize);

    #[test]
    fn a_delivery_killed_anywhere_is_whole_after_its_redelivery() {
        fn record(fake: &Fake) -> Option<InstanceRecord> {
            fake.get("i-1")
        }
        let cases: [Event; 4] = [
            ("queued", QUEUED.to_vec(), |_| {}, |fake| !fake.state().queue.is_empty(), 5),
            ("in progress, before the record", IN_PROGRESS.to_vec(), |_| {}, |fake| !fake.items().is_empty(), 10),
            (
                "in progress",
                on_our_runner("in_progress"),
                |fake| put_instance_record(fake, false),
                |fake| record(fake).is_some_and(|r| r.job_started.is_some_and(|job| job.job_id == JobId(1))),
                10,
            ),
            (
                "completed",
                on_our_runner("completed"),
                |fake| put_instance_record(fake, true),
                |fake| record(fake).is_some_and(|r| r.job_completed.is_some_and(|job| job.job_id == JobId(1))),
                10,
            ),
        ];
        for (case, body, prepare, holds, plays_min) in cases {
            let played = at_every_call(|fake, fault| {
                prepare(fake);
                let first = delivered(fake, &body);
                // GitHub repeats none that was answered with 2xx, so its effect must be there by then.
                if first == Some(202) {
                    assert!(holds(fake), "{case}, {fault:?}: accepted without an effect");
                }
                fake.heal();
                assert_eq!(delivered(fake, &body), Some(202), "{case}, {fault:?}");
                assert!(holds(fake), "{case}, {fault:?}: lost");
            });
            assert!(played >= plays_min, "{case}: {played} plays");
        }
    }

    /// The status of one delivery; `None` when it was killed.
    fn delivered(fake: &Fake, body: &[u8]) -> Option<u16> {
        let secrets = WebhookSecrets::parse(SECRET).expect("long enough");
        let answer = run(handle(fake, &hosted(), &secrets, request("workflow_job", body), Timestamp(9)));
        answer.map(|answer| answer.taken.status())
    }
}
