//! Carries one delivery out, in the order of facts/security.md 6.1: size, signature, parse, route, effect. What follows
//! from a delivery is decided in `route`, what an event changes in `apply`.
//!
//! Answers carry no body: a stranger learns nothing from them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tracing::{info, warn};

use super::apply::apply_job_event;
use super::event::parse;
use super::route::{Route, route};
use super::signature::WebhookSecrets;
use crate::config::Policy;
use crate::error::PortError;
use crate::ledger::MissRecord;
use crate::ports::{Ledger, Queue};
use crate::time::Timestamp;

/// Larger bodies are refused before anything else is done with them: a `workflow_job` body has tens of KiB, and
/// reading without bound before the signature is what CVE-2026-42294 was about.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// A request as the function URL hands it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRequest {
    /// Its method.
    pub method: String,
    /// Its headers in any case, a name as often as it came.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Body,
}

/// A body as the function URL's event carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// `isBase64Encoded: false`: the bytes are the text's.
    Text(String),
    /// `isBase64Encoded: true`
    Base64(String),
}

/// The answer; it never has a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpAnswer {
    /// HTTP status.
    pub status: u16,
}

/// Takes one delivery.
///
/// # Guarantees
/// 202 only after the effect is durable: GitHub never sends a delivery again by itself. Nothing is parsed, written or
/// sent for a body that is not signed with one of the secrets.
///
/// The statuses: 202 done, 200 nothing to do, 400 signed but not understood, 401 not signed by us, 405 no POST,
/// 413 too large, 503 not durable (GitHub records the failure, and the deliveries API brings the event back).
pub async fn handle(
    ports: &(impl Ledger + Queue),
    policy: &Policy,
    secrets: &WebhookSecrets,
    request: HttpRequest,
    now: Timestamp,
) -> HttpAnswer {
    HttpAnswer { status: answer(ports, policy, secrets, request, now).await }
}

/// The answer to a request that its method or size alone refuses. Asked before the secrets are read as well, so that
/// what any stranger can send costs no call.
#[must_use]
pub fn refuse_at_sight(request: &HttpRequest) -> Option<HttpAnswer> {
    if request.method != "POST" {
        return Some(HttpAnswer { status: 405 });
    }
    // Base64 is four thirds of what it holds; judged before it is decoded.
    let (length, limit) = match &request.body {
        Body::Text(text) => (text.len(), BODY_BYTES_MAX),
        Body::Base64(text) => (text.len(), BODY_BYTES_MAX.div_ceil(3) * 4),
    };
    if length > limit {
        warn!(body_bytes = length, "refused a body of {length} bytes");
        return Some(HttpAnswer { status: 413 });
    }
    None
}

async fn answer(
    ports: &(impl Ledger + Queue),
    policy: &Policy,
    secrets: &WebhookSecrets,
    request: HttpRequest,
    now: Timestamp,
) -> u16 {
    if let Some(refused) = refuse_at_sight(&request) {
        return refused.status;
    }
    let body = match bytes(&request.body) {
        Ok(body) => body,
        Err(status) => return status,
    };
    if let Err(reason) = secrets.verify(values(&request.headers, "x-hub-signature-256"), &body) {
        warn!(reason = ?reason, body_bytes = body.len(), "refused a delivery: {reason}");
        return 401;
    }
    let delivery = delivery_id(&request.headers);
    let event = match parse(values(&request.headers, "x-github-event").next(), &body) {
        Ok(event) => event,
        Err(error) => {
            warn!(delivery_id = delivery, error = %error, "could not read delivery {delivery}: {error}");
            return 400;
        }
    };
    let route = route(event, policy, now);
    match carry_out(ports, &route, delivery, now).await {
        Ok(status) => status,
        Err(error) => {
            warn!(delivery_id = delivery, error = %error, class = ?error.class, "delivery {delivery} failed: {error}");
            503
        }
    }
}

async fn carry_out(
    ports: &(impl Ledger + Queue),
    route: &Route,
    delivery: &str,
    now: Timestamp,
) -> Result<u16, PortError> {
    match route {
        Route::Enqueue(message) => {
            ports.send(message, std::time::Duration::ZERO).await?;
            let job_id = message.job_id;
            info!(delivery_id = delivery, job_id = %job_id, repository = %message.repository, "queued job {job_id}");
            Ok(202)
        }
        Route::Record(event) => {
            apply_job_event(ports, event, now).await?;
            Ok(202)
        }
        Route::Miss(record) => {
            let (job_id, miss) = (record.job_id, &record.miss);
            info!(delivery_id = delivery, job_id = %job_id, repository = %record.repository, "no fleet takes job {job_id}: {miss}");
            MissRecord::clone(record).note(ports).await?;
            Ok(202)
        }
        Route::Ignore(reason) => {
            info!(delivery_id = delivery, reason = ?reason, "ignored delivery {delivery}: {reason:?}");
            Ok(200)
        }
    }
}

fn bytes(body: &Body) -> Result<Vec<u8>, u16> {
    let bytes = match body {
        Body::Text(text) => text.as_bytes().to_vec(),
        Body::Base64(text) => STANDARD.decode(text).map_err(|_| 400_u16)?,
    };
    if bytes.len() > BODY_BYTES_MAX { Err(413) } else { Ok(bytes) }
}

fn values<'a>(headers: &'a [(String, String)], name: &'a str) -> impl Iterator<Item = &'a str> {
    headers.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
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
    use crate::fake::{Fake, fleet, policy, run};

    const SECRET: &str = "a secret of a good length";

    fn request(kind: &str, body: &[u8]) -> HttpRequest {
        HttpRequest {
            method: "POST".into(),
            headers: vec![
                ("x-github-event".into(), kind.into()),
                ("X-Hub-Signature-256".into(), sign(SECRET, body)),
                ("X-GitHub-Delivery".into(), "72d3162e-cc78-11e3-81ab-4c9367dc0958".into()),
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

    fn status(fake: &Fake, request: HttpRequest) -> u16 {
        let secrets = WebhookSecrets::parse(SECRET).expect("long enough");
        run(handle(fake, &hosted(), &secrets, request, Timestamp(9))).expect("not killed").status
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
            assert_eq!(fake.calls(), 0, "byte {position}");
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
            assert_eq!(answer.expect("not killed").status, 202);
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

    #[test]
    fn a_delivery_killed_anywhere_is_whole_after_its_redelivery() {
        for body in [QUEUED, IN_PROGRESS] {
            crate::fake::at_every_call(|fake, _| {
                status_or_killed(fake, body);
                fake.heal();
                assert_eq!(status(fake, request("workflow_job", body)), 202);
                let state = fake.state();
                assert!(!state.queue.is_empty() || !state.items.is_empty());
            });
        }
    }

    fn status_or_killed(fake: &Fake, body: &[u8]) {
        let secrets = WebhookSecrets::parse(SECRET).expect("long enough");
        run(handle(fake, &hosted(), &secrets, request("workflow_job", body), Timestamp(9)));
    }
}
