//! `runner-scaler measure`: start, memory and size of each function's release binary, against the goals.
//!
//! The binaries run as they would on Lambda, each time in a fresh process, against the local stack's AWS and GitHub.
//! Calls go over plain HTTP on loopback: a TLS handshake (about 2 ms with ring) comes on top of what is shown.

mod goals;
mod runtime;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use runner_scaler_world::Settings;
use runner_scaler_world::http::deliver::signature;
use runner_scaler_world::http::server::WorldServer;
use serde_json::{Value, json};

use crate::Outcome;
use crate::console::Console;
use crate::failure::Failure;
use crate::functions::{Function, deployment_package};
use crate::local::secrets::Secrets;
use crate::local::stack::{Aws, AwsSettings};
use crate::local::{loopback_client, python, require_linux, run_folder, scenario, stage};
use crate::measure::goals::{Measured, table};
use crate::measure::runtime::{Sample, Subject, invoke_fresh};
use crate::workspace::{Profile, Rules, Workspace};

/// Options of `runner-scaler measure`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Fresh processes for each function.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000), value_name = "N")]
    runs: u32,
    /// Use the release binaries that are there.
    #[arg(long)]
    no_build: bool,
}

/// Where the measured functions run.
struct Bench {
    aws: Aws,
    server: WorldServer,
    secrets: Secrets,
    binaries: Vec<(Function, PathBuf)>,
}

/// Measures every function and shows the table.
pub(crate) async fn run(options: &Options, console: &Console) -> Result<Outcome, Failure> {
    require_linux()?;
    let workspace = Workspace::locate()?;
    if !options.no_build {
        console.event("setup", "building (cargo build --release --workspace --bins); this takes minutes");
        Workspace::build(Profile::Release, Rules::Whole)?;
    }
    let bench = Bench::start(&workspace, console).await?;
    console.event("setup", format!("logs in {}", bench.aws.folder.display()));
    let mut samples: Vec<(Function, Sample)> = Vec::new();
    for round in 0..options.runs {
        bench.round(round, &mut samples).await?;
        console.event("measure", format!("round {} of {}", round + 1, options.runs));
    }
    let measured: Vec<Measured> = bench
        .binaries
        .iter()
        .map(|(function, binary)| measured(*function, binary, &samples))
        .collect::<Result<_, _>>()?;
    let errors: Vec<String> = samples
        .iter()
        .filter_map(|(function, sample)| Some(format!("{}: {}", function.name(), sample.answer.as_ref().err()?)))
        .collect();
    console.line(format_args!("\n{}\n", table(&measured)));
    console.line("Plain HTTP on loopback: a TLS handshake is not included.");
    for error in &errors {
        console.line(format_args!("an answer was an error: {error}"));
    }
    let met = measured.iter().all(|row| row.missed().is_empty());
    Ok(if met && errors.is_empty() { Outcome::Good } else { Outcome::Bad })
}

impl Bench {
    async fn start(workspace: &Workspace, console: &Console) -> Result<Self, Failure> {
        let binaries = Function::ALL
            .into_iter()
            .map(|function| Ok((function, workspace.binary(function, Profile::Release)?)))
            .collect::<Result<_, Failure>>()?;
        let python = python::emulator_python(&workspace.local().join("venv"), console)?;
        let folder = run_folder(workspace)?;
        let secrets = Secrets::generate()?;
        let fleets = scenario::Play::Whole { jobs: 1_000 }.fleets();
        let server = stage::start_world(Settings::local(), 1, &secrets).await?;
        let settings = AwsSettings {
            world_url: server.base_url(),
            secrets: &secrets,
            fleets: &fleets,
            mutant: None,
            folder: &folder,
            python: &python,
        };
        let aws = Aws::start(&loopback_client()?, &settings).await?;
        Ok(Self { aws, server, secrets, binaries })
    }

    /// Every function once: a new job's delivery, the message that came of it, and three ticks.
    async fn round(&self, round: u32, samples: &mut Vec<(Function, Sample)>) -> Result<(), Failure> {
        let shape = |what: &str| Failure::Shape { what: what.to_owned() };
        let body = scenario::payload_with_job_id(500_000_000 + u64::from(round)).map_err(|_| shape("the payload"))?;
        {
            let mut world = self.server.world();
            let (github, mut cx) = world.github();
            github.add_job_from_payload(&mut cx, &body, 60_000).map_err(|_| shape("the payload"))?;
        }
        for (function, binary) in &self.binaries {
            let event = match function {
                Function::Webhook => delivery(&body, &self.secrets.webhook_secret),
                Function::ScaleUp => {
                    let message = self.aws.emulator.receive_message(&self.aws.queue_url).await?;
                    batch(&message.ok_or_else(|| shape("the queue: the webhook sent no message, its answer"))?)
                }
                Function::ScaleDown | Function::OrphanSweeper | Function::DemandReconciler => json!({}),
            };
            let subject = Subject {
                function: *function,
                binary,
                variables: &self.aws.variables,
                endpoint: self.aws.emulator.base_url(),
                log: &self.aws.folder.join(format!("{}.log", function.name())),
            };
            samples.push((*function, invoke_fresh(&subject, &event).await?));
        }
        Ok(())
    }
}

/// A function URL's event (payload format 2.0) for a signed delivery.
fn delivery(body: &[u8], secret: &str) -> Value {
    json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/",
        "rawQueryString": "",
        "headers": {
            "content-type": "application/json",
            "user-agent": "GitHub-Hookshot/0000000",
            "x-github-event": "workflow_job",
            "x-github-delivery": "6e8b6e20-0000-4000-8000-000000000002",
            "x-hub-signature-256": signature(secret, body),
        },
        "requestContext": { "http": { "method": "POST", "path": "/", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1" } },
        "body": String::from_utf8_lossy(body),
        "isBase64Encoded": false,
    })
}

/// An event source mapping's batch of one message.
fn batch(body: &str) -> Value {
    json!({ "Records": [{
        "messageId": "00000000-0000-4000-8000-000000000003",
        "receiptHandle": "measured",
        "body": body,
        "attributes": { "ApproximateReceiveCount": "1", "SentTimestamp": "0", "ApproximateFirstReceiveTimestamp": "0", "SenderId": "0" },
        "messageAttributes": {},
        "md5OfBody": "",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:scale-up",
        "awsRegion": "us-east-1",
    }] })
}

fn measured(function: Function, binary: &PathBuf, samples: &[(Function, Sample)]) -> Result<Measured, Failure> {
    let own = || samples.iter().filter(|(of, _)| *of == function).map(|(_, sample)| sample);
    let size = std::fs::metadata(binary).map_err(Failure::io(format!("cannot read {}", binary.display())))?.len();
    let zip = deployment_package(binary)?.len() as u64;
    let peak_kib = own().map(|sample| sample.peak_kib).max().unwrap_or_default();
    Ok(Measured {
        function,
        ready_ms: own().map(|sample| milliseconds(sample.start_to_ready)).collect(),
        answer_ms: own().map(|sample| milliseconds(sample.start_to_answer)).collect(),
        memory_mib: mebi(peak_kib * 1_024),
        binary_mib: mebi(size),
        zip_mib: mebi(zip),
    })
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

#[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^52 bytes")]
fn mebi(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}
