//! The outbox table: written by `publish`, read and marked by the relay.

use std::collections::HashSet;

use sqlx::PgConnection;
use uuid::Uuid;

use super::pool::{self, IN_FAILED_TRANSACTION, MARKING, code, fetch_each, page, query};
use super::row::{self, Reader, json, millis, outbox_columns, to_millis};
use crate::envelope::{Envelope, EventId};
use crate::storage::{Delivery, NewEvent, OutboxQuery, OutboxRow, SentRows, StorageError};

/// One array a column, in the order of the call. A time of delivery wins over a delay; where both are NULL the event was
/// never delayed. A repeated id is passed over and not refused, because an error would break the caller's transaction.
/// What was written comes back only where it is not all.
pub(super) const INSERT: &str = concat!(
    "WITH clock AS MATERIALIZED (SELECT ",
    now!(),
    " AS now), written AS (INSERT INTO outbox (id, event_type, event_version, event_data, topic, lane, session_id, ",
    "correlation_id, causation_id, headers, created_at, deliver_at, expires_at) ",
    "SELECT e.id, e.event_type, e.event_version, e.event_data, e.topic, e.lane, e.session_id, e.correlation_id, ",
    "e.causation_id, e.headers, now, coalesce('epoch'::timestamptz + ",
    interval!("e.deliver_at"),
    ", now + ",
    interval!("e.deliver_in"),
    "), now + ",
    interval!("e.expires_in"),
    " FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], ",
    "$9::text[], $10::text[], $11::bigint[], $12::bigint[], $13::bigint[]) WITH ORDINALITY AS e (id, event_type, ",
    "event_version, event_data, topic, lane, session_id, correlation_id, causation_id, headers, deliver_at, deliver_in, ",
    "expires_in, place), clock ORDER BY e.place ON CONFLICT (id) DO NOTHING RETURNING id) ",
    "SELECT CASE WHEN count(*) < cardinality($1::uuid[]) THEN coalesce(array_agg(id), '{}') END AS written FROM written"
);

/// What every event has, in the order of the arguments.
macro_rules! plain_columns {
    () => {
        "id, event_type, event_version, event_data, topic, lane, session_id, correlation_id, causation_id, headers"
    };
}

/// A plain event by itself, for half of what the server takes for the other.
const INSERT_ONE: &str =
    concat!("INSERT INTO outbox (", plain_columns!(), ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)");

/// Plain events, one array a column, in the order of the call.
const INSERT_PLAIN: &str = concat!(
    "INSERT INTO outbox (",
    plain_columns!(),
    ") SELECT ",
    plain_columns!(),
    " FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], ",
    "$9::text[], $10::text[]) WITH ORDINALITY AS e (",
    plain_columns!(),
    ", place) ORDER BY place"
);

const TAKE_BACK: &str = "DELETE FROM outbox WHERE id = ANY($1)";

/// Where a page begins is asked as if it were looked up: for a number that it knows the planner makes a plan anew at each
/// execution, and goes through what was just deleted to see how many rows lie behind it.
pub(super) const READ: &str = concat!(
    "SELECT ",
    outbox_columns!(),
    " FROM outbox WHERE lane = $1 AND status = 'pending' AND deliver_at IS NULL AND seq > (SELECT $2::bigint) ",
    "AND seq NOT IN (SELECT unnest($3::bigint[])) ORDER BY seq"
);

/// Pages go on after a row by when it was due; after a row that is gone they begin again, which misses nothing.
pub(super) const READ_DUE: &str = concat!(
    "SELECT ",
    outbox_columns!(),
    " FROM outbox WHERE lane = $1 AND status = 'pending' AND deliver_at IS NOT NULL AND deliver_at <= ",
    now!(),
    " + ",
    interval!("(SELECT $4::bigint)"),
    " AND (deliver_at, seq) > (coalesce((SELECT deliver_at FROM outbox AS last WHERE last.seq = (SELECT $2::bigint) ",
    "AND deliver_at IS NOT NULL AND ",
    is_pending!(),
    "), '-infinity'), (SELECT $2::bigint)) ",
    "AND seq NOT IN (SELECT unnest($3::bigint[])) ORDER BY outbox.deliver_at, seq"
);

pub(super) const MARK_SENT: &str = concat!(
    "UPDATE outbox SET status = 'sent', processed_at = ",
    now!(),
    " WHERE id = ANY($1) AND ",
    is_pending!()
);

pub(super) const DELETE_SENT: &str = concat!("DELETE FROM outbox WHERE id = ANY($1) AND ", is_pending!());

pub(super) const MARK_DEAD: &str = concat!(
    "UPDATE outbox SET status = 'dead', processed_at = ",
    now!(),
    ", last_error = $2 WHERE id = $1 AND ",
    is_pending!()
);

/// That the caller's transaction is alive can't be told: what sqlx knows of it is private, and no cheap statement fails
/// outside one. One that an error has broken refuses this statement like every other. A raw COMMIT in a handler is seen by
/// its guard.
pub(super) async fn insert(conn: &mut PgConnection, events: &[NewEvent]) -> Result<(), StorageError> {
    if events.is_empty() {
        return Ok(());
    }
    if let [event] = events
        && event.is_plain()
    {
        return insert_one(conn, &event.envelope).await;
    }
    let envelopes = || events.iter().map(|event| &event.envelope);
    let is_plain = events.iter().all(NewEvent::is_plain);
    let query = query(conn, if is_plain { INSERT_PLAIN } else { INSERT })
        .bind(ids(envelopes().map(|envelope| envelope.id)))
        .bind(envelopes().map(|envelope| envelope.name.as_str()).collect::<Vec<_>>())
        .bind(envelopes().map(|envelope| i64::from(envelope.version)).collect::<Vec<_>>())
        .bind(envelopes().map(|envelope| envelope.data.as_str()).collect::<Vec<_>>())
        .bind(envelopes().map(|envelope| envelope.topic.as_deref()).collect::<Vec<_>>())
        .bind(envelopes().map(|envelope| envelope.lane.as_str()).collect::<Vec<_>>())
        .bind(envelopes().map(|envelope| envelope.session_id.as_deref()).collect::<Vec<_>>())
        .bind(envelopes().map(|envelope| envelope.correlation_id.as_deref()).collect::<Vec<_>>())
        .bind(envelopes().map(|envelope| envelope.causation_id.as_deref()).collect::<Vec<_>>())
        .bind(envelopes().map(|envelope| json(&envelope.headers)).collect::<Result<Vec<_>, _>>()?);
    if is_plain {
        let done = query.execute(conn).await.map_err(explain)?;
        return all_written(done.rows_affected(), events.len());
    }
    let at = events.iter().map(|event| match event.deliver {
        Delivery::At(time) => Some(to_millis(time)),
        _ => None,
    });
    let later = events.iter().map(|event| match event.deliver {
        Delivery::In(delay) => Some(millis(delay)),
        _ => None,
    });
    let row = query
        .bind(at.collect::<Vec<_>>())
        .bind(later.collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.ttl.map(millis)).collect::<Vec<_>>())
        .fetch_one(&mut *conn)
        .await
        .map_err(explain)?;
    match Reader::new(&row, "outbox").get::<Option<Vec<Uuid>>>("written")? {
        None => Ok(()),
        Some(written) => refuse(conn, events, written).await,
    }
}

async fn insert_one(conn: &mut PgConnection, envelope: &Envelope) -> Result<(), StorageError> {
    let query = query(conn, INSERT_ONE)
        .bind(envelope.id.as_uuid())
        .bind(envelope.name.as_str())
        .bind(i64::from(envelope.version))
        .bind(envelope.data.as_str())
        .bind(envelope.topic.as_deref())
        .bind(envelope.lane.as_str())
        .bind(envelope.session_id.as_deref())
        .bind(envelope.correlation_id.as_deref())
        .bind(envelope.causation_id.as_deref())
        .bind(json(&envelope.headers)?);
    let done = query.execute(conn).await.map_err(explain)?;
    all_written(done.rows_affected(), 1)
}

/// A trigger or a rule of somebody's may have put the events elsewhere, where nobody looks for them.
fn all_written(rows: u64, events: usize) -> Result<(), StorageError> {
    if rows == events as u64 {
        return Ok(());
    }
    let reason =
        format!("{rows} of {events} events were written: is there a trigger or a rule on the table?");
    Err(StorageError::Corrupt { table: "outbox", reason })
}

pub(super) fn ids(ids: impl Iterator<Item = EventId>) -> Vec<Uuid> {
    ids.map(|id| id.as_uuid()).collect()
}

/// What the database's refusal means to the one who publishes.
fn explain(error: sqlx::Error) -> StorageError {
    if code(&error).as_deref() == Some(IN_FAILED_TRANSACTION) {
        return StorageError::NoTransaction;
    }
    error.into()
}

/// An id was in the outbox already, or twice among the events: all of it or none.
async fn refuse(
    conn: &mut PgConnection,
    events: &[NewEvent],
    written: Vec<Uuid>,
) -> Result<(), StorageError> {
    let mut fresh: HashSet<_> = written.iter().copied().collect();
    let repeated = events.iter().find(|event| !fresh.remove(&event.envelope.id.as_uuid()));
    query(conn, TAKE_BACK).bind(written).execute(conn).await?;
    match repeated {
        Some(event) => Err(StorageError::DuplicateId { id: event.envelope.id.to_string() }),
        None => Err(StorageError::Corrupt {
            table: "outbox",
            reason: "more was passed over than was repeated".to_owned(),
        }),
    }
}

pub(super) async fn read(
    conn: &mut PgConnection,
    asked: &OutboxQuery<'_>,
) -> Result<Vec<OutboxRow>, StorageError> {
    let query = page(conn, if asked.due_in.is_some() { READ_DUE } else { READ }, asked.limit)
        .bind(asked.lane)
        .bind(asked.after)
        .bind(asked.except);
    let query = match asked.due_in {
        Some(ahead) => query.bind(millis(ahead)),
        None => query,
    };
    fetch_each(conn, query, |row| row::outbox_row(&row)).await
}

pub(super) async fn mark_sent(
    conn: &mut PgConnection,
    sent: &[EventId],
    keep: SentRows,
) -> Result<u64, StorageError> {
    if sent.is_empty() {
        return Ok(0);
    }
    let sql = match keep {
        SentRows::Keep => MARK_SENT,
        SentRows::Delete => DELETE_SENT,
    };
    let mut tx = pool::begin_with(conn, MARKING).await?;
    let done = query(&tx, sql).bind(ids(sent.iter().copied())).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(done.rows_affected())
}

pub(super) async fn mark_dead(
    conn: &mut PgConnection,
    id: EventId,
    reason: &str,
) -> Result<bool, StorageError> {
    let query = query(conn, MARK_DEAD).bind(id.as_uuid()).bind(reason);
    Ok(pool::execute(conn, query).await? > 0)
}
