//! The listener with everything it started, however it is held.

use crate::cgroup::{Cgroup, Marked};
use crate::config::Freezer;
use crate::console::{chain, say};
use crate::process::{self, ProcessId, Stat};
use crate::traces::{Held, Traces};
use std::io;

/// How the listener and everything it started are found and made to stand still.
#[derive(Debug)]
pub(crate) enum Tree {
    /// All at once, by the kernel.
    Cgroup(Cgroup),
    /// One by one, by SIGSTOP.
    Marked(Marked),
}

/// How thoroughly a worker is searched for, where there is no cgroup that lists everyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Search {
    /// Among the listener's descendants. Enough to know what it does, not to end it.
    Below(ProcessId),
    /// Everywhere: a worker whose listener died has lost its place in the family.
    Everywhere,
}

impl Tree {
    /// What an earlier supervisor of this boot used, else the best there is. Says what was chosen when it is the lesser
    /// one.
    pub(crate) fn find(freezer: Freezer, traces: &Traces) -> io::Result<Self> {
        let marked = || Self::Marked(Marked { variable: traces.variable() });
        match traces.held()? {
            Some(Held::Cgroup(path)) => return Ok(Self::Cgroup(Cgroup::at(path))),
            Some(Held::Marked) => return Ok(marked()),
            None => {}
        }
        match freezer {
            Freezer::Stop => {
                say("stops processes by SIGSTOP, as FREEZER says");
                Ok(marked())
            }
            Freezer::Auto => match Cgroup::make(&traces.cgroup_name()) {
                Ok(cgroup) => Ok(Self::Cgroup(cgroup)),
                Err(error) => {
                    say(format!("no cgroup v2 to freeze: stops processes by SIGSTOP instead ({})", chain(&error)));
                    Ok(marked())
                }
            },
        }
    }

    /// A worker, if there is one.
    pub(crate) fn worker(&self, search: Search) -> io::Result<Option<Stat>> {
        let members = match (self, search) {
            (Self::Cgroup(cgroup), Search::Below(_) | Search::Everywhere) => cgroup.members()?,
            (Self::Marked(marked), Search::Everywhere) => marked.members()?,
            (Self::Marked(marked), Search::Below(leader)) => {
                process::descendants(leader.pid).map_or_else(|| marked.members(), Ok)?
            }
        };
        // One that is found suffices; that there is none is known only when everyone was looked at.
        let mut unread = None;
        for pid in members {
            match Stat::read(pid) {
                Ok(Some(stat)) if stat.is_worker() => return Ok(Some(stat)),
                Ok(_) => {}
                Err(error) => unread = Some(error),
            }
        }
        unread.map_or(Ok(None), Err)
    }

    /// Returns when everyone stands still.
    pub(crate) fn freeze(&self) -> io::Result<()> {
        match self {
            Self::Cgroup(cgroup) => cgroup.freeze(),
            Self::Marked(marked) => marked.freeze(),
        }
    }

    /// Lets everyone go on.
    pub(crate) fn thaw(&self) -> io::Result<()> {
        match self {
            Self::Cgroup(cgroup) => cgroup.thaw(),
            Self::Marked(marked) => marked.thaw(),
        }
    }

    /// Ends everyone.
    pub(crate) fn kill(&self) -> io::Result<()> {
        match self {
            Self::Cgroup(cgroup) => cgroup.kill(),
            Self::Marked(marked) => marked.kill(),
        }
    }
}
