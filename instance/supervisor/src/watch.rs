//! Reads what the listener wrote, as far as it has written.

use runner_supervisor_decision::{ListenerLog, Millis, Source};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// How much is read of one file in one look. A listener writes kilobytes a minute; who writes more than this between
/// two looks is not believed to be idle.
const BYTES_A_LOOK_MAX: u64 = 4 * 1024 * 1024;

/// A line longer than this says nothing to us, and its rest is dropped.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// A file that grows.
#[derive(Debug)]
pub(crate) struct Tail {
    path: PathBuf,
    read: u64,
    partial: Vec<u8>,
}

/// Whether a look reached the end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Reached {
    /// It did.
    #[default]
    End,
    /// There is more.
    More,
}

impl Tail {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, read: 0, partial: Vec::new() }
    }

    /// The lines that were finished since the last time. A line that was only begun is an empty one for now: whoever
    /// writes it does something.
    pub(crate) fn lines(&mut self) -> io::Result<(Vec<String>, Reached)> {
        self.lines_within(BYTES_A_LOOK_MAX)
    }

    /// The same, of at most so many bytes.
    pub(crate) fn lines_within(&mut self, bytes_max: u64) -> io::Result<(Vec<String>, Reached)> {
        let Some(mut file) = open_regular(&self.path)? else { return Ok((Vec::new(), Reached::End)) };
        file.seek(SeekFrom::Start(self.read))?;
        let mut new = Vec::new();
        let count = file.take(bytes_max).read_to_end(&mut new)? as u64;
        self.read += count;
        let mut lines = Vec::new();
        for piece in new.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_BYTES_MAX.saturating_sub(self.partial.len());
            self.partial.extend(piece.iter().filter(|byte| **byte != b'\n').take(room));
            if piece.ends_with(b"\n") {
                lines.push(String::from_utf8_lossy(&std::mem::take(&mut self.partial)).trim_end().to_owned());
            }
        }
        if count > 0 && lines.is_empty() {
            lines.push(String::new());
        }
        Ok((lines, if count == bytes_max { Reached::More } else { Reached::End }))
    }
}

/// Opens a regular file; `None` when there is none. The job's user owns the folder: what it could put there instead, a
/// link to somebody else's file or a pipe that never answers, is not opened.
fn open_regular(path: &Path) -> io::Result<Option<File>> {
    match open(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
        Ok(file) if FileType::from_raw_mode(fstat(&file)?.st_mode) == FileType::RegularFile => Ok(Some(file.into())),
        // A pipe or a folder; no file, a link, a socket.
        Ok(_) | Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The names of the diagnostic logs that begin with one of these words.
pub(crate) fn diagnostic_logs(folder: &Path, begins: &[&str]) -> io::Result<Vec<String>> {
    match std::fs::read_dir(folder) {
        Ok(entries) => Ok(entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| {
                Path::new(name).extension().is_some_and(|kind| kind == "log")
                    && begins.iter().any(|word| name.starts_with(word))
            })
            .collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Everything one listener writes.
#[derive(Debug)]
pub(crate) struct Watch {
    diagnostics_folder: PathBuf,
    old_logs: Vec<String>,
    output: Tail,
    diagnostics: BTreeMap<String, Tail>,
    log: ListenerLog,
}

impl Watch {
    /// A listener that was started at `started_at`, or is about to be.
    pub(crate) fn new(output: PathBuf, diagnostics_folder: PathBuf, old_logs: Vec<String>, started_at: Millis) -> Self {
        Self {
            diagnostics_folder,
            old_logs,
            output: Tail::new(output),
            diagnostics: BTreeMap::new(),
            log: ListenerLog::new(started_at),
        }
    }

    /// Reads on.
    pub(crate) fn look(&mut self, now: Millis) -> io::Result<Reached> {
        for name in diagnostic_logs(&self.diagnostics_folder, &["Runner_"])? {
            if !self.old_logs.contains(&name) && !self.diagnostics.contains_key(&name) {
                let tail = Tail::new(self.diagnostics_folder.join(&name));
                self.diagnostics.insert(name, tail);
            }
        }
        let mut reached = Reached::End;
        let output = std::iter::once((Source::Output, &mut self.output));
        let diagnostics = self.diagnostics.values_mut().map(|tail| (Source::Diagnostics, tail));
        for (source, tail) in output.chain(diagnostics) {
            let (lines, how_far) = tail.lines()?;
            for line in lines {
                self.log.hear(source, &line, now);
            }
            if how_far == Reached::More {
                reached = Reached::More;
            }
        }
        Ok(reached)
    }

    pub(crate) fn log(&self) -> &ListenerLog {
        &self.log
    }

    pub(crate) fn saw_worker(&mut self, now: Millis) {
        self.log.saw_worker(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runner_supervisor_decision::Work;
    use std::io::Write as _;

    #[test]
    fn a_line_is_read_once_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut tail = Tail::new(path.clone());
        assert_eq!(tail.lines().unwrap(), (vec![], Reached::End), "no file yet");
        let mut file = File::create(&path).unwrap();
        for (written, expected) in
            [("one\ntw", vec!["one"]), ("", vec![]), ("o", vec![""]), ("\nthree\r\n", vec!["two", "three"])]
        {
            file.write_all(written.as_bytes()).unwrap();
            assert_eq!(tail.lines().unwrap().0, expected, "{written:?}");
        }
    }

    #[test]
    fn what_is_no_file_of_the_listener_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let (secret, link, pipe) =
            (folder.path().join("secret"), folder.path().join("link"), folder.path().join("pipe"));
        std::fs::write(&secret, "secret\n").unwrap();
        std::os::unix::fs::symlink(&secret, &link).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let socket = folder.path().join("socket");
        let _bound = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for path in [link, pipe, socket] {
            assert_eq!(Tail::new(path).lines().unwrap(), (vec![], Reached::End));
        }
    }

    #[test]
    fn only_the_logs_of_this_listener_count() {
        let folder = tempfile::tempdir().unwrap();
        let diag = folder.path().join("_diag");
        let mut watch = Watch::new(folder.path().join("out"), diag.clone(), vec!["Runner_0.log".into()], 0);
        assert_eq!(watch.look(1_000).unwrap(), Reached::End, "no folder yet");
        std::fs::create_dir(&diag).unwrap();
        let line = "[2026-11-26 12:00:01Z INFO X] Acknowledging runner request '1'.\n";
        for name in ["Runner_0.log", "Worker_1.log", "Runner_1.txt"] {
            std::fs::write(diag.join(name), line).unwrap();
        }
        watch.look(2_000).unwrap();
        assert_eq!(watch.log().work(2_000), Work::None);
        std::fs::write(diag.join("Runner_2.log"), line).unwrap();
        watch.look(3_000).unwrap();
        assert_eq!(watch.log().work(3_000), Work::Acknowledged { at: 3_000 });
    }
}
