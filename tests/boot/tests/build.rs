//! How the supervisor is built: with which library and compilers, and what is said where one is missing. Rust and the
//! compilers are stand-ins.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use boot::instance_folder;
use tempfile::TempDir;

/// What the script uses besides Rust and C compilers.
const TOOLS: [&str; 10] = ["bash", "cut", "dirname", "env", "grep", "head", "sed", "sha256sum", "stat", "tr"];

/// Builds on a machine of architecture `x86_64` with these Rust targets and compilers.
fn build(architecture: &str, targets: &[&str], compilers: &[&str]) -> (Output, String) {
    let folder = TempDir::new().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("bin")).expect("a folder");
    for tool in TOOLS {
        let found = ["/usr/bin", "/bin"].map(|bin| Path::new(bin).join(tool)).into_iter().find(|tool| tool.exists());
        symlink(found.expect(tool), path("bin").join(tool)).expect("a link");
    }
    for target in targets {
        fs::create_dir_all(path("targets").join(target)).expect("a folder");
    }
    let script = |name: &str, text: &str| {
        fs::write(path("bin").join(name), format!("#!/bin/bash\n{text}\n")).expect("a script");
        fs::set_permissions(path("bin").join(name), fs::Permissions::from_mode(0o755)).expect("its mode");
    };
    let here = folder.path().display();
    script("uname", "echo x86_64");
    script("rustc", &format!("echo {here}/targets/$4"));
    let binary = "target/$target/release";
    script(
        "cargo",
        &format!(
            "if [ \"$1\" = metadata ]; then echo '{{\"target_directory\":\"{here}/target\"}}'; exit; fi
             for target; do :; done
             env | grep -E '^(CC_|CARGO_TARGET_)' >{here}/environment
             PATH=/usr/bin:/bin mkdir -p {here}/{binary} && echo static >{here}/{binary}/runner-supervisor"
        ),
    );
    for compiler in compilers {
        script(compiler, "exit 1");
    }
    let mut command = Command::new(path("bin/bash"));
    command.arg(instance_folder().join("build-supervisor")).arg(architecture);
    let output = command.env_clear().env("PATH", path("bin")).output().expect("bash");
    let environment = fs::read_to_string(path("environment")).unwrap_or_default();
    let mut environment: Vec<_> = environment.lines().filter(|line| !line.contains("_RUSTFLAGS=")).collect();
    environment.sort_unstable();
    (output, environment.join(" "))
}

#[test]
fn each_way_takes_its_own_compilers() {
    let (here, other) = ("x86_64-unknown-linux", "aarch64-unknown-linux");
    let (here_musl, other_musl) = (format!("{here}-musl"), format!("{other}-musl"));
    let (here_gnu, other_gnu) = (format!("{here}-gnu"), format!("{other}-gnu"));
    let all = [&here_musl, &here_gnu, &other_musl, &other_gnu].map(String::as_str);
    let on_debian = ["cc", "musl-gcc", "x86_64-linux-musl-gcc", "aarch64-linux-gnu-gcc"];
    for (case, architecture, targets, compilers, expected) in [
        (
            "musl, for this machine",
            "x86_64",
            &all[..],
            &["cc", "musl-gcc"][..],
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_LINKER=cc CC_x86_64_unknown_linux_musl=musl-gcc",
        ),
        (
            "Debian, for this machine",
            "x86_64",
            &all[..],
            &on_debian[..],
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_LINKER=cc CC_x86_64_unknown_linux_musl=x86_64-linux-musl-gcc",
        ),
        (
            "Debian, for the other architecture: its musl-gcc is of no use",
            "aarch64",
            &all[..],
            &on_debian[..],
            "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
             CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc",
        ),
        (
            "musl, for the other architecture",
            "aarch64",
            &all[..],
            &["cc", "aarch64-linux-musl-gcc"][..],
            "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=aarch64-linux-musl-gcc \
             CC_aarch64_unknown_linux_musl=aarch64-linux-musl-gcc",
        ),
        (
            "no musl",
            "x86_64",
            &[here_gnu.as_str()][..],
            &["cc", "musl-gcc"][..],
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=cc CC_x86_64_unknown_linux_gnu=cc",
        ),
    ] {
        let (output, environment) = build(architecture, targets, compilers);
        assert!(output.status.success(), "{case}: {output:?}");
        assert_eq!(environment, expected, "{case}");
    }
}

#[test]
fn what_is_missing_is_named_and_nothing_else() {
    for (case, targets, compilers, missing) in [
        (
            "nothing is there",
            &[][..],
            &["cc", "musl-gcc"][..],
            &[
                "with musl: the Rust target aarch64-unknown-linux-musl ",
                "with musl: the C compiler aarch64-linux-musl-gcc ",
                "with glibc: the Rust target aarch64-unknown-linux-gnu ",
                "with glibc: the C compiler aarch64-linux-gnu-gcc (Debian: gcc-aarch64-linux-gnu)",
            ][..],
        ),
        (
            "the targets are there",
            &["aarch64-unknown-linux-musl", "aarch64-unknown-linux-gnu"][..],
            &["cc", "musl-gcc"][..],
            &[
                "with musl: the C compiler aarch64-linux-musl-gcc ",
                "with glibc: the C compiler aarch64-linux-gnu-gcc (Debian: gcc-aarch64-linux-gnu)",
            ][..],
        ),
        (
            "the compiler is there, its target is not",
            &["aarch64-unknown-linux-musl"][..],
            &["cc", "aarch64-linux-gnu-gcc"][..],
            &[
                "with musl: the C compiler aarch64-linux-musl-gcc ",
                "with glibc: the Rust target aarch64-unknown-linux-gnu (rustup target add aarch64-unknown-linux-gnu)",
            ][..],
        ),
    ] {
        let (output, _) = build("aarch64", targets, compilers);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{case}: {output:?}");
        assert_eq!(said.matches("  with ").count(), missing.len(), "{case}: {said}");
        for what in missing {
            assert!(said.contains(what), "{case}: {said}");
        }
    }
}
