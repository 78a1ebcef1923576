//! Where an answer comes from and how long it is waited for: redirects, silence, and what is printed.

use super::*;

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
    let github = crate::github::GitHub::new(&environment, "scale-down", crate::http::Http::default(), ssm, ledger);
    assert_eq!(github.call_timeout, std::time::Duration::from_secs(10));
    assert!(crate::http::CONNECT_TIMEOUT < github.call_timeout);
}

#[test]
fn an_answer_prints_without_what_it_holds() {
    let answer =
        crate::github::client::Answer::for_tests(r#"{"token": "ghs_secret", "encoded_jit_config": "c2VjcmV0"}"#);
    let printed = format!("{answer:?}");
    assert!(!printed.contains("ghs_secret") && !printed.contains("c2VjcmV0"), "{printed}");
    assert_eq!(printed, "Answer(200 OK, 57 bytes)");
}
