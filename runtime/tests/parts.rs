//! A bus that leaves a part of the work to other processes, as the relay of the command line does.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is the failed test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use distributed_events::storage::{Body, IncomingEvent, NewEvent};
use distributed_events::{BusError, Envelope, EventBus, EventId, LocalBroker, Storage};
use sqlx::{Sqlite, SqlitePool};

async fn database(folder: &tempfile::TempDir) -> SqlitePool {
    let url = format!("sqlite:{}?mode=rwc", folder.path().join("shop.db").display());
    let pool = SqlitePool::connect(&url).await.unwrap();
    EventBus::migrate(&pool).await.unwrap();
    pool
}

#[tokio::test]
async fn what_is_received_for_others_is_checked_at_once() {
    let folder = tempfile::TempDir::new().unwrap();
    let pool = database(&folder).await;
    let builder = EventBus::builder(pool).broker(LocalBroker::new()).without_inbox();
    let builder = builder.receives("critical", "order events", "billing");
    let built =
        builder.receives("default", "orders", "billing").receives("default", "orders", "billing").build();
    let Err(BusError::Configuration { problems }) = built else { panic!("it was built") };
    let all = problems.join("\n");
    for part in [
        "`.without_inbox()` leaves the inbox to another process",
        "`.receives(\"critical\", \"order events\", \"billing\")`: the bus has no broker for this lane",
        "`.receives(\"critical\", \"order events\", \"billing\")`: the name",
        "`.receives(\"default\", \"orders\", \"billing\")`: it is received already",
    ] {
        assert!(all.contains(part), "{part}\n{all}");
    }
    assert_eq!(problems.len(), 4, "{all}");
}

async fn number(pool: &SqlitePool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

/// An old row in each table, which retention would take.
async fn fill(pool: &SqlitePool) {
    let mut conn = pool.acquire().await.unwrap();
    let event = NewEvent::new(Envelope::new(EventId::new(), "order-placed", "{}"));
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    Sqlite::insert_outbox(&mut tx, std::slice::from_ref(&event)).await.unwrap();
    tx.commit().await.unwrap();
    Sqlite::mark_sent(&mut conn, &[event.envelope.id], Default::default()).await.unwrap();
    // It waits for a lane that nobody serves, which is told after everything was purged.
    let mut waiting = NewEvent::new(Envelope::new(EventId::new(), "order-placed", "{}"));
    waiting.envelope.lane = "critical".to_owned();
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    Sqlite::insert_outbox(&mut tx, &[waiting]).await.unwrap();
    tx.commit().await.unwrap();
    let received = IncomingEvent::new(EventId::new(), "order-placed", Body::Text("{}".to_owned()));
    Sqlite::ingest(&mut conn, "billing", &[received]).await.unwrap();
    Sqlite::mark_processed(&mut conn, &[1]).await.unwrap();
    for sql in [
        "UPDATE outbox SET processed_at = processed_at - 40 * 86400000",
        "UPDATE inbox SET processed_at = processed_at - 40 * 86400000",
    ] {
        sqlx::query(sql).execute(&mut *conn).await.unwrap();
    }
}

/// Retention of what this bus has no part in is another's: it may keep it for longer.
#[tokio::test]
async fn a_part_that_is_left_to_others_is_not_purged() {
    for outbox in [true, false] {
        let folder = tempfile::TempDir::new().unwrap();
        let pool = database(&folder).await;
        fill(&pool).await;
        let builder = EventBus::builder(pool.clone()).broker(LocalBroker::new());
        let builder = if outbox { builder.without_inbox() } else { builder.without_outbox() };
        let told = Arc::new(AtomicBool::new(!outbox));
        let tell = Arc::clone(&told);
        let builder = builder.on_incident(move |incident| {
            tell.fetch_or(incident.message.contains("lane critical"), Ordering::SeqCst);
        });
        let bus = builder.build().unwrap();
        let sent = "SELECT count(*) FROM outbox WHERE status = 'sent'";
        let received = "SELECT count(*) FROM inbox";
        let (own, others) = if outbox { (sent, received) } else { (received, sent) };
        let purged = async {
            let deadline = Instant::now() + Duration::from_secs(60);
            while number(&pool, own).await > 0 || !told.load(Ordering::SeqCst) {
                assert!(Instant::now() < deadline, "nothing was purged");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        bus.run_until(purged).await.unwrap();
        assert_eq!(number(&pool, others).await, 1);
        let leads = "SELECT count(*) FROM distributed_events_leases";
        assert_eq!(number(&pool, leads).await, i64::from(outbox), "only the outbox has a leader");
    }
}
