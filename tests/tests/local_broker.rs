//! The local broker over several databases (rule 27).

use std::time::{Duration, Instant};

use distributed_events::storage::PoolInbox;
use distributed_events::{EventBus, LocalBroker, admin};
use sqlx::Sqlite;
use tests::broker_conformance::{Noted, bury, effects, noting, publish};
use tests::eventually::eventually;
use tests::service::{Database, Running, connect, quick};

#[path = "local_broker/debts.rs"]
mod debts;
#[path = "local_broker/processes.rs"]
mod processes;

fn service(database: &Database, broker: &LocalBroker, subscription: &'static str) -> EventBus<Sqlite> {
    let builder = quick(&database.pool).broker(broker.clone());
    noting(builder, subscription, |event: &Noted, _| event.text.clone()).build().unwrap()
}

fn publisher(database: &Database, broker: &LocalBroker) -> Running {
    Running::start(quick(&database.pool).broker(broker.clone()).build().unwrap())
}

/// Publishes these numbers, each in a transaction of its own and in one session.
async fn publish_numbers(database: &Database, numbers: std::ops::Range<usize>) {
    for number in numbers {
        publish(&database.pool, &Noted::of("s", number)).await;
    }
}

fn texts(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| number.to_string()).collect()
}

async fn all_sent(database: &Database) {
    let pending = "SELECT COUNT(*) FROM outbox WHERE status <> 'sent'";
    eventually("all is sent", || database.number(pending), |pending| *pending == 0).await;
}

async fn owed(database: &Database, count: i64) {
    let what = format!("{count} events are owed");
    let sql = "SELECT COUNT(*) FROM distributed_events_owed";
    eventually(&what, || database.number(sql), |owed| *owed == count).await;
}

async fn run(database: &Database, sql: &'static str) {
    sqlx::query(sql).execute(&database.pool).await.unwrap();
}
