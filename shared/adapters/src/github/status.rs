//! The one table from GitHub's answers to classes.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use runner_scaler_core::error::{Class, PortError};
use runner_scaler_core::time::{Clock, Timestamp};
use serde::Deserialize;

use super::client::Call;
use crate::aws::{Effect, shortened};
use crate::clock::SystemClock;

/// Wait where GitHub refuses for too many requests and does not say how long: "at least one minute" (GitHub's REST
/// documentation, rate limits, read 2026-11-20).
const PATIENCE: Duration = Duration::from_mins(1);

#[derive(Deserialize)]
struct Body {
    message: Option<String>,
}

/// The error that an answer's status stands for.
pub(super) fn port_error(call: &Call, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> PortError {
    let class = class_of(status, headers, call.effect(), SystemClock.now());
    let message = serde_json::from_slice::<Body>(body).ok().and_then(|body| body.message).unwrap_or_default();
    PortError::new(call.name(), class, shortened(&format!("{} {message}", status.as_u16())))
}

/// 404 has three meanings (gone, never there, permission lost) and 403 too (rate limit, permission, suspended App), so
/// neither is ever "gone". A rate limit is told by its headers, never by its text.
fn class_of(status: StatusCode, headers: &HeaderMap, effect: Effect, now: Timestamp) -> Class {
    match status.as_u16() {
        403 | 429 if let Some(wait) = patience(status, headers, now) => Class::Throttled { retry_after: Some(wait) },
        401 | 403 | 451 => Class::Denied,
        404 | 410 => Class::Absent,
        409 => Class::Conflict,
        408 | 500.. => effect.unanswered(),
        400..=499 => Class::Rejected,
        // Any other success or redirect is an answer that we cannot read.
        _ => effect.unanswered(),
    }
}

/// How long GitHub asks to be left alone; `None` when the refusal is no rate limit.
fn patience(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    if let Some(seconds) = number("retry-after") {
        return Some(Duration::from_secs(seconds));
    }
    if number("x-ratelimit-remaining") == Some(0) {
        let reset = number("x-ratelimit-reset").and_then(|seconds| i64::try_from(seconds).ok());
        let wait = reset.map(|seconds| Timestamp(seconds.saturating_mul(1_000)).since(now));
        return Some(wait.unwrap_or(PATIENCE).max(Duration::from_secs(1)));
    }
    (status == StatusCode::TOO_MANY_REQUESTS).then_some(PATIENCE)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn each_status_has_its_class() {
        let throttled = |seconds| Class::Throttled { retry_after: Some(Duration::from_secs(seconds)) };
        let spent = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1030")];
        for (case, status, pairs, read, change) in [
            ("no token", 401, &[][..], Class::Denied, Class::Denied),
            ("no permission", 403, &[("x-ratelimit-remaining", "4999")], Class::Denied, Class::Denied),
            ("secondary limit", 403, &[("retry-after", "17")], throttled(17), throttled(17)),
            ("primary limit", 403, &spent, throttled(30), throttled(30)),
            ("primary limit, reset unsaid", 403, &[("x-ratelimit-remaining", "0")], throttled(60), throttled(60)),
            ("too many, how long unsaid", 429, &[], throttled(60), throttled(60)),
            (
                "reset in the past",
                429,
                &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "9")],
                throttled(1),
                throttled(1),
            ),
            ("not found", 404, &[], Class::Absent, Class::Absent),
            ("a 404 is no rate limit", 404, &[("x-ratelimit-remaining", "0")], Class::Absent, Class::Absent),
            ("gone", 410, &[], Class::Absent, Class::Absent),
            ("legal reasons", 451, &[], Class::Denied, Class::Denied),
            ("conflict", 409, &[], Class::Conflict, Class::Conflict),
            ("invalid", 422, &[], Class::Rejected, Class::Rejected),
            ("bad version header", 400, &[], Class::Rejected, Class::Rejected),
            ("server error", 500, &[], Class::Transient, Class::OutcomeUnknown),
            ("bad gateway", 502, &[], Class::Transient, Class::OutcomeUnknown),
            ("GitHub's own time limit", 504, &[], Class::Transient, Class::OutcomeUnknown),
            ("redirected again", 302, &[], Class::Transient, Class::OutcomeUnknown),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            let now = Timestamp(1_000_000);
            assert_eq!(class_of(status, &headers(pairs), Effect::Read, now), read, "reading: {case}");
            assert_eq!(class_of(status, &headers(pairs), Effect::Change, now), change, "changing: {case}");
        }
    }
}
