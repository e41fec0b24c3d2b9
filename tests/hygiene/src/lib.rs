//! Compiles, and passes clippy's pedantic lints, or the macros' expansions are not hygienic. There is nothing to run.

#![no_implicit_prelude]
#![forbid(unsafe_code)]
#![deny(
    warnings,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unused_qualifications,
    elided_lifetimes_in_paths,
    clippy::all,
    clippy::pedantic,
    clippy::nursery
)]

use ::renamed_events::{DistributedEvent, EventContext, HandlerError, State, event_handler};
use ::serde::{Deserialize, Serialize};

/// The user's own types under the names of the prelude's: an expansion that meant those would not compile.
pub mod own {
    /// Not the prelude's.
    #[derive(::core::fmt::Debug, ::core::clone::Clone)]
    pub struct Result;
    /// Not the prelude's.
    #[derive(::core::fmt::Debug, ::core::clone::Clone)]
    pub struct Option;
    /// Not the prelude's.
    #[derive(::core::fmt::Debug, ::core::clone::Clone)]
    pub struct Vec;
    /// Not the prelude's.
    #[derive(::core::fmt::Debug, ::core::clone::Clone)]
    pub struct String;
    /// Not the prelude's.
    #[derive(::core::fmt::Debug, ::core::clone::Clone)]
    pub struct Box;
    /// Not the prelude's.
    #[derive(::core::fmt::Debug, ::core::clone::Clone)]
    pub struct Some;
    /// Not the prelude's.
    #[derive(::core::fmt::Debug, ::core::clone::Clone)]
    pub struct Ok;
    /// Not the prelude's.
    #[derive(::core::fmt::Debug, ::core::clone::Clone)]
    pub struct Send;
}

#[allow(unused_imports, reason = "they are here to be in the way")]
use own::{Box, Ok, Option, Result, Send, Some, String, Vec};

/// An event with every key.
#[derive(::core::fmt::Debug, DistributedEvent, Serialize, Deserialize)]
#[event(
    crate = ::renamed_events,
    name = "ordering.order-placed",
    topic = "orders",
    session = order_id,
    version = 2,
    upcast_from = OldOrderPlaced,
    alias = "order.placed",
    lane = "critical",
    max_size = 1_000
)]
pub struct OrderPlaced {
    /// The order.
    pub order_id: i64,
}

/// An older event.
#[derive(::core::fmt::Debug, DistributedEvent, Serialize, Deserialize)]
#[event(crate = "::renamed_events", name = "ordering.order-placed")]
pub struct OldOrderPlaced(i64);

impl ::core::convert::From<OldOrderPlaced> for OrderPlaced {
    fn from(old: OldOrderPlaced) -> Self {
        Self { order_id: old.0 }
    }
}

/// An event of many shapes.
#[derive(::core::fmt::Debug, DistributedEvent, Serialize, Deserialize)]
#[event(crate = ::renamed_events, session = self::session_of)]
pub enum Changed {
    /// One.
    Placed {
        /// The order.
        order_id: i64,
    },
    /// Another.
    Closed,
}

const fn session_of(event: &Changed) -> ::core::option::Option<i64> {
    match event {
        Changed::Placed { order_id } => ::core::option::Option::Some(*order_id),
        Changed::Closed => ::core::option::Option::None,
    }
}

/// A handler with every key and argument.
///
/// # Errors
/// Never.
#[event_handler(
    crate = ::renamed_events,
    subscription = "billing",
    retry(attempts = 3, initial = "1s", max = "1m", multiplier = 2.0, jitter = 0.5),
    batch = 10,
    timeout = "4s",
    unordered
)]
pub async fn charge(
    order: &OrderPlaced,
    State(prices): State<i64>,
    tx: &mut ::sqlx::Transaction<'_, ::sqlx::Sqlite>,
    context: &EventContext,
) -> ::core::result::Result<(), HandlerError> {
    let _unused = (order.order_id, prices, tx, context.id());
    ::core::future::ready(()).await;
    ::core::result::Result::Ok(())
}

/// A handler with nothing but its event.
///
/// # Errors
/// Never.
#[event_handler(crate = ::renamed_events, subscription = "audit")]
pub async fn audit(event: Changed) -> ::core::result::Result<(), HandlerError> {
    ::core::future::ready(()).await;
    match event {
        Changed::Placed { .. } | Changed::Closed => ::core::result::Result::Ok(()),
    }
}

/// Registers both.
pub fn register(
    builder: ::renamed_events::BusBuilder<::sqlx::Sqlite>,
) -> ::renamed_events::BusBuilder<::sqlx::Sqlite> {
    builder.handlers(::renamed_events::handlers![charge, audit])
}
