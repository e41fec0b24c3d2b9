//! What a message says about its event, in the words that every transport carries.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::envelope::{Envelope, Headers, TRACEPARENT};
use crate::inbox::incoming::{CAUSATION_ID, EVENT_VERSION};
use crate::storage::shard_of;
pub(in crate::broker) use crate::trace_context::DIAGNOSTIC_ID;

/// What our bodies are.
pub(in crate::broker) const CONTENT_TYPE: &str = "application/json";
/// The attribute that AMQP has a type of its own for.
pub(in crate::broker) const CLOUD_EVENTS_TIME: &str = "cloudEvents:time";
/// Why something is in a dead-letter queue.
pub(in crate::broker) const DEAD_LETTER_REASON: &str = "DeadLetterReason";
/// The same at length.
pub(in crate::broker) const DEAD_LETTER_DESCRIPTION: &str = "DeadLetterErrorDescription";
/// Headers, as JSON, whose names HTTP can't carry: it takes fewer characters, none in upper case, and some for its own.
pub(in crate::broker) const MORE_HEADERS: &str = "eventheaders";

/// Service Bus keeps a scheduled message for any time; a year is enough for everybody.
pub(in crate::broker) const SCHEDULED_AHEAD: Duration = Duration::from_secs(366 * 24 * 3600);

/// The session that is stamped: the event's own, else one of the 32 pseudo-sessions by the hash of its id, so that
/// subscriptions with sessions and without can stand on one topic (rule 20).
pub(in crate::broker) fn session_of(event: &Envelope) -> String {
    event.session_id.clone().unwrap_or_else(|| format!("~{:02}", shard_of(&event.id.to_string()) % 32))
}

/// Headers of the user, what no field of the broker carries, and the CloudEvents 1.0 attributes (AMQP binding, binary
/// mode) but for the time.
pub(in crate::broker) fn properties_of(event: &Envelope, source: &str) -> Headers {
    let mut properties = event.headers.clone();
    let mut set = |name: &str, value: String| {
        properties.insert(name.to_owned(), value);
    };
    if let Some(trace) = event.headers.get(TRACEPARENT) {
        set(DIAGNOSTIC_ID, trace.clone());
    }
    set(EVENT_VERSION, event.version.to_string());
    if let Some(cause) = &event.causation_id {
        set(CAUSATION_ID, cause.clone());
    }
    set("cloudEvents:specversion", "1.0".to_owned());
    set("cloudEvents:id", event.id.to_string());
    set("cloudEvents:type", event.name.clone());
    set("cloudEvents:source", source.to_owned());
    // Not what was said in their place above.
    let changed = |name: &str, value: &String| event.headers.get(name) == Some(value) && !is_http(name);
    let more: Headers = properties
        .iter()
        .filter(|(name, value)| changed(name, value) || is_shared(name, &properties))
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect();
    if !more.is_empty() {
        // Text by name is always JSON.
        properties.insert(MORE_HEADERS.to_owned(), serde_json::to_string(&more).unwrap_or_default());
    }
    properties
}

/// Whether another header has the same name to HTTP, which doesn't know capitals: one of them would be lost.
fn is_shared(name: &str, headers: &Headers) -> bool {
    headers.keys().any(|other| other != name && other.eq_ignore_ascii_case(name))
}

/// Whether HTTP carries a header of that name as it is (RFC 9110, 5.1 and 5.6.2), and neither it nor a receiver of ours
/// means something else by it.
fn is_http(name: &str) -> bool {
    const ITS_OWN: [&str; 15] = [
        "authorization",
        "brokerproperties",
        "connection",
        "date",
        "diagnostic-id",
        "expires",
        "host",
        "keep-alive",
        "location",
        "proxy-authenticate",
        "server",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
    ];
    let token =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
    let prefixed = name.starts_with("content-") || name.starts_with("cloudevents_");
    name.bytes().all(token) && !prefixed && !ITS_OWN.contains(&name)
}

/// What is left of its time to live; it counts from when Service Bus takes it, or delivers it at the earliest.
pub(in crate::broker) fn ttl_of(event: &Envelope) -> Option<Duration> {
    let from = event.deliver_at.unwrap_or_else(SystemTime::now).max(SystemTime::now());
    let left = event.expires_at?.duration_since(from).unwrap_or_default();
    Some(left.max(Duration::from_millis(1)))
}

/// Takes out why Service Bus has dead-lettered a message, if it has.
pub(in crate::broker) fn take_dead_letter_reason(properties: &mut Headers) -> Option<String> {
    match (properties.remove(DEAD_LETTER_REASON), properties.remove(DEAD_LETTER_DESCRIPTION)) {
        (Some(reason), Some(description)) => Some(format!("{reason}: {description}")),
        (reason, description) => reason.or(description),
    }
}

/// Takes out the headers whose names HTTP doesn't carry.
#[cfg(feature = "service-bus-http")]
pub(in crate::broker) fn take_more_headers(properties: &mut Headers) -> Headers {
    let more = properties.remove(MORE_HEADERS);
    more.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// In CloudEvents' canonical form (RFC 3339).
pub(in crate::broker) fn rfc3339(milliseconds: i64) -> Option<String> {
    let nanoseconds = i128::from(milliseconds) * 1_000_000;
    let time = time::OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok()?;
    time.format(&time::format_description::well_known::Rfc3339).ok()
}

/// Since 1970.
pub(in crate::broker) fn milliseconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |millis| -millis),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EventId;

    #[test]
    fn headers_that_http_would_change_travel_twice() {
        let mut event = Envelope::new(EventId::new(), "e", "{}");
        for name in ["tenant", "x-Empty", "a:b", "content-type", "date", "x_y.z-1"] {
            event.headers.insert(name.to_owned(), format!("\u{fd} {name}"));
        }
        let mut properties = properties_of(&event, "sb://here");
        let more = take_more_headers(&mut properties);
        assert_eq!(more.keys().collect::<Vec<_>>(), ["a:b", "content-type", "date", "x-Empty"]);
        assert!(more.iter().all(|(name, value)| *value == format!("\u{fd} {name}")));
        assert_eq!(properties["tenant"], "\u{fd} tenant");
        event.headers.retain(|name, _| name == "tenant");
        assert!(!properties_of(&event, "sb://here").contains_key(MORE_HEADERS));
    }

    #[test]
    fn what_a_receiver_takes_out_nobody_can_publish() {
        for name in [CAUSATION_ID, EVENT_VERSION, MORE_HEADERS, DEAD_LETTER_REASON, DEAD_LETTER_DESCRIPTION] {
            for name in [name.to_owned(), name.to_ascii_lowercase(), name.to_ascii_uppercase()] {
                let options = crate::PublishOptions::new().header(&name, "x");
                let event = Envelope::new(EventId::new(), "e", "{}");
                let refused = crate::outbox::publish::complete(event, options, 1_000_000);
                assert!(refused.unwrap_err().to_string().contains("reserved"), "{name}");
            }
        }
    }

    #[test]
    fn an_event_whose_time_is_over_still_has_a_moment() {
        let mut event = Envelope::new(EventId::new(), "e", "{}");
        assert_eq!(ttl_of(&event), None);
        event.expires_at = Some(UNIX_EPOCH);
        assert_eq!(ttl_of(&event), Some(Duration::from_millis(1)));
    }
}
