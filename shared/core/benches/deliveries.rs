//! `cargo bench -p runner-scaler-core`: the webhook's own work on GitHub's real payloads (verify, parse, match) in
//! microseconds a delivery. No call is in it. Built as the function is: for size.

use std::hint::black_box;
use std::io::Write as _;
use std::time::{Duration, Instant};

use runner_scaler_core::config::{Environment, Policy, parse_policy};
use runner_scaler_core::time::Timestamp;
use runner_scaler_core::webhook::{Event, Route, WebhookSecrets, parse, route};
use serde_json::json;

/// Batches of each step; the fastest counts, for all else on the machine only ever slows a batch down.
const BATCHES: u32 = 9;

/// Fleets of the policy that the jobs are matched against; the last one fits, so that every one is looked at.
const FLEETS: usize = 20;

const SECRETS: &str = "a first secret of a good length\na second secret of a good length";

macro_rules! payloads {
    ($($kind:literal $path:literal,)*) => {
        [$(($kind, $path, include_bytes!(concat!("../tests/payloads/", $path)).as_slice()),)*]
    };
}

/// Event, file and body.
const PAYLOADS: [(&str, &str, &[u8]); 12] = payloads! {
    "workflow_job" "workflow_job/queued.payload.json",
    "workflow_job" "workflow_job/queued.with-deployment.payload.json",
    "workflow_job" "workflow_job/waiting.payload.json",
    "workflow_job" "workflow_job/in_progress.payload.json",
    "workflow_job" "workflow_job/in_progress.with-queued-steps.payload.json",
    "workflow_job" "workflow_job/completed.success.with-organization.payload.json",
    "workflow_job" "workflow_job/completed.failure.with-organization.payload.json",
    "ping" "other/ping.json",
    "push" "other/push.json",
    "check_run" "other/check_run.completed.json",
    "installation" "other/installation.created.json",
    "workflow_run" "other/workflow_run.completed.json",
};

/// Deliveries in a batch.
const ROUNDS: u32 = 1_000;

/// What one delivery costs, step by step.
struct Cost {
    verify: Duration,
    parse: Duration,
    route: Duration,
}

fn main() {
    let (policy, secrets) = (policy(), WebhookSecrets::parse(SECRETS).expect("two secrets of a good length"));
    let mut out = std::io::stdout().lock();
    let mut show = |name: &str, cells: [String; 5], follows: &str| {
        let [bytes, verify, parse, route, all] = cells;
        let line =
            format!("| {name:<48} | {bytes:>6} | {verify:>7} | {parse:>6} | {route:>6} | {all:>9} | {follows} |");
        writeln!(out, "{line}").expect("a standard output");
    };
    show("payload; microseconds", ["bytes", "verify", "parse", "match", "together"].map(str::to_owned), "what follows");
    for (kind, path, body) in PAYLOADS {
        let event = parse(Some(kind), body).expect(path);
        let Cost { verify, parse, route } = measure(&secrets, &policy, (kind, body), &event);
        let follows = match runner_scaler_core::webhook::route(event, &policy, Timestamp(0)) {
            Route::Enqueue(_) => "queue".to_owned(),
            Route::Record(_) => "ledger".to_owned(),
            Route::Miss(_) => "no fleet: ledger".to_owned(),
            Route::Ignore(why) => format!("nothing: {why:?}"),
        };
        let name = path.trim_end_matches(".json").trim_end_matches(".payload");
        let [verify, parse, route, all] = [verify, parse, route, verify + parse + route].map(microseconds);
        show(name, [body.len().to_string(), verify, parse, route, all], &follows);
    }
}

fn measure(secrets: &WebhookSecrets, policy: &Policy, (kind, body): (&str, &[u8]), event: &Event) -> Cost {
    // Whether it matches or not, the HMAC under both secrets is made and compared.
    let signature = format!("sha256={}", "0".repeat(64));
    Cost {
        verify: fastest(|| secrets.verify([signature.as_str()].into_iter(), black_box(body))),
        parse: fastest(|| parse(Some(kind), black_box(body))),
        // With a copy of the event, which the function itself need not make.
        route: fastest(|| route(black_box(event).clone(), policy, Timestamp(0))),
    }
}

fn fastest<T>(mut step: impl FnMut() -> T) -> Duration {
    let batch = |_| {
        let started = now();
        for _ in 0..ROUNDS {
            black_box(step());
        }
        now().duration_since(started)
    };
    (0..BATCHES).map(batch).min().unwrap_or_default() / ROUNDS
}

#[expect(clippy::disallowed_methods, reason = "microseconds are measured here, and the Clock port counts milliseconds")]
fn now() -> Instant {
    Instant::now()
}

fn microseconds(duration: Duration) -> String {
    format!("{}.{}", duration.as_micros(), duration.as_nanos() % 1_000 / 100)
}

fn policy() -> Policy {
    let fleet = |number: usize| {
        let labels = if number + 1 == FLEETS {
            ["ubuntu-latest".to_owned(), "k8s".to_owned(), "self-hosted".to_owned()]
        } else {
            ["self-hosted".to_owned(), "linux".to_owned(), format!("size-{number}")]
        };
        json!({
            "name": format!("fleet-{number}"), "labels": labels, "matching": "subset", "runner_count_max": 5,
            "market": "spot", "launch_template": { "id": "lt-1", "version": "1" },
            "instance_types": ["m7i.large"], "subnet_ids": ["subnet-1"],
        })
    };
    let document = json!({ "fleets": (0..FLEETS).map(fleet).collect::<Vec<_>>() });
    let variable = |name: &str| match name {
        "RUNNER_SCALER_MUTANT" => None,
        "ENVIRONMENT" => Some("bench".to_owned()),
        _ => Some("http://127.0.0.1:1".to_owned()),
    };
    let environment = Environment::from_vars(variable).expect("complete");
    parse_policy(&document.to_string(), &environment).expect("valid")
}
