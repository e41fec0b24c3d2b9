//! Processes that end in the middle of a handler, and who takes over from them (rule 11).

use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use distributed_events::{EventBus, HandlerSettings, LocalBroker};
use tests::eventually::eventually;
use tests::service::{Database, Running, connect, quick};

use super::{Task, Todo, Worker, brisk, ended, of, publish, rows, sql, task, working, write};

const AUDIT: HandlerSettings = HandlerSettings::new("audit");

/// Delivers events to the inbox while nobody may handle them, and leaves every shard to a holder that died.
async fn left_behind(tasks: &[Task]) -> Database {
    let database = Database::new().await;
    let trigger = "CREATE TRIGGER waits AFTER INSERT ON inbox BEGIN \
        UPDATE inbox SET next_attempt_at = NEW.received_at + 3600000 WHERE seq = NEW.seq; END";
    sql(&database, trigger).await;
    publish(&database.pool, tasks).await;
    let running = Running::start(working(&database, AUDIT).0.build().unwrap());
    eventually("they are there", || rows(&database.pool), |rows| rows.len() == tasks.len()).await;
    running.stop().await.unwrap();
    sql(&database, "DROP TRIGGER waits").await;
    sql(&database, "UPDATE inbox SET next_attempt_at = NULL").await;
    sql(
        &database,
        "UPDATE distributed_events_leases SET owner = randomblob(16), epoch = epoch + 1, until = 1",
    )
    .await;
    database
}

#[tokio::test]
async fn a_row_whose_attempts_were_used_up_by_dying_processes_is_dead() {
    let database =
        left_behind(&[of("a", 1, Todo::Succeed), of("a", 2, Todo::Succeed), task(3, Todo::Succeed)]).await;
    sql(&database, "UPDATE inbox SET attempts = 3 WHERE json_extract(event_data, '$.number') IN (1, 3)")
        .await;
    let (builder, runs) = working(&database, AUDIT);
    let running = Running::start(builder.build().unwrap());
    let rows = ended(&database, 3).await;
    running.stop().await.unwrap();
    rows[0].assert("dead", 3, Some("the process ended 3 times while handling it"));
    rows[1].assert("processed", 1, None);
    rows[2].assert("dead", 3, Some("the process ended 3 times while handling it"));
    assert_eq!(*runs.lock().unwrap(), [(2, 1)]);
}

#[tokio::test]
async fn after_an_unclean_takeover_the_heads_attempt_is_written_before_its_handler() {
    let tasks = [of("a", 1, Todo::Succeed), of("a", 2, Todo::Succeed), task(3, Todo::Succeed)];
    let database = left_behind(&tasks).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sees = Arc::clone(&seen);
    let outside = database.pool.clone();
    let bus = quick(&database.pool)
        .broker(LocalBroker::new())
        .on(AUDIT, move |event: Task, tx, context| {
            let (sees, outside, attempt) = (Arc::clone(&sees), outside.clone(), context.attempt());
            Box::pin(async move {
                let row = rows(&outside).await.into_iter().find(|row| row.number == event.number).unwrap();
                sees.lock().unwrap().push((row.number, row.attempts, attempt));
                Ok(write(tx, event.number.to_string()).await?)
            })
        })
        .build()
        .unwrap();
    let running = Running::start(bus);
    ended(&database, 3).await;
    // What comes later comes to a holder in good health.
    publish(&database.pool, &[of("a", 4, Todo::Succeed), task(5, Todo::Succeed)]).await;
    ended(&database, 5).await;
    running.stop().await.unwrap();
    let mut seen = seen.lock().unwrap().clone();
    seen.sort_unstable();
    let first = [(1, 1, 1), (2, 0, 1), (3, 1, 1), (4, 0, 1)];
    assert_eq!(seen[..4], first, "(number, attempts as others see them, attempt)");
    assert_eq!((seen[4].0, seen[4].2), (5, 1), "its shard may have been empty at the takeover");
}

#[tokio::test]
async fn after_an_unclean_takeover_a_failure_is_counted_once_and_a_request_for_time_not_at_all() {
    let hour = Duration::from_secs(3600);
    let database = left_behind(&[of("a", 1, Todo::FailUntil(9)), of("b", 2, Todo::AskForTime(hour))]).await;
    let (builder, runs) = working(&database, AUDIT);
    let running = Running::start(builder.build().unwrap());
    ended(&database, 1).await[0].assert("dead", 3, Some("not before attempt 9"));
    let asked = || async { rows(&database.pool).await.remove(1) };
    eventually("the other has asked", asked, |row| row.error.is_some()).await.assert(
        "pending",
        0,
        Some("asked to be run again"),
    );
    running.stop().await.unwrap();
    let mut runs = runs.lock().unwrap().clone();
    runs.sort_unstable();
    assert_eq!(runs, [(1, 1), (1, 2), (1, 3), (2, 1)]);
}

#[tokio::test]
async fn after_an_unclean_takeover_the_databases_trouble_counts_no_attempt() {
    let database = left_behind(&[task(1, Todo::Succeed)]).await;
    // The attempt can be written, and the transaction can't.
    let trigger = "CREATE TRIGGER refuses BEFORE UPDATE OF status ON inbox WHEN NEW.status = 'processed' \
        BEGIN SELECT RAISE(ABORT, 'in trouble'); END";
    sql(&database, trigger).await;
    let troubles = Arc::new(Mutex::new(0));
    let told = Arc::clone(&troubles);
    let (builder, runs) = working(&database, AUDIT);
    let bus = builder
        .inbox(tests::service::quick_inbox().backoff(Duration::from_millis(5), Duration::from_millis(20)))
        .on_incident(move |incident| {
            *told.lock().unwrap() += i32::from(incident.message.contains("in trouble"));
        })
        .build()
        .unwrap();
    let running = Running::start(bus);
    eventually("it is told", || async { *troubles.lock().unwrap() }, |count| *count >= 8).await;
    sql(&database, "DROP TRIGGER refuses").await;
    ended(&database, 1).await[0].assert("processed", 1, None);
    running.stop().await.unwrap();
    assert_eq!(*runs.lock().unwrap(), [(1, 1)]);
}

const CHILD: &str = "DISTRIBUTED_EVENTS_TEST_DATABASE";

/// Not a test by itself: the process that an event aborts.
#[tokio::test]
async fn child_that_dies() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let pool = connect(path.as_ref(), 2).await;
    let (worker, runs) = Worker::new(AUDIT);
    let builder = EventBus::builder(pool.clone()).broker(LocalBroker::new()).handler_value(worker);
    let bus = brisk((builder, runs)).0.build().unwrap();
    let done = async {
        let over =
            |rows: &Vec<super::Row>| rows.iter().all(|row| row.status != "pending") && rows.len() == 31;
        eventually("all have ended", || rows(&pool), over).await;
    };
    bus.run_until(done).await.unwrap();
}

#[tokio::test]
async fn an_event_that_ends_its_process_ends_dead_and_the_others_are_handled_once() {
    let database = Database::new().await;
    let names = ["a", "b", "c", "d", "e"];
    let mut tasks: Vec<_> =
        (0..30).map(|number| of(names[number as usize % 5], number, Todo::Succeed)).collect();
    tasks.insert(10, of("a", 100, Todo::Abort));
    publish(&database.pool, &tasks).await;
    let program = std::env::current_exe().unwrap();
    let mut deaths = 0;
    loop {
        let mut child = Command::new(&program);
        child.args(["deaths::child_that_dies", "--exact", "--test-threads=1"]).env(CHILD, database.path());
        let status = child.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        if status.success() {
            break;
        }
        deaths += 1;
        assert!(deaths < 10, "{:?}", rows(&database.pool).await);
    }
    assert!(deaths >= 3, "{deaths}");
    let rows = rows(&database.pool).await;
    let poisoned = rows.iter().find(|row| row.number == 100).unwrap();
    poisoned.assert("dead", 3, Some("the process ended 3 times"));
    assert!(rows.iter().all(|row| row.number == 100 || row.status == "processed"), "{rows:?}");
    let effects: Vec<i64> = database.effects().await.iter().map(|value| value.parse().unwrap()).collect();
    for session in 0..5 {
        let seen: Vec<_> = effects.iter().copied().filter(|number| number % 5 == session).collect();
        assert_eq!(
            seen,
            (0..30).filter(|number| number % 5 == session).collect::<Vec<_>>(),
            "once and in order"
        );
    }
}
