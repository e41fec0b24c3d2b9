//! One leader a lane, and what happens between two.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use distributed_events::storage::{PoolSettings, Storage};
use distributed_events::{BusError, IncidentKind, OutboxRelay, Shutdown};
use sqlx::Sqlite;
use tests::broker_conformance::bury;
use tests::memory_broker::MemoryBroker;
use tests::service::{Running, quick, quick_outbox};

use super::{Outbox, event, numbered, of};

/// Another takes the lease, for nearly as long as it may be given for.
const STEAL: &str = "UPDATE distributed_events_leases SET owner = randomblob(16), epoch = epoch + 1, \
    until = CAST(unixepoch('subsec') * 1000 AS INTEGER) + 9900";

#[tokio::test]
async fn of_two_relays_on_one_lane_one_leads() {
    let outbox = Outbox::new().await;
    outbox.broker.hold_sends();
    outbox.publish(numbered(30)).await;
    let relays = [outbox.start_with(1, 2), outbox.start_with(1, 2)];
    outbox.under_way(2).await;
    outbox.broker.release_sends();
    outbox.sent(30).await;
    let batches = outbox.broker.batches();
    assert_eq!(batches.iter().map(|batch| batch.depth).max(), Some(2), "the depth of one");
    let ids: HashSet<_> = batches.iter().flat_map(|batch| &batch.ids).collect();
    assert_eq!((batches.len(), ids.len()), (30, 30), "each once");
    for relay in relays {
        relay.stop().await.unwrap();
    }
}

#[tokio::test]
async fn when_a_leader_is_killed_with_batches_under_way_another_loses_nothing() {
    let outbox = Outbox::new().await;
    outbox.broker.hold_sends();
    outbox
        .publish((0..12).map(|number| of(&format!("s{}", number % 6), &format!("{number:02}"))).collect())
        .await;
    let first = outbox.start_with(2, 4);
    outbox.under_way(3).await;
    // One of them arrives, and nobody is left to mark it.
    outbox.broker.let_sends_pass(1);
    outbox.batches(3).await;
    first.kill().await;
    bury(&outbox.database).await;
    let second = outbox.start_with(2, 4);
    outbox.broker.release_sends();
    outbox.sent(12).await;
    second.stop().await.unwrap();
    let accepted: HashSet<_> = outbox.broker.accepted().into_iter().collect();
    assert_eq!(accepted.len(), 12);
}

#[tokio::test]
async fn a_leader_that_loses_its_lease_marks_what_was_accepted_and_starts_nothing_new() {
    let outbox = Outbox::new().await;
    outbox.broker.hold_sends();
    let relay = outbox.start_as(quick_outbox().lease_time(Duration::from_secs(10)));
    outbox.publish(vec![event("1")]).await;
    outbox.under_way(1).await;
    outbox.run(STEAL).await;
    outbox.told(IncidentKind::LeaseLost, 1).await;
    outbox.publish(vec![event("2")]).await;
    outbox.broker.release_sends();
    outbox.sent(1).await;
    assert_eq!(outbox.broker.accepted(), ["1"], "an acknowledgement is a fact, and the rest is another's");
    outbox.run("UPDATE distributed_events_leases SET until = 0").await;
    outbox.sent(2).await;
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn a_lane_bound_to_another_broker_is_an_error_at_the_start() {
    let outbox = Outbox::new().await;
    let first = outbox.start();
    outbox.publish(vec![event("1")]).await;
    outbox.sent(1).await;
    let other = MemoryBroker::named("another");
    let second = || quick(&outbox.database.pool).broker(other.clone()).build().unwrap();
    let refused = second().run_until(std::future::pending()).await.unwrap_err();
    assert!(
        matches!(&refused, BusError::LaneBound { lane, bound, own } if lane == "default" && bound == "memory" && own == "another"),
        "{refused}"
    );
    first.stop().await.unwrap();
    let second = Running::start(second());
    outbox.publish(vec![event("2")]).await;
    outbox.sent(2).await;
    second.stop().await.unwrap();
    assert_eq!((outbox.broker.accepted(), other.accepted()), (vec!["1".to_owned()], vec!["2".to_owned()]));
}

#[tokio::test]
async fn a_relay_that_stands_alone_takes_over_a_lane_that_nobody_serves_any_more() {
    let outbox = Outbox::new().await;
    let first = outbox.start();
    outbox.publish(vec![event("1")]).await;
    outbox.sent(1).await;
    first.stop().await.unwrap();
    let other = MemoryBroker::named("another");
    let settings = PoolSettings::new(2, Duration::from_secs(5));
    let pool = Sqlite::open(&outbox.database.pool, &settings).await.unwrap();
    let (handle, stop) = Shutdown::new();
    let relay =
        tokio::spawn(OutboxRelay::new(pool, Arc::new(other.clone())).settings(quick_outbox()).run(stop));
    outbox.publish(vec![event("2")]).await;
    outbox.sent(2).await;
    handle.stop();
    relay.await.unwrap();
    assert_eq!(other.accepted(), ["2"]);
}
