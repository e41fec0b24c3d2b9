//! The billing service: keeps a bill for each order, charges it when it is confirmed, and raises alarm at large ones.

use distributed_events::{
    BusBuilder, DistributedEvent as _, EventBus, EventContext, HandlerError, event_handler,
};
use sqlx::{Sqlite, SqlitePool, Transaction};

use crate::Failure;
use crate::events::{CardCharged, FraudSuspected, OrderChanged, OrderConfirmed, OrderPlaced};

/// An order of so much is looked at by a person.
pub(crate) const SUSPICIOUS_CENTS: i64 = 45_000;

pub(crate) async fn bus(pool: &SqlitePool) -> Result<BusBuilder<Sqlite>, Failure> {
    // No unique key on charges, on purpose: a charge made twice must show.
    for table in [
        "CREATE TABLE IF NOT EXISTS bills (order_id BIGINT PRIMARY KEY, cents BIGINT NOT NULL, card TEXT NOT NULL)",
        "CREATE TABLE IF NOT EXISTS charges (order_id BIGINT NOT NULL, cents BIGINT NOT NULL)",
    ] {
        sqlx::query(table).execute(pool).await?;
    }
    EventBus::migrate(pool).await?;
    Ok(EventBus::builder(pool.clone())
        .discovered_handlers_of("billing")
        .publishes::<CardCharged>()
        .publishes::<FraudSuspected>())
}

#[event_handler(subscription = "billing")]
async fn open_bill(order: OrderPlaced, tx: &mut Transaction<'_, Sqlite>) -> Result<(), HandlerError> {
    sqlx::query("INSERT INTO bills (order_id, cents, card) VALUES (?, ?, ?)")
        .bind(order.order_id)
        .bind(order.total_cents)
        .bind(order.card)
        .execute(&mut **tx)
        .await?;
    if order.total_cents >= SUSPICIOUS_CENTS {
        FraudSuspected { order_id: order.order_id, cents: order.total_cents }.publish(tx).await?;
    }
    Ok(())
}

/// Takes the order of the session for granted: if two changes came the other way round, or after the confirmation, the
/// charge would be wrong, and the books would show it.
#[event_handler(subscription = "billing")]
async fn change_bill(order: OrderChanged, tx: &mut Transaction<'_, Sqlite>) -> Result<(), HandlerError> {
    sqlx::query("UPDATE bills SET cents = ? WHERE order_id = ?")
        .bind(order.total_cents)
        .bind(order.order_id)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

#[event_handler(subscription = "billing")]
async fn charge_card(
    OrderConfirmed { order_id }: OrderConfirmed,
    tx: &mut Transaction<'_, Sqlite>,
    context: &EventContext,
) -> Result<(), HandlerError> {
    let (cents, card): (i64, String) = sqlx::query_as("SELECT cents, card FROM bills WHERE order_id = ?")
        .bind(order_id)
        .fetch_one(&mut **tx)
        .await?;
    if card == "expired" {
        return Err(HandlerError::dead_letter(format!("the card of order {order_id} has expired")));
    }
    if card == "busy" && context.attempt() == 1 {
        return Err("the bank is busy".into()); // tried again, with backoff; its session waits, and no other
    }
    sqlx::query("INSERT INTO charges (order_id, cents) VALUES (?, ?)")
        .bind(order_id)
        .bind(cents)
        .execute(&mut **tx)
        .await?;
    CardCharged { order_id, cents }.publish(tx).await?;
    Ok(())
}
