//! Messages on their way in: what the broker looks at is read, everything else stays the bytes it is.

use bytes::Bytes;

use super::read::Reader;
use super::value::{Malformed, Value};
use crate::model::{Message, Properties, Span, Time, Value as Simple};

pub(super) const HEADER: u64 = 0x70;
pub(super) const DELIVERY_ANNOTATIONS: u64 = 0x71;
pub(super) const ANNOTATIONS: u64 = 0x72;
pub(super) const PROPERTIES: u64 = 0x73;
pub(super) const APPLICATION: u64 = 0x74;
pub(super) const DATA: u64 = 0x75;
const VALUE: u64 = 0x77;
const FOOTER: u64 = 0x78;

/// The message format of a batch: its data sections are messages.
pub(super) const BATCH: u32 = 0x8001_3700;

pub(super) const PARTITION_KEY: &str = "x-opt-partition-key";
const SCHEDULED: &str = "x-opt-scheduled-enqueue-time";

type Read<T> = Result<T, Malformed>;

/// The sections of an encoded message, each without its descriptor but with its value's code.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sections<'a> {
    pub(super) header: Option<&'a [u8]>,
    pub(super) annotations: Option<&'a [u8]>,
    pub(super) properties: Option<&'a [u8]>,
    pub(super) application: Option<&'a [u8]>,
    /// Where the body begins, with all descriptors, up to the end.
    pub(super) body: usize,
}

impl<'a> Sections<'a> {
    pub(super) fn find(raw: &'a [u8]) -> Read<Self> {
        let mut sections = Self { body: raw.len(), ..Self::default() };
        let mut reader = Reader::new(raw);
        let mut last = 0;
        while !reader.rest().is_empty() {
            let start = raw.len() - reader.rest().len();
            let code = reader.descriptor()?;
            if code < last || code == last && code < DATA {
                return Err(Malformed("the sections of a message are not in their order"));
            }
            last = code;
            let value = reader.span()?;
            match code {
                HEADER => sections.header = Some(value),
                DELIVERY_ANNOTATIONS => {}
                ANNOTATIONS => sections.annotations = Some(value),
                PROPERTIES => sections.properties = Some(value),
                APPLICATION => sections.application = Some(value),
                DATA..=FOOTER => sections.body = sections.body.min(start),
                _ => return Err(Malformed("a message has a section that AMQP doesn't have")),
            }
        }
        Ok(sections)
    }
}

/// Reads a message.
pub(super) fn read(raw: Bytes) -> Read<Message> {
    let mut message = Message::default();
    let sections = Sections::find(&raw)?;
    if let Some(header) = sections.header {
        let header = Reader::new(header).value()?;
        message.time_to_live = header.field(2).and_then(Value::unsigned).map(Span);
    }
    if let Some(annotations) = sections.annotations {
        let annotations = Reader::new(annotations).value()?;
        let key = annotations.get(PARTITION_KEY).and_then(Value::text);
        message.properties.partition_key = key.map(str::to_owned);
        let time = annotations.get(SCHEDULED).and_then(Value::integer);
        message.scheduled_enqueue_time = time.map(|time| Time(time.try_into().unwrap_or_default()));
    }
    if let Some(properties) = sections.properties {
        read_properties(&Reader::new(properties).value()?, &mut message.properties);
    }
    if let Some(application) = sections.application {
        let (count, mut entries) = Reader::new(application).compound()?;
        if count % 2 == 1 {
            return Err(Malformed("a map has other values than it says"));
        }
        for _ in 0..count / 2 {
            let key = entries.value()?;
            let key = key.text().ok_or(Malformed("an application property's name is not a string"))?;
            let value = read_simple(entries.span()?)?;
            message.application.insert(key.to_owned(), value);
        }
    }
    message.raw = raw;
    Ok(message)
}

/// A value that stays what it is, encoded, where it is made of others.
fn read_simple(encoded: &[u8]) -> Read<Simple> {
    Ok(match Reader::new(encoded).value()? {
        Value::Simple(simple) => simple,
        _ => Simple::Opaque(Bytes::copy_from_slice(encoded)),
    })
}

/// The same of a value that was read already: only what is simple can be.
pub(super) fn simple(value: &Value) -> Option<Simple> {
    match value {
        Value::Simple(simple) => Some(simple.clone()),
        _ => None,
    }
}

fn read_properties(list: &Value, properties: &mut Properties) {
    let text = |index: usize| list.field(index).and_then(id);
    properties.message_id = text(0);
    properties.to = text(2);
    properties.subject = text(3);
    properties.reply_to = text(4);
    properties.correlation_id = text(5);
    properties.content_type = text(6);
    properties.session_id = text(10);
    properties.reply_to_session_id = text(12);
}

/// An id as text, of whatever type it is.
fn id(value: &Value) -> Option<String> {
    match value.simple()? {
        Simple::String(text) | Simple::Symbol(text) => Some(text.clone()),
        Simple::Uuid(uuid) => Some(uuid.hyphenated().to_string()),
        Simple::Binary(bytes) => Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        _ => value.unsigned().map(|number| number.to_string()),
    }
}

/// Reads the messages of a batch. Each has its bytes for itself, so that one that stays doesn't hold those of the
/// others.
pub(super) fn read_batch(raw: &[u8]) -> Read<Vec<Message>> {
    // Counted first: messages are too large to be moved about while a list of them grows.
    let (mut count, mut reader) = (0, Reader::new(raw));
    while !reader.rest().is_empty() {
        count += usize::from(reader.descriptor()? == DATA);
        reader.span()?;
    }
    let mut messages = Vec::with_capacity(count);
    let mut reader = Reader::new(raw);
    while !reader.rest().is_empty() {
        let code = reader.descriptor()?;
        let value = reader.span()?;
        if code == DATA {
            let Value::Simple(Simple::Binary(message)) = Reader::new(value).value()? else {
                return Err(Malformed("a data section is not binary"));
            };
            messages.push(read(message)?);
        }
    }
    if messages.is_empty() {
        return Err(Malformed("a batch has no messages"));
    }
    Ok(messages)
}

/// A request to a node: what stands around its body, and the body.
#[derive(Debug)]
pub(super) struct Request {
    /// With its type, for the answer.
    pub(super) message_id: Value,
    pub(super) reply_to: Option<String>,
    /// The application properties.
    pub(super) application: Value,
    pub(super) body: Value,
}

impl Request {
    pub(super) fn read(raw: &[u8]) -> Read<Self> {
        let sections = Sections::find(raw)?;
        let value = |section: Option<&[u8]>| section.map_or(Ok(Value::NULL), |it| Reader::new(it).value());
        let mut properties = value(sections.properties)?;
        let mut body = Value::NULL;
        let mut reader = Reader::new(&raw[sections.body..]);
        while !reader.rest().is_empty() {
            match reader.descriptor()? {
                DATA | VALUE => body = reader.value()?,
                _ => drop(reader.span()?),
            }
        }
        let reply_to = properties.field(4).and_then(Value::text).map(str::to_owned);
        let message_id = match &mut properties {
            Value::List(fields) if !fields.is_empty() => fields.swap_remove(0),
            _ => Value::NULL,
        };
        Ok(Self { message_id, reply_to, application: value(sections.application)?, body })
    }

    /// A string among the application properties.
    pub(super) fn property(&self, name: &str) -> Option<&str> {
        self.application.get(name).and_then(Value::text)
    }
}
