//! Reliable events between services.

pub mod envelope;
pub mod context;
#[cfg(feature = "__crash-points")]
#[doc(hidden)]
pub mod crash;
#[cfg(not(feature = "__crash-points"))]
mod crash;
mod error;
mod lease;
mod pace;
pub mod retry;
pub mod telemetry;
mod wake;
mod watermark;
pub mod shutdown;
pub mod storage;
pub mod broker;
pub mod outbox;
pub mod event;
pub mod inbox;
pub mod bus;
pub mod admin;

pub use context::{Correlation, EventContext};
pub use envelope::{EventId, Envelope, Headers};
pub use error::HandlerError;
pub use event::{DecodeError, DistributedEvent};
pub use broker::Broker;
#[cfg(feature = "local")]
pub use broker::local::LocalBroker;
pub use outbox::relay::OutboxRelay;
pub use outbox::settings::OutboxSettings;
pub use telemetry::{Incident, IncidentKind, Stats, Telemetry};
pub use bus::builder::BusBuilder;
pub use bus::{BusError, EventBus};
pub use inbox::processor::InboxProcessor;
pub use inbox::relay::InboxRelay;
pub use inbox::settings::InboxSettings;
pub use storage::{Storage, StorageError};
pub use inbox::handler::{Handler, HandlerSettings, State};
pub use outbox::publish::{PublishError, PublishOptions};
pub use retry::RetryPolicy;
pub use shutdown::{Shutdown, ShutdownHandle, shutdown_signal};
#[cfg(feature = "macros")]
pub use distributed_events_macros::{DistributedEvent, event_handler};

/// What the macros' expansions name. Not a public API: it may change in any release.
#[doc(hidden)]
pub mod __private {
    pub use crate::error::HandlerError;
    pub use crate::event::{DecodeError, DistributedEvent, from_json};
    pub use crate::inbox::handler::{
        Declaration, DeclaredHandler, HandlerOutcome, HandlerScope, HandlerSettings, PlainHandler, StateKey,
        TransactionType,
    };
    pub use crate::retry::RetryPolicy;
    pub use crate::storage::Storage;
    pub use ::futures_util::future::BoxFuture;
    pub use ::sqlx::Transaction;
    #[cfg(feature = "macros")]
    pub use {crate::inbox::discovery::HandlerRecord, ::inventory};
}
