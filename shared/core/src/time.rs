//! Points in time and the port that tells them. `core` never reads a clock itself.

use std::fmt;
use std::pin::pin;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use futures_util::future::{Either, select};
use serde::{Deserialize, Serialize};

use crate::config::Mutant;

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
/// Lambda ends a function at its deadline wherever it stands, so a pass begins nothing new while its reserve is all
/// that is left: the time of the slowest item (checklists.md, "Timer-driven").
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Timestamp,
    reserve: Duration,
}

impl Deadline {
    /// One item may read many pages and write twice. Shorter, and an item in flight is cut; longer, and a pass does
    /// less.
    const RESERVE_MAX: Duration = Duration::from_secs(15);

    /// The deadline of an invocation that began at `now`, as Lambda gives it: an invocation that has little time keeps
    /// a quarter of it in reserve.
    #[must_use]
    pub fn of(now: Timestamp, deadline: Timestamp) -> Self {
        Self { at: deadline, reserve: Self::RESERVE_MAX.min(deadline.since(now) / 4) }
    }

    /// As it is, unless the mutant ignores it: a day is longer than any function may run.
    #[must_use]
    pub fn kept_by(self, mutant: Mutant) -> Self {
        if mutant.ignores_deadlines() { Self { at: self.at.plus(Duration::from_hours(24)), ..self } } else { self }
    }

    /// When the invocation ends at the latest.
    #[must_use]
    pub fn at(self) -> Timestamp {
        self.at
    }

    /// Half of the time that is left at `now`.
    #[must_use]
    pub fn half(self, now: Timestamp) -> Self {
        Self { at: now.plus(self.at.since(now) / 2), reserve: self.reserve / 2 }
    }

    /// Waits for `reading` for as long as half of the reserve is left for what must follow it. `None`: it took longer
    /// and was dropped where it stood, as a killed process drops it. A reading may be of any number of pages, each of
    /// which may take as long as a call may.
    pub async fn within<T>(self, clock: &impl Clock, reading: impl Future<Output = T>) -> Option<T> {
        let left = self.at.minus(self.reserve / 2).since(clock.now());
        match select(pin!(reading), pin!(clock.sleep(left))).await {
            Either::Left((read, _)) => Some(read),
            Either::Right(((), _)) => None,
        }
    }

    /// That part of the time that is left at `now`, for one of so many who share it.
    #[must_use]
    pub fn share(self, now: Timestamp, parts: u32) -> Duration {
        self.at.since(now) / parts.max(1)
    }

    /// The time that is left at `now` for what is under way: a part of the reserve stays for the answer.
    #[must_use]
    pub fn last_call(self, now: Timestamp) -> Duration {
        self.at.minus(self.reserve / 3).since(now)
    }

    /// Whether a new item may be begun.
    #[must_use]
    pub fn allows_more(self, now: Timestamp) -> bool {
        now.plus(self.reserve) < self.at
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
        for (lambda_deadline, last) in [(10_000, 7_500), (900_000, 885_000)] {
            let deadline = Deadline::of(Timestamp(0), Timestamp(lambda_deadline));
            assert!(deadline.allows_more(Timestamp(last - 1)));
            assert!(!deadline.allows_more(Timestamp(last)));
        }
    }
}
