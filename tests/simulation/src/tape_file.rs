//! A tape in a file: the seed or the choices of a run, and what it shows.

use std::path::Path;

use runner_scaler_world::Tape;
use serde::{Deserialize, Serialize};

/// A run as a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TapeFile {
    /// What it once showed, in a sentence.
    pub shows: String,
    /// The invariant that it violated.
    pub invariant: String,
    /// Hours with faults.
    pub hours: i64,
    /// Hours without.
    pub quiet_hours: i64,
    /// Runs of choices: each is how many times 0 comes before it, and a choice.
    pub choices: Vec<(u64, u64)>,
}

impl TapeFile {
    /// The choices, with their zeros counted: a shrunk tape is mostly zeros.
    #[must_use]
    pub fn packed(choices: &[u64]) -> Vec<(u64, u64)> {
        let mut packed = Vec::new();
        let mut zeros = 0;
        for choice in choices {
            if *choice == 0 {
                zeros += 1;
            } else {
                packed.push((zeros, *choice));
                zeros = 0;
            }
        }
        packed
    }

    /// The tape.
    #[must_use]
    pub fn tape(&self) -> Tape {
        let mut choices = Vec::new();
        for (zeros, choice) in &self.choices {
            choices.extend((0..*zeros).map(|_| 0));
            choices.push(*choice);
        }
        Tape::from_choices(choices)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or is no tape.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_tape_is_the_same_tape_but_for_zeros_at_its_end() {
        let choices = [0, 0, 7, 3, 0, 9, 0, 0];
        let packed = TapeFile::packed(&choices);
        assert_eq!(packed, [(2, 7), (0, 3), (1, 9)]);
        let file =
            TapeFile { shows: String::new(), invariant: "L1".to_owned(), hours: 1, quiet_hours: 1, choices: packed };
        let mut tape = file.tape();
        let drawn: Vec<u64> = choices.iter().map(|_| tape.draw(10)).collect();
        assert_eq!(drawn, choices, "an ended tape draws zeros");
    }
}
