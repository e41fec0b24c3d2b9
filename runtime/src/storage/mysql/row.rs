//! From rows to values and back.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::mysql::MySqlRow;
use sqlx::{Decode, MySql, Row, Type};
use uuid::Uuid;

use crate::envelope::{Envelope, EventId, Headers};
use crate::storage::{Body, InboxRow, IncomingEvent, OutboxRow, StorageError};

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
            "coalesce(greatest(next_attempt_at - ",
            now!(),
            ", 0), 0) AS due_in, coalesce(expires_at <= ",
            now!(),
            ", 0) AS expired, greatest(",
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

/// The SQL with numbers in their place. Lists of variables of every length would push each other out of the statement
/// cache, and a subquery over a JSON argument keeps an UPDATE from its index and is read again for every row.
pub(super) fn with_numbers(sql: &str, numbers: &[i64]) -> String {
    let texts: Vec<_> = numbers.iter().map(i64::to_string).collect();
    sql.replace("{numbers}", if texts.is_empty() { "NULL".to_owned() } else { texts.join(",") }.as_str())
}

/// The same with ids.
pub(super) fn with_ids(sql: &str, ids: impl Iterator<Item = EventId>) -> String {
    let texts: Vec<_> = ids.map(|id| format!("x'{}'", id.as_uuid().simple())).collect();
    sql.replace("{ids}", &texts.join(","))
}

/// A text as a literal of which nothing can break out, whatever the SQL mode and the connection's character set are.
pub(super) fn literal(text: &str) -> String {
    let mut literal = "_utf8mb4 x'".to_owned();
    for byte in text.bytes() {
        let _ = write!(literal, "{byte:02x}");
    }
    literal.push('\'');
    literal
}

/// The rows of a page that are left out by their seq.
pub(super) fn except(seqs: &[i64]) -> String {
    if seqs.is_empty() { String::new() } else { with_numbers(" AND seq NOT IN ({numbers})", seqs) }
}

/// The rows of a page that are left out by their session.
pub(super) fn without(sessions: &[String]) -> String {
    if sessions.is_empty() {
        return String::new();
    }
    let texts: Vec<_> = sessions.iter().map(|session| literal(session)).collect();
    format!(" AND (session_id IS NULL OR session_id NOT IN ({}))", texts.join(", "))
}

/// So many places for variables.
pub(super) fn places(place: &str, count: usize) -> String {
    vec![place; count].join(", ")
}

/// An id as the tables hold it.
pub(super) fn id_bytes(id: EventId) -> Vec<u8> {
    id.as_uuid().as_bytes().to_vec()
}

/// What a statement takes of a packet beside its rows.
pub(super) const ROOM: usize = 1_024;

/// A reason as it is kept: one that fills a packet would never be written, and its row never settled.
pub(super) fn short(reason: &str) -> &str {
    let mut end = reason.len().min(65_536);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

/// Texts or structures as one JSON argument.
pub(super) fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<String, StorageError> {
    serde_json::to_string(value).map_err(|error| StorageError::Database(sqlx::Error::Encode(error.into())))
}

/// A row and the table to name when it can't be read.
pub(super) struct Reader<'r> {
    row: &'r MySqlRow,
    table: &'static str,
}

impl<'r> Reader<'r> {
    pub(super) const fn new(row: &'r MySqlRow, table: &'static str) -> Self {
        Self { row, table }
    }

    pub(super) fn get<T: Decode<'r, MySql> + Type<MySql>>(
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

    fn corrupt(&self, reason: &dyn std::fmt::Display) -> StorageError {
        corrupt(self.table, reason)
    }
}

pub(super) fn corrupt(table: &'static str, reason: &dyn std::fmt::Display) -> StorageError {
    StorageError::Corrupt { table, reason: reason.to_string() }
}

/// What something else has written to the table must not hide the rows beside it (rule 5).
pub(super) fn outbox_row(row: &MySqlRow) -> Result<OutboxRow, StorageError> {
    match whole_outbox_row(row) {
        Err(StorageError::Corrupt { reason, .. }) => {
            let row = Reader::new(row, "outbox");
            let session_id = row.get("session_id").ok().flatten();
            Ok(OutboxRow::unreadable(row.get("seq")?, row.id()?, session_id, reason))
        }
        read => read,
    }
}

fn whole_outbox_row(row: &MySqlRow) -> Result<OutboxRow, StorageError> {
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
pub(super) fn inbox_row(row: &MySqlRow) -> Result<InboxRow, StorageError> {
    match whole_inbox_row(row) {
        Err(StorageError::Corrupt { reason, .. }) => {
            let row = Reader::new(row, "inbox");
            let session_id = row.get("session_id").ok().flatten();
            Ok(InboxRow::unreadable(row.get("seq")?, row.id()?, session_id, reason))
        }
        read => read,
    }
}

fn whole_inbox_row(row: &MySqlRow) -> Result<InboxRow, StorageError> {
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
    fn a_literal_is_hexadecimal() {
        assert_eq!(literal(""), "_utf8mb4 x''");
        assert_eq!(literal("a'\\ä"), "_utf8mb4 x'61275cc3a4'");
    }

    #[test]
    fn a_reason_is_cut_between_characters() {
        assert_eq!(short("no card"), "no card");
        assert_eq!(short(&"ä".repeat(40_000)).len(), 65_536);
        assert_eq!(short(&format!("a{}", "ä".repeat(40_000))).len(), 65_535);
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
