//! S1 and S2: whose job was lost to us, and whether that is the loss that the README documents.

use runner_scaler_world::github::Trouble;
use runner_scaler_world::truth::Ending;
use runner_scaler_world::{Millis, World};

use super::truth::{Act, JobTruth};
use super::{Checker, QUARANTINE, instance_of};
use crate::report::Tally;
use crate::swarm::{MINUTE, SECOND};

/// What GitHub's log shows for so long was there when the pass that ends an instance read it.
const LOG_READ: Millis = 5 * MINUTE;

impl Checker {
    /// Without a supervisor: a job that was assigned before our DELETE may be lost; and one that was in that very moment
    /// to a runner that GitHub had not shown for half an hour is given to another, for nobody acquired it.
    pub(super) fn ended_in_acquisition(&mut self, job_id: u64, id: &str, at: Millis, world: &World) {
        if self.instances.get(id).is_none_or(|instance| instance.is_heard(at)) {
            return;
        }
        let Some(job) = self.jobs.get(&job_id) else { return };
        let deleted_at = self.deregistered_at(id);
        let documented = job.assigned_at.zip(deleted_at).is_some_and(|(assigned, deleted)| assigned <= deleted);
        let act = self.terminations.get(id).cloned().unwrap_or_default();
        if act.unfounded {
            self.violated(
                "S1",
                at,
                format!("{id} was terminated while job {job_id} ran, on a ground that did not hold"),
            );
        } else if !documented && !is_of_that_moment(job, &act, id, at, world) {
            let what = format!("{id} was terminated while job {job_id} ran, which no DELETE came after");
            self.violated("S1", at, what);
        }
    }

    /// A job died with its instance: by us, by EC2, or by the supervisor, whose every reason to power off is that there is
    /// no job.
    pub(super) fn killed_with(&mut self, job_id: u64, id: &str, at: Millis, world: &World, tally: &mut Tally) {
        match self.instances.get(id).and_then(|own| own.ending.as_ref()) {
            Some(Ending::Api { .. }) => {
                tally.killed += 1;
                self.killed_by_us(job_id, id, at, world);
            }
            Some(Ending::PowerOff) if !self.unreported.contains(&job_id) => {
                self.violated("S1", at, format!("{id} powered itself off while job {job_id} ran"));
            }
            // Nobody can help a spot interruption, nor a person who stops it.
            Some(Ending::PowerOff | Ending::Spot) | None => {}
        }
    }

    fn killed_by_us(&mut self, job_id: u64, id: &str, at: Millis, world: &World) {
        let Some(job) = self.jobs.get(&job_id) else { return };
        // What is learned while the call is on its way comes too late for it.
        let act = self.terminations.get(id).cloned().unwrap_or_default();
        if act.was_told_of(job_id, job) {
            self.violated("S1", at, format!("job {job_id} was ended with {id} although its start was known"));
            return;
        }
        if act.unfounded {
            self.violated("S1", at, format!("job {job_id} was ended with {id}, on a ground that did not hold"));
            return;
        }
        // What failed is in GitHub's log, which whoever ends an instance reads first.
        let lost = job.start_lost && !world.github.had_failed_by(act.begun_at - LOG_READ, job_id, "in_progress");
        if !lost && !is_told_late(job, job_id, at, world) && !is_of_that_moment(job, &act, id, at, world) {
            let what = format!("job {job_id} was ended with {id}, and no delivery of its start was lost unseen");
            self.violated("S1", at, what);
        }
    }

    /// A DELETE of ours took the registration from under a job, on an instance that nobody hears: whatever becomes of the
    /// job, nobody had told us of it.
    pub(super) fn deregistered_with(&mut self, job_id: u64, runner: &str, at: Millis, world: &World) {
        let Some((act, job)) = self.deletes.get(runner).zip(self.jobs.get(&job_id)) else { return };
        let logged = world.github.had_failed_by(act.begun_at - LOG_READ, job_id, "in_progress");
        if act.was_told_of(job_id, job) || act.unfounded || logged {
            let what = format!("{runner} was deregistered under job {job_id}, and that is not the documented loss");
            self.violated("S2", at, what);
        }
    }

    /// A call of ours that ends an instance is begun.
    pub(crate) fn termination_begins(&mut self, id: &str, act: Act) {
        self.terminations.insert(id.to_owned(), act);
    }

    /// GitHub showed these runners busy to a pass that came to its end.
    pub(crate) fn busy_shown(&mut self, runners: &[(u64, Millis)]) {
        for (id, at) in runners {
            self.busy_shown_at.insert(*id, *at);
        }
    }

    /// A DELETE of ours is begun.
    pub(crate) fn delete_begins(&mut self, runner: &str, act: Act) {
        self.deletes.insert(runner.to_owned(), act);
    }

    /// A job was cancelled by its listener because we had deleted its registration.
    pub(super) fn killed_by_delete(
        &mut self,
        job_id: u64,
        runner: &str,
        deleted_at: Millis,
        at: Millis,
        tally: &mut Tally,
    ) {
        tally.killed += 1;
        // Whether that was to be known is judged at the DELETE.
        let Some(job) = self.jobs.get(&job_id) else { return };
        let heard =
            instance_of(runner).and_then(|id| self.instances.get(id)).is_some_and(|own| own.is_heard(deleted_at));
        let what = format!("job {job_id} was cancelled: {runner} had been deregistered");
        if heard {
            self.violated("S2", at, what);
        } else if job.assigned_at.is_none_or(|assigned| assigned > deleted_at) {
            self.violated("S2", at, format!("{what}, and it was given the job after that"));
        }
    }

    /// When we deregistered the runner of an instance.
    pub(super) fn deregistered_at(&self, id: &str) -> Option<Millis> {
        self.deregistered.iter().find(|(runner, _)| instance_of(runner) == Some(id)).map(|(_, at)| *at)
    }
}

/// Whether GitHub shows the runner of an instance.
fn is_shown(id: &str, at: Millis, world: &World) -> bool {
    let runner = world.github.registrations().find(|runner| instance_of(&runner.name) == Some(id));
    runner.is_some_and(|runner| {
        world.github.trouble_of(runner.scope.owner(), at).is_none_or(|(trouble, _)| trouble == Trouble::RunnersReadOnly)
            && world.github.runner(&runner.scope, runner.id).is_some()
    })
}

/// Whether the delivery of a job's start takes longer than anybody waits for it: until it comes it is as good as lost, and
/// GitHub's log shows no failure (README, "What it does not promise").
fn is_told_late(job: &JobTruth, job_id: u64, at: Millis, world: &World) -> bool {
    let long_ago = job.assigned_at.is_some_and(|assigned_at| at - assigned_at >= QUARANTINE);
    let on_its_way = || {
        let mut pending = world.github.pending_deliveries();
        pending.any(|delivery| delivery.job_id == Some(job_id) && delivery.action == "in_progress")
    };
    long_ago && (job.start_known.is_some() || on_its_way())
}

/// The longest that a call takes to have its effect.
const CALL: Millis = 25 * SECOND;

/// Whether a job was given to a runner that GitHub hides, or hid from whoever ends its instance, and that we did not
/// deregister, while the call that ends it was on its way: what is told of the start comes too late (README, "What it does
/// not promise").
fn is_of_that_moment(job: &JobTruth, act: &Act, id: &str, at: Millis, world: &World) -> bool {
    let registered = world.github.registrations().any(|runner| instance_of(&runner.name) == Some(id));
    let just_given = job.assigned_at.is_some_and(|assigned_at| at - assigned_at < CALL);
    just_given && act.on_absence && registered && (act.absent || !is_shown(id, at, world))
}
