//! The ledger, lost or restored.

use std::rc::Rc;

use super::super::fixtures::{
    Moment, acts, down, down_with, job_starts_on, minutes, of_many, put_runner_of_many, swept, tag,
};
use super::super::*;
use crate::config::HARD_AGE;
use crate::ports::Key;
use crate::removal::DeregistrationGround;
use crate::verdict::Reason;

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
