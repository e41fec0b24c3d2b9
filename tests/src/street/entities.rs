//! Entities that are missing, of the wrong kind, or have something in their dead-letter queue.

use std::time::Duration;

use distributed_events::DistributedEvent;
use serde_json::json;

use super::{Street, Way, entities};
use crate::broker_conformance::{Noted, publish, publish_with};
use crate::emulator::Emulator;
use crate::eventually::eventually;

pub async fn a_missing_topic_is_named_and_holds_up_no_other<W: Way>() {
    let street = Street::<W>::with(&json!({ "Name": "sbemulatorns", "Queues": [], "Topics": [] })).await;
    let publisher = street.publisher(street.broker());
    street.publish(0..1).await;
    let told = street.told("topic events can't take events").await;
    assert!(told.contains(W::MISSING) && told.contains("look whether it exists in localhost"), "{told}");
    let subscriber = street.subscriber(street.broker());
    let told = street.told("subscription audit on topic events can't be received from").await;
    assert!(told.contains("look whether it exists"), "{told}");
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
    assert_eq!(street.from.number("SELECT count(*) FROM outbox WHERE status = 'pending'").await, 1);
}

/// Rule 19: what somebody has dead-lettered at the broker is kept here, dead, with the reason.
pub async fn a_dead_letter_queue_is_drained_into_dead_rows<W: Way>() {
    let street = Street::<W>::new().await;
    let publisher = street.publisher(street.broker());
    // Expires at the broker, which dead-letters it.
    let options = distributed_events::PublishOptions::new().ttl(Duration::from_secs(2));
    publish_with(&street.from.pool, &Noted::new("mortal"), options).await;
    publish(&street.from.pool, &Noted::new("1")).await;
    let pending = "SELECT count(*) FROM outbox WHERE status = 'pending'";
    eventually("sent", || street.from.number(pending), |count| *count == 0).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let subscriber = street.subscriber(street.broker());
    let dead = "SELECT count(*) FROM inbox WHERE status = 'dead' AND last_error LIKE '%TTLExpiredException%'";
    eventually("it is kept", || street.to.number(dead), |count| *count == 1).await;
    street.effects(1).await;
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
    assert_eq!(street.to.effects().await, ["1"]);
}

pub async fn a_busy_service_is_left_alone_and_loses_nothing<W: Way>() {
    let street = Street::<W>::before(Emulator::start_with(&entities(W::SESSIONS), &["--no-auth"])).await;
    let (publisher, subscriber) = (street.publisher(street.broker()), street.subscriber(street.broker()));
    street.publish(0..10).await;
    street.effects(10).await;
    street.emulator.be_busy(2).await;
    street.publish(10..20).await;
    street.told(W::BUSY).await;
    street.assert_all(20).await;
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
}

/// Rule 19: while the inbox can't be written nothing is locked, so that hardly a delivery is counted as failed.
pub async fn nothing_is_dead_lettered_while_the_inbox_is_down<W: Way>() {
    let mut few_deliveries = entities(W::SESSIONS);
    few_deliveries["Topics"][0]["Subscriptions"][0]["Properties"]["MaxDeliveryCount"] = json!(3);
    let street = Street::<W>::with(&few_deliveries).await;
    let (publisher, subscriber) = (street.publisher(street.broker()), street.subscriber(street.broker()));
    street.publish(0..10).await;
    street.effects(10).await;
    sqlx::query("ALTER TABLE inbox RENAME TO inbox_elsewhere").execute(&street.to.pool).await.unwrap();
    street.publish(10..30).await;
    street.told("DatabaseTrouble").await;
    // For longer than locks last. Whatever goes to and fro meanwhile is dead-lettered, and kept as dead.
    tokio::time::sleep(Duration::from_secs(7)).await;
    sqlx::query("ALTER TABLE inbox_elsewhere RENAME TO inbox").execute(&street.to.pool).await.unwrap();
    street.assert_all(30).await;
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
    assert_eq!(street.to.number("SELECT count(*) FROM inbox WHERE status = 'dead'").await, 0);
}

pub async fn an_event_that_is_too_large_ends_dead_and_takes_no_other_with_it<W: Way>() {
    let street = Street::<W>::new().await;
    let (publisher, subscriber) = (street.publisher(street.broker()), street.subscriber(street.broker()));
    // In one transaction, so that they are sent together.
    let mut tx = street.from.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    for text in ["0", &"x".repeat(300 * 1024), "1"] {
        Noted::new(text).publish(&mut tx).await.unwrap();
    }
    publisher.bus.commit(tx).await.unwrap();
    street.effects(2).await;
    let dead = "SELECT count(*) FROM outbox WHERE status = 'dead' AND last_error LIKE '%exceed%'";
    eventually("it is dead", || street.from.number(dead), |dead| *dead == 1).await;
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
}
