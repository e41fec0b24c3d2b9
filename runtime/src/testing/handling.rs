//! One handler, run on one event.

use std::fmt;
use std::future::IntoFuture;
use std::time::{Duration, SystemTime};

use futures_util::future::LocalBoxFuture;
use sqlx::{Sqlite, SqlitePool};

use super::World;
use super::outcome::Outcome;
use super::world::SimulationError;
use crate::bus::EventBus;
use crate::envelope::{Envelope, EventId};
use crate::event::{self, DistributedEvent};
use crate::inbox::bind::BoundHandler;
use crate::outbox::publish::{PublishError, PublishOptions};
use crate::simulated;
use crate::storage::{IncomingEvent, StorageError};

type Published = (Vec<u8>, String, u32, String);

/// A handler that is about to be run on an event: shape what its context says of it, then await the [`Outcome`].
///
/// What is not said is as on a first attempt at an event that was published a moment ago.
#[must_use = "it runs when it is awaited"]
pub struct Handling<'a> {
    world: &'a mut World,
    pool: &'a SqlitePool,
    bus: &'a EventBus<Sqlite>,
    handler: BoundHandler<Sqlite>,
    event: Result<IncomingEvent, PublishError>,
    attempt: u32,
    received_at: SystemTime,
}

impl<'a> Handling<'a> {
    pub(super) fn new<E: DistributedEvent>(
        world: &'a mut World,
        pool: &'a SqlitePool,
        bus: &'a EventBus<Sqlite>,
        handler: BoundHandler<Sqlite>,
        event: &E,
    ) -> Self {
        let millis = simulated::now().and_then(|now| u64::try_from(now).ok()).unwrap_or_default();
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        let event = event::prepare(event, PublishOptions::default()).map(|prepared| IncomingEvent {
            created_at: Some(now),
            ..IncomingEvent::from(&prepared.event.envelope)
        });
        Self { world, pool, bus, handler, event, attempt: 1, received_at: now }
    }

    fn shaped(mut self, shape: impl FnOnce(&mut IncomingEvent)) -> Self {
        if let Ok(event) = &mut self.event {
            shape(event);
        }
        self
    }

    /// As this attempt; the first is 1.
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// The event has this id, instead of a new one.
    pub fn id(self, id: EventId) -> Self {
        self.shaped(|event| (event.id, event.message_id) = (id, id.to_string()))
    }

    /// It comes with this session, instead of its own.
    pub fn session_id(self, session_id: impl Into<String>) -> Self {
        self.shaped(|event| event.session_id = Some(session_id.into()))
    }

    /// It belongs to this correlation, instead of one of its own.
    pub fn correlation_id(self, correlation_id: impl Into<String>) -> Self {
        self.shaped(|event| event.correlation_id = Some(correlation_id.into()))
    }

    /// It was published by the handler of the event with this id.
    pub fn causation_id(self, causation_id: impl Into<String>) -> Self {
        self.shaped(|event| event.causation_id = Some(causation_id.into()))
    }

    /// It has one more header.
    pub fn header(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.shaped(|event| {
            event.headers.insert(name.into(), value.into());
        })
    }

    /// It was published at this time.
    pub fn created_at(self, time: SystemTime) -> Self {
        self.shaped(|event| event.created_at = Some(time))
    }

    /// It came at this time.
    pub fn received_at(mut self, time: SystemTime) -> Self {
        self.received_at = time;
        self
    }

    async fn run(self) -> Result<Outcome, SimulationError> {
        let Self { world, pool, bus, handler, attempt, received_at, .. } = self;
        let event = self.event?;
        let subscription = handler.declaration.settings.subscription();
        let last = sqlx::query_scalar("SELECT coalesce(max(seq), 0) FROM outbox").fetch_one(pool).await;
        let last: i64 = last.map_err(StorageError::from)?;
        let run = async |_: &mut World| Ok(bus.handle_once(handler, &event, attempt, received_at).await?);
        let (ran, again) = world.let_run(run).await?;
        let outcome = Outcome::of(ran, again);
        if matches!(outcome, Outcome::Processed | Outcome::Duplicate) {
            for event in published_after(pool, last).await.map_err(StorageError::from)? {
                world.namespace.note(event);
            }
        } else {
            // It was this one run that was asked for: nothing is left to be tried again, or to be dead.
            let delete = sqlx::query("DELETE FROM inbox WHERE subscription = ? AND id = ?");
            let delete = delete.bind(subscription).bind(event.id.as_uuid().as_bytes().to_vec());
            delete.execute(pool).await.map_err(StorageError::from)?;
        }
        Ok(outcome)
    }
}

/// What was written to the outbox after a row.
async fn published_after(pool: &SqlitePool, seq: i64) -> Result<Vec<Envelope>, sqlx::Error> {
    let sql = "SELECT id, event_type, event_version, event_data FROM outbox WHERE seq > ? ORDER BY seq";
    let rows: Vec<Published> = sqlx::query_as(sql).bind(seq).fetch_all(pool).await?;
    let events = rows.into_iter().map(|(id, name, version, data)| {
        let id = uuid::Uuid::from_slice(&id).unwrap_or_default();
        Envelope { version, ..Envelope::new(EventId::from_uuid(id), name, data) }
    });
    Ok(events.collect())
}

impl<'a> IntoFuture for Handling<'a> {
    type Output = Result<Outcome, SimulationError>;
    type IntoFuture = LocalBoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for Handling<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handling")
            .field("handler", &self.handler)
            .field("event", &self.event)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}
