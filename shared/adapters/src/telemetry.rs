//! Logs: one JSON object a line on the standard output, as `CloudWatch` Logs Insights queries them.
//!
//! Fields of the event and of the spans around it lie side by side, without nesting. Names that mean the same
//! everywhere: `timestamp`, `level`, `function`, `message`, `pass_id`, `delivery_id`, `job_id`, `runner_id`,
//! `runner_name`, `instance_id`, `owner`, `verdict`, `reason`, `class`, `error`, `…_ms`, `…_count`.

use std::fmt;

use runner_scaler_core::time::Clock;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::clock::{SystemClock, process_env};

/// What no filter can switch on: at `debug` and below the SDK and its HTTP client log whole requests and answers, with
/// the secrets that SSM hands out.
const SILENCED: [&str; 8] = [
    "aws_config=info",
    "aws_runtime=info",
    "aws_sdk_dynamodb=info",
    "aws_sdk_ssm=info",
    "aws_smithy_http_client=info",
    "aws_smithy_runtime=info",
    "aws_smithy_runtime_api=info",
    "hyper_util=info",
];

/// Starts the logs of that function; the filter is `LOG`, default `info`. A second call changes nothing.
pub fn init(function: &'static str) {
    let asked = process_env("LOG").filter(|text| !text.is_empty());
    let (filter, refused) = filter_of(asked.as_deref().unwrap_or("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .fmt_fields(JsonFields::new())
        .event_format(Lines { function })
        .finish();
    if tracing::subscriber::set_global_default(subscriber).is_ok()
        && let Some(refused) = refused
    {
        tracing::warn!(error = %refused, "LOG is no filter; logging at info");
    }
}

fn filter_of(text: &str) -> (EnvFilter, Option<String>) {
    let (filter, refused) = match EnvFilter::try_new(text) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error.to_string())),
    };
    let silenced = SILENCED.iter().filter_map(|directive| directive.parse().ok());
    (silenced.fold(filter, EnvFilter::add_directive), refused)
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
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing::{debug, error, info, info_span};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines_of(filter: &str, events: impl FnOnce()) -> Vec<Value> {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter_of(filter).0)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .fmt_fields(JsonFields::new())
            .event_format(Lines { function: "scale-down" })
            .finish();
        tracing::subscriber::with_default(subscriber, events);
        let bytes = sink.0.lock().expect("no panic").clone();
        let text = String::from_utf8(bytes).expect("UTF-8");
        text.lines().map(|line| serde_json::from_str(line).expect("one JSON object a line")).collect()
    }

    #[test]
    fn fields_of_event_and_spans_lie_side_by_side() {
        let lines = lines_of("info", || {
            let _pass = info_span!("pass", pass_id = "p1", instance_id = "outer").entered();
            info!(instance_id = %"i-1", idle_ms = 5_u64, reason = ?Some("Busy"), "kept i-1: \"Busy\"\nfor now");
            debug!("not at this level");
        });
        let [line] = lines.as_slice() else { panic!("one line: {lines:?}") };
        for (name, expected) in [
            ("function", Value::from("scale-down")),
            ("level", "INFO".into()),
            ("message", "kept i-1: \"Busy\"\nfor now".into()),
            ("pass_id", "p1".into()),
            ("instance_id", "i-1".into()),
            ("idle_ms", 5.into()),
            ("reason", "Some(\"Busy\")".into()),
        ] {
            assert_eq!(line.get(name), Some(&expected), "{name}");
        }
        assert!(line["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
    }

    #[test]
    fn the_sdks_talk_of_requests_cannot_be_switched_on() {
        let lines = lines_of("trace,aws_smithy_runtime=trace", || {
            tracing::trace!(target: "aws_smithy_runtime::client", "request with a secret");
            tracing::debug!(target: "aws_sdk_ssm::operation", "answer with a secret");
            error!(target: "aws_smithy_runtime::client", "a fault");
        });
        let messages: Vec<_> = lines.iter().filter_map(|line| line["message"].as_str()).collect();
        assert_eq!(messages, ["a fault"]);
    }

    #[test]
    fn a_filter_that_is_none_is_told_and_info_taken() {
        let (filter, refused) = filter_of("scale_down=loud");
        assert!(refused.is_some());
        assert!(filter.to_string().contains("info"), "{filter}");
    }
}
