//! The double's EC2 answers have the shape of moto's: the same elements in the same places.
//!
//! Values are not compared. What only one of the two has is listed here with its reason.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use quick_xml::Reader;
use quick_xml::events::Event;
use runner_scaler_world::http::ec2::{Ec2HttpAnswer, handle};
use runner_scaler_world::{Settings, Tape, World};
use std::collections::BTreeSet;

type Paths = BTreeSet<String>;

/// Call, our answer, moto's, what moto leaves out although EC2's API reference has it, what must be there.
type Case<'a> = (&'a str, &'a str, &'a str, &'a [&'a str], &'a [&'a str]);

const INSTANCE: &str = "DescribeInstancesResponse/reservationSet/item/instancesSet/item";

/// Every element's path from the root.
fn paths(xml: &str) -> Paths {
    let mut reader = Reader::from_str(xml);
    let (mut here, mut paths) = (Vec::<String>::new(), Paths::new());
    loop {
        let mut enter = |name: &str, here: &mut Vec<String>| {
            here.push(name.to_owned());
            paths.insert(here.join("/"));
        };
        match reader.read_event().unwrap() {
            Event::Start(element) => enter(element.name().as_ref(), &mut here),
            Event::Empty(element) => {
                enter(element.name().as_ref(), &mut here);
                here.pop();
            }
            Event::End(_) => {
                here.pop();
            }
            Event::Eof => return paths,
            Event::Text(_)
            | Event::CData(_)
            | Event::Comment(_)
            | Event::Decl(_)
            | Event::PI(_)
            | Event::DocType(_)
            | Event::GeneralRef(_) => {}
        }
    }
}

struct Calls(World);

impl Calls {
    fn send(&mut self, form: &[(&str, &str)]) -> String {
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.append_pair("Version", "2016-11-15").extend_pairs(form);
        match handle(&mut self.0, "test", body.finish().as_bytes()) {
            Ec2HttpAnswer::Reply { body, .. } => body,
            Ec2HttpAnswer::NoReply => panic!("no answer"),
        }
    }
}

#[test]
fn answers_have_the_shape_of_motos() {
    let world = World::new(Settings::default(), Tape::from_choices(vec![]), 1_800_000_000_000);
    let mut calls = Calls(world);
    let fleet = calls.send(&[
        ("Action", "CreateFleet"),
        ("Type", "instant"),
        ("LaunchTemplateConfigs.1.LaunchTemplateSpecification.LaunchTemplateId", "lt-1"),
        ("LaunchTemplateConfigs.1.LaunchTemplateSpecification.Version", "1"),
        ("LaunchTemplateConfigs.1.Overrides.1.InstanceType", "m5.large"),
        ("LaunchTemplateConfigs.1.Overrides.1.SubnetId", "subnet-1"),
        ("TargetCapacitySpecification.TotalTargetCapacity", "2"),
        ("TargetCapacitySpecification.DefaultTargetCapacityType", "spot"),
        ("TagSpecification.1.ResourceType", "instance"),
        ("TagSpecification.1.Tag.1.Key", "ghr:environment"),
        ("TagSpecification.1.Tag.1.Value", "local"),
    ]);
    let id = calls.0.ec2.alive().remove(0);
    calls.0.advance_to(1_800_000_600_000);
    let tags = calls.send(&[("Action", "CreateTags"), ("ResourceId.1", &id), ("Tag.1.Key", "a"), ("Tag.1.Value", "b")]);
    let running = calls.send(&[("Action", "DescribeInstances"), ("InstanceId.1", &id)]);
    let ending = calls.send(&[("Action", "TerminateInstances"), ("InstanceId.1", &id)]);
    calls.0.advance_to(1_800_001_200_000);
    let ended = calls.send(&[("Action", "DescribeInstances"), ("InstanceId.1", &id)]);
    let unknown = calls.send(&[("Action", "TerminateInstances"), ("InstanceId.1", "i-00000000000000000")]);

    let client_token = format!("{INSTANCE}/clientToken");
    let (required_of_instance, state_reason) = (
        [
            "instanceId",
            "instanceState/code",
            "instanceState/name",
            "launchTime",
            "tagSet/item/key",
            "tagSet/item/value",
        ],
        format!("{INSTANCE}/stateReason/code"),
    );
    let instance_paths: Vec<_> = required_of_instance.iter().map(|path| format!("{INSTANCE}/{path}")).collect();
    let of_instance: Vec<_> = instance_paths.iter().map(String::as_str).collect();

    let cases: [Case<'_>; 6] = [
        (
            "CreateFleet",
            &fleet,
            include_str!("fixtures/moto/create_fleet.xml"),
            &["CreateFleetResponse/errorSet"],
            &["CreateFleetResponse/fleetId", "CreateFleetResponse/fleetInstanceSet/item/instanceIds/item"],
        ),
        ("CreateTags", &tags, include_str!("fixtures/moto/create_tags.xml"), &["CreateTagsResponse/return"], &[]),
        (
            "a running instance",
            &running,
            include_str!("fixtures/moto/describe_instances.xml"),
            &[&client_token],
            &of_instance,
        ),
        (
            "a terminated instance",
            &ended,
            include_str!("fixtures/moto/describe_instances_ended.xml"),
            &[&client_token],
            &[&state_reason],
        ),
        (
            "TerminateInstances",
            &ending,
            include_str!("fixtures/moto/terminate_instances.xml"),
            &[],
            &["TerminateInstancesResponse/instancesSet/item/currentState/name"],
        ),
        (
            "an unknown id",
            &unknown,
            include_str!("fixtures/moto/instance_not_found.xml"),
            &[],
            &["Response/Errors/Error/Code"],
        ),
    ];
    for (call, ours, motos, only_ours, required) in cases {
        let (ours, motos) = (paths(ours), paths(motos));
        let invented: Vec<_> = ours.difference(&motos).filter(|path| !only_ours.contains(&path.as_str())).collect();
        assert!(invented.is_empty(), "{call}: not in moto's answer: {invented:?}");
        for path in required {
            assert!(ours.contains(*path), "{call}: we lack {path}");
            assert!(motos.contains(*path), "{call}: moto lacks {path}, so the fixture proves nothing");
        }
    }
    assert!(unknown.contains("<Code>InvalidInstanceID.NotFound</Code>"));
}
