//! What happened, for people and for the comparison of two runs.

use std::fmt::Write as _;

use runner_scaler_world::Millis;

use crate::sim::START;

/// Lines for people, where asked for, and a number that stands for the whole run.
#[derive(Debug, Default, Clone)]
pub struct Timeline {
    lines: Option<Vec<(Millis, String)>>,
    hash: u64,
}

impl Timeline {
    /// One that keeps lines.
    #[must_use]
    pub fn kept() -> Self {
        Self { lines: Some(Vec::new()), hash: 0 }
    }

    /// Whether lines are kept.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.lines.is_some()
    }

    /// Notes a line, which is made only where lines are kept.
    pub fn note(&mut self, at: Millis, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push((at, line()));
        }
    }

    /// Mixes something into the run's number.
    pub fn mark(&mut self, at: Millis, what: u64) {
        let mixed = (self.hash ^ at.unsigned_abs()).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.hash = (mixed ^ (mixed >> 29) ^ what).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    }

    /// The run's number.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// All lines as text, each with its time since the run's first moment; only those that hold one of `about`, where
    /// it names anything.
    #[must_use]
    pub fn text(&self, about: &[String]) -> String {
        let mut text = String::new();
        for (at, line) in self.lines.iter().flatten() {
            if about.is_empty() || about.iter().any(|word| line.contains(word.as_str())) {
                // Writing to a string never fails.
                writeln!(text, "{}  {line}", clock(*at)).ok();
            }
        }
        text
    }
}

/// A time as hours, minutes, seconds and milliseconds since the run's first moment.
#[must_use]
pub fn clock(at: Millis) -> String {
    let ms = at - START;
    format!("{:02}:{:02}:{:02}.{:03}", ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000)
}
