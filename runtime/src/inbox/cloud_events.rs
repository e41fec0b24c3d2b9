//! CloudEvents 1.0 as other producers send them over AMQP: attributes beside the data (binary mode), or one JSON document
//! around it (structured mode).

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::broker::Message;
use crate::envelope::Headers;

/// Both prefixes are valid; one message must not mix them (CloudEvents, AMQP protocol binding 3.1).
const PREFIXES: [&str; 2] = ["cloudEvents:", "cloudEvents_"];
/// What structured mode's content type begins with.
const STRUCTURED: &str = "application/cloudevents";

/// An attribute of a message in binary mode.
pub(super) fn attribute<'a>(properties: &'a Headers, name: &str) -> Option<&'a String> {
    PREFIXES.iter().find_map(|prefix| properties.get(&format!("{prefix}{name}")))
}

/// Makes an event of its own form of what a producer of CloudEvents sent; leaves other messages as they are. What Service
/// Bus's own fields say stands: the attributes fill in what is missing there.
pub(super) fn unwrap(message: &mut Message) -> Result<(), String> {
    let structured = message.content_type.as_ref().is_some_and(|kind| {
        kind.get(..STRUCTURED.len()).is_some_and(|start| start.eq_ignore_ascii_case(STRUCTURED))
    });
    if structured {
        return unwrap_structured(message);
    }
    let missing = |text: &Option<String>| text.as_ref().is_none_or(String::is_empty);
    if missing(&message.subject) {
        message.subject = attribute(&message.properties, "type").cloned();
    }
    if missing(&message.message_id) {
        message.message_id = attribute(&message.properties, "id").cloned();
    }
    Ok(())
}

fn unwrap_structured(message: &mut Message) -> Result<(), String> {
    // Raw, so that the data stays the text that it is: numbers and unknown fields survive.
    let mut document: BTreeMap<String, &RawValue> =
        serde_json::from_slice(&message.body).map_err(|error| {
            format!("its content type says CloudEvents, and its body is no such document: {error}")
        })?;
    let body = match (document.remove("data"), document.remove("data_base64")) {
        (Some(data), _) => data.get().as_bytes().to_vec(),
        (None, Some(text)) => serde_json::from_str::<String>(text.get())
            .map_err(|error| error.to_string())
            .and_then(|text| STANDARD.decode(text).map_err(|error| error.to_string()))
            .map_err(|error| format!("the CloudEvents document's data_base64 is not base64: {error}"))?,
        (None, None) => b"null".to_vec(),
    };
    for (name, value) in document {
        let text = match serde_json::from_str(value.get()) {
            Ok(Value::String(text)) => text,
            Ok(Value::Null) => continue,
            _ => value.get().to_owned(),
        };
        message.properties.entry(format!("{}{name}", PREFIXES[0])).or_insert(text);
    }
    message.body = body;
    message.content_type = attribute(&message.properties, "datacontenttype").cloned();
    unwrap(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn structured(body: &str) -> Message {
        Message {
            body: body.as_bytes().to_vec(),
            content_type: Some("application/cloudevents+json; charset=utf-8".to_owned()),
            ..Message::default()
        }
    }

    #[test]
    fn a_structured_document_becomes_its_data() {
        let text = r#"{"specversion":"1.0","id":"A-1","source":"/shop","type":"order-placed","n":7,
            "data":{"amount":12345678901234567890.10,"extra":null}}"#;
        let mut message = structured(text);
        unwrap(&mut message).unwrap();
        assert_eq!(message.body, br#"{"amount":12345678901234567890.10,"extra":null}"#);
        assert_eq!(message.subject.as_deref(), Some("order-placed"));
        assert_eq!(message.message_id.as_deref(), Some("A-1"));
        assert_eq!(attribute(&message.properties, "source").unwrap(), "/shop");
        assert_eq!(attribute(&message.properties, "n").unwrap(), "7");
    }

    #[test]
    fn base64_and_missing_data_are_read() {
        let mut message = structured(r#"{"id":"1","type":"t","data_base64":"eyJhIjoxfQ=="}"#);
        unwrap(&mut message).unwrap();
        assert_eq!(message.body, br#"{"a":1}"#);
        let mut message = structured(r#"{"id":"1","type":"t"}"#);
        unwrap(&mut message).unwrap();
        assert_eq!(message.body, b"null");
    }

    #[test]
    fn what_is_no_document_is_told_and_keeps_its_body() {
        for body in ["", "[]", "{", r#"{"data_base64":"?"}"#, r#"{"data_base64":7}"#] {
            let mut message = structured(body);
            assert!(unwrap(&mut message).unwrap_err().contains("CloudEvents"), "{body}");
            assert_eq!(message.body, body.as_bytes());
        }
    }

    #[test]
    fn binary_attributes_fill_in_what_service_bus_was_not_told() {
        for prefix in PREFIXES {
            let mut message = Message::default();
            message.properties.insert(format!("{prefix}type"), "order-placed".to_owned());
            message.properties.insert(format!("{prefix}id"), "A-1".to_owned());
            unwrap(&mut message).unwrap();
            assert_eq!(message.subject.as_deref(), Some("order-placed"));
            assert_eq!(message.message_id.as_deref(), Some("A-1"));
            message.subject = Some("other".to_owned());
            unwrap(&mut message).unwrap();
            assert_eq!(message.subject.as_deref(), Some("other"));
        }
    }
}
