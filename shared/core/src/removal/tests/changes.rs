//! What changes while instances live: the configuration document, the ledger's epoch, clocks, and registrations that
//! come late.

use super::fixtures::{of_many, of_our_template, put_failed_delivery, put_runner_of_many, tag};
use super::*;
use crate::evidence::TEMPLATE_TAG;
use crate::ledger::{DeliveryCursor, FleetRecord, Origin};

fn both(fake: &Fake, policy: &Policy) {
    let _ = scale_down(fake, policy);
    let _ = sweep(fake, policy);
}

/// A document in which the fleet of `i-1` is no more, and its template neither.
fn without_its_fleet() -> Policy {
    let mut policy = policy();
    policy.fleets = vec![crate::fake::fleet("gpu")];
    policy.fleets[0].launch_template.id = "lt-9".into();
    policy
}

#[test]
fn the_hard_age_counts_from_the_idle_maximum_that_the_instance_was_launched_with() {
    let mut lowered = policy();
    lowered.fleets[0].timers.idle_maximum = HOUR;
    for (case, later) in [("lowered", lowered), ("its fleet removed", without_its_fleet())] {
        let fake = Fake::new();
        idle_runner(&fake);
        edit(&fake, &id(), |record| record.idle_maximum_seconds = Some(24 * 3_600));
        // The event of a job that starts in the last hour is lost; nobody asks while the supervisor beats.
        let ended = (0..200_u32).find(|hour| {
            let runs = *hour >= 23;
            let worker = if runs { Worker::Running } else { Worker::None };
            let sign = VitalSign { beat_at: fake.now(), worker };
            fake.state_mut().vital_signs.insert(id(), sign);
            fake.state_mut().runners[0].1.busy = runs;
            both(&fake, &later);
            fake.pass(HOUR);
            !grounds(&fake).is_empty()
        });
        let hour = ended.expect(case);
        assert!(hour - 23 >= 5 * 24, "{case}: ended in hour {hour}, when GitHub may still run a job of hour 23");
        assert!(hour <= 24 + 5 * 24 + 3, "{case}: bounded");
    }
}

#[test]
fn an_instance_stays_ours_whatever_the_document_says_by_now() {
    for (case, epoch, rebuilt, template, later) in [
        ("launched, its template replaced", false, false, "lt-2", policy()),
        ("a restored ledger, its template replaced", true, false, "lt-2", policy()),
        ("a restored ledger, its fleet removed", true, false, "lt-1", without_its_fleet()),
        ("rebuilt, its fleet removed", false, true, "lt-1", without_its_fleet()),
    ] {
        let fake = Fake::new();
        if rebuilt {
            put_instance(&fake, &id());
            of_our_template(&fake, &id());
            (0..20).for_each(|_| tick(&fake, &policy()));
            assert!(matches!(record_of(&fake).origin, Origin::Rebuilt { .. }), "{case}");
        } else {
            idle_runner(&fake);
            tag(&fake, TEMPLATE_TAG, Some(template));
        }
        fake.pass(MINUTE);
        let later = Policy { ledger_epoch: epoch.then(|| fake.now()), ..later };
        let ended = (0..10).any(|_| {
            fake.pass(DAY);
            both(&fake, &later);
            !grounds(&fake).is_empty()
        });
        assert!(ended, "{case}: not even the hard age came");
    }
}

#[test]
fn an_epoch_that_lies_ahead_is_refused_and_marks_nothing() {
    let fake = Fake::new();
    idle_runner(&fake);
    let wrong = Policy { ledger_epoch: Some(fake.now().plus(365 * DAY)), ..policy() };
    for _ in 0..10 {
        fake.pass(MINUTE);
        let failed = scale_down(&fake, &wrong).expect("not killed").expect_err("it fails visibly");
        assert!(failed.to_string().contains("ledger_epoch"), "{failed}");
    }
    assert_eq!(record_of(&fake).origin, Origin::Launch);
    // One that was marked before this was refused.
    edit(&fake, &id(), |record| record.origin = Origin::Rebuilt { at: record.launched_at.plus(365 * DAY) });
    fake.pass(6 * DAY);
    both(&fake, &policy());
    assert_eq!(grounds(&fake), [Ground::HardAge]);
}

/// The jobs API shows the job in progress on the runner of `i-1`; its event was lost.
fn put_unseen_job(fake: &Fake, job: &JobRecord) {
    fake.put(job);
    jobs_api_says(fake, job.job_id.0, JobState::InProgress, Some(7));
}

#[test]
fn a_job_of_a_fleet_that_left_the_configuration_is_asked_about() {
    let fake = Fake::new();
    idle_runner(&fake);
    let old = FleetName::new("old");
    fake.put(&FleetRecord { fleet: old.clone(), reservations: Vec::new() });
    let phase = JobPhase::Started { at: fake.now() };
    put_unseen_job(&fake, &JobRecord { fleet: Some(old), phase, ..waiting_job(fake.now().minus(HOUR)) });
    assert_eq!(minutes_until_ended(&fake), None, "its job runs here");
}

#[test]
fn a_job_that_waited_for_an_approval_for_days_is_asked_about() {
    for hours in [40, 49, 60] {
        let fake = Fake::new();
        idle_runner(&fake);
        let mut job = waiting_job(fake.now().minus(hours * HOUR));
        job.recorded_at = Some(fake.now().minus(hours * HOUR));
        job.phase = JobPhase::Launched { token: LaunchToken::new("token") };
        // What scale-up does at each look until it is approved, a quarter of an hour ago.
        assert!(job.note_not_yet_queued(fake.now().minus(15 * MINUTE)));
        put_unseen_job(&fake, &job);
        assert_eq!(minutes_until_ended(&fake), None, "approved after {hours} h");
    }
}

#[test]
fn a_configuration_that_comes_late_gives_its_runner_the_whole_boot_grace() {
    for (case, listed) in [("it shows up at once", true), ("the list lags", false)] {
        let fake = Fake::new();
        idle_runner(&fake);
        fake.state_mut().runners.clear();
        edit(&fake, &id(), |record| {
            record.runner_id = None;
            record.handed_over_at = None;
        });
        // Longer than the grace of an absence.
        (0..44).for_each(|_| tick(&fake, &policy()));
        assert!(grounds(&fake).is_empty() && record_of(&fake).absent.is_some(), "{case}");
        let now = fake.now();
        edit(&fake, &id(), |record| {
            record.note_runner_id(RunnerId(7));
            record.handed_over_at = Some(now);
        });
        if listed {
            fake.put_runner(&access().scope, Runner { online: false, version: Some(None), ..runner() });
        }
        fake.put(&waiting_job(now));
        fake.put_job(JobId(1), JobState::Queued);
        for minute in 0..15 {
            assert_eq!(
                (fake.calls_of("Registry::deregister"), grounds(&fake).len()),
                (0, 0),
                "{case}, minute {minute}"
            );
            tick(&fake, &policy());
        }
        fake.state_mut().jobs.remove(&JobId(1));
        fake.state_mut().items.retain(|key, _| key.kind != crate::ports::Kind::Job);
        assert!(minutes_until_ended(&fake).is_some(), "{case}: and no more than that");
    }
}

#[test]
fn thousands_of_jobs_of_another_owner_and_fleet_stop_neither_drain_nor_removal() {
    let fake = Fake::new();
    idle_runner(&fake);
    let mut two = policy();
    two.fleets.push(crate::fake::fleet("gpu"));
    for n in 0..10_000 {
        let mut job = waiting_job(fake.now().minus(HOUR));
        job.job_id = JobId(1_000 + n);
        job.fleet = Some(FleetName::new("gpu"));
        job.labels = vec!["gpu".into()];
        job.access = Access { scope: Scope::Organization { owner: "other".into() }, installation_id: None };
        job.repository = Repository::try_from("other/x".to_owned()).expect("a name");
        fake.put(&job);
    }
    for _ in 0..18 {
        fake.pass(MINUTE);
        let _ = scale_down(&fake, &two);
    }
    assert!(fake.calls_of("Compute::request_drain") > 0 && fake.state().runners.is_empty());
}

#[test]
fn a_delivery_cursor_that_lies_ahead_hides_no_delivery() {
    let fake = Fake::new();
    idle_runner(&fake);
    fake.put(&DeliveryCursor { read_until: Some(fake.now().plus(DAY)), ..DeliveryCursor::default() });
    fake.pass(MINUTE);
    put_failed_delivery(&fake, "in_progress");
    assert_eq!(minutes_until_ended(&fake), None, "the failed delivery says that a job runs");
}

#[test]
fn the_job_of_a_busy_runner_is_sought_once_an_hour_and_for_many_at_once() {
    for (instances, seconds) in [(1, 1), (5, 0), (5, 1)] {
        let fake = Fake::new();
        for n in 0..instances {
            put_runner_of_many(&fake, n);
            let at = fake.now();
            edit(&fake, &of_many(n), |record| record.busy_seen_at = Some(at));
        }
        for n in 0..29 {
            fake.state_mut().repositories.insert(Repository::try_from(format!("octo/r{n}")).expect("a name"));
        }
        for _ in 0..12 {
            fake.pass(5 * MINUTE);
            let deadline = Deadline::of(fake.now(), fake.now().plus(15 * MINUTE));
            let seen = std::rc::Rc::new(std::cell::Cell::new(fake.calls_of("Jobs::jobs_in_progress")));
            for call in fake.calls() + 1..fake.calls() + 3_000 {
                let seen = seen.clone();
                fake.meanwhile(call, move |fake| {
                    let scans = fake.calls_of("Jobs::jobs_in_progress");
                    if scans > seen.replace(scans) {
                        fake.pass(Duration::from_secs(seconds));
                    }
                });
            }
            let _ = run(orphan::run_pass(&fake, &policy(), deadline));
        }
        // One round of the 30 repositories an hour, and one more where the hour turns.
        let scans = fake.calls_of("Jobs::jobs_in_progress");
        assert!(
            scans <= 60,
            "{instances} instances, {seconds} s a repository: {scans} scans of repositories in an hour"
        );
    }
}

/// The ledger is lost, and the fleet's prefix was another when the instance was launched: the rebuilt record can only
/// guess its runner's name. The job that starts on it late in its idle time has its five days all the same.
#[test]
fn a_job_of_a_runner_with_an_earlier_prefix_is_known_to_the_rebuilt_record() {
    let fake = Fake::new();
    put_instance(&fake, &id());
    fixtures::of_our_template(&fake, &id());
    let name = RunnerName::new("ci-i-1");
    fake.put_runner(&access().scope, Runner { name: name.clone(), ..runner() });
    fake.pass(20 * MINUTE);
    fixtures::swept(&fake, &policy());
    assert_eq!(record_of(&fake).runner_name, RunnerName::new("runner-i-1"), "guessed");
    fake.pass(11 * HOUR);
    let of_another = serde_json::json!({
        "action": "in_progress",
        "workflow_job": {"id": 1, "run_id": 2, "labels": ["linux"], "runner_id": 7, "runner_name": name},
        "repository": {"full_name": "someone/else", "owner": {"login": "someone", "type": "Organization"}},
    });
    apply(&fake, &of_another);
    assert_eq!(record_of(&fake).job_started, None, "another scope's");
    let ours = serde_json::json!({
        "action": "in_progress",
        "workflow_job": {"id": 1, "run_id": 2, "labels": ["linux"], "runner_id": 7, "runner_name": name},
        "repository": {"full_name": "octo/hello", "owner": {"login": "octo", "type": "Organization"}},
    });
    apply(&fake, &ours);
    busy(&fake, true);
    fake.pass(5 * DAY);
    both(&fake, &policy());
    untouched(&fake, "the fifth day of its job");
    fake.pass(3 * HOUR);
    both(&fake, &policy());
    assert_eq!(grounds(&fake), [Ground::HardAge]);
}

fn apply(fake: &Fake, payload: &serde_json::Value) {
    let Ok(Event::Job(event)) = webhook::parse(Some("workflow_job"), payload.to_string().as_bytes()) else { panic!() };
    run(webhook::apply_job_event(fake, &event, fake.now())).expect("not killed").expect("no fault");
}
