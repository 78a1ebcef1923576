//! AWS as the person at the keyboard: SSM by signed requests.
//!
//! Signed here with `aws-sigv4`, the signer of AWS's own SDK, and not sent by the `aws` command: a value on a command
//! line can be read by every user of the machine, and the same code then speaks to AWS and to an emulator. The SDK itself
//! would make this command link what only functions need. The credentials are those of the environment, or else what the
//! AWS CLI resolves, for it alone knows profiles, roles and single sign-on.

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use runner_scaler_world::http::server::wall_now;
use serde::Deserialize;
use serde_json::Value;
use tokio::process::Command;
use ureq::Agent;

use crate::failure::Failure;
use crate::https::{Answer, agent_for, post};
use crate::system;

/// An account's SSM.
pub(crate) struct Aws {
    agent: Agent,
    endpoint: String,
    region: String,
    credentials: Credentials,
}

impl fmt::Debug for Aws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Aws({} in {}, credentials <redacted>)", self.endpoint, self.region)
    }
}

/// What `aws configure export-credentials --format process` prints.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Exported {
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
}

impl Aws {
    /// Region, credentials and address of the environment.
    pub(crate) async fn from_environment() -> Result<Self, Failure> {
        let variable = |name: &str| system::variable(name)?.into_string().ok().filter(|text| !text.is_empty());
        let region = match variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION")) {
            Some(region) => region,
            None => command_line(&["configure", "get", "region"]).await?.trim().to_owned(),
        };
        if region.is_empty() || !region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(Failure::Unusable {
                what: format!("the AWS region {region:?}"),
                remedy: "set AWS_REGION, for example eu-west-1".to_owned(),
            });
        }
        let credentials = match (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
            (Some(id), Some(secret)) => {
                Credentials::new(id, secret, variable("AWS_SESSION_TOKEN"), None, "environment")
            }
            (_, _) => exported().await?,
        };
        let endpoint = variable("AWS_ENDPOINT_URL_SSM").or_else(|| variable("AWS_ENDPOINT_URL"));
        let endpoint = endpoint.map_or_else(|| ssm_url(&region), |url| url.trim_end_matches('/').to_owned());
        Ok(Self { agent: agent_for(&endpoint), endpoint, region, credentials })
    }

    /// One call of SSM. An error tells AWS's code, not its message, which can quote the value that was sent.
    pub(crate) async fn ssm(&self, operation: &str, request: &Value) -> Result<Value, Failure> {
        let name = format!("SSM {operation}");
        let body = request.to_string();
        let headers = self.signed_headers(operation, &body)?;
        let Answer { status, body } =
            post(&self.agent, &name, format!("{}/", self.endpoint), headers, body.into_bytes()).await?;
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status == 200 {
            return Ok(answer);
        }
        let code = answer["__type"].as_str().and_then(|code| code.rsplit('#').next()).unwrap_or("no code").to_owned();
        Err(match remedy(&code) {
            Some(remedy) => {
                Failure::Unusable { what: format!("{name} was refused ({code})"), remedy: remedy.to_owned() }
            }
            None => Failure::Refused { operation: name, status, body: code },
        })
    }

    fn signed_headers(&self, operation: &str, body: &str) -> Result<Vec<(String, String)>, Failure> {
        let shape = |what: &str| Failure::Shape { what: what.to_owned() };
        let own = [
            ("content-type", "application/x-amz-json-1.1".to_owned()),
            ("x-amz-target", format!("AmazonSSM.{operation}")),
        ];
        let identity = self.credentials.clone().into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("ssm")
            .time(now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|_| shape("a signature's parameters"))?
            .into();
        let plain = || own.iter().map(|(name, value)| (*name, value.as_str()));
        let url = format!("{}/", self.endpoint);
        let signable = SignableRequest::new("POST", &url, plain(), SignableBody::Bytes(body.as_bytes()))
            .map_err(|_| shape("the address of SSM"))?;
        let (instructions, _) = sign(signable, &params).map_err(|_| shape("a signature"))?.into_parts();
        let all = plain().chain(instructions.headers());
        Ok(all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

/// Whether the same call may pass a little later: no answer, a fault of AWS's, or its request to go slower.
pub(crate) fn may_pass(failure: &Failure) -> bool {
    match failure {
        Failure::Call { .. } => true,
        Failure::Refused { status, body: code, .. } => {
            *status >= 500 || ["InternalServerError", "ThrottlingException", "TooManyUpdates"].contains(&code.as_str())
        }
        Failure::Missing { .. }
        | Failure::Program { .. }
        | Failure::Io { .. }
        | Failure::Unusable { .. }
        | Failure::Http { .. }
        | Failure::Shape { .. }
        | Failure::Late { .. } => false,
    }
}

/// What a person can do about an error of SSM's.
fn remedy(code: &str) -> Option<&'static str> {
    Some(match code {
        "AccessDeniedException" => {
            "allow ssm:GetParameters and ssm:PutParameter below --app-path, and kms:Encrypt for --kms-key-id"
        }
        "ExpiredTokenException" | "UnrecognizedClientException" | "InvalidSignatureException" => {
            "the credentials have ended or are of another account; sign in again"
        }
        "ParameterAlreadyExists" => "somebody stored an App there meanwhile; see --replace",
        "InvalidKeyId" => "--kms-key-id names no key that can be used here",
        _ => return None,
    })
}

/// SSM's own address (docs.aws.amazon.com, Systems Manager endpoints, read 2026-11-20).
fn ssm_url(region: &str) -> String {
    let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("https://ssm.{region}.{suffix}")
}

async fn exported() -> Result<Credentials, Failure> {
    let text = command_line(&["configure", "export-credentials", "--format", "process"]).await?;
    let exported: Exported = serde_json::from_str(&text)
        .map_err(|_| Failure::Shape { what: "what `aws configure export-credentials` printed".to_owned() })?;
    let Exported { access_key_id, secret_access_key, session_token } = exported;
    Ok(Credentials::new(access_key_id, secret_access_key, session_token, None, "aws configure export-credentials"))
}

/// What the AWS CLI prints.
async fn command_line(arguments: &[&str]) -> Result<String, Failure> {
    let remedy = "set AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or install the AWS CLI (version 2.13 or \
                  newer) and sign in with it";
    let output = Command::new("aws")
        .args(arguments)
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|_| Failure::Missing { what: "a region or credentials for AWS", remedy: remedy.to_owned() })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    // Its words on the standard error say what is missing; the credentials are on the other.
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure::Unusable { what: format!("aws {} failed ({words})", arguments.join(" ")), remedy: remedy.to_owned() })
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(wall_now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aws() -> Aws {
        let endpoint = "https://ssm.eu-west-1.amazonaws.com".to_owned();
        Aws {
            agent: agent_for("http://127.0.0.1"),
            endpoint,
            region: "eu-west-1".to_owned(),
            credentials: Credentials::new("AKIDEXAMPLE", "hunter2hunter2", Some("a-session".to_owned()), None, "test"),
        }
    }

    #[test]
    fn a_request_is_signed_for_ssm_and_carries_the_session() {
        let headers = aws().signed_headers("PutParameter", "{}").unwrap();
        let header = |wanted: &str| {
            let mut found = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.next().map(|(_, value)| value.as_str()).expect(wanted)
        };
        let signature = header("authorization");
        assert!(signature.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"), "{signature}");
        assert!(signature.contains("/eu-west-1/ssm/aws4_request, SignedHeaders="), "{signature}");
        assert!(signature.contains("host;") && signature.contains("x-amz-target"), "{signature}");
        assert_eq!((header("x-amz-security-token"), header("x-amz-target")), ("a-session", "AmazonSSM.PutParameter"));
        assert!(headers.iter().all(|(_, value)| !value.contains("hunter2")));
    }

    #[test]
    fn credentials_are_not_printed() {
        assert!(!format!("{:?}", aws()).contains("hunter2"));
    }

    #[test]
    fn each_partition_has_its_address() {
        assert_eq!(ssm_url("eu-west-1"), "https://ssm.eu-west-1.amazonaws.com");
        assert_eq!(ssm_url("cn-north-1"), "https://ssm.cn-north-1.amazonaws.com.cn");
        assert_eq!(ssm_url("us-gov-west-1"), "https://ssm.us-gov-west-1.amazonaws.com");
    }
}
