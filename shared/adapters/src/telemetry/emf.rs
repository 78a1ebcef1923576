//! Metrics as lines of the log: `CloudWatch` embedded metric format, which `CloudWatch` Logs turns into metrics.
//!
//! No call and no permission is needed, and a metric is written where the log of its pass is. The format: `CloudWatch`
//! documentation, "Specification: Embedded metric format", read 2026-11-20.

use std::collections::BTreeMap;
use std::io::{self, Write};

use runner_scaler_core::ids::Deployment;
use runner_scaler_core::metrics::Metric;
use runner_scaler_core::time::{Clock, Timestamp};
use serde_json::{Map, Value, json};

use crate::clock::SystemClock;

/// Namespace of all our metrics.
const NAMESPACE: &str = "runner-scaler";

/// Metrics of one line, the most that the format takes.
const METRICS_MAX: usize = 100;

/// A dimension that every metric has: two deployments may share an account.
const ENVIRONMENT: &str = "environment";

/// The other one.
const FUNCTION: &str = "function";

/// Dimensions of metrics that go into one line, by name.
type Dimensions<'a> = BTreeMap<&'a str, &'a str>;

/// Writes metrics to the standard output, each with the dimensions `environment` (the deployment) and `function` besides
/// its own.
///
/// Numbers that a pass could not write are lost and do not fail it.
pub fn emit(deployment: &Deployment, function: &str, metrics: &[Metric]) {
    let mut text = String::new();
    for line in lines(deployment, function, metrics, SystemClock.now()) {
        text.push_str(&line.to_string());
        text.push('\n');
    }
    // In one piece: the log writes to the same output.
    if let Err(error) = io::stdout().lock().write_all(text.as_bytes()) {
        tracing::warn!(error = %error, "metrics were not written");
    }
}

/// One object a line: the metrics with the same dimensions, each name once.
fn lines(deployment: &Deployment, function: &str, metrics: &[Metric], now: Timestamp) -> Vec<Value> {
    let mut groups: BTreeMap<Dimensions<'_>, Vec<Line<'_>>> = BTreeMap::new();
    for metric in metrics {
        let mut dimensions = Dimensions::from([(ENVIRONMENT, deployment.as_str()), (FUNCTION, function)]);
        dimensions.extend(metric.dimensions.iter().map(|(name, value)| (*name, value.as_str())));
        let lines = groups.entry(dimensions).or_default();
        // A line names a metric once: its value is a member of that name.
        match lines.iter_mut().find(|line| line.len() < METRICS_MAX && !line.contains_key(metric.name)) {
            Some(line) => {
                line.insert(metric.name, metric);
            }
            None => lines.push(Line::from([(metric.name, metric)])),
        }
    }
    let line = |(dimensions, line): (&Dimensions<'_>, &Line<'_>)| line_of(dimensions, line, now);
    groups.iter().flat_map(|(dimensions, lines)| lines.iter().map(move |line| (dimensions, line))).map(line).collect()
}

/// Metrics of one line by name.
type Line<'a> = BTreeMap<&'a str, &'a Metric>;

fn line_of(dimensions: &Dimensions<'_>, line: &Line<'_>, now: Timestamp) -> Value {
    let names: Vec<&str> = dimensions.keys().copied().collect();
    let definitions: Vec<Value> =
        line.values().map(|metric| json!({ "Name": metric.name, "Unit": metric.unit })).collect();
    let directive = json!({ "Namespace": NAMESPACE, "Dimensions": [names], "Metrics": definitions });
    let mut members = Map::new();
    members.insert("_aws".to_owned(), json!({ "Timestamp": now.0, "CloudWatchMetrics": [directive] }));
    members.extend(dimensions.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))));
    members.extend(line.values().map(|metric| (metric.name.to_owned(), Value::from(metric.value))));
    Value::Object(members)
}

#[cfg(test)]
mod tests {
    use runner_scaler_core::metrics::Unit;

    use super::*;

    const NOW: Timestamp = Timestamp(1_795_235_128_312);

    fn deployment() -> Deployment {
        Deployment::new("prod")
    }

    fn metric(name: &'static str, value: u64, dimensions: &[(&'static str, &str)]) -> Metric {
        let dimensions = dimensions.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Metric { name, unit: Unit::Count, value, dimensions }
    }

    /// What the specification asks of a line; returns its metrics' names and values.
    fn checked(line: &Value) -> Vec<(String, u64)> {
        let root = line.as_object().expect("an object");
        let metadata = root["_aws"].as_object().expect("metadata");
        assert_eq!(metadata.keys().collect::<Vec<_>>(), ["CloudWatchMetrics", "Timestamp"], "and nothing else");
        assert!(metadata["Timestamp"].is_u64(), "milliseconds since the epoch");
        let [directive] = metadata["CloudWatchMetrics"].as_array().expect("directives").as_slice() else {
            panic!("one directive: {line}")
        };
        let namespace = directive["Namespace"].as_str().expect("a text");
        assert!((1..=1_024).contains(&namespace.len()));
        let [set] = directive["Dimensions"].as_array().expect("sets").as_slice() else { panic!("one set: {line}") };
        let set = set.as_array().expect("names");
        assert!(set.len() <= 30, "{} dimensions", set.len());
        for name in set {
            let value = root[name.as_str().expect("a text")].as_str().expect("a dimension's value is a text");
            assert!((1..=1_024).contains(&value.len()), "{name}: {value:?}");
        }
        let metrics = directive["Metrics"].as_array().expect("definitions");
        assert!(metrics.len() <= 100, "{} metrics", metrics.len());
        assert_eq!(root.len(), 1 + set.len() + metrics.len(), "every member is a dimension or a metric: {line}");
        metrics
            .iter()
            .map(|definition| {
                let name = definition["Name"].as_str().expect("a text").to_owned();
                assert!(["Count", "Seconds", "Milliseconds"].contains(&definition["Unit"].as_str().expect("a unit")));
                let value = root[&name].as_u64().expect("a metric's value is a number");
                (name, value)
            })
            .collect()
    }

    #[test]
    fn a_line_is_what_the_specification_describes() {
        let waited = Metric { unit: Unit::Seconds, ..metric("OldestJobWaited", 40, &[("fleet", "linux")]) };
        let lines =
            lines(&deployment(), "scale-down", &[metric("InstancesTerminated", 3, &[("fleet", "linux")]), waited], NOW);
        let expected = json!({
            "_aws": {
                "Timestamp": 1_795_235_128_312_i64,
                "CloudWatchMetrics": [{
                    "Namespace": "runner-scaler",
                    "Dimensions": [["environment", "fleet", "function"]],
                    "Metrics": [
                        { "Name": "InstancesTerminated", "Unit": "Count" },
                        { "Name": "OldestJobWaited", "Unit": "Seconds" },
                    ],
                }],
            },
            "environment": "prod",
            "function": "scale-down",
            "fleet": "linux",
            "InstancesTerminated": 3,
            "OldestJobWaited": 40,
        });
        assert_eq!(lines, [expected]);
    }

    #[test]
    fn metrics_share_a_line_only_where_their_dimensions_are_the_same() {
        let linux = [("fleet", "linux")];
        let reason = [("fleet", "linux"), ("reason", "busy")];
        let reversed = [("reason", "busy"), ("fleet", "linux")];
        let metrics = [
            metric("Passes", 1, &[]),
            metric("Launched", 2, &linux),
            metric("Launched", 3, &[("fleet", "windows")]),
            metric("Kept", 4, &reason),
            metric("Seen", 5, &reversed),
            metric("Drained", 6, &linux),
            metric("Drained", 7, &linux),
        ];
        let lines = lines(&deployment(), "scale-down", &metrics, NOW);
        let mut told: Vec<Vec<(String, u64)>> = lines.iter().map(checked).collect();
        told.sort();
        let line = |members: &[(&str, u64)]| members.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        let expected: [Vec<(String, u64)>; 5] = [
            line(&[("Drained", 6), ("Launched", 2)]),
            line(&[("Drained", 7)]),
            line(&[("Kept", 4), ("Seen", 5)]),
            line(&[("Launched", 3)]),
            line(&[("Passes", 1)]),
        ];
        assert_eq!(told, expected, "a name that comes twice has two lines");
    }

    #[test]
    fn a_line_holds_a_hundred_metrics_at_most_and_nothing_makes_no_line() {
        assert_eq!(lines(&deployment(), "scale-down", &[], NOW), [Value::Null; 0]);
        let names: Vec<&'static str> = (0..250).map(|n| &*format!("Metric{n}").leak()).collect();
        let metrics: Vec<Metric> = names.iter().map(|name| metric(name, 1, &[])).collect();
        let sizes: Vec<usize> =
            lines(&deployment(), "scale-down", &metrics, NOW).iter().map(|line| checked(line).len()).collect();
        assert_eq!(sizes, [100, 100, 50]);
    }
}
