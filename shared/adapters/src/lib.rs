//! The ports of the core crate over EC2, SQS, SSM, `DynamoDB` (AWS SDK) and GitHub (octocrab).
//!
//! The only crate that names an SDK, a clock or the environment. It decides nothing: it carries calls out, reads every
//! page, and says of each failure which class it has. What it refuses to know: why a call is made.

mod aws;
mod cache;
mod clock;
#[cfg(test)]
mod contract;
mod dynamodb;
mod ec2;
mod github;
mod http;
mod jitter;
#[cfg(test)]
mod leaves;
mod secret;
mod sqs;
mod ssm;
mod startup;
pub mod telemetry;
#[cfg(test)]
mod wire;

use std::sync::{Arc, OnceLock};

use aws_config::SdkConfig;
use runner_scaler_core::config::{Environment, Policy};
use runner_scaler_core::ids::InstanceId;
use runner_scaler_core::webhook::WebhookSecrets;
use tokio::sync::Mutex;

pub use clock::{SystemClock, process_env};
pub use secret::Secret;
pub use startup::{PolicyError, WebhookSecretsError};

use cache::Kept;
use dynamodb::LedgerTable;
use github::GitHub;
use http::Http;

/// All ports of one function's process.
#[derive(Debug)]
pub struct Adapters {
    environment: Environment,
    region: Option<String>,
    account: OnceLock<Account>,
    ec2: aws_sdk_ec2::Client,
    sqs: aws_sdk_sqs::Client,
    ssm: aws_sdk_ssm::Client,
    puts: ssm::Spacing,
    dynamodb: aws_sdk_dynamodb::Client,
    ledger: LedgerTable,
    github: GitHub,
    policy_cache: Mutex<Kept<Arc<Policy>>>,
    secrets_cache: Mutex<Kept<WebhookSecrets>>,
}

/// Where this function runs.
#[derive(Debug)]
struct Account {
    partition: String,
    id: String,
}

impl Adapters {
    /// Clients for that function, whose name its calls bear in their user agent. Makes no request and reads no
    /// certificate: what an event does not need is never fetched.
    pub async fn connect(environment: Environment, function: &'static str) -> Self {
        let http = Http::default();
        let config = aws::sdk_config(&http, function).await;
        Self::over(environment, function, http, &config)
    }

    /// Calls GitHub at another pace than its published 900 points a minute, for a GitHub that has another limit.
    #[must_use]
    pub fn at_pace(mut self, points_a_minute: u32) -> Self {
        self.github.pressure.set_pace(points_a_minute);
        self
    }

    /// Notes partition and account from the ARN of the function, which only an invocation knows
    /// (`invoked_function_arn`); parameters are then tagged with the ARN of their instance.
    pub fn learn_account(&self, invoked_function_arn: &str) {
        if let Some(account) = Account::of_arn(invoked_function_arn) {
            self.account.get_or_init(|| account);
        }
    }

    fn over(environment: Environment, function: &'static str, http: Http, config: &SdkConfig) -> Self {
        let ssm = aws_sdk_ssm::Client::new(config);
        let dynamodb = dynamodb::client(config);
        let ledger = LedgerTable::new(dynamodb.clone(), &environment.ledger_table);
        Self {
            region: config.region().map(ToString::to_string),
            account: OnceLock::new(),
            ec2: aws_sdk_ec2::Client::new(config),
            sqs: aws_sdk_sqs::Client::new(config),
            github: GitHub::new(&environment, function, http, ssm.clone(), ledger.clone()),
            ssm,
            puts: ssm::Spacing::default(),
            dynamodb,
            ledger,
            environment,
            policy_cache: Mutex::new(Kept::new()),
            secrets_cache: Mutex::new(Kept::new()),
        }
    }

    fn environment(&self) -> &Environment {
        &self.environment
    }

    fn ec2(&self) -> &aws_sdk_ec2::Client {
        &self.ec2
    }

    fn sqs(&self) -> &aws_sdk_sqs::Client {
        &self.sqs
    }

    fn ssm(&self) -> &aws_sdk_ssm::Client {
        &self.ssm
    }

    fn puts(&self) -> &ssm::Spacing {
        &self.puts
    }

    fn dynamodb(&self) -> &aws_sdk_dynamodb::Client {
        &self.dynamodb
    }

    fn ledger(&self) -> &LedgerTable {
        &self.ledger
    }

    fn github(&self) -> &GitHub {
        &self.github
    }

    fn policy_cache(&self) -> &Mutex<Kept<Arc<Policy>>> {
        &self.policy_cache
    }

    fn secrets_cache(&self) -> &Mutex<Kept<WebhookSecrets>> {
        &self.secrets_cache
    }

    fn instance_arn(&self, instance_id: &InstanceId) -> Option<String> {
        let (account, region) = (self.account.get()?, self.region.as_deref()?);
        Some(format!("arn:{}:ec2:{region}:{}:instance/{instance_id}", account.partition, account.id))
    }
}

impl Account {
    /// Of `arn:<partition>:lambda:<region>:<account>:function:<name>`.
    fn of_arn(arn: &str) -> Option<Self> {
        let mut parts = arn.split(':');
        match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("arn"), Some(partition), Some(_), Some(_), Some(id)) if !partition.is_empty() && !id.is_empty() => {
                Some(Self { partition: partition.to_owned(), id: id.to_owned() })
            }
            (..) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partition_and_account_are_read_from_the_functions_arn() {
        let account = Account::of_arn("arn:aws-cn:lambda:cn-north-1:123456789012:function:scale-up").expect("an ARN");
        assert_eq!((account.partition.as_str(), account.id.as_str()), ("aws-cn", "123456789012"));
        for wrong in ["", "scale-up", "arn:aws:lambda:eu-west-1", "arn::lambda:r:1:function:f"] {
            assert!(Account::of_arn(wrong).is_none(), "{wrong:?}");
        }
    }
}
