//! Received events into the inbox: one durable transaction a batch, and nothing lost whatever a message holds (rules 14
//! and 17).

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write;

use sqlx::{AssertSqlSafe, SqliteConnection};
use uuid::Uuid;

use super::outbox::id_bytes;
use super::pool::{begin, is_data_error};
use super::row::{Reader, json, json_ids, to_millis};
use crate::envelope::{EventId, Headers};
use crate::storage::{Body, IncomingEvent, IngestReport, StorageError, shard_of};

const COLUMNS: &str = "INSERT INTO inbox (subscription, id, message_id, event_type, event_version, event_data, raw, topic, \
    session_id, shard, correlation_id, causation_id, headers, created_at, expires_at, last_error, status, processed_at, \
    received_at) VALUES ";

/// Variables of a row beside the subscription, which all rows share.
const WIDTH: usize = 15;

/// Rows of one statement. Together with their halves, which bisecting makes, these are few enough shapes for the
/// statement cache, and far fewer variables than SQLite takes.
const CHUNKS: [usize; 4] = [64, 16, 4, 1];

pub(super) const NAMES: &str = "SELECT id, event_type FROM inbox INDEXED BY inbox_id \
    WHERE subscription = ?1 AND id IN (SELECT unhex(value) FROM json_each(?2))";

/// Characters kept of a text of a message that the database refuses.
const KEPT_OF_REFUSED: usize = 256;

/// An event as it will be stored.
struct Stored<'a> {
    event: Cow<'a, IncomingEvent>,
    /// Its values had to be changed before any database would take them.
    refused: bool,
}

pub(super) async fn ingest(
    conn: &mut SqliteConnection,
    subscription: &str,
    events: &[IncomingEvent],
) -> Result<IngestReport, StorageError> {
    if events.is_empty() {
        return Ok(IngestReport::default());
    }
    let rows: Vec<_> = events.iter().map(storable).collect();
    // Dropped on any error, the transaction is rolled back before the connection does anything else.
    let mut tx = begin(conn).await?;
    let report = store(&mut tx, subscription, &rows).await?;
    tx.commit().await?;
    Ok(report)
}

/// NUL is the one character that not every database keeps: such an event is stored dead, with the character replaced.
fn storable(event: &IncomingEvent) -> Stored<'_> {
    let bad = |text: &String| text.contains('\0');
    let optional = [&event.topic, &event.session_id, &event.correlation_id, &event.causation_id, &event.dead];
    let found = [&event.message_id, &event.name].into_iter().any(bad)
        || optional.into_iter().flatten().any(bad)
        || event.headers.iter().any(|(name, value)| bad(name) || bad(value));
    if !found {
        return Stored { event: Cow::Borrowed(event), refused: false };
    }
    let clean = |text: &String| text.replace('\0', "\u{fffd}");
    let reason = "its name, ids or headers contain NUL characters, which databases refuse".to_owned();
    let cleaned = IncomingEvent {
        message_id: clean(&event.message_id),
        name: clean(&event.name),
        topic: event.topic.as_ref().map(clean),
        session_id: event.session_id.as_ref().map(clean),
        correlation_id: event.correlation_id.as_ref().map(clean),
        causation_id: event.causation_id.as_ref().map(clean),
        headers: event.headers.iter().map(|(name, value)| (clean(name), clean(value))).collect(),
        dead: Some(event.dead.as_ref().map_or(reason, clean)),
        ..event.clone()
    };
    Stored { event: Cow::Owned(cleaned), refused: event.dead.is_none() }
}

async fn store(
    conn: &mut SqliteConnection,
    subscription: &str,
    rows: &[Stored<'_>],
) -> Result<IngestReport, StorageError> {
    let mut report = IngestReport::default();
    // A stack whose top comes first, so that bisecting keeps the order of arrival.
    let mut work = chunks(rows);
    work.reverse();
    while let Some(rows) = work.pop() {
        if let [row] = rows {
            store_one(conn, subscription, row, &mut report).await?;
            continue;
        }
        let mixed = rows.iter().any(|row| row.refused);
        let inserted = if mixed { None } else { insert_or_none(conn, subscription, rows).await? };
        match inserted {
            Some(inserted) if inserted == rows.len() as u64 => report.inserted += inserted,
            Some(inserted) => {
                let conflicts = conflicts(conn, subscription, rows).await?;
                report.inserted += inserted;
                report.duplicates += (rows.len() as u64).saturating_sub(inserted + conflicts.len() as u64);
                for (row, name) in conflicts {
                    store_conflict(conn, subscription, &row.event, &name, &mut report).await?;
                }
            }
            None => {
                let (first, second) = rows.split_at(rows.len() / 2);
                work.extend([second, first]);
            }
        }
    }
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

async fn store_one(
    conn: &mut SqliteConnection,
    subscription: &str,
    row: &Stored<'_>,
    report: &mut IngestReport,
) -> Result<(), StorageError> {
    let (inserted, refused) = insert_tolerant(conn, subscription, &row.event).await?;
    if inserted {
        let counter = if row.refused || refused { &mut report.refused } else { &mut report.inserted };
        *counter += 1;
        return Ok(());
    }
    match conflicts(conn, subscription, std::slice::from_ref(row)).await?.pop() {
        Some((row, name)) => store_conflict(conn, subscription, &row.event, &name, report).await,
        None => {
            report.duplicates += 1;
            Ok(())
        }
    }
}

/// The same id under another name is another event: it is kept under an id that its redeliveries derive again.
async fn store_conflict(
    conn: &mut SqliteConnection,
    subscription: &str,
    event: &IncomingEvent,
    used_by: &str,
    report: &mut IngestReport,
) -> Result<(), StorageError> {
    let derived = EventId::from_uuid(Uuid::new_v5(&event.id.as_uuid(), event.name.as_bytes()));
    let reason = format!("id already used by event {used_by}");
    let conflict = IncomingEvent { id: derived, dead: Some(reason), ..event.clone() };
    let (inserted, _) = insert_tolerant(conn, subscription, &conflict).await?;
    let counter = if inserted { &mut report.conflicts } else { &mut report.duplicates };
    *counter += 1;
    Ok(())
}

/// Which rows are not there under their own name, and under which the id is there.
async fn conflicts<'a, 'e>(
    conn: &mut SqliteConnection,
    subscription: &str,
    rows: &'a [Stored<'e>],
) -> Result<Vec<(&'a Stored<'e>, String)>, StorageError> {
    let ids = json_ids(rows.iter().map(|row| row.event.id));
    let found = sqlx::query(NAMES).bind(subscription).bind(ids).fetch_all(conn).await?;
    let mut names: HashMap<Uuid, String> = HashMap::with_capacity(found.len());
    for row in &found {
        let row = Reader::new(row, "inbox");
        names.insert(row.uuid("id")?, row.get("event_type")?);
    }
    let other = |row: &'a Stored<'e>| {
        let name = names.get(&row.event.id.as_uuid()).filter(|name| **name != row.event.name)?;
        Some((row, name.clone()))
    };
    Ok(rows.iter().filter_map(other).collect())
}

/// Stores one event, without its body where the database refuses it whole; tells whether it was new and refused.
async fn insert_tolerant(
    conn: &mut SqliteConnection,
    subscription: &str,
    event: &IncomingEvent,
) -> Result<(bool, bool), StorageError> {
    match insert(conn, subscription, std::iter::once(event)).await {
        Ok(inserted) => Ok((inserted > 0, false)),
        Err(StorageError::Database(error)) if is_data_error(&error) => {
            let remains = remains(event, &error);
            Ok((insert(conn, subscription, std::iter::once(&remains)).await? > 0, true))
        }
        Err(error) => Err(error),
    }
}

/// What can be kept of an event that the database refuses: its identity, its name and the reason.
fn remains(event: &IncomingEvent, error: &sqlx::Error) -> IncomingEvent {
    let short = |text: &str| text.chars().take(KEPT_OF_REFUSED).collect::<String>();
    IncomingEvent {
        message_id: short(&event.message_id),
        name: short(&event.name),
        body: Body::Text(String::new()),
        topic: event.topic.as_deref().map(short),
        session_id: event.session_id.as_deref().map(short),
        correlation_id: event.correlation_id.as_deref().map(short),
        causation_id: event.causation_id.as_deref().map(short),
        headers: Headers::new(),
        dead: Some(format!(
            "the database refuses it, so its body of {} bytes is lost: {error}",
            event.body.as_bytes().len()
        )),
        ..event.clone()
    }
}

/// Stores several events, or none where the database refuses a value of one.
async fn insert_or_none(
    conn: &mut SqliteConnection,
    subscription: &str,
    rows: &[Stored<'_>],
) -> Result<Option<u64>, StorageError> {
    match insert(conn, subscription, rows.iter().map(|row| row.event.as_ref())).await {
        Ok(inserted) => Ok(Some(inserted)),
        Err(StorageError::Database(error)) if is_data_error(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn insert<'a>(
    conn: &mut SqliteConnection,
    subscription: &str,
    events: impl ExactSizeIterator<Item = &'a IncomingEvent>,
) -> Result<u64, StorageError> {
    let mut query = sqlx::query(AssertSqlSafe(insert_sql(events.len()))).bind(subscription);
    for event in events {
        // A text with NUL is no text to other databases; as bytes it reads back the same everywhere.
        let (text, raw) = match &event.body {
            Body::Text(text) if !text.contains('\0') => (Some(text.as_str()), None),
            other => (None, Some(other.as_bytes().to_vec())),
        };
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
    let mut sql = COLUMNS.to_owned();
    for n in 0..rows {
        let first = 2 + n * WIDTH;
        let reason = first + WIDTH - 1;
        sql.push_str(if n == 0 { "(?1" } else { ", (?1" });
        for variable in first..=reason {
            let _ = write!(sql, ", ?{variable}");
        }
        let _ = write!(
            sql,
            ", iif(?{reason} IS NULL, 'pending', 'dead'), iif(?{reason} IS NULL, NULL, {now}), {now})",
            now = now!()
        );
    }
    sql.push_str(" ON CONFLICT (subscription, id) DO NOTHING");
    sql
}
