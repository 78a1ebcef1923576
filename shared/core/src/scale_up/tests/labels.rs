//! What a job's labels lead to: overrides, and jobs that no fleet takes.

use super::{batch_of, in_queue, message, world};
use crate::config::{LabelOverrides, Market, Policy};
use crate::fake::{Fake, policy};
use crate::ids::JobId;
use crate::ledger::{JobRecord, LaunchRecord, MissRecord};
use crate::scale_up::Outcome;

fn open_policy() -> Policy {
    let mut policy = policy();
    policy.fleets[0].label_overrides =
        LabelOverrides { instance_types: vec!["c7i.2xlarge".to_owned()], markets: vec![Market::OnDemand] };
    policy
}

/// Jobs numbered from 1, with these labels beside the fleet's.
fn play(fake: &Fake, policy: &Policy, beside: &[&[&str]]) -> Vec<Outcome> {
    let messages = (1..).zip(beside).map(|(id, beside)| {
        let mut message = message(id);
        message.labels.extend(beside.iter().map(ToString::to_string));
        in_queue(&message)
    });
    batch_of(fake, policy, messages.collect()).expect("not killed").into_iter().map(|(_, outcome)| outcome).collect()
}

#[test]
fn an_override_is_launched_as_the_configuration_spells_it_and_its_runner_has_the_jobs_labels() {
    let fake = world(1..=4);
    let typed: &[&str] = &["GHR-INSTANCE-TYPE:C7I.2XLARGE"];
    let outcomes = play(&fake, &open_policy(), &[&[], typed, &["ghr-market:on-demand"], typed]);
    assert_eq!(outcomes, vec![Outcome::Launched; 4]);
    let state = fake.state();
    let mut requests: Vec<_> = state.launches.values().map(|(request, _)| request).collect();
    requests.sort_by_key(|request| (request.count, request.market));
    let seen: Vec<_> = requests.iter().map(|r| (r.count, r.market, r.offerings[0].instance_type.as_str())).collect();
    assert_eq!(
        seen,
        [(1, Market::Spot, "m7i.large"), (1, Market::OnDemand, "m7i.large"), (2, Market::Spot, "c7i.2xlarge")],
        "one fleet call for jobs that ask for the same"
    );
    let mut labels: Vec<Vec<String>> = state.jit_requests.iter().map(|request| request.labels.clone()).collect();
    labels.sort();
    let own = ["self-hosted", "linux"];
    let with = |beyond: &[&str]| -> Vec<String> { own.iter().chain(beyond).map(ToString::to_string).collect() };
    let typed = with(&["ghr-instance-type:c7i.2xlarge"]);
    assert_eq!(labels, [with(&[]), typed.clone(), typed, with(&["ghr-market:on-demand"])]);
    // No text of a job goes to EC2.
    let sent = format!("{requests:?}");
    assert!(!sent.contains("C7I") && !sent.contains("ghr-instance-type"), "{sent}");
}

#[test]
fn an_override_that_is_not_listed_launches_nothing_and_is_told_to_whoever_asks() {
    for (case, policy, beside, missing) in [
        ("off by default", policy(), "ghr-instance-type:c7i.2xlarge", "ghr-instance-type:c7i.2xlarge"),
        ("not in the list", open_policy(), "ghr-instance-type:p5.48xlarge", "ghr-instance-type:p5.48xlarge"),
        ("an image", open_policy(), "ghr-image:ami-0123", "ghr-image:ami-0123"),
        ("a misspelt label", open_policy(), "x46", "x46"),
    ] {
        let fake = world([1]);
        let outcomes = play(&fake, &policy, &[&[beside]]);
        assert!(matches!(outcomes.as_slice(), [Outcome::Failed(_)]), "{case}: {outcomes:?}");
        assert_eq!((fake.state().launches.len(), fake.all::<JobRecord>().len()), (0, 0), "{case}");
        let record = fake.get::<MissRecord>("1").expect(case);
        assert_eq!((record.job_id, record.miss.missing), (JobId(1), vec![missing.to_owned()]), "{case}");
        assert_eq!(record.miss.fleet.map(|fleet| fleet.to_string()).as_deref(), Some("linux"), "{case}");
    }
}

#[test]
fn a_launch_goes_on_with_its_override_although_the_configuration_forbids_it_by_now() {
    let fake = world([1]);
    fake.always_fail("Compute::create_fleet", crate::error::Class::OutcomeUnknown);
    play(&fake, &open_policy(), &[&["ghr-instance-type:c7i.2xlarge"]]);
    fake.heal();
    let launch = fake.all::<LaunchRecord>().pop().expect("stored");
    // Another type is allowed instead: the job is nobody's now, and the launch's request is what it was.
    let mut narrowed = open_policy();
    narrowed.fleets[0].label_overrides.instance_types = vec!["c7a.large".to_owned()];
    fake.pass(super::minutes(6));
    play(&fake, &open_policy(), &[&["ghr-instance-type:c7i.2xlarge"]]);
    let types: Vec<String> =
        fake.state().launches[&launch.token].0.offerings.iter().map(|o| o.instance_type.clone()).collect();
    assert_eq!(types, ["c7i.2xlarge"]);
    assert_eq!(fake.state().jit_requests[0].labels, ["self-hosted", "linux", "ghr-instance-type:c7i.2xlarge"]);
    let outcomes = play(&fake, &narrowed, &[&["ghr-instance-type:c7i.2xlarge"]]);
    assert!(matches!(outcomes.as_slice(), [Outcome::Failed(_)]), "{outcomes:?}");
}
