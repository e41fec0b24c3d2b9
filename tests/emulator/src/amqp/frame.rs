//! Frames: eight bytes, a performative, a payload.

use bytes::{BufMut, BytesMut};

use super::error::Error;
use super::performative::Performative;
use super::read::Reader;
use super::value::Value;

/// What a connection begins with, by its protocol's number.
pub(super) const AMQP: [u8; 8] = *b"AMQP\x00\x01\x00\x00";
pub(super) const TLS: [u8; 8] = *b"AMQP\x02\x01\x00\x00";
pub(super) const SASL: [u8; 8] = *b"AMQP\x03\x01\x00\x00";

/// A frame's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Amqp = 0,
    Sasl = 1,
}

/// A whole frame at the front of what came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    pub(super) kind: Kind,
    pub(super) channel: u16,
    pub(super) body: &'a [u8],
    /// With its header.
    pub(super) length: usize,
}

fn framing(text: impl Into<String>) -> Error {
    Error::new("amqp:connection:framing-error", text)
}

/// The first frame, once it is there as a whole. The size is checked as soon as it is known.
pub(super) fn first(bytes: &[u8], largest: u32) -> Result<Option<Frame<'_>>, Error> {
    let Some(([s0, s1, s2, s3, offset, kind, c0, c1], _)) = bytes.split_first_chunk() else {
        return Ok(None);
    };
    let size = u32::from_be_bytes([*s0, *s1, *s2, *s3]);
    if size > largest {
        return Err(framing(format!("a frame of {size} bytes; the largest is {largest}")));
    }
    let kind = match kind {
        0 => Kind::Amqp,
        1 => Kind::Sasl,
        other => return Err(framing(format!("a frame of the kind {other}, which AMQP doesn't have"))),
    };
    let (length, offset) = (size as usize, usize::from(*offset) * 4);
    if offset < 8 || length < offset {
        return Err(framing(format!("a frame of {length} bytes whose body begins at {offset}")));
    }
    let channel = u16::from_be_bytes([*c0, *c1]);
    Ok(bytes.get(offset..length).map(|body| Frame { kind, channel, body, length }))
}

/// A body's performative and what stands behind it. None in an empty frame, which only says that its sender lives.
pub(super) fn performative(body: &[u8]) -> Result<Option<(Performative, &[u8])>, Error> {
    if body.is_empty() {
        return Ok(None);
    }
    let mut reader = Reader::new(body);
    let code = reader.descriptor()?;
    let fields = match reader.value()? {
        Value::List(fields) => fields,
        _ => return Err(framing("a performative that isn't a list")),
    };
    let performative = Performative::read(code, fields)?;
    Ok(Some((performative, reader.rest())))
}

/// A frame that is written into the output.
#[derive(Debug)]
#[must_use = "it is closed at its end"]
pub(super) struct Open(usize);

impl Open {
    pub(super) fn new(out: &mut BytesMut, kind: Kind, channel: u16) -> Self {
        let start = out.len();
        out.put_u32(0);
        out.extend_from_slice(&[2, kind as u8]);
        out.put_u16(channel);
        Self(start)
    }

    pub(super) fn close(self, out: &mut BytesMut) {
        let size = u32::try_from(out.len() - self.0).unwrap_or(u32::MAX);
        out[self.0..self.0 + 4].copy_from_slice(&size.to_be_bytes());
    }
}

/// The frame that says nothing.
pub(super) fn empty(out: &mut BytesMut) {
    Open::new(out, Kind::Amqp, 0).close(out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_there_when_its_last_byte_is() {
        let mut out = BytesMut::new();
        let open = Open::new(&mut out, Kind::Amqp, 7);
        out.extend_from_slice(b"body");
        open.close(&mut out);
        out.extend_from_slice(b"next");
        for part in 0..12 {
            assert!(first(&out[..part], 512).unwrap().is_none());
        }
        let frame = first(&out, 512).unwrap().unwrap();
        assert_eq!((frame.kind, frame.channel, frame.body, frame.length), (Kind::Amqp, 7, &b"body"[..], 12));
    }

    #[test]
    fn wrong_sizes_are_told_before_anything_else_came() {
        for wrong in [
            &b"\x00\x00\x02\x01\x02\x00\x00\x00"[..],
            b"\xff\xff\xff\xff\x02\x00\x00\x00",
            b"\x00\x00\x00\x07\x02\x00\x00\x00",
            b"\x00\x00\x00\x08\x01\x00\x00\x00",
            b"\x00\x00\x00\x08\x03\x00\x00\x00",
            b"\x00\x00\x00\x08\x02\x02\x00\x00",
            b"HTTP/1.1",
        ] {
            assert!(first(wrong, 512).is_err(), "{wrong:x?}");
        }
    }
}
