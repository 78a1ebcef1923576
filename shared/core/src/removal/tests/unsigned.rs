//! A wrong table or key of the vital signs makes every instance look as if it had never spoken. It is told and changes
//! no verdict: living supervisors answer drains, which need no sign, and where all of them are dead in truth nothing may
//! leak.

use super::fixtures::{acts, down, minutes, swept};
use super::*;

/// `boot_grace` and 10 min.
const DUE: Duration = Duration::from_secs(25 * 60);
const NOT_DUE: Duration = Duration::from_secs(24 * 60);

fn told(report: &Report) -> bool {
    report.errors.iter().any(|error| error.contains("VITAL_SIGNS_TABLE") && error.contains("VITAL_SIGNS_KEY_PREFIX"))
}

fn sign(fake: &Fake, id: InstanceId) {
    let sign = VitalSign { beat_at: fake.now().minus(HOUR), worker: Worker::None };
    fake.state_mut().vital_signs.insert(id, sign);
}

/// One of many instances that nobody has ever heard of, though its runner was seen.
fn put_unheard(fake: &Fake, n: usize) {
    let id = put_nth(fake, n);
    fake.state_mut().vital_signs.remove(&id);
    edit(fake, &id, |record| record.idle_since = Some(record.launched_at));
}

#[test]
fn where_no_instance_ever_spoke_a_mistake_is_told_and_they_go_all_the_same() {
    for (case, count, all_silent, expected) in
        [("many", 5, true, true), ("few", 4, true, false), ("many, and one spoke", 5, false, false)]
    {
        let fake = Fake::new();
        (0..count).for_each(|n| put_unheard(&fake, n));
        fake.pass(DUE);
        if !all_silent {
            sign(&fake, nth(0));
        }
        let (swept, down) = (swept(&fake, &policy()), down(&fake, &policy()));
        assert_eq!((told(&swept), told(&down)), (expected, expected), "{case}: {:?}", swept.errors);
        minutes(&fake, &policy(), 110);
        assert!(acts(&fake) >= count, "{case}: {:?}", grounds(&fake));
    }
}

#[test]
fn instances_that_still_boot_are_not_expected_to_have_spoken() {
    let fake = Fake::new();
    (0..5).for_each(|n| put_unheard(&fake, n));
    fake.pass(NOT_DUE);
    assert!(!told(&swept(&fake, &policy())), "one of them may speak yet");
    // Nor do younger ones that speak vouch for those that do not: the key may be right for a new role alone.
    put_unheard(&fake, 5);
    sign(&fake, nth(5));
    fake.pass(MINUTE);
    assert!(told(&swept(&fake, &policy())));
}

/// A broken image: no supervisor ever started, so no runner ever connected. Nothing is wrong with where signs are looked
/// for.
#[test]
fn machines_on_which_no_runner_was_ever_seen_are_silent_in_truth() {
    let fake = Fake::new();
    for n in 0..6 {
        put_unheard(&fake, n);
        edit(&fake, &nth(n), |record| record.idle_since = None);
        let mut state = fake.state_mut();
        let (_, runner) = state.runners.iter_mut().find(|(_, r)| r.id.0 == 1000 + n as u64).expect("registered");
        (runner.online, runner.version) = (false, Some(None));
    }
    fake.pass(DUE);
    assert!(!told(&swept(&fake, &policy())));
    minutes(&fake, &policy(), 110);
    assert_eq!(grounds(&fake), [Ground::NeverConnected; 6]);
}
