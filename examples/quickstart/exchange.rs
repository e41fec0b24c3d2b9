//! The two services and the broker between them, in one process.

use std::time::Duration;

use distributed_events::{EventBus, InboxSettings, LocalBroker, OutboxSettings, RetryPolicy};
use sqlx::Pool;
use tokio::sync::watch;

use super::{Db, billing, ordering, report};
use crate::Failure;

/// Runs both services until all orders have come full circle; `false` when the books don't agree then.
pub(crate) async fn run(ordering_db: Pool<Db>, billing_db: Pool<Db>, input: &str) -> Result<bool, Failure> {
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
        let published = ordering::place_orders(&ordering, &ordering_db, input, &latencies).await;
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
