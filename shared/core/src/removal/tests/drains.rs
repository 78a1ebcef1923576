//! Who is asked to drain, and what an old request or a shrinking pool is worth.

use super::*;

#[test]
fn a_booting_instance_whose_job_waited_long_is_not_drained() {
    let fake = Fake::new();
    idle_runner(&fake);
    {
        let r = &mut fake.state_mut().runners[0].1;
        r.online = false;
        r.version = Some(None);
    }
    let mut job = waiting_job(fake.now().minus(11 * MINUTE));
    job.next_look = fake.now().plus(HOUR);
    fake.put(&job);
    jobs_api_says(&fake, 1, JobState::Queued, None);
    for m in 1..=14 {
        fake.pass(MINUTE);
        let _ = scale_down(&fake, &policy());
        assert_eq!(fake.calls_of("Compute::request_drain"), 0, "drained at {m} min while it boots for a waiting job");
    }
}

/// A job of which only a later event is known has no fleet, and is given up by nobody.
#[test]
fn a_job_that_github_has_cancelled_long_ago_keeps_no_young_instance() {
    for (hours, drained) in [(71, 0), (73, 1)] {
        let fake = Fake::new();
        idle_runner(&fake);
        fake.pass(6 * MINUTE);
        let queued_at = fake.now().minus(hours * HOUR);
        fake.put(&JobRecord { fleet: None, recorded_at: Some(queued_at), ..waiting_job(queued_at) });
        let report = scale_down(&fake, &policy()).expect("not killed").expect("no errors");
        assert_eq!(report.drained_count, drained, "it waits for {hours} h");
    }
}

#[test]
fn a_drain_and_an_idle_reading_of_yesterday_do_not_count() {
    let fake = Fake::new();
    idle_runner(&fake);
    for _ in 0..14 {
        tick(&fake, &policy());
    } // first idle reading? + first drain
    // from now on a job that another runner takes is always freshly queued: wanted
    // wait until idle_since is set, with demand
    for _ in 0..(24 * 60) {
        let mut j = waiting_job(fake.now());
        j.job_id = JobId(1);
        fake.put(&j);
        fake.put_job(JobId(1), JobState::Queued);
        tick(&fake, &policy());
        assert_eq!(fake.state().runners.len(), 1, "wanted");
    }
    // demand ends
    let mut j = fake.get::<JobRecord>("1").unwrap();
    j.note_completed(fake.now(), None);
    fake.put(&j);
    fake.pass(MINUTE);
    let _ = scale_down(&fake, &policy());
    assert_eq!(fake.state().runners.len(), 1, "deregistered after one reading, without a new drain request");
}

/// A pool that shrinks while a ghost is kept in it; a job comes during every pass.
#[test]
fn a_pool_that_comes_and_goes_ends_no_runner_that_was_busy_meanwhile() {
    let fake = Fake::new();
    idle_runner(&fake);
    for minute in 0..600 {
        let policy = if minute / 30 % 2 == 0 { pool() } else { policy() };
        if minute == 32 {
            busy(&fake, true);
        }
        tick(&fake, &policy);
        if minute == 37 {
            busy(&fake, false);
        }
    }
    untouched(&fake, "busy for five minutes while the pool was off");
}
