//! Several events in one transaction (rule 12).

use distributed_events::storage::shard_of;
use distributed_events::{
    DistributedEvent, EventContext, Handler, HandlerError, HandlerSettings, LocalBroker,
};
use sqlx::{Sqlite, Transaction};
use tests::eventually::eventually;
use tests::service::{Database, Running, quick};

use super::{Task, Todo, ended, of, publish, rows, working, write};

/// Events of one shard, delivered before any is handled.
async fn deliver(database: &Database, tasks: &[Task]) {
    let (builder, _runs) = working(database, HandlerSettings::new("audit"));
    // Delayed for ever while the deliverer runs.
    let trigger = "CREATE TRIGGER waits AFTER INSERT ON inbox BEGIN \
        UPDATE inbox SET next_attempt_at = NEW.received_at + 3600000 WHERE seq = NEW.seq; END";
    sqlx::query(trigger).execute(&database.pool).await.unwrap();
    publish(&database.pool, tasks).await;
    let running = Running::start(builder.build().unwrap());
    eventually("they are there", || rows(&database.pool), |rows| rows.len() == tasks.len()).await;
    running.stop().await.unwrap();
    let undo = "DROP TRIGGER waits; UPDATE inbox SET next_attempt_at = NULL";
    sqlx::raw_sql(undo).execute(&database.pool).await.unwrap();
}

fn in_one_shard(count: i64, todo: impl Fn(i64) -> Todo) -> Vec<Task> {
    let names = (0..).map(|n| format!("session-{n}")).filter(|session| shard_of(session) == 7);
    (0..count).zip(names).map(|(number, name)| of(&name, number, todo(number))).collect()
}

/// Counts its transactions by what SQLite says: a temporary table lives as long as its connection, so the number of the
/// transaction is taken from a row of its own that every run of handlers writes once.
struct Grouped;

impl Handler<Sqlite> for Grouped {
    type Event = Task;

    fn settings(&self) -> HandlerSettings {
        HandlerSettings::new("audit").batch(10)
    }

    async fn handle(
        &self,
        task: Task,
        tx: &mut Transaction<'_, Sqlite>,
        _context: &EventContext,
    ) -> Result<(), HandlerError> {
        // Rows marked as processed with this one, and not committed yet: those of the same transaction.
        let marked = "SELECT COUNT(*) FROM inbox WHERE status = 'processed'";
        let marked: i64 = sqlx::query_scalar(marked).fetch_one(&mut **tx).await?;
        write(tx, format!("{} of {marked}", task.number)).await?;
        Ok(())
    }
}

#[tokio::test]
async fn consecutive_events_share_a_transaction_up_to_the_batch() {
    let database = Database::new().await;
    deliver(&database, &in_one_shard(25, |_| Todo::Succeed)).await;
    let bus = quick(&database.pool).broker(LocalBroker::new()).handler_value(Grouped).build().unwrap();
    let running = Running::start(bus);
    ended(&database, 25).await;
    // Counted after they are written.
    eventually("all are counted", || async { running.bus.stats().processed }, |count| *count == 25).await;
    running.stop().await.unwrap();
    let expected: Vec<_> =
        (0..25).map(|number| format!("{number} of {}", [10, 20, 25][number / 10])).collect();
    assert_eq!(database.effects().await, expected);
}

#[tokio::test]
async fn a_failing_event_of_a_batch_is_found_one_by_one_and_the_first_run_counts_no_attempt() {
    let database = Database::new().await;
    let todo = |number| match number {
        4 => Todo::FailUntil(2),
        6 => Todo::DeadLetter,
        7 => Todo::Panic,
        _ => Todo::Succeed,
    };
    deliver(&database, &in_one_shard(10, todo)).await;
    let (builder, runs) = working(&database, HandlerSettings::new("audit").batch(50));
    let running = Running::start(builder.build().unwrap());
    let rows = ended(&database, 10).await;
    running.stop().await.unwrap();
    rows[4].assert("processed", 1, Some("not before attempt 2"));
    rows[6].assert("dead", 1, Some("never"));
    rows[7].assert("dead", 3, Some("panicked"));
    for row in rows.iter().filter(|row| ![4, 6, 7].contains(&row.number)) {
        row.assert("processed", 0, None);
    }
    let runs = runs.lock().unwrap().clone();
    assert_eq!(runs[..5], [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1)], "together, up to the one that fails");
    assert_eq!(runs[5..10], [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1)], "then one by one");
    let mut effects = database.effects().await;
    effects.sort_unstable();
    assert_eq!(effects, ["0", "1", "2", "3", "4", "5", "8", "9"], "each once");
}

#[tokio::test]
async fn an_event_whose_handlers_do_not_opt_in_stands_alone() {
    let database = Database::new().await;
    deliver(&database, &in_one_shard(5, |_| Todo::Succeed)).await;
    let bus = quick(&database.pool)
        .broker(LocalBroker::new())
        .on(HandlerSettings::new("audit"), |_event: Task, tx, _context| {
            Box::pin(async move {
                let marked = "SELECT COUNT(*) FROM inbox WHERE status = 'processed'";
                let marked: i64 = sqlx::query_scalar(marked).fetch_one(&mut **tx).await?;
                write(tx, marked.to_string()).await?;
                Ok(())
            })
        })
        .build()
        .unwrap();
    assert_eq!(Task::NAME, "handling.task");
    let running = Running::start(bus);
    ended(&database, 5).await;
    running.stop().await.unwrap();
    assert_eq!(database.effects().await, ["1", "2", "3", "4", "5"]);
}
