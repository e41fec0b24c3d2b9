//! The ordering service: writes each order and its event in one transaction, and marks orders paid when billing says so.

use distributed_events::storage::Storage as _;
use distributed_events::{DistributedEvent, EventBus, HandlerError, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::{Pool, Transaction};

use super::billing::CardCharged;
use super::{Db, report, sql};
use crate::Failure;

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(name = "ordering.order-placed", topic = "orders", session = order_id)]
pub(crate) struct OrderPlaced {
    pub(crate) order_id: i64,
    pub(crate) total_cents: i64,
    pub(crate) card: String,
}

pub(crate) async fn create_tables(pool: &Pool<Db>) -> Result<(), Failure> {
    sqlx::query(
        "CREATE TABLE IF NOT EXISTS orders (order_id BIGINT PRIMARY KEY, total_cents BIGINT NOT NULL,
            card VARCHAR(20) NOT NULL, paid_cents BIGINT NOT NULL DEFAULT 0, payments BIGINT NOT NULL DEFAULT 0)",
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
    bus: &EventBus<Db>,
    pool: &Pool<Db>,
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
        let mut tx = pool.begin_with(Db::BEGIN).await?;
        let known = sqlx::query(sql("SELECT 1 FROM orders WHERE order_id = $1")).bind(order.order_id);
        if known.fetch_optional(&mut *tx).await?.is_some() {
            placed.known += 1;
            continue;
        }
        sqlx::query(sql("INSERT INTO orders (order_id, total_cents, card) VALUES ($1, $2, $3)"))
            .bind(order.order_id)
            .bind(order.total_cents)
            .bind(&order.card)
            .execute(&mut *tx)
            .await?;
        order.publish(&mut tx).await?;
        bus.commit(tx).await?;
        latencies.committed(order.order_id);
        placed.published += 1;
    }
    Ok(placed)
}

#[event_handler(subscription = "ordering")]
async fn mark_paid(event: CardCharged, tx: &mut Transaction<'_, Db>) -> Result<(), HandlerError> {
    // Counted, not set: handling an event twice would show.
    sqlx::query(sql(
        "UPDATE orders SET paid_cents = paid_cents + $1, payments = payments + 1 WHERE order_id = $2",
    ))
    .bind(event.cents)
    .bind(event.order_id)
    .execute(&mut **tx)
    .await?;
    Ok(())
}
