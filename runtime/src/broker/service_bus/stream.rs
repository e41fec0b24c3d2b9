//! The byte stream to a namespace: TCP, TLS, or a WebSocket over either.

use std::fmt;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::condition::Trouble;
use super::web_socket::WebSocket;
use crate::broker::namespace::Endpoint;

pub(super) trait Stream: AsyncRead + AsyncWrite + fmt::Debug + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + fmt::Debug + Send + Sync + Unpin> Stream for T {}

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
            let tls = TlsConnector::from(self.tls().map_err(Trouble::Broken)?).connect(name, tcp).await;
            Box::new(tls.map_err(|error| failed(&error))?)
        } else {
            Box::new(tcp)
        };
        if !self.web_socket {
            return Ok(stream);
        }
        let socket = WebSocket::open(stream, &self.host, port).await;
        Ok(Box::new(socket.map_err(|error| failed(&error))?))
    }
}
