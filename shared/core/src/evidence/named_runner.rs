//! Whether the runner that a job's reading names is one of ours (design section 4).

use crate::ids::{RunnerId, RunnerName};
use crate::ports::JobReading;

/// How the jobs API names a runner, held against the id and the name of one of ours.
///
/// Whether ids are unique across the scopes of an owner is not documented (facts/github.md 5.5), and a name may be given
/// to any runner. So whatever ends evidence, that a job has ended here or is elsewhere, needs both to say the same; where
/// they contradict each other the reading is a doubt, and a doubt keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedRunner {
    /// None: neither id nor name.
    Nobody,
    /// Ours, by both.
    Ours,
    /// Our id, and no name. Enough to keep the instance and to remember that the job started on it, for that can only
    /// veto; too little for its end.
    OurIdAlone,
    /// Another, by both.
    Another,
    /// Another id, and no name. Within one scope an id is one runner's, so the job is no reason to keep ours; too little
    /// to give up a job that is known to have started here.
    AnotherIdAlone,
    /// One of the two is ours and the other is not, or a name stands without an id.
    Contradictory,
}

impl NamedRunner {
    /// Holds a reading against our runner of that id and name.
    #[must_use]
    pub fn of(reading: &JobReading, runner_id: RunnerId, runner_name: &RunnerName) -> Self {
        let id = reading.runner_id.map(|id| id == runner_id);
        let name = reading.runner_name.as_ref().map(|name| name == runner_name);
        match (id, name) {
            (None, None) => Self::Nobody,
            (Some(true), Some(true)) => Self::Ours,
            (Some(true), None) => Self::OurIdAlone,
            (Some(false), Some(false)) => Self::Another,
            (Some(false), None) => Self::AnotherIdAlone,
            (Some(true), Some(false)) | (Some(false), Some(true)) | (None, Some(_)) => Self::Contradictory,
        }
    }

    /// Whether a job's start may be remembered of ours; that can only keep it.
    #[must_use]
    pub fn may_have_started_here(self) -> bool {
        match self {
            Self::Ours | Self::OurIdAlone => true,
            Self::Nobody | Self::Another | Self::AnotherIdAlone | Self::Contradictory => false,
        }
    }
}
