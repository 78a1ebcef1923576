//! One instance as a process: drives the [`Machine`] over real HTTP.
//!
//! It decides nothing: every effect becomes a request, every answer an input. Requests run beside each other, as they
//! do on a real instance (the listener polls while the supervisor looks at the drain tag); only the vital signs are
//! written one after the other, since an older one must never overwrite a newer one.

mod calls;

use super::server::wall_now;
use crate::instance::{Effect, Input, Machine, Reason, SupervisorSettings, VitalSign};
use crate::world::Flaw;
use calls::Calls;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};

/// Where an instance finds everything, and what is wrong with it. Addresses have no slash at their end.
#[derive(Debug, Clone)]
pub struct InstanceProcess {
    /// Its id, which is also the path to its metadata.
    pub instance_id: String,
    /// The world server: instance metadata, the broker, the power switch.
    pub world_url: String,
    /// SSM.
    pub ssm_endpoint: String,
    /// `DynamoDB`.
    pub dynamodb_endpoint: String,
    /// JIT configurations are `<parameter_path>/<instance id>`.
    pub parameter_path: String,
    /// The table of vital signs.
    pub vital_signs_table: String,
    /// The supervisor's times.
    pub supervisor: SupervisorSettings,
    /// What is wrong with the instance.
    pub flaw: Flaw,
}

/// Why the process could not live.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The HTTP client could not be built.
    #[error("no HTTP client")]
    Client(#[source] reqwest::Error),
}

/// How long the last vital sign may take before the power goes off anyway.
const LAST_SIGN: Duration = Duration::from_secs(2);

/// How often the power switch is tried, and the pause between: the world server may be slow, not absent.
const POWER_OFF_TRIES: u32 = 20;
const POWER_OFF_PAUSE: Duration = Duration::from_millis(500);

/// Lives the instance's life and returns when it has powered itself off.
///
/// An instance that never does (a flaw) lives until its process is killed, as on EC2.
///
/// # Errors
/// Only when no HTTP client can be built; every failed request is the machine's business.
pub async fn run_instance(process: InstanceProcess) -> Result<Reason, ProcessError> {
    let (inputs, mut answers) = mpsc::unbounded_channel();
    let mut machine = Machine::new(process.supervisor.clone(), process.flaw);
    let mut hands = Hands::new(Calls::new(process)?, inputs);
    let mut effects = machine.handle(wall_now(), Input::Booted);
    loop {
        for effect in effects {
            if let Some(reason) = hands.carry_out(effect) {
                hands.power_off(reason).await;
                return Ok(reason);
            }
        }
        let input = tokio::select! {
            // `hands` keeps a sender, so the channel never closes.
            Some(answer) = answers.recv() => answer,
            () = until(machine.next_wake_at()) => Input::Tick,
        };
        effects = machine.handle(wall_now(), input);
    }
}

/// Carries out effects.
struct Hands {
    calls: Arc<Calls>,
    inputs: mpsc::UnboundedSender<Input>,
    poll: Option<AbortHandle>,
    signs: mpsc::UnboundedSender<VitalSign>,
    signs_writer: JoinHandle<()>,
}

impl Hands {
    fn new(calls: Calls, inputs: mpsc::UnboundedSender<Input>) -> Self {
        let calls = Arc::new(calls);
        let (signs, to_write) = mpsc::unbounded_channel();
        let signs_writer = tokio::spawn(write_signs(Arc::clone(&calls), to_write));
        Self { calls, inputs, poll: None, signs, signs_writer }
    }

    /// Starts what the effect asks for; the reason when it is to end everything.
    fn carry_out(&mut self, effect: Effect) -> Option<Reason> {
        match effect {
            Effect::FetchParameter => {
                self.ask(|calls| async move { Input::Parameter(calls.fetch_parameter().await) });
            }
            Effect::DeleteParameter => {
                self.ask(|calls| async move { Input::ParameterDeleted(calls.delete_parameter().await) });
            }
            Effect::OpenSession { jit_config } => {
                self.ask(|calls| async move { Input::Session(calls.open_session(&jit_config).await) });
            }
            Effect::Poll { runner_id } => {
                self.poll = Some(self.ask(|calls| async move { Input::Polled(calls.poll(runner_id).await) }));
            }
            Effect::Acquire { runner_id, job_id } => {
                tracing::info!(job_id, "acquires job {job_id}");
                self.ask(|calls| async move { Input::Acquired(calls.acquire(runner_id, job_id).await) });
            }
            Effect::Renew { runner_id, job_id } => {
                self.ask(|calls| async move { Input::Renewed(calls.renew(runner_id, job_id).await) });
            }
            Effect::Complete { runner_id, job_id, conclusion } => {
                tracing::info!(job_id, "job {job_id} ended: {conclusion}");
                self.ask(|calls| async move { Input::Completed(calls.complete(runner_id, job_id, &conclusion).await) });
            }
            Effect::ReadDrainTag => {
                self.ask(|calls| async move { Input::DrainTag(calls.drain_tag().await) });
            }
            Effect::WriteVitalSign(sign) => {
                // The writer ends only with this struct.
                let _unwritten = self.signs.send(sign);
            }
            Effect::CancelJob { job_id } => {
                tracing::warn!(job_id, "the listener cancelled job {job_id}");
                self.drop_poll();
            }
            Effect::StopListener => self.drop_poll(),
            Effect::PowerOff(reason) => return Some(reason),
        }
        None
    }

    /// Makes a request beside everything else and hands its answer to the machine.
    fn ask<Answered>(&self, request: impl FnOnce(Arc<Calls>) -> Answered) -> AbortHandle
    where
        Answered: Future<Output = Input> + Send + 'static,
    {
        let (calls, inputs) = (Arc::clone(&self.calls), self.inputs.clone());
        let request = request(calls);
        tokio::spawn(async move {
            // Nobody waits for an answer after the power off.
            let _unheard = inputs.send(request.await);
        })
        .abort_handle()
    }

    fn drop_poll(&mut self) {
        if let Some(poll) = self.poll.take() {
            poll.abort();
        }
    }

    async fn power_off(mut self, reason: Reason) {
        tracing::info!(?reason, "powers off: {reason:?}");
        self.drop_poll();
        drop(self.signs);
        if tokio::time::timeout(LAST_SIGN, self.signs_writer).await.is_err() {
            tracing::warn!("powers off without its last vital sign");
        }
        for _ in 0..POWER_OFF_TRIES {
            if self.calls.power_off().await {
                return;
            }
            tokio::time::sleep(POWER_OFF_PAUSE).await;
        }
        tracing::error!("the power switch does not answer");
    }
}

async fn write_signs(calls: Arc<Calls>, mut signs: mpsc::UnboundedReceiver<VitalSign>) {
    while let Some(mut sign) = signs.recv().await {
        // While one is written others may have come: only the newest says how it is.
        while let Ok(newer) = signs.try_recv() {
            sign = newer;
        }
        if !calls.write_vital_sign(&sign).await {
            tracing::warn!("a vital sign was not written");
        }
    }
}

async fn until(wake_at: Option<i64>) {
    match wake_at {
        Some(at) => tokio::time::sleep(Duration::from_millis(u64::try_from(at - wall_now()).unwrap_or(0))).await,
        None => std::future::pending().await,
    }
}
