//! SSM on the wire.

use serde_json::json;

use super::*;
use crate::wire::{Reply, Wire};

fn config(length: usize) -> JitConfig {
    JitConfig::new("s".repeat(length))
}

#[tokio::test]
async fn a_configuration_is_put_once_as_a_secret_tagged_with_its_instance() {
    let wire = Wire::start(|_| Some(Reply::new(200, json!({ "Version": 1 })))).await;
    let adapters = wire.adapters();
    let id = InstanceId::new("i-1");
    adapters.put_jit_config(&id, &config(4_096)).await.expect("put");
    adapters.learn_account("arn:aws:lambda:eu-west-1:123456789012:function:scale-up");
    adapters.put_jit_config(&id, &config(4_097)).await.expect("put");

    let seen = wire.seen();
    let [small, large] = [&seen[0], &seen[1]].map(super::super::wire::Seen::json);
    for (name, expected) in [
        ("Name", json!("/jit/i-1")),
        ("Type", json!("SecureString")),
        ("Overwrite", json!(false)),
        ("Tier", json!("Standard")),
    ] {
        assert_eq!(small[name], expected, "{name}");
    }
    assert_eq!(large["Tier"], json!("Advanced"), "more than 4 KiB");
    let tag = |key: &str, value: &str| json!({ "Key": key, "Value": value });
    let known = [tag("ghr:environment", "prod"), tag("ghr:instance-id", "i-1")];
    assert_eq!(small["Tags"], json!(known), "the account is not known yet");
    let arn = tag("ghr:instance", "arn:aws:ec2:eu-west-1:123456789012:instance/i-1");
    assert_eq!(large["Tags"].as_array().and_then(|tags| tags.last()), Some(&arn));
}

#[tokio::test]
async fn each_answer_to_a_put_has_its_meaning_and_none_tells_the_secret() {
    let throttled = Class::Throttled { retry_after: None };
    for (case, reply, expected) in [
        ("handed over before", Reply::json_error(400, "ParameterAlreadyExists"), None),
        ("throttled", Reply::json_error(400, "ThrottlingException"), Some(throttled)),
        ("too many at once", Reply::json_error(400, "TooManyUpdates"), Some(throttled)),
        ("no key", Reply::json_error(400, "InvalidKeyId"), Some(Class::Misconfigured)),
        ("invalid", Reply::json_error(400, "ValidationException"), Some(Class::Rejected)),
        ("server fault", Reply::json_error(500, "InternalServerError"), Some(Class::OutcomeUnknown)),
        ("late", Reply::new(200, "{}").late(), Some(Class::OutcomeUnknown)),
    ] {
        let wire = Wire::start(move |_| Some(reply.clone())).await;
        let result = wire.adapters().put_jit_config(&InstanceId::new("i-1"), &config(64)).await;
        assert_eq!(result.as_ref().err().map(Classify::class), expected, "{case}");
        assert!(!format!("{result:?}").contains("ssss"), "{case}: {result:?}");
    }
}

#[tokio::test]
async fn a_put_that_is_refused_is_sent_once_and_the_next_ones_are_spaced() {
    let wire = Wire::start(|seen| {
        Some(if seen.json()["Name"] == "/jit/i-1" {
            Reply::json_error(400, "ThrottlingException")
        } else {
            Reply::new(200, json!({ "Version": 1 }))
        })
    })
    .await;
    let adapters = wire.adapters();
    let refused = adapters.put_jit_config(&InstanceId::new("i-1"), &config(64)).await.expect_err("throttled");
    assert_eq!(refused.class(), Class::Throttled { retry_after: None });
    assert_eq!(wire.seen().len(), 1, "the caller repeats it, nobody else");
    assert!(adapters.puts().turn(SystemClock.now()).is_zero());
    assert!(!adapters.puts().turn(SystemClock.now()).is_zero(), "one at a time now");
    adapters.put_jit_config(&InstanceId::new("i-2"), &config(64)).await.expect("its turn came");
}

#[tokio::test]
async fn a_deletion_of_what_is_not_there_is_a_success() {
    for (case, reply, expected) in [
        ("deleted", Reply::new(200, "{}"), None),
        ("read and deleted by its instance", Reply::json_error(400, "ParameterNotFound"), None),
        ("denied", Reply::json_error(400, "AccessDeniedException"), Some(Class::Misconfigured)),
        ("late", Reply::new(200, "{}").late(), Some(Class::OutcomeUnknown)),
    ] {
        let wire = Wire::start(move |_| Some(reply.clone())).await;
        let result = wire.adapters().delete_jit_config(&InstanceId::new("i-1")).await;
        assert_eq!(result.as_ref().err().map(Classify::class), expected, "{case}");
    }
}

#[tokio::test]
async fn only_the_word_enabled_lets_removal_go_on() {
    let value = |text: &str| Reply::new(200, json!({ "Parameter": { "Value": text } }));
    for (case, reply, expected) in [
        ("enabled", value("enabled"), Ok(KillSwitch::RemovalEnabled)),
        ("with a line end", value("enabled\n"), Ok(KillSwitch::RemovalEnabled)),
        ("disabled", value("disabled"), Ok(KillSwitch::RemovalDisabled)),
        ("another case", value("Enabled"), Ok(KillSwitch::RemovalDisabled)),
        ("empty", value(""), Ok(KillSwitch::RemovalDisabled)),
        ("missing", Reply::json_error(400, "ParameterNotFound"), Err(Class::Absent)),
        ("denied", Reply::json_error(400, "AccessDeniedException"), Err(Class::Misconfigured)),
        ("no value", Reply::new(200, "{}"), Err(Class::Transient)),
        ("late", value("enabled").late(), Err(Class::Transient)),
    ] {
        let wire = Wire::start(move |_| Some(reply.clone())).await;
        let result = wire.adapters().kill_switch().await.map_err(|error| error.class());
        assert_eq!(result, expected, "{case}");
    }
}

#[tokio::test]
async fn the_configurations_in_store_are_listed_by_instance_to_the_last_page_and_without_a_value() {
    let parameter = |name: &str, at: f64| json!({ "Name": name, "Type": "SecureString", "LastModifiedDate": at });
    let wire = Wire::start(move |seen| {
        assert_eq!(seen.operation(), "DescribeParameters");
        Some(match seen.json()["NextToken"].as_str() {
            None => {
                let page = [parameter("/jit/deep/i-9", 1.0), parameter("/jit/i-1", 1_795_235_128.312_912)];
                Reply::new(200, json!({ "Parameters": page, "NextToken": "two" }))
            }
            // A page may be empty although another follows.
            Some("two") => Reply::new(200, json!({ "Parameters": [], "NextToken": "three" })),
            Some(_) => {
                let page = [
                    parameter("/jit/i-2", 1_795_235_129.0),
                    parameter("/jit/readme", 1.0),
                    parameter("/jitter/i-3", 1.0),
                ];
                Reply::new(200, json!({ "Parameters": page }))
            }
        })
    })
    .await;
    let listed = wire.adapters().jit_configs().await.expect("three pages");
    let expected = [("i-1", 1_795_235_128_312), ("i-2", 1_795_235_129_000)];
    assert_eq!(listed, expected.map(|(id, at)| (InstanceId::new(id), Timestamp(at))));
    let first = wire.seen().first().expect("a request").json();
    assert_eq!(first["ParameterFilters"], json!([{ "Key": "Path", "Option": "OneLevel", "Values": ["/jit"] }]));
    assert_eq!(first["MaxResults"], json!(50));
}

#[tokio::test]
async fn configurations_listed_in_part_are_not_listed() {
    let first = json!({ "Parameters": [{ "Name": "/jit/i-1", "LastModifiedDate": 1.0 }], "NextToken": "two" });
    for (case, second, expected) in [
        ("throttled", Reply::json_error(400, "ThrottlingException"), Class::Throttled { retry_after: None }),
        ("denied", Reply::json_error(400, "AccessDeniedException"), Class::Misconfigured),
        ("server fault", Reply::json_error(500, "InternalServerError"), Class::Transient),
        ("late", Reply::new(200, "{}").late(), Class::Transient),
        ("no time", Reply::new(200, json!({ "Parameters": [{ "Name": "/jit/i-2" }] })), Class::Transient),
    ] {
        let first = Reply::new(200, &first);
        let wire = Wire::start(move |seen| {
            Some(if seen.json()["NextToken"].is_null() { first.clone() } else { second.clone() })
        })
        .await;
        let refused = wire.adapters().jit_configs().await.expect_err(case);
        assert_eq!(refused.class(), expected, "{case}: {refused}");
    }
}
