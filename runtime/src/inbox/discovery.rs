//! Link-time records of the functions declared with `#[event_handler]`: what is linked in can be found, and a handler
//! that was declared but never registered can be told.

use std::any::{Any, TypeId, type_name};
use std::fmt;

use super::bind::BoundHandler;
use super::handler::{Declaration, DeclaredHandler, PlainHandler};
use crate::event::DistributedEvent;
use crate::storage::Storage;

/// The record that `#[event_handler]` leaves.
#[derive(Clone, Copy)]
pub struct HandlerRecord {
    key: fn() -> TypeId,
    pub(crate) declaration: Declaration,
    pub(crate) event: &'static str,
    database: Option<fn() -> &'static str>,
    bind: Bind,
}

#[derive(Clone, Copy)]
enum Bind {
    /// Gives a `BoundHandler<DB>` of its own database.
    Database(fn() -> Box<dyn Any>),
    /// Fits every database.
    Plain(fn() -> super::bind::PlainBinding),
}

impl fmt::Debug for HandlerRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerRecord").field("declaration", &self.declaration).finish_non_exhaustive()
    }
}

impl HandlerRecord {
    /// The record of a handler on one database.
    #[must_use]
    pub const fn declared<H: DeclaredHandler<DB>, DB: Storage>() -> Self {
        Self {
            key: TypeId::of::<H>,
            declaration: H::DECLARATION,
            event: <H::Event as DistributedEvent>::NAME,
            database: Some(type_name::<DB>),
            bind: Bind::Database(|| Box::new(BoundHandler::<DB>::declared::<H>())),
        }
    }

    /// The record of a handler without a transaction.
    #[must_use]
    pub const fn plain<H: PlainHandler>() -> Self {
        Self {
            key: TypeId::of::<H>,
            declaration: H::DECLARATION,
            event: <H::Event as DistributedEvent>::NAME,
            database: None,
            bind: Bind::Plain(super::bind::PlainBinding::of::<H>),
        }
    }

    /// The identity of the handler's type.
    pub(crate) fn key(&self) -> TypeId {
        (self.key)()
    }

    /// The handler on this database, if it fits it.
    pub(crate) fn bind<DB: Storage>(&self) -> Option<BoundHandler<DB>> {
        match self.bind {
            Bind::Database(bind) => bind().downcast().ok().map(|bound| *bound),
            Bind::Plain(plain) => Some(BoundHandler::from_plain(plain())),
        }
    }

    /// The database it is declared for, if it is for one only.
    pub(crate) fn database(&self) -> Option<&'static str> {
        self.database.map(|name| name())
    }
}

inventory::collect!(HandlerRecord);

/// All records of the program, ordered by module and line.
pub(crate) fn records() -> Vec<&'static HandlerRecord> {
    let mut records: Vec<_> = inventory::iter::<HandlerRecord>().collect();
    records
        .sort_by_key(|record| (record.declaration.module, record.declaration.line, record.declaration.name));
    records
}
