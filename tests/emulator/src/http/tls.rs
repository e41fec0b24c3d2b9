//! TLS on both doors: a client that begins with TLS gets it, on the same port as one that doesn't.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The first byte of every TLS connection: a handshake record.
const HANDSHAKE: u8 = 0x16;
/// Who says nothing for that long is no client.
const PATIENCE: Duration = Duration::from_secs(20);

/// A certificate with its key.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that can't be read or isn't PEM.
    #[error("{0}: {1}")]
    File(String, rustls::pki_types::pem::Error),
    /// Nothing in it.
    #[error("{0}: there is no certificate in it")]
    Empty(String),
    /// The certificate and the key are not right, or not for each other.
    #[error("the certificate can't be used: {0}")]
    Unusable(#[from] rustls::Error),
    /// A certificate could not be made.
    #[error("a certificate could not be made: {0}")]
    NotMade(#[from] rcgen::Error),
}

impl Tls {
    /// A certificate made for these names and addresses now, and the authority's that signed it, in PEM: who trusts that
    /// one trusts this. Both end with the process.
    pub fn self_signed(names: &[String]) -> Result<(Self, String), TlsError> {
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.distinguished_name.push(DnType::CommonName, "servicebus-emulator, for development only");
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority_key = KeyPair::generate()?;
        let authority_certificate = authority.self_signed(&authority_key)?;

        let mut server = CertificateParams::new(names.to_vec())?;
        let name = names.first().map_or("localhost", String::as_str);
        server.distinguished_name.push(DnType::CommonName, name);
        server.use_authority_key_identifier_extension = true;
        server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let server_key = KeyPair::generate()?;
        let server_certificate = server.signed_by(&server_key, &Issuer::new(authority, authority_key))?;

        let chain = vec![server_certificate.der().clone(), authority_certificate.der().clone()];
        let key = PrivateKeyDer::Pkcs8(server_key.serialize_der().into());
        Ok((Self::new(chain, key)?, authority_certificate.pem()))
    }

    /// A certificate (with those between it and its authority) and its key, from files in PEM.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let file = |path: &Path, error| TlsError::File(path.display().to_string(), error);
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| file(certificate, error))?;
        if chain.is_empty() {
            return Err(TlsError::Empty(certificate.display().to_string()));
        }
        let key = PrivateKeyDer::from_pem_file(key).map_err(|error| file(key, error))?;
        Self::new(chain, key)
    }

    fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, TlsError> {
        // Named, because the process has no default where two are compiled in.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)) })
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// A connection, with TLS where its client began with it.
#[derive(Debug)]
pub enum Stream {
    /// Without.
    Plain(TcpStream),
    /// With.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Waits for the client's first byte, and for the end of its handshake where it begins one. Without a certificate
    /// every connection is a plain one.
    pub async fn accept(tcp: TcpStream, tls: Option<&Tls>) -> io::Result<Self> {
        // Both doors answer in small pieces.
        tcp.set_nodelay(true)?;
        let Some(tls) = tls else { return Ok(Self::Plain(tcp)) };
        let accepted = async {
            let mut first = [0];
            match tcp.peek(&mut first).await? {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                _ if first[0] == HANDSHAKE => Self::secure(tcp, tls).await,
                _ => Ok(Self::Plain(tcp)),
            }
        };
        tokio::time::timeout(PATIENCE, accepted).await?
    }

    /// A connection whose client begins TLS now.
    pub(crate) async fn secure(tcp: TcpStream, tls: &Tls) -> io::Result<Self> {
        Ok(Self::Tls(Box::new(tls.acceptor.accept(tcp).await?)))
    }

    /// Whether nobody can listen.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
