//! One owner's, fleet's or instance's trouble, or a stranger's, takes the time and the room of nobody else.

use super::*;
use crate::ledger::{JobCompleted, Record};
use crate::ports::Item;

#[test]
fn another_owners_lost_job_blocks_nobody() {
    let fake = Fake::new();
    idle_runner(&fake);
    let mut job = waiting_job(fake.now().minus(HOUR));
    job.access = Access { scope: Scope::Organization { owner: "other".into() }, installation_id: None };
    job.repository = Repository::try_from("other/deleted".to_owned()).unwrap();
    fake.put(&job); // GET job is 404 for ever
    assert!(minutes_until_deregistered(&fake).is_some(), "a deleted repository of another owner stops all removal");
}

#[test]
fn another_owners_many_jobs_block_nobody() {
    let fake = Fake::new();
    idle_runner(&fake);
    for n in 0..21 {
        let mut j = waiting_job(fake.now().minus(24 * HOUR));
        j.job_id = JobId(100 + n);
        j.access = Access { scope: Scope::Organization { owner: "other".into() }, installation_id: None };
        j.repository = Repository::try_from("other/x".to_owned()).unwrap();
        fake.put(&j);
        jobs_api_says(&fake, 100 + n, JobState::Completed, None);
    }
    assert!(minutes_until_deregistered(&fake).is_some());
}

fn org_job(fake: &Fake, id: u64, repo: &str) -> JobRecord {
    let mut j = waiting_job(fake.now());
    j.job_id = JobId(id);
    j.repository = Repository::try_from(repo.to_owned()).unwrap();
    j
}

#[test]
fn a_job_of_a_deleted_repository_does_not_stop_its_organisations_removal() {
    let fake = Fake::new();
    idle_runner(&fake);
    let mut j = org_job(&fake, 55, "octo/deleted");
    j.queued_at = fake.now().minus(HOUR);
    j.labels = vec!["nothing-of-ours".into()];
    fake.put(&j);
    let _ = minutes_until_deregistered(&fake);
    for _ in 0..48 {
        fake.pass(HOUR);
        let _ = sweep(&fake, &policy());
        let _ = scale_down(&fake, &policy());
    }
    assert!(fake.state().runners.is_empty(), "48 h later nothing of the organisation could be removed");
}

fn another(fake: &Fake, number: u64, change: impl FnOnce(&mut InstanceRecord)) -> InstanceId {
    let id = InstanceId::new(format!("i-{number:04}"));
    put_fallen_silent(fake, &id);
    let mut record = record(fake);
    record.instance_id = id.clone();
    record.runner_name = RunnerName::new(format!("runner-{id}"));
    record.runner_id = Some(RunnerId(number));
    change(&mut record);
    fake.put(&record);
    let mut registered = runner();
    registered.id = RunnerId(number);
    registered.name = record.runner_name;
    fake.put_runner(&access().scope, registered);
    id
}

/// More than 100 silent instances with jobs: the later ones are never asked about.
#[test]
fn every_silent_instance_with_a_job_is_asked_about_in_time() {
    for first in [1001, 1000] {
        let fake = Fake::new();
        for number in first..1101 {
            another(&fake, number, |record| {
                let at = Timestamp(1);
                record.note_started(JobStarted {
                    job_id: JobId(number),
                    repository: repository(),
                    at,
                    runner_id: Some(RunnerId(number)),
                });
            });
            jobs_api_says(
                &fake,
                number,
                if number == 1100 { JobState::Completed } else { JobState::InProgress },
                Some(number),
            );
        }
        for _ in 0..60 {
            fake.pass(5 * MINUTE);
            let _ = sweep(&fake, &policy());
        }
        assert!(
            fake.get::<InstanceRecord>("i-1100").expect("a record").job_completed.is_some(),
            "{} instances: five hours, 60 sweeps",
            1101 - first
        );
    }
}

/// A job that started six days ago on a runner nobody named, its repository deleted.
#[test]
fn a_job_older_than_any_job_can_be_blocks_nobody() {
    for deleted in [false, true] {
        let fake = Fake::new();
        let mut job = waiting_job(fake.now());
        job.job_id = JobId(55);
        job.repository = Repository::try_from("octo/deleted".to_owned()).expect("a name");
        job.phase = JobPhase::Started { at: fake.now() };
        fake.put(&job);
        if !deleted {
            jobs_api_says(&fake, 55, JobState::Completed, None);
        }
        fake.pass(6 * 24 * HOUR);
        idle_runner(&fake);
        assert!(
            minutes_until_deregistered(&fake).is_some(),
            "deleted {deleted}: GitHub ends every job after five days"
        );
    }
}

/// Five instances that EC2 will not let us end take the whole cap of every sweep.
#[test]
fn what_cannot_be_ended_does_not_keep_the_rest() {
    for refused in [4, 5] {
        let fake = Fake::new();
        for number in 1000..1008 {
            let id = another(&fake, number, |record| {
                record.jit_intent_at = None;
                record.runner_id = None;
            });
            if number < 1000 + refused {
                fake.state_mut().refused.insert(id);
            }
        }
        fake.state_mut().runners.clear();
        for _ in 0..100 {
            fake.pass(5 * MINUTE);
            let _ = sweep(&fake, &policy());
        }
        assert_eq!(
            grounds(&fake).len() as u64,
            8 - refused,
            "{refused} refused: those that may be ended, in 100 sweeps"
        );
    }
}

/// Another fleet's queue (labels that this runner does not have) decides whether this fleet's dead are removed.
#[test]
fn another_fleets_queue_blocks_nobody() {
    for count in [20, 21] {
        let fake = Fake::new();
        idle_runner(&fake);
        for number in 100..100 + count {
            let mut job = waiting_job(fake.now());
            job.job_id = JobId(number);
            job.labels = vec!["self-hosted".into(), "gpu".into()];
            job.fleet = Some(FleetName::new("gpu"));
            job.next_look = Timestamp(i64::MAX);
            fake.put(&job);
            jobs_api_says(&fake, number, JobState::Queued, None);
        }
        let mut two = policy();
        two.fleets.push(crate::fake::fleet("gpu"));
        for _ in 0..(24 * 60) {
            tick(&fake, &two);
        }
        assert!(fake.state().runners.is_empty(), "{count} jobs wait for gpu: after a day still registered");
    }
}

/// Liveness: a fleet full of runners that never connected, and more than 20 jobs that wait for it.
#[test]
fn a_fleet_full_of_dead_runners_is_emptied_although_many_jobs_wait_for_it() {
    for waiting in [20, 21] {
        let fake = Fake::new();
        for n in 1..=10 {
            put_nth(&fake, n);
        }
        for (_, runner) in &mut fake.state_mut().runners {
            runner.online = false;
            runner.version = Some(None);
        }
        for n in 0..waiting {
            let mut job = waiting_job(fake.now());
            job.job_id = JobId(100 + n);
            fake.put(&job);
            fake.put_job(JobId(100 + n), JobState::Queued);
        }
        assert!(minutes_until_ended(&fake).is_some(), "{waiting} jobs wait: none of ten that never connected is ended");
    }
}

/// One owner's 500 waiting jobs, or one job record of another schema, stop drain and removal for all fleets and owners.
#[test]
fn jobs_of_another_owner_and_fleet_stop_nobodys_drain_or_removal() {
    for (case, count, schema) in [("499 jobs", 499, 1), ("one job of a newer schema", 1, 2), ("500 jobs", 500, 1)] {
        let fake = Fake::new();
        idle_runner(&fake);
        let mut both = policy();
        both.fleets.push(crate::fake::fleet("gpu"));
        for n in 0..count {
            let mut job = waiting_job(fake.now());
            job.job_id = JobId(1_000 + n);
            job.fleet = Some(FleetName::new("gpu"));
            job.labels = vec!["self-hosted".into(), "gpu".into()];
            job.access = Access { scope: Scope::Organization { owner: "other".into() }, installation_id: None };
            job.repository = Repository::try_from("other/x".to_owned()).unwrap();
            fake.put(&job);
            let key = JobRecord::key(job.job_id.to_string());
            let item = Item { schema, ..fake.state().items[&key].clone() };
            fake.put_item(item);
        }
        for _ in 0..40 {
            fake.pass(MINUTE);
            let _ = scale_down(&fake, &both);
        }
        let (drains, registered) = (fake.calls_of("Compute::request_drain"), fake.state().runners.len());
        assert!(
            drains > 0 && registered == 0,
            "{case} of another owner: octo's idle runner: {drains} drains, {registered} registered"
        );
    }
}

/// The hundred whose fate is asked are always the same hundred.
#[test]
fn more_than_a_hundred_jobs_in_question_starve_none() {
    for last in [100, 101] {
        let fake = Fake::new();
        for n in 1..=last {
            put_nth(&fake, n);
            start_on(&fake, n, n as u64);
            jobs_api_says(
                &fake,
                n as u64,
                if n == last { JobState::Completed } else { JobState::InProgress },
                Some(1000 + n as u64),
            );
        }
        for _ in 0..48 {
            fake.pass(5 * MINUTE);
            let _ = sweep(&fake, &policy());
        }
        assert!(is_ended(&fake, &nth(last)), "{last}: four hours after its job ended its fate was never asked");
    }
}

/// `i-ffff` is past its hard age.
fn put_ancient(fake: &Fake) -> InstanceId {
    put_ancient_nth(fake, 0xffff)
}

/// Records of gone instances, whose registrations GitHub holds busy, take all of every sweep's time.
#[test]
fn registrations_that_github_holds_busy_do_not_starve_listed_instances() {
    for gone in [10, 80] {
        let fake = Fake::new();
        for n in 1..=gone {
            let id = put_nth(&fake, n);
            fake.state_mut().instances.remove(&id);
            edit(&fake, &id, |r| r.gone_at = Some(r.launched_at));
        }
        for (_, runner) in &mut fake.state_mut().runners {
            runner.busy = true;
            runner.online = false;
        }
        let ancient = put_ancient(&fake);
        let mut by_itself = 0;
        for _ in 0..48 {
            by_itself += usize::from(timed_sweep(&fake, MINUTE, |_| Duration::from_millis(300)));
        }
        assert!(
            is_ended(&fake, &ancient),
            "{gone} gone: in four hours {by_itself} of 48 sweeps ended by themselves and none came to an instance past its hard age"
        );
    }
}

/// One re-check takes longer than the function has; what it did is not remembered, and nobody behind it is reached.
#[test]
fn a_recheck_ends_within_the_deadline_or_goes_on_where_it_stopped() {
    for (case, deliveries, read) in [
        ("50 payloads of a second each", 50, "DeliveryLog::delivery_payload"),
        ("30 repositories of ten seconds each", 0, "Jobs::jobs_in_progress"),
        ("200 payloads of a second each", 200, "DeliveryLog::delivery_payload"),
    ] {
        let fake = Fake::new();
        let owners = put_nth(&fake, 1);
        if deliveries == 0 {
            for n in 0..29 {
                fake.state_mut().repositories.insert(Repository::try_from(format!("octo/r{n}")).unwrap());
            }
            edit(&fake, &owners, |r| r.busy_seen_at = Some(r.launched_at));
        } else {
            edit(&fake, &owners, |r| {
                let started = JobStarted {
                    job_id: JobId(1),
                    repository: repository(),
                    at: r.launched_at,
                    runner_id: r.runner_id,
                };
                r.note_started(started);
                r.note_completed(JobCompleted { job_id: JobId(1), at: r.launched_at }, RunnerId(1001));
            });
        }
        let ancient = put_ancient(&fake);
        fake.pass(30 * MINUTE);
        for n in 0..deliveries {
            deliver(&fake, n, fake.now(), refused_payload("main", None, None));
        }
        let mut by_itself = 0;
        let cost = if deliveries == 0 { 10 } else { 1 };
        let seen = std::rc::Rc::new(std::cell::Cell::new(0));
        for _ in 0..24 {
            let seen = seen.clone();
            by_itself += usize::from(timed_sweep(&fake, 2 * MINUTE, move |fake| {
                let calls = fake.calls_of(read);
                let news = calls > seen.replace(calls);
                if news { Duration::from_secs(cost) } else { Duration::from_millis(1) }
            }));
        }
        assert!(
            is_ended(&fake, &ancient),
            "{case}: {by_itself} of 24 sweeps ended by themselves; i-ffff past its hard age never ended"
        );
    }
}

/// A job of a deleted repository that started nobody knows where, and that GitHub's own limit ended days ago.
#[test]
fn a_job_that_githubs_limit_ended_keeps_nobody() {
    for fleet in [Some(FleetName::new("linux")), None] {
        let fake = Fake::new();
        idle_runner(&fake);
        let six_days_ago = fake.now().minus(6 * DAY);
        let mut job = waiting_job(six_days_ago);
        job.fleet = fleet.clone();
        job.phase = JobPhase::Queued;
        job.note_started(six_days_ago, None);
        fake.put(&job); // GET is 404
        assert!(minutes_until_deregistered(&fake).is_some(), "{fleet:?}: kept by a job that cannot run any more");
    }
}

/// Five that cannot be ended use up their fleet's cap in every pass.
#[test]
fn five_that_ec2_does_not_end_do_not_starve_their_fleet() {
    for stuck in [4, 5] {
        let fake = Fake::new();
        for n in 1..=8 {
            put_nth(&fake, n);
            edit(&fake, &nth(n), |r| {
                r.jit_intent_at = None;
                r.runner_id = None;
            });
        }
        fake.state_mut().runners.clear();
        fake.pass(20 * MINUTE);
        for _ in 0..12 {
            fake.pass(5 * MINUTE);
            // EC2 knows the first five in its listing and not when told to end them.
            let kept: Vec<Instance> = (1..=stuck).map(|n| fake.state().instances[&nth(n)].clone()).collect();
            let listings = fake.calls_of("ComputeRead::instances");
            for call in fake.calls() + 1..fake.calls() + 400 {
                fake.meanwhile(call, move |fake| {
                    if fake.calls_of("ComputeRead::instances") > listings {
                        for n in 1..=stuck {
                            fake.state_mut().instances.remove(&nth(n));
                        }
                    }
                });
            }
            let _ = sweep(&fake, &policy());
            for instance in kept {
                fake.state_mut().instances.insert(instance.id.clone(), instance);
            }
        }
        assert!(is_ended(&fake, &nth(8)), "{stuck} stuck, an hour of sweeps: {:?}", fake.state().terminated);
    }
}

/// The lists of hanging owners take the time of every look for strays; those behind them are never looked for.
#[test]
fn a_stray_registration_behind_slow_owners_is_taken_away() {
    for slow_owners in [3, 20] {
        let fake = Fake::new();
        let scope = |n: usize| Scope::Organization { owner: format!("owner-{n:02}") };
        for n in 1..=slow_owners {
            put_nth(&fake, n);
            edit(&fake, &nth(n), |r| r.access.scope = scope(n));
            fake.state_mut()
                .vital_signs
                .insert(nth(n), VitalSign { beat_at: Timestamp(i64::MAX), worker: Worker::Running });
        }
        let dead = put_nth(&fake, 500);
        fake.state_mut().instances.remove(&dead);
        edit(&fake, &dead, |r| {
            r.access.scope = scope(slow_owners);
            r.gone_at = Some(r.launched_at);
            r.cleaned_at = Some(r.launched_at);
        });
        fake.state_mut().runners.clear();
        let left =
            Runner { id: RunnerId(1500), name: RunnerName::new(format!("runner-{dead}")), online: false, ..runner() };
        fake.put_runner(&scope(slow_owners), left);
        let seen = std::rc::Rc::new(std::cell::Cell::new(0));
        for _ in 0..48 {
            let seen = seen.clone();
            timed_sweep(&fake, MINUTE, move |fake| {
                let lists = fake.calls_of("RegistryRead::runners");
                if lists > seen.replace(lists) { Duration::from_secs(10) } else { Duration::from_millis(1) }
            });
        }
        assert!(
            fake.state().runners.is_empty(),
            "{slow_owners} owners of 10 s a list: four hours, and the last one's stray is still there"
        );
    }
}
