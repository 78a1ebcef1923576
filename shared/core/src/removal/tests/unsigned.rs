//! A wrong table or key of the vital signs makes every instance look as if it had never spoken, and every veto of theirs
//! vanishes at once.

use super::incidents::{acts, down, ends_and_leaves_nothing, minutes, swept};
use super::*;
use crate::config::HARD_AGE;
use crate::ledger::{DeregistrationOutcome, RemovalIntent};
use crate::removal::DeregistrationGround;
use crate::verdict::Reason;

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

/// What a row that leans on silence needs besides, of the n-th instance.
type Row = (&'static str, fn(&Fake, usize));

const ROWS: [Row; 4] = [
    ("row 14", |fake, n| {
        edit(fake, &nth(n), |record| {
            let at = record.launched_at;
            record.deregister_intent = Some(RemovalIntent { at, ground: DeregistrationGround::Idle });
            record.deregistered_at = Some(at);
            record.deregistration = Some(DeregistrationOutcome::Confirmed);
        });
        fake.state_mut().runners.clear();
    }),
    ("row 16", |fake, _| fake.state_mut().runners.clear()),
    ("row 18", never_connected),
    ("row 20", |_, _| {}),
];

fn never_connected(fake: &Fake, n: usize) {
    let mut state = fake.state_mut();
    let (_, runner) = state.runners.iter_mut().find(|(_, r)| r.id.0 == 1000 + n as u64).expect("registered");
    (runner.online, runner.version) = (false, Some(None));
}

#[test]
fn where_no_instance_ever_spoke_silence_is_unread_and_said_to_be_a_mistake() {
    for (row, prepare) in ROWS {
        for (count, all_silent, unread) in [(5, true, true), (4, true, false), (5, false, false)] {
            let case = format!("{row}, {count} instances, {}", if all_silent { "all silent" } else { "one spoke" });
            let fake = Fake::new();
            for n in 0..count {
                put_unheard(&fake, n);
            }
            (0..count).for_each(|n| prepare(&fake, n));
            fake.pass(DUE);
            if !all_silent {
                sign(&fake, nth(0));
            }
            let (swept, down) = (swept(&fake, &policy()), down(&fake, &policy()));
            assert_eq!((told(&swept), told(&down)), (unread, unread), "{case}: {:?}", swept.errors);
            assert_eq!(down.kept.contains_key(&Reason::VitalSignUnread), unread, "{case}: {:?}", down.kept);
            minutes(&fake, &policy(), 110);
            assert_eq!(acts(&fake) == 0, unread, "{case}: {:?}", grounds(&fake));
        }
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

/// The bound that asks nobody holds, and what is gone is cleaned up.
#[test]
fn signs_that_count_as_unread_stop_neither_the_hard_age_nor_the_end_of_what_is_gone() {
    let fake = Fake::new();
    (0..5).for_each(|n| put_unheard(&fake, n));
    idle_runner(&fake);
    fake.set_instance_state(&id(), InstanceState::Terminated);
    fake.pass(DUE);
    assert!(told(&swept(&fake, &policy())));
    minutes(&fake, &policy(), 3);
    assert!(record_of(&fake).cleaned_at.is_some(), "EC2 says that it is gone");
    fake.pass(HARD_AGE + HOUR);
    minutes(&fake, &policy(), 1);
    assert_eq!(grounds(&fake), [Ground::HardAge; 5]);
}

/// Missed by two listings, its registration offline: that it never spoke is no reason to believe them.
#[test]
fn an_instance_that_listings_miss_keeps_its_registration_while_signs_count_as_unread() {
    for (count, kept) in [(5, true), (4, false)] {
        let fake = Fake::new();
        idle_runner(&fake);
        (0..count).for_each(|n| put_unheard(&fake, n));
        fake.state_mut().runners.iter_mut().for_each(|(_, runner)| runner.online = false);
        fake.state_mut().instances.remove(&id());
        fake.pass(2 * HOUR);
        let known = |fake: &Fake| fake.state().runners.iter().any(|(_, runner)| runner.id == RunnerId(7));
        for _ in 0..6 {
            fake.pass(5 * MINUTE);
            swept(&fake, &policy());
        }
        assert_eq!(known(&fake), kept, "{count} instances: {:?}", record_of(&fake));
        if kept {
            assert!(record_of(&fake).gone_at.is_some());
            sign(&fake, nth(0));
            minutes(&fake, &policy(), 6);
            assert!(!known(&fake), "one instance has spoken");
        }
    }
    let fake = Fake::new();
    idle_runner(&fake);
    ends_and_leaves_nothing(&fake, "a single one that never spoke");
}

/// A broken image: no supervisor ever started, so no runner ever connected. Nothing is wrong with where signs are looked
/// for, and a fleet at its cap must get its room back.
#[test]
fn machines_on_which_no_runner_was_ever_seen_are_silent_in_truth() {
    let fake = Fake::new();
    for n in 0..6 {
        put_unheard(&fake, n);
        edit(&fake, &nth(n), |record| record.idle_since = None);
        never_connected(&fake, n);
    }
    fake.pass(DUE);
    assert!(!told(&swept(&fake, &policy())));
    minutes(&fake, &policy(), 110);
    assert_eq!(grounds(&fake), [Ground::NeverConnected; 6]);
}
