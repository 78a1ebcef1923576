//! Deliveries settled (design section 5): every failed delivery that may say "busy" is applied to the ledger, or keeps
//! those instances that it may be about. GitHub's log is read once for many instances, and only from where the last
//! reading ended; a reading that is too long for one pass goes on in the next, page by page.

use std::collections::BTreeSet;
use std::time::Duration;

use tracing::{info, warn};

use super::RemovalPorts;
use super::open_jobs::Freshness;
use super::report::Report;
use crate::error::{Class, Classify, PortError};
use crate::ids::{DeliveryGuid, InstallationId, InstanceId, RunnerName};
use crate::ledger::{self, DeliveryCursor, InstanceRecord, LogReading, Stored, UnsettledDelivery, Versioned};
use crate::ports::Delivery;
use crate::time::{Deadline, Timestamp};
use crate::webhook::{self, Event};

/// A reading begins this much before the last one: GitHub logs an attempt when it ends, up to 10 s after it was sent
/// (30 s on GHES, facts/github.md 3.1), and clocks differ.
const OVERLAP: Duration = Duration::from_mins(10);

/// Payloads read in one pass, one call each. More, and a day's outage eats the pass; fewer, and it takes hours to
/// settle. What is left keeps everybody until the next pass.
const PAYLOADS_MAX: usize = 200;

/// Unsettled deliveries remembered, about 170 bytes each in an item that DynamoDB limits to 400 KB. While there is no
/// room for another page of the log, the reading waits until some of them are settled.
const UNSETTLED_MAX: usize = 1_500;

/// Applied deliveries remembered, about 60 bytes each in the same item, so that the next reading, which begins a little
/// before this one, does not read their payloads again. Those beyond are read twice, which changes nothing.
const APPLIED_MAX: usize = 1_000;

/// Attempts on one page of the log, GitHub's most.
const PAGE_MAX: usize = 100;

/// Pages of the log read at once, one call each; whoever asks next, most often the next pass, goes on after the last.
/// More, and an outage of days eats the App's hourly budget; fewer, and it takes hours to be read through.
const PAGES_MAX: usize = 50;

/// Owners of installations asked for in one pass, one call each: they matter only while a payload cannot be read.
const OWNERS_ASKED_MAX: usize = 20;

/// Instances that a payload may name whose shape we do not know.
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
    pages_read: usize,
    payloads_read: usize,
    owners_asked: usize,
}

/// How far the log was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Advance {
    /// Up to now.
    Whole,
    /// Not to the end of this reading, begun at that time.
    Part { since: Timestamp },
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
                let about = cursor.unsettled.values().filter(|delivery| may_be_about(delivery, cursor, record, since));
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
        self.pages_read = 0;
        let log = match self.advance(ports, &mut stored.record, now, deadline, report).await {
            Ok(Advance::Whole) => Log::Read(Box::new(stored.record.clone())),
            Ok(Advance::Part { since }) => {
                report.error(format!(
                    "GitHub's deliveries are being read since {since} and not read through: nothing is settled"
                ));
                Log::Unreadable { since }
            }
            Err(error) => {
                let failing = *stored.record.unreadable_since.get_or_insert(now);
                // A reading of which some pages can be read, and never the last, is none either.
                let since = stored.record.reading.as_ref().map_or(failing, |reading| failing.min(reading.begun_at));
                report.error(error);
                Log::Unreadable { since }
            }
        };
        if let Log::Unreadable { since } = &log
            && now.since(*since) >= UNREADABLE
        {
            report.error(format!("GitHub's deliveries cannot be read since {since}: the jobs API stands in"));
        }
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

    /// Goes on with the reading that is under way, or begins one, and settles what it shows. Where an old one comes to
    /// its end, the next begins at once: only one that began now says that nothing else failed.
    async fn advance<P: RemovalPorts>(
        &mut self,
        ports: &P,
        cursor: &mut DeliveryCursor,
        now: Timestamp,
        deadline: Deadline,
        report: &mut Report,
    ) -> Result<Advance, PortError> {
        let oldest = now.minus(ports.log_kept());
        cursor.refused.retain(|_, at| *at >= oldest);
        loop {
            let reading = self.read_pages(ports, cursor, now, oldest, deadline).await?;
            self.try_all(ports, cursor, now, oldest, deadline, report).await;
            forget_applied(cursor, now);
            if cursor.unsettled.values().all(|delivery| delivery.concerns.is_some()) {
                cursor.payloads_unread_since = None;
            }
            match reading {
                Advance::Whole => {
                    self.ask_owners(ports, cursor, deadline, report).await;
                    return Ok(Advance::Whole);
                }
                Advance::Part { .. } if self.may_read_page(cursor) && deadline.allows_more(ports.now()) => {}
                Advance::Part { .. } => return Ok(reading),
            }
        }
    }

    fn may_read_page(&self, cursor: &DeliveryCursor) -> bool {
        self.pages_read < PAGES_MAX && cursor.unsettled.len() + PAGE_MAX <= UNSETTLED_MAX
    }

    /// Reads pages of one reading, from the newest delivery down; what was read is kept, whatever comes then.
    async fn read_pages<P: RemovalPorts>(
        &mut self,
        ports: &P,
        cursor: &mut DeliveryCursor,
        now: Timestamp,
        oldest: Timestamp,
        deadline: Deadline,
    ) -> Result<Advance, PortError> {
        // What lies ahead was written under a skewed clock, and what it says was read nobody read.
        let read_until = cursor.read_until.filter(|until| *until <= now);
        let since = read_until.map_or(oldest, |until| until.minus(OVERLAP).max(oldest));
        let begun = LogReading { begun_at: now, since, next: None };
        let mut reading = cursor.reading.take().filter(|reading| reading.begun_at <= now).unwrap_or(begun);
        while self.may_read_page(cursor) && deadline.allows_more(ports.now()) {
            self.pages_read += 1;
            let page = match ports.failed_deliveries_since(reading.since, reading.next.as_ref()).await {
                Ok(page) => page,
                Err(error) => {
                    // Where GitHub does not know the place any more, the next reading begins anew.
                    let lost = matches!(error.class(), Class::Absent | Class::Rejected);
                    cursor.reading = Some(reading).filter(|_| !lost);
                    return Err(error);
                }
            };
            cursor.unreadable_since = None;
            take_in(cursor, page.deliveries);
            let Some(next) = page.next else {
                cursor.read_until = Some(reading.begun_at);
                let whole = reading.begun_at == now;
                return Ok(if whole { Advance::Whole } else { Advance::Part { since: reading.begun_at } });
            };
            reading.next = Some(next);
        }
        let since = reading.begun_at;
        cursor.reading = Some(reading);
        Ok(Advance::Part { since })
    }

    async fn try_all<P: RemovalPorts>(
        &mut self,
        ports: &P,
        cursor: &mut DeliveryCursor,
        now: Timestamp,
        oldest: Timestamp,
        deadline: Deadline,
        report: &mut Report,
    ) {
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
    }

    /// Whose the installations are that unread deliveries are of: what is one owner's keeps nobody else's instances.
    /// An owner that cannot be asked for, or that GitHub does not know, may be anybody.
    async fn ask_owners<P: RemovalPorts>(
        &mut self,
        ports: &P,
        cursor: &mut DeliveryCursor,
        deadline: Deadline,
        report: &mut Report,
    ) {
        let unread = cursor.unsettled.values().filter(|delivery| delivery.concerns.is_none());
        let wanted: BTreeSet<InstallationId> = unread.filter_map(|delivery| delivery.installation_id).collect();
        cursor.owners.retain(|id, _| wanted.contains(id));
        for id in wanted {
            if cursor.owners.contains_key(&id)
                || self.owners_asked >= OWNERS_ASKED_MAX
                || !deadline.allows_more(ports.now())
            {
                continue;
            }
            self.owners_asked += 1;
            match ports.installation_owner(id).await {
                Ok(Some(owner)) => {
                    cursor.owners.insert(id, owner);
                }
                Ok(None) => {}
                Err(error) => report.error(error),
            }
        }
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
fn take_in(cursor: &mut DeliveryCursor, failed: Vec<Delivery>) {
    for delivery in failed {
        let of_a_job = delivery.event == "workflow_job"
            && matches!(delivery.action.as_deref(), Some("in_progress" | "completed") | None);
        let known = cursor.applied.contains_key(&delivery.guid) || cursor.unsettled.contains_key(&delivery.guid);
        if !of_a_job || known {
            continue;
        }
        let unsettled = UnsettledDelivery {
            id: delivery.id,
            delivered_at: delivery.delivered_at,
            unread_since: None,
            concerns: None,
            installation_id: delivery.installation_id,
        };
        cursor.unsettled.insert(delivery.guid, unsettled);
    }
}

/// Forgets applied deliveries that the next reading does not show again, and the oldest of those that are too many.
fn forget_applied(cursor: &mut DeliveryCursor, now: Timestamp) {
    let next_since = cursor.reading.as_ref().map(|reading| reading.begun_at).or(cursor.read_until).unwrap_or(now);
    cursor.applied.retain(|_, at| *at >= next_since.minus(OVERLAP));
    if cursor.applied.len() > APPLIED_MAX {
        let mut times: Vec<Timestamp> = cursor.applied.values().copied().collect();
        times.sort_unstable_by_key(|at| std::cmp::Reverse(*at));
        let newer_than = times.get(APPLIED_MAX).copied().unwrap_or(now);
        cursor.applied.retain(|_, at| *at > newer_than);
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

/// The instance whose runner the payload names. Nothing else in it counts, for its author chooses the rest; but in a
/// shape that we do not know, where GitHub may name it anywhere, all do that are in it.
fn concerned(payload: &str) -> BTreeSet<InstanceId> {
    let parsed = serde_json::from_str::<serde_json::Value>(payload).unwrap_or_default();
    let job = parsed.get("workflow_job").and_then(serde_json::Value::as_object);
    match job.map(|job| job.get("runner_name").unwrap_or(&serde_json::Value::Null)) {
        Some(serde_json::Value::String(name)) => RunnerName::new(name.as_str()).instance_id().into_iter().collect(),
        Some(serde_json::Value::Null) => BTreeSet::new(),
        Some(_) | None => InstanceId::all_in(payload).take(CONCERNS_MAX).collect(),
    }
}

/// What a delivery that is not settled says of an instance that it may be about.
fn word_of(delivery: &UnsettledDelivery, none_read_since: Option<Timestamp>, now: Timestamp) -> Word {
    let for_long = |since| now.since(since) >= UNREADABLE;
    let unread = delivery.unread_since.into_iter().chain(none_read_since).min();
    let unread_for_long = delivery.concerns.is_none() && unread.is_some_and(for_long);
    if unread_for_long { Word::Unreadable } else { Word::Unsettled }
}

fn may_be_about(
    delivery: &UnsettledDelivery,
    cursor: &DeliveryCursor,
    record: &InstanceRecord,
    since: Timestamp,
) -> bool {
    delivery.delivered_at >= since
        && match &delivery.concerns {
            Some(ids) => ids.contains(&record.instance_id),
            None => !is_anothers(delivery, cursor, record),
        }
}

/// Whether an unread delivery is of another owner than the instance, for certain. Another installation is not enough:
/// whoever installs the App anew has a new one, and his instances still bear the old.
fn is_anothers(delivery: &UnsettledDelivery, cursor: &DeliveryCursor, record: &InstanceRecord) -> bool {
    let Some(id) = delivery.installation_id else { return false };
    let owner = cursor.owners.get(&id);
    record.access.installation_id != Some(id)
        && owner.is_some_and(|owner| !owner.eq_ignore_ascii_case(record.access.scope.owner()))
}
