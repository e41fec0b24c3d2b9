//! Order within a session, and who waits for whom.

use std::time::Duration;

use distributed_events::storage::shard_of;
use distributed_events::{HandlerSettings, RetryPolicy};
use tests::eventually::eventually;
use tests::service::{Database, Running};

use super::{Todo, ended, of, publish, rows, sql, task, working};

const AUDIT: HandlerSettings = HandlerSettings::new("audit");

/// Sessions of one shard.
fn neighbours() -> impl Iterator<Item = String> {
    (0..).map(|n| format!("session-{n}")).filter(|session| shard_of(session) == 7)
}

#[tokio::test]
async fn a_poisoned_event_blocks_its_session_and_no_other() {
    let database = Database::new().await;
    let (builder, runs) = working(&database, AUDIT.retry(RetryPolicy::default()));
    let names: Vec<_> = neighbours().take(4).collect();
    let hour = Duration::from_secs(3600);
    let mut tasks = vec![of(&names[0], 1, Todo::AskForTime(hour)), of(&names[0], 2, Todo::Succeed)];
    tasks.extend((10..40).map(|number| of(&names[1 + number as usize % 3], number, Todo::Succeed)));
    tasks.push(of(&names[0], 3, Todo::Succeed));
    tasks.push(task(4, Todo::Succeed));
    publish(&database.pool, &tasks).await;
    let running = Running::start(builder.build().unwrap());
    ended(&database, 31).await;
    let blocked =
        "SELECT COUNT(*) FROM inbox WHERE status = 'pending' AND json_extract(event_data, '$.number') < 4";
    assert_eq!(database.number(blocked).await, 3, "they wait for the first");
    // Once it is given up, its session goes on; the row's wait is in memory too, so the bus is started again.
    running.stop().await.unwrap();
    sql(&database, "UPDATE inbox SET status = 'discarded' WHERE json_extract(event_data, '$.number') = 1")
        .await;
    let (builder, later) = working(&database, AUDIT.retry(RetryPolicy::default()));
    let running = Running::start(builder.build().unwrap());
    ended(&database, 34).await;
    running.stop().await.unwrap();
    assert!(runs.lock().unwrap().iter().all(|(number, _)| ![2, 3].contains(number)));
    assert_eq!(*later.lock().unwrap(), [(2, 1), (3, 1)]);
}

#[tokio::test]
async fn order_within_a_session_is_kept_through_retries_and_deaths() {
    let database = Database::new().await;
    let (builder, _runs) = working(&database, AUDIT);
    let todo = |number: i64| match number % 10 {
        3 => Todo::FailUntil(3),
        5 => Todo::FailUntil(9),
        7 => Todo::Panic,
        _ => Todo::Succeed,
    };
    let names: Vec<_> = neighbours().take(2).chain(["elsewhere".to_owned()]).collect();
    let tasks: Vec<_> = (0..60).map(|number| of(&names[number as usize % 3], number, todo(number))).collect();
    publish(&database.pool, &tasks).await;
    let running = Running::start(builder.build().unwrap());
    ended(&database, 60).await;
    running.stop().await.unwrap();
    let effects: Vec<i64> = database.effects().await.iter().map(|value| value.parse().unwrap()).collect();
    for session in 0..3 {
        let seen: Vec<_> = effects.iter().copied().filter(|number| number % 3 == session).collect();
        let expected: Vec<_> = (0..60).filter(|n| n % 3 == session && ![5, 7].contains(&(n % 10))).collect();
        assert_eq!(seen, expected, "session {session}");
    }
}

#[tokio::test]
async fn failing_events_without_a_session_block_nobody() {
    let database = Database::new().await;
    let (builder, _runs) = working(&database, AUDIT);
    let waits = Todo::AskForTime(Duration::from_secs(3600));
    let mut tasks: Vec<_> = (0..300).map(|number| task(number, waits)).collect();
    tasks.extend((300..600).map(|number| task(number, Todo::Succeed)));
    publish(&database.pool, &tasks).await;
    let running = Running::start(builder.build().unwrap());
    ended(&database, 300).await;
    running.stop().await.unwrap();
    assert_eq!(database.effects().await.len(), 300);
}

/// More rows at the head of a shard than a page holds, none of which can go on, and one behind them (rule 5).
async fn one_behind(stuck: Vec<super::Task>) {
    let database = Database::new().await;
    let (builder, _runs) = working(&database, AUDIT);
    // Those without a session would be spread over all shards.
    let trigger =
        "CREATE TRIGGER one AFTER INSERT ON inbox BEGIN UPDATE inbox SET shard = 7 WHERE seq = NEW.seq; END";
    sql(&database, trigger).await;
    publish(&database.pool, &stuck).await;
    let running = Running::start(builder.build().unwrap());
    eventually("they are there", || rows(&database.pool), |rows| rows.len() == stuck.len()).await;
    let behind = neighbours().nth(1000).unwrap();
    publish(&database.pool, &[of(&behind, -1, Todo::Succeed)]).await;
    ended(&database, 1).await.last().unwrap().assert("processed", 0, None);
    running.stop().await.unwrap();
    assert_eq!(database.effects().await, ["-1"]);
}

#[tokio::test]
async fn a_page_of_sessions_that_always_fail_starves_nobody() {
    let soon = Todo::AskForTime(Duration::from_millis(1));
    one_behind(neighbours().take(250).enumerate().map(|(n, name)| of(&name, n as i64, soon)).collect()).await;
}

#[tokio::test]
async fn a_page_of_events_without_a_session_that_always_fail_starves_nobody() {
    let soon = Todo::AskForTime(Duration::from_millis(1));
    one_behind((0..250).map(|number| task(number, soon)).collect()).await;
}

#[tokio::test]
async fn a_blocked_session_of_many_events_starves_nobody() {
    let name = neighbours().next().unwrap();
    let mut tasks = vec![of(&name, 0, Todo::AskForTime(Duration::from_secs(3600)))];
    tasks.extend((1..250).map(|number| of(&name, number, Todo::Succeed)));
    one_behind(tasks).await;
}
