//! EC2 on the wire.

use std::collections::BTreeMap;

use runner_scaler_core::config::LaunchTemplate;
use runner_scaler_core::error::Classify;
use runner_scaler_core::ids::{Access, Scope};

use super::*;
use crate::leaves::termination_proof;
use crate::wire::{Reply, Seen, Wire};

const NAMESPACE: &str = r#"xmlns="http://ec2.amazonaws.com/doc/2016-11-15/""#;

fn page(instances: &[(&str, &str)], next_token: &str) -> Reply {
    let item = |(id, state): &(&str, &str)| {
        format!(
            "<item><reservationId>r-1</reservationId><ownerId>123456789012</ownerId><instancesSet><item>\
             <instanceId>{id}</instanceId><instanceState><code>16</code><name>{state}</name></instanceState>\
             <launchTime>2026-11-20T10:00:00.000Z</launchTime>\
             <tagSet><item><key>ghr:environment</key><value>prod</value></item>\
             <item><key>aws:ec2launchtemplate:id</key><value>lt-1</value></item></tagSet></item></instancesSet></item>"
        )
    };
    let items: String = instances.iter().map(item).collect();
    Reply::new(
        200,
        format!(
            "<DescribeInstancesResponse {NAMESPACE}><requestId>r</requestId><reservationSet>{items}</reservationSet>\
             <nextToken>{next_token}</nextToken></DescribeInstancesResponse>"
        ),
    )
}

fn field<'a>(seen: &'a Seen, name: &str) -> Option<&'a str> {
    seen.body.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn request(market: Market) -> LaunchRequest {
    LaunchRequest {
        token: LaunchToken::new("token-1"),
        count: 2,
        market,
        template: LaunchTemplate { id: "lt-1".into(), version: "3".into() },
        offerings: [
            ("m7i.large", "subnet-1"),
            ("m7i.large", "subnet-2"),
            ("m6i.large", "subnet-1"),
            ("m6i.large", "subnet-2"),
        ]
        .map(|(instance_type, subnet_id)| Offering {
            instance_type: instance_type.to_owned(),
            subnet_id: subnet_id.to_owned(),
        })
        .into(),
        tags: BTreeMap::from([("ghr:launch".to_owned(), "token-1".to_owned())]),
    }
}

#[tokio::test]
async fn every_page_is_read_and_every_state_is_known_or_said_to_be_unknown() {
    let wire = Wire::start(|seen| match field(seen, "NextToken") {
        None => Some(page(&[("i-1", "pending"), ("i-2", "running"), ("i-3", "shutting-down")], "two")),
        Some("two") => Some(page(&[("i-4", "terminated"), ("i-5", "stopping"), ("i-6", "stopped")], "three")),
        Some(_) => Some(page(&[("i-7", "hibernating")], "")),
    })
    .await;
    let instances = wire.adapters().instances(&Deployment::new("prod")).await.expect("three pages");
    let states: Vec<_> = instances.iter().map(|instance| (instance.id.as_str(), instance.state)).collect();
    assert_eq!(
        states,
        [
            ("i-1", InstanceState::Pending),
            ("i-2", InstanceState::Running),
            ("i-3", InstanceState::ShuttingDown),
            ("i-4", InstanceState::Terminated),
            ("i-5", InstanceState::Stopping),
            ("i-6", InstanceState::Stopped),
            ("i-7", InstanceState::Unrecognised),
        ]
    );
    let first = instances.first().expect("seven");
    assert_eq!(Some(first.launched_at), Timestamp::parse("2026-11-20T10:00:00Z"));
    assert_eq!(first.tags.get("aws:ec2launchtemplate:id").map(String::as_str), Some("lt-1"));

    let seen = wire.seen();
    let asked = seen.first().expect("a request");
    assert_eq!(field(asked, "Filter.1.Name"), Some("tag%3Aghr%3Aenvironment"));
    assert_eq!((field(asked, "Filter.1.Value.1"), field(asked, "MaxResults")), (Some("prod"), Some("1000")));
    assert!(asked.header("user-agent").contains("app/scale-down"), "{}", asked.header("user-agent"));
}

#[tokio::test]
async fn an_error_in_any_page_is_an_error_of_the_whole() {
    for (case, second, expected) in [
        ("throttled", Reply::ec2_error(503, "RequestLimitExceeded"), Class::Throttled { retry_after: None }),
        ("a zone is down", Reply::ec2_error(500, "InternalError"), Class::Transient),
        ("denied", Reply::ec2_error(403, "UnauthorizedOperation"), Class::Misconfigured),
        ("no XML", Reply::new(200, "<html>"), Class::Transient),
        ("late", page(&[], "").late(), Class::Transient),
    ] {
        let wire = Wire::start(move |seen| match field(seen, "NextToken") {
            None => Some(page(&[("i-1", "running")], "two")),
            Some(_) => Some(second.clone()),
        })
        .await;
        let refused = wire.adapters().instances(&Deployment::new("prod")).await.expect_err(case);
        assert_eq!(refused.class(), expected, "{case}: {refused}");
        assert!(refused.to_string().starts_with("DescribeInstances tag:ghr:environment=prod failed"), "{refused}");
    }
}

#[tokio::test]
async fn a_launch_asks_for_each_type_in_each_subnet_under_its_token() {
    let wire = Wire::start(|_| {
        Some(Reply::new(
            200,
            format!(
                "<CreateFleetResponse {NAMESPACE}><requestId>r</requestId><fleetId>fleet-1</fleetId>\
                 <errorSet><item><errorCode>InsufficientInstanceCapacity</errorCode><errorMessage>no</errorMessage>\
                 </item></errorSet><fleetInstanceSet><item><instanceIds><item>i-1</item></instanceIds>\
                 <instanceType>m7i.large</instanceType></item></fleetInstanceSet></CreateFleetResponse>"
            ),
        ))
    })
    .await;
    let adapters = wire.adapters();
    for market in [Market::Spot, Market::Spot, Market::OnDemand] {
        let answer = adapters.create_fleet(&request(market)).await.expect("an answer");
        assert_eq!(answer.instance_ids, [InstanceId::new("i-1")]);
        let fault =
            LaunchFault { code: "InsufficientInstanceCapacity".to_owned(), class: Class::NoCapacity, offering: None };
        assert_eq!(answer.errors, [fault]);
    }
    let seen = wire.seen();
    let [spot, again, on_demand] = seen.as_slice() else { panic!("three requests: {seen:?}") };
    assert_eq!(spot.body, again.body, "byte-stable");
    for (name, expected) in [
        ("ClientToken", "token-1"),
        ("Type", "instant"),
        ("TargetCapacitySpecification.TotalTargetCapacity", "2"),
        ("TargetCapacitySpecification.DefaultTargetCapacityType", "spot"),
        ("SpotOptions.AllocationStrategy", "price-capacity-optimized"),
        ("LaunchTemplateConfigs.1.LaunchTemplateSpecification.LaunchTemplateId", "lt-1"),
        ("LaunchTemplateConfigs.1.LaunchTemplateSpecification.Version", "3"),
        ("LaunchTemplateConfigs.1.Overrides.1.InstanceType", "m7i.large"),
        ("LaunchTemplateConfigs.1.Overrides.1.SubnetId", "subnet-1"),
        ("LaunchTemplateConfigs.1.Overrides.4.InstanceType", "m6i.large"),
        ("LaunchTemplateConfigs.1.Overrides.4.SubnetId", "subnet-2"),
        ("TagSpecification.1.ResourceType", "instance"),
        ("TagSpecification.1.Tag.1.Key", "ghr%3Alaunch"),
    ] {
        assert_eq!(field(spot, name), Some(expected), "{name}");
    }
    assert_eq!(field(on_demand, "OnDemandOptions.AllocationStrategy"), Some("lowest-price"));
    assert_eq!(field(on_demand, "SpotOptions.AllocationStrategy"), None);
}

#[tokio::test]
async fn each_error_inside_a_good_answer_has_its_class_and_names_its_offering() {
    let throttled = Class::Throttled { retry_after: None };
    for (code, expected) in [
        ("InsufficientInstanceCapacity", Class::NoCapacity),
        ("MaxSpotInstanceCountExceeded", Class::NoCapacity),
        ("VcpuLimitExceeded", Class::NoCapacity),
        ("InsufficientFreeAddressesInSubnet", Class::NoCapacity),
        ("UnfulfillableCapacity", Class::NoCapacity),
        ("SpotMaxPriceTooLow", Class::NoCapacity),
        ("Unsupported", Class::NoCapacity),
        ("RequestLimitExceeded", throttled),
        ("UnauthorizedOperation", Class::Misconfigured),
        ("InvalidSubnetID.NotFound", Class::Misconfigured),
        ("InvalidFleetConfiguration", Class::Rejected),
        ("InternalError", Class::OutcomeUnknown),
        ("BrandNew", Class::Rejected),
    ] {
        let wire = Wire::start(move |_| {
            let item = format!(
                "<item><errorCode>{code}</errorCode><errorMessage>no</errorMessage><lifecycle>spot</lifecycle>\
                 <launchTemplateAndOverrides><launchTemplateSpecification><launchTemplateId>lt-1</launchTemplateId>\
                 <version>3</version></launchTemplateSpecification><overrides><instanceType>m7i.large</instanceType>\
                 <subnetId>subnet-2</subnetId></overrides></launchTemplateAndOverrides></item>"
            );
            let answer = format!(
                "<CreateFleetResponse {NAMESPACE}><requestId>r</requestId><fleetId>fleet-1</fleetId>\
                 <errorSet>{item}</errorSet><fleetInstanceSet/></CreateFleetResponse>"
            );
            Some(Reply::new(200, answer))
        })
        .await;
        let answer = wire.adapters().create_fleet(&request(Market::Spot)).await.expect("an answer");
        assert_eq!(answer.instance_ids, [], "{code}");
        let [fault] = answer.errors.as_slice() else { panic!("one error: {answer:?}") };
        assert_eq!((fault.code.as_str(), fault.class), (code, expected));
        assert_eq!(fault.to_string(), format!("{code} (m7i.large in subnet-2)"));
    }
}

#[tokio::test]
async fn a_launch_that_fails_says_whether_it_may_have_happened() {
    for (case, reply, expected) in [
        ("no room", Reply::ec2_error(500, "InsufficientInstanceCapacity"), Class::NoCapacity),
        ("the token was used for another", Reply::ec2_error(400, "IdempotentParameterMismatch"), Class::Rejected),
        ("a new code", Reply::ec2_error(400, "BrandNew"), Class::Rejected),
        ("server fault", Reply::ec2_error(500, "InternalError"), Class::OutcomeUnknown),
        ("no XML", Reply::new(200, "<html>"), Class::OutcomeUnknown),
        ("late", Reply::new(200, "").late(), Class::OutcomeUnknown),
    ] {
        let wire = Wire::start(move |_| Some(reply.clone())).await;
        let refused = wire.adapters().create_fleet(&request(Market::Spot)).await.expect_err(case);
        assert_eq!(refused.class(), expected, "{case}: {refused}");
    }
}

#[tokio::test]
async fn one_instance_that_is_gone_does_not_keep_the_others_from_hearing_of_the_drain() {
    let wire = Wire::start(|seen| {
        Some(if seen.body.contains("i-7") {
            Reply::ec2_error(400, "InvalidInstanceID.NotFound")
        } else {
            Reply::new(200, format!("<CreateTagsResponse {NAMESPACE}><return>true</return></CreateTagsResponse>"))
        })
    })
    .await;
    let ids: Vec<InstanceId> = (1..=9).map(|n| InstanceId::new(format!("i-{n}"))).collect();
    let at = Timestamp::parse("2026-11-20T10:00:00Z").expect("RFC 3339");
    let tagged = wire.adapters().request_drain(&ids, at).await.expect("eight of nine");
    let others: Vec<InstanceId> = ids.iter().filter(|id| id.as_str() != "i-7").cloned().collect();
    assert_eq!(tagged, others, "the one that is gone is left out");
    let seen = wire.seen();
    let told: String = seen.iter().filter(|seen| !seen.body.contains("i-7")).map(|seen| seen.body.as_str()).collect();
    for n in [1, 2, 3, 4, 5, 6, 8, 9] {
        assert!(told.contains(&format!("=i-{n}&")), "i-{n} was told");
    }
    let call = seen.first().expect("a request");
    assert_eq!(field(call, "Tag.1.Key"), Some("ghr%3Adrain"));
    assert_eq!(field(call, "Tag.1.Value"), Some("2026-11-20T10%3A00%3A00.000Z"));
}

#[tokio::test]
async fn a_drain_goes_out_a_thousand_at_a_time_and_to_nobody_with_no_call() {
    let wire = Wire::start(|_| {
        Some(Reply::new(200, format!("<CreateTagsResponse {NAMESPACE}><return>true</return></CreateTagsResponse>")))
    })
    .await;
    let adapters = wire.adapters();
    assert_eq!(adapters.request_drain(&[], Timestamp(0)).await.expect("nothing to do"), []);
    assert_eq!(wire.seen().len(), 0, "no request was sent");
    let ids: Vec<InstanceId> = (0..1_001).map(|n| InstanceId::new(format!("i-{n}"))).collect();
    assert_eq!(adapters.request_drain(&ids, Timestamp(0)).await.expect("two calls"), ids);
    assert_eq!(wire.seen().len(), 2);
}

#[tokio::test]
async fn a_drain_that_ec2_refuses_for_another_reason_is_an_error() {
    for (case, reply, expected) in [
        ("throttled", Reply::ec2_error(503, "RequestLimitExceeded"), Class::Throttled { retry_after: None }),
        ("denied", Reply::ec2_error(403, "UnauthorizedOperation"), Class::Misconfigured),
        ("late", Reply::new(200, "").late(), Class::OutcomeUnknown),
    ] {
        let wire = Wire::start(move |_| Some(reply.clone())).await;
        let ids = [InstanceId::new("i-1"), InstanceId::new("i-2")];
        let refused = wire.adapters().request_drain(&ids, Timestamp(0)).await.expect_err(case);
        assert_eq!(refused.class(), expected, "{case}: {refused}");
        assert_eq!(wire.seen().len(), 1, "{case}: the batch is not halved");
    }
}

#[tokio::test]
async fn an_instance_that_cannot_be_tagged_keeps_no_other_from_being_asked() {
    for code in ["InvalidInstanceID.Malformed", "TagLimitExceeded"] {
        let wire = Wire::start(move |request| {
            let answer = format!("<CreateTagsResponse {NAMESPACE}><return>true</return></CreateTagsResponse>");
            Some(if request.body.contains("=i-2&") { Reply::ec2_error(400, code) } else { Reply::new(200, answer) })
        })
        .await;
        let ids: Vec<InstanceId> = (1..=5).map(|number| InstanceId::new(format!("i-{number}"))).collect();
        let tagged = wire.adapters().request_drain(&ids, Timestamp(0)).await.expect("the others");
        let others: Vec<InstanceId> = ids.into_iter().filter(|id| id.as_str() != "i-2").collect();
        assert_eq!(tagged, others, "{code}");
    }
    let wire = Wire::start(|_| Some(Reply::ec2_error(400, "BrandNew"))).await;
    let ids: Vec<InstanceId> = (0..1_000).map(|number| InstanceId::new(format!("i-{number}"))).collect();
    wire.adapters().request_drain(&ids, Timestamp(0)).await.expect_err("all refused");
    assert!(wire.seen().len() <= 100, "{} calls in vain", wire.seen().len());
}

#[tokio::test]
async fn a_termination_names_one_instance_and_a_refusal_is_never_a_success() {
    let done = format!(
        "<TerminateInstancesResponse {NAMESPACE}><instancesSet><item><instanceId>i-1</instanceId></item></instancesSet>\
         </TerminateInstancesResponse>"
    );
    let throttled = Err(Class::Throttled { retry_after: None });
    for (case, reply, expected) in [
        ("taken", Reply::new(200, done), Ok(Termination::Accepted)),
        ("protected: a veto", Reply::ec2_error(400, "OperationNotPermitted"), Ok(Termination::Protected)),
        ("not visible, or gone", Reply::ec2_error(400, "InvalidInstanceID.NotFound"), Err(Class::Absent)),
        ("no id of an instance", Reply::ec2_error(400, "InvalidInstanceID.Malformed"), Err(Class::Rejected)),
        ("denied", Reply::ec2_error(403, "UnauthorizedOperation"), Err(Class::Misconfigured)),
        ("throttled", Reply::ec2_error(503, "RequestLimitExceeded"), throttled),
        ("throttled in older words", Reply::ec2_error(503, "Throttling"), throttled),
        ("throttled in other words", Reply::ec2_error(503, "RequestThrottled"), throttled),
        ("throttled in EC2's own words", Reply::ec2_error(503, "EC2ThrottledException"), throttled),
        ("server fault", Reply::ec2_error(500, "InternalError"), Err(Class::OutcomeUnknown)),
        ("unavailable", Reply::ec2_error(503, "Unavailable"), Err(Class::OutcomeUnknown)),
        ("late", Reply::new(200, "").late(), Err(Class::OutcomeUnknown)),
    ] {
        let wire = Wire::start(move |seen| (seen.operation() == "TerminateInstances").then(|| reply.clone())).await;
        let adapters = wire.adapters();
        let access = Access { scope: Scope::Organization { owner: "octo".into() }, installation_id: None };
        let proof = termination_proof("i-1", access).await;
        let result = adapters.terminate(proof).await;
        assert_eq!(result.as_ref().copied().map_err(Classify::class), expected, "{case}: {result:?}");
        let seen = wire.seen();
        let [call] = seen.as_slice() else { panic!("one request: {seen:?}") };
        assert_eq!((field(call, "InstanceId.1"), field(call, "InstanceId.2")), (Some("i-1"), None));
    }
}

/// Every source file below the workspace's crates that may name an SDK or speak to GitHub, tests left out.
fn sources_without_tests() -> Vec<(String, String)> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut folders =
        ["shared/adapters/src", "functions", "cli/src", "instance"].map(|folder| root.join(folder)).to_vec();
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            if path.is_dir() && name != "tests" {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") && name != "tests.rs" {
                let text = std::fs::read_to_string(&path).expect("text");
                sources.push((path.display().to_string(), text));
            }
        }
    }
    sources
}

/// Where each word occurs, in so many places.
fn places_of(word: &str) -> Vec<String> {
    let occurs = |(path, text): (String, String)| {
        let times = text.matches(word).count();
        std::iter::repeat_n(path, times)
    };
    sources_without_tests().into_iter().flat_map(occurs).collect()
}

/// The proofs fence two calls; a second place that makes one of them would be a way around.
#[test]
fn one_place_ends_instances_and_one_deletes_runners() {
    assert!(sources_without_tests().len() > 40);
    for (word, file) in [
        (".terminate_instances()", "src/ec2.rs"),
        ("Call::delete(", "src/github/runners.rs"),
        ("Method::DELETE", "src/github/client.rs"),
    ] {
        let places = places_of(word);
        assert!(places.len() == 1 && places[0].ends_with(file), "{word}: {places:?}");
    }
    // Other ways to the same end: EC2's and the autoscaler's relatives, and the calls spelt out.
    for word in [
        "operation::terminate_instances",
        ".stop_instances()",
        ".delete_fleets()",
        ".terminate_instance_in_auto_scaling_group()",
        "\"DELETE\"",
        "._delete(",
    ] {
        assert_eq!(places_of(word), [""; 0], "{word}");
    }
    let road = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/ec2.rs")).expect("text");
    let before = road.split_once(".terminate_instances()").expect("once").0;
    let signature = before.rsplit_once("async fn ").expect("in a function").1;
    assert!(signature.starts_with("terminate(&self, proof: TerminationProof)"), "{signature}");
    let road = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/github/runners.rs")).expect("text");
    let before = road.split_once("Call::delete(").expect("once").0;
    let signature = before.rsplit_once("async fn ").expect("in a function").1;
    assert!(signature.starts_with("deregister(&self, warrant: DeregistrationWarrant)"), "{signature}");
}

#[tokio::test]
async fn a_refusal_after_an_attempt_that_was_not_heard_is_no_answer_to_the_launch() {
    for (case, first, expected, attempts) in [
        ("failed in the middle", Reply::ec2_error(500, "InternalError"), Class::OutcomeUnknown, 2),
        ("throttled", Reply::ec2_error(503, "RequestLimitExceeded"), Class::NoCapacity, 2),
        ("refused", Reply::ec2_error(400, "VcpuLimitExceeded"), Class::NoCapacity, 1),
    ] {
        let asked = std::sync::atomic::AtomicUsize::new(0);
        let wire = Wire::start(move |_| match asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => Some(first.clone()),
            // Met by the very instances that the first attempt made.
            _ => Some(Reply::ec2_error(400, "VcpuLimitExceeded")),
        })
        .await;
        let refused = wire.adapters().create_fleet(&request(Market::Spot)).await.expect_err(case);
        assert_eq!((refused.class(), wire.seen().len()), (expected, attempts), "{case}");
    }
}
