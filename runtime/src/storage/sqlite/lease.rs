//! Leases and live instances.

use std::time::Duration;

use sqlx::SqliteConnection;
use uuid::Uuid;

use super::pool::begin;
use super::row::{self, Reader, json, millis};
use crate::storage::{Fence, Instance, StorageError, TakenLease};

const TABLE: &str = "distributed_events_leases";

const MAKE: &str = "INSERT OR IGNORE INTO distributed_events_leases (name) SELECT value FROM json_each(?1)";

/// Those named first are taken first. A lease that lasts longer than it could have been given for was written before a
/// clock jumped, and counts as expired (rule 29). Whoever held it until now never gave it back.
pub(super) const TAKE: &str = concat!(
    "UPDATE distributed_events_leases SET unclean = owner IS NOT NULL, owner = ?2, epoch = epoch + 1, until = ",
    now!(),
    " + ?4 ",
    "WHERE name IN (SELECT lease.name FROM json_each(?1) AS asked CROSS JOIN distributed_events_leases AS lease ",
    "ON lease.name = asked.value WHERE lease.owner IS NULL OR lease.until <= ",
    now!(),
    " OR lease.until > ",
    now!(),
    " + ?4 ",
    "ORDER BY asked.key LIMIT ?3) RETURNING name, owner, epoch, unclean"
);

const RENEW: &str = concat!(
    "UPDATE distributed_events_leases SET until = ",
    now!(),
    " + ?2 FROM json_each(?1) AS held ",
    "WHERE name = held.value ->> 0 AND owner = unhex(held.value ->> 1) AND epoch = held.value ->> 2 ",
    "RETURNING distributed_events_leases.name AS name"
);

const RELEASE: &str = "UPDATE distributed_events_leases SET owner = NULL, until = NULL, unclean = 0 \
    FROM json_each(?1) AS held \
    WHERE name = held.value ->> 0 AND owner = unhex(held.value ->> 1) AND epoch = held.value ->> 2";

/// The holder of a live lease has the say.
const BIND: &str = concat!(
    "INSERT INTO distributed_events_leases (name, broker) VALUES ('outbox:' || ?1, ?2) ON CONFLICT (name) DO UPDATE ",
    "SET broker = iif(broker IS NOT NULL AND owner IS NOT NULL AND until > ",
    now!(),
    ", broker, excluded.broker) ",
    "RETURNING broker"
);

/// Instances that died without a word are forgotten after a day.
const FORGET: &str =
    concat!("DELETE FROM distributed_events_instances WHERE until < ", now!(), " - 86400000");

const ANNOUNCE: &str = concat!(
    "INSERT INTO distributed_events_instances (id, until, lasts, handles) VALUES (?1, ",
    now!(),
    " + ?2, ?2, ?3) ",
    "ON CONFLICT (id) DO UPDATE SET until = excluded.until, lasts = excluded.lasts, handles = excluded.handles"
);

/// An announcement from further ahead than its own length was made before a clock jumped back.
const LIVE: &str = concat!(
    "SELECT id, handles FROM distributed_events_instances WHERE until > ",
    now!(),
    " AND until <= ",
    now!(),
    " + 2 * lasts ORDER BY id"
);

pub(super) async fn take(
    conn: &mut SqliteConnection,
    names: &[String],
    owner: Uuid,
    limit: u32,
    time: Duration,
) -> Result<Vec<TakenLease>, StorageError> {
    if names.is_empty() || limit == 0 {
        return Ok(Vec::new());
    }
    let names = json(names)?;
    let mut tx = begin(conn).await?;
    sqlx::query(MAKE).bind(&names).execute(&mut *tx).await?;
    let rows = super::query(TAKE)
        .bind(&names)
        .bind(owner.as_bytes().to_vec())
        .bind(i64::from(limit))
        .bind(millis(time))
        .fetch_all(&mut *tx)
        .await?;
    let taken = rows
        .iter()
        .map(|row| Ok(TakenLease::new(row::fence(row)?, Reader::new(row, TABLE).get::<i64>("unclean")? != 0)))
        .collect::<Result<_, StorageError>>()?;
    tx.commit().await?;
    Ok(taken)
}

/// Fences as one JSON argument.
fn held(fences: &[Fence]) -> Result<String, StorageError> {
    let held: Vec<_> =
        fences.iter().map(|fence| (&fence.name, fence.owner.simple().to_string(), fence.epoch)).collect();
    json(&held)
}

pub(super) async fn renew(
    conn: &mut SqliteConnection,
    fences: &[Fence],
    time: Duration,
) -> Result<Vec<String>, StorageError> {
    let rows = super::query(RENEW).bind(held(fences)?).bind(millis(time)).fetch_all(conn).await?;
    rows.iter().map(|row| Reader::new(row, TABLE).get("name")).collect()
}

pub(super) async fn release(conn: &mut SqliteConnection, fences: &[Fence]) -> Result<(), StorageError> {
    sqlx::query(RELEASE).bind(held(fences)?).execute(conn).await?;
    Ok(())
}

pub(super) async fn bind_lane(
    conn: &mut SqliteConnection,
    lane: &str,
    broker: &str,
) -> Result<String, StorageError> {
    let row = super::query(BIND).bind(lane).bind(broker).fetch_one(conn).await?;
    Reader::new(&row, TABLE).get("broker")
}

pub(super) async fn announce(
    conn: &mut SqliteConnection,
    instance: &Instance,
    time: Duration,
) -> Result<Vec<Instance>, StorageError> {
    let handles = json(&instance.handles)?;
    let mut tx = begin(conn).await?;
    super::query(FORGET).execute(&mut *tx).await?;
    super::query(ANNOUNCE)
        .bind(instance.id.as_bytes().to_vec())
        .bind(millis(time))
        .bind(handles)
        .execute(&mut *tx)
        .await?;
    let rows = super::query(LIVE).fetch_all(&mut *tx).await?;
    let live = rows
        .iter()
        .map(|row| {
            let row = Reader::new(row, "distributed_events_instances");
            Ok(Instance::new(row.uuid("id")?, row.json("handles")?))
        })
        .collect::<Result<_, StorageError>>()?;
    tx.commit().await?;
    Ok(live)
}

pub(super) async fn retire(conn: &mut SqliteConnection, instance: Uuid) -> Result<(), StorageError> {
    let sql = "DELETE FROM distributed_events_instances WHERE id = ?1";
    sqlx::query(sql).bind(instance.as_bytes().to_vec()).execute(conn).await?;
    Ok(())
}
