//! Handlers that end the transaction they were given (SEMANTICS.md, rules 8 and 9).

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use distributed_events::{DistributedEvent, Handler, HandlerError, HandlerSettings, LocalBroker};
use distributed_events::{EventContext, IncidentKind, admin};
use serde::{Deserialize, Serialize};
use sqlx::{Sqlite, SqlitePool, Transaction};
use tests::eventually::eventually;
use tests::service::{Database, Running, quick};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Deed {
    Behave,
    Commit,
    CommitAndBegin,
    Rollback,
    /// Ends the transaction by a conflict, swallows the error, and writes on in autocommit.
    OrRollback,
    /// The same, and gives the error back.
    OrRollbackAndFail,
    CommitAndFail,
    CommitAndPanic,
    CommitAndHang,
    SwallowConstraint,
    SwallowNonsense,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Asked {
    number: i64,
    deed: Deed,
}

impl DistributedEvent for Asked {
    const NAME: &'static str = "guard.asked";
    const HAS_SESSION: bool = true;

    /// All in one session, so that each comes to a connection after the one before.
    fn session_id(&self) -> Option<String> {
        Some("one".to_owned())
    }
}

struct Doer {
    batch: u32,
    runs: Arc<AtomicU32>,
}

async fn write(tx: &mut Transaction<'_, Sqlite>, value: String) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO effects (value) VALUES (?)").bind(value).execute(&mut **tx).await?;
    Ok(())
}

async fn raw(tx: &mut Transaction<'_, Sqlite>, sql: &'static str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(sql).execute(&mut **tx).await?;
    Ok(())
}

impl Handler<Sqlite> for Doer {
    type Event = Asked;

    fn settings(&self) -> HandlerSettings {
        let timeout = std::time::Duration::from_millis(300);
        HandlerSettings::new("audit").timeout(timeout).batch(self.batch)
    }

    async fn handle(
        &self,
        event: Asked,
        tx: &mut Transaction<'_, Sqlite>,
        _context: &EventContext,
    ) -> Result<(), HandlerError> {
        const TWICE: &str = "INSERT OR ROLLBACK INTO once VALUES ('there')";
        if event.deed != Deed::Behave {
            self.runs.fetch_add(1, Ordering::Relaxed);
        }
        write(tx, format!("{} before", event.number)).await?;
        match event.deed {
            Deed::Behave => {}
            Deed::Commit => raw(tx, "COMMIT").await?,
            Deed::CommitAndBegin => raw(tx, "COMMIT; BEGIN IMMEDIATE").await?,
            Deed::Rollback => raw(tx, "ROLLBACK").await?,
            Deed::OrRollback => assert!(raw(tx, TWICE).await.is_err()),
            Deed::OrRollbackAndFail => raw(tx, TWICE).await?,
            Deed::CommitAndFail => {
                raw(tx, "COMMIT").await?;
                return Err("after its commit".into());
            }
            Deed::CommitAndPanic => {
                raw(tx, "COMMIT").await?;
                panic!("after its commit");
            }
            Deed::CommitAndHang => {
                raw(tx, "COMMIT").await?;
                std::future::pending().await
            }
            Deed::SwallowConstraint => assert!(raw(tx, "INSERT INTO once VALUES ('there')").await.is_err()),
            Deed::SwallowNonsense => assert!(raw(tx, "INSERT INTO nowhere VALUES (1)").await.is_err()),
        }
        write(tx, format!("{} after", event.number)).await?;
        Ok(())
    }
}

async fn publish(pool: &SqlitePool, events: &[Asked]) {
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    Asked::publish_all(&mut tx, events).await.unwrap();
    tx.commit().await.unwrap();
}

/// The status, attempts and last error of all rows, in order.
async fn rows(pool: &SqlitePool) -> Vec<(String, i64, Option<String>)> {
    sqlx::query_as("SELECT status, attempts, last_error FROM inbox ORDER BY seq")
        .fetch_all(pool)
        .await
        .unwrap()
}

async fn with_once() -> Database {
    let database = Database::new().await;
    let sql = "CREATE TABLE once (value TEXT UNIQUE); INSERT INTO once VALUES ('there')";
    sqlx::raw_sql(sql).execute(&database.pool).await.unwrap();
    database
}

/// Runs one deed between two events that behave, and a restart after them; gives the row of the deed and how often it ran.
async fn done(database: &Database, deed: Deed) -> ((String, i64, Option<String>), u32) {
    let runs = Arc::new(AtomicU32::new(0));
    let events = [Deed::Behave, deed, Deed::Behave];
    let events: Vec<_> = (0..).zip(events).map(|(number, deed)| Asked { number, deed }).collect();
    publish(&database.pool, &events).await;
    for behaving in [2, 3] {
        let doer = Doer { batch: 1, runs: Arc::clone(&runs) };
        let bus = quick(&database.pool).broker(LocalBroker::new()).handler_value(doer).build().unwrap();
        let running = Running::start(bus);
        let over = |rows: &Vec<(String, i64, Option<String>)>| {
            rows.len() > behaving && rows.iter().all(|row| row.0 != "pending")
        };
        eventually("all have ended", || rows(&database.pool), over).await;
        running.stop().await.unwrap();
        publish(&database.pool, &[Asked { number: 3, deed: Deed::Behave }]).await;
    }
    let rows = rows(&database.pool).await;
    for behaving in [0, 2, 3] {
        assert_eq!(rows[behaving], ("processed".to_owned(), 0, None), "{deed:?} leaves a clean connection");
    }
    (rows[1].clone(), runs.load(Ordering::Relaxed))
}

async fn assert_ends_dead(deed: Deed, reason: &str, effects: &[&str]) {
    let database = with_once().await;
    let ((status, attempts, error), runs) = done(&database, deed).await;
    assert_eq!((status.as_str(), attempts, runs), ("dead", 1, 1), "{deed:?}: {error:?}");
    let error = error.unwrap();
    assert!(
        error.starts_with("handler ended the transaction") && error.contains(reason),
        "{deed:?}: {error}"
    );
    let all = database.effects().await;
    let of_it: Vec<_> = all.iter().filter(|value| value.starts_with('1')).collect();
    assert_eq!(of_it, effects, "{deed:?}: what is durable can't be undone");
    let others = all.iter().filter(|value| !value.starts_with('1')).count();
    assert_eq!(others, 6, "{deed:?}: {all:?}");
}

#[tokio::test]
async fn a_raw_commit_ends_the_event_dead() {
    assert_ends_dead(Deed::Commit, "", &["1 before", "1 after"]).await;
    assert_ends_dead(Deed::CommitAndBegin, "", &["1 before"]).await;
}

#[tokio::test]
async fn a_raw_rollback_ends_the_event_dead() {
    assert_ends_dead(Deed::Rollback, "", &["1 after"]).await;
}

#[tokio::test]
async fn a_conflict_that_rolls_back_ends_the_event_dead_whether_it_is_swallowed_or_not() {
    assert_ends_dead(Deed::OrRollback, "", &["1 after"]).await;
    assert_ends_dead(Deed::OrRollbackAndFail, "UNIQUE constraint failed", &[]).await;
}

#[tokio::test]
async fn a_failure_after_a_raw_commit_is_never_run_again() {
    assert_ends_dead(Deed::CommitAndFail, "after its commit", &["1 before"]).await;
    assert_ends_dead(Deed::CommitAndPanic, "panicked: after its commit", &["1 before"]).await;
    assert_ends_dead(Deed::CommitAndHang, "did not return", &["1 before"]).await;
}

#[tokio::test]
async fn a_swallowed_error_that_leaves_the_transaction_alive_commits_the_rest() {
    for deed in [Deed::SwallowConstraint, Deed::SwallowNonsense] {
        let database = with_once().await;
        let (row, runs) = done(&database, deed).await;
        assert_eq!((row, runs), (("processed".to_owned(), 0, None), 1), "{deed:?}");
        let effects = database.effects().await;
        assert_eq!(effects.iter().filter(|value| value.starts_with('1')).count(), 2, "{deed:?}: {effects:?}");
    }
}

#[tokio::test]
async fn in_a_batch_every_event_of_an_ended_transaction_is_dead_and_none_runs_again() {
    let database = with_once().await;
    // Delivered before any is handled.
    let trigger = "CREATE TRIGGER waits AFTER INSERT ON inbox BEGIN \
        UPDATE inbox SET next_attempt_at = NEW.received_at + 3600000 WHERE seq = NEW.seq; END";
    sqlx::raw_sql(trigger).execute(&database.pool).await.unwrap();
    let deeds = [Deed::Behave, Deed::Commit, Deed::Behave];
    let events: Vec<_> = (0..).zip(deeds).map(|(number, deed)| Asked { number, deed }).collect();
    publish(&database.pool, &events).await;
    let runs = Arc::new(AtomicU32::new(0));
    let build = || {
        let doer = Doer { batch: 10, runs: Arc::clone(&runs) };
        quick(&database.pool).broker(LocalBroker::new()).handler_value(doer).build().unwrap()
    };
    let running = Running::start(build());
    eventually("they are there", || rows(&database.pool), |rows| rows.len() == 3).await;
    running.stop().await.unwrap();
    let due = "DROP TRIGGER waits; UPDATE inbox SET next_attempt_at = NULL";
    sqlx::raw_sql(due).execute(&database.pool).await.unwrap();
    let running = Running::start(build());
    // Between the handler's commit and the verdict they are marked as processed.
    let dead = |rows: &Vec<(String, i64, Option<String>)>| rows.iter().all(|row| row.0 == "dead");
    let rows = eventually("all are dead", || rows(&database.pool), dead).await;
    running.stop().await.unwrap();
    for (_, _, error) in &rows {
        assert!(error.as_ref().unwrap().starts_with("handler ended the transaction"));
    }
    let expected = ["0 before", "0 after", "1 before", "1 after", "2 before", "2 after"];
    assert_eq!(database.effects().await, expected);
}

#[tokio::test]
async fn an_event_ended_dead_is_told_and_runs_again_only_when_it_is_requeued() {
    let database = with_once().await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let tells = Arc::clone(&told);
    let runs = Arc::new(AtomicU32::new(0));
    let doer = Doer { batch: 1, runs: Arc::clone(&runs) };
    let bus = quick(&database.pool)
        .broker(LocalBroker::new())
        .handler_value(doer)
        .on_incident(move |incident| {
            if incident.kind == IncidentKind::EventDead {
                tells.lock().unwrap().push(incident.message.clone());
            }
        })
        .build()
        .unwrap();
    publish(&database.pool, &[Asked { number: 1, deed: Deed::Rollback }]).await;
    let running = Running::start(bus);
    let dead = || async { told.lock().unwrap().clone() };
    eventually("it is told", dead, |told| told == &["handler ended the transaction"]).await;
    let seq = database.number("SELECT seq FROM inbox").await;
    admin::requeue(&database.pool, admin::Table::Inbox, &[seq], std::time::Duration::ZERO).await.unwrap();
    eventually("it is told again", dead, |told| told.len() == 2).await;
    running.stop().await.unwrap();
    assert_eq!(runs.load(Ordering::Relaxed), 2);
}

/// What a handler has set on its connection shows whether another one is given it.
#[tokio::test]
async fn the_connection_of_a_handler_that_was_cut_off_or_ended_the_transaction_is_not_used_again() {
    for deed in [Deed::Commit, Deed::CommitAndHang, Deed::Behave] {
        let database = Database::new().await;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sees = Arc::clone(&seen);
        let settings = HandlerSettings::new("audit").timeout(std::time::Duration::from_millis(50));
        let bus = quick(&database.pool)
            .broker(LocalBroker::new())
            .on(settings, move |event: Asked, tx, _context| {
                let sees = Arc::clone(&sees);
                Box::pin(async move {
                    let size: i64 = sqlx::query_scalar("PRAGMA cache_size").fetch_one(&mut **tx).await?;
                    sees.lock().unwrap().push(size);
                    raw(tx, "PRAGMA cache_size = 4321").await?;
                    if event.deed == Deed::Commit {
                        raw(tx, "COMMIT").await?;
                    } else if event.deed == Deed::CommitAndHang {
                        std::future::pending::<()>().await;
                    }
                    Ok(())
                })
            })
            .build()
            .unwrap();
        let events: Vec<_> = (0..8).map(|number| Asked { number, deed }).collect();
        publish(&database.pool, &events).await;
        let running = Running::start(bus);
        let runs = || async { seen.lock().unwrap().clone() };
        let seen = eventually("eight runs", runs, |seen| seen.len() >= 8).await;
        running.stop().await.unwrap();
        let again = seen.contains(&4321);
        assert_eq!(
            again,
            deed == Deed::Behave,
            "{deed:?}: {seen:?}; one that behaves leaves its connection to the next"
        );
    }
}

#[tokio::test]
async fn a_row_that_goes_away_under_its_handlers_feet_is_left_alone() {
    for gone in ["DELETE FROM inbox", "UPDATE inbox SET status = 'discarded'"] {
        let database = Database::new().await;
        let runs = Arc::new(AtomicU32::new(0));
        let counts = Arc::clone(&runs);
        let bus = quick(&database.pool)
            .broker(LocalBroker::new())
            // Inside the handler's own transaction, where the row is locked against everybody else.
            .on(HandlerSettings::new("audit"), move |event: Asked, tx, _context| {
                let counts = Arc::clone(&counts);
                Box::pin(async move {
                    counts.fetch_add(1, Ordering::Relaxed);
                    if event.number == 1 {
                        sqlx::query(gone).execute(&mut **tx).await?;
                    }
                    write(tx, event.number.to_string()).await?;
                    Ok(())
                })
            })
            .build()
            .unwrap();
        publish(&database.pool, &[Asked { number: 1, deed: Deed::Behave }]).await;
        let running = Running::start(bus);
        eventually("the first has run", || database.effects(), |effects| effects.len() == 1).await;
        publish(&database.pool, &[Asked { number: 2, deed: Deed::Behave }]).await;
        eventually("the second has run", || database.effects(), |effects| effects.len() == 2).await;
        running.stop().await.unwrap();
        assert_eq!(runs.load(Ordering::Relaxed), 2, "{gone}");
        assert_eq!(
            database.number("SELECT COUNT(*) FROM inbox WHERE status IN ('pending', 'dead')").await,
            0
        );
    }
}

#[tokio::test]
async fn a_row_discarded_between_two_attempts_is_not_run_again() {
    let database = Database::new().await;
    let runs = Arc::new(AtomicU32::new(0));
    let counts = Arc::clone(&runs);
    let bus = quick(&database.pool)
        .broker(LocalBroker::new())
        .on(HandlerSettings::new("audit"), move |event: Asked, tx, _context| {
            let counts = Arc::clone(&counts);
            Box::pin(async move {
                if event.number == 1 {
                    counts.fetch_add(1, Ordering::Relaxed);
                    return Err(HandlerError::retry_after(std::time::Duration::from_millis(300)));
                }
                write(tx, event.number.to_string()).await?;
                Ok(())
            })
        })
        .build()
        .unwrap();
    let events = [1, 2].map(|number| Asked { number, deed: Deed::Behave });
    publish(&database.pool, &events).await;
    let running = Running::start(bus);
    let waits = "SELECT COUNT(*) FROM inbox WHERE last_error IS NOT NULL";
    eventually("the first waits", || database.number(waits), |rows| *rows == 1).await;
    let discard = "UPDATE inbox SET status = 'discarded' WHERE last_error IS NOT NULL";
    sqlx::query(discard).execute(&database.pool).await.unwrap();
    eventually("its session goes on", || database.effects(), |effects| effects == &["2"]).await;
    running.stop().await.unwrap();
    assert_eq!(runs.load(Ordering::Relaxed), 1);
}
