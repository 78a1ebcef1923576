//! Carries out what the world asks of its host: instances as processes, and the adversary's kills.

use std::collections::BTreeMap;
use std::path::PathBuf;

use runner_scaler_world::world::{Flaw, HostEffect};
use tokio::process::Command;

use crate::console::Console;
use crate::failure::{Failure, chain};
use crate::local::document::{RUNNER_PARAMETER_PATH, VITAL_SIGNS_TABLE};
use crate::local::processes::{ProcessGroup, kill_function};

/// The processes of the simulated instances.
#[derive(Debug)]
pub(crate) struct Hosts {
    /// The world's address.
    pub(crate) world_url: String,
    /// The emulator's address: what an instance does is not counted as a function's.
    pub(crate) emulator_url: String,
    /// The counting proxy's address, by which a function's process is known.
    pub(crate) functions_endpoint: String,
    /// The supervisor's binary.
    pub(crate) supervisor: PathBuf,
    /// The run's folder.
    pub(crate) folder: PathBuf,
    /// Where kills are announced.
    pub(crate) console: Console,
    /// The processes by instance id.
    pub(crate) running: BTreeMap<String, ProcessGroup>,
    /// Processes of functions that the adversary killed.
    pub(crate) killed: usize,
}

impl Hosts {
    /// Carries out one effect. Effects may be repeated: what is already so is left so.
    pub(crate) fn carry_out(&mut self, effect: HostEffect) {
        match effect {
            HostEffect::BootInstance { instance_id, flaw } => {
                if self.running.contains_key(&instance_id) {
                    return;
                }
                match self.boot(&instance_id, flaw) {
                    Ok(process) => {
                        self.running.insert(instance_id, process);
                    }
                    Err(failure) => self.console.event("host", chain(&failure)),
                }
            }
            HostEffect::KillInstance { instance_id } => {
                // Dropping the process kills it.
                self.running.remove(&instance_id);
            }
            HostEffect::KillCaller { caller } => {
                let killed = kill_function(&caller, &self.functions_endpoint);
                self.killed += killed;
                self.console.event("adversary", format!("SIGKILL to {caller}: {killed} process(es)"));
            }
        }
    }

    fn boot(&self, instance_id: &str, flaw: Flaw) -> Result<ProcessGroup, Failure> {
        // The running program itself, even if a build has replaced its file meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("runner-scaler")
            .arg("instance")
            .args(["--instance-id", instance_id])
            .args(["--world-url", &self.world_url])
            .args(["--emulator-url", &self.emulator_url])
            .args(["--parameter-path", RUNNER_PARAMETER_PATH])
            .args(["--vital-signs-table", VITAL_SIGNS_TABLE])
            .arg("--supervisor")
            .arg(&self.supervisor)
            .arg("--folder")
            .arg(self.folder.join(instance_id))
            .args(["--flaw", flaw_name(flaw)]);
        ProcessGroup::spawn(&mut command, &self.folder.join(format!("{instance_id}.log")))
    }
}

/// A flaw as the instance's process is told of it.
pub(crate) fn flaw_name(flaw: Flaw) -> &'static str {
    match flaw {
        Flaw::None => "none",
        Flaw::SupervisorDead => "supervisor-dead",
        Flaw::NeverRegisters => "never-registers",
        Flaw::Ghost => "ghost",
    }
}
