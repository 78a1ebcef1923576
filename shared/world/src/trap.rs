//! The adversary: acts while a call of the system under test is in flight.
//!
//! Uniform random faults do not find a race between a check and an act; a trap waits for the act and strikes in it.

use crate::call::{Api, Call};
use serde::{Deserialize, Serialize};

/// Waits for a call and acts on it, once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trap {
    /// Which call.
    pub on: CallPattern,
    /// Before or after the call's effect.
    pub phase: Phase,
    /// What happens.
    pub action: TrapAction,
}

/// Which call springs a trap; a field that is absent matches every call.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CallPattern {
    /// The service.
    pub api: Option<Api>,
    /// The operation, for example `DeleteRunner` or `TerminateInstances`.
    pub operation: Option<String>,
    /// The calling function.
    pub caller: Option<String>,
    /// The runner's whole name, or its end (the instance id).
    pub runner_name: Option<String>,
    /// One of the instances named by the call.
    pub instance_id: Option<String>,
    /// How many matching calls pass before the trap springs.
    pub skip: u32,
}

/// When a trap acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The request has arrived and has done nothing yet.
    BeforeEffect,
    /// The effect is durable and the answer has not left.
    AfterEffect,
}

/// What a trap does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrapAction {
    /// GitHub assigns a job to the runner that the call names. The job is one that was added as held.
    AssignJob {
        /// The held job.
        job_id: u64,
        /// Whether GitHub's own flag knows at once (DELETE answers 422) or lags (DELETE answers 204).
        github_knows: bool,
    },
    /// The connection breaks: before the effect the call does nothing, after it the caller cannot know.
    LoseReply,
    /// The call answers this status; before the effect it does nothing.
    Fail {
        /// HTTP status.
        status: u16,
    },
    /// The calling function's process is killed and gets no answer.
    KillCaller,
}

/// What the front end does with a call after the traps have acted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interference {
    /// Nothing: go on.
    Proceed,
    /// Answer this status.
    Fail {
        /// HTTP status.
        status: u16,
    },
    /// Close the connection without an answer.
    LoseReply,
}

impl CallPattern {
    /// Whether the pattern describes the call; `skip` is not considered.
    #[must_use]
    pub fn matches(&self, call: &Call) -> bool {
        let names_runner =
            |wanted: &String| call.runner_name.as_ref().is_some_and(|name| name.ends_with(wanted.as_str()));
        self.api.is_none_or(|api| api == call.api)
            && self.operation.as_ref().is_none_or(|op| *op == call.operation)
            && self.caller.as_ref().is_none_or(|caller| *caller == call.caller)
            && self.runner_name.as_ref().is_none_or(names_runner)
            && self.instance_id.as_ref().is_none_or(|id| call.instance_ids.contains(id))
    }
}

/// The traps that have not sprung.
#[derive(Debug, Clone, Default)]
pub struct Traps {
    set: Vec<Trap>,
}

impl Traps {
    /// Sets a trap.
    pub fn set(&mut self, trap: Trap) {
        self.set.push(trap);
    }

    /// Traps that wait.
    #[must_use]
    pub fn waiting(&self) -> &[Trap] {
        &self.set
    }

    /// Takes the actions of the traps that this call springs in this phase.
    pub fn spring(&mut self, call: &Call, phase: Phase) -> Vec<TrapAction> {
        let mut sprung = Vec::new();
        self.set.retain_mut(|trap| {
            if trap.phase != phase || !trap.on.matches(call) {
                return true;
            }
            if trap.on.skip > 0 {
                trap.on.skip -= 1;
                return true;
            }
            sprung.push(trap.action.clone());
            false
        });
        sprung
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trap_springs_once_on_the_nth_matching_call() {
        let mut traps = Traps::default();
        traps.set(Trap {
            on: CallPattern {
                operation: Some("DeleteRunner".into()),
                runner_name: Some("i-1".into()),
                skip: 1,
                ..CallPattern::default()
            },
            phase: Phase::BeforeEffect,
            action: TrapAction::LoseReply,
        });
        let call = |name: &str| Call::new(Api::GitHub, "DeleteRunner", "scale-down").about_runner(name);
        let mut spring = |call: &Call, phase| traps.spring(call, phase).len();
        assert_eq!(spring(&call("ghr-i-2"), Phase::BeforeEffect), 0, "another runner");
        assert_eq!(spring(&call("ghr-i-1"), Phase::AfterEffect), 0, "another phase");
        assert_eq!(spring(&call("ghr-i-1"), Phase::BeforeEffect), 0, "the first passes");
        assert_eq!(spring(&call("ghr-i-1"), Phase::BeforeEffect), 1, "the second springs it");
        assert_eq!(spring(&call("ghr-i-1"), Phase::BeforeEffect), 0, "only once");
    }
}
