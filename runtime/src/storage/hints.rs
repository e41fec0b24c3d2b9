//! Waking other processes on the same database.

use std::future::Future;

use sqlx::{Database, Pool};
use uuid::Uuid;

use super::StorageError;
pub use crate::wake::Hint;

/// Hints to other processes, where a database carries any: elsewhere they find by polling what there is.
///
/// Never inside a transaction of the user's: PostgreSQL, for one, lets only one transaction at a time commit a NOTIFY.
pub trait HintStorage: Database {
    /// Whether the database carries hints at all.
    const CARRIES_HINTS: bool = false;

    /// Tells whoever listens, in a transaction of its own that need not survive a crash.
    fn notify(
        conn: &mut Self::Connection,
        from: Uuid,
        hints: &[Hint],
    ) -> impl Future<Output = Result<(), StorageError>> + Send {
        let _carried_nowhere = (conn, from, hints);
        std::future::ready(Ok(()))
    }

    /// Listens on a connection of its own, and calls `heard` with the hints of everybody but `me`, until the connection is
    /// lost; calls it with every hint at the beginning, because what was said before is not heard.
    fn listen(
        pool: &Pool<Self>,
        me: Uuid,
        heard: impl Fn(Hint) + Send + Sync,
    ) -> impl Future<Output = Result<(), StorageError>> + Send {
        let _never_called = (pool, me, heard);
        std::future::pending()
    }
}
