//! What became of a launch, by table.

use super::super::plan::tests::{NOW, access, job, launched, nothing_avoided};
use super::super::plan::{choose, launch};
use super::*;
use crate::config::Overrides;
use crate::fake::{fleet, policy};
use crate::ids::{FleetName, InstanceId, LaunchToken, RunnerId, RunnerName};
use crate::ledger::RemovalIntent;
use crate::removal::Ground;

use InstanceState::{Running, Terminated};

type Change = fn(&mut InstanceRecord);

fn instance() -> InstanceRecord {
    let (id, name) = (InstanceId::new("i-1"), RunnerName::new("runner-i-1"));
    InstanceRecord::launched(id, access(), FleetName::new("linux"), LaunchToken::new("t"), name, NOW)
}

#[test]
fn what_is_free_of_a_launch_is_shared_out_to_jobs_that_were_given_one_and_then_to_those_left_without() {
    let jobs: Vec<JobRecord> = [1, 2, 3].map(|id| job(id, 0)).into();
    let none = Overrides::default();
    let choice = choose(&fleet("linux"), &none, nothing_avoided);
    let refs: Vec<&JobRecord> = jobs.iter().collect();
    let launch = launch(&policy(), &fleet("linux"), &access(), (&none, choice), &refs, NOW);
    let (token, other) = (launch.token.clone(), LaunchToken::new("other"));
    let of = |id, phase| JobRecord { phase, ..job(id, 1) };
    let launched = |id| of(id, JobPhase::Launched { token: token.clone() });
    let launching = |id| of(id, JobPhase::Launching { token: token.clone(), lease_until: NOW });
    let left = |id| of(id, JobPhase::Queued);
    let started = |id| of(id, JobPhase::Started { at: NOW });
    let started_elsewhere = |id| JobRecord { runner_id: Some(RunnerId(9)), ..started(id) };
    let elsewhere = |id| of(id, JobPhase::Launched { token: other.clone() });
    let older = |job: JobRecord| JobRecord { queued_at: NOW.minus(Duration::from_secs(1)), ..job };
    for (case, free, jobs, expected) in [
        ("none is free", 0, vec![left(1)], vec![]),
        ("given one, and left without", 1, vec![older(left(1)), launched(2)], vec![2]),
        ("gone on with, and left without", 1, vec![older(left(1)), launching(2)], vec![2]),
        ("the other runs", 1, vec![started_elsewhere(1), left(2)], vec![2]),
        ("the other runs, and perhaps here", 1, vec![started(1), left(2)], vec![1]),
        ("the other was launched for again", 1, vec![elsewhere(1), left(2)], vec![2]),
        ("and nothing is left of that launch", 1, vec![left(2), older(elsewhere(3))], vec![3]),
        ("two were left without", 1, vec![left(1), older(left(2)), started_elsewhere(3)], vec![2]),
        ("more are free than wanted", 3, vec![left(1), launched(2)], vec![1, 2]),
        ("a job of another launch", 1, vec![left(2), older(left(9))], vec![2]),
    ] {
        let expected: BTreeSet<JobId> = expected.into_iter().map(JobId).collect();
        assert_eq!(shared_out(&launch, free, &jobs, |id| id == JobId(3)), expected, "{case}");
    }
}

#[test]
fn an_instance_gets_a_configuration_once_and_never_while_it_is_removed() {
    let intent = RemovalIntent { at: NOW, ground: Ground::NeverConnected };
    for (case, change, expected) in [
        ("just launched", (|_| {}) as Change, Need::Configuration),
        ("asked for, no answer", |r| r.jit_intent_at = Some(NOW), Need::LookUp),
        ("rebuilt: never asked is not known", |r| r.origin = Origin::Rebuilt { at: NOW }, Need::LookUp),
        ("registered, hand-over not known", |r| r.runner_id = Some(RunnerId(1)), Need::Unsure),
        ("handed over", |r| r.handed_over_at = Some(NOW), Need::Nothing),
        (
            "registered, its configuration lost",
            |r| (r.runner_id, r.lost_at) = (Some(RunnerId(1)), Some(NOW)),
            Need::Beyond,
        ),
        ("thought lost, and handed over", |r| (r.handed_over_at, r.lost_at) = (Some(NOW), Some(NOW)), Need::Nothing),
        ("busy", |r| r.busy_seen_at = Some(NOW), Need::Spent),
        ("handed over, and busy", |r| (r.handed_over_at, r.busy_seen_at) = (Some(NOW), Some(NOW)), Need::Spent),
        ("busy, and being removed", |r| (r.busy_seen_at, r.gone_at) = (Some(NOW), Some(NOW)), Need::Beyond),
        ("gone", |r| r.gone_at = Some(NOW), Need::Beyond),
        ("deregistered", |r| r.deregistered_at = Some(NOW), Need::Beyond),
    ] {
        let mut record = instance();
        change(&mut record);
        assert_eq!(need(&record), expected, "{case}");
        record.terminate_intent = Some(intent);
        assert_eq!(need(&record), Need::Beyond, "{case}, and about to be ended");
    }
}

#[test]
fn a_launch_serves_its_jobs_while_a_free_instance_of_it_is_young() {
    let timers = fleet("linux").timers;
    let none: Change = |_| {};
    let in_doubt: Change = |r| (r.handed_over_at, r.jit_intent_at) = (None, Some(NOW.plus(Duration::from_secs(9))));
    for (case, change, shown, age_seconds, expected) in [
        ("running", none, Some(Running), 0, true),
        ("its hand-over in doubt, within the lease", in_doubt, Some(Running), 308, true),
        ("its hand-over in doubt, after it", in_doubt, Some(Running), 309, false),
        ("nobody registered it in that time", |r| r.handed_over_at = None, Some(Running), 300, false),
        ("its configuration is lost", |r| (r.handed_over_at, r.lost_at) = (None, Some(NOW)), Some(Running), 0, false),
        ("not listed yet", none, None, 299, true),
        ("not listed, although it would be by now", none, None, 300, false),
        ("ended", none, Some(Terminated), 0, false),
        ("just within its time", none, Some(Running), 959, true),
        ("past its time", none, Some(Running), 960, false),
        ("it has a job", |r| r.busy_seen_at = Some(NOW), Some(Running), 0, false),
        ("it is being removed", |r| r.gone_at = Some(NOW), Some(Running), 0, false),
    ] {
        let mut record = InstanceRecord { handed_over_at: Some(NOW), ..instance() };
        change(&mut record);
        let now = NOW.plus(Duration::from_secs(age_seconds));
        assert_eq!(serves_until(&record, (shown, now), &timers, now).is_some(), expected, "{case}");
    }
}

#[test]
fn an_instance_that_is_not_shown_is_young_in_doubt_or_gone() {
    let choice = choose(&fleet("linux"), &Overrides::default(), nothing_avoided);
    let launch = launched(&fleet("linux"), &Overrides::default(), choice, &job(1, 0), NOW);
    for (case, answered, listed, shown, expected) in [
        ("shown", 0, 0, Some(Running), Sight::Shown(Running)),
        ("shown, though it ended", 2_520, 2_820, Some(Terminated), Sight::Shown(Terminated)),
        ("answered at once, and listed at once", 1, 1, None, Sight::Young),
        ("answered at once, and listed while it may lag", 299, 598, None, Sight::Young),
        ("answered at once, and listed after that", 1, 301, None, Sight::Gone),
        ("answered late: the first call may have made it", 300, 300, None, Sight::InDoubt),
        ("answered late, and listed while it may lag", 2_520, 2_819, None, Sight::InDoubt),
        ("answered late, and listed after that", 2_520, 2_820, None, Sight::Gone),
        ("the listing was begun before the answer", 2_520, 2_500, None, Sight::InDoubt),
    ] {
        let after = |seconds| NOW.plus(Duration::from_secs(seconds));
        let launch = LaunchRecord { answered_at: Some(after(answered)), ..launch.clone() };
        assert_eq!(sight(&launch, shown, after(listed)), expected, "{case}");
    }
}

#[test]
fn instances_are_shared_out_in_the_order_of_the_jobs() {
    use Settlement::{AgainLater, AgainSoon, Launched, LookAgain, NothingLaunched, Retry};
    let tally =
        |ready, retry: usize, lost| Tally { ready, retry: vec!["r".to_owned(); retry], lost, ..Tally::default() };
    let retry = || Retry("r".to_owned());
    for (case, jobs, taken, tally, expected) in [
        ("all", 2, 0, tally(2, 0, 0), vec![Launched, Launched]),
        ("in part", 3, 0, tally(1, 0, 0), vec![Launched, AgainSoon, AgainSoon]),
        ("each kind", 4, 0, tally(1, 1, 1), vec![Launched, retry(), AgainLater, AgainSoon]),
        ("one in doubt", 3, 0, Tally { in_doubt: 1, ..tally(1, 0, 1) }, vec![Launched, LookAgain, AgainLater]),
        ("one settled before", 1, 1, tally(1, 0, 1), vec![AgainLater]),
        ("more instances than jobs left", 1, 0, tally(2, 1, 0), vec![Launched]),
        ("none", 2, 0, tally(0, 0, 0), vec![NothingLaunched, NothingLaunched]),
        ("none besides those settled before", 1, 1, tally(0, 0, 0), vec![AgainSoon]),
        ("the others' run their jobs", 2, 0, Tally { spent: 1, ..tally(0, 0, 1) }, vec![AgainLater, AgainSoon]),
        ("all run jobs", 1, 0, Tally { spent: 2, ..tally(0, 0, 0) }, vec![AgainSoon]),
    ] {
        assert_eq!(settle(jobs, taken, tally), expected, "{case}");
    }
}

#[test]
fn a_job_whose_instances_come_to_nothing_is_launched_for_more_and_more_seldom_and_within_half_of_the_boot_grace() {
    let boot_grace = Duration::from_mins(15);
    let waits = [1, 2, 3, 4, 100].map(|count| again_later(count, boot_grace).as_secs());
    assert_eq!(waits, [30, 300, 450, 450, 450]);
}
