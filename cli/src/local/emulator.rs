//! A small client for the emulator: the dozen calls that set the stack up, drive it and look for leaks.
//!
//! The emulator does not verify signatures but routes by the credential scope, so every request carries one. Request
//! and answer shapes are AWS's public protocols (JSON 1.0 and 1.1 with `X-Amz-Target`, REST for Lambda and Scheduler).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::failure::Failure;

/// The emulator's account.
pub(crate) const ACCOUNT: &str = "000000000000";
/// The emulator's region.
pub(crate) const REGION: &str = "us-east-1";

const LAMBDA: &str = "/2015-03-31";

/// The emulator at one address.
#[derive(Debug, Clone)]
pub(crate) struct Emulator {
    http: reqwest::Client,
    base_url: String,
}

/// How full a queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Depth {
    /// Messages waiting.
    pub(crate) waiting: u64,
    /// Messages received and neither deleted nor visible again.
    pub(crate) in_flight: u64,
}

/// What a function answered.
#[derive(Debug)]
pub(crate) struct Invocation {
    /// The payload.
    pub(crate) payload: Value,
    /// Whether Lambda marked the answer as the function's failure.
    pub(crate) failed: bool,
}

/// Kind of an SSM parameter.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ParameterKind {
    /// Readable as it is.
    Plain,
    /// Encrypted.
    Secure,
}

/// A function to create.
#[derive(Debug)]
pub(crate) struct FunctionSpec<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// Its deployment package.
    pub(crate) package: &'a [u8],
    /// Its time limit, in seconds.
    pub(crate) timeout_seconds: u32,
    /// Its environment.
    pub(crate) variables: &'a BTreeMap<String, String>,
}

impl Emulator {
    /// The emulator at `base_url`, without a slash at its end.
    pub(crate) fn new(http: reqwest::Client, base_url: String) -> Self {
        Self { http, base_url }
    }

    /// Where it listens.
    pub(crate) fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Creates a queue; its URL.
    pub(crate) async fn create_queue(&self, name: &str, attributes: Value) -> Result<String, Failure> {
        let answer =
            self.target(Target::Sqs("CreateQueue"), json!({ "QueueName": name, "Attributes": attributes })).await?;
        text(&answer, "/QueueUrl", "CreateQueue")
    }

    /// How full a queue is.
    pub(crate) async fn queue_depth(&self, queue_url: &str) -> Result<Depth, Failure> {
        let answer = self
            .target(Target::Sqs("GetQueueAttributes"), json!({ "QueueUrl": queue_url, "AttributeNames": ["All"] }))
            .await?;
        let count = |name: &str| {
            answer
                .pointer(&format!("/Attributes/{name}"))
                .and_then(Value::as_str)
                .and_then(|number| number.parse().ok())
                .ok_or_else(|| Failure::Shape { what: format!("{name} of {queue_url}") })
        };
        Ok(Depth {
            waiting: count("ApproximateNumberOfMessages")?,
            in_flight: count("ApproximateNumberOfMessagesNotVisible")?,
        })
    }

    /// Takes one message off a queue (it stays in flight); its body.
    pub(crate) async fn receive_message(&self, queue_url: &str) -> Result<Option<String>, Failure> {
        let answer = self
            .target(Target::Sqs("ReceiveMessage"), json!({ "QueueUrl": queue_url, "MaxNumberOfMessages": 1 }))
            .await?;
        let body = answer.pointer("/Messages/0/Body").and_then(Value::as_str);
        Ok(body.map(ToOwned::to_owned))
    }

    /// Creates a table from `DynamoDB`'s own request, and switches TTL on for `expires_at`.
    pub(crate) async fn create_table(&self, request: Value) -> Result<(), Failure> {
        let name = text(&request, "/TableName", "CreateTable")?;
        self.target(Target::DynamoDb("CreateTable"), request).await?;
        let ttl = json!({
            "TableName": name,
            "TimeToLiveSpecification": { "AttributeName": "expires_at", "Enabled": true },
        });
        self.target(Target::DynamoDb("UpdateTimeToLive"), ttl).await?;
        Ok(())
    }

    /// Writes a parameter, over an existing one.
    pub(crate) async fn put_parameter(&self, name: &str, kind: ParameterKind, value: &str) -> Result<(), Failure> {
        let kind = match kind {
            ParameterKind::Plain => "String",
            ParameterKind::Secure => "SecureString",
        };
        let request = json!({ "Name": name, "Type": kind, "Value": value, "Overwrite": true });
        self.target(Target::Ssm("PutParameter"), request).await?;
        Ok(())
    }

    /// Names of all parameters below a path.
    pub(crate) async fn parameters_below(&self, path: &str) -> Result<Vec<String>, Failure> {
        let mut names = Vec::new();
        let mut next_token = Value::Null;
        loop {
            let mut request = json!({ "Path": path, "Recursive": true, "MaxResults": 10 });
            if let (Some(fields), Value::String(_)) = (request.as_object_mut(), &next_token) {
                fields.insert("NextToken".to_owned(), next_token.clone());
            }
            let answer = self.target(Target::Ssm("GetParametersByPath"), request).await?;
            let page = answer.pointer("/Parameters").and_then(Value::as_array);
            names.extend(page.into_iter().flatten().filter_map(|entry| Some(entry.get("Name")?.as_str()?.to_owned())));
            next_token = answer.get("NextToken").cloned().unwrap_or(Value::Null);
            if next_token.as_str().is_none_or(str::is_empty) {
                return Ok(names);
            }
        }
    }

    /// Creates a function on `provided.al2023`.
    pub(crate) async fn create_function(&self, spec: &FunctionSpec<'_>) -> Result<(), Failure> {
        let request = json!({
            "FunctionName": spec.name,
            "Runtime": "provided.al2023",
            "Handler": "bootstrap",
            "Role": role_arn(spec.name),
            "Timeout": spec.timeout_seconds,
            "MemorySize": 128,
            "Code": { "ZipFile": STANDARD.encode(spec.package) },
            "Environment": { "Variables": spec.variables },
        });
        self.rest("lambda", Method::POST, &format!("{LAMBDA}/functions"), &request).await?;
        Ok(())
    }

    /// Lets a queue wake a function, with an outcome for each message.
    pub(crate) async fn map_queue(&self, queue: &str, function: &str) -> Result<(), Failure> {
        let request = json!({
            "EventSourceArn": format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}"),
            "FunctionName": function,
            "BatchSize": 10,
            "MaximumBatchingWindowInSeconds": 1,
            "FunctionResponseTypes": ["ReportBatchItemFailures"],
            "ScalingConfig": { "MaximumConcurrency": 2 },
        });
        let path = format!("{LAMBDA}/event-source-mappings");
        self.rest("lambda", Method::POST, &path, &request).await?;
        Ok(())
    }

    /// Gives a function a public URL; the address under which the emulator serves it.
    pub(crate) async fn create_function_url(&self, function: &str) -> Result<String, Failure> {
        let answer = self
            .rest(
                "lambda",
                Method::POST,
                &format!("/2021-10-31/functions/{function}/url"),
                &json!({ "AuthType": "NONE" }),
            )
            .await?;
        let url = text(&answer, "/FunctionUrl", "CreateFunctionUrlConfig")?;
        // `https://<id>.lambda-url.<region>.on.aws/` on AWS; the emulator serves the same id under a path.
        let id = url
            .strip_prefix("https://")
            .and_then(|rest| rest.split('.').next())
            .ok_or_else(|| Failure::Shape { what: format!("the function URL {url}") })?;
        Ok(format!("{}/_aws/lambda-url/{id}/", self.base_url))
    }

    /// Wakes a function by time, as `EventBridge` Scheduler does.
    pub(crate) async fn create_schedule(&self, function: &str, expression: &str) -> Result<(), Failure> {
        let request = json!({
            "ScheduleExpression": expression,
            "FlexibleTimeWindow": { "Mode": "OFF" },
            "Target": {
                "Arn": format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{function}"),
                "RoleArn": role_arn("scheduler"),
                "Input": "{}",
            },
        });
        self.rest("scheduler", Method::POST, &format!("/schedules/{function}"), &request).await?;
        Ok(())
    }

    /// Invokes a function and waits for its answer, as `aws lambda invoke` does.
    pub(crate) async fn invoke(&self, function: &str, event: &Value) -> Result<Invocation, Failure> {
        let path = format!("{LAMBDA}/functions/{function}/invocations");
        let operation = format!("Invoke {function}");
        let answer =
            self.request("lambda", Method::POST, &path).json(event).send().await.map_err(Failure::http(&operation))?;
        let status = answer.status().as_u16();
        let failed = answer.headers().contains_key("x-amz-function-error");
        let body = answer.text().await.map_err(Failure::http(&operation))?;
        if status != 200 {
            return Err(Failure::Refused { operation, status, body });
        }
        let payload = serde_json::from_str(&body).unwrap_or(Value::String(body));
        Ok(Invocation { payload, failed })
    }

    /// Everything a function logged, oldest first; empty when it never ran.
    pub(crate) async fn function_log(&self, function: &str) -> Result<Vec<String>, Failure> {
        let group = format!("/aws/lambda/{function}");
        let mut lines = Vec::new();
        let mut next_token = Value::Null;
        loop {
            let mut request = json!({ "logGroupName": group });
            if let (Some(fields), Value::String(_)) = (request.as_object_mut(), &next_token) {
                fields.insert("nextToken".to_owned(), next_token.clone());
            }
            let answer = match self.target(Target::Logs("FilterLogEvents"), request).await {
                Ok(answer) => answer,
                // A function that never ran has no log group.
                Err(Failure::Refused { status: 400, .. }) => return Ok(lines),
                Err(failure) => return Err(failure),
            };
            let events = answer.pointer("/events").and_then(Value::as_array);
            lines.extend(
                events.into_iter().flatten().filter_map(|event| Some(event.get("message")?.as_str()?.to_owned())),
            );
            next_token = answer.get("nextToken").cloned().unwrap_or(Value::Null);
            if next_token.as_str().is_none_or(str::is_empty) {
                return Ok(lines);
            }
        }
    }

    async fn target(&self, target: Target, request: Value) -> Result<Value, Failure> {
        let builder = self
            .request(target.scope(), Method::POST, "/")
            .header("x-amz-target", target.header())
            .header("content-type", target.content_type())
            .body(request.to_string());
        answer(builder, &target.header()).await
    }

    async fn rest(&self, scope: &str, method: Method, path: &str, request: &Value) -> Result<Value, Failure> {
        answer(self.request(scope, method, path).json(request), path).await
    }

    fn request(&self, scope: &str, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base_url)).header("authorization", authorization(scope))
    }
}

/// An operation of a service that is addressed by a header.
#[derive(Debug, Clone, Copy)]
enum Target {
    Sqs(&'static str),
    Ssm(&'static str),
    DynamoDb(&'static str),
    Logs(&'static str),
}

impl Target {
    fn scope(self) -> &'static str {
        match self {
            Self::Sqs(_) => "sqs",
            Self::Ssm(_) => "ssm",
            Self::DynamoDb(_) => "dynamodb",
            Self::Logs(_) => "logs",
        }
    }

    fn header(self) -> String {
        match self {
            Self::Sqs(operation) => format!("AmazonSQS.{operation}"),
            Self::Ssm(operation) => format!("AmazonSSM.{operation}"),
            Self::DynamoDb(operation) => format!("DynamoDB_20120810.{operation}"),
            Self::Logs(operation) => format!("Logs_20140328.{operation}"),
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Sqs(_) | Self::DynamoDb(_) => "application/x-amz-json-1.0",
            Self::Ssm(_) | Self::Logs(_) => "application/x-amz-json-1.1",
        }
    }
}

/// A header that names the service; the emulator ignores date and signature.
fn authorization(scope: &str) -> String {
    format!("AWS4-HMAC-SHA256 Credential=local/20260101/{REGION}/{scope}/aws4_request, SignedHeaders=host, Signature=0")
}

fn role_arn(name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:role/{name}")
}

async fn answer(builder: RequestBuilder, operation: &str) -> Result<Value, Failure> {
    let answer = builder.send().await.map_err(Failure::http(operation))?;
    let status = answer.status();
    let body = answer.text().await.map_err(Failure::http(operation))?;
    if !status.is_success() {
        return Err(Failure::Refused { operation: operation.to_owned(), status: status.as_u16(), body });
    }
    // Some operations answer with nothing at all.
    Ok(serde_json::from_str(&body).unwrap_or(Value::Null))
}

fn text(value: &Value, pointer: &str, operation: &str) -> Result<String, Failure> {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .map(ToOwned::to_owned)
        .ok_or_else(|| Failure::Shape { what: format!("{pointer} of {operation}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_carries_the_scope_that_the_emulator_routes_by() {
        let emulator = Emulator::new(reqwest::Client::new(), "http://127.0.0.1:1".to_owned());
        let request = emulator.request("lambda", Method::POST, "/2015-03-31/functions").build().unwrap();
        assert_eq!(request.url().as_str(), "http://127.0.0.1:1/2015-03-31/functions");
        let header = request.headers().get("authorization").unwrap();
        assert!(header.to_str().unwrap().contains("/us-east-1/lambda/aws4_request"));
    }

    #[test]
    fn targets_are_spelt_as_the_services_spell_them() {
        let cases = [
            (Target::Sqs("CreateQueue"), "sqs", "AmazonSQS.CreateQueue", "application/x-amz-json-1.0"),
            (Target::Ssm("PutParameter"), "ssm", "AmazonSSM.PutParameter", "application/x-amz-json-1.1"),
            (
                Target::DynamoDb("CreateTable"),
                "dynamodb",
                "DynamoDB_20120810.CreateTable",
                "application/x-amz-json-1.0",
            ),
            (Target::Logs("FilterLogEvents"), "logs", "Logs_20140328.FilterLogEvents", "application/x-amz-json-1.1"),
        ];
        for (target, scope, header, content_type) in cases {
            assert_eq!(target.scope(), scope);
            assert_eq!(target.header(), header);
            assert_eq!(target.content_type(), content_type);
        }
    }
}
