//! ministack, the emulator of AWS, in a virtual environment of its own, and its process.
//!
//! One exact version: the project is young, and what the local stack shows must not change by itself.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::console::Console;
use crate::failure::Failure;
use crate::local::processes::ProcessGroup;

/// The pinned emulator (<https://pypi.org/project/ministack/1.5.33/>, MIT).
pub(crate) const MINISTACK_VERSION: &str = "1.5.33";

/// How long the emulator may take to answer its health check, in seconds; it takes well under one.
const START_SECONDS: u64 = 30;

const INSTALL_PYTHON: &str = "install Python 3.10 or newer with venv (Debian: `apt-get install python3 python3-venv`)";

/// Ends the emulator and the functions it started when our end of its standard input closes, which the kernel does
/// however we die.
const LAUNCHER: &str = "
import os, signal, threading
def end_with_parent():
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)
threading.Thread(target=end_with_parent, daemon=True).start()
from ministack.app import main
main()
";

/// The Python of the virtual environment in `folder`, with the emulator; installs it only when missing.
pub(crate) fn emulator_python(folder: &Path, console: &Console) -> Result<PathBuf, Failure> {
    check_python()?;
    let python = folder.join("bin").join("python");
    let marker = folder.join(format!("ministack-{MINISTACK_VERSION}.installed"));
    if marker.is_file() && python.exists() {
        return Ok(python);
    }
    console.event("setup", format!("installing ministack {MINISTACK_VERSION}, the emulator of AWS"));
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(folder), "python3 -m venv")?;
    run(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet"])
            .args(["--disable-pip-version-check", "--no-input"])
            .arg(format!("ministack=={MINISTACK_VERSION}")),
        "pip install ministack (it needs access to PyPI or a mirror, see `pip config`)",
    )?;
    std::fs::write(&marker, MINISTACK_VERSION).map_err(Failure::io(format!("cannot write {}", marker.display())))?;
    Ok(python)
}

/// Where the emulator listens and what it hands on.
#[derive(Debug)]
pub(crate) struct MinistackSettings<'a> {
    /// Its Python.
    pub(crate) python: &'a Path,
    /// Its port on loopback.
    pub(crate) port: u16,
    /// The endpoint that it gives to the functions: the counting proxy.
    pub(crate) functions_endpoint: &'a str,
    /// The run's folder: log, temporary files, home.
    pub(crate) folder: &'a Path,
}

/// The emulator's log in a run's folder.
pub(crate) fn log_path(folder: &Path) -> PathBuf {
    folder.join("ministack.log")
}

/// Starts the emulator on loopback and waits until it answers.
///
/// It inherits nothing of the caller's environment but PATH, because it hands its own on to the functions: real AWS
/// credentials must not reach them.
pub(crate) async fn start(settings: &MinistackSettings<'_>, http: &reqwest::Client) -> Result<ProcessGroup, Failure> {
    let log = log_path(settings.folder);
    let mut command = tokio::process::Command::new(settings.python);
    command
        .args(["-c", LAUNCHER])
        .env_clear()
        .env("PATH", crate::system::variable("PATH").unwrap_or_default())
        .env("HOME", settings.folder)
        .env("TMPDIR", settings.folder)
        .env("BIND_HOST", "127.0.0.1")
        .env("MINISTACK_HOST", "127.0.0.1")
        .env("GATEWAY_PORT", settings.port.to_string())
        .env("AWS_ENDPOINT_URL", settings.functions_endpoint)
        // Listeners and containers that no part of this stack uses.
        .env("SFTP_ENABLED", "0")
        .env("IOT_MTLS_ENABLED", "0")
        .env("DOCKER_HOST", "unix:///nonexistent")
        .env("SERVICES", "dynamodb,events,lambda,logs,scheduler,sqs,ssm");
    let mut group = ProcessGroup::spawn(&mut command, &log)?;
    let health = format!("http://127.0.0.1:{}/_ministack/health", settings.port);
    for _ in 0..START_SECONDS * 10 {
        if let Ok(answer) = http.get(&health).send().await
            && answer.status().is_success()
        {
            return Ok(group);
        }
        if let Some(status) = group.exited() {
            return Err(Failure::Program {
                program: "ministack".to_owned(),
                output: format!("{status}; see {}", log.display()),
            });
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(Failure::Late {
        what: "ministack did not answer".to_owned(),
        seconds: START_SECONDS,
        log: log.display().to_string(),
    })
}

fn check_python() -> Result<(), Failure> {
    let missing = |what: &'static str| Failure::Missing { what, remedy: INSTALL_PYTHON.to_owned() };
    let version = Command::new("python3")
        .args(["-c", "import sys; print(sys.version_info[0] * 100 + sys.version_info[1])"])
        .output()
        .map_err(|_| missing("python3"))?;
    let number = String::from_utf8_lossy(&version.stdout).trim().parse::<u32>();
    if !number.is_ok_and(|number| number >= 310) {
        return Err(missing("Python 3.10 or newer"));
    }
    let modules = Command::new("python3")
        .args(["-c", "import venv, ensurepip"])
        .stderr(Stdio::null())
        .status()
        .map_err(|_| missing("python3"))?;
    if modules.success() { Ok(()) } else { Err(missing("Python's venv module")) }
}

fn run(command: &mut Command, name: &str) -> Result<(), Failure> {
    let output = command.stdin(Stdio::null()).output().map_err(Failure::io(format!("cannot start {name}")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Failure::Program {
        program: name.to_owned(),
        output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}
