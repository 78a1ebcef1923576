//! What is asked over the network, each in a thread of its own: no answer is waited for by who decides.

use crate::aws::{Aws, VitalSign};
use crate::console::{Changes, chain, say};
use crate::metadata::Identity;
use crate::secret::Secret;
use crate::watch::{Tail, diagnostic_logs};
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

/// Ships the listener's output and the runner's diagnostic logs to our own stream until the power goes off.
pub(crate) struct Shipping {
    flush: Sender<SyncSender<()>>,
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
        if when_shipped.recv_timeout(patience).is_err() {
            say("powers off before all runner logs were shipped");
        }
    }
}

fn ship(aws: &Aws, group: &str, output: PathBuf, diagnostics: &Path, flushes: &Receiver<SyncSender<()>>) {
    let mut changes = Changes::default();
    while let Err(error) = aws.create_log_stream(group) {
        changes.say(format!("there is no log stream: {}", chain(&error)));
        thread::sleep(RETRY);
    }
    let mut tails = BTreeMap::from([(output.clone(), Tail::new(output))]);
    let mut waiting = Vec::new();
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
        for tail in tails.values_mut() {
            // A file that cannot be read now is read next time.
            let (lines, _reached) = tail.lines().unwrap_or_else(|_| (Vec::new(), crate::watch::Reached::End));
            waiting.extend(lines.into_iter().filter(|line| !line.is_empty()));
        }
        while let Some(count) = Some(fits(&waiting)).filter(|count| *count > 0) {
            if let Err(error) = aws.put_log_events(group, &waiting[..count]) {
                changes.say(format!("runner logs were not shipped: {}", chain(&error)));
                break;
            }
            changes.forget();
            waiting.drain(..count);
        }
        // Logs that nobody takes must not fill the memory.
        waiting.truncate(EVENTS_MAX);
        if let Some(shipped) = flush {
            let _gone = shipped.send(());
        }
    }
}

/// How many of the lines go into one shipment.
fn fits(lines: &[String]) -> usize {
    let mut room = EVENTS_BYTES_MAX;
    lines
        .iter()
        .take(EVENTS_MAX)
        .take_while(|line| {
            let needed = line.len() + EVENT_BYTES;
            let fits = needed <= room;
            room = room.saturating_sub(needed);
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
}
