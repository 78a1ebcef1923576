//! Which fleet takes a job, and where none does, how near the nearest came. Pure.

use serde::{Deserialize, Serialize};

use crate::config::{Fit, Fleet, Misfit, Overrides, Policy};
use crate::ids::{FleetName, JobId, Repository, RunId};
use crate::ledger::MissRecord;
use crate::time::Timestamp;

use super::JobMessage;

/// Labels that a miss names of each kind. GitHub admits 100 of 256 characters; more than these tell a person nothing,
/// fewer may leave out the one that is misspelt.
pub const LABELS_NAMED_MAX: usize = 20;

/// The fleet that takes a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Selected<'a> {
    /// The fleet.
    pub fleet: &'a Fleet,
    /// What the job asks beyond it.
    pub overrides: Overrides,
}

/// Why no fleet takes a job: the fleet that came nearest, and what it lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Miss {
    /// The nearest fleet; `None` where no fleet has anything to do with the job.
    pub fleet: Option<FleetName>,
    /// Labels of the job that its runners do not have, the first [`LABELS_NAMED_MAX`].
    pub missing: Vec<String>,
    /// Labels of the fleet that the job would have to name, the first [`LABELS_NAMED_MAX`].
    pub unasked: Vec<String>,
}

/// Chooses the fleet for a job with these labels: the one with the fewest labels beyond the job's, then the one that
/// needs the fewest overrides, then the first.
///
/// # Errors
/// None takes it: the nearest, which lacks the fewest labels, then the first.
pub fn select<'a>(policy: &'a Policy, labels: &[String]) -> Result<Selected<'a>, Miss> {
    let mut best: Option<(usize, usize, Selected<'a>)> = None;
    let mut nearest: Option<(usize, &Fleet, Misfit)> = None;
    for fleet in &policy.fleets {
        match fleet.fit(labels) {
            Fit::Takes { overrides, unasked_count } => {
                let asked_count = overrides.labels().len();
                if best.as_ref().is_none_or(|(unasked, asked, _)| (unasked_count, asked_count) < (*unasked, *asked)) {
                    best = Some((unasked_count, asked_count, Selected { fleet, overrides }));
                }
            }
            Fit::Misses(misfit) => {
                let lacking = misfit.missing.len() + misfit.unasked.len();
                let related = labels.iter().any(|label| fleet.may_have(label));
                if related && nearest.as_ref().is_none_or(|(least, ..)| lacking < *least) {
                    nearest = Some((lacking, fleet, misfit));
                }
            }
        }
    }
    best.map(|(.., selected)| selected).ok_or_else(|| match nearest {
        Some((_, fleet, misfit)) => {
            let named = |labels: Vec<String>| labels.into_iter().take(LABELS_NAMED_MAX).collect();
            Miss { fleet: Some(fleet.name.clone()), missing: named(misfit.missing), unasked: named(misfit.unasked) }
        }
        None => {
            Miss { fleet: None, missing: labels.iter().take(LABELS_NAMED_MAX).cloned().collect(), unasked: Vec::new() }
        }
    })
}

/// The fleet that takes a job with these labels.
#[must_use]
pub fn select_fleet<'a>(policy: &'a Policy, labels: &[String]) -> Option<&'a Fleet> {
    select(policy, labels).ok().map(|selected| selected.fleet)
}

impl std::fmt::Display for Miss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { fleet, missing, unasked } = self;
        match fleet {
            None => write!(f, "no fleet has any of its labels {missing:?}"),
            Some(fleet) => {
                write!(f, "nearest is fleet {fleet}")?;
                if !missing.is_empty() {
                    write!(f, "; it does not have {missing:?}")?;
                }
                if !unasked.is_empty() {
                    write!(f, "; it matches exactly, and the job does not name {unasked:?}")?;
                }
                Ok(())
            }
        }
    }
}

impl Miss {
    /// The record of it for that job.
    #[must_use]
    pub fn record(self, job: &JobMessage, now: Timestamp) -> MissRecord {
        let (job_id, run_id, repository): (JobId, RunId, Repository) = (job.job_id, job.run_id, job.repository.clone());
        MissRecord { job_id, run_id, repository, miss: self, at: now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Matching;
    use crate::fake::{fleet, policy};

    fn labels(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    fn policy_of(fleets: &[(&str, Matching, &[&str])]) -> Policy {
        let mut policy = policy();
        policy.fleets = fleets
            .iter()
            .map(|(name, matching, words)| Fleet { labels: labels(words), matching: *matching, ..fleet(name) })
            .collect();
        policy
    }

    #[test]
    fn a_fleet_is_chosen_by_how_closely_it_fits_then_by_order() {
        use Matching::{Exact, Subset};
        let policy = policy_of(&[
            ("wide", Subset, &["a", "b", "c", "d"]),
            ("narrow", Subset, &["a", "b", "c", "C"]),
            ("exact", Exact, &["a", "b"]),
            ("twin", Exact, &["A", "B"]),
        ]);
        for (case, job, expected) in [
            ("the same set", vec!["b", "a"], Some("exact")),
            ("the same set, a label twice", vec!["b", "a", "B"], Some("exact")),
            ("part of two sets: the closer, though it names a label twice", vec!["a"], Some("narrow")),
            ("part of the widest alone", vec!["d"], Some("wide")),
            ("a label that none has", vec!["a", "x"], None),
            ("no labels", vec![], None),
        ] {
            assert_eq!(select_fleet(&policy, &labels(&job)).map(|fleet| fleet.name.as_str()), expected, "{case}");
        }
    }

    #[test]
    fn a_fleet_that_has_the_label_itself_comes_before_one_that_allows_it_as_an_override() {
        let mut policy = policy_of(&[
            ("flexible", Matching::Exact, &["a"]),
            ("large", Matching::Exact, &["a", "ghr-instance-type:c7i.large"]),
        ]);
        policy.fleets[0].label_overrides.instance_types = vec!["c7i.large".to_owned()];
        let job = labels(&["a", "ghr-instance-type:c7i.large"]);
        assert_eq!(select_fleet(&policy, &job).map(|fleet| fleet.name.as_str()), Some("large"));
        policy.fleets.truncate(1);
        let selected = select(&policy, &job).expect("taken");
        assert_eq!(selected.overrides.instance_type.as_deref(), Some("c7i.large"));
    }

    #[test]
    fn a_job_that_no_fleet_takes_is_told_the_nearest_and_what_it_lacks() {
        use Matching::{Exact, Subset};
        let policy = policy_of(&[
            ("linux", Exact, &["self-hosted", "linux", "x64"]),
            ("gpu", Subset, &["self-hosted", "linux", "gpu"]),
        ]);
        for (case, job, expected) in [
            (
                "one label too few for the one, one too many for the other",
                vec!["self-hosted", "x64"],
                r#"nearest is fleet linux; it matches exactly, and the job does not name ["linux"]"#,
            ),
            ("misspelt", vec!["self-hosted", "linux", "x46"], r#"nearest is fleet gpu; it does not have ["x46"]"#),
            (
                "an override that nobody allows",
                vec!["self-hosted", "linux", "x64", "ghr-market:spot"],
                r#"nearest is fleet linux; it does not have ["ghr-market:spot"]"#,
            ),
            ("somebody else's", vec!["ubuntu-latest"], r#"no fleet has any of its labels ["ubuntu-latest"]"#),
            ("none", vec![], "no fleet has any of its labels []"),
        ] {
            let miss = select(&policy, &labels(&job)).expect_err(case);
            assert_eq!(miss.to_string(), expected, "{case}");
        }
    }

    #[test]
    fn a_miss_is_bounded_whatever_the_job_asks() {
        let job: Vec<String> = std::iter::once("a".to_owned()).chain((0..99).map(|n| format!("{n}"))).collect();
        let miss = select(&policy_of(&[("linux", Matching::Subset, &["a"])]), &job).expect_err("too much");
        assert_eq!((miss.fleet.is_some(), miss.missing.len()), (true, LABELS_NAMED_MAX));
    }
}
