//! What we remember of one instance, and of events that came before its record.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Record, closed_until};
use crate::ids::{Access, FleetName, InstanceId, JobId, LaunchToken, Repository, RunnerId, RunnerName, Scope};
use crate::ports::{Kind, OpenPartition};
use crate::removal::{DeregistrationGround, Ground};
use crate::time::Timestamp;

/// Where a record comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Scale-up wrote it when it launched the instance: a missing field is *absent*.
    Launch,
    /// A sweep made it of what EC2 showed: a missing field is *unread*.
    Rebuilt {
        /// When. Whatever happened earlier may be unknown.
        at: Timestamp,
    },
}

/// A field that is missing on a rebuilt record was not read; on a launched one it never happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known<T> {
    /// Nobody can say.
    Unread,
    /// It did not happen.
    Absent,
    /// It happened.
    Is(T),
}

/// A job started on the instance; sticky.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStarted {
    /// The job.
    pub job_id: JobId,
    /// Its repository, to ask the jobs API.
    pub repository: Repository,
    /// When we learned of it.
    pub at: Timestamp,
    /// The runner that the event named. `None`: bound by the runner's name alone, which anyone may give a runner of
    /// theirs, so it can veto and nothing else.
    pub runner_id: Option<RunnerId>,
}

/// The job that had started has ended, as GitHub says of the very same runner id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobCompleted {
    /// The job.
    pub job_id: JobId,
    /// When we learned of it; the grace counts from here, so that neither clock can shorten it.
    pub at: Timestamp,
}

/// A completion whose instance is not certain yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletionClaim {
    /// The job and when.
    pub completed: JobCompleted,
    /// The runner that the event named.
    pub runner_id: RunnerId,
}

/// How a DELETE of ours ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeregistrationOutcome {
    /// GitHub answered 204.
    Confirmed,
    /// The answer was lost and the registration is not found since. Our DELETE may have done it, or an assignment that
    /// consumed the registration, so it is waited upon longer.
    Unconfirmed,
}

/// An act that was decided and stored before it was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovalIntent<G> {
    /// When.
    pub at: Timestamp,
    /// On what ground.
    pub ground: G,
}

/// An unbroken row of readings that say the same, counted by the orphan-sweeper's passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spell {
    /// The first of them.
    pub since: Timestamp,
    /// The last of them.
    pub last: Timestamp,
    /// How many.
    pub sweeps: u32,
}

impl Spell {
    /// An absence counts after three sweeps (design section 5, `gone_grace_seconds`). Fewer, and two unlucky listings
    /// decide; more, and nothing is won, for `gone_grace` must pass besides.
    pub const SWEEPS: u32 = 3;

    /// Readings further apart are two rows: nobody knows what was in between. Shorter, and where the caps of a pass put
    /// instances off for some sweeps, or sweeps are rare, their rows begin anew in vain; longer, and two moments a
    /// working day apart count as one absence.
    pub const GAP: Duration = Duration::from_hours(2);

    /// The spell after one more reading at `now`.
    #[must_use]
    pub fn extended(spell: Option<Self>, now: Timestamp) -> Self {
        match spell {
            Some(spell) if now.since(spell.last) < Self::GAP => {
                Self { last: now, sweeps: spell.sweeps.saturating_add(1), ..spell }
            }
            Some(_) | None => Self { since: now, last: now, sweeps: 1 },
        }
    }
}

/// The jobs API showed the job that started here queued again, or on another runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// The job.
    pub job_id: JobId,
    /// When it was first shown so.
    pub since: Timestamp,
}

/// Jobs remembered besides the one that started, and jobs that ended. An ephemeral runner has one job; each of these keeps the instance, so
/// that more than a few say nothing new.
const BESIDES_MAX: usize = 8;

/// What we remember of one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceRecord {
    /// The instance.
    pub instance_id: InstanceId,
    /// Where the record comes from.
    pub origin: Origin,
    /// Where its runner registers.
    pub access: Access,
    /// Its fleet.
    pub fleet: FleetName,
    /// Its launch.
    pub launch_token: Option<LaunchToken>,
    /// Its runner's name.
    pub runner_name: RunnerName,
    /// When EC2 launched it, or we learned of it.
    pub launched_at: Timestamp,
    /// Written **before** generate-jitconfig is called: without it no configuration can exist.
    pub jit_intent_at: Option<Timestamp>,
    /// Its runner's id.
    pub runner_id: Option<RunnerId>,
    /// The configuration lies in, or went through, SSM.
    pub handed_over_at: Option<Timestamp>,
    /// When it was found that its configuration is lost, so that it is no use to any job.
    #[serde(default)]
    pub lost_at: Option<Timestamp>,
    /// How long the instance may stay idle by the configuration it was launched with, in seconds; that may say less by
    /// now, and a job may have started as late as it then allowed.
    #[serde(default)]
    pub idle_maximum_seconds: Option<u64>,
    /// When the search for the job of a busy runner last found none, or could not be made (row 17).
    #[serde(default)]
    pub sought_at: Option<Timestamp>,
    /// A job started; sticky.
    pub job_started: Option<JobStarted>,
    /// Other jobs that started on this very runner before that one was known to have ended.
    #[serde(default)]
    pub started_besides: Vec<JobStarted>,
    /// That job ended.
    pub job_completed: Option<JobCompleted>,
    /// Every job that is known to have ended on this very runner: its end may come before its start, and its start again
    /// long after.
    #[serde(default)]
    pub ended: Vec<JobCompleted>,
    /// A job is said to have ended here, and its start or the runner's id is not known yet.
    pub completion_claim: Option<CompletionClaim>,
    /// GitHub showed it busy, or refused a DELETE with 422, and no job is known; sticky.
    pub busy_seen_at: Option<Timestamp>,
    /// First of an unbroken row of idle readings.
    pub idle_since: Option<Timestamp>,
    /// The last of them.
    #[serde(default)]
    pub idle_seen_at: Option<Timestamp>,
    /// First drain request.
    pub drain_requested_at: Option<Timestamp>,
    /// Written before DELETE.
    pub deregister_intent: Option<RemovalIntent<DeregistrationGround>>,
    /// When the DELETE was answered 204, or found to have taken effect.
    pub deregistered_at: Option<Timestamp>,
    /// How sure that is.
    pub deregistration: Option<DeregistrationOutcome>,
    /// Written before TerminateInstances.
    pub terminate_intent: Option<RemovalIntent<Ground>>,
    /// First complete listing of a row without sighting that did not show the instance.
    pub missing_since: Option<Timestamp>,
    /// First of that row that was begun at least 5 min after that one, and so after any sighting: the first of the two
    /// that prove it gone.
    #[serde(default)]
    pub missing_counted_at: Option<Timestamp>,
    /// Its registration is not found, and it was not us.
    #[serde(default)]
    pub absent: Option<Spell>,
    /// Its runner is offline and has been online before.
    #[serde(default)]
    pub offline: Option<Spell>,
    /// EC2 shows it as stopped, since then.
    #[serde(default)]
    pub stopped_since: Option<Timestamp>,
    /// The job that started here is said to be somewhere else.
    #[serde(default)]
    pub elsewhere: Option<Elsewhere>,
    /// EC2 refused to end it because it is protected.
    #[serde(default)]
    pub protected_at: Option<Timestamp>,
    /// Proof of gone; the record is closed.
    pub gone_at: Option<Timestamp>,
    /// What the instance left at GitHub and SSM has been taken away, or needs no taking.
    pub cleaned_at: Option<Timestamp>,
}

impl InstanceRecord {
    /// A record of an instance just launched.
    #[must_use]
    pub fn launched(
        instance_id: InstanceId,
        access: Access,
        fleet: FleetName,
        launch_token: LaunchToken,
        runner_name: RunnerName,
        launched_at: Timestamp,
    ) -> Self {
        Self {
            instance_id,
            origin: Origin::Launch,
            access,
            fleet,
            launch_token: Some(launch_token),
            runner_name,
            launched_at,
            jit_intent_at: None,
            runner_id: None,
            handed_over_at: None,
            lost_at: None,
            idle_maximum_seconds: None,
            sought_at: None,
            job_started: None,
            started_besides: Vec::new(),
            job_completed: None,
            ended: Vec::new(),
            completion_claim: None,
            busy_seen_at: None,
            idle_since: None,
            idle_seen_at: None,
            drain_requested_at: None,
            deregister_intent: None,
            deregistered_at: None,
            deregistration: None,
            terminate_intent: None,
            missing_since: None,
            missing_counted_at: None,
            absent: None,
            offline: None,
            stopped_since: None,
            elsewhere: None,
            protected_at: None,
            gone_at: None,
            cleaned_at: None,
        }
    }

    /// The intent to generate a configuration, honest about rebuilt records.
    #[must_use]
    pub fn jit_intent(&self) -> Known<Timestamp> {
        match (self.jit_intent_at, self.origin) {
            (Some(at), _) => Known::Is(at),
            (None, Origin::Launch) => Known::Absent,
            (None, Origin::Rebuilt { .. }) => Known::Unread,
        }
    }

    /// Marks a record as rebuilt that a restored ledger brought back: it was launched before `epoch`, the time of the
    /// restore, and what happened to it between backup and restore is unread (design section 4). Rows of readings from
    /// before are broken.
    #[must_use]
    pub fn seen_from(mut self, epoch: Option<Timestamp>) -> Self {
        let restored = |epoch: &Timestamp| match self.origin {
            Origin::Launch => self.launched_at < *epoch,
            Origin::Rebuilt { at } => at < *epoch,
        };
        if let Some(epoch) = epoch.filter(restored) {
            self.origin = Origin::Rebuilt { at: epoch };
            // How it was proved gone is part of what that proof is worth.
            if self.gone_at.is_none() {
                self.missing_since = None;
                self.missing_counted_at = None;
            }
            self.stopped_since = None;
            self.elsewhere = None;
            self.break_rows();
        }
        self
    }

    /// Takes in that its configuration is lost.
    pub fn note_lost(&mut self, now: Timestamp) {
        self.lost_at.get_or_insert(now);
    }

    /// Takes in that GitHub showed its runner busy, as of when it was asked: that is remembered for good, and breaks the
    /// row of idle readings. Always a change.
    pub fn note_busy(&mut self, asked_at: Timestamp) -> bool {
        self.busy_seen_at = self.busy_seen_at.max(Some(asked_at));
        self.break_rows();
        true
    }

    /// Takes in the same, read for another purpose, where no job is known: a sighting after the end of one that is would
    /// keep the instance. Returns whether the record changed.
    pub fn note_busy_if_news(&mut self, asked_at: Timestamp) -> bool {
        self.lacks_job() && self.note_busy(asked_at)
    }

    /// Whether nothing says that a job came or ended.
    #[must_use]
    pub fn lacks_job(&self) -> bool {
        !self.has_job_evidence() && self.job_completed.is_none()
    }

    /// Ends the rows of readings that say that nobody uses the instance: something else was seen.
    pub fn break_rows(&mut self) {
        self.absent = None;
        self.offline = None;
        self.idle_since = None;
        self.idle_seen_at = None;
    }

    /// Takes in an idle reading; one long after the last begins a new row.
    pub fn note_idle(&mut self, now: Timestamp) {
        if self.idle_seen_at.is_none_or(|last| now.since(last) >= Spell::GAP) {
            self.idle_since = None;
        }
        self.idle_since.get_or_insert(now);
        self.idle_seen_at = Some(now);
    }

    /// The job that GitHub's jobs API is to be asked about: the one that started here, or is said to have ended here.
    #[must_use]
    pub fn job_in_question(&self) -> Option<JobId> {
        let started = self.job_started.as_ref().map(|started| started.job_id);
        let claimed = || self.completion_claim.as_ref().map(|claim| claim.completed.job_id);
        let completed = || self.job_completed.as_ref().map(|completed| completed.job_id);
        started.or_else(claimed).or_else(completed)
    }

    /// Takes in that the jobs API says of the job in question that it ended on this very runner.
    pub fn complete(&mut self, job_id: JobId, now: Timestamp) {
        let completed = JobCompleted { job_id, at: now };
        self.note_ended(&completed);
        self.job_completed = Some(completed);
        self.completion_claim = self.completion_claim.take().filter(|claim| claim.completed.job_id != job_id);
        self.elsewhere = None;
        self.take_up_next();
    }

    /// Drops the job that started here, because the jobs API showed it elsewhere twice (row 10). That the runner was busy
    /// stays: nobody knows whether it was with this job.
    pub fn drop_job(&mut self) {
        let Some(elsewhere) = self.elsewhere.take() else { return };
        self.job_started = None;
        self.completion_claim = self.completion_claim.take().filter(|claim| claim.completed.job_id != elsewhere.job_id);
        self.break_rows();
        self.take_up_next();
    }

    /// Once the job that started here is over or elsewhere, another one that started here besides takes its place.
    fn take_up_next(&mut self) {
        let ended = &self.ended;
        self.started_besides.retain(|started| !ended.iter().any(|ended| ended.job_id == started.job_id));
        if !self.started_besides.is_empty() {
            self.job_started = Some(self.started_besides.remove(0));
            self.job_completed = None;
            self.settle_claim();
        }
    }

    /// Whether we took its runner or the instance itself away although no job of it was known to be over: then no job can
    /// have been there, or a promise is broken.
    #[must_use]
    pub fn was_taken_away(&self) -> bool {
        let ended = self.terminate_intent.as_ref().is_some_and(|intent| match intent.ground {
            Ground::IdleAfterDeregistration | Ground::NeverConnected | Ground::RegistrationGone => true,
            // Its age has an alarm of its own, and nothing executes on a stopped instance.
            Ground::JobCompleted | Ground::Stopped | Ground::HardAge => false,
        });
        let deregistered = self.deregister_intent.as_ref().is_some_and(|intent| match intent.ground {
            DeregistrationGround::Idle | DeregistrationGround::NeverConnected | DeregistrationGround::Offline => {
                self.deregistered_at.is_some()
            }
            DeregistrationGround::JobCompleted | DeregistrationGround::Stopped | DeregistrationGround::InstanceGone => {
                false
            }
        });
        ended || deregistered
    }

    /// Whether anything says that a job ever came.
    #[must_use]
    pub fn has_job_evidence(&self) -> bool {
        self.job_started.is_some() || self.busy_seen_at.is_some() || self.completion_claim.is_some()
    }

    /// Takes in that a job started. Evidence with a runner id replaces evidence by name alone, evidence of this runner's
    /// id replaces that of another, and another job on this very runner replaces one that had completed; nothing else
    /// replaces anything. A runner id that is not this record's belongs to another runner and changes nothing.
    ///
    /// Returns whether the record changed.
    pub fn note_started(&mut self, started: JobStarted) -> bool {
        let ours = |runner_id: Option<RunnerId>| runner_id.is_some() && runner_id == self.runner_id;
        if self.runner_id.is_some() && started.runner_id.is_some() && !ours(started.runner_id) {
            return false;
        }
        let over = self.ended.iter().any(|ended| ended.job_id == started.job_id);
        let current = self.job_started.as_ref().is_none_or(|known| known.job_id == started.job_id);
        if over && !current {
            return false;
        }
        let after_completion =
            self.job_completed.as_ref().is_some_and(|done| done.job_id != started.job_id) && ours(started.runner_id);
        let replaces = match &self.job_started {
            None => true,
            Some(known) if after_completion => known.job_id != started.job_id,
            Some(known) if ours(known.runner_id) => false,
            Some(known) => ours(started.runner_id) || (known.runner_id.is_none() && started.runner_id.is_some()),
        };
        if replaces {
            if after_completion {
                self.job_completed = None;
            }
            self.job_started = Some(started);
            self.settle_claim();
            return true;
        }
        let known = |known: &JobStarted| known.job_id == started.job_id;
        let besides = ours(started.runner_id)
            && !self.job_started.as_ref().is_some_and(known)
            && !self.started_besides.iter().any(known)
            && self.started_besides.len() < BESIDES_MAX;
        if besides {
            self.started_besides.push(started);
        }
        besides
    }

    /// Takes in that a job completed on a runner of that id. It counts only once the runner id is this record's and the
    /// same job is known to have started here (design section 4); until then it waits, for events come in any order.
    ///
    /// Returns whether the record changed.
    pub fn note_completed(&mut self, completed: JobCompleted, runner_id: RunnerId) -> bool {
        if self.runner_id.is_some_and(|own| own != runner_id) {
            return false;
        }
        let ended = self.runner_id.is_some() && self.note_ended(&completed);
        // A claim of a job that did not start here gives way to the job that did.
        let better = self.job_started.as_ref().is_some_and(|started| started.job_id == completed.job_id);
        let claimed = self.completion_claim.as_ref().is_some_and(|claim| claim.completed == completed || !better);
        let claims = self.job_completed.is_none() && !claimed;
        if claims {
            self.completion_claim = Some(CompletionClaim { completed, runner_id });
        }
        self.settle_claim();
        ended || claims
    }

    /// Remembers that a job ended on this very runner; returns whether that is news.
    fn note_ended(&mut self, completed: &JobCompleted) -> bool {
        let news = self.ended.len() < BESIDES_MAX && !self.ended.iter().any(|known| known.job_id == completed.job_id);
        if news {
            self.ended.push(completed.clone());
        }
        news
    }

    /// Takes in the id that GitHub gave this record's runner. What was read before there was one was not read of it.
    pub fn note_runner_id(&mut self, runner_id: RunnerId) {
        if self.runner_id != Some(runner_id) {
            self.break_rows();
        }
        self.runner_id = Some(runner_id);
        self.settle_claim();
    }

    fn settle_claim(&mut self) {
        if let (Some(own), Some(claim)) = (self.runner_id, self.completion_claim.clone()) {
            if own == claim.runner_id {
                self.note_ended(&claim.completed);
            } else {
                self.completion_claim = None;
            }
        }
        let started = self.job_started.as_ref().map(|started| started.job_id);
        let ended = self.ended.iter().find(|ended| Some(ended.job_id) == started).cloned();
        if let (None, Some(completed)) = (&self.job_completed, ended) {
            let other = |claim: &CompletionClaim| claim.completed.job_id != completed.job_id;
            self.completion_claim = self.completion_claim.take().filter(other);
            self.job_completed = Some(completed);
            self.take_up_next();
        }
    }
}

impl Record for InstanceRecord {
    const KIND: Kind = Kind::Instance;
    const SCHEMA: u32 = 1;

    fn id(&self) -> String {
        self.instance_id.to_string()
    }

    fn open(&self) -> Option<(OpenPartition, Timestamp)> {
        (self.gone_at.is_none() || self.cleaned_at.is_none()).then_some((OpenPartition::Instances, self.launched_at))
    }

    fn expires_at(&self) -> Option<Timestamp> {
        match (self.gone_at, self.cleaned_at) {
            (Some(gone), Some(cleaned)) => Some(closed_until(gone.max(cleaned))),
            (_, _) => None,
        }
    }
}

/// An `in_progress` or `completed` event that found no instance record yet; kept for 24 hours.
///
/// Scale-up reads it after it wrote the record, and the webhook reads the record again after it wrote this, so
/// whichever comes second sees the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrphanEvent {
    /// Scope of the event.
    pub scope: Scope,
    /// The runner that it names.
    pub runner_name: RunnerName,
    /// The job that started.
    pub started: Option<JobStarted>,
    /// The job that completed, with the runner id that the event named.
    pub completed: Option<CompletionClaim>,
    /// When it was written.
    pub at: Timestamp,
}

impl OrphanEvent {
    /// Its id: GitHub's names are unique within a scope only, and a scope's ignores case.
    #[must_use]
    pub fn id_of(scope: &Scope, runner_name: &RunnerName) -> String {
        format!("{}#{runner_name}", scope.to_string().to_ascii_lowercase())
    }

    /// Hands the event to the record it was waiting for. Returns whether the record changed.
    pub fn apply(&self, record: &mut InstanceRecord) -> bool {
        if !record.access.scope.agrees_with(&self.scope) || record.runner_name != self.runner_name {
            return false;
        }
        let started = self.started.clone().is_some_and(|started| record.note_started(started));
        let completed =
            self.completed.clone().is_some_and(|claim| record.note_completed(claim.completed, claim.runner_id));
        started || completed
    }
}

impl Record for OrphanEvent {
    const KIND: Kind = Kind::OrphanEvent;
    const SCHEMA: u32 = 1;

    fn id(&self) -> String {
        Self::id_of(&self.scope, &self.runner_name)
    }

    fn open(&self) -> Option<(OpenPartition, Timestamp)> {
        None
    }

    fn expires_at(&self) -> Option<Timestamp> {
        Some(self.at.plus(Duration::from_hours(24)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> InstanceRecord {
        let scope = Scope::Organization { owner: "octo".into() };
        let mut record = InstanceRecord::launched(
            InstanceId::new("i-1"),
            Access { scope, installation_id: None },
            FleetName::new("linux"),
            LaunchToken::new("t"),
            RunnerName::new("runner-i-1"),
            Timestamp(0),
        );
        record.note_runner_id(RunnerId(7));
        record
    }

    fn started(job: u64, runner: Option<u64>) -> JobStarted {
        JobStarted {
            job_id: JobId(job),
            repository: Repository::try_from("octo/hello".to_owned()).expect("a full name"),
            at: Timestamp(1),
            runner_id: runner.map(RunnerId),
        }
    }

    fn completed(job: u64) -> JobCompleted {
        JobCompleted { job_id: JobId(job), at: Timestamp(2) }
    }

    #[test]
    fn a_start_is_sticky_and_a_better_bound_one_replaces_a_name() {
        let mut record = record();
        assert!(!record.note_started(started(1, Some(8))), "another runner's job");
        assert!(record.note_started(started(1, None)));
        assert!(record.note_started(started(2, Some(7))), "bound by runner id");
        assert!(!record.note_started(started(3, None)), "by a name, which anyone may take");
        assert!(record.note_started(started(4, Some(7))), "on this very runner");
        assert!(!record.note_started(started(4, Some(7))), "again");
        assert_eq!(record.job_started.as_ref().map(|s| s.job_id), Some(JobId(2)));
        record.note_completed(completed(2), RunnerId(7));
        assert_eq!((record.job_started.as_ref().map(|s| s.job_id), &record.job_completed), (Some(JobId(4)), &None));
        record.note_completed(completed(4), RunnerId(7));
        assert_eq!(record.job_completed, Some(completed(4)));
    }

    #[test]
    fn a_start_on_another_runner_does_not_block_ours_and_a_second_job_here_reopens_the_record() {
        let mut forged = record();
        forged.runner_id = None;
        assert!(forged.note_started(started(9, Some(99))), "kept while nobody knows our id");
        forged.note_runner_id(RunnerId(7));
        assert!(forged.note_started(started(1, Some(7))), "ours takes its place");
        forged.note_completed(completed(1), RunnerId(7));
        assert_eq!(forged.job_completed, Some(completed(1)));

        assert!(!forged.note_started(started(1, Some(7))), "the same start again");
        assert!(forged.note_started(started(2, Some(7))), "another job on this runner");
        assert_eq!(forged.job_completed, None);
    }

    #[test]
    fn a_completion_needs_the_runner_id_and_the_job_that_started_in_any_order() {
        let mut in_order = record();
        in_order.note_started(started(1, Some(7)));
        assert!(in_order.note_completed(completed(1), RunnerId(7)));
        assert_eq!(in_order.job_completed, Some(completed(1)));

        let mut reversed = record();
        assert!(reversed.note_completed(completed(1), RunnerId(7)));
        assert_eq!(reversed.job_completed, None);
        assert!(reversed.has_job_evidence());
        reversed.note_started(started(1, Some(7)));
        assert_eq!(reversed.job_completed, Some(completed(1)));

        let mut other_job = record();
        other_job.note_started(started(1, Some(7)));
        other_job.note_completed(completed(2), RunnerId(7));
        assert_eq!(other_job.job_completed, None, "an old completion re-sent");

        let mut other_runner = record();
        other_runner.note_started(started(1, Some(7)));
        assert!(!other_runner.note_completed(completed(1), RunnerId(8)));
        assert_eq!(other_runner.job_completed, None);
    }

    #[test]
    fn a_completion_that_came_before_the_runner_id_waits_for_it() {
        let mut record = record();
        record.runner_id = None;
        record.note_started(started(1, Some(7)));
        record.note_completed(completed(1), RunnerId(7));
        assert_eq!(record.job_completed, None);
        record.note_runner_id(RunnerId(7));
        assert_eq!(record.job_completed, Some(completed(1)));
    }

    #[test]
    fn a_record_is_forgotten_only_when_its_instance_is_gone_and_cleaned_up() {
        let mut record = record();
        record.gone_at = Some(Timestamp(10));
        assert!(record.open().is_some() && record.expires_at().is_none());
        record.cleaned_at = Some(Timestamp(20));
        assert!(record.open().is_none() && record.expires_at().is_some());
    }
}
