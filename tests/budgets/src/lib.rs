//! What scale-up and the removal passes ask of GitHub and AWS, counted on the wire and held against the budgets of design
//! section 12.
//!
//! The real adapters run a real pass in a process of their own, which alone may be given an environment and whose peak
//! memory is the pass's alone; the [`server`] they talk to lives in the process that counts.

pub mod bench;
pub mod estate;
pub mod pass;
pub mod process;
pub mod scenarios;
pub mod server;
