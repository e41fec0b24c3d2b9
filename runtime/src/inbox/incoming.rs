//! From a message off the wire to a row of the inbox: pure.

use uuid::Uuid;

use super::cloud_events;
use crate::broker::{Message, Source};
use crate::envelope::{EventId, MAX_NAME};
use crate::outbox::publish::is_reserved_session;
use crate::storage::{Body, IncomingEvent};

/// The namespace of ids that are derived from other texts (UUID version 5); a part of the schema.
const NAMESPACE: Uuid = Uuid::from_u128(0x2f1c_9f0e_7d4b_5c8a_9e63_0b1d_a417_c5e2);

/// The application property that carries the event's version.
pub const EVENT_VERSION: &str = "eventversion";
/// The application property that carries the id of the event whose handler published this one.
pub const CAUSATION_ID: &str = "causationid";

/// The row for a message (rules 14, 19 and 20).
#[must_use]
pub fn incoming(mut message: Message, source: &Source) -> IncomingEvent {
    // Elsewhere it is a leftover: what was sent anew from a dead-letter queue still carries it.
    let reason = message.dead_letter_reason.take();
    let mut problem = source.dead_letter_queue.then(|| match reason {
        Some(reason) => format!("dead-lettered by the broker: {reason}"),
        None => "dead-lettered by the broker, no reason given".to_owned(),
    });
    if let Err(reason) = cloud_events::unwrap(&mut message) {
        problem.get_or_insert(reason);
    }
    // An empty id is none: under it every message of a careless sender would be the same event.
    message.message_id = message.message_id.filter(|id| !id.is_empty());
    let id = identity(&message, source);
    let message_id = message.message_id.clone().unwrap_or_else(|| id.to_string());
    let mut headers = message.properties;
    let version = headers.remove(EVENT_VERSION);
    let causation_id = headers.remove(CAUSATION_ID);
    let name = message.subject.filter(|name| !name.is_empty()).unwrap_or_else(|| {
        problem.get_or_insert_with(|| "the message names no event: its subject is empty".to_owned());
        "(none)".to_owned()
    });
    if name.chars().count() > MAX_NAME {
        problem.get_or_insert_with(|| format!("the event name is longer than {MAX_NAME} characters"));
    }
    let version = version.map_or(1, |text| {
        text.parse().unwrap_or_else(|_| {
            problem.get_or_insert_with(|| format!("the event version `{text}` is not a number"));
            1
        })
    });
    IncomingEvent {
        message_id,
        version,
        topic: Some(source.topic.clone()),
        session_id: message.session_id.filter(|session| !is_reserved_session(session)),
        correlation_id: message.correlation_id,
        causation_id,
        headers,
        created_at: message.enqueued_at,
        expires_at: message.expires_at,
        dead: problem,
        ..IncomingEvent::new(id, name, Body::from_bytes(message.body))
    }
}

/// The message id's UUID in either text form; else derived from (topic, CloudEvents source if any, exact text); with no
/// message id from (entity, sequence number, enqueued time), which redeliveries keep.
fn identity(message: &Message, source: &Source) -> EventId {
    let parts = match &message.message_id {
        Some(text) => {
            let canonical = matches!(text.len(), 32 | 36).then(|| Uuid::try_parse(text).ok()).flatten();
            if let Some(uuid) = canonical {
                return EventId::from_uuid(uuid);
            }
            let event_source =
                cloud_events::attribute(&message.properties, "source").map_or("", String::as_str);
            [source.topic.clone(), event_source.to_owned(), text.clone()]
        }
        None => {
            let enqueued = message
                .enqueued_at
                .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
                .map_or_else(String::new, |since| since.as_millis().to_string());
            [source.entity(), message.sequence_number.to_string(), enqueued]
        }
    };
    // Lengths first, so that no two different lists make the same text.
    let text: String = parts.iter().map(|part| format!("{}:{part}", part.len())).collect();
    EventId::from_uuid(Uuid::new_v5(&NAMESPACE, text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: Option<&str>) -> Message {
        Message {
            message_id: id.map(str::to_owned),
            subject: Some("order-placed".to_owned()),
            sequence_number: 7,
            ..Message::default()
        }
    }

    fn id_of(message: Message) -> EventId {
        incoming(message, &Source::new("orders", "billing")).id
    }

    #[test]
    fn both_text_forms_of_a_uuid_are_the_same_event() {
        let plain = id_of(message(Some("0192f1c0a3b47c5d8e9f001122334455")));
        let hyphened = id_of(message(Some("0192f1c0-a3b4-7c5d-8e9f-001122334455")));
        assert_eq!(plain, hyphened);
        assert_eq!(plain.to_string(), "0192f1c0-a3b4-7c5d-8e9f-001122334455");
    }

    #[test]
    fn other_ids_are_told_apart_by_their_exact_text_and_topic() {
        let ids = [message(Some("42")), message(Some("42 ")), message(Some("0042"))].map(id_of);
        assert!(ids[0] != ids[1] && ids[0] != ids[2]);
        assert_eq!(ids[0], id_of(message(Some("42"))), "and known again");
        let elsewhere = incoming(message(Some("42")), &Source::new("returns", "billing")).id;
        assert_ne!(ids[0], elsewhere);
        let mut from_source = message(Some("42"));
        from_source.properties.insert("cloudEvents:source".to_owned(), "/shop".to_owned());
        assert_ne!(ids[0], id_of(from_source));
    }

    #[test]
    fn a_message_without_an_id_is_known_again_by_its_place() {
        assert_eq!(id_of(message(None)), id_of(message(None)));
        let mut next = message(None);
        next.sequence_number = 8;
        assert_ne!(id_of(message(None)), id_of(next));
        assert_eq!(id_of(message(Some(""))), id_of(message(None)), "an empty id is none");
    }

    #[test]
    fn what_names_no_event_or_a_strange_version_is_kept_dead() {
        let mut nameless = message(Some("1"));
        nameless.subject = None;
        assert!(incoming(nameless, &Source::new("t", "s")).dead.unwrap().contains("names no event"));
        let mut strange = message(Some("1"));
        strange.properties.insert(EVENT_VERSION.to_owned(), "two".to_owned());
        assert!(incoming(strange, &Source::new("t", "s")).dead.unwrap().contains("`two`"));
    }

    #[test]
    fn a_dead_letters_reason_counts_in_its_queue_alone() {
        let mut resubmitted = message(Some("1"));
        resubmitted.dead_letter_reason = Some("MaxDeliveryCountExceeded".to_owned());
        assert_eq!(incoming(resubmitted.clone(), &Source::new("t", "s")).dead, None);
        let dead = incoming(resubmitted, &Source::new("t", "s").dead_letters()).dead.unwrap();
        assert!(dead.contains("MaxDeliveryCountExceeded"), "{dead}");
    }

    #[test]
    fn pseudo_sessions_are_read_back_as_none() {
        let mut pseudo = message(Some("1"));
        pseudo.session_id = Some("~31".to_owned());
        assert_eq!(incoming(pseudo.clone(), &Source::new("t", "s")).session_id, None);
        pseudo.session_id = Some("~32".to_owned());
        assert_eq!(incoming(pseudo, &Source::new("t", "s")).session_id.as_deref(), Some("~32"));
    }
}
