//! Connections: opening the library's own, naming their database, and what their errors mean.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use sqlx::mysql::{MySqlConnectOptions, MySqlDatabaseError, MySqlPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, MySql, MySqlConnection, Pool, Row, Transaction};

use crate::crash;
use crate::storage::{PoolSettings, StorageError, Trouble};

pub(super) const BEGIN: &str = "START TRANSACTION";

/// For the library's own transactions, on whatever connection. Rolls back first, because a future that was dropped while
/// it began one may have left it open, and START TRANSACTION would commit that. A process that is frozen in the middle of
/// taking leases must not keep them from the others for ever.
const BEGIN_OWN: &str = "ROLLBACK; SET @distributed_events_own = NULL \
    /*M! , idle_transaction_timeout = 30 */ /*!80019 , wait_timeout = 30 */; \
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED; START TRANSACTION";

/// Numbers of the servers' errors.
pub(super) const DUPLICATE: u16 = 1062;
pub(super) const NO_SAVEPOINT: u16 = 1305;
pub(super) const XA_STATE: u16 = 1399;
const MISSING_TABLE: u16 = 1146;
const LOCK_WAIT_TIMEOUT: u16 = 1205;
const DEADLOCK: u16 = 1213;

/// Of the server and its resources, whatever was asked of it.
const PASSING: [u16; 37] = [
    LOCK_WAIT_TIMEOUT,
    DEADLOCK,
    1020, // the record has changed since it was read
    1021, // disk full
    1026, // error writing a file
    1030, // error from the storage engine
    1037, // out of memory
    1038, // out of memory for sorting
    1040, // too many connections
    1041, // out of memory
    1042, // can't get the host's name
    1043, // bad handshake
    1047, // Galera: the node is not ready
    1053, // shutting down
    1077, // shut down
    1080, // forced close
    1114, // the table, that is its disk, is full
    1129, // the host is blocked
    1135, // can't create a thread
    1152, // the connection was aborted
    1158, // network errors, 1158 to 1161
    1159,
    1160,
    1161,
    1180, // error at COMMIT
    1184, // the connection was aborted
    1203, // too many connections of this user
    1206, // the lock table is full
    1226, // the user's limit is used up
    1290, // started with --read-only, as a replica is
    1317, // the statement was interrupted
    1836, // read-only mode
    1927, // MariaDB: the connection was killed
    1969, // MariaDB: the statement was ended by its timeout
    3024, // MySQL: the statement was ended by its timeout
    3169, // MySQL: the session was killed
    4031, // MySQL: the connection was idle for too long
];

/// The value is refused, and would be at every repetition.
const REFUSED: [u16; 15] = [
    1048,      // NULL
    DUPLICATE, // and not a redelivery: of what a trigger writes
    1118,      // too large for the redo log
    1264,      // out of range
    1265,      // truncated
    1292,      // wrong value
    1300,      // wrong character string
    1364,      // no default
    1366,      // wrong string value
    1406,      // too long
    1644,      // a trigger said so
    3140,      // no JSON
    3819,      // MySQL: a check failed
    4025,      // MariaDB: a check failed
    4078,      // MariaDB: wrong type
];

/// With many loops the last in the queue waits for all others.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a connection that comes back may take to answer; one that is still busy with something is closed.
const RESET_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a statement may wait for a lock, in whole seconds and at least one.
pub(super) fn seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0)).clamp(1, 365 * 24 * 3600)
}

pub(super) async fn open(pool: &Pool<MySql>, settings: &PoolSettings) -> Result<Pool<MySql>, StorageError> {
    let options = own(&pool.connect_options());
    let session = session(&options, settings);
    let connected = session.clone();
    let opened = MySqlPoolOptions::new()
        .min_connections(1)
        .max_connections(settings.connections.max(1))
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .after_connect(move |conn, _| {
            let session = connected.clone();
            async move { sqlx::raw_sql(AssertSqlSafe(session)).execute(conn).await.map(drop) }.boxed()
        })
        .after_release(move |conn, _| {
            let session = session.clone();
            async move {
                let reset = tokio::time::timeout(RESET_TIMEOUT, reset(conn, session)).await;
                Ok(matches!(reset, Ok(Ok(true))))
            }
            .boxed()
        })
        .connect_with(options)
        .await?;
    Ok(opened)
}

/// The given options with the one character set that holds every text.
pub(super) fn own(given: &MySqlConnectOptions) -> MySqlConnectOptions {
    if given.get_charset() == "utf8mb4" {
        return given.clone().charset("utf8mb4");
    }
    // A collation of another character set would be refused.
    given.clone().charset("utf8mb4").collation("utf8mb4_general_ci")
}

/// What every connection of the library is set to, when it is new and whenever it comes back: whatever a handler did to it,
/// and without ever committing what a handler left. The clock's own setting is among it, because a session may stop it.
fn session(options: &MySqlConnectOptions, settings: &PoolSettings) -> String {
    let wait = seconds(settings.busy_timeout);
    let database = options.get_database().map(|name| format!("USE `{}`; ", name.replace('`', "``")));
    format!(
        "ROLLBACK; UNLOCK TABLES; {}SET autocommit = 1, timestamp = DEFAULT, \
         sql_mode = CONCAT(@@sql_mode, ',STRICT_TRANS_TABLES'), \
         innodb_lock_wait_timeout = {wait}, lock_wait_timeout = {wait} \
         /*M! , max_statement_time = 0, idle_transaction_timeout = 0 */ \
         /*!80019 , max_execution_time = 0, wait_timeout = DEFAULT */; \
         SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        database.unwrap_or_default()
    )
}

/// Sets a connection as it was when it was new, and tells whether it answers what it is asked: after a future was dropped
/// in the middle of a statement's preparation, answers belong to earlier questions.
async fn reset(conn: &mut MySqlConnection, session: String) -> Result<bool, sqlx::Error> {
    static QUESTIONS: AtomicI64 = AtomicI64::new(1);
    let question = QUESTIONS.fetch_add(1, Ordering::Relaxed);
    let sql = AssertSqlSafe(format!("{session}; SELECT {question}"));
    let rows = sqlx::raw_sql(sql).fetch_all(&mut *conn).await?;
    let [row] = rows.as_slice() else { return Ok(false) };
    Ok(row.try_get::<i64, _>(0)? == question && !conn.is_in_transaction())
}

/// A transaction of the library's own.
pub(super) async fn begin(conn: &mut MySqlConnection) -> Result<Transaction<'_, MySql>, StorageError> {
    Ok(conn.begin_with(BEGIN_OWN).await?)
}

/// The server's number of a database error.
pub(super) fn number(error: &sqlx::Error) -> Option<u16> {
    Some(error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>()?.number())
}

pub(super) fn trouble(error: &sqlx::Error) -> Trouble {
    let passing = match error {
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        _ => number(error).is_some_and(|number| PASSING.contains(&number)),
    };
    if passing { Trouble::Passing } else { Trouble::Lasting }
}

/// Whether the database refuses a value, and would at every repetition.
pub(super) fn is_data_error(error: &sqlx::Error) -> bool {
    number(error).is_some_and(|number| REFUSED.contains(&number))
}

/// How often a transaction that deadlocked is repeated.
pub(super) const REPEATS: usize = 10;

/// Whether the whole transaction was rolled back in favour of another, so that repeating it may help.
pub(super) fn is_deadlock(error: &StorageError) -> bool {
    matches!(error, StorageError::Database(error) if number(error) == Some(DEADLOCK))
}

/// The same result, with a missing table said in the reader's words.
pub(super) async fn named<T>(
    conn: &mut MySqlConnection,
    result: Result<T, StorageError>,
) -> Result<T, StorageError> {
    match result {
        Err(StorageError::Database(error)) if is_missing_table(&error) => {
            Err(StorageError::MissingTables { database: database_of(conn).await })
        }
        other => other,
    }
}

/// Only tables of ours: a trigger of the user's may miss one of the user's. In the words of the server, which may speak
/// another language, the name is in the first quotes.
fn is_missing_table(error: &sqlx::Error) -> bool {
    if number(error) != Some(MISSING_TABLE) {
        return false;
    }
    let message = error.as_database_error().map(|error| error.message()).unwrap_or_default();
    let table = message.split('\'').nth(1).and_then(|name| name.rsplit('.').next());
    table.is_some_and(|table| {
        table == "outbox" || table == "inbox" || table.starts_with("distributed_events_")
    })
}

/// The database of a connection, as the server names itself.
pub(super) async fn database_of(conn: &mut MySqlConnection) -> String {
    let sql = "SELECT CONCAT('mysql://', @@hostname, ':', @@port, '/', COALESCE(DATABASE(), ''))";
    let row = sqlx::query_scalar(sql).fetch_one(conn).await;
    row.unwrap_or_else(|_| "this database".to_owned())
}

pub(super) fn identity(options: &MySqlConnectOptions) -> String {
    if crash::is_broken("identity") {
        return options.to_url_lossy().to_string();
    }
    let database = options.get_database().unwrap_or_default();
    match options.get_socket() {
        Some(socket) => format!("mysql:{}/{database}", socket.display()),
        None => format!("mysql://{}:{}/{database}", options.get_host().to_lowercase(), options.get_port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(url: &str) -> String {
        identity(&url.parse().unwrap())
    }

    #[test]
    fn a_database_is_named_without_secrets() {
        assert_eq!(named("mysql://me:secret@Server/shop?ssl-mode=disabled"), "mysql://server:3306/shop");
        assert_eq!(named("mysql://server:3307/shop"), "mysql://server:3307/shop");
        assert_eq!(named("mysql://me:secret@localhost/shop?socket=/run/db.sock"), "mysql:/run/db.sock/shop");
        assert_eq!(named("mysql://server"), "mysql://server:3306/");
    }

    #[test]
    fn lock_timeouts_are_whole_seconds() {
        assert_eq!(seconds(Duration::ZERO), 1);
        assert_eq!(seconds(Duration::from_millis(1_001)), 2);
        assert_eq!(seconds(Duration::from_secs(7)), 7);
        assert_eq!(seconds(Duration::MAX), 365 * 24 * 3600);
    }

    #[test]
    fn errors_are_of_one_kind() {
        assert!(PASSING.iter().all(|number| !REFUSED.contains(number)));
        let options = "mysql://server/we`ird".parse().unwrap();
        let session = session(&options, &PoolSettings::new(1, Duration::from_secs(3)));
        assert!(session.contains("USE `we``ird`;") && session.contains("innodb_lock_wait_timeout = 3"));
    }
}
