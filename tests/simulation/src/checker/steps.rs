//! What must hold at a step: S3 at an acknowledgement, S5 at a look-up, S6, S8 and S11 at an act, S7 and S10 at a write.

use runner_scaler_core::ids::{Access, JobId};
use runner_scaler_core::ports::{Expect, JitRequest, Key, Kind, Write};
use runner_scaler_core::removal::Ground;
use runner_scaler_core::scale_up::Outcome;
use runner_scaler_world::github::JobState;
use serde_json::Value;

use crate::aws::Message;
use crate::sim::Sim;

/// Parts of what must never be written: the webhook's secrets, and how every JIT configuration begins (`{".runner`).
const SECRETS: [&str; 3] = ["secret of the simulation", "eyIucnVubmVy", "ghs_"];

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
        let key = Key { kind: Kind::Job, id: JobId(job).to_string() };
        if self.aws.ledger.item(&key).is_none() {
            let what = format!("the message of job {job} was acknowledged ({outcome:?}) and nothing knows of the job");
            self.checker.violated("S3", self.now, what);
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

    /// S8: what is ended has its intent and its ground in the ledger.
    pub(crate) fn check_termination(&mut self, id: &str, ground: Ground) {
        let stored = self.instance_field(id, "terminate_intent");
        let wanted = serde_json::to_value(ground).unwrap_or_default();
        if stored.as_ref().and_then(|intent| intent.get("ground")) != Some(&wanted) {
            let what = format!("{id} is ended on the ground {ground:?}, and the ledger has {stored:?}");
            self.checker.violated("S8", self.now, what);
        }
    }

    /// S8: what is deregistered has its intent in the ledger.
    pub(crate) fn check_deregistration(&mut self, runner_id: u64) {
        let name = self.world.github.registrations().find(|r| r.id == runner_id).map(|r| r.name.clone());
        let Some(id) = name.as_deref().and_then(super::instance_of) else { return };
        let known = self.instance_field(id, "deregister_intent").is_some_and(|intent| !intent.is_null());
        // One that belongs to a closed record is deleted on that record's word.
        let gone = self.instance_field(id, "gone_at").is_some_and(|at| !at.is_null());
        if !known && !gone {
            let what = format!("the runner of {id} is deregistered without an intent in the ledger");
            self.checker.violated("S8", self.now, what);
        }
    }

    fn instance_field(&self, id: &str, field: &str) -> Option<Value> {
        let key = Key { kind: Kind::Instance, id: id.to_owned() };
        super::field_of(&self.aws.ledger.item(&key)?.body, field)
    }

    /// S11: a runner registers where and as what its instance was launched for.
    pub(crate) fn check_registration(&mut self, access: &Access, request: &JitRequest) {
        let id = super::instance_of(request.name.as_str()).unwrap_or_default().to_owned();
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
        }
    }

    /// S7: what was logged holds no secret.
    pub(crate) fn check_line(&mut self, line: &str) {
        if is_secret(line) {
            self.checker.violated("S7", self.now, format!("a secret was logged: {line}"));
        }
    }

    /// S7: what was written holds no secret.
    pub(crate) fn note_writes(&mut self, writes: &[Write]) {
        for write in writes {
            let Key { kind, id } = &write.item.key;
            if is_secret(write.item.body.as_str()) {
                self.checker.violated("S7", self.now, format!("{} holds a secret", write.item.key));
            }
            if *kind == Kind::Instance && write.item.version == 1 {
                let origin = super::field_of(&write.item.body, "origin");
                if origin.is_some_and(|origin| origin.get("rebuilt").is_some()) {
                    self.checker.rebuilt(id);
                }
            }
            if self.timeline.is_kept() {
                let (key, version) = (&write.item.key, write.item.version);
                let phase = super::field_of(&write.item.body, "phase").map(|phase| phase.to_string());
                let phase = phase.unwrap_or_default();
                self.timeline.note(self.now, || format!("    writes {key} v{version} {phase}"));
            }
        }
    }
}

fn is_secret(text: &str) -> bool {
    SECRETS.iter().any(|secret| text.contains(secret))
}
