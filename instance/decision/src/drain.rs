//! Drain requests: which value of the `ghr:drain` tag counts, and that each counts once.

use crate::Millis;
use chrono::DateTime;

/// A request older than this, or as far ahead, does not count: it may have been decided on old evidence.
pub const DRAIN_VALID_MS: Millis = 900_000;

/// What the control plane wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Drain {
    /// Nothing that was not answered.
    #[default]
    NotAsked,
    /// That the instance ends itself, if it has no job.
    Requested,
}

/// What was made of the drain tag so far. Its times are wall time, in milliseconds since the Unix epoch, because the
/// tag's value is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DrainTag {
    last_value: Option<String>,
    seen_at: Option<Millis>,
    open: Drain,
}

impl DrainTag {
    /// Looks at the tag's value. A value counts once, and only when it is a time (RFC 3339) within [`DRAIN_VALID_MS`]
    /// of `wall_now`: a text that is no time was not written by our control plane.
    pub fn look(&mut self, value: Option<&str>, wall_now: Millis) {
        let Some(value) = value else { return };
        if self.last_value.as_deref() == Some(value) {
            return;
        }
        self.last_value = Some(value.to_owned());
        match DateTime::parse_from_rfc3339(value) {
            Ok(at) if wall_now.abs_diff(at.timestamp_millis()) <= DRAIN_VALID_MS.unsigned_abs() => {
                self.seen_at = Some(wall_now);
                self.open = Drain::Requested;
            }
            Ok(_) | Err(_) => {}
        }
    }

    /// The request that was not answered yet.
    #[must_use]
    pub fn open(&self) -> Drain {
        self.open
    }

    /// The request was answered: the instance stays, and only a new value asks again.
    pub fn answer(&mut self) {
        self.open = Drain::NotAsked;
    }

    /// When the last request that counts was seen.
    #[must_use]
    pub fn seen_at(&self) -> Option<Millis> {
        self.seen_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fresh_request_counts_once() {
        const NOW: Millis = 1_800_000_000_000; // 2027-01-15T08:00:00Z
        let mut tag = DrainTag::default();
        for (case, value, expected) in [
            ("no tag", None, Drain::NotAsked),
            ("a request of 20 min ago", Some("2027-01-15T07:40:00Z"), Drain::NotAsked),
            ("a text that is no time", Some("please"), Drain::NotAsked),
            ("a request of now", Some("2027-01-15T08:00:00.000Z"), Drain::Requested),
            ("the same again", Some("2027-01-15T08:00:00.000Z"), Drain::NotAsked),
            ("the tag is gone", None, Drain::NotAsked),
            ("its renewal", Some("2027-01-15T08:01:00.000Z"), Drain::Requested),
            ("one from far ahead", Some("2027-01-15T08:16:00.000Z"), Drain::NotAsked),
        ] {
            tag.look(value, NOW);
            assert_eq!(tag.open(), expected, "{case}");
            tag.answer();
        }
        assert_eq!(tag.seen_at(), Some(NOW));
    }

    #[test]
    fn a_request_stays_open_until_it_is_answered() {
        let mut tag = DrainTag::default();
        tag.look(Some("2027-01-15T08:00:00Z"), 1_800_000_000_000);
        tag.look(None, 1_800_000_001_000);
        assert_eq!(tag.open(), Drain::Requested);
    }
}
