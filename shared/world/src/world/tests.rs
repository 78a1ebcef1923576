//! What one part's event means for the other, and the adversary.

use super::*;
use crate::ec2::{FleetRequest, LaunchTemplate, Market, Pool, TemplateConfig};
use crate::github::{AcquireAnswer, JitRequest, JobSpec, OwnerKind, PollAnswer, Scope, SessionAnswer};
use crate::trap::CallPattern;
use crate::truth::{Outside, promises};

fn world() -> World {
    let mut settings = Settings::default();
    settings.github.pickup_ms = (0, 0);
    let mut world = World::new(settings, Tape::from_seed(5), 0);
    world.github.install("acme", OwnerKind::Organization, &["shop"]);
    world
}

/// Launches an instance and lets it boot.
fn launch(world: &mut World, fleet: &str) -> String {
    let request = FleetRequest {
        client_token: None,
        kind: "instant".into(),
        configs: vec![TemplateConfig {
            template: LaunchTemplate { id: Some("lt-1".into()), name: None, version: Some("1".into()) },
            overrides: vec![Pool { instance_type: Some("m7a.large".into()), subnet_id: Some("subnet-1".into()) }],
        }],
        total_target_capacity: 1,
        market: Market::OnDemand,
        min_target_capacity: None,
        instance_tags: Tags::from([(FLEET_TAG.to_owned(), fleet.to_owned())]),
        other: BTreeMap::new(),
    };
    let now = world.now();
    let World { ec2, tape, .. } = world;
    let answer = ec2.create_fleet(&request, now, tape).unwrap();
    world.advance_to(now + 300_000);
    answer.groups[0].instance_ids[0].clone()
}

/// A runner on the instance that runs a job: the job's id.
fn run_job(world: &mut World, instance_id: &str) -> u64 {
    let (github, mut cx) = world.github();
    let spec = JobSpec {
        repository: "acme/shop".into(),
        name: "build".into(),
        labels: vec!["x".into()],
        duration_ms: 1_000,
        conclusion: "success".into(),
    };
    let job = github.add_job(&mut cx, spec).unwrap();
    let request = JitRequest {
        name: format!("ghr-{instance_id}"),
        runner_group_id: 1,
        labels: vec!["x".into()],
        work_folder: None,
    };
    let (runner, jit) = github.generate_jitconfig(&mut cx, Scope::Organization("acme".into()), request).unwrap();
    assert!(matches!(github.open_session(&mut cx, &jit, Some(instance_id)), SessionAnswer::Opened { .. }));
    github.advance(&mut cx);
    assert!(matches!(github.poll(&mut cx, runner.id), PollAnswer::Job(_)));
    assert_eq!(github.acquire(&mut cx, job, runner.id), AcquireAnswer::Acquired);
    job
}

fn terminate(world: &mut World, instance_id: &str) -> Interference {
    let ids = [instance_id.to_owned()];
    let call = Call::new(Api::Ec2, "TerminateInstances", "scale-down").about_instances(&ids);
    let before = world.begin_call(&call);
    if before != Interference::Proceed {
        return before;
    }
    let now = world.now();
    let World { ec2, tape, .. } = world;
    ec2.terminate_instances(&ids, "scale-down", now, tape).unwrap();
    world.end_call(&call)
}

fn broken(world: &World) -> Vec<&'static str> {
    promises(world, &Outside::default()).into_iter().filter(|p| !p.held).map(|p| p.name).collect()
}

#[test]
fn an_instance_that_boots_is_to_be_started_and_one_that_ends_to_be_killed() {
    let mut world = world();
    let id = launch(&mut world, "small");
    let boot = HostEffect::BootInstance { instance_id: id.clone(), flaw: Flaw::None };
    assert_eq!(world.take_host_effects(), [boot]);
    terminate(&mut world, &id);
    assert_eq!(world.take_host_effects(), [HostEffect::KillInstance { instance_id: id.clone() }]);
    assert!(broken(&world).is_empty(), "it was idle");
}

#[test]
fn a_termination_kills_the_job_and_breaks_two_promises() {
    let mut world = world();
    let id = launch(&mut world, "small");
    run_job(&mut world, &id);
    terminate(&mut world, &id);
    let left = broken(&world);
    assert!(left.contains(&"P1") && left.contains(&"P3"), "{left:?}");
    let texts: Vec<String> = world.take_events().into_iter().map(|e| e.text).collect();
    assert!(texts.iter().any(|t| t.contains("KILLED")), "{texts:?}");
    assert!(world.take_events().is_empty(), "each event is told once");
}

#[test]
fn flaws_go_to_the_planned_instance_of_the_planned_fleet() {
    let mut world = world();
    world.plan_flaw(FlawPlan { fleet: Some("large".into()), skip: 1, flaw: Flaw::NeverRegisters });
    let flaws: Vec<Flaw> = ["small", "large", "large", "large"]
        .into_iter()
        .map(|fleet| {
            launch(&mut world, fleet);
            match world.take_host_effects().pop() {
                Some(HostEffect::BootInstance { flaw, .. }) => flaw,
                other => panic!("{other:?}"),
            }
        })
        .collect();
    assert_eq!(flaws, [Flaw::None, Flaw::None, Flaw::NeverRegisters, Flaw::None]);
}

#[test]
fn touching_an_instance_of_somebody_else_is_seen_before_ec2_answers() {
    let mut world = world();
    let foreign = world.launch_foreign(Tags::new());
    let call =
        |operation| Call::new(Api::Ec2, operation, "orphan-sweeper").about_instances(std::slice::from_ref(&foreign));
    world.begin_call(&call("DescribeInstances"));
    assert!(!broken(&world).contains(&"P5"), "looking is free");
    world.begin_call(&call("CreateTags"));
    assert_eq!(broken(&world), ["P5"]);
}

#[test]
fn a_killed_caller_gets_no_answer_and_its_call_no_effect_before_the_effect() {
    let mut world = world();
    let id = launch(&mut world, "small");
    world.take_host_effects();
    world.set_trap(Trap {
        on: CallPattern { instance_id: Some(id.clone()), ..CallPattern::default() },
        phase: Phase::BeforeEffect,
        action: TrapAction::KillCaller,
    });
    assert_eq!(terminate(&mut world, &id), Interference::LoseReply);
    assert_eq!(world.take_host_effects(), [HostEffect::KillCaller { caller: "scale-down".into() }]);
    assert_eq!(world.ec2.alive(), [id]);
}

#[test]
fn what_befalls_an_instance_leaves_what_it_leaves_in_reality() {
    // (what befalls it, EC2's state, found at GitHub, its job goes on, its process is killed)
    for (misfortune, state, found, goes_on, killed) in [
        (Misfortune::Stopped, State::Stopped, true, false, true),
        (Misfortune::ListenerDead, State::Running, true, false, true),
        (Misfortune::Unlisted, State::Running, false, true, false),
        (Misfortune::RegistrationRemoved, State::Running, false, true, false),
        (Misfortune::Protected, State::Running, true, true, false),
        (Misfortune::Unprotected, State::Running, true, true, false),
    ] {
        let mut world = world();
        let id = launch(&mut world, "small");
        let job = run_job(&mut world, &id);
        world.take_host_effects();
        assert!(world.befall(&id, misfortune), "{misfortune:?}");
        let kills = world.take_host_effects() == [HostEffect::KillInstance { instance_id: id.clone() }];
        assert_eq!((kills, kills), (killed, misfortune.ends_jobs()), "{misfortune:?}");
        assert_eq!(world.ec2.instance(&id).unwrap().state, state, "{misfortune:?}");
        let (scope, runner) = (Scope::Organization("acme".into()), world.github.job(job).unwrap().runner.clone());
        let (runner_id, name, _) = runner.unwrap();
        assert_eq!(world.github.runner(&scope, runner_id).is_some(), found, "{misfortune:?} by id");
        let (github, mut cx) = world.github();
        assert_eq!(
            github.list_runners(&mut cx, &scope, Some(&name)).len(),
            usize::from(found),
            "{misfortune:?} listed"
        );
        let polled = matches!(github.poll(&mut cx, runner_id), PollAnswer::Nothing);
        assert!(polled, "{misfortune:?}: a listener that is left learns nothing yet");
        assert_eq!(github.complete(&mut cx, job, runner_id, "success"), goes_on, "{misfortune:?}: its job goes on");
        let ours = broken(&world);
        assert!(!ours.contains(&"P1") && !ours.contains(&"P3"), "{misfortune:?} is nobody's fault: {ours:?}");
    }
}

#[test]
fn a_misfortune_that_cannot_be_is_refused() {
    let mut world = world();
    let id = launch(&mut world, "small");
    for (case, misfortune) in [
        ("an on-demand instance is not taken back", Misfortune::TakenBack),
        ("nobody unlists a runner that is not there", Misfortune::Unlisted),
        ("nor removes it", Misfortune::RegistrationRemoved),
    ] {
        assert!(!world.befall(&id, misfortune), "{case}");
    }
    terminate(&mut world, &id);
    assert!(!world.befall(&id, Misfortune::Stopped), "it is on its way out");
    assert!(!world.befall(&id, Misfortune::Protected), "too late");
    assert!(world.truth.facts().iter().all(|(_, fact)| !matches!(fact, Fact::Befell { .. })));
}

#[test]
fn time_never_goes_back() {
    let mut world = world();
    world.advance_to(5_000);
    world.advance_to(3_000);
    assert_eq!(world.now(), 5_000);
}
