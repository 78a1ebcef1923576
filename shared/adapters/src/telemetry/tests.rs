//! What is written, and what never is.

use std::io;
use std::sync::{Arc, Mutex};

use tracing::{debug, error, info, info_span, trace, trace_span};

use runner_scaler_core::ids::InstanceId;
use runner_scaler_core::ports::{JitConfig, Parameters};

use super::*;
use crate::wire::{Reply, Wire};

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

impl Sink {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no panic").clone()).expect("UTF-8")
    }
}

fn subscriber_into(sink: &Sink, filter: &str) -> impl Subscriber + use<> {
    let writer = sink.clone();
    subscriber("scale-down", filter, move || writer.clone()).0
}

fn lines_of(filter: &str, events: impl FnOnce()) -> Vec<Value> {
    let sink = Sink::default();
    tracing::subscriber::with_default(subscriber_into(&sink, filter), events);
    sink.text().lines().map(|line| serde_json::from_str(line).expect("one JSON object a line")).collect()
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

/// What a person may write into `LOG`; the finer ones each beat a directive of a crate.
const LOUD: [&str; 8] = [
    "trace",
    "trace,aws_smithy_runtime=trace",
    "aws_smithy_runtime::client=trace",
    "info,aws_smithy_runtime::client::orchestrator=trace,aws_sdk_ssm::operation=trace,hyper_util=trace",
    "[invoke]=trace",
    "info,[try_attempt]=trace,aws_smithy_runtime[invoke]=trace",
    "lambda_runtime::layers::api_response=trace",
    "[Lambda runtime invoke]=trace,lambda_runtime=trace",
];

#[test]
fn what_other_crates_say_below_info_cannot_be_switched_on() {
    for filter in LOUD {
        let lines = lines_of(filter, || {
            let _invoke = info_span!(target: "aws_smithy_runtime::client::orchestrator", "invoke").entered();
            let _attempt = trace_span!(target: "aws_smithy_runtime", "try_attempt", request = "a secret").entered();
            trace!(target: "aws_smithy_runtime::client", "request with a secret");
            debug!(target: "aws_sdk_ssm::operation", "answer with a secret");
            trace!(target: "lambda_runtime::layers::api_response", body = "a secret", "raw JSON event");
            debug!(target: "webhooks", "another crate whose name begins as one of ours does");
            trace!(target: "", "nobody's");
        });
        assert_eq!(lines, Vec::<Value>::new(), "{filter}");
    }
}

#[test]
fn what_other_crates_say_from_info_on_and_our_own_words_are_still_told() {
    let lines = lines_of("trace", || {
        error!(target: "aws_smithy_runtime::client", "a fault");
        info!(target: "lambda_runtime", "a word");
        let _pass = trace_span!(target: "scale_down", "pass", pass_id = "p1").entered();
        for name in OURS {
            trace!(target: "runner_scaler_core::removal", of = name, "ours");
        }
        debug!("of this crate");
    });
    let messages: Vec<_> = lines.iter().filter_map(|line| line["message"].as_str()).collect();
    assert_eq!(messages, [&["a fault", "a word"][..], &["ours"; OURS.len()], &["of this crate"]].concat());
    assert!(lines.iter().skip(2).all(|line| line["pass_id"] == "p1"), "our spans as well: {lines:?}");
}

#[test]
fn a_target_is_ours_by_the_whole_name_of_its_crate() {
    for (target, expected) in [
        ("runner_scaler_core", true),
        ("runner_scaler_core::webhook::handle", true),
        ("runner_scaler_adapters::startup", true),
        ("webhook", true),
        ("scale_up::batch", true),
        ("scale_down", true),
        ("orphan_sweeper", true),
        ("demand_reconciler", true),
        ("webhooks", false),
        ("scale_up_client::wire", false),
        ("runner_scaler_core:", false),
        ("lambda_runtime", false),
        ("", false),
    ] {
        assert_eq!(is_ours(target), expected, "{target:?}");
    }
}

/// The real SDK reads and writes a secret while each of these is asked for.
#[tokio::test]
async fn a_secret_that_the_sdk_carries_is_in_no_line() {
    let secret = "hunter2 and some more bytes";
    let answer = Reply::new(200, serde_json::json!({ "Parameter": { "Value": secret } }));
    for filter in LOUD {
        let wire = Wire::start({
            let answer = answer.clone();
            move |_| Some(answer.clone())
        })
        .await;
        let sink = Sink::default();
        let guard = tracing::subscriber::set_default(subscriber_into(&sink, filter));
        let adapters = wire.adapters();
        adapters.webhook_secrets().await.expect("a secret");
        adapters.put_jit_config(&InstanceId::new("i-1"), &JitConfig::new(secret.to_owned())).await.expect("put");
        error!("the last line");
        drop(guard);
        assert!(!sink.text().contains("hunter2"), "{filter}: {}", sink.text());
    }
}

#[test]
fn a_filter_that_is_none_is_told_and_info_taken() {
    let sink = Sink::default();
    let writer = sink.clone();
    let (subscriber, refused) = subscriber("scale-down", "scale_down=loud", move || writer.clone());
    assert!(refused.is_some());
    tracing::subscriber::with_default(subscriber, || {
        debug!("not at this level");
        info!("told");
    });
    assert_eq!(sink.text().lines().count(), 1, "{}", sink.text());
}
