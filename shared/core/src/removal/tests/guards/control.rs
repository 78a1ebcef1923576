//! Positive control: a list that misses most of what it should show.

use super::super::fixtures::{put_runner_of_many, swept};
use super::super::*;
use crate::verdict::Reason;

/// 40 runners that a job waits for, so that nothing but the list speaks of them; it misses so many.
fn list_that_misses(missing: u64) -> Fake {
    let fake = Fake::new();
    for number in 0..40 {
        put_runner_of_many(&fake, number);
    }
    fake.pass(20 * MINUTE);
    fake.state_mut().runners.retain(|(_, runner)| runner.id.0 >= 100 + missing);
    fake
}

/// Sweeps every minute for two hours; the reports.
fn two_hours_of_demand(fake: &Fake) -> Vec<Report> {
    let minute = |_| {
        fake.put(&waiting_job(fake.now()));
        jobs_api_says(fake, 1, JobState::Queued, None);
        let report = swept(fake, &policy());
        fake.pass(MINUTE);
        report
    };
    (0..120).map(minute).collect()
}

fn ended_in(report: &Report) -> u32 {
    report.terminated.values().sum()
}

#[test]
fn the_breaker_opens_at_once_and_closes_after_three_lists_over_half_an_hour_for_five_a_pass() {
    let fake = list_that_misses(20);
    let reports = two_hours_of_demand(&fake);
    assert_eq!(reports[0].kept.get(&Reason::RegistrationAbsent), Some(&20), "half of them: an absence counts");
    assert_eq!(reports.iter().position(|report| ended_in(report) > 0), Some(30), "after gone_grace");

    let fake = list_that_misses(30);
    let reports = two_hours_of_demand(&fake);
    assert_eq!(reports[0].kept.get(&Reason::NoPositiveControl), Some(&30), "at once: {:?}", reports[0].kept);
    for (minute, report) in reports.iter().enumerate() {
        let open = report.kept.contains_key(&Reason::NoPositiveControl) && !report.errors.is_empty();
        assert_eq!(open, minute < 30, "minute {minute}: {report:?}");
        assert!(ended_in(report) <= 5, "minute {minute}: {} in one pass", ended_in(report));
    }
    let first = reports.iter().position(|report| ended_in(report) > 0);
    assert_eq!(first, Some(60), "half an hour until the lists are believed, and then gone_grace");
    assert_eq!((reports[60].overflow_count > 0, ended_in(&reports[60])), (true, 5), "five, and the rest is reported");
    assert_eq!(reports.iter().map(ended_in).sum::<u32>(), 30, "all in the end");
    assert_eq!(fake.state().runners.len(), 10, "the others are wanted and stay");
}

/// What was ended is expected no more, so that the same absence falls to half of what is left; that is our own doing.
#[test]
fn caution_outlasts_its_own_acts() {
    let reports = two_hours_of_demand(&list_that_misses(21));
    let ended: Vec<u32> = reports.iter().map(ended_in).filter(|ended| *ended > 0).collect();
    assert!(ended.iter().all(|ended| *ended <= 5), "ended in the passes that ended any: {ended:?}");
}
