//! AMQP over WebSocket (RFC 6455): the bytes in binary messages.
//!
//! Written out here, because the crates that do it log every frame that passes, tokens included, and nobody but the
//! application's logger could keep them from it.

use std::fmt;
use std::future::poll_fn;
use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use uuid::Uuid;

const PATH: &str = "/$servicebus/websocket";
/// What the standard has both sides add to the client's key.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bytes read at a time, and of one frame that is written.
const BUFFER: usize = 64 * 1024;
/// Bytes of an answer to the request, which has a few short headers.
const LONGEST_ANSWER: usize = 16 * 1024;
/// Answers to pings that may wait for a peer that doesn't read.
const WAITING: usize = 2 * BUFFER;

const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A client's end of a WebSocket, as a stream of bytes.
pub(super) struct WebSocket<S> {
    stream: S,
    /// Read and not yet understood: what lies from `start` to `end`.
    input: Box<[u8]>,
    start: usize,
    end: usize,
    awaited: Awaited,
    /// Framed and not yet taken by the stream, but for the first `taken` bytes.
    output: Vec<u8>,
    taken: usize,
    /// Whether a writer is to be woken when the stream takes more, and must not be forgotten for a reader.
    writer_waits: bool,
    closing: bool,
}

/// What comes next from the peer.
#[derive(Clone, Copy, Debug)]
enum Awaited {
    Header,
    /// So many more bytes of a frame that is ours to hand on.
    Data(u64),
    /// A frame of the protocol's own, and its length.
    Control(u8, usize),
    End,
}

impl<S> fmt::Debug for WebSocket<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket").field("awaited", &self.awaited).finish_non_exhaustive()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Asks the peer to speak AMQP over a WebSocket.
    pub(super) async fn open(stream: S, host: &str, port: u16) -> Result<Self> {
        let key = STANDARD.encode(Uuid::new_v4());
        let host = if matches!(port, 80 | 443) { host.to_owned() } else { format!("{host}:{port}") };
        let request = format!(
            "GET {PATH} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: amqp\r\nSec-WebSocket-Key: {key}\r\n\r\n"
        );
        let mut socket = Self {
            stream,
            input: vec![0; BUFFER].into(),
            start: 0,
            end: 0,
            awaited: Awaited::Header,
            output: request.into_bytes(),
            taken: 0,
            writer_waits: false,
            closing: false,
        };
        poll_fn(|cx| Pin::new(&mut socket).poll_flush(cx)).await?;
        let length = socket.answer().await?;
        check(&socket.input[..length], &key)?;
        socket.start = length;
        Ok(socket)
    }

    /// Reads the answer to the request; returns its length.
    async fn answer(&mut self) -> Result<usize> {
        loop {
            if let Some(end) = self.unread().windows(4).position(|four| four == b"\r\n\r\n") {
                return Ok(end + 4);
            }
            if self.end > LONGEST_ANSWER {
                return Err(wrong("the answer to the request for a WebSocket does not end"));
            }
            if poll_fn(|cx| self.poll_fill(cx)).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn unread(&self) -> &[u8] {
        &self.input[self.start..self.end]
    }

    /// Reads what there is; returns how much.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize>> {
        self.input.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let mut room = ReadBuf::new(&mut self.input[self.end..]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room))?;
        let count = room.filled().len();
        self.end += count;
        Poll::Ready(Ok(count))
    }

    /// Gives the stream what was framed.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        while self.taken < self.output.len() {
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.output[self.taken..]))?;
            if count == 0 {
                return Poll::Ready(Err(ErrorKind::WriteZero.into()));
            }
            self.taken += count;
        }
        self.output.clear();
        self.taken = 0;
        Poll::Ready(Ok(()))
    }

    /// The same for a writer.
    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let drained = self.poll_drain(cx);
        self.writer_waits = drained.is_pending();
        drained
    }

    fn frame(&mut self, kind: u8, payload: &[u8]) {
        // Each masked anew, so that no text of ours can be taken for a request by what stands between.
        let [a, b, c, d, ..] = *Uuid::new_v4().as_bytes();
        self.output.extend(header(kind, payload.len()));
        self.output.extend([a, b, c, d]);
        self.output
            .extend(payload.iter().zip([a, b, c, d].into_iter().cycle()).map(|(byte, mask)| byte ^ mask));
    }

    /// Takes a header, or a whole frame of the protocol's own, off what was read; false where there is too little.
    fn take(&mut self) -> Result<bool> {
        match self.awaited {
            Awaited::Header => {
                let Some((awaited, length)) = next_frame(self.unread())? else { return Ok(false) };
                self.start += length;
                self.awaited = awaited;
            }
            Awaited::Data(0) => self.awaited = Awaited::Header,
            Awaited::Data(_) | Awaited::End => return Ok(false),
            Awaited::Control(kind, length) => {
                let Some(payload) = self.unread().get(..length).map(<[u8]>::to_vec) else { return Ok(false) };
                self.start += length;
                self.awaited = Awaited::Header;
                match kind {
                    PING if self.output.len() < WAITING => self.frame(PONG, &payload),
                    CLOSE => self.awaited = Awaited::End,
                    _ => {}
                }
            }
        }
        Ok(true)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        loop {
            while this.take()? {}
            // Answers to pings. A writer that waits writes them, too.
            if !this.output.is_empty() && !this.writer_waits && this.poll_drain(cx)?.is_ready() {
                let _flushing = Pin::new(&mut this.stream).poll_flush(cx)?;
            }
            match this.awaited {
                Awaited::End => return Poll::Ready(Ok(())),
                Awaited::Data(left) if !this.unread().is_empty() => {
                    let most = usize::try_from(left).unwrap_or(usize::MAX);
                    let count = most.min(this.unread().len()).min(room.remaining());
                    room.put_slice(&this.unread()[..count]);
                    this.start += count;
                    this.awaited = Awaited::Data(left - count as u64);
                    return Poll::Ready(Ok(()));
                }
                _ => {}
            }
            if ready!(this.poll_fill(cx))? == 0 {
                let between = matches!(this.awaited, Awaited::Header) && this.unread().is_empty();
                let cut = || Err(ErrorKind::UnexpectedEof.into());
                return Poll::Ready(if between { Ok(()) } else { cut() });
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_written(cx))?;
        let count = bytes.len().min(BUFFER);
        if count > 0 {
            this.frame(BINARY, &bytes[..count]);
            // What the stream doesn't take now it takes at the next write or flush.
            let _waiting = this.poll_written(cx)?;
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_written(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        if !this.closing {
            this.closing = true;
            // "Normal closure".
            this.frame(CLOSE, &1000_u16.to_be_bytes());
        }
        ready!(this.poll_written(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

/// The header of a whole and masked frame, without its mask.
fn header(kind: u8, length: usize) -> Vec<u8> {
    const WHOLE: u8 = 0x80;
    const MASKED: u8 = 0x80;
    let mut header = vec![WHOLE | kind];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ ..=125), _) => header.push(MASKED | length),
        (_, Ok(length)) => {
            header.push(MASKED | 126);
            header.extend(length.to_be_bytes());
        }
        _ => {
            header.push(MASKED | 127);
            header.extend((length as u64).to_be_bytes());
        }
    }
    header
}

/// What a header says, and its length, if all of it is there. How a message is cut into frames is nothing to a stream.
fn next_frame(bytes: &[u8]) -> Result<Option<(Awaited, usize)>> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    if first & 0x70 != 0 || second & 0x80 != 0 {
        return Err(wrong("a frame has bits that a server's have not"));
    }
    let (length, size) = match second {
        126 => (rest.first_chunk().map(|length| u64::from(u16::from_be_bytes(*length))), 4),
        127 => (rest.first_chunk().map(|length| u64::from_be_bytes(*length)), 10),
        length => (Some(u64::from(*length)), 2),
    };
    let Some(length) = length else { return Ok(None) };
    let awaited = match (first & 0x0f, usize::try_from(length)) {
        (0 | BINARY, _) => Awaited::Data(length),
        (kind @ (CLOSE | PING | PONG), Ok(length @ ..=125)) if first & 0x80 != 0 => {
            Awaited::Control(kind, length)
        }
        _ => return Err(wrong("a frame is of a kind that AMQP has no use for")),
    };
    Ok(Some((awaited, size)))
}

/// Whether the peer has agreed, and is no echo or cache.
fn check(answer: &[u8], key: &str) -> Result<()> {
    let text = String::from_utf8_lossy(answer);
    let mut lines = text.split("\r\n");
    let status = lines.next().unwrap_or_default();
    if !status.starts_with("HTTP/1.1 101") {
        let status: String = status.chars().filter(|c| !c.is_control()).take(100).collect();
        return Err(wrong(&format!("the request for a WebSocket was answered with `{status}`")));
    }
    let headers: Vec<_> = lines.filter_map(|line| line.split_once(':')).collect();
    let has = |name: &str, fits: &dyn Fn(&str) -> bool| {
        headers.iter().any(|(found, value)| found.eq_ignore_ascii_case(name) && fits(value.trim()))
    };
    let accept = STANDARD.encode(Sha1::digest(format!("{key}{GUID}")));
    if has("Upgrade", &|value| value.eq_ignore_ascii_case("websocket"))
        && has("Sec-WebSocket-Accept", &|value| value == accept)
        && has("Sec-WebSocket-Protocol", &|value| value.eq_ignore_ascii_case("amqp"))
    {
        return Ok(());
    }
    Err(wrong("the answer to the request for a WebSocket agrees to something else"))
}

fn wrong(text: &str) -> Error {
    Error::new(ErrorKind::InvalidData, text)
}

#[cfg(test)]
#[path = "web_socket/tests.rs"]
mod tests;
