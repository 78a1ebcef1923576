//! Removal (design section 5): drain first; for what does not answer, busy-check, deregister, quarantine, re-check,
//! terminate, each in its own pass where time must lie between.

mod proof;

pub use proof::{Deregisterable, DeregistrationGround, DeregistrationWarrant, Ground, Terminable, TerminationProof};
