//! What EC2 has none of: where it is asked next, and on which market.

use std::time::Duration;

use super::{batch, world};
use crate::config::{Market, Policy};
use crate::error::Class;
use crate::fake::{Fake, policy};
use crate::ledger::{JobRecord, LaunchRecord, OfferingRecord};
use crate::ports::{LaunchRequest, Offering};
use crate::scale_up::Outcome;
use crate::time::Clock;

fn offering(instance_type: &str) -> Offering {
    Offering { instance_type: instance_type.to_owned(), subnet_id: "subnet-1".to_owned() }
}

fn two_types() -> Policy {
    let mut policy = policy();
    policy.fleets[0].instance_types = vec!["m7i.large".to_owned(), "m7a.large".to_owned()];
    policy
}

fn with_fallback() -> Policy {
    let mut policy = two_types();
    policy.fleets[0].fallback = Some(Market::OnDemand);
    policy
}

fn dry(fake: &Fake, market: Market, types: &[&str]) {
    fake.state_mut().dry.extend(types.iter().map(|name| (market, offering(name))));
}

/// Market and types of each request, in the order in which they were made.
fn asked(fake: &Fake) -> Vec<(Market, Vec<String>)> {
    let state = fake.state();
    let types = |request: &LaunchRequest| request.offerings.iter().map(|o| o.instance_type.clone()).collect();
    state.fleet_calls.iter().map(|token| (state.launches[token].0.market, types(&state.launches[token].0))).collect()
}

#[test]
fn an_offering_that_was_out_is_avoided_for_three_minutes_by_whoever_launches_next() {
    let fake = world(1..=4);
    dry(&fake, Market::Spot, &["m7i.large"]);
    let policy = two_types();
    assert_eq!(batch(&fake, &policy, &[1]), [Outcome::Launched], "the other type serves it");
    let record = fake.get::<OfferingRecord>("spot:m7i.large:subnet-1").expect("noted");
    assert_eq!(record.unavailable_until, fake.now().plus(Duration::from_mins(3)));
    batch(&fake, &policy, &[2]);
    fake.pass(Duration::from_secs(180));
    batch(&fake, &policy, &[3]);
    let types: Vec<Vec<String>> = asked(&fake).into_iter().map(|(_, types)| types).collect();
    assert_eq!(types, [vec!["m7i.large", "m7a.large"], vec!["m7a.large"], vec!["m7i.large", "m7a.large"]]);
}

#[test]
fn where_everything_was_out_everything_is_tried_again() {
    let fake = world([1]);
    dry(&fake, Market::Spot, &["m7i.large", "m7a.large"]);
    for expected in 1..=3 {
        assert_eq!(batch(&fake, &two_types(), &[1]), [Outcome::Waiting]);
        let (_, types) = asked(&fake).pop().expect("asked");
        assert_eq!((asked(&fake).len(), types.len()), (expected, 2), "never nothing");
        fake.pass(Duration::from_secs(30));
    }
    fake.state_mut().dry.clear();
    assert_eq!(batch(&fake, &two_types(), &[1]), [Outcome::Launched], "within the three minutes");
}

#[test]
fn spot_falls_back_to_on_demand_as_a_new_epoch_of_the_same_launch() {
    let fake = world([1, 2]);
    dry(&fake, Market::Spot, &["m7i.large", "m7a.large"]);
    assert_eq!(batch(&fake, &with_fallback(), &[1, 2]), [Outcome::Launched, Outcome::Launched]);
    let markets: Vec<Market> = asked(&fake).into_iter().map(|(market, _)| market).collect();
    assert_eq!(markets, [Market::Spot, Market::OnDemand]);
    let launch = fake.all::<LaunchRecord>();
    let [launch] = launch.as_slice() else { panic!("one launch: {launch:?}") };
    assert_eq!((launch.epoch, launch.market, &launch.fallback), (1, Market::OnDemand, &None));
    let [first, second] = fake.state().fleet_calls.clone().try_into().expect("two calls");
    assert!(first == launch.token && second != first, "each epoch under its own client token");
    let tags: Vec<String> = fake.state().instances.values().map(|i| i.tags["ghr:launch"].clone()).collect();
    assert_eq!(tags, vec![launch.token.to_string(); 2], "and all under one tag");
    assert_eq!(fake.get::<JobRecord>("1").expect("stored").launch_count, 1, "it is one launch");
}

#[test]
fn what_was_just_found_out_on_spot_is_not_asked_for_again_before_on_demand() {
    let fake = world([1, 2]);
    dry(&fake, Market::Spot, &["m7i.large", "m7a.large"]);
    batch(&fake, &with_fallback(), &[1]);
    batch(&fake, &with_fallback(), &[2]);
    let markets: Vec<Market> = asked(&fake).into_iter().map(|(market, _)| market).collect();
    assert_eq!(markets, [Market::Spot, Market::OnDemand, Market::OnDemand]);
}

#[test]
fn a_launch_in_part_is_no_reason_for_another_epoch_its_other_jobs_come_again() {
    let fake = world([1, 2]);
    fake.state_mut().capacity = Some(1);
    assert_eq!(batch(&fake, &with_fallback(), &[1, 2]), [Outcome::Launched, Outcome::Waiting]);
    assert_eq!(asked(&fake).len(), 1);
    fake.state_mut().capacity = None;
    assert_eq!(batch(&fake, &with_fallback(), &[2]), [Outcome::Launched]);
    assert_eq!(asked(&fake)[1].0, Market::OnDemand, "spot was out a moment ago");
}

#[test]
fn without_a_fallback_and_for_any_other_failure_there_is_no_second_market() {
    for (case, policy, class) in [
        ("no fallback", two_types(), Class::NoCapacity),
        ("no answer", with_fallback(), Class::OutcomeUnknown),
        ("EC2 asks for patience", with_fallback(), Class::Throttled { retry_after: None }),
        ("not allowed", with_fallback(), Class::Misconfigured),
        ("refused", with_fallback(), Class::Rejected),
    ] {
        let fake = world([1]);
        fake.always_fail("Compute::create_fleet", class);
        batch(&fake, &policy, &[1]);
        assert_eq!(fake.calls_of("Compute::create_fleet"), 1, "{case}");
        assert!(fake.all::<LaunchRecord>().iter().all(|launch| launch.epoch == 0), "{case}");
    }
}

#[test]
fn a_call_that_fails_whole_for_want_of_capacity_falls_back_as_well() {
    let fake = world([1]);
    fake.always_fail("Compute::create_fleet", Class::NoCapacity);
    assert_eq!(batch(&fake, &with_fallback(), &[1]), [Outcome::Waiting]);
    assert_eq!(fake.calls_of("Compute::create_fleet"), 2);
    assert_eq!(fake.all::<LaunchRecord>()[0].epoch, 1);
}

#[test]
fn what_is_remembered_is_a_hint_and_its_loss_stops_nothing() {
    for call in 1..40 {
        let fake = world([1]);
        dry(&fake, Market::Spot, &["m7i.large"]);
        let before = std::rc::Rc::new(std::cell::Cell::new(false));
        let seen = std::rc::Rc::clone(&before);
        // Only the ledger's answers about offerings are lost: those between the listing and the fleet call's record.
        fake.meanwhile(call, move |fake| {
            if fake.calls_of("ComputeRead::instances") == 1
                && fake.calls_of("Compute::create_fleet") == 0
                && !seen.get()
            {
                seen.set(true);
                fake.fail_once("Ledger::read", Class::Transient);
            }
        });
        let outcomes = batch(&fake, &two_types(), &[1]);
        let lost_hint = before.get() && fake.calls_of("Compute::create_fleet") == 1;
        if lost_hint {
            assert_eq!(outcomes, [Outcome::Launched], "after call {call}");
        }
    }
}
