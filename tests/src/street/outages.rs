//! The wire and the service fail while events flow.

use std::time::Duration;

use super::{Street, Way};
use crate::eventually::eventually;

pub async fn a_service_that_is_killed_and_comes_back_loses_nothing<W: Way>() {
    let street = Street::<W>::new().await;
    let (publisher, subscriber) = (street.publisher(street.broker()), street.subscriber(street.broker()));
    for round in 0..4 {
        street.publish(round * 60..round * 60 + 50).await;
        street.effects(round * 60 + 5).await;
        street.emulator.kill();
        street.publish(round * 60 + 50..round * 60 + 60).await;
        street.emulator.come_back();
    }
    street.assert_all(240).await;
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
}

pub async fn connections_that_are_cut_again_and_again_lose_nothing<W: Way>() {
    let street = Street::<W>::new().await;
    let (publisher, subscriber) = (street.publisher(street.broker()), street.subscriber(street.broker()));
    for round in 0..10 {
        street.publish(round * 30..round * 30 + 30).await;
        street.effects(round * 30 + 3).await;
        street.proxy.cut();
    }
    let all = tokio::time::timeout(Duration::from_secs(20), street.assert_all(300)).await;
    assert!(all.is_ok(), "{:#?}", street.incidents());
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
}

/// Nobody closes anything: only silence tells.
pub async fn a_half_open_connection_is_given_up_and_opened_anew<W: Way>() {
    let street = Street::<W>::new().await;
    let broker = || W::impatient(&street.broker(), Duration::from_secs(3));
    let (publisher, subscriber) = (street.publisher(broker()), street.subscriber(broker()));
    street.publish(0..20).await;
    street.effects(20).await;
    street.proxy.freeze();
    street.publish(20..40).await;
    // Both have noticed: the frozen connections are gone, and new ones can't be made.
    let trouble = "SELECT count(*) FROM outbox WHERE status = 'pending'";
    eventually("it waits", || street.from.number(trouble), |count| *count == 20).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    street.proxy.thaw();
    street.assert_all(40).await;
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
}

pub async fn a_slow_wire_keeps_order<W: Way>() {
    let street = Street::<W>::new().await;
    street.proxy.delay(Duration::from_millis(30));
    let (publisher, subscriber) = (street.publisher(street.broker()), street.subscriber(street.broker()));
    street.publish(0..300).await;
    street.assert_all(300).await;
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
}

pub async fn a_bus_starts_before_its_service_and_is_stopped_without_it<W: Way>() {
    let street = Street::<W>::new().await;
    street.emulator.kill();
    let (publisher, subscriber) = (street.publisher(street.broker()), street.subscriber(street.broker()));
    street.publish(0..10).await;
    street.emulator.come_back();
    street.assert_all(10).await;
    street.emulator.kill();
    street.publish(10..20).await;
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
    assert_eq!(street.from.number("SELECT count(*) FROM outbox WHERE status = 'pending'").await, 10);
}
