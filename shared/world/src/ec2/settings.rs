//! EC2's times and faults, as data. The default is a kind EC2 with realistic times: every fault is off.

use crate::Millis;
use crate::settings::RangeMs;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// EC2's times and faults. Milliseconds and probabilities (0 to 1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ec2Settings {
    /// From launch until the instance is `running` and its first process starts.
    pub boot_ms: RangeMs,
    /// How long a fresh instance is missing from lists and `InvalidInstanceID.NotFound` by id. Documented as up to a
    /// few minutes (EC2 developer guide, eventual consistency, read 2026-11-20).
    pub visibility_lag_ms: RangeMs,
    /// From `shutting-down` to `terminated`.
    pub shutdown_ms: RangeMs,
    /// How long a terminated instance is still described; under an hour (EC2 API reference, `DescribeInstances`).
    pub terminated_lingers_ms: Millis,
    /// Living instances allowed by instance type; a type that is absent is unlimited. Beyond it: no capacity.
    pub capacity: BTreeMap<String, u32>,
    /// Probability that one pool (type and subnet) has no capacity in one `CreateFleet` call.
    pub no_capacity_rate: f64,
    /// Instances allowed in the account, somebody else's among them; none is no limit. Those that are ending count, and so
    /// do those that have ended, for a while (facts/world.md E4).
    pub instance_limit: Option<u32>,
    /// For how long one that has ended still counts.
    pub limit_lag_ms: Millis,
    /// Probability that one pool (type and subnet) fails in one `CreateFleet` call for another reason than capacity.
    pub override_error_rate: f64,
    /// Probability that a call answers `RequestLimitExceeded` without an effect.
    pub throttle_rate: f64,
    /// Most instances on one page of a listing; EC2's own maximum is 1,000.
    pub page_size: usize,
    /// Probability that a spot instance is taken back.
    pub spot_interruption: f64,
    /// When a spot instance that will be taken back is, counted from its launch.
    pub spot_interruption_after_ms: RangeMs,
    /// Probability that an instance that powers itself off runs on.
    pub power_off_fails: f64,
    /// The region, as instance metadata and availability zones show it.
    pub region: String,
}

const SECOND_MS: Millis = 1_000;
const MINUTE_MS: Millis = 60 * SECOND_MS;

impl Default for Ec2Settings {
    fn default() -> Self {
        Self {
            boot_ms: (20 * SECOND_MS, 60 * SECOND_MS),
            visibility_lag_ms: (0, 0),
            shutdown_ms: (5 * SECOND_MS, 60 * SECOND_MS),
            terminated_lingers_ms: 50 * MINUTE_MS,
            capacity: BTreeMap::new(),
            no_capacity_rate: 0.0,
            instance_limit: None,
            limit_lag_ms: 0,
            override_error_rate: 0.0,
            throttle_rate: 0.0,
            page_size: 1_000,
            spot_interruption: 0.0,
            spot_interruption_after_ms: (MINUTE_MS, 60 * MINUTE_MS),
            power_off_fails: 0.0,
            region: "us-east-1".to_owned(),
        }
    }
}

impl Ec2Settings {
    /// EC2 with times for a local run of about a minute: still slow enough to boot, lag and shut down visibly.
    #[must_use]
    pub fn local() -> Self {
        Self {
            boot_ms: (400, 1_200),
            visibility_lag_ms: (0, 300),
            shutdown_ms: (300, 900),
            spot_interruption_after_ms: (5 * SECOND_MS, 30 * SECOND_MS),
            ..Self::default()
        }
    }
}
