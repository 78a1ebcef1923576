//! GitHub refuses registrations for good: an owner that narrowed the App's permissions, a runner group that is another's,
//! an organisation that was renamed.

use super::*;
use crate::ids::FleetName;
use crate::ledger::RegistrationBreaker;

const REGISTRATION: &str = "Registry::generate_jit_config";

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn octo() -> Scope {
    Scope::Organization { owner: "octo".into() }
}

fn launched(fake: &Fake) -> usize {
    fake.all::<LaunchRecord>().iter().map(|launch| launch.count as usize).sum()
}

fn is_failed(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failed(_))
}

#[test]
fn a_registration_that_is_refused_for_good_is_launched_for_by_one_job_at_a_time_and_ever_more_rarely() {
    for class in [Class::Denied, Class::Absent, Class::Rejected] {
        let fake = world(1..=9);
        fake.always_fail(REGISTRATION, class);
        assert!(batch(&fake, &policy(), &[1, 2]).iter().all(is_failed), "{class:?}: their instances are gone on with");
        for (next, wait) in [(3, 30), (4, 60), (5, 120), (6, 240), (7, 240)] {
            assert_eq!(batch(&fake, &policy(), &[8, 9]), [Outcome::Waiting, Outcome::Waiting], "{class:?}");
            let until = fake.now().plus(seconds(wait));
            for id in ["8", "9"] {
                let job = fake.get::<JobRecord>(id).expect("recorded");
                assert_eq!((job.phase, job.next_look), (JobPhase::Queued, until), "{class:?}: nothing is lost");
            }
            fake.pass(seconds(wait));
            let outcomes = batch(&fake, &policy(), &[9, next]);
            assert_eq!(outcomes[0], Outcome::Waiting, "{class:?}: the older one is launched for to try");
            assert!(is_failed(&outcomes[1]), "{class:?}: {outcomes:?}");
            assert_eq!(launched(&fake) as u64, next, "{class:?}: one more");
        }
        fake.heal();
        fake.pass(minutes(4));
        assert_eq!(batch(&fake, &policy(), &[8, 9]), [Outcome::Launched, Outcome::Waiting], "{class:?}: one tries");
        assert_eq!(batch(&fake, &policy(), &[9]), [Outcome::Launched], "{class:?}: and all are served from then on");
    }
}

#[test]
fn what_may_pass_later_holds_up_nothing() {
    for class in [Class::Transient, Class::Throttled { retry_after: None }, Class::OutcomeUnknown] {
        let fake = world([1, 2]);
        fake.always_fail(REGISTRATION, class);
        assert!(batch(&fake, &policy(), &[1]).iter().all(is_failed), "{class:?}");
        assert!(batch(&fake, &policy(), &[2]).iter().all(is_failed), "{class:?}: launched for");
        assert_eq!(launched(&fake), 2, "{class:?}");
    }
}

#[test]
fn a_refusal_holds_up_neither_another_fleet_nor_another_scope_nor_an_instance_that_is_there() {
    let fake = world([1, 2, 3, 4]);
    let mut policy = policy();
    policy.fleets.push(fleet("gpu"));
    fake.always_fail(REGISTRATION, Class::Denied);
    assert!(batch(&fake, &policy, &[1]).iter().all(is_failed));
    fake.heal();
    let mut elsewhere = message(2);
    (elsewhere.repository, elsewhere.organization) =
        (Repository::try_from("acme/app".to_owned()).expect("a name"), Some("acme".into()));
    let mut of_gpu = message(3);
    of_gpu.labels = vec!["self-hosted".into(), "gpu".into()];
    let outcomes = batch_of(&fake, &policy, vec![in_queue(&elsewhere), in_queue(&of_gpu), in_queue(&message(4))]);
    let outcomes: Vec<Outcome> = outcomes.expect("not killed").into_iter().map(|(_, outcome)| outcome).collect();
    assert_eq!(outcomes, [Outcome::Launched, Outcome::Launched, Outcome::Waiting]);
    assert_eq!(batch(&fake, &policy, &[1]), [Outcome::Launched], "its instance gets its configuration");
    assert_eq!(batch(&fake, &policy, &[4]), [Outcome::Launched], "which ends the wait");
    assert_eq!(launched(&fake), 4);
}

#[test]
fn a_runner_that_cannot_be_looked_for_is_refused_too_and_a_launch_without_room_is_no_attempt() {
    let fake = world([1, 2, 3]);
    let mut policy = policy();
    policy.fleets[0].runner_count_max = 1;
    fake.fail_once(REGISTRATION, Class::OutcomeUnknown);
    assert!(batch(&fake, &policy, &[1]).iter().all(is_failed));
    let breaker = || fake.get::<RegistrationBreaker>(&RegistrationBreaker::id_of(&FleetName::new("linux"), &octo()));
    assert_eq!(breaker(), None, "nobody knows what GitHub did");
    fake.always_fail("RegistryRead::runner_named", Class::Absent);
    assert!(batch(&fake, &policy, &[1]).iter().all(is_failed));
    let opened = breaker().expect("opened");
    assert_eq!((opened.refused_count, opened.until), (1, fake.now().plus(seconds(30))));
    fake.pass(minutes(1));
    assert_eq!(batch(&fake, &policy, &[2, 3]), [Outcome::Waiting, Outcome::Waiting], "the fleet is full");
    assert_eq!(breaker(), Some(opened), "as before");
}
