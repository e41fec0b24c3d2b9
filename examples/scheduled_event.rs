//! An event that is to be delivered later: it is written now, in the transaction that decides on it, and is delivered when
//! its time has come by the database's clock. A time to live makes it end dead, seen, where it comes too late.
//!
//!     cargo run --example scheduled_event

use std::time::{Duration, Instant};

use distributed_events::{
    DistributedEvent, EventBus, HandlerError, LocalBroker, PublishOptions, State, event_handler,
};
use serde::{Deserialize, Serialize};
use sqlx::SqlitePool;
use tokio::sync::mpsc;

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(name = "billing.payment-due")]
struct PaymentDue {
    invoice: u32,
}

#[event_handler(subscription = "reminders")]
async fn remind(due: PaymentDue, State(log): State<mpsc::UnboundedSender<u32>>) -> Result<(), HandlerError> {
    Ok(log.send(due.invoice)?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let pool = SqlitePool::connect("sqlite::memory:").await?;
    EventBus::migrate(&pool).await?;
    let (log, mut reminded) = mpsc::unbounded_channel::<u32>();
    let bus =
        EventBus::builder(pool.clone()).broker(LocalBroker::new()).handler::<remind>().state(log).build()?;

    let began = Instant::now();
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    let later = PublishOptions::new().delay(Duration::from_millis(1500)).ttl(Duration::from_secs(24 * 3600));
    PaymentDue { invoice: 1 }.publish_with(&mut tx, later).await?;
    PaymentDue { invoice: 2 }.publish(&mut tx).await?;
    bus.commit(tx).await?;

    bus.run_until(async {
        for _ in 0..2 {
            let invoice = reminded.recv().await.unwrap_or_default();
            println!("invoice {invoice} after {:.1} s", began.elapsed().as_secs_f64());
        }
    })
    .await?;
    Ok(())
}
