//! Webhook deliveries: made when something happens, sent when due, logged with their answers, redelivered on request.
//!
//! GitHub never retries by itself (docs: handling failed webhook deliveries). The front end signs, sends and reports the answer.

use super::{Cx, GitHub, payload};
use crate::Millis;
use crate::truth::Fact;
use bytes::Bytes;

/// A delivery that the scenario falsifies; GitHub knows nothing of those.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgery {
    /// Genuine.
    None,
    /// Signed with another secret.
    BadSignature,
    /// Not signed at all.
    NoSignature,
}

/// One delivery in GitHub's log.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Its id; a redelivery has its own.
    pub id: u64,
    /// `X-GitHub-Delivery`: a redelivery has the same.
    pub guid: String,
    /// The event's action.
    pub action: String,
    /// The job it speaks of.
    pub job_id: Option<u64>,
    /// The installation.
    pub installation_id: Option<u64>,
    /// The repository.
    pub repository_id: Option<u64>,
    /// The exact bytes.
    pub body: Bytes,
    /// Whether somebody asked for it again.
    pub redelivery: bool,
    /// Whether it comes without a signature although it is genuine (facts/world.md G18).
    pub unsigned: bool,
    /// How far it got.
    pub progress: Progress,
    pub(super) forgery: Forgery,
}

/// How far a delivery got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// To be sent at this time.
    Due(Millis),
    /// Handed to the front end.
    Sending,
    /// Over.
    Answered {
        /// When.
        at: Millis,
        /// The status; none when nobody answered in time.
        status: Option<u16>,
        /// How long the receiver took, in milliseconds.
        took_ms: Millis,
    },
    /// Never sent and in no log (ubicloud#1042).
    Vanished,
}

/// What becomes of a delivery that is still to be made, where a scenario decides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is sent this much later than what it tells of, in milliseconds.
    Late(Millis),
    /// It is not sent, and GitHub's log says that it failed.
    Failed,
    /// It is not sent and in no log (ubicloud#1042).
    Vanished,
}

/// A delivery for the front end to send now.
#[derive(Debug, Clone)]
pub struct OutgoingDelivery {
    /// Its id, for [`GitHub::delivery_answered`].
    pub delivery_id: u64,
    /// `X-GitHub-Delivery`.
    pub guid: String,
    /// `X-GitHub-Event`.
    pub event: &'static str,
    /// The body, to be signed and sent as it is.
    pub payload: Bytes,
    /// Whether and how the signature is to be false.
    pub forgery: Forgery,
}

const EVENT: &str = "workflow_job";

impl GitHub {
    /// Makes the delivery of what just happened to a job; it may be lost or doubled, as the settings say.
    pub(super) fn announce(&mut self, cx: &mut Cx<'_>, job_id: u64, action: &str) {
        let Some(job) = self.jobs.get(&job_id) else {
            return;
        };
        if self.installations.get(&job.installation_id).is_none_or(|i| i.suspended) {
            // Neither sent nor in any log (facts/world.md G21).
            cx.truth.record(cx.now, Fact::DeliveryLost { action: action.to_owned(), job_id: Some(job_id) });
            return;
        }
        let body = payload::body(job, action);
        let (installation_id, repository_id) = (job.installation_id, job.repository_id);
        let guid = fresh_guid(cx);
        let copies = if cx.tape.chance(self.settings.duplicate_webhooks) {
            cx.tape.between(2, self.settings.webhook_copies_max)
        } else {
            1
        };
        let lost = cx.tape.chance(self.settings.lose_webhooks);
        let fate = self.fates.remove(&(job_id, action.to_owned())).or_else(|| lost.then(|| drawn_loss(cx)));
        for _ in 0..copies {
            let id = self.fresh_id();
            let delivery = Delivery {
                id,
                guid: guid.clone(),
                action: action.to_owned(),
                job_id: Some(job_id),
                installation_id: Some(installation_id),
                repository_id: Some(repository_id),
                body: body.clone(),
                redelivery: false,
                unsigned: false,
                progress: self.meet(cx, fate, action, job_id),
                forgery: Forgery::None,
            };
            self.keep(delivery);
        }
        if cx.tape.chance(self.settings.resend_completed) {
            self.resend_old_completion(cx);
        }
    }

    /// `completed` of an old job comes once more, as when its run is run again (actions-runner-controller#4315).
    fn resend_old_completion(&mut self, cx: &mut Cx<'_>) {
        let old: Vec<u64> =
            self.deliveries.values().rev().filter(|d| d.action == "completed").take(20).map(|d| d.id).collect();
        let place = cx.tape.draw(u64::try_from(old.len()).unwrap_or(1).saturating_sub(1));
        if let Some(id) = old.get(usize::try_from(place).unwrap_or(0)) {
            self.send_again(cx, *id, false);
        }
    }

    fn keep(&mut self, delivery: Delivery) {
        if let Progress::Due(at) = delivery.progress {
            self.due.insert((at, delivery.id));
        }
        self.deliveries.insert(delivery.id, delivery);
    }

    /// Decides what becomes of the next delivery of an action of a job, in place of chance.
    pub fn plan_delivery(&mut self, job_id: u64, action: &str, fate: Fate) {
        self.fates.insert((job_id, action.to_owned()), fate);
    }

    fn meet(&self, cx: &mut Cx<'_>, fate: Option<Fate>, action: &str, job_id: u64) -> Progress {
        let progress = match fate {
            None => return self.schedule(cx),
            Some(Fate::Late(ms)) => return Progress::Due(cx.now + ms),
            Some(Fate::Failed) => {
                Progress::Answered { at: cx.now, status: None, took_ms: self.settings.delivery_timeout_ms }
            }
            Some(Fate::Vanished) => Progress::Vanished,
        };
        cx.truth.record(cx.now, Fact::DeliveryLost { action: action.to_owned(), job_id: Some(job_id) });
        progress
    }

    fn schedule(&self, cx: &mut Cx<'_>) -> Progress {
        let late = cx.tape.chance(self.settings.late_webhooks);
        let (lo, hi) = if late { self.settings.late_webhook_ms } else { self.settings.webhook_delay_ms };
        Progress::Due(cx.now + cx.tape.between(lo, hi))
    }

    /// Sends a job's latest delivery of an action once more under the same guid, as GitHub does at times by itself.
    /// False when there is none.
    pub fn duplicate_delivery(&mut self, cx: &mut Cx<'_>, job_id: u64, action: &str) -> bool {
        let original = self
            .deliveries
            .values()
            .rev()
            .find(|d| d.job_id == Some(job_id) && d.action == action && d.forgery == Forgery::None)
            .map(|d| d.id);
        original.is_some_and(|id| self.send_again(cx, id, false))
    }

    /// A person asks for a redelivery; false when GitHub does not know the delivery.
    pub fn redeliver(&mut self, cx: &mut Cx<'_>, delivery_id: u64) -> bool {
        let known = self.logged(delivery_id).is_some();
        known && self.send_again(cx, delivery_id, true)
    }

    fn send_again(&mut self, cx: &mut Cx<'_>, delivery_id: u64, redelivery: bool) -> bool {
        let Some(original) = self.deliveries.get(&delivery_id).cloned() else {
            return false;
        };
        let id = self.fresh_id();
        let unsigned = redelivery && cx.tape.chance(self.settings.unsigned_redelivery);
        let copy = Delivery { id, redelivery, unsigned, progress: self.schedule(cx), ..original };
        self.keep(copy);
        true
    }

    /// Somebody without the secret posts this body. The truth remembers that nothing may come of its job.
    pub fn forge_delivery(&mut self, cx: &mut Cx<'_>, body: Bytes, forgery: Forgery) -> u64 {
        let job_id = serde_json::from_slice::<serde_json::Value>(&body)
            .ok()
            .and_then(|payload| payload["workflow_job"]["id"].as_u64());
        if let Some(job_id) = job_id.filter(|id| !self.jobs.contains_key(id)) {
            cx.truth.expect_nothing_of_job(job_id);
        }
        self.post(cx, body, "forged", job_id, forgery)
    }

    /// GitHub itself delivers this body, of something that happened where nobody else looks: to another owner who
    /// installed the App.
    pub fn deliver_of_others(&mut self, cx: &mut Cx<'_>, body: Bytes, action: &str) -> u64 {
        self.post(cx, body, action, None, Forgery::None)
    }

    /// A delivery of which nothing here knows whence it comes, sent now.
    fn post(&mut self, cx: &mut Cx<'_>, body: Bytes, action: &str, job_id: Option<u64>, forgery: Forgery) -> u64 {
        let id = self.fresh_id();
        let delivery = Delivery {
            id,
            guid: fresh_guid(cx),
            action: action.to_owned(),
            job_id,
            installation_id: None,
            repository_id: None,
            body,
            redelivery: false,
            unsigned: false,
            progress: Progress::Due(cx.now),
            forgery,
        };
        self.keep(delivery);
        id
    }

    /// The deliveries to send now; each is handed out once.
    pub fn take_due_deliveries(&mut self, now: Millis) -> Vec<OutgoingDelivery> {
        let mut due = Vec::new();
        while let Some((_, id)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.due.pop_first();
            if let Some(delivery) = self.deliveries.get_mut(&id) {
                delivery.progress = Progress::Sending;
                due.push(OutgoingDelivery {
                    delivery_id: delivery.id,
                    guid: delivery.guid.clone(),
                    event: EVENT,
                    payload: delivery.body.clone(),
                    forgery: if delivery.unsigned { Forgery::NoSignature } else { delivery.forgery },
                });
            }
        }
        due
    }

    /// Deliveries that are not answered yet.
    pub fn pending_deliveries(&self) -> impl Iterator<Item = &Delivery> {
        self.deliveries.values().filter(|d| matches!(d.progress, Progress::Due(_) | Progress::Sending))
    }

    /// Whether an attempt at a delivery of an action of a job had failed by then: the log shows that to whoever asks.
    #[must_use]
    pub fn had_failed_by(&self, then: Millis, job_id: u64, action: &str) -> bool {
        let failed = |progress| match progress {
            Progress::Answered { at, status, .. } => at <= then && !matches!(status, Some(200..=299)),
            Progress::Due(_) | Progress::Sending | Progress::Vanished => false,
        };
        self.deliveries.values().any(|d| d.job_id == Some(job_id) && d.action == action && failed(d.progress))
    }

    /// When the next delivery is due.
    #[must_use]
    pub fn next_delivery_at(&self) -> Option<Millis> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The receiver answered, or did not (no status).
    pub fn delivery_answered(&mut self, cx: &mut Cx<'_>, delivery_id: u64, status: Option<u16>, took_ms: Millis) {
        let Some(delivery) = self.deliveries.get_mut(&delivery_id) else {
            return;
        };
        delivery.progress = Progress::Answered { at: cx.now, status, took_ms };
        let job_id = delivery.job_id;
        let fact = match delivery.forgery {
            Forgery::None => Fact::DeliveryAnswered { delivery_id, action: delivery.action.clone(), job_id, status },
            Forgery::BadSignature | Forgery::NoSignature => Fact::ForgeryAnswered { status, job_id },
        };
        cx.truth.record(cx.now, fact);
    }

    /// The App's delivery log, newest first: what GitHub sent or failed to send.
    #[must_use]
    pub fn delivery_log(&self) -> Vec<&Delivery> {
        self.deliveries.values().rev().filter(|d| d.is_logged()).collect()
    }

    /// The App's delivery log from the newest down, those before `below` only.
    pub fn log_before(&self, below: u64) -> impl Iterator<Item = &Delivery> {
        self.deliveries.range(..below).rev().map(|(_, d)| d).filter(|d| d.is_logged())
    }

    /// One delivery of the log.
    #[must_use]
    pub fn logged(&self, id: u64) -> Option<&Delivery> {
        self.deliveries.get(&id).filter(|d| d.is_logged())
    }
}

impl Delivery {
    fn is_logged(&self) -> bool {
        self.forgery == Forgery::None && matches!(self.progress, Progress::Answered { .. })
    }

    /// Whether the receiver answered 2xx.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        matches!(self.progress, Progress::Answered { status: Some(200..=299), .. })
    }
}

/// Half of the lost deliveries are in the log as failed, the others nowhere.
fn drawn_loss(cx: &mut Cx<'_>) -> Fate {
    if cx.tape.chance(0.5) { Fate::Vanished } else { Fate::Failed }
}

fn fresh_guid(cx: &mut Cx<'_>) -> String {
    let (high, low) = (cx.tape.draw(u64::MAX), cx.tape.draw(u64::MAX));
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}
