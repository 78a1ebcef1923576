//! Evidence of a job is sticky, in whatever order events and readings come.

use super::*;
use crate::ledger::JobCompleted;

#[test]
fn a_later_start_on_the_same_runner_keeps() {
    let fake = Fake::new();
    idle_runner(&fake);
    edit(&fake, &id(), |r| {
        r.note_started(started());
        r.note_completed(JobCompleted { job_id: JobId(1), at: fake.now() }, RunnerId(7));
        r.note_started(JobStarted {
            job_id: JobId(2),
            repository: repository(),
            at: fake.now(),
            runner_id: Some(RunnerId(7)),
        });
    });
    assert_eq!(
        minutes_until_ended(&fake),
        None,
        "{:?} {:?}",
        grounds(&fake),
        fake.get::<InstanceRecord>("i-1").unwrap().job_started
    );
}

#[test]
fn a_foreign_start_does_not_block_the_real_one() {
    let fake = Fake::new();
    idle_runner(&fake);
    edit(&fake, &id(), |r| {
        r.runner_id = None;
        r.note_started(JobStarted {
            job_id: JobId(66),
            repository: repository(),
            at: Timestamp(1),
            runner_id: Some(RunnerId(999)),
        });
        r.note_runner_id(RunnerId(7));
        r.note_started(started());
        r.note_completed(JobCompleted { job_id: JobId(1), at: Timestamp(2) }, RunnerId(7));
    });
    let r = fake.get::<InstanceRecord>("i-1").unwrap();
    assert!(r.job_completed.is_some(), "{:?} {:?}", r.job_started, r.completion_claim);
}

#[test]
fn a_refusal_after_the_completion_keeps() {
    let fake = Fake::new();
    idle_runner(&fake);
    edit(&fake, &id(), |r| {
        r.note_started(started());
        r.note_completed(JobCompleted { job_id: JobId(1), at: fake.now() }, RunnerId(7));
        r.busy_seen_at = Some(fake.now().plus(20 * MINUTE));
    });
    assert_eq!(minutes_until_ended(&fake), None, "{:?}", grounds(&fake));
}

#[test]
fn a_claim_of_another_job_does_not_block_the_completion() {
    let fake = Fake::new();
    idle_runner(&fake);
    edit(&fake, &id(), |r| {
        r.note_completed(JobCompleted { job_id: JobId(9), at: Timestamp(1) }, RunnerId(7)); // cancelled before it started
        r.note_started(started());
        r.note_completed(JobCompleted { job_id: JobId(1), at: Timestamp(2) }, RunnerId(7));
    });
    assert!(fake.get::<InstanceRecord>("i-1").unwrap().job_completed.is_some());
}

/// Job 1 was given to the runner and never taken (cancelled meanwhile, acquire answers 409), then job 2 runs on
/// it. GitHub's events: start 1, start 2, end 1, in any order (facts 3.1). Job 2 runs throughout.
#[test]
fn a_second_start_before_the_first_ones_end_keeps() {
    for (case, order) in [
        ("start 1, end 1, start 2", [("in_progress", 1), ("completed", 1), ("in_progress", 2)]),
        ("start 1, start 2, end 1", [("in_progress", 1), ("in_progress", 2), ("completed", 1)]),
        ("start 2, start 1, end 1", [("in_progress", 2), ("in_progress", 1), ("completed", 1)]),
    ] {
        let fake = Fake::new();
        idle_runner(&fake);
        for (action, job) in order {
            event(&fake, action, job, Some(7));
        }
        jobs_api_says(&fake, 1, JobState::Completed, Some(7));
        jobs_api_says(&fake, 2, JobState::InProgress, Some(7));
        for _ in 0..PASSES_MAX {
            tick(&fake, &policy());
        }
        untouched(&fake, case);
    }
}

/// Job 1 was assigned here and given to runner 9 after 61 s; then job 2 came, its event arrived. Row 10 drops job 1.
#[test]
fn row_10_drops_only_the_job_that_is_elsewhere() {
    let fake = Fake::new();
    idle_runner(&fake);
    event(&fake, "in_progress", 1, Some(7));
    event(&fake, "in_progress", 2, Some(7));
    jobs_api_says(&fake, 1, JobState::InProgress, Some(9));
    jobs_api_says(&fake, 2, JobState::InProgress, Some(7));
    for _ in 0..PASSES_MAX {
        tick(&fake, &policy());
    }
    untouched(&fake, "job 2 runs and its start was delivered");
}

/// Row 5 comes before row 12: busy and online is sticky, also when a completion is known.
#[test]
fn busy_seen_long_after_a_completion_is_remembered() {
    let fake = Fake::new();
    idle_runner(&fake);
    event(&fake, "in_progress", 1, Some(7));
    event(&fake, "completed", 1, Some(7));
    busy(&fake, true);
    for _ in 0..60 {
        tick(&fake, &policy());
    }
    untouched(&fake, "busy");
    busy(&fake, false); // flips in mid-job (runner#4422), and DELETE agrees with the flag
    tick(&fake, &policy());
    tick(&fake, &policy());
    untouched(&fake, "45 min of busy:true after the grace, then one idle reading");
}

/// A list shows the runner busy, its job ends and is known to have ended, and only then is the reading written down: it is
/// no sign of another job. Nobody but these passes ends the instance, for its supervisor is dead.
#[test]
fn busy_read_before_a_completion_and_written_down_after_it_says_nothing() {
    let in_mid_job = || {
        let fake = Fake::new();
        idle_runner(&fake);
        put_fallen_silent(&fake, &id());
        event(&fake, "in_progress", 1, Some(7));
        jobs_api_says(&fake, 1, JobState::InProgress, Some(7));
        busy(&fake, true);
        fake.pass(20 * MINUTE);
        fake
    };
    let fake = in_mid_job();
    let before = fake.calls();
    tick(&fake, &policy());
    let calls = before + 1..=fake.calls();
    assert!(record_of(&fake).busy_seen_at.is_some(), "the reading was never written down");
    for call in calls {
        let fake = in_mid_job();
        fake.meanwhile(call, |fake| {
            event(fake, "completed", 1, Some(7));
            jobs_api_says(fake, 1, JobState::Completed, Some(7));
            fake.state_mut().runners.clear();
            fake.pass(Duration::from_secs(2));
        });
        tick(&fake, &policy());
        assert!(minutes_until_ended(&fake).is_some(), "after call {call}: {:?}", record_of(&fake));
    }
}

/// The same with row 10: busy seen between the two readings that show the job elsewhere is another job's.
#[test]
fn busy_seen_while_its_job_is_elsewhere_is_remembered() {
    let fake = Fake::new();
    idle_runner(&fake);
    event(&fake, "in_progress", 1, Some(7));
    jobs_api_says(&fake, 1, JobState::InProgress, Some(9));
    assert!(minutes_until(&fake, |fake| record_of(fake).elsewhere.is_some()).is_some());
    busy(&fake, true); // job 2; its in_progress is lost
    for _ in 0..30 {
        tick(&fake, &policy());
    }
    assert!(record_of(&fake).job_started.is_some());
    busy(&fake, false);
    for _ in 0..PASSES_MAX {
        tick(&fake, &policy());
    }
    untouched(&fake, "half an hour of busy:true was forgotten");
}

/// A start by name alone can veto.
#[test]
fn a_start_by_name_alone_after_a_completion_keeps() {
    for known in [false, true] {
        let fake = Fake::new();
        idle_runner(&fake);
        if known {
            event(&fake, "in_progress", 1, Some(7));
        }
        event(&fake, "completed", 1, Some(7));
        jobs_api_says(&fake, 1, JobState::Completed, Some(7));
        assert!(minutes_until(&fake, |fake| record_of(fake).job_completed.is_some()).is_some());
        event(&fake, "in_progress", 2, None);
        jobs_api_says(&fake, 2, JobState::InProgress, Some(7));
        for _ in 0..PASSES_MAX {
            tick(&fake, &policy());
        }
        untouched(
            &fake,
            if known { "start 1 known" } else { "start 1 lost; the record itself says that job 2 started" },
        );
    }
}

/// A completion noted from the jobs API while another job starts in the same pass.
#[test]
fn a_completion_by_the_api_while_another_starts_keeps() {
    let ready = || {
        let fake = Fake::new();
        idle_runner(&fake);
        event(&fake, "in_progress", 1, Some(7));
        fake.pass(16 * MINUTE);
        jobs_api_says(&fake, 1, JobState::Completed, Some(7));
        fake
    };
    for call in 1..40 {
        let fake = ready();
        fake.meanwhile(fake.calls() + call, |fake| {
            jobs_api_says(fake, 2, JobState::InProgress, Some(7));
            event(fake, "in_progress", 2, Some(7));
        });
        for _ in 0..PASSES_MAX {
            tick(&fake, &policy());
        }
        if fake.get::<JobRecord>("2").is_some() {
            untouched(&fake, &format!("call {call}"));
        }
    }
}

/// Row 10, then the same job is assigned here again, its second event lost.
#[test]
fn a_job_that_was_dropped_and_is_assigned_again_keeps() {
    let fake = Fake::new();
    idle_runner(&fake);
    event(&fake, "in_progress", 1, Some(7));
    jobs_api_says(&fake, 1, JobState::Queued, None);
    assert!(minutes_until(&fake, |fake| record_of(fake).job_started.is_none()).is_some(), "row 10");
    jobs_api_says(&fake, 1, JobState::InProgress, Some(7));
    for _ in 0..PASSES_MAX {
        tick(&fake, &policy());
    }
    untouched(&fake, "assigned again");
}

/// F3 with the busy readings before the first reading that shows the job elsewhere.
#[test]
fn busy_seen_before_its_job_is_elsewhere_keeps() {
    let fake = Fake::new();
    idle_runner(&fake);
    event(&fake, "in_progress", 1, Some(7));
    jobs_api_says(&fake, 1, JobState::InProgress, Some(9));
    busy(&fake, true); // job 2; its in_progress is lost
    for _ in 0..60 {
        tick(&fake, &policy());
    }
    busy(&fake, false);
    for _ in 0..PASSES_MAX {
        tick(&fake, &policy());
    }
    untouched(&fake, "an hour of busy:true");
}

/// the completion of job 3 comes before its start, after job 1 had completed: is it lost?
#[test]
fn a_completion_before_its_start_after_another_completion_is_not_lost() {
    let fake = Fake::new();
    idle_runner(&fake);
    event(&fake, "in_progress", 1, Some(7));
    event(&fake, "completed", 1, Some(7));
    event(&fake, "completed", 2, Some(7));
    event(&fake, "in_progress", 2, Some(7));
    // The jobs API cannot tell (repository deleted: 404).
    let ended = removed_within(&fake, 4 * DAY, |_, _| {});
    assert!(ended.is_some(), "both jobs' ends were delivered; {:?}", record_of(&fake));
}

/// two claims: the first is dropped.
#[test]
fn a_claim_of_the_job_besides_is_not_lost() {
    let fake = Fake::new();
    idle_runner(&fake);
    event(&fake, "in_progress", 1, Some(7));
    event(&fake, "in_progress", 2, Some(7));
    event(&fake, "completed", 2, Some(7));
    event(&fake, "completed", 1, Some(7));
    let ended = removed_within(&fake, 4 * DAY, |_, _| {});
    assert!(ended.is_some(), "both jobs' ends were delivered; {:?}", record_of(&fake));
}

/// a late duplicate of the first start after the second took its place.
#[test]
fn a_late_duplicate_start_of_a_completed_job_is_known() {
    let fake = Fake::new();
    idle_runner(&fake);
    event(&fake, "in_progress", 1, Some(7));
    event(&fake, "in_progress", 2, Some(7));
    event(&fake, "completed", 1, Some(7));
    event(&fake, "in_progress", 1, Some(7));
    event(&fake, "completed", 2, Some(7));
    let ended = removed_within(&fake, 4 * DAY, |_, _| {});
    assert!(ended.is_some(), "both jobs' ends were delivered; {:?}", record_of(&fake));
}

/// and the jobs API shows job 2 in progress on this very runner all the time; nobody looks.
#[test]
fn busy_seen_before_its_job_is_elsewhere_and_the_next_one_here_keeps() {
    let fake = Fake::new();
    idle_runner(&fake);
    event(&fake, "in_progress", 1, Some(7));
    jobs_api_says(&fake, 1, JobState::InProgress, Some(9));
    jobs_api_says(&fake, 2, JobState::InProgress, Some(7)); // neither its queued nor its start reached us
    busy(&fake, true);
    for _ in 0..60 {
        tick(&fake, &policy());
    }
    busy(&fake, false);
    for _ in 0..PASSES_MAX {
        tick(&fake, &policy());
    }
    untouched(&fake, "an hour of busy:true, job 2 in progress here by the jobs API");
}

/// The jobs API names this very runner, whatever word it has for the job's state: that is no "elsewhere".
#[test]
fn a_job_that_the_api_shows_queued_on_this_very_runner_keeps() {
    for state in [JobState::Queued, JobState::NotYetQueued] {
        let fake = fixtures::Moment::BeforeDelete.reached();
        job_starts(&fake);
        jobs_api_says(&fake, 1, state, Some(7));
        fixtures::minutes(&fake, &policy(), 60);
        assert!(record_of(&fake).job_started.is_some(), "{state:?}: forgotten");
        untouched(&fake, &format!("{state:?}"));
        jobs_api_says(&fake, 1, state, None);
        assert!(minutes_until_ended(&fake).is_some(), "{state:?}: no runner has it");
    }
}

/// An instance that was asked to drain a moment ago, so that nothing is asked about it yet, and another whose time to
/// answer is over.
fn beside_one_to_be_asked_about() -> Fake {
    let fake = Fake::new();
    idle_runner(&fake);
    let other = put_nth(&fake, 2);
    fake.pass(20 * MINUTE);
    let now = fake.now();
    for (id, asked_at) in [(id(), now), (other, Timestamp(0))] {
        edit(&fake, &id, |record| {
            record.idle_since = Some(now);
            record.idle_seen_at = Some(now);
            record.drain_requested_at = Some(asked_at);
        });
    }
    fake
}

/// The list was read for another instance, and this one's flag is false in mid-job when it is asked about.
#[test]
fn busy_in_a_list_that_was_read_for_another_instance_keeps() {
    let busy = |fake: &Fake, busy| fake.state_mut().runners[0].1.busy = busy;
    let fake = beside_one_to_be_asked_about();
    busy(&fake, true);
    let _ = scale_down(&fake, &policy());
    assert_eq!((fake.calls_of("RegistryRead::runners"), fake.calls_of("RegistryRead::runner")), (1, 0));
    busy(&fake, false);
    for _ in 0..PASSES_MAX {
        tick(&fake, &policy());
    }
    assert!(fake.state().terminated.iter().all(|(ended, _)| *ended != id()), "{:?}", grounds(&fake));
}

/// The list is of before, and what it shows busy is over by now: a sighting after its end would keep the instance.
#[test]
fn busy_in_a_list_says_nothing_of_a_job_whose_end_became_known_meanwhile() {
    let fake = beside_one_to_be_asked_about();
    fake.state_mut().runners[0].1.busy = true;
    let ends = |fake: &Fake| {
        let listed = fake.calls_of("RegistryRead::runners") == 1;
        if listed && fake.get::<InstanceRecord>("i-1").is_some_and(|record| record.job_completed.is_none()) {
            edit(fake, &id(), |record| {
                record.note_started(started());
                record.note_completed(JobCompleted { job_id: JobId(1), at: fake.now() }, RunnerId(7));
            });
        }
    };
    let _ = fixtures::after_each_call(&fake, ends, |fake| scale_down(fake, &policy()));
    let record = record_of(&fake);
    assert!(record.job_completed.is_some() && record.busy_seen_at.is_none(), "{record:?}");
}
