//! The configuration document that the Terraform module makes is one that the functions read. `infra/check` sees to it
//! that the file is what the module makes of `infra/tests/document.tftest.hcl`.

use std::time::Duration;

use runner_scaler_core::config::{Environment, Eviction, Market, Matching, Mode, Policy, Registration, parse_policy};
use runner_scaler_core::time::Timestamp;

const DOCUMENT: &str = include_str!("../../../infra/tests/configuration.json");

fn policy() -> Policy {
    let environment = Environment::from_vars(|name| match name {
        "GITHUB_API_URL" => Some("https://api.github.com".to_owned()),
        "RUNNER_SCALER_MUTANT" => None,
        _ => Some("prod".to_owned()),
    });
    parse_policy(DOCUMENT, &environment.expect("complete")).expect("the module makes no mistake")
}

#[test]
fn what_is_set_in_terraform_is_what_the_functions_read() {
    let policy = policy();
    let [small, large, by_repository] = policy.fleets.as_slice() else { panic!("three fleets: {policy:?}") };
    assert_eq!(policy.mode, Mode::Observe);
    assert_eq!(policy.ledger_epoch, Timestamp::parse("2026-11-20T14:30:00Z"));

    assert_eq!((small.market, small.matching), (Market::Spot, Matching::Exact));
    assert_eq!(small.launch_template.version, "1");
    assert_eq!(small.subnet_ids.len(), 2, "the deployment's");
    assert_eq!(small.timers, policy.orphan_timers, "nothing is set: the defaults");

    assert_eq!(
        (large.market, large.matching, large.eviction),
        (Market::OnDemand, Matching::Subset, Eviction::NewestFirst)
    );
    assert_eq!((large.runner_group_id, large.runner_name_prefix.as_str()), (7, "large-"));
    assert_eq!(large.subnet_ids, ["subnet-0bbbbbbbbbbbbbbb1"]);
    assert_eq!(large.idle.len(), 2);
    let timers = &large.timers;
    for (name, timer, seconds) in [
        ("idle_window", timers.idle_window, 240),
        ("quarantine", timers.quarantine, 360),
        ("completed_grace", timers.completed_grace, 1_200),
        ("boot_grace", timers.boot_grace, 600),
        ("gone_grace", timers.gone_grace, 2_400),
        ("idle_maximum", timers.idle_maximum, 7_200),
        ("drain_answer", timers.drain_answer, 120),
        ("minimum_running", timers.minimum_running, 0),
        ("removal_lease", timers.removal_lease, 180),
    ] {
        assert_eq!(timer, Duration::from_secs(seconds), "{name}");
    }

    assert_eq!(by_repository.registration, Registration::Repository);
}
