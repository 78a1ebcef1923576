//! Registrations: [`RegistryRead`] and [`Registry`]. The only module that deletes one.

use http::StatusCode;
use runner_scaler_core::error::PortError;
use runner_scaler_core::ids::{Access, RunnerId, RunnerName};
use runner_scaler_core::ports::{Deregistration, JitConfig, JitRequest, Registered, Registry, RegistryRead, Runner};
use runner_scaler_core::removal::DeregistrationWarrant;
use serde::{Deserialize, Deserializer};
use serde_json::json;

use super::client::{Answer, Call, Page};
use super::pages::{encoded, scope_path};
use crate::Adapters;

#[derive(Deserialize)]
struct RunnersPage {
    total_count: usize,
    runners: Vec<RunnerBody>,
}

impl Page for RunnersPage {
    type Entry = RunnerBody;

    fn into_parts(self) -> (usize, Vec<RunnerBody>) {
        (self.total_count, self.runners)
    }
}

#[derive(Deserialize)]
struct RunnerBody {
    id: RunnerId,
    name: RunnerName,
    status: String,
    busy: bool,
    /// Missing and null are two answers: null is evidence that the runner never connected.
    #[serde(default, deserialize_with = "even_null")]
    #[expect(clippy::option_option, reason = "the port tells a missing field from a null one")]
    version: Option<Option<String>>,
    ephemeral: Option<bool>,
}

#[derive(Deserialize)]
struct JitBody {
    runner: JitRunner,
    encoded_jit_config: String,
}

#[derive(Deserialize)]
struct JitRunner {
    id: RunnerId,
}

#[expect(clippy::option_option, reason = "the port tells a missing field from a null one")]
fn even_null<'de, D: Deserializer<'de>>(field: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(field).map(Some)
}

impl From<RunnerBody> for Runner {
    fn from(body: RunnerBody) -> Self {
        Self {
            id: body.id,
            name: body.name,
            online: body.status == "online",
            busy: body.busy,
            version: body.version,
            ephemeral: body.ephemeral,
        }
    }
}

impl RegistryRead for Adapters {
    async fn runners(&self, access: &Access) -> Result<Vec<Runner>, PortError> {
        self.list(access, "").await
    }

    async fn runner(&self, access: &Access, id: RunnerId) -> Result<Option<Runner>, PortError> {
        let call = Call::get(runner_path(access, id));
        let answer = self.registry(access, &call).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        answer.expect::<RunnerBody>(&call, StatusCode::OK).map(|body| Some(body.into()))
    }

    async fn runner_named(&self, access: &Access, name: &RunnerName) -> Result<Option<Runner>, PortError> {
        let listed = self.list(access, &format!("name={}&", encoded(name.as_str()))).await?;
        // GitHub Enterprise Server releases that do not know the filter list all.
        Ok(listed.into_iter().find(|runner| &runner.name == name))
    }
}

impl Registry for Adapters {
    async fn generate_jit_config(&self, access: &Access, request: &JitRequest) -> Result<Registered, PortError> {
        let body = json!({
            "name": request.name,
            "runner_group_id": request.runner_group_id,
            "labels": request.labels,
            "work_folder": "_work",
        });
        let call = Call::post(format!("{}/actions/runners/generate-jitconfig", scope_path(&access.scope)), body);
        let answer = self.registry(access, &call).await?;
        if answer.status == StatusCode::CONFLICT {
            return Ok(Registered::NameTaken);
        }
        let created: JitBody = answer.expect(&call, StatusCode::CREATED)?;
        Ok(Registered::Created { runner_id: created.runner.id, config: JitConfig::new(created.encoded_jit_config) })
    }

    async fn deregister(&self, warrant: DeregistrationWarrant) -> Result<Deregistration, PortError> {
        let call = Call::delete(runner_path(warrant.access(), warrant.runner_id()));
        let answer = self.registry(warrant.access(), &call).await?;
        match answer.status {
            StatusCode::NO_CONTENT => Ok(Deregistration::Deleted),
            StatusCode::UNPROCESSABLE_ENTITY => Ok(Deregistration::Busy),
            StatusCode::NOT_FOUND => Ok(Deregistration::Absent),
            _ => Err(answer.error(&call)),
        }
    }
}

impl Adapters {
    async fn registry(&self, access: &Access, call: &Call) -> Result<Answer, PortError> {
        self.github().as_installation(&access.scope, access.installation_id, call).await
    }

    /// Every page, or an error. Runners come and go at every moment, so a list that shrank while it was read is taken:
    /// a runner missing from it is asked for by its id before anything follows.
    async fn list(&self, access: &Access, filter: &str) -> Result<Vec<Runner>, PortError> {
        let first = format!("{}/actions/runners?{filter}per_page=100", scope_path(&access.scope));
        let listed = self.github().list::<RunnersPage>(&access.scope, access.installation_id, &first).await?;
        Ok(listed.into_iter().map(Runner::from).collect())
    }
}

fn runner_path(access: &Access, id: RunnerId) -> String {
    format!("{}/actions/runners/{id}", scope_path(&access.scope))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_version_is_not_a_null_one() {
        for (field, expected) in [
            ("", None),
            (r#", "version": null"#, Some(None)),
            (r#", "version": "2.336.0""#, Some(Some("2.336.0".to_owned()))),
        ] {
            let text = format!(r#"{{"id": 5, "name": "r", "status": "offline", "busy": false{field}}}"#);
            let body: RunnerBody = serde_json::from_str(&text).expect("a runner");
            assert_eq!(Runner::from(body).version, expected, "{field}");
        }
    }

    #[test]
    fn only_the_word_online_is_online() {
        for (status, expected) in [("online", true), ("offline", false), ("idle", false)] {
            let text = format!(r#"{{"id": 5, "name": "r", "status": "{status}", "busy": true, "labels": []}}"#);
            let runner = Runner::from(serde_json::from_str::<RunnerBody>(&text).expect("a runner"));
            assert_eq!((runner.online, runner.busy), (expected, true));
        }
    }
}
