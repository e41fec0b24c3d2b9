//! From rows to values and back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row, Sqlite, Type};
use uuid::Uuid;

use crate::envelope::{Envelope, EventId, Headers};
use crate::storage::{Body, Fence, InboxRow, IncomingEvent, OutboxRow, StorageError};

/// The columns that [`outbox_row`] reads.
macro_rules! outbox_columns {
    () => {
        concat!(
            "seq, id, event_type, event_version, event_data, topic, lane, session_id, correlation_id, causation_id, ",
            "headers, created_at, deliver_at, expires_at, coalesce(expires_at <= ",
            now!(),
            ", 0) AS expired"
        )
    };
}

/// The columns that [`inbox_row`] reads.
macro_rules! inbox_columns {
    () => {
        concat!(
            "seq, id, message_id, event_type, event_version, event_data, raw, topic, session_id, correlation_id, ",
            "causation_id, headers, created_at, expires_at, received_at, attempts, ",
            "coalesce(max(next_attempt_at - ",
            now!(),
            ", 0), 0) AS due_in, coalesce(expires_at <= ",
            now!(),
            ", 0) AS expired, max(",
            now!(),
            " - created_at, 0) AS age"
        )
    };
}

pub(super) use {inbox_columns, outbox_columns};

/// Far enough for every delay and lease, and still far from an overflow when added to now.
const LONGEST: i64 = 1 << 52;

/// Milliseconds, rounded up, so that a wait is never shorter than asked for.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(LONGEST).min(LONGEST)
}

/// An instant as the tables hold it.
pub(super) fn to_millis(time: SystemTime) -> i64 {
    let clamped = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(LONGEST).min(LONGEST);
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => clamped(since),
        Err(before) => -clamped(before.duration()),
    }
}

pub(super) fn from_millis(millis: i64) -> SystemTime {
    let distance = Duration::from_millis(millis.unsigned_abs());
    let time = if millis < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    time.unwrap_or(UNIX_EPOCH)
}

/// A non-negative number of milliseconds.
pub(super) fn to_duration(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// Numbers as one JSON argument: lists of variables of every length would push each other out of the statement cache.
pub(super) fn json_numbers(numbers: &[i64]) -> String {
    let texts: Vec<_> = numbers.iter().map(i64::to_string).collect();
    format!("[{}]", texts.join(","))
}

/// Ids as one JSON argument, for `unhex`.
pub(super) fn json_ids(ids: impl Iterator<Item = EventId>) -> String {
    let texts: Vec<_> = ids.map(|id| format!("\"{}\"", id.as_uuid().simple())).collect();
    format!("[{}]", texts.join(","))
}

/// Texts or structures as one JSON argument.
pub(super) fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<String, StorageError> {
    serde_json::to_string(value).map_err(|error| StorageError::Database(sqlx::Error::Encode(error.into())))
}

/// A row and the table to name when it can't be read.
pub(super) struct Reader<'r> {
    row: &'r SqliteRow,
    table: &'static str,
}

impl<'r> Reader<'r> {
    pub(super) const fn new(row: &'r SqliteRow, table: &'static str) -> Self {
        Self { row, table }
    }

    pub(super) fn get<T: Decode<'r, Sqlite> + Type<Sqlite>>(
        &self,
        column: &'static str,
    ) -> Result<T, StorageError> {
        self.row.try_get(column).map_err(|error| self.corrupt(&error))
    }

    pub(super) fn uuid(&self, column: &'static str) -> Result<Uuid, StorageError> {
        Uuid::from_slice(self.get(column)?).map_err(|error| self.corrupt(&error))
    }

    pub(super) fn json<T: serde::de::DeserializeOwned>(
        &self,
        column: &'static str,
    ) -> Result<T, StorageError> {
        serde_json::from_str(self.get(column)?).map_err(|error| self.corrupt(&error))
    }

    pub(super) fn number(&self, column: &'static str) -> Result<u32, StorageError> {
        u32::try_from(self.get::<i64>(column)?).map_err(|error| self.corrupt(&error))
    }

    pub(super) fn id(&self) -> Result<EventId, StorageError> {
        self.uuid("id").map(EventId::from_uuid)
    }

    fn headers(&self) -> Result<Headers, StorageError> {
        match self.get::<&str>("headers")? {
            "{}" => Ok(Headers::new()),
            _ => self.json("headers"),
        }
    }

    pub(super) fn time(&self, column: &'static str) -> Result<SystemTime, StorageError> {
        self.get(column).map(from_millis)
    }

    pub(super) fn time_if_any(&self, column: &'static str) -> Result<Option<SystemTime>, StorageError> {
        Ok(self.get::<Option<i64>>(column)?.map(from_millis))
    }

    pub(super) fn corrupt(&self, reason: &dyn std::fmt::Display) -> StorageError {
        StorageError::Corrupt { table: self.table, reason: reason.to_string() }
    }
}

/// What something else has written to the table must not hide the rows beside it (rule 5).
pub(super) fn outbox_row(row: &SqliteRow) -> Result<OutboxRow, StorageError> {
    match whole_outbox_row(row) {
        Err(StorageError::Corrupt { reason, .. }) => {
            let row = Reader::new(row, "outbox");
            let session_id = row.get("session_id").ok().flatten();
            Ok(OutboxRow::unreadable(row.get("seq")?, row.id()?, session_id, reason))
        }
        read => read,
    }
}

fn whole_outbox_row(row: &SqliteRow) -> Result<OutboxRow, StorageError> {
    let row = Reader::new(row, "outbox");
    let envelope = Envelope {
        version: row.number("event_version")?,
        topic: row.get("topic")?,
        lane: row.get("lane")?,
        session_id: row.get("session_id")?,
        correlation_id: row.get("correlation_id")?,
        causation_id: row.get("causation_id")?,
        headers: row.headers()?,
        created_at: row.time("created_at")?,
        deliver_at: row.time_if_any("deliver_at")?,
        expires_at: row.time_if_any("expires_at")?,
        ..Envelope::new(row.id()?, row.get::<String>("event_type")?, row.get::<String>("event_data")?)
    };
    Ok(OutboxRow::new(row.get("seq")?, envelope, row.get::<i64>("expired")? != 0))
}

/// The same for the inbox.
pub(super) fn inbox_row(row: &SqliteRow) -> Result<InboxRow, StorageError> {
    match whole_inbox_row(row) {
        Err(StorageError::Corrupt { reason, .. }) => {
            let row = Reader::new(row, "inbox");
            let session_id = row.get("session_id").ok().flatten();
            Ok(InboxRow::unreadable(row.get("seq")?, row.id()?, session_id, reason))
        }
        read => read,
    }
}

fn whole_inbox_row(row: &SqliteRow) -> Result<InboxRow, StorageError> {
    let row = Reader::new(row, "inbox");
    // A dead row whose body the database refused has none when it is requeued.
    let body = match row.get::<Option<String>>("event_data")? {
        Some(text) => Body::Text(text),
        None => Body::Raw(row.get::<Option<Vec<u8>>>("raw")?.unwrap_or_default()),
    };
    let event = IncomingEvent {
        message_id: row.get("message_id")?,
        version: row.number("event_version")?,
        topic: row.get("topic")?,
        session_id: row.get("session_id")?,
        correlation_id: row.get("correlation_id")?,
        causation_id: row.get("causation_id")?,
        headers: row.headers()?,
        created_at: row.time_if_any("created_at")?,
        expires_at: row.time_if_any("expires_at")?,
        ..IncomingEvent::new(row.id()?, row.get::<String>("event_type")?, body)
    };
    Ok(InboxRow {
        attempts: row.number("attempts")?,
        due_in: to_duration(row.get("due_in")?),
        expired: row.get::<i64>("expired")? != 0,
        age: row.get::<Option<i64>>("age")?.map(to_duration),
        ..InboxRow::new(row.get("seq")?, event, row.time("received_at")?)
    })
}

pub(super) fn fence(row: &SqliteRow) -> Result<Fence, StorageError> {
    let row = Reader::new(row, "distributed_events_leases");
    Ok(Fence::new(row.get("name")?, row.uuid("owner")?, row.get("epoch")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_never_rounded_down() {
        assert_eq!(millis(Duration::ZERO), 0);
        assert_eq!(millis(Duration::from_micros(1)), 1);
        assert_eq!(millis(Duration::from_millis(7)), 7);
        assert_eq!(millis(Duration::MAX), LONGEST);
    }

    #[test]
    fn instants_survive_the_way_through_a_column() {
        for time in [
            UNIX_EPOCH,
            UNIX_EPOCH - Duration::from_secs(5),
            UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
        ] {
            assert_eq!(from_millis(to_millis(time)), time);
        }
    }
}
