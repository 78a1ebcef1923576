//! Rows that count readings, and what a single one is worth.

use super::super::fixtures::{Moment, acts, down, ends_and_leaves_nothing, minutes, swept};
use super::super::*;
use crate::config::HARD_AGE;
use crate::verdict::Reason;

use Moment::BeforeDelete;

#[test]
fn an_absence_or_an_offline_runner_counts_after_three_sweeps_and_half_an_hour() {
    type Case = (&'static str, fn(&Fake), Reason);
    let cases: [Case; 2] = [
        ("row 16", |fake| fake.state_mut().runners.clear(), Reason::RegistrationAbsent),
        ("row 19", |fake| fake.state_mut().runners[0].1.online = false, Reason::Offline),
    ];
    for (case, happen, reason) in cases {
        for (every, sweeps_before) in [(1, 30), (10, 3), (60, 3)] {
            let fake = BeforeDelete.reached();
            happen(&fake);
            let mut sweeps = 0;
            while acts(&fake) == 0 {
                sweeps += 1;
                let kept = swept(&fake, &policy()).kept;
                assert!(acts(&fake) > 0 || kept.contains_key(&reason), "{case}, every {every} min: {kept:?}");
                fake.pass(every * MINUTE);
                assert!(sweeps < 50, "{case}, every {every} min: a leak");
            }
            assert_eq!(sweeps - 1, sweeps_before, "{case}, every {every} min");
        }
        // Back in between: the row is broken and begins anew.
        let fake = BeforeDelete.reached();
        for _ in 0..4 {
            let shown = fake.state().runners.clone();
            happen(&fake);
            for _ in 0..25 {
                fake.pass(MINUTE);
                swept(&fake, &policy());
            }
            assert_eq!(acts(&fake), 0, "{case}: broken");
            fake.state_mut().runners = shown;
            swept(&fake, &policy());
            edit(&fake, &id(), |record| assert!(record.absent.is_none() && record.offline.is_none(), "{case}"));
        }
    }
}

#[test]
fn a_scale_down_of_many_passes_counts_no_sweep() {
    let fake = BeforeDelete.reached();
    fake.state_mut().runners.clear();
    for _ in 0..120 {
        fake.pass(MINUTE);
        down(&fake, &policy());
    }
    assert_eq!((acts(&fake), record_of(&fake).absent), (0, None), "sweeps are the sweeper's to count");
}

#[test]
fn a_stopped_instance_is_ended_when_it_is_seen_stopped_again_a_quarter_of_an_hour_later() {
    for (case, stopped_for, ended) in [("stopped", 15, true), ("woken in between", 14, false)] {
        let fake = BeforeDelete.reached();
        // Whatever the ledger knows of a job: nothing executes there.
        job_starts(&fake);
        jobs_api_says(&fake, 1, JobState::InProgress, Some(7));
        fake.set_instance_state(&id(), InstanceState::Stopped);
        for minute in 0..stopped_for {
            let kept = swept(&fake, &policy()).kept;
            assert!(kept.contains_key(&Reason::Stopped), "{case}, minute {minute}: {kept:?}");
            fake.pass(MINUTE);
        }
        if !ended {
            fake.set_instance_state(&id(), InstanceState::Running);
            swept(&fake, &policy());
            fake.set_instance_state(&id(), InstanceState::Stopped);
            fake.pass(MINUTE);
        }
        swept(&fake, &policy());
        fake.pass(MINUTE);
        swept(&fake, &policy());
        assert_eq!(!grounds(&fake).is_empty(), ended, "{case}");
        assert_eq!(fake.state().runners.is_empty(), ended, "{case}");
    }
}

#[test]
fn a_job_shown_elsewhere_twice_an_idle_window_apart_is_dropped_and_its_instance_removable() {
    for (case, state, runner_id) in [
        ("on another runner", JobState::InProgress, Some(8)),
        ("queued again", JobState::Queued, None),
        ("ended on another runner", JobState::Completed, Some(8)),
    ] {
        let fake = BeforeDelete.reached();
        job_starts(&fake);
        jobs_api_says(&fake, 1, state, runner_id);
        for minute in 0..5 {
            let report = swept(&fake, &policy());
            assert_eq!(report.kept.keys().collect::<Vec<_>>(), [&Reason::JobElsewhere], "{case}, minute {minute}");
            assert_eq!(report.associations_dropped_count, 0, "{case}, minute {minute}");
            fake.pass(MINUTE);
        }
        let report = swept(&fake, &policy());
        assert_eq!(report.associations_dropped_count, 1, "{case}: dropped, and counted for the alarm");
        assert_eq!(acts(&fake), 0, "{case}: and the table is entered anew");
        ends_and_leaves_nothing(&fake, case);
    }
    // One reading that shows it here breaks the row.
    let fake = BeforeDelete.reached();
    job_starts(&fake);
    for _ in 0..10 {
        jobs_api_says(&fake, 1, JobState::Queued, None);
        fake.pass(4 * MINUTE);
        swept(&fake, &policy());
        jobs_api_says(&fake, 1, JobState::InProgress, Some(7));
        fake.pass(4 * MINUTE);
        let kept = swept(&fake, &policy()).kept;
        assert_eq!(kept.keys().collect::<Vec<_>>(), [&Reason::JobRunning]);
    }
    assert!(record_of(&fake).job_started.is_some());
}

#[test]
fn a_completion_that_was_lost_is_taken_from_the_jobs_api_and_from_nothing_less() {
    for (case, state, runner_id, reason) in [
        ("in progress here", JobState::InProgress, Some(7), Reason::JobRunning),
        ("in progress, and no runner is named", JobState::InProgress, None, Reason::JobRunning),
        ("ended, and no runner is named", JobState::Completed, None, Reason::JobUnread),
        ("a status that we do not know", JobState::Unrecognised, Some(7), Reason::JobUnread),
    ] {
        let fake = BeforeDelete.reached();
        job_starts(&fake);
        jobs_api_says(&fake, 1, state, runner_id);
        for _ in 0..90 {
            fake.pass(MINUTE);
            down(&fake, &policy());
            let kept = swept(&fake, &policy()).kept;
            assert_eq!(kept.keys().collect::<Vec<_>>(), [&reason], "{case}");
        }
        assert_eq!(acts(&fake), 0, "{case}");
        jobs_api_says(&fake, 1, JobState::Completed, Some(7));
        let minutes = minutes_until_ended(&fake).expect(case);
        assert!((15..=18).contains(&minutes), "{case}: {minutes} min after the jobs API said that it had ended");
        assert_eq!(grounds(&fake), [Ground::JobCompleted], "{case}: row 9");
    }
    let fake = BeforeDelete.reached();
    job_starts(&fake);
    fake.pass(MINUTE);
    let kept = swept(&fake, &policy()).kept;
    assert_eq!(kept.keys().collect::<Vec<_>>(), [&Reason::JobDenied], "404: row 11");
    minutes(&fake, &policy(), 120);
    assert_eq!(acts(&fake), 0);
}

#[test]
fn a_busy_runner_of_no_known_job_is_looked_for_among_the_jobs_in_progress() {
    let seen_busy = || {
        let fake = BeforeDelete.reached();
        let now = fake.now();
        edit(&fake, &id(), |record| {
            record.busy_seen_at = Some(now);
            record.idle_since = None;
        });
        fake
    };
    for (case, runner_id, found) in [("its job", 7, true), ("another runner's", 8, false)] {
        let fake = seen_busy();
        jobs_api_says(&fake, 1, JobState::InProgress, Some(runner_id));
        fake.pass(MINUTE);
        let kept = swept(&fake, &policy()).kept;
        let reason = if found { Reason::JobSurfaced } else { Reason::BusySeen };
        assert_eq!(kept.keys().collect::<Vec<_>>(), [&reason], "{case}");
        let known = record_of(&fake).job_started;
        assert_eq!(known.map(|started| started.job_id), found.then_some(JobId(1)), "{case}: sticky");
        jobs_api_says(&fake, 1, JobState::Completed, Some(runner_id));
        let ended = minutes_until_ended(&fake);
        assert_eq!(ended.is_some(), found, "{case}: {ended:?}");
    }
    let fake = seen_busy();
    minutes(&fake, &policy(), 120);
    assert_eq!(acts(&fake), 0, "row 17: kept");
    fake.pass(HARD_AGE + 2 * HOUR);
    ends_and_leaves_nothing(&fake, "bounded by the hard age");
}
