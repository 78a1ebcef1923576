//! Calls that leave this machine: ureq, as the instance's supervisor has it, over rustls with ring and the certificates
//! of the distribution. (The client of the local stack knows no TLS; it could only be given any for the whole process.)

use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::failure::Failure;

/// For one call, whole: GitHub gives up after 10 s itself.
const CALL: Duration = Duration::from_secs(30);

/// The longest answer that is read: a new App with its key has a few KiB.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// An answer, whatever its status.
#[derive(Debug)]
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: u16,
    /// Its body.
    pub(crate) body: Vec<u8>,
}

/// A client for that address: over TLS and over the proxy that the environment names; or on this machine, plain, where no
/// proxy may come between.
pub(crate) fn agent_for(url: &str) -> Agent {
    let config = Agent::config_builder().http_status_as_error(false).max_redirects(0).timeout_global(Some(CALL));
    if reqwest::Url::parse(url).is_ok_and(|url| is_loopback(&url)) {
        return config.proxy(None).build().new_agent();
    }
    let found = rustls_native_certs::load_native_certs();
    let certificates: Vec<_> = found.certs.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&certificates))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    config.https_only(true).tls_config(tls).build().new_agent()
}

/// Posts a body; `what` names the call in errors, which tell neither address nor body.
pub(crate) async fn post(
    agent: &Agent,
    what: &str,
    url: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
) -> Result<Answer, Failure> {
    let failure = |source| Failure::Call { what: what.to_owned(), source: Box::new(source) };
    let agent = agent.clone();
    let call = move || {
        let mut request = agent.post(url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let mut answer = request.send(body)?;
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?;
        Ok(Answer { status: answer.status().as_u16(), body })
    };
    match tokio::task::spawn_blocking(call).await {
        Ok(outcome) => outcome.map_err(failure),
        Err(_) => Err(Failure::Shape { what: what.to_owned() }),
    }
}

/// Whether an address is this machine's.
pub(crate) fn is_loopback(address: &reqwest::Url) -> bool {
    let host = address.host_str().unwrap_or_default();
    host == "localhost" || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}
