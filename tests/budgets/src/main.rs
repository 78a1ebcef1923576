//! `budgets`: times one scale-down pass over 1,000 and 5,000 runners, and one batch of 1, 10 and 100 jobs of scale-up, with
//! 0 and 50 ms for each call of GitHub.

use std::io::Write as _;
use std::process::ExitCode;

use budgets::process::Failure;
use budgets::{bench, pass, scenarios};
use clap::{Parser, Subcommand};

/// Times one scale-down pass of the real adapters against a GitHub and an AWS in memory, on loopback, half of the
/// runners busy, and one batch of scale-up, and prints wall time, calls and the peak memory of their process.
///
/// Only a release build says something about wall time and memory: `cargo build --release --workspace --bins`, then this
/// binary. (Built alone, it would have the AWS SDK compiled anew, with other features of its dependencies.)
#[derive(Debug, Parser)]
#[command(name = "budgets")]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(flatten)]
    selection: bench::Selection,
    #[command(subcommand)]
    command: Option<Task>,
}

/// What else this binary does, also as the process of its own that the benchmark and the tests start.
#[derive(Clone, Copy, Debug, Subcommand)]
enum Task {
    /// Runs one pass against the addresses in the environment.
    #[command(hide = true)]
    Pass {
        /// Whose pass.
        function: pass::Function,
        /// How fast it may call GitHub.
        pace: pass::Pace,
        /// How many in this process.
        #[arg(long, default_value_t = 1)]
        passes: usize,
    },
    /// Counts the calls of every scenario for 10, 1,000 and 5,000 runners, with GitHub's limit of a minute enforced on
    /// two passes at once, and holds them against the budgets: what `cargo test` plays, and what takes it too long.
    Count,
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
    match arguments.command {
        Some(Task::Pass { function, pace, passes }) => Box::pin(pass::run(function, pace, passes)).await,
        Some(Task::Count) => count().await,
        Some(Task::Store) => pass::store().await,
        None => benchmark(&arguments.selection).await,
    }
}

async fn count() -> Result<(), Failure> {
    let io = |what: &'static str| move |source| Failure::Io { what: what.to_owned(), source };
    let binary = std::env::current_exe().map_err(io("cannot find this binary"))?;
    let outcome = scenarios::play(&binary, scenarios::Extent::Full, |what| {
        let _unheard = writeln!(std::io::stderr(), "{what}");
    })
    .await?;
    writeln!(std::io::stdout(), "{}", outcome.table).map_err(io("cannot write the table"))?;
    if outcome.broken.is_empty() { Ok(()) } else { Err(Failure::OverBudget(outcome.broken)) }
}

async fn benchmark(selection: &bench::Selection) -> Result<(), Failure> {
    let io = |what: &'static str| move |source| Failure::Io { what: what.to_owned(), source };
    let binary = std::env::current_exe().map_err(io("cannot find this binary"))?;
    let tables = bench::run(&binary, selection, |what| {
        let _unheard = writeln!(std::io::stderr(), "{what}");
    })
    .await?;
    for table in tables {
        writeln!(std::io::stdout(), "{table}\n").map_err(io("cannot write a table"))?;
    }
    Ok(())
}
