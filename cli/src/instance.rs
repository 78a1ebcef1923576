//! What `runner-scaler local` starts for a simulated EC2 instance: the real supervisor around a stand-in listener.
//!
//! `instance` is systemd for one instance: it starts the supervisor, again where it died, and ends with the one who
//! started it. The supervisor starts `listener` as its run.sh, and `power-off` as its power switch. What a listener does
//! is the world crate's business.

mod folder;

use std::io::Read as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use clap::Args;
use runner_scaler_world::http::process::{ListenerProcess, run_listener};
use runner_scaler_world::instance::{JitConfig, SupervisorSettings};
use runner_scaler_world::world::Flaw;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::Outcome;
use crate::failure::{Failure, chain};
use crate::instance::folder::InstanceFolder;
use crate::local::loopback_client;
use crate::system;

/// As the unit says: `RestartSec=1`.
const RESTART: Duration = Duration::from_secs(1);

/// How often the power switch is tried, and the pause between: the world server may be slow, not absent.
const POWER_OFF_TRIES: u32 = 20;
const POWER_OFF_PAUSE: Duration = Duration::from_millis(500);

/// What the supervisor says when its listener can do without it.
const SETTLED: &str = "the configuration is deleted";

/// Arguments of an instance.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Its id.
    #[arg(long)]
    instance_id: String,
    /// The world: instance metadata, the broker that hands out jobs, the power switch.
    #[arg(long)]
    world_url: String,
    /// AWS: its JIT configuration and its vital sign.
    #[arg(long)]
    emulator_url: String,
    /// Where JIT configurations lie.
    #[arg(long)]
    parameter_path: String,
    /// The table of vital signs.
    #[arg(long)]
    vital_signs_table: String,
    /// The supervisor's binary.
    #[arg(long)]
    supervisor: PathBuf,
    /// The instance's disk.
    #[arg(long)]
    folder: PathBuf,
    /// What is wrong with it.
    #[arg(long, value_parser = flaw, default_value = "none")]
    flaw: Flaw,
}

/// Arguments of a listener; its JIT configuration comes as the real one's does.
#[derive(Debug, Args)]
pub(crate) struct ListenerOptions {
    #[arg(long)]
    instance_id: String,
    #[arg(long)]
    world_url: String,
    #[arg(long)]
    runner_folder: PathBuf,
    #[arg(long, value_parser = flaw)]
    flaw: Flaw,
}

/// Arguments of the power switch.
#[derive(Debug, Args)]
pub(crate) struct PowerOffOptions {
    #[arg(long)]
    instance_id: String,
    #[arg(long)]
    world_url: String,
}

/// Lives until it is killed, as an instance does, or until whoever started it has gone.
pub(crate) async fn run(options: Options) -> Result<Outcome, Failure> {
    end_with_parent();
    match options.flaw {
        Flaw::NeverRegisters => std::future::pending().await,
        Flaw::None | Flaw::Ghost => loop {
            supervise(&options, Patience::Endless).await?;
            tokio::time::sleep(RESTART).await;
        },
        Flaw::SupervisorDead => {
            supervise(&options, Patience::UntilSettled).await?;
            std::future::pending().await
        }
    }
}

/// How long a supervisor may live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// Until it dies.
    Endless,
    /// Until its listener can do without it; then it is killed.
    UntilSettled,
}

async fn supervise(options: &Options, patience: Patience) -> Result<(), Failure> {
    let folder = InstanceFolder::make(options)?;
    let failed = || Failure::io(format!("cannot supervise {}", options.instance_id));
    let mut command = Command::new(&options.supervisor);
    command.arg("run").env_clear().envs(folder.settings(options)).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut supervisor = command.spawn().map_err(failed())?;
    let journal = supervisor.stdout.take().ok_or_else(|| Failure::Shape { what: "the supervisor's output".to_owned() });
    let mut lines = BufReader::new(journal?).lines();
    while let Some(line) = lines.next_line().await.map_err(failed())? {
        eprintln!("{line}");
        if patience == Patience::UntilSettled && line == SETTLED {
            supervisor.kill().await.map_err(failed())?;
        }
    }
    supervisor.wait().await.map_err(failed())?;
    Ok(())
}

/// The listener's life.
pub(crate) async fn listen(options: ListenerOptions) -> Result<Outcome, Failure> {
    let jit_config = system::variable("ACTIONS_RUNNER_INPUT_JITCONFIG")
        .and_then(|text| text.into_string().ok())
        .ok_or_else(|| Failure::Shape { what: "ACTIONS_RUNNER_INPUT_JITCONFIG".to_owned() })?;
    let process = ListenerProcess {
        instance_id: options.instance_id,
        world_url: options.world_url,
        jit_config: JitConfig::new(jit_config),
        runner_folder: options.runner_folder,
        settings: SupervisorSettings::local(),
        flaw: options.flaw,
    };
    run_listener(process)
        .await
        .map(|()| Outcome::Good)
        .map_err(|error| Failure::Program { program: "runner-scaler listener".to_owned(), output: chain(&error) })
}

/// Ends the instance in the world.
pub(crate) async fn power_off(options: PowerOffOptions) -> Result<Outcome, Failure> {
    let url = format!("{}/control/instances/{}/power-off", options.world_url, options.instance_id);
    let http = loopback_client()?;
    for _ in 0..POWER_OFF_TRIES {
        if http.post(&url).send().await.is_ok_and(|response| response.status().is_success()) {
            return Ok(Outcome::Good);
        }
        tokio::time::sleep(POWER_OFF_PAUSE).await;
    }
    Err(Failure::Shape { what: "the power switch's answer".to_owned() })
}

/// Standard input is a pipe that only the parent holds: its end is the parent's, however that came. Supervisor, listener
/// and worker are of our group and end with us.
fn end_with_parent() {
    std::thread::spawn(|| {
        let _end = std::io::stdin().read_to_end(&mut Vec::new());
        let group = format!("-{}", std::process::id());
        let _ended = std::process::Command::new("kill").args(["-KILL", "--", &group]).status();
        std::process::exit(0);
    });
}

fn flaw(name: &str) -> Result<Flaw, String> {
    serde_json::from_value(name.into()).map_err(|_| format!("no flaw {name:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::hosts::flaw_name;

    #[test]
    fn a_flaw_arrives_as_it_was_sent() {
        for sent in [Flaw::None, Flaw::SupervisorDead, Flaw::NeverRegisters, Flaw::Ghost] {
            assert_eq!(flaw(flaw_name(sent)), Ok(sent));
        }
        assert!(flaw("tired").is_err());
    }
}
