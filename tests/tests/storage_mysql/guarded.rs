//! Every way in which MariaDB and MySQL lose a handler's transaction (rules 8 to 10).

use std::time::{Duration, Instant};

use distributed_events::storage::{GuardOutcome, PoolSettings, Storage};
use sqlx::pool::PoolConnection;
use sqlx::{MySql, MySqlConnection, Pool, Row};
use tests::conformance::{Fixture, event, inbox_of, ingest, of_session, pending, process};
use tests::eventually::eventually;
use tests::fixtures::MySqlDatabase;

use crate::passes;

const TIMEOUT: Duration = Duration::from_secs(5);

/// One pending row, a table for effects, and the library's own pool of one connection.
struct Case {
    database: MySqlDatabase,
    pool: Pool<MySql>,
    seq: i64,
}

impl Case {
    async fn new() -> Self {
        let database = MySqlDatabase::fresh().await;
        database
            .execute("CREATE TABLE charges (n INTEGER PRIMARY KEY); INSERT INTO charges VALUES (1), (2)")
            .await;
        ingest(&database, &[of_session("s", "body")]).await;
        let seq = inbox_of(&database, "s").await[0].seq;
        let settings = PoolSettings::new(1, Duration::from_secs(20));
        let pool = MySql::open(database.pool(), &settings).await.unwrap();
        Self { database, pool, seq }
    }

    async fn is_pending(&self) -> bool {
        !inbox_of(&self.database, "s").await.is_empty()
    }

    async fn charges(&self) -> i64 {
        self.database.number("SELECT count(*) FROM charges").await
    }

    /// What the guard says after a handler that ran these statements.
    async fn after(&self, statements: &[&str]) -> GuardOutcome {
        let mut conn = self.pool.acquire().await.unwrap();
        let mut tx = MySql::begin_guarded(&mut conn, TIMEOUT).await.unwrap();
        assert_eq!(MySql::mark_processed(&mut tx, &[self.seq]).await.unwrap(), 1);
        for statement in statements {
            let sql = statement.replace("{seq}", &self.seq.to_string());
            MySqlDatabase::run(&mut tx, &sql).await.unwrap();
        }
        let outcome = MySql::close_guard(&mut tx, &[self.seq]).await.unwrap();
        // What the processor does: it closes the connection of a transaction that ended.
        match outcome {
            GuardOutcome::Broken => tx.rollback().await.unwrap(),
            _ => drop(tx),
        }
        conn.close().await.unwrap();
        outcome
    }
}

/// Lets a transaction be the victim of a deadlock over two rows, and swallows the error.
async fn deadlock(database: &MySqlDatabase, tx: &mut MySqlConnection) {
    MySqlDatabase::run(tx, "UPDATE charges SET n = n WHERE n = 1").await.unwrap();
    // The other has done more, so that it is not the one to be rolled back.
    let mut other = database.pool().begin().await.unwrap();
    MySqlDatabase::run(&mut other, "INSERT INTO charges SELECT 100 + n FROM charges WHERE n = 2")
        .await
        .unwrap();
    MySqlDatabase::run(&mut other, "UPDATE charges SET n = n + 1000 WHERE n IN (2, 102)").await.unwrap();
    let waiting = tokio::spawn(async move {
        MySqlDatabase::run(&mut other, "UPDATE charges SET n = n + 1 WHERE n = 1").await?;
        other.rollback().await
    });
    let error = MySqlDatabase::run(tx, "UPDATE charges SET n = n WHERE n = 2").await;
    let other = waiting.await.unwrap();
    let victim = error.unwrap_err();
    assert!(victim.to_string().contains("1213"), "{victim}");
    other.unwrap();
}

/// Rule 9: all is rolled back, the mark too, and nothing of what follows becomes durable, published events included.
#[tokio::test]
async fn a_swallowed_deadlock_is_a_failed_attempt() {
    let case = Case::new().await;
    let mut conn = case.pool.acquire().await.unwrap();
    let mut tx = MySql::begin_guarded(&mut conn, TIMEOUT).await.unwrap();
    MySql::mark_processed(&mut tx, &[case.seq]).await.unwrap();
    deadlock(&case.database, &mut tx).await;
    MySqlDatabase::run(&mut tx, "INSERT INTO charges VALUES (7)").await.unwrap();
    let _ = MySql::insert_outbox(&mut tx, &[event("orphan")]).await;
    assert_eq!(MySql::close_guard(&mut tx, &[case.seq]).await.unwrap(), GuardOutcome::Broken);
    tx.rollback().await.unwrap();
    drop(conn);
    // The connection goes back and comes again.
    let again = case.pool.acquire().await.unwrap();
    drop(again);
    assert!(case.is_pending().await);
    assert_eq!((case.charges().await, pending(&case.database).await.len()), (2, 0));
}

/// Rule 9 for the user's own transaction, where autocommit is on: the event would be durable alone.
#[tokio::test]
async fn publish_after_a_swallowed_deadlock_is_refused() {
    let case = Case::new().await;
    let mut conn = case.database.conn().await;
    let mut tx = sqlx::Connection::begin(&mut *conn).await.unwrap();
    deadlock(&case.database, &mut tx).await;
    let error = MySql::insert_outbox(&mut tx, &[event("orphan")]).await.unwrap_err();
    assert!(matches!(error, distributed_events::storage::StorageError::NoTransaction), "{error:?}");
    drop(tx);
    drop(conn);
    assert!(pending(&case.database).await.is_empty());
}

/// What commits by itself takes the mark with it; what follows is rolled back, and the row is for an operator.
#[tokio::test]
async fn what_commits_by_itself_is_seen() {
    for statements in [
        vec!["CREATE TABLE more (n INTEGER)", "INSERT INTO charges VALUES (7)"],
        vec!["TRUNCATE TABLE charges", "INSERT INTO charges VALUES (1), (2), (7)"],
        vec!["COMMIT", "INSERT INTO charges VALUES (7)"],
        vec!["COMMIT", "START TRANSACTION", "INSERT INTO charges VALUES (7)", "SAVEPOINT mine"],
        vec!["LOCK TABLES charges WRITE", "INSERT INTO charges VALUES (7)"],
        vec!["COMMIT", "XA START 'handler'", "INSERT INTO charges VALUES (7)"],
        vec!["COMMIT", "XA START 'handler'", "INSERT INTO charges VALUES (7)", "XA END 'handler'"],
    ] {
        let case = Case::new().await;
        assert_eq!(case.after(&statements).await, GuardOutcome::Ended, "{statements:?}");
        assert!(!case.is_pending().await, "{statements:?}");
        let durable = if statements[0].starts_with("TRUNCATE") { 0 } else { 2 };
        assert_eq!(case.charges().await, durable, "{statements:?}");
    }
}

/// With autocommit back on, what followed is durable, whatever became of the mark.
#[tokio::test]
async fn autocommit_in_a_handler_is_seen() {
    for first in ["SET autocommit = 1", "ROLLBACK; SET autocommit = 1"] {
        let case = Case::new().await;
        let outcome = case.after(&[first, "INSERT INTO charges VALUES (7)"]).await;
        assert_eq!(outcome, GuardOutcome::Ended, "{first}");
        assert_eq!((case.charges().await, case.is_pending().await), (3, first.starts_with("ROLLBACK")));
    }
}

/// A handler that marks the row again has not committed it.
#[tokio::test]
async fn a_mark_of_its_own_is_not_taken_for_a_committed_one() {
    let case = Case::new().await;
    let remark = "UPDATE inbox SET status = 'processed', marked_by = CONNECTION_ID() WHERE seq = {seq}";
    assert_eq!(case.after(&["ROLLBACK", remark]).await, GuardOutcome::Broken);
    assert!(case.is_pending().await);
}

/// Once the mark was lost another instance may process the row: that it is processed then says nothing about this one.
#[tokio::test]
async fn anothers_mark_is_not_taken_for_its_own() {
    let case = Case::new().await;
    let mut conn = case.pool.acquire().await.unwrap();
    let mut tx = MySql::begin_guarded(&mut conn, TIMEOUT).await.unwrap();
    MySql::mark_processed(&mut tx, &[case.seq]).await.unwrap();
    MySqlDatabase::run(&mut tx, "ROLLBACK").await.unwrap();
    assert_eq!(process(&case.database, &[case.seq]).await, 1);
    assert_eq!(MySql::close_guard(&mut tx, &[case.seq]).await.unwrap(), GuardOutcome::Broken);
    tx.rollback().await.unwrap();
    drop(conn);
    assert!(!case.is_pending().await, "what the other did stays");
}

/// Rule 3: a row that a zombie holds is left to the next look at once, and the handler's own locks wait as long as before.
#[tokio::test]
async fn a_held_row_fails_fast() {
    let case = Case::new().await;
    let settings = PoolSettings::new(1, Duration::from_secs(20));
    let zombies = MySql::open(case.database.pool(), &settings).await.unwrap();
    let mut zombie = zombies.acquire().await.unwrap();
    let mut held = MySql::begin_guarded(&mut zombie, Duration::from_secs(600)).await.unwrap();
    MySql::mark_processed(&mut held, &[case.seq]).await.unwrap();
    let mut conn = case.pool.acquire().await.unwrap();
    let mut tx = MySql::begin_guarded(&mut conn, Duration::from_secs(30)).await.unwrap();
    let asked = Instant::now();
    let error = MySql::mark_processed(&mut tx, &[case.seq]).await.unwrap_err();
    assert!(passes(&error), "{error:?}");
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    assert_eq!(waits(&mut tx).await, 31, "the handler's timeout and a margin");
    held.rollback().await.unwrap();
    assert_eq!(MySql::mark_processed(&mut tx, &[case.seq]).await.unwrap(), 1);
    assert_eq!(waits(&mut tx).await, 31);
    tx.rollback().await.unwrap();
}

async fn waits(conn: &mut MySqlConnection) -> i64 {
    MySqlDatabase::numbers(conn, "SELECT @@innodb_lock_wait_timeout").await[0]
}

/// Rule 10: a frozen process's locks are freed, and what it says when it wakes up comes to nothing.
#[tokio::test]
async fn a_frozen_holder_is_ended() {
    let case = Case::new().await;
    let mut conn = case.pool.acquire().await.unwrap();
    let mut tx = MySql::begin_guarded(&mut conn, Duration::from_millis(200)).await.unwrap();
    MySql::mark_processed(&mut tx, &[case.seq]).await.unwrap();
    // The condition is the row's lock, which the server has to free by itself.
    let sql = format!("SELECT seq FROM inbox WHERE seq = {} FOR UPDATE NOWAIT", case.seq);
    let freed = async || MySqlDatabase::run(&mut *case.database.conn().await, &sql).await.is_ok();
    eventually("the frozen holder's lock is freed", freed, |freed| *freed).await;
    let error = MySql::close_guard(&mut tx, &[case.seq]).await.unwrap_err();
    assert!(passes(&error), "{error:?}");
    drop(tx);
    drop(conn);
    assert!(case.is_pending().await);
}

/// Rule 10: an endless statement would go on after its handler was cut off, with its locks.
#[tokio::test]
async fn an_endless_statement_is_ended() {
    let case = Case::new().await;
    let mut conn = case.pool.acquire().await.unwrap();
    let mut tx = MySql::begin_guarded(&mut conn, Duration::from_millis(300)).await.unwrap();
    MySql::mark_processed(&mut tx, &[case.seq]).await.unwrap();
    let endless = "SELECT count(*) FROM information_schema.columns AS a, information_schema.columns AS b, \
        information_schema.columns AS c, information_schema.columns AS d WHERE a.table_name < b.column_name";
    let error = MySqlDatabase::run(&mut tx, endless).await.unwrap_err();
    assert!(passes(&error.into()), "and it is not the handler's fault");
    assert_eq!(MySql::close_guard(&mut tx, &[case.seq]).await.unwrap(), GuardOutcome::Whole);
    // The time that is left of the connection's transaction is not the handler's.
    assert_eq!(MySqlDatabase::numbers(&mut tx, "SELECT @@max_statement_time * 1000").await, [0]);
    tx.commit().await.unwrap();
    drop(conn);
    assert!(!case.is_pending().await);
}

/// A future that was dropped while it began a transaction has left it open, and sqlx doesn't know of it: what is in it is
/// committed by nobody, although whatever begins another one would.
#[tokio::test]
async fn what_a_dropped_future_left_is_not_committed() {
    let case = Case::new().await;
    let mut conn = case.pool.acquire().await.unwrap();
    let leave = "SET autocommit = 0; START TRANSACTION; INSERT INTO charges VALUES (7)";
    MySqlDatabase::run(&mut conn, leave).await.unwrap();
    MySql::begin_guarded(&mut conn, TIMEOUT).await.unwrap().commit().await.unwrap();
    assert_eq!(case.charges().await, 2);
    MySqlDatabase::run(&mut conn, leave).await.unwrap();
    MySql::ingest(&mut conn, "other", &[of_session("s", "1")]).await.unwrap();
    assert_eq!(case.charges().await, 2);
}

/// The settings that statements of the library's own rest on.
async fn settings(conn: &mut PoolConnection<MySql>) -> Vec<String> {
    let sql = "SELECT CONCAT_WS(' ', @@autocommit + 0, @@innodb_lock_wait_timeout, @@lock_wait_timeout, \
        @@max_statement_time, @@idle_transaction_timeout, @@tx_isolation, @@sql_mode LIKE '%STRICT_TRANS_TABLES%', \
        DATABASE(), @@timestamp > 1700000000)";
    let rows = sqlx::raw_sql(sql).fetch_all(&mut **conn).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Whatever a handler did to its connection, and however it ended, the next finds it as it was, and nothing of the last is
/// committed on the way.
#[tokio::test]
async fn a_connection_comes_back_as_it_was() {
    let case = Case::new().await;
    let mut conn = case.pool.acquire().await.unwrap();
    let expected = settings(&mut conn).await;
    assert_eq!(expected[0], format!("1 20 20 0.000000 0 READ-COMMITTED 1 {} 1", case.database.name()));
    drop(conn);
    for statement in [
        "DO 0",
        "SET sql_mode = '', SESSION tx_isolation = 'REPEATABLE-READ', timestamp = 1",
        "USE information_schema",
        "SET autocommit = 0",
        "COMMIT; LOCK TABLES charges WRITE",
        "COMMIT; XA START 'handler'",
    ] {
        for end in ["dropped", "rolled back", "closed guard", "forgotten"] {
            let mut conn = case.pool.acquire().await.unwrap();
            let mut tx = MySql::begin_guarded(&mut conn, TIMEOUT).await.unwrap();
            MySqlDatabase::run(&mut tx, statement).await.unwrap();
            // Where the handler may not, it does not matter.
            let insert = format!("INSERT INTO {}.charges VALUES (7)", case.database.name());
            let _ = MySqlDatabase::run(&mut tx, &insert).await;
            match end {
                "dropped" => drop(tx),
                "rolled back" => drop(tx.rollback().await),
                "closed guard" => {
                    let _ = MySql::close_guard(&mut tx, &[case.seq]).await;
                    drop(tx);
                }
                _ => std::mem::forget(tx),
            }
            drop(conn);
            let mut conn = case.pool.acquire().await.unwrap();
            assert_eq!(settings(&mut conn).await, expected, "{statement}, {end}");
            drop(conn);
            assert_eq!(case.charges().await, 2, "{statement}, {end}");
        }
    }
}
