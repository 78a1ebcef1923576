//! What GitHub is asked for: addresses and the App's manifest. Sends nothing.
//!
//! The format is GitHub's "Registering a GitHub App from a manifest" (docs.github.com, read 2026-11-20).

use serde_json::{Value, json};

use crate::failure::Failure;
use crate::https::is_loopback;

/// A GitHub, by the address that people use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Site {
    /// Without a slash at its end.
    pub(crate) url: String,
    /// Its REST API, without a slash at its end.
    pub(crate) api_url: String,
}

/// Where runners are registered, and so what the App must be allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runners {
    /// With an organisation.
    Organization,
    /// With an organisation, and with repositories of it.
    OrganizationAndRepositories,
    /// With repositories of a user, who has no runners of their own.
    Repositories,
}

impl Site {
    /// Reads an address: `https://github.com`, `https://SUBDOMAIN.ghe.com` or that of an Enterprise Server.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let unusable =
            |remedy: &str| Failure::Unusable { what: format!("--github-url {text:?}"), remedy: remedy.to_owned() };
        let url = text.trim_end_matches('/');
        let address = reqwest::Url::parse(url).map_err(|_| unusable("not an address; write https://github.com"))?;
        let host = address.host_str().unwrap_or_default().to_owned();
        let plain_here = address.scheme() == "http" && is_loopback(&address);
        if address.scheme() != "https" && !plain_here {
            return Err(unusable("must begin with https://; the private key travels over it"));
        }
        if address.path() != "/" || address.query().is_some() || !address.username().is_empty() {
            return Err(unusable("must be the site's address alone, without a path, query or user"));
        }
        let api_url = match host.as_str() {
            "github.com" | "www.github.com" => "https://api.github.com".to_owned(),
            host if host.ends_with(".ghe.com") => format!("https://api.{}", host.trim_start_matches("api.")),
            _ => format!("{url}/api/v3"),
        };
        Ok(Self { url: url.to_owned(), api_url })
    }

    /// Where the manifest is posted to.
    pub(crate) fn new_app_url(&self, organization: Option<&str>, state: &str) -> String {
        match organization {
            Some(organization) => format!("{}/organizations/{organization}/settings/apps/new?state={state}", self.url),
            None => format!("{}/settings/apps/new?state={state}", self.url),
        }
    }
}

/// The App's manifest.
pub(crate) fn manifest(name: &str, webhook_url: &str, redirect_url: &str, runners: Runners) -> Value {
    json!({
        "name": name,
        "url": "https://github.com/actions/runner",
        "description": "Launches EC2 instances for jobs of GitHub Actions, and ends them.",
        "public": false,
        "hook_attributes": { "url": webhook_url, "active": true },
        "redirect_url": redirect_url,
        "default_events": ["workflow_job"],
        "default_permissions": permissions(runners),
    })
}

/// What the functions use and nothing else: jobs are read, and their event sent, with `actions`; runners are registered
/// and deleted with one of the others. GitHub adds `metadata: read` to every permission on repositories.
fn permissions(runners: Runners) -> Value {
    match runners {
        Runners::Organization => json!({ "actions": "read", "organization_self_hosted_runners": "write" }),
        Runners::OrganizationAndRepositories => {
            json!({ "actions": "read", "organization_self_hosted_runners": "write", "administration": "write" })
        }
        Runners::Repositories => json!({ "actions": "read", "administration": "write" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_github_has_its_api_and_its_page_for_new_apps() {
        for (text, api, page) in [
            (
                "https://github.com",
                "https://api.github.com",
                "https://github.com/organizations/o/settings/apps/new?state=s",
            ),
            (
                "https://github.com/",
                "https://api.github.com",
                "https://github.com/organizations/o/settings/apps/new?state=s",
            ),
            (
                "https://octo.ghe.com",
                "https://api.octo.ghe.com",
                "https://octo.ghe.com/organizations/o/settings/apps/new?state=s",
            ),
            (
                "https://git.example.org:8443",
                "https://git.example.org:8443/api/v3",
                "https://git.example.org:8443/organizations/o/settings/apps/new?state=s",
            ),
            (
                "http://127.0.0.1:81",
                "http://127.0.0.1:81/api/v3",
                "http://127.0.0.1:81/organizations/o/settings/apps/new?state=s",
            ),
        ] {
            let site = Site::parse(text).unwrap();
            assert_eq!((site.api_url.as_str(), site.new_app_url(Some("o"), "s").as_str()), (api, page), "{text}");
        }
        let user = Site::parse("https://github.com").unwrap().new_app_url(None, "s");
        assert_eq!(user, "https://github.com/settings/apps/new?state=s");
        for wrong in [
            "",
            "github.com",
            "http://github.com",
            "https://github.com/octo",
            "https://a@github.com",
            "ftp://127.0.0.1",
        ] {
            assert!(Site::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_manifest_asks_for_exactly_what_the_functions_use() {
        let of = |runners| manifest("ours", "https://hook.example.org/", "http://127.0.0.1:1/made", runners);
        let organization = of(Runners::Organization);
        assert_eq!(organization["default_events"], json!(["workflow_job"]));
        assert_eq!(organization["hook_attributes"], json!({ "url": "https://hook.example.org/", "active": true }));
        assert_eq!((&organization["public"], &organization["name"]), (&json!(false), &json!("ours")));
        for (runners, expected) in [
            (Runners::Organization, json!({ "actions": "read", "organization_self_hosted_runners": "write" })),
            (
                Runners::OrganizationAndRepositories,
                json!({ "actions": "read", "organization_self_hosted_runners": "write", "administration": "write" }),
            ),
            (Runners::Repositories, json!({ "actions": "read", "administration": "write" })),
        ] {
            assert_eq!(of(runners)["default_permissions"], expected, "{runners:?}");
        }
    }
}
