//! The ordering service: writes each order and its event in one transaction, and marks orders paid when billing says so.

use distributed_events::{DistributedEvent, EventBus, HandlerError, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::{Sqlite, SqlitePool, Transaction};

use crate::billing::CardCharged;
use crate::{Failure, report};

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(name = "ordering.order-placed", topic = "orders", session = order_id)]
pub(crate) struct OrderPlaced {
    pub(crate) order_id: i64,
    pub(crate) total_cents: i64,
    pub(crate) card: String,
}

pub(crate) async fn create_tables(pool: &SqlitePool) -> Result<(), Failure> {
    sqlx::query(
        "CREATE TABLE IF NOT EXISTS orders (order_id INTEGER PRIMARY KEY, total_cents INTEGER NOT NULL,
            card TEXT NOT NULL, paid_cents INTEGER NOT NULL DEFAULT 0, payments INTEGER NOT NULL DEFAULT 0)",
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// What came of the input.
#[derive(Default)]
pub(crate) struct Placed {
    pub(crate) published: u64,
    pub(crate) known: u64,
    pub(crate) malformed: u64,
}

/// Reads orders, one JSON object a line. An order that an earlier run has written is not written again.
pub(crate) async fn place_orders(
    bus: &EventBus<Sqlite>,
    pool: &SqlitePool,
    input: &str,
    latencies: &report::Latencies,
) -> Result<Placed, Failure> {
    let mut placed = Placed::default();
    for (index, line) in input.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let order: OrderPlaced = match serde_json::from_str(line) {
            Ok(order) => order,
            Err(error) => {
                eprintln!("line {}: not an order, skipped: {error}", index + 1);
                placed.malformed += 1;
                continue;
            }
        };
        let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
        let new = sqlx::query(
            "INSERT INTO orders (order_id, total_cents, card) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(order.order_id)
        .bind(order.total_cents)
        .bind(&order.card)
        .execute(&mut *tx)
        .await?;
        if new.rows_affected() == 0 {
            placed.known += 1;
            continue;
        }
        order.publish(&mut tx).await?;
        bus.commit(tx).await?;
        latencies.committed(order.order_id);
        placed.published += 1;
    }
    Ok(placed)
}

#[event_handler(subscription = "ordering")]
async fn mark_paid(event: CardCharged, tx: &mut Transaction<'_, Sqlite>) -> Result<(), HandlerError> {
    // Counted, not set: handling an event twice would show.
    sqlx::query("UPDATE orders SET paid_cents = paid_cents + ?, payments = payments + 1 WHERE order_id = ?")
        .bind(event.cents)
        .bind(event.order_id)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
