//! Back-pressure: whose calls GitHub asked to wait, and until when, in this process and in the ledger for all others.
//!
//! One breaker an owner for calls with an installation's token, and one for those that the App makes in its own name.
//! While it is closed for calls nothing is sent: GitHub counts requests made during a refusal against the App
//! (documentation, "Best practices for using the REST API", read 2026-11-20). What this refuses to know: what a call is
//! about, and how GitHub says that it refuses (`status.rs`).
//!
//! The ledger only makes one process learn of another's refusal. Where it cannot be read or written, this process goes
//! by what it remembers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use ring::rand::{SecureRandom, SystemRandom};
use runner_scaler_core::error::{Class, PortError};
use runner_scaler_core::ledger::{BackPressure, Stored, Versioned, load, update};
use runner_scaler_core::time::{Clock, Timestamp};
use tokio::sync::Mutex;
use tracing::warn;

use super::client::Call;
use super::pace::{Bucket, JITTER_MAX, Pace};
use crate::aws::Effect;
use crate::clock::SystemClock;
use crate::dynamodb::LedgerTable;

/// How old the ledger's word may become. Older, and a warm process goes on for longer where another one was refused;
/// younger, and every few calls cost a read.
const FRESH: Duration = Duration::from_secs(10);

/// For one look into the ledger or one note in it. Longer, and a ledger that hangs holds GitHub up; shorter, and a
/// refusal stays unknown to others for one slow answer.
const LEDGER_TIMEOUT: Duration = Duration::from_secs(2);

/// First wait where GitHub does not say how long: "at least one minute" (documentation, "Rate limits for the REST API",
/// read 2026-11-20).
const UNSAID_MIN: Duration = Duration::from_mins(1);

/// Longest wait of that kind; the documentation asks for exponentially longer ones. Longer, and an owner whose limit is
/// over waits on; shorter, and repeated refusals count as abuse.
const UNSAID_MAX: Duration = Duration::from_mins(15);

/// Longest wait that is believed: GitHub's longest window is one hour, so what says more is a wrong clock. Longer, and
/// such an answer stops an owner for days; shorter, and a spent hourly budget is asked for again and again.
const SAID_MAX: Duration = Duration::from_hours(1);

/// An extension of a wait that is not worth a write: the refusals of one burst differ by this.
const SAME: Duration = Duration::from_secs(1);

/// The breakers and buckets of this process.
#[derive(Debug)]
pub(crate) struct Pressure {
    ledger: LedgerTable,
    pace: Pace,
    /// By owner in lower case; held for the look-up only.
    owners: Mutex<BTreeMap<String, Slot>>,
}

/// One owner's; held while the ledger is read, so that a burst of calls reads it once.
type Slot = Arc<Mutex<Owner>>;

/// What is known of one owner.
#[derive(Debug)]
pub(crate) struct Owner {
    breaker: Breaker,
    bucket: Bucket,
    /// When the ledger was last asked.
    read_at: Option<Timestamp>,
}

impl Owner {
    fn new(pace: Pace) -> Self {
        Self { breaker: Breaker::default(), bucket: Bucket::full(pace), read_at: None }
    }
}

/// Until when calls wait, and how often in a row GitHub refused.
#[derive(Debug, Default)]
struct Breaker {
    until: Option<Timestamp>,
    refusals: u32,
}

impl Breaker {
    /// How long calls still wait.
    fn wait(&self, now: Timestamp) -> Option<Duration> {
        self.until.map(|until| until.since(now)).filter(|wait| !wait.is_zero())
    }

    /// Another process was refused until then; its clock may be ahead of ours.
    fn learn(&mut self, until: Timestamp, now: Timestamp) {
        self.until = self.until.max(Some(until.min(now.plus(SAID_MAX))));
    }

    /// A refusal: until when calls wait from now on. The refusals of one burst are one: only the first after a wait
    /// counts, and none shortens what a longer one asked for.
    fn refused(&mut self, said: Option<Duration>, now: Timestamp) -> Timestamp {
        if self.wait(now).is_none() {
            self.refusals = self.refusals.saturating_add(1);
        }
        let doubled = 2_u32.saturating_pow(self.refusals.saturating_sub(1).min(8));
        let unsaid = || UNSAID_MIN.saturating_mul(doubled).min(UNSAID_MAX);
        let until = now.plus(said.map_or_else(unsaid, |said| said.min(SAID_MAX)));
        self.learn(until, now);
        self.until.unwrap_or(until)
    }

    /// An answer that refuses nothing. One that was under way while another was refused ends no row.
    fn answered(&mut self, now: Timestamp) {
        if self.wait(now).is_none() {
            self.refusals = 0;
        }
    }
}

impl Pressure {
    /// Nothing known yet; the ledger is read before the first call.
    pub(super) fn new(ledger: LedgerTable, pace: Pace) -> Self {
        Self { ledger, pace, owners: Mutex::new(BTreeMap::new()) }
    }

    /// Whether that owner's calls may be sent; class `Throttled` when they wait, and then nothing was sent.
    pub(super) async fn admit(&self, owner: &str, call: &Call) -> Result<(), PortError> {
        let slot = self.slot(owner).await;
        let mut known = slot.lock().await;
        let now = SystemClock.now();
        let fresh = |read_at: Timestamp| read_at <= now && now.since(read_at) < FRESH;
        if known.breaker.wait(now).is_none() && !known.read_at.is_some_and(fresh) {
            // Noted before the answer, so that a ledger that cannot be read is not asked at every call.
            known.read_at = Some(now);
            if let Some(until) = self.read(owner).await {
                known.breaker.learn(until, now);
            }
        }
        known.breaker.wait(SystemClock.now()).map_or(Ok(()), |wait| Err(held_back(call, wait)))
    }

    /// Waits for a change's turn; class `Throttled` when that is too far away, and then nothing was sent. A call that
    /// only reads waits for nothing.
    pub(super) async fn pace(&self, owner: &str, call: &Call) -> Result<(), PortError> {
        if call.effect() == Effect::Read {
            return Ok(());
        }
        let slot = self.slot(owner).await;
        let turn = slot.lock().await.bucket.take(SystemClock.now(), jitter());
        let wait = turn.map_err(|wait| held_back(call, wait))?;
        if wait.is_zero() {
            return Ok(());
        }
        SystemClock.sleep(wait).await;
        // Another call may have been refused meanwhile.
        self.admit(owner, call).await
    }

    /// Notes an answer of GitHub's: the class of the error that it stands for, if it is one. Returns how long the owner's
    /// calls wait from now on, where it asks for patience.
    pub(super) async fn note(&self, owner: &str, class: Option<Class>) -> Option<Duration> {
        let slot = self.slot(owner).await;
        let mut known = slot.lock().await;
        let now = SystemClock.now();
        let Some(Class::Throttled { retry_after }) = class else {
            known.breaker.answered(now);
            return None;
        };
        let before = known.breaker.until;
        let until = known.breaker.refused(retry_after, now);
        known.bucket.empty(now);
        // The lock is not held while the ledger is written: other calls shall be refused at once.
        drop(known);
        if before.is_none_or(|before| before.plus(SAME) < until) {
            warn!(owner, wait_ms = millis(until.since(now)), "GitHub asks for patience until {until}");
            self.write(owner, until).await;
        }
        Some(until.since(now))
    }

    async fn slot(&self, owner: &str) -> Slot {
        let new = || Arc::new(Mutex::new(Owner::new(self.pace)));
        Arc::clone(self.owners.lock().await.entry(owner.to_ascii_lowercase()).or_insert_with(new))
    }

    /// What the ledger says; `None` when it says nothing, or cannot be read.
    async fn read(&self, owner: &str) -> Option<Timestamp> {
        let reading = load::<BackPressure>(&self.ledger, BackPressure::id_of(owner)).boxed();
        match tokio::time::timeout(LEDGER_TIMEOUT, reading).await {
            Ok(Ok(Stored::Present(record))) => Some(record.record.until),
            Ok(Ok(Stored::Absent | Stored::Foreign)) => None,
            Ok(Err(error)) => {
                warn!(owner, error = %error, "back-pressure of others is not known");
                None
            }
            Err(_) => {
                warn!(owner, "back-pressure of others is not known: the ledger did not answer in time");
                None
            }
        }
    }

    /// Tells all other processes; never shortens what another one told.
    async fn write(&self, owner: &str, until: Timestamp) {
        let id = BackPressure::id_of(owner);
        let extended = |stored: Stored<BackPressure>| match stored {
            Stored::Absent => Some(Versioned::new(BackPressure { owner: owner.to_owned(), until })),
            Stored::Present(mut record) if record.record.until < until => {
                record.record.until = until;
                Some(record)
            }
            Stored::Present(_) | Stored::Foreign => None,
        };
        let writing = update(&self.ledger, &id, extended).boxed();
        match tokio::time::timeout(LEDGER_TIMEOUT, writing).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => warn!(owner, error = %error, "others do not learn of the back-pressure"),
            Err(_) => warn!(owner, "others may not learn of the back-pressure: the ledger did not answer in time"),
        }
    }
}

fn held_back(call: &Call, wait: Duration) -> PortError {
    let class = Class::Throttled { retry_after: Some(wait) };
    PortError::new(call.name(), class, format!("not sent: its turn comes in {} ms", wait.as_millis()))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Without randomness there is none: it only spreads.
fn jitter() -> Duration {
    let mut byte = [0_u8; 1];
    match SystemRandom::new().fill(&mut byte) {
        Ok(()) => JITTER_MAX * u32::from(u8::from_be_bytes(byte)) / u32::from(u8::MAX),
        Err(_) => Duration::ZERO,
    }
}

/// Time that passes for the tests.
#[cfg(test)]
impl Pressure {
    /// As if the ledger had been asked long ago.
    pub(crate) async fn forget_readings(&self) {
        for slot in self.owners.lock().await.values() {
            slot.lock().await.read_at = None;
        }
    }

    /// As if GitHub had refused a call a moment ago, but for the breakers.
    pub(crate) async fn empty_buckets(&self) {
        for slot in self.owners.lock().await.values() {
            slot.lock().await.bucket.empty(SystemClock.now());
        }
    }

    /// As if that long had passed for every breaker.
    pub(crate) async fn age_by(&self, duration: Duration) {
        for slot in self.owners.lock().await.values() {
            let mut known = slot.lock().await;
            known.breaker.until = known.breaker.until.map(|until| until.minus(duration));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    #[test]
    fn waits_that_github_does_not_say_double_while_refusals_follow_one_another() {
        let (mut breaker, mut now) = (Breaker::default(), NOW);
        for minutes in [1, 2, 4, 8, 15, 15] {
            let until = breaker.refused(None, now);
            assert_eq!(until.since(now), Duration::from_mins(minutes));
            breaker.answered(now);
            assert_eq!(breaker.refused(None, now), until, "the refusals of one burst are one");
            now = until;
            assert_eq!(breaker.wait(now), None, "calls are resumed by themselves");
        }
        breaker.answered(now);
        assert_eq!(breaker.refused(None, now).since(now), Duration::from_mins(1), "an answer ends the row");
    }

    #[test]
    fn what_github_says_is_believed_within_an_hour_and_never_shortened() {
        for (case, waits, expected) in [
            ("as said", &[17][..], 17),
            ("the longer one", &[40, 17], 40),
            ("extended", &[17, 40], 40),
            ("a wrong clock", &[86_400], 3_600),
        ] {
            let mut breaker = Breaker::default();
            for wait in waits {
                breaker.refused(Some(Duration::from_secs(*wait)), NOW);
            }
            assert_eq!(breaker.wait(NOW), Some(Duration::from_secs(expected)), "{case}");
        }
        let mut breaker = Breaker::default();
        breaker.learn(NOW.plus(Duration::from_secs(9)), NOW);
        breaker.learn(NOW, NOW);
        assert_eq!(breaker.wait(NOW), Some(Duration::from_secs(9)), "what another process was told");
        breaker.learn(NOW.plus(SAID_MAX * 9), NOW);
        assert_eq!(breaker.wait(NOW), Some(SAID_MAX), "by a clock that was ahead");
    }

    #[test]
    fn jitter_is_bounded() {
        for _ in 0..100 {
            assert!(jitter() <= JITTER_MAX);
        }
    }
}
