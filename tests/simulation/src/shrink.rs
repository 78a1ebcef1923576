//! Makes a failing tape small: cut its end, set choices to the benign one, make numbers smaller.
//!
//! A zero is no fault, no job and no delay, so that what is left is what the violation needs.

use runner_scaler_world::Tape;

use crate::run::{Options, Stop, play};

/// What became of a tape.
#[derive(Debug)]
pub struct Shrunk {
    /// The choices that are left.
    pub choices: Vec<u64>,
    /// Runs that it took.
    pub runs: u64,
}

/// The first choices of a tape decide which faults a run has, and how strong they are: each of them is tried by itself.
const PLAN: usize = 300;

/// Shrinks a tape that violates an invariant, within so many runs; `told` is told after each how many choices are left.
#[must_use]
pub fn shrink(
    choices: Vec<u64>,
    invariant: &'static str,
    options: &Options,
    runs_max: u64,
    told: impl Fn(u64, usize),
) -> Shrunk {
    let options = Options { timeline: false, stop: Stop::AtViolation(invariant), ..*options };
    let mut shrunk = Shrunk { choices, runs: 0 };
    let runs = std::cell::Cell::new(0);
    let fails = |choices: &[u64]| {
        let outcome = play(Tape::from_choices(choices.to_vec()), &options);
        runs.set(runs.get() + 1);
        told(runs.get(), choices.iter().filter(|choice| **choice != 0).count());
        outcome.violations.iter().any(|violation| violation.invariant == invariant)
    };
    shrunk.cut_end(&fails, runs_max);
    shrunk.quieten(PLAN, 1, &fails, runs_max);
    let mut block = shrunk.choices.len().next_power_of_two() / 2;
    // What is left of the runs is for numbers that could be smaller.
    while block > 0 && shrunk.runs < runs_max / 4 * 3 {
        shrunk.quieten(usize::MAX, block, &fails, runs_max / 4 * 3);
        block /= 2;
    }
    shrunk.make_smaller(&fails, runs_max);
    shrunk.cut_end(&fails, runs_max);
    shrunk
}

impl Shrunk {
    fn attempt(&mut self, choices: Vec<u64>, fails: &impl Fn(&[u64]) -> bool) -> bool {
        self.runs += 1;
        let smaller = fails(&choices);
        if smaller {
            self.choices = choices;
        }
        smaller
    }

    fn cut_end(&mut self, fails: &impl Fn(&[u64]) -> bool, runs_max: u64) {
        let mut cut = self.choices.len() / 2;
        while cut > 0 && self.runs < runs_max {
            let shorter = self.choices.len().saturating_sub(cut);
            let choices = self.choices.get(..shorter).unwrap_or_default().to_vec();
            if !self.attempt(choices, fails) {
                cut /= 2;
            }
        }
        while self.choices.last() == Some(&0) {
            self.choices.pop();
        }
    }

    /// Sets blocks of the first choices to zero.
    fn quieten(&mut self, first: usize, block: usize, fails: &impl Fn(&[u64]) -> bool, runs_max: u64) {
        let mut begin = 0;
        while begin < self.choices.len().min(first) && self.runs < runs_max {
            let end = (begin + block).min(self.choices.len());
            let loud = self.choices.get(begin..end).is_some_and(|part| part.iter().any(|choice| *choice != 0));
            if loud {
                let mut choices = self.choices.clone();
                choices.iter_mut().take(end).skip(begin).for_each(|choice| *choice = 0);
                self.attempt(choices, fails);
            }
            begin = end;
        }
    }

    fn make_smaller(&mut self, fails: &impl Fn(&[u64]) -> bool, runs_max: u64) {
        for place in 0..self.choices.len() {
            while self.runs < runs_max {
                let Some(half) = self.choices.get(place).map(|choice| choice / 2).filter(|half| *half > 0) else {
                    break;
                };
                let mut choices = self.choices.clone();
                if let Some(choice) = choices.get_mut(place) {
                    *choice = half;
                }
                if !self.attempt(choices, fails) {
                    break;
                }
            }
        }
    }
}
