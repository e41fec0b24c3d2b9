//! A bus that waits rests: what is blocked costs no work until something is due.

use std::time::Duration;

use distributed_events::{HandlerSettings, InboxSettings, OutboxSettings};
use tests::eventually::eventually;
use tests::service::{Database, Running};

use super::{Todo, ended, of, publish, rows, sql, task, working};

/// For how much of two seconds the test's one thread was at work, and how often it had nothing more to do: each look of
/// a loop at the database is a few times.
async fn assert_rests() {
    let metrics = tokio::runtime::Handle::current().metrics();
    let (looks, busy) = (metrics.worker_park_count(0), metrics.worker_total_busy_duration(0));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (looks, busy) = (metrics.worker_park_count(0) - looks, metrics.worker_total_busy_duration(0) - busy);
    assert!(
        looks < 1000 && busy < Duration::from_millis(500),
        "{looks} looks and {busy:?} of work in two seconds"
    );
}

#[tokio::test]
async fn a_blocked_session_with_more_events_than_a_page_is_not_looked_at_all_the_time() {
    let database = Database::new().await;
    let (builder, _runs) = working(&database, HandlerSettings::new("audit"));
    let bus = builder.inbox(InboxSettings::default()).outbox(OutboxSettings::default()).build().unwrap();
    let mut tasks = vec![of("a", 0, Todo::AskForTime(Duration::from_secs(3600)))];
    tasks.extend((1..250).map(|number| of("a", number, Todo::Succeed)));
    publish(&database.pool, &tasks).await;
    let running = Running::start(bus);
    let blocked = |rows: &Vec<super::Row>| rows.len() == 250 && rows[0].error.is_some();
    eventually("all wait for the first", || rows(&database.pool), blocked).await;
    assert_rests().await;
    // And it still sees what comes to the same shard.
    let neighbour = (0..).map(|n| format!("b{n}")).find(|session| {
        distributed_events::storage::shard_of(session) == distributed_events::storage::shard_of("a")
    });
    publish(&database.pool, &[of(&neighbour.unwrap(), -1, Todo::Succeed)]).await;
    ended(&database, 1).await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_retry_that_is_due_while_the_only_worker_is_busy_is_waited_for_quietly() {
    let database = Database::new().await;
    let settings = HandlerSettings::new("audit").timeout(Duration::from_secs(4));
    let (builder, runs) = working(&database, settings);
    let bus = builder.inbox(InboxSettings::default()).outbox(OutboxSettings::default()).build().unwrap();
    publish(&database.pool, &[task(1, Todo::AskForTime(Duration::from_millis(500)))]).await;
    let running = Running::start(bus);
    eventually("the first waits", || async { runs.lock().unwrap().len() }, |runs| *runs == 1).await;
    publish(&database.pool, &[task(2, Todo::Hang)]).await;
    let hangs = || async { runs.lock().unwrap().last().copied() };
    eventually("the second hangs", hangs, |run| run.is_some_and(|(number, _)| number == 2)).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_rests().await;
    running.kill().await;
    sql(&database, "DELETE FROM inbox").await;
}
