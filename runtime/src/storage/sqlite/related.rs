//! Rows of one correlation, among so many of each state.

use std::time::SystemTime;

use sqlx::SqliteConnection;

use super::operator_rows;
use super::row::{Reader, to_millis};
use crate::storage::row_reading;
use crate::storage::{RelatedRow, StorageError, Table};

/// Rows are taken along an index first, and then looked at.
macro_rules! among {
    ($columns:expr, $rows:expr) => {
        concat!(
            $columns,
            ", causation_id FROM (SELECT * FROM ",
            $rows,
            " LIMIT ?4) WHERE correlation_id = ?1 AND ?2 IS NOT NULL AND ?3 IS NOT NULL"
        )
    };
}

pub(super) const OUTBOX: [&str; 4] = [
    among!(
        operator_rows::outbox_summary!("0"),
        "outbox INDEXED BY outbox_sent WHERE status = 'sent' AND processed_at >= ?2 AND processed_at < ?3 \
         ORDER BY processed_at"
    ),
    among!(
        operator_rows::outbox_summary!("0"),
        "outbox INDEXED BY outbox_pending WHERE status = 'pending' AND deliver_at IS NULL ORDER BY lane, seq"
    ),
    among!(
        operator_rows::outbox_summary!("0"),
        "outbox INDEXED BY outbox_due WHERE status = 'pending' AND deliver_at IS NOT NULL \
         ORDER BY lane, deliver_at, seq"
    ),
    among!(
        operator_rows::outbox_summary!("0"),
        "outbox INDEXED BY outbox_dead WHERE status = 'dead' ORDER BY seq DESC"
    ),
];

pub(super) const INBOX: [&str; 3] = [
    among!(
        operator_rows::inbox_summary!("0"),
        "inbox INDEXED BY inbox_processed WHERE status = 'processed' AND processed_at >= ?2 AND processed_at < ?3 \
         ORDER BY processed_at"
    ),
    among!(
        operator_rows::inbox_summary!("0"),
        "inbox INDEXED BY inbox_pending WHERE status = 'pending' ORDER BY subscription, shard, seq"
    ),
    among!(
        operator_rows::inbox_summary!("0"),
        "inbox INDEXED BY inbox_dead WHERE status = 'dead' ORDER BY seq DESC"
    ),
];

pub(super) async fn read(
    conn: &mut SqliteConnection,
    table: Table,
    correlation_id: &str,
    since: SystemTime,
    until: SystemTime,
    at_most: u32,
) -> Result<Vec<RelatedRow>, StorageError> {
    let statements: &[&str] = match table {
        Table::Outbox => &OUTBOX,
        Table::Inbox => &INBOX,
    };
    let mut related = Vec::new();
    for &sql in statements {
        let query = super::query(sql)
            .bind(correlation_id)
            .bind(to_millis(since))
            .bind(to_millis(until))
            .bind(i64::from(at_most));
        for row in &query.fetch_all(&mut *conn).await? {
            let causation_id = Reader::new(row, table.name()).get("causation_id")?;
            related.push(RelatedRow {
                summary: row_reading::summary(&Reader::new(row, table.name()), table)?,
                causation_id,
            });
        }
    }
    Ok(related)
}
