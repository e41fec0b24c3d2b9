//! Keys and tokens.

use std::time::Duration;

use distributed_events::{HandlerSettings, ServiceBus};
use tests::emulator::Emulator;
use tests::service::Running;

use crate::Street;

#[tokio::test]
async fn tokens_are_renewed_before_they_expire() {
    let street = Street::new().await;
    let broker = || street.broker().token_lifetime(Duration::from_secs(5));
    let (publisher, subscriber) = (street.publisher(broker()), street.subscriber(broker()));
    // For several lifetimes, and nobody is ever refused.
    for number in 0..75 {
        street.publish(number..number + 1).await;
        street.effects(number + 1).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
    assert_eq!(street.incidents(), [""; 0]);
}

/// Service Bus detaches links that do nothing for ten minutes. That is no trouble to anybody.
#[tokio::test]
async fn idle_links_are_attached_again_without_a_word() {
    for sessions in [true, false] {
        let emulator = Emulator::start_with(&crate::entities(sessions), &["--link-idle", "1"]);
        let street = Street::before(emulator).await;
        let settings = HandlerSettings::new("audit");
        let settings = if sessions { settings } else { settings.unordered() };
        let publisher = street.publisher(street.broker());
        let subscriber = Running::start(street.subscribing_with(street.broker(), settings));
        for number in 0..3 {
            street.publish(number..number + 1).await;
            street.effects(number + 1).await;
            // Longer than links may be idle; there is nothing to await but that nothing happens.
            tokio::time::sleep(Duration::from_millis(2500)).await;
        }
        street.assert_all(3).await;
        publisher.stop().await.unwrap();
        subscriber.stop().await.unwrap();
        assert_eq!(street.incidents(), [""; 0], "sessions: {sessions}");
    }
}

#[tokio::test]
async fn web_sockets_and_tls_carry_events() {
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("authority.pem");
    let emulator =
        Emulator::start_with(&crate::entities(true), &["--write-certificate", authority.to_str().unwrap()]);
    let pem = std::fs::read(&authority).unwrap();
    let plain =
        |address| ServiceBus::from_connection_string(&emulator.connection_string_at(address)).unwrap();
    let encrypted = |address| {
        let text = emulator.connection_string_at(address).replace("UseDevelopmentEmulator=true;", "");
        ServiceBus::from_connection_string(&text).unwrap()
    };
    let brokers = [
        plain(emulator.http()).over_web_sockets(),
        encrypted(emulator.amqp()).root_certificates(&pem).unwrap(),
        encrypted(emulator.http()).over_web_sockets().root_certificates(&pem).unwrap(),
    ];
    let street = Street::new().await;
    for (number, broker) in brokers.into_iter().enumerate() {
        let (publisher, subscriber) = (street.publisher(broker.clone()), street.subscriber(broker));
        street.publish(number..number + 1).await;
        street.assert_all(number + 1).await;
        publisher.stop().await.unwrap();
        subscriber.stop().await.unwrap();
    }

    // Nobody whom we don't trust is spoken to.
    let publisher = street.publisher(encrypted(emulator.amqp()));
    street.publish(3..4).await;
    street.told("certificate").await;
    publisher.stop().await.unwrap();
}
