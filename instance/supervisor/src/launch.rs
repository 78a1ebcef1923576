//! How the listener is started: this program once more, as root, which enters the listener's cgroup, says so, lets go
//! of every right and becomes run.sh.
//!
//! Until it is in the cgroup and has written the leader file, it dies with the supervisor; afterwards it never does. A
//! supervisor that comes later finds either a listener or nothing, never one on its way.

use crate::config::Config;
use crate::console::{chain, say};
use crate::process::{ProcessId, Stat};
use crate::secret::Secret;
use crate::traces::{Traces, write_leader};
use crate::tree::Tree;
use rustix::process::{Gid, Uid, getuid};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The runner reads its `--jitconfig` from here too (`CommandSettings.cs`) and removes it from what its worker
/// inherits. A process's environment is readable by its own user and root alone; a command line by everybody.
const JIT_CONFIGURATION: &str = "ACTIONS_RUNNER_INPUT_JITCONFIG";

/// Starts the listener.
pub(crate) fn start(
    executable: &Path,
    config: &Config,
    traces: &Traces,
    tree: &Tree,
    configuration: &Secret,
) -> io::Result<Child> {
    let output = OpenOptions::new().append(true).create(true).mode(0o600).open(traces.output())?;
    let user = &config.user;
    let mut command = Command::new(executable);
    command
        .arg("launch")
        .arg(std::process::id().to_string())
        .arg(traces.leader_file())
        .arg(match tree {
            Tree::Cgroup(cgroup) => cgroup.path().join("cgroup.procs"),
            Tree::Marked(_) => PathBuf::new(),
        })
        .arg(user.uid.to_string())
        .arg(user.gid.to_string())
        .arg(user.groups.iter().map(u32::to_string).collect::<Vec<_>>().join(","))
        .arg(&config.listener_command);
    let (name, value) = traces.variable_parts();
    command.env_clear().env(name, value).env(JIT_CONFIGURATION, configuration.expose());
    command.env("HOME", &user.home).env("USER", &user.name).env("LOGNAME", &user.name).env("LANG", "C.UTF-8");
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    if let Some(hook) = &config.job_started_hook {
        command.env("ACTIONS_RUNNER_HOOK_JOB_STARTED", hook);
    }
    if let Some(hook) = &config.job_completed_hook {
        command.env("ACTIONS_RUNNER_HOOK_JOB_COMPLETED", hook);
    }
    let errors = output.try_clone()?;
    // Standard input is where it says what goes wrong before it is run.sh, which gets an empty one.
    let journal = io::stdout().as_fd().try_clone_to_owned()?;
    command.current_dir(&config.runner_folder).stdin(journal).stdout(output).stderr(errors).spawn()
}

/// What is wrong with becoming run.sh.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// It was not the supervisor that started us.
    #[error("only the supervisor starts the listener")]
    Arguments,
    /// The supervisor died meanwhile.
    #[error("the supervisor is gone")]
    Orphaned,
    /// A step failed.
    #[error("cannot {step}")]
    Step {
        /// What.
        step: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Becomes run.sh; returns only when that failed, and has said why then: in the listener's output, and where the
/// supervisor speaks.
pub fn become_listener(arguments: &[String]) {
    // Closed when run.sh starts: a job has no business in the journal.
    let journal = io::stdin().as_fd().try_clone_to_owned();
    let line = format!("cannot become the listener: {}", chain(&try_to_become(arguments)));
    say(&line);
    if let Ok(journal) = journal {
        let _unread = writeln!(File::from(journal), "{line}");
    }
}

fn try_to_become(arguments: &[String]) -> LaunchError {
    let [parent, leader_file, cgroup, uid, gid, groups, program] = arguments else { return LaunchError::Arguments };
    let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse()) else { return LaunchError::Arguments };
    let groups: Result<Vec<u32>, _> = groups.split(',').filter(|gid| !gid.is_empty()).map(str::parse).collect();
    let Ok(groups) = groups else { return LaunchError::Arguments };
    if let Err(error) = prepare(parent, Path::new(leader_file), cgroup) {
        return error;
    }
    if let Err(source) = let_go(uid, gid, &groups) {
        return LaunchError::Step { step: "become the runner's user", source };
    }
    LaunchError::Step { step: "start the listener", source: Command::new(program).stdin(Stdio::null()).exec() }
}

fn prepare(parent: &str, leader_file: &Path, cgroup: &str) -> Result<(), LaunchError> {
    let step = |step| move |source| LaunchError::Step { step, source };
    let die_with_parent =
        |signal| set_parent_process_death_signal(signal).map_err(|error| step("follow the supervisor")(error.into()));
    die_with_parent(Some(Signal::KILL))?;
    // It may have died before we said so.
    if getppid().map(|pid| pid.as_raw_nonzero().to_string()).as_deref() != Some(parent) {
        return Err(LaunchError::Orphaned);
    }
    if !cgroup.is_empty() {
        std::fs::write(cgroup, "0").map_err(step("enter the listener's cgroup"))?;
    }
    // A job that takes all memory must be killed before the supervisor is. Where that may not be set, nothing is lost.
    let _as_inherited = std::fs::write("/proc/self/oom_score_adj", "0");
    let own = own_id().map_err(step("read /proc"))?;
    write_leader(leader_file, own).map_err(step("write the leader file"))?;
    die_with_parent(None)
}

fn own_id() -> io::Result<ProcessId> {
    Stat::read(std::process::id())?.map(|stat| stat.id).ok_or_else(|| io::Error::other("we are not in /proc"))
}

/// Gives up every right, for good. This process has one thread, so that what is said of the thread holds for all of it.
fn let_go(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    if getuid() == uid {
        return Ok(());
    }
    let groups: Vec<_> = groups.iter().map(|group| Gid::from_raw(*group)).collect();
    set_thread_groups(&groups)?;
    set_thread_gid(gid)?;
    set_thread_uid(uid)?;
    if getuid() == uid && (uid.is_root() || set_thread_uid(Uid::ROOT).is_err()) {
        return Ok(());
    }
    Err(io::Error::other("rights were not given up"))
}
