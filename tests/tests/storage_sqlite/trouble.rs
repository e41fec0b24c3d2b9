//! What passes by itself, what does not, and what is lost in between: nothing.

use std::time::{Duration, SystemTime};

use distributed_events::admin::{self, RowFilter, RowState, Table};
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

/// Any value can stand in any column there, and operators see it for what it is.
#[tokio::test]
async fn operators_see_what_is_no_event() {
    let file = File::fresh().await;
    publish(&file, &events(3)).await;
    let kill = "UPDATE outbox SET status = 'dead', processed_at = created_at";
    file.execute(kill).await;
    for (column, value, told) in [
        ("id", "'019ab5f0-5c9d'", "id: \"019ab5f0-5c9d\" is no UUID of 16 bytes"),
        ("id", "x'00ff'", "id: x'00ff' is no UUID of 16 bytes"),
        ("event_type", "x'ff'", "event_type: "),
        ("lane", "x'61'", "lane: "),
        ("created_at", "'yesterday'", "created_at: "),
        ("processed_at", "x''", "processed_at: "),
        ("event_version", "'two'", "event_version: "),
        ("session_id", "CAST(x'ff' AS TEXT)", "session_id: "),
        ("last_error", "x'00'", "last_error: "),
    ] {
        let sql = format!(
            "CREATE TABLE kept AS SELECT * FROM outbox; UPDATE outbox SET {column} = {value} WHERE seq = 2"
        );
        file.execute(&sql).await;
        let filter = RowFilter::new(RowState::Dead, SystemTime::UNIX_EPOCH);
        let rows = admin::list_rows(file.pool(), Table::Outbox, &filter).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [1, 2, 3], "{column}");
        let reason = rows[1].unreadable.as_deref().unwrap_or_default();
        assert!(reason.contains(told), "{column}: {reason}");
        assert_eq!(rows[1].known_id().is_none(), column == "id");
        assert!(rows[0].unreadable.is_none() && rows[2].unreadable.is_none(), "{column}");
        admin::count_outbox(file.pool()).await.unwrap();
        if column != "id" {
            let whole = admin::outbox_row(file.pool(), rows[1].id).await.unwrap().unwrap();
            assert!(whole.summary.unreadable.unwrap().contains(told), "{column}");
        }
        file.execute("DELETE FROM outbox; INSERT INTO outbox SELECT * FROM kept; DROP TABLE kept").await;
    }
    // A state that nobody knows is in no list, and is shown as it is.
    let filter = RowFilter::new(RowState::Dead, SystemTime::UNIX_EPOCH);
    let id = admin::list_rows(file.pool(), Table::Outbox, &filter).await.unwrap()[1].id;
    file.execute("PRAGMA ignore_check_constraints = ON; UPDATE outbox SET status = 'lost' WHERE seq = 2")
        .await;
    assert_eq!(admin::list_rows(file.pool(), Table::Outbox, &filter).await.unwrap().len(), 2);
    let row = admin::outbox_row(file.pool(), id).await.unwrap().unwrap();
    assert_eq!(row.summary.state, "lost");
}

/// Subscriptions that are no text are passed over, so that the others are found.
#[tokio::test]
async fn a_subscription_that_is_no_text_hides_no_other() {
    let file = File::fresh().await;
    let received = of_session("s", "1");
    for subscription in ["a", "c"] {
        Sqlite::ingest(&mut *file.conn().await, subscription, std::slice::from_ref(&received)).await.unwrap();
    }
    let strange = "INSERT INTO inbox (subscription, id, message_id, event_type, shard) \
        VALUES (CAST(x'62ff' AS TEXT), randomblob(16), 'm', 'e', 1), (x'62', randomblob(16), 'm', 'e', 1)";
    file.execute(strange).await;
    let rows = admin::inbox_rows(file.pool(), received.id).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.summary.owner.as_str()).collect::<Vec<_>>(), ["a", "c"]);
}
