//! Opening, migrating and checking a database.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use distributed_events::storage::{OutboxQuery, PoolSettings, Storage, StorageError};
use sqlx::mysql::MySqlPoolOptions;
use sqlx::{ConnectOptions, MySql};
use tests::conformance::{Fixture, bodies, pending, publish};
use tests::fixtures::MySqlDatabase;

const CHILD: &str = "DISTRIBUTED_EVENTS_TEST_MIGRATE";

/// The other side of the next test.
#[tokio::test]
#[ignore = "a child process of eight_processes_migrate_an_empty_database_at_once"]
async fn migrates_as_a_child_process() {
    let Ok(name) = std::env::var(CHILD) else { return };
    // The end of the input is the common start.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    let options = MySqlDatabase::server().database(&name);
    let pool = MySqlPoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    MySql::migrate(&pool).await.unwrap();
    let mut conn = pool.acquire().await.unwrap();
    let rows = MySql::read_outbox(&mut conn, &OutboxQuery::new("default", 1)).await.unwrap();
    assert!(rows.is_empty());
}

#[tokio::test]
async fn eight_processes_migrate_an_empty_database_at_once() {
    let database = MySqlDatabase::empty().await;
    let child = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "settings::migrates_as_a_child_process", "--include-ignored", "--nocapture"])
            .env(CHILD, database.name())
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
    let versions = "SELECT version FROM distributed_events_migrations";
    assert_eq!(MySqlDatabase::numbers(&mut *database.conn().await, versions).await, [1]);
}

/// Statements that make tables commit, so that a crash may leave some of them.
#[tokio::test]
async fn a_migration_goes_on_where_a_crash_left_it() {
    let complete = MySqlDatabase::fresh().await;
    let tables = [
        "outbox",
        "inbox",
        "distributed_events_leases",
        "distributed_events_instances",
        "distributed_events_subscriptions",
        "distributed_events_owed",
    ];
    for made in 0..tables.len() {
        let database = MySqlDatabase::empty().await;
        for table in &tables[..made] {
            database.execute(&format!("CREATE TABLE {table} LIKE {}.{table}", complete.name())).await;
        }
        let pools = futures_util::future::join_all((0..3).map(|_| database.another_pool())).await;
        for result in futures_util::future::join_all(pools.iter().map(MySql::migrate)).await {
            result.unwrap();
        }
        publish(&database, &[tests::conformance::event("1")]).await;
        assert!(check(&database).await.unwrap().is_empty());
    }
}

/// The check on a connection of the library's own.
async fn check(database: &MySqlDatabase) -> Result<Vec<String>, StorageError> {
    let pool = MySql::open(database.pool(), &PoolSettings::new(1, Duration::from_secs(5))).await.unwrap();
    MySql::check(&mut *pool.acquire().await.unwrap()).await
}

/// `IF NOT EXISTS` must not take an application's table for the library's.
#[tokio::test]
async fn an_applications_own_table_is_refused_and_left_alone() {
    let database = MySqlDatabase::empty().await;
    database.execute("CREATE TABLE inbox (mails INTEGER); INSERT INTO inbox VALUES (7)").await;
    let pools = futures_util::future::join_all((0..4).map(|_| database.another_pool())).await;
    for result in futures_util::future::join_all(pools.iter().map(MySql::migrate)).await {
        let text = result.unwrap_err().to_string();
        assert!(text.contains("`inbox`") && text.contains(database.name()), "{text}");
    }
    assert_eq!(database.number("SELECT mails FROM inbox").await, 7);
    database.execute("RENAME TABLE inbox TO mails").await;
    MySql::migrate(database.pool()).await.unwrap();
    assert!(pending(&database).await.is_empty());
}

/// Rule 22: additive changes run side by side, breaking ones say so.
#[tokio::test]
async fn newer_tables_are_refused_where_they_break() {
    let database = MySqlDatabase::fresh().await;
    let newer = |version: i64, compatible_from: i64| {
        format!(
            "INSERT INTO distributed_events_migrations (version, compatible_from, applied_at) VALUES ({version}, {compatible_from}, 0)"
        )
    };
    database.execute(&newer(2, 1)).await;
    assert!(check(&database).await.unwrap().is_empty());
    MySql::migrate(database.pool()).await.unwrap();
    database.execute(&newer(3, 2)).await;
    database.execute(&newer(4, 1)).await;
    let error = check(&database).await.unwrap_err();
    assert!(matches!(error, StorageError::NewerTables { found: 4, known: 1 }), "{error:?}");
    database.execute("DELETE FROM distributed_events_migrations").await;
    let error = check(&database).await.unwrap_err();
    assert!(matches!(error, StorageError::MissingTables { .. }), "{error:?}");
}

/// What somebody has changed since the migration.
#[tokio::test]
async fn changed_tables_are_refused() {
    for (change, word) in [
        (
            "ALTER TABLE inbox MODIFY subscription VARCHAR(255) COLLATE utf8mb4_general_ci NOT NULL",
            "inbox.subscription",
        ),
        ("ALTER TABLE outbox CONVERT TO CHARACTER SET latin1", "outbox."),
        ("ALTER TABLE distributed_events_leases MODIFY name VARCHAR(250) COLLATE utf8mb4_bin", "utf8mb4_bin"),
        ("ALTER TABLE distributed_events_instances ENGINE = MyISAM", "MyISAM"),
    ] {
        let database = MySqlDatabase::fresh().await;
        database.execute(change).await;
        let error = check(&database).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, StorageError::Unsafe(_)) && text.contains(word), "{text}");
    }
}

/// Our tables hold every text and tell all of them apart, whatever the database's own character set is.
#[tokio::test]
async fn the_tables_say_their_own_collation() {
    let database = MySqlDatabase::fresh().await;
    let collations = "SELECT count(DISTINCT collation_name) FROM information_schema.columns \
        WHERE table_schema = DATABASE() AND collation_name IS NOT NULL";
    assert_eq!(database.number(collations).await, 1);
    let own = "SELECT count(*) FROM information_schema.schemata WHERE schema_name = DATABASE() \
        AND default_character_set_name = 'latin1'";
    assert_eq!(database.number(own).await, 1);
}

/// The library's connections are set as the promises need them, whatever the user's are.
#[tokio::test]
async fn the_library_pool_has_its_own_settings() {
    let database = MySqlDatabase::fresh().await;
    let pool =
        MySql::open(database.pool(), &PoolSettings::new(2, Duration::from_millis(1_234))).await.unwrap();
    let mut conn = pool.acquire().await.unwrap();
    let settings = "SELECT @@innodb_lock_wait_timeout = 2 AND @@lock_wait_timeout = 2 AND @@autocommit = 1 \
        AND @@tx_isolation = 'READ-COMMITTED' AND @@sql_mode LIKE '%STRICT_TRANS_TABLES%'";
    assert_eq!(MySqlDatabase::numbers(&mut conn, settings).await, [1]);
    assert_eq!(
        MySqlDatabase::numbers(&mut *database.conn().await, settings).await,
        [0],
        "the user's are the user's"
    );
}

/// A check on a connection that would cut values off.
#[tokio::test]
async fn a_lax_connection_is_refused() {
    let database = MySqlDatabase::fresh().await;
    let mut conn = database.options().connect().await.unwrap();
    MySqlDatabase::run(&mut conn, "SET sql_mode = ''").await.unwrap();
    let error = MySql::check(&mut conn).await.unwrap_err();
    assert!(error.to_string().contains("STRICT_TRANS_TABLES"), "{error}");
}

/// Other languages publish with the columns of the specification and nothing else.
#[tokio::test]
async fn plain_sql_may_publish() {
    let database = MySqlDatabase::fresh().await;
    let sql = "SET time_zone = '-08:00'; INSERT INTO outbox (id, event_type, event_data) VALUES (random_bytes(16), 'a', '{}')";
    let mut conn = database.options().connect().await.unwrap();
    MySqlDatabase::run(&mut conn, sql).await.unwrap();
    let rows = pending(&database).await;
    assert_eq!((bodies(&rows), rows[0].envelope.version), (vec!["{}"], 1));
    assert!(rows[0].envelope.headers.is_empty());
    let age = std::time::SystemTime::now().duration_since(rows[0].envelope.created_at).unwrap_or_default();
    assert!(age < Duration::from_secs(60), "{age:?}");
}

/// A start-up that holds its only connection.
#[tokio::test]
async fn a_pool_that_is_used_up_is_migrated() {
    let database = MySqlDatabase::empty().await;
    let users = database.another_pool().await;
    let _held = users.acquire().await.unwrap();
    MySql::migrate(&users).await.unwrap();
    assert!(pending(&database).await.is_empty());
}
