//! What happens next: events by time, and among those of one moment in the order in which they were noted.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::task::Waker;

use runner_scaler_world::Millis;

use crate::coverage::Counter;
use crate::hosts::Errand;
use crate::lambda::{Function, TaskId};

/// Something that happens at its time.
#[derive(Debug)]
pub enum Event {
    /// The world has something to do by itself.
    World,
    /// A call or a sleep of an invocation is over.
    Wake(TaskId, Waker),
    /// An invocation reaches its time limit.
    TimeLimit(TaskId),
    /// `EventBridge` invokes a function, and notes the next time.
    Schedule(Function),
    /// `EventBridge` invokes a function once more, as at-least-once allows.
    InvokeAgain(Function),
    /// The queue may have messages for scale-up.
    Queue,
    /// The event source mapping tries a throttled batch again.
    InvokeBatch(Vec<u64>),
    /// GitHub has deliveries to send.
    Deliveries,
    /// An instance has something to do, if it is still the same life of it.
    Host {
        /// The instance.
        host: usize,
        /// Its life: what an ended process was about to do does not happen.
        life: u32,
        /// What.
        errand: Errand,
    },
    /// A minute of workload.
    Minute,
    /// The adversary gives a job to this runner now.
    Strike {
        /// The runner's name.
        runner: String,
        /// What is reached where it takes the job.
        counts: Option<Counter>,
    },
    /// GitHub is in trouble with one of the owners, and the next time is noted.
    Trouble,
    /// Everything is held against what must be true by now.
    Inspection,
    /// A person sends the dead letters back to the queue.
    Redrive,
    /// The faults end.
    Quiet,
}

/// When an event comes: its time, and its number among those of that time.
type Turn = (Millis, u64);

/// The events to come.
#[derive(Default)]
pub struct Agenda {
    /// By their turn, and where in `events` each lies: what the heap moves about is small.
    heap: BinaryHeap<Reverse<(Turn, usize)>>,
    events: Vec<Option<Event>>,
    free: Vec<usize>,
    noted: u64,
}

impl Agenda {
    /// Notes an event.
    pub fn note(&mut self, at: Millis, event: Event) {
        self.noted += 1;
        let place = self.free.pop().unwrap_or(self.events.len());
        match self.events.get_mut(place) {
            Some(free) => *free = Some(event),
            None => self.events.push(Some(event)),
        }
        self.heap.push(Reverse(((at, self.noted), place)));
    }

    /// Takes the next event that is due until then.
    pub fn take(&mut self, until: Millis) -> Option<(Millis, Event)> {
        let Reverse(((at, _), place)) = *self.heap.peek()?;
        if at > until {
            return None;
        }
        self.heap.pop();
        self.free.push(place);
        self.events.get_mut(place)?.take().map(|event| (at, event))
    }

    /// Events noted so far.
    #[must_use]
    pub fn noted(&self) -> u64 {
        self.noted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_in_the_order_in_which_they_were_noted() {
        let mut agenda = Agenda::default();
        for (at, event) in [(5, Event::Quiet), (3, Event::World), (5, Event::Minute), (9, Event::Queue)] {
            agenda.note(at, event);
        }
        let mut taken = Vec::new();
        while let Some((at, event)) = agenda.take(5) {
            taken.push((at, format!("{event:?}")));
        }
        assert_eq!(taken, [(3, "World".to_owned()), (5, "Quiet".to_owned()), (5, "Minute".to_owned())]);
    }
}
