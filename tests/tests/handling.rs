//! Handling: attempts, sessions, batches, trouble with the database, and processes that die.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use distributed_events::{
    BusBuilder, DistributedEvent, EventContext, EventId, Handler, HandlerError, HandlerSettings, LocalBroker,
};
use serde::{Deserialize, Serialize};
use sqlx::{Sqlite, SqlitePool, Transaction};
use tests::eventually::eventually;
use tests::service::{Database, quick, quick_inbox, quick_outbox};

/// Which events were run, and at which attempt, in order.
type Runs = Arc<Mutex<Vec<(i64, u32)>>>;

#[path = "handling/attempts.rs"]
mod attempts;
#[path = "handling/batches.rs"]
mod batches;
#[path = "handling/deaths.rs"]
mod deaths;
#[path = "handling/sessions.rs"]
mod sessions;
#[path = "handling/transactions.rs"]
mod transactions;
#[path = "handling/trouble.rs"]
mod trouble;
#[path = "handling/turns.rs"]
mod turns;
#[path = "handling/waiting.rs"]
mod waiting;

/// An event that says what its handler is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Task {
    number: i64,
    session: Option<String>,
    todo: Todo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Todo {
    Succeed,
    /// Until the attempt of this number.
    FailUntil(u32),
    AskForTime(Duration),
    DeadLetter,
    Panic,
    Hang,
    /// Fails with an error that panics when it is shown.
    FailUnshowably,
    /// Never returns, and panics when it is dropped.
    HangAndPanic,
    Abort,
}

impl DistributedEvent for Task {
    const NAME: &'static str = "handling.task";
    const HAS_SESSION: bool = true;

    fn session_id(&self) -> Option<String> {
        self.session.clone()
    }
}

fn task(number: i64, todo: Todo) -> Task {
    Task { number, session: None, todo }
}

fn of(session: &str, number: i64, todo: Todo) -> Task {
    Task { number, session: Some(session.to_owned()), todo }
}

/// Does what its event says, and keeps every run with its attempt, whatever comes of it.
struct Worker {
    settings: HandlerSettings,
    runs: Runs,
}

impl Worker {
    fn new(settings: HandlerSettings) -> (Self, Runs) {
        let runs = Arc::default();
        (Self { settings, runs: Arc::clone(&runs) }, runs)
    }
}

#[derive(Debug)]
struct Unshowable;

impl std::fmt::Display for Unshowable {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("this error can't be shown")
    }
}

impl std::error::Error for Unshowable {}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

impl Handler<Sqlite> for Worker {
    type Event = Task;

    fn settings(&self) -> HandlerSettings {
        self.settings
    }

    async fn handle(
        &self,
        task: Task,
        tx: &mut Transaction<'_, Sqlite>,
        context: &EventContext,
    ) -> Result<(), HandlerError> {
        self.runs.lock().unwrap().push((task.number, context.attempt()));
        write(tx, task.number.to_string()).await?;
        match task.todo {
            Todo::Succeed => Ok(()),
            Todo::FailUntil(attempt) if context.attempt() >= attempt => Ok(()),
            Todo::FailUntil(attempt) => Err(format!("not before attempt {attempt}").into()),
            Todo::AskForTime(time) => Err(HandlerError::retry_after(time)),
            Todo::DeadLetter => Err(HandlerError::dead_letter("never")),
            Todo::Panic => panic!("at number {}", task.number),
            Todo::Hang => std::future::pending().await,
            Todo::HangAndPanic => {
                let _panics = PanicsWhenDropped;
                std::future::pending().await
            }
            Todo::FailUnshowably => Err(Unshowable.into()),
            Todo::Abort => std::process::abort(),
        }
    }
}

async fn write(tx: &mut Transaction<'_, Sqlite>, value: String) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO effects (value) VALUES (?)").bind(value).execute(&mut **tx).await?;
    Ok(())
}

/// A bus with one worker.
fn working(database: &Database, settings: HandlerSettings) -> (BusBuilder<Sqlite>, Runs) {
    let (worker, runs) = Worker::new(settings);
    (quick(&database.pool).broker(LocalBroker::new()).handler_value(worker), runs)
}

/// The same with leases that soon run out, and the short timeouts that go with them.
fn brisk((builder, runs): (BusBuilder<Sqlite>, Runs)) -> (BusBuilder<Sqlite>, Runs) {
    let second = Duration::from_secs(1);
    let inbox = quick_inbox().lease_time(second).handler_timeout(Duration::from_millis(200));
    (builder.inbox(inbox).outbox(quick_outbox().lease_time(second)), runs)
}

async fn publish(pool: &SqlitePool, tasks: &[Task]) -> Vec<EventId> {
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let ids = Task::publish_all(&mut tx, tasks).await.unwrap();
    tx.commit().await.unwrap();
    ids
}

/// An inbox row: its number, its state, its attempts and its last error.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    number: i64,
    status: String,
    attempts: i64,
    error: Option<String>,
}

async fn rows(pool: &SqlitePool) -> Vec<Row> {
    let sql =
        "SELECT json_extract(event_data, '$.number'), status, attempts, last_error FROM inbox ORDER BY seq";
    let rows: Vec<(i64, String, i64, Option<String>)> = sqlx::query_as(sql).fetch_all(pool).await.unwrap();
    rows.into_iter()
        .map(|(number, status, attempts, error)| Row { number, status, attempts, error })
        .collect()
}

/// The inbox when so many rows have ended.
async fn ended(database: &Database, count: usize) -> Vec<Row> {
    let what = format!("{count} rows have ended");
    let over = |rows: &Vec<Row>| rows.iter().filter(|row| row.status != "pending").count() >= count;
    eventually(&what, || rows(&database.pool), over).await
}

async fn sql(database: &Database, sql: &'static str) {
    sqlx::query(sql).execute(&database.pool).await.unwrap();
}

impl Row {
    fn assert(&self, status: &str, attempts: i64, error: Option<&str>) {
        let said = self.error.as_deref().unwrap_or_default();
        assert_eq!((self.status.as_str(), self.attempts), (status, attempts), "{self:?}");
        assert!(error.map_or(self.error.is_none(), |error| said.contains(error)), "{self:?} lacks {error:?}");
    }
}
