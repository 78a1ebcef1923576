//! A batch against the stateful fake: outcomes, and what holds whatever call it is killed or failed at.

mod at_once;
mod capacity;
mod gone;
mod labels;
mod records;
mod refused;
mod slow;
mod under_way;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use super::{JobMessage, Outcome, QueueMessage, handle_batch};
use crate::config::{Glob, Mode, Policy, Registration};
use crate::error::Class;
use crate::fake::{Fake, at_every_call, fleet, policy, run};
use crate::ids::{InstanceId, JobId, Repository, RepositoryIds, RunId, RunnerId, RunnerName, Scope};
use crate::ledger::{
    FleetRecord, InstanceRecord, JobPhase, JobRecord, JobStarted, LaunchRecord, OrphanEvent, RemovalIntent,
};
use crate::ports::{InstanceState, JobState};
use crate::removal::Ground;
use crate::time::{Clock, Deadline, Timestamp};

fn message(id: u64) -> JobMessage {
    JobMessage {
        job_id: JobId(id),
        run_id: RunId(1),
        run_attempt: 1,
        repository: Repository::try_from("octo/hello".to_owned()).expect("a name"),
        organization: Some("octo".into()),
        installation_id: None,
        labels: vec!["self-hosted".into(), "linux".into()],
        queued_at: Timestamp(i64::try_from(id).expect("small")),
        look_at: None,
        ids: crate::ids::RepositoryIds::default(),
    }
}

fn in_queue(message: &JobMessage) -> QueueMessage {
    QueueMessage {
        message_id: format!("m{}", message.job_id),
        body: serde_json::to_string(message).expect("plain data"),
    }
}

fn world(jobs: impl IntoIterator<Item = u64>) -> Fake {
    let fake = Fake::new();
    jobs.into_iter().for_each(|id| fake.put_job(JobId(id), JobState::Queued));
    fake
}

fn batch_of(fake: &Fake, policy: &Policy, messages: Vec<QueueMessage>) -> Option<Vec<(String, Outcome)>> {
    let deadline = Deadline::of(fake.now(), fake.now().plus(minutes(1)));
    run(handle_batch(fake, policy, messages, deadline))
}

fn try_batch(fake: &Fake, policy: &Policy, ids: &[u64]) -> Option<Vec<Outcome>> {
    let messages = ids.iter().map(|id| in_queue(&message(*id))).collect();
    Some(batch_of(fake, policy, messages)?.into_iter().map(|(_, outcome)| outcome).collect())
}

fn batch(fake: &Fake, policy: &Policy, ids: &[u64]) -> Vec<Outcome> {
    try_batch(fake, policy, ids).expect("not killed")
}

fn phase(fake: &Fake, id: u64) -> JobPhase {
    fake.get::<JobRecord>(&id.to_string()).expect("a record").phase
}

fn minutes(count: u64) -> Duration {
    Duration::from_mins(count)
}

#[test]
fn a_job_gets_one_instance_with_its_own_configuration() {
    let fake = world([1]);
    assert_eq!(batch(&fake, &policy(), &[1]), [Outcome::Launched]);
    let record = fake.all::<InstanceRecord>().pop().expect("one instance");
    let launch = fake.all::<LaunchRecord>().pop().expect("one launch");
    assert_eq!(launch.instance_ids.as_deref(), Some(std::slice::from_ref(&record.instance_id)));
    assert!(record.jit_intent_at.is_some() && record.runner_id.is_some() && record.handed_over_at.is_some());
    let state = fake.state();
    let config = state.parameters.get(&record.instance_id).expect("put");
    assert_eq!(config.expose(), format!("jit of {}", record.runner_name));
    let tags = &state.instances[&record.instance_id].tags;
    assert_eq!(tags["ghr:launch"], launch.token.to_string());
    assert_eq!((tags["ghr:owner"].as_str(), tags["ghr:environment"].as_str()), ("octo", "test"));
    drop(state);
    let job = fake.get::<JobRecord>("1").expect("stored");
    assert_eq!(job.phase, JobPhase::Launched { token: launch.token });
    assert_eq!(job.launch_count, 1);
    assert_eq!(job.next_look, fake.now().plus(minutes(16)));
}

#[test]
fn a_job_whose_owner_or_repository_was_taken_from_the_lists_of_ids_is_launched_for_no_more() {
    type Revoke = fn(&mut Policy);
    let of = |id, owner, repository| JobMessage { ids: RepositoryIds { owner, repository }, ..message(id) };
    let messages = || vec![in_queue(&of(1, Some(12), Some(11))), in_queue(&of(2, None, None))];
    let revocations: [Revoke; 3] = [
        |policy| policy.ids.owners = Some([1].into()),
        |policy| policy.ids.repositories = Some([1].into()),
        |policy| policy.owners = vec![Glob::new("acme")],
    ];
    for (case, revoke) in ["owner_ids", "repository_ids", "owners"].into_iter().zip(revocations) {
        let fake = world([1, 2]);
        let mut retired = policy();
        retired.mode = Mode::Retire;
        assert_eq!(batch_of(&fake, &retired, messages()).expect("not killed").len(), 2, "{case}: on record");
        let mut policy = policy();
        revoke(&mut policy);
        // Sent again by a version that did not know of ids: the record does.
        let outcomes = batch(&fake, &policy, &[1, 2]);
        let by_name = case == "owners";
        let refused = |outcome: &Outcome| matches!(outcome, Outcome::Failed(why) if why.contains("is not served"));
        assert_eq!(outcomes.iter().map(refused).collect::<Vec<_>>(), [true, by_name], "{case}: {outcomes:?}");
        assert_eq!(fake.living().len(), usize::from(!by_name), "{case}: of one without ids nobody can tell");
        assert_eq!(phase(&fake, 1), JobPhase::Queued, "{case}");
        policy = crate::fake::policy();
        (policy.ids.owners, policy.ids.repositories) = (Some([12].into()), Some([11].into()));
        assert_eq!(batch(&fake, &policy, &[1]), [Outcome::Launched], "{case}: admitted again");
    }
}

#[test]
fn a_batch_costs_one_fleet_call_and_two_github_calls_a_job() {
    let fake = world(1..=10);
    let ids: Vec<u64> = (1..=10).collect();
    assert_eq!(batch(&fake, &policy(), &ids), vec![Outcome::Launched; 10]);
    assert_eq!(fake.calls_of("Compute::create_fleet"), 1);
    assert_eq!(fake.calls_of("ComputeRead::instances"), 1);
    assert_eq!(fake.calls_of("Jobs::job") + fake.calls_of("Registry::generate_jit_config"), 20);
    assert_eq!(fake.calls_of("Parameters::put_jit_config"), 10);
    assert_eq!(fake.calls_of("RegistryRead::runner_named"), 0);
}

#[test]
fn a_batch_larger_than_a_transaction_is_split_and_all_of_it_served() {
    let fake = world(1..=120);
    let mut policy = policy();
    policy.fleets[0].runner_count_max = 200;
    let ids: Vec<u64> = (1..=120).collect();
    assert_eq!(batch(&fake, &policy, &ids), vec![Outcome::Launched; 120]);
    assert_eq!((fake.state().fleet_calls.len(), fake.living().len()), (2, 120), "100 and 20");
}

#[test]
fn every_message_has_its_own_outcome() {
    let fake = world([1, 2]);
    for (id, state) in
        [(3, JobState::InProgress), (4, JobState::Completed), (5, JobState::NotYetQueued), (6, JobState::Unrecognised)]
    {
        fake.put_job(JobId(id), state);
    }
    let mut other_labels = message(8);
    other_labels.labels = vec!["gpu".into()];
    let mut unlabelled = message(9);
    unlabelled.labels = vec![];
    let messages: Vec<QueueMessage> = (1..=7).map(|id| in_queue(&message(id))).collect();
    let rubbish = QueueMessage { message_id: "rubbish".into(), body: "{}".into() };
    let twice = QueueMessage { message_id: "m1 again".into(), ..in_queue(&message(1)) };
    let extra = vec![in_queue(&other_labels), in_queue(&unlabelled), rubbish, twice];
    let outcomes = batch_of(&fake, &policy(), [messages, extra].concat()).expect("not killed");
    let words: Vec<String> = outcomes.iter().map(|(id, outcome)| format!("{id}: {outcome:?}")).collect();
    insta::assert_snapshot!(words.join("\n"), @r#"
    m1: Launched
    m2: Launched
    m3: NotQueued
    m4: NotQueued
    m5: Waiting
    m6: Failed("GitHub gives it a status that is not known")
    m7: Failed("GET job 7 of octo/hello failed (Absent): 404")
    m8: Failed("no fleet of this configuration takes it: no fleet has any of its labels [\"gpu\"]")
    m9: Failed("no fleet of this configuration takes it: no fleet has any of its labels []")
    rubbish: Failed("not a job message")
    m1 again: Launched
    "#);
    assert_eq!(fake.living().len(), 2);
    assert!(matches!(phase(&fake, 3), JobPhase::Started { .. }));
    assert!(matches!(phase(&fake, 4), JobPhase::Completed { .. }));
    assert_eq!(phase(&fake, 7), JobPhase::Queued, "404 is not an end: the record waits");
}

#[test]
fn a_job_that_this_configuration_does_not_know_is_not_launched_for_and_comes_back() {
    let fake = world([1]);
    let (mut policy, mut gpu_only) = (policy(), policy());
    policy.repositories.clear();
    gpu_only.fleets = vec![fleet("gpu")];
    for (case, policy) in [("its repository is not served", policy), ("no fleet takes its labels", gpu_only)] {
        assert!(matches!(batch(&fake, &policy, &[1])[0], Outcome::Failed(_)), "{case}: acknowledged, it would be lost");
        assert_eq!((fake.calls_of("Jobs::job"), fake.living().len()), (0, 0), "{case}");
    }
}

#[test]
fn a_message_that_comes_again_launches_nothing_while_its_instance_may_take_the_job() {
    type Change = fn(&Fake, &InstanceId);
    let evidence: Change = |fake, id| {
        let mut record = fake.get::<InstanceRecord>(id.as_str()).expect("stored");
        record.busy_seen_at = Some(fake.now());
        fake.put(&record);
    };
    let removal: Change = |fake, id| {
        let mut record = fake.get::<InstanceRecord>(id.as_str()).expect("stored");
        record.terminate_intent = Some(RemovalIntent { at: fake.now(), ground: Ground::NeverConnected });
        fake.put(&record);
    };
    for (case, change, outcome, launches) in [
        ("at once", (|_, _| {}) as Change, Outcome::AlreadyServed, 1),
        ("after 15 min", |fake, _| fake.pass(minutes(15)), Outcome::AlreadyServed, 1),
        ("after 16 min", |fake, _| fake.pass(minutes(16)), Outcome::Launched, 2),
        ("its instance ended", |fake, id| fake.set_instance_state(id, InstanceState::Terminated), Outcome::Launched, 2),
        ("its instance took another job", evidence, Outcome::Launched, 2),
        ("its instance is being removed", removal, Outcome::Launched, 2),
        ("it started", |fake, _| fake.put_job(JobId(1), JobState::InProgress), Outcome::NotQueued, 1),
    ] {
        let fake = world([1]);
        batch(&fake, &policy(), &[1]);
        change(&fake, &fake.living()[0]);
        assert_eq!(batch(&fake, &policy(), &[1]), [outcome], "{case}");
        assert_eq!(fake.state().launches.len(), launches, "{case}");
        let record = fake.get::<JobRecord>("1").expect("stored");
        assert!(!record.is_waiting() || record.next_look > fake.now(), "{case}");
    }
}

#[test]
fn the_cap_holds_and_what_is_beyond_it_waits_oldest_first() {
    let fake = world(1..=5);
    let mut policy = policy();
    policy.fleets[0].runner_count_max = 3;
    let outcomes = batch(&fake, &policy, &[5, 4, 3, 2, 1]);
    assert_eq!(outcomes, [Outcome::Waiting, Outcome::Waiting, Outcome::Launched, Outcome::Launched, Outcome::Launched]);
    assert_eq!(fake.get::<JobRecord>("5").expect("stored").next_look, fake.now().plus(Duration::from_secs(30)));
    assert_eq!(batch(&fake, &policy, &[4]), [Outcome::Waiting]);
    fake.set_instance_state(&fake.living()[0], InstanceState::Terminated);
    assert_eq!(batch(&fake, &policy, &[4]), [Outcome::Launched]);
    assert_eq!(fake.living().len(), 3);
}

#[test]
fn jobs_that_their_fleet_has_no_room_for_cost_no_call_of_github() {
    let fake = world(1..=50);
    let mut policy = policy();
    policy.fleets[0].runner_count_max = 3;
    let ids: Vec<u64> = (1..=50).collect();
    let outcomes = batch(&fake, &policy, &ids);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::Waiting).count(), 47);
    assert_eq!(fake.calls_of("Jobs::job"), 3);
    // Full, and asked for over and over.
    for _ in 0..10 {
        fake.pass(Duration::from_secs(30));
        assert!(batch(&fake, &policy, &ids[3..]).iter().all(|outcome| *outcome == Outcome::Waiting));
    }
    assert_eq!(fake.calls_of("Jobs::job"), 3);
}

#[test]
fn two_batches_at_once_keep_the_cap_and_one_job_is_launched_for_once() {
    let mut policy = policy();
    policy.fleets[0].runner_count_max = 3;
    // The second batch runs whole after each call of the first.
    for call in 1..60 {
        let fake = world(1..=4);
        let inner = policy.clone();
        fake.meanwhile(call, move |fake| {
            batch(fake, &inner, &[1, 2, 3, 4]);
        });
        let outcomes = batch(&fake, &policy, &[1, 2, 3]);
        check(&fake, &policy, &format!("the second after call {call}"));
        assert!(fake.living().len() <= 3, "after call {call}: {outcomes:?}");
        for id in [1, 2, 3] {
            let launches = fake.all::<LaunchRecord>().iter().filter(|l| l.job_ids.contains(&JobId(id))).count();
            assert_eq!(launches, 1, "job {id} after call {call}");
        }
    }
}

#[test]
fn capacity_in_part_serves_some_and_lets_the_others_wait() {
    let fake = world(1..=3);
    fake.state_mut().capacity = Some(1);
    assert_eq!(batch(&fake, &policy(), &[1, 2, 3]), [Outcome::Launched, Outcome::Waiting, Outcome::Waiting]);
    assert_eq!(phase(&fake, 2), JobPhase::Queued);
    assert_eq!(fake.all::<FleetRecord>()[0].reservations[0].count, 1, "what did not come holds no room");
    fake.state_mut().capacity = None;
    assert_eq!(batch(&fake, &policy(), &[2, 3]), [Outcome::Launched, Outcome::Launched]);
    assert_eq!(fake.state().launches.len(), 2, "under another token");
}

#[test]
fn a_failing_call_has_the_outcome_of_its_class() {
    use Class::{Denied, Misconfigured, NoCapacity, OutcomeUnknown, Rejected, Transient};
    let failed = "failed";
    for (call, class, outcome, instances) in [
        ("Jobs::job", Denied, failed, 0),
        ("ComputeRead::instances", Transient, failed, 0),
        ("Compute::create_fleet", NoCapacity, "Waiting", 0),
        ("Compute::create_fleet", Misconfigured, "Waiting", 0),
        ("Compute::create_fleet", Rejected, "Waiting", 0),
        ("Compute::create_fleet", OutcomeUnknown, failed, 0),
        ("Registry::generate_jit_config", Transient, failed, 1),
        ("Registry::generate_jit_config", Denied, failed, 1),
        ("Parameters::put_jit_config", OutcomeUnknown, "Launched", 1),
        ("Parameters::put_jit_config", Denied, "Waiting", 1),
        ("Ledger::write", Transient, failed, 0),
    ] {
        let fake = world([1]);
        fake.always_fail(call, class);
        let outcomes = batch(&fake, &policy(), &[1]);
        let is_failed = matches!(outcomes[0], Outcome::Failed(_));
        let word = if is_failed { failed.to_owned() } else { format!("{:?}", outcomes[0]) };
        assert_eq!((word.as_str(), fake.living().len()), (outcome, instances), "{call} {class:?}");
    }
}

#[test]
fn a_cause_that_stays_does_not_make_a_storm_of_launches() {
    let fake = world([1]);
    for _ in 0..20 {
        fake.always_fail("Parameters::put_jit_config", Class::Denied);
        let due = fake.get::<JobRecord>("1").is_none_or(|job| job.next_look <= fake.now());
        if due {
            batch(&fake, &policy(), &[1]);
        }
        fake.pass(Duration::from_secs(30));
    }
    assert!(fake.state().launches.len() <= 3, "{} launches in 10 min for one job", fake.state().launches.len());
}

#[test]
fn a_configuration_that_ssm_throttles_is_put_again() {
    let fake = world([1]);
    for call in 1..40 {
        fake.meanwhile(call, |fake| match fake.calls_of("Parameters::put_jit_config") {
            0 => fake.always_fail("Parameters::put_jit_config", Class::Throttled { retry_after: None }),
            1..=2 => {}
            _ => fake.heal(),
        });
    }
    let outcomes = batch(&fake, &policy(), &[1]);
    assert!(matches!(outcomes[0], Outcome::Launched | Outcome::Waiting), "{outcomes:?}");
    assert!(fake.calls_of("Parameters::put_jit_config") > 1);
}

#[test]
fn a_name_that_is_taken_is_never_deleted_and_its_job_gets_another_instance_later() {
    let fake = world([1]);
    let taken = RunnerName::new("runner-i-00000000000000001");
    let runner = crate::ports::Runner {
        id: RunnerId(7),
        name: taken,
        online: false,
        busy: false,
        version: Some(None),
        ephemeral: Some(true),
    };
    fake.put_runner(&Scope::Organization { owner: "Octo".into() }, runner);
    assert_eq!(batch(&fake, &policy(), &[1]), [Outcome::Waiting]);
    assert_eq!(fake.all::<InstanceRecord>()[0].runner_id, Some(RunnerId(7)));
    assert_eq!((fake.calls_of("Registry::deregister"), fake.state().parameters.len()), (0, 0));
    assert_eq!(phase(&fake, 1), JobPhase::Queued);
    fake.pass(Duration::from_secs(30));
    assert_eq!(batch(&fake, &policy(), &[1]), [Outcome::Launched]);
}

#[test]
fn retire_launches_nothing_and_keeps_the_jobs() {
    let fake = world([1]);
    let mut policy = policy();
    policy.mode = Mode::Retire;
    assert_eq!(batch(&fake, &policy, &[1]), [Outcome::Waiting]);
    assert_eq!((fake.living().len(), phase(&fake, 1)), (0, JobPhase::Queued));
}

#[test]
fn nothing_is_begun_near_the_deadline() {
    let fake = world([1, 2]);
    let near = Deadline::of(fake.now().minus(Duration::from_mins(1)), fake.now().plus(Duration::from_secs(1)));
    let messages = vec![in_queue(&message(1)), in_queue(&message(2))];
    let outcomes = run(handle_batch(&fake, &policy(), messages, near)).expect("not killed");
    assert!(outcomes.iter().all(|(_, outcome)| matches!(outcome, Outcome::Failed(_))), "{outcomes:?}");
    assert_eq!(fake.calls(), 0);
}

#[test]
fn each_scope_and_fleet_has_its_own_launch_and_ones_fault_is_not_the_others() {
    let fake = world([1, 2, 3]);
    let mut policy = policy();
    policy.fleets = vec![fleet("linux"), fleet("gpu")];
    policy.fleets[0].registration = Registration::Repository;
    let mut elsewhere = message(2);
    elsewhere.repository = Repository::try_from("octo/other".to_owned()).expect("a name");
    let mut gpu = message(3);
    gpu.labels = vec!["self-hosted".into(), "gpu".into()];
    let messages = vec![in_queue(&message(1)), in_queue(&elsewhere), in_queue(&gpu)];
    let outcomes = batch_of(&fake, &policy, messages).expect("not killed");
    assert!(outcomes.iter().all(|(_, outcome)| *outcome == Outcome::Launched), "{outcomes:?}");
    let owners: BTreeSet<String> = fake.state().instances.values().map(|i| i.tags["ghr:owner"].clone()).collect();
    assert_eq!(owners, BTreeSet::from(["octo".into(), "octo/hello".into(), "octo/other".into()]));
}

#[test]
fn an_event_that_came_before_the_record_is_found_when_it_is_written() {
    let fake = world([1]);
    let scope = Scope::Organization { owner: "OCTO".into() };
    fake.put(&OrphanEvent {
        scope,
        runner_name: RunnerName::new("runner-i-00000000000000001"),
        started: Some(JobStarted {
            job_id: JobId(9),
            repository: Repository::try_from("octo/hello".to_owned()).expect("a name"),
            at: fake.now(),
            runner_id: None,
        }),
        completed: None,
        at: fake.now(),
    });
    batch(&fake, &policy(), &[1]);
    let record = fake.all::<InstanceRecord>().pop().expect("one");
    assert_eq!(record.job_started.map(|started| started.job_id), Some(JobId(9)));
}

#[test]
fn an_instance_that_is_being_ended_gets_no_configuration() {
    for call in 1..30 {
        let fake = world([1]);
        fake.meanwhile(call, |fake| {
            for mut record in fake.all::<InstanceRecord>().into_iter().filter(|r| r.jit_intent_at.is_none()) {
                record.terminate_intent = Some(RemovalIntent { at: fake.now(), ground: Ground::NeverConnected });
                fake.put(&record);
            }
        });
        try_batch(&fake, &policy(), &[1]);
        for record in fake.all::<InstanceRecord>().iter().filter(|record| record.terminate_intent.is_some()) {
            assert_eq!(record.jit_intent_at, None, "after call {call}");
            assert!(!fake.state().parameters.contains_key(&record.instance_id), "after call {call}");
        }
    }
}

#[test]
fn a_job_that_starts_while_it_is_launched_for_stays_started() {
    for call in 1..30 {
        let fake = world([1]);
        let started = Rc::new(Cell::new(false));
        let seen = Rc::clone(&started);
        fake.meanwhile(call, move |fake| {
            if let Some(mut job) = fake.get::<JobRecord>("1") {
                seen.set(job.note_started(fake.now(), None));
                fake.put(&job);
            }
        });
        let outcomes = batch(&fake, &policy(), &[1]);
        let stayed = matches!(phase(&fake, 1), JobPhase::Started { .. });
        assert_eq!(stayed, started.get(), "after call {call}: {outcomes:?}");
    }
}

#[test]
fn an_instance_that_one_job_of_a_launch_has_is_not_counted_for_another() {
    let fake = world([1, 2]);
    for call in 1..60 {
        fake.meanwhile(call, |fake| {
            if fake.calls_of("Registry::generate_jit_config") == 1 {
                fake.always_fail("Registry::generate_jit_config", Class::Transient);
            }
        });
    }
    let outcomes = batch(&fake, &policy(), &[1, 2]);
    assert!(matches!(outcomes.as_slice(), [Outcome::Launched, Outcome::Failed(_)]), "{outcomes:?}");
    assert!(matches!(batch(&fake, &policy(), &[2]).as_slice(), [Outcome::Failed(_)]));
    fake.heal();
    assert_eq!(batch(&fake, &policy(), &[2]), [Outcome::Launched]);
    assert_eq!((fake.state().fleet_calls.len(), fake.state().parameters.len()), (1, 2));
}

#[test]
fn a_launch_left_by_a_fleet_that_is_gone_gives_its_jobs_back() {
    let fake = world([1]);
    fake.always_fail("Compute::create_fleet", Class::OutcomeUnknown);
    batch(&fake, &policy(), &[1]);
    fake.heal();
    let mut renamed = policy();
    renamed.fleets = vec![fleet("linux")];
    renamed.fleets[0].name = crate::ids::FleetName::new("renamed");
    fake.pass(minutes(6));
    assert_eq!(batch(&fake, &renamed, &[1]), [Outcome::Waiting]);
    assert_eq!(batch(&fake, &renamed, &[1]), [Outcome::Launched]);
}

#[test]
fn a_launch_whose_record_was_lost_gives_its_jobs_back() {
    let fake = world([1]);
    fake.always_fail("Compute::create_fleet", Class::OutcomeUnknown);
    batch(&fake, &policy(), &[1]);
    fake.heal();
    fake.state_mut().items.retain(|key, _| key.kind != crate::ports::Kind::Launch);
    assert_eq!(batch(&fake, &policy(), &[1]), [Outcome::Waiting]);
    assert_eq!(batch(&fake, &policy(), &[1]), [Outcome::Launched]);
}

#[test]
fn a_token_that_was_spent_before_a_restore_is_not_used_again() {
    let fake = world([1]);
    batch(&fake, &policy(), &[1]);
    fake.state_mut().items.retain(|key, _| key.kind != crate::ports::Kind::Job);
    assert_eq!(batch(&fake, &policy(), &[1]), [Outcome::Launched]);
    assert_eq!(fake.state().launches.len(), 2);
}

/// What holds at any time, whatever was killed.
fn check(fake: &Fake, policy: &Policy, at: &str) {
    let launches = fake.all::<LaunchRecord>();
    for token in fake.state().launches.keys() {
        assert!(launches.iter().any(|launch| launch.token == *token), "{at}: a launch without a record");
    }
    assert!(fake.living().len() <= policy.fleets[0].runner_count_max as usize, "{at}: more than the cap");
    for runner in fake.state().runners.iter().map(|(_, runner)| &runner.name) {
        let asked = fake.all::<InstanceRecord>().iter().any(|r| r.runner_name == *runner && r.jit_intent_at.is_some());
        assert!(asked, "{at}: a registration without an intent");
    }
}

/// GitHub assigns a queued job to each runner whose configuration was handed over.
fn assign(fake: &Fake) {
    let ready: Vec<InstanceId> = fake.state().parameters.keys().cloned().collect();
    for (id, instance) in (1..=2).zip(ready) {
        fake.put_job(JobId(id), JobState::InProgress);
        let mut record = fake.get::<InstanceRecord>(instance.as_str()).expect("recorded");
        record.busy_seen_at = Some(fake.now());
        fake.put(&record);
    }
}

#[test]
fn a_batch_killed_or_failed_at_any_call_ends_well_when_its_messages_return() {
    let policy = policy();
    let played = at_every_call(|fake, at| {
        let at = format!("{at:?}");
        fake.put_job(JobId(1), JobState::Queued);
        fake.put_job(JobId(2), JobState::Queued);
        try_batch(fake, &policy, &[1, 2]);
        check(fake, &policy, &at);
        fake.heal();
        // Messages return and demand sends again, until every job runs on an instance that got its configuration.
        for _ in 0..10 {
            fake.pass(minutes(6));
            let outcomes = batch(fake, &policy, &[1, 2]);
            check(fake, &policy, &at);
            assign(fake);
            if outcomes == [Outcome::NotQueued, Outcome::NotQueued] {
                break;
            }
        }
        for id in [1, 2] {
            assert!(matches!(phase(fake, id), JobPhase::Started { .. }), "{at}: {:?}", phase(fake, id));
        }
        let records = fake.all::<InstanceRecord>();
        for id in fake.living() {
            assert!(records.iter().any(|record| record.instance_id == id), "{at}: {id} has no record");
        }
        // An instance may be lost with the answer that held its configuration; then another is launched.
        assert!(records.len() <= 4, "{at}: {} instances for two jobs", records.len());
        let tokens: Vec<_> = fake.state().fleet_calls.clone();
        let distinct: BTreeSet<_> = tokens.iter().collect();
        assert_eq!(distinct.len(), fake.state().launches.len(), "{at}: one token, one set of instances");
    });
    assert!(played >= 80, "{played} crash points");
}
