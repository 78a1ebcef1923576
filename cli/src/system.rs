//! The only place of the command that reads the monotonic clock and the environment; wall time is the world's
//! ([`runner_scaler_world::http::server::wall_now`]).

use std::ffi::OsString;
use std::time::Instant;

/// The monotonic clock.
#[expect(clippy::disallowed_methods, reason = "the command measures real processes; this is its one clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A variable of the environment that the command was started in.
#[expect(
    clippy::disallowed_methods,
    reason = "the one home of the command's environment: CARGO, AWS's own, and what a listener is handed"
)]
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}
