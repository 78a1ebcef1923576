//! Calls as aws-sdk-ec2 serialises them, answers as it parses them, and the adversary in between.

use super::*;
use crate::misfortune::Misfortune;
use crate::trap::{CallPattern, Phase, Trap, TrapAction};
use crate::{Settings, Tape};

fn world() -> World {
    World::new(Settings::default(), Tape::from_choices(vec![]), 1_800_000_000_000)
}

fn send(world: &mut World, action: &str, form: &[(&str, &str)]) -> Ec2HttpAnswer {
    let mut body = form_urlencoded::Serializer::new(String::new());
    body.append_pair("Action", action).append_pair("Version", API_VERSION).extend_pairs(form);
    handle(world, "scale-up", body.finish().as_bytes())
}

fn reply(world: &mut World, action: &str, form: &[(&str, &str)]) -> (u16, String) {
    match send(world, action, form) {
        Ec2HttpAnswer::Reply { status, body } => (status, body),
        Ec2HttpAnswer::NoReply => panic!("no reply"),
    }
}

const FLEET: [(&str, &str); 15] = [
    ("ClientToken", "token"),
    ("Type", "instant"),
    ("SpotOptions.AllocationStrategy", "price-capacity-optimized"),
    ("LaunchTemplateConfigs.1.LaunchTemplateSpecification.LaunchTemplateId", "lt-1"),
    ("LaunchTemplateConfigs.1.LaunchTemplateSpecification.Version", "7"),
    ("LaunchTemplateConfigs.1.Overrides.1.InstanceType", "m7i.large"),
    ("LaunchTemplateConfigs.1.Overrides.1.SubnetId", "subnet-1"),
    ("LaunchTemplateConfigs.1.Overrides.2.InstanceType", "m7a.large"),
    ("LaunchTemplateConfigs.1.Overrides.2.SubnetId", "subnet-1"),
    ("TargetCapacitySpecification.TotalTargetCapacity", "1"),
    ("TargetCapacitySpecification.DefaultTargetCapacityType", "spot"),
    ("TargetCapacitySpecification.SpotTargetCapacity", "1"),
    ("TagSpecification.1.ResourceType", "instance"),
    ("TagSpecification.1.Tag.1.Key", "ghr:launch"),
    ("TagSpecification.1.Tag.1.Value", "a<b&c"),
];

#[test]
fn a_fleet_is_launched_described_tagged_and_terminated() {
    let mut world = world();
    let (status, body) = reply(&mut world, "CreateFleet", &FLEET);
    assert_eq!(status, 200, "{body}");
    let id = world.ec2.alive().remove(0);
    assert!(body.contains(&format!("<instanceIds><item>{id}</item></instanceIds>")), "{body}");
    assert_eq!(reply(&mut world, "CreateFleet", &FLEET), (200, body), "the same token, the same answer");

    let by_tag = [("Filter.1.Name", "tag:ghr:launch"), ("Filter.1.Value.1", "a<b&c"), ("MaxResults", "1000")];
    let (_, body) = reply(&mut world, "DescribeInstances", &by_tag);
    for part in [
        "<launchTime>2027-01-15T08:00:00.000Z</launchTime>",
        "<instanceState><code>0</code><name>pending</name></instanceState>",
        "<item><key>ghr:launch</key><value>a&lt;b&amp;c</value></item>",
        "<item><key>aws:ec2launchtemplate:version</key><value>7</value></item>",
        "<instanceLifecycle>spot</instanceLifecycle>",
    ] {
        assert!(body.contains(part), "{part} in {body}");
    }
    let tag = [("ResourceId.1", id.as_str()), ("Tag.1.Key", "ghr:drain"), ("Tag.1.Value", "now")];
    assert_eq!(reply(&mut world, "CreateTags", &tag).0, 200);
    assert_eq!(world.ec2.instance(&id).unwrap().tags["ghr:drain"], "now");
    let (_, body) = reply(&mut world, "TerminateInstances", &[("InstanceId.1", &id)]);
    assert!(body.contains("<currentState><code>32</code><name>shutting-down</name></currentState>"), "{body}");
    assert_eq!(world.ec2.alive(), Vec::<String>::new());
}

#[test]
fn wrong_calls_are_refused_in_ec2s_words() {
    let mut world = world();
    let unknown_parameter: Vec<_> = FLEET.into_iter().chain([("Colour", "red")]).collect();
    let mixed: Vec<_> =
        FLEET.into_iter().chain([("TargetCapacitySpecification.OnDemandTargetCapacity", "1")]).collect();
    for (case, action, form, code) in [
        ("an unknown operation", "RebootInstances", &[][..], "InvalidAction"),
        ("an unknown parameter", "CreateFleet", &unknown_parameter, "UnknownParameter"),
        ("both markets", "CreateFleet", &mixed, "UnsupportedOperation"),
        ("no capacity named", "CreateFleet", &FLEET[..9], "MissingParameter"),
        ("a page size that is no number", "DescribeInstances", &[("MaxResults", "x")], "InvalidParameterValue"),
        (
            "an unknown id",
            "TerminateInstances",
            &[("InstanceId.1", "i-00000000000000000")],
            "InvalidInstanceID.NotFound",
        ),
        ("nothing to terminate", "TerminateInstances", &[], "MissingParameter"),
        ("a dry run", "TerminateInstances", &[("InstanceId.1", "i-1"), ("DryRun", "true")], "DryRunOperation"),
    ] {
        let (status, body) = reply(&mut world, action, form);
        assert!((400..500).contains(&status), "{case}: {status}");
        assert!(body.contains(&format!("<Response><Errors><Error><Code>{code}</Code>")), "{case}: {body}");
    }
    assert_eq!(world.ec2.alive(), Vec::<String>::new());
}

#[test]
fn a_protected_instance_is_not_terminated_until_somebody_lifts_the_protection() {
    let mut world = world();
    let on_demand = FLEET.map(|(name, value)| match name {
        "TargetCapacitySpecification.DefaultTargetCapacityType" => (name, "on-demand"),
        "TargetCapacitySpecification.SpotTargetCapacity" => {
            ("TargetCapacitySpecification.OnDemandTargetCapacity", value)
        }
        _as_it_is => (name, value),
    });
    assert_eq!(reply(&mut world, "CreateFleet", &on_demand).0, 200);
    let id = world.ec2.alive().remove(0);
    assert!(world.befall(&id, Misfortune::Protected));
    let (status, body) = reply(&mut world, "TerminateInstances", &[("InstanceId.1", &id)]);
    assert_eq!(status, 400);
    assert!(body.contains("<Code>OperationNotPermitted</Code>"), "{body}");
    let refused = Fact::TerminationRefused { instance_id: id.clone(), caller: "scale-up".into() };
    assert!(world.truth.facts().iter().any(|(_, fact)| *fact == refused));
    assert_eq!(world.ec2.alive(), [id.as_str()]);
    assert!(world.befall(&id, Misfortune::Unprotected));
    assert_eq!(reply(&mut world, "TerminateInstances", &[("InstanceId.1", &id)]).0, 200);
    assert_eq!(world.ec2.alive(), Vec::<String>::new());
}

#[test]
fn the_adversary_acts_before_or_after_the_effect() {
    let trap = |phase, action| Trap {
        on: CallPattern { operation: Some("CreateFleet".into()), ..CallPattern::default() },
        phase,
        action,
    };
    for (case, phase, action, replied, alive) in [
        ("fails before", Phase::BeforeEffect, TrapAction::Fail { status: 500 }, Some(500), 0),
        ("fails after", Phase::AfterEffect, TrapAction::Fail { status: 503 }, Some(503), 1),
        ("lost before", Phase::BeforeEffect, TrapAction::LoseReply, None, 0),
        ("lost after", Phase::AfterEffect, TrapAction::LoseReply, None, 1),
        ("killed after", Phase::AfterEffect, TrapAction::KillCaller, None, 1),
    ] {
        let mut world = world();
        world.set_trap(trap(phase, action));
        let status = match send(&mut world, "CreateFleet", &FLEET) {
            Ec2HttpAnswer::Reply { status, .. } => Some(status),
            Ec2HttpAnswer::NoReply => None,
        };
        assert_eq!((status, world.ec2.alive().len()), (replied, alive), "{case}");
        assert_eq!(reply(&mut world, "CreateFleet", &FLEET).0, 200, "{case}: once");
        assert_eq!(world.ec2.alive().len(), 1, "{case}: the token launches once");
    }
}
