//! A service under test, while nothing goes wrong.

use std::error::Error;
use std::panic::resume_unwind;
use std::time::Duration;

use sqlx::{Sqlite, SqlitePool};

use super::world::SimulationError;
use super::{World, seeds};
use crate::admin::{self, DeadRow, DeadRowFilter, Table};
use crate::bus::builder::BusBuilder;
use crate::event::DistributedEvent;
use crate::simulated;
use crate::storage::StorageError;

/// A service under test: its handlers and settings as they are, a new SQLite database, and a broker that keeps what it
/// publishes. Nothing goes wrong, and nothing sleeps: the time is simulated, so that retries and delayed events cost none. It
/// begins with the real time; `SystemTime::now()` and SQLite's own clock stay real.
///
/// For the same with troubles see [`simulate`](super::simulate), for a unit test call the handler: it is a function.
///
/// ```standalone_crate
/// use distributed_events::testing::TestBus;
/// use distributed_events::{DistributedEvent, HandlerError, event_handler};
/// use serde::{Deserialize, Serialize};
/// use sqlx::{Sqlite, Transaction};
///
/// #[derive(DistributedEvent, Serialize, Deserialize)]
/// #[event(name = "ordering.order-placed", topic = "orders")]
/// struct OrderPlaced { order_id: i64 }
///
/// #[derive(DistributedEvent, Serialize, Deserialize, Debug, PartialEq)]
/// #[event(name = "billing.card-charged", topic = "charges")]
/// struct CardCharged { order_id: i64 }
///
/// #[event_handler(subscription = "billing")]
/// async fn charge_card(order: OrderPlaced, tx: &mut Transaction<'_, Sqlite>) -> Result<(), HandlerError> {
///     sqlx::query("INSERT INTO charges (order_id) VALUES (?)").bind(order.order_id).execute(&mut **tx).await?;
///     CardCharged { order_id: order.order_id }.publish(tx).await?;
///     Ok(())
/// }
///
/// # fn main() {
/// // In a `#[test]`.
/// TestBus::run(|bus| bus.handler::<charge_card>(), async |bus| {
///     sqlx::raw_sql("CREATE TABLE charges (order_id INTEGER)").execute(bus.pool()).await?;
///     bus.receive(&OrderPlaced { order_id: 1 })?;
///     bus.settled().await?;
///     bus.assert_none_dead().await?;
///     assert_eq!(bus.published::<CardCharged>()?, [CardCharged { order_id: 1 }]);
///     Ok(())
/// });
/// # }
/// ```
#[derive(Debug)]
pub struct TestBus<'w> {
    world: &'w mut World,
    pool: SqlitePool,
}

impl TestBus<'_> {
    /// Runs a test with a bus that registers this; the broker of its default lane is there already.
    ///
    /// # Panics
    /// When the test panics or returns an error: what has happened is printed. Inside of a runtime of tokio: it makes its
    /// own, so call it from a plain `#[test]`.
    pub fn run<T>(register: impl Fn(BusBuilder<Sqlite>) -> BusBuilder<Sqlite> + 'static, test: T)
    where
        T: AsyncFnOnce(&mut TestBus<'_>) -> Result<(), Box<dyn Error + Send + Sync>>,
    {
        let failed = seeds::in_a_world(0, 0, async |world: &mut World| {
            let pool = world.database("service").await?;
            world.add(&pool, 1, register)?;
            test(&mut TestBus { world, pool }).await
        });
        if let Some(panic) = failed {
            resume_unwind(panic);
        }
    }

    /// The service's database, with the library's tables.
    #[must_use]
    pub const fn pool(&self) -> &SqlitePool {
        &self.pool
    }

    /// An event of another service arrives. It is handled when the bus [settles](Self::settled).
    ///
    /// # Errors
    /// When it can't travel, or when no handler takes it.
    pub fn receive<E: DistributedEvent>(&mut self, event: &E) -> Result<(), SimulationError> {
        self.world.publish(event)
    }

    /// Runs the service until nothing is left to do: all events handled or dead, and all published ones sent, retries and
    /// delayed events included, whose time comes at once.
    ///
    /// # Errors
    /// When something is left that nothing will ever do, or that never ends: a handler that asks for another time again and
    /// again, an event that is published for the next day on every day.
    pub async fn settled(&mut self) -> Result<(), SimulationError> {
        self.world.let_run(async |world| world.calm(None).await).await
    }

    /// Runs the service for so long, by its database's clock. What is due in the last moments may still wait for its loop's
    /// next look ([`poll_interval`](crate::OutboxSettings::poll_interval), here 2 s).
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn let_pass(&mut self, time: Duration) -> Result<(), SimulationError> {
        let time = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let end = simulated::now().map(|now| now.saturating_add(time));
        self.world.let_run(async |world| world.calm(end).await).await
    }

    /// What the service has published of one event so far, in the order of sending.
    ///
    /// # Errors
    /// When one can't be decoded.
    pub fn published<E: DistributedEvent>(&self) -> Result<Vec<E>, SimulationError> {
        self.world.published()
    }

    /// The events that ended dead, each with its reason: first those of the inbox, then those of the outbox.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn dead(&self) -> Result<Vec<DeadRow>, StorageError> {
        let mut dead = Vec::new();
        for table in [Table::Inbox, Table::Outbox] {
            dead.extend(admin::dead_rows(&self.pool, table, &DeadRowFilter::default()).await?);
        }
        Ok(dead)
    }

    /// Asserts that no event ended dead.
    ///
    /// # Errors
    /// When the database refuses.
    ///
    /// # Panics
    /// When one did: with its name, its attempts and the reason.
    pub async fn assert_none_dead(&self) -> Result<(), StorageError> {
        let told =
            |row: DeadRow| format!("\n  {} after {} attempts: {}", row.event, row.attempts, row.reason);
        let dead: String = self.dead().await?.into_iter().map(told).collect();
        assert!(dead.is_empty(), "events ended dead:{dead}");
        Ok(())
    }

    /// What has happened so far, line by line, with the simulated seconds.
    #[must_use]
    pub fn trace(&self) -> Vec<String> {
        self.world.trace()
    }
}
