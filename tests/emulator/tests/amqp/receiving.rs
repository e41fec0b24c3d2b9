//! What clients receive: credit, drain, windows, frames, and what stands around a message.

use serde_amqp::Value;
use serde_amqp::primitives::Timestamp;
use servicebus_emulator::model::{Input, QueueSettings, SubQueue, Time};

use super::client::{Client, DISPOSITION, FLOW, Frame, TRANSFER};
use super::emulator::{Emulator, NOW, path, seconds};
use super::values::{
    array, binary, code, composite, data, flow, get, map, part, section, sections, string, symbol,
};

fn body(frame: &Frame) -> String {
    let Value::Binary(bytes) = part(&frame.payload, 0x75) else { panic!("{frame:?}") };
    String::from_utf8(bytes.into_vec()).unwrap()
}

/// The credit part of a link's flow: handle, delivery count, credit, drain.
fn credit(frame: &Frame) -> [Value; 4] {
    assert_eq!(frame.code, FLOW, "{frame:?}");
    [4, 5, 6, 8].map(|index| frame.field(index).clone())
}

#[tokio::test]
async fn nothing_comes_without_credit_and_no_more_than_that() {
    let emulator = Emulator::start().await;
    emulator.send("q", &["a", "b", "c", "d"], None).await;
    let mut client = emulator.begin().await;
    client.attach_receiver(0, "q").await;
    for (count, expected) in [(0, vec!["a"]), (1, vec!["b", "c"])] {
        client.credit(0, count, expected.len().try_into().unwrap(), false).await;
        for body in expected {
            assert_eq!(self::body(&client.expect(TRANSFER).await), body);
        }
    }
    // An echo shows that nothing else came before it.
    let mut echo = flow(3, 1000);
    echo.extend([
        Value::Uint(0),
        Value::Uint(3),
        Value::Uint(0),
        Value::Null,
        Value::Null,
        Value::Bool(true),
    ]);
    client.send(0, FLOW, echo).await;
    let [handle, count, left, _] = credit(&client.next().await);
    assert_eq!((handle, count, left), (Value::Uint(0), Value::Uint(3), Value::Uint(0)));
    // Credit that was given before a delivery arrived counts that delivery.
    client.credit(0, 2, 2, false).await;
    assert_eq!(body(&client.expect(TRANSFER).await), "d");
    emulator.send("q", &["later"], None).await;
    client.credit(0, 4, 1, false).await;
    assert_eq!(body(&client.expect(TRANSFER).await), "later");
}

#[tokio::test]
async fn a_drain_ends_with_all_credit_used() {
    let emulator = Emulator::start().await;
    emulator.send("q", &["a", "b", "c"], None).await;
    let mut client = emulator.begin().await;
    client.attach_deleting_receiver(4, "q").await;
    client.credit(4, 0, 10, true).await;
    for expected in ["a", "b", "c"] {
        assert_eq!(body(&client.next().await), expected);
    }
    let drained = [Value::Uint(4), Value::Uint(10), Value::Uint(0), Value::Bool(true)];
    assert_eq!(credit(&client.next().await), drained);
    // Also where there is nothing at all, and where credit was there before.
    client.credit(4, 10, 5, false).await;
    client.credit(4, 10, 5, true).await;
    let drained = [Value::Uint(4), Value::Uint(15), Value::Uint(0), Value::Bool(true)];
    assert_eq!(credit(&client.next().await), drained);
    emulator.send("q", &["later"], None).await;
    client.credit(4, 15, 1, false).await;
    assert_eq!(body(&client.next().await), "later");
}

#[tokio::test]
async fn who_waits_is_served_when_something_comes() {
    let emulator = Emulator::start().await;
    let mut client = emulator.begin().await;
    client.attach_deleting_receiver(0, "q").await;
    client.credit(0, 0, 100, false).await;
    for body in ["a", "b", "c"] {
        emulator.send("q", &[body], None).await;
        assert_eq!(self::body(&client.expect(TRANSFER).await), body);
    }
}

#[tokio::test]
async fn the_clients_window_and_frame_size_are_kept_to() {
    let emulator = Emulator::start().await;
    let message = vec![b'x'; 3000];
    emulator.send("q", &[std::str::from_utf8(&message).unwrap(), "short"], None).await;
    let mut client = emulator.connect().await;
    client.greet().await;
    client.open_with(Value::Uint(512), Value::Null).await;
    client.begin_with(0, 2).await;
    client.attach_deleting_receiver(0, "q").await;
    client.credit_within(flow(0, 2), 0, 0, 2, false).await;
    let mut payload = Vec::new();
    let mut frames = 0u32;
    loop {
        let frame = client.next().await;
        assert_eq!(frame.code, TRANSFER);
        assert!(frame.payload.len() < 512 && !frame.payload.is_empty());
        let first = frames == 0;
        assert_eq!(frame.field(1) == &Value::Uint(0), first, "the id is the first frame's to say");
        assert_eq!(matches!(frame.field(2), Value::Binary(_)), first);
        assert_eq!(frame.field(3) == &Value::Uint(0), first);
        assert_eq!(frame.field(4) == &Value::Bool(true), first);
        payload.extend_from_slice(&frame.payload);
        frames += 1;
        if frame.field(5) != &Value::Bool(true) {
            break;
        }
        if frames.is_multiple_of(2) {
            // The window is used up; an echo shows that nothing else is on its way. It is still as it was.
            let mut echo = flow(frames, 0);
            echo.resize(9, Value::Null);
            echo.push(Value::Bool(true));
            client.send(0, FLOW, echo).await;
            assert_eq!(client.next().await.code, FLOW);
            client.send(0, FLOW, flow(frames, 2)).await;
        }
    }
    assert_eq!(part(&payload, 0x75), binary(&message));
    assert!(frames > 6, "{frames}");
    client.send(0, FLOW, flow(frames, 2)).await;
    assert_eq!(body(&client.expect(TRANSFER).await), "short");
}

#[tokio::test]
async fn credit_that_is_taken_back_gives_the_messages_back() {
    let emulator = Emulator::start().await;
    emulator.send("q", &["a", "b", "c"], None).await;
    let mut client = emulator.connect().await;
    client.greet().await;
    client.open().await;
    // One frame may be sent: the others are fetched and wait.
    client.begin_with(0, 1).await;
    client.attach_receiver(0, "q").await;
    client.credit_within(flow(0, 1), 0, 0, 3, false).await;
    assert_eq!(body(&client.expect(TRANSFER).await), "a");
    let mut other = emulator.begin().await;
    other.attach_deleting_receiver(0, "q").await;
    other.credit(0, 0, 3, false).await;
    client.credit_within(flow(1, 0), 0, 1, 0, false).await;
    for expected in ["b", "c"] {
        let transfer = other.expect(TRANSFER).await;
        assert_eq!(body(&transfer), expected);
        assert_eq!(header(&transfer)[4], Value::Uint(0), "they were never seen");
    }
}

/// The fields of a message's header.
fn header(frame: &Frame) -> Vec<Value> {
    let Value::List(fields) = part(&frame.payload, 0x70) else { panic!("{frame:?}") };
    fields
}

#[tokio::test]
async fn the_broker_says_what_it_knows_about_a_message() {
    let emulator = Emulator::start().await;
    let mut client = emulator.begin().await;
    client.attach_sender(0, "q").await;
    let annotations = map(&[
        (symbol("x-opt-partition-key"), string("p")),
        (symbol("mine"), Value::List(vec![Value::Int(1)])),
        // Copied from another message, as careless clients do.
        (symbol("x-opt-sequence-number"), Value::Long(99)),
        (symbol("x-opt-locked-until"), Value::Long(99)),
    ]);
    let application =
        map(&[(string("a"), Value::Decimal32([1, 2, 3, 4].into())), (string("b"), Value::Char('ß'))]);
    let sent = [
        section(0x70, Value::List(vec![Value::Bool(true), Value::Ubyte(7)])),
        section(0x71, map(&[(symbol("hop"), string("by hop"))])),
        section(0x72, annotations),
        section(0x73, Value::List(vec![Value::Ulong(7), binary(b"me"), string("to")])),
        section(0x74, application.clone()),
        section(0x76, Value::List(vec![Value::Int(1), array(vec![Value::Long(5)])])),
        section(0x76, Value::List(vec![])),
        section(0x78, map(&[(symbol("foot"), Value::Bool(true))])),
    ]
    .concat();
    client.transfer(0, 0, &sent).await;
    assert_eq!(code(&client.expect(DISPOSITION).await.fields[4]), 0x24);
    client.attach_receiver(1, "q").await;
    client.credit(1, 0, 1, false).await;
    let transfer = client.expect(TRANSFER).await;
    let Value::Binary(tag) = transfer.field(2) else { panic!("{transfer:?}") };
    let got = sections(&transfer.payload);
    let codes: Vec<u64> = got.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [0x70, 0x71, 0x72, 0x73, 0x74, 0x76, 0x76, 0x78]);
    assert_eq!(
        header(&transfer),
        [Value::Bool(true), Value::Ubyte(7), Value::Null, Value::Null, Value::Uint(0)],
        "the delivery count is there, even where it is nothing"
    );
    let Some(Value::Uuid(token)) = get(&got[1].1, "x-opt-lock-token") else { panic!("{got:?}") };
    let token = uuid::Uuid::from_bytes(token.clone().into_inner());
    assert_eq!(tag.as_slice(), token.to_bytes_le(), "the tag is the token as .NET writes it");
    assert!(get(&got[1].1, "hop").is_none());
    let annotation = |name: &str| get(&got[2].1, name).cloned();
    let time = |Time(milliseconds)| Some(Value::Timestamp(Timestamp::from_milliseconds(milliseconds as i64)));
    assert_eq!(annotation("x-opt-sequence-number"), Some(Value::Long(1)));
    assert_eq!(annotation("x-opt-enqueued-time"), time(NOW));
    assert_eq!(annotation("x-opt-locked-until"), time(NOW + seconds(60)));
    assert_eq!(annotation("x-opt-partition-key"), Some(string("p")));
    assert_eq!(annotation("mine"), Some(Value::List(vec![Value::Int(1)])));
    assert_eq!(annotation("x-opt-message-state"), None, "an active message says nothing about it");
    assert_eq!(annotation("x-opt-enqueue-sequence-number"), None);
    let Value::Map(all) = &got[2].1 else { panic!() };
    assert_eq!(all.iter().count(), 5);
    assert_eq!(got[4].1, application, "types travel untouched");
    let tail = |bytes: &[u8]| bytes[bytes.len() - 40..].to_vec();
    assert_eq!(tail(&transfer.payload), tail(&sent));
}

#[tokio::test]
async fn what_is_deleted_on_receipt_has_no_lock() {
    let emulator = Emulator::start().await;
    emulator.send("q", &["a", "b"], None).await;
    let mut client = emulator.begin().await;
    client.attach_deleting_receiver(0, "q").await;
    client.credit(0, 0, 2, false).await;
    let (one, two) = (client.expect(TRANSFER).await, client.expect(TRANSFER).await);
    assert_eq!(one.field(4), &Value::Bool(true), "settled");
    assert_ne!(one.field(2), two.field(2), "tags differ");
    assert_eq!(part(&one.payload, 0x71), map(&[]), "there are delivery annotations, and they are empty");
    assert!(get(&part(&one.payload, 0x72), "x-opt-locked-until").is_none());
    assert_eq!(emulator.count("q"), 0);
}

#[tokio::test]
async fn a_time_to_live_is_told_with_its_end() {
    let emulator = Emulator::start().await;
    let settings = QueueSettings { default_message_time_to_live: seconds(60), ..QueueSettings::default() };
    emulator.host.apply(Input::CreateQueue { path: path("short"), settings }).await.unwrap();
    let mut client = emulator.begin().await;
    client.attach_sender(0, "short").await;
    let sent = [
        section(0x70, Value::List(vec![Value::Null, Value::Null, Value::Uint(90_000)])),
        section(0x73, Value::List(vec![string("id"), Value::Null, string("to")])),
        data(b"x"),
    ];
    client.transfer(0, 0, &sent.concat()).await;
    client.expect(DISPOSITION).await;
    client.transfer(0, 1, &data(b"y")).await;
    client.expect(DISPOSITION).await;
    client.attach_receiver(1, "short").await;
    client.credit(1, 0, 2, false).await;
    for named in [true, false] {
        let frame = client.expect(TRANSFER).await;
        assert_eq!(header(&frame)[2], Value::Uint(60_000), "the queue's limit is the shorter one");
        let Value::List(properties) = part(&frame.payload, 0x73) else { panic!() };
        let end = Timestamp::from_milliseconds((NOW.0 + 60_000) as i64);
        assert_eq!(properties[8], Value::Timestamp(end));
        if named {
            assert_eq!((&properties[0], &properties[2]), (&string("id"), &string("to")));
        } else {
            assert!(matches!(&properties[0], Value::String(id) if !id.is_empty()), "who has none gets one");
        }
    }
}

/// Dead-letters the message `delivery` of the link on the handle 0.
async fn dead_letter(client: &mut Client, delivery: u32) {
    let info = map(&[(symbol("DeadLetterReason"), string("why"))]);
    let error = composite(0x1d, vec![symbol("com.microsoft:dead-letter"), Value::Null, info]);
    client.settle(delivery, delivery, false, composite(0x25, vec![error])).await;
    client.expect(DISPOSITION).await;
}

#[tokio::test]
async fn a_dead_letter_says_where_it_was_and_why() {
    let emulator = Emulator::start().await;
    let mut client = emulator.begin().await;
    client.attach_sender(9, "t").await;
    let application =
        section(0x74, map(&[(string("kept"), Value::Int(1)), (string("DeadLetterReason"), string("old"))]));
    client.transfer(9, 0, &[application, data(b"x")].concat()).await;
    client.expect(DISPOSITION).await;
    client.attach_receiver(0, "t/Subscriptions/u").await;
    client.credit(0, 0, 1, false).await;
    client.expect(TRANSFER).await;
    dead_letter(&mut client, 0).await;
    let dead = path("t/Subscriptions/u").with(SubQueue::DeadLetter).to_string();
    client.attach_receiver(1, &dead).await;
    client.credit(1, 0, 1, false).await;
    let transfer = client.expect(TRANSFER).await;
    let application = part(&transfer.payload, 0x74);
    assert_eq!(get(&application, "DeadLetterReason"), Some(&string("why")));
    assert_eq!(get(&application, "kept"), Some(&Value::Int(1)));
    let Value::Map(all) = &application else { panic!() };
    assert_eq!(all.iter().count(), 2, "each once: {application:?}");
    assert_eq!(body(&transfer), "x");
}

#[tokio::test]
async fn many_links_take_turns() {
    let emulator = Emulator::start().await;
    let mut client = emulator.begin().await;
    for handle in 0..20 {
        client.attach_deleting_receiver(handle, "q").await;
        client.credit(handle, 0, 5, false).await;
    }
    // When the last of them has its attach, all of them wait; an echo shows it.
    let mut echo = flow(0, 1000);
    echo.resize(9, Value::Null);
    echo.push(Value::Bool(true));
    client.send(0, FLOW, echo).await;
    client.expect(FLOW).await;
    for number in 0..60 {
        emulator.send("q", &[&number.to_string()], None).await;
    }
    let mut got = std::collections::BTreeSet::new();
    for delivery in 0..60 {
        let transfer = client.expect(TRANSFER).await;
        assert_eq!(transfer.field(1), &Value::Uint(delivery), "numbered by the session");
        got.insert(body(&transfer).parse::<u32>().unwrap());
    }
    assert_eq!(got.len(), 60);
}
