//! Some seeds in the profile of the tests, and that a run is the same whenever it is played.

use runner_scaler_world::Tape;
use simulation::{Options, play};

/// A short day: the profile of the tests is not made for speed.
const SHORT: Options = Options { hours: 6, quiet_hours: 3, ..DAY };
const DAY: Options = Options {
    hours: 24,
    quiet_hours: 4,
    mutant: runner_scaler_core::config::Mutant::None,
    timeline: false,
    logs: false,
    stop: simulation::run::Stop::Never,
};

#[test]
fn some_seeds_hold_every_invariant() {
    for seed in 0..6 {
        let outcome = play(Tape::from_seed(seed), &SHORT);
        assert!(outcome.violations.is_empty(), "seed {seed}: {:?}", outcome.violations);
        // Two functions a minute for nine hours make 1,080, of which slow hours and throttling take some.
        assert!(outcome.tally.passes > 900, "seed {seed}: {} passes", outcome.tally.passes);
    }
}

#[test]
fn a_run_is_the_same_again_from_its_seed_and_from_its_choices() {
    let options = Options { timeline: true, ..SHORT };
    let first = play(Tape::from_seed(11), &options);
    let again = play(Tape::from_seed(11), &options);
    let replayed = play(Tape::from_choices(first.choices.clone()), &options);
    assert_eq!((first.hash, first.hash), (again.hash, replayed.hash));
    assert_ne!(first.hash, play(Tape::from_seed(12), &options).hash, "another run is another");
    assert!(first.timeline.text(&[]).contains("scale-down begins"), "a timeline tells what happened");
}

#[test]
fn an_empty_tape_is_a_day_on_which_nothing_happens() {
    let outcome = play(Tape::from_choices(Vec::new()), &SHORT);
    assert!(outcome.violations.is_empty() && outcome.faults.is_empty());
    assert_eq!((outcome.tally.jobs, outcome.tally.launches), (0, 0));
}
