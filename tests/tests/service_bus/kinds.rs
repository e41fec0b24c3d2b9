//! Entities of the wrong kind.

use crate::{Street, entities};

/// Rule 7.
#[tokio::test]
async fn ordered_events_are_not_received_from_a_subscription_without_sessions() {
    let street = Street::with(&entities(false)).await;
    let subscriber = street.subscriber(street.broker());
    let told = street.told("created without sessions").await;
    assert!(told.contains("requiresSession") && told.contains("unordered"), "{told}");
    subscriber.stop().await.unwrap();
}
