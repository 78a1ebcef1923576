//! Positive control: may an absence at GitHub be believed in this pass?

use crate::error::PortError;
use crate::ids::{RunnerId, RunnerName};
use crate::ports::Runner;

/// Outcome for one scope and pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PositiveControl {
    /// Not asked yet in this pass.
    NotAsked,
    /// The list was denied, cut or failed: a 404 may be a lost permission.
    Unanswered,
    /// The list was answered whole and misses more of our runners than can be true.
    MassAbsence,
    /// The list was answered to its last page and is plausible.
    Held,
}

/// How many of a scope's runners may be missing from its list before absences stop counting, at least. Higher, and a
/// bad listing ends more runners; lower, and a few spot interruptions at once halt the sweep (design section 5).
const MISSING_ALLOWED: usize = 5;

impl PositiveControl {
    /// Judges the list of a scope against the registrations that ought to be on it: those of living instances.
    /// More than max(5, half) missing is a fault of the list, not of the runners.
    #[must_use]
    pub fn judge(listing: &Result<Vec<Runner>, PortError>, expected: &[(RunnerId, RunnerName)]) -> Self {
        let Ok(runners) = listing else { return Self::Unanswered };
        let missing = expected.iter().filter(|(id, _)| !runners.iter().any(|runner| runner.id == *id)).count();
        if missing > MISSING_ALLOWED.max(expected.len() / 2) { Self::MassAbsence } else { Self::Held }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Class;

    fn runner(id: u64) -> Runner {
        Runner {
            id: RunnerId(id),
            name: RunnerName::new(format!("runner-{id}")),
            online: true,
            busy: false,
            version: None,
            ephemeral: Some(true),
        }
    }

    fn expected(count: u64) -> Vec<(RunnerId, RunnerName)> {
        (0..count).map(|id| (RunnerId(id), RunnerName::new(format!("runner-{id}")))).collect()
    }

    #[test]
    fn a_list_counts_only_when_it_is_whole_and_plausible() {
        let failed = Err(PortError::new("GET runners", Class::Denied, "403"));
        assert_eq!(PositiveControl::judge(&failed, &[]), PositiveControl::Unanswered);
        for (listed, of, verdict) in [
            (0, 0, PositiveControl::Held),
            (0, 5, PositiveControl::Held),
            (0, 6, PositiveControl::MassAbsence),
            (10, 20, PositiveControl::Held),
            (9, 20, PositiveControl::MassAbsence),
        ] {
            let listing = Ok((0..listed).map(runner).collect());
            assert_eq!(PositiveControl::judge(&listing, &expected(of)), verdict, "{listed} of {of}");
        }
    }
}
