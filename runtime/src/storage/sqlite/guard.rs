//! The handler's transaction and the savepoint that shows whether it is still there (rules 8 and 9).

use sqlx::{Sqlite, SqliteConnection, Transaction};

use super::pool;
use crate::storage::{GuardOutcome, StorageError};

/// SQLite has no timeout that would end a frozen process's transaction (rule 10): the lock dies with the process.
pub(super) async fn begin(conn: &mut SqliteConnection) -> Result<Transaction<'_, Sqlite>, StorageError> {
    let mut tx = pool::begin(conn).await?;
    sqlx::query("SAVEPOINT distributed_events_guard").execute(&mut *tx).await?;
    Ok(tx)
}

/// A transaction that ended took the savepoint with it. One that lives is whole: SQLite undoes a failed statement and
/// nothing else, or the whole transaction.
pub(super) async fn close(conn: &mut SqliteConnection) -> Result<GuardOutcome, StorageError> {
    match sqlx::query("RELEASE distributed_events_guard").execute(conn).await {
        Ok(_) => Ok(GuardOutcome::Whole),
        Err(sqlx::Error::Database(error)) if error.message().starts_with("no such savepoint") => {
            Ok(GuardOutcome::Ended)
        }
        Err(error) => Err(error.into()),
    }
}
