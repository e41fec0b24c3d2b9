//! Handlers as a bus holds them: bound to its database, their events' types erased.

use std::any::{TypeId, type_name};
use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use sqlx::Transaction;

#[cfg(feature = "macros")]
use super::handler::PlainHandler;
use super::handler::{Declaration, DeclaredHandler, Handler, HandlerScope, HandlerSettings, StateKey};
use crate::context::EventContext;
use crate::error::HandlerError;
use crate::event::{DecodeError, DistributedEvent};
use crate::storage::Storage;

/// What a bus must know of a handled event's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EventShape {
    pub(crate) name: &'static str,
    pub(crate) aliases: &'static [&'static str],
    pub(crate) version: u32,
    pub(crate) topic: Option<&'static str>,
    pub(crate) lane: &'static str,
    pub(crate) has_session: bool,
}

impl EventShape {
    pub(crate) const fn of<E: DistributedEvent>() -> Self {
        Self {
            name: E::NAME,
            aliases: E::ALIASES,
            version: E::VERSION,
            topic: E::TOPIC,
            lane: E::LANE,
            has_session: E::HAS_SESSION,
        }
    }

    /// Its name and aliases.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }
}

type Run<DB> = dyn for<'a, 'c> Fn(
        u32,
        &'a [u8],
        &'a mut Transaction<'c, DB>,
        HandlerScope<'a>,
    ) -> BoxFuture<'a, Result<(), HandlerError>>
    + Send
    + Sync;

/// A handler bound to a bus's database, its event's type erased.
pub(crate) struct BoundHandler<DB: Storage> {
    pub(crate) key: TypeId,
    pub(crate) declaration: Declaration,
    pub(crate) event: EventShape,
    pub(crate) states: Vec<StateKey>,
    run: Arc<Run<DB>>,
}

impl<DB: Storage> fmt::Debug for BoundHandler<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundHandler")
            .field("declaration", &self.declaration)
            .field("event", &self.event)
            .finish()
    }
}

impl<DB: Storage> BoundHandler<DB> {
    /// Decodes the body and runs the handler; a body that can't be decoded is never tried again.
    pub(crate) fn run<'a>(
        &self,
        version: u32,
        body: &'a [u8],
        tx: &'a mut Transaction<'_, DB>,
        scope: HandlerScope<'a>,
    ) -> BoxFuture<'a, Result<(), HandlerError>> {
        (self.run)(version, body, tx, scope)
    }

    /// Binds a function declared with `#[event_handler]`.
    pub(crate) fn declared<H: DeclaredHandler<DB>>() -> Self {
        Self {
            key: TypeId::of::<H>(),
            declaration: H::DECLARATION,
            event: EventShape::of::<H::Event>(),
            states: H::states(),
            run: Arc::new(|version, body, tx, scope| match H::Event::decode(version, body) {
                Ok(event) => H::call(event, tx, scope),
                Err(error) => undecodable(error),
            }),
        }
    }

    /// Binds a function declared with `#[event_handler]` that takes no transaction.
    #[cfg(feature = "macros")]
    pub(crate) fn from_plain(plain: PlainBinding) -> Self {
        Self {
            key: (plain.key)(),
            declaration: plain.declaration,
            event: plain.event,
            states: (plain.states)(),
            run: Arc::new(move |version, body, _tx, scope| (plain.run)(version, body, scope)),
        }
    }

    /// Binds a handler value.
    pub(crate) fn value<H: Handler<DB>>(handler: H) -> Self {
        let declaration = Declaration {
            name: type_name::<H>(),
            module: "",
            file: "",
            line: 0,
            settings: handler.settings(),
        };
        let handler = Arc::new(handler);
        Self {
            key: TypeId::of::<H>(),
            declaration,
            event: EventShape::of::<H::Event>(),
            states: Vec::new(),
            run: Arc::new(move |version, body, tx, scope| match H::Event::decode(version, body) {
                Ok(event) => {
                    let handler = Arc::clone(&handler);
                    Box::pin(async move { handler.handle(event, tx, scope.context).await })
                }
                Err(error) => undecodable(error),
            }),
        }
    }

    /// Binds a closure.
    pub(crate) fn closure<E, F>(settings: HandlerSettings, closure: F) -> Self
    where
        E: DistributedEvent,
        F: for<'a, 'c> Fn(
                E,
                &'a mut Transaction<'c, DB>,
                &'a EventContext,
            ) -> BoxFuture<'a, Result<(), HandlerError>>
            + Send
            + Sync
            + 'static,
    {
        let declaration = Declaration { name: type_name::<F>(), module: "", file: "", line: 0, settings };
        Self {
            key: TypeId::of::<F>(),
            declaration,
            event: EventShape::of::<E>(),
            states: Vec::new(),
            run: Arc::new(move |version, body, tx, scope| match E::decode(version, body) {
                Ok(event) => closure(event, tx, scope.context),
                Err(error) => undecodable(error),
            }),
        }
    }
}

fn undecodable<'a>(error: DecodeError) -> BoxFuture<'a, Result<(), HandlerError>> {
    Box::pin(std::future::ready(Err(HandlerError::dead_letter(error))))
}

#[cfg(feature = "macros")]
type RunPlain = for<'a> fn(u32, &'a [u8], HandlerScope<'a>) -> BoxFuture<'a, Result<(), HandlerError>>;

/// A handler without a transaction, its event's type erased and its database still open.
#[cfg(feature = "macros")]
#[derive(Clone, Copy)]
pub(crate) struct PlainBinding {
    key: fn() -> TypeId,
    declaration: Declaration,
    event: EventShape,
    states: fn() -> Vec<StateKey>,
    run: RunPlain,
}

#[cfg(feature = "macros")]
impl PlainBinding {
    pub(crate) fn of<H: PlainHandler>() -> Self {
        Self {
            key: TypeId::of::<H>,
            declaration: H::DECLARATION,
            event: EventShape::of::<H::Event>(),
            states: H::states,
            run: |version, body, scope| match H::Event::decode(version, body) {
                Ok(event) => H::call(event, scope),
                Err(error) => undecodable(error),
            },
        }
    }
}
