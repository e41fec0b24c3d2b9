//! The local broker's memory in the publisher's database (rule 27).

use std::collections::BTreeSet;

use sqlx::MySqlConnection;

use super::pool::{REPEATS, begin, is_deadlock};
use super::row::{Reader, id_bytes, json, with_numbers};
use crate::storage::{IncomingEvent, LocalSubscription, OwedEvent, StorageError};

const SUBSCRIPTIONS: &str = "distributed_events_subscriptions";

const OWED: &str = "distributed_events_owed";

pub(super) async fn record_subscriptions(
    conn: &mut MySqlConnection,
    store: &str,
    subscriptions: &[LocalSubscription],
) -> Result<(), StorageError> {
    for _ in 0..REPEATS {
        match try_record(conn, store, subscriptions).await {
            Err(error) if is_deadlock(&error) => {}
            other => return other,
        }
    }
    try_record(conn, store, subscriptions).await
}

/// No function makes a union of JSON arrays here. The row is made first and so locked, that no other may add to it between
/// reading and writing it.
async fn try_record(
    conn: &mut MySqlConnection,
    store: &str,
    subscriptions: &[LocalSubscription],
) -> Result<(), StorageError> {
    let mut tx = begin(conn).await?;
    for subscription in subscriptions {
        let (topic, name) = (&subscription.topic, &subscription.name);
        let sql = "INSERT INTO distributed_events_subscriptions (store, topic, name, events) VALUES (?, ?, ?, '[]') \
            ON DUPLICATE KEY UPDATE name = name";
        sqlx::query(sql).bind(store).bind(topic).bind(name).execute(&mut *tx).await?;
        let sql = "SELECT events FROM distributed_events_subscriptions WHERE store = ? AND topic = ? AND name = ? \
            FOR UPDATE";
        let row = sqlx::query(sql).bind(store).bind(topic).bind(name).fetch_one(&mut *tx).await?;
        let mut events: BTreeSet<String> = Reader::new(&row, SUBSCRIPTIONS).json("events")?;
        events.extend(subscription.events.iter().cloned());
        let sql = "UPDATE distributed_events_subscriptions SET events = ? WHERE store = ? AND topic = ? AND name = ?";
        sqlx::query(sql).bind(json(&events)?).bind(store).bind(topic).bind(name).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(())
}

pub(super) async fn subscriptions(
    conn: &mut MySqlConnection,
) -> Result<Vec<LocalSubscription>, StorageError> {
    let sql =
        "SELECT store, topic, name, events FROM distributed_events_subscriptions ORDER BY store, topic, name";
    let rows = sqlx::query(sql).fetch_all(conn).await?;
    rows.iter()
        .map(|row| {
            let row = Reader::new(row, SUBSCRIPTIONS);
            Ok(LocalSubscription {
                topic: row.get("topic")?,
                name: row.get("name")?,
                events: row.json("events")?,
                store: row.get("store")?,
            })
        })
        .collect()
}

pub(super) async fn forget_subscription(
    conn: &mut MySqlConnection,
    store: &str,
    name: &str,
) -> Result<u64, StorageError> {
    let mut tx = begin(conn).await?;
    sqlx::query("DELETE FROM distributed_events_subscriptions WHERE store = ? AND name = ?")
        .bind(store)
        .bind(name)
        .execute(&mut *tx)
        .await?;
    let owed = sqlx::query("DELETE FROM distributed_events_owed WHERE store = ? AND subscription = ?")
        .bind(store)
        .bind(name)
        .execute(&mut *tx)
        .await?
        .rows_affected();
    tx.commit().await?;
    Ok(owed)
}

pub(super) async fn owe(
    conn: &mut MySqlConnection,
    store: &str,
    subscription: &str,
    events: &[IncomingEvent],
) -> Result<(), StorageError> {
    for _ in 0..REPEATS {
        match try_owe(conn, store, subscription, events).await {
            Err(error) if is_deadlock(&error) => {}
            other => return other,
        }
    }
    try_owe(conn, store, subscription, events).await
}

async fn try_owe(
    conn: &mut MySqlConnection,
    store: &str,
    subscription: &str,
    events: &[IncomingEvent],
) -> Result<(), StorageError> {
    let mut tx = begin(conn).await?;
    for event in events {
        let sql = "INSERT INTO distributed_events_owed (store, subscription, id, event) VALUES (?, ?, ?, ?) \
            ON DUPLICATE KEY UPDATE id = id";
        sqlx::query(sql)
            .bind(store)
            .bind(subscription)
            .bind(id_bytes(event.id))
            .bind(json(event)?)
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await?;
    Ok(())
}

pub(super) async fn owed(
    conn: &mut MySqlConnection,
    store: &str,
    limit: u32,
) -> Result<Vec<OwedEvent>, StorageError> {
    let sql = "SELECT seq, subscription, event FROM distributed_events_owed FORCE INDEX (distributed_events_owed_store) \
        WHERE store = ? ORDER BY seq LIMIT ?";
    let rows = sqlx::query(sql).bind(store).bind(i64::from(limit)).fetch_all(conn).await?;
    rows.iter()
        .map(|row| {
            let row = Reader::new(row, OWED);
            Ok(OwedEvent {
                seq: row.get("seq")?,
                subscription: row.get("subscription")?,
                event: row.json("event")?,
            })
        })
        .collect()
}

pub(super) async fn paid(conn: &mut MySqlConnection, seqs: &[i64]) -> Result<(), StorageError> {
    let sql = with_numbers("DELETE FROM distributed_events_owed WHERE seq IN ({numbers})", seqs);
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(conn).await?;
    Ok(())
}
