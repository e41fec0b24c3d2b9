//! A service under test, while nothing goes wrong.

use std::error::Error;
use std::panic::resume_unwind;
use std::time::Duration;

use sqlx::{Sqlite, SqlitePool};

use super::asserting::{Asserting, account};
use super::handling::Handling;
use super::world::SimulationError;
use super::{World, seeds};
use crate::admin::{self, DeadRow, DeadRowFilter, Table};
use crate::bus::EventBus;
use crate::bus::builder::BusBuilder;
use crate::event::DistributedEvent;
use crate::inbox::bind::BoundHandler;
use crate::inbox::handler::{DeclaredHandler, Handler};
use crate::simulated;
use crate::storage::StorageError;

/// A service under test: its handlers and settings as they are, a new SQLite database, and a broker that keeps what it
/// publishes. Nothing goes wrong, and nothing sleeps: the time is simulated, so that retries and delayed events cost none. It
/// begins with the real time; `SystemTime::now()` and SQLite's own clock stay real.
///
/// For one handler alone see [`handle`](Self::handle), for the same with troubles [`simulate`](super::simulate).
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
    /// That nobody runs: its handlers are run one by one, and the code under test may ask for it.
    bus: EventBus<Sqlite>,
}

impl TestBus<'_> {
    /// Runs a test with a bus that registers this. The broker of its default lane is there already, as is one for every lane
    /// that its events name.
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
            let bus = world.add(&pool, 1, register)?;
            test(&mut TestBus { world, pool, bus }).await
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

    /// The service's bus, for code that asks for one: a request's handler that commits with it, for example. It isn't run:
    /// that is what [`settled`](Self::settled) and [`let_pass`](Self::let_pass) do.
    #[must_use]
    pub const fn event_bus(&self) -> &EventBus<Sqlite> {
        &self.bus
    }

    /// Runs one handler on one event, once, whether it is registered or not, as a processor would: with the states and
    /// settings of the bus, in a guarded transaction that is committed or rolled back. Nothing else runs, and an event that
    /// isn't processed leaves nothing behind. What was published is in [`published`](Self::published) at once.
    ///
    /// ```standalone_crate
    /// # use distributed_events::testing::{Outcome, TestBus};
    /// # use distributed_events::{DistributedEvent, EventContext, HandlerError, event_handler};
    /// # use serde::{Deserialize, Serialize};
    /// # use sqlx::{Sqlite, Transaction};
    /// #[derive(DistributedEvent, Serialize, Deserialize)]
    /// #[event(name = "ordering.order-placed")]
    /// struct OrderPlaced { order_id: i64 }
    ///
    /// #[derive(DistributedEvent, Serialize, Deserialize, Debug, PartialEq)]
    /// #[event(name = "billing.card-charged")]
    /// struct CardCharged { order_id: i64 }
    ///
    /// #[event_handler(subscription = "billing", retry(attempts = 3))]
    /// async fn charge_card(
    ///     order: OrderPlaced,
    ///     tx: &mut Transaction<'_, Sqlite>,
    ///     context: &EventContext,
    /// ) -> Result<(), HandlerError> {
    ///     if context.header("bank") == Some("closed") {
    ///         return Err("the bank is closed".into());
    ///     }
    ///     CardCharged { order_id: order.order_id }.publish(tx).await?;
    ///     Ok(())
    /// }
    ///
    /// # fn main() {
    /// // In a `#[test]`.
    /// TestBus::run(|bus| bus, async |bus| {
    ///     let order = OrderPlaced { order_id: 1 };
    ///     bus.handle::<charge_card>(&order).await?.assert_processed();
    ///     assert_eq!(bus.published::<CardCharged>()?, [CardCharged { order_id: 1 }]);
    ///
    ///     let refused = bus.handle::<charge_card>(&order).header("bank", "closed").attempt(2).await?;
    ///     assert!(matches!(refused, Outcome::Retried { counted: true, .. }));
    ///     let given_up = bus.handle::<charge_card>(&order).header("bank", "closed").attempt(3).await?;
    ///     given_up.assert_dead("the bank is closed");
    ///     Ok(())
    /// });
    /// # }
    /// ```
    ///
    /// # Errors
    /// On awaiting it: when the event can't travel, or the handler can't be run, such as for want of a state.
    pub fn handle<H: DeclaredHandler<Sqlite>>(&mut self, event: &H::Event) -> Handling<'_> {
        Handling::new(self.world, &self.pool, &self.bus, BoundHandler::declared::<H>(), event)
    }

    /// The same for a handler that is a value.
    ///
    /// # Errors
    /// As for [`handle`](Self::handle).
    pub fn handle_value<H: Handler<Sqlite>>(&mut self, handler: H, event: &H::Event) -> Handling<'_> {
        Handling::new(self.world, &self.pool, &self.bus, BoundHandler::value(handler), event)
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

    /// What the service has published of one event so far, in the order of sending: what it has sent, and what handlers have
    /// published that were run by [`handle`](Self::handle).
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

    /// Asserts that the service has published an event like this; where one is like it, others may be.
    ///
    /// ```no_run
    /// # use distributed_events::DistributedEvent;
    /// # use distributed_events::testing::{SimulationError, TestBus};
    /// # #[derive(serde::Serialize, serde::Deserialize)] struct CardCharged { cents: i64 }
    /// # impl DistributedEvent for CardCharged { const NAME: &'static str = "card-charged"; }
    /// # async fn example(bus: &TestBus<'_>) -> Result<(), SimulationError> {
    /// bus.assert_published::<CardCharged>(|charged| charged.cents == 4200).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When one can't be decoded, or the database refuses.
    ///
    /// # Panics
    /// When there is none: with what was published instead, what is pending, and what is dead.
    pub fn assert_published<'a, E: DistributedEvent>(
        &'a self,
        like_this: impl Fn(&E) -> bool + 'a,
    ) -> Asserting<'a> {
        self.asserting(move || {
            let is_there = self.published::<E>()?.iter().any(like_this);
            Ok((!is_there).then(|| format!("no {} like this was published", E::NAME)))
        })
    }

    /// Asserts that the service has published so many of one event.
    ///
    /// # Errors
    /// When one can't be decoded, or the database refuses.
    ///
    /// # Panics
    /// When there are more or less: with what was published instead, what is pending, and what is dead.
    pub fn assert_published_count<E: DistributedEvent>(&self, count: usize) -> Asserting<'_> {
        self.asserting(move || {
            let found = self.published::<E>()?.len();
            Ok((found != count).then(|| format!("{found} {} were published, not {count}", E::NAME)))
        })
    }

    /// Asserts that the service has published none of one event.
    ///
    /// # Errors
    /// When one can't be decoded, or the database refuses.
    ///
    /// # Panics
    /// When there is one: with all that was published, what is pending, and what is dead.
    pub fn assert_not_published<E: DistributedEvent>(&self) -> Asserting<'_> {
        self.assert_published_count::<E>(0)
    }

    /// Asserts that no event ended dead.
    ///
    /// # Errors
    /// When the database refuses.
    ///
    /// # Panics
    /// When one did: with its name, its attempts and the reason.
    pub fn assert_none_dead(&self) -> Asserting<'_> {
        let told =
            |row: DeadRow| format!("\n  {} after {} attempts: {}", row.event, row.attempts, row.reason);
        Asserting::new(async move {
            let dead: String = self.dead().await?.into_iter().map(told).collect();
            Ok((!dead.is_empty()).then(|| format!("events ended dead:{dead}")))
        })
    }

    /// Asserts that an event of this type ended dead, for a reason with this text in it.
    ///
    /// # Errors
    /// When the database refuses.
    ///
    /// # Panics
    /// When none did: with what was published, what is pending, and what is dead.
    pub fn assert_dead<'a, E: DistributedEvent>(&'a self, reason: &'a str) -> Asserting<'a> {
        Asserting::new(async move {
            let dead = self.dead().await?;
            if dead.iter().any(|row| row.event == E::NAME && row.reason.contains(reason)) {
                return Ok(None);
            }
            Ok(Some(format!("no {} is dead because of `{reason}`:{}", E::NAME, self.account().await?)))
        })
    }

    /// Asserts what a look says, which tells what is wrong.
    fn asserting<'a>(
        &'a self,
        look: impl FnOnce() -> Result<Option<String>, SimulationError> + 'a,
    ) -> Asserting<'a> {
        Asserting::new(async move {
            match look()? {
                Some(wrong) => Ok(Some(format!("{wrong}:{}", self.account().await?))),
                None => Ok(None),
            }
        })
    }

    async fn account(&self) -> Result<String, StorageError> {
        let namespace = &self.world.namespace;
        account(&self.pool, &namespace.published(), namespace.waiting()).await
    }

    /// What has happened so far, line by line, with the simulated seconds.
    #[must_use]
    pub fn trace(&self) -> Vec<String> {
        self.world.trace()
    }
}
