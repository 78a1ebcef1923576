//! EC2's errors: its code, its words and its HTTP status.
//!
//! Codes are those of the EC2 developer guide, "Error codes" (read 2026-11-20).

/// A refused call; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Ec2Error {
    /// EC2's code, for example `InvalidInstanceID.NotFound`.
    pub code: &'static str,
    /// EC2's words.
    pub message: String,
    /// HTTP status: 400 for the caller's mistakes, 503 for throttling.
    pub status: u16,
}

impl Ec2Error {
    /// The code of a call that `disableApiTermination` refuses.
    pub const PROTECTED: &'static str = "OperationNotPermitted";

    /// A mistake of the caller's.
    #[must_use]
    pub fn refused(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), status: 400 }
    }

    /// Too many calls.
    #[must_use]
    pub fn throttled() -> Self {
        Self { code: "RequestLimitExceeded", message: "Request limit exceeded.".to_owned(), status: 503 }
    }

    /// The permission check passed; `DryRun` was set, so nothing was done.
    #[must_use]
    pub fn dry_run() -> Self {
        Self {
            code: "DryRunOperation",
            message: "Request would have succeeded, but DryRun flag is set.".to_owned(),
            status: 412,
        }
    }

    /// Somebody protects the instance from calls to end it; words and status as in rebuy-de/aws-nuke#279.
    #[must_use]
    pub fn protected(id: &str) -> Self {
        let message = format!(
            "The instance '{id}' may not be terminated. Modify its 'disableApiTermination' instance attribute and try again."
        );
        Self::refused(Self::PROTECTED, message)
    }

    /// Ids that EC2 does not know, or does not know *yet*.
    #[must_use]
    pub fn instances_not_found(ids: &[String]) -> Self {
        let message = match ids {
            [id] => format!("The instance ID '{id}' does not exist"),
            several => format!("The instance IDs '{}' do not exist", several.join(", ")),
        };
        Self::refused("InvalidInstanceID.NotFound", message)
    }
}
