//! The code of a service around its handlers, with the bus that `testing::TestBus` has for it.

use distributed_events::testing::TestBus;
use distributed_events::{DistributedEvent, EventBus, Health};
use serde::{Deserialize, Serialize};
use sqlx::{Sqlite, SqlitePool};

#[derive(DistributedEvent, Serialize, Deserialize, Debug, PartialEq)]
#[event(name = "ordering.order-placed", topic = "orders", lane = "critical")]
struct OrderPlaced;

/// As a request's handler does.
async fn place(
    pool: &SqlitePool,
    bus: &EventBus<Sqlite>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    OrderPlaced.publish(&mut tx).await?;
    bus.commit(tx).await?;
    Ok(())
}

#[test]
fn code_that_asks_for_a_bus_commits_with_it_and_asks_for_its_health() {
    TestBus::run(
        |bus| bus.publishes::<OrderPlaced>(),
        async |bus| {
            place(bus.pool(), bus.event_bus()).await?;
            assert_eq!(bus.published::<OrderPlaced>()?, [], "it is not run");
            bus.settled().await?;
            assert_eq!(bus.published::<OrderPlaced>()?, [OrderPlaced], "in whatever lane");
            let health: Health = bus.event_bus().health().await;
            assert!(health.live && !health.ready, "{health:?}");
            Ok(())
        },
    );
}

#[tokio::test]
async fn a_test_that_has_a_runtime_already_is_told_how_to_do_without() {
    let failed = std::panic::catch_unwind(|| TestBus::run(|bus| bus, async |_bus| Ok(())));
    let text = failed.unwrap_err().downcast::<&str>().unwrap();
    assert!(text.contains("call it from a plain `#[test]`"), "{text}");
}

#[test]
fn an_event_that_nobody_takes_is_told() {
    TestBus::run(
        |bus| bus,
        async |bus| {
            let error = bus.receive(&OrderPlaced).unwrap_err().to_string();
            assert!(error.contains("no service here takes ordering.order-placed: register"), "{error}");
            Ok(())
        },
    );
}
