//! Which event belongs to which instance, and how long a record lasts: the sentences of design section 4, each a case.
//! Events go in as GitHub sends them, through the parser and [`webhook::apply_job_event`].

use std::time::Duration;

use super::*;
use crate::fake::{Fake, run};
use crate::ids::{Access, FleetName, InstanceId, JobId, LaunchToken, RunnerId, RunnerName, Scope};
use crate::removal::{DeregistrationGround, Ground};
use crate::webhook::{self, Applied, Event};

const NAME: Option<&str> = Some("runner-i-0a");

fn octo() -> Scope {
    Scope::Organization { owner: "octo".into() }
}

/// The launch's record, its runner's id known.
fn launched() -> InstanceRecord {
    let mut record = unregistered();
    record.note_runner_id(RunnerId(7));
    record
}

fn unregistered() -> InstanceRecord {
    InstanceRecord::launched(
        InstanceId::new("i-0a"),
        Access { scope: octo(), installation_id: None },
        FleetName::new("linux"),
        LaunchToken::new("t"),
        RunnerName::new("runner-i-0a"),
        Timestamp(0),
    )
}

/// One thing that happens.
enum Step {
    /// An event of an organisation: owner, action, job, runner id, runner name.
    Event(&'static str, &'static str, u64, Option<u64>, Option<&'static str>),
    /// Scale-up writes the record, then reads what came before it.
    Record(Box<InstanceRecord>),
    /// Scale-up learns of the runner's id.
    RunnerId(u64),
}

use Step::{Event as On, Record as Launch};

fn started(job: u64, runner_id: Option<u64>) -> Step {
    On("octo", "in_progress", job, runner_id, NAME)
}

fn completed(job: u64, runner_id: Option<u64>) -> Step {
    On("octo", "completed", job, runner_id, NAME)
}

fn send(fake: &Fake, owner: &str, action: &str, job: u64, runner_id: Option<u64>, name: Option<&str>) -> Applied {
    let body = serde_json::json!({
        "action": action,
        "workflow_job": {
            "id": job, "run_id": 2, "labels": ["self-hosted", "linux"], "runner_id": runner_id, "runner_name": name,
        },
        "repository": {"full_name": format!("{owner}/hello"), "owner": {"login": owner, "type": "Organization"}},
        "organization": {"login": owner},
    });
    let event = match webhook::parse(Some("workflow_job"), body.to_string().as_bytes()) {
        Ok(Event::Job(event)) => event,
        other => panic!("{other:?}"),
    };
    run(webhook::apply_job_event(fake, &event, Timestamp(5_000))).expect("not killed").expect("no fault")
}

fn play(fake: &Fake, steps: Vec<Step>) {
    for step in steps {
        match step {
            On(owner, action, job, runner_id, name) => drop(send(fake, owner, action, job, runner_id, name)),
            Launch(mut record) => {
                let id = OrphanEvent::id_of(&record.access.scope, &record.runner_name);
                if let Some(orphan) = fake.get::<OrphanEvent>(&id) {
                    orphan.apply(record.as_mut());
                }
                fake.put(record.as_ref());
            }
            Step::RunnerId(id) => {
                let mut record = fake.get::<InstanceRecord>("i-0a").expect("launched");
                record.note_runner_id(RunnerId(id));
                fake.put(&record);
            }
        }
    }
}

/// What a record says in the end: the job that started, and the one that completed.
type Says = (Option<u64>, Option<u64>);

const NOTHING: Says = (None, None);

/// What happened before, what the record says of it, and whether anything keeps the instance from the idle road.
type Case = (&'static str, Vec<Step>, Says, bool);

/// Events that may be of this instance: null ids, old and doubled ones.
fn cases_of_ours() -> Vec<Case> {
    let ours = || Launch(launched().into());
    vec![
        ("scope, name and runner id agree", vec![ours(), started(1, Some(7))], (Some(1), None), true),
        ("the same, ended", vec![ours(), started(1, Some(7)), completed(1, Some(7))], (Some(1), Some(1)), true),
        (
            "the end comes before the start",
            vec![ours(), completed(1, Some(7)), started(1, Some(7))],
            (Some(1), Some(1)),
            true,
        ),
        ("an end without start waits, and keeps", vec![ours(), completed(1, Some(7))], NOTHING, true),
        // Null ids match nothing.
        ("a start may match by name alone: it can only veto", vec![ours(), started(1, None)], (Some(1), None), true),
        (
            "an end that names no runner id ends nothing",
            vec![ours(), started(1, Some(7)), completed(1, None)],
            (Some(1), None),
            true,
        ),
        (
            "nor does runner id 0, which is null",
            vec![ours(), started(1, Some(7)), completed(1, Some(0))],
            (Some(1), None),
            true,
        ),
        (
            "nor does null match a record that has no runner id yet",
            vec![Launch(unregistered().into()), started(1, None), completed(1, None)],
            (Some(1), None),
            true,
        ),
        (
            "an event without runner fields touches the job record only",
            vec![ours(), On("octo", "in_progress", 1, None, None), On("octo", "completed", 1, None, None)],
            NOTHING,
            false,
        ),
        ("the right id under no name", vec![ours(), On("octo", "in_progress", 1, Some(7), None)], NOTHING, false),
        // Old `completed` re-sent.
        (
            "the end of an earlier job, sent again",
            vec![ours(), started(2, Some(7)), completed(1, Some(7))],
            (Some(2), None),
            true,
        ),
        (
            "the end of an earlier runner of that name, sent again",
            vec![ours(), started(1, Some(7)), completed(1, Some(6))],
            (Some(1), None),
            true,
        ),
        (
            "duplicates change nothing",
            vec![ours(), started(1, Some(7)), completed(1, Some(7)), started(1, Some(7)), completed(1, Some(7))],
            (Some(1), Some(1)),
            true,
        ),
        (
            "a start is sticky: another's does not replace it",
            vec![ours(), started(1, Some(7)), started(2, None)],
            (Some(1), None),
            true,
        ),
    ]
}

/// Events that are not certainly of this instance, and events that come before its record.
fn cases_of_others() -> Vec<Case> {
    let ours = || Launch(launched().into());
    vec![
        // The same id in another scope.
        (
            "the same name and id in another organisation",
            vec![ours(), On("other", "in_progress", 1, Some(7), NAME)],
            NOTHING,
            false,
        ),
        (
            "the end of our job's id in another organisation",
            vec![ours(), started(1, Some(7)), On("other", "completed", 1, Some(7), NAME)],
            (Some(1), None),
            true,
        ),
        (
            "our organisation, written otherwise",
            vec![ours(), On("OCTO", "in_progress", 1, Some(7), NAME)],
            (Some(1), None),
            true,
        ),
        // A forged name: anyone in the organisation may name a runner as we do.
        ("our name under another id", vec![ours(), started(1, Some(99))], NOTHING, false),
        ("the same, ended too", vec![ours(), started(1, Some(99)), completed(1, Some(99))], NOTHING, false),
        (
            "a forged end of a job that runs here",
            vec![ours(), started(1, Some(7)), completed(1, Some(99))],
            (Some(1), None),
            true,
        ),
        (
            "forged before our id is known: only a veto, and ours replaces it",
            vec![
                Launch(unregistered().into()),
                started(9, Some(99)),
                completed(9, Some(99)),
                Step::RunnerId(7),
                started(1, Some(7)),
            ],
            (Some(1), None),
            true,
        ),
        ("another prefix", vec![ours(), On("octo", "in_progress", 1, Some(7), Some("theirs-i-0a"))], NOTHING, false),
        // An event before the record.
        ("start, then record", vec![started(1, Some(7)), ours()], (Some(1), None), true),
        (
            "start and end, then record",
            vec![started(1, Some(7)), completed(1, Some(7)), ours()],
            (Some(1), Some(1)),
            true,
        ),
        (
            "end and start, then record",
            vec![completed(1, Some(7)), started(1, Some(7)), ours()],
            (Some(1), Some(1)),
            true,
        ),
        (
            "both before a record that learns its id later",
            vec![started(1, Some(7)), completed(1, Some(7)), Launch(unregistered().into()), Step::RunnerId(7)],
            (Some(1), Some(1)),
            true,
        ),
        (
            "of another organisation, then record",
            vec![On("other", "in_progress", 1, Some(7), NAME), ours()],
            NOTHING,
            false,
        ),
        ("of another runner id, then record", vec![started(1, Some(99)), ours()], NOTHING, false),
    ]
}

#[test]
fn an_event_belongs_to_the_instance_whose_scope_name_and_runner_id_agree() {
    for (case, steps, says, keeps) in cases_of_ours().into_iter().chain(cases_of_others()) {
        let fake = Fake::new();
        play(&fake, steps);
        let record = fake.get::<InstanceRecord>("i-0a").expect("launched");
        let job = |id: JobId| id.0;
        let found = (
            record.job_started.as_ref().map(|started| job(started.job_id)),
            record.job_completed.as_ref().map(|completed| job(completed.job_id)),
        );
        assert_eq!(found, says, "{case}: {record:?}");
        assert_eq!(record.has_job_evidence(), keeps, "{case}: {record:?}");
    }
}

#[test]
fn every_start_and_end_reaches_its_job_whatever_instance_it_belongs_to() {
    for (case, steps, _, _) in cases_of_ours().into_iter().chain(cases_of_others()) {
        let last: std::collections::BTreeMap<u64, &str> = steps
            .iter()
            .filter_map(|step| match step {
                On(_, action, job, _, _) => Some((*job, *action)),
                Launch(_) | Step::RunnerId(_) => None,
            })
            .fold(std::collections::BTreeMap::new(), |mut jobs, (job, action)| {
                // An end is an end, whatever comes after it.
                jobs.entry(job)
                    .and_modify(|known| *known = if *known == "completed" { known } else { action })
                    .or_insert(action);
                jobs
            });
        let fake = Fake::new();
        play(&fake, steps);
        for (job, action) in last {
            let phase = fake.get::<JobRecord>(&job.to_string()).expect("every event makes one").phase;
            let as_sent = match phase {
                JobPhase::Started { .. } => action == "in_progress",
                JobPhase::Completed { .. } => action == "completed",
                JobPhase::Queued | JobPhase::Launching { .. } | JobPhase::Launched { .. } => false,
            };
            assert!(as_sent, "{case}: job {job} is {phase:?} after {action}");
        }
    }
}

/// How far a record has come.
type Change = fn(&mut InstanceRecord);

#[test]
fn only_a_closed_record_is_ever_forgotten_and_what_is_not_deleted_yet_is_there() {
    let week = Duration::from_hours(7 * 24);
    let at = Timestamp(1_000);
    let stages: [(&str, Change); 7] = [
        ("launched", |_| {}),
        ("completed", |record| {
            record.job_completed = Some(JobCompleted { job_id: JobId(1), at: Timestamp(1_000) });
        }),
        ("deregistered", |record| {
            let ground = DeregistrationGround::Idle;
            record.deregister_intent = Some(RemovalIntent { at: Timestamp(1_000), ground });
            record.deregistered_at = Some(Timestamp(1_000));
        }),
        ("about to be ended", |record| {
            let ground = Ground::IdleAfterDeregistration;
            record.terminate_intent = Some(RemovalIntent { at: Timestamp(1_000), ground });
        }),
        ("missed by a listing", |record| record.missing_since = Some(Timestamp(1_000))),
        ("gone, and what it left not taken away", |record| record.gone_at = Some(Timestamp(1_000))),
        ("taken up again", |record| (record.gone_at, record.cleaned_at) = (None, Some(Timestamp(1_000)))),
    ];
    for (case, change) in stages {
        let mut record = launched();
        change(&mut record);
        assert_eq!(record.expires_at(), None, "{case}");
        assert!(record.open().is_some(), "{case}: somebody has to look at it");
    }
    let mut closed = launched();
    (closed.gone_at, closed.cleaned_at) = (Some(Timestamp(0)), Some(at));
    assert_eq!(closed.expires_at(), Some(at.plus(week)));

    let fake = Fake::new();
    fake.put(&closed);
    fake.pass(2 * week);
    let stored = run(load::<InstanceRecord>(&fake, "i-0a")).expect("not killed").expect("read");
    assert!(matches!(stored, Stored::Present(record) if record.record == closed), "past its time, and not deleted yet");
    assert!(matches!(send(&fake, "octo", "in_progress", 1, Some(7), NAME), Applied::Instance(_)));
}
