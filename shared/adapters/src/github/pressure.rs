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
use http::HeaderMap;
use runner_scaler_core::error::{Class, PortError};
use runner_scaler_core::ledger::{BackPressure, Pace, Stored, Versioned, load, store, update};
use runner_scaler_core::ports::ApiBudget;
use runner_scaler_core::time::{Clock, Timestamp};
use tokio::sync::Mutex;
use tracing::warn;

use super::client::Call;
use super::pace::{Bucket, CHANGE, JITTER_MAX, POINTS_A_MINUTE, Purpose, Purse, Rate, SLOW_FOR, Spend, take};
use crate::aws::Effect;
use crate::clock::SystemClock;
use crate::dynamodb::LedgerTable;
use crate::jitter;

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

/// Tries to take points where other processes take some in the same moment. More, and a change spends its time there;
/// fewer, and a dozen processes at once go on without the ledger.
const TAKES_MAX: u32 = 8;

/// An extension of a wait that is not worth a write: the refusals of one burst differ by this.
const SAME: Duration = Duration::from_secs(1);

/// The breakers and buckets of this process.
#[derive(Debug)]
pub(crate) struct Pressure {
    ledger: LedgerTable,
    points_a_minute: u32,
    /// By owner in lower case; held for the look-up only.
    owners: Mutex<BTreeMap<String, Slot>>,
}

/// One owner's; held while the ledger is read, so that a burst of calls reads it once.
type Slot = Arc<Mutex<Owner>>;

/// What is known of one owner.
#[derive(Debug)]
pub(crate) struct Owner {
    breaker: Breaker,
    purse: Purse,
    /// The shared bucket as this process left it, which is how it is unless another one took points since.
    shared: Option<Versioned<Pace>>,
    /// Until when this process asks for the halved pace.
    slow_until: Option<Timestamp>,
    reads: Bucket,
    /// Changes that this process counts for itself.
    alone: Bucket,
    /// When the ledger was last asked.
    read_at: Option<Timestamp>,
    /// What the last answer said of the hour's budget.
    budget: Option<ApiBudget>,
}

impl Owner {
    fn new(owner: &str, points_a_minute: u32) -> Self {
        let of_the_app = owner == BackPressure::APP;
        Self {
            breaker: Breaker::default(),
            purse: Purse::default(),
            shared: None,
            slow_until: None,
            reads: Bucket::of_reads(points_a_minute),
            alone: if of_the_app {
                Bucket::of_the_app(points_a_minute)
            } else {
                Bucket::without_ledger(points_a_minute)
            },
            read_at: None,
            budget: None,
        }
    }
}

/// How taking points from the ledger went.
enum Taken {
    /// They are there at that time.
    ReadyAt(Timestamp),
    /// Their time is too far away.
    TooFar(Duration),
    /// The ledger cannot be reached.
    NoLedger,
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
    pub(super) fn new(ledger: LedgerTable) -> Self {
        Self { ledger, points_a_minute: POINTS_A_MINUTE, owners: Mutex::new(BTreeMap::new()) }
    }

    /// Another pace than GitHub's published one.
    pub(crate) fn set_pace(&mut self, points_a_minute: u32) {
        self.points_a_minute = points_a_minute;
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

    /// Waits for a call's turn, a read only where far too many were sent; class `Throttled` when that is too far away,
    /// and then nothing was sent.
    pub(super) async fn pace(&self, owner: &str, call: &Call) -> Result<(), PortError> {
        let slot = self.slot(owner).await;
        let turn = match call.effect() {
            Effect::Read => self.turn_of_read(owner, &mut *slot.lock().await).await,
            Effect::Change => self.turn_of_change(owner, &mut *slot.lock().await).await,
        };
        let wait = turn.map_err(|wait| held_back(call, wait))?;
        if wait.is_zero() {
            return Ok(());
        }
        SystemClock.sleep(wait + jitter::up_to(JITTER_MAX)).await;
        // Another call may have been refused meanwhile.
        self.admit(owner, call).await
    }

    async fn turn_of_read(&self, owner: &str, known: &mut Owner) -> Result<Duration, Duration> {
        let wait = known.reads.take(1, SystemClock.now())?;
        if owner == BackPressure::APP {
            return Ok(wait);
        }
        if let Some(points) = known.purse.read() {
            // Noted so that changes make room; where it cannot be, they do not.
            let _noted = self.take_shared(owner, known, points, Purpose::Reads).await;
        }
        Ok(wait)
    }

    /// What the App does in its own name, each process counts for itself.
    async fn turn_of_change(&self, owner: &str, known: &mut Owner) -> Result<Duration, Duration> {
        if owner == BackPressure::APP {
            return known.alone.take(CHANGE, SystemClock.now());
        }
        let points = match known.purse.spend(SystemClock.now()) {
            Spend::After(wait) => return Ok(wait),
            Spend::Take(points) => points,
        };
        match self.take_shared(owner, known, points, Purpose::Change).await {
            Taken::ReadyAt(ready_at) => known.purse.fill(ready_at),
            Taken::TooFar(wait) => return Err(wait),
            Taken::NoLedger => return known.alone.take(CHANGE, SystemClock.now()),
        }
        match known.purse.spend(SystemClock.now()) {
            Spend::After(wait) => Ok(wait),
            // The ledger took longer than the points are good for.
            Spend::Take(_) => known.alone.take(CHANGE, SystemClock.now()),
        }
    }

    /// Takes points from the bucket that all processes share.
    async fn take_shared(&self, owner: &str, known: &mut Owner, points: u32, purpose: Purpose) -> Taken {
        let taking = async {
            for attempt in 1..=TAKES_MAX {
                let stored = match known.shared.take() {
                    Some(stored) => stored,
                    None => match load::<Pace>(&self.ledger, Pace::id_of(owner)).await? {
                        Stored::Present(stored) => stored,
                        Stored::Absent => {
                            let none_taken = Pace { owner: owner.to_owned(), full_at: Timestamp(0), slow_until: None };
                            Versioned::new(none_taken)
                        }
                        // Another version of this code keeps another count.
                        Stored::Foreign => return Ok(Taken::NoLedger),
                    },
                };
                let mut changed = stored;
                changed.record.slow_until = changed.record.slow_until.max(known.slow_until);
                let now = SystemClock.now();
                let (pace, ready_at) = match take(&changed.record, Rate::of(self.points_a_minute), points, purpose, now)
                {
                    Ok(taken) => taken,
                    Err(wait) => return Ok(Taken::TooFar(wait)),
                };
                changed.record = pace;
                match store(&self.ledger, changed).await {
                    Ok(stored) => {
                        known.shared = Some(stored);
                        return Ok(Taken::ReadyAt(ready_at));
                    }
                    Err(error) if error.class == Class::Conflict => {
                        SystemClock.sleep(jitter::up_to(JITTER_MAX * attempt)).await;
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok::<_, PortError>(Taken::NoLedger)
        };
        match tokio::time::timeout(LEDGER_TIMEOUT, taking.boxed()).await {
            Ok(Ok(taken)) => taken,
            Ok(Err(error)) => {
                warn!(owner, error = %error, "the shared pace is not known: this process goes by its own");
                Taken::NoLedger
            }
            Err(_) => {
                warn!(owner, "the shared pace is not known: the ledger did not answer in time");
                Taken::NoLedger
            }
        }
    }

    /// Notes an answer that refuses nothing; where it took the last of the owner's budget, for how long there is none.
    pub(super) async fn note_answer(&self, owner: &str, spent_for: Option<Duration>) {
        let slot = self.slot(owner).await;
        let mut known = slot.lock().await;
        let now = SystemClock.now();
        known.breaker.answered(now);
        let Some(wait) = spent_for.map(|wait| wait.min(SAID_MAX)) else { return };
        let before = known.breaker.until;
        let until = now.plus(wait);
        known.breaker.learn(until, now);
        drop(known);
        warn!(owner, wait_ms = millis(wait), "GitHub's budget for {owner} is spent: it waits for {} s", wait.as_secs());
        if before.is_none_or(|before| until.since(before) > SAME) {
            self.write(owner, until).await;
        }
    }

    /// Notes that GitHub asks for patience, for how long where it says so. Returns how long the owner's calls wait from
    /// now on.
    pub(super) async fn note_refusal(&self, owner: &str, retry_after: Option<Duration>) -> Duration {
        let slot = self.slot(owner).await;
        let mut known = slot.lock().await;
        let now = SystemClock.now();
        let before = known.breaker.until;
        let until = known.breaker.refused(retry_after, now);
        known.purse.empty();
        known.slow_until = Some(now.plus(SLOW_FOR));
        // The lock is not held while the ledger is written: other calls shall be refused at once.
        drop(known);
        if before.is_none_or(|before| before.plus(SAME) < until) {
            warn!(owner, wait_ms = millis(until.since(now)), "GitHub asks for patience until {until}");
            self.write(owner, until).await;
        }
        until.since(now)
    }

    /// Notes what an answer says of the owner's hourly budget. An answer of another of GitHub's budgets says nothing.
    pub(super) async fn note_budget(&self, owner: &str, headers: &HeaderMap) {
        let Some(budget) = budget_of(headers) else { return };
        self.slot(owner).await.lock().await.budget = Some(budget);
    }

    /// What GitHub last said of the owner's hourly budget.
    pub(super) async fn budget(&self, owner: &str) -> Option<ApiBudget> {
        self.slot(owner).await.lock().await.budget
    }

    async fn slot(&self, owner: &str) -> Slot {
        let fresh = || Arc::new(Mutex::new(Owner::new(owner, self.points_a_minute)));
        Arc::clone(self.owners.lock().await.entry(owner.to_ascii_lowercase()).or_insert_with(fresh))
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

/// Documentation, "Rate limits for the REST API" (read 2026-11-26): `x-ratelimit-limit`, `-remaining`, `-reset` in epoch
/// seconds, and `-resource`, which is `core` for all that is asked here.
fn budget_of(headers: &HeaderMap) -> Option<ApiBudget> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let number = |name: &str| text(name)?.trim().parse::<u32>().ok();
    if text("x-ratelimit-resource").is_some_and(|resource| resource != "core") {
        return None;
    }
    let seconds: i64 = text("x-ratelimit-reset")?.trim().parse().ok()?;
    Some(ApiBudget {
        limit: number("x-ratelimit-limit")?,
        remaining: number("x-ratelimit-remaining")?,
        resets_at: Timestamp(seconds.saturating_mul(1_000)),
    })
}

fn held_back(call: &Call, wait: Duration) -> PortError {
    let class = Class::Throttled { retry_after: Some(wait) };
    PortError::new(call.name(), class, format!("not sent: its turn comes in {} ms", wait.as_millis()))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
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
}
