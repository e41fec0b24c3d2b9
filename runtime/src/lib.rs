//! Reliable events between services: the transactional outbox and inbox.
//!
//! A service writes its business rows and its events in **one database transaction**. Every committed event reaches every
//! subscribing service, and its handlers' effects in that service's database happen **exactly once**, in order within a
//! session, whatever crashes, restarts or arrives twice in between.
//!
//! ```standalone_crate
//! use distributed_events::{DistributedEvent, EventBus, HandlerError, LocalBroker, event_handler};
//! use serde::{Deserialize, Serialize};
//! use sqlx::{Sqlite, SqlitePool, Transaction};
//!
//! #[derive(DistributedEvent, Serialize, Deserialize)]
//! #[event(name = "ordering.order-placed", topic = "orders", session = order_id)]
//! pub struct OrderPlaced { pub order_id: i64, pub total_cents: i64 }
//!
//! #[event_handler(subscription = "billing")]
//! async fn charge_card(order: OrderPlaced, tx: &mut Transaction<'_, Sqlite>) -> Result<(), HandlerError> {
//!     sqlx::query("INSERT INTO charges (order_id) VALUES (?)").bind(order.order_id).execute(&mut **tx).await?;
//!     Ok(())
//! }
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = SqlitePool::connect("sqlite::memory:").await?;
//! sqlx::query("CREATE TABLE charges (order_id INTEGER)").execute(&pool).await?;
//! EventBus::migrate(&pool).await?;
//! let bus = EventBus::builder(pool.clone()).broker(LocalBroker::new()).handler::<charge_card>().build()?;
//!
//! let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
//! // ... business rows, in the same transaction ...
//! OrderPlaced { order_id: 1, total_cents: 4200 }.publish(&mut tx).await?;
//! bus.commit(tx).await?;
//!
//! let handled = async {
//!     while sqlx::query("SELECT 1 FROM charges").fetch_optional(&pool).await.unwrap().is_none() {
//!         tokio::time::sleep(std::time::Duration::from_millis(5)).await;
//!     }
//! };
//! bus.run_until(handled).await?; // in a service: `shutdown_signal()`
//! # Ok(()) }
//! ```
//!
//! # The way of an event
//!
//! [`event`] → [`outbox::publish`] → *outbox table* → [`outbox::relay`] → [`broker`] → [`inbox::relay`] → *inbox table* →
//! [`inbox::processor`] → [`inbox::handler`]
//!
//! Modules are declared in this order, from the words they share to the [`bus`] that assembles them; imports go up this
//! list only.
//!
//! # What is promised, and what is not
//!
//! * An event of a rolled-back transaction is never seen.
//! * Every committed event reaches every subscription at least once on the wire, and its handlers' effects **in the
//!   service's own database** happen exactly once. Effects elsewhere, an HTTP call for example, may happen again.
//! * Events of one session are handled in the order in which their transactions were committed. Concurrent transactions
//!   have no order; requeued and delayed events step out of it.
//! * Nothing is dropped in silence: what can't be processed ends as a `dead` row that keeps its bytes and its reason, and
//!   can be requeued with [`admin`].
//! * A transaction once committed is assumed to survive: that is the database's part.
//!
//! Step by step, with the tests that show it: [`manual::guarantees`]. What a service has to be allowed in its database, and no
//! more: [`manual::rights`]. What it tells of itself: [`manual::telemetry`]. How it is watched and mended:
//! [`manual::operating`]. What bounds its speed, and the knobs: [`manual::performance`]. How it is tested: [`manual::testing`].
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `macros` | yes | `#[derive(DistributedEvent)]`, `#[event_handler]`, and link-time records of handlers |
//! | `local` | yes | [`LocalBroker`], the embedded broker |
//! | `sqlite` | no | storage on SQLite |
//! | `postgres` | no | storage on PostgreSQL |
//! | `mysql` | no | storage on MariaDB and MySQL |
//! | `service-bus` | no | `ServiceBus`, the broker over Azure Service Bus |
//! | `service-bus-http` | no | `ServiceBusHttp`, the same over HTTPS |
//! | `entra` | no | the same with an identity of Microsoft Entra ID |
//! | `otel` | no | traces and metrics for OpenTelemetry: [`manual::telemetry`] |
//! | `cli` | no | the binary `distributed-events`: operates the tables of any application, and relays them |
//! | `cli-otel` | no | the same, whose relay exports traces and metrics by OTLP |
//! | `cli-entra` | no | the same, whose relay may come in by an identity of Microsoft Entra ID |
//! | `dashboard` | no | the dashboard: an axum router that any service can mount, and a command of that binary |
//! | `testing` | no | what tests need: with `sqlite`, a bus in simulated time and simulated troubles for your own handlers; random numbers, ids and hints by a seed |
#![cfg_attr(docsrs, feature(doc_cfg))]

// Words that everything shares: pure, no rows, no loops.
pub mod envelope;
mod trace_context;
pub mod context;
mod error;
pub mod retry;
mod chance;
mod simulated;
mod pace;
mod watermark;
mod lease;
pub mod shutdown;
pub mod telemetry;
mod pulse;
pub mod health;
pub mod topology;
mod wake;
#[cfg(feature = "__crash-points")]
#[doc(hidden)]
pub mod crash;
#[cfg(not(feature = "__crash-points"))]
mod crash;

// The two ports, with their adapters.
pub mod storage;
pub mod broker;

// The way of an event.
pub mod outbox;
mod session;
pub mod event;
pub mod inbox;

// What assembles the loops, and what operators ask.
pub mod bus;
pub mod admin;
#[cfg(feature = "dashboard")]
pub mod dashboard;

pub mod manual;
#[cfg(feature = "testing")]
pub mod testing;

pub use broker::Broker;
#[cfg(feature = "local")]
pub use broker::local::LocalBroker;
#[cfg(any(feature = "service-bus", feature = "service-bus-http"))]
pub use broker::namespace::{ServiceBusConfigError, SharedKey, TopologyError};
#[cfg(feature = "service-bus")]
pub use broker::service_bus::ServiceBus;
#[cfg(feature = "service-bus-http")]
pub use broker::service_bus_http::ServiceBusHttp;
pub use bus::builder::BusBuilder;
pub use bus::{BusError, EventBus};
pub use context::{Correlation, EventContext};
pub use envelope::{Envelope, EventId, Headers};
pub use error::HandlerError;
pub use event::{DecodeError, DistributedEvent};
pub use health::{Health, HealthThresholds};
pub use inbox::handler::{Handler, HandlerSettings, State};
pub use inbox::processor::InboxProcessor;
pub use inbox::relay::InboxRelay;
pub use inbox::settings::InboxSettings;
pub use outbox::publish::{PublishError, PublishOptions};
pub use outbox::relay::OutboxRelay;
pub use outbox::settings::OutboxSettings;
pub use retry::RetryPolicy;
pub use session::SessionKey;
pub use shutdown::{Shutdown, ShutdownHandle, shutdown_signal};
pub use storage::{Storage, StorageError};
pub use telemetry::{Incident, IncidentKind, Stats, Telemetry};

#[cfg(feature = "macros")]
pub use distributed_events_macros::{DistributedEvent, event_handler};

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;
