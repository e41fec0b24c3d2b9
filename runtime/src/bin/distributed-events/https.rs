//! TLS to what the binary itself asks by HTTP: a collector of OpenTelemetry, Microsoft Entra ID.

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use tokio_rustls::rustls::crypto::ring;

pub(crate) type Connector = HttpsConnector<HttpConnector>;

/// # Errors
/// Where the system trusts nobody.
pub(crate) fn connector() -> Result<Connector, String> {
    // Named, because a process-wide provider may be missing, or there may be two.
    let connector = HttpsConnectorBuilder::new().with_provider_and_native_roots(ring::default_provider());
    let connector = connector.map_err(|error| format!("the system's certificates can't be read: {error}"))?;
    Ok(connector.https_or_http().enable_http1().build())
}
