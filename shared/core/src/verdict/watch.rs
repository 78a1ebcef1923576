//! The time of one decision: tells what has passed, and remembers what has yet to pass.

use std::cell::Cell;
use std::time::Duration;

use crate::config::Mutant;
use crate::time::Timestamp;

/// Every comparison of a decision with the time goes through here. A verdict can change by time alone only when one of
/// the comparisons that were made for it turns, so the earliest that has yet to turn is when to look again.
pub(super) struct Watch {
    now: Timestamp,
    next: Cell<Option<Timestamp>>,
    mutant: Mutant,
}

impl Watch {
    pub(super) fn at(now: Timestamp, mutant: Mutant) -> Self {
        Self { now, next: Cell::new(None), mutant }
    }

    /// Whether this much time has passed since then. A time that lies ahead, by a skewed clock, has not passed.
    pub(super) fn passed(&self, since: Timestamp, duration: Duration) -> bool {
        if self.mutant.believes_skewed_clocks() && since > self.now {
            return true;
        }
        let due = since.plus(duration);
        if due > self.now {
            self.next.set(Some(self.next.get().map_or(due, |next| next.min(due))));
        }
        due <= self.now
    }

    /// The earliest time at which a comparison turns out otherwise.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.next.get()
    }
}
