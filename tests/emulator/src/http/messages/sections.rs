//! The sections of an AMQP message, as far as HTTP has anything to put into them or to take out.

use bytes::Bytes;
use serde_amqp::Value as Amqp;
use serde_amqp::described::Described;
use serde_amqp::descriptor::Descriptor;
use serde_amqp::primitives::{OrderedMap, Symbol, Timestamp};
use serde_bytes::ByteBuf;

use crate::model::{Message, Properties, Span, Time, Value};

const HEADER: u64 = 0x70;
const ANNOTATIONS: u64 = 0x72;
const PROPERTIES: u64 = 0x73;
const APPLICATION: u64 = 0x74;
const DATA: u64 = 0x75;
const SEQUENCE: u64 = 0x76;
const VALUE: u64 = 0x77;

/// Writes a message's properties and body into its `raw`.
pub(super) fn encode(mut message: Message, body: &[u8]) -> Message {
    let mut raw = Vec::with_capacity(body.len() + 256);
    if let Some(Span(milliseconds)) = message.time_to_live {
        let milliseconds = u32::try_from(milliseconds).unwrap_or(u32::MAX);
        section(&mut raw, HEADER, Amqp::List(vec![Amqp::Null, Amqp::Null, Amqp::Uint(milliseconds)]));
    }
    let mut annotations = OrderedMap::new();
    if let Some(key) = &message.properties.partition_key {
        annotations.insert(symbol("x-opt-partition-key"), Amqp::String(key.clone()));
    }
    if let Some(Time(milliseconds)) = message.scheduled_enqueue_time {
        let time = Timestamp::from_milliseconds(i64::try_from(milliseconds).unwrap_or(i64::MAX));
        annotations.insert(symbol("x-opt-scheduled-enqueue-time"), Amqp::Timestamp(time));
    }
    if !annotations.is_empty() {
        section(&mut raw, ANNOTATIONS, Amqp::Map(annotations));
    }
    section(&mut raw, PROPERTIES, properties(&message.properties));
    if !message.application.is_empty() {
        let pairs = message.application.iter().map(|(key, value)| (Amqp::String(key.clone()), amqp(value)));
        section(&mut raw, APPLICATION, Amqp::Map(pairs.collect()));
    }
    section(&mut raw, DATA, Amqp::Binary(ByteBuf::from(body)));
    message.raw = raw.into();
    message
}

fn section(raw: &mut Vec<u8>, code: u64, value: Amqp) {
    let described = Described { descriptor: Descriptor::Code(code), value };
    // A value can always be written: there is no input that could be wrong.
    if let Ok(bytes) = serde_amqp::to_vec(&described) {
        raw.extend_from_slice(&bytes);
    }
}

fn symbol(name: &str) -> Amqp {
    Amqp::Symbol(Symbol::from(name))
}

fn properties(properties: &Properties) -> Amqp {
    let text = |text: &Option<String>| text.clone().map_or(Amqp::Null, Amqp::String);
    let content_type = properties.content_type.as_deref().map_or(Amqp::Null, symbol);
    let mut list = vec![
        text(&properties.message_id),
        Amqp::Null, // user-id
        text(&properties.to),
        text(&properties.subject),
        text(&properties.reply_to),
        text(&properties.correlation_id),
        content_type,
        Amqp::Null, // content-encoding
        Amqp::Null, // absolute-expiry-time
        Amqp::Null, // creation-time
        text(&properties.session_id),
        Amqp::Null, // group-sequence
        text(&properties.reply_to_session_id),
    ];
    while list.last() == Some(&Amqp::Null) {
        list.pop();
    }
    Amqp::List(list)
}

/// Only what a header or JSON can give.
fn amqp(value: &Value) -> Amqp {
    match value {
        Value::Bool(it) => Amqp::Bool(*it),
        Value::Int(it) => Amqp::Int(*it),
        Value::Long(it) => Amqp::Long(*it),
        Value::Double(it) => Amqp::Double((*it).into()),
        Value::String(it) => Amqp::String(it.clone()),
        _ => Amqp::Null,
    }
}

/// The body as bytes: of data sections all, of a value the text or bytes that it is. None where it is anything else,
/// which HTTP has no way to show.
pub(super) fn body(raw: &Bytes) -> Option<Vec<u8>> {
    let mut body = None;
    let mut rest = &raw[..];
    while !rest.is_empty() {
        let (code, value, behind) = split(rest)?;
        match code {
            DATA => {
                let Ok(Amqp::Binary(bytes)) = serde_amqp::from_slice(value) else { return None };
                body.get_or_insert_with(Vec::new).extend_from_slice(&bytes);
            }
            VALUE => {
                body = match serde_amqp::from_slice(value).ok()? {
                    Amqp::Null => Some(Vec::new()),
                    Amqp::String(text) => Some(text.into_bytes()),
                    Amqp::Binary(bytes) => Some(bytes.into_vec()),
                    Amqp::Symbol(text) => Some(text.to_string().into_bytes()),
                    _ => return None,
                }
            }
            SEQUENCE => return None,
            _ => {}
        }
        rest = behind;
    }
    Some(body.unwrap_or_default())
}

/// The first section's code and its value's encoding, and what comes behind it.
fn split(bytes: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let described = bytes.strip_prefix(&[0x00])?;
    let descriptor = length(described)?;
    let code = match described.split_at_checked(descriptor)? {
        ([0x53, code], _) => u64::from(*code),
        ([0x80, code @ ..], _) => u64::from_be_bytes(code.try_into().ok()?),
        // By its name: older than every client here.
        _ => 0,
    };
    let value = &described[descriptor..];
    let (value, behind) = value.split_at_checked(length(value)?)?;
    Some((code, value, behind))
}

/// How many bytes an encoded value has: its first byte says how wide it is, or how wide its size.
fn length(encoded: &[u8]) -> Option<usize> {
    let size = |width: usize| {
        let bytes = encoded.get(1..=width)?;
        Some(1 + width + bytes.iter().fold(0, |size, byte| size << 8 | usize::from(*byte)))
    };
    match encoded.first()? >> 4 {
        0x4 => Some(1),
        0x5 => Some(2),
        0x6 => Some(3),
        0x7 => Some(5),
        0x8 => Some(9),
        0x9 => Some(17),
        0xA | 0xC | 0xE => size(1),
        0xB | 0xD | 0xF => size(4),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_found_behind_whatever_comes_before() {
        let properties = Properties { message_id: Some("m".repeat(300)), ..Properties::default() };
        let message = Message { properties, time_to_live: Some(Span::seconds(5)), ..Message::default() };
        for length in [0, 1, 255, 256, 70_000] {
            let content = vec![7; length];
            assert_eq!(body(&encode(message.clone(), &content).raw), Some(content));
        }
        assert_eq!(body(&Bytes::from_static(b"\x00\x53\x77\xa1\x02hi")), Some(b"hi".to_vec()));
        assert_eq!(
            body(&Bytes::from_static(b"\x00\x53\x75\xa0\x01a\x00\x53\x75\xa0\x01b")),
            Some(b"ab".to_vec())
        );
        assert_eq!(body(&Bytes::from_static(b"\x00\x80\0\0\0\0\0\0\0\x75\xa0\x01a")), Some(b"a".to_vec()));
        assert_eq!(body(&Bytes::new()), Some(Vec::new()));
        for unshown in
            [&b"\x00\x53\x77\x54\x01"[..], b"\x00\x53\x76\x45", b"\x00\x53\x75\xa0\x05a", b"\x53", b"\x00"]
        {
            assert_eq!(body(&Bytes::from_static(unshown)), None, "{unshown:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn garbage_has_no_body_worth_a_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40), section in 0x70u8..0x79) {
            let _any = body(&Bytes::from(bytes.clone()));
            let _any = body(&[&[0x00, 0x53, section], bytes.as_slice()].concat().into());
        }
    }
}
