//! What GitHub's API does: 404 storms, refusals, pages that fail, searches that find nothing, lists that are empty.

use super::super::fixtures::{
    Made, Moment, acts, down, ends_and_leaves_nothing, job_starts_on, minutes, of_many, of_our_template,
    put_runner_of_many, swept,
};
use super::super::*;
use crate::verdict::Reason;

#[test]
fn a_404_storm_of_an_hour_ends_nothing() {
    let gets = [
        "RegistryRead::runner",
        "RegistryRead::runner_named",
        "Jobs::job",
        "Jobs::jobs_in_progress",
        "Jobs::jobs_of_open_runs",
        "Jobs::repositories",
        "DeliveryLog::failed_deliveries_since",
    ];
    let storms: [Made; 2] = [
        ("lists are 404 as well", |fake| fake.always_fail("RegistryRead::runners", Class::Absent)),
        ("lists are 200 and empty", |fake| fake.state_mut().runners.clear()),
    ];
    for (storm, begin) in storms {
        for moment in Moment::ALL {
            let fake = moment.reached();
            for number in 0..10 {
                put_runner_of_many(&fake, number);
            }
            // Of one the ledger knows a job, of another GitHub alone does; the third is done.
            job_starts_on(&fake, &of_many(0));
            fake.state_mut().runners.last_mut().expect("ten").1.busy = true;
            let (before, registered) = (acts(&fake), fake.state().runners.clone());
            for call in gets {
                fake.always_fail(call, Class::Absent);
            }
            begin(&fake);
            for minute in 1..=60 {
                minutes(&fake, &policy(), 1);
                assert_eq!(acts(&fake), before, "{storm}, {moment:?}: minute {minute}");
            }
            fake.heal();
            fake.state_mut().runners = registered;
            let ended = minutes_until(&fake, |fake| fake.state().terminated.iter().any(|(own, _)| *own == id()));
            assert!(ended.is_some(), "{storm}, {moment:?}: the storm is over and the surplus one goes");
            assert!(fake.state().terminated.iter().all(|(own, _)| *own != of_many(0)), "{storm}: its job runs");
        }
    }
}

#[test]
fn a_403_on_deregister_takes_the_intent_back_and_ends_nothing() {
    let fake = Moment::BeforeDelete.reached();
    fake.always_fail("Registry::deregister", Class::Denied);
    let report = down(&fake, &policy());
    assert!(report.errors.iter().any(|error| error.contains("Registry::deregister")), "visible: {report:?}");
    let record = record_of(&fake);
    assert_eq!((record.deregister_intent, record.deregistered_at, record.idle_since), (None, None, None));
    minutes(&fake, &policy(), 60);
    assert!(grounds(&fake).is_empty());
    assert!(fake.calls_of("Registry::deregister") >= 5, "a new confirmation of idleness, a new try");
    fake.heal();
    ends_and_leaves_nothing(&fake, "allowed again");
}

#[test]
fn offline_and_busy_is_kept_until_the_jobs_api_says_completed() {
    let fake = Moment::BeforeDelete.reached();
    job_starts(&fake);
    jobs_api_says(&fake, 1, JobState::InProgress, Some(7));
    {
        let runner = &mut fake.state_mut().runners[0].1;
        runner.busy = true;
        runner.online = false;
    }
    for _ in 0..180 {
        fake.pass(MINUTE);
        assert!(swept(&fake, &policy()).kept.contains_key(&Reason::JobRunning));
        down(&fake, &policy());
    }
    assert_eq!(acts(&fake), 0, "the listener may be starved while the worker works");
    // GitHub gave the job up; the runner of the lost machine is shown as busy for hours and cannot be deleted.
    jobs_api_says(&fake, 1, JobState::Completed, Some(7));
    let minutes = minutes_until_ended(&fake).expect("ended");
    assert!((15..=17).contains(&minutes), "{minutes} min after the jobs API said so");
    assert_eq!((grounds(&fake), fake.calls_of("Registry::deregister")), (vec![Ground::JobCompleted], 0), "row 7");
}

#[test]
fn a_list_whose_second_page_fails_ends_nobody() {
    // The port makes an error in any page an error of the whole.
    let fake = Fake::new();
    for number in 0..10 {
        put_runner_of_many(&fake, number);
    }
    fake.always_fail("RegistryRead::runners", Class::Transient);
    let mut kept = 0;
    for _ in 0..120 {
        fake.pass(MINUTE);
        let report = down(&fake, &policy());
        kept += report.kept.get(&Reason::RegistrationUnread).copied().unwrap_or(0);
        swept(&fake, &policy());
    }
    assert_eq!((acts(&fake), fake.calls_of("RegistryRead::runner")), (0, 0), "a list in part is no list");
    assert!(kept > 100, "and the report says why: {kept}");
    fake.heal();
    assert!(minutes_until_ended(&fake).is_some(), "page two is back");
}

#[test]
fn a_failed_search_of_the_jobs_in_progress_is_not_taken_for_none_found() {
    // A job of which we heard nothing (events can be missing altogether, facts/github.md 3.2) runs on a runner that the
    // list omits.
    for (case, failing, runs, expected) in [
        ("the jobs cannot be read", Some("Jobs::jobs_in_progress"), true, vec![]),
        ("the repositories cannot be read", Some("Jobs::repositories"), true, vec![]),
        ("the search finds it", None, true, vec![]),
        ("the search finds none", None, false, vec![Ground::RegistrationGone]),
    ] {
        let fake = Fake::new();
        idle_runner(&fake);
        of_our_template(&fake, &id());
        fake.state_mut().runners.clear();
        if runs {
            jobs_api_says(&fake, 1, JobState::InProgress, Some(7));
        }
        if let Some(call) = failing {
            fake.always_fail(call, Class::Transient);
        }
        minutes(&fake, &policy(), 120);
        assert_eq!(grounds(&fake).into_iter().take(1).collect::<Vec<_>>(), expected, "{case}");
    }
}

#[test]
fn an_empty_list_while_ten_records_exist_opens_the_breaker() {
    let fake = Fake::new();
    for number in 0..10 {
        put_runner_of_many(&fake, number);
    }
    fake.pass(20 * MINUTE);
    let registered = std::mem::take(&mut fake.state_mut().runners);
    for minute in 1..=29 {
        fake.pass(MINUTE);
        let report = swept(&fake, &policy());
        assert_eq!(report.kept.get(&Reason::NoPositiveControl), Some(&10), "minute {minute}: {:?}", report.kept);
        assert!(report.errors.iter().any(|error| error.contains("misses most")), "minute {minute}: an alarm");
        down(&fake, &policy());
    }
    assert_eq!(acts(&fake), 0);
    fake.state_mut().runners = registered;
    let report = swept(&fake, &policy());
    assert!(report.errors.is_empty() && !report.kept.contains_key(&Reason::NoPositiveControl), "{report:?}");
    assert!(minutes_until_ended(&fake).is_some(), "the list is whole again and the surplus goes");
}
