//! The power switch.

use crate::config::PowerOff;
use crate::console::say;
use rustix::system::{RebootCommand, reboot};
use std::process::Command;
use std::time::Duration;

/// How long a shutdown that was accepted may take before it is asked for again. systemd gives a service 90 s to stop.
const SHUTDOWN: Duration = Duration::from_secs(120);

/// Between two attempts that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// How often systemd is asked before the kernel is.
const ASKED_MAX: u32 = 3;

/// Powers the instance off, and never returns: whoever returned would be started again and do the same.
pub(crate) fn off(how: &PowerOff) -> ! {
    let mut asked = 0;
    loop {
        let accepted = match how {
            PowerOff::System if asked < ASKED_MAX => run("systemctl", &["poweroff".to_owned()]),
            PowerOff::System => {
                rustix::fs::sync();
                say("systemd does not power the instance off: asks the kernel");
                if let Err(error) = reboot(RebootCommand::PowerOff) {
                    say(format!("the kernel does not power the instance off: {error}"));
                }
                false
            }
            PowerOff::Command(program, arguments) => run(program, arguments),
        };
        asked += 1;
        std::thread::sleep(if accepted { SHUTDOWN } else { PAUSE });
    }
}

fn run(program: &str, arguments: &[String]) -> bool {
    match Command::new(program).args(arguments).status() {
        Ok(status) if status.success() => true,
        Ok(status) => {
            say(format!("{program} did not power the instance off: {status}"));
            false
        }
        Err(error) => {
            say(format!("{program} could not be started: {error}"));
            false
        }
    }
}
