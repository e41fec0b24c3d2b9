//! What the macros' expansions name, so that they depend on nothing in the user's crate. Not a public API.

pub use std::boxed::Box;
pub use std::string::String;
pub use std::vec::Vec;

pub use futures_util::future::BoxFuture;
pub use serde::Serialize;
pub use serde::de::DeserializeOwned;
pub use sqlx::Transaction;

pub use crate::inbox::handler::{
    Declaration, DeclaredHandler, HandlerOutcome, HandlerScope, PlainHandler, StateKey, TransactionType,
};
pub use crate::session::SessionKey;
pub use crate::storage::Storage;
#[cfg(feature = "macros")]
pub use {crate::inbox::discovery::HandlerRecord, inventory};

use crate::error::HandlerError;
use crate::event::{DecodeError, DistributedEvent, from_json};
use crate::inbox::handler::{HandlerSettings, State};

/// Boxes a handler's future, which has to be `Send`: a handler may be continued on another thread.
pub fn boxed<'a, F>(handler_must_be_send: F) -> BoxFuture<'a, Result<(), HandlerError>>
where
    F: Future<Output = Result<(), HandlerError>> + Send + 'a,
{
    Box::pin(handler_must_be_send)
}

/// Decodes an event, or an older one that it is then converted from.
///
/// # Errors
/// As for [`DistributedEvent::decode`].
pub fn decode_or_upcast<E, Old>(version: u32, body: &[u8]) -> Result<E, DecodeError>
where
    E: DistributedEvent + UpcastFrom<Old>,
    Old: DistributedEvent,
{
    if version == E::VERSION {
        from_json(body)
    } else if version <= Old::VERSION {
        Old::decode(version, body).map(E::upcast).map_err(|error| match error {
            DecodeError::Version { .. } => DecodeError::version::<E>(version),
            other => other,
        })
    } else {
        Err(DecodeError::version::<E>(version))
    }
}

/// What `upcast_from` needs: a conversion from the older event.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be upcast from `{Old}`",
    label = "no conversion from this type",
    note = "write `impl From<{Old}> for {Self}`"
)]
pub trait UpcastFrom<Old> {
    /// The newer event.
    fn upcast(old: Old) -> Self;
}

#[diagnostic::do_not_recommend]
impl<E: From<Old>, Old> UpcastFrom<Old> for E {
    fn upcast(old: Old) -> Self {
        Self::from(old)
    }
}

/// Checks when the program is compiled that an event is upcast from an older version of itself.
pub const fn check_upcast<E: DistributedEvent, Old: DistributedEvent>() {
    assert!(
        same(E::NAME.as_bytes(), Old::NAME.as_bytes()),
        "`upcast_from` names a type with another event name: give both types the same `#[event(name = \"...\")]`"
    );
    assert!(
        Old::VERSION < E::VERSION,
        "`upcast_from` names a type whose version is not lower: give the new type a higher `#[event(version = ...)]`"
    );
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut index = 0;
    while index < a.len() {
        if a[index] != b[index] {
            return false;
        }
        index += 1;
    }
    true
}

/// The state in an argument `State<T>`, also under an alias.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not `distributed_events::State<T>` with a `T` that can be cloned and shared",
    label = "expected `State<T>`, where `T: Clone + Send + Sync + 'static`",
    note = "put the value into an `Arc` where it can't be cloned"
)]
pub trait StateType: Sized {
    /// What the bus must have been given.
    fn key() -> StateKey;

    /// The value.
    ///
    /// # Errors
    /// When the bus was given none.
    fn of(scope: &HandlerScope<'_>) -> Result<Self, HandlerError>;
}

impl<T: Clone + Send + Sync + 'static> StateType for State<T> {
    fn key() -> StateKey {
        StateKey::of::<T>()
    }

    fn of(scope: &HandlerScope<'_>) -> Result<Self, HandlerError> {
        scope.state()
    }
}

/// The event of a handler whose attribute has a mistake.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct NoEvent;

impl DistributedEvent for NoEvent {
    const NAME: &'static str = "none";
}

/// The declaration of a handler whose attribute has a mistake.
pub const NO_DECLARATION: Declaration =
    Declaration { name: "", module: "", file: "", line: 0, settings: HandlerSettings::new("none") };
