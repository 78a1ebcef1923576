//! TOCTOU: a job is assigned between the busy check and the terminate.

use std::cell::Cell;
use std::rc::Rc;

use super::super::fixtures::{
    Made, Moment, acts, after_each_call, down, down_with, ends_and_leaves_nothing, job_ends, minutes,
    put_failed_delivery, put_job_that_waits, put_sign, swept,
};
use super::super::*;
use crate::removal::DeregistrationGround;
use crate::verdict::Reason;

/// How a job that was assigned makes itself known.
struct Arrival {
    case: &'static str,
    /// What lies ready before.
    before: fn(&Fake),
    arrive: fn(&Fake),
    /// The call by which a pass would see it, at the latest; the compare-and-swap sees events.
    seen_by: SeenBy,
}

#[derive(Clone, Copy)]
enum SeenBy {
    Call(&'static str),
    StoreOfTheIntent,
    Delete,
}

fn arrivals() -> Vec<Arrival> {
    vec![
        Arrival {
            case: "its event, while GitHub shows the runner as idle",
            before: |_| {},
            arrive: job_starts,
            seen_by: SeenBy::StoreOfTheIntent,
        },
        Arrival {
            case: "the vital sign: a worker runs",
            before: |_| {},
            arrive: |fake| put_sign(fake, Worker::Running, Duration::ZERO),
            seen_by: SeenBy::Call("VitalSigns::read"),
        },
        Arrival {
            case: "the vital sign: a job is being acquired",
            before: |_| {},
            arrive: |fake| put_sign(fake, Worker::Acquiring, Duration::ZERO),
            seen_by: SeenBy::Call("VitalSigns::read"),
        },
        Arrival {
            case: "the jobs API shows the job that waited on this runner",
            before: |fake| put_job_that_waits(fake, JobState::Queued, None),
            arrive: |fake| put_job_that_waits(fake, JobState::InProgress, Some(7)),
            seen_by: SeenBy::Call("Jobs::job"),
        },
        Arrival {
            case: "a job is queued and given to it at once",
            before: |_| {},
            // Of no fleet: those are read last.
            arrive: |fake| {
                fake.put(&JobRecord { fleet: None, ..waiting_job(fake.now()) });
                jobs_api_says(fake, 1, JobState::InProgress, Some(7));
            },
            seen_by: SeenBy::Call("Ledger::open"),
        },
        Arrival {
            case: "its event was lost and lies in GitHub's log",
            before: |_| {},
            arrive: |fake| put_failed_delivery(fake, "in_progress"),
            seen_by: SeenBy::Call("DeliveryLog::failed_deliveries_since"),
        },
    ]
}

/// Plays a pass, undisturbed: the number of the call that would see a sign of life at the latest, and that of all calls.
fn seen_by(fake: &Fake, seen_by: SeenBy, pass: fn(&Fake, &Policy) -> Report) -> (usize, usize) {
    let count = move |fake: &Fake| match seen_by {
        SeenBy::Call(name) => fake.calls_of(name),
        SeenBy::StoreOfTheIntent | SeenBy::Delete => acts(fake),
    };
    let (begun, before, last) = (fake.calls(), acts(fake), Rc::new(Cell::new(0)));
    let (seen, noted) = (Cell::new(count(fake)), last.clone());
    let note = move |fake: &Fake| {
        if count(fake) > seen.replace(count(fake)) {
            noted.set(fake.calls() - begun);
        }
    };
    after_each_call(fake, note, |fake| pass(fake, &policy()));
    assert_eq!(acts(fake), before + 1, "undisturbed it acts");
    let calls = fake.calls() - begun;
    match seen_by {
        SeenBy::Call(_) | SeenBy::Delete => (last.get(), calls),
        SeenBy::StoreOfTheIntent => (last.get() - 1, calls),
    }
}

/// The same, and that this call comes after the busy check: what may be deleted is read first, what keeps it second.
fn seen_after_the_busy_check(
    world: impl Fn() -> Fake,
    arrival: &Arrival,
    pass: fn(&Fake, &Policy) -> Report,
) -> (usize, usize) {
    let (busy_check, _) = seen_by(&world(), SeenBy::Call("RegistryRead::runner"), pass);
    let (seen_by, calls) = seen_by(&world(), arrival.seen_by, pass);
    assert!(busy_check > 0 && seen_by > busy_check, "{}: {seen_by}, busy check {busy_check}", arrival.case);
    (seen_by, calls)
}

#[test]
fn toctou_a_job_assigned_at_any_call_between_busy_check_and_delete_is_never_ended() {
    let busy = Arrival {
        case: "GitHub shows the runner as busy",
        before: |_| {},
        arrive: |fake| fake.state_mut().runners.iter_mut().for_each(|(_, runner)| runner.busy = true),
        seen_by: SeenBy::Delete,
    };
    for arrival in arrivals().into_iter().chain([busy]) {
        let ready = || {
            let fake = Moment::BeforeDelete.reached();
            (arrival.before)(&fake);
            fake
        };
        let (seen_by, calls) = seen_after_the_busy_check(ready, &arrival, down);
        for call in 1..=calls {
            let case = format!("{}, after call {call} of {calls}", arrival.case);
            let fake = ready();
            fake.meanwhile(fake.calls() + call, arrival.arrive);
            down(&fake, &policy());
            let deleted = fake.state().runners.is_empty();
            assert!(!deleted || call >= seen_by, "{case}: deregistered though call {seen_by} could have seen it");
            minutes(&fake, &policy(), 15);
            // Where the flag came after the DELETE, there is no registration that could show it: no evidence at all.
            let unseen = matches!(arrival.seen_by, SeenBy::Delete) && deleted;
            assert!(unseen || grounds(&fake).is_empty(), "{case}: ended");
        }
    }
}

#[test]
fn toctou_a_job_that_surfaces_at_any_call_of_the_last_pass_keeps_the_instance() {
    for arrival in arrivals() {
        let ready = || {
            let fake = Moment::BeforeTerminate.reached();
            (arrival.before)(&fake);
            fake
        };
        let (seen_by, calls) = seen_after_the_busy_check(ready, &arrival, down);
        for call in 1..seen_by {
            let case = format!("{}, after call {call} of {calls}", arrival.case);
            let fake = ready();
            fake.meanwhile(fake.calls() + call, arrival.arrive);
            down(&fake, &policy());
            minutes(&fake, &policy(), 15);
            assert!(grounds(&fake).is_empty(), "{case}: ended");
        }
    }
}

/// The orphan-sweeper's roads end in a DELETE or a terminate as well, and a job may come for each of these.
#[test]
fn toctou_a_job_that_comes_at_any_call_of_a_sweep_keeps_the_instance() {
    let worlds: [Made; 3] = [
        ("row 16: registration gone", |fake| {
            fake.state_mut().runners.clear();
            let spell = crate::ledger::Spell { since: fake.now().minus(HOUR), last: fake.now(), sweeps: 3 };
            edit(fake, &id(), |record| record.absent = Some(spell));
        }),
        ("row 18: never connected", |fake| {
            let runner = &mut fake.state_mut().runners[0].1;
            runner.online = false;
            runner.version = Some(None);
        }),
        ("row 19: offline", |fake| {
            fake.state_mut().runners[0].1.online = false;
            let spell = crate::ledger::Spell { since: fake.now().minus(HOUR), last: fake.now(), sweeps: 3 };
            edit(fake, &id(), |record| record.offline = Some(spell));
        }),
    ];
    for (world, make) in worlds {
        for arrival in arrivals() {
            let ready = || {
                let fake = Moment::BeforeDelete.reached();
                make(&fake);
                (arrival.before)(&fake);
                fake
            };
            let (seen_by, calls) = seen_after_the_busy_check(ready, &arrival, swept);
            for call in 1..seen_by {
                let case = format!("{world}; {}, after call {call} of {calls}", arrival.case);
                let fake = ready();
                fake.meanwhile(fake.calls() + call, arrival.arrive);
                swept(&fake, &policy());
                assert_eq!(acts(&fake), 0, "{case}: call {seen_by} could have seen it");
                minutes(&fake, &policy(), 15);
                assert!(grounds(&fake).is_empty(), "{case}: ended");
            }
        }
    }
}

/// Row 23 rests on the intent that precedes generate-jitconfig: whichever of the two is stored first refuses the other.
#[test]
fn toctou_a_configuration_made_at_any_call_of_the_sweep_that_would_end_its_instance_keeps_it() {
    let ready = || {
        let fake = Moment::BeforeDelete.reached();
        fake.state_mut().runners.clear();
        edit(&fake, &id(), |record| {
            record.runner_id = None;
            record.jit_intent_at = None;
        });
        fake
    };
    let (stored, calls) = seen_by(&ready(), SeenBy::StoreOfTheIntent, swept);
    for call in 1..stored {
        let fake = ready();
        fake.meanwhile(fake.calls() + call, |fake| {
            let now = fake.now();
            edit(fake, &id(), |record| record.jit_intent_at = Some(now));
        });
        swept(&fake, &policy());
        assert_eq!(acts(&fake), 0, "call {call} of {calls}");
    }
}

#[test]
fn toctou_a_job_that_surfaces_in_any_minute_of_the_quarantine_keeps_the_instance() {
    for arrival in arrivals() {
        for minute in 0..5 {
            let fake = Moment::BeforeDelete.reached();
            (arrival.before)(&fake);
            down(&fake, &policy());
            assert!(fake.state().runners.is_empty(), "{}: deregistered", arrival.case);
            minutes(&fake, &policy(), minute);
            assert!(grounds(&fake).is_empty(), "quarantine");
            (arrival.arrive)(&fake);
            minutes(&fake, &policy(), 30);
            assert!(grounds(&fake).is_empty(), "{} in minute {minute}: ended", arrival.case);
        }
    }
}

#[test]
fn toctou_busy_false_while_a_job_runs_is_outweighed_by_every_other_witness() {
    for arrival in arrivals() {
        let fake = Fake::new();
        idle_runner(&fake);
        (arrival.before)(&fake);
        (arrival.arrive)(&fake);
        minutes(&fake, &policy(), 90);
        assert!(fake.state().runners.iter().all(|(_, runner)| !runner.busy), "the flag lies all the time");
        assert_eq!(acts(&fake), 0, "{}", arrival.case);
    }
}

#[test]
fn toctou_a_delete_that_succeeds_although_a_job_runs_is_not_followed_by_a_terminate() {
    // GitHub shows the runner as idle and answers the DELETE with 204, the job running all the while; its event comes
    // later than a whole quarantine's first minutes, or only the jobs in progress show it.
    for (case, arrive) in [
        ("late event", job_starts as fn(&Fake)),
        ("its event never came, the job waits in the ledger", |fake| {
            put_job_that_waits(fake, JobState::InProgress, Some(7));
        }),
    ] {
        let fake = Moment::BeforeDelete.reached();
        assert_eq!(down(&fake, &policy()).deregistered.get(&DeregistrationGround::Idle), Some(&1), "{case}: 204");
        fake.pass(4 * MINUTE + MINUTE / 2);
        arrive(&fake);
        for _ in 0..90 {
            fake.pass(MINUTE);
            let report = down(&fake, &policy());
            assert!(report.kept.contains_key(&Reason::JobSurfaced), "{case}: {:?}", report.kept);
            swept(&fake, &policy());
        }
        assert!(grounds(&fake).is_empty(), "{case}");
        jobs_api_says(&fake, 1, JobState::Completed, Some(7));
        job_ends(&fake);
        ends_and_leaves_nothing(&fake, case);
    }
}

#[test]
fn toctou_a_flag_that_lies_both_ways_is_answered_by_the_refusal() {
    let fake = Moment::BeforeDelete.reached();
    // Idle whenever it is read, and busy when told to delete it.
    let report = down_with(&fake, |fake| {
        let busy = record_of(fake).deregister_intent.is_some();
        fake.state_mut().runners[0].1.busy = busy;
    });
    assert_eq!(report.refused_busy_count, 1);
    fake.state_mut().runners[0].1.busy = false;
    minutes(&fake, &policy(), 120);
    assert_eq!((fake.calls_of("Registry::deregister"), grounds(&fake)), (1, vec![]), "422 is remembered for good");
    assert!(record_of(&fake).busy_seen_at.is_some());
}
