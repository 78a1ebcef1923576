//! `budgets`: times one scale-down pass over 1,000 and 5,000 runners, or one batch of scale-up over 1 to 100 jobs, with 0
//! and 50 ms for each call of GitHub.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use budgets::process::Failure;
use budgets::{bench, pass};
use clap::{Parser, Subcommand};
use comfy_table::Table;

/// Times one scale-down pass of the real adapters against a GitHub and an AWS in memory, on loopback, half of the
/// runners busy, and prints wall time, calls and the peak memory of the pass's process.
///
/// Only a release build says something about wall time and memory: `cargo build --release -p budgets -p scale-down`, then
/// this binary. (Built alone, it would have the AWS SDK compiled anew, with other features of its dependencies.)
#[derive(Debug, Parser)]
#[command(name = "budgets")]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(flatten)]
    selection: bench::Selection,
    #[command(subcommand)]
    command: Option<Task>,
}

/// What this binary does as the process of its own that the benchmark and the tests start.
#[derive(Clone, Debug, Subcommand)]
enum Task {
    /// Times one batch of scale-up over 1, 10 and 100 queued jobs: wall time, calls, peak memory.
    ScaleUp(bench::LaunchSelection),
    /// Runs one pass against the addresses in the environment.
    #[command(hide = true)]
    Pass {
        /// Whose pass.
        function: pass::Function,
    },
    /// Stores the instance records on the standard input, one in JSON a line.
    #[command(hide = true)]
    Store,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = runtime().and_then(|runtime| runtime.block_on(carry_out(&arguments)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody may be listening any more.
            let _unheard = writeln!(std::io::stderr(), "budgets: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// One thread, as in the functions.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Failure::Io { what: "cannot start the runtime".to_owned(), source })
}

async fn carry_out(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Some(Task::ScaleUp(selection)) => benchmark_scale_up(selection).await,
        Some(Task::Pass { function }) => pass::run(*function).await,
        Some(Task::Store) => pass::store().await,
        None => benchmark(&arguments.selection).await,
    }
}

async fn benchmark(selection: &bench::Selection) -> Result<(), Failure> {
    show(&bench::run(&this_binary()?, selection, hear).await?)
}

async fn benchmark_scale_up(selection: &bench::LaunchSelection) -> Result<(), Failure> {
    show(&bench::run_scale_up(&this_binary()?, selection, hear).await?)
}

fn this_binary() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|source| Failure::Io { what: "cannot find this binary".to_owned(), source })
}

fn hear(what: &str) {
    let _unheard = writeln!(std::io::stderr(), "{what}");
}

fn show(table: &Table) -> Result<(), Failure> {
    let written = writeln!(std::io::stdout(), "{table}");
    written.map_err(|source| Failure::Io { what: "cannot write the table".to_owned(), source })
}
