//! What passes by itself, what does not, and what is lost in between: nothing.

use std::time::{Duration, SystemTime};

use distributed_events::admin::{self, DeadRowFilter, RowFilter, RowState, Table};
use distributed_events::storage::{OutboxQuery, PoolSettings, SentRows, Storage, StorageError, Trouble};
use sqlx::postgres::PgPoolOptions;
use sqlx::{ConnectOptions, Postgres};
use tests::conformance::{
    Fixture, SUBSCRIPTION, event, events, inbox_of, ingest, of_session, pending, publish, report,
};
use tests::fixtures::PgDatabase;

use crate::passes;

type Database = PgDatabase<true>;

/// A locked or lost database is no handler's fault; a mistake in its SQL is.
#[tokio::test]
async fn troubles_are_told_apart() {
    let database = Database::fresh().await;
    let mut conn = database.conn().await;
    let raise = |code: &str| format!("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{code}'; END $$");
    for code in [
        "08006", "53100", "53200", "53300", "57014", "57P01", "57P02", "57P03", "58030", "72000", "40001",
        "40P01", "55P03", "25006", "25P03", "25P04",
    ] {
        let error = Database::run(&mut conn, &raise(code)).await.unwrap_err();
        assert_eq!(Postgres::trouble(&error), Trouble::Passing, "{code}");
    }
    for code in ["08P01", "22001", "23505", "25P02", "42P01", "42601", "0A000", "P0001", "XX000", "28P01"] {
        let error = Database::run(&mut conn, &raise(code)).await.unwrap_err();
        assert_eq!(Postgres::trouble(&error), Trouble::Lasting, "{code}");
    }
    assert_eq!(Postgres::trouble(&sqlx::Error::PoolTimedOut), Trouble::Passing);
    assert_eq!(Postgres::trouble(&sqlx::Error::RowNotFound), Trouble::Lasting);
    let nobody = Database::server().port(1).connect().await.unwrap_err();
    assert_eq!(Postgres::trouble(&nobody), Trouble::Passing, "{nobody}");
}

/// A server that goes down under a connection.
#[tokio::test]
async fn a_lost_connection_passes() {
    let database = Database::fresh().await;
    ingest(&database, &[of_session("s", "before")]).await;
    let pool = Postgres::open(database.pool(), &PoolSettings::new(1, Duration::from_secs(5))).await.unwrap();
    let mut conn = pool.acquire().await.unwrap();
    let mut tx = Postgres::begin_guarded(&mut conn, Duration::from_secs(5)).await.unwrap();
    let pid = Database::numbers(&mut tx, "SELECT pg_backend_pid()::bigint").await[0];
    database.number(&format!("SELECT pg_terminate_backend({pid})::int::bigint")).await;
    let seqs = [inbox_of(&database, "s").await[0].seq];
    let error = Postgres::mark_processed(&mut tx, &seqs).await.unwrap_err();
    assert!(passes(&error), "{error:?}");
    let error = Postgres::close_guard(&mut tx, &seqs).await.unwrap_err();
    assert!(passes(&error), "{error:?}");
    drop(tx);
    let error = Postgres::ingest(&mut conn, SUBSCRIPTION, &[of_session("s", "x")]).await.unwrap_err();
    assert!(passes(&error), "{error:?}");
    drop(conn);
    let mut conn = pool.acquire().await.unwrap();
    let batch = [of_session("s", "after")];
    assert_eq!(Postgres::ingest(&mut conn, SUBSCRIPTION, &batch).await.unwrap(), report(1, 0, 0, 0));
    assert_eq!(inbox_of(&database, "s").await.len(), 2);
}

/// A failover's old primary, or a server that an operator has closed.
#[tokio::test]
async fn a_read_only_server_passes() {
    let database = Database::fresh().await;
    ingest(&database, &[of_session("s", "1")]).await;
    let seq = inbox_of(&database, "s").await[0].seq;
    let options = database.options().options([("default_transaction_read_only", "on")]);
    let mut conn = options.connect().await.unwrap();
    for error in [
        Postgres::ingest(&mut conn, SUBSCRIPTION, &[of_session("s", "2")]).await.unwrap_err(),
        Postgres::mark_processed(&mut conn, &[seq]).await.unwrap_err(),
        Postgres::mark_sent(&mut conn, &[event("1").envelope.id], SentRows::Keep).await.unwrap_err(),
    ] {
        assert!(passes(&error), "{error:?}");
    }
}

/// The server that is not there is said at once by whoever opens, and passes.
#[tokio::test]
async fn a_closed_door_passes() {
    let nowhere = PgPoolOptions::new().connect_lazy_with(Database::server().port(1));
    let error = Postgres::open(&nowhere, &PoolSettings::new(1, Duration::from_secs(1))).await.unwrap_err();
    assert!(passes(&error), "{error:?}");
}

/// A lock on the whole table, as for a change of it, is waited for no longer than set.
#[tokio::test]
async fn a_locked_table_passes() {
    let database = Database::fresh().await;
    let pool =
        Postgres::open(database.pool(), &PoolSettings::new(1, Duration::from_millis(50))).await.unwrap();
    let mut operator = database.pool().begin().await.unwrap();
    Database::run(&mut operator, "LOCK TABLE inbox, outbox").await.unwrap();
    let mut conn = pool.acquire().await.unwrap();
    for error in [
        Postgres::ingest(&mut conn, SUBSCRIPTION, &[of_session("s", "1")]).await.unwrap_err(),
        Postgres::read_outbox(&mut conn, &OutboxQuery::new("default", 1)).await.unwrap_err(),
    ] {
        assert!(passes(&error), "{error:?}");
    }
    operator.rollback().await.unwrap();
    assert_eq!(
        Postgres::ingest(&mut conn, SUBSCRIPTION, &[of_session("s", "1")]).await.unwrap(),
        report(1, 0, 0, 0)
    );
}

/// A table that the user's own trigger misses is not one of ours.
#[tokio::test]
async fn only_missing_tables_of_ours_are_named_so() {
    let database = Database::fresh().await;
    for (missing, ours) in
        [("my_outbox", false), ("other.outbox", false), ("distributed_events_owed_x", true)]
    {
        database
            .execute(&format!(
                "CREATE SCHEMA IF NOT EXISTS other;
                 CREATE OR REPLACE FUNCTION miss() RETURNS trigger LANGUAGE plpgsql AS $$
                 BEGIN PERFORM 1 FROM {missing}; RETURN NEW; END $$;
                 DROP TRIGGER IF EXISTS miss ON inbox;
                 CREATE TRIGGER miss BEFORE INSERT ON inbox FOR EACH ROW EXECUTE FUNCTION miss();"
            ))
            .await;
        let mut conn = database.conn().await;
        let error = Postgres::ingest(&mut conn, SUBSCRIPTION, &[of_session("s", "1")]).await.unwrap_err();
        assert_eq!(matches!(error, StorageError::MissingTables { .. }), ours, "{missing}: {error:?}");
    }
}

/// A row that something else wrote is named, not skipped.
#[tokio::test]
async fn a_corrupt_row_is_told() {
    let database = Database::fresh().await;
    publish(&database, &events(1)).await;
    for (column, value) in
        [("headers", "'no JSON'"), ("event_version", "-1"), ("event_version", "1::bigint << 40")]
    {
        let sql = format!("CREATE TABLE kept AS SELECT * FROM outbox; UPDATE outbox SET {column} = {value}");
        database.execute(&sql).await;
        let query = OutboxQuery::new("default", 1);
        let rows = Postgres::read_outbox(&mut *database.conn().await, &query).await.unwrap();
        assert!(rows[0].unreadable.is_some(), "{column}: {rows:?}");
        let back = "DELETE FROM outbox; INSERT INTO outbox OVERRIDING SYSTEM VALUE SELECT * FROM kept; DROP TABLE kept";
        database.execute(back).await;
    }
    assert_eq!(pending(&database).await.len(), 1);
}

/// An infinite time can't be told in milliseconds, and keeps operators from nothing.
#[tokio::test]
async fn infinite_times_hide_no_row() {
    let database = Database::fresh().await;
    publish(&database, &events(4)).await;
    database
        .execute(
            "UPDATE outbox SET created_at = 'infinity' WHERE event_data = '0';
             UPDATE outbox SET created_at = 'infinity', status = 'sent', processed_at = clock_timestamp() WHERE event_data = '1';
             UPDATE outbox SET status = 'dead', processed_at = 'infinity' WHERE event_data = '2';
             UPDATE outbox SET deliver_at = 'infinity', expires_at = '-infinity' WHERE event_data = '3'",
        )
        .await;
    let pool = database.pool();
    let (long_ago, mut found) = (SystemTime::UNIX_EPOCH, Vec::new());
    for state in [RowState::Pending, RowState::Settled, RowState::Dead, RowState::Delayed] {
        let mut filter = RowFilter::new(state, long_ago);
        for row in admin::list_rows(pool, Table::Outbox, &filter).await.unwrap() {
            assert!(admin::outbox_row(pool, row.id).await.unwrap().is_some());
            assert!(admin::chain(pool, row.id).await.unwrap().is_some());
            filter.after = Some(row.cursor);
            found.push(row.state);
        }
        admin::list_rows(pool, Table::Outbox, &filter).await.unwrap();
    }
    assert_eq!(found, ["pending", "sent", "dead", "pending"]);
    assert_eq!(admin::dead_rows(pool, Table::Outbox, &DeadRowFilter::default()).await.unwrap().len(), 1);
    assert_eq!(admin::count_outbox(pool).await.unwrap().lanes["default"].pending, 2);
    let minute = Duration::from_secs(60);
    assert_eq!(admin::throughput(pool, Table::Outbox, minute).await.unwrap().settled, 1);
}

/// A service that starts at that moment waits, as for every server that is away.
#[tokio::test]
async fn a_server_that_goes_away_while_it_is_greeted_is_away() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let closing = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = [0; 8];
        tokio::io::AsyncReadExt::read_exact(&mut socket, &mut request).await.unwrap();
    });
    let url = format!("postgres://me@127.0.0.1:{port}/shop?sslmode=prefer");
    let error = <sqlx::PgConnection as sqlx::Connection>::connect(&url).await.unwrap_err();
    closing.await.unwrap();
    assert_eq!(Postgres::trouble(&error), Trouble::Passing, "{error}");
}
