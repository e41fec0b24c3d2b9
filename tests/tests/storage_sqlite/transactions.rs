//! Every way in which SQLite loses a transaction.

use std::time::Duration;

use distributed_events::storage::{GuardOutcome, PoolSettings, Storage, StorageError};
use futures_util::FutureExt;
use sqlx::{Connection, Sqlite};
use tests::conformance::{
    Fixture, SUBSCRIPTION, bodies, event, inbox_of, ingest, of_session, pending, publish, report,
};

use crate::File;

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
    assert_eq!(Sqlite::close_guard(&mut tx, &[]).await.unwrap(), GuardOutcome::Ended);
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
    assert_eq!(Sqlite::close_guard(&mut tx, &[]).await.unwrap(), GuardOutcome::Whole);
    tx.commit().await.unwrap();
    drop(conn);
    assert_eq!(file.number("SELECT count(*) FROM charges").await, 1);
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
