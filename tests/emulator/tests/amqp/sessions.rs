//! Receivers of sessions.

use std::time::Duration;

use serde_amqp::Value;
use serde_amqp::described::Described;
use serde_amqp::descriptor::Descriptor;

use super::client::{ATTACH, Client, DETACH, DISPOSITION, Frame, TRANSFER};
use super::emulator::{Emulator, NOW, seconds};
use super::values::{composite, described, get, map, rejected, source, string, symbol, target};

const FILTER: &str = "com.microsoft:session-filter";

/// Asks for a session on the handle 0.
async fn ask(client: &mut Client, session: Value, patience: Option<u32>) {
    let filter = map(&[(symbol(FILTER), session)]);
    let properties = patience.map_or(Value::Null, |milliseconds| {
        map(&[(symbol("com.microsoft:timeout"), Value::Uint(milliseconds))])
    });
    let modes = [Value::Ubyte(0), Value::Ubyte(1)];
    client.attach_with(0, true, source("s", Some(filter)), target("here"), modes, properties).await;
}

/// The session that an attach grants.
#[track_caller]
fn granted(attach: &Frame) -> Value {
    assert_eq!(attach.code, ATTACH, "{attach:?}");
    let (0x28, fields) = described(attach.field(5)) else { panic!("{attach:?}") };
    get(&fields[7], FILTER).cloned().unwrap()
}

#[tokio::test]
async fn the_granted_session_stands_in_the_filter_and_its_end_in_the_properties() {
    let emulator = Emulator::start().await;
    emulator.send("s", &["a"], Some("one")).await;
    emulator.send("s", &["b"], Some("two")).await;
    let dotnet = Value::Described(Box::new(Described {
        descriptor: Descriptor::Code(0x137_0000_000C),
        value: string("named"),
    }));
    for (wish, session) in [
        (Value::Null, "one"),
        (Value::Null, "two"),
        (string("free"), "free"),
        (string(""), ""),
        (dotnet, "named"),
    ] {
        let mut client = emulator.begin().await;
        ask(&mut client, wish, None).await;
        let attach = client.expect(ATTACH).await;
        assert_eq!(granted(&attach), string(session));
        let (_, fields) = described(attach.field(5));
        assert_eq!(fields[0], string("s"));
        let until = get(attach.field(13), "com.microsoft:locked-until-utc");
        assert_eq!(until, Some(&Value::Long((NOW + seconds(60)).ticks())), "ticks, not milliseconds");
        // It stays locked for the others.
        std::mem::forget(client);
    }
}

#[tokio::test]
async fn who_waits_gets_the_next_session_or_is_refused_in_time() {
    let emulator = Emulator::start().await;
    let mut client = emulator.begin().await;
    ask(&mut client, Value::Null, Some(50)).await;
    let attach = client.next().await;
    assert_eq!((attach.code, attach.field(5)), (ATTACH, &Value::Null));
    let detach = client.next().await;
    assert_eq!((detach.code, detach.condition()), (DETACH, String::from("com.microsoft:timeout")));
    client.detach(0).await;

    ask(&mut client, Value::Null, Some(3_600_000)).await;
    // Credit may come before the link does, and other links don't wait.
    client.credit(0, 0, 5, false).await;
    client.attach_sender(1, "q").await;
    emulator.send("s", &["late"], Some("x")).await;
    assert_eq!(granted(&client.expect(ATTACH).await), string("x"));
    client.expect(TRANSFER).await;

    let mut other = emulator.begin().await;
    ask(&mut other, string("x"), Some(3_600_000)).await;
    assert_eq!(other.expect(ATTACH).await.field(5), &Value::Null);
    assert_eq!(other.expect(DETACH).await.condition(), "com.microsoft:session-cannot-be-locked");
    other.detach(0).await;
    // It is free when its link goes, and whoever waits for the next one gets it.
    ask(&mut other, Value::Null, None).await;
    client.detach(0).await;
    client.expect(DETACH).await;
    assert_eq!(granted(&other.expect(ATTACH).await), string("x"));
}

#[tokio::test]
async fn who_stops_waiting_locks_nothing() {
    let emulator = Emulator::start().await;
    let mut client = emulator.begin().await;
    ask(&mut client, Value::Null, None).await;
    client.detach(0).await;
    assert_eq!(client.expect(ATTACH).await.field(5), &Value::Null);
    assert_eq!(client.expect(DETACH).await.fields, [Value::Uint(0), Value::Bool(true)]);
    ask(&mut client, Value::Null, None).await;
    // A connection that is gone waits for nothing, and holds nothing.
    drop(client);
    emulator.send("s", &["a"], Some("x")).await;
    let mut client = emulator.begin().await;
    ask(&mut client, Value::Null, Some(10_000)).await;
    assert_eq!(granted(&client.expect(ATTACH).await), string("x"));
}

#[tokio::test]
async fn a_lost_session_takes_its_link_with_it() {
    let emulator = Emulator::start().await;
    emulator.send("s", &["a"], Some("x")).await;
    for credit in [1, 0, 5] {
        let mut client = emulator.begin().await;
        ask(&mut client, string("x"), None).await;
        client.expect(ATTACH).await;
        if credit > 0 {
            client.credit(0, 0, credit, false).await;
            client.expect(TRANSFER).await;
        }
        emulator.clock.advance(Duration::from_secs(61));
        let detach = client.expect(DETACH).await;
        assert_eq!(detach.condition(), "com.microsoft:session-lock-lost");
        if credit > 0 {
            client.settle(0, 0, false, composite(0x24, vec![])).await;
            let outcome = client.expect(DISPOSITION).await;
            assert_eq!(rejected(&outcome.fields[4]), "com.microsoft:message-lock-lost");
        }
    }
}

#[tokio::test]
async fn messages_come_from_the_session_alone() {
    let emulator = Emulator::start().await;
    emulator.send("s", &["a1", "a2"], Some("a")).await;
    emulator.send("s", &["b1"], Some("b")).await;
    let mut client = emulator.begin().await;
    ask(&mut client, string("b"), None).await;
    client.expect(ATTACH).await;
    client.credit(0, 0, 10, true).await;
    client.expect(TRANSFER).await;
    let drained = client.next().await;
    assert_eq!((drained.field(5), drained.field(8)), (&Value::Uint(10), &Value::Bool(true)));
    client.settle(0, 0, false, composite(0x24, vec![])).await;
    client.expect(DISPOSITION).await;
    assert_eq!(emulator.count("s"), 2);
}
