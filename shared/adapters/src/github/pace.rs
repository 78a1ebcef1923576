//! Spacing of the calls that change something at GitHub: a token bucket, as arithmetic over a time that is passed in.
//!
//! GitHub lets one installation spend 900 points a minute on its REST API and takes 5 for a POST, PATCH, PUT or DELETE
//! (documentation, "Rate limits for the REST API", secondary limits, read 2026-11-20): 180 changes in any minute. What
//! this refuses to know: which call it is, and what GitHub answered.

use std::time::Duration;

use runner_scaler_core::time::Timestamp;

/// Changes that may go out at once. More, and [`REFILL`] has to be slower, for both together must not exceed 180 in a
/// minute: a thousand changes would then take much longer than GitHub's limit asks for (with 20 a tenth longer, with
/// 100 twice as long). Fewer, and a few launches at once, each of which registers a runner, wait in vain.
const BURST: u32 = 20;

/// One more change each 375 ms, 160 a minute: what 180 leaves beside the burst.
const REFILL: Duration = Duration::from_millis(375);

/// The longest wait for a change's turn. Longer, and an invocation sleeps away the time that others need; shorter, and
/// a few concurrent changes are sent back to their queue although their turn comes within seconds.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(10);

/// The longest addition to a wait, so that functions that were held up together do not go on together. More, and the
/// bucket refills noticeably slower (what is waited in addition is lost to it); less, and nothing is spread.
pub(super) const JITTER_MAX: Duration = Duration::from_millis(30);

/// The bucket of one installation in one process.
#[derive(Debug)]
pub(super) struct Bucket {
    /// When it will be full again if nothing more is taken; in the past, it is full.
    full_at: Timestamp,
}

impl Bucket {
    /// A full one.
    pub(super) fn full() -> Self {
        Self { full_at: Timestamp(0) }
    }

    /// Takes the turn of one change: how long it waits until it may be sent. In `Err` the wait is longer than
    /// [`WAIT_MAX`], and no turn was taken.
    pub(super) fn take(&mut self, now: Timestamp, jitter: Duration) -> Result<Duration, Duration> {
        // A clock that was set back must not look like changes that were never sent.
        let latest = now.plus(REFILL * BURST + WAIT_MAX);
        let full_at = self.full_at.max(now).min(latest).plus(REFILL);
        let wait = full_at.minus(REFILL * BURST).since(now);
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
        self.full_at = self.full_at.max(now.plus(REFILL * BURST));
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
            let (mut bucket, mut now, mut sent) = (Bucket::full(), Timestamp(1_000_000), Vec::new());
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
    fn twenty_at_once_do_not_wait_and_the_next_take_turns() {
        let (mut bucket, now) = (Bucket::full(), Timestamp(1_000_000));
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
        let (mut bucket, now) = (Bucket::full(), Timestamp(1_000_000));
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
        let (mut bucket, now) = (Bucket::full(), Timestamp(1_000_000));
        bucket.empty(now);
        assert_eq!(bucket.take(now, Duration::ZERO), Ok(REFILL));
        assert_eq!(bucket.take(now.plus(Duration::from_mins(2)), Duration::ZERO), Ok(Duration::ZERO));

        let mut bucket = Bucket::full();
        bucket.take(Timestamp(1_000_000_000), Duration::ZERO).expect("full");
        let earlier = Timestamp(1_000_000);
        bucket.take(earlier, Duration::ZERO).expect_err("its turn seems to be far away");
        let wait = bucket.take(earlier.plus(Duration::from_mins(1)), Duration::ZERO);
        assert!(wait.is_err_and(|wait| wait < Duration::from_mins(2)), "bounded, whatever the clock said: {wait:?}");
    }
}
