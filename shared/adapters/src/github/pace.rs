//! Spacing of the calls that change something at GitHub: a token bucket, as arithmetic over a time that is passed in.
//!
//! GitHub lets one installation spend 900 points a minute on its REST API and takes 5 for a POST, PATCH, PUT or DELETE
//! (documentation, "Rate limits for the REST API", secondary limits, read 2026-11-20): 180 changes in any minute. What
//! this refuses to know: which call it is, and what GitHub answered.

use std::time::Duration;

use runner_scaler_core::time::Timestamp;

/// How fast changes may go out: `burst` at once, and one more each `refill`. Both together never exceed GitHub's limit
/// in any minute, so a larger burst means a slower refill: with a ninth, a thousand changes take a tenth longer than the
/// limit asks for; with half of it, twice as long; with none, a few launches at once, each of which registers a runner,
/// wait in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    burst: u32,
    refill: Duration,
}

impl Pace {
    /// The pace that spends at most so many points in a minute: at 900, twenty at once and one each 375 ms.
    pub(crate) fn of(points_per_minute: u32) -> Self {
        let changes = (points_per_minute / POINTS_A_CHANGE).max(9);
        let burst = changes / 9;
        Self { burst, refill: Duration::from_mins(1) / (changes - burst) }
    }

    /// How long an empty bucket takes to fill.
    fn whole(self) -> Duration {
        self.refill * self.burst
    }
}

/// What GitHub takes for one change.
const POINTS_A_CHANGE: u32 = 5;

/// The longest wait for a change's turn. Longer, and an invocation sleeps away the time that others need; shorter, and
/// a few concurrent changes are sent back to their queue although their turn comes within seconds.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(10);

/// The longest addition to a wait, so that functions that were held up together do not go on together. More, and the
/// bucket refills noticeably slower (what is waited in addition is lost to it); less, and nothing is spread.
pub(super) const JITTER_MAX: Duration = Duration::from_millis(30);

/// The bucket of one installation in one process.
#[derive(Debug)]
pub(super) struct Bucket {
    pace: Pace,
    /// When it will be full again if nothing more is taken; in the past, it is full.
    full_at: Timestamp,
}

impl Bucket {
    /// A full one.
    pub(super) fn full(pace: Pace) -> Self {
        Self { pace, full_at: Timestamp(0) }
    }

    /// Takes the turn of one change: how long it waits until it may be sent. In `Err` the wait is longer than
    /// [`WAIT_MAX`], and no turn was taken.
    pub(super) fn take(&mut self, now: Timestamp, jitter: Duration) -> Result<Duration, Duration> {
        // A clock that was set back must not look like changes that were never sent.
        let latest = now.plus(self.pace.whole() + WAIT_MAX);
        let full_at = self.full_at.max(now).min(latest).plus(self.pace.refill);
        let wait = full_at.minus(self.pace.whole()).since(now);
        if wait.is_zero() {
            self.full_at = full_at;
            return Ok(wait);
        }
        if wait > WAIT_MAX {
            return Err(wait);
        }
        let jitter = jitter.min(JITTER_MAX);
        self.full_at = full_at.plus(jitter);
        Ok(wait + jitter)
    }

    /// Pours it out: GitHub refused a call, so its own count is ahead of ours.
    pub(super) fn empty(&mut self, now: Timestamp) {
        self.full_at = self.full_at.max(now.plus(self.pace.whole()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// GitHub's limit: 900 points a minute, 5 a change.
    const CHANGES_A_MINUTE_MAX: usize = 900 / 5;

    #[test]
    fn no_minute_has_more_changes_than_github_allows_whatever_the_callers_do() {
        // Jitter and pauses of callers come from a fixed sequence, so that a failure can be repeated.
        let mut state = 7_u64;
        let mut next = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for (case, pause_max_ms) in [
            ("as fast as it lets them", 1),
            ("often", 400),
            ("about as fast as it refills", 1_600),
            ("in bursts", 60_000),
        ] {
            let (mut bucket, mut now, mut sent) = (Bucket::full(Pace::of(900)), Timestamp(1_000_000), Vec::new());
            while sent.len() < 1_000 {
                // Some callers wait side by side, the others one after the other.
                let together = 1 + next(13);
                let mut ready = now;
                for _ in 0..together {
                    if let Ok(wait) = bucket.take(now, Duration::from_millis(next(400))) {
                        sent.push(now.plus(wait));
                        ready = ready.max(now.plus(wait));
                    }
                }
                now = ready.plus(Duration::from_millis(next(pause_max_ms)));
            }
            sent.sort_unstable();
            for (first, last) in sent.iter().zip(sent.iter().skip(CHANGES_A_MINUTE_MAX)) {
                let span = last.since(*first);
                assert!(span > Duration::from_mins(1), "{case}: 181 changes within {span:?}");
            }
        }
    }

    #[test]
    fn a_pace_never_spends_more_than_its_points_and_its_burst_is_a_ninth() {
        for points in [1, 45, 60, 900, 5_000, 1_000_000] {
            let Pace { burst, refill } = Pace::of(points);
            let in_a_minute = f64::from(burst) + 60.0 / refill.as_secs_f64();
            assert!(in_a_minute * 5.0 <= f64::from(points.max(45)) * 1.001, "{points}: {in_a_minute} changes");
            assert!(burst >= 1, "{points}");
        }
        assert_eq!(Pace::of(900), Pace { burst: 20, refill: Duration::from_millis(375) });
    }

    #[test]
    fn twenty_at_once_do_not_wait_and_the_next_take_turns() {
        let (mut bucket, now) = (Bucket::full(Pace::of(900)), Timestamp(1_000_000));
        for nth in 1..=20 {
            assert_eq!(bucket.take(now, JITTER_MAX), Ok(Duration::ZERO), "change {nth}");
        }
        let ms = Duration::from_millis;
        assert_eq!(bucket.take(now, Duration::ZERO), Ok(ms(375)));
        assert_eq!(bucket.take(now, ms(20)), Ok(ms(770)));
        assert_eq!(bucket.take(now, Duration::ZERO), Ok(ms(1_145)), "what was waited in addition is lost");
        assert_eq!(bucket.take(now, Duration::MAX), Ok(ms(1_520) + JITTER_MAX));
    }

    #[test]
    fn whose_turn_is_too_far_away_is_told_when_and_takes_none() {
        let (mut bucket, now) = (Bucket::full(Pace::of(900)), Timestamp(1_000_000));
        bucket.empty(now);
        for _ in 0..26 {
            bucket.take(now, Duration::ZERO).expect("within ten seconds");
        }
        let too_long = Err(Duration::from_millis(27 * 375));
        assert_eq!(bucket.take(now, Duration::ZERO), too_long);
        assert_eq!(bucket.take(now, Duration::ZERO), too_long, "the first took no turn");
    }

    #[test]
    fn an_empty_bucket_and_a_clock_set_back_mend_by_themselves() {
        let (mut bucket, now) = (Bucket::full(Pace::of(900)), Timestamp(1_000_000));
        bucket.empty(now);
        assert_eq!(bucket.take(now, Duration::ZERO), Ok(Duration::from_millis(375)));
        assert_eq!(bucket.take(now.plus(Duration::from_mins(2)), Duration::ZERO), Ok(Duration::ZERO));

        let mut bucket = Bucket::full(Pace::of(900));
        bucket.take(Timestamp(1_000_000_000), Duration::ZERO).expect("full");
        let earlier = Timestamp(1_000_000);
        bucket.take(earlier, Duration::ZERO).expect_err("its turn seems to be far away");
        let wait = bucket.take(earlier.plus(Duration::from_mins(1)), Duration::ZERO);
        assert!(wait.is_err_and(|wait| wait < Duration::from_mins(2)), "bounded, whatever the clock said: {wait:?}");
    }
}
