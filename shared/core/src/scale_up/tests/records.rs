//! Launch records, reservations, leases and the waiting index (design section 6): each under a crash at every call, and
//! under two invocations at once.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{batch, check, in_queue, message, minutes, phase, try_batch, world};
use crate::config::{Market, Policy};
use crate::demand::send_due_jobs;
use crate::fake::{Fake, Process, at_every_call, policy, run};
use crate::ids::{FleetName, JobId};
use crate::ledger::{FleetRecord, JobPhase, JobRecord, LaunchRecord};
use crate::ports::{JobState, Ledger, Offering, OpenPartition};
use crate::scale_up::{Outcome, handle_batch, plan};
use crate::time::{Clock, Deadline};

fn queue(fake: &Fake, ids: impl IntoIterator<Item = u64>) {
    ids.into_iter().for_each(|id| fake.put_job(JobId(id), JobState::Queued));
}

fn send_due(fake: &Fake, policy: &Policy) -> Vec<u64> {
    fake.state_mut().queue.clear();
    let deadline = Deadline::of(fake.now(), fake.now().plus(minutes(1)));
    run(send_due_jobs(fake, policy, deadline)).expect("not killed");
    fake.state().queue.iter().map(|message| message.job_id.0).collect()
}

/// Spot is out, and the fleet may fall back.
fn fallback_policy() -> Policy {
    let mut policy = policy();
    policy.fleets[0].fallback = Some(Market::OnDemand);
    policy
}

fn dry(fake: &Fake, market: Market) {
    let offering = Offering { instance_type: "m7i.large".to_owned(), subnet_id: "subnet-1".to_owned() };
    fake.state_mut().dry.insert((market, offering));
}

/// What a process must find that meets what another one left, in whatever epoch.
#[test]
fn a_launch_record_stands_for_one_request_an_epoch_and_is_there_before_it_is_made() {
    let policy = fallback_policy();
    let played = at_every_call(|fake, at| {
        let at = format!("{at:?}");
        queue(fake, [1, 2]);
        dry(fake, Market::Spot);
        try_batch(fake, &policy, &[1, 2]);
        fake.heal();
        for _ in 0..5 {
            let records = fake.all::<LaunchRecord>();
            for (token, (request, _)) in &fake.state().launches {
                // The record has gone on to the next epoch, or stands for the very request that was made.
                let stands = records.iter().any(|record| {
                    let own = plan::client_token(record) == *token;
                    let earlier = record.epoch == 1 && record.token == *token && request.market == Market::Spot;
                    (own && plan::request(record) == *request) || earlier
                });
                assert!(stands, "{at}: a request without its record");
            }
            fake.pass(minutes(6));
            batch(fake, &policy, &[1, 2]);
        }
        assert_eq!(fake.state().mismatches, 0, "{at}: another request under the same client token");
        // The second epoch is made once a launch, and only for it.
        let on_demand =
            fake.state().launches.values().filter(|(request, _)| request.market == Market::OnDemand).count();
        assert!(on_demand >= 1, "{at}: never fell back");
        assert!(fake.state().parameters.len() >= 2, "{at}");
    });
    assert!(played >= 80, "{played} crash points");
}

#[test]
fn two_invocations_that_go_on_with_one_launch_make_its_next_epoch_once() {
    let policy = fallback_policy();
    for (first, second) in (0..20).flat_map(|first| (0..20).map(move |second| (first, second))) {
        let at = format!("{first} {second}");
        let fake = world([1]);
        dry(&fake, Market::Spot);
        // Left behind in the middle of its first call.
        let mut dead = deliver(&fake, &policy, 1);
        while fake.calls_of("Compute::create_fleet") == 0 {
            dead.step(1);
        }
        drop(dead);
        fake.pass(minutes(6));
        let (mut one, mut other) = (deliver(&fake, &policy, 1), deliver(&fake, &policy, 1));
        one.step(first);
        other.step(second);
        let answers = [one.finish(), other.finish()].concat();
        assert_eq!(fake.living().len(), 1, "{at}: {answers:?}");
        assert_eq!((fake.state().launches.len(), fake.state().mismatches), (2, 0), "{at}: spot, then on-demand");
        assert_eq!(fake.state().jit_requests.len(), 1, "{at}: {answers:?}");
    }
}

fn deliver<'a>(fake: &'a Fake, policy: &'a Policy, id: u64) -> Process<'a, Vec<(String, Outcome)>> {
    deliver_all(fake, policy, &[id])
}

fn deliver_all<'a>(fake: &'a Fake, policy: &'a Policy, ids: &[u64]) -> Process<'a, Vec<(String, Outcome)>> {
    let deadline = Deadline::of(fake.now(), fake.now().plus(minutes(1)));
    let messages = ids.iter().map(|id| in_queue(&message(*id))).collect();
    Process::new(fake, handle_batch(fake, policy, messages, deadline))
}

#[test]
fn a_reservation_holds_room_while_its_instances_may_come_and_never_for_ever() {
    let mut policy = policy();
    policy.fleets[0].runner_count_max = 2;
    let played = at_every_call(|fake, at| {
        let at = format!("{at:?}");
        queue(fake, 1..=6);
        try_batch(fake, &policy, &[1, 2]);
        fake.heal();
        // At once, and while EC2 may yet show what was launched: never more than the cap.
        for _ in 0..3 {
            batch(fake, &policy, &[3, 4]);
            check(fake, &policy, &at);
            fake.pass(minutes(4));
        }
        // Whatever was left behind, an hour later all the room is there again.
        fake.pass(Duration::from_hours(1));
        for id in fake.living() {
            fake.set_instance_state(&id, crate::ports::InstanceState::Terminated);
        }
        (1..=4).for_each(|id| fake.put_job(JobId(id), JobState::Completed));
        fake.pass(Duration::from_secs(1));
        let outcomes = batch(fake, &policy, &[5, 6]);
        assert_eq!(outcomes, [Outcome::Launched, Outcome::Launched], "{at}");
        let reserved = fake.all::<FleetRecord>()[0].reservations.len();
        assert!(reserved <= 2, "{at}: {reserved} reservations are kept");
    });
    assert!(played >= 80, "{played} crash points");
}

#[test]
fn a_lease_lets_one_of_two_go_on_with_what_a_dead_process_left() {
    let policy = policy();
    let mut resumed = 0;
    for left_at in 1..20 {
        for (first, second) in (0..18).step_by(2).flat_map(|first| (0..18).map(move |second| (first, second))) {
            let at = format!("left before call {left_at}; {first} {second}");
            let fake = world([1]);
            let mut dead = deliver(&fake, &policy, 1);
            if !dead.step(left_at) {
                break;
            }
            drop(dead);
            let in_lease =
                fake.get::<JobRecord>("1").is_some_and(|job| matches!(job.phase, JobPhase::Launching { .. }));
            if in_lease {
                let early = batch(&fake, &policy, &[1]);
                assert!(matches!(early.as_slice(), [Outcome::Failed(_)]), "{at}: taken up within its lease");
            }
            fake.pass(minutes(5));
            super::at_once::connect(&fake);
            let calls = fake.state().jit_requests.len();
            let (mut one, mut other) = (deliver(&fake, &policy, 1), deliver(&fake, &policy, 1));
            one.step(first);
            other.step(second);
            let answers = [one.finish(), other.finish()].concat();
            assert_eq!(fake.living().len(), 1, "{at}: {answers:?}");
            assert!(fake.state().jit_requests.len() <= calls + 1, "{at}: two took it up");
            check(&fake, &policy, &at);
            resumed += usize::from(in_lease);
        }
    }
    assert!(resumed > 500, "{resumed} launches were gone on with");
}

/// Its message never comes again: the index alone must bring it back.
#[test]
fn a_job_left_in_launching_by_a_dead_function_is_launched_for_within_ten_minutes_of_it() {
    let policy = policy();
    let mut left = 0;
    let played = at_every_call(|fake, at| {
        queue(fake, [1]);
        // Every call takes its time: what is asked of GitHub is younger than the lease.
        (1..40).for_each(|call| fake.meanwhile(call, |fake| fake.pass(Duration::from_secs(2))));
        let killed = try_batch(fake, &policy, &[1]).is_none();
        fake.heal();
        let Some(JobPhase::Launching { .. }) = fake.get::<JobRecord>("1").map(|job| job.phase) else { return };
        left += usize::from(killed);
        super::at_once::connect(fake);
        let mut served_after = None;
        for ticks in 0..20 {
            for id in send_due(fake, &policy) {
                batch(fake, &policy, &[id]);
            }
            let served = matches!(phase(fake, 1), JobPhase::Launched { .. }) && !fake.state().parameters.is_empty();
            if served {
                served_after = Some(ticks * 30);
                break;
            }
            fake.pass(Duration::from_secs(30));
            super::at_once::connect(fake);
        }
        // A boot takes some minutes of the ten.
        assert!(served_after.is_some_and(|seconds| seconds <= 420), "{at:?}: {served_after:?}");
    });
    assert!(left >= 15 && played >= 80, "{left} of {played} were left in launching");
}

#[test]
fn a_job_that_waits_is_in_the_index_under_its_fleet_wherever_the_process_was_killed() {
    let mut policy = policy();
    policy.fleets[0].runner_count_max = 1;
    let partition = OpenPartition::Jobs(FleetName::new("linux"));
    let played = at_every_call(|fake, at| {
        queue(fake, [1, 2, 3]);
        try_batch(fake, &policy, &[1, 2, 3]);
        fake.heal();
        let recorded: Vec<u64> = fake.all::<JobRecord>().iter().map(|job| job.job_id.0).collect();
        let latest = fake.now().plus(minutes(16));
        let open = run(fake.open(&partition, latest, 100)).expect("not killed").expect("read");
        let mut indexed: Vec<u64> = open.iter().filter_map(|item| item.key.id.parse().ok()).collect();
        indexed.sort_unstable();
        assert_eq!(indexed, recorded, "{at:?}: each that has a record is looked at again within its time");
        // And the index brings each back: once there is room, for the others wait for that of the first.
        fake.pass(minutes(16));
        let mut policy = policy.clone();
        policy.fleets[0].runner_count_max = 3;
        let mut sent = send_due(fake, &policy);
        sent.sort_unstable();
        assert_eq!(sent, recorded, "{at:?}");
    });
    assert!(played >= 80, "{played} crash points");
}

#[test]
fn two_invocations_at_once_leave_every_job_in_the_index_once_whatever_their_order() {
    let mut policy = policy();
    policy.fleets[0].runner_count_max = 1;
    let partition = OpenPartition::Jobs(FleetName::new("linux"));
    for (first, second) in (0..24).flat_map(|first| (0..24).map(move |second| (first, second))) {
        let at = format!("{first} {second}");
        let fake = world([1, 2, 3]);
        let (mut one, mut other) = (deliver_all(&fake, &policy, &[1, 2]), deliver_all(&fake, &policy, &[2, 3]));
        one.step(first);
        other.step(second);
        let answers = [one.finish(), other.finish()].concat();
        let latest = fake.now().plus(minutes(16));
        let open = run(fake.open(&partition, latest, 100)).expect("not killed").expect("read");
        let indexed: BTreeSet<&str> = open.iter().map(|item| item.key.id.as_str()).collect();
        assert_eq!((open.len(), indexed), (3, BTreeSet::from(["1", "2", "3"])), "{at}: {answers:?}");
        assert_eq!(fake.living().len(), 1, "{at}: {answers:?}");
        // An acknowledged message leaves nothing behind but the index: each of its jobs has a time to look again.
        for (id, outcome) in &answers {
            let acknowledged = !matches!(outcome, Outcome::Failed(_));
            let job = fake.get::<JobRecord>(id.trim_start_matches('m')).expect("recorded");
            assert!(!acknowledged || job.next_look > fake.now(), "{at}: {id} {outcome:?}");
        }
    }
}

#[test]
fn jobs_that_wait_come_back_oldest_first_and_one_fleets_do_not_hold_up_anothers() {
    let mut policy = policy();
    policy.fleets = vec![crate::fake::fleet("linux"), crate::fake::fleet("gpu")];
    policy.fleets.iter_mut().for_each(|fleet| fleet.runner_count_max = 1);
    let fake = world(1..=6);
    let messages = (1..=6).rev().map(|id| {
        let mut message = message(id);
        if id > 3 {
            message.labels = vec!["self-hosted".into(), "gpu".into()];
        }
        in_queue(&message)
    });
    let outcomes = super::batch_of(&fake, &policy, messages.collect()).expect("not killed");
    let launched: Vec<&str> =
        outcomes.iter().filter(|(_, o)| *o == Outcome::Launched).map(|(id, _)| id.as_str()).collect();
    assert_eq!(launched, ["m4", "m1"], "the oldest of each fleet");
    // One fleet has room again: its next is served, whatever the other's wait for.
    let gpu = fake.living().into_iter().find(|id| fake.state().instances[id].tags["ghr:fleet"] == "gpu");
    fake.set_instance_state(&gpu.expect("launched"), crate::ports::InstanceState::Terminated);
    fake.pass(Duration::from_secs(31));
    let due = send_due(&fake, &policy);
    assert_eq!(due, [5, 6], "all that wait where there is room: {due:?}");
    let queued = fake.state().queue.clone();
    let again = super::batch_of(&fake, &policy, queued.iter().map(in_queue).collect()).expect("not killed");
    let launched: Vec<&str> =
        again.iter().filter(|(_, o)| *o == Outcome::Launched).map(|(id, _)| id.as_str()).collect();
    assert_eq!(launched, ["m5"]);
}
