//! The handler's transaction, and every way of losing it (rules 8 and 9).

use std::time::Duration;

use distributed_events::storage::{GuardOutcome, PoolSettings, Storage};
use sqlx::Transaction;
use sqlx::pool::PoolConnection;

use super::{Fixture, event, inbox_of, ingest, of_session, pending};

const TIMEOUT: Duration = Duration::from_secs(5);

async fn one_row<F: Fixture>() -> (F, i64) {
    let fixture = F::fresh().await;
    fixture.execute("CREATE TABLE charges (n INTEGER PRIMARY KEY)").await;
    ingest(&fixture, &[of_session("s", "body")]).await;
    let seq = inbox_of(&fixture, "s").await[0].seq;
    (fixture, seq)
}

/// A connection that handlers run on: the library's own, which it knows how to clean up.
async fn own_conn<F: Fixture>(fixture: &F) -> PoolConnection<F::DB> {
    let settings = PoolSettings::new(1, Duration::from_secs(20));
    F::DB::open(fixture.pool(), &settings).await.unwrap().acquire().await.unwrap()
}

/// Marks the row and leaves an effect, as a handler would.
async fn handle<F: Fixture>(tx: &mut Transaction<'_, F::DB>, seq: i64) {
    assert_eq!(F::DB::mark_processed(&mut **tx, &[seq]).await.unwrap(), 1);
    F::run(&mut **tx, "INSERT INTO charges (n) VALUES (1)").await.unwrap();
}

async fn is_pending<F: Fixture>(fixture: &F) -> bool {
    !inbox_of(fixture, "s").await.is_empty()
}

/// What a handler may do to its transaction; what the guard then says.
async fn after<F: Fixture>(fixture: &F, seq: i64, sql: &str) -> GuardOutcome {
    let mut conn = own_conn(fixture).await;
    let mut tx = F::DB::begin_guarded(&mut *conn, TIMEOUT).await.unwrap();
    handle::<F>(&mut tx, seq).await;
    F::run(&mut *tx, sql).await.unwrap();
    let outcome = F::DB::close_guard(&mut *tx, &[seq]).await.unwrap();
    drop(tx);
    // What sqlx believes of such a connection is wrong: the processor closes it too.
    conn.close().await.unwrap();
    outcome
}

/// The usual end.
pub async fn a_whole_transaction_is_committed<F: Fixture>() {
    let (fixture, seq) = one_row::<F>().await;
    let mut conn = own_conn(&fixture).await;
    let mut tx = F::DB::begin_guarded(&mut *conn, TIMEOUT).await.unwrap();
    handle::<F>(&mut tx, seq).await;
    assert_eq!(F::DB::close_guard(&mut *tx, &[seq]).await.unwrap(), GuardOutcome::Whole);
    tx.commit().await.unwrap();
    drop(conn);
    assert!(!is_pending(&fixture).await);
    assert_eq!(fixture.number("SELECT count(*) FROM charges").await, 1);
}

/// A failed handler leaves nothing, and its connection serves the next.
pub async fn a_rollback_takes_the_mark_back<F: Fixture>() {
    let (fixture, seq) = one_row::<F>().await;
    let mut conn = own_conn(&fixture).await;
    let mut tx = F::DB::begin_guarded(&mut *conn, TIMEOUT).await.unwrap();
    handle::<F>(&mut tx, seq).await;
    tx.rollback().await.unwrap();
    // A future that was dropped in the middle.
    let mut tx = F::DB::begin_guarded(&mut *conn, TIMEOUT).await.unwrap();
    handle::<F>(&mut tx, seq).await;
    drop(tx);
    let mut tx = F::DB::begin_guarded(&mut *conn, TIMEOUT).await.unwrap();
    assert_eq!(F::DB::close_guard(&mut *tx, &[]).await.unwrap(), GuardOutcome::Whole);
    tx.commit().await.unwrap();
    drop(conn);
    assert!(is_pending(&fixture).await);
    assert_eq!(fixture.number("SELECT count(*) FROM charges").await, 0);
}

/// What is committed can't be undone.
pub async fn a_raw_commit_is_seen<F: Fixture>() {
    let (fixture, seq) = one_row::<F>().await;
    assert_eq!(after(&fixture, seq, "COMMIT").await, GuardOutcome::Ended);
    assert!(!is_pending(&fixture).await);
}

/// The mark is gone, so committing would leave the effects of what follows without it.
pub async fn a_raw_rollback_is_seen<F: Fixture>() {
    let (fixture, seq) = one_row::<F>().await;
    assert_ne!(after(&fixture, seq, "ROLLBACK").await, GuardOutcome::Whole);
    assert!(is_pending(&fixture).await);
}

/// A savepoint that the handler forgot is no harm.
pub async fn an_open_savepoint_is_whole<F: Fixture>() {
    let (fixture, seq) = one_row::<F>().await;
    let mut conn = own_conn(&fixture).await;
    let mut tx = F::DB::begin_guarded(&mut *conn, TIMEOUT).await.unwrap();
    handle::<F>(&mut tx, seq).await;
    F::run(&mut *tx, "SAVEPOINT mine").await.unwrap();
    F::run(&mut *tx, "INSERT INTO charges (n) VALUES (2)").await.unwrap();
    assert_eq!(F::DB::close_guard(&mut *tx, &[seq]).await.unwrap(), GuardOutcome::Whole);
    tx.commit().await.unwrap();
    drop(conn);
    assert!(!is_pending(&fixture).await);
    assert_eq!(fixture.number("SELECT count(*) FROM charges").await, 2);
}

/// A handler that swallows an error: where the guard says whole, the mark and the effects are committed together; where
/// it does not, neither is.
pub async fn a_failed_statement_never_loses_the_mark_unseen<F: Fixture>() {
    let (fixture, seq) = one_row::<F>().await;
    let mut conn = own_conn(&fixture).await;
    let mut tx = F::DB::begin_guarded(&mut *conn, TIMEOUT).await.unwrap();
    handle::<F>(&mut tx, seq).await;
    F::run(&mut *tx, "INSERT INTO charges (n) VALUES (1)").await.unwrap_err();
    let outcome = F::DB::close_guard(&mut *tx, &[seq]).await.unwrap();
    match outcome {
        GuardOutcome::Whole => tx.commit().await.unwrap(),
        GuardOutcome::Broken => tx.rollback().await.unwrap(),
        GuardOutcome::Ended => panic!("the transaction is there"),
    }
    drop(conn);
    assert_eq!(is_pending(&fixture).await, outcome == GuardOutcome::Broken);
    let charges = i64::from(outcome == GuardOutcome::Whole);
    assert_eq!(fixture.number("SELECT count(*) FROM charges").await, charges);
}

/// A handler's own events are part of its transaction.
pub async fn a_published_event_commits_with_the_mark<F: Fixture>() {
    let (fixture, seq) = one_row::<F>().await;
    for commit in [false, true] {
        let mut conn = own_conn(&fixture).await;
        let mut tx = F::DB::begin_guarded(&mut *conn, TIMEOUT).await.unwrap();
        handle::<F>(&mut tx, seq).await;
        F::DB::insert_outbox(&mut *tx, &[event("charged")]).await.unwrap();
        assert_eq!(F::DB::close_guard(&mut *tx, &[seq]).await.unwrap(), GuardOutcome::Whole);
        if commit {
            tx.commit().await.unwrap();
        } else {
            tx.rollback().await.unwrap();
        }
        drop(conn);
        assert_eq!(pending(&fixture).await.len(), usize::from(commit));
        assert_eq!(is_pending(&fixture).await, !commit);
    }
}
