//! Demand is a level (design section 7): a job that GitHub has queued gets a runner whether or not anybody told us.
//!
//! Every pass sends again what is due by the ledger, asks GitHub to repeat deliveries that our webhook did not take,
//! every 5 min looks through the repositories for queued jobs that nobody serves, and fills the pools that idle
//! schedules keep. A job is launched for by scale-up, which is sent the same message that the webhook sends and asks
//! GitHub before it does anything; only pools, which have no job, are launched for here.
//!
//! - `plan`: what is needed, of what there is; how often an owner is searched. Pure.
//! - `due`: jobs on record whose next look has come.
//! - `redeliver`: failed deliveries, once each.
//! - `search`: goes over the repositories; `serve`: what follows from what it found.
//! - `facts`: instances, reservations and waiting jobs, as EC2 and the ledger have them.
//! - `pool`: idle schedules.
//! - `execute`: one pass. Behaviour belongs in `plan`.
//! - `report`: what a pass did.
//!
//! Nothing here ends or deregisters anything, so neither the kill switch nor `observe` is asked: both are about removal.
//! In `retire` nothing is looked for and no pool is filled.

mod due;
mod execute;
mod facts;
mod plan;
mod pool;
mod redeliver;
mod report;
mod search;
mod serve;
#[cfg(test)]
mod tests;

use crate::ports::{DeliveryLog, JobSearch, Queue, Redelivery, VitalSigns};
use crate::scale_up::LaunchPorts;

pub use execute::run_pass;
pub use report::{FailedPass, Report, metrics_of};

#[cfg(test)]
pub(crate) use due::send_due_jobs;

/// Jobs sent at once, each by two calls of the ledger and one of the queue. More, and a backlog is a burst that the table
/// throttles; fewer, and a backlog in slow times takes the whole pass.
const SENDS_AT_ONCE: usize = 8;

/// All that the demand-reconciler needs of the world.
pub trait DemandPorts: LaunchPorts + Queue + DeliveryLog + Redelivery + JobSearch + VitalSigns {}

impl<P: LaunchPorts + Queue + DeliveryLog + Redelivery + JobSearch + VitalSigns> DemandPorts for P {}
