//! How links begin and end.

use serde_amqp::Value;
use servicebus_emulator::model::{Input, QueueSettings, Status};

use super::client::{ATTACH, DETACH, DISPOSITION, FLOW};
use super::emulator::{Emulator, path};
use super::values::{
    array, composite, data, described, get, map, nulls, rejected, source, string, symbol, target,
};

const FILTER: &str = "com.microsoft:session-filter";

fn wish(session: Value) -> Option<Value> {
    Some(map(&[(symbol(FILTER), session)]))
}

#[tokio::test]
async fn what_leads_nowhere_is_refused_by_an_attach_without_end_and_a_detach() {
    let emulator = Emulator::start().await;
    for (name, status) in [("off", Status::Disabled), ("in", Status::ReceiveDisabled)] {
        let settings = QueueSettings { status, ..QueueSettings::default() };
        emulator.host.apply(Input::CreateQueue { path: path(name), settings }).await.unwrap();
    }
    let coordinator = composite(0x30, vec![Value::Null, array(vec![symbol("amqp:local-transactions")])]);
    let to = |address: &str| (source("here", None), target(address), false);
    let from = |address: &str, filter| (source(address, filter), target("here"), true);
    for ((source, target, receives), condition) in [
        (to("missing"), "amqp:not-found"),
        (to("t/Subscriptions/missing"), "amqp:not-found"),
        (to("missing/$management"), "amqp:not-found"),
        (to("t/Subscriptions/u"), "amqp:not-allowed"),
        (to("q/$DeadLetterQueue"), "amqp:not-allowed"),
        (to("off"), "com.microsoft:entity-disabled"),
        (to("not a name"), "com.microsoft:argument-error"),
        (to(""), "com.microsoft:argument-error"),
        ((Value::Null, Value::Null, false), "amqp:invalid-field"),
        ((Value::Null, composite(0x29, nulls(3)), false), "amqp:invalid-field"),
        ((Value::Null, coordinator, false), "amqp:not-implemented"),
        (from("missing", None), "amqp:not-found"),
        (from("missing/$management", None), "amqp:not-found"),
        (from("t", None), "amqp:not-allowed"),
        (from("s", None), "amqp:not-allowed"),
        (from("q", wish(Value::Null)), "amqp:not-allowed"),
        (from("q", wish(string("a"))), "amqp:not-allowed"),
        (from("s/$DeadLetterQueue", wish(Value::Null)), "amqp:not-allowed"),
        (from("s", wish(Value::Int(7))), "amqp:invalid-field"),
        (from("s", wish(string(&"x".repeat(129)))), "com.microsoft:argument-error"),
        (from("in", None), "com.microsoft:entity-disabled"),
        ((Value::Null, Value::Null, true), "amqp:invalid-field"),
    ] {
        let mut client = emulator.begin().await;
        let attach = client.attach(3, receives, source.clone(), target.clone()).await;
        assert_eq!(attach.field(0), &string("link-3"));
        assert_eq!(attach.field(1), &Value::Uint(3));
        assert_eq!(attach.field(2), &Value::Bool(!receives));
        assert_eq!(attach.field(if receives { 5 } else { 6 }), &Value::Null, "{source:?} {target:?}");
        // At once, before anything else.
        let detach = client.next().await;
        assert_eq!((detach.code, detach.field(1)), (DETACH, &Value::Bool(true)));
        assert_eq!(detach.condition(), condition, "{source:?} {target:?}");
        // The link's own flow and detach may be on their way.
        client.credit(3, 0, 1, false).await;
        client.detach(3).await;
        client.attach_sender(3, "q").await;
    }
}

#[tokio::test]
async fn a_sender_hears_its_limits_and_its_own_words() {
    let emulator = Emulator::start().await;
    let mut client = emulator.begin().await;
    for (handle, address) in (0..).zip([
        "q",
        "/Q",
        "amqps://localhost:5671/q",
        "sb://ns.servicebus.windows.net/q",
        "$cbs",
        "q/$management",
    ]) {
        let attach = client.attach(handle, false, source("me", None), target(address)).await;
        assert_eq!(attach.field(2), &Value::Bool(true), "a receiver");
        let (source, fields) = described(attach.field(5));
        assert_eq!((source, &fields[0]), (0x28, &string("me")));
        let (target, fields) = described(attach.field(6));
        assert_eq!((target, &fields[0]), (0x29, &string(address)), "byte by byte");
        let Value::Ulong(size) = attach.field(10) else { panic!("{attach:?}") };
        assert_eq!(*size, if handle < 4 { 256 * 1024 } else { 1024 * 1024 });
        let flow = client.expect(FLOW).await;
        assert_eq!(flow.field(4), &Value::Uint(handle));
        assert_eq!(flow.field(5), &Value::Uint(0));
        assert_eq!(flow.field(6), &Value::Uint(1000));
    }
}

#[tokio::test]
async fn a_receiver_hears_its_own_words_too() {
    let emulator = Emulator::start().await;
    let mut client = emulator.begin().await;
    let unknown = map(&[(symbol("apache.org:selector-filter:string"), string("a = 1"))]);
    let attach =
        client.attach(0, true, source("sb://h/t/subscriptions/U", Some(unknown)), target("here")).await;
    assert_eq!(attach.field(2), &Value::Bool(false), "a sender");
    let (_, fields) = described(attach.field(5));
    assert_eq!(fields[0], string("sb://h/t/subscriptions/U"));
    assert!(fields.get(7).is_none_or(|filter| *filter == Value::Null), "what isn't obeyed isn't said to be");
    assert_eq!(attach.field(9), &Value::Uint(0), "the initial delivery count");
    assert!(matches!(attach.field(13), Value::Map(_)), "properties are never null");
    assert_eq!(attach.field(3), &Value::Ubyte(0), "peek-lock: unsettled");

    let attach = client.attach_deleting_receiver(1, "q").await;
    assert_eq!(attach.field(3), &Value::Ubyte(1));
    assert_eq!(attach.field(4), &Value::Ubyte(0));
}

#[tokio::test]
async fn a_handle_is_free_after_its_detach() {
    let emulator = Emulator::start().await;
    emulator.send("q", &["a"], None).await;
    let mut client = emulator.begin().await;
    for _ in 0..3 {
        client.attach_receiver(5, "q").await;
        client.credit(5, 0, 1, false).await;
        client.expect(super::client::TRANSFER).await;
        client.detach(5).await;
        assert_eq!(client.expect(DETACH).await.fields, [Value::Uint(5), Value::Bool(true)]);
    }
    client.attach_sender(5, "q").await;
}

#[tokio::test]
async fn links_end_with_their_entity() {
    let emulator = Emulator::start().await;
    let mut client = emulator.begin().await;
    client.attach_receiver(0, "q").await;
    client.attach_receiver(1, "q").await;
    client.credit(1, 0, 1, false).await;
    client.attach_sender(2, "q").await;
    emulator.host.apply(Input::DeleteEntity { path: path("q") }).await.unwrap();
    let mut ended = Vec::new();
    for _ in 0..2 {
        let detach = client.expect(DETACH).await;
        assert_eq!(detach.condition(), "amqp:not-found");
        ended.push(detach.fields[0].clone());
    }
    ended.sort_by_key(|handle| format!("{handle:?}"));
    assert_eq!(ended, [Value::Uint(0), Value::Uint(1)], "with and without credit");
    client.transfer(2, 0, &data(b"x")).await;
    assert_eq!(rejected(&client.expect(DISPOSITION).await.fields[4]), "amqp:not-found");
}

#[tokio::test]
async fn fields_of_other_widths_and_types_are_understood() {
    let emulator = Emulator::start().await;
    emulator.send("q", &["a"], None).await;
    let mut client = emulator.begin().await;
    // A name as symbol, a handle as long, an address as symbol, modes as ints.
    let fields = vec![
        symbol("odd"),
        Value::Long(2),
        Value::Bool(true),
        Value::Int(1),
        Value::Ulong(0),
        composite(0x28, vec![symbol("q")]),
        target("here"),
    ];
    client.send(0, ATTACH, fields).await;
    let attach = client.expect(ATTACH).await;
    assert_eq!((attach.field(0), attach.field(1)), (&string("odd"), &Value::Uint(2)));
    let flow = vec![
        Value::Null,
        Value::Ushort(100),
        Value::Null,
        Value::Ubyte(9),
        Value::Short(2),
        Value::Null,
        Value::Byte(1),
    ];
    client.send(0, FLOW, flow).await;
    let transfer = client.expect(super::client::TRANSFER).await;
    assert_eq!(transfer.field(4), &Value::Bool(true), "received and deleted");
    assert!(get(&super::values::part(&transfer.payload, 0x72), "x-opt-sequence-number").is_some());
}
