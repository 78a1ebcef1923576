//! Messages that come twice, at the same time, and to processes that are killed: two invocations interleaved at every
//! call, one of them killed at every call, and several in a thousand orders.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;

use super::{batch, check, in_queue, message, minutes, world};
use crate::config::Policy;
use crate::fake::{Fake, Process, policy};
use crate::ids::{JobId, Repository};
use crate::ledger::{FleetRecord, InstanceRecord, JobPhase, JobRecord, JobStarted, LaunchRecord};
use crate::scale_up::{Outcome, handle_batch};
use crate::time::{Clock, Deadline};

type Batch<'a> = Process<'a, Vec<(String, Outcome)>>;

/// More calls than one invocation makes for the jobs of these tests, so that the last step is its end.
const CALLS_MAX: usize = 30;

fn deliver<'a>(fake: &'a Fake, policy: &'a Policy, ids: &[u64]) -> Batch<'a> {
    let messages = ids.iter().map(|id| in_queue(&message(*id))).collect();
    let deadline = Deadline::of(fake.now(), fake.now().plus(minutes(1)));
    Process::new(fake, handle_batch(fake, policy, messages, deadline))
}

/// Every message of a batch has its outcome, under its own id and in its own place.
fn outcomes(batch: Batch<'_>, ids: &[u64], at: &str) -> Vec<Outcome> {
    let answered = batch.finish();
    let expected: Vec<String> = ids.iter().map(|id| format!("m{id}")).collect();
    let named: Vec<&String> = answered.iter().map(|(id, _)| id).collect();
    assert_eq!(named, expected.iter().collect::<Vec<_>>(), "{at}");
    answered.into_iter().map(|(_, outcome)| outcome).collect()
}

/// The queue hands over again what failed, some time later, until nothing fails.
fn redeliver(fake: &Fake, policy: &Policy, ids: &[u64], at: &str) {
    for _ in 0..6 {
        let again = batch(fake, policy, ids);
        check(fake, policy, at);
        if !again.iter().any(|outcome| matches!(outcome, Outcome::Failed(_) | Outcome::Waiting)) {
            return;
        }
        fake.pass(minutes(6));
        connect(fake);
    }
    panic!("{at}: the messages never come to an end");
}

/// The instances that have their configuration start their runners.
pub(super) fn connect(fake: &Fake) {
    let mut state = fake.state_mut();
    let ready: Vec<String> = state.parameters.keys().map(ToString::to_string).collect();
    for (_, runner) in &mut state.runners {
        if ready.iter().any(|id| runner.name.to_string().ends_with(id.as_str())) {
            (runner.online, runner.version) = (true, Some(Some("2.336.0".to_owned())));
        }
    }
}

/// Registrations whose configuration went with a process: what was launched for them is lost, and is replaced.
fn lost(fake: &Fake) -> usize {
    let state = fake.state();
    state.runners.len() - state.parameters.len()
}

#[test]
fn a_message_that_comes_twice_at_once_launches_one_instance_in_whatever_order() {
    let policy = policy();
    let mut both_ended = 0;
    for first in 0..CALLS_MAX {
        for second in 0..CALLS_MAX {
            let at = format!("one stands before its call {}, the other before {}", first + 1, second + 1);
            let fake = world([1]);
            let (mut one, mut other) = (deliver(&fake, &policy, &[1]), deliver(&fake, &policy, &[1]));
            let ended = [one.step(first), other.step(second)];
            both_ended += usize::from(ended == [false, false]);
            let answers = [outcomes(one, &[1], &at), outcomes(other, &[1], &at)].concat();
            redeliver(&fake, &policy, &[1], &at);
            assert_eq!((fake.living().len(), fake.state().launches.len(), lost(&fake)), (1, 1, 0), "{at}: {answers:?}");
            assert_eq!(fake.state().jit_requests.len(), 1, "{at}");
            let launched = answers.iter().filter(|answer| **answer == Outcome::Launched).count();
            assert!(launched <= 1, "{at}: {answers:?}");
        }
    }
    assert!(both_ended > 0, "an invocation makes more calls than were tried");
}

#[test]
fn one_of_two_that_is_killed_at_any_call_leaves_the_job_one_instance_that_can_take_it() {
    let policy = policy();
    let mut losses = 0;
    for first in 0..CALLS_MAX {
        for second in 0..CALLS_MAX {
            let at = format!("one is killed before its call {}, the other stood before {}", first + 1, second + 1);
            let fake = world([1]);
            let (mut killed, mut other) = (deliver(&fake, &policy, &[1]), deliver(&fake, &policy, &[1]));
            killed.step(first);
            other.step(second);
            drop(killed);
            outcomes(other, &[1], &at);
            check(&fake, &policy, &at);
            connect(&fake);
            redeliver(&fake, &policy, &[1], &at);
            // A configuration that went with the process is replaced, with its instance; nothing else is launched twice.
            assert_eq!(fake.living().len(), 1 + lost(&fake), "{at}");
            assert!(lost(&fake) <= 1, "{at}");
            assert_eq!(fake.state().parameters.len(), 1, "{at}: one instance can take the job");
            losses += lost(&fake);
        }
    }
    assert!(losses > 0, "no configuration was ever lost, so not every call was tried");
}

/// A fixed sequence, so that a failure can be repeated by its seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % u64::try_from(limit).expect("small")).expect("small")
    }
}

#[test]
fn the_cap_holds_at_every_step_of_three_invocations_in_a_thousand_orders() {
    let mut policy = policy();
    policy.fleets[0].runner_count_max = 3;
    let (mut full, mut killed_count) = (0, 0);
    for seed in 0..1_000 {
        let mut dice = Dice(seed);
        let fake = world(1..=5);
        let all: [&[u64]; 3] = [&[1, 2, 3], &[2, 3, 4], &[5, 4, 1]];
        let mut batches: Vec<(Batch<'_>, &[u64])> =
            all.iter().map(|ids| (deliver(&fake, &policy, ids), *ids)).collect();
        let mut steps = 0;
        while !batches.is_empty() {
            let who = dice.below(batches.len());
            let at = format!("seed {seed}, step {steps}");
            let goes_on = batches[who].0.step(1 + dice.below(3));
            assert!(fake.living().len() <= 3, "{at}: {} instances", fake.living().len());
            if !goes_on {
                let (ended, ids) = batches.swap_remove(who);
                outcomes(ended, ids, &at);
            } else if steps > 5 && dice.below(60) == 0 {
                killed_count += 1;
                drop(batches.swap_remove(who));
            }
            steps += 1;
        }
        check(&fake, &policy, &format!("seed {seed}"));
        // What failed or was killed comes again: no job is launched for twice, and all room is used.
        let at = format!("seed {seed}, afterwards");
        for _ in 0..4 {
            fake.pass(minutes(5));
            connect(&fake);
            batch(&fake, &policy, &[1, 2, 3, 4, 5]);
            check(&fake, &policy, &at);
        }
        full += usize::from(fake.living().len() == 3);
        for id in 1..=5 {
            let job = fake.get::<JobRecord>(&id.to_string()).expect("recorded");
            assert!(job.is_waiting() && job.fleet.is_some(), "{at}: job {id} is lost");
            let launches = fake.all::<LaunchRecord>();
            let with_instances = launches.iter().filter(|launch| {
                launch.job_ids.contains(&JobId(id)) && launch.instance_ids.as_ref().is_some_and(|ids| !ids.is_empty())
            });
            assert!(with_instances.count() <= 1 + lost(&fake), "{at}: job {id} was launched for twice");
        }
    }
    assert!(full > 900 && killed_count > 100, "{full} full fleets and {killed_count} kills show too little");
}

#[test]
fn owners_of_one_batch_do_not_refuse_each_other_the_fleets_record() {
    let fake = world(1..=40);
    let mut policy = policy();
    policy.fleets[0].runner_count_max = 35;
    let messages = (1..=40)
        .map(|id| {
            let mut message = message(id);
            message.repository = format!("owner-{id}/hello").try_into().expect("a name");
            message.organization = Some(format!("owner-{id}"));
            in_queue(&message)
        })
        .collect();
    let deadline = Deadline::of(fake.now(), fake.now().plus(minutes(1)));
    // One call at a time, so that every owner gets its turn between any two of another's.
    let mut whole = Process::new(&fake, handle_batch(&fake, &policy, messages, deadline));
    while whole.step(1) {}
    let answers = whole.finish();
    let count = |wanted: &Outcome| answers.iter().filter(|(_, outcome)| outcome == wanted).count();
    assert_eq!((count(&Outcome::Launched), count(&Outcome::Waiting)), (35, 5), "{answers:?}");
    assert_eq!(fake.living().len(), 35);
    let reserved: u32 = fake.all::<FleetRecord>()[0].reservations.iter().map(|r| r.count).sum();
    assert_eq!(reserved, 35);
}

#[test]
fn a_hundred_jobs_make_one_fleet_call_and_none_is_lost_or_served_twice_wherever_it_is_killed() {
    let mut policy = policy();
    policy.fleets[0].runner_count_max = 300;
    let ids: Vec<u64> = (1..=100).collect();
    let fake = world(1..=100);
    assert_eq!(batch(&fake, &policy, &ids), vec![Outcome::Launched; 100]);
    assert_eq!((fake.calls_of("Compute::create_fleet"), fake.living().len()), (1, 100));
    // From GitHub's last word to the fleet call: here two transactions stand for one.
    let (asked, fleet_call) = (fake.position_of("Jobs::job"), fake.position_of("Compute::create_fleet"));
    let mut played = 0;
    for call in asked..=fleet_call {
        for fault in crate::fake::Fault::ALL {
            let at = format!("{fault:?} at call {call}");
            let fake = Fake::with_fault(call, fault);
            (1..=100).for_each(|id| fake.put_job(JobId(id), crate::ports::JobState::Queued));
            super::try_batch(&fake, &policy, &ids);
            fake.heal();
            check(&fake, &policy, &at);
            fake.pass(minutes(6));
            connect(&fake);
            redeliver(&fake, &policy, &ids, &at);
            assert_eq!((fake.living().len(), fake.state().parameters.len()), (100, 100), "{at}");
            played += 1;
        }
    }
    assert!(played >= 20, "{played} crash points");
}

#[test]
fn the_jobs_of_a_hundred_are_given_back_when_the_fleets_record_was_changed() {
    let mut policy = policy();
    policy.fleets[0].runner_count_max = 300;
    let ids: Vec<u64> = (1..=100).collect();
    let fake = world(1..=101);
    batch(&fake, &policy, &ids);
    let asked = fake.position_of("Jobs::job");
    // Another invocation reserves between the two transactions of this one, whichever call that is.
    for call in asked..asked + 6 {
        let (fake, inner) = (world(1..=101), policy.clone());
        fake.meanwhile(call, move |fake| {
            batch(fake, &inner, &[101]);
        });
        let answers = batch(&fake, &policy, &ids);
        assert_eq!(answers, vec![Outcome::Launched; 100], "after call {call}");
        assert_eq!(fake.living().len(), 101, "after call {call}");
        let tokens: BTreeSet<_> = fake.state().fleet_calls.iter().cloned().collect();
        assert_eq!(tokens.len(), 2, "after call {call}");
    }
}

/// Records are written again from what was read or written a moment ago: what the webhook writes in between is not lost.
#[test]
fn what_an_event_notes_while_any_call_is_in_flight_is_kept() {
    let calls = {
        let fake = world([1, 2]);
        batch(&fake, &policy(), &[1, 2]);
        fake.calls()
    };
    let mut noted_in_all = (0, 0);
    for call in 1..=calls {
        let fake = world([1, 2]);
        let noted = Rc::new(Cell::new((0, 0)));
        let met = Rc::clone(&noted);
        fake.meanwhile(call, move |fake| {
            let (jobs, instances) = (fake.all::<JobRecord>(), fake.all::<InstanceRecord>());
            met.set((jobs.len(), instances.len()));
            for mut job in jobs {
                job.note_started(fake.now(), None);
                fake.put(&job);
            }
            for mut instance in instances {
                let repository = Repository::try_from("octo/hello".to_owned()).expect("a name");
                instance.note_started(JobStarted { job_id: JobId(1), repository, at: fake.now(), runner_id: None });
                fake.put(&instance);
            }
        });
        batch(&fake, &policy(), &[1, 2]);
        let started = |job: &JobRecord| matches!(job.phase, JobPhase::Started { .. });
        let jobs = fake.all::<JobRecord>().iter().filter(|job| started(job)).count();
        let instances = fake.all::<InstanceRecord>().iter().filter(|record| record.job_started.is_some()).count();
        assert_eq!((jobs, instances), noted.get(), "during call {call}");
        noted_in_all = (noted_in_all.0 + jobs, noted_in_all.1 + instances);
    }
    assert!(
        noted_in_all.0 > calls && noted_in_all.1 > calls / 2,
        "events met records: {noted_in_all:?} in {calls} calls"
    );
}
