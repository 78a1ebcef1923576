//! GitHub on the wire.

use std::sync::atomic::{AtomicUsize, Ordering};

use runner_scaler_core::error::{Class, Classify};
use runner_scaler_core::ids::{Access, InstallationId, JobId, Repository, RunnerId, RunnerName, Scope};
use runner_scaler_core::ports::{
    DeliveryLog, Deregistration, JitRequest, JobState, Jobs, Registered, Registry, RegistryRead,
};
use runner_scaler_core::time::{Clock, Timestamp};
use serde_json::{Value, json};

use crate::SystemClock;
use crate::leaves::warrant;
use crate::wire::{Reply, Seen, Wire};

fn organization() -> Access {
    Access { scope: Scope::Organization { owner: "octo".into() }, installation_id: Some(InstallationId(7)) }
}

fn repository() -> Access {
    let scope = Scope::Repository { owner: "octo".into(), name: "hello".into() };
    Access { scope, installation_id: Some(InstallationId(7)) }
}

fn runner(id: u64) -> Value {
    json!({ "id": id, "name": format!("runner-{id}"), "os": "linux", "status": "online", "busy": false, "labels": [],
        "ephemeral": true, "version": null })
}

fn runners(total: usize, ids: std::ops::Range<u64>) -> Reply {
    let runners: Vec<Value> = ids.map(runner).collect();
    Reply::new(200, json!({ "total_count": total, "runners": runners }))
}

fn next(url: &str) -> String {
    format!(r#"<{url}>; rel="next""#)
}

fn request() -> JitRequest {
    JitRequest { name: RunnerName::new("runner-i-1"), labels: vec!["linux".into()], runner_group_id: 1 }
}

/// The server's own address as a client wrote it.
fn origin(seen: &Seen) -> String {
    format!("http://{}", seen.header("host"))
}

#[tokio::test]
async fn a_list_is_read_to_its_last_page_by_the_links_as_they_are() {
    let wire = Wire::start(|seen| {
        Some(match seen.target.as_str() {
            "/orgs/octo/actions/runners?per_page=100" => {
                runners(150, 0..100).header("link", next(&format!("{}/odd/place?after=x%3D", origin(seen))))
            }
            "/odd/place?after=x%3D" => runners(150, 100..150),
            _ => return None,
        })
    })
    .await;
    let listed = wire.adapters().runners(&organization()).await.expect("two pages");
    assert_eq!(listed.len(), 150);
    let first = listed.first().expect("150");
    assert_eq!((first.version.clone(), first.ephemeral), (Some(None), Some(true)));
    assert_eq!(wire.calls(), ["GET /orgs/octo/actions/runners?per_page=100", "GET /odd/place?after=x%3D"]);
}

#[tokio::test]
async fn a_list_in_part_is_no_list() {
    for (case, second, expected) in [
        ("the second page fails", Reply::new(502, "{}"), Class::Transient),
        ("the second page is denied", Reply::new(403, r#"{"message": "no"}"#), Class::Denied),
        ("the second page is not found", Reply::new(404, "{}"), Class::Absent),
        ("the second page is late", Reply::new(200, "{}").late(), Class::Transient),
        ("the second page is no JSON", Reply::new(200, "<html>"), Class::Transient),
        ("the second page is another thing", Reply::new(200, "[]"), Class::Transient),
        ("the pages hold less than GitHub counted", runners(150, 100..120), Class::Transient),
        (
            "GitHub asks for patience",
            Reply::new(429, "").header("retry-after", "9"),
            Class::Throttled { retry_after: Some(std::time::Duration::from_secs(9)) },
        ),
    ] {
        let wire = Wire::start(move |seen| {
            let first = || runners(150, 0..100).header("link", next(&format!("{}/two", origin(seen))));
            match seen.target.as_str() {
                "/orgs/octo/actions/runners?per_page=100" => Some(first()),
                "/two" => Some(second.clone()),
                _ => None,
            }
        })
        .await;
        let refused = wire.adapters().runners(&organization()).await.expect_err(case);
        assert_eq!(refused.class(), expected, "{case}: {refused}");
    }
}

#[tokio::test]
async fn a_link_that_leads_away_or_in_a_circle_is_not_followed() {
    let elsewhere = Wire::start(|_| Some(runners(150, 100..150))).await;
    let url = elsewhere.url.clone();
    let wire = Wire::start(move |seen| {
        seen.target.starts_with("/orgs").then(|| runners(150, 0..100).header("link", next(&format!("{url}/two"))))
    })
    .await;
    wire.adapters().runners(&organization()).await.expect_err("another origin");
    assert_eq!(elsewhere.seen().len(), 0, "no request, and no token, was sent there");

    let wire = Wire::start(|seen| {
        let circle = || runners(150, 0..1).header("link", next(&format!("{}/again", origin(seen))));
        (seen.target.starts_with("/orgs") || seen.target == "/again").then(circle)
    })
    .await;
    wire.adapters().runners(&organization()).await.expect_err("a circle");
    assert_eq!(wire.calls().len(), 2);
}

#[tokio::test]
async fn each_request_says_who_calls_and_is_never_cached() {
    let wire = Wire::start(|seen| seen.target.starts_with("/repos").then(|| Reply::new(200, runner(5)))).await;
    let adapters = wire.adapters();
    for _ in 0..2 {
        adapters.runner(&repository(), RunnerId(5)).await.expect("a runner");
    }
    assert_eq!(wire.calls(), ["GET /repos/octo/hello/actions/runners/5"; 2]);
    let seen = wire.seen();
    let call = seen.last().expect("requests");
    assert_eq!(call.headers.get_all("user-agent").iter().count(), 1);
    assert!(call.header("user-agent").ends_with("(scale-down)"), "{}", call.header("user-agent"));
    assert_eq!(call.header("accept"), "application/vnd.github+json");
    assert_eq!(call.header("x-github-api-version"), "2022-11-28");
    assert_eq!(call.header("authorization"), "Bearer ghs_of/app/installations/7/access_tokens");
    let minted: Vec<_> = seen.iter().filter(|seen| seen.target.ends_with("/access_tokens")).collect();
    let [minted] = minted.as_slice() else { panic!("one token for two calls") };
    assert_eq!(minted.header("authorization").split('.').count(), 3, "a JWT");
}

#[tokio::test]
async fn an_absent_runner_is_none_and_a_runner_unread_is_an_error() {
    for (case, reply, expected) in [
        ("found", Reply::new(200, runner(5)), Ok(Some(RunnerId(5)))),
        ("not found", Reply::new(404, r#"{"message": "Not Found"}"#), Ok(None)),
        ("denied", Reply::new(403, "{}"), Err(Class::Denied)),
        ("no longer authorised", Reply::new(401, "{}"), Err(Class::Denied)),
        ("server fault", Reply::new(500, "{}"), Err(Class::Transient)),
        ("late", Reply::new(200, runner(5)).late(), Err(Class::Transient)),
        ("no JSON", Reply::new(200, "<html>"), Err(Class::Transient)),
    ] {
        let wire = Wire::start(move |seen| seen.target.starts_with("/repos").then(|| reply.clone())).await;
        let read = wire.adapters().runner(&repository(), RunnerId(5)).await;
        let read = read.map(|runner| runner.map(|runner| runner.id)).map_err(|error| error.class());
        assert_eq!(read, expected, "{case}");
    }
}

#[tokio::test]
async fn a_runner_is_found_by_its_exact_name_only() {
    let wire = Wire::start(|seen| {
        (seen.target == "/orgs/octo/actions/runners?name=runner-1&per_page=100").then(|| runners(12, 1..13))
    })
    .await;
    let adapters = wire.adapters();
    let found = adapters.runner_named(&organization(), &RunnerName::new("runner-1")).await.expect("a list");
    assert_eq!(found.map(|runner| runner.id), Some(RunnerId(1)));

    let wire = Wire::start(|seen| seen.target.contains("name=runner-").then(|| runners(1, 10..11))).await;
    let found = wire.adapters().runner_named(&organization(), &RunnerName::new("runner-1")).await.expect("a list");
    assert_eq!(found, None, "runner-10 is another");
}

#[tokio::test]
async fn each_answer_to_a_registration_has_its_meaning() {
    let created = json!({ "runner": { "id": 23, "name": "runner-i-1" }, "encoded_jit_config": "c2VjcmV0" });
    for (case, reply, expected) in [
        ("created", Reply::new(201, created), Ok(Some(RunnerId(23)))),
        ("the name is taken", Reply::new(409, r#"{"message": "Already exists"}"#), Ok(None)),
        ("no such group", Reply::new(404, "{}"), Err(Class::Absent)),
        ("invalid", Reply::new(422, "{}"), Err(Class::Rejected)),
        ("GitHub's own time limit", Reply::new(504, "{}"), Err(Class::OutcomeUnknown)),
        ("late", Reply::new(201, "{}").late(), Err(Class::OutcomeUnknown)),
        (
            "created, but unreadable",
            Reply::new(201, r#"{"encoded_jit_config": "c2VjcmV0"}"#),
            Err(Class::OutcomeUnknown),
        ),
    ] {
        let wire = Wire::start(move |seen| seen.target.starts_with("/repos").then(|| reply.clone())).await;
        let result = wire.adapters().generate_jit_config(&repository(), &request()).await;
        assert!(!format!("{result:?}").contains("c2VjcmV0"), "{case}: {result:?}");
        let meaning = result.map_err(|error| error.class()).map(|registered| match registered {
            Registered::Created { runner_id, .. } => Some(runner_id),
            Registered::NameTaken => None,
        });
        assert_eq!(meaning, expected, "{case}");
        assert_eq!(wire.calls(), ["POST /repos/octo/hello/actions/runners/generate-jitconfig"], "{case}: once");
        let seen = wire.seen();
        let body = seen.last().expect("a request").json();
        assert_eq!(body["name"], json!("runner-i-1"));
        assert_eq!((&body["runner_group_id"], &body["labels"]), (&json!(1), &json!(["linux"])));
    }
}

#[tokio::test]
async fn each_answer_to_a_deregistration_has_its_meaning() {
    for (case, reply, expected) in [
        ("deleted", Reply::new(204, ""), Ok(Deregistration::Deleted)),
        ("busy", Reply::new(422, r#"{"message": "is currently running a job"}"#), Ok(Deregistration::Busy)),
        ("not found", Reply::new(404, "{}"), Ok(Deregistration::Absent)),
        ("denied", Reply::new(403, r#"{"message": "is currently running a job"}"#), Err(Class::Denied)),
        ("another success is none", Reply::new(200, "{}"), Err(Class::OutcomeUnknown)),
        ("server fault", Reply::new(502, "{}"), Err(Class::OutcomeUnknown)),
        ("late", Reply::new(204, "").late(), Err(Class::OutcomeUnknown)),
    ] {
        let wire = Wire::start(move |seen| seen.target.starts_with("/orgs").then(|| reply.clone())).await;
        let warrant = warrant(RunnerId(23), organization()).await;
        let result = wire.adapters().deregister(warrant).await.map_err(|error| error.class());
        assert_eq!(result, expected, "{case}");
        assert_eq!(wire.calls(), ["DELETE /orgs/octo/actions/runners/23"], "{case}: once");
    }
}

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
async fn a_job_is_read_and_a_renamed_repository_followed() {
    let job = json!({ "id": 21, "status": "in_progress", "runner_id": 5, "completed_at": null });
    let wire = Wire::start(move |seen| {
        Some(match seen.target.as_str() {
            "/repos/octo/hello/actions/jobs/21" => {
                Reply::new(301, "{}").header("location", format!("{}/repositories/1/actions/jobs/21", origin(seen)))
            }
            "/repositories/1/actions/jobs/21" => Reply::new(200, &job),
            _ => return None,
        })
    })
    .await;
    let hello = Repository::try_from("octo/hello".to_owned()).expect("a full name");
    let adapters = wire.adapters();
    let reading = adapters.job(&hello, Some(InstallationId(7)), JobId(21)).await.expect("a job");
    assert_eq!((reading.state, reading.runner_id), (JobState::InProgress, Some(RunnerId(5))));

    let wire = Wire::start(|seen| seen.target.starts_with("/repos").then(|| Reply::new(404, "{}"))).await;
    let refused = wire.adapters().job(&hello, Some(InstallationId(7)), JobId(21)).await.expect_err("absent");
    assert_eq!(refused.class(), Class::Absent);
}

#[tokio::test]
async fn a_change_is_never_sent_to_where_a_redirect_points() {
    let elsewhere = |seen: &Seen| Reply::new(307, "").header("location", format!("{}/moved", origin(seen)));
    let wire = Wire::start(move |seen| seen.target.starts_with("/orgs").then(|| elsewhere(seen))).await;
    let refused = wire.adapters().deregister(warrant(RunnerId(5), organization()).await).await.expect_err("moved");
    assert_eq!(refused.class(), Class::OutcomeUnknown);
    assert_eq!(wire.calls(), ["DELETE /orgs/octo/actions/runners/5"]);
}

#[tokio::test]
async fn deliveries_are_read_until_they_are_too_old_and_payloads_as_they_are() {
    let delivery = |id: u64, at: &str, status: u16| {
        json!({ "id": id, "guid": format!("g{id}"), "delivered_at": at, "redelivery": false, "status": "x",
            "status_code": status, "event": "workflow_job", "action": "in_progress" })
    };
    let wire = Wire::start(move |seen| {
        let link = |cursor: &str| next(&format!("{}/app/hook/deliveries?per_page=100&cursor={cursor}", origin(seen)));
        Some(match seen.target.as_str() {
            "/app/hook/deliveries?per_page=100" => {
                let page = [delivery(4, "2026-11-20T12:00:00Z", 200), delivery(3, "2026-11-20T11:00:00Z", 502)];
                Reply::new(200, json!(page)).header("link", link("b"))
            }
            "/app/hook/deliveries?per_page=100&cursor=b" => {
                let page = [delivery(2, "2026-11-20T10:00:00Z", 0), delivery(1, "2026-11-20T09:00:00Z", 202)];
                Reply::new(200, json!(page)).header("link", link("c"))
            }
            "/app/hook/deliveries/3" => Reply::new(
                200,
                json!({ "id": 3, "request": { "payload": { "action": "in_progress", "n": 4_294_967_297_u64 } } }),
            ),
            "/app/hook/deliveries/2" => Reply::new(200, json!({ "id": 2, "request": { "payload": null } })),
            _ => return None,
        })
    })
    .await;
    let adapters = wire.adapters();
    let since = Timestamp::parse("2026-11-20T10:00:00Z").expect("RFC 3339");
    let deliveries = adapters.deliveries_since(since).await.expect("two pages");
    let read: Vec<_> = deliveries.iter().map(|delivery| (delivery.id, delivery.succeeded)).collect();
    assert_eq!(read, [(4, true), (3, false), (2, false)]);
    assert_eq!(wire.calls().len(), 2, "the third page was not asked for");

    let payload = adapters.delivery_payload(3).await.expect("a payload");
    let payload: Value = serde_json::from_str(&payload).expect("JSON");
    assert_eq!(payload, json!({ "action": "in_progress", "n": 4_294_967_297_u64 }));
    let refused = adapters.delivery_payload(2).await.expect_err("GitHub keeps no payload");
    assert_eq!(refused.class(), Class::Transient);
}

#[tokio::test]
async fn a_key_replaced_in_ssm_is_read_again_after_a_401() {
    let wire = Wire::start(|seen| {
        let jwt = seen.target.starts_with("/app/hook").then(|| seen.header("authorization").to_owned())?;
        Some(if jwt.is_empty() { Reply::new(400, "") } else { Reply::new(401, "{}") })
    })
    .await;
    let refused = wire.adapters().deliveries_since(Timestamp(0)).await.expect_err("never good");
    assert_eq!((refused.class(), wire.calls().len()), (Class::Denied, 2));
    let reads = wire.seen().iter().filter(|seen| seen.json()["Name"] == "/app/private-key").count();
    assert_eq!(reads, 2);
}
