//! Jobs, what their users do, and what strangers try.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use runner_scaler_core::ports::{Kind, Write};
use runner_scaler_core::webhook::{Body, HttpRequest};
use runner_scaler_world::Millis;
use runner_scaler_world::github::{Forgery, JobSpec, JobState, OutgoingDelivery, Scope};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::agenda::Event;
use crate::coverage::Counter;
use crate::lambda::{TaskId, Work};
use crate::sim::{START, Sim};
use crate::swarm::{BURST, HOUR, MINUTE, SECOND, UNSERVED};

/// Jobs and deliveries on their way.
#[derive(Default)]
pub struct Workload {
    /// Jobs of this hour, in thousandths of the day's mean.
    hour: (Millis, u64),
    /// Jobs that wait for an approval, and until when.
    approvals: BTreeMap<u64, Millis>,
    /// Deliveries that an invocation is going to take.
    pub outgoing: BTreeMap<u64, OutgoingDelivery>,
    /// Jobs of strangers and of neighbours so far.
    strangers: u64,
    /// Deliveries of which nothing may come, and how far each is to be trusted.
    pub untrusted: BTreeMap<u64, Untrusted>,
}

/// How far a delivery is to be trusted of which nothing may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untrusted {
    /// Not at all: it is not signed with a secret of ours.
    Unsigned,
    /// It is GitHub's, of an owner whom nobody serves.
    OfStrangers,
    /// The same, and it names a runner as ours are named: what ran on an instance of ours is recorded whatever the
    /// configuration says by now, so its job may be, and nothing else.
    NamesOurs,
}

/// An owner who has the App, and whom nobody serves.
const STRANGER: &str = "stranger";

/// How long people take to approve.
const APPROVED_WITHIN: Millis = 3 * HOUR;

/// Labels that no fleet takes.
const NOBODYS: &str = "nobodys";

impl Sim {
    /// One minute: jobs come, users cancel some, strangers try, somebody throws the kill switch.
    pub(crate) fn play_minute(&mut self) {
        self.agenda.note(self.now + MINUTE, Event::Minute);
        // The last hour is for what is under way.
        if self.now < self.ends_at - HOUR {
            for _ in 0..self.jobs_of_minute() {
                self.add_job();
            }
        }
        if self.world.tape.chance(self.plan.cancellation) {
            let waiting = self.world.github.open_jobs().find(|job| matches!(job.state, JobState::Queued { .. }));
            if let Some(id) = waiting.map(|job| job.id) {
                self.touch(|world| {
                    let (github, mut cx) = world.github();
                    github.cancel_queued_job(&mut cx, id);
                });
            }
        }
        self.approve();
        self.make_mischief();
        if self.world.tape.chance(self.plan.poison) {
            self.poison();
        }
        if self.world.tape.chance(self.plan.forgery) {
            self.forge();
        }
        if self.world.tape.chance(self.plan.stranger) {
            self.tell_of_strangers();
        }
        if self.aws.kill_switch.is_none() && self.world.tape.chance(self.plan.kill_switch) {
            let until = self.now + self.world.tape.between(MINUTE, HOUR);
            self.aws.kill_switch = Some((until, self.world.tape.draw(1) == 1));
        }
        if self.aws.kill_switch.is_some_and(|(until, _)| until <= self.now) {
            self.aws.kill_switch = None;
        }
        if (self.now - START) % HOUR == 0 {
            let lag = self.world.tape.between(0, 48 * HOUR);
            self.aws.ledger.forget(self.now, lag);
        }
    }

    /// Jobs that come in this minute. Each hour has its own rate, and half of the hours have none: else no runner is
    /// ever idle for long, and removal is never reached.
    fn jobs_of_minute(&mut self) -> u64 {
        let tape = &mut self.world.tape;
        let hour = (self.now - START) / HOUR;
        if self.workload.hour.0 != hour + 1 {
            let share = tape.draw(3).min(2) * tape.draw(1_000) * tape.draw(2).min(1);
            self.workload.hour = (hour + 1, share);
        }
        // Jobs a minute in millionths: a day has 1,440 minutes, and the hours' mean share is 0.42.
        let rate = self.plan.jobs_a_day * self.workload.hour.1 * 1_000 / 1_440 * 240 / 100;
        let most = 1_000_000;
        let whole = rate / most;
        // A burst now and then.
        let drawn = tape.draw(most - 1);
        let comes = whole + u64::from(drawn >= most - rate % most);
        if comes > 0 && tape.chance(BURST) { comes + tape.draw(12) } else { comes }
    }

    fn add_job(&mut self) {
        let tape = &mut self.world.tape;
        let owner = usize::try_from(tape.draw(self.owners.len() as u64 - 1)).unwrap_or(0);
        let repositories = self.owners[owner].repositories.len() as u64;
        let repository = usize::try_from(tape.draw(repositories - 1)).unwrap_or(0);
        let fleet = usize::try_from(tape.draw(self.policy.fleets.len() as u64 - 1)).unwrap_or(0);
        let nobodys = tape.chance(UNSERVED);
        let duration_ms = if tape.chance(self.plan.long_jobs) {
            tape.between(10 * MINUTE, 40 * MINUTE)
        } else if tape.draw(2) == 2 {
            tape.between(2 * MINUTE, 12 * MINUTE)
        } else {
            tape.between(20 * SECOND, 4 * MINUTE)
        };
        let labels = if nobodys {
            vec!["self-hosted".to_owned(), NOBODYS.to_owned()]
        } else {
            self.policy.fleets[fleet].labels.clone()
        };
        let labels = self.labels_of_job(labels);
        let spec = JobSpec {
            repository: self.owners[owner].repositories[repository].clone(),
            name: "build".to_owned(),
            labels,
            duration_ms,
            conclusion: "success".to_owned(),
        };
        let waits = self.world.tape.chance(self.plan.approval);
        let until = if waits { self.now + self.world.tape.between(0, APPROVED_WITHIN) } else { self.now };
        // An owner that was installed has its repositories.
        let added = self.touch(|world| {
            let (github, mut cx) = world.github();
            if waits { github.add_waiting_job(&mut cx, spec) } else { github.add_job(&mut cx, spec) }
        });
        if let (Ok(job), true) = (added, waits) {
            self.workload.approvals.insert(job, until.min(self.quiet_at));
        }
    }

    /// People approve of jobs that wait for it, or do not.
    fn approve(&mut self) {
        let now = self.now;
        for (job, _) in self.workload.approvals.extract_if(.., |_, at| *at <= now).collect::<Vec<_>>() {
            let approved = self.world.tape.draw(3) < 3;
            self.coverage.hit(if approved { Counter::Approved } else { Counter::Disapproved });
            self.touch(|world| {
                let (github, mut cx) = world.github();
                if approved {
                    github.release_job(&mut cx, job);
                } else {
                    github.cancel_queued_job(&mut cx, job);
                }
            });
        }
    }

    /// A stranger posts a delivery: of a job that nobody has, or of what a job and a runner of ours do.
    fn forge(&mut self) {
        if self.world.tape.draw(1) == 1 && self.forge_progress() {
            return;
        }
        let id = 9_000_000_000 + self.world.tape.draw(1_000_000);
        let owner = &self.owners[0].login;
        let body = json!({
            "action": "queued",
            "workflow_job": { "id": id, "run_id": id, "run_attempt": 1, "labels": self.policy.fleets[0].labels },
            "repository": { "id": 1, "full_name": self.owners[0].repositories[0], "owner": { "login": owner } },
        });
        let forgery = if self.world.tape.draw(1) == 1 { Forgery::NoSignature } else { Forgery::BadSignature };
        self.coverage.hit(Counter::Forgery);
        self.touch(|world| {
            let (github, mut cx) = world.github();
            github.forge_delivery(&mut cx, body.to_string().into(), forgery);
        });
    }

    /// A stranger tells that a job that waits or runs began, or ended, on a runner that is registered. Whether there are
    /// such.
    fn forge_progress(&mut self) -> bool {
        let jobs: Vec<u64> = self.world.github.open_jobs().map(|job| job.id).collect();
        let Some((runner_id, runner)) = self.some_runner() else { return false };
        let Some(last) = (jobs.len() as u64).checked_sub(1) else { return false };
        let job = jobs[usize::try_from(self.world.tape.draw(last)).unwrap_or(0)];
        let action = if self.world.tape.draw(1) == 1 { "completed" } else { "in_progress" };
        let owner = &self.owners[0];
        let body = json!({
            "action": action,
            "workflow_job": self.told_job(job, action, Some((runner_id, runner))),
            "repository": { "id": 1, "full_name": owner.repositories[0], "owner": { "login": owner.login } },
            "organization": { "login": owner.login },
        });
        let forgery = if self.world.tape.draw(1) == 1 { Forgery::NoSignature } else { Forgery::BadSignature };
        self.coverage.hit(Counter::ForgedProgress);
        self.touch(|world| {
            let (github, mut cx) = world.github();
            github.forge_delivery(&mut cx, body.to_string().into(), forgery);
        });
        true
    }

    /// What a delivery that somebody made up says of a job, with a fleet's labels and perhaps a runner.
    fn told_job(&self, id: u64, action: &str, runner: Option<(u64, String)>) -> Value {
        let (runner_id, runner_name) = runner.unzip();
        json!({
            "id": id, "run_id": id, "run_attempt": 1, "labels": self.policy.fleets[0].labels, "status": action,
            "conclusion": (action == "completed").then_some("success"),
            "runner_id": runner_id, "runner_name": runner_name,
        })
    }

    /// One of our runners that are registered.
    fn some_runner(&mut self) -> Option<(u64, String)> {
        let ours = self.world.github.registrations().filter(|r| !self.checker.runners_of_others.contains(&r.id));
        let runners: Vec<(u64, String)> = ours.map(|runner| (runner.id, runner.name.clone())).collect();
        let last = (runners.len() as u64).checked_sub(1)?;
        let place = usize::try_from(self.world.tape.draw(last)).unwrap_or(0);
        runners.into_iter().nth(place)
    }

    /// GitHub tells of a job of an owner whom nobody serves. Its labels are a fleet's, and its runner may have the name,
    /// and the id, of one of ours: both are unique within an owner only.
    fn tell_of_strangers(&mut self) {
        if self.world.tape.draw(3) == 3 {
            self.tell_of_neighbours();
            return;
        }
        // Each has an id of its own, whatever a shrunk tape draws.
        self.workload.strangers += 1;
        let id = 8_000_000_000 + 10_000_000 * self.workload.strangers + self.world.tape.draw(1_000_000);
        let actions = ["queued", "in_progress", "completed"];
        let action = actions[usize::try_from(self.world.tape.draw(2)).unwrap_or(0)];
        let names_ours = action != "queued" && self.world.tape.draw(1) == 1;
        let runner = if names_ours { self.some_runner() } else { None };
        let names_one = runner.is_some();
        let body = json!({
            "action": action,
            "workflow_job": self.told_job(id, action, runner),
            "repository": { "id": 2, "full_name": format!("{STRANGER}/repo"), "owner": { "login": STRANGER, "id": 3 } },
            "organization": { "login": STRANGER, "id": 3 },
            "installation": { "id": 4 },
        });
        self.coverage.hit(if names_one { Counter::StrangerNamesOurs } else { Counter::Stranger });
        let untrusted = if names_one { Untrusted::NamesOurs } else { Untrusted::OfStrangers };
        self.world.truth.expect_nothing_of_job(id);
        let delivery = self.touch(|world| {
            let (github, mut cx) = world.github();
            github.deliver_of_others(&mut cx, body.to_string().into(), action)
        });
        self.workload.untrusted.insert(delivery, untrusted);
    }

    /// A repository of an organisation that is served has a runner of its own, to which its administrator gave the name of
    /// one of the organisation's, ours: names are unique within a scope only. A job ended on it, and none did on ours (S1).
    fn tell_of_neighbours(&mut self) {
        let Some((_, runner)) = self.some_runner() else { return };
        self.workload.strangers += 1;
        let id = 8_000_000_000 + 10_000_000 * self.workload.strangers + self.world.tape.draw(1_000_000);
        let owner = &self.owners[0];
        let body = json!({
            "action": "completed",
            "workflow_job": self.told_job(id, "completed", Some((id, runner.clone()))),
            "repository": { "id": 2, "full_name": owner.repositories[0], "owner": { "login": owner.login } },
            "organization": { "login": owner.login },
        });
        self.coverage.hit(Counter::Neighbour);
        self.timeline.note(self.now, || format!("job {id} ended on a neighbour's {runner}"));
        self.touch(|world| {
            let (github, mut cx) = world.github();
            github.deliver_of_others(&mut cx, body.to_string().into(), "completed")
        });
    }

    /// S5: whose delivery an invocation has in hand, where nothing may come of it.
    fn untrusted_in_hand(&self, task: TaskId) -> Option<Untrusted> {
        match self.invocations.get(task.place).and_then(Option::as_ref)?.work {
            Work::Delivery(id) => self.workload.untrusted.get(&id).copied(),
            Work::Pass | Work::Batch(_) => None,
        }
    }

    /// S5: nothing is sent because of a delivery that is not to be trusted.
    pub(crate) fn check_untrusted_send(&mut self, task: TaskId) {
        if let Some(untrusted) = self.untrusted_in_hand(task) {
            self.checker.violated("S5", self.now, format!("a message is sent for a delivery that is {untrusted:?}"));
        }
    }

    /// S5: nothing is written because of a delivery that is not to be trusted.
    pub(crate) fn check_untrusted_writes(&mut self, task: TaskId, writes: &[Write]) {
        let Some(untrusted) = self.untrusted_in_hand(task) else { return };
        for write in writes {
            let allowed = match (untrusted, write.item.key.kind) {
                (Untrusted::NamesOurs, Kind::Job | Kind::OrphanEvent) => write.item.version == 1,
                (Untrusted::NamesOurs | Untrusted::OfStrangers | Untrusted::Unsigned, _) => false,
            };
            if !allowed {
                let what = format!("{} is written for a delivery that is {untrusted:?}", write.item.key);
                self.checker.violated("S5", self.now, what);
            }
        }
    }

    /// S5: a delivery that is not signed is refused, also where it is genuine.
    pub(crate) fn check_untrusted_answer(&mut self, delivery: u64, status: Option<u16>) {
        let untrusted = self.workload.untrusted.remove(&delivery);
        if untrusted == Some(Untrusted::Unsigned) && matches!(status, Some(200..=299)) {
            let what = format!("delivery {delivery} is not signed, and was answered {status:?}");
            self.checker.violated("S5", self.now, what);
        }
    }

    /// A repository that a runner of this scope serves.
    pub(crate) fn repository_of(&self, scope: &Scope) -> Option<String> {
        match scope {
            Scope::Organization(login) => {
                self.owners.iter().find(|owner| owner.login == *login)?.repositories.first().cloned()
            }
            Scope::Repository { owner, name } => Some(format!("{owner}/{name}")),
        }
    }

    /// The request that a delivery makes, signed as GitHub signs, or not.
    pub(crate) fn request_of(&mut self, delivery_id: u64) -> Option<(HttpRequest, String)> {
        let delivery = self.workload.outgoing.remove(&delivery_id)?;
        let (signed_with, stored) = self.secrets();
        let mut headers = vec![
            ("content-type".to_owned(), "application/json".to_owned()),
            ("x-github-event".to_owned(), delivery.event.to_owned()),
            ("x-github-delivery".to_owned(), delivery.guid),
        ];
        if delivery.forgery != Forgery::None {
            self.workload.untrusted.insert(delivery_id, Untrusted::Unsigned);
            if self.world.github.pending_deliveries().any(|own| own.id == delivery_id && own.unsigned) {
                self.coverage.hit(Counter::Unsigned);
            }
        }
        let secret = match delivery.forgery {
            Forgery::None => Some(signed_with),
            Forgery::BadSignature => Some("a secret that is a guess of somebody"),
            Forgery::NoSignature => None,
        };
        if let Some(secret) = secret {
            headers.push(("x-hub-signature-256".to_owned(), signature(secret, &delivery.payload)));
        }
        let body = Body::Text(String::from_utf8(delivery.payload.to_vec()).ok()?);
        Some((HttpRequest { method: "POST".to_owned(), headers, body }, stored))
    }
}

fn signature(secret: &str, body: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(body);
    let mut text = "sha256=".to_owned();
    for byte in mac.finalize().into_bytes() {
        // Writing to a string never fails.
        write!(text, "{byte:02x}").ok();
    }
    text
}
