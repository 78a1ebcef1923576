//! Processes, as /proc shows them.

use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::io;

/// The name of a process that runs a job. Its parent, the listener, gives it that name; it lives exactly as long as
/// the job does (actions/runner, `JobDispatcher.cs`).
const WORKER: &str = "Runner.Worker";

/// A process, for good: its number may be given to another one, which has another start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessId {
    /// Its number.
    pub(crate) pid: u32,
    /// When it started, in the kernel's ticks since boot.
    pub(crate) started: u64,
}

/// What proc(5) says of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) id: ProcessId,
    pub(crate) name: String,
    pub(crate) state: State,
    pub(crate) parent: u32,
}

/// What a process, or one of its threads, does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It runs or waits.
    Alive,
    /// It waits inside the kernel, where signals do not reach it: for a disk, or for the child that it starts (vfork).
    Uninterruptible,
    /// It was stopped by a signal.
    Stopped,
    /// It has ended.
    Ended,
}

impl Stat {
    /// Reads a process; `None` when there is none.
    ///
    /// # Errors
    /// When nobody can say: memory or file handles are short, and what was not seen may be a worker.
    pub(crate) fn read(pid: u32) -> io::Result<Option<Self>> {
        let path = format!("/proc/{pid}/stat");
        let Some(text) = if_there(std::fs::read(&path))? else { return Ok(None) };
        // A name may be no text at all, and is nobody's whom we know then.
        let stat = Self::parse(pid, &String::from_utf8_lossy(&text));
        stat.map(Some).ok_or_else(|| io::Error::other(format!("{path} is not understood")))
    }

    /// `pid (name) state ppid …`, the start as the 22nd field. A name may hold anything, brackets too.
    fn parse(pid: u32, text: &str) -> Option<Self> {
        let (head, tail) = text.rsplit_once(')')?;
        let (_pid, name) = head.split_once('(')?;
        let mut fields = tail.split_ascii_whitespace();
        let state = match fields.next()? {
            "T" | "t" => State::Stopped,
            "D" => State::Uninterruptible,
            "Z" | "X" | "x" => State::Ended,
            _ => State::Alive,
        };
        let parent = fields.next()?.parse().ok()?;
        let started = fields.nth(17)?.parse().ok()?;
        Some(Self { id: ProcessId { pid, started }, name: name.to_owned(), state, parent })
    }

    pub(crate) fn is_worker(&self) -> bool {
        self.name == WORKER && self.state != State::Ended
    }
}

impl ProcessId {
    /// Whether it has not ended.
    ///
    /// # Errors
    /// As [`Stat::read`].
    pub(crate) fn is_alive(self) -> io::Result<bool> {
        Ok(Stat::read(self.pid)?.is_some_and(|stat| stat.id == self && stat.state != State::Ended))
    }
}

/// What was read of a process; `None` when it has ended meanwhile, or is another user's whom we may not look at. Root may
/// look at all.
fn if_there<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
                || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Whether a process that was sent SIGSTOP runs no code of its own any more.
///
/// Every thread has to have stopped, or to be inside the kernel where the signal waits for its return: one that waits
/// for its child to become another program cannot stop before that child, which may have been stopped first.
///
/// # Errors
/// As [`Stat::read`].
pub(crate) fn stands_still(pid: u32) -> io::Result<bool> {
    let Some(threads) = if_there(std::fs::read_dir(format!("/proc/{pid}/task")))? else { return Ok(true) };
    for thread in threads {
        let Some(thread) = if_there(thread)? else { continue };
        let Some(text) = if_there(std::fs::read(thread.path().join("stat")))? else { continue };
        match Stat::parse(pid, &String::from_utf8_lossy(&text)).map(|stat| stat.state) {
            Some(State::Uninterruptible | State::Stopped | State::Ended) => {}
            Some(State::Alive) | None => return Ok(false),
        }
    }
    Ok(true)
}

/// The numbers of all processes.
pub(crate) fn all() -> io::Result<BTreeSet<u32>> {
    let entries = std::fs::read_dir("/proc")?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// A process with everyone who descends from it; `None` where the kernel does not keep lists of children, or they cannot
/// be read. Who lost the parent in between is missing.
pub(crate) fn descendants(pid: u32) -> Option<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    let mut open = vec![pid];
    while let Some(pid) = open.pop() {
        if !found.insert(pid) {
            continue;
        }
        let Some(threads) = if_there(std::fs::read_dir(format!("/proc/{pid}/task"))).ok()? else { continue };
        for thread in threads.flatten() {
            match std::fs::read_to_string(thread.path().join("children")) {
                Ok(text) => open.extend(text.split_ascii_whitespace().filter_map(|child| child.parse::<u32>().ok())),
                Err(_) if thread.path().exists() => return None,
                Err(_) => {}
            }
        }
    }
    Some(found)
}

/// Whether a process was started with `NAME=value` in its environment.
///
/// # Errors
/// As [`Stat::read`].
pub(crate) fn has_variable(pid: u32, variable: &str) -> io::Result<bool> {
    let environment = if_there(std::fs::read(format!("/proc/{pid}/environ")))?.unwrap_or_default();
    Ok(environment.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes()))
}

/// Sends a signal; a process that has ended needs none.
pub(crate) fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ended = kill_process(pid, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::process::CommandExt as _;

    #[test]
    fn a_stat_line_is_read_behind_the_last_bracket() {
        let tail = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 987 1 2";
        for (case, text, name, state) in [
            ("a worker", format!("7 (Runner.Worker) S 6 {tail}"), "Runner.Worker", State::Alive),
            ("a name that looks like a line", format!("7 (x) Z 1 (y) T 6 {tail}"), "x) Z 1 (y", State::Stopped),
            ("one inside the kernel", format!("7 (sh) D 6 {tail}"), "sh", State::Uninterruptible),
            ("one that ended", format!("7 (Runner.Worker) Z 6 {tail}"), "Runner.Worker", State::Ended),
        ] {
            let expected = Stat { id: ProcessId { pid: 7, started: 987 }, name: name.into(), state, parent: 6 };
            assert_eq!(Stat::parse(7, &text), Some(expected), "{case}");
        }
        assert_eq!(Stat::parse(7, "7 (x) S 6"), None);
    }

    #[test]
    fn a_number_alone_is_not_a_process() {
        let own = Stat::read(std::process::id()).unwrap().unwrap();
        assert!(own.id.is_alive().unwrap());
        assert!(!ProcessId { started: own.id.started + 1, ..own.id }.is_alive().unwrap());
        assert!(all().unwrap().contains(&own.id.pid));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let family = descendants(own.id.pid).unwrap();
        assert!(family.contains(&own.id.pid) && family.contains(&child.id()), "{family:?}");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_process_whose_name_is_no_text_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join(std::ffi::OsStr::from_bytes(b"\xff\xfe"));
        std::os::unix::fs::symlink("/bin/sleep", &program).unwrap();
        let mut child = std::process::Command::new(&program).arg0("sleep").arg("60").spawn().unwrap();
        let stat = Stat::read(child.id()).unwrap().unwrap();
        assert!(stat.id.is_alive().unwrap() && !stat.is_worker(), "{stat:?}");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!stat.id.is_alive().unwrap());
        assert_eq!(Stat::read(child.id()).unwrap(), None, "it ended");
    }

    #[test]
    fn what_cannot_be_read_is_neither_there_nor_gone() {
        let of = |errno: rustix::io::Errno| if_there::<()>(Err(errno.into()));
        for errno in [rustix::io::Errno::NOENT, rustix::io::Errno::SRCH, rustix::io::Errno::ACCESS] {
            assert!(matches!(of(errno), Ok(None)), "{errno:?}");
        }
        for errno in [rustix::io::Errno::NOMEM, rustix::io::Errno::MFILE, rustix::io::Errno::NFILE] {
            assert!(of(errno).is_err(), "{errno:?}: a worker may be there");
        }
    }
}
