//! The code that GitHub sent, exchanged for the App: once, within the hour.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;
use ureq::Agent;

use super::manifest::Site;
use crate::failure::Failure;
use crate::https::{Answer, post};

/// A webhook secret that is shorter is refused by the webhook.
const SECRET_BYTES_MIN: usize = 16;

/// A new App.
#[derive(Deserialize)]
pub(crate) struct NewApp {
    /// Its id.
    pub(crate) id: u64,
    /// Its name.
    pub(crate) name: String,
    /// Its page.
    pub(crate) html_url: String,
    /// Its private key.
    pub(crate) pem: String,
    /// What its deliveries are signed with.
    pub(crate) webhook_secret: String,
}

impl fmt::Debug for NewApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NewApp({} {:?}, <redacted>)", self.id, self.name)
    }
}

/// Exchanges a code.
pub(crate) async fn exchange(agent: &Agent, site: &Site, code: &str) -> Result<NewApp, Failure> {
    // The code is worth the App's key: no error names it.
    let operation = "exchange of GitHub's code";
    let headers = [
        ("accept", "application/vnd.github+json"),
        ("user-agent", concat!("runner-scaler/", env!("CARGO_PKG_VERSION"))),
        ("x-github-api-version", "2022-11-28"),
    ];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let url = format!("{}/app-manifests/{code}/conversions", site.api_url);
    let Answer { status, body } = post(agent, operation, url, headers, Vec::new()).await?;
    if status != 201 {
        let message = serde_json::from_slice::<Value>(&body).ok();
        let message = message.as_ref().and_then(|body| body["message"].as_str()).unwrap_or("no reason given");
        return Err(Failure::Unusable {
            what: format!("GitHub answered {status} ({message}) to the code that it had sent"),
            remedy: "a code serves once and for an hour; go back to the first page and begin again".to_owned(),
        });
    }
    // serde_json's text may quote a value of the answer.
    let app: NewApp = serde_json::from_slice(&body).map_err(|_| Failure::Shape {
        what: "GitHub's answer with the new App (id, name, html_url, pem, webhook_secret)".to_owned(),
    })?;
    let one_line = app.webhook_secret.len() >= SECRET_BYTES_MIN && !app.webhook_secret.contains(['\n', '\r']);
    if !one_line || !app.pem.contains("PRIVATE KEY") {
        return Err(Failure::Shape { what: format!("the key or the webhook secret of the new App {}", app.html_url) });
    }
    Ok(app)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_prints_nothing_secret() {
        let app = NewApp {
            id: 7,
            name: "ours".into(),
            html_url: "https://github.com/apps/ours".into(),
            pem: "KEY".into(),
            webhook_secret: "SECRET".into(),
        };
        assert_eq!(format!("{app:?}"), "NewApp(7 \"ours\", <redacted>)");
    }
}
