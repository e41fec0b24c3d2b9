//! Service Bus over HTTPS, against the emulator: what holds on every way to it, what is refused, and what comes in from
//! producers that do as they like.

use std::time::Duration;

use distributed_events::broker::Source;
use distributed_events::{Broker, HandlerSettings, PublishOptions, ServiceBus, ServiceBusHttp};
use serde_json::json;
use tests::broker_conformance::{Noted, effects, note, noting, publish, publish_with};
use tests::emulator::Emulator;
use tests::eventually::eventually;
use tests::service::{Database, Running, quick};
use tests::street::entities;

type Street = tests::street::Street<tests::street::Http>;

tests::street!(tests::street::Http);

fn over_http(emulator: &Emulator) -> ServiceBusHttp {
    ServiceBusHttp::from_connection_string(&emulator.http_connection_string()).unwrap()
}

#[tokio::test]
async fn handlers_that_need_the_order_of_sessions_are_refused_at_the_start() {
    let street = Street::new().await;
    let bus = quick(&street.to.pool).broker(street.broker());
    let bus = noting(bus, "audit", |event: &Noted, _| event.text.clone()).build().unwrap();
    let error = bus.run_until(std::future::pending()).await.unwrap_err().to_string();
    assert!(
        error.contains("audit") && error.contains("`ServiceBus`") && error.contains("`unordered`"),
        "{error}"
    );
}

#[tokio::test]
async fn a_subscription_with_sessions_is_refused_at_the_start() {
    let street = Street::with(&entities(true)).await;
    let bus = street.subscribing(street.broker());
    let error = bus.run_until(std::future::pending()).await.unwrap_err().to_string();
    assert!(error.contains("subscription audit on topic events"), "{error}");
    assert!(error.contains("`over_web_sockets`") && error.contains("without sessions"), "{error}");
}

/// What the look at the start has locked is not lost, and not counted as a failed delivery.
#[tokio::test]
async fn a_message_that_the_start_finds_is_handled() {
    let street = Street::new().await;
    let publisher = street.publisher(street.broker());
    street.publish(0..1).await;
    let pending = "SELECT count(*) FROM outbox WHERE status = 'pending'";
    eventually("sent", || street.from.number(pending), |pending| *pending == 0).await;
    let subscriber = street.subscriber(street.broker());
    // Sooner than its lock would run out.
    tokio::time::timeout(Duration::from_secs(4), street.assert_all(1)).await.unwrap();
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
}

#[tokio::test]
async fn topology_is_created_without_amqp() {
    let street = Street::with(&json!({ "Name": "sbemulatorns", "Queues": [], "Topics": [] })).await;
    let broker = || street.broker().ensures_topology_at_start();
    let (publisher, subscriber) = (street.publisher(broker()), street.subscriber(broker()));
    // What comes before the subscription is there is for nobody.
    let topology = subscriber.bus.topology();
    let look = async || street.broker().check_topology(&topology[0]).await.unwrap();
    let report = eventually("it is created", look, |report| report.missing.is_empty()).await;
    assert!(report.drift.is_empty(), "{report}");
    street.publish(0..5).await;
    street.assert_all(5).await;
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
}

#[tokio::test]
async fn nobody_is_spoken_to_who_is_not_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("authority.pem");
    let trusted = ["--write-certificate", authority.to_str().unwrap()];
    let emulator = Emulator::start_with(&entities(false), &trusted);
    let text = emulator.http_connection_string().replace("UseDevelopmentEmulator=true;", "");
    let street = Street::before(emulator).await;
    let broker = ServiceBusHttp::from_connection_string(&text).unwrap();
    let publisher = street.publisher(broker.clone());
    street.publish(0..1).await;
    street.told("certificate").await;
    publisher.stop().await.unwrap();
    assert!(broker.endpoint("http://localhost:5300").is_err(), "in plain text there is the emulator alone");

    let broker = broker.root_certificates(&std::fs::read(&authority).unwrap()).unwrap();
    let (publisher, subscriber) = (street.publisher(broker.clone()), street.subscriber(broker));
    street.assert_all(1).await;
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
}

/// Whatever stands in a message, nothing fails after it is locked: it is stored, and settled.
#[tokio::test]
async fn messages_of_careless_producers_are_kept_and_settled() {
    let emulator = Emulator::start_with(&entities(false), &["--no-auth"]);
    let street = Street::before(emulator).await;
    let post = async |headers: &str, body: &[u8]| {
        let answer = street.emulator.ask("POST", "/events/messages", headers, body).await;
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    };
    post("", b"").await;
    post("BrokerProperties: {\"Label\":\"test.noted\",\"MessageId\":\"not utf-8\"}\r\n", b"\xff\xfe\x00")
        .await;
    let many: serde_json::Map<_, _> = (0..300).map(|number| (format!("h{number}"), json!(number))).collect();
    let body = r#"{"text":"many headers","session":null}"#;
    let batch =
        json!([{ "Body": body, "BrokerProperties": { "Label": "test.noted" }, "UserProperties": many }]);
    post("Content-Type: application/vnd.microsoft.servicebus.json\r\n", batch.to_string().as_bytes()).await;
    let strange = "BrokerProperties: {\"Label\":\"test.noted\",\"MessageId\":\"\\u00fd\\\"\"}\r\nx: not JSON\r\nlist: [1]\r\n";
    post(strange, br#"{"text":"strange","session":null}"#).await;
    // As ABP sends a single event.
    let id = "0192f1c0a3b47c5d8e9f001122334455";
    let abp = format!("BrokerProperties: {{\"Label\":\"test.noted\",\"MessageId\":\"{id}\"}}\r\n");
    post(&abp, br#"{"text":"abp","session":null}"#).await;

    let subscriber = street.subscriber(street.broker());
    let rows = "SELECT count(*) FROM inbox WHERE status <> 'pending'";
    eventually("all are kept", || street.to.number(rows), |rows| *rows == 5).await;
    let mut seen = street.to.effects().await;
    seen.sort();
    assert_eq!(seen, ["abp", "many headers", "strange"]);
    let known = "SELECT count(*) FROM inbox WHERE hex(id) LIKE '%0192F1C0%' OR id LIKE '0192f1c0-a3b4-7c5d-8e9f-001122334455'";
    assert_eq!(street.to.number(known).await, 1);
    let raw = "SELECT count(*) FROM inbox WHERE status = 'dead' AND raw = x'fffe00'";
    assert_eq!(street.to.number(raw).await, 1, "its bytes are kept");
    subscriber.stop().await.unwrap();
    // Nothing is locked any more, and nothing was dead-lettered.
    for queue in ["audit", "audit/$DeadLetterQueue"] {
        let path = format!("/events/subscriptions/{queue}/messages/head?timeout=0");
        let answer = street.emulator.ask("POST", &path, "", b"").await;
        assert!(answer.starts_with("HTTP/1.1 204"), "{queue}: {answer}");
    }
    assert_eq!(street.incidents().iter().filter(|told| told.contains("Unavailable")).count(), 0);
}

/// One is sent over AMQP and received over HTTPS, the other the other way round.
#[tokio::test]
async fn both_ways_carry_the_same_events() {
    let mut topics = entities(false);
    let mut other = topics["Topics"][0].clone();
    other["Name"] = json!("elsewhere");
    topics["Topics"].as_array_mut().unwrap().push(other);
    let street = Street::with(&topics).await;
    let over_amqp = || ServiceBus::from_connection_string(&street.emulator.connection_string()).unwrap();
    let headers = ["Tenant", "x-Empty", "a:b", "content-type", "plain"];
    let options = || {
        headers
            .iter()
            .fold(PublishOptions::new(), |options, name| options.header(*name, format!("{name} \u{fd}")))
    };
    for turn in 0..2 {
        let (from, to) = (Database::new().await, Database::new().await);
        let settings = HandlerSettings::new("audit").unordered();
        let builder = quick(&to.pool).on(settings, move |event: Noted, tx, context| {
            let seen: Vec<_> = headers.iter().filter_map(|name| context.header(name)).collect();
            let text = format!("{} {:?} {} {seen:?}", context.id(), context.session_id(), event.text);
            Box::pin(async move { note(tx, &text).await })
        });
        let (publishing, subscribing) = if turn == 0 {
            (quick(&from.pool).broker(over_amqp()), builder.broker(over_http(&street.emulator)))
        } else {
            (quick(&from.pool).broker(over_http(&street.emulator)), builder.broker(over_amqp()))
        };
        let publisher = Running::start(publishing.build().unwrap());
        let subscriber = Running::start(subscribing.build().unwrap());
        let id = publish_with(&from.pool, &Noted::of("s", "both"), options()).await;
        let found = effects(&to, 1).await;
        let values: Vec<_> = headers.iter().map(|name| format!("{name} \u{fd}")).collect();
        assert_eq!(found, [format!("{id} Some(\"s\") both {values:?}")], "turn {turn}");
        publisher.stop().await.unwrap();
        subscriber.stop().await.unwrap();
    }
}

/// Requests that are under way when messages are given back must not take them again: each time counts.
#[tokio::test]
async fn what_is_given_back_is_not_taken_again_by_the_same_receiver() {
    let emulator = Emulator::start_with(&entities(false), &["--no-auth"]);
    let batch: Vec<_> = (0..40).map(|number| json!({ "Body": number.to_string() })).collect();
    let kind = "Content-Type: application/vnd.microsoft.servicebus.json\r\n";
    let body = serde_json::Value::from(batch).to_string();
    let answer = emulator.ask("POST", "/events/messages", kind, body.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let broker = over_http(&emulator);
    let mut receiver = broker.receiver(&Source::new("events", "audit")).await.unwrap().unwrap();
    let mut tokens = Vec::new();
    while tokens.len() < 40 {
        let received = receiver.receive(200, Duration::from_secs(5)).await.unwrap();
        tokens.extend(received.iter().map(|delivery| delivery.token));
    }
    // Now more are asked for, and there are none.
    let none = receiver.receive(200, Duration::from_millis(50)).await.unwrap();
    assert!(none.is_empty());
    receiver.abandon(&tokens).await.unwrap();
    drop(receiver);
    for _ in 0..40 {
        let path = "/events/subscriptions/audit/messages/head?timeout=10";
        let answer = emulator.ask("POST", path, "", b"").await;
        let (_, rest) = answer.split_once("\"DeliveryCount\":").unwrap_or_else(|| panic!("{answer}"));
        let count: u32 = rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap()].parse().unwrap();
        assert_eq!(count, 2, "once there, and once here");
    }
}

#[tokio::test]
async fn a_backlog_is_received_by_many_requests_at_once() {
    let street = Street::new().await;
    street.proxy.delay(Duration::from_millis(15));
    let (publisher, subscriber) = (street.publisher(street.broker()), street.subscriber(street.broker()));
    for number in 0..300 {
        publish(&street.from.pool, &Noted::new(number)).await;
    }
    // One after the other, receiving and settling would take 30 ms each, eighteen seconds together.
    tokio::time::timeout(Duration::from_secs(15), street.assert_all(300)).await.unwrap();
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
}

#[test]
fn no_key_is_shown() {
    let text = "Endpoint=sb://shop.servicebus.windows.net;SharedAccessKeyName=k;SharedAccessKey=canary";
    let broker = ServiceBusHttp::from_connection_string(text).unwrap();
    assert!(!format!("{broker:?}").contains("canary"));
    let error = broker.endpoint("http://shop.servicebus.windows.net").unwrap_err().to_string();
    assert!(error.contains("https://") && !error.contains("canary"), "{error}");
}
