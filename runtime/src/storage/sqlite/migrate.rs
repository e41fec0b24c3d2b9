//! Creating the tables, and checking that they and the settings are what the promises rest on.

use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Pool, Row, Sqlite, SqliteConnection};
use tokio::time::Instant;

use super::pool::{BUSY, MEMORY, begin, code, file_of, memory};
use crate::storage::StorageError;

/// A version of the tables.
struct Migration {
    version: i64,
    /// The oldest version whose code still works on the tables after this one. Additive migrations leave it alone, so
    /// that two versions of the library run side by side (rule 22).
    compatible_from: i64,
    sql: &'static str,
}

const MIGRATIONS: [Migration; 1] = [Migration {
    version: 1,
    compatible_from: 1,
    sql: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite/0001_tables.sql")),
}];

const KNOWN: i64 = MIGRATIONS[MIGRATIONS.len() - 1].version;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS distributed_events_migrations ( \
    version INTEGER PRIMARY KEY, compatible_from INTEGER NOT NULL, applied_at INTEGER NOT NULL)";

/// How long others may take with the same work.
const PATIENCE: Duration = Duration::from_secs(60);

/// `unixepoch('subsec')` came with it.
const OLDEST_SQLITE: (u32, u32) = (3, 42);

/// All of it for another tool, which brings the transaction.
pub(super) fn whole_sql() -> String {
    let mut sql = format!("-- Once, outside every transaction: PRAGMA journal_mode = WAL;\n\n{TABLE};\n");
    for Migration { version, compatible_from, sql: text } in &MIGRATIONS {
        let now = now!();
        sql.push_str(&format!(
            "\n{text}\nINSERT INTO distributed_events_migrations (version, compatible_from, applied_at) \
             VALUES ({version}, {compatible_from}, {now});\n"
        ));
    }
    sql
}

pub(super) async fn migrate(pool: &Pool<Sqlite>) -> Result<(), StorageError> {
    let given = pool.connect_options();
    if memory(&given).is_some() {
        return apply(&mut *pool.acquire().await?).await;
    }
    // A connection of its own: all of the pool's may be in use, also by whoever calls this.
    let options = SqliteConnectOptions::clone(&given).busy_timeout(PATIENCE);
    // The user's options may change the journal mode on connecting, which needs the file alone.
    let deadline = Instant::now() + PATIENCE;
    let mut conn = loop {
        match options.connect().await {
            Ok(conn) => break conn,
            Err(error) => wait_if_busy(error, deadline).await?,
        }
    };
    let result = prepare(&mut conn).await;
    conn.close().await?;
    result
}

async fn prepare(conn: &mut SqliteConnection) -> Result<(), StorageError> {
    // Readers never wait for the writer in this mode, and it belongs to the file. Where the file can't have it the check
    // will say so.
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = sqlx::query("PRAGMA journal_mode = WAL").fetch_all(&mut *conn).await {
        wait_if_busy(error, deadline).await?;
    }
    apply(conn).await
}

/// For what SQLite's own busy timeout does not cover, such as a change of the journal mode.
async fn wait_if_busy(error: sqlx::Error, deadline: Instant) -> Result<(), StorageError> {
    let busy = code(&error).is_some_and(|code| code & 0xff == BUSY);
    if !busy || Instant::now() >= deadline {
        return Err(error.into());
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    Ok(())
}

/// The write lock is the lock: whoever comes second finds the work done.
async fn apply(conn: &mut SqliteConnection) -> Result<(), StorageError> {
    let mut tx = begin(conn).await?;
    sqlx::query(TABLE).execute(&mut *tx).await?;
    let rows = sqlx::query("SELECT version FROM distributed_events_migrations").fetch_all(&mut *tx).await?;
    let applied = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
    for migration in MIGRATIONS.iter().filter(|migration| !applied.contains(&migration.version)) {
        sqlx::raw_sql(migration.sql).execute(&mut *tx).await?;
        let sql = concat!(
            "INSERT INTO distributed_events_migrations (version, compatible_from, applied_at) VALUES (?1, ?2, ",
            now!(),
            ")"
        );
        sqlx::query(sql).bind(migration.version).bind(migration.compatible_from).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(())
}

pub(super) async fn check(conn: &mut SqliteConnection) -> Result<Vec<String>, StorageError> {
    let version: String = sqlx::query_scalar("SELECT sqlite_version()").fetch_one(&mut *conn).await?;
    if is_old(&version) {
        return Err(StorageError::Unsafe(format!(
            "this is SQLite {version}, and distributed-events needs {}.{} or newer: build with sqlx's bundled SQLite",
            OLDEST_SQLITE.0, OLDEST_SQLITE.1
        )));
    }
    let database = file_of(conn).await;
    let sql = "SELECT coalesce(max(version), 0), coalesce(max(compatible_from), 0) FROM distributed_events_migrations";
    let (found, compatible_from): (i64, i64) = sqlx::query_as(sql).fetch_one(&mut *conn).await?;
    if compatible_from > KNOWN {
        return Err(StorageError::NewerTables { found, known: KNOWN });
    }
    if found < KNOWN {
        return Err(StorageError::MissingTables { database });
    }
    if database == MEMORY {
        return Ok(Vec::new());
    }
    let mut warnings = Vec::new();
    let journal: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut *conn).await?;
    if journal != "wal" {
        warnings.push(format!(
            "{database} has journal_mode {journal}: with anything but WAL every reader waits \
             for the writer; set `PRAGMA journal_mode = WAL`"
        ));
    }
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut *conn).await?;
    if synchronous < super::pool::synchronous() as i64 {
        warnings.push(format!(
            "{database} has synchronous {synchronous}: a power loss can take back events that were \
             sent already; set `PRAGMA synchronous = FULL`"
        ));
    }
    Ok(warnings)
}

fn is_old(version: &str) -> bool {
    let mut numbers = version.split('.').map_while(|number| number.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < OLDEST_SQLITE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(is_old("3.40.1") && is_old("3.9.2") && is_old("2.100.0"));
        assert!(!is_old("3.42.0") && !is_old("3.51.3") && !is_old("3.100.0"));
    }
}
