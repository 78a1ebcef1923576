//! What a job lives through while it waits: another configuration, a GitHub that does not answer, refusals, other schemas.

use super::{batch, batch_of, in_queue, message, minutes, phase, try_batch, world};
use crate::config::{Market, Policy};
use crate::demand::send_due_jobs;
use crate::error::Class;
use crate::fake::{Fake, Fault, policy, run};
use crate::ids::{FleetName, InstanceId, JobId, Repository, RunnerId, RunnerName, Scope};
use crate::ledger::{
    Fallback, FleetRecord, InstanceRecord, JobCompleted, JobPhase, JobRecord, JobStarted, LaunchRecord, OrphanEvent,
    Record,
};
use crate::ports::{Instance, InstanceState, Item, JobState, Tags};
use crate::scale_up::{JobMessage, Outcome};
use crate::time::{Clock, Deadline};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

fn send_due(fake: &Fake, policy: &Policy) -> usize {
    let deadline = Deadline::of(fake.now(), fake.now().plus(minutes(1)));
    run(send_due_jobs(fake, policy, deadline)).expect("not killed").sent.len()
}

fn renamed() -> Policy {
    let mut policy = policy();
    policy.fleets[0].name = FleetName::new("renamed");
    policy
}

fn job(fake: &Fake, id: u64) -> JobRecord {
    fake.get(&id.to_string()).expect("stored")
}

fn is_failed(outcomes: &[Outcome]) -> bool {
    outcomes.iter().all(|outcome| matches!(outcome, Outcome::Failed(_)))
}

fn make_foreign<R: Record>(fake: &Fake, id: &str) {
    let item = fake.items().into_iter().find(|item| item.key == R::key(id)).expect("stored");
    fake.put_item(Item { schema: 99, ..item });
}

#[test]
fn a_job_that_waits_in_a_fleet_that_is_renamed_is_sent_again_and_launched_for() {
    let fake = world([1, 2]);
    let mut full = policy();
    full.fleets[0].runner_count_max = 1;
    assert_eq!(batch(&fake, &full, &[1, 2]), [Outcome::Launched, Outcome::Waiting]);
    fake.pass(minutes(1));
    assert_eq!(send_due(&fake, &renamed()), 1);
    assert_eq!(batch(&fake, &renamed(), &[2]), [Outcome::Launched]);
    assert_eq!(job(&fake, 2).fleet, Some(FleetName::new("renamed")));
}

#[test]
fn a_job_that_never_got_further_than_its_record_is_found_although_its_fleet_is_renamed() {
    for class in [Class::Transient, Class::Absent] {
        let fake = world([1]);
        fake.always_fail("Jobs::job", class);
        assert!(is_failed(&batch(&fake, &policy(), &[1])));
        fake.heal();
        fake.pass(minutes(16));
        assert_eq!(send_due(&fake, &renamed()), 1, "{class:?}");
    }
}

#[test]
fn a_launch_left_by_a_fleet_that_is_renamed_gives_its_jobs_to_the_fleet_chosen_now() {
    let fake = world([1]);
    fake.always_fail("Compute::create_fleet", Class::OutcomeUnknown);
    batch(&fake, &policy(), &[1]);
    fake.heal();
    fake.pass(minutes(6));
    assert_eq!(batch(&fake, &renamed(), &[1]), [Outcome::Waiting]);
    assert_eq!(job(&fake, 1).fleet, Some(FleetName::new("renamed")));
    fake.pass(minutes(1));
    assert_eq!(send_due(&fake, &renamed()), 1);
    assert_eq!(batch(&fake, &renamed(), &[1]), [Outcome::Launched]);
}

#[test]
fn a_job_that_waits_is_moved_to_the_fleet_chosen_now_and_that_fleet_has_a_record_first() {
    let fake = world([1]);
    fake.put_job(JobId(1), JobState::NotYetQueued);
    assert_eq!(batch(&fake, &policy(), &[1]), [Outcome::Waiting]);
    assert_eq!(batch(&fake, &renamed(), &[1]), [Outcome::Waiting]);
    assert_eq!(job(&fake, 1).fleet, Some(FleetName::new("renamed")));
    let fleets: Vec<FleetName> = fake.all::<FleetRecord>().into_iter().map(|record| record.fleet).collect();
    assert_eq!(fleets, [FleetName::new("linux"), FleetName::new("renamed")]);
}

#[test]
fn a_job_never_answered_for_is_given_up_although_demand_keeps_sending_it() {
    let fake = world([1]);
    fake.always_fail("Jobs::job", Class::Absent);
    for _ in 0..80 {
        batch(&fake, &policy(), &[1]);
        fake.pass(Duration::from_hours(1));
        send_due(&fake, &policy());
    }
    let given_up = job(&fake, 1);
    assert!(given_up.given_up_at.is_some() && !given_up.may_be_anywhere());
    assert!(given_up.expires_at().is_some() && given_up.open().is_none());
    assert_eq!(given_up.phase, JobPhase::Queued);
    assert!(is_failed(&batch(&fake, &policy(), &[1])), "a message on its way does not open it");
    assert_eq!(job(&fake, 1), given_up);
}

#[test]
fn a_job_that_was_given_up_is_served_again_once_a_message_comes_and_github_answers() {
    for (state, outcome) in [(JobState::Queued, Outcome::Launched), (JobState::NotYetQueued, Outcome::Waiting)] {
        let fake = world([1]);
        fake.always_fail("Jobs::job", Class::Absent);
        batch(&fake, &policy(), &[1]);
        fake.pass(Duration::from_hours(72));
        assert_eq!(send_due(&fake, &policy()), 0);
        fake.heal();
        fake.put_job(JobId(1), state);
        assert_eq!(batch(&fake, &policy(), &[1]), [outcome], "{state:?}");
        let record = job(&fake, 1);
        assert_eq!((record.given_up_at, record.recorded_at), (None, Some(fake.now())), "{state:?}");
        assert!(record.open().is_some() && record.expires_at().is_none(), "{state:?}");
    }
}

#[test]
fn a_runner_is_registered_under_the_name_on_record_although_the_prefix_changed() {
    let mut other_prefix = policy();
    other_prefix.fleets[0].runner_name_prefix = "ci-".to_owned();
    let fake = world([1]);
    fake.always_fail("Registry::generate_jit_config", Class::Transient);
    assert!(is_failed(&batch(&fake, &policy(), &[1])));
    fake.heal();
    assert_eq!(batch(&fake, &other_prefix, &[1]), [Outcome::Launched]);
    let record = fake.all::<InstanceRecord>().pop().expect("one");
    assert_eq!(fake.state().runners[0].1.name, record.runner_name);
}

#[test]
fn a_registration_whose_answer_was_lost_is_looked_up_under_the_name_on_record() {
    let mut other_prefix = policy();
    other_prefix.fleets[0].runner_name_prefix = "ci-".to_owned();
    let fake = world([1]);
    fake.always_fail("Registry::generate_jit_config", Class::OutcomeUnknown);
    assert!(is_failed(&batch(&fake, &policy(), &[1])));
    fake.heal();
    let name = fake.all::<InstanceRecord>()[0].runner_name.clone();
    let runner = crate::ports::Runner {
        id: RunnerId(7),
        name,
        online: false,
        busy: false,
        version: Some(None),
        ephemeral: None,
    };
    fake.put_runner(&Scope::Organization { owner: "octo".into() }, runner);
    assert_eq!(batch(&fake, &other_prefix, &[1]), [Outcome::Waiting]);
    assert_eq!(fake.all::<InstanceRecord>()[0].runner_id, Some(RunnerId(7)));
    assert_eq!(fake.state().runners.len(), 1, "no second registration");
}

/// Whoever asks next may meet a flag that is false in mid-job.
#[test]
fn a_runner_that_is_busy_when_its_launch_is_gone_on_with_is_remembered_as_busy() {
    for (call, fault) in
        [("Registry::generate_jit_config", Fault::FailAfter), ("Parameters::put_jit_config", Fault::KillAfter)]
    {
        let whole = world([1]);
        batch(&whole, &policy(), &[1]);
        let fake = Fake::with_fault(whole.number_of_first(call), fault);
        fake.put_job(JobId(1), JobState::Queued);
        let _ = try_batch(&fake, &policy(), &[1]);
        fake.heal();
        fake.state_mut().runners[0].1.busy = true;
        fake.pass(minutes(6));
        batch(&fake, &policy(), &[1]);
        let mut record = fake.all::<InstanceRecord>().pop().expect("one");
        assert!(record.busy_seen_at.take().is_some(), "{call}: {record:?}");
        record.job_completed = Some(JobCompleted { job_id: JobId(1), at: fake.now() });
        assert!(!record.note_busy_if_news(fake.now().plus(minutes(1))), "{call}: its job is over");
    }
}

#[test]
fn an_event_kept_under_the_name_on_record_is_found_although_the_prefix_changed() {
    let mut other_prefix = policy();
    other_prefix.fleets[0].runner_name_prefix = "ci-".to_owned();
    let fake = world([1]);
    fake.always_fail("Registry::generate_jit_config", Class::Transient);
    batch(&fake, &policy(), &[1]);
    fake.heal();
    let (at, runner_name) = (fake.now(), RunnerName::new("runner-i-00000000000000001"));
    let repository = Repository::try_from("octo/hello".to_owned()).expect("a name");
    let started = Some(JobStarted { job_id: JobId(9), repository, at, runner_id: None });
    let scope = Scope::Organization { owner: "octo".into() };
    fake.put(&OrphanEvent { scope, runner_name, started, completed: None, at });
    batch(&fake, &other_prefix, &[1]);
    let record = fake.all::<InstanceRecord>().pop().expect("one");
    assert_eq!(record.job_started.map(|started| started.job_id), Some(JobId(9)));
}

#[test]
fn a_launch_that_was_never_answered_is_forgotten_a_day_later_than_an_answered_one() {
    let fake = world([1]);
    fake.always_fail("Compute::create_fleet", Class::Transient);
    batch(&fake, &policy(), &[1]);
    let (at, week) = (fake.now(), Duration::from_hours(7 * 24));
    let expiry = |fake: &Fake| fake.all::<LaunchRecord>().pop().expect("one").expires_at();
    assert_eq!(expiry(&fake), Some(at.plus(Duration::from_hours(24)).plus(week)));
    fake.heal();
    fake.pass(minutes(6));
    batch(&fake, &policy(), &[1]);
    assert_eq!(expiry(&fake), Some(fake.now().plus(week)));
}

/// What a repetition may be refused with. The second, because the instances of the first call filled the account's limit.
const REFUSALS: [Class; 2] = [Class::Rejected, Class::NoCapacity];

#[test]
fn a_repetition_that_is_refused_is_no_answer_until_a_listing_must_show_its_instances() {
    for refusal in REFUSALS {
        let fake = world([1]);
        fake.always_fail("Compute::create_fleet", Class::OutcomeUnknown);
        assert!(is_failed(&batch(&fake, &policy(), &[1])));
        fake.heal();
        fake.always_fail("Compute::create_fleet", refusal);
        fake.pass(Duration::from_secs(299));
        assert!(is_failed(&batch(&fake, &policy(), &[1])), "{refusal:?}: the listing may lag");
        assert!(matches!(phase(&fake, 1), JobPhase::Launching { .. }), "{refusal:?}");
        fake.pass(Duration::from_secs(1));
        assert_eq!(batch(&fake, &policy(), &[1]), [Outcome::Waiting], "{refusal:?}");
        assert_eq!(phase(&fake, 1), JobPhase::Queued, "{refusal:?}");
    }
}

#[test]
fn a_repetition_that_is_refused_takes_the_instances_that_the_listing_shows_at_once() {
    for refusal in REFUSALS {
        let fake = world([1]);
        // The launch took effect and its record says nothing of it, as if the process had ended in between.
        batch(&fake, &policy(), &[1]);
        let mut launch = fake.all::<LaunchRecord>().pop().expect("one");
        (launch.instance_ids, launch.answered_at) = (None, None);
        launch.fallback = Some(Fallback { market: Market::OnDemand, offerings: launch.offerings.clone() });
        fake.put(&launch);
        let mut job = job(&fake, 1);
        job.phase = JobPhase::Launching { token: launch.token, lease_until: fake.now() };
        fake.put(&job);
        fake.always_fail("Compute::create_fleet", refusal);
        assert_eq!(batch(&fake, &policy(), &[1]), [Outcome::Launched], "{refusal:?}");
        assert_eq!(fake.living().len(), 1, "{refusal:?}");
        assert_eq!(fake.all::<LaunchRecord>()[0].epoch, 0, "{refusal:?}: it falls back to nothing");
    }
}

#[test]
fn a_launch_is_not_repeated_while_the_fleets_record_cannot_be_read() {
    let fake = world([1]);
    fake.always_fail("Compute::create_fleet", Class::OutcomeUnknown);
    batch(&fake, &policy(), &[1]);
    fake.heal();
    make_foreign::<FleetRecord>(&fake, "linux");
    let calls = fake.calls_of("Compute::create_fleet");
    assert!(is_failed(&batch(&fake, &policy(), &[1])));
    assert_eq!(fake.calls_of("Compute::create_fleet"), calls);
}

/// EC2 had one instance for `ids`; the first job got it, the others were left without.
fn served_in_part(ids: &[u64]) -> Fake {
    let fake = world(ids.iter().copied());
    fake.state_mut().capacity = Some(1);
    let outcomes = batch(&fake, &policy(), ids);
    assert!(outcomes[0] == Outcome::Launched && outcomes[1..].iter().all(|outcome| *outcome == Outcome::Waiting));
    fake.state_mut().capacity = None;
    fake.pass(Duration::from_secs(30));
    fake
}

/// A job starts on a runner of another launch, and we are told.
fn starts_elsewhere(fake: &Fake, id: u64) {
    fake.put_job(JobId(id), JobState::InProgress);
    let mut record = job(fake, id);
    record.note_started(fake.now(), Some(RunnerId(99)));
    fake.put(&record);
}

fn change_instance(fake: &Fake, change: impl Fn(&mut InstanceRecord)) {
    let mut record = fake.all::<InstanceRecord>().pop().expect("one");
    change(&mut record);
    fake.put(&record);
}

#[test]
fn a_job_that_its_launch_left_without_takes_the_instance_that_another_job_of_it_leaves() {
    let fake = served_in_part(&[1, 2]);
    starts_elsewhere(&fake, 1);
    assert_eq!(batch(&fake, &policy(), &[2]), [Outcome::AlreadyServed]);
    assert_eq!((fake.living().len(), fake.state().launches.len()), (1, 1), "one runner for it is enough");
    let (record, instance) = (job(&fake, 2), fake.all::<InstanceRecord>().pop().expect("one"));
    assert!(matches!(record.phase, JobPhase::Launched { .. }), "so that demand sees at once when it is gone");
    assert_eq!(record.next_look, instance.launched_at.plus(minutes(16)), "as for the job that it was launched for");
    assert_eq!(batch(&fake, &policy(), &[2]), [Outcome::AlreadyServed]);
}

#[test]
fn a_job_that_its_launch_left_without_is_launched_for_where_no_instance_of_it_is_left() {
    type Change = fn(&Fake);
    for (case, change) in [
        ("the other job still needs it", (|_| {}) as Change),
        ("it was taken", |fake| {
            starts_elsewhere(fake, 1);
            change_instance(fake, |record| record.busy_seen_at = Some(record.launched_at));
        }),
        ("it died", |fake| {
            starts_elsewhere(fake, 1);
            fake.set_instance_state(&fake.living()[0], InstanceState::Terminated);
        }),
        ("its configuration is lost", |fake| {
            starts_elsewhere(fake, 1);
            change_instance(fake, |record| {
                record.handed_over_at = None;
                record.lost_at = Some(record.launched_at);
            });
        }),
        ("it never connects", |fake| {
            starts_elsewhere(fake, 1);
            fake.pass(minutes(16));
        }),
        ("the launch's record was lost", |fake| {
            starts_elsewhere(fake, 1);
            fake.state_mut().items.retain(|key, _| key.kind != crate::ports::Kind::Launch);
        }),
    ] {
        let fake = served_in_part(&[1, 2]);
        change(&fake);
        assert_eq!(batch(&fake, &policy(), &[2]), [Outcome::Launched], "{case}");
    }
}

#[test]
fn of_two_jobs_left_without_the_older_takes_the_instance_and_the_other_is_launched_for() {
    for ids in [[2, 3], [3, 2]] {
        let fake = served_in_part(&[1, 2, 3]);
        starts_elsewhere(&fake, 1);
        let mut outcomes = batch(&fake, &policy(), &ids);
        if ids == [3, 2] {
            outcomes.reverse();
        }
        assert_eq!(outcomes, [Outcome::AlreadyServed, Outcome::Launched], "{ids:?}");
        assert_eq!(fake.living().len(), 2, "{ids:?}");
    }
    // Each by itself, whichever comes first.
    for ids in [[2, 3], [3, 2]] {
        let fake = served_in_part(&[1, 2, 3]);
        starts_elsewhere(&fake, 1);
        for id in ids {
            batch(&fake, &policy(), &[id]);
        }
        assert_eq!(fake.living().len(), 2, "{ids:?}");
    }
}

#[test]
fn a_job_left_to_an_instance_that_another_job_takes_is_sent_again_and_launched_for() {
    let fake = served_in_part(&[1, 2]);
    starts_elsewhere(&fake, 1);
    assert_eq!(batch(&fake, &policy(), &[2]), [Outcome::AlreadyServed]);
    change_instance(&fake, |record| record.busy_seen_at = Some(record.launched_at));
    fake.pass(minutes(16));
    assert_eq!(send_due(&fake, &policy()), 1);
    assert_eq!(batch(&fake, &policy(), &[2]), [Outcome::Launched]);
}

#[test]
fn an_instance_that_was_lost_is_left_to_no_job_and_a_later_one_of_its_launch_is() {
    let fake = world([1, 2]);
    // The first configuration cannot be handed over, the second can.
    for call in 1..60 {
        fake.meanwhile(call, |fake| match fake.calls_of("Registry::generate_jit_config") {
            0 => {}
            1 => fake.always_fail("Parameters::put_jit_config", Class::Denied),
            _ if fake.calls_of("Parameters::put_jit_config") > 0 => fake.heal(),
            _ => {}
        });
    }
    let outcomes = batch(&fake, &policy(), &[1, 2]);
    assert_eq!(outcomes, [Outcome::Launched, Outcome::Waiting]);
    let lost = fake.all::<InstanceRecord>().iter().filter(|record| record.lost_at.is_some()).count();
    assert_eq!((lost, fake.state().parameters.len()), (1, 1));
    fake.pass(Duration::from_secs(30));
    starts_elsewhere(&fake, 1);
    assert_eq!(batch(&fake, &policy(), &[2]), [Outcome::AlreadyServed]);
}

#[test]
fn a_configuration_that_may_have_been_put_is_no_loss_although_a_later_attempt_is_refused() {
    let fake = world([1]);
    for call in 1..60 {
        fake.meanwhile(call, |fake| match fake.calls_of("Parameters::put_jit_config") {
            0 => fake.always_fail("Parameters::put_jit_config", Class::OutcomeUnknown),
            _ => fake.always_fail("Parameters::put_jit_config", Class::Denied),
        });
    }
    assert_eq!(batch(&fake, &policy(), &[1]), [Outcome::Launched]);
    assert_eq!(fake.all::<InstanceRecord>()[0].lost_at, None);
}

#[test]
fn the_same_batch_again_costs_three_reads_and_a_write_a_job() {
    let ids: Vec<u64> = (1..=10).collect();
    let fake = world(ids.iter().copied());
    batch(&fake, &policy(), &ids);
    let (reads, writes) = (fake.calls_of("Ledger::read"), fake.calls_of("Ledger::write"));
    assert_eq!(batch(&fake, &policy(), &ids), vec![Outcome::AlreadyServed; 10]);
    assert_eq!(fake.calls_of("Ledger::read") - reads, 3, "jobs, launches, instances");
    assert_eq!(fake.calls_of("Ledger::write") - writes, 10);
}

#[test]
fn a_launch_that_nobody_repeats_holds_its_room_for_ten_minutes() {
    let fake = world([1, 2]);
    let mut small = policy();
    small.fleets[0].runner_count_max = 1;
    fake.always_fail("Compute::create_fleet", Class::Throttled { retry_after: None });
    assert!(is_failed(&batch(&fake, &small, &[1])));
    fake.heal();
    starts_elsewhere(&fake, 1);
    fake.pass(minutes(10));
    assert_eq!(batch(&fake, &small, &[2]), [Outcome::Waiting], "what it launched may not be shown yet");
    fake.pass(minutes(1));
    assert_eq!(batch(&fake, &small, &[2]), [Outcome::Launched]);
}

#[test]
fn a_launch_that_is_repeated_holds_its_room_until_what_it_launches_is_shown() {
    let fake = world([1, 2]);
    let mut small = policy();
    small.fleets[0].runner_count_max = 1;
    fake.always_fail("Compute::create_fleet", Class::OutcomeUnknown);
    for _ in 0..4 {
        batch(&fake, &small, &[1]);
        assert!(matches!(phase(&fake, 1), JobPhase::Launching { .. }), "its launch is gone on with");
        fake.pass(minutes(6));
        assert_eq!(batch(&fake, &small, &[2]), [Outcome::Waiting], "it was repeated less than ten minutes ago");
    }
}

#[test]
fn a_job_that_was_launched_for_again_takes_what_an_earlier_launch_has_left() {
    type Change = fn(&Fake, &InstanceId);
    let taken: Change = |fake, id| {
        let mut record = fake.get::<InstanceRecord>(id.as_str()).expect("recorded");
        record.busy_seen_at = Some(fake.now());
        fake.put(&record);
    };
    let dead: Change = |fake, id| fake.set_instance_state(id, InstanceState::Terminated);
    for (case, change) in [("another job took its own", taken), ("its own died", dead)] {
        let fake = served_in_part(&[1, 2]);
        let earlier = fake.living();
        assert_eq!(batch(&fake, &policy(), &[2]), [Outcome::Launched], "{case}: the first job still needs the first");
        let own = fake.living().into_iter().find(|id| !earlier.contains(id)).expect("launched");
        change(&fake, &own);
        starts_elsewhere(&fake, 1);
        assert_eq!(batch(&fake, &policy(), &[2]), [Outcome::AlreadyServed], "{case}");
        assert_eq!(fake.state().launches.len(), 2, "{case}");
        change(&fake, &earlier[0]);
        assert_eq!(batch(&fake, &policy(), &[2]), [Outcome::Launched], "{case}, and the earlier one too");
    }
}

#[test]
fn a_job_remembers_its_latest_launches() {
    let fake = world([1]);
    for _ in 0..12 {
        assert_eq!(batch(&fake, &policy(), &[1]), [Outcome::Launched]);
        for id in fake.living() {
            fake.set_instance_state(&id, InstanceState::Terminated);
        }
        fake.pass(minutes(1));
    }
    let (record, launches) = (job(&fake, 1), fake.state().fleet_calls.clone());
    assert_eq!((record.launch_count, &record.launches[..]), (12, &launches[4..]));
}

/// Somebody else's instance that bears all our tags.
fn look_alike(fake: &Fake, launch: &str) -> InstanceId {
    let id = InstanceId::new("i-ffffffffffffffff0");
    let tags = [
        ("ghr:environment", "test"),
        ("ghr:fleet", "linux"),
        ("ghr:owner", "octo"),
        ("ghr:launch", launch),
        ("aws:ec2launchtemplate:id", "lt-of-others"),
    ];
    let tags: Tags = tags.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let (launched_at, tags) = (fake.now(), tags.into());
    let instance = Instance { id: id.clone(), state: InstanceState::Running, launched_at, tags };
    fake.state_mut().instances.insert(id.clone(), instance);
    id
}

#[test]
fn a_look_alike_holds_no_room_and_an_instance_of_a_former_template_does() {
    let fake = world([1, 2]);
    let mut small = policy();
    small.fleets[0].runner_count_max = 1;
    look_alike(&fake, "t");
    assert_eq!(batch(&fake, &small, &[1]), [Outcome::Launched]);
    small.fleets[0].launch_template.id = "lt-new".to_owned();
    for _ in 0..3 {
        fake.pass(minutes(11));
        assert_eq!(batch(&fake, &small, &[2]), [Outcome::Waiting], "the ledger knows the first");
    }
}

#[test]
fn a_look_alike_is_not_taken_for_what_a_launch_made() {
    let fake = world([1]);
    fake.always_fail("Compute::create_fleet", Class::OutcomeUnknown);
    assert!(is_failed(&batch(&fake, &policy(), &[1])));
    let token = fake.all::<LaunchRecord>()[0].token.to_string();
    let foreign = look_alike(&fake, &token);
    fake.heal();
    fake.always_fail("Compute::create_fleet", Class::Rejected);
    fake.pass(minutes(6));
    assert_eq!(batch(&fake, &policy(), &[1]), [Outcome::Waiting]);
    assert_eq!(fake.get::<InstanceRecord>(foreign.as_str()), None, "nobody's instance becomes ours by a tag");
    assert!(fake.state().jit_requests.is_empty());
}

#[test]
fn an_instance_whose_hand_over_was_not_noted_is_left_to_a_job_for_the_time_of_a_lease() {
    let fake = world([1, 2]);
    fake.state_mut().capacity = Some(1);
    let noted = Rc::new(Cell::new(false));
    for call in 1..60 {
        let noted = Rc::clone(&noted);
        fake.meanwhile(call, move |fake| {
            if fake.calls_of("Parameters::put_jit_config") == 1 && !noted.replace(true) {
                fake.fail_once("Ledger::write", Class::Transient);
            }
        });
    }
    let outcomes = batch(&fake, &policy(), &[1, 2]);
    assert!(matches!(outcomes.as_slice(), [Outcome::Failed(_), Outcome::Waiting]), "{outcomes:?}");
    assert_eq!((fake.state().parameters.len(), fake.all::<InstanceRecord>()[0].handed_over_at), (1, None));
    fake.state_mut().capacity = None;
    fake.pass(Duration::from_secs(59));
    starts_elsewhere(&fake, 1);
    assert_eq!(batch(&fake, &policy(), &[2]), [Outcome::AlreadyServed], "it may connect");
    fake.pass(minutes(5));
    assert_eq!(batch(&fake, &policy(), &[2]), [Outcome::Launched], "it counts as lost");
}

#[test]
fn two_free_instances_of_two_launches_serve_two_jobs() {
    for ids in [&[3, 4][..], &[4][..]] {
        let fake = world([1, 2, 3, 4]);
        fake.state_mut().capacity = Some(1);
        batch(&fake, &policy(), &[1, 2, 3, 4]);
        fake.pass(Duration::from_secs(30));
        fake.state_mut().capacity = Some(1);
        batch(&fake, &policy(), &[2, 3, 4]);
        fake.state_mut().capacity = None;
        fake.pass(Duration::from_secs(30));
        assert_eq!(fake.living().len(), 2);
        starts_elsewhere(&fake, 1);
        starts_elsewhere(&fake, 2);
        let outcomes = batch(&fake, &policy(), ids);
        assert_eq!((outcomes, fake.living().len()), (vec![Outcome::AlreadyServed; ids.len()], 2), "{ids:?}");
    }
}

#[test]
fn launches_that_came_to_no_instance_do_not_push_out_the_one_that_did() {
    let fake = served_in_part(&[1, 2]);
    for _ in 0..8 {
        fake.state_mut().capacity = Some(0);
        assert_eq!(batch(&fake, &policy(), &[2]), [Outcome::Waiting]);
        fake.pass(minutes(1));
    }
    fake.state_mut().capacity = None;
    starts_elsewhere(&fake, 1);
    assert_eq!(batch(&fake, &policy(), &[2]), [Outcome::AlreadyServed]);
}

/// Job 1 runs, GitHub says so and does not say where: it may be on the launch's one instance, so that is not left to job 2.
#[test]
fn an_instance_that_a_started_job_may_sit_on_is_left_to_nobody() {
    let fake = served_in_part(&[1, 2]);
    fake.put_job(JobId(1), JobState::InProgress);
    assert_eq!(batch(&fake, &policy(), &[1]), [Outcome::NotQueued]);
    assert_eq!(batch(&fake, &policy(), &[2]), [Outcome::Launched]);
}

/// The outcome of that message alone.
fn handed_over(fake: &Fake, message: &JobMessage) -> Outcome {
    let (_, outcome) = batch_of(fake, &policy(), vec![in_queue(message)]).expect("not killed").remove(0);
    outcome
}

#[test]
fn of_the_messages_about_a_job_that_cannot_be_served_for_hours_the_latest_comes_back() {
    for (call, class) in [("Jobs::job", Class::Denied), ("ComputeRead::instances", Class::Transient)] {
        let fake = world([1]);
        fake.always_fail(call, class);
        let mut in_flight = vec![message(1)];
        for minute in 0..150 {
            if minute % 6 == 0 {
                in_flight.retain(|message| matches!(handed_over(&fake, message), Outcome::Failed(_)));
                assert_eq!(in_flight.len(), 1, "{call}, minute {minute}");
            }
            fake.pass(minutes(1));
            let sent = send_due(&fake, &policy());
            in_flight.append(&mut fake.state_mut().queue);
            assert!(in_flight.len() <= 2 && sent <= 1, "{call}, minute {minute}");
        }
        fake.heal();
        assert_eq!(handed_over(&fake, in_flight.last().expect("one")), Outcome::Launched, "{call}");
    }
}

#[test]
fn a_message_that_fails_comes_back_while_no_later_one_is_about_its_job() {
    let fake = world([1]);
    fake.always_fail("Jobs::job", Class::Denied);
    for _ in 0..3 {
        assert!(matches!(handed_over(&fake, &message(1)), Outcome::Failed(_)));
        fake.pass(minutes(5));
    }
    assert_eq!(send_due(&fake, &policy()), 1);
    assert_eq!(handed_over(&fake, &message(1)), Outcome::Waiting, "the later one is about it");
    // The job's record without a place in the index: nobody else would send.
    let mut nowhere = job(&fake, 1);
    nowhere.fleet = None;
    fake.put(&nowhere);
    assert!(matches!(handed_over(&fake, &message(1)), Outcome::Failed(_)));
}
