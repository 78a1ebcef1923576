//! A listener's process over real HTTP: a job is taken, run and reported, with everything a supervisor reads of it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use runner_scaler_world::ec2::{FleetRequest, LaunchTemplate, Market, Pool, Tags, TemplateConfig};
use runner_scaler_world::github::{JitRequest, JobSpec, OwnerKind, Scope};
use runner_scaler_world::http::process::{ListenerProcess, run_listener};
use runner_scaler_world::http::server::{ServerSettings, WorldServer, wall_now};
use runner_scaler_world::instance::{JitConfig, SupervisorSettings};
use runner_scaler_world::misfortune::Misfortune;
use runner_scaler_world::settings::GitHubSettings;
use runner_scaler_world::world::Flaw;
use runner_scaler_world::{Settings, Tape, World};
use std::path::PathBuf;
use std::time::Duration;

const REPOSITORY: &str = "octo-org/app";

struct Stage {
    server: WorldServer,
    folder: PathBuf,
    process: ListenerProcess,
}

impl Stage {
    async fn new(name: &str, flaw: Flaw) -> Self {
        let mut settings = Settings {
            github: GitHubSettings {
                pickup_ms: (0, 0),
                webhook_delay_ms: (0, 0),
                listener_notices_ms: (0, 0),
                ..GitHubSettings::local()
            },
            ..Settings::local()
        };
        settings.ec2.boot_ms = (0, 0);
        let mut world = World::new(settings, Tape::from_choices(vec![]), wall_now());
        world.github.install("octo-org", OwnerKind::Organization, &["app"]);
        let instance_id = launch(&mut world);
        world.advance_to(wall_now());
        let jit_config = register(&mut world, &instance_id);
        let settings = ServerSettings {
            listen: "127.0.0.1:0".parse().unwrap(),
            webhook_url: None,
            webhook_secret: "secret".into(),
            app_public_key_der: None,
        };
        let server = WorldServer::start(world, settings).await.unwrap();
        let folder = std::env::temp_dir().join(format!("listener-{name}-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("bin")).unwrap();
        std::os::unix::fs::symlink("/bin/sleep", folder.join("bin/Runner.Worker")).unwrap();
        let process = ListenerProcess {
            instance_id,
            world_url: server.base_url().into(),
            jit_config: JitConfig::new(jit_config),
            runner_folder: folder.clone(),
            settings: SupervisorSettings { retry_ms: 20, ..SupervisorSettings::local() },
            flaw,
        };
        Self { server, folder, process }
    }

    /// Whether a process named as a worker runs for this listener.
    fn has_worker(&self) -> bool {
        let own = self.folder.join("bin/Runner.Worker");
        let own = std::fs::canonicalize(own).unwrap();
        let is_worker = |entry: std::fs::DirEntry| {
            let read = |file: &str| std::fs::read_to_string(entry.path().join(file)).unwrap_or_default();
            let parent = format!(") S {} ", std::process::id());
            read("stat").contains(&format!("(Runner.Worker{parent}"))
                && std::fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe == own)
        };
        std::fs::read_dir("/proc").unwrap().flatten().any(is_worker)
    }

    fn diagnostics(&self) -> String {
        let entries = std::fs::read_dir(self.folder.join("_diag")).into_iter().flatten().flatten();
        entries.map(|entry| std::fs::read_to_string(entry.path()).unwrap()).collect()
    }

    async fn until(&self, mut is_so: impl FnMut(&Self) -> bool) {
        for _ in 0..800 {
            if is_so(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("it never was: {}", self.diagnostics());
    }

    fn status(&self, job_id: u64) -> String {
        self.server.world().github.job(job_id).unwrap().state.status().to_owned()
    }

    fn queue_job(&self) -> u64 {
        let mut world = self.server.world();
        let (github, mut cx) = world.github();
        let spec = JobSpec {
            repository: REPOSITORY.into(),
            name: "build".into(),
            labels: vec!["linux".into()],
            duration_ms: 1_500,
            conclusion: "success".into(),
        };
        github.add_job(&mut cx, spec).unwrap()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _kept = std::fs::remove_dir_all(&self.folder);
    }
}

/// Registers the instance's runner, as scale-up does; its configuration.
fn register(world: &mut World, instance_id: &str) -> String {
    let (github, mut cx) = world.github();
    let request = JitRequest {
        name: format!("ghr-{instance_id}"),
        runner_group_id: 1,
        labels: vec!["linux".into()],
        work_folder: None,
    };
    let scope = Scope::Organization("octo-org".into());
    github.generate_jitconfig(&mut cx, scope, request).unwrap().1
}

fn launch(world: &mut World) -> String {
    let request = FleetRequest {
        client_token: None,
        kind: "instant".into(),
        configs: vec![TemplateConfig {
            template: LaunchTemplate { id: Some("lt-1".into()), name: None, version: Some("1".into()) },
            overrides: vec![Pool { instance_type: Some("m7i.large".into()), subnet_id: Some("subnet-1".into()) }],
        }],
        total_target_capacity: 1,
        market: Market::OnDemand,
        min_target_capacity: None,
        instance_tags: Tags::new(),
        other: std::collections::BTreeMap::new(),
    };
    let now = world.now();
    world.ec2.create_fleet(&request, now, &mut world.tape).unwrap();
    world.ec2.alive().remove(0)
}

#[tokio::test]
async fn a_job_has_a_worker_and_is_spoken_of() {
    let stage = Stage::new("job", Flaw::None).await;
    let job_id = stage.queue_job();
    let listener = tokio::spawn(run_listener(stage.process.clone()));
    stage.until(Stage::has_worker).await;
    assert_eq!(stage.status(job_id), "in_progress");
    tokio::time::timeout(Duration::from_secs(20), listener).await.unwrap().unwrap().unwrap();
    assert_eq!(stage.status(job_id), "completed");
    stage.until(|stage| !stage.has_worker()).await;
    let words = stage.diagnostics();
    let at = |text: &str| words.find(text).unwrap_or_else(|| panic!("{text}: {words}"));
    assert!(at("BrokerMessageListener] Acknowledging runner request") < at("JobDispatcher] Job request"));
    assert!(at("JobDispatcher] Job request") < at("JobDispatcher] Send job request message to worker"));
    assert!(at("JobDispatcher] Send job request message to worker") < at("JobDispatcher] finish job request for job"));
}

#[tokio::test]
async fn a_lost_registration_ends_it() {
    let stage = Stage::new("lost", Flaw::None).await;
    let listener = tokio::spawn(run_listener(stage.process.clone()));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(stage.server.world().befall(&stage.process.instance_id, Misfortune::RegistrationRemoved));
    tokio::time::timeout(Duration::from_secs(20), listener).await.unwrap().unwrap().unwrap();
    assert!(stage.diagnostics().contains("RunnerNotFoundException"), "{}", stage.diagnostics());
}

#[tokio::test]
async fn a_ghost_acknowledges_and_never_works() {
    let stage = Stage::new("ghost", Flaw::Ghost).await;
    stage.queue_job();
    let listener = tokio::spawn(run_listener(stage.process.clone()));
    stage.until(|stage| stage.diagnostics().contains("Acknowledging runner request")).await;
    assert!(!stage.diagnostics().contains("JobDispatcher") && !listener.is_finished());
    listener.abort();
}
