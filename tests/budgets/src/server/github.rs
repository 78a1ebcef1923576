//! GitHub's REST API for one organisation with one repository and one installation of the App.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Bytes;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use serde_json::{Value, json};

use super::reply::Reply;

/// Entries a page where none is asked for, and the most.
const PER_PAGE: (usize, usize) = (30, 100);

/// Length of a JIT configuration; one of more than 4 KiB needs SSM's advanced tier.
const CONFIG_BYTES: usize = 3_500;

/// How installation tokens begin; what the App signs itself never does.
const TOKEN_PREFIX: &str = "ghs_";

/// The organisation.
#[derive(Debug, Default)]
pub struct GitHub {
    /// Its registrations by id.
    pub runners: BTreeMap<u64, Runner>,
    /// Its repository's jobs by id.
    pub jobs: BTreeMap<u64, Job>,
    /// Jobs that nobody has taken yet.
    pub queued: BTreeSet<u64>,
}

/// One registration, ephemeral and connected before.
#[derive(Clone, Debug)]
pub struct Runner {
    /// Its name.
    pub name: String,
    /// `status` is `online`.
    pub online: bool,
    /// `busy`; a DELETE is then refused with 422.
    pub busy: bool,
}

/// One job in progress.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its run.
    pub run_id: u64,
    /// Its runner.
    pub runner_id: u64,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
enum Route<'a> {
    Installation,
    AccessToken,
    Deliveries,
    Repositories,
    Runners,
    RunnersNamed,
    Runner(&'a str),
    DeleteRunner(&'a str),
    GenerateJitConfig,
    Job(&'a str),
    Runs,
    JobsOfRun(&'a str),
}

impl GitHub {
    /// The organisation's login.
    pub const OWNER: &'static str = "octo";
    /// Its repository, `owner/name`.
    pub const REPOSITORY: &'static str = "octo/hello";
    /// The App's installation there.
    pub const INSTALLATION_ID: u64 = 7;

    /// The call's method and kind, and its answer; `None` where it is not spoken here.
    pub(super) fn answer(&mut self, parts: &Parts, body: &Bytes) -> (String, Option<Reply>) {
        let query: BTreeMap<String, String> =
            form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        let Some(route) = route(&parts.method, parts.uri.path(), &query) else {
            return (format!("{} {}", parts.method, parts.uri.path()), None);
        };
        let reply = if route.is_authorized(&parts.headers) {
            self.carry_out(route, parts, &query, body)
        } else {
            Reply::json(StatusCode::UNAUTHORIZED, &json!({ "message": "Bad credentials" }))
        };
        (route.kind().to_owned(), Some(reply))
    }

    fn carry_out(&mut self, route: Route<'_>, parts: &Parts, query: &BTreeMap<String, String>, body: &Bytes) -> Reply {
        let page = |key: &str, all: Vec<Value>| page(key, &all, parts, query);
        match route {
            Route::Installation => Reply::json(StatusCode::OK, &json!({ "id": Self::INSTALLATION_ID })),
            Route::AccessToken => {
                let token = json!({ "token": format!("{TOKEN_PREFIX}counted"), "expires_at": "2999-01-01T00:00:00Z" });
                Reply::json(StatusCode::CREATED, &token)
            }
            Route::Deliveries => Reply::json(StatusCode::OK, &json!([])),
            Route::Repositories => {
                let (owner, name) = Self::REPOSITORY.split_once('/').unwrap_or_default();
                let repository =
                    json!({ "id": 1, "name": name, "full_name": Self::REPOSITORY, "owner": { "login": owner } });
                page("repositories", vec![repository])
            }
            Route::Runners => page("runners", self.runners.iter().map(runner).collect()),
            Route::RunnersNamed => {
                let named = |(_, runner): &(&u64, &Runner)| query.get("name") == Some(&runner.name);
                page("runners", self.runners.iter().filter(named).map(runner).collect())
            }
            Route::Runner(id) => found(self.known_runner(id).map(runner)),
            Route::DeleteRunner(id) => match self.known_runner(id).map(|(id, runner)| (*id, runner.busy)) {
                None => found(None),
                Some((_, true)) => {
                    let message = json!({ "message": "Runner is currently running a job and cannot be deleted." });
                    Reply::json(StatusCode::UNPROCESSABLE_ENTITY, &message)
                }
                Some((id, false)) => {
                    self.runners.remove(&id);
                    Reply::empty(StatusCode::NO_CONTENT)
                }
            },
            Route::GenerateJitConfig => self.generate_jit_config(body),
            Route::Job(id) if id.parse().is_ok_and(|id: u64| self.queued.contains(&id)) => {
                let queued = json!({ "id": id.parse::<u64>().ok(), "run_id": 1, "run_attempt": 1, "status": "queued",
                    "conclusion": null, "runner_id": null, "completed_at": null, "labels": ["self-hosted", "linux"] });
                Reply::json(StatusCode::OK, &queued)
            }
            Route::Job(id) => found(id.parse().ok().and_then(|id: u64| self.jobs.get_key_value(&id)).map(job)),
            Route::Runs => {
                // Every job here is in progress, and so is its run.
                let wanted = query.get("status").is_none_or(|status| status == "in_progress");
                let runs: BTreeSet<u64> = self.jobs.values().filter(|_| wanted).map(|job| job.run_id).collect();
                let runs = runs.into_iter().map(|id| json!({ "id": id, "run_attempt": 1, "status": "in_progress" }));
                page("workflow_runs", runs.collect())
            }
            Route::JobsOfRun(id) => {
                let of_run = |(_, job): &(&u64, &Job)| id.parse() == Ok(job.run_id);
                page("jobs", self.jobs.iter().filter(of_run).map(job).collect())
            }
        }
    }

    /// An offline registration from now on, and a configuration of the usual length.
    fn generate_jit_config(&mut self, body: &Bytes) -> Reply {
        let request: Value = serde_json::from_slice(body).unwrap_or_default();
        let Some(name) = request["name"].as_str().filter(|_| request["runner_group_id"].is_u64()) else {
            return Reply::json(StatusCode::UNPROCESSABLE_ENTITY, &json!({ "message": "Validation Failed" }));
        };
        if self.runners.values().any(|runner| runner.name == name) {
            return Reply::json(StatusCode::CONFLICT, &json!({ "message": "Already exists" }));
        }
        let id = self.runners.keys().next_back().map_or(1, |last| last + 1);
        let registered = Runner { name: name.to_owned(), online: false, busy: false };
        let shown = runner((&id, &registered));
        self.runners.insert(id, registered);
        let config = "a".repeat(CONFIG_BYTES);
        Reply::json(StatusCode::CREATED, &json!({ "runner": shown, "encoded_jit_config": config }))
    }

    fn known_runner(&self, id: &str) -> Option<(&u64, &Runner)> {
        self.runners.get_key_value(&id.parse().ok()?)
    }
}

impl Route<'_> {
    /// As it is counted.
    fn kind(self) -> &'static str {
        match self {
            Self::Installation => "GET installation",
            Self::AccessToken => "POST access_tokens",
            Self::Deliveries => "GET deliveries",
            Self::Repositories => "GET repositories",
            Self::Runners => "GET runners",
            Self::RunnersNamed => "GET runners by name",
            Self::Runner(_) => "GET runner",
            Self::DeleteRunner(_) => "DELETE runner",
            Self::GenerateJitConfig => "POST generate-jitconfig",
            Self::Job(_) => "GET job",
            Self::Runs => "GET runs",
            Self::JobsOfRun(_) => "GET jobs of a run",
        }
    }

    /// Whether it came with the kind of token that GitHub asks for.
    fn is_authorized(self, headers: &HeaderMap) -> bool {
        let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let of_installation =
            token.and_then(|value| value.strip_prefix("Bearer ")).map(|t| t.starts_with(TOKEN_PREFIX));
        let by_app = match self {
            Self::Installation | Self::AccessToken | Self::Deliveries => true,
            Self::Repositories
            | Self::Runners
            | Self::RunnersNamed
            | Self::Runner(_)
            | Self::DeleteRunner(_)
            | Self::GenerateJitConfig
            | Self::Job(_)
            | Self::Runs
            | Self::JobsOfRun(_) => false,
        };
        of_installation == Some(!by_app)
    }
}

fn route<'a>(method: &Method, path: &'a str, query: &BTreeMap<String, String>) -> Option<Route<'a>> {
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let (owner, repository) = GitHub::REPOSITORY.split_once('/')?;
    let get = method == Method::GET;
    Some(match segments.as_slice() {
        ["orgs", org, "installation"] if get && *org == owner => Route::Installation,
        ["repos", org, repo, "installation"] if get && (*org, *repo) == (owner, repository) => Route::Installation,
        ["app", "installations", id, "access_tokens"]
            if method == Method::POST && id.parse() == Ok(GitHub::INSTALLATION_ID) =>
        {
            Route::AccessToken
        }
        ["app", "hook", "deliveries"] if get => Route::Deliveries,
        ["installation", "repositories"] if get => Route::Repositories,
        ["orgs", org, "actions", "runners"] if get && *org == owner && query.contains_key("name") => {
            Route::RunnersNamed
        }
        ["orgs", org, "actions", "runners"] if get && *org == owner => Route::Runners,
        ["orgs", org, "actions", "runners", "generate-jitconfig"] if method == Method::POST && *org == owner => {
            Route::GenerateJitConfig
        }
        ["orgs", org, "actions", "runners", id] if get && *org == owner => Route::Runner(id),
        ["orgs", org, "actions", "runners", id] if method == Method::DELETE && *org == owner => Route::DeleteRunner(id),
        ["repos", org, repo, "actions", rest @ ..] if get && (*org, *repo) == (owner, repository) => match rest {
            ["jobs", id] => Route::Job(id),
            ["runs"] => Route::Runs,
            ["runs", id, "jobs"] => Route::JobsOfRun(id),
            _ => return None,
        },
        _ => return None,
    })
}

fn runner((id, runner): (&u64, &Runner)) -> Value {
    json!({
        "id": id, "name": runner.name, "os": "linux", "status": if runner.online { "online" } else { "offline" },
        "busy": runner.busy, "ephemeral": true, "version": "2.336.0", "runner_group_id": 1,
        "labels": [{ "id": 1, "name": "self-hosted", "type": "read-only" }, { "id": 2, "name": "linux", "type": "custom" }],
    })
}

fn job((id, job): (&u64, &Job)) -> Value {
    json!({
        "id": id, "run_id": job.run_id, "run_attempt": 1, "status": "in_progress", "conclusion": null,
        "runner_id": job.runner_id, "completed_at": null, "labels": ["self-hosted", "linux"],
    })
}

fn found(body: Option<Value>) -> Reply {
    match body {
        Some(body) => Reply::json(StatusCode::OK, &body),
        None => Reply::json(StatusCode::NOT_FOUND, &json!({ "message": "Not Found" })),
    }
}

/// One page with GitHub's count of all, and where the next is.
fn page(key: &str, all: &[Value], parts: &Parts, query: &BTreeMap<String, String>) -> Reply {
    let number = |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok()).filter(|number| *number > 0);
    let size = number("per_page").unwrap_or(PER_PAGE.0).min(PER_PAGE.1);
    let current = number("page").unwrap_or(1);
    let entries: Vec<&Value> = all.iter().skip((current - 1) * size).take(size).collect();
    let last = all.len().div_ceil(size);
    let link = (current < last).then(|| {
        let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
        let address = |page: usize| {
            let mut changed = query.clone();
            changed.insert("page".to_owned(), page.to_string());
            let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(changed).finish();
            format!("http://{host}{}?{query}", parts.uri.path())
        };
        format!("<{}>; rel=\"next\", <{}>; rel=\"last\"", address(current + 1), address(last))
    });
    Reply::json(StatusCode::OK, &json!({ "total_count": all.len(), key: entries })).linked(link)
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn github(count: u64) -> GitHub {
        let runner = |busy| Runner { name: "runner".to_owned(), online: true, busy };
        GitHub {
            runners: (1..=count).map(|id| (id, runner(id == 2))).collect(),
            jobs: (1..=count).map(|id| (id, Job { run_id: id.div_ceil(100), runner_id: id })).collect(),
            queued: BTreeSet::new(),
        }
    }

    fn call(github: &mut GitHub, method: &str, target: &str, token: &str) -> (String, Reply) {
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", "127.0.0.1:1")
            .header("authorization", format!("Bearer {token}"))
            .body(())
            .expect("a request");
        let (kind, reply) = github.answer(&request.into_parts().0, &Bytes::new());
        (kind, reply.expect("spoken"))
    }

    #[test]
    fn runners_are_listed_to_the_last_page_with_the_count_of_all() {
        let mut github = github(250);
        let mut target = "/orgs/octo/actions/runners?per_page=100".to_owned();
        let mut sizes = Vec::new();
        loop {
            let (kind, reply) = call(&mut github, "GET", &target, "ghs_counted");
            assert_eq!(kind, "GET runners");
            let (_, link, body) = reply.parts();
            let body: Value = serde_json::from_str(body).expect("JSON");
            assert_eq!(body["total_count"], 250);
            sizes.push(body["runners"].as_array().expect("a list").len());
            let Some(link) = link else { break };
            let next = link.split('>').next().expect("an address").trim_start_matches("<http://127.0.0.1:1");
            target = next.to_owned();
        }
        assert_eq!(sizes, [100, 100, 50]);
    }

    #[test]
    fn a_busy_runner_is_not_deleted_and_a_deleted_one_is_not_found() {
        let mut github = github(2);
        for (case, method, id, expected) in [
            ("idle", "DELETE", 1, 204),
            ("deleted already", "DELETE", 1, 404),
            ("deleted already", "GET", 1, 404),
            ("busy", "DELETE", 2, 422),
            ("still there", "GET", 2, 200),
        ] {
            let (_, reply) = call(&mut github, method, &format!("/orgs/octo/actions/runners/{id}"), "ghs_counted");
            assert_eq!(reply.parts().0, expected, "{case}: {method} {id}");
        }
    }

    #[test]
    fn a_name_is_registered_once_and_a_queued_job_is_nobodys() {
        let mut github = GitHub { queued: [7].into(), ..github(1) };
        let mut register = |name: &str| {
            let request = Request::builder()
                .method("POST")
                .uri("/orgs/octo/actions/runners/generate-jitconfig")
                .header("authorization", "Bearer ghs_counted")
                .body(())
                .expect("a request");
            let body = json!({ "name": name, "runner_group_id": 1, "labels": ["linux"], "work_folder": "_work" });
            let (_, reply) = github.answer(&request.into_parts().0, &Bytes::from(body.to_string()));
            reply.expect("spoken").parts().0
        };
        assert_eq!([register("one"), register("one"), register("two")], [201, 409, 201]);
        let (_, reply) = call(&mut github, "GET", "/repos/octo/hello/actions/jobs/7", "ghs_counted");
        let job: Value = serde_json::from_str(reply.parts().2).expect("JSON");
        assert_eq!((&job["status"], &job["runner_id"]), (&json!("queued"), &Value::Null));
    }

    #[test]
    fn each_call_needs_its_own_kind_of_token() {
        let mut github = github(1);
        for (target, with_app, with_installation) in [
            ("/orgs/octo/installation", 200, 401),
            ("/app/hook/deliveries?per_page=100", 200, 401),
            ("/installation/repositories", 401, 200),
            ("/repos/octo/hello/actions/jobs/1", 401, 200),
            ("/repos/octo/hello/actions/jobs/9", 401, 404),
            ("/repos/octo/hello/actions/runs?status=in_progress", 401, 200),
            ("/repos/octo/hello/actions/runs/1/jobs", 401, 200),
        ] {
            let mut status = |token| call(&mut github, "GET", target, token).1.parts().0;
            assert_eq!(
                (status("header.claims.signature"), status("ghs_counted")),
                (with_app, with_installation),
                "{target}"
            );
        }
        let (kind, reply) = call(&mut github, "POST", "/app/installations/7/access_tokens", "header.claims.signature");
        assert_eq!((kind.as_str(), reply.parts().0), ("POST access_tokens", 201));
    }

    #[test]
    fn what_is_not_spoken_is_not_answered() {
        let mut github = github(1);
        for target in ["/orgs/other/actions/runners", "/repos/octo/other/actions/jobs/1", "/zen"] {
            let request = Request::builder().uri(target).body(()).expect("a request");
            assert!(github.answer(&request.into_parts().0, &Bytes::new()).1.is_none(), "{target}");
        }
    }
}
