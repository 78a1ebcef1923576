//! GitHub's REST API for one organisation with one installation of the App: one repository with everything in it, and
//! others that have queued jobs at most.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use runner_scaler_adapters::SystemClock;
use runner_scaler_core::time::{Clock as _, Timestamp};
use serde_json::{Value, json};

use super::reply::Reply;

/// Entries a page where none is asked for, and the most.
const PER_PAGE: (usize, usize) = (30, 100);

/// Length of a JIT configuration: near the most that a standard parameter takes, as GitHub's are.
const JIT_CONFIG_BYTES: usize = 4_000;

/// How installation tokens begin; what the App signs itself never does.
const TOKEN_PREFIX: &str = "ghs_";

/// The organisation.
#[derive(Debug, Default)]
pub struct GitHub {
    /// Its registrations by id.
    pub runners: BTreeMap<u64, Runner>,
    /// Its repository's jobs by id.
    pub jobs: BTreeMap<u64, Job>,
    /// Names of its other repositories, and of each the queued job that alone makes its only run.
    pub others: BTreeMap<String, Option<u64>>,
    limit: Option<Limit>,
}

/// The limit of a minute on the calls of the installation, as GitHub counts it.
#[derive(Debug)]
struct Limit {
    points_a_minute: u32,
    /// What was spent in the last minute, and when.
    spent: VecDeque<(Timestamp, u32)>,
    refused: usize,
}

impl Limit {
    /// Whether one more call is allowed; a refused one costs nothing here.
    fn allows(&mut self, points: u32, now: Timestamp) -> bool {
        while self.spent.front().is_some_and(|(at, _)| now.since(*at) >= Duration::from_mins(1)) {
            self.spent.pop_front();
        }
        let sum: u32 = self.spent.iter().map(|(_, points)| points).sum();
        let allowed = sum + points <= self.points_a_minute;
        if allowed {
            self.spent.push_back((now, points));
        } else {
            self.refused += 1;
        }
        allowed
    }
}

/// One registration, ephemeral.
#[derive(Clone, Debug)]
pub struct Runner {
    /// Its name.
    pub name: String,
    /// `status` is `online`; one that is not has never connected.
    pub online: bool,
    /// `busy`; a DELETE is then refused with 422.
    pub busy: bool,
}

/// One job.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its run.
    pub run_id: u64,
    /// Its runner, where it is in progress; none while it is queued.
    pub runner_id: Option<u64>,
}

impl Job {
    fn status(&self) -> &'static str {
        if self.runner_id.is_some() { "in_progress" } else { "queued" }
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
enum Route<'a> {
    Installation,
    Installations,
    AccessToken,
    Deliveries,
    Repositories,
    Runners,
    RunnersNamed,
    GenerateJitConfig,
    Runner(&'a str),
    DeleteRunner(&'a str),
    Job(&'a str),
    Runs,
    JobsOfRun(&'a str),
    RunsOfOther(&'a str),
    JobsOfOther(&'a str),
}

impl GitHub {
    /// The organisation's login.
    pub const OWNER: &'static str = "octo";
    /// Its repository, `owner/name`.
    pub const REPOSITORY: &'static str = "octo/hello";
    /// How the names of its other repositories begin.
    pub const OTHERS: &'static str = "other-";
    /// The App's installation there.
    pub const INSTALLATION_ID: u64 = 7;

    /// What GitHub allows, 1 for a GET and 5 for what changes something (documentation, "Rate limits for the REST API",
    /// read 2026-11-20).
    pub const POINTS_A_MINUTE: u32 = 900;

    /// From now on more points in a minute are refused, as GitHub refuses them.
    pub fn allow_a_minute(&mut self, points_a_minute: u32) {
        self.limit = Some(Limit { points_a_minute, spent: VecDeque::new(), refused: 0 });
    }

    /// How often more was refused.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.limit.as_ref().map_or(0, |limit| limit.refused)
    }

    /// Whether the limit of a minute lets the call pass; the App's own calls are another's.
    fn is_allowed(&mut self, method: &Method, path: &str, now: Timestamp) -> bool {
        let points = if *method == Method::GET { 1 } else { 5 };
        let of_installation = !path.starts_with("/app/");
        self.limit.as_mut().filter(|_| of_installation).is_none_or(|limit| limit.allows(points, now))
    }

    /// The call's method and kind, and its answer; `None` where it is not spoken here.
    pub(super) fn answer(&mut self, parts: &Parts, body: &Bytes) -> (String, Option<Reply>) {
        let query: BTreeMap<String, String> =
            form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        let Some(route) = route(&parts.method, parts.uri.path(), &query) else {
            return (format!("{} {}", parts.method, parts.uri.path()), None);
        };
        let reply = if !self.is_allowed(&parts.method, parts.uri.path(), SystemClock.now()) {
            let message = json!({ "message": "You have exceeded a secondary rate limit." });
            Reply::json(StatusCode::FORBIDDEN, &message).retry_after(60)
        } else if route.is_authorized(&parts.headers) {
            self.carry_out(route, parts, &query, body)
        } else {
            Reply::json(StatusCode::UNAUTHORIZED, &json!({ "message": "Bad credentials" }))
        };
        // What the caller knows already is not sent, and GitHub does not charge it.
        let reply = reply.tagged(&parts.headers);
        let kind = if reply.is_not_modified() { format!("304 {}", route.kind()) } else { route.kind().to_owned() };
        (kind, Some(reply))
    }

    fn carry_out(&mut self, route: Route<'_>, parts: &Parts, query: &BTreeMap<String, String>, body: &Bytes) -> Reply {
        let page = |key: &str, all: Vec<Value>| page(key, &all, parts, query);
        match route {
            Route::Installation => Reply::json(StatusCode::OK, &json!({ "id": Self::INSTALLATION_ID })),
            Route::Installations => {
                let account = json!({ "login": Self::OWNER, "type": "Organization" });
                let one = json!({ "id": Self::INSTALLATION_ID, "account": account, "suspended_at": null });
                Reply::json(StatusCode::OK, &json!([one]))
            }
            Route::AccessToken => {
                let token = json!({ "token": format!("{TOKEN_PREFIX}counted"), "expires_at": "2999-01-01T00:00:00Z" });
                Reply::json(StatusCode::CREATED, &token)
            }
            Route::Deliveries => Reply::json(StatusCode::OK, &json!([])),
            Route::Repositories => {
                let (owner, name) = Self::REPOSITORY.split_once('/').unwrap_or_default();
                let all = std::iter::once(name).chain(self.others.keys().map(String::as_str));
                let shown = all.map(|name| {
                    let full_name = format!("{owner}/{name}");
                    json!({ "id": 1, "name": name, "full_name": full_name, "owner": { "login": owner }, "archived": false })
                });
                page("repositories", shown.collect())
            }
            Route::Runners => page("runners", self.runners.iter().map(runner).collect()),
            Route::RunnersNamed => {
                let named = |(_, runner): &(&u64, &Runner)| query.get("name") == Some(&runner.name);
                page("runners", self.runners.iter().filter(named).map(runner).collect())
            }
            Route::GenerateJitConfig => self.generate_jit_config(body),
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
            Route::Job(id) => {
                found(id.parse().ok().and_then(|id: u64| self.jobs.get_key_value(&id)).map(|job| self.job(job)))
            }
            Route::Runs => {
                // The jobs of a run are all in the same state here, and so is the run.
                let wanted = |job: &&Job| query.get("status").is_none_or(|status| status == job.status());
                let runs: BTreeSet<(u64, &str)> =
                    self.jobs.values().filter(wanted).map(|job| (job.run_id, job.status())).collect();
                let shown = |(id, status): (u64, &str)| json!({ "id": id, "run_attempt": 1, "status": status });
                page("workflow_runs", runs.into_iter().map(shown).collect())
            }
            Route::RunsOfOther(name) => {
                let queued = self
                    .others
                    .get(name)
                    .copied()
                    .flatten()
                    .filter(|_| query.get("status").is_none_or(|status| status == "queued"));
                let runs = queued.map(|id| json!({ "id": id, "run_attempt": 1, "status": "queued" }));
                page("workflow_runs", runs.into_iter().collect())
            }
            Route::JobsOfOther(name) => {
                let queued = self.others.get(name).copied().flatten();
                page("jobs", queued.map(queued_job).into_iter().collect())
            }
            Route::JobsOfRun(id) => {
                let of_run = |(_, job): &(&u64, &Job)| id.parse() == Ok(job.run_id);
                page("jobs", self.jobs.iter().filter(of_run).map(|job| self.job(job)).collect())
            }
        }
    }

    /// A new registration and its configuration; a name is taken once.
    fn generate_jit_config(&mut self, body: &Bytes) -> Reply {
        let request: Value = serde_json::from_slice(body).unwrap_or_default();
        let fields = (request["name"].as_str(), request["runner_group_id"].as_u64(), request["labels"].as_array());
        let (Some(name), Some(_), Some(_)) = fields else {
            let message = json!({ "message": "Invalid request." });
            return Reply::json(StatusCode::UNPROCESSABLE_ENTITY, &message);
        };
        if self.runners.values().any(|runner| runner.name == name) {
            let message =
                json!({ "message": format!("Already exists - A runner with the name {name} already exists.") });
            return Reply::json(StatusCode::CONFLICT, &message);
        }
        let id = self.runners.last_key_value().map_or(1, |(last, _)| last + 1);
        let registered = Runner { name: name.to_owned(), online: false, busy: false };
        let shown = runner((&id, &registered));
        self.runners.insert(id, registered);
        let config = format!("{id:0>JIT_CONFIG_BYTES$}");
        Reply::json(StatusCode::CREATED, &json!({ "runner": shown, "encoded_jit_config": config }))
    }

    fn known_runner(&self, id: &str) -> Option<(&u64, &Runner)> {
        self.runners.get_key_value(&id.parse().ok()?)
    }

    /// As GitHub shows it, its runner by id and by name.
    fn job(&self, (id, job): (&u64, &Job)) -> Value {
        let runner = job.runner_id.and_then(|id| self.runners.get(&id));
        json!({
            "id": id, "run_id": job.run_id, "run_attempt": 1, "status": job.status(), "conclusion": null,
            "runner_id": job.runner_id, "runner_name": runner.map(|runner| &runner.name), "completed_at": null,
            "labels": ["self-hosted", "linux"],
        })
    }
}

impl Route<'_> {
    /// As it is counted.
    fn kind(self) -> &'static str {
        match self {
            Self::Installation => "GET installation",
            Self::Installations => "GET installations",
            Self::AccessToken => "POST access_tokens",
            Self::Deliveries => "GET deliveries",
            Self::Repositories => "GET repositories",
            Self::Runners => "GET runners",
            Self::RunnersNamed => "GET runners by name",
            Self::GenerateJitConfig => "POST generate-jitconfig",
            Self::Runner(_) => "GET runner",
            Self::DeleteRunner(_) => "DELETE runner",
            Self::Job(_) => "GET job",
            Self::Runs | Self::RunsOfOther(_) => "GET runs",
            Self::JobsOfRun(_) | Self::JobsOfOther(_) => "GET jobs of a run",
        }
    }

    /// Whether it came with the kind of token that GitHub asks for.
    fn is_authorized(self, headers: &HeaderMap) -> bool {
        let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let of_installation =
            token.and_then(|value| value.strip_prefix("Bearer ")).map(|t| t.starts_with(TOKEN_PREFIX));
        let by_app = match self {
            Self::Installation | Self::Installations | Self::AccessToken | Self::Deliveries => true,
            Self::Repositories
            | Self::Runners
            | Self::RunnersNamed
            | Self::GenerateJitConfig
            | Self::Runner(_)
            | Self::DeleteRunner(_)
            | Self::Job(_)
            | Self::Runs
            | Self::JobsOfRun(_)
            | Self::RunsOfOther(_)
            | Self::JobsOfOther(_) => false,
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
        ["app", "installations"] if get => Route::Installations,
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
        ["repos", org, repo, "actions", rest @ ..] if get && *org == owner && repo.starts_with(GitHub::OTHERS) => {
            match rest {
                ["runs"] => Route::RunsOfOther(repo),
                ["runs", _, "jobs"] => Route::JobsOfOther(repo),
                _ => return None,
            }
        }
        _ => return None,
    })
}

fn runner((id, runner): (&u64, &Runner)) -> Value {
    json!({
        "id": id, "name": runner.name, "os": "linux", "status": if runner.online { "online" } else { "offline" },
        "busy": runner.busy, "ephemeral": true, "version": runner.online.then_some("2.336.0"), "runner_group_id": 1,
        "labels": [{ "id": 1, "name": "self-hosted", "type": "read-only" }, { "id": 2, "name": "linux", "type": "custom" }],
    })
}

/// The job of a run of the same id.
fn queued_job(id: u64) -> Value {
    json!({
        "id": id, "run_id": id, "run_attempt": 1, "status": "queued", "conclusion": null, "runner_id": null,
        "runner_name": null, "completed_at": null, "created_at": "2026-11-20T12:00:00Z", "labels": ["self-hosted", "linux"],
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
            jobs: (1..=count).map(|id| (id, Job { run_id: id.div_ceil(100), runner_id: Some(id) })).collect(),
            others: [("other-1".to_owned(), Some(7)), ("other-2".to_owned(), None)].into(),
            ..GitHub::default()
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
    fn a_runner_is_registered_once_by_its_name_and_has_not_connected_yet() {
        let mut github = github(2);
        let request = Request::builder()
            .method("POST")
            .uri("/orgs/octo/actions/runners/generate-jitconfig")
            .header("authorization", "Bearer ghs_counted")
            .body(())
            .expect("a request");
        let parts = request.into_parts().0;
        let whole = r#"{"name": "runner-i-1", "runner_group_id": 1, "labels": ["linux"], "work_folder": "_work"}"#;
        for (case, body, expected) in [
            ("a name is missing", r#"{"runner_group_id": 1, "labels": []}"#, 422),
            ("a new name", whole, 201),
            ("the same name", whole, 409),
        ] {
            let (kind, reply) = github.answer(&parts, &Bytes::from(body));
            assert_eq!(
                (kind.as_str(), reply.expect("spoken").parts().0),
                ("POST generate-jitconfig", expected),
                "{case}"
            );
        }
        let (_, reply) = call(&mut github, "GET", "/orgs/octo/actions/runners/3", "ghs_counted");
        let shown: Value = serde_json::from_str(reply.parts().2).expect("JSON");
        assert_eq!(
            (&shown["name"], &shown["status"], &shown["version"]),
            (&"runner-i-1".into(), &"offline".into(), &Value::Null)
        );
    }

    #[test]
    fn each_call_needs_its_own_kind_of_token() {
        let mut github = github(1);
        for (target, with_app, with_installation) in [
            ("/orgs/octo/installation", 200, 401),
            ("/app/hook/deliveries?per_page=100", 200, 401),
            ("/app/installations?per_page=100", 200, 401),
            ("/repos/octo/other-1/actions/runs?status=queued", 401, 200),
            ("/repos/octo/other-1/actions/runs/7/jobs", 401, 200),
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
    fn more_than_900_points_in_a_minute_are_refused_and_the_apps_own_calls_are_not_counted() {
        let mut github = github(1);
        github.allow_a_minute(GitHub::POINTS_A_MINUTE);
        let (runners, mint) = ("/orgs/octo/actions/runners", "/app/installations/7/access_tokens");
        let now = Timestamp(1_000_000);
        for _ in 0..179 {
            assert!(github.is_allowed(&Method::DELETE, runners, now));
        }
        for _ in 0..5 {
            assert!(github.is_allowed(&Method::GET, runners, now.plus(Duration::from_secs(59))));
        }
        for (case, method, path, seconds, expected) in [
            ("one point too many", Method::GET, runners, 59, false),
            ("the App's own", Method::POST, mint, 59, true),
            ("the minute is over", Method::DELETE, runners, 60, true),
        ] {
            assert_eq!(github.is_allowed(&method, path, now.plus(Duration::from_secs(seconds))), expected, "{case}");
        }
        assert_eq!(github.refused(), 1);

        github.allow_a_minute(0);
        let (_, reply) = call(&mut github, "GET", runners, "ghs_counted");
        assert_eq!((reply.parts().0, reply.waits()), (403, Some(60)));
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
