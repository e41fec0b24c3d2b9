//! The columns of rows as operators see them, and their way into values.

use sqlx::postgres::PgRow;

use super::row::Reader;
use crate::storage::{RowCursor, RowDetail, RowSummary, StorageError, Table};

/// The columns that [`summary`] reads of an outbox row; `rank` is what its list is ordered by between the lane and `seq`.
macro_rules! outbox_summary {
    ($rank:expr) => {
        concat!(
            "SELECT seq, id, lane AS owner, event_type, event_version, session_id, status, attempts, ",
            millis!("created_at"),
            " AS written_at, ",
            millis!("processed_at"),
            " AS processed_at, ",
            millis!("coalesce(next_attempt_at, deliver_at)"),
            " AS due_at, left(last_error, 2000) AS error, (",
            $rank,
            ")::bigint AS rank"
        )
    };
}

/// The same of an inbox row.
macro_rules! inbox_summary {
    ($rank:expr) => {
        concat!(
            "SELECT seq, id, subscription AS owner, event_type, event_version, session_id, status, attempts, ",
            millis!("received_at"),
            " AS written_at, ",
            millis!("processed_at"),
            " AS processed_at, ",
            millis!("next_attempt_at"),
            " AS due_at, left(last_error, 2000) AS error, (",
            $rank,
            ")::bigint AS rank"
        )
    };
}

/// The columns that [`detail`] reads of an outbox row.
macro_rules! outbox_detail {
    () => {
        concat!(
            "SELECT seq, id, lane AS owner, event_type, event_version, session_id, status, attempts, ",
            millis!("created_at"),
            " AS written_at, ",
            millis!("processed_at"),
            " AS processed_at, ",
            millis!("coalesce(next_attempt_at, deliver_at)"),
            " AS due_at, last_error AS error, 0::bigint AS rank, NULL::text AS message_id, topic, correlation_id, ",
            "causation_id, headers, NULL::bigint AS published_at, ",
            millis!("expires_at"),
            " AS expires_at, convert_to(event_data, 'UTF8') AS data"
        )
    };
}

/// The same of an inbox row.
macro_rules! inbox_detail {
    () => {
        concat!(
            "SELECT seq, id, subscription AS owner, event_type, event_version, session_id, status, attempts, ",
            millis!("received_at"),
            " AS written_at, ",
            millis!("processed_at"),
            " AS processed_at, ",
            millis!("next_attempt_at"),
            " AS due_at, last_error AS error, 0::bigint AS rank, message_id, topic, correlation_id, causation_id, ",
            "headers, ",
            millis!("created_at"),
            " AS published_at, ",
            millis!("expires_at"),
            " AS expires_at, coalesce(convert_to(event_data, 'UTF8'), raw) AS data"
        )
    };
}

pub(super) use {inbox_detail, inbox_summary, outbox_detail, outbox_summary};

pub(super) fn summary(row: &PgRow, table: Table) -> Result<RowSummary, StorageError> {
    let row = Reader::new(row, table.name());
    let (owner, seq): (String, i64) = (row.get("owner")?, row.get("seq")?);
    Ok(RowSummary {
        cursor: RowCursor { owner: owner.clone(), rank: row.get("rank")?, seq },
        seq,
        id: row.id()?,
        owner,
        event: row.get("event_type")?,
        version: row.number("event_version")?,
        session_id: row.get("session_id")?,
        state: row.get("status")?,
        attempts: row.number("attempts")?,
        written_at: row.time("written_at")?,
        settled_at: row.time_if_any("processed_at")?,
        due_at: row.time_if_any("due_at")?,
        error: row.get("error")?,
    })
}

pub(super) fn detail(row: &PgRow, table: Table) -> Result<RowDetail, StorageError> {
    let summary = summary(row, table)?;
    let row = Reader::new(row, table.name());
    Ok(RowDetail {
        summary,
        message_id: row.get("message_id")?,
        topic: row.get("topic")?,
        correlation_id: row.get("correlation_id")?,
        causation_id: row.get("causation_id")?,
        headers: row.get("headers")?,
        published_at: row.time_if_any("published_at")?,
        expires_at: row.time_if_any("expires_at")?,
        data: row.get("data")?,
    })
}
