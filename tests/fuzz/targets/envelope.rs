//! From a message to the row of the inbox: nothing is lost, the row is known again, and what is dead says why.
//! The input is one field a line, then the properties up to an empty line, then the body.
#![no_main]

use distributed_events::broker::{Message, Source};
use distributed_events::inbox::incoming::{CAUSATION_ID, EVENT_VERSION, incoming};
use distributed_events::outbox::publish::is_reserved_session;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut message = Message::default();
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let mut line = || lines.next().map(|line| String::from_utf8_lossy(line).into_owned());
    message.content_type = line();
    message.message_id = line();
    message.subject = line();
    message.session_id = line().filter(|session| !session.is_empty());
    message.correlation_id = line().filter(|id| !id.is_empty());
    while let Some(property) = line().filter(|line| !line.is_empty()) {
        let (name, value) = property.split_once('=').unwrap_or((&property, ""));
        message.properties.insert(name.to_owned(), value.to_owned());
    }
    message.body = lines.collect::<Vec<_>>().join(&b'\n');

    let source = Source::new("orders", "billing");
    let event = incoming(message.clone(), &source);
    assert_eq!(event, incoming(message.clone(), &source), "redelivered it is the same event");
    assert!(!event.name.is_empty() && !event.message_id.is_empty());
    assert!(event.session_id.as_ref().is_none_or(|session| !is_reserved_session(session)));
    assert!(!event.headers.contains_key(EVENT_VERSION) && !event.headers.contains_key(CAUSATION_ID));
    assert!(event.dead.as_ref().is_none_or(|reason| !reason.is_empty()));
    let kind = message.content_type.as_deref().unwrap_or_default().to_ascii_lowercase();
    let wrapped = kind.starts_with("application/cloudevents");
    let unread = ["its content type says CloudEvents", "the CloudEvents document's"];
    if !wrapped || event.dead.is_some_and(|reason| unread.iter().any(|unread| reason.starts_with(unread))) {
        assert_eq!(event.body.as_bytes(), message.body);
    }
    let dead = incoming(message, &source.dead_letters());
    assert_eq!((dead.id, dead.dead.is_some()), (event.id, true), "in a dead-letter queue it is dead");
});
