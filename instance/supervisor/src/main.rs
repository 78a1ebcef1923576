//! The binary: reads the settings and hands over.

use runner_supervisor::clock::SystemClock;
use runner_supervisor::config::{Config, ConfigError};
use runner_supervisor::console::{chain, say};
use runner_supervisor::{launch, supervise};
use std::io;
use std::process::ExitCode;
use std::sync::Arc;

const USAGE: &str = "runner-supervisor: starts the GitHub Actions runner of this instance and powers the instance off

usage: runner-supervisor run      supervise; started by systemd, as root
       runner-supervisor thaw     let a listener go on that stands still
       runner-supervisor check    read the settings and say what is wrong with them

settings: environment variables, see /etc/runner-supervisor/environment and instance/README.md";

fn main() -> ExitCode {
    // A supervisor without one of its threads would be half a supervisor: systemd starts a whole one.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["run"] => ended(run().map(|never| match never {})),
        // A mistake elsewhere must not leave a job standing still.
        ["thaw"] => ended(supervise::thaw(&settings().unwrap_or_else(|error| *error.others))),
        ["check"] => ended(settings().map(drop).map_err(io::Error::other)),
        ["launch", ..] => {
            launch::become_listener(&arguments[1..]);
            ExitCode::FAILURE
        }
        ["--help" | "-h"] => {
            say(USAGE);
            ExitCode::SUCCESS
        }
        ["--version" | "-V"] => {
            say(concat!("runner-supervisor ", env!("CARGO_PKG_VERSION")));
            ExitCode::SUCCESS
        }
        _ => {
            say(USAGE);
            ExitCode::from(2)
        }
    }
}

fn run() -> io::Result<std::convert::Infallible> {
    let config = match settings() {
        Ok(config) => config,
        Err(error) => {
            say(format!("runner-supervisor: {error}"));
            supervise::settings_or_off(&error.others, &SystemClock, || settings().ok())?
        }
    };
    supervise::run(config, Arc::new(SystemClock), std::env::current_exe()?)
}

fn ended(how: io::Result<()>) -> ExitCode {
    match how {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format!("runner-supervisor: {}", chain(&error)));
            ExitCode::FAILURE
        }
    }
}

fn settings() -> Result<Config, ConfigError> {
    Config::from_vars(process_env)
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
