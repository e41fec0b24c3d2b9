//! Between envelopes and the REST data plane's messages: JSON batches out, headers and a body in.

use std::time::{Duration, SystemTime};

use azure_core_0_21::headers::Headers as HttpHeaders;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::door::BROKER_PROPERTIES;
use crate::broker::Message;
use crate::broker::namespace::wire;
use crate::envelope::{Envelope, Headers};

/// What a batch is sent as, and a single message too: of properties in headers only lower-case letters would be left.
pub(super) const BATCH: &str = "application/vnd.microsoft.servicebus.json";
/// .NET's longest time in seconds, less some for its rounding: a message that lives longer lives for ever.
const FOREVER: f64 = 9e11;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Outgoing<'a> {
    body: &'a str,
    broker_properties: Out<'a>,
    user_properties: Headers,
}

/// `BrokerProperties` of a message that is sent (REST API, "Message headers and properties").
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Out<'a> {
    message_id: String,
    label: &'a str,
    session_id: String,
    content_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_to_live: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scheduled_enqueue_time_utc: Option<String>,
}

/// Events as a batch.
pub(super) fn encode(events: &[Envelope], source: &str) -> Result<String, String> {
    let batch: Vec<_> = events.iter().map(|event| outgoing(event, source)).collect();
    serde_json::to_string(&batch).map_err(|error| error.to_string())
}

fn outgoing<'a>(event: &'a Envelope, source: &str) -> Outgoing<'a> {
    let mut user_properties = wire::properties_of(event, source);
    if let Some(time) = wire::rfc3339(wire::milliseconds(event.created_at)) {
        user_properties.insert(wire::CLOUD_EVENTS_TIME.to_owned(), time);
    }
    // Whole seconds are all there is, and an event must not come before its time.
    let whole = |time: SystemTime| httpdate::fmt_http_date(time + Duration::from_millis(999));
    Outgoing {
        body: &event.data,
        broker_properties: Out {
            message_id: event.id.to_string(),
            label: &event.name,
            session_id: wire::session_of(event),
            content_type: wire::CONTENT_TYPE,
            correlation_id: event.correlation_id.as_deref(),
            time_to_live: wire::ttl_of(event).map(|ttl| ttl.as_secs_f64()),
            scheduled_enqueue_time_utc: event.deliver_at.map(whole),
        },
        user_properties,
    }
}

/// `BrokerProperties` of a message that is received; nothing in it is counted on.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct In {
    message_id: Option<String>,
    label: Option<String>,
    session_id: Option<String>,
    correlation_id: Option<String>,
    sequence_number: Option<i64>,
    delivery_count: Option<u32>,
    enqueued_time_utc: Option<String>,
    time_to_live: Option<f64>,
}

/// A received message in the words of the port.
pub(super) fn decode(headers: &HttpHeaders, body: Vec<u8>) -> Message {
    let said = headers.iter().find(|(name, _)| name.as_str() == BROKER_PROPERTIES);
    let said: In = said.map(|(_, json)| lenient(json.as_str())).unwrap_or_default();
    let content_type = headers.iter().find(|(name, _)| name.as_str() == "content-type");
    let mut properties: Headers = headers
        .iter()
        .filter_map(|(name, value)| Some((name_of(name.as_str())?, property(value.as_str())?)))
        .collect();
    let more = wire::take_more_headers(&mut properties);
    // What HTTP has made of them, or of others that are the same to it.
    for twin in more.keys().filter_map(|name| name_of(&name.to_ascii_lowercase())) {
        properties.remove(&twin);
    }
    properties.extend(more);
    let enqueued_at = said.enqueued_time_utc.and_then(|text| httpdate::parse_http_date(&text).ok());
    let lives = said.time_to_live.filter(|seconds| (0.0..FOREVER).contains(seconds));
    let lives = lives.map(Duration::from_secs_f64);
    Message {
        message_id: said.message_id,
        subject: said.label,
        body,
        content_type: content_type.map(|(_, kind)| kind.as_str().to_owned()),
        session_id: said.session_id,
        correlation_id: said.correlation_id,
        dead_letter_reason: wire::take_dead_letter_reason(&mut properties),
        properties,
        sequence_number: said.sequence_number.unwrap_or_default(),
        enqueued_at,
        delivery_count: said.delivery_count.unwrap_or_default(),
        expires_at: enqueued_at.zip(lives).and_then(|(from, lives)| from.checked_add(lives)),
    }
}

/// Field by field, so that one that is strange takes none of the others with it.
fn lenient(json: &str) -> In {
    if let Ok(read) = serde_json::from_str(json) {
        return read;
    }
    let fields: serde_json::Map<String, Json> = serde_json::from_str(json).unwrap_or_default();
    let text = |name: &str| match fields.get(name)? {
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        _ => None,
    };
    In {
        message_id: text("MessageId"),
        label: text("Label"),
        session_id: text("SessionId"),
        correlation_id: text("CorrelationId"),
        sequence_number: text("SequenceNumber").and_then(|text| text.parse().ok()),
        delivery_count: text("DeliveryCount").and_then(|text| text.parse().ok()),
        enqueued_time_utc: text("EnqueuedTimeUtc"),
        time_to_live: text("TimeToLive").and_then(|text| text.parse().ok()),
    }
}

/// A property's name out of a header's, which has lost its capitals; none for what is HTTP's.
fn name_of(header: &str) -> Option<String> {
    const CAPITALS: [&str; 3] =
        [wire::DEAD_LETTER_REASON, wire::DEAD_LETTER_DESCRIPTION, wire::DIAGNOSTIC_ID];
    if header == BROKER_PROPERTIES || header == "date" || header.starts_with("content-") {
        return None;
    }
    let known = CAPITALS.iter().find(|name| name.eq_ignore_ascii_case(header));
    let attribute = || Some(format!("cloudEvents_{}", header.strip_prefix("cloudevents_")?));
    Some(known.map(|name| (*name).to_owned()).or_else(attribute).unwrap_or_else(|| header.to_owned()))
}

/// Properties are JSON; what isn't is a header of HTTP's own, or of somebody on the way.
fn property(value: &str) -> Option<String> {
    match serde_json::from_str(value).ok()? {
        Json::String(text) => Some(text),
        Json::Bool(_) | Json::Number(_) => Some(value.to_owned()),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::EventId;

    fn received(all: &[(&'static str, &'static str)]) -> Message {
        let mut headers = HttpHeaders::new();
        for (name, value) in all {
            headers.insert(*name, *value);
        }
        decode(&headers, b"{}".to_vec())
    }

    #[test]
    fn a_batch_says_everything_about_an_event() {
        let mut event = Envelope::new(EventId::new(), "ordering.order-placed", r#"{"a":"\u00fd"}"#);
        event.created_at = UNIX_EPOCH + Duration::from_millis(1_500);
        event.deliver_at = Some(SystemTime::now() + Duration::from_secs(3600));
        event.expires_at = event.deliver_at.map(|time| time + Duration::from_secs(60));
        event.session_id = Some("s".to_owned());
        event.headers.insert("Tenant".to_owned(), "acme".to_owned());
        let json: Json = serde_json::from_str(&encode(&[event.clone()], "sb://here").unwrap()).unwrap();
        let (told, user) = (&json[0]["BrokerProperties"], &json[0]["UserProperties"]);
        assert_eq!(json[0]["Body"], event.data);
        assert_eq!((&told["Label"], &told["SessionId"]), (&Json::from(event.name), &Json::from("s")));
        assert_eq!(told["MessageId"], event.id.to_string());
        assert!((59.0..=60.0).contains(&told["TimeToLive"].as_f64().unwrap()), "{told}");
        let at = told["ScheduledEnqueueTimeUtc"].as_str().unwrap();
        let at = httpdate::parse_http_date(at).unwrap();
        let early = event.deliver_at.unwrap().duration_since(at);
        assert!(early.is_err() || early.unwrap() < Duration::from_millis(1), "never before its time");
        assert_eq!(
            (&user["Tenant"], &user["eventheaders"]),
            (&Json::from("acme"), &Json::from(r#"{"Tenant":"acme"}"#))
        );
        assert_eq!(user["cloudEvents:time"], "1970-01-01T00:00:01.5Z");
    }

    #[test]
    fn what_a_message_says_is_read_as_far_as_it_can_be() {
        let message = received(&[
            (
                BROKER_PROPERTIES,
                r#"{"MessageId":"m","Label":"e","SessionId":"~03","SequenceNumber":12884901888,
                    "EnqueuedTimeUtc":"Thu, 01 Jan 1970 00:01:00 GMT","TimeToLive":1.5,"LockToken":7}"#,
            ),
            ("content-type", "application/json"),
            ("diagnostic-id", "\"00-1-2-01\""),
            ("cloudevents_type", "\"t\""),
            ("deadletterreason", "\"TTLExpiredException\""),
            ("eventversion", "\"3\""),
            ("eventheaders", r#""{\"x-Empty\":\"\\u00fd\"}""#),
            ("number", "7"),
            ("server", "Microsoft-HTTPAPI/2.0"),
            ("content-length", "2"),
        ]);
        assert_eq!((message.message_id.as_deref(), message.subject.as_deref()), (Some("m"), Some("e")));
        assert_eq!(message.sequence_number, 12_884_901_888);
        assert_eq!(message.enqueued_at, Some(UNIX_EPOCH + Duration::from_secs(60)));
        assert_eq!(message.expires_at, Some(UNIX_EPOCH + Duration::from_millis(61_500)));
        assert_eq!(message.dead_letter_reason.as_deref(), Some("TTLExpiredException"));
        let names: Vec<_> = message.properties.keys().map(String::as_str).collect();
        assert_eq!(names, ["Diagnostic-Id", "cloudEvents_type", "eventversion", "number", "x-Empty"]);
        assert_eq!(message.properties["x-Empty"], "\u{fd}");
    }

    #[test]
    fn one_strange_field_takes_no_other_with_it() {
        let message = received(&[(
            BROKER_PROPERTIES,
            r#"{"MessageId":42,"Label":"e","SequenceNumber":"9","TimeToLive":"922337203685.4775"}"#,
        )]);
        assert_eq!((message.message_id.as_deref(), message.subject.as_deref()), (Some("42"), Some("e")));
        assert_eq!((message.sequence_number, message.expires_at), (9, None));
        assert_eq!(received(&[(BROKER_PROPERTIES, "nonsense")]).subject, None);
        assert_eq!(received(&[]).message_id, None);
    }
}

#[cfg(test)]
mod properties;
