//! Keys and tokens of a namespace of Service Bus.

use std::sync::Arc;
use std::time::Duration;

use distributed_events::broker::Source;
use distributed_events::topology::{Topology, TopologyReport};
use distributed_events::{
    Broker, HandlerSettings, ServiceBus, ServiceBusConfigError, ServiceBusHttp, SharedKey, TopologyError,
};

use super::Shown;
use crate::broker_conformance::{Noted, note, publish};
use crate::emulator::Emulator;
use crate::eventually::eventually;
use crate::service::Running;
use crate::street::{Amqp, Http, Street, Way, entities};

/// The namespace's key.
pub const KEY: &str = "cmlnaHQ+Y2FuYXJ5L2tleS1vZi1hLW5hbWVzcGFjZQ==";
/// One that it doesn't know, and that is somebody's all the same.
pub const WRONG: &str = "d3Jvbmc+Y2FuYXJ5L2tleS1vZi1hLW5hbWVzcGFjZQ==";

/// What differs between the transports.
pub trait Managed: Way {
    /// Looks at the namespace's topology.
    fn check(
        broker: &Self::Broker,
        emulator: &Emulator,
        topology: &Topology,
    ) -> impl Future<Output = Result<TopologyReport, TopologyError>> + Send;

    /// What a wrong endpoint is told with.
    fn endpoint(broker: &Self::Broker, url: &str) -> Option<ServiceBusConfigError>;

    /// What a wrong connection string is told with.
    fn refusal(text: &str) -> Option<ServiceBusConfigError>;
}

impl Managed for Amqp {
    async fn check(
        broker: &ServiceBus,
        emulator: &Emulator,
        topology: &Topology,
    ) -> Result<TopologyReport, TopologyError> {
        let broker = broker.management_endpoint(&format!("http://{}", emulator.http())).unwrap();
        broker.check_topology(topology).await
    }

    fn endpoint(broker: &ServiceBus, url: &str) -> Option<ServiceBusConfigError> {
        broker.management_endpoint(url).err()
    }

    fn refusal(text: &str) -> Option<ServiceBusConfigError> {
        ServiceBus::from_connection_string(text).err()
    }
}

impl Managed for Http {
    async fn check(
        broker: &ServiceBusHttp,
        _: &Emulator,
        topology: &Topology,
    ) -> Result<TopologyReport, TopologyError> {
        broker.check_topology(topology).await
    }

    fn endpoint(broker: &ServiceBusHttp, url: &str) -> Option<ServiceBusConfigError> {
        broker.endpoint(url).err()
    }

    fn refusal(text: &str) -> Option<ServiceBusConfigError> {
        ServiceBusHttp::from_connection_string(text).err()
    }
}

/// An emulator with the key, and two services.
async fn street<W: Way>() -> Street<W> {
    Street::before(Emulator::start_with(&entities(W::SESSIONS), &[&format!("--key={KEY}")])).await
}

/// From the first setting to the last trouble.
pub async fn a_run_shows_no_key_and_no_token<W: Managed>() {
    let shown = Shown::new();
    let street = street::<W>().await;
    wrong_settings::<W>(&shown, &street);
    // At once, so that those runs are short from which something is left out.
    shown.holds_none_of(&[KEY, WRONG]);
    exchange(&shown, &street).await;
    lose_the_broker(&shown, &street).await;
    use_a_wrong_key(&shown, &street).await;
    miss_a_topic(&shown, &street).await;
    shown.text("an incident", street.incidents().join("\n"));
    shown.has_logs_of(&["distributed_events", "sqlx", "hyper_util"]);
    shown.holds_none_of(&[KEY, WRONG]);
}

/// Connection strings where there is something wrong, or where they don't belong.
fn wrong_settings<W: Managed>(shown: &Shown, street: &Street<W>) {
    let sound = street.emulator.connection_string();
    let broker = street.broker();
    for text in
        [&sound, &format!("https://me:{KEY}@host"), &format!("https://host/?sig={KEY}"), &KEY.to_owned()]
    {
        shown.error("an endpoint", &W::endpoint(&broker, text).unwrap());
    }
    for text in [
        format!("{sound}{KEY};{KEY};"),
        format!("{sound}SharedAccessKey={KEY};"),
        format!("{sound}EntityPath=SharedAccessKey={KEY}"),
        sound.replace("Endpoint=sb://", "Endpoint="),
        sound.replace("SharedAccessKeyName=", ""),
        sound.replace(";SharedAccessKey=", ""),
        sound.replace(";SharedAccessKey=", ";"),
        sound.replace("localhost", "shop.servicebus.windows.net"),
        sound.replace("Endpoint=sb://localhost:", "Endpoint=sb://localhost:x"),
        KEY.to_owned(),
    ] {
        let Some(error) = W::refusal(&text) else { panic!("it was taken: {text}") };
        shown.error("a connection string", &error);
    }
    shown.debug("SharedKey", &SharedKey::new("RootManageSharedAccessKey", KEY));
}

/// Events arrive, and one is refused by its handler until it is dead.
async fn exchange<W: Managed>(shown: &Shown, street: &Street<W>) {
    let broker = W::second_key(street.broker(), SharedKey::new("RootManageSharedAccessKey", WRONG));
    shown.debug("a broker", &broker);
    let settings = HandlerSettings::new("audit");
    let settings = if W::SESSIONS { settings } else { settings.unordered() };
    let builder = street.builder(&street.to, broker.clone()).on(settings, |event: Noted, tx, _| {
        Box::pin(async move {
            if event.text == "refused" {
                sqlx::query("INSERT INTO nowhere (value) VALUES ('refused')").execute(&mut **tx).await?;
            }
            note(tx, &event.text).await
        })
    });
    shown.debug("BusBuilder", &builder);
    let bus = builder.build().unwrap();
    shown.debug("EventBus", &bus);
    for topology in bus.topology() {
        shown.shown("Topology", &topology);
        shown.text("Bicep", topology.to_bicep());
        let report = W::check(&street.broker(), &street.emulator, &topology).await.unwrap();
        shown.shown("TopologyReport", &report);
        let wrong =
            W::broker(&street.emulator.connection_string_at(W::door(&street.emulator)).replace(KEY, WRONG));
        shown.failure("check_topology", W::check(&wrong, &street.emulator, &topology).await);
    }
    let (publisher, subscriber) = (street.publisher(broker.clone()), Running::start(bus));
    publish(&street.from.pool, &Noted::of("other", "refused")).await;
    street.publish(0..10).await;
    street.effects(10).await;
    street.told("EventDead").await;
    shown.debug("a broker with a connection", &broker);
    shown.debug("EventBus that runs", &subscriber.bus);
    shown.debug("Stats", &subscriber.bus.stats());
    let source = Source::new("events", "audit").dead_letters();
    shown.debug("a receiver", &broker.receiver(&source).await.unwrap());
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
}

async fn lose_the_broker<W: Managed>(shown: &Shown, street: &Street<W>) {
    let broker = street.broker();
    let (publisher, subscriber) = (street.publisher(broker.clone()), street.subscriber(broker.clone()));
    street.publish(10..11).await;
    street.effects(11).await;
    street.emulator.kill();
    street.publish(11..12).await;
    street.told("BrokerUnavailable outbox").await;
    shown.debug("a broker without a connection", &broker);
    receive_in_vain(shown, &broker, "events").await;
    street.emulator.come_back();
    street.effects(12).await;
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
}

async fn use_a_wrong_key<W: Managed>(shown: &Shown, street: &Street<W>) {
    let text = street.emulator.connection_string_at(W::door(&street.emulator));
    let broker = W::broker(&text.replace(KEY, WRONG));
    let asked = W::on_unauthorized(
        broker.clone(),
        Arc::new(|| Box::pin(async { Some(SharedKey::new("RootManageSharedAccessKey", WRONG)) })),
    );
    let (publisher, subscriber) = (street.publisher(broker.clone()), street.subscriber(asked));
    street.publish(12..13).await;
    street.told(W::UNAUTHORIZED).await;
    shown.debug("a broker that is refused", &broker);
    receive_in_vain(shown, &broker, "events").await;
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
}

async fn miss_a_topic<W: Managed>(shown: &Shown, street: &Street<W>) {
    let bus = street.builder(&street.from, street.broker()).default_topic("nowhere").build().unwrap();
    let publisher = Running::start(bus);
    publish(&street.from.pool, &Noted::new("lost")).await;
    street.told("topic nowhere can't take events").await;
    receive_in_vain(shown, &street.broker(), "nowhere").await;
    publisher.stop().await.unwrap();
    let held = "SELECT count(*) FROM outbox WHERE status = 'pending'";
    eventually("it is kept", || street.from.number(held), |held| *held > 0).await;
}

async fn receive_in_vain(shown: &Shown, broker: &impl Broker, topic: &str) {
    let received = match broker.receiver(&Source::new(topic, "audit")).await {
        Ok(receiver) => receiver.unwrap().receive(1, Duration::from_secs(5)).await.map(drop),
        Err(error) => Err(error),
    };
    shown.failure("a receiver", received);
}

/// WebSockets and TLS are others' work, which have their own logs.
pub async fn neither_web_sockets_nor_tls_show_a_token() {
    let shown = Shown::new();
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("authority.pem");
    let arguments = [&format!("--key={KEY}"), "--write-certificate", authority.to_str().unwrap()];
    let street = Street::<Amqp>::before(Emulator::start_with(&entities(true), &arguments)).await;
    let pem = std::fs::read(&authority).unwrap();
    let plain = street.emulator.connection_string_at(street.emulator.http());
    let encrypted = plain.replace("UseDevelopmentEmulator=true;", "");
    let brokers = [
        ServiceBus::from_connection_string(&plain).unwrap().over_web_sockets(),
        ServiceBus::from_connection_string(&encrypted)
            .unwrap()
            .root_certificates(&pem)
            .unwrap()
            .over_web_sockets(),
    ];
    for (number, broker) in brokers.into_iter().enumerate() {
        let (publisher, subscriber) = (street.publisher(broker.clone()), street.subscriber(broker.clone()));
        street.publish(number..number + 1).await;
        street.effects(number + 1).await;
        shown.debug("a broker over WebSockets", &broker);
        publisher.stop().await.unwrap();
        subscriber.stop().await.unwrap();
    }
    shown.text("an incident", street.incidents().join("\n"));
    shown.has_logs_of(&["distributed_events", "sqlx"]);
    shown.holds_none_of(&[KEY]);
}
