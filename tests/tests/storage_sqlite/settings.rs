//! Opening, migrating and checking a file.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use distributed_events::storage::{AdminStorage, OutboxQuery, PoolSettings, Storage, StorageError};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Sqlite, SqliteConnection};
use tempfile::TempDir;
use tests::conformance::{Fixture, SUBSCRIPTION, of_session, pending, report};

use crate::{File, passes};

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
    assert_eq!(
        Sqlite::read_outbox(&mut pool.acquire().await.unwrap(), &OutboxQuery::new("default", 1))
            .await
            .unwrap()
            .len(),
        0
    );
}

#[tokio::test]
async fn eight_processes_migrate_an_empty_file_at_once() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("test.db");
    let child = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "settings::migrates_as_a_child_process", "--include-ignored", "--nocapture"])
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

/// Changing the mode of a file that another writes to fails at once, whatever the busy timeout is.
#[tokio::test]
async fn a_writer_delays_the_migration_and_no_more() {
    let file = File::empty().await;
    let mut writer = file.pool().begin_with(Sqlite::BEGIN).await.unwrap();
    let users = file.another_pool().await;
    let migration = tokio::spawn(async move { Sqlite::migrate(&users).await });
    // Enough to do for the migration to run into the writer.
    for _ in 0..2_000 {
        File::numbers(&mut writer, "SELECT count(*) FROM sqlite_schema").await;
    }
    assert!(!migration.is_finished(), "the writer holds the file");
    writer.commit().await.unwrap();
    migration.await.unwrap().unwrap();
    assert!(Sqlite::check(&mut *file.conn().await).await.unwrap().is_empty());
}

/// Rule 22: additive changes run side by side, breaking ones say so.
#[tokio::test]
async fn newer_tables_are_refused_where_they_break() {
    let file = File::fresh().await;
    let newer = |version: i64, compatible_from: i64| {
        format!(
            "INSERT INTO distributed_events_migrations (version, compatible_from, applied_at) VALUES ({version}, {compatible_from}, 0)"
        )
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
    let missing = file.options().filename(file.folder().join("missing.db")).create_if_missing(true);
    let nowhere = SqlitePoolOptions::new().connect_lazy_with(missing);
    let error = Sqlite::open(&nowhere, &PoolSettings::new(1, Duration::from_secs(1))).await.unwrap_err();
    assert!(passes(&error), "{error:?}");
    assert!(!file.folder().join("missing.db").exists(), "a wrong path makes no second database");
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

/// Other languages publish with the columns of the specification and nothing else.
#[tokio::test]
async fn plain_sql_may_publish() {
    let file = File::fresh().await;
    file.execute("INSERT INTO outbox (id, event_type, event_data) VALUES (randomblob(16), 'a', '{}')").await;
    let rows = pending(&file).await;
    assert_eq!((rows.len(), rows[0].envelope.version), (1, 1));
    assert!(rows[0].envelope.headers.is_empty());
    assert!(rows[0].envelope.created_at > std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
}

/// A start-up that holds its only connection.
#[tokio::test]
async fn a_pool_that_is_used_up_is_migrated() {
    let file = File::empty().await;
    let users = file.another_pool().await;
    let _held = users.acquire().await.unwrap();
    Sqlite::migrate(&users).await.unwrap();
    assert!(pending(&file).await.is_empty());
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
        assert_eq!(
            Sqlite::ingest(&mut conn, SUBSCRIPTION, &[of_session("s", "1")]).await.unwrap(),
            report(1, 0, 0, 0)
        );
        drop(conn);
        let mut conn = pool.acquire().await.unwrap();
        assert_eq!(Sqlite::count_inbox(&mut conn).await.unwrap().subscriptions[SUBSCRIPTION].pending, 1);
    }
}
