//! Registrations: lists, single runners, and the two calls that change them.

use super::*;

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
