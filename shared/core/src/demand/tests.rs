//! Passes over the stateful fake: what is found, what follows, and what holds whatever call a pass is killed or failed
//! at.

mod day;
mod pools;
mod refused;
mod taken;

use std::io::Write as _;
use std::time::Duration;

use super::{FailedPass, Report, run_pass};
use crate::config::{Glob, Mode, Policy};
use crate::error::Class;
use crate::fake::{Fake, at_every_call, fleet, installation, policy, run};
use crate::ids::{Access, DeliveryGuid, InstanceId, JobId, Repository, RunnerId, Scope};
use crate::ledger::{InstanceRecord, JobPhase, JobRecord, LaunchRecord, RedeliveryCursor, SearchCursor, SearchedOwner};
use crate::ports::{ApiBudget, Body, Delivery, Installation, InstanceState, Item, JobState, VitalSign, Worker};
use crate::scale_up::{Outcome, QueueMessage, handle_batch};
use crate::time::{Clock, Deadline, Timestamp};

const MINUTE: Duration = Duration::from_mins(1);

fn try_pass(fake: &Fake, policy: &Policy) -> Option<Result<Report, FailedPass>> {
    let deadline = Deadline::of(fake.now(), fake.now().plus(MINUTE));
    run(run_pass(fake, policy, deadline))
}

fn pass(fake: &Fake, policy: &Policy) -> Report {
    try_pass(fake, policy).expect("not killed").expect("no errors")
}

/// A pass of which only the report matters.
fn failing_pass(fake: &Fake, policy: &Policy) -> Report {
    match try_pass(fake, policy).expect("not killed") {
        Ok(report) => report,
        Err(FailedPass(report)) => *report,
    }
}

/// scale-up takes what lies in the queue; what fails lies there again.
fn scale_up(fake: &Fake, policy: &Policy) -> Vec<Outcome> {
    let messages = std::mem::take(&mut fake.state_mut().queue);
    let body = |message| serde_json::to_string(message).expect("plain data");
    let in_queue = messages
        .iter()
        .enumerate()
        .map(|(place, message)| QueueMessage { message_id: place.to_string(), body: body(message) });
    let deadline = Deadline::of(fake.now(), fake.now().plus(MINUTE));
    let Some(outcomes) = run(handle_batch(fake, policy, in_queue.collect(), deadline)) else {
        fake.state_mut().queue = messages;
        return Vec::new();
    };
    let outcomes: Vec<Outcome> = outcomes.into_iter().map(|(_, outcome)| outcome).collect();
    let back = messages.into_iter().zip(&outcomes).filter(|(_, outcome)| matches!(outcome, Outcome::Failed(_)));
    fake.state_mut().queue.extend(back.map(|(message, _)| message));
    outcomes
}

fn sent(fake: &Fake) -> Vec<u64> {
    fake.state().queue.iter().map(|message| message.job_id.0).collect()
}

fn job(fake: &Fake, id: u64) -> JobRecord {
    fake.get::<JobRecord>(&id.to_string()).expect("a record")
}

fn repository(name: &str) -> Repository {
    Repository::try_from(name.to_owned()).expect("a full name")
}

/// Jobs of `octo/hello`, queued two minutes ago.
fn world(jobs: impl IntoIterator<Item = u64>) -> Fake {
    let fake = Fake::new();
    let at = fake.now().minus(2 * MINUTE);
    jobs.into_iter().for_each(|id| fake.queue_job(JobId(id), "linux", at));
    fake
}

fn searched(fake: &Fake) -> SearchedOwner {
    fake.get::<SearchCursor>(SearchCursor::ID).expect("stored").owners["octo"].clone()
}

#[test]
fn a_job_that_nobody_told_us_of_is_found_sent_and_launched_for_once() {
    let fake = Fake::new();
    fake.queue_job(JobId(1), "linux", fake.now());
    fake.queue_job(JobId(2), "windows", fake.now().minus(MINUTE));
    assert_eq!(pass(&fake, &policy()).found_count, 1, "no fleet takes the other");
    assert_eq!(sent(&fake), [0; 0], "younger than a minute: its event is on its way");
    fake.pass(MINUTE);
    assert_eq!(pass(&fake, &policy()).searched_count, 0, "five minutes lie between searches");
    fake.pass(4 * MINUTE);
    let report = pass(&fake, &policy());
    assert_eq!((report.sent_count, report.oldest_unserved_seconds), (1, Some(300)));
    let message = fake.state().queue[0].clone();
    assert_eq!((message.job_id, message.queued_at), (JobId(1), fake.now().minus(5 * MINUTE)));
    assert_eq!((message.organization.as_deref(), message.installation_id.map(|id| id.0)), (Some("octo"), Some(7)));
    assert_eq!((message.ids.owner, message.ids.repository), (Some(12), Some(11)));
    assert_eq!(scale_up(&fake, &policy()), [Outcome::Launched]);
    assert_eq!(job(&fake, 1).ids, message.ids);
    for _ in 0..2 {
        fake.pass(5 * MINUTE);
        assert_eq!(pass(&fake, &policy()).sent_count, 0, "an instance was launched for it and may still take it");
    }
    assert_eq!(fake.living().len(), 1);
}

#[test]
fn installations_of_owners_whom_no_list_can_admit_are_neither_asked_nor_kept() {
    type Change = fn(&mut Policy);
    let changes: [(&str, Change); 3] = [
        ("by login", |policy| policy.owners = vec![Glob::new("octo")]),
        ("by repository", |policy| policy.repositories = vec![Glob::new("octo/*")]),
        ("by id", |policy| policy.ids.owners = Some([12].into())),
    ];
    for (case, change) in changes {
        let fake = world([1]);
        let strangers = (100..400).map(|id| Installation { owner_id: Some(id), ..installation(&format!("s{id}"), id) });
        fake.state_mut().installed.extend(strangers);
        let mut policy = policy();
        change(&mut policy);
        assert_eq!(pass(&fake, &policy).sent_count, 1, "{case}");
        assert_eq!(fake.calls_of("JobSearch::repositories_of"), 1, "{case}");
        let cursor = fake.get::<SearchCursor>(SearchCursor::ID).expect("stored");
        assert_eq!(cursor.owners.into_keys().collect::<Vec<_>>(), ["octo"], "{case}");
    }
}

#[test]
fn a_search_serves_what_the_lists_of_ids_admit_and_nothing_else() {
    for (case, owners, repositories, sent_count) in [
        ("no list", None, None, 1),
        ("on both", Some([12]), Some([11]), 1),
        ("its owner on none", Some([13]), None, 0),
        ("it on none", Some([12]), Some([12]), 0),
    ] {
        let fake = world([1]);
        let mut listed = policy();
        listed.ids.owners = owners.map(Into::into);
        listed.ids.repositories = repositories.map(Into::into);
        assert_eq!(pass(&fake, &listed).sent_count, sent_count, "{case}");
    }
}

#[test]
fn a_job_whose_runner_another_job_took_gets_another_runner_although_nobody_told_us() {
    let fake = world([1]);
    pass(&fake, &policy());
    scale_up(&fake, &policy());
    let instance = fake.all::<InstanceRecord>().pop().expect("launched");
    // Job 2's events are all lost; it took the runner of job 1.
    fake.queue_job(JobId(2), "linux", fake.now().minus(2 * MINUTE));
    fake.assign_job(JobId(2), instance.runner_id.expect("registered"), &instance.runner_name);
    fake.pass(5 * MINUTE);
    let report = pass(&fake, &policy());
    assert_eq!((report.started_count, report.sent_count), (1, 1));
    let record = fake.get::<InstanceRecord>(instance.instance_id.as_str()).expect("stored");
    assert_eq!(record.job_started.map(|started| started.job_id), Some(JobId(2)), "the instance has its job on record");
    assert_eq!(scale_up(&fake, &policy()), [Outcome::Launched]);
    assert_eq!(fake.living().len(), 2);
}

#[test]
fn a_launch_that_was_never_answered_and_that_no_job_wants_any_more_serves_nobody() {
    let fake = world([1]);
    pass(&fake, &policy());
    fake.always_fail("Compute::create_fleet", Class::OutcomeUnknown);
    scale_up(&fake, &policy());
    fake.heal();
    fake.state_mut().queue.clear();
    let launching = job(&fake, 1);
    assert!(matches!(launching.phase, JobPhase::Launching { .. }), "{launching:?}");
    // Another runner took the job, so that nobody repeats the call; and another job waits.
    fake.put_job(JobId(1), JobState::Completed);
    fake.put(&JobRecord { phase: JobPhase::Completed { at: fake.now(), conclusion: None }, ..launching });
    fake.queue_job(JobId(2), "linux", fake.now().minus(4 * MINUTE));
    fake.pass(6 * MINUTE);
    pass(&fake, &policy());
    assert_eq!(sent(&fake), [2], "what was asked for and never came is not on its way");
}

#[test]
fn an_instance_that_ended_and_is_listed_no_more_is_not_on_its_way() {
    let fake = world([1]);
    pass(&fake, &policy());
    assert_eq!(scale_up(&fake, &policy()), [Outcome::Launched]);
    // It ran another job, a short one, which nobody told us of; or EC2 named, to a repetition, what ended long before.
    fake.forget(&fake.living()[0]);
    let nearly_five_minutes = Duration::from_secs(290);
    fake.pass(nearly_five_minutes);
    pass(&fake, &policy());
    assert_eq!(sent(&fake), [0; 0], "a listing may lag");
    fake.pass(nearly_five_minutes);
    pass(&fake, &policy());
    assert_eq!(sent(&fake), [1]);
    assert_eq!(scale_up(&fake, &policy()), [Outcome::Launched]);
}

#[test]
fn many_short_jobs_that_came_and_went_untold_are_no_storm() {
    let fake = world(1..=15);
    let mut policy = policy();
    policy.fleets[0].runner_count_max = 30;
    pass(&fake, &policy);
    scale_up(&fake, &policy);
    assert_eq!(fake.living().len(), 15);
    for (id, instance_id) in (1..=15).zip(fake.living()) {
        fake.put_job(JobId(id), JobState::Completed);
        fake.set_instance_state(&instance_id, InstanceState::Terminated);
    }
    fake.queue_job(JobId(99), "linux", fake.now());
    fake.pass(5 * MINUTE);
    pass(&fake, &policy);
    assert_eq!(sent(&fake), [99]);
}

#[test]
fn a_runner_that_says_it_works_is_no_capacity_for_a_job_that_waits() {
    let fake = world([1]);
    pass(&fake, &policy());
    scale_up(&fake, &policy());
    let instance = fake.all::<InstanceRecord>().pop().expect("launched");
    fake.queue_job(JobId(2), "linux", fake.now());
    fake.pass(5 * MINUTE);
    let beat_at = fake.now();
    for (worker, expected) in [(Worker::None, 1), (Worker::Running, 2)] {
        fake.state_mut().queue.clear();
        fake.state_mut().vital_signs.insert(instance.instance_id.clone(), VitalSign { beat_at, worker });
        pass(&fake, &policy());
        assert_eq!(sent(&fake).len(), expected, "{worker:?}: job 2 alone, or both");
        fake.pass(5 * MINUTE);
    }
}

#[test]
fn a_job_that_github_took_back_from_a_runner_is_served_again() {
    let fake = world([1]);
    pass(&fake, &policy());
    scale_up(&fake, &policy());
    let mut record = job(&fake, 1);
    assert!(record.note_started(fake.now(), Some(RunnerId(9))));
    fake.put(&record);
    let mut instance = fake.all::<InstanceRecord>().pop().expect("launched");
    instance.busy_seen_at = Some(fake.now());
    fake.put(&instance);
    fake.pass(5 * MINUTE);
    assert_eq!(pass(&fake, &policy()).sent_count, 1);
    assert_eq!((job(&fake, 1).phase, job(&fake, 1).runner_id), (JobPhase::Queued, None));
    let mut record = job(&fake, 1);
    record.note_started(fake.now(), Some(RunnerId(9)));
    fake.put(&record);
    fake.pass(MINUTE);
    assert!(!record.note_queued_again(fake.now()), "a list may be older than the event");
}

#[test]
fn a_job_that_only_a_later_event_told_of_and_that_waits_again_is_served() {
    let fake = world([1]);
    fake.put(&JobRecord { fleet: None, phase: JobPhase::Started { at: fake.now() }, ..unknown(&fake) });
    fake.pass(5 * MINUTE);
    assert_eq!(pass(&fake, &policy()).sent_count, 1);
}

fn unknown(fake: &Fake) -> JobRecord {
    JobRecord {
        job_id: JobId(1),
        access: Access { scope: Scope::Organization { owner: "octo".into() }, installation_id: None },
        repository: repository("octo/hello"),
        run_id: crate::ids::RunId(1),
        run_attempt: 1,
        labels: vec!["self-hosted".into(), "linux".into()],
        fleet: Some(crate::ids::FleetName::new("linux")),
        phase: JobPhase::Queued,
        next_look: fake.now(),
        launch_count: 0,
        launches: Vec::new(),
        queued_at: fake.now(),
        runner_id: None,
        recorded_at: Some(fake.now()),
        given_up_at: None,
        ids: crate::ids::RepositoryIds::default(),
    }
}

/// The job's launch record and lease are there and nobody goes on with them: the function died before EC2 was called.
#[test]
fn a_job_left_in_launching_by_a_dead_function_starts_within_ten_minutes() {
    let fake = world([1]);
    pass(&fake, &policy());
    fake.always_fail("Compute::create_fleet", Class::Transient);
    scale_up(&fake, &policy());
    fake.heal();
    // As if killed in the call: lease held, message never seen again.
    let mut record = job(&fake, 1);
    let JobPhase::Launching { token, .. } = record.phase.clone() else { panic!("{:?}", record.phase) };
    let lease_until = fake.now().plus(5 * MINUTE);
    record.phase = JobPhase::Launching { token: token.clone(), lease_until };
    record.next_look = lease_until;
    fake.put(&record);
    fake.state_mut().queue.clear();
    let died_at = fake.now();
    while fake.living().is_empty() {
        fake.pass(MINUTE);
        let _ = try_pass(&fake, &policy()).expect("not killed");
        scale_up(&fake, &policy());
        assert!(fake.now().since(died_at) < 10 * MINUTE, "not launched within ten minutes");
    }
    let took = fake.now().since(died_at);
    writeln!(std::io::stdout(), "left in launching: launched {} s after the function died", took.as_secs())
        .expect("a standard output");
    // A boot takes two and a half minutes at most (facts/world.md E4).
    assert!(took + Duration::from_secs(150) < 10 * MINUTE, "{took:?}");
    assert_eq!(fake.state().fleet_calls, [token], "the same launch, not another");
}

#[test]
fn one_repositorys_refusal_stops_no_other_and_all_refusals_are_an_error() {
    for class in [Class::Absent, Class::Denied, Class::Rejected, Class::Transient] {
        let fake = world([1]);
        fake.queue_job_in(&repository("octo/closed"), JobId(2), "linux", fake.now().minus(2 * MINUTE));
        fake.state_mut().unreadable.insert(repository("octo/closed"), class);
        let report = failing_pass(&fake, &policy());
        assert_eq!((sent(&fake), report.searched_count), (vec![1], 2), "{class:?}");
        let expected = if class == Class::Transient { (0, 1) } else { (1, 0) };
        assert_eq!((report.unreadable_count, report.error_count), expected, "{class:?}");
    }
    let fake = world([1]);
    fake.state_mut().unreadable.insert(repository("octo/hello"), Class::Denied);
    let report = failing_pass(&fake, &policy());
    assert!(report.errors[0].contains("does the App have the permission \"Actions: read\""), "{:?}", report.errors);
}

#[test]
fn one_owners_fault_stops_no_other() {
    for call in ["JobSearch::repositories_of", "JobSearch::open_runs"] {
        let fake = world([1]);
        fake.state_mut().installed = vec![installation("acme", 8), installation("octo", 7)];
        fake.queue_job_in(&repository("acme/shop"), JobId(2), "linux", fake.now().minus(2 * MINUTE));
        // The first call of that name is acme's.
        let number = {
            let probe = world([1]);
            probe.state_mut().installed = vec![installation("acme", 8), installation("octo", 7)];
            probe.queue_job_in(&repository("acme/shop"), JobId(2), "linux", probe.now().minus(2 * MINUTE));
            pass(&probe, &policy());
            probe.number_of_first(call)
        };
        fake.fail_at(number, Class::Throttled { retry_after: None });
        let report = failing_pass(&fake, &policy());
        assert_eq!((sent(&fake), report.error_count), (vec![1], 1), "{call}");
        fake.pass(MINUTE);
        pass(&fake, &policy());
        assert_eq!(sent(&fake), [1, 2], "{call}: acme's turn comes with the next pass");
    }
}

#[test]
fn a_quiet_search_of_200_repositories_with_two_queued_jobs_costs_its_conditional_calls_only() {
    let fake = Fake::new();
    for number in 0..200 {
        let repository = repository(&format!("octo/r{number:03}"));
        fake.state_mut().repositories.insert(repository.clone());
        if number % 100 == 7 {
            fake.queue_job_in(&repository, JobId(number), "linux", fake.now().minus(2 * MINUTE));
        }
    }
    let mut policy = policy();
    policy.repositories = vec![crate::config::Glob::new("octo/r*")];
    let mut rows = Vec::new();
    for (case, charged) in [("first", 1 + 400 + 2), ("quiet", 0)] {
        let before =
            ["JobSearch::open_runs", "JobSearch::jobs_of_run", "JobSearch::repositories_of"].map(|c| fake.calls_of(c));
        let report = pass(&fake, &policy);
        let after =
            ["JobSearch::open_runs", "JobSearch::jobs_of_run", "JobSearch::repositories_of"].map(|c| fake.calls_of(c));
        let [runs, jobs, lists] = [0, 1, 2].map(|i| after[i] - before[i]);
        rows.push(format!(
            "{case}: {} conditional requests for runs, {jobs} for jobs, {lists} list of repositories; charged {}",
            2 * runs,
            report.charged_count
        ));
        assert_eq!((runs, jobs, lists), (200, 2, 1), "{case}");
        assert_eq!((report.charged_count, report.searched_count), (charged, 200), "{case}");
        scale_up(&fake, &policy);
        fake.pass(5 * MINUTE);
    }
    assert_eq!(fake.living().len(), 2);
    for row in rows {
        writeln!(std::io::stdout(), "{row}").expect("a standard output");
    }
}

#[test]
fn a_search_that_is_cut_goes_on_where_it_stopped_until_none_is_left_out() {
    let fake = world([]);
    for number in 0..40 {
        let repository = repository(&format!("octo/r{number:02}"));
        fake.queue_job_in(&repository, JobId(number), "linux", fake.now().minus(2 * MINUTE));
    }
    let begun_at = fake.now();
    let mut passes = 0;
    while searched_whole(&fake).is_none() {
        // Each list of runs takes a second of a pass of ten.
        for call in fake.calls()..fake.calls() + 400 {
            let runs = fake.calls_of("JobSearch::open_runs");
            fake.meanwhile(call, move |fake| {
                if fake.calls_of("JobSearch::open_runs") > runs {
                    fake.pass(Duration::from_millis(40));
                }
            });
        }
        let deadline = Deadline::of(fake.now(), fake.now().plus(Duration::from_secs(4)));
        let report = run(run_pass(&fake, &policy(), deadline)).expect("not killed").expect("no errors");
        passes += 1;
        assert!(passes < 50, "it comes to its end");
        assert!(report.cut_by_deadline || searched_whole(&fake).is_some(), "{report:?}");
        fake.pass(MINUTE);
    }
    assert!(passes > 1, "it was cut");
    let mut found = sent(&fake);
    found.sort_unstable();
    assert_eq!(found, (0..40).collect::<Vec<u64>>(), "every job was found, none twice");
    assert_eq!(searched(&fake).begun_at, Some(begun_at), "it was one search");
}

/// Each call takes a third of a second: 50 jobs that are due are more than a pass can send.
#[test]
fn a_backlog_in_slow_times_leaves_time_for_the_search_and_no_pass_runs_into_its_time_limit() {
    let fake = world([999]);
    let mut policy = policy();
    policy.fleets[0].runner_count_max = 100;
    let due = |id| JobRecord { job_id: JobId(id), next_look: fake.now(), phase: JobPhase::Queued, ..unknown(&fake) };
    (0..50).map(due).for_each(|job| fake.put(&job));
    for call in 1..2_000 {
        fake.meanwhile(call, |fake| fake.pass(Duration::from_millis(333)));
    }
    let begun_at = fake.now();
    let report = pass(&fake, &policy);
    assert!(report.cut_by_deadline && report.resent_count > 10, "{report:?}");
    assert!(fake.now() < begun_at.plus(MINUTE), "it ended after {:?}", fake.now().since(begun_at));
    assert!(sent(&fake).contains(&999), "the job that nobody told of waits for {:?}", sent(&fake));
    while fake.now() < begun_at.plus(4 * MINUTE) {
        fake.pass(MINUTE);
        pass(&fake, &policy);
    }
    let sent = sent(&fake);
    assert!((0..50).all(|id| sent.contains(&id)), "{sent:?}");
}

fn searched_whole(fake: &Fake) -> Option<Timestamp> {
    fake.get::<SearchCursor>(SearchCursor::ID)?.owners.get("octo")?.whole_at
}

#[test]
fn searches_that_overlap_are_one_search() {
    let calls = {
        let probe = world([1]);
        pass(&probe, &policy());
        probe.calls()
    };
    for number in 1..=calls {
        let fake = world([1]);
        fake.meanwhile(number, |fake| drop(try_pass(fake, &policy())));
        let _ = try_pass(&fake, &policy()).expect("not killed");
        assert!(!sent(&fake).is_empty(), "within call {number}");
        scale_up(&fake, &policy());
        scale_up(&fake, &policy());
        assert_eq!(fake.living().len(), 1, "within call {number}");
    }
}

#[test]
fn a_low_budget_slows_the_search_down() {
    let fake = world([]);
    pass(&fake, &policy());
    let resets_at = fake.now().plus(60 * MINUTE);
    fake.state_mut().budget = Some(ApiBudget { limit: 5_000, remaining: 900, resets_at });
    let mut searches = 0;
    for _ in 0..30 {
        fake.pass(MINUTE);
        searches += pass(&fake, &policy()).searched_count;
    }
    assert_eq!(searches, 1, "once in half an hour");
}

#[test]
fn retire_launches_nothing_and_observe_is_about_removal() {
    for (mode, expected) in [(Mode::Enforce, 1), (Mode::Observe, 1), (Mode::Retire, 0)] {
        let fake = world([1]);
        let mut policy = pools::pool(2);
        policy.mode = mode;
        pass(&fake, &policy);
        scale_up(&fake, &policy);
        assert_eq!(fake.living().len(), expected * 3, "{mode:?}: one for the job and two for the pool");
    }
}

fn failed(fake: &Fake, id: u64, action: &str, at: Timestamp) {
    let delivery = Delivery {
        id,
        guid: DeliveryGuid::new(format!("guid-{id}")),
        delivered_at: at,
        event: "workflow_job".into(),
        action: Some(action.into()),
        installation_id: None,
    };
    fake.state_mut().deliveries.push((delivery, String::new()));
}

#[test]
fn github_is_asked_once_for_each_failed_delivery_of_a_job() {
    let fake = world([]);
    for (id, action, minutes) in
        [(1, "queued", 5), (2, "completed", 4), (3, "waiting", 3), (4, "in_progress", 2), (5, "queued", 61)]
    {
        failed(&fake, id, action, fake.now().minus(minutes * MINUTE));
    }
    assert_eq!(pass(&fake, &policy()).redelivered_count, 3);
    assert_eq!(fake.state().redelivered, [1, 2, 4], "oldest first; not what waits, nor what is long past");
    // The repetition of the first fails as well: another attempt of the same guid.
    let again = Delivery { id: 9, delivered_at: fake.now(), ..fake.state().deliveries[0].0.clone() };
    fake.state_mut().deliveries.push((again, String::new()));
    for _ in 0..120 {
        fake.pass(MINUTE);
        assert_eq!(pass(&fake, &policy()).redelivered_count, 0);
    }
    failed(&fake, 10, "queued", fake.now());
    fake.pass(MINUTE);
    assert_eq!(pass(&fake, &policy()).redelivered_count, 1);
}

#[test]
fn many_failed_deliveries_are_asked_for_over_several_passes_and_each_once() {
    let fake = world([]);
    let at = fake.now().minus(30 * MINUTE);
    (0..70_i64).for_each(|id| failed(&fake, id.unsigned_abs(), "queued", Timestamp(at.0 + 1_000 * id)));
    for expected in [30, 30, 10, 0] {
        assert_eq!(pass(&fake, &policy()).redelivered_count, expected);
        fake.pass(MINUTE);
    }
    assert_eq!(fake.state().redelivered, (0..70).collect::<Vec<u64>>());
}

#[test]
fn what_a_refusal_leaves_open_is_asked_for_again_and_nothing_else_is() {
    for (class, again) in [
        (Class::Throttled { retry_after: None }, true),
        (Class::Transient, true),
        (Class::OutcomeUnknown, false),
        (Class::Rejected, false),
        (Class::Absent, false),
    ] {
        let fake = world([]);
        failed(&fake, 1, "queued", fake.now());
        failed(&fake, 2, "queued", fake.now());
        fake.always_fail("Redelivery::redeliver", class);
        let report = failing_pass(&fake, &policy());
        assert_eq!(report.redelivered_count, 0, "{class:?}");
        fake.heal();
        fake.pass(20 * MINUTE);
        assert_eq!(pass(&fake, &policy()).redelivered_count, if again { 2 } else { 0 }, "{class:?}");
    }
}

#[test]
fn a_pass_killed_anywhere_finds_the_job_and_one_instance_is_launched_for_it() {
    let played = at_every_call(|fake, at| {
        fake.queue_job(JobId(1), "linux", fake.now().minus(2 * MINUTE));
        failed(fake, 1, "queued", fake.now());
        let _ = try_pass(fake, &policy());
        for _ in 0..8 {
            fake.heal();
            scale_up(fake, &policy());
            fake.pass(MINUTE);
            let _ = try_pass(fake, &policy());
        }
        scale_up(fake, &policy());
        assert_eq!(fake.living().len(), 1, "{at:?}");
        assert!(matches!(job(fake, 1).phase, JobPhase::Launched { .. }), "{at:?}");
        assert!(fake.state().redelivered.len() <= 2, "{at:?}: asked once, or twice where the answer was repeated");
        assert!(searched_whole(fake).is_some(), "{at:?}: the search comes to its end");
    });
    writeln!(std::io::stdout(), "killed, failed and repeated {played} times").expect("a standard output");
    assert!(played >= 60, "{played}");
}

#[test]
fn what_the_cursors_cannot_be_read_as_is_left_alone_and_told() {
    let fake = world([1]);
    pass(&fake, &policy());
    for id in [SearchCursor::ID, RedeliveryCursor::ID] {
        let key = crate::ports::Key { kind: crate::ports::Kind::Cursor, id: id.to_owned() };
        let mut item = fake.state().items.get(&key).cloned().expect("stored");
        item.schema = 99;
        fake.put_item(item);
    }
    fake.pass(5 * MINUTE);
    assert_eq!(failing_pass(&fake, &policy()).error_count, 2);
}

#[test]
fn a_listing_that_never_ends_holds_up_one_owner_and_no_other() {
    for call in ["JobSearch::installations", "JobSearch::repositories_of", "JobSearch::open_runs"] {
        let fake = world([1]);
        fake.always_hang(call);
        let begun_at = fake.now();
        let report = failing_pass(&fake, &policy());
        assert!(fake.now() < begun_at.plus(MINUTE), "{call}: it ended after {:?}", fake.now().since(begun_at));
        assert!(report.cut_by_deadline || report.error_count > 0, "{call}: somebody has to hear of it: {report:?}");
        let cursor = fake.get::<SearchCursor>(SearchCursor::ID).expect("stored");
        assert_eq!(cursor.lease_until, None, "{call}: the next pass may begin");
        if call != "JobSearch::installations" {
            assert_eq!(searched(&fake).seen_at, Some(begun_at), "{call}: the other owners are before it");
        }
        fake.heal();
        // A repository that took a whole pass has its turn in the next search.
        for _ in 0..2 {
            fake.pass(5 * MINUTE);
            pass(&fake, &policy());
        }
        assert!(sent(&fake).contains(&1), "{call}");
    }
}

#[test]
fn an_owner_that_was_never_searched_whole_ages_from_when_github_first_named_it() {
    let fake = world([1]);
    fake.always_fail("JobSearch::repositories_of", Class::Transient);
    failing_pass(&fake, &policy());
    fake.pass(7 * MINUTE);
    assert_eq!(failing_pass(&fake, &policy()).oldest_search_seconds, Some(420));
}

#[test]
fn a_start_that_cannot_be_noted_does_not_make_every_search_begin_anew() {
    let fake = world([1, 2]);
    pass(&fake, &policy());
    scale_up(&fake, &policy());
    let instance = fake.all::<InstanceRecord>().pop().expect("launched");
    fake.assign_job(JobId(2), instance.runner_id.expect("registered"), &instance.runner_name);
    let item = fake.items().into_iter().find(|item| item.key.id == instance.instance_id.as_str()).expect("stored");
    fake.put_item(Item { body: Body::new("of another schema"), ..item });
    fake.pass(5 * MINUTE);
    let begun_at = fake.now();
    assert!(failing_pass(&fake, &policy()).error_count > 0, "somebody hears of it");
    assert_eq!(searched(&fake).begun_at, Some(begun_at));
}

#[test]
fn without_vital_signs_jobs_are_served_and_somebody_hears_of_it() {
    let fake = world([1]);
    pass(&fake, &policy());
    scale_up(&fake, &policy());
    fake.queue_job(JobId(2), "linux", fake.now());
    fake.pass(20 * MINUTE);
    fake.always_fail("VitalSigns::read", Class::Denied);
    let report = failing_pass(&fake, &policy());
    assert_eq!((report.sent_count, report.error_count), (1, 1), "{report:?}");
    assert_eq!(searched(&fake).begun_at, Some(fake.now()), "and the search is not begun anew");
}

#[test]
fn what_boots_for_others_is_no_capacity_for_a_job_that_asks_for_more_than_they() {
    let fake = world([1]);
    let mut policy = policy();
    policy.fleets[0].label_overrides.instance_types = vec!["c7i.large".to_owned()];
    pass(&fake, &policy);
    scale_up(&fake, &policy);
    assert_eq!(fake.living().len(), 1, "it boots");
    fake.queue_job(JobId(2), "linux", fake.now().minus(MINUTE));
    let asked = "ghr-instance-type:c7i.large".to_owned();
    fake.state_mut().details.get_mut(&JobId(2)).expect("queued").labels.push(asked);
    // The first job was served elsewhere: what boots is free.
    fake.put_job(JobId(1), JobState::Completed);
    fake.pass(5 * MINUTE);
    assert_eq!(pass(&fake, &policy).sent_count, 1);
    assert_eq!(scale_up(&fake, &policy), [Outcome::Launched]);
    fake.pass(5 * MINUTE);
    assert_eq!(pass(&fake, &policy).sent_count, 0, "its own boots");
}

#[test]
fn a_job_that_waits_for_room_counts_as_waiting() {
    let fake = world([1, 2]);
    let mut policy = policy();
    policy.fleets[0].runner_count_max = 1;
    pass(&fake, &policy);
    scale_up(&fake, &policy);
    fake.pass(10 * MINUTE);
    let report = pass(&fake, &policy);
    assert!(report.oldest_unserved_seconds.is_some_and(|seconds| seconds >= 600), "{report:?}");
}
