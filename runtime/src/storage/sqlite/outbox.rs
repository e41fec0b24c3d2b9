//! The outbox table: written by `publish`, read and marked by the relay.

use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, Sqlite, SqliteConnection};

use super::pool::{BUSY, BUSY_SNAPSHOT, code};
use super::row::{self, json, json_ids, json_numbers, millis, outbox_columns, to_millis};
use crate::envelope::EventId;
use crate::storage::{Delivery, NewEvent, OutboxQuery, OutboxRow, SentRows, StorageError};

/// What goes into the table, once for all rows (see `ingest`). A time of delivery wins over a delay; where both are NULL
/// the event was never delayed.
const INSERT: &str = concat!(
    "INSERT INTO outbox (id, event_type, event_version, event_data, topic, lane, session_id, correlation_id, \
     causation_id, headers, created_at, deliver_at, expires_at) \
     SELECT column1, column2, column3, column4, column5, column6, column7, column8, column9, column10, ",
    now!(),
    ", coalesce(column11, ",
    now!(),
    " + column12), ",
    now!(),
    " + column13 FROM (VALUES "
);

/// One row of them, as [`bind`] binds it.
const ROW: &str = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

/// Rows of one statement: SQLite takes 32,766 variables.
const MAX_ROWS: usize = 1_000;

/// Statements of so few rows are worth a place in the statement cache, which holds 100.
const CACHED_ROWS: usize = 16;

pub(super) const READ: &str = concat!(
    "SELECT ",
    outbox_columns!(),
    " FROM outbox INDEXED BY outbox_pending ",
    "WHERE lane = ?1 AND status = 'pending' AND deliver_at IS NULL AND seq > ?2 ",
    "AND seq NOT IN (SELECT value FROM json_each(?4)) ORDER BY seq LIMIT ?3"
);

/// Pages go on after a row by when it was due; after a row that is gone they begin again, which misses nothing.
pub(super) const READ_DUE: &str = concat!(
    "SELECT ",
    outbox_columns!(),
    " FROM outbox INDEXED BY outbox_due ",
    "WHERE lane = ?1 AND status = 'pending' AND deliver_at IS NOT NULL AND deliver_at <= ?5 + ",
    now!(),
    " AND (deliver_at, seq) > (coalesce((SELECT deliver_at FROM outbox WHERE seq = ?2), 0), ?2) ",
    "AND seq NOT IN (SELECT value FROM json_each(?4)) ",
    "ORDER BY deliver_at, seq LIMIT ?3"
);

pub(super) const MARK_SENT: &str = concat!(
    "UPDATE outbox INDEXED BY outbox_id SET status = 'sent', processed_at = ",
    now!(),
    " WHERE status = 'pending' AND id IN (SELECT unhex(value) FROM json_each(?1))"
);

pub(super) const DELETE_SENT: &str = "DELETE FROM outbox INDEXED BY outbox_id \
    WHERE status = 'pending' AND id IN (SELECT unhex(value) FROM json_each(?1))";

pub(super) const MARK_DEAD: &str = concat!(
    "UPDATE outbox INDEXED BY outbox_id SET status = 'dead', processed_at = ",
    now!(),
    ", last_error = ?2 WHERE id = ?1 AND status = 'pending'"
);

pub(super) async fn insert(conn: &mut SqliteConnection, events: &[NewEvent]) -> Result<(), StorageError> {
    if events.is_empty() {
        return Ok(());
    }
    refuse_without_transaction(conn).await?;
    if events.len() <= MAX_ROWS {
        return insert_rows(conn, events).await;
    }
    // More than one statement takes, and still all or none of it.
    sqlx::query("SAVEPOINT distributed_events_publish").execute(&mut *conn).await?;
    for rows in events.chunks(MAX_ROWS) {
        if let Err(error) = insert_rows(conn, rows).await {
            // Where the transaction is gone the savepoint is too, and nothing of ours is left.
            let undo = "ROLLBACK TO distributed_events_publish; RELEASE distributed_events_publish";
            let _ = sqlx::raw_sql(undo).execute(&mut *conn).await;
            return Err(error);
        }
    }
    sqlx::query("RELEASE distributed_events_publish").execute(conn).await?;
    Ok(())
}

/// A transaction that SQLite has rolled back by itself (a full disk, `INSERT OR ROLLBACK`) leaves a connection that
/// commits every statement at once. The one thing that tells it from a live one in SQL is that it can begin another.
async fn refuse_without_transaction(conn: &mut SqliteConnection) -> Result<(), StorageError> {
    match sqlx::query("BEGIN").execute(&mut *conn).await {
        Ok(_) => {
            sqlx::query("ROLLBACK").execute(conn).await?;
            Err(StorageError::NoTransaction)
        }
        Err(sqlx::Error::Database(_)) => Ok(()),
        Err(lost) => Err(lost.into()),
    }
}

async fn insert_rows(conn: &mut SqliteConnection, events: &[NewEvent]) -> Result<(), StorageError> {
    let sql = format!("{INSERT}{})", vec![ROW; events.len()].join(", "));
    let mut query = super::query(AssertSqlSafe(sql)).persistent(events.len() <= CACHED_ROWS);
    for event in events {
        query = bind(query, event)?;
    }
    match query.execute(&mut *conn).await {
        Ok(_) => Ok(()),
        Err(error) => Err(explain(conn, error, events).await),
    }
}

fn bind<'q>(
    query: Query<'q, Sqlite, SqliteArguments>,
    event: &'q NewEvent,
) -> Result<Query<'q, Sqlite, SqliteArguments>, StorageError> {
    let envelope = &event.envelope;
    let (at, later) = match event.deliver {
        Delivery::Now => (None, None),
        Delivery::In(delay) => (None, Some(millis(delay))),
        Delivery::At(time) => (Some(to_millis(time)), None),
    };
    Ok(query
        .bind(id_bytes(envelope.id))
        .bind(&envelope.name)
        .bind(i64::from(envelope.version))
        .bind(&envelope.data)
        .bind(envelope.topic.as_deref())
        .bind(&envelope.lane)
        .bind(envelope.session_id.as_deref())
        .bind(envelope.correlation_id.as_deref())
        .bind(envelope.causation_id.as_deref())
        .bind(json(&envelope.headers)?)
        .bind(at)
        .bind(later)
        .bind(event.ttl.map(millis)))
}

pub(super) fn id_bytes(id: EventId) -> Vec<u8> {
    id.as_uuid().as_bytes().to_vec()
}

/// What the database's refusal means to the one who publishes.
async fn explain(conn: &mut SqliteConnection, error: sqlx::Error, events: &[NewEvent]) -> StorageError {
    // Begun with the write lock, no transaction is ever busy here: this one was not, and can't get it any more.
    if matches!(code(&error), Some(BUSY | BUSY_SNAPSHOT)) {
        return StorageError::StaleSnapshot;
    }
    let unique = error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation);
    if unique && let Some(id) = repeated_id(conn, events).await {
        return StorageError::DuplicateId { id: id.to_string() };
    }
    error.into()
}

/// The id that is in the outbox already, or twice among the events.
async fn repeated_id(conn: &mut SqliteConnection, events: &[NewEvent]) -> Option<EventId> {
    let mut seen = std::collections::HashSet::new();
    if let Some(twice) = events.iter().find(|event| !seen.insert(event.envelope.id)) {
        return Some(twice.envelope.id);
    }
    for event in events {
        let query = sqlx::query("SELECT 1 FROM outbox WHERE id = ?1").bind(id_bytes(event.envelope.id));
        if query.fetch_optional(&mut *conn).await.ok()?.is_some() {
            return Some(event.envelope.id);
        }
    }
    None
}

pub(super) async fn read(
    conn: &mut SqliteConnection,
    query: &OutboxQuery<'_>,
) -> Result<Vec<OutboxRow>, StorageError> {
    let reading = super::query(if query.due_in.is_some() { READ_DUE } else { READ })
        .bind(query.lane)
        .bind(query.after)
        .bind(i64::from(query.limit))
        .bind(json_numbers(query.except));
    let reading = match query.due_in {
        Some(ahead) => reading.bind(millis(ahead)),
        None => reading,
    };
    let rows = reading.fetch_all(conn).await?;
    rows.iter().map(row::outbox_row).collect()
}

pub(super) async fn mark_sent(
    conn: &mut SqliteConnection,
    ids: &[EventId],
    keep: SentRows,
) -> Result<u64, StorageError> {
    if ids.is_empty() {
        return Ok(0);
    }
    let sql = match keep {
        SentRows::Keep => MARK_SENT,
        SentRows::Delete => DELETE_SENT,
    };
    Ok(super::query(sql).bind(json_ids(ids.iter().copied())).execute(conn).await?.rows_affected())
}

pub(super) async fn mark_dead(
    conn: &mut SqliteConnection,
    id: EventId,
    reason: &str,
) -> Result<bool, StorageError> {
    let done = super::query(MARK_DEAD).bind(id_bytes(id)).bind(reason).execute(conn).await?;
    Ok(done.rows_affected() > 0)
}
