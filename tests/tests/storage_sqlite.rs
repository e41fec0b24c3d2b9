//! The storage conformance suite on SQLite, and what only SQLite can do wrong.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use distributed_events::storage::{
    AdminStorage, GuardOutcome, LeaseStorage, OutboxQuery, PoolSettings, SentRows, Storage, StorageError, Table, Trouble,
};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Pool, Sqlite, SqliteConnection};
use futures_util::FutureExt;
use tempfile::TempDir;
use tests::conformance::{Fixture, SUBSCRIPTION, bodies, event, events, inbox_of, ingest, of_session, pending, publish, report, texts};
use uuid::Uuid;

/// A file of its own.
struct File {
    pool: Pool<Sqlite>,
    folder: TempDir,
}

impl File {
    fn options(&self) -> SqliteConnectOptions {
        SqliteConnectOptions::new().filename(self.folder.path().join("test.db")).busy_timeout(Duration::from_secs(20))
    }

    /// A pool of one connection with other options.
    async fn pool_with(&self, options: SqliteConnectOptions) -> Pool<Sqlite> {
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
        let (table, columns) = match table {
            Table::Outbox => ("outbox", ["created_at", "processed_at", "deliver_at", "expires_at", "next_attempt_at"].as_slice()),
            Table::Inbox => ("inbox", ["created_at", "received_at", "processed_at", "expires_at", "next_attempt_at"].as_slice()),
        };
        let shifts: Vec<_> = columns.iter().map(|column| format!("{column} = {column} - {by}")).collect();
        self.execute(&format!("UPDATE {table} SET {}", shifts.join(", "))).await;
    }

    async fn set_lease_until(&self, name: &str, from_now: i64) {
        self.execute(&format!("UPDATE distributed_events_leases SET until = {NOW} + {from_now} WHERE name = '{name}'")).await;
    }

    async fn set_instance_until(&self, id: Uuid, from_now: i64) {
        let id = id.simple();
        self.execute(&format!("UPDATE distributed_events_instances SET until = {NOW} + {from_now} WHERE id = x'{id}'")).await;
    }

    async fn refuse_body(&self, body: &str) {
        let sql = format!(
            "CREATE TRIGGER refuse BEFORE INSERT ON inbox WHEN NEW.event_data = '{body}' BEGIN SELECT RAISE(ABORT, 'refused'); END"
        );
        self.execute(&sql).await;
    }
}

mod conformance {
    use tests::storage_conformance;

    storage_conformance!(crate::File);
}

/// Whether an error is one that passes by itself.
fn passes(error: &StorageError) -> bool {
    matches!(error, StorageError::Database(error) if Sqlite::trouble(error) == Trouble::Passing)
}

const CHILD: &str = "DISTRIBUTED_EVENTS_TEST_MIGRATE";

/// The other side of the next test.
#[tokio::test]
#[ignore = "a child process of eight_processes_migrate_an_empty_file_at_once"]
async fn migrates_as_a_child_process() {
    let Ok(file) = std::env::var(CHILD) else { return };
    // The end of the input is the common start.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    let options = SqliteConnectOptions::new().filename(file).create_if_missing(true);
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    Sqlite::migrate(&pool).await.unwrap();
    assert_eq!(Sqlite::read_outbox(&mut pool.acquire().await.unwrap(), &OutboxQuery::new("default", 1)).await.unwrap().len(), 0);
}

#[tokio::test]
async fn eight_processes_migrate_an_empty_file_at_once() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("test.db");
    let child = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "migrates_as_a_child_process", "--include-ignored", "--nocapture"])
            .env(CHILD, &file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut children: Vec<_> = (0..8).map(|_| child()).collect();
    for child in &mut children {
        drop(child.stdin.take());
    }
    for child in children {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains("1 passed"), "{text}");
    }
    let mut conn = SqliteConnectOptions::new().filename(&file).connect().await.unwrap();
    assert_eq!(File::numbers(&mut conn, "SELECT version FROM distributed_events_migrations").await, [1]);
    assert!(Sqlite::check(&mut conn).await.unwrap().is_empty(), "WAL and FULL");
}

/// Rule 31: what a transaction that began without the write lock gets to hear.
#[tokio::test]
async fn a_stale_snapshot_names_begin_immediate() {
    let file = File::fresh().await;
    let mut stale = file.pool().begin().await.unwrap();
    File::numbers(&mut stale, "SELECT count(*) FROM outbox").await;
    publish(&file, &[event("between")]).await;
    let error = Sqlite::insert_outbox(&mut stale, &[event("late")]).await.unwrap_err();
    assert!(matches!(error, StorageError::StaleSnapshot), "{error:?}");
    assert!(error.to_string().contains("BEGIN IMMEDIATE"));
    drop(stale);

    let mut reader = file.pool().begin().await.unwrap();
    File::numbers(&mut reader, "SELECT count(*) FROM outbox").await;
    let writer = file.pool().begin_with(Sqlite::BEGIN).await.unwrap();
    let error = Sqlite::insert_outbox(&mut reader, &[event("upgrade")]).await.unwrap_err();
    assert!(matches!(error, StorageError::StaleSnapshot), "{error:?}");
    drop((reader, writer));
    assert_eq!(bodies(&pending(&file).await), ["between"]);
}

/// A transaction that SQLite has ended by itself commits every further statement at once: no event may slip out.
#[tokio::test]
async fn publish_outside_a_live_transaction_is_refused() {
    let file = File::fresh().await;
    file.execute("CREATE TABLE charges (n INTEGER PRIMARY KEY)").await;
    let mut conn = file.conn().await;
    let mut tx = conn.begin_with(Sqlite::BEGIN).await.unwrap();
    File::run(&mut tx, "INSERT INTO charges (n) VALUES (1)").await.unwrap();
    File::run(&mut tx, "INSERT OR ROLLBACK INTO charges (n) VALUES (1)").await.unwrap_err();
    let error = Sqlite::insert_outbox(&mut tx, &[event("orphan")]).await.unwrap_err();
    assert!(matches!(error, StorageError::NoTransaction), "{error:?}");
    drop(tx);
    conn.close().await.unwrap();
    assert!(pending(&file).await.is_empty());
    // And inside one, an open savepoint or a failed statement is no reason to refuse.
    let mut tx = file.pool().begin().await.unwrap();
    let mut nested = tx.begin().await.unwrap();
    Sqlite::insert_outbox(&mut nested, &[event("nested")]).await.unwrap();
    nested.commit().await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(bodies(&pending(&file).await), ["nested"]);
}

/// Rule 8 on SQLite: the transaction is gone with the guard, and what followed has committed.
#[tokio::test]
async fn insert_or_rollback_is_seen_by_the_guard() {
    let file = File::fresh().await;
    file.execute("CREATE TABLE charges (n INTEGER PRIMARY KEY)").await;
    ingest(&file, &[of_session("s", "1")]).await;
    let seq = inbox_of(&file, "s").await[0].seq;
    let mut conn = file.conn().await;
    let mut tx = Sqlite::begin_guarded(&mut conn, Duration::from_secs(5)).await.unwrap();
    Sqlite::mark_processed(&mut tx, &[seq]).await.unwrap();
    File::run(&mut tx, "INSERT INTO charges (n) VALUES (1)").await.unwrap();
    File::run(&mut tx, "INSERT OR ROLLBACK INTO charges (n) VALUES (1)").await.unwrap_err();
    File::run(&mut tx, "INSERT INTO charges (n) VALUES (7)").await.unwrap();
    assert_eq!(Sqlite::close_guard(&mut tx).await.unwrap(), GuardOutcome::Ended);
    drop(tx);
    conn.close().await.unwrap();
    assert_eq!(inbox_of(&file, "s").await.len(), 1);
    assert_eq!(file.number("SELECT sum(n) FROM charges").await, 7);
}

/// A swallowed error takes back its own statement and nothing else.
#[tokio::test]
async fn a_failed_statement_leaves_the_transaction_whole() {
    let file = File::fresh().await;
    file.execute("CREATE TABLE charges (n INTEGER PRIMARY KEY)").await;
    let mut conn = file.conn().await;
    let mut tx = Sqlite::begin_guarded(&mut conn, Duration::from_secs(5)).await.unwrap();
    File::run(&mut tx, "INSERT INTO charges (n) VALUES (1)").await.unwrap();
    File::run(&mut tx, "INSERT INTO charges (n) VALUES (1)").await.unwrap_err();
    File::run(&mut tx, "no statement at all").await.unwrap_err();
    assert_eq!(Sqlite::close_guard(&mut tx).await.unwrap(), GuardOutcome::Whole);
    tx.commit().await.unwrap();
    drop(conn);
    assert_eq!(file.number("SELECT count(*) FROM charges").await, 1);
}

/// A full disk fails the batch, loses nothing, and the same connection goes on once there is room (rule 19).
#[tokio::test]
async fn a_full_disk_passes() {
    let file = File::fresh().await;
    ingest(&file, &[of_session("s", "before")]).await;
    let pool = Sqlite::open(file.pool(), &PoolSettings::new(1, Duration::from_secs(5))).await.unwrap();
    let mut conn = pool.acquire().await.unwrap();
    let pages = File::numbers(&mut conn, "PRAGMA page_count").await[0];
    File::run(&mut conn, &format!("PRAGMA max_page_count = {pages}")).await.unwrap();
    let batch: Vec<_> = (0..100).map(|n| of_session("s", &format!("{n:04000}"))).collect();
    for _ in 0..3 {
        let error = Sqlite::ingest(&mut conn, SUBSCRIPTION, &batch).await.unwrap_err();
        assert!(passes(&error), "{error:?}");
    }
    let error = Sqlite::announce(&mut conn, &huge_instance(), Duration::from_secs(30)).await.unwrap_err();
    assert!(passes(&error), "{error:?}");
    assert_eq!(texts(&inbox_of(&file, "s").await), ["before"], "all of a batch or none");
    File::run(&mut conn, "PRAGMA max_page_count = 1000000").await.unwrap();
    assert_eq!(Sqlite::ingest(&mut conn, SUBSCRIPTION, &batch).await.unwrap(), report(100, 0, 0, 0));
    drop(conn);
    assert_eq!(inbox_of(&file, "s").await.len(), 101);
}

/// More than fits into the pages that are left.
fn huge_instance() -> distributed_events::storage::Instance {
    let handled = |n: usize| distributed_events::storage::Handled {
        subscription: "s".repeat(100),
        event: format!("{n:0100}"),
        version: 1,
    };
    distributed_events::storage::Instance::new(Uuid::new_v4(), (0..1_000).map(handled).collect())
}

/// sqlx takes a connection whose transaction SQLite has ended for one in a transaction: neither our own functions nor our
/// pool may be stuck with it.
#[tokio::test]
async fn a_connection_survives_a_transaction_that_ended_by_itself() {
    let file = File::fresh().await;
    file.execute("CREATE TABLE charges (n INTEGER PRIMARY KEY)").await;
    let pool = Sqlite::open(file.pool(), &PoolSettings::new(1, Duration::from_secs(5))).await.unwrap();
    for same_connection in [true, false] {
        let mut conn = pool.acquire().await.unwrap();
        let mut tx = conn.begin_with(Sqlite::BEGIN).await.unwrap();
        File::run(&mut tx, "ROLLBACK").await.unwrap();
        tx.rollback().await.unwrap_err();
        if !same_connection {
            drop(conn);
            conn = pool.acquire().await.unwrap();
            assert!(!conn.is_in_transaction(), "the pool has given it up");
        }
        let batch = [of_session("s", "1")];
        assert_eq!(Sqlite::ingest(&mut conn, SUBSCRIPTION, &batch).await.unwrap(), report(1, 0, 0, 0));
        let mut tx = conn.begin_with(Sqlite::BEGIN).await.unwrap();
        Sqlite::insert_outbox(&mut tx, &[event("1")]).await.unwrap();
        tx.commit().await.unwrap();
    }
    assert_eq!((inbox_of(&file, "s").await.len(), pending(&file).await.len()), (2, 2));
}

/// A future dropped at any await leaves no transaction behind.
#[tokio::test]
async fn a_cancelled_ingest_leaves_nothing_behind() {
    let file = File::fresh().await;
    let mut conn = file.conn().await;
    for polls in 0..40 {
        let batch: Vec<_> = (0..100).map(|n| of_session("s", &n.to_string())).collect();
        let mut ingest = Box::pin(Sqlite::ingest(&mut conn, SUBSCRIPTION, &batch));
        for _ in 0..polls {
            if (&mut ingest).now_or_never().is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(ingest);
        let whole = inbox_of(&file, "s").await.len();
        assert!(whole % 100 == 0, "{whole} rows");
        publish(&file, &[event("goes on")]).await;
    }
    drop(conn);
    assert_eq!(pending(&file).await.len(), 40);
}

/// Reading goes on where writing can't.
#[tokio::test]
async fn a_read_only_file_passes() {
    let file = File::fresh().await;
    ingest(&file, &[of_session("s", "1")]).await;
    let seq = inbox_of(&file, "s").await[0].seq;
    let read_only = file.pool_with(file.options().read_only(true)).await;
    let mut conn = read_only.acquire().await.unwrap();
    assert!(Sqlite::check(&mut conn).await.unwrap().is_empty());
    assert_eq!(Sqlite::count_inbox(&mut conn).await.unwrap().subscriptions[SUBSCRIPTION].pending, 1);
    for error in [
        Sqlite::ingest(&mut conn, SUBSCRIPTION, &[of_session("s", "2")]).await.unwrap_err(),
        Sqlite::mark_processed(&mut conn, &[seq]).await.unwrap_err(),
        Sqlite::mark_sent(&mut conn, &[event("1").envelope.id], SentRows::Keep).await.unwrap_err(),
    ] {
        assert!(passes(&error), "{error:?}");
    }
}



/// A locked database is no handler's fault; a mistake in its SQL is.
#[tokio::test]
async fn troubles_are_told_apart() {
    let file = File::fresh().await;
    let impatient = file.pool_with(file.options().busy_timeout(Duration::ZERO)).await;
    let writer = file.pool().begin_with(Sqlite::BEGIN).await.unwrap();
    let mut conn = impatient.acquire().await.unwrap();
    let error = Sqlite::ingest(&mut conn, SUBSCRIPTION, &[of_session("s", "1")]).await.unwrap_err();
    assert!(passes(&error), "{error:?}");
    drop(writer);
    for sql in ["SELECT nothing", "INSERT INTO outbox (id) VALUES (NULL)"] {
        let error = File::run(&mut conn, sql).await.unwrap_err();
        assert_eq!(Sqlite::trouble(&error), Trouble::Lasting, "{error}");
    }
    assert_eq!(Sqlite::trouble(&sqlx::Error::PoolTimedOut), Trouble::Passing);
    assert_eq!(Sqlite::trouble(&sqlx::Error::WorkerCrashed), Trouble::Passing);
    assert_eq!(Sqlite::trouble(&sqlx::Error::RowNotFound), Trouble::Lasting);
}

/// The library's connections are set as the promises need them, whatever the user's are.
#[tokio::test]
async fn the_library_pool_has_its_own_settings() {
    let file = File::fresh().await;
    let options = file
        .options()
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Off)
        .foreign_keys(false)
        .create_if_missing(true);
    let users = file.pool_with(options).await;
    let warnings = Sqlite::check(&mut users.acquire().await.unwrap()).await.unwrap();
    assert!(warnings.len() == 1 && warnings[0].contains("synchronous"), "{warnings:?}");
    let pool = Sqlite::open(&users, &PoolSettings::new(2, Duration::from_millis(1_234))).await.unwrap();
    let mut conn = pool.acquire().await.unwrap();
    assert!(Sqlite::check(&mut conn).await.unwrap().is_empty());
    assert_eq!(File::numbers(&mut conn, "PRAGMA busy_timeout").await, [1_234]);
    assert_eq!(File::numbers(&mut conn, "PRAGMA foreign_keys").await, [0], "the user's choice");
    drop(conn);
    let missing = file.options().filename(file.folder.path().join("missing.db")).create_if_missing(true);
    let nowhere = SqlitePoolOptions::new().connect_lazy_with(missing);
    let error = Sqlite::open(&nowhere, &PoolSettings::new(1, Duration::from_secs(1))).await.unwrap_err();
    assert!(passes(&error), "{error:?}");
    assert!(!file.folder.path().join("missing.db").exists(), "a wrong path makes no second database");
}

/// A file in another mode is said, and one that was is switched by the migration.
#[tokio::test]
async fn the_journal_mode_is_set_and_checked() {
    let file = File::empty().await;
    let mut conn = file.conn().await;
    let mode = async |conn: &mut SqliteConnection| -> String {
        sqlx::query_scalar("PRAGMA journal_mode").fetch_one(conn).await.unwrap()
    };
    assert_eq!(mode(&mut conn).await, "delete");
    Sqlite::migrate(file.pool()).await.unwrap();
    // A connection learns of it with its next read.
    File::numbers(&mut conn, "SELECT count(*) FROM outbox").await;
    assert_eq!(mode(&mut conn).await, "wal");
    drop(conn);
    file.pool().close().await;
    let old = file.pool_with(file.options().journal_mode(SqliteJournalMode::Delete)).await;
    let warnings = Sqlite::check(&mut old.acquire().await.unwrap()).await.unwrap();
    assert!(warnings.len() == 1 && warnings[0].contains("journal_mode"), "{warnings:?}");
}

/// Rule 22: additive changes run side by side, breaking ones say so.
#[tokio::test]
async fn newer_tables_are_refused_where_they_break() {
    let file = File::fresh().await;
    let newer = |version: i64, compatible_from: i64| {
        format!("INSERT INTO distributed_events_migrations (version, compatible_from, applied_at) VALUES ({version}, {compatible_from}, 0)")
    };
    let mut conn = file.conn().await;
    File::run(&mut conn, &newer(2, 1)).await.unwrap();
    assert!(Sqlite::check(&mut conn).await.unwrap().is_empty());
    Sqlite::migrate(file.pool()).await.unwrap();
    File::run(&mut conn, &newer(3, 2)).await.unwrap();
    File::run(&mut conn, &newer(4, 1)).await.unwrap();
    let error = Sqlite::check(&mut conn).await.unwrap_err();
    assert!(matches!(error, StorageError::NewerTables { found: 4, known: 1 }), "{error:?}");
    File::run(&mut conn, "DELETE FROM distributed_events_migrations").await.unwrap();
    let error = Sqlite::check(&mut conn).await.unwrap_err();
    assert!(matches!(error, StorageError::MissingTables { .. }), "{error:?}");
}

/// In memory the user's connections are the database.
#[tokio::test]
async fn memory_shares_the_users_pool() {
    for options in ["sqlite::memory:".parse().unwrap(), SqliteConnectOptions::new()] {
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
        let identity = Sqlite::identity(&pool);
        assert!(identity.starts_with("sqlite::memory:#"), "{identity}");
        Sqlite::migrate(&pool).await.unwrap();
        Sqlite::migrate(&pool).await.unwrap();
        let opened = Sqlite::open(&pool, &PoolSettings::new(3, Duration::from_secs(1))).await.unwrap();
        assert_eq!(Sqlite::identity(&opened), identity);
        let mut conn = opened.acquire().await.unwrap();
        assert!(Sqlite::check(&mut conn).await.unwrap().is_empty());
        assert_eq!(Sqlite::ingest(&mut conn, SUBSCRIPTION, &[of_session("s", "1")]).await.unwrap(), report(1, 0, 0, 0));
        drop(conn);
        let mut conn = pool.acquire().await.unwrap();
        assert_eq!(Sqlite::count_inbox(&mut conn).await.unwrap().subscriptions[SUBSCRIPTION].pending, 1);
    }
}

/// A row that something else wrote is named, not skipped.
#[tokio::test]
async fn a_corrupt_row_is_an_error() {
    let file = File::fresh().await;
    publish(&file, &events(1)).await;
    for (column, value) in [("id", "x'00'"), ("headers", "'no JSON'"), ("event_version", "-1"), ("event_type", "x'ff'")] {
        let sql = format!("CREATE TABLE kept AS SELECT * FROM outbox; UPDATE outbox SET {column} = {value}");
        file.execute(&sql).await;
        let error = Sqlite::read_outbox(&mut *file.conn().await, &OutboxQuery::new("default", 1)).await.unwrap_err();
        assert!(matches!(error, StorageError::Corrupt { table: "outbox", .. }), "{column}: {error:?}");
        file.execute("DELETE FROM outbox; INSERT INTO outbox SELECT * FROM kept; DROP TABLE kept").await;
    }
    assert_eq!(pending(&file).await.len(), 1);
}
