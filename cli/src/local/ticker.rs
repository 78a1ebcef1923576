//! Invokes a function every few seconds, as a schedule would, and reports what it answers.

use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;

use crate::failure::chain;
use crate::functions::Function;
use crate::local::emulator::Emulator;
use crate::local::failures::FailedInvocation;

/// Invokes the function again and again, `pause` after each answer; until the task is aborted.
///
/// An invocation never overlaps the last one of the same ticker, but may overlap one of the function's schedule.
pub(crate) fn start(
    emulator: Emulator,
    function: Function,
    pause: Duration,
    failures: UnboundedSender<FailedInvocation>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(pause).await;
            let why = match emulator.invoke(function.name(), &json!({})).await {
                Ok(invocation) if invocation.failed => invocation.payload.to_string(),
                Ok(_) => continue,
                Err(failure) => chain(&failure),
            };
            if failures.send(FailedInvocation { function, why }).is_err() {
                // Nobody listens any more: the run is over.
                return;
            }
        }
    })
}
