//! A value that the process keeps for a while, also while its source fails.

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

/// The last good value of a source, and when the source last failed.
#[derive(Debug)]
pub(crate) struct Kept<T> {
    good: Option<Cached<T>>,
    failed: Option<Cached<()>>,
}

/// How old a value of a source may become.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ages {
    /// Until then it is used unread. Longer, and a change waits; shorter, and every invocation pays a call.
    pub(crate) fresh: Duration,
    /// A failed source is left alone for so long. Longer, and a mended source waits; shorter, and strangers' requests
    /// become calls.
    pub(crate) retry_after: Duration,
    /// Until then it is used while its source fails; `None`: for ever.
    pub(crate) kept: Option<Duration>,
}

/// What may be done without a good and fresh value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next<T> {
    /// Use this one.
    Use(T),
    /// Read the source.
    Read,
    /// The source failed a moment ago and there is no value to keep.
    Wait,
}

impl<T: Clone> Kept<T> {
    /// Nothing read yet.
    pub(crate) fn new() -> Self {
        Self { good: None, failed: None }
    }

    /// What to do now.
    pub(crate) fn next(&self, now: Timestamp, ages: Ages) -> Next<T> {
        if let Some(good) = self.good.as_ref().filter(|good| good.is_fresh(now, ages.fresh)) {
            return Next::Use(good.value.clone());
        }
        match &self.failed {
            Some(failed) if failed.is_fresh(now, ages.retry_after) => {
                self.kept(now, ages).map_or(Next::Wait, Next::Use)
            }
            Some(_) | None => Next::Read,
        }
    }

    /// Takes a good value that was read at that time.
    pub(crate) fn succeeded(&mut self, value: T, read_at: Timestamp) {
        *self = Self { good: Some(Cached::new(value, read_at)), failed: None };
    }

    /// Notes a failure that was seen at that time, and says what to use all the same.
    pub(crate) fn failed(&mut self, now: Timestamp, ages: Ages) -> Option<T> {
        self.failed = Some(Cached::new((), now));
        self.kept(now, ages)
    }

    fn kept(&self, now: Timestamp, ages: Ages) -> Option<T> {
        let usable = |good: &&Cached<T>| ages.kept.is_none_or(|age_max| good.is_fresh(now, age_max));
        self.good.as_ref().filter(usable).map(|good| good.value.clone())
    }

    /// As if all that is known had been learnt so much earlier.
    #[cfg(test)]
    pub(crate) fn age_by(&mut self, age: Duration) {
        if let Some(good) = &mut self.good {
            good.read_at = good.read_at.minus(age);
        }
        if let Some(failed) = &mut self.failed {
            failed.read_at = failed.read_at.minus(age);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGES: Ages = Ages {
        fresh: Duration::from_mins(1),
        retry_after: Duration::from_secs(5),
        kept: Some(Duration::from_mins(10)),
    };

    #[test]
    fn a_failing_source_is_left_alone_and_its_last_value_kept_for_its_time() {
        let mut kept = Kept::new();
        assert_eq!(kept.next(Timestamp(0), AGES), Next::Read);
        assert_eq!(kept.failed(Timestamp(0), AGES), None);
        assert_eq!(kept.next(Timestamp(4_999), AGES), Next::Wait);
        assert_eq!(kept.next(Timestamp(5_000), AGES), Next::Read);
        kept.succeeded("a", Timestamp(5_000));
        assert_eq!(kept.next(Timestamp(5_001), AGES), Next::Use("a"));
        assert_eq!(kept.next(Timestamp(65_000), AGES), Next::Read);
        assert_eq!(kept.failed(Timestamp(65_000), AGES), Some("a"));
        assert_eq!(kept.next(Timestamp(69_999), AGES), Next::Use("a"), "kept, and not read again yet");
        assert_eq!(kept.next(Timestamp(70_000), AGES), Next::Read);
        assert_eq!(kept.failed(Timestamp(604_999), AGES), Some("a"));
        assert_eq!(kept.next(Timestamp(605_000), AGES), Next::Wait, "too old, and its source failed just now");
        assert_eq!(kept.failed(Timestamp(605_000), AGES), None);
        assert_eq!(
            kept.failed(Timestamp(605_000), Ages { kept: None, ..AGES }),
            Some("a"),
            "where it is kept for ever"
        );
        assert_eq!(kept.failed(Timestamp(4_999), AGES), None, "the clock was set back: nobody knows its age");
        kept.succeeded("b", Timestamp(610_000));
        assert_eq!(kept.next(Timestamp(610_001), AGES), Next::Use("b"));
    }

    #[test]
    fn a_value_is_fresh_until_its_age_is_reached() {
        let cached = Cached::new((), Timestamp(10_000));
        for (now, expected) in [(10_000, true), (69_999, true), (70_000, false), (9_999, false)] {
            assert_eq!(cached.is_fresh(Timestamp(now), Duration::from_mins(1)), expected, "{now}");
        }
    }
}
