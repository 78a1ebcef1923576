//! The supervisor's own binary against instance metadata and AWS on loopback.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use runner_supervisor::clock::SystemClock;
use runner_supervisor::config::Config;
use runner_supervisor::supervise::settings_or_off;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;
use support::{Cloud, Machine, Plan, WHEN_BROUGHT, WHEN_ENDED, wait_for};

/// Longer than anything here takes on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// Long enough for several looks.
const A_WHILE: Duration = Duration::from_millis(800);

fn plan(job_after: &str, job: &str) -> Plan {
    Plan { job_after: job_after.into(), job: job.into(), ..Plan::default() }
}

/// Limits in seconds, for what has to happen before one is reached. Whether it does is up to the machine: where it did
/// not, the next one is tried.
const LIMITS: [&str; 4] = ["1", "4", "16", "64"];

/// Plays until a limit was long enough, which `play` says.
#[track_caller]
fn within_a_limit(mut play: impl FnMut(&str) -> bool) {
    assert!(LIMITS.into_iter().any(&mut play), "no limit is long enough");
}

#[track_caller]
fn until(machine: &Machine, what: &str, is_so: impl FnMut() -> bool) {
    assert!(wait_for(SOON, is_so).is_some(), "{what}\n{}", machine.journal());
}

#[track_caller]
fn said(machine: &Machine, text: &str) {
    until(machine, text, || machine.journal().contains(text));
}

#[track_caller]
fn stays(machine: &mut Machine) {
    std::thread::sleep(A_WHILE);
    assert!(!machine.is_off() && !machine.supervisor_ended(), "{}", machine.journal());
}

fn started(mut machine: Machine) -> Machine {
    machine.start();
    until(&machine, "it listens", || machine.is_listening());
    machine
}

#[test]
fn a_job_is_run_and_the_power_goes_off() {
    let cloud = Cloud::start();
    let machine = started(Machine::new(&cloud, &plan(WHEN_BROUGHT, WHEN_ENDED)));
    let says = |word: &str| cloud.signs(&machine.id).contains(&word.to_owned());
    until(&machine, "it says that it is idle", || says("none"));
    machine.bring_job();
    until(&machine, "it says that it works", || says("running"));
    machine.end_job();
    until(&machine, "it is off", || machine.is_off());
    assert!(machine.has("runner/finished"));
    assert_eq!(cloud.calls("GetParameter", &machine.id).len(), 1, "read once");
    assert_eq!(cloud.calls("DeleteParameter", &machine.id).len(), 1, "and deleted");
    assert_eq!(cloud.parameter(&machine.id), None);
    let signs = cloud.signs(&machine.id);
    assert_eq!(signs.first().map(String::as_str), Some("none"), "{signs:?}");
    assert_eq!(signs.last().map(String::as_str), Some("none"), "{signs:?}");
    assert!(machine.journal().contains("powers off: the listener ended and no job is left (ListenerEnded)"));
}

#[test]
fn without_a_configuration_in_time_the_power_goes_off() {
    let cloud = Cloud::start();
    within_a_limit(|limit| {
        let machine = Machine::new(&cloud, &Plan::default()).set("RUNNER_PARAMETER_PATH", "/others");
        let mut machine = machine.set("BOOT_DEADLINE_SECONDS", limit);
        machine.start();
        until(&machine, "it is off", || machine.is_off());
        assert!(machine.journal().contains("(BootDeadline)"), "{}", machine.journal());
        assert!(!machine.is_listening());
        machine.journal().contains("the configuration is not there yet")
    });
}

#[test]
fn a_configuration_that_comes_late_is_in_time_until_the_deadline() {
    let cloud = Cloud::start();
    let mut machine = Machine::new(&cloud, &plan("0.1", "0.1"));
    cloud.refuse(Some("ThrottlingException"));
    machine.start();
    said(&machine, "the configuration could not be read: ssm GetParameter: 400 Bad Request ThrottlingException");
    cloud.refuse(None);
    until(&machine, "it is off", || machine.is_off());
    assert!(machine.has("runner/finished"), "{}", machine.journal());
}

#[test]
fn a_drain_ends_an_idle_instance_and_an_old_one_does_not() {
    let cloud = Cloud::start();
    let mut machine = started(Machine::new(&cloud, &Plan::default()));
    cloud.drain(&machine.id, "2026-01-01T00:00:00Z");
    stays(&mut machine);
    machine.drain();
    until(&machine, "it is off", || machine.is_off());
    assert!(machine.journal().contains("(Drained)"), "{}", machine.journal());
    let last = cloud.calls("PutItem", &machine.id).pop().unwrap().body;
    assert!(last["Item"]["drain_seen_at"]["N"].is_string(), "the last sign says why: {last}");
}

#[test]
fn a_drain_waits_for_a_job_and_is_then_spent() {
    let cloud = Cloud::start();
    let mut machine = started(Machine::new(&cloud, &plan("0", WHEN_ENDED)));
    until(&machine, "it works", || machine.has("runner/working"));
    machine.drain();
    said(&machine, "asked to drain");
    stays(&mut machine);
    machine.end_job();
    until(&machine, "it is off", || machine.is_off());
    assert!(machine.has("runner/finished"));
    assert!(machine.journal().contains("(ListenerEnded)"), "{}", machine.journal());
}

#[test]
fn silent_metadata_ends_no_job_and_the_instance_ends_with_its_listener() {
    let cloud = Cloud::start();
    let mut machine = started(Machine::new(&cloud, &plan("0", WHEN_ENDED)));
    cloud.silence_metadata();
    said(&machine, "the drain tag could not be read");
    stays(&mut machine);
    machine.end_job();
    until(&machine, "it is off", || machine.is_off());
    assert!(machine.has("runner/finished"));
    assert!(machine.journal().contains("(ListenerEnded)"), "{}", machine.journal());
}

#[test]
fn refused_vital_signs_change_nothing() {
    let cloud = Cloud::start();
    let mut machine = started(Machine::new(&cloud, &plan(WHEN_BROUGHT, WHEN_ENDED)));
    cloud.refuse(Some("AccessDeniedException"));
    machine.bring_job();
    said(&machine, "a vital sign was not written: dynamodb PutItem: 400 Bad Request AccessDenied");
    stays(&mut machine);
    machine.end_job();
    until(&machine, "it is off", || machine.is_off());
    assert!(machine.has("runner/finished"));
}

#[test]
fn the_watchdogs_end_what_waits_for_nothing() {
    let cloud = Cloud::start();
    let ghost = Plan { ghost: true, ..plan("0", "1") };
    let gone = Plan { says: "The runner registration has been deleted from the server.".into(), ..Plan::default() };
    for (case, plan, setting, reason) in [
        ("nobody came", Plan::default(), ("IDLE_MAXIMUM_SECONDS", "1"), "(IdleMaximum)"),
        ("a job was acknowledged and never came", ghost, ("ACQUIRE_WATCHDOG_SECONDS", "1"), "(AcquireWatchdog)"),
        ("the registration is gone", gone, ("FREEZER", "auto"), "(RegistrationGone)"),
    ] {
        let mut machine = Machine::new(&cloud, &plan).set(setting.0, setting.1);
        machine.start();
        until(&machine, case, || machine.is_off());
        assert!(machine.journal().contains(reason), "{case}: {}", machine.journal());
    }
}

#[test]
fn the_idle_maximum_does_not_end_a_job() {
    let cloud = Cloud::start();
    within_a_limit(|limit| {
        let mut machine = Machine::new(&cloud, &plan("0", WHEN_ENDED)).set("IDLE_MAXIMUM_SECONDS", limit);
        machine.start();
        until(&machine, "it takes its job or is off", || machine.has("runner/acknowledged") || machine.is_off());
        if !machine.has("runner/acknowledged") {
            return false;
        }
        std::thread::sleep(Duration::from_secs(limit.parse().unwrap()));
        stays(&mut machine);
        machine.end_job();
        until(&machine, "it is off", || machine.is_off());
        assert!(machine.has("runner/finished"), "{}", machine.journal());
        true
    });
}

#[test]
fn the_hard_age_ends_everything() {
    let cloud = Cloud::start();
    within_a_limit(|limit| {
        let machine = Machine::new(&cloud, &plan("0", "3600")).set("IDLE_MAXIMUM_SECONDS", limit);
        let mut machine = machine.set("HARD_AGE_SECONDS", limit);
        machine.start();
        until(&machine, "it is off", || machine.is_off());
        assert!(!machine.has("runner/finished"));
        let worked = machine.has("runner/working");
        assert!(!worked || machine.journal().contains("(HardAge)"), "{}", machine.journal());
        worked
    });
}

#[test]
fn a_worker_whose_listener_is_gone_may_finish() {
    for freezer in ["auto", "stop"] {
        let cloud = Cloud::start();
        let dies = Plan { dies: true, ..plan("0", WHEN_ENDED) };
        let mut machine = started(Machine::new(&cloud, &dies).set("FREEZER", freezer));
        until(&machine, "it works", || machine.has("runner/working"));
        said(&machine, "a job runs although its listener is gone");
        machine.drain();
        said(&machine, "asked to drain");
        stays(&mut machine);
        machine.end_job();
        until(&machine, "it is off", || machine.is_off());
        assert!(machine.has("runner/finished"), "{freezer}: {}", machine.journal());
    }
}

#[test]
fn nobody_else_can_read_the_configuration() {
    let cloud = Cloud::start();
    let plan = Plan { record_environment: true, ..Plan::default() };
    let hook = ("JOB_STARTED_HOOK", "/opt/hooks/before.sh");
    let machine = started(Machine::new(&cloud, &plan).set(hook.0, hook.1));
    let environment = fs::read_to_string(machine.path("runner/environment")).unwrap();
    assert!(environment.contains(&format!("ACTIONS_RUNNER_INPUT_JITCONFIG={}", machine.secret())), "the runner can");
    assert!(environment.contains("ACTIONS_RUNNER_HOOK_JOB_STARTED=/opt/hooks/before.sh"));
    assert!(!environment.contains("AWS_"), "the supervisor's settings are its own: {environment}");
    let leader = machine.leader().unwrap();
    let of_leader = |file: &str| format!("/proc/{leader}/{file}");
    assert_eq!(fs::metadata(of_leader("environ")).unwrap().permissions().mode() & 0o077, 0);
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&line).contains(&machine.secret()), "{:?}", entry.path());
    }
    machine.drain();
    until(&machine, "it is off", || machine.is_off());
    for file in ["journal", "run/listener.log", "run/marker", "state/marker", "run/leader", "run/held"] {
        let text = fs::read_to_string(machine.path(file)).unwrap();
        for secret in [machine.secret().as_str(), "role-secret", "role-token", "token-i-"] {
            assert!(!text.contains(secret), "{secret} in {file}: {text}");
        }
    }
    let status = fs::read_to_string(machine.path("run/listener.log")).unwrap();
    assert!(status.contains("Listening for Jobs"));
}

#[test]
fn calls_are_signed_for_their_service_and_region() {
    let cloud = Cloud::start();
    let machine = started(Machine::new(&cloud, &Plan::default()));
    for (operation, service) in [("GetParameter", "ssm"), ("PutItem", "dynamodb")] {
        until(&machine, operation, || !cloud.calls(operation, &machine.id).is_empty());
        let call = cloud.calls(operation, &machine.id).remove(0);
        let scope = format!("/eu-west-1/{service}/aws4_request, SignedHeaders=content-type;host;x-amz-date;");
        assert!(call.authorization.starts_with("AWS4-HMAC-SHA256 Credential=ASIAEXAMPLE/"), "{call:?}");
        assert!(call.authorization.contains(&scope), "{call:?}");
    }
    let item = &cloud.calls("PutItem", &machine.id)[0].body;
    assert_eq!(item["TableName"], "signs");
    assert_eq!(item["Item"]["instance_id"]["S"], machine.id.as_str());
    let number = |name: &str| item["Item"][name]["N"].as_str().unwrap().parse::<i64>().unwrap();
    assert_eq!(number("expires_at"), number("beat_at") / 1_000 + 7 * 86_400);
}

#[test]
fn instance_metadata_is_blocked_before_the_listener_starts_or_it_does_not() {
    let cloud = Cloud::start();
    for (case, script, starts) in
        [("nft works", "cat > \"$0.rules\"", true), ("nft fails", "echo no such >&2; exit 1", false)]
    {
        let mut machine = Machine::new(&cloud, &Plan::default()).set("BLOCK_METADATA", "true");
        fs::create_dir(machine.path("bin")).unwrap();
        fs::write(machine.path("bin/nft"), format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(machine.path("bin/nft"), fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:/usr/bin:/bin", machine.path("bin").display());
        machine = machine.set("PATH", &path);
        machine.start();
        if starts {
            until(&machine, case, || machine.is_listening());
            let rules = fs::read_to_string(machine.path("bin/nft.rules")).unwrap();
            assert!(rules.contains("ip daddr 169.254.169.254 reject"), "{rules}");
        } else {
            said(&machine, "cannot start the listener: nft: no such");
            stays(&mut machine);
            assert!(!machine.is_listening());
            assert!(cloud.parameter(&machine.id).is_some(), "what was not handed over is not deleted");
        }
    }
}

#[test]
fn runner_logs_are_shipped_to_the_instances_own_stream() {
    let cloud = Cloud::start();
    let machine = started(Machine::new(&cloud, &plan(WHEN_BROUGHT, "0.1")).set("LOG_GROUP", "/runners"));
    until(&machine, "it has its stream", || !cloud.calls("CreateLogStream", &machine.id).is_empty());
    machine.bring_job();
    until(&machine, "it is off", || machine.is_off());
    let shipped = cloud.calls("PutLogEvents", &machine.id);
    let text = format!("{shipped:?}");
    assert!(text.contains("Listening for Jobs") && text.contains("Acknowledging runner request"), "{text}");
    for call in shipped {
        assert_eq!(
            (call.body["logGroupName"].as_str(), call.body["logStreamName"].as_str()),
            (Some("/runners"), Some(machine.id.as_str()))
        );
    }
}

#[test]
fn what_a_job_leaves_in_the_log_keeps_no_instance() {
    let cloud = Cloud::start();
    let machine = started(Machine::new(&cloud, &plan(WHEN_BROUGHT, "0.1")));
    // A log that never ends: more than one look reads, and still nothing to believe.
    let endless = fs::File::create(machine.path("runner/_diag/Runner_endless.log")).unwrap();
    endless.set_len(1 << 40).unwrap();
    machine.bring_job();
    until(&machine, "it is off", || machine.is_off());
    assert!(machine.has("runner/finished"));
    assert!(machine.journal().contains("(ListenerEnded)"), "{}", machine.journal());
}

#[test]
fn without_a_runner_it_says_so() {
    let cloud = Cloud::start();
    let mut machine = Machine::new(&cloud, &Plan::default());
    fs::remove_file(machine.path("runner/run.sh")).unwrap();
    machine.start();
    said(&machine, "cannot start the listener: there is no");
}

#[test]
fn a_listener_that_cannot_be_started_says_why() {
    let cloud = Cloud::start();
    let mut machine = Machine::new(&cloud, &Plan::default());
    fs::set_permissions(machine.path("runner/run.sh"), fs::Permissions::from_mode(0o644)).unwrap();
    machine.start();
    until(&machine, "it is off", || machine.is_off());
    let why = "cannot become the listener: cannot start the listener: Permission denied";
    for file in ["journal", "run/listener.log"] {
        let text = fs::read_to_string(machine.path(file)).unwrap();
        assert_eq!(text.matches(why).count(), 1, "{file}: {text}");
    }
    assert!(machine.journal().contains("(ListenerEnded)"), "{}", machine.journal());
}

#[test]
fn the_listener_has_nothing_of_the_supervisors_open() {
    let cloud = Cloud::start();
    let machine = started(Machine::new(&cloud, &Plan::default()));
    let open = |fd: &str| fs::read_link(format!("/proc/{}/fd/{fd}", machine.leader().unwrap())).unwrap();
    assert_eq!(open("0"), std::path::Path::new("/dev/null"));
    let log = machine.path("run/listener.log");
    assert_eq!((open("1"), open("2")), (log.clone(), log));
    for fd in fs::read_dir(format!("/proc/{}/fd", machine.leader().unwrap())).unwrap().flatten() {
        assert_ne!(fs::read_link(fd.path()).unwrap_or_default(), machine.path("journal"));
    }
}

#[test]
fn a_second_boot_powers_off() {
    let cloud = Cloud::start();
    for (case, left_of_marker) in [("a reboot", 1), ("a power failure", 0)] {
        let mut machine = started(Machine::new(&cloud, &Plan::default()));
        machine.kill_supervisor();
        // What a boot leaves: no process, an empty /run, and the marker in /var/lib, of another boot or of nobody's.
        machine.end_listener();
        fs::remove_dir_all(machine.path("run")).unwrap();
        let marker = fs::read_to_string(machine.path("state/marker")).unwrap();
        let (_boot_id, rest) = marker.split_once('\n').unwrap();
        let left = format!("of-an-earlier-boot\n{rest}").repeat(left_of_marker);
        fs::write(machine.path("state/marker"), left).unwrap();
        machine.start();
        until(&machine, case, || machine.is_off());
        assert!(machine.journal().contains("(EarlierBoot)"), "{case}: {}", machine.journal());
    }
}

#[test]
fn a_marker_in_pieces_ends_no_listener_of_this_boot() {
    let cloud = Cloud::start();
    let mut machine = started(Machine::new(&cloud, &Plan::default()));
    machine.kill_supervisor();
    fs::write(machine.path("state/marker"), "").unwrap();
    machine.start();
    said(&machine, "takes over the listener");
    stays(&mut machine);
}

#[test]
fn a_listener_that_ended_while_nobody_looked_powers_off() {
    let cloud = Cloud::start();
    let mut machine = started(Machine::new(&cloud, &Plan::default()));
    machine.kill_supervisor();
    machine.end_listener();
    machine.start();
    until(&machine, "it is off", || machine.is_off());
    assert!(machine.journal().contains("(ListenerEnded)"), "{}", machine.journal());
    assert_eq!(cloud.calls("GetParameter", &machine.id).len(), 1, "nothing is fetched again");
}

#[test]
fn the_settings_are_checked_before_anything_is_done() {
    let cloud = Cloud::start();
    let machine = Machine::new(&cloud, &Plan::default()).set("FREEZER", "maybe").set("VITAL_SIGNS_TABLE", "");
    let output = machine.command("check");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("2 mistakes") && text.contains("VITAL_SIGNS_TABLE: missing"), "{text}");
    assert!(!machine.has("run"));
}

#[test]
fn settings_that_cannot_be_used_power_off() {
    let cloud = Cloud::start();
    let machine = Machine::new(&cloud, &Plan::default()).set("FREEZER", "maybe").set("BEAT_SECONDS", "soon");
    let mut machine = machine.set("BOOT_DEADLINE_SECONDS", "1");
    machine.start();
    until(&machine, "it is off", || machine.is_off());
    let journal = machine.journal();
    assert!(journal.contains("2 mistakes") && journal.contains("FREEZER: \"maybe\" is neither"), "{journal}");
    assert!(journal.contains("powers off in 1 s"), "{journal}");
    assert!(!machine.has("run") && cloud.parameter(&machine.id).is_some(), "nothing else was done");
}

#[test]
fn settings_that_become_right_in_time_are_used() {
    let machine = Machine::new(&Cloud::start(), &Plan::default());
    let read = |vars: Vec<(String, String)>| {
        Config::from_vars(|name| vars.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()))
    };
    let right = machine.vars();
    let machine = machine.set("RUNNER_USER", "nobody-of-this-name");
    let wrong = read(machine.vars()).unwrap_err();
    let config = settings_or_off(&wrong.others, &SystemClock, || read(right.clone()).ok()).unwrap();
    assert_eq!(config.run_folder, machine.path("run"));
    assert!(!machine.is_off());
}

#[test]
fn settings_that_cannot_be_used_end_no_listener() {
    let cloud = Cloud::start();
    // Where the listener is on record: in both folders, or, when one of them is another now, in either.
    for other in [("VITAL_SIGNS_TABLE", ""), ("RUN_FOLDER", "/run/other"), ("STATE_FOLDER", "/var/lib/other")] {
        let mut machine = started(Machine::new(&cloud, &Plan::default()));
        machine.kill_supervisor();
        let good = machine.vars();
        machine = machine.set("FREEZER", "maybe").set("BOOT_DEADLINE_SECONDS", "0.01").set(other.0, other.1);
        machine.start();
        assert!(wait_for(SOON, || machine.supervisor_ended()).is_some(), "{}", machine.journal());
        said(&machine, "the listener of this boot stays until the settings are mended");
        assert!(!machine.is_off() && machine.listener_is_there());
        for (name, value) in good {
            machine = machine.set(&name, &value);
        }
        machine = machine.set("FREEZER", "auto");
        machine.start();
        said(&machine, "takes over the listener");
        machine.drain();
        until(&machine, "it is off", || machine.is_off());
    }
}
