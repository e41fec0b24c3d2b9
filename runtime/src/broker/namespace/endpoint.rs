//! Where a namespace is, and whom to trust on the way.

use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::connection_string::{ConnectionString, ServiceBusConfigError};

/// Service Bus's own operations time out after so long.
const PATIENCE: Duration = Duration::from_secs(60);
/// The HTTP port of the official emulator.
const EMULATOR_PORT: u16 = 5300;

/// How to reach a namespace.
#[derive(Clone, Debug)]
pub(in crate::broker) struct Endpoint {
    pub(in crate::broker) host: String,
    pub(in crate::broker) port: Option<u16>,
    /// Only the emulator is spoken to without.
    pub(in crate::broker) encrypted: bool,
    /// AMQP over WebSockets.
    #[cfg_attr(not(feature = "service-bus"), expect(dead_code, reason = "it is AMQP's"))]
    pub(in crate::broker) web_socket: bool,
    /// How long the service may be silent, or take for an answer.
    pub(in crate::broker) patience: Duration,
    /// Where its HTTP API is, if not where it usually is: `https://host[:port]`.
    pub(in crate::broker) http: Option<String>,
    /// Trusted beside the system's.
    pub(in crate::broker) roots: Vec<CertificateDer<'static>>,
}

/// Certificates in PEM form.
pub(in crate::broker) fn certificates(
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, ServiceBusConfigError> {
    let read = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let found = read.map_err(|error| ServiceBusConfigError::Certificates(error.to_string()))?;
    if found.is_empty() {
        return Err(ServiceBusConfigError::Certificates("there is none".to_owned()));
    }
    Ok(found)
}

impl Endpoint {
    pub(in crate::broker) fn new(host: String, port: Option<u16>, encrypted: bool) -> Self {
        Self { host, port, encrypted, web_socket: false, patience: PATIENCE, http: None, roots: Vec::new() }
    }

    pub(in crate::broker) fn of(parsed: &ConnectionString) -> Self {
        if parsed.emulator && !is_this_machine(&parsed.host) {
            tracing::warn!(
                host = %parsed.host,
                "tokens and events go over the network without encryption, because the connection string says \
                 `UseDevelopmentEmulator=true`: leave that out unless an emulator is there"
            );
        }
        Self::new(parsed.host.clone(), parsed.port, !parsed.emulator)
    }

    /// The scheme, host and port of its HTTP API.
    pub(in crate::broker) fn http_base(&self) -> String {
        match (&self.http, self.encrypted) {
            (Some(given), _) => given.clone(),
            (None, true) => format!("https://{}", self.host),
            (None, false) => format!("http://{}:{EMULATOR_PORT}", self.host),
        }
    }

    /// TLS that trusts the system's roots and the given ones.
    pub(in crate::broker) fn tls(&self) -> Result<Arc<ClientConfig>, String> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots.add_parsable_certificates(self.roots.iter().cloned());
        if roots.is_empty() {
            return Err(
                "the system has no root certificates: install its package ca-certificates, or give some \
                        with `root_certificates`"
                    .to_owned(),
            );
        }
        trusting(roots)
    }
}

fn is_this_machine(host: &str) -> bool {
    let address = host.parse::<std::net::Ipv4Addr>();
    host == "localhost" || host.ends_with(".localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// TLS that trusts these.
pub(super) fn trusting(roots: RootCertStore) -> Result<Arc<ClientConfig>, String> {
    // Named, because a process-wide provider may be missing, or there may be two.
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
