//! What a fifth reviewer found in the mendings, each once a failing test.
#![allow(clippy::all, clippy::pedantic)]
use super::*;
use crate::evidence::PositiveControl;
use crate::ledger::{AbsenceBreaker, Record};
use crate::ports::Item;
use crate::webhook::{self, Event};
use std::collections::BTreeSet;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn rec(fake: &Fake) -> InstanceRecord {
    fake.get::<InstanceRecord>("i-1").expect("a record")
}
fn event(fake: &Fake, action: &str, job: u64, runner_id: Option<u64>) {
    let body = serde_json::json!({
        "action": action,
        "workflow_job": {"id": job, "run_id": 2, "labels": ["self-hosted", "linux"], "runner_id": runner_id,
            "runner_name": "runner-i-1"},
        "repository": {"full_name": "octo/hello", "owner": {"login": "octo", "type": "Organization"}},
        "organization": {"login": "octo"},
    });
    let Ok(Event::Job(event)) = webhook::parse(Some("workflow_job"), body.to_string().as_bytes()) else { panic!() };
    run(webhook::apply_job_event(fake, &event, fake.now())).expect("not killed").expect("no fault");
}
fn api(fake: &Fake, job: u64, state: JobState, runner: Option<u64>) {
    let reading = JobReading { id: JobId(job), state, runner_id: runner.map(RunnerId), completed_at: None };
    fake.state_mut().jobs.insert(JobId(job), reading);
}
fn busy(fake: &Fake, busy: bool) {
    fake.state_mut().runners[0].1.busy = busy;
}
fn untouched(fake: &Fake, what: &str) {
    assert_eq!(fake.calls_of("Registry::deregister"), 0, "{what}: deregistered; {:?}", rec(fake));
    assert!(grounds(fake).is_empty(), "{what}: ended {:?}; {:?}", grounds(fake), rec(fake));
}

/// T1: hidden from the listings (somebody changed its tag), taken for gone, its runner online and its job running:
/// `NotGone` keeps it. A raised ledger epoch wipes `missing_since`, and with it the knowledge that "gone" was an absence.
fn hidden(epoch: bool) -> Fake {
    let fake = Fake::new();
    idle_runner(&fake);
    event(&fake, "in_progress", 1, Some(7));
    api(&fake, 1, JobState::InProgress, Some(7));
    fake.pass(2 * HOUR);
    // Hidden: no listing shows it.
    let shown = fake.state_mut().instances.remove(&id()).expect("put");
    let sign = VitalSign { beat_at: fake.now(), worker: Worker::Running };
    fake.state_mut().vital_signs.insert(id(), sign);
    for _ in 0..60 {
        tick(&fake, &policy());
    }
    assert!(rec(&fake).gone_at.is_some() && rec(&fake).missing_since.is_some(), "{:?}", rec(&fake));
    untouched(&fake, "NotGone keeps it before the restore");
    let restored = Policy { ledger_epoch: epoch.then(|| fake.now()), ..policy() };
    for _ in 0..10 {
        tick(&fake, &restored);
    }
    drop(shown);
    fake
}
#[test]
fn control_without_an_epoch_it_is_kept() {
    untouched(&hidden(false), "no epoch");
}
#[test]
fn a_raised_epoch_does_not_turn_an_absence_into_a_proof() {
    untouched(&hidden(true), "epoch raised");
}

/// T2: job 2 started besides job 1 four days later; hard age counts job 1's start only.
#[test]
fn the_hard_age_counts_from_the_last_start() {
    let fake = Fake::new();
    idle_runner(&fake);
    event(&fake, "in_progress", 1, Some(7));
    fake.pass(4 * DAY);
    event(&fake, "in_progress", 2, Some(7));
    api(&fake, 2, JobState::InProgress, Some(7));
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

/// T3: a job of fleet gpu (labels that linux serves too), stolen by this runner; flag lies, event lost.
fn stolen(schema: Option<u32>) -> Fake {
    let fake = Fake::new();
    idle_runner(&fake);
    let mut job = waiting_job(fake.now().minus(HOUR));
    job.fleet = Some(FleetName::new("gpu"));
    fake.put(&job);
    if let Some(schema) = schema {
        let key = JobRecord::key("1");
        let item = Item { schema, ..fake.state().items[&key].clone() };
        fake.put_item(item);
    }
    api(&fake, 1, JobState::InProgress, Some(7));
    let mut two = policy();
    two.fleets.push(crate::fake::fleet("gpu"));
    for _ in 0..PASSES_MAX {
        tick(&fake, &two);
    }
    fake
}
#[test]
fn control_a_job_of_our_schema() {
    untouched(&stolen(None), "our schema");
}
#[test]
fn a_foreign_job_of_another_fleet_that_our_labels_serve() {
    untouched(&stolen(Some(2)), "foreign schema");
}

fn refused_payload(runner_name: &str) -> String {
    serde_json::json!({
        "action": "in_progress",
        "workflow_job": {"id": 99, "run_id": 2, "labels": vec!["x"; 101], "runner_id": 5, "runner_name": runner_name},
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
/// Passes every 5 min for so long until the runner is deregistered.
fn removed_within(fake: &Fake, time: Duration, mut each: impl FnMut(&Fake, u64)) -> Option<u64> {
    (1..=time.as_secs() / 300).find(|n| {
        fake.pass(5 * MINUTE);
        each(fake, *n);
        let _ = scale_down(fake, &policy());
        let _ = sweep(fake, &policy());
        fake.state().runners.is_empty()
    })
}

/// T4: 1,501 refused deliveries that name a runner `x-i-…` that is nobody's instance.
#[test]
fn refused_deliveries_of_no_instance_of_ours_stop_nobody() {
    let fake = Fake::new();
    idle_runner(&fake);
    fake.pass(MINUTE);
    for n in 0..1_501 {
        deliver(&fake, n, fake.now(), refused_payload("x-i-0123456789abcdef0"));
    }
    let gone = removed_within(&fake, Duration::from_secs(60 * 3600), |_, _| {});
    assert!(gone.is_some(), "60 h: a stranger's 1,501 refused deliveries keep every owner's idle runner");
}

/// T5: 201 payloads that cannot be read.
#[test]
fn two_hundred_and_one_unreadable_payloads() {
    for count in [200, 201] {
        let fake = Fake::new();
        idle_runner(&fake);
        for n in 0..count {
            deliver(&fake, n, fake.now(), "gone".into());
        }
        fake.always_fail("DeliveryLog::delivery_payload", Class::Absent);
        let gone = removed_within(&fake, 2 * DAY, |_, _| {});
        assert!(gone.is_some(), "{count}: two days, the jobs API never stands in");
    }
}
/// T5b: one new unreadable payload every half an hour.
#[test]
fn a_trickle_of_unreadable_payloads() {
    let fake = Fake::new();
    idle_runner(&fake);
    fake.always_fail("DeliveryLog::delivery_payload", Class::Absent);
    let gone = removed_within(&fake, 2 * DAY, |fake, n| {
        if n % 6 == 1 {
            deliver(fake, n, fake.now(), "gone".into());
        }
    });
    assert!(gone.is_some(), "two days, the jobs API never stands in");
}

fn nth(number: usize) -> InstanceId {
    InstanceId::new(format!("i-{number:04x}"))
}
fn put_nth(fake: &Fake, n: usize) -> InstanceId {
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
/// T6: pure.
#[test]
fn one_survivor_of_an_old_absence_does_not_vouch_for_a_new_storm() {
    let ids = |range: std::ops::Range<u64>| range.map(RunnerId).collect::<BTreeSet<_>>();
    let left = AbsenceBreaker {
        scope: access().scope,
        missing: ids(0..10),
        agreeing_since: Timestamp(0),
        agreeing_count: 500,
        agreed_at: Timestamp(0).plus(DAY),
    };
    let now = Timestamp(0).plus(DAY).plus(MINUTE);
    let expected: BTreeSet<RunnerId> = ids(9..10).into_iter().chain(ids(100..140)).collect();
    let (before, _) = PositiveControl::judge(&access().scope, &ids(100..140), &expected, Some(&left), now);
    let (control, _) = PositiveControl::judge(&access().scope, &ids(0..0), &expected, Some(&left), now);
    assert_eq!((before, control), (before, PositiveControl::MassAbsence), "the first list of a new storm is believed");
}
/// T6 over the whole road. Seven registrations were removed by hand; six of their instances ended, the seventh's job
/// runs on. Next day a storm hides 20 others, each of which runs a job whose start was lost; owner of 40 repositories.
fn storm(survivor: bool) -> (usize, u32) {
    let fake = Fake::new();
    for n in 40..80 {
        fake.state_mut().repositories.insert(Repository::try_from(format!("octo/r{n}")).unwrap());
    }
    for n in 1..=7 {
        put_nth(&fake, n);
        let sign = VitalSign { beat_at: fake.now(), worker: Worker::Running };
        fake.state_mut().vital_signs.insert(nth(n), sign);
    }
    fake.pass(20 * MINUTE);
    fake.state_mut().runners.clear();
    for _ in 0..40 {
        tick(&fake, &policy());
    }
    for n in if survivor { 2 } else { 1 }..=7 {
        fake.set_instance_state(&nth(n), InstanceState::Terminated);
    }
    for n in 20..40 {
        put_nth(&fake, n);
    }
    let demand = |fake: &Fake| {
        fake.put(&waiting_job(fake.now()));
        fake.put_job(JobId(1), JobState::Queued);
    };
    for _ in 0..20 {
        demand(&fake);
        tick(&fake, &policy());
    }
    let before = fake.state().terminated.len();
    fake.state_mut().runners.clear(); // the storm
    let mut minutes = 0;
    while fake.state().terminated.len() == before && minutes < 58 {
        demand(&fake);
        tick(&fake, &policy());
        minutes += 1;
    }
    (fake.state().terminated.len() - before, minutes)
}
#[test]
fn control_nobody_is_left() {
    assert_eq!(storm(false).0, 0);
}
#[test]
fn a_storm_beside_one_survivor_ends_nobody_within_the_hour() {
    let (ended, minutes) = storm(true);
    assert_eq!(ended, 0, "ended {ended} after {minutes} min of a list that misses all 21");
}

/// T7: F3 with the busy readings before the first reading that shows the job elsewhere.
#[test]
fn busy_seen_before_its_job_is_elsewhere() {
    let fake = Fake::new();
    idle_runner(&fake);
    event(&fake, "in_progress", 1, Some(7));
    api(&fake, 1, JobState::InProgress, Some(9));
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

/// T2b: busy was noted because job 1 is elsewhere (job 2, its start lost); the hard age forgets that trace.
#[test]
fn the_hard_age_counts_from_a_busy_reading_that_job_1_does_not_explain() {
    let fake = Fake::new();
    idle_runner(&fake);
    event(&fake, "in_progress", 1, Some(7));
    fake.pass(4 * DAY);
    api(&fake, 1, JobState::InProgress, Some(9));
    assert!(minutes_until(&fake, |fake| rec(fake).elsewhere.is_some()).is_some());
    busy(&fake, true);
    tick(&fake, &policy());
    assert!(rec(&fake).busy_seen_at.is_some());
    for _ in 0..36 {
        fake.pass(HOUR);
        let _ = scale_down(&fake, &policy());
        let _ = sweep(&fake, &policy());
    }
    untouched(&fake, "job 2 is 36 h old, its first busy reading is in the ledger");
}
/// T68: the completion of job 3 comes before its start, after job 1 had completed: is it lost?
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
    assert!(ended.is_some(), "both jobs' ends were delivered; {:?}", rec(&fake));
}
/// T69: two claims: the first is dropped.
#[test]
fn a_claim_of_the_job_besides_is_not_lost() {
    let fake = Fake::new();
    idle_runner(&fake);
    event(&fake, "in_progress", 1, Some(7));
    event(&fake, "in_progress", 2, Some(7));
    event(&fake, "completed", 2, Some(7));
    event(&fake, "completed", 1, Some(7));
    let ended = removed_within(&fake, 4 * DAY, |_, _| {});
    assert!(ended.is_some(), "both jobs' ends were delivered; {:?}", rec(&fake));
}
/// T10: a late duplicate of the first start after the second took its place.
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
    assert!(ended.is_some(), "both jobs' ends were delivered; {:?}", rec(&fake));
}
/// T7b: and the jobs API shows job 2 in progress on this very runner all the time; nobody looks.
#[test]
fn busy_seen_before_its_job_is_elsewhere_and_the_next_in_progress_here() {
    let fake = Fake::new();
    idle_runner(&fake);
    event(&fake, "in_progress", 1, Some(7));
    api(&fake, 1, JobState::InProgress, Some(9));
    api(&fake, 2, JobState::InProgress, Some(7)); // neither its queued nor its start reached us
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
