//! The broker port: what the relays need of whatever carries events between services.

#[cfg(feature = "local")]
pub mod local;
#[cfg(any(feature = "service-bus", feature = "service-bus-http"))]
pub mod namespace;
#[cfg(feature = "service-bus")]
pub mod service_bus;
#[cfg(feature = "service-bus-http")]
pub mod service_bus_http;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;

use crate::envelope::{Envelope, EventId};
use crate::storage::InboxStore;
use crate::telemetry::spans::{Arrived, OWN_SYSTEM};
use crate::topology::{Takes, Topology};

/// What carries events from one service's outbox to other services' inboxes.
///
/// It is a trait object because no user type crosses it, and it leaks no type of a client library.
pub trait Broker: Send + Sync + Debug {
    /// What tells this broker from another (rule 23), free of secrets: for example its namespace.
    fn identity(&self) -> String;

    /// What this kind of broker is called in traces and metrics (`messaging.system`).
    fn system(&self) -> &'static str {
        OWN_SYSTEM
    }

    /// Its host, where it has one, for traces.
    fn server(&self) -> Option<&str> {
        None
    }

    /// What its connections have met so far.
    fn stats(&self) -> BrokerStats {
        BrokerStats::default()
    }

    /// What one batch may hold.
    fn limits(&self) -> BatchLimits;

    /// How long before its time it takes a delayed event and keeps it: not at all where it can't schedule.
    fn schedules_ahead(&self) -> Duration {
        Duration::ZERO
    }

    /// Makes a service known before its loops start: its inbox, and the subscriptions that it serves.
    fn attach(&self, service: Service);

    /// Prepares for the loops, after every service of the process is attached: checks or records what it must.
    ///
    /// # Errors
    /// When the loops could not work; the bus does not start then.
    fn open(&self) -> BoxFuture<'_, Result<(), SendError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Does what is to be done beside sending, for the leader of a lane; returns how soon to be asked again, if ever.
    fn maintain<'a>(&'a self, from: &'a dyn InboxStore) -> BoxFuture<'a, Option<Duration>> {
        let _unused = from;
        Box::pin(std::future::ready(None))
    }

    /// Sends events of one topic, in order, all of them or none; returns when the broker has accepted them durably.
    fn send<'a>(&'a self, batch: Batch<'a>) -> BoxFuture<'a, Result<(), SendError>>;

    /// Opens a receiver for a subscription, or none where this broker delivers into inboxes by itself.
    fn receiver<'a>(
        &'a self,
        source: &'a Source,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Receiver>>, ReceiveError>>;
}

/// What a broker's connections have met, since the broker was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerStats {
    /// Locks on messages and sessions that ended before their messages were settled.
    pub locks_lost: u64,
    /// Connections that were opened in the place of one that had ended.
    pub reconnects: u64,
    /// Answers that it is too busy.
    pub throttled: u64,
}

impl BrokerStats {
    /// So many of each.
    #[must_use]
    pub const fn new(locks_lost: u64, reconnects: u64, throttled: u64) -> Self {
        Self { locks_lost, reconnects, throttled }
    }
}

/// A service as a broker sees it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Service {
    /// Its inbox, and its memory of local subscriptions.
    pub store: Arc<dyn InboxStore>,
    /// The subscriptions that it serves.
    pub subscriptions: Vec<Subscription>,
    /// The topics that it publishes to, as far as it told.
    pub topics: Vec<String>,
}

impl Service {
    /// A service with these subscriptions.
    #[must_use]
    pub fn new(store: Arc<dyn InboxStore>, subscriptions: Vec<Subscription>) -> Self {
        Self { store, subscriptions, topics: Vec::new() }
    }

    /// The same, publishing to these topics.
    #[must_use]
    pub fn publishing(mut self, topics: Vec<String>) -> Self {
        self.topics = topics;
        self
    }
}

/// A subscription on a topic and the event names it takes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Subscription {
    /// The topic.
    pub topic: String,
    /// The subscription's name.
    pub name: String,
    /// The event names it takes, aliases included.
    pub events: Vec<String>,
    /// Whether it keeps the order of its events' sessions: one of them has a session, and no handler is `unordered`.
    pub ordered: bool,
    /// Whether it takes every event of the topic, and ignores those that nobody handles.
    pub everything: bool,
}

impl Subscription {
    /// A subscription on a topic.
    #[must_use]
    pub const fn new(topic: String, name: String, events: Vec<String>) -> Self {
        Self { topic, name, events, ordered: false, everything: false }
    }

    /// The same, keeping the order of sessions.
    #[must_use]
    pub const fn ordered(mut self, ordered: bool) -> Self {
        self.ordered = ordered;
        self
    }

    /// The same, taking every event of the topic.
    #[must_use]
    pub const fn everything(mut self, everything: bool) -> Self {
        self.everything = everything;
        self
    }

    /// Adds this subscription to what a broker is to have.
    pub(crate) fn describe(&self, topology: &mut Topology) {
        let takes = if self.everything { Takes::Everything } else { Takes::Events(self.events.clone()) };
        topology.subscribe(&self.topic, &self.name, takes, self.ordered);
    }
}

/// What one batch may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchLimits {
    /// Bytes, as [`Envelope::encoded_size`] counts them.
    pub bytes: usize,
    /// Events.
    pub events: usize,
}

impl BatchLimits {
    /// So many bytes and events at most.
    #[must_use]
    pub const fn new(bytes: usize, events: usize) -> Self {
        Self { bytes, events }
    }
}

/// Events of one topic on their way to the broker.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Batch<'a> {
    /// The service that sends them.
    pub from: &'a dyn InboxStore,
    /// The topic.
    pub topic: &'a str,
    /// The events, in order.
    pub events: &'a [Envelope],
}

impl<'a> Batch<'a> {
    /// A batch of one topic's events.
    #[must_use]
    pub const fn new(from: &'a dyn InboxStore, topic: &'a str, events: &'a [Envelope]) -> Self {
        Self { from, topic, events }
    }
}

/// Why a batch was not accepted; in every case none of it was (rule 24).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The batch is too big as a whole; the relay splits it.
    #[error("the batch is too big: {0}")]
    BatchTooBig(String),
    /// One event of the batch can never be sent: it ends dead, and the others are sent again.
    #[error("event {id} can't be sent: {reason}")]
    Event {
        /// Which.
        id: EventId,
        /// Why.
        reason: String,
    },
    /// The topic can't take events now: missing, full, disabled, not authorised. The relay backs this topic off.
    #[error("topic {topic} can't take events: {reason}")]
    Topic {
        /// Which.
        topic: String,
        /// Why, with what to do about it.
        reason: String,
    },
    /// The broker can't be reached, is busy, or its answer is unknown. The relay backs the whole lane off.
    #[error("the broker is not available: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
        /// How long the broker asked to be left alone.
        retry_after: Option<Duration>,
    },
}

impl SendError {
    /// What kind of failure it is, as traces and metrics show it.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::BatchTooBig(_) => "batch_too_big",
            Self::Event { .. } => "event_refused",
            Self::Topic { .. } => "topic_unavailable",
            Self::Unavailable { .. } => "broker_unavailable",
        }
    }
}

/// Where a receiver receives from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Source {
    /// The topic.
    pub topic: String,
    /// The subscription.
    pub subscription: String,
    /// Its dead-letter queue instead of itself.
    pub dead_letter_queue: bool,
}

impl Source {
    /// A subscription on a topic.
    #[must_use]
    pub fn new(topic: impl Into<String>, subscription: impl Into<String>) -> Self {
        Self { topic: topic.into(), subscription: subscription.into(), dead_letter_queue: false }
    }

    /// The dead-letter queue of the same.
    #[must_use]
    pub fn dead_letters(mut self) -> Self {
        self.dead_letter_queue = true;
        self
    }

    /// The path that identity is derived from where a message has no id (rule 14).
    #[must_use]
    pub fn entity(&self) -> String {
        format!("{}/subscriptions/{}", self.topic, self.subscription)
    }
}

/// A link to a subscription. Deliveries belong to the link they came by and die with it (rule 18).
pub trait Receiver: Send + Debug {
    /// Waits for messages, at most so many and so long; an empty answer is no error. Nothing is fetched from the broker
    /// but by this call, so that no message is locked while the inbox can't be written (rule 19).
    fn receive(&mut self, max: usize, wait: Duration) -> BoxFuture<'_, Result<Vec<Delivery>, ReceiveError>>;

    /// Settles deliveries as complete: they are in the inbox.
    fn complete<'a>(&'a mut self, tokens: &'a [u64]) -> BoxFuture<'a, Result<(), ReceiveError>>;

    /// Gives deliveries back, for another to receive, if possible without counting a failed delivery: the inbox could not
    /// be written, which is no fault of theirs.
    fn abandon<'a>(&'a mut self, tokens: &'a [u64]) -> BoxFuture<'a, Result<(), ReceiveError>>;
}

/// One received message with its lock.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Delivery {
    /// What its receiver settles it by.
    pub token: u64,
    /// The message.
    pub message: Message,
}

impl Delivery {
    /// A message under a token of its receiver's.
    #[must_use]
    pub const fn new(token: u64, message: Message) -> Self {
        Self { token, message }
    }

    /// As its trace shows it.
    pub(crate) fn arrived(&self) -> Arrived<'_> {
        Arrived {
            id: self.message.message_id.as_deref(),
            enqueued_at: self.message.enqueued_at,
            delivery_count: self.message.delivery_count,
            headers: &self.message.properties,
        }
    }
}

/// A message as it came off the wire, in the words of Service Bus.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// The sender's message id, if it gave one.
    pub message_id: Option<String>,
    /// The event's name.
    pub subject: Option<String>,
    /// The body.
    pub body: Vec<u8>,
    /// What the body is, as a media type.
    pub content_type: Option<String>,
    /// The session, pseudo-sessions included.
    pub session_id: Option<String>,
    /// The correlation id.
    pub correlation_id: Option<String>,
    /// The application properties, as text.
    pub properties: crate::envelope::Headers,
    /// The broker's sequence number.
    pub sequence_number: i64,
    /// When the broker took it.
    pub enqueued_at: Option<SystemTime>,
    /// How often the broker has delivered it, this time included; zero where it does not tell.
    pub delivery_count: u32,
    /// When it expires.
    pub expires_at: Option<SystemTime>,
    /// Why the broker has dead-lettered it, if it has.
    pub dead_letter_reason: Option<String>,
}

/// Why nothing could be received or settled. The relay opens a new receiver, with backoff.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The subscription is not there, or not open to this identity: create it, or grant the right.
    #[error("subscription {subscription} on topic {topic} can't be received from: {reason}")]
    Entity {
        /// The topic.
        topic: String,
        /// The subscription.
        subscription: String,
        /// Why.
        reason: String,
    },
    /// The broker can't be reached, or the link is gone.
    #[error("the broker is not available: {0}")]
    Unavailable(String),
}
