//! Lanes, and what operators ask and do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use distributed_events::admin::{self, DeadRowFilter, Table};
use distributed_events::{
    BusBuilder, DistributedEvent, HandlerError, HandlerSettings, LocalBroker, PublishOptions,
};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;
use tests::eventually::eventually;
use tests::memory_broker::MemoryBroker;
use tests::service::{Database, Running, quick};

#[derive(Clone, Serialize, Deserialize)]
struct Plain {
    number: i64,
}

impl DistributedEvent for Plain {
    const NAME: &'static str = "lanes.plain";
    const HAS_SESSION: bool = true;

    fn session_id(&self) -> Option<String> {
        Some("one".to_owned())
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Urgent {
    number: i64,
}

impl DistributedEvent for Urgent {
    const NAME: &'static str = "lanes.urgent";
    const LANE: &'static str = "critical";
}

async fn publish<E: DistributedEvent>(database: &Database, events: impl IntoIterator<Item = E>) {
    let mut tx = database.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    E::publish_all(&mut tx, events).await.unwrap();
    tx.commit().await.unwrap();
}

fn both(builder: BusBuilder<Sqlite>) -> BusBuilder<Sqlite> {
    builder
        .on(HandlerSettings::new("audit"), |event: Plain, tx, _context| {
            Box::pin(async move {
                let sql = "INSERT INTO effects (value) VALUES ('plain ' || ?)";
                sqlx::query(sql).bind(event.number).execute(&mut **tx).await?;
                Ok(())
            })
        })
        .on(HandlerSettings::new("audit"), |event: Urgent, tx, _context| {
            Box::pin(async move {
                let sql = "INSERT INTO effects (value) VALUES ('urgent ' || ?)";
                sqlx::query(sql).bind(event.number).execute(&mut **tx).await?;
                Ok(())
            })
        })
}

#[tokio::test]
async fn each_lane_goes_by_its_own_broker_and_one_that_is_down_stops_no_other() {
    let database = Database::new().await;
    let (plain, critical) = (MemoryBroker::named("plain"), MemoryBroker::named("critical"));
    let bus =
        both(quick(&database.pool).broker(plain.clone()).lane("critical", critical.clone())).build().unwrap();
    plain.set_down(true);
    publish(&database, [Plain { number: 1 }]).await;
    publish(&database, [Urgent { number: 2 }]).await;
    let running = Running::start(bus);
    eventually("the urgent one is there", || database.effects(), |effects| effects == &["urgent 2"]).await;
    plain.set_down(false);
    eventually("the plain one is there", || database.effects(), |effects| effects.len() == 2).await;
    running.stop().await.unwrap();
    assert_eq!(plain.accepted(), ["{\"number\":1}"]);
    assert_eq!(critical.accepted(), ["{\"number\":2}"]);
}

#[tokio::test]
async fn two_lanes_with_local_brokers_of_their_own_reach_another_database() {
    let (from, to) = (Database::new().await, Database::new().await);
    let (plain, critical) = (LocalBroker::new(), LocalBroker::new());
    let publisher = quick(&from.pool)
        .broker(plain.clone())
        .lane("critical", critical.clone())
        .publishes::<Urgent>()
        .build();
    let subscriber = both(quick(&to.pool).broker(plain).lane("critical", critical)).build();
    publish(&from, (0..5).map(|number| Plain { number })).await;
    publish(&from, (0..5).map(|number| Urgent { number })).await;
    let (publisher, subscriber) = (Running::start(publisher.unwrap()), Running::start(subscriber.unwrap()));
    let effects = eventually("all are there", || to.effects(), |effects| effects.len() >= 10).await;
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
    let plain: Vec<_> = effects.iter().filter(|value| value.starts_with("plain")).collect();
    assert_eq!(plain, ["plain 0", "plain 1", "plain 2", "plain 3", "plain 4"]);
    assert_eq!(to.effects().await.len(), 10);
}

#[tokio::test]
async fn rows_of_a_lane_that_nobody_serves_are_told_of() {
    let database = Database::new().await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let tells = Arc::clone(&told);
    let bus = quick(&database.pool)
        .broker(LocalBroker::new())
        .on_incident(move |incident| tells.lock().unwrap().push(incident.message.clone()))
        .build()
        .unwrap();
    publish(&database, [Urgent { number: 1 }, Urgent { number: 2 }]).await;
    let running = Running::start(bus);
    let about = |told: &Vec<String>| {
        told.iter().any(|text| {
            text.contains("2 events wait in lane critical") && text.contains(".lane(\"critical\"")
        })
    };
    eventually("it is told", || async { told.lock().unwrap().clone() }, about).await;
    running.stop().await.unwrap();
    assert_eq!(database.number("SELECT COUNT(*) FROM outbox WHERE status = 'pending'").await, 2);
}

/// A handler that gives events up until it is mended.
fn mendable(database: &Database) -> (BusBuilder<Sqlite>, Arc<AtomicBool>) {
    let mended = Arc::new(AtomicBool::new(false));
    let is_mended = Arc::clone(&mended);
    let builder = quick(&database.pool).broker(LocalBroker::new()).on(
        HandlerSettings::new("audit"),
        move |event: Plain, tx, context| {
            let (mended, attempt) = (is_mended.load(Ordering::Relaxed), context.attempt());
            Box::pin(async move {
                if !mended {
                    return Err(HandlerError::dead_letter(format!("no use for {}", event.number)));
                }
                let sql = "INSERT INTO effects (value) VALUES (? || ' at ' || ?)";
                sqlx::query(sql).bind(event.number).bind(attempt).execute(&mut **tx).await?;
                Ok(())
            })
        },
    );
    (builder, mended)
}

async fn dead(database: &Database, filter: DeadRowFilter) -> Vec<admin::DeadRow> {
    admin::dead_rows(&database.pool, Table::Inbox, &filter).await.unwrap()
}

async fn inbox(database: &Database) -> (u64, u64, Option<Duration>) {
    let counts =
        admin::count_inbox(&database.pool).await.unwrap().subscriptions.remove("audit").unwrap_or_default();
    (counts.pending, counts.dead, counts.oldest_pending)
}

#[tokio::test]
async fn dead_rows_are_listed_by_pages_with_their_bytes_and_reasons_and_requeued() {
    let database = Database::new().await;
    let (builder, mended) = mendable(&database);
    publish(&database, (0..5).map(|number| Plain { number })).await;
    let running = Running::start(builder.build().unwrap());
    eventually("all are dead", || inbox(&database), |counts| *counts == (0, 5, None)).await;
    let mut filter = DeadRowFilter::default();
    filter.limit = 2;
    let first = dead(&database, filter.clone()).await;
    filter.after = first[1].seq;
    filter.limit = 100;
    let rest = dead(&database, filter.clone()).await;
    let reasons: Vec<_> = first.iter().chain(&rest).map(|row| row.reason.clone()).collect();
    assert_eq!(reasons, (0..5).map(|number| format!("no use for {number}")).collect::<Vec<_>>());
    let row = &first[0];
    assert_eq!((row.owner.as_str(), row.event.as_str(), row.attempts), ("audit", "lanes.plain", 1));
    assert_eq!((row.session_id.as_deref(), row.data.as_slice()), (Some("one"), &b"{\"number\":0}"[..]));
    filter.after = 0;
    filter.event = Some("another".to_owned());
    assert!(dead(&database, filter.clone()).await.is_empty());
    filter.event = Some("lanes.plain".to_owned());
    filter.owner = Some("another".to_owned());
    assert!(dead(&database, filter.clone()).await.is_empty());
    filter.owner = Some("audit".to_owned());
    assert_eq!(dead(&database, filter).await.len(), 5);

    mended.store(true, Ordering::Relaxed);
    let seqs: Vec<_> = first.iter().map(|row| row.seq).collect();
    assert_eq!(admin::requeue(&database.pool, Table::Inbox, &seqs, Duration::ZERO).await.unwrap(), 2);
    eventually("they are handled", || database.effects(), |effects| effects == &["0 at 1", "1 at 1"]).await;
    assert_eq!(
        admin::requeue(&database.pool, Table::Inbox, &seqs, Duration::ZERO).await.unwrap(),
        0,
        "not dead"
    );
    let hour = Duration::from_secs(3600);
    assert_eq!(admin::requeue(&database.pool, Table::Inbox, &[rest[0].seq], hour).await.unwrap(), 1);
    assert_eq!(admin::discard(&database.pool, Table::Inbox, &[rest[1].seq, rest[0].seq]).await.unwrap(), 1);
    let (pending, dead, oldest) = inbox(&database).await;
    assert_eq!((pending, dead), (1, 1));
    assert!(oldest.is_some());
    running.stop().await.unwrap();
    let due = "SELECT next_attempt_at - received_at FROM inbox WHERE status = 'pending'";
    assert!(database.number(due).await > 3_590_000, "after the delay");
    assert_eq!(
        database.number("SELECT COUNT(*) FROM inbox WHERE status = 'discarded'").await,
        1,
        "it keeps its key"
    );
    assert_eq!(database.effects().await.len(), 2);
}

#[tokio::test]
async fn a_discarded_event_that_comes_again_is_known() {
    let database = Database::new().await;
    let (builder, mended) = mendable(&database);
    publish(&database, [Plain { number: 1 }]).await;
    let running = Running::start(builder.build().unwrap());
    eventually("it is dead", || inbox(&database), |counts| counts.1 == 1).await;
    let seq = dead(&database, DeadRowFilter::default()).await[0].seq;
    assert_eq!(admin::discard(&database.pool, Table::Inbox, &[seq]).await.unwrap(), 1);
    mended.store(true, Ordering::Relaxed);
    sqlx::query("UPDATE outbox SET status = 'pending', processed_at = NULL")
        .execute(&database.pool)
        .await
        .unwrap();
    publish(&database, [Plain { number: 2 }]).await;
    eventually("the next is handled", || database.effects(), |effects| effects == &["2 at 1"]).await;
    running.stop().await.unwrap();
    assert_eq!(database.number("SELECT COUNT(*) FROM inbox").await, 2);
}

#[tokio::test]
async fn the_outbox_is_counted_by_lane_with_the_age_of_its_oldest_row() {
    let database = Database::new().await;
    assert!(admin::count_outbox(&database.pool).await.unwrap().lanes.is_empty());
    publish(&database, (0..3).map(|number| Plain { number })).await;
    publish(&database, [Urgent { number: 1 }]).await;
    let mut tx = database.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let later = PublishOptions::new().delay(Duration::from_secs(3600));
    Plain { number: 9 }.publish_with(&mut tx, later).await.unwrap();
    tx.commit().await.unwrap();
    sqlx::query("UPDATE outbox SET created_at = created_at - 60000 WHERE seq = 1")
        .execute(&database.pool)
        .await
        .unwrap();
    sqlx::query("UPDATE outbox SET status = 'dead', last_error = 'too big' WHERE seq = 3")
        .execute(&database.pool)
        .await
        .unwrap();
    let counts = admin::count_outbox(&database.pool).await.unwrap();
    let (plain, urgent) = (&counts.lanes["default"], &counts.lanes["critical"]);
    assert_eq!((plain.pending, plain.dead, urgent.pending, urgent.dead), (3, 1, 1, 0));
    let age = plain.oldest_pending.unwrap();
    assert!((60..90).contains(&age.as_secs()), "{age:?}");
    assert!(urgent.oldest_pending.unwrap() < Duration::from_secs(30));

    let rows = admin::dead_rows(&database.pool, Table::Outbox, &DeadRowFilter::default()).await.unwrap();
    assert_eq!(
        (rows.len(), rows[0].seq, rows[0].reason.as_str(), rows[0].owner.as_str()),
        (1, 3, "too big", "default")
    );
    assert_eq!(admin::discard(&database.pool, Table::Outbox, &[1, 2]).await.unwrap(), 0, "only dead rows");
    assert_eq!(admin::requeue(&database.pool, Table::Outbox, &[3], Duration::ZERO).await.unwrap(), 1);
    let running = Running::start(
        both(quick(&database.pool).broker(LocalBroker::new()).lane("critical", LocalBroker::new()))
            .build()
            .unwrap(),
    );
    eventually("all but the delayed are handled", || database.effects(), |effects| effects.len() == 4).await;
    running.stop().await.unwrap();
    let counts = admin::count_outbox(&database.pool).await.unwrap();
    assert_eq!(
        (counts.lanes.len(), counts.lanes["default"].pending, counts.lanes["default"].dead),
        (1, 1, 0)
    );
    assert_eq!(counts.lanes["default"].oldest_pending, None, "it waits for its time, and for nobody");
    sqlx::query("UPDATE outbox SET status = 'dead' WHERE status = 'pending'")
        .execute(&database.pool)
        .await
        .unwrap();
    let seq = database.number("SELECT seq FROM outbox WHERE status = 'dead'").await;
    assert_eq!(admin::discard(&database.pool, Table::Outbox, &[seq]).await.unwrap(), 1);
    assert_eq!(database.number("SELECT COUNT(*) FROM outbox WHERE status = 'dead'").await, 0);
}
