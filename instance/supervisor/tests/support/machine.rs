//! One instance: its folders, the supervisor on it, and who starts it again when it dies.

use super::Cloud;
use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SUPERVISOR: &str = env!("CARGO_BIN_EXE_runner-supervisor");

/// A stand-in for run.sh: speaks as the listener does, in its order. A file says how far it came, always after the
/// listener's own words.
const RUN_SH: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
. ./plan
say() { echo "2026-11-26 12:00:00Z: $1"; }
trace() { echo "[2026-11-26 12:00:00Z INFO $1] $2" >> _diag/Runner_20261126-120000-utc.log; }
let_pass() { case "$1" in ./*) until [ -e "$1" ]; do sleep 0.02; done ;; *) sleep "$1" ;; esac; }
if [ -n "$record_environment" ]; then env > environment; fi
say 'Listening for Jobs'
: > listening
if [ -n "$says" ]; then say "$says"; fi
if [ -z "$job_after" ]; then exec sleep 3600; fi
let_pass "$job_after"
trace BrokerMessageListener "Acknowledging runner request '1'."
: > acknowledged
if [ -n "$ghost" ]; then exec sleep 3600; fi
sleep "$acquisition"
trace JobDispatcher 'Job request 0 for plan p job j received.'
bin/Runner.Worker "$job" &
say 'Running job: build'
if [ -n "$dies" ]; then exit 1; fi
wait
say 'Job build completed with result: Succeeded'
"#;

const WORKER: &str = r#"#!/bin/sh
: > working
case "$1" in ./*) until [ -e "$1" ]; do sleep 0.02; done ;; *) sleep "$1" ;; esac
: > finished
"#;

/// A time that ends when the test says so, by [`Machine::bring_job`]: nothing depends on how fast the machine is.
pub(crate) const WHEN_BROUGHT: &str = "./brought";

/// The same, by [`Machine::end_job`].
pub(crate) const WHEN_ENDED: &str = "./ended";

/// From its start until an instance listens, on a starved machine.
pub(crate) const STARTED: Duration = Duration::from_secs(300);

/// What the listener will do. Times are arguments of sleep(1), or a file that ends them; an empty one means never.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) job_after: String,
    pub(crate) acquisition: String,
    pub(crate) job: String,
    pub(crate) ghost: bool,
    pub(crate) dies: bool,
    pub(crate) record_environment: bool,
    pub(crate) says: String,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            job_after: String::new(),
            acquisition: "0.01".into(),
            job: "0.05".into(),
            ghost: false,
            dies: false,
            record_environment: false,
            says: String::new(),
        }
    }
}

/// An instance.
pub(crate) struct Machine {
    pub(crate) id: String,
    pub(crate) cloud: Cloud,
    folder: TempDir,
    vars: Vec<(String, String)>,
    supervisor: Option<Child>,
}

impl Machine {
    /// An instance that has its configuration already. Its supervisor is not started yet.
    pub(crate) fn new(cloud: &Cloud, plan: &Plan) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("i-{:x}-{:x}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = tempfile::Builder::new().prefix("instance").tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let root = fs::metadata("/proc/self").map(|own| std::os::unix::fs::MetadataExt::uid(&own)).unwrap() == 0;
        for name in ["runner", "runner/bin", "runner/_diag"] {
            fs::create_dir(path(name)).unwrap();
            fs::set_permissions(path(name), Permissions::from_mode(0o777)).unwrap();
        }
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        for (name, text) in [("runner/run.sh", RUN_SH), ("runner/bin/Runner.Worker", WORKER)] {
            write_program(&path(name), text);
        }
        let flag = |set: bool| if set { "1" } else { "" };
        let plan = format!(
            "job_after={}\nacquisition={}\njob={}\nghost={}\ndies={}\nrecord_environment={}\nsays='{}'\n",
            plan.job_after,
            plan.acquisition,
            plan.job,
            flag(plan.ghost),
            flag(plan.dies),
            flag(plan.record_environment),
            plan.says,
        );
        fs::write(path("runner/plan"), plan).unwrap();
        cloud.hand_over(&id, &secret_of(&id));
        let own = fs::metadata("/proc/self").unwrap();
        let own = (std::os::unix::fs::MetadataExt::uid(&own), std::os::unix::fs::MetadataExt::gid(&own));
        let user = if root { "65534:65534".to_owned() } else { format!("{}:{}", own.0, own.1) };
        let text = |name: &str| path(name).display().to_string();
        let vars = [
            ("RUNNER_PARAMETER_PATH", "/runners".to_owned()),
            ("VITAL_SIGNS_TABLE", "signs".to_owned()),
            ("RUNNER_FOLDER", text("runner")),
            ("RUN_FOLDER", text("run")),
            ("STATE_FOLDER", text("state")),
            ("RUNNER_USER", user),
            ("POWER_OFF_COMMAND", format!("touch {}", text("off"))),
            ("BLOCK_METADATA", "false".to_owned()),
            ("DRAIN_LOOK_SECONDS", "0.01".to_owned()),
            ("BOOTED_AT_SECONDS", format!("{:.3}", uptime())),
            ("AWS_ENDPOINT_URL", cloud.aws_endpoint()),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", cloud.metadata_endpoint(&id)),
            ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
        ];
        let vars = vars.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { id, cloud: cloud.clone(), folder, vars, supervisor: None }
    }

    /// Changes a setting, before the start.
    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.vars.retain(|(known, _)| known != name);
        self.vars.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn vars(&self) -> Vec<(String, String)> {
        self.vars.clone()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts the supervisor, as systemd does, again where one has died.
    pub(crate) fn start(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.path("journal")).unwrap();
        let mut command = Command::new(SUPERVISOR);
        command.arg("run").env_clear().envs(self.vars.clone()).stdin(Stdio::null());
        self.supervisor = Some(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    }

    /// Runs another command of the supervisor with the same settings.
    pub(crate) fn command(&self, word: &str) -> std::process::Output {
        Command::new(SUPERVISOR).arg(word).env_clear().envs(self.vars.clone()).output().unwrap()
    }

    /// The supervisor's process.
    pub(crate) fn pid(&self) -> u32 {
        self.supervisor.as_ref().map(Child::id).unwrap()
    }

    /// kill -9.
    pub(crate) fn kill_supervisor(&mut self) {
        if let Some(mut supervisor) = self.supervisor.take() {
            supervisor.kill().unwrap();
            supervisor.wait().unwrap();
        }
    }

    /// Whether the supervisor ended by itself: it must not.
    pub(crate) fn supervisor_ended(&mut self) -> bool {
        self.supervisor.as_mut().is_some_and(|supervisor| supervisor.try_wait().unwrap().is_some())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    pub(crate) fn is_off(&self) -> bool {
        self.has("off")
    }

    pub(crate) fn is_listening(&self) -> bool {
        self.has("runner/listening")
    }

    /// A job was acknowledged and did not come to its end.
    pub(crate) fn lost_its_job(&self) -> bool {
        self.has("runner/acknowledged") && !self.has("runner/finished")
    }

    pub(crate) fn journal(&self) -> String {
        fs::read_to_string(self.path("journal")).unwrap_or_default()
    }

    /// A fresh drain request, another one each time.
    pub(crate) fn drain(&self) {
        drain(&self.cloud, &self.id);
    }

    /// Ends [`WHEN_BROUGHT`].
    pub(crate) fn bring_job(&self) {
        fs::write(self.path("runner").join(WHEN_BROUGHT), "").unwrap();
    }

    /// Ends [`WHEN_ENDED`].
    pub(crate) fn end_job(&self) {
        fs::write(self.path("runner").join(WHEN_ENDED), "").unwrap();
    }

    /// Whether the listener's processes have not ended.
    pub(crate) fn listener_is_there(&self) -> bool {
        !processes_with(&format!("RUNNER_SUPERVISED_BY={}@", self.path("run").display())).is_empty()
    }

    pub(crate) fn cgroup(&self) -> Option<PathBuf> {
        let held = fs::read_to_string(self.path("run/held")).ok()?;
        (!held.is_empty()).then(|| held.into())
    }

    pub(crate) fn leader(&self) -> Option<u32> {
        fs::read_to_string(self.path("run/leader")).ok()?.split(' ').next()?.parse().ok()
    }

    /// Ends the listener, which runs, and everything it started.
    pub(crate) fn end_listener(&self) {
        // While a process executes another program its environment reads as empty, and it is not found.
        let found = wait_for(Duration::from_secs(10), || !processes_with(&self.mark()).is_empty());
        assert!(found.is_some(), "{} runs", self.mark());
        self.end_all();
    }

    /// Ends whatever the supervisor started.
    fn end_all(&self) {
        let ended = wait_for(Duration::from_secs(10), || {
            let ours = processes_with(&self.mark());
            for pid in &ours {
                let _ended = Command::new("kill").args(["-KILL", pid]).stderr(Stdio::null()).status();
            }
            ours.is_empty()
        });
        assert!(ended.is_some(), "{} ends", self.mark());
    }

    /// What the environment of all that the supervisor starts holds.
    fn mark(&self) -> String {
        format!("RUNNER_SUPERVISED_BY={}@", self.path("run").display())
    }

    /// Whether the listener stands still, or is about to.
    pub(crate) fn is_frozen(&self) -> bool {
        if let Some(cgroup) = self.cgroup() {
            return fs::read_to_string(cgroup.join("cgroup.freeze")).is_ok_and(|text| text.trim() == "1");
        }
        let stat = self.leader().and_then(|leader| fs::read_to_string(format!("/proc/{leader}/stat")).ok());
        stat.is_some_and(|stat| stat.contains(") T "))
    }

    pub(crate) fn secret(&self) -> String {
        secret_of(&self.id)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill_supervisor();
        self.end_all();
        if let Some(cgroup) = self.cgroup() {
            // Whoever was in it has ended; it may take a moment until it is empty.
            wait_for(Duration::from_secs(2), || !cgroup.exists() || fs::remove_dir(&cgroup).is_ok());
        }
    }
}

/// The processes whose environment holds the text; those that have ended have none.
fn processes_with(text: &str) -> Vec<String> {
    let holds = |pid: &String| {
        fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|environment| String::from_utf8_lossy(&environment).contains(text))
    };
    let entries = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    entries.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).filter(holds).collect()
}

fn secret_of(id: &str) -> String {
    format!("jit-secret-of-{id}")
}

fn write_program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}

fn uptime() -> f64 {
    fs::read_to_string("/proc/uptime").unwrap().split(' ').next().unwrap().parse().unwrap()
}

/// The time as the control plane writes it. Two calls give two values.
#[expect(clippy::disallowed_methods, reason = "a drain request is dated by the wall clock")]
fn now_rfc3339() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = chrono::DateTime::from_timestamp_micros(now.as_micros().try_into().unwrap()).unwrap();
    now.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

/// A fresh drain request, another one each time.
pub(crate) fn drain(cloud: &Cloud, instance_id: &str) {
    cloud.drain(instance_id, &now_rfc3339());
}

/// Looks without a pause.
#[expect(clippy::disallowed_methods, reason = "a test measures")]
pub(crate) fn spin_until(patience: Duration, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while began.elapsed() < patience && !is_so() {
        std::hint::spin_loop();
    }
}

/// Lets a time pass that is too short for a sleep.
pub(crate) fn spin_for(time: Duration) {
    spin_until(time, || false);
}

/// Waits until it is so, and how long that took; `None` when it never was.
#[expect(clippy::disallowed_methods, reason = "a test measures")]
pub(crate) fn wait_for(patience: Duration, mut is_so: impl FnMut() -> bool) -> Option<Duration> {
    let began = Instant::now();
    while began.elapsed() < patience {
        if is_so() {
            return Some(began.elapsed());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    None
}

/// Whether this machine lets us make a cgroup that can be frozen; where not, says so where nobody overlooks it.
pub(crate) fn cgroups_can_be_made(test: &str) -> bool {
    let mut machine = Machine::new(&Cloud::start(), &Plan::default());
    machine.start();
    let listens = wait_for(STARTED, || machine.is_listening());
    assert!(listens.is_some(), "{}", machine.journal());
    let can = machine.cgroup().is_some();
    if !can {
        // Not by eprintln!, which the test harness keeps to itself where the test passes.
        let said = writeln!(
            std::io::stderr(),
            "\n*** SKIPPED: {test}: no cgroup v2 can be made here; only SIGSTOP was tested ***\n"
        );
        said.unwrap();
    }
    can
}
