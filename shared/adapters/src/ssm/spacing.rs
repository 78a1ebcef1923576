//! Spacing of `PutParameter`: as fast as SSM lets it, found out by what SSM refuses. Arithmetic over a time that is passed in.
//!
//! SSM admits about 3 puts a second by default and 10 with its higher throughput (facts/github.md section 4), and does
//! not say which. Puts go out at full speed until one is refused; from then on each refusal spaces them wider and each
//! success closer, so that they go on a little faster than they are admitted.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use runner_scaler_core::time::Timestamp;

/// First space after a refusal. Wider, and a single refusal slows an account down that admits ten a second; closer, and
/// more of a burst is refused before the pace is found.
const FIRST: Duration = Duration::from_millis(80);

/// Widest space: a little slower than the slowest account admits. Wider, and a burst of refusals costs more than it saves.
const WIDEST: Duration = Duration::from_millis(400);

/// Puts of this process.
#[derive(Debug, Default)]
pub(crate) struct Spacing(Mutex<State>);

#[derive(Debug)]
struct State {
    space: Duration,
    next_at: Timestamp,
}

impl Default for State {
    fn default() -> Self {
        Self { space: Duration::ZERO, next_at: Timestamp(0) }
    }
}

impl Spacing {
    /// Takes a turn: how long it waits until it may be sent.
    pub(super) fn turn(&self, now: Timestamp) -> Duration {
        self.with(|state| {
            // A clock that was set back must not look like turns that were never used.
            let at = if state.next_at.since(now) > WIDEST * TURNS_MAX { now } else { state.next_at.max(now) };
            state.next_at = at.plus(state.space);
            at.since(now)
        })
    }

    /// SSM took one: a tenth closer.
    pub(super) fn admitted(&self) {
        self.with(|state| {
            let closer = state.space * 9 / 10;
            state.space = if closer < FIRST / 4 { Duration::ZERO } else { closer };
        });
    }

    /// SSM refused one: half as wide again.
    pub(super) fn refused(&self) {
        self.with(|state| state.space = (state.space * 3 / 2).clamp(FIRST, WIDEST));
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Turns that can be taken ahead: as many as puts are in flight at once, with much to spare.
const TURNS_MAX: u32 = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn puts_are_not_spaced_until_one_is_refused_and_again_once_none_is() {
        let (spacing, now) = (Spacing::default(), Timestamp(1_000_000));
        for _ in 0..50 {
            assert_eq!(spacing.turn(now), Duration::ZERO);
        }
        spacing.refused();
        let waits: Vec<u128> = (0..4).map(|_| spacing.turn(now).as_millis()).collect();
        assert_eq!(waits, [0, 80, 160, 240]);
        for _ in 0..20 {
            spacing.admitted();
        }
        let later = now.plus(Duration::from_secs(1));
        assert_eq!([spacing.turn(later), spacing.turn(later)], [Duration::ZERO; 2]);
    }

    #[test]
    fn the_space_is_bounded_and_a_clock_set_back_stops_nobody() {
        let (spacing, now) = (Spacing::default(), Timestamp(1_000_000_000));
        for _ in 0..100 {
            spacing.refused();
        }
        spacing.turn(now);
        assert_eq!(spacing.turn(now), WIDEST);
        assert_eq!(spacing.turn(Timestamp(1_000_000)), Duration::ZERO);
    }

    /// SSM as it counts: a bucket of so many, refilled at so many a second. A put that is refused comes again later.
    #[test]
    fn a_burst_of_a_hundred_takes_little_longer_than_the_limit_asks_for() {
        for (a_second, burst) in [(3.0_f64, 3.0_f64), (10.0, 10.0), (40.0, 40.0)] {
            let spacing = Spacing::default();
            let (mut tokens, mut filled_at, mut refusals) = (burst, 0_i64, 0);
            let mut waiting: Vec<(i64, u32)> = (0..8).map(|_| (0, 0)).collect();
            let (mut to_start, mut done, mut ended_at) = (92, 0, 0);
            while done < 100 {
                waiting.sort_unstable_by_key(|(at, _)| std::cmp::Reverse(*at));
                let (at, tries) = waiting.pop().expect("one in flight");
                let sent_at = at + i64::try_from(spacing.turn(Timestamp(at)).as_millis()).expect("small");
                #[expect(clippy::cast_precision_loss, reason = "milliseconds of a minute")]
                let passed = (sent_at - filled_at).max(0) as f64 / 1_000.0;
                tokens = (tokens + passed * a_second).min(burst);
                filled_at = filled_at.max(sent_at);
                if tokens >= 1.0 {
                    tokens -= 1.0;
                    spacing.admitted();
                    (done, ended_at) = (done + 1, ended_at.max(sent_at));
                    if to_start > 0 {
                        to_start -= 1;
                        waiting.push((sent_at + 10, 0));
                    }
                } else {
                    spacing.refused();
                    refusals += 1;
                    assert!(tries < 10, "{a_second} a second: a put was given up");
                    waiting.push((sent_at + 10 + (50 << tries.min(6)), tries + 1));
                }
            }
            #[expect(clippy::cast_precision_loss, reason = "milliseconds of a minute")]
            let (took, least) = (ended_at as f64 / 1_000.0, (100.0 - burst) / a_second);
            assert!(
                took <= least * 1.15 + 0.5,
                "{a_second} a second: {took} s instead of {least}, {refusals} refusals"
            );
        }
    }
}
