//! The outbox table: written by `publish`, read and marked by the relay.

use sqlx::mysql::MySqlArguments;
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, MySql, MySqlConnection, Row};

use super::pool::{DUPLICATE, NO_SAVEPOINT, number};
use super::row::{self, except, id_bytes, json, literal, millis, outbox_columns, short, to_millis, with_ids};
use crate::envelope::EventId;
use crate::storage::{Delivery, NewEvent, OutboxQuery, OutboxRow, SentRows, StorageError};

const COLUMNS: &str = "INSERT INTO outbox (id, event_type, event_version, event_data, topic, lane, session_id, \
    correlation_id, causation_id, headers, created_at, deliver_at, expires_at) VALUES ";

/// A time of delivery wins over a delay; where both are NULL the event was never delayed.
const VALUES: &str =
    concat!("(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ", now!(), ", coalesce(?, ", now!(), " + ?), ", now!(), " + ?)");

/// Rows of one statement: the protocol takes 65,535 variables.
const MAX_ROWS: usize = 1_000;

/// Statements of so few rows are worth a place in the statement cache, which holds 100.
const CACHED_ROWS: usize = 16;

/// A savepoint is there to be released in a transaction and nowhere else, unless autocommit is off, and then every statement
/// is in one. What the answer tells beside is what limits the next statement.
const ALIVE: &str = "SAVEPOINT distributed_events_alive; RELEASE SAVEPOINT distributed_events_alive; \
    SELECT CAST(@@max_allowed_packet AS SIGNED)";

const READ: &str = concat!(
    "SELECT ",
    outbox_columns!(),
    " FROM outbox FORCE INDEX (outbox_pending) ",
    "WHERE lane = {lane} AND status = 'pending' AND deliver_at IS NULL AND seq > {after}{except} ",
    "ORDER BY seq LIMIT {limit}"
);

/// Pages go on after a row by when it was due; after a row that is gone they begin again, which misses nothing. The time is
/// compared alone first, because that is what the index knows how to begin at.
const READ_DUE: &str = concat!(
    "SELECT ",
    outbox_columns!(),
    " FROM outbox FORCE INDEX (outbox_pending) ",
    "WHERE lane = {lane} AND status = 'pending' AND deliver_at <= {ahead} + ",
    now!(),
    " AND deliver_at >= coalesce((SELECT last.deliver_at FROM outbox AS last WHERE last.seq = {after}), 0) ",
    "AND (deliver_at > coalesce((SELECT last.deliver_at FROM outbox AS last WHERE last.seq = {after}), 0) ",
    "OR seq > {after}){except} ORDER BY deliver_at, seq LIMIT {limit}"
);

pub(super) const MARK_SENT: &str = concat!(
    "UPDATE outbox FORCE INDEX (outbox_id) SET status = 'sent', processed_at = ",
    now!(),
    " WHERE status = 'pending' AND id IN ({ids})"
);

/// Of several tables in form only: the other form takes no index.
pub(super) const DELETE_SENT: &str = "DELETE outbox FROM outbox FORCE INDEX (outbox_id) \
    WHERE status = 'pending' AND id IN ({ids})";

/// Ids of one statement, far fewer than make the optimizer give up on an index.
const MAX_IDS: usize = 1_000;

pub(super) const MARK_DEAD: &str = concat!(
    "UPDATE outbox FORCE INDEX (outbox_id) SET status = 'dead', processed_at = ",
    now!(),
    ", last_error = ? WHERE id = ? AND status = 'pending'"
);

pub(super) async fn insert(conn: &mut MySqlConnection, events: &[NewEvent]) -> Result<(), StorageError> {
    if events.is_empty() {
        return Ok(());
    }
    let limit = refuse_without_transaction(conn).await?;
    let chunks = chunks(events, limit)?;
    if let [rows] = chunks[..] {
        return insert_rows(conn, rows).await;
    }
    // More than one statement takes, and still all or none of it.
    sqlx::raw_sql("SAVEPOINT distributed_events_publish").execute(&mut *conn).await?;
    for rows in chunks {
        if let Err(error) = insert_rows(conn, rows).await {
            // Where the transaction is gone the savepoint is too, and nothing of ours is left.
            let undo = "ROLLBACK TO distributed_events_publish; RELEASE SAVEPOINT distributed_events_publish";
            let _ = sqlx::raw_sql(undo).execute(&mut *conn).await;
            return Err(error);
        }
    }
    sqlx::raw_sql("RELEASE SAVEPOINT distributed_events_publish").execute(conn).await?;
    Ok(())
}

/// A transaction that the server has rolled back by itself (a deadlock) or committed (DDL) leaves a connection that commits
/// every statement at once. Returns how large a statement the server takes.
async fn refuse_without_transaction(conn: &mut MySqlConnection) -> Result<usize, StorageError> {
    match sqlx::raw_sql(ALIVE).fetch_all(conn).await {
        Ok(rows) => match rows.as_slice() {
            [row] => Ok(usize::try_from(row.try_get::<i64, _>(0)?).unwrap_or(usize::MAX)),
            _ => Err(sqlx::Error::RowNotFound.into()),
        },
        Err(error) if number(&error) == Some(NO_SAVEPOINT) => Err(StorageError::NoTransaction),
        Err(error) => Err(error.into()),
    }
}

/// Rows as many as one statement takes, in order. The server drops a connection that sends it more than it takes.
fn chunks(events: &[NewEvent], limit: usize) -> Result<Vec<&[NewEvent]>, StorageError> {
    let mut chunks = Vec::new();
    let (mut first, mut bytes) = (0, 0);
    for (n, event) in events.iter().enumerate() {
        let size = size(event);
        if row::ROOM + size > limit {
            return Err(StorageError::Unsafe(format!(
                "event {} is {size} bytes with its headers, and this server's max_allowed_packet is {limit}: raise it, or \
                 publish a reference to the data",
                event.envelope.name
            )));
        }
        if n - first == MAX_ROWS || row::ROOM + bytes + size > limit {
            chunks.push(&events[first..n]);
            (first, bytes) = (n, 0);
        }
        bytes += size;
    }
    chunks.push(&events[first..]);
    Ok(chunks)
}

/// What a row takes of a statement: its texts, its place in the SQL, and its numbers and lengths.
fn size(event: &NewEvent) -> usize {
    let envelope = &event.envelope;
    let texts = [&envelope.topic, &envelope.session_id, &envelope.correlation_id, &envelope.causation_id];
    let texts: usize = texts.into_iter().flatten().map(String::len).sum();
    // Escaped, a character of a header takes six.
    let headers: usize =
        envelope.headers.iter().map(|(name, value)| 6 * (name.len() + value.len()) + 6).sum();
    VALUES.len() + 256 + texts + headers + envelope.name.len() + envelope.lane.len() + envelope.data.len()
}

async fn insert_rows(conn: &mut MySqlConnection, events: &[NewEvent]) -> Result<(), StorageError> {
    let mut sql = String::with_capacity(COLUMNS.len() + events.len() * (VALUES.len() + 2));
    sql.push_str(COLUMNS);
    for n in 0..events.len() {
        sql.push_str(if n == 0 { "" } else { ", " });
        sql.push_str(VALUES);
    }
    let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(events.len() <= CACHED_ROWS);
    for event in events {
        query = bind(query, event)?;
    }
    match query.execute(&mut *conn).await {
        Ok(_) => Ok(()),
        Err(error) => Err(explain(conn, error, events).await),
    }
}

/// Texts are sent as bytes, because a user's connection may have told the server that its texts are in another encoding.
fn bind<'q>(
    query: Query<'q, MySql, MySqlArguments>,
    event: &'q NewEvent,
) -> Result<Query<'q, MySql, MySqlArguments>, StorageError> {
    let envelope = &event.envelope;
    let (at, later) = match event.deliver {
        Delivery::Now => (None, None),
        Delivery::In(delay) => (None, Some(millis(delay))),
        Delivery::At(time) => (Some(to_millis(time)), None),
    };
    Ok(query
        .bind(id_bytes(envelope.id))
        .bind(envelope.name.as_bytes())
        .bind(i64::from(envelope.version))
        .bind(envelope.data.as_bytes())
        .bind(envelope.topic.as_deref().map(str::as_bytes))
        .bind(envelope.lane.as_bytes())
        .bind(envelope.session_id.as_deref().map(str::as_bytes))
        .bind(envelope.correlation_id.as_deref().map(str::as_bytes))
        .bind(envelope.causation_id.as_deref().map(str::as_bytes))
        .bind(json(&envelope.headers)?.into_bytes())
        .bind(at)
        .bind(later)
        .bind(event.ttl.map(millis)))
}

/// Says in the reader's words what a failed insert means.
async fn explain(conn: &mut MySqlConnection, error: sqlx::Error, events: &[NewEvent]) -> StorageError {
    if number(&error) == Some(DUPLICATE)
        && let Some(id) = repeated_id(conn, events).await
    {
        return StorageError::DuplicateId { id: id.to_string() };
    }
    error.into()
}

/// The id that is in the outbox already, or twice among the events.
async fn repeated_id(conn: &mut MySqlConnection, events: &[NewEvent]) -> Option<EventId> {
    let mut seen = std::collections::HashSet::new();
    if let Some(twice) = events.iter().find(|event| !seen.insert(event.envelope.id)) {
        return Some(twice.envelope.id);
    }
    for event in events {
        // Locking, since a user's transaction may see the past; the failed insert has this lock already.
        let sql = "SELECT 1 FROM outbox WHERE id = ? LOCK IN SHARE MODE";
        let query = sqlx::query(sql).bind(id_bytes(event.envelope.id));
        if query.fetch_optional(&mut *conn).await.ok()?.is_some() {
            return Some(event.envelope.id);
        }
    }
    None
}

pub(super) async fn read(
    conn: &mut MySqlConnection,
    query: &OutboxQuery<'_>,
) -> Result<Vec<OutboxRow>, StorageError> {
    let rows = sqlx::raw_sql(AssertSqlSafe(read_sql(query))).fetch_all(conn).await?;
    rows.iter().map(row::outbox_row).collect()
}

/// In the text protocol one statement of any shape is one round trip.
pub(super) fn read_sql(query: &OutboxQuery<'_>) -> String {
    let sql = if query.due_in.is_some() { READ_DUE } else { READ };
    sql.replace("{after}", &query.after.to_string())
        .replace("{ahead}", &millis(query.due_in.unwrap_or_default()).to_string())
        .replace("{limit}", &query.limit.to_string())
        .replace("{except}", &except(query.except))
        .replace("{lane}", &literal(query.lane))
}

pub(super) async fn mark_sent(
    conn: &mut MySqlConnection,
    ids: &[EventId],
    keep: SentRows,
) -> Result<u64, StorageError> {
    let sql = match keep {
        SentRows::Keep => MARK_SENT,
        SentRows::Delete => DELETE_SENT,
    };
    let mut marked = 0;
    // Each statement for itself: an acknowledgement is a fact.
    for ids in ids.chunks(MAX_IDS) {
        let sql = AssertSqlSafe(with_ids(sql, ids.iter().copied()));
        marked += sqlx::raw_sql(sql).execute(&mut *conn).await?.rows_affected();
    }
    Ok(marked)
}

pub(super) async fn mark_dead(
    conn: &mut MySqlConnection,
    id: EventId,
    reason: &str,
) -> Result<bool, StorageError> {
    let done = sqlx::query(MARK_DEAD).bind(short(reason)).bind(id_bytes(id)).execute(conn).await?;
    Ok(done.rows_affected() > 0)
}
