//! What REST shows: JSON of GitHub's published shapes (checked against its `OpenAPI` description in a test).

use super::delivery::Progress;
use super::payload::{owner_type, rfc3339, workflow_job};
use super::{Delivery, GitHub, Installation, Job, JobState, Runner, Scope};
use crate::Millis;
use serde_json::{Value, json};

const API: &str = "https://api.github.com";

impl GitHub {
    /// A runner as GitHub believes it to be.
    #[must_use]
    pub fn view_runner(&self, runner: &Runner, now: Millis) -> Value {
        let online = runner.is_shown_online(now, self.settings.offline_after_ms);
        let labels: Vec<Value> = runner.labels.iter().map(|label| view_label(label)).collect();
        json!({
            "id": runner.id,
            "runner_group_id": runner.group_id,
            "name": runner.name,
            "os": "linux",
            "status": if online { "online" } else { "offline" },
            "busy": runner.is_shown_busy(now),
            "labels": labels,
            "ephemeral": true,
            "version": runner.version,
        })
    }

    /// A job as the jobs API shows it.
    #[must_use]
    pub fn view_job(&self, job: &Job) -> Value {
        workflow_job(job)
    }

    /// The jobs of a repository with this run, or of all its runs.
    pub fn jobs_of(&self, repository_id: u64, run_id: Option<u64>) -> impl Iterator<Item = &Job> {
        self.jobs
            .values()
            .filter(move |job| job.repository_id == repository_id)
            .filter(move |job| run_id.is_none_or(|run| run == job.run_id))
            .filter(|job| job.state != JobState::Held)
    }

    /// The runs of a repository, newest first, with this status when one is asked for. A run waits or is
    /// queued while all of its jobs do or are, completed when all are, else in progress.
    #[must_use]
    pub fn view_runs(&self, repository_id: u64, status: Option<&str>) -> Vec<Value> {
        let mut run_ids: Vec<u64> = self.jobs_of(repository_id, None).map(|job| job.run_id).collect();
        run_ids.sort_unstable_by(|a, b| b.cmp(a));
        run_ids.dedup();
        run_ids
            .into_iter()
            .filter_map(|run_id| self.view_run(repository_id, run_id))
            .filter(|run| status.is_none_or(|wanted| run["status"] == wanted || run["conclusion"] == wanted))
            .collect()
    }

    fn view_run(&self, repository_id: u64, run_id: u64) -> Option<Value> {
        let jobs: Vec<&Job> = self.jobs_of(repository_id, Some(run_id)).collect();
        let first = jobs.first()?;
        let all = |status: &str| jobs.iter().all(|job| job.state.status() == status);
        let (status, conclusion) = if all("completed") {
            ("completed", Some(conclusion_of(&jobs)))
        } else if all("queued") {
            ("queued", None)
        } else if all("waiting") {
            ("waiting", None)
        } else {
            ("in_progress", None)
        };
        let object = &first.template["workflow_job"];
        let repository = &first.template["repository"];
        let full_name = repository["full_name"].as_str().unwrap_or_default();
        let url = format!("{API}/repos/{full_name}/actions/runs/{run_id}");
        let at = rfc3339(first.created_at);
        Some(json!({
            "id": run_id,
            "node_id": "WFR_kwLO",
            "name": object["workflow_name"],
            "head_branch": object["head_branch"],
            "head_sha": object["head_sha"],
            "path": ".github/workflows/ci.yml",
            "display_title": object["name"],
            "run_number": 1,
            "run_attempt": first.run_attempt,
            "event": "push",
            "status": status,
            "conclusion": conclusion,
            "workflow_id": repository_id,
            "url": url,
            "html_url": format!("https://github.com/{full_name}/actions/runs/{run_id}"),
            "created_at": at,
            "updated_at": at,
            "run_started_at": at,
            "pull_requests": [],
            "head_commit": null,
            "head_repository": repository,
            "repository": repository,
            "jobs_url": format!("{url}/jobs"),
            "logs_url": format!("{url}/logs"),
            "check_suite_url": format!("{API}/repos/{full_name}/check-suites/{run_id}"),
            "cancel_url": format!("{url}/cancel"),
            "rerun_url": format!("{url}/rerun"),
            "artifacts_url": format!("{url}/artifacts"),
            "workflow_url": format!("{API}/repos/{full_name}/actions/workflows/{repository_id}"),
        }))
    }

    /// An installation.
    #[must_use]
    pub fn view_installation(&self, installation: &Installation) -> Value {
        let (id, login) = (installation.id, &installation.owner);
        json!({
            "id": id,
            "account": view_account(installation),
            "access_tokens_url": format!("{API}/app/installations/{id}/access_tokens"),
            "repositories_url": format!("{API}/installation/repositories"),
            "html_url": format!("https://github.com/organizations/{login}/settings/installations/{id}"),
            "app_id": 1,
            "app_slug": "runner-scaler",
            "target_id": installation.owner_id,
            "target_type": owner_type(installation.kind),
            "permissions": permissions(),
            "events": ["workflow_job"],
            "single_file_name": null,
            "repository_selection": "selected",
            "created_at": "2026-01-01T00:00:00Z",
            "updated_at": "2026-01-01T00:00:00Z",
            "suspended_at": if installation.suspended { json!("2026-01-02T00:00:00Z") } else { Value::Null },
            "suspended_by": null,
        })
    }

    /// The repositories that an installation reaches.
    #[must_use]
    pub fn view_repositories(&self, installation_id: u64) -> Vec<Value> {
        let reached = self.installations.get(&installation_id).into_iter().flat_map(|i| &i.repositories);
        reached.map(|repository| repository.object.clone()).collect()
    }

    /// A delivery, as an item of the list.
    #[must_use]
    pub fn view_delivery(&self, delivery: &Delivery) -> Value {
        let (at, status, took_ms) = match delivery.progress {
            Progress::Answered { at, status, took_ms } => (at, status, took_ms),
            Progress::Due(at) => (at, None, 0),
            Progress::Sending | Progress::Vanished => (0, None, 0),
        };
        let words = match status {
            Some(200..=299) => "OK".to_owned(),
            Some(code) => format!("Invalid HTTP Response: {code}"),
            None => "timed out".to_owned(),
        };
        json!({
            "id": delivery.id,
            "guid": delivery.guid,
            "delivered_at": rfc3339(at),
            "redelivery": delivery.redelivery,
            "duration": Seconds(took_ms).as_f64(),
            "status": words,
            "status_code": status.unwrap_or(504),
            "event": "workflow_job",
            "action": delivery.action,
            "installation_id": delivery.installation_id,
            "repository_id": delivery.repository_id,
            "throttled_at": null,
        })
    }

    /// A delivery with what was sent.
    #[must_use]
    pub fn view_delivery_whole(&self, delivery: &Delivery) -> Value {
        let mut item = self.view_delivery(delivery);
        item["url"] = json!("");
        item["request"] = json!({
            "headers": { "X-GitHub-Delivery": delivery.guid, "X-GitHub-Event": "workflow_job" },
            "payload": serde_json::from_slice::<Value>(&delivery.body).unwrap_or_default(),
        });
        item["response"] = json!({ "headers": {}, "payload": null });
        item
    }
}

/// The permissions of the App's tokens.
pub(crate) fn permissions() -> Value {
    json!({ "actions": "read", "administration": "write", "metadata": "read", "organization_self_hosted_runners": "write" })
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Organization(org) => f.write_str(org),
            Self::Repository { owner, name } => write!(f, "{owner}/{name}"),
        }
    }
}

/// Milliseconds, to be shown in seconds.
struct Seconds(Millis);

impl Seconds {
    fn as_f64(&self) -> f64 {
        f64::from(i32::try_from(self.0).unwrap_or(i32::MAX)) / 1_000.0
    }
}

fn view_label(label: &str) -> Value {
    let kind = match label {
        "self-hosted" | "linux" | "x64" | "arm64" | "Linux" | "X64" | "ARM64" => "read-only",
        _custom => "custom",
    };
    json!({ "id": 0, "name": label, "type": kind })
}

fn conclusion_of(jobs: &[&Job]) -> &'static str {
    let ended = |wanted: &str| {
        jobs.iter().any(|job| matches!(&job.state, JobState::Completed { conclusion, .. } if conclusion == wanted))
    };
    match (ended("failure"), ended("cancelled")) {
        (true, _) => "failure",
        (false, true) => "cancelled",
        (false, false) => "success",
    }
}

fn view_account(installation: &Installation) -> Value {
    let login = &installation.owner;
    let url = format!("{API}/users/{login}");
    json!({
        "login": login,
        "id": installation.owner_id,
        "node_id": "MDQ6VXNlcjE=",
        "avatar_url": "https://avatars1.githubusercontent.com/u/1?v=4",
        "gravatar_id": "",
        "url": url,
        "html_url": format!("https://github.com/{login}"),
        "followers_url": format!("{url}/followers"),
        "following_url": format!("{url}/following{{/other_user}}"),
        "gists_url": format!("{url}/gists{{/gist_id}}"),
        "starred_url": format!("{url}/starred{{/owner}}{{/repo}}"),
        "subscriptions_url": format!("{url}/subscriptions"),
        "organizations_url": format!("{url}/orgs"),
        "repos_url": format!("{url}/repos"),
        "events_url": format!("{url}/events{{/privacy}}"),
        "received_events_url": format!("{url}/received_events"),
        "type": owner_type(installation.kind),
        "site_admin": false,
    })
}
