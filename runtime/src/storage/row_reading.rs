//! Rows as operators see them, from the columns that an adapter reads. Something else may have written to the tables: of such
//! a row what can be read is shown and the rest told, so that it hides no row beside it.

use std::time::SystemTime;

use uuid::Uuid;

use super::{DeadRow, RowCursor, RowDetail, RowSummary, StorageError, Table};
use crate::envelope::{EventId, Headers};

/// A row of an adapter, column by column. What can't be read is [`StorageError::Corrupt`].
pub(crate) trait Columns {
    /// A whole number.
    fn number(&self, column: &'static str) -> Result<i64, StorageError>;
    /// A text, if there is one.
    fn text(&self, column: &'static str) -> Result<Option<String>, StorageError>;
    /// Bytes, if there are any.
    fn bytes(&self, column: &'static str) -> Result<Option<Vec<u8>>, StorageError>;
    /// A time, if there is one.
    fn time(&self, column: &'static str) -> Result<Option<SystemTime>, StorageError>;
    /// The event's id.
    fn id(&self) -> Result<EventId, StorageError>;
}

/// A row, and what could not be read of it so far.
struct Legible<'r, R> {
    row: &'r R,
    table: Table,
    faults: Vec<String>,
}

impl<'r, R: Columns> Legible<'r, R> {
    const fn new(row: &'r R, table: Table) -> Self {
        Self { row, table, faults: Vec::new() }
    }

    /// What was read, or this in its place, which is then told.
    fn or<T>(&mut self, column: &'static str, read: Result<T, StorageError>, instead: T) -> T {
        read.unwrap_or_else(|error| {
            let reason = match &error {
                StorageError::Corrupt { reason, .. } => reason.clone(),
                other => other.to_string(),
            };
            // sqlx names the column, but by the name that the statement gives it.
            let reason = match reason.strip_prefix("error occurred while decoding column ") {
                Some(rest) => rest.split_once(": ").map_or(rest, |(_, reason)| reason).to_owned(),
                None => reason,
            };
            self.faults.push(format!("{}: {reason}", self.written(column)));
            instead
        })
    }

    /// The column as the table has it.
    const fn written(&self, column: &'static str) -> &'static str {
        match (self.table, column.as_bytes()) {
            (Table::Outbox, b"owner") => "lane",
            (Table::Inbox, b"owner") => "subscription",
            (Table::Outbox, b"written_at") => "created_at",
            (Table::Inbox, b"written_at") => "received_at",
            (Table::Inbox, b"published_at") => "created_at",
            (Table::Outbox, b"due_at") => "next_attempt_at or deliver_at",
            (Table::Inbox, b"due_at") => "next_attempt_at",
            (_, b"error") => "last_error",
            _ => column,
        }
    }

    fn number(&mut self, column: &'static str) -> u32 {
        let read = self.row.number(column).and_then(|number| {
            u32::try_from(number).map_err(|_| {
                let reason = format!("{number} is not between 0 and {}", u32::MAX);
                StorageError::Corrupt { table: self.table.name(), reason }
            })
        });
        self.or(column, read, 0)
    }

    fn text(&mut self, column: &'static str) -> Option<String> {
        let read = self.row.text(column);
        self.or(column, read, None)
    }

    fn time(&mut self, column: &'static str) -> Option<SystemTime> {
        let read = self.row.time(column);
        self.or(column, read, None)
    }

    fn id(&mut self) -> EventId {
        let read = self.row.id();
        self.or("id", read, EventId::from_uuid(Uuid::nil()))
    }

    fn reason(&self) -> Option<String> {
        (!self.faults.is_empty()).then(|| self.faults.join("; "))
    }

    fn summary(&mut self) -> Result<RowSummary, StorageError> {
        // Without its place nothing could be said of it, and no list go on behind it.
        let seq = self.row.number("seq")?;
        let owner = self.text("owner").unwrap_or_default();
        let place = self.row.number("place");
        // Behind all that can be read, so that paging never goes back to it.
        let rank = self.or("the column that its list is ordered by", place, i64::MAX);
        Ok(RowSummary {
            cursor: RowCursor { owner: owner.clone(), rank, seq },
            seq,
            id: self.id(),
            owner,
            event: self.text("event_type").unwrap_or_default(),
            version: self.number("event_version"),
            session_id: self.text("session_id"),
            state: self.text("status").unwrap_or_default(),
            attempts: self.number("attempts"),
            written_at: self.time("written_at").unwrap_or(SystemTime::UNIX_EPOCH),
            settled_at: self.time("processed_at"),
            due_at: self.time("due_at"),
            error: self.text("error"),
            unreadable: self.reason(),
        })
    }
}

/// A row as a list shows it.
pub(crate) fn summary(row: &impl Columns, table: Table) -> Result<RowSummary, StorageError> {
    Legible::new(row, table).summary()
}

/// A row with all that is known of it.
pub(crate) fn detail(row: &impl Columns, table: Table) -> Result<RowDetail, StorageError> {
    let mut legible = Legible::new(row, table);
    let summary = legible.summary()?;
    let headers = legible.text("headers").unwrap_or_default();
    // A list doesn't read them; a relay does, and takes nothing else.
    let parsed = serde_json::from_str::<Headers>(&headers).map(drop).map_err(|error| StorageError::Corrupt {
        table: table.name(),
        reason: format!("no JSON object of texts ({error})"),
    });
    legible.or("headers", parsed, ());
    let data = row.bytes("data");
    Ok(RowDetail {
        message_id: legible.text("message_id"),
        topic: legible.text("topic"),
        correlation_id: legible.text("correlation_id"),
        causation_id: legible.text("causation_id"),
        headers,
        published_at: legible.time("published_at"),
        expires_at: legible.time("expires_at"),
        data: legible.or("data", data, None),
        summary: RowSummary { unreadable: legible.reason(), ..summary },
    })
}

/// A dead row with its bytes and its reason.
pub(crate) fn dead_row(row: &impl Columns, table: Table) -> Result<DeadRow, StorageError> {
    let mut legible = Legible::new(row, table);
    let data = row.bytes("data");
    let (id, owner) = (legible.id(), legible.text("owner").unwrap_or_default());
    let event = legible.text("event_type").unwrap_or_default();
    Ok(DeadRow {
        session_id: legible.text("session_id"),
        attempts: legible.number("attempts"),
        reason: legible.text("error").unwrap_or_default(),
        data: legible.or("data", data, None).unwrap_or_default(),
        created_at: legible.time("written_at").unwrap_or(SystemTime::UNIX_EPOCH),
        unreadable: legible.reason(),
        ..DeadRow::new(row.number("seq")?, id, owner, event)
    })
}
