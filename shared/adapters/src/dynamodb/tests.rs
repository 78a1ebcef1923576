//! `DynamoDB` on the wire.

use std::sync::atomic::{AtomicUsize, Ordering};

use runner_scaler_core::error::Classify;
use runner_scaler_core::ids::{FleetName, InstanceId};
use runner_scaler_core::ports::{Expect, Item, Key, Kind, Ledger, OpenPartition, VitalSigns, Worker, Write};
use runner_scaler_core::time::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::wire::{Reply, Seen, Wire};

fn key(id: &str) -> Key {
    Key { kind: Kind::Job, id: id.to_owned() }
}

fn write(id: &str, expect: Expect) -> Write {
    let item = Item {
        key: key(id),
        version: 8,
        schema: 1,
        body: json!({ "writer": "us" }).into(),
        open: None,
        expires_at: None,
    };
    Write { item, expect }
}

/// A stored item as `DynamoDB` writes it.
fn stored(id: &str, version: u64, writer: &str) -> Value {
    json!({
        "pk": { "S": format!("job#{id}") }, "sk": { "S": "v" }, "version": { "N": version.to_string() },
        "schema": { "N": "1" }, "body": { "S": json!({ "writer": writer }).to_string() },
    })
}

fn batch(table: &str, items: &[Value], unprocessed: &Value) -> Reply {
    Reply::new(200, json!({ "Responses": { table: items }, "UnprocessedKeys": unprocessed }))
}

fn keys_of(seen: &Seen, table: &str) -> Vec<Value> {
    seen.json()["RequestItems"][table]["Keys"].as_array().cloned().unwrap_or_default()
}

#[tokio::test]
async fn any_number_of_keys_is_read_consistently_a_hundred_at_a_time() {
    let wire = Wire::start(|seen| {
        let keys = keys_of(seen, "ledger_table");
        assert_eq!(seen.json()["RequestItems"]["ledger_table"]["ConsistentRead"], json!(true));
        assert!(keys.len() <= 100);
        let items: Vec<Value> = keys
            .iter()
            .filter_map(|key| key["pk"]["S"].as_str()?.strip_prefix("job#"))
            .filter(|id| *id != "7")
            .map(|id| stored(id, 1, "x"))
            .collect();
        Some(batch("ledger_table", &items, &json!({})))
    })
    .await;
    let mut keys: Vec<Key> = (0..150).map(|id| key(&id.to_string())).collect();
    keys.push(key("3"));
    let items = Ledger::read(&wire.adapters(), &keys).await.expect("two batches");
    assert_eq!(items.len(), 149, "one does not exist, one was asked for twice");
    assert_eq!(wire.seen().len(), 2);
    assert_eq!(Ledger::read(&wire.adapters(), &[]).await.expect("nothing"), []);
    assert_eq!(wire.seen().len(), 2, "no request was sent");
}

#[tokio::test]
async fn keys_that_stay_unprocessed_are_asked_for_again_and_then_an_error() {
    let rest = json!({ "ledger_table": { "Keys": [{ "pk": { "S": "job#2" }, "sk": { "S": "v" } }] } });
    let again = rest.clone();
    let wire = Wire::start(move |seen| {
        Some(match keys_of(seen, "ledger_table").len() {
            2 => batch("ledger_table", &[stored("1", 1, "x")], &again),
            _ => batch("ledger_table", &[stored("2", 1, "x")], &json!({})),
        })
    })
    .await;
    let items = Ledger::read(&wire.adapters(), &[key("1"), key("2")]).await.expect("both");
    assert_eq!(items.len(), 2);

    let wire = Wire::start(move |_| Some(batch("ledger_table", &[], &rest))).await;
    let refused = Ledger::read(&wire.adapters(), &[key("2")]).await.expect_err("never processed");
    assert_eq!(refused.class(), Class::Throttled { retry_after: None });
}

#[tokio::test]
async fn a_failed_read_is_an_error_and_never_an_absence() {
    for (case, reply, expected) in [
        ("no such table", Reply::json_error(400, "ResourceNotFoundException"), Class::Misconfigured),
        (
            "throttled",
            Reply::json_error(400, "ProvisionedThroughputExceededException"),
            Class::Throttled { retry_after: None },
        ),
        ("server fault", Reply::json_error(500, "InternalServerError"), Class::Transient),
        ("late", Reply::new(200, "{}").late(), Class::Transient),
        ("an answer that says nothing", Reply::new(200, "{}"), Class::Transient),
        ("nor of our keys", Reply::new(200, json!({ "ConsumedCapacity": [] })), Class::Transient),
    ] {
        let wire = Wire::start(move |_| Some(reply.clone())).await;
        let adapters = wire.adapters();
        let ledger = Ledger::read(&adapters, &[key("1")]).await.expect_err(case);
        let signs = VitalSigns::read(&adapters, &[InstanceId::new("i-1")]).await.expect_err(case);
        assert_eq!((ledger.class(), signs.class()), (expected, expected), "{case}");
    }
}

#[tokio::test]
async fn one_write_is_conditional_on_what_was_read() {
    let wire = Wire::start(|_| Some(Reply::new(200, "{}"))).await;
    let adapters = wire.adapters();
    adapters.write(&[]).await.expect("nothing to do");
    assert_eq!(wire.seen().len(), 0, "no request was sent");
    adapters.write(&[write("1", Expect::Absent)]).await.expect("put");
    adapters.write(&[write("1", Expect::Version(7))]).await.expect("put");
    adapters.write(&[write("1", Expect::Version(7)), write("2", Expect::Absent)]).await.expect("put");
    let seen = wire.seen();
    let operations: Vec<&str> = seen.iter().map(Seen::operation).collect();
    assert_eq!(operations, ["PutItem", "PutItem", "TransactWriteItems"]);
    assert_eq!(seen[0].json()["ConditionExpression"], json!("attribute_not_exists(pk)"));
    assert_eq!(seen[1].json()["ConditionExpression"], json!("version = :version"));
    assert_eq!(seen[1].json()["ExpressionAttributeValues"], json!({ ":version": { "N": "7" } }));
    let puts = seen[2].json()["TransactItems"].clone();
    assert_eq!(puts[0]["Put"]["ConditionExpression"], json!("version = :version"));
    assert_eq!(puts[1]["Put"]["ConditionExpression"], json!("attribute_not_exists(pk)"));
}

#[tokio::test]
async fn a_put_that_conflicts_with_what_an_earlier_try_wrote_is_a_success() {
    let refusal = |item: Option<Value>| {
        let mut body = json!({ "__type": "com.amazonaws#ConditionalCheckFailedException", "message": "no" });
        if let Some(item) = item {
            body["Item"] = item;
        }
        Reply::new(400, body)
    };
    let fault = || Reply::json_error(500, "InternalServerError");
    for (case, writes, expected) in [
        ("ours: the answer of the first try was lost", vec![fault(), refusal(Some(stored("1", 8, "us")))], None),
        ("theirs", vec![fault(), refusal(Some(stored("1", 8, "them")))], Some(Class::Conflict)),
        ("ours, and another version of it", vec![fault(), refusal(Some(stored("1", 9, "us")))], Some(Class::Conflict)),
        (
            "the very same, but no try of ours went before",
            vec![refusal(Some(stored("1", 8, "us")))],
            Some(Class::Conflict),
        ),
    ] {
        let (puts, reads) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let wire = Wire::start(move |seen| {
            Some(if seen.operation() == "PutItem" {
                writes.get(puts.fetch_add(1, Ordering::SeqCst)).cloned().expect("not a try too many")
            } else {
                // The first try is still on its way when the table is read.
                assert_eq!(reads.fetch_add(1, Ordering::SeqCst), 0, "the refusal says what is held: no second reading");
                batch("ledger_table", &[stored("1", 7, "us")], &json!({}))
            })
        })
        .await;
        let result = wire.adapters().write(&[write("1", Expect::Version(7))]).await;
        assert_eq!(result.as_ref().err().map(Classify::class), expected, "{case}: {result:?}");
        let put = wire.seen().into_iter().next().expect("a request");
        assert_eq!(put.json()["ReturnValuesOnConditionCheckFailure"], json!("ALL_OLD"), "{case}");
    }
}

#[tokio::test]
async fn every_try_of_a_transaction_bears_the_same_token_and_no_other_one_does() {
    let count = AtomicUsize::new(0);
    let wire = Wire::start(move |seen| {
        let nth = || count.fetch_add(1, Ordering::SeqCst);
        Some(match seen.operation() {
            "TransactWriteItems" if nth() == 0 => Reply::json_error(500, "InternalServerError"),
            "TransactWriteItems" => Reply::new(200, "{}"),
            _ => batch("ledger_table", &[], &json!({})),
        })
    })
    .await;
    let adapters = wire.adapters();
    let writes = [write("1", Expect::Version(7)), write("2", Expect::Absent)];
    adapters.write(&writes).await.expect("the second try");
    adapters.write(&writes).await.expect("at once");
    let token = |seen: &Seen| seen.json()["ClientRequestToken"].as_str().unwrap_or_default().to_owned();
    let seen = wire.seen();
    let tokens: Vec<String> = seen.iter().filter(|seen| seen.operation() == "TransactWriteItems").map(token).collect();
    let [first, again, other] = tokens.as_slice() else { panic!("three tries: {tokens:?}") };
    assert_eq!(first, again);
    assert_ne!(first, other);
    assert!((1..=36).contains(&first.len()), "{first:?}");
}

/// A whole table is never read: it costs what the table holds, and a limit would cut it anywhere.
#[test]
fn no_table_is_ever_scanned() {
    let mut folders = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = std::fs::read_to_string(&path).expect("text");
                files += 1;
                for word in [concat!(".sc", "an()"), concat!("operation::", "scan"), concat!("execute_", "statement")] {
                    assert!(!text.contains(word), "{word} in {}", path.display());
                }
            }
        }
    }
    assert!(files > 20, "{files} files were looked through");
}

/// What a test does with the n-th write, and what the table holds when it is read back.
struct Script {
    case: &'static str,
    writes: Vec<Reply>,
    held: Option<Value>,
    expected: Option<Class>,
}

#[tokio::test]
async fn a_lost_answer_is_settled_by_reading_back() {
    let ours = Some(stored("1", 8, "us"));
    let theirs = Some(stored("1", 8, "them"));
    let before = Some(stored("1", 7, "us"));
    let late = || Reply::new(200, "{}").late();
    let fault = || Reply::json_error(500, "InternalServerError");
    let conflict = || Reply::json_error(400, "ConditionalCheckFailedException");
    let throttled = || Reply::json_error(400, "ThrottlingException");
    let done = || Reply::new(200, "{}");
    for Script { case, writes, held, expected } in [
        Script {
            case: "somebody else wrote",
            writes: vec![conflict()],
            held: theirs.clone(),
            expected: Some(Class::Conflict),
        },
        Script {
            case: "somebody else wrote the very same: no try of ours can have done it",
            writes: vec![conflict()],
            held: ours.clone(),
            expected: Some(Class::Conflict),
        },
        Script {
            case: "it took effect, the answer was lost",
            writes: vec![late()],
            held: ours.clone(),
            expected: None,
        },
        Script { case: "a fault after it took effect", writes: vec![fault()], held: ours, expected: None },
        Script {
            case: "no effect, the second try passes",
            writes: vec![fault(), done()],
            held: before.clone(),
            expected: None,
        },
        Script {
            case: "throttled, then passed",
            writes: vec![throttled(), done()],
            held: before.clone(),
            expected: None,
        },
        Script {
            case: "throttled for good",
            writes: vec![throttled(), throttled(), throttled()],
            held: before.clone(),
            expected: Some(Class::Throttled { retry_after: None }),
        },
        Script {
            case: "no answer three times",
            writes: vec![fault(), fault(), fault()],
            held: before.clone(),
            expected: Some(Class::OutcomeUnknown),
        },
        Script {
            case: "no answer, then throttled for good: the first may yet take effect",
            writes: vec![fault(), throttled(), throttled()],
            held: before,
            expected: Some(Class::OutcomeUnknown),
        },
        Script {
            case: "no answer, then somebody else's",
            writes: vec![fault(), conflict()],
            held: theirs,
            expected: Some(Class::Conflict),
        },
        Script {
            case: "invalid",
            writes: vec![Reply::json_error(400, "ValidationException")],
            held: None,
            expected: Some(Class::Rejected),
        },
    ] {
        let (count, tries) = (AtomicUsize::new(0), writes.len());
        let wire = Wire::start(move |seen| {
            Some(if seen.operation() == "PutItem" {
                let nth = count.fetch_add(1, Ordering::SeqCst);
                writes.get(nth).cloned().unwrap_or_else(|| Reply::new(418, "a try too many"))
            } else {
                batch("ledger_table", held.as_slice(), &json!({}))
            })
        })
        .await;
        let result = wire.adapters().write(&[write("1", Expect::Version(7))]).await;
        assert_eq!(result.as_ref().err().map(Classify::class), expected, "{case}: {result:?}");
        let puts = wire.seen().iter().filter(|seen| seen.operation() == "PutItem").count();
        assert_eq!(puts, tries, "{case}");
    }
}

#[tokio::test]
async fn a_write_whose_fate_cannot_be_read_back_is_unknown() {
    let wire = Wire::start(|_| Some(Reply::json_error(500, "InternalServerError"))).await;
    let refused = wire.adapters().write(&[write("1", Expect::Absent)]).await.expect_err("nothing answers");
    assert_eq!(refused.class(), Class::OutcomeUnknown);
}

#[tokio::test]
async fn a_cancelled_transaction_is_a_conflict() {
    let wire = Wire::start(|_| {
        Some(Reply::new(
            400,
            json!({
                "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException", "Message": "cancelled",
                "CancellationReasons": [{ "Code": "None" }, { "Code": "ConditionalCheckFailed", "Message": "no" }],
            }),
        ))
    })
    .await;
    let writes = [write("1", Expect::Version(7)), write("2", Expect::Absent)];
    let refused = wire.adapters().write(&writes).await.expect_err("cancelled");
    assert_eq!(refused.class(), Class::Conflict);
    assert_eq!(wire.seen().len(), 1, "a conflict is not tried again");
}

#[tokio::test]
async fn the_index_is_asked_page_by_page_up_to_the_limit() {
    let wire = Wire::start(|seen| {
        let request = seen.json();
        let next = if request["ExclusiveStartKey"].is_null() { json!({ "pk": { "S": "job#2" } }) } else { Value::Null };
        let items = [stored("1", 1, "x"), stored("2", 1, "x")];
        Some(Reply::new(200, json!({ "Items": items, "LastEvaluatedKey": next })))
    })
    .await;
    let adapters = wire.adapters();
    let partition = OpenPartition::Jobs(FleetName::new("linux"));
    let items = adapters.open(&partition, Timestamp(999), 3).await.expect("two pages");
    assert_eq!(items.len(), 3);
    let seen = wire.seen();
    let first = seen[0].json();
    assert_eq!((&first["IndexName"], &first["Limit"]), (&json!("open"), &json!(3)));
    assert_eq!(
        first["ExpressionAttributeValues"],
        json!({ ":partition": { "S": "job#linux" }, ":end": { "S": "00000000000000001000" } })
    );
    assert_eq!(seen[1].json()["Limit"], json!(1));
}

#[tokio::test]
async fn vital_signs_are_read_by_instance() {
    let wire = Wire::start(|seen| {
        let keys = keys_of(seen, "vital_signs_table");
        assert_eq!(keys.len(), 2);
        assert!(keys.iter().all(|key| key.to_string().contains("AROAEXAMPLE:i-")), "{keys:?}");
        let sign = json!({
            "instance_id": { "S": "AROAEXAMPLE:i-1" }, "beat_at": { "N": "5000" }, "worker": { "S": "running" },
            "drain_seen_at": { "S": "2026-11-20T10:00:00Z" },
        });
        Some(batch("vital_signs_table", &[sign], &json!({})))
    })
    .await;
    let ids = [InstanceId::new("i-1"), InstanceId::new("i-2"), InstanceId::new("i-1")];
    let signs = VitalSigns::read(&wire.adapters(), &ids).await.expect("one of two");
    let [(id, sign)] = signs.as_slice() else { panic!("one sign: {signs:?}") };
    assert_eq!((id.as_str(), sign.beat_at, sign.worker), ("i-1", Timestamp(5_000), Worker::Running));
}
