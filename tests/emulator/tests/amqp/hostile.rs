//! What no client should do: it is told so, its connection or session ends, and others never notice.

use serde_amqp::Value;
use servicebus_emulator::amqp::Limits;

use super::client::{ATTACH, BEGIN, CLOSE, DETACH, END, FLOW, OPEN, TRANSFER, frame, performative};
use super::emulator::Emulator;
use super::values::{composite, data, flow, nulls, section, source, string, target, transfer};

const FRAMING: &str = "amqp:connection:framing-error";
const STATE: &str = "amqp:illegal-state";
const DECODE: &str = "amqp:decode-error";
const FIELD: &str = "amqp:invalid-field";

/// Each is sent on an open connection that has a session on the channel 0.
fn mischief() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let begin =
        |channel| frame(0, channel, &performative(BEGIN, vec![Value::Null, Value::Uint(0), Value::Uint(9)]));
    let deep = (0..60).fold(Value::Null, |value, _| Value::List(vec![value]));
    vec![
        ("a frame above the largest", frame(0, 0, &[0; 65_529]), FRAMING),
        ("four gigabytes", b"\xff\xff\xff\xff\x02\x00\x00\x00".to_vec(), FRAMING),
        ("a frame shorter than its head", b"\x00\x00\x00\x07\x02\x00\x00\x00".to_vec(), FRAMING),
        ("a body within the head", b"\x00\x00\x00\x08\x01\x00\x00\x00".to_vec(), FRAMING),
        ("a body behind the end", b"\x00\x00\x00\x08\x03\x00\x00\x00".to_vec(), FRAMING),
        ("a kind of frame that there isn't", frame(7, 0, &[]), FRAMING),
        ("SASL once it is over", frame(1, 0, &performative(0x41, vec![])), FRAMING),
        ("another protocol", b"AMQP\x00\x01\x00\x00".to_vec(), FRAMING),
        ("text", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), FRAMING),
        ("a performative that there isn't", frame(0, 0, &performative(0x19, vec![])), FRAMING),
        ("a performative that is a map", frame(0, 0, b"\x00\x53\x12\xc1\x01\x00"), FRAMING),
        ("no performative", frame(0, 0, b"\x45"), DECODE),
        ("one without a value", frame(0, 0, b"\x00\x53\x12"), DECODE),
        (
            "one whose list breaks off",
            frame(0, 0, b"\x00\x53\x12\xd0\x00\x00\x00\x20\x00\x00\x00\x04\x43"),
            DECODE,
        ),
        (
            "one that says it has more",
            frame(0, 0, b"\x00\x53\x12\xd0\x00\x00\x00\x05\xff\xff\xff\xff\x43"),
            DECODE,
        ),
        ("a type that there isn't", frame(0, 0, b"\x00\x53\x12\xc0\x02\x01\x3f"), DECODE),
        ("what is nested too deeply", frame(0, 0, &performative(ATTACH, vec![deep])), DECODE),
        ("descriptors of descriptors", frame(0, 0, &[0; 60_000]), DECODE),
        ("a descriptor by a name that nobody knows", frame(0, 0, b"\x00\xa3\x03foo\x45"), DECODE),
        ("a second open", frame(0, 0, &performative(OPEN, vec![string("x")])), STATE),
        ("a session on a channel that has one", begin(0), STATE),
        ("a channel above the highest", begin(5000), FRAMING),
        ("a flow without a session", frame(0, 9, &performative(FLOW, flow(0, 1))), STATE),
        ("an end without a session", frame(0, 9, &performative(END, vec![])), STATE),
        ("a begin without a window", frame(0, 1, &performative(BEGIN, vec![])), FIELD),
        ("an attach without a handle", frame(0, 0, &performative(ATTACH, vec![string("x")])), FIELD),
        ("a transfer without a handle", frame(0, 0, &performative(TRANSFER, vec![])), FIELD),
    ]
}

#[tokio::test]
async fn what_breaks_the_protocol_closes_its_connection_alone() {
    let emulator = Emulator::start().await;
    let mut bystander = emulator.begin().await;
    bystander.attach_sender(0, "q").await;
    for (what, bytes, condition) in mischief() {
        let mut client = emulator.begin().await;
        client.write(&bytes).await;
        let close = client.expect(CLOSE).await;
        assert_eq!(close.condition(), condition, "{what}");
        client.ends().await;
    }
    bystander.transfer(0, 0, &data(b"unharmed")).await;
    assert_eq!(super::values::code(&bystander.expect(super::client::DISPOSITION).await.fields[4]), 0x24);
    assert_eq!(emulator.count("q"), 1);
    emulator.is_well().await;
}

#[tokio::test]
async fn nothing_comes_before_open() {
    let emulator = Emulator::start().await;
    for (code, fields) in [
        (BEGIN, vec![Value::Null, Value::Uint(0), Value::Uint(9)]),
        (TRANSFER, transfer(0, 0)),
        (END, vec![]),
    ] {
        let mut client = emulator.connect().await;
        client.greet().await;
        client.send(0, code, fields).await;
        // Nobody may close what isn't open.
        client.expect(OPEN).await;
        assert_eq!(client.expect(CLOSE).await.condition(), STATE);
        client.ends().await;
    }
}

#[tokio::test]
async fn what_breaks_a_sessions_rules_ends_the_session_alone() {
    let emulator = Emulator::start().await;
    let attach = |handle| {
        let mut fields = vec![string("x"), Value::Uint(handle), Value::Bool(false)];
        fields.extend([Value::Null, Value::Null, source("here", None), target("q")]);
        fields
    };
    let nameless = || {
        let mut fields = transfer(1, 0);
        fields[1] = Value::Null;
        fields
    };
    for (code, fields, condition) in [
        (ATTACH, attach(1), "amqp:session:handle-in-use"),
        (TRANSFER, transfer(9, 0), "amqp:session:unattached-handle"),
        (TRANSFER, transfer(2, 0), "amqp:not-allowed"),
        (TRANSFER, nameless(), FIELD),
        (DETACH, vec![Value::Uint(9)], "amqp:session:unattached-handle"),
    ] {
        let mut client = emulator.begin().await;
        client.attach_sender(1, "q").await;
        client.attach_receiver(2, "q").await;
        client.begin(1).await;
        client.send(0, code, fields.clone()).await;
        let end = client.expect(END).await;
        assert_eq!((end.channel, end.condition()), (0, condition.to_owned()), "{fields:?}");
        // What was on its way doesn't count any more, and the channel is free once the client has ended its side.
        client.transfer(1, 0, &data(b"too late")).await;
        client.send(0, END, vec![]).await;
        client.begin(0).await;
        client.attach_sender(1, "q").await;
        client.send(1, END, vec![]).await;
        assert_eq!(client.expect(END).await.channel, 1);
    }
    assert_eq!(emulator.count("q"), 0);
}

#[tokio::test]
async fn windows_and_credit_are_kept_to() {
    let emulator = Emulator::limited(Limits { window: 4, credit: 3, ..Limits::default() }).await;
    let one =
        |delivery| frame(0, 0, &[&performative(TRANSFER, transfer(0, delivery))[..], &data(b"x")].concat());
    let mut client = emulator.begin().await;
    client.attach_sender(0, "q").await;
    // In one write, so that nobody could have told it that there is more.
    client.write(&(0..4).flat_map(one).collect::<Vec<u8>>()).await;
    let mut client_told = client.next().await;
    while client_told.code != DETACH {
        client_told = client.next().await;
    }
    assert_eq!(client_told.condition(), "amqp:link:transfer-limit-exceeded");

    let mut client = emulator.begin().await;
    client.attach_sender(0, "q").await;
    client.write(&(0..5).flat_map(one).collect::<Vec<u8>>()).await;
    let mut told = client.next().await;
    while told.code != END {
        told = client.next().await;
    }
    assert_eq!(told.condition(), "amqp:session:window-violation");
}

#[tokio::test]
async fn links_have_a_number() {
    let emulator = Emulator::limited(Limits { links: 3, ..Limits::default() }).await;
    let mut client = emulator.begin().await;
    for handle in 0..3 {
        client.attach_sender(handle, "q").await;
    }
    for handle in 3..9 {
        let attach = client.attach(handle, false, source("here", None), target("q")).await;
        assert_eq!(attach.field(6), &Value::Null);
        assert_eq!(client.expect(DETACH).await.condition(), "amqp:resource-limit-exceeded");
        client.detach(handle).await;
    }
    client.detach(0).await;
    client.expect(DETACH).await;
    client.attach_sender(0, "q").await;
    // A client that never says that it has heard of them is stopped, too.
    for handle in 9..20 {
        let fields = vec![string("x"), Value::Uint(handle), Value::Bool(false)];
        client.send(0, ATTACH, fields).await;
    }
    let mut told = client.next().await;
    while told.code != END {
        told = client.next().await;
    }
    assert_eq!(told.condition(), "amqp:resource-limit-exceeded");
}

#[tokio::test]
async fn what_is_no_message_is_rejected_and_the_link_goes_on() {
    let emulator = Emulator::start().await;
    let mut client = emulator.begin().await;
    client.attach_sender(0, "q").await;
    let properties = section(0x73, Value::List(nulls(2)));
    let garbage = [
        b"garbage".to_vec(),
        b"\x00\x53\x75".to_vec(),
        b"\x00\x53\x75\xb0\xff\xff\xff\xff".to_vec(),
        section(0x79, Value::List(vec![])),
        [data(b"x"), properties.clone()].concat(),
        [properties.clone(), properties].concat(),
        section(0x74, Value::List(vec![string("odd")])),
        section(0x73, string("no list")).into_iter().chain(*b"\xff").collect(),
        composite_section(),
    ];
    for (delivery, message) in (0u32..).zip(garbage) {
        client.transfer(0, delivery, &message).await;
        let outcome = client.expect(super::client::DISPOSITION).await;
        assert_eq!(super::values::rejected(&outcome.fields[4]), DECODE, "{message:x?}");
    }
    client.transfer(0, 90, &data(b"fine")).await;
    assert_eq!(super::values::code(&client.expect(super::client::DISPOSITION).await.fields[4]), 0x24);
    assert_eq!(emulator.count("q"), 1);
}

/// Application properties whose names aren't strings.
fn composite_section() -> Vec<u8> {
    section(0x74, super::values::map(&[(composite(0x1, vec![]), Value::Null)]))
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]

    #[test]
    fn no_garbage_harms_anybody(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300), whole in proptest::bool::ANY) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let emulator = Emulator::start().await;
            let mut client = emulator.begin().await;
            client.attach_receiver(0, "q").await;
            let bytes = if whole { frame(0, 0, &bytes) } else { bytes };
            client.write(&bytes).await;
            drop(client);
            emulator.is_well().await;
        });
    }
}
