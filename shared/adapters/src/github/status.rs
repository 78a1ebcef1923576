//! The one table from GitHub's answers to classes.

use std::time::Duration;

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use http::header::DATE;
use http::{HeaderMap, StatusCode};
use runner_scaler_core::error::{Class, PortError};
use runner_scaler_core::time::{Clock, Timestamp};
use serde::Deserialize;

use super::client::Call;
use crate::aws::{Effect, shortened};
use crate::clock::SystemClock;

#[derive(Deserialize)]
struct Body {
    message: Option<String>,
}

/// The error that an answer's status stands for.
pub(super) fn port_error(call: &Call, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> PortError {
    let message = serde_json::from_slice::<Body>(body).ok().and_then(|body| body.message).unwrap_or_default();
    // GitHub's reset is a time of GitHub's clock.
    let now = answered_at(headers).unwrap_or_else(|| SystemClock.now());
    let class = class_of(status, headers, &message, call.effect(), now);
    PortError::new(call.name(), class, shortened(&format!("{} {message}", status.as_u16())))
}

/// GitHub's time when it answered.
pub(super) fn answered_at(headers: &HeaderMap) -> Option<Timestamp> {
    let date = headers.get(DATE)?.to_str().ok()?;
    DateTime::from_str(date, Format::HttpDate).ok()?.to_millis().ok().map(Timestamp)
}

/// How long the hourly budget is spent, where an answer took the last of it: the next call would be refused, and count
/// against the App. A budget of another kind (`x-ratelimit-resource`) is not everybody's.
pub(super) fn spent_for(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let of_all = text("x-ratelimit-resource").is_none_or(|resource| resource == "core");
    (of_all && text("x-ratelimit-remaining") == Some("0")).then_some(())?;
    let now = answered_at(headers).unwrap_or_else(|| SystemClock.now());
    until_reset(headers, now)
}

fn until_reset(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let seconds = headers.get("x-ratelimit-reset")?.to_str().ok()?.trim().parse::<i64>().ok()?;
    Some(Timestamp(seconds.saturating_mul(1_000)).since(now).max(Duration::from_secs(1)))
}

/// 404 has three meanings (gone, never there, permission lost) and 403 too (rate limit, permission, suspended App), so
/// neither is ever "gone".
fn class_of(status: StatusCode, headers: &HeaderMap, message: &str, effect: Effect, now: Timestamp) -> Class {
    match status.as_u16() {
        403 | 429 if let Some(patience) = patience(status, headers, message, now) => patience,
        // Only a read follows a redirect, and only to GitHub; a change that was redirected was not made.
        300..=399 if effect == Effect::Change => Class::Rejected,
        401 | 403 | 451 => Class::Denied,
        404 | 410 => Class::Absent,
        409 => Class::Conflict,
        408 | 500.. => effect.unanswered(),
        400..=499 => Class::Rejected,
        // Any other success, or a read's redirect that is not followed, is an answer that we cannot read.
        _ => effect.unanswered(),
    }
}

/// Class `Throttled`, with the wait where GitHub says one; `None` when the refusal is no rate limit.
///
/// A rate limit is told by its status and headers. Only a 403 without any of those is told by its text, for GitHub
/// gives a secondary limit nothing else at times: "you will receive a 403 or 429 response and an error message that
/// indicates that you exceeded a secondary rate limit" (documentation, "Rate limits for the REST API", read
/// 2026-11-20). Taken for a missing permission it would be asked again at once.
fn patience(status: StatusCode, headers: &HeaderMap, message: &str, now: Timestamp) -> Option<Class> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    let throttled = |retry_after| Some(Class::Throttled { retry_after });
    if let Some(seconds) = number("retry-after") {
        return throttled(Some(Duration::from_secs(seconds.max(1))));
    }
    if number("x-ratelimit-remaining") == Some(0) {
        return throttled(until_reset(headers, now));
    }
    let told = status == StatusCode::TOO_MANY_REQUESTS || message.to_ascii_lowercase().contains("rate limit");
    if told { throttled(None) } else { None }
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
        let unsaid = Class::Throttled { retry_after: None };
        let spent = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1030")];
        for (case, status, pairs, read, change) in [
            ("no token", 401, &[][..], Class::Denied, Class::Denied),
            ("no permission", 403, &[("x-ratelimit-remaining", "4999")], Class::Denied, Class::Denied),
            ("secondary limit", 403, &[("retry-after", "17")], throttled(17), throttled(17)),
            ("primary limit", 403, &spent, throttled(30), throttled(30)),
            ("primary limit, reset unsaid", 403, &[("x-ratelimit-remaining", "0")], unsaid, unsaid),
            ("too many, how long unsaid", 429, &[], unsaid, unsaid),
            ("too many, how long is no number", 429, &[("retry-after", "soon")], unsaid, unsaid),
            ("at once", 429, &[("retry-after", "0")], throttled(1), throttled(1)),
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
            ("moved for good", 301, &[], Class::Transient, Class::Rejected),
            ("moved", 302, &[], Class::Transient, Class::Rejected),
            ("moved for now, same method", 307, &[], Class::Transient, Class::Rejected),
            ("moved for good, same method", 308, &[], Class::Transient, Class::Rejected),
            ("another success", 206, &[], Class::Transient, Class::OutcomeUnknown),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            let now = Timestamp(1_000_000);
            let class = |effect| class_of(status, &headers(pairs), "text", effect, now);
            assert_eq!(class(Effect::Read), read, "reading: {case}");
            assert_eq!(class(Effect::Change), change, "changing: {case}");
        }
    }

    #[test]
    fn a_reset_is_a_time_of_githubs_clock_whatever_ours_says() {
        // Of 2001: our clock is decades ahead of it.
        let date = ("date", "Sun, 09 Sep 2001 01:46:40 GMT");
        let spent = [date, ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1000000090")];
        let call = Call::get("/x");
        let error = port_error(&call, StatusCode::FORBIDDEN, &headers(&spent), b"{}");
        assert_eq!(error.class, Class::Throttled { retry_after: Some(Duration::from_secs(90)) });
        assert_eq!(spent_for(&headers(&spent)), Some(Duration::from_secs(90)));
    }

    #[test]
    fn a_budget_is_spent_where_nothing_of_everybodys_is_left() {
        let date = ("date", "Sun, 09 Sep 2001 01:46:40 GMT");
        let (reset, none_left) = (("x-ratelimit-reset", "1000000090"), ("x-ratelimit-remaining", "0"));
        let ninety = Some(Duration::from_secs(90));
        for (case, pairs, expected) in [
            ("the last one", vec![date, none_left, reset, ("x-ratelimit-resource", "core")], ninety),
            ("GitHub does not say of what", vec![date, none_left, reset], ninety),
            ("some are left", vec![date, reset, ("x-ratelimit-remaining", "1")], None),
            (
                "of registrations",
                vec![date, none_left, reset, ("x-ratelimit-resource", "actions_runner_registration")],
                None,
            ),
            ("until when is not said", vec![date, none_left], None),
            ("no limit at all, as on a server of one's own", vec![date], None),
        ] {
            assert_eq!(spent_for(&headers(&pairs)), expected, "{case}");
        }
    }

    #[test]
    fn a_secondary_limit_without_a_header_is_told_by_its_text_and_nothing_else_is() {
        let unsaid = Class::Throttled { retry_after: None };
        for (message, status, expected) in [
            ("You have exceeded a secondary rate limit. Please wait a few minutes", 403, unsaid),
            ("API rate limit exceeded for installation ID 7.", 403, unsaid),
            ("Resource not accessible by integration", 403, Class::Denied),
            ("This installation has been suspended", 403, Class::Denied),
            ("You have exceeded a secondary rate limit", 404, Class::Absent),
            ("You have exceeded a secondary rate limit", 401, Class::Denied),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            let class = class_of(status, &HeaderMap::new(), message, Effect::Read, Timestamp(0));
            assert_eq!(class, expected, "{message}");
        }
    }
}
