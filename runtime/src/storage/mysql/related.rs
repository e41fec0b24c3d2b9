//! Rows of one correlation, among so many of each state.

use std::time::SystemTime;

use sqlx::{AssertSqlSafe, MySqlConnection};

use super::operator_rows;
use super::row::{Reader, literal, to_millis};
use crate::storage::row_reading;
use crate::storage::{RelatedRow, StorageError, Table};

/// Rows are taken along an index first, and then looked at. What is taken is copied, so no body is among it.
macro_rules! among {
    (outbox, $rows:literal) => {
        concat!(
            " FROM (SELECT seq, id, lane, event_type, event_version, session_id, status, attempts, created_at, ",
            "processed_at, next_attempt_at, deliver_at, left(last_error, 2000) AS last_error, correlation_id, causation_id ",
            $rows,
            " LIMIT {at_most}) AS looked_at WHERE correlation_id = {correlation}"
        )
    };
    (inbox, $rows:literal) => {
        concat!(
            " FROM (SELECT seq, id, subscription, event_type, event_version, session_id, status, attempts, received_at, ",
            "processed_at, next_attempt_at, left(last_error, 2000) AS last_error, correlation_id, causation_id ",
            $rows,
            " LIMIT {at_most}) AS looked_at WHERE correlation_id = {correlation}"
        )
    };
}

const OUTBOX: [&str; 3] = [
    among!(
        outbox,
        "FROM outbox FORCE INDEX (outbox_sent) WHERE status = 'sent' AND processed_at >= {since} \
         AND processed_at < {until} ORDER BY processed_at"
    ),
    // Delayed rows stand in the same index.
    among!(
        outbox,
        "FROM outbox FORCE INDEX (outbox_pending) WHERE status = 'pending' ORDER BY lane, deliver_at, seq"
    ),
    among!(outbox, "FROM outbox FORCE INDEX (outbox_dead) WHERE status = 'dead' ORDER BY seq DESC"),
];

/// One part of the index for rows with a body and one for those without: an order runs through one part only.
const INBOX: [&str; 4] = [
    among!(
        inbox,
        "FROM inbox FORCE INDEX (inbox_settled) WHERE status = 'processed' AND has_body = 1 \
         AND processed_at >= {since} AND processed_at < {until} ORDER BY processed_at"
    ),
    among!(
        inbox,
        "FROM inbox FORCE INDEX (inbox_settled) WHERE status = 'processed' AND has_body = 0 \
         AND processed_at >= {since} AND processed_at < {until} ORDER BY processed_at"
    ),
    among!(
        inbox,
        "FROM inbox FORCE INDEX (inbox_pending) WHERE status = 'pending' ORDER BY subscription, shard, seq"
    ),
    among!(inbox, "FROM inbox FORCE INDEX (inbox_dead) WHERE status = 'dead' ORDER BY seq DESC"),
];

/// The statements, with the values in them.
pub(super) fn sql(
    table: Table,
    correlation_id: &str,
    since: SystemTime,
    until: SystemTime,
    at_most: u32,
) -> Vec<String> {
    let (columns, parts): (_, &[&str]) = match table {
        Table::Outbox => (operator_rows::OUTBOX_SUMMARY, &OUTBOX),
        Table::Inbox => (operator_rows::INBOX_SUMMARY, &INBOX),
    };
    let columns = columns.replace("{place}", "CAST(0 AS SIGNED)");
    let filled = |part: &&str| {
        // The literal is hexadecimal: nothing in it can be taken for a place.
        format!("{columns}, causation_id{part}")
            .replace("{since}", &to_millis(since).to_string())
            .replace("{until}", &to_millis(until).to_string())
            .replace("{at_most}", &at_most.to_string())
            .replace("{correlation}", &literal(correlation_id))
    };
    parts.iter().map(filled).collect()
}

pub(super) async fn read(
    conn: &mut MySqlConnection,
    table: Table,
    correlation_id: &str,
    since: SystemTime,
    until: SystemTime,
    at_most: u32,
) -> Result<Vec<RelatedRow>, StorageError> {
    let mut related = Vec::new();
    for sql in sql(table, correlation_id, since, until, at_most) {
        for row in &sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut *conn).await? {
            let causation_id = Reader::new(row, table.name()).get("causation_id")?;
            related.push(RelatedRow {
                summary: row_reading::summary(&Reader::new(row, table.name()), table)?,
                causation_id,
            });
        }
    }
    Ok(related)
}
