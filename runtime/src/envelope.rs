//! What travels: an event's bytes with its identity and routing, the same in the tables and on the wire.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::chance;

/// The identity of an event: a UUID, version 7 where this library made it.
///
/// It is the outbox row's id, the message id on the wire and, together with the
/// subscription, the inbox row's id; it stays the same on every retry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(Uuid);

impl EventId {
    /// A new id, ordered by the time of its making (UUID version 7).
    ///
    /// ```
    /// let (a, b) = (distributed_events::EventId::new(), distributed_events::EventId::new());
    /// assert_ne!(a, b);
    /// ```
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a default id that differs each time would surprise")]
    pub fn new() -> Self {
        Self(chance::id_by_time())
    }

    /// An id of the caller's own, for example one that makes a retried publish idempotent.
    #[must_use]
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The id as a UUID.
    #[must_use]
    pub const fn as_uuid(&self) -> Uuid {
        self.0
    }
}

impl EventId {
    /// When it was made, by the clock of whoever made it, where it says so.
    pub(crate) fn made_at(&self) -> Option<SystemTime> {
        let (seconds, nanoseconds) = self.0.get_timestamp()?.to_unix();
        SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds))
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Uuid> for EventId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl FromStr for EventId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text).map(Self)
    }
}

/// Headers of an event: text by name, in the order of their names.
pub type Headers = BTreeMap<String, String>;

/// The header that carries the W3C trace context.
pub const TRACEPARENT: &str = "traceparent";

/// The header that carries what tracing systems add to it.
pub const TRACESTATE: &str = "tracestate";

/// The lane of events that name none.
pub const DEFAULT_LANE: &str = "default";

/// The largest encoded event that `publish` accepts where the event names no `max_size`, in bytes:
/// what Azure Service Bus's Standard tier takes as one message, less room for the headers.
pub const DEFAULT_MAX_SIZE: usize = 256 * 1024 - 16 * 1024;

/// The longest session id, in characters (Azure Service Bus quotas).
pub const MAX_SESSION_ID: usize = 128;

/// The longest event name, topic, subscription, lane or correlation id, in characters.
pub const MAX_NAME: usize = 128;

/// An event on its way: its encoded bytes, its identity and what routes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Envelope {
    /// Identity, the same on every retry.
    pub id: EventId,
    /// The event's wire name, for example `ordering.order-placed`.
    pub name: String,
    /// The version of the event's shape.
    pub version: u32,
    /// The encoded event: JSON text.
    pub data: String,
    /// The topic, or `None` for the relay's default.
    pub topic: Option<String>,
    /// The lane, that is, which broker connection carries it.
    pub lane: String,
    /// The session that keeps order, if any.
    pub session_id: Option<String>,
    /// What all events of one business flow share.
    pub correlation_id: Option<String>,
    /// The id of the event whose handler published this one.
    pub causation_id: Option<String>,
    /// The user's headers and the trace context.
    pub headers: Headers,
    /// When it was published, by the publisher's database.
    pub created_at: SystemTime,
    /// When it may be delivered at the earliest.
    pub deliver_at: Option<SystemTime>,
    /// After this no handler starts on it.
    pub expires_at: Option<SystemTime>,
}

impl Envelope {
    /// An envelope with an identity, a name and a body, and nothing else set.
    #[must_use]
    pub fn new(id: EventId, name: impl Into<String>, data: impl Into<String>) -> Self {
        Self {
            id,
            name: name.into(),
            version: 1,
            data: data.into(),
            topic: None,
            lane: DEFAULT_LANE.to_owned(),
            session_id: None,
            correlation_id: None,
            causation_id: None,
            headers: Headers::new(),
            created_at: SystemTime::now(),
            deliver_at: None,
            expires_at: None,
        }
    }

    /// Bytes that this envelope takes in a broker's batch: its texts and a fixed allowance for their framing.
    #[must_use]
    pub fn encoded_size(&self) -> usize {
        const FRAMING: usize = 256;
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len() + 16).sum();
        let ids = [&self.session_id, &self.correlation_id, &self.causation_id]
            .into_iter()
            .flatten()
            .map(String::len)
            .sum::<usize>();
        FRAMING + self.name.len() + self.data.len() + headers + ids
    }
}
