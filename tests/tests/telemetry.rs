//! What a service tells of itself: spans that are joined across services, and metrics.

use distributed_events::{DistributedEvent, EventBus, EventContext, HandlerError, HandlerSettings};
use serde::{Deserialize, Serialize};
use sqlx::{Sqlite, SqlitePool, Transaction};
use tests::memory_broker::MemoryBroker;
use tests::service::{Database, quick};

#[path = "telemetry/metrics.rs"]
mod metrics;
#[path = "telemetry/seen.rs"]
mod seen;
#[path = "telemetry/service_bus.rs"]
mod service_bus;
#[path = "telemetry/traces.rs"]
mod traces;
#[path = "telemetry/transfers.rs"]
mod transfers;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Placed {
    order_id: i64,
    /// Until the attempt of this number its handler fails.
    fails_until: u32,
}

impl DistributedEvent for Placed {
    const NAME: &'static str = "telemetry.placed";
    const TOPIC: Option<&'static str> = Some("orders");
    const HAS_SESSION: bool = true;

    fn session_id(&self) -> Option<String> {
        Some(self.order_id.to_string())
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Charged {
    order_id: i64,
}

impl DistributedEvent for Charged {
    const NAME: &'static str = "telemetry.charged";
    const TOPIC: Option<&'static str> = Some("charges");
}

const fn placed(order_id: i64) -> Placed {
    Placed { order_id, fails_until: 1 }
}

const BILLING: HandlerSettings = HandlerSettings::new("billing");

async fn charge(
    event: Placed,
    tx: &mut Transaction<'_, Sqlite>,
    context: &EventContext,
) -> Result<(), HandlerError> {
    tracing::info_span!("charging the card").in_scope(|| {});
    if context.attempt() < event.fails_until {
        return Err("no card".into());
    }
    Charged { order_id: event.order_id }.publish(tx).await?;
    Ok(())
}

/// The service that charges for what was placed.
fn billing_on(database: &Database, broker: MemoryBroker) -> EventBus<Sqlite> {
    quick(&database.pool)
        .broker(broker)
        .on(BILLING, |event: Placed, tx, context| Box::pin(charge(event, tx, context)))
        .publishes::<Charged>()
        .build()
        .unwrap()
}

async fn note(
    event: Charged,
    tx: &mut Transaction<'_, Sqlite>,
    _context: &EventContext,
) -> Result<(), HandlerError> {
    sqlx::query("INSERT INTO effects (value) VALUES (?)")
        .bind(event.order_id.to_string())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn publish(pool: &SqlitePool, event: &Placed) {
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    event.publish(&mut tx).await.unwrap();
    tx.commit().await.unwrap();
}
