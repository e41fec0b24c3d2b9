//! The columns of rows as operators see them, and their way into values.

use std::time::SystemTime;

use super::row::Reader;
use crate::envelope::EventId;
use crate::storage::StorageError;
use crate::storage::row_reading::Columns;

/// The columns that a list shows of an outbox row; `{place}` is what its list is ordered by between the lane and `seq`.
pub(super) const OUTBOX_SUMMARY: &str = "SELECT seq, id, lane AS owner, event_type, event_version, session_id, status, \
    attempts, created_at AS written_at, processed_at, coalesce(next_attempt_at, deliver_at) AS due_at, \
    left(last_error, 2000) AS error, {place} AS place";

/// The same of an inbox row.
pub(super) const INBOX_SUMMARY: &str = "SELECT seq, id, subscription AS owner, event_type, event_version, session_id, \
    status, attempts, received_at AS written_at, processed_at, next_attempt_at AS due_at, \
    left(last_error, 2000) AS error, {place} AS place";

/// An outbox row in full.
pub(super) const OUTBOX_ROW: &str = "SELECT seq, id, lane AS owner, event_type, event_version, session_id, status, \
    attempts, created_at AS written_at, processed_at, coalesce(next_attempt_at, deliver_at) AS due_at, \
    last_error AS error, CAST(0 AS SIGNED) AS place, CAST(NULL AS CHAR) AS message_id, topic, correlation_id, \
    causation_id, headers, CAST(NULL AS SIGNED) AS published_at, expires_at, CAST(event_data AS BINARY) AS data \
    FROM outbox WHERE id = ?";

/// The same of the inbox.
pub(super) const INBOX_ROW: &str = "SELECT seq, id, subscription AS owner, event_type, event_version, session_id, \
    status, attempts, received_at AS written_at, processed_at, next_attempt_at AS due_at, last_error AS error, \
    CAST(0 AS SIGNED) AS place, message_id, topic, correlation_id, causation_id, headers, created_at AS published_at, \
    expires_at, coalesce(CAST(event_data AS BINARY), raw) AS data FROM inbox WHERE id = ? AND subscription = ?";

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
        Self::id(self)
    }
}
