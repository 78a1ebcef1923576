//! The environment variables of every function (design section 9).

use super::{ConfigError, Mutant};
use crate::ids::Deployment;

/// What GitHub lets an App's installation spend on its REST API in a minute (documentation, "Rate limits for the REST
/// API", secondary limits, read 2026-11-20). An Enterprise Server has limits of its own, or none.
const POINTS_PER_MINUTE: u32 = 900;

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
    /// `SCALE_UP_QUEUE_URL`
    pub scale_up_queue_url: String,
    /// `RUNNER_PARAMETER_PATH`, without a slash at its end.
    pub runner_parameter_path: String,
    /// `KILL_SWITCH_PARAMETER`
    pub kill_switch_parameter: String,
    /// `GITHUB_API_URL`, without a slash at its end.
    pub github_api_url: String,
    /// `GITHUB_POINTS_PER_MINUTE`: what changes at GitHub may cost in a minute, each 5.
    pub github_points_per_minute: u32,
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

        let points_text = lookup("GITHUB_POINTS_PER_MINUTE").unwrap_or_else(|| POINTS_PER_MINUTE.to_string());
        let points = points_text.parse::<u32>().ok().filter(|points| (60..=1_000_000).contains(points));
        if points.is_none() {
            mistakes.push(format!(
                "GITHUB_POINTS_PER_MINUTE: {points_text:?} is no number from 60 to 1000000; unset it for GitHub's own limit"
            ));
        }

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
            scale_up_queue_url,
            runner_parameter_path: without_slash(runner_parameter_path),
            kill_switch_parameter,
            github_api_url: without_slash(github_api_url),
            github_points_per_minute: points.unwrap_or(POINTS_PER_MINUTE),
            loopback,
            mutant: mutant.unwrap_or_default(),
        })
    }
}

/// Whether a URL's host is this machine, and certainly so: `http://127.0.0.1.example.org` and
/// `http://localhost@example.org` are not.
fn is_loopback(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")) else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(""),
        None => authority.split(':').next().unwrap_or(""),
    };
    !authority.contains('@')
        && (host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback()))
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
            "RUNNER_SCALER_MUTANT" | "GITHUB_POINTS_PER_MINUTE" => return None,
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
    fn the_pace_is_githubs_own_unless_another_is_set() {
        let with = |text: &'static str| {
            Environment::from_vars(move |name| match name {
                "GITHUB_POINTS_PER_MINUTE" => Some(text.to_owned()),
                other => vars(other),
            })
        };
        assert_eq!(Environment::from_vars(vars).expect("complete").github_points_per_minute, 900);
        assert_eq!(with("60000").expect("a number").github_points_per_minute, 60_000);
        for text in ["0", "59", "1000001", "fast", ""] {
            let error = with(text).expect_err(text);
            assert!(error.to_string().contains("GITHUB_POINTS_PER_MINUTE: "), "{text}: {error}");
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
