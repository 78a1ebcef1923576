//! `runner-scaler app create`: from nothing to an App whose key lies in SSM.

use std::time::Duration;

use clap::Args;
use ureq::Agent;

use super::manifest::{Runners, Site, manifest};
use super::page::{Listening, Page, escaped};
use super::store::{Existing, Store};
use super::{github, github::NewApp};
use crate::Outcome;
use crate::aws::Aws;
use crate::console::Console;
use crate::failure::{Failure, chain};
use crate::https::agent_for;
use crate::local::secrets::random;

/// GitHub's codes serve for an hour (docs.github.com, "Registering a GitHub App from a manifest", read 2026-11-20).
const PATIENCE: Duration = Duration::from_hours(1);

/// Options of `runner-scaler app create`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// SSM path below which the App is stored; the functions' `GITHUB_APP_PATH`.
    #[arg(long, env = "GITHUB_APP_PATH", value_name = "PATH", value_parser = app_path)]
    app_path: String,
    /// Where GitHub sends deliveries to: the output `webhook_url` of the Terraform module.
    #[arg(long, value_name = "URL", value_parser = webhook_url)]
    webhook_url: String,
    /// The organisation that the App belongs to; without it the App is your own and serves your repositories. The App is
    /// private: it can be installed on its owner alone. For several owners see the README, "The GitHub App".
    #[arg(long, value_name = "LOGIN", value_parser = login)]
    organization: Option<String>,
    /// Some fleets register with repositories of the organisation (`"registration": "repository"`): asks for
    /// administration of repositories besides.
    #[arg(long, requires = "organization")]
    repository_runners: bool,
    /// The App's name, unique at GitHub, at most 34 characters; it can be changed on the way.
    #[arg(long, value_name = "NAME", value_parser = app_name)]
    name: Option<String>,
    /// GitHub, or that of an enterprise: `https://SUBDOMAIN.ghe.com`, or an Enterprise Server's address.
    #[arg(long, default_value = "https://github.com", value_name = "URL", overrides_with = "github_url")]
    github_url: String,
    /// KMS key for the parameters; without it the account's own for SSM. The functions may use no other than the
    /// Terraform module's `kms_key_arn`: name that one.
    #[arg(long, value_name = "KEY")]
    kms_key_id: Option<String>,
    /// Port of the page on this machine; 0 takes a free one. On a machine without a browser, forward it (ssh -L).
    #[arg(long, default_value_t = 0, value_name = "PORT")]
    port: u16,
    /// Write over an App that is stored there.
    #[arg(long)]
    replace: bool,
}

/// Makes the App.
pub(crate) async fn run(options: &Options, console: &Console) -> Result<Outcome, Failure> {
    let site = Site::parse(&options.github_url)?;
    let github = agent_for(&site.url);
    let aws = Aws::from_environment().await?;
    let store = Store {
        aws: &aws,
        path: &options.app_path,
        kms_key_id: options.kms_key_id.as_deref(),
        existing: if options.replace { Existing::Replace } else { Existing::Keep },
    };
    store.check().await?;

    let listening = Listening::on(options.port).await?;
    let runners = match (&options.organization, options.repository_runners) {
        (Some(_), false) => Runners::Organization,
        (Some(_), true) => Runners::OrganizationAndRepositories,
        (None, _) => Runners::Repositories,
    };
    let state = format!("{:032x}", random()?);
    let name = match &options.name {
        Some(name) => name.clone(),
        // Unique at GitHub, and the person may change it there.
        None => format!("runner-scaler-{:08x}", random()? >> 96),
    };
    let manifest = manifest(&name, &options.webhook_url, &listening.redirect_url(), runners);
    let new_app_url = site.new_app_url(options.organization.as_deref(), &state);
    console.line(format_args!("Open {}/ in a browser and press the button.", listening.url()));
    let mut page = listening.show(&new_app_url, &manifest, state);
    tokio::time::timeout(PATIENCE, make(&mut page, &github, &site, &store, console)).await.map_err(|_| {
        Failure::Unusable {
            what: "nobody made the App within an hour".to_owned(),
            remedy: "start the command again".to_owned(),
        }
    })?
}

/// Takes browsers that come back from GitHub until one of their codes was good.
async fn make(
    page: &mut Page,
    github: &Agent,
    site: &Site,
    store: &Store<'_>,
    console: &Console,
) -> Result<Outcome, Failure> {
    while let Some(returned) = page.returned().await {
        let app = match github::exchange(github, site, &returned.code).await {
            Ok(app) => app,
            Err(failure) => {
                let why = chain(&failure);
                console.line(format_args!("{why}"));
                returned.answer(Err(why));
                continue;
            }
        };
        let stored = keep(store, &app, console).await;
        let install_url = format!("{}/installations/new", app.html_url);
        returned.answer(match &stored {
            Ok(()) => Ok(format!(
                "<p>{} is made and stored. <a href=\"{}\">Install it</a> for the repositories that it shall serve.</p>",
                escaped(&app.name),
                escaped(&install_url)
            )),
            Err(failure) => Err(failure.to_string()),
        });
        // The browser reads its answer before the page ends with us.
        tokio::time::sleep(Duration::from_millis(200)).await;
        stored?;
        console.line(format_args!(
            "App {:?} (id {}) is made and stored below {}.\nInstall it for the repositories that it shall serve: {install_url}",
            app.name, app.id, store.path
        ));
        return Ok(Outcome::Good);
    }
    Ok(Outcome::Stopped)
}

/// Stores what GitHub will not hand out again.
async fn keep(store: &Store<'_>, app: &NewApp, console: &Console) -> Result<(), Failure> {
    let hear = |failure: &Failure| console.line(format_args!("{}; trying again", chain(failure)));
    store.put(app, hear).await.map_err(|failure| Failure::Unusable {
        what: format!("App {:?} is made, and its key could not be stored: {}", app.name, chain(&failure)),
        remedy: format!(
            "GitHub does not show the key again. Delete the App at {} (Advanced) and start the command again, or make a new \
             key and a new webhook secret there and store them by hand (README)",
            app.html_url
        ),
    })
}

fn app_path(text: &str) -> Result<String, String> {
    let plain = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    let path = text.trim_end_matches('/');
    match path.strip_prefix('/') {
        Some(rest) if rest.split('/').all(plain) && !rest.starts_with("aws") && !rest.starts_with("ssm") => {
            Ok(path.to_owned())
        }
        Some(_) | None => {
            Err("must be an SSM path such as /runner-scaler/prod/app: letters, digits, - _ . between slashes"
                .to_owned())
        }
    }
}

fn webhook_url(text: &str) -> Result<String, String> {
    match reqwest::Url::parse(text) {
        Ok(url) if url.scheme() == "https" && url.host_str().is_some() => Ok(text.to_owned()),
        Ok(_) | Err(_) => {
            Err("must be an https:// address that GitHub can reach: the output webhook_url of the Terraform module"
                .to_owned())
        }
    }
}

fn login(text: &str) -> Result<String, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if (1..=39).contains(&text.len()) && plain {
        Ok(text.to_owned())
    } else {
        Err("is no login of GitHub's".to_owned())
    }
}

fn app_name(text: &str) -> Result<String, String> {
    if (1..=34).contains(&text.chars().count()) {
        Ok(text.to_owned())
    } else {
        Err("must have 1 to 34 characters".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_meant_is_refused_at_once() {
        for (text, expected) in [
            ("/rs/app", Some("/rs/app")),
            ("/rs/app/", Some("/rs/app")),
            ("rs/app", None),
            ("/", None),
            ("/rs//app", None),
            ("/aws/app", None),
            ("/rs/a b", None),
        ] {
            assert_eq!(app_path(text).ok().as_deref(), expected, "{text:?}");
        }
        assert!(webhook_url("https://x.execute-api.eu-west-1.amazonaws.com/webhook").is_ok());
        for wrong in ["http://x.example.org", "x.example.org", "https://", ""] {
            assert!(webhook_url(wrong).is_err(), "{wrong:?}");
        }
        assert!(login("octo-org").is_ok() && login("octo/x").is_err() && login("").is_err());
        assert!(app_name("ours").is_ok() && app_name("").is_err() && app_name(&"x".repeat(35)).is_err());
    }
}
