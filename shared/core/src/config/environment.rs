//! The environment variables of every function (design section 9).

use std::time::Duration;

use super::{ConfigError, Mutant};
use crate::ids::Deployment;

/// Names and addresses; no policy and no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// `ENVIRONMENT`
    pub deployment: Deployment,
    /// `CONFIG_PARAMETER`: SSM name of the configuration document.
    pub config_parameter: String,
    /// `GITHUB_APP_PATH`: SSM path with `app-id`, `private-key`, `webhook-secret`, without a slash at its end.
    pub github_app_path: String,
    /// `LEDGER_TABLE`
    pub ledger_table: String,
    /// `VITAL_SIGNS_TABLE`
    pub vital_signs_table: String,
    /// `VITAL_SIGNS_KEY_PREFIX`: what stands before the instance's id in the key of its vital sign. IAM lets an instance
    /// write the item whose key is its `aws:userid`, which is its role's id, a colon and its own id (docs.aws.amazon.com,
    /// IAM policy variables, read 2026-11-26). Empty by default.
    pub vital_signs_key_prefix: String,
    /// `SCALE_UP_QUEUE_URL`
    pub scale_up_queue_url: String,
    /// `RUNNER_PARAMETER_PATH`, without a slash at its end.
    pub runner_parameter_path: String,
    /// `KILL_SWITCH_PARAMETER`
    pub kill_switch_parameter: String,
    /// `GITHUB_API_URL`, without a slash at its end.
    pub github_api_url: String,
    /// Whether `GITHUB_API_URL` and `AWS_ENDPOINT_URL` are both loopback: only then are test timers accepted.
    pub loopback: bool,
    /// `RUNNER_SCALER_MUTANT`: refused by any build without the cargo feature `mutants`, and off this machine.
    pub mutant: Mutant,
}

impl Environment {
    /// Reads every variable through `lookup`, then reports all that are missing or wrong.
    pub fn from_vars(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut mistakes = Vec::new();
        let mut required = |name: &str| {
            lookup(name).filter(|value| !value.is_empty()).unwrap_or_else(|| {
                mistakes.push(format!("{name}: missing; set this environment variable"));
                String::new()
            })
        };
        let deployment = required("ENVIRONMENT");
        let config_parameter = required("CONFIG_PARAMETER");
        let github_app_path = required("GITHUB_APP_PATH");
        let ledger_table = required("LEDGER_TABLE");
        let vital_signs_table = required("VITAL_SIGNS_TABLE");
        let scale_up_queue_url = required("SCALE_UP_QUEUE_URL");
        let runner_parameter_path = required("RUNNER_PARAMETER_PATH");
        let kill_switch_parameter = required("KILL_SWITCH_PARAMETER");
        let github_api_url = lookup("GITHUB_API_URL").unwrap_or_else(|| "https://api.github.com".to_owned());

        let named = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        if !deployment.is_empty() && (deployment.len() > 32 || !deployment.bytes().all(named)) {
            mistakes.push(format!("ENVIRONMENT: {deployment:?} is not [a-z0-9-]{{1,32}}"));
        }
        let github_is_loopback = is_loopback(&github_api_url);
        if !github_is_loopback && !github_api_url.starts_with("https://") {
            mistakes.push(format!("GITHUB_API_URL: {github_api_url:?} must begin with https://"));
        }
        let loopback = github_is_loopback && lookup("AWS_ENDPOINT_URL").is_some_and(|url| is_loopback(&url));
        let mutant_name = lookup("RUNNER_SCALER_MUTANT").unwrap_or_default();
        let mutant = Mutant::named(&mutant_name).filter(|mutant| *mutant == Mutant::None || loopback);
        if mutant.is_none() {
            mistakes.push(format!("RUNNER_SCALER_MUTANT: {mutant_name:?} is not for this build or place; unset it"));
        }
        if !mistakes.is_empty() {
            return Err(ConfigError(mistakes));
        }
        let without_slash = |text: String| text.trim_end_matches('/').to_owned();
        Ok(Self {
            deployment: Deployment::new(deployment),
            config_parameter,
            github_app_path: without_slash(github_app_path),
            ledger_table,
            vital_signs_table,
            vital_signs_key_prefix: lookup("VITAL_SIGNS_KEY_PREFIX").unwrap_or_default(),
            scale_up_queue_url,
            runner_parameter_path: without_slash(runner_parameter_path),
            kill_switch_parameter,
            github_api_url: without_slash(github_api_url),
            loopback,
            mutant: mutant.unwrap_or_default(),
        })
    }
}

impl Environment {
    /// How long GitHub keeps the log of deliveries and redelivers what is in it: 3 days at github.com and ghe.com, 7 on
    /// a server of one's own (facts/github.md 3.1). Shorter than it is, and a lost event is given up while it could be
    /// read; longer, and one that is lost keeps its instances in vain.
    #[must_use]
    pub fn delivery_log_kept(&self) -> Duration {
        let host = host_of(&self.github_api_url).unwrap_or_default().to_ascii_lowercase();
        let days = if host == "api.github.com" || host.ends_with(".ghe.com") { 3 } else { 7 };
        Duration::from_hours(days * 24)
    }
}

/// Whether a URL's host is this machine, and certainly so: `http://127.0.0.1.example.org` and
/// `http://localhost@example.org` are not.
fn is_loopback(url: &str) -> bool {
    host_of(url).is_some_and(|host| {
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    })
}

/// The host of a URL; `None` where it is none of ours to judge, as before a name and password.
fn host_of(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"))?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next(),
        None => authority.split(':').next(),
    };
    host.filter(|_| !authority.contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(name: &str) -> Option<String> {
        let value = match name {
            "ENVIRONMENT" => "prod",
            "GITHUB_APP_PATH" => "/rs/app/",
            "GITHUB_API_URL" => "http://127.0.0.1:8080/",
            "AWS_ENDPOINT_URL" => "http://localhost:4566",
            "RUNNER_SCALER_MUTANT" => return None,
            _ => "x",
        };
        Some(value.to_owned())
    }

    #[test]
    fn a_full_environment_is_read() {
        let environment = Environment::from_vars(vars).expect("complete");
        assert_eq!(environment.github_app_path, "/rs/app");
        assert_eq!(environment.github_api_url, "http://127.0.0.1:8080");
        assert!(environment.loopback);
    }

    #[test]
    fn every_missing_variable_is_named_at_once() {
        let error = Environment::from_vars(|_| None).expect_err("nothing is set");
        assert_eq!(error.0.len(), 8, "{error}");
        assert!(error.to_string().starts_with("8 mistakes in the configuration: ENVIRONMENT: missing"));
    }

    #[test]
    fn a_mutant_is_refused_off_this_machine_and_by_any_build_that_has_none() {
        for name in Mutant::NAMES.iter().copied().chain(["m34", "m99"]) {
            let on = |github: &'static str| {
                Environment::from_vars(move |variable| match variable {
                    "RUNNER_SCALER_MUTANT" => Some(name.to_owned()),
                    "GITHUB_API_URL" => Some(github.to_owned()),
                    other => vars(other),
                })
            };
            let known = Mutant::named(name).is_some_and(|_| cfg!(feature = "mutants"));
            assert_eq!(on("http://127.0.0.1:8080").is_ok_and(|here| here.mutant.name() == name), known, "{name}");
            let error = on("https://api.github.com").expect_err("off this machine");
            assert!(error.to_string().contains("RUNNER_SCALER_MUTANT"), "{name}: {error}");
        }
    }

    #[test]
    fn only_true_loopback_addresses_count() {
        for (url, expected) in [
            ("http://127.0.0.1:1/", true),
            ("http://[::1]:1", true),
            ("http://localhost", true),
            ("http://127.0.0.1.example.org", false),
            ("http://localhost@example.org", false),
            ("http://user@127.0.0.1", false),
            ("https://api.github.com", false),
            ("127.0.0.1", false),
        ] {
            assert_eq!(is_loopback(url), expected, "{url}");
        }
    }

    #[test]
    fn a_server_of_ones_own_keeps_its_deliveries_for_longer() {
        for (url, days) in [
            ("https://api.github.com", 3),
            ("https://API.GitHub.com:443/", 3),
            ("https://api.octo.ghe.com", 3),
            ("https://github.example.org/api/v3", 7),
            ("https://api.github.com.example.org", 7),
            ("https://ghe.com.example.org/api/v3", 7),
        ] {
            let named = |name: &str| if name == "GITHUB_API_URL" { Some(url.to_owned()) } else { vars(name) };
            let environment = Environment::from_vars(named).expect("complete");
            assert_eq!(environment.delivery_log_kept(), Duration::from_hours(days * 24), "{url}");
        }
    }

    #[test]
    fn github_over_plain_http_is_refused_off_this_machine() {
        let error = Environment::from_vars(|name| match name {
            "GITHUB_API_URL" => Some("http://github.example.org".into()),
            other => vars(other),
        })
        .expect_err("a token would travel in the clear");
        assert!(error.to_string().contains("GITHUB_API_URL"), "{error}");
    }
}
