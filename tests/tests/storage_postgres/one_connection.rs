//! An outbox relay over a single connection, which nobody may keep.

use std::sync::Arc;
use std::time::Duration;

use distributed_events::storage::{PoolSettings, Storage};
use distributed_events::{OutboxRelay, Shutdown};
use sqlx::Postgres;
use tests::conformance::{Fixture, event, pending, publish};
use tests::eventually::eventually;
use tests::fixtures::PgDatabase;
use tests::memory_broker::MemoryBroker;
use tests::service::quick_outbox;

#[tokio::test]
async fn a_relay_reads_and_marks_over_a_single_connection() {
    let database = PgDatabase::<true>::fresh().await;
    let settings = PoolSettings::new(1, Duration::from_secs(5));
    let pool = Postgres::open(database.pool(), &settings).await.unwrap();
    let (broker, (handle, stop)) = (MemoryBroker::new(), Shutdown::new());
    let relay = OutboxRelay::new(pool, Arc::new(broker.clone())).settings(quick_outbox());
    let relay = tokio::spawn(relay.run(stop));
    for body in ["1", "2"] {
        publish(&database, &[event(body)]).await;
        eventually("it is marked", || pending(&database), Vec::is_empty).await;
    }
    handle.stop();
    relay.await.unwrap();
    assert_eq!(broker.accepted(), ["1", "2"]);
}
