//! The disk of a simulated instance: what the boot script of a real one installs.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use runner_scaler_world::instance::SupervisorSettings;
use runner_scaler_world::world::Flaw;

use crate::failure::Failure;
use crate::instance::Options;
use crate::local::hosts::flaw_name;

/// An instance's disk.
#[derive(Debug)]
pub(crate) struct InstanceFolder {
    path: PathBuf,
    /// This program, even if a build has replaced its file meanwhile; for as long as this process lives.
    program: PathBuf,
}

impl InstanceFolder {
    /// Installs the stand-in runner; what is there already stays.
    pub(crate) fn make(options: &Options) -> Result<Self, Failure> {
        let program = Path::new("/proc").join(std::process::id().to_string()).join("exe");
        let folder = Self { path: options.folder.clone(), program };
        folder.install(options).map_err(Failure::io(format!("cannot install {}", folder.path.display())))?;
        Ok(folder)
    }

    fn install(&self, options: &Options) -> std::io::Result<()> {
        let run_sh = self.runner().join("run.sh");
        std::fs::create_dir_all(self.runner().join("bin"))?;
        let script = format!(
            "#!/bin/sh\nexec {} listener --instance-id {} --world-url {} --runner-folder {} --flaw {}\n",
            quoted(&self.program.display().to_string()),
            quoted(&options.instance_id),
            quoted(&options.world_url),
            quoted(&self.runner().display().to_string()),
            flaw_name(options.flaw),
        );
        std::fs::write(&run_sh, script)?;
        std::fs::set_permissions(&run_sh, Permissions::from_mode(0o755))?;
        // A process is called like the file that was executed: this is what the supervisor knows a worker by.
        match symlink("/bin/sleep", self.runner().join("bin/Runner.Worker")) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The supervisor's settings (instance/README.md). Processes are stopped by SIGSTOP, because cgroups of the machine
    /// would outlive the run.
    pub(crate) fn settings(&self, options: &Options) -> Vec<(&'static str, String)> {
        let path = |name: &str| self.path.join(name).display().to_string();
        let seconds = |ms: i64| format!("{}.{:03}", ms / 1_000, ms % 1_000);
        let times = SupervisorSettings::local();
        let own = std::fs::metadata("/proc/self").map(|own| format!("{}:{}", own.uid(), own.gid()));
        vec![
            ("RUNNER_PARAMETER_PATH", options.parameter_path.clone()),
            ("VITAL_SIGNS_TABLE", signs_table(options)),
            ("RUNNER_FOLDER", self.runner().display().to_string()),
            ("RUN_FOLDER", path("run")),
            ("STATE_FOLDER", path("state")),
            ("RUNNER_USER", own.unwrap_or_default()),
            ("BLOCK_METADATA", "false".to_owned()),
            ("FREEZER", "stop".to_owned()),
            ("BOOTED_AT_SECONDS", self.booted_at()),
            ("BOOT_DEADLINE_SECONDS", seconds(times.boot_deadline_ms)),
            ("IDLE_MAXIMUM_SECONDS", seconds(times.idle_maximum_ms)),
            ("ACQUIRE_WATCHDOG_SECONDS", seconds(times.acquire_watchdog_ms)),
            ("DRAIN_LOOK_SECONDS", seconds(times.drain_look_every_ms)),
            ("BEAT_SECONDS", seconds(times.beat_every_ms)),
            ("AWS_ENDPOINT_URL", options.emulator_url.clone()),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", format!("{}/imds/{}", options.world_url, options.instance_id)),
            (
                "POWER_OFF_COMMAND",
                format!(
                    "{} power-off --instance-id {} --world-url {}",
                    self.program.display(),
                    options.instance_id,
                    options.world_url
                ),
            ),
        ]
    }

    /// The instance boots when its disk is first asked for that; the machine it shares did so long before.
    fn booted_at(&self) -> String {
        let noted = self.path.join("booted-at");
        if let Ok(text) = std::fs::read_to_string(&noted) {
            return text;
        }
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
        let now = uptime.split(' ').next().unwrap_or("0").to_owned();
        // Unwritten, a supervisor that is started again counts from then.
        let _kept = std::fs::write(noted, &now);
        now
    }

    fn runner(&self) -> PathBuf {
        self.path.join("runner")
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A supervisor that is about to die is mute as well: a last word that a worker runs, which it may or may not come to,
/// keeps its instance until the hard age (design section 4), and no play is that long.
fn signs_table(options: &Options) -> String {
    match options.flaw {
        Flaw::SupervisorDead => format!("{}-out-of-reach", options.vital_signs_table),
        Flaw::None | Flaw::NeverRegisters | Flaw::Ghost => options.vital_signs_table.clone(),
    }
}
