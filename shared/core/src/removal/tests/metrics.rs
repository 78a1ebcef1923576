//! What an operator sees: each direction of the sweep and each verdict, by its metric and reason.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::evidence::{
    AssignedJob, DeliveryEvidence, DemandEvidence, Evidence, Heard, JobsEvidence, Ownership, PositiveControl,
    RecordEvidence, RegistrationEvidence, VitalEvidence, Witness,
};
use crate::ledger::{JobCompleted, RemovalIntent, Versioned};
use crate::metrics::{Metric, Unit};
use crate::ports::JitConfig;
use crate::removal::{DeregistrationGround, metrics_of};
use crate::verdict::Reason;

/// What a pass reports beside acts: of these a direction is not told by.
const NO_ACTS: [&str; 4] = ["InstancesKept", "SinceWholePass", "PassErrors", "PassesCutByDeadline"];

/// A metric that is not zero and tells of an act, with its reason where it has one.
fn act_of(metric: &Metric) -> Option<String> {
    let reason = metric.dimensions.iter().find(|(name, _)| *name == "reason").map(|(_, reason)| format!(" {reason}"));
    let acts = metric.value > 0 && !NO_ACTS.contains(&metric.name);
    acts.then(|| format!("{}{}", metric.name, reason.unwrap_or_default()))
}

/// Everything that the sweeper's metrics tell of within three hours; what it ends is gone.
fn told(fake: &Fake) -> BTreeSet<String> {
    let mut told = BTreeSet::new();
    for _ in 0..36 {
        fake.pass(5 * MINUTE);
        let outcome = sweep(fake, &policy()).expect("not killed");
        assert!(outcome.is_ok(), "{outcome:?}");
        told.extend(metrics_of(&outcome).iter().filter_map(act_of));
        let ended = fake.state().terminated.clone();
        for (id, _) in ended {
            fake.set_instance_state(&id, InstanceState::Terminated);
        }
    }
    told
}

fn offline(fake: &Fake) {
    fake.state_mut().runners[0].1.online = false;
}

/// How something came to lose its other half, and what the metrics call it.
type Direction = (&'static str, fn(&Fake), &'static [&'static str]);

#[test]
fn each_direction_of_the_sweep_has_its_metric_and_reason() {
    let directions: [Direction; 10] = [
        (
            "instance without registration",
            |fake| {
                idle_runner(fake);
                fake.state_mut().runners.clear();
            },
            &["InstancesTerminated registration_gone", "RecordsClosed"],
        ),
        (
            "registration without instance",
            |fake| {
                idle_runner(fake);
                offline(fake);
                fake.set_instance_state(&id(), InstanceState::Terminated);
            },
            &["RecordsClosed", "RunnersDeregistered instance_gone"],
        ),
        (
            "never connected",
            |fake| {
                put_instance(fake, &id());
                fake.put(&InstanceRecord { runner_id: None, jit_intent_at: None, ..record(fake) });
            },
            &["InstancesTerminated never_connected", "RecordsClosed"],
        ),
        (
            "completed and still running",
            |fake| {
                idle_runner(fake);
                edit(fake, &id(), |record| {
                    record.note_started(started());
                    record.note_completed(JobCompleted { job_id: JobId(1), at: record.launched_at }, RunnerId(7));
                });
            },
            &["InstancesTerminated job_completed", "RecordsClosed", "RunnersDeregistered job_completed"],
        ),
        (
            "offline",
            |fake| {
                idle_runner(fake);
                offline(fake);
            },
            // Ended by scale-down, as whatever was deregistered while idle.
            &["RunnersDeregistered offline"],
        ),
        (
            "stopped",
            |fake| {
                idle_runner(fake);
                fake.set_instance_state(&id(), InstanceState::Stopped);
            },
            &["InstancesTerminated stopped", "RecordsClosed", "RunnersDeregistered stopped"],
        ),
        ("record without instance", |fake| fake.put(&record(fake)), &["RecordsClosed"]),
        (
            "parameter without instance",
            |fake| {
                fake.state_mut().parameters.insert(id(), JitConfig::new("secret".into()));
            },
            &["ParametersRemoved"],
        ),
        (
            "a removal that a crashed pass left half done",
            |fake| {
                put_instance(fake, &id());
                let intent = RemovalIntent { at: fake.now(), ground: Ground::NeverConnected };
                let half_done = InstanceRecord { runner_id: None, jit_intent_at: None, ..record(fake) };
                fake.put(&InstanceRecord { terminate_intent: Some(intent), ..half_done });
            },
            &["InstancesTerminated never_connected", "RecordsClosed", "RemovalsTakenUp"],
        ),
        (
            "past the hard age",
            |fake| {
                idle_runner(fake);
                job_starts(fake);
                offline(fake);
                fake.pass(Duration::from_secs((5 * 24 + 4) * 3_600));
            },
            &["InstancesTerminated hard_age", "RecordsClosed", "RunnersDeregistered instance_gone"],
        ),
    ];
    for (case, make, expected) in directions {
        let fake = Fake::new();
        make(&fake);
        let told = told(&fake);
        assert_eq!(told.iter().map(String::as_str).collect::<Vec<_>>(), expected, "{case}");
    }
}

fn evidence(fake: &Fake) -> Evidence {
    put_instance(fake, &id());
    let instance = fake.state().instances[&id()].clone();
    Evidence {
        instance,
        ownership: Ownership::Ours,
        record: RecordEvidence::Present(Box::new(Versioned::new(record(fake)))),
        vital_sign: VitalEvidence::Never,
        demand: DemandEvidence::Quiet,
        registration: RegistrationEvidence::NotAsked,
        heard: Heard { from: Witness::Runner, at: fake.now() },
        control: PositiveControl::Held,
        deliveries: DeliveryEvidence::Settled,
        jobs: JobsEvidence::NoneOnRunner,
        rechecked_at: fake.now(),
        assigned_job: AssignedJob::NotAsked,
    }
}

const REASONS: [Reason; 53] = [
    Reason::NotOurs,
    Reason::Bypassed,
    Reason::LedgerUnread,
    Reason::ForeignRecord,
    Reason::NoRecord,
    Reason::ForeignRegistration,
    Reason::RebuiltRecord,
    Reason::HardAge,
    Reason::Ending,
    Reason::Gone,
    Reason::SeenAgain,
    Reason::NotGone,
    Reason::Reusable,
    Reason::NotRunning,
    Reason::Stopped,
    Reason::VitalSignUnread,
    Reason::WorkerAlive,
    Reason::SupervisorAlive,
    Reason::JobRunning,
    Reason::JobUnread,
    Reason::JobDenied,
    Reason::JobElsewhere,
    Reason::BusySeen,
    Reason::BusyNow,
    Reason::CompletedRecently,
    Reason::JobCompleted,
    Reason::Quarantine,
    Reason::IdleAfterDeregistration,
    Reason::JobSurfaced,
    Reason::RegistrationBack,
    Reason::RunnerFound,
    Reason::ConfigurationUnaccounted,
    Reason::NeverConnected,
    Reason::Booting,
    Reason::RegistrationUnread,
    Reason::RegistrationDenied,
    Reason::RegistrationAbsent,
    Reason::RegistrationGone,
    Reason::DeregistrationInDoubt,
    Reason::NoPositiveControl,
    Reason::DeliveriesUnsettled,
    Reason::JobsUnread,
    Reason::Offline,
    Reason::OfflineConfirmed,
    Reason::IdleTooShort,
    Reason::Wanted,
    Reason::Pool,
    Reason::Surplus,
    Reason::DrainUnanswered,
    Reason::IdleConfirmed,
    Reason::InHand,
    Reason::Protected,
    Reason::NotRead,
];

/// The variants of an enum, from its own text.
fn variants(text: &str, of: &str) -> Vec<String> {
    let body = text.split_once(&format!("pub enum {of} {{")).expect("the enum").1;
    let body = body.split_once("\n}").expect("its end").0;
    let lines = body.lines().map(str::trim).filter(|line| !line.starts_with("//") && !line.starts_with('#'));
    lines.filter_map(|line| line.strip_suffix(',')).map(str::to_owned).collect()
}

/// `IdleAfterDeregistration` is written `idle_after_deregistration`.
fn snake(variant: &str) -> String {
    let mut word = String::new();
    for (index, letter) in variant.char_indices() {
        if letter.is_ascii_uppercase() && index > 0 {
            word.push('_');
        }
        word.push(letter.to_ascii_lowercase());
    }
    word
}

fn counted(report: &Report, metric: &str) -> BTreeMap<String, u64> {
    let of_fleet = |metric: &Metric| {
        let [("fleet", fleet), ("reason", reason)] = metric.dimensions.as_slice() else { return None };
        assert_eq!((fleet.as_str(), metric.unit), ("linux", Unit::Count));
        Some((reason.clone(), metric.value))
    };
    report.metrics().iter().filter(|known| known.name == metric).filter_map(of_fleet).collect()
}

#[test]
fn each_verdict_is_counted_by_fleet_under_its_own_reason() {
    let fake = Fake::new();
    let evidence = evidence(&fake);
    let mut report = Report::default();
    for reason in REASONS {
        report.keep(&evidence, reason);
    }
    for ground in GROUNDS {
        report.terminated(&evidence, ground);
    }
    for ground in DEREGISTRATION_GROUNDS {
        report.deregistered(&evidence, ground);
    }
    report.drained(&FleetName::new("linux"));
    report.drained(&FleetName::new("linux"));
    let once = |text: &str, of: &str| -> BTreeMap<String, u64> {
        variants(text, of).iter().map(|variant| (snake(variant), 1)).collect()
    };
    let reasons = once(include_str!("../../verdict/reason.rs"), "Reason");
    assert!(reasons.len() > 40, "{reasons:?}");
    assert_eq!(counted(&report, "InstancesKept"), reasons);
    assert_eq!(counted(&report, "InstancesTerminated"), once(include_str!("../ground.rs"), "Ground"));
    assert_eq!(counted(&report, "RunnersDeregistered"), once(include_str!("../ground.rs"), "DeregistrationGround"));
    assert_eq!(counted(&report, "DrainsRequested"), BTreeMap::from([("surplus".to_owned(), 2)]));
}

const GROUNDS: [Ground; 6] = [
    Ground::IdleAfterDeregistration,
    Ground::JobCompleted,
    Ground::NeverConnected,
    Ground::RegistrationGone,
    Ground::Stopped,
    Ground::HardAge,
];

const DEREGISTRATION_GROUNDS: [DeregistrationGround; 6] = [
    DeregistrationGround::Idle,
    DeregistrationGround::JobCompleted,
    DeregistrationGround::NeverConnected,
    DeregistrationGround::Offline,
    DeregistrationGround::Stopped,
    DeregistrationGround::InstanceGone,
];

fn value_of(outcome: &Result<Report, FailedPass>, name: &str) -> Option<u64> {
    metrics_of(outcome).iter().find(|metric| metric.name == name).map(|metric| metric.value)
}

#[test]
fn the_age_of_the_last_whole_pass_grows_while_passes_fail_and_is_told_by_them_too() {
    for function in [scale_down, sweep] {
        let fake = Fake::new();
        idle_runner(&fake);
        let pass = || {
            fake.pass(5 * MINUTE);
            function(&fake, &policy()).expect("not killed")
        };
        assert_eq!(value_of(&pass(), "SinceWholePass"), None, "there was none before");
        assert_eq!(value_of(&pass(), "SinceWholePass"), Some(300));
        fake.always_fail("VitalSigns::read", Class::Transient);
        for failed in 1..=3_u64 {
            let outcome = pass();
            assert!(outcome.is_err());
            assert_eq!(value_of(&outcome, "SinceWholePass"), Some(300 * failed));
            assert_eq!(value_of(&outcome, "PassErrors"), Some(1));
        }
        fake.heal();
        assert_eq!(value_of(&pass(), "SinceWholePass"), Some(1_200), "the first that is whole again");
        assert_eq!(value_of(&pass(), "SinceWholePass"), Some(300));
    }
}

/// Three surplus instances whose supervisors live.
fn surplus(fake: &Fake) {
    for number in 1..=3 {
        let id = InstanceId::new(format!("i-{number}"));
        put_instance(fake, &id);
        let runner_id = RunnerId(number + 6);
        let name = RunnerName::new(format!("runner-{id}"));
        fake.put(&InstanceRecord {
            instance_id: id,
            runner_name: name.clone(),
            runner_id: Some(runner_id),
            ..record(fake)
        });
        fake.put_runner(&access().scope, Runner { id: runner_id, name, ..runner() });
    }
    fake.pass(20 * MINUTE);
    for number in 1..=3 {
        let sign = VitalSign { beat_at: fake.now(), worker: Worker::None };
        fake.state_mut().vital_signs.insert(InstanceId::new(format!("i-{number}")), sign);
    }
}

#[test]
fn a_drain_is_counted_when_it_was_made_and_not_when_ec2_refused_it() {
    let drains = |fake: &Fake| {
        let outcome = scale_down(fake, &policy()).expect("not killed");
        let counted = match &outcome {
            Ok(report) => counted(report, "DrainsRequested"),
            Err(FailedPass(report)) => counted(report, "DrainsRequested"),
        };
        (counted.get("surplus").copied().unwrap_or(0), outcome.is_ok())
    };
    let fake = Fake::new();
    surplus(&fake);
    assert_eq!(drains(&fake), (3, true), "all are asked");

    let fake = Fake::new();
    surplus(&fake);
    fake.always_fail("Compute::request_drain", Class::Throttled { retry_after: None });
    assert_eq!(drains(&fake), (0, false), "the call is refused for all");

    // EC2 forgot one between the listing and the call.
    let fake = Fake::new();
    surplus(&fake);
    let listing = fake.calls() + 3;
    fake.meanwhile(listing, |fake| {
        assert_eq!(fake.calls_of("ComputeRead::instances"), 1, "after the listing");
        fake.state_mut().instances.remove(&InstanceId::new("i-2"));
    });
    assert_eq!(drains(&fake), (2, true), "one is refused");
}
