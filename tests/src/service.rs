//! A service under test: a database file of its own, quick settings, and a bus that runs in the background.

use std::path::PathBuf;
use std::time::Duration;

use distributed_events::{BusBuilder, BusError, EventBus, InboxSettings, OutboxSettings, RetryPolicy};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqlitePool};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A migrated SQLite file that goes with this value.
#[derive(Debug)]
pub struct Database {
    directory: TempDir,
    /// The user's pool.
    pub pool: SqlitePool,
}

impl Database {
    /// A new file with the library's tables and a table `effects(value TEXT)` for handlers to write to.
    pub async fn new() -> Self {
        Self::with_connections(5).await
    }

    /// The same with a user's pool of this size.
    pub async fn with_connections(connections: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let pool = connect(&directory.path().join("service.db"), connections).await;
        EventBus::migrate(&pool).await.unwrap();
        sqlx::query("CREATE TABLE effects (seq INTEGER PRIMARY KEY AUTOINCREMENT, value TEXT NOT NULL)")
            .execute(&pool)
            .await
            .unwrap();
        Self { directory, pool }
    }

    /// The file.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("service.db")
    }

    /// What handlers have written to `effects`, in order.
    pub async fn effects(&self) -> Vec<String> {
        sqlx::query_scalar("SELECT value FROM effects ORDER BY seq").fetch_all(&self.pool).await.unwrap()
    }

    /// One number from the database.
    pub async fn number(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }
}

/// A pool on a file, as an application would open it: WAL and FULL.
pub async fn connect(path: &std::path::Path, connections: u32) -> SqlitePool {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    SqlitePoolOptions::new().max_connections(connections).connect_with(options).await.unwrap()
}

/// Inbox settings under which tests need not wait: short backoff, a few attempts.
pub fn quick_inbox() -> InboxSettings {
    InboxSettings::default()
        .poll_interval(Duration::from_millis(50))
        .retry(RetryPolicy::default().attempts(3).initial(Duration::from_millis(10)).jitter(0.0))
}

/// Outbox settings under which tests need not wait.
pub fn quick_outbox() -> OutboxSettings {
    OutboxSettings::default()
        .poll_interval(Duration::from_millis(50))
        .backoff(Duration::from_millis(10), Duration::from_millis(100))
}

/// A builder with the quick settings.
pub fn quick(pool: &SqlitePool) -> BusBuilder<Sqlite> {
    EventBus::builder(pool.clone()).inbox(quick_inbox()).outbox(quick_outbox())
}

/// A bus that runs in the background until it is stopped.
#[derive(Debug)]
pub struct Running {
    /// The bus.
    pub bus: EventBus<Sqlite>,
    stop: oneshot::Sender<()>,
    done: JoinHandle<Result<(), BusError>>,
}

impl Running {
    /// Starts a bus.
    pub fn start(bus: EventBus<Sqlite>) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let running = bus.clone();
        let done = tokio::spawn(async move {
            running
                .run_until(async {
                    let _dropped = stopped.await;
                })
                .await
        });
        Self { bus, stop, done }
    }

    /// Stops it gracefully.
    pub async fn stop(self) -> Result<(), BusError> {
        let _gone = self.stop.send(());
        self.done.await.unwrap()
    }

    /// Drops it at whatever await it is at, as a crash of the task would.
    pub async fn kill(self) {
        self.done.abort();
        let _aborted = self.done.await;
    }
}
