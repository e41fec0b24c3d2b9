//! Received events into the inbox: one durable transaction a batch, and nothing lost whatever a message holds (rules 14
//! and 17).

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use sqlx::{AssertSqlSafe, MySqlConnection};
use uuid::Uuid;

use super::pool::{DUPLICATE, REPEATS, begin, is_data_error, is_deadlock, number};
use super::row::{self, Reader, id_bytes, json, literal, places, short, to_millis, with_ids};
use crate::envelope::EventId;
use crate::storage::ingesting::{self, InboxWriter, Stored, storable, text_or_raw, without_body};
use crate::storage::{CommitOrder, IncomingEvent, IngestReport, StorageError, shard_of};

const COLUMNS: &str = "INSERT INTO inbox (subscription, id, message_id, event_type, event_version, event_data, raw, topic, \
    session_id, shard, correlation_id, causation_id, headers, created_at, expires_at, last_error, status, processed_at, \
    received_at) VALUES ";

/// The reason decides the state, which so stays a literal.
const VALUES: &str = concat!(
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, if(?, 'dead', 'pending'), if(?, ",
    now!(),
    ", NULL), ",
    now!(),
    ")"
);

/// Rows of one statement. Together with their halves, which bisecting makes, these are few enough shapes for the
/// statement cache, and far fewer variables than the protocol takes.
const CHUNKS: [usize; 4] = [64, 16, 4, 1];

/// A batch of this size fits into one statement on every server that passes the check.
const SMALL: usize = 512 * 1024;

pub(super) const NAMES: &str = "SELECT id, event_type FROM inbox FORCE INDEX (inbox_id) \
    WHERE subscription = {subscription} AND id IN ({ids})";

pub(super) async fn ingest(
    conn: &mut MySqlConnection,
    subscription: &str,
    events: &[IncomingEvent],
    order: &mut CommitOrder,
) -> Result<IngestReport, StorageError> {
    if events.is_empty() {
        return Ok(IngestReport::default());
    }
    let sizes: usize = events.iter().map(size).sum();
    // The server drops a connection that sends it more than it takes.
    let limit = if sizes <= SMALL { SMALL } else { largest_statement(conn).await? } - row::ROOM;
    let rows: Vec<_> = events.iter().map(|event| fitting(event, limit)).collect();
    for _ in 0..REPEATS {
        match try_ingest(conn, subscription, &rows, limit, order).await {
            Err(error) if is_deadlock(&error) => {}
            other => return other,
        }
    }
    try_ingest(conn, subscription, &rows, limit, order).await
}

async fn largest_statement(conn: &mut MySqlConnection) -> Result<usize, StorageError> {
    let limit: i64 =
        sqlx::query_scalar("SELECT CAST(@@max_allowed_packet AS SIGNED)").fetch_one(conn).await?;
    Ok(usize::try_from(limit).unwrap_or(SMALL).max(2 * row::ROOM))
}

async fn try_ingest(
    conn: &mut MySqlConnection,
    subscription: &str,
    rows: &[Stored<'_>],
    limit: usize,
    order: &mut CommitOrder,
) -> Result<IngestReport, StorageError> {
    // Dropped on any error, the transaction is rolled back before the connection does anything else.
    let mut tx = begin(conn).await?;
    let report = ingesting::store(&mut Batch { conn: &mut tx, subscription }, chunks(rows, limit)).await?;
    order.commit().await;
    tx.commit().await?;
    Ok(report)
}

/// What a row takes of a statement: its texts, its place in the SQL, and its numbers and lengths.
fn size(event: &IncomingEvent) -> usize {
    let optional = [&event.topic, &event.session_id, &event.correlation_id, &event.causation_id];
    let texts: usize = optional.into_iter().flatten().map(String::len).sum();
    let reason = event.dead.as_deref().map_or(0, |reason| short(reason).len());
    // Escaped, a character of a header takes six.
    let headers: usize = event.headers.iter().map(|(name, value)| 6 * (name.len() + value.len()) + 6).sum();
    VALUES.len()
        + 512
        + texts
        + reason
        + headers
        + event.message_id.len()
        + event.name.len()
        + event.body.as_bytes().len()
}

/// An event larger than a statement may be loses its body.
fn fitting(event: &IncomingEvent, limit: usize) -> Stored<'_> {
    let size = size(event);
    if size <= limit {
        return storable(event);
    }
    let most = limit + row::ROOM;
    without_body(event, &format!("it is {size} bytes and this server's max_allowed_packet is {most}"))
}

/// Pieces of fixed sizes, in order, none of more bytes than a statement may have.
fn chunks<'a, 'e>(mut rows: &'a [Stored<'e>], limit: usize) -> Vec<&'a [Stored<'e>]> {
    let mut pieces = Vec::new();
    while !rows.is_empty() {
        let fits = |size: usize| {
            size <= rows.len()
                && rows[..size].iter().map(|row| self::size(&row.event)).sum::<usize>() <= limit
        };
        let size = CHUNKS.into_iter().find(|size| fits(*size)).unwrap_or(1);
        let (piece, rest) = rows.split_at(size);
        pieces.push(piece);
        rows = rest;
    }
    pieces
}

/// The transaction of a batch. A refused value takes back its own statement and nothing else.
struct Batch<'t> {
    conn: &'t mut MySqlConnection,
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
        names(self.conn, self.subscription, ids.iter().copied()).await
    }
}

/// The names under which events are there.
async fn names(
    conn: &mut MySqlConnection,
    subscription: &str,
    ids: impl Iterator<Item = EventId>,
) -> Result<HashMap<Uuid, String>, StorageError> {
    let sql = with_ids(NAMES, ids).replace("{subscription}", &literal(subscription));
    let found = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(conn).await?;
    found
        .iter()
        .map(|row| {
            let row = Reader::new(row, "inbox");
            Ok((row.uuid("id")?, row.get("event_type")?))
        })
        .collect()
}

/// Stores what is not there, and tells how many that were. An insert that ignored what is there would count it as written,
/// because sqlx asks for rows found and not rows changed, and one that ignores errors would cut values off.
async fn insert(
    conn: &mut MySqlConnection,
    subscription: &str,
    events: &[&IncomingEvent],
) -> Result<u64, StorageError> {
    let mut new: Cow<'_, [&IncomingEvent]> = Cow::Borrowed(events);
    for _ in 0..REPEATS {
        match insert_new(conn, subscription, &new).await {
            Err(StorageError::Database(error)) if number(&error) == Some(DUPLICATE) => {}
            result => return result.map(|()| new.len() as u64),
        }
        // What made it a duplicate is in the batch or committed, and so can be seen.
        let there = names(conn, subscription, events.iter().map(|event| event.id)).await?;
        let mut seen = HashSet::with_capacity(events.len());
        let is_new =
            |event: &&&IncomingEvent| !there.contains_key(&event.id.as_uuid()) && seen.insert(event.id);
        new = Cow::Owned(events.iter().filter(is_new).copied().collect());
        if new.is_empty() {
            return Ok(0);
        }
    }
    insert_new(conn, subscription, &new).await.map(|()| new.len() as u64)
}

async fn insert_new(
    conn: &mut MySqlConnection,
    subscription: &str,
    events: &[&IncomingEvent],
) -> Result<(), StorageError> {
    let sql = AssertSqlSafe(format!("{COLUMNS}{}", places(VALUES, events.len())));
    let mut query = sqlx::query(sql).persistent(CHUNKS.contains(&events.len()));
    for event in events {
        let (text, raw) = text_or_raw(&event.body);
        query = query
            .bind(subscription)
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
            .bind(event.dead.as_deref().map(short))
            .bind(event.dead.is_some())
            .bind(event.dead.is_some());
    }
    query.execute(conn).await?;
    Ok(())
}
