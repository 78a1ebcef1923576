//! The choice tape: the only source of chance in the world.
//!
//! A seeded tape is endless; an explicit one ends, and an ended tape yields the benign choice (0, `false`, the lower
//! bound), so that every prefix of a tape is a legal run with fewer faults. What was drawn is recorded for replay.

/// A deterministic stream of choices.
#[derive(Debug, Clone)]
pub struct Tape {
    source: Source,
    drawn: Vec<u64>,
}

#[derive(Debug, Clone)]
enum Source {
    Seed(u64),
    Choices { choices: Vec<u64>, position: usize },
}

/// Resolution of a probability: fine enough for rates of one in a million.
const PARTS: u64 = 1_000_000;

impl Tape {
    /// An endless tape made from a seed (splitmix64, <https://prng.di.unimi.it/splitmix64.c>).
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        Self { source: Source::Seed(seed), drawn: Vec::new() }
    }

    /// A tape of given choices, benign after its end.
    #[must_use]
    pub fn from_choices(choices: Vec<u64>) -> Self {
        Self { source: Source::Choices { choices, position: 0 }, drawn: Vec::new() }
    }

    /// A choice in `0..=upto`.
    pub fn draw(&mut self, upto: u64) -> u64 {
        let raw = self.next_raw();
        let choice = upto.checked_add(1).map_or(raw, |width| raw % width);
        self.drawn.push(choice);
        choice
    }

    /// True with probability `probability` (0 to 1); never true at 0 and on an ended tape.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "the value is clamped to 0..=PARTS"
    )]
    pub fn chance(&mut self, probability: f64) -> bool {
        let parts = (probability.clamp(0.0, 1.0) * PARTS as f64) as u64;
        // No draw where nothing is left to chance: a fault that is off must not shift the rest of the tape.
        if parts == 0 {
            return false;
        }
        // The benign choice is 0, so the faulty parts lie at the upper end.
        self.draw(PARTS - 1) >= PARTS - parts
    }

    /// A number in `lo..=hi`; `lo` when the range is empty.
    pub fn between(&mut self, lo: i64, hi: i64) -> i64 {
        if hi <= lo {
            return lo;
        }
        let offset = self.draw(hi.abs_diff(lo));
        lo.saturating_add_unsigned(offset)
    }

    /// Everything drawn so far: [`Tape::from_choices`] of it replays the run.
    #[must_use]
    pub fn choices(&self) -> &[u64] {
        &self.drawn
    }

    /// The same, where nothing is drawn any more.
    #[must_use]
    pub fn into_choices(self) -> Vec<u64> {
        self.drawn
    }

    fn next_raw(&mut self) -> u64 {
        match &mut self.source {
            Source::Seed(state) => {
                *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
                let mut mixed = *state;
                mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
                mixed ^ (mixed >> 31)
            }
            Source::Choices { choices, position } => {
                let choice = choices.get(*position).copied().unwrap_or(0);
                *position += 1;
                choice
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_run_replays_from_its_choices() {
        let draws = |tape: &mut Tape| {
            (0..50).map(|i| (tape.draw(i), tape.chance(0.3), tape.between(-5, 5))).collect::<Vec<_>>()
        };
        let mut seeded = Tape::from_seed(7);
        let first = draws(&mut seeded);
        let mut replayed = Tape::from_choices(seeded.choices().to_vec());
        assert_eq!(first, draws(&mut replayed));
        assert_ne!(first, draws(&mut Tape::from_seed(8)));
    }

    #[test]
    fn an_ended_tape_is_benign() {
        let mut tape = Tape::from_choices(vec![]);
        assert_eq!(tape.draw(9), 0);
        assert!(!tape.chance(0.999));
        assert_eq!(tape.between(3, 9), 3);
    }

    #[test]
    fn chance_keeps_to_its_probability() {
        let mut tape = Tape::from_seed(1);
        assert!((0..100).all(|_| tape.chance(1.0)));
        assert!(!(0..100).any(|_| tape.chance(0.0)));
        let hits = (0..10_000).filter(|_| tape.chance(0.25)).count();
        assert!((2_300..2_700).contains(&hits), "{hits}");
    }
}
