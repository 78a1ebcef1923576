//! The few calls of AWS, signed by `aws-sigv4`: the JIT configuration, the vital sign, the logs.

use crate::clock::Clock;
use crate::http::{HttpError, plain_agent, text, tls_agent};
use crate::metadata::{Identity, Metadata};
use crate::secret::Secret;
use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SigningError, SigningInstructions, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use runner_supervisor_decision::{Millis, Occupation};
use serde_json::{Value, json};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};
use ureq::Agent;

/// An item that nobody renews any more is dropped after a week, like every closed record.
const VITAL_SIGN_KEPT_SECONDS: i64 = 7 * 86_400;

/// The client.
pub(crate) struct Aws {
    /// Who we are, and with whose rights.
    pub(crate) metadata: Metadata,
    endpoint: Option<String>,
    parameter_path: String,
    vital_signs_table: String,
    vital_signs_key_prefix: String,
    clock: Arc<dyn Clock>,
    agent: OnceLock<Agent>,
}

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AwsError {
    /// It was not answered, or refused.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// It could not be signed.
    #[error("a call of {service} could not be signed")]
    Signature {
        /// Whom it was for.
        service: &'static str,
        /// Why.
        #[source]
        source: SigningError,
    },
}

/// What the instance says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VitalSign {
    /// What runs.
    pub(crate) worker: Occupation,
    /// When the last drain request was seen, in milliseconds since the Unix epoch.
    pub(crate) drain_seen_at: Option<Millis>,
}

/// An operation of an AWS JSON protocol.
struct Operation {
    service: &'static str,
    target: &'static str,
    content_type: &'static str,
}

const GET_PARAMETER: Operation =
    Operation { service: "ssm", target: "AmazonSSM.GetParameter", content_type: "application/x-amz-json-1.1" };
const DELETE_PARAMETER: Operation =
    Operation { service: "ssm", target: "AmazonSSM.DeleteParameter", content_type: "application/x-amz-json-1.1" };
const PUT_ITEM: Operation =
    Operation { service: "dynamodb", target: "DynamoDB_20120810.PutItem", content_type: "application/x-amz-json-1.0" };
const CREATE_LOG_STREAM: Operation =
    Operation { service: "logs", target: "Logs_20140328.CreateLogStream", content_type: "application/x-amz-json-1.1" };
const PUT_LOG_EVENTS: Operation =
    Operation { service: "logs", target: "Logs_20140328.PutLogEvents", content_type: "application/x-amz-json-1.1" };

impl Aws {
    /// A client; nothing is asked yet.
    #[must_use]
    pub(crate) fn new(config: &crate::config::Config, clock: Arc<dyn Clock>) -> Self {
        Self {
            metadata: Metadata::new(config.metadata_endpoint.clone(), Arc::clone(&clock)),
            endpoint: config.aws_endpoint.clone(),
            parameter_path: config.parameter_path.clone(),
            vital_signs_table: config.vital_signs_table.clone(),
            vital_signs_key_prefix: config.vital_signs_key_prefix.clone(),
            clock,
            agent: OnceLock::new(),
        }
    }

    /// The instance's own JIT configuration; `None` when it is not there (yet).
    ///
    /// # Errors
    /// When nobody said whether it is.
    pub(crate) fn configuration(&self) -> Result<Option<Secret>, AwsError> {
        let name = self.parameter_name()?;
        match self.call(&GET_PARAMETER, &json!({ "Name": name, "WithDecryption": true })) {
            Ok(answer) => match answer.pointer("/Parameter/Value").and_then(Value::as_str) {
                Some(value) => Ok(Some(Secret::new(value))),
                None => Err(HttpError::Shape { what: "ssm GetParameter".to_owned() }.into()),
            },
            Err(error) if is_called(&error, "ParameterNotFound") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes it; one that is gone already is deleted.
    ///
    /// # Errors
    /// When it may still be there.
    pub(crate) fn delete_configuration(&self) -> Result<(), AwsError> {
        let name = self.parameter_name()?;
        match self.call(&DELETE_PARAMETER, &json!({ "Name": name })) {
            Ok(_) => Ok(()),
            Err(error) if is_called(&error, "ParameterNotFound") => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Writes the vital sign on the instance's own key: times in milliseconds since the Unix epoch, `expires_at` in
    /// seconds.
    ///
    /// # Errors
    /// When it may not have been written.
    pub(crate) fn write_vital_sign(&self, sign: VitalSign) -> Result<(), AwsError> {
        let beat_at = self.clock.wall();
        let number = |value: i64| json!({ "N": value.to_string() });
        let mut item = json!({
            "instance_id": { "S": format!("{}{}", self.vital_signs_key_prefix, self.identity()?.instance_id) },
            "beat_at": number(beat_at),
            "worker": { "S": sign.worker.name() },
            "expires_at": number(beat_at / 1_000 + VITAL_SIGN_KEPT_SECONDS),
        });
        if let (Some(at), Some(fields)) = (sign.drain_seen_at, item.as_object_mut()) {
            fields.insert("drain_seen_at".to_owned(), number(at));
        }
        self.call(&PUT_ITEM, &json!({ "TableName": self.vital_signs_table, "Item": item })).map(drop)
    }

    /// Makes the instance's own log stream.
    ///
    /// # Errors
    /// When there may be none.
    pub(crate) fn create_log_stream(&self, group: &str) -> Result<(), AwsError> {
        let stream = self.identity()?.instance_id;
        match self.call(&CREATE_LOG_STREAM, &json!({ "logGroupName": group, "logStreamName": stream })) {
            Ok(_) => Ok(()),
            Err(error) if is_called(&error, "ResourceAlreadyExistsException") => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Writes lines to the instance's own log stream.
    ///
    /// # Errors
    /// When they may not have been written.
    pub(crate) fn put_log_events(&self, group: &str, lines: &[String]) -> Result<(), AwsError> {
        let (stream, timestamp) = (self.identity()?.instance_id, self.clock.wall());
        let events: Vec<_> = lines.iter().map(|line| json!({ "timestamp": timestamp, "message": line })).collect();
        let body = json!({ "logGroupName": group, "logStreamName": stream, "logEvents": events });
        self.call(&PUT_LOG_EVENTS, &body).map(drop)
    }

    fn identity(&self) -> Result<Identity, HttpError> {
        self.metadata.identity()
    }

    fn parameter_name(&self) -> Result<String, HttpError> {
        Ok(format!("{}/{}", self.parameter_path, self.identity()?.instance_id))
    }

    fn call(&self, operation: &Operation, body: &Value) -> Result<Value, AwsError> {
        let Operation { service, target, content_type } = *operation;
        let what = format!("{service} {}", target.rsplit('.').next().unwrap_or_default());
        let identity = self.identity()?;
        let url = match &self.endpoint {
            Some(endpoint) => format!("{endpoint}/"),
            None => format!("https://{service}.{}.{}/", identity.region, identity.domain),
        };
        let body = body.to_string();
        let headers = [("content-type", content_type), ("x-amz-target", target)];
        let signature = self.signature(service, &identity, &url, &headers, body.as_bytes())?;
        let agent = self.agent.get_or_init(|| if url.starts_with("https://") { tls_agent() } else { plain_agent() });
        // The simulated world counts calls by this name.
        let mut request = agent
            .post(&url)
            .header("user-agent", concat!("app/instance runner-supervisor/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers.into_iter().chain(signature.headers()) {
            request = request.header(name, value);
        }
        let answer = request.send(&body);
        let mut response = answer.map_err(|source| HttpError::NoAnswer { what: what.clone(), source })?;
        let answer = text(&what, &mut response)?;
        let parsed = serde_json::from_str::<Value>(&answer).ok();
        if !response.status().is_success() {
            let code = parsed.as_ref().and_then(|answer| answer.get("__type")?.as_str()).map(error_name);
            if code.as_deref().is_some_and(|code| code.contains("ExpiredToken") || code.contains("UnrecognizedClient"))
            {
                self.metadata.forget_credentials();
            }
            return Err(HttpError::Refused { what, status: response.status(), code }.into());
        }
        match parsed {
            Some(answer) => Ok(answer),
            None if answer.is_empty() => Ok(Value::Null),
            None => Err(HttpError::Shape { what }.into()),
        }
    }

    /// The headers that prove who asks.
    fn signature(
        &self,
        service: &'static str,
        identity: &Identity,
        url: &str,
        headers: &[(&'static str, &'static str)],
        body: &[u8],
    ) -> Result<SigningInstructions, AwsError> {
        let failed = |source: SigningError| AwsError::Signature { service, source };
        let rights = self.metadata.credentials()?.into();
        let parameters = v4::SigningParams::builder()
            .identity(&rights)
            .region(&identity.region)
            .name(service)
            .time(SystemTime::UNIX_EPOCH + Duration::from_millis(self.clock.wall().unsigned_abs()))
            .settings(SigningSettings::default())
            .build()
            .expect("everything that has no default is given")
            .into();
        let request = SignableRequest::new("POST", url, headers.iter().copied(), SignableBody::Bytes(body));
        let signed = sign(request.map_err(failed)?, &parameters).map_err(failed)?;
        Ok(signed.into_parts().0)
    }
}

/// `com.amazonaws.dynamodb.v20120810#ValidationException` is called `ValidationException`.
fn error_name(kind: &str) -> String {
    kind.rsplit('#').next().unwrap_or_default().chars().take(80).collect()
}

fn is_called(error: &AwsError, name: &str) -> bool {
    match error {
        AwsError::Http(HttpError::Refused { code: Some(code), .. }) => code == name,
        AwsError::Http(
            HttpError::Refused { code: None, .. } | HttpError::NoAnswer { .. } | HttpError::Shape { .. },
        )
        | AwsError::Signature { .. } => false,
    }
}
