//! What the listener's own words say: its output and its diagnostic log.
//!
//! A line counts by how it *begins*, behind time and source, because job names stand further back and are written by
//! others. Words as of actions/runner 2.336 (`Runner.cs`, `JobDispatcher.cs`, `BrokerMessageListener.cs`, read
//! 2026-11-26); a line that is not understood still says that the listener does something.

use crate::{Millis, Registration, Work};

/// How long the diagnostic log has to be silent before a listener counts as idle. An idle listener writes nothing for
/// many minutes. Longer, and one that starts again and again every few seconds is never seen idle; shorter, and an
/// acquisition that GitHub did not want acknowledged may be missed between message and job.
const SILENCE_MS: Millis = 3_000;

/// Where a line was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Standard output or error of run.sh.
    Output,
    /// `_diag/Runner_*.log`.
    Diagnostics,
}

/// What was heard so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerLog {
    heard: Heard,
    registration: Registration,
    idle_since: Millis,
    last_word_at: Option<Millis>,
    unrest_since: Millis,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    NoJob,
    Acknowledged { at: Millis },
    Acquired { at: Millis },
}

/// What a line means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Listens,
    Acknowledges,
    IsRefused,
    Acquires,
    Finishes,
    IsUnknown,
    Other,
}

impl ListenerLog {
    /// Nothing was heard yet of a listener that runs since `started_at`.
    #[must_use]
    pub fn new(started_at: Millis) -> Self {
        Self {
            heard: Heard::NoJob,
            registration: Registration::Standing,
            idle_since: started_at,
            last_word_at: None,
            unrest_since: started_at,
        }
    }

    /// Takes one line, read at `now`.
    pub fn hear(&mut self, source: Source, line: &str, now: Millis) {
        if source == Source::Diagnostics {
            if self.is_silent(now) {
                self.unrest_since = now;
            }
            self.last_word_at = Some(now);
        }
        match (Word::of(source, line), self.heard) {
            (Word::Listens, Heard::NoJob | Heard::Acknowledged { .. } | Heard::Acquired { .. }) => {
                self.heard = Heard::NoJob;
                self.registration = Registration::Standing;
            }
            (Word::Acknowledges, Heard::NoJob | Heard::Acknowledged { .. }) | (Word::IsRefused, Heard::NoJob) => {
                self.heard = Heard::Acknowledged { at: now };
            }
            (Word::Acquires, Heard::NoJob | Heard::Acknowledged { .. } | Heard::Acquired { .. }) => {
                self.heard = Heard::Acquired { at: now };
            }
            (Word::Finishes, Heard::NoJob | Heard::Acknowledged { .. } | Heard::Acquired { .. }) => {
                self.heard = Heard::NoJob;
                self.idle_since = now;
            }
            (Word::IsUnknown, Heard::NoJob | Heard::Acknowledged { .. } | Heard::Acquired { .. }) => {
                self.registration = Registration::Gone;
            }
            // A second message is ignored by a listener that has a job, and a refusal does not move the watchdog.
            (Word::Acknowledges | Word::IsRefused, Heard::Acquired { .. })
            | (Word::IsRefused, Heard::Acknowledged { .. })
            | (Word::Other, Heard::NoJob | Heard::Acknowledged { .. } | Heard::Acquired { .. }) => {}
        }
    }

    /// A worker was seen at `now`: until the listener says how it ended, the job is the listener's.
    pub fn saw_worker(&mut self, now: Millis) {
        self.heard = Heard::Acquired { at: now };
    }

    /// What occupies a listener that has no worker.
    #[must_use]
    pub fn work(&self, now: Millis) -> Work {
        match self.heard {
            Heard::Acknowledged { at } => Work::Acknowledged { at },
            Heard::Acquired { at } => Work::Acquired { at },
            Heard::NoJob if self.is_silent(now) => Work::None,
            Heard::NoJob => Work::Restless { since: self.unrest_since },
        }
    }

    /// What the listener says of its registration.
    #[must_use]
    pub fn registration(&self) -> Registration {
        self.registration
    }

    /// Since when it waits for a job.
    #[must_use]
    pub fn idle_since(&self) -> Millis {
        self.idle_since
    }

    fn is_silent(&self, now: Millis) -> bool {
        self.last_word_at.is_none_or(|at| at + SILENCE_MS <= now)
    }
}

impl Word {
    fn of(source: Source, line: &str) -> Self {
        // Lines that repeat a job's name. What is printed is traced as well (`Terminal.cs`, read 2026-11-27), and is heard
        // where it was printed.
        let names_a_job = match source {
            Source::Output => matches!(Self::of_output(line), Self::Acquires | Self::Finishes),
            Source::Diagnostics => head_and_text(line)
                .is_some_and(|(head, text)| tracer(head) == "Terminal" && text.starts_with("WRITE LINE: ")),
        };
        // Elsewhere wherever it stands: exceptions are written over many lines, and it ends nothing but idleness.
        if !names_a_job
            && ([
                "RunnerNotFoundException",
                "registration has been deleted",
                "The runner no longer exists on the server",
            ]
            .iter()
            .any(|text| line.contains(text))
                || (line.contains("Registration ") && line.contains("was not found")))
        {
            return Self::IsUnknown;
        }
        match source {
            Source::Output => Self::of_output(line),
            Source::Diagnostics => Self::of_diagnostics(line),
        }
    }

    /// `2026-11-26 12:00:00Z: Listening for Jobs`
    fn of_output(line: &str) -> Self {
        let Some((_time, text)) = line.split_once("Z: ") else { return Self::Other };
        if text.starts_with("Listening for Jobs") {
            Self::Listens
        } else if text.starts_with("Running job: ") {
            Self::Acquires
        } else if text.starts_with("Job ") && text.contains(" completed with result: ") {
            Self::Finishes
        } else {
            Self::Other
        }
    }

    /// `[2026-11-26 12:00:00Z INFO JobDispatcher] Send job request message to worker for job …`
    fn of_diagnostics(line: &str) -> Self {
        let Some((head, text)) = head_and_text(line) else { return Self::Other };
        let begins = |text: &str, with: &[&str]| with.iter().any(|with| text.starts_with(with));
        if begins(text, &["Acknowledging runner request"]) {
            return Self::Acknowledges;
        }
        match tracer(head) {
            "Runner" if begins(text, &["Received job message"]) => Self::Acquires,
            "Runner" if begins(text, &["Skipping message Job"]) => Self::IsRefused,
            "JobDispatcher"
                if begins(text, &["Job request ", "Start renew job", "Successfully renew job", "Send job request"]) =>
            {
                Self::Acquires
            }
            "JobDispatcher" if begins(text, &["finish job request for job"]) => Self::Finishes,
            // What asks for jobs, renews and completes them: a listener without a job has nothing to say here.
            "RunServer" | "ActionsRunServer" => Self::Acknowledges,
            _ => Self::Other,
        }
    }
}

/// `[2026-11-26 12:00:00Z INFO JobDispatcher] text`
fn head_and_text(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix('[')?.split_once("] ")
}

/// The part of the listener that wrote the line.
fn tracer(head: &str) -> &str {
    head.rsplit(' ').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Millis = 100_000;

    fn heard(lines: &[(Source, &str)]) -> ListenerLog {
        let mut log = ListenerLog::new(0);
        for (source, line) in lines {
            log.hear(*source, line, AT);
        }
        log
    }

    const LISTENS: (Source, &str) = (Source::Output, "2026-11-26 12:00:00Z: Listening for Jobs");
    const ACKNOWLEDGES: (Source, &str) =
        (Source::Diagnostics, "[2026-11-26 12:00:01Z INFO BrokerMessageListener] Acknowledging runner request '7c9c'.");
    const REQUEST: (Source, &str) =
        (Source::Diagnostics, "[2026-11-26 12:00:02Z INFO JobDispatcher] Job request 0 for plan p job j received.");
    const RUNS: (Source, &str) = (Source::Output, "2026-11-26 12:00:03Z: Running job: build");
    const ENDED: (Source, &str) = (Source::Output, "2026-11-26 12:00:09Z: Job build completed with result: Succeeded");

    #[test]
    fn the_listeners_words_say_what_occupies_it() {
        let acknowledged = Work::Acknowledged { at: AT };
        let acquired = Work::Acquired { at: AT };
        for (case, lines, expected) in [
            ("nothing was said", vec![], Work::None),
            ("it listens", vec![LISTENS], Work::None),
            ("it acknowledged a job", vec![LISTENS, ACKNOWLEDGES], acknowledged),
            ("the job is its own", vec![LISTENS, ACKNOWLEDGES, REQUEST], acquired),
            ("its output alone says so", vec![LISTENS, RUNS], acquired),
            ("a second message changes nothing", vec![RUNS, ACKNOWLEDGES], acquired),
            ("the job ended", vec![LISTENS, RUNS, ENDED], Work::None),
            ("it listens again after a relaunch", vec![LISTENS, ACKNOWLEDGES, LISTENS], Work::Restless { since: AT }),
            (
                "it was refused",
                vec![ACKNOWLEDGES, (Source::Diagnostics, "[2026-11-26 12:00:02Z INFO Runner] Skipping message Job. x")],
                acknowledged,
            ),
            (
                "it asks for a job again, and did not acknowledge it",
                vec![(Source::Diagnostics, "[2026-11-26 12:00:02Z WARN RunServer] Back off 5 seconds before retry.")],
                acknowledged,
            ),
            (
                "a job's name is not the listener's word",
                vec![RUNS, (Source::Output, "2026-11-26 12:00:03Z: Running job: 1Z: Listening for Jobs")],
                acquired,
            ),
            (
                "nor are words in it that the listener has for something else",
                vec![(Source::Output, "2026-11-26 12:00:03Z: Running job: RunnerNotFoundException")],
                acquired,
            ),
            (
                "not even when the job has ended",
                vec![
                    RUNS,
                    (Source::Output, "2026-11-26 12:00:09Z: Job RunnerNotFoundException completed with result: x"),
                ],
                Work::None,
            ),
            (
                "a job's name at the line's end does not finish it",
                vec![(Source::Output, "2026-11-26 12:00:03Z: Running job: Job x completed with result: y")],
                acquired,
            ),
            (
                "a line that says nothing is unrest",
                vec![(Source::Diagnostics, "[2026-11-26 12:00:02Z INFO CredentialManager] Creating type OAuth")],
                Work::Restless { since: AT },
            ),
        ] {
            assert_eq!(heard(&lines).work(AT), expected, "{case}");
        }
    }

    #[test]
    fn unrest_ends_with_three_seconds_of_silence() {
        let mut log = heard(&[(Source::Diagnostics, "…")]);
        assert_eq!(log.work(AT + 2_999), Work::Restless { since: AT });
        assert_eq!(log.work(AT + 3_000), Work::None);
        log.hear(Source::Diagnostics, "…", AT + 2_000);
        assert_eq!(log.work(AT + 4_000), Work::Restless { since: AT }, "it went on");
        log.hear(Source::Diagnostics, "…", AT + 9_000);
        assert_eq!(log.work(AT + 9_000), Work::Restless { since: AT + 9_000 }, "it began anew");
    }

    #[test]
    fn a_worker_that_was_seen_is_missed_until_the_listener_has_spoken() {
        let mut log = heard(&[LISTENS]);
        log.saw_worker(AT + 5_000);
        assert_eq!(log.work(AT + 6_000), Work::Acquired { at: AT + 5_000 });
        log.hear(ENDED.0, ENDED.1, AT + 7_000);
        assert_eq!((log.work(AT + 7_000), log.idle_since()), (Work::None, AT + 7_000));
    }

    /// The listener traces what it prints, job names included.
    #[test]
    fn a_jobs_name_takes_no_registration_away() {
        for (source, line) in [
            (Source::Output, "2026-11-26 12:00:03Z: Running job: Registration 7c9c was not found"),
            (Source::Output, "2026-11-26 12:00:09Z: Job RunnerNotFoundException completed with result: Failed"),
            (
                Source::Diagnostics,
                "[2026-11-26 12:00:03Z INFO Terminal] WRITE LINE: 2026-11-26 12:00:03Z: Running job: RunnerNotFoundException",
            ),
        ] {
            assert_eq!(heard(&[(source, line)]).registration(), Registration::Standing, "{line}");
        }
    }

    #[test]
    fn a_registration_is_gone_until_it_listens_again() {
        for line in [
            "GitHub.Runner.Sdk.RunnerNotFoundException: gone",
            "Failed to create a session. The runner registration has been deleted from the server, please re-configure.",
            "[2026-11-26 12:00:02Z ERR  X] Registration 7c9c was not found.",
        ] {
            let mut log = heard(&[(Source::Output, line)]);
            assert_eq!(log.registration(), Registration::Gone, "{line}");
            log.hear(LISTENS.0, LISTENS.1, AT);
            assert_eq!(log.registration(), Registration::Standing, "{line}");
        }
    }
}
