//! The handler's transaction and the savepoint that shows whether it is still there (rules 8 and 9).

use std::time::{Duration, Instant};

use sqlx::{Sqlite, SqliteConnection, Transaction};

use super::pool;
use crate::storage::{GuardOutcome, StorageError};

/// How many steps of a statement pass between two looks at the clock: far less than a millisecond's worth.
const STEPS: i32 = 10_000;

/// What a statement may take beyond the handler's timeout, so that the handler is seen to be late before its statement
/// fails for it.
const MARGIN: Duration = Duration::from_millis(100);

/// SQLite has no timeout that would end a frozen process's transaction (rule 10): the lock dies with the process. An
/// endless statement would go on after its handler was cut off, in sqlx's thread and with the write lock, so it is ended.
pub(super) async fn begin(
    conn: &mut SqliteConnection,
    timeout: Duration,
) -> Result<Transaction<'_, Sqlite>, StorageError> {
    let mut tx = pool::begin(conn).await?;
    if let Some(deadline) =
        timeout.checked_add(MARGIN).and_then(|allowed| Instant::now().checked_add(allowed))
    {
        tx.lock_handle().await?.set_progress_handler(STEPS, move || Instant::now() < deadline);
    }
    sqlx::query("SAVEPOINT distributed_events_guard").execute(&mut *tx).await?;
    Ok(tx)
}

/// A transaction that ended took the savepoint with it. One that lives is whole: SQLite undoes a failed statement and
/// nothing else, or the whole transaction.
pub(super) async fn close(conn: &mut SqliteConnection) -> Result<GuardOutcome, StorageError> {
    // What comes after on this connection has all the time it needs.
    conn.lock_handle().await?.remove_progress_handler();
    match sqlx::query("RELEASE distributed_events_guard").execute(conn).await {
        Ok(_) => Ok(GuardOutcome::Whole),
        Err(sqlx::Error::Database(error)) if error.message().starts_with("no such savepoint") => {
            Ok(GuardOutcome::Ended)
        }
        Err(error) => Err(error.into()),
    }
}
