//! kill -9 to the supervisor at every point of a run: the job completes and the power goes off.
//!
//! All 1,000 rounds of both variants:
//! `nice cargo test --release -p runner-supervisor --test survival -- --ignored --nocapture`

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use support::{Cloud, Machine, Numbers, Plan, cgroups_can_be_made, wait_for};

/// How many instances live at once.
const SIDE_BY_SIDE: u64 = 6;

/// Between two lines of progress.
const PROGRESS: u64 = 100;

/// Where a point was not met by chance, rounds are added, at most until there were this many times as many.
const MORE_ROUNDS: u64 = 10;

/// Within this after its configuration was asked for, a supervisor starts its listener.
const START_MICROS: u64 = 4_000;

const PATIENCE: Duration = Duration::from_secs(60);

const SEED: u64 = 20_261_127;

/// What came of the rounds.
#[derive(Debug, Default)]
struct Tally {
    jobs_done: AtomicU64,
    jobs_lost: AtomicU64,
    ended_idle: AtomicU64,
    still_there: AtomicU64,
    kills: AtomicU64,
    kills_before_the_listener: AtomicU64,
    kills_while_frozen: AtomicU64,
    jobs_done_after_a_kill_while_frozen: AtomicU64,
}

impl Tally {
    /// The points of a run that no kill met. The rounds say something only when each of them was met.
    fn points_never_met(&self) -> Vec<&'static str> {
        let points = [
            ("killed before its listener was there", &self.kills_before_the_listener),
            ("idle, and ended by a drain", &self.ended_idle),
            ("killed while its listener stood still, its job done", &self.jobs_done_after_a_kill_while_frozen),
        ];
        points.into_iter().filter(|(_, met)| met.load(Ordering::Relaxed) == 0).map(|(point, _)| point).collect()
    }
}

fn rounds(count: u64, freezer: &'static str) -> Tally {
    let (cloud, next, tally) = (Cloud::start(), AtomicU64::new(0), Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                loop {
                    let round = next.fetch_add(1, Ordering::Relaxed);
                    if round >= count && (tally.points_never_met().is_empty() || round >= MORE_ROUNDS * count) {
                        return;
                    }
                    if round > 0 && round % PROGRESS == 0 {
                        eprintln!("{round} of {count} rounds, {freezer}");
                    }
                    play(&cloud, round, freezer, &tally);
                }
            });
        }
    });
    eprintln!("{count} rounds, {freezer}: {tally:?}");
    tally
}

/// One instance, killed one to three times. In every other round at any moment, in half of those first while it starts
/// its listener; in the others when it has been asked to drain and its listener stands still. Half of those requests are
/// taken back afterwards, and then the job has to be done as in the rounds without one.
fn play(cloud: &Cloud, round: u64, freezer: &str, tally: &Tally) {
    let mut numbers = Numbers::new(SEED + round);
    let ms = |value: u64| format!("0.{value:03}");
    let (drained, taken_back) = (round % 2 == 1, round % 4 == 1);
    let plan = Plan {
        // A job that is to be taken has to find a listener that was not ended before it came.
        job_after: ms(if taken_back { 300 } else { 50 } + numbers.below(100)),
        acquisition: ms(numbers.below(30)),
        job: ms(numbers.below(200)),
        ..Plan::default()
    };
    let mut machine = Machine::new(cloud, &plan).set("FREEZER", freezer);
    let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
    let mut frozen = false;
    for kill in 0..=numbers.below(3) {
        machine.start();
        if drained {
            frozen |= kill_when_frozen(&mut machine, tally);
            if taken_back {
                cloud.take_drain_back(&machine.id);
            }
        } else {
            if kill == 0 && round % 4 == 2 {
                // A sleep would hit these few milliseconds once in a hundred times.
                support::spin_until(PATIENCE, || !cloud.calls("GetParameter", &machine.id).is_empty());
                support::spin_for(Duration::from_micros(numbers.below(START_MICROS)));
            } else {
                std::thread::sleep(Duration::from_micros(numbers.below(400_000)));
            }
            machine.kill_supervisor();
            if machine.leader().is_none() {
                count(&tally.kills_before_the_listener);
            }
        }
        count(&tally.kills);
    }
    machine.start();
    if wait_for(PATIENCE, || machine.is_off()).is_none() {
        count(&tally.still_there);
        eprintln!("still there: {plan:?}\n{}", machine.journal());
    }
    if machine.has("runner/finished") {
        count(&tally.jobs_done);
        if frozen {
            count(&tally.jobs_done_after_a_kill_while_frozen);
        }
    } else if drained && !machine.has("runner/acknowledged") {
        count(&tally.ended_idle);
    } else {
        count(&tally.jobs_lost);
        eprintln!("lost its job: {plan:?}\n{}", machine.journal());
    }
}

/// Whether the supervisor was killed while its listener stood still, which it does for a millisecond or two.
fn kill_when_frozen(machine: &mut Machine, tally: &Tally) -> bool {
    wait_for(PATIENCE, || machine.is_listening() || machine.is_off());
    machine.drain();
    support::spin_until(Duration::from_millis(300), || machine.is_frozen() || machine.is_off());
    machine.kill_supervisor();
    let frozen = machine.is_frozen() && machine.listener_is_there();
    if frozen {
        tally.kills_while_frozen.fetch_add(1, Ordering::Relaxed);
    }
    frozen
}

fn none_is_lost(tally: &Tally) {
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    assert_eq!((of(&tally.jobs_lost), of(&tally.still_there)), (0, 0), "{tally:?}");
    assert_eq!(tally.points_never_met(), [""; 0], "{tally:?}");
}

#[test]
fn a_killed_supervisor_loses_no_job_in_a_cgroup() {
    if cgroups_can_be_made("kill -9 with a frozen cgroup") {
        none_is_lost(&rounds(60, "auto"));
    }
}

#[test]
fn a_killed_supervisor_loses_no_job_in_a_process_tree() {
    none_is_lost(&rounds(60, "stop"));
}

#[test]
#[ignore = "1,000 rounds; see the top of this file"]
fn a_thousand_kills_in_a_cgroup() {
    if cgroups_can_be_made("kill -9 with a frozen cgroup") {
        none_is_lost(&rounds(1_000, "auto"));
    }
}

#[test]
#[ignore = "1,000 rounds; see the top of this file"]
fn a_thousand_kills_in_a_process_tree() {
    none_is_lost(&rounds(1_000, "stop"));
}

/// What systemd does after any death (`ExecStopPost`), also where no supervisor comes back.
#[test]
fn thaw_lets_a_frozen_listener_go_on() {
    // Also with settings that are wrong meanwhile.
    for (freezer, beat) in [("auto", "60"), ("stop", "60"), ("auto", "soon"), ("stop", "soon")] {
        let cloud = Cloud::start();
        let plan = Plan { job_after: "3600".into(), ..Plan::default() };
        for attempt in 0.. {
            let mut machine = Machine::new(&cloud, &plan).set("FREEZER", freezer);
            machine.start();
            assert!(wait_for(PATIENCE, || machine.is_listening()).is_some(), "{}", machine.journal());
            machine.drain();
            support::spin_until(Duration::from_secs(5), || machine.is_frozen() || machine.is_off());
            machine.kill_supervisor();
            if machine.is_frozen() && machine.listener_is_there() {
                machine = machine.set("BEAT_SECONDS", beat);
                let output = machine.command("thaw");
                assert!(output.status.success(), "{output:?}");
                // The kill may have landed just after the supervisor had ended its listener, which goes on dying then.
                if !machine.journal().contains("powers off") {
                    assert!(!machine.is_frozen() && machine.listener_is_there(), "{}", machine.journal());
                    break;
                }
            }
            assert!(attempt < 200, "{freezer}: never killed while the listener stood still");
        }
    }
}
