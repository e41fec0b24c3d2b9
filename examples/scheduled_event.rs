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

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(name = "billing.payment-due")]
struct PaymentDue {
    invoice: u32,
}

#[event_handler(subscription = "reminders")]
async fn remind(due: PaymentDue, State(log): State<mpsc::UnboundedSender<u32>>) -> Result<(), HandlerError> {
    Ok(log.send(due.invoice)?)
}

/// Sends an invoice, and decides in the same transaction when to remind of it.
async fn send_invoice(pool: &SqlitePool, invoice: u32, due_in: Duration) -> Result<(), Failure> {
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    let options = PublishOptions::new().delay(due_in).ttl(due_in + Duration::from_secs(24 * 3600));
    PaymentDue { invoice }.publish_with(&mut tx, options).await?;
    tx.commit().await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let pool = SqlitePool::connect("sqlite::memory:").await?;
    EventBus::migrate(&pool).await?;
    let (log, mut reminded) = mpsc::unbounded_channel::<u32>();
    let bus =
        EventBus::builder(pool.clone()).broker(LocalBroker::new()).handler::<remind>().state(log).build()?;

    let began = Instant::now();
    send_invoice(&pool, 1, Duration::from_millis(1500)).await?;
    send_invoice(&pool, 2, Duration::ZERO).await?;

    bus.run_until(async {
        for _ in 0..2 {
            let invoice = reminded.recv().await.unwrap_or_default();
            println!("invoice {invoice} after {:.1} s", began.elapsed().as_secs_f64());
        }
    })
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use distributed_events::testing::TestBus;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn a_reminder_comes_on_its_day_and_not_before() {
        let (log, mut reminded) = mpsc::unbounded_channel::<u32>();
        TestBus::run(
            move |bus| bus.handler::<remind>().state(log.clone()),
            async |bus| {
                send_invoice(bus.pool(), 1, 30 * DAY).await?;
                bus.let_pass(29 * DAY).await?;
                assert!(reminded.try_recv().is_err(), "it is not due yet");
                bus.let_pass(2 * DAY).await?;
                assert_eq!(reminded.try_recv(), Ok(1));
                bus.assert_none_dead().await?;
                Ok(())
            },
        );
    }
}
