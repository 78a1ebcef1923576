//! `workflow_job` payloads: made from GitHub's own example, so that every key of a real one is there.

use super::job::{JobSpec, PayloadError};
use super::{GitHub, Installation, Job, JobState, OwnerKind, Repository};
use crate::Millis;
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// GitHub's example of a `queued` delivery (see template.NOTICE.md).
const TEMPLATE: &str = include_str!("template.json");
/// The repository, owner and sender that the example speaks of.
const TEMPLATE_REPOSITORY: &str = "Codertocat/Hello-World";
const TEMPLATE_OWNER: &str = "Octocoders";
const RUNNER_GROUP: &str = "Default";

/// What the world needs of a payload.
pub(super) struct PayloadFacts {
    pub(super) job_id: u64,
    pub(super) run_id: u64,
    pub(super) run_attempt: u64,
    pub(super) labels: Vec<String>,
    pub(super) installation_id: u64,
    pub(super) repository_id: u64,
    full_name: String,
    owner: String,
    owner_id: u64,
    kind: OwnerKind,
}

/// RFC 3339 in whole seconds, as GitHub writes times.
pub(crate) fn rfc3339(at: Millis) -> String {
    DateTime::from_timestamp_millis(at).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Reads what the world needs; refuses a payload that is not a `workflow_job` of an App.
pub(super) fn read(payload: &Value) -> Result<PayloadFacts, PayloadError> {
    let job = &payload["workflow_job"];
    let owner = &payload["repository"]["owner"];
    let number = |value: &Value, field| value.as_u64().ok_or(PayloadError::Field(field));
    let text = |value: &Value, field| value.as_str().map(str::to_owned).ok_or(PayloadError::Field(field));
    let labels = job["labels"].as_array().ok_or(PayloadError::Field("labels"))?;
    Ok(PayloadFacts {
        job_id: number(&job["id"], "workflow_job.id")?,
        run_id: number(&job["run_id"], "workflow_job.run_id")?,
        run_attempt: job["run_attempt"].as_u64().unwrap_or(1),
        labels: labels.iter().filter_map(|label| label.as_str().map(str::to_owned)).collect(),
        installation_id: number(&payload["installation"]["id"], "installation.id")?,
        repository_id: number(&payload["repository"]["id"], "repository.id")?,
        full_name: text(&payload["repository"]["full_name"], "repository.full_name")?,
        owner: text(&owner["login"], "repository.owner.login")?,
        owner_id: number(&owner["id"], "repository.owner.id")?,
        kind: match owner["type"].as_str() {
            Some("Organization") => OwnerKind::Organization,
            _other => OwnerKind::User,
        },
    })
}

/// A repository of an installation, shaped as in payloads.
pub(super) fn repository(id: u64, installation: &Installation, name: &str) -> Repository {
    let full_name = format!("{}/{name}", installation.owner);
    let mut object = template_value()["repository"].take();
    rename(&mut object, &[(TEMPLATE_REPOSITORY, &full_name), (TEMPLATE_OWNER, &installation.owner)]);
    object["id"] = json!(id);
    object["name"] = json!(name);
    object["owner"]["id"] = json!(installation.owner_id);
    object["owner"]["type"] = json!(owner_type(installation.kind));
    Repository { id, full_name, object }
}

/// The payload of a job that did not come from a real one.
pub(super) fn template(
    installation: &Installation,
    repository: &Repository,
    id: u64,
    run_id: u64,
    spec: &JobSpec,
    now: Millis,
) -> Value {
    let mut payload = template_value();
    let url = format!("https://api.github.com/repos/{}", repository.full_name);
    let html = format!("https://github.com/{}", repository.full_name);
    payload["repository"] = repository.object.clone();
    payload["installation"]["id"] = json!(installation.id);
    if installation.kind == OwnerKind::Organization {
        payload["organization"] = organization(installation);
    }
    let job = &mut payload["workflow_job"];
    for (key, value) in [
        ("id", json!(id)),
        ("run_id", json!(run_id)),
        ("run_url", json!(format!("{url}/actions/runs/{run_id}"))),
        ("url", json!(format!("{url}/actions/jobs/{id}"))),
        ("html_url", json!(format!("{html}/actions/runs/{run_id}/job/{id}"))),
        ("check_run_url", json!(format!("{url}/check-runs/{id}"))),
        ("labels", json!(spec.labels)),
        ("name", json!(spec.name)),
        ("workflow_name", json!("CI")),
        ("created_at", json!(rfc3339(now))),
    ] {
        job[key] = value;
    }
    payload
}

/// The same with only what anybody reads: a twentieth of the bytes, where thousands are made, signed and parsed.
pub(super) fn compact(
    installation: &Installation,
    repository: &Repository,
    id: u64,
    run_id: u64,
    spec: &JobSpec,
    now: Millis,
) -> Value {
    let owner = json!({
        "login": installation.owner, "id": installation.owner_id, "type": owner_type(installation.kind),
    });
    let mut payload = json!({
        "action": "queued",
        "workflow_job": {
            "id": id, "run_id": run_id, "run_attempt": 1, "labels": spec.labels, "name": spec.name,
            "created_at": rfc3339(now),
        },
        "repository": { "id": repository.id, "full_name": repository.full_name, "owner": owner },
        "installation": { "id": installation.id },
    });
    if installation.kind == OwnerKind::Organization {
        payload["organization"] = json!({ "login": installation.owner, "id": installation.owner_id });
    }
    payload
}

/// The body of a delivery of this job as it is now.
pub(super) fn body(job: &Job, action: &str) -> Bytes {
    if let (Some(bytes), "queued") = (&job.queued_bytes, action) {
        return bytes.clone();
    }
    let (action, workflow_job) = (json!(action), workflow_job(job));
    // By reference: what is the same in every delivery of a job is the most of it.
    let fields = job.template.as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), value));
    let mut payload: BTreeMap<&str, &Value> = fields.collect();
    payload.insert("action", &action);
    payload.insert("workflow_job", &workflow_job);
    Bytes::from(serde_json::to_vec(&payload).expect("values with text keys"))
}

/// The `workflow_job` object of a job as it is now: its 23 keys.
pub(super) fn workflow_job(job: &Job) -> Value {
    let mut object = job.template["workflow_job"].clone();
    let (completed_at, conclusion) = match &job.state {
        JobState::Completed { at, conclusion } => (json!(rfc3339(*at)), json!(conclusion)),
        JobState::Held
        | JobState::Waiting
        | JobState::Queued { .. }
        | JobState::Assigned { .. }
        | JobState::Running { .. } => (Value::Null, Value::Null),
    };
    // Shown once the job runs: while it is merely assigned, GitHub names no runner.
    let runner = job.runner.as_ref().filter(|_| job.started_at.is_some());
    let started_at = job.started_at.unwrap_or(job.created_at);
    for (key, value) in [
        ("status", json!(job.state.status())),
        ("conclusion", conclusion),
        ("created_at", json!(rfc3339(job.created_at))),
        ("started_at", json!(rfc3339(started_at))),
        ("completed_at", completed_at),
        ("runner_id", json!(runner.map(|(id, ..)| id))),
        ("runner_name", json!(runner.map(|(_, name, _)| name))),
        ("runner_group_id", json!(runner.map(|(.., group)| group))),
        ("runner_group_name", json!(runner.map(|_| RUNNER_GROUP))),
    ] {
        object[key] = value;
    }
    object
}

fn organization(installation: &Installation) -> Value {
    let login = &installation.owner;
    let url = format!("https://api.github.com/orgs/{login}");
    json!({
        "login": login,
        "id": installation.owner_id,
        "node_id": "MDEyOk9yZ2FuaXphdGlvbjM4MzAyODk5",
        "url": url,
        "repos_url": format!("{url}/repos"),
        "events_url": format!("{url}/events"),
        "hooks_url": format!("{url}/hooks"),
        "issues_url": format!("{url}/issues"),
        "members_url": format!("{url}/members{{/member}}"),
        "public_members_url": format!("{url}/public_members{{/member}}"),
        "avatar_url": "https://avatars1.githubusercontent.com/u/38302899?v=4",
        "description": "",
    })
}

pub(super) fn owner_type(kind: OwnerKind) -> &'static str {
    match kind {
        OwnerKind::Organization => "Organization",
        OwnerKind::User => "User",
    }
}

fn template_value() -> Value {
    serde_json::from_str(TEMPLATE).expect("the embedded example is JSON: checked by a test")
}

/// Replaces names within every string.
fn rename(value: &mut Value, names: &[(&str, &str)]) {
    match value {
        Value::String(text) => {
            for (from, to) in names {
                if text.contains(from) {
                    *text = text.replace(from, to);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, names)),
        Value::Object(fields) => fields.values_mut().for_each(|field| rename(field, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

impl GitHub {
    /// Makes sure that the App is installed where a real payload says it is.
    pub(super) fn adopt_installation(&mut self, payload: &Value, facts: &PayloadFacts) {
        let installation = self
            .installations
            .entry(facts.installation_id)
            .or_insert_with(|| Installation::new(facts.installation_id, &facts.owner, facts.owner_id, facts.kind));
        if installation.repositories.iter().all(|r| r.id != facts.repository_id) {
            installation.repositories.push(Repository {
                id: facts.repository_id,
                full_name: facts.full_name.clone(),
                object: payload["repository"].clone(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_example_is_a_queued_job_with_all_23_keys() {
        let example = template_value();
        assert_eq!(example["action"], "queued");
        assert_eq!(example["workflow_job"].as_object().unwrap().len(), 23);
        assert!(read(&example).is_ok());
    }

    #[test]
    fn times_are_written_as_github_writes_them() {
        assert_eq!(rfc3339(1_628_159_698_123), "2021-08-05T10:34:58Z");
    }
}
