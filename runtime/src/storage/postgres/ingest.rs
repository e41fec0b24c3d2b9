//! Received events into the inbox: one durable transaction a batch, and nothing lost whatever a message holds (rules 14
//! and 17).

use std::collections::HashMap;

use sqlx::PgConnection;
use uuid::Uuid;

use super::outbox::ids;
use super::pool::{DEADLOCK, DURABLE, SERIALIZATION_FAILURE, begin_with, code, is_data_error, query};
use super::row::{Reader, json, to_millis};
use crate::envelope::EventId;
use crate::storage::ingesting::{self, InboxWriter, Stored, storable, text_or_raw};
use crate::storage::{CommitOrder, IncomingEvent, IngestReport, StorageError, shard_of};

/// One array a column, in the order of arrival.
const INSERT: &str = concat!(
    "WITH clock AS MATERIALIZED (SELECT ",
    now!(),
    " AS now) INSERT INTO inbox (subscription, id, message_id, event_type, event_version, event_data, raw, topic, ",
    "session_id, shard, correlation_id, causation_id, headers, created_at, expires_at, last_error, status, ",
    "processed_at, received_at) ",
    "SELECT $1, e.id, e.message_id, e.event_type, e.event_version, e.event_data, e.raw, e.topic, e.session_id, e.shard, ",
    "e.correlation_id, e.causation_id, e.headers, 'epoch'::timestamptz + ",
    interval!("e.created_at"),
    ", 'epoch'::timestamptz + ",
    interval!("e.expires_at"),
    ", e.reason, CASE WHEN e.reason IS NULL THEN 'pending' ELSE 'dead' END, ",
    "CASE WHEN e.reason IS NOT NULL THEN now END, now ",
    "FROM unnest($2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::bytea[], $8::text[], $9::text[], ",
    "$10::smallint[], $11::text[], $12::text[], $13::text[], $14::bigint[], $15::bigint[], $16::text[]) ",
    "WITH ORDINALITY AS e (id, message_id, event_type, event_version, event_data, raw, topic, session_id, shard, ",
    "correlation_id, causation_id, headers, created_at, expires_at, reason, place), clock ",
    "ORDER BY e.place ON CONFLICT (subscription, id) DO NOTHING"
);

/// Rows of one statement, and about how many bytes.
const MAX_ROWS: usize = 200;
const MAX_BYTES: usize = 4 << 20;

/// How often a batch is stored anew after a deadlock, which ingesting the same messages over several links can make:
/// they are stored in the order of their arrival and of nothing else.
const TRIES: u32 = 10;

pub(super) const NAMES: &str = "SELECT id, event_type FROM inbox WHERE subscription = $1 AND id = ANY($2)";

pub(super) async fn ingest(
    conn: &mut PgConnection,
    subscription: &str,
    events: &[IncomingEvent],
    order: &mut CommitOrder,
) -> Result<IngestReport, StorageError> {
    if events.is_empty() {
        return Ok(IngestReport::default());
    }
    let rows: Vec<_> = events.iter().map(storable).collect();
    let mut careful = false;
    let mut tries = 1;
    loop {
        match try_ingest(conn, subscription, &rows, careful, order).await {
            Err(StorageError::Database(error)) if !careful && is_data_error(&error) => careful = true,
            Err(StorageError::Database(error)) if tries < TRIES && is_collision(&error) => tries += 1,
            other => return other,
        }
    }
}

fn is_collision(error: &sqlx::Error) -> bool {
    matches!(code(error).as_deref(), Some(DEADLOCK | SERIALIZATION_FAILURE))
}

/// A refused value breaks the transaction, unless it is *careful* and has a savepoint before each statement.
async fn try_ingest(
    conn: &mut PgConnection,
    subscription: &str,
    rows: &[Stored<'_>],
    careful: bool,
    order: &mut CommitOrder,
) -> Result<IngestReport, StorageError> {
    // Dropped on any error, the transaction is rolled back before the connection does anything else.
    let mut tx = begin_with(conn, DURABLE).await?;
    let mut batch = Batch { conn: &mut tx, subscription, careful };
    let report = ingesting::store(&mut batch, chunks(rows)).await?;
    order.commit().await;
    tx.commit().await?;
    Ok(report)
}

/// The transaction of a batch.
struct Batch<'t> {
    conn: &'t mut PgConnection,
    subscription: &'t str,
    careful: bool,
}

/// Pieces that are bounded in rows and bytes, in order.
fn chunks<'a, 'e>(mut rows: &'a [Stored<'e>]) -> Vec<&'a [Stored<'e>]> {
    let mut pieces = Vec::new();
    while !rows.is_empty() {
        let mut bytes = 0;
        let fits = |row: &&Stored<'_>| {
            bytes += row.event.body.as_bytes().len();
            bytes <= MAX_BYTES
        };
        let length = rows.iter().take(MAX_ROWS).take_while(fits).count().max(1);
        let (piece, rest) = rows.split_at(length);
        pieces.push(piece);
        rows = rest;
    }
    pieces
}

impl InboxWriter for Batch<'_> {
    async fn insert(&mut self, events: &[&IncomingEvent]) -> Result<Result<u64, sqlx::Error>, StorageError> {
        if !self.careful {
            return insert(self, events).await.map(Ok);
        }
        let run = async |conn: &mut PgConnection, sql: &'static str| sqlx::raw_sql(sql).execute(conn).await;
        run(self.conn, "SAVEPOINT distributed_events_ingest").await?;
        match insert(self, events).await {
            Ok(inserted) => {
                run(self.conn, "RELEASE SAVEPOINT distributed_events_ingest").await?;
                Ok(Ok(inserted))
            }
            Err(StorageError::Database(error)) if is_data_error(&error) => {
                let undo =
                    "ROLLBACK TO distributed_events_ingest; RELEASE SAVEPOINT distributed_events_ingest";
                run(self.conn, undo).await?;
                Ok(Err(error))
            }
            Err(error) => Err(error),
        }
    }

    async fn names(&mut self, asked: &[EventId]) -> Result<HashMap<Uuid, String>, StorageError> {
        let found = query(self.conn, NAMES)
            .bind(self.subscription)
            .bind(ids(asked.iter().copied()))
            .fetch_all(&mut *self.conn)
            .await?;
        let name = |row| {
            let row = Reader::new(row, "inbox");
            Ok((row.get("id")?, row.get("event_type")?))
        };
        found.iter().map(name).collect()
    }
}

async fn insert(batch: &mut Batch<'_>, events: &[&IncomingEvent]) -> Result<u64, StorageError> {
    let each = || events.iter().copied();
    let done = query(batch.conn, INSERT)
        .bind(batch.subscription)
        .bind(ids(each().map(|event| event.id)))
        .bind(each().map(|event| event.message_id.as_str()).collect::<Vec<_>>())
        .bind(each().map(|event| event.name.as_str()).collect::<Vec<_>>())
        .bind(each().map(|event| i64::from(event.version)).collect::<Vec<_>>())
        .bind(each().map(|event| text_or_raw(&event.body).0).collect::<Vec<_>>())
        .bind(each().map(|event| text_or_raw(&event.body).1).collect::<Vec<_>>())
        .bind(each().map(|event| event.topic.as_deref()).collect::<Vec<_>>())
        .bind(each().map(|event| event.session_id.as_deref()).collect::<Vec<_>>())
        .bind(each().map(|event| i16::from(shard_of(&event.shard_key()))).collect::<Vec<_>>())
        .bind(each().map(|event| event.correlation_id.as_deref()).collect::<Vec<_>>())
        .bind(each().map(|event| event.causation_id.as_deref()).collect::<Vec<_>>())
        .bind(each().map(|event| json(&event.headers)).collect::<Result<Vec<_>, _>>()?)
        .bind(each().map(|event| event.created_at.map(to_millis)).collect::<Vec<_>>())
        .bind(each().map(|event| event.expires_at.map(to_millis)).collect::<Vec<_>>())
        .bind(each().map(|event| event.dead.as_deref()).collect::<Vec<_>>())
        .execute(&mut *batch.conn)
        .await?;
    Ok(done.rows_affected())
}
