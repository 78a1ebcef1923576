//! The listener's cgroup (v2): who is in it, and how all of it is made to stand still at once.

use crate::process::{self, Stat};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long freezing and killing may take. A process that waits for a disk does not freeze before the disk has
/// answered; longer, and a job that waits for it stands still; shorter, and a busy instance is never drained.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(1);

/// One cgroup below our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes a cgroup of this name below our own.
    ///
    /// # Errors
    /// Where there is no cgroup v2, where it is not ours to change, or where the kernel cannot kill a whole one (5.14).
    pub(crate) fn make(name: &str) -> io::Result<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        let own = std::fs::read_to_string("/proc/self/cgroup")?;
        let own = own_cgroup(&mounts, &own).ok_or_else(|| io::Error::other("cgroup v2 is not mounted"))?;
        let path = own.join(name);
        create(&path)?;
        for file in ["cgroup.freeze", "cgroup.kill"] {
            if !path.join(file).exists() {
                // It stays empty: nobody is in it.
                let _kept = std::fs::remove_dir(&path);
                return Err(io::Error::other(format!("this kernel has no {file}")));
            }
        }
        Ok(Self(path))
    }

    /// One that was made before.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Makes it once more, in case that systemd removed it while it held nobody.
    pub(crate) fn make_again(&self) -> io::Result<()> {
        create(&self.0)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Whoever is in it, or in one below it.
    pub(crate) fn members(&self) -> io::Result<BTreeSet<u32>> {
        let mut members = BTreeSet::new();
        let mut folders = vec![self.0.clone()];
        while let Some(folder) = folders.pop() {
            match std::fs::read_to_string(folder.join("cgroup.procs")) {
                Ok(text) => members.extend(text.lines().filter_map(|line| line.parse::<u32>().ok())),
                // A cgroup can be removed only while it holds nobody.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            }
            match std::fs::read_dir(&folder) {
                Ok(below) => {
                    for entry in below {
                        let entry = entry?;
                        if entry.file_type()?.is_dir() {
                            folders.push(entry.path());
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(members)
    }

    /// Returns when everyone in it stands still.
    pub(crate) fn freeze(&self) -> io::Result<()> {
        self.write("cgroup.freeze", "1")?;
        self.wait_for("frozen 1")
    }

    pub(crate) fn thaw(&self) -> io::Result<()> {
        self.write("cgroup.freeze", "0")
    }

    /// Kills everyone in it, frozen or not, and removes it.
    pub(crate) fn kill(&self) -> io::Result<()> {
        self.write("cgroup.kill", "1")?;
        // What is left of it would only be litter.
        let _kept = self.wait_for("populated 0").and_then(|()| std::fs::remove_dir(&self.0));
        Ok(())
    }

    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        std::fs::write(self.0.join(file), text)
    }

    fn wait_for(&self, line: &str) -> io::Result<()> {
        for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
            if std::fs::read_to_string(self.0.join("cgroup.events"))?.lines().any(|found| found == line) {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
        Err(io::Error::other(format!("no {line:?} within {PATIENCE:?}")))
    }
}

fn create(path: &Path) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Where our own cgroup is: the mount of cgroup v2, and our path below it. systemd runs `ExecStopPost` in `.control`.
fn own_cgroup(mounts: &str, own: &str) -> Option<PathBuf> {
    let (root, mount_point) = mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ');
        let root = fields.nth(3)?;
        (kind.split(' ').next()? == "cgroup2").then_some((root, fields.next()?))
    })?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let below = path.strip_prefix(root.trim_end_matches('/')).unwrap_or(path);
    let below = below.strip_suffix("/.control").unwrap_or(below);
    Some(Path::new(mount_point).join(below.trim_start_matches('/')))
}

/// The processes of a listener where there is no such cgroup: known by a variable in their environment, stopped one by
/// one by SIGSTOP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Marked {
    /// The whole `NAME=value`.
    pub(crate) variable: String,
}

impl Marked {
    /// Whoever has the variable, and whoever they started.
    pub(crate) fn members(&self) -> io::Result<BTreeSet<u32>> {
        let (mut stats, mut members) = (Vec::new(), BTreeSet::new());
        for pid in process::all()? {
            let Some(stat) = Stat::read(pid)? else { continue };
            stats.push(stat);
            if process::has_variable(pid, &self.variable)? {
                members.insert(pid);
            }
        }
        // A child may have another number than its parent in either direction: until nobody is added.
        loop {
            let before = members.len();
            stats.retain(|stat| {
                if members.contains(&stat.parent) {
                    members.insert(stat.id.pid);
                }
                !members.contains(&stat.id.pid)
            });
            if members.len() == before {
                return Ok(members);
            }
        }
    }

    /// Returns when everyone stands still. One that runs may start others while we look: it is done when two looks, one
    /// after the other, find nobody new and nobody who runs.
    pub(crate) fn freeze(&self) -> io::Result<()> {
        let (mut sent, mut quiet_looks) = (BTreeSet::new(), 0);
        for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
            let members = self.members()?;
            let mut quiet = true;
            for pid in members {
                if sent.insert(pid) || !process::stands_still(pid)? {
                    process::send(pid, Signal::STOP);
                    quiet = false;
                }
            }
            quiet_looks = if quiet { quiet_looks + 1 } else { 0 };
            if quiet_looks == 2 {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
        Err(io::Error::other(format!("not everyone stopped within {PATIENCE:?}")))
    }

    /// Everyone goes on: also who has not stopped yet, because the signal to stop still waits for it.
    pub(crate) fn thaw(&self) -> io::Result<()> {
        for pid in self.members()? {
            process::send(pid, Signal::CONT);
        }
        Ok(())
    }

    pub(crate) fn kill(&self) -> io::Result<()> {
        for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
            let mut left = self.members()?;
            left.retain(|pid| {
                let ended = |stat: Option<Stat>| stat.is_none_or(|stat| stat.state == process::State::Ended);
                !Stat::read(*pid).is_ok_and(ended)
            });
            if left.is_empty() {
                return Ok(());
            }
            for pid in left {
                process::send(pid, Signal::KILL);
            }
            std::thread::sleep(PAUSE);
        }
        Err(io::Error::other(format!("not everyone ended within {PATIENCE:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_cgroup_is_found_wherever_it_is_mounted() {
        let v2 = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";
        let hybrid = "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
        let bound = "9 8 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup rw";
        for (case, mounts, own, expected) in [
            ("a service", v2, "0::/runner.slice/s.service", Some("/sys/fs/cgroup/runner.slice/s.service")),
            (
                "its control process",
                v2,
                "0::/runner.slice/s.service/.control",
                Some("/sys/fs/cgroup/runner.slice/s.service"),
            ),
            ("the root", v2, "0::/", Some("/sys/fs/cgroup/")),
            ("beside v1", hybrid, "9:name=systemd:/x\n0::/y", Some("/sys/fs/cgroup/unified/y")),
            ("a part of the tree", bound, "0::/docker/abc/s", Some("/sys/fs/cgroup/s")),
            ("v1 alone", "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw", "0::/", None),
            ("no v2 line of ours", v2, "9:name=systemd:/x", None),
        ] {
            assert_eq!(own_cgroup(mounts, own), expected.map(PathBuf::from), "{case}");
        }
    }
}
