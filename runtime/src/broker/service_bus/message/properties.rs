//! What goes out as an AMQP message comes in as the same event, whatever is in it.

use std::time::UNIX_EPOCH;

use fe2o3_amqp::types::messaging::message::DecodeIntoMessage;
use fe2o3_amqp::types::primitives::{OrderedMap, Uuid as AmqpUuid};
use proptest::prelude::*;

use super::*;
use crate::broker::Source;
use crate::envelope::EventId;
use crate::inbox::incoming::incoming;
use crate::outbox::publish::properties::{publishable, same};
use crate::storage::{Body as Stored, IncomingEvent};

fn read(bytes: &[u8]) -> AmqpMessage<Received> {
    Received::decode_message_from_reader(serde_amqp::read::SliceReader::new(bytes)).unwrap()
}

fn received(message: Message) -> IncomingEvent {
    incoming(message, &Source::new("orders", "billing"))
}

/// Every type that an application property can have, and the text that it is to become.
fn any_simple() -> impl Strategy<Value = (SimpleValue, Option<String>)> {
    let shown = |text: &dyn std::fmt::Display| Some(text.to_string());
    prop_oneof![
        Just((SimpleValue::Null, None)),
        any::<bool>().prop_map(move |it| (SimpleValue::Bool(it), shown(&it))),
        any::<u8>().prop_map(move |it| (SimpleValue::Ubyte(it), shown(&it))),
        any::<u16>().prop_map(move |it| (SimpleValue::Ushort(it), shown(&it))),
        any::<u32>().prop_map(move |it| (SimpleValue::Uint(it), shown(&it))),
        any::<u64>().prop_map(move |it| (SimpleValue::Ulong(it), shown(&it))),
        any::<i8>().prop_map(move |it| (SimpleValue::Byte(it), shown(&it))),
        any::<i16>().prop_map(move |it| (SimpleValue::Short(it), shown(&it))),
        any::<i32>().prop_map(move |it| (SimpleValue::Int(it), shown(&it))),
        any::<i64>().prop_map(move |it| (SimpleValue::Long(it), shown(&it))),
        any::<f32>().prop_map(move |it| (SimpleValue::Float(it.into()), shown(&it))),
        any::<f64>().prop_map(move |it| (SimpleValue::Double(it.into()), shown(&it))),
        any::<char>().prop_map(move |it| (SimpleValue::Char(it), shown(&it))),
        // The years that RFC 3339 has.
        (0..253_402_300_800_000_i64).prop_map(|it| {
            let time = Timestamp::from_milliseconds(it);
            (SimpleValue::Timestamp(time), wire::rfc3339(it))
        }),
        any::<[u8; 16]>().prop_map(move |it| {
            (SimpleValue::Uuid(AmqpUuid::from(it)), shown(&uuid::Uuid::from_bytes(it)))
        }),
        "\\PC{0,300}".prop_map(|it| (SimpleValue::Binary(it.clone().into_bytes().into()), Some(it))),
        prop::collection::vec(128..=191_u8, 1..9).prop_map(|it| (SimpleValue::Binary(it.into()), None)),
        any::<String>().prop_map(|it| (SimpleValue::String(it.clone()), Some(it))),
        "[ -~]{0,300}".prop_map(|it| (SimpleValue::Symbol(Symbol::from(it.as_str())), Some(it))),
    ]
}

proptest! {
    // Envelopes are large, so fewer of them.
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn an_event_comes_in_as_it_went_out(event in publishable()) {
        let bytes = bytes_of(&event, "sb://here").unwrap();
        let read = read(&bytes);
        if let Some(annotations) = &read.message_annotations {
            let at = annotations.0.get(&OwnedKey::Symbol(Symbol::from("x-opt-scheduled-enqueue-time")));
            let expected = event.deliver_at.map(|at| Value::Timestamp(timestamp(at)));
            prop_assert_eq!(at, expected.as_ref());
        }
        prop_assert_eq!(read.header.as_ref().and_then(|header| header.ttl).is_some(), event.expires_at.is_some());
        let message = decode(read);
        prop_assert_eq!(message.content_type.as_deref(), Some("application/json"));
        prop_assert_eq!(&message.properties["cloudEvents:id"], &event.id.to_string());
        prop_assert_eq!(&message.properties["cloudEvents:type"], &event.name);
        same(&event, &received(message))?;
    }

    #[test]
    fn a_property_of_any_type_becomes_text(all in prop::collection::vec((any::<String>(), any_simple()), 0..6)) {
        let mut properties = OrderedMap::new();
        let mut expected = Headers::new();
        for (name, (value, text)) in all {
            // Those that have a meaning of their own have tests of their own.
            let name = format!("x{name}");
            if !properties.contains_key(&name) {
                properties.insert(name.clone(), value);
                expected.extend(text.map(|text| (name, text)));
            }
        }
        let bytes = serde_amqp::to_vec(&ApplicationProperties(properties)).unwrap();
        let with_body = [bytes, serde_amqp::to_vec(&Data(Binary::from(vec![1, 2]))).unwrap()].concat();
        let message = decode(read(&with_body));
        prop_assert_eq!((&message.properties, &message.body), (&expected, &vec![1, 2]));
        prop_assert_eq!(received(message).headers, expected);
    }

    #[test]
    fn an_id_of_any_type_is_one_event(bits: u128, number: u64, text in "\\PC{1,40}", bytes in prop::collection::vec(any::<u8>(), 1..15)) {
        let id = uuid::Uuid::from_u128(bits);
        let of = |id: MessageId| received(Message { message_id: Some(id_text(id)), ..Message::default() });
        let forms = [
            MessageId::Uuid(AmqpUuid::from(id.into_bytes())),
            MessageId::Binary(id.as_bytes().to_vec().into()),
            MessageId::String(id.to_string()),
            MessageId::String(id.simple().to_string()),
            MessageId::String(id.to_string().to_uppercase()),
        ];
        for form in forms {
            prop_assert_eq!(of(form).id, EventId::from_uuid(id));
        }
        for (form, shown) in [
            (MessageId::Ulong(number), number.to_string()),
            (MessageId::String(text.clone()), text),
            (MessageId::Binary(bytes.clone().into()), String::from_utf8_lossy(&bytes).into_owned()),
        ] {
            prop_assert_eq!(of(form).message_id, shown);
        }
    }

    #[test]
    fn a_body_of_several_parts_is_all_of_them(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..4)) {
        let sections = parts.iter().map(|part| serde_amqp::to_vec(&Data(Binary::from(part.clone()))).unwrap());
        let bytes = sections.collect::<Vec<_>>().concat();
        let message = decode(read(&bytes));
        prop_assert_eq!(&message.body, &parts.concat());
        prop_assert_eq!(received(message).body, Stored::from_bytes(parts.concat()));
    }

    #[test]
    fn times_keep_their_milliseconds(milliseconds in -62_135_596_800_000..253_402_300_800_000_i64) {
        let time = system_time(&Timestamp::from_milliseconds(milliseconds));
        prop_assert_eq!(timestamp(time).milliseconds(), milliseconds);
        prop_assert_eq!(time >= UNIX_EPOCH, milliseconds >= 0);
    }
}
