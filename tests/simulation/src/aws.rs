//! What lies at AWS besides instances: the queue, the ledger, parameters, vital signs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use runner_scaler_core::error::{Class, PortError};
use runner_scaler_core::ids::InstanceId;
use runner_scaler_core::ports::{Body, Expect, Item, JitConfig, Key, OpenPartition, VitalSign, Write};
use runner_scaler_core::scale_up::{JobMessage, Outcome};
use runner_scaler_core::time::Timestamp;
use runner_scaler_world::Millis;
use rustc_hash::FxHashMap;

use crate::agenda::Event;
use crate::coverage::Counter;
use crate::lambda::{Function, Start, Work};
use crate::sim::Sim;
use crate::swarm::{MINUTE, SECOND};

/// `infra/modules/queue`: six times the time limit of scale-up, and the batching window.
const VISIBILITY: Millis = 6 * MINUTE + 5 * SECOND;
/// `infra/modules/queue`: two and a half hours of visibility.
const RECEIVES_MAX: u32 = 25;
/// `infra/main.tf`.
const BATCH_MAX: usize = 50;
/// The event source mapping waits so long for a batch to fill.
const WINDOW: Millis = SECOND;
/// Invocations of scale-up at once.
const AT_ONCE: usize = 5;

/// Items of one transaction.
const ITEMS_MAX: usize = 100;
/// Bytes of one item.
const ITEM_BYTES_MAX: usize = 400 * 1_024;

/// A message in the queue.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its body.
    pub body: String,
    /// The job that it is about.
    pub job_id: u64,
    /// When it was sent, or sent back from the dead letters.
    pub sent_at: Millis,
    /// From when on it is received.
    pub visible_at: Millis,
    /// How often it was received.
    pub receives: u32,
    /// Whether it is a dead letter.
    pub dead: bool,
    /// Whether SQS itself delivers it once more, as at-least-once allows.
    pub twice: bool,
}

impl Message {
    /// Whether it is no job message: nobody can ever be done with it.
    #[must_use]
    pub fn is_poison(&self) -> bool {
        self.job_id == POISON
    }
}

/// Stands for the job of a message that is none.
const POISON: u64 = 0;

/// The queue of queued jobs and its dead letters.
#[derive(Debug, Default)]
pub struct Queue {
    /// Messages by number.
    pub messages: BTreeMap<u64, Message>,
    sent: u64,
}

/// A place in the index, from when on it is shown.
type Change = (Millis, Arc<Key>, Option<(OpenPartition, Timestamp)>);

/// One table with its sparse index. Its hashes are the same in every run, as two runs of one seed must be.
#[derive(Debug, Default)]
pub struct LedgerTable {
    items: FxHashMap<Key, Item>,
    index: BTreeMap<OpenPartition, BTreeSet<(Timestamp, Arc<Key>)>>,
    place: FxHashMap<Arc<Key>, (OpenPartition, Timestamp)>,
    /// Changes that the index does not show yet.
    late: VecDeque<Change>,
    /// What was deleted the last time.
    forgotten: Vec<Key>,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Aws {
    /// SQS.
    pub queue: Queue,
    /// DynamoDB.
    pub ledger: LedgerTable,
    /// SSM: configurations by instance, and since when they lie there.
    pub parameters: BTreeMap<InstanceId, (Millis, JitConfig)>,
    /// The table of vital signs.
    pub vital_signs: FxHashMap<InstanceId, VitalSign>,
    /// Until when the kill switch is thrown, or cannot be read.
    pub kill_switch: Option<(Millis, bool)>,
}

impl LedgerTable {
    /// One item as it is.
    #[must_use]
    pub fn item(&self, key: &Key) -> Option<&Item> {
        self.items.get(key)
    }

    /// Writes all or nothing.
    pub fn write(&mut self, writes: &[Write], now: Millis, lag: Millis) -> Result<(), PortError> {
        // DynamoDB's limits (TransactWriteItems; an item of 400 KB).
        if writes.len() > ITEMS_MAX || writes.iter().any(|write| write.item.body.as_str().len() > ITEM_BYTES_MAX) {
            return Err(PortError::new("write", Class::Rejected, "ValidationException"));
        }
        for write in writes {
            let holds = match (write.expect, self.items.get(&write.item.key)) {
                (Expect::Absent, None) => true,
                (Expect::Version(version), Some(item)) => item.version == version,
                (Expect::Absent, Some(_)) | (Expect::Version(_), None) => false,
            };
            if !holds {
                return Err(PortError::new("write", Class::Conflict, "ConditionalCheckFailed"));
            }
        }
        for write in writes {
            let item = &write.item;
            if self.place.get(&item.key) != item.open.as_ref() || !self.late.is_empty() {
                self.late.push_back((now + lag, Arc::new(item.key.clone()), item.open.clone()));
            }
            // Its key it keeps.
            if let Some(Item { key: _, version, schema, body, open, expires_at }) = self.items.get_mut(&item.key) {
                (*version, *schema, *expires_at) = (item.version, item.schema, item.expires_at);
                body.clone_from(&item.body);
                open.clone_from(&item.open);
            } else {
                self.items.insert(item.key.clone(), item.clone());
            }
        }
        self.catch_up(now);
        Ok(())
    }

    /// The index shows what is old enough.
    fn catch_up(&mut self, now: Millis) {
        while self.late.front().is_some_and(|(at, ..)| *at <= now) {
            let Some((_, key, place)) = self.late.pop_front() else { return };
            if let Some((partition, at)) = self.place.remove(&key)
                && let Some(entries) = self.index.get_mut(&partition)
            {
                entries.remove(&(at, Arc::clone(&key)));
            }
            if let Some((partition, at)) = place {
                self.index.entry(partition.clone()).or_default().insert((at, Arc::clone(&key)));
                self.place.insert(key, (partition, at));
            }
        }
    }

    /// Keys of a partition, as items without their body: the index projects keys only.
    pub fn open(&mut self, partition: &OpenPartition, until: Timestamp, limit: usize, now: Millis) -> Vec<Item> {
        self.catch_up(now);
        let Some(entries) = self.index.get(partition) else { return Vec::new() };
        let body = Body::new("null");
        let shown = entries.iter().take_while(|(at, _)| *at <= until).take(limit);
        shown
            .map(|(at, key)| Item {
                key: Key::clone(key),
                version: 0,
                schema: 0,
                body: body.clone(),
                open: Some((partition.clone(), *at)),
                expires_at: None,
            })
            .collect()
    }

    /// What has expired is deleted, as late as the lag says.
    pub fn forget(&mut self, now: Millis, lag: Millis) {
        self.forgotten.clear();
        self.items.retain(|key, item| {
            let stays = item.expires_at.is_none_or(|at| at.0 + lag > now);
            if !stays {
                self.forgotten.push(key.clone());
            }
            stays
        });
    }

    /// Whether an item was deleted the last time that anything was.
    #[must_use]
    pub fn was_forgotten(&self, key: &Key) -> bool {
        self.forgotten.contains(key)
    }
}

impl Sim {
    /// A message for scale-up.
    pub(crate) fn send_message(&mut self, message: &JobMessage, delay: Millis) {
        let body = serde_json::to_string(message).unwrap_or_default();
        self.check_text("a message", &body);
        let queue = &mut self.aws.queue;
        queue.sent += 1;
        let message = Message {
            body,
            job_id: message.job_id.0,
            sent_at: self.now,
            visible_at: self.now + delay,
            receives: 0,
            dead: false,
            twice: false,
        };
        queue.messages.insert(queue.sent, message);
        self.agenda.note(self.now + delay + WINDOW, Event::Queue);
    }

    /// A message that is no job message gets into the queue.
    pub(crate) fn poison(&mut self) {
        let queue = &mut self.aws.queue;
        queue.sent += 1;
        let message = Message {
            body: "{}".to_owned(),
            job_id: POISON,
            sent_at: self.now,
            visible_at: self.now,
            receives: 0,
            dead: false,
            twice: false,
        };
        queue.messages.insert(queue.sent, message);
        self.agenda.note(self.now, Event::Queue);
    }

    /// The event source mapping looks into the queue.
    pub(crate) fn receive_messages(&mut self) {
        let now = self.now;
        if self.running(Function::ScaleUp) >= AT_ONCE {
            self.agenda.note(now + SECOND, Event::Queue);
            return;
        }
        let too_briefly = self.policy.mutant.hides_messages_too_briefly();
        let visibility = if too_briefly { Function::ScaleUp.time_limit() } else { VISIBILITY };
        let mut batch = Vec::new();
        let mut early = Vec::new();
        let in_hand: BTreeSet<u64> = self.in_hand();
        let visible = |message: &Message| !message.dead && message.visible_at <= now;
        let messages = self.aws.queue.messages.iter();
        let mut numbers: Vec<u64> =
            messages.filter(|(_, message)| visible(message)).map(|(number, _)| *number).collect();
        self.disorder(&mut numbers);
        for number in &numbers {
            let Some(message) = self.aws.queue.messages.get_mut(number) else { continue };
            if batch.len() == BATCH_MAX {
                break;
            }
            if in_hand.contains(number) && !message.twice {
                early.push(*number);
            }
            message.receives += 1;
            if message.receives > RECEIVES_MAX {
                message.dead = true;
                if !message.is_poison() {
                    self.coverage.hit(Counter::DeadLetter);
                }
                continue;
            }
            // Once more although it is in hand: at least once, at the same time.
            let twice = self.world.tape.chance(self.plan.message_doubled);
            message.twice = twice;
            message.visible_at = now + if twice { SECOND } else { visibility };
            self.agenda.note(message.visible_at, Event::Queue);
            if twice {
                self.coverage.hit(Counter::MessageDoubled);
            }
            batch.push(*number);
        }
        for number in early {
            let what = format!("message {number} comes again while an invocation has it in hand");
            self.checker.violated("S4", now, what);
        }
        if !batch.is_empty() {
            self.starts.push(Start { function: Function::ScaleUp, work: Work::Batch(batch) });
        }
    }

    /// A standard queue has no order (facts/world.md A1).
    fn disorder(&mut self, numbers: &mut [u64]) {
        for place in 0..numbers.len().min(BATCH_MAX) {
            let after = (numbers.len() - place) as u64 - 1;
            if after > 0 && self.world.tape.chance(self.plan.disorder) {
                let other = place + usize::try_from(self.world.tape.draw(after)).unwrap_or(0);
                numbers.swap(place, other);
                if other != place {
                    self.coverage.hit(Counter::Disorder);
                }
            }
        }
    }

    /// A batch ended: what is done with is deleted, and held against what must be known of it by then (S3).
    pub(crate) fn settle_batch(
        &mut self,
        numbers: &[u64],
        outcomes: &[(String, Outcome)],
        not_queued: &[u64],
        untried: bool,
    ) {
        for (id, outcome) in outcomes {
            let Some(number) = id.parse().ok().filter(|number| numbers.contains(number)) else { continue };
            match outcome {
                Outcome::Failed(why) => {
                    self.tally.messages_failed += 1;
                    self.check_text("the answer to a message", why);
                    if untried && self.aws.queue.messages.get(&number).is_some_and(|message| !message.is_poison()) {
                        let what = format!("message {number} came back ({why}), and nobody tried anything for it");
                        self.checker.violated("L5", self.now, what);
                    }
                }
                Outcome::Launched | Outcome::AlreadyServed | Outcome::NotQueued | Outcome::Waiting => {
                    if let Some(message) = self.aws.queue.messages.remove(&number) {
                        self.check_acknowledged(&message, outcome, not_queued);
                    }
                }
            }
        }
        // Room for another batch.
        self.agenda.note(self.now, Event::Queue);
    }

    /// A person sends the dead letters back.
    pub(crate) fn redrive(&mut self) {
        let now = self.now;
        for message in self.aws.queue.messages.values_mut().filter(|message| message.dead) {
            message.dead = false;
            message.receives = 0;
            (message.sent_at, message.visible_at) = (now, now);
            if !message.is_poison() {
                self.coverage.hit(Counter::Redrive);
            }
        }
        self.agenda.note(now, Event::Queue);
    }

    /// Bodies of the messages of a batch, with their ids.
    pub(crate) fn messages_of(&self, numbers: &[u64]) -> Vec<(String, String)> {
        let body = |number: &u64| Some((number.to_string(), self.aws.queue.messages.get(number)?.body.clone()));
        numbers.iter().filter_map(body).collect()
    }
}
