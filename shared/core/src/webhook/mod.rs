//! One webhook delivery: is it GitHub's, what does it say, what follows from it, is that durable (design section 7).
//!
//! The order is the protection: size, signature over the raw bytes, and only then a parser. What follows is decided by
//! [`route`](fn@route), which sees no port; [`handle`](fn@handle) carries it out and answers 2xx only after the effect
//! is durable. Nothing here launches or ends anything.

mod apply;
#[cfg(feature = "mutants")]
mod broken;
mod event;
mod handle;
#[cfg(test)]
mod log_tests;
mod route;
mod signature;

pub use apply::{Applied, apply_job_event};
pub use event::{Event, EventError, JobAction, JobEvent, parse};
pub use handle::{BODY_BYTES_MAX, Body, Handled, HttpRequest, Taken, handle, refuse_at_sight};
pub use route::{Ignored, Route, route};
pub use signature::{ActiveSecret, SecretsError, SecretsSource, SignatureError, WebhookSecrets};
