//! Removal (design section 5): drain first; for what does not answer, busy-check, deregister, quarantine, re-check,
//! terminate, each in its own pass where time must lie between.
//!
//! - `proof`: leave to do the two things that can end a job.
//! - `gather`: reads the evidence of one pass, in the order in which it counts.
//! - `batch`: many records written at once.
//! - `deliveries`: failed deliveries that may say "busy", applied to the ledger.
//! - `pool`: which idle instances the fleets' idle schedules keep.
//! - `drain`: asks many instances at once to stop if they are idle.
//! - `open_jobs`: jobs that a runner could have been given, and what the jobs API says of them.
//! - `out_of_reach`: instances with our tag that only a person can end.
//! - `duties`: which function carries which verdict out.
//! - `execute`: one pass over all instances; carries verdicts out. Behaviour belongs in [`crate::verdict`].
//! - `report`: what a pass did.

use crate::ports::{Compute, DeliveryLog, Jobs, Ledger, Parameters, Registry, VitalSigns};
use crate::time::Clock;

mod batch;
mod deliveries;
mod drain;
mod duties;
mod execute;
mod gather;
mod ground;
mod open_jobs;
mod out_of_reach;
mod pool;
mod proof;
mod report;
#[cfg(test)]
mod tests;

pub use duties::Duties;
pub use execute::run_pass;
pub use ground::{DeregistrationGround, Ground};
pub use proof::{Deregisterable, DeregistrationWarrant, Terminable, TerminationProof};
pub use report::{FailedPass, Report, metrics_of};

pub(crate) use execute::Pass;

/// All that removal needs of the world.
pub trait RemovalPorts: Compute + Registry + Jobs + DeliveryLog + Ledger + Parameters + VitalSigns + Clock {}

impl<P> RemovalPorts for P where P: Compute + Registry + Jobs + DeliveryLog + Ledger + Parameters + VitalSigns + Clock {}
