//! Service Bus over a real wire, which the tests cut, freeze and slow, against the emulator.

#[path = "service_bus/access.rs"]
mod access;
#[path = "service_bus/entities.rs"]
mod entities;
#[path = "service_bus/identity.rs"]
mod identity;
#[path = "service_bus/outages.rs"]
mod outages;
#[path = "service_bus/scheduled.rs"]
mod scheduled;
#[path = "service_bus/sessions.rs"]
mod sessions;

use std::sync::{Arc, Mutex};

use distributed_events::{BusBuilder, EventBus, ServiceBus};
use serde_json::{Value, json};
use sqlx::Sqlite;
use tests::broker_conformance::{Noted, noting, publish};
use tests::emulator::Emulator;
use tests::eventually::eventually;
use tests::proxy::Proxy;
use tests::service::{Database, Running, quick};

/// A topic `events` with a subscription `audit`.
pub fn entities(sessions: bool) -> Value {
    let properties = json!({
        "RequiresSession": sessions, "LockDuration": "PT5S", "DeadLetteringOnMessageExpiration": true
    });
    json!({ "Name": "sbemulatorns", "Queues": [], "Topics": [{
        "Name": "events",
        "Properties": { "RequiresDuplicateDetection": true },
        "Subscriptions": [{ "Name": "audit", "Properties": properties }],
    }]})
}

/// An emulator behind a proxy, and two services that use it.
pub struct Street {
    pub emulator: Emulator,
    pub proxy: Proxy,
    pub from: Database,
    pub to: Database,
    incidents: Arc<Mutex<Vec<String>>>,
}

impl Street {
    pub async fn new() -> Self {
        Self::with(&entities(true)).await
    }

    pub async fn with(entities: &Value) -> Self {
        Self::before(Emulator::start(entities)).await
    }

    pub async fn before(emulator: Emulator) -> Self {
        let proxy = Proxy::before(emulator.amqp()).await;
        let (from, to) = (Database::new().await, Database::new().await);
        Self { emulator, proxy, from, to, incidents: Arc::default() }
    }

    /// Service Bus by way of the proxy.
    pub fn broker(&self) -> ServiceBus {
        let text = self.emulator.connection_string_at(self.proxy.address());
        ServiceBus::from_connection_string(&text).unwrap()
    }

    fn builder(&self, database: &Database, broker: ServiceBus) -> BusBuilder<Sqlite> {
        let incidents = Arc::clone(&self.incidents);
        quick(&database.pool).broker(broker).on_incident(move |incident| {
            incidents
                .lock()
                .unwrap()
                .push(format!("{:?} {}: {}", incident.kind, incident.source, incident.message));
        })
    }

    /// What the buses have told so far.
    pub fn incidents(&self) -> Vec<String> {
        self.incidents.lock().unwrap().clone()
    }

    /// Waits until something was told that holds this text.
    pub async fn told(&self, text: &str) -> String {
        let look = || async { self.incidents().into_iter().find(|incident| incident.contains(text)) };
        eventually(text, look, Option::is_some).await.unwrap()
    }

    pub fn publisher(&self, broker: ServiceBus) -> Running {
        Running::start(self.builder(&self.from, broker).build().unwrap())
    }

    pub fn subscriber(&self, broker: ServiceBus) -> Running {
        Running::start(self.subscribing(broker))
    }

    pub fn subscribing(&self, broker: ServiceBus) -> EventBus<Sqlite> {
        noting(self.builder(&self.to, broker), "audit", |event: &Noted, _| event.text.clone())
            .build()
            .unwrap()
    }

    /// Publishes the numbers in order, in ten sessions.
    pub async fn publish(&self, numbers: std::ops::Range<usize>) {
        for number in numbers {
            publish(&self.from.pool, &Noted::of(&format!("s{}", number % 10), number)).await;
        }
    }

    /// Waits for so many effects.
    pub async fn effects(&self, count: usize) {
        let look = || self.to.number("SELECT count(*) FROM effects");
        eventually("effects", look, |found| *found >= i64::try_from(count).unwrap()).await;
    }

    /// That all numbers below have come, each once, and in order in their sessions.
    pub async fn assert_all(&self, count: usize) {
        self.effects(count).await;
        let open = "SELECT count(*) FROM inbox WHERE status <> 'processed'";
        eventually("all is processed", || self.to.number(open), |open| *open == 0).await;
        let found: Vec<usize> = self.to.effects().await.iter().map(|text| text.parse().unwrap()).collect();
        for session in 0..10 {
            let of_it: Vec<_> = found.iter().copied().filter(|number| number % 10 == session).collect();
            assert_eq!(of_it, (session..count).step_by(10).collect::<Vec<_>>(), "session s{session}");
        }
    }
}
