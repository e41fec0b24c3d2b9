//! Several instances of a service share the work of one database: each takes a fair share of the shards, and when one
//! goes, the others take over what it had. Here both are in one process; two processes do the same.
//!
//!     cargo run --example several_instances

use std::time::Duration;

use distributed_events::{
    BusBuilder, DistributedEvent, EventBus, HandlerSettings, InboxSettings, LocalBroker, OutboxSettings,
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

/// Which instance has counted which page.
type Counted = (&'static str, String);

/// Counts pages, and says so.
fn statistics(
    bus: BusBuilder<Sqlite>,
    name: &'static str,
    seen: mpsc::UnboundedSender<Counted>,
) -> BusBuilder<Sqlite> {
    bus.on(HandlerSettings::new("statistics"), move |seen_page: PageSeen, _tx, _context| {
        let sent = seen.send((name, seen_page.page));
        Box::pin(async move { Ok(sent?) })
    })
}

/// One of the instances.
fn instance(
    pool: &SqlitePool,
    name: &'static str,
    seen: mpsc::UnboundedSender<Counted>,
) -> Result<EventBus<Sqlite>, Failure> {
    let lease = Duration::from_secs(3);
    let bus = EventBus::builder(pool.clone())
        .broker(LocalBroker::new())
        .inbox(InboxSettings::default().lease_time(lease).handler_timeout(Duration::from_millis(500)))
        .outbox(OutboxSettings::default().lease_time(lease));
    Ok(statistics(bus, name, seen).build()?)
}

const PAGES: usize = 100;

async fn publish_pages(pool: &SqlitePool) -> Result<(), Failure> {
    let events: Vec<_> = (0..PAGES).map(|n| PageSeen { page: format!("page-{n}") }).collect();
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    PageSeen::publish_all(&mut tx, &events).await?;
    tx.commit().await?;
    Ok(())
}

/// Publishes a hundred events and counts who has handled how many.
async fn round(pool: &SqlitePool, seen: &mut mpsc::UnboundedReceiver<Counted>) -> Result<(), Failure> {
    publish_pages(pool).await?;
    let (mut first, mut second) = (0, 0);
    for _ in 0..PAGES {
        match seen.recv().await {
            Some(("first", _)) => first += 1,
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use distributed_events::testing::{TestBus, simulate};

    #[test]
    fn each_page_is_counted_once() {
        let (sender, mut seen) = mpsc::unbounded_channel();
        TestBus::run(
            move |bus| statistics(bus, "the one", sender.clone()),
            async |bus| {
                publish_pages(bus.pool()).await?;
                bus.settled().await?;
                bus.assert_none_dead().await?;
                assert_eq!(std::iter::from_fn(|| seen.try_recv().ok()).count(), PAGES);
                Ok(())
            },
        );
    }

    /// Two instances, whichever of them dies on the way. What a handler does outside its database may then happen twice,
    /// which is why it is asked here which pages were counted, and not how often.
    #[test]
    fn no_page_is_lost_when_instances_die() {
        simulate(0..3, async |world| {
            let (sender, mut seen) = mpsc::unbounded_channel();
            let pool = world.database("statistics").await?;
            world.service(&pool, move |bus| statistics(bus, "any", sender.clone()))?;
            publish_pages(&pool).await?;
            world.settle().await?;
            let pages: HashSet<_> =
                std::iter::from_fn(|| seen.try_recv().ok()).map(|(_, page)| page).collect();
            assert_eq!(pages.len(), PAGES);
            Ok(())
        });
    }
}
