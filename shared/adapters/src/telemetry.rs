//! Logs: one JSON object a line on the standard output, as `CloudWatch` Logs Insights queries them.
//!
//! Fields of the event and of the spans around it lie side by side, without nesting. Names that mean the same
//! everywhere: `timestamp`, `level`, `function`, `message`, `pass_id`, `delivery_id`, `job_id`, `runner_id`,
//! `runner_name`, `instance_id`, `owner`, `verdict`, `reason`, `class`, `error`, `…_ms`, `…_count`.

mod emf;

use std::fmt;

use runner_scaler_core::time::Clock;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;

use crate::clock::{SystemClock, process_env};

pub use emf::emit;

/// Our own crates, by the targets of their events: the only ones that may speak below `info`. All others log whole
/// requests and answers there, with the secrets that SSM hands out and the deliveries that Lambda hands over.
const OURS: [&str; 7] = [
    "runner_scaler_core",
    "runner_scaler_adapters",
    "webhook",
    "scale_up",
    "scale_down",
    "orphan_sweeper",
    "demand_reconciler",
];

/// Starts the logs of that function; the filter is `LOG`, default `info`. A second call changes nothing.
pub fn init(function: &'static str) {
    let asked = process_env("LOG").filter(|text| !text.is_empty());
    let (subscriber, refused) = subscriber(function, asked.as_deref().unwrap_or("info"), std::io::stdout);
    if tracing::subscriber::set_global_default(subscriber).is_ok()
        && let Some(refused) = refused
    {
        tracing::warn!(error = %refused, "LOG is no filter; logging at info");
    }
}

/// What passes the filter asked for and also [`may_be_told`], and why that filter was refused, if it was.
fn subscriber<W>(function: &'static str, filter: &str, writer: W) -> (impl Subscriber + use<W>, Option<String>)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, refused) = match EnvFilter::try_new(filter) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error.to_string())),
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(writer)
        .fmt_fields(JsonFields::new())
        .event_format(Lines { function })
        .finish();
    (lines.with(filter_fn(may_be_told)), refused)
}

/// Whether an event or span may be written whatever `LOG` says. No directive takes part in this: among directives the
/// finest one wins, so that one in `LOG` would always beat a cap of ours.
fn may_be_told(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::INFO || is_ours(metadata.target())
}

fn is_ours(target: &str) -> bool {
    let of_crate = |name| target.strip_prefix(name).is_some_and(|rest: &str| rest.is_empty() || rest.starts_with("::"));
    OURS.into_iter().any(of_crate)
}

/// One line an event.
struct Lines {
    function: &'static str,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        // From the outermost span inwards, the event last: the nearer one's word counts.
        for span in context.event_scope().into_iter().flat_map(tracing_subscriber::registry::Scope::from_root) {
            let extensions = span.extensions();
            let formatted = extensions.get::<FormattedFields<N>>().map_or("", |formatted| formatted.fields.as_str());
            if let Ok(Value::Object(of_span)) = serde_json::from_str(formatted) {
                fields.0.extend(of_span);
            }
        }
        event.record(&mut fields);
        let Fields(mut line) = fields;
        for (name, value) in [
            ("timestamp", SystemClock.now().to_string()),
            ("level", event.metadata().level().to_string()),
            ("function", self.function.to_owned()),
            ("target", event.metadata().target().to_owned()),
        ] {
            line.insert(name.to_owned(), Value::String(value));
        }
        writeln!(writer, "{}", Value::Object(line))
    }
}

#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn set(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.set(field, crate::aws::chain(value));
    }
}

#[cfg(test)]
mod tests;
