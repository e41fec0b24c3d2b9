//! Every way in which PostgreSQL loses a transaction, and whom it lets wait.

use std::time::{Duration, Instant};

use distributed_events::storage::{
    AdminStorage, Fence, GuardOutcome, LeaseStorage, PoolSettings, Storage, StorageError,
};
use futures_util::FutureExt;
use sqlx::{Connection, PgConnection, Postgres, Transaction};
use tests::conformance::{
    Fixture, LEASE_TIME, SUBSCRIPTION, event, inbox_of, ingest, of_session, pending, process,
};
use tests::eventually::eventually;
use tests::fixtures::PgDatabase;
use uuid::Uuid;

use crate::passes;
use crate::settings::setting;

type Database = PgDatabase<true>;

const TIMEOUT: Duration = Duration::from_secs(5);

async fn run(conn: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    Database::run(conn, sql).await
}

/// A database with inbox rows of these sessions, and their seqs.
async fn rows(sessions: &[&str]) -> (Database, Vec<i64>) {
    let database = Database::fresh().await;
    database.execute("CREATE TABLE charges (n INTEGER PRIMARY KEY)").await;
    let mut seqs = Vec::new();
    for session in sessions {
        ingest(&database, &[of_session(session, session)]).await;
        seqs.push(inbox_of(&database, session).await[0].seq);
    }
    (database, seqs)
}

/// A guarded transaction that has marked its row.
async fn guarded(conn: &mut PgConnection, seq: i64) -> Transaction<'_, Postgres> {
    let mut tx = Postgres::begin_guarded(conn, TIMEOUT).await.unwrap();
    assert_eq!(Postgres::mark_processed(&mut tx, &[seq]).await.unwrap(), 1);
    tx
}

/// What a handler may do to its transaction in SQL, by intent or not.
#[tokio::test]
async fn the_guard_tells_how_the_transaction_fared() {
    use GuardOutcome::{Broken, Ended, Whole};
    for (sql, expected) in [
        ("SELECT 1", Whole),
        ("SAVEPOINT a; INSERT INTO charges VALUES (1); ROLLBACK TO a", Whole),
        ("SAVEPOINT a; SAVEPOINT b; RELEASE a", Whole),
        ("SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0", Whole),
        ("INSERT INTO charges VALUES (1); INSERT INTO charges VALUES (1)", Broken),
        // The mark is gone with what was done, and the transaction could be committed without it.
        ("ROLLBACK TO distributed_events_guard", Broken),
        ("ROLLBACK TO distributed_events_guard; INSERT INTO charges VALUES (1)", Broken),
        ("COMMIT", Ended),
        ("ROLLBACK", Ended),
        ("COMMIT; BEGIN", Ended),
        ("ROLLBACK AND CHAIN", Ended),
        ("COMMIT; BEGIN; SAVEPOINT distributed_events_guard", Ended),
        ("ROLLBACK; BEGIN; SAVEPOINT distributed_events_guard; INSERT INTO charges VALUES (1)", Ended),
        ("RELEASE SAVEPOINT distributed_events_guard", Ended),
    ] {
        let (database, seqs) = rows(&["s"]).await;
        let mut conn = database.conn().await;
        let mut tx = guarded(&mut conn, seqs[0]).await;
        let _ = run(&mut tx, sql).await;
        assert_eq!(Postgres::close_guard(&mut tx, &seqs).await.unwrap(), expected, "{sql}");
        drop(tx);
        conn.close().await.unwrap();
    }
}

/// The error stays in the transaction: a publish in it is refused like anything else, and says why.
#[tokio::test]
async fn publish_in_a_broken_transaction_is_refused() {
    let (database, _) = rows(&[]).await;
    let mut tx = database.pool().begin().await.unwrap();
    run(&mut tx, "SELECT nothing").await.unwrap_err();
    let error = Postgres::insert_outbox(&mut tx, &[event("orphan")]).await.unwrap_err();
    assert!(matches!(error, StorageError::NoTransaction), "{error:?}");
    tx.commit().await.unwrap();
    assert!(pending(&database).await.is_empty());
    let mut tx = database.pool().begin().await.unwrap();
    let mut nested = tx.begin().await.unwrap();
    Postgres::insert_outbox(&mut nested, &[event("nested")]).await.unwrap();
    nested.commit().await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(pending(&database).await.len(), 1);
}

/// Rule 16 among concurrent publishers: the second waits for the first, and is refused only where that one committed.
#[tokio::test]
async fn a_concurrent_repetition_waits_for_the_first() {
    let (database, _) = rows(&[]).await;
    for commit in [false, true] {
        let batch = [event("both"), event("new")];
        let mut first = database.pool().begin().await.unwrap();
        Postgres::insert_outbox(&mut first, &batch[..1]).await.unwrap();
        let second = async {
            let mut tx = database.pool().begin().await.unwrap();
            let result = Postgres::insert_outbox(&mut tx, &batch).await;
            tx.commit().await.unwrap();
            result
        };
        let before = pending(&database).await.len();
        let finish = async {
            waiting(&database).await;
            if commit { first.commit().await } else { first.rollback().await }.unwrap();
        };
        let (result, ()) = tokio::join!(second, finish);
        match result {
            Ok(()) => assert!(!commit),
            Err(StorageError::DuplicateId { id }) => {
                assert!(commit && id == batch[0].envelope.id.to_string());
            }
            Err(error) => panic!("{error:?}"),
        }
        assert_eq!(pending(&database).await.len() - before, if commit { 1 } else { 2 });
    }
}

/// Until somebody waits for a lock in this database.
async fn waiting(database: &Database) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("a statement waits for a lock", || database.number(sql), |count| *count > 0).await;
}

/// Rule 3: a held row is said to be held, soon and without harm to the others; a handler's own statements may wait longer.
#[tokio::test]
async fn a_mark_does_not_wait_for_a_held_row() {
    let (database, seqs) = rows(&["held", "free"]).await;
    let mut zombie = database.conn().await;
    let holder = guarded(&mut zombie, seqs[0]).await;
    let mut conn = database.conn().await;
    let mut tx = Postgres::begin_guarded(&mut conn, Duration::from_secs(600)).await.unwrap();
    let asked = Instant::now();
    let error = Postgres::mark_processed(&mut tx, &seqs[..1]).await.unwrap_err();
    assert!(passes(&error), "{error:?}");
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
    tx.rollback().await.unwrap();
    let mut tx = Postgres::begin_guarded(&mut conn, Duration::from_secs(600)).await.unwrap();
    assert_eq!(setting(&mut tx, "lock_timeout").await, "500ms");
    assert_eq!(Postgres::mark_processed(&mut tx, &seqs[1..]).await.unwrap(), 1);
    assert_eq!(setting(&mut tx, "lock_timeout").await, "600100ms");
    assert_eq!(Postgres::close_guard(&mut tx, &seqs[1..]).await.unwrap(), GuardOutcome::Whole);
    tx.commit().await.unwrap();
    holder.commit().await.unwrap();
    assert_eq!(setting(&mut conn, "lock_timeout").await, "0", "the next transaction starts anew");
    assert!(inbox_of(&database, "held").await.is_empty() && inbox_of(&database, "free").await.is_empty());
}

/// An endless statement ends, and the guard's answer is not that statement's.
#[tokio::test]
async fn an_endless_statement_is_ended() {
    let (database, seqs) = rows(&["s"]).await;
    let mut conn = database.conn().await;
    for cut_off in [false, true] {
        let mut tx = Postgres::begin_guarded(&mut conn, Duration::from_millis(50)).await.unwrap();
        Postgres::mark_processed(&mut tx, &seqs).await.unwrap();
        let statement = run(&mut tx, "SELECT pg_sleep(60)");
        if cut_off {
            assert!(tokio::time::timeout(Duration::from_millis(50), statement).await.is_err());
        } else {
            let error = statement.await.unwrap_err();
            assert!(passes(&error.into()), "the handler is late, not mistaken");
        }
        assert_eq!(Postgres::close_guard(&mut tx, &seqs).await.unwrap(), GuardOutcome::Broken);
        tx.rollback().await.unwrap();
    }
    let mut tx = Postgres::begin_guarded(&mut conn, Duration::MAX).await.unwrap();
    Postgres::mark_processed(&mut tx, &seqs).await.unwrap();
    for name in ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"] {
        assert_eq!(setting(&mut tx, name).await, "0", "{name}");
    }
    assert_eq!(Postgres::close_guard(&mut tx, &seqs).await.unwrap(), GuardOutcome::Whole);
}

/// Rule 10: what a frozen process holds is freed.
#[tokio::test]
async fn a_frozen_holder_loses_its_locks() {
    let (database, seqs) = rows(&["s"]).await;
    let mut frozen = database.conn().await;
    let mut tx = Postgres::begin_guarded(&mut frozen, Duration::from_millis(50)).await.unwrap();
    Postgres::mark_processed(&mut tx, &seqs).await.unwrap();
    // Each look waits for the row no longer than this, or none would ever be too late.
    let impatient = database.pool_with(database.options().options([("lock_timeout", "100")])).await;
    let mark =
        async || Postgres::mark_processed(&mut *impatient.acquire().await.unwrap(), &seqs).await.unwrap_or(0);
    eventually("the row is free", mark, |marked| *marked == 1).await;
    let error = Postgres::close_guard(&mut tx, &seqs).await.unwrap_err();
    assert!(passes(&error), "{error:?}");
}

/// A future dropped at any await leaves no transaction behind, and a connection that goes on.
#[tokio::test]
async fn a_cancelled_call_leaves_nothing_behind() {
    let database = Database::fresh().await;
    let pool = Postgres::open(database.pool(), &PoolSettings::new(1, TIMEOUT)).await.unwrap();
    let batch: Vec<_> = (0..100).map(|n| of_session("s", &n.to_string())).collect();
    for polls in 0..40 {
        let mut conn = pool.acquire().await.unwrap();
        let mut ingest = Box::pin(Postgres::ingest(&mut conn, SUBSCRIPTION, &batch));
        for _ in 0..polls {
            if (&mut ingest).now_or_never().is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(ingest);
        let guard = Box::pin(Postgres::begin_guarded(&mut conn, TIMEOUT));
        let _ = tokio::time::timeout(Duration::from_micros(polls * 20), guard).await;
        drop(conn);
        let mut conn = pool.acquire().await.unwrap();
        let _counts = Postgres::count_inbox(&mut conn).await.unwrap();
        let mut tx = conn.begin().await.unwrap();
        Postgres::insert_outbox(&mut tx, &[event("goes on")]).await.unwrap();
        tx.commit().await.unwrap();
        let whole = inbox_of(&database, "s").await.len();
        assert!(whole % 100 == 0, "{whole} rows");
    }
    assert_eq!(pending(&database).await.len(), 40);
}

/// Links that bring the same messages in opposite orders.
#[tokio::test]
async fn a_deadlock_among_ingests_is_retried() {
    let database = Database::fresh().await;
    // So slow that they meet.
    database
        .execute(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.02); RETURN NEW; END $$;
             CREATE TRIGGER slow BEFORE INSERT ON inbox FOR EACH ROW EXECUTE FUNCTION slow();",
        )
        .await;
    let events: Vec<_> = (0..10).map(|n| of_session("s", &n.to_string())).collect();
    let reversed: Vec<_> = events.iter().rev().cloned().collect();
    let (a, b) = tokio::join!(ingest(&database, &events), ingest(&database, &reversed));
    assert_eq!((a.inserted + b.inserted, a.duplicates + b.duplicates), (10, 10));
    let sql = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    eventually("they were in a deadlock", || database.number(sql), |count| *count > 0).await;
}

/// Instances that hold and take leases in different orders never wait for each other in a circle.
#[tokio::test]
async fn leases_make_no_deadlocks() {
    let database = Database::fresh().await;
    let names: Vec<_> = (0..64).map(|n| format!("lease {n}")).collect();
    let owner = Uuid::new_v4();
    let mut conn = database.conn().await;
    let taken = Postgres::take_leases(&mut conn, &names, owner, 64, LEASE_TIME).await.unwrap();
    assert_eq!(taken.len(), 64);
    drop(conn);
    let fences: Vec<_> = taken.into_iter().map(|taken| taken.fence).collect();
    let reversed: Vec<_> = fences.iter().rev().cloned().collect();
    let renew = async |fences: &[Fence]| {
        let mut conn = database.conn().await;
        for _ in 0..100 {
            assert_eq!(Postgres::renew_leases(&mut conn, fences, LEASE_TIME).await.unwrap().len(), 64);
        }
    };
    tokio::join!(renew(&fences), renew(&reversed), renew(&fences), renew(&reversed));
}

/// A lease that another is just renewing is not waited for: whoever asks takes what is free.
#[tokio::test]
async fn a_locked_lease_is_not_waited_for() {
    let database = Database::fresh().await;
    let names = ["a".to_owned(), "b".to_owned()];
    let mut conn = database.conn().await;
    let taken = Postgres::take_leases(&mut conn, &names, Uuid::new_v4(), 2, LEASE_TIME).await.unwrap();
    for lease in &taken {
        database.set_lease_until(&lease.fence.name, -1).await;
    }
    let mut other = database.pool().begin().await.unwrap();
    run(&mut other, "SELECT 1 FROM distributed_events_leases WHERE name = 'a' FOR UPDATE").await.unwrap();
    let again = Postgres::take_leases(&mut conn, &names, Uuid::new_v4(), 2, LEASE_TIME).await.unwrap();
    assert_eq!(again.iter().map(|lease| lease.fence.name.as_str()).collect::<Vec<_>>(), ["b"]);
}

/// A mark commits with the caller's transaction or not at all.
#[tokio::test]
async fn a_mark_is_part_of_the_callers_transaction() {
    let (database, seqs) = rows(&["s"]).await;
    let mut tx = database.pool().begin().await.unwrap();
    assert_eq!(Postgres::mark_processed(&mut tx, &seqs).await.unwrap(), 1);
    tx.rollback().await.unwrap();
    assert_eq!(process(&database, &seqs).await, 1, "the first mark was taken back");
}

/// Nobody looks for it anywhere but in the outbox.
#[tokio::test]
async fn an_event_that_a_trigger_puts_away_is_not_published() {
    let database = Database::fresh().await;
    database
        .execute(
            "CREATE FUNCTION away() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
             CREATE TRIGGER away BEFORE INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION away()",
        )
        .await;
    let mut tx = database.pool().begin().await.unwrap();
    for count in [1, 2] {
        let mut events = vec![event("1"), event("2")];
        events.truncate(count);
        events.iter_mut().for_each(|event| event.is_fresh = true);
        let error = Postgres::insert_outbox(&mut tx, &events).await.unwrap_err();
        assert!(matches!(error, StorageError::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains(&format!("0 of {count} events were written")), "{error}");
    }
}
