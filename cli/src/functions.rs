//! The five functions: what they are called and how the local stack deploys them.

use std::io::{Cursor, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::failure::Failure;

/// A function of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Function {
    /// Verifies deliveries.
    Webhook,
    /// Launches instances.
    ScaleUp,
    /// Removes idle runners.
    ScaleDown,
    /// Settles what lost its counterpart.
    OrphanSweeper,
    /// Finds jobs that nobody serves.
    DemandReconciler,
}

impl Function {
    /// Every function, in the order in which a job meets them.
    pub(crate) const ALL: [Self; 5] =
        [Self::Webhook, Self::ScaleUp, Self::ScaleDown, Self::OrphanSweeper, Self::DemandReconciler];

    /// Package, binary and Lambda function bear the same name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::ScaleUp => "scale-up",
            Self::ScaleDown => "scale-down",
            Self::OrphanSweeper => "orphan-sweeper",
            Self::DemandReconciler => "demand-reconciler",
        }
    }

    /// Lambda's time limit, in seconds. Short for scale-up: the queue's visibility timeout is six times as long
    /// (AWS asks for that), and a killed scale-up's jobs wait for exactly that long. Shorter, and a debug build against
    /// the emulator on a busy machine is cut in the middle of its launches.
    pub(crate) fn timeout_seconds(self) -> u32 {
        match self {
            Self::Webhook => 10,
            Self::ScaleUp => 15,
            Self::ScaleDown | Self::OrphanSweeper | Self::DemandReconciler => 60,
        }
    }

    /// `EventBridge` Scheduler's expression, for the functions woken by time.
    pub(crate) fn schedule(self) -> Option<&'static str> {
        match self {
            Self::Webhook | Self::ScaleUp => None,
            Self::ScaleDown | Self::DemandReconciler => Some("rate(1 minute)"),
            Self::OrphanSweeper => Some("rate(5 minutes)"),
        }
    }
}

/// A Lambda deployment package for `provided.al2023` as it would be deployed: the binary, deflated, under the name
/// `bootstrap`.
pub(crate) fn deployment_package(binary: &Path) -> Result<Vec<u8>, Failure> {
    let content = std::fs::read(binary).map_err(Failure::io(format!("cannot read {}", binary.display())))?;
    package(&content).map_err(Failure::io(format!("cannot pack {}", binary.display())))
}

/// A deployment package that starts a binary of this machine: a debug build's tens of megabytes would take the
/// emulator seconds to receive, hash and unpack. The process that runs is the binary itself.
pub(crate) fn launcher_package(binary: &Path) -> Result<Vec<u8>, Failure> {
    let path = binary.to_string_lossy().replace('\'', r"'\''");
    package(format!("#!/bin/sh\nexec '{path}'\n").as_bytes())
        .map_err(Failure::io(format!("cannot pack a launcher of {}", binary.display())))
}

fn package(bootstrap: &[u8]) -> std::io::Result<Vec<u8>> {
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated).unix_permissions(0o755);
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    archive.start_file("bootstrap", options)?;
    archive.write_all(bootstrap)?;
    Ok(archive.finish()?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn bootstrap_of(package: Vec<u8>) -> (u32, Vec<u8>) {
        let mut archive = zip::ZipArchive::new(Cursor::new(package)).unwrap();
        let mut file = archive.by_name("bootstrap").unwrap();
        let mut content = Vec::new();
        file.read_to_end(&mut content).unwrap();
        (file.unix_mode().unwrap() & 0o777, content)
    }

    #[test]
    fn a_package_holds_an_executable_bootstrap() {
        let binary = tempfile::NamedTempFile::new().unwrap();
        let content = b"ELF and more ".repeat(1000);
        std::fs::write(binary.path(), &content).unwrap();
        let package = deployment_package(binary.path()).unwrap();
        assert!(package.len() < 1_000);
        assert_eq!(bootstrap_of(package), (0o755, content));
    }

    #[test]
    fn a_launcher_becomes_the_binary_wherever_that_lies() {
        let folder = tempfile::Builder::new().prefix("it's here").tempdir().unwrap();
        let binary = folder.path().join("binary");
        std::os::unix::fs::symlink("/bin/echo", &binary).unwrap();
        let (mode, script) = bootstrap_of(launcher_package(&binary).unwrap());
        assert_eq!(mode, 0o755);
        let launcher = folder.path().join("launcher");
        std::fs::write(&launcher, script).unwrap();
        let output = std::process::Command::new("sh").arg(launcher).output().unwrap();
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), b"\n".as_slice()));
    }
}
