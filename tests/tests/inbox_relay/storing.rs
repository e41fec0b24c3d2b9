//! Rules 17 and 19: nothing is completed before it is committed, and nothing received while it can't be.

use distributed_events::IncidentKind;
use distributed_events::storage::PoolSettings;
use sqlx::sqlite::SqlitePoolOptions;
use std::time::Duration;
use tests::eventually::eventually;
use tests::service::{Running, connect, quick_inbox};

use super::{Inbox, fresh};

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

/// Trouble comes, twenty messages wait, trouble goes: at most one batch was locked, none completed, all arrive once.
async fn weathers(inbox: &Inbox, relay: Running, mend: impl Future<Output = ()>) {
    let before = inbox.broker.received(&inbox.source);
    for number in numbers(20) {
        let mut message = fresh(&number);
        message.session_id = Some("s".to_owned());
        inbox.enqueue(message);
    }
    inbox.told(IncidentKind::DatabaseTrouble, 5).await;
    let received = inbox.broker.received(&inbox.source) - before;
    assert!(received <= 3, "{received} messages were taken that could not be stored");
    assert_eq!(inbox.broker.completed(&inbox.source), 0);
    mend.await;
    inbox.completed(20).await;
    let effects = inbox.effects(20).await;
    relay.stop().await.unwrap();
    assert_eq!(effects, numbers(20));
    assert_eq!(inbox.database.number("SELECT COUNT(*) FROM inbox").await, 20);
}

fn three_at_a_time(inbox: &Inbox) -> Running {
    inbox.start_as(
        quick_inbox().receive_batch(3).backoff(Duration::from_millis(10), Duration::from_millis(50)),
    )
}

#[tokio::test]
async fn a_locked_database_gets_no_more_messages_until_it_is_free() {
    let inbox = Inbox::new().await;
    let relay = three_at_a_time(&inbox);
    eventually(
        "it runs",
        || inbox.database.number("SELECT COUNT(*) FROM distributed_events_instances"),
        |n| *n == 1,
    )
    .await;
    let other = connect(&inbox.database.path(), 1).await;
    let lock = other.begin_with("BEGIN EXCLUSIVE").await.unwrap();
    weathers(&inbox, relay, async { lock.rollback().await.unwrap() }).await;
}

/// As when the file is read-only: every write is refused.
#[tokio::test]
async fn a_table_that_cant_be_written_gets_no_messages_at_all() {
    let inbox = Inbox::new().await;
    inbox.run("ALTER TABLE inbox RENAME TO elsewhere").await;
    let relay = three_at_a_time(&inbox);
    inbox.told(IncidentKind::DatabaseTrouble, 3).await;
    inbox.enqueue(fresh("0"));
    inbox.told(IncidentKind::DatabaseTrouble, 8).await;
    assert_eq!(inbox.broker.received(&inbox.source), 0, "the probe comes before the first message");
    inbox.run("ALTER TABLE elsewhere RENAME TO inbox").await;
    inbox.completed(1).await;
    assert_eq!(inbox.effects(1).await, ["0"]);
    relay.stop().await.unwrap();
}

/// The relay alone, on a pool whose only connection has no room left.
#[tokio::test]
async fn a_full_disk_gets_no_more_messages_until_there_is_room() {
    use distributed_events::{InboxRelay, Shutdown, Telemetry};

    let inbox = Inbox::new().await;
    // The limit belongs to the connection, so this pool must not close it.
    let options = inbox.database.pool.connect_options().as_ref().clone();
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    let pages: i64 = sqlx::query_scalar("PRAGMA page_count").fetch_one(&pool).await.unwrap();
    let full = format!("PRAGMA max_page_count = {pages}");
    sqlx::query(sqlx::AssertSqlSafe(full)).execute(&pool).await.unwrap();
    let incidents = std::sync::Arc::clone(&inbox.incidents);
    let telemetry = Telemetry::new().on_incident(move |incident| {
        incidents.lock().unwrap().push((incident.kind, incident.message.clone()));
    });
    let broker = std::sync::Arc::new(inbox.broker.clone());
    let settings =
        quick_inbox().receive_batch(3).backoff(Duration::from_millis(10), Duration::from_millis(50));
    let relay =
        InboxRelay::new(pool.clone(), broker, inbox.source.clone()).settings(settings).telemetry(telemetry);
    let (handle, stop) = Shutdown::new();
    let relay = tokio::spawn(relay.run(stop));
    for number in numbers(20) {
        inbox.enqueue(fresh(&number.repeat(20_000)));
    }
    inbox.told(IncidentKind::DatabaseTrouble, 5).await;
    assert_eq!(inbox.broker.received(&inbox.source), 3, "one batch is held, and nothing more is asked for");
    assert_eq!(inbox.broker.completed(&inbox.source), 0);
    sqlx::query("PRAGMA max_page_count = 1000000").execute(&pool).await.unwrap();
    inbox.completed(20).await;
    handle.stop();
    relay.await.unwrap();
    assert_eq!(inbox.database.number("SELECT COUNT(*) FROM inbox").await, 20);
}

#[tokio::test]
async fn a_read_only_database_gets_no_messages_at_all() {
    use distributed_events::storage::Storage;
    use distributed_events::{InboxRelay, Shutdown};

    let inbox = Inbox::new().await;
    inbox.enqueue(fresh("0"));
    let options = inbox.database.pool.connect_options().as_ref().clone().read_only(true);
    let read_only = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    let broker = std::sync::Arc::new(inbox.broker.clone());
    let telemetry = distributed_events::Telemetry::new();
    let incidents = std::sync::Arc::clone(&inbox.incidents);
    let telemetry = telemetry.on_incident(move |incident| {
        incidents.lock().unwrap().push((incident.kind, incident.message.clone()));
    });
    let settings = quick_inbox().backoff(Duration::from_millis(10), Duration::from_millis(20));
    let relay = |pool| {
        let relay = InboxRelay::new(pool, broker.clone(), inbox.source.clone());
        let (handle, stop) = Shutdown::new();
        (handle, tokio::spawn(relay.settings(settings.clone()).telemetry(telemetry.clone()).run(stop)))
    };
    let (handle, running) = relay(read_only);
    inbox.told(IncidentKind::DatabaseTrouble, 3).await;
    handle.stop();
    running.await.unwrap();
    assert_eq!(inbox.broker.received(&inbox.source), 0);
    let pool = sqlx::Sqlite::open(&inbox.database.pool, &PoolSettings::new(1, Duration::from_secs(5)))
        .await
        .unwrap();
    let (handle, running) = relay(pool);
    inbox.completed(1).await;
    handle.stop();
    running.await.unwrap();
}

#[tokio::test]
async fn what_could_not_be_stored_is_given_back_at_the_stop() {
    let inbox = Inbox::new().await;
    let relay = inbox.start();
    eventually(
        "it runs",
        || inbox.database.number("SELECT COUNT(*) FROM distributed_events_instances"),
        |n| *n == 1,
    )
    .await;
    inbox.run("ALTER TABLE inbox RENAME TO elsewhere").await;
    inbox.enqueue(fresh("0"));
    eventually("received", || async { inbox.broker.received(&inbox.source) }, |received| *received == 1)
        .await;
    inbox.told(IncidentKind::DatabaseTrouble, 2).await;
    relay.stop().await.unwrap();
    assert_eq!(inbox.broker.abandoned(), 1);
    assert_eq!(inbox.broker.waiting(&inbox.source), (1, 0), "it waits for someone who can");
    inbox.run("ALTER TABLE elsewhere RENAME TO inbox").await;
    let relay = inbox.start();
    assert_eq!(inbox.effects(1).await, ["0"]);
    relay.stop().await.unwrap();
}
