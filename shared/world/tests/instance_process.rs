//! One instance's process over real HTTP: a job is taken, run and reported, and a drain is obeyed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use axum::Router;
use axum::extract::{Json, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use runner_scaler_world::ec2::{FleetRequest, LaunchTemplate, Market, Pool, Tags, TemplateConfig};
use runner_scaler_world::github::{JitRequest, JobSpec, OwnerKind, Scope};
use runner_scaler_world::http::process::{InstanceProcess, run_instance};
use runner_scaler_world::http::server::{ServerSettings, WorldServer, wall_now};
use runner_scaler_world::instance::{Reason, SupervisorSettings};
use runner_scaler_world::settings::GitHubSettings;
use runner_scaler_world::world::Flaw;
use runner_scaler_world::{Settings, Tape, World};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const REPOSITORY: &str = "octo-org/app";

/// SSM and `DynamoDB` as far as an instance uses them.
#[derive(Clone, Default)]
struct Emulator(Arc<Mutex<Stored>>);

#[derive(Default)]
struct Stored {
    jit_config: Option<String>,
    signs: Vec<Value>,
}

async fn emulate(
    State(Emulator(stored)): State<Emulator>,
    headers: HeaderMap,
    body: String,
) -> (StatusCode, Json<Value>) {
    let body: Value = serde_json::from_str(&body).unwrap();
    let mut stored = stored.lock().unwrap();
    let absent = (StatusCode::BAD_REQUEST, Json(json!({ "__type": "ParameterNotFound" })));
    match headers["x-amz-target"].to_str().unwrap() {
        "AmazonSSM.GetParameter" => match &stored.jit_config {
            Some(value) => (StatusCode::OK, Json(json!({ "Parameter": { "Name": body["Name"], "Value": value } }))),
            None => absent,
        },
        "AmazonSSM.DeleteParameter" => {
            let deleted = stored.jit_config.take();
            deleted.map_or(absent, |_| (StatusCode::OK, Json(json!({}))))
        }
        "DynamoDB_20120810.PutItem" => {
            stored.signs.push(body["Item"].clone());
            (StatusCode::OK, Json(json!({})))
        }
        other => panic!("{other}"),
    }
}

struct Stage {
    server: WorldServer,
    emulator: Emulator,
    process: InstanceProcess,
}

impl Stage {
    async fn new(flaw: Flaw) -> Self {
        let mut settings = Settings {
            github: GitHubSettings { pickup_ms: (0, 0), webhook_delay_ms: (0, 0), ..GitHubSettings::local() },
            ..Settings::local()
        };
        settings.ec2.boot_ms = (0, 0);
        let mut world = World::new(settings, Tape::from_choices(vec![]), wall_now());
        world.github.install("octo-org", OwnerKind::Organization, &["app"]);
        let instance_id = launch(&mut world);
        world.advance_to(wall_now());
        let emulator = Emulator::default();
        let routes = Router::new().route("/", post(emulate)).with_state(emulator.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async { axum::serve(listener, routes).await });
        let settings = ServerSettings {
            listen: "127.0.0.1:0".parse().unwrap(),
            webhook_url: None,
            webhook_secret: "secret".into(),
            app_public_key_der: None,
        };
        let server = WorldServer::start(world, settings).await.unwrap();
        let process = InstanceProcess {
            instance_id,
            world_url: server.base_url().into(),
            ssm_endpoint: endpoint.clone(),
            dynamodb_endpoint: endpoint,
            parameter_path: "/runners".into(),
            vital_signs_table: "signs".into(),
            supervisor: SupervisorSettings { retry_ms: 20, drain_look_every_ms: 20, ..SupervisorSettings::local() },
            flaw,
        };
        Self { server, emulator, process }
    }

    /// Registers the runner and hands its configuration over, as scale-up does.
    fn hand_over(&self) {
        let mut world = self.server.world();
        let (github, mut cx) = world.github();
        let request = JitRequest {
            name: format!("ghr-{}", self.process.instance_id),
            runner_group_id: 1,
            labels: vec!["linux".into()],
            work_folder: None,
        };
        let scope = Scope::Organization("octo-org".into());
        let (_, jit_config) = github.generate_jitconfig(&mut cx, scope, request).unwrap();
        self.emulator.0.lock().unwrap().jit_config = Some(jit_config);
    }

    fn queue_job(&self) -> u64 {
        let mut world = self.server.world();
        let (github, mut cx) = world.github();
        let spec = JobSpec {
            repository: REPOSITORY.into(),
            name: "build".into(),
            labels: vec!["linux".into()],
            duration_ms: 100,
            conclusion: "success".into(),
        };
        github.add_job(&mut cx, spec).unwrap()
    }

    fn drain(&self) {
        let now = chrono::DateTime::from_timestamp_millis(wall_now()).unwrap();
        let tags = Tags::from([("ghr:drain".into(), now.to_rfc3339())]);
        let ids = [self.process.instance_id.clone()];
        let mut world = self.server.world();
        let at = world.now();
        world.ec2.create_tags(&ids, &tags, at + 1_000).unwrap();
    }

    /// Words of the vital signs without repetitions.
    fn signs(&self) -> Vec<String> {
        let stored = self.emulator.0.lock().unwrap();
        let mut words: Vec<_> =
            stored.signs.iter().map(|sign| sign["worker"]["S"].as_str().unwrap().to_owned()).collect();
        words.dedup();
        words
    }
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

async fn run(process: InstanceProcess) -> Option<Reason> {
    tokio::time::timeout(Duration::from_secs(20), run_instance(process)).await.ok().map(Result::unwrap)
}

#[tokio::test]
async fn a_job_is_fetched_run_and_reported_and_the_power_goes_off() {
    let stage = Stage::new(Flaw::None).await;
    let job_id = stage.queue_job();
    let instance = tokio::spawn(run(stage.process.clone()));
    tokio::time::sleep(Duration::from_millis(100)).await;
    stage.hand_over();
    assert_eq!(instance.await.unwrap(), Some(Reason::ListenerEnded));
    let world = stage.server.world();
    assert_eq!(world.github.job(job_id).unwrap().state.status(), "completed");
    assert_eq!(world.ec2.alive(), Vec::<String>::new());
    assert_eq!(stage.emulator.0.lock().unwrap().jit_config, None, "the configuration is deleted on read");
    let signs = stage.signs();
    assert_eq!(signs.first().map(String::as_str), Some("none"));
    assert!(signs.contains(&"running".to_owned()), "{signs:?}");
    assert_eq!(signs.last().map(String::as_str), Some("none"));
}

#[tokio::test]
async fn an_idle_instance_obeys_a_drain() {
    let stage = Stage::new(Flaw::None).await;
    stage.hand_over();
    let instance = tokio::spawn(run(stage.process.clone()));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!instance.is_finished());
    stage.drain();
    assert_eq!(instance.await.unwrap(), Some(Reason::Drained));
    assert_eq!(stage.server.world().ec2.alive(), Vec::<String>::new());
    let stored = stage.emulator.0.lock().unwrap();
    assert!(stored.signs.last().unwrap()["drain_seen_at"]["N"].is_string(), "the last sign says why");
}

#[tokio::test]
async fn a_dead_supervisor_finishes_its_job_and_stays() {
    let stage = Stage::new(Flaw::SupervisorDead).await;
    stage.hand_over();
    let job_id = stage.queue_job();
    let instance = tokio::spawn(run(stage.process.clone()));
    for _ in 0..200 {
        if stage.server.world().github.job(job_id).unwrap().state.status() == "completed" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    stage.drain();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(stage.server.world().github.job(job_id).unwrap().state.status(), "completed");
    assert_eq!(stage.server.world().ec2.alive().len(), 1);
    assert!(!instance.is_finished());
    assert_eq!(stage.signs(), Vec::<String>::new());
    instance.abort();
}
