//! Creating the tables, and checking that they and the settings are what the promises rest on.

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection, Pool, Postgres, Row};

use super::pool::{begin_with, database_of};
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
    sql: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/postgres/0001_tables.sql")),
}];

const KNOWN: i64 = MIGRATIONS[MIGRATIONS.len() - 1].version;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS distributed_events_migrations ( \
    version bigint PRIMARY KEY, compatible_from bigint NOT NULL, applied_at timestamptz(3) NOT NULL)";

/// How long others may take with the same work. The lock goes with its transaction, as a pooler requires; its number is
/// the library's own, made of the letters "dist_evt".
const LOCK: &str =
    "; SET LOCAL lock_timeout = '60s'; SELECT pg_advisory_xact_lock(x'646973745f657674'::bigint)";

/// `pg_current_xact_id()` came with it.
const OLDEST_POSTGRES: u32 = 13;

/// All of it for another tool, which brings the transaction.
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

pub(super) async fn migrate(pool: &Pool<Postgres>) -> Result<(), StorageError> {
    // A connection of its own: all of the pool's may be in use, also by whoever calls this.
    let mut conn = PgConnectOptions::clone(&pool.connect_options()).connect().await?;
    let result = apply(&mut conn).await;
    conn.close().await?;
    result
}

async fn apply(conn: &mut PgConnection) -> Result<(), StorageError> {
    let mut tx = begin_with(conn, LOCK).await?;
    sqlx::raw_sql(TABLE).execute(&mut *tx).await?;
    let rows = sqlx::raw_sql("SELECT version FROM distributed_events_migrations").fetch_all(&mut *tx).await?;
    let applied = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
    for migration in MIGRATIONS.iter().filter(|migration| !applied.contains(&migration.version)) {
        sqlx::raw_sql(migration.sql).execute(&mut *tx).await?;
        let sql = concat!(
            "INSERT INTO distributed_events_migrations (version, compatible_from, applied_at) VALUES ($1, $2, ",
            now!(),
            ")"
        );
        sqlx::query(sql)
            .bind(migration.version)
            .bind(migration.compatible_from)
            .persistent(false)
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await?;
    Ok(())
}

const SETTINGS: &str = "SELECT current_setting('server_version_num')::bigint / 10000, \
    current_setting('server_version'), current_setting('server_encoding'), \
    current_setting('transaction_read_only'), pg_is_in_recovery(), \
    current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit')";

const VERSIONS: &str = "SELECT coalesce(max(version), 0), coalesce(max(compatible_from), 0) \
    FROM distributed_events_migrations";

/// What somebody may have changed in the tables: text that is compared by more than its bytes, sequences that hand out
/// ranges, tables that a crash empties.
const TABLES: &str = "WITH ours (oid) AS (SELECT to_regclass(name)::oid FROM unnest('{outbox, inbox, \
    distributed_events_leases, distributed_events_instances, distributed_events_subscriptions, \
    distributed_events_owed}'::text[]) AS names (name)) \
    SELECT format('the column %s of %s has a collation in which different texts are equal', \
    attname, attrelid::regclass) FROM pg_attribute JOIN pg_collation ON pg_collation.oid = attcollation \
    WHERE attrelid IN (SELECT oid FROM ours) AND attnum > 0 AND NOT collisdeterministic \
    UNION ALL SELECT format('the sequence of %s has CACHE %s, which mixes up the order of events', refobjid::regclass, \
    seqcache) FROM pg_sequence JOIN pg_depend ON objid = seqrelid AND deptype = 'i' AND refobjid IN (SELECT oid FROM ours) \
    WHERE seqcache > 1 \
    UNION ALL SELECT format('%s is unlogged, so that a crash empties it', oid::regclass) FROM pg_class \
    WHERE oid IN (SELECT oid FROM ours) AND relpersistence <> 'p'";

pub(super) async fn check(conn: &mut PgConnection) -> Result<Vec<String>, StorageError> {
    let row = sqlx::raw_sql(SETTINGS).fetch_one(&mut *conn).await?;
    let (major, version): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
    if major < i64::from(OLDEST_POSTGRES) {
        return Err(StorageError::Unsafe(format!(
            "this is PostgreSQL {version}, and distributed-events needs {OLDEST_POSTGRES} or newer"
        )));
    }
    let database = database_of(conn).await;
    let encoding: String = row.try_get(2)?;
    if encoding != "UTF8" {
        return Err(StorageError::Unsafe(format!(
            "{database} has the encoding {encoding}, which can't hold every text: create it with `ENCODING 'UTF8'`"
        )));
    }
    let (read_only, standby): (String, bool) = (row.try_get(3)?, row.try_get(4)?);
    if read_only == "on" {
        let way_out = if standby {
            "connect to the primary server"
        } else {
            "set `default_transaction_read_only = off` for this user or database"
        };
        return Err(StorageError::Unsafe(format!("{database} is read-only here: {way_out}")));
    }
    let versions = sqlx::raw_sql(VERSIONS).fetch_one(&mut *conn).await?;
    let (found, compatible_from): (i64, i64) = (versions.try_get(0)?, versions.try_get(1)?);
    if compatible_from > KNOWN {
        return Err(StorageError::NewerTables { found, known: KNOWN });
    }
    if found < KNOWN {
        return Err(StorageError::MissingTables { database });
    }
    let wrong = sqlx::raw_sql(TABLES).fetch_all(&mut *conn).await?;
    if !wrong.is_empty() {
        let wrong = wrong.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
        return Err(StorageError::Unsafe(format!("in {database}, {}", wrong.join("; "))));
    }
    let mut warnings = Vec::new();
    for (column, setting, danger) in [
        (5, "fsync", "a crash of the machine can destroy the whole database"),
        (6, "full_page_writes", "a crash of the machine can tear pages of the tables"),
        (7, "synchronous_commit", "a crash can take back events whose publishing has succeeded"),
    ] {
        if row.try_get::<String, _>(column)? == "off" {
            warnings.push(format!("{database} has {setting} = off: {danger}; set `{setting} = on`"));
        }
    }
    Ok(warnings)
}
