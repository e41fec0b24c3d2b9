//! A store that is down backs off alone, and gets what it is owed when it is back.

use distributed_events::DistributedEvent;

use super::*;

const HIDE: &str = "ALTER TABLE inbox RENAME TO hidden";
const SHOW: &str = "ALTER TABLE hidden RENAME TO inbox";

#[tokio::test]
async fn a_store_without_its_table_is_owed_its_events_and_others_get_theirs() {
    let [from, well, ill] = [Database::new().await, Database::new().await, Database::new().await];
    let broker = LocalBroker::new();
    let (here, there) = (Running::start(service(&well, &broker, "audit")), service(&ill, &broker, "billing"));
    run(&ill, HIDE).await;
    let publishing = publisher(&from, &broker);
    publish_numbers(&from, 0..5).await;
    assert_eq!(effects(&well, 5).await, texts(0..5));
    all_sent(&from).await;
    owed(&from, 5).await;
    let counts = admin::count_outbox(&from.pool).await.unwrap();
    assert_eq!(counts.owed.get("billing"), Some(&5), "and the operator sees it");
    run(&ill, SHOW).await;
    // Newer events come after what is owed.
    publish_numbers(&from, 5..10).await;
    let there = Running::start(there);
    assert_eq!(effects(&ill, 10).await, texts(0..10));
    assert_eq!(effects(&well, 10).await, texts(0..10));
    owed(&from, 0).await;
    for running in [publishing, here, there] {
        running.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_locked_store_keeps_the_others_waiting_no_longer_than_a_moment() {
    let [from, well, ill] = [Database::new().await, Database::new().await, Database::new().await];
    let broker = LocalBroker::new();
    let (here, there) = (Running::start(service(&well, &broker, "audit")), service(&ill, &broker, "billing"));
    let other = connect(&ill.path(), 1).await;
    let lock = other.begin_with("BEGIN EXCLUSIVE").await.unwrap();
    let publishing = publisher(&from, &broker);
    let since = Instant::now();
    publish_numbers(&from, 0..20).await;
    assert_eq!(effects(&well, 20).await, texts(0..20));
    // One statement alone would wait nine seconds for the lock.
    assert!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
    all_sent(&from).await;
    owed(&from, 20).await;
    lock.rollback().await.unwrap();
    let there = Running::start(there);
    assert_eq!(effects(&ill, 20).await, texts(0..20));
    owed(&from, 0).await;
    for running in [publishing, here, there] {
        running.stop().await.unwrap();
    }
}

#[tokio::test]
async fn what_is_owed_outlives_the_publisher_and_comes_before_newer_events() {
    let [from, ill] = [Database::new().await, Database::new().await];
    let broker = LocalBroker::new();
    let _known = service(&ill, &broker, "billing");
    run(&ill, HIDE).await;
    let publishing = publisher(&from, &broker);
    publish_numbers(&from, 0..5).await;
    owed(&from, 5).await;
    all_sent(&from).await;
    publishing.kill().await;
    bury(&from).await;
    drop(broker);
    // Another process, as it were: nothing is remembered but what the databases hold.
    let broker = LocalBroker::new();
    let subscriber = service(&ill, &broker, "billing");
    run(&ill, SHOW).await;
    publish_numbers(&from, 5..10).await;
    let publishing = publisher(&from, &broker);
    let subscriber = Running::start(subscriber);
    assert_eq!(effects(&ill, 10).await, texts(0..10));
    owed(&from, 0).await;
    publishing.stop().await.unwrap();
    subscriber.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_owed_is_paid_without_a_newer_event() {
    let [from, ill] = [Database::new().await, Database::new().await];
    let broker = LocalBroker::new();
    let subscriber = service(&ill, &broker, "billing");
    run(&ill, HIDE).await;
    let publishing = publisher(&from, &broker);
    // More than is delivered with one statement.
    let mut tx = from.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let events: Vec<_> = (0..450).map(|number| Noted::of("s", number)).collect();
    Noted::publish_all(&mut tx, &events).await.unwrap();
    tx.commit().await.unwrap();
    owed(&from, 450).await;
    run(&ill, SHOW).await;
    owed(&from, 0).await;
    let subscriber = Running::start(subscriber);
    assert_eq!(effects(&ill, 450).await, texts(0..450));
    publishing.stop().await.unwrap();
    subscriber.stop().await.unwrap();
}

/// Delivered, and the mark was lost with the process.
#[tokio::test]
async fn what_was_delivered_and_not_marked_is_delivered_again_and_dropped() {
    let [from, to] = [Database::new().await, Database::new().await];
    let broker = LocalBroker::new();
    let subscriber = Running::start(service(&to, &broker, "audit"));
    let publishing = publisher(&from, &broker);
    publish_numbers(&from, 0..3).await;
    effects(&to, 3).await;
    all_sent(&from).await;
    publishing.kill().await;
    bury(&from).await;
    run(&from, "UPDATE outbox SET status = 'pending', processed_at = NULL").await;
    let publishing = publisher(&from, &broker);
    all_sent(&from).await;
    assert_eq!(publishing.bus.stats().sent, 3, "sent again");
    publish_numbers(&from, 3..4).await;
    assert_eq!(effects(&to, 4).await, texts(0..4));
    publishing.stop().await.unwrap();
    subscriber.stop().await.unwrap();
    assert_eq!(to.number("SELECT COUNT(*) FROM inbox").await, 4);
}
