//! Two services on one machine exchange events, and nothing is lost: kill this program at any moment, run it again, and
//! it ends `reconciled: yes`.
//!
//!     cargo run --example quickstart [-- --input ORDERS.ndjson --data DIRECTORY]
//!
//! `ordering.rs` and `billing.rs` are the two services, each with a database of its own; `report.rs` only counts.

mod billing;
mod ordering;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use distributed_events::{EventBus, InboxSettings, LocalBroker, OutboxSettings, RetryPolicy};
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use tokio::sync::watch;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "off".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    match run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

async fn run() -> Result<bool, Failure> {
    let arguments = Arguments::parse()?;
    std::fs::create_dir_all(&arguments.data)
        .map_err(|error| format!("the directory {} can't be made: {error}", arguments.data.display()))?;
    let ordering_db = open(&arguments.data.join("ordering.db")).await?;
    let billing_db = open(&arguments.data.join("billing.db")).await?;
    ordering::create_tables(&ordering_db).await?;
    billing::create_tables(&billing_db).await?;
    EventBus::migrate(&ordering_db).await?;
    EventBus::migrate(&billing_db).await?;

    // Short leases, so that a run after a `kill -9` need not wait long for the dead run's shards.
    let inbox = InboxSettings::default()
        .lease_time(Duration::from_secs(2))
        .handler_timeout(Duration::from_millis(400))
        .retry(RetryPolicy::default().attempts(5).initial(Duration::from_millis(50)));
    let outbox = OutboxSettings::default().lease_time(Duration::from_secs(2));
    let latencies = report::Latencies::default();

    let broker = LocalBroker::new();
    let ordering = EventBus::builder(ordering_db.clone())
        .broker(broker.clone())
        .inbox(inbox.clone())
        .outbox(outbox.clone())
        .discovered_handlers_of("ordering")
        .build()?;
    let billing = EventBus::builder(billing_db.clone())
        .broker(broker)
        .inbox(inbox)
        .outbox(outbox)
        .state(latencies.clone())
        .discovered_handlers_of("billing")
        .build()?;

    let (stop, stopped) = watch::channel(false);
    let until_stopped = || {
        let mut stopped = stopped.clone();
        async move {
            let _gone = stopped.wait_for(|stopped| *stopped).await;
        }
    };
    let loops =
        async { tokio::try_join!(ordering.run_until(until_stopped()), billing.run_until(until_stopped())) };
    let work = async {
        let published = ordering::place_orders(&ordering, &ordering_db, arguments.input(), &latencies).await;
        if published.is_ok() {
            report::wait_until_settled(&ordering_db, &billing_db).await?;
        }
        published
    };
    let shown = async {
        let published = tokio::select! {
            published = work => published,
            never = report::progress(&ordering, &billing) => match never {},
        };
        stop.send_replace(true);
        published
    };
    let (loops, published) = tokio::join!(loops, shown);
    loops?;
    report::print(&ordering_db, &billing_db, published?, &ordering.stats(), &billing.stats(), &latencies)
        .await
}

/// WAL and FULL: what is committed survives a power cut.
async fn open(path: &Path) -> Result<SqlitePool, Failure> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    SqlitePool::connect_with(options)
        .await
        .map_err(|error| format!("the database {} can't be opened: {error}", path.display()).into())
}

struct Arguments {
    input: Option<String>,
    data: PathBuf,
}

impl Arguments {
    fn parse() -> Result<Self, Failure> {
        let mut parsed = Self { input: None, data: PathBuf::from("quickstart-data") };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--input" => {
                    let path = value()?;
                    let text = std::fs::read_to_string(&path)
                        .map_err(|error| format!("{path} can't be read: {error}"))?;
                    parsed.input = Some(text);
                }
                "--data" => parsed.data = PathBuf::from(value()?),
                _ => {
                    return Err(format!(
                        "unknown argument {word}; usage: quickstart [--input FILE] [--data DIRECTORY]"
                    )
                    .into());
                }
            }
        }
        Ok(parsed)
    }

    fn input(&self) -> &str {
        self.input.as_deref().unwrap_or(include_str!("orders.ndjson"))
    }
}
