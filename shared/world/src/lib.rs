//! A simulated GitHub, EC2 and instance, for simulation, the local stack and replay.
//!
//! The state machine is pure: virtual time in milliseconds, no clock, and no randomness but a [`tape::Tape`] of
//! choices, so that a run can be replayed and shrunk. It does not depend on the core crate: it is an
//! independent opinion of what GitHub and EC2 do, and the ground truth against which the promises are judged.
//! The servers in `http` (a feature, on by default) are thin front ends that feed it wall time and move bytes.

pub mod call;
pub mod ec2;
pub mod github;
#[cfg(feature = "http")]
pub mod http;
pub mod instance;
pub mod misfortune;
pub mod settings;
pub mod tape;
pub mod trap;
pub mod truth;
pub mod world;

/// Milliseconds since the Unix epoch, in virtual time.
pub type Millis = i64;

pub use settings::Settings;
pub use tape::Tape;
pub use world::{HostEffect, World, WorldEvent};
