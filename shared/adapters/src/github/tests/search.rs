//! The job search and redeliveries on the wire.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use runner_scaler_core::error::{Class, Classify};
use runner_scaler_core::ids::{InstallationId, JobId, Repository, RunId, RunnerName};
use runner_scaler_core::ports::{AccountKind, ApiBudget, Installation, JobSearch, JobState, Redelivery};
use runner_scaler_core::time::Timestamp;
use serde_json::{Value, json};

use super::hello;
use crate::wire::{Reply, Seen, Wire};

const ID: InstallationId = InstallationId(7);

fn octo() -> Installation {
    Installation { id: ID, owner: "octo".into(), owner_id: Some(107), kind: AccountKind::Organization }
}

fn runs(ids: &[u64]) -> Value {
    let runs: Vec<Value> =
        ids.iter().map(|id| json!({ "id": id, "status": "queued", "head_branch": "main" })).collect();
    json!({ "total_count": ids.len(), "workflow_runs": runs })
}

/// An answer with a tag; 304 and no body for who knows it.
fn tagged(seen: &Seen, tag: &str, body: impl ToString) -> Reply {
    let reply = if seen.header("if-none-match") == tag { Reply::new(304, "") } else { Reply::new(200, body) };
    reply.header("etag", tag)
}

#[tokio::test]
async fn a_list_that_has_not_changed_is_not_sent_and_not_charged() {
    let wire = Wire::start(|seen| {
        let link = format!(r#"<http://{}/two>; rel="next""#, seen.header("host"));
        Some(match seen.target.as_str() {
            "/repos/octo/hello/actions/runs?status=queued&per_page=100" => {
                tagged(seen, "W/\"q\"", runs(&[3, 2])).header("link", link)
            }
            "/two" => tagged(seen, "W/\"two\"", runs(&[1])),
            "/repos/octo/hello/actions/runs?status=in_progress&per_page=100" => tagged(seen, "\"p\"", runs(&[2])),
            _ => return None,
        })
    })
    .await;
    let adapters = wire.adapters();
    for charged in [3, 0, 0] {
        let read = adapters.open_runs(&hello(), ID).await.expect("three pages");
        assert_eq!(read.value, [RunId(1), RunId(2), RunId(3)], "each once, in both lists or one");
        assert_eq!(read.charged, charged);
    }
    let tags: Vec<String> =
        wire.seen().iter().map(|seen| seen.header("if-none-match").to_owned()).filter(|tag| !tag.is_empty()).collect();
    assert_eq!(tags, ["W/\"q\"", "W/\"two\"", "\"p\"", "W/\"q\"", "W/\"two\"", "\"p\""], "as GitHub wrote them");
}

#[tokio::test]
async fn a_list_that_has_changed_is_read_anew_and_one_without_tag_every_time() {
    let asked = AtomicUsize::new(0);
    let wire = Wire::start(move |seen| {
        if seen.target.contains("status=in_progress") {
            return Some(Reply::new(200, runs(&[])));
        }
        let n = asked.fetch_add(usize::from(seen.target.contains("status=queued")), Ordering::SeqCst);
        let (tag, ids): (&str, &[u64]) = if n < 2 { ("\"old\"", &[1]) } else { ("\"new\"", &[1, 2]) };
        seen.target.contains("status=queued").then(|| tagged(seen, tag, runs(ids)))
    })
    .await;
    let adapters = wire.adapters();
    for (charged, count) in [(2, 1), (1, 1), (2, 2), (1, 2)] {
        let read = adapters.open_runs(&hello(), ID).await.expect("a list");
        assert_eq!((read.charged, read.value.len()), (charged, count));
    }
}

#[tokio::test]
async fn two_installations_repositories_are_two_lists() {
    let wire = Wire::start(|seen| {
        let octo = seen.header("authorization").contains("/7/");
        let (tag, name) = if octo { ("\"7\"", "octo/hello") } else { ("\"8\"", "acme/shop") };
        let gone = json!({ "full_name": format!("{name}-old"), "archived": true });
        let off = json!({ "full_name": format!("{name}-off"), "disabled": true });
        let body = json!({ "total_count": 3, "repositories": [gone, off, { "id": 5, "full_name": name, "owner": { "id": 6 }, "archived": false }] });
        (seen.target == "/installation/repositories?per_page=100").then(|| tagged(seen, tag, body))
    })
    .await;
    let adapters = wire.adapters();
    let acme = Installation { id: InstallationId(8), owner: "acme".into(), owner_id: None, kind: AccountKind::User };
    for charged in [1, 0] {
        for (installation, name) in [(octo(), "octo/hello"), (acme.clone(), "acme/shop")] {
            let listed = adapters.repositories_of(&installation).await.expect("a list");
            let [one] = listed.value.as_slice() else { panic!("nothing runs in the others: {listed:?}") };
            assert_eq!((one.repository.to_string().as_str(), listed.charged), (name, charged));
            assert_eq!((one.id, one.owner_id), (Some(5), Some(6)));
        }
    }
}

#[tokio::test]
async fn the_apps_installations_are_read_to_the_last_page_without_the_suspended() {
    let one = |id: u64, login: &str, kind: &str, suspended: Option<&str>| json!({ "id": id, "account": { "id": id + 100, "login": login, "type": kind }, "suspended_at": suspended });
    let wire = Wire::start(move |seen| {
        let link = format!(r#"<http://{}/two>; rel="next""#, seen.header("host"));
        Some(match seen.target.as_str() {
            "/app/installations?per_page=100" => {
                let page =
                    json!([one(7, "octo", "Organization", None), one(9, "gone", "User", Some("2026-01-02T00:00:00Z"))]);
                Reply::new(200, page).header("link", link)
            }
            "/two" => {
                Reply::new(200, json!([one(8, "ada", "User", None), { "id": 10, "account": { "slug": "enterprise" } }]))
            }
            _ => return None,
        })
    })
    .await;
    let listed = wire.adapters().installations().await.expect("two pages");
    let ada = Installation { id: InstallationId(8), owner: "ada".into(), owner_id: Some(108), kind: AccountKind::User };
    assert_eq!(listed, [octo(), ada]);
}

#[tokio::test]
async fn the_jobs_of_a_run_are_read_with_all_that_a_launch_needs() {
    let queued = json!({ "id": 4_294_967_297_u64, "run_id": 5, "run_attempt": 2, "status": "queued", "labels": ["self-hosted", "linux"],
        "created_at": "2026-11-20T12:00:00Z", "runner_id": null, "runner_name": null });
    let running = json!({ "id": 22, "run_id": 5, "status": "in_progress", "labels": [], "runner_id": 9, "runner_name": "runner-i-1" });
    let wire = Wire::start(move |seen| {
        (seen.target == "/repos/octo/hello/actions/runs/5/jobs?filter=latest&per_page=100")
            .then(|| tagged(seen, "\"j\"", json!({ "total_count": 2, "jobs": [queued, running] })))
    })
    .await;
    let adapters = wire.adapters();
    for charged in [1, 0] {
        let read = adapters.jobs_of_run(&hello(), ID, RunId(5)).await.expect("a list");
        let [first, second] = read.value.as_slice() else { panic!("two jobs") };
        assert_eq!((first.id, first.run_attempt, first.state), (JobId(4_294_967_297), 2, JobState::Queued));
        assert_eq!(first.created_at, Timestamp::parse("2026-11-20T12:00:00Z"));
        assert_eq!((first.labels.len(), &first.runner_name), (2, &None));
        assert_eq!(
            (second.state, second.runner_name.clone()),
            (JobState::InProgress, Some(RunnerName::new("runner-i-1")))
        );
        assert_eq!((second.run_attempt, read.charged), (1, charged));
    }
}

#[tokio::test]
async fn what_is_no_list_is_an_error_of_its_class() {
    for (case, reply, expected) in [
        ("no permission", Reply::new(403, r#"{"message": "Resource not accessible by integration"}"#), Class::Denied),
        ("no such repository", Reply::new(404, "{}"), Class::Absent),
        ("server fault", Reply::new(502, "{}"), Class::Transient),
        ("late", Reply::new(200, runs(&[])).late(), Class::Transient),
        ("no JSON", Reply::new(200, "<html>"), Class::Transient),
        ("304 of nothing that we know", Reply::new(304, ""), Class::Transient),
        (
            "patience",
            Reply::new(429, "").header("retry-after", "9"),
            Class::Throttled { retry_after: Some(Duration::from_secs(9)) },
        ),
    ] {
        let wire = Wire::start(move |seen| seen.target.starts_with("/repos").then(|| reply.clone())).await;
        let adapters = wire.adapters();
        let refused = adapters.open_runs(&hello(), ID).await.expect_err(case);
        assert_eq!(refused.class(), expected, "{case}: {refused}");
        let refused = wire.adapters().jobs_of_run(&hello(), ID, RunId(1)).await.expect_err(case);
        assert_eq!(refused.class(), expected, "{case}: {refused}");
    }
}

#[tokio::test]
async fn one_repositorys_refusal_is_not_anothers() {
    let wire = Wire::start(|seen| {
        let hello = seen.target.starts_with("/repos/octo/hello/");
        let reply = || if hello { Reply::new(200, runs(&[1])) } else { Reply::new(404, "{}") };
        seen.target.starts_with("/repos").then(reply)
    })
    .await;
    let adapters = wire.adapters();
    let other = Repository::try_from("octo/gone".to_owned()).expect("a full name");
    assert_eq!(adapters.open_runs(&other, ID).await.expect_err("gone").class(), Class::Absent);
    assert_eq!(adapters.open_runs(&hello(), ID).await.expect("a list").value, [RunId(1)]);
}

#[tokio::test]
async fn the_budget_is_what_the_last_answer_said_a_304_too() {
    let left = AtomicUsize::new(4_999);
    let wire = Wire::start(move |seen| {
        let left = left.fetch_sub(usize::from(seen.target.starts_with("/repos")), Ordering::SeqCst).to_string();
        seen.target.starts_with("/repos").then(|| {
            tagged(seen, "\"x\"", runs(&[]))
                .header("x-ratelimit-limit", "5000")
                .header("x-ratelimit-remaining", left)
                .header("x-ratelimit-reset", "1800000000")
                .header("x-ratelimit-resource", "core")
        })
    })
    .await;
    let adapters = wire.adapters();
    assert_eq!(adapters.budget("octo").await, None, "nobody was asked yet");
    for remaining in [4_998, 4_996] {
        adapters.open_runs(&hello(), ID).await.expect("two lists");
        let expected = ApiBudget { limit: 5_000, remaining, resets_at: Timestamp(1_800_000_000_000) };
        assert_eq!(adapters.budget("Octo").await, Some(expected), "logins ignore case");
    }
    assert_eq!(adapters.budget("other").await, None);
}

#[tokio::test]
async fn each_answer_to_a_redelivery_has_its_meaning() {
    for (case, reply, expected) in [
        ("accepted", Reply::new(202, "{}"), Ok(())),
        ("too old", Reply::new(422, r#"{"message": "Validation Failed"}"#), Err(Class::Rejected)),
        ("bad", Reply::new(400, "{}"), Err(Class::Rejected)),
        ("unknown", Reply::new(404, "{}"), Err(Class::Absent)),
        ("denied", Reply::new(403, "{}"), Err(Class::Denied)),
        ("server fault", Reply::new(502, "{}"), Err(Class::OutcomeUnknown)),
        ("late", Reply::new(202, "{}").late(), Err(Class::OutcomeUnknown)),
        ("another success is none", Reply::new(200, "{}"), Err(Class::OutcomeUnknown)),
        (
            "patience",
            Reply::new(403, "").header("retry-after", "30"),
            Err(Class::Throttled { retry_after: Some(Duration::from_secs(30)) }),
        ),
    ] {
        let wire = Wire::start(move |seen| seen.target.starts_with("/app/hook").then(|| reply.clone())).await;
        let result = wire.adapters().redeliver(42).await.map_err(|error| error.class());
        assert_eq!(result, expected, "{case}");
        assert_eq!(wire.calls(), ["POST /app/hook/deliveries/42/attempts"], "{case}: once");
        let seen = wire.seen();
        // A refusal that asks for patience is written to the ledger after it.
        let call = seen.iter().find(|seen| seen.target.ends_with("/attempts")).expect("a request");
        assert_eq!(call.header("authorization").split('.').count(), 3, "{case}: the App's own token");
    }
}
