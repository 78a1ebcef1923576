//! Seeded worlds that attack the real handlers of the core crate.
//!
//! One run is one seed: 24 hours in which the world is as unkind as its plan ([`swarm`]) says, then four without a
//! fault in which everything has to settle. The handlers are the product's own, over ports into a simulated GitHub and
//! EC2 (`runner-scaler-world`); time is virtual, and every choice comes from one tape, so that a run can be replayed
//! and shrunk.
//!
//! - [`swarm`]: which faults a seed has and how strong they are. The only file with rates.
//! - [`agenda`]: what happens next. [`run`]: the loop. [`lambda`]: invocations, their deadlines and their deaths.
//! - [`ports`]: the ports, each call a place where the process may die and the adversary may strike.
//! - [`mischief`]: hostile vital signs, limits that are met, changes of the configuration. [`outages`]: GitHub in trouble
//!   as a whole. [`versions`]: two versions of the functions at once.
//! - [`aws`]: queue, ledger, parameters, vital signs. [`hosts`]: instances. [`workload`]: jobs.
//! - [`by_hand`]: what people do to instances, and what workflows' authors ask for.
//! - [`checker`]: the invariants, judged from what really happened.
//! - [`coverage`]: what must have happened at least once for a batch of seeds to say anything.
//! - [`sensitivity`]: whether it sees the rules that are broken on purpose.
//! - [`report`], [`timeline`], [`log`], [`shrink`], [`tape_file`]: what people see of it.

pub mod agenda;
pub mod aws;
pub mod by_hand;
pub mod checker;
pub mod coverage;
pub mod hosts;
pub mod lambda;
pub mod log;
pub mod mischief;
pub mod outages;
pub mod ports;
pub mod report;
pub mod run;
pub mod sensitivity;
pub mod shrink;
pub mod sim;
pub mod swarm;
pub mod tape_file;
pub mod timeline;
pub mod versions;
pub mod workload;

pub use report::Report;
pub use run::{Options, Outcome, play};
