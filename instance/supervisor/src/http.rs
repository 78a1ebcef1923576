//! The HTTP client: ureq, blocking, over rustls with ring and the distribution's certificates.

use std::sync::Arc;
use std::time::Duration;
use ureq::Agent;
use ureq::http::StatusCode;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// What is sent and received is small, and every thread has its own connections.
const BUFFER_BYTES: usize = 16 * 1024;

/// The longest answer that is read: a JIT configuration has at most 8 KiB, its JSON a little more.
const ANSWER_BYTES_MAX: u64 = 256 * 1024;

/// Connecting to metadata takes microseconds, to AWS milliseconds; whoever waits here has better to do.
const CONNECT: Duration = Duration::from_secs(2);
const CALL: Duration = Duration::from_secs(8);

/// Why there was no answer to use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// No answer came.
    #[error("{what}: no answer")]
    NoAnswer {
        /// Who was asked for what.
        what: String,
        /// Why.
        #[source]
        source: ureq::Error,
    },
    /// The answer says no. What it says is not repeated: an answer may hold secrets.
    #[error("{what}: {status}{}", code.as_deref().map(|code| format!(" {code}")).unwrap_or_default())]
    Refused {
        /// Who was asked for what.
        what: String,
        /// Its status.
        status: StatusCode,
        /// AWS's name of the error.
        code: Option<String>,
    },
    /// The answer has another shape.
    #[error("{what}: an answer that is not understood")]
    Shape {
        /// Who was asked for what.
        what: String,
    },
}

/// A client for this machine and its metadata: never over a proxy.
pub(crate) fn plain_agent() -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .timeout_connect(Some(CONNECT))
        .timeout_global(Some(CALL))
        .input_buffer_size(BUFFER_BYTES)
        .output_buffer_size(BUFFER_BYTES)
        .max_idle_connections(1)
        .build()
        .new_agent()
}

/// A client for AWS, over the proxy that the environment names, if it names one.
pub(crate) fn tls_agent() -> Agent {
    let found = rustls_native_certs::load_native_certs();
    let certificates: Vec<_> = found.certs.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&certificates))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .tls_config(tls)
        .timeout_connect(Some(CONNECT))
        .timeout_global(Some(CALL))
        .input_buffer_size(BUFFER_BYTES)
        .output_buffer_size(BUFFER_BYTES)
        .max_idle_connections(1)
        .build()
        .new_agent()
}

/// The text of an answer.
pub(crate) fn text(what: &str, response: &mut ureq::http::Response<ureq::Body>) -> Result<String, HttpError> {
    let read = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
    read.map_err(|source| HttpError::NoAnswer { what: what.to_owned(), source })
}
