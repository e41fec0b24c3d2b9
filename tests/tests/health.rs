//! What a bus says of its health, while its loops, its leases and its broker are in every kind of trouble.

use std::time::Duration;

use distributed_events::broker::{Batch, BatchLimits, ReceiveError, Receiver, SendError, Service, Source};
use distributed_events::health::{BrokerHealth, Health, Holder, Reason};
use distributed_events::{
    Broker, BusBuilder, DistributedEvent, HandlerError, HandlerSettings, HealthThresholds,
};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;
use tests::eventually::eventually;
use tests::memory_broker::MemoryBroker;
use tests::service::{Database, Running, quick, quick_inbox, quick_outbox};

#[derive(Serialize, Deserialize)]
struct Asked {
    number: i64,
}

impl DistributedEvent for Asked {
    const NAME: &'static str = "health.asked";
}

async fn publish(database: &Database) {
    let mut tx = database.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    Asked { number: 1 }.publish(&mut tx).await.unwrap();
    tx.commit().await.unwrap();
}

/// With a handler that never succeeds.
fn failing(database: &Database, broker: impl Broker + 'static) -> BusBuilder<Sqlite> {
    quick(&database.pool)
        .broker(broker)
        .inbox(quick_inbox().lease_time(Duration::from_secs(3)).handler_timeout(Duration::from_millis(200)))
        .outbox(quick_outbox().lease_time(Duration::from_secs(3)))
        .health_thresholds(HealthThresholds::default().stuck_after(Duration::from_millis(500)))
        .on(HandlerSettings::new("audit"), |_event: Asked, _tx, _context| {
            Box::pin(async { Err(HandlerError::retry_after(Duration::from_secs(3_600))) })
        })
}

async fn until(running: &Running, what: &str, holds: impl Fn(&Health) -> bool) -> Health {
    eventually(what, || running.bus.health(), holds).await
}

#[tokio::test]
async fn a_bus_is_ready_while_it_runs_and_live_until_it_has_ended() {
    let database = Database::new().await;
    let bus = failing(&database, MemoryBroker::new()).build().unwrap();
    let health = bus.health().await;
    assert_eq!((health.live, health.ready, health.degraded), (true, false, vec![Reason::NotStarted]));

    let running = Running::start(bus.clone());
    let all_well = |health: &Health| {
        health.ready && health.lanes[0].lease == Holder::Here && health.subscriptions[0].shards_here == 64
    };
    let health = until(&running, "it is ready and holds its leases", all_well).await;
    assert!(health.live && health.degraded.is_empty(), "{health:?}");
    assert_eq!(health.lanes[0].oldest_pending, None);

    running.stop().await.unwrap();
    let health = bus.health().await;
    assert_eq!((health.live, health.ready, health.degraded), (false, false, vec![Reason::Ended]));
}

#[tokio::test]
async fn a_broker_that_is_away_is_told_of_and_does_not_make_the_service_unready() {
    let database = Database::new().await;
    let broker = MemoryBroker::new();
    let running = Running::start(failing(&database, broker.clone()).build().unwrap());
    until(&running, "it is ready", |health| health.ready).await;
    broker.set_down(true);
    publish(&database).await;
    let away = |health: &Health| matches!(health.lanes[0].broker, BrokerHealth::Away { .. });
    let health = until(&running, "the lane's broker is away", away).await;
    assert!(health.live && health.ready, "{health:?}");
    let told = health.degraded.iter().map(Reason::to_string).find(|text| text.contains("outbox relay"));
    let told = told.unwrap_or_else(|| panic!("{health:?}"));
    assert!(
        told.starts_with("the broker of the outbox relay of lane default has not answered for"),
        "{told}"
    );

    broker.set_down(false);
    let back =
        |health: &Health| health.lanes[0].broker == BrokerHealth::Reachable && health.degraded.is_empty();
    until(&running, "the broker is back", back).await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn events_that_have_waited_for_too_long_are_told_of_in_both_tables() {
    let database = Database::new().await;
    let broker = MemoryBroker::new();
    let running = Running::start(failing(&database, broker.clone()).build().unwrap());
    until(&running, "it is ready", |health| health.ready).await;
    publish(&database).await;
    let arrived = || database.number("SELECT count(*) FROM inbox WHERE last_error IS NOT NULL");
    eventually("it has arrived, and was tried", arrived, |count| *count == 1).await;
    broker.set_down(true);
    publish(&database).await;
    let late = |health: &Health| {
        health
            .degraded
            .iter()
            .any(|reason| matches!(reason, Reason::OutboxLate { .. } | Reason::InboxLate { .. }))
    };
    let health = running.bus.health().await;
    assert!(!late(&health), "{health:?}");
    assert!(health.lanes[0].oldest_pending.is_some() && health.subscriptions[0].oldest_pending.is_some());

    for sql in [
        "UPDATE outbox SET created_at = created_at - 360000",
        "UPDATE inbox SET received_at = received_at - 420000",
    ] {
        sqlx::query(sql).execute(&database.pool).await.unwrap();
    }
    let health = running.bus.health().await;
    let text = health.degraded.iter().map(Reason::to_string).collect::<Vec<_>>().join("\n");
    assert!(text.contains("the oldest event of lane default has waited for 36"), "{text}");
    assert!(text.contains("the oldest event of subscription audit has waited for 42"), "{text}");
    assert!(health.live && health.ready);
    let json = serde_json::to_value(&health).unwrap();
    assert!(json["lanes"][0]["oldest_pending_ms"].as_u64().unwrap() >= 360_000, "{json}");
    assert_eq!(json["subscriptions"][0]["shards_here"], 64, "{json}");
    assert!(json["degraded"][0].is_string(), "{json}");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn leases_are_told_as_held_here_and_elsewhere() {
    let database = Database::new().await;
    let broker = MemoryBroker::new();
    let first = Running::start(failing(&database, broker.clone()).build().unwrap());
    until(&first, "the first leads", |health| health.ready && health.lanes[0].lease == Holder::Here).await;
    let second = Running::start(failing(&database, broker).build().unwrap());
    let shared = |health: &Health| health.ready && health.subscriptions[0].shards_here == 32;
    let health = until(&second, "the shards are shared", shared).await;
    assert_eq!(health.lanes[0].lease, Holder::Elsewhere);
    until(&first, "the first has given half of its shards away", |health| {
        health.subscriptions[0].shards_here == 32 && health.subscriptions[0].shards_elsewhere == 32
    })
    .await;
    first.stop().await.unwrap();
    second.stop().await.unwrap();
}

#[tokio::test]
async fn events_that_nobody_has_a_lease_for_are_told_of() {
    let database = Database::new().await;
    let broker = MemoryBroker::new();
    let running = Running::start(failing(&database, broker.clone()).build().unwrap());
    until(&running, "it leads", |health| health.ready && health.lanes[0].lease == Holder::Here).await;
    publish(&database).await;
    let arrived = || database.number("SELECT count(*) FROM inbox WHERE last_error IS NOT NULL");
    eventually("it has arrived, and was tried", arrived, |count| *count == 1).await;
    // From now on nobody gets a lease, and what was held is not any more.
    for sql in [
        "CREATE TRIGGER no_lease BEFORE UPDATE ON distributed_events_leases WHEN new.owner IS NOT NULL \
         BEGIN SELECT RAISE(ABORT, 'nobody gets a lease'); END",
        "UPDATE distributed_events_leases SET owner = NULL, until = NULL",
    ] {
        sqlx::query(sql).execute(&database.pool).await.unwrap();
    }
    broker.set_down(true);
    publish(&database).await;
    let alone = |health: &Health| {
        let told =
            |reason: &Reason| matches!(reason, Reason::LaneWithoutLeader { lane } if lane == "default");
        let shard = |reason: &Reason| matches!(reason, Reason::ShardsWithoutWorker { shards: 1, .. });
        health.degraded.iter().any(told) && health.degraded.iter().any(shard)
    };
    let health = until(&running, "nobody works on them", alone).await;
    assert_eq!((health.lanes[0].lease, health.subscriptions[0].shards_free), (Holder::Nobody, 64));

    sqlx::query("DROP TRIGGER no_lease").execute(&database.pool).await.unwrap();
    broker.set_down(false);
    until(&running, "somebody does again", |health| health.degraded.is_empty()).await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn tables_that_are_gone_make_it_unready() {
    let database = Database::new().await;
    let running = Running::start(failing(&database, MemoryBroker::new()).build().unwrap());
    until(&running, "it is ready", |health| health.ready).await;
    sqlx::query("ALTER TABLE distributed_events_migrations RENAME TO elsewhere")
        .execute(&database.pool)
        .await
        .unwrap();
    let health = running.bus.health().await;
    assert!(health.live && !health.ready, "{health:?}");
    let text = health.degraded[0].to_string();
    assert!(text.contains("tables of distributed-events are missing"), "{text}");
    sqlx::query("ALTER TABLE elsewhere RENAME TO distributed_events_migrations")
        .execute(&database.pool)
        .await
        .unwrap();
    assert!(running.bus.health().await.ready);
    running.stop().await.unwrap();
}

/// A broker whose receivers are broken.
#[derive(Debug)]
enum Broken {
    Panics,
    Hangs,
}

impl Broker for Broken {
    fn identity(&self) -> String {
        "broken".to_owned()
    }

    fn limits(&self) -> BatchLimits {
        BatchLimits::new(1024, 10)
    }

    fn attach(&self, _service: Service) {}

    fn send<'a>(&'a self, _batch: Batch<'a>) -> BoxFuture<'a, Result<(), SendError>> {
        Box::pin(async { Ok(()) })
    }

    fn receiver<'a>(
        &'a self,
        _source: &'a Source,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Receiver>>, ReceiveError>> {
        match self {
            Self::Panics => panic!("a broken broker"),
            Self::Hangs => Box::pin(std::future::pending()),
        }
    }
}

#[tokio::test]
async fn a_loop_that_panics_is_told_of_and_one_that_hangs_makes_the_bus_not_live() {
    let database = Database::new().await;
    let running = Running::start(failing(&database, Broken::Panics).build().unwrap());
    let told = |health: &Health| {
        health.degraded.iter().any(|reason| {
            matches!(reason, Reason::LoopRestarted { name, .. } if name.starts_with("inbox relay of events/"))
        })
    };
    let health = until(&running, "the panic is told of", told).await;
    assert!(health.live, "{health:?}");
    running.stop().await.unwrap();

    let running = Running::start(failing(&database, Broken::Hangs).build().unwrap());
    let stuck =
        |health: &Health| health.degraded.iter().any(|reason| matches!(reason, Reason::LoopStuck { .. }));
    let health = until(&running, "a loop is stuck", stuck).await;
    assert!(!health.live, "{health:?}");
    running.kill().await;
}
