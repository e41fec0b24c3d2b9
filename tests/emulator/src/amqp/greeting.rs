//! What comes before AMQP's own frames: protocol headers and SASL.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Shared;
use super::encode::Composite;
use super::frame::{self, AMQP, Kind, SASL, TLS};
use super::read::Reader;
use super::value::Value;

const MECHANISMS: [&str; 4] = ["MSSBCBS", "PLAIN", "ANONYMOUS", "EXTERNAL"];
/// SASL's own limit is 512, which a token as password doesn't keep to.
const LARGEST: u32 = 64 * 1024;

/// How a connection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Greeting {
    /// As somebody who has yet to show a token.
    Anonymous,
    /// As somebody who has shown the key.
    Known,
    /// Not at all; what there was to say was said.
    Refused,
}

/// Greets a client. Bytes that came behind its greeting stay in `inbox`.
pub(super) async fn greet(
    shared: &Shared,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    inbox: &mut BytesMut,
) -> io::Result<Greeting> {
    let mut greeting = Greeting::Anonymous;
    let mut header = header(stream, inbox).await?;
    if header == SASL {
        let mut out = BytesMut::from(&SASL[..]);
        mechanisms(&mut out);
        stream.write_all(&out).await?;
        greeting = match init(stream, inbox).await? {
            Some(init) => authenticate(shared, &init),
            None => Greeting::Refused,
        };
        stream.write_all(&outcome(greeting)).await?;
        if greeting == Greeting::Refused {
            return Ok(greeting);
        }
        header = self::header(stream, inbox).await?;
    } else if header != AMQP {
        // Nothing else is spoken here.
        stream.write_all(&SASL).await?;
        return Ok(Greeting::Refused);
    }
    stream.write_all(&AMQP).await?;
    Ok(if header == AMQP { greeting } else { Greeting::Refused })
}

/// Reads how a client begins. Where it asks for TLS within AMQP, and there is any, it is told so, and its next bytes are
/// TLS; everything else is put back.
pub(super) async fn wants_tls(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    inbox: &mut BytesMut,
) -> io::Result<bool> {
    let header = header(stream, inbox).await?;
    if header == TLS && inbox.is_empty() {
        stream.write_all(&TLS).await?;
        return Ok(true);
    }
    if header != [0; 8] {
        let behind = inbox.split();
        inbox.extend_from_slice(&header);
        inbox.extend_from_slice(&behind);
    }
    Ok(false)
}

async fn fill(stream: &mut (impl AsyncRead + Unpin), inbox: &mut BytesMut) -> io::Result<()> {
    match stream.read_buf(inbox).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// Reads a protocol header, or as much of it as shows that it is none.
async fn header(stream: &mut (impl AsyncRead + Unpin), inbox: &mut BytesMut) -> io::Result<[u8; 8]> {
    loop {
        if let Some(header) = inbox.first_chunk::<8>().copied() {
            inbox.advance(8);
            return Ok(header);
        }
        if !AMQP.starts_with(&inbox[..inbox.len().min(4)]) {
            return Ok([0; 8]);
        }
        fill(stream, inbox).await?;
    }
}

fn mechanisms(out: &mut BytesMut) {
    let open = frame::Open::new(out, Kind::Sasl, 0);
    let all = Value::Array(MECHANISMS.into_iter().map(Value::symbol).collect());
    Composite::new(out, 0x40).value(out, &all).close(out);
    open.close(out);
}

fn outcome(greeting: Greeting) -> BytesMut {
    let mut out = BytesMut::new();
    let open = frame::Open::new(&mut out, Kind::Sasl, 0);
    let code = u8::from(greeting == Greeting::Refused);
    Composite::new(&mut out, 0x44)
        .field(&mut out, |out| out.extend_from_slice(&[0x50, code]))
        .close(&mut out);
    open.close(&mut out);
    out
}

/// The client's choice and what it has to say for itself.
struct Init {
    mechanism: String,
    response: Vec<u8>,
}

/// Reads the client's choice; none where it is something else.
async fn init(stream: &mut (impl AsyncRead + Unpin), inbox: &mut BytesMut) -> io::Result<Option<Init>> {
    loop {
        match frame::first(inbox, LARGEST) {
            Err(_) => return Ok(None),
            Ok(None) => {}
            Ok(Some(frame)) => {
                let mut reader = Reader::new(frame.body);
                let choice = (frame.kind == Kind::Sasl && matches!(reader.descriptor(), Ok(0x41)))
                    .then(|| reader.value().ok())
                    .flatten();
                let length = frame.length;
                inbox.advance(length);
                return Ok(choice.and_then(|choice| {
                    let mechanism = choice.field(0)?.text()?.to_owned();
                    let response = choice.field(1).and_then(Value::binary);
                    Some(Init { mechanism, response: response.map(|it| it.to_vec()).unwrap_or_default() })
                }));
            }
        }
        fill(stream, inbox).await?;
    }
}

fn authenticate(shared: &Shared, init: &Init) -> Greeting {
    match init.mechanism.as_str() {
        "PLAIN" => {
            let mut parts = init.response.split(|byte| *byte == 0).skip(1).map(std::str::from_utf8);
            match (parts.next(), parts.next()) {
                (Some(Ok(name)), Some(Ok(key))) if shared.authority.check_key(name, key) => Greeting::Known,
                _ => Greeting::Refused,
            }
        }
        "MSSBCBS" | "ANONYMOUS" | "EXTERNAL" => Greeting::Anonymous,
        _ => Greeting::Refused,
    }
}
