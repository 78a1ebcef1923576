//! Idle schedules: pools are filled once, whatever happens to the pass, and within the cap.

use super::*;
use crate::config::IdleSchedule;
use crate::fake::Fault;
use crate::ledger::{FleetRecord, PoolCursor};

/// One fleet that keeps so many idle runners at any time.
pub(super) fn pool(count: u32) -> Policy {
    let mut policy = policy();
    policy.fleets[0].idle = vec![IdleSchedule::try_new("* * * * *", "UTC", count).expect("valid")];
    policy
}

#[test]
fn a_pool_is_filled_once_and_again_when_a_job_took_one() {
    let fake = world([]);
    assert_eq!(pass(&fake, &pool(3)).pooled.values().sum::<usize>(), 3);
    for _ in 0..5 {
        fake.pass(MINUTE);
        assert_eq!(pass(&fake, &pool(3)).pooled.len(), 0, "runners that boot count");
    }
    assert_eq!(fake.living().len(), 3);
    let records = fake.all::<InstanceRecord>();
    assert!(records.iter().all(|record| record.handed_over_at.is_some() && record.access.scope.owner() == "octo"));
    let mut taken = records[0].clone();
    taken.busy_seen_at = Some(fake.now());
    fake.put(&taken);
    fake.pass(MINUTE);
    assert_eq!(pass(&fake, &pool(3)).pooled.values().sum::<usize>(), 1);
    assert_eq!(fake.living().len(), 4);
    let tokens: std::collections::BTreeSet<_> = fake.all::<LaunchRecord>().into_iter().map(|l| l.token).collect();
    assert_eq!(tokens.len(), 2, "each launch has a token of its own");
}

#[test]
fn a_pool_outside_of_its_schedule_is_not_filled() {
    let fake = world([]);
    let mut policy = pool(3);
    policy.fleets[0].idle = vec![IdleSchedule::try_new("* 3 * * *", "UTC", 3).expect("valid")];
    assert_eq!(pass(&fake, &policy).pooled.len(), 0, "it is noon");
    assert_eq!(fake.living().len(), 0);
}

#[test]
fn a_pool_keeps_to_the_cap_and_leaves_room_for_jobs() {
    let fake = world(1..=9);
    pass(&fake, &policy());
    scale_up(&fake, &policy());
    assert_eq!(fake.living().len(), 9);
    // All nine run: one more fits under the cap of ten.
    for mut record in fake.all::<InstanceRecord>() {
        record.busy_seen_at = Some(fake.now());
        fake.put(&record);
    }
    for id in 1..=9 {
        fake.put_job(JobId(id), JobState::InProgress);
    }
    fake.pass(5 * MINUTE);
    pass(&fake, &pool(3));
    assert_eq!(fake.living().len(), 10);
}

#[test]
fn a_pool_that_lacks_more_than_a_launch_may_have_is_filled_by_several() {
    let fake = world([]);
    let mut policy = pool(150);
    policy.fleets[0].runner_count_max = 150;
    for (launched, living) in [(100, 100), (50, 150), (0, 150)] {
        assert_eq!(pass(&fake, &policy).pooled.values().sum::<usize>(), launched);
        assert_eq!(fake.living().len(), living);
        fake.pass(MINUTE);
    }
    assert!(fake.all::<InstanceRecord>().iter().all(|record| record.handed_over_at.is_some()));
}

#[test]
fn a_pool_that_finds_no_capacity_tries_again_later_and_not_at_once() {
    let fake = world([]);
    fake.state_mut().capacity = Some(1);
    pass(&fake, &pool(3));
    fake.state_mut().capacity = None;
    fake.pass(MINUTE);
    pass(&fake, &pool(3));
    assert_eq!(fake.living().len(), 1, "what there was");
    fake.pass(5 * MINUTE);
    pass(&fake, &pool(3));
    assert_eq!(fake.living().len(), 3);
}

#[test]
fn a_pool_with_two_places_to_register_says_so() {
    let fake = world([]);
    fake.state_mut().installed.push(installation("acme", 8));
    fake.state_mut().repositories.insert(repository("acme/shop"));
    let report = failing_pass(&fake, &pool(1));
    assert!(report.errors[0].contains("(acme, octo): set idle_owner"), "{:?}", report.errors);
    assert_eq!(fake.living().len(), 0);
    let mut told = pool(1);
    told.fleets[0].idle_owner = Scope::parse("acme");
    fake.pass(MINUTE);
    pass(&fake, &told);
    assert_eq!(fake.all::<InstanceRecord>()[0].access.scope.owner(), "acme");
}

#[test]
fn launches_that_come_to_nothing_are_bounded() {
    let fake = world([]);
    for _ in 0..10 {
        let _ = try_pass(&fake, &pool(2));
        for id in fake.living() {
            fake.set_instance_state(&id, InstanceState::Terminated);
        }
        fake.pass(MINUTE);
    }
    let launched = fake.state().instances.len();
    assert!(launched <= 2 * 2 + 5, "{launched} launches in ten minutes for a pool of two");
}

#[test]
fn two_passes_that_overlap_fill_a_pool_once() {
    let calls = {
        let probe = world([]);
        pass(&probe, &pool(2));
        probe.calls()
    };
    for number in 1..=calls {
        let fake = world([]);
        fake.meanwhile(number, |fake| drop(try_pass(fake, &pool(2))));
        let _ = try_pass(&fake, &pool(2)).expect("not killed");
        assert_eq!(fake.living().len(), 2, "within call {number} of {calls}");
    }
}

#[test]
fn a_pass_killed_anywhere_fills_the_pool_and_never_twice() {
    let played = at_every_call(|fake, at| {
        let _ = try_pass(fake, &pool(2));
        let mut most = fake.living().len();
        for _ in 0..15 {
            fake.heal();
            fake.pass(MINUTE);
            let _ = try_pass(fake, &pool(2));
            most = most.max(fake.living().len());
        }
        // A configuration that was lost with the answer to its call makes its instance useless; another takes its place.
        let lost = fake.all::<InstanceRecord>().iter().filter(|record| record.handed_over_at.is_none()).count();
        assert!(fake.living().len() >= 2 && most <= 2 + lost, "{at:?}: {most} instances, {lost} without configuration");
        let tokens = fake.state().launches.len();
        assert!(tokens <= 1 + lost, "{at:?}: {tokens} launches, {lost} useless instances");
        let cursor = fake.get::<PoolCursor>("pool#linux").expect("stored");
        assert_eq!(cursor.launching, None, "{at:?}: no launch is left behind");
        let held: u32 = fake.get::<FleetRecord>("linux").expect("stored").reservations.iter().map(|r| r.count).sum();
        assert!(held as usize <= most, "{at:?}: {held} reserved");
    });
    assert!(played >= 100, "{played}");
}

#[test]
fn a_launch_that_nobody_can_end_is_given_up_after_an_hour() {
    let fake = world([]);
    fake.always_fail("Registry::generate_jit_config", Class::Transient);
    assert!(failing_pass(&fake, &pool(2)).errors[0].contains("pool of fleet linux"));
    for _ in 0..59 {
        fake.pass(MINUTE);
        let _ = try_pass(&fake, &pool(2));
    }
    assert_eq!(fake.state().launches.len(), 1, "one launch, gone on with");
    fake.pass(2 * MINUTE);
    let _ = try_pass(&fake, &pool(2));
    assert_eq!(fake.get::<PoolCursor>("pool#linux").expect("stored").launching, None);
}

#[test]
fn a_pool_whose_instances_ended_before_its_launch_is_gone_on_with_is_filled_anew_and_registers_nobody_for_them() {
    let number = {
        let probe = world([]);
        pass(&probe, &pool(2));
        probe.number_of_first("Compute::create_fleet")
    };
    for fault in [Fault::FailAfter, Fault::KillAfter] {
        let fake = Fake::with_fault(number, fault);
        let _ = try_pass(&fake, &pool(2));
        fake.heal();
        let dead = fake.living();
        assert_eq!(dead.len(), 2);
        for id in &dead {
            fake.forget(id);
        }
        fake.pass(42 * MINUTE);
        for _ in 0..20 {
            let _ = try_pass(&fake, &pool(2));
            fake.pass(MINUTE);
        }
        let living = fake.living();
        let with_configuration: Vec<InstanceId> = fake.state().parameters.keys().cloned().collect();
        assert_eq!((living.len(), &with_configuration), (2, &living), "{fault:?}");
        assert_eq!((fake.state().runners.len(), fake.state().launches.len()), (2, 2), "{fault:?}");
    }
}

#[test]
fn a_pool_of_which_a_job_took_one_before_it_was_filled_is_filled_again_at_once() {
    let fake = world([]);
    fake.fail_once("Registry::generate_jit_config", Class::Transient);
    failing_pass(&fake, &pool(2));
    let mut taken =
        fake.all::<InstanceRecord>().into_iter().find(|record| record.handed_over_at.is_some()).expect("one of two");
    taken.busy_seen_at = Some(fake.now());
    fake.put(&taken);
    fake.pass(6 * MINUTE);
    pass(&fake, &pool(2));
    fake.pass(MINUTE);
    pass(&fake, &pool(2));
    assert_eq!(fake.living().len(), 3, "two that wait and one that works");
}
