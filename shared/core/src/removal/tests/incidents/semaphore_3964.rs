//! Semaphore 3964: the winner over something finished owes the completion; memory is rolled back; two act once.

use std::collections::BTreeSet;

use super::super::fixtures::{
    Made, Moment, acts, bury, calls_of_a_pass, closed, down, down_with, ends_and_leaves_nothing, job_ends,
    job_starts_on, of_many, put_runner_of_many, registered, swept,
};
use super::super::*;
use crate::config::HARD_AGE;
use crate::removal::DeregistrationGround;

#[test]
fn semaphore_3964_whoever_meets_a_half_finished_removal_finishes_it() {
    let cases: [Made; 6] = [
        ("gone, and nothing was taken away", |fake| {
            let now = fake.now();
            fake.set_instance_state(&id(), InstanceState::Terminated);
            edit(fake, &id(), |record| record.gone_at = Some(now));
        }),
        ("closed as cleaned up, and its registration is still there", |fake| {
            let now = fake.now();
            fake.state_mut().instances.clear();
            edit(fake, &id(), |record| {
                record.gone_at = Some(now);
                record.cleaned_at = Some(now);
            });
            // Somebody else's instance, for the scope to be looked at at all.
            put_runner_of_many(fake, 0xb);
            job_starts_on(fake, &InstanceId::new("i-00b"));
        }),
        ("intent to terminate stored and never carried out", |fake| {
            let intent = crate::ledger::RemovalIntent { at: fake.now(), ground: Ground::IdleAfterDeregistration };
            let at = fake.now();
            fake.state_mut().runners.clear();
            edit(fake, &id(), |record| {
                let ground = DeregistrationGround::Idle;
                record.deregister_intent = Some(crate::ledger::RemovalIntent { at, ground });
                record.deregistered_at = Some(at);
                record.deregistration = Some(crate::ledger::DeregistrationOutcome::Confirmed);
                record.terminate_intent = Some(intent);
            });
        }),
        ("intent to deregister stored and never carried out", |fake| {
            let at = fake.now();
            edit(fake, &id(), |record| {
                record.deregister_intent =
                    Some(crate::ledger::RemovalIntent { at, ground: DeregistrationGround::Idle });
            });
        }),
        ("deregistered, and the answer never written down", |fake| {
            let at = fake.now();
            fake.state_mut().runners.clear();
            edit(fake, &id(), |record| {
                record.deregister_intent =
                    Some(crate::ledger::RemovalIntent { at, ground: DeregistrationGround::Idle });
            });
        }),
        ("its job completed, and its runner was deregistered", |fake| {
            job_starts(fake);
            job_ends(fake);
            fake.state_mut().runners.clear();
        }),
    ];
    for (case, make) in cases {
        let fake = Moment::BeforeDelete.reached();
        fake.state_mut().parameters.insert(id(), crate::ports::JitConfig::new("secret".into()));
        make(&fake);
        let was_gone = fake.state().instances.get(&id()).is_none_or(|i| i.state == InstanceState::Terminated);
        assert!(
            minutes_until(&fake, |fake| {
                bury(fake);
                closed(fake) && fake.state().parameters.is_empty() && !registered(fake)
            })
            .is_some(),
            "{case}: {:?}",
            record_of(&fake)
        );
        assert_eq!(grounds(&fake).is_empty(), was_gone, "{case}");
    }
}

#[test]
fn semaphore_3964_a_write_that_fails_leaves_nothing_half_done_and_the_next_pass_finishes() {
    for moment in Moment::ALL {
        for class in [Class::Transient, Class::Conflict, Class::OutcomeUnknown] {
            let fake = moment.reached();
            let before = acts(&fake);
            fake.always_fail("Ledger::write", class);
            for _ in 0..3 {
                down(&fake, &policy());
                swept(&fake, &policy());
            }
            assert_eq!(acts(&fake), before, "{moment:?}, {class:?}: no intent, no act");
            fake.heal();
            ends_and_leaves_nothing(&fake, &format!("{moment:?}, {class:?}"));
        }
    }
}

#[test]
fn semaphore_3964_an_outcome_that_cannot_be_written_is_waited_upon_and_finished() {
    let fake = Moment::BeforeDelete.reached();
    let report = down_with(&fake, |fake| {
        if fake.calls_of("Registry::deregister") == 1 {
            fake.always_fail("Ledger::write", Class::Transient);
        }
    });
    assert!(!report.errors.is_empty(), "visible");
    assert!(fake.state().runners.is_empty() && record_of(&fake).deregistered_at.is_none(), "done and not remembered");
    fake.heal();
    let ended = minutes_until_ended(&fake).expect("finished");
    assert!(ended >= 30, "nobody knows who deleted it, so it is waited upon longer: {ended} min");
    assert_eq!(fake.calls_of("Registry::deregister"), 1, "what is done is not done again");
}

/// Two passes of any of the two functions, the second inside the first after any of its calls: how often the worst of
/// them deregistered or ended the instance, and how often all of them acted.
fn interleaved(world: &str, make: impl Fn() -> Fake) -> (BTreeSet<String>, usize) {
    type Function = (&'static str, fn(&Fake, &Policy) -> Report);
    let functions: [Function; 2] = [("scale-down", down), ("orphan-sweeper", swept)];
    let (mut twice, mut acted) = (BTreeSet::new(), 0);
    for (first, outer) in functions {
        for (second, inner) in functions {
            let fake = make();
            let before = fake.calls();
            outer(&fake, &policy());
            let calls = fake.calls() - before;
            for call in 1..=calls {
                let fake = make();
                let count = |fake: &Fake| (fake.calls_of("Registry::deregister"), fake.calls_of("Compute::terminate"));
                let before = count(&fake);
                fake.meanwhile(fake.calls() + call, move |fake| {
                    inner(fake, &policy());
                });
                outer(&fake, &policy());
                let after = count(&fake);
                let (deletes, ends) = (after.0 - before.0, after.1 - before.1);
                if deletes > 1 || ends > 1 {
                    twice.insert(format!(
                        "{world}, {second} inside {first} after call {call} of {calls}: {deletes} DELETEs, {ends} ends"
                    ));
                }
                acted += deletes + ends;
            }
        }
    }
    (twice, acted)
}

fn job_completed_long_ago() -> Fake {
    let fake = Moment::BeforeDelete.reached();
    job_starts(&fake);
    job_ends(&fake);
    fake.pass(16 * MINUTE);
    fake
}

#[test]
fn semaphore_3964_two_finalisers_interleaved_at_every_call_act_once() {
    type World = (&'static str, fn() -> Fake);
    let worlds: [World; 4] = [
        ("idle", || Moment::BeforeDelete.reached()),
        ("quarantine over", || Moment::BeforeTerminate.reached()),
        ("job completed, registration gone", || {
            let fake = job_completed_long_ago();
            fake.state_mut().runners.clear();
            fake
        }),
        ("past the hard age", || {
            let fake = Moment::BeforeDelete.reached();
            fake.pass(HARD_AGE + 2 * HOUR);
            fake
        }),
    ];
    for (world, make) in worlds {
        let (twice, acted) = interleaved(world, make);
        assert!(twice.is_empty(), "{twice:?}");
        assert!(acted > 20, "{world}: {acted} acts");
    }
}

/// The second pass's re-check reads the record anew, in which the first wrote that it deregistered, and holds it against
/// the registration that it had read before.
#[test]
fn semaphore_3964_two_sweeps_of_a_completed_job_deregister_once() {
    type World = (&'static str, fn() -> Fake);
    let worlds: [World; 3] = [
        ("job completed", job_completed_long_ago),
        ("stopped", || {
            let fake = Moment::BeforeDelete.reached();
            fake.set_instance_state(&id(), InstanceState::Stopped);
            let since = fake.now();
            edit(&fake, &id(), |record| record.stopped_since = Some(since));
            fake.pass(16 * MINUTE);
            fake
        }),
        ("gone", || {
            let fake = Moment::BeforeDelete.reached();
            fake.set_instance_state(&id(), InstanceState::Terminated);
            let at = fake.now();
            edit(&fake, &id(), |record| record.gone_at = Some(at));
            fake.pass(16 * MINUTE);
            fake
        }),
    ];
    let mut all = Vec::new();
    for (world, make) in worlds {
        let (twice, acted) = interleaved(world, make);
        assert!(acted > 20, "{world}: {acted} acts");
        all.extend(twice);
    }
    assert!(all.is_empty(), "{} interleavings: {all:?}", all.len());
}

#[test]
fn semaphore_3964_two_scale_downs_of_many_act_once_an_instance() {
    let many = || {
        let fake = Fake::new();
        for number in 0..4 {
            put_runner_of_many(&fake, number);
        }
        fake.pass(20 * MINUTE);
        let asked = fake.now().minus(6 * MINUTE);
        for number in 0..4 {
            edit(&fake, &of_many(number), |record| {
                record.idle_since = Some(asked);
                record.idle_seen_at = Some(asked);
                record.drain_requested_at = Some(asked);
            });
        }
        fake
    };
    let calls = calls_of_a_pass(&many());
    for call in 1..=calls {
        let fake = many();
        fake.meanwhile(fake.calls() + call, |fake| {
            down(fake, &policy());
        });
        down(&fake, &policy());
        assert_eq!(fake.calls_of("Registry::deregister"), 4, "call {call} of {calls}: one DELETE for each");
        fake.pass(6 * MINUTE);
        fake.meanwhile(fake.calls() + 1 + call, |fake| {
            down(fake, &policy());
        });
        down(&fake, &policy());
        down(&fake, &policy());
        let ended: BTreeSet<InstanceId> = fake.state().terminated.iter().map(|(id, _)| id.clone()).collect();
        assert_eq!((ended.len(), fake.calls_of("Compute::terminate")), (4, 4), "call {call} of {calls}");
    }
}
