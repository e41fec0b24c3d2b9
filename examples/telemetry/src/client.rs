//! An HTTP client for exporters, which work on threads of their own: it does its requests on the service's runtime.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{HttpClient, HttpError};
use tokio::runtime::Handle;

use crate::Failure;

/// A client with the TLS that the library has already. `reqwest::blocking::Client` does as well, and has its own.
#[derive(Clone, Debug)]
pub struct Client {
    client: HyperClient<HttpsConnector<HttpConnector>>,
    runtime: Handle,
}

impl Client {
    /// One that works on the runtime of the caller.
    ///
    /// # Errors
    /// When the system's certificates can't be read.
    pub fn new() -> Result<Self, Failure> {
        let connector =
            HttpsConnectorBuilder::new().with_native_roots()?.https_or_http().enable_http1().build();
        let client = HyperClient::new(connector, Duration::from_secs(10), None);
        Ok(Self { client, runtime: Handle::current() })
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        self.runtime.spawn(async move { client.send_bytes(request).await }).await?
    }
}
