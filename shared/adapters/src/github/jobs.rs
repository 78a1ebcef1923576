//! The jobs API: [`Jobs`].

use http::StatusCode;
use runner_scaler_core::error::PortError;
use runner_scaler_core::ids::{InstallationId, JobId, Repository, RunnerId, Scope};
use runner_scaler_core::ports::{JobReading, JobState, Jobs};
use runner_scaler_core::time::Timestamp;
use serde::Deserialize;

use super::client::Call;
use super::pages::scope_path;
use crate::Adapters;

#[derive(Deserialize)]
struct JobBody {
    id: JobId,
    status: String,
    runner_id: Option<u64>,
    completed_at: Option<String>,
}

impl Jobs for Adapters {
    async fn job(
        &self,
        repository: &Repository,
        installation_id: Option<InstallationId>,
        id: JobId,
    ) -> Result<JobReading, PortError> {
        let scope = Scope::Repository { owner: repository.owner().to_owned(), name: repository.name().to_owned() };
        let call = Call::get(format!("{}/actions/jobs/{id}", scope_path(&scope)));
        let answer = self.github().as_installation(&scope, installation_id, &call).await?;
        answer.expect::<JobBody>(&call, StatusCode::OK).map(JobReading::from)
    }
}

impl From<JobBody> for JobReading {
    fn from(body: JobBody) -> Self {
        Self {
            id: body.id,
            state: match body.status.as_str() {
                "queued" => JobState::Queued,
                "waiting" | "requested" | "pending" => JobState::NotYetQueued,
                "in_progress" => JobState::InProgress,
                "completed" => JobState::Completed,
                _ => JobState::Unrecognised,
            },
            runner_id: body.runner_id.filter(|id| *id != 0).map(RunnerId),
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
        let text =
            r#"{"id": 4294967297, "status": "completed", "runner_id": 7, "completed_at": "2021-09-13T02:21:13Z"}"#;
        let reading = JobReading::from(serde_json::from_str::<JobBody>(text).expect("a job"));
        assert_eq!(reading.id, JobId(4_294_967_297));
        assert_eq!(reading.completed_at, Timestamp::parse("2021-09-13T02:21:13Z"));
    }
}
