//! The storage conformance suite on SQLite, and what only SQLite can do wrong.

use std::time::Duration;

use distributed_events::storage::{Storage, StorageError, Table, Trouble};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, Pool, Sqlite, SqliteConnection};
use tempfile::TempDir;
use tests::conformance::Fixture;
use uuid::Uuid;

#[path = "storage_sqlite/settings.rs"]
mod settings;
#[path = "storage_sqlite/transactions.rs"]
mod transactions;
#[path = "storage_sqlite/trouble.rs"]
mod trouble;

/// A file of its own.
pub(crate) struct File {
    pool: Pool<Sqlite>,
    folder: TempDir,
}

impl File {
    pub(crate) fn options(&self) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(self.folder.path().join("test.db"))
            .busy_timeout(Duration::from_secs(20))
    }

    /// A pool of one connection with other options.
    pub(crate) async fn pool_with(&self, options: SqliteConnectOptions) -> Pool<Sqlite> {
        SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap()
    }
}

const NOW: &str = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";

impl Fixture for File {
    type DB = Sqlite;

    async fn empty() -> Self {
        let folder = TempDir::new().unwrap();
        let options = SqliteConnectOptions::new()
            .filename(folder.path().join("test.db"))
            .create_if_missing(true)
            .busy_timeout(Duration::from_secs(20));
        let pool = SqlitePoolOptions::new().max_connections(4).connect_with(options).await.unwrap();
        Self { pool, folder }
    }

    fn pool(&self) -> &Pool<Sqlite> {
        &self.pool
    }

    async fn another_pool(&self) -> Pool<Sqlite> {
        self.pool_with(self.options()).await
    }

    async fn run(conn: &mut SqliteConnection, sql: &str) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(conn).await.map(drop)
    }

    async fn numbers(conn: &mut SqliteConnection, sql: &str) -> Vec<i64> {
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(conn).await.unwrap()
    }

    async fn age(&self, table: Table, by: Duration) {
        let by = by.as_millis();
        let (table, own) = match table {
            Table::Outbox => ("outbox", "deliver_at"),
            Table::Inbox => ("inbox", "received_at"),
        };
        let columns = ["created_at", "processed_at", "expires_at", "next_attempt_at", own];
        let shifts: Vec<_> = columns.iter().map(|column| format!("{column} = {column} - {by}")).collect();
        self.execute(&format!("UPDATE {table} SET {}", shifts.join(", "))).await;
    }

    async fn set_lease_until(&self, name: &str, from_now: i64) {
        self.execute(&format!(
            "UPDATE distributed_events_leases SET until = {NOW} + {from_now} WHERE name = '{name}'"
        ))
        .await;
    }

    async fn set_instance_until(&self, id: Uuid, from_now: i64) {
        let id = id.simple();
        self.execute(&format!(
            "UPDATE distributed_events_instances SET until = {NOW} + {from_now} WHERE id = x'{id}'"
        ))
        .await;
    }

    async fn refuse_body(&self, body: &str) {
        let sql = format!(
            "CREATE TRIGGER refuse BEFORE INSERT ON inbox WHEN NEW.event_data = '{body}' \
             BEGIN SELECT RAISE(ABORT, 'refused'); END"
        );
        self.execute(&sql).await;
    }
}

mod conformance {
    use tests::storage_conformance;

    storage_conformance!(crate::File);
}

/// Whether an error is one that passes by itself.
pub(crate) fn passes(error: &StorageError) -> bool {
    matches!(error, StorageError::Database(error) if Sqlite::trouble(error) == Trouble::Passing)
}
