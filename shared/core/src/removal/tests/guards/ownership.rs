//! Whose an instance and its runner are.

use super::super::fixtures::{Guard, Moment, assert_guards, minutes, swept, tag};
use super::super::*;
use crate::config::HARD_AGE;
use crate::evidence::{BYPASS_TAG, ENVIRONMENT_TAG, TEMPLATE_TAG};
use crate::verdict::Reason;

use Moment::{BeforeDelete, BeforeTerminate};

#[test]
fn whose_it_is_keeps_and_its_absence_removes() {
    assert_guards(&[
        Guard {
            case: "the tag of another deployment",
            signal: |fake, _| tag(fake, ENVIRONMENT_TAG, Some("other")),
            withdraw: Some(|fake, _| tag(fake, ENVIRONMENT_TAG, Some("test"))),
            speaks: &[(BeforeDelete, None), (BeforeTerminate, None)],
        },
        Guard {
            case: "an operator's tag",
            signal: |fake, _| tag(fake, BYPASS_TAG, Some("")),
            withdraw: Some(|fake, _| tag(fake, BYPASS_TAG, None)),
            speaks: &[(BeforeDelete, Some(Reason::Bypassed)), (BeforeTerminate, Some(Reason::Bypassed))],
        },
    ]);
}

/// The registration under our runner's id bears this name.
fn name_runner(fake: &Fake, name: &str) {
    let named = Runner { name: RunnerName::new(name), ..runner() };
    let mut state = fake.state_mut();
    state.runners.retain(|(_, runner)| runner.id != named.id);
    drop(state);
    fake.put_runner(&access().scope, named);
}

/// An id that GitHub gave away again, or that was written down wrongly: what is said of that runner is not said of ours.
#[test]
fn a_runner_of_another_name_under_our_id_keeps_and_its_own_name_removes() {
    assert_guards(&[Guard {
        case: "another name under our runner's id",
        signal: |fake, _| name_runner(fake, "somebody-else"),
        withdraw: Some(|fake, _| name_runner(fake, "runner-i-1")),
        speaks: &[
            (BeforeDelete, Some(Reason::ForeignRegistration)),
            (BeforeTerminate, Some(Reason::ForeignRegistration)),
        ],
    }]);
}

#[test]
fn our_template_makes_a_rebuilt_instance_ours_and_another_does_not() {
    for (template, expected) in [("lt-1", vec![Ground::HardAge]), ("lt-2", vec![])] {
        let fake = Fake::new();
        put_instance(&fake, &id());
        tag(&fake, TEMPLATE_TAG, Some(template));
        minutes(&fake, &policy(), 20);
        fake.pass(HARD_AGE + 2 * HOUR);
        let report = swept(&fake, &policy());
        assert_eq!(
            (grounds(&fake), report.kept.contains_key(&Reason::NotOurs)),
            (expected.clone(), expected.is_empty())
        );
    }
}
