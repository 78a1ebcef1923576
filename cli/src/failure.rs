//! What can stop the command, in words for the person who started it.

use std::io;

/// A failure of the command itself; a broken promise is not one, it is a result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Something that must be installed first.
    #[error("{what} is missing: {remedy}")]
    Missing {
        /// What was looked for.
        what: &'static str,
        /// What the person can do about it.
        remedy: String,
    },
    /// A program ended badly.
    #[error("{program} failed: {output}")]
    Program {
        /// The program and what it was to do.
        program: String,
        /// Its exit status or the end of its output.
        output: String,
    },
    /// The operating system refused.
    #[error("{what}")]
    Io {
        /// What was being done, with the path.
        what: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// What the person asked for cannot be done as it was asked.
    #[error("{what}: {remedy}")]
    Unusable {
        /// What is wrong.
        what: String,
        /// What the person can do about it.
        remedy: String,
    },
    /// A call failed on the way.
    #[error("{what}")]
    Http {
        /// The call.
        what: String,
        /// Why it failed.
        #[source]
        source: reqwest::Error,
    },
    /// A call to GitHub or AWS failed on the way.
    #[error("{what} failed")]
    Call {
        /// The call.
        what: String,
        /// Why it failed.
        #[source]
        source: Box<ureq::Error>,
    },
    /// AWS, or the emulator of it, answered with an error.
    #[error("{operation} was answered {status}: {body}")]
    Refused {
        /// Service and operation.
        operation: String,
        /// HTTP status.
        status: u16,
        /// The emulator's answer, or AWS's code for it; never a secret.
        body: String,
    },
    /// An answer lacks what it must have.
    #[error("{what} has an unexpected shape")]
    Shape {
        /// Which answer or file.
        what: String,
    },
    /// Something did not become ready in time.
    #[error("{what} within {seconds} s; see {log}")]
    Late {
        /// What did not happen.
        what: String,
        /// How long it was waited for, in seconds.
        seconds: u64,
        /// Where to look.
        log: String,
    },
}

impl Failure {
    /// Names what was being done when the operating system refused.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// Names the call that failed on the way.
    pub(crate) fn http(what: impl Into<String>) -> impl FnOnce(reqwest::Error) -> Self {
        let what = what.into();
        move |source| Self::Http { what, source }
    }
}

/// The failure and all its causes on one line.
pub(crate) fn chain(failure: &dyn std::error::Error) -> String {
    let mut text = failure.to_string();
    let mut cause = failure.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
