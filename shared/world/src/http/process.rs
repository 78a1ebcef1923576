//! A listener as a process: drives the [`Machine`] over real HTTP, and does around it what the real one does.
//!
//! It decides nothing: every effect becomes a request, every answer an input. What a supervisor reads of a listener is
//! there as on a real instance: its words on standard output and in the diagnostic log, before it acts on them, and a
//! process of its own, `Runner.Worker`, as long as a job runs.

mod calls;
mod words;

use super::server::wall_now;
use crate::instance::{Effect, Input, JitConfig, Machine, SupervisorSettings, Worker};
use crate::world::Flaw;
use calls::Calls;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use words::Words;

/// Where a listener finds everything, and what is wrong with it. Addresses have no slash at their end.
#[derive(Debug, Clone)]
pub struct ListenerProcess {
    /// Its instance's id.
    pub instance_id: String,
    /// The world server: the broker.
    pub world_url: String,
    /// Its JIT configuration.
    pub jit_config: JitConfig,
    /// Where the runner is "unpacked": `bin/Runner.Worker` is started as its worker (with an argument as sleep(1) takes
    /// it), and its diagnostic log is written below `_diag`.
    pub runner_folder: PathBuf,
    /// Its times.
    pub settings: SupervisorSettings,
    /// What is wrong with it.
    pub flaw: Flaw,
}

/// Why the process could not live.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The HTTP client could not be built.
    #[error("no HTTP client")]
    Client(#[source] reqwest::Error),
    /// The diagnostic log could not be written.
    #[error("no diagnostic log in {folder}")]
    DiagnosticLog {
        /// Where it would be.
        folder: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// A worker that nobody ends, ends by itself after this many seconds.
const WORKER_SECONDS: &str = "86400";

/// Lives the listener's life and returns when it has ended and no worker is left.
///
/// # Errors
/// Only when it cannot begin; every failed request is the machine's business.
pub async fn run_listener(process: ListenerProcess) -> Result<(), ProcessError> {
    let (inputs, mut answers) = mpsc::unbounded_channel();
    let mut machine = Machine::listener(process.settings.clone(), process.flaw);
    let mut words = Words::begin(&process.runner_folder)?;
    let mut hands = Hands {
        calls: Arc::new(Calls::new(&process)?),
        inputs,
        poll: None,
        worker: None,
        worker_program: process.runner_folder.join("bin/Runner.Worker"),
        jit_config: process.jit_config,
    };
    let mut input = Input::Booted;
    loop {
        words.before(&input);
        let before = machine.worker();
        let effects = machine.handle(wall_now(), input);
        hands.follow(machine.worker());
        words.changed(before, machine.worker());
        for effect in effects {
            hands.carry_out(effect);
        }
        if machine.has_ended() {
            return Ok(());
        }
        input = tokio::select! {
            // `hands` keeps a sender, so the channel never closes.
            Some(answer) = answers.recv() => answer,
            () = until(machine.next_wake_at()) => Input::Tick,
        };
    }
}

/// Carries out effects.
struct Hands {
    calls: Arc<Calls>,
    inputs: mpsc::UnboundedSender<Input>,
    poll: Option<AbortHandle>,
    worker: Option<Child>,
    worker_program: PathBuf,
    jit_config: JitConfig,
}

impl Hands {
    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::FetchParameter => {
                let configuration = self.jit_config.clone();
                self.ask(|_| async move { Input::Parameter(crate::instance::Answer::Found(configuration)) });
            }
            Effect::OpenSession { jit_config } => {
                self.ask(|calls| async move { Input::Session(calls.open_session(&jit_config).await) });
            }
            Effect::Poll { runner_id } => {
                self.poll = Some(self.ask(|calls| async move { Input::Polled(calls.poll(runner_id).await) }));
            }
            Effect::Acquire { runner_id, job_id } => {
                self.ask(|calls| async move { Input::Acquired(calls.acquire(runner_id, job_id).await) });
            }
            Effect::Renew { runner_id, job_id } => {
                self.ask(|calls| async move { Input::Renewed(calls.renew(runner_id, job_id).await) });
            }
            Effect::Complete { runner_id, job_id, conclusion } => {
                self.ask(|calls| async move { Input::Completed(calls.complete(runner_id, job_id, &conclusion).await) });
            }
            Effect::CancelJob { .. } => {
                if let Some(poll) = self.poll.take() {
                    poll.abort();
                }
            }
            // The supervisor's, which is another process.
            Effect::DeleteParameter
            | Effect::ReadDrainTag
            | Effect::WriteVitalSign(_)
            | Effect::StopListener
            | Effect::PowerOff(_) => {}
        }
    }

    /// Makes a request beside everything else and hands its answer to the machine.
    fn ask<Answered>(&self, request: impl FnOnce(Arc<Calls>) -> Answered) -> AbortHandle
    where
        Answered: Future<Output = Input> + Send + 'static,
    {
        let (calls, inputs) = (Arc::clone(&self.calls), self.inputs.clone());
        let request = request(calls);
        tokio::spawn(async move {
            // Nobody waits for an answer after the end.
            let _unheard = inputs.send(request.await);
        })
        .abort_handle()
    }

    /// There is a worker's process exactly as long as there is a worker.
    fn follow(&mut self, worker: Worker) {
        match worker {
            Worker::Running if self.worker.is_none() => {
                let mut command = Command::new(&self.worker_program);
                match command.arg0("sleep").arg(WORKER_SECONDS).spawn() {
                    Ok(child) => self.worker = Some(child),
                    Err(error) => eprintln!("no worker process: {error}"),
                }
            }
            Worker::Running => {}
            Worker::None | Worker::Acquiring => {
                if let Some(mut child) = self.worker.take() {
                    // It has ended where it was killed by somebody else.
                    let _ended = child.start_kill();
                }
            }
        }
    }
}

async fn until(wake_at: Option<i64>) {
    match wake_at {
        Some(at) => tokio::time::sleep(Duration::from_millis(u64::try_from(at - wall_now()).unwrap_or(0))).await,
        None => std::future::pending().await,
    }
}
