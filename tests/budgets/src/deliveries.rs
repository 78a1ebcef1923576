//! The webhook's own work on GitHub's real payloads: verify, parse, match. No call is in it.

use std::hint::black_box;
use std::time::{Duration, Instant};

use comfy_table::{Table, presets::ASCII_MARKDOWN};
use runner_scaler_core::config::{Environment, Policy, parse_policy};
use runner_scaler_core::time::Timestamp;
use runner_scaler_core::webhook::{Event, Route, WebhookSecrets, parse, route};
use serde_json::json;

use crate::process::{Failure, variables};

/// Batches of each step; the fastest counts, for all else on the machine only ever slows a batch down.
const BATCHES: u32 = 9;

/// Fleets of the policy that the jobs are matched against; the last one fits, so that every one is looked at.
const FLEETS: usize = 20;

const SECRETS: &str = "a first secret of a good length\na second secret of a good length";

macro_rules! payloads {
    ($($kind:literal $path:literal,)*) => {
        [$(($kind, $path, include_bytes!(concat!("../../../shared/core/tests/payloads/", $path)).as_slice()),)*]
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

/// How often each step is done in a batch.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Selection {
    /// Deliveries in a batch.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// What one delivery costs, step by step.
struct Cost {
    verify: Duration,
    parse: Duration,
    route: Duration,
}

/// Measures every payload and returns the table.
///
/// # Errors
/// A payload of GitHub's is not what it should be.
pub fn run(selection: Selection) -> Result<Table, Failure> {
    let policy = policy()?;
    let secrets = WebhookSecrets::parse(SECRETS).map_err(Failure::inside("secrets"))?;
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(["payload", "bytes", "verify, µs", "parse, µs", "match, µs", "together, µs", "what follows"]);
    for (kind, path, body) in PAYLOADS {
        let event = parse(Some(kind), body).map_err(Failure::inside(path))?;
        let cost = measure(selection.rounds, &secrets, &policy, (kind, body), &event);
        let [verify, parse, route] = [cost.verify, cost.parse, cost.route].map(|each| each / selection.rounds);
        let follows = match runner_scaler_core::webhook::route(event, &policy, Timestamp(0)) {
            Route::Enqueue(_) => "queue".to_owned(),
            Route::Record(_) => "ledger".to_owned(),
            Route::Ignore(why) => format!("nothing: {why:?}"),
        };
        let name = path.trim_end_matches(".json").trim_end_matches(".payload").to_owned();
        let [verify, parse, route, all] = [verify, parse, route, verify + parse + route].map(microseconds);
        table.add_row([name, body.len().to_string(), verify, parse, route, all, follows]);
    }
    Ok(table)
}

fn measure(rounds: u32, secrets: &WebhookSecrets, policy: &Policy, (kind, body): (&str, &[u8]), event: &Event) -> Cost {
    // Whether it matches or not, the HMAC under both secrets is made and compared.
    let signature = format!("sha256={}", "0".repeat(64));
    Cost {
        verify: fastest(rounds, || secrets.verify([signature.as_str()].into_iter(), black_box(body))),
        parse: fastest(rounds, || parse(Some(kind), black_box(body))),
        // With a copy of the event, which the function itself need not make.
        route: fastest(rounds, || route(black_box(event).clone(), policy, Timestamp(0))),
    }
}

fn fastest<T>(rounds: u32, mut step: impl FnMut() -> T) -> Duration {
    let batch = |_| {
        let started = now();
        for _ in 0..rounds {
            black_box(step());
        }
        now().duration_since(started)
    };
    (0..BATCHES).map(batch).min().unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "microseconds are measured here, and the Clock port counts milliseconds")]
fn now() -> Instant {
    Instant::now()
}

fn microseconds(duration: Duration) -> String {
    format!("{}.{}", duration.as_micros(), duration.as_nanos() % 1_000 / 100)
}

fn policy() -> Result<Policy, Failure> {
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
    let of = |name: &str| {
        variables("http://127.0.0.1:1").into_iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    };
    let environment = Environment::from_vars(of).map_err(Failure::inside("variables"))?;
    parse_policy(&document.to_string(), &environment).map_err(Failure::inside("document"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_payload_is_measured_and_goes_where_it_belongs() {
        let table = run(Selection { rounds: 1 }).expect("a table").to_string();
        let ends = |what: &str| table.lines().filter(|line| line.trim_end_matches(['|', ' ']).ends_with(what)).count();
        assert_eq!((ends("queue"), ends("ledger")), (2, 4), "{table}");
        assert_eq!(table.lines().count(), 2 + PAYLOADS.len(), "{table}");
    }
}
