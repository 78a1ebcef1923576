//! An instance's first boot, played in a root of its own on this machine: the user data as Terraform renders it, with
//! stand-ins for systemd and the package managers. Nothing outside of that root is changed.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// Folder of what runs on the instance, in the repository.
#[must_use]
pub fn instance_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../instance")
}

/// The script that installs.
#[must_use]
pub fn install_script() -> PathBuf {
    instance_folder().join("boot/install")
}

/// What the root's operating system says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Os {
    /// Amazon Linux 2023
    Amazon,
    /// Ubuntu 24.04
    Ubuntu,
    /// One that is not supported.
    Debian,
}

impl Os {
    fn release(self) -> &'static str {
        match self {
            Self::Amazon => "NAME=\"Amazon Linux\"\nID=\"amzn\"\nVERSION_ID=\"2023\"\n",
            Self::Ubuntu => "NAME=\"Ubuntu\"\nID=ubuntu\nVERSION_ID=\"24.04\"\n",
            Self::Debian => "NAME=\"Debian\"\nID=debian\nVERSION_ID=\"12\"\n",
        }
    }
}

/// What an instance is told to install.
#[derive(Clone, Debug)]
pub struct Pins {
    /// Address of the supervisor.
    pub supervisor_url: String,
    /// Its SHA-256.
    pub supervisor_sha256: String,
    /// Address of the runner distribution.
    pub runner_url: String,
    /// Its SHA-256.
    pub runner_sha256: String,
}

/// The user data as Terraform's `templatefile` renders it: every `${name}` of the template has a value, and the template
/// uses nothing else.
///
/// # Panics
/// Where the template asks for something that is not given, or a text would end its own here-document.
#[must_use]
pub fn user_data(pins: &Pins) -> String {
    let text = |path: &str| fs::read_to_string(instance_folder().join(path)).expect("a file of the repository");
    let settings = "# Two that are required, and one with a blank.\n\
                    RUNNER_PARAMETER_PATH=/runner-scaler/test/runners\nVITAL_SIGNS_TABLE=test-vital-signs\n\
                    POWER_OFF_COMMAND=systemctl poweroff";
    let values = [
        ("settings", settings.to_owned()),
        ("service", text("systemd/runner-supervisor.service")),
        ("slice", text("systemd/runner.slice")),
        ("install", text("boot/install")),
        ("supervisor_url", pins.supervisor_url.clone()),
        ("supervisor_sha256", pins.supervisor_sha256.clone()),
        ("runner_url", pins.runner_url.clone()),
        ("runner_sha256", pins.runner_sha256.clone()),
    ];
    let template = text("boot/user-data.sh.tftpl");
    assert!(!template.contains("%{") && !template.contains("$${"), "the template uses plain values only");
    let mut parts = template.split("${");
    let mut rendered = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('}').expect("a name and its end");
        let (_, value) = values.iter().find(|(own, _)| *own == name).unwrap_or_else(|| panic!("{name} has no value"));
        assert!(!value.lines().any(|line| line.starts_with("END-OF-")), "{name} would end its own document");
        rendered.push_str(value);
        rendered.push_str(rest);
    }
    rendered
}

/// A root folder in which a script runs as root, with this machine's programs and nothing else of it.
#[derive(Debug)]
pub struct Root {
    folder: TempDir,
}

/// What a script did.
#[derive(Debug)]
pub struct Done {
    /// How it ended.
    pub output: Output,
    /// Calls of stand-ins, one a line: name and arguments.
    pub calls: Vec<String>,
    /// What the console shows.
    pub console: String,
}

/// A stand-in that wants one setting, and says what it was told.
const SUPERVISOR: &str = "if [ \"$1\" != check ]; then echo runner-supervisor 0; exit; fi
printf '%s\\n' \"check $RUNNER_PARAMETER_PATH, $POWER_OFF_COMMAND, $(env | wc -l) variables\" >>/calls
[ -n \"$VITAL_SIGNS_TABLE\" ] || { echo '1 mistake in the settings: VITAL_SIGNS_TABLE: missing'; exit 1; }";

/// Stand-ins that only say that they were called.
const SILENT: [&str; 4] = ["systemctl", "dnf", "apt-get", "poweroff"];

impl Root {
    /// A root of that system; `baked` ones have all packages.
    ///
    /// # Panics
    /// Where this machine's temporary folder cannot be written to.
    #[must_use]
    pub fn new(os: Os, baked: bool) -> Self {
        let root = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        for folder in
            ["dev", "etc", "home", "local/bin", "opt", "proc", "run", "stand-ins", "tmp", "usr", "var/lib", "pinned"]
        {
            fs::create_dir_all(root.path(folder)).expect("a folder");
        }
        for link in ["bin", "lib", "lib64", "sbin"] {
            symlink(format!("usr/{link}"), root.path(link)).expect("a link");
        }
        for (file, text) in [
            ("dev/console", ""),
            ("dev/null", ""),
            ("calls", ""),
            ("etc/os-release", os.release()),
            ("etc/passwd", "root:x:0:0:root:/root:/bin/bash\n"),
            ("etc/group", "root:x:0:\n"),
            ("etc/shadow", "root:*:19000:0:99999:7:::\n"),
            ("etc/gshadow", "root:*::\n"),
            ("etc/login.defs", "UID_MIN 1000\nUID_MAX 60000\nGID_MIN 1000\nGID_MAX 60000\nUSERGROUPS_ENAB yes\n"),
        ] {
            fs::write(root.path(file), text).expect("a file");
        }
        for name in SILENT {
            root.stand_in(name, "exit 0");
        }
        let has = if baked { "exit 0" } else { "exit 1" };
        root.stand_in("rpm", has);
        root.stand_in("dpkg-query", &if baked { "printf installed".to_owned() } else { has.to_owned() });
        root
    }

    /// The path of something in the root, as seen from outside.
    #[must_use]
    pub fn path(&self, inside: &str) -> PathBuf {
        // /usr/local is a folder of its own: the rest of /usr is this machine's and read only.
        let inside = inside.strip_prefix("usr/local/").map_or(inside.to_owned(), |rest| format!("local/{rest}"));
        self.folder.path().join(inside)
    }

    fn stand_in(&self, name: &str, end: &str) {
        self.script(&format!("stand-ins/{name}"), &format!("printf '%s\\n' \"{name} $*\" >>/calls\n{end}"));
    }

    fn script(&self, inside: &str, text: &str) {
        fs::write(self.path(inside), format!("#!/bin/bash\n{text}\n")).expect("a script");
        fs::set_permissions(self.path(inside), fs::Permissions::from_mode(0o755)).expect("its mode");
    }

    /// Puts a supervisor and a runner distribution where the instance can fetch them by path; what pins them.
    ///
    /// # Panics
    /// Where `tar` or `sha256sum` is missing.
    #[must_use]
    pub fn put_downloads(&self) -> Pins {
        fs::create_dir_all(self.path("pinned/runner/bin")).expect("a folder");
        self.script("pinned/runner-supervisor", SUPERVISOR);
        self.script("pinned/runner/run.sh", "exec sleep 1");
        self.script("pinned/runner/bin/Runner.Listener", "true");
        let archive = self.path("pinned/runner.tar.gz");
        run(Command::new("tar").arg("-czf").arg(&archive).arg("-C").arg(self.path("pinned/runner")).arg("."));
        Pins {
            supervisor_url: "/pinned/runner-supervisor".to_owned(),
            supervisor_sha256: sha256(&self.path("pinned/runner-supervisor")),
            runner_url: "/pinned/runner.tar.gz".to_owned(),
            runner_sha256: sha256(&archive),
        }
    }

    /// Runs a script in the root, as root, with these variables besides PATH.
    ///
    /// # Panics
    /// Where a namespace cannot be made although [`can_make_roots`] said so.
    #[must_use]
    pub fn run(&self, script: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Done {
        fs::write(self.path("script"), script).expect("a file");
        fs::write(self.path("calls"), "").expect("a file");
        fs::write(self.path("dev/console"), "").expect("a file");
        let mut words = String::new();
        for (name, value) in variables {
            write!(words, " {name}='{value}'").expect("a string");
        }
        for argument in arguments {
            write!(words, " '{argument}'").expect("a string");
        }
        let (before, after) = words.split_at(words.find(" '").unwrap_or(words.len()));
        let inside = format!("env -i PATH=/stand-ins:/usr/sbin:/usr/bin HOME=/root{before} /bin/bash /script{after}");
        let setup = "set -e; root=$1; shift
            mount --rbind /usr \"$root/usr\"; mount -o remount,bind,ro \"$root/usr\"
            mount --bind \"$root/local\" \"$root/usr/local\"
            mount --bind /dev/null \"$root/dev/null\"
            exec chroot \"$root\" /bin/bash -c \"$1\"";
        let output = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "bash", "-c", setup, "setup"])
            .arg(self.folder.path())
            .arg(&inside)
            .stdin(Stdio::null())
            .output()
            .expect("unshare");
        let read = |file: &str| fs::read_to_string(self.path(file)).expect("a file of the root");
        Done { output, calls: read("calls").lines().map(str::to_owned).collect(), console: read("dev/console") }
    }
}

/// Whether this process may make a root of its own; says loudly where it may not.
#[must_use]
pub fn can_make_roots() -> bool {
    let works = Command::new("unshare").args(["--mount", "bash", "-c", "mount -t tmpfs none /mnt"]).output();
    let can = works.as_ref().is_ok_and(|output| output.status.success());
    if !can {
        // Not by eprintln!, which the test harness keeps to itself where the test passes.
        writeln!(
            std::io::stderr(),
            "\n*** SKIPPED: an instance's boot cannot be played here, for that takes root and `unshare`: {works:?} ***\n"
        )
        .expect("standard error");
    }
    can
}

/// The digest of a file.
///
/// # Panics
/// Where `sha256sum` is missing.
#[must_use]
pub fn sha256(file: &Path) -> String {
    let output = run(Command::new("sha256sum").arg(file));
    String::from_utf8_lossy(&output.stdout).split(' ').next().unwrap_or_default().to_owned()
}

/// Runs a command that must succeed.
///
/// # Panics
/// Where it does not.
pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}
