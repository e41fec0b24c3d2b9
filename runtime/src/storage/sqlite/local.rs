//! The local broker's memory in the publisher's database (rule 27).

use sqlx::SqliteConnection;

use super::outbox::id_bytes;
use super::pool::begin;
use super::row::{Reader, json, json_numbers};
use crate::storage::{IncomingEvent, LocalSubscription, OwedEvent, StorageError};

const SUBSCRIPTIONS: &str = "distributed_events_subscriptions";

const OWED: &str = "distributed_events_owed";

pub(super) async fn record_subscriptions(
    conn: &mut SqliteConnection,
    store: &str,
    subscriptions: &[LocalSubscription],
) -> Result<(), StorageError> {
    let mut tx = begin(conn).await?;
    for subscription in subscriptions {
        let sql = "INSERT INTO distributed_events_subscriptions (store, topic, name, events) VALUES (?1, ?2, ?3, ?4) \
            ON CONFLICT (store, topic, name) DO UPDATE SET events = (SELECT json_group_array(value) FROM \
            (SELECT value FROM json_each(events) UNION SELECT value FROM json_each(excluded.events)))";
        sqlx::query(sql)
            .bind(store)
            .bind(&subscription.topic)
            .bind(&subscription.name)
            .bind(json(&subscription.events)?)
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await?;
    Ok(())
}

pub(super) async fn subscriptions(
    conn: &mut SqliteConnection,
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
    conn: &mut SqliteConnection,
    store: &str,
    name: &str,
) -> Result<u64, StorageError> {
    let mut tx = begin(conn).await?;
    sqlx::query("DELETE FROM distributed_events_subscriptions WHERE store = ?1 AND name = ?2")
        .bind(store)
        .bind(name)
        .execute(&mut *tx)
        .await?;
    let owed = sqlx::query("DELETE FROM distributed_events_owed WHERE store = ?1 AND subscription = ?2")
        .bind(store)
        .bind(name)
        .execute(&mut *tx)
        .await?
        .rows_affected();
    tx.commit().await?;
    Ok(owed)
}

pub(super) async fn owe(
    conn: &mut SqliteConnection,
    store: &str,
    subscription: &str,
    events: &[IncomingEvent],
) -> Result<(), StorageError> {
    let mut tx = begin(conn).await?;
    for event in events {
        let sql = "INSERT INTO distributed_events_owed (store, subscription, id, event) VALUES (?1, ?2, ?3, ?4) \
            ON CONFLICT (store, subscription, id) DO NOTHING";
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
    conn: &mut SqliteConnection,
    store: &str,
    limit: u32,
) -> Result<Vec<OwedEvent>, StorageError> {
    let sql = "SELECT seq, subscription, event FROM distributed_events_owed INDEXED BY distributed_events_owed_store \
        WHERE store = ?1 ORDER BY seq LIMIT ?2";
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

pub(super) async fn paid(conn: &mut SqliteConnection, seqs: &[i64]) -> Result<(), StorageError> {
    let sql = "DELETE FROM distributed_events_owed WHERE seq IN (SELECT value FROM json_each(?1))";
    sqlx::query(sql).bind(json_numbers(seqs)).execute(conn).await?;
    Ok(())
}
