//! GitHub's refusals: who waits, for how long, and who is told.

use super::*;

/// How long a refusal asks to wait, in seconds.
fn patience(refused: &PortError) -> f64 {
    let Class::Throttled { retry_after: Some(wait) } = refused.class() else { panic!("{refused}") };
    wait.as_secs_f64()
}

#[tokio::test]
async fn an_owner_that_github_refused_is_left_alone_until_its_time_and_no_other_is() {
    let wire = Wire::start(|seen| {
        Some(match seen.target.as_str() {
            "/orgs/octo/actions/runners/5" => Reply::new(429, "{}").header("retry-after", "40"),
            target if target.starts_with("/orgs/other") => Reply::new(200, runner(5)),
            target if target.starts_with("/repos/octo") => Reply::new(200, runner(5)),
            "/app/hook/deliveries?status=failure&per_page=100" => Reply::new(200, "[]"),
            _ => return None,
        })
    })
    .await;
    let adapters = wire.adapters();
    let refused = adapters.runner(&organization(), RunnerId(5)).await.expect_err("refused by GitHub");
    assert!((38.0..=40.0).contains(&patience(&refused)), "{refused}");
    let sent = wire.seen().iter().filter(|seen| seen.target != "/").count();

    let upper =
        Access { scope: Scope::Organization { owner: "OCTO".into() }, installation_id: Some(InstallationId(7)) };
    let read = adapters.runner(&upper, RunnerId(5)).await.expect_err("held back");
    let of_repository = adapters.runner(&repository(), RunnerId(5)).await.expect_err("the same owner");
    let made = adapters.generate_jit_config(&organization(), &request()).await.expect_err("held back");
    let deleted = adapters.deregister(warrant(RunnerId(5), organization()).await).await.expect_err("held back");
    for refused in [read, of_repository, made, deleted] {
        assert!((38.0..=40.0).contains(&patience(&refused)), "{refused}");
    }
    assert_eq!(wire.seen().iter().filter(|seen| seen.target != "/").count(), sent, "no request was sent to GitHub");

    let other =
        Access { scope: Scope::Organization { owner: "other".into() }, installation_id: Some(InstallationId(8)) };
    adapters.runner(&other, RunnerId(5)).await.expect("another owner");
    adapters.failed_deliveries_since(Timestamp(0), None).await.expect("the App's own call");

    adapters.github.pressure.age_by(std::time::Duration::from_secs(41)).await;
    adapters.runner(&repository(), RunnerId(5)).await.expect("its time has come");
}

#[tokio::test]
async fn the_app_itself_may_be_refused_and_then_no_token_is_asked_for() {
    let wire = Wire::start(|seen| {
        let refusal = || Reply::new(403, r#"{"message": "You have exceeded a secondary rate limit"}"#);
        seen.target.ends_with("/access_tokens").then(refusal)
    })
    .await;
    let adapters = wire.adapters();
    for installation in [7, 8] {
        let access = Access { installation_id: Some(InstallationId(installation)), ..organization() };
        let refused = adapters.runner(&access, RunnerId(5)).await.expect_err("no token");
        assert!(patience(&refused) > 55.0, "a minute, where GitHub does not say: {refused}");
    }
    adapters.failed_deliveries_since(Timestamp(0), None).await.expect_err("the App's own call as well");
    let sent: Vec<_> = wire.seen().into_iter().filter(|seen| seen.target != "/").map(|seen| seen.target).collect();
    assert_eq!(sent, ["/app/installations/7/access_tokens"]);
}

/// A record of the ledger as `DynamoDB` answers it.
fn back_pressure(until: Timestamp) -> Value {
    json!({
        "pk": { "S": "breaker#github#octo" }, "sk": { "S": "v" }, "version": { "N": "4" }, "schema": { "N": "1" },
        "body": { "S": json!({ "owner": "octo", "until": until }).to_string() },
    })
}

#[tokio::test]
async fn a_refusal_of_another_process_is_learnt_from_the_ledger_and_ours_is_told() {
    let soon = SystemClock.now().plus(std::time::Duration::from_secs(30));
    let long_ago = SystemClock.now().minus(std::time::Duration::from_secs(30));
    let later = SystemClock.now().plus(std::time::Duration::from_mins(30));
    for (case, stored, sent, expected, told) in [
        ("nothing is known", None, 1, 60.0, Some(json!({ ":version": null }))),
        ("it is over", Some(long_ago), 1, 60.0, Some(json!({ ":version": { "N": "4" } }))),
        ("another process was refused", Some(soon), 0, 30.0, None),
        ("another process was refused for longer", Some(later), 0, 1_800.0, None),
    ] {
        let wire = Wire::start(move |seen| {
            if seen.operation() == "BatchGetItem" {
                let items: Vec<Value> = stored.map(back_pressure).into_iter().collect();
                let mine = seen.body.contains("breaker#github#octo");
                let items = if mine { items } else { Vec::new() };
                return Some(Reply::new(200, json!({ "Responses": { "ledger_table": items } })));
            }
            seen.target.starts_with("/orgs").then(|| Reply::new(429, "{}"))
        })
        .await;
        let adapters = wire.adapters();
        let refused = adapters.runner(&organization(), RunnerId(5)).await.expect_err(case);
        assert!((patience(&refused) - expected).abs() < 5.0, "{case}: {refused}");
        assert_eq!(wire.calls().len(), sent, "{case}");
        let tokens = wire.seen().iter().filter(|seen| seen.target.ends_with("/access_tokens")).count();
        assert_eq!(tokens, sent, "{case}: nor is a token asked for in vain");
        let puts: Vec<Seen> = wire.seen().into_iter().filter(|seen| seen.operation() == "PutItem").collect();
        let Some(condition) = told else {
            assert_eq!(puts.len(), 0, "{case}");
            continue;
        };
        let [put] = puts.as_slice() else { panic!("{case}: {puts:?}") };
        let put = put.json();
        assert_eq!(put["Item"]["pk"]["S"], "breaker#github#octo", "{case}");
        let version = &put["ExpressionAttributeValues"][":version"];
        assert_eq!(*version, condition[":version"], "{case}: by compare-and-swap");
        let body: Value = serde_json::from_str(put["Item"]["body"]["S"].as_str().expect("a body")).expect("JSON");
        let until = Timestamp(body["until"].as_i64().expect("a time"));
        assert!(until.since(SystemClock.now()) > std::time::Duration::from_secs(50), "{case}: {body}");
    }
}

#[tokio::test]
async fn a_longer_wait_that_another_process_told_meanwhile_is_not_shortened() {
    let reads = AtomicUsize::new(0);
    let later = SystemClock.now().plus(std::time::Duration::from_mins(30));
    let wire = Wire::start(move |seen| {
        if seen.operation() == "BatchGetItem" {
            let mine = seen.body.contains("breaker#github#octo");
            let told = mine && reads.fetch_add(1, Ordering::SeqCst) > 0;
            let items: Vec<Value> = told.then(|| back_pressure(later)).into_iter().collect();
            return Some(Reply::new(200, json!({ "Responses": { "ledger_table": items } })));
        }
        seen.target.starts_with("/orgs").then(|| Reply::new(429, "{}"))
    })
    .await;
    wire.adapters().runner(&organization(), RunnerId(5)).await.expect_err("refused for a minute");
    let operations: Vec<String> = wire.seen().iter().map(|seen| seen.operation().to_owned()).collect();
    assert!(!operations.contains(&"PutItem".to_owned()), "{operations:?}");
}

#[tokio::test]
async fn the_ledger_is_asked_once_in_ten_seconds_and_a_warm_process_learns() {
    let refused = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flag = std::sync::Arc::clone(&refused);
    let wire = Wire::start(move |seen| {
        if seen.operation() == "BatchGetItem" {
            let until = SystemClock.now().plus(std::time::Duration::from_secs(30));
            let known = flag.load(Ordering::SeqCst) && seen.body.contains("breaker#github#octo");
            let items: Vec<Value> = known.then(|| back_pressure(until)).into_iter().collect();
            return Some(Reply::new(200, json!({ "Responses": { "ledger_table": items } })));
        }
        seen.target.starts_with("/orgs").then(|| Reply::new(200, runner(5)))
    })
    .await;
    let adapters = wire.adapters();
    let reads = || wire.seen().iter().filter(|seen| seen.body.contains("breaker#github#octo")).count();
    let (access, id) = (organization(), RunnerId(5));
    let (first, second) = tokio::join!(adapters.runner(&access, id), adapters.runner(&access, id));
    first.and(second).expect("two runners");
    refused.store(true, Ordering::SeqCst);
    adapters.runner(&access, id).await.expect("not known yet");
    assert_eq!(reads(), 1, "for a burst and for what follows it");
    adapters.github.pressure.forget_readings().await;
    let held_back = adapters.runner(&access, id).await.expect_err("learnt");
    assert!(matches!(held_back.class(), Class::Throttled { .. }), "{held_back}");
    assert_eq!((reads(), wire.calls().len()), (2, 3));
}

#[tokio::test]
async fn a_ledger_that_fails_hides_no_answer_and_memory_goes_on() {
    for (case, failure) in [
        ("a fault", Reply::json_error(500, "InternalServerError")),
        ("throttled", Reply::json_error(400, "ThrottlingException")),
        ("somebody else is always faster", Reply::json_error(400, "ConditionalCheckFailedException")),
        ("a record of another shape", {
            let item = json!({ "pk": { "S": "breaker#github#octo" }, "schema": { "N": "9" } });
            Reply::new(200, json!({ "Responses": { "ledger_table": [item] } }))
        }),
    ] {
        let wire = Wire::start(move |seen| match seen.operation() {
            "BatchGetItem" | "PutItem" => Some(failure.clone()),
            _ if seen.target == "/orgs/octo/actions/runners/5" => Some(Reply::new(200, runner(5))),
            _ if seen.target.starts_with("/orgs") => Some(Reply::new(403, "{}").header("retry-after", "20")),
            _ => None,
        })
        .await;
        let adapters = wire.adapters();
        adapters.runner(&organization(), RunnerId(5)).await.expect(case);
        for sent in [2, 2] {
            let refused = adapters.runners(&organization()).await.expect_err(case);
            assert!((15.0..=20.0).contains(&patience(&refused)), "{case}: {refused}");
            assert_eq!(wire.calls().len(), sent, "{case}: once");
        }
    }
}

#[tokio::test]
async fn the_answer_that_takes_the_last_of_the_budget_is_taken_and_the_next_call_waits() {
    let reset = SystemClock.now().0 / 1_000 + 90;
    for (case, resource, held_back) in
        [("everybody's", "core", true), ("of registrations", "actions_runner_registration", false)]
    {
        let wire = Wire::start(move |seen| {
            let last = || {
                Reply::new(200, runner(5))
                    .header("x-ratelimit-remaining", "0")
                    .header("x-ratelimit-reset", reset.to_string())
                    .header("x-ratelimit-resource", resource)
            };
            seen.target.starts_with("/orgs").then(last)
        })
        .await;
        let adapters = wire.adapters();
        adapters.runner(&organization(), RunnerId(5)).await.expect("a runner");
        let next = adapters.runner(&organization(), RunnerId(5)).await;
        assert_eq!(next.is_err(), held_back, "{case}");
        if let Err(refused) = next {
            assert!((80.0..=91.0).contains(&patience(&refused)), "{case}: {refused}");
        }
        assert_eq!(wire.calls().len(), if held_back { 1 } else { 2 }, "{case}");
        let told = wire.seen().iter().filter(|seen| seen.operation() == "PutItem").count();
        assert_eq!(told, usize::from(held_back), "{case}: other processes are told");
    }
}
