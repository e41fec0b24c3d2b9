//! A bus that ensures its topology when it starts.

use distributed_events::BusError;
use serde_json::json;
use tests::broker_conformance::{Noted, noting, publish};
use tests::eventually::{DEADLINE, eventually};
use tests::service::{Database, Running, quick};

use crate::door::{Door, answer};
use crate::{at, broker, empty, with};

#[tokio::test]
async fn a_bus_creates_what_it_needs_if_it_is_told_to() {
    let emulator = empty();
    let (from, to) = (Database::new().await, Database::new().await);
    let starting = || broker(&emulator).ensures_topology_at_start();
    let subscriber = noting(quick(&to.pool), "audit", |event: &Noted, _| event.text.clone());
    let subscriber = Running::start(subscriber.broker(starting()).build().unwrap());
    // What is published before the subscription is there is not for it.
    let topology = || subscriber.bus.topology().remove(0);
    let check = || async { broker(&emulator).check_topology(&topology()).await.unwrap().is_as_wanted() };
    eventually("it is there", check, |there| *there).await;
    let publisher = Running::start(quick(&from.pool).broker(starting()).build().unwrap());
    publish(&from.pool, &Noted::of("s", 1)).await;
    eventually("handled", || to.effects(), |effects| *effects == ["1"]).await;
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
}

#[tokio::test]
async fn a_bus_does_not_start_where_the_order_of_its_events_would_be_lost() {
    let emulator = with(&json!([{ "Name": "events", "Properties": { "RequiresDuplicateDetection": true },
        "Subscriptions": [{ "Name": "audit", "Properties": {} }] }]));
    let database = Database::new().await;
    let bus = noting(quick(&database.pool), "audit", |event: &Noted, _| event.text.clone());
    let bus = bus.broker(broker(&emulator).ensures_topology_at_start()).build().unwrap();
    let Err(BusError::Broker { lane, reason }) = bus.run_until(std::future::pending()).await else {
        panic!()
    };
    assert_eq!(lane, "default");
    let reason = reason.to_string();
    assert!(reason.contains("subscription audit on topic events: requiresSession is false"), "{reason}");
    assert!(!reason.contains("maxDeliveryCount"), "that does no harm: {reason}");
}

#[tokio::test]
async fn a_bus_that_may_not_manage_says_what_it_needs() {
    let refusal = answer("401 Unauthorized", "", "<Error><Detail>Manage claim required.</Detail></Error>");
    let door = Door::saying(&[&refusal]).await;
    let database = Database::new().await;
    let broker = at(&empty().connection_string(), &door.url).ensures_topology_at_start();
    let bus = quick(&database.pool).broker(broker).build().unwrap();
    let error = bus.run_until(std::future::pending()).await.unwrap_err().to_string();
    assert!(error.contains("Manage claim required.") && error.contains("Data Owner"), "{error}");
}

#[tokio::test]
async fn a_bus_that_waits_for_its_namespace_can_be_stopped() {
    let database = Database::new().await;
    // Nobody listens there, and the broker would ask for a minute.
    let broker = at(&empty().connection_string(), "http://127.0.0.1:1").ensures_topology_at_start();
    let running = Running::start(quick(&database.pool).broker(broker).build().unwrap());
    tokio::time::timeout(DEADLINE, running.stop()).await.expect("it heeds the stop").unwrap();
}
