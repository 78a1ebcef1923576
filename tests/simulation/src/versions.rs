//! Deployments of a next version, one function after another, so that two are at work at once; some are rolled back, and
//! what the newer version wrote stays.
//!
//! A version writes records of its own schema and understands those of the ones before it. What a newer one wrote, an
//! older one leaves alone (design section 4): it may neither act on it nor write over it.

use std::borrow::Cow;

use runner_scaler_core::ports::{Expect, Item, Write};
use runner_scaler_world::Millis;

use crate::coverage::Counter;
use crate::lambda::Function;
use crate::sim::Sim;
use crate::swarm::{HOUR, MINUTE};

/// A record's schema is the product's own number and, in thousands, the version that wrote it.
const SCHEMAS: u32 = 1_000;
/// How long a deployment takes from its first function to its last.
const LASTS: (Millis, Millis) = (MINUTE, 30 * MINUTE);
/// How long after a deployment was rolled back the next comes.
const MENDED_WITHIN: (Millis, Millis) = (10 * MINUTE, 2 * HOUR);
/// What nobody could judge meanwhile ends within this once it is mended: a registration whose instance is no longer listed.
const ENDS_WITHIN: Millis = 2 * HOUR;
/// All of them.
const FUNCTIONS: usize = 5;

/// Which version each function is of.
#[derive(Debug, Default)]
pub struct Versions {
    current: [u32; FUNCTIONS],
    newest: u32,
    /// When all are of the newest again.
    whole_at: Millis,
    /// Whose version changes, when and to which.
    changes: Vec<(Millis, usize, u32)>,
}

impl Versions {
    /// Since when every function understands every record, or from when on.
    #[must_use]
    pub fn whole_at(&self) -> Millis {
        self.whole_at
    }

    /// The version of an invocation that begins now.
    fn of(&mut self, function: Function, now: Millis) -> u32 {
        for (_, function, version) in self.changes.extract_if(.., |(at, ..)| *at <= now) {
            self.current[function] = version;
        }
        self.current[function as usize]
    }
}

/// The version that wrote an item.
fn writer(item: &Item) -> u32 {
    item.schema / SCHEMAS
}

impl Sim {
    /// Some minutes begin a deployment.
    pub(crate) fn deploy(&mut self) {
        if !self.versions.changes.is_empty() || !self.world.tape.chance(self.plan.deployment) {
            return;
        }
        let from = self.versions.newest;
        let lasts = self.world.tape.between(LASTS.0, LASTS.1);
        self.change_versions(self.now, lasts, from + 1);
        let back_at = self.now + lasts + MINUTE;
        let (lo, hi) = MENDED_WITHIN;
        // Until it is mended nothing that the newer version wrote can come to its end.
        let hi = hi.min(self.quiet_at - ENDS_WITHIN - back_at);
        if hi > lo && self.world.tape.chance(self.plan.rolled_back) {
            self.coverage.hit(Counter::RolledBack);
            self.change_versions(self.now + lasts, MINUTE, from);
            let mended_at = back_at + self.world.tape.between(lo, hi);
            self.change_versions(mended_at, LASTS.0, from + 2);
        }
    }

    /// Each function gets that version at a moment of its own.
    fn change_versions(&mut self, from: Millis, lasts: Millis, version: u32) {
        for function in 0..FUNCTIONS {
            let at = from + self.world.tape.between(0, lasts);
            self.versions.changes.push((at, function, version));
        }
        self.versions.changes.sort_unstable();
        self.versions.newest = self.versions.newest.max(version);
        self.versions.whole_at = from + lasts;
        self.timeline.note(self.now, || format!("version {version} is deployed from {from} on, within {lasts} ms"));
    }

    /// Everything is of the newest version.
    pub(crate) fn end_deployments(&mut self) {
        self.versions.changes.clear();
        self.versions.current = [self.versions.newest; FUNCTIONS];
    }

    /// The version of an invocation that begins now.
    pub(crate) fn version_of(&mut self, function: Function) -> u32 {
        let version = self.versions.of(function, self.now);
        if self.versions.current.iter().any(|other| *other > version) {
            self.coverage.hit(Counter::OlderVersion);
        }
        version
    }

    /// An item as that version reads it.
    pub(crate) fn read_as(&mut self, version: u32, mut item: Item) -> Item {
        if writer(&item) <= version {
            item.schema %= SCHEMAS;
        } else {
            self.coverage.hit(Counter::NewerRecord);
        }
        item
    }

    /// S10: nobody writes over what a newer version wrote, whose fields it does not know.
    pub(crate) fn check_versions(&mut self, version: u32, writes: &[Write]) {
        for write in writes {
            let stored = self.aws.ledger.item(&write.item.key);
            // Written since it was read: the write meets a conflict.
            let stored = stored.filter(|stored| write.expect == Expect::Version(stored.version));
            if let Some(newer) = stored.map(writer).filter(|newer| *newer > version) {
                let key = &write.item.key;
                let what = format!("{key} is written by version {version} over what version {newer} wrote");
                self.checker.violated("S10", self.now, what);
            }
        }
    }
}

/// Writes as that version makes them.
pub(crate) fn written_by(version: u32, writes: &[Write]) -> Cow<'_, [Write]> {
    if version == 0 {
        return Cow::Borrowed(writes);
    }
    let mut own = writes.to_vec();
    for write in &mut own {
        write.item.schema += version * SCHEMAS;
    }
    Cow::Owned(own)
}
