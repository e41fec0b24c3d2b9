//! The two services, each by itself.

use distributed_events::testing::TestBus;
use sqlx::SqlitePool;

use super::billing::{self, CardCharged, charge_card};
use super::ordering::{self, OrderPlaced};
use super::report::Latencies;

fn order(card: &str) -> OrderPlaced {
    OrderPlaced { order_id: 1, total_cents: 4200, card: card.to_owned() }
}

async fn charges(pool: &SqlitePool) -> Result<Vec<(i64, i64)>, sqlx::Error> {
    sqlx::query_as("SELECT order_id, cents FROM charges").fetch_all(pool).await
}

#[test]
fn a_valid_card_is_charged_and_billing_says_so() {
    TestBus::run(
        |bus| bus.state(Latencies::default()),
        async |bus| {
            billing::create_tables(bus.pool()).await?;
            bus.handle::<charge_card>(&order("valid")).await?.assert_processed();
            assert_eq!(charges(bus.pool()).await?, [(1, 4200)]);
            let like_this = |charged: &CardCharged| charged.order_id == 1 && charged.cents == 4200;
            bus.assert_published(like_this).await?;
            Ok(())
        },
    );
}

#[test]
fn an_expired_card_is_refused_for_good_and_a_busy_bank_is_asked_again() {
    TestBus::run(
        |bus| bus.state(Latencies::default()),
        async |bus| {
            billing::create_tables(bus.pool()).await?;
            bus.handle::<charge_card>(&order("expired"))
                .await?
                .assert_dead("the card of order 1 has expired");
            bus.handle::<charge_card>(&order("busy")).await?.assert_retried("the bank is busy");
            bus.assert_not_published::<CardCharged>().await?;
            assert_eq!(charges(bus.pool()).await?, []);
            bus.handle::<charge_card>(&order("busy")).attempt(2).await?.assert_processed();
            Ok(())
        },
    );
}

#[test]
fn orders_are_placed_once_and_marked_paid() {
    TestBus::run(
        |bus| bus.discovered_handlers_of("ordering"),
        async |bus| {
            ordering::create_tables(bus.pool()).await?;
            let input = r#"{"order_id": 1, "total_cents": 4200, "card": "valid"}"#;
            for known in [0, 1] {
                let placed =
                    ordering::place_orders(bus.event_bus(), bus.pool(), input, &Latencies::default()).await?;
                assert_eq!((placed.published, placed.known), (1 - known, known));
            }
            bus.receive(&CardCharged { order_id: 1, cents: 4200 })?;
            bus.settled().await?;
            bus.assert_published_count::<OrderPlaced>(1).await?;
            let paid: (i64, i64) =
                sqlx::query_as("SELECT paid_cents, payments FROM orders").fetch_one(bus.pool()).await?;
            assert_eq!(paid, (4200, 1));
            Ok(())
        },
    );
}
