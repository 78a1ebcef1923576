//! The pace of our calls to GitHub, as arithmetic over a time that is passed in.
//!
//! GitHub lets one installation spend 900 points a minute on its REST API: 1 for a GET, 5 for a POST, PATCH, PUT or
//! DELETE (documentation, "Rate limits for the REST API", secondary limits, read 2026-11-20). The functions, and several
//! of each at once, spend them together. Fixed shares would let a scale-down that is alone do a fraction of what GitHub
//! allows, and would not hold where one function runs three times; so the bucket lies in the ledger, and each process
//! takes points from it by compare-and-swap, [`CHUNK`] at a time, before it changes anything. One that finds the ledger
//! unreachable goes on at a quarter of the pace by its own count.
//!
//! Reads are counted and hardly ever wait: they come in bursts (the pages of a list, a word on each runner before it is
//! removed) that fit into GitHub's minute, and what they delay is the knowledge that keeps a job alive. What they take is
//! noted in the same bucket afterwards, up to [`READS_AHEAD_MAX`], so that changes make room for them.
//!
//! What this refuses to know: which call it is, what GitHub answered, and the ledger.

use std::time::Duration;

use runner_scaler_core::ledger::Pace;
use runner_scaler_core::time::Timestamp;

/// What GitHub allows, in points a minute.
pub(super) const POINTS_A_MINUTE: u32 = 900;

/// Price of a call that changes something.
pub(super) const CHANGE: u32 = 5;

/// Points taken from the ledger at once. More, and as many are lost where a process has no use for them, or spent late;
/// fewer, and more changes cost a write: one in five does.
pub(super) const CHUNK: u32 = 25;

/// How long taken points are good for. Longer, and points that were saved up come on top of a full minute; shorter, and
/// a chunk is lost between two slow calls.
const GOOD_FOR: Duration = Duration::from_secs(3);

/// The longest wait for a call's turn. Longer, and an invocation sleeps away the time that others need; shorter, and
/// a few concurrent changes are sent back to their queue although their turn comes within seconds.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(10);

/// How far reads may put off changes. Longer, and a sweep over hundreds of runners sends launches back to their queue;
/// shorter, and reads hardly count.
const READS_AHEAD_MAX: Duration = Duration::from_secs(5);

/// Reads of one process that may be sent ahead of the pace before they wait, in parts of GitHub's minute: four fifths.
/// More, and they alone are refused; fewer, and the list of ten thousand runners waits.
const READS_BURST: (u32, u32) = (4, 5);

/// How long the pace is halved after a refusal.
pub(super) const SLOW_FOR: Duration = Duration::from_mins(15);

/// The longest addition to a wait, so that functions that were held up together do not go on together. More, and the
/// bucket refills noticeably slower (what is waited in addition is lost to it); less, and nothing is spread.
pub(super) const JITTER_MAX: Duration = Duration::from_millis(30);

/// How fast points come back, and how many may be taken at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    point: Duration,
    burst: u32,
}

impl Rate {
    /// Such that no minute has more than that: a fifteenth at once, and the others over the minute and as much longer
    /// as taken points stay good. With 900 a minute these are 60 at once and one each 76 ms, 1.14 times as long as
    /// GitHub's limit asks for. More at once, and it has to be slower; fewer, and a few launches at once, each of which
    /// registers a runner, wait in vain.
    pub(super) fn of(points_a_minute: u32) -> Self {
        let a_minute = Duration::from_mins(1) + GOOD_FOR;
        let burst = (points_a_minute / 15).max(CHUNK);
        let rest = points_a_minute.saturating_sub(burst).max(1);
        // A little more than exact, for the points that lie in both.
        Self { point: a_minute * 76 / 75 / rest, burst }
    }

    fn slowed(self, factor: u32) -> Self {
        Self { point: self.point * factor, ..self }
    }

    fn whole(self) -> Duration {
        self.point * self.burst
    }
}

/// What points are taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A change: it waits until they are there.
    Change,
    /// Reads that were sent already.
    Reads,
}

/// Takes points from the shared bucket: how it is afterwards, and when they are there. In `Err` that is farther away
/// than [`WAIT_MAX`], and none were taken.
pub(super) fn take(
    pace: &Pace,
    rate: Rate,
    points: u32,
    purpose: Purpose,
    now: Timestamp,
) -> Result<(Pace, Timestamp), Duration> {
    let rate = if pace.slow_until.is_some_and(|until| now < until) { rate.slowed(2) } else { rate };
    // A clock that was ahead must not look like calls that were never sent.
    let latest = now.plus(rate.whole() + WAIT_MAX);
    let before = pace.full_at.max(now).min(latest);
    let mut full_at = before.plus(rate.point * points);
    if purpose == Purpose::Reads {
        full_at = full_at.min(now.plus(rate.whole() + READS_AHEAD_MAX)).max(before);
    }
    let ready_at = full_at.minus(rate.whole()).max(now);
    let wait = ready_at.since(now);
    if purpose == Purpose::Change && wait > WAIT_MAX {
        return Err(wait);
    }
    Ok((Pace { full_at, ..pace.clone() }, ready_at))
}

/// The points that one process holds for an owner, and what it owes for reads.
#[derive(Debug, Default)]
pub(super) struct Purse {
    points: u32,
    /// When they are there.
    ready_at: Option<Timestamp>,
    reads: u32,
}

/// What a process does before a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spend {
    /// It had the points; they are there after that time.
    After(Duration),
    /// It takes so many first.
    Take(u32),
}

impl Purse {
    /// Pays for one change.
    pub(super) fn spend(&mut self, now: Timestamp) -> Spend {
        let good =
            self.ready_at.is_some_and(|ready_at| now <= ready_at.plus(GOOD_FOR) && ready_at <= now.plus(WAIT_MAX));
        if !good {
            self.points = 0;
        }
        match (self.points.checked_sub(CHANGE), self.ready_at) {
            (Some(rest), Some(ready_at)) => {
                self.points = rest;
                Spend::After(ready_at.since(now))
            }
            (_, _) => Spend::Take(CHUNK - self.points.min(CHUNK - 1) + self.reads),
        }
    }

    /// Takes in a chunk, which paid for the reads too.
    pub(super) fn fill(&mut self, ready_at: Timestamp) {
        (self.points, self.ready_at, self.reads) = (CHUNK, Some(ready_at), 0);
    }

    /// Counts a read; how many are to be noted, now and then.
    pub(super) fn read(&mut self) -> Option<u32> {
        self.reads += 1;
        (self.reads >= CHUNK).then(|| std::mem::take(&mut self.reads))
    }

    /// GitHub refused a call: its own count is ahead of ours.
    pub(super) fn empty(&mut self) {
        self.points = 0;
    }
}

/// A count of one process alone: of its reads, and of its changes while the ledger cannot be reached.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: Rate,
    /// When it will be full again if nothing more is taken; in the past, it is full.
    full_at: Timestamp,
}

impl Bucket {
    /// For reads, which wait only when it is deeply overdrawn.
    pub(super) fn of_reads(points_a_minute: u32) -> Self {
        let (part, whole) = READS_BURST;
        Self {
            rate: Rate { burst: points_a_minute / whole * part, ..Rate::of(points_a_minute) },
            full_at: Timestamp(0),
        }
    }

    /// For what the App changes in its own name: a token an hour and installation, redeliveries by one function. That is
    /// too little to be shared out, and a process that begins needs a token for each of its owners at once.
    pub(super) fn of_the_app(points_a_minute: u32) -> Self {
        Self { rate: Rate::of(points_a_minute), full_at: Timestamp(0) }
    }

    /// For changes without the ledger: a quarter of the pace, for three others may do the same.
    pub(super) fn without_ledger(points_a_minute: u32) -> Self {
        Self { rate: Rate::of(points_a_minute / 4), full_at: Timestamp(0) }
    }

    /// Takes points: how long to wait until they are there. In `Err` that is too long, and none were taken.
    pub(super) fn take(&mut self, points: u32, now: Timestamp) -> Result<Duration, Duration> {
        let latest = now.plus(self.rate.whole() + WAIT_MAX);
        let full_at = self.full_at.max(now).min(latest).plus(self.rate.point * points);
        let wait = full_at.minus(self.rate.whole()).since(now);
        if wait > WAIT_MAX {
            return Err(wait);
        }
        self.full_at = full_at;
        Ok(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn full() -> Pace {
        Pace { owner: "octo".into(), full_at: Timestamp(0), slow_until: None }
    }

    /// One process of several that share a bucket.
    #[derive(Default)]
    struct Process {
        purse: Purse,
        free_at: i64,
    }

    /// Points sent with their times, by so many processes over ten minutes.
    fn play(processes: usize, pause_max_ms: u64, reads_each: u64) -> Vec<(Timestamp, u32)> {
        // Pauses come from a fixed sequence, so that a failure can be repeated.
        let mut state = 7_u64;
        let mut next = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            i64::try_from((state >> 33) % below.max(1)).expect("small")
        };
        let (rate, mut shared, mut sent) = (Rate::of(POINTS_A_MINUTE), full(), Vec::new());
        let mut all: Vec<Process> = (0..processes).map(|_| Process { free_at: NOW.0, ..Process::default() }).collect();
        loop {
            let first = all.iter_mut().min_by_key(|process| process.free_at).expect("some");
            let now = Timestamp(first.free_at);
            if now.since(NOW) > Duration::from_mins(10) {
                break;
            }
            for _ in 0..reads_each {
                sent.push((now, 1));
                if let Some(points) = first.purse.read() {
                    shared = take(&shared, rate, points, Purpose::Reads, now).expect("reads are only noted").0;
                }
            }
            let mut wait = first.purse.spend(now);
            if let Spend::Take(points) = wait {
                match take(&shared, rate, points, Purpose::Change, now) {
                    Ok((taken, ready_at)) => {
                        shared = taken;
                        first.purse.fill(ready_at);
                        wait = first.purse.spend(now);
                    }
                    Err(long) => {
                        first.free_at = now.plus(long).0;
                        continue;
                    }
                }
            }
            let Spend::After(wait) = wait else { panic!("a full purse pays") };
            sent.push((now.plus(wait), CHANGE));
            first.free_at = now.plus(wait).0 + 1 + next(pause_max_ms);
        }
        sent.sort_unstable();
        sent
    }

    fn busiest_minute(sent: &[(Timestamp, u32)]) -> u32 {
        let minute = |(at, _): &(Timestamp, u32)| {
            let within = |(other, _): &&(Timestamp, u32)| *other >= *at && other.since(*at) < Duration::from_mins(1);
            sent.iter().filter(within).map(|(_, points)| points).sum()
        };
        sent.iter().map(minute).max().unwrap_or_default()
    }

    #[test]
    fn no_minute_of_any_number_of_processes_has_more_points_than_github_allows() {
        for processes in [1, 2, 5, 12] {
            for (case, pause_max_ms) in [
                ("as fast as it lets them", 1),
                ("often", 400),
                ("about as fast as it refills", 1_600),
                ("slower than taken points stay good", 8_000),
                ("in bursts", 60_000),
            ] {
                let points = busiest_minute(&play(processes, pause_max_ms, 0));
                assert!(points <= POINTS_A_MINUTE, "{processes} processes, {case}: {points}");
            }
        }
    }

    #[test]
    fn reads_between_changes_make_room_for_themselves() {
        for processes in [1, 2, 4] {
            let points = busiest_minute(&play(processes, 1, 2));
            // But for those that each process has not noted yet.
            let unnoted = CHUNK * u32::try_from(processes).expect("few");
            assert!(points <= POINTS_A_MINUTE + unnoted, "{processes} processes, two reads a change: {points}");
        }
    }

    #[test]
    fn one_process_alone_is_hardly_slower_than_githubs_limit() {
        for (case, reads) in [("changes only", 0), ("two reads a change", 2)] {
            let points: u32 = play(1, 1, reads).iter().map(|(_, points)| points).sum();
            // Ten minutes of GitHub's limit, in 1.15 times the time (design section 12).
            assert!(points * 115 / 100 >= POINTS_A_MINUTE * 10, "{case}: {points} points in ten minutes");
        }
    }

    #[test]
    fn ten_changes_at_once_do_not_wait_and_the_next_take_turns() {
        let (rate, mut shared, mut purse) = (Rate::of(POINTS_A_MINUTE), full(), Purse::default());
        let mut waits = Vec::new();
        for _ in 0..35 {
            if let Spend::Take(points) = purse.spend(NOW) {
                let (taken, ready_at) = take(&shared, rate, points, Purpose::Change, NOW).expect("within ten seconds");
                shared = taken;
                purse.fill(ready_at);
                purse.points -= CHANGE;
            }
            waits.push(purse.ready_at.expect("filled").since(NOW));
        }
        assert!(waits.iter().take(10).all(Duration::is_zero), "{waits:?}");
        assert!(waits.is_sorted() && waits.last().is_some_and(|last| *last > Duration::from_secs(5)), "{waits:?}");
    }

    #[test]
    fn whose_turn_is_too_far_away_is_told_when_and_takes_none() {
        let rate = Rate::of(POINTS_A_MINUTE);
        let empty = Pace { full_at: NOW.plus(rate.whole() + WAIT_MAX), ..full() };
        let refused = take(&empty, rate, CHUNK, Purpose::Change, NOW).expect_err("too far away");
        assert!(refused > WAIT_MAX && refused < WAIT_MAX + Duration::from_secs(3), "{refused:?}");
        let (noted, _) = take(&empty, rate, CHUNK, Purpose::Reads, NOW).expect("sent already");
        assert_eq!(noted.full_at, empty.full_at, "reads put nothing off for longer than that");
    }

    #[test]
    fn a_refusal_halves_the_pace_for_a_while() {
        let rate = Rate::of(POINTS_A_MINUTE);
        let slow = Pace { slow_until: Some(NOW.plus(SLOW_FOR)), ..full() };
        let until_full =
            |pace: &Pace, now| take(pace, rate, CHUNK, Purpose::Change, now).expect("full").0.full_at.since(now);
        assert_eq!(until_full(&slow, NOW), until_full(&full(), NOW) * 2);
        let later = NOW.plus(SLOW_FOR);
        assert_eq!(until_full(&slow, later), until_full(&full(), later), "and not for ever");
    }

    #[test]
    fn a_clock_set_back_and_points_of_yesterday_mend_by_themselves() {
        let rate = Rate::of(POINTS_A_MINUTE);
        let ahead = Pace { full_at: Timestamp(1_000_000_000), ..full() };
        let wait = take(&ahead, rate, CHUNK, Purpose::Change, NOW).expect_err("its turn seems to be far away");
        assert!(wait < Duration::from_secs(20), "bounded, whatever the clock said: {wait:?}");
        let mut purse = Purse::default();
        purse.fill(Timestamp(1_000_000_000));
        assert!(matches!(purse.spend(NOW), Spend::Take(_)), "points of a clock that was ahead");
        purse.fill(NOW);
        assert_eq!(purse.spend(NOW), Spend::After(Duration::ZERO));
        assert!(matches!(purse.spend(NOW.plus(GOOD_FOR * 2)), Spend::Take(_)), "they were good for a moment");
    }

    #[test]
    fn reads_wait_only_when_deeply_overdrawn() {
        let mut reads = Bucket::of_reads(POINTS_A_MINUTE);
        let waits: Vec<_> = (0..1_000).map(|_| reads.take(1, NOW)).collect();
        assert!(waits.iter().take(720).all(|wait| *wait == Ok(Duration::ZERO)), "a list of 72,000 runners");
        assert!(waits[730].is_ok_and(|wait| !wait.is_zero()));
        assert!(waits[999].is_err(), "they come back when their turn is near");
    }

    #[test]
    fn without_the_ledger_four_processes_keep_githubs_limit() {
        let mut bucket = Bucket::without_ledger(POINTS_A_MINUTE);
        let (mut points, mut now) = (0, NOW);
        while now.since(NOW) < Duration::from_mins(1) {
            points += CHANGE;
            now = now.plus(bucket.take(CHANGE, now).expect("one after the other"));
        }
        assert!(points * 4 <= POINTS_A_MINUTE && points * 5 > POINTS_A_MINUTE, "{points}");
    }
}
