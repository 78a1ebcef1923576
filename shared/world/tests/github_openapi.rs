//! Every REST answer of the double has the shape that GitHub publishes (fixtures/github-openapi.json).
#![expect(clippy::unwrap_used, reason = "a test ends at its first surprise")]

mod support;

use runner_scaler_world::github::{JobSpec, OwnerKind};
use serde_json::{Value, json};
use support::{Double, app_jwt, jit};

const SCHEMAS: &str = include_str!("fixtures/github-openapi.json");

/// Validates values against the extract; each fault is one line with its path.
struct Validator(Value);

impl Validator {
    fn check(&self, response: &str, value: &Value) {
        let schema = &self.0["responses"][response];
        assert!(schema.is_object(), "no schema for {response}");
        let faults = self.faults(schema, value, "");
        assert!(faults.is_empty(), "{response}: {faults:#?}\n{value:#}");
    }

    fn faults(&self, schema: &Value, value: &Value, path: &str) -> Vec<String> {
        if let Some(reference) = schema["$ref"].as_str() {
            let name = reference.rsplit('/').next().unwrap();
            let target = &self.0["components"]["schemas"][name];
            assert!(target.is_object(), "{reference} is not in the extract");
            return self.faults(target, value, path);
        }
        if value.is_null() && schema["nullable"] == true {
            return Vec::new();
        }
        let mut faults = Vec::new();
        if let Some(kind) = schema["type"].as_str()
            && !is_of(kind, value)
        {
            return vec![format!("{path}: {value} is no {kind}")];
        }
        if let Some(values) = schema["enum"].as_array()
            && !values.contains(value)
        {
            faults.push(format!("{path}: {value} is none of {values:?}"));
        }
        if let Some(format) = schema["format"].as_str()
            && !is_written_as(format, value)
        {
            faults.push(format!("{path}: {value} is no {format}"));
        }
        for required in schema["required"].as_array().into_iter().flatten() {
            let key = required.as_str().unwrap();
            if value.get(key).is_none() {
                faults.push(format!("{path}: {key} is missing"));
            }
        }
        for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
            if let Some(field) = value.get(key) {
                faults.extend(self.faults(inner, field, &format!("{path}/{key}")));
            }
        }
        if schema["items"].is_object() {
            for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                faults.extend(self.faults(&schema["items"], item, &format!("{path}/{index}")));
            }
        }
        for all in schema["allOf"].as_array().into_iter().flatten() {
            faults.extend(self.faults(all, value, path));
        }
        for one in ["anyOf", "oneOf"] {
            let Some(choices) = schema[one].as_array() else { continue };
            let best = choices.iter().map(|choice| self.faults(choice, value, path)).min_by_key(Vec::len);
            faults.extend(best.unwrap_or_default());
        }
        faults
    }
}

fn is_of(kind: &str, value: &Value) -> bool {
    match kind {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("a type that the validator does not know: {other}"),
    }
}

fn is_written_as(format: &str, value: &Value) -> bool {
    let Some(text) = value.as_str() else { return true };
    match format {
        "date-time" => chrono::DateTime::parse_from_rfc3339(text).is_ok(),
        "uri" => text.starts_with("https://"),
        _ => true,
    }
}

fn validator() -> Validator {
    Validator(serde_json::from_str(SCHEMAS).unwrap())
}

#[test]
fn the_validator_finds_what_is_wrong() {
    let validator = validator();
    let schema = &validator.0["responses"]["GET /orgs/{org}/actions/runners/{runner_id} 200"];
    let runner = json!({ "id": 1, "name": "r", "os": "linux", "status": "online", "busy": false, "labels": [{ "name": "a", "type": "custom" }] });
    assert!(validator.faults(schema, &runner, "").is_empty());
    for (case, key, value, fault) in [
        ("a wrong type", "busy", json!("no"), "/busy: \"no\" is no boolean"),
        ("null where it may not be", "name", Value::Null, "/name: null is no string"),
        ("a wrong item", "labels", json!([{ "name": 7 }]), "/labels/0/name: 7 is no string"),
        ("a wrong enum value", "labels", json!([{ "name": "a", "type": "mine" }]), "is none of"),
    ] {
        let mut wrong = runner.clone();
        wrong[key] = value;
        let faults = validator.faults(schema, &wrong, "");
        assert!(faults.iter().any(|f| f.contains(fault)), "{case}: {faults:?}");
    }
    let mut less = runner.clone();
    less.as_object_mut().unwrap().remove("busy");
    assert_eq!(validator.faults(schema, &less, ""), [": busy is missing"]);
}

#[tokio::test]
async fn every_answer_has_githubs_published_shape() {
    let (validator, double) = (validator(), Double::start().await);
    let (org, user) = {
        let mut world = double.server.world();
        let org = world.github.install("acme", OwnerKind::Organization, &["shop"]);
        let user = world.github.install("ada", OwnerKind::User, &["engine"]);
        (org, user)
    };
    let app = app_jwt();

    let path = format!("/app/installations/{org}/access_tokens");
    let schema = "POST /app/installations/{installation_id}/access_tokens";
    let (status, body) = double.post(&path, &app, &json!({})).await;
    validator.check(&format!("{schema} {status}"), &body);
    let (status, body) = double.post("/app/installations/1/access_tokens", &app, &json!({})).await;
    validator.check(&format!("{schema} {status}"), &body);
    let (status, body) = double.post(&path, "no.jwt", &json!({})).await;
    validator.check(&format!("{schema} {status}"), &body);
    // GitHub's description of this list wants each account to be a user and an enterprise at once (`allOf`, where its
    // own `installation` says `anyOf`), which no answer can be: the items are checked as installations.
    let (status, body) = double.get("/app/installations", &app).await;
    for installation in body.as_array().unwrap() {
        validator.check(&format!("GET /orgs/{{org}}/installation {status}"), installation);
    }
    for (path, schema) in [
        ("/orgs/acme/installation", "GET /orgs/{org}/installation"),
        ("/users/ada/installation", "GET /users/{username}/installation"),
        ("/repos/ada/engine/installation", "GET /repos/{owner}/{repo}/installation"),
    ] {
        let (status, body) = double.get(path, &app).await;
        validator.check(&format!("{schema} {status}"), &body);
    }

    check_runners(&validator, &double, org, "/orgs/acme", "/orgs/{org}").await;
    check_runners(&validator, &double, user, "/repos/ada/engine", "/repos/{owner}/{repo}").await;
    check_jobs(&validator, &double, org).await;
    check_deliveries(&validator, &double, &app).await;
}

async fn check_runners(validator: &Validator, double: &Double, installation: u64, path: &str, schema: &str) {
    let token = double.token(installation).await;
    let (path, schema) = (format!("{path}/actions/runners"), format!("{schema}/actions/runners"));
    let jitconfig = format!("{path}/generate-jitconfig");
    let (status, made) = double.post(&jitconfig, &token, &jit("ghr-i-1", &["self-hosted", "x"])).await;
    validator.check(&format!("POST {schema}/generate-jitconfig {status}"), &made);
    assert_eq!(made["runner"]["version"], Value::Null, "never connected");
    if schema.starts_with("/orgs") {
        let (status, body) = double.post(&jitconfig, &token, &jit("ghr-i-1", &["x"])).await;
        assert_eq!(status, 409);
        validator.check(&format!("POST {schema}/generate-jitconfig 409"), &body);
        let (status, body) = double.post(&jitconfig, &token, &jit("ghr-i-2", &[])).await;
        assert_eq!(status, 422);
        validator.check(&format!("POST {schema}/generate-jitconfig 422"), &body);
    }
    let (status, body) = double.get(&path, &token).await;
    validator.check(&format!("GET {schema} {status}"), &body);
    let one = format!("{path}/{}", made["runner"]["id"]);
    let (status, body) = double.get(&one, &token).await;
    validator.check(&format!("GET {schema}/{{runner_id}} {status}"), &body);

    // A known job: DELETE is refused.
    let repository = if schema.starts_with("/orgs") { "acme/shop" } else { "ada/engine" };
    let session = double.post("/broker/sessions", "", &json!({ "jit_config": made["encoded_jit_config"] })).await;
    assert_eq!(session.0, 200);
    add_job(double, repository, &["x"]);
    let runner_id = &made["runner"]["id"];
    let (status, message) = double.get(&format!("/broker/messages?runner_id={runner_id}"), "").await;
    assert_eq!(status, 200);
    let (status, body) = double.delete(&one, &token).await;
    validator.check(&format!("DELETE {schema}/{{runner_id}} {status}"), &body);
    for step in ["acquire", "complete"] {
        let path = format!("/broker/jobs/{}/{step}", message["job_id"]);
        assert_eq!(double.post(&path, "", &json!({ "runner_id": runner_id })).await.0, 200, "{step}");
    }
}

async fn check_jobs(validator: &Validator, double: &Double, installation: u64) {
    let token = double.token(installation).await;
    add_job(double, "acme/shop", &["nobody-has-this"]);
    let repo = "/repos/{owner}/{repo}/actions";
    let (status, runs) = double.get("/repos/acme/shop/actions/runs", &token).await;
    validator.check(&format!("GET {repo}/runs {status}"), &runs);
    assert_eq!(runs["total_count"], 2, "one completed, one queued");
    let (_, queued) = double.get("/repos/acme/shop/actions/runs?status=queued", &token).await;
    assert_eq!(queued["total_count"], 1);
    for run in runs["workflow_runs"].as_array().unwrap() {
        let (status, jobs) = double.get(&format!("/repos/acme/shop/actions/runs/{}/jobs", run["id"]), &token).await;
        validator.check(&format!("GET {repo}/runs/{{run_id}}/jobs {status}"), &jobs);
        let (status, job) =
            double.get(&format!("/repos/acme/shop/actions/jobs/{}", jobs["jobs"][0]["id"]), &token).await;
        validator.check(&format!("GET {repo}/jobs/{{job_id}} {status}"), &job);
    }
    let (status, reached) = double.get("/installation/repositories?per_page=1", &token).await;
    validator.check(&format!("GET /installation/repositories {status}"), &reached);
    let (status, limit) = double.get("/rate_limit", &token).await;
    validator.check(&format!("GET /rate_limit {status}"), &limit);
}

async fn check_deliveries(validator: &Validator, double: &Double, app: &str) {
    {
        let mut world = double.server.world();
        let now = world.now();
        let due = world.github.take_due_deliveries(now);
        assert!(due.len() >= 4, "queued, in_progress, completed, queued");
        let (github, mut cx) = world.github();
        for (delivery, status) in due.iter().zip([Some(200), Some(500), None].into_iter().cycle()) {
            github.delivery_answered(&mut cx, delivery.delivery_id, status, 12);
        }
    }
    let (status, list) = double.get("/app/hook/deliveries?per_page=2", app).await;
    validator.check(&format!("GET /app/hook/deliveries {status}"), &list);
    let (_, all) = double.get("/app/hook/deliveries?per_page=100", app).await;
    let failed: Vec<Value> =
        all.as_array().unwrap().iter().filter(|item| item["status_code"] != 200).cloned().collect();
    assert!(!failed.is_empty() && failed.len() < all.as_array().unwrap().len(), "{all:#}");
    let (status, filtered) = double.get("/app/hook/deliveries?status=failure&per_page=100", app).await;
    validator.check(&format!("GET /app/hook/deliveries {status}"), &filtered);
    assert_eq!(filtered, Value::from(failed), "what was not answered 2xx, and nothing else");
    let id = &list[0]["id"];
    let (status, whole) = double.get(&format!("/app/hook/deliveries/{id}"), app).await;
    validator.check(&format!("GET /app/hook/deliveries/{{delivery_id}} {status}"), &whole);
    let (status, body) = double.post(&format!("/app/hook/deliveries/{id}/attempts"), app, &json!({})).await;
    validator.check(&format!("POST /app/hook/deliveries/{{delivery_id}}/attempts {status}"), &body);
}

fn add_job(double: &Double, repository: &str, labels: &[&str]) {
    let spec = JobSpec {
        repository: repository.into(),
        name: "build".into(),
        labels: labels.iter().map(|&label| label.to_owned()).collect(),
        duration_ms: 10,
        conclusion: "success".into(),
    };
    let mut world = double.server.world();
    let (github, mut cx) = world.github();
    github.add_job(&mut cx, spec).unwrap();
}
