//! The columns of rows as operators see them, and their way into values.

use std::time::SystemTime;

use super::row::Reader;
use crate::envelope::EventId;
use crate::storage::StorageError;
use crate::storage::row_reading::Columns;

/// The columns that a list shows of an outbox row; `place` is what its list is ordered by between the lane and `seq`.
macro_rules! outbox_summary {
    ($place:literal) => {
        concat!(
            "SELECT seq, id, lane AS owner, event_type, event_version, session_id, status, attempts, ",
            "created_at AS written_at, processed_at, coalesce(next_attempt_at, deliver_at) AS due_at, ",
            "substr(last_error, 1, 2000) AS error, ",
            $place,
            " AS place"
        )
    };
}

/// The same of an inbox row.
macro_rules! inbox_summary {
    ($place:literal) => {
        concat!(
            "SELECT seq, id, subscription AS owner, event_type, event_version, session_id, status, attempts, ",
            "received_at AS written_at, processed_at, next_attempt_at AS due_at, ",
            "substr(last_error, 1, 2000) AS error, ",
            $place,
            " AS place"
        )
    };
}

/// The columns that are known of an outbox row.
macro_rules! outbox_detail {
    () => {
        "SELECT seq, id, lane AS owner, event_type, event_version, session_id, status, attempts, \
         created_at AS written_at, processed_at, coalesce(next_attempt_at, deliver_at) AS due_at, last_error AS error, \
         0 AS place, NULL AS message_id, topic, correlation_id, causation_id, headers, NULL AS published_at, expires_at, \
         CAST(event_data AS BLOB) AS data"
    };
}

/// The same of an inbox row.
macro_rules! inbox_detail {
    () => {
        "SELECT seq, id, subscription AS owner, event_type, event_version, session_id, status, attempts, \
         received_at AS written_at, processed_at, next_attempt_at AS due_at, last_error AS error, \
         0 AS place, message_id, topic, correlation_id, causation_id, headers, created_at AS published_at, expires_at, \
         coalesce(CAST(event_data AS BLOB), raw) AS data"
    };
}

pub(super) use {inbox_detail, inbox_summary, outbox_detail, outbox_summary};

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
        self.time_if_any(column)
    }

    fn id(&self) -> Result<EventId, StorageError> {
        // Any type of value can stand in any column there.
        Self::id(self).map_err(|error| match self.get::<Vec<u8>>("id") {
            Ok(bytes) => {
                let text = std::str::from_utf8(&bytes).ok().filter(|text| !text.contains(char::is_control));
                let hex: String = bytes.iter().take(64).map(|byte| format!("{byte:02x}")).collect();
                let shown = text.map_or_else(|| format!("x'{hex}'"), |text| format!("{text:?}"));
                self.corrupt(&format_args!("{shown} is no UUID of 16 bytes"))
            }
            Err(_) => error,
        })
    }
}
