//! The jobs API: [`Jobs`].

use std::collections::BTreeSet;

use http::StatusCode;
use runner_scaler_core::error::PortError;
use runner_scaler_core::ids::{Access, InstallationId, JobId, Repository, RunId, RunnerId, RunnerName, Scope};
use runner_scaler_core::ports::{JobReading, JobState, Jobs};
use runner_scaler_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::client::{Call, Keyed, Page};
use super::pages::scope_path;
use crate::Adapters;
use crate::aws::{Effect, misshapen};

#[derive(Deserialize)]
struct JobBody {
    id: JobId,
    status: String,
    runner_id: Option<u64>,
    runner_name: Option<String>,
    completed_at: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct RunsPage {
    total_count: usize,
    workflow_runs: Vec<RunBody>,
}

#[derive(Deserialize, Serialize)]
pub(super) struct RunBody {
    pub(super) id: RunId,
}

#[derive(Deserialize)]
struct JobsPage {
    total_count: usize,
    jobs: Vec<JobBody>,
}

#[derive(Deserialize)]
pub(super) struct RepositoriesPage {
    total_count: usize,
    repositories: Vec<RepositoryBody>,
}

#[derive(Deserialize, Serialize)]
pub(super) struct OwnerBody {
    pub(super) id: Option<u64>,
}

#[derive(Deserialize, Serialize)]
pub(super) struct RepositoryBody {
    pub(super) id: Option<u64>,
    pub(super) full_name: String,
    pub(super) owner: Option<OwnerBody>,
    /// Nothing runs in an archived repository.
    #[serde(default)]
    pub(super) archived: bool,
    /// Nor in one that GitHub disabled.
    #[serde(default)]
    pub(super) disabled: bool,
}

impl Page for RunsPage {
    type Entry = RunBody;

    fn into_parts(self) -> (usize, Vec<RunBody>) {
        (self.total_count, self.workflow_runs)
    }
}

impl Keyed for RunsPage {
    type Key = RunId;

    fn key(entry: &Self::Entry) -> RunId {
        entry.id
    }
}

impl Page for JobsPage {
    type Entry = JobBody;

    fn into_parts(self) -> (usize, Vec<JobBody>) {
        (self.total_count, self.jobs)
    }
}

impl Keyed for JobsPage {
    type Key = JobId;

    fn key(entry: &Self::Entry) -> JobId {
        entry.id
    }
}

impl Page for RepositoriesPage {
    type Entry = RepositoryBody;

    fn into_parts(self) -> (usize, Vec<RepositoryBody>) {
        (self.total_count, self.repositories)
    }
}

impl Keyed for RepositoriesPage {
    type Key = String;

    fn key(entry: &Self::Entry) -> String {
        entry.full_name.clone()
    }
}

impl Jobs for Adapters {
    async fn job(
        &self,
        repository: &Repository,
        installation_id: Option<InstallationId>,
        id: JobId,
    ) -> Result<JobReading, PortError> {
        let scope = scope_of(repository);
        let call = Call::get(format!("{}/actions/jobs/{id}", scope_path(&scope)));
        let answer = self.github().as_installation(&scope, installation_id, &call).await?;
        answer.expect::<JobBody>(&call, StatusCode::OK).map(JobReading::from)
    }

    async fn jobs_in_progress(
        &self,
        repository: &Repository,
        installation_id: Option<InstallationId>,
    ) -> Result<Vec<JobReading>, PortError> {
        self.jobs_of_runs(repository, installation_id, &["in_progress"]).await
    }

    async fn jobs_of_open_runs(
        &self,
        repository: &Repository,
        installation_id: Option<InstallationId>,
    ) -> Result<Vec<JobReading>, PortError> {
        // Runs move on while the lists are read: one that waited is in progress now, or the other way round. Those in
        // progress are therefore read first and last, so that neither move takes a run out of every list.
        let statuses = ["in_progress", "queued", "waiting", "pending", "requested", "in_progress"];
        self.jobs_of_runs(repository, installation_id, &statuses).await
    }

    async fn repositories(&self, access: &Access) -> Result<Vec<Repository>, PortError> {
        let first = "/installation/repositories?per_page=100";
        let listed =
            self.github().steady_list::<RepositoriesPage>(&access.scope, access.installation_id, first).await?;
        let named = |body: RepositoryBody| Repository::try_from(body.full_name).ok();
        let named: Option<Vec<Repository>> = listed.into_iter().map(named).collect();
        named.ok_or_else(|| misshapen(format!("GET {first}"), Effect::Read, "full name of a repository"))
    }
}

impl Adapters {
    /// Jobs of the repository's runs in any of these statuses, each run once.
    ///
    /// GitHub shows at most 1,000 runs of a filter (documentation, "List workflow runs for a repository", read
    /// 2026-11-20) and counts them all, so that more are an error.
    async fn jobs_of_runs(
        &self,
        repository: &Repository,
        installation_id: Option<InstallationId>,
        statuses: &[&str],
    ) -> Result<Vec<JobReading>, PortError> {
        let scope = scope_of(repository);
        let runs_path = format!("{}/actions/runs", scope_path(&scope));
        let mut runs = BTreeSet::new();
        for status in statuses {
            let first = format!("{runs_path}?status={status}&per_page=100");
            let listed = self.github().steady_list::<RunsPage>(&scope, installation_id, &first).await?;
            runs.extend(listed.into_iter().map(|run| run.id));
        }
        let mut jobs = Vec::new();
        for id in runs {
            let first = format!("{runs_path}/{id}/jobs?filter=latest&per_page=100");
            let of_run = self.github().steady_list::<JobsPage>(&scope, installation_id, &first).await?;
            jobs.extend(of_run.into_iter().map(JobReading::from));
        }
        Ok(jobs)
    }
}

pub(super) fn scope_of(repository: &Repository) -> Scope {
    Scope::Repository { owner: repository.owner().to_owned(), name: repository.name().to_owned() }
}

/// GitHub's `status` of a job.
pub(super) fn state_of(status: &str) -> JobState {
    match status {
        "queued" => JobState::Queued,
        "waiting" | "requested" | "pending" => JobState::NotYetQueued,
        "in_progress" => JobState::InProgress,
        "completed" => JobState::Completed,
        _ => JobState::Unrecognised,
    }
}

impl From<JobBody> for JobReading {
    fn from(body: JobBody) -> Self {
        Self {
            id: body.id,
            state: state_of(&body.status),
            runner_id: body.runner_id.filter(|id| *id != 0).map(RunnerId),
            runner_name: body.runner_name.filter(|name| !name.is_empty()).map(RunnerName::new),
            completed_at: body.completed_at.as_deref().and_then(Timestamp::parse),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_read_with_all_its_nulls() {
        for (case, text, state, runner_id) in [
            ("queued", r#"{"id": 21, "status": "queued", "runner_id": null}"#, JobState::Queued, None),
            ("no runner is 0 too", r#"{"id": 21, "status": "queued", "runner_id": 0}"#, JobState::Queued, None),
            ("before an approval", r#"{"id": 21, "status": "waiting"}"#, JobState::NotYetQueued, None),
            ("runs", r#"{"id": 21, "status": "in_progress", "runner_id": 7}"#, JobState::InProgress, Some(RunnerId(7))),
            (
                "a new word",
                r#"{"id": 21, "status": "paused", "runner_id": 7}"#,
                JobState::Unrecognised,
                Some(RunnerId(7)),
            ),
        ] {
            let reading = JobReading::from(serde_json::from_str::<JobBody>(text).expect("a job"));
            assert_eq!((reading.state, reading.runner_id), (state, runner_id), "{case}");
        }
        for (case, name, expected) in [
            ("named", r#""runner-i-1""#, Some(RunnerName::new("runner-i-1"))),
            ("null is none", "null", None),
            ("and so is an empty one", r#""""#, None),
        ] {
            let text = format!(r#"{{"id": 21, "status": "completed", "runner_id": 7, "runner_name": {name}}}"#);
            let reading = JobReading::from(serde_json::from_str::<JobBody>(&text).expect("a job"));
            assert_eq!((reading.runner_id, reading.runner_name), (Some(RunnerId(7)), expected), "{case}");
        }
        let text =
            r#"{"id": 4294967297, "status": "completed", "runner_id": 7, "completed_at": "2021-09-13T02:21:13Z"}"#;
        let reading = JobReading::from(serde_json::from_str::<JobBody>(text).expect("a job"));
        assert_eq!(reading.id, JobId(4_294_967_297));
        assert_eq!(reading.completed_at, Timestamp::parse("2021-09-13T02:21:13Z"));
    }
}
