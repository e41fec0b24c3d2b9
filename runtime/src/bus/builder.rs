//! Building a bus: brokers, handlers, settings, and all problems at once.

use std::any::TypeId;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::{Pool, Transaction};

use super::{BusError, EventBus, Lane, Received, checks};
use crate::broker::Broker;
use crate::context::EventContext;
use crate::envelope::DEFAULT_LANE;
use crate::error::HandlerError;
use crate::event::DistributedEvent;
use crate::health::HealthThresholds;
use crate::inbox::bind::{BoundHandler, EventShape};
use crate::inbox::handler::{DeclaredHandler, Handler, HandlerSettings, States};
use crate::inbox::settings::InboxSettings;
use crate::outbox::relay::DEFAULT_TOPIC;
use crate::outbox::settings::OutboxSettings;
use crate::storage::Storage;
use crate::telemetry::{Incident, Telemetry};

/// Puts a bus together. Mistakes are not reported one by one but all at once, by [`build`](Self::build).
#[must_use = "a builder does nothing until `build()`"]
pub struct BusBuilder<DB: Storage> {
    pub(super) pool: Pool<DB>,
    pub(super) lanes: Vec<Lane>,
    pub(super) default_topic: String,
    pub(super) outbox: OutboxSettings,
    pub(super) inbox: InboxSettings,
    pub(super) handlers: Vec<BoundHandler<DB>>,
    pub(super) without: HashSet<TypeId>,
    pub(super) states: States,
    pub(super) published: Vec<EventShape>,
    pub(super) ignores_unknown: HashSet<String>,
    pub(super) busy_timeout: Option<Duration>,
    pub(super) longest_delay: Duration,
    pub(super) shutdown_deadline: Duration,
    pub(super) listens: bool,
    pub(super) received: Vec<Received>,
    pub(super) has_outbox: bool,
    pub(super) has_inbox: bool,
    pub(super) telemetry: Telemetry,
    #[cfg(feature = "otel")]
    pub(super) metrics_every: Duration,
    pub(super) thresholds: HealthThresholds,
}

impl<DB: Storage> fmt::Debug for BusBuilder<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BusBuilder")
            .field("lanes", &self.lanes)
            .field("handlers", &self.handlers)
            .finish_non_exhaustive()
    }
}

impl<DB: Storage> BusBuilder<DB> {
    pub(super) fn new(pool: Pool<DB>) -> Self {
        Self {
            pool,
            lanes: Vec::new(),
            default_topic: DEFAULT_TOPIC.to_owned(),
            outbox: OutboxSettings::default(),
            inbox: InboxSettings::default(),
            handlers: Vec::new(),
            without: HashSet::new(),
            states: States::default(),
            published: Vec::new(),
            ignores_unknown: HashSet::new(),
            busy_timeout: None,
            longest_delay: Duration::from_secs(7 * 24 * 3600),
            shutdown_deadline: Duration::from_secs(30),
            listens: true,
            received: Vec::new(),
            has_outbox: true,
            has_inbox: true,
            telemetry: Telemetry::new(),
            #[cfg(feature = "otel")]
            metrics_every: super::levels::EVERY,
            thresholds: HealthThresholds::default(),
        }
    }

    /// The broker of the default lane.
    pub fn broker(self, broker: impl Broker + 'static) -> Self {
        self.lane(DEFAULT_LANE, broker)
    }

    /// The broker of a further lane, for example a namespace of its own for critical events.
    pub fn lane(mut self, name: impl Into<String>, broker: impl Broker + 'static) -> Self {
        self.lanes.push(Lane { name: name.into(), broker: Arc::new(broker) });
        self
    }

    /// The topic of events that name none (default `events`).
    pub fn default_topic(mut self, topic: impl Into<String>) -> Self {
        self.default_topic = topic.into();
        self
    }

    /// How the outbox is relayed.
    pub fn outbox(mut self, settings: OutboxSettings) -> Self {
        self.outbox = settings;
        self
    }

    /// How the inbox is filled and processed.
    pub fn inbox(mut self, settings: InboxSettings) -> Self {
        self.inbox = settings;
        self
    }

    /// Registers a function declared with `#[event_handler]`.
    pub fn handler<H: DeclaredHandler<DB>>(mut self) -> Self {
        self.handlers.push(BoundHandler::declared::<H>());
        self
    }

    /// Registers what a function over the builder registers: `handlers![f, g]`, or a module's own `fn handlers`.
    pub fn handlers(self, register: impl FnOnce(Self) -> Self) -> Self {
        register(self)
    }

    /// Registers a handler that is a value.
    pub fn handler_value(mut self, handler: impl Handler<DB>) -> Self {
        self.handlers.push(BoundHandler::value(handler));
        self
    }

    /// Registers a closure that returns a boxed future.
    ///
    /// ```no_run
    /// # use distributed_events::{DistributedEvent, EventBus, HandlerSettings, LocalBroker};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Serialize, Deserialize)] struct OrderPlaced;
    /// # impl DistributedEvent for OrderPlaced { const NAME: &'static str = "order-placed"; }
    /// # fn example(pool: sqlx::SqlitePool) -> Result<(), distributed_events::BusError> {
    /// let bus = EventBus::builder(pool)
    ///     .broker(LocalBroker::new())
    ///     .on(HandlerSettings::new("audit"), |event: OrderPlaced, tx, context| Box::pin(async move { Ok(()) }))
    ///     .build()?;
    /// # Ok(()) }
    /// ```
    pub fn on<E, F>(mut self, settings: HandlerSettings, closure: F) -> Self
    where
        E: DistributedEvent,
        F: for<'a, 'c> Fn(
                E,
                &'a mut Transaction<'c, DB>,
                &'a EventContext,
            ) -> BoxFuture<'a, Result<(), HandlerError>>
            + Send
            + Sync
            + 'static,
    {
        self.handlers.push(BoundHandler::closure(settings, closure));
        self
    }

    /// Registers every function of the program declared with `#[event_handler]` that fits this bus's database.
    #[cfg(feature = "macros")]
    pub fn discovered_handlers(self) -> Self {
        self.discover(|_| true)
    }

    /// Registers every function of the program declared with `#[event_handler]` for a subscription.
    #[cfg(feature = "macros")]
    pub fn discovered_handlers_of(self, subscription: &str) -> Self {
        self.discover(|found| found == subscription)
    }

    #[cfg(feature = "macros")]
    fn discover(mut self, wanted: impl Fn(&str) -> bool) -> Self {
        for record in crate::inbox::discovery::records() {
            let known = self.handlers.iter().any(|handler| handler.key == record.key());
            if !known
                && wanted(record.declaration.settings.subscription())
                && !self.without.contains(&record.key())
            {
                self.handlers.extend(record.bind::<DB>());
            }
        }
        self
    }

    /// Leaves out a declared handler of a subscription that this bus serves, on purpose.
    pub fn without<H: DeclaredHandler<DB>>(mut self) -> Self {
        let key = TypeId::of::<H>();
        self.without.insert(key);
        self.handlers.retain(|handler| handler.key != key);
        self
    }

    /// A value for handlers that ask for `State<T>`.
    pub fn state<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.states.insert(value);
        self
    }

    /// Names an event that this service publishes and does not handle, so that its lane and topic are checked, and its
    /// topic is part of [`EventBus::topology`].
    pub fn publishes<E: DistributedEvent>(mut self) -> Self {
        self.published.push(EventShape::of::<E>());
        self
    }

    /// Lets a subscription ignore events that nobody handles, instead of keeping them dead; for subscriptions that
    /// take every event of a topic, as this one then does in [`EventBus::topology`]. Each ignored name is logged once.
    pub fn ignore_unknown_events(mut self, subscription: impl Into<String>) -> Self {
        self.ignores_unknown.insert(subscription.into());
        self
    }

    /// Fills the inbox of a subscription without handling its events, which is left to another process: for a relay that
    /// stands alone and knows no event type.
    ///
    /// ```no_run
    /// # fn example(pool: sqlx::SqlitePool, broker: impl distributed_events::Broker + 'static)
    /// # -> Result<(), distributed_events::BusError> {
    /// use distributed_events::EventBus;
    ///
    /// let relay = EventBus::builder(pool).broker(broker).receives("default", "orders", "billing").build()?;
    /// # Ok(()) }
    /// ```
    pub fn receives(
        mut self,
        lane: impl Into<String>,
        topic: impl Into<String>,
        subscription: impl Into<String>,
    ) -> Self {
        let (lane, topic, subscription) = (lane.into(), topic.into(), subscription.into());
        self.received.push(Received { lane, topic, subscription });
        self
    }

    /// Leaves the outbox to another process: this bus neither relays it nor deletes from it.
    pub fn without_outbox(mut self) -> Self {
        self.has_outbox = false;
        self
    }

    /// Leaves the inbox to another process: this bus neither fills it nor deletes from it, and has no handlers.
    pub fn without_inbox(mut self) -> Self {
        self.has_inbox = false;
        self
    }

    /// How long a statement of the library waits for another's lock (default: a bit less than a third of the shorter
    /// lease).
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = Some(timeout);
        self
    }

    /// The longest delay or time to live that this service's publishers use (default 7 days): what the dedupe horizon
    /// is checked against.
    pub fn longest_delay(mut self, delay: Duration) -> Self {
        self.longest_delay = delay;
        self
    }

    /// How long what is under way may take at shutdown before it is cut off and rolled back (default 30 s).
    pub fn shutdown_deadline(mut self, deadline: Duration) -> Self {
        self.shutdown_deadline = deadline;
        self
    }

    /// Whether the bus listens to the hints of other processes, where the database carries any (default true): it takes a
    /// connection of its own. Say `false` where one can't be kept, as behind PgBouncer in transaction mode; new events of
    /// other processes are then found by polling.
    pub fn listen(mut self, listens: bool) -> Self {
        self.listens = listens;
        self
    }

    /// What [`EventBus::health`] calls unwell.
    pub fn health_thresholds(mut self, thresholds: HealthThresholds) -> Self {
        self.thresholds = thresholds;
        self
    }

    /// Is told of every incident, for alerts. It must not block.
    pub fn on_incident(mut self, hook: impl Fn(&Incident) + Send + Sync + 'static) -> Self {
        self.telemetry = self.telemetry.on_incident(hook);
        self
    }

    /// Records metrics on this meter, instead of one named `distributed_events` of the global provider, which is asked
    /// for when the first figure is recorded. Two buses of one process need a meter each, by names of their own, or their
    /// tables can't be told apart.
    #[cfg(feature = "otel")]
    pub fn meter(mut self, meter: opentelemetry::metrics::Meter) -> Self {
        self.telemetry = self.telemetry.meter(meter);
        self
    }

    /// How often the tables are counted for metrics while somebody collects them (default 15 s).
    #[cfg(feature = "otel")]
    pub fn metrics_every(mut self, interval: Duration) -> Self {
        self.metrics_every = interval;
        self
    }

    /// Builds the bus, and makes its subscriptions known to its brokers.
    ///
    /// # Errors
    /// [`BusError::Configuration`], with every problem there is.
    pub fn build(self) -> Result<EventBus<DB>, BusError> {
        checks::build(self)
    }
}

/// A function over the builder that registers handlers: `.handlers(handlers![charge_card, refund])`.
///
/// ```no_run
/// # use distributed_events::{DistributedEvent, EventBus, LocalBroker, event_handler, handlers};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(DistributedEvent, Serialize, Deserialize)] struct OrderPlaced { id: i64 }
/// # #[event_handler(subscription = "billing")] async fn charge(event: OrderPlaced) -> Result<(), String> { Ok(()) }
/// # #[event_handler(subscription = "billing")] async fn report(event: OrderPlaced) -> Result<(), String> { Ok(()) }
/// # fn example(pool: sqlx::SqlitePool) -> Result<(), distributed_events::BusError> {
/// let bus = EventBus::builder(pool).broker(LocalBroker::new()).handlers(handlers![charge, report]).build()?;
/// # Ok(()) }
/// ```
#[macro_export]
macro_rules! handlers {
    ($($handler:path),* $(,)?) => {
        |builder| { builder $(.handler::<$handler>())* }
    };
}
