//! The byte stream to a namespace: TCP, TLS, or a WebSocket over either.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fe2o3_amqp_ws::WebSocketStream;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::condition::Trouble;
use super::connection_string::ServiceBusConfigError;

/// Service Bus's own operations time out after so long.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

pub(super) trait Stream: AsyncRead + AsyncWrite + fmt::Debug + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + fmt::Debug + Send + Sync + Unpin> Stream for T {}

/// How to reach a namespace.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub(super) host: String,
    pub(super) port: Option<u16>,
    /// Only the emulator is spoken to without.
    pub(super) encrypted: bool,
    pub(super) web_socket: bool,
    /// How long the service may be silent, or take for an answer.
    pub(super) patience: Duration,
    /// Where the management API is, if not where it usually is: `https://host[:port]`.
    pub(super) management: Option<String>,
    /// Trusted beside the system's.
    pub(super) roots: Vec<CertificateDer<'static>>,
}

/// Certificates in PEM form.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ServiceBusConfigError> {
    let read = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let found = read.map_err(|error| ServiceBusConfigError::Certificates(error.to_string()))?;
    if found.is_empty() {
        return Err(ServiceBusConfigError::Certificates("there is none".to_owned()));
    }
    Ok(found)
}

impl Endpoint {
    pub(super) fn port(&self) -> u16 {
        self.port.unwrap_or(match (self.web_socket, self.encrypted) {
            (true, true) => 443,
            (true, false) => 80,
            (false, true) => 5671,
            (false, false) => 5672,
        })
    }

    /// Opens a stream.
    pub(super) async fn connect(&self) -> Result<Box<dyn Stream>, Trouble> {
        let opened = tokio::time::timeout(self.patience, self.open()).await;
        opened.unwrap_or(Err(Trouble::NoAnswer { what: "connecting", waited: self.patience }))
    }

    async fn open(&self) -> Result<Box<dyn Stream>, Trouble> {
        let port = self.port();
        let failed = |error: &dyn fmt::Display| {
            Trouble::Broken(format!("can't connect to {}:{port}: {error}", self.host))
        };
        let tcp = TcpStream::connect((self.host.as_str(), port)).await.map_err(|error| failed(&error))?;
        tcp.set_nodelay(true).map_err(|error| failed(&error))?;
        let stream: Box<dyn Stream> = if self.encrypted {
            let name = ServerName::try_from(self.host.clone()).map_err(|error| failed(&error))?;
            let tls = TlsConnector::from(self.tls()?).connect(name, tcp).await;
            Box::new(tls.map_err(|error| failed(&error))?)
        } else {
            Box::new(tcp)
        };
        if !self.web_socket {
            return Ok(stream);
        }
        // Encryption is done already; the scheme is for the request's own text.
        let url = format!("ws://{}:{port}/$servicebus/websocket", self.host);
        let socket = WebSocketStream::connect_with_stream(url, stream).await;
        Ok(Box::new(socket.map_err(|error| failed(&error))?))
    }

    pub(super) fn tls(&self) -> Result<Arc<ClientConfig>, Trouble> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots.add_parsable_certificates(self.roots.iter().cloned());
        if roots.is_empty() {
            return Err(Trouble::Broken(
                "the system has no root certificates: install its package ca-certificates, or give some with \
                 `root_certificates`"
                    .to_owned(),
            ));
        }
        trusting(roots)
    }
}

/// TLS that trusts these.
pub(super) fn trusting(roots: RootCertStore) -> Result<Arc<ClientConfig>, Trouble> {
    // Named, because a process-wide provider may be missing, or there may be two.
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(Trouble::broken)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
