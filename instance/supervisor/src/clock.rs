//! The two clocks: one that only goes forward, and the one that people and servers read.

use runner_supervisor_decision::Millis;
use rustix::time::{ClockId, clock_gettime};

/// Where the time comes from.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the boot, suspended time included. Nobody sets it: every limit is counted on it.
    fn since_boot(&self) -> Millis;

    /// Milliseconds since the Unix epoch. It may jump; it says how old a drain request is and dates what we send.
    fn wall(&self) -> Millis;
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn since_boot(&self) -> Millis {
        millis(ClockId::Boottime)
    }

    fn wall(&self) -> Millis {
        millis(ClockId::Realtime)
    }
}

fn millis(clock: ClockId) -> Millis {
    let time = clock_gettime(clock);
    time.tv_sec * 1_000 + time.tv_nsec / 1_000_000
}
