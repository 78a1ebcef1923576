//! The sweeper that killed live runners: absence of our own record proves nothing about the job.

use std::collections::BTreeSet;

use super::super::fixtures::{
    Guard, Made, Moment, acts, assert_guards, down, ends_and_leaves_nothing, minutes, of_our_template,
    put_job_that_waits, put_sign, swept,
};
use super::super::*;
use crate::ledger::{DeliveryCursor, PassCursor, Record};
use crate::ports::Key;
use crate::verdict::Reason;

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
