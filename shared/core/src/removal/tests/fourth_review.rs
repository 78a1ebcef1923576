//! What a fourth reviewer found in the passes, each once a failing test: deliveries that were hidden, readings that took
//! all the time, one owner's or stranger's trouble that stopped everybody.

use super::*;
use crate::evidence::PositiveControl;
use crate::ids::InstallationId;
use crate::ledger::{AbsenceBreaker, DeliveryCursor, JobCompleted, PassCursor, Record};
use crate::ports::{Item, JitConfig};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

pub(super) fn nth(number: usize) -> InstanceId {
    InstanceId::new(format!("i-{number:04x}"))
}

pub(super) fn edit(fake: &Fake, id: &InstanceId, f: impl FnOnce(&mut InstanceRecord)) {
    let mut r = fake.get::<InstanceRecord>(id.as_str()).unwrap();
    f(&mut r);
    fake.put(&r);
}

/// An instance with runner id 1000+n, registered in octo.
pub(super) fn put_nth(fake: &Fake, n: usize) -> InstanceId {
    let id = nth(n);
    put_instance(fake, &id);
    let mut r = record(fake);
    r.instance_id = id.clone();
    r.runner_name = RunnerName::new(format!("runner-{id}"));
    r.runner_id = Some(RunnerId(1000 + n as u64));
    fake.put(&r);
    let shown = Runner { id: RunnerId(1000 + n as u64), name: r.runner_name.clone(), ..runner() };
    fake.put_runner(&access().scope, shown);
    id
}

fn start_on(fake: &Fake, n: usize, job: u64) {
    edit(fake, &nth(n), |r| {
        let started =
            JobStarted { job_id: JobId(job), repository: repository(), at: fake.now(), runner_id: r.runner_id };
        r.note_started(started);
    });
}

pub(super) fn is_ended(fake: &Fake, id: &InstanceId) -> bool {
    fake.state().terminated.iter().any(|(own, _)| own == id)
}

fn refused_payload(head_branch: &str, runner_name: Option<&str>, runner_id: Option<u64>) -> String {
    serde_json::json!({
        "action": "in_progress",
        "workflow_job": {"id": 99, "run_id": 2, "head_branch": head_branch, "labels": vec!["x"; 101],
            "runner_id": runner_id, "runner_name": runner_name},
        "repository": {"full_name": "octo/hello", "owner": {"login": "octo", "type": "Organization"}},
    })
    .to_string()
}

fn deliver(fake: &Fake, number: u64, at: Timestamp, payload: String) {
    let delivery = Delivery {
        id: number,
        guid: DeliveryGuid::new(format!("{number:08x}-0000-0000-0000-000000000000")),
        delivered_at: at,
        event: "workflow_job".into(),
        action: Some("in_progress".into()),
        installation_id: None,
    };
    fake.state_mut().deliveries.push((delivery, payload));
}

fn started_payload() -> String {
    serde_json::json!({
        "action": "in_progress",
        "workflow_job": {"id": 1, "run_id": 2, "labels": ["self-hosted", "linux"], "runner_id": 7, "runner_name": "runner-i-1"},
        "repository": {"full_name": "octo/hello", "owner": {"login": "octo", "type": "Organization"}},
    })
    .to_string()
}

// 1. P1: 1,500 refused deliveries of strangers, then one of ours that failed.
#[test]
fn a_full_list_of_refused_deliveries_does_not_hide_the_next() {
    let fake = Fake::new();
    idle_runner(&fake);
    fake.pass(MINUTE);
    for n in 0..1_500 {
        deliver(&fake, n, fake.now(), refused_payload("main", Some("GitHub Actions 5"), Some(5)));
    }
    fake.pass(MINUTE);
    deliver(&fake, 5_000, fake.now(), started_payload());
    let ended = minutes_until_ended(&fake);
    assert_eq!(
        (fake.state().runners.len(), ended),
        (1, None),
        "deregistered and ended, its start lies unread in GitHub's log"
    );
}

// 2. P1: a refused payload that names 16 others before its own runner.
#[test]
fn a_refused_delivery_keeps_the_instance_whose_runner_it_names_whatever_else_it_names() {
    for (case, branch) in [
        ("names its runner only", "main".to_owned()),
        ("names sixteen more in its branch", (0..16).map(|n| format!("i-{n:02x}")).collect::<Vec<_>>().join("-")),
    ] {
        let fake = Fake::new();
        idle_runner(&fake);
        fake.pass(MINUTE);
        deliver(&fake, 1, fake.now(), refused_payload(&branch, Some("runner-i-1"), Some(7)));
        let ended = minutes_until_ended(&fake);
        assert_eq!((fake.state().runners.len(), ended), (1, None), "{case}");
    }
}

// 3. The deliveries cursor outgrows DynamoDB's item by what strangers write (fake/ledger.rs here refuses above 400 KiB,
// as DynamoDB does).
#[test]
fn the_cursor_over_deliveries_stays_below_dynamodbs_item_limit() {
    for (case, names) in [("each names nobody", 0), ("each names sixteen", 16)] {
        let fake = Fake::new();
        idle_runner(&fake);
        fake.pass(MINUTE);
        let branch = (0..names).map(|n| format!("i-0123456789abcde{n:02x}")).collect::<Vec<_>>().join("-");
        for n in 0..1_500 {
            deliver(&fake, n, fake.now(), refused_payload(&branch, None, None));
        }
        let done = minutes_until_deregistered(&fake);
        let item = fake.state().items.get(&DeliveryCursor::key(DeliveryCursor::ID)).cloned();
        let size = item.map_or(0, |item| item.body.to_string().len());
        let reads = fake.calls_of("DeliveryLog::delivery_payload");
        assert!(
            done.is_some(),
            "{case}: an instance that none of them names is never removable; cursor stuck at {size} bytes, {reads} payloads read in two hours"
        );
    }
}

// 4. Liveness: a fleet full of runners that never connected, and more than 20 jobs that wait for it.
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

// 5. One owner's 500 waiting jobs, or one job record of another schema, stop drain and removal for all fleets and owners.
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

// 6. The hundred whose fate is asked are always the same hundred.
#[test]
fn more_than_a_hundred_jobs_in_question_starve_none() {
    for last in [100, 101] {
        let fake = Fake::new();
        for n in 1..=last {
            put_nth(&fake, n);
            start_on(&fake, n, n as u64);
            let reading = JobReading {
                id: JobId(n as u64),
                state: if n == last { JobState::Completed } else { JobState::InProgress },
                runner_id: Some(RunnerId(1000 + n as u64)),
                completed_at: None,
            };
            fake.state_mut().jobs.insert(JobId(n as u64), reading);
        }
        for _ in 0..48 {
            fake.pass(5 * MINUTE);
            let _ = sweep(&fake, &policy());
        }
        assert!(is_ended(&fake, &nth(last)), "{last}: four hours after its job ended its fate was never asked");
    }
}

/// Every call takes that long; the process ends where Lambda's time is over, as a panic that the caller catches.
fn slow(fake: &Fake, each: impl Fn(&Fake) -> Duration + Clone + 'static, ends_at: Timestamp) {
    for call in fake.calls() + 1..fake.calls() + 3_000 {
        let each = each.clone();
        fake.meanwhile(call, move |fake| {
            fake.pass(each(fake));
            assert!(fake.now() < ends_at, "killed by Lambda");
        });
    }
}

/// A sweep under that time limit; whether it ended by itself.
pub(super) fn timed_sweep(fake: &Fake, limit: Duration, each: impl Fn(&Fake) -> Duration + Clone + 'static) -> bool {
    let begin = fake.now();
    let ends_at = begin.plus(limit);
    slow(fake, each, ends_at);
    let ended = catch_unwind(AssertUnwindSafe(|| {
        let _ = run(orphan::run_pass(fake, &policy(), Deadline::of(begin, ends_at)));
    }))
    .is_ok();
    fake.heal();
    // The next schedule.
    let next = begin.plus(5 * MINUTE);
    if fake.now() < next {
        let rest = next.since(fake.now());
        fake.pass(rest);
    }
    ended
}

/// `i-ffff` is past its hard age.
fn put_ancient(fake: &Fake) -> InstanceId {
    put_ancient_nth(fake, 0xffff)
}

pub(super) fn put_ancient_nth(fake: &Fake, n: usize) -> InstanceId {
    let id = put_nth(fake, n);
    let long_ago = fake.now().minus(10 * DAY);
    edit(fake, &id, |r| {
        r.launched_at = long_ago;
    });
    fake.state_mut().instances.get_mut(&id).unwrap().launched_at = long_ago;
    id
}

// 7. Records of gone instances, whose registrations GitHub holds busy, take all of every sweep's time.
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

// 8. One re-check takes longer than the function has; what it did is not remembered, and nobody behind it is reached.
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

// 9. One payload that cannot be read keeps every owner's instances, and nothing stands in for it.
#[test]
fn one_payload_that_cannot_be_read_keeps_nobody_for_days() {
    let fake = Fake::new();
    idle_runner(&fake);
    deliver(&fake, 1, fake.now(), "gone".into());
    fake.always_fail("DeliveryLog::delivery_payload", Class::Absent);
    let mut gone = None;
    for minutes in (0..2 * 24 * 60).step_by(5) {
        fake.pass(5 * MINUTE);
        let _ = scale_down(&fake, &policy());
        let _ = sweep(&fake, &policy());
        if fake.state().runners.is_empty() {
            gone = Some(minutes);
            break;
        }
    }
    assert!(gone.is_some(), "two days: a stranger's delivery whose payload is gone; the jobs API never stands in");
}

// 10. A job of a deleted repository that started nobody knows where, and that GitHub's own limit ended days ago.
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

// 11. Positive control: 30 registrations vanish from the list at once; only the four without a job count.
#[test]
fn a_list_that_misses_everybody_is_implausible_although_most_are_busy() {
    let fake = Fake::new();
    for n in 1..=30 {
        put_nth(&fake, n);
        if n <= 26 {
            start_on(&fake, n, n as u64);
            let sign = VitalSign { beat_at: fake.now(), worker: Worker::Running };
            fake.state_mut().vital_signs.insert(nth(n), sign);
        }
    }
    fake.pass(20 * MINUTE);
    tick(&fake, &policy()); // all listed
    fake.state_mut().runners.clear(); // a 404 storm
    let mut minutes = 0;
    while fake.state().terminated.is_empty() && minutes < 58 {
        tick(&fake, &policy());
        minutes += 1;
    }
    assert!(
        fake.state().terminated.is_empty(),
        "ended {:?} after {minutes} min of a list that misses 30 of 30",
        fake.state().terminated
    );
}

// 12. A breaker that was left open two days ago counts a new storm as agreeing.
#[test]
fn a_stale_breaker_does_not_vouch_for_a_new_storm() {
    let ids = |range: std::ops::Range<u64>| range.map(RunnerId).collect::<BTreeSet<_>>();
    let now = Timestamp(0).plus(DAY);
    let left = AbsenceBreaker {
        scope: access().scope,
        missing: ids(0..10), // their instances are long gone
        agreeing_since: Timestamp(0),
        agreeing_count: 2,
        agreed_at: Timestamp(1),
    };
    let (control, _) = PositiveControl::judge(&access().scope, &ids(0..0), &ids(100..110), Some(&left), now);
    assert_eq!(control, PositiveControl::MassAbsence, "the first list of a new storm is believed");
}

// 13. A cursor that cannot be understood (a rollback): strays are never looked for, and nobody is told.
#[test]
fn secrets_without_an_instance_are_taken_away_although_the_cursor_is_foreign() {
    let fake = Fake::new();
    fake.put(&PassCursor::new("orphan-sweeper"));
    let key = PassCursor::key("orphan-sweeper");
    let item = Item { schema: 2, ..fake.state().items[&key].clone() };
    fake.put_item(item);
    fake.state_mut().parameters.insert(nth(1), JitConfig::new("secret".into()));
    let mut silent = true;
    for _ in 0..24 {
        fake.pass(5 * MINUTE);
        silent &= sweep(&fake, &policy()).expect("not killed").is_ok();
    }
    assert!(
        fake.state().parameters.is_empty() || !silent,
        "two hours: the secret lies there and every pass reports success"
    );
}

// 14. Five that cannot be ended use up their fleet's cap in every pass.
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

// 15. A sighting of a stopped instance between two omissions.
#[test]
fn a_sighting_as_stopped_disproves_omissions_before_it() {
    let fake = Fake::new();
    idle_runner(&fake);
    let show = |fake: &Fake, value: &str| {
        fake.state_mut().instances.get_mut(&id()).unwrap().tags.insert("ghr:environment".into(), value.into());
    };
    fake.pass(2 * HOUR);
    show(&fake, "x");
    let _ = sweep(&fake, &policy());
    fake.pass(6 * MINUTE);
    let _ = sweep(&fake, &policy());
    show(&fake, "test");
    fake.set_instance_state(&id(), InstanceState::Stopped);
    for _ in 0..2 {
        fake.pass(5 * MINUTE);
        let _ = sweep(&fake, &policy());
    }
    show(&fake, "x");
    fake.pass(MINUTE);
    let _ = sweep(&fake, &policy());
    assert_eq!(fake.get::<InstanceRecord>("i-1").unwrap().gone_at, None, "one omission, a minute after a sighting");
}

// 16. A stray registration listed under two installations of one scope is acted upon once.
#[test]
fn a_stray_seen_under_two_accesses_is_deleted_once() {
    let fake = Fake::new();
    for n in 1..=2 {
        put_nth(&fake, n);
    }
    edit(&fake, &nth(2), |r| r.access.installation_id = Some(InstallationId(9)));
    let gone = put_nth(&fake, 3);
    fake.state_mut().instances.remove(&gone);
    edit(&fake, &gone, |r| {
        r.gone_at = Some(r.launched_at);
        r.cleaned_at = Some(r.launched_at);
    });
    for _ in 0..3 {
        fake.pass(20 * MINUTE);
        let _ = sweep(&fake, &policy());
    }
    assert_eq!(fake.calls_of("Registry::deregister"), 1);
}

// 17. P1: a job that waited three days for an approval is queued with the time at which it was made.
#[test]
fn a_job_made_long_ago_and_queued_today_is_asked_about() {
    for hours in [47, 49] {
        let fake = Fake::new();
        idle_runner(&fake);
        let mut job = waiting_job(fake.now().minus(hours * HOUR));
        job.recorded_at = Some(fake.now());
        fake.put(&job);
        let reading =
            JobReading { id: JobId(1), state: JobState::InProgress, runner_id: Some(RunnerId(7)), completed_at: None };
        fake.state_mut().jobs.insert(JobId(1), reading);
        let ended = minutes_until_ended(&fake);
        assert_eq!(
            (fake.state().runners.len(), ended),
            (1, None),
            "made {hours} h ago, runs here by the jobs API's word"
        );
    }
}

// 18. The lists of hanging owners take the time of every look for strays; those behind them are never looked for.
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
