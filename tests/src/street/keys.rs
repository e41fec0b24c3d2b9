//! Keys that are wrong, and those that are right instead.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use distributed_events::SharedKey;

use super::{Street, Way};

fn wrong<W: Way>(street: &Street<W>) -> W::Broker {
    let text = street.emulator.connection_string_at(W::door(&street.emulator));
    W::broker(&text.replace("SharedAccessKey=SAS_KEY_VALUE", "SharedAccessKey=canary-of-a-key"))
}

pub async fn a_wrong_key_is_told_without_showing_it_and_the_second_one_is_tried<W: Way>() {
    let street = Street::<W>::new().await;
    let publisher = street.publisher(wrong(&street));
    street.publish(0..1).await;
    let told = street.told(W::UNAUTHORIZED).await;
    assert!(!told.contains("canary"), "{told}");
    publisher.stop().await.unwrap();

    let second = SharedKey::new("RootManageSharedAccessKey", "SAS_KEY_VALUE");
    let broker = || W::second_key(wrong(&street), second.clone());
    let (publisher, subscriber) = (street.publisher(broker()), street.subscriber(broker()));
    street.assert_all(1).await;
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
}

pub async fn a_key_that_was_regenerated_is_asked_for<W: Way>() {
    let street = Street::<W>::new().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let broker = W::on_unauthorized(
        wrong(&street),
        Arc::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            Box::pin(async { Some(SharedKey::new("RootManageSharedAccessKey", "SAS_KEY_VALUE")) })
        }),
    );
    let (publisher, subscriber) = (street.publisher(broker.clone()), street.subscriber(broker));
    street.publish(0..10).await;
    street.assert_all(10).await;
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}
