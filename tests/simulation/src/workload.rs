//! Jobs, what their users do, and what strangers try.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use runner_scaler_core::webhook::{Body, HttpRequest};
use runner_scaler_world::Millis;
use runner_scaler_world::github::{Forgery, JobSpec, JobState, OutgoingDelivery, Scope};
use sha2::Sha256;

use crate::agenda::Event;
use crate::coverage::Counter;
use crate::sim::{START, Sim};
use crate::swarm::{HOUR, MINUTE, SECOND};

/// Jobs and deliveries on their way.
#[derive(Default)]
pub struct Workload {
    /// Jobs of this hour, in thousandths of the day's mean.
    hour: (Millis, u64),
    /// Deliveries that an invocation is going to take.
    pub outgoing: BTreeMap<u64, OutgoingDelivery>,
}

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
        self.make_mischief();
        if self.world.tape.chance(self.plan.poison) {
            self.poison();
        }
        if self.world.tape.chance(self.plan.forgery) {
            self.forge();
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
        if comes > 0 && tape.chance(0.03) { comes + tape.draw(12) } else { comes }
    }

    fn add_job(&mut self) {
        let tape = &mut self.world.tape;
        let owner = usize::try_from(tape.draw(self.owners.len() as u64 - 1)).unwrap_or(0);
        let repositories = self.owners[owner].repositories.len() as u64;
        let repository = usize::try_from(tape.draw(repositories - 1)).unwrap_or(0);
        let fleet = usize::try_from(tape.draw(self.policy.fleets.len() as u64 - 1)).unwrap_or(0);
        let nobodys = tape.chance(0.004);
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
        let spec = JobSpec {
            repository: self.owners[owner].repositories[repository].clone(),
            name: "build".to_owned(),
            labels,
            duration_ms,
            conclusion: "success".to_owned(),
        };
        self.touch(|world| {
            let (github, mut cx) = world.github();
            // An owner that was installed has its repositories.
            github.add_job(&mut cx, spec).ok();
        });
    }

    /// A stranger posts a delivery: of a job that nobody has.
    fn forge(&mut self) {
        let id = 9_000_000_000 + self.world.tape.draw(1_000_000);
        let owner = &self.owners[0].login;
        let body = serde_json::json!({
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
