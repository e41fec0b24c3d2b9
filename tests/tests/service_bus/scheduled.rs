//! Delayed events are Service Bus's to keep.

use std::time::Duration;

use distributed_events::PublishOptions;
use tests::broker_conformance::{Noted, publish_with};
use tests::eventually::eventually;

use crate::Street;

#[tokio::test]
async fn a_delayed_event_waits_at_service_bus_for_its_time() {
    let street = Street::new().await;
    let (publisher, subscriber) = (street.publisher(street.broker()), street.subscriber(street.broker()));
    let delay = Duration::from_secs(4);
    let begun = std::time::Instant::now();
    publish_with(&street.from.pool, &Noted::of("s", "late"), PublishOptions::new().delay(delay)).await;
    let pending = "SELECT count(*) FROM outbox WHERE status = 'pending'";
    eventually("it is handed over", || street.from.number(pending), |count| *count == 0).await;
    assert!(begun.elapsed() < delay, "long before its time");
    // It isn't needed any more.
    publisher.stop().await.unwrap();
    street.effects(1).await;
    assert!(begun.elapsed() >= delay - Duration::from_millis(100), "{:?}", begun.elapsed());
    subscriber.stop().await.unwrap();
}
