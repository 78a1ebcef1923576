//! What a caller may do about a port's failure: its class, never its text.

use std::time::Duration;

/// Class of a failure; adapters map each code to one, callers match on nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The same call may pass later.
    Transient,
    /// The other side asks for patience.
    Throttled {
        /// How long it asks to be left alone, where it said so.
        retry_after: Option<Duration>,
    },
    /// AWS has none of this now.
    NoCapacity,
    /// Sent, no answer: it may have taken effect.
    OutcomeUnknown,
    /// This input is never going to pass.
    Rejected,
    /// Somebody else wrote in between; read again.
    Conflict,
    /// 404 or `InvalidInstanceID.NotFound`: unknown, never "gone" (visibility lag, lost permission).
    Absent,
    /// 401, 403: unknown, never "gone".
    Denied,
    /// Every call will fail until a person acts.
    Misconfigured,
}

/// A failure that has a class.
pub trait Classify {
    /// Its class.
    fn class(&self) -> Class;
}

/// A port call that failed: what was tried, on what, and its class.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{call} failed ({class:?}): {detail}")]
pub struct PortError {
    /// The call in the other side's words, with the ids it was about, for example `DELETE runner 42`.
    pub call: String,
    /// What a caller may do about it.
    pub class: Class,
    /// The other side's code and message; never a token, a signature or a payload.
    pub detail: String,
}

impl Classify for PortError {
    fn class(&self) -> Class {
        self.class
    }
}

impl PortError {
    /// A failure of `call`.
    #[must_use]
    pub fn new(call: impl Into<String>, class: Class, detail: impl Into<String>) -> Self {
        Self { call: call.into(), class, detail: detail.into() }
    }
}
