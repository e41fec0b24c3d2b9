//! Messages on their way out: the broker's annotations around the bytes that came in.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::encode::{self, Open};
use super::message::{
    ANNOTATIONS, APPLICATION, DELIVERY_ANNOTATIONS, HEADER, PARTITION_KEY, PROPERTIES, Sections,
};
use super::read::Reader;
use super::value::{Malformed, Value};
use crate::model::{Delivery, Message, MessageState, SystemProperty, Time, Value as Simple};

/// What the broker alone says about a message: a client that says it too has copied it from another one.
const OURS: [&str; 7] = [
    "x-opt-sequence-number",
    "x-opt-enqueue-sequence-number",
    "x-opt-enqueued-time",
    "x-opt-locked-until",
    "x-opt-message-state",
    "x-opt-deadletter-source",
    "x-opt-lock-token",
];

/// Where each property stands in its list.
const FIELDS: [(SystemProperty, usize); 8] = [
    (SystemProperty::MessageId, 0),
    (SystemProperty::To, 2),
    (SystemProperty::Subject, 3),
    (SystemProperty::ReplyTo, 4),
    (SystemProperty::CorrelationId, 5),
    (SystemProperty::ContentType, 6),
    (SystemProperty::SessionId, 10),
    (SystemProperty::ReplyToSessionId, 12),
];
const CONTENT_TYPE: usize = 6;
const ABSOLUTE_EXPIRY: usize = 8;
const MOST_FIELDS: usize = 13;

/// What a message is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    /// A link.
    Receiver,
    /// An answer of `$management`, where there are no delivery annotations.
    Answer,
}

/// An encoded message: what was written for it, and the body as it came.
#[derive(Clone, Debug)]
pub(super) struct Payload {
    head: Bytes,
    /// The message, and where its body begins.
    body: Option<(Arc<Message>, usize)>,
}

impl Payload {
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self { head: bytes, body: None }
    }

    pub(super) fn len(&self) -> usize {
        self.head.len() + self.body().len()
    }

    fn body(&self) -> &[u8] {
        self.body.as_ref().map_or(&[], |(message, begins)| &message.raw[*begins..])
    }

    /// Bytes of what isn't the body.
    pub(super) fn head_len(&self) -> usize {
        self.head.len()
    }

    /// Copies a part into the output.
    pub(super) fn write(&self, out: &mut BytesMut, from: usize, length: usize) {
        let to = from + length;
        let split = self.head.len();
        if from < split {
            out.extend_from_slice(&self.head[from..to.min(split)]);
        }
        if to > split {
            out.extend_from_slice(&self.body()[from.max(split) - split..to - split]);
        }
    }
}

/// Encodes a delivery; its head is taken from the front of an empty buffer, so that many can come from one allocation.
/// What the HTTP door or this one let in can be taken apart again, so that an error is a defect.
pub(super) fn payload(delivery: &Delivery, purpose: For, head: &mut BytesMut) -> Result<Payload, Malformed> {
    let raw = &delivery.message.raw;
    let sections = Sections::find(raw)?;
    head.reserve(raw.len().min(sections.body) + 256);
    header(head, delivery, sections.header)?;
    if purpose == For::Receiver {
        section(head, DELIVERY_ANNOTATIONS);
        let map = Open::new(head, 0xd1);
        let mut count = 0;
        if let Some((token, _)) = delivery.lock {
            encode::symbol(head, "x-opt-lock-token");
            encode::simple(head, &Simple::Uuid(token.0));
            count = 2;
        }
        map.close(head, count);
    }
    annotations(head, delivery, sections.annotations)?;
    properties(head, delivery, sections.properties)?;
    application(head, delivery, sections.application)?;
    let body = Some((Arc::clone(&delivery.message), sections.body));
    Ok(Payload { head: head.split().freeze(), body })
}

fn section(out: &mut BytesMut, code: u64) {
    out.put_u8(0);
    encode::ulong(out, code);
}

/// The delivery count is always there, even when it is nothing: a client takes one that is missing for unknown.
fn header(out: &mut BytesMut, delivery: &Delivery, before: Option<&[u8]>) -> Result<(), Malformed> {
    let before = before.map_or(Ok(Value::NULL), |header| Reader::new(header).value())?;
    let kept = |index: usize| before.field(index).unwrap_or(&Value::NULL);
    section(out, HEADER);
    let list = Open::new(out, 0xd0);
    encode::value(out, kept(0));
    encode::value(out, kept(1));
    match delivery.expires {
        // What counts is the entity's limit where that is shorter.
        Some(Time(expires)) => {
            let left = expires.saturating_sub(delivery.enqueued_time.0);
            encode::uint(out, u32::try_from(left).unwrap_or(u32::MAX));
        }
        None => encode::value(out, kept(2)),
    }
    out.put_u8(0x40);
    encode::uint(out, delivery.delivery_count);
    list.close(out, 5);
    Ok(())
}

fn annotations(out: &mut BytesMut, delivery: &Delivery, before: Option<&[u8]>) -> Result<(), Malformed> {
    section(out, ANNOTATIONS);
    let map = Open::new(out, 0xd1);
    let mut count = 0;
    let message = &delivery.message;
    let changed_key = message.changed_properties.contains(&SystemProperty::PartitionKey);
    if let Some(before) = before {
        let (values, mut entries) = Reader::new(before).compound()?;
        for _ in 0..values / 2 {
            let (key, value) = (entries.span()?, entries.span()?);
            let name = Reader::new(key).value()?;
            let dropped =
                name.text().is_some_and(|name| OURS.contains(&name) || changed_key && name == PARTITION_KEY);
            if !dropped {
                out.extend_from_slice(key);
                out.extend_from_slice(value);
                count += 2;
            }
        }
    }
    let mut add = |name: &str, value: &Simple| {
        encode::symbol(out, name);
        encode::simple(out, value);
        count += 2;
    };
    if changed_key && let Some(key) = &message.properties.partition_key {
        add(PARTITION_KEY, &Simple::String(key.clone()));
    }
    add("x-opt-enqueued-time", &time(delivery.enqueued_time));
    add("x-opt-sequence-number", &Simple::Long(delivery.sequence_number));
    if let Some(number) = delivery.enqueued_sequence_number {
        add("x-opt-enqueue-sequence-number", &Simple::Long(number));
    }
    if let Some((_, until)) = delivery.lock {
        add("x-opt-locked-until", &time(until));
    }
    if delivery.state != MessageState::Active {
        add("x-opt-message-state", &Simple::Int(delivery.state as i32));
    }
    if let Some(source) = &delivery.dead_letter_source {
        add("x-opt-deadletter-source", &Simple::String(source.clone()));
    }
    map.close(out, count);
    Ok(())
}

pub(super) fn time(Time(milliseconds): Time) -> Simple {
    Simple::Timestamp(i64::try_from(milliseconds).unwrap_or(i64::MAX))
}

fn properties(out: &mut BytesMut, delivery: &Delivery, before: Option<&[u8]>) -> Result<(), Malformed> {
    let changed = &delivery.message.changed_properties;
    if changed.is_empty() && delivery.expires.is_none() {
        if let Some(before) = before {
            section(out, PROPERTIES);
            out.extend_from_slice(before);
        }
        return Ok(());
    }
    const NULL: &[u8] = &[0x40];
    let mut fields = [NULL; MOST_FIELDS];
    if let Some(before) = before {
        let (count, mut values) = Reader::new(before).compound()?;
        for field in fields.iter_mut().take(count) {
            *field = values.span()?;
        }
    }
    section(out, PROPERTIES);
    let list = Open::new(out, 0xd0);
    for (index, field) in fields.iter().enumerate() {
        let property = FIELDS.iter().find(|(property, at)| *at == index && changed.contains(property));
        match (
            property.and_then(|(property, _)| delivery.message.properties.get(*property)),
            delivery.expires,
        ) {
            (Some(text), _) if index == CONTENT_TYPE => encode::symbol(out, text),
            (Some(text), _) => encode::string(out, text),
            (None, _) if property.is_some() => out.put_u8(0x40),
            (None, Some(expires)) if index == ABSOLUTE_EXPIRY => encode::simple(out, &time(expires)),
            (None, _) => out.extend_from_slice(field),
        }
    }
    list.close(out, MOST_FIELDS);
    Ok(())
}

fn application(out: &mut BytesMut, delivery: &Delivery, before: Option<&[u8]>) -> Result<(), Malformed> {
    let message = &delivery.message;
    if message.changed_application.is_empty() {
        if let Some(before) = before {
            section(out, APPLICATION);
            out.extend_from_slice(before);
        }
        return Ok(());
    }
    section(out, APPLICATION);
    let map = Open::new(out, 0xd1);
    let mut count = 0;
    if let Some(before) = before {
        let (values, mut entries) = Reader::new(before).compound()?;
        for _ in 0..values / 2 {
            let (key, value) = (entries.span()?, entries.span()?);
            let name = Reader::new(key).value()?;
            if !name.text().is_some_and(|name| message.changed_application.contains(name)) {
                out.extend_from_slice(key);
                out.extend_from_slice(value);
                count += 2;
            }
        }
    }
    for name in &message.changed_application {
        if let Some(value) = message.application.get(name) {
            encode::string(out, name);
            encode::simple(out, value);
            count += 2;
        }
    }
    map.close(out, count);
    Ok(())
}
