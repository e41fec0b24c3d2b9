//! Connections: opening the library's own, naming their database, and what their errors mean.

use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{FutureExt, TryStreamExt};
use sqlx::postgres::{PgArguments, PgConnectOptions, PgDatabaseError, PgPoolOptions, PgRow, PgSeverity};
use sqlx::query::Query;
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, PgConnection, Pool, Postgres, Row, SqlSafeStr, Transaction,
};

use super::row::millis;
use crate::crash;
use crate::storage::{PoolSettings, StorageError, Trouble};

/// For the user's transactions, whose isolation is theirs to choose.
pub(super) const BEGIN: &str = "BEGIN";

/// Whatever the session's default is (rule 17); `remote_apply` waits for more.
pub(super) const DURABLE: &str = "; SELECT set_config('synchronous_commit', 'on', true) \
    WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')";

/// Losing a mark sends an event once more (rule 25). Many ids are no reason to go through all of a table that is not so much
/// larger, as the planner would have it for the first marks of a connection.
pub(super) const MARKING: &str = "; SET LOCAL synchronous_commit = off; SET LOCAL enable_seqscan = off";

/// How long a statement waits for a lock where no session can be set up.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// Enough for whole outages of the connections' number.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(60);

const POOLED: &str = "the connections go through a pooler that hands a server to another client after each transaction \
    (PgBouncer), where prepared statements with names don't work: set `statement_cache_capacity(0)` on the pool's \
    PgConnectOptions, or `?statement-cache-capacity=0` in its URL";

pub(super) async fn open(
    pool: &Pool<Postgres>,
    settings: &PoolSettings,
) -> Result<Pool<Postgres>, StorageError> {
    let given = PgConnectOptions::clone(&pool.connect_options());
    let cached = caches_statements(&given);
    let mut options = given.clone();
    if cached {
        // Defaults of the session rather than settings, which a pooler would let others inherit.
        options = options.options([
            ("lock_timeout", millis(settings.busy_timeout.max(Duration::from_millis(1))).to_string()),
            ("default_transaction_isolation", "read committed".to_owned()),
        ]);
        match options.connect().await {
            Ok(mut conn) => {
                // Both take their first name, which a pooler that shares a server between them finds taken.
                let mut other = options.connect().await?;
                let mut result = remember_statements(&mut conn).await;
                if result.is_ok() {
                    result = remember_statements(&mut other).await;
                }
                let _ = (conn.close().await, other.close().await);
                match result {
                    Err(error) if is_misnamed(&error) => return Err(StorageError::Unsafe(POOLED.to_owned())),
                    other => other?,
                }
            }
            // Poolers refuse what they can't keep for each client.
            Err(error) if code(&error).as_deref() == Some(PROTOCOL_VIOLATION) => {
                return Err(StorageError::Unsafe(format!("{POOLED} ({error})")));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let opened = PgPoolOptions::new()
        .min_connections(1)
        .max_connections(settings.connections.max(1))
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .after_connect(move |conn, _| {
            async move { if cached { remember_statements(conn).await } else { Ok(()) } }.boxed()
        })
        .connect_with(options)
        .await?;
    Ok(opened)
}

/// Whether sqlx may give statements names and keep them. It hides the number, and its URL panics for some names of hosts
/// and users; what is left is the derived `Debug`, held by a test.
fn caches_statements(options: &PgConnectOptions) -> bool {
    // So that no text of the user's comes before the field.
    let plain = options.clone().host("").socket("").username("").password("").database("");
    let text = format!("{plain:?}");
    let capacity = text.split_once(" statement_cache_capacity: ").map_or("", |(_, rest)| rest);
    !capacity.starts_with("0,")
}

/// The statement cache's first, after which [`is_caching`] tells that there is one.
async fn remember_statements(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT 1").execute(conn).await.map(drop)
}

/// Whether statements may have names on this connection. sqlx gives them names also where it keeps none
/// (`statement_cache_capacity(0)`), unless told otherwise; and it only tells how many it has kept.
fn is_caching(conn: &PgConnection) -> bool {
    conn.cached_statements_size() > 0
}

/// A table that grows is no reason for PostgreSQL to make a kept plan anew; that it is analysed is one, up to a minute later.
pub(super) async fn forget_plans(conn: &mut PgConnection) -> Result<(), StorageError> {
    if is_caching(conn) {
        sqlx::raw_sql("DISCARD PLANS").execute(conn).await?;
    }
    Ok(())
}

/// A statement, with a name where it will be kept by it.
pub(super) fn query(conn: &PgConnection, sql: impl SqlSafeStr) -> Query<'static, Postgres, PgArguments> {
    sqlx::query(sql).persistent(is_caching(conn))
}

/// A statement that reads a page. Its size is part of the text: for a number that comes as an argument the planner makes a
/// plan anew at each execution, which takes as long as reading a hundred rows.
pub(super) fn page(conn: &PgConnection, sql: &str, limit: u32) -> Query<'static, Postgres, PgArguments> {
    query(conn, AssertSqlSafe(format!("{sql} LIMIT {limit}")))
}

/// Rows of a single read.
pub(super) async fn fetch_all(
    conn: &mut PgConnection,
    query: Query<'_, Postgres, PgArguments>,
) -> Result<Vec<PgRow>, StorageError> {
    fetch_each(conn, query, Ok).await
}

/// What rows of a single read are made into, while the server still sends. Where statements have names it needs no
/// transaction, and so one round trip instead of three; else it is parsed before it is executed, which needs one so that
/// both are done by one server.
pub(super) async fn fetch_each<T>(
    conn: &mut PgConnection,
    query: Query<'_, Postgres, PgArguments>,
    make: fn(PgRow) -> Result<T, StorageError>,
) -> Result<Vec<T>, StorageError> {
    if is_caching(conn) {
        return each(query.fetch(conn), make).await;
    }
    let mut tx = begin(conn).await?;
    let made = each(query.fetch(&mut *tx), make).await?;
    tx.commit().await?;
    Ok(made)
}

async fn each<T>(
    mut rows: BoxStream<'_, Result<PgRow, sqlx::Error>>,
    make: fn(PgRow) -> Result<T, StorageError>,
) -> Result<Vec<T>, StorageError> {
    let mut made = Vec::new();
    while let Some(row) = rows.try_next().await? {
        made.push(make(row)?);
    }
    Ok(made)
}

/// Runs a single statement that writes, in a transaction of its own.
pub(super) async fn execute(
    conn: &mut PgConnection,
    query: Query<'_, Postgres, PgArguments>,
) -> Result<u64, StorageError> {
    let mut tx = begin(conn).await?;
    let done = query.execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(done.rows_affected())
}

/// A transaction of the library's own.
pub(super) async fn begin(conn: &mut PgConnection) -> Result<Transaction<'_, Postgres>, StorageError> {
    begin_with(conn, "").await
}

/// The same with further settings, in the same round trip.
pub(super) async fn begin_with<'c>(
    conn: &'c mut PgConnection,
    settings: &str,
) -> Result<Transaction<'c, Postgres>, StorageError> {
    let wait = if is_caching(conn) {
        String::new()
    } else {
        format!("; SET LOCAL lock_timeout = {}", millis(LOCK_WAIT))
    };
    let sql = format!("BEGIN ISOLATION LEVEL READ COMMITTED{wait}{settings}");
    Ok(conn.begin_with(AssertSqlSafe(sql)).await?)
}

const PROTOCOL_VIOLATION: &str = "08P01";
const UNDEFINED_TABLE: &str = "42P01";
const INVALID_STATEMENT_NAME: &str = "26000";
const DUPLICATE_STATEMENT_NAME: &str = "42P05";
pub(super) const IN_FAILED_TRANSACTION: &str = "25P02";
const READ_ONLY_TRANSACTION: &str = "25006";
const IDLE_IN_TRANSACTION_TIMEOUT: &str = "25P03";
const TRANSACTION_TIMEOUT: &str = "25P04";
pub(super) const SERIALIZATION_FAILURE: &str = "40001";
pub(super) const DEADLOCK: &str = "40P01";
const LOCK_NOT_AVAILABLE: &str = "55P03";
const RAISED: &str = "P0001";
const PROGRAM_LIMIT: &str = "54000";

/// The SQLSTATE of a database error.
pub(super) fn code(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

pub(super) fn trouble(error: &sqlx::Error) -> Trouble {
    let passing = match error {
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => true,
        // A server that goes away in the middle of the first exchange: sqlx takes the end for an answer.
        sqlx::Error::Protocol(text) => text.contains("SSLRequest"),
        _ => code(error).is_some_and(|code| match code.as_str() {
            // A mistake in the protocol ends the session only where it is a pooler that says so.
            PROTOCOL_VIOLATION => is_fatal(error),
            READ_ONLY_TRANSACTION
            | IDLE_IN_TRANSACTION_TIMEOUT
            | TRANSACTION_TIMEOUT
            | SERIALIZATION_FAILURE
            | DEADLOCK
            | LOCK_NOT_AVAILABLE => true,
            // Connection, resources, an operator's or a timeout's intervention, the system, an old snapshot.
            _ => ["08", "53", "57", "58", "72"].contains(&code.get(..2).unwrap_or_default()),
        }),
    };
    if passing { Trouble::Passing } else { Trouble::Lasting }
}

fn is_fatal(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<PgDatabaseError>())
        .is_some_and(|error| matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic))
}

/// Whether the database refuses a value, and would at every repetition: its type or size, a constraint, a trigger.
pub(super) fn is_data_error(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| {
        ["22", "23"].contains(&code.get(..2).unwrap_or_default()) || code == RAISED || code == PROGRAM_LIMIT
    })
}

/// Whether a statement's name is not, or not only, on the server that is asked.
fn is_misnamed(error: &sqlx::Error) -> bool {
    matches!(code(error).as_deref(), Some(INVALID_STATEMENT_NAME | DUPLICATE_STATEMENT_NAME))
}

/// The same result, with a missing table and a pooler's refusal said in the reader's words.
pub(super) async fn named<T>(
    conn: &mut PgConnection,
    result: Result<T, StorageError>,
) -> Result<T, StorageError> {
    match result {
        Err(StorageError::Database(error)) if is_missing_table(&error) => {
            Err(StorageError::MissingTables { database: database_of(conn).await })
        }
        Err(StorageError::Database(error)) if is_misnamed(&error) => {
            Err(StorageError::Unsafe(format!("{POOLED} ({error})")))
        }
        Err(StorageError::Database(error))
            if code(&error).as_deref() == Some(IN_FAILED_TRANSACTION) && !conn.is_in_transaction() =>
        {
            // Left behind by a BEGIN that was cut off, of which sqlx doesn't know.
            sqlx::raw_sql("ROLLBACK").execute(conn).await?;
            Err(error.into())
        }
        other => other,
    }
}

/// Only tables of ours: a trigger of the user's may miss one of the user's.
fn is_missing_table(error: &sqlx::Error) -> bool {
    let name = |text: &str| text == "outbox" || text == "inbox" || text.starts_with("distributed_events_");
    error.as_database_error().is_some_and(|error| {
        error.code().as_deref() == Some(UNDEFINED_TABLE)
            // In the server's language, whose quotation marks differ.
            && error.message().split(|c: char| !(c.is_alphanumeric() || "_.".contains(c))).any(name)
    })
}

/// The database of a connection, as far as it can say: which host it was reached by, it doesn't know.
pub(super) async fn database_of(conn: &mut PgConnection) -> String {
    let unknown = || "this connection's database".to_owned();
    if conn.is_in_transaction() {
        // The caller's, which answers nothing any more.
        return unknown();
    }
    let sql = "SELECT current_database()::text, current_setting('search_path')";
    let row = sqlx::raw_sql(sql).fetch_one(conn).await;
    row.and_then(|row| Ok((row.try_get::<String, _>(0)?, row.try_get::<String, _>(1)?)))
        .map_or_else(|_| unknown(), |(name, path)| format!("database {name} (search_path {path})"))
}

pub(super) fn identity(options: &PgConnectOptions) -> String {
    if crash::is_broken("identity") {
        return options.to_url_lossy().to_string();
    }
    let host = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => match options.get_host().to_lowercase().as_str() {
            "localhost" | "127.0.0.1" | "::1" | "[::1]" => "localhost".to_owned(),
            other => other.to_owned(),
        },
    };
    let database = options.get_database().unwrap_or_else(|| options.get_username());
    let identity = format!("postgres://{host}:{}/{database}", options.get_port());
    // Another schema is another inbox. Other settings are nobody's business: an application may keep a key in one.
    match options.get_options().and_then(search_path) {
        Some(path) => format!("{identity}?options=-c {path}"),
        None => identity,
    }
}

/// The setting of the search path among start-up options (`-c name=value`, `-cname=value`, `--name=value`), in which blanks
/// of a value are escaped. The last one counts.
fn search_path(options: &str) -> Option<&str> {
    let starts = options.match_indices("search_path=").map(|(start, _)| start);
    let named = |start: &usize| options[..*start].ends_with([' ', 'c', '-']) || *start == 0;
    let start = starts.filter(named).last()?;
    let setting = &options[start..];
    let mut before = ' ';
    let end = setting.find(|c: char| {
        let ends = c.is_whitespace() && before != '\\';
        before = c;
        ends
    });
    Some(&setting[..end.unwrap_or(setting.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str) -> PgConnectOptions {
        url.parse().unwrap()
    }

    #[test]
    fn the_identity_has_no_secrets() {
        let named = |url: &str| identity(&options(url));
        assert_eq!(named("postgres://me:secret@db.example:5433/shop"), "postgres://db.example:5433/shop");
        assert_eq!(named("postgres://me:secret@127.0.0.1/shop"), "postgres://localhost:5432/shop");
        assert_eq!(named("postgres://me:secret@LOCALHOST/shop"), "postgres://localhost:5432/shop");
        assert_eq!(named("postgres://me:secret@localhost:5432"), "postgres://localhost:5432/me");
        assert_eq!(named("postgres:///shop?host=/run/pg&user=me"), "postgres:///run/pg:5432/shop");
        let schema = options("postgres://me@a/b").options([("search_path", "one")]);
        assert!(identity(&schema).ends_with("/b?options=-c search_path=one"), "{}", identity(&schema));
        let beside =
            options("postgres://me@a/b").options([("app.key", "canary"), ("search_path", "one, two")]);
        let beside = identity(&beside.options([("app.other", "canary")]));
        assert!(beside.ends_with("/b?options=-c search_path=one,\\ two"), "{beside}");
    }

    #[test]
    fn the_statement_cache_is_recognised() {
        assert!(caches_statements(&options("postgres://a/b")));
        assert!(caches_statements(&options("postgres://a/b?statement-cache-capacity=1")));
        assert!(!caches_statements(&options("postgres://a/b?statement-cache-capacity=0")));
        let hostile = options("postgres://a/b").password(" statement_cache_capacity: 0,");
        assert!(caches_statements(&hostile.application_name(" statement_cache_capacity: 0,")));
    }
}
