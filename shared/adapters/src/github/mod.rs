//! GitHub: [`RegistryRead`](runner_scaler_core::ports::RegistryRead), `Registry`, `Jobs`, `JobSearch`, `DeliveryLog`
//! and `Redelivery`.
//!
//! octocrab carries the requests; endpoints, authentication and the reading of answers are ours, because what matters
//! here is what octocrab's own layers hide: a 404 of the token is not a 404 of the runner, `version: null` is not a
//! missing `version`, a lost answer to DELETE is neither success nor failure, and nothing may be cached or repeated
//! behind our back. The one cache is the job search's, which asks GitHub every time whether it still holds.
//!
//! Every request waits for its turn: none is sent while GitHub asks its owner for patience, and changes are spaced.

mod client;
mod conditional;
mod deliveries;
mod jobs;
mod jwt;
mod pace;
mod pages;
mod pressure;
mod runners;
mod search;
mod status;
mod token;

pub(crate) use client::GitHub;

#[cfg(test)]
mod tests;
