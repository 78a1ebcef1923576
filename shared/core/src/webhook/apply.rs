//! An `in_progress` or `completed` event into the ledger: the job's record and that of the instance it ran on.
//!
//! Knows which event belongs to which instance (design section 4) and nothing of what follows from it. The rules of
//! what an event may change are the records' own. Safe to repeat: every change is news only once.

use tracing::{error, info};

use super::event::{JobAction, JobEvent};
use crate::error::{Class, Classify, PortError};
use crate::ids::{Access, InstanceId, RepositoryIds, RunnerName, Scope};
use crate::ledger::{
    self, CompletionClaim, InstanceRecord, JobCompleted, JobPhase, JobRecord, JobStarted, Origin, OrphanEvent, Stored,
    Versioned,
};
use crate::ports::{Ledger, Write};
use crate::time::Timestamp;

/// How often a lost compare-and-swap is tried again: an event meets scale-up's few writes to the same records, not a
/// crowd. More keeps a delivery waiting beyond its second; fewer fails deliveries that only the deliveries API brings
/// back.
const CONFLICTS_MAX: usize = 8;

/// What an event changed, or had changed before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Neither a start nor an end.
    Nothing,
    /// The job's record; no instance of ours ran it.
    Job,
    /// The job's record and that of this instance.
    Instance(InstanceId),
    /// The job's record, and the event waits for the instance's record.
    Orphan(InstanceId),
}

/// Takes in that a job started or completed.
///
/// # Guarantees
/// On success all that the event says is in the ledger. Job and instance change in one transaction. An event of an
/// instance without record is kept for it, and the record is looked for once more after that, so that of this and
/// scale-up (which writes the record first and reads the event after) whoever comes second sees the other.
///
/// # Assumptions
/// The event's signature was verified, or it was read from GitHub's own API.
///
/// # Errors
/// Class `Transient` when the instance's record, or the event kept for it, is of a newer schema: evidence must not be
/// dropped, so the delivery fails and comes back through the deliveries API. All others are the ledger's.
pub async fn apply_job_event(ledger: &impl Ledger, event: &JobEvent, now: Timestamp) -> Result<Applied, PortError> {
    let Some(fact) = Fact::of(event, now) else { return Ok(Applied::Nothing) };
    let runner = event.runner_name.as_ref().and_then(|name| Some((name, name.instance_id()?)));
    let mut kept_for_later = false;
    let mut conflict = None;
    for _ in 0..CONFLICTS_MAX {
        let mut writes: Vec<Write> = job_write(ledger, event, &fact).await?.into_iter().collect();
        let place = match &runner {
            None => Place::None,
            Some((name, id)) => place(ledger, event, name, id).await?,
        };
        let mut hurt = false;
        let (applied, wrote_orphan) = match (place, &runner) {
            (Place::Record(mut record), _) => {
                let id = record.record.instance_id.clone();
                if fact.note(&mut record.record) {
                    hurt = record.record.was_taken_away() && fact.may_be_of_a_job_cut_short(event);
                    writes.push(record.write());
                }
                (Applied::Instance(id), false)
            }
            (Place::NoRecord, Some((name, id))) if !kept_for_later => {
                writes.extend(orphan_writes(ledger, event, name, &fact).await?);
                (Applied::Orphan(id.clone()), true)
            }
            (Place::NoRecord, Some((_, id))) => (Applied::Orphan(id.clone()), false),
            (Place::NoRecord | Place::None, _) => (Applied::Job, false),
        };
        match commit(ledger, &writes).await {
            Ok(()) if wrote_orphan => kept_for_later = true,
            Ok(()) => {
                if hurt {
                    // The metric `JobsEndedByUs` counts these lines by their reason (infra/modules/observability).
                    error!(job_id = %event.job_id, reason = "ended_by_us", applied = ?applied, "job {} ran where we had taken the runner or the instance away", event.job_id);
                }
                info!(job_id = %event.job_id, action = ?event.action, applied = ?applied, "recorded {:?} of job {}: {applied:?}", event.action, event.job_id);
                return Ok(applied);
            }
            Err(error) if error.class() == Class::Conflict => conflict = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(conflict.unwrap_or_else(|| {
        PortError::new(format!("record event of job {}", event.job_id), Class::Conflict, "records kept changing")
    }))
}

/// What the event says, in the ledger's words.
enum Fact {
    Started(JobStarted),
    Completed(JobCompleted, Option<CompletionClaim>),
}

impl Fact {
    fn of(event: &JobEvent, now: Timestamp) -> Option<Self> {
        match event.action {
            JobAction::InProgress => Some(Self::Started(JobStarted {
                job_id: event.job_id,
                repository: event.repository.clone(),
                at: now,
                runner_id: event.runner_id,
            })),
            JobAction::Completed => {
                let completed = JobCompleted { job_id: event.job_id, at: now };
                // Without a runner's id a completion binds to no instance: null matches nothing.
                let claim =
                    event.runner_id.map(|runner_id| CompletionClaim { completed: completed.clone(), runner_id });
                Some(Self::Completed(completed, claim))
            }
            JobAction::Queued | JobAction::Waiting | JobAction::Other => None,
        }
    }

    fn note(&self, record: &mut InstanceRecord) -> bool {
        match self {
            Self::Started(started) => record.note_started(started.clone()),
            Self::Completed(_, Some(claim)) => record.note_completed(claim.completed.clone(), claim.runner_id),
            Self::Completed(_, None) => false,
        }
    }

    /// Not of one that ended well: whatever came after did not hurt it.
    fn may_be_of_a_job_cut_short(&self, event: &JobEvent) -> bool {
        match self {
            Self::Started(_) => true,
            Self::Completed(..) => event.conclusion.as_deref() != Some("success"),
        }
    }

    fn note_job(&self, record: &mut JobRecord, conclusion: Option<String>) -> bool {
        match self {
            Self::Started(started) => record.note_started(started.at, started.runner_id),
            Self::Completed(completed, _) => record.note_completed(completed.at, conclusion),
        }
    }
}

/// Where an event about an instance's runner belongs.
enum Place {
    Record(Box<Versioned<InstanceRecord>>),
    NoRecord,
    None,
}

async fn place(ledger: &impl Ledger, event: &JobEvent, name: &RunnerName, id: &InstanceId) -> Result<Place, PortError> {
    Ok(match ledger::load::<InstanceRecord>(ledger, id.as_str()).await? {
        Stored::Absent => Place::NoRecord,
        Stored::Present(record) if belongs(event, name, &record.record) => Place::Record(Box::new(record)),
        Stored::Present(_) => Place::None,
        Stored::Foreign => {
            let call = format!("record event of job {} on {id}", event.job_id);
            return Err(PortError::new(call, Class::Transient, "the instance's record is of another schema"));
        }
    })
}

/// A name is unique only within its scope, and anyone who may register a runner elsewhere can use ours there.
fn belongs(event: &JobEvent, name: &RunnerName, record: &InstanceRecord) -> bool {
    let named = match record.origin {
        Origin::Launch => record.runner_name == *name,
        // Its prefix is today's, and the runner may have been registered with yesterday's: of the name only the instance
        // is certain.
        Origin::Rebuilt { .. } => name.instance_id().as_ref() == Some(&record.instance_id),
    };
    let in_scope = || scopes(event).iter().any(|scope| scope.agrees_with(&record.access.scope));
    named && (in_scope() || starts_after_a_rename(event, record))
}

/// Whether a start that bears our runner's name can be of our runner although its scope is called otherwise: its owner or
/// repository was renamed since the launch. A rename changes neither the runner's id nor the installation, and which
/// installation a delivery is of GitHub says: another owner who has the App, and whose runner is named and numbered as
/// ours, has another one. It counts only where nothing is known of a job yet: so it can keep an instance, and replace no
/// evidence. Nor does its end count, neither an event's nor the jobs API's (`removal/gather.rs`): who administers another
/// repository of the same owner could name a runner so, and would only make an instance live until the hard age.
fn starts_after_a_rename(event: &JobEvent, record: &InstanceRecord) -> bool {
    let starts = matches!(event.action, JobAction::InProgress);
    let same_runner = event.runner_id.is_some() && event.runner_id == record.runner_id;
    let installation = event.installation_id;
    let same_installation = installation.is_some() && installation == record.access.installation_id;
    starts && same_runner && same_installation && record.job_started.is_none()
}

/// The scopes whose runners can have run this job.
fn scopes(event: &JobEvent) -> Vec<Scope> {
    let repository =
        Scope::Repository { owner: event.repository.owner().to_owned(), name: event.repository.name().to_owned() };
    let organization = event.organization.clone().map(|owner| Scope::Organization { owner });
    organization.into_iter().chain([repository]).collect()
}

async fn job_write(ledger: &impl Ledger, event: &JobEvent, fact: &Fact) -> Result<Option<Write>, PortError> {
    Ok(match ledger::load::<JobRecord>(ledger, event.job_id.to_string()).await? {
        Stored::Present(mut job) => fact.note_job(&mut job.record, event.conclusion.clone()).then(|| job.write()),
        // Without it, a `queued` message that comes late would launch for a job that is over.
        Stored::Absent => {
            let mut job = new_job(event, fact);
            fact.note_job(&mut job, event.conclusion.clone());
            Some(Versioned::new(job).write())
        }
        Stored::Foreign => None,
    })
}

fn new_job(event: &JobEvent, fact: &Fact) -> JobRecord {
    let now = match fact {
        Fact::Started(started) => started.at,
        Fact::Completed(completed, _) => completed.at,
    };
    let scope = match &event.organization {
        Some(owner) => Scope::Organization { owner: owner.clone() },
        None => {
            Scope::Repository { owner: event.repository.owner().to_owned(), name: event.repository.name().to_owned() }
        }
    };
    JobRecord {
        job_id: event.job_id,
        access: Access { scope, installation_id: event.installation_id },
        repository: event.repository.clone(),
        run_id: event.run_id,
        run_attempt: event.run_attempt,
        labels: event.labels.clone(),
        fleet: None,
        phase: JobPhase::Queued,
        next_look: now,
        launch_count: 0,
        launches: Vec::new(),
        queued_at: event.created_at.unwrap_or(now),
        runner_id: None,
        recorded_at: Some(now),
        given_up_at: None,
        ids: RepositoryIds { owner: event.owner_id, repository: event.repository_id },
    }
}

/// Keeps the event under every scope that the coming record may have.
async fn orphan_writes(
    ledger: &impl Ledger,
    event: &JobEvent,
    name: &RunnerName,
    fact: &Fact,
) -> Result<Vec<Write>, PortError> {
    let scopes = scopes(event);
    let ids = scopes.iter().map(|scope| OrphanEvent::id_of(scope, name));
    let stored = ledger::load_all::<OrphanEvent>(ledger, ids).await?;
    let mut writes = Vec::new();
    for (scope, (_, stored)) in scopes.into_iter().zip(stored) {
        let mut orphan = match stored {
            Stored::Present(orphan) => orphan,
            Stored::Absent => Versioned::new(OrphanEvent {
                scope,
                runner_name: name.clone(),
                started: None,
                completed: None,
                at: match fact {
                    Fact::Started(started) => started.at,
                    Fact::Completed(completed, _) => completed.at,
                },
            }),
            Stored::Foreign => {
                let call = format!("keep event of job {} for {name}", event.job_id);
                return Err(PortError::new(call, Class::Transient, "what is kept for it is of another schema"));
            }
        };
        if keep(&mut orphan.record, fact) {
            writes.push(orphan.write());
        }
    }
    Ok(writes)
}

fn keep(orphan: &mut OrphanEvent, fact: &Fact) -> bool {
    match fact {
        Fact::Started(started) => {
            let better =
                orphan.started.as_ref().is_none_or(|kept| kept.runner_id.is_none() && started.runner_id.is_some());
            if better {
                orphan.started = Some(started.clone());
            }
            better
        }
        Fact::Completed(_, Some(claim)) if orphan.completed.is_none() => {
            orphan.completed = Some(claim.clone());
            true
        }
        Fact::Completed(_, _) => false,
    }
}

async fn commit(ledger: &impl Ledger, writes: &[Write]) -> Result<(), PortError> {
    if writes.is_empty() { Ok(()) } else { ledger.write(writes).await }
}

#[cfg(test)]
mod tests {
    use super::super::event::tests::{IN_PROGRESS, SUCCESS, job};
    use super::*;
    use crate::fake::{Fake, run};
    use crate::ids::{FleetName, InstallationId, LaunchToken, Repository, RunnerId};
    use crate::ledger::RemovalIntent;
    use crate::ports::{Item, Key};
    use crate::removal::{DeregistrationGround, Ground};

    type Change = fn(&mut JobEvent);
    /// A case, what comes, how the event and the instance's record differ, and what is changed.
    type Renamed = (&'static str, &'static [u8], Change, fn(&mut InstanceRecord), Applied);

    const NOW: Timestamp = Timestamp(5_000);

    fn event(body: &[u8]) -> JobEvent {
        let mut event = job(body);
        event.runner_name = Some(RunnerName::new("runner-i-0a"));
        event
    }

    fn instance(scope: Scope) -> InstanceRecord {
        let mut record = InstanceRecord::launched(
            InstanceId::new("i-0a"),
            Access { scope, installation_id: None },
            FleetName::new("linux"),
            LaunchToken::new("t"),
            RunnerName::new("runner-i-0a"),
            Timestamp(0),
        );
        record.note_runner_id(RunnerId(5));
        record
    }

    fn octocoders() -> Scope {
        Scope::Organization { owner: "OCTOCODERS".into() }
    }

    fn apply(fake: &Fake, event: &JobEvent) -> Applied {
        run(apply_job_event(fake, event, NOW)).expect("not killed").expect("no fault")
    }

    #[test]
    fn a_start_reaches_job_and_instance_although_the_scopes_case_differs() {
        let fake = Fake::new();
        fake.put(&instance(octocoders()));
        assert_eq!(apply(&fake, &event(IN_PROGRESS)), Applied::Instance(InstanceId::new("i-0a")));
        let started = fake.get::<InstanceRecord>("i-0a").expect("stored").job_started.expect("started");
        assert_eq!((started.job_id.0, started.runner_id), (289_782_451, Some(RunnerId(5))));
        assert!(matches!(fake.get::<JobRecord>("289782451").expect("stored").phase, JobPhase::Started { .. }));
    }

    #[test]
    fn completion_before_start_is_understood_once_both_are_there_and_never_undone() {
        let fake = Fake::new();
        fake.put(&instance(octocoders()));
        apply(&fake, &event(SUCCESS));
        assert_eq!(fake.get::<InstanceRecord>("i-0a").expect("stored").job_completed, None);
        apply(&fake, &event(IN_PROGRESS));
        assert!(fake.get::<InstanceRecord>("i-0a").expect("stored").job_completed.is_some());
        let phase = fake.get::<JobRecord>("289782451").expect("stored").phase;
        assert!(matches!(&phase, JobPhase::Completed { conclusion: Some(word), .. } if word == "success"), "{phase:?}");
        let before = fake.items();
        apply(&fake, &event(SUCCESS));
        apply(&fake, &event(IN_PROGRESS));
        assert_eq!(fake.items(), before, "duplicates write nothing");
    }

    #[test]
    fn an_event_touches_no_instance_that_is_not_certainly_its_own() {
        let elsewhere = Scope::Organization { owner: "someone".into() };
        let other_repository = Scope::Repository { owner: "Codertocat".into(), name: "other".into() };
        let its_repository = Scope::Repository { owner: "codertocat".into(), name: "hello-world".into() };
        let none: Change = |_| {};
        for (case, scope, change, expected) in [
            ("another organisation", elsewhere, none, false),
            ("another repository", other_repository, none, false),
            ("its own repository, other case", its_repository, none, true),
            ("another runner id", octocoders(), |event| event.runner_id = Some(RunnerId(6)), false),
            ("no runner id: by name, a start only vetoes", octocoders(), |event| event.runner_id = None, true),
            ("no runner name", octocoders(), |event| event.runner_name = None, false),
            ("another prefix", octocoders(), |event| event.runner_name = Some(RunnerName::new("x-i-0a")), false),
        ] {
            let fake = Fake::new();
            fake.put(&instance(scope));
            let mut event = event(IN_PROGRESS);
            change(&mut event);
            apply(&fake, &event);
            let record = fake.get::<InstanceRecord>("i-0a").expect("stored");
            assert_eq!(record.job_started.is_some(), expected, "{case}");
        }
        let fake = Fake::new();
        fake.put(&instance(octocoders()));
        let mut nameless_end = event(SUCCESS);
        nameless_end.runner_id = None;
        apply(&fake, &nameless_end);
        assert!(!fake.get::<InstanceRecord>("i-0a").expect("stored").has_job_evidence(), "null matches nothing");
    }

    type Taken = fn(&mut InstanceRecord);

    #[test]
    fn a_job_where_we_had_taken_the_runner_away_is_told_as_an_error() {
        let deregistered: Taken = |record| {
            record.deregister_intent = Some(RemovalIntent { at: Timestamp(1), ground: DeregistrationGround::Idle });
            record.deregistered_at = Some(Timestamp(2));
        };
        let refused: Taken = |record| {
            record.deregister_intent = Some(RemovalIntent { at: Timestamp(1), ground: DeregistrationGround::Idle });
        };
        let ended: Taken = |record| {
            record.terminate_intent = Some(RemovalIntent { at: Timestamp(1), ground: Ground::RegistrationGone });
        };
        let over: Taken = |record| {
            record.terminate_intent = Some(RemovalIntent { at: Timestamp(1), ground: Ground::JobCompleted });
        };
        let old: Taken = |record| {
            record.terminate_intent = Some(RemovalIntent { at: Timestamp(1), ground: Ground::HardAge });
        };
        let failed: Change = |event| event.conclusion = Some("failure".into());
        let as_sent: Change = |_| {};
        for (case, taken, body, change, expected) in [
            ("nothing was taken away", (|_| {}) as Taken, IN_PROGRESS, as_sent, false),
            ("a start after our DELETE", deregistered, IN_PROGRESS, as_sent, true),
            ("a start after a DELETE that was refused", refused, IN_PROGRESS, as_sent, false),
            ("a start after our terminate", ended, IN_PROGRESS, as_sent, true),
            ("a failure that we hear of after our terminate", ended, SUCCESS, failed, true),
            ("a success that we hear of after our terminate", ended, SUCCESS, as_sent, false),
            ("a start of the job that is over", over, IN_PROGRESS, as_sent, false),
            ("a start on what was too old for any job", old, IN_PROGRESS, as_sent, false),
        ] {
            let mut record = instance(octocoders());
            taken(&mut record);
            let mut event = event(body);
            change(&mut event);
            let fact = Fact::of(&event, NOW).expect("a start or an end");
            assert!(fact.note(&mut record), "{case}: news");
            assert_eq!(record.was_taken_away() && fact.may_be_of_a_job_cut_short(&event), expected, "{case}");
        }
    }

    /// A job starts on a runner of ours whose organisation or repository has another name by now.
    #[test]
    fn after_a_rename_a_start_is_known_by_the_installation_the_runners_id_and_its_name() {
        let renamed: Change = |event| {
            event.organization = Some("octo-new".into());
            event.repository = Repository::try_from("octo-new/world".to_owned()).expect("a full name");
            event.installation_id = Some(InstallationId(3));
        };
        let as_launched: fn(&mut InstanceRecord) = |_| {};
        let ours = Applied::Instance(InstanceId::new("i-0a"));
        let cases: [Renamed; 10] = [
            ("a start", IN_PROGRESS, |_| {}, as_launched, ours.clone()),
            ("its end: the jobs API says it", SUCCESS, |_| {}, as_launched, Applied::Job),
            (
                "a stranger, who has the App as well",
                IN_PROGRESS,
                |event| event.installation_id = Some(InstallationId(4)),
                as_launched,
                Applied::Job,
            ),
            ("no installation", IN_PROGRESS, |event| event.installation_id = None, as_launched, Applied::Job),
            (
                "none on either side",
                IN_PROGRESS,
                |event| event.installation_id = None,
                |record| record.access.installation_id = None,
                Applied::Job,
            ),
            ("another id", IN_PROGRESS, |event| event.runner_id = Some(RunnerId(6)), as_launched, Applied::Job),
            ("no id", IN_PROGRESS, |event| event.runner_id = None, as_launched, Applied::Job),
            ("our id is not known yet", IN_PROGRESS, |_| {}, |record| record.runner_id = None, Applied::Job),
            (
                "another prefix",
                IN_PROGRESS,
                |event| event.runner_name = Some(RunnerName::new("theirs-i-0a")),
                as_launched,
                Applied::Job,
            ),
            (
                "what is known of its job is not replaced",
                IN_PROGRESS,
                |_| {},
                |record| {
                    let repository = Repository::try_from("octo/hello".to_owned()).expect("a full name");
                    let job_id = crate::ids::JobId(1);
                    record.note_started(JobStarted { job_id, repository, at: Timestamp(1), runner_id: None });
                },
                Applied::Job,
            ),
        ];
        for scope in [octocoders(), Scope::Repository { owner: "Codertocat".into(), name: "Hello-World".into() }] {
            for (case, body, change, record_change, expected) in &cases {
                let fake = Fake::new();
                let mut record = instance(scope.clone());
                record.access.installation_id = Some(InstallationId(3));
                record_change(&mut record);
                fake.put(&record);
                let mut event = event(body);
                renamed(&mut event);
                change(&mut event);
                assert_eq!(apply(&fake, &event), *expected, "{case}, {scope:?}");
                let bound = fake.get::<InstanceRecord>("i-0a").expect("stored") != record;
                assert_eq!(bound, *expected == ours, "{case}, {scope:?}");
            }
        }
    }

    #[test]
    fn events_that_come_before_the_record_wait_for_it() {
        let fake = Fake::new();
        assert_eq!(apply(&fake, &event(IN_PROGRESS)), Applied::Orphan(InstanceId::new("i-0a")));
        apply(&fake, &event(SUCCESS));
        for scope in [octocoders(), Scope::Repository { owner: "codertocat".into(), name: "Hello-World".into() }] {
            let id = OrphanEvent::id_of(&scope, &RunnerName::new("runner-i-0a"));
            let orphan = fake.get::<OrphanEvent>(&id).expect("kept under each possible scope");
            let mut record = instance(scope);
            assert!(orphan.apply(&mut record));
            assert!(record.job_started.is_some() && record.job_completed.is_some());
        }
    }

    #[test]
    fn a_record_that_appears_while_the_event_is_kept_gets_it_at_once() {
        let fake = Fake::new();
        // Calls: read job, read instance, read orphans, write; the record appears right after the write.
        fake.meanwhile(4, |fake| fake.put(&instance(octocoders())));
        assert_eq!(apply(&fake, &event(IN_PROGRESS)), Applied::Instance(InstanceId::new("i-0a")));
        assert!(fake.get::<InstanceRecord>("i-0a").expect("stored").job_started.is_some());
    }

    #[test]
    fn a_record_changed_in_between_is_read_again() {
        let fake = Fake::new();
        fake.put(&instance(octocoders()));
        fake.meanwhile(2, |fake| {
            let mut record = fake.get::<InstanceRecord>("i-0a").expect("stored");
            record.idle_since = Some(Timestamp(77));
            fake.put(&record);
        });
        apply(&fake, &event(IN_PROGRESS));
        let record = fake.get::<InstanceRecord>("i-0a").expect("stored");
        assert!(record.job_started.is_some() && record.idle_since == Some(Timestamp(77)));
    }

    #[test]
    fn evidence_for_a_record_of_a_newer_schema_is_not_dropped() {
        let fake = Fake::new();
        fake.put_item(Item {
            key: Key { kind: crate::ports::Kind::Instance, id: "i-0a".into() },
            version: 3,
            schema: 99,
            body: serde_json::json!({}).into(),
            open: None,
            expires_at: None,
        });
        let error = run(apply_job_event(&fake, &event(IN_PROGRESS), NOW)).expect("not killed").expect_err("foreign");
        assert_eq!(error.class(), Class::Transient);
    }

    #[test]
    fn an_event_that_an_orphan_of_a_newer_schema_cannot_hold_is_not_dropped() {
        let fake = Fake::new();
        let item = Item {
            key: Key {
                kind: crate::ports::Kind::OrphanEvent,
                id: OrphanEvent::id_of(&octocoders(), &RunnerName::new("runner-i-0a")),
            },
            version: 3,
            schema: 99,
            body: serde_json::json!({}).into(),
            open: None,
            expires_at: None,
        };
        fake.put_item(item);
        let error = run(apply_job_event(&fake, &event(IN_PROGRESS), NOW)).expect("not killed").expect_err("foreign");
        assert_eq!(error.class(), Class::Transient);
        assert!(fake.get::<JobRecord>("289782451").is_none(), "all or nothing");
    }
}
