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
    /// What the request says that was not answered yet: when it was made.
    open: Option<Millis>,
}

impl DrainTag {
    /// Looks at the tag's value. A value counts once, and only when it is a time (RFC 3339) within [`DRAIN_VALID_MS`]
    /// of `wall_now`: a text that is no time was not written by our control plane.
    pub fn look(&mut self, value: Option<&str>, wall_now: Millis) {
        self.close_old(wall_now);
        let Some(value) = value else { return };
        if self.last_value.as_deref() == Some(value) {
            return;
        }
        self.last_value = Some(value.to_owned());
        match DateTime::parse_from_rfc3339(value) {
            Ok(at) if counts(at.timestamp_millis(), wall_now) => {
                self.seen_at = Some(wall_now);
                self.open = Some(at.timestamp_millis());
            }
            Ok(_) | Err(_) => {}
        }
    }

    /// Closes a request that is too old by now. To be called before every decision: a tag that nobody can read any more
    /// closes nothing.
    pub fn close_old(&mut self, wall_now: Millis) {
        self.open = self.open.filter(|at| counts(*at, wall_now));
    }

    /// The request that was not answered yet.
    #[must_use]
    pub fn open(&self) -> Drain {
        if self.open.is_some() { Drain::Requested } else { Drain::NotAsked }
    }

    /// The request was answered: the instance stays, and only a new value asks again.
    pub fn answer(&mut self) {
        self.open = None;
    }

    /// When the last request that counts was seen.
    #[must_use]
    pub fn seen_at(&self) -> Option<Millis> {
        self.seen_at
    }
}

fn counts(asked_at: Millis, wall_now: Millis) -> bool {
    wall_now.abs_diff(asked_at) <= DRAIN_VALID_MS.unsigned_abs()
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
    fn a_request_stays_open_until_it_is_answered_or_old() {
        const NOW: Millis = 1_800_000_000_000;
        const VALUE: Option<&str> = Some("2027-01-15T08:00:00Z");
        let mut tag = DrainTag::default();
        tag.look(VALUE, NOW);
        for (case, value, later) in [("the tag is gone", None, 1_000), ("the last moment", VALUE, DRAIN_VALID_MS)] {
            tag.look(value, NOW + later);
            assert_eq!(tag.open(), Drain::Requested, "{case}");
        }
        let mut unread = tag.clone();
        unread.close_old(NOW + DRAIN_VALID_MS + 1);
        assert_eq!(unread.open(), Drain::NotAsked, "nobody reads the tag any more");
        tag.look(None, NOW + DRAIN_VALID_MS + 1);
        assert_eq!(tag.open(), Drain::NotAsked, "the tag is gone");
        tag.look(VALUE, NOW);
        assert_eq!(tag.open(), Drain::NotAsked, "a clock that is set back opens nothing again");
        assert_eq!(tag.seen_at(), Some(NOW));
    }
}
