//! What goes out over HTTPS comes in as the same event, whatever Service Bus and HTTP do to headers on the way.

use proptest::prelude::*;

use super::*;
use crate::broker::Source;
use crate::inbox::incoming::incoming;
use crate::outbox::publish::properties::{publishable, same};

/// What a receiver gets of a sent message: properties are headers with JSON values. Names that are no names to HTTP get
/// lost, the others lose their capitals, and of those that are equal then only one stays.
fn delivered(sent: &Json, reversed: bool) -> HttpHeaders {
    let mut headers = HttpHeaders::new();
    let mut broker = sent["BrokerProperties"].clone();
    broker["SequenceNumber"] = Json::from(7);
    broker["EnqueuedTimeUtc"] = Json::from("Thu, 01 Jan 1970 00:01:00 GMT");
    headers.insert(BROKER_PROPERTIES, broker.to_string());
    headers.insert("content-type", broker["ContentType"].as_str().unwrap().to_owned());
    headers.insert("server", "Microsoft-HTTPAPI/2.0");
    headers.insert("date", "Thu, 01 Jan 1970 00:01:00 GMT");
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let names = sent["UserProperties"].as_object().unwrap().iter();
    let mut names: Vec<_> = names.filter(|(name, _)| name.bytes().all(token)).collect();
    if reversed {
        names.reverse();
    }
    for (name, value) in names {
        // What HTTP needs for itself nobody can overwrite.
        let name = name.to_ascii_lowercase();
        if !name.starts_with("content-") && !["date", "server", "brokerproperties"].contains(&name.as_str()) {
            headers.insert(name, value.to_string());
        }
    }
    headers
}

proptest! {
    // Envelopes are large, so fewer of them.
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn events_come_in_as_they_went_out(events in prop::collection::vec(publishable(), 1..4), reversed: bool) {
        let batch: Vec<Json> = serde_json::from_str(&encode(&events, "sb://here").unwrap()).unwrap();
        prop_assert_eq!(batch.len(), events.len());
        for (event, sent) in events.iter().zip(&batch) {
            let body = sent["Body"].as_str().unwrap().as_bytes().to_vec();
            let message = decode(&delivered(sent, reversed), body);
            prop_assert_eq!((message.sequence_number, message.content_type.as_deref()), (7, Some(wire::CONTENT_TYPE)));
            prop_assert_eq!(message.expires_at.is_some(), event.expires_at.is_some());
            same(event, &incoming(message, &Source::new("orders", "billing")))?;
        }
    }

    #[test]
    fn any_answer_is_read_as_far_as_it_can_be(
        broker in "\\PC{0,60}|\\{(\"(MessageId|Label|TimeToLive|SequenceNumber|EnqueuedTimeUtc)\":([0-9eE.-]{1,24}|\"\\PC{0,9}\"|null|\\[\\]),?){0,3}\\}",
        others in prop::collection::vec(("[a-z-]{1,20}", "\\PC{0,20}|\"[a-z]{0,4}\"|[0-9.eE-]{1,9}"), 0..4),
        body in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let mut headers = HttpHeaders::new();
        headers.insert(BROKER_PROPERTIES, broker);
        for (name, value) in others {
            headers.insert(name, value);
        }
        let message = decode(&headers, body.clone());
        prop_assert_eq!(&message.body, &body);
        let event = incoming(message, &Source::new("orders", "billing"));
        prop_assert!(!event.name.is_empty() && !event.message_id.is_empty());
    }
}
