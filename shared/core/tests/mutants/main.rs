//! Every mutant, what sees that its rule is broken, and the proof: one table, printed by one command.
//!
//! ```sh
//! cargo test -p runner-scaler-core --features mutants --test mutants
//! ```
//!
//! Each check is a test of this crate like any other, played in a process of its own with the mutant named in its
//! environment. It counts as caught only when that very test fails, says what the table says that it says, and passes
//! when no rule is broken. What only the simulation can see is in the table too, and why.

mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;

use runner_scaler_core::config::Mutant;
use serde_json::Value;

use table::{Binary, Check, ROWS, Row, Seen};

/// Checks at the same time: they wait for nothing but the processor.
const AT_ONCE: usize = 2;

/// What a check came to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Played {
    Passed,
    Failed(String),
    /// It was not played: there is no test of that name, or its process died.
    Not(String),
}

type Play = (&'static Check, Mutant);

fn main() -> ExitCode {
    let mistakes = mistakes_of_the_table();
    let binaries = build();
    let plays = ROWS.iter().flat_map(|row| row.checks().map(|check| (check, named(row.mutant))));
    // What fails anyway catches nothing.
    let baseline: BTreeMap<_, &Check> = ROWS.iter().flat_map(Row::checks).map(|check| (check.id(), check)).collect();
    let plays: Vec<Play> = baseline.into_values().map(|check| (check, Mutant::None)).chain(plays).collect();
    let played = play_all(&binaries, plays);
    let (text, uncaught) = report(&played);
    writeln!(std::io::stdout(), "{text}").expect("a standard output");
    for mistake in mistakes.iter().chain(&uncaught) {
        writeln!(std::io::stderr(), "{mistake}").expect("a standard error");
    }
    if mistakes.is_empty() && uncaught.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn named(name: &str) -> Mutant {
    Mutant::named(name).unwrap_or_default()
}

/// Every mutant has one row, and every row a mutant, but for the one that waits.
fn mistakes_of_the_table() -> Vec<String> {
    let mut mistakes = Vec::new();
    for name in Mutant::NAMES {
        if ROWS.iter().filter(|row| row.mutant == *name).count() != 1 {
            mistakes.push(format!("{name}: one row is wanted"));
        }
    }
    for row in ROWS.iter().filter(|row| row.seen != Seen::Pending && named(row.mutant) == Mutant::None) {
        mistakes.push(format!("{}: no such mutant", row.mutant));
    }
    mistakes
}

/// Builds the tests that are played, as this one was built, and says where they are.
fn build() -> BTreeMap<Binary, PathBuf> {
    let output = Command::new(env!("CARGO"))
        .args(["test", "--no-run", "--message-format=json", "--package", env!("CARGO_PKG_NAME")])
        .args(["--features", "mutants", "--lib", "--test", Binary::Lattice.target()])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs, for it runs this");
    assert!(output.status.success(), "cargo test --no-run: {}", output.status);
    let artifacts = output.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    let executables = artifacts.filter_map(|artifact: Value| {
        let path = artifact["executable"].as_str()?;
        let binary = Binary::ALL.into_iter().find(|binary| artifact["target"]["name"] == binary.target())?;
        artifact["profile"]["test"].as_bool().filter(|test| *test).map(|_| (binary, PathBuf::from(path)))
    });
    let binaries: BTreeMap<Binary, PathBuf> = executables.collect();
    assert_eq!(binaries.len(), Binary::ALL.len(), "built: {binaries:?}");
    binaries
}

fn play_all(binaries: &BTreeMap<Binary, PathBuf>, plays: Vec<Play>) -> Vec<(Play, Played)> {
    let left = Mutex::new(plays);
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = left.lock().expect("no play panics").pop();
                    let Some((check, mutant)) = next else { return };
                    let played = play(&binaries[&check.binary], check, mutant);
                    done.lock().expect("no play panics").push(((check, mutant), played));
                }
            });
        }
    });
    done.into_inner().expect("no play panics")
}

fn play(binary: &PathBuf, check: &Check, mutant: Mutant) -> Played {
    let output = Command::new(binary)
        .args([check.test, "--exact"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("RUNNER_SCALER_MUTANT", mutant.name())
        .env("RUST_BACKTRACE", "0")
        // A snapshot that does not hold is a catch, not a proposal for a new one.
        .env("INSTA_UPDATE", "no")
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => return Played::Not(error.to_string()),
    };
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() && text.contains("test result: ok. 1 passed; 0 failed") {
        Played::Passed
    } else if text.contains("test result: FAILED. 0 passed; 1 failed") {
        Played::Failed(text)
    } else {
        Played::Not(text)
    }
}

/// The table, and what in it does not hold.
fn report(played: &[(Play, Played)]) -> (String, Vec<String>) {
    let mut uncaught = Vec::new();
    let mut lines = vec![line(["mutant", "what it does", "by the list", "caught at", "by"])];
    for row in ROWS {
        let rule = if row.seen == Seen::Pending { "(waits)" } else { named(row.mutant).rule() };
        let (at, by) = match &row.seen {
            Seen::Here(checks) => {
                let layers: BTreeSet<&str> = checks.iter().map(|check| check.layer).collect();
                (layers.into_iter().collect::<Vec<_>>().join(", "), String::new())
            }
            Seen::BySimulation(why) => ("T3".to_owned(), (*why).to_owned()),
            Seen::Pending => ("pending".to_owned(), "the scale set listener does not exist yet".to_owned()),
        };
        lines.push(line([row.mutant, rule, row.list, &at, &by]));
        for check in row.checks() {
            let of = |mutant| played.iter().find(|((own, by), _)| own.id() == check.id() && *by == mutant);
            let (sound, broken) = (of(Mutant::None).map(|(_, p)| p), of(named(row.mutant)).map(|(_, p)| p));
            let verdict = match (sound, broken) {
                (Some(Played::Passed), Some(Played::Failed(text))) if text.contains(check.says) => "caught",
                (Some(Played::Passed), Some(Played::Failed(_))) => "FAILED FOR ANOTHER REASON",
                (Some(Played::Passed), Some(Played::Passed)) => "NOT CAUGHT",
                (_, _) => "NOT PLAYED, OR IT FAILS ANYWAY",
            };
            if verdict != "caught" {
                uncaught.push(format!("{}, {}: {verdict}\n{sound:?}\n{broken:?}", row.mutant, check.test));
            }
            lines.push(format!("{:8}{} {}: {verdict}: {:?}", "", check.layer, check.test, check.says));
        }
    }
    (lines.join("\n"), uncaught)
}

fn line([mutant, rule, list, at, by]: [&str; 5]) -> String {
    format!("{mutant:<19}{rule:<93}{list:<19}{at:<11}{by}").trim_end().to_owned()
}
