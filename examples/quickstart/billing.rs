//! The billing service: charges the card of each order, and says so with an event of its own.

use distributed_events::{DistributedEvent, EventContext, HandlerError, State, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::{Pool, Transaction};

use super::ordering::OrderPlaced;
use super::{Db, report, sql};
use crate::Failure;

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(name = "billing.card-charged", topic = "payments", session = order_id)]
pub(crate) struct CardCharged {
    pub(crate) order_id: i64,
    pub(crate) cents: i64,
}

pub(crate) async fn create_tables(pool: &Pool<Db>) -> Result<(), Failure> {
    // No unique key on order_id, on purpose: a charge made twice must show.
    sqlx::query("CREATE TABLE IF NOT EXISTS charges (order_id BIGINT NOT NULL, cents BIGINT NOT NULL)")
        .execute(pool)
        .await?;
    Ok(())
}

#[event_handler(subscription = "billing")]
pub(crate) async fn charge_card(
    order: OrderPlaced,
    tx: &mut Transaction<'_, Db>,
    context: &EventContext,
    State(latencies): State<report::Latencies>,
) -> Result<(), HandlerError> {
    if order.card == "expired" {
        return Err(HandlerError::dead_letter(format!("the card of order {} has expired", order.order_id)));
    }
    if order.card == "busy" && context.attempt() == 1 {
        return Err("the bank is busy".into()); // tried again, with backoff
    }
    sqlx::query(sql("INSERT INTO charges (order_id, cents) VALUES ($1, $2)"))
        .bind(order.order_id)
        .bind(order.total_cents)
        .execute(&mut **tx)
        .await?;
    CardCharged { order_id: order.order_id, cents: order.total_cents }.publish(tx).await?;
    latencies.handled(order.order_id);
    Ok(())
}
