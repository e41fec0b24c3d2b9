//! The bus: a service's loops, assembled from its pool, its brokers and its handlers.

pub mod builder;
mod checks;
mod health;
mod hints;
mod housekeeping;
#[cfg(feature = "otel")]
mod levels;
#[cfg(all(feature = "testing", feature = "sqlite"))]
mod once;
mod running;
mod topology;

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Pool, Transaction};

use self::builder::BusBuilder;
use crate::broker::{Broker, SendError};
use crate::crash;
use crate::health::HealthThresholds;
use crate::inbox::bind::EventShape;
use crate::inbox::handler::States;
use crate::inbox::route::Routes;
use crate::inbox::settings::InboxSettings;
use crate::outbox::settings::OutboxSettings;
use crate::pulse::Pulse;
use crate::storage::{PoolInbox, Storage, StorageError};
use crate::telemetry::{Stats, Telemetry};
use crate::wake;

/// A service's part in the exchange of events: relays its outbox, fills its inbox, runs its handlers.
///
/// ```no_run
/// # async fn example(pool: sqlx::SqlitePool) -> Result<(), distributed_events::BusError> {
/// use distributed_events::{EventBus, LocalBroker, shutdown_signal};
///
/// EventBus::migrate(&pool).await?;
/// let bus = EventBus::builder(pool).broker(LocalBroker::new()).build()?;
/// bus.run_until(shutdown_signal()).await
/// # }
/// ```
pub struct EventBus<DB: Storage> {
    inner: Arc<Inner<DB>>,
}

pub(crate) struct Inner<DB: Storage> {
    store: Arc<PoolInbox<DB>>,
    lanes: Vec<Lane>,
    default_topic: String,
    outbox: OutboxSettings,
    inbox: InboxSettings,
    subscriptions: Vec<Served<DB>>,
    published: Vec<EventShape>,
    states: States,
    ignores_unknown: HashSet<String>,
    shutdown_deadline: Duration,
    listens: bool,
    received: Vec<Received>,
    has_outbox: bool,
    has_inbox: bool,
    telemetry: Telemetry,
    #[cfg(feature = "otel")]
    metrics_every: Duration,
    #[cfg(feature = "otel")]
    levels: std::sync::OnceLock<Arc<levels::Levels>>,
    pulse: Pulse,
    thresholds: HealthThresholds,
}

/// A subscription whose inbox is filled for another process to handle.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    lane: String,
    topic: String,
    subscription: String,
}

/// A lane and the broker that carries it.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    name: String,
    broker: Arc<dyn Broker>,
}

/// A subscription that the bus serves.
#[derive(Debug)]
pub(crate) struct Served<DB: Storage> {
    name: String,
    routes: Arc<Routes<DB>>,
}

impl<DB: Storage> Clone for EventBus<DB> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<DB: Storage> fmt::Debug for EventBus<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subscriptions: Vec<_> = self.inner.subscriptions.iter().map(|served| &served.name).collect();
        f.debug_struct("EventBus")
            .field("lanes", &self.inner.lanes)
            .field("subscriptions", &subscriptions)
            .finish_non_exhaustive()
    }
}

impl<DB: Storage> EventBus<DB> {
    /// Creates the library's tables in a database, or brings them up to date. Safe beside the application's own
    /// migrations, and when several processes do it at once.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn migrate(pool: &Pool<DB>) -> Result<(), StorageError> {
        DB::migrate(pool).await
    }

    /// Begins a bus on the service's pool. The bus opens a few connections of its own beside it, with the same options.
    pub fn builder(pool: Pool<DB>) -> BusBuilder<DB> {
        BusBuilder::new(pool)
    }

    /// Runs all loops until `shutdown` completes, then stops taking work, lets what is under way finish within the
    /// shutdown deadline, and gives the leases back. Dropping the future at any point loses nothing.
    ///
    /// # Errors
    /// Only at the start: when the database can't be reached for a minute, when the tables are missing or too new, when another instance has bound a lane to another
    /// broker, or when a broker says that it can't work. Trouble that comes later is reported and waited out.
    pub async fn run_until(&self, shutdown: impl Future<Output = ()> + Send) -> Result<(), BusError> {
        running::run(&self.inner, shutdown).await
    }

    /// Commits a transaction and wakes the outbox relay at once, also where another process relays, as long as this bus
    /// runs and the database carries such hints (PostgreSQL). Where this bus relays all its lanes itself, nobody else is
    /// told. Committing it directly is as safe; the relay finds the event a few milliseconds later where it is in this
    /// process, and at its next look where it is in another.
    ///
    /// # Errors
    /// As for `Transaction::commit`.
    pub async fn commit(&self, tx: Transaction<'_, DB>) -> Result<(), sqlx::Error> {
        crash::point("publish.before-commit");
        tx.commit().await?;
        crash::point("publish.after-commit");
        wake::committed();
        Ok(())
    }

    /// What this bus has done since it was built.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = self.inner.telemetry.stats();
        for broker in self.inner.brokers() {
            let met = broker.stats();
            stats.locks_lost += met.locks_lost;
            stats.reconnects += met.reconnects;
            stats.throttled += met.throttled;
        }
        stats
    }
}

impl<DB: Storage> Inner<DB> {
    /// Its brokers, each once, whatever lanes it carries.
    fn brokers(&self) -> impl Iterator<Item = &Arc<dyn Broker>> {
        let mut seen = HashSet::new();
        self.lanes.iter().map(|lane| &lane.broker).filter(move |broker| seen.insert(broker.identity()))
    }
}

/// Why a bus was not built, or did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// The configuration can't keep the promises: every problem is listed, each with what to do.
    #[error("the bus can't be built:{}", list(problems))]
    Configuration {
        /// The problems, a sentence each.
        problems: Vec<String>,
    },
    /// The database is not ready: the text says what to do, most often `EventBus::migrate(&pool)`.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A broker can't work: mend what it names.
    #[error("the broker of lane {lane} can't work: {reason}")]
    Broker {
        /// The lane.
        lane: String,
        /// Why.
        reason: SendError,
    },
    /// Another live instance relays this lane to another broker: stop it first, or give both the same.
    #[error(
        "lane {lane} is bound to broker {bound} by another live instance, and this bus has {own}: give both the same broker, or stop the other first"
    )]
    LaneBound {
        /// The lane.
        lane: String,
        /// The broker that the others have.
        bound: String,
        /// The broker that this bus has.
        own: String,
    },
}

fn list(problems: &[String]) -> String {
    problems.iter().map(|problem| format!("\n  - {problem}")).collect()
}
