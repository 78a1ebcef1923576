//! Instance metadata, SSM, `DynamoDB` and `CloudWatch` Logs, as far as an instance uses them.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// One request that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) target: String,
    pub(crate) authorization: String,
    pub(crate) body: Value,
}

#[derive(Default)]
struct State {
    parameters: BTreeMap<String, String>,
    drains: BTreeMap<String, String>,
    calls: Vec<Call>,
    metadata_silent: bool,
    refused: Option<&'static str>,
}

/// The servers; they end with the process.
#[derive(Clone)]
pub(crate) struct Cloud {
    port: u16,
    state: Arc<Mutex<State>>,
}

struct Request {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Cloud {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let cloud = Self { port: listener.local_addr().unwrap().port(), state: Arc::default() };
        let serving = cloud.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                std::thread::spawn(move || serving.serve(&stream));
            }
        });
        cloud
    }

    pub(crate) fn aws_endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn metadata_endpoint(&self, instance_id: &str) -> String {
        format!("http://127.0.0.1:{}/imds/{instance_id}", self.port)
    }

    /// Hands over a configuration, as scale-up does.
    pub(crate) fn hand_over(&self, instance_id: &str, configuration: &str) {
        self.state().parameters.insert(format!("/runners/{instance_id}"), configuration.to_owned());
    }

    pub(crate) fn parameter(&self, instance_id: &str) -> Option<String> {
        self.state().parameters.get(&format!("/runners/{instance_id}")).cloned()
    }

    pub(crate) fn drain(&self, instance_id: &str, value: &str) {
        self.state().drains.insert(instance_id.to_owned(), value.to_owned());
    }

    pub(crate) fn take_drain_back(&self, instance_id: &str) {
        self.state().drains.remove(instance_id);
    }

    /// From now on metadata closes every connection without an answer.
    pub(crate) fn silence_metadata(&self) {
        self.state().metadata_silent = true;
    }

    /// From now on AWS refuses every call with this error; `None`: no more.
    pub(crate) fn refuse(&self, code: Option<&'static str>) {
        self.state().refused = code;
    }

    /// The calls of one operation that name the instance.
    pub(crate) fn calls(&self, operation: &str, instance_id: &str) -> Vec<Call> {
        let of_it = |call: &&Call| {
            call.target.ends_with(&format!(".{operation}")) && call.body.to_string().contains(instance_id)
        };
        self.state().calls.iter().filter(of_it).cloned().collect()
    }

    /// What the vital signs said, without repetitions.
    pub(crate) fn signs(&self, instance_id: &str) -> Vec<String> {
        let calls = self.calls("PutItem", instance_id);
        let mut words: Vec<_> =
            calls.iter().map(|call| call.body["Item"]["worker"]["S"].as_str().unwrap().to_owned()).collect();
        words.dedup();
        words
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn serve(&self, stream: &TcpStream) {
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut reader = BufReader::new(stream);
        while let Some(request) = Request::read(&mut reader) {
            let Some((status, body)) = self.answer(&request) else { return };
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", body.len());
            let mut stream = stream;
            if stream.write_all((head + &body).as_bytes()).is_err() {
                return;
            }
        }
    }

    fn answer(&self, request: &Request) -> Option<(u16, String)> {
        match request.path.strip_prefix("/imds/").and_then(|path| path.split_once("/latest/")) {
            Some((instance_id, item)) if !self.state().metadata_silent => {
                Some(self.metadata(request, instance_id, item))
            }
            Some(_) => None,
            None => Some(self.aws(request)),
        }
    }

    fn metadata(&self, request: &Request, instance_id: &str, item: &str) -> (u16, String) {
        let header = |name: &str| request.headers.get(name).map(String::as_str);
        if request.method == "PUT" && item == "api/token" {
            let valid = header("x-aws-ec2-metadata-token-ttl-seconds") == Some("21600");
            return if valid { (200, format!("token-{instance_id}")) } else { (400, String::new()) };
        }
        if header("x-aws-ec2-metadata-token") != Some(&format!("token-{instance_id}")) {
            return (401, String::new());
        }
        let drain = self.state().drains.get(instance_id).cloned();
        let found = match item {
            "meta-data/instance-id" => Some(instance_id.to_owned()),
            "meta-data/placement/region" => Some("eu-west-1".to_owned()),
            "meta-data/services/domain" => Some("amazonaws.com".to_owned()),
            "meta-data/iam/security-credentials/" => Some("runner".to_owned()),
            "meta-data/iam/security-credentials/runner" => Some(
                json!({ "AccessKeyId": "ASIAEXAMPLE", "SecretAccessKey": "role-secret", "Token": "role-token" })
                    .to_string(),
            ),
            "meta-data/tags/instance/ghr:drain" => drain,
            _ => None,
        };
        found.map_or_else(|| (404, String::new()), |text| (200, text))
    }

    fn aws(&self, request: &Request) -> (u16, String) {
        let header = |name: &str| request.headers.get(name).cloned().unwrap_or_default();
        let body: Value = serde_json::from_str(&request.body).unwrap();
        let name = body["Name"].as_str().unwrap_or_default().to_owned();
        let call = Call { target: header("x-amz-target"), authorization: header("authorization"), body };
        let mut state = self.state();
        state.calls.push(call.clone());
        let refused = |code: &str| (400, json!({ "__type": format!("com.amazonaws#{code}") }).to_string());
        if let Some(code) = state.refused {
            return refused(code);
        }
        let done = (200, "{}".to_owned());
        match call.target.rsplit('.').next().unwrap() {
            "GetParameter" => state.parameters.get(&name).map_or_else(
                || refused("ParameterNotFound"),
                |value| (200, json!({ "Parameter": { "Name": name, "Value": value } }).to_string()),
            ),
            "DeleteParameter" => state.parameters.remove(&name).map_or_else(|| refused("ParameterNotFound"), |_| done),
            "PutItem" | "CreateLogStream" | "PutLogEvents" => done,
            other => panic!("{other}"),
        }
    }
}

impl Request {
    fn read(reader: &mut BufReader<&TcpStream>) -> Option<Self> {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let mut words = line.split_ascii_whitespace().map(str::to_owned);
        let (method, path) = (words.next()?, words.next()?);
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim().split_once(": ") else { break };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        Some(Self { method, path, headers, body: String::from_utf8(body).ok()? })
    }
}
