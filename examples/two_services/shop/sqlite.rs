//! Services on SQLite: a file for each.

use std::path::Path;

use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

use crate::Failure;

/// Ordering is written once; each database compiles it with its own transactions.
pub(crate) type Db = sqlx::Sqlite;

#[path = "audit.rs"]
mod audit;
#[path = "commands.rs"]
pub(crate) mod commands;
#[path = "ordering.rs"]
pub(crate) mod ordering;
#[cfg(test)]
#[path = "tests.rs"]
mod tests;
#[path = "way.rs"]
pub(crate) mod way;

/// An event's id as text.
pub(crate) const ID: &str = "lower(hex(id))";

/// WAL and FULL: what is committed survives a power cut.
pub(crate) async fn open(path: &Path) -> Result<SqlitePool, Failure> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    SqlitePool::connect_with(options)
        .await
        .map_err(|error| format!("the database {} can't be opened: {error}", path.display()).into())
}

/// SQLite takes the numbered placeholders as they are.
pub(crate) const fn sql(text: &'static str) -> &'static str {
    text
}
