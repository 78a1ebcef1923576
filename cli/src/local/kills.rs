//! Functions killed in the middle of their work: which, at which call, and what became of it.
//!
//! Calls to GitHub and EC2 are the world's, which kills by a trap; calls to the rest of AWS pass the counting proxy,
//! which kills here.

use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::functions::Function;

/// Calls that the world answers.
const WORLD_CALLS: [&str; 18] = [
    "CreateAccessToken",
    "CreateFleet",
    "CreateTags",
    "DeleteRunner",
    "DescribeInstances",
    "GenerateJitConfig",
    "GetDelivery",
    "GetInstallation",
    "GetJob",
    "GetRunner",
    "ListDeliveries",
    "ListInstallations",
    "ListJobsOfRun",
    "ListRepositories",
    "ListRunners",
    "ListRuns",
    "Redeliver",
    "TerminateInstances",
];

/// Calls that the emulator answers.
const EMULATOR_CALLS: [&str; 8] = [
    "BatchGetItem",
    "DeleteParameter",
    "GetParameter",
    "PutItem",
    "PutParameter",
    "Query",
    "SendMessage",
    "TransactWriteItems",
];

/// A function to kill, and at which of its calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kill {
    /// The function.
    pub(crate) function: Function,
    /// The call.
    pub(crate) call: String,
}

/// Who answers a call, and so kills its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// GitHub or EC2.
    World,
    /// The rest of AWS.
    Emulator,
}

impl Kill {
    /// Where it strikes.
    pub(crate) fn place(&self) -> Place {
        if EMULATOR_CALLS.contains(&self.call.as_str()) { Place::Emulator } else { Place::World }
    }
}

impl FromStr for Kill {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, call) = text.split_once('@').map_or((text, None), |(name, call)| (name, Some(call)));
        let function = Function::ALL.into_iter().find(|function| function.name() == name).ok_or_else(|| {
            let names: Vec<_> = Function::ALL.iter().map(|function| function.name()).collect();
            format!("no function {name:?}; there are {}", names.join(", "))
        })?;
        let call = call.unwrap_or(worst_call(function));
        let known = WORLD_CALLS.iter().chain(&EMULATOR_CALLS);
        if known.clone().all(|known| *known != call) {
            let names: Vec<_> = known.copied().collect();
            return Err(format!("no call {call:?}; there are {}", names.join(", ")));
        }
        Ok(Self { function, call: call.to_owned() })
    }
}

/// The call after which the most is left undone.
fn worst_call(function: Function) -> &'static str {
    match function {
        Function::Webhook | Function::DemandReconciler => "SendMessage",
        Function::ScaleUp => "CreateFleet",
        Function::ScaleDown => "DeleteRunner",
        Function::OrphanSweeper => "TerminateInstances",
    }
}

/// A kill that was carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Killed {
    /// The function.
    pub(crate) function: Function,
    /// The call.
    pub(crate) call: String,
    /// How many processes were killed.
    pub(crate) processes: usize,
}

/// The kills of the proxy, shared by its connections.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kills(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Kill>,
    done: Vec<Killed>,
}

impl Kills {
    /// Waits for the call.
    pub(crate) fn set(&self, kill: Kill) {
        self.state().waiting.push(kill);
    }

    /// The kill that waits for this call, if any; it strikes once.
    pub(crate) fn strike(&self, caller: &str, call: &str) -> Option<Kill> {
        let mut state = self.state();
        let position = state.waiting.iter().position(|kill| kill.function.name() == caller && kill.call == call)?;
        Some(state.waiting.remove(position))
    }

    /// Notes what a kill came to.
    pub(crate) fn note(&self, kill: Kill, processes: usize) {
        self.state().done.push(Killed { function: kill.function, call: kill.call, processes });
    }

    /// What was carried out since the last time.
    pub(crate) fn take_done(&self) -> Vec<Killed> {
        std::mem::take(&mut self.state().done)
    }

    /// Kills whose call did not come, one line each.
    pub(crate) fn waiting(&self) -> Vec<String> {
        self.state().waiting.iter().map(|kill| format!("{} by {}: kill", kill.call, kill.function.name())).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_names_a_function_and_perhaps_a_call() {
        let cases = [
            ("scale-up", Function::ScaleUp, "CreateFleet", Place::World),
            ("scale-up@TransactWriteItems", Function::ScaleUp, "TransactWriteItems", Place::Emulator),
            ("webhook", Function::Webhook, "SendMessage", Place::Emulator),
            ("orphan-sweeper@DeleteRunner", Function::OrphanSweeper, "DeleteRunner", Place::World),
            ("demand-reconciler", Function::DemandReconciler, "SendMessage", Place::Emulator),
        ];
        for (text, function, call, place) in cases {
            let kill: Kill = text.parse().unwrap();
            assert_eq!((kill.function, kill.call.as_str(), kill.place()), (function, call, place), "{text}");
        }
        for text in ["scale-sideways", "scale-up@", "scale-up@createfleet"] {
            assert!(text.parse::<Kill>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_kill_strikes_its_function_once() {
        let kills = Kills::default();
        kills.set("webhook@PutItem".parse().unwrap());
        assert_eq!(kills.strike("scale-up", "PutItem"), None, "another function");
        assert_eq!(kills.strike("webhook", "GetItem"), None, "another call");
        assert_eq!(kills.waiting().len(), 1);
        let kill = kills.strike("webhook", "PutItem").unwrap();
        assert_eq!((kills.strike("webhook", "PutItem"), kills.waiting().len()), (None, 0));
        kills.note(kill, 1);
        assert_eq!(kills.take_done().len(), 1);
        assert_eq!(kills.take_done(), []);
    }
}
