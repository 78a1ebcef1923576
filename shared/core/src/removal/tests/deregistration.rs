//! What a DELETE did, may have done or did not do, and what is judged of the runner after it.

use super::*;
use crate::ledger::{DeregistrationOutcome, RemovalIntent};
use crate::removal::DeregistrationGround;

#[test]
fn a_delete_that_failed_is_not_blamed_for_a_later_404() {
    let fake = Fake::new();
    idle_runner(&fake);
    fake.always_fail("Registry::deregister", Class::Denied);
    assert!(minutes_until(&fake, |f| f.calls_of("Registry::deregister") > 0).is_some());
    fake.heal();
    // 3 days later (drain is off: a job waits all the time), GitHub drops the registration while a job of ours runs
    for _ in 0..60 {
        fake.put(&waiting_job(fake.now()));
        jobs_api_says(&fake, 1, JobState::Queued, None);
        tick(&fake, &policy());
    }
    fake.state_mut().runners.clear();
    let end = minutes_until_ended(&fake);
    assert!(end.is_some_and(|minutes| minutes >= 30), "row 16 waits, whatever DELETE was once begun: {end:?}");
    assert_eq!(grounds(&fake), [Ground::RegistrationGone]);
}

#[test]
fn a_delete_answered_404_was_not_ours() {
    let fake = Fake::new();
    idle_runner(&fake);
    // between the GET and the DELETE the registration vanishes (not by us)
    let done = minutes_until(&fake, |fake| {
        for call in fake.calls()..fake.calls() + 60 {
            fake.meanwhile(call, |fake| {
                if fake.get::<InstanceRecord>("i-1").is_some_and(|r| r.deregister_intent.is_some())
                    && fake.calls_of("Registry::deregister") == 0
                {
                    fake.state_mut().runners.clear();
                }
            });
        }
        fake.calls_of("Registry::deregister") > 0
    });
    assert!(done.is_some());
    let end = minutes_until_ended(&fake);
    assert!(end.is_some_and(|minutes| minutes >= 30), "404 to our DELETE is row 16: {end:?}");
    assert_eq!(grounds(&fake), [Ground::RegistrationGone]);
}

#[test]
fn busy_in_the_list_outweighs_idle_by_id() {
    let fake = Fake::new();
    idle_runner(&fake);
    for _ in 0..40 {
        fake.state_mut().runners.iter_mut().for_each(|r| r.1.busy = true);
        let lists = fake.calls_of("RegistryRead::runners");
        for call in fake.calls()..fake.calls() + 60 {
            fake.meanwhile(call, move |fake| {
                if fake.calls_of("RegistryRead::runners") > lists {
                    fake.state_mut().runners.iter_mut().for_each(|r| r.1.busy = false);
                }
            });
        }
        tick(&fake, &policy());
        if fake.state().runners.is_empty() {
            break;
        }
    }
    assert_eq!(fake.state().runners.len(), 1, "deregistered though the list of every pass said busy");
}

#[test]
fn a_refused_delete_survives_a_conflict() {
    let fake = Fake::new();
    idle_runner(&fake);
    let other_write = std::rc::Rc::new(std::cell::Cell::new(false));
    for _ in 0..40 {
        for call in fake.calls()..fake.calls() + 60 {
            let other_write = other_write.clone();
            fake.meanwhile(call, move |fake| {
                let Some(r) = fake.get::<InstanceRecord>("i-1") else { return };
                // The job comes after the intent; another function writes to the record after the DELETE.
                if fake.calls_of("Registry::deregister") == 1 && !other_write.replace(true) {
                    edit(fake, &id(), |r| r.missing_since = None);
                }
                if r.deregister_intent.is_some() && fake.calls_of("Registry::deregister") == 0 {
                    fake.state_mut().runners[0].1.busy = true;
                }
            });
        }
        tick(&fake, &policy());
        if fake.calls_of("Registry::deregister") > 0 {
            break;
        }
    }
    assert!(other_write.get(), "scenario reached");
    assert!(fake.get::<InstanceRecord>("i-1").unwrap().busy_seen_at.is_some(), "the refusal was forgotten");
}

#[test]
fn a_list_that_shows_a_version_outweighs_never_connected() {
    let fake = Fake::new();
    idle_runner(&fake);
    for _ in 0..40 {
        {
            let r = &mut fake.state_mut().runners[0].1;
            r.online = true;
            r.version = Some(Some("2".into()));
        }
        let lists = fake.calls_of("RegistryRead::runners");
        for call in fake.calls()..fake.calls() + 60 {
            fake.meanwhile(call, move |f| {
                if f.calls_of("RegistryRead::runners") > lists {
                    for r in &mut f.state_mut().runners {
                        r.1.online = false;
                        r.1.version = Some(None);
                    }
                }
            });
        }
        fake.pass(MINUTE);
        let _ = sweep(&fake, &policy());
        if fake.state().runners.is_empty() {
            break;
        }
    }
    assert_eq!(fake.state().runners.len(), 1, "never connected, says the one; online with a version, says the list");
}

/// A pass is killed between intent and DELETE; the runner takes a job, goes unlisted (runner#936), its event is lost
/// without a record. Without the intent row 16 finds the job among those in progress; with it nobody looks.
#[test]
fn a_delete_that_was_never_made_is_no_reason_to_look_less() {
    for intent in [false, true] {
        let fake = Fake::new();
        idle_runner(&fake);
        for _ in 0..14 {
            tick(&fake, &policy());
        }
        untouched(&fake, "not yet");
        if intent {
            let at = fake.now();
            edit(&fake, &id(), |r| {
                r.deregister_intent = Some(RemovalIntent { at, ground: DeregistrationGround::Idle });
            });
        }
        fake.state_mut().runners.clear();
        jobs_api_says(&fake, 1, JobState::InProgress, Some(7));
        for _ in 0..PASSES_MAX {
            tick(&fake, &policy());
        }
        assert!(
            grounds(&fake).is_empty(),
            "intent {intent}: ended {:?}, jobs in progress read {} times; {:?}",
            grounds(&fake),
            fake.calls_of("Jobs::jobs_in_progress"),
            record_of(&fake)
        );
    }
}

/// Two passes overlap (clocks skewed by more than the lease): the other's DELETE took effect, ours is answered 404.
#[test]
fn a_404_to_a_second_delete_does_not_strand_the_first_ones_outcome() {
    let fake = Fake::new();
    idle_runner(&fake);
    for _ in 0..40 {
        for call in fake.calls()..fake.calls() + 60 {
            fake.meanwhile(call, |fake| {
                if record_of(fake).deregister_intent.is_some() && fake.calls_of("Registry::deregister") == 0 {
                    let at = fake.now();
                    fake.state_mut().runners.clear();
                    edit(fake, &id(), |r| {
                        r.deregister_intent = Some(RemovalIntent { at, ground: DeregistrationGround::Idle });
                        r.deregistered_at = Some(at);
                        r.deregistration = Some(DeregistrationOutcome::Confirmed);
                    });
                }
            });
        }
        tick(&fake, &policy());
        if fake.calls_of("Registry::deregister") > 0 {
            break;
        }
    }
    assert!(record_of(&fake).deregistered_at.is_some(), "scenario reached");
    for _ in 0..(48 * 60) {
        tick(&fake, &policy());
    }
    assert!(!grounds(&fake).is_empty(), "kept for two days: {:?}", record_of(&fake));
}

/// A terminate intent left by a killed pass, then a job.
#[test]
fn a_terminate_intent_left_behind_is_judged_anew() {
    let fake = Fake::new();
    idle_runner(&fake);
    let at = fake.now();
    edit(&fake, &id(), |r| r.terminate_intent = Some(RemovalIntent { at, ground: Ground::IdleAfterDeregistration }));
    busy(&fake, true);
    for _ in 0..PASSES_MAX {
        tick(&fake, &policy());
    }
    untouched(&fake, "busy");
    busy(&fake, false);
    for _ in 0..PASSES_MAX {
        tick(&fake, &policy());
    }
    untouched(&fake, "busy was seen");
}
