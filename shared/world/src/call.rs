//! One API call of the system under test, as the world sees it: who called what, about whom.
//!
//! Calls are what traps wait for and what the summary counts.

use serde::{Deserialize, Serialize};

/// The service that was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Api {
    /// GitHub's REST API.
    #[serde(rename = "github")]
    GitHub,
    /// EC2's query API.
    Ec2,
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The service.
    pub api: Api,
    /// The operation: EC2's action (`TerminateInstances`) or our name for a GitHub endpoint (`DeleteRunner`).
    pub operation: String,
    /// The calling function, or "unknown".
    pub caller: String,
    /// The runner the call names, when it names one.
    pub runner_name: Option<String>,
    /// The instances the call names; empty when it names none.
    pub instance_ids: Vec<String>,
}

impl Call {
    /// A call that names neither a runner nor an instance.
    #[must_use]
    pub fn new(api: Api, operation: &str, caller: &str) -> Self {
        Self {
            api,
            operation: operation.to_owned(),
            caller: caller.to_owned(),
            runner_name: None,
            instance_ids: Vec::new(),
        }
    }

    /// The same call, naming a runner.
    #[must_use]
    pub fn about_runner(mut self, name: &str) -> Self {
        self.runner_name = Some(name.to_owned());
        self
    }

    /// The same call, naming instances.
    #[must_use]
    pub fn about_instances(mut self, ids: &[String]) -> Self {
        self.instance_ids = ids.to_vec();
        self
    }
}

/// The functions whose names are looked for in a User-Agent that has no `app/` part.
const FUNCTIONS: [&str; 5] = ["webhook", "scale-up", "scale-down", "orphan-sweeper", "demand-reconciler"];

/// The calling function's name from a User-Agent: the SDK's application name (`app/scale-down`), else a known
/// function's name found anywhere in it, else "unknown".
#[must_use]
pub fn caller_of(user_agent: &str) -> String {
    let app = user_agent
        .split_ascii_whitespace()
        .find_map(|part| part.strip_prefix("app/"))
        .map(|name| name.strip_prefix("runner-scaler-").unwrap_or(name));
    app.or_else(|| FUNCTIONS.into_iter().find(|name| user_agent.contains(name))).unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caller_is_read_from_the_user_agent() {
        for (user_agent, caller) in [
            ("aws-sdk-rust/1.5 os/linux app/scale-down lang/rust", "scale-down"),
            ("app/runner-scaler-webhook", "webhook"),
            ("runner-scaler/0.1 (orphan-sweeper)", "orphan-sweeper"),
            ("curl/8", "unknown"),
        ] {
            assert_eq!(caller_of(user_agent), caller, "{user_agent}");
        }
    }
}
