//! How unkind the world is: every time and every fault, as data.
//!
//! The default is a kind world with realistic times: each fault is a probability or a range and is off.

use crate::Millis;
use crate::ec2::Ec2Settings;
use serde::{Deserialize, Serialize};

/// An inclusive range of milliseconds, drawn from evenly.
pub type RangeMs = (Millis, Millis);

/// Settings of the whole world.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// GitHub's times and faults.
    pub github: GitHubSettings,
    /// EC2's times and faults.
    pub ec2: Ec2Settings,
}

impl Settings {
    /// Times scaled for a local run of about a minute; faults stay off.
    #[must_use]
    pub fn local() -> Self {
        Self { github: GitHubSettings::local(), ec2: Ec2Settings::local() }
    }
}

/// GitHub's times and faults. Milliseconds and probabilities (0 to 1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GitHubSettings {
    /// How long `busy` stays false after a job was assigned. Field: 25 to 60 s and more (actions/runner#4422, pull
    /// request #5228 of terraform-aws-github-runner). While it lags, GitHub also believes its own flag: DELETE succeeds.
    pub busy_lag_ms: RangeMs,
    /// Probability that a job's runner is shown as not busy for the whole job.
    pub lying_busy_flag: f64,
    /// Probability that one listing leaves out one runner.
    pub list_omission: f64,
    /// Probability that a delivery is never sent.
    pub lose_webhooks: f64,
    /// Probability that a delivery is sent several times under the same guid.
    pub duplicate_webhooks: f64,
    /// Delay between what happened and its delivery.
    pub webhook_delay_ms: RangeMs,
    /// GitHub's patience with the receiver: 10 s on github.com (docs: handling webhook deliveries).
    pub delivery_timeout_ms: Millis,
    /// How long GitHub takes to match a queued job with an eligible runner.
    pub pickup_ms: RangeMs,
    /// A message that was not acquired is delivered again after this time (actions/runner#4728: about 61 s).
    pub redelivery_ms: Millis,
    /// Deliveries of one job's message without an acquisition before GitHub cancels the job (actions/runner#4728).
    pub message_misses_max: u32,
    /// How long a listener goes on polling before the broker tells it that its registration vanished. Field: from under
    /// 50 s to 32 min (actions/runner#4617).
    pub listener_notices_ms: RangeMs,
    /// Probability that a REST call answers 502 without an effect.
    pub github_error_rate: f64,
    /// A runner that has not polled for this long is shown offline.
    pub offline_after_ms: Millis,
    /// An ephemeral registration that was not connected for this long is removed by GitHub (docs: 1 day).
    pub ephemeral_reaper_ms: Millis,
    /// A running job whose lock was not renewed for this long fails ("lost communication with the server", about 10 min).
    pub lost_job_ms: Millis,
    /// A job whose message was acknowledged and that nobody acquires fails after this (facts/world.md G7).
    pub hung_job_ms: Millis,
    /// A job queued for this long is cancelled (docs: 24 h).
    pub queue_limit_ms: Millis,
    /// Primary rate limit of an installation, requests an hour (docs: 5,000).
    pub rate_limit: u32,
    /// Probability that `busy` flips to false in the middle of a job (actions/runner#4422).
    pub stale_busy_flag: f64,
    /// For how long it then is; it begins as much later than the job at most.
    pub stale_busy_ms: RangeMs,
    /// Probability that a runner that died in mid-job stays busy and undeletable (actions/runner#700).
    pub stuck_busy_flag: f64,
    /// Probability that a runner is found neither in lists nor by id for a time.
    pub hidden_runner: f64,
    /// When that begins, counted from its listener's start.
    pub hidden_after_ms: RangeMs,
    /// For how long it is.
    pub hidden_ms: RangeMs,
    /// Probability that a runner is shown offline for a time although it listens and works.
    pub offline_runner: f64,
    /// From when on calls find a new registration.
    pub runner_shown_ms: RangeMs,
    /// How often such a delivery is sent at most; at least twice.
    pub webhook_copies_max: i64,
    /// Probability that a delivery comes much later.
    pub late_webhooks: f64,
    /// How much later.
    pub late_webhook_ms: RangeMs,
    /// Probability that with a delivery an old `completed` comes again.
    pub resend_completed: f64,
    /// Probability that an acquisition is refused and the job queued again (actions/runner#4617).
    pub refuse_acquisition: f64,
    /// Payloads with only the fields that anybody reads.
    pub compact_payloads: bool,
    /// Probability that a delivery which somebody asked for again comes without a signature (facts/world.md G18).
    pub unsigned_redelivery: f64,
}

const SECOND_MS: Millis = 1_000;
const HOUR_MS: Millis = 3_600 * SECOND_MS;

impl Default for GitHubSettings {
    fn default() -> Self {
        Self {
            busy_lag_ms: (0, 0),
            lying_busy_flag: 0.0,
            list_omission: 0.0,
            lose_webhooks: 0.0,
            duplicate_webhooks: 0.0,
            webhook_delay_ms: (500, 3 * SECOND_MS),
            delivery_timeout_ms: 10 * SECOND_MS,
            pickup_ms: (500, 3 * SECOND_MS),
            redelivery_ms: 61 * SECOND_MS,
            message_misses_max: 3,
            listener_notices_ms: (20 * SECOND_MS, 50 * SECOND_MS),
            github_error_rate: 0.0,
            offline_after_ms: 90 * SECOND_MS,
            ephemeral_reaper_ms: 24 * HOUR_MS,
            lost_job_ms: 600 * SECOND_MS,
            hung_job_ms: 600 * SECOND_MS,
            queue_limit_ms: 24 * HOUR_MS,
            rate_limit: 5_000,
            stale_busy_flag: 0.0,
            stale_busy_ms: (60 * SECOND_MS, 900 * SECOND_MS),
            stuck_busy_flag: 0.0,
            hidden_runner: 0.0,
            hidden_after_ms: (0, HOUR_MS / 2),
            hidden_ms: (HOUR_MS / 3, HOUR_MS * 3 / 2),
            offline_runner: 0.0,
            runner_shown_ms: (0, 0),
            webhook_copies_max: 2,
            late_webhooks: 0.0,
            late_webhook_ms: (30 * SECOND_MS, HOUR_MS / 2),
            resend_completed: 0.0,
            refuse_acquisition: 0.0,
            compact_payloads: false,
            unsigned_redelivery: 0.0,
        }
    }
}

impl GitHubSettings {
    /// GitHub with times for a local run.
    #[must_use]
    pub fn local() -> Self {
        Self {
            webhook_delay_ms: (20, 150),
            pickup_ms: (50, 250),
            redelivery_ms: 6 * SECOND_MS,
            // Longer than the scenario's jobs, as in the field: a listener may poll on for half an hour.
            listener_notices_ms: (45 * SECOND_MS, 60 * SECOND_MS),
            offline_after_ms: 6 * SECOND_MS,
            lost_job_ms: 30 * SECOND_MS,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_states_only_what_differs_and_typos_are_refused() {
        let settings: Settings = serde_json::from_str(r#"{"github":{"lying_busy_flag":0.1}}"#).unwrap();
        assert!((settings.github.lying_busy_flag - 0.1).abs() < f64::EPSILON);
        assert_eq!(settings.github.redelivery_ms, 61_000);
        assert!(serde_json::from_str::<Settings>(r#"{"github":{"lying_flag":1}}"#).is_err());
    }
}
