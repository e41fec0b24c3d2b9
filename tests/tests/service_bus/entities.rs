//! Entities that are missing, of the wrong kind, or have something in their dead-letter queue.

use std::time::Duration;

use serde_json::json;
use tests::broker_conformance::{Noted, publish};
use tests::emulator::Emulator;
use tests::eventually::eventually;

use crate::{Street, entities};

#[tokio::test]
async fn a_missing_topic_is_named_and_holds_up_no_other() {
    let street = Street::with(&json!({ "Name": "sbemulatorns", "Queues": [], "Topics": [] })).await;
    let publisher = street.publisher(street.broker());
    street.publish(0..1).await;
    let told = street.told("topic events can't take events").await;
    assert!(told.contains("not-found") && told.contains("look whether it exists in localhost"), "{told}");
    let subscriber = street.subscriber(street.broker());
    let told = street.told("subscription audit on topic events can't be received from").await;
    assert!(told.contains("look whether it exists"), "{told}");
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
    assert_eq!(street.from.number("SELECT count(*) FROM outbox WHERE status = 'pending'").await, 1);
}

/// Rule 7.
#[tokio::test]
async fn ordered_events_are_not_received_from_a_subscription_without_sessions() {
    let street = Street::with(&entities(false)).await;
    let subscriber = street.subscriber(street.broker());
    let told = street.told("created without sessions").await;
    assert!(told.contains("requiresSession") && told.contains("unordered"), "{told}");
    subscriber.stop().await.unwrap();
}

/// Rule 19: what somebody has dead-lettered at the broker is kept here, dead, with the reason.
#[tokio::test]
async fn a_dead_letter_queue_is_drained_into_dead_rows() {
    let street = Street::new().await;
    let publisher = street.publisher(street.broker());
    // Expires at the broker, which dead-letters it.
    let options = distributed_events::PublishOptions::new().ttl(Duration::from_secs(2));
    tests::broker_conformance::publish_with(&street.from.pool, &Noted::new("mortal"), options).await;
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

#[tokio::test]
async fn a_busy_service_is_left_alone_and_loses_nothing() {
    let street = Street::before(Emulator::start_with(&entities(true), &["--no-auth"])).await;
    let (publisher, subscriber) = (street.publisher(street.broker()), street.subscriber(street.broker()));
    street.publish(0..10).await;
    street.effects(10).await;
    street.emulator.be_busy(2).await;
    street.publish(10..20).await;
    street.told("server-busy").await;
    street.assert_all(20).await;
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
}

/// Rule 19: while the inbox can't be written nothing is locked, so that no delivery is counted as failed.
#[tokio::test]
async fn nothing_is_dead_lettered_while_the_inbox_is_down() {
    let street = Street::new().await;
    let (publisher, subscriber) = (street.publisher(street.broker()), street.subscriber(street.broker()));
    street.publish(0..10).await;
    street.effects(10).await;
    sqlx::query("ALTER TABLE inbox RENAME TO inbox_elsewhere").execute(&street.to.pool).await.unwrap();
    street.publish(10..30).await;
    street.told("DatabaseTrouble").await;
    // For more than ten times the lock duration divided by the deliveries that a message has would be too long here:
    // that it isn't counted at all is what the emulator tells below.
    tokio::time::sleep(Duration::from_secs(7)).await;
    sqlx::query("ALTER TABLE inbox_elsewhere RENAME TO inbox").execute(&street.to.pool).await.unwrap();
    street.assert_all(30).await;
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
    assert_eq!(street.to.number("SELECT count(*) FROM inbox WHERE status = 'dead'").await, 0);
}
