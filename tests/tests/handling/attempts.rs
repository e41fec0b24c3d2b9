//! What counts as an attempt, and what ends one.

use std::time::Duration;

use distributed_events::{HandlerSettings, RetryPolicy};
use tests::eventually::eventually;
use tests::service::{Database, Running};

use super::{Todo, brisk, ended, of, publish, rows, sql, task, working};

const AUDIT: HandlerSettings = HandlerSettings::new("audit");

#[tokio::test]
async fn a_failed_handler_is_run_again_with_backoff_and_knows_its_attempt() {
    let database = Database::new().await;
    let settings =
        AUDIT.retry(RetryPolicy::default().attempts(4).initial(Duration::from_millis(40)).jitter(0.0));
    let (builder, runs) = working(&database, settings);
    let table = "CREATE TABLE waits (wait INTEGER); CREATE TRIGGER keeps AFTER UPDATE OF next_attempt_at ON inbox \
        BEGIN INSERT INTO waits VALUES (NEW.next_attempt_at - CAST(unixepoch('subsec') * 1000 AS INTEGER)); END";
    sqlx::raw_sql(table).execute(&database.pool).await.unwrap();
    publish(&database.pool, &[task(1, Todo::FailUntil(3))]).await;
    let running = Running::start(builder.build().unwrap());
    ended(&database, 1).await[0].assert("processed", 2, Some("not before attempt 3"));
    running.stop().await.unwrap();
    assert_eq!(*runs.lock().unwrap(), [(1, 1), (1, 2), (1, 3)]);
    assert_eq!(database.effects().await, ["1"], "what failed is rolled back");
    let waits: Vec<i64> =
        sqlx::query_scalar("SELECT wait FROM waits").fetch_all(&database.pool).await.unwrap();
    assert_eq!(waits, [40, 80], "the wait doubles, and is written in the row");
}

#[tokio::test]
async fn out_of_attempts_an_event_is_dead_with_its_reason() {
    let database = Database::new().await;
    let (builder, runs) = working(&database, AUDIT);
    publish(&database.pool, &[task(1, Todo::FailUntil(99)), task(2, Todo::Succeed)]).await;
    let running = Running::start(builder.build().unwrap());
    let rows = ended(&database, 2).await;
    rows[0].assert("dead", 3, Some("not before attempt 99"));
    rows[1].assert("processed", 0, None);
    let bus = running.bus.clone();
    // Counted after they are written, so only a bus that has stopped has counted all.
    running.stop().await.unwrap();
    let stats = bus.stats();
    assert_eq!((stats.processed, stats.retried, stats.dead), (1, 2, 1));
    assert_eq!(runs.lock().unwrap().iter().filter(|(number, _)| *number == 1).count(), 3);
    assert_eq!(database.effects().await, ["2"]);
}

#[tokio::test]
async fn a_handler_that_asks_for_time_costs_no_attempt() {
    let database = Database::new().await;
    let (builder, runs) = working(&database, AUDIT);
    publish(&database.pool, &[task(1, Todo::AskForTime(Duration::from_millis(1)))]).await;
    let running = Running::start(builder.build().unwrap());
    let count = || async { runs.lock().unwrap().len() };
    eventually("more runs than attempts", count, |runs| *runs > 5).await;
    running.stop().await.unwrap();
    assert!(runs.lock().unwrap().iter().all(|run| *run == (1, 1)));
    rows(&database.pool).await[0].assert("pending", 0, Some("asked to be run again"));
}

#[tokio::test]
async fn a_handler_that_asks_for_all_the_time_there_is_harms_nobody() {
    let database = Database::new().await;
    let (builder, _runs) = working(&database, AUDIT);
    publish(&database.pool, &[of("a", 1, Todo::AskForTime(Duration::MAX))]).await;
    let running = Running::start(builder.build().unwrap());
    let waits = "SELECT COUNT(*) FROM inbox WHERE next_attempt_at > received_at + 31536000000";
    eventually("it waits for years", || database.number(waits), |rows| *rows == 1).await;
    // Its shard and its session are still worked on.
    sql(&database, "UPDATE inbox SET status = 'discarded'").await;
    let other = (0..).map(|n| format!("b{n}")).find(|session| {
        distributed_events::storage::shard_of(session) == distributed_events::storage::shard_of("a")
    });
    publish(&database.pool, &[of(&other.unwrap(), 2, Todo::Succeed)]).await;
    ended(&database, 2).await[1].assert("processed", 0, None);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_dead_letter_is_dead_at_once() {
    let database = Database::new().await;
    let (builder, runs) = working(&database, AUDIT);
    publish(&database.pool, &[task(1, Todo::DeadLetter)]).await;
    let running = Running::start(builder.build().unwrap());
    ended(&database, 1).await[0].assert("dead", 1, Some("never"));
    running.stop().await.unwrap();
    assert_eq!(*runs.lock().unwrap(), [(1, 1)]);
    assert!(database.effects().await.is_empty());
}

#[tokio::test]
async fn a_panic_is_a_failed_attempt() {
    let database = Database::new().await;
    let (builder, runs) = working(&database, AUDIT);
    publish(&database.pool, &[task(1, Todo::Panic), task(2, Todo::Succeed)]).await;
    let running = Running::start(builder.build().unwrap());
    let rows = ended(&database, 2).await;
    running.stop().await.unwrap();
    rows[0].assert("dead", 3, Some("the handler panicked: at number 1"));
    rows[1].assert("processed", 0, None);
    assert_eq!(runs.lock().unwrap().iter().filter(|(number, _)| *number == 1).count(), 3);
    assert_eq!(database.effects().await, ["2"]);
}

#[tokio::test]
async fn a_handler_that_never_returns_fails_and_lets_go_of_the_database() {
    let database = Database::new().await;
    let (builder, runs) = working(&database, AUDIT.timeout(Duration::from_millis(100)));
    publish(&database.pool, &[task(1, Todo::Hang), task(2, Todo::Succeed)]).await;
    let running = Running::start(builder.build().unwrap());
    let rows = ended(&database, 2).await;
    rows[0].assert("dead", 3, Some("did not return within 100ms"));
    rows[1].assert("processed", 0, None);
    // Nobody holds the write lock while the bus runs on.
    sql(&database, "INSERT INTO effects (value) VALUES ('free')").await;
    running.stop().await.unwrap();
    assert_eq!(runs.lock().unwrap().iter().filter(|(number, _)| *number == 1).count(), 3);
    assert_eq!(database.effects().await, ["2", "free"]);
}

#[tokio::test]
async fn an_error_that_panics_when_it_is_shown_is_a_failed_attempt_like_any() {
    let database = Database::new().await;
    let (builder, _runs) = working(&database, AUDIT);
    publish(&database.pool, &[of("a", 1, Todo::FailUnshowably), of("a", 2, Todo::Succeed)]).await;
    let running = Running::start(builder.build().unwrap());
    let rows = ended(&database, 2).await;
    running.stop().await.unwrap();
    rows[0].assert("dead", 3, Some("an error that panicked when it was shown"));
    rows[1].assert("processed", 0, None);
}

#[tokio::test]
async fn a_handler_that_panics_when_it_is_cut_off_stops_its_shard_only_until_the_lease_ends() {
    let database = Database::new().await;
    let (builder, _runs) = brisk(working(&database, AUDIT.timeout(Duration::from_millis(100))));
    publish(&database.pool, &[of("a", 1, Todo::HangAndPanic), of("a", 2, Todo::Succeed)]).await;
    let running = Running::start(builder.build().unwrap());
    let rows = ended(&database, 2).await;
    running.stop().await.unwrap();
    assert_eq!((rows[0].status.as_str(), rows[1].status.as_str()), ("dead", "processed"), "{rows:?}");
    assert_eq!(database.effects().await, ["2"]);
}
