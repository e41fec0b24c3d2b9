//! `BrokerProperties`, the JSON in a header that says about a message what AMQP says in its properties.

use serde_json::{Map, Value as Json, json};

use crate::http::dates;
use crate::model::{Delivery, Message, MessageState, Span, Value};

/// .NET's longest TimeSpan in seconds, which stands for "for ever".
const FOREVER: f64 = 922_337_203_685.477_5;

/// Takes over what a client says; names that mean nothing here are skipped.
pub(super) fn read(json: &Map<String, Json>, message: &mut Message) -> Result<(), String> {
    let text = |name: &str| match json.get(name) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("BrokerProperties: {name} is not a string")),
    };
    let properties = &mut message.properties;
    properties.correlation_id = text("CorrelationId")?;
    properties.subject = text("Label")?;
    properties.message_id = text("MessageId")?;
    properties.partition_key = text("PartitionKey")?;
    properties.reply_to = text("ReplyTo")?;
    properties.reply_to_session_id = text("ReplyToSessionId")?;
    properties.session_id = text("SessionId")?;
    properties.to = text("To")?;
    if let Some(time) = text("ScheduledEnqueueTimeUtc")? {
        let read = dates::parse_http(&time);
        let wrong =
            || format!("BrokerProperties: ScheduledEnqueueTimeUtc: `{time}` is not a date of RFC 1123");
        message.scheduled_enqueue_time = Some(read.ok_or_else(wrong)?);
    }
    message.time_to_live = match json.get("TimeToLive") {
        None | Some(Json::Null) => None,
        Some(value) => Some(span(value).ok_or("BrokerProperties: TimeToLive is not a number of seconds")?),
    };
    Ok(())
}

fn span(value: &Json) -> Option<Span> {
    let seconds = match value {
        Json::String(text) => text.trim().parse().ok()?,
        other => other.as_f64()?,
    };
    if !(0.0..).contains(&seconds) {
        return None;
    }
    if seconds >= FOREVER {
        return Some(Span::FOREVER);
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "neither negative nor too large"
    )]
    Some(Span((seconds * 1000.0).round() as u64))
}

/// What is told about a received message, in ASCII: header values are no place for more.
pub(super) fn write(delivery: &Delivery) -> String {
    let properties = &delivery.message.properties;
    let mut json = Map::new();
    let mut text = |name: &str, value: &Option<String>| {
        if let Some(value) = value {
            json.insert(name.to_owned(), json!(value));
        }
    };
    text("CorrelationId", &properties.correlation_id);
    text("Label", &properties.subject);
    text("MessageId", &properties.message_id);
    text("PartitionKey", &properties.partition_key);
    text("ReplyTo", &properties.reply_to);
    text("ReplyToSessionId", &properties.reply_to_session_id);
    text("SessionId", &properties.session_id);
    text("To", &properties.to);
    text("DeadLetterSource", &delivery.dead_letter_source);
    // AMQP counts the failed deliveries before this one, HTTP this one too.
    json.insert("DeliveryCount".into(), json!(delivery.delivery_count + 1));
    let first = delivery.enqueued_sequence_number.unwrap_or(delivery.sequence_number);
    json.insert("EnqueuedSequenceNumber".into(), json!(first));
    json.insert("EnqueuedTimeUtc".into(), json!(dates::http(delivery.enqueued_time)));
    if let Some((token, until)) = delivery.lock {
        json.insert("LockToken".into(), json!(token.0.to_string()));
        json.insert("LockedUntilUtc".into(), json!(dates::http(until)));
    }
    if let Some(time) = delivery.message.scheduled_enqueue_time {
        json.insert("ScheduledEnqueueTimeUtc".into(), json!(dates::http(time)));
    }
    json.insert("SequenceNumber".into(), json!(delivery.sequence_number));
    let state = match delivery.state {
        MessageState::Active => "Active",
        MessageState::Deferred => "Deferred",
        MessageState::Scheduled => "Scheduled",
    };
    json.insert("State".into(), json!(state));
    #[expect(clippy::cast_precision_loss, reason = "nobody lives that long")]
    let seconds = delivery
        .expires
        .map_or(FOREVER, |expires| expires.0.saturating_sub(delivery.enqueued_time.0) as f64 / 1000.0);
    json.insert("TimeToLive".into(), json!(seconds));
    ascii(&Json::Object(json).to_string())
}

/// An application property from a header: JSON where it is JSON, otherwise the text as it stands.
pub(super) fn read_header(text: &str) -> Value {
    serde_json::from_str(text)
        .ok()
        .and_then(|json| value(&json))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

/// What JSON says as a property; lists and objects can't be one.
pub(super) fn value(json: &Json) -> Option<Value> {
    Some(match json {
        Json::Bool(it) => Value::Bool(*it),
        Json::String(it) => Value::String(it.clone()),
        Json::Number(number) => match number.as_i64() {
            Some(it) => i32::try_from(it).map_or(Value::Long(it), Value::Int),
            None => Value::Double(number.as_f64()?),
        },
        Json::Null => Value::Null,
        Json::Array(_) | Json::Object(_) => return None,
    })
}

/// A property as a header's value, where one can be made of it.
pub(super) fn header(value: &Value) -> Option<String> {
    let json = match value {
        Value::Bool(it) => json!(it),
        Value::UByte(it) => json!(it),
        Value::UShort(it) => json!(it),
        Value::UInt(it) => json!(it),
        Value::ULong(it) => json!(it),
        Value::Byte(it) => json!(it),
        Value::Short(it) => json!(it),
        Value::Int(it) => json!(it),
        Value::Long(it) => json!(it),
        Value::Float(it) => json!(it),
        Value::Double(it) => json!(it),
        Value::Char(it) => json!(it),
        Value::Timestamp(it) => json!(dates::iso_milliseconds(*it)),
        Value::Uuid(it) => json!(it.to_string()),
        Value::String(it) | Value::Symbol(it) => json!(it),
        Value::Null | Value::Binary(_) | Value::Opaque(_) => return None,
    };
    Some(ascii(&json.to_string()))
}

/// Everything else as JSON's `\u....`.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() && c != '\u{7f}' {
            text.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            text.push_str(&format!("\\u{unit:04x}"));
        }
    }
    text
}
