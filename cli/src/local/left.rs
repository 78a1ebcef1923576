//! What is not over yet, so that a run knows its end.

use runner_scaler_world::World;
use runner_scaler_world::github::JobState;

/// What is not over.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// Jobs, instances, registrations, parameters, a play that is not over: the promises, or what was not played, name
    /// each of them.
    pub(crate) judged: usize,
    /// Everything else.
    pub(crate) others: Vec<String>,
}

impl Left {
    /// What the world has left.
    pub(crate) fn in_world(world: &World) -> Self {
        let open = |state: &JobState| match state {
            // A held job is seen by nobody; that its trap never sprang is reported by itself.
            JobState::Held | JobState::Completed { .. } => false,
            JobState::Waiting | JobState::Queued { .. } | JobState::Assigned { .. } | JobState::Running { .. } => true,
        };
        let jobs = world.github.jobs().filter(|job| open(&job.state)).count();
        let deliveries = world.github.pending_deliveries().count();
        let mut others = Vec::new();
        if deliveries > 0 {
            others.push(format!("{deliveries} deliveries were on their way"));
        }
        Self { judged: jobs + world.ec2.alive().len() + world.github.registrations().count(), others }
    }

    /// Whether everything is over.
    pub(crate) fn nothing(&self) -> bool {
        self.judged == 0 && self.others.is_empty()
    }

    /// Evidence of what the promises do not name, once the time is over.
    pub(crate) fn late(&self, limit_seconds: u64) -> Vec<String> {
        self.others.iter().map(|what| format!("after {limit_seconds} s {what}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::scenario::{self, Director};
    use runner_scaler_world::{Settings, Tape};

    #[test]
    fn a_job_is_left_until_it_is_over_and_a_held_one_never_is() {
        let mut world = World::new(Settings::local(), Tape::from_seed(1), 0);
        scenario::install(&mut world);
        assert!(Left::in_world(&world).nothing());
        let mut director = Director::new(scenario::Play::Whole { jobs: 2 });
        director.play(&mut world, 0).unwrap();
        let left = Left::in_world(&world);
        assert_eq!((left.judged, left.late(9)), (1, vec!["after 9 s 1 deliveries were on their way".to_owned()]));
        director.play(&mut world, 60_000).unwrap();
        // Two real ones, one of a live orphan, one unlucky, ten surplus, two that nobody is told of, a burst of two; held
        // ones do not count.
        assert_eq!(Left::in_world(&world).judged, 2 + 1 + 1 + 10 + 2 + 2);
    }
}
