//! Which rows are read, and when.

use std::time::Duration;

use distributed_events::broker::BatchLimits;
use distributed_events::{DistributedEvent, PublishOptions};
use tests::broker_conformance::{Noted, publish_with};
use tests::eventually::eventually;
use tests::memory_broker::MemoryBroker;
use tests::service::Running;

use super::{Outbox, event, numbered};

const INSERT: &str = "INSERT INTO outbox (seq, id, event_type, event_data) VALUES ";

#[tokio::test]
async fn the_sweep_finds_a_row_that_became_visible_below_the_watermark() {
    let outbox = Outbox::new().await;
    let relay = outbox.start();
    let insert = |seq: i64| {
        let sql = format!("{INSERT} ({seq}, randomblob(16), 'test.happened', '{seq}')");
        let pool = outbox.database.pool.clone();
        async move { sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&pool).await.unwrap() }
    };
    insert(100).await;
    outbox.sent(1).await;
    insert(101).await;
    outbox.sent(2).await;
    insert(50).await;
    outbox.sent(3).await;
    relay.stop().await.unwrap();
    assert_eq!(outbox.broker.accepted(), ["100", "101", "50"]);
}

#[tokio::test]
async fn batches_are_as_large_and_as_many_as_the_settings_say() {
    let outbox = Outbox::new().await;
    outbox.broker.hold_sends();
    outbox.publish(numbered(40)).await;
    let relay = outbox.start_with(3, 4);
    outbox.under_way(4).await;
    outbox.broker.release_sends();
    outbox.sent(40).await;
    relay.stop().await.unwrap();
    let batches = outbox.broker.batches();
    assert_eq!(batches.iter().map(|batch| batch.bodies.len()).max(), Some(3));
    assert_eq!(batches.iter().map(|batch| batch.depth).max(), Some(4));
}

#[tokio::test]
async fn the_limits_of_the_broker_come_on_top() {
    let outbox = Outbox::new().await;
    let size = event("0").encoded_size();
    outbox.broker.set_limits(BatchLimits::new(2 * size, 5));
    outbox.publish(numbered(10)).await;
    let relay = outbox.start();
    outbox.sent(10).await;
    outbox.broker.set_limits(BatchLimits::new(1 << 20, 5));
    outbox.publish(numbered(10)).await;
    outbox.sent(20).await;
    relay.stop().await.unwrap();
    let lengths: Vec<_> = outbox.broker.batches().iter().map(|batch| batch.bodies.len()).collect();
    assert_eq!(lengths, [2, 2, 2, 2, 2, 5, 5]);
}

#[tokio::test]
async fn more_rows_than_a_page_and_more_than_fit_in_memory_are_all_sent_in_order() {
    let outbox = Outbox::new().await;
    for _ in 0..4 {
        outbox.publish(numbered(600)).await;
    }
    let relay = outbox.start_with(100, 1);
    outbox.sent(2400).await;
    relay.stop().await.unwrap();
    let expected: Vec<_> = (0..4).flat_map(|_| 0..600).map(|number: i32| number.to_string()).collect();
    assert!(outbox.broker.accepted() == expected);
}

#[tokio::test]
async fn an_expired_event_ends_dead_and_is_never_sent() {
    let outbox = Outbox::new().await;
    let pool = &outbox.database.pool;
    publish_with(pool, &Noted::new("late"), PublishOptions::new().ttl(Duration::from_secs(3600))).await;
    publish_with(pool, &Noted::new("in time"), PublishOptions::new().ttl(Duration::from_secs(7200))).await;
    // An hour and a minute pass.
    outbox
        .run("UPDATE outbox SET created_at = created_at - 3660000, expires_at = expires_at - 3660000")
        .await;
    let relay = outbox.start();
    outbox.sent(1).await;
    let dead = "SELECT COUNT(*) FROM outbox WHERE status = 'dead' AND last_error = 'expired'";
    eventually("dead", || outbox.database.number(dead), |dead| *dead == 1).await;
    relay.stop().await.unwrap();
    let accepted = outbox.broker.accepted();
    assert!(accepted.len() == 1 && accepted[0].contains("in time"), "{accepted:?}");
}

#[tokio::test]
async fn due_rows_of_a_held_topic_hide_no_others() {
    let outbox = Outbox::new().await;
    outbox.broker.refuse_topic("a", "it is full");
    // More than a page of them, all due before the one on the other topic.
    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200) \
        INSERT INTO outbox (id, event_type, event_data, topic, deliver_at) \
        SELECT randomblob(16), 'test.happened', iif(i = 1200, 'b', 'a'), iif(i = 1200, 'b', 'a'), i FROM n";
    outbox.run(sql).await;
    let settings = tests::service::quick_outbox().backoff(Duration::from_secs(60), Duration::from_secs(60));
    let relay = outbox.start_as(settings);
    outbox.sent(1).await;
    assert_eq!(outbox.broker.accepted(), ["b"]);
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn delayed_rows_do_not_hold_up_those_behind_them() {
    let outbox = Outbox::new().await;
    let relay = outbox.start();
    let pool = &outbox.database.pool;
    for _ in 0..3 {
        publish_with(pool, &Noted::of("s", "later"), PublishOptions::new().delay(Duration::from_secs(3600)))
            .await;
    }
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    Noted::of("s", "now").publish(&mut tx).await.unwrap();
    relay.bus.commit(tx).await.unwrap();
    outbox.sent(1).await;
    assert_eq!(outbox.database.number("SELECT COUNT(*) FROM outbox WHERE status = 'pending'").await, 3);
    outbox
        .run("UPDATE outbox SET deliver_at = deliver_at - 3600000 WHERE deliver_at IS NOT NULL AND seq <= 2")
        .await;
    outbox.sent(3).await;
    relay.stop().await.unwrap();
    assert_eq!(outbox.broker.accepted().len(), 3);
}

#[tokio::test]
async fn each_lane_goes_to_its_own_broker_and_stands_still_alone() {
    let outbox = Outbox::new().await;
    let critical = MemoryBroker::named("critical");
    let bus = outbox.builder().lane("critical", critical.clone()).build().unwrap();
    let relay = Running::start(bus);
    critical.set_down(true);
    let in_lane = |lane: &str, body: &str| {
        let mut event = event(body);
        event.lane = lane.to_owned();
        event
    };
    outbox.publish(vec![in_lane("critical", "c1"), event("d1"), in_lane("nobody's", "n1")]).await;
    outbox.sent(1).await;
    outbox.publish(vec![in_lane("critical", "c2"), event("d2")]).await;
    outbox.sent(2).await;
    assert_eq!(outbox.broker.accepted(), ["d1", "d2"]);
    critical.set_down(false);
    outbox.sent(4).await;
    relay.stop().await.unwrap();
    assert_eq!(critical.accepted(), ["c1", "c2"]);
    assert_eq!(outbox.row("n1").await.unwrap().0, "pending", "for a relay that serves its lane");
}
