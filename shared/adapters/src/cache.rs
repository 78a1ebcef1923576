//! A value that the process keeps for a while.

use std::time::Duration;

use runner_scaler_core::time::Timestamp;

/// A value and when it was read.
#[derive(Clone, Debug)]
pub(crate) struct Cached<T> {
    /// The value.
    pub(crate) value: T,
    read_at: Timestamp,
}

impl<T> Cached<T> {
    /// A value read at that time.
    pub(crate) fn new(value: T, read_at: Timestamp) -> Self {
        Self { value, read_at }
    }

    /// Whether it was read less than `age_max` ago. A time of reading that lies ahead is never fresh: the clock was set
    /// back, and nobody knows how old the value is.
    pub(crate) fn is_fresh(&self, now: Timestamp, age_max: Duration) -> bool {
        self.read_at <= now && now.since(self.read_at) < age_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_fresh_until_its_age_is_reached() {
        let cached = Cached::new((), Timestamp(10_000));
        for (now, expected) in [(10_000, true), (69_999, true), (70_000, false), (9_999, false)] {
            assert_eq!(cached.is_fresh(Timestamp(now), Duration::from_mins(1)), expected, "{now}");
        }
    }
}
