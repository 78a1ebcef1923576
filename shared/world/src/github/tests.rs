//! Stories of jobs and runners, in virtual time.

use super::*;
use crate::call::{Api, Call};
use crate::settings::Settings;
use crate::trap::{CallPattern, Interference, Phase, Trap, TrapAction};
use crate::truth::{Fact, Outside, promises};
use crate::world::World;

const SECOND: Millis = 1_000;
const HOUR: Millis = 3_600 * SECOND;

struct Story {
    world: World,
}

impl Story {
    fn new(change: impl FnOnce(&mut GitHubSettings)) -> Self {
        let mut settings = Settings::default();
        settings.github.pickup_ms = (0, 0);
        settings.github.webhook_delay_ms = (0, 0);
        change(&mut settings.github);
        let mut world = World::new(settings, Tape::from_seed(3), 0);
        world.github.install("acme", OwnerKind::Organization, &["shop"]);
        Self { world }
    }

    fn scope() -> Scope {
        Scope::Organization("acme".into())
    }

    fn spec(labels: &[&str]) -> JobSpec {
        JobSpec {
            repository: "acme/shop".into(),
            name: "build".into(),
            labels: labels.iter().map(|&l| l.to_owned()).collect(),
            duration_ms: 60 * SECOND,
            conclusion: "success".into(),
        }
    }

    fn queue(&mut self) -> u64 {
        let (github, mut cx) = self.world.github();
        let id = github.add_job(&mut cx, Self::spec(&["self-hosted", "x"])).unwrap();
        self.wait(0);
        id
    }

    fn register(&mut self, name: &str) -> (u64, String) {
        let (github, mut cx) = self.world.github();
        let request = JitRequest {
            name: name.into(),
            runner_group_id: 1,
            labels: vec!["Self-Hosted".into(), "x".into()],
            work_folder: None,
        };
        let (runner, jit) = github.generate_jitconfig(&mut cx, Self::scope(), request).unwrap();
        (runner.id, jit)
    }

    fn connect(&mut self, name: &str) -> u64 {
        let (id, jit) = self.register(name);
        let (github, mut cx) = self.world.github();
        assert!(matches!(github.open_session(&mut cx, &jit, None), SessionAnswer::Opened { .. }));
        self.wait(0);
        id
    }

    fn wait(&mut self, ms: Millis) {
        let now = self.world.now() + ms;
        self.world.advance_to(now);
    }

    fn poll(&mut self, runner: u64) -> PollAnswer {
        let (github, mut cx) = self.world.github();
        github.poll(&mut cx, runner)
    }

    fn acquire(&mut self, job: u64, runner: u64) -> AcquireAnswer {
        let (github, mut cx) = self.world.github();
        github.acquire(&mut cx, job, runner)
    }

    /// The runner takes its job.
    fn start(&mut self, job: u64, runner: u64) {
        assert!(matches!(self.poll(runner), PollAnswer::Job(message) if message.job_id == job));
        assert_eq!(self.acquire(job, runner), AcquireAnswer::Acquired);
    }

    fn complete(&mut self, job: u64, runner: u64) -> bool {
        let (github, mut cx) = self.world.github();
        github.complete(&mut cx, job, runner, "success")
    }

    /// DELETE as the front end carries it out, the adversary included.
    fn delete(&mut self, runner: u64) -> DeleteAnswer {
        let name = self.world.github.runners[&runner].name.clone();
        let call = Call::new(Api::GitHub, "DeleteRunner", "scale-down").about_runner(&name);
        assert_eq!(self.world.begin_call(&call), Interference::Proceed);
        let (github, mut cx) = self.world.github();
        let answer = github.delete_runner(&mut cx, &Self::scope(), runner, "scale-down");
        assert_eq!(self.world.end_call(&call), Interference::Proceed);
        answer
    }

    fn trap_delete(&mut self, github_knows: bool) -> u64 {
        let (github, mut cx) = self.world.github();
        let job_id = github.add_held_job(&mut cx, Self::spec(&["x"])).unwrap();
        self.world.set_trap(Trap {
            on: CallPattern { operation: Some("DeleteRunner".into()), ..CallPattern::default() },
            phase: Phase::BeforeEffect,
            action: TrapAction::AssignJob { job_id, github_knows },
        });
        job_id
    }

    fn status(&self, job: u64) -> &'static str {
        self.world.github.job(job).unwrap().state.status()
    }

    fn actions(&mut self) -> Vec<String> {
        let now = self.world.now();
        let due = self.world.github.take_due_deliveries(now);
        due.iter()
            .map(|d| {
                serde_json::from_slice::<serde_json::Value>(&d.payload).unwrap()["action"].as_str().unwrap().to_owned()
            })
            .collect()
    }

    fn broken(&self) -> Vec<&'static str> {
        promises(&self.world, &Outside::default()).into_iter().filter(|p| !p.held).map(|p| p.name).collect()
    }

    fn happened(&self, wanted: impl Fn(&Fact) -> bool) -> bool {
        self.world.truth.facts().iter().any(|(_, fact)| wanted(fact))
    }
}

#[test]
fn a_job_runs_on_an_ephemeral_runner_whose_registration_it_consumes() {
    let mut story = Story::new(|_| {});
    let job = story.queue();
    let runner = story.connect("ghr-i-1");
    story.start(job, runner);
    assert!(matches!(story.delete(runner), DeleteAnswer::Busy { message } if message.contains("ghr-i-1")));
    story.wait(60 * SECOND);
    assert!(story.complete(job, runner));
    assert_eq!(story.world.github.registrations().count(), 0);
    assert_eq!(story.delete(runner), DeleteAnswer::NotFound);
    assert_eq!(story.actions(), ["queued", "in_progress", "completed"]);
    assert!(story.broken().is_empty());
}

#[test]
fn a_runner_gets_only_jobs_whose_labels_and_scope_it_serves() {
    let mut story = Story::new(|_| {});
    let runner = story.connect("ghr-i-1");
    story.world.github.install("other", OwnerKind::Organization, &["shop"]);
    let (github, mut cx) = story.world.github();
    github.add_job(&mut cx, Story::spec(&["x", "gpu"])).unwrap();
    github.add_job(&mut cx, JobSpec { repository: "other/shop".into(), ..Story::spec(&["x"]) }).unwrap();
    story.wait(SECOND);
    assert_eq!(story.poll(runner), PollAnswer::Nothing);
    let (github, mut cx) = story.world.github();
    let fits = github.add_job(&mut cx, Story::spec(&["X", "SELF-HOSTED"])).unwrap();
    story.wait(0);
    story.start(fits, runner);
}

#[test]
fn a_delete_during_an_assignment_that_github_knows_is_refused() {
    let mut story = Story::new(|_| {});
    let runner = story.connect("ghr-i-1");
    let job = story.trap_delete(true);
    assert!(matches!(story.delete(runner), DeleteAnswer::Busy { .. }));
    story.start(job, runner);
    assert!(story.complete(job, runner));
    assert!(story.broken().is_empty());
}

#[test]
fn a_delete_during_an_assignment_that_github_does_not_know_leaves_the_job_to_run() {
    let mut story = Story::new(|s| s.listener_notices_ms = (120 * SECOND, 120 * SECOND));
    let runner = story.connect("ghr-i-1");
    let job = story.trap_delete(false);
    assert_eq!(story.delete(runner), DeleteAnswer::Deleted);
    assert_eq!(story.status(job), "queued", "assigned, and nothing shows it");
    story.start(job, runner);
    assert_eq!(story.actions(), ["queued", "in_progress"], "the webhook comes during the quarantine");
    assert_eq!(story.world.github.active_job_of_runner(runner), Some(job));
    story.wait(60 * SECOND);
    assert_eq!(story.poll(runner), PollAnswer::Nothing, "the listener does not know yet");
    assert!(story.complete(job, runner));
    assert!(story.broken().is_empty(), "merely assigned when the DELETE took effect");
}

#[test]
fn a_runner_that_never_connected_is_given_no_job() {
    let mut story = Story::new(|_| {});
    let (runner, _) = story.register("ghr-i-1");
    let job = story.trap_delete(true);
    assert_eq!(story.delete(runner), DeleteAnswer::Deleted);
    assert!(story.actions().is_empty() && story.world.github.job(job).unwrap().state == JobState::Held);
}

#[test]
fn a_job_that_waits_for_an_approval_is_given_to_nobody_until_it_is_queued() {
    let mut story = Story::new(|_| {});
    let runner = story.connect("ghr-i-1");
    let (github, mut cx) = story.world.github();
    let job = github.add_waiting_job(&mut cx, Story::spec(&["x"])).unwrap();
    story.wait(30 * HOUR);
    assert_eq!((story.poll(runner), story.status(job)), (PollAnswer::Nothing, "waiting"));
    let (github, mut cx) = story.world.github();
    github.release_job(&mut cx, job);
    story.wait(0);
    story.start(job, runner);
    assert_eq!(story.actions(), ["waiting", "queued", "in_progress"]);
}

#[test]
fn a_job_of_a_listener_that_hangs_after_it_acknowledged_fails_after_ten_minutes() {
    let mut story = Story::new(|_| {});
    let job = story.queue();
    let runner = story.connect("ghr-i-1");
    assert!(matches!(story.poll(runner), PollAnswer::Job(_)));
    let (github, mut cx) = story.world.github();
    github.hang(&mut cx, job);
    story.wait(599 * SECOND);
    assert_eq!((story.status(job), story.poll(runner)), ("queued", PollAnswer::Nothing));
    story.wait(SECOND);
    assert_eq!(story.status(job), "completed");
    assert!(story.happened(|fact| matches!(fact, Fact::JobDropped { .. })));
}

#[test]
fn a_listener_that_learns_of_its_lost_registration_cancels_its_job() {
    let mut story = Story::new(|s| {
        s.lying_busy_flag = 1.0;
        s.listener_notices_ms = (30 * SECOND, 30 * SECOND);
    });
    let job = story.queue();
    let runner = story.connect("ghr-i-1");
    story.start(job, runner);
    assert_eq!(story.delete(runner), DeleteAnswer::Deleted, "GitHub believes its lying flag");
    story.wait(29 * SECOND);
    assert_eq!(story.poll(runner), PollAnswer::Nothing);
    story.wait(SECOND);
    assert_eq!(story.poll(runner), PollAnswer::RunnerNotFound);
    assert!(!story.complete(job, runner), "it is cancelled");
    assert_eq!(story.broken(), ["P1", "P3"]);
}

#[test]
fn a_message_that_is_not_acquired_comes_again_and_then_the_job_is_cancelled() {
    let mut story = Story::new(|_| {});
    let job = story.queue();
    let runner = story.connect("ghr-i-1");
    for _ in 0..3 {
        assert!(matches!(story.poll(runner), PollAnswer::Job(_)));
        story.wait(60 * SECOND);
        assert_eq!(story.poll(runner), PollAnswer::Nothing);
        story.wait(SECOND);
    }
    assert_eq!(story.status(job), "completed");
    assert_eq!(story.acquire(job, runner), AcquireAnswer::Refused);
    assert_eq!(story.broken(), ["P3"]);
}

#[test]
fn a_job_given_to_a_dead_listener_is_queued_again() {
    let mut story = Story::new(|s| s.offline_after_ms = 30 * SECOND);
    let job = story.queue();
    story.connect("ghr-i-1");
    story.wait(62 * SECOND);
    assert!(story.happened(|f| matches!(f, Fact::JobRequeued { .. })));
    let second = story.connect("ghr-i-2");
    story.start(job, second);
}

#[test]
fn a_job_dies_with_its_instance_and_github_learns_of_it_by_the_lock() {
    let mut story = Story::new(|_| {});
    let job = story.queue();
    let runner = story.connect("ghr-i-1");
    story.start(job, runner);
    let (github, mut cx) = story.world.github();
    github.instance_died(&mut cx, "i-1");
    assert_eq!(story.status(job), "in_progress");
    assert_eq!(story.world.github.active_job_of_instance("i-1"), None);
    story.wait(600 * SECOND);
    assert_eq!(story.status(job), "completed");
    assert_eq!(story.broken(), ["P3"]);
}

#[test]
fn a_configuration_opens_one_session_and_a_name_one_registration() {
    let mut story = Story::new(|_| {});
    let (id, jit) = story.register("ghr-i-1");
    let shown = story.world.github.view_runner(&story.world.github.runners[&id], 0);
    assert_eq!((&shown["status"], &shown["version"]), (&"offline".into(), &serde_json::Value::Null));
    let (github, mut cx) = story.world.github();
    let again = JitRequest { name: "ghr-i-1".into(), runner_group_id: 1, labels: vec!["x".into()], work_folder: None };
    assert!(matches!(github.generate_jitconfig(&mut cx, Story::scope(), again), Err(JitError::NameTaken(_))));
    assert!(matches!(github.open_session(&mut cx, &jit, None), SessionAnswer::Opened { .. }));
    assert_eq!(github.open_session(&mut cx, &jit, None), SessionAnswer::Conflict);
    assert_eq!(github.open_session(&mut cx, "other", None), SessionAnswer::NotFound);
    story.delete(id);
    let (github, mut cx) = story.world.github();
    assert_eq!(github.open_session(&mut cx, &jit, None), SessionAnswer::NotFound);
}

#[test]
fn a_busy_flag_lags_and_a_silent_runner_is_offline() {
    let mut story = Story::new(|s| s.busy_lag_ms = (40 * SECOND, 40 * SECOND));
    let job = story.queue();
    let runner = story.connect("ghr-i-1");
    story.start(job, runner);
    let shown = |story: &Story| story.world.github.view_runner(&story.world.github.runners[&runner], story.world.now());
    assert_eq!(shown(&story)["busy"], false);
    story.wait(40 * SECOND);
    assert_eq!((&shown(&story)["busy"], &shown(&story)["status"]), (&true.into(), &"online".into()));
    story.wait(60 * SECOND);
    assert_eq!(shown(&story)["status"], "offline");
}

#[test]
fn an_ephemeral_registration_that_nobody_uses_is_reaped_after_a_day() {
    let mut story = Story::new(|_| {});
    story.register("ghr-i-1");
    story.wait(24 * 3_600 * SECOND - 1);
    assert_eq!(story.world.github.registrations().count(), 1);
    story.wait(1);
    assert_eq!(story.world.github.registrations().count(), 0);
}

#[test]
fn deliveries_are_lost_doubled_and_redelivered_under_one_guid() {
    let mut story = Story::new(|s| s.duplicate_webhooks = 1.0);
    story.queue();
    let now = story.world.now();
    let twice = story.world.github.take_due_deliveries(now);
    assert_eq!(twice.len(), 2);
    assert_eq!(twice[0].guid, twice[1].guid);
    let (github, mut cx) = story.world.github();
    github.delivery_answered(&mut cx, twice[0].delivery_id, Some(500), 3);
    assert_eq!(github.delivery_log().len(), 1, "only what was answered");
    assert!(github.redeliver(&mut cx, twice[0].delivery_id));
    assert!(!github.redeliver(&mut cx, 1));
    let again = github.take_due_deliveries(now);
    assert_eq!(again[0].guid, twice[0].guid);
    assert_ne!(again[0].delivery_id, twice[0].delivery_id);

    let mut lossy = Story::new(|s| s.lose_webhooks = 1.0);
    lossy.queue();
    assert!(lossy.actions().is_empty());
    assert!(lossy.happened(|f| matches!(f, Fact::DeliveryLost { .. })));
}

#[test]
fn a_scenario_decides_what_becomes_of_one_delivery() {
    for (case, fate, sent_at_once, sent_later, logged) in [
        ("late", Fate::Late(5 * SECOND), false, true, false),
        ("failed", Fate::Failed, false, false, true),
        ("vanished", Fate::Vanished, false, false, false),
    ] {
        let mut story = Story::new(|_| {});
        let job = story.queue();
        story.actions();
        story.world.github.plan_delivery(job, "in_progress", fate);
        let runner = story.connect("ghr-i-1");
        story.start(job, runner);
        assert_eq!(!story.actions().is_empty(), sent_at_once, "{case}");
        story.wait(5 * SECOND);
        assert_eq!(!story.actions().is_empty(), sent_later, "{case}");
        assert_eq!(story.world.github.delivery_log().len(), usize::from(logged), "{case}");
        assert_eq!(story.happened(|f| matches!(f, Fact::DeliveryLost { .. })), !sent_later, "{case}");
        assert!(story.complete(job, runner));
        assert_eq!(story.actions(), ["completed"], "{case}: the others come as ever");
    }
}

#[test]
fn a_real_payload_becomes_a_job_whose_delivery_has_its_very_bytes() {
    let mut story = Story::new(|_| {});
    let bytes = include_bytes!("template.json");
    let (github, mut cx) = story.world.github();
    let job = github.add_job_from_payload(&mut cx, bytes, SECOND).unwrap();
    assert!(matches!(github.add_job_from_payload(&mut cx, bytes, SECOND), Err(PayloadError::Exists(_))));
    assert_eq!(job, 289_782_451);
    let (installation, repository) = github.repository("Codertocat", "Hello-World").unwrap();
    assert_eq!((installation.id, installation.owner.as_str()), (3_456_996, "Octocoders"));
    assert_eq!(github.repository("octocoders", "hello-world").unwrap().1.id, repository.id);
    let due = github.take_due_deliveries(0);
    assert_eq!(&due[0].payload[..], &bytes[..]);
}

#[test]
fn tokens_end_after_an_hour_and_a_suspended_installation_has_none() {
    let mut story = Story::new(|_| {});
    let (github, mut cx) = story.world.github();
    let id = github.installation_of_owner("ACME").unwrap().id;
    let (token, _) = github.issue_token(&mut cx, id).unwrap();
    assert_eq!(github.installation_of_token(&token, 3_599_999), Some(id));
    assert_eq!(github.installation_of_token(&token, 3_600_000), None);
    github.installation_mut(id).unwrap().suspended = true;
    assert!(matches!(github.issue_token(&mut cx, id), Err(TokenError::Suspended)));
    assert!(matches!(github.issue_token(&mut cx, 1), Err(TokenError::Unknown)));
}

#[test]
fn whoever_installs_the_app_again_has_another_id_and_what_was_suspended_is_told_to_nobody() {
    let mut story = Story::new(|_| {});
    let job = story.queue();
    assert_eq!(story.actions(), ["queued"]);
    let old = story.world.github.installation_of_owner("acme").unwrap().id;
    let new = story.world.github.reinstall("Acme").unwrap();
    assert!(new != old && story.world.github.installation(old).is_none());
    story.world.github.installation_mut(new).unwrap().suspended = true;
    let runner = story.connect("ghr-i-1");
    story.start(job, runner);
    assert!(story.actions().is_empty(), "suspended");
    assert!(story.happened(|f| matches!(f, Fact::DeliveryLost { action, .. } if action == "in_progress")));
    story.world.github.installation_mut(new).unwrap().suspended = false;
    assert!(story.complete(job, runner));
    let now = story.world.now();
    let told = story.world.github.take_due_deliveries(now).remove(0);
    let payload: serde_json::Value = serde_json::from_slice(&told.payload).unwrap();
    assert_eq!(payload["installation"]["id"], new);
    assert!(story.world.github.reinstall("nobody").is_none());
}

#[test]
fn a_redelivery_may_come_without_a_signature() {
    let mut story = Story::new(|s| s.unsigned_redelivery = 1.0);
    story.queue();
    let first = story.world.github.take_due_deliveries(0).remove(0);
    assert_eq!(first.forgery, Forgery::None);
    let (github, mut cx) = story.world.github();
    github.delivery_answered(&mut cx, first.delivery_id, None, 10_000);
    assert!(github.redeliver(&mut cx, first.delivery_id));
    let again = github.take_due_deliveries(0).remove(0);
    assert_eq!((again.forgery, &again.guid), (Forgery::NoSignature, &first.guid));
    github.delivery_answered(&mut cx, again.delivery_id, Some(401), 3);
    assert_eq!(github.delivery_log().len(), 2, "GitHub sent it, and knows that it was refused");
}

#[test]
fn a_seed_replays_to_the_same_truth() {
    let run = || {
        let mut story = Story::new(|s| {
            s.duplicate_webhooks = 0.5;
            s.lose_webhooks = 0.3;
            s.lying_busy_flag = 0.5;
        });
        for number in 0..20 {
            let job = story.queue();
            let runner = story.connect(&format!("ghr-i-{number}"));
            story.start(job, runner);
            story.delete(runner);
            story.wait(10 * SECOND);
            story.complete(job, runner);
        }
        story.world.truth.facts().to_vec()
    };
    assert_eq!(run(), run());
}
