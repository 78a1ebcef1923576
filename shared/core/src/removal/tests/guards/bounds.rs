//! Bounds of a pass: what it may do, how long it takes, and that nobody starves behind what fails.

use std::collections::BTreeSet;

use super::super::fixtures::{after_each_call, job_starts_on, of_many, put_runner_of_many, swept};
use super::super::*;
use crate::ledger::JobCompleted;
use crate::removal::DeregistrationGround;

/// `count` instances whose job completed long ago and whose registrations GitHub removed: a sweep ends each.
fn done_with(count: u64) -> Fake {
    let fake = Fake::new();
    for number in 0..count {
        put_runner_of_many(&fake, number);
        complete(&fake, number);
    }
    fake.state_mut().runners.clear();
    fake.pass(20 * MINUTE);
    fake
}

fn complete(fake: &Fake, number: u64) {
    let id = of_many(number);
    job_starts_on(fake, &id);
    let at = fake.now();
    edit(fake, &id, |record| {
        let (job_id, runner_id) = (JobId(number + 100), RunnerId(number + 100));
        record.note_completed(JobCompleted { job_id, at }, runner_id);
    });
}

fn ended(fake: &Fake) -> BTreeSet<InstanceId> {
    fake.state().terminated.iter().map(|(id, _)| id.clone()).collect()
}

/// After each call: EC2 lists the instance and does not find it when it is to be ended, once.
fn not_found(id: InstanceId) -> impl Fn(&Fake) + 'static {
    let hidden = std::cell::RefCell::new(None);
    move |fake: &Fake| {
        let record = fake.get::<InstanceRecord>(id.as_str()).expect("a record");
        let to_be_ended = record.terminate_intent.is_some_and(|intent| intent.at == fake.now());
        let mut hidden = hidden.borrow_mut();
        if let Some(instance) = hidden.as_ref() {
            fake.state_mut().instances.insert(id.clone(), Instance::clone(instance));
        } else if to_be_ended {
            *hidden = fake.state_mut().instances.remove(&id);
        }
    }
}

#[test]
fn the_cap_of_a_pass_is_reported_and_the_rest_follows() {
    for (count, first) in [(4, 4), (5, 5), (12, 5), (40, 10)] {
        let fake = Fake::new();
        for number in 0..count {
            put_runner_of_many(&fake, number);
            edit(&fake, &of_many(number), |record| {
                record.runner_id = None;
                record.jit_intent_at = None;
            });
        }
        fake.state_mut().runners.clear();
        fake.pass(20 * MINUTE);
        let report = swept(&fake, &policy());
        let now = report.terminated.get(&Ground::NeverConnected).copied().unwrap_or(0);
        assert_eq!((now, u64::from(report.overflow_count)), (first, count - u64::from(first)), "{count} instances");
        for _ in 0..10 {
            fake.pass(MINUTE);
            swept(&fake, &policy());
        }
        assert_eq!(ended(&fake).len(), usize::try_from(count).expect("few"), "{count} instances: all in the end");
    }
}

/// Each pursued to its end costs calls that no act makes an end to.
#[test]
fn an_observing_pass_pursues_fifty_acts_and_an_enforcing_one_all() {
    for (mode, forbidden, asked, removed) in [(Mode::Observe, 50, 50, 0), (Mode::Enforce, 0, 60, 60)] {
        let fake = Fake::new();
        for number in 0..60 {
            put_runner_of_many(&fake, number);
            complete(&fake, number);
        }
        fake.pass(20 * MINUTE);
        let observed = Policy { mode, ..policy() };
        let before = fake.calls_of("RegistryRead::runner");
        let report = swept(&fake, &observed);
        let of_runners = fake.calls_of("RegistryRead::runner") - before;
        assert_eq!((report.forbidden_count, of_runners), (forbidden, asked), "{mode:?}: {report:?}");
        assert_eq!(report.deregistered.get(&DeregistrationGround::JobCompleted).copied().unwrap_or(0), removed);
        assert_eq!(fake.state().runners.len(), 60 - usize::try_from(removed).expect("few"), "{mode:?}");
    }
}

#[test]
fn one_items_failure_is_its_own_and_the_pass_fails_visibly() {
    let fake = done_with(12);
    let calls = fake.calls();
    assert!(sweep(&fake, &policy()).expect("not killed").is_ok(), "nothing fails");
    assert_eq!(ended(&fake).len(), 12);
    assert!(fake.calls() > calls);

    let fake = done_with(12);
    let outcome = after_each_call(&fake, not_found(of_many(5)), |fake| sweep(fake, &policy())).expect("not killed");
    let report = outcome.expect_err("visible").0;
    assert_eq!((report.error_count, ended(&fake).len()), (1, 11), "{report:?}");
    assert!(report.errors[0].contains("i-005"), "it names the instance: {:?}", report.errors);
    assert!(!ended(&fake).contains(&of_many(5)));
    fake.pass(3 * MINUTE);
    assert!(sweep(&fake, &policy()).expect("not killed").is_ok());
    assert_eq!(ended(&fake).len(), 12, "and is tried again");
}

#[test]
fn a_pass_that_its_deadline_cut_is_gone_on_with_and_starves_nobody() {
    let fake = done_with(24);
    let mut passes = 0;
    let mut progress = Vec::new();
    while ended(&fake).len() < 23 {
        passes += 1;
        assert!(passes <= 12, "starved: {:?}", ended(&fake));
        let unlucky = not_found(of_many(0));
        let before = ended(&fake).len();
        // Every call takes a second of the minute.
        let report = after_each_call(
            &fake,
            move |fake| {
                unlucky(fake);
                fake.pass(Duration::from_secs(1));
            },
            |fake| swept(fake, &policy()),
        );
        progress.push((ended(&fake).len() - before, report.cut_by_deadline));
        fake.pass(MINUTE);
    }
    assert!(progress.iter().filter(|(_, cut)| *cut).count() >= 2, "cut more than once: {progress:?}");
    assert!(progress.iter().all(|(now, _)| *now > 0), "each pass comes further: {progress:?}");
    assert!(!ended(&fake).contains(&of_many(0)));
}

/// An item that is cut short between two looks begins the next pass; one that had a whole pass had its turn.
#[test]
fn an_instance_whose_reading_takes_all_the_time_starves_nobody() {
    let fake = done_with(6);
    // The first one never had a runner: it is asked for by its name, and GitHub takes 50 s for that.
    edit(&fake, &of_many(0), |record| {
        record.runner_id = None;
        record.jit_intent_at = None;
        record.job_started = None;
        record.job_completed = None;
    });
    for _ in 0..20 {
        let asked = std::cell::Cell::new(fake.calls_of("RegistryRead::runner_named"));
        after_each_call(
            &fake,
            move |fake| {
                if fake.calls_of("RegistryRead::runner_named")
                    > asked.replace(fake.calls_of("RegistryRead::runner_named"))
                {
                    fake.pass(Duration::from_secs(50));
                }
            },
            |fake| swept(fake, &policy()),
        );
        fake.pass(MINUTE);
    }
    assert_eq!(ended(&fake).len(), 5, "20 passes, and the five behind it were not come to");
}

/// Whose acts fail for ever may not take the cap of every pass; the lease (2 min) is over before the sweeper's next one.
#[test]
fn five_instances_that_cannot_be_ended_leave_the_cap_to_others() {
    for every in [MINUTE, 5 * MINUTE] {
        let fake = Fake::new();
        for number in 0..12 {
            put_runner_of_many(&fake, number);
            edit(&fake, &of_many(number), |record| {
                record.runner_id = None;
                record.jit_intent_at = None;
            });
        }
        fake.state_mut().runners.clear();
        fake.pass(20 * MINUTE);
        for _ in 0..24 {
            let unlucky: Vec<_> = (0..5).map(|number| not_found(of_many(number))).collect();
            after_each_call(
                &fake,
                move |fake| unlucky.iter().for_each(|hide| hide(fake)),
                |fake| swept(fake, &policy()),
            );
            fake.pass(every);
        }
        assert_eq!(ended(&fake).len(), 7, "24 passes, one every {every:?}, and EC2 finds the seven others");
    }
}

/// Nor may the first 100 jobs whose fate is asked be asked in every pass while they run on.
#[test]
fn a_lost_completion_behind_a_hundred_running_jobs_is_asked_for() {
    let fake = Fake::new();
    for number in 0..101 {
        put_runner_of_many(&fake, number);
        job_starts_on(&fake, &of_many(number));
        let state = if number == 100 { JobState::Completed } else { JobState::InProgress };
        jobs_api_says(&fake, number + 100, state, Some(number + 100));
    }
    for _ in 0..12 {
        fake.pass(10 * MINUTE);
        swept(&fake, &policy());
    }
    assert_eq!(fake.calls_of("Registry::deregister"), 1, "two hours after its completion was lost");
}
