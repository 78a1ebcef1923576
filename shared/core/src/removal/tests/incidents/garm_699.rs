//! GARM 699: the finaliser loses its record; a swallowed `NotFound`.

use super::super::fixtures::{Moment, bury, calls_of_a_pass, down, down_with, ends_and_leaves_nothing, minutes};
use super::super::*;
use crate::config::HARD_AGE;
use crate::ledger::Record;

#[test]
fn garm_699_a_record_that_another_closes_in_mid_pass_is_opened_again_and_its_instance_ended() {
    let calls = calls_of_a_pass(&Moment::BeforeTerminate.reached());
    for call in 1..=calls {
        let fake = Moment::BeforeTerminate.reached();
        fake.meanwhile(fake.calls() + call, |fake| {
            let now = fake.now();
            edit(fake, &id(), |record| {
                record.gone_at = Some(now);
                record.cleaned_at = Some(now);
            });
        });
        down(&fake, &policy());
        ends_and_leaves_nothing(&fake, &format!("closed after call {call} of {calls}"));
    }
}

#[test]
fn garm_699_a_record_that_is_lost_in_mid_pass_is_rebuilt_and_its_instance_bounded_by_the_hard_age() {
    let calls = calls_of_a_pass(&Moment::BeforeTerminate.reached());
    for call in 1..=calls {
        let fake = Moment::BeforeTerminate.reached();
        fake.meanwhile(fake.calls() + call, lose_the_record);
        down(&fake, &policy());
        let ended_at_once = !grounds(&fake).is_empty();
        // The intent was stored before the record was lost: the act is as good as any.
        assert!(!ended_at_once || call > calls - 3, "call {call} of {calls}");
        minutes(&fake, &policy(), 30);
        assert_eq!(grounds(&fake).is_empty(), !ended_at_once, "call {call}: a rebuilt record ends nothing");
        if ended_at_once {
            bury(&fake);
            minutes(&fake, &policy(), 30);
            assert!(fake.all::<InstanceRecord>().is_empty() && fake.state().runners.is_empty(), "nothing is left");
        } else {
            fake.pass(HARD_AGE + 2 * HOUR);
            ends_and_leaves_nothing(&fake, &format!("lost after call {call} of {calls}"));
        }
    }
}

#[test]
fn garm_699_not_found_from_ec2_closes_nothing_and_is_tried_again() {
    let fake = Moment::BeforeTerminate.reached();
    fake.always_fail("Compute::terminate", Class::Absent);
    let report = down(&fake, &policy());
    assert!(report.errors.iter().any(|error| error.contains("Compute::terminate")), "visible: {report:?}");
    for _ in 0..20 {
        minutes(&fake, &policy(), 1);
        let record = record_of(&fake);
        assert!(record.gone_at.is_none() && record.cleaned_at.is_none(), "still open: {record:?}");
    }
    assert!(fake.calls_of("Compute::terminate") >= 7, "again, as soon as the last try's lease is over");
    assert!(grounds(&fake).is_empty());
    fake.heal();
    ends_and_leaves_nothing(&fake, "EC2 finds it again");
}

#[test]
fn garm_699_404_on_a_delete_is_no_success_and_the_runner_is_deregistered_later() {
    let fake = Moment::BeforeDelete.reached();
    fake.always_fail("Registry::deregister", Class::Absent);
    minutes(&fake, &policy(), 60);
    let record = record_of(&fake);
    assert_eq!(
        (record.deregistered_at, grounds(&fake)),
        (None, vec![]),
        "nothing rests on a DELETE that was not found"
    );
    assert!(fake.calls_of("Registry::deregister") > 1, "tried again");
    fake.heal();
    ends_and_leaves_nothing(&fake, "the DELETE works again");
}

#[test]
fn garm_699_a_registration_that_vanishes_before_the_delete_is_not_laid_to_it() {
    let fake = Moment::BeforeDelete.reached();
    down_with(&fake, |fake| {
        if record_of(fake).deregister_intent.is_some() {
            fake.state_mut().runners.clear();
        }
    });
    let record = record_of(&fake);
    assert_eq!(fake.calls_of("Registry::deregister"), 1, "and it was answered 404");
    assert_eq!((record.deregister_intent, record.deregistered_at), (None, None));
    let ended = minutes_until_ended(&fake);
    assert!(ended.is_some_and(|minutes| minutes >= 30), "as any registration that went without us: {ended:?}");
    assert_eq!(grounds(&fake), [Ground::RegistrationGone]);
}

#[test]
fn garm_699_a_delete_whose_failure_cannot_be_written_down_is_taken_up_again() {
    let fake = Moment::BeforeDelete.reached();
    // The way back to "pending" fails as well: intent stored, DELETE denied, and then no write works.
    fake.always_fail("Registry::deregister", Class::Denied);
    let report = down_with(&fake, |fake| {
        if fake.calls_of("Registry::deregister") > 0 {
            fake.always_fail("Ledger::write", Class::Transient);
        }
    });
    assert!(!report.errors.is_empty(), "visible");
    assert!(record_of(&fake).deregister_intent.is_some(), "stuck as in the incident");
    fake.heal();
    ends_and_leaves_nothing(&fake, "the ledger works again");
}

fn lose_the_record(fake: &Fake) {
    fake.state_mut().items.remove(&InstanceRecord::key("i-1"));
}
