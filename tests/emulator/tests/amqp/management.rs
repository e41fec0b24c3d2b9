//! `$management`: what the SDKs never ask, and what they ask wrongly.

use serde_amqp::Value;
use serde_amqp::primitives::{Timestamp, Uuid};

use super::client::{Client, TRANSFER};
use super::emulator::{Emulator, NOW, path};
use super::values::{array, binary, composite, get, map, part, section, source, string, symbol, target};

/// A client with links to an entity's management, on the handles 100 and 101.
async fn manager(emulator: &Emulator, entity: &str) -> Client {
    let mut client = emulator.begin().await;
    let node = format!("{entity}/$management");
    client.attach_sender(100, &node).await;
    client.attach(101, true, source(&node, None), target("reply")).await;
    client.credit(101, 0, 1000, false).await;
    client
}

/// Asks, and gives the status, the condition and the body.
async fn ask(client: &mut Client, operation: &str, body: Value) -> (i32, Option<String>, Value) {
    let properties = vec![Value::Ulong(7), Value::Null, Value::Null, Value::Null, string("reply")];
    let application = map(&[(string("operation"), string(operation))]);
    let request = [section(0x73, Value::List(properties)), section(0x74, application), section(0x77, body)];
    client.transfer(100, 0, &request.concat()).await;
    let mut frame = client.next().await;
    while frame.code != TRANSFER {
        frame = client.next().await;
    }
    let application = part(&frame.payload, 0x74);
    let Some(Value::Int(status)) = get(&application, "statusCode") else { panic!("{application:?}") };
    assert!(matches!(get(&application, "statusDescription"), Some(Value::String(_))));
    let condition = get(&application, "errorCondition").map(|condition| match condition {
        Value::Symbol(condition) => condition.to_string(),
        other => panic!("{other:?}"),
    });
    let Value::List(properties) = part(&frame.payload, 0x73) else { panic!() };
    assert_eq!(properties[5], Value::Ulong(7));
    (*status, condition, part(&frame.payload, 0x77))
}

fn body(entries: &[(&str, Value)]) -> Value {
    map(&entries.iter().map(|(key, value)| (string(key), value.clone())).collect::<Vec<_>>())
}

#[tokio::test]
async fn what_is_asked_wrongly_is_told() {
    let emulator = Emulator::start().await;
    let unknown = Value::Uuid(Uuid::from([9; 16]));
    let longs = |numbers: &[i64]| array(numbers.iter().copied().map(Value::Long).collect());
    for (operation, entries, status, condition) in [
        ("com.microsoft:frobnicate", vec![], 501, "amqp:not-implemented"),
        ("peek-message", vec![], 501, "amqp:not-implemented"),
        ("", vec![], 501, "amqp:not-implemented"),
        ("com.microsoft:peek-message", vec![], 400, "com.microsoft:argument-error"),
        (
            "com.microsoft:peek-message",
            vec![("from-sequence-number", string("1")), ("message-count", Value::Int(1))],
            400,
            "com.microsoft:argument-error",
        ),
        (
            "com.microsoft:peek-message",
            vec![("from-sequence-number", Value::Long(1)), ("message-count", Value::Int(-1))],
            400,
            "com.microsoft:argument-out-of-range",
        ),
        ("com.microsoft:renew-lock", vec![("lock-tokens", string("x"))], 400, "com.microsoft:argument-error"),
        (
            "com.microsoft:renew-lock",
            vec![("lock-tokens", array(vec![unknown.clone()]))],
            410,
            "com.microsoft:message-lock-lost",
        ),
        (
            "com.microsoft:update-disposition",
            vec![("lock-tokens", array(vec![unknown.clone()])), ("disposition-status", string("eaten"))],
            400,
            "com.microsoft:argument-error",
        ),
        (
            "com.microsoft:update-disposition",
            vec![("lock-tokens", Value::List(vec![unknown])), ("disposition-status", symbol("completed"))],
            410,
            "com.microsoft:message-lock-lost",
        ),
        (
            "com.microsoft:receive-by-sequence-number",
            vec![("sequence-numbers", longs(&[5])), ("receiver-settle-mode", Value::Ubyte(1))],
            404,
            "com.microsoft:message-not-found",
        ),
        (
            "com.microsoft:receive-by-sequence-number",
            vec![("sequence-numbers", longs(&[5; 1001]))],
            400,
            "com.microsoft:argument-out-of-range",
        ),
        (
            "com.microsoft:cancel-scheduled-message",
            vec![("sequence-numbers", longs(&[5]))],
            404,
            "com.microsoft:message-not-found",
        ),
        (
            "com.microsoft:schedule-message",
            vec![("messages", Value::List(vec![body(&[("message", binary(b"garbage"))])]))],
            400,
            "com.microsoft:argument-error",
        ),
        (
            "com.microsoft:schedule-message",
            vec![("messages", Value::List(vec![body(&[("message", binary(&super::values::data(b"now")))])]))],
            400,
            "com.microsoft:argument-error",
        ),
        ("com.microsoft:get-session-state", vec![("session-id", string("x"))], 400, "amqp:not-allowed"),
        ("com.microsoft:renew-session-lock", vec![], 400, "com.microsoft:argument-error"),
        (
            "com.microsoft:enumerate-rules",
            vec![("top", Value::Int(9)), ("skip", Value::Int(0))],
            400,
            "amqp:not-allowed",
        ),
        ("com.microsoft:add-rule", vec![("rule-name", string("x"))], 400, "com.microsoft:argument-error"),
    ] {
        let mut client = manager(&emulator, "q").await;
        let (found, why, _) = ask(&mut client, operation, body(&entries)).await;
        assert_eq!((found, why.as_deref()), (status, Some(condition)), "{operation} {entries:?}");
        // A body that is no map, or none at all, is no better.
        if status == 400 {
            assert_eq!(ask(&mut client, operation, string("x")).await.0, 400);
        }
    }
    emulator.is_well().await;
}

#[tokio::test]
async fn nothing_there_has_a_status_of_its_own() {
    let emulator = Emulator::start().await;
    for (entity, operation, entries) in [
        (
            "q",
            "peek-message",
            vec![("from-sequence-number", Value::Ubyte(0)), ("message-count", Value::Ulong(5))],
        ),
        (
            "s",
            "get-message-sessions",
            vec![
                ("last-updated-time", Value::Timestamp(Timestamp::from_milliseconds(253_402_300_800_000))),
                ("skip", Value::Int(0)),
                ("top", Value::Int(10)),
            ],
        ),
        ("q", "batch-delete-messages", vec![("message-count", Value::Int(5))]),
        ("t/Subscriptions/u", "enumerate-rules", vec![("top", Value::Int(9)), ("skip", Value::Int(1))]),
    ] {
        let mut client = manager(&emulator, entity).await;
        let answer = ask(&mut client, &format!("com.microsoft:{operation}"), body(&entries)).await;
        assert_eq!(answer, (204, None, Value::Null), "{operation}");
    }
}

#[tokio::test]
async fn messages_are_deleted_up_to_a_number_and_a_time() {
    let emulator = Emulator::start().await;
    emulator.send("q", &["a", "b"], None).await;
    emulator.clock.advance(std::time::Duration::from_secs(1));
    emulator.send("q", &["c"], None).await;
    let mut client = manager(&emulator, "q").await;
    let later = Value::Timestamp(Timestamp::from_milliseconds((NOW.0 + 500) as i64));
    let request = [("message-count", Value::Int(1)), ("enqueued-time-utc", later)];
    for _ in 0..2 {
        let (200, None, answer) =
            ask(&mut client, "com.microsoft:batch-delete-messages", body(&request)).await
        else {
            panic!()
        };
        assert_eq!(get(&answer, "message-count"), Some(&Value::Int(1)));
    }
    assert_eq!(ask(&mut client, "com.microsoft:batch-delete-messages", body(&request)).await.0, 204);
    assert_eq!(emulator.count("q"), 1);
}

#[tokio::test]
async fn a_peek_ends_where_there_is_enough_and_may_leave_bodies_out() {
    let emulator = Emulator::start().await;
    let large = "x".repeat(200_000);
    for _ in 0..10 {
        emulator.send("q", &[&large], None).await;
    }
    let mut client = manager(&emulator, "q").await;
    let request = |from, omit| {
        body(&[
            ("from-sequence-number", Value::Long(from)),
            ("message-count", Value::Int(250)),
            ("omit-message-body", Value::Bool(omit)),
        ])
    };
    let mut seen = 0;
    // What doesn't come in one answer comes in the next.
    for _ in 0..2 {
        let properties = vec![Value::Null, Value::Null, Value::Null, Value::Null, string("reply")];
        let application = map(&[(string("operation"), string("com.microsoft:peek-message"))]);
        let sections = [
            section(0x73, Value::List(properties)),
            section(0x74, application),
            section(0x77, request(seen + 1, false)),
        ];
        client.transfer(100, 0, &sections.concat()).await;
        let mut payload = Vec::new();
        loop {
            let frame = client.next().await;
            if frame.code == TRANSFER {
                payload.extend_from_slice(&frame.payload);
                if frame.field(5) != &Value::Bool(true) {
                    break;
                }
            }
        }
        assert!(payload.len() < 1_500_000);
        let Some(Value::List(messages)) = get(&part(&payload, 0x77), "messages").cloned() else { panic!() };
        seen += i64::try_from(messages.len()).unwrap();
    }
    assert_eq!(seen, 10);
    let (200, None, answer) = ask(&mut client, "com.microsoft:peek-message", request(1, true)).await else {
        panic!()
    };
    let Some(Value::List(messages)) = get(&answer, "messages") else { panic!() };
    assert_eq!(messages.len(), 10);
    let Some(Value::Binary(message)) = get(&messages[0], "message") else { panic!() };
    assert_eq!(part(message, 0x75), binary(b""));
    assert!(get(&part(message, 0x72), "x-opt-sequence-number").is_some());
}

#[tokio::test]
async fn a_session_is_its_holders_where_the_link_is_named() {
    let emulator = Emulator::start().await;
    let filter = |id: &str| map(&[(symbol("com.microsoft:session-filter"), string(id))]);
    let mut client = manager(&emulator, "s").await;
    client.attach(0, true, source("s", Some(filter("a"))), target("here")).await;
    client.attach(1, true, source("s", Some(filter("b"))), target("here")).await;
    for (link, session, status) in [(None, "a", 200), (Some("link-0"), "a", 200), (Some("link-1"), "a", 410)]
    {
        let mut application = vec![(string("operation"), string("com.microsoft:renew-session-lock"))];
        application.extend(link.map(|link| (string("associated-link-name"), string(link))));
        let request =
            [section(0x74, map(&application)), section(0x77, body(&[("session-id", string(session))]))];
        client.transfer(100, 0, &request.concat()).await;
        let mut frame = client.next().await;
        while frame.code != TRANSFER {
            assert_ne!(frame.code, super::client::DETACH);
            frame = client.next().await;
        }
        let found = get(&part(&frame.payload, 0x74), "statusCode").cloned();
        assert_eq!(found, Some(Value::Int(status)), "{link:?}");
    }
}

#[tokio::test]
async fn rules_are_described_as_service_bus_does() {
    let emulator = Emulator::start().await;
    let mut client = manager(&emulator, "t/Subscriptions/u").await;
    let sql = |expression: &str| body(&[("expression", string(expression))]);
    let correlation = body(&[
        ("correlation-id", string("c")),
        ("label", Value::Null),
        ("properties", body(&[("n", Value::Int(1))])),
    ]);
    for (name, description) in [
        ("sql", body(&[("sql-filter", sql("a = 1")), ("sql-rule-action", sql("SET b = 2"))])),
        ("correlation", body(&[("correlation-filter", correlation)])),
    ] {
        let request = body(&[("rule-name", string(name)), ("rule-description", description)]);
        assert_eq!(ask(&mut client, "com.microsoft:add-rule", request.clone()).await.0, 200);
        let again = ask(&mut client, "com.microsoft:add-rule", request).await;
        assert_eq!((again.0, again.1.as_deref()), (409, Some("com.microsoft:entity-already-exists")));
    }
    let request = body(&[("top", Value::Int(100)), ("skip", Value::Int(0))]);
    let (200, None, answer) = ask(&mut client, "com.microsoft:enumerate-rules", request).await else {
        panic!()
    };
    let Some(Value::List(rules)) = get(&answer, "rules") else { panic!("{answer:?}") };
    let rules: Vec<Vec<Value>> = rules
        .iter()
        .map(|rule| {
            let (0x137_0000_0004, fields) = super::values::described(get(rule, "rule-description").unwrap())
            else {
                panic!("{rule:?}")
            };
            fields
        })
        .collect();
    let empty = composite(0x137_0000_0005, vec![]);
    assert_eq!(rules[0][..3], [composite(0x13_7000_0007, vec![]), empty.clone(), string("$Default")]);
    let mut fields = vec![string("c")];
    fields.resize(8, Value::Null);
    fields.push(map(&[(string("n"), Value::Int(1))]));
    assert_eq!(rules[1][..3], [composite(0x13_7000_0009, fields), empty, string("correlation")]);
    let action = composite(0x137_0000_0006, vec![string("SET b = 2")]);
    assert_eq!(rules[2][..3], [composite(0x13_7000_0006, vec![string("a = 1")]), action, string("sql")]);
    for status in [200, 404] {
        let request = body(&[("rule-name", symbol("SQL"))]);
        assert_eq!(ask(&mut client, "com.microsoft:remove-rule", request).await.0, status);
    }
    assert_eq!(emulator.host.read(|model, _| model.rules(&path("t/Subscriptions/u"))).unwrap().len(), 2);
}
