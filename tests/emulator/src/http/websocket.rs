//! AMQP over WebSocket: the bytes in binary messages, as a connection that the AMQP door can't tell from another.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream};
use hyper::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
};
use hyper::header::{SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::request::{Asked, Refused, Reply, empty};

/// Microsoft's SDKs ask for the first, older clients of AMQP for the second; the name is sent back as it was written.
const PROTOCOLS: [&str; 2] = ["amqp", "amqpwsb10"];
/// Bytes of a WebSocket message. AMQP's own frames are smaller, and several can be in one.
const LARGEST: usize = 4 * 1024 * 1024;
/// Bytes that may wait for a client that doesn't read.
const WAITING: usize = 1024 * 1024;

/// What serves AMQP on a connection, whatever carries it.
#[derive(Clone)]
pub struct Bridge(Arc<Serve>);

type Serve = dyn Fn(Socket) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;

impl Bridge {
    /// Calls that for each connection.
    pub fn new<F>(serve: impl Fn(Socket) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self(Arc::new(move |socket| Box::pin(serve(socket))))
    }

    pub(super) async fn serve(&self, upgraded: Upgraded) {
        let config = WebSocketConfig::default()
            .max_message_size(Some(LARGEST))
            .max_frame_size(Some(LARGEST))
            .write_buffer_size(0)
            .max_write_buffer_size(WAITING);
        let stream =
            WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
        (self.0)(Socket { stream, unread: Bytes::new() }).await;
    }
}

impl std::fmt::Debug for Bridge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bridge").finish_non_exhaustive()
    }
}

/// Whether the request wants to be a WebSocket, and the answer that makes it one.
pub(super) fn handshake(asked: &Asked) -> Result<Reply, Refused> {
    let wrong = |text: &str| Refused::new(StatusCode::BAD_REQUEST, text);
    if asked.method != Method::GET {
        return Err(Refused::method(asked, "GET"));
    }
    if !listed(&asked.headers, UPGRADE).any(|token| token.eq_ignore_ascii_case("websocket"))
        || !listed(&asked.headers, CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"))
    {
        return Err(wrong(
            "This is for WebSocket alone: the headers Upgrade and Connection don't ask for it.",
        ));
    }
    if asked.header(SEC_WEBSOCKET_VERSION.as_str()) != Some("13") {
        return Err(wrong("Only WebSocket version 13 is spoken here."));
    }
    let key =
        asked.header(SEC_WEBSOCKET_KEY.as_str()).ok_or_else(|| wrong("Sec-WebSocket-Key is missing."))?;
    let known = |token: &&str| PROTOCOLS.iter().any(|known| token.eq_ignore_ascii_case(known));
    let protocol = listed(&asked.headers, SEC_WEBSOCKET_PROTOCOL)
        .find(known)
        .and_then(|protocol| HeaderValue::from_str(protocol).ok())
        .ok_or_else(|| wrong("Sec-WebSocket-Protocol names neither amqp nor AMQPWSB10."))?;
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
        .map_err(|_| wrong("Sec-WebSocket-Key is not one."))?;
    let mut reply = empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = reply.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    Ok(reply)
}

fn listed(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// A WebSocket as a stream of bytes.
#[derive(Debug)]
pub struct Socket {
    stream: WebSocketStream<TokioIo<Upgraded>>,
    unread: Bytes,
}

fn io_error(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        other => io::Error::other(other),
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.unread.is_empty() {
            match ready!(Pin::new(&mut this.stream).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => this.unread = bytes,
                Some(Ok(Message::Text(_))) => {
                    let text = "AMQP is binary, and a text message came";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, text)));
                }
                // Pings are answered by the stream itself.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                None | Some(Ok(Message::Close(_)) | Err(Error::ConnectionClosed | Error::AlreadyClosed)) => {
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => return Poll::Ready(Err(io_error(error))),
            }
        }
        let length = this.unread.len().min(buffer.remaining());
        buffer.put_slice(&this.unread[..length]);
        this.unread.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut stream = Pin::new(&mut self.get_mut().stream);
        ready!(stream.as_mut().poll_ready(cx)).map_err(io_error)?;
        let length = bytes.len().min(WAITING / 2);
        let message = Message::Binary(Bytes::copy_from_slice(&bytes[..length]));
        stream.start_send(message).map_err(io_error)?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx).map_err(io_error)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.get_mut().stream).poll_close(cx)) {
            Ok(()) | Err(Error::ConnectionClosed | Error::AlreadyClosed) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(io_error(error))),
        }
    }
}
