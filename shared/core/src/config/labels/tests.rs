//! Labels by table, and for any labels at all.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};

use super::*;
use crate::fake::{fleet, policy};
use crate::scale_up::{Selected, select as select_fleet};

fn labels(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

fn fleet_of(matching: Matching, words: &[&str]) -> Fleet {
    Fleet { labels: labels(words), matching, ..fleet("linux") }
}

/// Allows two types and one market by label.
fn open_fleet(matching: Matching, words: &[&str]) -> Fleet {
    let label_overrides = LabelOverrides {
        instance_types: vec!["c7i.large".to_owned(), "m7i.2xlarge".to_owned()],
        markets: vec![Market::OnDemand],
    };
    Fleet { label_overrides, ..fleet_of(matching, words) }
}

#[test]
fn a_fleet_says_whether_it_takes_a_job_and_if_not_what_is_missing() {
    use Matching::{Exact, Subset};
    let takes = |unasked_count| Fit::Takes { overrides: Overrides::default(), unasked_count };
    let misses =
        |missing: &[&str], unasked: &[&str]| Fit::Misses(Misfit { missing: labels(missing), unasked: labels(unasked) });
    for (case, fleet, job, expected) in [
        ("the same set", fleet_of(Exact, &["a", "b"]), vec!["b", "a"], takes(0)),
        ("in another case", fleet_of(Exact, &["Self-Hosted", "X64"]), vec!["self-hosted", "x64"], takes(0)),
        ("a label twice is one label", fleet_of(Exact, &["a", "b"]), vec!["a", "b", "A"], takes(0)),
        ("the fleet's label twice is one label", fleet_of(Exact, &["a", "A"]), vec!["a"], takes(0)),
        ("a part of an exact fleet", fleet_of(Exact, &["a", "b"]), vec!["a"], misses(&[], &["b"])),
        ("a part of a subset fleet", fleet_of(Subset, &["a", "b", "c"]), vec!["b"], takes(2)),
        ("more than a subset fleet has", fleet_of(Subset, &["a"]), vec!["a", "gpu", "GPU"], misses(&["gpu"], &[])),
        ("nothing", fleet_of(Subset, &["a"]), vec![], misses(&[], &[])),
        ("an empty label", fleet_of(Subset, &["a"]), vec!["a", ""], misses(&[""], &[])),
    ] {
        assert_eq!(fleet.fit(&labels(&job)), expected, "{case}");
    }
}

#[test]
fn an_override_is_taken_only_where_the_fleet_lists_its_value() {
    use Matching::{Exact, Subset};
    let asks = |instance_type: Option<&str>, market| Fit::Takes {
        overrides: Overrides { instance_type: instance_type.map(str::to_owned), market },
        unasked_count: 0,
    };
    let misses = |missing: &[&str]| Fit::Misses(Misfit { missing: labels(missing), unasked: Vec::new() });
    let spoken = fleet_of(Exact, &["a", "ghr-instance-type:x9.huge"]);
    for (case, fleet, job, expected) in [
        (
            "off by default",
            fleet_of(Exact, &["a"]),
            vec!["a", "ghr-instance-type:c7i.large"],
            misses(&["ghr-instance-type:c7i.large"]),
        ),
        ("listed", open_fleet(Exact, &["a"]), vec!["a", "ghr-instance-type:c7i.large"], asks(Some("c7i.large"), None)),
        (
            "in another case, and taken as the list spells it",
            open_fleet(Exact, &["a"]),
            vec!["A", "GHR-Instance-Type:C7I.Large"],
            asks(Some("c7i.large"), None),
        ),
        (
            "the same twice",
            open_fleet(Exact, &["a"]),
            vec!["a", "ghr-market:on-demand", "ghr-market:ON-DEMAND"],
            asks(None, Some(Market::OnDemand)),
        ),
        (
            "both kinds",
            open_fleet(Subset, &["a"]),
            vec!["ghr-market:on-demand", "a", "ghr-instance-type:m7i.2xlarge"],
            asks(Some("m7i.2xlarge"), Some(Market::OnDemand)),
        ),
        (
            "not listed",
            open_fleet(Subset, &["a"]),
            vec!["a", "ghr-instance-type:p5.48xlarge"],
            misses(&["ghr-instance-type:p5.48xlarge"]),
        ),
        ("a market not listed", open_fleet(Subset, &["a"]), vec!["a", "ghr-market:spot"], misses(&["ghr-market:spot"])),
        ("no value", open_fleet(Subset, &["a"]), vec!["a", "ghr-instance-type:"], misses(&["ghr-instance-type:"])),
        (
            "a value and more",
            open_fleet(Subset, &["a"]),
            vec!["a", "ghr-instance-type:c7i.large;reboot"],
            misses(&["ghr-instance-type:c7i.large;reboot"]),
        ),
        (
            "two values of a kind",
            open_fleet(Subset, &["a"]),
            vec!["a", "ghr-instance-type:c7i.large", "ghr-instance-type:m7i.2xlarge"],
            misses(&["ghr-instance-type:m7i.2xlarge"]),
        ),
        ("overrides alone", open_fleet(Subset, &["a"]), vec!["ghr-instance-type:c7i.large"], misses(&[])),
        ("another prefix", open_fleet(Subset, &["a"]), vec!["a", "ghr-image:ami-1"], misses(&["ghr-image:ami-1"])),
        ("a label of the fleet that looks like one", spoken, vec!["a", "ghr-instance-type:x9.huge"], asks(None, None)),
        (
            "cut inside a character",
            open_fleet(Subset, &["a"]),
            vec!["a", "ghr-instance-typ\u{e9}"],
            misses(&["ghr-instance-typ\u{e9}"]),
        ),
    ] {
        assert_eq!(fleet.fit(&labels(&job)), expected, "{case}");
    }
}

#[test]
fn the_labels_of_overrides_are_those_that_select_them() {
    let fleet = open_fleet(Matching::Exact, &["a"]);
    let overrides = Overrides { instance_type: Some("c7i.large".to_owned()), market: Some(Market::OnDemand) };
    let job = [labels(&["a"]), overrides.labels()].concat();
    assert_eq!(fleet.fit(&job), Fit::Takes { overrides, unasked_count: 0 });
    assert!(job.iter().all(|label| fleet.may_have(label)) && !fleet.may_have("gpu"));
}

/// A few words in both cases, so that labels meet; among them those that ask for something.
fn word() -> impl Strategy<Value = String> {
    let words = [
        "a",
        "A",
        "b",
        "gpu",
        "GPU",
        "linux",
        "",
        "ghr-instance-type:c7i.large",
        "ghr-instance-type:M7I.2xlarge",
        "ghr-market:on-demand",
        "ghr-instance-type:p5",
    ];
    prop_oneof![4 => select(words.to_vec()).prop_map(str::to_owned), 1 => proptest::collection::vec(any::<char>(), 0..12).prop_map(String::from_iter)]
}

fn some_fleet() -> impl Strategy<Value = Fleet> {
    let of = (proptest::collection::vec(word(), 1..5), select(vec![Matching::Exact, Matching::Subset]), any::<bool>());
    of.prop_map(|(labels, matching, open)| {
        let base = if open { open_fleet(matching, &[]) } else { fleet_of(matching, &[]) };
        Fleet { labels, ..base }
    })
}

fn set(labels: &[String]) -> BTreeSet<String> {
    labels.iter().map(|label| label.to_ascii_lowercase()).collect()
}

proptest! {
    /// The definition, said once more in sets: what a runner of the fleet would have covers what the job asks.
    #[test]
    fn a_job_is_taken_exactly_when_its_labels_are_those_of_a_runner(fleet in some_fleet(), job in proptest::collection::vec(word(), 0..6)) {
        let (own, asked) = (set(&fleet.labels), set(&job));
        let allowed: BTreeSet<String> = fleet.label_overrides.instance_types.iter().map(|t| format!("{INSTANCE_TYPE_LABEL}{t}"))
            .chain(fleet.label_overrides.markets.iter().map(|m| format!("{MARKET_LABEL}{}", m.as_str())))
            .collect();
        let beyond: BTreeSet<String> = asked.difference(&own).cloned().collect();
        let of_kind = |prefix: &str| beyond.iter().filter(|label| label.starts_with(prefix)).count();
        let covered = beyond.is_subset(&allowed) && of_kind(INSTANCE_TYPE_LABEL) <= 1 && of_kind(MARKET_LABEL) <= 1;
        let names_one = asked.intersection(&own).next().is_some();
        let whole = match fleet.matching { Matching::Exact => own.is_subset(&asked), Matching::Subset => true };
        prop_assert_eq!(fleet.accepts(&job), covered && names_one && whole);
        // GitHub's own rule: it gives a job to a runner that has all its labels.
        if let Fit::Takes { overrides, .. } = fleet.fit(&job) {
            let runner = set(&[fleet.labels.clone(), overrides.labels()].concat());
            prop_assert!(asked.is_subset(&runner));
        }
    }

    #[test]
    fn order_case_and_repetition_change_nothing(fleet in some_fleet(), job in proptest::collection::vec(word(), 0..6), at in any::<Index>()) {
        let mut other: Vec<String> = job.iter().rev().map(|label| label.to_ascii_uppercase()).collect();
        if !job.is_empty() {
            other.push(job[at.index(job.len())].clone());
        }
        prop_assert_eq!(fleet.accepts(&other), fleet.accepts(&job));
    }

    #[test]
    fn what_is_missing_is_the_jobs_and_what_is_unasked_the_fleets(fleet in some_fleet(), job in proptest::collection::vec(word(), 0..6)) {
        if let Fit::Misses(misfit) = fleet.fit(&job) {
            prop_assert!(misfit.missing.iter().all(|label| job.contains(label)));
            prop_assert!(misfit.unasked.iter().all(|label| fleet.labels.contains(label) && !set(&job).contains(&label.to_ascii_lowercase())));
            prop_assert!(set(&misfit.missing).is_disjoint(&set(&fleet.labels)));
        }
    }

    #[test]
    fn the_chosen_fleet_takes_the_job_and_none_that_does_is_closer_or_as_close_and_first(
        fleets in proptest::collection::vec(some_fleet(), 1..6),
        job in proptest::collection::vec(word(), 0..6),
    ) {
        let mut policy = policy();
        policy.fleets = fleets;
        for (index, fleet) in policy.fleets.iter_mut().enumerate() {
            fleet.name = crate::ids::FleetName::new(format!("fleet-{index}"));
        }
        let unasked = |fleet: &Fleet| match fleet.fit(&job) {
            Fit::Takes { unasked_count, overrides } => Some((unasked_count, overrides.labels().len())),
            Fit::Misses(_) => None,
        };
        match select_fleet(&policy, &job) {
            Ok(Selected { fleet, .. }) => {
                let best = policy.fleets.iter().filter_map(unasked).min();
                prop_assert_eq!(unasked(fleet), best);
                let first = policy.fleets.iter().find(|fleet| unasked(fleet) == best);
                prop_assert_eq!(first.map(|fleet| &fleet.name), Some(&fleet.name));
            }
            Err(miss) => {
                prop_assert!(policy.fleets.iter().all(|fleet| unasked(fleet).is_none()));
                prop_assert!(miss.fleet.is_none_or(|name| policy.fleet(&name).is_some()));
            }
        }
    }

    #[test]
    fn every_part_of_a_subset_fleets_labels_is_taken_by_it(part in subsequence(vec!["a", "b", "c", "d"], 1..=4)) {
        prop_assert!(fleet_of(Matching::Subset, &["a", "b", "c", "d"]).accepts(&labels(&part)));
        prop_assert_eq!(fleet_of(Matching::Exact, &["a", "b", "c", "d"]).accepts(&labels(&part)), part.len() == 4);
    }
}
