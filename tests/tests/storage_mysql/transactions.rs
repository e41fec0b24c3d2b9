//! Transactions on connections as users have them, and on the library's own.

use std::time::Duration;

use distributed_events::storage::{LeaseStorage, PoolSettings, Retention, SentRows, Storage, StorageError};
use futures_util::FutureExt;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::{Connection, MySql};
use tests::conformance::{
    Fixture, LEASE_TIME, SUBSCRIPTION, bodies, event, events, inbox_of, ingest, of_session, pending, publish,
    report, take, texts,
};
use tests::eventually::eventually;
use tests::fixtures::MySqlDatabase;

use crate::passes;

/// An event outside a transaction would be there although what it tells of is rolled back.
#[tokio::test]
async fn publish_outside_a_transaction_is_refused() {
    let database = MySqlDatabase::fresh().await;
    let mut conn = database.conn().await;
    let mut tx = conn.begin().await.unwrap();
    MySqlDatabase::run(&mut tx, "CREATE TABLE charges (n INTEGER)").await.unwrap();
    let error = MySql::insert_outbox(&mut tx, &[event("orphan")]).await.unwrap_err();
    assert!(matches!(error, StorageError::NoTransaction), "{error:?}");
    drop(tx);
    assert!(pending(&database).await.is_empty());
    // And inside one, an open savepoint or a failed statement is no reason to refuse, nor is an implicit transaction.
    let mut tx = conn.begin().await.unwrap();
    MySqlDatabase::run(&mut tx, "SELECT nothing").await.unwrap_err();
    let mut nested = tx.begin().await.unwrap();
    MySql::insert_outbox(&mut nested, &[event("nested")]).await.unwrap();
    nested.commit().await.unwrap();
    tx.commit().await.unwrap();
    MySqlDatabase::run(&mut conn, "SET autocommit = 0").await.unwrap();
    MySql::insert_outbox(&mut conn, &[event("implicit")]).await.unwrap();
    MySqlDatabase::run(&mut conn, "COMMIT").await.unwrap();
    conn.close().await.unwrap();
    assert_eq!(bodies(&pending(&database).await), ["nested", "implicit"]);
}

fn hostile(options: MySqlConnectOptions) -> MySqlConnectOptions {
    options.charset("latin1").timezone(Some("+05:30".to_owned())).pipes_as_concat(false)
}

/// What a user's connection is set to changes nothing in what is written.
#[tokio::test]
async fn a_users_settings_change_no_event() {
    let database = MySqlDatabase::fresh().await;
    let users = database.pool_with(hostile(database.options())).await;
    let mut conn = users.acquire().await.unwrap();
    let modes = "SET sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,NO_UNSIGNED_SUBTRACTION,HIGH_NOT_PRECEDENCE', \
        SESSION tx_isolation = 'SERIALIZABLE'";
    MySqlDatabase::run(&mut conn, modes).await.unwrap();
    let text = "\\ä🙂 \"'";
    let mut published = event(text);
    published.envelope.session_id = Some(text.to_owned());
    published.envelope.headers.insert("h".to_owned(), text.to_owned());
    let mut tx = conn.begin().await.unwrap();
    MySql::insert_outbox(&mut tx, std::slice::from_ref(&published)).await.unwrap();
    tx.commit().await.unwrap();
    let row = pending(&database).await.remove(0);
    published.envelope.created_at = row.envelope.created_at;
    assert_eq!(row.envelope, published.envelope);
    let age = std::time::SystemTime::now().duration_since(row.envelope.created_at).unwrap_or_default();
    assert!(age < Duration::from_secs(60), "{age:?}");
    // The library's own pool is opened beside the same one.
    let pool = MySql::open(&users, &PoolSettings::new(1, Duration::from_secs(5))).await.unwrap();
    let mut conn = pool.acquire().await.unwrap();
    MySql::ingest(&mut conn, SUBSCRIPTION, &[of_session(text, text)]).await.unwrap();
    assert!(MySql::check(&mut conn).await.unwrap().is_empty());
    assert_eq!(texts(&inbox_of(&database, text).await), [text]);
}

/// An id that was committed after a user's snapshot was taken is a repetition all the same.
#[tokio::test]
async fn a_repetition_is_seen_behind_a_snapshot() {
    let database = MySqlDatabase::fresh().await;
    let mut tx = database.pool().begin().await.unwrap();
    MySqlDatabase::numbers(&mut tx, "SELECT count(*) FROM outbox").await;
    let first = event("first");
    publish(&database, std::slice::from_ref(&first)).await;
    let error = MySql::insert_outbox(&mut tx, std::slice::from_ref(&first)).await.unwrap_err();
    assert!(matches!(error, StorageError::DuplicateId { .. }), "{error:?}");
}

/// The relay's marks and retention's slices leave no gap locked: publishers and receivers never wait for them.
#[tokio::test]
async fn nobody_waits_for_a_gap() {
    let database = MySqlDatabase::fresh().await;
    let published = events(3);
    publish(&database, &published).await;
    ingest(&database, &[of_session("s", "1")]).await;
    let pool = MySql::open(database.pool(), &PoolSettings::new(1, Duration::from_secs(5))).await.unwrap();
    let mut conn = pool.acquire().await.unwrap();
    let mut tx = conn.begin().await.unwrap();
    let ids: Vec<_> = published.iter().map(|event| event.envelope.id).collect();
    assert_eq!(MySql::mark_sent(&mut tx, &ids, SentRows::Keep).await.unwrap(), 3);
    for retention in [
        Retention::Outbox { older_than: Duration::ZERO, limit: 9 },
        Retention::InboxRows { older_than: Duration::ZERO, limit: 9 },
    ] {
        MySql::purge(&mut tx, &retention).await.unwrap();
    }
    let seq = inbox_of(&database, "s").await[0].seq;
    assert_eq!(MySql::mark_processed(&mut tx, &[seq, seq + 1, seq + 2]).await.unwrap(), 1);
    // The other side gives up at once where it has to wait.
    let impatient = database.another_pool().await;
    let mut other = impatient.acquire().await.unwrap();
    MySqlDatabase::run(&mut other, "SET innodb_lock_wait_timeout = 1").await.unwrap();
    let mut publisher = other.begin().await.unwrap();
    MySql::insert_outbox(&mut publisher, &events(3)).await.unwrap();
    publisher.commit().await.unwrap();
    let batch = [of_session("s", "2"), of_session("s", "3")];
    assert_eq!(MySql::ingest(&mut other, SUBSCRIPTION, &batch).await.unwrap(), report(2, 0, 0, 0));
    tx.rollback().await.unwrap();
}

/// The server drops a connection that sends it more than it takes, so that the size is known before.
#[tokio::test]
async fn a_statement_is_never_larger_than_the_server_takes() {
    let database = MySqlDatabase::fresh().await;
    let mut conn = database.conn().await;
    let limit =
        usize::try_from(MySqlDatabase::numbers(&mut conn, "SELECT @@max_allowed_packet").await[0]).unwrap();
    let part = "x".repeat(limit / 5 * 2);
    let parts = [event(&part), event(&part), event(&part)];
    let mut tx = conn.begin().await.unwrap();
    MySql::insert_outbox(&mut tx, &parts).await.unwrap();
    let error = MySql::insert_outbox(&mut tx, &[event("1"), event(&"x".repeat(limit))]).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("max_allowed_packet") && text.contains(&limit.to_string()), "{text}");
    tx.commit().await.unwrap();
    let row = format!("SELECT count(*) FROM outbox WHERE length(event_data) = {}", part.len());
    assert_eq!(
        database.number(&row).await,
        3,
        "the connection lives, and nothing of the refused call is there"
    );
    assert_eq!(database.number("SELECT count(*) FROM outbox").await, 3);

    let batch = [
        of_session("s", "before"),
        of_session("s", &part),
        of_session("s", &part),
        of_session("s", &part),
        of_session("s", &"x".repeat(limit)),
        of_session("s", "after"),
    ];
    assert_eq!(MySql::ingest(&mut conn, SUBSCRIPTION, &batch).await.unwrap(), report(5, 0, 0, 1));
    assert_eq!(MySql::ingest(&mut conn, SUBSCRIPTION, &batch).await.unwrap(), report(0, 6, 0, 0));
    let rows = inbox_of(&database, "s").await;
    let found: Vec<_> = texts(&rows).into_iter().map(str::len).collect();
    assert_eq!(found, [6, part.len(), part.len(), part.len(), 5]);
    let dead = "SELECT count(*) FROM inbox WHERE status = 'dead' AND event_data = '' \
        AND last_error LIKE '%max_allowed_packet%'";
    assert_eq!(database.number(dead).await, 1);
}

/// A reason of any length ends its row.
#[tokio::test]
async fn a_reason_of_any_length_is_kept_in_part() {
    let database = MySqlDatabase::fresh().await;
    let reason = "ä".repeat(20_000_000);
    let published = event("1");
    publish(&database, std::slice::from_ref(&published)).await;
    let mut dead = of_session("s", "1");
    dead.dead = Some(reason.clone());
    ingest(&database, &[dead, of_session("s", "2")]).await;
    let seq = inbox_of(&database, "s").await[0].seq;
    let fence = take(&database, "lease").await.fence;
    let mut conn = database.conn().await;
    assert!(MySql::mark_outbox_dead(&mut conn, published.envelope.id, &reason).await.unwrap());
    let attempt =
        distributed_events::storage::Attempt::new(seq, &fence, distributed_events::storage::Verdict::Dead);
    assert!(MySql::record_attempt(&mut conn, &attempt.because(&reason)).await.unwrap());
    drop(conn);
    for table in ["outbox", "inbox"] {
        let sql = format!("SELECT length(last_error) FROM {table} WHERE status = 'dead'");
        let lengths = MySqlDatabase::numbers(&mut *database.conn().await, &sql).await;
        assert!(lengths.iter().all(|length| *length == 65_536), "{lengths:?}");
    }
}

/// A future dropped at any await leaves no transaction behind, and no connection that gives the answer to another question.
#[tokio::test]
async fn a_cancelled_ingest_leaves_nothing_behind() {
    let database = MySqlDatabase::fresh().await;
    let pool = MySql::open(database.pool(), &PoolSettings::new(1, Duration::from_secs(5))).await.unwrap();
    for polls in 0..60 {
        let batch: Vec<_> = (0..100).map(|n| of_session("s", &n.to_string())).collect();
        let mut conn = pool.acquire().await.unwrap();
        let mut ingest = Box::pin(MySql::ingest(&mut conn, SUBSCRIPTION, &batch));
        for _ in 0..polls {
            if (&mut ingest).now_or_never().is_some() {
                break;
            }
            // Lets the answer come, more or less of it.
            tokio::time::timeout(Duration::from_micros(polls), std::future::pending::<()>())
                .await
                .unwrap_err();
        }
        drop(ingest);
        drop(conn);
        let mut conn = pool.acquire().await.unwrap();
        assert_eq!(MySqlDatabase::numbers(&mut conn, "SELECT 4711").await, [4_711]);
        let one = format!("one {polls}");
        assert_eq!(
            MySql::ingest(&mut conn, "other", &[of_session("s", &one)]).await.unwrap(),
            report(1, 0, 0, 0)
        );
        let whole = inbox_of(&database, "s").await.len();
        assert!(whole % 100 == 0, "{whole} rows");
    }
    assert_eq!(database.number("SELECT count(*) FROM inbox WHERE subscription = 'other'").await, 60);
}

/// Rule 2: a transaction that is open for less than a minute keeps its place.
#[tokio::test]
async fn a_horizon_passes_after_a_minute() {
    let database = MySqlDatabase::fresh().await;
    let mut conn = database.conn().await;
    let shift = async |conn: &mut sqlx::MySqlConnection, seconds: i64| {
        MySqlDatabase::run(conn, &format!("SET timestamp = 1800000000 + {seconds}")).await.unwrap();
    };
    shift(&mut conn, 0).await;
    let mut horizon = MySql::horizon(&mut conn).await.unwrap();
    for (seconds, passed) in [(0, false), (59, false), (60, true), (-100, false), (1_000, true)] {
        shift(&mut conn, seconds).await;
        let found = MySql::has_passed(&mut conn, &mut horizon).await.unwrap();
        assert_eq!(found, passed, "after {seconds} s");
    }
    conn.close().await.unwrap();
}

/// Two relays that receive the same messages in different orders wait for each other, and one is rolled back.
#[tokio::test]
async fn deadlocks_of_receivers_are_repeated() {
    let database = MySqlDatabase::fresh().await;
    for round in 0..10 {
        let forward: Vec<_> = (0..40).map(|n| of_session("s", &format!("{round} {n}"))).collect();
        let backward: Vec<_> = forward.iter().rev().cloned().collect();
        let link = async |events: &[_]| {
            let mut conn = database.conn().await;
            let mut inserted = 0;
            // Two in one transaction, so that each holds what the other wants.
            for events in events.chunks(20) {
                inserted += MySql::ingest(&mut conn, SUBSCRIPTION, events).await.unwrap().inserted;
            }
            inserted
        };
        let (a, b, c) = tokio::join!(link(&forward), link(&backward), link(&forward));
        assert_eq!(a + b + c, 40);
    }
    assert_eq!(inbox_of(&database, "s").await.len(), 400);
}

/// A lock that is held too long is trouble that passes, and the connection goes on.
#[tokio::test]
async fn a_lock_that_is_held_too_long_passes() {
    let database = MySqlDatabase::fresh().await;
    let published = events(1);
    publish(&database, &published).await;
    let mut holder = database.pool().begin().await.unwrap();
    MySqlDatabase::run(&mut holder, "SELECT seq FROM outbox FOR UPDATE").await.unwrap();
    let pool = MySql::open(database.pool(), &PoolSettings::new(1, Duration::from_millis(100))).await.unwrap();
    let mut conn = pool.acquire().await.unwrap();
    let ids = [published[0].envelope.id];
    let error = MySql::mark_sent(&mut conn, &ids, SentRows::Keep).await.unwrap_err();
    assert!(passes(&error), "{error:?}");
    holder.rollback().await.unwrap();
    assert_eq!(MySql::mark_sent(&mut conn, &ids, SentRows::Keep).await.unwrap(), 1);
}

/// The clock stands still within a statement, also while it waits: by that clock the lease that another has taken meanwhile
/// lasts for too long, and would count as expired.
#[tokio::test]
async fn a_lease_taken_by_another_meanwhile_is_not_taken_again() {
    let database = MySqlDatabase::fresh().await;
    let old = take(&database, "lease").await.fence;
    MySql::release_leases(&mut *database.conn().await, &[old]).await.unwrap();
    let mut holder = database.pool().begin().await.unwrap();
    MySqlDatabase::run(&mut holder, "SELECT name FROM distributed_events_leases FOR UPDATE").await.unwrap();
    let pool = database.another_pool().await;
    let waiting = tokio::spawn(async move {
        let mut conn = pool.acquire().await.unwrap();
        let names = ["lease".to_owned()];
        MySql::take_leases(&mut conn, &names, uuid::Uuid::new_v4(), 1, LEASE_TIME).await.unwrap()
    });
    // It waits, and has for more than a tick of the clock.
    let waits = format!(
        "SELECT count(*) FROM information_schema.processlist WHERE db = '{}' AND time_ms > 10 \
         AND info LIKE '%distributed_events_leases%FOR UPDATE%' AND info NOT LIKE '%processlist%'",
        database.name()
    );
    eventually("the other waits", async || database.number(&waits).await, |waiting| *waiting == 1).await;
    let until = LEASE_TIME.as_millis();
    let taken = format!(
        "UPDATE distributed_events_leases SET owner = repeat('x', 16), epoch = epoch + 1, until = {until} + \
         (TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000)"
    );
    MySqlDatabase::run(&mut holder, &taken).await.unwrap();
    holder.commit().await.unwrap();
    assert_eq!(waiting.await.unwrap(), []);
}
