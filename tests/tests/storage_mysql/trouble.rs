//! What passes by itself, what does not, and what is lost in between: nothing.

use std::time::Duration;

use distributed_events::storage::{OutboxQuery, PoolSettings, Storage, StorageError, Trouble};
use sqlx::{ConnectOptions, MySql};
use tests::conformance::{
    Fixture, SUBSCRIPTION, events, inbox_of, ingest, of_session, pending, publish, report,
};
use tests::fixtures::MySqlDatabase;

use crate::passes;

/// A mistake in SQL is the handler's; what the server does to a connection is not.
#[tokio::test]
async fn troubles_are_told_apart() {
    let database = MySqlDatabase::fresh().await;
    let mut conn = database.options().connect().await.unwrap();
    for sql in [
        "SELECT nothing",
        "INSERT INTO outbox (id) VALUES (NULL)",
        "INSERT INTO outbox (id, event_type, event_data, lane) VALUES ('1', '', '', repeat('x', 256))",
        "INSERT INTO outbox (id, event_type, event_data, status) VALUES ('1', '', '', 'odd')",
        "no SQL at all",
    ] {
        let error = MySqlDatabase::run(&mut conn, sql).await.unwrap_err();
        assert_eq!(MySql::trouble(&error), Trouble::Lasting, "{error}");
    }
    let late = "SET max_statement_time = 0.05; SELECT count(*) FROM information_schema.columns AS a, \
        information_schema.columns AS b, information_schema.columns AS c WHERE a.table_name < b.column_name";
    let error = MySqlDatabase::run(&mut conn, late).await.unwrap_err();
    assert_eq!(MySql::trouble(&error), Trouble::Passing, "{error}");
    for error in [sqlx::Error::PoolTimedOut, sqlx::Error::PoolClosed, sqlx::Error::WorkerCrashed] {
        assert_eq!(MySql::trouble(&error), Trouble::Passing);
    }
    assert_eq!(MySql::trouble(&sqlx::Error::RowNotFound), Trouble::Lasting);
}

/// The server ends a connection, as it does when it shuts down: nothing of the batch is there, and the pool goes on.
#[tokio::test]
async fn a_killed_connection_passes() {
    let database = MySqlDatabase::fresh().await;
    let pool = MySql::open(database.pool(), &PoolSettings::new(1, Duration::from_secs(5))).await.unwrap();
    for _ in 0..3 {
        let mut conn = pool.acquire().await.unwrap();
        let id = MySqlDatabase::numbers(&mut conn, "SELECT CONNECTION_ID()").await[0];
        database.execute(&format!("KILL {id}")).await;
        let error = MySql::ingest(&mut conn, SUBSCRIPTION, &[of_session("s", "1")]).await.unwrap_err();
        assert!(passes(&error), "{error:?}");
        drop(conn);
        assert!(inbox_of(&database, "s").await.is_empty());
    }
    let mut conn = pool.acquire().await.unwrap();
    let again = MySql::ingest(&mut conn, SUBSCRIPTION, &[of_session("s", "1")]).await.unwrap();
    assert_eq!(again, report(1, 0, 0, 0));
}

/// A table of the user's that is missing is the user's.
#[tokio::test]
async fn only_the_librarys_own_tables_are_called_missing() {
    let database = MySqlDatabase::fresh().await;
    let sql = "CREATE TRIGGER audit AFTER INSERT ON inbox FOR EACH ROW INSERT INTO audit_of_inbox VALUES (1)";
    database.execute(sql).await;
    let mut conn = database.conn().await;
    let error = MySql::ingest(&mut conn, SUBSCRIPTION, &[of_session("s", "1")]).await.unwrap_err();
    assert!(
        matches!(&error, StorageError::Database(_)) && error.to_string().contains("audit_of_inbox"),
        "{error:?}"
    );
    drop(conn);
    database.execute("DROP TRIGGER audit").await;
    assert_eq!(ingest(&database, &[of_session("s", "1")]).await, report(1, 0, 0, 0));
}

/// A row that something else wrote is named, not skipped.
#[tokio::test]
async fn a_corrupt_row_is_told() {
    let database = MySqlDatabase::fresh().await;
    publish(&database, &events(1)).await;
    for (column, value) in
        [("headers", "'no JSON'"), ("event_version", "-1"), ("event_version", "5000000000")]
    {
        database.execute("DROP TABLE IF EXISTS kept; CREATE TABLE kept AS SELECT * FROM outbox").await;
        database.execute(&format!("UPDATE outbox SET {column} = {value}")).await;
        let query = OutboxQuery::new("default", 1);
        let rows = MySql::read_outbox(&mut *database.conn().await, &query).await.unwrap();
        assert!(rows[0].unreadable.is_some(), "{column}: {rows:?}");
        database.execute("DELETE FROM outbox; INSERT INTO outbox SELECT * FROM kept").await;
    }
    assert_eq!(pending(&database).await.len(), 1);
}
