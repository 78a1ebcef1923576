//! Clocks that jump: limits count on the one that never does, and only the age of a request is read off the other.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use runner_supervisor::clock::{Clock, SystemClock};
use runner_supervisor::config::Config;
use runner_supervisor::supervise;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use support::{Cloud, Machine, Plan, WHEN_BROUGHT, WHEN_ENDED, wait_for};

const SOON: Duration = Duration::from_secs(60);
const A_WHILE: Duration = Duration::from_millis(800);
const HOUR_MS: i64 = 3_600_000;

/// The machine's clocks, of which somebody sets the one on the wall.
#[derive(Default)]
struct Jumping {
    wall_ahead_ms: AtomicI64,
    wall_read: AtomicU64,
}

impl Jumping {
    /// Waits for several looks: each reads the clock on the wall, once or twice, and others hardly ever do.
    fn let_it_look(&self) {
        let before = self.wall_read.load(Ordering::Relaxed);
        assert!(wait_for(SOON, || before + 8 <= self.wall_read.load(Ordering::Relaxed)).is_some());
    }
}

impl Clock for Jumping {
    fn since_boot(&self) -> i64 {
        SystemClock.since_boot()
    }

    fn wall(&self) -> i64 {
        self.wall_read.fetch_add(1, Ordering::Relaxed);
        SystemClock.wall() + self.wall_ahead_ms.load(Ordering::Relaxed)
    }
}

/// The supervisor as a part of this process, with a clock of ours; it goes on until the process ends.
fn supervised(plan: &Plan) -> (Machine, Arc<Jumping>) {
    let machine = Machine::new(&Cloud::start(), plan).set("IDLE_MAXIMUM_SECONDS", "1200");
    let vars = machine.vars();
    let config =
        Config::from_vars(|name| vars.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())).unwrap();
    let clock = Arc::new(Jumping::default());
    let for_it = Arc::clone(&clock);
    std::thread::spawn(move || supervise::run(config, for_it, env!("CARGO_BIN_EXE_runner-supervisor").into()));
    assert!(wait_for(SOON, || machine.is_listening()).is_some());
    (machine, clock)
}

#[test]
fn a_wall_clock_that_jumps_ends_nothing_and_hides_a_request_only_while_it_is_wrong() {
    let (machine, clock) = supervised(&Plan::default());
    for ahead in [HOUR_MS, -HOUR_MS, 5 * 24 * HOUR_MS + 3 * HOUR_MS] {
        clock.wall_ahead_ms.store(ahead, Ordering::Relaxed);
        machine.drain();
        std::thread::sleep(A_WHILE);
        assert!(!machine.is_off(), "a clock that is {ahead} ms ahead");
    }
    clock.wall_ahead_ms.store(0, Ordering::Relaxed);
    machine.drain();
    assert!(wait_for(SOON, || machine.is_off()).is_some());
    let signs = machine.cloud.calls("PutItem", &machine.id);
    assert!(signs.last().unwrap().body["Item"]["drain_seen_at"]["N"].is_string());
}

#[test]
fn a_wall_clock_that_jumps_ends_no_job() {
    let plan = Plan { job_after: "0".into(), job: WHEN_ENDED.into(), ..Plan::default() };
    let (machine, clock) = supervised(&plan);
    assert!(wait_for(SOON, || machine.has("runner/working")).is_some());
    clock.wall_ahead_ms.store(30 * 24 * HOUR_MS, Ordering::Relaxed);
    std::thread::sleep(A_WHILE);
    assert!(!machine.is_off());
    machine.end_job();
    assert!(wait_for(SOON, || machine.is_off()).is_some());
    assert!(machine.has("runner/finished"));
}

#[test]
fn a_request_that_could_not_be_decided_on_is_closed_when_it_is_old() {
    let plan = Plan { job_after: WHEN_BROUGHT.into(), ..Plan::default() };
    let (machine, clock) = supervised(&plan);
    // A log that never ends: no look reads all of it, so that none says that the listener is idle.
    let log = machine.path("runner/_diag/Runner_endless.log");
    std::fs::File::create(&log).unwrap().set_len(1 << 40).unwrap();
    clock.let_it_look();
    machine.drain();
    let heard = || {
        let signs = machine.cloud.calls("PutItem", &machine.id);
        signs.iter().any(|sign| sign.body["Item"]["drain_seen_at"]["N"].is_string())
    };
    assert!(wait_for(SOON, heard).is_some());
    machine.cloud.take_drain_back(&machine.id);
    clock.wall_ahead_ms.store(HOUR_MS, Ordering::Relaxed);
    clock.let_it_look();
    clock.wall_ahead_ms.store(0, Ordering::Relaxed);
    std::fs::remove_file(log).unwrap();
    // It is believed to be idle only after three seconds without a word.
    std::thread::sleep(Duration::from_secs(3) + A_WHILE);
    assert!(!machine.is_off());
    machine.drain();
    assert!(wait_for(SOON, || machine.is_off()).is_some());
}
