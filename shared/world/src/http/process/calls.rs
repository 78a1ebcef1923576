//! The instance's requests: its metadata, its parameter, its vital sign, the broker, the power switch.
//!
//! Each maps an HTTP answer to what the machine may conclude from it; what is not understood is `Failed`, never absent.

use super::{InstanceProcess, ProcessError};
use crate::instance::{Answer, JitConfig, PollAnswer, SessionAnswer, VitalSign};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::Mutex;

/// Longer than the broker holds a poll.
const REQUEST: Duration = Duration::from_secs(10);

/// An item that nobody renews any more is dropped after a week, like every closed record (design section 4).
const VITAL_SIGN_KEPT_SECONDS: i64 = 7 * 86_400;

/// The longest life of a metadata token.
const TOKEN_TTL_SECONDS: &str = "21600";

/// The client of everything that an instance talks to.
pub(super) struct Calls {
    http: Client,
    process: InstanceProcess,
    metadata_token: Mutex<Option<String>>,
}

#[derive(Deserialize)]
struct GetParameter {
    #[serde(rename = "Parameter")]
    parameter: Parameter,
}

/// No `Debug`: the value is a secret.
#[derive(Deserialize)]
struct Parameter {
    #[serde(rename = "Value")]
    value: String,
}

#[derive(Deserialize)]
struct Session {
    runner_id: u64,
}

impl Calls {
    pub(super) fn new(process: InstanceProcess) -> Result<Self, ProcessError> {
        // The world counts calls by this name.
        let http = Client::builder().user_agent("app/instance").timeout(REQUEST).build();
        Ok(Self { http: http.map_err(ProcessError::Client)?, process, metadata_token: Mutex::new(None) })
    }

    pub(super) async fn fetch_parameter(&self) -> Answer<JitConfig> {
        let body = json!({ "Name": self.parameter_name(), "WithDecryption": true });
        let Ok(response) = self.ssm("GetParameter", &body).send().await else { return Answer::Failed };
        if !response.status().is_success() {
            return parameter_refusal(response).await;
        }
        match response.json::<GetParameter>().await {
            Ok(found) => Answer::Found(JitConfig::new(found.parameter.value)),
            Err(_) => Answer::Failed,
        }
    }

    pub(super) async fn delete_parameter(&self) -> Answer<()> {
        let request = self.ssm("DeleteParameter", &json!({ "Name": self.parameter_name() }));
        match request.send().await {
            Ok(response) if response.status().is_success() => Answer::Found(()),
            Ok(response) => parameter_refusal(response).await,
            Err(_) => Answer::Failed,
        }
    }

    /// Writes the item on the instance's own key: times in milliseconds since the Unix epoch, `expires_at` in seconds.
    pub(super) async fn write_vital_sign(&self, sign: &VitalSign) -> bool {
        let number = |value: i64| json!({ "N": value.to_string() });
        let mut item = json!({
            "instance_id": { "S": self.process.instance_id },
            "beat_at": number(sign.beat_at),
            "worker": { "S": sign.worker.name() },
            "expires_at": number(sign.beat_at / 1_000 + VITAL_SIGN_KEPT_SECONDS),
        });
        if let (Some(at), Some(fields)) = (sign.drain_seen_at, item.as_object_mut()) {
            fields.insert("drain_seen_at".to_owned(), number(at));
        }
        let body = json!({ "TableName": self.process.vital_signs_table, "Item": item });
        let target = ("dynamodb", "DynamoDB_20120810.PutItem", "application/x-amz-json-1.0");
        let request = self.aws(&self.process.dynamodb_endpoint, target, &body);
        request.send().await.is_ok_and(|response| response.status().is_success())
    }

    /// The instance's own drain tag; `None` also for a look that failed, which comes again.
    pub(super) async fn drain_tag(&self) -> Option<String> {
        let token = self.metadata_token().await?;
        let url = self.metadata_url("meta-data/tags/instance/ghr:drain");
        let response = self.http.get(url).header("x-aws-ec2-metadata-token", token).send().await.ok()?;
        if response.status() == StatusCode::UNAUTHORIZED {
            *self.metadata_token.lock().await = None;
        }
        if !response.status().is_success() {
            return None;
        }
        response.text().await.ok()
    }

    pub(super) async fn open_session(&self, jit_config: &JitConfig) -> SessionAnswer {
        let body = json!({ "jit_config": jit_config.expose(), "instance_id": self.process.instance_id });
        let Ok(response) = self.broker("sessions").json(&body).send().await else { return SessionAnswer::Failed };
        match response.status() {
            StatusCode::OK => match response.json::<Session>().await {
                Ok(Session { runner_id }) => SessionAnswer::Opened { runner_id },
                Err(_) => SessionAnswer::Failed,
            },
            StatusCode::NOT_FOUND => SessionAnswer::NotFound,
            StatusCode::CONFLICT => SessionAnswer::Conflict,
            _ => SessionAnswer::Failed,
        }
    }

    pub(super) async fn poll(&self, runner_id: u64) -> PollAnswer {
        let url = format!("{}/broker/messages?runner_id={runner_id}", self.process.world_url);
        let Ok(response) = self.http.get(url).send().await else { return PollAnswer::Failed };
        match response.status() {
            StatusCode::OK => response.json().await.map_or(PollAnswer::Failed, PollAnswer::Job),
            StatusCode::NO_CONTENT => PollAnswer::Nothing,
            StatusCode::NOT_FOUND => PollAnswer::RunnerNotFound,
            _ => PollAnswer::Failed,
        }
    }

    pub(super) async fn acquire(&self, runner_id: u64, job_id: u64) -> Answer<()> {
        self.of_job(job_id, "acquire", &json!({ "runner_id": runner_id })).await
    }

    pub(super) async fn renew(&self, runner_id: u64, job_id: u64) -> Answer<()> {
        self.of_job(job_id, "renew", &json!({ "runner_id": runner_id })).await
    }

    pub(super) async fn complete(&self, runner_id: u64, job_id: u64, conclusion: &str) -> Answer<()> {
        let body = json!({ "runner_id": runner_id, "conclusion": conclusion });
        self.of_job(job_id, "complete", &body).await
    }

    pub(super) async fn power_off(&self) -> bool {
        let url = format!("{}/control/instances/{}/power-off", self.process.world_url, self.process.instance_id);
        self.http.post(url).send().await.is_ok_and(|response| response.status().is_success())
    }

    async fn of_job(&self, job_id: u64, act: &str, body: &Value) -> Answer<()> {
        let Ok(response) = self.broker(&format!("jobs/{job_id}/{act}")).json(body).send().await else {
            return Answer::Failed;
        };
        match response.status() {
            StatusCode::OK => Answer::Found(()),
            // The three refusals of acquirejob that the real listener knows (facts/github.md 1.5).
            StatusCode::NOT_FOUND | StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY => Answer::Absent,
            _ => Answer::Failed,
        }
    }

    async fn metadata_token(&self) -> Option<String> {
        let mut known = self.metadata_token.lock().await;
        if known.is_none() {
            let request = self.http.put(self.metadata_url("api/token"));
            let request = request.header("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_TTL_SECONDS);
            let response = request.send().await.ok()?.error_for_status().ok()?;
            *known = Some(response.text().await.ok()?);
        }
        known.clone()
    }

    fn metadata_url(&self, item: &str) -> String {
        format!("{}/imds/{}/latest/{item}", self.process.world_url, self.process.instance_id)
    }

    fn broker(&self, path: &str) -> RequestBuilder {
        self.http.post(format!("{}/broker/{path}", self.process.world_url))
    }

    fn parameter_name(&self) -> String {
        format!("{}/{}", self.process.parameter_path, self.process.instance_id)
    }

    fn ssm(&self, operation: &str, body: &Value) -> RequestBuilder {
        let target = format!("AmazonSSM.{operation}");
        self.aws(&self.process.ssm_endpoint, ("ssm", &target, "application/x-amz-json-1.1"), body)
    }

    /// A call of an AWS JSON protocol. The emulator verifies no signature; it routes by the credential scope.
    fn aws(&self, endpoint: &str, (service, target, content_type): (&str, &str, &str), body: &Value) -> RequestBuilder {
        let scope = format!("instance/20260101/us-east-1/{service}/aws4_request");
        let authorization = format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0");
        self.http
            .post(format!("{endpoint}/"))
            .header("authorization", authorization)
            .header("x-amz-target", target)
            .header("content-type", content_type)
            .body(body.to_string())
    }
}

/// What a refused parameter call means: only SSM's own word for it is an absence.
async fn parameter_refusal<T>(response: Response) -> Answer<T> {
    match response.text().await {
        Ok(text) if text.contains("ParameterNotFound") => Answer::Absent,
        Ok(_) | Err(_) => Answer::Failed,
    }
}
