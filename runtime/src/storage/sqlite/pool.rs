//! Connections: opening the library's own, naming their database, and what their errors mean.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, Pool, Row, Sqlite, SqliteConnection, Transaction};

use crate::storage::{PoolSettings, StorageError, Trouble};

pub(super) const BEGIN: &str = "BEGIN IMMEDIATE";

/// Result codes of SQLite; the low byte is the primary one.
pub(super) const BUSY: i32 = 5;
pub(super) const BUSY_SNAPSHOT: i32 = 517;
const LOCKED: i32 = 6;
const NOMEM: i32 = 7;
const READONLY: i32 = 8;
const INTERRUPT: i32 = 9;
const IOERR: i32 = 10;
const FULL: i32 = 13;
const CANTOPEN: i32 = 14;
const PROTOCOL: i32 = 15;
const TOOBIG: i32 = 18;
const CONSTRAINT: i32 = 19;
const MISMATCH: i32 = 20;

/// One writer works at a time, so that with many loops the last in the queue waits for all others.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) async fn open(pool: &Pool<Sqlite>, settings: &PoolSettings) -> Result<Pool<Sqlite>, StorageError> {
    let given = pool.connect_options();
    if memory(&given).is_some() {
        return Ok(pool.clone());
    }
    let options = SqliteConnectOptions::clone(&given)
        .create_if_missing(false)
        .busy_timeout(settings.busy_timeout)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous());
    let opened = SqlitePoolOptions::new()
        .min_connections(1)
        .max_connections(settings.connections.max(1))
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .after_release(|conn, _| is_free(conn).boxed())
        .connect_with(options)
        .await?;
    Ok(opened)
}

/// What has been confirmed survives a power failure; nobody waits for that in a simulation.
pub(super) fn synchronous() -> SqliteSynchronous {
    #[cfg(feature = "testing")]
    if crate::simulated::now().is_some() {
        return SqliteSynchronous::Off;
    }
    SqliteSynchronous::Full
}

/// Whether a connection may go back to the pool: not when sqlx takes it to be in a transaction that SQLite has ended by
/// itself, since no transaction could be begun on it any more.
async fn is_free(conn: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    if conn.is_in_transaction() {
        // A dropped transaction's rollback is still in the queue before this.
        conn.ping().await?;
    }
    Ok(!conn.is_in_transaction())
}

/// A transaction that holds the write lock from its beginning.
pub(super) async fn begin(conn: &mut SqliteConnection) -> Result<Transaction<'_, Sqlite>, StorageError> {
    if conn.is_in_transaction() {
        forget_ended_transaction(conn).await?;
    }
    Ok(conn.begin_with(BEGIN).await?)
}

/// A full disk ends a transaction at its COMMIT, and sqlx, which counts only what it was told, would refuse every later
/// one on this connection. Beginning one behind its back gives its rollback something to end, and the two agree again.
async fn forget_ended_transaction(conn: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    // A dropped transaction's rollback is still in the queue before this.
    conn.ping().await?;
    if conn.is_in_transaction() && sqlx::query("BEGIN").execute(&mut *conn).await.is_ok() {
        // Refused, because sqlx believes to be in a transaction; what it drops on refusing is rolled back.
        let _ = conn.begin_with(BEGIN).await;
    }
    Ok(())
}

/// The extended result code of a database error.
pub(super) fn code(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.code()?.parse().ok()
}

pub(super) fn trouble(error: &sqlx::Error) -> Trouble {
    let passing = match error {
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        _ => code(error).is_some_and(|code| {
            let primary = code & 0xff;
            [BUSY, LOCKED, NOMEM, READONLY, INTERRUPT, IOERR, FULL, CANTOPEN, PROTOCOL].contains(&primary)
        }),
    };
    if passing { Trouble::Passing } else { Trouble::Lasting }
}

/// Whether another has the lock that is needed, and had it for longer than the busy timeout.
pub(super) fn is_locked(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| [BUSY, LOCKED].contains(&(code & 0xff)))
}

/// Whether the database refuses a value, and would at every repetition.
pub(super) fn is_data_error(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| [TOOBIG, CONSTRAINT, MISMATCH].contains(&(code & 0xff)))
}

/// The same result, with a missing table said in the reader's words.
pub(super) async fn named<T>(
    conn: &mut SqliteConnection,
    result: Result<T, StorageError>,
) -> Result<T, StorageError> {
    match result {
        Err(StorageError::Database(error)) if is_missing_table(&error) => {
            Err(StorageError::MissingTables { database: file_of(conn).await })
        }
        other => other,
    }
}

/// Only tables of ours: a trigger of the user's may miss one of the user's.
fn is_missing_table(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| {
        let table = error.message().strip_prefix("no such table: ");
        table.is_some_and(|table| {
            let table = table.strip_prefix("main.").unwrap_or(table);
            table == "outbox" || table == "inbox" || table.starts_with("distributed_events_")
        })
    })
}

/// What [`file_of`] calls a database that has no file.
pub(super) const MEMORY: &str = "sqlite::memory:";

/// The database of a connection; an empty file name is an in-memory one.
pub(super) async fn file_of(conn: &mut SqliteConnection) -> String {
    let sql = "SELECT file FROM pragma_database_list WHERE name = 'main'";
    let row = sqlx::query(sql).fetch_one(conn).await;
    match row.and_then(|row| row.try_get::<Option<String>, _>(0)) {
        Ok(Some(file)) if !file.is_empty() => format!("sqlite:{file}"),
        _ => MEMORY.to_owned(),
    }
}

pub(super) fn identity(options: &Arc<SqliteConnectOptions>) -> String {
    memory(options).unwrap_or_else(|| format!("sqlite:{}", absolute(options.get_filename()).display()))
}

pub(super) fn is_memory(options: &Arc<SqliteConnectOptions>) -> bool {
    memory(options).is_some()
}

/// A name of the database if it lives in memory: shared by its name within the process, else the pool's own.
pub(super) fn memory(options: &Arc<SqliteConnectOptions>) -> Option<String> {
    let name = options.get_filename().to_string_lossy();
    let (in_memory, shared) = flags(options);
    let uri = name.strip_prefix("file:");
    let in_uri = |text: &str| uri.is_some_and(|uri| uri.contains(text));
    let nameless = name.is_empty() || name == ":memory:";
    if !(in_memory || nameless || in_uri("mode=memory") || in_uri(":memory:")) {
        return None;
    }
    let process = std::process::id();
    if !nameless && (shared || in_uri("cache=shared")) {
        return Some(format!("sqlite::memory:#{process}-{name}"));
    }
    // Every pool holds its own copy of its options for as long as it lives.
    Some(format!("sqlite::memory:#{process}-{:p}", Arc::as_ptr(options)))
}

/// Whether the options say "in memory" and "shared". sqlx hides both fields, and its URL panics for names without a
/// path; what is left is the derived `Debug`, held by a test.
fn flags(options: &SqliteConnectOptions) -> (bool, bool) {
    let text = format!("{options:?}");
    let start = format!("SqliteConnectOptions {{ filename: {:?}, in_memory: ", options.get_filename());
    let rest = text.strip_prefix(&start).unwrap_or_default();
    (rest.starts_with("true"), rest.contains(" shared_cache: true"))
}

/// The path that two processes agree on, also before the file is there.
fn absolute(name: &Path) -> PathBuf {
    let path = uri_path(name);
    let whole = std::path::absolute(&path).unwrap_or(path);
    if let Ok(real) = whole.canonicalize() {
        return real;
    }
    let parent = whole.parent().and_then(|parent| parent.canonicalize().ok());
    match (parent, whole.file_name()) {
        (Some(parent), Some(file)) => parent.join(file),
        _ => whole,
    }
}

/// The path within a `file:` URI (<https://www.sqlite.org/uri.html>), or the name itself.
fn uri_path(name: &Path) -> PathBuf {
    let Some(uri) = name.to_str().and_then(|name| name.strip_prefix("file:")) else {
        return name.to_owned();
    };
    let path = uri.split(['?', '#']).next().unwrap_or_default();
    let path = path.strip_prefix("//localhost").or_else(|| path.strip_prefix("//")).unwrap_or(path);
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'%').then(|| tail.get(..2)).flatten();
        let decoded = escaped
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(decoded.unwrap_or(first));
        rest = if decoded.is_some() { &tail[2..] } else { tail };
    }
    PathBuf::from(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(url: &str) -> String {
        identity(&Arc::new(url.parse().unwrap()))
    }

    #[test]
    fn memory_is_recognised_however_it_is_written() {
        for url in [
            "sqlite::memory:",
            "sqlite://:memory:",
            "sqlite://?mode=memory",
            "sqlite://box?mode=memory",
            "sqlite:file:box%3Fmode=memory",
        ] {
            assert!(named(url).starts_with("sqlite::memory:#"), "{url} is {}", named(url));
        }
        assert!(memory(&Arc::new(SqliteConnectOptions::new())).is_some());
        assert!(memory(&Arc::new(SqliteConnectOptions::new().filename("/a.db").in_memory(true))).is_some());
        for url in
            ["sqlite:memory.db", "sqlite:in_memory: true.db", "sqlite:///tmp/a.db?mode=rwc&cache=shared"]
        {
            assert!(!named(url).contains('#'), "{url} is {}", named(url));
        }
    }

    #[test]
    fn shared_memory_has_one_name_and_private_memory_one_a_pool() {
        assert_eq!(named("sqlite://box?mode=memory"), named("sqlite://box?mode=memory"));
        assert_ne!(named("sqlite::memory:"), named("sqlite::memory:"), "sqlx numbers them");
        let private = [Arc::new(SqliteConnectOptions::new()), Arc::new(SqliteConnectOptions::new())];
        assert_eq!(identity(&private[0]), identity(&private[0]));
        assert_ne!(identity(&private[0]), identity(&private[1]));
    }

    #[test]
    fn a_file_is_named_by_its_whole_path() {
        let here = std::env::current_dir().unwrap().canonicalize().unwrap();
        let expected = format!("sqlite:{}", here.join("no such.db").display());
        assert_eq!(named("sqlite:no such.db"), expected);
        assert_eq!(
            named("sqlite:./src/../no such.db"),
            format!("sqlite:{}", here.join("src/../no such.db").display()).replace("src/../", "")
        );
        assert_eq!(
            identity(&Arc::new(SqliteConnectOptions::new().filename("file:no%20such.db?vfs=unix"))),
            expected
        );
    }
}
