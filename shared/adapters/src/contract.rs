//! The adapters and the SDK's own parsers against the world server: what the simulated EC2 and GitHub answer must be
//! what the real ones are read by.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::RsaKeyPair;
use runner_scaler_core::config::{LaunchTemplate, Market};
use runner_scaler_core::error::{Class, Classify};
use runner_scaler_core::ids::{
    Access, Deployment, InstallationId, InstanceId, JobId, LaunchToken, Repository, RunnerId, RunnerName, Scope,
};
use runner_scaler_core::ports::{
    AccountKind, Compute, ComputeRead, DeliveryLog, Deregistration, InstanceState, JitRequest, JobSearch, JobState,
    Jobs, LaunchFault, LaunchRequest, Offering, Redelivery, Registered, Registry, RegistryRead, Termination,
};
use runner_scaler_core::time::Timestamp;
use runner_scaler_world::call::Api;
use runner_scaler_world::github::{JobSpec, OwnerKind};
use runner_scaler_world::http::server::{ServerSettings, WorldServer, wall_now};
use runner_scaler_world::trap::{CallPattern, Phase, Trap, TrapAction};
use runner_scaler_world::{Settings, Tape, World};

use crate::Adapters;
use crate::leaves::{termination_proof, warrant};
use crate::wire::Wire;

/// A world, and adapters whose EC2 and GitHub it is; SSM is the script's.
struct Stage {
    world: WorldServer,
    adapters: Adapters,
    _ssm: Wire,
}

async fn stage(settings: impl FnOnce(&mut Settings)) -> Stage {
    let mut chosen = Settings::default();
    settings(&mut chosen);
    let world = World::new(chosen, Tape::from_choices(Vec::new()), wall_now());
    let settings = ServerSettings {
        listen: ([127, 0, 0, 1], 0).into(),
        webhook_url: None,
        webhook_secret: "0123456789abcdef".to_owned(),
        app_public_key_der: Some(public_key()),
    };
    let world = WorldServer::start(world, settings).await.expect("a free port");
    let ssm = Wire::start(|_| None).await;
    let adapters = ssm.adapters_with(world.base_url());
    Stage { world, adapters, _ssm: ssm }
}

fn public_key() -> Vec<u8> {
    let pem = include_str!("../tests/fixtures/test-key-pkcs1.pem");
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let key = RsaKeyPair::from_der(&STANDARD.decode(body).expect("base64")).expect("a key");
    key.public().as_ref().to_vec()
}

fn request(token: &str, count: u32) -> LaunchRequest {
    let tags = [("ghr:environment", "prod"), ("ghr:launch", token), ("Name", "runner & co <1>")];
    LaunchRequest {
        token: LaunchToken::new(token),
        count,
        market: Market::Spot,
        template: LaunchTemplate { id: "lt-0123456789abcdef0".into(), version: "3".into() },
        offerings: ["m7i.large", "m6i.large"].map(offering).into(),
        tags: tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
    }
}

fn offering(instance_type: &str) -> Offering {
    Offering { instance_type: instance_type.to_owned(), subnet_id: "subnet-1".to_owned() }
}

fn trap(api: Api, operation: &str, phase: Phase, action: TrapAction) -> Trap {
    let on = CallPattern {
        api: Some(api),
        operation: Some(operation.to_owned()),
        caller: Some("scale-down".to_owned()),
        ..CallPattern::default()
    };
    Trap { on, phase, action }
}

fn organization(id: u64) -> Access {
    Access { scope: Scope::Organization { owner: "octo".into() }, installation_id: Some(InstallationId(id)) }
}

#[tokio::test]
async fn a_launch_in_part_is_answered_and_repeated_under_its_token() {
    let one_each = [("m7i.large".to_owned(), 1), ("m6i.large".to_owned(), 1)];
    let stage = stage(|settings| settings.ec2.capacity = BTreeMap::from(one_each)).await;
    let adapters = &stage.adapters;
    let answer = adapters.create_fleet(&request("token-1", 3)).await.expect("two of three");
    assert_eq!(answer.instance_ids.len(), 2);
    let out = ["m7i.large", "m6i.large"].map(|instance_type| LaunchFault {
        code: "InsufficientInstanceCapacity".to_owned(),
        class: Class::NoCapacity,
        offering: Some(offering(instance_type)),
    });
    assert!(answer.errors.iter().any(|fault| out.contains(fault)), "{:?}", answer.errors);
    assert_eq!(adapters.create_fleet(&request("token-1", 3)).await.expect("the same"), answer);
    let refused = adapters.create_fleet(&request("token-1", 2)).await.expect_err("another request");
    assert_eq!(refused.class(), Class::Rejected, "{refused}");
    let none = adapters.create_fleet(&request("token-2", 1)).await.expect("an answer without instances");
    assert_eq!(none.instance_ids, []);
    assert_eq!(adapters.instances_of_launch(&LaunchToken::new("token-2")).await.expect("a listing"), []);
}

#[tokio::test]
async fn an_instance_is_listed_drained_and_ended() {
    let stage = stage(|settings| settings.ec2.page_size = 1).await;
    let adapters = &stage.adapters;
    let ids = adapters.create_fleet(&request("token-1", 3)).await.expect("three").instance_ids;
    stage.world.world().launch_foreign(BTreeMap::from([("ghr:environment".to_owned(), "test".to_owned())]));

    let listed = adapters.instances(&Deployment::new("prod")).await.expect("three pages");
    assert_eq!(listed.len(), 3, "of this deployment, one a page");
    let first = listed.iter().find(|instance| ids.first() == Some(&instance.id)).expect("launched");
    assert_eq!(first.state, InstanceState::Pending);
    assert!((wall_now() - first.launched_at.0).abs() < 60_000, "launched at {}", first.launched_at);
    for (key, expected) in
        [("ghr:launch", "token-1"), ("Name", "runner & co <1>"), ("aws:ec2launchtemplate:id", "lt-0123456789abcdef0")]
    {
        assert_eq!(first.tags.get(key).map(String::as_str), Some(expected), "{key}");
    }

    let at = Timestamp::parse("2026-11-20T10:00:00Z").expect("RFC 3339");
    let unknown = InstanceId::new("i-00000000000000000");
    let asked: Vec<InstanceId> = ids.iter().cloned().chain([unknown.clone()]).collect();
    let tagged = adapters.request_drain(&asked, at).await.expect("the unknown one is left out");
    assert_eq!(tagged, ids);
    let id = ids.first().expect("three");
    let proof = termination_proof(id.as_str(), organization(1)).await;
    assert_eq!(adapters.terminate(proof).await.expect("taken"), Termination::Accepted);
    let refused = adapters.terminate(termination_proof(unknown.as_str(), organization(1)).await).await;
    assert_eq!(refused.expect_err("unknown").class(), Class::Absent);
    for instance in adapters.instances_of_launch(&LaunchToken::new("token-1")).await.expect("three") {
        let expected = if &instance.id == id { InstanceState::ShuttingDown } else { InstanceState::Pending };
        assert_eq!(instance.state, expected);
        assert_eq!(instance.tags.get("ghr:drain"), Some(&at.to_string()));
    }
}

#[tokio::test]
async fn ec2s_faults_are_classed_as_what_they_leave_behind() {
    let throttled = Class::Throttled { retry_after: None };
    let stage = stage(|settings| settings.ec2.throttle_rate = 1.0).await;
    let refused = stage.adapters.instances(&Deployment::new("prod")).await.expect_err("throttled");
    assert_eq!(refused.class(), throttled);
    assert_eq!(stage.adapters.create_fleet(&request("t", 1)).await.expect_err("throttled").class(), throttled);

    let stage = self::stage(|_| {}).await;
    for (phase, action) in
        [(Phase::AfterEffect, TrapAction::LoseReply), (Phase::AfterEffect, TrapAction::Fail { status: 500 })]
    {
        stage.world.world().set_trap(trap(Api::Ec2, "CreateFleet", phase, action.clone()));
        let answer = stage.adapters.create_fleet(&request("t", 1)).await.expect("repeated under its token");
        let launched = stage.adapters.instances_of_launch(&LaunchToken::new("t")).await.expect("a listing");
        assert_eq!((answer.instance_ids.len(), launched.len()), (1, 1), "{action:?}: launched once");
    }
}

#[tokio::test]
async fn a_registration_is_made_found_and_deleted() {
    let stage = stage(|_| {}).await;
    let adapters = &stage.adapters;
    let id = stage.world.world().github().0.install("octo", OwnerKind::Organization, &["hello"]);
    // A stale id: the owner is looked up.
    let access = organization(id + 1_000);
    let jit =
        |name: String| JitRequest { name: RunnerName::new(name), labels: vec!["linux".into()], runner_group_id: 1 };
    for n in 0..101 {
        let registered = adapters.generate_jit_config(&access, &jit(format!("runner-{n}"))).await.expect("an answer");
        assert!(matches!(registered, Registered::Created { .. }), "{registered:?}");
    }
    let again = adapters.generate_jit_config(&access, &jit("runner-7".to_owned())).await.expect("an answer");
    assert_eq!(again, Registered::NameTaken);

    let listed = adapters.runners(&access).await.expect("two pages");
    assert_eq!(listed.len(), 101);
    let named = adapters.runner_named(&access, &RunnerName::new("runner-7")).await.expect("a list").expect("listed");
    assert_eq!((named.online, named.busy, &named.version), (false, false, &Some(None)), "it never connected");
    assert_eq!(adapters.runner(&access, named.id).await.expect("an answer"), Some(named.clone()));

    let deleted = adapters.deregister(warrant(named.id, access.clone()).await).await;
    assert_eq!(deleted.expect("an answer"), Deregistration::Deleted);
    assert_eq!(adapters.runner(&access, named.id).await.expect("an answer"), None);
    let deleted = adapters.deregister(warrant(named.id, access.clone()).await).await;
    assert_eq!(deleted.expect("an answer"), Deregistration::Absent);

    let survivor = listed.iter().find(|runner| runner.id != named.id).map(|runner| runner.id).expect("a hundred");
    let lost = trap(Api::GitHub, "DeleteRunner", Phase::AfterEffect, TrapAction::LoseReply);
    stage.world.world().set_trap(lost);
    let refused = adapters.deregister(warrant(survivor, access.clone()).await).await.expect_err("no answer");
    assert_eq!(refused.class(), Class::OutcomeUnknown, "{refused}");
    assert_eq!(adapters.runner(&access, survivor).await.expect("an answer"), None, "it had been deleted");
}

#[tokio::test]
async fn jobs_and_deliveries_are_read() {
    let stage = stage(|_| {}).await;
    let job_id = {
        let mut world = stage.world.world();
        let (github, mut cx) = world.github();
        github.install("octo", OwnerKind::Organization, &["hello"]);
        let spec = JobSpec {
            repository: "octo/hello".into(),
            name: "build".into(),
            labels: vec!["linux".into()],
            duration_ms: 1_000,
            conclusion: "success".into(),
        };
        github.add_job(&mut cx, spec).expect("queued")
    };
    let hello = Repository::try_from("octo/hello".to_owned()).expect("a full name");
    let job = stage.adapters.job(&hello, None, JobId(job_id)).await.expect("a job");
    assert_eq!((job.state, job.runner_id, job.completed_at), (JobState::Queued, None::<RunnerId>, None));
    let refused = stage.adapters.job(&hello, None, JobId(1)).await.expect_err("no such job");
    assert_eq!(refused.class(), Class::Absent);
    assert_eq!(stage.adapters.jobs_in_progress(&hello, None).await.expect("the runs and their jobs"), []);
    let open = stage.adapters.jobs_of_open_runs(&hello, None).await.expect("six lists and their jobs");
    assert_eq!(open.iter().map(|job| (job.id, job.state)).collect::<Vec<_>>(), [(JobId(job_id), JobState::Queued)]);
    let access = Access { installation_id: None, ..organization(0) };
    let reached = stage.adapters.repositories(&access).await.expect("a list");
    assert_eq!(reached, std::slice::from_ref(&hello));
    stage.adapters.failed_deliveries_since(Timestamp(0), None).await.expect("the log");
    let refused = stage.adapters.delivery_payload(1).await.expect_err("no such delivery");
    assert_eq!(refused.class(), Class::Absent);
    let refused = stage.adapters.redeliver(1).await.expect_err("no such delivery");
    assert_eq!(refused.class(), Class::Absent);

    let [installation] = stage.adapters.installations().await.expect("a list").try_into().expect("one");
    assert_eq!((installation.owner.as_str(), installation.kind), ("octo", AccountKind::Organization));
    // Listed a moment ago under this token: free.
    let reached = stage.adapters.repositories_of(&installation).await.expect("a list");
    let [one] = reached.value.as_slice() else { panic!("one: {reached:?}") };
    assert_eq!(one.repository, hello);
    assert!(one.id.is_some() && one.owner_id.is_some(), "{one:?}");
    for charged in [2, 0] {
        let runs = stage.adapters.open_runs(&hello, installation.id).await.expect("two lists");
        assert_eq!((runs.value.len(), runs.charged), (1, charged));
        let run_id = runs.value.first().copied().expect("one");
        let jobs = stage.adapters.jobs_of_run(&hello, installation.id, run_id).await.expect("a list");
        let [job] = jobs.value.as_slice() else { panic!("one job") };
        assert_eq!(
            (job.id, job.state, job.labels.as_slice()),
            (JobId(job_id), JobState::Queued, &["linux".to_owned()][..])
        );
        assert_eq!((job.run_id, job.created_at.is_some(), jobs.charged), (run_id, true, charged / 2));
    }
    let budget = stage.adapters.budget("octo").await.expect("told with every answer");
    // Seven of them are the six lists of runs, one of which has a run, and its jobs.
    assert_eq!(budget.limit - budget.remaining, 15, "what was answered 304 is free");
}
