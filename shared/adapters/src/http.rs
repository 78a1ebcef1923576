//! One HTTP client for all: the SDK's clients and the one for GitHub.
//!
//! One connection pool, one reading of the certificate store (half of what a cold start spends here), and TLS by ring:
//! the first TLS request of a process takes 2 ms with it, 33 ms with aws-lc (measured 2026-11-20). Nothing is built
//! before the first request.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_smithy_http_client::Connector;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use octocrab::OctoBody;
use tower_service::Service;

/// Until a connection stands. Shorter, and a lost SYN packet (sent again after 1 s) fails a call; longer, and one dead
/// address eats the time of the whole call.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// For one call, repetitions included. GitHub cuts its own requests after 10 s (facts of its limits, read 2026-11-20), so
/// what takes longer has failed there too; shorter, and a slow but good answer is lost.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A pooled connection that was idle for longer is not used again: a frozen function finds it closed by the other side.
const POOL_IDLE: Duration = Duration::from_secs(20);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The client, built at its first use; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Http(Arc<OnceLock<SharedHttpConnector>>);

impl Http {
    /// For the SDK's clients.
    pub(crate) fn for_sdk(&self) -> SharedHttpClient {
        let http = self.clone();
        http_client_fn(move |_, _| http.connector())
    }

    fn connector(&self) -> SharedHttpConnector {
        self.0
            .get_or_init(|| {
                let settings = HttpConnectorSettings::builder()
                    .connect_timeout(CONNECT_TIMEOUT)
                    .read_timeout(CALL_TIMEOUT)
                    .build();
                let connector = Connector::builder()
                    .tls_provider(Provider::Rustls(CryptoMode::Ring))
                    .connector_settings(settings)
                    .pool_idle_timeout(POOL_IDLE)
                    .build();
                SharedHttpConnector::new(connector)
            })
            .clone()
    }
}

/// The same client as the service below octocrab. Octocrab's own would read the certificate store again, and sends a
/// second `User-Agent` (octocrab 0.54.9, `prepare_config`), the header that tells GitHub and us which function called.
impl Service<Request<OctoBody>> for Http {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<OctoBody>) -> Self::Future {
        let connector = self.connector();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = SdkBody::from(body.collect().await?.to_bytes());
            let request = Request::from_parts(parts, body).try_into()?;
            let response = connector.call(request).await?.try_into_http1x()?;
            let (parts, body) = response.into_parts();
            let body = BodyExt::collect(body).await?.to_bytes();
            Ok(Response::from_parts(parts, Full::new(body)))
        })
    }
}
