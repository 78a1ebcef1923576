//! GitHub's runner registrations.

use std::fmt;

use crate::error::PortError;
use crate::ids::{Access, RunnerId, RunnerName};
use crate::removal::DeregistrationWarrant;

/// A registration as GitHub's API shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runner {
    /// Its id.
    pub id: RunnerId,
    /// Its name.
    pub name: RunnerName,
    /// `status` is `online`. Both values can be wrong (facts/github.md 2.2).
    pub online: bool,
    /// `busy`. True is believed, false is not (facts/github.md 2.2).
    pub busy: bool,
    /// `version`: set once the runner has connected at least once, so null is positive evidence that no job was ever
    /// delivered (OpenAPI text, facts/github.md 2.1). `None` where GitHub leaves the field out, as old GHES does.
    pub version: Option<Option<String>>,
    /// `ephemeral`, where GitHub says.
    pub ephemeral: Option<bool>,
}

/// What to register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JitRequest {
    /// `<prefix><instance id>`
    pub name: RunnerName,
    /// The fleet's labels, and those of the overrides that it was launched with.
    pub labels: Vec<String>,
    /// Runner group.
    pub runner_group_id: u64,
}

/// A JIT configuration: whoever holds it can take one job in the runner's name. Prints as `<redacted>`.
#[derive(Clone, PartialEq, Eq)]
pub struct JitConfig(String);

impl JitConfig {
    /// Wraps GitHub's `encoded_jit_config`.
    #[must_use]
    pub fn new(encoded: String) -> Self {
        Self(encoded)
    }

    /// The secret, for the one call that hands it over.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for JitConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JitConfig(<redacted>)")
    }
}

/// Answer to generate-jitconfig.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registered {
    /// 201: an offline registration exists from now on (facts/world.md G10).
    Created {
        /// Its id.
        runner_id: RunnerId,
        /// Its configuration; it cannot be read again.
        config: JitConfig,
    },
    /// 409: a registration of that name exists, most likely because the answer to a first success was lost.
    NameTaken,
}

/// Answer to `DELETE runner`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deregistration {
    /// 204.
    Deleted,
    /// 422: GitHub knows that a job runs. Matched on the status, never on the text.
    Busy,
    /// 404: unknown; not a success.
    Absent,
}

/// Reading registrations. Never cached: GitHub serves the list with `max-age=60` (facts/github.md 2.2).
pub trait RegistryRead {
    /// All registrations of a scope, to the last page; an error in any page is an error of the whole.
    async fn runners(&self, access: &Access) -> Result<Vec<Runner>, PortError>;

    /// One registration by id. `None` is GitHub's 404: it may be a lost permission, a lag or a deletion.
    async fn runner(&self, access: &Access, id: RunnerId) -> Result<Option<Runner>, PortError>;

    /// One registration by its exact name (`?name=`). `None` is a 200 that lists none of that name.
    async fn runner_named(&self, access: &Access, name: &RunnerName) -> Result<Option<Runner>, PortError>;
}

/// Changing registrations.
pub trait Registry: RegistryRead {
    /// Registers an ephemeral runner and returns its configuration.
    async fn generate_jit_config(&self, access: &Access, request: &JitRequest) -> Result<Registered, PortError>;

    /// Deletes the registration that the warrant names. As destructive as a termination: the listener of a runner
    /// whose registration is gone cancels its job (facts/github.md 1.2).
    async fn deregister(&self, warrant: DeregistrationWarrant) -> Result<Deregistration, PortError>;
}
