//! What is asked over the network, each in a thread of its own: no answer is waited for by who decides.

use crate::aws::{Aws, VitalSign};
use crate::console::{Changes, chain, say};
use crate::metadata::Identity;
use crate::secret::Secret;
use crate::watch::{Reached, Tail, diagnostic_logs};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel};
use std::thread;
use std::time::Duration;

/// What the decider learns.
#[derive(Debug)]
pub(crate) enum News {
    /// Who we are.
    Identity(Identity),
    /// Our JIT configuration.
    Configuration(Secret),
    /// The value of our drain tag; `None` when there is none.
    DrainTag(Option<String>),
}

/// Between two attempts at the configuration: at first it may come at any moment, later a thousand instances that wait
/// for theirs must not use up the account's reads of parameters (40 a second).
const FETCH_FIRST: Duration = Duration::from_millis(250);
const FETCH_LAST: Duration = Duration::from_secs(10);

/// Between two attempts at anything else.
const RETRY: Duration = Duration::from_secs(2);

/// Learns who we are, and then fetches our configuration until it is there.
pub(crate) fn fetch(aws: Arc<Aws>, news: Sender<News>) {
    thread::spawn(move || {
        let (mut changes, mut pause, mut introduced) = (Changes::default(), FETCH_FIRST, false);
        loop {
            let fetched = aws.metadata.identity().map_err(Into::into).and_then(|identity| {
                if !introduced {
                    introduced = news.send(News::Identity(identity)).is_ok();
                }
                aws.configuration()
            });
            match fetched {
                Ok(Some(configuration)) => {
                    // Nobody listens any more when the power goes off.
                    let _unheard = news.send(News::Configuration(configuration));
                    return;
                }
                Ok(None) => changes.say("the configuration is not there yet"),
                Err(error) => changes.say(format!("the configuration could not be read: {}", chain(&error))),
            }
            thread::sleep(pause);
            pause = (pause * 3 / 2).min(FETCH_LAST);
        }
    });
}

/// Deletes our configuration, however long that takes.
pub(crate) fn delete(aws: Arc<Aws>) {
    thread::spawn(move || {
        let mut changes = Changes::default();
        while let Err(error) = aws.delete_configuration() {
            changes.say(format!("the configuration could not be deleted: {}", chain(&error)));
            thread::sleep(RETRY);
        }
        say("the configuration is deleted");
    });
}

/// Looks at our drain tag for ever.
pub(crate) fn look_at_tag(aws: Arc<Aws>, every: Duration, news: Sender<News>) {
    thread::spawn(move || {
        let mut changes = Changes::default();
        loop {
            match aws.metadata.drain_tag() {
                Ok(value) => {
                    changes.forget();
                    if news.send(News::DrainTag(value)).is_err() {
                        return;
                    }
                }
                // An instance whose metadata is silent keeps its job and ends with it.
                Err(error) => changes.say(format!("the drain tag could not be read: {}", chain(&error))),
            }
            thread::sleep(every);
        }
    });
}

/// Writes vital signs: the newest, at once and then at each beat. One after the other, since an older one must never
/// overwrite a newer one. A failed one changes nothing.
pub(crate) struct Signs {
    signs: Sender<(VitalSign, Option<SyncSender<()>>)>,
}

impl Signs {
    pub(crate) fn start(aws: Arc<Aws>, beat: Duration) -> Self {
        let (signs, to_write) = channel();
        thread::spawn(move || write_signs(&aws, beat, &to_write));
        Self { signs }
    }

    pub(crate) fn write(&self, sign: VitalSign) {
        // The thread lives as long as we do.
        let _unwritten = self.signs.send((sign, None));
    }

    /// Writes the last one and waits for it, though not for long: the power goes off with it or without.
    pub(crate) fn write_last(&self, sign: VitalSign, patience: Duration) {
        let (written, when_written) = std::sync::mpsc::sync_channel(1);
        let _unwritten = self.signs.send((sign, Some(written)));
        if when_written.recv_timeout(patience).is_err() {
            say("powers off without a last vital sign");
        }
    }
}

fn write_signs(aws: &Aws, beat: Duration, signs: &Receiver<(VitalSign, Option<SyncSender<()>>)>) {
    let mut changes = Changes::default();
    let Ok((mut sign, mut written)) = signs.recv() else { return };
    loop {
        // While one was written others may have come: only the newest says how it is.
        for (newer, last) in signs.try_iter() {
            sign = newer;
            written = last.or(written);
        }
        match aws.write_vital_sign(sign) {
            Ok(()) => changes.forget(),
            Err(error) => changes.say(format!("a vital sign was not written: {}", chain(&error))),
        }
        if let Some(written) = written.take() {
            let _gone = written.send(());
        }
        match signs.recv_timeout(beat) {
            Ok((newer, last)) => (sign, written) = (newer, last),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Between two shipments of runner logs.
const SHIP_EVERY: Duration = Duration::from_secs(5);

/// What one shipment may hold (`PutLogEvents`, CloudWatch Logs API reference, read 2026-11-26: 10,000 events and
/// 1,048,576 bytes, 26 of them for each event).
const EVENTS_MAX: usize = 10_000;
const EVENTS_BYTES_MAX: usize = 1_048_576;
const EVENT_BYTES: usize = 26;

/// Lines that nobody took yet are kept up to here, and one read's more; what comes later stays in its file until they
/// are taken. More would take memory from the job; less would make more calls of what is written in one burst.
const WAITING_BYTES_MAX: usize = EVENTS_BYTES_MAX;

/// How much is read of one file at once: short lines take many times as much memory. And how often in a row, so that one
/// file that is written faster than it is shipped leaves time for the others.
const READ_BYTES: u64 = 512 * 1024;
const READS_MAX: usize = 8;

/// Ships the listener's output and the runner's diagnostic logs to our own stream until the power goes off.
pub(crate) struct Shipping {
    flush: Sender<SyncSender<Left>>,
}

/// What is left after a shipment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Left {
    /// Lines that were read.
    lines: usize,
    /// Whether files were read to their end.
    read: Reached,
}

impl Shipping {
    pub(crate) fn start(aws: Arc<Aws>, group: String, output: PathBuf, diagnostics: PathBuf) -> Self {
        let (flush, flushes) = channel();
        thread::spawn(move || ship(&aws, &group, output, &diagnostics, &flushes));
        Self { flush }
    }

    /// Ships what is left, though not for long.
    pub(crate) fn finish(&self, patience: Duration) {
        let (shipped, when_shipped) = std::sync::mpsc::sync_channel(1);
        let _unshipped = self.flush.send(shipped);
        match when_shipped.recv_timeout(patience) {
            Ok(Left { lines: 0, read: Reached::End }) => {}
            Ok(Left { lines, read }) => {
                let unread = if read == Reached::More { " and what was not read any more" } else { "" };
                say(format!("powers off with runner logs that were not shipped: {lines} lines{unread}"));
            }
            Err(_) => say("powers off before all runner logs were shipped"),
        }
    }
}

fn ship(aws: &Aws, group: &str, output: PathBuf, diagnostics: &Path, flushes: &Receiver<SyncSender<Left>>) {
    let mut changes = Changes::default();
    while let Err(error) = aws.create_log_stream(group) {
        changes.say(format!("there is no log stream: {}", chain(&error)));
        thread::sleep(RETRY);
    }
    let mut tails = BTreeMap::from([(output.clone(), Tail::new(output))]);
    let mut waiting = Waiting::default();
    loop {
        let flush = match flushes.recv_timeout(SHIP_EVERY) {
            Ok(shipped) => Some(shipped),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        for name in diagnostic_logs(diagnostics, &["Runner_", "Worker_"]).unwrap_or_default() {
            let path = diagnostics.join(name);
            tails.entry(path.clone()).or_insert_with(|| Tail::new(path));
        }
        let (read, shipped) = waiting.pass_on(tails.values_mut(), |lines| aws.put_log_events(group, lines));
        match shipped {
            Ok(()) => changes.forget(),
            Err(error) => changes.say(format!("runner logs were not shipped: {}", chain(&error))),
        }
        if let Some(flush) = flush {
            let _gone = flush.send(Left { lines: waiting.lines.len(), read });
        }
    }
}

/// Lines that were read and that nobody took yet.
#[derive(Default)]
struct Waiting {
    lines: Vec<String>,
    bytes: usize,
}

impl Waiting {
    /// Reads every file, as far as there is room, and ships what was read. After an error nothing more is tried: what does
    /// not fit stays in its file. Says whether all was read.
    fn pass_on<'a, E>(
        &mut self,
        tails: impl Iterator<Item = &'a mut Tail>,
        mut put: impl FnMut(&[String]) -> Result<(), E>,
    ) -> (Reached, Result<(), E>) {
        let mut read = Reached::End;
        for tail in tails {
            match self.read(tail, &mut put) {
                Ok(Reached::End) => {}
                Ok(Reached::More) => read = Reached::More,
                Err(error) => return (Reached::More, Err(error)),
            }
        }
        (read, self.ship(&mut put))
    }

    fn read<E>(&mut self, tail: &mut Tail, put: &mut impl FnMut(&[String]) -> Result<(), E>) -> Result<Reached, E> {
        for _ in 0..READS_MAX {
            if WAITING_BYTES_MAX <= self.bytes {
                self.ship(put)?;
            }
            // A file that cannot be read now is read next time.
            let (mut lines, reached) = tail.lines_within(READ_BYTES).unwrap_or_default();
            lines.retain(|line| !line.is_empty());
            self.bytes += lines.iter().map(|line| needed(line)).sum::<usize>();
            self.lines.extend(lines);
            if reached == Reached::End {
                return Ok(Reached::End);
            }
        }
        Ok(Reached::More)
    }

    fn ship<E>(&mut self, put: &mut impl FnMut(&[String]) -> Result<(), E>) -> Result<(), E> {
        while let Some(count) = Some(fits(&self.lines)).filter(|count| *count > 0) {
            put(&self.lines[..count])?;
            self.bytes -= self.lines.drain(..count).map(|line| needed(&line)).sum::<usize>();
        }
        Ok(())
    }
}

/// What CloudWatch counts of a line.
fn needed(line: &str) -> usize {
    line.len() + EVENT_BYTES
}

/// How many of the lines go into one shipment.
fn fits(lines: &[String]) -> usize {
    let mut room = EVENTS_BYTES_MAX;
    lines
        .iter()
        .take(EVENTS_MAX)
        .take_while(|line| {
            let fits = needed(line) <= room;
            room = room.saturating_sub(needed(line));
            fits
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shipment_keeps_cloudwatchs_limits() {
        let lines = |count: usize, bytes: usize| vec!["x".repeat(bytes); count];
        for (case, lines, expected) in [
            ("nothing", lines(0, 0), 0),
            ("a few", lines(3, 100), 3),
            ("more than 10,000", lines(10_001, 1), 10_000),
            ("more than 1 MiB", lines(20, 65_536), 15),
        ] {
            assert_eq!(fits(&lines), expected, "{case}");
        }
    }
    #[test]
    fn what_nobody_takes_stays_in_its_file_and_none_of_it_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["a", "b"];
        // 12 MB in lines of 64 KiB, and 3 MB in short ones.
        for (name, count, bytes) in [("a", 190, 64 * 1024 - 10), ("b", 30_000, 90)] {
            let line = |number| format!("{name}{number:07}{}\n", "x".repeat(bytes));
            std::fs::write(folder.path().join(name), (0..count).map(line).collect::<Vec<_>>().concat()).unwrap();
        }
        let mut tails = names.map(|name| Tail::new(folder.path().join(name)));
        let (mut waiting, mut most) = (Waiting::default(), 0);
        for _ in 0..5 {
            let (read, shipped) = waiting.pass_on(tails.iter_mut(), |_| Err("nobody is there"));
            assert_eq!((read, shipped), (Reached::More, Err("nobody is there")));
            most = most.max(waiting.lines.iter().map(|line| needed(line)).sum());
            assert_eq!(waiting.bytes, waiting.lines.iter().map(|line| needed(line)).sum::<usize>());
        }
        assert!(most <= WAITING_BYTES_MAX + 1024 * 1024, "{most} bytes");
        let (mut taken, mut rounds) = (Vec::new(), 0);
        loop {
            let put = |lines: &[String]| -> Result<(), &str> {
                taken.extend(lines.iter().map(|line| line[..8].to_owned()));
                Ok(())
            };
            let (read, shipped) = waiting.pass_on(tails.iter_mut(), put);
            assert_eq!(shipped, Ok(()));
            rounds += 1;
            if read == Reached::End {
                break;
            }
        }
        assert!(waiting.lines.is_empty() && waiting.bytes == 0 && rounds < 10, "{rounds} rounds");
        for (name, count) in [("a", 190), ("b", 30_000)] {
            let expected: Vec<_> = (0..count).map(|line| format!("{name}{line:07}")).collect();
            let of_it: Vec<_> = taken.iter().filter(|line| line.starts_with(name)).cloned().collect();
            assert_eq!(of_it, expected, "{name}");
        }
    }
}
