//! The quickstart on SQLite: a file for each service.

use std::path::Path;

use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

use crate::Failure;

/// The services are written once; each database compiles them with its own transactions.
pub(crate) type Db = sqlx::Sqlite;

#[path = "billing.rs"]
mod billing;
#[path = "exchange.rs"]
mod exchange;
#[path = "ordering.rs"]
mod ordering;
#[path = "report.rs"]
mod report;
#[cfg(test)]
#[path = "tests.rs"]
mod tests;

pub(crate) async fn run(directory: &Path, input: &str) -> Result<bool, Failure> {
    std::fs::create_dir_all(directory)
        .map_err(|error| format!("the directory {} can't be made: {error}", directory.display()))?;
    let ordering_db = open(&directory.join("ordering.db")).await?;
    let billing_db = open(&directory.join("billing.db")).await?;
    exchange::run(ordering_db, billing_db, input).await
}

/// WAL and FULL: what is committed survives a power cut.
async fn open(path: &Path) -> Result<SqlitePool, Failure> {
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
