//! The system's clock and environment: the only places that read either.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use runner_scaler_core::time::{Clock, Timestamp};

use crate::Adapters;

/// The machine's clock, and tokio's timer for waiting.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one home of the system's clock; all others get a Clock")]
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// The same clock, for those who take all ports as one.
impl Clock for Adapters {
    fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    async fn sleep(&self, duration: Duration) {
        SystemClock.sleep(duration).await;
    }
}

/// A variable of the process's environment; `None` when it is missing or is not UTF-8.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one home of the environment; configuration gets it as a function")]
pub fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_tells_a_time_after_this_was_written() {
        let written = Timestamp::parse("2026-11-01T00:00:00Z").expect("RFC 3339");
        assert!(SystemClock.now() > written);
    }

    #[test]
    fn a_variable_that_is_not_set_is_none() {
        assert_eq!(process_env("RUNNER_SCALER_NO_SUCH_VARIABLE"), None);
        assert!(process_env("PATH").is_some());
    }
}
