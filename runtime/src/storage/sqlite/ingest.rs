//! Received events into the inbox: one durable transaction a batch, and nothing lost whatever a message holds (rules 14
//! and 17).

use std::collections::HashMap;

use sqlx::{AssertSqlSafe, SqliteConnection};
use uuid::Uuid;

use super::outbox::id_bytes;
use super::pool::{begin, is_data_error};
use super::row::{Reader, json, json_ids, to_millis};
use crate::envelope::EventId;
use crate::storage::ingesting::{self, InboxWriter, storable, text_or_raw};
use crate::storage::{CommitOrder, IncomingEvent, IngestReport, StorageError, shard_of};

/// What goes into the table, once for all rows. Variables have no numbers: sqlx looks each numbered one up in a list, and
/// what stood in every row would be compared with what stands in every other, so that both cost the square of the rows.
const INSERT: &str = concat!(
    "INSERT INTO inbox (subscription, id, message_id, event_type, event_version, event_data, raw, topic, session_id, \
     shard, correlation_id, causation_id, headers, created_at, expires_at, last_error, status, processed_at, received_at) \
     SELECT ?, column1, column2, column3, column4, column5, column6, column7, column8, column9, column10, column11, \
     column12, column13, column14, column15, iif(column15 IS NULL, 'pending', 'dead'), \
     iif(column15 IS NULL, NULL, ",
    now!(),
    "), ",
    now!(),
    " FROM (VALUES "
);

/// One row of them, as [`insert`] binds it.
const ROW: &str = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

/// What was there before stays; without `WHERE`, `ON` would be read as part of a join.
const UNLESS_THERE: &str = ") WHERE true ON CONFLICT (subscription, id) DO NOTHING";

/// Rows of one statement. Together with their halves, which bisecting makes, these are few enough shapes for the
/// statement cache, and far fewer variables than SQLite takes.
const CHUNKS: [usize; 4] = [64, 16, 4, 1];

pub(super) const NAMES: &str = "SELECT id, event_type FROM inbox INDEXED BY inbox_id \
    WHERE subscription = ?1 AND id IN (SELECT unhex(value) FROM json_each(?2))";

pub(super) async fn ingest(
    conn: &mut SqliteConnection,
    subscription: &str,
    events: &[IncomingEvent],
    order: &mut CommitOrder,
) -> Result<IngestReport, StorageError> {
    if events.is_empty() {
        return Ok(IngestReport::default());
    }
    let rows: Vec<_> = events.iter().map(storable).collect();
    // Dropped on any error, the transaction is rolled back before the connection does anything else.
    let mut tx = begin(conn).await?;
    let report = ingesting::store(&mut Batch { conn: &mut tx, subscription }, chunks(&rows)).await?;
    order.commit().await;
    tx.commit().await?;
    Ok(report)
}

/// Pieces of fixed sizes, in order.
fn chunks<T>(mut rows: &[T]) -> Vec<&[T]> {
    let mut pieces = Vec::new();
    for size in CHUNKS {
        while rows.len() >= size {
            let (piece, rest) = rows.split_at(size);
            pieces.push(piece);
            rows = rest;
        }
    }
    pieces
}

/// The transaction of a batch. A refused value takes back its own statement and nothing else.
struct Batch<'t> {
    conn: &'t mut SqliteConnection,
    subscription: &'t str,
}

impl InboxWriter for Batch<'_> {
    async fn insert(&mut self, events: &[&IncomingEvent]) -> Result<Result<u64, sqlx::Error>, StorageError> {
        match insert(self.conn, self.subscription, events).await {
            Err(StorageError::Database(error)) if is_data_error(&error) => Ok(Err(error)),
            other => other.map(Ok),
        }
    }

    async fn names(&mut self, ids: &[EventId]) -> Result<HashMap<Uuid, String>, StorageError> {
        let ids = json_ids(ids.iter().copied());
        let found = sqlx::query(NAMES).bind(self.subscription).bind(ids).fetch_all(&mut *self.conn).await?;
        let name = |row| {
            let row = Reader::new(row, "inbox");
            Ok((row.uuid("id")?, row.get("event_type")?))
        };
        found.iter().map(name).collect()
    }
}

async fn insert(
    conn: &mut SqliteConnection,
    subscription: &str,
    events: &[&IncomingEvent],
) -> Result<u64, StorageError> {
    let mut query = super::query(AssertSqlSafe(insert_sql(events.len()))).bind(subscription);
    for event in events {
        let (text, raw) = text_or_raw(&event.body);
        query = query
            .bind(id_bytes(event.id))
            .bind(event.message_id.as_str())
            .bind(event.name.as_str())
            .bind(i64::from(event.version))
            .bind(text)
            .bind(raw)
            .bind(event.topic.as_deref())
            .bind(event.session_id.as_deref())
            .bind(i64::from(shard_of(&event.shard_key())))
            .bind(event.correlation_id.as_deref())
            .bind(event.causation_id.as_deref())
            .bind(json(&event.headers)?)
            .bind(event.created_at.map(to_millis))
            .bind(event.expires_at.map(to_millis))
            .bind(event.dead.as_deref());
    }
    Ok(query.execute(conn).await?.rows_affected())
}

fn insert_sql(rows: usize) -> String {
    format!("{INSERT}{}{UNLESS_THERE}", vec![ROW; rows].join(", "))
}
