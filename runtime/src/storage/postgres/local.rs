//! The local broker's memory in the publisher's database (rule 27).

use sqlx::PgConnection;

use super::outbox::ids;
use super::pool::{begin, execute, fetch_all, query};
use super::row::{Reader, json};
use crate::storage::{IncomingEvent, LocalSubscription, OwedEvent, StorageError};

const SUBSCRIPTIONS: &str = "distributed_events_subscriptions";

const OWED: &str = "distributed_events_owed";

pub(super) async fn record_subscriptions(
    conn: &mut PgConnection,
    store: &str,
    subscriptions: &[LocalSubscription],
) -> Result<(), StorageError> {
    let mut tx = begin(conn).await?;
    // In one order, so that no two who record wait for each other.
    let mut subscriptions: Vec<_> = subscriptions.iter().collect();
    subscriptions.sort_unstable();
    for subscription in subscriptions {
        let sql = "INSERT INTO distributed_events_subscriptions AS old (store, topic, name, events) \
            VALUES ($1, $2, $3, $4) ON CONFLICT (store, topic, name) DO UPDATE SET events = ( \
            SELECT coalesce(json_agg(event), '[]')::text FROM (SELECT json_array_elements_text(old.events::json) \
            UNION SELECT json_array_elements_text(excluded.events::json)) AS either (event))";
        query(&tx, sql)
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

pub(super) async fn subscriptions(conn: &mut PgConnection) -> Result<Vec<LocalSubscription>, StorageError> {
    let sql =
        "SELECT store, topic, name, events FROM distributed_events_subscriptions ORDER BY store, topic, name";
    let query = query(conn, sql);
    let rows = fetch_all(conn, query).await?;
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
    conn: &mut PgConnection,
    store: &str,
    name: &str,
) -> Result<u64, StorageError> {
    let mut tx = begin(conn).await?;
    query(&tx, "DELETE FROM distributed_events_subscriptions WHERE store = $1 AND name = $2")
        .bind(store)
        .bind(name)
        .execute(&mut *tx)
        .await?;
    let owed = query(&tx, "DELETE FROM distributed_events_owed WHERE store = $1 AND subscription = $2")
        .bind(store)
        .bind(name)
        .execute(&mut *tx)
        .await?
        .rows_affected();
    tx.commit().await?;
    Ok(owed)
}

pub(super) async fn owe(
    conn: &mut PgConnection,
    store: &str,
    subscription: &str,
    events: &[IncomingEvent],
) -> Result<(), StorageError> {
    // One array a column, in the order of the call.
    let sql = "INSERT INTO distributed_events_owed (store, subscription, id, event) \
        SELECT $1, $2, e.id, e.event FROM unnest($3::uuid[], $4::text[]) WITH ORDINALITY AS e (id, event, place) \
        ORDER BY e.place ON CONFLICT (store, subscription, id) DO NOTHING";
    let query = query(conn, sql)
        .bind(store)
        .bind(subscription)
        .bind(ids(events.iter().map(|event| event.id)))
        .bind(events.iter().map(json).collect::<Result<Vec<_>, _>>()?);
    execute(conn, query).await?;
    Ok(())
}

pub(super) async fn owed(
    conn: &mut PgConnection,
    store: &str,
    limit: u32,
) -> Result<Vec<OwedEvent>, StorageError> {
    let sql =
        "SELECT seq, subscription, event FROM distributed_events_owed WHERE store = $1 ORDER BY seq LIMIT $2";
    let query = query(conn, sql).bind(store).bind(i64::from(limit));
    let rows = fetch_all(conn, query).await?;
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

pub(super) async fn paid(conn: &mut PgConnection, seqs: &[i64]) -> Result<(), StorageError> {
    let query = query(conn, "DELETE FROM distributed_events_owed WHERE seq = ANY($1)").bind(seqs);
    execute(conn, query).await?;
    Ok(())
}
