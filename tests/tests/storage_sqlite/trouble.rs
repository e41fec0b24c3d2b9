//! What passes by itself, what does not, and what is lost in between: nothing.

use std::time::Duration;

use distributed_events::storage::{
    AdminStorage, Handled, Instance, LeaseStorage, OutboxQuery, PoolSettings, SentRows, Storage,
    StorageError, Trouble,
};
use sqlx::Sqlite;
use tests::conformance::{
    Fixture, SUBSCRIPTION, event, events, inbox_of, ingest, of_session, pending, publish, report, texts,
};
use uuid::Uuid;

use crate::{File, passes};

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
fn huge_instance() -> Instance {
    let handled =
        |n: usize| Handled { subscription: "s".repeat(100), event: format!("{n:0100}"), version: 1 };
    Instance::new(Uuid::new_v4(), (0..1_000).map(handled).collect())
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
    writer.rollback().await.unwrap();
    for sql in ["SELECT nothing", "INSERT INTO outbox (id) VALUES (NULL)"] {
        let error = File::run(&mut conn, sql).await.unwrap_err();
        assert_eq!(Sqlite::trouble(&error), Trouble::Lasting, "{error}");
    }
    assert_eq!(Sqlite::trouble(&sqlx::Error::PoolTimedOut), Trouble::Passing);
    assert_eq!(Sqlite::trouble(&sqlx::Error::WorkerCrashed), Trouble::Passing);
    assert_eq!(Sqlite::trouble(&sqlx::Error::RowNotFound), Trouble::Lasting);
}

/// A row that something else wrote is named, not skipped.
#[tokio::test]
async fn a_corrupt_row_is_told() {
    let file = File::fresh().await;
    publish(&file, &events(1)).await;
    for (column, value) in
        [("id", "x'00'"), ("headers", "'no JSON'"), ("event_version", "-1"), ("event_type", "x'ff'")]
    {
        let sql = format!("CREATE TABLE kept AS SELECT * FROM outbox; UPDATE outbox SET {column} = {value}");
        file.execute(&sql).await;
        let read = Sqlite::read_outbox(&mut *file.conn().await, &OutboxQuery::new("default", 1)).await;
        // Without its id nothing can be done about it.
        match read {
            Ok(rows) => assert!(rows[0].unreadable.is_some() && column != "id", "{column}: {rows:?}"),
            Err(StorageError::Corrupt { table: "outbox", .. }) => assert_eq!(column, "id"),
            Err(error) => panic!("{column}: {error:?}"),
        }
        file.execute("DELETE FROM outbox; INSERT INTO outbox SELECT * FROM kept; DROP TABLE kept").await;
    }
    assert_eq!(pending(&file).await.len(), 1);
}
