//! The program `instance`: a bus on a database given by URL. `instance URL FOLDER NAME [WORD...]`.
//!
//! Words: `migrate` first; `new` handles version 2 of the versioned event and an event that old ones don't know; `slow`
//! takes its time for every event.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use distributed_events::storage::Storage;
use distributed_events::{
    BusBuilder, DistributedEvent, EventBus, HandlerError, HandlerSettings, InboxSettings, LocalBroker,
    OutboxSettings, RetryPolicy, shutdown_signal,
};
use serde::{Deserialize, Serialize};
use sqlx::{Database, MySqlPool, PgPool, Pool, SqlitePool, Transaction};

use super::{Counted, Todo};
use crate::conformance::Fixture;

/// How long a handler may take, and a lease lasts.
pub const HANDLER_TIMEOUT: Duration = Duration::from_millis(700);
/// See [`HANDLER_TIMEOUT`].
pub const LEASE: Duration = Duration::from_secs(3);

/// An event as old instances know it.
#[derive(Clone, Debug, DistributedEvent, Serialize, Deserialize)]
#[event(name = "instances.changed", session = session)]
pub struct Changed {
    /// Its session.
    pub session: String,
    /// Its place there.
    pub n: i64,
}

/// The same in its next version.
#[derive(Clone, Debug, DistributedEvent, Serialize, Deserialize)]
#[event(name = "instances.changed", version = 2, upcast_from = Changed, session = session)]
pub struct ChangedAgain {
    /// Its session.
    pub session: String,
    /// Its place there, under another name.
    pub place: i64,
}

impl From<Changed> for ChangedAgain {
    fn from(old: Changed) -> Self {
        Self { session: old.session, place: old.n }
    }
}

/// An event that old instances don't know at all.
#[derive(Clone, Debug, DistributedEvent, Serialize, Deserialize)]
#[event(name = "instances.added", session = session)]
pub struct Added {
    /// Its session.
    pub session: String,
    /// Its place there.
    pub n: i64,
}

#[derive(Clone, Debug)]
struct Arguments {
    folder: PathBuf,
    name: String,
    words: Vec<String>,
}

impl Arguments {
    fn has(&self, word: &str) -> bool {
        self.words.iter().any(|found| found == word)
    }
}

/// The program.
pub async fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let (Some(url), Some(folder), Some(name)) = (words.next(), words.next(), words.next()) else {
        eprintln!("usage: instance URL FOLDER NAME [WORD...]");
        return ExitCode::from(2);
    };
    let arguments = Arguments { folder: folder.into(), name, words: words.collect() };
    use crate::fixtures::{File, MySqlDatabase, PgDatabase};
    if url.starts_with("sqlite:") {
        run::<File>(SqlitePool::connect(&url).await.unwrap(), arguments).await
    } else if url.starts_with("postgres:") {
        run::<PgDatabase>(PgPool::connect(&url).await.unwrap(), arguments).await
    } else {
        run::<MySqlDatabase>(MySqlPool::connect(&url).await.unwrap(), arguments).await
    }
}

async fn run<F: Fixture + 'static>(pool: Pool<F::DB>, arguments: Arguments) -> ExitCode {
    if arguments.has("migrate") {
        F::DB::migrate(&pool).await.unwrap();
    }
    let bus = handlers::<F>(EventBus::builder(pool), &arguments).build().unwrap();
    // The test has ended, however it did. A thread, because the runtime would wait for a read of its own at the end.
    std::thread::spawn(|| {
        let _ended = std::io::stdin().read(&mut [0]);
        std::process::exit(1);
    });
    match bus.run_until(shutdown_signal()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn handlers<F: Fixture + 'static>(builder: BusBuilder<F::DB>, arguments: &Arguments) -> BusBuilder<F::DB> {
    let idle = Duration::from_millis(50);
    let builder = builder
        .broker(LocalBroker::new())
        .inbox(
            InboxSettings::default()
                .lease_time(LEASE)
                .poll_interval(idle)
                .handler_timeout(HANDLER_TIMEOUT)
                .retry(RetryPolicy::default().attempts(3).initial(Duration::from_millis(10))),
        )
        .outbox(OutboxSettings::default().lease_time(LEASE).poll_interval(idle))
        .on_incident(|incident| println!("{:?} {}: {}", incident.kind, incident.source, incident.message));
    let counting = HandlerSettings::new("counting");
    let told = arguments.clone();
    let builder = builder.on(counting, move |event: Counted, tx, _context| {
        let told = told.clone();
        Box::pin(async move {
            match event.todo {
                Todo::Abort => std::process::abort(),
                Todo::Exit => std::process::exit(3),
                Todo::Overflow => println!("{}", deep(0)),
                Todo::Succeed | Todo::Pause => {}
            }
            if told.has("slow") {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            effect::<F>(tx, event.session.as_deref(), event.n, &told.name).await?;
            if event.todo == Todo::Pause {
                pause(&told.folder, &told.name).await;
            }
            Ok(())
        })
    });
    let told = arguments.name.clone();
    if !arguments.has("new") {
        return builder.on(counting, move |event: Changed, tx, _context| {
            let told = told.clone();
            Box::pin(async move { effect::<F>(tx, Some(&event.session), event.n, &told).await })
        });
    }
    let added = told.clone();
    builder
        .on(counting, move |event: ChangedAgain, tx, _context| {
            let told = told.clone();
            Box::pin(async move { effect::<F>(tx, Some(&event.session), event.place, &told).await })
        })
        .on(counting, move |event: Added, tx, _context| {
            let told = added.clone();
            Box::pin(async move { effect::<F>(tx, Some(&event.session), event.n, &told).await })
        })
}

async fn effect<F: Fixture>(
    tx: &mut Transaction<'_, F::DB>,
    session: Option<&str>,
    n: i64,
    instance: &str,
) -> Result<(), HandlerError> {
    let session = session.map_or_else(|| "NULL".to_owned(), |session| format!("'{session}'"));
    let sql = format!("INSERT INTO effects (session_id, n, instance) VALUES ({session}, {n}, '{instance}')");
    let conn: &mut <F::DB as Database>::Connection = tx;
    Ok(F::run(conn, &sql).await?)
}

/// Says that it waits, and waits without letting the runtime go: like a process that the machine has stopped.
async fn pause(folder: &Path, name: &str) {
    std::fs::write(folder.join(format!("{name}.paused")), "").unwrap();
    while folder.join("pause").exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[allow(unconditional_recursion, reason = "that is what it is for")]
fn deep(n: u64) -> u64 {
    let room = std::hint::black_box([n; 1000]);
    deep(n + 1) + room[500]
}
