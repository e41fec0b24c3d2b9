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
    create_tables(pool).await?;
    EventBus::migrate(pool).await?;
    Ok(EventBus::builder(pool.clone()).handlers(handlers))
}

fn handlers(bus: BusBuilder<Sqlite>) -> BusBuilder<Sqlite> {
    bus.discovered_handlers_of("billing").publishes::<CardCharged>().publishes::<FraudSuspected>()
}

async fn create_tables(pool: &SqlitePool) -> Result<(), Failure> {
    // No unique key on charges, on purpose: a charge made twice must show.
    for table in [
        "CREATE TABLE IF NOT EXISTS bills (order_id BIGINT PRIMARY KEY, cents BIGINT NOT NULL, card TEXT NOT NULL)",
        "CREATE TABLE IF NOT EXISTS charges (order_id BIGINT NOT NULL, cents BIGINT NOT NULL)",
    ] {
        sqlx::query(table).execute(pool).await?;
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use distributed_events::testing::TestBus;

    fn placed(total_cents: i64, card: &str) -> OrderPlaced {
        OrderPlaced { order_id: 1, total_cents, card: card.to_owned() }
    }

    fn test(test: impl AsyncFnOnce(&mut TestBus<'_>) -> Result<(), Failure>) {
        TestBus::run(handlers, async |bus: &mut TestBus<'_>| {
            create_tables(bus.pool()).await?;
            test(bus).await
        });
    }

    #[test]
    fn an_order_is_charged_as_it_was_last_changed() {
        test(async |bus| {
            bus.receive(&placed(4200, "valid"))?;
            bus.receive(&OrderChanged { order_id: 1, total_cents: 4700 })?;
            bus.receive(&OrderChanged { order_id: 1, total_cents: 4230 })?;
            bus.receive(&OrderConfirmed { order_id: 1 })?;
            bus.settled().await?;
            bus.assert_none_dead().await?;
            bus.assert_published::<CardCharged>(|charged| charged.cents == 4230).await?;
            bus.assert_not_published::<FraudSuspected>().await?;
            Ok(())
        });
    }

    #[test]
    fn a_large_order_raises_alarm() {
        test(async |bus| {
            bus.handle::<open_bill>(&placed(SUSPICIOUS_CENTS, "valid")).await?.assert_processed();
            bus.assert_published::<FraudSuspected>(|alarm| alarm.cents == SUSPICIOUS_CENTS).await?;
            Ok(())
        });
    }

    #[test]
    fn a_busy_bank_is_asked_again_and_an_expired_card_is_not() {
        for (card, dead) in [("busy", false), ("expired", true)] {
            test(async |bus| {
                bus.handle::<open_bill>(&placed(4200, card)).await?.assert_processed();
                let confirmed = OrderConfirmed { order_id: 1 };
                let outcome = bus.handle::<charge_card>(&confirmed).await?;
                if dead {
                    outcome.assert_dead("the card of order 1 has expired");
                } else {
                    outcome.assert_retried("the bank is busy");
                    bus.handle::<charge_card>(&confirmed).attempt(2).await?.assert_processed();
                }
                Ok(())
            });
        }
    }
}
