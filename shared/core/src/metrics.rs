//! Numbers that alarms and dashboards are made of. What a pass counted becomes metrics here; how they are written is
//! the adapters' (`CloudWatch` embedded metric format, design section 9).

use serde::Serialize;

/// Unit of a metric, in `CloudWatch`'s words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Unit {
    /// How many.
    Count,
    /// A duration.
    Seconds,
    /// A duration.
    Milliseconds,
}

/// One number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Metric {
    /// Its name, in `CloudWatch`'s style: `InstancesTerminated`.
    pub name: &'static str,
    /// Its unit.
    pub unit: Unit,
    /// Its value.
    pub value: u64,
    /// Dimensions, for example `("fleet", "linux")`; the function's name is added where they are written.
    pub dimensions: Vec<(&'static str, String)>,
}
