//! What clients make of deliveries, and what they hear about it.

use std::time::Duration;

use serde_amqp::Value;
use servicebus_emulator::model::MessageState;

use super::client::{Client, DETACH, DISPOSITION, Frame, TRANSFER};
use super::emulator::{Emulator, path};
use super::values::{composite, get, map, part, rejected, string, symbol};

/// A client with so many deliveries of the queue `q` on the handle 0.
async fn received(emulator: &Emulator, count: u32) -> Client {
    let bodies: Vec<String> = (0..count).map(|number| number.to_string()).collect();
    let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
    emulator.send("q", &bodies, None).await;
    let mut client = emulator.begin().await;
    client.attach_receiver(0, "q").await;
    client.credit(0, 0, count, false).await;
    for delivery in 0..count {
        assert_eq!(client.expect(TRANSFER).await.field(1), &Value::Uint(delivery));
    }
    client
}

/// First, last and state of an answer from here.
fn answer(frame: &Frame) -> (u32, u32, &Value) {
    assert_eq!((&frame.fields[0], &frame.fields[3]), (&Value::Bool(false), &Value::Bool(true)), "{frame:?}");
    let (Value::Uint(first), Value::Uint(last)) = (&frame.fields[1], &frame.fields[2]) else {
        panic!("{frame:?}")
    };
    (*first, *last, &frame.fields[4])
}

fn accepted() -> Value {
    composite(0x24, vec![])
}

#[tokio::test]
async fn a_range_is_settled_in_one_go() {
    let emulator = Emulator::start().await;
    let mut client = received(&emulator, 10).await;
    client.settle(2, 7, false, accepted()).await;
    assert_eq!(answer(&client.expect(DISPOSITION).await), (2, 7, &accepted()));
    assert_eq!(emulator.count("q"), 4);
    // Settled means that no answer is wanted: the next one is for the next.
    client.settle(0, 1, true, accepted()).await;
    client.settle(8, 100, false, accepted()).await;
    assert_eq!(answer(&client.expect(DISPOSITION).await), (8, 9, &accepted()));
    assert_eq!(emulator.count("q"), 0);
}

#[tokio::test]
async fn every_outcome_is_answered_as_it_was_meant() {
    let emulator = Emulator::start().await;
    let mut client = received(&emulator, 6).await;
    let info = map(&[
        // JavaScript writes strings, Python symbols.
        (string("DeadLetterReason"), string("why")),
        (symbol("DeadLetterErrorDescription"), string("because")),
        (string("more"), Value::Int(7)),
    ]);
    let error = composite(0x1d, vec![symbol("com.microsoft:dead-letter"), string("because"), info]);
    let modified = |here: bool, fields: &[(Value, Value)]| {
        composite(0x27, vec![Value::Bool(true), Value::Bool(here), map(fields)])
    };
    let abandon = modified(false, &[(symbol("note"), string("again"))]);
    let defer = modified(true, &[(string("note"), string("later"))]);
    for (delivery, said, heard) in [
        (0, accepted(), accepted()),
        (1, abandon.clone(), abandon),
        (2, defer.clone(), defer),
        (3, composite(0x25, vec![error]), composite(0x25, vec![])),
        (4, composite(0x26, vec![]), composite(0x26, vec![])),
    ] {
        client.settle(delivery, delivery, false, said).await;
        assert_eq!(answer(&client.expect(DISPOSITION).await), (delivery, delivery, &heard));
    }
    let found = emulator.host.read(|model, _| model.peek(&path("q"), None, 0, 9)).unwrap();
    let seen: Vec<_> = found.iter().map(|it| (it.sequence_number, it.delivery_count, it.state)).collect();
    let active = MessageState::Active;
    assert_eq!(seen, [(2, 1, active), (3, 0, MessageState::Deferred), (5, 0, active), (6, 0, active)]);
    client.attach_receiver(1, "q/$DeadLetterQueue").await;
    client.credit(1, 0, 1, false).await;
    let application = part(&client.expect(TRANSFER).await.payload, 0x74);
    assert_eq!(get(&application, "DeadLetterReason"), Some(&string("why")));
    assert_eq!(get(&application, "DeadLetterErrorDescription"), Some(&string("because")));
    assert_eq!(get(&application, "more"), Some(&Value::Int(7)));
    client.credit(0, 6, 1, false).await;
    let application = part(&client.expect(TRANSFER).await.payload, 0x74);
    assert_eq!(get(&application, "note"), Some(&string("again")));
}

#[tokio::test]
async fn states_that_decide_nothing_decide_nothing() {
    let emulator = Emulator::start().await;
    let mut client = received(&emulator, 2).await;
    client.settle(0, 0, false, composite(0x23, vec![Value::Uint(0), Value::Ulong(0)])).await;
    client.settle(0, 0, false, Value::Null).await;
    client.settle(0, 0, false, accepted()).await;
    assert_eq!(answer(&client.expect(DISPOSITION).await), (0, 0, &accepted()));
    // Settled without a state is as good as released.
    client.settle(1, 1, true, Value::Null).await;
    client.credit(0, 2, 1, false).await;
    let transfer = client.expect(TRANSFER).await;
    let Value::List(header) = part(&transfer.payload, 0x70) else { panic!() };
    assert_eq!(header[4], Value::Uint(0));
    // What its sender says about deliveries is not for us to answer.
    client.send(0, DISPOSITION, vec![Value::Bool(false), Value::Uint(0)]).await;
    client.settle(2, 2, false, composite(0x34, vec![super::values::binary(b"t"), accepted()])).await;
    assert_eq!(client.expect(DETACH).await.condition(), "amqp:not-implemented");
}

#[tokio::test]
async fn what_isnt_held_any_more_is_rejected() {
    let emulator = Emulator::start().await;
    let mut client = received(&emulator, 3).await;
    client.settle(0, 0, false, accepted()).await;
    client.expect(DISPOSITION).await;
    for (first, last) in [(0, 0), (50, 60), (7, u32::MAX)] {
        client.settle(first, last, false, accepted()).await;
        let frame = client.expect(DISPOSITION).await;
        let (from, to, state) = answer(&frame);
        assert_eq!((from, to), (first, last));
        assert_eq!(rejected(state), "com.microsoft:message-lock-lost");
    }
    emulator.clock.advance(Duration::from_secs(61));
    client.settle(1, 2, false, accepted()).await;
    for delivery in 1..=2 {
        let frame = client.expect(DISPOSITION).await;
        let (from, to, state) = answer(&frame);
        assert_eq!((from, to), (delivery, delivery));
        assert_eq!(rejected(state), "com.microsoft:message-lock-lost");
    }
    assert_eq!(emulator.count("q"), 2);
}

#[tokio::test]
async fn a_range_may_be_over_several_links_and_round_the_corner() {
    let emulator = Emulator::start().await;
    let mut client = received(&emulator, 1).await;
    emulator.send("t", &["x"], None).await;
    client.attach_receiver(1, "t/Subscriptions/u").await;
    client.credit(1, 0, 1, false).await;
    client.expect(TRANSFER).await;
    emulator.send("q", &["y"], None).await;
    client.credit(0, 1, 1, false).await;
    client.expect(TRANSFER).await;
    client.settle(4_000_000_000, 2, false, accepted()).await;
    assert_eq!(answer(&client.expect(DISPOSITION).await), (0, 2, &accepted()));
    assert_eq!(emulator.count("q") + emulator.count("t/Subscriptions/u"), 0);
}

#[tokio::test]
async fn messages_come_back_when_their_link_or_connection_goes() {
    let emulator = Emulator::start().await;
    let mut client = received(&emulator, 1).await;
    client.detach(0).await;
    client.expect(DETACH).await;
    client.attach_receiver(0, "q").await;
    client.credit(0, 0, 1, false).await;
    client.expect(TRANSFER).await;
    drop(client);
    let mut client = emulator.begin().await;
    client.attach_receiver(0, "q").await;
    client.credit(0, 0, 1, false).await;
    let transfer = client.expect(TRANSFER).await;
    let Value::List(header) = part(&transfer.payload, 0x70) else { panic!() };
    assert_eq!(header[4], Value::Uint(2));
}
