//! The double's executor: time passes only when nothing else can go on, and several processes can be made to take turns
//! call by call.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::Fake;
use crate::time::{Clock, Timestamp};

thread_local! {
    /// Who sleeps in the future that is run now, and until when.
    static SLEEPERS: RefCell<Vec<(Timestamp, Rc<Sleeper>)>> = const { RefCell::new(Vec::new()) };
}

struct Sleeper {
    waker: RefCell<Option<Waker>>,
    over: Cell<bool>,
}

/// Sleeps; a process that was killed never wakes.
pub(super) async fn sleep(fake: &Fake, duration: Duration) {
    let due = fake.now().plus(duration);
    let sleeper = Rc::new(Sleeper { waker: RefCell::default(), over: Cell::new(false) });
    let _forgotten = Forget(&sleeper);
    SLEEPERS.with_borrow_mut(|sleepers| sleepers.push((due, Rc::clone(&sleeper))));
    poll_fn(|context| {
        if fake.killed.get() {
            return Poll::Pending;
        }
        if sleeper.over.get() {
            let mut state = fake.state_mut();
            state.now_ms = state.now_ms.max(due.0);
        }
        if fake.now() >= due {
            return Poll::Ready(());
        }
        sleeper.waker.replace(Some(context.waker().clone()));
        Poll::Pending
    })
    .await;
}

/// A sleep that is dropped lets no time pass.
struct Forget<'a>(&'a Rc<Sleeper>);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        SLEEPERS.with_borrow_mut(|sleepers| sleepers.retain(|(_, sleeper)| !Rc::ptr_eq(sleeper, self.0)));
    }
}

/// Wakes all who sleep least long; `false` when nobody sleeps.
fn wake_next() -> bool {
    let next: Vec<Rc<Sleeper>> = SLEEPERS.with_borrow_mut(|sleepers| {
        let Some(first) = sleepers.iter().map(|(due, _)| *due).min() else { return Vec::new() };
        sleepers.extract_if(.., |(due, _)| *due == first).map(|(_, sleeper)| sleeper).collect()
    });
    for sleeper in &next {
        sleeper.over.set(true);
        if let Some(waker) = sleeper.waker.take() {
            waker.wake();
        }
    }
    !next.is_empty()
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs a handler to its end; `None` when it was killed, that is dropped at an await.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> Option<T> {
    // What runs inside of a call of another handler has its own time to wait for.
    let outer = SLEEPERS.take();
    let woken = Arc::new(Woken(AtomicBool::new(true)));
    let waker = Waker::from(woken.clone());
    let mut output = None;
    {
        let mut future = pin!(future);
        while output.is_none() && (woken.0.swap(false, Ordering::Relaxed) || wake_next()) {
            if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                output = Some(done);
            }
        }
    }
    SLEEPERS.set(outer);
    output
}

/// One of several processes over the same double, each of which goes on only when it is told to. Dropped, it is killed
/// where it stands.
pub(crate) struct Process<'a, T> {
    fake: &'a Fake,
    future: Pin<Box<dyn Future<Output = T> + 'a>>,
    output: Option<T>,
}

impl<'a, T> Process<'a, T> {
    /// Begins nothing yet.
    pub(crate) fn new(fake: &'a Fake, future: impl Future<Output = T> + 'a) -> Self {
        Self { fake, future: Box::pin(future), output: None }
    }

    /// Goes on until it has made so many calls, and stands before its next one; returns whether it has not ended.
    pub(crate) fn step(&mut self, calls: usize) -> bool {
        let outer = self.fake.calls_allowed.replace(Some(calls));
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let waker = Waker::from(woken.clone());
        while self.output.is_none() && (woken.0.swap(false, Ordering::Relaxed) || wake_next()) {
            if let Poll::Ready(output) = self.future.as_mut().poll(&mut Context::from_waker(&waker)) {
                self.output = Some(output);
            }
            if self.fake.calls_allowed.get() == Some(0) {
                break;
            }
        }
        self.fake.calls_allowed.set(outer);
        self.output.is_none()
    }

    /// Goes on to its end.
    pub(crate) fn finish(mut self) -> T {
        for _ in 0..100 {
            if !self.step(1_000) {
                break;
            }
        }
        self.output.expect("it ends")
    }
}
