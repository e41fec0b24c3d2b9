//! The typed door: what an event is, and publishing it inside the caller's transaction.

use std::borrow::Borrow;
use std::future::Future;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Transaction;

use crate::envelope::{DEFAULT_LANE, DEFAULT_MAX_SIZE, Envelope, EventId};
use crate::outbox::publish::{self, Prepared, PublishError, PublishOptions};
use crate::storage::Storage;

/// Something that happened in one service and matters to others.
///
/// Derive it with `#[derive(DistributedEvent)]` beside serde's `Serialize` and `Deserialize`, or implement it by hand:
/// only the name is required.
///
/// ```
/// use distributed_events::DistributedEvent;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct OrderPlaced { order_id: i64 }
///
/// impl DistributedEvent for OrderPlaced {
///     const NAME: &'static str = "ordering.order-placed";
///     const HAS_SESSION: bool = true;
///     fn session_id(&self) -> Option<String> { Some(self.order_id.to_string()) }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a distributed event",
    label = "this type is not an event",
    note = "add `#[derive(DistributedEvent, Serialize, Deserialize)]` to it, or implement `DistributedEvent` by hand"
)]
pub trait DistributedEvent: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The wire name: stable, and by custom past tense after the service, as in `ordering.order-placed`.
    const NAME: &'static str;

    /// The version of this shape, counted from 1.
    const VERSION: u32 = 1;

    /// The oldest version that [`decode`](Self::decode) understands.
    const OLDEST_VERSION: u32 = Self::VERSION;

    /// The topic, or `None` for the default topic of the relay.
    const TOPIC: Option<&'static str> = None;

    /// The lane, that is, which of the service's broker connections carries it.
    const LANE: &'static str = DEFAULT_LANE;

    /// Further names under which it is received.
    const ALIASES: &'static [&'static str] = &[];

    /// The largest encoded size in bytes that `publish` accepts.
    const MAX_SIZE: usize = DEFAULT_MAX_SIZE;

    /// Whether [`session_id`](Self::session_id) may give one.
    const HAS_SESSION: bool = false;

    /// The session that keeps this event in order with others of the same session; none by default.
    fn session_id(&self) -> Option<String> {
        None
    }

    /// Decodes a received body of the given version.
    ///
    /// # Errors
    /// When the version is not one this type understands, or the body is not what that version says; the error names
    /// the path inside the body.
    fn decode(version: u32, body: &[u8]) -> Result<Self, DecodeError> {
        if version == Self::VERSION { from_json(body) } else { Err(DecodeError::version::<Self>(version)) }
    }

    /// Writes this event to the outbox in the caller's transaction: it is sent if, and only if, that transaction
    /// commits.
    ///
    /// Correlation, causation and trace context come from [`Correlation::current`](crate::Correlation::current) at the
    /// moment of the call, and are made anew where there is none.
    ///
    /// # Errors
    /// When the event can't travel (its size, its session id), or the database refuses; roll back then.
    fn publish<DB: Storage>(
        &self,
        tx: &mut Transaction<'_, DB>,
    ) -> impl Future<Output = Result<EventId, PublishError>> + Send {
        self.publish_with(tx, PublishOptions::default())
    }

    /// Like [`publish`](Self::publish), with a delay, a time to live, headers or an id of the caller's.
    ///
    /// # Errors
    /// As for `publish`, and when an option can't travel.
    fn publish_with<DB: Storage>(
        &self,
        tx: &mut Transaction<'_, DB>,
        options: PublishOptions,
    ) -> impl Future<Output = Result<EventId, PublishError>> + Send {
        // Encoded at the call, not at the first poll: the correlation is the caller's.
        let event = prepare(self, options);
        async move { publish::write(tx, event?).await }
    }

    /// Writes several events with one statement, in the given order; all of them or none.
    ///
    /// # Errors
    /// As for [`publish`](Self::publish), at the first event that can't travel.
    fn publish_all<DB: Storage>(
        tx: &mut Transaction<'_, DB>,
        events: impl IntoIterator<Item = impl Borrow<Self>>,
    ) -> impl Future<Output = Result<Vec<EventId>, PublishError>> + Send {
        let events: Result<Vec<_>, _> =
            events.into_iter().map(|event| prepare(event.borrow(), PublishOptions::default())).collect();
        async move { publish::write_all(tx, events?).await }
    }
}

pub(crate) fn prepare<E: DistributedEvent>(
    event: &E,
    options: PublishOptions,
) -> Result<Prepared, PublishError> {
    let data = serde_json::to_string(event)
        .map_err(|error| PublishError::Encode { event: E::NAME, reason: error.to_string() })?;
    let mut envelope = Envelope::new(EventId::new(), E::NAME, data);
    envelope.version = E::VERSION;
    envelope.topic = E::TOPIC.map(str::to_owned);
    envelope.lane = E::LANE.to_owned();
    envelope.session_id = event.session_id();
    publish::complete(envelope, options, E::MAX_SIZE)
}

/// Decodes JSON; the error names the path at which it stopped.
///
/// # Errors
/// When the body is not JSON of that shape.
pub fn from_json<E: DeserializeOwned>(body: &[u8]) -> Result<E, DecodeError> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let event = serde_path_to_error::deserialize(&mut json).map_err(|error| DecodeError::Body {
        path: error.path().to_string(),
        reason: error.inner().to_string(),
    })?;
    json.end().map_err(|error| DecodeError::Body { path: ".".to_owned(), reason: error.to_string() })?;
    Ok(event)
}

/// Why a received body is not the event it claims to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The body is not JSON of the expected shape: compare the publisher's type with this one at the path.
    #[error("the body can't be decoded at `{path}`: {reason}")]
    Body {
        /// Where in the body, as serde names it; `.` is the whole.
        path: String,
        /// What serde says.
        reason: String,
    },
    /// The version is not known here: add `upcast_from = OldType`, or deploy the newer handler first.
    #[error(
        "version {found} of {event} can't be read: this type reads versions {oldest} to {newest}; `#[event(upcast_from = OldType)]` adds an older one"
    )]
    Version {
        /// The event's name.
        event: &'static str,
        /// What the message says.
        found: u32,
        /// The oldest known version.
        oldest: u32,
        /// The newest known version.
        newest: u32,
    },
}

impl DecodeError {
    /// The error for a version that an event's type does not know.
    #[must_use]
    pub const fn version<E: DistributedEvent>(found: u32) -> Self {
        Self::Version { event: E::NAME, found, oldest: E::OLDEST_VERSION, newest: E::VERSION }
    }
}
