//! `runner-scaler`: the operator's command.
//!
//! It decides nothing about runners. `local` builds the functions, starts AWS and GitHub as doubles on this machine
//! and plays a scenario; `measure` times the functions' release binaries; `app create` makes the GitHub App; `instance`,
//! `listener` and `power-off` are the parts of a simulated EC2 instance around its real supervisor.

mod app;
mod aws;
mod console;
mod failure;
mod functions;
mod https;
mod instance;
mod local;
mod measure;
mod system;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::console::Console;
use crate::failure::{Failure, chain};

/// GitHub Actions runners on EC2: the operator's command.
#[derive(Debug, Parser)]
#[command(name = "runner-scaler", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the whole system on this machine and judge its promises.
    ///
    /// Builds the functions, starts an AWS emulator (ministack, in its own virtual environment below the target
    /// directory) and a GitHub and an EC2 made for this purpose, all on loopback, and plays a scenario over real HTTP
    /// with the real binaries. Exit status: 0 when every promise held, 1 when one broke, 2 when it could not run, 130 when
    /// it was stopped (Ctrl-C, SIGTERM) before it was judged.
    Local(Box<local::options::Options>),
    /// Time the functions' release binaries: start, memory, size.
    Measure(measure::Options),
    /// The GitHub App that the functions speak as.
    #[command(subcommand)]
    App(app::Command),
    /// One simulated EC2 instance; started by `local`.
    #[command(hide = true)]
    Instance(instance::Options),
    /// Its listener; started by its supervisor.
    #[command(hide = true)]
    Listener(instance::ListenerOptions),
    /// Its power switch; started by its supervisor.
    #[command(hide = true)]
    PowerOff(instance::PowerOffOptions),
}

/// What a command found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Everything held.
    Good,
    /// A promise broke or a goal was missed.
    Bad,
    /// It was stopped before it could find out.
    Stopped,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(Outcome::Good) => ExitCode::SUCCESS,
        Ok(Outcome::Bad) => ExitCode::from(1),
        // As a shell reports a program that ended by Ctrl-C.
        Ok(Outcome::Stopped) => ExitCode::from(130),
        Err(failure) => {
            eprintln!("runner-scaler: {}", chain(&failure));
            ExitCode::from(2)
        }
    }
}

fn run(cli: Cli) -> Result<Outcome, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Failure::io("cannot start the runtime"))?;
    runtime.block_on(async {
        match cli.command {
            Command::Local(options) => local::run(&options, &Console::start()).await,
            Command::Measure(options) => measure::run(&options, &Console::start()).await,
            Command::App(command) => app::run(command, &Console::start()).await,
            Command::Instance(options) => instance::run(options).await,
            Command::Listener(options) => instance::listen(options).await,
            Command::PowerOff(options) => instance::power_off(options).await,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_arguments_are_well_formed() {
        Cli::command().debug_assert();
    }
}
