//! README command one, as a new user runs it; then with a function killed, with deliveries lost, and without the
//! re-check, where it must end differently.
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

/// Whether what a scene announced happened, and what did.
fn scene<'a>(summary: &'a Value, name: &str) -> (bool, &'a str) {
    let scenes = summary["scenes"].as_array().expect("a list of scenes");
    let found = scenes.iter().find(|entry| entry["name"] == name);
    let found = found.unwrap_or_else(|| panic!("the scene {name} is not in the summary: {scenes:#?}"));
    (found["held"] == true, found["detail"].as_str().expect("a text"))
}

fn assert_every_promise_held(output: &Output, summary: &Value) {
    let printed = lossy(&output.stdout);
    for promise in ["P1", "P2", "P3", "P4", "P5"] {
        assert!(held(summary, promise), "{promise} is broken:\n{printed}");
    }
}

fn assert_all_went_well(output: &Output, summary: &Value) {
    assert_every_promise_held(output, summary);
    assert_eq!(output.status.code(), Some(0), "{}{}", lossy(&output.stdout), lossy(&output.stderr));
}

/// What must be seen to happen, by the name of its scene.
const SCENES: [(&str, &str); 15] = [
    ("an idle runner is drained and gone", "drained"),
    ("a runner that will not answer is deregistered, re-checked and terminated", "silent"),
    ("a runner whose every process died goes offline, and is removed the same way", "offline"),
    ("a job that GitHub knows of when the DELETE comes keeps its runner", "raced-known"),
    ("a job that GitHub does not know of when it obeys the DELETE runs to its end", "raced-unknown"),
    ("a job of which nothing is heard before the end of the quarantine runs to its end", "raced-late"),
    ("an orphan is reaped", "orphan"),
    ("a live orphan is kept", "live-orphan"),
    ("a stopped instance is reaped", "stopped"),
    ("what an instance left that EC2 took back is taken away", "taken-back"),
    ("a protected instance is kept, and EC2 not asked again and again", "protected"),
    ("an instance that never registers is ended, and its job served", "unregistered"),
    ("a job of which no delivery tells is found and served", "untold"),
    ("a delivery that failed is asked for once more, and its job served", "undelivered"),
    ("somebody else's instance is left alone", "look-alike"),
];

#[test]
fn the_scenario_ends_with_every_promise_held_and_every_scene_as_announced() {
    let (output, summary) = local(&[]);
    for (case, name) in SCENES {
        let (held, detail) = scene(&summary, name);
        assert!(held, "{case}: {detail}\n{}", lossy(&output.stdout));
    }
    assert_all_went_well(&output, &summary);
    let jobs = summary["jobs"]["completed"].as_u64().expect("a count");
    assert!(jobs >= 24, "only {jobs} jobs completed:\n{}", lossy(&output.stdout));
}

#[test]
fn a_hundred_jobs_at_once_over_two_fleets_of_ten_all_complete_within_the_cap_and_the_budgets() {
    let (output, summary) = local(&["--burst", "100", "--timeout-seconds", "300"]);
    let printed = lossy(&output.stdout);
    eprintln!("{printed}");
    for name in ["burst", "burst-arm"] {
        let (held, detail) = scene(&summary, name);
        assert!(held && detail.starts_with("50 job(s) completed, at most "), "{name}: {detail}\n{printed}");
        let most = detail.split_ascii_whitespace().nth(5).and_then(|word| word.parse::<u32>().ok());
        assert!(most.is_some_and(|most| (1..=10).contains(&most)), "{name}: {detail}\n{printed}");
    }
    assert_eq!(summary["jobs"]["completed"].as_u64(), Some(100), "{printed}");
    let budgets = summary["budgets"].as_array().expect("a list of budgets");
    assert!(budgets.len() == 4 && budgets.iter().all(|budget| budget["met"] == true), "{budgets:#?}\n{printed}");
    assert_all_went_well(&output, &summary);
}

#[test]
fn a_function_killed_in_the_middle_loses_no_job_and_leaks_nothing() {
    let (output, summary) = local(&["--kill-function", "scale-up"]);
    assert!(summary["functions_killed"].as_u64().is_some_and(|killed| killed > 0), "{}", lossy(&output.stdout));
    // An instance that waits for its configuration until its job is cancelled is drained before its scene can begin.
    assert_every_promise_held(&output, &summary);
}

#[test]
fn a_third_of_all_deliveries_lost_loses_no_job_and_leaks_nothing() {
    let (output, summary) = local(&["--lose-webhooks", "0.3"]);
    // A scene that is about a delivery need not come to what it announced.
    assert_every_promise_held(&output, &summary);
}

#[test]
fn a_demand_reconciler_killed_while_it_sends_a_job_loses_no_job() {
    let (output, summary) = local(&["--kill-function", "demand-reconciler"]);
    assert!(summary["functions_killed"].as_u64().is_some_and(|killed| killed > 0), "{}", lossy(&output.stdout));
    assert_all_went_well(&output, &summary);
}

#[test]
fn without_the_recheck_a_running_job_is_ended_and_the_command_says_so() {
    let (output, summary) = local(&["--mutant", "no-recheck"]);
    assert!(!held(&summary, "P1"), "the mutant was not caught:\n{}", lossy(&output.stdout));
    for name in ["raced-unknown", "raced-late"] {
        assert!(!scene(&summary, name).0, "{name}: its job cannot have survived:\n{}", lossy(&output.stdout));
    }
    assert_eq!(output.status.code(), Some(1), "{}", lossy(&output.stdout));
}
