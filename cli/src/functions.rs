//! The four functions: what they are called and how the local stack deploys them.

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
}

impl Function {
    /// Every function, in the order in which a job meets them.
    pub(crate) const ALL: [Self; 4] = [Self::Webhook, Self::ScaleUp, Self::ScaleDown, Self::OrphanSweeper];

    /// Package, binary and Lambda function bear the same name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::ScaleUp => "scale-up",
            Self::ScaleDown => "scale-down",
            Self::OrphanSweeper => "orphan-sweeper",
        }
    }

    /// Lambda's time limit, in seconds. Short for scale-up: the queue's visibility timeout is six times as long
    /// (AWS asks for that), and a killed scale-up's jobs wait for exactly that long.
    pub(crate) fn timeout_seconds(self) -> u32 {
        match self {
            Self::Webhook | Self::ScaleUp => 10,
            Self::ScaleDown | Self::OrphanSweeper => 60,
        }
    }

    /// `EventBridge` Scheduler's expression, for the functions woken by time.
    pub(crate) fn schedule(self) -> Option<&'static str> {
        match self {
            Self::Webhook | Self::ScaleUp => None,
            Self::ScaleDown => Some("rate(1 minute)"),
            Self::OrphanSweeper => Some("rate(5 minutes)"),
        }
    }
}

/// How a deployment package is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// As it is: debug binaries are large and never leave the machine.
    Stored,
    /// Deflated, as it would be deployed.
    Deflated,
}

/// A Lambda deployment package for `provided.al2023`: the binary under the name `bootstrap`.
pub(crate) fn deployment_package(binary: &Path, packing: Packing) -> Result<Vec<u8>, Failure> {
    let content = std::fs::read(binary).map_err(Failure::io(format!("cannot read {}", binary.display())))?;
    let method = match packing {
        Packing::Stored => CompressionMethod::Stored,
        Packing::Deflated => CompressionMethod::Deflated,
    };
    let options = SimpleFileOptions::default().compression_method(method).unix_permissions(0o755);
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let packed = archive
        .start_file("bootstrap", options)
        .map_err(std::io::Error::from)
        .and_then(|()| archive.write_all(&content))
        .and_then(|()| archive.finish().map_err(std::io::Error::from))
        .map_err(Failure::io(format!("cannot pack {}", binary.display())))?;
    Ok(packed.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_holds_an_executable_bootstrap() {
        let binary = std::env::temp_dir().join(format!("bootstrap-{}", std::process::id()));
        std::fs::write(&binary, b"#!/bin/sh\n".repeat(1000)).unwrap();
        let stored = deployment_package(&binary, Packing::Stored).unwrap();
        let deflated = deployment_package(&binary, Packing::Deflated).unwrap();
        std::fs::remove_file(&binary).unwrap();
        assert!(stored.len() > 10_000 && deflated.len() < 1_000);
        let mut archive = zip::ZipArchive::new(Cursor::new(deflated)).unwrap();
        let file = archive.by_name("bootstrap").unwrap();
        assert_eq!(file.unix_mode().unwrap() & 0o777, 0o755);
    }
}
