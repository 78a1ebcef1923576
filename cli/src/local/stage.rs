//! One run: everything that is up, the loop that plays the scenario on it, and its end.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use runner_scaler_world::http::server::{ServerSettings, WorldServer, wall_now};
use runner_scaler_world::trap::{CallPattern, Phase, Trap, TrapAction};
use runner_scaler_world::truth::{Fact, Outside};
use runner_scaler_world::{HostEffect, Millis, Settings, Tape, World, WorldEvent};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::Outcome;
use crate::console::Console;
use crate::failure::Failure;
use crate::functions::Function;
use crate::local::document::{FleetSpec, RUNNER_PARAMETER_PATH};
use crate::local::failures::{EmulatorLog, FailedInvocation};
use crate::local::hosts::Hosts;
use crate::local::kills::{Kill, Killed, Place};
use crate::local::left::Left;
use crate::local::options::{Mutant, Options};
use crate::local::report::{Observed, Report};
use crate::local::scenario::{self, Director};
use crate::local::secrets::Secrets;
use crate::local::stack::{Aws, AwsSettings};
use crate::local::{keep, loopback_client, python, run_folder, ticker};
use crate::workspace::{Profile, Workspace};

/// How often the director looks at the clock.
const STEP: Duration = Duration::from_millis(200);

/// How long nothing may be left before the run counts as over: longer than a pass of the functions takes to act.
const QUIET_MS: Millis = 3_000;

/// Everything that is up; it ends when this is dropped.
pub(crate) struct Stage<'a> {
    options: &'a Options,
    console: &'a Console,
    // Dropped in this order: first who acts, then what is acted upon.
    _tickers: Tickers,
    hosts: Hosts,
    aws: Aws,
    server: WorldServer,
    effects: mpsc::UnboundedReceiver<HostEffect>,
    events: broadcast::Receiver<WorldEvent>,
    failed: mpsc::UnboundedReceiver<FailedInvocation>,
    emulator_log: EmulatorLog,
    failures: BTreeMap<Function, u64>,
    director: Director,
    fleets: Vec<FleetSpec>,
    secrets: Secrets,
    webhook_url: String,
}

/// Tasks that end with their owner.
struct Tickers(Vec<JoinHandle<()>>);

impl Drop for Tickers {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

/// What a step of the loop brought.
enum News {
    Event(WorldEvent),
    Effect(HostEffect),
    Failed(FailedInvocation),
    Time,
}

impl<'a> Stage<'a> {
    /// Starts the world, AWS and the functions.
    pub(crate) async fn set(
        options: &'a Options,
        console: &'a Console,
        workspace: &Workspace,
        profile: Profile,
    ) -> Result<Self, Failure> {
        let python = python::emulator_python(&workspace.local().join("venv"), console)?;
        let folder = run_folder(workspace)?;
        let http = loopback_client()?;
        let secrets = Secrets::generate()?;
        let fleets = options.play().fleets();
        let mut server = start_world(settings(options), options.seed, &secrets).await?;
        let events = server.subscribe();
        let effects = server.take_effects().ok_or_else(|| Failure::Shape { what: "the world server".to_owned() })?;
        console.event("setup", format!("world at {}, logs in {}", server.base_url(), folder.display()));
        let aws = Aws::start(
            &http,
            &AwsSettings {
                world_url: server.base_url(),
                secrets: &secrets,
                fleets: &fleets,
                mutant: options.mutant.map(Mutant::name),
                folder: &folder,
                python: &python,
            },
        )
        .await?;
        console.event("setup", format!("AWS at {}", aws.emulator.base_url()));
        let webhook_url = aws.deploy(workspace, profile).await?;
        server.deliver_to(&webhook_url);
        console.event("setup", format!("webhook at {webhook_url}"));
        for kill in &options.kill_function {
            match kill.place() {
                Place::World => server.world().set_trap(kill_trap(kill)),
                Place::Emulator => aws.proxy.kills().set(kill.clone()),
            }
        }
        let (failures_out, failed) = mpsc::unbounded_channel();
        let pause = Duration::from_secs(options.tick_seconds);
        let ticked = [Function::ScaleDown, Function::OrphanSweeper, Function::DemandReconciler];
        let ticked = ticked.into_iter().filter(|_| !pause.is_zero());
        let tickers =
            ticked.map(|function| ticker::start(aws.emulator.clone(), function, pause, failures_out.clone())).collect();
        Ok(Self {
            options,
            console,
            _tickers: Tickers(tickers),
            hosts: Hosts {
                world_url: server.base_url().to_owned(),
                emulator_url: aws.emulator.base_url().to_owned(),
                functions_endpoint: aws.proxy.base_url(),
                supervisor: workspace.supervisor(profile)?,
                folder: folder.clone(),
                console: console.clone(),
                running: BTreeMap::new(),
                killed: 0,
            },
            emulator_log: EmulatorLog::new(python::log_path(&folder)),
            aws,
            server,
            effects,
            events,
            failed,
            failures: BTreeMap::new(),
            director: Director::new(options.play()),
            fleets,
            secrets,
            webhook_url,
        })
    }

    /// Plays the scenario until nothing is left or the time is over, judges it and shows the report.
    pub(crate) async fn play(&mut self) -> Result<Outcome, Failure> {
        let began = wall_now();
        let limit_ms = i64::try_from(self.options.timeout_seconds).unwrap_or(i64::MAX).saturating_mul(1_000);
        let mut quiet_since = None;
        let late = loop {
            self.wait_a_step().await;
            let elapsed_ms = wall_now() - began;
            let scenes = self.director.play(&mut self.server.world(), elapsed_ms);
            for line in scenes.map_err(|error| Failure::Shape { what: format!("a scene's job ({error})") })? {
                self.console.event("scene", line);
            }
            let left = self.left().await?;
            if left.nothing() {
                if wall_now() - *quiet_since.get_or_insert_with(wall_now) >= QUIET_MS {
                    break Vec::new();
                }
            } else {
                quiet_since = None;
            }
            if elapsed_ms >= limit_ms {
                break left.late(self.options.timeout_seconds);
            }
        };
        let report = self.report(began, late).await?;
        self.aws.save_function_logs().await?;
        self.console.line(report.tables());
        if let Some(path) = &self.options.json {
            write_json(path, &report)?;
        }
        Ok(report.outcome())
    }

    /// Shows what can be done with the running stack and keeps it going.
    pub(crate) async fn keep(&mut self) -> Result<(), Failure> {
        let body = keep::prepare_delivery(&mut self.server.world(), &self.aws.folder)?;
        self.console.line(keep::instructions(
            &self.webhook_url,
            &self.secrets.webhook_secret,
            self.server.base_url(),
            self.aws.emulator.base_url(),
            &body,
        ));
        loop {
            self.wait_a_step().await;
        }
    }

    /// Deals with whatever happens during one step of time.
    async fn wait_a_step(&mut self) {
        let mut step = tokio::time::interval_at(tokio::time::Instant::now() + STEP, STEP);
        step.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let news = tokio::select! {
                event = self.events.recv() => match event {
                    Ok(event) => News::Event(event),
                    // Events that were missed are still in the world's log of facts; the server is ours and open.
                    Err(RecvError::Lagged(_) | RecvError::Closed) => continue,
                },
                Some(effect) = self.effects.recv() => News::Effect(effect),
                Some(failed) = self.failed.recv() => News::Failed(failed),
                _ = step.tick() => News::Time,
            };
            match news {
                News::Event(event) => self.happened(&event),
                News::Effect(effect) => self.hosts.carry_out(effect),
                News::Failed(failed) => self.invocation_failed(&failed),
                News::Time => break,
            }
        }
        for failed in self.emulator_log.new_failures() {
            self.invocation_failed(&failed);
        }
        for Killed { function, call, processes } in self.aws.proxy.kills().take_done() {
            self.hosts.killed += processes;
            let name = function.name();
            self.console.event("adversary", format!("SIGKILL to {name} during its {call}: {processes} process(es)"));
        }
    }

    fn happened(&mut self, event: &WorldEvent) {
        self.console.event(subject(&event.fact), &event.text);
        for line in self.director.react(&mut self.server.world(), &event.fact) {
            self.console.event("scene", line);
        }
    }

    fn invocation_failed(&mut self, failed: &FailedInvocation) {
        *self.failures.entry(failed.function).or_default() += 1;
        self.console.event(failed.function.name(), format!("invocation FAILED: {}", failed.why));
    }

    /// What is not over yet.
    async fn left(&self) -> Result<Left, Failure> {
        let mut left = Left::in_world(&self.server.world());
        if !self.director.is_over() {
            left.judged += 1;
        }
        // AWS is asked only when the world is at rest: the answer matters only then.
        if left.nothing() {
            left.judged += self.aws.emulator.parameters_below(RUNNER_PARAMETER_PATH).await?.len();
            let depth = self.aws.emulator.queue_depth(&self.aws.queue_url).await?;
            let messages = depth.waiting + depth.in_flight;
            if messages > 0 {
                left.others.push(format!("{messages} message(s) were in the queue"));
            }
        }
        Ok(left)
    }

    async fn report(&self, began: Millis, late: Vec<String>) -> Result<Report, Failure> {
        let outside = Outside {
            jit_parameters_left: self.aws.emulator.parameters_below(RUNNER_PARAMETER_PATH).await?,
            caps: self.fleets.iter().map(|fleet| (fleet.name.to_owned(), fleet.runner_count_max as usize)).collect(),
            runners_taken_max: self.options.play().runners_taken_max(),
        };
        let dead_letters = self.aws.emulator.queue_depth(&self.aws.dead_letters_url).await?;
        let observed = Observed {
            total_seconds: self.console.elapsed_seconds(),
            play_ms: wall_now() - began,
            aws_calls: self.aws.proxy.counts(),
            failures: self.failures.clone(),
            dead_letters: dead_letters.waiting + dead_letters.in_flight,
            outside,
            late,
            functions_killed: self.hosts.killed,
            waiting: self.director.waiting().into_iter().chain(self.aws.proxy.kills().waiting()).collect(),
            scenes: self.director.verdicts(&self.server.world()),
            play: self.options.play(),
        };
        Ok(Report::new(&self.server.world(), observed))
    }
}

/// A world with the App installed, on a free port of loopback.
pub(crate) async fn start_world(settings: Settings, seed: u64, secrets: &Secrets) -> Result<WorldServer, Failure> {
    let mut world = World::new(settings, Tape::from_seed(seed), wall_now());
    scenario::install(&mut world);
    let settings = ServerSettings {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        webhook_url: None,
        webhook_secret: secrets.webhook_secret.clone(),
        app_public_key_der: Some(secrets.public_key_der.clone()),
    };
    WorldServer::start(world, settings).await.map_err(Failure::io("cannot start the world"))
}

fn settings(options: &Options) -> Settings {
    let faults = &options.faults;
    let mut settings = Settings::local();
    settings.github.lying_busy_flag = faults.lying_busy_flag;
    settings.github.lose_webhooks = faults.lose_webhooks;
    settings.github.duplicate_webhooks = faults.duplicate_webhooks;
    settings.github.list_omission = faults.list_omission;
    settings.github.github_error_rate = faults.github_errors;
    settings.ec2.throttle_rate = faults.throttle_ec2;
    settings
}

/// The call took effect, its answer is lost with the caller: the worst moment to die in.
fn kill_trap(kill: &Kill) -> Trap {
    Trap {
        on: CallPattern {
            operation: Some(kill.call.clone()),
            caller: Some(kill.function.name().to_owned()),
            ..CallPattern::default()
        },
        phase: Phase::AfterEffect,
        action: TrapAction::KillCaller,
    }
}

fn write_json(path: &Path, report: &Report) -> Result<(), Failure> {
    std::fs::write(path, format!("{:#}\n", report.json()))
        .map_err(Failure::io(format!("cannot write {}", path.display())))
}

/// What an event is about.
fn subject(fact: &Fact) -> &'static str {
    match fact {
        Fact::JobQueued { .. }
        | Fact::JobAssigned { .. }
        | Fact::JobRequeued { .. }
        | Fact::JobStarted { .. }
        | Fact::JobCompleted { .. }
        | Fact::JobCancelled { .. }
        | Fact::JobKilled { .. }
        | Fact::JobCancelledByLostRegistration { .. }
        | Fact::JobDropped { .. } => "job",
        Fact::InstanceLaunched { .. }
        | Fact::InstanceBooted { .. }
        | Fact::InstanceEnding { .. }
        | Fact::Befell { .. }
        | Fact::TerminationRefused { .. }
        | Fact::InstanceTerminated { .. }
        | Fact::ForeignTouched { .. } => "instance",
        Fact::RunnerRegistered { .. }
        | Fact::RunnerConnected { .. }
        | Fact::RunnerDeregistered { .. }
        | Fact::DeregistrationRefused { .. }
        | Fact::RunnerRemoved { .. } => "runner",
        Fact::DeliveryAnswered { .. } | Fact::DeliveryLost { .. } | Fact::ForgeryAnswered { .. } => "delivery",
        Fact::TrapSprung { .. } => "adversary",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_strikes_when_the_call_has_taken_effect() {
        let trap = kill_trap(&"scale-up@CreateFleet".parse().unwrap());
        assert_eq!((trap.phase, trap.action), (Phase::AfterEffect, TrapAction::KillCaller));
        assert_eq!(trap.on.caller.as_deref(), Some("scale-up"));
        assert_eq!(trap.on.operation.as_deref(), Some("CreateFleet"));
    }
}
