//! GitHub's log of deliveries: whose instances an unread one keeps, how a log that is too long for one pass is read,
//! and which runs are looked through while it cannot be.

use super::*;
use crate::ids::InstallationId;
use crate::ledger::DeliveryCursor;

fn delivery(number: u64, at: Timestamp, installation_id: Option<u64>) -> Delivery {
    Delivery {
        id: number,
        guid: DeliveryGuid::new(format!("{number:08x}-0000-0000-0000-000000000000")),
        delivered_at: at,
        event: "workflow_job".into(),
        action: Some("in_progress".into()),
        installation_id: installation_id.map(InstallationId),
    }
}

/// A delivery of nobody's runner.
fn put(fake: &Fake, number: u64, at: Timestamp, installation_id: Option<u64>) {
    let payload = started_payload(99, "GitHub Actions 5");
    fake.state_mut().deliveries.push((delivery(number, at, installation_id), payload));
}

fn started_payload(runner_id: u64, runner_name: &str) -> String {
    serde_json::json!({
        "action": "in_progress",
        "workflow_job": {"id": 1, "run_id": 2, "labels": ["self-hosted", "linux"], "runner_id": runner_id,
            "runner_name": runner_name},
        "repository": {"full_name": "octo/hello", "owner": {"login": "octo", "type": "Organization"}},
    })
    .to_string()
}

fn cursor(fake: &Fake) -> DeliveryCursor {
    fake.get::<DeliveryCursor>(DeliveryCursor::ID).expect("a cursor")
}

/// Passes of scale-down, a minute apart, until its runner is deregistered.
fn down_until_deregistered(fake: &Fake, most: usize) -> Option<usize> {
    (1..=most).find(|_| {
        fake.pass(MINUTE);
        let _ = scale_down(fake, &policy());
        fake.state().runners.is_empty()
    })
}

#[test]
fn an_unread_delivery_keeps_the_instances_of_its_owner_and_of_nobody_else() {
    for (case, of_instance, of_delivery, known, kept) in [
        ("another organisation's", Some(7), Some(8), vec![(8, "other")], false),
        ("another organisation's, and nothing is known of the instance's", None, Some(8), vec![(8, "other")], false),
        ("its own", Some(7), Some(7), vec![(7, "octo")], true),
        ("its own, and the account was renamed", Some(7), Some(7), vec![(7, "octo-new")], true),
        ("its own, and the App was installed anew", Some(7), Some(8), vec![(8, "Octo")], true),
        ("of an installation that GitHub does not know any more", Some(7), Some(8), vec![], true),
        ("the log does not say whose", Some(7), None, vec![(8, "other")], true),
    ] {
        let fake = Fake::new();
        idle_runner(&fake);
        let mut own = fake.get::<InstanceRecord>("i-1").expect("a record");
        own.access.installation_id = of_instance.map(InstallationId);
        fake.put(&own);
        let known = known.into_iter().map(|(id, owner)| (InstallationId(id), owner.to_owned()));
        fake.state_mut().installations.extend(known);
        put(&fake, 1, fake.now(), of_delivery);
        fake.always_fail("DeliveryLog::delivery_payload", Class::Transient);
        let gone = down_until_deregistered(&fake, 30);
        assert_eq!(gone.is_none(), kept, "{case}: deregistered after {gone:?} min");
    }
}

#[test]
fn who_owns_an_installation_is_asked_once_and_only_while_a_payload_is_unread() {
    let fake = Fake::new();
    idle_runner(&fake);
    fake.state_mut().installations.insert(InstallationId(8), "other".to_owned());
    put(&fake, 1, fake.now(), Some(8));
    fake.always_fail("DeliveryLog::delivery_payload", Class::Transient);
    down_until_deregistered(&fake, 30).expect("another's delivery");
    assert_eq!(fake.calls_of("DeliveryLog::installation_owner"), 1);
    fake.heal();
    minutes_until_ended(&fake).expect("ended");
    assert_eq!(fake.calls_of("DeliveryLog::installation_owner"), 1);
    assert!(cursor(&fake).owners.is_empty(), "forgotten with the delivery");
}

#[test]
fn a_cursor_written_before_installations_were_known_is_read() {
    let old = serde_json::json!({
        "read_until": 5, "applied": {}, "refused": {}, "unreadable_since": null, "payloads_unread_since": null,
        "unsettled": { "g": { "id": 1, "delivered_at": 4, "unread_since": null, "concerns": null } },
    });
    let cursor: DeliveryCursor = serde_json::from_value(old).expect("an old record");
    assert_eq!((cursor.owners.len(), &cursor.reading), (0, &None));
    assert!(cursor.unsettled.values().all(|delivery| delivery.installation_id.is_none()));
    let mut known = DeliveryCursor::default();
    known.owners.insert(InstallationId(8), "other".to_owned());
    let written = serde_json::to_value(&known).expect("a record");
    assert_eq!(serde_json::from_value::<DeliveryCursor>(written).expect("the same"), known, "ids are keys");
}

/// Thirty thousand deliveries failed in an hour, 300 pages of the log, and last of all the start of our runner's job.
#[test]
fn a_log_of_hundreds_of_pages_is_read_over_passes_and_hides_nothing() {
    for (case, ours) in [("a job started on it", true), ("none did", false)] {
        let fake = Fake::new();
        idle_runner(&fake);
        let first = fake.now();
        if ours {
            let payload = started_payload(7, "runner-i-1");
            fake.state_mut().deliveries.push((delivery(1, first, None), payload));
        }
        for n in 2..30_000 {
            let of_another_kind =
                Delivery { event: "push".into(), ..delivery(n, first.plus(Duration::from_millis(n * 120)), None) };
            fake.state_mut().deliveries.push((of_another_kind, "{}".to_owned()));
        }
        fake.pass(60 * MINUTE);
        let mut last_pages = 0;
        let gone = (1..=60).find(|_| {
            fake.pass(MINUTE);
            let _ = scale_down(&fake, &policy());
            let pages = fake.calls_of("DeliveryLog::failed_deliveries_since");
            assert!(pages - last_pages <= 50, "{case}: {} pages in one pass", pages - last_pages);
            last_pages = pages;
            fake.state().runners.is_empty()
        });
        assert_eq!(gone.is_none(), ours, "{case}: deregistered after {gone:?} min");
        assert!(last_pages >= 300, "{case}: {last_pages} pages");
        let started = fake.get::<InstanceRecord>("i-1").expect("a record").job_started;
        assert_eq!(started.is_some(), ours, "{case}");
    }
}

#[test]
fn a_reading_goes_on_after_a_failed_page_and_begins_anew_where_its_place_is_lost() {
    for (case, class, goes_on) in
        [("the page fails", Class::Transient, true), ("the place is not known any more", Class::Rejected, false)]
    {
        let fake = Fake::new();
        idle_runner(&fake);
        for n in 1..=250 {
            put(&fake, n, fake.now(), None);
        }
        let mut waiting = fake.get::<InstanceRecord>("i-1").expect("a record");
        waiting.drain_requested_at = Some(fake.now());
        waiting.note_idle(fake.now());
        fake.put(&waiting);
        fake.pass(30 * MINUTE);
        // Two pages, and none after that.
        let log = "DeliveryLog::failed_deliveries_since";
        let pages = fake.calls_of(log);
        for call in 1..200 {
            fake.meanwhile(call, move |fake| {
                if fake.calls_of(log) == pages + 2 {
                    fake.always_fail(log, class);
                }
            });
        }
        let _ = scale_down(&fake, &policy());
        assert_eq!(fake.calls_of(log), pages + 3, "{case}");
        assert_eq!(cursor(&fake).unsettled.len(), 200, "{case}: what was read is remembered");
        assert_eq!(cursor(&fake).reading.is_some(), goes_on, "{case}");
        fake.heal();
        fake.pass(MINUTE);
        let _ = scale_down(&fake, &policy());
        assert_eq!(cursor(&fake).reading, None, "{case}: read through");
    }
}

#[test]
fn a_log_that_is_never_read_through_is_stood_in_for_after_an_hour() {
    let fake = Fake::new();
    idle_runner(&fake);
    for n in 1..=2_000 {
        put(&fake, n, fake.now(), None);
    }
    fake.always_fail("DeliveryLog::delivery_payload", Class::Transient);
    let gone = down_until_deregistered(&fake, 120).expect("no job runs anywhere");
    assert!(gone >= 60, "after {gone} min");
    assert!(cursor(&fake).unsettled.len() <= 1_500, "bounded");
}

#[test]
fn while_the_log_is_unread_jobs_of_runs_that_wait_are_looked_for_too() {
    for (case, log_fails, run, kept) in [
        ("the run is in progress", true, "in_progress", true),
        ("the run waits for an approval of another job", true, "waiting", true),
        ("the run is queued again for another job", true, "queued", true),
        ("the log is read, and so are all events", false, "waiting", false),
    ] {
        let fake = Fake::new();
        idle_runner(&fake);
        jobs_api_says(&fake, 1, JobState::InProgress, Some(7));
        fake.state_mut().run_of_job.insert(JobId(1), run);
        if log_fails {
            fake.always_fail("DeliveryLog::failed_deliveries_since", Class::Denied);
        }
        let gone = down_until_deregistered(&fake, 120);
        assert_eq!(gone.is_none(), kept, "{case}: deregistered after {gone:?} min");
        let broad = fake.calls_of("Jobs::jobs_of_open_runs");
        assert_eq!(broad > 0, log_fails, "{case}: {broad} looks through all runs");
    }
}
