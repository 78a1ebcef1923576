//! GitHub's log of deliveries.

use super::*;

#[tokio::test]
async fn failed_deliveries_are_read_until_they_are_too_old_also_where_github_shows_all() {
    for (case, show_all) in [("GitHub knows the filter", false), ("it shows all", true)] {
        let wire = Wire::start(move |seen| {
            let first = "/app/hook/deliveries?status=failure&per_page=100";
            let link = |cursor: &str| next(&format!("{}{first}&cursor={cursor}", origin(seen)));
            let shown = |page: &[Value]| {
                let failed = |delivery: &&Value| show_all || delivery["status_code"] != 200;
                Reply::new(200, page.iter().filter(failed).cloned().collect::<Value>())
            };
            let cursor = seen.target.strip_prefix(first)?;
            Some(match cursor {
                "" => shown(&[
                    delivery(6, "2026-11-20T13:00:00Z", 200),
                    delivery(5, "2026-11-20T12:30:00Z", 401),
                    delivery(4, "2026-11-20T12:00:00Z", 200),
                ])
                .header("link", link("b")),
                "&cursor=b" => shown(&[
                    delivery(3, "2026-11-20T11:00:00Z", 502),
                    delivery(2, "2026-11-20T10:00:00Z", 0),
                    delivery(1, "2026-11-20T09:00:00Z", 500),
                ])
                .header("link", link("c")),
                "&cursor=c" => {
                    shown(&[delivery(12, "2026-11-20T09:59:59Z", 502), delivery(11, "2026-11-20T08:00:00Z", 502)])
                        .header("link", link("d"))
                }
                _ => Reply::new(500, "a page too many"),
            })
        })
        .await;
        let since = Timestamp::parse("2026-11-20T10:00:00Z").expect("RFC 3339");
        let adapters = wire.adapters();
        let first = adapters.failed_deliveries_since(since, None).await.expect("a page");
        let place = first.next.clone().expect("older ones");
        let second = adapters.failed_deliveries_since(since, Some(&place)).await.expect("another page");
        let place = second.next.clone().expect("its last entry is too old, and not all are");
        let third = adapters.failed_deliveries_since(since, Some(&place)).await.expect("the last page");
        assert_eq!((third.deliveries.len(), third.next), (0, None), "{case}: all of it, and all that follow");
        let failed: Vec<Delivery> = first.deliveries.into_iter().chain(second.deliveries).collect();
        let read: Vec<_> = failed.iter().map(|delivery| (delivery.id, delivery.guid.as_str())).collect();
        assert_eq!(read, [(5, "g5"), (3, "g3"), (2, "g2")], "{case}");
        let last = failed.last().expect("three");
        assert_eq!(last.delivered_at, since, "{case}: the time itself is not too old");
        assert_eq!((last.event.as_str(), last.action.as_deref()), ("workflow_job", Some("in_progress")), "{case}");
        assert_eq!(last.installation_id, Some(InstallationId(7)), "{case}");
        assert_eq!(wire.calls().len(), 3, "{case}: the fourth page was not asked for");
    }
}

/// The order within a page is not documented.
#[tokio::test]
async fn one_old_delivery_in_the_wrong_place_does_not_end_the_reading() {
    let wire = Wire::start(|seen| {
        let first = "/app/hook/deliveries?status=failure&per_page=100";
        Some(match seen.target.strip_prefix(first)? {
            "" => Reply::new(
                200,
                json!([delivery(9, "2026-11-20T13:00:00Z", 502), delivery(1, "2026-11-20T08:00:00Z", 502)]),
            )
            .header("link", next(&format!("{}{first}&cursor=b", origin(seen)))),
            "&cursor=b" => Reply::new(200, json!([delivery(8, "2026-11-20T12:00:00Z", 502)])),
            _ => Reply::new(500, "a page too many"),
        })
    })
    .await;
    let since = Timestamp::parse("2026-11-20T10:00:00Z").expect("RFC 3339");
    let adapters = wire.adapters();
    let first = adapters.failed_deliveries_since(since, None).await.expect("a page");
    let second = adapters.failed_deliveries_since(since, first.next.as_ref()).await.expect("another page");
    let read: Vec<u64> = first.deliveries.iter().chain(&second.deliveries).map(|delivery| delivery.id).collect();
    assert_eq!((read, second.next), (vec![9, 8], None));
}

#[tokio::test]
async fn a_page_of_the_log_that_cannot_be_read_is_an_error() {
    let circle = |seen: &Seen| Reply::new(200, "[]").header("link", next(&seen.target));
    for (case, page, expected) in [
        ("it fails", Some(Reply::new(500, "{}")), Class::Transient),
        ("no time of delivery", Some(Reply::new(200, json!([delivery(1, "yesterday", 502)]))), Class::Transient),
        ("denied", Some(Reply::new(403, r#"{"message": "no"}"#)), Class::Denied),
        ("late", Some(Reply::new(200, "[]").late()), Class::Transient),
        ("GitHub does not know the place any more", Some(Reply::new(422, "{}")), Class::Rejected),
        ("it leads to itself", None, Class::Transient),
    ] {
        let wire = Wire::start(move |seen| {
            seen.target.starts_with("/two").then(|| page.clone().unwrap_or_else(|| circle(seen)))
        })
        .await;
        let place = LogPlace::new("/two");
        let refused = wire.adapters().failed_deliveries_since(Timestamp(0), Some(&place)).await.expect_err(case);
        assert_eq!(refused.class(), expected, "{case}: {refused}");
    }
    let wire = Wire::start(|_| None).await;
    let elsewhere = LogPlace::new("https://example.org/app/hook/deliveries");
    let refused =
        wire.adapters().failed_deliveries_since(Timestamp(0), Some(&elsewhere)).await.expect_err("not GitHub");
    assert_eq!((refused.class(), wire.calls().len()), (Class::Rejected, 0), "no token went there");
}

#[tokio::test]
async fn an_installation_has_one_owner_or_none_that_is_known() {
    for (case, reply, expected) in [
        ("an organisation's", Reply::new(200, json!({ "id": 8, "account": { "login": "Octo" } })), Ok(Some("Octo"))),
        ("an enterprise's", Reply::new(200, json!({ "id": 8, "account": { "slug": "octo" } })), Ok(None)),
        ("of a deleted account", Reply::new(200, json!({ "id": 8, "account": null })), Ok(None)),
        ("no more", Reply::new(404, "{}"), Ok(None)),
        ("unread", Reply::new(500, "{}"), Err(Class::Transient)),
    ] {
        let wire = Wire::start(move |seen| (seen.target == "/app/installations/8").then(|| reply.clone())).await;
        let owner = wire.adapters().installation_owner(InstallationId(8)).await.map_err(|error| error.class());
        assert_eq!(owner.as_ref().map(Option::as_deref).map_err(|class| *class), expected, "{case}");
    }
}

#[tokio::test]
async fn the_log_is_kept_for_as_long_as_the_configured_github_keeps_it() {
    let wire = Wire::start(|_| None).await;
    let days = |days: u64| std::time::Duration::from_hours(24 * days);
    for (url, expected) in
        [("https://api.github.com", 3), ("https://api.octo.ghe.com", 3), ("https://ghe.example.org/api/v3", 7)]
    {
        assert_eq!(wire.adapters_with(url).log_kept(), days(expected), "{url}");
    }
}

#[tokio::test]
async fn a_payload_is_read_as_it_is() {
    let wire = Wire::start(|seen| {
        Some(match seen.target.as_str() {
            "/app/hook/deliveries/3" => Reply::new(
                200,
                json!({ "id": 3, "request": { "payload": { "action": "in_progress", "n": 4_294_967_297_u64 } } }),
            ),
            "/app/hook/deliveries/4" => Reply::new(
                200,
                json!({ "id": 4, "request": { "payload": "{\"action\": \"in_progress\", \"s\": \"\\\"\"}" } }),
            ),
            "/app/hook/deliveries/2" => Reply::new(200, json!({ "id": 2, "request": { "payload": null } })),
            _ => return None,
        })
    })
    .await;
    let adapters = wire.adapters();
    let payload = adapters.delivery_payload(3).await.expect("a payload");
    let payload: Value = serde_json::from_str(&payload).expect("JSON");
    assert_eq!(payload, json!({ "action": "in_progress", "n": 4_294_967_297_u64 }));
    let text = adapters.delivery_payload(4).await.expect("a payload");
    assert_eq!(text, r#"{"action": "in_progress", "s": "\""}"#, "the text itself, where GitHub shows a string");
    let refused = adapters.delivery_payload(2).await.expect_err("GitHub keeps no payload");
    assert_eq!(refused.class(), Class::Transient);
}
