//! What a supervisor leaves behind for the next one: small files, each written whole or not at all.
//!
//! The marker says that a listener is about to be started: it is there before the listener is. The leader, written by
//! the listener's own process before it becomes run.sh, says that it was. Between the two nothing was started yet, and
//! the configuration is fetched once more.

use crate::process::ProcessId;
use runner_supervisor_decision::Millis;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// The variable that everything the listener starts inherits.
const VARIABLE: &str = "RUNNER_SUPERVISED_BY";

/// The files of one instance.
#[derive(Debug, Clone)]
pub(crate) struct Traces {
    run_folder: PathBuf,
    state_folder: PathBuf,
    boot_id: String,
}

/// What the marker says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Marker {
    /// The boot in which the listener was to be started.
    pub(crate) boot_id: String,
    /// The instance: a marker in an image was made by another one.
    pub(crate) instance_id: String,
    /// When, in milliseconds since that boot.
    pub(crate) started_at: Millis,
    /// Diagnostic logs that were there before.
    pub(crate) old_logs: Vec<String>,
}

/// How everything that the listener starts is found again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Held {
    /// It is in this cgroup.
    Cgroup(PathBuf),
    /// It has our variable.
    Marked,
}

impl Traces {
    pub(crate) fn new(run_folder: &Path, state_folder: &Path) -> io::Result<Self> {
        let boot_id = read_boot_id()?;
        std::fs::create_dir_all(run_folder)?;
        std::fs::create_dir_all(state_folder)?;
        Ok(Self { run_folder: run_folder.to_owned(), state_folder: state_folder.to_owned(), boot_id })
    }

    /// Whether these folders know of a listener that was started in this boot, or may have been. Changes nothing there.
    pub(crate) fn know_a_listener(run_folder: &Path, state_folder: &Path) -> io::Result<bool> {
        let boot_id = read_boot_id()?;
        let marker = read(&state_folder.join("marker"))?;
        let of_this_boot = marker.is_some_and(|text| Marker::parse(&text).is_none_or(|found| found.boot_id == boot_id));
        Ok(of_this_boot || run_folder.join("leader").try_exists()?)
    }

    pub(crate) fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// Where the listener's output goes. A file, because a pipe would end with us and the listener with it.
    pub(crate) fn output(&self) -> PathBuf {
        self.run_folder.join("listener.log")
    }

    pub(crate) fn leader_file(&self) -> PathBuf {
        self.run_folder.join("leader")
    }

    /// The variable by which the processes of this instance are known.
    pub(crate) fn variable(&self) -> String {
        let (name, value) = self.variable_parts();
        format!("{name}={value}")
    }

    /// Its name and value.
    pub(crate) fn variable_parts(&self) -> (&'static str, String) {
        (VARIABLE, format!("{}@{}", self.run_folder.display(), self.boot_id))
    }

    /// Another supervisor on the same machine (tests, the local stack) has another one.
    pub(crate) fn cgroup_name(&self) -> String {
        format!("listener{}", self.run_folder.display().to_string().replace('/', "-"))
    }

    /// Both markers: the one in /run is gone after a reboot, the other one tells of it. In this order: whoever finds no
    /// marker in /run knows that no listener of this boot was started, whatever the other one says.
    pub(crate) fn write_marker(&self, marker: &Marker) -> io::Result<()> {
        let Marker { boot_id, instance_id, started_at, old_logs } = marker;
        let text = format!("{boot_id}\n{instance_id}\n{started_at}\n{}\n", old_logs.join("\n"));
        write_durably(&self.state_folder, "marker", &text)?;
        write_whole(&self.run_folder.join("marker"), &text)
    }

    /// The marker of this boot.
    pub(crate) fn marker(&self) -> io::Result<Option<Marker>> {
        let marker = read_marker(&self.run_folder.join("marker"))?;
        Ok(marker.filter(|marker| marker.boot_id == self.boot_id))
    }

    /// Whether this instance started a listener in an earlier boot.
    ///
    /// Assumptions: there is no [`marker`](Self::marker) of this boot. What is not understood then was not written in this
    /// boot, in which a marker is replaced whole: a disk that lost its power left it.
    ///
    /// # Errors
    /// When nobody can say what the marker holds: memory or file handles are short.
    pub(crate) fn started_in_earlier_boot(&self, instance_id: &str) -> io::Result<bool> {
        let Some(text) = read(&self.state_folder.join("marker"))? else { return Ok(false) };
        let of_earlier_boot = |marker: Marker| marker.instance_id == instance_id && marker.boot_id != self.boot_id;
        Ok(Marker::parse(&text).is_none_or(of_earlier_boot))
    }

    /// The process that became run.sh; `None` when none was started.
    pub(crate) fn leader(&self) -> io::Result<Option<ProcessId>> {
        let Some(text) = read(&self.leader_file())? else { return Ok(None) };
        let numbers = text
            .trim()
            .split_once(' ')
            .and_then(|(pid, started)| Some(ProcessId { pid: pid.parse().ok()?, started: started.parse().ok()? }));
        numbers.map(Some).ok_or_else(|| io::Error::other("the leader file is not understood"))
    }

    /// Forgets the leader of an earlier boot.
    pub(crate) fn forget_leader(&self) -> io::Result<()> {
        match std::fs::remove_file(self.leader_file()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Says how the listener that is about to be started is held.
    pub(crate) fn write_held(&self, held: &Held) -> io::Result<()> {
        let path = match held {
            Held::Cgroup(path) => path.display().to_string(),
            Held::Marked => String::new(),
        };
        write_whole(&self.run_folder.join("held"), &path)
    }

    /// How it is held; `None` when none was about to be started.
    pub(crate) fn held(&self) -> io::Result<Option<Held>> {
        let text = read(&self.run_folder.join("held"))?;
        Ok(text.map(|path| if path.is_empty() { Held::Marked } else { Held::Cgroup(path.into()) }))
    }

    /// Remembers when the job's worker was first seen.
    pub(crate) fn write_job_started(&self, at: Millis) -> io::Result<()> {
        write_whole(&self.run_folder.join("job"), &at.to_string())
    }

    /// When that was.
    pub(crate) fn job_started(&self) -> io::Result<Option<Millis>> {
        Ok(read(&self.run_folder.join("job"))?.and_then(|text| text.trim().parse().ok()))
    }
}

/// Writes the leader file: the listener's own process does, before it becomes run.sh.
pub(crate) fn write_leader(path: &Path, leader: ProcessId) -> io::Result<()> {
    write_whole(path, &format!("{} {}", leader.pid, leader.started))
}

fn read_boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

fn read_marker(path: &Path) -> io::Result<Option<Marker>> {
    let Some(text) = read(path)? else { return Ok(None) };
    let not_understood = || io::Error::other(format!("{} is not understood", path.display()));
    Marker::parse(&text).map(Some).ok_or_else(not_understood)
}

impl Marker {
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines().map(str::to_owned);
        let (boot_id, instance_id) = (lines.next()?, lines.next()?);
        let started_at = lines.next()?.parse().ok()?;
        Some(Self { boot_id, instance_id, started_at, old_logs: lines.filter(|name| !name.is_empty()).collect() })
    }
}

/// What is no text is not understood by whoever reads it.
fn read(path: &Path) -> io::Result<Option<String>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whoever reads finds the old text or the new one, never a part; after a power failure perhaps neither.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let next = path.with_extension("next");
    std::fs::write(&next, text)?;
    std::fs::rename(next, path)
}

/// The same after a power failure too, once it has returned.
fn write_durably(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    let (path, next) = (folder.join(name), folder.join(format!("{name}.next")));
    let mut file = File::create(&next)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(next, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_supervisor_wrote_the_next_one_reads() {
        let folder = tempfile::tempdir().unwrap();
        let (run, state) = (folder.path().join("run"), folder.path().join("state"));
        let traces = Traces::new(&run, &state).unwrap();
        assert_eq!((traces.marker().unwrap(), traces.leader().unwrap(), traces.held().unwrap()), (None, None, None));
        let marker = Marker {
            boot_id: traces.boot_id().into(),
            instance_id: "i-1".into(),
            started_at: 5,
            old_logs: vec!["Runner_1.log".into()],
        };
        traces.write_marker(&marker).unwrap();
        let leader = ProcessId { pid: 7, started: 9 };
        write_leader(&traces.leader_file(), leader).unwrap();
        let held = Held::Cgroup("/sys/fs/cgroup/x".into());
        traces.write_held(&held).unwrap();
        traces.write_job_started(11).unwrap();
        let next = Traces::new(&run, &state).unwrap();
        assert_eq!(next.marker().unwrap(), Some(marker.clone()));
        assert_eq!(next.leader().unwrap(), Some(leader));
        assert_eq!(next.held().unwrap(), Some(held));
        next.write_held(&Held::Marked).unwrap();
        assert_eq!(next.held().unwrap(), Some(Held::Marked));
        assert_eq!(next.job_started().unwrap(), Some(11));
        assert!(!next.started_in_earlier_boot("i-1").unwrap());
        next.write_marker(&Marker { boot_id: "another".into(), ..marker }).unwrap();
        assert_eq!(next.marker().unwrap(), None, "a marker of another boot says nothing of this one");
        assert!(next.started_in_earlier_boot("i-1").unwrap());
        assert!(!next.started_in_earlier_boot("i-2").unwrap(), "a marker in an image is another instance's");
    }

    #[test]
    fn either_folder_knows_a_listener_of_this_boot() {
        let folder = tempfile::tempdir().unwrap();
        let (run, state) = (folder.path().join("run"), folder.path().join("state"));
        let know = || Traces::know_a_listener(&run, &state).unwrap();
        assert!(!know() && !run.exists() && !state.exists(), "no folders");
        let traces = Traces::new(&run, &state).unwrap();
        let marker = Marker { boot_id: "another".into(), instance_id: "i-1".into(), started_at: 5, old_logs: vec![] };
        traces.write_marker(&marker).unwrap();
        assert!(!know(), "one of an earlier boot");
        write_leader(&traces.leader_file(), ProcessId { pid: 7, started: 9 }).unwrap();
        assert!(know(), "one that was started");
        traces.forget_leader().unwrap();
        for text in [traces.boot_id().to_owned() + "\ni-1\n5\n", "in pieces".to_owned()] {
            std::fs::write(state.join("marker"), text).unwrap();
            assert!(know(), "one that may have been");
        }
    }

    #[test]
    fn what_is_not_understood_is_not_absent() {
        let folder = tempfile::tempdir().unwrap();
        let traces = Traces::new(folder.path(), &folder.path().join("state")).unwrap();
        std::fs::write(folder.path().join("marker"), "x").unwrap();
        std::fs::write(folder.path().join("leader"), "x").unwrap();
        assert!(traces.marker().is_err());
        assert!(traces.leader().is_err());
    }

    #[test]
    fn a_marker_that_a_power_failure_left_is_of_an_earlier_boot() {
        let folder = tempfile::tempdir().unwrap();
        let traces = Traces::new(&folder.path().join("run"), folder.path()).unwrap();
        assert!(!traces.started_in_earlier_boot("i-1").unwrap(), "no marker");
        for left in [&b""[..], b"\0\0\0\0", b"\xff\xfe\n", b"a-boot-id\ni-1"] {
            std::fs::write(folder.path().join("marker"), left).unwrap();
            assert!(traces.started_in_earlier_boot("i-1").unwrap(), "{left:?}");
        }
        std::fs::remove_file(folder.path().join("marker")).unwrap();
        std::fs::create_dir(folder.path().join("marker")).unwrap();
        assert!(traces.started_in_earlier_boot("i-1").is_err(), "what cannot be read says nothing");
    }
}
