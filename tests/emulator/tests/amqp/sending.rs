//! What clients send.

use serde_amqp::Value;
use servicebus_emulator::amqp::Limits;
use servicebus_emulator::model::{Input, Time};

use super::client::{DETACH, DISPOSITION, FLOW, TRANSFER};
use super::emulator::{Emulator, path};
use super::values::{binary, code, composite, data, part, rejected, section, string, transfer};

const BATCH: u32 = 0x8001_3700;

/// The disposition of a client's deliveries: first, last, settled, state.
fn outcome(frame: &super::client::Frame) -> (u32, u32, bool, u64) {
    let (Value::Uint(first), Value::Uint(last), Value::Bool(settled)) =
        (&frame.fields[1], &frame.fields[2], &frame.fields[3])
    else {
        panic!("{frame:?}")
    };
    assert_eq!(frame.fields[0], Value::Bool(true), "from a receiver");
    (*first, *last, *settled, code(&frame.fields[4]))
}

#[tokio::test]
async fn what_comes_at_once_is_accepted_in_one_breath_and_in_order() {
    let emulator = Emulator::start().await;
    let mut client = emulator.begin().await;
    client.attach_sender(0, "q").await;
    let mut bytes = Vec::new();
    for delivery in 0..50u32 {
        let mut fields = transfer(0, delivery);
        fields[4] = Value::Bool(delivery % 10 == 9);
        let body = super::client::performative(TRANSFER, fields);
        let body = [&body[..], &data(delivery.to_string().as_bytes())].concat();
        bytes.extend(super::client::frame(0, 0, &body));
    }
    client.write(&bytes).await;
    // Each tenth was settled by its sender, and nobody speaks of it.
    for tens in 0..5 {
        let disposition = client.expect(DISPOSITION).await;
        assert_eq!(outcome(&disposition), (tens * 10, tens * 10 + 8, true, 0x24));
    }
    let found = emulator.host.read(|model, _| model.peek(&path("q"), None, 0, 250)).unwrap();
    let bodies: Vec<Value> = found.iter().map(|found| part(&found.message.raw, 0x75)).collect();
    let sent: Vec<Value> = (0..50).map(|number: u32| binary(number.to_string().as_bytes())).collect();
    assert_eq!(bodies, sent);
}

#[tokio::test]
async fn a_message_may_come_in_many_frames_and_two_at_a_time() {
    let emulator = Emulator::start().await;
    let mut client = emulator.begin().await;
    client.attach_sender(0, "q").await;
    client.attach_sender(1, "q").await;
    let messages = [data(&[b'a'; 5000]), data(&[b'b'; 5000])];
    for (index, part) in (0..).zip(messages[0].chunks(100).zip(messages[1].chunks(100))) {
        for (handle, bytes) in [(0u32, part.0), (1, part.1)] {
            let mut fields = transfer(handle, handle);
            fields[5] = Value::Bool(index < 50);
            if index > 0 {
                // They are the first frame's to say.
                fields[1..5].fill(Value::Null);
            }
            client.transfer_with(fields, bytes).await;
        }
    }
    // In one breath or in two.
    let mut told = 0;
    while told < 2 {
        let (first, last, settled, state) = outcome(&client.expect(DISPOSITION).await);
        assert_eq!((first, settled, state), (told, true, 0x24));
        told = last + 1;
    }
    let found = emulator.host.read(|model, _| model.peek(&path("q"), None, 0, 9)).unwrap();
    let raw: Vec<&[u8]> = found.iter().map(|found| &found.message.raw[..]).collect();
    assert_eq!(raw, messages.each_ref().map(|message| &message[..]));
}

#[tokio::test]
async fn an_aborted_message_never_was() {
    let emulator = Emulator::start().await;
    let mut client = emulator.begin().await;
    client.attach_sender(0, "q").await;
    let mut fields = transfer(0, 0);
    fields[5] = Value::Bool(true);
    client.transfer_with(fields.clone(), b"half of").await;
    fields.resize(9, Value::Null);
    fields.push(Value::Bool(true));
    client.transfer_with(fields, b"").await;
    client.transfer(0, 1, &data(b"whole")).await;
    assert_eq!(outcome(&client.expect(DISPOSITION).await), (1, 1, true, 0x24));
    assert_eq!(emulator.count("q"), 1);
}

#[tokio::test]
async fn what_is_too_large_is_rejected_and_not_kept() {
    let emulator = Emulator::limited(Limits { unfinished: 300 * 1024, ..Limits::default() }).await;
    let mut client = emulator.begin().await;
    client.attach_sender(0, "q").await;
    // Much more than the connection may keep, of one message.
    for part in 0..20 {
        let mut fields = transfer(0, 0);
        fields[5] = Value::Bool(part < 19);
        client.transfer_with(fields, &vec![7; 60_000]).await;
    }
    let disposition = client.expect(DISPOSITION).await;
    assert_eq!(rejected(&disposition.fields[4]), "amqp:link:message-size-exceeded");
    // Just too large for the queue, sections and all.
    let message = data(&vec![7; 262_140]);
    let parts: Vec<&[u8]> = message.chunks(60_000).collect();
    for (index, part) in parts.iter().enumerate() {
        let mut fields = transfer(0, 1);
        fields[5] = Value::Bool(index + 1 < parts.len());
        client.transfer_with(fields, part).await;
    }
    let disposition = client.expect(DISPOSITION).await;
    assert_eq!(rejected(&disposition.fields[4]), "amqp:link:message-size-exceeded");
    client.transfer(0, 2, &data(b"small")).await;
    assert_eq!(outcome(&client.expect(DISPOSITION).await), (2, 2, true, 0x24));
    assert_eq!(emulator.count("q"), 1);
}

#[tokio::test]
async fn messages_that_never_end_have_a_limit_together() {
    let emulator = Emulator::limited(Limits { unfinished: 300 * 1024, ..Limits::default() }).await;
    let mut client = emulator.begin().await;
    for handle in 0..3 {
        client.attach_sender(handle, "q").await;
        for _ in 0..2 {
            let mut fields = transfer(handle, handle);
            fields[5] = Value::Bool(true);
            client.transfer_with(fields, &vec![7; 60_000]).await;
        }
        if handle == 0 {
            // What a detach throws away counts no more.
            client.detach(0).await;
            client.expect(DETACH).await;
        }
    }
    let mut fields = transfer(2, 2);
    fields[5] = Value::Bool(true);
    client.transfer_with(fields.clone(), &vec![7; 60_000]).await;
    client.transfer_with(fields, &vec![7; 60_000]).await;
    let close = client.expect(super::client::CLOSE).await;
    assert_eq!(close.condition(), "amqp:resource-limit-exceeded");
    emulator.is_well().await;
}

#[tokio::test]
async fn credit_is_given_again_before_it_is_used_up() {
    let emulator = Emulator::limited(Limits { credit: 4, ..Limits::default() }).await;
    let mut client = emulator.begin().await;
    let attach = client.attach_sender(0, "q").await;
    assert_eq!(attach.field(1), &Value::Uint(0));
    for delivery in 0..2 {
        client.transfer(0, delivery, &data(b"x")).await;
    }
    let mut flow = client.next().await;
    while flow.code != FLOW {
        flow = client.next().await;
    }
    assert_eq!(
        (flow.field(4), flow.field(5), flow.field(6)),
        (&Value::Uint(0), &Value::Uint(2), &Value::Uint(4))
    );
}

#[tokio::test]
async fn each_data_section_of_a_batch_is_a_message() {
    let emulator = Emulator::start().await;
    let mut client = emulator.begin().await;
    client.attach_sender(0, "q").await;
    let message = |id: &str| [section(0x73, Value::List(vec![string(id)])), data(id.as_bytes())].concat();
    let envelope = section(0x73, Value::List(vec![string("one")]));
    let batch = [envelope, data(&message("one")), data(&message("two")), data(&message("three"))].concat();
    let mut fields = transfer(0, 0);
    fields[3] = Value::Uint(BATCH);
    client.transfer_with(fields.clone(), &batch).await;
    assert_eq!(outcome(&client.expect(DISPOSITION).await), (0, 0, true, 0x24));
    let found = emulator.host.read(|model, _| model.peek(&path("q"), None, 0, 9)).unwrap();
    let ids: Vec<_> =
        found.iter().map(|found| found.message.properties.message_id.clone().unwrap()).collect();
    assert_eq!(ids, ["one", "two", "three"]);
    // All of it or nothing.
    fields[1] = Value::Uint(1);
    for wrong in [[data(&message("four")), data(b"garbage")].concat(), Vec::new(), section(0x77, string("x"))]
    {
        client.transfer_with(fields.clone(), &wrong).await;
        let disposition = client.expect(DISPOSITION).await;
        assert_eq!(rejected(&disposition.fields[4]), "amqp:decode-error");
    }
    assert_eq!(emulator.count("q"), 3);
}

#[tokio::test]
async fn a_busy_entity_says_so_for_each_message() {
    let emulator = Emulator::start().await;
    let mut client = emulator.begin().await;
    client.attach_sender(0, "q").await;
    let until = Time(super::emulator::NOW.0 + 1);
    emulator.host.apply(Input::InjectServerBusy { entity: Some(path("q")), until }).await.unwrap();
    client.transfer(0, 0, &data(b"x")).await;
    let disposition = client.expect(DISPOSITION).await;
    assert_eq!(rejected(&disposition.fields[4]), "com.microsoft:server-busy");
    emulator.clock.advance(std::time::Duration::from_millis(1));
    client.transfer(0, 1, &data(b"x")).await;
    assert_eq!(outcome(&client.expect(DISPOSITION).await), (1, 1, true, 0x24));
}

#[tokio::test]
async fn there_are_no_transactions() {
    let emulator = Emulator::start().await;
    let mut client = emulator.begin().await;
    client.attach_sender(0, "q").await;
    let mut fields = transfer(0, 0);
    fields.extend([Value::Null, composite(0x34, vec![binary(b"id")])]);
    client.transfer_with(fields, &data(b"x")).await;
    assert_eq!(client.expect(DETACH).await.condition(), "amqp:not-implemented");
    assert_eq!(emulator.count("q"), 0);
}
