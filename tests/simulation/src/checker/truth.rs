//! Jobs, instances and our calls as they truly are.

use runner_scaler_world::Millis;
use runner_scaler_world::truth::Ending;
use runner_scaler_world::world::Flaw;

use crate::swarm::MINUTE;

/// A job as it truly is.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each with its own moment")]
pub struct JobTruth {
    /// When it was queued.
    pub queued_at: Millis,
    /// Since when it waits for a runner; none once it runs or is over.
    pub waits_since: Option<Millis>,
    /// The fleet that takes it, if one does.
    pub fleet: Option<String>,
    /// Whether its `queued` delivery was lost.
    pub silent: bool,
    /// When it was given to a runner.
    pub assigned_at: Option<Millis>,
    /// When its `in_progress` delivery was taken by us.
    pub start_known: Option<Millis>,
    /// Whether a delivery of its start or of its end was.
    pub heard_of: bool,
    /// Whether its `in_progress` delivery was lost.
    pub start_lost: bool,
    /// When it was over, if it is.
    pub over_at: Option<Millis>,
    /// Whether it was complained about.
    pub(super) reported: bool,
}

/// A call of ours that takes a runner or an instance away, when it was begun.
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent findings, each with its own source")]
pub(crate) struct Act {
    /// When.
    pub(super) begun_at: Millis,
    /// When GitHub last showed the runner busy to whoever makes the call, or to a pass before it.
    pub(super) busy_shown_at: Option<Millis>,
    /// Whether GitHub told whoever makes the call that there is no such runner.
    pub(super) absent: bool,
    /// Jobs that GitHub showed in progress to whoever makes the call.
    pub(super) in_progress: Vec<u64>,
    /// Whether the ground is that its registration was not seen for half an hour.
    pub(super) on_absence: bool,
    /// Whether the instance itself had told of a worker, and of none to be gone, when the invocation began.
    pub(super) told_by_sign: bool,
    /// Whether its ground did not hold by what truly happened (S8): no loss by it is a documented one.
    pub(super) unfounded: bool,
}

impl Act {
    /// Whether we had been told of a job: by GitHub, of itself or that the runner to which it had been given by then is
    /// busy, or by its instance.
    pub(super) fn was_told_of(&self, job_id: u64, job: &JobTruth) -> bool {
        let busy = self.busy_shown_at.zip(job.assigned_at).is_some_and(|(shown_at, given_at)| given_at <= shown_at);
        busy || self.told_by_sign
            || self.in_progress.contains(&job_id)
            || job.start_known.is_some_and(|known| known < self.begun_at)
    }
}

/// An instance as it truly is.
#[derive(Debug, Clone)]
pub struct InstanceTruth {
    /// Its fleet.
    pub fleet: String,
    /// Where its runner registers.
    pub owner: String,
    /// The launch that it came from.
    pub launch: String,
    /// When.
    pub launched_at: Millis,
    /// The runner that was registered for it.
    pub runner_id: Option<u64>,
    /// Whether it ever was given a job.
    pub used: bool,
    /// The last job that ran on it.
    pub last_job: Option<u64>,
    /// The job that runs.
    pub job: Option<u64>,
    /// Since when it does nothing.
    pub idle_since: Millis,
    /// When it began to end.
    pub ended_at: Option<Millis>,
    /// Until when nobody outside hears a supervisor of it: that of one that is dead for ever, that of one that was cut off
    /// from AWS until it is back; not known before it boots.
    pub unheard_until: Millis,
    /// When a listener of it first connected.
    pub connected_at: Option<Millis>,
    /// How it ended, where it did.
    pub ending: Option<Ending>,
    /// What is wrong with it.
    pub flaw: Flaw,
    pub(super) reported: bool,
}

/// After it was cut off a supervisor is heard again within so long: signs get lost, and a pass reads before it acts.
const HEARD_AGAIN: Millis = 15 * MINUTE;

impl InstanceTruth {
    /// From when on its supervisor is heard again, of one that was cut off; 0 where it always was.
    #[must_use]
    pub fn heard_since(&self) -> Millis {
        if self.unheard_until == 0 { 0 } else { self.unheard_until.saturating_add(HEARD_AGAIN) }
    }

    /// Whether a supervisor lives on it that everybody could hear by then.
    #[must_use]
    pub fn is_heard(&self, at: Millis) -> bool {
        self.heard_since() <= at
    }
}

/// Whether a fleet of the simulation takes a job of these labels.
pub(super) fn takes(fleet: &str, labels: &[String]) -> bool {
    labels.iter().all(|label| label.eq_ignore_ascii_case("self-hosted") || label.eq_ignore_ascii_case(fleet))
}
