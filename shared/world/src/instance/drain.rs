//! Drain requests: which value of the `ghr:drain` tag counts, and that each counts once.

use crate::Millis;
use chrono::DateTime;

/// What was made of the drain tag so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct DrainTag {
    last_value: Option<String>,
    seen_at: Option<Millis>,
}

/// What one look at the tag says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// A new request that counts.
    Requested,
    /// No tag, the value of an earlier look, or one that does not count.
    Nothing,
}

impl DrainTag {
    /// Looks at the tag's value. A value counts once, and only when it is a time within `valid_ms` of now: an old one
    /// was decided on old evidence, and a text that is no time was not written by our control plane.
    pub(super) fn look(&mut self, value: Option<&str>, now: Millis, valid_ms: Millis) -> Look {
        let Some(value) = value else { return Look::Nothing };
        if self.last_value.as_deref() == Some(value) {
            return Look::Nothing;
        }
        self.last_value = Some(value.to_owned());
        match DateTime::parse_from_rfc3339(value) {
            Ok(at) if now.abs_diff(at.timestamp_millis()) <= valid_ms.unsigned_abs() => {
                self.seen_at = Some(now);
                Look::Requested
            }
            Ok(_) | Err(_) => Look::Nothing,
        }
    }

    /// When the last request that counts was seen.
    pub(super) fn seen_at(&self) -> Option<Millis> {
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
            ("no tag", None, Look::Nothing),
            ("a request of 20 min ago", Some("2027-01-15T07:40:00Z"), Look::Nothing),
            ("a text that is no time", Some("please"), Look::Nothing),
            ("a request of now", Some("2027-01-15T08:00:00.000Z"), Look::Requested),
            ("the same again", Some("2027-01-15T08:00:00.000Z"), Look::Nothing),
            ("its renewal", Some("2027-01-15T08:01:00.000Z"), Look::Requested),
            ("one from far ahead", Some("2027-01-15T08:16:00.000Z"), Look::Nothing),
        ] {
            assert_eq!(tag.look(value, NOW, 900_000), expected, "{case}");
        }
        assert_eq!(tag.seen_at(), Some(NOW));
    }
}
