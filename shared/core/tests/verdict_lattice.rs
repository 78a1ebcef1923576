//! Every combination of evidence through `decide`: what must never be concluded, and what each row of the decision
//! table concludes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use runner_scaler_core::config::{Environment, HARD_AGE, Policy, parse_policy};
use runner_scaler_core::evidence::{
    DeliveryEvidence, DemandEvidence, Evidence, JobsEvidence, Ownership, PositiveControl, RecordEvidence,
    RegistrationEvidence, VitalEvidence,
};
use runner_scaler_core::ids::{
    Access, FleetName, InstanceId, JobId, LaunchToken, Repository, RunnerId, RunnerName, Scope,
};
use runner_scaler_core::ledger::{
    DeregistrationOutcome, InstanceRecord, JobCompleted, JobStarted, Origin, RemovalIntent, Versioned,
};
use runner_scaler_core::ports::{Instance, InstanceState, Runner, VitalSign, Worker};
use runner_scaler_core::removal::{Deregisterable, DeregistrationGround, Ground, Terminable};
use runner_scaler_core::time::Timestamp;
use runner_scaler_core::verdict::{Action, Note, Reason, Source, decide};

/// Far enough from the launch that every timer but the hard age has run out.
const NOW: Timestamp = Timestamp(100 * 3_600_000);
const LONG_AGO: Timestamp = Timestamp(90 * 3_600_000);
const JUST_NOW: Timestamp = Timestamp(100 * 3_600_000 - 1_000);

fn policy() -> Policy {
    let environment = Environment::from_vars(|name| match name {
        "GITHUB_API_URL" | "RUNNER_SCALER_MUTANT" => None,
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
            tags: BTreeMap::new(),
        },
        ownership: Ownership::Ours,
        record: RecordEvidence::Present(Box::new(Versioned::new(record))),
        vital_sign: VitalEvidence::Never,
        demand: DemandEvidence::Quiet,
        registration: RegistrationEvidence::NotAsked,
        control: PositiveControl::Held,
        deliveries: DeliveryEvidence::Settled,
        jobs: JobsEvidence::NoneOnRunner,
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
            r.drain_requested_at = Some(LONG_AGO);
        }),
        ("idle just now, drain unanswered", |r| {
            r.idle_since = Some(JUST_NOW);
            r.drain_requested_at = Some(LONG_AGO);
        }),
        ("drain just requested", |r| {
            r.idle_since = Some(LONG_AGO);
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
        ("gone", |r| r.gone_at = Some(LONG_AGO)),
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

/// Calls `check` with every combination.
fn every_combination(mut check: impl FnMut(&Evidence, &str)) {
    let records: Vec<(String, RecordEvidence)> = job_histories()
        .into_iter()
        .flat_map(|(job, change_job)| {
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
        })
        .chain([
            ("unread".to_owned(), RecordEvidence::Unread),
            ("absent".to_owned(), RecordEvidence::Absent),
            ("foreign".to_owned(), RecordEvidence::Foreign),
        ])
        .collect();
    let settled = [
        (PositiveControl::NotAsked, DeliveryEvidence::NotAsked, JobsEvidence::NotAsked),
        (PositiveControl::Unanswered, DeliveryEvidence::Settled, JobsEvidence::NoneOnRunner),
        (PositiveControl::MassAbsence, DeliveryEvidence::Settled, JobsEvidence::NoneOnRunner),
        (PositiveControl::Held, DeliveryEvidence::NotAsked, JobsEvidence::NotAsked),
        (PositiveControl::Held, DeliveryEvidence::Unsettled, JobsEvidence::NoneOnRunner),
        (PositiveControl::Held, DeliveryEvidence::Settled, JobsEvidence::Unread),
        (PositiveControl::Held, DeliveryEvidence::Settled, JobsEvidence::OnRunner(JobId(9))),
        (PositiveControl::Held, DeliveryEvidence::Settled, JobsEvidence::NoneOnRunner),
    ];
    let demands = [
        DemandEvidence::Unread,
        DemandEvidence::Waiting,
        DemandEvidence::WaitingLong,
        DemandEvidence::Quiet,
        DemandEvidence::Unwanted,
    ];
    let states = [
        InstanceState::Pending,
        InstanceState::Running,
        InstanceState::ShuttingDown,
        InstanceState::Terminated,
        InstanceState::Stopped,
        InstanceState::Unrecognised,
    ];
    for (name, record) in &records {
        for registration in registrations() {
            for vital_sign in vital_signs() {
                for (control, deliveries, jobs) in settled {
                    for demand in demands {
                        for state in states {
                            let mut evidence = evidence(self::record());
                            evidence.record = record.clone();
                            evidence.registration = registration.clone();
                            evidence.vital_sign = vital_sign;
                            evidence.control = control;
                            evidence.deliveries = deliveries;
                            evidence.jobs = jobs;
                            evidence.demand = demand;
                            evidence.instance.state = state;
                            check(&evidence, name);
                        }
                    }
                }
            }
        }
    }
}

/// Whether anything in the evidence is a sign of life of a job.
fn shows_life(evidence: &Evidence) -> bool {
    let record = evidence.known_record().expect("a destructive verdict needs a record");
    let job = record.has_job_evidence() && record.job_completed.as_ref().is_none_or(|done| done.at == JUST_NOW);
    let instance = match evidence.vital_sign {
        VitalEvidence::Unread => true,
        VitalEvidence::Never => false,
        VitalEvidence::Sign(sign) => sign.worker != Worker::None || sign.beat_at == JUST_NOW,
    };
    let github = match &evidence.registration {
        RegistrationEvidence::NotAsked | RegistrationEvidence::Unread => true,
        RegistrationEvidence::Absent => false,
        RegistrationEvidence::Present(runner) => runner.busy || runner.name != record.runner_name,
    };
    let settled = evidence.control == PositiveControl::Held
        && evidence.deliveries == DeliveryEvidence::Settled
        // Whose only job is known to be over cannot be on another.
        && (evidence.jobs == JobsEvidence::NoneOnRunner
            || (record.job_completed.is_some() && !matches!(evidence.jobs, JobsEvidence::OnRunner(_))));
    job || instance || github || !settled
}

#[test]
fn nothing_destructive_is_concluded_against_a_sign_of_life_or_from_anything_unread() {
    let policy = policy();
    let mut seen = BTreeSet::new();
    let mut count = 0_u64;
    every_combination(|evidence, name| {
        count += 1;
        let verdict = decide(evidence, &policy, NOW);
        let rebuilt = evidence.known_record().is_some_and(|record| record.origin != Origin::Launch);
        match verdict.action {
            Action::Terminate(ground) => {
                assert!(!shows_life(evidence), "{name}: {verdict:?} {evidence:?}");
                assert!(
                    matches!(evidence.instance.state, InstanceState::Running | InstanceState::Pending),
                    "{name}: {verdict:?} {evidence:?}"
                );
                assert!(!matches!(evidence.registration, RegistrationEvidence::Present(_)), "{name}: {verdict:?}");
                let known = evidence.known_record().expect("a record");
                assert!(!rebuilt || known.job_completed.is_some() || known.deregistered_at.is_some(), "{name}");
                seen.insert(format!("{ground:?}"));
            }
            Action::Deregister(_, DeregistrationGround::InstanceGone) => {
                assert_eq!(evidence.instance.state, InstanceState::Terminated, "{name}");
                seen.insert("InstanceGone".into());
            }
            Action::Deregister(_, ground) => {
                assert!(!shows_life(evidence), "{name}: {verdict:?} {evidence:?}");
                let known = evidence.known_record().expect("a record");
                assert!(!rebuilt || known.job_completed.is_some(), "{name}: a rebuilt record does not know");
                seen.insert(format!("deregister {ground:?}"));
            }
            Action::Keep | Action::Look(_) | Action::Note(_) | Action::Rebuild | Action::Drain | Action::CleanUp => {
                assert!(Terminable::establish(evidence, &policy, NOW).is_none());
                assert!(Deregisterable::establish(evidence, &policy, NOW).is_none());
            }
        }
    });
    assert!(count > 500_000, "{count} combinations");
    let expected = [
        "IdleAfterDeregistration",
        "InstanceGone",
        "JobCompleted",
        "NeverConnected",
        "deregister Idle",
        "deregister JobCompleted",
        "deregister NeverConnected",
    ];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected, "every ground but the hard age is reached");
}

#[test]
fn what_is_not_ours_is_never_touched_and_the_hard_age_asks_nobody() {
    let policy = policy();
    let old = Timestamp(0).plus(HARD_AGE).plus(Duration::from_secs(3_600));
    every_combination(|evidence, name| {
        for ownership in [Ownership::Foreign, Ownership::Bypassed] {
            let mut evidence = evidence.clone();
            evidence.ownership = ownership;
            assert_eq!(decide(&evidence, &policy, NOW).action, Action::Keep, "{name}");
        }
    });
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
        assert_eq!(decide(&evidence, &policy, old.plus(Duration::from_millis(1))).action, expected, "{case}");
        let at_last = LONG_AGO.plus(HARD_AGE).plus(Duration::from_millis(1));
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
            "8: a started job keeps an instance that GitHub shows idle",
            Box::new(|r| r.job_started = Some(started(Some(RunnerId(7))))),
            present(runner()),
            Action::Keep,
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
            Action::Keep,
            Reason::JobSurfaced,
        ),
        (
            "16: not registered, and it was not us",
            Box::new(|_| {}),
            RegistrationEvidence::Absent,
            Action::Keep,
            Reason::RegistrationAbsent,
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
            Action::Keep,
            Reason::Offline,
        ),
        (
            "19: offline and it has been online",
            Box::new(drained),
            present(Runner { online: false, ..runner() }),
            Action::Note(Note::NotIdle),
            Reason::Offline,
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
            Action::Keep,
            Reason::ConfigurationUnaccounted,
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
            Action::Look(Source::Registration),
            Reason::NotRead,
        ),
        (
            "a surplus instance known to be idle is drained",
            Box::new(|r| r.idle_since = Some(LONG_AGO)),
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
