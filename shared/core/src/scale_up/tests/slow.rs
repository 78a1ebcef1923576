//! A GitHub that does not answer, for one job or for one owner: what it costs the others.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{batch_of, in_queue, message, minutes, world};
use crate::error::Class;
use crate::fake::{Fake, policy, run};
use crate::ids::Repository;
use crate::ports::{InstanceState, JobState};
use crate::scale_up::{JobMessage, Outcome};
use crate::time::{Clock, Deadline, Timestamp};

fn of_owner(id: u64, owner: &str) -> JobMessage {
    let mut message = message(id);
    message.repository = Repository::try_from(format!("{owner}/hello")).expect("a name");
    message.organization = Some(owner.to_owned());
    message
}

/// Outcomes by job, and how long the batch took of its minute.
fn play(fake: &Fake, messages: &[JobMessage]) -> (BTreeMap<u64, Outcome>, Duration) {
    let mut policy = policy();
    policy.fleets[0].runner_count_max = 200;
    let begun_at = fake.now();
    let answers = batch_of(fake, &policy, messages.iter().map(in_queue).collect()).expect("not killed");
    let outcomes = messages.iter().zip(answers).map(|(message, (_, outcome))| (message.job_id.0, outcome)).collect();
    (outcomes, fake.now().since(begun_at))
}

#[test]
fn one_message_whose_job_is_never_answered_for_costs_the_others_a_quarter_of_the_time() {
    let fake = world(1..=40);
    fake.hang("Jobs::job", "octo/hello 7");
    let messages: Vec<JobMessage> = (1..=40).map(message).collect();
    let (outcomes, took) = play(&fake, &messages);
    for (id, outcome) in &outcomes {
        match id {
            7 => assert!(matches!(outcome, Outcome::Failed(_)), "it comes back: {outcome:?}"),
            _ => assert_eq!(*outcome, Outcome::Launched, "job {id}"),
        }
    }
    assert_eq!(fake.living().len(), 39);
    assert!(took <= Duration::from_secs(15), "{took:?} of the minute");
}

#[test]
fn a_hundred_messages_of_an_owner_that_never_answers_cost_another_owner_nothing() {
    let fake = world(1..=110);
    fake.hang("Jobs::job", "slow/hello");
    let slow = (1..=100).map(|id| of_owner(id, "slow"));
    let fast = (101..=110).map(|id| of_owner(id, "fast"));
    let (outcomes, took) = play(&fake, &slow.chain(fast).collect::<Vec<_>>());
    for (id, outcome) in &outcomes {
        match id {
            1..=100 => assert!(matches!(outcome, Outcome::Failed(_)), "job {id}: {outcome:?}"),
            _ => assert_eq!(*outcome, Outcome::Launched, "job {id}"),
        }
    }
    assert!(took <= Duration::from_secs(15), "{took:?} of the minute");
    // The fast owner's instances had their configurations before anybody stopped waiting for the slow one.
    let put_at: Vec<Timestamp> = fake.state().parameters_put.values().copied().collect();
    assert_eq!(put_at.len(), 10);
    assert!(put_at.iter().all(|at| fake.now().since(*at) >= Duration::from_secs(14)), "{put_at:?}");
}

#[test]
fn an_owner_whose_configurations_never_come_is_cut_before_the_deadline_and_the_others_are_told_apart() {
    let fake = world(1..=4);
    fake.hang("Registry::generate_jit_config", "slow");
    let messages = [of_owner(1, "slow"), of_owner(2, "slow"), of_owner(3, "fast"), of_owner(4, "fast")];
    let (outcomes, took) = play(&fake, &messages);
    assert!(matches!((&outcomes[&1], &outcomes[&2]), (Outcome::Failed(_), Outcome::Failed(_))), "{outcomes:?}");
    assert_eq!((&outcomes[&3], &outcomes[&4]), (&Outcome::Launched, &Outcome::Launched));
    assert!(took < minutes(1), "answered before the deadline: {took:?}");
    // What was cut is gone on with: the same instances, no others.
    fake.heal();
    fake.pass(minutes(5));
    let (again, _) = play(&fake, &messages);
    assert!(again.values().all(|outcome| matches!(outcome, Outcome::Launched | Outcome::AlreadyServed)), "{again:?}");
    assert_eq!((fake.living().len(), fake.state().parameters.len()), (4, 4));
}

#[test]
fn what_the_ledger_and_ec2_take_is_not_counted_against_github() {
    let fake = world(1..=3);
    // The listing, and what is read of the fleet after it.
    for call in 1..20 {
        fake.meanwhile(call, |fake| {
            if fake.calls_of("ComputeRead::instances") == 1 && fake.calls_of("Jobs::job") == 0 {
                fake.pass(Duration::from_secs(10));
            }
        });
    }
    let (outcomes, took) = play(&fake, &[message(1), message(2), message(3)]);
    assert!(outcomes.values().all(|outcome| *outcome == Outcome::Launched), "{outcomes:?} after {took:?}");
    assert!(took >= Duration::from_secs(20), "{took:?}: nothing was slow");
}

#[test]
fn a_listing_that_fails_is_asked_for_once_a_batch_and_fails_every_owner_that_needs_it() {
    let fake = world(1..=3);
    fake.always_fail("ComputeRead::instances", Class::Transient);
    let (outcomes, _) = play(&fake, &[of_owner(1, "one"), of_owner(2, "two"), of_owner(3, "three")]);
    assert!(outcomes.values().all(|outcome| matches!(outcome, Outcome::Failed(_))), "{outcomes:?}");
    assert_eq!((fake.calls_of("ComputeRead::instances"), fake.calls_of("Jobs::job")), (1, 0));
}

/// An instance without a configuration is on record, and the sweeper ends it with no help, whatever was lost on the way.
#[test]
fn an_instance_whose_configuration_failed_is_on_record_and_the_sweeper_settles_it() {
    for (call, class) in [
        ("Registry::generate_jit_config", Class::Denied),
        ("Registry::generate_jit_config", Class::OutcomeUnknown),
        ("Parameters::put_jit_config", Class::Denied),
        ("Parameters::put_jit_config", Class::OutcomeUnknown),
    ] {
        let case = format!("{call} {class:?}");
        let (fake, policy) = (world([1]), policy());
        fake.always_fail(call, class);
        super::try_batch(&fake, &policy, &[1]);
        fake.heal();
        let records = fake.all::<crate::ledger::InstanceRecord>();
        assert_eq!((records.len(), fake.living().len()), (1, 1), "{case}");
        assert!(records[0].jit_intent_at.is_some() && records[0].handed_over_at.is_none(), "{case}");
        fake.put_job(crate::ids::JobId(1), JobState::Completed);
        let id = records[0].instance_id.clone();
        let mut passes = 0;
        while !(fake.living().is_empty() && fake.state().runners.is_empty() && fake.state().parameters.is_empty()) {
            fake.pass(minutes(5));
            fake.set_instance_state(&id, state_after(&fake, &id));
            let deadline = Deadline::of(fake.now(), fake.now().plus(minutes(1)));
            run(crate::orphan::run_pass(&fake, &policy, deadline)).expect("not killed").expect("a whole pass");
            passes += 1;
            assert!(passes < 60, "{case}: not settled in five hours");
        }
        assert_eq!(fake.state().terminated.len(), 1, "{case}: by the sweeper");
    }
}

fn state_after(fake: &Fake, id: &crate::ids::InstanceId) -> InstanceState {
    match fake.state().instances[id].state {
        InstanceState::ShuttingDown | InstanceState::Terminated => InstanceState::Terminated,
        InstanceState::Pending | InstanceState::Running => InstanceState::Running,
        other @ (InstanceState::Stopping | InstanceState::Stopped | InstanceState::Unrecognised) => other,
    }
}
