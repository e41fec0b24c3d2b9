//! Leases and live instances.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use sqlx::{AssertSqlSafe, MySqlConnection};
use uuid::Uuid;

use super::pool::{REPEATS, begin, is_deadlock};
use super::row::{Reader, json, literal, millis, places};
use crate::storage::{Fence, Instance, StorageError, TakenLease};

const TABLE: &str = "distributed_events_leases";

const MAKE: &str =
    "INSERT INTO distributed_events_leases (name) VALUES {names} ON DUPLICATE KEY UPDATE name = name";

/// A lease that lasts longer than it could have been given for was written before a clock jumped, and counts as expired
/// (rule 29).
macro_rules! is_free {
    () => {
        concat!("(owner IS NULL OR until <= ", now!(), " OR until > ", now!(), " + {time})")
    };
}

/// A look that locks nothing, since most of the time there is nothing to take.
pub(super) const LOOK: &str = concat!(
    "SELECT name, coalesce(",
    is_free!(),
    ", 0) AS free FROM distributed_events_leases FORCE INDEX (PRIMARY) WHERE name IN ({names})"
);

/// In the order of the names, whatever the order asked for, so that two instances never wait for each other.
pub(super) const LOCK: &str = "SELECT name FROM distributed_events_leases FORCE INDEX (PRIMARY) \
    WHERE name IN ({names}) ORDER BY name FOR UPDATE";

/// A statement of its own after the lock: the clock stands still within one, and while it waited for the lock another may
/// have taken a lease for longer than that clock allows.
pub(super) const FREE: &str = concat!(
    "SELECT name, epoch, owner IS NOT NULL AS unclean FROM distributed_events_leases FORCE INDEX (PRIMARY) ",
    "WHERE name IN ({names}) AND ",
    is_free!()
);

/// Whoever held it until now never gave it back. Values are set from left to right, so that the first sees the owner before.
const TAKE: &str = concat!(
    "UPDATE distributed_events_leases FORCE INDEX (PRIMARY) SET unclean = owner IS NOT NULL, owner = {owner}, ",
    "epoch = epoch + 1, until = ",
    now!(),
    " + {time} WHERE name IN ({names})"
);

pub(super) const RENEW: &str = concat!(
    "UPDATE distributed_events_leases FORCE INDEX (PRIMARY) SET until = ",
    now!(),
    " + {time} WHERE {held}"
);

pub(super) const HELD: &str = "SELECT name FROM distributed_events_leases FORCE INDEX (PRIMARY) WHERE {held}";

pub(super) const RELEASE: &str = "UPDATE distributed_events_leases FORCE INDEX (PRIMARY) \
    SET owner = NULL, until = NULL, unclean = 0 WHERE {held}";

/// The holder of a live lease has the say.
const BIND: &str = concat!(
    "INSERT INTO distributed_events_leases (name, broker) VALUES (CONCAT('outbox:', ?), ?) ON DUPLICATE KEY UPDATE ",
    "broker = if(broker IS NOT NULL AND owner IS NOT NULL AND until > ",
    now!(),
    ", broker, VALUES(broker))"
);

const BOUND: &str = "SELECT broker FROM distributed_events_leases WHERE name = CONCAT('outbox:', ?)";

/// Instances that died without a word are forgotten after a day.
const FORGET: &str =
    concat!("DELETE FROM distributed_events_instances WHERE until < ", now!(), " - 86400000");

const ANNOUNCE: &str = concat!(
    "INSERT INTO distributed_events_instances (id, until, lasts, handles) VALUES (?, ",
    now!(),
    " + ?, ?, ?) ",
    "ON DUPLICATE KEY UPDATE until = VALUES(until), lasts = VALUES(lasts), handles = VALUES(handles)"
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
    conn: &mut MySqlConnection,
    names: &[String],
    owner: Uuid,
    limit: u32,
    time: Duration,
) -> Result<Vec<TakenLease>, StorageError> {
    if names.is_empty() || limit == 0 {
        return Ok(Vec::new());
    }
    let mut there = HashMap::with_capacity(names.len());
    for row in &sqlx::raw_sql(among(LOOK, names, time)).fetch_all(&mut *conn).await? {
        let row = Reader::new(row, TABLE);
        there.insert(row.get::<String>("name")?, row.get::<i64>("free")? != 0);
    }
    let missing: BTreeSet<_> = names.iter().filter(|name| !there.contains_key(*name)).collect();
    let names: Vec<_> =
        names.iter().filter(|name| there.get(*name).is_none_or(|free| *free)).cloned().collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    for _ in 0..REPEATS {
        match try_take(conn, &names, &missing, owner, limit, time).await {
            Err(error) if is_deadlock(&error) => {}
            other => return other,
        }
    }
    try_take(conn, &names, &missing, owner, limit, time).await
}

/// Those named first are taken first.
async fn try_take(
    conn: &mut MySqlConnection,
    names: &[String],
    missing: &BTreeSet<&String>,
    owner: Uuid,
    limit: u32,
    time: Duration,
) -> Result<Vec<TakenLease>, StorageError> {
    let mut tx = begin(conn).await?;
    if !missing.is_empty() {
        let sql = MAKE.replace("{names}", &places("(?)", missing.len()));
        let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
        for name in missing {
            query = query.bind(*name);
        }
        query.execute(&mut *tx).await?;
    }
    sqlx::raw_sql(among(LOCK, names, time)).execute(&mut *tx).await?;
    let rows = sqlx::raw_sql(among(FREE, names, time)).fetch_all(&mut *tx).await?;
    let mut free = HashMap::with_capacity(rows.len());
    for row in &rows {
        let row = Reader::new(row, TABLE);
        let epoch: i64 = row.get("epoch")?;
        free.insert(row.get::<String>("name")?, (epoch, row.get::<i64>("unclean")? != 0));
    }
    let taken: Vec<_> = names
        .iter()
        .filter_map(|name| {
            let (epoch, unclean) = free.remove(name)?;
            Some(TakenLease::new(Fence::new(name.clone(), owner, epoch + 1), unclean))
        })
        .take(limit as usize)
        .collect();
    if !taken.is_empty() {
        let chosen: Vec<_> = taken.iter().map(|lease| lease.fence.name.clone()).collect();
        let sql = among(TAKE, &chosen, time).0.replace("{owner}", &format!("x'{}'", owner.simple()));
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(taken)
}

/// The statement about these leases.
fn among(sql: &str, names: &[String], time: Duration) -> AssertSqlSafe<String> {
    let names: Vec<_> = names.iter().map(|name| literal(name)).collect();
    AssertSqlSafe(sql.replace("{time}", &millis(time).to_string()).replace("{names}", &names.join(", ")))
}

/// The statement about what is held under these fences, with a condition for each on which the index of names can be used.
pub(super) fn held(sql: &str, fences: &[Fence]) -> String {
    let one = |fence: &Fence| {
        let owner = fence.owner.simple();
        format!("(name = {} AND owner = x'{owner}' AND epoch = {})", literal(&fence.name), fence.epoch)
    };
    sql.replace("{held}", &fences.iter().map(one).collect::<Vec<_>>().join(" OR "))
}

pub(super) async fn renew(
    conn: &mut MySqlConnection,
    fences: &[Fence],
    time: Duration,
) -> Result<Vec<String>, StorageError> {
    if fences.is_empty() {
        return Ok(Vec::new());
    }
    let sql = held(RENEW, fences).replace("{time}", &millis(time).to_string());
    let renewed = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *conn).await?.rows_affected();
    if renewed == fences.len() as u64 {
        return Ok(fences.iter().map(|fence| fence.name.clone()).collect());
    }
    // What is held under the same epoch now was held and renewed then.
    let rows = sqlx::raw_sql(AssertSqlSafe(held(HELD, fences))).fetch_all(conn).await?;
    rows.iter().map(|row| Reader::new(row, TABLE).get("name")).collect()
}

pub(super) async fn release(conn: &mut MySqlConnection, fences: &[Fence]) -> Result<(), StorageError> {
    if !fences.is_empty() {
        sqlx::raw_sql(AssertSqlSafe(held(RELEASE, fences))).execute(conn).await?;
    }
    Ok(())
}

pub(super) async fn bind_lane(
    conn: &mut MySqlConnection,
    lane: &str,
    broker: &str,
) -> Result<String, StorageError> {
    sqlx::query(BIND).bind(lane).bind(broker).execute(&mut *conn).await?;
    let row = sqlx::query(BOUND).bind(lane).fetch_one(conn).await?;
    Reader::new(&row, TABLE).get("broker")
}

pub(super) async fn announce(
    conn: &mut MySqlConnection,
    instance: &Instance,
    time: Duration,
) -> Result<Vec<Instance>, StorageError> {
    let handles = json(&instance.handles)?;
    for _ in 0..REPEATS {
        match try_announce(conn, instance.id, &handles, time).await {
            Err(error) if is_deadlock(&error) => {}
            other => return other,
        }
    }
    try_announce(conn, instance.id, &handles, time).await
}

async fn try_announce(
    conn: &mut MySqlConnection,
    id: Uuid,
    handles: &str,
    time: Duration,
) -> Result<Vec<Instance>, StorageError> {
    let mut tx = begin(conn).await?;
    sqlx::query(FORGET).execute(&mut *tx).await?;
    sqlx::query(ANNOUNCE)
        .bind(id.as_bytes().to_vec())
        .bind(millis(time))
        .bind(millis(time))
        .bind(handles)
        .execute(&mut *tx)
        .await?;
    let rows = sqlx::query(LIVE).fetch_all(&mut *tx).await?;
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

pub(super) async fn retire(conn: &mut MySqlConnection, instance: Uuid) -> Result<(), StorageError> {
    let sql = "DELETE FROM distributed_events_instances WHERE id = ?";
    sqlx::query(sql).bind(instance.as_bytes().to_vec()).execute(conn).await?;
    Ok(())
}
