//! Installation tokens, the App's key, and clocks that differ from GitHub's.

use super::*;

#[tokio::test]
async fn a_404_of_the_installation_is_never_one_of_the_runner() {
    let wire = Wire::start(|seen| {
        let installation = seen.target.ends_with("/access_tokens") || seen.target.ends_with("/installation");
        installation.then(|| Reply::new(404, r#"{"message": "Not Found"}"#))
    })
    .await;
    let adapters = wire.adapters();
    let read = adapters.runner(&organization(), RunnerId(5)).await.expect_err("the App is not installed");
    let deleted = adapters.deregister(warrant(RunnerId(5), organization()).await).await.expect_err("neither");
    assert_eq!((read.class(), deleted.class()), (Class::Denied, Class::Denied));
    assert!(wire.calls().iter().all(|call| call.ends_with("/installation")), "{:?}", wire.calls());
}

#[tokio::test]
async fn a_stale_installation_id_is_looked_up_once_and_remembered() {
    let wire = Wire::start(|seen| {
        Some(match seen.target.as_str() {
            "/app/installations/7/access_tokens" => Reply::new(404, "{}"),
            "/orgs/octo/installation" => Reply::new(200, json!({ "id": 8 })),
            target if target.starts_with("/orgs/octo/actions") => Reply::new(200, runner(5)),
            _ => return None,
        })
    })
    .await;
    let adapters = wire.adapters();
    for _ in 0..2 {
        adapters.runner(&organization(), RunnerId(5)).await.expect("a runner");
    }
    let get = "GET /orgs/octo/actions/runners/5";
    assert_eq!(wire.calls(), ["GET /orgs/octo/installation", get, get]);
    let seen = wire.seen();
    assert_eq!(
        seen.last().expect("requests").header("authorization"),
        "Bearer ghs_of/app/installations/8/access_tokens"
    );
}

#[tokio::test]
async fn without_an_id_the_owner_is_asked_for_be_it_organisation_user_or_repository() {
    let wire = Wire::start(|seen| {
        Some(match seen.target.as_str() {
            "/users/octo/installation" | "/repos/octo/hello/installation" => Reply::new(200, json!({ "id": 9 })),
            "/orgs/octo/installation" => Reply::new(404, "{}"),
            target if target.contains("/actions/runners/5") => Reply::new(200, runner(5)),
            _ => return None,
        })
    })
    .await;
    for access in [organization(), repository()] {
        let access = Access { installation_id: None, ..access };
        wire.adapters().runner(&access, RunnerId(5)).await.expect("a runner");
    }
}

#[tokio::test]
async fn a_token_that_github_refuses_is_replaced_once() {
    let tokens = AtomicUsize::new(0);
    let wire = Wire::start(move |seen| {
        if seen.target.ends_with("/access_tokens") {
            let nth = tokens.fetch_add(1, Ordering::SeqCst);
            return Some(Reply::new(201, json!({ "token": format!("t{nth}"), "expires_at": "2999-01-01T00:00:00Z" })));
        }
        let fresh = seen.header("authorization") == "Bearer t1";
        seen.target.starts_with("/orgs").then(|| if fresh { Reply::new(204, "") } else { Reply::new(401, "{}") })
    })
    .await;
    let result = wire.adapters().deregister(warrant(RunnerId(5), organization()).await).await;
    assert_eq!(result.expect("the second token is good"), Deregistration::Deleted);
    assert_eq!(wire.calls().len(), 2);

    let wire = Wire::start(|seen| seen.target.starts_with("/orgs").then(|| Reply::new(401, "{}"))).await;
    let refused = wire.adapters().runner(&organization(), RunnerId(5)).await.expect_err("never good");
    assert_eq!((refused.class(), wire.calls().len()), (Class::Denied, 2));
}

#[tokio::test]
async fn a_token_is_replaced_five_minutes_before_its_end() {
    for (case, minutes, expected) in [("four minutes left", 4, 2), ("ten minutes left", 10, 1)] {
        let expires_at = SystemClock.now().plus(std::time::Duration::from_secs(60 * minutes)).to_string();
        let wire = Wire::start(move |seen| {
            if seen.target.ends_with("/access_tokens") {
                return Some(Reply::new(201, json!({ "token": "t", "expires_at": expires_at })));
            }
            seen.target.starts_with("/orgs").then(|| Reply::new(200, runner(5)))
        })
        .await;
        let adapters = wire.adapters();
        for _ in 0..2 {
            adapters.runner(&organization(), RunnerId(5)).await.expect("a runner");
        }
        let minted = wire.seen().iter().filter(|seen| seen.target.ends_with("/access_tokens")).count();
        assert_eq!(minted, expected, "{case}");
    }
}

#[tokio::test]
async fn an_owner_whose_github_hangs_holds_up_no_other() {
    let wire = Wire::start(|seen| {
        if seen.target == "/app/installations/7/access_tokens" {
            return Some(Reply::new(201, "{}").late());
        }
        seen.target.starts_with("/orgs").then(|| Reply::new(200, runner(5)))
    })
    .await;
    let mut adapters = wire.adapters();
    // Longer than this test waits: only a call that stands behind nobody is answered in time.
    adapters.github.call_timeout = std::time::Duration::from_mins(1);
    let other =
        Access { scope: Scope::Organization { owner: "other".into() }, installation_id: Some(InstallationId(8)) };
    let hanging = organization();
    let mut hung = std::pin::pin!(adapters.runner(&hanging, RunnerId(5)));
    while wire.seen().iter().all(|seen| seen.target != "/app/installations/7/access_tokens") {
        let moment = std::time::Duration::from_millis(5);
        assert!(tokio::time::timeout(moment, &mut hung).await.is_err(), "it hangs");
    }
    let answered = adapters.runner(&other, RunnerId(5));
    let answered = tokio::time::timeout(std::time::Duration::from_secs(3), answered).await.expect("not held up");
    assert_eq!(answered.expect("a runner").map(|runner| runner.id), Some(RunnerId(5)));
}

#[tokio::test]
async fn a_burst_of_one_owners_calls_makes_one_token() {
    let wire = Wire::start(|seen| seen.target.starts_with("/orgs").then(|| Reply::new(200, runner(5)))).await;
    let (adapters, access) = (wire.adapters(), organization());
    let read = || adapters.runner(&access, RunnerId(5));
    let (first, second, third) = tokio::join!(read(), read(), read());
    assert!([first, second, third].iter().all(Result::is_ok));
    let minted = wire.seen().iter().filter(|seen| seen.target.ends_with("/access_tokens")).count();
    assert_eq!(minted, 1);
}

#[tokio::test]
async fn a_token_that_could_not_be_made_leaves_nothing_unknown() {
    for (case, reply, expected) in [
        ("server fault", Reply::new(500, "{}"), Class::Transient),
        ("late", Reply::new(201, "{}").late(), Class::Transient),
        ("suspended", Reply::new(403, r#"{"message": "suspended"}"#), Class::Denied),
    ] {
        let wire = Wire::start(move |seen| seen.target.ends_with("/access_tokens").then(|| reply.clone())).await;
        let refused = wire.adapters().deregister(warrant(RunnerId(5), organization()).await).await.expect_err(case);
        assert_eq!(refused.class(), expected, "{case}: {refused}");
        assert_eq!(wire.calls().len(), 0, "{case}: no DELETE was sent");
    }
}

#[tokio::test]
async fn a_key_that_cannot_be_read_or_used_is_told_without_its_text() {
    let value = |text: &str| Reply::new(200, json!({ "Parameter": { "Value": text } }));
    for (case, reply, expected) in [
        ("no key", value("hunter2"), Class::Misconfigured),
        ("denied", Reply::json_error(400, "AccessDeniedException"), Class::Misconfigured),
        ("throttled", Reply::json_error(400, "ThrottlingException"), Class::Throttled { retry_after: None }),
    ] {
        let wire = Wire::start(move |seen| (seen.json()["Name"] == "/app/private-key").then(|| reply.clone())).await;
        let refused = wire.adapters().runner(&organization(), RunnerId(5)).await.expect_err(case);
        assert_eq!(refused.class(), expected, "{case}: {refused}");
        assert!(!format!("{refused:?}").contains("hunter2"), "{case}");
        assert_eq!(wire.calls().len(), 0, "{case}: GitHub was not asked");
    }
}

#[tokio::test]
async fn tokens_are_not_printed() {
    let wire = Wire::start(|seen| seen.target.starts_with("/orgs").then(|| Reply::new(200, runner(5)))).await;
    let adapters = wire.adapters();
    adapters.runner(&organization(), RunnerId(5)).await.expect("a runner");
    let printed = format!("{adapters:?}");
    for secret in ["ghs_of", "PRIVATE KEY", "secret-key"] {
        assert!(!printed.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn a_token_that_hangs_is_waited_for_once_by_all_who_need_it() {
    let wire = Wire::start(|seen| seen.target.ends_with("/access_tokens").then(|| Reply::new(201, "{}").late())).await;
    let (adapters, access) = (wire.adapters(), organization());
    let read = || adapters.runner(&access, RunnerId(5));
    let begun_at = SystemClock.now();
    let (first, second, third) = tokio::join!(read(), read(), read());
    let waited = SystemClock.now().since(begun_at);
    for read in [first, second, third] {
        assert_eq!(read.expect_err("no token").class(), Class::Transient);
    }
    let asked = wire.seen().iter().filter(|seen| seen.target.ends_with("/access_tokens")).count();
    assert_eq!(asked, 1);
    assert!(waited < 2 * adapters.github.call_timeout, "{waited:?}: not one after the other");
}

#[tokio::test]
async fn a_key_that_cannot_be_read_is_asked_for_once_by_all_who_need_it() {
    let wire = Wire::start(|seen| {
        (seen.json()["Name"] == "/app/app-id").then(|| Reply::json_error(400, "AccessDeniedException"))
    })
    .await;
    let (adapters, access) = (wire.adapters(), organization());
    let other = Access { installation_id: Some(InstallationId(8)), ..organization() };
    for access in [&access, &other, &access] {
        let refused = adapters.runner(access, RunnerId(5)).await.expect_err("no key");
        assert_eq!(refused.class(), Class::Misconfigured);
    }
    let asked = wire.seen().iter().filter(|seen| seen.operation() == "GetParameter").count();
    assert_eq!(asked, 1);
}

/// The claims of a JWT in an `Authorization` header.
fn claims(seen: &Seen) -> Value {
    use base64::Engine;
    let token = seen.header("authorization").strip_prefix("Bearer ").expect("a token").to_owned();
    let part = token.split('.').nth(1).expect("a JWT").to_owned();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).expect("base64"))
        .expect("JSON")
}

#[tokio::test]
async fn a_clock_that_differs_from_githubs_is_corrected_for_one_token() {
    let date = |offset_seconds: i64| {
        let seconds = SystemClock.now().0 / 1_000 + offset_seconds;
        aws_smithy_types::DateTime::from_secs(seconds)
            .fmt(aws_smithy_types::date_time::Format::HttpDate)
            .expect("a time of this century")
    };
    for (case, header, offset, key_reads) in [
        ("GitHub is an hour ahead", Some(date(3_600)), 3_600, 1),
        ("GitHub is two minutes behind", Some(date(-120)), -120, 1),
        ("within what a slow answer explains", Some(date(20)), 0, 2),
        ("GitHub does not say", None, 0, 2),
        ("no date", Some("tomorrow".to_owned()), 0, 2),
    ] {
        let count = AtomicUsize::new(0);
        let wire = Wire::start(move |seen| {
            seen.target.starts_with("/app/hook").then(|| match count.fetch_add(1, Ordering::SeqCst) {
                // axum adds a date of its own where there is none.
                0 => Reply::new(401, "{}").header("date", header.clone().unwrap_or_else(|| date(0))),
                _ => Reply::new(200, "[]"),
            })
        })
        .await;
        let adapters = wire.adapters();
        adapters.failed_deliveries_since(Timestamp(0), None).await.expect(case);
        adapters.failed_deliveries_since(Timestamp(0), None).await.expect(case);
        let seen = wire.seen();
        let sent: Vec<Value> = seen.iter().filter(|seen| seen.target.starts_with("/app/hook")).map(claims).collect();
        let [first, second, third] = sent.as_slice() else { panic!("{case}: {sent:?}") };
        let ids = [&first["jti"], &second["jti"], &third["jti"]];
        assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids.iter().all(|id| id.is_string()), "{case}: {ids:?}");
        let now = SystemClock.now().0 / 1_000;
        for (nth, claims, expected) in [("first", first, 0), ("second", second, offset), ("next", third, 0)] {
            let (issued, ends) = (claims["iat"].as_i64().expect("iat"), claims["exp"].as_i64().expect("exp"));
            assert!((issued - (now - 60 + expected)).abs() <= 3, "{case}: {nth} {issued}");
            assert_eq!(ends - issued, 600, "{case}: {nth}");
        }
        let reads = seen.iter().filter(|seen| seen.json()["Name"] == "/app/private-key").count();
        assert_eq!(reads, key_reads, "{case}: the key was not to blame");
    }
}

/// Where a test reads what was logged.
#[derive(Clone)]
struct Told(std::sync::Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Told {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn clocks_that_differ_are_an_alarm_and_one_only() {
    let wire = Wire::start(|seen| {
        let ahead = aws_smithy_types::DateTime::from_secs(SystemClock.now().0 / 1_000 + 3_600);
        let date = ahead.fmt(aws_smithy_types::date_time::Format::HttpDate).expect("a time of this century");
        seen.target.starts_with("/app/hook").then(|| Reply::new(401, "{}").header("date", date))
    })
    .await;
    let adapters = wire.adapters();
    let told = std::sync::Arc::new(Mutex::new(Vec::new()));
    let writer = Told(std::sync::Arc::clone(&told));
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    // Each line is come to once and then asked about anew: tracing may remember from another test's thread that nobody
    // listens there.
    adapters.failed_deliveries_since(Timestamp(0), None).await.expect_err("never good");
    let adapters = wire.adapters();
    let guard = tracing::subscriber::set_default(subscriber);
    tracing::callsite::rebuild_interest_cache();
    for _ in 0..3 {
        adapters.failed_deliveries_since(Timestamp(0), None).await.expect_err("never good");
    }
    drop(guard);
    let told = String::from_utf8(told.lock().expect("no panic").clone()).expect("UTF-8");
    assert_eq!(told.lines().filter(|line| line.contains("ERROR") && line.contains("clock")).count(), 1, "{told}");
}

#[tokio::test]
async fn a_key_replaced_in_ssm_is_read_again_after_a_401() {
    let wire = Wire::start(|seen| {
        let jwt = seen.target.starts_with("/app/hook").then(|| seen.header("authorization").to_owned())?;
        Some(if jwt.is_empty() { Reply::new(400, "") } else { Reply::new(401, "{}") })
    })
    .await;
    let refused = wire.adapters().failed_deliveries_since(Timestamp(0), None).await.expect_err("never good");
    assert_eq!((refused.class(), wire.calls().len()), (Class::Denied, 2));
    let reads = wire.seen().iter().filter(|seen| seen.json()["Name"] == "/app/private-key").count();
    assert_eq!(reads, 2);
}
