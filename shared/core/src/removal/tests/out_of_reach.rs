//! What no pass may touch, however long it stays: a person has to hear of it, and nothing is done to it.

use super::incidents::{acts, down, swept, tag};
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
    let shape: Change = |item| Item { body: serde_json::json!({ "instance_id": 1 }), ..item };
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
