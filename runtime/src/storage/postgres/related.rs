//! Rows of one correlation, among so many of each state.

use std::time::SystemTime;

use sqlx::PgConnection;

use super::operator_rows;
use super::pool::fetch_all;
use super::row::{Reader, to_millis};
use crate::storage::row_reading;
use crate::storage::{RelatedRow, StorageError, Table};

/// Rows are taken along an index first, and then looked at. Every statement has all arguments.
macro_rules! among {
    ($columns:expr, $($rows:expr),+) => {
        concat!(
            $columns,
            ", causation_id FROM (SELECT * FROM ",
            $($rows,)+
            " LIMIT $4) AS looked_at WHERE correlation_id = $1 AND $2::bigint IS NOT NULL AND $3::bigint IS NOT NULL"
        )
    };
}

/// The span of time in which settled rows are looked at.
macro_rules! settled {
    () => {
        concat!(
            "processed_at >= 'epoch'::timestamptz + ",
            interval!("$2::bigint"),
            " AND processed_at < 'epoch'::timestamptz + ",
            interval!("$3::bigint"),
            " ORDER BY processed_at"
        )
    };
}

pub(super) const OUTBOX: [&str; 4] = [
    among!(operator_rows::outbox_summary!("0"), "outbox WHERE status = 'sent' AND ", settled!()),
    among!(
        operator_rows::outbox_summary!("0"),
        "outbox WHERE status = 'pending' AND deliver_at IS NULL ORDER BY lane, seq"
    ),
    among!(
        operator_rows::outbox_summary!("0"),
        "outbox WHERE status = 'pending' AND deliver_at IS NOT NULL ORDER BY lane, deliver_at, seq"
    ),
    among!(operator_rows::outbox_summary!("0"), "outbox WHERE status = 'dead' ORDER BY seq DESC"),
];

pub(super) const INBOX: [&str; 3] = [
    among!(operator_rows::inbox_summary!("0"), "inbox WHERE status = 'processed' AND ", settled!()),
    among!(
        operator_rows::inbox_summary!("0"),
        "inbox WHERE status = 'pending' ORDER BY subscription, shard, seq"
    ),
    among!(operator_rows::inbox_summary!("0"), "inbox WHERE status = 'dead' ORDER BY seq DESC"),
];

pub(super) async fn read(
    conn: &mut PgConnection,
    table: Table,
    correlation_id: &str,
    since: SystemTime,
    until: SystemTime,
    at_most: u32,
) -> Result<Vec<RelatedRow>, StorageError> {
    let statements: &[&'static str] = match table {
        Table::Outbox => &OUTBOX,
        Table::Inbox => &INBOX,
    };
    let mut related = Vec::new();
    for &sql in statements {
        // Planned anew each time, as all that operators ask.
        let query = sqlx::query(sql)
            .persistent(false)
            .bind(correlation_id)
            .bind(to_millis(since))
            .bind(to_millis(until))
            .bind(i64::from(at_most));
        for row in &fetch_all(conn, query).await? {
            let causation_id = Reader::new(row, table.name()).get("causation_id")?;
            related.push(RelatedRow {
                summary: row_reading::summary(&Reader::new(row, table.name()), table)?,
                causation_id,
            });
        }
    }
    Ok(related)
}
