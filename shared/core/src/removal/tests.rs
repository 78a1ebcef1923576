//! Scale-down's passes against the double: the whole road of an idle runner whose supervisor is dead, and everything
//! that must turn it back.

mod absence;
mod budgets;
mod changes;
mod crash;
mod deadline;
mod deliveries;
mod delivery_log;
mod deregistration;
mod drains;
mod fixtures;
mod guards;
mod hard_age;
mod incidents;
mod leftovers;
mod metrics;
#[cfg(feature = "mutants")]
mod naive;
mod names;
mod open_jobs;
mod out_of_reach;
mod proofs;
mod restored;
mod starvation;
mod sticky;
mod unsigned;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::{FailedPass, Ground, Report, run_pass};
use crate::config::{Mode, Policy};
use crate::error::Class;
use crate::fake::{Fake, policy, run};
use crate::ids::{
    Access, DeliveryGuid, FleetName, InstanceId, JobId, LaunchToken, Repository, RunId, RunnerId, RunnerName, Scope,
};
use crate::ledger::{InstanceRecord, JobPhase, JobRecord, JobStarted};
use crate::orphan;
use crate::ports::{
    Delivery, Instance, InstanceState, JobReading, JobState, KillSwitch, Kind, Runner, Tags, VitalSign, Worker,
};
use crate::time::{Clock, Deadline, Timestamp};
use crate::webhook::{self, Event};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);
/// Passes of the simulated evening: enough for every road that ends at all.
const PASSES_MAX: usize = 120;

fn id() -> InstanceId {
    InstanceId::new("i-1")
}

fn access() -> Access {
    Access { scope: Scope::Organization { owner: "octo".into() }, installation_id: None }
}

fn repository() -> Repository {
    Repository::try_from("octo/hello".to_owned()).expect("a full name")
}

fn runner() -> Runner {
    Runner {
        id: RunnerId(7),
        name: RunnerName::new("runner-i-1"),
        online: true,
        busy: false,
        version: Some(Some("2.336.0".into())),
        ephemeral: Some(true),
    }
}

fn put_instance(fake: &Fake, id: &InstanceId) {
    let tags = [("ghr:environment", "test"), ("ghr:fleet", "linux"), ("ghr:owner", "octo")];
    let instance = Instance {
        id: id.clone(),
        state: InstanceState::Running,
        launched_at: fake.now(),
        tags: Tags::from(tags.map(|(key, value)| (key.to_owned(), value.to_owned()))).into(),
    };
    fake.state_mut().instances.insert(id.clone(), instance);
}

/// One of many instances, whose supervisor spoke when it was launched and never again: where none ever did, silence says
/// nothing.
fn put_fallen_silent(fake: &Fake, id: &InstanceId) {
    put_instance(fake, id);
    let sign = VitalSign { beat_at: fake.now(), worker: Worker::None };
    fake.state_mut().vital_signs.insert(id.clone(), sign);
}

fn record(fake: &Fake) -> InstanceRecord {
    let mut record = InstanceRecord::launched(
        id(),
        access(),
        FleetName::new("linux"),
        LaunchToken::new("token"),
        RunnerName::new("runner-i-1"),
        fake.now(),
    );
    record.jit_intent_at = Some(fake.now());
    record.handed_over_at = Some(fake.now());
    record.note_runner_id(RunnerId(7));
    record
}

/// One instance whose supervisor never gave a sign, its runner online and idle.
fn idle_runner(fake: &Fake) {
    put_instance(fake, &id());
    fake.put(&record(fake));
    fake.put_runner(&access().scope, runner());
}

fn started() -> JobStarted {
    JobStarted { job_id: JobId(1), repository: repository(), at: Timestamp(1), runner_id: Some(RunnerId(7)) }
}

/// The webhook's write: a job started on the instance.
fn job_starts(fake: &Fake) {
    let mut record = fake.get::<InstanceRecord>("i-1").expect("a record");
    record.note_started(started());
    fake.put(&record);
}

fn deadline(fake: &Fake) -> Deadline {
    Deadline::of(fake.now(), fake.now().plus(MINUTE))
}

fn scale_down(fake: &Fake, policy: &Policy) -> Option<Result<Report, FailedPass>> {
    run(run_pass(fake, policy, deadline(fake)))
}

fn sweep(fake: &Fake, policy: &Policy) -> Option<Result<Report, FailedPass>> {
    run(orphan::run_pass(fake, policy, deadline(fake)))
}

/// A minute passes and both functions run.
fn tick(fake: &Fake, policy: &Policy) {
    fake.pass(MINUTE);
    let _ = scale_down(fake, policy);
    let _ = sweep(fake, policy);
}

/// Minutes until `done`, with both functions running each minute.
fn minutes_until(fake: &Fake, done: impl Fn(&Fake) -> bool) -> Option<usize> {
    (1..=PASSES_MAX).find(|_| {
        tick(fake, &policy());
        done(fake)
    })
}

fn minutes_until_ended(fake: &Fake) -> Option<usize> {
    minutes_until(fake, |fake| !fake.state().terminated.is_empty())
}

fn minutes_until_deregistered(fake: &Fake) -> Option<usize> {
    minutes_until(fake, |fake| fake.state().runners.is_empty())
}

fn grounds(fake: &Fake) -> Vec<Ground> {
    fake.state().terminated.iter().map(|(_, ground)| *ground).collect()
}

/// What the ledger remembers of the instance in question.
fn record_of(fake: &Fake) -> InstanceRecord {
    fake.get("i-1").expect("a record")
}

/// Another function writes to a record.
fn edit(fake: &Fake, id: &InstanceId, change: impl FnOnce(&mut InstanceRecord)) {
    let mut record = fake.get::<InstanceRecord>(id.as_str()).expect("a record");
    change(&mut record);
    fake.put(&record);
}

/// What the jobs API says of a job; of a runner its name as well, that of ours where the id is ours.
fn jobs_api_says(fake: &Fake, job: u64, state: JobState, runner_id: Option<u64>) {
    let name = runner_id.map(|id| name_of(fake, RunnerId(id)));
    jobs_api_names(fake, job, state, runner_id, name.as_ref().map(RunnerName::as_str));
}

/// What the jobs API says of a job, with whatever name of a runner.
fn jobs_api_names(fake: &Fake, job: u64, state: JobState, runner_id: Option<u64>, runner_name: Option<&str>) {
    let reading = JobReading {
        id: JobId(job),
        state,
        runner_id: runner_id.map(RunnerId),
        runner_name: runner_name.map(RunnerName::new),
        completed_at: None,
    };
    fake.state_mut().jobs.insert(JobId(job), reading);
}

/// By the record of that runner's instance; a runner without one is not ours.
fn name_of(fake: &Fake, id: RunnerId) -> RunnerName {
    let state = fake.state();
    let mut records = state.items.values().filter_map(|item| {
        (item.key.kind == Kind::Instance).then(|| item.body.parse::<InstanceRecord>().ok()).flatten()
    });
    let own = records.find(|record| record.runner_id == Some(id));
    own.map_or_else(|| RunnerName::new(format!("another-{id}")), |record| record.runner_name)
}

fn event(fake: &Fake, action: &str, job: u64, runner_id: Option<u64>) {
    let body = serde_json::json!({
        "action": action,
        "workflow_job": {"id": job, "run_id": 2, "labels": ["self-hosted", "linux"], "runner_id": runner_id,
            "runner_name": "runner-i-1"},
        "repository": {"full_name": "octo/hello", "owner": {"login": "octo", "type": "Organization"}},
        "organization": {"login": "octo"},
    });
    // Names of real instances are hexadecimal; this one is as well.
    let Ok(Event::Job(event)) = webhook::parse(Some("workflow_job"), body.to_string().as_bytes()) else { panic!() };
    run(webhook::apply_job_event(fake, &event, fake.now())).expect("not killed").expect("no fault");
}

fn busy(fake: &Fake, busy: bool) {
    fake.state_mut().runners[0].1.busy = busy;
}

fn untouched(fake: &Fake, what: &str) {
    assert_eq!(fake.calls_of("Registry::deregister"), 0, "{what}: deregistered; {:?}", record_of(fake));
    assert!(grounds(fake).is_empty(), "{what}: ended {:?}; {:?}", grounds(fake), record_of(fake));
}

fn pool() -> Policy {
    let mut policy = policy();
    policy.fleets[0].idle = vec![crate::config::IdleSchedule::try_new("* * * * *", "UTC", 1).expect("valid")];
    policy.fleets[0].timers.idle_maximum = 24 * HOUR;
    policy
}

fn nth(number: usize) -> InstanceId {
    InstanceId::new(format!("i-{number:04x}"))
}

/// An instance with runner id 1000+n, registered in octo.
fn put_nth(fake: &Fake, n: usize) -> InstanceId {
    let id = nth(n);
    put_fallen_silent(fake, &id);
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

fn is_ended(fake: &Fake, id: &InstanceId) -> bool {
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
fn timed_sweep(fake: &Fake, limit: Duration, each: impl Fn(&Fake) -> Duration + Clone + 'static) -> bool {
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

fn put_ancient_nth(fake: &Fake, n: usize) -> InstanceId {
    let id = put_nth(fake, n);
    let long_ago = fake.now().minus(10 * DAY);
    edit(fake, &id, |r| {
        r.launched_at = long_ago;
    });
    fake.state_mut().instances.get_mut(&id).unwrap().launched_at = long_ago;
    id
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

#[test]
fn an_idle_runner_that_answers_no_drain_is_deregistered_and_ended_only_after_the_quarantine() {
    let fake = Fake::new();
    idle_runner(&fake);
    let deregistered = minutes_until_deregistered(&fake).expect("deregistered");
    // 5 min of life, 5 min for the drain's answer, 5 min between two idle readings.
    assert!((15..=17).contains(&deregistered), "after {deregistered} min");
    assert!(fake.state().terminated.is_empty(), "not in the same pass");
    assert!(fake.state().instances[&id()].tags.contains_key("ghr:drain"), "asked first");
    let quarantined = minutes_until_ended(&fake).expect("ended");
    assert!((5..=7).contains(&quarantined), "after {quarantined} min of quarantine");
    assert_eq!(grounds(&fake), [Ground::IdleAfterDeregistration]);
    let record = fake.get::<InstanceRecord>("i-1").expect("a record");
    assert!(record.terminate_intent.is_some(), "the ground is stored");

    fake.set_instance_state(&id(), InstanceState::Terminated);
    assert!(
        minutes_until(&fake, |fake| fake.get::<InstanceRecord>("i-1").is_some_and(|r| r.cleaned_at.is_some()))
            .is_some_and(|minutes| minutes <= 2)
    );
}

#[test]
fn a_job_that_surfaces_at_any_moment_before_the_intent_keeps_the_instance() {
    // Play the last pass once to count its calls, then once more for each of them with the event arriving there.
    let ready = || {
        let fake = Fake::new();
        idle_runner(&fake);
        minutes_until_deregistered(&fake).expect("deregistered");
        fake.pass(6 * MINUTE);
        fake
    };
    let quiet = ready();
    let before = quiet.calls();
    let _ = scale_down(&quiet, &policy());
    assert_eq!(grounds(&quiet), [Ground::IdleAfterDeregistration]);
    let calls = quiet.calls() - before;
    let mut kept = 0;
    for call in 1..=calls {
        let fake = ready();
        fake.meanwhile(fake.calls() + call, job_starts);
        let _ = scale_down(&fake, &policy());
        let record = fake.get::<InstanceRecord>("i-1").expect("a record");
        if fake.state().terminated.is_empty() {
            kept += 1;
            assert!(record.job_started.is_some(), "call {call}: the event was lost");
        } else {
            // Only when the event came after the intent was stored.
            assert!(call > calls - 3, "call {call} of {calls}: ended although a job had surfaced");
        }
    }
    assert_eq!(kept, calls - 3, "all but the store of the intent, the call itself and the cursor");
}

#[test]
fn evidence_in_a_failed_delivery_or_at_the_jobs_api_keeps_the_instance() {
    let payload = |runner_id: u64| {
        serde_json::json!({
            "action": "in_progress",
            "workflow_job": {"id": 1, "run_id": 2, "labels": ["self-hosted", "linux"], "runner_id": runner_id,
                "runner_name": "runner-i-1"},
            "repository": {"full_name": "octo/hello", "owner": {"login": "octo", "type": "Organization"}},
        })
        .to_string()
    };
    let fake = Fake::new();
    // Names of real instances have hexadecimal digits only, as this one.
    idle_runner(&fake);
    minutes_until_deregistered(&fake).expect("deregistered");
    let delivery = Delivery {
        id: 1,
        guid: DeliveryGuid::new("guid"),
        delivered_at: fake.now(),
        event: "workflow_job".into(),
        action: Some("in_progress".into()),
        installation_id: None,
    };
    fake.state_mut().deliveries.push((delivery, payload(7)));
    assert_eq!(minutes_until_ended(&fake), None, "a lost event was read back");
    assert!(fake.get::<InstanceRecord>("i-1").is_some_and(|record| record.job_started.is_some()));

    let fake = Fake::new();
    idle_runner(&fake);
    minutes_until_deregistered(&fake).expect("deregistered");
    fake.put(&waiting_job(fake.now().minus(Duration::from_secs(3_600))));
    jobs_api_says(&fake, 1, JobState::InProgress, Some(7));
    assert_eq!(minutes_until_ended(&fake), None, "the jobs API shows the job on this runner");
    assert!(fake.get::<InstanceRecord>("i-1").is_some_and(|record| record.job_started.is_some()), "remembered");
}

fn waiting_job(queued_at: Timestamp) -> JobRecord {
    JobRecord {
        job_id: JobId(1),
        access: access(),
        repository: repository(),
        run_id: RunId(2),
        run_attempt: 1,
        labels: vec!["self-hosted".into(), "linux".into()],
        fleet: Some(FleetName::new("linux")),
        phase: JobPhase::Launched { token: LaunchToken::new("token") },
        next_look: Timestamp(i64::MAX),
        launch_count: 1,
        launches: Vec::new(),
        queued_at,
        runner_id: None,
        recorded_at: None,
        given_up_at: None,
        ids: crate::ids::RepositoryIds::default(),
    }
}

#[test]
fn what_cannot_be_read_keeps_the_instance() {
    // For an hour: after that the jobs API stands in for the delivery log.
    let minutes_until_ended = |fake: &Fake| {
        (1..=55).find(|_| {
            tick(fake, &policy());
            !fake.state().terminated.is_empty()
        })
    };
    for (call, class) in [
        ("RegistryRead::runners", Class::Denied),
        ("RegistryRead::runner", Class::Absent),
        ("DeliveryLog::failed_deliveries_since", Class::Transient),
        ("VitalSigns::read", Class::Throttled { retry_after: None }),
        ("Ledger::open", Class::Transient),
        ("Ledger::write", Class::OutcomeUnknown),
        ("ComputeRead::instances", Class::Transient),
        ("Parameters::kill_switch", Class::Absent),
    ] {
        let fake = Fake::new();
        idle_runner(&fake);
        fake.always_fail(call, class);
        assert_eq!(minutes_until_ended(&fake), None, "{call} fails from the beginning");
        assert_eq!(fake.state().runners.len(), 1, "{call}: not deregistered either");

        let fake = Fake::new();
        idle_runner(&fake);
        minutes_until_deregistered(&fake).expect("deregistered");
        fake.always_fail(call, class);
        assert_eq!(minutes_until_ended(&fake), None, "{call} fails in the quarantine");
        fake.heal();
        assert!(minutes_until_ended(&fake).is_some(), "{call} is healed");
    }
}

#[test]
fn a_pass_that_met_an_error_fails_visibly_and_has_done_the_rest() {
    let fake = Fake::new();
    idle_runner(&fake);
    fake.pass(20 * MINUTE);
    fake.always_fail("RegistryRead::runners", Class::Transient);
    let report = scale_down(&fake, &policy()).expect("not killed").expect_err("visible").0;
    assert!(report.errors.iter().any(|error| error.contains("RegistryRead::runners")), "{report:?}");
    assert_eq!(report.instance_count, 1);
}

#[test]
fn neither_kill_switch_nor_observe_lets_anything_but_the_ledger_change() {
    let mut observing = policy();
    observing.mode = Mode::Observe;
    for (case, switch, policy) in [
        ("kill switch thrown", Some(KillSwitch::RemovalDisabled), policy()),
        ("kill switch missing", None, policy()),
        ("observe", Some(KillSwitch::RemovalEnabled), observing),
    ] {
        let fake = Fake::new();
        idle_runner(&fake);
        fake.state_mut().kill_switch = switch;
        for _ in 0..PASSES_MAX {
            tick(&fake, &policy);
        }
        for call in ["Compute::request_drain", "Compute::terminate", "Registry::deregister"] {
            assert_eq!(fake.calls_of(call), 0, "{case}: {call}");
        }
    }
}

#[test]
fn github_refusing_a_delete_is_remembered_for_good() {
    let fake = Fake::new();
    idle_runner(&fake);
    // GitHub shows it idle whenever asked and knows better when told to delete it.
    let shown_idle = runner();
    let deregistered = minutes_until(&fake, |fake| {
        let record = fake.get::<InstanceRecord>("i-1").expect("a record");
        if record.drain_requested_at.is_some_and(|at| fake.now().since(at) >= 4 * MINUTE) {
            let calls = fake.calls();
            // The job comes right before the DELETE: after the pass's last call that reads.
            for call in calls..calls + 40 {
                let shown = shown_idle.clone();
                fake.meanwhile(call, move |fake| {
                    let deleting = fake.get::<InstanceRecord>("i-1").is_some_and(|r| r.deregister_intent.is_some());
                    for (_, runner) in &mut fake.state_mut().runners {
                        runner.busy = deleting || shown.busy;
                    }
                });
            }
        }
        record.busy_seen_at.is_some()
    });
    assert!(deregistered.is_some(), "refused");
    assert_eq!(fake.state().runners.len(), 1);
    fake.state_mut().runners[0].1.busy = false;
    assert_eq!(minutes_until_ended(&fake), None, "idle readings do not clear it");
    assert_eq!(fake.calls_of("Registry::deregister"), 1);
}

#[test]
fn a_living_supervisor_is_asked_and_never_overruled() {
    let fake = Fake::new();
    idle_runner(&fake);
    for _ in 0..PASSES_MAX {
        let sign = VitalSign { beat_at: fake.now(), worker: Worker::None };
        fake.state_mut().vital_signs.insert(id(), sign);
        tick(&fake, &policy());
    }
    assert!(fake.calls_of("Compute::request_drain") > 1, "renewed");
    assert_eq!(fake.calls_of("Registry::deregister") + fake.calls_of("Compute::terminate"), 0);
    assert_eq!(fake.calls_of("RegistryRead::runner"), 0, "GitHub is not asked about it");
    assert_eq!(fake.calls_of("RegistryRead::runners"), PASSES_MAX / 15, "only for registrations without an instance");
}

#[test]
fn no_drain_while_a_matching_job_waits() {
    let fake = Fake::new();
    idle_runner(&fake);
    for _ in 0..PASSES_MAX {
        fake.put(&waiting_job(fake.now()));
        tick(&fake, &policy());
    }
    assert_eq!(fake.calls_of("Compute::request_drain"), 0);
    assert_eq!(fake.state().runners.len(), 1);
}

#[test]
fn look_alikes_and_bypassed_instances_are_never_touched() {
    for (case, bypass) in [("a tag alone", false), ("bypass", true)] {
        let fake = Fake::new();
        put_instance(&fake, &id());
        fake.put_runner(&access().scope, runner());
        if bypass {
            fake.put(&record(&fake));
            fake.retag(&id(), |tags| {
                tags.insert("ghr:bypass-removal".into(), "true".into());
            });
        }
        fake.pass(Duration::from_secs(6 * 24 * 3_600));
        tick(&fake, &policy());
        tick(&fake, &policy());
        for call in ["Compute::request_drain", "Compute::terminate", "Registry::deregister"] {
            assert_eq!(fake.calls_of(call), 0, "{case}: {call}");
        }
    }
}

#[test]
fn one_pass_ends_no_more_than_its_cap() {
    let fake = Fake::new();
    for number in 0..30 {
        let id = InstanceId::new(format!("i-{number:03x}"));
        put_fallen_silent(&fake, &id);
        let mut record = record(&fake);
        record.instance_id = id;
        record.runner_name = RunnerName::new(format!("runner-i-{number:03x}"));
        record.jit_intent_at = None;
        record.runner_id = None;
        fake.put(&record);
    }
    fake.pass(20 * MINUTE);
    let report = sweep(&fake, &policy()).expect("not killed").expect("no errors");
    assert_eq!(report.terminated.get(&Ground::NeverConnected), Some(&7), "a quarter of 30");
    assert_eq!(report.overflow_count, 23);
}

/// A case, how it comes about, and the ground on which its instance is ended.
type Orphan = (&'static str, fn(&Fake), Ground);

/// How an instance came to need the sweeper, and the ground on which it is ended.
fn orphans() -> Vec<Orphan> {
    vec![
        (
            "row 12: its job completed and it runs on",
            |fake| {
                idle_runner(fake);
                let mut record = record(fake);
                record.note_started(started());
                record.note_completed(crate::ledger::JobCompleted { job_id: JobId(1), at: fake.now() }, RunnerId(7));
                fake.put(&record);
            },
            Ground::JobCompleted,
        ),
        (
            "row 18: registered and never connected",
            |fake| {
                idle_runner(fake);
                let runner = &mut fake.state_mut().runners[0].1;
                runner.online = false;
                runner.version = Some(None);
            },
            Ground::NeverConnected,
        ),
        (
            "row 23: launched and never registered",
            |fake| {
                put_instance(fake, &id());
                let mut record = record(fake);
                record.jit_intent_at = None;
                record.runner_id = None;
                fake.put(&record);
            },
            Ground::NeverConnected,
        ),
        ("row 20: idle, its supervisor dead", idle_runner, Ground::IdleAfterDeregistration),
    ]
}

#[test]
fn every_orphan_is_ended_on_its_ground_and_leaves_nothing() {
    for (case, make, ground) in orphans() {
        let fake = Fake::new();
        make(&fake);
        assert!(minutes_until_ended(&fake).is_some(), "{case}");
        assert_eq!(grounds(&fake), [ground], "{case}");
        fake.set_instance_state(&id(), InstanceState::Terminated);
        let closed = |fake: &Fake| fake.get::<InstanceRecord>("i-1").is_some_and(|r| r.cleaned_at.is_some());
        assert!(minutes_until(&fake, closed).is_some(), "{case}: closed");
        assert!(fake.state().runners.is_empty() && fake.state().parameters.is_empty(), "{case}: nothing left");
    }
}

#[test]
fn the_hard_age_ends_an_instance_though_github_is_down() {
    let fake = Fake::new();
    idle_runner(&fake);
    job_starts(&fake);
    for call in ["RegistryRead::runners", "RegistryRead::runner", "DeliveryLog::failed_deliveries_since", "Jobs::job"] {
        fake.always_fail(call, Class::Transient);
    }
    fake.pass(Duration::from_secs(5 * 24 * 3_600));
    tick(&fake, &policy());
    assert!(grounds(&fake).is_empty(), "GitHub lets a job run for five days");
    fake.pass(Duration::from_secs(4 * 3_600));
    tick(&fake, &policy());
    assert_eq!(grounds(&fake), [Ground::HardAge]);
}

#[test]
fn an_instance_without_record_is_rebuilt_and_then_only_drained() {
    let fake = Fake::new();
    put_instance(&fake, &id());
    fake.retag(&id(), |tags| {
        tags.insert("aws:ec2launchtemplate:id".into(), "lt-1".into());
    });
    fake.put_runner(&access().scope, runner());
    for _ in 0..PASSES_MAX {
        tick(&fake, &policy());
    }
    assert!(fake.get::<InstanceRecord>("i-1").is_some_and(|record| record.runner_id == Some(RunnerId(7))));
    assert!(fake.calls_of("Compute::request_drain") > 0);
    assert_eq!(fake.calls_of("Registry::deregister") + fake.calls_of("Compute::terminate"), 0);
}
