//! Whatever `publish` lets through, for the round trips of every transport.

use std::collections::BTreeSet;
use std::time::UNIX_EPOCH;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use uuid::Uuid;

use super::*;
use crate::envelope::DEFAULT_MAX_SIZE;
use crate::storage::{Body, IncomingEvent};

/// What a transport sets itself, whatever the event says under these names.
const STAMPED: [&str; 6] = [
    "Diagnostic-Id",
    "cloudEvents:id",
    "cloudEvents:source",
    "cloudEvents:specversion",
    "cloudEvents:time",
    "cloudEvents:type",
];

/// Texts of every kind that databases take.
fn text(longest: usize) -> impl Strategy<Value = String> {
    let any = prop_oneof![any::<char>(), prop::char::range(' ', '~'), prop::char::range('\u{80}', '\u{2ff}')];
    prop::collection::vec(any.prop_filter("NUL", |c| *c != '\0'), 1..longest).prop_map(String::from_iter)
}

/// Header names: any that are allowed, and those that somebody else has a use for.
fn header_name() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "Tenant",
        "tenant",
        "TENANT",
        "eventversion",
        "causationid",
        "eventheaders",
        "EventHeaders",
        "DeadLetterReason",
        "deadletterreason",
        "DeadLetterErrorDescription",
        "Diagnostic-Id",
        "diagnostic-id",
        "cloudEvents:source",
        "cloudEvents:subject",
        "cloudEvents_type",
        "cloudevents_type",
        "cloudEvents_id",
        "cloudevents:id",
        "traceparent",
        "content-type",
        "Content-Type",
        "date",
        "host",
        "server",
        "brokerproperties",
        "x-broker-properties",
        "X-Broker-Properties",
        "a:b",
        "a b",
        "x\u{fd}",
        "etag",
        "NServiceBus.MessageId",
    ]);
    prop_oneof![2 => words.prop_map(str::to_owned), 2 => "[!-~]{1,128}", 2 => "[a-z][a-z0-9._-]{0,20}", 1 => text(8)]
}

/// An event that `publish` has let through.
pub(crate) fn publishable() -> impl Strategy<Value = Envelope> {
    let headers =
        prop::collection::btree_map(header_name(), prop_oneof![Just(String::new()), text(40)], 0..6);
    let ids = (any::<u128>(), prop::option::of(text(128)), text(128), prop::option::of(text(128)));
    // Up to the year 9999, which is where some transports end.
    let milliseconds = 0..253_402_300_800_000_u64;
    let times =
        (milliseconds.clone(), prop::option::of(milliseconds.clone()), prop::option::of(milliseconds));
    (text(128), any::<u32>(), text(400), ids, headers, times)
        .prop_map(
            |(
                name,
                version,
                data,
                (id, session, correlation, causation),
                headers,
                (created, at, expires),
            )| {
                let time = |milliseconds| UNIX_EPOCH + Duration::from_millis(milliseconds);
                let mut event =
                    Envelope::new(EventId::from_uuid(Uuid::from_u128(id)), name, format!("{data:?}"));
                event.version = version;
                event.session_id = session;
                let options =
                    PublishOptions { headers, correlation_id: Some(correlation), ..PublishOptions::new() };
                let mut event = complete(event, options, DEFAULT_MAX_SIZE).ok()?.event.envelope;
                event.causation_id = causation;
                event.created_at = time(created);
                event.deliver_at = at.map(time);
                event.expires_at = expires.map(time);
                refuse(&event, Delivery::Now, None).is_none().then_some(event)
            },
        )
        .prop_filter_map("publish refuses it", |event| event)
}

/// Whether an event came in as it went out.
pub(crate) fn same(sent: &Envelope, received: &IncomingEvent) -> Result<(), TestCaseError> {
    prop_assert_eq!(&received.dead, &None);
    prop_assert_eq!((received.id, &received.message_id), (sent.id, &sent.id.to_string()));
    prop_assert_eq!((&received.name, received.version), (&sent.name, sent.version));
    prop_assert_eq!(&received.body, &Body::Text(sent.data.clone()));
    prop_assert_eq!(&received.session_id, &sent.session_id);
    prop_assert_eq!(&received.correlation_id, &sent.correlation_id);
    prop_assert_eq!(&received.causation_id, &sent.causation_id);
    let stamped: BTreeSet<_> = STAMPED.into_iter().collect();
    let own = |headers: &Headers| -> Headers {
        headers
            .iter()
            .filter(|(name, _)| !stamped.contains(name.as_str()))
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect()
    };
    prop_assert_eq!(own(&received.headers), own(&sent.headers), "headers");
    prop_assert_eq!(received.headers.get("Diagnostic-Id"), sent.headers.get(TRACEPARENT));
    Ok(())
}

proptest! {
    // Envelopes are large, so fewer of them.
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_is_let_through_is_within_the_limits(event in publishable()) {
        prop_assert!((1..=MAX_NAME).contains(&event.name.chars().count()));
        prop_assert!(event.headers.contains_key(TRACEPARENT) && event.correlation_id.is_some());
        for (name, value) in &event.headers {
            prop_assert!(name.bytes().all(|byte| byte.is_ascii_graphic()) && name.len() <= MAX_NAME);
            prop_assert!(value.len() <= MAX_HEADER);
        }
        prop_assert!(event.encoded_size() <= DEFAULT_MAX_SIZE);
    }
}

#[test]
fn only_the_32_pseudo_sessions_are_reserved() {
    let reserved: Vec<_> =
        (0..=999).map(|number| format!("~{number:02}")).filter(|it| is_reserved_session(it)).collect();
    assert_eq!(reserved, (0..32).map(|number| format!("~{number:02}")).collect::<Vec<_>>());
    for other in ["", "~", "~0", "~000", "00", "~ 1", "~+1", "~1\u{663}", "~~01", "~01 "] {
        assert!(!is_reserved_session(other), "{other}");
    }
}
