//! Creating the tables, and checking that they and the settings are what the promises rest on.

use std::time::Duration;

use sqlx::mysql::MySqlConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, MySql, MySqlConnection, Pool, Row};

use super::pool::{BEGIN, DUPLICATE, REPEATS, database_of, is_deadlock, number, own};
use super::row::Reader;
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
    sql: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/mysql/0001_tables.sql")),
}];

const KNOWN: i64 = MIGRATIONS[MIGRATIONS.len() - 1].version;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS distributed_events_migrations ( \
    version BIGINT NOT NULL PRIMARY KEY, compatible_from BIGINT NOT NULL, applied_at BIGINT NOT NULL) \
    ENGINE = InnoDB ROW_FORMAT = DYNAMIC COMMENT = 'distributed-events'";

const APPLIED: &str = concat!(
    "INSERT INTO distributed_events_migrations (version, compatible_from, applied_at) VALUES (?, ?, ",
    now!(),
    ")"
);

/// Whether there is a table of the application's own under one of our names; ours say whose they are.
const STRANGERS: &str = "SELECT CAST(table_name AS CHAR) FROM information_schema.tables WHERE table_schema = DATABASE() \
    AND table_name IN ('outbox', 'inbox', 'distributed_events_leases', 'distributed_events_instances', \
    'distributed_events_subscriptions', 'distributed_events_owed') \
    AND table_comment <> 'distributed-events'";

/// How long others may take with the same work.
const PATIENCE: Duration = Duration::from_secs(60);

/// All of it for another tool, in no transaction: statements that make tables commit.
pub(super) fn whole_sql() -> String {
    let mut sql = format!("{TABLE};\n");
    for Migration { version, compatible_from, sql: text } in &MIGRATIONS {
        let now = now!();
        sql.push_str(&format!(
            "\n{text}\nINSERT INTO distributed_events_migrations (version, compatible_from, applied_at) \
             VALUES ({version}, {compatible_from}, {now});\n"
        ));
    }
    sql
}

pub(super) async fn migrate(pool: &Pool<MySql>) -> Result<(), StorageError> {
    // Connections of its own: all of the pool's may be in use, also by whoever calls this.
    let options = own(&pool.connect_options());
    let mut lock = connect(&options).await?;
    let mut conn = connect(&options).await?;
    let result = apply(&mut lock, &mut conn).await;
    lock.close().await?;
    conn.close().await?;
    result
}

async fn connect(options: &MySqlConnectOptions) -> Result<MySqlConnection, StorageError> {
    let mut conn = options.connect().await?;
    let patience = PATIENCE.as_secs();
    let sql =
        format!("SET autocommit = 1, innodb_lock_wait_timeout = {patience}, lock_wait_timeout = {patience}");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await?;
    Ok(conn)
}

async fn apply(lock: &mut MySqlConnection, conn: &mut MySqlConnection) -> Result<(), StorageError> {
    sqlx::raw_sql(TABLE).execute(&mut *conn).await?;
    for migration in &MIGRATIONS {
        let mut attempt = 0;
        while let Err(error) = apply_one(lock, conn, migration).await {
            // Whoever waited for one that failed: several of them then want to be the next.
            attempt += 1;
            if !is_deadlock(&error) || attempt > REPEATS {
                return Err(error);
            }
        }
    }
    Ok(())
}

/// The migration's own row is the lock, as long as it is not committed: whoever comes second waits for it, and finds the
/// work done. Statements that make tables commit, so they are another connection's.
async fn apply_one(
    lock: &mut MySqlConnection,
    conn: &mut MySqlConnection,
    migration: &Migration,
) -> Result<(), StorageError> {
    let sql = "SELECT version FROM distributed_events_migrations WHERE version = ?";
    if sqlx::query(sql).bind(migration.version).fetch_optional(&mut *lock).await?.is_some() {
        return Ok(());
    }
    let mut tx = lock.begin_with(BEGIN).await?;
    let applied = sqlx::query(APPLIED).bind(migration.version).bind(migration.compatible_from);
    match applied.execute(&mut *tx).await {
        Err(error) if number(&error) == Some(DUPLICATE) => return Ok(tx.rollback().await?),
        result => result?,
    };
    refuse_strangers(conn).await?;
    sqlx::raw_sql(migration.sql).execute(conn).await?;
    tx.commit().await?;
    Ok(())
}

/// `IF NOT EXISTS` would take an application's own table for ours.
async fn refuse_strangers(conn: &mut MySqlConnection) -> Result<(), StorageError> {
    let strangers: Vec<String> = sqlx::query_scalar(STRANGERS).fetch_all(&mut *conn).await?;
    let Some(first) = strangers.first() else { return Ok(()) };
    Err(StorageError::Unsafe(format!(
        "there is a table `{first}` in {} that is not of distributed-events: rename it, or give the library a database of \
         its own",
        database_of(conn).await
    )))
}

/// What [`check`] looks at. `read_only` binds replicas, also for users who may write all the same.
const SETTINGS: &str = "SELECT VERSION() AS version, CAST(@@global.read_only AS SIGNED) AS read_only, \
    CAST(@@max_allowed_packet AS SIGNED) AS max_allowed_packet, \
    CAST(@@innodb_flush_log_at_trx_commit AS SIGNED) AS flush_log, CAST(@@log_bin AS SIGNED) AS log_bin, \
    CAST(@@sync_binlog AS SIGNED) AS sync_binlog, \
    CAST(FIND_IN_SET('STRICT_TRANS_TABLES', @@sql_mode) + FIND_IN_SET('STRICT_ALL_TABLES', @@sql_mode) AS SIGNED) AS strict";

/// Key columns that would take different keys for one, and tables without transactions: somebody changed them.
const CHANGED: &str = "SELECT CAST(CONCAT(table_name, '.', column_name, ' has the collation ', collation_name) AS CHAR) \
    FROM information_schema.columns WHERE table_schema = DATABASE() \
    AND (table_name, column_name) IN (('outbox', 'lane'), ('outbox', 'event_type'), ('outbox', 'status'), \
    ('inbox', 'subscription'), ('inbox', 'event_type'), ('inbox', 'session_id'), ('inbox', 'status'), \
    ('distributed_events_leases', 'name'), ('distributed_events_subscriptions', 'store'), \
    ('distributed_events_subscriptions', 'topic'), ('distributed_events_subscriptions', 'name'), \
    ('distributed_events_owed', 'store'), ('distributed_events_owed', 'subscription')) \
    AND collation_name NOT IN ('utf8mb4_nopad_bin', 'utf8mb4_0900_bin') \
    UNION ALL SELECT CAST(CONCAT(table_name, ' has the engine ', engine) AS CHAR) FROM information_schema.tables \
    WHERE table_schema = DATABASE() AND table_comment = 'distributed-events' AND engine <> 'InnoDB'";

/// What batches of small events are written with, without asking.
const SMALLEST_PACKET: i64 = 1 << 20;

/// What the promises rest on beside the tables.
#[derive(Clone, Debug)]
struct Settings {
    version: String,
    read_only: bool,
    max_allowed_packet: i64,
    flush_log: i64,
    log_bin: bool,
    sync_binlog: i64,
    strict: bool,
    /// Where the server still knows it.
    binlog_format: String,
}

pub(super) async fn check(conn: &mut MySqlConnection) -> Result<Vec<String>, StorageError> {
    let row = sqlx::query(SETTINGS).fetch_one(&mut *conn).await?;
    let row = Reader::new(&row, "the server's settings");
    let settings = Settings {
        version: row.get("version")?,
        read_only: row.get::<i64>("read_only")? != 0,
        max_allowed_packet: row.get("max_allowed_packet")?,
        flush_log: row.get("flush_log")?,
        log_bin: row.get::<i64>("log_bin")? != 0,
        sync_binlog: row.get("sync_binlog")?,
        strict: row.get::<i64>("strict")? != 0,
        binlog_format: match sqlx::raw_sql("SHOW VARIABLES LIKE 'binlog_format'")
            .fetch_optional(&mut *conn)
            .await?
        {
            Some(row) => row.try_get(1)?,
            None => String::new(),
        },
    };
    let database = database_of(conn).await;
    refuse_server(&settings, &database)?;
    let sql = "SELECT coalesce(max(version), 0), coalesce(max(compatible_from), 0) FROM distributed_events_migrations";
    let (found, compatible_from): (i64, i64) = sqlx::query_as(sql).fetch_one(&mut *conn).await?;
    if compatible_from > KNOWN {
        return Err(StorageError::NewerTables { found, known: KNOWN });
    }
    if found < KNOWN {
        return Err(StorageError::MissingTables { database });
    }
    if let Some(row) = sqlx::query(CHANGED).fetch_optional(conn).await? {
        return Err(StorageError::Unsafe(format!(
            "{database}: {}, and distributed-events needs the collation utf8mb4_nopad_bin (MariaDB) or utf8mb4_0900_bin \
             (MySQL) and the engine InnoDB: set them back",
            row.try_get::<String, _>(0)?
        )));
    }
    Ok(warnings(&settings, &database))
}

/// Servers on which the library can't work.
fn refuse_server(settings: &Settings, database: &str) -> Result<(), StorageError> {
    let version = &settings.version;
    // JSON_TABLE came with the one, CHECK and binary collations without padding before the other.
    let (product, oldest) =
        if version.contains("MariaDB") { ("MariaDB", (10, 6, 0)) } else { ("MySQL", (8, 0, 19)) };
    if is_old(version, oldest) {
        return Err(StorageError::Unsafe(format!(
            "{database} is {product} {version}, and distributed-events needs MariaDB 10.6 or MySQL 8.0.19, or newer"
        )));
    }
    if settings.read_only {
        return Err(StorageError::Unsafe(format!(
            "{database} is read-only, as a replica is: connect to the primary server, or set `read_only = 0`"
        )));
    }
    if settings.max_allowed_packet < SMALLEST_PACKET {
        return Err(StorageError::Unsafe(format!(
            "{database} has max_allowed_packet {}, and distributed-events needs {SMALLEST_PACKET} to write an event with its \
             headers: set `max_allowed_packet = 16M`",
            settings.max_allowed_packet
        )));
    }
    if settings.log_bin && settings.binlog_format == "STATEMENT" {
        return Err(StorageError::Unsafe(format!(
            "{database} has binlog_format STATEMENT, with which it refuses to write in transactions that are READ COMMITTED: \
             set `binlog_format = ROW`"
        )));
    }
    if !settings.strict {
        return Err(StorageError::Unsafe(format!(
            "{database} cuts values off silently on this connection: add STRICT_TRANS_TABLES to `sql_mode`"
        )));
    }
    Ok(())
}

fn warnings(settings: &Settings, database: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    if settings.flush_log != 1 {
        warnings.push(format!(
            "{database} has innodb_flush_log_at_trx_commit {}: a crash can take back events that were sent already; set \
             `innodb_flush_log_at_trx_commit = 1`",
            settings.flush_log
        ));
    }
    if settings.log_bin && settings.sync_binlog != 1 {
        warnings.push(format!(
            "{database} has sync_binlog {}: after a crash replicas may lack events that were sent already; set \
             `sync_binlog = 1`",
            settings.sync_binlog
        ));
    }
    warnings
}

fn is_old(version: &str, oldest: (u32, u32, u32)) -> bool {
    // MariaDB once began with 5.5.5- for old replicas.
    let version = version.strip_prefix("5.5.5-").unwrap_or(version);
    let mut numbers =
        version.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next(), next()) < oldest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(version: &str) -> Settings {
        Settings {
            version: version.to_owned(),
            read_only: false,
            max_allowed_packet: 16 << 20,
            flush_log: 1,
            log_bin: false,
            sync_binlog: 0,
            strict: true,
            binlog_format: "ROW".to_owned(),
        }
    }

    fn refused(settings: &Settings) -> String {
        refuse_server(settings, "mysql://server:3306/shop").err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn old_servers_are_refused_by_the_numbers_of_their_kind() {
        for old in ["10.5.29-MariaDB", "5.5.5-10.3.39-MariaDB-log", "8.0.18", "5.7.44-log"] {
            assert!(refused(&settings(old)).contains("needs MariaDB 10.6 or MySQL 8.0.19"), "{old}");
        }
        for new in [
            "10.11.19-MariaDB-0+deb12u1",
            "5.5.5-10.6.2-MariaDB",
            "8.0.19",
            "8.4.0",
            "9.1.0-cloud",
            "11.4.2-MariaDB",
        ] {
            assert_eq!(refused(&settings(new)), "", "{new}");
        }
    }

    #[test]
    fn a_server_that_can_not_keep_what_it_is_given_is_refused() {
        assert!(refused(&Settings { read_only: true, ..settings("8.4.0") }).contains("primary server"));
        assert!(refused(&Settings { max_allowed_packet: 4_096, ..settings("8.4.0") }).contains("16M"));
        let statements = Settings { binlog_format: "STATEMENT".to_owned(), ..settings("8.4.0") };
        assert_eq!(refused(&statements), "", "there is no binlog");
        assert!(refused(&Settings { log_bin: true, ..statements }).contains("binlog_format = ROW"));
        assert!(refused(&Settings { strict: false, ..settings("8.4.0") }).contains("STRICT_TRANS_TABLES"));
    }

    #[test]
    fn settings_that_lose_commits_are_named_with_the_remedy() {
        let of = |settings: &Settings| warnings(settings, "mysql://server:3306/shop").join("\n");
        assert_eq!(of(&settings("8.4.0")), "");
        assert!(
            of(&Settings { flush_log: 2, ..settings("8.4.0") })
                .contains("innodb_flush_log_at_trx_commit = 1")
        );
        assert_eq!(of(&Settings { sync_binlog: 0, ..settings("8.4.0") }), "", "there is no binlog");
        let binlog = Settings { log_bin: true, ..settings("8.4.0") };
        assert!(of(&binlog).contains("sync_binlog = 1"));
        assert_eq!(of(&Settings { sync_binlog: 1, ..binlog }), "");
    }
}
