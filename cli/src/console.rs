//! What the person sees: one line per event with the time since the start, and tables.

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Instant;

use crate::system;

/// Writes to standard output; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Console {
    started: Arc<Instant>,
}

impl Console {
    /// A console whose time starts now.
    pub(crate) fn start() -> Self {
        Self { started: Arc::new(system::now()) }
    }

    /// Seconds since the console was started.
    pub(crate) fn elapsed_seconds(&self) -> f64 {
        system::now().duration_since(*self.started).as_secs_f64()
    }

    /// One event: time since the start, what it is about, what happened.
    pub(crate) fn event(&self, subject: &str, text: impl Display) {
        let seconds = self.elapsed_seconds();
        self.line(format_args!("{seconds:7.2} s  {subject:<15} {text}"));
    }

    /// A plain line or a table.
    #[expect(clippy::unused_self, reason = "whoever writes must hold the console: nothing else prints")]
    pub(crate) fn line(&self, text: impl Display) {
        // A reader that went away (`| head`) is no reason to leave a run and its clean-up unfinished.
        let _closed = writeln!(io::stdout().lock(), "{text}");
    }
}
