//! The HTTP client of a namespace, and how a request says who asks.

use http_body_util::Full;
use hyper::Uri;
use hyper::body::Bytes;
use hyper::header::HeaderValue;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio_rustls::rustls::RootCertStore;

use super::credential::{Credential, TokenError};
use super::endpoint::{Endpoint, trusting};

/// Keeps its connections open, so that not every request pays for one.
pub(in crate::broker) type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// More headers than any message has properties.
const HEADERS: usize = 4096;

/// A client that speaks to an endpoint's [`http_base`](Endpoint::http_base).
pub(in crate::broker) fn client(endpoint: &Endpoint) -> Result<HttpClient, String> {
    let plain = endpoint.http_base().starts_with("http:");
    let tls = if plain { trusting(RootCertStore::empty()) } else { endpoint.tls() }?;
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(endpoint.patience));
    // Which of the two is meant is the endpoint's to say: there is no plain one for Azure.
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config((*tls).clone())
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    Ok(Client::builder(TokioExecutor::new()).http1_max_headers(HEADERS).build(connector))
}

/// What goes into the header `Authorization`.
pub(in crate::broker) async fn authorization(
    credential: &Credential,
    audience: &str,
) -> Result<HeaderValue, TokenError> {
    let token = credential.token(audience).await?;
    let scheme = if token.kind == "jwt" { "Bearer " } else { "" };
    let unspeakable = |_| TokenError {
        audience: audience.to_owned(),
        reason: "what there is can't stand in a header".to_owned(),
    };
    let mut header =
        HeaderValue::try_from(format!("{scheme}{}", token.text.reveal())).map_err(unspeakable)?;
    header.set_sensitive(true);
    Ok(header)
}

/// A URL's scheme, host and port, if it has nothing else.
pub(in crate::broker) fn base_of(url: &str, encrypted: bool) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
    let secure = scheme == "https" || scheme == "http" && !encrypted;
    let bare = matches!(uri.path(), "" | "/") && uri.query().is_none() && !authority.as_str().contains('@');
    (secure && bare).then(|| format!("{scheme}://{authority}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::credential::{Keys, SharedKey};
    use super::*;

    /// Whoever logs a request's headers sees that there is one.
    #[tokio::test]
    async fn the_header_that_says_who_asks_is_not_shown() {
        let keys = Keys::new(SharedKey::new("policy", "canary"));
        let header = authorization(&Credential::Keys(Arc::new(keys)), "https://localhost/").await.unwrap();
        assert!(header.to_str().unwrap().contains("&sig="));
        assert_eq!(format!("{header:?}"), "Sensitive");
    }
}
