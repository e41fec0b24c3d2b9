//! The same without macros: events and handlers are plain trait implementations, and closures will do as well.
//!
//!     cargo run --example without_macros

use distributed_events::{
    BusBuilder, DistributedEvent, EventBus, EventContext, Handler, HandlerError, HandlerSettings,
    LocalBroker, PublishOptions, RetryPolicy,
};
use serde::{Deserialize, Serialize};
use sqlx::{Sqlite, SqlitePool, Transaction};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize)]
struct OrderPlaced {
    order_id: i64,
}

impl DistributedEvent for OrderPlaced {
    const NAME: &'static str = "ordering.order-placed";
    const TOPIC: Option<&'static str> = Some("orders");
    const HAS_SESSION: bool = true;

    fn session_id(&self) -> Option<String> {
        Some(self.order_id.to_string())
    }
}

/// A handler with a field of its own.
struct Billing {
    done: mpsc::UnboundedSender<String>,
}

impl Handler<Sqlite> for Billing {
    type Event = OrderPlaced;

    fn settings(&self) -> HandlerSettings {
        HandlerSettings::new("billing").retry(RetryPolicy::default().attempts(3))
    }

    async fn handle(
        &self,
        event: OrderPlaced,
        tx: &mut Transaction<'_, Sqlite>,
        context: &EventContext,
    ) -> Result<(), HandlerError> {
        sqlx::query("INSERT INTO charges (order_id) VALUES (?)")
            .bind(event.order_id)
            .execute(&mut **tx)
            .await?;
        self.done.send(format!("order {} charged, attempt {}", event.order_id, context.attempt()))?;
        Ok(())
    }
}

/// What the service registers: a value and a closure.
fn handlers(bus: BusBuilder<Sqlite>, done: mpsc::UnboundedSender<String>) -> BusBuilder<Sqlite> {
    let audited = done.clone();
    bus.handler_value(Billing { done }).on(
        HandlerSettings::new("audit"),
        move |event: OrderPlaced, _tx, _context| {
            let audited = audited.clone();
            Box::pin(async move { Ok(audited.send(format!("order {} audited", event.order_id))?) })
        },
    )
}

async fn create_tables(pool: &SqlitePool) -> Result<(), sqlx::Error> {
    sqlx::query("CREATE TABLE charges (order_id INTEGER NOT NULL)").execute(pool).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let pool = SqlitePool::connect("sqlite::memory:").await?;
    create_tables(&pool).await?;
    EventBus::migrate(&pool).await?;

    let (done, mut finished) = mpsc::unbounded_channel();
    let bus = handlers(EventBus::builder(pool.clone()).broker(LocalBroker::new()), done).build()?;

    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    OrderPlaced { order_id: 1 }.publish_with(&mut tx, PublishOptions::new().header("tenant", "acme")).await?;
    bus.commit(tx).await?;

    bus.run_until(async {
        for _ in 0..2 {
            println!("{}", finished.recv().await.unwrap_or_default());
        }
    })
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use distributed_events::testing::TestBus;

    #[test]
    fn a_handler_with_fields_is_run_alone() {
        let (done, mut finished) = mpsc::unbounded_channel();
        TestBus::run(
            |bus| bus,
            async |bus| {
                create_tables(bus.pool()).await?;
                let charged =
                    bus.handle_value(Billing { done }, &OrderPlaced { order_id: 1 }).attempt(2).await?;
                charged.assert_processed();
                assert_eq!(finished.try_recv().as_deref(), Ok("order 1 charged, attempt 2"));
                Ok(())
            },
        );
    }

    #[test]
    fn an_order_is_charged_and_audited() {
        let (done, mut finished) = mpsc::unbounded_channel();
        TestBus::run(
            move |bus| handlers(bus, done.clone()),
            async |bus| {
                create_tables(bus.pool()).await?;
                bus.receive(&OrderPlaced { order_id: 1 })?;
                bus.settled().await?;
                bus.assert_none_dead().await?;
                let mut lines: Vec<_> = std::iter::from_fn(|| finished.try_recv().ok()).collect();
                lines.sort();
                assert_eq!(lines, ["order 1 audited", "order 1 charged, attempt 1"]);
                Ok(())
            },
        );
    }
}
