//! generate-jitconfig: a registration and the configuration that opens its one session.

use super::runner::Registration;
use super::{Cx, GitHub, Runner, Scope};
use crate::truth::Fact;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;

/// The body of generate-jitconfig.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct JitRequest {
    /// The runner's name.
    pub name: String,
    /// The runner group.
    pub runner_group_id: u64,
    /// 1 to 100 labels.
    pub labels: Vec<String>,
    /// The working folder.
    #[serde(default)]
    pub work_folder: Option<String>,
}

/// Why there is no configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JitError {
    /// 409: the name is taken in this scope.
    #[error("Already exists - A runner with the name {0} already exists.")]
    NameTaken(String),
    /// 422: the body is not acceptable.
    #[error("Validation Failed: {0}")]
    Invalid(&'static str),
}

const LABELS_MAX: usize = 100;
const NAME_LENGTH_MAX: usize = 64;

impl JitRequest {
    fn check(&self) -> Result<(), JitError> {
        if self.name.is_empty() || self.name.len() > NAME_LENGTH_MAX {
            return Err(JitError::Invalid("name must have 1 to 64 characters"));
        }
        if self.labels.is_empty() || self.labels.len() > LABELS_MAX {
            return Err(JitError::Invalid("labels must have 1 to 100 items"));
        }
        Ok(())
    }
}

impl GitHub {
    /// Creates an offline registration at once (ubicloud pull request #692) and answers the configuration, which
    /// cannot be read again: whoever loses the answer meets 409.
    pub fn generate_jitconfig(
        &mut self,
        cx: &mut Cx<'_>,
        scope: Scope,
        request: JitRequest,
    ) -> Result<(Runner, String), JitError> {
        request.check()?;
        if self.registrations().any(|r| r.scope.is(&scope) && r.name == request.name) {
            return Err(JitError::NameTaken(request.name));
        }
        let id = self.fresh_id();
        let (lo, hi) = self.settings.runner_shown_ms;
        let shown_from = cx.now + cx.tape.between(lo, hi);
        // Opaque to everybody but the broker; real ones are base64 of a JSON object of three base64 files.
        let secret =
            json!({ ".runner": { "AgentId": id, "AgentName": request.name }, "nonce": cx.tape.draw(u64::MAX) });
        let jit_config = STANDARD.encode(secret.to_string());
        let runner = Runner {
            id,
            scope,
            name: request.name,
            labels: request.labels,
            group_id: request.runner_group_id,
            version: None,
            registered_at: cx.now,
            jit_config: jit_config.clone(),
            session: None,
            registration: Registration::Registered,
            job_id: None,
            busy_shown_from: 0,
            ready_at: cx.now,
            unlisted: false,
            hidden: None,
            offline_shown: None,
            shown_from,
            idle_shown: None,
            stuck: false,
        };
        cx.truth.record(cx.now, Fact::RunnerRegistered { runner: runner.name.clone(), runner_id: id });
        self.runners.insert(id, runner.clone());
        self.living.insert(id);
        Ok((runner, jit_config))
    }
}
