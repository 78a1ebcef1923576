//! The front ends over real HTTP: credentials, headers, pages, lost answers, signed deliveries.

#[expect(dead_code, reason = "each test file uses its part of the client")]
mod support;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use bytes::Bytes;
use reqwest::Method;
use runner_scaler_world::github::{Forgery, OwnerKind};
use runner_scaler_world::http::deliver::signature;
use runner_scaler_world::trap::{CallPattern, Phase, Trap, TrapAction};
use runner_scaler_world::truth::Fact;
use serde_json::json;
use std::time::Duration;
use support::{Double, app_jwt, jit};
use tokio::sync::mpsc;

#[tokio::test]
async fn a_request_is_refused_as_github_refuses_it() {
    let double = Double::start().await;
    let (acme, suspended) = {
        let mut world = double.server.world();
        let acme = world.github.install("acme", OwnerKind::Organization, &["shop"]);
        let other = world.github.install("other", OwnerKind::Organization, &["shop"]);
        (acme, other)
    };
    let (token, foreign) = (double.token(acme).await, double.token(suspended).await);
    let path = "/orgs/acme/actions/runners";
    assert_eq!(double.get(path, &token).await.0, 200);
    assert_eq!(double.get(path, "ghs_unknown").await.0, 401, "an unknown token");
    assert_eq!(double.get(path, &app_jwt()).await.0, 401, "the App's own token");
    assert_eq!(double.get("/app/hook/deliveries", &token).await.0, 401, "an installation's token");
    assert_eq!(double.get(path, &foreign).await.0, 404, "another installation's token");
    assert_eq!(double.get("/orgs/acme/actions/runners/7", &token).await.0, 404, "no such runner");
    assert_eq!(double.get("/nothing/here", &token).await.0, 404);
    let anonymous = double.client.get(format!("{}{path}", double.server.base_url())).bearer_auth(&token);
    assert_eq!(anonymous.send().await.unwrap().status(), 403, "no User-Agent");
    let old = double.request(Method::GET, path, &token).header("x-github-api-version", "1999-01-01");
    assert_eq!(old.send().await.unwrap().status(), 400);
    double.server.world().github.installation_mut(suspended).unwrap().suspended = true;
    assert_eq!(double.get("/orgs/other/actions/runners", &foreign).await.0, 403, "suspended");
}

#[tokio::test]
async fn what_is_known_is_neither_sent_nor_counted_again_under_the_same_token() {
    let double = Double::start().await;
    let acme = double.server.world().github.install("acme", OwnerKind::Organization, &["shop"]);
    let (token, other) = (double.token(acme).await, double.token(acme).await);
    let path = "/repos/acme/shop/actions/runs?status=queued";
    let ask = async |token: &str, tag: &str| {
        let answer = double.request(Method::GET, path, token).header("if-none-match", tag).send().await.unwrap();
        let header = |name: &str| answer.headers().get(name).unwrap().to_str().unwrap().to_owned();
        let (status, tag, used) = (answer.status().as_u16(), header("etag"), header("x-ratelimit-used"));
        (status, tag, used, answer.bytes().await.unwrap().len())
    };
    let (status, tag, used, bytes) = ask(&token, "W/\"0\"").await;
    assert_eq!((status, used.as_str(), bytes > 0), (200, "1", true));
    let (status, _, used, bytes) = ask(&token, &tag).await;
    assert_eq!((status, used.as_str(), bytes), (304, "1", 0), "free");
    assert_eq!(ask(&other, &tag).await.0, 200, "another token has other tags");
    {
        let spec = runner_scaler_world::github::JobSpec {
            repository: "acme/shop".into(),
            name: "build".into(),
            labels: vec!["nobody-has-this".into()],
            duration_ms: 10,
            conclusion: "success".into(),
        };
        let mut world = double.server.world();
        let (github, mut cx) = world.github();
        github.add_job(&mut cx, spec).unwrap();
    }
    assert_eq!(ask(&token, &tag).await.0, 200, "a job was queued meanwhile");
}

#[tokio::test]
async fn the_rate_limit_is_counted_shown_and_enforced() {
    let double = Double::start().await;
    let acme = {
        let mut world = double.server.world();
        world.github.settings_mut().rate_limit = 2;
        world.github.install("acme", OwnerKind::Organization, &["shop"])
    };
    let token = double.token(acme).await;
    for (remaining, status) in [("1", 200), ("0", 200), ("0", 403)] {
        let answer = double.request(Method::GET, "/orgs/acme/actions/runners", &token).send().await.unwrap();
        assert_eq!(answer.status(), status);
        assert_eq!(answer.headers()["x-ratelimit-remaining"], remaining);
    }
}

#[tokio::test]
async fn a_list_is_followed_by_its_links_and_filtered_by_name() {
    let double = Double::start().await;
    let acme = double.server.world().github.install("acme", OwnerKind::Organization, &["shop"]);
    let token = double.token(acme).await;
    for number in 0..5 {
        let body = jit(&format!("ghr-i-{number}"), &["x"]);
        assert_eq!(double.post("/orgs/acme/actions/runners/generate-jitconfig", &token, &body).await.0, 201);
    }
    let mut url = Some(format!("{}/orgs/acme/actions/runners?per_page=2", double.server.base_url()));
    let mut names = Vec::new();
    while let Some(next) = url.take() {
        let answer = double.client.get(next).header("user-agent", "t").bearer_auth(&token).send().await.unwrap();
        let link = answer.headers().get("link").map(|l| l.to_str().unwrap().to_owned()).unwrap_or_default();
        url = link.split(", ").find(|l| l.contains("rel=\"next\"")).map(|l| l[1..l.find('>').unwrap()].to_owned());
        let (_, page) = support::answer(answer).await;
        names.extend(page["runners"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap().to_owned()));
    }
    assert_eq!(names, ["ghr-i-0", "ghr-i-1", "ghr-i-2", "ghr-i-3", "ghr-i-4"]);
    let (_, one) = double.get("/orgs/acme/actions/runners?name=ghr-i-3", &token).await;
    assert_eq!(one["total_count"], 1);
}

#[tokio::test]
async fn an_installation_lists_the_repositories_it_reaches_and_no_others() {
    let double = Double::start().await;
    let acme = {
        let mut world = double.server.world();
        world.github.install("ada", OwnerKind::User, &["engine"]);
        world.github.install("acme", OwnerKind::Organization, &["shop", "site", "api"])
    };
    let token = double.token(acme).await;
    let mut names = Vec::new();
    for page in 1..=2 {
        let path = format!("/installation/repositories?per_page=2&page={page}");
        let (status, body) = double.get(&path, &token).await;
        assert_eq!((status, &body["total_count"]), (200, &json!(3)));
        names.extend(body["repositories"].as_array().unwrap().iter().map(|r| r["full_name"].clone()));
    }
    assert_eq!(names, ["acme/shop", "acme/site", "acme/api"]);
    assert_eq!(double.get("/installation/repositories", &app_jwt()).await.0, 401, "the App itself has none");
}

#[tokio::test]
async fn a_failed_delivery_is_found_page_by_page() {
    let double = Double::start().await;
    {
        let mut world = double.server.world();
        world.github.install("acme", OwnerKind::Organization, &["shop"]);
        let spec = || {
            serde_json::from_value(
                json!({ "repository": "acme/shop", "name": "build", "labels": ["x"], "duration_ms": 5 }),
            )
        };
        for number in 0..5 {
            let (github, mut cx) = world.github();
            let job = github.add_job(&mut cx, spec().unwrap()).unwrap();
            let now = cx.now;
            let due = github.take_due_deliveries(now).remove(0);
            github.delivery_answered(&mut cx, due.delivery_id, Some(if number % 2 == 0 { 500 } else { 202 }), 3);
            assert!(github.job(job).is_some());
        }
    }
    let mut url = Some(format!("{}/app/hook/deliveries?status=failure&per_page=2", double.server.base_url()));
    let mut pages = Vec::new();
    while let Some(next) = url.take() {
        let request = double.client.get(next).header("user-agent", "t").bearer_auth(app_jwt());
        let answer = request.send().await.unwrap();
        let link = answer.headers().get("link").map(|l| l.to_str().unwrap().to_owned()).unwrap_or_default();
        url = link.split(", ").find(|l| l.contains("rel=\"next\"")).map(|l| l[1..l.find('>').unwrap()].to_owned());
        let (_, page) = support::answer(answer).await;
        pages.push(page.as_array().unwrap().iter().filter(|d| d["status_code"] == 500).count());
    }
    assert_eq!(pages, [2, 1], "three of five failed, newest first");
}

#[tokio::test]
async fn a_lost_reply_is_no_answer_and_its_effect_depends_on_the_phase() {
    let double = Double::start().await;
    let acme = double.server.world().github.install("acme", OwnerKind::Organization, &["shop"]);
    let token = double.token(acme).await;
    let path = "/orgs/acme/actions/runners/generate-jitconfig";
    for (phase, registrations) in [(Phase::BeforeEffect, 0), (Phase::AfterEffect, 1)] {
        double.server.world().set_trap(Trap {
            on: CallPattern { operation: Some("GenerateJitConfig".into()), ..CallPattern::default() },
            phase,
            action: TrapAction::LoseReply,
        });
        let lost = double.request(Method::POST, path, &token).json(&jit("ghr-i-1", &["x"])).send().await;
        assert!(lost.is_err(), "{phase:?}: {lost:?}");
        assert_eq!(double.server.world().github.registrations().count(), registrations, "{phase:?}");
    }
    assert_eq!(double.post(path, &token, &jit("ghr-i-1", &["x"])).await.0, 409, "the name is taken by the lost one");
}

#[tokio::test]
async fn deliveries_are_signed_sent_once_and_their_answers_recorded() {
    let (sent, mut received) = mpsc::unbounded_channel();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let hook = |State(sent): State<mpsc::UnboundedSender<(HeaderMap, Bytes)>>, headers: HeaderMap, body: Bytes| async move {
        let genuine = headers.get("x-hub-signature-256").is_some_and(|s| *s == *signature("secret", &body));
        sent.send((headers, body)).unwrap();
        if genuine { axum::http::StatusCode::OK } else { axum::http::StatusCode::UNAUTHORIZED }
    };
    let router = Router::new().route("/hook", post(hook)).with_state(sent);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });

    let double = Double::start().await;
    let queued = include_bytes!("../src/github/template.json");
    {
        let mut world = double.server.world();
        world.github.install("acme", OwnerKind::Organization, &["shop"]);
        let (github, mut cx) = world.github();
        github.add_job_from_payload(&mut cx, queued, 10).unwrap();
    }
    double.server.deliver_to(&url);
    let (headers, body) = received.recv().await.unwrap();
    assert_eq!(&body[..], &queued[..], "the payload's very bytes");
    assert_eq!(headers["x-github-event"], "workflow_job");
    {
        let mut world = double.server.world();
        let (github, mut cx) = world.github();
        github.forge_delivery(&mut cx, Bytes::from_static(b"{\"workflow_job\":{\"id\":5}}"), Forgery::BadSignature);
    }
    received.recv().await.unwrap();
    let answered = |fact: &Fact| {
        if let Fact::DeliveryAnswered { status, .. } | Fact::ForgeryAnswered { status, .. } = fact {
            *status
        } else {
            None
        }
    };
    for _ in 0..200 {
        let statuses: Vec<u16> = double.server.world().truth.facts().iter().filter_map(|(_, f)| answered(f)).collect();
        if statuses == [200, 401] {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the answers were not recorded: {:?}", double.server.world().truth.facts());
}

#[tokio::test]
async fn people_can_queue_look_and_set_traps_with_curl() {
    let double = Double::start().await;
    double.server.world().github.install("acme", OwnerKind::Organization, &["shop"]);
    let spec = json!({ "repository": "acme/shop", "name": "build", "labels": ["x"], "duration_ms": 5 });
    let (status, made) = double.post("/control/jobs", "", &spec).await;
    assert_eq!(status, 201, "{made}");
    let (_, state) = double.get("/control/state", "").await;
    assert_eq!(state["jobs"][0]["status"], "queued");
    let trap = json!({
        "on": { "operation": "DeleteRunner", "caller": "scale-down" },
        "phase": "before_effect",
        "action": { "assign_job": { "job_id": 7, "github_knows": false } },
    });
    assert_eq!(double.post("/control/traps", "", &trap).await.0, 201);
    let cancel = format!("/control/jobs/{}/cancel", made["job_id"]);
    assert_eq!(double.post(&cancel, "", &json!({})).await.0, 200);
    assert_eq!(double.post(&cancel, "", &json!({})).await.0, 422, "no longer queued");
    let unknown =
        serde_json::to_value(json!({ "repository": "no/body", "name": "b", "labels": [], "duration_ms": 5 })).unwrap();
    assert_eq!(double.post("/control/jobs", "", &unknown).await.0, 422);
    let path = "/control/instances/i-00000000000000000/misfortune";
    assert_eq!(double.post(path, "", &json!("stopped")).await.0, 422, "no such instance");
}
