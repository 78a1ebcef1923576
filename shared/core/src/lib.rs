//! The core of runner-scaler: every decision, the protocols that carry them out, and the ports they need.
//!
//! This crate names no SDK, runtime, system clock, randomness or environment: what it needs it gets through
//! [`ports`], so that the same code runs in Lambda, in the simulated world and in a table test.
//!
//! - [`config`]: variables and the configuration document to typed policy.
//! - [`ledger`]: our memory of events and intents, over the ledger port.
//! - [`webhook`]: signature, event and route of one delivery.
//! - [`scale_up`]: a batch of queued jobs to instances with a JIT configuration.
//! - [`demand`]: jobs that wait longer than they should are sent again.
//! - [`evidence`]: what was read, when and from whom; what each reading may prove.
//! - [`verdict`]: `decide`, the one pure function from evidence to verdict.
//! - [`removal`]: drain, deregister, re-check, terminate.
//! - [`metrics`]: the numbers of a pass.
//! - [`orphan`]: settles instances, registrations and records that lost each other.
//!
//! Dependencies point one way: handlers (`webhook`, `scale_up`, `removal`, `orphan`, `demand`) call `ports`; `verdict`
//! and `evidence` know neither.

pub mod config;
pub mod demand;
pub mod error;
pub mod evidence;
#[cfg(test)]
mod fake;
pub mod ids;
pub mod ledger;
pub mod metrics;
pub mod orphan;
pub mod ports;
pub mod removal;
pub mod scale_up;
pub mod time;
pub mod verdict;
pub mod webhook;
