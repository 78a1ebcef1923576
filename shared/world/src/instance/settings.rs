//! The supervisor's times, as data.

use crate::Millis;
use runner_supervisor_decision::Limits;
use serde::{Deserialize, Serialize};

/// Times of the supervisor and its listener, in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SupervisorSettings {
    /// An instance that has no listener this long after its boot powers off.
    pub boot_deadline_ms: Millis,
    /// An idle listener this old is stopped and the instance powers off (design section 5, layer 1).
    pub idle_maximum_ms: Millis,
    /// Between two looks for the JIT configuration, and before any failed request is repeated.
    pub retry_ms: Millis,
    /// Between two vital signs, when nothing changes.
    pub beat_every_ms: Millis,
    /// Between two looks at the drain tag.
    pub drain_look_every_ms: Millis,
    /// A message that was acknowledged this long ago and brought no worker is given up (design section 8).
    pub acquire_watchdog_ms: Millis,
    /// Between two renewals of a running job's lock (facts/github.md 1.1: 60 s).
    pub renew_every_ms: Millis,
}

const SECOND_MS: Millis = 1_000;

impl Default for SupervisorSettings {
    fn default() -> Self {
        Self {
            boot_deadline_ms: 600 * SECOND_MS,
            idle_maximum_ms: 3_600 * SECOND_MS,
            retry_ms: 5 * SECOND_MS,
            beat_every_ms: 60 * SECOND_MS,
            drain_look_every_ms: 10 * SECOND_MS,
            acquire_watchdog_ms: 180 * SECOND_MS,
            renew_every_ms: 60 * SECOND_MS,
        }
    }
}

impl SupervisorSettings {
    /// The limits that the supervisor decides by.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            boot_deadline_ms: self.boot_deadline_ms,
            idle_maximum_ms: self.idle_maximum_ms,
            acquire_watchdog_ms: self.acquire_watchdog_ms,
            ..Limits::default()
        }
    }

    /// Times for a local run of about a minute.
    #[must_use]
    pub fn local() -> Self {
        Self {
            // Longer than the queue hides a batch that was cut off (30 s): its instances get their configuration then.
            boot_deadline_ms: 45 * SECOND_MS,
            idle_maximum_ms: 60 * SECOND_MS,
            retry_ms: 200,
            beat_every_ms: SECOND_MS,
            drain_look_every_ms: 500,
            acquire_watchdog_ms: 10 * SECOND_MS,
            renew_every_ms: 5 * SECOND_MS,
        }
    }
}
