//! Every combination of evidence through `decide`: what must never be concluded, and what each row of the decision
//! table concludes.

mod axes;
mod lattice;
mod regions;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use runner_scaler_core::config::{Environment, HARD_AGE, Policy, parse_policy};
use runner_scaler_core::evidence::{
    AssignedJob, DeliveryEvidence, DemandEvidence, Evidence, Heard, JobsEvidence, Ownership, PositiveControl,
    RecordEvidence, RegistrationEvidence, VitalEvidence, Witness,
};
use runner_scaler_core::ids::{
    Access, FleetName, InstanceId, JobId, LaunchToken, Repository, RunnerId, RunnerName, Scope,
};
use runner_scaler_core::ledger::{
    DeregistrationOutcome, Elsewhere, InstanceRecord, JobCompleted, JobStarted, Origin, RemovalIntent, Spell, Versioned,
};
use runner_scaler_core::ports::{Instance, InstanceState, Runner, VitalSign, Worker};
use runner_scaler_core::removal::{Deregisterable, DeregistrationGround, Ground, Terminable};
use runner_scaler_core::time::Timestamp;
use runner_scaler_core::verdict::{Action, Note, Reason, Source, Verdict, Veto, decide};

/// Far enough from the launch that every timer but the hard age has run out.
const NOW: Timestamp = Timestamp(100 * 3_600_000);
const LONG_AGO: Timestamp = Timestamp(90 * 3_600_000);
const JUST_NOW: Timestamp = Timestamp(100 * 3_600_000 - 1_000);

#[expect(clippy::disallowed_methods, reason = "a test's own environment, not a function's")]
fn mutant_name() -> Option<String> {
    std::env::var("RUNNER_SCALER_MUTANT").ok()
}

fn policy() -> Policy {
    let environment = Environment::from_vars(|name| match name {
        "GITHUB_POINTS_PER_MINUTE" => None,
        // A mutant is accepted on this machine alone; `tests/mutants` names one.
        "GITHUB_API_URL" | "AWS_ENDPOINT_URL" => Some("http://127.0.0.1:1".into()),
        "RUNNER_SCALER_MUTANT" => mutant_name(),
        "ENVIRONMENT" => Some("prod".into()),
        _ => Some("x".into()),
    })
    .expect("complete");
    let document = r#"{"fleets": [{"name": "linux", "labels": ["linux"], "runner_count_max": 5, "market": "spot",
        "launch_template": {"id": "lt-1", "version": "2"}, "instance_types": ["m7i.large"], "subnet_ids": ["s"]}]}"#;
    parse_policy(document, &environment).expect("valid")
}

fn record() -> InstanceRecord {
    let mut record = InstanceRecord::launched(
        InstanceId::new("i-1"),
        Access { scope: Scope::Organization { owner: "octo".into() }, installation_id: None },
        FleetName::new("linux"),
        LaunchToken::new("token"),
        RunnerName::new("runner-i-1"),
        Timestamp(0),
    );
    record.jit_intent_at = Some(Timestamp(1));
    record.note_runner_id(RunnerId(7));
    record
}

fn started(runner_id: Option<RunnerId>) -> JobStarted {
    let repository = Repository::try_from("octo/hello".to_owned()).expect("a full name");
    JobStarted { job_id: JobId(1), repository, at: LONG_AGO, runner_id }
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

fn evidence(record: InstanceRecord) -> Evidence {
    Evidence {
        instance: Instance {
            id: InstanceId::new("i-1"),
            state: InstanceState::Running,
            launched_at: Timestamp(0),
            tags: Arc::default(),
        },
        ownership: Ownership::Ours,
        record: RecordEvidence::Present(Box::new(Versioned::new(record))),
        vital_sign: VitalEvidence::Never,
        demand: DemandEvidence::Quiet,
        registration: RegistrationEvidence::NotAsked,
        heard: Heard { from: Witness::Runner, at: NOW },
        control: PositiveControl::Held,
        deliveries: DeliveryEvidence::Settled,
        jobs: JobsEvidence::NoneOnRunner,
        rechecked_at: NOW,
        assigned_job: AssignedJob::NotAsked,
    }
}

/// One way to change a record away from "launched, registered, nothing happened".
type Change = fn(&mut InstanceRecord);

fn job_histories() -> Vec<(&'static str, Change)> {
    vec![
        ("no job", |_| {}),
        ("started by name", |r| r.job_started = Some(started(None))),
        ("started", |r| r.job_started = Some(started(Some(RunnerId(7))))),
        ("completed long ago", |r| {
            r.job_started = Some(started(Some(RunnerId(7))));
            r.job_completed = Some(JobCompleted { job_id: JobId(1), at: LONG_AGO });
        }),
        ("completed just now", |r| {
            r.job_started = Some(started(Some(RunnerId(7))));
            r.job_completed = Some(JobCompleted { job_id: JobId(1), at: JUST_NOW });
        }),
        ("completion without a start", |r| {
            r.note_completed(JobCompleted { job_id: JobId(1), at: LONG_AGO }, RunnerId(7));
        }),
        ("busy seen", |r| r.busy_seen_at = Some(LONG_AGO)),
        ("shown elsewhere long ago", |r| {
            r.job_started = Some(started(Some(RunnerId(7))));
            r.elsewhere = Some(Elsewhere { job_id: JobId(1), since: LONG_AGO });
        }),
    ]
}

fn removal_histories() -> Vec<(&'static str, Change)> {
    vec![
        ("untouched", |_| {}),
        ("no runner id, no intent", |r| {
            r.runner_id = None;
            r.jit_intent_at = None;
        }),
        ("no runner id, intent", |r| r.runner_id = None),
        ("idle long, drain unanswered", |r| {
            r.idle_since = Some(LONG_AGO);
            r.idle_seen_at = Some(JUST_NOW);
            r.drain_requested_at = Some(LONG_AGO);
        }),
        ("idle just now, drain unanswered", |r| {
            r.idle_since = Some(JUST_NOW);
            r.idle_seen_at = Some(JUST_NOW);
            r.drain_requested_at = Some(LONG_AGO);
        }),
        ("drain just requested", |r| {
            r.idle_since = Some(LONG_AGO);
            r.idle_seen_at = Some(JUST_NOW);
            r.drain_requested_at = Some(JUST_NOW);
        }),
        ("deregistration begun", |r| {
            r.deregister_intent = Some(RemovalIntent { at: LONG_AGO, ground: DeregistrationGround::Idle });
        }),
        ("deregistered long ago", |r| deregistered(r, DeregistrationGround::Idle, LONG_AGO)),
        ("deregistered just now", |r| deregistered(r, DeregistrationGround::Idle, JUST_NOW)),
        ("deregistered as never connected", |r| deregistered(r, DeregistrationGround::NeverConnected, LONG_AGO)),
        ("deregistered in doubt", |r| {
            deregistered(r, DeregistrationGround::Idle, NOW.minus(Duration::from_secs(600)));
            r.deregistration = Some(DeregistrationOutcome::Unconfirmed);
        }),
        ("deregistered as offline", |r| deregistered(r, DeregistrationGround::Offline, LONG_AGO)),
        ("deregistered as stopped", |r| deregistered(r, DeregistrationGround::Stopped, LONG_AGO)),
        ("deregistration in hand", |r| {
            r.deregister_intent = Some(RemovalIntent { at: JUST_NOW, ground: DeregistrationGround::Idle });
        }),
        ("termination in hand", |r| {
            r.terminate_intent = Some(RemovalIntent { at: JUST_NOW, ground: Ground::IdleAfterDeregistration });
        }),
        ("absent for long", |r| r.absent = Some(Spell { since: LONG_AGO, last: JUST_NOW, sweeps: Spell::SWEEPS })),
        ("absent for long, a while ago", |r| {
            r.absent = Some(Spell { since: LONG_AGO, last: LONG_AGO, sweeps: Spell::SWEEPS });
        }),
        ("absent for long, two sweeps", |r| r.absent = Some(Spell { since: LONG_AGO, last: JUST_NOW, sweeps: 2 })),
        ("absent for a short while", |r| {
            r.absent = Some(Spell { since: JUST_NOW, last: JUST_NOW, sweeps: Spell::SWEEPS });
        }),
        ("offline for long", |r| r.offline = Some(Spell { since: LONG_AGO, last: JUST_NOW, sweeps: Spell::SWEEPS })),
        ("stopped long ago", |r| r.stopped_since = Some(LONG_AGO)),
        ("protected a short while ago", |r| {
            deregistered(r, DeregistrationGround::Idle, LONG_AGO);
            r.protected_at = Some(JUST_NOW);
        }),
        ("gone", |r| r.gone_at = Some(LONG_AGO)),
        ("missed long ago, gone by that", |r| {
            r.missing_since = Some(LONG_AGO);
            r.gone_at = Some(LONG_AGO);
        }),
    ]
}

fn deregistered(record: &mut InstanceRecord, ground: DeregistrationGround, at: Timestamp) {
    record.deregister_intent = Some(RemovalIntent { at, ground });
    record.deregistered_at = Some(at);
    record.deregistration = Some(DeregistrationOutcome::Confirmed);
}

fn registrations() -> Vec<RegistrationEvidence> {
    let present = |change: fn(&mut Runner)| {
        let mut runner = runner();
        change(&mut runner);
        RegistrationEvidence::Present(runner)
    };
    vec![
        RegistrationEvidence::NotAsked,
        RegistrationEvidence::Unread,
        RegistrationEvidence::Denied,
        RegistrationEvidence::Absent,
        present(|_| {}),
        present(|r| r.busy = true),
        present(|r| r.online = false),
        present(|r| {
            r.online = false;
            r.busy = true;
        }),
        present(|r| {
            r.online = false;
            r.version = Some(None);
        }),
        present(|r| {
            r.online = false;
            r.version = None;
        }),
        present(|r| r.name = RunnerName::new("somebody-else")),
    ]
}

fn vital_signs() -> Vec<VitalEvidence> {
    let sign = |beat_at, worker| VitalEvidence::Sign(VitalSign { beat_at, worker });
    vec![
        VitalEvidence::Unread,
        VitalEvidence::Never,
        sign(JUST_NOW, Worker::None),
        sign(LONG_AGO, Worker::None),
        sign(LONG_AGO, Worker::Acquiring),
        sign(LONG_AGO, Worker::Running),
        sign(LONG_AGO, Worker::Unrecognised),
    ]
}

fn records() -> Vec<(String, RecordEvidence)> {
    let known = job_histories().into_iter().flat_map(|(job, change_job)| {
        removal_histories().into_iter().flat_map(move |(removal, change)| {
            [Origin::Launch, Origin::Rebuilt { at: LONG_AGO }].map(|origin| {
                let mut record = record();
                change(&mut record);
                change_job(&mut record);
                record.origin = origin;
                let name = format!("{job}, {removal}, {origin:?}");
                (name, RecordEvidence::Present(Box::new(Versioned::new(record))))
            })
        })
    });
    let unknown = [
        ("unread".to_owned(), RecordEvidence::Unread),
        ("absent".to_owned(), RecordEvidence::Absent),
        ("foreign".to_owned(), RecordEvidence::Foreign),
    ];
    known.chain(unknown).collect()
}

/// Positive control, deliveries and the jobs API, as they come about together.
const SETTLED: [(PositiveControl, DeliveryEvidence, JobsEvidence); 10] = [
    (PositiveControl::NotAsked, DeliveryEvidence::NotAsked, JobsEvidence::NotAsked),
    (PositiveControl::Unanswered, DeliveryEvidence::Settled, JobsEvidence::NoneOnRunner),
    (PositiveControl::Denied, DeliveryEvidence::Settled, JobsEvidence::NoneOnRunner),
    (PositiveControl::MassAbsence, DeliveryEvidence::Settled, JobsEvidence::NoneOnRunner),
    (PositiveControl::Held, DeliveryEvidence::NotAsked, JobsEvidence::NotAsked),
    (PositiveControl::Held, DeliveryEvidence::Unsettled, JobsEvidence::NoneOnRunner),
    (PositiveControl::Held, DeliveryEvidence::Settled, JobsEvidence::Unread),
    (PositiveControl::Held, DeliveryEvidence::Settled, JobsEvidence::OnRunner(JobId(9))),
    (PositiveControl::Held, DeliveryEvidence::Settled, JobsEvidence::NoneOnRunner),
    (PositiveControl::Cautious, DeliveryEvidence::Settled, JobsEvidence::NoneOnRunner),
];

const ASSIGNED: [AssignedJob; 6] = [
    AssignedJob::NotAsked,
    AssignedJob::Unread,
    AssignedJob::Denied,
    AssignedJob::Here,
    AssignedJob::Elsewhere,
    AssignedJob::Completed,
];

/// The combinations in which the runner was read by itself, the instance runs and nobody waits: those that a property
/// can be tried on at several times or with several changes.
fn living_combinations(mut check: impl FnMut(&mut Evidence, &str)) {
    for (name, record) in records() {
        for registration in registrations() {
            for vital_sign in vital_signs() {
                for (control, deliveries, jobs) in SETTLED {
                    for assigned_job in ASSIGNED {
                        let mut evidence = evidence(self::record());
                        evidence.record = record.clone();
                        evidence.registration = registration.clone();
                        evidence.vital_sign = vital_sign;
                        evidence.control = control;
                        evidence.deliveries = deliveries;
                        evidence.jobs = jobs;
                        evidence.assigned_job = assigned_job;
                        check(&mut evidence, &name);
                    }
                }
            }
        }
    }
}

fn is_destructive(verdict: Verdict) -> bool {
    match verdict.action {
        Action::Deregister(_, _) | Action::Terminate(_) => true,
        Action::Keep | Action::Look(_) | Action::Note(_) | Action::Rebuild | Action::Drain | Action::CleanUp => false,
    }
}

#[test]
fn an_act_has_a_proof_and_nothing_else_has() {
    let policy = policy();
    living_combinations(|evidence, name| {
        let verdict = decide(evidence, &policy, NOW);
        let terminable = Terminable::establish(evidence, &policy, NOW).is_some();
        let deregisterable = Deregisterable::establish(evidence, &policy, NOW).is_some();
        assert_eq!(terminable, matches!(verdict.action, Action::Terminate(_)), "{name}");
        assert_eq!(deregisterable, matches!(verdict.action, Action::Deregister(_, _)), "{name}");
    });
}

#[test]
fn until_the_next_look_time_alone_changes_nothing() {
    let policy = policy();
    let mut changes = 0_u64;
    living_combinations(|evidence, name| {
        let verdict = decide(evidence, &policy, NOW);
        let before = verdict.next_look.map_or(NOW.plus(Duration::from_hours(10_000)), |at| Timestamp(at.0 - 1));
        let at_last = decide(evidence, &policy, before);
        assert_eq!(
            (verdict.action, verdict.reason, verdict.next_look),
            (at_last.action, at_last.reason, at_last.next_look),
            "{name}"
        );
        assert!(verdict.next_look.is_none_or(|at| at > NOW), "{name}: {verdict:?}");
        let then = verdict.next_look.map(|at| decide(evidence, &policy, at));
        changes += u64::from(then.is_some_and(|then| (then.action, then.reason) != (verdict.action, verdict.reason)));
    });
    assert!(changes > 1_000, "looked again in vain but for {changes} times");
}

#[test]
fn the_hard_age_asks_nobody() {
    let policy = policy();
    let old = Timestamp(0).plus(HARD_AGE).plus(Duration::from_secs(3_600));
    for (case, change, expected) in [
        ("a running job outranks idle age", Some(started(None)), Action::Keep),
        ("no job", None, Action::Terminate(Ground::HardAge)),
    ] {
        let mut record = record();
        record.job_started = change;
        let mut evidence = evidence(record);
        evidence.vital_sign = VitalEvidence::Unread;
        evidence.registration = RegistrationEvidence::Unread;
        evidence.control = PositiveControl::Unanswered;
        assert_eq!(decide(&evidence, &policy, old).action, expected, "{case}");
        let at_last = LONG_AGO.plus(HARD_AGE);
        assert_eq!(decide(&evidence, &policy, at_last).action, Action::Terminate(Ground::HardAge), "{case}, at last");
    }
}

/// A row, how its record differs, GitHub's word, and what follows.
type Case = (&'static str, Box<dyn Fn(&mut InstanceRecord)>, RegistrationEvidence, Action, Reason);

#[test]
#[expect(clippy::too_many_lines, reason = "one flat table")]
fn each_row_concludes_what_the_table_says() {
    let policy = policy();
    let present = |runner: Runner| RegistrationEvidence::Present(runner);
    let never_connected = Runner { online: false, version: Some(None), ..runner() };
    let drained = |r: &mut InstanceRecord| {
        r.idle_since = Some(LONG_AGO);
        r.idle_seen_at = Some(JUST_NOW);
        r.drain_requested_at = Some(LONG_AGO);
    };
    let rows: Vec<Case> = vec![
        (
            "5: busy is believed and remembered",
            Box::new(drained),
            present(Runner { busy: true, ..runner() }),
            Action::Note(Note::Busy),
            Reason::BusyNow,
        ),
        (
            "8: a started job keeps an instance that GitHub shows idle, and the jobs API is asked",
            Box::new(|r| r.job_started = Some(started(Some(RunnerId(7))))),
            present(runner()),
            Action::Look(Source::Job),
            Reason::JobRunning,
        ),
        (
            "12: completed and still registered",
            Box::new(|r| {
                r.job_started = Some(started(Some(RunnerId(7))));
                r.job_completed = Some(JobCompleted { job_id: JobId(1), at: LONG_AGO });
            }),
            present(runner()),
            Action::Deregister(RunnerId(7), DeregistrationGround::JobCompleted),
            Reason::JobCompleted,
        ),
        (
            "12: completed and no longer registered",
            Box::new(|r| {
                r.job_started = Some(started(Some(RunnerId(7))));
                r.job_completed = Some(JobCompleted { job_id: JobId(1), at: LONG_AGO });
            }),
            RegistrationEvidence::Absent,
            Action::Terminate(Ground::JobCompleted),
            Reason::JobCompleted,
        ),
        (
            "14: deregistered by us, quarantine over",
            Box::new(|r| deregistered(r, DeregistrationGround::Idle, LONG_AGO)),
            RegistrationEvidence::Absent,
            Action::Terminate(Ground::IdleAfterDeregistration),
            Reason::IdleAfterDeregistration,
        ),
        (
            "15: a job surfaced in the quarantine",
            Box::new(|r| {
                deregistered(r, DeregistrationGround::Idle, LONG_AGO);
                r.job_started = Some(started(Some(RunnerId(7))));
            }),
            RegistrationEvidence::Absent,
            Action::Look(Source::Job),
            Reason::JobSurfaced,
        ),
        (
            "16 not yet: not registered for the first time, and it was not us",
            Box::new(|_| {}),
            RegistrationEvidence::Absent,
            Action::Note(Note::Absent),
            Reason::RegistrationAbsent,
        ),
        (
            "16: not registered for long",
            Box::new(|r| r.absent = Some(Spell { since: LONG_AGO, last: JUST_NOW, sweeps: 3 })),
            RegistrationEvidence::Absent,
            Action::Terminate(Ground::RegistrationGone),
            Reason::RegistrationGone,
        ),
        (
            "18: registered and never connected",
            Box::new(|_| {}),
            present(never_connected.clone()),
            Action::Deregister(RunnerId(7), DeregistrationGround::NeverConnected),
            Reason::NeverConnected,
        ),
        (
            "18 not: GitHub does not tell the version",
            Box::new(|_| {}),
            present(Runner { version: None, ..never_connected }),
            Action::Note(Note::Offline),
            Reason::Offline,
        ),
        (
            "19 not yet: offline and it has been online",
            Box::new(drained),
            present(Runner { online: false, ..runner() }),
            Action::Note(Note::Offline),
            Reason::Offline,
        ),
        (
            "19: offline for long",
            Box::new(|r| r.offline = Some(Spell { since: LONG_AGO, last: JUST_NOW, sweeps: 3 })),
            present(Runner { online: false, ..runner() }),
            Action::Deregister(RunnerId(7), DeregistrationGround::Offline),
            Reason::OfflineConfirmed,
        ),
        (
            "20: idle over the window, drain unanswered",
            Box::new(drained),
            present(runner()),
            Action::Deregister(RunnerId(7), DeregistrationGround::Idle),
            Reason::IdleConfirmed,
        ),
        (
            "21: idle for the first time",
            Box::new(|_| {}),
            present(runner()),
            Action::Note(Note::Idle),
            Reason::IdleTooShort,
        ),
        (
            "22: a configuration may exist",
            Box::new(|r| r.runner_id = None),
            RegistrationEvidence::Absent,
            Action::Note(Note::Absent),
            Reason::RegistrationAbsent,
        ),
        (
            "22: found by name",
            Box::new(|r| r.runner_id = None),
            present(runner()),
            Action::Note(Note::RunnerId(RunnerId(7))),
            Reason::RunnerFound,
        ),
        (
            "23: no configuration can exist",
            Box::new(|r| {
                r.runner_id = None;
                r.jit_intent_at = None;
            }),
            RegistrationEvidence::Absent,
            Action::Terminate(Ground::NeverConnected),
            Reason::NeverConnected,
        ),
        (
            "24: on a rebuilt record a missing intent is unread",
            Box::new(|r| {
                r.runner_id = None;
                r.jit_intent_at = None;
                r.origin = Origin::Rebuilt { at: LONG_AGO };
            }),
            RegistrationEvidence::Absent,
            Action::Keep,
            Reason::ConfigurationUnaccounted,
        ),
        (
            "a surplus instance is asked for its registration first",
            Box::new(|_| {}),
            RegistrationEvidence::NotAsked,
            Action::Look(Source::Registrations),
            Reason::Surplus,
        ),
        (
            "a surplus instance known to be idle is drained",
            Box::new(|r| {
                r.idle_since = Some(LONG_AGO);
                r.idle_seen_at = Some(JUST_NOW);
            }),
            present(runner()),
            Action::Drain,
            Reason::Surplus,
        ),
    ];
    for (case, change, registration, action, reason) in rows {
        let mut record = record();
        change(&mut record);
        let mut evidence = evidence(record);
        evidence.registration = registration;
        let verdict = decide(&evidence, &policy, NOW);
        assert_eq!((verdict.action, verdict.reason), (action, reason), "{case}");
    }
}

#[test]
fn a_living_supervisor_is_asked_to_drain_and_github_is_not_asked_at_all() {
    let policy = policy();
    let mut evidence = evidence(record());
    evidence.vital_sign = VitalEvidence::Sign(VitalSign { beat_at: JUST_NOW, worker: Worker::None });
    assert_eq!(decide(&evidence, &policy, NOW).action, Action::Drain);
    evidence.demand = DemandEvidence::Waiting;
    assert_eq!(decide(&evidence, &policy, NOW).reason, Reason::Wanted);
    evidence.demand = DemandEvidence::Unwanted;
    assert_eq!(decide(&evidence, &policy, NOW).action, Action::Drain);
}

/// What the jobs API says of a job that started here, GitHub's word on the runner, and what follows.
#[test]
fn the_jobs_api_settles_a_job_whose_end_was_lost() {
    let policy = policy();
    let present = |online, busy| RegistrationEvidence::Present(Runner { online, busy, ..runner() });
    let absent = || RegistrationEvidence::Absent;
    for (case, elsewhere, registration, assigned_job, action, reason) in [
        (
            "5: busy and online",
            None,
            present(true, true),
            AssignedJob::NotAsked,
            Action::Note(Note::Busy),
            Reason::BusyNow,
        ),
        (
            "6: busy and offline",
            None,
            present(false, true),
            AssignedJob::NotAsked,
            Action::Look(Source::Job),
            Reason::JobRunning,
        ),
        ("8: in progress here", None, absent(), AssignedJob::Here, Action::Keep, Reason::JobRunning),
        (
            "7, 9: completed here",
            None,
            present(false, true),
            AssignedJob::Completed,
            Action::Note(Note::JobCompleted),
            Reason::CompletedRecently,
        ),
        (
            "10: elsewhere for the first time",
            None,
            absent(),
            AssignedJob::Elsewhere,
            Action::Note(Note::JobElsewhere),
            Reason::JobElsewhere,
        ),
        ("10 not yet", Some(JUST_NOW), absent(), AssignedJob::Elsewhere, Action::Keep, Reason::JobElsewhere),
        (
            "10: elsewhere throughout the window",
            Some(LONG_AGO),
            absent(),
            AssignedJob::Elsewhere,
            Action::Note(Note::JobDropped),
            Reason::JobElsewhere,
        ),
        (
            "10 not: it is here after all",
            Some(LONG_AGO),
            absent(),
            AssignedJob::Here,
            Action::Note(Note::JobHere),
            Reason::JobRunning,
        ),
        ("11: 404 or an error", None, absent(), AssignedJob::Unread, Action::Keep, Reason::JobUnread),
    ] {
        let mut record = record();
        record.job_started = Some(started(Some(RunnerId(7))));
        record.elsewhere = elsewhere.map(|since| Elsewhere { job_id: JobId(1), since });
        let mut evidence = evidence(record);
        evidence.registration = registration;
        evidence.assigned_job = assigned_job;
        let verdict = decide(&evidence, &policy, NOW);
        assert_eq!((verdict.action, verdict.reason), (action, reason), "{case}");
    }
}

#[test]
fn a_machine_lost_in_mid_job_is_ended_once_its_job_is_over_though_github_holds_it_busy() {
    let policy = policy();
    for (case, assigned_job, action) in [
        ("7: the jobs API is asked", AssignedJob::NotAsked, Action::Look(Source::Job)),
        ("7: it says so", AssignedJob::Completed, Action::Terminate(Ground::JobCompleted)),
        ("7 not: it does not answer", AssignedJob::Unread, Action::Keep),
        ("7 not: it says otherwise", AssignedJob::Here, Action::Keep),
    ] {
        let mut record = record();
        record.job_started = Some(started(Some(RunnerId(7))));
        record.job_completed = Some(JobCompleted { job_id: JobId(1), at: LONG_AGO });
        let mut evidence = evidence(record);
        evidence.registration = RegistrationEvidence::Present(Runner { online: false, busy: true, ..runner() });
        evidence.assigned_job = assigned_job;
        assert_eq!(decide(&evidence, &policy, NOW).action, action, "{case}");
    }
}

#[test]
fn a_stopped_instance_is_removed_after_two_readings_far_apart() {
    let policy = policy();
    for (case, since, registration, action) in [
        ("25: first reading", None, RegistrationEvidence::NotAsked, Action::Note(Note::Stopped)),
        ("25 not yet", Some(JUST_NOW), RegistrationEvidence::NotAsked, Action::Keep),
        ("25: asked", Some(LONG_AGO), RegistrationEvidence::NotAsked, Action::Look(Source::Registrations)),
        (
            "25: still registered",
            Some(LONG_AGO),
            RegistrationEvidence::Present(runner()),
            Action::Deregister(RunnerId(7), DeregistrationGround::Stopped),
        ),
        ("25: no longer", Some(LONG_AGO), RegistrationEvidence::Absent, Action::Terminate(Ground::Stopped)),
    ] {
        let mut record = record();
        record.stopped_since = since;
        let mut evidence = evidence(record);
        evidence.instance.state = InstanceState::Stopped;
        evidence.registration = registration;
        assert_eq!(decide(&evidence, &policy, NOW).action, action, "{case}");
        evidence.instance.state = InstanceState::Running;
        let running = decide(&evidence, &policy, NOW);
        assert!(since.is_none() || running.action == Action::Note(Note::Running), "{case}: {running:?}");
    }
}

/// An instance's clock may run ahead of ours by minutes; what it says then is news, not history.
#[test]
fn a_clock_that_runs_ahead_makes_nothing_old() {
    let policy = policy();
    for ahead_seconds in [1, 600, 86_400] {
        let mut record = record();
        deregistered(&mut record, DeregistrationGround::Idle, LONG_AGO);
        let mut evidence = evidence(record);
        evidence.registration = RegistrationEvidence::Absent;
        assert_eq!(decide(&evidence, &policy, NOW).action, Action::Terminate(Ground::IdleAfterDeregistration));
        let beat_at = NOW.plus(Duration::from_secs(ahead_seconds));
        evidence.vital_sign = VitalEvidence::Sign(VitalSign { beat_at, worker: Worker::None });
        let verdict = decide(&evidence, &policy, NOW);
        assert_eq!(
            (verdict.action, verdict.reason),
            (Action::Keep, Reason::SupervisorAlive),
            "{ahead_seconds} s ahead"
        );
    }
}
