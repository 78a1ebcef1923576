//! SQS: [`Queue`].

use std::time::Duration;

use futures_util::FutureExt;
use runner_scaler_core::error::PortError;
use runner_scaler_core::ports::Queue;
use runner_scaler_core::scale_up::JobMessage;

use crate::Adapters;
use crate::aws::{Effect, port_error, unbuilt};

/// Longest delay of one message, in seconds (SQS API reference, `SendMessage`, read 2026-11-20).
const DELAY_SECONDS_MAX: i32 = 900;

impl Queue for Adapters {
    async fn send(&self, message: &JobMessage, delay: Duration) -> Result<(), PortError> {
        let call = format!("SendMessage of job {}", message.job_id);
        let body = serde_json::to_string(message).map_err(|error| unbuilt(&call, &error))?;
        let delay_seconds = i32::try_from(delay.as_secs()).unwrap_or(i32::MAX).min(DELAY_SECONDS_MAX);
        self.sqs()
            .send_message()
            .queue_url(&self.environment().scale_up_queue_url)
            .message_body(body)
            .delay_seconds(delay_seconds)
            .send()
            .boxed()
            .await
            .map(|_| ())
            .map_err(|error| port_error(call, Effect::Change, &error))
    }
}

#[cfg(test)]
mod tests;
