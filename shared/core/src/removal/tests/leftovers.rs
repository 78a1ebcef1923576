//! What instances leave behind, and who may take it away.

use super::*;
use crate::ids::InstallationId;
use crate::ledger::{PassCursor, Record};
use crate::ports::{Item, JitConfig};

#[test]
fn an_uninstalled_app_leaves_no_parameter() {
    let fake = Fake::new();
    idle_runner(&fake);
    fake.state_mut().parameters.insert(id(), crate::ports::JitConfig::new("secret".into()));
    fake.set_instance_state(&id(), InstanceState::Terminated);
    for c in ["RegistryRead::runners", "RegistryRead::runner", "RegistryRead::runner_named"] {
        fake.always_fail(c, Class::Denied);
    }
    for _ in 0..200 {
        fake.pass(6 * HOUR);
        let _ = scale_down(&fake, &policy());
        let _ = sweep(&fake, &policy());
    }
    assert!(fake.state().parameters.is_empty(), "50 days later");
}

#[test]
fn a_configuration_made_while_its_instance_dies_is_cleaned_up() {
    let fake = Fake::new();
    put_instance(&fake, &id());
    let mut r = record(&fake);
    r.runner_id = None;
    r.handed_over_at = None;
    fake.put(&r); // jit_intent just stored, call in flight
    fake.set_instance_state(&id(), InstanceState::Terminated);
    let _ = scale_down(&fake, &policy());
    let _ = sweep(&fake, &policy());
    // now GitHub's answer arrives at scale-up
    fake.put_runner(&access().scope, runner());
    fake.state_mut().parameters.insert(id(), crate::ports::JitConfig::new("secret".into()));
    edit(&fake, &id(), |r| {
        r.note_runner_id(RunnerId(7));
        r.handed_over_at = Some(Timestamp(1));
    });
    for _ in 0..120 {
        tick(&fake, &policy());
    }
    fake.state_mut().instances.clear();
    for _ in 0..120 {
        tick(&fake, &policy());
    }
    assert!(
        fake.state().parameters.is_empty() && fake.state().runners.is_empty(),
        "left: {} parameters, {} runners",
        fake.state().parameters.len(),
        fake.state().runners.len()
    );
}

#[test]
fn the_kill_switch_keeps_parameters() {
    let fake = Fake::new();
    idle_runner(&fake);
    fake.state_mut().runners.clear();
    fake.state_mut().kill_switch = Some(KillSwitch::RemovalDisabled);
    fake.state_mut().parameters.insert(id(), crate::ports::JitConfig::new("secret".into()));
    fake.set_instance_state(&id(), InstanceState::Terminated);
    for _ in 0..5 {
        tick(&fake, &policy());
    }
    assert_eq!(fake.calls_of("Parameters::delete_jit_config"), 0);
}

/// A cursor that cannot be understood (a rollback): strays are never looked for, and nobody is told.
#[test]
fn secrets_without_an_instance_are_taken_away_although_the_cursor_is_foreign() {
    let fake = Fake::new();
    fake.put(&PassCursor::new("orphan-sweeper"));
    let key = PassCursor::key("orphan-sweeper");
    let item = Item { schema: 2, ..fake.state().items[&key].clone() };
    fake.put_item(item);
    fake.state_mut().parameters.insert(nth(1), JitConfig::new("secret".into()));
    let mut silent = true;
    for _ in 0..24 {
        fake.pass(5 * MINUTE);
        silent &= sweep(&fake, &policy()).expect("not killed").is_ok();
    }
    assert!(
        fake.state().parameters.is_empty() || !silent,
        "two hours: the secret lies there and every pass reports success"
    );
}

/// A stray registration listed under two installations of one scope is acted upon once.
#[test]
fn a_stray_seen_under_two_accesses_is_deleted_once() {
    let fake = Fake::new();
    for n in 1..=2 {
        put_nth(&fake, n);
    }
    edit(&fake, &nth(2), |r| r.access.installation_id = Some(InstallationId(9)));
    let gone = put_nth(&fake, 3);
    fake.state_mut().instances.remove(&gone);
    edit(&fake, &gone, |r| {
        r.gone_at = Some(r.launched_at);
        r.cleaned_at = Some(r.launched_at);
    });
    for _ in 0..3 {
        fake.pass(20 * MINUTE);
        let _ = sweep(&fake, &policy());
    }
    assert_eq!(fake.calls_of("Registry::deregister"), 1);
}

/// A second deployment has runners in the same organisation: they live, and are nobody's of ours.
#[test]
fn of_registrations_without_record_those_that_can_be_left_of_ours_are_counted() {
    for (case, name, online, counted) in [
        ("a neighbour's that lives", "runner-i-0b", true, 0),
        ("a neighbour's under another prefix", "theirs-i-0b", false, 0),
        ("a name that only ends like one of ours", "my-runner-i-0b", false, 0),
        ("what may be left of an instance of ours", "runner-i-0b", false, 1),
    ] {
        let fake = Fake::new();
        put_nth(&fake, 1);
        tick(&fake, &policy());
        fake.put_runner(&access().scope, Runner { name: RunnerName::new(name), online, ..runner() });
        fake.pass(20 * MINUTE);
        let report = sweep(&fake, &policy()).expect("not killed").expect("no errors");
        assert_eq!(report.unowned_registration_count, counted, "{case}");
        assert_eq!(fake.calls_of("Registry::deregister"), 0, "{case}: touched by nobody");
    }
}

/// GitHub may show the registration of an instance before EC2's listing shows the instance (facts/world.md E1), and
/// give it a job.
#[test]
fn a_registration_whose_instance_no_listing_shows_yet_is_left() {
    let fake = Fake::new();
    put_nth(&fake, 0);
    tick(&fake, &policy());
    fake.pass(20 * MINUTE);
    idle_runner(&fake);
    fake.state_mut().instances.remove(&id());
    for minute in 0..5 {
        let _ = sweep(&fake, &policy());
        assert!(fake.state().runners.iter().any(|(_, runner)| runner.id == RunnerId(7)), "deregistered after {minute}");
        fake.pass(MINUTE);
    }
    assert_eq!(record_of(&fake).gone_at, None);
}
