//! What callers of EC2 must be able to rely on, and what they must not.

use super::*;
use crate::settings::RangeMs;

const TYPE: &str = "m7i.large";

fn ec2(change: impl FnOnce(&mut Ec2Settings)) -> (Ec2, Tape) {
    let mut settings = Ec2Settings { boot_ms: (1_000, 1_000), shutdown_ms: (500, 500), ..Ec2Settings::default() };
    change(&mut settings);
    (Ec2::new(settings), Tape::from_choices(vec![]))
}

fn request(token: &str, count: u32) -> FleetRequest {
    let pool = |kind: &str| Pool { instance_type: Some(kind.into()), subnet_id: Some("subnet-1".into()) };
    FleetRequest {
        client_token: Some(token.into()),
        kind: "instant".into(),
        configs: vec![TemplateConfig {
            template: LaunchTemplate { id: Some("lt-1".into()), name: None, version: Some("3".into()) },
            overrides: vec![pool(TYPE), pool("m7a.large")],
        }],
        total_target_capacity: count,
        market: Market::Spot,
        min_target_capacity: None,
        instance_tags: Tags::from([("ghr:launch".into(), token.into())]),
        other: BTreeMap::new(),
    }
}

fn ids(answer: &FleetAnswer) -> Vec<String> {
    answer.groups.iter().flat_map(|group| group.instance_ids.clone()).collect()
}

fn listed(ec2: &Ec2, now: Millis, filters: &[(&str, &str)]) -> Vec<String> {
    let filters =
        filters.iter().map(|(name, value)| Filter { name: (*name).into(), values: vec![(*value).into()] }).collect();
    let page = ec2.describe_instances(&DescribeRequest { filters, ..DescribeRequest::default() }, now).unwrap();
    page.instances.into_iter().map(|instance| instance.id).collect()
}

#[test]
fn an_instance_lives_from_pending_to_forgotten() {
    let (mut ec2, mut tape) = ec2(|_| {});
    let id = ids(&ec2.create_fleet(&request("t", 1), 0, &mut tape).unwrap()).remove(0);
    let state = |ec2: &Ec2| ec2.instance(&id).map(|instance| instance.state);
    assert_eq!(state(&ec2), Some(State::Pending));
    assert!(matches!(&ec2.advance_to(0, &mut tape)[..], [(0, Ec2Event::Launched { tags, .. })]
        if tags["aws:ec2launchtemplate:id"] == "lt-1" && tags["aws:ec2launchtemplate:version"] == "3"));
    assert_eq!(ec2.next_event_at(), Some(1_000));
    assert_eq!(ec2.advance_to(5_000, &mut tape), [(1_000, Ec2Event::Booted { instance_id: id.clone() })]);
    ec2.power_off(&id, 6_000, &mut tape);
    assert_eq!(state(&ec2), Some(State::ShuttingDown));
    assert_eq!(ec2.alive(), Vec::<String>::new());
    let ended = ec2.advance_to(6_500, &mut tape);
    assert_eq!(ended.len(), 2);
    assert_eq!(ended[0], (6_000, Ec2Event::ShuttingDown { instance_id: id.clone(), ending: Ending::PowerOff }));
    assert_eq!(state(&ec2), Some(State::Terminated));
    assert_eq!(listed(&ec2, 6_500, &[("instance-state-name", "terminated")]), [id.as_str()], "it lingers");
    ec2.advance_to(6_500 + 3_600_000, &mut tape);
    assert_eq!(state(&ec2), None);
    assert_eq!(ec2.next_event_at(), None);
}

#[test]
fn a_client_token_launches_once() {
    let (mut ec2, mut tape) = ec2(|_| {});
    let first = ec2.create_fleet(&request("t", 2), 0, &mut tape).unwrap();
    assert_eq!(ec2.create_fleet(&request("t", 2), 9, &mut tape).unwrap(), first, "the same call again");
    assert_eq!(ec2.create_fleet(&request("t", 3), 9, &mut tape).unwrap_err().code, "IdempotentParameterMismatch");
    let mut other = request("t", 2);
    other.other.insert("SpotOptions.AllocationStrategy".into(), "lowest-price".into());
    assert_eq!(ec2.create_fleet(&other, 9, &mut tape).unwrap_err().code, "IdempotentParameterMismatch");
    ec2.terminate_instances(&ids(&first), "test", 10, &mut tape).unwrap();
    ec2.advance_to(9_000_000, &mut tape);
    assert_eq!(ec2.create_fleet(&request("t", 2), 9_000_000, &mut tape).unwrap(), first, "even when they are dead");
    assert_eq!(ec2.alive(), Vec::<String>::new());
    assert_ne!(ids(&ec2.create_fleet(&request("u", 2), 9, &mut tape).unwrap()), ids(&first), "another token launches");
}

#[test]
fn capacity_makes_fleets_partial_and_still_spends_the_token() {
    let (mut ec2, mut tape) = ec2(|settings| {
        settings.capacity = BTreeMap::from([(TYPE.into(), 2), ("m7a.large".into(), 1)]);
    });
    let answer = ec2.create_fleet(&request("t", 5), 0, &mut tape).unwrap();
    assert_eq!(answer.groups.iter().map(|group| group.instance_ids.len()).collect::<Vec<_>>(), [2, 1]);
    assert!(answer.errors.iter().all(|error| error.code == "InsufficientInstanceCapacity"));
    assert_eq!(answer.errors.len(), 2);
    let none = ec2.create_fleet(&request("u", 1), 0, &mut tape).unwrap();
    assert!(none.groups.is_empty() && !none.errors.is_empty());
    ec2.terminate_instances(&ids(&answer), "test", 1, &mut tape).unwrap();
    assert!(ec2.create_fleet(&request("u", 1), 2, &mut tape).unwrap().groups.is_empty(), "the token is spent");
    assert_eq!(ids(&ec2.create_fleet(&request("v", 1), 2, &mut tape).unwrap()).len(), 1);
    let all_or_none = FleetRequest { min_target_capacity: Some(4), ..request("w", 4) };
    assert!(ec2.create_fleet(&all_or_none, 2, &mut tape).unwrap().groups.is_empty());
}

#[test]
fn a_fresh_instance_is_unknown_to_other_calls() {
    const LAG: RangeMs = (300, 300);
    let (mut ec2, mut tape) = ec2(|settings| settings.visibility_lag_ms = LAG);
    let fresh = ids(&ec2.create_fleet(&request("t", 1), 0, &mut tape).unwrap());
    let by_id = DescribeRequest { instance_ids: fresh.clone(), ..DescribeRequest::default() };
    let tags = Tags::from([("a".into(), "b".into())]);
    assert_eq!(listed(&ec2, 299, &[]), Vec::<String>::new());
    for code in [
        ec2.describe_instances(&by_id, 299).unwrap_err().code,
        ec2.terminate_instances(&fresh, "test", 299, &mut tape).unwrap_err().code,
        ec2.create_tags(&fresh, &tags, 299).unwrap_err().code,
    ] {
        assert_eq!(code, "InvalidInstanceID.NotFound");
    }
    assert_eq!(listed(&ec2, 300, &[]), fresh);
    ec2.create_tags(&fresh, &tags, 300).unwrap();
}

#[test]
fn a_protected_instance_keeps_its_zone_and_nothing_else() {
    let (mut ec2, mut tape) = ec2(|_| {});
    let on_demand = |token: &str, subnet: &str| {
        let mut request = FleetRequest { market: Market::OnDemand, ..request(token, 1) };
        request.configs[0].overrides[0].subnet_id = Some(subnet.into());
        request.configs[0].overrides.truncate(1);
        request
    };
    let mut launch = |request: &FleetRequest| ids(&ec2.create_fleet(request, 0, &mut tape).unwrap()).remove(0);
    let protected = launch(&on_demand("t", "subnet-1"));
    let neighbour = launch(&on_demand("u", "subnet-1"));
    let elsewhere = launch(&on_demand("v", "subnet-2"));
    let spot = launch(&request("w", 1));
    assert!(ec2.protect(&protected, true));
    assert!(!ec2.protect(&spot, true), "spot cannot be protected");
    let all = [protected.clone(), neighbour.clone(), elsewhere];
    let refused = ec2.terminate_instances(&all, "test", 1, &mut tape).unwrap_err();
    assert_eq!((refused.code, refused.status), (Ec2Error::PROTECTED, 400));
    assert_eq!(ec2.alive(), [protected.clone(), neighbour, spot], "the other zone went through");
    ec2.advance_to(2_000, &mut tape);
    ec2.power_off(&protected, 2_000, &mut tape);
    assert_eq!(ec2.instance(&protected).unwrap().state, State::ShuttingDown, "its own shutdown is not refused");
}

#[test]
fn terminate_is_all_or_nothing_and_repeatable() {
    let (mut ec2, mut tape) = ec2(|_| {});
    let mut two = ids(&ec2.create_fleet(&request("t", 2), 0, &mut tape).unwrap());
    two.push("i-00000000000000000".into());
    let refused = ec2.terminate_instances(&two, "test", 1, &mut tape).unwrap_err();
    assert_eq!((refused.code, ec2.alive().len()), ("InvalidInstanceID.NotFound", 2));
    two.pop();
    let changes = ec2.terminate_instances(&two, "test", 1, &mut tape).unwrap();
    assert!(changes.iter().all(|c| (c.previous, c.current) == (State::Pending, State::ShuttingDown)));
    ec2.advance_to(600, &mut tape);
    let again = ec2.terminate_instances(&two, "test", 600, &mut tape).unwrap();
    assert!(again.iter().all(|c| (c.previous, c.current) == (State::Terminated, State::Terminated)));
    assert_eq!(ec2.advance_to(600, &mut tape), [], "a repetition is no second ending");
    assert_eq!(
        ec2.terminate_instances(&["nonsense".into()], "test", 1, &mut tape).unwrap_err().code,
        "InvalidInstanceID.Malformed"
    );
}

#[test]
fn lists_filter_and_page() {
    let (mut ec2, mut tape) = ec2(|settings| settings.page_size = 7);
    let ours = ids(&ec2.create_fleet(&request("ours", 12), 0, &mut tape).unwrap());
    ec2.create_fleet(&request("theirs", 3), 0, &mut tape).unwrap();
    assert_eq!(listed(&ec2, 0, &[("tag:ghr:launch", "theirs"), ("instance-state-name", "pending")]).len(), 3);
    assert_eq!(listed(&ec2, 0, &[("tag:aws:ec2launchtemplate:id", "lt-2")]).len(), 0);
    let mut seen = Vec::new();
    let mut wanted = DescribeRequest {
        filters: vec![Filter { name: "tag:ghr:launch".into(), values: vec!["ours".into()] }],
        max_results: Some(5),
        ..DescribeRequest::default()
    };
    loop {
        let page = ec2.describe_instances(&wanted, 0).unwrap();
        assert!(page.instances.len() <= 5);
        seen.extend(page.instances.into_iter().map(|instance| instance.id));
        wanted.next_token = page.next_token;
        if wanted.next_token.is_none() {
            break;
        }
    }
    assert_eq!(seen, ours);
    for (case, request, code) in [
        (
            "a page size out of range",
            DescribeRequest { max_results: Some(2), ..Default::default() },
            "InvalidParameterValue",
        ),
        (
            "a made-up token",
            DescribeRequest { next_token: Some("x".into()), ..Default::default() },
            "InvalidParameterValue",
        ),
        (
            "ids with a page size",
            DescribeRequest { max_results: Some(5), instance_ids: ours.clone(), ..Default::default() },
            "InvalidParameterCombination",
        ),
        (
            "an unknown filter",
            DescribeRequest { filters: vec![Filter { name: "colour".into(), values: vec![] }], ..Default::default() },
            "InvalidParameterValue",
        ),
    ] {
        assert_eq!(ec2.describe_instances(&request, 0).unwrap_err().code, code, "{case}");
    }
}

#[test]
fn tags_are_overwritten_and_those_of_aws_are_not_ours_to_write() {
    let (mut ec2, mut tape) = ec2(|_| {});
    let id = ids(&ec2.create_fleet(&request("t", 1), 0, &mut tape).unwrap());
    for value in ["1", "2"] {
        ec2.create_tags(&id, &Tags::from([("ghr:drain".into(), value.into())]), 0).unwrap();
    }
    assert_eq!(ec2.instance(&id[0]).unwrap().tags["ghr:drain"], "2");
    let forged = Tags::from([("aws:ec2launchtemplate:id".into(), "lt-2".into())]);
    assert_eq!(ec2.create_tags(&id, &forged, 0).unwrap_err().code, "InvalidParameterValue");
    let many: Tags = (0..50).map(|i| (format!("k{i}"), String::new())).collect();
    assert_eq!(ec2.create_tags(&id, &many, 0).unwrap_err().code, "TagLimitExceeded");
    assert_eq!(
        ec2.create_tags(&vec![id[0].clone(); 1_001], &Tags::new(), 0).unwrap_err().code,
        "InvalidParameterValue"
    );
}

#[test]
fn spot_instances_are_taken_back_and_stopped_ones_stay() {
    let (mut ec2, mut tape) = ec2(|settings| {
        settings.spot_interruption = 1.0;
        settings.spot_interruption_after_ms = (9_000, 9_000);
    });
    let mut tape_of_faults = Tape::from_seed(1);
    ec2.create_fleet(&request("t", 2), 0, &mut tape_of_faults).unwrap();
    let on_demand = FleetRequest { market: Market::OnDemand, ..request("u", 1) };
    let kept = ids(&ec2.create_fleet(&on_demand, 0, &mut tape_of_faults).unwrap()).remove(0);
    let events = ec2.advance_to(10_000, &mut tape);
    let spot = events
        .iter()
        .filter(|(at, event)| *at == 9_000 && matches!(event, Ec2Event::ShuttingDown { ending: Ending::Spot, .. }));
    assert_eq!(spot.count(), 2);
    ec2.stop(&kept);
    assert_eq!(ec2.instance(&kept).unwrap().state, State::Stopped);
    assert_eq!(ec2.alive(), [kept.as_str()]);
    ec2.terminate_instances(&[kept], "test", 10_001, &mut tape).unwrap();
    assert_eq!(ec2.alive(), Vec::<String>::new());
}

#[test]
fn foreign_instances_are_listed_and_not_waited_for() {
    let (mut ec2, _) = ec2(|_| {});
    let id = ec2.launch_foreign(Tags::from([("ghr:environment".into(), "local".into())]), 0);
    assert_eq!(listed(&ec2, 0, &[("tag:ghr:environment", "local")]), [id]);
    assert_eq!((ec2.alive().len(), ec2.next_event_at()), (0, None));
}

#[test]
fn throttling_is_drawn_before_any_effect() {
    let (mut ec2, _) = ec2(|settings| settings.throttle_rate = 1.0);
    assert_eq!(ec2.admit(&mut Tape::from_seed(3)).unwrap_err().status, 503);
}

#[test]
fn what_is_stopped_is_started_again_and_launched_anew() {
    let (mut ec2, mut tape) = ec2(|_| {});
    let on_demand = FleetRequest { market: Market::OnDemand, ..request("t", 1) };
    let id = ids(&ec2.create_fleet(&on_demand, 0, &mut tape).unwrap()).remove(0);
    ec2.advance_to(1_000, &mut tape);
    assert!(!ec2.start(&id, 2_000, &mut tape), "it runs");
    assert!(ec2.stop(&id) && ec2.start(&id, 3_000, &mut tape));
    let instance = ec2.instance(&id).unwrap();
    assert_eq!((instance.state, instance.launched_at), (State::Pending, 3_000));
    assert_eq!(ec2.advance_to(4_000, &mut tape), [(4_000, Ec2Event::Booted { instance_id: id })]);
}

#[test]
fn what_has_ended_counts_against_the_limit_for_a_while() {
    let (mut ec2, mut tape) = ec2(|settings| {
        settings.instance_limit = Some(2);
        settings.limit_lag_ms = 60_000;
    });
    let first = ec2.create_fleet(&request("t", 3), 0, &mut tape).unwrap();
    assert_eq!((ids(&first).len(), first.errors[0].code.as_str()), (2, "MaxSpotInstanceCountExceeded"));
    ec2.advance_to(1_000, &mut tape);
    ec2.terminate_instances(&ids(&first), "test", 2_000, &mut tape).unwrap();
    for (token, at, given) in [("on their way out", 2_400, 0), ("they have ended", 62_400, 0), ("long ago", 62_500, 1)]
    {
        ec2.advance_to(at, &mut tape);
        let answer = ec2.create_fleet(&request(token, 1), at, &mut tape).unwrap();
        assert_eq!(ids(&answer).len(), given, "{token}");
    }
}

#[test]
fn a_pool_may_fail_for_another_reason_than_capacity() {
    let (mut ec2, _) = ec2(|settings| settings.override_error_rate = 1.0);
    let answer = ec2.create_fleet(&request("t", 1), 0, &mut Tape::from_seed(2)).unwrap();
    assert_eq!((ids(&answer).len(), answer.errors.len()), (0, 2));
    assert!(answer.errors.iter().all(|error| error.code != "InsufficientInstanceCapacity"), "{:?}", answer.errors);
}
