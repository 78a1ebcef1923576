//! What people and other passes want: the kill switch, a mode, an intent, protection.

use super::super::fixtures::{Guard, Moment, acts, assert_guards, down, ends_and_leaves_nothing, swept};
use super::super::*;
use super::heal;
use crate::config::HARD_AGE;
use crate::ledger::RemovalIntent;
use crate::removal::DeregistrationGround;
use crate::verdict::Reason;

use Moment::{BeforeDelete, BeforeTerminate};

#[test]
fn what_people_and_other_passes_want_keeps_and_its_absence_removes() {
    assert_guards(&[
        Guard {
            case: "a matching job waits",
            signal: |fake, _| {
                fake.put(&waiting_job(fake.now()));
                jobs_api_says(fake, 1, JobState::Queued, None);
            },
            withdraw: Some(|fake, _| {
                let mut job = fake.get::<JobRecord>("1").expect("put");
                job.note_completed(fake.now(), None);
                fake.put(&job);
            }),
            // After the DELETE it can take no job any more, so nobody keeps it for one.
            speaks: &[(BeforeDelete, Some(Reason::Wanted))],
        },
        Guard {
            case: "the kill switch is thrown",
            signal: |fake, _| fake.state_mut().kill_switch = Some(KillSwitch::RemovalDisabled),
            withdraw: Some(|fake, _| fake.state_mut().kill_switch = Some(KillSwitch::RemovalEnabled)),
            speaks: &FORBIDDEN,
        },
        Guard {
            case: "the kill switch is missing",
            signal: |fake, _| fake.state_mut().kill_switch = None,
            withdraw: Some(|fake, _| fake.state_mut().kill_switch = Some(KillSwitch::RemovalEnabled)),
            speaks: &FORBIDDEN,
        },
        Guard {
            case: "the kill switch cannot be read",
            signal: |fake, _| fake.always_fail("Parameters::kill_switch", Class::Transient),
            withdraw: Some(heal),
            speaks: &FORBIDDEN,
        },
        Guard {
            case: "observe",
            signal: |_, policy| policy.mode = Mode::Observe,
            withdraw: Some(|_, policy| policy.mode = Mode::Enforce),
            // Judged to the end, for the record.
            speaks: &[(BeforeDelete, None), (BeforeTerminate, None)],
        },
        Guard {
            case: "another pass is about to deregister it",
            signal: |fake, _| {
                let at = fake.now();
                edit(fake, &id(), |record| record.deregister_intent = Some(idle_intent(at)));
            },
            withdraw: Some(|_, _| {}),
            speaks: &[(BeforeDelete, Some(Reason::InHand))],
        },
        Guard {
            case: "another pass is about to end it",
            signal: |fake, _| {
                let intent = RemovalIntent { at: fake.now(), ground: Ground::IdleAfterDeregistration };
                edit(fake, &id(), |record| record.terminate_intent = Some(intent));
            },
            withdraw: Some(|_, _| {}),
            speaks: &[(BeforeDelete, Some(Reason::InHand)), (BeforeTerminate, Some(Reason::InHand))],
        },
    ]);
}

/// Nothing more is read of what may not be done; it is told as what it is kept in spite of.
const FORBIDDEN: [(Moment, Option<Reason>); 2] =
    [(BeforeDelete, Some(Reason::IdleConfirmed)), (BeforeTerminate, Some(Reason::IdleAfterDeregistration))];

fn idle_intent(at: Timestamp) -> RemovalIntent<DeregistrationGround> {
    RemovalIntent { at, ground: DeregistrationGround::Idle }
}

#[test]
fn the_kill_switch_holds_even_the_hard_age_and_alarms_after_a_quarter_of_an_hour() {
    type Switch = (&'static str, fn(&Fake, &mut Policy));
    let switches: [Switch; 4] = [
        ("thrown", |fake, _| fake.state_mut().kill_switch = Some(KillSwitch::RemovalDisabled)),
        ("missing", |fake, _| fake.state_mut().kill_switch = None),
        ("unreadable", |fake, _| fake.always_fail("Parameters::kill_switch", Class::Transient)),
        ("observe", |_, policy| policy.mode = Mode::Observe),
    ];
    for (case, throw) in switches {
        let fake = Fake::new();
        idle_runner(&fake);
        let mut policy = policy();
        throw(&fake, &mut policy);
        fake.pass(HOUR + HARD_AGE);
        for (minute, alarm) in [(0, false), (14, false), (15, true), (600, true)] {
            let at = record_of(&fake).launched_at.plus(HOUR + HARD_AGE + minute * MINUTE);
            fake.pass(at.since(fake.now()));
            let report = swept(&fake, &policy);
            let alarmed = report.errors.iter().any(|error| error.contains("i-1 has been past its hard age"));
            assert_eq!((alarmed, report.forbidden_count), (alarm, 1), "{case}, {minute} min: {:?}", report.errors);
            assert!(grounds(&fake).is_empty(), "{case}, {minute} min");
        }
        fake.heal();
        fake.state_mut().kill_switch = Some(KillSwitch::RemovalEnabled);
        swept(&fake, &super::super::policy());
        assert_eq!(grounds(&fake), [Ground::HardAge], "{case}: released");
    }
}

#[test]
fn an_intent_belongs_to_the_pass_that_stored_it_for_two_minutes() {
    for (seconds, kept) in [(0, true), (119, true), (120, false)] {
        let fake = BeforeDelete.reached();
        let at = fake.now().minus(Duration::from_secs(seconds));
        edit(&fake, &id(), |record| record.deregister_intent = Some(idle_intent(at)));
        let report = down(&fake, &policy());
        assert_eq!(report.kept.contains_key(&Reason::InHand), kept, "{seconds} s: {:?}", report.kept);
        assert_eq!(record_of(&fake).deregister_intent.is_some(), kept, "{seconds} s: taken up, and idleness anew");
        assert_eq!(acts(&fake), 0, "{seconds} s: nothing rests on an old intent");
        ends_and_leaves_nothing(&fake, "in the end");
    }
}

#[test]
fn a_protected_instance_is_kept_and_tried_again_every_hour() {
    let fake = BeforeTerminate.reached();
    fake.state_mut().protected.insert(id());
    let report = down(&fake, &policy());
    assert_eq!((report.protected_count, report.errors.len()), (1, 0), "a person's will is no error");
    for minute in 1..=179 {
        fake.pass(MINUTE);
        let report = down(&fake, &policy());
        let tried = minute % 60 == 0;
        assert_eq!(report.protected_count == 1, tried, "minute {minute}");
        assert_eq!(report.kept.contains_key(&Reason::Protected), !tried, "minute {minute}: {:?}", report.kept);
        swept(&fake, &policy());
    }
    assert_eq!(fake.calls_of("Compute::terminate"), 3, "hourly");
    fake.state_mut().protected.clear();
    ends_and_leaves_nothing(&fake, "protection is off");
}
