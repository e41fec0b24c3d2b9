//! From AMQP messages to events: whatever came becomes a row of a bounded size, and goes out again as it came in.
#![no_main]

use distributed_events::broker::Source;
use distributed_events::broker::service_bus::fuzzing::{read, written};
use distributed_events::inbox::incoming::incoming;
use distributed_events::{Envelope, storage::Body};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let message = match read(bytes) {
        Ok(message) => message,
        Err(error) => return assert!(!error.is_empty()),
    };
    let texts: usize = message.properties.iter().map(|(name, value)| name.len() + value.len()).sum();
    // A number of nine bytes is a text of at most twenty, or of some hundred where it is a double.
    assert!(texts + message.body.len() <= 400 * bytes.len(), "{} bytes became {texts}", bytes.len());

    let source = Source::new("orders", "billing");
    let event = incoming(message.clone(), &source);
    assert_eq!(event, incoming(message, &source), "redelivered it is the same event");
    assert!(!event.name.is_empty() && !event.message_id.is_empty());

    let Body::Text(data) = event.body else { return };
    let mut sent = Envelope::new(event.id, event.name, data);
    (sent.version, sent.session_id) = (event.version, event.session_id);
    (sent.correlation_id, sent.causation_id) = (event.correlation_id, event.causation_id);
    sent.headers.insert("number".to_owned(), sent.data.clone());
    let encoded = written(&sent).expect("what was read can be written");
    let back = incoming(read(&encoded).expect("what was written can be read"), &source);
    assert_eq!((back.id, &back.name, back.version), (sent.id, &sent.name, sent.version));
    assert_eq!(back.body, Body::Text(sent.data.clone()));
    assert_eq!(back.session_id, sent.session_id);
    assert_eq!((back.correlation_id, back.causation_id), (sent.correlation_id, sent.causation_id));
    assert_eq!(back.headers["number"], sent.data);
});
