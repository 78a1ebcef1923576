//! A client of the double, as the functions and the listeners use it.
#![expect(clippy::unwrap_used, reason = "a test ends at its first surprise")]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::{Client, Method, RequestBuilder, Response};
use runner_scaler_world::http::server::{ServerSettings, WorldServer, wall_now};
use runner_scaler_world::{Settings, Tape, World};
use serde_json::{Value, json};

pub(crate) struct Double {
    pub(crate) server: WorldServer,
    pub(crate) client: Client,
}

impl Double {
    pub(crate) async fn start() -> Self {
        let mut settings = Settings::local();
        settings.github.pickup_ms = (0, 0);
        settings.github.webhook_delay_ms = (0, 0);
        let world = World::new(settings, Tape::from_seed(1), wall_now());
        let server = WorldServer::start(
            world,
            ServerSettings {
                listen: "127.0.0.1:0".parse().unwrap(),
                webhook_url: None,
                webhook_secret: "secret".into(),
                app_public_key_der: None,
            },
        )
        .await
        .unwrap();
        Self { server, client: Client::new() }
    }

    pub(crate) fn request(&self, method: Method, path: &str, credential: &str) -> RequestBuilder {
        self.client
            .request(method, format!("{}{path}", self.server.base_url()))
            .header("user-agent", "app/scale-down")
            .bearer_auth(credential)
    }

    pub(crate) async fn get(&self, path: &str, credential: &str) -> (u16, Value) {
        answer(self.request(Method::GET, path, credential).send().await.unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, credential: &str, body: &Value) -> (u16, Value) {
        answer(self.request(Method::POST, path, credential).json(body).send().await.unwrap()).await
    }

    pub(crate) async fn delete(&self, path: &str, credential: &str) -> (u16, Value) {
        answer(self.request(Method::DELETE, path, credential).send().await.unwrap()).await
    }

    pub(crate) async fn token(&self, installation_id: u64) -> String {
        let path = format!("/app/installations/{installation_id}/access_tokens");
        let (status, body) = self.post(&path, &app_jwt(), &json!({})).await;
        assert_eq!(status, 201, "{body}");
        body["token"].as_str().unwrap().to_owned()
    }
}

pub(crate) async fn answer(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let bytes = response.bytes().await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

/// An App's JWT of the right shape and times; its signature is not a real one.
pub(crate) fn app_jwt() -> String {
    let now = wall_now() / 1_000;
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({ "iss": "Iv1.abc", "iat": now - 60, "exp": now + 540 });
    format!("{}.{}.c2ln", part(&json!({ "alg": "RS256", "typ": "JWT" })), part(&claims))
}

pub(crate) fn jit(name: &str, labels: &[&str]) -> Value {
    json!({ "name": name, "runner_group_id": 1, "labels": labels, "work_folder": "_work" })
}
