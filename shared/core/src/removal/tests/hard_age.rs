//! The hard age counts from everything from which a job that still runs can have begun.

use super::fixtures::{down, swept};
use super::*;
use crate::config::HARD_AGE;

#[test]
fn the_hard_age_counts_from_the_last_busy_sighting() {
    let fake = Fake::new();
    idle_runner(&fake);
    fake.pass(5 * 24 * HOUR);
    fake.state_mut().runners[0].1.busy = true;
    edit(&fake, &id(), |r| {
        r.idle_since = None;
    });
    tick(&fake, &policy()); // GitHub says busy: remembered
    let r = fake.get::<InstanceRecord>("i-1").unwrap();
    assert!(r.busy_seen_at.is_some());
    let at = fake.now();
    fake.state_mut().vital_signs.insert(id(), VitalSign { beat_at: at, worker: Worker::Running });
    fake.pass(3 * HOUR + 5 * MINUTE);
    tick(&fake, &policy());
    assert!(grounds(&fake).is_empty(), "ended 3 h after busy was seen: {:?}", grounds(&fake));
}

#[test]
fn the_hard_age_needs_no_tags_of_ours() {
    let fake = Fake::new();
    put_instance(&fake, &id());
    fake.retag(&id(), |tags| {
        tags.insert("aws:ec2launchtemplate:id".into(), "lt-1".into());
        tags.remove("ghr:owner");
    });
    for _ in 0..40 {
        fake.pass(24 * HOUR);
        let _ = scale_down(&fake, &policy());
        let _ = sweep(&fake, &policy());
    }
    assert_eq!(grounds(&fake), [Ground::HardAge]);
}

/// job 2 started besides job 1 four days later; hard age counts job 1's start only.
#[test]
fn the_hard_age_counts_from_the_last_start() {
    let fake = Fake::new();
    idle_runner(&fake);
    event(&fake, "in_progress", 1, Some(7));
    fake.pass(4 * DAY);
    event(&fake, "in_progress", 2, Some(7));
    jobs_api_says(&fake, 2, JobState::InProgress, Some(7));
    busy(&fake, true);
    let sign = VitalSign { beat_at: fake.now(), worker: Worker::Running };
    fake.state_mut().vital_signs.insert(id(), sign);
    for _ in 0..36 {
        fake.pass(HOUR);
        let sign = VitalSign { beat_at: fake.now(), worker: Worker::Running };
        fake.state_mut().vital_signs.insert(id(), sign);
        let _ = scale_down(&fake, &policy());
        let _ = sweep(&fake, &policy());
    }
    untouched(&fake, "job 2 is 36 h old, its start is in the ledger, GitHub says busy, the worker beats");
}

/// busy was noted because job 1 is elsewhere (job 2, its start lost); the hard age forgets that trace.
#[test]
fn the_hard_age_counts_from_a_busy_reading_that_job_1_does_not_explain() {
    let fake = Fake::new();
    idle_runner(&fake);
    event(&fake, "in_progress", 1, Some(7));
    fake.pass(4 * DAY);
    jobs_api_says(&fake, 1, JobState::InProgress, Some(9));
    assert!(minutes_until(&fake, |fake| record_of(fake).elsewhere.is_some()).is_some());
    busy(&fake, true);
    tick(&fake, &policy());
    assert!(record_of(&fake).busy_seen_at.is_some());
    for _ in 0..36 {
        fake.pass(HOUR);
        let _ = scale_down(&fake, &policy());
        let _ = sweep(&fake, &policy());
    }
    untouched(&fake, "job 2 is 36 h old, its first busy reading is in the ledger");
}

#[test]
fn a_legal_job_of_four_days_that_started_late_is_kept_until_the_hard_age_after_its_start() {
    let fake = Fake::new();
    idle_runner(&fake);
    // Long after its longest idle time, which nobody enforced: its supervisor is dead.
    fake.pass(5 * 24 * HOUR);
    let began = fake.now();
    edit(&fake, &id(), |record| {
        record.note_started(JobStarted { at: began, ..started() });
    });
    fake.state_mut().runners[0].1.busy = true;
    for (case, at, ended) in [
        ("four days of the job", 4 * 24 * HOUR, false),
        ("five days of the job, GitHub's own limit", 5 * 24 * HOUR, false),
        ("a minute before", 121 * HOUR + 59 * MINUTE, false),
        ("five days and two hours after its start", HARD_AGE, true),
    ] {
        fake.pass(began.plus(at).since(fake.now()));
        swept(&fake, &policy());
        down(&fake, &policy());
        assert_eq!(grounds(&fake) == [Ground::HardAge], ended, "{case}: {:?}", grounds(&fake));
        assert_eq!(fake.calls_of("Registry::deregister"), 0, "{case}");
    }
}
