//! The atomic stop with real processes: a listener takes a job at a random moment while drains arrive.
//!
//! All 10,000 rounds of both variants (about half an hour; build it optimised, and leave the machine some air):
//! `nice cargo test --release -p runner-supervisor --test atomic_stop -- --ignored --nocapture`

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Write as _;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use support::{Cloud, Machine, Numbers, Plan, STARTED, cgroups_can_be_made, wait_for};

/// How many instances live at once.
const SIDE_BY_SIDE: u64 = 6;

/// Between two lines of progress.
const PROGRESS: u64 = 1_000;

/// Where an end of the race was not met by chance, rounds are added, at most until there were this many times as many.
const MORE_ROUNDS: u64 = 10;

/// An idle listener must not survive its drain for longer than this on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Nor for longer than this on a machine that had nothing else to do when the rounds began.
const PATIENCE_WHEN_IDLE: Duration = Duration::from_secs(10);

const SEED: u64 = 20_261_126;

/// What came of the rounds.
#[derive(Debug, Default)]
struct Tally {
    jobs_done: AtomicU64,
    jobs_lost: AtomicU64,
    drained_idle: AtomicU64,
    drains_refused: AtomicU64,
    still_there: AtomicU64,
    slowest_ms: AtomicU64,
}

impl Tally {
    /// The rounds say something only when both ends of the race were met.
    fn both_ends_were_met(&self) -> bool {
        let ends = [&self.jobs_done, &self.drained_idle, &self.drains_refused];
        ends.iter().all(|end| end.load(Ordering::Relaxed) > 0)
    }
}

/// How long an idle listener may survive its drain here: measured once, before our own rounds are load.
fn patience() -> Duration {
    static PATIENCE_HERE: LazyLock<Duration> = LazyLock::new(|| {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap();
        let cores = std::thread::available_parallelism().unwrap().get();
        let idle = load.split(' ').next().unwrap().parse::<f64>().unwrap() < f64::from(u32::try_from(cores).unwrap());
        let patience = if idle { PATIENCE_WHEN_IDLE } else { PATIENCE };
        let said = writeln!(std::io::stderr(), "a drain may take {patience:?}: {cores} cores, load {}", load.trim());
        said.map(|()| patience).unwrap()
    });
    *PATIENCE_HERE
}

fn rounds(count: u64, freezer: &'static str) -> Tally {
    patience();
    let (cloud, next, tally) = (Cloud::start(), AtomicU64::new(0), Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                loop {
                    let round = next.fetch_add(1, Ordering::Relaxed);
                    if round >= count && (tally.both_ends_were_met() || round >= MORE_ROUNDS * count) {
                        return;
                    }
                    if round > 0 && round % PROGRESS == 0 {
                        eprintln!("{round} of {count} rounds, {freezer}");
                    }
                    play(&cloud, &mut Numbers::new(SEED + round), freezer, &tally);
                }
            });
        }
    });
    eprintln!("{count} rounds, {freezer}: {tally:?}");
    tally
}

/// One instance: its job comes 0 to 60 ms after it listens, or never; the drains begin in the same time.
fn play(cloud: &Cloud, numbers: &mut Numbers, freezer: &str, tally: &Tally) {
    let ms = |value: u64| format!("0.{value:03}");
    let never = numbers.below(5) == 0;
    let plan = Plan {
        job_after: if never { String::new() } else { ms(numbers.below(60)) },
        acquisition: ms(numbers.below(20)),
        job: ms(numbers.below(60)),
        ..Plan::default()
    };
    let mut machine = Machine::new(cloud, &plan).set("FREEZER", freezer);
    machine.start();
    // How long that takes says nothing of any drain.
    assert!(wait_for(STARTED, || machine.is_listening()).is_some(), "{}", machine.journal());
    std::thread::sleep(Duration::from_micros(numbers.below(80_000)));
    for _ in 0..numbers.below(3) {
        machine.drain();
        std::thread::sleep(Duration::from_micros(numbers.below(20_000)));
    }
    machine.drain();
    let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
    match wait_for(PATIENCE, || machine.is_off()) {
        None => {
            count(&tally.still_there);
            eprintln!("still there: {plan:?}\n{}", machine.journal());
        }
        // A drain that met a job was spent, and the instance ended with its job: that is no wait for a drain.
        Some(took) if machine.journal().contains("(Drained)") => {
            count(&tally.drained_idle);
            tally.slowest_ms.fetch_max(took.as_millis().try_into().unwrap(), Ordering::Relaxed);
        }
        Some(_) => {
            count(&tally.drains_refused);
        }
    }
    if machine.lost_its_job() {
        count(&tally.jobs_lost);
        eprintln!("lost its job: {plan:?}\n{}", machine.journal());
    } else if machine.has("runner/finished") {
        count(&tally.jobs_done);
    }
}

fn none_is_lost(tally: &Tally) {
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    assert_eq!((of(&tally.jobs_lost), of(&tally.still_there)), (0, 0), "{tally:?}");
    assert!(u128::from(of(&tally.slowest_ms)) <= patience().as_millis(), "{:?} at most: {tally:?}", patience());
    assert!(tally.both_ends_were_met(), "{tally:?}");
}

#[test]
fn a_cgroup_stops_with_nothing_in_it_or_not_at_all() {
    if cgroups_can_be_made("the atomic stop by cgroup") {
        none_is_lost(&rounds(150, "auto"));
    }
}

#[test]
fn a_process_tree_stops_with_nothing_in_it_or_not_at_all() {
    none_is_lost(&rounds(150, "stop"));
}

#[test]
#[ignore = "10,000 rounds; see the top of this file"]
fn ten_thousand_rounds_by_cgroup() {
    if cgroups_can_be_made("the atomic stop by cgroup") {
        none_is_lost(&rounds(10_000, "auto"));
    }
}

#[test]
#[ignore = "10,000 rounds; see the top of this file"]
fn ten_thousand_rounds_by_sigstop() {
    none_is_lost(&rounds(10_000, "stop"));
}
