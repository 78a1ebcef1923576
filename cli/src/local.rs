//! `runner-scaler local`: the whole system on one machine.
//!
//! Real function binaries under an emulator of AWS, a GitHub and an EC2 made for this purpose, instances as processes,
//! all over real HTTP on loopback. Nothing of the main path is replaced by a call inside this process.

pub(crate) mod document;
pub(crate) mod emulator;
mod failures;
pub(crate) mod hosts;
mod keep;
pub(crate) mod kills;
mod left;
pub(crate) mod options;
pub(crate) mod processes;
mod proxy;
pub(crate) mod python;
mod report;
pub(crate) mod scenario;
pub(crate) mod secrets;
pub(crate) mod stack;
pub(crate) mod stage;
mod ticker;

use std::cell::Cell;
use std::path::PathBuf;

use runner_scaler_world::http::server::wall_now;

use crate::Outcome;
use crate::console::Console;
use crate::failure::Failure;
use crate::functions::Function;
use crate::local::options::Options;
use crate::local::stage::Stage;
use crate::workspace::{Profile, Rules, Workspace};

/// Builds, starts, plays, judges; everything that was started has ended when it returns.
pub(crate) async fn run(options: &Options, console: &Console) -> Result<Outcome, Failure> {
    require_linux()?;
    let workspace = Workspace::locate()?;
    let profile = if options.release { Profile::Release } else { Profile::Debug };
    if !options.no_build {
        console.event("setup", "building the functions (cargo build --workspace --bins)");
        let rules = options.mutant.map_or(Rules::Whole, |_| Rules::Breakable);
        Workspace::build(profile, rules)?;
    }
    for function in Function::ALL {
        workspace.binary(function, profile)?;
    }
    workspace.supervisor(profile)?;
    // What the scenario came to, once that is known: with --keep, Ctrl-C is the usual end of a judged run.
    let judged = Cell::new(Outcome::Stopped);
    let play = async {
        let mut stage = Stage::set(options, console, &workspace, profile).await?;
        if !options.no_scenario {
            judged.set(stage.play().await?);
        }
        if options.keep || options.no_scenario {
            stage.keep().await?;
        }
        Ok(judged.get())
    };
    // Ending the play drops it, and with it every process it started.
    tokio::select! {
        outcome = play => outcome,
        signal = stop_signal() => signal.map(|()| {
            console.event("stop", "ending everything");
            judged.get()
        }),
    }
}

/// A new folder for one run.
pub(crate) fn run_folder(workspace: &Workspace) -> Result<PathBuf, Failure> {
    let folder = workspace.local().join(format!("run-{}-{}", wall_now() / 1_000, std::process::id()));
    std::fs::create_dir_all(&folder).map_err(Failure::io(format!("cannot create {}", folder.display())))?;
    Ok(folder)
}

/// A client for loopback only: a proxy of the environment must not come between.
pub(crate) fn loopback_client() -> Result<reqwest::Client, Failure> {
    reqwest::Client::builder().no_proxy().build().map_err(Failure::http("cannot make an HTTP client"))
}

/// Function processes are found in /proc, and `provided.al2023` binaries are Linux's.
pub(crate) fn require_linux() -> Result<(), Failure> {
    if cfg!(target_os = "linux") {
        return Ok(());
    }
    Err(Failure::Missing {
        what: "Linux",
        remedy: "the local stack runs Lambda's Linux binaries as processes; use Linux, a virtual machine or WSL 2"
            .to_owned(),
    })
}

/// Waits for Ctrl-C or SIGTERM.
async fn stop_signal() -> Result<(), Failure> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .map_err(Failure::io("cannot listen for SIGTERM"))?;
    tokio::select! {
        interrupt = tokio::signal::ctrl_c() => interrupt.map_err(Failure::io("cannot listen for Ctrl-C")),
        _received = terminate.recv() => Ok(()),
    }
}
