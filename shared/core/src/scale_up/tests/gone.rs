//! Instances that EC2's answer names and that no listing shows: ended long ago, or made a moment ago.

use super::{batch, minutes, phase, world};
use crate::demand::send_due_jobs;
use crate::error::Class;
use crate::fake::{Fake, Fault, at_every_call, policy, run};
use crate::ids::{InstanceId, JobId};
use crate::ledger::{InstanceRecord, JobPhase, JobRecord, JobStarted, LaunchRecord};
use crate::ports::{Compute, InstanceState, JobState};
use crate::scale_up::{Outcome, plan};
use crate::time::{Clock, Deadline};
use std::time::Duration;

fn first_instance() -> InstanceId {
    InstanceId::new("i-00000000000000001")
}

/// A batch that is struck at its call to EC2, or `calls` after it.
fn struck(ids: &[u64], calls: usize, fault: Fault) -> Fake {
    let undisturbed = world(ids.iter().copied());
    batch(&undisturbed, &policy(), ids);
    let fake = Fake::with_fault(undisturbed.number_of_first("Compute::create_fleet") + calls, fault);
    for id in ids {
        fake.put_job(JobId(*id), JobState::Queued);
    }
    super::try_batch(&fake, &policy(), ids);
    fake.heal();
    fake
}

/// A call to EC2 had no effect, nobody knows that, and 42 min have gone by.
fn unanswered() -> Fake {
    let fake = world([1]);
    call_without_answer(&fake);
    fake.pass(minutes(42));
    fake
}

/// The same, and nobody knows of its repetition either.
fn unanswered_again() -> Fake {
    let fake = unanswered();
    call_without_answer(&fake);
    fake
}

fn call_without_answer(fake: &Fake) {
    fake.always_fail("Compute::create_fleet", Class::OutcomeUnknown);
    batch(fake, &policy(), &[1]);
    fake.heal();
}

/// Its instances booted, found no configuration, ended, and are shown no more.
fn end_all(fake: &Fake) {
    for id in fake.living() {
        fake.forget(&id);
    }
}

/// The job's messages, as demand sends them.
fn until_launched(fake: &Fake, most: Duration) {
    let begun_at = fake.now();
    while batch(fake, &policy(), &[1]) != [Outcome::Launched] {
        assert!(fake.now().since(begun_at) <= most, "{:?}", phase(fake, 1));
        assert!(fake.state().jit_requests.is_empty(), "for an instance that is not there");
        while send_due_jobs_now(fake) == 0 {
            fake.pass(minutes(1));
        }
    }
}

fn send_due_jobs_now(fake: &Fake) -> usize {
    let deadline = Deadline::of(fake.now(), fake.now().plus(minutes(1)));
    run(send_due_jobs(fake, &policy(), deadline)).expect("not killed").sent.len()
}

fn assert_anew(fake: &Fake, case: &str) {
    let living = fake.living();
    assert_eq!((living.len(), fake.state().launches.len()), (1, 2), "{case}: one more launch");
    let runners: Vec<String> = fake.state().runners.iter().map(|(_, runner)| runner.name.to_string()).collect();
    assert_eq!(runners, [format!("runner-{}", living[0])], "{case}: none for the one that is gone");
    assert_eq!(fake.state().parameters.keys().collect::<Vec<_>>(), [&living[0]], "{case}");
    assert_eq!(fake.all::<InstanceRecord>().len(), 1, "{case}");
    assert_eq!(fake.get::<JobRecord>("1").expect("stored").launch_count, 2, "{case}");
}

#[test]
fn an_instance_that_ended_long_before_its_launch_is_gone_on_with_gets_no_configuration() {
    for (case, calls, fault) in [
        ("the answer was lost", 0, Fault::FailAfter),
        ("killed before the answer was noted", 0, Fault::KillAfter),
        ("killed after it was noted", 2, Fault::KillAfter),
    ] {
        let fake = struck(&[1], calls, fault);
        end_all(&fake);
        fake.pass(minutes(42));
        until_launched(&fake, minutes(8));
        assert_anew(&fake, case);
    }
}

#[test]
fn an_instance_that_a_late_repetition_made_is_waited_for_and_never_launched_for_twice() {
    let fake = unanswered();
    fake.state_mut().unshown.insert(first_instance());
    for _ in 0..4 {
        assert_eq!(batch(&fake, &policy(), &[1]), [Outcome::Waiting]);
        assert!(matches!(phase(&fake, 1), JobPhase::Launching { .. }), "its launch is gone on with");
        fake.pass(Duration::from_secs(74));
    }
    assert!(fake.state().jit_requests.is_empty());
    fake.state_mut().unshown.clear();
    assert_eq!(batch(&fake, &policy(), &[1]), [Outcome::Launched]);
    let state = fake.state();
    assert_eq!((state.launches.len(), state.instances.len(), state.parameters.len()), (1, 1, 1));
}

#[test]
fn an_instance_that_a_late_repetition_made_and_that_its_tag_shows_is_served_at_once() {
    let fake = unanswered();
    // The batch's own listing was begun before the call, so it cannot show it.
    assert_eq!(batch(&fake, &policy(), &[1]), [Outcome::Launched]);
    assert_eq!(fake.calls_of("ComputeRead::instances_of_launch"), 1);
    assert_eq!(fake.all::<InstanceRecord>()[0].launched_at, fake.now());
}

#[test]
fn an_instance_that_is_not_shown_yet_is_young_where_its_launch_was_answered_at_once() {
    let fake = struck(&[1], 2, Fault::KillAfter);
    assert!(fake.all::<LaunchRecord>()[0].answered_at.is_some() && fake.all::<InstanceRecord>().is_empty());
    fake.state_mut().unshown.insert(first_instance());
    // The lease is 300 s; one second before it is over nobody goes on with it.
    fake.pass(Duration::from_secs(299));
    let mut job = fake.get::<JobRecord>("1").expect("stored");
    let JobPhase::Launching { lease_until, .. } = &mut job.phase else { panic!("{:?}", job.phase) };
    *lease_until = fake.now();
    fake.put(&job);
    assert_eq!(batch(&fake, &policy(), &[1]), [Outcome::Launched]);
    assert_eq!(fake.calls_of("ComputeRead::instances_of_launch"), 0, "nothing more to ask");
    assert_eq!(fake.state().launches.len(), 1);
}

#[test]
fn of_a_launch_that_is_there_in_part_that_part_serves() {
    let fake = struck(&[1, 2], 0, Fault::FailAfter);
    fake.forget(&first_instance());
    fake.pass(minutes(42));
    let outcomes = batch(&fake, &policy(), &[1, 2]);
    assert_eq!(outcomes, [Outcome::Launched, Outcome::Waiting]);
    assert_eq!((fake.state().parameters.len(), fake.state().runners.len()), (1, 1));
    fake.pass(minutes(5));
    assert_eq!(batch(&fake, &policy(), &[2]), [Outcome::Waiting], "it is gone");
    assert_eq!(phase(&fake, 2), JobPhase::Queued);
    fake.pass(minutes(1));
    assert_eq!(batch(&fake, &policy(), &[2]), [Outcome::Launched]);
    assert_eq!(fake.living().len(), 2);
}

#[test]
fn a_job_is_not_left_to_an_instance_that_a_listing_would_show() {
    let fake = world([1]);
    batch(&fake, &policy(), &[1]);
    fake.state_mut().unshown.insert(first_instance());
    fake.pass(Duration::from_secs(299));
    assert_eq!(batch(&fake, &policy(), &[1]), [Outcome::AlreadyServed], "a listing may lag");
    fake.pass(Duration::from_secs(1));
    assert_eq!(batch(&fake, &policy(), &[1]), [Outcome::Launched]);
}

#[test]
fn a_launch_whose_instances_ended_is_made_anew_wherever_the_process_that_goes_on_with_it_is_struck() {
    let played = at_every_call(|fake, at| {
        let at = format!("{at:?}");
        fake.put_job(JobId(1), JobState::Queued);
        let struck = super::try_batch(fake, &policy(), &[1]).is_none();
        fake.heal();
        let dead = fake.living();
        end_all(fake);
        for minute in 0..40 {
            super::try_batch(fake, &policy(), &[1]);
            if fake.state().parameters.keys().any(|id| !dead.contains(id)) {
                break;
            }
            fake.pass(minutes(1));
            assert!(minute < 39, "{at}: the job is served by nobody: {:?}", phase(fake, 1));
        }
        // One more where the answer that held a configuration was lost.
        assert!(fake.living().len() <= 2, "{at}: {:?}, struck: {struck}", fake.living());
        let alive = |id: &InstanceId| !dead.contains(id);
        let served = fake.state().parameters.keys().filter(|id| alive(id)).count();
        assert_eq!(served, 1, "{at}");
    });
    assert!(played >= 60, "{played} crash points");
}

#[test]
fn an_instance_that_is_ending_is_not_waited_for() {
    let fake = struck(&[1], 0, Fault::FailAfter);
    fake.set_instance_state(&first_instance(), InstanceState::Terminated);
    fake.pass(minutes(42));
    assert_eq!(batch(&fake, &policy(), &[1]), [Outcome::Waiting]);
    assert_eq!(phase(&fake, 1), JobPhase::Queued, "at once");
    assert!(fake.state().jit_requests.is_empty());
}

/// A call takes effect, and nobody hears its answer.
fn take_effect(fake: &Fake) {
    let launch = fake.all::<LaunchRecord>().pop().expect("one");
    run(fake.create_fleet(&plan::request(&launch))).expect("not killed").expect("launched");
}

#[test]
fn a_refusal_is_no_answer_while_what_the_last_repetition_may_have_made_need_not_be_shown() {
    for refusal in [Class::Rejected, Class::NoCapacity] {
        let fake = unanswered_again();
        take_effect(&fake);
        fake.state_mut().unshown.insert(first_instance());
        fake.always_fail("Compute::create_fleet", refusal);
        for _ in 0..4 {
            fake.pass(minutes(1));
            batch(&fake, &policy(), &[1]);
            assert!(matches!(phase(&fake, 1), JobPhase::Launching { .. }), "{refusal:?}: {:?}", phase(&fake, 1));
        }
        fake.state_mut().unshown.clear();
        assert_eq!(batch(&fake, &policy(), &[1]), [Outcome::Launched], "{refusal:?}");
        assert_eq!(fake.living(), [first_instance()], "{refusal:?}");
    }
}

#[test]
fn refusals_that_come_again_and_again_do_not_put_the_answer_off() {
    for refusal in [Class::Rejected, Class::NoCapacity] {
        let fake = unanswered_again();
        fake.always_fail("Compute::create_fleet", refusal);
        for _ in 0..5 {
            assert!(matches!(phase(&fake, 1), JobPhase::Launching { .. }), "{refusal:?}");
            fake.pass(minutes(1));
            batch(&fake, &policy(), &[1]);
        }
        assert_eq!(phase(&fake, 1), JobPhase::Queued, "{refusal:?}: five minutes after the last call that may count");
    }
}

/// A call for three jobs had no effect, nobody knows that, and its lease is over.
fn three_unanswered() -> Fake {
    let fake = world([1, 2, 3]);
    fake.always_fail("Compute::create_fleet", Class::OutcomeUnknown);
    batch(&fake, &policy(), &[1, 2, 3]);
    fake.heal();
    fake.pass(minutes(6));
    fake
}

fn start_elsewhere(fake: &Fake, id: u64) {
    let mut job = fake.get::<JobRecord>(&id.to_string()).expect("stored");
    assert!(job.note_started(fake.now(), None));
    fake.put(&job);
    fake.put_job(JobId(id), JobState::InProgress);
}

#[test]
fn a_launch_whose_other_jobs_run_elsewhere_by_now_is_not_made_for_all_of_them() {
    let fake = three_unanswered();
    start_elsewhere(&fake, 2);
    start_elsewhere(&fake, 3);
    until_launched(&fake, minutes(3));
    let state = fake.state();
    assert_eq!((fake.living().len(), state.launches.len(), state.parameters.len()), (1, 1, 1));
}

#[test]
fn what_an_unheard_call_made_serves_the_job_that_is_left_of_its_launch() {
    let fake = three_unanswered();
    take_effect(&fake);
    start_elsewhere(&fake, 2);
    start_elsewhere(&fake, 3);
    assert_eq!(batch(&fake, &policy(), &[1]), [Outcome::Launched]);
    assert_eq!((fake.living().len(), fake.state().launches.len()), (3, 1), "no other is launched for it");
}

#[test]
fn a_launch_that_lost_jobs_is_not_repeated_and_waits_until_its_last_call_would_be_shown() {
    let fake = world([1, 2]);
    fake.always_fail("Compute::create_fleet", Class::OutcomeUnknown);
    batch(&fake, &policy(), &[1, 2]);
    fake.pass(minutes(6));
    batch(&fake, &policy(), &[1]);
    fake.heal();
    take_effect(&fake);
    let made = fake.living();
    fake.state_mut().unshown.extend(made.clone());
    start_elsewhere(&fake, 2);
    let calls = fake.calls_of("Compute::create_fleet");
    for _ in 0..4 {
        fake.pass(minutes(1));
        assert_eq!(batch(&fake, &policy(), &[1]), [Outcome::Waiting]);
        assert!(matches!(phase(&fake, 1), JobPhase::Launching { .. }), "its launch is kept");
    }
    fake.state_mut().unshown.clear();
    fake.pass(minutes(1));
    assert_eq!(batch(&fake, &policy(), &[1]), [Outcome::Launched]);
    assert_eq!((fake.living(), fake.calls_of("Compute::create_fleet")), (made, calls));
}

#[test]
fn what_an_unheard_call_made_is_used_as_soon_as_all_of_it_is_shown() {
    let fake = world([1, 2]);
    fake.always_fail("Compute::create_fleet", Class::OutcomeUnknown);
    batch(&fake, &policy(), &[1, 2]);
    fake.pass(minutes(6));
    batch(&fake, &policy(), &[1]);
    fake.heal();
    take_effect(&fake);
    start_elsewhere(&fake, 2);
    fake.pass(Duration::from_secs(30));
    assert_eq!(batch(&fake, &policy(), &[1]), [Outcome::Launched], "its instances wait for their configurations");
    assert_eq!(fake.living().len(), 2);
}

/// Of a launch for two jobs one instance got no configuration; the other has its job.
#[test]
fn an_instance_that_runs_the_one_job_is_not_given_to_the_other() {
    for (case, ended) in [("the other instance has ended", true), ("it gets no configuration again", false)] {
        let fake = world([1, 2]);
        fake.fail_once("Registry::generate_jit_config", Class::Transient);
        let outcomes = batch(&fake, &policy(), &[1, 2]);
        assert!(matches!(outcomes[..], [Outcome::Launched, Outcome::Failed(_)]), "{case}: {outcomes:?}");
        let mut records = fake.all::<InstanceRecord>();
        records.sort_by_key(|record| record.handed_over_at);
        let [bare, ready] = &mut records[..] else { panic!("{case}: {records:?}") };
        let (repository, at) = (super::message(1).repository, fake.now());
        ready.job_started = Some(JobStarted { job_id: JobId(1), repository, at, runner_id: ready.runner_id });
        fake.put(ready);
        start_elsewhere(&fake, 1);
        fake.pass(minutes(6));
        if ended {
            fake.set_instance_state(&bare.instance_id, InstanceState::Terminated);
        } else {
            fake.always_fail("Registry::generate_jit_config", Class::Transient);
        }
        let outcomes = batch(&fake, &policy(), &[2]);
        assert_ne!(outcomes, [Outcome::Launched], "{case}");
        assert!(!matches!(phase(&fake, 2), JobPhase::Launched { .. }), "{case}");
        fake.heal();
        fake.pass(minutes(1));
        assert_eq!(batch(&fake, &policy(), &[2]), [Outcome::Launched], "{case}");
    }
}

#[test]
fn a_launch_that_its_fleet_has_no_room_for_any_more_is_made_as_far_as_there_is_room() {
    let fake = three_unanswered();
    let mut small = policy();
    small.fleets[0].runner_count_max = 1;
    // Its reservation has lapsed.
    fake.pass(minutes(6));
    assert_eq!(batch(&fake, &small, &[1, 2, 3]), vec![Outcome::Waiting; 3]);
    fake.pass(minutes(1));
    assert_eq!(batch(&fake, &small, &[1, 2, 3]), [Outcome::Launched, Outcome::Waiting, Outcome::Waiting]);
    assert_eq!((fake.living().len(), fake.state().launches.len()), (1, 1));
}
