//! Keys and tokens.

use std::time::Duration;

use distributed_events::ServiceBus;

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

#[tokio::test]
async fn web_sockets_and_tls_carry_events() {
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("authority.pem");
    let emulator = tests::emulator::Emulator::start_with(
        &crate::entities(true),
        &["--write-certificate", authority.to_str().unwrap()],
    );
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
