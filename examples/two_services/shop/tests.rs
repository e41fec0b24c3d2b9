//! Ordering by itself; billing's tests stand beside it.

use std::time::Duration;

use distributed_events::testing::TestBus;

use super::ordering;
use crate::Failure;
use crate::events::{CardCharged, FraudSuspected, OrderChanged, OrderConfirmed, OrderPlaced};

const INPUT: &str = r#"{"order_id": 1, "total_cents": 1000, "card": "valid"}"#;

fn test(test: impl AsyncFnOnce(&mut TestBus<'_>) -> Result<(), Failure>) {
    TestBus::run(ordering::handlers, async |bus: &mut TestBus<'_>| {
        ordering::create_tables(bus.pool()).await?;
        test(bus).await
    });
}

#[test]
fn an_order_goes_through_its_steps_once() {
    test(async |bus| {
        for known in [0, 1] {
            let placed = ordering::take_orders(bus.event_bus(), bus.pool(), INPUT).await?;
            assert_eq!((placed.published, placed.known), (1 - known, known));
        }
        bus.settled().await?;
        bus.assert_published_count::<OrderPlaced>(1).await?;
        bus.assert_published_count::<OrderConfirmed>(1).await?;
        let changed = bus.published::<OrderChanged>()?.into_iter().map(|changed| changed.total_cents);
        assert_eq!(changed.collect::<Vec<_>>(), [1500, 1350], "postage, then a tenth off");
        Ok(())
    });
}

#[test]
fn a_review_is_asked_for_when_its_time_has_come() {
    test(async |bus| {
        ordering::take_orders(bus.event_bus(), bus.pool(), INPUT).await?;
        let reminders = "SELECT count(*) FROM reminders";
        bus.let_pass(Duration::from_secs(1)).await?;
        let count: i64 = sqlx::query_scalar(reminders).fetch_one(bus.pool()).await?;
        assert_eq!(count, 0);
        bus.settled().await?;
        let count: i64 = sqlx::query_scalar(reminders).fetch_one(bus.pool()).await?;
        assert_eq!(count, 1);
        Ok(())
    });
}

#[test]
fn what_billing_says_is_written_down() {
    test(async |bus| {
        ordering::take_orders(bus.event_bus(), bus.pool(), INPUT).await?;
        bus.receive(&CardCharged { order_id: 1, cents: 1350 })?;
        bus.receive(&FraudSuspected { order_id: 1, cents: 1350 })?;
        bus.settled().await?;
        bus.assert_none_dead().await?;
        let paid: (i64, i64) =
            sqlx::query_as("SELECT paid_cents, payments FROM orders").fetch_one(bus.pool()).await?;
        assert_eq!(paid, (1350, 1));
        let alerts: Vec<i64> =
            sqlx::query_scalar("SELECT order_id FROM alerts").fetch_all(bus.pool()).await?;
        assert_eq!(alerts, [1]);
        Ok(())
    });
}
