//! The workspace and its binaries, as cargo sees them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::failure::Failure;
use crate::functions::Function;
use crate::system;

/// How the functions are compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Fast to build.
    Debug,
    /// Small and quick to start, as deployed.
    Release,
}

impl Profile {
    fn folder(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Release => "release",
        }
    }
}

/// Which rules the functions are compiled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rules {
    /// As deployed.
    Whole,
    /// With the cargo feature `mutants`, which lets one rule be broken for a test.
    Breakable,
}

/// Where cargo puts what it builds.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    target: PathBuf,
}

impl Workspace {
    /// Asks cargo, from the current directory.
    pub(crate) fn locate() -> Result<Self, Failure> {
        let output = Command::new(cargo())
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .stderr(Stdio::inherit())
            .output()
            .map_err(|_| Failure::Missing {
                what: "cargo",
                remedy: "the functions are built from source, see https://rustup.rs".to_owned(),
            })?;
        let target = serde_json::from_slice::<Value>(&output.stdout)
            .ok()
            .and_then(|metadata| Some(PathBuf::from(metadata.get("target_directory")?.as_str()?)));
        target.map(|target| Self { target }).ok_or_else(|| Failure::Program {
            program: "cargo metadata".to_owned(),
            output: "run this command inside the runner-scaler repository".to_owned(),
        })
    }

    /// Builds every binary of the workspace, with cargo's own progress on standard error.
    ///
    /// Always the whole workspace: cargo unifies features over what it builds together, and another set would
    /// compile aws-sdk-ec2 (minutes, gigabytes) a second time.
    pub(crate) fn build(profile: Profile, rules: Rules) -> Result<(), Failure> {
        let mut command = Command::new(cargo());
        command.args(["build", "--workspace", "--bins"]);
        for variable in OF_A_PACKAGE {
            command.env_remove(variable);
        }
        if profile == Profile::Release {
            command.arg("--release");
        }
        if rules == Rules::Breakable {
            command.args(["--features", "mutants"]);
        }
        let status = command.status().map_err(Failure::io("cannot start cargo build"))?;
        if status.success() {
            return Ok(());
        }
        Err(Failure::Program { program: "cargo build --workspace --bins".to_owned(), output: status.to_string() })
    }

    /// The binary of a function.
    pub(crate) fn binary(&self, function: Function, profile: Profile) -> Result<PathBuf, Failure> {
        self.built(function.name(), "a function's binary", profile)
    }

    /// The binary that runs on an instance.
    pub(crate) fn supervisor(&self, profile: Profile) -> Result<PathBuf, Failure> {
        self.built("runner-supervisor", "the supervisor's binary", profile)
    }

    fn built(&self, name: &str, what: &'static str, profile: Profile) -> Result<PathBuf, Failure> {
        let path = self.target.join(profile.folder()).join(name);
        if path.is_file() {
            return Ok(path);
        }
        Err(Failure::Missing {
            what,
            remedy: format!("{} does not exist; run again without --no-build", path.display()),
        })
    }

    /// Everything local runs write lies below this folder.
    pub(crate) fn local(&self) -> PathBuf {
        self.target.join("local")
    }
}

/// What `cargo run` tells the program it runs of its package. The build script of ring watches these, so that a build
/// that inherited them would compile ring, and after it every client, once more.
const OF_A_PACKAGE: [&str; 9] = [
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_LINKS",
    "CARGO_MANIFEST_PATH",
    "CARGO_PKG_NAME",
    "CARGO_PKG_VERSION",
    "CARGO_PKG_VERSION_MAJOR",
    "CARGO_PKG_VERSION_MINOR",
    "CARGO_PKG_VERSION_PATCH",
    "CARGO_PKG_VERSION_PRE",
];

fn cargo() -> OsString {
    system::variable("CARGO").unwrap_or_else(|| "cargo".into())
}
