//! From rows to values and back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::error::BoxDynError;
use sqlx::postgres::{PgRow, PgValueFormat, PgValueRef};
use sqlx::{Decode, Postgres, Row, Type};

use crate::envelope::{Envelope, EventId, Headers};
use crate::storage::{Body, Fence, InboxRow, IncomingEvent, OutboxRow, StorageError};

/// The columns that [`outbox_row`] reads, in this order. Times as they are: as numbers the server would take longer for them
/// than for everything else of a row.
macro_rules! outbox_columns {
    () => {
        concat!(
            "seq, id, event_type, event_version, event_data, topic, lane, session_id, correlation_id, causation_id, ",
            "headers, created_at, deliver_at, expires_at, expires_at IS NOT NULL AND expires_at <= ",
            now!(),
            " AS expired"
        )
    };
}

/// The columns that [`inbox_row`] reads, in this order. `greatest` passes over NULL.
macro_rules! inbox_columns {
    () => {
        concat!(
            "seq, id, message_id, event_type, event_version, event_data, raw, topic, session_id, correlation_id, ",
            "causation_id, headers, created_at, expires_at, received_at, attempts, greatest(",
            millis!("next_attempt_at - ", now!()),
            ", 0) AS due_in, ",
            now!(),
            " AS now"
        )
    };
}

pub(super) use {inbox_columns, outbox_columns};

/// A column of a time, which sqlx reads by itself only where it has a library of times.
struct Time(SystemTime);

impl<'r> Decode<'r, Postgres> for Time {
    /// Microseconds since 2000, as PostgreSQL has them (`timestamptz`, binary format).
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        if value.format() != PgValueFormat::Binary {
            return Err("a time that came as text".into());
        }
        let since_2000 = i64::from_be_bytes(value.as_bytes()?.try_into()?);
        Ok(Self(from_millis(since_2000.div_euclid(1_000).saturating_add(YEAR_2000))))
    }
}

/// In milliseconds since 1970.
const YEAR_2000: i64 = 946_684_800_000;

/// Far enough for every delay and lease, and still before the year 294276, where PostgreSQL's time ends.
const LONGEST: i64 = 1 << 52;

/// Before every event, and still after the year -4713, where PostgreSQL's time begins.
const EARLIEST: i64 = -(1 << 47);

/// Milliseconds, rounded up, so that a wait is never shorter than asked for.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(LONGEST).min(LONGEST)
}

/// An instant as the statements take it.
pub(super) fn to_millis(time: SystemTime) -> i64 {
    let clamped = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(LONGEST).min(LONGEST);
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => clamped(since),
        Err(before) => (-clamped(before.duration())).max(EARLIEST),
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

/// Texts or structures as one JSON argument.
pub(super) fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<String, StorageError> {
    serde_json::to_string(value).map_err(|error| StorageError::Database(sqlx::Error::Encode(error.into())))
}

/// A row and the table to name when it can't be read.
pub(super) struct Reader<'r> {
    row: &'r PgRow,
    table: &'static str,
}

impl<'r> Reader<'r> {
    pub(super) const fn new(row: &'r PgRow, table: &'static str) -> Self {
        Self { row, table }
    }

    pub(super) fn get<T: Decode<'r, Postgres> + Type<Postgres>>(
        &self,
        column: &'static str,
    ) -> Result<T, StorageError> {
        self.row.try_get(column).map_err(|error| self.corrupt(&error))
    }

    pub(super) fn json<T: serde::de::DeserializeOwned>(
        &self,
        column: &'static str,
    ) -> Result<T, StorageError> {
        serde_json::from_str(self.get(column)?).map_err(|error| self.corrupt(&error))
    }

    pub(super) fn unsigned(&self, column: &'static str) -> Result<u64, StorageError> {
        u64::try_from(self.get::<i64>(column)?).map_err(|error| self.corrupt(&error))
    }

    pub(super) fn shard(&self, column: &'static str) -> Result<u8, StorageError> {
        u8::try_from(self.get::<i64>(column)?).map_err(|error| self.corrupt(&error))
    }

    pub(super) fn id(&self) -> Result<EventId, StorageError> {
        self.get("id").map(EventId::from_uuid)
    }

    pub(super) fn time_if_any(&self, column: &'static str) -> Result<Option<SystemTime>, StorageError> {
        Ok(self.get::<Option<i64>>(column)?.map(from_millis))
    }

    /// A time as the table has it; one that is infinite is as late, or as early, as times can be told.
    pub(super) fn instant_if_any(&self, column: &'static str) -> Result<Option<SystemTime>, StorageError> {
        let time = self.row.try_get_unchecked::<Option<Time>, _>(column);
        Ok(time.map_err(|error| self.corrupt(&error))?.map(|time| time.0))
    }

    fn corrupt(&self, reason: &dyn std::fmt::Display) -> StorageError {
        StorageError::Corrupt { table: self.table, reason: reason.to_string() }
    }
}

/// The columns of a row one after the other, for the rows that are read in thousands: neither their names are looked up nor
/// the types compared that the table gives them.
struct Columns<'r> {
    reader: Reader<'r>,
    next: usize,
}

impl<'r> Columns<'r> {
    const fn new(row: &'r PgRow, table: &'static str) -> Self {
        Self { reader: Reader::new(row, table), next: 0 }
    }

    fn next<T: Decode<'r, Postgres>>(&mut self) -> Result<T, StorageError> {
        let column = self.next;
        self.next += 1;
        self.reader.row.try_get_unchecked(column).map_err(|error| self.reader.corrupt(&error))
    }

    fn number(&mut self) -> Result<u32, StorageError> {
        u32::try_from(self.next::<i64>()?).map_err(|error| self.reader.corrupt(&error))
    }

    fn time(&mut self) -> Result<SystemTime, StorageError> {
        self.next::<Time>().map(|time| time.0)
    }

    fn time_if_any(&mut self) -> Result<Option<SystemTime>, StorageError> {
        Ok(self.next::<Option<Time>>()?.map(|time| time.0))
    }

    fn headers(&mut self) -> Result<Headers, StorageError> {
        match self.next::<&str>()? {
            "{}" => Ok(Headers::new()),
            text => serde_json::from_str(text).map_err(|error| self.reader.corrupt(&error)),
        }
    }
}

/// What something else has written to the table must not hide the rows beside it (rule 5).
pub(super) fn outbox_row(row: &PgRow) -> Result<OutboxRow, StorageError> {
    match whole_outbox_row(row) {
        Err(StorageError::Corrupt { reason, .. }) => {
            let row = Reader::new(row, "outbox");
            let session_id = row.get("session_id").ok().flatten();
            Ok(OutboxRow::unreadable(row.get("seq")?, row.id()?, session_id, reason))
        }
        read => read,
    }
}

fn whole_outbox_row(row: &PgRow) -> Result<OutboxRow, StorageError> {
    let mut columns = Columns::new(row, "outbox");
    let (seq, id) = (columns.next()?, EventId::from_uuid(columns.next()?));
    let envelope = Envelope {
        id,
        name: columns.next()?,
        version: columns.number()?,
        data: columns.next()?,
        topic: columns.next()?,
        lane: columns.next()?,
        session_id: columns.next()?,
        correlation_id: columns.next()?,
        causation_id: columns.next()?,
        headers: columns.headers()?,
        created_at: columns.time()?,
        deliver_at: columns.time_if_any()?,
        expires_at: columns.time_if_any()?,
    };
    Ok(OutboxRow::new(seq, envelope, columns.next()?))
}

/// The same for the inbox.
pub(super) fn inbox_row(row: &PgRow) -> Result<InboxRow, StorageError> {
    match whole_inbox_row(row) {
        Err(StorageError::Corrupt { reason, .. }) => {
            let row = Reader::new(row, "inbox");
            let session_id = row.get("session_id").ok().flatten();
            Ok(InboxRow::unreadable(row.get("seq")?, row.id()?, session_id, reason))
        }
        read => read,
    }
}

fn whole_inbox_row(row: &PgRow) -> Result<InboxRow, StorageError> {
    let mut columns = Columns::new(row, "inbox");
    let (seq, id, message_id) = (columns.next()?, EventId::from_uuid(columns.next()?), columns.next()?);
    let (name, version) = (columns.next::<String>()?, columns.number()?);
    // A dead row whose body the database refused has none when it is requeued.
    let body = match (columns.next::<Option<String>>()?, columns.next::<Option<Vec<u8>>>()?) {
        (Some(text), _) => Body::Text(text),
        (None, raw) => Body::Raw(raw.unwrap_or_default()),
    };
    let event = IncomingEvent {
        message_id,
        version,
        topic: columns.next()?,
        session_id: columns.next()?,
        correlation_id: columns.next()?,
        causation_id: columns.next()?,
        headers: columns.headers()?,
        created_at: columns.time_if_any()?,
        expires_at: columns.time_if_any()?,
        ..IncomingEvent::new(id, name, body)
    };
    let received_at = columns.time()?;
    let (attempts, due_in, now) = (columns.number()?, to_duration(columns.next()?), columns.time()?);
    Ok(InboxRow {
        attempts,
        due_in,
        expired: event.expires_at.is_some_and(|time| time <= now),
        age: event.created_at.map(|time| now.duration_since(time).unwrap_or_default()),
        ..InboxRow::new(seq, event, received_at)
    })
}

pub(super) fn fence(row: &PgRow) -> Result<Fence, StorageError> {
    let row = Reader::new(row, "distributed_events_leases");
    Ok(Fence::new(row.get("name")?, row.get("owner")?, row.get("epoch")?))
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
