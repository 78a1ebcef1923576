//! Queued jobs by looking for them: [`JobSearch`].

use http::StatusCode;
use runner_scaler_core::error::PortError;
use runner_scaler_core::ids::{InstallationId, JobId, Repository, RunId, RunnerId, RunnerName, Scope};
use runner_scaler_core::ports::{AccountKind, ApiBudget, Installation, JobSearch, OpenJob, Priced, Reached};
use runner_scaler_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::client::Page;
use super::jobs::{RepositoriesPage, RepositoryBody, RunsPage, scope_of, state_of};
use super::pages::{Pages, scope_path};
use crate::Adapters;

#[derive(Deserialize)]
struct InstallationBody {
    id: InstallationId,
    account: Option<AccountBody>,
    suspended_at: Option<String>,
}

/// An enterprise has neither login nor type; it has no repositories of its own.
#[derive(Deserialize)]
struct AccountBody {
    id: Option<u64>,
    login: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
struct OpenJobsPage {
    total_count: usize,
    jobs: Vec<OpenJobBody>,
}

#[derive(Deserialize, Serialize)]
struct OpenJobBody {
    id: JobId,
    run_id: RunId,
    run_attempt: Option<u32>,
    status: String,
    labels: Option<Vec<String>>,
    created_at: Option<String>,
    runner_id: Option<u64>,
    runner_name: Option<String>,
}

impl Page for OpenJobsPage {
    type Entry = OpenJobBody;

    fn into_parts(self) -> (usize, Vec<OpenJobBody>) {
        (self.total_count, self.jobs)
    }
}

impl JobSearch for Adapters {
    /// Not conditionally: the App signs a token for every call, and GitHub's tags differ from token to token.
    async fn installations(&self) -> Result<Vec<Installation>, PortError> {
        let mut pages = Pages::from("/app/installations?per_page=100".to_owned());
        let mut installations = Vec::new();
        while let Some(call) = pages.next() {
            let answer = self.github().as_app(&call).await?;
            let page: Vec<InstallationBody> = answer.expect(&call, StatusCode::OK)?;
            installations.extend(page.into_iter().filter_map(installation_of));
            pages.answered(&call, &answer)?;
        }
        Ok(installations)
    }

    async fn repositories_of(&self, installation: &Installation) -> Result<Priced<Vec<Reached>>, PortError> {
        let scope = Scope::Organization { owner: installation.owner.clone() };
        let first = "/installation/repositories?per_page=100".to_owned();
        let listed = self.github().list_if_changed::<RepositoriesPage>(&scope, installation.id, first).await?;
        let running = listed.value.into_iter().filter(|body| !body.archived && !body.disabled);
        let reached = |body: RepositoryBody| {
            let owner_id = body.owner.and_then(|owner| owner.id);
            Some(Reached { repository: Repository::try_from(body.full_name).ok()?, id: body.id, owner_id })
        };
        let value = running.filter_map(reached).collect();
        Ok(Priced { value, charged: listed.charged })
    }

    async fn open_runs(
        &self,
        repository: &Repository,
        installation_id: InstallationId,
    ) -> Result<Priced<Vec<RunId>>, PortError> {
        let scope = scope_of(repository);
        let mut runs = Priced { value: Vec::new(), charged: 0 };
        for status in ["queued", "in_progress"] {
            let first = format!("{}/actions/runs?status={status}&per_page=100", scope_path(&scope));
            let listed = self.github().list_if_changed::<RunsPage>(&scope, installation_id, first).await?;
            runs.value.extend(listed.value.into_iter().map(|run| run.id));
            runs.charged += listed.charged;
        }
        // A run may have moved from one list to the other in between.
        runs.value.sort_unstable();
        runs.value.dedup();
        Ok(runs)
    }

    async fn jobs_of_run(
        &self,
        repository: &Repository,
        installation_id: InstallationId,
        run_id: RunId,
    ) -> Result<Priced<Vec<OpenJob>>, PortError> {
        let scope = scope_of(repository);
        let first = format!("{}/actions/runs/{run_id}/jobs?filter=latest&per_page=100", scope_path(&scope));
        let listed = self.github().list_if_changed::<OpenJobsPage>(&scope, installation_id, first).await?;
        Ok(Priced { value: listed.value.into_iter().map(OpenJob::from).collect(), charged: listed.charged })
    }

    async fn budget(&self, owner: &str) -> Option<ApiBudget> {
        self.github().pressure.budget(owner).await
    }
}

fn installation_of(body: InstallationBody) -> Option<Installation> {
    let account = body.account.filter(|_| body.suspended_at.is_none())?;
    let kind = match account.kind.as_deref() {
        Some("Organization") => AccountKind::Organization,
        Some(_) | None => AccountKind::User,
    };
    Some(Installation { id: body.id, owner: account.login?, owner_id: account.id, kind })
}

impl From<OpenJobBody> for OpenJob {
    fn from(body: OpenJobBody) -> Self {
        Self {
            id: body.id,
            run_id: body.run_id,
            run_attempt: body.run_attempt.unwrap_or(1),
            state: state_of(&body.status),
            labels: body.labels.unwrap_or_default(),
            created_at: body.created_at.as_deref().and_then(Timestamp::parse),
            runner_id: body.runner_id.filter(|id| *id != 0).map(RunnerId),
            runner_name: body.runner_name.filter(|name| !name.is_empty()).map(RunnerName::new),
        }
    }
}
