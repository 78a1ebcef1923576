//! Ledgers that were lost, restored or rebuilt: what a record does not tell is not known.

use super::*;
use crate::ledger::OrphanEvent;

#[test]
fn a_young_instance_is_not_rebuilt() {
    let fake = Fake::new();
    put_instance(&fake, &id());
    fake.retag(&id(), |tags| {
        tags.insert("aws:ec2launchtemplate:id".into(), "lt-1".into());
    });
    let _ = sweep(&fake, &policy());
    assert!(
        fake.get::<InstanceRecord>("i-1").is_none(),
        "an instance 0 s old was rebuilt: scale-up's own record is refused"
    );
}

#[test]
fn a_rebuilt_record_takes_in_the_orphan_event() {
    let fake = Fake::new();
    put_instance(&fake, &id());
    fake.retag(&id(), |tags| {
        tags.insert("aws:ec2launchtemplate:id".into(), "lt-1".into());
    });
    fake.put(&OrphanEvent {
        scope: access().scope,
        runner_name: RunnerName::new("runner-i-1"),
        started: Some(started()),
        completed: None,
        at: fake.now(),
    });
    fake.put_runner(&access().scope, runner());
    for _ in 0..30 {
        tick(&fake, &policy());
    }
    let r = fake.get::<InstanceRecord>("i-1").unwrap();
    assert!(
        r.job_started.is_some(),
        "started was known; drains requested: {}",
        fake.calls_of("Compute::request_drain")
    );
}

/// Restored ledger: deregistered at the backup, the start came after it (row 15) and was lost by the restore.
#[test]
fn a_restored_record_in_quarantine_is_kept() {
    let fake = Fake::new();
    idle_runner(&fake);
    fake.retag(&id(), |tags| {
        tags.insert("aws:ec2launchtemplate:id".into(), "lt-1".into());
    });
    minutes_until_deregistered(&fake).expect("deregistered");
    let backup = fake.items();
    fake.pass(MINUTE);
    event(&fake, "in_progress", 1, Some(7));
    for _ in 0..10 {
        tick(&fake, &policy());
    }
    assert!(grounds(&fake).is_empty(), "row 15");
    fake.state_mut().items.clear();
    for item in backup {
        fake.put_item(item);
    }
    let restored = Policy { ledger_epoch: Some(fake.now()), ..policy() };
    for _ in 0..PASSES_MAX {
        tick(&fake, &restored);
    }
    assert!(grounds(&fake).is_empty(), "ended {:?}: {:?}", grounds(&fake), record_of(&fake));
}

/// A rebuilt record that knows its job by its events, and never learns its runner's id.
#[test]
fn a_rebuilt_record_with_a_job_still_finds_its_runner() {
    let fake = Fake::new();
    put_instance(&fake, &id());
    fake.retag(&id(), |tags| {
        tags.insert("aws:ec2launchtemplate:id".into(), "lt-1".into());
    });
    fake.put_runner(&access().scope, runner());
    event(&fake, "in_progress", 1, Some(7));
    assert!(minutes_until(&fake, |fake| fake.get::<InstanceRecord>("i-1").is_some()).is_some());
    event(&fake, "completed", 1, Some(7));
    jobs_api_says(&fake, 1, JobState::Completed, Some(7));
    for _ in 0..(24 * 60) {
        tick(&fake, &policy());
    }
    assert!(!grounds(&fake).is_empty(), "its job completed a day ago: {:?}", record_of(&fake));
}

/// A row of absences of before the restore.
#[test]
fn a_restored_row_of_absences_proves_nothing() {
    let fake = Fake::new();
    idle_runner(&fake);
    fake.retag(&id(), |tags| {
        tags.insert("aws:ec2launchtemplate:id".into(), "lt-1".into());
    });
    fake.pass(2 * HOUR);
    let at = fake.now();
    edit(&fake, &id(), |r| {
        r.missing_since = Some(at);
        r.missing_counted_at = Some(at);
    });
    fake.pass(20 * HOUR); // it was seen for all that time; then the backup of 20 h ago came back
    let restored = Policy { ledger_epoch: Some(fake.now()), ..policy() };
    fake.retag(&id(), |tags| {
        tags.insert("ghr:environment".into(), "x".into());
    });
    tick(&fake, &restored);
    assert_eq!(record_of(&fake).gone_at, None, "gone by one listing after the restore");
}

/// hidden from the listings (somebody changed its tag), taken for gone, its runner online and its job running:
/// `NotGone` keeps it. A raised ledger epoch wipes `missing_since`, and with it the knowledge that "gone" was an absence.
fn hidden(epoch: bool) -> Fake {
    let fake = Fake::new();
    idle_runner(&fake);
    event(&fake, "in_progress", 1, Some(7));
    jobs_api_says(&fake, 1, JobState::InProgress, Some(7));
    fake.pass(2 * HOUR);
    // Hidden: no listing shows it.
    let shown = fake.state_mut().instances.remove(&id()).expect("put");
    let sign = VitalSign { beat_at: fake.now(), worker: Worker::Running };
    fake.state_mut().vital_signs.insert(id(), sign);
    for _ in 0..60 {
        tick(&fake, &policy());
    }
    assert!(record_of(&fake).gone_at.is_some() && record_of(&fake).missing_since.is_some(), "{:?}", record_of(&fake));
    untouched(&fake, "NotGone keeps it before the restore");
    let restored = Policy { ledger_epoch: epoch.then(|| fake.now()), ..policy() };
    for _ in 0..10 {
        tick(&fake, &restored);
    }
    drop(shown);
    fake
}

#[test]
fn without_a_raised_epoch_it_is_kept() {
    untouched(&hidden(false), "no epoch");
}

#[test]
fn a_raised_epoch_does_not_turn_an_absence_into_a_proof() {
    untouched(&hidden(true), "epoch raised");
}
