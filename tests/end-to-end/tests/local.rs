//! README command one, as a new user runs it, and the two ways in which it must end differently.
//!
//! Each run builds what it needs, starts the emulator and the simulated world, plays the scenario and judges the
//! promises by the world's ground truth. They run one after another: each takes both cores.

use std::process::{Command, Output};
use std::sync::Mutex;

use serde_json::Value;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs `cargo local` with these arguments; its summary as JSON and what it printed.
fn local(arguments: &[&str]) -> (Output, Value) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let summary = directory.path().join("summary.json");
    let mut command = Command::new(env!("CARGO"));
    // What cargo tells a test of its package would make the build script of ring, and all that follows, run again.
    for variable in std::env::vars_os().map(|(name, _)| name) {
        if variable.to_string_lossy().starts_with("CARGO_PKG_")
            || variable.to_string_lossy().starts_with("CARGO_MANIFEST_")
        {
            command.env_remove(variable);
        }
    }
    let output = command
        .args(["local", "--json"])
        .arg(&summary)
        .args(arguments)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .output()
        .expect("cargo runs");
    let text = std::fs::read_to_string(&summary).unwrap_or_else(|error| {
        panic!("no summary ({error}); it printed:\n{}{}", lossy(&output.stdout), lossy(&output.stderr))
    });
    (output, serde_json::from_str(&text).expect("JSON"))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn held(summary: &Value, promise: &str) -> bool {
    let promises = summary["promises"].as_array().expect("a list of promises");
    let found = promises.iter().find(|entry| entry["name"] == promise).expect("each promise is in the summary");
    found["held"] == true
}

fn assert_every_promise_held(output: &Output, summary: &Value) {
    let printed = lossy(&output.stdout);
    for promise in ["P1", "P2", "P3", "P4", "P5"] {
        assert!(held(summary, promise), "{promise} is broken:\n{printed}");
    }
    assert_eq!(output.status.code(), Some(0), "{printed}{}", lossy(&output.stderr));
}

#[test]
fn the_scenario_ends_with_every_promise_held() {
    let (output, summary) = local(&[]);
    assert_every_promise_held(&output, &summary);
    let jobs = summary["jobs"]["completed"].as_u64().expect("a count");
    assert!(jobs >= 24, "only {jobs} jobs completed:\n{}", lossy(&output.stdout));
}

#[test]
fn a_function_killed_in_the_middle_loses_no_job_and_leaks_nothing() {
    let (output, summary) = local(&["--kill-function", "scale-up"]);
    assert!(summary["functions_killed"].as_u64().is_some_and(|killed| killed > 0), "{}", lossy(&output.stdout));
    assert_every_promise_held(&output, &summary);
}

#[test]
fn without_the_recheck_a_running_job_is_ended_and_the_command_says_so() {
    let (output, summary) = local(&["--mutant", "no-recheck"]);
    assert!(!held(&summary, "P1"), "the mutant was not caught:\n{}", lossy(&output.stdout));
    assert_eq!(output.status.code(), Some(1), "{}", lossy(&output.stdout));
}
