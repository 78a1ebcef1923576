//! What no pass may touch, however long it stays: a person has to hear of it, and nothing is done to it.

use super::fixtures::{acts, down, swept, tag};
use super::*;
use crate::config::HARD_AGE;
use crate::evidence::{BYPASS_TAG, TEMPLATE_TAG};
use crate::ledger::Record;
use crate::ports::Item;
use crate::removal::metrics_of;

/// Whether a report holds an error about the instance that says what to do.
fn told(report: &Report) -> bool {
    report.errors.iter().any(|error| error.contains("i-1") && error.contains("roll forward"))
}

fn metric(report: Report, name: &str) -> u64 {
    let metrics = metrics_of(&report.into_result());
    metrics.iter().find(|metric| metric.name == name).map(|metric| metric.value).expect("a metric")
}

#[test]
fn a_record_that_we_cannot_read_is_an_error_past_the_hard_age_and_its_instance_is_never_touched() {
    type Change = fn(Item) -> Item;
    let schema: Change = |item| Item { schema: 2, ..item };
    let shape: Change = |item| Item { body: serde_json::json!({ "instance_id": 1 }).into(), ..item };
    for (case, change) in [("another schema", schema), ("an unreadable shape", shape)] {
        for template in [Some("lt-1"), Some("lt-2"), None] {
            let fake = Fake::new();
            idle_runner(&fake);
            tag(&fake, TEMPLATE_TAG, template);
            let item = fake.state().items[&InstanceRecord::key("i-1")].clone();
            fake.put_item(change(item));
            let bound = HARD_AGE + policy().fleets[0].timers.idle_maximum;
            let launched_at = fake.now().minus(bound).plus(MINUTE);
            fake.state_mut().instances.get_mut(&id()).expect("an instance").launched_at = launched_at;
            let young = swept(&fake, &policy());
            assert!(!told(&young), "{case}, {template:?}: a job may run: {:?}", young.errors);
            fake.pass(MINUTE);
            let report = swept(&fake, &policy());
            assert!(told(&report), "{case}, {template:?}: {:?}", report.errors);
            assert!(metric(report, "PassErrors") > 0, "{case}, {template:?}: it alarms");
            down(&fake, &policy());
            assert_eq!(acts(&fake) + fake.calls_of("Compute::request_drain"), 0, "{case}, {template:?}");
            tag(&fake, BYPASS_TAG, Some(""));
            assert!(!told(&swept(&fake, &policy())), "{case}, {template:?}: an operator's will");
            tag(&fake, BYPASS_TAG, None);
            for state in [InstanceState::ShuttingDown, InstanceState::Terminated] {
                fake.set_instance_state(&id(), state);
                assert!(!told(&swept(&fake, &policy())), "{case}, {template:?}: {state:?}");
            }
        }
    }
}

#[test]
fn an_instance_with_our_tag_that_neither_ledger_nor_document_knows_is_counted_and_named() {
    type World = fn(&Fake);
    let worlds: [(&str, World, bool); 8] = [
        ("its template left the document", |fake| tag(fake, TEMPLATE_TAG, Some("lt-old")), true),
        ("it has no template", |_| {}, true),
        ("and is stopped", |fake| fake.set_instance_state(&id(), InstanceState::Stopped), true),
        ("our template: its record is made anew", |fake| tag(fake, TEMPLATE_TAG, Some("lt-1")), false),
        ("there is a record", |fake| fake.put(&record(fake)), false),
        ("an operator's will", |fake| tag(fake, BYPASS_TAG, Some("")), false),
        ("it is gone", |fake| fake.set_instance_state(&id(), InstanceState::Terminated), false),
        ("another deployment's", |fake| tag(fake, "ghr:environment", Some("prod")), false),
    ];
    for (case, change, counted) in worlds {
        let fake = Fake::new();
        put_instance(&fake, &id());
        change(&fake);
        let young = swept(&fake, &policy());
        assert_eq!(young.unowned_instances, [], "{case}: its record may be about to be written");
        fake.pass(15 * MINUTE);
        let report = swept(&fake, &policy());
        let expected = if counted { vec![id()] } else { vec![] };
        assert_eq!(report.unowned_instances, expected, "{case}");
        assert_eq!(report.errors, Vec::<String>::new(), "{case}: a warning, no failure");
        assert_eq!(metric(report, "InstancesUnowned"), u64::from(counted), "{case}");
        assert_eq!(down(&fake, &policy()).unowned_instances, [], "{case}: the sweeper says it, once");
        assert_eq!(acts(&fake), 0, "{case}");
    }
}

#[test]
fn of_many_unowned_instances_all_are_counted_and_some_are_named() {
    let fake = Fake::new();
    (0..60).for_each(|n| put_instance(&fake, &nth(n)));
    fake.pass(HOUR);
    let report = swept(&fake, &policy());
    assert_eq!(report.unowned_instances.len(), 50);
    assert_eq!(metric(report, "InstancesUnowned"), 60);
}
