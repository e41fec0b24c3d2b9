//! Between envelopes and AMQP messages: the wire format, both ways.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fe2o3_amqp::link::delivery::Sendable;
use fe2o3_amqp::types::messaging::annotations::OwnedKey;
use fe2o3_amqp::types::messaging::{
    ApplicationProperties, Batch, Body, Data, Header, Message as AmqpMessage, MessageAnnotations, MessageId,
    Properties,
};
use fe2o3_amqp::types::primitives::{Binary, OrderedMap, SimpleValue, Symbol, Timestamp, Value};

use super::body::Plain;
use crate::broker::Message;
use crate::broker::namespace::wire;
use crate::envelope::{Envelope, Headers};

/// The message format of a batch: one data section for each message (Service Bus, AMQP protocol guide).
const BATCH: u32 = 0x8001_3700;
/// Bytes that a batch adds around each message.
const AROUND_EACH: usize = 12;
/// Bytes that a batch adds at its beginning.
const AROUND_ALL: usize = 512;
/// An encoded message or batch, and how many bytes it takes.
pub(super) struct Encoded {
    pub(super) sendable: Sendable<Body<Value>>,
    pub(super) size: usize,
}

/// Encodes events as one message, or as one batch of several.
pub(super) fn encode(events: &[Envelope], source: &str) -> Result<Encoded, String> {
    if let [event] = events {
        let size = AROUND_ALL + bytes_of(event, source)?.len();
        let sendable = Sendable::builder().message(message_of(event, source)).build();
        return Ok(Encoded { sendable, size });
    }
    let mut parts = Vec::with_capacity(events.len());
    for event in events {
        parts.push(Data(Binary::from(bytes_of(event, source)?)));
    }
    let size = AROUND_ALL + parts.iter().map(|part| part.0.len() + AROUND_EACH).sum::<usize>();
    let mut message = AmqpMessage::from(Body::Data(Batch::new(parts)));
    // As Microsoft's clients do: the envelope has what tells the first message apart.
    message.properties = events.first().map(|first| Properties {
        message_id: Some(MessageId::String(first.id.to_string())),
        group_id: Some(wire::session_of(first)),
        ..Properties::default()
    });
    Ok(Encoded { sendable: Sendable::builder().message(message).message_format(BATCH).build(), size })
}

fn message_of(event: &Envelope, source: &str) -> AmqpMessage<Body<Value>> {
    let body = Body::Data(Batch::new(vec![Data(Binary::from(event.data.clone().into_bytes()))]));
    let properties = ApplicationProperties(properties_of(event, source));
    AmqpMessage { application_properties: Some(properties), ..around(event, body) }
}

/// A message about an event with this for its body, and without its application properties.
fn around<B>(event: &Envelope, body: B) -> AmqpMessage<B> {
    let scheduled = event.deliver_at.map(|time| {
        let key = OwnedKey::Symbol(Symbol::from("x-opt-scheduled-enqueue-time"));
        let mut annotations = OrderedMap::new();
        annotations.insert(key, Value::Timestamp(timestamp(time)));
        MessageAnnotations(annotations)
    });
    AmqpMessage {
        header: ttl_of(event).map(|ttl| Header { durable: true, ttl: Some(ttl), ..Header::default() }),
        delivery_annotations: None,
        message_annotations: scheduled,
        properties: Some(Properties {
            message_id: Some(MessageId::String(event.id.to_string())),
            subject: Some(event.name.clone()),
            correlation_id: event.correlation_id.clone().map(MessageId::String),
            content_type: Some(Symbol::from(wire::CONTENT_TYPE)),
            group_id: Some(wire::session_of(event)),
            ..Properties::default()
        }),
        application_properties: None,
        body,
        footer: None,
    }
}

fn properties_of(event: &Envelope, source: &str) -> OrderedMap<String, SimpleValue> {
    let texts = wire::properties_of(event, source).into_iter();
    let mut properties: OrderedMap<_, _> =
        texts.map(|(name, value)| (name, SimpleValue::String(value))).collect();
    let time = SimpleValue::Timestamp(timestamp(event.created_at));
    properties.insert(wire::CLOUD_EVENTS_TIME.to_owned(), time);
    properties
}

/// In milliseconds, as AMQP has it.
fn ttl_of(event: &Envelope) -> Option<u32> {
    Some(u32::try_from(wire::ttl_of(event)?.as_millis()).unwrap_or(u32::MAX))
}

pub(super) fn bytes_of(event: &Envelope, source: &str) -> Result<Vec<u8>, String> {
    let message = around(event, ());
    let mut bytes = Vec::with_capacity(event.data.len() + 1024);
    let mut put = |section: Result<Vec<u8>, serde_amqp::Error>| {
        section.map(|section| bytes.extend(section)).map_err(|error| error.to_string())
    };
    if let Some(header) = &message.header {
        put(serde_amqp::to_vec(header))?;
    }
    if let Some(annotations) = &message.message_annotations {
        put(serde_amqp::to_vec(annotations))?;
    }
    put(serde_amqp::to_vec(&message.properties))?;
    put_application_properties(&mut bytes, &wire::properties_of(event, source), event.created_at);
    put_data(&mut bytes, event.data.as_bytes());
    Ok(bytes)
}

/// The section of that name (AMQP 1.0, 3.2.5, 1.6.20, 1.6.23 and 1.6.17), without the map of values that an owned one would
/// be made from: a relay sends some hundred thousands of texts a second this way.
fn put_application_properties(bytes: &mut Vec<u8>, texts: &Headers, time: SystemTime) {
    bytes.extend([0x00, 0x53, 0x74, 0xd1]);
    let at = bytes.len();
    let count = u32::try_from(2 * (texts.len() + 1)).unwrap_or(u32::MAX);
    bytes.extend([0; 4]);
    bytes.extend(count.to_be_bytes());
    for (name, value) in texts {
        put_sized(bytes, 0xa1, name.as_bytes());
        put_sized(bytes, 0xa1, value.as_bytes());
    }
    put_sized(bytes, 0xa1, wire::CLOUD_EVENTS_TIME.as_bytes());
    bytes.push(0x83);
    bytes.extend(wire::milliseconds(time).to_be_bytes());
    let size = u32::try_from(bytes.len() - at - 4).unwrap_or(u32::MAX);
    bytes[at..at + 4].copy_from_slice(&size.to_be_bytes());
}

/// A data section (AMQP 1.0, 3.2.6), without the copies that an owned one would be made by: the body is most of a message.
fn put_data(bytes: &mut Vec<u8>, data: &[u8]) {
    bytes.extend([0x00, 0x53, 0x75]);
    put_sized(bytes, 0xa0, data);
}

/// A text or bytes by the code of their short form (AMQP 1.0, 1.6.19 and 1.6.20); that of the long one is 16 further.
fn put_sized(bytes: &mut Vec<u8>, code: u8, content: &[u8]) {
    match u8::try_from(content.len()) {
        Ok(length) => bytes.extend([code, length]),
        Err(_) => {
            bytes.push(code + 0x10);
            bytes.extend(u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes());
        }
    }
    bytes.extend_from_slice(content);
}

/// What is received: bytes, or a value.
pub(super) type Received = Body<Plain>;

/// A received message in the words of the port.
pub(super) fn decode(message: AmqpMessage<Received>) -> Message {
    let delivery_count = message.header.map_or(0, |header| header.delivery_count.saturating_add(1));
    let properties = message.properties.unwrap_or_default();
    let annotations = message.message_annotations.map(|found| found.0).unwrap_or_default();
    let annotation = |name: &str| annotations.get(&OwnedKey::Symbol(Symbol::from(name)));
    let time = |value: Option<&Value>| match value {
        Some(Value::Timestamp(time)) => Some(system_time(time)),
        _ => None,
    };
    let mut headers: Headers = message
        .application_properties
        .map(|found| found.0)
        .unwrap_or_default()
        .into_iter()
        .filter_map(|(name, value)| Some((name, text(&value.into())?)))
        .collect();
    let dead_letter_reason = wire::take_dead_letter_reason(&mut headers);
    // They stand there under their own names, too.
    headers.remove(wire::MORE_HEADERS);
    Message {
        message_id: properties.message_id.map(id_text),
        subject: properties.subject,
        body: body_of(message.body),
        content_type: properties.content_type.map(Symbol::into_inner),
        session_id: properties.group_id,
        correlation_id: properties.correlation_id.map(id_text),
        properties: headers,
        sequence_number: match annotation("x-opt-sequence-number") {
            Some(Value::Long(number)) => *number,
            _ => 0,
        },
        enqueued_at: time(annotation("x-opt-enqueued-time")),
        delivery_count,
        expires_at: expiry(properties.absolute_expiry_time.as_ref()),
        dead_letter_reason,
    }
}

/// Service Bus writes the end of all time where a message has none of its own.
fn expiry(time: Option<&Timestamp>) -> Option<SystemTime> {
    /// 9999-12-31 in milliseconds, less a day.
    const NEVER: i64 = 253_402_214_400_000;
    time.filter(|time| time.milliseconds() < NEVER).map(system_time)
}

/// Until when a message is locked.
pub(super) fn locked_until(message: &AmqpMessage<Received>) -> Option<SystemTime> {
    let key = OwnedKey::Symbol(Symbol::from("x-opt-locked-until"));
    match message.message_annotations.as_ref()?.0.get(&key)? {
        Value::Timestamp(time) => Some(system_time(time)),
        _ => None,
    }
}

fn body_of(body: Received) -> Vec<u8> {
    match body {
        Body::Data(parts) => {
            let mut bytes = Vec::new();
            for part in parts {
                bytes.extend_from_slice(&part.0);
            }
            bytes
        }
        Body::Value(value) => match value.0.0 {
            SimpleValue::Binary(bytes) => bytes.into_vec(),
            value => text(&value.into()).unwrap_or_default().into_bytes(),
        },
        Body::Sequence(_) | Body::Empty => Vec::new(),
    }
}

fn id_text(id: MessageId) -> String {
    match id {
        MessageId::String(text) => text,
        MessageId::Uuid(uuid) => uuid::Uuid::from_bytes(uuid.into_inner()).to_string(),
        MessageId::Ulong(number) => number.to_string(),
        MessageId::Binary(bytes) => uuid::Uuid::from_slice(&bytes)
            .map_or_else(|_| String::from_utf8_lossy(&bytes).into_owned(), |uuid| uuid.to_string()),
    }
}

/// A property as text, in CloudEvents' canonical forms.
fn text(value: &Value) -> Option<String> {
    Some(match value {
        Value::String(text) => text.clone(),
        Value::Symbol(symbol) => symbol.as_str().to_owned(),
        Value::Char(char) => char.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Ubyte(value) => value.to_string(),
        Value::Ushort(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Ulong(value) => value.to_string(),
        Value::Byte(value) => value.to_string(),
        Value::Short(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Long(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        Value::Double(value) => value.to_string(),
        Value::Timestamp(time) => wire::rfc3339(time.milliseconds())?,
        Value::Uuid(uuid) => uuid::Uuid::from_bytes(uuid.clone().into_inner()).to_string(),
        Value::Binary(bytes) => String::from_utf8(bytes.to_vec()).ok()?,
        _ => return None,
    })
}

fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::from_milliseconds(wire::milliseconds(time))
}

fn system_time(time: &Timestamp) -> SystemTime {
    let millis = Duration::from_millis(time.milliseconds().unsigned_abs());
    let moved =
        if time.milliseconds() < 0 { UNIX_EPOCH.checked_sub(millis) } else { UNIX_EPOCH.checked_add(millis) };
    moved.unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use fe2o3_amqp::types::messaging::message::DecodeIntoMessage;
    use serde::Deserialize;

    use super::*;
    use crate::broker::Source;
    use crate::inbox::incoming::incoming;

    /// What other buses send, as the SDKs that they use encode it; written by `tests/tests/interop/peer.py - vectors`, where
    /// a test holds this file to what those SDKs write.
    const VECTORS: &str = include_str!("vectors.json");

    #[derive(Deserialize)]
    struct Vector {
        name: String,
        amqp: String,
    }

    fn bytes(hex: &str) -> Vec<u8> {
        hex.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn what_other_buses_send_is_read_as_they_mean_it() {
        let vectors: Vec<Vector> = serde_json::from_str(VECTORS).unwrap();
        assert_eq!(vectors.len(), 16);
        for Vector { name, amqp } in vectors {
            let amqp = bytes(&amqp);
            let reader = serde_amqp::read::SliceReader::new(&amqp);
            let read = Received::decode_message_from_reader(reader).unwrap();
            let event = incoming(decode(read), &Source::new("events", "billing"));
            assert_eq!(event.dead, None, "{name}");
            let dialect = name.strip_suffix(", traced").unwrap_or(&name);
            let (event_name, number) = match dialect {
                "abp direct" | "abp outbox batch (copy)" => ("Acme.Ordering.OrderPlacedEto", 1),
                "abp outbox batch" => ("Acme.Ordering.OrderPlacedEto", 2),
                "aspnetzero" => ("Acme.Ordering.OrderPlacedEto", 3),
                "cloudevents binary" => ("order-placed", 4),
                "cloudevents binary, colon" => ("order-placed", 5),
                "cloudevents structured" => ("order-placed", 6),
                "aspnetzero named" => ("Acme.Ordering.OrderPlacedEto", 7),
                other => panic!("an unknown vector: {other}"),
            };
            assert_eq!(event.name, event_name, "{name}");
            let body: serde_json::Value = match &event.body {
                crate::storage::Body::Text(text) => serde_json::from_str(text).unwrap(),
                other => panic!("{name}: {other:?}"),
            };
            let expected = serde_json::json!({ "orderNumber": number, "tenantId": null, "note": "Grüße" });
            assert_eq!(body, expected, "{name}");
            match dialect {
                "abp direct" | "abp outbox batch (copy)" => {
                    assert_eq!(event.id.to_string(), "0192f1c0-a3b4-7c5d-8e9f-000000000001", "{name}");
                }
                "aspnetzero" => {
                    assert_eq!(event.message_id, event.id.to_string(), "by its place at the broker")
                }
                "cloudevents binary" | "cloudevents binary, colon" | "cloudevents structured" => {
                    assert_eq!(event.message_id, format!("ce-{number}"), "{name}");
                }
                _ => {}
            }
            assert_eq!((event.version, event.session_id), (1, None), "{name}");
            assert_eq!(event.headers.contains_key("Diagnostic-Id"), name.ends_with(", traced"), "{name}");
        }
    }

    /// The wire format is kept: what an earlier version has sent must be read by a later one, and the other way round.
    #[test]
    fn what_is_sent_stays_as_it_is() {
        let id = "0192f1c0-a3b4-7c5d-8e9f-001122334455".parse().unwrap();
        let mut event = Envelope::new(id, "ordering.order-placed", r#"{"orderNumber":7}"#);
        event.version = 2;
        event.created_at = UNIX_EPOCH + Duration::from_millis(1_800_000_000_123);
        event.session_id = Some("7".to_owned());
        event.correlation_id = Some("checkout-7".to_owned());
        event.causation_id = Some("0192f1c0-a3b4-7c5d-8e9f-000000000001".to_owned());
        event.headers.insert("Tenant".to_owned(), "acme".to_owned());
        event.headers.insert(
            crate::envelope::TRACEPARENT.to_owned(),
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned(),
        );
        let sent: String =
            bytes_of(&event, "sb://here").unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(sent, include_str!("sent.hex").trim());
    }
}

#[cfg(test)]
mod properties;
