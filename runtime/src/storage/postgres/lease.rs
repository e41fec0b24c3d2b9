//! Leases and live instances.
//!
//! Whoever locks several rows locks them in the order of their names, so that no two wait for each other.

use std::time::Duration;

use sqlx::PgConnection;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use uuid::Uuid;

use super::pool::{begin, execute, query};
use super::row::{self, Reader, json, millis};
use crate::storage::{Fence, Instance, StorageError, TakenLease};

const TABLE: &str = "distributed_events_leases";

const MAKE: &str = "INSERT INTO distributed_events_leases (name) SELECT name FROM unnest($1::text[]) AS asked (name) \
    WHERE NOT EXISTS (SELECT FROM distributed_events_leases AS there WHERE there.name = asked.name) \
    ORDER BY name COLLATE \"C\" ON CONFLICT (name) DO NOTHING";

/// Those named first are taken first; one that another is just taking or renewing is not waited for. A lease that lasts
/// longer than it could have been given for was written before a clock jumped, and counts as expired (rule 29). Whoever
/// held it until now never gave it back.
///
/// The clock is asked again for a row that has changed since the statement began: one that another has taken meanwhile
/// would seem to come from the future.
pub(super) const TAKE: &str = concat!(
    "WITH free AS (SELECT lease.name FROM unnest($1::text[]) WITH ORDINALITY AS asked (name, place) ",
    "JOIN distributed_events_leases AS lease ON lease.name = asked.name ",
    "WHERE lease.owner IS NULL OR lease.until <= ",
    clock!(),
    " OR lease.until > ",
    clock!(),
    " + ",
    interval!("$4"),
    " ORDER BY asked.place LIMIT $3 FOR UPDATE OF lease SKIP LOCKED) ",
    "UPDATE distributed_events_leases AS lease SET unclean = lease.owner IS NOT NULL, owner = $2, epoch = epoch + 1, ",
    "until = ",
    now!(),
    " + ",
    interval!("$4"),
    " FROM free WHERE lease.name = free.name RETURNING lease.name, lease.owner, lease.epoch, lease.unclean"
);

/// The leases that are held under fences, locked.
macro_rules! held {
    () => {
        "WITH held AS (SELECT lease.name FROM unnest($1::text[], $2::uuid[], $3::bigint[]) AS asked (name, owner, epoch) \
        JOIN distributed_events_leases AS lease \
        ON lease.name = asked.name AND lease.owner = asked.owner AND lease.epoch = asked.epoch \
        ORDER BY lease.name FOR UPDATE OF lease) "
    };
}

const RENEW: &str = concat!(
    held!(),
    "UPDATE distributed_events_leases AS lease SET until = ",
    now!(),
    " + ",
    interval!("$4"),
    " FROM held WHERE lease.name = held.name RETURNING lease.name"
);

const RELEASE: &str = concat!(
    held!(),
    "UPDATE distributed_events_leases AS lease SET owner = NULL, until = NULL, unclean = false ",
    "FROM held WHERE lease.name = held.name"
);

/// The holder of a live lease has the say.
const BIND: &str = concat!(
    "INSERT INTO distributed_events_leases AS lease (name, broker) VALUES ('outbox:' || $1::text, $2) ",
    "ON CONFLICT (name) DO UPDATE ",
    "SET broker = CASE WHEN lease.broker IS NOT NULL AND lease.owner IS NOT NULL AND lease.until > ",
    now!(),
    " THEN lease.broker ELSE excluded.broker END ",
    "RETURNING broker"
);

/// Instances that died without a word are forgotten after a day.
const FORGET: &str =
    concat!("DELETE FROM distributed_events_instances WHERE until < ", now!(), " - interval '1 day'");

const ANNOUNCE: &str = concat!(
    "INSERT INTO distributed_events_instances (id, until, lasts, handles) VALUES ($1, ",
    now!(),
    " + ",
    interval!("$2"),
    ", $2, $3) ",
    "ON CONFLICT (id) DO UPDATE SET until = excluded.until, lasts = excluded.lasts, handles = excluded.handles"
);

/// An announcement from further ahead than its own length was made before a clock jumped back.
const LIVE: &str = concat!(
    "SELECT id, handles FROM distributed_events_instances WHERE until > ",
    now!(),
    " AND until <= ",
    now!(),
    " + ",
    interval!("2 * lasts"),
    " ORDER BY id"
);

pub(super) async fn take(
    conn: &mut PgConnection,
    names: &[String],
    owner: Uuid,
    limit: u32,
    time: Duration,
) -> Result<Vec<TakenLease>, StorageError> {
    if names.is_empty() || limit == 0 {
        return Ok(Vec::new());
    }
    let mut tx = begin(conn).await?;
    query(&tx, MAKE).bind(names).execute(&mut *tx).await?;
    let rows = query(&tx, TAKE)
        .bind(names)
        .bind(owner)
        .bind(i64::from(limit))
        .bind(millis(time))
        .fetch_all(&mut *tx)
        .await?;
    let taken = rows
        .iter()
        .map(|row| Ok(TakenLease::new(row::fence(row)?, Reader::new(row, TABLE).get("unclean")?)))
        .collect::<Result<_, StorageError>>()?;
    tx.commit().await?;
    Ok(taken)
}

/// A statement whose first arguments are fences.
fn held(
    conn: &PgConnection,
    sql: &'static str,
    fences: &[Fence],
) -> Query<'static, sqlx::Postgres, PgArguments> {
    query(conn, sql)
        .bind(fences.iter().map(|fence| fence.name.as_str()).collect::<Vec<_>>())
        .bind(fences.iter().map(|fence| fence.owner).collect::<Vec<_>>())
        .bind(fences.iter().map(|fence| fence.epoch).collect::<Vec<_>>())
}

pub(super) async fn renew(
    conn: &mut PgConnection,
    fences: &[Fence],
    time: Duration,
) -> Result<Vec<String>, StorageError> {
    let mut tx = begin(conn).await?;
    let rows = held(&tx, RENEW, fences).bind(millis(time)).fetch_all(&mut *tx).await?;
    tx.commit().await?;
    rows.iter().map(|row| Reader::new(row, TABLE).get("name")).collect()
}

pub(super) async fn release(conn: &mut PgConnection, fences: &[Fence]) -> Result<(), StorageError> {
    let query = held(conn, RELEASE, fences);
    execute(conn, query).await?;
    Ok(())
}

pub(super) async fn bind_lane(
    conn: &mut PgConnection,
    lane: &str,
    broker: &str,
) -> Result<String, StorageError> {
    let mut tx = begin(conn).await?;
    let row = query(&tx, BIND).bind(lane).bind(broker).fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Reader::new(&row, TABLE).get("broker")
}

pub(super) async fn announce(
    conn: &mut PgConnection,
    instance: &Instance,
    time: Duration,
) -> Result<Vec<Instance>, StorageError> {
    let handles = json(&instance.handles)?;
    let mut tx = begin(conn).await?;
    query(&tx, FORGET).execute(&mut *tx).await?;
    query(&tx, ANNOUNCE).bind(instance.id).bind(millis(time)).bind(handles).execute(&mut *tx).await?;
    let rows = query(&tx, LIVE).fetch_all(&mut *tx).await?;
    let live = rows
        .iter()
        .map(|row| {
            let row = Reader::new(row, "distributed_events_instances");
            Ok(Instance::new(row.get("id")?, row.json("handles")?))
        })
        .collect::<Result<_, StorageError>>()?;
    tx.commit().await?;
    Ok(live)
}

pub(super) async fn retire(conn: &mut PgConnection, instance: Uuid) -> Result<(), StorageError> {
    let query = query(conn, "DELETE FROM distributed_events_instances WHERE id = $1").bind(instance);
    execute(conn, query).await?;
    Ok(())
}
