//! Points in time and the port that tells them. `core` never reads a clock itself.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The later point, saturating.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// The earlier point, saturating.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// Time that has passed since `earlier`; zero when `earlier` lies ahead, so that a skewed clock never makes
    /// anything look old.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Reads RFC 3339, as GitHub and AWS write it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        DateTime::parse_from_rfc3339(text).ok().map(|time| Self(time.timestamp_millis()))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with milliseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::<Utc>::from_timestamp_millis(self.0) {
            Some(time) => f.write_str(&time.to_rfc3339_opts(SecondsFormat::Millis, true)),
            None => write!(f, "{} ms", self.0),
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Tells the time and waits.
pub trait Clock {
    /// Wall time now.
    fn now(&self) -> Timestamp;

    /// Waits.
    async fn sleep(&self, duration: Duration);
}

/// When this invocation must have answered.
///
/// Lambda ends a function at its deadline wherever it stands, so a pass stops while `RESERVE` is left: the time of the
/// slowest port call and the write that follows it (checklists.md, "Timer-driven").
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Timestamp);

impl Deadline {
    /// Worst port call and a write: shorter, and a call in flight is cut; longer, and a pass does less.
    pub const RESERVE: Duration = Duration::from_secs(2);

    /// The invocation's deadline as Lambda gives it.
    #[must_use]
    pub fn at(deadline: Timestamp) -> Self {
        Self(deadline)
    }

    /// Whether a new item may be begun.
    #[must_use]
    pub fn allows_more(self, now: Timestamp) -> bool {
        now.plus(Self::RESERVE) < self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_lies_ahead_is_no_age() {
        assert_eq!(Timestamp(1_000).since(Timestamp(5_000)), Duration::ZERO);
        assert_eq!(Timestamp(5_000).since(Timestamp(1_000)), Duration::from_secs(4));
    }

    #[test]
    fn times_are_written_as_github_writes_them() {
        let time = Timestamp::parse("2021-09-13T02:21:13Z").expect("RFC 3339");
        assert_eq!(time.to_string(), "2021-09-13T02:21:13.000Z");
        assert_eq!(Timestamp::parse(&time.to_string()), Some(time));
        assert_eq!(Timestamp::parse("yesterday"), None);
    }

    #[test]
    fn a_pass_stops_before_its_deadline() {
        let deadline = Deadline::at(Timestamp(10_000));
        assert!(deadline.allows_more(Timestamp(7_999)));
        assert!(!deadline.allows_more(Timestamp(8_000)));
    }
}
