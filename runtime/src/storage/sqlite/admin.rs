//! What operators ask of the tables, and what retention takes.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::row::{Reader, json_numbers, millis, to_duration};
use crate::storage::row_reading;
use crate::storage::{
    DeadRow, DeadRowFilter, InboxCounts, OutboxCounts, Retention, StateCounts, StorageError, Table,
};

/// The last error with a note as a line of its own.
macro_rules! noted {
    ($note:literal) => {
        concat!(
            "last_error = iif(",
            $note,
            " IS NULL, last_error, iif(coalesce(last_error, '') = '', ",
            $note,
            ", last_error || char(10) || ",
            $note,
            "))"
        )
    };
}

/// Only indexes of open rows are counted, each one whole; the oldest row is then looked up by its seq. A delayed row waits
/// since it became due.
pub(super) const COUNT_OUTBOX: &str = concat!(
    "SELECT owner, pending, 0 AS dead, ",
    now!(),
    " - (SELECT created_at FROM outbox AS oldest WHERE oldest.seq = first) AS waited ",
    "FROM (SELECT lane AS owner, count(*) AS pending, min(seq) AS first FROM outbox INDEXED BY outbox_pending ",
    "WHERE status = 'pending' AND deliver_at IS NULL GROUP BY lane) ",
    "UNION ALL SELECT lane, count(*), 0, iif(min(deliver_at) <= ",
    now!(),
    ", ",
    now!(),
    " - min(deliver_at), NULL) ",
    "FROM outbox INDEXED BY outbox_due WHERE status = 'pending' AND deliver_at IS NOT NULL GROUP BY lane ",
    "UNION ALL SELECT lane, 0, count(*), NULL FROM outbox INDEXED BY outbox_dead WHERE status = 'dead' GROUP BY lane"
);

pub(super) const COUNT_INBOX: &str = concat!(
    "SELECT owner, pending, 0 AS dead, ",
    now!(),
    " - (SELECT received_at FROM inbox AS oldest WHERE oldest.seq = first) AS waited ",
    "FROM (SELECT subscription AS owner, count(*) AS pending, min(seq) AS first FROM inbox INDEXED BY inbox_pending ",
    "WHERE status = 'pending' GROUP BY subscription) ",
    "UNION ALL SELECT subscription, 0, count(*), NULL FROM inbox INDEXED BY inbox_dead WHERE status = 'dead' ",
    "GROUP BY subscription"
);

const COUNT_OWED: &str =
    "SELECT subscription, count(*) AS owed FROM distributed_events_owed GROUP BY subscription";

pub(super) const DEAD_OUTBOX: &str = "SELECT seq, id, lane AS owner, event_type, session_id, attempts, \
    last_error AS error, CAST(event_data AS BLOB) AS data, \
    created_at AS written_at FROM outbox INDEXED BY outbox_dead WHERE status = 'dead' AND seq > ?1 \
    AND (?2 IS NULL OR lane = ?2) AND (?3 IS NULL OR event_type = ?3) ORDER BY seq LIMIT ?4";

pub(super) const DEAD_INBOX: &str = "SELECT seq, id, subscription AS owner, event_type, session_id, attempts, \
    last_error AS error, coalesce(CAST(event_data AS BLOB), raw) AS data, received_at AS written_at FROM inbox INDEXED BY inbox_dead \
    WHERE status = 'dead' AND seq > ?1 AND (?2 IS NULL OR subscription = ?2) AND (?3 IS NULL OR event_type = ?3) \
    ORDER BY seq LIMIT ?4";

/// With a delay it is a delayed row from then on, outside the pending scan, and blocks nobody.
pub(super) const REQUEUE_OUTBOX: &str = concat!(
    "UPDATE outbox NOT INDEXED SET status = 'pending', attempts = 0, next_attempt_at = NULL, processed_at = NULL, ",
    noted!("?3"),
    ", deliver_at = iif(?2 > 0, ",
    now!(),
    " + ?2, NULL) WHERE status = 'dead' AND seq IN (SELECT value FROM json_each(?1))"
);

/// Back in their places: a session is sent again in its order. Those that were delayed have waited already.
pub(super) const RESEND: &str = concat!(
    "UPDATE outbox INDEXED BY outbox_sent SET status = 'pending', attempts = 0, next_attempt_at = NULL, ",
    "processed_at = NULL, deliver_at = NULL WHERE status = 'sent' AND processed_at >= ",
    now!(),
    " - ?1 AND (?2 IS NULL OR event_type = ?2)"
);

pub(super) const REQUEUE_INBOX: &str = concat!(
    "UPDATE inbox NOT INDEXED SET status = 'pending', attempts = 0, processed_at = NULL, ",
    noted!("?3"),
    ", next_attempt_at = iif(?2 > 0, ",
    now!(),
    " + ?2, NULL) WHERE status = 'dead' AND seq IN (SELECT value FROM json_each(?1))"
);

pub(super) const DISCARD_OUTBOX: &str =
    "DELETE FROM outbox NOT INDEXED WHERE status = 'dead' AND seq IN (SELECT value FROM json_each(?1))";

pub(super) const DISCARD_INBOX: &str = concat!(
    "UPDATE inbox NOT INDEXED SET status = 'discarded', ",
    noted!("?2"),
    ", processed_at = ",
    now!(),
    " WHERE status = 'dead' AND seq IN (SELECT value FROM json_each(?1))"
);

pub(super) const PURGE_OUTBOX: &str = concat!(
    "DELETE FROM outbox WHERE seq IN (SELECT seq FROM outbox INDEXED BY outbox_sent ",
    "WHERE status = 'sent' AND processed_at <= ",
    now!(),
    " - ?1 ORDER BY processed_at LIMIT ?2)"
);

pub(super) const PURGE_BODIES: &str = concat!(
    "UPDATE inbox SET event_data = NULL, raw = NULL WHERE seq IN (SELECT seq FROM inbox INDEXED BY inbox_bodies ",
    "WHERE status IN ('processed', 'discarded') AND (event_data IS NOT NULL OR raw IS NOT NULL) ",
    "AND processed_at <= ",
    now!(),
    " - ?1 ORDER BY processed_at LIMIT ?2)"
);

pub(super) const PURGE_INBOX: &str = concat!(
    "DELETE FROM inbox WHERE seq IN (SELECT seq FROM inbox INDEXED BY inbox_processed ",
    "WHERE status = 'processed' AND processed_at <= ",
    now!(),
    " - ?1 ORDER BY processed_at LIMIT ?2)"
);

pub(super) async fn count_outbox(conn: &mut SqliteConnection) -> Result<OutboxCounts, StorageError> {
    let rows = super::query(COUNT_OUTBOX).fetch_all(&mut *conn).await?;
    let lanes = counts(&rows, "outbox")?;
    let mut owed = BTreeMap::new();
    for row in &super::query(COUNT_OWED).fetch_all(conn).await? {
        let row = Reader::new(row, "distributed_events_owed");
        owed.insert(row.get("subscription")?, unsigned(row.get("owed")?));
    }
    Ok(OutboxCounts { lanes, owed })
}

pub(super) async fn count_inbox(conn: &mut SqliteConnection) -> Result<InboxCounts, StorageError> {
    let rows = super::query(COUNT_INBOX).fetch_all(conn).await?;
    Ok(InboxCounts { subscriptions: counts(&rows, "inbox")? })
}

fn counts(rows: &[SqliteRow], table: &'static str) -> Result<BTreeMap<String, StateCounts>, StorageError> {
    let mut counts: BTreeMap<String, StateCounts> = BTreeMap::new();
    for row in rows {
        let row = Reader::new(row, table);
        let owner = row.get("owner").unwrap_or_else(|_| "(can't be read)".to_owned());
        let entry = counts.entry(owner).or_default();
        entry.pending += unsigned(row.get("pending")?);
        entry.dead += unsigned(row.get("dead")?);
        entry.oldest_pending = entry.oldest_pending.max(row.get::<Option<i64>>("waited")?.map(to_duration));
    }
    Ok(counts)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

pub(super) async fn dead_rows(
    conn: &mut SqliteConnection,
    table: Table,
    filter: &DeadRowFilter,
) -> Result<Vec<DeadRow>, StorageError> {
    let (sql, name) = match table {
        Table::Outbox => (DEAD_OUTBOX, "outbox"),
        Table::Inbox => (DEAD_INBOX, "inbox"),
    };
    let rows = super::query(sql)
        .bind(filter.after)
        .bind(filter.owner.as_deref())
        .bind(filter.event.as_deref())
        .bind(i64::from(filter.limit))
        .fetch_all(conn)
        .await?;
    rows.iter().map(|row| row_reading::dead_row(&Reader::new(row, name), table)).collect()
}

pub(super) async fn requeue(
    conn: &mut SqliteConnection,
    table: Table,
    seqs: &[i64],
    delay: Duration,
    note: Option<&str>,
) -> Result<u64, StorageError> {
    let sql = match table {
        Table::Outbox => REQUEUE_OUTBOX,
        Table::Inbox => REQUEUE_INBOX,
    };
    Ok(super::query(sql)
        .bind(json_numbers(seqs))
        .bind(millis(delay))
        .bind(note)
        .execute(conn)
        .await?
        .rows_affected())
}

pub(super) async fn resend(
    conn: &mut SqliteConnection,
    within: Duration,
    event: Option<&str>,
) -> Result<u64, StorageError> {
    Ok(super::query(RESEND).bind(millis(within)).bind(event).execute(conn).await?.rows_affected())
}

pub(super) async fn discard(
    conn: &mut SqliteConnection,
    table: Table,
    seqs: &[i64],
    note: Option<&str>,
) -> Result<u64, StorageError> {
    let query = match table {
        // Nothing is left to note it on.
        Table::Outbox => super::query(DISCARD_OUTBOX).bind(json_numbers(seqs)),
        Table::Inbox => super::query(DISCARD_INBOX).bind(json_numbers(seqs)).bind(note),
    };
    Ok(query.execute(conn).await?.rows_affected())
}

pub(super) async fn purge(conn: &mut SqliteConnection, retention: &Retention) -> Result<u64, StorageError> {
    let (sql, older_than, limit) = match *retention {
        Retention::Outbox { older_than, limit } => (PURGE_OUTBOX, older_than, limit),
        Retention::InboxBodies { older_than, limit } => (PURGE_BODIES, older_than, limit),
        Retention::InboxRows { older_than, limit } => (PURGE_INBOX, older_than, limit),
    };
    Ok(super::query(sql).bind(millis(older_than)).bind(i64::from(limit)).execute(conn).await?.rows_affected())
}
