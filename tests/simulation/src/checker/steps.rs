//! What must hold at a step: S3 at an acknowledgement, S5 at a look-up, S6, S8 and S11 at an act, S7 and S10 at a write.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use runner_scaler_core::ids::{Access, JobId};
use runner_scaler_core::ledger::{InstanceRecord, Origin};
use runner_scaler_core::ports::{Expect, JitRequest, Key, Kind, Write};
use runner_scaler_core::removal::{DeregistrationGround, Ground};
use runner_scaler_core::scale_up::Outcome;
use runner_scaler_core::time::Timestamp;
use runner_scaler_world::Millis;
use runner_scaler_world::github::JobState;
use serde::Deserialize;
use serde_json::Value;

use super::{Act, QUARANTINE};
use crate::aws::Message;
use crate::lambda::TaskId;
use crate::log::Line;
use crate::sim::Sim;
use crate::swarm::{HOUR, SECOND};

/// Parts of what must never be written: the webhook's secrets, and how every JIT configuration begins (`{".runner`).
static SECRETS: LazyLock<[Finder; 3]> =
    LazyLock::new(|| ["secret of the simulation", "eyIucnVubmVy", "ghs_"].map(Finder::new));
/// Where a record says until when somebody has what it is about.
static LEASE: LazyLock<Finder> = LazyLock::new(|| Finder::new("\"lease_until\":"));

/// The shortest times that every act waits for (design section 5), which no fleet here changes.
const IDLE_WINDOW: Millis = 300 * SECOND;
const COMPLETED_GRACE: Millis = 900 * SECOND;
const BOOT_GRACE: Millis = 900 * SECOND;
const GONE_GRACE: Millis = 1_800 * SECOND;
/// So long a supervisor may say nothing.
const SILENCE: Millis = 600 * SECOND;
/// A waiting job is looked at again within this.
const LOOK_WITHIN: Millis = HOUR;
/// GitHub's limit for a job, and two hours (ARCHITECTURE, row 2).
pub(super) const HARD_AGE: Millis = (5 * 24 + 2) * HOUR;
/// The longest pass.
const PASS: Millis = 240 * SECOND;
/// Leases last minutes.
const LEASE_MAX: Millis = HOUR;

impl Sim {
    /// S3: whoever acknowledges a message of a job that GitHub has queued has left a record with a time to look again,
    /// or was told that the job is not queued.
    pub(crate) fn check_acknowledged(&mut self, message: &Message, outcome: &Outcome, not_queued: &[u64]) {
        let job = message.job_id;
        let waits = self
            .world
            .github
            .job(job)
            .is_some_and(|job| matches!(job.state, JobState::Queued { .. } | JobState::Assigned { .. }));
        if !waits || not_queued.contains(&job) {
            return;
        }
        if matches!(outcome, Outcome::NotQueued) {
            let what = format!("the message of job {job} was acknowledged as not queued, which nobody had said");
            self.checker.violated("S3", self.now, what);
        }
        if let Some(what) = self.unknown(job) {
            let what = format!("the message of job {job} was acknowledged ({outcome:?}) and {what}");
            self.checker.violated("S3", self.now, what);
        }
    }

    /// S3: whoever tells GitHub that a delivery of a queued job was taken has sent a message for it, or has left a record
    /// with a time to look again.
    pub(crate) fn check_taken(&mut self, delivery_id: u64, status: Option<u16>) {
        if !matches!(status, Some(200..=299)) {
            return;
        }
        let mut pending = self.world.github.pending_deliveries();
        let taken = pending.find(|delivery| delivery.id == delivery_id && delivery.action == "queued");
        let Some(job) = taken.and_then(|delivery| delivery.job_id) else { return };
        let ours =
            self.checker.jobs.get(&job).is_some_and(|truth| truth.fleet.is_some() && truth.waits_since.is_some());
        let sent = || self.aws.queue.messages.values().any(|message| message.job_id == job);
        if !ours || sent() {
            return;
        }
        if let Some(what) = self.unknown(job) {
            let what = format!("the delivery of job {job} was taken ({status:?}), no message is sent and {what}");
            self.checker.violated("S3", self.now, what);
        }
    }

    /// What is missing of a record that brings somebody back to a job that waits; none where nothing is.
    fn unknown(&self, job: u64) -> Option<&'static str> {
        let key = Key { kind: Kind::Job, id: JobId(job).to_string() };
        let item = self.aws.ledger.item(&key);
        let looked_at = item.and_then(|item| item.open.as_ref()).map(|(_, at)| at.0);
        // Who was told of a start or an end that GitHub took back since finds the job by looking.
        let told = self.checker.jobs.get(&job).is_some_and(|job| job.heard_of);
        match (item, looked_at) {
            (None, _) => Some("nothing knows of the job"),
            (Some(_), None) if !told => Some("nobody is going to look at the job again"),
            (Some(_), Some(at)) if !told && at > self.now + LOOK_WITHIN => Some("the job is looked at again too late"),
            (Some(_), _) => None,
        }
    }

    /// S6: whose instance a call would change.
    pub(crate) fn check_foreign(&mut self, id: &str, operation: &str) {
        let foreign = self
            .world
            .ec2
            .instance(id)
            .is_some_and(|instance| instance.origin == runner_scaler_world::ec2::Origin::Foreign);
        if foreign {
            let what = format!("{operation} of {id}, which is somebody else's");
            self.checker.violated("S6", self.now, what);
        }
    }

    /// S8: what is ended has its intent and its ground in the ledger, when the call is begun: while it is on its way others
    /// write what they see.
    pub(crate) fn check_termination(&mut self, task: TaskId, id: &str, ground: Ground) {
        let mut act = self.act(task, id);
        self.check_leave(task, "TerminateInstances");
        if ground != Ground::HardAge {
            self.check_spoken(task, id, "ended");
        }
        if act.told_by_sign && !matches!(ground, Ground::HardAge | Ground::Stopped) {
            let what = format!("{id} is ended on the ground {ground:?}, and its last word was that there is a worker");
            self.checker.violated("S9", self.now, what);
        }
        // That a registration is gone, whoever took it away, has to be said by a GitHub that answers.
        let began_at = self.began_at(task);
        let owner = self.checker.instances.get(id).map(|instance| instance.owner.clone()).unwrap_or_default();
        let needs_an_answer = matches!(ground, Ground::RegistrationGone | Ground::IdleAfterDeregistration);
        let unanswered = needs_an_answer && self.is_silent_since(&owner, began_at);
        if unanswered {
            let what = format!("{id} is ended on the ground {ground:?} by a pass that GitHub told nothing of runners");
            self.checker.violated("S8", self.now, what);
        }
        let record = self.record_of(id);
        let record = record.as_ref();
        let is_due = match ground {
            Ground::IdleAfterDeregistration => self.waited(record.and_then(|r| r.deregistered_at), QUARANTINE),
            Ground::RegistrationGone => self.waited(record.and_then(|r| Some(r.absent?.since)), GONE_GRACE),
            Ground::JobCompleted => {
                self.waited(record.and_then(|r| Some(r.job_completed.as_ref()?.at)), COMPLETED_GRACE)
            }
            Ground::NeverConnected => self.waited(record.map(|r| r.launched_at), BOOT_GRACE),
            Ground::Stopped | Ground::HardAge => true,
        };
        let is_due = is_due && self.is_truly_due(id, ground);
        act.on_absence = ground == Ground::RegistrationGone;
        act.unfounded = unanswered || !is_due;
        self.checker.termination_begins(id, act);
        if !is_due {
            let what = format!("{id} is ended on the ground {ground:?} before its time was over");
            self.checker.violated("S8", self.now, what);
        }
        let stored = record.and_then(|record| record.terminate_intent);
        if stored.is_none_or(|intent| intent.ground != ground) {
            let what = format!("{id} is ended on the ground {ground:?}, and the ledger has {stored:?}");
            self.checker.violated("S8", self.now, what);
        }
    }

    /// S8: what is deregistered has its intent in the ledger, when the call is begun.
    pub(crate) fn check_deregistration(&mut self, task: TaskId, runner_id: u64) {
        self.check_leave(task, "DELETE");
        if self.checker.runners_of_others.contains(&runner_id) {
            self.checker.violated(
                "S6",
                self.now,
                format!("runner {runner_id} is deregistered, which is somebody else's"),
            );
        }
        let name = self.world.github.registration(runner_id).map(|r| r.name.clone());
        let Some((name, id)) = name.as_deref().and_then(|name| Some((name, super::instance_of(name)?))) else { return };
        let mut act = self.act(task, id);
        let record = self.record_of(id);
        let record = record.as_ref();
        self.check_spoken(task, id, "deregistered");
        let ground = record.and_then(|r| r.deregister_intent).map(|intent| intent.ground);
        // One that belongs to a closed record is deleted on that record's word.
        let gone = record.is_some_and(|record| record.gone_at.is_some());
        let nothing_works = matches!(ground, Some(DeregistrationGround::Stopped | DeregistrationGround::InstanceGone));
        if act.told_by_sign && !nothing_works && !gone {
            let what =
                format!("{id} is deregistered on the ground {ground:?}, and its last word was that there is a worker");
            self.checker.violated("S9", self.now, what);
        }
        let is_due = match ground {
            Some(DeregistrationGround::Idle) => self.waited(record.and_then(|r| r.idle_since), IDLE_WINDOW),
            Some(DeregistrationGround::Offline) => self.waited(record.and_then(|r| Some(r.offline?.since)), GONE_GRACE),
            Some(
                DeregistrationGround::JobCompleted
                | DeregistrationGround::NeverConnected
                | DeregistrationGround::Stopped
                | DeregistrationGround::InstanceGone,
            )
            | None => true,
        };
        let has_ended = || self.checker.instances.get(id).is_none_or(|own| own.ended_at.is_some());
        let is_due = is_due
            && match ground {
                Some(ground) => self.is_truly_due_to_deregister(task, id, ground),
                None => has_ended(),
            };
        act.unfounded = !is_due;
        self.checker.delete_begins(name, act);
        if !is_due {
            let what = format!("{id} is deregistered on the ground {ground:?} before its time was over");
            self.checker.violated("S8", self.now, what);
        }
        if ground.is_none() && !gone {
            let what = format!("the runner of {id} is deregistered without an intent in the ledger");
            self.checker.violated("S8", self.now, what);
        }
    }

    /// What is known of a runner when whoever makes a call about it begins that.
    fn act(&self, task: TaskId, id: &str) -> Act {
        let instance = self.checker.instances.get(id);
        let runner_id = instance.and_then(|instance| instance.runner_id);
        let invocation = self.invocations.get(task.place).and_then(Option::as_ref);
        let read = invocation.into_iter().flat_map(|own| &own.busy).filter(|(id, _)| Some(*id) == runner_id);
        let before = runner_id.and_then(|id| self.checker.busy_shown_at.get(&id));
        Act {
            begun_at: self.now,
            busy_shown_at: read.map(|(_, at)| *at).chain(before.copied()).max(),
            absent: invocation.zip(runner_id).is_some_and(|(own, id)| own.absent.contains(&id)),
            in_progress: invocation.map(|own| own.in_progress.clone()).unwrap_or_default(),
            told_by_sign: self.checker.workers.get(id).is_some_and(|at| *at < self.began_at(task)),
            on_absence: false,
            unfounded: false,
        }
    }

    /// Whether the time of an act is over by what truly happened, whatever a record says of it.
    fn is_truly_due(&self, id: &str, ground: Ground) -> bool {
        let Some(instance) = self.checker.instances.get(id) else { return true };
        let passed = |since: Millis, wait: Millis| since + wait <= self.now;
        match ground {
            // A registration that went without us, or by a call whose answer was lost, is no DELETE of the world's.
            Ground::IdleAfterDeregistration => {
                self.checker.deregistered_at(id).is_none_or(|deleted_at| passed(deleted_at, QUARANTINE))
            }
            Ground::RegistrationGone => passed(instance.launched_at, GONE_GRACE),
            Ground::JobCompleted => {
                self.checker.last_job_over_at(instance).is_some_and(|over_at| passed(over_at, COMPLETED_GRACE))
            }
            // One that connected while its DELETE was on its way is documented.
            Ground::NeverConnected => {
                let deleted_at = self.checker.deregistered_at(id).unwrap_or(Millis::MAX);
                passed(instance.launched_at, BOOT_GRACE)
                    && instance.connected_at.is_none_or(|at| at > deleted_at - PASS)
            }
            Ground::HardAge => passed(instance.launched_at, HARD_AGE),
            Ground::Stopped => self.was_stopped_for(id, COMPLETED_GRACE),
        }
    }

    /// The same of a DELETE.
    fn is_truly_due_to_deregister(&self, task: TaskId, id: &str, ground: DeregistrationGround) -> bool {
        let Some(instance) = self.checker.instances.get(id) else { return true };
        let passed = |since: Millis, wait: Millis| since + wait <= self.now;
        match ground {
            DeregistrationGround::Idle => passed(instance.idle_since, IDLE_WINDOW),
            DeregistrationGround::Offline => passed(instance.launched_at, GONE_GRACE),
            DeregistrationGround::JobCompleted => {
                self.checker.last_job_over_at(instance).is_some_and(|over_at| passed(over_at, COMPLETED_GRACE))
            }
            DeregistrationGround::NeverConnected => {
                let began_at = self.began_at(task);
                passed(instance.launched_at, BOOT_GRACE) && instance.connected_at.is_none_or(|at| at >= began_at)
            }
            DeregistrationGround::Stopped => self.was_stopped_for(id, COMPLETED_GRACE),
            DeregistrationGround::InstanceGone => instance.ended_at.is_some(),
        }
    }

    /// Whether a time in a record is there and lies so far back.
    fn waited(&self, since: Option<Timestamp>, wait: Millis) -> bool {
        since.is_some_and(|at| at.0 + wait <= self.now)
    }

    /// S8: only whom the kill switch permits it and the mode does not forbid it ends anything.
    pub(crate) fn check_leave(&mut self, task: TaskId, what: &str) {
        let invocation = self.invocations.get(task.place).and_then(Option::as_ref);
        let without = invocation.filter(|invocation| invocation.forbidden || !invocation.permitted);
        if let Some(name) = without.map(|invocation| invocation.function.name()) {
            self.checker.violated("S8", self.now, format!("{what} by {name}, which kill switch or mode forbid"));
        }
    }

    pub(super) fn began_at(&self, task: TaskId) -> Millis {
        self.invocations.get(task.place).and_then(Option::as_ref).map_or(self.now, |invocation| invocation.began_at)
    }

    /// S9: what an instance says of itself keeps it, whatever others write in its name.
    fn check_spoken(&mut self, task: TaskId, id: &str, what: &str) {
        let began_at = self.began_at(task);
        let Some(spoke_at) = self.hosts.spoke_before(id, began_at).filter(|at| self.now - at < SILENCE) else { return };
        // A job that writes over the sign of its own instance, the only one that it can reach, makes that look dead.
        let silenced = self.checker.forged_signs.get(id).is_some_and(|at| *at >= spoke_at);
        if !silenced {
            let ago = (self.now - spoke_at) / SECOND;
            self.checker.violated("S9", self.now, format!("{id} is {what}, whose supervisor spoke {ago} s ago"));
            // Supervisor or not: of this job its instance had told.
            if what == "ended" && self.checker.runs_a_job(id) {
                self.checker.violated("S1", self.now, format!("{id} is {what} with a job, and spoke {ago} s ago"));
            }
        }
    }

    /// S7: what others can read holds no secret.
    pub(crate) fn check_text(&mut self, what: &str, text: &str) {
        if is_secret(text) {
            self.checker.violated("S7", self.now, format!("{what} holds a secret: {text}"));
        }
    }

    /// What the ledger has of an instance.
    fn record_of(&self, id: &str) -> Option<InstanceRecord> {
        let key = Key { kind: Kind::Instance, id: id.to_owned() };
        self.aws.ledger.item(&key)?.body.parse().ok()
    }

    /// S11: a runner registers where and as what its instance was launched for.
    pub(crate) fn check_registration(&mut self, access: &Access, request: &JitRequest) {
        let id = super::instance_of(request.name.as_str()).unwrap_or_default().to_owned();
        // Written before the call: else a process that dies now leaves a registration that nobody has to look for (L3).
        if self.record_of(&id).is_none_or(|record| record.jit_intent_at.is_none()) {
            let what = format!("{id} registers, and the ledger has no intent to");
            self.checker.violated("L3", self.now, what);
        }
        let launched = self.checker.instances.get(&id);
        let right = launched.is_some_and(|launched| {
            let fleet = self.policy.fleets.iter().find(|fleet| fleet.name.as_str() == launched.fleet);
            fleet.is_some_and(|fleet| {
                fleet.labels == request.labels
                    && fleet.runner_group_id == request.runner_group_id
                    && launched.owner == access.scope.to_string()
            })
        });
        if !right {
            let what = format!("{id} registers as {request:?} at {}, launched as {launched:?}", access.scope);
            self.checker.violated("S11", self.now, what);
        }
    }

    /// S10: nobody writes as if a write of its own that failed had succeeded.
    pub(crate) fn check_writes(&mut self, writes: &[Write]) {
        for write in writes {
            let stored = self.aws.ledger.item(&write.item.key).map(|item| item.version);
            if let (Expect::Version(expected), Some(version)) = (write.expect, stored)
                && expected > version
            {
                let what = format!("{} is written as if it had version {expected}, it has {version}", write.item.key);
                self.checker.violated("S10", self.now, what);
            }
            // What has expired is deleted at times, and an invocation may have read it before.
            let deleted = self.aws.ledger.was_forgotten(&write.item.key);
            if let (Expect::Version(expected), None) = (write.expect, stored)
                && !deleted
            {
                let what = format!("{} is written as if it had version {expected}, there is none", write.item.key);
                self.checker.violated("S10", self.now, what);
            }
        }
    }

    /// S7: what was logged holds no secret.
    pub(crate) fn check_line(&mut self, line: &Line) {
        let Line { message, fields } = line;
        // A signature, or what it should have been, is as good as the secret to whoever may send the same body again.
        if is_secret(message) || is_secret(fields) || message.contains("sha256=") || fields.contains("sha256=") {
            self.checker.violated("S7", self.now, format!("a secret was logged: {message}{fields}"));
        }
    }

    /// S7: what was written holds no secret.
    pub(crate) fn note_writes(&mut self, writes: &[Write]) {
        for write in writes {
            let Key { kind, id } = &write.item.key;
            if is_secret(write.item.body.as_str()) {
                self.checker.violated("S7", self.now, format!("{} holds a secret", write.item.key));
            }
            if let Some(until) = lease_in(write.item.body.as_str()).filter(|until| *until > self.now + LEASE_MAX) {
                let what = format!("{} is claimed until {until}, for longer than any lease lasts", write.item.key);
                self.checker.violated("L8", self.now, what);
            }
            if *kind == Kind::Instance && write.item.version == 1 {
                // Read as what it is: the table hands what was read to whoever reads the record next.
                let record = write.item.body.parse::<InstanceRecord>();
                if record.is_ok_and(|record| matches!(record.origin, Origin::Rebuilt { .. })) {
                    self.checker.rebuilt(id);
                }
            }
            if self.timeline.is_kept() {
                let (key, version) = (&write.item.key, write.item.version);
                let phase = serde_json::from_str::<Phase>(write.item.body.as_str());
                let phase = phase.map(|record| record.phase.to_string()).unwrap_or_default();
                self.timeline.note(self.now, || format!("    writes {key} v{version} {phase}"));
            }
        }
    }
}

/// What the timeline shows of a record.
#[derive(Deserialize)]
struct Phase {
    phase: Value,
}

/// Until when somebody has what a record is about, where it says so.
fn lease_in(body: &str) -> Option<Millis> {
    let rest = body.get(LEASE.find(body.as_bytes())? + LEASE.needle().len()..)?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

fn is_secret(text: &str) -> bool {
    SECRETS.iter().any(|secret| secret.find(text.as_bytes()).is_some())
}
