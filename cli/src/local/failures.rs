//! Failed invocations of functions that a queue woke: nobody waits for their answer, but the emulator logs them.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use crate::functions::Function;

/// An invocation that failed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FailedInvocation {
    /// The function.
    pub(crate) function: Function,
    /// Its error.
    pub(crate) why: String,
}

/// Follows the emulator's log.
#[derive(Debug)]
pub(crate) struct EmulatorLog {
    path: PathBuf,
    read_until: u64,
}

impl EmulatorLog {
    /// Follows this file from its beginning.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, read_until: 0 }
    }

    /// Failures that were logged since the last time. A log that cannot be read has none to tell.
    pub(crate) fn new_failures(&mut self) -> Vec<FailedInvocation> {
        let mut bytes = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.read_until))?;
            file.read_to_end(&mut bytes)
        });
        let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n').filter(|_| read.is_ok()) else {
            return Vec::new();
        };
        // A line that is still being written is read the next time.
        bytes.truncate(end + 1);
        self.read_until += bytes.len() as u64;
        String::from_utf8_lossy(&bytes).lines().filter_map(failure).collect()
    }
}

/// `… ESM: Lambda <name> failed processing SQS batch from <queue> (errorType=… errorMessage=…)`.
fn failure(line: &str) -> Option<FailedInvocation> {
    let (_, rest) = line.split_once("ESM: Lambda ")?;
    let (name, why) = rest.split_once(" failed processing SQS batch from ")?;
    let function = Function::ALL.into_iter().find(|function| function.name() == name)?;
    Some(FailedInvocation { function, why: why.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn each_failure_is_told_once_and_whole() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut log = EmulatorLog::new(file.path().to_owned());
        write!(file, "INFO [lambda] ESM: Lambda scale-up processed 1 SQS messages\nWARNING [lambda] ESM: Lambda scale-up failed proc").unwrap();
        assert_eq!(log.new_failures(), []);
        writeln!(file, "essing SQS batch from scale-up (errorType=Runtime.ExitError errorMessage=gone)").unwrap();
        let expected = FailedInvocation {
            function: Function::ScaleUp,
            why: "scale-up (errorType=Runtime.ExitError errorMessage=gone)".into(),
        };
        assert_eq!(log.new_failures(), [expected]);
        assert_eq!(log.new_failures(), []);
    }
}
