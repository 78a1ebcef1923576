//! Points of a minute that several processes share.

use super::*;

/// A ledger of one table in memory, as far as GitHub's calls need it: read by key, put on condition of the version.
fn remembers(table: &Mutex<BTreeMap<String, Value>>, seen: &Seen) -> Option<Reply> {
    let request = seen.json();
    match seen.operation() {
        "BatchGetItem" => {
            let keys = request["RequestItems"]["ledger_table"]["Keys"].as_array()?;
            let table = table.lock().expect("no panic");
            let items: Vec<&Value> = keys.iter().filter_map(|key| table.get(key["pk"]["S"].as_str()?)).collect();
            Some(Reply::new(200, json!({ "Responses": { "ledger_table": items }, "UnprocessedKeys": {} })))
        }
        "PutItem" => {
            let key = request["Item"]["pk"]["S"].as_str()?.to_owned();
            let expected = &request["ExpressionAttributeValues"][":version"];
            let mut table = table.lock().expect("no panic");
            let held = table.get(&key).map_or(Value::Null, |item| item["version"].clone());
            if held != *expected {
                return Some(Reply::json_error(400, "ConditionalCheckFailedException"));
            }
            table.insert(key, request["Item"].clone());
            Some(Reply::new(200, "{}"))
        }
        _ => None,
    }
}

fn busy_or_idle(seen: &Seen) -> Option<Reply> {
    let reply = || if seen.method == "GET" { Reply::new(200, runner(5)) } else { Reply::new(422, "{}") };
    seen.target.starts_with("/orgs").then(reply)
}

fn takes(wire: &Wire) -> usize {
    wire.seen().iter().filter(|seen| seen.operation() == "PutItem" && seen.body.contains("pace#octo")).count()
}

#[tokio::test]
async fn processes_take_their_points_from_one_bucket_and_reads_do_not_wait() {
    let table = Mutex::new(BTreeMap::new());
    let wire = Wire::start(move |seen| remembers(&table, seen).or_else(|| busy_or_idle(seen))).await;
    let (one, another) = (wire.adapters(), wire.adapters());
    let access = organization();
    // Sixty points at once: ten changes, of two processes, five for one write to the ledger.
    for _ in 0..5 {
        for process in [&one, &another] {
            let moment = std::time::Duration::from_millis(800);
            tokio::time::timeout(moment, delete(process)).await.expect("its turn is now").expect("an answer");
        }
    }
    assert_eq!(takes(&wire), 2);
    for process in [&one, &another] {
        let moment = std::time::Duration::from_millis(200);
        assert!(tokio::time::timeout(moment, delete(process)).await.is_err(), "it waits for its turn");
        let read = tokio::time::timeout(std::time::Duration::from_secs(2), process.runner(&access, RunnerId(5))).await;
        read.expect("a read waits for nothing").expect("a runner");
    }
    let deleted = wire.calls().iter().filter(|call| call.starts_with("DELETE")).count();
    assert_eq!(deleted, 10);
}

#[tokio::test]
async fn reads_are_noted_so_that_changes_make_room() {
    let table = Mutex::new(BTreeMap::new());
    let wire = Wire::start(move |seen| remembers(&table, seen).or_else(|| busy_or_idle(seen))).await;
    let (reader, another) = (wire.adapters(), wire.adapters());
    let access = organization();
    for _ in 0..150 {
        reader.runner(&access, RunnerId(5)).await.expect("a runner");
    }
    assert_eq!(takes(&wire), 6, "once in 25 reads");
    let moment = std::time::Duration::from_millis(200);
    assert!(tokio::time::timeout(moment, delete(&another)).await.is_err(), "a change makes room for them");
}

#[tokio::test]
async fn without_the_ledger_a_process_goes_by_its_own_count() {
    for (case, failure) in [
        ("it fails", Reply::json_error(400, "ResourceNotFoundException")),
        ("another version's record", {
            let item = json!({ "pk": { "S": "breaker#pace#octo" }, "sk": { "S": "v" }, "version": { "N": "1" },
                "schema": { "N": "9" }, "body": { "S": "{}" } });
            Reply::new(200, json!({ "Responses": { "ledger_table": [item] } }))
        }),
    ] {
        let wire = Wire::start(move |seen| match seen.operation() {
            "BatchGetItem" => Some(failure.clone()),
            _ => busy_or_idle(seen),
        })
        .await;
        let adapters = wire.adapters();
        for _ in 0..5 {
            assert_eq!(delete(&adapters).await.expect(case), Deregistration::Busy);
        }
        let moment = std::time::Duration::from_millis(200);
        assert!(tokio::time::timeout(moment, delete(&adapters)).await.is_err(), "{case}: a quarter of the pace");
    }
}

#[tokio::test]
async fn after_a_refusal_the_pace_is_halved_for_all() {
    let table = std::sync::Arc::new(Mutex::new(BTreeMap::new()));
    let (stored, refusals) = (std::sync::Arc::clone(&table), AtomicUsize::new(0));
    let wire = Wire::start(move |seen| {
        remembers(&table, seen).or_else(|| {
            let first = seen.method == "DELETE" && refusals.fetch_add(1, Ordering::SeqCst) == 0;
            if first { Some(Reply::new(429, "").header("retry-after", "1")) } else { busy_or_idle(seen) }
        })
    })
    .await;
    let adapters = wire.adapters();
    delete(&adapters).await.expect_err("refused");
    adapters.github.pressure.age_by(std::time::Duration::from_secs(2)).await;
    delete(&adapters).await.expect("an answer");
    let pace = stored.lock().expect("no panic").get("breaker#pace#octo").cloned().expect("a record");
    let pace: Value = serde_json::from_str(pace["body"]["S"].as_str().expect("a body")).expect("JSON");
    let until = Timestamp(pace["slow_until"].as_i64().expect("a time"));
    assert!(until.since(SystemClock.now()) > std::time::Duration::from_mins(14), "{pace}");
}
