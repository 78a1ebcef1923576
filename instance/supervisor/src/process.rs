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
    pub(crate) fn read(pid: u32) -> Option<Self> {
        Self::parse(pid, &std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
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
    pub(crate) fn is_alive(self) -> bool {
        Stat::read(self.pid).is_some_and(|stat| stat.id == self && stat.state != State::Ended)
    }
}

/// Whether a process that was sent SIGSTOP runs no code of its own any more.
///
/// Every thread has to have stopped, or to be inside the kernel where the signal waits for its return: one that waits
/// for its child to become another program cannot stop before that child, which may have been stopped first.
pub(crate) fn stands_still(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok()).all(|text| {
        Stat::parse(pid, &text).is_none_or(|stat| match stat.state {
            State::Alive => false,
            State::Uninterruptible | State::Stopped | State::Ended => true,
        })
    })
}

/// The numbers of all processes.
pub(crate) fn all() -> io::Result<BTreeSet<u32>> {
    let entries = std::fs::read_dir("/proc")?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// A process with everyone who descends from it; `None` where the kernel does not keep lists of children. Who lost the
/// parent in between is missing.
pub(crate) fn descendants(pid: u32) -> Option<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    let mut open = vec![pid];
    while let Some(pid) = open.pop() {
        if !found.insert(pid) {
            continue;
        }
        for thread in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
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
pub(crate) fn has_variable(pid: u32, variable: &str) -> bool {
    std::fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|environment| environment.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes()))
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
        let own = Stat::read(std::process::id()).unwrap();
        assert!(own.id.is_alive());
        assert!(!ProcessId { started: own.id.started + 1, ..own.id }.is_alive());
        assert!(all().unwrap().contains(&own.id.pid));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let family = descendants(own.id.pid).unwrap();
        assert!(family.contains(&own.id.pid) && family.contains(&child.id()), "{family:?}");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
