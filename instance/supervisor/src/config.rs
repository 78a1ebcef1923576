//! The supervisor's settings (instance/README.md), from variables.

use crate::user::RunnerUser;
use runner_supervisor_decision::{Limits, Millis};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where instance metadata is (EC2 user guide, "Access instance metadata", read 2026-11-26).
const METADATA: &str = "http://169.254.169.254";

/// Where the traces are when nothing else is said.
pub(crate) const RUN_FOLDER: &str = "/run/runner-supervisor";
pub(crate) const STATE_FOLDER: &str = "/var/lib/runner-supervisor";

/// Everything that can be set.
#[derive(Debug, Clone)]
pub struct Config {
    /// JIT configurations are `<parameter_path>/<instance id>`.
    pub parameter_path: String,
    /// Table of the vital signs.
    pub vital_signs_table: String,
    /// What stands before the instance's id in the key of its vital sign: where IAM ties an instance to the item whose key
    /// is its `aws:userid`, its role's id and a colon.
    pub vital_signs_key_prefix: String,
    /// Where the runner is unpacked.
    pub runner_folder: PathBuf,
    /// What is started.
    pub listener_command: PathBuf,
    /// As whom.
    pub user: RunnerUser,
    /// How long what may last.
    pub limits: Limits,
    /// When the instance booted, on the clock that counts from the machine's boot.
    pub booted_at: Millis,
    /// Between two looks at the drain tag.
    pub drain_look: Duration,
    /// Between two vital signs when nothing changes.
    pub beat: Duration,
    /// Whether the job may reach instance metadata.
    pub job_metadata: JobMetadata,
    /// Script that the runner runs before a job.
    pub job_started_hook: Option<PathBuf>,
    /// Script that the runner runs after a job.
    pub job_completed_hook: Option<PathBuf>,
    /// Where runner logs are shipped to.
    pub log_group: Option<String>,
    /// How processes are made to stand still.
    pub freezer: Freezer,
    /// What powers the instance off: a program and its arguments.
    pub power_off: PowerOff,
    /// What must be known after a death of the supervisor.
    pub run_folder: PathBuf,
    /// What must be known after a reboot.
    pub state_folder: PathBuf,
    /// Instance metadata.
    pub metadata_endpoint: String,
    /// AWS, where it is not that of the region.
    pub aws_endpoint: Option<String>,
}

/// Whether the job may reach instance metadata, and with it the instance's role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobMetadata {
    /// Its user's packets to it are refused.
    Blocked,
    /// It may.
    Open,
}

/// How processes are made to stand still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freezer {
    /// By the cgroup's freezer where there is one, else by SIGSTOP.
    Auto,
    /// By SIGSTOP.
    Stop,
}

/// What powers the instance off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PowerOff {
    /// systemd, and the kernel itself where that fails.
    System,
    /// Another program with its arguments, and nothing else.
    Command(String, Vec<String>),
}

/// What is wrong with the settings.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{} in the settings (/etc/runner-supervisor/environment): {}", counted(mistakes.len()), mistakes.join("; "))]
pub struct ConfigError {
    /// Each with its variable's name.
    pub mistakes: Vec<String>,
    /// The others, with defaults in place of the mistakes: for what has to be done in spite of them.
    pub others: Box<Config>,
}

fn counted(mistakes: usize) -> String {
    if mistakes == 1 { "1 mistake".to_owned() } else { format!("{mistakes} mistakes") }
}

/// Whether the lower bounds hold: not where everything we talk to is on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bounds {
    Real,
    Test,
}

struct Reader<F> {
    lookup: F,
    mistakes: Vec<String>,
    bounds: Bounds,
}

impl Config {
    /// Reads every variable and reports every mistake at once.
    ///
    /// # Errors
    /// All mistakes, each with its variable's name and what it has to be.
    pub fn from_vars(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let given = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let aws_endpoint = given("AWS_ENDPOINT_URL").map(|url| url.trim_end_matches('/').to_owned());
        let metadata_endpoint = given("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or_else(|| METADATA.to_owned());
        let metadata_endpoint = metadata_endpoint.trim_end_matches('/').to_owned();
        let local = aws_endpoint.as_deref().is_some_and(is_loopback) && is_loopback(&metadata_endpoint);
        let bounds = if local { Bounds::Test } else { Bounds::Real };
        let mut read = Reader { lookup: given, mistakes: Vec::new(), bounds };
        let defaults = Limits::default();
        let runner_folder = read.path("RUNNER_FOLDER").unwrap_or_else(|| "/opt/actions-runner".into());
        let config = Self {
            parameter_path: read.parameter_path(),
            vital_signs_table: read.required("VITAL_SIGNS_TABLE"),
            vital_signs_key_prefix: lookup("VITAL_SIGNS_KEY_PREFIX").unwrap_or_default(),
            listener_command: read.path("LISTENER_COMMAND").unwrap_or_else(|| runner_folder.join("run.sh")),
            runner_folder,
            user: read.user(),
            limits: Limits {
                boot_deadline_ms: read.seconds("BOOT_DEADLINE_SECONDS", defaults.boot_deadline_ms, 60..=Millis::MAX),
                idle_maximum_ms: read.seconds("IDLE_MAXIMUM_SECONDS", defaults.idle_maximum_ms, 60..=Millis::MAX),
                acquire_watchdog_ms: read.seconds(
                    "ACQUIRE_WATCHDOG_SECONDS",
                    defaults.acquire_watchdog_ms,
                    defaults.acquire_watchdog_ms / 1_000..=Millis::MAX,
                ),
                hard_age_ms: read.seconds(
                    "HARD_AGE_SECONDS",
                    defaults.hard_age_ms,
                    defaults.hard_age_ms / 1_000..=Millis::MAX,
                ),
                worker_watchdog_ms: defaults.worker_watchdog_ms,
                restless_maximum_ms: defaults.restless_maximum_ms,
            },
            booted_at: read.seconds("BOOTED_AT_SECONDS", 0, 0..=0),
            drain_look: duration(read.seconds("DRAIN_LOOK_SECONDS", 5_000, 1..=60)),
            beat: duration(read.seconds("BEAT_SECONDS", 60_000, 10..=120)),
            job_metadata: read.one_of("BLOCK_METADATA", [("true", JobMetadata::Blocked), ("false", JobMetadata::Open)]),
            job_started_hook: read.path("JOB_STARTED_HOOK"),
            job_completed_hook: read.path("JOB_COMPLETED_HOOK"),
            log_group: (read.lookup)("LOG_GROUP"),
            freezer: read.one_of("FREEZER", [("auto", Freezer::Auto), ("stop", Freezer::Stop)]),
            power_off: read.power_off(),
            run_folder: read.path("RUN_FOLDER").unwrap_or_else(|| RUN_FOLDER.into()),
            state_folder: read.path("STATE_FOLDER").unwrap_or_else(|| STATE_FOLDER.into()),
            metadata_endpoint,
            aws_endpoint,
        };
        if read.mistakes.is_empty() {
            return Ok(config);
        }
        Err(ConfigError { mistakes: read.mistakes, others: Box::new(config) })
    }
}

impl<F: Fn(&str) -> Option<String>> Reader<F> {
    fn required(&mut self, name: &str) -> String {
        (self.lookup)(name).unwrap_or_else(|| {
            self.mistakes.push(format!("{name}: missing"));
            String::new()
        })
    }

    fn parameter_path(&mut self) -> String {
        let name = "RUNNER_PARAMETER_PATH";
        let path = self.required(name);
        if !path.is_empty() && !path.starts_with('/') {
            self.mistakes.push(format!("{name}: {path:?} does not begin with /"));
        }
        path.trim_end_matches('/').to_owned()
    }

    fn path(&mut self, name: &str) -> Option<PathBuf> {
        let path = PathBuf::from((self.lookup)(name)?);
        if !path.is_absolute() {
            self.mistakes.push(format!("{name}: {} is not an absolute path", path.display()));
        }
        Some(path)
    }

    /// Milliseconds of a number of seconds, which may have decimals.
    fn seconds(&mut self, name: &str, default_ms: Millis, allowed: std::ops::RangeInclusive<Millis>) -> Millis {
        let Some(text) = (self.lookup)(name) else { return default_ms };
        let parsed = text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let Some(ms) = parsed.and_then(|duration| Millis::try_from(duration.as_millis()).ok()) else {
            self.mistakes.push(format!("{name}: {text:?} is not a number of seconds"));
            return default_ms;
        };
        let (least, most) = (allowed.start().saturating_mul(1_000), allowed.end().saturating_mul(1_000));
        if self.bounds == Bounds::Real && ms < least {
            self.mistakes.push(format!("{name}: {text} is below the minimum {}", allowed.start()));
            return default_ms;
        }
        if self.bounds == Bounds::Real && most < ms {
            self.mistakes.push(format!("{name}: {text} is above the maximum {}", allowed.end()));
            return default_ms;
        }
        ms
    }

    /// The first is the default.
    fn one_of<T: Copy>(&mut self, name: &str, words: [(&str, T); 2]) -> T {
        let [(first_word, first), (second_word, second)] = words;
        match (self.lookup)(name).as_deref() {
            None => first,
            Some(word) if word == first_word => first,
            Some(word) if word == second_word => second,
            Some(word) => {
                self.mistakes.push(format!("{name}: {word:?} is neither {first_word} nor {second_word}"));
                first
            }
        }
    }

    fn user(&mut self) -> RunnerUser {
        let text = (self.lookup)("RUNNER_USER").unwrap_or_else(|| "runner".to_owned());
        match RunnerUser::find(&text, Path::new("/etc/passwd"), Path::new("/etc/group")) {
            Ok(user) if user.uid == 0 && self.bounds == Bounds::Real => {
                self.mistakes.push("RUNNER_USER: a job must not run as root".to_owned());
                user
            }
            Ok(user) => user,
            Err(why) => {
                self.mistakes.push(format!("RUNNER_USER: {why}"));
                RunnerUser::nobody()
            }
        }
    }

    fn power_off(&mut self) -> PowerOff {
        let Some(text) = (self.lookup)("POWER_OFF_COMMAND") else { return PowerOff::System };
        let mut words = text.split_ascii_whitespace().map(str::to_owned);
        let Some(program) = words.next() else {
            self.mistakes.push("POWER_OFF_COMMAND: names no program".to_owned());
            return PowerOff::System;
        };
        PowerOff::Command(program, words.collect())
    }
}

fn duration(ms: Millis) -> Duration {
    Duration::from_millis(ms.unsigned_abs())
}

/// Whether an address is of this machine.
pub(crate) fn is_loopback(url: &str) -> bool {
    let Some((_scheme, rest)) = url.split_once("://") else { return false };
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(vars: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let always = [("RUNNER_PARAMETER_PATH", "/runners/"), ("VITAL_SIGNS_TABLE", "signs"), ("RUNNER_USER", "1:1")];
        let found = |name: &str| {
            let last = always.iter().chain(vars).rev().find(|(key, _)| *key == name);
            last.map(|(_, value)| (*value).to_owned())
        };
        Config::from_vars(found)
    }

    #[test]
    fn what_is_not_set_has_a_default() {
        let config = config(&[]).unwrap();
        assert_eq!(config.parameter_path, "/runners");
        assert_eq!(config.listener_command, Path::new("/opt/actions-runner/run.sh"));
        assert_eq!(config.limits, Limits::default());
        assert_eq!((config.drain_look, config.beat), (Duration::from_secs(5), Duration::from_secs(60)));
        assert_eq!(config.job_metadata, JobMetadata::Blocked);
        assert_eq!(config.power_off, PowerOff::System);
        assert_eq!(config.metadata_endpoint, METADATA);
    }

    #[test]
    fn every_mistake_is_reported_at_once() {
        let mistakes = config(&[
            ("RUNNER_PARAMETER_PATH", "runners"),
            ("VITAL_SIGNS_TABLE", ""),
            ("RUNNER_USER", "0:0"),
            ("IDLE_MAXIMUM_SECONDS", "59"),
            ("HARD_AGE_SECONDS", "86400"),
            ("BEAT_SECONDS", "soon"),
            ("DRAIN_LOOK_SECONDS", "61"),
            ("BLOCK_METADATA", "yes"),
            ("JOB_STARTED_HOOK", "hook.sh"),
        ]);
        assert_eq!(
            mistakes.unwrap_err().to_string(),
            "9 mistakes in the settings (/etc/runner-supervisor/environment): \
             RUNNER_PARAMETER_PATH: \"runners\" does not begin with /; VITAL_SIGNS_TABLE: missing; \
             RUNNER_USER: a job must not run as root; IDLE_MAXIMUM_SECONDS: 59 is below the minimum 60; \
             HARD_AGE_SECONDS: 86400 is below the minimum 439200; DRAIN_LOOK_SECONDS: 61 is above the maximum 60; \
             BEAT_SECONDS: \"soon\" is not a number of seconds; BLOCK_METADATA: \"yes\" is neither true nor false; \
             JOB_STARTED_HOOK: hook.sh is not an absolute path"
        );
    }

    #[test]
    fn a_mistake_leaves_the_default_and_the_other_settings() {
        let vars = [("BOOT_DEADLINE_SECONDS", "1"), ("RUN_FOLDER", "/run/other"), ("BEAT_SECONDS", "121")];
        let others = config(&vars).unwrap_err().others;
        assert_eq!(others.limits, Limits::default());
        assert_eq!((others.beat, others.run_folder), (Duration::from_secs(60), "/run/other".into()));
    }

    #[test]
    fn shorter_times_need_everything_on_this_machine() {
        let aws = ("AWS_ENDPOINT_URL", "http://127.0.0.1:4566");
        let metadata = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://[::1]:1/imds/i-1/");
        let idle = ("IDLE_MAXIMUM_SECONDS", "0.5");
        assert_eq!(config(&[aws, metadata, idle]).unwrap().limits.idle_maximum_ms, 500);
        for (case, vars) in [
            ("AWS itself", vec![metadata, idle]),
            ("metadata itself", vec![aws, idle]),
            ("a name that begins like it", vec![metadata, idle, ("AWS_ENDPOINT_URL", "http://127.0.0.1.example.com")]),
        ] {
            assert!(config(&vars).is_err(), "{case}");
        }
    }
}
