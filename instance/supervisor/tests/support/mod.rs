//! What the supervisor meets: instance metadata and AWS on loopback, a stand-in for run.sh, and a stand-in for systemd.

#![allow(dead_code, reason = "every test uses a part of it")]

mod cloud;
mod machine;

pub(crate) use cloud::Cloud;
#[allow(unused_imports, reason = "every test uses a part of it")]
pub(crate) use machine::{
    Machine, Plan, STARTED, WHEN_BROUGHT, WHEN_ENDED, cgroups_can_be_made, drain, spin_for, spin_until, wait_for,
};

/// A stream of numbers from a seed (xorshift64*), so that a run can be repeated.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }
}
