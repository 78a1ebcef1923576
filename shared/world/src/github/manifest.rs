//! Apps made from a manifest: the person's click, and the code that is exchanged for the App once, within the hour
//! (docs.github.com, "Registering a GitHub App from a manifest", read 2026-11-20).

use super::GitHub;
use crate::Millis;
use serde_json::{Value, json};

/// How long a code serves.
const CODE_LIFE_MS: Millis = 3_600_000;

/// Permissions of which the double knows what they may be, and whether the event `workflow_job` comes with them.
const PERMISSIONS: [(&str, &[&str]); 4] = [
    ("actions", &["read", "write"]),
    ("administration", &["read", "write"]),
    ("metadata", &["read"]),
    ("organization_self_hosted_runners", &["read", "write"]),
];

/// An App whose code waits to be exchanged.
#[derive(Debug, Clone)]
pub(super) struct NewApp {
    id: u64,
    owner: Option<String>,
    manifest: Value,
    made_at: Millis,
}

impl GitHub {
    /// What happens when a person posts a manifest and confirms it: the address that the browser is sent to, without the
    /// state. The error is GitHub's message.
    pub fn make_app(&mut self, owner: Option<&str>, manifest: &Value, now: Millis) -> Result<String, String> {
        let text = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
        let address = |pointer: &str| {
            text(pointer).filter(|url| url.starts_with("https://") || url.starts_with("http://127.0.0.1:"))
        };
        let name = text("/name").ok_or("Name can't be blank")?;
        if name.chars().count() > 34 {
            return Err("Name is too long (maximum is 34 characters)".to_owned());
        }
        address("/url").ok_or("Homepage URL must be a valid URL")?;
        address("/hook_attributes/url").ok_or("Hook url is not supported because it isn't reachable")?;
        let redirect_url = address("/redirect_url").ok_or("Error: redirect_url must be a valid URL")?.to_owned();
        let permissions = manifest["default_permissions"].as_object().ok_or("Default permissions are missing")?;
        for (name, level) in permissions {
            let known = PERMISSIONS.iter().find(|(known, _)| known == name);
            if !known.is_some_and(|(_, levels)| level.as_str().is_some_and(|level| levels.contains(&level))) {
                return Err(format!("Default permission records resource is not included in the list: {name}"));
            }
        }
        let events = manifest["default_events"].as_array().map(Vec::as_slice).unwrap_or_default();
        if events.iter().any(|event| event == "workflow_job") && !permissions.contains_key("actions") {
            return Err("Default events are not supported by permissions: workflow_job".to_owned());
        }
        let id = self.fresh_id();
        let code = format!("{id:040x}");
        let owner = owner.map(str::to_owned);
        self.new_apps.insert(code.clone(), NewApp { id, owner, manifest: manifest.clone(), made_at: now });
        Ok(format!("{redirect_url}?code={code}"))
    }

    /// Exchanges a code; nothing for one that is unknown, used or too old.
    pub fn exchange_code(&mut self, code: &str, now: Millis) -> Option<Value> {
        let NewApp { id, owner, manifest, .. } =
            self.new_apps.remove(code).filter(|app| now - app.made_at < CODE_LIFE_MS)?;
        let slug = manifest["name"].as_str().unwrap_or_default().to_lowercase().replace(' ', "-");
        let kind = if owner.is_some() { "Organization" } else { "User" };
        Some(json!({
            "id": id,
            "slug": slug,
            "node_id": format!("A_{id}"),
            "client_id": format!("Iv1.{id:016x}"),
            "owner": { "login": owner.as_deref().unwrap_or("octocat"), "id": id, "type": kind },
            "name": manifest["name"],
            "description": manifest["description"],
            "external_url": manifest["url"],
            "html_url": format!("https://github.com/apps/{slug}"),
            "created_at": super::rfc3339(now),
            "updated_at": super::rfc3339(now),
            "permissions": manifest["default_permissions"],
            "events": manifest["default_events"],
            "client_secret": format!("client-secret-{id:040x}"),
            "webhook_secret": format!("webhook-secret-{id:040x}"),
            "pem": format!("-----BEGIN RSA PRIVATE KEY-----\nno key at all, of App {id}\n-----END RSA PRIVATE KEY-----\n"),
        }))
    }
}
