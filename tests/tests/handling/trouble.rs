//! The database's trouble is not the handler's: nothing is counted, and everything is handled afterwards (rule 11).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use distributed_events::{HandlerSettings, IncidentKind, LocalBroker};
use sqlx::sqlite::SqlitePoolOptions;
use tests::eventually::eventually;
use tests::service::{Database, Running, quick, quick_inbox};

use super::{Task, Todo, brisk, ended, of, publish, rows, sql, task, working, write};

const AUDIT: HandlerSettings = HandlerSettings::new("audit");

#[tokio::test]
async fn while_another_holds_the_write_lock_nothing_is_counted_and_nothing_lost() {
    let database = Database::new().await;
    let troubles = Arc::new(Mutex::new(0));
    let told = Arc::clone(&troubles);
    let (builder, runs) = brisk(working(&database, AUDIT));
    let builder = builder.on_incident(move |incident| {
        *told.lock().unwrap() += i32::from(incident.kind == IncidentKind::DatabaseTrouble);
    });
    let backoff = Duration::from_millis(10);
    let inbox = quick_inbox().lease_time(Duration::from_secs(1)).handler_timeout(Duration::from_millis(200));
    let bus = builder.inbox(inbox.backoff(backoff, backoff * 10)).build().unwrap();
    let tasks: Vec<_> =
        (0..20).map(|number| of(["a", "b"][number as usize % 2], number, Todo::Succeed)).collect();
    publish(&database.pool, &tasks).await;
    let running = Running::start(bus);
    eventually("they are there", || rows(&database.pool), |rows| rows.len() == 20).await;
    // Longer than any statement waits for it, and longer than the leases last.
    let held = database.pool.begin_with("BEGIN EXCLUSIVE").await.unwrap();
    eventually("it is told", || async { *troubles.lock().unwrap() }, |count| *count >= 4).await;
    held.rollback().await.unwrap();
    let rows = ended(&database, 20).await;
    running.stop().await.unwrap();
    assert!(rows.iter().all(|row| row.status == "processed"), "{rows:?}");
    let effects: Vec<i64> = database.effects().await.iter().map(|value| value.parse().unwrap()).collect();
    for session in 0..2 {
        let seen: Vec<_> = effects.iter().copied().filter(|number| number % 2 == session).collect();
        assert_eq!(seen, (0..20).filter(|number| number % 2 == session).collect::<Vec<_>>());
    }
    assert!(runs.lock().unwrap().iter().all(|(_, attempt)| *attempt == 1));
}

#[tokio::test]
async fn a_handler_that_another_database_keeps_waiting_counts_no_attempt() {
    let (database, other) = (Database::new().await, Database::new().await);
    let busy = Arc::new(AtomicBool::new(true));
    let options =
        sqlx::sqlite::SqliteConnectOptions::new().filename(other.path()).busy_timeout(Duration::ZERO);
    let elsewhere = SqlitePoolOptions::new().connect_with(options).await.unwrap();
    let held = other.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let bus = quick(&database.pool)
        .broker(LocalBroker::new())
        .on(AUDIT, move |_event: Task, tx, _context| {
            let elsewhere = elsewhere.clone();
            Box::pin(async move {
                write(tx, "here".to_owned()).await?;
                sqlx::query("INSERT INTO effects (value) VALUES ('there')").execute(&elsewhere).await?;
                Ok(())
            })
        })
        .on_incident({
            let busy = Arc::clone(&busy);
            move |incident| {
                if incident.kind == IncidentKind::HandlerFailed && incident.message.contains("locked") {
                    busy.store(false, Ordering::Relaxed);
                }
            }
        })
        .build()
        .unwrap();
    publish(&database.pool, &[task(1, Todo::Succeed)]).await;
    let running = Running::start(bus);
    eventually("it has failed", || async { busy.load(Ordering::Relaxed) }, |busy| !busy).await;
    held.rollback().await.unwrap();
    ended(&database, 1).await[0].assert("processed", 0, Some("locked"));
    running.stop().await.unwrap();
    assert_eq!(
        (database.effects().await, other.effects().await),
        (vec!["here".to_owned()], vec!["there".to_owned()])
    );
}

#[tokio::test]
async fn a_full_disk_counts_no_attempt_and_loses_nothing() {
    let database = Database::new().await;
    sql(&database, "CREATE TABLE filler (value BLOB)").await;
    sql(&database, "INSERT INTO filler VALUES (zeroblob(2000000))").await;
    let tasks: Vec<_> = (0..10).map(|number| of("a", number, Todo::Succeed)).collect();
    publish(&database.pool, &tasks).await;
    // A pool under whose limit, copied to the library's connections, the file can hardly grow.
    let pages = database.number("SELECT page_count FROM pragma_page_count").await;
    let options =
        database.pool.connect_options().as_ref().clone().pragma("max_page_count", (pages + 20).to_string());
    let pool = SqlitePoolOptions::new().connect_with(options).await.unwrap();
    let full = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&full);
    let bus = quick(&pool)
        .broker(LocalBroker::new())
        .on(AUDIT, |event: Task, tx, _context| {
            Box::pin(async move {
                sqlx::query("INSERT INTO filler VALUES (zeroblob(100000))").execute(&mut **tx).await?;
                Ok(write(tx, event.number.to_string()).await?)
            })
        })
        .on_incident(move |incident| {
            if incident.message.contains("full") {
                told.store(true, Ordering::Relaxed);
            }
        })
        .build()
        .unwrap();
    let running = Running::start(bus);
    eventually("it is told", || async { full.load(Ordering::Relaxed) }, |full| *full).await;
    assert!(database.effects().await.is_empty());
    sql(&database, "DELETE FROM filler WHERE length(value) = 2000000").await;
    let rows = ended(&database, 10).await;
    running.stop().await.unwrap();
    assert!(rows.iter().all(|row| row.status == "processed" && row.attempts == 0), "{rows:?}");
    assert_eq!(database.effects().await, (0..10).map(|number| number.to_string()).collect::<Vec<_>>());
    assert_eq!(database.number("SELECT COUNT(*) FROM filler").await, 10);
}

#[tokio::test]
async fn a_commit_that_the_database_refuses_is_a_failed_attempt() {
    let database = Database::new().await;
    sql(&database, "CREATE TABLE parents (id INTEGER PRIMARY KEY)").await;
    sql(
        &database,
        "CREATE TABLE children (parent INTEGER REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)",
    )
    .await;
    let bus = quick(&database.pool)
        .broker(LocalBroker::new())
        .on(AUDIT, |event: Task, tx, _context| {
            Box::pin(async move {
                write(tx, event.number.to_string()).await?;
                if event.todo == Todo::DeadLetter {
                    sqlx::query("INSERT INTO children VALUES (99)").execute(&mut **tx).await?;
                }
                Ok(())
            })
        })
        .build()
        .unwrap();
    publish(&database.pool, &[task(1, Todo::DeadLetter), task(2, Todo::Succeed)]).await;
    let running = Running::start(bus);
    let rows = ended(&database, 2).await;
    running.stop().await.unwrap();
    rows[0].assert("dead", 3, Some("the commit was refused"));
    rows[1].assert("processed", 0, None);
    assert_eq!(database.effects().await, ["2"]);
    assert_eq!(database.number("SELECT COUNT(*) FROM children").await, 0);
}
