//! The columns of rows as operators see them, and their way into values.

use std::time::SystemTime;

use super::row::Reader;
use crate::envelope::EventId;
use crate::storage::StorageError;
use crate::storage::row_reading::Columns;

/// The milliseconds of what a list is ordered by; something else may have written a time that has none.
macro_rules! place {
    ($time:literal) => {
        concat!("CASE WHEN isfinite(", $time, ") THEN ", millis!($time), " ELSE 9223372036854775807 END")
    };
}

/// The columns that a list shows of an outbox row; `place` is what its list is ordered by between the lane and `seq`.
macro_rules! outbox_summary {
    ($place:expr) => {
        concat!(
            "SELECT seq, id, lane AS owner, event_type, event_version, session_id, status, attempts, ",
            "created_at AS written_at, processed_at, coalesce(next_attempt_at, deliver_at) AS due_at, ",
            "left(last_error, 2000) AS error, (",
            $place,
            ")::bigint AS place"
        )
    };
}

/// The same of an inbox row.
macro_rules! inbox_summary {
    ($place:expr) => {
        concat!(
            "SELECT seq, id, subscription AS owner, event_type, event_version, session_id, status, attempts, ",
            "received_at AS written_at, processed_at, next_attempt_at AS due_at, left(last_error, 2000) AS error, (",
            $place,
            ")::bigint AS place"
        )
    };
}

/// The columns that are known of an outbox row.
macro_rules! outbox_detail {
    () => {
        "SELECT seq, id, lane AS owner, event_type, event_version, session_id, status, attempts, \
         created_at AS written_at, processed_at, coalesce(next_attempt_at, deliver_at) AS due_at, last_error AS error, \
         0::bigint AS place, NULL::text AS message_id, topic, correlation_id, causation_id, headers, \
         NULL::timestamptz AS published_at, expires_at, convert_to(event_data, 'UTF8') AS data"
    };
}

/// The same of an inbox row.
macro_rules! inbox_detail {
    () => {
        "SELECT seq, id, subscription AS owner, event_type, event_version, session_id, status, attempts, \
         received_at AS written_at, processed_at, next_attempt_at AS due_at, last_error AS error, \
         0::bigint AS place, message_id, topic, correlation_id, causation_id, headers, created_at AS published_at, \
         expires_at, coalesce(convert_to(event_data, 'UTF8'), raw) AS data"
    };
}

pub(super) use {inbox_detail, inbox_summary, outbox_detail, outbox_summary, place};

impl Columns for Reader<'_> {
    fn number(&self, column: &'static str) -> Result<i64, StorageError> {
        self.get(column)
    }

    fn text(&self, column: &'static str) -> Result<Option<String>, StorageError> {
        self.get(column)
    }

    fn bytes(&self, column: &'static str) -> Result<Option<Vec<u8>>, StorageError> {
        self.get(column)
    }

    fn time(&self, column: &'static str) -> Result<Option<SystemTime>, StorageError> {
        self.instant_if_any(column)
    }

    fn id(&self) -> Result<EventId, StorageError> {
        Self::id(self)
    }
}
