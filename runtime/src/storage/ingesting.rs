//! Storing received events, as it goes on every database: nothing is lost whatever a message holds (rules 14 and 17).

use std::borrow::Cow;
use std::collections::HashMap;
use std::future::Future;

use uuid::Uuid;

use super::{Body, IncomingEvent, IngestReport, StorageError};
use crate::crash;
use crate::envelope::{EventId, Headers};

/// Characters kept of a text of a message that the database refuses.
const KEPT_OF_REFUSED: usize = 256;

/// The transaction of a batch, in one database's statements.
pub(super) trait InboxWriter: Send {
    /// Inserts events in their order with one statement that passes over ids which are there; tells how many were new. The
    /// inner error is a value that the database refuses, after which the transaction lives and holds nothing of these.
    fn insert(
        &mut self,
        events: &[&IncomingEvent],
    ) -> impl Future<Output = Result<Result<u64, sqlx::Error>, StorageError>> + Send;

    /// The names of the events that are there under these ids.
    fn names(
        &mut self,
        ids: &[EventId],
    ) -> impl Future<Output = Result<HashMap<Uuid, String>, StorageError>> + Send;
}

/// An event as it will be stored.
#[derive(Debug)]
pub(super) struct Stored<'a> {
    pub(super) event: Cow<'a, IncomingEvent>,
    /// Its values had to be changed before any database would take them.
    refused: bool,
}

/// NUL is the one character that not every database keeps: such an event is stored dead, with the character replaced.
pub(super) fn storable(event: &IncomingEvent) -> Stored<'_> {
    let bad = |text: &String| text.contains('\0');
    let optional = [&event.topic, &event.session_id, &event.correlation_id, &event.causation_id, &event.dead];
    let found = [&event.message_id, &event.name].into_iter().any(bad)
        || optional.into_iter().flatten().any(bad)
        || event.headers.iter().any(|(name, value)| bad(name) || bad(value));
    if crash::is_broken("dedupe") {
        let event = IncomingEvent { id: EventId::new(), ..event.clone() };
        return Stored { event: Cow::Owned(event), refused: false };
    }
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

/// An event of which the database can't be asked to take the body, for the given reason.
#[cfg(feature = "mysql")]
pub(super) fn without_body(event: &IncomingEvent, reason: &str) -> Stored<'static> {
    Stored { event: Cow::Owned(remains(&storable(event).event, reason)), refused: true }
}

/// A body as text and as bytes, of which one is there. A text with NUL is no text to most databases; as bytes it reads
/// back the same everywhere.
pub(super) fn text_or_raw(body: &Body) -> (Option<&str>, Option<&[u8]>) {
    match body {
        Body::Text(text) if !text.contains('\0') => (Some(text), None),
        other => (None, Some(other.as_bytes())),
    }
}

/// Stores pieces of a batch in their order.
pub(super) async fn store<W: InboxWriter>(
    writer: &mut W,
    mut pieces: Vec<&[Stored<'_>]>,
) -> Result<IngestReport, StorageError> {
    let mut report = IngestReport::default();
    // A stack whose top comes first, so that bisecting keeps the order of arrival.
    pieces.reverse();
    while let Some(rows) = pieces.pop() {
        if let [row] = rows {
            store_one(writer, row, &mut report).await?;
            continue;
        }
        // Where one was refused before, each is counted by itself.
        let inserted = if rows.iter().any(|row| row.refused) {
            None
        } else {
            let events: Vec<_> = rows.iter().map(|row| row.event.as_ref()).collect();
            writer.insert(&events).await?.ok()
        };
        match inserted {
            Some(inserted) if inserted == rows.len() as u64 => report.inserted += inserted,
            Some(inserted) => {
                let conflicts = conflicts(writer, rows).await?;
                report.inserted += inserted;
                report.duplicates += (rows.len() as u64).saturating_sub(inserted + conflicts.len() as u64);
                for (row, name) in conflicts {
                    store_conflict(writer, &row.event, &name, &mut report).await?;
                }
            }
            None => {
                let (first, second) = rows.split_at(rows.len() / 2);
                pieces.extend([second, first]);
            }
        }
    }
    Ok(report)
}

async fn store_one<W: InboxWriter>(
    writer: &mut W,
    row: &Stored<'_>,
    report: &mut IngestReport,
) -> Result<(), StorageError> {
    let (inserted, refused) = insert_tolerant(writer, &row.event).await?;
    if inserted {
        let counter = if row.refused || refused { &mut report.refused } else { &mut report.inserted };
        *counter += 1;
        return Ok(());
    }
    match conflicts(writer, std::slice::from_ref(row)).await?.pop() {
        Some((row, name)) => store_conflict(writer, &row.event, &name, report).await,
        None => {
            report.duplicates += 1;
            Ok(())
        }
    }
}

/// The same id under another name is another event: it is kept under an id that its redeliveries derive again.
async fn store_conflict<W: InboxWriter>(
    writer: &mut W,
    event: &IncomingEvent,
    used_by: &str,
    report: &mut IngestReport,
) -> Result<(), StorageError> {
    let derived = EventId::from_uuid(Uuid::new_v5(&event.id.as_uuid(), event.name.as_bytes()));
    let reason = format!("id already used by event {used_by}");
    let conflict = IncomingEvent { id: derived, dead: Some(reason), ..event.clone() };
    let (inserted, _) = insert_tolerant(writer, &conflict).await?;
    let counter = if inserted { &mut report.conflicts } else { &mut report.duplicates };
    *counter += 1;
    Ok(())
}

/// Which rows are not there under their own name, and under which the id is there.
async fn conflicts<'a, 'e, W: InboxWriter>(
    writer: &mut W,
    rows: &'a [Stored<'e>],
) -> Result<Vec<(&'a Stored<'e>, String)>, StorageError> {
    let ids: Vec<_> = rows.iter().map(|row| row.event.id).collect();
    let names = writer.names(&ids).await?;
    let other = |row: &'a Stored<'e>| {
        let name = names.get(&row.event.id.as_uuid()).filter(|name| **name != row.event.name)?;
        Some((row, name.clone()))
    };
    Ok(rows.iter().filter_map(other).collect())
}

/// Stores one event, without its body where the database refuses it whole; tells whether it was new and refused.
async fn insert_tolerant<W: InboxWriter>(
    writer: &mut W,
    event: &IncomingEvent,
) -> Result<(bool, bool), StorageError> {
    match writer.insert(&[event]).await? {
        Ok(inserted) => Ok((inserted > 0, false)),
        Err(error) => {
            let remains = remains(event, &error.to_string());
            Ok((writer.insert(&[&remains]).await?? > 0, true))
        }
    }
}

/// What can be kept of an event that the database refuses: its identity, its name and the reason.
fn remains(event: &IncomingEvent, reason: &str) -> IncomingEvent {
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
            "the database refuses it, so its body of {} bytes is lost: {reason}",
            event.body.as_bytes().len()
        )),
        ..event.clone()
    }
}
