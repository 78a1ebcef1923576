//! `decide`: the one pure function from evidence to verdict, for scale-down, orphan-sweeper, `plan` and the checker.
//!
//! Rows are those of the decision table in ARCHITECTURE.md; each is one arm in `rows`. Signs of life come first:
//! whatever else was read, they keep the instance.

mod reason;
mod rows;
mod watch;

use crate::config::Policy;
use crate::evidence::Evidence;
use crate::ids::RunnerId;
use crate::removal::{DeregistrationGround, Ground};
use crate::time::Timestamp;

pub use reason::{Reason, Veto, Vetoes};
pub use rows::REAPED;

/// What to do with one instance now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The act.
    pub action: Action,
    /// Why it is kept, or what the act rests on.
    pub reason: Reason,
    /// Who says that it must be kept; empty unless it is.
    pub vetoes: Vetoes,
    /// When time alone changes the verdict, though nothing new is read; `None` where it never does.
    pub next_look: Option<Timestamp>,
}

/// An act. Everything but `Terminate` and `Deregister` can be repeated or undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Leave it alone.
    Keep,
    /// Read more of it in this pass and decide again.
    Look(Source),
    /// Write into its record what was just read of it.
    Note(Note),
    /// Make a record of what EC2 shows.
    Rebuild,
    /// Ask the instance to stop if it is idle.
    Drain,
    /// Delete its registration.
    Deregister(RunnerId, DeregistrationGround),
    /// End it.
    Terminate(Ground),
    /// It is gone for certain: take away what it left.
    CleanUp,
}

/// What has to be read before anything can be concluded. Ordered as they are read: what may be deleted first, the
/// reasons to keep it after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The list of the scope's runners, once a pass, and with it the positive control.
    Registrations,
    /// The runner by itself, uncached.
    Runner,
    /// The jobs API, on the job that started here.
    Job,
    /// Failed deliveries, then the jobs API on every job that it could have been given, then vital sign and record
    /// once more.
    Recheck,
}

/// A reading worth remembering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// Busy at GitHub: sticky.
    Busy,
    /// Idle at GitHub, for the first time in a row.
    Idle,
    /// A job may be about to come for it: what was done towards removal begins anew.
    Wanted,
    /// The runner's id, found by its name.
    RunnerId(RunnerId),
    /// A DELETE of ours whose answer was lost seems to have taken effect.
    Deregistered,
    /// A registration that we took for deleted is back.
    RegistrationBack,
    /// Its registration is not found: one more sweep.
    Absent,
    /// Its runner is offline: one more sweep.
    Offline,
    /// Something was seen that ends the rows of idle, absent and offline readings.
    RowsBroken,
    /// The jobs API says that its job has ended.
    JobCompleted,
    /// The jobs API shows its job elsewhere, for the first time.
    JobElsewhere,
    /// The jobs API shows its job where it was thought to be.
    JobHere,
    /// The jobs API showed its job elsewhere for long enough: it is not here.
    JobDropped,
    /// The job of its busy runner was sought in vain.
    Sought,
    /// EC2 shows the instance as stopped.
    Stopped,
    /// It runs again.
    Running,
    /// EC2 shows the instance as terminated: proof of gone.
    Gone,
    /// EC2 shows an instance that its listings had missed.
    Seen,
}

/// Decides what to do with one instance now; every combination of evidence has an answer.
///
/// # Guarantees
/// `Terminate` and `Deregister` are never concluded from something unread, and never against a sign of life, but for
/// [`Reason::HardAge`], which asks nobody, and for an instance on which nothing executes ([`Reason::Stopped`],
/// [`Reason::Gone`]).
#[must_use]
pub fn decide(evidence: &Evidence, policy: &Policy, now: Timestamp) -> Verdict {
    let watch = watch::Watch::at(now, policy.mutant);
    let (action, reason) = rows::conclude(evidence, policy, &watch);
    let vetoes = match action {
        Action::Keep => rows::signs_of_life(evidence, policy, now).with(reason.veto()),
        Action::Look(_)
        | Action::Note(_)
        | Action::Rebuild
        | Action::Drain
        | Action::Deregister(_, _)
        | Action::Terminate(_)
        | Action::CleanUp => Vetoes::NONE,
    };
    Verdict { action, reason, vetoes, next_look: watch.next() }
}
