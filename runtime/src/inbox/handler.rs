//! What a handler is: the user's code for one (event, subscription), declared by attribute, by value or by closure.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::Transaction;

use crate::context::EventContext;
use crate::error::HandlerError;
use crate::event::DistributedEvent;
use crate::retry::RetryPolicy;
use crate::storage::Storage;

/// A handler as a value: the macro-free way, for handlers that carry their own fields.
///
/// ```
/// # use distributed_events::{DistributedEvent, EventContext, Handler, HandlerError, HandlerSettings};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)] struct OrderPlaced;
/// # impl DistributedEvent for OrderPlaced { const NAME: &'static str = "order-placed"; }
/// use sqlx::{Sqlite, Transaction};
///
/// struct Billing { currency: String }
///
/// impl Handler<Sqlite> for Billing {
///     type Event = OrderPlaced;
///     fn settings(&self) -> HandlerSettings { HandlerSettings::new("billing") }
///     async fn handle(&self, event: OrderPlaced, tx: &mut Transaction<'_, Sqlite>, context: &EventContext)
///         -> Result<(), HandlerError> {
///         Ok(())
///     }
/// }
/// ```
pub trait Handler<DB: Storage>: Send + Sync + 'static {
    /// The event it handles.
    type Event: DistributedEvent;

    /// Its subscription and what is special about it.
    fn settings(&self) -> HandlerSettings;

    /// Handles one event inside the transaction that also marks it as processed.
    fn handle(
        &self,
        event: Self::Event,
        tx: &mut Transaction<'_, DB>,
        context: &EventContext,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send;
}

/// The settings of a handler; what is not set comes from the bus.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HandlerSettings {
    pub(crate) subscription: &'static str,
    pub(crate) retry: Option<RetryPolicy>,
    pub(crate) batch: Option<u32>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) unordered: bool,
}

impl HandlerSettings {
    /// A handler of a subscription, with the bus's defaults.
    #[must_use]
    pub const fn new(subscription: &'static str) -> Self {
        Self { subscription, retry: None, batch: None, timeout: None, unordered: false }
    }

    /// Its own retry policy.
    #[must_use]
    pub const fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = Some(policy);
        self
    }

    /// Up to so many consecutive events share one transaction (rule 12): 3 to 25 times faster. When one of them fails
    /// all are rolled back and run again one by one, so effects in memory and outside the database may happen twice.
    #[must_use]
    pub const fn batch(mut self, events: u32) -> Self {
        self.batch = Some(events);
        self
    }

    /// How long one run may take before it counts as failed and its connection is closed.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Accepts events with a session on a subscription without sessions, and so in any order (rule 7).
    #[must_use]
    pub const fn unordered(mut self) -> Self {
        self.unordered = true;
        self
    }

    /// The subscription.
    #[must_use]
    pub const fn subscription(&self) -> &'static str {
        self.subscription
    }
}

/// Something that the bus was given with `.state(value)`, handed to a handler that asks for it.
///
/// ```
/// use distributed_events::State;
///
/// let State(currency) = State("EUR");
/// assert_eq!(currency, "EUR");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State<T>(pub T);

/// What handlers may ask for by type.
#[derive(Clone, Default)]
pub struct States {
    values: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
}

impl States {
    pub(crate) fn insert<T: Send + Sync + 'static>(&mut self, value: T) {
        self.values.insert(TypeId::of::<T>(), Arc::new(value));
    }

    pub(crate) fn contains(&self, key: &StateKey) -> bool {
        self.values.contains_key(&key.id)
    }
}

impl fmt::Debug for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The values are the user's and may hold secrets.
        f.debug_struct("States").field("count", &self.values.len()).finish_non_exhaustive()
    }
}

/// The type of a state that a handler needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateKey {
    id: TypeId,
    pub(crate) name: &'static str,
}

impl StateKey {
    /// The key of a type.
    #[must_use]
    pub fn of<T: 'static>() -> Self {
        Self { id: TypeId::of::<T>(), name: type_name::<T>() }
    }
}

/// What surrounds one run of a handler.
#[derive(Clone, Copy, Debug)]
pub struct HandlerScope<'a> {
    pub(crate) context: &'a EventContext,
    pub(crate) states: &'a States,
}

impl<'a> HandlerScope<'a> {
    /// The event's context.
    #[must_use]
    pub const fn context(&self) -> &'a EventContext {
        self.context
    }

    /// A state by its type.
    ///
    /// # Errors
    /// When the bus was given none, which `build()` has checked before.
    pub fn state<T: Clone + Send + Sync + 'static>(&self) -> Result<State<T>, HandlerError> {
        self.states
            .values
            .get(&TypeId::of::<T>())
            .and_then(|value| value.downcast_ref::<T>())
            .map(|value| State(value.clone()))
            .ok_or_else(|| {
                format!("no state of type {}: give it to the bus with `.state(value)`", type_name::<T>())
                    .into()
            })
    }
}

/// Where a handler was declared, and how.
#[derive(Clone, Copy, Debug)]
pub struct Declaration {
    /// The function's name, or the type's.
    pub name: &'static str,
    /// The module it stands in.
    pub module: &'static str,
    /// The file.
    pub file: &'static str,
    /// The line.
    pub line: u32,
    /// Its settings.
    pub settings: HandlerSettings,
}

impl fmt::Display for Declaration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.module, self.name)?;
        if self.line > 0 {
            write!(f, " ({}:{})", self.file, self.line)?;
        }
        Ok(())
    }
}

/// What `#[event_handler]` implements on the type it adds beside the function.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler for a bus on `{DB}`",
    label = "not an `#[event_handler]` function for `{DB}`",
    note = "put `#[event_handler(subscription = \"...\")]` on the function; its `&mut Transaction<'_, DB>` must name the bus's own database, here `{DB}`"
)]
pub trait DeclaredHandler<DB: Storage>: 'static {
    /// The event it handles.
    type Event: DistributedEvent;

    /// Where and how it was declared.
    const DECLARATION: Declaration;

    /// The states that it needs.
    fn states() -> Vec<StateKey>;

    /// Runs the function.
    fn call<'a>(
        event: Self::Event,
        tx: &'a mut Transaction<'_, DB>,
        scope: HandlerScope<'a>,
    ) -> BoxFuture<'a, Result<(), HandlerError>>;
}

/// What `#[event_handler]` implements for a function that takes no transaction, and so fits every database.
pub trait PlainHandler: 'static {
    /// The event it handles.
    type Event: DistributedEvent;

    /// Where and how it was declared.
    const DECLARATION: Declaration;

    /// The states that it needs.
    fn states() -> Vec<StateKey>;

    /// Runs the function.
    fn call(event: Self::Event, scope: HandlerScope<'_>) -> BoxFuture<'_, Result<(), HandlerError>>;
}

/// The database of a transaction type, so that an alias of `Transaction<'_, DB>` can stand in a handler.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a transaction",
    label = "expected `&mut Transaction<'_, DB>`",
    note = "a handler takes, after its event and in any order: `&mut Transaction<'_, DB>`, `&EventContext`, `State<T>`"
)]
pub trait TransactionType {
    /// The database.
    type Database: Storage;
}

impl<DB: Storage> TransactionType for Transaction<'_, DB> {
    type Database = DB;
}

/// What a handler function may return.
#[diagnostic::on_unimplemented(
    message = "a handler can't return `{Self}`",
    label = "expected `Result<(), E>`, where `E` is an error, a string, or `HandlerError`",
    note = "return `Result<(), HandlerError>`; through `?` every error becomes \"try again\""
)]
pub trait HandlerOutcome {
    /// The same as a `HandlerError`.
    ///
    /// # Errors
    /// What the handler returned.
    fn into_outcome(self) -> Result<(), HandlerError>;
}

impl<E: Into<HandlerError>> HandlerOutcome for Result<(), E> {
    fn into_outcome(self) -> Result<(), HandlerError> {
        self.map_err(Into::into)
    }
}
