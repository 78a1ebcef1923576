//! Where the supervisor speaks: one line on standard output, which systemd gives to the journal and the console.

use std::fmt::Display;
use std::io::Write as _;

/// Says something. A reader that is gone does not stop us.
pub fn say(line: impl Display) {
    let _unread = writeln!(std::io::stdout().lock(), "{line}");
}

/// What is said only when it changed: something that fails once a second would bury everything else.
#[derive(Debug, Default)]
pub struct Changes {
    last: Option<String>,
}

impl Changes {
    /// Says the line unless it was the last one.
    pub fn say(&mut self, line: impl Into<String>) {
        let line = line.into();
        if self.last.as_deref() != Some(&line) {
            say(&line);
            self.last = Some(line);
        }
    }

    /// Forgets the last line: the next one is said whatever it is.
    pub fn forget(&mut self) {
        self.last = None;
    }
}

/// An error with its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text.replace('\n', " ")
}
