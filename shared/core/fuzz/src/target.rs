//! One fuzz input as one delivery: nothing in it may panic, and none may be accepted that was not signed.
//!
//! Whether it was signed is judged here once more, by comparing texts, and not with the code under test.

use std::cell::Cell;
use std::pin::pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use runner_scaler_core::config::{Environment, Policy, parse_policy};
use runner_scaler_core::error::PortError;
use runner_scaler_core::ids::RunnerName;
use runner_scaler_core::ports::{Item, Key, Ledger, OpenPartition, Queue, Write};
use runner_scaler_core::scale_up::JobMessage;
use runner_scaler_core::time::Timestamp;
use runner_scaler_core::webhook::{
    BODY_BYTES_MAX, Body, Event, HttpRequest, SecretsSource, Taken, WebhookSecrets, handle, parse,
};
use sha2::Sha256;

/// The two that are active, and the one that is found when they are read again.
const SECRETS: [&str; 3] = ["the first secret of all", "the second secret of all", "the third, read again"];

const DOCUMENT: &str = r#"{"repositories": ["*/*"], "fleets": [{"name": "linux", "labels": ["self-hosted", "linux"],
    "matching": "subset", "runner_count_max": 5, "market": "spot", "launch_template": {"id": "lt-1", "version": "2"},
    "instance_types": ["m7i.large"], "subnet_ids": ["subnet-1"]}]}"#;

/// How the delivery is signed; the input's first byte says which, `a` the first.
#[derive(Clone, Copy, Debug)]
enum Signing {
    Right(usize),
    Foreign,
    Absent,
    Empty,
    Twice,
    JoinedByComma,
    UpperCase,
    Sha1Prefix,
    OneBitOff,
    /// The header is the input's second line.
    Own,
}

const SIGNINGS: [Signing; 12] = [
    Signing::Right(0),
    Signing::Right(1),
    Signing::Right(2),
    Signing::Foreign,
    Signing::Absent,
    Signing::Empty,
    Signing::Twice,
    Signing::JoinedByComma,
    Signing::UpperCase,
    Signing::Sha1Prefix,
    Signing::OneBitOff,
    Signing::Own,
];

/// `X-GitHub-Event`, by the second byte.
const KINDS: [Option<&str>; 6] =
    [Some("workflow_job"), Some("ping"), Some("push"), None, Some(""), Some("workflow_job,workflow_job")];

/// How the body travels, by the third byte.
#[derive(Clone, Copy, Debug)]
enum Carried {
    /// Where it is text as text, else in base64.
    AsItIs,
    Base64,
    /// Flagged as base64 whatever it is.
    Flagged,
}

const CARRIED: [Carried; 3] = [Carried::AsItIs, Carried::Base64, Carried::Flagged];

/// Handles the delivery that the input describes: three bytes of choices, for [`Signing::Own`] a line, then the body.
///
/// # Panics
/// It is accepted and was not signed, or refused and was, or has an effect that it must not have, or something that was
/// read from it is outside the limits.
pub(crate) fn check(input: &[u8]) {
    let [signing, kind, carried, rest @ ..] = input else { return };
    let signing = chosen(&SIGNINGS, *signing);
    let (header, body) = if matches!(signing, Signing::Own) { split_line(rest) } else { (String::new(), rest) };
    let (carried, bytes) = carry(chosen(&CARRIED, *carried), body);
    let signatures = signatures(signing, header, bytes.as_deref().unwrap_or_default());
    let kind = chosen(&KINDS, *kind);
    let headers = signatures.iter().map(|value| ("X-Hub-Signature-256", value.as_str()));
    let headers = headers.chain(kind.map(|kind| ("x-github-event", kind)));
    let headers = headers.chain([("content-type", "application/json"), ("x-github-delivery", "\u{1f680}\n")]);
    let request = HttpRequest {
        method: "POST".to_owned(),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        body: carried,
    };

    let ports = Ports { effects: Cell::new(0) };
    let secrets = WebhookSecrets::parse(&SECRETS[..2].join("\n")).expect("long enough");
    let taken = now(handle(&ports, policy(), &secrets, request, Timestamp(1))).taken;

    match (&bytes, taken) {
        (None, Taken::NotBase64) => {}
        (Some(bytes), Taken::TooLarge) => assert!(bytes.len() > BODY_BYTES_MAX, "{} bytes", bytes.len()),
        (Some(bytes), taken) => {
            let signed =
                matches!(signatures.as_slice(), [only] if SECRETS.iter().any(|secret| *only == sign(secret, bytes)));
            assert_eq!(!signed, matches!(taken, Taken::Unsigned(_)), "{signing:?} was {taken:?}");
        }
        (None, taken) => panic!("what is no base64 was {taken:?}"),
    }
    let may_act = matches!(taken, Taken::Queued | Taken::Recorded);
    assert_eq!(ports.effects.get() > 0, may_act, "{taken:?} had {} effects", ports.effects.get());
    within_limits(kind, &bytes.unwrap_or_default());
}

fn chosen<T: Copy>(choices: &[T], byte: u8) -> T {
    choices[usize::from(byte.wrapping_sub(b'a')) % choices.len()]
}

fn split_line(input: &[u8]) -> (String, &[u8]) {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    (String::from_utf8_lossy(&input[..end]).into_owned(), input.get(end + 1..).unwrap_or_default())
}

/// The body as it is carried, and its bytes; none where it is flagged as base64 and is none.
fn carry(carried: Carried, body: &[u8]) -> (Body, Option<Vec<u8>>) {
    match (carried, std::str::from_utf8(body)) {
        (Carried::Flagged, Ok(text)) => (Body::Base64(text.to_owned()), STANDARD.decode(text).ok()),
        (Carried::AsItIs, Ok(text)) => (Body::Text(text.to_owned()), Some(body.to_vec())),
        (Carried::Base64 | Carried::AsItIs | Carried::Flagged, _) => {
            (Body::Base64(STANDARD.encode(body)), Some(body.to_vec()))
        }
    }
}

fn signatures(signing: Signing, own: String, body: &[u8]) -> Vec<String> {
    let right = || sign(SECRETS[0], body);
    match signing {
        Signing::Right(which) => vec![sign(SECRETS[which], body)],
        Signing::Foreign => vec![sign("somebody else's secret", body)],
        Signing::Absent => vec![],
        Signing::Empty => vec![String::new()],
        Signing::Twice => vec![right(), right()],
        Signing::JoinedByComma => vec![format!("{},{}", right(), right())],
        Signing::UpperCase => vec![right().to_uppercase()],
        Signing::Sha1Prefix => vec![right().replace("sha256=", "sha1=")],
        Signing::OneBitOff => {
            let mut other = body.to_vec();
            match other.first_mut() {
                Some(first) => *first ^= 1,
                None => other.push(0),
            }
            vec![sign(SECRETS[0], &other)]
        }
        Signing::Own => vec![own],
    }
}

fn sign(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key of any length");
    mac.update(body);
    mac.finalize().into_bytes().iter().fold("sha256=".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

fn within_limits(kind: Option<&str>, body: &[u8]) {
    let Ok(Event::Job(event)) = parse(kind, body) else { return };
    let id = 1..=i64::MAX.unsigned_abs();
    assert!(id.contains(&event.job_id.0) && id.contains(&event.run_id.0));
    assert!(event.runner_id.is_none_or(|runner| id.contains(&runner.0)));
    assert!(event.installation_id.is_none_or(|installation| id.contains(&installation.0)));
    assert!(event.labels.len() <= 100 && event.labels.iter().all(|label| (1..=256).contains(&label.len())));
    let texts = [event.runner_name.as_ref().map(RunnerName::as_str), event.conclusion.as_deref()];
    assert!(texts.into_iter().flatten().all(|text| (1..=256).contains(&text.len())));
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let of_paths = [event.repository.owner(), event.repository.name()].into_iter().chain(event.organization.as_deref());
    assert!(of_paths.into_iter().all(|text| !text.is_empty() && plain(text) && text != "." && text != ".."));
}

fn policy() -> &'static Policy {
    static POLICY: OnceLock<Policy> = OnceLock::new();
    POLICY.get_or_init(read_policy)
}

fn read_policy() -> Policy {
    let variable = |name: &str| match name {
        "RUNNER_SCALER_MUTANT" => None,
        "ENVIRONMENT" => Some("fuzz".to_owned()),
        _ => Some("http://127.0.0.1:1".to_owned()),
    };
    let environment = Environment::from_vars(variable).expect("complete");
    parse_policy(DOCUMENT, &environment).expect("valid")
}

/// Ports that do as they are told and count what changes something.
struct Ports {
    effects: Cell<usize>,
}

impl Ports {
    fn effect(&self) {
        self.effects.set(self.effects.get() + 1);
    }
}

impl Ledger for Ports {
    async fn read(&self, _keys: &[Key]) -> Result<Vec<Item>, PortError> {
        Ok(Vec::new())
    }

    async fn write(&self, _writes: &[Write]) -> Result<(), PortError> {
        self.effect();
        Ok(())
    }

    async fn open(&self, _: &OpenPartition, _: Timestamp, _: usize) -> Result<Vec<Item>, PortError> {
        Ok(Vec::new())
    }
}

impl Queue for Ports {
    async fn send(&self, _message: &JobMessage, _delay: Duration) -> Result<(), PortError> {
        self.effect();
        Ok(())
    }
}

impl SecretsSource for Ports {
    async fn reread(&self) -> Option<WebhookSecrets> {
        WebhookSecrets::parse(SECRETS[2]).ok()
    }
}

/// The output of a future that never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the ports answer at once"),
    }
}
