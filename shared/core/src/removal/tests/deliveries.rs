//! Failed deliveries: what they tell is read, and what cannot be read or is a stranger's keeps nobody for ever.

use super::*;
use crate::ledger::{DeliveryCursor, Record};
use crate::ports::Item;

#[test]
fn a_strangers_unreadable_delivery_blocks_nobody() {
    let fake = Fake::new();
    idle_runner(&fake);
    let payload = serde_json::json!({"action":"completed","workflow_job":{"id":99,"run_id":2,"labels":vec!["x";101],"runner_id":null,"runner_name":null},
            "repository":{"full_name":"stranger/repo","owner":{"login":"stranger","type":"User"}}}).to_string();
    let delivery = Delivery {
        id: 1,
        guid: DeliveryGuid::new("g"),
        delivered_at: fake.now(),
        event: "workflow_job".into(),
        action: Some("completed".into()),
        installation_id: None,
    };
    fake.state_mut().deliveries.push((delivery, payload));
    assert!(
        minutes_until_deregistered(&fake).is_some(),
        "a stranger's cancelled job with 101 labels stops all removal"
    );
}

#[test]
fn a_failed_delivery_of_another_instances_foreign_record_blocks_nobody() {
    let fake = Fake::new();
    idle_runner(&fake);
    fake.put_item(Item {
        key: crate::ports::Key { kind: crate::ports::Kind::Instance, id: "i-2".into() },
        version: 3,
        schema: 99,
        body: serde_json::json!({}).into(),
        open: None,
        expires_at: None,
    });
    let payload = serde_json::json!({"action":"completed","workflow_job":{"id":99,"run_id":2,"labels":["x"],"runner_id":8,"runner_name":"runner-i-2"},
        "repository":{"full_name":"octo/hello","owner":{"login":"octo","type":"Organization"}}}).to_string();
    let delivery = Delivery {
        id: 1,
        guid: DeliveryGuid::new("g"),
        delivered_at: fake.now(),
        event: "workflow_job".into(),
        action: Some("completed".into()),
        installation_id: None,
    };
    fake.state_mut().deliveries.push((delivery, payload));
    assert!(minutes_until_deregistered(&fake).is_some());
}

fn started_payload() -> String {
    serde_json::json!({
        "action": "in_progress",
        "workflow_job": {"id": 1, "run_id": 2, "labels": ["self-hosted", "linux"], "runner_id": 7, "runner_name": "runner-i-1"},
        "repository": {"full_name": "octo/hello", "owner": {"login": "octo", "type": "Organization"}},
    })
    .to_string()
}

/// 1,500 refused deliveries of strangers, then one of ours that failed.
#[test]
fn a_full_list_of_refused_deliveries_does_not_hide_the_next() {
    let fake = Fake::new();
    idle_runner(&fake);
    fake.pass(MINUTE);
    for n in 0..1_500 {
        deliver(&fake, n, fake.now(), refused_payload("main", Some("GitHub Actions 5"), Some(5)));
    }
    fake.pass(MINUTE);
    deliver(&fake, 5_000, fake.now(), started_payload());
    let ended = minutes_until_ended(&fake);
    assert_eq!(
        (fake.state().runners.len(), ended),
        (1, None),
        "deregistered and ended, its start lies unread in GitHub's log"
    );
}

/// a refused payload that names 16 others before its own runner.
#[test]
fn a_refused_delivery_keeps_the_instance_whose_runner_it_names_whatever_else_it_names() {
    for (case, branch) in [
        ("names its runner only", "main".to_owned()),
        ("names sixteen more in its branch", (0..16).map(|n| format!("i-{n:02x}")).collect::<Vec<_>>().join("-")),
    ] {
        let fake = Fake::new();
        idle_runner(&fake);
        fake.pass(MINUTE);
        deliver(&fake, 1, fake.now(), refused_payload(&branch, Some("runner-i-1"), Some(7)));
        let ended = minutes_until_ended(&fake);
        assert_eq!((fake.state().runners.len(), ended), (1, None), "{case}");
    }
}

/// The deliveries cursor outgrows DynamoDB's item by what strangers write (fake/ledger.rs here refuses above 400 KiB,
/// as DynamoDB does).
#[test]
fn the_cursor_over_deliveries_stays_below_dynamodbs_item_limit() {
    for (case, names) in [("each names nobody", 0), ("each names sixteen", 16)] {
        let fake = Fake::new();
        idle_runner(&fake);
        fake.pass(MINUTE);
        let branch = (0..names).map(|n| format!("i-0123456789abcde{n:02x}")).collect::<Vec<_>>().join("-");
        for n in 0..1_500 {
            deliver(&fake, n, fake.now(), refused_payload(&branch, None, None));
        }
        let done = minutes_until_deregistered(&fake);
        let item = fake.state().items.get(&DeliveryCursor::key(DeliveryCursor::ID)).cloned();
        let size = item.map_or(0, |item| item.body.as_str().len());
        let reads = fake.calls_of("DeliveryLog::delivery_payload");
        assert!(
            done.is_some(),
            "{case}: an instance that none of them names is never removable; cursor stuck at {size} bytes, {reads} payloads read in two hours"
        );
    }
}

/// One payload that cannot be read keeps every owner's instances, and nothing stands in for it.
#[test]
fn one_payload_that_cannot_be_read_keeps_nobody_for_days() {
    let fake = Fake::new();
    idle_runner(&fake);
    deliver(&fake, 1, fake.now(), "gone".into());
    fake.always_fail("DeliveryLog::delivery_payload", Class::Absent);
    let mut gone = None;
    for minutes in (0..2 * 24 * 60).step_by(5) {
        fake.pass(5 * MINUTE);
        let _ = scale_down(&fake, &policy());
        let _ = sweep(&fake, &policy());
        if fake.state().runners.is_empty() {
            gone = Some(minutes);
            break;
        }
    }
    assert!(gone.is_some(), "two days: a stranger's delivery whose payload is gone; the jobs API never stands in");
}

/// 1,501 refused deliveries that name a runner `x-i-…` that is nobody's instance.
#[test]
fn refused_deliveries_of_no_instance_of_ours_stop_nobody() {
    let fake = Fake::new();
    idle_runner(&fake);
    fake.pass(MINUTE);
    for n in 0..1_501 {
        deliver(&fake, n, fake.now(), refused_payload("main", Some("x-i-0123456789abcdef0"), Some(5)));
    }
    let gone = removed_within(&fake, Duration::from_secs(60 * 3600), |_, _| {});
    assert!(gone.is_some(), "60 h: a stranger's 1,501 refused deliveries keep every owner's idle runner");
}

/// 201 payloads that cannot be read.
#[test]
fn two_hundred_and_one_unreadable_payloads_keep_nobody_for_days() {
    for count in [200, 201] {
        let fake = Fake::new();
        idle_runner(&fake);
        for n in 0..count {
            deliver(&fake, n, fake.now(), "gone".into());
        }
        fake.always_fail("DeliveryLog::delivery_payload", Class::Absent);
        let gone = removed_within(&fake, 2 * DAY, |_, _| {});
        assert!(gone.is_some(), "{count}: two days, the jobs API never stands in");
    }
}

/// one new unreadable payload every half an hour.
#[test]
fn a_trickle_of_unreadable_payloads_keeps_nobody_for_days() {
    let fake = Fake::new();
    idle_runner(&fake);
    fake.always_fail("DeliveryLog::delivery_payload", Class::Absent);
    let gone = removed_within(&fake, 2 * DAY, |fake, n| {
        if n % 6 == 1 {
            deliver(fake, n, fake.now(), "gone".into());
        }
    });
    assert!(gone.is_some(), "two days, the jobs API never stands in");
}

/// GitHub's log may write the payload down in a shape that we do not know, as a text of JSON for example. What it names
/// is kept, wherever it names it.
#[test]
fn a_payload_of_a_shape_that_we_do_not_know_keeps_the_instances_that_it_names() {
    let payload = started_payload();
    let parsed: serde_json::Value = serde_json::from_str(&payload).expect("JSON");
    for (case, payload) in [
        ("a text of JSON", serde_json::Value::String(payload).to_string()),
        ("a list", serde_json::json!([parsed]).to_string()),
        ("one level deeper", serde_json::json!({ "event": parsed }).to_string()),
        ("a name that is no text", serde_json::json!({"workflow_job": {"runner_name": ["runner-i-1"]}}).to_string()),
    ] {
        for (named, keeps) in [("runner-i-1", true), ("runner-i-2", false)] {
            let fake = Fake::new();
            idle_runner(&fake);
            deliver(&fake, 1, fake.now(), payload.replace("runner-i-1", named));
            assert_eq!(minutes_until_deregistered(&fake).is_none(), keeps, "{case}, {named}");
        }
    }
}
