//! Children that end with us, and the processes of a function.

use std::fs::File;
use std::path::Path;
use std::process::{Command as BlockingCommand, ExitStatus, Stdio};

use tokio::process::{Child, ChildStdin, Command};

use crate::failure::Failure;

/// A child with everything it starts, killed when dropped.
///
/// Its standard input is a pipe that only we hold: a child that reads it learns of our end even when nobody drops
/// this value (SIGKILL).
#[derive(Debug)]
pub(crate) struct ProcessGroup {
    child: Child,
    id: u32,
    _lifeline: Option<ChildStdin>,
}

impl ProcessGroup {
    /// Starts a child as the leader of a new group, its output appended to `log`.
    pub(crate) fn spawn(command: &mut Command, log: &Path) -> Result<Self, Failure> {
        let failure = || Failure::io(format!("cannot write {}", log.display()));
        let output = File::options().create(true).append(true).open(log).map_err(failure())?;
        let errors = output.try_clone().map_err(failure())?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(Failure::io(format!("cannot start {}", command.as_std().get_program().display())))?;
        let lifeline = child.stdin.take();
        // The id is only absent after the child was waited for.
        let id = child.id().unwrap_or_default();
        Ok(Self { child, id, _lifeline: lifeline })
    }

    /// The leader's process id.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// The exit status, once the child has ended.
    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for the child's end.
    pub(crate) async fn wait(&mut self) {
        // An error means that the child cannot be waited for any more: it has ended.
        let _ended = self.child.wait().await;
    }

    /// Kills the child and everything it started.
    pub(crate) fn kill(&mut self) {
        // A group of which nobody is left any more is no longer ours: its number may have been given to others.
        if self.id != 0 {
            kill_now(&format!("-{}", self.id));
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Kills (SIGKILL) the processes of a function of this stack, in whatever they are doing; how many there were.
pub(crate) fn kill_function(function: &str, functions_endpoint: &str) -> usize {
    let victims = processes_of(function, functions_endpoint);
    for id in &victims {
        kill_now(id);
    }
    victims.len()
}

/// Kills (SIGKILL) the one process of a function of this stack that holds the connection from `port` to the stack's
/// proxy; how many there were.
pub(crate) fn kill_caller(function: &str, functions_endpoint: &str, port: u16) -> usize {
    let connections = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let Some(socket) = socket_at(&connections, port) else {
        return 0;
    };
    let mut victims = processes_of(function, functions_endpoint);
    victims.retain(|id| holds(id, &socket));
    for id in &victims {
        kill_now(id);
    }
    victims.len()
}

/// A process is the function's when its environment says so, and this stack's when its AWS endpoint is our proxy.
fn processes_of(function: &str, functions_endpoint: &str) -> Vec<String> {
    let wanted = [format!("AWS_LAMBDA_FUNCTION_NAME={function}"), format!("AWS_ENDPOINT_URL={functions_endpoint}")];
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(|id| {
            std::fs::read(format!("/proc/{id}/environ")).is_ok_and(|environment| has_variables(&environment, &wanted))
        })
        .collect()
}

/// The socket whose local port is `port`, as a process's open files name it. Local address and inode are the second
/// and tenth column of the kernel's table (proc(5)), the port in hexadecimal.
fn socket_at(connections: &str, port: u16) -> Option<String> {
    let local = format!(":{port:04X}");
    connections.lines().find_map(|line| {
        let mut columns = line.split_ascii_whitespace();
        let here = columns.nth(1)?.ends_with(&local);
        let inode = columns.nth(7)?;
        here.then(|| format!("socket:[{inode}]"))
    })
}

fn holds(process: &str, socket: &str) -> bool {
    std::fs::read_dir(format!("/proc/{process}/fd")).is_ok_and(|files| {
        files.flatten().any(|file| std::fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == socket))
    })
}

/// Whether a process's environment (`NAME=value`, each ended by a zero byte) has all the variables.
fn has_variables(environment: &[u8], wanted: &[String]) -> bool {
    wanted.iter().all(|variable| environment.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes()))
}

fn kill_now(target: &str) {
    // `kill` fails when the process ended first, which is what was wanted.
    let _ended = BlockingCommand::new("kill").args(["-KILL", "--", target]).stderr(Stdio::null()).status();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_recognised_by_whole_variables() {
        let environment = b"PATH=/bin\0AWS_LAMBDA_FUNCTION_NAME=scale-up\0AWS_ENDPOINT_URL=http://127.0.0.1:9\0";
        let cases = [
            ("its own name and stack", "scale-up", "http://127.0.0.1:9", true),
            ("a name that it begins with", "scale", "http://127.0.0.1:9", false),
            ("another stack's proxy", "scale-up", "http://127.0.0.1:99", false),
        ];
        for (case, function, endpoint, expected) in cases {
            let wanted = [format!("AWS_LAMBDA_FUNCTION_NAME={function}"), format!("AWS_ENDPOINT_URL={endpoint}")];
            assert_eq!(has_variables(environment, &wanted), expected, "{case}");
        }
    }

    #[test]
    fn the_holder_of_a_connection_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let connections = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let socket = socket_at(&connections, client.local_addr().unwrap().port()).unwrap();
        assert!(holds("self", &socket), "{socket}");
        assert!(!holds("self", "socket:[0]"));
    }

    #[tokio::test]
    async fn a_dropped_group_takes_its_grandchildren_with_it() {
        let log = std::env::temp_dir().join(format!("group-{}.log", std::process::id()));
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 60 & echo $!; wait"]);
        let group = ProcessGroup::spawn(&mut command, &log).unwrap();
        let grandchild = loop {
            let text = std::fs::read_to_string(&log).unwrap();
            if let Some(line) = text.lines().next().filter(|_| text.ends_with('\n')) {
                break line.to_owned();
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        };
        drop(group);
        std::fs::remove_file(&log).unwrap();
        for _ in 0..100 {
            let state = std::fs::read_to_string(format!("/proc/{grandchild}/stat"));
            if state.map_or(true, |stat| stat.contains(") Z ")) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("process {grandchild} outlived its group");
    }
}
