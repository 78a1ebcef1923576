//! What the decisions need from outside, in our words. Reading and writing are separate traits: who only plans
//! cannot act.
//!
//! Every call of a port is an await, so every call is a place where the process may be killed; every handler must be
//! safe to run again from any of them.

mod compute;
mod demand;
mod ledger;
mod parameters;
mod registry;
mod vital_signs;

pub use compute::{
    Compute, ComputeRead, Instance, InstanceState, LaunchAnswer, LaunchFault, LaunchRequest, Offering, TAGGED_MAX,
    Tags, Termination,
};
pub use demand::{
    AccountKind, ApiBudget, Delivery, DeliveryLog, FailedDeliveries, Installation, JobReading, JobSearch, JobState,
    Jobs, LogPlace, OpenJob, Priced, Queue, Reached, Redelivery,
};
pub use ledger::{Body, Expect, Item, Key, Kind, Ledger, OpenPartition, Write};
pub use parameters::{KillSwitch, Parameters};
pub use registry::{Deregistration, JitConfig, JitRequest, Registered, Registry, RegistryRead, Runner};
pub use vital_signs::{VitalSign, VitalSigns, Worker};
