//! Every name under which the library tells of itself: spans, their fields, and metrics.
//!
//! Where OpenTelemetry's conventions for messaging have a name it is used; the others begin with `distributed_events`. Names
//! are kept: dashboards and alerts are made of them. What each means stands in [`manual::telemetry`](crate::manual::telemetry).

/// The target of all spans.
pub const TARGET: &str = "distributed_events";

/// A span: an event is written to the outbox.
pub const PUBLISH: &str = "publish";
/// A span: a batch goes to the broker.
pub const SEND: &str = "send";
/// A span: messages that have arrived are stored in the inbox.
pub const RECEIVE: &str = "receive";
/// A span: the broker is told that they are stored, or given back.
pub const SETTLE: &str = "settle";
/// A span: the handlers of an event run.
pub const PROCESS: &str = "process";

/// The name that OpenTelemetry shows.
pub const OTEL_NAME: &str = "otel.name";
/// The kind of span.
pub const OTEL_KIND: &str = "otel.kind";
/// `ERROR` where what the span stands for has failed.
pub const OTEL_STATUS: &str = "otel.status_code";
/// And why.
pub const OTEL_STATUS_DESCRIPTION: &str = "otel.status_description";

/// What carries the message.
pub const SYSTEM: &str = "messaging.system";
/// What is done, in our words.
pub const OPERATION_NAME: &str = "messaging.operation.name";
/// What is done, in the convention's words.
pub const OPERATION_TYPE: &str = "messaging.operation.type";
/// The topic.
pub const DESTINATION: &str = "messaging.destination.name";
/// The subscription.
pub const SUBSCRIPTION: &str = "messaging.destination.subscription.name";
/// The event's id.
pub const MESSAGE_ID: &str = "messaging.message.id";
/// The correlation id.
pub const CONVERSATION_ID: &str = "messaging.message.conversation_id";
/// How many messages an operation is about.
pub const MESSAGE_COUNT: &str = "messaging.batch.message_count";
/// When Service Bus took it, in seconds since 1970.
pub const ENQUEUED_TIME: &str = "messaging.servicebus.message.enqueued_time";
/// How often Service Bus has delivered it.
pub const DELIVERY_COUNT: &str = "messaging.servicebus.message.delivery_count";
/// How Service Bus was told to settle.
pub const DISPOSITION: &str = "messaging.servicebus.disposition_status";
/// The broker's host.
pub const SERVER: &str = "server.address";
/// What kind of failure.
pub const ERROR_TYPE: &str = "error.type";
/// The event's name.
pub const EVENT: &str = "distributed_events.event.name";
/// The session.
pub const SESSION: &str = "distributed_events.session.id";
/// The lane.
pub const LANE: &str = "distributed_events.lane";
/// Which attempt it is.
pub const ATTEMPT: &str = "distributed_events.attempt";
/// What came of it: `processed`, `retried`, `dead`.
pub const OUTCOME: &str = "distributed_events.outcome";
/// A state of rows.
pub const STATE: &str = "distributed_events.state";
/// A kind of incident.
pub const INCIDENT: &str = "distributed_events.incident.kind";
/// A table: `outbox`, `inbox`.
pub const TABLE: &str = "distributed_events.table";

/// What Azure Service Bus is called.
pub const SERVICE_BUS: &str = "servicebus";

/// A metric as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its unit, as OpenTelemetry writes it.
    pub unit: &'static str,
    /// What it counts or measures.
    pub description: &'static str,
    /// How it is taken.
    pub kind: MetricKind,
}

/// How a metric is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// The same, counted by a broker.
    ObservedCounter,
    /// Is as it is.
    Gauge,
    /// A distribution.
    Histogram,
}

macro_rules! metrics {
    ($($(#[doc = $doc:literal])+ $constant:ident: $kind:ident, $name:literal, $unit:literal;)*) => {
        $(
            $(#[doc = $doc])+
            pub const $constant: Metric =
                Metric { name: $name, unit: $unit, description: concat!($($doc),+).trim_ascii(), kind: MetricKind::$kind };
        )*
        /// All of them.
        pub const METRICS: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    /// Events that the broker has accepted
    SENT: Counter, "messaging.client.sent.messages", "{message}";
    /// Messages that have come from the broker
    CONSUMED: Counter, "messaging.client.consumed.messages", "{message}";
    /// How long sending, receiving or settling took
    OPERATION_DURATION: Histogram, "messaging.client.operation.duration", "s";
    /// How long the handlers of an event ran
    PROCESS_DURATION: Histogram, "messaging.process.duration", "s";
    /// From an event's publish until the broker had accepted it
    PUBLISH_LAG: Histogram, "distributed_events.publish.lag", "s";
    /// From an event's publish until its handlers' transaction was committed
    END_TO_END_LATENCY: Histogram, "distributed_events.end_to_end.latency", "s";
    /// Runs of an event's handlers, by what came of them
    ATTEMPTS: Counter, "distributed_events.attempts", "{attempt}";
    /// Received events that were there already
    DUPLICATES: Counter, "distributed_events.duplicates", "{event}";
    /// Events that ended dead
    DEAD: Counter, "distributed_events.dead", "{event}";
    /// What went wrong and was dealt with, by kind
    INCIDENTS: Counter, "distributed_events.incidents", "{incident}";
    /// Leases lost to other instances
    LEASES_LOST: Counter, "distributed_events.leases.lost", "{lease}";
    /// The broker's locks on messages and sessions that ended before we had settled
    LOCKS_LOST: ObservedCounter, "distributed_events.broker.locks.lost", "{lock}";
    /// Connections to the broker that were opened in the place of one that had ended
    RECONNECTS: ObservedCounter, "distributed_events.broker.reconnects", "{connection}";
    /// Answers of the broker that it is too busy
    THROTTLED: ObservedCounter, "distributed_events.broker.throttled", "{answer}";
    /// Rows of the outbox, by lane and state
    OUTBOX_ROWS: Gauge, "distributed_events.outbox.rows", "{row}";
    /// The age of the oldest pending row of the outbox, by lane
    OUTBOX_AGE: Gauge, "distributed_events.outbox.oldest_pending.age", "s";
    /// Rows of the inbox, by subscription and state
    INBOX_ROWS: Gauge, "distributed_events.inbox.rows", "{row}";
    /// The age of the oldest pending row of the inbox, by subscription
    INBOX_AGE: Gauge, "distributed_events.inbox.oldest_pending.age", "s";
}
