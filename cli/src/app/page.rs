//! The page on this machine: its button takes the manifest to GitHub, and GitHub sends the browser back to it.
//!
//! It listens on loopback only and answers only to its own name, so that no page of somebody else's, not even one that
//! points a name at this machine, reads the state; and it takes a code only with that state, so that nobody else's App
//! can be slipped in.

use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::failure::Failure;

/// Longest code that is believed; GitHub's have 40 characters.
const CODE_MAX: usize = 128;

/// A page that waits for its port.
#[derive(Debug)]
pub(crate) struct Listening {
    listener: TcpListener,
    port: u16,
}

/// A page that is served until it is dropped.
#[derive(Debug)]
pub(crate) struct Page {
    returns: mpsc::Receiver<Return>,
    server: JoinHandle<()>,
}

/// A browser that came back from GitHub with a code, and waits.
#[derive(Debug)]
pub(crate) struct Return {
    /// What the App is exchanged for.
    pub(crate) code: String,
    answer: oneshot::Sender<Result<String, String>>,
}

struct Shown {
    hosts: [String; 2],
    state: String,
    html: String,
    returns: mpsc::Sender<Return>,
}

impl Listening {
    /// Listens on that port of loopback, 0 for a free one.
    pub(crate) async fn on(port: u16) -> Result<Self, Failure> {
        let what = || Failure::io(format!("cannot listen on 127.0.0.1:{port}; name another --port"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(what())?;
        let port = listener.local_addr().map_err(what())?.port();
        Ok(Self { listener, port })
    }

    /// Where the page is.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where GitHub sends the browser to.
    pub(crate) fn redirect_url(&self) -> String {
        format!("{}/made", self.url())
    }

    /// Shows a form that posts the manifest there, and takes codes that come with that state.
    pub(crate) fn show(self, new_app_url: &str, manifest: &Value, state: String) -> Page {
        let (sender, returns) = mpsc::channel(1);
        let shown = Arc::new(Shown {
            hosts: ["127.0.0.1", "localhost"].map(|host| format!("{host}:{}", self.port)),
            state,
            html: form(new_app_url, manifest),
            returns: sender,
        });
        let router = Router::new()
            .route("/", get(async |State(shown): State<Arc<Shown>>| Html(shown.html.clone())))
            .route("/made", get(made))
            .layer(axum::middleware::from_fn_with_state(Arc::clone(&shown), guard))
            .with_state(shown);
        let server = tokio::spawn(async move {
            // It serves until it is aborted.
            let _stopped = axum::serve(self.listener, router).await;
        });
        Page { returns, server }
    }
}

impl Page {
    /// The next browser that comes back with the right state.
    pub(crate) async fn returned(&mut self) -> Option<Return> {
        self.returns.recv().await
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Return {
    /// Shows the browser what became of it; HTML of ours, nothing secret in it.
    pub(crate) fn answer(self, outcome: Result<String, String>) {
        // A browser that was closed misses nothing: the command says the same.
        let _closed = self.answer.send(outcome);
    }
}

#[derive(Deserialize)]
struct Came {
    code: Option<String>,
    state: Option<String>,
}

async fn made(State(shown): State<Arc<Shown>>, Query(came): Query<Came>) -> Response {
    let refuse = |why: &str| (StatusCode::BAD_REQUEST, page(&format!("<p>{why}</p>"))).into_response();
    if came.state.as_deref() != Some(shown.state.as_str()) {
        return refuse("This does not belong to the App that is being made here. Begin again at the first page.");
    }
    let plain = |code: &String| {
        (1..=CODE_MAX).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    let Some(code) = came.code.filter(plain) else {
        return refuse("GitHub sent no code. Begin again at the first page.");
    };
    let (answer, outcome) = oneshot::channel();
    if shown.returns.send(Return { code, answer }).await.is_err() {
        return refuse("The command has ended.");
    }
    match outcome.await {
        Ok(Ok(html)) => page(&html).into_response(),
        Ok(Err(why)) => (StatusCode::BAD_GATEWAY, page(&format!("<p>{}</p>", escaped(&why)))).into_response(),
        Err(_) => refuse("The command has ended."),
    }
}

/// Refuses a request that was meant for another name, and lets no answer be kept or framed.
async fn guard(State(shown): State<Arc<Shown>>, headers: HeaderMap, request: Request, next: Next) -> Response {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !shown.hosts.iter().any(|own| own == host) {
        return StatusCode::MISDIRECTED_REQUEST.into_response();
    }
    let mut response = next.run(request).await;
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    ] {
        response.headers_mut().insert(name, header::HeaderValue::from_static(value));
    }
    response
}

fn form(new_app_url: &str, manifest: &Value) -> String {
    let (action, manifest) = (escaped(new_app_url), escaped(&manifest.to_string()));
    page_text(&format!(
        "<p>The button takes the App's manifest to GitHub, which asks you to confirm its name and then makes it.</p>\
         <form action=\"{action}\" method=\"post\"><input type=\"hidden\" name=\"manifest\" value=\"{manifest}\">\
         <button type=\"submit\">Make the App at GitHub</button></form>"
    ))
}

fn page(inside: &str) -> Html<String> {
    Html(page_text(inside))
}

fn page_text(inside: &str) -> String {
    format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>runner-scaler</title></head><body>\
         <h1>runner-scaler: GitHub App</h1>{inside}</body></html>"
    )
}

/// Text as it may stand in HTML, also in a quoted attribute.
pub(crate) fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, character| {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_manifest_ends_the_attribute_it_stands_in() {
        let html = form("https://github.com/?a=b&c=d", &serde_json::json!({ "name": "\"><script>'&" }));
        assert!(!html.contains("<script>") && html.contains("&quot;&gt;&lt;script&gt;&#39;&amp;"), "{html}");
        assert!(html.contains("action=\"https://github.com/?a=b&amp;c=d\""), "{html}");
    }
}
