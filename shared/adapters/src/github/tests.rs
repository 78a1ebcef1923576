//! GitHub on the wire.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use runner_scaler_core::error::{Class, Classify, PortError};
use runner_scaler_core::ids::{Access, InstallationId, JobId, Repository, RunnerId, RunnerName, Scope};
use runner_scaler_core::ports::{
    Delivery, DeliveryLog, Deregistration, JitRequest, JobReading, JobState, Jobs, LogPlace, Registered, Registry,
    RegistryRead,
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
async fn a_read_is_redirected_once_and_within_github_only() {
    let elsewhere = Wire::start(|_| Some(Reply::new(200, runner(5)))).await;
    let host = elsewhere.url.trim_start_matches("http:").to_owned();
    for (case, status, location, expected) in [
        ("its own address", 301, "{origin}/moved", Ok(Some(RunnerId(5)))),
        ("a path", 307, "/moved", Ok(Some(RunnerId(5)))),
        ("another host", 301, elsewhere.url.as_str(), Err(Class::Transient)),
        ("another host without a scheme", 302, host.as_str(), Err(Class::Transient)),
        ("our token in front of another host", 302, "{origin}@example.org/moved", Err(Class::Transient)),
        ("another scheme", 302, "https://127.0.0.1/moved", Err(Class::Transient)),
        ("nowhere", 302, "", Err(Class::Transient)),
        ("twice", 302, "/again", Err(Class::Transient)),
    ] {
        let location = location.to_owned();
        let wire = Wire::start(move |seen| {
            let location = location.replace("{origin}", &origin(seen));
            Some(match seen.target.as_str() {
                "/moved" => Reply::new(200, runner(5)),
                "/again" => Reply::new(302, "").header("location", "/moved"),
                target if target.starts_with("/orgs") => Reply::new(status, "").header("location", location),
                _ => return None,
            })
        })
        .await;
        let read = wire.adapters().runner(&organization(), RunnerId(5)).await;
        let read = read.map(|runner| runner.map(|runner| runner.id)).map_err(|error| error.class());
        assert_eq!(read, expected, "{case}");
        assert!(wire.calls().len() <= 2, "{case}: {:?}", wire.calls());
    }
    assert_eq!(elsewhere.seen().len(), 0, "no request, and no token, was sent there");
}

#[tokio::test]
async fn a_change_is_never_sent_to_where_a_redirect_points() {
    for status in [301, 302, 307, 308] {
        let elsewhere = move |seen: &Seen| Reply::new(status, "").header("location", format!("{}/moved", origin(seen)));
        let wire = Wire::start(move |seen| seen.target.starts_with("/orgs").then(|| elsewhere(seen))).await;
        let adapters = wire.adapters();
        let refused = adapters.deregister(warrant(RunnerId(5), organization()).await).await.expect_err("moved");
        assert_eq!(refused.class(), Class::Rejected, "{status}");
        let refused = adapters.generate_jit_config(&organization(), &request()).await.expect_err("moved");
        assert_eq!(refused.class(), Class::Rejected, "{status}");
        let generate = "POST /orgs/octo/actions/runners/generate-jitconfig";
        assert_eq!(wire.calls(), ["DELETE /orgs/octo/actions/runners/5", generate], "{status}");
    }
}

#[tokio::test]
async fn a_server_that_takes_the_connection_and_never_answers_is_given_up_on() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = silent.local_addr().expect("an address");
    let wire = Wire::start(|_| None).await;
    let mut adapters = wire.adapters();
    // Tokens come from the wire, so that only the calls themselves meet the silence.
    let access = organization();
    adapters.runner(&access, RunnerId(5)).await.expect_err("418, but a token was made");
    adapters.github.base_url = format!("http://{address}");
    let read = adapters.runner(&access, RunnerId(5)).await.expect_err("silence");
    let made = adapters.generate_jit_config(&access, &request()).await.expect_err("silence");
    let deleted = adapters.deregister(warrant(RunnerId(5), organization()).await).await.expect_err("silence");
    let classes = [read.class(), made.class(), deleted.class()];
    assert_eq!(classes, [Class::Transient, Class::OutcomeUnknown, Class::OutcomeUnknown]);
}

#[tokio::test]
async fn a_call_has_ten_seconds_and_a_connection_less() {
    let environment = Wire::start(|_| None).await.adapters().environment().clone();
    let (ssm, ledger) = {
        let wire = Wire::start(|_| None).await;
        let adapters = wire.adapters();
        (adapters.ssm().clone(), adapters.ledger().clone())
    };
    let github = super::GitHub::new(&environment, "scale-down", crate::http::Http::default(), ssm, ledger);
    assert_eq!(github.call_timeout, std::time::Duration::from_secs(10));
    assert!(crate::http::CONNECT_TIMEOUT < github.call_timeout);
}

fn delivery(id: u64, at: &str, status: u16) -> Value {
    json!({ "id": id, "guid": format!("g{id}"), "delivered_at": at, "redelivery": false, "status": "x",
        "status_code": status, "event": "workflow_job", "action": "in_progress", "installation_id": 7 })
}

#[tokio::test]
async fn failed_deliveries_are_read_until_they_are_too_old_also_where_github_shows_all() {
    for (case, show_all) in [("GitHub knows the filter", false), ("it shows all", true)] {
        let wire = Wire::start(move |seen| {
            let first = "/app/hook/deliveries?status=failure&per_page=100";
            let link = |cursor: &str| next(&format!("{}{first}&cursor={cursor}", origin(seen)));
            let shown = |page: &[Value]| {
                let failed = |delivery: &&Value| show_all || delivery["status_code"] != 200;
                Reply::new(200, page.iter().filter(failed).cloned().collect::<Value>())
            };
            let cursor = seen.target.strip_prefix(first)?;
            Some(match cursor {
                "" => shown(&[
                    delivery(6, "2026-11-20T13:00:00Z", 200),
                    delivery(5, "2026-11-20T12:30:00Z", 401),
                    delivery(4, "2026-11-20T12:00:00Z", 200),
                ])
                .header("link", link("b")),
                "&cursor=b" => shown(&[
                    delivery(3, "2026-11-20T11:00:00Z", 502),
                    delivery(2, "2026-11-20T10:00:00Z", 0),
                    delivery(1, "2026-11-20T09:00:00Z", 500),
                ])
                .header("link", link("c")),
                _ => Reply::new(500, "a page too many"),
            })
        })
        .await;
        let since = Timestamp::parse("2026-11-20T10:00:00Z").expect("RFC 3339");
        let adapters = wire.adapters();
        let first = adapters.failed_deliveries_since(since, None).await.expect("a page");
        let place = first.next.clone().expect("older ones");
        let second = adapters.failed_deliveries_since(since, Some(&place)).await.expect("another page");
        assert_eq!(second.next, None, "{case}: all that follow are too old");
        let failed: Vec<Delivery> = first.deliveries.into_iter().chain(second.deliveries).collect();
        let read: Vec<_> = failed.iter().map(|delivery| (delivery.id, delivery.guid.as_str())).collect();
        assert_eq!(read, [(5, "g5"), (3, "g3"), (2, "g2")], "{case}");
        let last = failed.last().expect("three");
        assert_eq!(last.delivered_at, since, "{case}: the time itself is not too old");
        assert_eq!((last.event.as_str(), last.action.as_deref()), ("workflow_job", Some("in_progress")), "{case}");
        assert_eq!(last.installation_id, Some(InstallationId(7)), "{case}");
        assert_eq!(wire.calls().len(), 2, "{case}: the third page was not asked for");
    }
}

#[tokio::test]
async fn a_page_of_the_log_that_cannot_be_read_is_an_error() {
    let circle = |seen: &Seen| Reply::new(200, "[]").header("link", next(&seen.target));
    for (case, page, expected) in [
        ("it fails", Some(Reply::new(500, "{}")), Class::Transient),
        ("no time of delivery", Some(Reply::new(200, json!([delivery(1, "yesterday", 502)]))), Class::Transient),
        ("denied", Some(Reply::new(403, r#"{"message": "no"}"#)), Class::Denied),
        ("late", Some(Reply::new(200, "[]").late()), Class::Transient),
        ("GitHub does not know the place any more", Some(Reply::new(422, "{}")), Class::Rejected),
        ("it leads to itself", None, Class::Transient),
    ] {
        let wire = Wire::start(move |seen| {
            seen.target.starts_with("/two").then(|| page.clone().unwrap_or_else(|| circle(seen)))
        })
        .await;
        let place = LogPlace::new("/two");
        let refused = wire.adapters().failed_deliveries_since(Timestamp(0), Some(&place)).await.expect_err(case);
        assert_eq!(refused.class(), expected, "{case}: {refused}");
    }
    let wire = Wire::start(|_| None).await;
    let elsewhere = LogPlace::new("https://example.org/app/hook/deliveries");
    let refused =
        wire.adapters().failed_deliveries_since(Timestamp(0), Some(&elsewhere)).await.expect_err("not GitHub");
    assert_eq!((refused.class(), wire.calls().len()), (Class::Rejected, 0), "no token went there");
}

#[tokio::test]
async fn an_installation_has_one_owner_or_none_that_is_known() {
    for (case, reply, expected) in [
        ("an organisation's", Reply::new(200, json!({ "id": 8, "account": { "login": "Octo" } })), Ok(Some("Octo"))),
        ("an enterprise's", Reply::new(200, json!({ "id": 8, "account": { "slug": "octo" } })), Ok(None)),
        ("of a deleted account", Reply::new(200, json!({ "id": 8, "account": null })), Ok(None)),
        ("no more", Reply::new(404, "{}"), Ok(None)),
        ("unread", Reply::new(500, "{}"), Err(Class::Transient)),
    ] {
        let wire = Wire::start(move |seen| (seen.target == "/app/installations/8").then(|| reply.clone())).await;
        let owner = wire.adapters().installation_owner(InstallationId(8)).await.map_err(|error| error.class());
        assert_eq!(owner.as_ref().map(Option::as_deref).map_err(|class| *class), expected, "{case}");
    }
}

#[tokio::test]
async fn the_log_is_kept_for_as_long_as_the_configured_github_keeps_it() {
    let wire = Wire::start(|_| None).await;
    let days = |days: u64| std::time::Duration::from_hours(24 * days);
    for (url, expected) in
        [("https://api.github.com", 3), ("https://api.octo.ghe.com", 3), ("https://ghe.example.org/api/v3", 7)]
    {
        assert_eq!(wire.adapters_with(url).log_kept(), days(expected), "{url}");
    }
}

#[tokio::test]
async fn a_payload_is_read_as_it_is() {
    let wire = Wire::start(|seen| {
        Some(match seen.target.as_str() {
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
    let payload = adapters.delivery_payload(3).await.expect("a payload");
    let payload: Value = serde_json::from_str(&payload).expect("JSON");
    assert_eq!(payload, json!({ "action": "in_progress", "n": 4_294_967_297_u64 }));
    let refused = adapters.delivery_payload(2).await.expect_err("GitHub keeps no payload");
    assert_eq!(refused.class(), Class::Transient);
}

fn hello() -> Repository {
    Repository::try_from("octo/hello".to_owned()).expect("a full name")
}

fn runs(total: usize, ids: std::ops::Range<u64>) -> Reply {
    let runs: Vec<Value> = ids.map(|id| json!({ "id": id, "status": "in_progress" })).collect();
    Reply::new(200, json!({ "total_count": total, "workflow_runs": runs }))
}

fn jobs(total: usize, ids: std::ops::Range<u64>) -> Reply {
    let job = |id| json!({ "id": id, "status": "in_progress", "runner_id": id + 1_000, "completed_at": null });
    let jobs: Vec<Value> = ids.map(job).collect();
    Reply::new(200, json!({ "total_count": total, "jobs": jobs }))
}

const RUNS: &str = "/repos/octo/hello/actions/runs";

#[tokio::test]
async fn the_jobs_in_progress_are_those_of_every_run_to_the_last_page() {
    let wire = Wire::start(|seen| {
        let link = |rest: &str| next(&format!("{}{rest}", origin(seen)));
        let target = seen.target.strip_prefix(RUNS).unwrap_or(&seen.target);
        Some(match target {
            "?status=in_progress&per_page=100" => runs(3, 1..3).header("link", link("/more-runs")),
            "/more-runs" => runs(3, 3..4),
            "/1/jobs?filter=latest&per_page=100" => jobs(3, 10..12).header("link", link("/more-jobs")),
            "/more-jobs" => jobs(3, 12..13),
            "/2/jobs?filter=latest&per_page=100" => jobs(0, 0..0),
            "/3/jobs?filter=latest&per_page=100" => jobs(1, 30..31),
            _ => return None,
        })
    })
    .await;
    let read = wire.adapters().jobs_in_progress(&hello(), Some(InstallationId(7))).await.expect("all pages");
    let read: Vec<_> = read.iter().map(|job| (job.id.0, job.runner_id)).collect();
    assert_eq!(read, [10, 11, 12, 30].map(|id| (id, Some(RunnerId(id + 1_000)))));
    // The two lists of two pages twice, those of one page once.
    assert_eq!(wire.calls().len(), 10, "{:?}", wire.calls());
}

#[tokio::test]
async fn a_job_of_a_run_that_waits_is_found_and_each_run_is_read_once() {
    let wire = Wire::start(|seen| {
        let of_run = |id: u64| seen.target == format!("{RUNS}/{id}/jobs?filter=latest&per_page=100");
        Some(match seen.target.strip_prefix(&format!("{RUNS}?status=")).and_then(|rest| rest.split('&').next()) {
            // One of them began while the lists were read.
            Some("in_progress" | "queued") => runs(1, 1..2),
            // One approval is missing, the job beside it runs.
            Some("waiting") => runs(1, 2..3),
            Some("pending" | "requested") => runs(0, 0..0),
            None if of_run(1) => jobs(1, 10..11),
            None if of_run(2) => jobs(1, 20..21),
            Some(_) | None => return None,
        })
    })
    .await;
    let adapters = wire.adapters();
    let ids = |read: Vec<JobReading>| read.iter().map(|job| job.id.0).collect::<Vec<_>>();
    let open = adapters.jobs_of_open_runs(&hello(), Some(InstallationId(7))).await.expect("six lists");
    assert_eq!(ids(open), [10, 20]);
    assert_eq!(wire.calls().len(), 8, "six lists and two runs: {:?}", wire.calls());
    let in_progress = adapters.jobs_in_progress(&hello(), Some(InstallationId(7))).await.expect("one list");
    assert_eq!((ids(in_progress), wire.calls().len()), (vec![10], 10));
}

#[tokio::test]
async fn a_run_that_slips_between_two_pages_is_found_by_reading_again() {
    // While page one is read there are 1 and 2 on it and 3 on page two; then 1 ends and 4 comes, so that 3 is on page one.
    let lists = AtomicUsize::new(0);
    let wire = Wire::start(move |seen| {
        let link = next(&format!("{}/more-runs", origin(seen)));
        Some(match seen.target.as_str() {
            "/repos/octo/hello/actions/runs?status=in_progress&per_page=100" => {
                match lists.fetch_add(1, Ordering::SeqCst) {
                    0 => runs(3, 1..3).header("link", link),
                    _ => runs(3, 2..4).header("link", link),
                }
            }
            "/more-runs" => runs(3, 4..5),
            target if target.starts_with(RUNS) => jobs(0, 0..0),
            _ => return None,
        })
    })
    .await;
    wire.adapters().jobs_in_progress(&hello(), Some(InstallationId(7))).await.expect("three readings");
    let calls = wire.calls();
    assert!(calls.iter().any(|call| call.contains("/runs/3/jobs")), "{calls:?}");
    assert_eq!(calls.iter().filter(|call| call.contains("more-runs")).count(), 3, "{calls:?}");
}

#[tokio::test]
async fn a_list_that_never_rests_is_an_error() {
    for (case, churn) in [("another run each time", true), ("it shrinks each time", false)] {
        let reading = AtomicUsize::new(0);
        let wire = Wire::start(move |seen| {
            let link = next(&format!("{}/two", origin(seen)));
            let repositories = |total: usize, names: Vec<String>| {
                let bodies: Vec<Value> = names.iter().map(|name| json!({ "full_name": name })).collect();
                Reply::new(200, json!({ "total_count": total, "repositories": bodies }))
            };
            Some(match seen.target.as_str() {
                "/installation/repositories?per_page=100" => {
                    let nth = if churn { reading.fetch_add(1, Ordering::SeqCst) } else { 0 };
                    repositories(if churn { 2 } else { 3 }, vec![format!("octo/r{nth}")]).header("link", link)
                }
                "/two" => repositories(2, vec!["octo/last".to_owned()]),
                _ => return None,
            })
        })
        .await;
        let refused = wire.adapters().repositories(&organization()).await.expect_err(case);
        assert_eq!((refused.class(), wire.calls().len()), (Class::Transient, 8), "{case}: {refused}");
    }
}

#[tokio::test]
async fn jobs_in_progress_in_part_are_none() {
    let more_runs = |wire: &str| next(&format!("{wire}/more-runs"));
    for (case, first, second, of_run, expected) in [
        ("a page of runs fails", runs(2, 1..2), Reply::new(502, ""), jobs(0, 0..0), Class::Transient),
        ("a page of jobs fails", runs(2, 1..2), runs(2, 2..3), Reply::new(500, ""), Class::Transient),
        ("a run is gone meanwhile", runs(2, 1..2), runs(2, 2..3), Reply::new(404, ""), Class::Absent),
        ("fewer runs than GitHub counted", runs(5, 1..2), runs(5, 2..3), jobs(0, 0..0), Class::Transient),
        ("a run ended between the pages", runs(3, 1..3), runs(2, 4..4), jobs(0, 0..0), Class::Transient),
        ("fewer jobs than GitHub counted", runs(2, 1..2), runs(2, 2..3), jobs(3, 1..3), Class::Transient),
    ] {
        let wire = Wire::start(move |seen| {
            Some(match seen.target.as_str() {
                "/more-runs" => second.clone(),
                target if target.starts_with("/repos/octo/hello/actions/runs?") => {
                    first.clone().header("link", more_runs(&origin(seen)))
                }
                target if target.starts_with(RUNS) => of_run.clone(),
                _ => return None,
            })
        })
        .await;
        let refused = wire.adapters().jobs_in_progress(&hello(), Some(InstallationId(7))).await.expect_err(case);
        assert_eq!(refused.class(), expected, "{case}: {refused}");
    }
}

#[tokio::test]
async fn the_repositories_of_an_installation_are_read_to_the_last_page_with_its_token() {
    let page = |names: &[&str]| {
        let bodies: Vec<Value> = names.iter().map(|name| json!({ "id": 1, "full_name": name })).collect();
        Reply::new(200, json!({ "total_count": 3, "repository_selection": "selected", "repositories": bodies }))
    };
    let wire = Wire::start(move |seen| {
        Some(match seen.target.as_str() {
            "/installation/repositories?per_page=100" => {
                page(&["octo/a", "octo/b.c"]).header("link", next(&format!("{}/two", origin(seen))))
            }
            "/two" => page(&["octo/d"]),
            _ => return None,
        })
    })
    .await;
    let read = wire.adapters().repositories(&organization()).await.expect("two pages");
    let names: Vec<String> = read.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["octo/a", "octo/b.c", "octo/d"]);
    let seen = wire.seen();
    assert_eq!(
        seen.last().expect("requests").header("authorization"),
        "Bearer ghs_of/app/installations/7/access_tokens"
    );

    let wire = Wire::start(move |seen| seen.target.starts_with("/installation/").then(|| page(&["a", "b", "c"]))).await;
    let refused = wire.adapters().repositories(&organization()).await.expect_err("no full names");
    assert_eq!(refused.class(), Class::Transient);
}

#[tokio::test]
async fn every_call_keeps_the_prefix_of_an_enterprise_server() {
    let wire = Wire::start(|seen| {
        let target = seen.target.strip_prefix("/api/v3")?;
        let link = |rest: &str| next(&format!("{}/api/v3{rest}", origin(seen)));
        Some(match target {
            "/app/installations/7/access_tokens" | "/orgs/octo/installation" => Reply::new(404, "{}"),
            "/users/octo/installation" | "/repos/octo/hello/installation" => Reply::new(200, json!({ "id": 8 })),
            "/orgs/octo/actions/runners?per_page=100" => {
                runners(2, 1..2).header("link", link("/orgs/octo/actions/runners?per_page=100&page=2"))
            }
            "/orgs/octo/actions/runners?per_page=100&page=2" => runners(2, 2..3),
            "/orgs/octo/actions/runners?name=runner-5&per_page=100" => runners(1, 5..6),
            "/repos/octo/hello/actions/runners/generate-jitconfig" => Reply::new(409, "{}"),
            "/orgs/octo/actions/runners/5" if seen.method == "DELETE" => Reply::new(204, ""),
            "/orgs/octo/actions/runners/5" => Reply::new(200, runner(5)),
            "/repos/octo/hello/actions/jobs/21" => Reply::new(301, "").header("location", "/api/v3/moved"),
            "/moved" => Reply::new(200, json!({ "id": 21, "status": "queued" })),
            "/repos/octo/hello/actions/runs?status=in_progress&per_page=100" => {
                runs(2, 1..2).header("link", link("/repositories/1/actions/runs?status=in_progress&page=2"))
            }
            "/repositories/1/actions/runs?status=in_progress&page=2" => runs(2, 2..3),
            "/repos/octo/hello/actions/runs/1/jobs?filter=latest&per_page=100"
            | "/repos/octo/hello/actions/runs/2/jobs?filter=latest&per_page=100" => jobs(1, 1..2),
            "/installation/repositories?per_page=100" => {
                Reply::new(200, json!({ "total_count": 1, "repositories": [{ "full_name": "octo/hello" }] }))
            }
            "/app/hook/deliveries?status=failure&per_page=100" => {
                let page = json!([delivery(1, "2026-11-20T12:00:00Z", 500)]);
                Reply::new(200, page).header("link", link("/app/hook/deliveries?status=failure&cursor=v1_2"))
            }
            "/app/hook/deliveries?status=failure&cursor=v1_2" => Reply::new(200, "[]"),
            "/app/hook/deliveries/1" => Reply::new(200, json!({ "request": { "payload": {} } })),
            _ => return None,
        })
    })
    .await;
    let adapters = wire.adapters_with(&format!("{}/api/v3", wire.url));
    let access = organization();
    assert_eq!(adapters.runners(&access).await.expect("two pages").len(), 2);
    adapters.runner(&access, RunnerId(5)).await.expect("a runner").expect("found");
    adapters.runner_named(&access, &RunnerName::new("runner-5")).await.expect("a list").expect("found");
    let taken = adapters.generate_jit_config(&repository(), &request()).await.expect("an answer");
    assert_eq!(taken, Registered::NameTaken);
    adapters.deregister(warrant(RunnerId(5), access.clone()).await).await.expect("deleted");
    adapters.job(&hello(), None, JobId(21)).await.expect("a job");
    assert_eq!(adapters.jobs_in_progress(&hello(), None).await.expect("two pages of runs").len(), 2);
    adapters.repositories(&access).await.expect("one page");
    let log = adapters.failed_deliveries_since(Timestamp(0), None).await.expect("a page");
    adapters.failed_deliveries_since(Timestamp(0), log.next.as_ref()).await.expect("another page");
    adapters.delivery_payload(1).await.expect("a payload");
    let astray: Vec<String> = wire.calls().into_iter().filter(|call| !call.contains(" /api/v3/")).collect();
    assert_eq!(astray, Vec::<String>::new());
}

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

async fn delete(adapters: &crate::Adapters) -> Result<Deregistration, PortError> {
    adapters.deregister(warrant(RunnerId(5), organization()).await).await
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

#[tokio::test]
async fn a_read_that_github_fails_is_tried_again_and_a_change_is_not() {
    for (case, statuses, expected, tries) in [
        ("it is back at the third", vec![502, 502, 200], Ok(()), 3),
        ("it is back at the second", vec![503, 200], Ok(()), 2),
        ("it is not back", vec![504, 504, 504, 200], Err(Class::Transient), 3),
        ("a fault that is none of a moment", vec![500, 200], Err(Class::Transient), 1),
        ("a refusal", vec![403, 200], Err(Class::Denied), 1),
    ] {
        let nth = AtomicUsize::new(0);
        let wire = Wire::start(move |seen| {
            let status = || statuses[nth.fetch_add(1, Ordering::SeqCst)];
            seen.target.starts_with("/orgs").then(|| Reply::new(status(), runner(5)))
        })
        .await;
        let read = wire.adapters().runner(&organization(), RunnerId(5)).await;
        assert_eq!(read.map(|_| ()).map_err(|error| error.class()), expected, "{case}");
        assert_eq!(wire.calls().len(), tries, "{case}");
    }
    for status in [502, 503, 504] {
        let wire = Wire::start(move |seen| seen.target.starts_with("/orgs").then(|| Reply::new(status, "{}"))).await;
        let adapters = wire.adapters();
        let made = adapters.generate_jit_config(&organization(), &request()).await.expect_err("a fault");
        let deleted = delete(&adapters).await.expect_err("a fault");
        assert_eq!((made.class(), deleted.class()), (Class::OutcomeUnknown, Class::OutcomeUnknown), "{status}");
        assert_eq!(wire.calls().len(), 2, "{status}: each was sent once");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_tried_again_for_a_read_and_not_for_a_change() {
    // Each connection is closed before its request is answered; the third read has its answer.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let taken = std::sync::Arc::new(AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&taken);
    let closing = tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            drop(connection);
        }
    });
    let wire = Wire::start(|_| None).await;
    let mut adapters = wire.adapters();
    let access = organization();
    adapters.runner(&access, RunnerId(5)).await.expect_err("418, but a token was made");
    adapters.github.base_url = format!("http://{address}");
    let read = adapters.runner(&access, RunnerId(5)).await.expect_err("closed");
    assert_eq!((read.class(), taken.swap(0, Ordering::SeqCst)), (Class::Transient, 3));
    let deleted = delete(&adapters).await.expect_err("closed");
    assert_eq!((deleted.class(), taken.load(Ordering::SeqCst)), (Class::OutcomeUnknown, 1));
    closing.abort();
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

#[test]
fn an_answer_prints_without_what_it_holds() {
    let answer = super::client::Answer::for_tests(r#"{"token": "ghs_secret", "encoded_jit_config": "c2VjcmV0"}"#);
    let printed = format!("{answer:?}");
    assert!(!printed.contains("ghs_secret") && !printed.contains("c2VjcmV0"), "{printed}");
    assert_eq!(printed, "Answer(200 OK, 57 bytes)");
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
    let guard = tracing::subscriber::set_default(subscriber);
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
