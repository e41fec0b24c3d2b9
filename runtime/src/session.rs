//! What can be a session id.

use std::borrow::Cow;

use uuid::Uuid;

/// A value that `#[event(session = ...)]` can turn into a session id. Implement it for your own id types.
///
/// ```
/// use distributed_events::SessionKey;
///
/// struct OrderId(u64);
///
/// impl SessionKey for OrderId {
///     fn session_id(&self) -> Option<String> { Some(format!("order-{}", self.0)) }
/// }
/// assert_eq!(Some(OrderId(7)).session_id().as_deref(), Some("order-7"));
/// assert_eq!(None::<OrderId>.session_id(), None);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be a session id",
    label = "not text, a whole number, a `Uuid`, or an `Option` of these",
    note = "name another field, write a function and name it (`session = self::session_of`), or implement `SessionKey` for `{Self}`"
)]
pub trait SessionKey {
    /// The session id, or `None` for an event without a session.
    fn session_id(&self) -> Option<String>;
}

macro_rules! shown {
    ($($type:ty),*) => {
        $(impl SessionKey for $type {
            fn session_id(&self) -> Option<String> {
                Some(self.to_string())
            }
        })*
    };
}

shown!(
    str,
    String,
    char,
    bool,
    u8,
    u16,
    u32,
    u64,
    u128,
    usize,
    i8,
    i16,
    i32,
    i64,
    i128,
    isize,
    Uuid,
    Cow<'_, str>
);

impl<T: SessionKey> SessionKey for Option<T> {
    fn session_id(&self) -> Option<String> {
        self.as_ref().and_then(T::session_id)
    }
}

impl<T: SessionKey + ?Sized> SessionKey for &T {
    fn session_id(&self) -> Option<String> {
        T::session_id(self)
    }
}

impl<T: SessionKey + ?Sized> SessionKey for Box<T> {
    fn session_id(&self) -> Option<String> {
        T::session_id(self)
    }
}

impl<T: SessionKey + ?Sized> SessionKey for std::sync::Arc<T> {
    fn session_id(&self) -> Option<String> {
        T::session_id(self)
    }
}
