//! Deliveries over HTTP to the real binary: through a function URL and through an HTTP API, as text and in base64.
//!
//! The binary talks to Lambda's Runtime API and to a counting AWS, both on loopback; asserted is what the sender sees,
//! what lies in the queue and the ledger afterwards, and what the log says and does not say.

use std::path::PathBuf;
use std::process::Stdio;

use budgets::estate::{CONFIG_PARAMETER, GITHUB_APP_PATH, LEDGER_TABLE};
use budgets::process::variables;
use budgets::server::{CountingServer, DynamoDb, Ec2, GitHub, ParameterStore, Services, Table};
use reqwest::{Client, Method, RequestBuilder};
use runner_scaler_world::http::deliver::signature;
use runner_scaler_world::http::lambda::{Encoding, Front, LambdaHost};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

const SECRET: &str = "the webhook's secret, long enough";
const NEXT: &str = "the secret after that, in a rotation";
const GUID: &str = "72d3162e-cc78-11e3-81ab-4c9367dc0958";
const FORM: &str = "application/x-www-form-urlencoded";

/// Every way a request can reach the function.
const WAYS: [(Front, Encoding); 4] = [
    (Front::FunctionUrl, Encoding::Text),
    (Front::FunctionUrl, Encoding::Base64),
    (Front::HttpApi, Encoding::Text),
    (Front::HttpApi, Encoding::Base64),
];

/// The function's process, what stands before it and what it talks to.
struct Stage {
    aws: CountingServer,
    host: LambdaHost,
    log: PathBuf,
    client: Client,
    _process: Child,
    _folder: tempfile::TempDir,
}

impl Stage {
    /// With that text under `webhook-secret`, and that document.
    async fn start(secret: Option<&str>, document: &Value) -> Self {
        let secret = secret.map(|text| (format!("{GITHUB_APP_PATH}/webhook-secret"), text.to_owned()));
        let values = [(CONFIG_PARAMETER.to_owned(), document.to_string())].into_iter().chain(secret).collect();
        let ledger = DynamoDb::new([(LEDGER_TABLE.to_owned(), Table::new(&["pk", "sk"]))]);
        let services = Services::new(
            GitHub::default(),
            Ec2::default(),
            ledger,
            ParameterStore { values, ..ParameterStore::default() },
        );
        let aws = CountingServer::start(services).await.expect("a port");
        let arn = "arn:aws:lambda:eu-west-1:000000000000:function:webhook".to_owned();
        let host = LambdaHost::start(arn).await.expect("a port");
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("webhook.log");
        let output = std::fs::File::create(&log).expect("a file");
        let process = Command::new(env!("CARGO_BIN_EXE_webhook"))
            .env_clear()
            .envs(variables(aws.url()))
            .env("LOG", "trace")
            .env("AWS_LAMBDA_RUNTIME_API", host.runtime_api())
            .env("AWS_LAMBDA_FUNCTION_NAME", "webhook")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", "test")
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "test")
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a second handle"))
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .expect("the function's binary");
        Self { aws, host, log, client: Client::new(), _process: process, _folder: folder }
    }

    async fn usual() -> Self {
        Self::start(Some(SECRET), &document()).await
    }

    async fn url(&self, way: (Front, Encoding)) -> String {
        self.host.front(way.0, way.1).await.expect("a port")
    }

    /// A request as GitHub sends it, but for its signature.
    fn unsigned(&self, url: &str, kind: &str, body: &[u8]) -> RequestBuilder {
        self.client
            .post(format!("{url}/webhook"))
            .header("content-type", "application/json")
            .header("user-agent", "GitHub-Hookshot/0000000")
            .header("x-github-event", kind)
            .header("x-github-delivery", GUID)
            .body(body.to_vec())
    }

    fn signed(&self, url: &str, kind: &str, body: &[u8]) -> RequestBuilder {
        self.unsigned(url, kind, body).header("x-hub-signature-256", signature(SECRET, body))
    }

    /// The queue's messages and the ledger's items, which are then empty.
    fn take_effects(&self) -> Effects {
        let mut services = self.aws.services();
        let messages = std::mem::take(&mut services.sqs.messages);
        let ledger = services.dynamodb.tables.insert(LEDGER_TABLE.to_owned(), Table::new(&["pk", "sk"]));
        Effects {
            messages: messages.iter().map(|text| parsed(text)).collect(),
            items: items(&ledger.expect("the table")),
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("a log")
    }
}

/// What deliveries left behind.
#[derive(Debug, PartialEq)]
struct Effects {
    messages: Vec<Value>,
    /// Key and record.
    items: Vec<(String, Value)>,
}

impl Effects {
    const NONE: Self = Self { messages: Vec::new(), items: Vec::new() };
}

fn items(table: &Table) -> Vec<(String, Value)> {
    let text = |value: &Value| value["S"].as_str().expect("a text").to_owned();
    table.items().map(|item| (text(&item["pk"]), parsed(&text(&item["body"])))).collect()
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

fn document() -> Value {
    let fleet = |name: &str, labels: &[&str]| {
        json!({
            "name": name, "labels": labels, "runner_count_max": 5, "market": "spot",
            "launch_template": { "id": "lt-1", "version": "1" },
            "instance_types": ["m7i.large"], "subnet_ids": ["subnet-1"],
        })
    };
    json!({ "fleets": [fleet("hosted", &["ubuntu-latest"]), fleet("k8s", &["self-hosted", "k8s"])] })
}

fn payload(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/core/tests/payloads");
    std::fs::read(folder.join(name)).expect("a payload")
}

async fn status(request: RequestBuilder) -> u16 {
    let answer = request.send().await.expect("an answer");
    let status = answer.status().as_u16();
    assert_eq!(answer.text().await.expect("a body"), "", "an answer of {status} says nothing more");
    status
}

/// What must be found after a payload.
enum Expected {
    /// One message about this job, of this repository and with these labels.
    Message(u64, &'static str, &'static [&'static str]),
    /// The job's record in this phase.
    Record(u64, &'static str, Option<&'static str>),
    Nothing,
}

impl Expected {
    fn check(&self, effects: &Effects, case: &str) {
        match self {
            Self::Nothing => assert_eq!(effects, &Effects::NONE, "{case}"),
            Self::Message(job, repository, labels) => {
                let [message] = effects.messages.as_slice() else { panic!("{case}: one message: {effects:?}") };
                assert_eq!(message["job_id"], json!(job), "{case}");
                assert_eq!(message["repository"], json!(repository), "{case}");
                assert_eq!(message["labels"], json!(labels), "{case}");
                assert!(message["run_id"].is_u64() && message["queued_at"].is_i64(), "{case}: {message}");
                assert_eq!(effects.items, [], "{case}: the record is scale-up's to make");
            }
            Self::Record(job, phase, conclusion) => {
                let [(key, record)] = effects.items.as_slice() else { panic!("{case}: one record: {effects:?}") };
                assert_eq!(key, &format!("job#{job}"), "{case}");
                let details = &record["phase"][phase];
                assert!(details.is_object(), "{case}: {record}");
                assert_eq!(details.get("conclusion").and_then(Value::as_str), *conclusion, "{case}: {record}");
                assert_eq!(effects.messages, [Value::Null; 0], "{case}");
            }
        }
    }
}

#[tokio::test]
async fn every_real_payload_has_its_status_and_its_effect_however_it_comes() {
    use Expected::{Message, Nothing, Record};
    let k8s = ["self-hosted", "k8s"].as_slice();
    let cases = [
        ("queued", 202, Message(289_782_451, "Codertocat/Hello-World", &["ubuntu-latest"])),
        ("queued.with-deployment", 202, Message(12_877_621_891, "lineville/elastic-machines-testing", k8s)),
        ("waiting", 200, Nothing),
        ("in_progress", 202, Record(289_782_451, "started", None)),
        ("in_progress.with-queued-steps", 202, Record(14_541_957_942, "started", None)),
        ("completed.success.with-organization", 202, Record(289_782_451, "completed", Some("success"))),
        ("completed.failure.with-organization", 202, Record(289_782_451, "completed", Some("failure"))),
    ]
    .map(|(name, status, expected)| (format!("workflow_job/{name}.payload.json"), "workflow_job", status, expected));
    let others = [
        ("check_run.completed", "check_run"),
        ("installation.created", "installation"),
        ("ping", "ping"),
        ("push", "push"),
        ("workflow_run.completed", "workflow_run"),
    ]
    .map(|(name, kind)| (format!("other/{name}.json"), kind, 200, Nothing));
    let stage = Stage::usual().await;
    for way in WAYS {
        let url = stage.url(way).await;
        for (file, kind, expected_status, expected) in cases.iter().chain(&others) {
            let case = format!("{file} by {way:?}");
            let body = payload(file);
            // Twice: GitHub redelivers, and a repetition changes no record.
            assert_eq!(status(stage.signed(&url, kind, &body)).await, *expected_status, "{case}");
            let once = items(&stage.aws.services().dynamodb.tables[LEDGER_TABLE]);
            if !matches!(expected, Message(..)) {
                assert_eq!(status(stage.signed(&url, kind, &body)).await, *expected_status, "{case}, again");
            }
            let effects = stage.take_effects();
            expected.check(&effects, &case);
            assert_eq!(effects.items, once, "{case}, again");
            // The same without a signature has no effect.
            assert_eq!(status(stage.unsigned(&url, kind, &body)).await, 401, "{case}");
            assert_eq!(stage.take_effects(), Effects::NONE, "{case}");
        }
    }
}

#[tokio::test]
async fn what_is_not_githubs_is_refused_with_a_status_and_nothing_else() {
    let stage = Stage::usual().await;
    let body = payload("workflow_job/queued.payload.json");
    let good = signature(SECRET, &body);
    let large = vec![b' '; (1 << 20) + 1];
    for way in WAYS {
        let url = stage.url(way).await;
        let unsigned = || stage.unsigned(&url, "workflow_job", &body);
        let with = |signature: &str| unsigned().header("X-Hub-Signature-256", signature);
        let typed = |kind: &str| {
            let request = stage.client.post(&url).header("x-github-event", "workflow_job").body(body.clone());
            request.header("x-hub-signature-256", &good).header("content-type", kind)
        };
        let other = |method: Method| {
            let request = stage.client.request(method, &url).header("content-type", "application/json");
            request.header("x-github-event", "workflow_job").header("x-hub-signature-256", &good).body(body.clone())
        };
        let cases = [
            ("no signature", unsigned(), 401),
            ("an empty one", with(""), 401),
            ("another secret's", with(&signature("somebody else's secret", &body)), 401),
            ("the next secret's, which is not active yet", with(&signature(NEXT, &body)), 401),
            ("that of another body", with(&signature(SECRET, b"{}")), 401),
            ("the header twice, joined by a comma on the way", with(&good).header("X-Hub-Signature-256", &good), 401),
            ("upper case", with(&good.to_uppercase()), 401),
            ("sha1", with(&good.replace("sha256=", "sha1=")), 401),
            ("no digits", with(&format!("sha256={}", "g".repeat(64))), 401),
            ("too large, and signed", stage.signed(&url, "workflow_job", &large), 413),
            ("too large", stage.unsigned(&url, "workflow_job", &large), 413),
            ("a form", typed(FORM), 415),
            ("text", typed("text/plain"), 415),
            ("GET", other(Method::GET), 405),
            ("PUT", other(Method::PUT), 405),
            ("signed, another event's name", stage.signed(&url, "push", &body), 400),
            ("signed, two names", stage.signed(&url, "ping", &body).header("x-github-event", "workflow_job"), 400),
            ("signed, no JSON", stage.signed(&url, "workflow_job", b"payload=%7B%7D"), 400),
            ("signed, not UTF-8", stage.signed(&url, "workflow_job", b"\xff\xfe"), 400),
            ("signed, empty", stage.signed(&url, "workflow_job", b""), 400),
            ("signed, nested", stage.signed(&url, "workflow_job", &b"[".repeat(100_000)), 400),
        ];
        for (case, request, expected) in cases {
            assert_eq!(status(request).await, expected, "{case} by {way:?}");
            assert_eq!(stage.take_effects(), Effects::NONE, "{case} by {way:?}");
        }
        let strange = unsigned().header("x-hub-signature-256", &good).header("cookie", "a=b; c=d");
        assert_eq!(status(strange).await, 202, "cookies and a path of its own say nothing, by {way:?}");
        assert_eq!(stage.take_effects().messages.len(), 1);
    }
    assert!(stage.log().contains("set its content type to application/json"), "{}", stage.log());
}

#[tokio::test]
async fn without_a_good_secret_or_document_every_delivery_is_answered_503() {
    let broken = json!({ "fleets": [] });
    let no_owner = json!({ "fleets": document()["fleets"], "owner_ids": [] });
    for (case, secret, document) in [
        ("no secret", None, document()),
        ("an empty secret", Some(" \n"), document()),
        ("a short secret", Some("hunter2"), document()),
        ("a short next secret", Some("the webhook's secret, long enough\nhunter2"), document()),
        (
            "three secrets",
            Some("the webhook's secret, long enough\nthe webhook's secret, long enough\nthe third of them"),
            document(),
        ),
        ("no fleet", Some(SECRET), broken),
        ("a list that admits nobody", Some(SECRET), no_owner),
    ] {
        let stage = Stage::start(secret, &document).await;
        let url = stage.url((Front::FunctionUrl, Encoding::Text)).await;
        let body = payload("workflow_job/queued.payload.json");
        for key in ["", "hunter2", SECRET] {
            let request =
                stage.unsigned(&url, "workflow_job", &body).header("x-hub-signature-256", signature(key, &body));
            assert_eq!(status(request).await, 503, "{case}, signed with {key:?}");
        }
        assert_eq!(status(stage.client.get(&url)).await, 405, "{case}");
        assert_eq!(stage.take_effects(), Effects::NONE, "{case}");
        let log = stage.log();
        assert!(log.contains("ERROR") && !log.contains("hunter2"), "{case}: {log}");
    }
}

#[tokio::test]
async fn nothing_is_accepted_that_is_not_durable() {
    let stage = Stage::usual().await;
    let url = stage.url((Front::FunctionUrl, Encoding::Text)).await;
    stage.aws.services().sqs.denies = true;
    stage.aws.services().dynamodb.tables.clear();
    for name in ["queued", "in_progress", "completed.success.with-organization"] {
        let body = payload(&format!("workflow_job/{name}.payload.json"));
        assert_eq!(status(stage.signed(&url, "workflow_job", &body)).await, 503, "{name}");
    }
    assert_eq!(status(stage.signed(&url, "ping", &payload("other/ping.json"))).await, 200, "a ping needs neither");
}

#[tokio::test]
async fn payload_format_1_is_answered_503_with_the_remedy_in_the_log() {
    let stage = Stage::usual().await;
    let event = json!({
        "version": "1.0", "httpMethod": "POST", "path": "/", "headers": {}, "body": "{}", "isBase64Encoded": false,
        "requestContext": { "httpMethod": "POST", "resourcePath": "/" },
    });
    assert_eq!(stage.host.invoke(&event).await, Ok(json!({ "statusCode": 503, "body": "" })));
    assert!(stage.log().contains("payload_format_version 2.0"), "{}", stage.log());
}

#[tokio::test]
async fn the_log_says_what_became_of_each_delivery_and_nothing_secret() {
    let stage = Stage::start(Some(&format!("{SECRET}\n{NEXT}\n")), &document()).await;
    let url = stage.url((Front::FunctionUrl, Encoding::Text)).await;
    let queued = payload("workflow_job/queued.payload.json");
    let mut told = Vec::new();
    for (name, secret, expected) in [
        ("queued", SECRET, ("queued", "first")),
        ("in_progress", NEXT, ("recorded", "second")),
        ("waiting", NEXT, ("ignored", "second")),
    ] {
        let body = payload(&format!("workflow_job/{name}.payload.json"));
        let signed = signature(secret, &body);
        let request = stage.unsigned(&url, "workflow_job", &body).header("x-hub-signature-256", &signed);
        assert!((200..300).contains(&status(request).await), "{name}");
        told.push((expected, signed));
    }
    let forged = signature("somebody else's secret", &queued);
    let request = stage.unsigned(&url, "workflow_job", &queued).header("x-hub-signature-256", &forged);
    assert_eq!(status(request).await, 401);

    let log = stage.log();
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let verdicts = |verdict: &str| -> Vec<&Value> {
        lines.iter().filter(|line| line["verdict"] == verdict && line["level"].is_string()).collect()
    };
    for ((verdict, secret), _) in &told {
        let [line] = verdicts(verdict)[..] else { panic!("one line says {verdict}: {log}") };
        assert_eq!((&line["delivery_id"], &line["event"]), (&json!(GUID), &json!("workflow_job")), "{line}");
        assert!(line["repository"].as_str().is_some_and(|name| name.contains('/')), "{line}");
        let verified = lines.iter().filter(|line| line["secret"] == *secret && line["DeliveriesVerified"] == 1).count();
        assert_eq!(verified, if *secret == "first" { 1 } else { 2 }, "{secret}");
        assert!(
            lines.iter().any(|line| line["verdict"] == *verdict && line["Requests"] == 1),
            "the metric of {verdict}"
        );
    }
    let [refused] = verdicts("unsigned")[..] else { panic!("one line says unsigned: {log}") };
    assert_eq!((&refused["delivery_id"], &refused["level"]), (&json!(GUID), &json!("WARN")), "{refused}");

    let digits = |signature: &str| signature.trim_start_matches("sha256=").to_owned();
    let body: Value = parsed(std::str::from_utf8(&queued).expect("text"));
    let of_body = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).expect("in the payload").to_owned();
    let expected_mac = digits(&signature(SECRET, &queued));
    let secrets = [SECRET.to_owned(), NEXT.to_owned(), digits(&forged), expected_mac, "x-hub-signature".to_owned()];
    let bodies = [of_body("/workflow_job/head_sha"), of_body("/sender/node_id"), "GitHub-Hookshot".to_owned()];
    for text in secrets.iter().chain(&bodies).chain(told.iter().map(|(_, signed)| signed)) {
        assert!(!log.contains(text.as_str()), "the log says {text}");
    }
}
