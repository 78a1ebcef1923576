//! A small policy with the design's default timers.

use std::time::Duration;

use crate::config::{
    AllowedIds, Eviction, Fleet, Glob, LabelOverrides, LaunchTemplate, Market, Matching, Mode, Mutant, Policy,
    Registration, Search, Timers,
};
use crate::ids::{Deployment, FleetName};

/// One fleet, `linux`; every repository is served.
pub(crate) fn policy() -> Policy {
    Policy {
        deployment: Deployment::new("test"),
        mode: Mode::Enforce,
        owners: vec![Glob::new("*")],
        repositories: vec![Glob::new("*")],
        ids: AllowedIds::default(),
        fleets: vec![fleet("linux")],
        orphan_timers: timers(),
        ledger_epoch: None,
        search: Search {
            interval: Duration::from_mins(5),
            job_age: Duration::from_secs(60),
            idle_trust: Duration::from_mins(3),
        },
        mutant: mutant(),
    }
}

/// The rule that is broken in this process: `tests/mutants` runs one test at a time with each.
#[cfg(feature = "mutants")]
#[expect(clippy::disallowed_methods, reason = "a test's own environment, not a function's")]
pub(crate) fn mutant() -> Mutant {
    let name = std::env::var("RUNNER_SCALER_MUTANT").unwrap_or_default();
    Mutant::named(&name).expect("a mutant of this build")
}

/// None: this build has no mutants.
#[cfg(not(feature = "mutants"))]
pub(crate) fn mutant() -> Mutant {
    Mutant::None
}

/// Takes jobs labelled `self-hosted` and its name; at most 10 spot instances.
pub(crate) fn fleet(name: &str) -> Fleet {
    Fleet {
        name: FleetName::new(name),
        labels: vec!["self-hosted".to_owned(), name.to_owned()],
        matching: Matching::Exact,
        registration: Registration::Organization,
        runner_group_id: 1,
        runner_name_prefix: "runner-".to_owned(),
        runner_count_max: 10,
        market: Market::Spot,
        fallback: None,
        label_overrides: LabelOverrides::default(),
        launch_template: LaunchTemplate { id: "lt-1".to_owned(), version: "1".to_owned() },
        instance_types: vec!["m7i.large".to_owned()],
        subnet_ids: vec!["subnet-1".to_owned()],
        idle: Vec::new(),
        idle_owner: None,
        eviction: Eviction::OldestFirst,
        timers: timers(),
    }
}

fn timers() -> Timers {
    let seconds = Duration::from_secs;
    Timers {
        idle_window: seconds(300),
        quarantine: seconds(300),
        completed_grace: seconds(900),
        boot_grace: seconds(900),
        gone_grace: seconds(1_800),
        idle_maximum: seconds(3_600),
        drain_answer: seconds(300),
        vital_sign_silence: seconds(600),
        minimum_running: seconds(300),
        queue_quiet: seconds(600),
        launch_lease: seconds(300),
        pick_up: seconds(60),
        removal_lease: seconds(120),
    }
}
