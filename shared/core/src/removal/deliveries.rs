//! Deliveries settled (design section 5): every failed delivery that may say "busy" is applied to the ledger, or keeps
//! those instances that it may be about. GitHub's log is read once for many instances, and only from where the last
//! reading ended.

use std::collections::BTreeSet;
use std::time::Duration;

use tracing::{info, warn};

use super::RemovalPorts;
use super::open_jobs::Freshness;
use super::report::Report;
use crate::error::{Class, Classify, PortError};
use crate::ids::{DeliveryGuid, InstanceId, RunnerName};
use crate::ledger::{self, DELIVERY_LOG, DeliveryCursor, InstanceRecord, Stored, UnsettledDelivery, Versioned};
use crate::ports::Delivery;
use crate::time::{Deadline, Timestamp};
use crate::webhook::{self, Event};

/// A reading begins this much before the last one: GitHub logs an attempt when it ends, up to 10 s after it was sent
/// (30 s on GHES, facts/github.md 3.1), and clocks differ.
const OVERLAP: Duration = Duration::from_mins(10);

/// Payloads read in one pass, one call each. More, and a day's outage eats the pass; fewer, and it takes hours to
/// settle. What is left keeps everybody until the next pass.
const PAYLOADS_MAX: usize = 200;

/// Unsettled deliveries remembered, about 150 bytes each in an item that DynamoDB limits to 400 KB. Where there are
/// more, the reading ends at the last of them.
const UNSETTLED_MAX: usize = 1_500;

/// Instances that a payload may name which is not even JSON.
const CONCERNS_MAX: usize = 16;

/// Clocks of GitHub and EC2 may differ by this much when "since the launch" is asked.
const CLOCK_SKEW: Duration = Duration::from_mins(10);

/// How long the log must have been unreadable before the jobs API stands in for it (design section 5).
const UNREADABLE: Duration = Duration::from_mins(60);

/// What the log says about one instance.
/// In the order in which one outweighs another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Word {
    /// All that failed and may be about it is in the ledger.
    Settled,
    /// The log, or a payload that may be about anybody, cannot be read for so long that the jobs API has to stand in.
    Unreadable,
    /// Something may be about it, or the log cannot be read.
    Unsettled,
}

/// The log as this pass read it.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    read: Option<(Timestamp, Log)>,
    payloads_read: usize,
}

#[derive(Debug)]
enum Log {
    Read(Box<DeliveryCursor>),
    Unreadable {
        since: Timestamp,
    },
    /// The cursor itself could not be read or understood.
    Unknown,
}

impl Deliveries {
    /// What the log says about that instance, read no earlier than asked for.
    pub(super) async fn about<P: RemovalPorts>(
        &mut self,
        ports: &P,
        record: &InstanceRecord,
        fresh: Freshness,
        report: &mut Report,
    ) -> Word {
        let log = match self.read.take() {
            Some((at, log)) if fresh.holds(at) => self.read.insert((at, log)),
            Some(_) | None => {
                let at = ports.now();
                let log = self.settle(ports, at, fresh.deadline, report).await;
                self.read.insert((at, log))
            }
        };
        let now = log.0;
        match &log.1 {
            Log::Read(cursor) => {
                let since = record.launched_at.minus(CLOCK_SKEW);
                let refused = cursor.refused.get(&record.instance_id).is_some_and(|at| *at >= since);
                let about = cursor.unsettled.values().filter(|delivery| may_be_about(delivery, record, since));
                let words = about.map(|delivery| word_of(delivery, cursor.payloads_unread_since, now));
                words.chain(refused.then_some(Word::Unsettled)).max().unwrap_or(Word::Settled)
            }
            Log::Unreadable { since } if now.since(*since) >= UNREADABLE => Word::Unreadable,
            Log::Unreadable { .. } | Log::Unknown => Word::Unsettled,
        }
    }

    /// Reads the log from where the last reading ended, applies what it can and remembers the rest.
    async fn settle<P: RemovalPorts>(
        &mut self,
        ports: &P,
        now: Timestamp,
        deadline: Deadline,
        report: &mut Report,
    ) -> Log {
        let mut stored = match ledger::load::<DeliveryCursor>(ports, DeliveryCursor::ID).await {
            Ok(Stored::Present(cursor)) => cursor,
            Ok(Stored::Absent) => Versioned::new(DeliveryCursor::default()),
            Ok(Stored::Foreign) => {
                report.error("the cursor over GitHub's deliveries is of another schema: nothing is settled");
                return Log::Unknown;
            }
            Err(error) => {
                report.error(error);
                return Log::Unknown;
            }
        };
        let before = stored.record.clone();
        let log = match self.advance(ports, &mut stored.record, now, deadline, report).await {
            Ok(()) if stored.record.read_until == Some(now) => Log::Read(Box::new(stored.record.clone())),
            Ok(()) => {
                report.error("more deliveries failed than can be remembered: nothing is settled until some are");
                Log::Unknown
            }
            Err(error) => {
                let since = *stored.record.unreadable_since.get_or_insert(now);
                if now.since(since) >= UNREADABLE {
                    report.error(format!("GitHub's deliveries cannot be read since {since}: the jobs API stands in"));
                }
                report.error(error);
                Log::Unreadable { since }
            }
        };
        if stored.record != before {
            match ledger::store(ports, stored).await {
                Ok(_) => {}
                // Another pass read the log too; what was applied twice changed nothing.
                Err(error) if error.class() == Class::Conflict => {}
                Err(error) => report.error(error),
            }
        }
        log
    }

    async fn advance<P: RemovalPorts>(
        &mut self,
        ports: &P,
        cursor: &mut DeliveryCursor,
        now: Timestamp,
        deadline: Deadline,
        report: &mut Report,
    ) -> Result<(), PortError> {
        let oldest = now.minus(DELIVERY_LOG);
        // One that lies ahead was written under a skewed clock, and what it says was read nobody read.
        let read_until = cursor.read_until.filter(|until| *until <= now);
        let since = read_until.map_or(oldest, |until| until.minus(OVERLAP).max(oldest));
        let failed = ports.failed_deliveries_since(since).await?;
        cursor.unreadable_since = None;
        cursor.read_until = Some(now);
        cursor.applied.retain(|_, at| *at >= since);
        cursor.refused.retain(|_, at| *at >= oldest);
        take_in(cursor, failed);
        let mut unsettled: Vec<(DeliveryGuid, UnsettledDelivery)> =
            cursor.unsettled.iter().map(|(guid, delivery)| (guid.clone(), delivery.clone())).collect();
        // What was never tried first, so that none waits behind those that cannot be read.
        unsettled.sort_by_key(|(_, delivery)| (delivery.unread_since, delivery.delivered_at));
        for (guid, delivery) in unsettled {
            if delivery.delivered_at < oldest {
                warn!(delivery_id = %guid, "delivery {guid} is older than GitHub's log and was never settled");
                cursor.unsettled.remove(&guid);
            } else if self.payloads_read < PAYLOADS_MAX && deadline.allows_more(ports.now()) {
                self.payloads_read += 1;
                self.try_one(ports, cursor, guid, delivery, now, report).await;
            }
        }
        if cursor.unsettled.values().all(|delivery| delivery.concerns.is_some()) {
            cursor.payloads_unread_since = None;
        }
        Ok(())
    }

    async fn try_one<P: RemovalPorts>(
        &self,
        ports: &P,
        cursor: &mut DeliveryCursor,
        guid: DeliveryGuid,
        delivery: UnsettledDelivery,
        now: Timestamp,
        report: &mut Report,
    ) {
        let outcome = apply(ports, delivery.id, ports.now(), report).await;
        match &outcome {
            Outcome::Unread => {
                cursor.payloads_unread_since.get_or_insert(now);
            }
            Outcome::Applied | Outcome::Refused(_) | Outcome::NotApplied(_) => cursor.payloads_unread_since = None,
        }
        match outcome {
            Outcome::Applied => {
                info!(delivery_id = %guid, "applied delivery {guid} that had failed");
                cursor.unsettled.remove(&guid);
                cursor.applied.insert(guid, delivery.delivered_at);
            }
            Outcome::Unread => {
                let unread_since = delivery.unread_since.or(Some(now));
                cursor.unsettled.insert(guid, UnsettledDelivery { unread_since, ..delivery });
            }
            Outcome::NotApplied(concerns) => {
                cursor.unsettled.insert(guid, UnsettledDelivery { concerns: Some(concerns), ..delivery });
            }
            // Never read again. It speaks for the instances that it names and that are ours; who names others, by the
            // thousand perhaps, keeps nobody.
            Outcome::Refused(concerns) => match known(ports, concerns).await {
                Ok(ours) => {
                    warn!(delivery_id = %guid, "delivery {guid} can never be applied");
                    for id in ours {
                        let last = cursor.refused.entry(id).or_insert(delivery.delivered_at);
                        *last = (*last).max(delivery.delivered_at);
                    }
                    cursor.unsettled.remove(&guid);
                    cursor.applied.insert(guid, delivery.delivered_at);
                }
                Err(error) => report.error(error),
            },
        }
    }
}

/// Those of the instances that have a record. One without is ended on nothing that a delivery could keep it from.
async fn known<P: RemovalPorts>(ports: &P, ids: BTreeSet<InstanceId>) -> Result<Vec<InstanceId>, PortError> {
    let records = ledger::load_all::<InstanceRecord>(ports, ids.iter().map(ToString::to_string)).await?;
    let stored = |(id, stored): (String, Stored<InstanceRecord>)| match stored {
        Stored::Absent => None,
        Stored::Present(_) | Stored::Foreign => Some(InstanceId::new(id)),
    };
    Ok(records.into_iter().filter_map(stored).collect())
}

/// Adds to the cursor what failed and may say that a job started or ended.
fn take_in(cursor: &mut DeliveryCursor, mut failed: Vec<Delivery>) {
    failed.sort_by_key(|delivery| delivery.delivered_at);
    for delivery in failed {
        let of_a_job = delivery.event == "workflow_job"
            && matches!(delivery.action.as_deref(), Some("in_progress" | "completed") | None);
        let known = cursor.applied.contains_key(&delivery.guid) || cursor.unsettled.contains_key(&delivery.guid);
        if !of_a_job || known {
            continue;
        }
        if cursor.unsettled.len() >= UNSETTLED_MAX {
            cursor.read_until = Some(delivery.delivered_at);
            return;
        }
        let unsettled = UnsettledDelivery {
            id: delivery.id,
            delivered_at: delivery.delivered_at,
            unread_since: None,
            concerns: None,
        };
        cursor.unsettled.insert(delivery.guid, unsettled);
    }
}

enum Outcome {
    Applied,
    /// Its payload cannot be read.
    Unread,
    /// It could not be written down, and may be later.
    NotApplied(BTreeSet<InstanceId>),
    /// It can never be applied.
    Refused(BTreeSet<InstanceId>),
}

async fn apply<P: RemovalPorts>(ports: &P, id: u64, now: Timestamp, report: &mut Report) -> Outcome {
    let payload = match ports.delivery_payload(id).await {
        Ok(payload) => payload,
        Err(error) => {
            report.error(error);
            return Outcome::Unread;
        }
    };
    let applied = match webhook::parse(Some("workflow_job"), payload.as_bytes()) {
        Ok(Event::Job(event)) => webhook::apply_job_event(ports, &event, now).await.map(|_| ()),
        Ok(Event::Ping | Event::Other) => Ok(()),
        Err(error) => Err(PortError::new("delivery", Class::Rejected, error.to_string())),
    };
    match applied {
        Ok(()) => Outcome::Applied,
        // Any author of a workflow can make a payload that we refuse, so it speaks for the instances it names only.
        Err(error) => {
            let concerns = concerned(&payload);
            warn!(error = %error, class = ?error.class(), "a failed delivery is not applied: {error}");
            if error.class() == Class::Rejected { Outcome::Refused(concerns) } else { Outcome::NotApplied(concerns) }
        }
    }
}

/// The instance whose runner the payload names. Nothing else in it counts, for its author chooses the rest.
fn concerned(payload: &str) -> BTreeSet<InstanceId> {
    match serde_json::from_str::<serde_json::Value>(payload) {
        Ok(value) => {
            let name = value.pointer("/workflow_job/runner_name").and_then(serde_json::Value::as_str);
            name.and_then(|name| RunnerName::new(name).instance_id()).into_iter().collect()
        }
        Err(_) => InstanceId::all_in(payload).take(CONCERNS_MAX).collect(),
    }
}

/// What a delivery that is not settled says of an instance that it may be about.
fn word_of(delivery: &UnsettledDelivery, none_read_since: Option<Timestamp>, now: Timestamp) -> Word {
    let for_long = |since| now.since(since) >= UNREADABLE;
    let unread = delivery.unread_since.into_iter().chain(none_read_since).min();
    let unread_for_long = delivery.concerns.is_none() && unread.is_some_and(for_long);
    if unread_for_long { Word::Unreadable } else { Word::Unsettled }
}

fn may_be_about(delivery: &UnsettledDelivery, record: &InstanceRecord, since: Timestamp) -> bool {
    delivery.delivered_at >= since && delivery.concerns.as_ref().is_none_or(|ids| ids.contains(&record.instance_id))
}
