//! A day in virtual time: the webhook, scale-up from its queue, scale-down, orphan-sweeper and demand-reconciler, all of
//! them the real handlers over the fake, and instances that boot, take whatever job fits and end themselves. Every draw
//! comes from one seed, so a day is the same day every time.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::*;
use crate::ids::RunnerName;
use crate::orphan;
use crate::ports::Runner;
use crate::removal;
use crate::scale_up::JobMessage;
use crate::webhook::{Body, HttpRequest, WebhookSecrets, handle};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);
pub(super) const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// The fleets, and the label by which a job chooses.
const FLEETS: [&str; 2] = ["linux", "arm"];

/// P4 of the design counts launches over this time.
const STORM_WINDOW: Duration = Duration::from_mins(10);

/// What becomes of deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Webhooks {
    /// None arrives, and none is in GitHub's log.
    Dropped,
    /// Each arrives within seconds; 30 % arrive twice, and 30 % up to ten minutes late, and so in any order.
    DoubledAndLate,
}

/// xorshift64*: the seed decides everything.
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }

    fn between(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_secs(low + self.below(high - low + 1))
    }
}

/// A job as it really is.
struct Job {
    fleet: &'static str,
    queued_at: Timestamp,
    duration: Duration,
    started_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
}

/// An instance as it really is.
enum Machine {
    Boots { until: Timestamp },
    Listens { since: Timestamp },
    Runs { job: JobId, until: Timestamp },
    Ends { at: Timestamp },
}

struct Day {
    fake: Fake,
    policy: Policy,
    draws: Draws,
    webhooks: Webhooks,
    arrivals: Vec<(Timestamp, &'static str, Duration)>,
    jobs: BTreeMap<JobId, Job>,
    machines: BTreeMap<InstanceId, Machine>,
    deliveries: Vec<(Timestamp, HttpRequest)>,
    /// Messages that come back, and when.
    invisible: Vec<(Timestamp, JobMessage)>,
    launches: Vec<Timestamp>,
    errors: Vec<String>,
}

impl Day {
    fn new(seed: u64, webhooks: Webhooks) -> Self {
        let fake = Fake::new();
        let mut draws = Draws(seed);
        let mut arrivals = Vec::new();
        let mut at = fake.now().plus(MINUTE);
        let end = fake.now().plus(22 * HOUR);
        while at < end {
            // Mostly one at a time, now and then a burst; some last for seconds, some for an hour.
            let burst = if draws.below(12) == 0 { 2 + draws.below(7) } else { 1 };
            for _ in 0..burst {
                let fleet = FLEETS[usize::try_from(draws.below(2)).expect("small")];
                let longest = if draws.below(8) == 0 { 3_600 } else { 600 };
                arrivals.push((at, fleet, draws.between(10, longest)));
            }
            at = at.plus(draws.between(20, 500));
        }
        let mut policy = policy();
        policy.fleets = FLEETS.map(fleet).into();
        for fleet in &mut policy.fleets {
            fleet.runner_count_max = 20;
        }
        Self {
            fake,
            policy,
            draws,
            webhooks,
            arrivals,
            jobs: BTreeMap::new(),
            machines: BTreeMap::new(),
            deliveries: Vec::new(),
            invisible: Vec::new(),
            launches: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// Plays the day and two hours more.
    fn play(&mut self) {
        for second in 0..24 * 3_600_u64 {
            self.queue_jobs();
            self.machines_live();
            self.deliver();
            self.scale_up();
            if second.is_multiple_of(60) {
                self.schedules(second);
            }
            self.watch();
            self.fake.pass(SECOND);
        }
    }

    fn now(&self) -> Timestamp {
        self.fake.now()
    }

    fn queue_jobs(&mut self) {
        while let Some((at, fleet, duration)) = self.arrivals.first().copied().filter(|(at, _, _)| *at <= self.now()) {
            self.arrivals.remove(0);
            let id = JobId(1 + self.jobs.len() as u64);
            self.fake.queue_job(id, fleet, at);
            let job = Job { fleet, queued_at: at, duration, started_at: None, ended_at: None };
            self.jobs.insert(id, job);
            self.announce(id, "queued", None);
        }
    }

    fn announce(&mut self, id: JobId, action: &str, runner: Option<(RunnerId, &RunnerName)>) {
        if self.webhooks == Webhooks::Dropped {
            return;
        }
        let job = &self.jobs[&id];
        let body = serde_json::json!({
            "action": action,
            "workflow_job": {
                "id": id.0, "run_id": id.0, "run_attempt": 1, "labels": ["self-hosted", job.fleet],
                "runner_id": runner.map(|(id, _)| id.0), "runner_name": runner.map(|(_, name)| name.as_str()),
                "conclusion": if action == "completed" { Some("success") } else { None },
                "created_at": job.queued_at.to_string(),
            },
            "repository": { "full_name": "octo/hello", "owner": { "login": "octo", "type": "Organization" } },
            "organization": { "login": "octo" },
            "installation": { "id": 7 },
        });
        let request = signed(&body.to_string());
        let copies = if self.draws.below(10) < 3 { 2 } else { 1 };
        for _ in 0..copies {
            let late = if self.draws.below(10) < 3 { self.draws.between(0, 600) } else { self.draws.between(0, 3) };
            self.deliveries.push((self.now().plus(late), request.clone()));
        }
    }

    fn deliver(&mut self) {
        let now = self.now();
        let secrets = WebhookSecrets::parse(SECRET).expect("long enough");
        let due: Vec<HttpRequest> =
            self.deliveries.extract_if(.., |(at, _)| *at <= now).map(|(_, request)| request).collect();
        for request in due {
            let answer = run(handle(&self.fake, &self.policy, &secrets, request, now)).expect("not killed");
            assert!((200..300).contains(&answer.taken.status()), "{answer:?}");
        }
    }

    /// The queue hands over what is visible; what failed comes back after the visibility timeout.
    fn scale_up(&mut self) {
        let now = self.now();
        let back: Vec<JobMessage> =
            self.invisible.extract_if(.., |(at, _)| *at <= now).map(|(_, message)| message).collect();
        let mut messages = std::mem::take(&mut self.fake.state_mut().queue);
        messages.extend(back);
        for batch in messages.chunks(10) {
            let bodies = batch.iter().enumerate().map(|(place, message)| QueueMessage {
                message_id: place.to_string(),
                body: serde_json::to_string(message).expect("plain data"),
            });
            let deadline = Deadline::of(now, now.plus(MINUTE));
            let outcomes = run(handle_batch(&self.fake, &self.policy, bodies.collect(), deadline)).expect("not killed");
            let failed = batch.iter().zip(outcomes).filter(|(_, (_, outcome))| matches!(outcome, Outcome::Failed(_)));
            self.invisible.extend(failed.map(|(message, _)| (now.plus(6 * MINUTE), message.clone())));
        }
    }

    fn schedules(&mut self, second: u64) {
        let deadline = Deadline::of(self.now(), self.now().plus(MINUTE));
        let told = |errors: &mut Vec<String>, error: &dyn std::fmt::Display| errors.push(error.to_string());
        if let Err(error) = run(run_pass(&self.fake, &self.policy, deadline)).expect("not killed") {
            told(&mut self.errors, &error);
        }
        if let Err(error) = run(removal::run_pass(&self.fake, &self.policy, deadline)).expect("not killed") {
            told(&mut self.errors, &error);
        }
        if second.is_multiple_of(300)
            && let Err(error) = run(orphan::run_pass(&self.fake, &self.policy, deadline)).expect("not killed")
        {
            told(&mut self.errors, &error);
        }
    }

    /// Instances boot, fetch their configuration, take the oldest job that fits, and end themselves.
    fn machines_live(&mut self) {
        let now = self.now();
        let shown: Vec<(InstanceId, InstanceState, bool)> = {
            let state = self.fake.state();
            let drained = |id: &InstanceId| state.instances[id].tags.contains_key("ghr:drain");
            state.instances.values().map(|i| (i.id.clone(), i.state, drained(&i.id))).collect()
        };
        for (id, state, drained) in shown {
            let machine = match self.machines.remove(&id) {
                Some(machine) => machine,
                None if state == InstanceState::Pending => {
                    self.launches.push(now);
                    Machine::Boots { until: now.plus(self.draws.between(20, 150)) }
                }
                None => continue,
            };
            if let Some(next) = self.step(&id, &machine, drained, now) {
                self.machines.insert(id, next);
            }
        }
    }

    fn step(&mut self, id: &InstanceId, machine: &Machine, drained: bool, now: Timestamp) -> Option<Machine> {
        Some(match *machine {
            Machine::Boots { until } if now < until => Machine::Boots { until },
            Machine::Boots { .. } => {
                let configured = self.fake.state_mut().parameters.remove(id).is_some();
                self.fake.set_instance_state(id, InstanceState::Running);
                if configured {
                    self.change_runner(id, |runner| {
                        runner.online = true;
                        runner.version = Some(Some("2.336.0".to_owned()));
                    });
                    self.beat(id, Worker::None);
                    Machine::Listens { since: now }
                } else {
                    self.power_off(id, now)
                }
            }
            Machine::Listens { since } => {
                if now.since(since).as_secs().is_multiple_of(60) {
                    self.beat(id, Worker::None);
                }
                match self.take_job(id, now) {
                    Some(running) => running,
                    None if drained || now.since(since) >= HOUR => self.power_off(id, now),
                    None => Machine::Listens { since },
                }
            }
            Machine::Runs { job, until } if now < until => {
                let state = self.fake.state().instances[id].state;
                assert_eq!(state, InstanceState::Running, "{id} was ended while job {job} ran on it");
                assert!(self.runner(id).is_some(), "the runner of {id} was deregistered while job {job} ran on it");
                Machine::Runs { job, until }
            }
            Machine::Runs { job, .. } => {
                let runner = self.runner(id).expect("registered until its job is over");
                self.jobs.get_mut(&job).expect("a job").ended_at = Some(now);
                self.fake.state_mut().jobs.get_mut(&job).expect("a job").state = JobState::Completed;
                self.fake.state_mut().jobs.get_mut(&job).expect("a job").completed_at = Some(now);
                self.announce(job, "completed", Some((runner.id, &runner.name)));
                self.power_off(id, now)
            }
            // EC2 shows an ended instance for the better part of an hour.
            Machine::Ends { at } if now < at.plus(30 * MINUTE) => {
                if now.since(at) >= MINUTE {
                    self.fake.set_instance_state(id, InstanceState::Terminated);
                }
                Machine::Ends { at }
            }
            Machine::Ends { .. } => {
                self.fake.state_mut().instances.remove(id);
                self.fake.state_mut().vital_signs.remove(id);
                return None;
            }
        })
    }

    fn take_job(&mut self, id: &InstanceId, now: Timestamp) -> Option<Machine> {
        let runner = self.runner(id)?;
        let fleet = self.fake.state().instances[id].tags["ghr:fleet"].clone();
        let fits = |job: &Job| job.started_at.is_none() && job.fleet == fleet;
        let job_id = self.jobs.iter().find(|(_, job)| fits(job)).map(|(job_id, _)| *job_id)?;
        let job = self.jobs.get_mut(&job_id).expect("found");
        job.started_at = Some(now);
        let until = now.plus(job.duration);
        self.fake.assign_job(job_id, runner.id, &runner.name);
        self.change_runner(id, |runner| runner.busy = true);
        self.beat(id, Worker::Running);
        self.announce(job_id, "in_progress", Some((runner.id, &runner.name)));
        Some(Machine::Runs { job: job_id, until })
    }

    fn beat(&self, id: &InstanceId, worker: Worker) {
        let beat_at = self.now();
        self.fake.state_mut().vital_signs.insert(id.clone(), VitalSign { beat_at, worker });
    }

    fn power_off(&self, id: &InstanceId, now: Timestamp) -> Machine {
        self.fake.set_instance_state(id, InstanceState::ShuttingDown);
        self.fake.state_mut().runners.retain(|(_, runner)| !runner.name.as_str().ends_with(id.as_str()));
        Machine::Ends { at: now }
    }

    fn runner(&self, id: &InstanceId) -> Option<Runner> {
        let state = self.fake.state();
        state.runners.iter().map(|(_, r)| r).find(|runner| runner.name.as_str().ends_with(id.as_str())).cloned()
    }

    fn change_runner(&self, id: &InstanceId, change: impl Fn(&mut Runner)) {
        let mut state = self.fake.state_mut();
        let own = state.runners.iter_mut().map(|(_, runner)| runner);
        own.filter(|runner| runner.name.as_str().ends_with(id.as_str())).for_each(change);
    }

    /// P4: the cap, and the storm bound over every ten minutes.
    fn watch(&mut self) {
        for fleet in FLEETS {
            let living = self.fake.living().len();
            let of_fleet = |i: &crate::ports::Instance| i.tags["ghr:fleet"] == fleet && living > 0;
            let ended = |s| matches!(s, InstanceState::ShuttingDown | InstanceState::Terminated);
            let count = self.fake.state().instances.values().filter(|i| of_fleet(i) && !ended(i.state)).count();
            assert!(count <= 20, "{count} instances of {fleet}");
        }
        let now = self.now();
        let since = now.minus(STORM_WINDOW);
        if self.launches.last() == Some(&now) {
            let launched = self.launches.iter().filter(|at| **at > since).count();
            let waited = |job: &&Job| job.started_at.is_none_or(|at| at > since);
            let queued = self.jobs.values().filter(waited).count();
            assert!(launched <= 2 * queued + 5, "{launched} launches in ten minutes for {queued} queued jobs at {now}");
        }
    }

    /// Seconds from queued to started, in order.
    fn waits(&self) -> Vec<u64> {
        let wait = |(id, job): (&JobId, &Job)| {
            let started_at = job.started_at.unwrap_or_else(|| panic!("job {id} never started"));
            started_at.since(job.queued_at).as_secs()
        };
        let mut waits: Vec<u64> = self.jobs.iter().map(wait).collect();
        waits.sort_unstable();
        waits
    }
}

pub(super) fn signed(body: &str) -> HttpRequest {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any length");
    mac.update(body.as_bytes());
    let hex = mac.finalize().into_bytes().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let header = |name: &str, value: String| (name.to_owned(), value);
    HttpRequest {
        method: "POST".to_owned(),
        headers: vec![
            header("x-hub-signature-256", format!("sha256={hex}")),
            header("x-github-event", "workflow_job".to_owned()),
            header("x-github-delivery", "d".to_owned()),
            header("content-type", "application/json".to_owned()),
        ],
        body: Body::Text(body.to_owned()),
    }
}

fn percentile(sorted: &[u64], percent: usize) -> u64 {
    sorted[(sorted.len() * percent).div_ceil(100).saturating_sub(1)]
}

fn played(name: &str, seed: u64, webhooks: Webhooks) -> (Vec<u64>, usize) {
    let mut day = Day::new(seed, webhooks);
    day.play();
    assert!(day.arrivals.is_empty(), "every job was queued");
    assert_eq!(day.errors, [""; 0], "no pass met an error");
    let waits = day.waits();
    let (p50, p99, max) = (percentile(&waits, 50), percentile(&waits, 99), waits.last().copied().unwrap_or_default());
    let (jobs, launches) = (waits.len(), day.launches.len());
    writeln!(
        std::io::stdout(),
        "{name}, seed {seed}: {jobs} jobs, {launches} launches; queued to started p50 {p50} s, p99 {p99} s, max {max} s"
    )
    .expect("a standard output");
    assert_eq!(day.fake.living().len(), 0, "nothing is left two hours after the last job");
    (waits, launches)
}

#[test]
fn a_day_without_any_webhook_starts_every_job() {
    let days = [1, 2, 1].map(|seed| played("all webhooks dropped", seed, Webhooks::Dropped));
    for (waits, launches) in &days {
        // A minute of age, five between searches, a boot of two and a half, and what jobs take from one another.
        assert!(percentile(waits, 99) <= 10 * 60, "p99 {} s", percentile(waits, 99));
        assert_eq!(*launches, waits.len(), "one instance for each job");
    }
    assert_eq!(days[0], days[2], "a seed decides the whole day");
}

#[test]
fn deliveries_that_come_twice_late_and_in_any_order_launch_nothing_beyond_the_storm_bound() {
    for seed in [3, 4] {
        let (waits, launches) = played("30 % doubled, 30 % late", seed, Webhooks::DoubledAndLate);
        assert_eq!(launches, waits.len(), "one instance for each job, so none beyond the bound");
    }
}
