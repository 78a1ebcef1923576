//! What a launch is, by table; the records that tests of its aftermath begin with as well.

use super::*;
use crate::fake::{fleet, policy};
use crate::ids::{FleetName, InstanceId, Repository, RunId};

use InstanceState::{Pending, Running, ShuttingDown, Stopped, Terminated};

pub(crate) const NOW: Timestamp = Timestamp(10_000_000_000);

pub(crate) fn job(id: u64, launch_count: u32) -> JobRecord {
    JobRecord {
        job_id: JobId(id),
        access: access(),
        repository: Repository::try_from("octo/hello".to_owned()).expect("a name"),
        run_id: RunId(1),
        run_attempt: 1,
        labels: vec!["self-hosted".into(), "linux".into()],
        fleet: Some(FleetName::new("linux")),
        phase: JobPhase::Queued,
        next_look: NOW,
        launch_count,
        launches: Vec::new(),
        queued_at: NOW,
        runner_id: None,
        recorded_at: Some(NOW),
        given_up_at: None,
        ids: crate::ids::RepositoryIds::default(),
    }
}

pub(crate) fn access() -> Access {
    Access { scope: Scope::Organization { owner: "octo".into() }, installation_id: None }
}

#[test]
fn runners_register_with_the_organisation_where_there_is_one_and_it_is_wanted() {
    let message = |organization: Option<&str>| JobMessage {
        job_id: JobId(1),
        run_id: RunId(1),
        run_attempt: 1,
        repository: Repository::try_from("octo/hello".to_owned()).expect("a name"),
        organization: organization.map(str::to_owned),
        installation_id: None,
        labels: vec![],
        queued_at: NOW,
        look_at: None,
        ids: crate::ids::RepositoryIds::default(),
    };
    let mut by_repository = fleet("linux");
    by_repository.registration = Registration::Repository;
    for (case, fleet, organization, expected) in [
        ("an organisation", fleet("linux"), Some("Octo"), "Octo"),
        ("a user", fleet("linux"), None, "octo/hello"),
        ("an organisation whose repositories have their own runners", by_repository, Some("Octo"), "octo/hello"),
    ] {
        assert_eq!(access_of(&fleet, &message(organization)).scope.to_string(), expected, "{case}");
    }
}

#[test]
fn a_token_names_its_jobs_and_their_launches_in_any_order_and_nothing_else() {
    let deployment = Deployment::new("prod");
    let (one, two, again) = (job(1, 0), job(2, 0), job(1, 1));
    let token = launch_token(&deployment, &[&one, &two]);
    assert_eq!(token.as_str().len(), 64);
    assert_eq!(launch_token(&deployment, &[&two, &one]), token);
    for (case, other) in [
        ("another deployment", launch_token(&Deployment::new("test"), &[&one, &two])),
        ("fewer jobs", launch_token(&deployment, &[&one])),
        ("a second launch", launch_token(&deployment, &[&again, &two])),
    ] {
        assert_ne!(other, token, "{case}");
    }
}

pub(crate) fn launched(
    fleet: &Fleet,
    overrides: &Overrides,
    choice: Choice,
    job: &JobRecord,
    now: Timestamp,
) -> LaunchRecord {
    launch(&policy(), fleet, &access(), (overrides, choice), &[job], now)
}

pub(crate) fn nothing_avoided(_: Market, _: &Offering) -> bool {
    false
}

#[test]
fn a_launch_request_is_the_same_bytes_whenever_it_is_made_and_holds_no_secret() {
    let (fleet, mut one, none) = (fleet("linux"), job(1, 0), Overrides::default());
    let choice = choose(&fleet, &none, nothing_avoided);
    let first = launched(&fleet, &none, choice.clone(), &one, NOW);
    one.phase = JobPhase::Launching { token: first.token.clone(), lease_until: NOW };
    let mut later = launched(&fleet, &none, choice, &one, NOW.plus(Duration::from_mins(1)));
    later.answered_at = Some(NOW);
    assert_eq!(request(&first), request(&later));
    let mut tags = request(&first).tags;
    assert_eq!(tags.insert("ghr:launch".to_owned(), "its token".to_owned()), Some(first.token.to_string()));
    insta::assert_compact_debug_snapshot!(tags, @r#"{"Name": "test-linux", "ghr:environment": "test", "ghr:fleet": "linux", "ghr:launch": "its token", "ghr:owner": "octo"}"#);
}

fn large_fleet() -> Fleet {
    Fleet {
        instance_types: vec!["m7i.large".to_owned(), "m7a.large".to_owned()],
        subnet_ids: vec!["subnet-1".to_owned(), "subnet-2".to_owned()],
        fallback: Some(Market::OnDemand),
        ..fleet("linux")
    }
}

fn words(offerings: &[Offering]) -> Vec<String> {
    offerings.iter().map(|o| format!("{} {}", o.instance_type, o.subnet_id.trim_start_matches("subnet-"))).collect()
}

#[test]
fn what_was_out_is_avoided_and_never_everything() {
    type Avoided = fn(Market, &Offering) -> bool;
    let all = ["m7i.large 1", "m7i.large 2", "m7a.large 1", "m7a.large 2"];
    for (case, avoided, market, expected, then) in [
        ("nothing", nothing_avoided as Avoided, Market::Spot, &all[..], Some(&all[..])),
        (
            "a type",
            |market, o| market == Market::Spot && o.instance_type == "m7i.large",
            Market::Spot,
            &all[2..],
            Some(&all[..]),
        ),
        (
            "a subnet on both",
            |_, o| o.subnet_id == "subnet-1",
            Market::Spot,
            &["m7i.large 2", "m7a.large 2"],
            Some(&["m7i.large 2", "m7a.large 2"]),
        ),
        ("all of the first market", |market, _| market == Market::Spot, Market::OnDemand, &all, None),
        ("all of the second", |market, _| market == Market::OnDemand, Market::Spot, &all, Some(&all)),
        ("everything", |_, _| true, Market::Spot, &all, Some(&all)),
    ] {
        let choice = choose(&large_fleet(), &Overrides::default(), avoided);
        assert_eq!(
            (choice.market, words(&choice.offerings)),
            (market, expected.iter().map(ToString::to_string).collect()),
            "{case}"
        );
        let then: Option<Vec<String>> = then.map(|then| then.iter().map(ToString::to_string).collect());
        assert_eq!(choice.fallback.map(|fallback| words(&fallback.offerings)), then, "{case}");
    }
}

#[test]
fn an_override_changes_the_request_and_the_labels_by_the_configurations_values_alone() {
    let fleet = large_fleet();
    let overrides = Overrides { instance_type: Some("c7i.large".to_owned()), market: Some(Market::OnDemand) };
    let choice = choose(&fleet, &overrides, nothing_avoided);
    let launch = launched(&fleet, &overrides, choice, &job(1, 0), NOW);
    assert_eq!(words(&request(&launch).offerings), ["c7i.large 1", "c7i.large 2"]);
    assert_eq!((launch.market, launch.fallback), (Market::OnDemand, None));
    assert_eq!(launch.labels, ["self-hosted", "linux", "ghr-instance-type:c7i.large", "ghr-market:on-demand"]);
}

#[test]
fn each_epoch_has_its_own_client_token_and_the_tag_of_all() {
    let choice = choose(&large_fleet(), &Overrides::default(), nothing_avoided);
    let first = launched(&large_fleet(), &Overrides::default(), choice, &job(1, 0), NOW);
    let second = first.next_epoch(NOW.plus(Duration::from_secs(1))).expect("a fallback");
    let (one, two) = (request(&first), request(&second));
    assert_eq!(one.token, first.token);
    assert!(two.token != one.token && two.token.as_str().len() == 64);
    assert_eq!((one.market, two.market), (Market::Spot, Market::OnDemand));
    assert_eq!(one.tags, two.tags);
    assert_eq!(second.next_epoch(NOW), None, "there is no third");
    assert_eq!(LaunchRecord { instance_ids: Some(Vec::new()), ..first }.next_epoch(NOW), None, "it was answered");
}

#[test]
fn only_an_answer_that_says_there_is_nothing_leads_to_another_market() {
    let throttled = Class::Throttled { retry_after: None };
    for (case, classes, expected) in [
        ("no reason", vec![], true),
        ("no capacity", vec![Class::NoCapacity, Class::NoCapacity], true),
        ("no capacity, and one subnet is wrong", vec![Class::Misconfigured, Class::NoCapacity], true),
        ("the configuration is wrong", vec![Class::Misconfigured], false),
        ("EC2 asks for patience with one", vec![Class::NoCapacity, throttled], false),
        ("EC2 failed", vec![Class::OutcomeUnknown], false),
    ] {
        let fault = |class| LaunchFault { code: String::new(), class, offering: None };
        let faults: Vec<LaunchFault> = classes.into_iter().map(fault).collect();
        assert_eq!(is_out_of_capacity(&faults), expected, "{case}");
    }
}

#[test]
fn a_repository_has_no_runner_group_but_the_default() {
    let fleet = Fleet { runner_group_id: 7, ..fleet("linux") };
    let repository = Scope::Repository { owner: "octo".into(), name: "hello".into() };
    for (case, scope, expected) in
        [("an organisation", access().scope, 7), ("a user's repository", repository, DEFAULT_RUNNER_GROUP)]
    {
        assert_eq!(runner_group(&fleet, &scope), expected, "{case}");
    }
}

#[test]
fn room_counts_what_is_listed_and_what_is_reserved_once() {
    let listed = |token: &str, fleet: &str, state| Instance {
        id: InstanceId::new("i-1"),
        state,
        launched_at: NOW,
        tags: Tags::from([("ghr:fleet".to_owned(), fleet.to_owned()), ("ghr:launch".to_owned(), token.to_owned())])
            .into(),
    };
    let reserved = |token: &str, count, age_minutes: u64, answered: bool| {
        let at = NOW.minus(Duration::from_secs(60 * age_minutes));
        Reservation { token: LaunchToken::new(token), count, at, answered_at: answered.then_some(at) }
    };
    for (case, listing, reservations, expected) in [
        ("nothing", vec![], vec![], 10),
        ("living ones", vec![listed("t", "linux", Pending), listed("t", "linux", Running)], vec![], 8),
        ("a stopped one can start again", vec![listed("t", "linux", Stopped)], vec![], 9),
        ("ended ones", vec![listed("t", "linux", ShuttingDown), listed("t", "linux", Terminated)], vec![], 10),
        ("another fleet's", vec![listed("t", "gpu", Running)], vec![], 10),
        ("a reservation not yet seen", vec![], vec![reserved("t", 3, 9, true)], 7),
        ("one seen in part", vec![listed("t", "linux", Running)], vec![reserved("t", 3, 1, true)], 7),
        ("one seen and ended", vec![listed("t", "linux", Terminated)], vec![reserved("t", 1, 1, true)], 10),
        ("a lapsed one", vec![], vec![reserved("t", 3, 11, true)], 10),
        ("an unanswered one", vec![], vec![reserved("t", 3, 10, false)], 7),
        ("one that nobody asks for any more", vec![], vec![reserved("t", 3, 11, false)], 10),
        ("more than the cap", vec![], vec![reserved("t", 30, 1, true)], 0),
    ] {
        assert_eq!(room(&fleet("linux"), &listing, &reservations, NOW), expected, "{case}");
    }
}

#[test]
fn a_jobs_record_says_what_to_do_next() {
    let token = LaunchToken::new("t");
    let launching = |lease_until| JobPhase::Launching { token: token.clone(), lease_until };
    for (case, phase, expected) in [
        ("queued", JobPhase::Queued, Next::Launch),
        ("held by another", launching(NOW.plus(Duration::from_millis(1))), Next::InFlight),
        ("left behind", launching(NOW), Next::Resume(token.clone())),
        ("launched", JobPhase::Launched { token: token.clone() }, Next::CheckServed(token.clone())),
        ("started", JobPhase::Started { at: NOW }, Next::NotQueued),
        ("completed", JobPhase::Completed { at: NOW, conclusion: None }, Next::NotQueued),
    ] {
        let record = JobRecord { phase, ..job(1, 1) };
        assert_eq!(next(&record, NOW), expected, "{case}");
    }
    let again = JobRecord { launches: vec![token], ..job(1, 1) };
    assert_eq!(next(&again, NOW), Next::LaunchAgain, "queued again");
}
