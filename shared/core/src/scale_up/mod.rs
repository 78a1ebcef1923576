//! A batch of queued jobs to instances with a JIT configuration (design section 6).
//!
//! What to do is decided in [`plan`], what became of it in [`aftermath`], for which fleet in `select`; the rest carries
//! it out, one step a file: `admit` (is the job still there), `room` (what the fleets may still launch), `reserve` (jobs,
//! launch and room in one transaction, before the call), `fulfil` (the call, or its repetition), `offerings` (where EC2 had
//! nothing), `equip` (one instance gets its configuration), `registration` (where GitHub refuses them), `execute` (a batch,
//! one outcome a message), `pool` (a launch without a job, for the demand-reconciler).
//!
//! Every step is repeatable from what the ledger holds: a process may be killed at any await, and whoever meets what it
//! left behind goes on under the same client token.

mod admit;
pub mod aftermath;
#[cfg(feature = "mutants")]
mod broken;
mod equip;
mod execute;
mod fulfil;
mod message;
mod offerings;
pub mod plan;
pub(crate) mod pool;
pub(crate) mod registration;
mod reserve;
pub(crate) mod room;
mod select;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select as select_first};
use futures_util::lock::{Mutex, MutexGuard};

use crate::config::Policy;
use crate::ids::FleetName;
use crate::ports::{Compute, Jobs, Ledger, Parameters, Registry};
use crate::time::{Clock, Deadline, Timestamp};

pub use execute::handle_batch;
pub use message::JobMessage;
pub use select::{LABELS_NAMED_MAX, Miss, Selected, select, select_fleet};

/// A message as the queue hands it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueMessage {
    /// SQS's id of it.
    pub message_id: String,
    /// A [`JobMessage`] in JSON.
    pub body: String,
}

/// How one message ended. All but `Failed` acknowledge it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An instance was launched for it and got its configuration.
    Launched,
    /// An instance that was launched for it is still there to take it.
    AlreadyServed,
    /// GitHub says that the job runs or is over.
    NotQueued,
    /// The job's record waits: no room, no capacity, not yet to be served, nothing is launched at all, or it failed and a
    /// later message is about it.
    Waiting,
    /// It has to come back.
    Failed(String),
}

/// JIT calls of one launch, or job readings of one owner, in flight: of an owner's launches a batch makes four at once, and
/// GitHub admits 100 calls at once and wants few (facts/github.md 2.4). More, and one batch eats other functions' share;
/// fewer, and a batch of 100 takes longer than its jobs want to wait.
const CALLS_AT_ONCE: usize = 8;

/// All ports that a launch needs, in one bound.
pub trait LaunchPorts: Ledger + Compute + Registry + Jobs + Parameters + Clock {}

impl<P: Ledger + Compute + Registry + Jobs + Parameters + Clock> LaunchPorts for P {}

/// What every step of a batch is given.
struct Batch<'a, P> {
    ports: &'a P,
    policy: &'a Policy,
    deadline: Deadline,
    /// Its listing is begun after that.
    begun_at: Timestamp,
    /// One owner at a time writes a fleet's record: side by side they would only refuse each other. Held for calls of the
    /// ledger, never of GitHub.
    fleets: BTreeMap<&'a FleetName, Mutex<FleetSeen>>,
}

/// Whether this batch knows that a fleet has a record. Nobody deletes one while its jobs come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FleetSeen {
    NotYet,
    Recorded,
}

impl<'a, P: Clock> Batch<'a, P> {
    fn new(ports: &'a P, policy: &'a Policy, deadline: Deadline) -> Self {
        let fleets = policy.fleets.iter().map(|fleet| (&fleet.name, Mutex::new(FleetSeen::NotYet))).collect();
        Self { ports, policy, deadline: deadline.kept_by(policy.mutant), begun_at: ports.now(), fleets }
    }

    /// The turn of whoever writes this fleet's record; none for a fleet that the policy does not have.
    async fn turn(&self, fleet: &FleetName) -> Option<MutexGuard<'_, FleetSeen>> {
        match self.fleets.get(fleet) {
            Some(turn) => Some(turn.lock().await),
            None => None,
        }
    }

    /// Does something within a limit; `None` when it took longer, and then it was dropped where it stood, as when the
    /// process ends there.
    async fn within<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        match select_first(pin!(work), pin!(self.ports.sleep(limit))).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(_) => None,
        }
    }

    /// Whether something new may be begun.
    fn has_time(&self) -> bool {
        self.deadline.allows_more(self.ports.now())
    }

    /// Waits before the n-th repetition (from 0): 50 ms, doubled each time, at most 3.2 s.
    async fn back_off(&self, repetition: u32) {
        self.ports.sleep(Duration::from_millis(50 << repetition.min(6))).await;
    }
}

/// The outcome of a job that no fleet takes. The webhook sends only jobs that a fleet takes, so the processes read
/// different configurations: acknowledged, the job would be lost.
fn no_fleet(why: &str) -> Outcome {
    Outcome::Failed(format!("no fleet of this configuration takes it: {why}"))
}

/// The outcome of what GitHub was too slow for.
fn too_slow() -> Outcome {
    Outcome::Failed("GitHub did not answer in the time that one message may take".to_owned())
}

/// The outcome of what this invocation had no time for.
fn out_of_time() -> Outcome {
    Outcome::Failed("the deadline is near".to_owned())
}
