//! Demand: jobs that wait, pools that are kept, and a deployment that wants nothing any more.

use super::super::fixtures::{Moment, acts, down, minutes, put_job_that_waits, put_runner_of_many, swept};
use super::super::*;
use crate::config::IdleSchedule;
use crate::verdict::Reason;

use Moment::BeforeDelete;

#[test]
fn an_idle_schedule_keeps_as_many_as_it_says_and_no_more() {
    for (case, count, deregistered) in [("no schedule", 0, 3), ("one is kept", 1, 2), ("all are kept", 3, 0)] {
        let fake = Fake::new();
        for number in 0..3 {
            put_runner_of_many(&fake, number);
        }
        let mut policy = policy();
        policy.fleets[0].idle = match count {
            0 => Vec::new(),
            count => vec![IdleSchedule::try_new("* * * * *", "UTC", count).expect("valid")],
        };
        // For less than idle_maximum: what has reached it fills no pool.
        minutes(&fake, &policy, 50);
        let report = swept(&fake, &policy);
        assert_eq!(report.kept.get(&Reason::Pool).copied().unwrap_or(0), count, "{case}: {:?}", report.kept);
        assert_eq!(fake.state().runners.len(), 3 - deregistered, "{case}");
        minutes(&fake, &policy, 80);
        assert_eq!(fake.state().terminated.len(), 3, "{case}: nobody stays for ever, their supervisors are dead");
    }
}

#[test]
fn an_instance_younger_than_minimum_running_is_not_asked_to_drain() {
    for (age, asked) in [(0, 0), (4, 0), (5, 1)] {
        let fake = Fake::new();
        idle_runner(&fake);
        fake.pass(age * MINUTE);
        let report = down(&fake, &policy());
        let wanted = report.kept.contains_key(&Reason::Wanted);
        assert_eq!((report.drained_count, wanted), (asked, asked == 0), "{age} min old: {:?}", report.kept);
    }
}

#[test]
fn a_job_that_waits_for_long_keeps_no_runner_that_took_none() {
    for moment in Moment::ALL {
        let fake = moment.reached();
        put_job_that_waits(&fake, JobState::Queued, None);
        let before = acts(&fake);
        down(&fake, &policy());
        assert_eq!(acts(&fake), before + 1, "{moment:?}");
    }
}

#[test]
fn retire_wants_nothing_and_asks_everybody_at_once() {
    for (mode, drained) in [(Mode::Enforce, 0), (Mode::Retire, 1), (Mode::Observe, 0)] {
        let fake = Fake::new();
        idle_runner(&fake);
        fake.put(&waiting_job(fake.now()));
        let mut policy = policy();
        policy.mode = mode;
        fake.pass(MINUTE);
        let report = down(&fake, &policy);
        assert_eq!(report.drained_count, drained, "{mode:?}");
        assert_eq!(report.kept.contains_key(&Reason::Wanted), mode != Mode::Retire, "{mode:?}: {:?}", report.kept);
    }
    // A job that runs is kept while a deployment is retired, too.
    let fake = BeforeDelete.reached();
    job_starts(&fake);
    let mut retiring = policy();
    retiring.mode = Mode::Retire;
    minutes(&fake, &retiring, 60);
    assert_eq!(acts(&fake), 0);
}
