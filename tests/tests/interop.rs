//! Other buses on the same topic, played by Microsoft's Python SDK: what they send is handled here, and what is sent here
//! has what their readers look at.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use distributed_events::{DistributedEvent, HandlerSettings, PublishOptions, ServiceBus};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tests::broker_conformance::{effects, note, publish_with};
use tests::emulator::Emulator;
use tests::eventually::eventually;
use tests::service::{Database, Running, quick};

#[derive(Clone, Debug, DistributedEvent, Serialize, Deserialize)]
#[event(name = "order-placed", alias = "Acme.Ordering.OrderPlacedEto")]
#[serde(rename_all = "camelCase")]
struct OrderPlaced {
    order_number: i64,
}

/// What a service sends to readers who know the CLR's names: the name is theirs.
#[derive(Clone, Debug, DistributedEvent, Serialize, Deserialize)]
#[event(name = "Acme.Ordering.OrderShippedEto", session = order_number)]
#[serde(rename_all = "camelCase")]
struct OrderShipped {
    order_number: i64,
    tenant_id: Option<String>,
}

fn emulator() -> Emulator {
    let subscription = |name: &str| json!({ "Name": name, "Properties": { "LockDuration": "PT30S" } });
    Emulator::start(&json!({ "Name": "sbemulatorns", "Queues": [], "Topics": [{
        "Name": "events",
        "Properties": {},
        "Subscriptions": [subscription("billing"), subscription("others")],
    }]}))
}

/// The SDK as `tests/emulator/sdk/run` has installed it.
fn python() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let sdks = tests.ancestors().nth(3).unwrap().join("sdk");
    let installed = std::fs::read_dir(&sdks).into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> =
        installed.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("python-")).collect();
    found.sort_by_key(|path| path.metadata().unwrap().modified().unwrap());
    let newest = found.pop();
    newest
        .unwrap_or_else(|| panic!("no SDK in {}: run tests/emulator/sdk/run", sdks.display()))
        .join("bin/python")
}

fn peer(emulator: &Emulator, what: &str) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/peer.py");
    let ran =
        Command::new(python()).args(["-B", script, &emulator.connection_string(), what]).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

#[tokio::test]
async fn what_other_buses_send_is_handled_once() {
    let emulator = emulator();
    let database = Database::new().await;
    let broker = ServiceBus::from_connection_string(&emulator.connection_string()).unwrap();
    let bus = quick(&database.pool)
        .broker(broker)
        .on(HandlerSettings::new("billing"), |event: OrderPlaced, tx, context| {
            let text = format!("{} {}", context.name(), event.order_number);
            Box::pin(async move { note(tx, &text).await })
        })
        .build()
        .unwrap();
    let running = Running::start(bus);
    peer(&emulator, "send");
    let mut found = effects(&database, 7).await;
    running.stop().await.unwrap();
    found.sort();
    let from_clr = [1, 2, 3, 7].map(|number| format!("Acme.Ordering.OrderPlacedEto {number}"));
    let cloud = [4, 5, 6].map(|number| format!("order-placed {number}"));
    assert_eq!(found, [from_clr.as_slice(), cloud.as_slice()].concat());
    assert_eq!(database.number("SELECT count(*) FROM inbox WHERE status = 'dead'").await, 0);
    let body = "SELECT count(*) FROM inbox WHERE event_data LIKE '%\"note\":\"Grüße\"%'";
    assert_eq!(
        database.number(body).await,
        4,
        "as they were sent; Python's CloudEvents write JSON with spaces"
    );
}

/// It can't be put into the inbox, so it is kept where it can be looked at, at once and with the reason.
#[tokio::test]
async fn what_no_strict_reader_can_read_is_kept_at_the_broker_and_holds_nobody_up() {
    let emulator = emulator();
    let database = Database::new().await;
    let broker = ServiceBus::from_connection_string(&emulator.connection_string()).unwrap();
    let bus = quick(&database.pool)
        .broker(broker)
        .on(HandlerSettings::new("billing"), |event: OrderPlaced, tx, _| {
            Box::pin(async move { note(tx, &event.order_number.to_string()).await })
        })
        .build()
        .unwrap();
    let running = Running::start(bus);
    peer(&emulator, "unreadable");
    assert_eq!(effects(&database, 1).await, ["2"]);
    running.stop().await.unwrap();
    let dead = peer(&emulator, "dead");
    let mut lines = dead.lines();
    assert_eq!(lines.next(), Some("Unreadable"), "{dead}");
    assert!(lines.next().is_some_and(|why| !why.is_empty()), "{dead}");
    assert_eq!(lines.next(), Some(r#"{"orderNumber":1,"tenantId":null,"note":"Grüße"}"#));
}

#[tokio::test]
async fn what_is_sent_has_what_other_readers_look_at() {
    let emulator = emulator();
    let database = Database::new().await;
    let broker = ServiceBus::from_connection_string(&emulator.connection_string()).unwrap();
    let running = Running::start(quick(&database.pool).broker(broker).build().unwrap());
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let options = PublishOptions::new()
        .correlation_id("checkout-7")
        .ttl(Duration::from_secs(3600))
        .header("tenant", "acme")
        .header("traceparent", trace);
    let shipped = OrderShipped { order_number: 7, tenant_id: Some("acme".to_owned()) };
    let id = publish_with(&database.pool, &shipped, options).await;
    let pending = "SELECT count(*) FROM outbox WHERE status = 'pending'";
    eventually("it is sent", || database.number(pending), |pending| *pending == 0).await;
    let read = peer(&emulator, "read");
    running.stop().await.unwrap();
    let read: Value = serde_json::from_str(read.trim()).unwrap();
    // ABP reads these two, and nothing else.
    assert_eq!(read["subject"], "Acme.Ordering.OrderShippedEto");
    assert_eq!(read["body"], r#"{"orderNumber":7,"tenantId":"acme"}"#);
    assert_eq!(read["message_id"], id.to_string());
    assert_eq!(read["correlation_id"], "checkout-7");
    assert_eq!(read["session_id"], "7");
    assert_eq!(read["content_type"], "application/json");
    let ttl = read["time_to_live"].as_f64().unwrap();
    assert!((3500.0..=3600.0).contains(&ttl), "{ttl}");
    let data = json!({ "orderNumber": 7, "tenantId": "acme" });
    assert_eq!((&read["by_abp"], &read["by_aspnetzero"]), (&data, &data));
    let cloud_event = &read["by_cloud_events"];
    assert_eq!(cloud_event["data"], data);
    let attributes = &cloud_event["attributes"];
    assert_eq!(
        (&attributes["id"], &attributes["source"]),
        (&json!(id.to_string()), &json!("sb://localhost"))
    );
    assert_eq!(attributes["type"], "Acme.Ordering.OrderShippedEto");
    // CloudEvents 1.0, AMQP binding, binary mode; tracing; our own.
    let properties = &read["properties"];
    assert_eq!(properties["cloudEvents:specversion"], "1.0");
    assert_eq!(properties["cloudEvents:id"], id.to_string());
    assert_eq!(properties["cloudEvents:type"], "Acme.Ordering.OrderShippedEto");
    assert_eq!(properties["cloudEvents:source"], "sb://localhost");
    assert!(properties["cloudEvents:time"].is_string());
    assert_eq!(properties["traceparent"], trace);
    assert_eq!(properties["Diagnostic-Id"], trace);
    assert_eq!(properties["eventversion"], "1");
    assert_eq!(properties["tenant"], "acme");
}

/// What the library's own tests read (`runtime/src/broker/service_bus/vectors.json`) is what these SDKs write.
#[test]
fn the_golden_vectors_are_those_of_the_sdks() {
    let emulator = emulator();
    let written = peer(&emulator, "vectors");
    let kept = include_str!("../../runtime/src/broker/service_bus/vectors.json");
    let read = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
    assert_eq!(
        read(&written),
        read(kept),
        "run tests/tests/interop/peer.py - vectors, and look at what changed"
    );
}
