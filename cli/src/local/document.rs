//! What the functions of the local stack are told: their environment and the configuration document.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::local::emulator::{ACCOUNT, REGION};

/// The deployment's name.
pub(crate) const DEPLOYMENT: &str = "local";
/// SSM name of the configuration document.
pub(crate) const CONFIG_PARAMETER: &str = "/runner-scaler/local/config";
/// SSM path of the GitHub App's secrets.
pub(crate) const GITHUB_APP_PATH: &str = "/runner-scaler/local/app";
/// SSM path of the JIT configurations.
pub(crate) const RUNNER_PARAMETER_PATH: &str = "/runner-scaler/local/runners";
/// SSM name of the kill switch.
pub(crate) const KILL_SWITCH_PARAMETER: &str = "/runner-scaler/local/kill-switch";
/// The ledger.
pub(crate) const LEDGER_TABLE: &str = "runner-scaler-local-ledger";
/// The vital signs.
pub(crate) const VITAL_SIGNS_TABLE: &str = "runner-scaler-local-vital-signs";
/// The queue of jobs.
pub(crate) const QUEUE: &str = "scale-up";
/// Where messages go that failed too often.
pub(crate) const DEAD_LETTERS: &str = "scale-up-dead-letters";
/// The launch template of every fleet; the world's EC2 sets it as the instances' template.
pub(crate) const LAUNCH_TEMPLATE: &str = "lt-0a1b2c3d4e5f60718";

/// Between a DELETE and the re-check.
pub(crate) const QUARANTINE_SECONDS: u32 = 8;
/// How long a runner's registration must be gone before its instance counts as an orphan.
pub(crate) const GONE_GRACE_SECONDS: u32 = 8;

/// Times of the local stack, in seconds: the shape of the defaults at about a hundredth of their length. Their order
/// is kept (a boot is shorter than its grace, a listener notices a lost registration only after the quarantine). The boot
/// grace is longer: GitHub's points come back as slowly as everywhere, so the last runner of a burst gets its
/// configuration ten seconds after its launch, and the one after a throttled call twenty.
const TIMERS: [(&str, u32); 13] = [
    ("idle_window_seconds", 2),
    ("quarantine_seconds", QUARANTINE_SECONDS),
    ("completed_grace_seconds", 4),
    ("boot_grace_seconds", 30),
    ("gone_grace_seconds", GONE_GRACE_SECONDS),
    ("idle_maximum_seconds", 60),
    ("drain_answer_seconds", 4),
    ("vital_sign_silence_seconds", 6),
    ("minimum_running_seconds", 5),
    ("queue_quiet_seconds", 4),
    ("launch_lease_seconds", 15),
    ("pick_up_seconds", 6),
    ("removal_lease_seconds", 3),
];

/// A fleet of the local stack.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FleetSpec {
    /// Its name.
    pub(crate) name: &'static str,
    /// Labels of its runners and, for exact matching, of its jobs.
    pub(crate) labels: &'static [&'static str],
    /// Spot or on-demand, as the document spells it.
    pub(crate) market: &'static str,
    /// At most this many living instances.
    pub(crate) runner_count_max: u32,
}

/// The configuration document for these fleets.
pub(crate) fn configuration_document(fleets: &[FleetSpec]) -> Value {
    let fleets: Vec<Value> = fleets.iter().map(fleet).collect();
    json!({
        "test_timers": true,
        "mode": "enforce",
        "search_interval_seconds": 5,
        "search_job_age_seconds": 3,
        "search_idle_trust_seconds": 18,
        "fleets": fleets,
    })
}

fn fleet(spec: &FleetSpec) -> Value {
    let mut fleet = json!({
        "name": spec.name,
        "labels": spec.labels,
        "matching": "exact",
        "registration": "organization",
        "runner_name_prefix": format!("{}-", spec.name),
        "runner_count_max": spec.runner_count_max,
        "market": spec.market,
        "launch_template": { "id": LAUNCH_TEMPLATE, "version": "1" },
        "instance_types": ["m7i.large", "m7a.large"],
        "subnet_ids": ["subnet-0000000000000000a", "subnet-0000000000000000b"],
    });
    if let Some(fields) = fleet.as_object_mut() {
        fields.extend(TIMERS.iter().map(|(name, seconds)| ((*name).to_owned(), json!(seconds))));
    }
    fleet
}

/// The environment of every function. The emulator adds the `AWS_*` variables that Lambda sets, and the address of
/// the counting proxy as `AWS_ENDPOINT_URL`.
pub(crate) fn function_variables(world_url: &str, queue_url: &str, mutant: Option<&str>) -> BTreeMap<String, String> {
    let mut variables: BTreeMap<String, String> = [
        ("ENVIRONMENT", DEPLOYMENT),
        ("CONFIG_PARAMETER", CONFIG_PARAMETER),
        ("GITHUB_APP_PATH", GITHUB_APP_PATH),
        ("LEDGER_TABLE", LEDGER_TABLE),
        ("VITAL_SIGNS_TABLE", VITAL_SIGNS_TABLE),
        ("SCALE_UP_QUEUE_URL", queue_url),
        ("RUNNER_PARAMETER_PATH", RUNNER_PARAMETER_PATH),
        ("KILL_SWITCH_PARAMETER", KILL_SWITCH_PARAMETER),
        ("GITHUB_API_URL", world_url),
        ("AWS_ENDPOINT_URL_EC2", world_url),
        ("LOG", "info"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    if let Some(mutant) = mutant {
        variables.insert("RUNNER_SCALER_MUTANT".to_owned(), mutant.to_owned());
    }
    variables
}

/// `DynamoDB`'s requests for the two tables (design section 4).
pub(crate) fn tables() -> [Value; 2] {
    let key = |name: &str, kind: &str| json!({ "AttributeName": name, "KeyType": kind });
    let attribute = |name: &str| json!({ "AttributeName": name, "AttributeType": "S" });
    let ledger = json!({
        "TableName": LEDGER_TABLE,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [
            attribute("pk"), attribute("sk"), attribute("open_pk"), attribute("open_sk"),
        ],
        "KeySchema": [key("pk", "HASH"), key("sk", "RANGE")],
        "GlobalSecondaryIndexes": [{
            "IndexName": "open",
            "KeySchema": [key("open_pk", "HASH"), key("open_sk", "RANGE")],
            "Projection": { "ProjectionType": "ALL" },
        }],
    });
    let vital_signs = json!({
        "TableName": VITAL_SIGNS_TABLE,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [attribute("instance_id")],
        "KeySchema": [key("instance_id", "HASH")],
    });
    [ledger, vital_signs]
}

/// ARN of a queue of the emulator's account.
pub(crate) fn queue_arn(name: &str) -> String {
    format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{name}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use runner_scaler_core::config::{Environment, parse_policy};

    const FLEET: FleetSpec =
        FleetSpec { name: "linux", labels: &["self-hosted", "linux"], market: "spot", runner_count_max: 4 };

    fn environment() -> Environment {
        let mut variables = function_variables("http://127.0.0.1:1", "http://127.0.0.1:2/q", None);
        variables.insert("AWS_ENDPOINT_URL".into(), "http://127.0.0.1:3".into());
        Environment::from_vars(|name| variables.get(name).cloned()).unwrap()
    }

    #[test]
    fn the_functions_accept_what_they_are_told() {
        let document = configuration_document(&[FLEET]).to_string();
        let policy = parse_policy(&document, &environment()).unwrap();
        let fleet = policy.fleets.first().unwrap();
        assert_eq!(fleet.timers.quarantine.as_secs(), 8);
        assert!(fleet.accepts(&["Linux".into(), "self-hosted".into()]));
    }

    #[test]
    fn a_mutant_is_named_only_when_asked_for() {
        let name = "RUNNER_SCALER_MUTANT";
        assert!(!function_variables("", "", None).contains_key(name));
        let variables = function_variables("", "", Some("no-recheck"));
        assert_eq!(variables.get(name).unwrap(), "no-recheck");
    }
}
