//! Each incident that this system answers, by name: GARM 699, the sweeper that killed live runners (Tuist), the race
//! between busy check and terminate (TOCTOU), Semaphore 3964, and what belongs to the same families. The fixtures at the
//! end put a world right before an act, for these tests and for those of the guards.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;

use super::*;
use crate::ledger::{DeliveryCursor, JobCompleted, PassCursor, Record};
use crate::ports::Key;
use crate::removal::DeregistrationGround;
use crate::verdict::Reason;

// GARM 699: the finaliser loses its record; a swallowed NotFound.

#[test]
fn garm_699_a_record_that_another_closes_in_mid_pass_is_opened_again_and_its_instance_ended() {
    let calls = calls_of_a_pass(&Moment::BeforeTerminate.reached());
    for call in 1..=calls {
        let fake = Moment::BeforeTerminate.reached();
        fake.meanwhile(fake.calls() + call, |fake| {
            let now = fake.now();
            edit(fake, &id(), |record| {
                record.gone_at = Some(now);
                record.cleaned_at = Some(now);
            });
        });
        down(&fake, &policy());
        ends_and_leaves_nothing(&fake, &format!("closed after call {call} of {calls}"));
    }
}

#[test]
fn garm_699_a_record_that_is_lost_in_mid_pass_is_rebuilt_and_its_instance_bounded_by_the_hard_age() {
    let calls = calls_of_a_pass(&Moment::BeforeTerminate.reached());
    for call in 1..=calls {
        let fake = Moment::BeforeTerminate.reached();
        fake.meanwhile(fake.calls() + call, lose_the_record);
        down(&fake, &policy());
        let ended_at_once = !grounds(&fake).is_empty();
        // The intent was stored before the record was lost: the act is as good as any.
        assert!(!ended_at_once || call > calls - 3, "call {call} of {calls}");
        minutes(&fake, &policy(), 30);
        assert_eq!(grounds(&fake).is_empty(), !ended_at_once, "call {call}: a rebuilt record ends nothing");
        if ended_at_once {
            bury(&fake);
            minutes(&fake, &policy(), 30);
            assert!(fake.all::<InstanceRecord>().is_empty() && fake.state().runners.is_empty(), "nothing is left");
        } else {
            fake.pass(HARD_AGE + 2 * HOUR);
            ends_and_leaves_nothing(&fake, &format!("lost after call {call} of {calls}"));
        }
    }
}

#[test]
fn garm_699_not_found_from_ec2_closes_nothing_and_is_tried_again() {
    let fake = Moment::BeforeTerminate.reached();
    fake.always_fail("Compute::terminate", Class::Absent);
    let report = down(&fake, &policy());
    assert!(report.errors.iter().any(|error| error.contains("Compute::terminate")), "visible: {report:?}");
    for _ in 0..20 {
        minutes(&fake, &policy(), 1);
        let record = record_of(&fake);
        assert!(record.gone_at.is_none() && record.cleaned_at.is_none(), "still open: {record:?}");
    }
    assert!(fake.calls_of("Compute::terminate") >= 7, "again, as soon as the last try's lease is over");
    assert!(grounds(&fake).is_empty());
    fake.heal();
    ends_and_leaves_nothing(&fake, "EC2 finds it again");
}

#[test]
fn garm_699_404_on_a_delete_is_no_success_and_the_runner_is_deregistered_later() {
    let fake = Moment::BeforeDelete.reached();
    fake.always_fail("Registry::deregister", Class::Absent);
    minutes(&fake, &policy(), 60);
    let record = record_of(&fake);
    assert_eq!(
        (record.deregistered_at, grounds(&fake)),
        (None, vec![]),
        "nothing rests on a DELETE that was not found"
    );
    assert!(fake.calls_of("Registry::deregister") > 1, "tried again");
    fake.heal();
    ends_and_leaves_nothing(&fake, "the DELETE works again");
}

#[test]
fn garm_699_a_registration_that_vanishes_before_the_delete_is_not_laid_to_it() {
    let fake = Moment::BeforeDelete.reached();
    down_with(&fake, |fake| {
        if record_of(fake).deregister_intent.is_some() {
            fake.state_mut().runners.clear();
        }
    });
    let record = record_of(&fake);
    assert_eq!(fake.calls_of("Registry::deregister"), 1, "and it was answered 404");
    assert_eq!((record.deregister_intent, record.deregistered_at), (None, None));
    let ended = minutes_until_ended(&fake);
    assert!(ended.is_some_and(|minutes| minutes >= 30), "as any registration that went without us: {ended:?}");
    assert_eq!(grounds(&fake), [Ground::RegistrationGone]);
}

#[test]
fn garm_699_a_delete_whose_failure_cannot_be_written_down_is_taken_up_again() {
    let fake = Moment::BeforeDelete.reached();
    // The way back to "pending" fails as well: intent stored, DELETE denied, and then no write works.
    fake.always_fail("Registry::deregister", Class::Denied);
    let report = down_with(&fake, |fake| {
        if fake.calls_of("Registry::deregister") > 0 {
            fake.always_fail("Ledger::write", Class::Transient);
        }
    });
    assert!(!report.errors.is_empty(), "visible");
    assert!(record_of(&fake).deregister_intent.is_some(), "stuck as in the incident");
    fake.heal();
    ends_and_leaves_nothing(&fake, "the ledger works again");
}

// Tuist: absence of our own record proves nothing about the job.

#[test]
fn tuist_a_live_runner_without_a_record_is_rebuilt_and_drained_and_never_ended() {
    type Shown = (&'static str, bool, fn(&Fake));
    // How it is shown, whether it is asked to drain, for it decides itself.
    let cases: [Shown; 6] = [
        ("busy", false, |fake| fake.state_mut().runners[0].1.busy = true),
        ("running its job, and shown idle", true, |_| {}),
        ("shown offline", true, |fake| fake.state_mut().runners[0].1.online = false),
        ("shown as never connected", true, |fake| {
            let runner = &mut fake.state_mut().runners[0].1;
            runner.online = false;
            runner.version = Some(None);
        }),
        ("not shown at all", false, |fake| fake.state_mut().runners.clear()),
        ("its worker heard of long ago", false, |fake| {
            let sign = VitalSign { beat_at: fake.now(), worker: Worker::Running };
            fake.state_mut().vital_signs.insert(id(), sign);
        }),
    ];
    for (case, drained, shown) in cases {
        let fake = Fake::new();
        put_instance(&fake, &id());
        of_our_template(&fake, &id());
        fake.put_runner(&access().scope, runner());
        shown(&fake);
        fake.pass(16 * MINUTE);
        let report = swept(&fake, &policy());
        assert_eq!((report.rebuilt_count, report.terminated.len()), (1, 0), "{case}");
        for _ in 0..180 {
            minutes(&fake, &policy(), 1);
        }
        assert_eq!(acts(&fake), 0, "{case}");
        assert_eq!(fake.calls_of("Compute::request_drain") > 0, drained, "{case}");
    }
}

#[test]
fn tuist_a_runner_that_never_started_is_reaped() {
    let cases: [Made; 2] = [
        ("registered and never connected", |fake| {
            idle_runner(fake);
            let runner = &mut fake.state_mut().runners[0].1;
            runner.online = false;
            runner.version = Some(None);
        }),
        ("never given a configuration", |fake| {
            put_instance(fake, &id());
            let mut record = record(fake);
            record.jit_intent_at = None;
            record.runner_id = None;
            fake.put(&record);
        }),
    ];
    for (case, make) in cases {
        let fake = Fake::new();
        make(&fake);
        for minute in 1..15 {
            minutes(&fake, &policy(), 1);
            assert_eq!(acts(&fake), 0, "{case}: {minute} min old, it boots");
        }
        ends_and_leaves_nothing(&fake, case);
        assert_eq!(grounds(&fake), [Ground::NeverConnected], "{case}");
    }
}

#[test]
fn tuist_an_unknown_shape_is_kept_for_another_cycle() {
    use Moment::{BeforeDelete, BeforeTerminate};
    assert_guards(&[
        Guard {
            case: "an instance state that EC2 invented yesterday",
            signal: |fake, _| fake.set_instance_state(&id(), InstanceState::Unrecognised),
            withdraw: Some(|fake, _| fake.set_instance_state(&id(), InstanceState::Running)),
            speaks: &[(BeforeDelete, Some(Reason::NotRunning)), (BeforeTerminate, Some(Reason::NotRunning))],
        },
        Guard {
            case: "a word in the vital sign that we do not know",
            signal: |fake, _| put_sign(fake, Worker::Unrecognised, HOUR),
            withdraw: Some(|fake, _| fake.state_mut().vital_signs.clear()),
            speaks: &[(BeforeDelete, Some(Reason::WorkerAlive)), (BeforeTerminate, Some(Reason::WorkerAlive))],
        },
        Guard {
            case: "a job status that we do not know",
            signal: |fake, _| put_job_that_waits(fake, JobState::Unrecognised, None),
            withdraw: Some(|fake, _| put_job_that_waits(fake, JobState::Queued, None)),
            speaks: &[(BeforeDelete, Some(Reason::JobsUnread)), (BeforeTerminate, Some(Reason::JobsUnread))],
        },
        Guard {
            case: "a record of another schema",
            signal: |fake, _| schema(fake, &InstanceRecord::key("i-1"), 99),
            withdraw: Some(|fake, _| schema(fake, &InstanceRecord::key("i-1"), InstanceRecord::SCHEMA)),
            speaks: &[(BeforeDelete, Some(Reason::ForeignRecord)), (BeforeTerminate, Some(Reason::ForeignRecord))],
        },
        Guard {
            case: "a cursor over the deliveries of another schema",
            signal: |fake, _| {
                fake.put(&DeliveryCursor::default());
                schema(fake, &DeliveryCursor::key(DeliveryCursor::ID), 99);
            },
            withdraw: Some(|fake, _| schema(fake, &DeliveryCursor::key(DeliveryCursor::ID), DeliveryCursor::SCHEMA)),
            speaks: &[
                (BeforeDelete, Some(Reason::DeliveriesUnsettled)),
                (BeforeTerminate, Some(Reason::DeliveriesUnsettled)),
            ],
        },
        Guard {
            case: "a breaker of another schema",
            signal: |fake, _| {
                fake.put(&open_breaker(fake));
                schema(fake, &key_of_breaker(), 99);
            },
            withdraw: Some(|fake, _| {
                fake.state_mut().items.remove(&key_of_breaker());
            }),
            speaks: &[
                (BeforeDelete, Some(Reason::NoPositiveControl)),
                (BeforeTerminate, Some(Reason::NoPositiveControl)),
            ],
        },
        Guard {
            case: "a runner that is not ephemeral",
            signal: |fake, _| fake.state_mut().runners[0].1.ephemeral = Some(false),
            withdraw: Some(|fake, _| fake.state_mut().runners[0].1.ephemeral = Some(true)),
            speaks: &[(BeforeDelete, Some(Reason::Reusable))],
        },
    ]);
}

#[test]
fn tuist_a_cursor_of_another_schema_starves_nobody() {
    for moment in Moment::ALL {
        let fake = moment.reached();
        fake.put(&PassCursor::new("scale-down"));
        schema(&fake, &PassCursor::key("scale-down"), 99);
        let before = acts(&fake);
        down(&fake, &policy());
        assert_eq!(acts(&fake), before + 1, "{moment:?}");
    }
}

// TOCTOU: a job is assigned between the busy check and the terminate.

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

// Semaphore 3964: the winner over something finished owes the completion; memory is rolled back; two act once.

#[test]
fn semaphore_3964_whoever_meets_a_half_finished_removal_finishes_it() {
    let cases: [Made; 6] = [
        ("gone, and nothing was taken away", |fake| {
            let now = fake.now();
            fake.set_instance_state(&id(), InstanceState::Terminated);
            edit(fake, &id(), |record| record.gone_at = Some(now));
        }),
        ("closed as cleaned up, and its registration is still there", |fake| {
            let now = fake.now();
            fake.state_mut().instances.clear();
            edit(fake, &id(), |record| {
                record.gone_at = Some(now);
                record.cleaned_at = Some(now);
            });
            // Somebody else's instance, for the scope to be looked at at all.
            put_runner_of_many(fake, 0xb);
            job_starts_on(fake, &InstanceId::new("i-00b"));
        }),
        ("intent to terminate stored and never carried out", |fake| {
            let intent = crate::ledger::RemovalIntent { at: fake.now(), ground: Ground::IdleAfterDeregistration };
            let at = fake.now();
            fake.state_mut().runners.clear();
            edit(fake, &id(), |record| {
                let ground = DeregistrationGround::Idle;
                record.deregister_intent = Some(crate::ledger::RemovalIntent { at, ground });
                record.deregistered_at = Some(at);
                record.deregistration = Some(crate::ledger::DeregistrationOutcome::Confirmed);
                record.terminate_intent = Some(intent);
            });
        }),
        ("intent to deregister stored and never carried out", |fake| {
            let at = fake.now();
            edit(fake, &id(), |record| {
                record.deregister_intent =
                    Some(crate::ledger::RemovalIntent { at, ground: DeregistrationGround::Idle });
            });
        }),
        ("deregistered, and the answer never written down", |fake| {
            let at = fake.now();
            fake.state_mut().runners.clear();
            edit(fake, &id(), |record| {
                record.deregister_intent =
                    Some(crate::ledger::RemovalIntent { at, ground: DeregistrationGround::Idle });
            });
        }),
        ("its job completed, and its runner was deregistered", |fake| {
            job_starts(fake);
            job_ends(fake);
            fake.state_mut().runners.clear();
        }),
    ];
    for (case, make) in cases {
        let fake = Moment::BeforeDelete.reached();
        fake.state_mut().parameters.insert(id(), crate::ports::JitConfig::new("secret".into()));
        make(&fake);
        let was_gone = fake.state().instances.get(&id()).is_none_or(|i| i.state == InstanceState::Terminated);
        assert!(
            minutes_until(&fake, |fake| {
                bury(fake);
                closed(fake) && fake.state().parameters.is_empty() && !registered(fake)
            })
            .is_some(),
            "{case}: {:?}",
            record_of(&fake)
        );
        assert_eq!(grounds(&fake).is_empty(), was_gone, "{case}");
    }
}

#[test]
fn semaphore_3964_a_write_that_fails_leaves_nothing_half_done_and_the_next_pass_finishes() {
    for moment in Moment::ALL {
        for class in [Class::Transient, Class::Conflict, Class::OutcomeUnknown] {
            let fake = moment.reached();
            let before = acts(&fake);
            fake.always_fail("Ledger::write", class);
            for _ in 0..3 {
                down(&fake, &policy());
                swept(&fake, &policy());
            }
            assert_eq!(acts(&fake), before, "{moment:?}, {class:?}: no intent, no act");
            fake.heal();
            ends_and_leaves_nothing(&fake, &format!("{moment:?}, {class:?}"));
        }
    }
}

#[test]
fn semaphore_3964_an_outcome_that_cannot_be_written_is_waited_upon_and_finished() {
    let fake = Moment::BeforeDelete.reached();
    let report = down_with(&fake, |fake| {
        if fake.calls_of("Registry::deregister") == 1 {
            fake.always_fail("Ledger::write", Class::Transient);
        }
    });
    assert!(!report.errors.is_empty(), "visible");
    assert!(fake.state().runners.is_empty() && record_of(&fake).deregistered_at.is_none(), "done and not remembered");
    fake.heal();
    let ended = minutes_until_ended(&fake).expect("finished");
    assert!(ended >= 30, "nobody knows who deleted it, so it is waited upon longer: {ended} min");
    assert_eq!(fake.calls_of("Registry::deregister"), 1, "what is done is not done again");
}

/// Two passes of any of the two functions, the second inside the first after any of its calls: how often the worst of
/// them deregistered or ended the instance, and how often all of them acted.
fn interleaved(world: &str, make: impl Fn() -> Fake) -> (BTreeSet<String>, usize) {
    type Function = (&'static str, fn(&Fake, &Policy) -> Report);
    let functions: [Function; 2] = [("scale-down", down), ("orphan-sweeper", swept)];
    let (mut twice, mut acted) = (BTreeSet::new(), 0);
    for (first, outer) in functions {
        for (second, inner) in functions {
            let fake = make();
            let before = fake.calls();
            outer(&fake, &policy());
            let calls = fake.calls() - before;
            for call in 1..=calls {
                let fake = make();
                let count = |fake: &Fake| (fake.calls_of("Registry::deregister"), fake.calls_of("Compute::terminate"));
                let before = count(&fake);
                fake.meanwhile(fake.calls() + call, move |fake| {
                    inner(fake, &policy());
                });
                outer(&fake, &policy());
                let after = count(&fake);
                let (deletes, ends) = (after.0 - before.0, after.1 - before.1);
                if deletes > 1 || ends > 1 {
                    twice.insert(format!(
                        "{world}, {second} inside {first} after call {call} of {calls}: {deletes} DELETEs, {ends} ends"
                    ));
                }
                acted += deletes + ends;
            }
        }
    }
    (twice, acted)
}

fn job_completed_long_ago() -> Fake {
    let fake = Moment::BeforeDelete.reached();
    job_starts(&fake);
    job_ends(&fake);
    fake.pass(16 * MINUTE);
    fake
}

#[test]
fn semaphore_3964_two_finalisers_interleaved_at_every_call_act_once() {
    type World = (&'static str, fn() -> Fake);
    let worlds: [World; 4] = [
        ("idle", || Moment::BeforeDelete.reached()),
        ("quarantine over", || Moment::BeforeTerminate.reached()),
        ("job completed, registration gone", || {
            let fake = job_completed_long_ago();
            fake.state_mut().runners.clear();
            fake
        }),
        ("past the hard age", || {
            let fake = Moment::BeforeDelete.reached();
            fake.pass(HARD_AGE + 2 * HOUR);
            fake
        }),
    ];
    for (world, make) in worlds {
        let (twice, acted) = interleaved(world, make);
        assert!(twice.is_empty(), "{twice:?}");
        assert!(acted > 20, "{world}: {acted} acts");
    }
}

/// The second pass's re-check reads the record anew, in which the first wrote that it deregistered, and holds it against
/// the registration that it had read before.
#[test]
fn semaphore_3964_two_sweeps_of_a_completed_job_deregister_once() {
    type World = (&'static str, fn() -> Fake);
    let worlds: [World; 3] = [
        ("job completed", job_completed_long_ago),
        ("stopped", || {
            let fake = Moment::BeforeDelete.reached();
            fake.set_instance_state(&id(), InstanceState::Stopped);
            let since = fake.now();
            edit(&fake, &id(), |record| record.stopped_since = Some(since));
            fake.pass(16 * MINUTE);
            fake
        }),
        ("gone", || {
            let fake = Moment::BeforeDelete.reached();
            fake.set_instance_state(&id(), InstanceState::Terminated);
            let at = fake.now();
            edit(&fake, &id(), |record| record.gone_at = Some(at));
            fake.pass(16 * MINUTE);
            fake
        }),
    ];
    let mut all = Vec::new();
    for (world, make) in worlds {
        let (twice, acted) = interleaved(world, make);
        assert!(acted > 20, "{world}: {acted} acts");
        all.extend(twice);
    }
    assert!(all.is_empty(), "{} interleavings: {all:?}", all.len());
}

#[test]
fn semaphore_3964_two_scale_downs_of_many_act_once_an_instance() {
    let many = || {
        let fake = Fake::new();
        for number in 0..4 {
            put_runner_of_many(&fake, number);
        }
        fake.pass(20 * MINUTE);
        let asked = fake.now().minus(6 * MINUTE);
        for number in 0..4 {
            edit(&fake, &of_many(number), |record| {
                record.idle_since = Some(asked);
                record.idle_seen_at = Some(asked);
                record.drain_requested_at = Some(asked);
            });
        }
        fake
    };
    let calls = calls_of_a_pass(&many());
    for call in 1..=calls {
        let fake = many();
        fake.meanwhile(fake.calls() + call, |fake| {
            down(fake, &policy());
        });
        down(&fake, &policy());
        assert_eq!(fake.calls_of("Registry::deregister"), 4, "call {call} of {calls}: one DELETE for each");
        fake.pass(6 * MINUTE);
        fake.meanwhile(fake.calls() + 1 + call, |fake| {
            down(fake, &policy());
        });
        down(&fake, &policy());
        down(&fake, &policy());
        let ended: BTreeSet<InstanceId> = fake.state().terminated.iter().map(|(id, _)| id.clone()).collect();
        assert_eq!((ended.len(), fake.calls_of("Compute::terminate")), (4, 4), "call {call} of {calls}");
    }
}

// The ledger, lost or restored.

#[test]
fn the_ledger_is_lost_while_jobs_run_and_none_is_ended() {
    let fake = Fake::new();
    for number in 0..4 {
        put_runner_of_many(&fake, number);
        job_starts_on(&fake, &of_many(number));
    }
    {
        let mut state = fake.state_mut();
        state.runners[0].1.busy = true;
        // Of the second the flag lies; the third is shown offline, the fourth not at all.
        state.runners[2].1.online = false;
        state.runners.remove(3);
    }
    fake.pass(HOUR);
    fake.state_mut().items.clear();
    // The jobs run for the four days that GitHub lets them and a day more.
    for _ in 0..5 * 24 {
        fake.pass(59 * MINUTE);
        minutes(&fake, &policy(), 1);
    }
    assert_eq!(acts(&fake), 0);
    assert_eq!(fake.all::<InstanceRecord>().len(), 4, "rebuilt");
    assert!(fake.calls_of("Compute::request_drain") > 0, "asked, for they decide themselves");
    fake.pass(5 * HOUR);
    minutes(&fake, &policy(), 1);
    assert_eq!(grounds(&fake), [Ground::HardAge; 4], "nothing leaks for ever");
}

#[test]
fn the_ledger_is_restored_from_before_the_jobs_and_none_is_ended() {
    type Backup = (&'static str, fn(&mut InstanceRecord, Timestamp));
    type Shown = (&'static str, fn(&mut Runner));
    let backups: [Backup; 5] = [
        ("just launched", |record, _| {
            record.jit_intent_at = None;
            record.runner_id = None;
        }),
        ("its configuration made, its runner's id not known", |record, _| record.runner_id = None),
        ("idle for long and asked to drain", |record, at| {
            record.idle_since = Some(at);
            record.idle_seen_at = Some(at);
            record.drain_requested_at = Some(at);
        }),
        ("about to be deregistered", |record, at| {
            record.deregister_intent = Some(crate::ledger::RemovalIntent { at, ground: DeregistrationGround::Idle });
        }),
        ("said to be gone", |record, at| {
            record.missing_since = Some(at);
            record.missing_counted_at = Some(at);
            record.gone_at = Some(at);
        }),
    ];
    let shown: [Shown; 4] = [
        ("busy", |runner| runner.busy = true),
        ("idle, and the flag lies", |_| {}),
        ("offline", |runner| runner.online = false),
        ("not in its scope", |runner| {
            *runner = Runner { name: RunnerName::new("another"), id: RunnerId(8), ..self::runner() }
        }),
    ];
    for (backup, restore) in backups {
        for (flag, show) in shown {
            let case = format!("{backup}, {flag}");
            let fake = Moment::BeforeDelete.reached();
            edit(&fake, &id(), |record| {
                record.idle_since = None;
                record.drain_requested_at = None;
            });
            let at = fake.now();
            fake.pass(10 * MINUTE);
            // The job started, and the backup does not know.
            edit(&fake, &id(), |record| restore(record, at));
            show(&mut fake.state_mut().runners[0].1);
            let mut restored = policy();
            restored.ledger_epoch = Some(fake.now());
            for _ in 0..120 {
                minutes(&fake, &restored, 1);
            }
            assert_eq!(acts(&fake), 0, "{case}: {:?}", record_of(&fake));
            // Without the epoch nobody would know that the record is old; that is what it is for.
            fake.pass(HARD_AGE + 2 * HOUR);
            minutes(&fake, &restored, 2);
            assert_eq!(grounds(&fake), [Ground::HardAge], "{case}: bounded");
        }
    }
}

/// What surfaced between backup and restore is lost, so a quarantine that began before is no quarantine.
#[test]
fn a_restored_record_that_was_deregistered_before_the_backup_is_not_ended() {
    let fake = Moment::BeforeDelete.reached();
    down(&fake, &policy());
    assert!(record_of(&fake).deregistered_at.is_some());
    let backup = fake.state().items.clone();
    fake.pass(MINUTE);
    // The event of a job that was assigned before the DELETE comes late, is taken with 2xx, and is lost with the
    // ledger.
    job_starts(&fake);
    fake.pass(MINUTE);
    fake.state_mut().items = backup;
    let mut restored = policy();
    restored.ledger_epoch = Some(fake.now());
    for _ in 0..60 {
        minutes(&fake, &restored, 1);
    }
    assert_eq!(grounds(&fake), [], "a job runs on it");
}

/// "Rebuilt is not known": the intent to deregister was stored before the backup. The DELETE was answered 204, a job that
/// was assigned before surfaced, and both are lost with the ledger: the absence must not be taken for our DELETE's doing.
#[test]
fn a_restored_intent_to_deregister_ends_nothing() {
    let fake = Moment::BeforeDelete.reached();
    let backup = down_with_backup_before_the_delete(&fake);
    assert!(fake.state().runners.is_empty(), "deregistered");
    fake.pass(MINUTE);
    job_starts(&fake);
    fake.pass(MINUTE);
    fake.state_mut().items = backup;
    let mut restored = policy();
    restored.ledger_epoch = Some(fake.now());
    minutes(&fake, &restored, 90);
    assert_eq!(grounds(&fake), [], "a job runs on it");
}

/// A pass of scale-down that deregisters; the ledger as it was when the intent had just been stored.
fn down_with_backup_before_the_delete(fake: &Fake) -> std::collections::BTreeMap<Key, crate::ports::Item> {
    let backup = Rc::new(std::cell::RefCell::new(None));
    let taken = backup.clone();
    down_with(fake, move |fake| {
        if record_of(fake).deregister_intent.is_some() {
            taken.borrow_mut().get_or_insert_with(|| fake.state().items.clone());
        }
    });
    backup.take().expect("an intent was stored")
}

#[test]
fn look_alikes_with_all_our_tags_and_an_empty_ledger_are_never_touched() {
    for (case, template) in [("no template", None), ("another deployment's template", Some("lt-2"))] {
        for state in [InstanceState::Pending, InstanceState::Running, InstanceState::Stopped, InstanceState::Terminated]
        {
            let fake = Fake::new();
            put_instance(&fake, &id());
            fake.put_runner(&access().scope, runner());
            tag(&fake, "ghr:launch", Some("token"));
            tag(&fake, "Name", Some("runner-i-1"));
            tag(&fake, crate::evidence::TEMPLATE_TAG, template);
            fake.set_instance_state(&id(), state);
            for days in [0, 1, 6, 40] {
                fake.pass(days * 24 * HOUR);
                let reports = [down(&fake, &policy()), swept(&fake, &policy())];
                for report in reports {
                    assert_eq!(report.kept.get(&Reason::NotOurs), Some(&1), "{case}, {state:?}: {:?}", report.kept);
                }
            }
            let touched = acts(&fake) + fake.calls_of("Compute::request_drain");
            assert_eq!((touched, fake.all::<InstanceRecord>().len()), (0, 0), "{case}, {state:?}");
        }
    }
}

// The hard age and what GitHub's API does.

#[test]
fn a_legal_job_of_four_days_that_started_late_is_kept_until_the_hard_age_after_its_start() {
    let fake = Fake::new();
    idle_runner(&fake);
    // Long after its longest idle time, which nobody enforced: its supervisor is dead.
    fake.pass(5 * 24 * HOUR);
    let began = fake.now();
    edit(&fake, &id(), |record| {
        record.note_started(JobStarted { at: began, ..started() });
    });
    fake.state_mut().runners[0].1.busy = true;
    for (case, at, ended) in [
        ("four days of the job", 4 * 24 * HOUR, false),
        ("five days of the job, GitHub's own limit", 5 * 24 * HOUR, false),
        ("a minute before", 121 * HOUR + 59 * MINUTE, false),
        ("five days and two hours after its start", HARD_AGE, true),
    ] {
        fake.pass(began.plus(at).since(fake.now()));
        swept(&fake, &policy());
        down(&fake, &policy());
        assert_eq!(grounds(&fake) == [Ground::HardAge], ended, "{case}: {:?}", grounds(&fake));
        assert_eq!(fake.calls_of("Registry::deregister"), 0, "{case}");
    }
}

#[test]
fn a_404_storm_of_an_hour_ends_nothing() {
    let gets = [
        "RegistryRead::runner",
        "RegistryRead::runner_named",
        "Jobs::job",
        "Jobs::jobs_in_progress",
        "Jobs::jobs_of_open_runs",
        "Jobs::repositories",
        "DeliveryLog::failed_deliveries_since",
    ];
    let storms: [Made; 2] = [
        ("lists are 404 as well", |fake| fake.always_fail("RegistryRead::runners", Class::Absent)),
        ("lists are 200 and empty", |fake| fake.state_mut().runners.clear()),
    ];
    for (storm, begin) in storms {
        for moment in Moment::ALL {
            let fake = moment.reached();
            for number in 0..10 {
                put_runner_of_many(&fake, number);
            }
            // Of one the ledger knows a job, of another GitHub alone does; the third is done.
            job_starts_on(&fake, &of_many(0));
            fake.state_mut().runners.last_mut().expect("ten").1.busy = true;
            let (before, registered) = (acts(&fake), fake.state().runners.clone());
            for call in gets {
                fake.always_fail(call, Class::Absent);
            }
            begin(&fake);
            for minute in 1..=60 {
                minutes(&fake, &policy(), 1);
                assert_eq!(acts(&fake), before, "{storm}, {moment:?}: minute {minute}");
            }
            fake.heal();
            fake.state_mut().runners = registered;
            let ended = minutes_until(&fake, |fake| fake.state().terminated.iter().any(|(own, _)| *own == id()));
            assert!(ended.is_some(), "{storm}, {moment:?}: the storm is over and the surplus one goes");
            assert!(fake.state().terminated.iter().all(|(own, _)| *own != of_many(0)), "{storm}: its job runs");
        }
    }
}

#[test]
fn a_403_on_deregister_takes_the_intent_back_and_ends_nothing() {
    let fake = Moment::BeforeDelete.reached();
    fake.always_fail("Registry::deregister", Class::Denied);
    let report = down(&fake, &policy());
    assert!(report.errors.iter().any(|error| error.contains("Registry::deregister")), "visible: {report:?}");
    let record = record_of(&fake);
    assert_eq!((record.deregister_intent, record.deregistered_at, record.idle_since), (None, None, None));
    minutes(&fake, &policy(), 60);
    assert!(grounds(&fake).is_empty());
    assert!(fake.calls_of("Registry::deregister") >= 5, "a new confirmation of idleness, a new try");
    fake.heal();
    ends_and_leaves_nothing(&fake, "allowed again");
}

#[test]
fn offline_and_busy_is_kept_until_the_jobs_api_says_completed() {
    let fake = Moment::BeforeDelete.reached();
    job_starts(&fake);
    jobs_api_says(&fake, 1, JobState::InProgress, Some(7));
    {
        let runner = &mut fake.state_mut().runners[0].1;
        runner.busy = true;
        runner.online = false;
    }
    for _ in 0..180 {
        fake.pass(MINUTE);
        assert!(swept(&fake, &policy()).kept.contains_key(&Reason::JobRunning));
        down(&fake, &policy());
    }
    assert_eq!(acts(&fake), 0, "the listener may be starved while the worker works");
    // GitHub gave the job up; the runner of the lost machine is shown as busy for hours and cannot be deleted.
    jobs_api_says(&fake, 1, JobState::Completed, Some(7));
    let minutes = minutes_until_ended(&fake).expect("ended");
    assert!((15..=17).contains(&minutes), "{minutes} min after the jobs API said so");
    assert_eq!((grounds(&fake), fake.calls_of("Registry::deregister")), (vec![Ground::JobCompleted], 0), "row 7");
}

#[test]
fn a_list_whose_second_page_fails_ends_nobody() {
    // The port makes an error in any page an error of the whole.
    let fake = Fake::new();
    for number in 0..10 {
        put_runner_of_many(&fake, number);
    }
    fake.always_fail("RegistryRead::runners", Class::Transient);
    let mut kept = 0;
    for _ in 0..120 {
        fake.pass(MINUTE);
        let report = down(&fake, &policy());
        kept += report.kept.get(&Reason::RegistrationUnread).copied().unwrap_or(0);
        swept(&fake, &policy());
    }
    assert_eq!((acts(&fake), fake.calls_of("RegistryRead::runner")), (0, 0), "a list in part is no list");
    assert!(kept > 100, "and the report says why: {kept}");
    fake.heal();
    assert!(minutes_until_ended(&fake).is_some(), "page two is back");
}

#[test]
fn a_failed_search_of_the_jobs_in_progress_is_not_taken_for_none_found() {
    // A job of which we heard nothing (events can be missing altogether, facts/github.md 3.2) runs on a runner that the
    // list omits.
    for (case, failing, runs, expected) in [
        ("the jobs cannot be read", Some("Jobs::jobs_in_progress"), true, vec![]),
        ("the repositories cannot be read", Some("Jobs::repositories"), true, vec![]),
        ("the search finds it", None, true, vec![]),
        ("the search finds none", None, false, vec![Ground::RegistrationGone]),
    ] {
        let fake = Fake::new();
        idle_runner(&fake);
        of_our_template(&fake, &id());
        fake.state_mut().runners.clear();
        if runs {
            jobs_api_says(&fake, 1, JobState::InProgress, Some(7));
        }
        if let Some(call) = failing {
            fake.always_fail(call, Class::Transient);
        }
        minutes(&fake, &policy(), 120);
        assert_eq!(grounds(&fake).into_iter().take(1).collect::<Vec<_>>(), expected, "{case}");
    }
}

#[test]
fn an_empty_list_while_ten_records_exist_opens_the_breaker() {
    let fake = Fake::new();
    for number in 0..10 {
        put_runner_of_many(&fake, number);
    }
    fake.pass(20 * MINUTE);
    let registered = std::mem::take(&mut fake.state_mut().runners);
    for minute in 1..=29 {
        fake.pass(MINUTE);
        let report = swept(&fake, &policy());
        assert_eq!(report.kept.get(&Reason::NoPositiveControl), Some(&10), "minute {minute}: {:?}", report.kept);
        assert!(report.errors.iter().any(|error| error.contains("misses most")), "minute {minute}: an alarm");
        down(&fake, &policy());
    }
    assert_eq!(acts(&fake), 0);
    fake.state_mut().runners = registered;
    let report = swept(&fake, &policy());
    assert!(report.errors.is_empty() && !report.kept.contains_key(&Reason::NoPositiveControl), "{report:?}");
    assert!(minutes_until_ended(&fake).is_some(), "the list is whole again and the surplus goes");
}

// Fixtures.

pub(super) const HARD_AGE: Duration = crate::config::HARD_AGE;

/// A case, and how it comes about.
pub(super) type Made = (&'static str, fn(&Fake));

/// Where on the road of an idle runner, its supervisor dead, the next pass of scale-down acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    BeforeDelete,
    BeforeTerminate,
}

impl Moment {
    pub(super) const ALL: [Self; 2] = [Self::BeforeDelete, Self::BeforeTerminate];

    /// A world in that moment.
    pub(super) fn reached(self) -> Fake {
        let fake = Fake::new();
        idle_runner(&fake);
        of_our_template(&fake, &id());
        fake.pass(20 * MINUTE);
        let asked = fake.now().minus(6 * MINUTE);
        edit(&fake, &id(), |record| {
            record.idle_since = Some(asked);
            record.idle_seen_at = Some(asked);
            record.drain_requested_at = Some(asked);
        });
        match self {
            Self::BeforeDelete => {}
            Self::BeforeTerminate => {
                down(&fake, &policy());
                assert!(fake.state().runners.is_empty(), "deregistered");
                fake.pass(6 * MINUTE);
            }
        }
        fake
    }
}

/// One guard of removal: a signal that keeps, and the same world without it.
pub(super) struct Guard {
    pub(super) case: &'static str,
    /// Makes the signal; before every minute.
    pub(super) signal: fn(&Fake, &mut Policy),
    /// Takes it away again; `None` where it is remembered for good.
    pub(super) withdraw: Option<fn(&Fake, &mut Policy)>,
    /// Where it speaks, and the reason that the report gives; `None` where the instance is not even judged.
    pub(super) speaks: &'static [(Moment, Option<Reason>)],
}

/// Both directions of each: without the signal the next pass acts; with it no pass does, and the report says why; and
/// where it is withdrawn, the instance is ended after all.
pub(super) fn assert_guards(guards: &[Guard]) {
    for guard in guards {
        for (moment, reason) in guard.speaks {
            let case = format!("{}, {moment:?}", guard.case);
            let free = moment.reached();
            let before = acts(&free);
            down(&free, &policy());
            assert_eq!(acts(&free), before + 1, "{case}: without it the pass acts");

            let fake = moment.reached();
            let mut policy = policy();
            let before = acts(&fake);
            for minute in 0..12 {
                (guard.signal)(&fake, &mut policy);
                let kept = down(&fake, &policy).kept;
                if minute == 0 {
                    assert_eq!(kept.keys().copied().collect::<Vec<_>>(), Vec::from_iter(*reason), "{case}");
                }
                swept(&fake, &policy);
                fake.pass(MINUTE);
            }
            assert_eq!(acts(&fake), before, "{case}: it does not fire");

            if let Some(withdraw) = guard.withdraw {
                withdraw(&fake, &mut policy);
                let ended = (0..120).any(|_| {
                    minutes(&fake, &policy, 1);
                    !fake.state().terminated.is_empty()
                });
                assert!(ended, "{case}: withdrawn, and a leak: {:?}", record_of(&fake));
            } else {
                minutes(&fake, &policy, 120);
                assert_eq!(acts(&fake), before, "{case}: it was forgotten");
            }
        }
    }
}

/// What a pass reported, whether or not it failed visibly.
fn reported(outcome: Option<Result<Report, FailedPass>>) -> Report {
    match outcome.expect("not killed") {
        Ok(report) => report,
        Err(FailedPass(report)) => *report,
    }
}

/// A pass of scale-down.
pub(super) fn down(fake: &Fake, policy: &Policy) -> Report {
    reported(scale_down(fake, policy))
}

/// A pass of the orphan-sweeper.
pub(super) fn swept(fake: &Fake, policy: &Policy) -> Report {
    reported(sweep(fake, policy))
}

/// So many minutes with a pass of each function.
pub(super) fn minutes(fake: &Fake, policy: &Policy, count: usize) {
    for _ in 0..count {
        tick(fake, policy);
    }
}

/// Calls that destroy something.
pub(super) fn acts(fake: &Fake) -> usize {
    fake.calls_of("Registry::deregister") + fake.calls_of("Compute::terminate")
}

/// Plays, while something happens right after each call that is made meanwhile.
pub(super) fn after_each_call<T>(fake: &Fake, act: impl Fn(&Fake) + 'static, play: impl FnOnce(&Fake) -> T) -> T {
    let (act, playing) = (Rc::new(act), Rc::new(Cell::new(true)));
    for call in 1..=500 {
        let (act, playing) = (act.clone(), playing.clone());
        fake.meanwhile(fake.calls() + call, move |fake| {
            if playing.get() {
                act(fake);
            }
        });
    }
    let outcome = play(fake);
    playing.set(false);
    outcome
}

/// A pass of scale-down, while something happens right after each of its calls.
pub(super) fn down_with(fake: &Fake, act: impl Fn(&Fake) + 'static) -> Report {
    after_each_call(fake, act, |fake| down(fake, &policy()))
}

/// How many calls a pass of scale-down makes in that world.
pub(super) fn calls_of_a_pass(fake: &Fake) -> usize {
    let before = fake.calls();
    down(fake, &policy());
    fake.calls() - before
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

fn lose_the_record(fake: &Fake) {
    fake.state_mut().items.remove(&InstanceRecord::key("i-1"));
}

/// Sets or takes away a tag of the one instance.
pub(super) fn tag(fake: &Fake, key: &str, value: Option<&str>) {
    fake.retag(&id(), |tags| {
        match value {
            Some(value) => tags.insert(key.to_owned(), value.to_owned()),
            None => tags.remove(key),
        };
    });
}

pub(super) fn of_our_template(fake: &Fake, id: &InstanceId) {
    fake.retag(id, |tags| {
        tags.insert(crate::evidence::TEMPLATE_TAG.to_owned(), "lt-1".to_owned());
    });
}

/// The instance last spoke so long ago.
pub(super) fn put_sign(fake: &Fake, worker: Worker, ago: Duration) {
    let sign = VitalSign { beat_at: fake.now().minus(ago), worker };
    fake.state_mut().vital_signs.insert(id(), sign);
}

/// Job 1 was queued an hour ago, so that nobody keeps an idle runner for it, and waits as far as the ledger knows; the
/// jobs API says this.
pub(super) fn put_job_that_waits(fake: &Fake, state: JobState, runner_id: Option<u64>) {
    fake.put(&waiting_job(fake.now().minus(HOUR)));
    jobs_api_says(fake, 1, state, runner_id);
}

/// An event of job 1 on the runner that our webhook did not take.
pub(super) fn put_failed_delivery(fake: &Fake, action: &str) {
    let payload = serde_json::json!({
        "action": action,
        "workflow_job": {"id": 1, "run_id": 2, "labels": ["self-hosted", "linux"], "runner_id": 7,
            "runner_name": "runner-i-1"},
        "repository": {"full_name": "octo/hello", "owner": {"login": "octo", "type": "Organization"}},
    });
    let delivery = Delivery {
        id: 1,
        guid: DeliveryGuid::new("guid"),
        delivered_at: fake.now(),
        event: "workflow_job".into(),
        action: Some(action.into()),
        installation_id: None,
    };
    fake.state_mut().deliveries.push((delivery, payload.to_string()));
}

/// The webhook's write: the job of the instance has ended, now.
pub(super) fn job_ends(fake: &Fake) {
    let now = fake.now();
    edit(fake, &id(), |record| {
        record.note_completed(JobCompleted { job_id: JobId(1), at: now }, RunnerId(7));
    });
}

fn schema(fake: &Fake, key: &Key, schema: u32) {
    fake.state_mut().items.get_mut(key).expect("an item").schema = schema;
}

fn open_breaker(fake: &Fake) -> crate::ledger::AbsenceBreaker {
    crate::ledger::AbsenceBreaker {
        scope: access().scope,
        missing: BTreeSet::new(),
        agreeing_since: fake.now(),
        agreeing_count: 0,
        agreed_at: fake.now(),
    }
}

fn key_of_breaker() -> Key {
    crate::ledger::AbsenceBreaker::key(crate::ledger::AbsenceBreaker::id_of(&access().scope))
}

pub(super) fn of_many(number: u64) -> InstanceId {
    InstanceId::new(format!("i-{number:03x}"))
}

/// One of many: an instance of our template, its record and its runner, number + 100, online and idle.
pub(super) fn put_runner_of_many(fake: &Fake, number: u64) {
    let id = of_many(number);
    let name = RunnerName::new(format!("runner-{id}"));
    put_fallen_silent(fake, &id);
    of_our_template(fake, &id);
    let runner_id = RunnerId(number + 100);
    fake.put(&InstanceRecord {
        instance_id: id,
        runner_name: name.clone(),
        runner_id: Some(runner_id),
        ..record(fake)
    });
    fake.put_runner(&access().scope, Runner { id: runner_id, name, ..runner() });
}

/// The webhook's write: a job of its own started on that instance, now.
pub(super) fn job_starts_on(fake: &Fake, id: &InstanceId) {
    let now = fake.now();
    edit(fake, id, |record| {
        let job_id = JobId(record.runner_id.expect("registered").0);
        record.note_started(JobStarted { job_id, at: now, runner_id: record.runner_id, ..started() });
    });
}

/// EC2 is done with the instances that were ended.
fn bury(fake: &Fake) {
    let ended: Vec<InstanceId> = fake.state().terminated.iter().map(|(id, _)| id.clone()).collect();
    for id in ended {
        fake.set_instance_state(&id, InstanceState::Terminated);
    }
}

fn registered(fake: &Fake) -> bool {
    fake.state().runners.iter().any(|(_, own)| own.id == runner().id)
}

fn closed(fake: &Fake) -> bool {
    fake.get::<InstanceRecord>("i-1").is_some_and(|record| record.gone_at.is_some() && record.cleaned_at.is_some())
}

/// The instance is ended, and then nothing of it is left.
pub(super) fn ends_and_leaves_nothing(fake: &Fake, case: &str) {
    let ended = |fake: &Fake| {
        bury(fake);
        closed(fake)
    };
    let record = || fake.get::<InstanceRecord>("i-1");
    assert!(minutes_until(fake, ended).is_some(), "{case}: not closed: {:?}", record());
    assert!(!fake.state().terminated.is_empty(), "{case}: closed and never ended: {:?}", record());
    assert!(!registered(fake) && fake.state().parameters.is_empty(), "{case}: something is left: {:?}", record());
}
