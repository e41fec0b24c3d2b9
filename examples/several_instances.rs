//! Several instances of a service share the work of one database: each takes a fair share of the shards, and when one
//! goes, the others take over what it had. Here both are in one process; two processes do the same.
//!
//!     cargo run --example several_instances

use std::time::Duration;

use distributed_events::{
    DistributedEvent, EventBus, HandlerSettings, InboxSettings, LocalBroker, OutboxSettings,
};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use sqlx::{Sqlite, SqlitePool};
use tokio::sync::{mpsc, oneshot};

#[derive(Clone, DistributedEvent, Serialize, Deserialize)]
#[event(name = "shop.page-seen", session = page)]
struct PageSeen {
    page: String,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// An instance that says which events it has handled.
fn instance(
    pool: &SqlitePool,
    name: &'static str,
    seen: mpsc::UnboundedSender<&'static str>,
) -> Result<EventBus<Sqlite>, Failure> {
    let lease = Duration::from_secs(3);
    let bus = EventBus::builder(pool.clone())
        .broker(LocalBroker::new())
        .inbox(InboxSettings::default().lease_time(lease).handler_timeout(Duration::from_millis(500)))
        .outbox(OutboxSettings::default().lease_time(lease))
        .on(HandlerSettings::new("statistics"), move |_: PageSeen, _tx, _context| {
            let sent = seen.send(name);
            Box::pin(async move { Ok(sent?) })
        })
        .build()?;
    Ok(bus)
}

/// Publishes a hundred events and counts who has handled how many.
async fn round(pool: &SqlitePool, seen: &mut mpsc::UnboundedReceiver<&'static str>) -> Result<(), Failure> {
    let events: Vec<_> = (0..100).map(|n| PageSeen { page: format!("page-{n}") }).collect();
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    PageSeen::publish_all(&mut tx, &events).await?;
    tx.commit().await?;
    let (mut first, mut second) = (0, 0);
    for _ in 0..events.len() {
        match seen.recv().await {
            Some("first") => first += 1,
            _ => second += 1,
        }
    }
    println!("the first handled {first}, the second {second}");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let file = std::env::temp_dir().join(format!("several-instances-{}.db", std::process::id()));
    let options = SqliteConnectOptions::new()
        .filename(&file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal);
    let pool = SqlitePoolOptions::new().connect_with(options).await?;
    EventBus::migrate(&pool).await?;

    let (sender, mut seen) = mpsc::unbounded_channel();
    let mut running = Vec::new();
    for name in ["first", "second"] {
        let bus = instance(&pool, name, sender.clone())?;
        let (stop, stopped) = oneshot::channel::<()>();
        let run = async move {
            bus.run_until(async {
                let _gone = stopped.await;
            })
            .await
        };
        running.push((stop, tokio::spawn(run)));
        // The second joins when the first has all the work: it is given half of it within a lease's time.
        round(&pool, &mut seen).await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    round(&pool, &mut seen).await?;

    let (stop, first) = running.remove(0);
    drop(stop);
    first.await??;
    round(&pool, &mut seen).await?;

    let (stop, second) = running.remove(0);
    drop(stop);
    second.await??;
    std::fs::remove_file(file)?;
    Ok(())
}
