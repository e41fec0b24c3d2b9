//! Two services over Service Bus, and a wire between that the tests cut, freeze and slow: what must hold whatever way it is
//! spoken to.

use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use distributed_events::broker::namespace::KeySource;
use distributed_events::{
    Broker, BusBuilder, EventBus, HandlerSettings, ServiceBus, ServiceBusHttp, SharedKey,
};
use serde_json::{Value, json};
use sqlx::Sqlite;

use crate::broker_conformance::{Noted, noting_with, publish};
use crate::emulator::Emulator;
use crate::eventually::eventually;
use crate::proxy::Proxy;
use crate::service::{Database, Running, quick};

pub mod entities;
pub mod keys;
pub mod outages;

/// A way to speak to Service Bus.
pub trait Way: Sized + Send + Sync {
    /// What a bus is given.
    type Broker: Broker + Clone + 'static;
    /// Whether it keeps the order of sessions.
    const SESSIONS: bool;
    /// What a missing entity is told with.
    const MISSING: &'static str;
    /// The same for a wrong key.
    const UNAUTHORIZED: &'static str;
    /// The same for a busy service.
    const BUSY: &'static str;

    /// The door it goes in by.
    fn door(emulator: &Emulator) -> SocketAddr;
    /// By connection string.
    fn broker(text: &str) -> Self::Broker;
    /// That waits no longer than so.
    fn impatient(broker: &Self::Broker, timeout: Duration) -> Self::Broker;
    /// With a second key.
    fn second_key(broker: Self::Broker, key: SharedKey) -> Self::Broker;
    /// With a source of keys.
    fn on_unauthorized(broker: Self::Broker, source: KeySource) -> Self::Broker;
}

/// Over AMQP.
#[derive(Debug)]
pub struct Amqp;

/// Over HTTPS, plain to the emulator.
#[derive(Debug)]
pub struct Http;

macro_rules! way {
    ($way:ty, $broker:ty, $door:ident, $sessions:literal, $missing:literal, $unauthorized:literal, $busy:literal) => {
        impl Way for $way {
            type Broker = $broker;
            const SESSIONS: bool = $sessions;
            const MISSING: &'static str = $missing;
            const UNAUTHORIZED: &'static str = $unauthorized;
            const BUSY: &'static str = $busy;

            fn door(emulator: &Emulator) -> SocketAddr {
                emulator.$door()
            }
            fn broker(text: &str) -> $broker {
                <$broker>::from_connection_string(text).unwrap()
            }
            fn impatient(broker: &$broker, timeout: Duration) -> $broker {
                broker.timeout(timeout)
            }
            fn second_key(broker: $broker, key: SharedKey) -> $broker {
                broker.second_key(key)
            }
            fn on_unauthorized(broker: $broker, source: KeySource) -> $broker {
                broker.on_unauthorized(source)
            }
        }
    };
}

way!(Amqp, ServiceBus, amqp, true, "not-found", "unauthorized-access", "server-busy");
way!(Http, ServiceBusHttp, http, false, "status 410", "status 401", "status 503");

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
#[derive(Debug)]
pub struct Street<W> {
    /// The service.
    pub emulator: Emulator,
    /// The wire to it.
    pub proxy: Proxy,
    /// Of the service that publishes.
    pub from: Database,
    /// Of the one that subscribes.
    pub to: Database,
    incidents: Arc<Mutex<Vec<String>>>,
    way: PhantomData<W>,
}

impl<W: Way> Street<W> {
    /// With the usual entities.
    pub async fn new() -> Self {
        Self::with(&entities(W::SESSIONS)).await
    }

    /// With these entities.
    pub async fn with(entities: &Value) -> Self {
        Self::before(Emulator::start(entities)).await
    }

    /// Before this emulator.
    pub async fn before(emulator: Emulator) -> Self {
        let proxy = Proxy::before(W::door(&emulator)).await;
        let (from, to) = (Database::new().await, Database::new().await);
        Self { emulator, proxy, from, to, incidents: Arc::default(), way: PhantomData }
    }

    /// Service Bus by way of the proxy.
    pub fn broker(&self) -> W::Broker {
        W::broker(&self.emulator.connection_string_at(self.proxy.address()))
    }

    /// A service on one of the databases, whose incidents are told here.
    pub fn builder(&self, database: &Database, broker: W::Broker) -> BusBuilder<Sqlite> {
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

    /// A service that publishes, running.
    pub fn publisher(&self, broker: W::Broker) -> Running {
        Running::start(self.builder(&self.from, broker).build().unwrap())
    }

    /// A service that subscribes, running.
    pub fn subscriber(&self, broker: W::Broker) -> Running {
        Running::start(self.subscribing(broker))
    }

    /// The same, to be run.
    pub fn subscribing(&self, broker: W::Broker) -> EventBus<Sqlite> {
        let settings = HandlerSettings::new("audit");
        self.subscribing_with(broker, if W::SESSIONS { settings } else { settings.unordered() })
    }

    /// The same with settings of its handler.
    pub fn subscribing_with(&self, broker: W::Broker, settings: HandlerSettings) -> EventBus<Sqlite> {
        let builder = self.builder(&self.to, broker);
        noting_with(builder, settings, |event: &Noted, _| event.text.clone()).build().unwrap()
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

    /// That all numbers below have come, each once, and in order in their sessions where those are kept.
    pub async fn assert_all(&self, count: usize) {
        self.effects(count).await;
        let open = "SELECT count(*) FROM inbox WHERE status <> 'processed'";
        eventually("all is processed", || self.to.number(open), |open| *open == 0).await;
        let found: Vec<usize> = self.to.effects().await.iter().map(|text| text.parse().unwrap()).collect();
        for session in 0..10 {
            let mut of_it: Vec<_> = found.iter().copied().filter(|number| number % 10 == session).collect();
            if !W::SESSIONS {
                of_it.sort_unstable();
            }
            assert_eq!(of_it, (session..count).step_by(10).collect::<Vec<_>>(), "session s{session}");
        }
    }
}

/// Stamps out one test for each case on a way.
#[macro_export]
macro_rules! street {
    ($way:ty) => {
        $crate::street! { @cases ($way)
            outages: a_service_that_is_killed_and_comes_back_loses_nothing,
                connections_that_are_cut_again_and_again_lose_nothing,
                a_half_open_connection_is_given_up_and_opened_anew, a_slow_wire_keeps_order,
                a_bus_starts_before_its_service_and_is_stopped_without_it;
            entities: a_missing_topic_is_named_and_holds_up_no_other,
                a_dead_letter_queue_is_drained_into_dead_rows, a_busy_service_is_left_alone_and_loses_nothing,
                nothing_is_dead_lettered_while_the_inbox_is_down,
                an_event_that_is_too_large_ends_dead_and_takes_no_other_with_it;
            keys: a_wrong_key_is_told_without_showing_it_and_the_second_one_is_tried,
                a_key_that_was_regenerated_is_asked_for;
        }
    };
    (@cases ($way:ty) $($module:ident: $($case:ident),+;)+) => {
        mod street {
            $(mod $module {
                $(#[::tokio::test]
                async fn $case() {
                    $crate::street::$module::$case::<$way>().await;
                })+
            })+
        }
    };
}
