//! Failed deliveries: GitHub never repeats one by itself, so it is asked to, once for each event.
//!
//! That it is asked is written down first, so that passes that overlap or die do not ask twice. What is lost between the
//! note and the question is found another way: a queued job by the search, what may say "busy" by removal, which reads
//! the payloads of failed deliveries before it ends anything.

use std::collections::BTreeSet;
use std::time::Duration;

use tracing::{info, warn};

use super::DemandPorts;
use super::report::Report;
use crate::error::{Class, Classify};
use crate::ids::DeliveryGuid;
use crate::ledger::{self, RedeliveryCursor, Stored, Versioned};
use crate::ports::Delivery;
use crate::time::{Deadline, Timestamp};

/// A reading begins this much before the last one: GitHub logs an attempt when it ends, up to 10 s after it was sent
/// (30 s on GHES, facts/github.md 3.1), and clocks differ.
const OVERLAP: Duration = Duration::from_mins(10);

/// Older failures are not asked for: the search has found what still waits, and after a long outage every pass would read
/// a log of hundreds of pages. Shorter, and an hour's outage loses what only removal would read.
const ASKED_WITHIN: Duration = Duration::from_hours(1);

/// A repetition that fails too shows up in the log within half an hour (facts of GitHub's delays); what was asked for is
/// remembered so much longer than what is read. At 30 a pass this is at most 60 KB of the record's 400.
const REMEMBERED: Duration = Duration::from_mins(90);

/// Deliveries asked for in one pass. More, and one outage takes the App's writes for itself (a write costs 5 of 900
/// points a minute); fewer, and it takes long to make up for.
const ASKED_MAX: usize = 30;

/// The log, newest first, and whether there was time for all of it; `None` where it cannot be read.
async fn read<P: DemandPorts>(
    ports: &P,
    since: Timestamp,
    deadline: Deadline,
    report: &mut Report,
) -> Option<(Vec<Delivery>, bool)> {
    let (mut failed, mut place) = (Vec::new(), None);
    loop {
        match ports.failed_deliveries_since(since, place.as_ref()).await {
            Ok(page) => {
                failed.extend(page.deliveries);
                place = page.next;
            }
            Err(error) => {
                report.error(error);
                return None;
            }
        }
        if place.is_none() || !deadline.allows_more(ports.now()) {
            return Some((failed, place.is_none()));
        }
    }
}

/// Asks for what failed since the last pass.
pub(super) async fn ask<P: DemandPorts>(ports: &P, deadline: Deadline, report: &mut Report) {
    let now = ports.now();
    let mut cursor = match ledger::load::<RedeliveryCursor>(ports, RedeliveryCursor::ID).await {
        Ok(Stored::Present(cursor)) => cursor,
        Ok(Stored::Absent) => Versioned::new(RedeliveryCursor::default()),
        Ok(Stored::Foreign) => {
            report.error("the record of redeliveries is of another schema: none is asked for");
            return;
        }
        Err(error) => {
            report.error(error);
            return;
        }
    };
    let oldest = now.minus(ASKED_WITHIN);
    let since = cursor.record.read_until.map_or(oldest, |until| until.minus(OVERLAP).max(oldest));
    let before = cursor.record.read_until;
    let Some((failed, whole)) = read(ports, since, deadline, report).await else { return };
    let chosen = choose(&mut cursor.record, failed, now);
    if !whole {
        // What was not read is read by the next pass.
        cursor.record.read_until = before;
    }
    match ledger::store(ports, cursor).await {
        Ok(_) => {}
        // Another pass asks.
        Err(error) if error.class() == Class::Conflict => return,
        Err(error) => {
            report.error(error);
            return;
        }
    }
    let mut not_asked = Vec::new();
    let mut held_back = false;
    for delivery in chosen {
        if held_back || !deadline.allows_more(ports.now()) {
            not_asked.push(delivery);
            continue;
        }
        let Err(error) = ports.redeliver(delivery.id).await else {
            info!(delivery_id = %delivery.guid, "asked for delivery {} once more", delivery.guid);
            report.redelivered_count += 1;
            continue;
        };
        warn!(delivery_id = %delivery.guid, error = %error, class = ?error.class, "delivery {} is not repeated: {error}", delivery.guid);
        match error.class() {
            Class::Throttled { .. } => {
                held_back = true;
                not_asked.push(delivery);
                report.error(error);
            }
            Class::Transient => {
                not_asked.push(delivery);
                report.error(error);
            }
            // It may have been asked for; or GitHub is not going to make it, which nobody can mend.
            Class::OutcomeUnknown | Class::Rejected | Class::Absent | Class::Conflict | Class::NoCapacity => {}
            Class::Denied | Class::Misconfigured => report.error(error),
        }
    }
    forget(ports, &not_asked, report).await;
}

/// The failures to ask for, oldest first, each noted as asked for.
fn choose(cursor: &mut RedeliveryCursor, mut failed: Vec<Delivery>, now: Timestamp) -> Vec<Delivery> {
    cursor.asked.retain(|_, at| now.since(*at) < REMEMBERED);
    failed.sort_by_key(|delivery| (delivery.delivered_at, delivery.id));
    let mut chosen: Vec<Delivery> = Vec::new();
    let mut read_until = now;
    for delivery in failed.into_iter().filter(is_of_a_job) {
        match cursor.asked.get_mut(&delivery.guid) {
            // The repetition failed too, or the reading overlaps.
            Some(at) => *at = (*at).max(delivery.delivered_at),
            None if chosen.len() < ASKED_MAX => {
                cursor.asked.insert(delivery.guid.clone(), now);
                chosen.push(delivery);
            }
            None => {
                read_until = delivery.delivered_at;
                break;
            }
        }
    }
    cursor.read_until = Some(read_until);
    chosen
}

fn is_of_a_job(delivery: &Delivery) -> bool {
    delivery.event == "workflow_job"
        && matches!(delivery.action.as_deref(), Some("queued" | "in_progress" | "completed") | None)
}

/// Takes back what was noted as asked for and was not, so that the next pass asks.
async fn forget<P: DemandPorts>(ports: &P, deliveries: &[Delivery], report: &mut Report) {
    let Some(oldest) = deliveries.iter().map(|delivery| delivery.delivered_at).min() else { return };
    let guids: BTreeSet<&DeliveryGuid> = deliveries.iter().map(|delivery| &delivery.guid).collect();
    let written = ledger::update::<RedeliveryCursor>(ports, RedeliveryCursor::ID, |stored| match stored {
        Stored::Present(mut cursor) => {
            cursor.record.asked.retain(|guid, _| !guids.contains(guid));
            cursor.record.read_until = cursor.record.read_until.map(|until| until.min(oldest));
            Some(cursor)
        }
        Stored::Absent | Stored::Foreign => None,
    });
    if let Err(error) = written.await {
        report.error(error);
    }
}
