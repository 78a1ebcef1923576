//! GitHub refuses an owner's registrations: what waits for them is put off, and others have the room.

use super::pools::pool;
use super::*;
use crate::ids::FleetName;
use crate::ledger::RegistrationBreaker;

fn org(owner: &str) -> Scope {
    Scope::Organization { owner: owner.into() }
}

/// GitHub refused the fleet's runners in that organisation a moment ago, for the fourth time. Until when.
fn refuse(fake: &Fake, owner: &str) -> Timestamp {
    let mut breaker = RegistrationBreaker::new(FleetName::new("linux"), org(owner));
    for ago in [7, 4, 2, 0] {
        breaker.note_refused(fake.now().minus(ago * MINUTE));
    }
    fake.put(&breaker);
    breaker.until
}

/// On record and due, older than any job with a larger id.
fn due(fake: &Fake, id: u64, owner: &str) {
    let now = fake.now();
    fake.put(&JobRecord {
        job_id: JobId(id),
        access: Access { scope: org(owner), installation_id: None },
        repository: repository(&format!("{owner}/hello")),
        phase: JobPhase::Queued,
        next_look: now,
        queued_at: now.minus(Duration::from_hours(1)).plus(Duration::from_secs(id)),
        recorded_at: Some(now),
        launch_count: 3,
        ..unknown(fake)
    });
}

#[test]
fn a_backlog_that_cannot_be_registered_leaves_the_room_and_the_passes_to_others() {
    let fake = Fake::new();
    let mut policy = policy();
    policy.fleets[0].runner_count_max = 2;
    (1..=80).for_each(|id| due(&fake, id, "gone"));
    (101..=102).for_each(|id| due(&fake, id, "octo"));
    let until = refuse(&fake, "gone");
    let report = pass(&fake, &policy);
    assert_eq!((report.resent_count, sent(&fake)), (2, vec![101, 102]));
    assert!((1..=80).all(|id| job(&fake, id).next_look == until && job(&fake, id).phase == JobPhase::Queued));
    fake.state_mut().queue.clear();
    fake.pass(4 * MINUTE);
    assert_eq!(pass(&fake, &policy).resent_count, 1);
    assert_eq!(sent(&fake), [1], "the oldest, to try");
    assert!(
        (2..=80).all(|id| job(&fake, id).next_look <= fake.now()),
        "the others are due as soon as that is answered"
    );
}

#[test]
fn a_pool_whose_registrations_are_refused_is_filled_by_one_at_a_time_or_not_at_all() {
    let fake = world([]);
    refuse(&fake, "octo");
    assert_eq!(pass(&fake, &pool(3)).pooled.len(), 0);
    assert_eq!(fake.state().fleet_calls.len(), 0);
    fake.pass(4 * MINUTE);
    assert_eq!(pass(&fake, &pool(3)).pooled.values().sum::<usize>(), 1, "to try");
    fake.pass(MINUTE);
    assert_eq!(pass(&fake, &pool(3)).pooled.values().sum::<usize>(), 2, "and it was registered");
}

/// While it was `old`, nothing could be registered for a job any more; GitHub shows it in `octo` now.
#[test]
fn a_job_whose_organisation_was_renamed_is_launched_for_under_its_new_name() {
    let fake = world([1]);
    due(&fake, 1, "old");
    let until = refuse(&fake, "old");
    let report = pass(&fake, &policy());
    assert_eq!((report.resent_count, report.sent_count), (0, 1), "under its old name nothing is launched");
    let message = fake.state().queue[0].clone();
    assert_eq!((message.repository, message.organization.as_deref()), (repository("octo/hello"), Some("octo")));
    assert_eq!(job(&fake, 1).next_look, until);
    assert_eq!(scale_up(&fake, &policy()), [Outcome::Launched]);
    let record = job(&fake, 1);
    assert_eq!(record.access.scope, org("octo"));
    // By the old name removal goes on to look for it on runners that were registered under that.
    assert_eq!(record.repository, repository("old/hello"));
    assert_eq!(fake.all::<InstanceRecord>().pop().expect("launched").access.scope, org("octo"));
    for _ in 0..2 {
        fake.pass(5 * MINUTE);
        assert_eq!(pass(&fake, &policy()).sent_count, 0, "it is served");
    }
    assert_eq!(fake.living().len(), 1);
}
