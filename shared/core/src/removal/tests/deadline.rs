//! A pass ends by itself before Lambda ends it, whatever hangs or is slow, and comes to everything in time.

use super::*;
use crate::ledger::JobCompleted;

/// An instance whose job ended an hour ago and that did not end itself.
fn put_completed(fake: &Fake, n: usize) -> InstanceId {
    let id = put_nth(fake, n);
    edit(fake, &id, |record| {
        let started = JobStarted {
            job_id: JobId(1),
            repository: repository(),
            at: record.launched_at,
            runner_id: record.runner_id,
        };
        let runner_id = record.runner_id.expect("registered");
        record.note_started(started);
        record.note_completed(JobCompleted { job_id: JobId(1), at: record.launched_at }, runner_id);
    });
    fake.pass(60 * MINUTE);
    id
}

#[test]
fn whatever_hangs_is_dropped_and_the_pass_ends_by_itself_and_remembers_where() {
    for call in [
        "ComputeRead::instances",
        "VitalSigns::read",
        "RegistryRead::runners",
        "RegistryRead::runner",
        "DeliveryLog::failed_deliveries_since",
    ] {
        let fake = Fake::new();
        let id = put_completed(&fake, 1);
        fake.always_hang(call);
        let begin = fake.now();
        let report = sweep(&fake, &policy()).expect("it ended by itself").unwrap_or_else(|failed| *failed.0);
        assert!(report.cut_by_deadline, "{call}: {report:?}");
        assert!(fake.now() < begin.plus(MINUTE), "{call}: before its deadline");
        assert_eq!((fake.state().terminated.len(), fake.state().runners.len()), (0, 1), "{call}");
        fake.heal();
        assert!(minutes_until(&fake, |fake| is_ended(fake, &id)).is_some(), "{call}, healed");
    }
}

#[test]
fn instances_past_their_hard_age_take_half_of_the_time_and_each_has_its_turn() {
    let fake = Fake::new();
    let completed = put_completed(&fake, 1);
    let ancient: Vec<InstanceId> = (0x1000..0x1014).map(|n| put_ancient_nth(&fake, n)).collect();
    // EC2 hangs for every one of the old and refuses in the end; two minutes are time for a few of them.
    fake.state_mut().refused.extend(ancient.iter().cloned());
    let seen = std::rc::Rc::new(std::cell::Cell::new(0));
    let mut sweeps = 0;
    let tried = |fake: &Fake| {
        ancient
            .iter()
            .filter(|id| fake.get::<InstanceRecord>(id.as_str()).is_some_and(|r| r.terminate_intent.is_some()))
            .count()
    };
    while tried(&fake) < ancient.len() || !is_ended(&fake, &completed) {
        let seen = seen.clone();
        let by_itself = timed_sweep(&fake, 2 * MINUTE, move |fake| {
            let calls = fake.calls_of("Compute::terminate");
            if calls > seen.replace(calls) { Duration::from_secs(10) } else { Duration::from_millis(1) }
        });
        assert!(by_itself, "sweep {sweeps} was killed");
        sweeps += 1;
        assert!(sweeps < 12, "{} of {} tried", tried(&fake), ancient.len());
    }
}
