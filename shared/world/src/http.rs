//! Thin front ends: real HTTP for the functions, the instances and people.
//!
//! They parse, authenticate, feed wall time to the [`crate::World`] and write its answers; they decide nothing.

pub mod broker;
pub mod control;
pub mod deliver;
pub mod ec2;
pub mod github;
pub mod imds;
pub mod lambda;
pub mod process;
pub mod server;

mod reply;
